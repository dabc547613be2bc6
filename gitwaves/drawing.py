"""What a picture of a plan shows, and where: nodes in columns and lanes. Pure.

`picture` makes it, `drawing_formats` writes it down. Time runs along the columns: a wave each, and
after the last wave of a batch its merge points. A lane is a worktree, which a wave holds at most
one task of: so every node has a place of its own. Arrows run as time does, from what is needed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from gitwaves.errors import UsageError
from gitwaves.graph import Graph, graph_of
from gitwaves.layout import fit, oneline
from gitwaves.model import BatchId, Branch, Progress, State, TaskId, WorkstreamId, natural
from gitwaves.record import Record
from gitwaves.words import closing_batch, done_of, opening, points, require_node, unlocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FOLDS = ("workstream", "batch", "none")
FOLD_BEYOND = 100  # nodes: what can still be taken in, and well below the limits of the forges


class Node(Record):
    """A task, a merge point, or all that was folded into one; `state` is a word to colour by."""

    id: str
    kind: str  # task, merge_point, batch, workstream
    title: str
    state: str
    critical: bool
    column: int
    lane: int
    tasks: tuple[TaskId, ...] = ()  # what it stands for
    note: str = ""


class Edge(Record):
    """`to` needs `from_`; `count` is how many needs were folded into one."""

    from_: str
    to: str
    critical: bool
    count: int = 1


class Group(Record):
    """A batch, drawn around its nodes."""

    id: str
    state: str
    nodes: tuple[str, ...]


class Picture(Record):
    """Everything that is drawn. `columns` and `lanes` are their headings, by number."""

    title: str
    fold: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    groups: tuple[Group, ...]
    columns: tuple[str, ...]
    lanes: tuple[str, ...]
    left_out: int = 0  # cancelled tasks, which are in no wave


def picture(progress: Progress, focus: str | None = None, fold: str | None = None) -> Picture:
    """The picture of a plan, or only of what `focus` needs and of what needs it.

    Args:
        fold: one of `FOLDS`; without it the plan is folded when it has more than `FOLD_BEYOND`
            nodes, by whatever gives fewer.

    Raises:
        CycleError: the plan cannot be put in order.
        UsageError: nothing is called `focus`, or `fold` is none of `FOLDS`.
    """
    if fold is not None and fold not in FOLDS:
        raise UsageError(f"no such fold: {fold!r}", f"one of {', '.join(FOLDS)}")
    graph = graph_of(progress.cards)
    shown = _around(progress, graph, focus) if focus is not None else set(graph.nodes)
    left_out = {t for t in progress.tasks if t in shown and t not in progress.schedule.wave_of}
    shown -= {str(task) for task in left_out}
    if fold is None:
        folders = progress.cards.folders
        streams = {folders[TaskId(n)] for n in shown if _is_task(progress, n)}
        fewer = "workstream" if len(streams) < len(progress.batches) else "batch"
        fold = fewer if len(shown) > FOLD_BEYOND else "none"
    drawn = {"none": _whole, "batch": _by_batch, "workstream": _by_workstream}[fold]
    return drawn(progress, graph, frozenset(shown), len(left_out))


def picture_json(drawn: Picture) -> dict[str, Any]:
    """The picture as `schemas/graph.schema.json` documents it."""
    return {
        "version": 1,
        "title": drawn.title,
        "fold": drawn.fold,
        "nodes": [
            {key: getattr(node, key) for key in ("id", "kind", "title", "state", "critical")}
            | {"column": node.column, "lane": node.lane, "tasks": list(node.tasks)}
            for node in drawn.nodes
        ],
        "edges": [
            {"from": edge.from_, "to": edge.to, "critical": edge.critical, "needs": edge.count}
            for edge in drawn.edges
        ],
        "groups": [
            {"id": group.id, "state": group.state, "nodes": list(group.nodes)}
            for group in drawn.groups
        ],
        "columns": list(drawn.columns),
        "lanes": list(drawn.lanes),
    }


def _is_task(progress: Progress, node: str) -> bool:
    return node in progress.tasks


def _around(progress: Progress, graph: Graph, focus: str) -> set[str]:
    """A task, a merge point or the tasks of a batch, with all they need and all that needs them."""
    node = require_node(progress, focus)
    inner: set[str] = {node}
    if node not in progress.tasks and node not in progress.merge_points:
        batch = next(b for b in progress.schedule.batches if b.id == node)
        inner = {str(task) for task in batch.tasks}
    seen = set(inner)
    stack = list(inner)
    while stack:
        fresh = [n for n in graph.dependents(stack.pop()) if n not in seen]
        seen.update(fresh)
        stack.extend(fresh)
    return seen | graph.closure(inner)


# --- the whole plan ---


def _whole(progress: Progress, graph: Graph, shown: frozenset[str], left_out: int) -> Picture:
    cards, schedule = progress.cards, progress.schedule
    streams: defaultdict[Branch, list[WorkstreamId]] = defaultdict(list)
    for view in progress.worktrees:
        if any(task in shown for task in view.tasks):
            used = {cards.folders[task] for task in view.tasks if task in shown}
            streams[view.branch] = sorted(used, key=natural)
    lane = {branch: n for n, branch in enumerate(streams)}
    columns: list[str] = []
    nodes: list[Node] = []
    groups: list[Group] = []
    closing = _closing(progress, shown)
    states = {view.id: str(view.state) for view in progress.batches}
    for batch in schedule.batches:
        inside: list[str] = []
        for number, wave in enumerate(batch.waves, 1):
            here = [task for task in wave if task in shown]
            for task in here:
                where = lane[cards.branch_of(task)]
                nodes.append(_task(progress, task, len(columns), where))
                inside.append(task)
            if here:
                columns.append(f"wave {number}" if len(batch.waves) > 1 else "")
        if inside:
            groups.append(Group(batch.id, states[batch.id], tuple(inside)))
        _add_points(progress, closing.get(batch.id, []), nodes, columns)
    _add_points(progress, closing.get(None, []), nodes, columns)
    return Picture(
        title=oneline(cards.config.title),
        fold="none",
        nodes=tuple(nodes),
        edges=_edges(progress, graph, {n: n for n in shown}),
        groups=tuple(groups),
        columns=tuple(columns),
        lanes=tuple("+".join(names) for names in streams.values()),
        left_out=left_out,
    )


def _task(progress: Progress, task: TaskId, column: int, lane: int) -> Node:
    view = progress.tasks[task]
    title = oneline(progress.cards.tasks[task].title)
    return Node(task, "task", title, str(view.state), view.critical, column, lane, (task,))


def _closing(progress: Progress, shown: frozenset[str]) -> dict[BatchId | None, list[str]]:
    """The merge points that are shown, by the batch after which they can land."""
    last = closing_batch(progress)
    found: defaultdict[BatchId | None, list[str]] = defaultdict(list)
    for view in points(progress):
        if view.id in shown:
            found[last.get(view.id)].append(view.id)
    return found


def _add_points(
    progress: Progress, names: Sequence[str], nodes: list[Node], columns: list[str]
) -> None:
    """Puts merge points in one column of their own, each near the tasks that it lands."""
    if not names:
        return
    lane_of = {node.id: node.lane for node in nodes}
    taken: set[int] = set()
    critical = frozenset(progress.critical_path.ids)
    opened = unlocks(progress)
    for view in points(progress):
        if view.id not in names:
            continue
        card = progress.cards.merge_points[view.id]
        lanes = sorted(lane_of[task] for task in card.requires if task in lane_of) or [0]
        lane = lanes[len(lanes) // 2]
        while lane in taken:
            lane += 1
        taken.add(lane)
        note = " + ".join(sorted(card.requires, key=natural))
        if opened[view.id]:
            note += " -> " + fit(opening(progress, opened[view.id]), 40, sep=", ")
        nodes.append(
            Node(
                view.id,
                "merge_point",
                oneline(card.title),
                str(view.state),
                view.id in critical,
                len(columns),
                lane,
                tuple(card.requires),
                note,
            )
        )
    if taken:
        columns.append("")


def _edges(progress: Progress, graph: Graph, home: Mapping[str, str]) -> tuple[Edge, ...]:
    """What needs what, between the nodes that `home` maps tasks and merge points to."""
    path = progress.critical_path.ids
    critical = {(home.get(a), home.get(b)) for a, b in pairwise(path)}
    counted = Counter(
        (home[need], home[node])
        for node in graph.nodes
        if node in home
        for need in graph.needs(node)
        if need in home and home[need] != home[node]
    )
    return tuple(Edge(a, b, (a, b) in critical, count) for (a, b), count in counted.items())


# --- folded ---


def _by_batch(progress: Progress, graph: Graph, shown: frozenset[str], left_out: int) -> Picture:
    closing = _closing(progress, shown)
    states = {view.id: str(view.state) for view in progress.batches}
    home = {p: p for p in progress.merge_points if p in shown}
    folded: dict[str, str] = {str(p): str(p) for p in home}
    nodes: list[Node] = []
    columns: list[str] = []
    chain: list[str] = []
    for batch in progress.schedule.batches:
        inside = tuple(task for task in batch.tasks if task in shown)
        if inside:
            name = f"Batch {batch.id}"  # no id has a blank, so it is nobody else's
            folded |= dict.fromkeys(inside, name)
            nodes.append(
                _folded(progress, name, "batch", "", states[batch.id], inside, (len(columns), 0))
            )
            columns.append("")
            chain.append(name)
        _add_points(progress, closing.get(batch.id, []), nodes, columns)
    _add_points(progress, closing.get(None, []), nodes, columns)
    edges = _edges(progress, graph, folded)
    if progress.schedule.barrier:  # one batch waits for the one before it, whatever they need
        there = {(edge.from_, edge.to) for edge in edges}
        follow = pairwise(chain)
        edges += tuple(Edge(a, b, False, 0) for a, b in follow if (a, b) not in there)
    return Picture(
        oneline(progress.cards.config.title),
        "batch", tuple(nodes), edges, (), tuple(columns), _numbered(nodes), left_out,
    )  # fmt: skip


def _by_workstream(
    progress: Progress, graph: Graph, shown: frozenset[str], left_out: int
) -> Picture:
    cards, schedule = progress.cards, progress.schedule
    place = {batch.id: k for k, batch in enumerate(schedule.batches)}
    members: defaultdict[WorkstreamId, list[TaskId]] = defaultdict(list)
    for task in sorted(schedule.wave_of, key=natural):
        if task in shown:
            members[cards.folders[task]].append(task)
    first = {name: min(place[schedule.batch_of[t]] for t in ts) for name, ts in members.items()}
    folded: dict[str, str] = {str(p): str(p) for p in progress.merge_points if p in shown}
    nodes: list[Node] = []
    columns: list[str] = []
    closing = _closing(progress, shown)
    for k, batch in enumerate(schedule.batches):
        here = sorted((name for name, where in first.items() if where == k), key=natural)
        for lane, name in enumerate(here):
            # beside a merge point of the same name nothing could be told apart
            shown_as = name if name not in folded else f"{name} (workstream)"
            folded |= dict.fromkeys(members[name], shown_as)
            title = oneline(cards.workstream_of(members[name][0]).title)
            state = _state_of(progress, members[name])
            nodes.append(
                _folded(
                    progress, shown_as, "workstream", title if title != name else "", state,
                    tuple(members[name]), (len(columns), lane),
                )
            )  # fmt: skip
        if here:
            columns.append("")
        _add_points(progress, closing.get(batch.id, []), nodes, columns)
    _add_points(progress, closing.get(None, []), nodes, columns)
    return Picture(
        oneline(cards.config.title),
        "workstream", tuple(nodes), _edges(progress, graph, folded), (), tuple(columns),
        _numbered(nodes), left_out,
    )  # fmt: skip


def _numbered(nodes: Iterable[Node]) -> tuple[str, ...]:
    return ("",) * (max((node.lane for node in nodes), default=-1) + 1)


def _folded(
    progress: Progress,
    name: str,
    kind: str,
    title: str,
    state: str,
    tasks: tuple[TaskId, ...],
    place: tuple[int, int],
) -> Node:
    critical = not set(progress.critical_path.ids).isdisjoint(tasks)
    note = f"{done_of(progress, tasks)} done"
    return Node(name, kind, title, state, critical, *place, tasks, note)


def _state_of(progress: Progress, tasks: Iterable[TaskId]) -> str:
    """The state that stands for many: the first of these that any of them is in."""
    states = {progress.states[task] for task in tasks}
    order = (
        *(State.FAILED, State.UNPROVEN, State.ACTIVE, State.STALE),
        *(State.HELD, State.RUNNABLE, State.BLOCKED, State.DONE),
    )
    return str(next((state for state in order if state in states), State.DONE))
