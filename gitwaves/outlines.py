"""The outline of a plan in plain values: all of it that can be had without opening a card.

The rows of the cards lie in a file beside it, or inside it, and each is looked up when somebody asks for it.
Where a few cards changed, the outline is the one before with other rows, and put in order anew where they say
so: without opening the others. `shelf` keeps all of it.
"""

from __future__ import annotations

import contextlib
import marshal
import os
from binascii import crc32
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from gitwaves.batches import Columns, columns_of, schedule
from gitwaves.cards import WORKSTREAM_FILE, Card, is_card, point_path, read_card, task_path
from gitwaves.errors import CycleError
from gitwaves.graph import Graph, graph_of, needs_of
from gitwaves.model import (
    CONFIG_PATH,
    Batch,
    Cards,
    Lazy,
    MergePoint,
    Oid,
    PointId,
    Schedule,
    Task,
    TaskId,
    Tracking,
    Workstream,
    WorkstreamId,
)
from gitwaves.plainrows import plain_row
from gitwaves.record import NamedTuple, replace
from gitwaves.rows import (
    Row,
    card_of,
    config_of,
    finding_of,
    plain,
    row_of,
    slim_of,
    spec_of,
    spec_row,
)

_MANY = 1_000  # cards that are opened one by one
Read = Callable[[str], bytes]  # gives the content of a file
Where = bytes | tuple[int, int]  # a row by itself, or its start and length in the file of rows


