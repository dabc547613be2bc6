"""What planning takes: the pure core inside a process, and whole processes beside `git status`.

    python -m bench.plan                        # 10,000 tasks, some 30,000 edges

The base of the core is a loop of plain Python, so that its ratios hold on any machine.
"""

from __future__ import annotations

import gc
import sys

from bench.measure import Call, Table, in_turns
from bench.repository import Made, Size, options, size_of, workplace
from bench.status import Reader
from gitwaves.git import Repo
from gitwaves.graph import graph_of
from gitwaves.plan import progress, schedule
from gitwaves.store import Snapshot, Store


def processes(reader: Reader, rounds: int) -> None:
    """Prints what `plan` takes."""
    table = Table("Planning: whole processes; the base is `git status`")
    base = reader.git_status()
    same, changed = reader.ours("plan"), reader.ours("plan", before=reader.edit)
    in_turns([base, same, changed], rounds)
    reader.restore()
    table.add("plan, nothing changed", same, base)
    table.add("plan, one card changed", changed, base)


def core(snapshot: Snapshot, rounds: int) -> None:
    """Prints what each part of the core takes."""
    cards, facts = snapshot.cards, snapshot.facts
    graph = graph_of(cards)
    plan = schedule(cards, graph)
    edges = sum(map(len, graph.needed))
    table = Table(
        f"The core: {len(cards.tasks):,} tasks, {edges:,} edges; CPU time inside a process; "
        "the base is a loop of a million steps"
    )
    weight: list[int | None] = [3600] * len(graph.nodes)
    lengths = list(graph.lengths(weight)[1])
    loop = Call(lambda: sum(n for n in range(1_000_000)))
    parts = {
        "graph and its order": Call(lambda: graph_of(cards).sequence),
        "batches and waves": Call(lambda: schedule(cards, graph)),
        "states, critical path, slack": Call(lambda: progress(cards, graph, plan, facts)),
        "the longest paths alone": Call(lambda: graph.longest(weight, lengths)),
    }
    gc.freeze()  # what is alive here is not to be looked through while something is measured
    in_turns([loop, *parts.values()], rounds)
    for name, call in parts.items():
        table.add(name, call, loop)


def main() -> int:
    """Measures, and prints both tables."""
    args = options("What planning takes.", 5, Size(files=1_000)).parse_args()
    with workplace() as top:
        made = Made.make(top / "repo", size_of(args))
        print(f"{made.size}\n")
        core(Store(Repo.open(made.path)).snapshot(), args.rounds)
        print()
        processes(Reader(made), args.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
