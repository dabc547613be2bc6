"""Cards joined with what history says of them: the state of everything, and why. Pure.

`schedule` comes from the specs alone (see `batches`), so that no progress ever moves a task to
another batch; `progress` joins it with the facts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import MappingProxyType

from gitwaves.batches import Columns, columns_of, crew, schedule
from gitwaves.graph import Graph
from gitwaves.model import (
    Batch,
    BatchId,
    BatchState,
    BatchView,
    Blocker,
    Branch,
    Cards,
    CriticalPath,
    Fact,
    Lazy,
    MergePoint,
    Oid,
    OpenGap,
    PointId,
    PointState,
    PointView,
    Progress,
    Schedule,
    State,
    TaskId,
    TaskView,
    Verdict,
    WorkstreamId,
    WorktreeView,
    natural,
)
from gitwaves.record import NamedTuple, Record
from gitwaves.state import Facts

__all__ = ["NOT_LEFT", "Link", "chain", "crew", "progress", "runnable", "schedule"]

_NOWHERE: Mapping[str, str] = MappingProxyType({})
# What no batch waits for any more, and nobody has to do.
NOT_LEFT = frozenset({State.DONE, State.STALE, State.CANCELLED})
_LANDED = frozenset({State.DONE, State.STALE})  # a merge point that went stale stays landed
_EXPLAINED = frozenset({State.UNPROVEN, State.STALE, State.DONE})
_COUNTED = (
    State.DONE,
    State.ACTIVE,
    State.RUNNABLE,
    State.BLOCKED,
    State.HELD,
    State.FAILED,
    State.STALE,
    State.UNPROVEN,
    State.CANCELLED,
)


class _Known(Record):
    """What is settled before anything is asked what it waits for."""

    cards: Cards
    graph: Graph
    plan: Schedule
    facts: Facts
    columns: Columns
    met: Sequence[bool]  # by number: whether what needs it need not wait for it
    gates: Mapping[BatchId, BatchId]  # the nearest earlier batch that is not done
    gaps: tuple[OpenGap, ...]
    holders: Mapping[TaskId, Sequence[TaskId]]  # whose open gaps name a task


def progress(
    cards: Cards,
    graph: Graph,
    plan: Schedule,
    facts: Mapping[str, Fact],
    *,
    trunk_commit: Oid | None = None,
    worktree_paths: Mapping[str, str] = _NOWHERE,
    warnings: Sequence[str] = (),
) -> Progress:
    """The whole state: every task in one state, and what each thing that cannot start waits for.

    `facts` may leave out what was never touched; `worktree_paths` says where branches are checked
    out. What a thing waits for is found out when it is asked for: the loops over all tasks run
    over numbers and open no card.

    Raises:
        CycleError: the plan cannot be put in order.
    """
    known, states = _settled(cards, graph, plan, facts)
    facts, columns, gaps = known.facts, known.columns, known.gaps
    nodes, number, tasks = graph.nodes, graph.number, columns.tasks
    weight: list[int | None] = list(columns.estimates)
    for n, state in enumerate(states):
        if state in NOT_LEFT:
            weight[n] = None
    behind = graph.behind(weight)
    total = max(behind, default=0)
    critical = CriticalPath(graph.longest(weight, behind), total)
    on_path = frozenset(critical.ids)

    @cache
    def before() -> list[int]:
        return graph.before(weight)  # of nothing that can start: all before it is done

    def slack(n: int) -> int | None:
        return None if weight[n] is None else total - behind[n] - before()[n]

    def view(task: TaskId) -> TaskView:
        n, state = number[task], by_task[task]
        return _task_view(known, task, state, task in on_path, slack(n), behind[n])

    by_task = {TaskId(nodes[n]): state for n in tasks if (state := states[n])}
    views = Lazy(by_task, view)
    can_start = State.RUNNABLE  # looking a member up costs more than all else in such a loop
    runnable = [n for n in tasks if states[n] is can_start]
    runnable.sort(key=lambda n: (-behind[n], n))  # the least slack: nothing is left before them
    counted = Counter(by_task.values())
    points = sorted(cards.merge_points, key=number.__getitem__)
    return Progress(
        cards=cards,
        facts=facts,
        schedule=plan,
        states=by_task,
        tasks=views,
        merge_points={p: _point_view(known, cards.merge_points[p]) for p in points},
        batches=tuple(_batch_view(known, batch, by_task, views) for batch in plan.batches),
        worktrees=_worktrees(known, by_task, worktree_paths),
        gaps=gaps,
        critical_path=critical,
        counts={"total": len(by_task)} | {str(state): counted[state] for state in _COUNTED},
        runnable=tuple(TaskId(nodes[n]) for n in runnable),
        trunk_commit=trunk_commit,
        warnings=tuple(warnings),
    )


def runnable(
    cards: Cards,
    graph: Graph,
    plan: Schedule,
    facts: Mapping[str, Fact],
    among: Iterable[TaskId],
) -> frozenset[TaskId]:
    """Those of some tasks that can start now, as `progress` has them, for a fraction of its time."""
    asked = [graph.number[task] for task in among if task in graph.number]
    _, states = _settled(cards, graph, plan, facts, asked)
    return frozenset(TaskId(graph.nodes[n]) for n in asked if states[n] is State.RUNNABLE)


def _settled(
    cards: Cards,
    graph: Graph,
    plan: Schedule,
    facts: Mapping[str, Fact],
    asked: Sequence[int] | None = None,
) -> tuple[_Known, list[State | None]]:
    """What is settled, and with it the states as `_states` gives them; `asked`: of which tasks."""
    facts = Facts.of(facts)
    columns = columns_of(cards, graph)
    number = graph.number
    begun = _begun(facts, graph, columns)
    gaps = _open_gaps(cards, facts, number)
    gates = _gates(plan, number, begun)
    done = State.DONE
    met = [state is done for state in begun]
    for point in cards.merge_points:
        met[number[point]] = begun[number[point]] in _LANDED
    known = _Known(cards, graph, plan, facts, columns, met, gates, gaps, _holders(gaps))
    return known, _states(known, begun, columns.tasks if asked is None else asked)


def _begun(facts: Facts, graph: Graph, columns: Columns) -> list[State | None]:
    """By number, the state of what is over or at work; None where it has yet to start."""
    begun: list[State | None] = [None] * len(graph.nodes)
    number = graph.number
    for node, state in facts.begun.items():
        if node in number:
            begun[number[node]] = state
    for n in columns.cancelled:
        begun[n] = State.CANCELLED
    return begun


def _states(
    known: _Known, begun: Sequence[State | None], tasks: Iterable[int]
) -> list[State | None]:
    """By number, the state of each of some tasks; of a merge point, `DONE` where it has landed."""
    graph, columns, met = known.graph, known.columns, known.met
    number, needed = graph.number, graph.needed
    states: list[State | None] = [None] * len(begun)
    for point in known.cards.merge_points:
        states[number[point]] = State.DONE if met[number[point]] else None
    gated = {
        n
        for batch in known.plan.batches
        if batch.id in known.gates
        for n in map(number.__getitem__, batch.tasks)
    }
    held = {number[task] for task in known.holders}
    waiting = gated.union(columns.unknown)
    can_start, blocked = State.RUNNABLE, State.BLOCKED
    for n in tasks:
        state = begun[n]
        if state is None:
            state = can_start
            if n in held:
                state = State.HELD
            elif n in waiting:
                state = blocked
            else:
                for need in needed[n]:
                    if not met[need]:
                        state = blocked
                        break
        states[n] = state
    return states


def _gates(
    plan: Schedule, number: Mapping[str, int], begun: Sequence[State | None]
) -> dict[BatchId, BatchId]:
    """For each batch that a barrier closes, the nearest earlier one that is not done."""
    gates: dict[BatchId, BatchId] = {}
    closed: BatchId | None = None
    for batch in plan.batches if plan.barrier else ():
        if closed is not None:
            gates[batch.id] = closed
        if any(begun[number[task]] not in NOT_LEFT for task in batch.tasks):
            closed = batch.id
    return gates


def _holders(gaps: Iterable[OpenGap]) -> dict[TaskId, list[TaskId]]:
    holders: defaultdict[TaskId, list[TaskId]] = defaultdict(list)
    for gap in gaps:
        for task in gap.affects:
            if gap.task not in holders[task]:
                holders[task].append(gap.task)
    return dict(holders)


def _open_gaps(cards: Cards, facts: Facts, number: Mapping[str, int]) -> tuple[OpenGap, ...]:
    """The gaps that are neither resolved nor answered by a changed spec of all that they name.

    One that names nobody holds nobody, and is open until it is resolved.
    """
    found = []
    noted = (TaskId(node) for node in facts.noted if node in cards.tasks)
    for author in sorted(noted, key=number.__getitem__):
        for gap in facts[author].tracking.spec_gaps:
            named = sorted((TaskId(t) for t in gap.affects if t in cards.tasks), key=natural)
            affects = tuple(
                t
                for t in named
                if cards.tasks[t].cancelled is None and cards.digest(t) == gap.affects[t]
            )
            if not gap.resolved and (affects or not named):
                found.append(OpenGap(author, gap.text, affects))
    return tuple(found)


def _task_view(
    known: _Known, task: TaskId, state: State, critical: bool, slack: int | None, behind: int
) -> TaskView:
    blocked_on: tuple[Blocker, ...] = ()
    if state in (State.HELD, State.BLOCKED):
        gaps = (Blocker("gap", holder) for holder in known.holders.get(task, ()))
        blocked_on = (*gaps, *_unmet(known, task))
    flags: tuple[str, ...] = ()
    reason = ""
    fact = known.facts.get(task) if state in _EXPLAINED else None
    if fact is not None and state is State.UNPROVEN:
        flags = ("misplaced",) if fact.misplaced else ()
        reason = fact.reason
    elif fact is not None and state is State.STALE:
        reason = fact.reason
    elif fact is not None and fact.verdict is Verdict.UNCHECKED:
        flags = ("unchecked",)
    return TaskView(task, state, flags, reason, blocked_on, critical, slack, behind)


def _unmet(known: _Known, task: TaskId) -> list[Blocker]:
    """What a task needs that is not done: tasks, merge points, the batches before its own.

    An id that names nothing is never done: a card that cannot be read unblocks nobody.
    """
    graph, n = known.graph, known.graph.number[task]
    needs = [graph.nodes[need] for need in graph.needed[n] if not known.met[need]]
    if unknown := known.columns.unknown.get(n):
        needs = sorted({*needs, *unknown}, key=natural)
    points = known.cards.merge_points
    gate = known.gates.get(known.plan.batch_of[task])
    return [
        *(Blocker("task", need) for need in needs if need not in points),
        *(Blocker("merge_point", need) for need in needs if need in points),
        *([] if gate is None else [Blocker("batch", gate)]),
    ]


def _point_view(known: _Known, point: MergePoint) -> PointView:
    fact = known.facts.get(point.id)
    commit = fact.commit if fact else None
    number = known.graph.number
    if known.met[number[point.id]]:
        return PointView(point.id, PointState.DONE, (), commit)
    required = sorted(set(point.requires), key=natural)
    done = {task for task in required if task in known.cards.tasks and known.met[number[task]]}
    waits = tuple(Blocker("task", task) for task in required if task not in done)
    state = PointState.BLOCKED if waits else PointState.READY
    if fact and fact.reverted:
        state = PointState.REVERTED
    return PointView(point.id, state, waits, commit, fact.reason if fact else "")


def _batch_view(
    known: _Known,
    batch: Batch,
    states: Mapping[TaskId, State],
    views: Mapping[TaskId, TaskView],
) -> BatchView:
    counted = Counter(map(states.__getitem__, batch.tasks))
    waits: tuple[Blocker, ...] = ()
    if NOT_LEFT.issuperset(counted):
        state = BatchState.DONE
    elif counted[State.ACTIVE] or counted[State.FAILED]:
        state = BatchState.ACTIVE
    elif counted[State.RUNNABLE]:
        state = BatchState.RUNNABLE
    else:
        state = BatchState.BLOCKED
        waits = _batch_waits(
            known, batch, [t for t in batch.tasks if states[t] not in NOT_LEFT], views
        )
    done, failed = counted[State.DONE], counted[State.FAILED]
    return BatchView(batch.id, state, done, failed, len(batch.tasks), waits)


def _batch_waits(
    known: _Known, batch: Batch, left: Sequence[TaskId], views: Mapping[TaskId, TaskView]
) -> tuple[Blocker, ...]:
    """What a batch waits for as a whole; else what holds up any task of it, from outside of it.

    `left` are those of its tasks that are not over.
    """
    gate = known.gates.get(batch.id)
    closed = [p for p in known.cards.merge_points if not known.met[known.graph.number[p]]]
    wait = set(left)
    common = [p for p in closed if wait.issubset(known.graph.dependents(p))]
    whole = [
        *([] if gate is None else [Blocker("batch", gate)]),
        *(Blocker("merge_point", point) for point in sorted(common, key=natural)),
    ]
    if whole:
        return tuple(whole)
    seen = [views[task] for task in left]
    waits = {blocker for view in seen for blocker in view.blocked_on}
    waits |= {Blocker("task", view.id) for view in seen if view.state is State.UNPROVEN}
    waiting = {view.id for view in seen if view.state in (State.BLOCKED, State.HELD)}
    kinds = ("batch", "merge_point", "task", "gap")
    return tuple(
        sorted(
            (b for b in waits if b.kind != "task" or b.id not in waiting),
            key=lambda b: (kinds.index(b.kind), natural(b.id)),
        )
    )


def _worktrees(
    known: _Known, states: Mapping[TaskId, State], paths: Mapping[str, str]
) -> tuple[WorktreeView, ...]:
    cards, graph = known.cards, known.graph
    workstreams: defaultdict[Branch, list[WorkstreamId]] = defaultdict(list)
    for workstream in sorted(cards.workstreams.values(), key=lambda w: natural(w.id)):
        workstreams[workstream.branch].append(workstream.id)
    at_work: dict[Branch, tuple[bool, int, TaskId]] = {}  # what is active before what failed
    busy_states = {State.ACTIVE, State.FAILED}
    for node, begun in known.facts.begun.items():
        if begun in busy_states and (state := states.get(TaskId(node))) in busy_states:
            found = (state is State.FAILED, graph.number[node], TaskId(node))
            branch = cards.branch_of(TaskId(node))
            at_work[branch] = min(found, at_work.get(branch, found))
    cancelled = {graph.nodes[n] for n in known.columns.cancelled}
    views = []
    for branch in sorted({*workstreams, *cards.by_branch}, key=natural):
        tasks = cards.tasks_on(branch)
        if cancelled:
            tasks = tuple(task for task in tasks if task not in cancelled)
        if tasks or branch in workstreams:
            busy = at_work[branch][2] if branch in at_work else None
            streams = tuple(workstreams[branch])
            views.append(WorktreeView(branch, streams, tasks, busy, paths.get(branch)))
    return tuple(views)


# --- why ---


class Link(NamedTuple):
    """One step of `chain`: `blocker` is what the last link with a smaller depth waits for."""

    depth: int
    blocker: Blocker
    state: str


def chain(now: Progress, node: str) -> tuple[Link, ...]:
    """Why a task, a merge point or a batch waits, down to what is at work or could start.

    Each thing is named once, where it is first met.
    """
    batches = {view.id: view for view in now.batches}

    def look(blocker: Blocker) -> tuple[str, tuple[Blocker, ...]]:
        """The state of something, and what that waits for."""
        if blocker.kind == "gap":
            return "open", ()
        if task := now.tasks.get(TaskId(blocker.id)):
            return task.state, task.blocked_on
        if point := now.merge_points.get(PointId(blocker.id)):
            return point.state, point.blocked_on
        if batch := batches.get(BatchId(blocker.id)):
            return batch.state, batch.blocked_on
        return "unknown", ()

    links = []
    seen = {(False, node)}  # a gap goes by the name of the task that found it
    stack = [(0, blocker) for blocker in reversed(look(Blocker("", node))[1])]
    while stack:
        depth, blocker = stack.pop()
        key = (blocker.kind == "gap", blocker.id)
        if key not in seen:
            seen.add(key)
            state, waits = look(blocker)
            links.append(Link(depth, blocker, state))
            if blocker.kind == "batch" and not waits:
                waits = _moving(now, BatchId(blocker.id))
            stack.extend((depth + 1, b) for b in reversed(waits))
    return tuple(links)


def _moving(now: Progress, batch: BatchId) -> tuple[Blocker, ...]:
    """The tasks because of which a batch is not done, and that wait for nothing themselves."""
    moving = (State.ACTIVE, State.FAILED, State.RUNNABLE, State.UNPROVEN)
    return tuple(
        Blocker("task", task)
        for task, where in now.schedule.batch_of.items()
        if where == batch and now.states[task] in moving
    )
