"""What can be wrong with a plan as a whole, beyond what one file says. Pure.

Each rule yields findings; `check` collects all of them at once. What is wrong inside one file was
found when it was read (`Cards.findings`), and is not said again here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise

from gitwaves.batches import batch_order
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


def check(cards: Cards, files: Collection[str] = ()) -> tuple[Finding, ...]:
    """Everything that is wrong with a plan, sorted by place; `files` are the tracked ones.

    They serve as examples: where two boundaries meet, it is better to name a file that is there.
    """
    graph = graph_of(cards)
    return tuple(
        sorted(
            {
                *cards.findings,
                *_names(cards),
                *_unknown(cards),
                *_cycles(cards, graph),
                *_later_batches(cards),
                *_unlocked_batches(cards, graph),
                *_cancelled(cards, graph),
                *_batches(cards),
                *_branches(cards),
                *_patterns(cards),
                *_boundaries(cards, files),
                *_workstreams(cards),
                *_steps(cards),
                *_not_in_force(cards.config),
                *_landing(cards, graph),
            }
        )
    )


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


def _tasks_in_order(cards: Cards) -> list[Task]:
    tasks = cards.tasks
    return [tasks[TaskId(node)] for node in graph_of(cards).nodes if node in tasks]


def _in_order(cards: Mapping[_Id, _T]) -> list[_T]:
    return [cards[name] for name in sorted(cards, key=natural)]


# --- ids and needs ---


def _named(kind: str, card: _Card) -> Finding:
    return _error(card, "batch" if kind == "batch" else "id", "")


def _names(cards: Cards) -> Iterator[Finding]:
    """Ids that are the same, or would be on a file system that knows no case."""
    batches = {task.batch: task for task in reversed(_tasks_in_order(cards))}
    ids: list[tuple[str, str, _Card]] = [
        *(("task", task.id, task) for task in _tasks_in_order(cards)),
        *(("merge point", point.id, point) for point in _in_order(cards.merge_points)),
        *(("batch", name, batches[name]) for name in batch_order(cards)),
    ]
    folders: list[tuple[str, str, _Card]] = [
        ("workstream", workstream.id, workstream) for workstream in _in_order(cards.workstreams)
    ]
    for named in (ids, folders):
        first: dict[str, tuple[str, str, _Card]] = {}
        for kind, name, card in named:
            known = first.setdefault(name.lower(), (kind, name, card))
            if known != (kind, name, card):
                other, its_name, its_card = known
                here, there = _named(kind, card), _named(other, its_card)
                message = (
                    f"the {kind} {name} has the name of the {other} {its_name} "
                    f"({there.path}:{there.line}); names must differ in more than case"
                )
                yield replace(here, message=message)


def _unknown(cards: Cards) -> Iterator[Finding]:
    """Needs that name nothing, or a thing of the wrong kind."""
    unread = _unread(cards)
    nodes = {*cards.tasks, *cards.merge_points}
    freed = {*cards.tasks, *batch_order(cards)}
    for task in cards.tasks.values():
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
    for task in cards.tasks.values():
        if task.cancelled is not None:
            needed_by = [
                node
                for node in graph.dependents(task.id)
                if node not in cards.tasks or cards.tasks[TaskId(node)].cancelled is None
            ]
            if needed_by:
                message = f"{task.id} is cancelled, and still needed by {_listed(needed_by)}"
                yield _error(task, "cancelled", message)


# --- batches ---


def _batches(cards: Cards) -> Iterator[Finding]:
    live = [task for task in _tasks_in_order(cards) if task.cancelled is None]
    without = [task for task in live if task.batch is None]
    if without and len(without) < len(live):
        message = f"no batch for {_listed(t.id for t in without)}; every task has one, or none has"
        yield _error(without[0], "id", message)
    given = set(batch_order(cards))
    for i, name in enumerate(cards.config.batches):
        if name not in given:
            found = closest(name, given)
            hint = f"; did you mean {found}?" if found else ""
            yield _warning(cards.config, f"batches[{i}]", f"no task is in batch {name}{hint}")


def _later_batches(cards: Cards) -> Iterator[Finding]:
    """Tasks that need something of a later batch, directly or through a merge point.

    Where batches are labels only (`dispatch: dependencies`) that stops nothing: a warning.
    """
    position = {name: i for i, name in enumerate(batch_order(cards))}
    report = _warning if cards.config.dispatch == "dependencies" else _error
    tasks: Mapping[str, Task] = {task.id: task for task in cards.tasks.values()}
    own: Mapping[str, int] = {
        task.id: position[task.batch]
        for task in tasks.values()
        if task.batch is not None and task.cancelled is None
    }

    def later(task: Task, needs: Iterable[str], said: str = "") -> list[str]:
        """What is said of each of the needs that lies in a later batch than a task."""
        return [
            f"{task.id} of batch {task.batch} needs {need} of the later batch "
            f"{tasks[need].batch}{said}"
            for need in needs
            if own.get(need, -1) > own[task.id]
        ]

    points = cards.merge_points
    latest: dict[str, int] = dict(own)  # of what a node needs, or the node itself
    for point in points.values():
        latest[point.id] = max([own.get(need, -1) for need in point.requires], default=-1)
    for name, batch in own.items():
        needs = tasks[name].depends_on
        if all(latest.get(need, -1) <= batch for need in needs):
            continue
        for i, need in enumerate(needs):
            through = points.get(PointId(need))
            what, said = ([need], "") if through is None else (through.requires, f" through {need}")
            for message in later(tasks[name], what, said):
                yield report(tasks[name], f"depends_on[{i}]", message)
    for point in points.values():
        for i, unlocked in enumerate(point.unlocks):
            if unlocked in own and point.id not in tasks[unlocked].depends_on:
                for message in later(tasks[unlocked], point.requires, f" through {point.id}"):
                    yield report(point, f"unlocks[{i}]", message)


def _unlocked_batches(cards: Cards, graph: Graph) -> Iterator[Finding]:
    """Merge points that unlock a batch which they wait for themselves."""
    order = batch_order(cards)
    for point in cards.merge_points.values():
        for i, name in enumerate(point.unlocks):
            if name in cards.tasks or name not in order:
                continue
            needs = graph.closure([point.id])
            tasks = [cards.tasks[TaskId(node)] for node in needs if node in cards.tasks]
            own = [task.id for task in tasks if task.batch == name]
            after = order[order.index(BatchId(name)) + 1 :]
            later = [t.id for t in tasks if t.batch in after and t.id in point.requires]
            key = f"unlocks[{i}]"
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
    """Patterns that cannot be, and what of a task lies outside of its workstream's boundary."""
    cards_with_paths: list[tuple[_Card, str, Sequence[str]]] = [
        (cards.config, "shared_paths", cards.config.shared_paths),
        *((w, "paths", w.paths) for w in cards.workstreams.values()),
        *((t, "paths", t.paths) for t in cards.tasks.values()),
    ]
    for card, key, patterns in cards_with_paths:
        for i, pattern in enumerate(patterns):
            if found := problem(pattern):
                yield _error(card, f"{key}[{i}]", f"the pattern {pattern!r}: {found}")
    shared = cards.config.shared_paths
    boundaries = {
        w.id: Boundary((*w.paths, *shared)) for w in cards.workstreams.values() if w.paths
    }
    for task in cards.tasks.values():
        boundary = boundaries.get(task.workstream)
        if boundary is None:
            continue
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


