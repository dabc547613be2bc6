"""The words for what a plan stands at: used by every text that is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gitwaves.batches import columns_of
from gitwaves.errors import UsageError
from gitwaves.graph import graph_of
from gitwaves.layout import fit, oneline
from gitwaves.model import (
    BatchId,
    Blocker,
    PointId,
    PointState,
    PointView,
    Progress,
    State,
    TaskId,
    Workstream,
    closest,
    natural,
)
from gitwaves.plan import NOT_LEFT

OVER = frozenset({State.DONE, State.CANCELLED})  # nothing of it is left to do
MARKS = {State.ACTIVE: "*", State.FAILED: "!", State.STALE: "~", State.UNPROVEN: "?"}


def mark(progress: Progress, task: TaskId) -> str:
    """A task's id with the mark of its state: `A7*`, `F4!`, `A3~`, `A4?`, `B7(held)`."""
    state = progress.states[task]
    return task + ("(held)" if state is State.HELD else MARKS.get(state, ""))


def name_of(blocker: Blocker) -> str:
    """What is waited for, in words.

    >>> name_of(Blocker("batch", "8")), name_of(Blocker("merge_point", "MP4"))
    ('Batch 8', 'MP4')
    """
    return {"batch": "Batch ", "gap": "spec gap of "}.get(blocker.kind, "") + blocker.id


def on(blockers: Sequence[Blocker], width: int) -> str:
    """All that is waited for, what holds up most first, as much as fits.

    >>> on([Blocker("gap", "A3"), Blocker("merge_point", "MP4"), Blocker("batch", "8")], 80)
    'Batch 8 + MP4 + spec gap of A3'
    """
    rank = {"batch": 0, "merge_point": 1, "task": 2}
    ordered = sorted(blockers, key=lambda blocker: rank.get(blocker.kind, 3))
    return fit([name_of(blocker) for blocker in ordered], width, sep=" + ")


def unlocks(progress: Progress) -> dict[PointId, tuple[str, ...]]:
    """What each merge point unlocks, whichever side states it: names of whole batches, then tasks.

    A task of a batch that is named is not named again.
    """
    tasks, graph = progress.cards.tasks, graph_of(progress.cards)
    batch_of = columns_of(progress.cards, graph).batches  # no task is opened to ask for it
    opened = {}
    for point, card in progress.cards.merge_points.items():
        batches = tuple(name for name in card.unlocks if name not in tasks)
        named = (n for n in graph.dependent[graph.number[point]] if graph.nodes[n] in tasks)
        others = (TaskId(graph.nodes[n]) for n in named if batch_of[n] not in batches)
        opened[point] = (*batches, *others)
    return opened


def opening(progress: Progress, names: Iterable[str]) -> list[str]:
    """What `unlocks` gave, in words: a batch is called one."""
    return [name if name in progress.cards.tasks else f"Batch {name}" for name in names]


def titled(stream: Workstream) -> str:
    """A workstream with its title, where that says more than its id."""
    return (
        stream.id if stream.title in ("", stream.id) else f"{stream.id} ({oneline(stream.title)})"
    )


def done_of(progress: Progress, tasks: Iterable[TaskId]) -> str:
    """How many of the tasks are done, cancelled ones apart: `6/8`."""
    states = list(map(progress.states.__getitem__, tasks))
    return f"{states.count(State.DONE)}/{len(states) - states.count(State.CANCELLED)}"


def estimate(progress: Progress, task: TaskId) -> int:
    """The estimate of a task in seconds, the plan's default where its card gives none."""
    graph = graph_of(progress.cards)
    return columns_of(progress.cards, graph).estimates[graph.number[task]]


def work_left(progress: Progress) -> int:
    """The sum of the estimates of what is left to do, in seconds."""
    graph = graph_of(progress.cards)
    estimates = columns_of(progress.cards, graph).estimates
    left = (task for task, state in progress.states.items() if state not in NOT_LEFT)
    return sum(estimates[graph.number[task]] for task in left)


def closing_batch(progress: Progress) -> dict[PointId, BatchId]:
    """The merge points in natural order, each with the batch that ends what it waits for."""
    place = {batch.id: i for i, batch in enumerate(progress.schedule.batches)}
    batch_of = progress.schedule.batch_of
    closing = {}
    for view in points(progress):
        requires = progress.cards.merge_points[view.id].requires
        batches = [batch_of[task] for task in requires if task in batch_of]
        if batches:
            closing[view.id] = max(batches, key=place.__getitem__)
    return closing


def in_state(progress: Progress, state: State) -> list[TaskId]:
    """The tasks in `state`, in natural order."""
    if not progress.counts.get(str(state), True):
        return []
    return [task for task, now in progress.states.items() if now is state]


