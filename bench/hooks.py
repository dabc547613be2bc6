"""What our hooks add to `git commit`: the same clone with and without them, in turns.

    python -m bench.hooks                       # 15,000 files, and a small repository
    python -m bench.hooks --files 2000 --cards 200 --branches 8

One clone is measured, and only `core.hooksPath` is switched: fresh clones show false differences.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

from bench.measure import GITWAVES, HEAD, Row, Way, end, in_turns, row
from bench.repository import SMALL, Made, Size, sealed
from gitwaves.git import Repo
from gitwaves.model import Branch, TaskId
from gitwaves.store import Store
from gitwaves.worktrees import mark


def measure(made: Made, where: str, limits: tuple[float, float], rounds: int) -> list[Row]:
    """A commit on trunk, where there is nothing to do, and one inside a boundary at work."""
    count = itertools.count()
    Way([GITWAVES, "hooks", "install"], made.path).once()
    linked = made.path.parent / f"{made.path.name}-s0"
    made.git("worktree", "add", "-q", str(linked), "ws/S0")
    repo = Repo.open(made.path)
    task = TaskId(f"S0T{-(-made.size.cards // made.size.branches) // 3 + 1}")
    mark(repo, Store(repo).snapshot().cards, Branch("ws/S0"), task)
    rows = []
    for what, cwd, limit in (
        ("nothing to do", made.path, limits[0]),
        ("inside its boundary", linked, limits[1]),
    ):

        def stage(cwd: Path = cwd) -> None:
            (cwd / "src/s0/changed.txt").write_text(f"{next(count)}\n")
            made.git("add", "src/s0/changed.txt", cwd=cwd)

        commit = ["commit", "-q", "-m", "Work"]
        bare = Way(["git", "-c", "core.hooksPath=/dev/null", *commit], cwd, stage)
        ours = Way(["git", *commit], cwd, stage)
        in_turns([bare, ours], rounds)
        rows.append(row(f"git commit, {what} ({where})", ours, bare, limit))
        print(rows[-1], flush=True)
    return rows


def main() -> int:
    """Measures, prints a table, and gives 1 where a ratio is above its limit."""
    parser = argparse.ArgumentParser(description="What our hooks add to `git commit`.")
    parser.add_argument("--cards", type=int, default=Size.cards)
    parser.add_argument("--branches", type=int, default=Size.branches)
    parser.add_argument("--files", type=int, default=Size.files)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    size = Size(args.cards, args.branches, args.files)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        top = Path(folder).resolve()
        sealed(top)
        print(HEAD)
        rows = measure(Made.make(top / "small", SMALL), "small", (1.6, 2.5), args.rounds)
        large = Made.make(top / "large", size)
        rows += measure(large, f"{size.files} files", (1.15, 1.3), args.rounds)
    return end(rows)


if __name__ == "__main__":
    sys.exit(main())
