"""What can be wrong with a plan, beyond what one file says. Pure.

Each rule yields findings: `check_task` those on one task beside its boundary, `check_plan` all others,
and what was wrong inside one file when it was read (`Cards.findings`). A rule that looks at all tasks
looks at graph and columns, and opens a card only to say where something stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise

from gitwaves.batches import batch_order, columns_of
from gitwaves.boundary import Boundary, TooComplicated, overlap, problem
from gitwaves.graph import Graph, graph_of
from gitwaves.model import (
    CONFIG_PATH,
    BatchId,
    Branch,
    Cards,
    Config,
    Finding,
    MergePoint,
    Place,
    PointId,
    Severity,
    Task,
    TaskId,
    Workstream,
    WorkstreamId,
    closest,
    natural,
)
from gitwaves.patterns import regex
from gitwaves.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")
    _Id = TypeVar("_Id", bound=str)

_Card = Task | MergePoint | Workstream | Config
_TOO_COMPLICATED = "too complicated to compare with the boundary; use fewer and shorter patterns"
_REF = regex(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|(^|/)\.|\.lock(/|$)|^[/-]|[/.]$|^@$|^HEAD$")


def check_plan(cards: Cards, files: Collection[str] = ()) -> set[Finding]:
    """What is wrong with a plan besides what `check_task` says; `files` are the tracked ones.

    They serve as examples: where two boundaries meet, it is better to name a file that is there.
    """
    graph = graph_of(cards)
    return {
        *cards.findings,
        *_names(cards, graph),
        *_unknown(cards, graph),
        *_cycles(cards, graph),
        *_later_batches(cards, graph),
        *_unlocked_batches(cards, graph),
        *_cancelled(cards, graph),
        *_batches(cards, graph),
        *_branches(cards),
        *_patterns(cards),
        *_boundaries(cards, files),
        *_workstreams(cards, graph),
        *_not_in_force(cards.config),
        *_landing(cards, graph),
    }


def boundary_of(stream: Workstream, shared: Sequence[str]) -> Boundary:
    """What the tasks of a workstream that states a boundary may change; `shared` is what all may."""
    return Boundary((*stream.paths, *shared))


def check_task(task: Task, boundary: Boundary | None) -> Iterator[Finding]:
    """What is wrong with a task, whatever the others say; `boundary` is its workstream's."""
    yield from _bad_patterns(task, "paths", task.paths)
    if not task.verify and task.cancelled is None:
        message = f"{task.id} has no `verify` steps: it cannot be started"
        yield _warning(task, "verify", message)
    if boundary is None:
        return
    for i, pattern in enumerate(task.paths):
        if problem(pattern):
            continue
        try:
            outside = overlap(Boundary((pattern,)), boundary) is None
        except TooComplicated:
            yield _warning(task, f"paths[{i}]", _TOO_COMPLICATED)
            break  # the next ones would take as long
        if outside:
            message = f"{pattern} lies outside the boundary of {task.workstream}"
            yield _error(task, f"paths[{i}]", message)
    for i, path in enumerate(task.produces):
        if not boundary.covers(path):
            message = f"{path} lies outside the boundary of {task.workstream}"
            yield _warning(task, f"produces[{i}]", message)


def _bad_patterns(card: _Card, key: str, patterns: Sequence[str]) -> Iterator[Finding]:
    for i, pattern in enumerate(patterns):
        if found := problem(pattern):
            yield _error(card, f"{key}[{i}]", f"the pattern {pattern!r}: {found}")


def place(places: Mapping[str, Place], key: str) -> Place:
    """Where `key` stands, or the nearest thing around it that has a place.

    >>> place({"paths": (4, 1)}, "paths[2]"), place({}, "id")
    ((4, 1), (1, 1))
    """
    while key and key not in places:
        key = key[: max(key.rfind("["), key.rfind("."), 0)]
    return places.get(key, (1, 1))


