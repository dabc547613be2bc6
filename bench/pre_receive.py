"""What the server's hook costs: the same pushes to a repository with it and to one without it.

Each commit is pushed to both, one right after the other, in turns; what counts is the median of the
ratios. Work, claims, done commits, landings and reviews are made with gitwaves' own functions, and
measured apart.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.repository import git, workplace
from gitwaves import claims, hooks, merging
from gitwaves.git import Repo
from gitwaves.halves import SEPARATOR
from gitwaves.model import Evidence, Oid, Run, Status, TaskId
from gitwaves.record import replace
from gitwaves.store import Store
from gitwaves.writing import state_commit

LIMIT = 3.0
_SETTINGS = "[receive]\n    autoGC = false\n"


@dataclass
class Bench:
    """A clone with a plan, and the two repositories that it pushes to."""

    top: Path
    cards: int
    streams: int
    times: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def clone(self) -> Path:
        return self.top / "clone"

    def git(self, *args: str, cwd: Path | None = None) -> str:
        return git(cwd or self.clone, *args)

    @property
    def store(self) -> Store:
        return Store(Repo.open(self.clone))

    def tasks(self) -> Iterator[tuple[str, str]]:
        """Workstream and task, of every card."""
        for number in range(self.cards):
            stream = number % self.streams
            yield f"WS-S{stream}", f"S{stream}T{number // self.streams + 1}"

    def make(self) -> None:
        """Writes the plan, and pushes it to both servers."""
        self.clone.mkdir()
        self.git("init", "-q", "-b", "main")
        root = self.clone / ".workstreams"
        (root / "merge-points").mkdir(parents=True)
        (root / "config.yaml").write_text("version: 1\ntitle: Bench\ntrunk: main\nlearnings: []\n")
        line = SEPARATOR.decode()
        for stream, task in self.tasks():
            folder = root / stream
            name = stream.removeprefix("WS-").lower()
            if not folder.exists():
                folder.mkdir()
                (folder / "workstream.yaml").write_text(f"title: {stream}\npaths: [{name}/**]\n")
            (folder / f"{task}.yaml").write_text(
                f"id: {task}\ntitle: Task {task}\ndepends_on: []\nestimate: 2h\nspec: |\n"
                + "".join(f"  What {task} is to do, line {n} of its spec.\n" for n in range(8))
                + "acceptance:\n  - It holds.\n  - It goes on holding.\n"
                + f"verify:\n  - run: test -f {name}/{task}.txt\n    timeout: 10m\n"
                + f"{line}tracking:\n  task: {task}\n  status: planned\n"
            )
        for number in range(1, 9):
            (root / f"merge-points/MP{number}.yaml").write_text(
                f"id: MP{number}\ntitle: Landing {number}\nrequires: [S0T{number}, S1T{number}]\n"
                f"{line}tracking:\n  task: MP{number}\n  status: planned\n"
            )
        (self.clone / "README.md").write_text("Bench\n")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "Plan the work")
        for name in ("bare", "guarded"):
            self.git("init", "-q", "--bare", "-b", "main", str(self.top / name))
            self.git("remote", "add", name, str(self.top / name))
        hooks.install_server(Repo.open(self.top / "guarded"))
        for name in ("bare", "guarded"):
            self.git("push", "-q", name, "main")

    def push(self, kind: str, *refs: str) -> None:
        """Pushes to both servers, and notes how long each took."""
        took = {}
        for name in random.sample(("bare", "guarded"), 2):
            start = time.perf_counter()
            self.git("push", "-q", name, *refs)
            took[name] = time.perf_counter() - start
        self.times.setdefault(kind, []).append((took["bare"], took["guarded"]))

    # --- what is pushed ------------------------------------------------------------------------

    def task(self, task: str, *, measured: bool = True) -> None:
        """A task from its claim to done, each step pushed."""
        path = claims.start(self.store, task, agent="bench", trust_trunk=True).path
        branch = self.git("branch", "--show-current", cwd=path)
        suffix = "" if measured else " (first)"
        self.push(f"claim{suffix}", branch)
        name = branch.removeprefix("ws/").lower()
        (path / name).mkdir(exist_ok=True)
        (path / name / f"{task}.txt").write_text(f"{task}\n" * 20)
        self.git("add", "-A", cwd=path)
        self.git("commit", "-q", "-m", f"Do {task}", cwd=path)
        self.push(f"work{suffix}", branch)
        store = self.store
        snapshot = store.snapshot()
        tip = Oid(self.git("rev-parse", "HEAD", cwd=path))
        step = snapshot.cards.tasks[TaskId(task)].verify[0].run or ""
        runs = (Run(step, 0, 0.25, "sha256:" + "0" * 64),)
        tree = store.repo.code_tree(tip)
        evidence = Evidence(tip, tree, snapshot.cards.digest(task), runs)
        said = replace(snapshot.facts[task].tracking, status=Status.DONE, evidence=evidence)
        done = state_commit(store, snapshot.cards, tip, task, said, trunk=snapshot.trunk_tip)
        store.repo.git("cat-file", "-e", done)  # what was made is written before
        self.git("merge", "-q", "--ff-only", done, cwd=path)
        self.push(f"done{suffix}", branch)

    def landing(self, point: str) -> None:
        merging.merge(self.store, point, trust_trunk=True)
        self.push("landing", "main")

    def review(self, number: int) -> None:
        path = self.clone / f".workstreams/WS-S2/S2T{number}.yaml"
        path.write_text(path.read_text().replace("line 3 of", "another line of"))
        self.git("commit", "-q", "-a", "-m", "A better spec")
        self.push("review", "main")


def measure(
    top: Path, cards: int, streams: int, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """The times of each kind of push, without and with the hook, in seconds."""
    bench = Bench(top, cards, streams)
    bench.make()
    for stream in ("S0", "S1"):
        bench.task(f"{stream}T1", measured=False)
    bench.landing("MP1")
    bench.times.pop("landing")  # the first of a kind finds nothing in memory
    for number in range(2, rounds + 2):
        bench.task(f"S0T{number}")
        bench.task(f"S1T{number}")
        if number < 9:
            bench.landing(f"MP{number}")
            bench.review(number)
    return {kind: times for kind, times in bench.times.items() if "first" not in kind}


def main() -> None:
    """Measures, prints a line a kind, and exits 1 where a ratio is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="pushes of each kind (times two)")
    parser.add_argument("--cards", type=int, default=500)
    parser.add_argument("--streams", type=int, default=8)
    args = parser.parse_args()
    with workplace(_SETTINGS) as top:
        times = measure(top, args.cards, args.streams, args.rounds)
    print(f"a push on a plan of {args.cards} cards in {args.streams} workstreams, medians")
    print(f"{'':8} {'pushes':>6} {'bare':>8} {'guarded':>8} {'ratio':>6}")
    worst = 0.0
    for kind, pairs in times.items():
        ratio = statistics.median(with_it / without for without, with_it in pairs)
        bare, guarded = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
        print(f"{kind:8} {len(pairs):6} {bare:6.0f}ms {guarded:6.0f}ms {ratio:6.2f}")
        worst = max(worst, ratio)
    print(f"the worst is {worst:.2f}, of at most {LIMIT:.0f}")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