def points(progress: Progress) -> list[PointView]:
    """The merge points in natural order."""
    return [progress.merge_points[point] for point in sorted(progress.merge_points, key=natural)]


def all_done(progress: Progress) -> bool:
    """Whether nothing is left to do (landing apart)."""
    return OVER.issuperset(progress.states.values())


def busy(progress: Progress) -> dict[TaskId, TaskId]:
    """The runnable tasks that cannot start yet, and what their worktree is at work on."""
    at_work = {w.branch: w.task for w in progress.worktrees if w.task is not None}
    branches = {task: progress.cards.branch_of(task) for task in progress.runnable}
    return {task: at_work[b] for task, b in branches.items() if at_work.get(b, task) != task}


def point_words(view: PointView) -> str:
    """How a merge point stands, with the command that moves it on."""
    match view.state:
        case PointState.DONE:
            return "landed"
        case PointState.READY:
            return f"ready: gitwaves merge {view.id}"
        case PointState.REVERTED:
            return f"reverted: gitwaves merge {view.id} --again"
        case PointState.BLOCKED:
            return "waits for " + fit([blocker.id for blocker in view.blocked_on], 40)


def to_land(progress: Progress) -> tuple[str, ...]:
    """What is not on trunk yet, with the commands that land it, once all tasks are done."""
    left = [
        f"{view.id} {point_words(view)}"
        for view in points(progress)
        if view.state is not PointState.DONE
    ]
    if rest := unmerged(progress):
        left.append(f"no merge point takes {fit(rest, 40)}: gitwaves merge --rest")
    return tuple(left)


def unmerged(progress: Progress) -> list[TaskId]:
    """The done tasks that are not on trunk and that no open merge point takes there."""
    graph = graph_of(progress.cards)
    waiting = [view.id for view in points(progress) if view.state is not PointState.DONE]
    taken = graph.closure(point for point in waiting if point in graph.number)
    here = [task for task in in_state(progress, State.DONE) if task not in taken]
    return [task for task in here if task in progress.facts and not progress.facts[task].landed]


def why_idle(progress: Progress) -> tuple[str, ...]:
    """Why nothing is runnable: what is at work, and what has to be done by hand. One reason each.

    Empty where there are runnable tasks.
    """
    if progress.runnable:
        return ()
    if not progress.tasks:
        return ("there are no tasks yet: gitwaves import DOC",)
    if all_done(progress):
        return ("everything is done", *to_land(progress))
    ready = [view for view in points(progress) if view.state is PointState.READY]
    reasons = [f"{view.id} {point_words(view)}" for view in ready]
    for state, say in (
        (State.ACTIVE, "at work: {}"),
        (State.FAILED, "failed: {}"),
        (State.UNPROVEN, "no evidence that holds: {}"),
        (State.STALE, "to be verified again: {}"),
    ):
        if tasks := in_state(progress, state):
            reasons.append(say.format(fit(tasks, 40)))
    reasons += [
        f"spec gap of {gap.task} holds {fit(gap.affects, 40)}"
        for gap in progress.gaps
        if gap.affects
    ]
    return tuple(reasons) or ("what is left waits for tasks that were cancelled: gitwaves check",)


def next_command(progress: Progress) -> str | None:
    """The command that moves the plan on from here, if there is one to give."""
    for view in points(progress):
        if view.state is PointState.READY:
            return f"gitwaves merge {view.id}"
    waiting = busy(progress)
    for task in progress.runnable:
        if task not in waiting:
            return f"gitwaves start {task}"
    for state, command in (
        (State.UNPROVEN, "verify"),
        (State.STALE, "verify"),
        (State.FAILED, "show"),
    ):
        for task in in_state(progress, state):
            return f"gitwaves {command} {task}"
    for gap in progress.gaps:
        if gap.affects:
            return f"gitwaves gap {gap.task} --resolve"
    return "gitwaves merge --rest" if all_done(progress) and unmerged(progress) else None


def require_node(progress: Progress, name: str) -> TaskId | PointId | BatchId:
    """`name` as the id of a task, a merge point or a batch.

    Raises:
        UsageError: nothing in the plan is called so; hints at what was probably meant.
    """
    batches = [view.id for view in progress.batches]
    known = [*progress.tasks, *progress.merge_points, *batches]
    if name in progress.tasks:
        return TaskId(name)
    if name in progress.merge_points:
        return PointId(name)
    if name in batches:
        return BatchId(name)
    meant = closest(name, known)
    raise UsageError(
        f"no task, merge point or batch is called {oneline(name)!r}",
        f"did you mean {meant}?" if meant else "`gitwaves status` lists them all",
    )