def branch_problem(branch: str) -> str | None:
    """What is wrong with the name of a branch that gitwaves is to work on, or None.

    >>> branch_problem("ws/A"), branch_problem("ws..A")
    (None, 'Git allows no such name')
    """
    if _REF.search(branch) or not branch:
        return "Git allows no such name"
    if branch.startswith("refs/"):
        return "write the short name, without refs/heads/"
    if branch == "gitwaves" or branch.startswith("gitwaves/"):
        return "gitwaves/ is kept for its own branches"
    return None


def _error(card: _Card, key: str, message: str) -> Finding:
    path = CONFIG_PATH if isinstance(card, Config) else card.path
    return Finding(path, *place(card.places, key), Severity.ERROR, message)


def _warning(card: _Card, key: str, message: str) -> Finding:
    path = CONFIG_PATH if isinstance(card, Config) else card.path
    return Finding(path, *place(card.places, key), Severity.WARNING, message)


def _listed(ids: Iterable[str]) -> str:
    """Ids as they are listed in a message.

    >>> _listed(["A10", "A2"])
    'A2, A10'
    """
    return ", ".join(sorted(ids, key=natural))


def _unread(cards: Cards) -> frozenset[str]:
    """What stands in files that could not be read, by the names that those files have."""
    paths = (f.path for f in cards.findings if f.severity is Severity.ERROR)
    return frozenset(path.rpartition("/")[2].removesuffix(".yaml") for path in paths)


def _live(cards: Cards, graph: Graph) -> list[TaskId]:
    """The tasks that are not cancelled, in natural order."""
    columns = columns_of(cards, graph)
    return [TaskId(graph.nodes[n]) for n in columns.tasks if n not in columns.cancelled]


def _in_order(cards: Mapping[_Id, _T]) -> list[_T]:
    return [cards[name] for name in sorted(cards, key=natural)]


# --- ids and needs ---


def _named(cards: Cards, graph: Graph, kind: str, name: str) -> Finding:
    """Where something is given its name: a batch, on the first of its tasks."""
    if kind == "merge point":
        return _error(cards.merge_points[PointId(name)], "id", "")
    if kind == "workstream":
        return _error(cards.workstreams[WorkstreamId(name)], "id", "")
    if kind == "batch":
        first = columns_of(cards, graph).batches.index(BatchId(name))
        return _error(cards.tasks[TaskId(graph.nodes[first])], "batch", "")
    return _error(cards.tasks[TaskId(name)], "id", "")


def _names(cards: Cards, graph: Graph) -> Iterator[Finding]:
    """Ids that are the same, or would be on a file system that knows no case."""
    ids = [
        *(("task", graph.nodes[n]) for n in columns_of(cards, graph).tasks),
        *(("merge point", str(point.id)) for point in _in_order(cards.merge_points)),
        *(("batch", str(name)) for name in batch_order(cards)),
    ]
    folders = [("workstream", str(stream.id)) for stream in _in_order(cards.workstreams)]
    for named in (ids, folders):
        first: dict[str, tuple[str, str]] = {}
        for kind, name in named:
            known = first.setdefault(name.lower(), (kind, name))
            if known != (kind, name):
                other, its_name = known
                here = _named(cards, graph, kind, name)
                there = _named(cards, graph, other, its_name)
                message = (
                    f"the {kind} {name} has the name of the {other} {its_name} "
                    f"({there.path}:{there.line}); names must differ in more than case"
                )
                yield replace(here, message=message)


