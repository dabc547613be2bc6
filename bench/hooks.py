"""What our hooks add to `git commit`: the same clone with and without them, in turns.

    python -m bench.hooks                       # 15,000 files, and a small repository
    python -m bench.hooks --files 2000 --cards 200 --branches 8
    python -m bench.hooks --only done           # of what is measured, a part

One clone is measured, and only `core.hooksPath` is switched: fresh clones show false differences.
"""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from bench.measure import GITWAVES, Table, Way, in_turns
from bench.repository import SMALL, Made, Size, git, options, size_of, workplace
from gitwaves.model import DASHBOARD_BRANCH

_COMMIT = ("commit", "-q", "-m", "Work")
PARTS = ("nothing", "inside", "done")


class Limits(NamedTuple):
    """How many times as long as a bare one a commit may take."""

    nothing: float
    inside: float
    advancing: float | None = None


class Commits:
    """One repository with hooks, and a worktree in which the first task of a branch is at work."""

    def __init__(self, made: Made) -> None:
        self.trunk = made.path
        self.linked = made.path.parent / f"{made.path.name}-s0"
        self._count = itertools.count()
        made.git("worktree", "add", "-q", str(self.linked), "ws/S0")
        # what is at work is marked, and the dashboard begun: so hooks find it
        for command in (["hooks", "install"], ["trust", "--yes"], ["sync"]):
            Way([GITWAVES, *command], made.path).once()
        self._task, self._product = made.task(0, made.next), made.product(0, made.next)
        self._claimed = made.git("rev-parse", "ws/S0")
        self._shown = made.git("rev-parse", DASHBOARD_BRANCH)

    def ways(self, cwd: Path, stage: Callable[[Path], None]) -> tuple[Way, Way]:
        """`git commit` there of what `stage` leaves in the index, with and without hooks."""
        bare = ["git", "-c", "core.hooksPath=/dev/null", *_COMMIT]
        with_hooks = Way(["git", *_COMMIT], cwd, lambda: stage(cwd))
        return with_hooks, Way(bare, cwd, lambda: stage(cwd))

    def change(self, cwd: Path, path: str = "src/s0/changed.txt") -> None:
        """Stages a change that lies inside the boundary."""
        (cwd / path).write_text(f"{next(self._count)}\n")
        git(cwd, "add", path)

    def verified(self, cwd: Path) -> None:
        """Stages a change and verifies it, where everything is as it was before the task was done."""
        git(cwd, "reset", "-q", "--hard", self._claimed)
        git(cwd, "update-ref", f"refs/heads/{DASHBOARD_BRANCH}", self._shown)
        shutil.rmtree(self.trunk / ".git/gitwaves/receipts", ignore_errors=True)
        self.change(cwd, self._product)
        Way([GITWAVES, "verify"], cwd).once()

    def require_done(self) -> None:
        """Ends everything where the commit that was made last did not make its task done."""
        said = git(self.linked, "log", "-1", "--format=%s")
        if said != f"gitwaves: {self._task} done":
            raise SystemExit(f"the verified commit did not advance its task: {said}")
        if git(self.trunk, "rev-parse", f"{DASHBOARD_BRANCH}^") != self._shown:
            raise SystemExit("the dashboard does not show what the verified commit advanced")


def measure(
    made: Made, where: str, table: Table, limits: Limits, rounds: int, only: Collection[str]
) -> None:
    """Adds a commit on trunk, one inside a boundary at work, and one that makes its task done."""
    commits = Commits(made)
    for part, what, cwd, stage, limit in (
        ("nothing", "nothing to do", commits.trunk, commits.change, limits.nothing),
        ("inside", "inside its boundary", commits.linked, commits.change, limits.inside),
        ("done", "its task is done", commits.linked, commits.verified, limits.advancing),
    ):
        if part not in only:
            continue
        ours, bare = commits.ways(cwd, stage)
        in_turns([bare, ours], rounds)
        table.add(f"git commit, {what} ({where})", ours, bare, limit)
        if part == "done":
            ours.once()
            commits.require_done()


def main() -> int:
    """Measures, prints a table, and gives 1 where a ratio is beyond its limit."""
    parser = options("What our hooks add to `git commit`.", 9, Size())
    parser.add_argument("--only", default=",".join(PARTS), help="parts (%(default)s)")
    args = parser.parse_args()
    size, only = size_of(args), args.only.split(",")
    with workplace() as top:
        table = Table(f"Committing: {size}; the base is the same commit without hooks")
        measure(
            Made.make(top / "small", SMALL), "small", table, Limits(1.6, 2.5), args.rounds, only
        )
        made = Made.make(top / "large", size)
        measure(made, f"{size.files:,} files", table, Limits(1.15, 1.3, 6), args.rounds, only)
    return table.end()


if __name__ == "__main__":
    sys.exit(main())