def _workstreams(cards: Cards) -> Iterator[Finding]:
    members: dict[WorkstreamId, list[Task]] = {name: [] for name in cards.workstreams}
    for task in _tasks_in_order(cards):
        members.setdefault(task.workstream, []).append(task)
    unread = {f.path for f in cards.findings if f.severity is Severity.ERROR}
    for name, tasks in members.items():
        workstream = cards.workstreams.get(name)
        if workstream is None:
            path = tasks[0].path.rpartition("/")[0] + "/workstream.yaml"
            if path not in unread:
                ids = _listed(task.id for task in tasks)
                yield _error(tasks[0], "id", f"{path} is missing: the workstream of {ids}")
        elif not tasks:
            folder = workstream.path.rpartition("/")[0] + "/"
            if not any(path.startswith(folder) for path in unread):
                yield _warning(workstream, "title", f"{name} has no tasks")


def _steps(cards: Cards) -> Iterator[Finding]:
    for task in cards.tasks.values():
        if not task.verify and task.cancelled is None:
            message = f"{task.id} has no `verify` steps: it cannot be started"
            yield _warning(task, "verify", message)


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
    left: dict[WorkstreamId, list[Task]] = {}
    for task in _tasks_in_order(cards):
        if task.cancelled is None and task.id not in taken:
            left.setdefault(task.workstream, []).append(task)
    for name, tasks in left.items():
        ids = {task.id for task in tasks}
        last = [task for task in tasks if ids.isdisjoint(graph.dependents(task.id))] or tasks
        message = (
            f"no merge point takes {_listed(task.id for task in last)} of {name} to trunk; "
            "`gitwaves merge --rest` lands it"
        )
        yield _warning(last[-1], "id", message)