def _unknown(cards: Cards, graph: Graph) -> Iterator[Finding]:
    """Needs that name nothing, or a thing of the wrong kind."""
    unread = _unread(cards)
    nodes = {*cards.tasks, *cards.merge_points}
    freed = {*cards.tasks, *batch_order(cards)}
    for n in columns_of(cards, graph).unknown:
        task = cards.tasks[TaskId(graph.nodes[n])]
        for i, need in enumerate(task.depends_on):
            key = f"depends_on[{i}]"
            if need in nodes or need in unread:
                continue
            if need in freed:
                yield _error(task, key, f"{task.id} depends on {need}, a batch; name its tasks")
            else:
                yield _error(task, key, f"{task.id} depends on {need}: {_no(need, nodes)}")
    for point in cards.merge_points.values():
        if not point.requires:
            yield _error(point, "requires", f"{point.id} requires no task: it would land nothing")
        for i, need in enumerate(point.requires):
            key = f"requires[{i}]"
            if PointId(need) in cards.merge_points:
                message = f"{point.id} requires {need}, a merge point; name the tasks that it lands"
                yield _error(point, key, message)
            elif need not in cards.tasks and need not in unread:
                yield _error(point, key, f"{point.id} requires {need}: {_no(need, cards.tasks)}")
        for i, name in enumerate(point.unlocks):
            key = f"unlocks[{i}]"
            if name in cards.merge_points:
                message = f"{point.id} unlocks {name}, a merge point; name tasks or batches"
                yield _error(point, key, message)
            elif name not in freed and name not in unread:
                yield _error(point, key, f"{point.id} unlocks {name}: {_no(name, freed)}")


def _no(name: str, known: Iterable[str]) -> str:
    found = closest(name, known)
    return "there is no such id" + (f"; did you mean {found}?" if found else "")


def _cycles(cards: Cards, graph: Graph) -> Iterator[Finding]:
    """One cycle of each knot; one that runs through an unlocked batch is said by its own rule."""
    for cycle in graph.cycles():
        edges = [_stated(cards, node, need) for node, need in pairwise(cycle)]
        if not any(whole_batch for *_, whole_batch in edges):
            card, key, _ = edges[0]
            yield _error(card, key, "dependency cycle: " + " -> ".join(cycle))


def _stated(cards: Cards, node: str, need: str) -> tuple[_Card, str, bool]:
    """Where it is written that `node` needs `need`, and whether only through its batch."""
    if (task := cards.tasks.get(TaskId(node))) is None:
        point = cards.merge_points[PointId(node)]
        return point, f"requires[{point.requires.index(TaskId(need))}]", False
    if need in task.depends_on:
        return task, f"depends_on[{task.depends_on.index(need)}]", False
    point = cards.merge_points[PointId(need)]
    name = node if node in point.unlocks else task.batch or ""
    return point, f"unlocks[{point.unlocks.index(name)}]", name != node


def _cancelled(cards: Cards, graph: Graph) -> Iterator[Finding]:
    cancelled = columns_of(cards, graph).cancelled
    for n in cancelled:
        needed_by = [graph.nodes[other] for other in graph.dependent[n] if other not in cancelled]
        if needed_by:
            task = cards.tasks[TaskId(graph.nodes[n])]
            message = f"{task.id} is cancelled, and still needed by {_listed(needed_by)}"
            yield _error(task, "cancelled", message)


# --- batches ---


def _batches(cards: Cards, graph: Graph) -> Iterator[Finding]:
    columns, live = columns_of(cards, graph), _live(cards, graph)
    without = [task for task in live if columns.batches[graph.number[task]] is None]
    if without and len(without) < len(live):
        message = f"no batch for {_listed(without)}; every task has one, or none has"
        yield _error(cards.tasks[without[0]], "id", message)
    given = set(batch_order(cards))
    for i, name in enumerate(cards.config.batches):
        if name not in given:
            found = closest(name, given)
            hint = f"; did you mean {found}?" if found else ""
            yield _warning(cards.config, f"batches[{i}]", f"no task is in batch {name}{hint}")