class Rows:
    """An open file of rows; it stays readable when its name goes."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def held(self, where: Where) -> bytes:
        """The bytes of one row, by themselves or by their place; fewer where they are not there."""
        if isinstance(where, bytes):
            return where
        start, length = where
        try:
            return os.pread(self._file, length, start)
        except OSError:
            return b""


def _sealed(row: Row) -> bytes:
    data = marshal.dumps(row)
    return crc32(data).to_bytes(4, "big") + data


def _unsealed(data: bytes) -> Row | None:
    """The row that was sealed; None where that is not what it was any more."""
    if len(data) > 4 and crc32(data[4:]) == int.from_bytes(data[:4], "big"):
        row: Row = marshal.loads(data[4:])
        return row
    return None


def taken_down(path: str, data: bytes) -> tuple[Row, bytes]:
    """What an outline needs of a card, and its row."""
    made = plain_row(data, path)
    if made is not None:
        return made[0], _sealed(made[1])
    card = read_card(data, path)
    return slim_of(card), _sealed(row_of(card))


# --- cards that are opened when they are asked for -------------------------------------------------


def put_in_order(outline: Cards) -> None:
    """Finds out what no card has to be opened for, then or later."""
    graph = graph_of(outline)
    with contextlib.suppress(CycleError):
        schedule(outline, graph)
    columns_of(outline, graph)


def opening(
    cards: Cards,
    folders: Mapping[TaskId, WorkstreamId],
    began: Mapping[str, bool],
    row: Callable[[str], bytes],
    read: Read,
) -> Cards:
    """`cards`, with the tasks in `folders` and all tracking read from their rows when asked for.

    `began` tells which tracking halves there are, and which say more than that nothing has begun.
    """
    points = cards.merge_points

    @lru_cache(maxsize=200)
    def card(node: str) -> Card:
        where = folders.get(TaskId(node))
        path = points[PointId(node)].path if where is None else task_path(where, node)
        found = _unsealed(row(path))
        return read_card(read(path), path) if found is None else card_of(found)

    def task(node: TaskId) -> Task:
        spec = card(node).spec
        assert isinstance(spec, Task)
        return spec

    def tracking(node: str) -> Tracking:
        return (card(node).tracking if began[node] else None) or Tracking(node)

    opened = replace(cards, tasks=Lazy(folders, task), tracking=Lazy(began, tracking))
    opened.__dict__["folders"] = folders
    opened.memo["began"] = began
    return opened


def outline_of(cards: Cards, at: Mapping[str, tuple[int, int]]) -> Row:
    """All of `cards` that can be had without opening one, in plain values."""
    graph = graph_of(cards)
    ids = [TaskId(graph.nodes[n]) for n in columns_of(cards, graph).tasks]
    spans = [at[cards.path_of(task)] for task in ids]
    points = [(spec_row(p), at[p.path]) for p in cards.merge_points.values()]
    return (
        plain(cards.config),
        [plain(stream) for stream in cards.workstreams.values()],
        points,
        [plain(f) for f in cards.findings],
        (ids, [cards.folders[task] for task in ids], spans),
        cards.memo["began"],
        dict(cards.by_branch),
        _order_of(cards),
    )


def _order_of(cards: Cards) -> Row:
    """What `put_in_order` found out, in plain values."""
    graph = graph_of(cards)
    plan: Schedule | None = cards.memo.get("schedule")  # a plan with a cycle has none
    columns = columns_of(cards, graph)
    return (
        (graph.nodes, graph.needed, graph.dependent, graph.in_order),
        plan and ([(b.id, b.waves) for b in plan.batches], plan.barrier, plan.authored),
        (
            *(columns.tasks, tuple(columns.cancelled), columns.estimates, columns.batches),
            dict(columns.unknown),
        ),
    )


def cards_of(said: Row, rows: Rows, read: Read) -> Cards:
    """The cards that `outline_of` was given."""
    config, streams, points, findings, tasks, began, branches, order = said
    ids, folders, spans = tasks
    at = dict(zip(ids, spans, strict=True))
    merges = {}
    for row, span in points:
        point = spec_of(row, is_task=False)
        assert isinstance(point, MergePoint)
        merges[point.id] = point
        at[point.id] = span
    outline = Cards(
        config_of(config),
        {row[0]: Workstream(*row) for row in streams},
        merge_points=merges,
        findings=tuple([finding_of(f) for f in findings]),
    )
    cards = opening(
        outline,
        dict(zip(ids, folders, strict=True)),
        began,
        lambda path: rows.held(at[_node_at(path)]),
        read,
    )
    cards.__dict__["by_branch"] = branches
    graph, plan, (numbers, cancelled, *more) = order
    cards.memo["graph"] = Graph.again(*graph)
    if plan is not None:
        batches = tuple([Batch(*batch) for batch in plan[0]])
        cards.memo["schedule"] = Schedule(batches, plan[1], plan[2])
    cards.memo["columns"] = Columns(numbers, frozenset(cancelled), *more)
    return cards


def _node_at(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".yaml")


# --- a few cards changed ---------------------------------------------------------------------------

_Changes = dict[str, tuple[Row, bytes]]  # what cards are read as now, by id: see `taken_down`


def amended(
    outline: Row, rows: Rows, files: Mapping[str, Oid], read: Read
) -> tuple[Row, Cards, _Changes] | None:
    """The outline and the cards of a plan in which some files changed, and what these are read as.

    None where it takes more than other rows and another order: where a card is of another task, say,
    or more or less is wrong with it. What the outline says of the order is not new: see `renewed`.
    """
    found = _changes_of(outline, rows, files, read)
    if found is None:
        return None
    changes, others = found
    outline = _with_rows(outline, changes)
    cards = cards_of(outline, rows, read)
    if others is not None and not _reorder(cards, others):
        return None
    return outline, cards, changes


def renewed(outline: Row, cards: Cards) -> Row:
    """The outline with the order that its cards have now."""
    put_in_order(cards)
    return (*outline[:-1], _order_of(cards))


def amendments(outline: Row) -> int:
    """How many rows lie in the outline itself."""
    spans = [span for _, span in outline[2]] + outline[4][2]
    return sum([isinstance(span, bytes) for span in spans])


class _Reordered(NamedTuple):
    """The cards from which another order follows."""

    ids: set[str]
    freed: set[str]  # names that a merge point began or ceased to unlock


def _changes_of(
    outline: Row, rows: Rows, files: Mapping[str, Oid], read: Read
) -> tuple[_Changes, _Reordered | None] | None:
    points, (ids, folders, spans) = outline[2], outline[4]
    wanted = {_node_at(path) for path in files}
    at = {path: span for row, span in points if (path := point_path(row[0])) in files}
    for node, folder, span in zip(ids, folders, spans, strict=True):
        if node in wanted:
            at[task_path(folder, node)] = span
    changes: _Changes = {}
    others = _Reordered(set(), set())
    for path in files:
        if is_card(path):
            held = _unsealed(rows.held(at[path])) if path in at else None
            if held is None:
                return None
            made = taken_down(path, read(path))
            was, now = _weighed(slim_of(card_of(held))), _weighed(made[0])
            if was.stays != now.stays:
                return None
            node = _node_at(path)
            changes[node] = made
            if was.order != now.order:
                others.ids.add(node)
                others.freed.update(was.frees ^ now.frees)
        elif path == CONFIG_PATH or path.endswith(f"/{WORKSTREAM_FILE}"):
            return None
    return changes, others if others.ids else None


class _Weight(NamedTuple):
    """What follows from a card in an outline besides its own row there."""

    stays: Row  # where this changes, all is read anew
    order: Row  # where this does, the plan is put in another order
    frees: frozenset[str]


def _weighed(slim: Row) -> _Weight:
    is_task, said, began, findings = slim
    order: Row = ()
    frees: frozenset[str] = frozenset()
    if said is not None and is_task:
        said, order = said[:2], said[2:]
    elif said is not None:
        point = spec_of(said, is_task=False)
        assert isinstance(point, MergePoint)
        said, order = (point.id,), (point.requires, point.unlocks)
        frees = frozenset(point.unlocks)
    return _Weight((is_task, said, began is None, findings), order, frees)


def _with_rows(outline: Row, changes: _Changes) -> Row:
    """The outline with other rows for some cards."""
    config, streams, points, findings, (ids, folders, spans), began, *rest = outline
    for node, (slim, _) in changes.items():
        if slim[2] is not None:
            began[node] = slim[2]
    points = [
        (changes[row[0]][0][1], changes[row[0]][1]) if row[0] in changes else (row, span)
        for row, span in points
    ]
    spans = [
        changes[node][1] if node in changes else span for node, span in zip(ids, spans, strict=True)
    ]
    return (config, streams, points, findings, (ids, folders, spans), began, *rest)


def _reorder(cards: Cards, others: _Reordered) -> bool:
    """Finds out graph and columns anew; False where that takes as long as reading all cards."""
    graph = graph_of(cards)
    columns = columns_of(cards, graph)
    ids = set(others.ids)
    if others.freed:
        batches = zip(graph.nodes, columns.batches, strict=True)
        ids |= {node for node, batch in batches if not others.freed.isdisjoint((node, batch))}
    if len(ids) > _MANY:
        return False
    tasks = [cards.tasks[TaskId(node)] for node in ids if node in cards.tasks]
    specs: list[Task | MergePoint] = [p for p in cards.merge_points.values() if p.id in ids]
    specs += tasks
    needs = needs_of(cards)
    cards.memo["graph"] = graph.with_needs({spec.id: needs(spec) for spec in specs})
    cards.memo["columns"] = columns.with_tasks(cards, graph, tasks)
    cards.memo.pop("schedule", None)
    return True
