"""Cards joined with what history says of them: the state of everything, and why. Pure.

`schedule` comes from the specs alone (see `batches`), so that no progress ever moves a task to
another batch; `progress` joins it with the facts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from gitwaves.batches import crew, estimate, schedule
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
    MergePoint,
    Oid,
    OpenGap,
    PointId,
    PointState,
    PointView,
    Progress,
    Schedule,
    State,
    Status,
    Task,
    TaskId,
    TaskView,
    Verdict,
    WorkstreamId,
    WorktreeView,
    natural,
)

__all__ = ["Link", "chain", "crew", "progress", "schedule"]

_NOWHERE: Mapping[str, str] = MappingProxyType({})
_OVER = frozenset({State.DONE, State.STALE, State.CANCELLED})  # what no batch waits for any more
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


@dataclass(frozen=True, slots=True)
class _Known:
    """What is settled before anything is asked what it waits for."""

    cards: Cards
    graph: Graph
    facts: Mapping[str, Fact]
    begun: Mapping[TaskId, State | None]  # None: has yet to start
    landed: frozenset[PointId]
    gates: Mapping[TaskId, BatchId]  # the nearest earlier batch that is not done
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
    out.

    Raises:
        CycleError: the plan cannot be put in order.
    """
    tasks = [cards.tasks[TaskId(node)] for node in graph.nodes if node in cards.tasks]
    points = [
        cards.merge_points[PointId(node)] for node in graph.nodes if node in cards.merge_points
    ]
    gaps = _open_gaps(cards, facts, tasks)
    known = _known(cards, graph, plan, facts, gaps)

    weight: list[int | None] = [0] * len(graph.nodes)
    for point in known.landed:
        weight[graph.number[point]] = None
    for task in tasks:
        over = known.begun[task.id] in _OVER
        weight[graph.number[task.id]] = None if over else estimate(cards, task)
    before, behind = graph.lengths(weight)
    total = max(behind, default=0)
    critical = CriticalPath(graph.longest(weight, behind), total)
    on_path = frozenset(critical.ids)

    views = {}
    for task in tasks:
        n = graph.number[task.id]
        slack = None if weight[n] is None else total - behind[n] - before[n]
        views[task.id] = _task_view(known, task, task.id in on_path, slack, behind[n])
    runnable = [view for view in views.values() if view.state is State.RUNNABLE]
    runnable.sort(key=lambda view: (view.slack, -view.behind, graph.number[view.id]))
    counted = Counter(view.state for view in views.values())
    return Progress(
        cards=cards,
        facts=facts,
        schedule=plan,
        tasks=views,
        merge_points={point.id: _point_view(known, point) for point in points},
        batches=tuple(_batch_view(known, batch, views) for batch in plan.batches),
        worktrees=_worktrees(cards, views, worktree_paths),
        gaps=gaps,
        critical_path=critical,
        counts={"total": len(views)} | {str(state): counted[state] for state in _COUNTED},
        runnable=tuple(view.id for view in runnable),
        trunk_commit=trunk_commit,
        warnings=tuple(warnings),
    )


def _known(
    cards: Cards,
    graph: Graph,
    plan: Schedule,
    facts: Mapping[str, Fact],
    gaps: Sequence[OpenGap],
) -> _Known:
    begun = {task.id: _begun(task, facts.get(task.id)) for task in cards.tasks.values()}
    gates: dict[TaskId, BatchId] = {}
    closed: BatchId | None = None
    for batch in plan.batches if plan.barrier else ():
        if closed is not None:
            gates.update(dict.fromkeys(batch.tasks, closed))
        if any(begun[task] not in _OVER for task in batch.tasks):
            closed = batch.id
    holders: defaultdict[TaskId, list[TaskId]] = defaultdict(list)
    for gap in gaps:
        for task in gap.affects:
            if gap.task not in holders[task]:
                holders[task].append(gap.task)
    landed = frozenset(point for point in cards.merge_points if _landed(facts.get(point)))
    return _Known(cards, graph, facts, begun, landed, gates, dict(holders))


def _begun(task: Task, fact: Fact | None) -> State | None:
    """The state of a task that is over or at work; None where it has yet to start."""
    if task.cancelled is not None:
        return State.CANCELLED
    if fact is None:
        return None
    if fact.misplaced or fact.verdict is Verdict.UNPROVEN:
        return State.UNPROVEN
    if fact.verdict is Verdict.STALE:
        return State.STALE
    if fact.tracking.status is Status.DONE:  # never without evidence
        return State.UNPROVEN if fact.verdict is Verdict.NONE else State.DONE
    return {Status.ACTIVE: State.ACTIVE, Status.FAILED: State.FAILED}.get(fact.tracking.status)


def _landed(fact: Fact | None) -> bool:
    """Whether a merge point is done; one that went stale stays so."""
    return (
        fact is not None
        and not fact.misplaced
        and fact.tracking.status is Status.DONE
        and fact.verdict not in (Verdict.NONE, Verdict.UNPROVEN)
    )


def _open_gaps(
    cards: Cards, facts: Mapping[str, Fact], tasks: Sequence[Task]
) -> tuple[OpenGap, ...]:
    """The gaps that are neither resolved nor answered by a changed spec of all that they name.

    One that names nobody holds nobody, and is open until it is resolved.
    """
    found = []
    for author in tasks:
        for gap in facts[author.id].tracking.spec_gaps if author.id in facts else ():
            named = sorted((TaskId(t) for t in gap.affects if t in cards.tasks), key=natural)
            affects = tuple(
                t
                for t in named
                if cards.tasks[t].cancelled is None and cards.digest(t) == gap.affects[t]
            )
            if not gap.resolved and (affects or not named):
                found.append(OpenGap(author.id, gap.text, affects))
    return tuple(found)