def _later_batches(cards: Cards, graph: Graph) -> Iterator[Finding]:
    """Tasks that need something of a later batch, directly or through a merge point.

    Where batches are labels only (`dispatch: dependencies`) that stops nothing: a warning.
    """
    report = _warning if cards.config.dispatch == "dependencies" else _error
    columns = columns_of(cards, graph)
    order: dict[BatchId | None, int] = {name: i for i, name in enumerate(batch_order(cards))}
    position = [order.get(name, -1) for name in columns.batches]  # by number; -1: it is in none
    for n in columns.cancelled:
        position[n] = -1
    number, latest = graph.number, list(position)  # the latest that comes with what is needed
    for point in cards.merge_points.values():
        lands = (position[number[need]] for need in point.requires if need in number)
        latest[number[point.id]] = max(lands, default=-1)

    def later(task: Task, needs: Iterable[str], said: str = "") -> list[str]:
        """What is said of each of the needs that lies in a later batch than a task."""
        own = position[number[task.id]]
        return [
            f"{task.id} of batch {task.batch} needs {need} of the later batch "
            f"{columns.batches[number[need]]}{said}"
            for need in needs
            if need in number and position[number[need]] > own
        ]

    points = cards.merge_points
    for n in columns.tasks:
        own = position[n]
        if own < 0 or all(latest[need] <= own for need in graph.needed[n]):
            continue
        task = cards.tasks[TaskId(graph.nodes[n])]
        for i, need in enumerate(task.depends_on):
            through = points.get(PointId(need))
            what, said = ([need], "") if through is None else (through.requires, f" through {need}")
            for message in later(task, what, said):
                yield report(task, f"depends_on[{i}]", message)
    for point in points.values():
        for i, name in enumerate(point.unlocks):
            freed = cards.tasks.get(TaskId(name))
            if freed is None or position[number[name]] < 0 or point.id in freed.depends_on:
                continue
            for message in later(freed, point.requires, f" through {point.id}"):
                yield report(point, f"unlocks[{i}]", message)


def _unlocked_batches(cards: Cards, graph: Graph) -> Iterator[Finding]:
    """Merge points that unlock a batch which they wait for themselves."""
    order, columns = batch_order(cards), columns_of(cards, graph)
    for point in cards.merge_points.values():
        unlocked = {
            name: i
            for i, name in enumerate(point.unlocks)
            if name not in cards.tasks and name in order
        }
        if not unlocked:
            continue
        batches = {n: columns.batches[graph.number[n]] for n in graph.closure([point.id])}
        for name, i in unlocked.items():
            key = f"unlocks[{i}]"
            own = [node for node, batch in batches.items() if batch == name]
            after = order[order.index(BatchId(name)) + 1 :]
            later = [node for node in point.requires if batches.get(node) in after]
            if own:
                message = f"{point.id} unlocks batch {name}, and needs {_listed(own)} of that batch"
                yield _error(point, key, message)
            elif later:
                report = _warning if cards.config.dispatch == "dependencies" else _error
                message = (
                    f"{point.id} unlocks batch {name}, and needs {_listed(later)} of later ones"
                )
                yield report(point, key, message)


# --- branches and boundaries ---


def _branches(cards: Cards) -> Iterator[Finding]:
    """Branches that cannot be, or cannot be beside another one."""
    trunk = cards.config.trunk
    if found := branch_problem(trunk):
        yield _error(cards.config, "trunk", f"the branch {trunk!r}: {found}")
    seen: dict[Branch, str] = {trunk: "trunk"}
    for workstream in _in_order(cards.workstreams):
        branch = workstream.branch
        if branch == trunk:
            yield _error(workstream, "branch", f"the branch of {workstream.id} is trunk, {trunk}")
        elif found := branch_problem(branch):
            yield _error(workstream, "branch", f"the branch {branch!r}: {found}")
        elif branch not in seen:
            for other, owner in seen.items():
                if why := _branch_clash(branch, other):
                    message = f"the branches {branch} and {other} (of {owner}) {why}"
                    yield _error(workstream, "branch", message)
            seen[branch] = workstream.id


def _branch_clash(a: str, b: str) -> str | None:
    a, b = a.lower(), b.lower()
    if a == b:
        return "differ only in case"
    if a.startswith(f"{b}/") or b.startswith(f"{a}/"):
        return "cannot both be: Git keeps one as a file and needs it as a folder"
    if a.replace("/", "-") == b.replace("/", "-"):
        return "would have their worktrees in the same folder"
    return None


