"""How what reading takes grows: with the cards, and with the branches.

    python -m bench.scale                       # 100 to 10,000 cards, 1 to 256 branches
    python -m bench.scale --cards 100,1000 --branches 1,64 --files 500

All repositories of a table are measured in the same turns, so what grows is seen beside the
smallest of them, whatever else the machine is doing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.measure import Way, in_turns, median, ratio
from bench.repository import Made, Size, options, workplace
from bench.status import Reader

_BRANCHES = 8  # where the cards are what grows
_CARDS = 1_000  # where the branches are


def measure(sizes: Sequence[Size], top: Path, rounds: int) -> list[dict[str, Way]]:
    """What each command took, of repositories of these sizes."""
    measured = []
    for size in sizes:
        reader = Reader(Made.make(top / str(size), size))
        reader.settle()
        measured.append(
            {
                "git status": reader.git_status(),
                "nothing changed": reader.ours("status"),
                "one card changed": reader.ours("status", before=reader.one_card),
                "no cache": reader.ours("status", before=reader.forget),
            }
        )
    # Those that need what another one has kept have turns of their own.
    for names, times in (
        (("git status", "nothing changed"), rounds * 3),
        (("one card changed",), rounds),
        (("no cache",), max(1, rounds // 3)),
    ):
        in_turns([ways[name] for name in names for ways in measured], times)
    return measured


def show(what: str, beside: str, numbers: Sequence[int], measured: list[dict[str, Way]]) -> None:
    """Prints a table of them, a line for each number."""
    first = measured[0]
    print(f"More {what}, {beside}: `status` in ms, and how many times the first line\n")
    print(f"| {what:>8} |" + "".join(f" {name:>20} |" for name in first))
    print(f"|{'-' * 9}:|" + f"{'-' * 21}:|" * len(first))
    for number, ways in zip(numbers, measured, strict=True):
        cells = (
            f"{median(way) * 1e3:,.1f} (x {ratio(way, first[name]):.1f})"
            for name, way in ways.items()
        )
        print(f"| {number:>8,} |" + "".join(f" {cell:>20} |" for cell in cells))
    print(flush=True)


def numbers(text: str) -> list[int]:
    """The numbers of an option.

    >>> numbers("1,8")
    [1, 8]
    """
    return [int(number) for number in text.split(",")]


def main() -> int:
    """Measures, and prints both tables."""
    parser = options("How what reading takes grows.", 3)
    parser.add_argument("--cards", type=numbers, default="100,1000,10000", help="(%(default)s)")
    parser.add_argument("--branches", type=numbers, default="1,8,64,256", help="(%(default)s)")
    parser.add_argument("--files", type=int, default=2_000, help="(%(default)s)")
    args = parser.parse_args()
    with workplace() as top:
        few = min(_BRANCHES, max(args.branches))
        sizes = [Size(cards, few, args.files) for cards in args.cards]
        measured = measure(sizes, top / "cards", args.rounds)
        show("cards", f"{few} branches, {args.files:,} files", args.cards, measured)
        some = min(_CARDS, max(args.cards))
        sizes = [Size(some, branches, args.files) for branches in args.branches]
        measured = measure(sizes, top / "branches", args.rounds)
        show("branches", f"{some:,} cards, {args.files:,} files", args.branches, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
