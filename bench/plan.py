"""What planning takes: the pure core inside a process, and whole processes beside `git status`.

    python -m bench.plan                        # 10,000 tasks, some 30,000 edges

The base of the core is a loop of plain Python, so that its ratios hold on any machine. Beside it, the
same from the functions of networkx, which takes another while to import.
"""

from __future__ import annotations

import gc
import sys

import networkx  # type: ignore[import-untyped]  # it has no types

from bench.measure import Call, Table, in_turns
from bench.repository import Made, Size, options, size_of, workplace
from bench.status import Reader
from gitwaves.cards import load_cards
from gitwaves.git import Repo
from gitwaves.graph import Graph, graph_of
from gitwaves.plan import progress, schedule
from gitwaves.record import replace
from gitwaves.store import Store

# 25 ms of CPU time, where such a loop takes 30
_MOST = {"order, waves, critical path, slack": 0.83}


def processes(reader: Reader, rounds: int) -> None:
    """Prints what `plan` takes."""
    table = Table("Planning: whole processes; the base is `git status`")
    base = reader.git_status()
    same, changed = reader.ours("plan"), reader.ours("plan", before=reader.edit)
    in_turns([base, same, changed], rounds)
    reader.restore()
    table.add("plan, nothing changed", same, base)
    table.add("plan, one card changed", changed, base)


def core(store: Store, rounds: int) -> None:
    """Prints what each part of the core takes."""
    snapshot = store.snapshot()
    listing = store.listed_at(snapshot.trunk_tip)
    cards = load_cards({path: listing.read(path) for path in listing.files})
    graph = graph_of(cards)
    plan = schedule(cards, graph)
    edges = sum(map(len, graph.needed))
    table = Table(
        f"The core: {len(cards.tasks):,} tasks, {edges:,} edges; CPU time inside a process; "
        "the base is a loop of a million steps"
    )

    def ordered() -> None:
        fresh = Graph(graph.nodes, graph.needed)  # which knows nothing but its edges
        fresh.waves()
        weight = [3600] * len(fresh.nodes)
        before, behind = fresh.before(weight), fresh.behind(weight)
        fresh.longest(weight, behind)
        total = max(behind)
        slack = [total - long - after for long, after in zip(before, behind, strict=True)]
        assert min(slack) == 0

    other = networkx.DiGraph()
    other.add_nodes_from(range(len(graph.nodes)))
    other.add_edges_from((need, n) for n, needs in enumerate(graph.needed) for need in needs)

    def straightforward() -> None:
        before: dict[int, int] = {}
        behind: dict[int, int] = {}
        assert len(list(networkx.topological_generations(other))) == len(graph.waves())
        order = list(networkx.topological_sort(other))
        for n in order:
            before[n] = 3600 + max((before[need] for need in other.predecessors(n)), default=0)
        for n in reversed(order):
            behind[n] = max((3600 + behind[m] for m in other.successors(n)), default=0)
        total = max(before.values())
        assert len(networkx.dag_longest_path(other)) * 3600 == total
        assert min(total - before[n] - behind[n] for n in order) == 0

    loop = Call(lambda: sum(n for n in range(1_000_000)))
    parts = {
        "order, waves, critical path, slack": Call(ordered),
        "states of all tasks, and what is shown": Call(
            lambda: progress(snapshot.cards, graph, plan, snapshot.facts)
        ),
        "the graph, from cards": Call(lambda: graph_of(replace(cards))),
        "batches and their waves, from cards": Call(lambda: schedule(replace(cards), graph)),
        "order, waves, critical path, slack, by networkx": Call(straightforward),
    }
    gc.freeze()  # what is alive here is not to be looked through while something is measured
    in_turns([loop, *parts.values()], rounds)
    for name, call in parts.items():
        table.add(name, call, loop, _MOST.get(name))


def main() -> int:
    """Measures, and prints both tables."""
    args = options("What planning takes.", 5, Size(files=1_000)).parse_args()
    with workplace() as top:
        made = Made.make(top / "repo", size_of(args))
        print(f"{made.size}\n")
        core(Store(Repo.open(made.path)), args.rounds)
        print()
        processes(Reader(made), args.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