def _patterns(cards: Cards) -> Iterator[Finding]:
    """Patterns of boundaries that cannot be."""
    yield from _bad_patterns(cards.config, "shared_paths", cards.config.shared_paths)
    for stream in cards.workstreams.values():
        yield from _bad_patterns(stream, "paths", stream.paths)


def _boundaries(cards: Cards, files: Collection[str]) -> Iterator[Finding]:
    """Paths that workstreams of different branches both claim."""
    shared = Boundary(cards.config.shared_paths) if cards.config.shared_paths else None
    stated = []
    for workstream in _in_order(cards.workstreams):
        if workstream.paths:
            stated.append((workstream, Boundary(workstream.paths)))
        else:
            message = f"{workstream.id} has no boundary: its tasks may change any file"
            yield _warning(workstream, "paths", message)
    given_up = 0
    for (one, its), (other, others) in combinations(stated, 2):
        if one.branch == other.branch:
            continue
        try:
            path = overlap(its, others, files, shared)
        except TooComplicated:
            yield _warning(other, "paths", f"{other.id} and {one.id}: {_TOO_COMPLICATED}")
            given_up += 1
            if given_up == 3:  # the next ones would take as long
                return
            continue
        if path is not None:
            claims = [i for i, p in enumerate(other.paths) if Boundary((p,)).covers(path)]
            message = (
                f"{other.id} and {one.id} both claim {path}; "
                "narrow one of them, or list it under `shared_paths`"
            )
            yield _error(other, f"paths[{claims[0]}]", message)


# --- tasks and workstreams ---


def _workstreams(cards: Cards, graph: Graph) -> Iterator[Finding]:
    members: dict[WorkstreamId, list[TaskId]] = {name: [] for name in cards.workstreams}
    for n in columns_of(cards, graph).tasks:
        task = TaskId(graph.nodes[n])
        members.setdefault(cards.folders[task], []).append(task)
    unread = {f.path for f in cards.findings if f.severity is Severity.ERROR}
    for name, tasks in members.items():
        workstream = cards.workstreams.get(name)
        if workstream is None:
            path = cards.path_of(tasks[0]).rpartition("/")[0] + "/workstream.yaml"
            if path not in unread:
                message = f"{path} is missing: the workstream of {_listed(tasks)}"
                yield _error(cards.tasks[tasks[0]], "id", message)
        elif not tasks:
            folder = workstream.path.rpartition("/")[0] + "/"
            if not any(path.startswith(folder) for path in unread):
                yield _warning(workstream, "title", f"{name} has no tasks")


def _not_in_force(config: Config) -> Iterator[Finding]:
    """What the configuration asks for and this version does not do: said, never passed over."""
    asked = {
        "merge": (
            config.merge == "pull-request" or None,
            "landing by pull request is not there yet, and `merge` refuses until it is",
        ),
    }
    for key, (value, message) in asked.items():
        if value is not None:
            spot = place(config.places, key)
            yield Finding(CONFIG_PATH, *spot, Severity.WARNING, f"`{key}`: {message}")


def _landing(cards: Cards, graph: Graph) -> Iterator[Finding]:
    """The tasks of each workstream that no merge point takes to trunk; the last of them by name.

    A merge point takes the tasks that it requires and all that those need.
    """
    required = {t for point in cards.merge_points.values() for t in point.requires}
    required &= cards.tasks.keys()
    taken = required | graph.closure(required)
    left: dict[WorkstreamId, list[TaskId]] = {}
    for task in _live(cards, graph):
        if task not in taken:
            left.setdefault(cards.folders[task], []).append(task)
    for name, tasks in left.items():
        ids = {graph.number[task] for task in tasks}
        last = [t for t in tasks if ids.isdisjoint(graph.dependent[graph.number[t]])] or tasks
        message = (
            f"no merge point takes {_listed(last)} of {name} to trunk; "
            "`gitwaves merge --rest` lands it"
        )
        yield _warning(cards.tasks[last[-1]], "id", message)
