"""What work in many worktrees costs, beside the Git commands that it cannot do without.

    python -m bench.worktrees                   # 64 worktrees of 5,000 files
    python -m bench.worktrees --worktrees 8

Two repositories of one content: in one of them gitwaves starts, verifies and lands a task in each
worktree, in the other a few lines of shell do to Git what cannot be left out. They take turns, task
by task; what counts is what all of them take together. A landing is done a few times over, each
from the same trunk.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from bench.measure import GITWAVES, Table, Way, in_pairs, in_turns
from bench.repository import Made, Size, git, options, workplace
from gitwaves.halves import join, planned

# `$1` is the worktree, `$2` its branch, `$3` the card, `$4` the file that the task is to make.
_START = """
git worktree add -q -b "$2" "$1"
cd "$1"
echo '# active' >>"$3"
git commit -q -a -m Claim
"""
# The content is taken before the step and again after it, which must have left it as it was.
_VERIFY = """
cd "$1"
git add -A
before=$(git write-tree)
test -f "$4"
git add -A
test "$before" = "$(git write-tree)"
echo '# done' >>"$3"
git commit -q -a -m Done
"""
# Of each branch in "$@": the merge in memory, a clean checkout, the step, and trunk moved on.
_TAKE = """
tree=$(git merge-tree --write-tree "$tip" "$branch")
tip=$(git commit-tree -p "$tip" -p "$branch" -m "Take $branch" "$tree")
"""
_LAND = """
git worktree add -q --detach ../checkout "$tip"
(cd ../checkout && true && git diff --quiet HEAD)
git worktree remove --force ../checkout
git merge -q --ff-only "$tip"
"""
_TOGETHER = f"tip=$(git rev-parse HEAD)\nfor branch; do{_TAKE}done{_LAND}"
_ONE_BY_ONE = f"tip=$(git rev-parse HEAD)\nfor branch; do{_TAKE}{_LAND}done"


class Side:
    """One of the two repositories."""

    def __init__(self, made: Made) -> None:
        self.made = made
        self.streams = made.streams()

    def worktree(self, branch: int) -> Path:
        """Where a branch is worked on; where gitwaves puts it too."""
        path = self.made.path
        return path.parent / f"{path.name}.worktrees" / f"ws-S{branch}"

    def shell(self, script: str, *args: str) -> Way:
        """Lines of shell, the first that fails being the last."""
        return Way(["sh", "-c", f"set -e\n{script}", "sh", *args], self.made.path)

    def bare(self, script: str, branch: int) -> Way:
        """Such lines for the first task of a branch."""
        made = self.made
        args = (f"ws/S{branch}", made.card(branch, 0), made.product(branch, 0))
        return self.shell(script, str(self.worktree(branch)), *args)

    def ours(self, *args: str, before: Callable[[], object] | None = None) -> Way:
        """A command of gitwaves."""
        return Way([GITWAVES, *args], self.made.path, before)

    def work(self, branch: int) -> None:
        """Makes and commits what the first task of a branch is to make."""
        cwd, product = self.worktree(branch), self.made.product(branch, 0)
        (cwd / product).parent.mkdir(parents=True, exist_ok=True)
        (cwd / product).write_text("done\n")
        git(cwd, "add", product)
        git(cwd, "commit", "-q", "-m", "Work")

    def require_all(self) -> None:
        """Commits a merge point that takes the first task of every worktree."""
        required = ", ".join(self.made.task(n, 0) for n in self.streams)
        spec = f"id: MP1\ntitle: All\nrequires: [{required}]\nverify:\n  - run: 'true'\n"
        file = self.made.path / ".workstreams/merge-points/MP1.yaml"
        file.parent.mkdir()
        file.write_bytes(join(spec.encode(), planned("MP1")))
        self.made.git("add", "-A")
        self.made.git("commit", "-q", "-m", "One merge point for all")

    def back(self) -> Callable[[], object]:
        """What takes trunk back to where it is now; what was written before is out of the way then."""
        now = self.made.git("rev-parse", "HEAD")

        def reset() -> None:
            self.made.git("reset", "-q", "--hard", now)
            os.sync()

        return reset


def tasks(ours: Side, bare: Side, table: Table) -> None:
    """Starts and verifies the first task of every worktree."""
    ours.ours("status").once()
    for command, script, most in (("start", _START, 2), ("verify", _VERIFY, 3)):
        pairs = [
            (ours.ours(command, ours.made.task(n, 0)), bare.bare(script, n)) for n in ours.streams
        ]
        in_pairs(pairs)
        table.add_sum(f"{command}, {len(pairs)} worktrees", pairs, most)
        if command == "start":
            for side in (ours, bare):
                for n in side.streams:
                    side.work(n)


def landing(ours: Side, bare: Side, table: Table, rounds: int, *, rest: bool) -> None:
    """Lands all of them: together in a merge point, or with `rest` one by one without it."""
    for side in (ours, bare) if not rest else ():
        side.require_all()
    ours.ours("trust", "--yes").once()
    way = ours.ours("merge", "--rest" if rest else "MP1", before=ours.back())
    base = bare.shell(_ONE_BY_ONE if rest else _TOGETHER, *(f"ws/S{n}" for n in bare.streams))
    base.before = bare.back()
    in_turns([way, base], rounds)
    how = "one by one" if rest else "together"
    table.add(f"landing, {len(ours.streams)} branches {how}", way, base, 3)


def main() -> int:
    """Measures, prints a table, and gives 1 where a ratio is beyond its limit."""
    parser = options("What work in many worktrees costs, against bare Git.", 1)
    parser.add_argument("--worktrees", type=int, default=64, help="(%(default)s)")
    parser.add_argument("--rest", action="store_true", help="land them one by one, by `--rest`")
    parser.add_argument("--files", type=int, default=5_000, help="in each (%(default)s)")
    args = parser.parse_args()
    size = Size(4 * args.worktrees, args.worktrees, args.files)
    with workplace() as top:
        ours, bare = (
            Side(Made.make(top / name, size, done=0, begun=False)) for name in ("ours", "bare")
        )
        ours.ours("trust", "--yes").once()
        table = Table(f"Worktrees: {size}; the base is the Git commands that cannot be left out")
        tasks(ours, bare, table)
        landing(ours, bare, table, args.rounds, rest=args.rest)
    return table.end()


if __name__ == "__main__":
    sys.exit(main())
