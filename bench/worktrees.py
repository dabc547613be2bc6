"""What work in many worktrees costs, beside the Git commands that it cannot do without.

    python -m bench.worktrees                   # 64 worktrees of 5,000 files
    python -m bench.worktrees --worktrees 8

Two repositories of one content: in one of them gitwaves starts, verifies and lands a task in each
worktree, in the other a few lines of shell do to Git what cannot be left out. They take turns, task
by task; what counts is what all of them take together. A landing is done a few times over, each
from the same trunk.
"""

from __future__ import annotations

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
_ALL_AT_ONCE = f"tip=$(git rev-parse HEAD)\nfor branch; do{_TAKE}done{_LAND}"
_ONE_BY_ONE = f"tip=$(git rev-parse HEAD)\nfor branch; do{_TAKE}{_LAND}done"
_POINT = ".workstreams/merge-points/MP1.yaml"


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

    def back_to(self, commit: str) -> Callable[[], object]:
        """What takes trunk back to a commit."""
        return lambda: self.made.git("reset", "-q", "--hard", commit)

    def commit(self, message: str) -> str:
        """Commits all that differs on trunk; its id."""
        self.made.git("add", "-A")
        self.made.git("commit", "-q", "-m", message)
        return self.made.git("rev-parse", "HEAD")


def tasks(ours: Side, bare: Side, table: Table) -> None:
    """Starts and verifies the first task of every worktree."""
    streams, made = ours.streams, ours.made
    ours.ours("status").once()
    pairs = [(ours.ours("start", made.task(n, 0)), bare.bare(_START, n)) for n in streams]
    in_pairs(pairs)
    table.add_sum(f"start {len(streams)} worktrees", pairs, 2)
    for side in (ours, bare):
        for n in streams:
            side.work(n)
    pairs = [(ours.ours("verify", made.task(n, 0)), bare.bare(_VERIFY, n)) for n in streams]
    in_pairs(pairs)
    table.add_sum(f"verify {len(streams)} worktrees", pairs, 3)


def landings(ours: Side, bare: Side, table: Table, rounds: int) -> None:
    """Lands all of them together in a merge point, and one by one without it."""
    required = ", ".join(ours.made.task(n, 0) for n in ours.streams)
    point = f"id: MP1\ntitle: All\nrequires: [{required}]\nverify:\n  - run: 'true'\n"
    for what, argv, script, text in (
        ("together", ("merge", "MP1"), _ALL_AT_ONCE, join(point.encode(), planned("MP1"))),
        ("one by one", ("merge", "--rest"), _ONE_BY_ONE, None),
    ):
        before = []
        for side in (ours, bare):
            file = side.made.path / _POINT
            if text is None:
                file.unlink()
            else:
                file.parent.mkdir()
                file.write_bytes(text)
            before.append(side.back_to(side.commit("The merge point")))
        ours.ours("trust", "--yes").once()
        way = ours.ours(*argv, before=before[0])
        base = bare.shell(script, *(f"ws/S{n}" for n in bare.streams))
        base.before = before[1]
        in_turns([way, base], rounds)
        table.add(f"land {len(ours.streams)} branches {what}", way, base, 3)
        for take_back in before:
            take_back()


def main() -> int:
    """Measures, prints a table, and gives 1 where a ratio is beyond its limit."""
    parser = options("What work in many worktrees costs, against bare Git.", 1)
    parser.add_argument("--worktrees", type=int, default=64, help="(%(default)s)")
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
        landings(ours, bare, table, args.rounds)
    return table.end()


if __name__ == "__main__":
    sys.exit(main())
