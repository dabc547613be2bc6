"""Batches and waves: what follows from the specs alone, whatever has been done. Pure.

Numbers are those of `Graph`: the smaller number is the smaller id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from gitwaves.graph import Graph, graph_of
from gitwaves.model import Batch, BatchId, Branch, Cards, Config, Schedule, Task, TaskId, natural
from gitwaves.record import Record

UNBATCHED = BatchId("(none)")  # not a name: for tasks that the author forgot, which is a finding
_Levels = list[list[int]]


def schedule(cards: Cards, graph: Graph) -> Schedule:
    """The batches and waves of a plan; cancelled tasks are in none.

    Batches are the author's. Where there are none they are computed: the longest path first, at
    most `agents` tasks a batch and one a worktree, what a task needs in earlier batches; each is
    one wave.

    Raises:
        CycleError: the plan cannot be put in order.
    """
    plan: Schedule | None = cards.memo.get("schedule")
    if plan is None:
        plan = cards.memo["schedule"] = _schedule(cards, graph)
    return plan


def _schedule(cards: Cards, graph: Graph) -> Schedule:
    columns = columns_of(cards, graph)
    live = [n for n in columns.tasks if n not in columns.cancelled]
    branch: list[Branch] = [Branch("")] * len(graph.nodes)
    for name, tasks in cards.by_branch.items():
        for task in tasks:
            branch[graph.number[task]] = name
    branches = {n: branch[n] for n in live}
    authored = any(columns.batches[n] is not None for n in live)
    if authored:
        waves = _authored(_order(cards.config, columns), columns, graph, branches)
    else:
        waves = _computed(columns, graph, branches, max(1, cards.config.agents))
    batches = tuple(
        Batch(name, tuple(tuple(TaskId(graph.nodes[n]) for n in wave) for wave in levels))
        for name, levels in waves.items()
    )
    barrier = authored if cards.config.dispatch is None else cards.config.dispatch == "batches"
    return Schedule(batches, barrier, authored)


class Columns(Record):
    """What a plan is computed from besides its graph, by number: so that no card has to be opened."""

    tasks: tuple[int, ...]
    cancelled: frozenset[int]
    estimates: tuple[int, ...]  # seconds; 0 for what is no task
    batches: tuple[BatchId | None, ...]
    unknown: Mapping[int, tuple[str, ...]]  # what tasks need and no card is called

    def with_tasks(self, cards: Cards, graph: Graph, tasks: Iterable[Task]) -> Columns:
        """The same of a plan in which some tasks are these now."""
        cancelled, unknown = set(self.cancelled), dict(self.unknown)
        estimates, batches = list(self.estimates), list(self.batches)
        names: dict[BatchId | None, BatchId | None] = {}
        for task in tasks:
            n = graph.number[task.id]
            estimates[n] = estimate(cards, task)
            batches[n] = names.setdefault(task.batch, task.batch)  # of many, one object
            cancelled.discard(n)
            if task.cancelled is not None:
                cancelled.add(n)
            unknown.pop(n, None)
            if strange := tuple(need for need in task.depends_on if need not in graph.number):
                unknown[n] = strange
        return Columns(self.tasks, frozenset(cancelled), tuple(estimates), tuple(batches), unknown)


def columns_of(cards: Cards, graph: Graph) -> Columns:
    """The columns of a plan, by the numbers of its graph."""
    columns: Columns | None = cards.memo.get("columns")
    if columns is None:
        columns = cards.memo["columns"] = _columns_of(cards, graph)
    return columns


def _columns_of(cards: Cards, graph: Graph) -> Columns:
    numbers = tuple(sorted(map(graph.number.__getitem__, cards.tasks)))
    many = len(graph.nodes)
    empty = Columns(numbers, frozenset(), (0,) * many, (None,) * many, {})
    return empty.with_tasks(cards, graph, cards.tasks.values())


def estimate(cards: Cards, task: Task) -> int:
    """How long a task is thought to take, in seconds."""
    return cards.config.default_estimate if task.estimate is None else task.estimate


def batch_order(cards: Cards) -> tuple[BatchId, ...]:
    """The names of the batches that the author gave, in the order they are dispatched."""
    return _order(cards.config, columns_of(cards, graph_of(cards)))


def _order(config: Config, columns: Columns) -> tuple[BatchId, ...]:
    given = {name for name in columns.batches if name is not None}
    listed = [name for name in dict.fromkeys(config.batches) if name in given]
    return (*listed, *sorted(given - set(listed), key=natural))


def crew(plan: Schedule) -> dict[BatchId, tuple[int, ...]]:
    """How many agents can be at work at once in each wave of each batch."""
    return {batch.id: tuple(map(len, batch.waves)) for batch in plan.batches}


def _authored(
    names: Sequence[BatchId], columns: Columns, graph: Graph, branches: Mapping[int, Branch]
) -> dict[BatchId, _Levels]:
    """The waves of the batches called `names`; `branches` are those of what is not cancelled."""
    place: dict[BatchId | None, int] = {name: k for k, name in enumerate((*names, None))}
    batch = {n: place[columns.batches[n]] for n in branches}
    members: list[dict[int, Branch]] = [{} for _ in range(len(names) + 1)]
    for n, branch in branches.items():
        members[batch[n]][n] = branch

    latest = [-1] * len(graph.nodes)  # the latest batch among a node and all that it needs
    for n in graph.sequence:  # a plain loop: `max` over a list for each takes three times as long
        last = batch.get(n, -1)
        for need in graph.needed[n]:
            if latest[need] > last:
                last = latest[need]
        latest[n] = last

    found: dict[BatchId, _Levels] = {}
    for k, name in enumerate((*names, UNBATCHED)):
        # Only what may itself need a task of this batch can put one of its tasks in a later wave.
        missing: dict[int, int] = {}
        stack = list(members[k])
        while stack:
            n = stack.pop()
            if n not in missing:
                above = [need for need in graph.needed[n] if latest[need] >= k]
                missing[n] = len(above)
                stack += above
        found[name] = _levels(graph, members[k], missing, range(len(graph.nodes)))
    if not found[UNBATCHED]:
        del found[UNBATCHED]
    return found


def _computed(
    columns: Columns, graph: Graph, branches: Mapping[int, Branch], width: int
) -> dict[BatchId, _Levels]:
    """Batches for `width` agents; `branches` are those of what is not cancelled."""
    weight = [estimate if n in branches else 0 for n, estimate in enumerate(columns.estimates)]
    rank = [-length for length in graph.behind(weight)]
    missing = dict(enumerate(map(len, graph.needed)))
    levels = _levels(graph, branches, missing, rank, width)
    return {BatchId(str(k)): [level] for k, level in enumerate(levels, 1)}


def _levels(
    graph: Graph,
    branches: Mapping[int, Branch],
    missing: dict[int, int],
    rank: Sequence[int],
    width: int | None = None,
) -> _Levels:
    """Puts tasks, the keys of `branches`, in levels: what one level needs lies in earlier ones.

    A level takes the lowest ranks of what is ready, at most one of a branch and `width` in all.
    `missing` says how many needs of each node count, and is used up; a node of it that is no such
    task is in no level: it is over as soon as all that it needs is.
    """
    from heapq import heapify, heappush  # not needed where the plan is kept

    over = [n for n, count in missing.items() if not count and n not in branches]
    ready = [(rank[n], n) for n in branches if not missing[n]]
    heapify(ready)
    waiting: defaultdict[Branch, list[tuple[int, int]]] = defaultdict(list)
    levels: _Levels = []
    while True:
        while over:
            for n in graph.dependent[over.pop()]:
                if n in missing:
                    missing[n] -= 1
                    if missing[n]:
                        continue
                    if n in branches:
                        heappush(ready, (rank[n], n))
                    else:
                        over.append(n)
        if not ready:
            return levels
        over = _take(ready, waiting, branches, width)
        levels.append(sorted(over))


def _take(
    ready: list[tuple[int, int]],
    waiting: defaultdict[Branch, list[tuple[int, int]]],
    branches: Mapping[int, Branch],
    width: int | None,
) -> list[int]:
    """Takes one level from the heap `ready`.

    A task whose branch is taken waits in a heap of that branch, of which only the first goes back:
    so each level costs no more than it holds, however many tasks are ready.
    """
    from heapq import heappop, heappush

    taken: dict[Branch, int] = {}
    while ready and len(taken) != width:
        entry = heappop(ready)
        branch = branches[entry[1]]
        if branch in taken:
            heappush(waiting[branch], entry)
        else:
            taken[branch] = entry[1]
    for branch in taken:
        if waiting[branch]:
            heappush(ready, heappop(waiting[branch]))
    return list(taken.values())