def _task_view(
    known: _Known, task: Task, critical: bool, slack: int | None, behind: int
) -> TaskView:
    state = known.begun[task.id]
    blocked_on: tuple[Blocker, ...] = ()
    if state is None:
        holders = known.holders.get(task.id, ())
        blocked_on = (*(Blocker("gap", holder) for holder in holders), *_unmet(known, task))
        state = State.HELD if holders else State.BLOCKED if blocked_on else State.RUNNABLE
    flags: tuple[str, ...] = ()
    reason = ""
    fact = known.facts.get(task.id)
    if fact is not None and state is State.UNPROVEN:
        flags = ("misplaced",) if fact.misplaced else ()
        reason = fact.reason
    elif fact is not None and state is State.STALE:
        reason = fact.reason
    elif fact is not None and state is State.DONE:
        flags = ("unchecked",) if fact.verdict is Verdict.UNCHECKED else ()
    return TaskView(task.id, state, flags, reason, blocked_on, critical, slack, behind)


def _unmet(known: _Known, task: Task) -> list[Blocker]:
    """What a task needs that is not done: tasks, merge points, the batches before its own.

    An id that names nothing is never done: a card that cannot be read unblocks nobody.
    """
    graph = known.graph
    needs = [graph.nodes[n] for n in graph.needed[graph.number[task.id]]]
    if unknown := [node for node in task.depends_on if node not in graph.number]:
        needs = sorted({*needs, *unknown}, key=natural)
    tasks, points = [], []
    for need in needs:
        if need not in known.cards.merge_points:
            if known.begun.get(TaskId(need)) is not State.DONE:
                tasks.append(Blocker("task", need))
        elif need not in known.landed:
            points.append(Blocker("merge_point", need))
    gate = known.gates.get(task.id)
    return [*tasks, *points, *([] if gate is None else [Blocker("batch", gate)])]


def _point_view(known: _Known, point: MergePoint) -> PointView:
    fact = known.facts.get(point.id)
    commit = fact.commit if fact else None
    if point.id in known.landed:
        return PointView(point.id, PointState.DONE, (), commit)
    required = sorted(set(point.requires), key=natural)
    waits = tuple(Blocker("task", t) for t in required if known.begun.get(t) is not State.DONE)
    state = PointState.BLOCKED if waits else PointState.READY
    if fact and fact.reverted:
        state = PointState.REVERTED
    return PointView(point.id, state, waits, commit, fact.reason if fact else "")


def _batch_view(known: _Known, batch: Batch, views: Mapping[TaskId, TaskView]) -> BatchView:
    states = Counter(views[task].state for task in batch.tasks)
    waits: tuple[Blocker, ...] = ()
    if _OVER.issuperset(states):
        state = BatchState.DONE
    elif states[State.ACTIVE] or states[State.FAILED]:
        state = BatchState.ACTIVE
    elif states[State.RUNNABLE]:
        state = BatchState.RUNNABLE
    else:
        state = BatchState.BLOCKED
        waits = _batch_waits(known, batch, views)
    return BatchView(
        batch.id, state, states[State.DONE], states[State.FAILED], len(batch.tasks), waits
    )


def _batch_waits(
    known: _Known, batch: Batch, views: Mapping[TaskId, TaskView]
) -> tuple[Blocker, ...]:
    """What a batch waits for as a whole; else what holds up any task of it, from outside of it."""
    left = [views[task] for task in batch.tasks if views[task].state not in _OVER]
    gate = known.gates.get(left[0].id)
    common = set.intersection(*(set(known.graph.needs(view.id)) for view in left))
    closed = common.intersection(known.cards.merge_points) - known.landed
    whole = [
        *([] if gate is None else [Blocker("batch", gate)]),
        *(Blocker("merge_point", point) for point in sorted(closed, key=natural)),
    ]
    if whole:
        return tuple(whole)
    waits = {blocker for view in left for blocker in view.blocked_on}
    waits |= {Blocker("task", view.id) for view in left if view.state is State.UNPROVEN}
    waiting = {view.id for view in left if view.state in (State.BLOCKED, State.HELD)}
    kinds = ("batch", "merge_point", "task", "gap")
    return tuple(
        sorted(
            (b for b in waits if b.kind != "task" or b.id not in waiting),
            key=lambda b: (kinds.index(b.kind), natural(b.id)),
        )
    )


def _worktrees(
    cards: Cards, views: Mapping[TaskId, TaskView], paths: Mapping[str, str]
) -> tuple[WorktreeView, ...]:
    workstreams: defaultdict[Branch, list[WorkstreamId]] = defaultdict(list)
    for workstream in sorted(cards.workstreams.values(), key=lambda w: natural(w.id)):
        workstreams[workstream.branch].append(workstream.id)
    tasks: defaultdict[Branch, list[TaskId]] = defaultdict(list)
    for view in views.values():
        if view.state is not State.CANCELLED:
            tasks[cards.branch_of(view.id)].append(view.id)
    found = []
    for branch in sorted({*workstreams, *tasks}, key=natural):
        at_work = [t for t in tasks[branch] if views[t].state is State.ACTIVE]
        failed = [t for t in tasks[branch] if views[t].state is State.FAILED]
        found.append(
            WorktreeView(
                branch,
                tuple(workstreams[branch]),
                tuple(tasks[branch]),
                next(iter(at_work + failed), None),
                paths.get(branch),
            )
        )
    return tuple(found)


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
        if where == batch and now.tasks[task].state in moving
    )
