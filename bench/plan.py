"""What the pure core takes to plan: order, batches, waves, critical path and slack, inside a process.

python -m bench.plan                        # 10,000 tasks, 30,000 edges
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable

from gitwaves.graph import Graph, graph_of
from gitwaves.model import BatchId, Branch, Cards, Config, Task, TaskId, Workstream, WorkstreamId
from gitwaves.plan import progress, schedule

STREAMS = 64


def cards_of(tasks: int) -> Cards:
    """A plan in which each task needs three earlier ones."""
    streams = {
        WorkstreamId(f"WS-{n}"): Workstream(WorkstreamId(f"WS-{n}"), "", (), Branch(f"ws/{n}"))
        for n in range(STREAMS)
    }
    made = {}
    for n in range(tasks):
        needs = {n - STREAMS, n - STREAMS - 7, n - 2 * STREAMS - 3} - set(range(-3 * tasks, 0))
        ident = TaskId(f"T{n}")
        made[ident] = Task(
            ident,
            "",
            WorkstreamId(f"WS-{n % STREAMS}"),
            depends_on=tuple(f"T{m}" for m in sorted(needs)),
            batch=BatchId(str(n // (8 * STREAMS))),
            estimate=3600,
        )
    return Cards(Config(), streams, made)


def median_of(call: Callable[[], object], rounds: int) -> float:
    """The median of its CPU time, in milliseconds."""
    took = []
    for _ in range(rounds):
        gc.collect()
        start = time.process_time()
        call()
        took.append(time.process_time() - start)
    return statistics.median(took) * 1e3


def main() -> int:
    """Prints each part; milliseconds of this machine, beside a loop of plain Python."""
    parser = argparse.ArgumentParser(description="What the pure core takes to plan.")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    cards = cards_of(args.tasks)
    gc.freeze()
    graph = graph_of(cards)
    edges = sum(map(len, graph.needed))
    plan = schedule(cards, graph)
    parts: dict[str, Callable[[], object]] = {
        "a loop of 1,000,000 steps": lambda: sum(n for n in range(1_000_000)),
        "graph": lambda: graph_of(cards).sequence,
        "batches and waves": lambda: schedule(cards, graph),
        "states, critical path, slack": lambda: progress(cards, graph, plan, {}),
        "paths alone": lambda: graph.longest(*_lengths(graph)),
    }
    print(f"{args.tasks} tasks, {edges} edges: CPU milliseconds inside the process, medians")
    for name, call in parts.items():
        print(f"{name:32} {median_of(call, args.rounds):8.1f}")
    return 0


def _lengths(graph: Graph) -> tuple[list[int | None], list[int]]:
    weight: list[int | None] = [3600] * len(graph.nodes)
    return weight, list(graph.lengths(weight)[1])


if __name__ == "__main__":
    sys.exit(main())
