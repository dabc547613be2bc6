"""Repositories of any size to measure in: a plan of so many cards, branches and files.

They are written by `git fast-import`, so that the largest takes seconds. A third of the tasks is
done on trunk with evidence that holds; each branch has claimed the next one and holds a commit of work.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gitwaves.cards import load_card, load_workstream, tracking_bytes
from gitwaves.git import Repo
from gitwaves.halves import join, planned
from gitwaves.model import Claim, Evidence, Oid, Run, Status, Task, Tracking, task_digest

_WHO = "Bench <bench@example.com> 1750000000 +0000"
CONFIG = """\
[user]
    name = Bench
    email = bench@example.com
[gc]
    auto = 0
[maintenance]
    auto = false
"""


def sealed(folder: Path) -> dict[str, str]:
    """An environment in which Git and gitwaves see nothing of the user's; also set in this process."""
    (folder / "gitconfig").write_text(CONFIG)
    said = {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    # PYTHONDONTWRITEBYTECODE, say, would have every process compile all it imports
    for name in [name for name in os.environ if name.startswith(("GIT_", "PYTHON"))]:
        del os.environ[name]
    os.environ.update(said)
    return dict(os.environ)


@dataclass(frozen=True)
class Size:
    """How large a repository is to be; `files` are those outside of `.workstreams/`."""

    cards: int = 10_000
    branches: int = 64
    files: int = 15_000

    def __str__(self) -> str:
        return f"{self.cards} cards, {self.branches} branches, {self.files} files"


SMALL = Size(cards=24, branches=4, files=50)


@dataclass
class Made:
    """A repository that was made, checked out on `main`."""

    path: Path
    size: Size
    _specs: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def make(cls, path: Path, size: Size) -> Made:
        """Makes it; the last step packs it, as a clone would be."""
        path.mkdir(parents=True)
        made = cls(path, size)
        made.git("init", "-q", "-b", "main")
        made._write()
        made.git("reset", "-q", "--hard", "main")
        made.git("repack", "-q", "-a", "-d")
        made.git("pack-refs", "--all")
        made.git("status")  # writes the index anew, so that no entry in it is racy
        return made

    def git(self, *args: str, stdin: bytes | None = None, cwd: Path | None = None) -> str:
        """Runs git, which must succeed."""
        done = subprocess.run(
            ["git", *args], cwd=cwd or self.path, input=stdin, capture_output=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"git {' '.join(args)}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode().strip()

    def tasks(self) -> Iterator[tuple[int, int]]:
        """Branch and place on it, of every task."""
        for n in range(self.size.cards):
            yield n % self.size.branches, n // self.size.branches

    def card(self, branch: int, place: int) -> str:
        """Where the card of a task stands."""
        return f".workstreams/WS-S{branch}/S{branch}T{place + 1}.yaml"

    def _spec(self, branch: int, place: int) -> bytes:
        task = f"S{branch}T{place + 1}"
        needs = [f"S{branch}T{place}"] if place else []
        if place:
            near = {(branch * 7 + 3) % self.size.branches, (branch * 5 + 1) % self.size.branches}
            needs += [f"S{other}T{place}" for other in sorted(near - {branch})]
        lines = "".join(f"  What {task} is to do: line {k} of its spec.\n" for k in range(8))
        return (
            f"id: {task}\ntitle: Task {place + 1} of stream {branch}\n"
            f"depends_on: [{', '.join(needs)}]\nbatch: {place // 8 + 1}\nestimate: 2h\nspec: |\n"
            f"{lines}acceptance:\n  - It holds.\n  - It goes on holding.\n"
            f"verify:\n  - run: test -f src/s{branch}/{task}.txt\n    timeout: 10m\n"
        ).encode()

    def _stream(self, branch: int) -> bytes:
        return f"title: Stream {branch}\npaths: [src/s{branch}/**]\n".encode()

    def _files(self) -> Iterator[tuple[str, bytes]]:
        yield "README.md", b"Bench\n"
        for n in range(self.size.files - 1):
            stream, rest = n % self.size.branches, n // self.size.branches
            text = "".join(f"line {k} of file {n}\n" for k in range(12))
            yield f"src/s{stream}/d{rest % 8}/f{rest}.txt", text.encode()

    def _write(self) -> None:
        code = dict(self._files())
        self._import(_commit("refs/heads/main", "Code", code, 1))
        base = Oid(self.git("rev-parse", "main"))
        repo = Repo.open(self.path)
        tree = repo.code_tree(base)
        plan = {".workstreams/config.yaml": b"version: 1\ntitle: Bench\ntrunk: main\n"}
        plan[".workstreams/.gitattributes"] = b"* -text\n"
        for branch in range(min(self.size.branches, self.size.cards)):
            plan[f".workstreams/WS-S{branch}/workstream.yaml"] = self._stream(branch)
        per_branch = -(-self.size.cards // self.size.branches)
        over = per_branch // 3
        for branch, place in self.tasks():
            spec, task = self._spec(branch, place), f"S{branch}T{place + 1}"
            half = planned(task)
            if place < over:
                half = tracking_bytes(
                    Tracking(
                        task,
                        Status.DONE,
                        self._claim(branch, place, spec, tree),
                        evidence=Evidence(
                            base,
                            tree,
                            self._digest(branch, place, spec),
                            (
                                Run(
                                    f"test -f src/s{branch}/{task}.txt",
                                    0,
                                    0.1,
                                    "sha256:" + "0" * 64,
                                ),
                            ),
                        ),
                    )
                )
            plan[self.card(branch, place)] = join(spec, half)
        stream = _commit("refs/heads/main", "Plan the work", plan, 2, parent=base)
        self._import(stream)
        trunk = Oid(self.git("rev-parse", "main"))
        streams = []
        for branch in range(min(self.size.branches, self.size.cards)):
            if over * self.size.branches + branch >= self.size.cards:
                continue
            ref = f"refs/heads/ws/S{branch}"
            card = self.claimed(branch, over, tree)
            claim = {self.card(branch, over): card}
            streams.append(_commit(ref, "gitwaves: claim", claim, 2 * branch + 3, parent=trunk))
            work = {f"src/s{branch}/new.txt": b"work\n"}
            streams.append(_commit(ref, "Work", work, 2 * branch + 4, parent=f":{2 * branch + 3}"))
        self._import(b"".join(streams))

    def claimed(self, branch: int, place: int, tree: Oid) -> bytes:
        """The card of a task that somebody has claimed."""
        spec = self._spec(branch, place)
        claim = self._claim(branch, place, spec, tree)
        said = Tracking(f"S{branch}T{place + 1}", Status.ACTIVE, claim, agent="bench", attempts=1)
        return join(spec, tracking_bytes(said))

    def _digest(self, branch: int, place: int, spec: bytes) -> str:
        task = load_card(join(spec, b""), self.card(branch, place)).spec
        stream, _ = load_workstream(
            self._stream(branch), f".workstreams/WS-S{branch}/workstream.yaml"
        )
        assert isinstance(task, Task)
        assert stream is not None
        return task_digest(task, stream)

    def _claim(self, branch: int, place: int, spec: bytes, tree: Oid) -> Claim:
        return Claim(tree, self._digest(branch, place, spec), f"{branch:08x}{place:08x}")

    def _import(self, stream: bytes) -> None:
        self.git("fast-import", "--quiet", "--done", stdin=stream + b"done\n")


def _commit(
    ref: str, message: str, files: Mapping[str, bytes], mark: int, *, parent: str | None = None
) -> bytes:
    said = [f"commit {ref}\nmark :{mark}\ncommitter {_WHO}\ndata {len(message)}\n{message}\n"]
    if parent is not None:
        said.append(f"from {parent}\n")
    parts = ["".join(said).encode()]
    for path, data in files.items():
        parts.append(f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n")
    return b"".join(parts)
