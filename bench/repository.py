"""Repositories of any size to measure in: a plan of so many cards, branches and files.

They are written by `git fast-import`, so that the largest takes seconds. A third of the tasks is
done on trunk with evidence that holds; each branch has claimed the next one and holds a commit of work.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gitwaves.cards import load_card, load_workstream, tracking_bytes
from gitwaves.git import Repo
from gitwaves.halves import join, planned
from gitwaves.model import Claim, Evidence, Oid, Run, Status, Task, Tracking, task_digest

_WHO = "Bench <bench@example.com> 1750000000 +0000"
_CONFIG = """\
[user]
    name = Bench
    email = bench@example.com
[gc]
    auto = 0
[maintenance]
    auto = false
"""


@contextlib.contextmanager
def workplace(settings: str = "") -> Iterator[Path]:
    """An empty folder, and for as long as it is there an environment that shows nothing of the user's.

    Args:
        settings: more lines for Git's configuration.
    """
    with tempfile.TemporaryDirectory(prefix="gitwaves-bench-") as name:
        top = Path(name).resolve()
        (top / "gitconfig").write_text(_CONFIG + settings)
        before = dict(os.environ)
        # PYTHONDONTWRITEBYTECODE, say, would have every process compile all it imports
        for key in [key for key in os.environ if key.startswith(("GIT_", "PYTHON"))]:
            del os.environ[key]
        os.environ.update(
            HOME=str(top),
            XDG_DATA_HOME=str(top / "data"),
            GIT_CONFIG_GLOBAL=str(top / "gitconfig"),
            GIT_CONFIG_NOSYSTEM="1",
        )
        try:
            yield top
        finally:
            os.environ.clear()
            os.environ.update(before)


def git(cwd: Path, *args: str, stdin: bytes | None = None) -> str:
    """What a git command prints, without white space around it; it must succeed."""
    done = subprocess.run(["git", *args], cwd=cwd, input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {' '.join(args)}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode().strip()


@dataclass(frozen=True)
class Size:
    """How large a repository is to be; `files` are those outside of `.workstreams/`."""

    cards: int = 10_000
    branches: int = 64
    files: int = 15_000

    def __str__(self) -> str:
        return f"{self.cards:,} cards, {self.branches} branches, {self.files:,} files"


SMALL = Size(cards=24, branches=4, files=50)


def options(what: str, rounds: int, size: Size | None = None) -> argparse.ArgumentParser:
    """A parser of what every script can be told: rounds, and the size of a repository if it has one.

    Args:
        what: what the script measures, for its help.
        size: the default; `size_of` reads what was said.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--rounds", type=int, default=rounds, help="of each part (%(default)s)")
    if size is not None:
        for name, value in vars(size).items():
            parser.add_argument(f"--{name}", type=int, default=value, help="(%(default)s)")
    return parser


def size_of(args: argparse.Namespace) -> Size:
    """The size that was asked for."""
    return Size(args.cards, args.branches, args.files)


@dataclass(frozen=True)
class Made:
    """A repository that was made, checked out on `main`."""

    path: Path
    size: Size
    done: float = 1 / 3  # the share of each branch's tasks that is done on trunk
    begun: bool = True  # whether each branch is there and at work on its next task

    @classmethod
    def make(cls, path: Path, size: Size, *, done: float = 1 / 3, begun: bool = True) -> Made:
        """Makes it; the last step packs it, as a clone would be."""
        path.mkdir(parents=True)
        made = cls(path, size, done, begun)
        made.git("init", "-q", "-b", "main")
        made._write()
        made.git("reset", "-q", "--hard", "main")
        made.git("repack", "-q", "-a", "-d")
        made.git("pack-refs", "--all")
        made.git("status")  # writes the index anew, so that no entry in it is racy
        return made

    def git(self, *args: str, stdin: bytes | None = None) -> str:
        """What a git command prints here; it must succeed."""
        return git(self.path, *args, stdin=stdin)

    @property
    def next(self) -> int:
        """The place of the first task of each branch that is not done."""
        return int(-(-self.size.cards // self.size.branches) * self.done)

    def streams(self) -> range:
        """The branches that have a task which is not done."""
        return range(min(self.size.branches, self.size.cards - self.next * self.size.branches))

    def tasks(self) -> Iterator[tuple[int, int]]:
        """Branch and place on it, of every task."""
        for n in range(self.size.cards):
            yield n % self.size.branches, n // self.size.branches

    def task(self, branch: int, place: int) -> str:
        """The id of a task."""
        return f"S{branch}T{place + 1}"

    def card(self, branch: int, place: int) -> str:
        """Where the card of a task stands."""
        return f".workstreams/WS-S{branch}/{self.task(branch, place)}.yaml"

    def product(self, branch: int, place: int) -> str:
        """The file that a task is to make: its one step looks whether it is there."""
        return f"src/s{branch}/{self.task(branch, place)}.txt"

    def _spec(self, branch: int, place: int) -> bytes:
        task = self.task(branch, place)
        needs = [self.task(branch, place - 1)] if place else []
        if place:
            near = {(branch * 7 + 3) % self.size.branches, (branch * 5 + 1) % self.size.branches}
            needs += [f"S{other}T{place}" for other in sorted(near - {branch})]
        lines = "".join(f"  What {task} is to do: line {k} of its spec.\n" for k in range(8))
        return (
            f"id: {task}\ntitle: Task {place + 1} of stream {branch}\n"
            f"depends_on: [{', '.join(needs)}]\nbatch: {place // 8 + 1}\nestimate: 2h\nspec: |\n"
            f"{lines}acceptance:\n  - It holds.\n  - It goes on holding.\n"
            f"verify:\n  - run: test -f {self.product(branch, place)}\n    timeout: 10m\n"
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
        for branch, place in self.tasks():
            spec, half = self._spec(branch, place), planned(self.task(branch, place))
            if place < self.next:
                half = self._proven(branch, place, spec, base, tree)
            plan[self.card(branch, place)] = join(spec, half)
        self._import(_commit("refs/heads/main", "Plan the work", plan, 2, parent=base))
        trunk = self.git("rev-parse", "main")
        commits = []
        for branch in self.streams() if self.begun else ():
            ref, mark = f"refs/heads/ws/S{branch}", 2 * branch + 3
            claim = {self.card(branch, self.next): self.claimed(branch, tree)}
            commits.append(_commit(ref, "gitwaves: claim", claim, mark, parent=trunk))
            work = {f"src/s{branch}/new.txt": b"work\n"}
            commits.append(_commit(ref, "Work", work, mark + 1, parent=f":{mark}"))
        self._import(b"".join(commits))

    def _proven(self, branch: int, place: int, spec: bytes, commit: Oid, tree: Oid) -> bytes:
        """The tracking half of a task that is done, with evidence that holds."""
        run = Run(f"test -f {self.product(branch, place)}", 0, 0.1, "sha256:" + "0" * 64)
        evidence = Evidence(commit, tree, self._digest(branch, place, spec), (run,))
        claim = self._claim(branch, place, spec, tree)
        task = self.task(branch, place)
        return tracking_bytes(Tracking(task, Status.DONE, claim, evidence=evidence))

    def claimed(self, branch: int, tree: Oid, attempts: int = 1) -> bytes:
        """The card of a branch's next task, claimed on a code tree."""
        place = self.next
        spec = self._spec(branch, place)
        claim, task = self._claim(branch, place, spec, tree), self.task(branch, place)
        said = Tracking(task, Status.ACTIVE, claim, agent="bench", attempts=attempts)
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
