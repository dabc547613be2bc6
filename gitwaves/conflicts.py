"""`conflicts`: which branches in flight will not merge, found before their merge point is reached.

Every pair is merged in memory, as a landing will merge it (see `pairs`); what collides is said with the
tasks whose commits did it, and where it will hurt.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations

from gitwaves.errors import GitError
from gitwaves.graph import graph_of
from gitwaves.layout import fit, oneline
from gitwaves.model import Branch, Oid, PointId, Status, TaskId, Verdict, natural
from gitwaves.pairs import Attributes, Merges
from gitwaves.record import Record
from gitwaves.state import Facts
from gitwaves.store import Snapshot, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_AT_ONCE = 120  # pairs that one `status` merges, in half a tenth of a second; the next one goes on


class Part(Record):
    """One side of a pair: a branch, and the tasks whose commits changed each file that collides."""

    branch: Branch
    tasks: tuple[TaskId, ...]
    by_file: Mapping[str, tuple[TaskId, ...]]


class Collision(Record):
    """Two branches that do not merge. `point` is where it will hurt; None: where the rest lands."""

    one: Part
    other: Part
    files: tuple[str, ...]
    point: PointId | None


class Found(Record):
    """All collisions, the soonest first, of so many branches and pairs."""

    collisions: tuple[Collision, ...]
    branches: int
    pairs: int
    unknown: int = 0  # pairs that were not merged yet
    hidden: bool = False  # whether it hangs on what nobody sees who reads no index


class Look:
    """A look at what collides among the branches in flight, and between each of them and trunk.

    Merging goes on from here until it is asked what was `found`.

    Args:
        at_most: no more pairs than that are merged: of the others nothing is said this time.

    Raises:
        GitError: git cannot merge in memory.
    """

    def __init__(self, store: Store, snapshot: Snapshot, *, at_most: int | None = None) -> None:
        self._store, self._snapshot = store, snapshot
        attributes = Attributes(store.repo)  # looked for while it is found out which branches count
        try:
            self._tips = {snapshot.trunk: snapshot.trunk_tip, **in_flight(store, snapshot)}
            self._names = list(combinations(self._tips, 2))
            pairs = [(self._tips[a], self._tips[b]) for a, b in self._names]
            self._merges = Merges(store.repo, pairs, attributes, at_most=at_most)
        finally:
            attributes.end()

    def __enter__(self) -> Look:
        return self

    def __exit__(self, *error: object) -> None:
        self._merges.__exit__()

    def found(self) -> Found:
        """What collides.

        Raises:
            GitError: git cannot merge in memory.
        """
        tips, snapshot = self._tips, self._snapshot
        merged = self._merges.files()
        found: list[Collision] = []
        if not any(merged):  # as nearly always: nothing is to be looked up
            return Found((), *self._counts(merged))
        owners, landing = _Owners(self._store, snapshot, tips.values()), _Landing(snapshot)
        for (a, b), files in zip(self._names, merged, strict=True):
            if files:
                one, other = owners.part(a, tips[a], files), owners.part(b, tips[b], files)
                found.append(Collision(one, other, files, landing.of_both(one, other)))
        order = landing.order
        found.sort(
            key=lambda c: (
                order[c.point] if c.point is not None else len(order),
                -len(c.files),
                natural(c.one.branch),
                natural(c.other.branch),
            )
        )
        return Found(tuple(found), *self._counts(merged))

    def _counts(self, merged: list[tuple[str, ...] | None]) -> tuple[int, int, int, bool]:
        unknown, hidden = merged.count(None), self._merges.hidden
        return len(self._tips) - 1, len(self._names), unknown, hidden


def look(store: Store, snapshot: Snapshot) -> Found:
    """What collides among the branches in flight, and between each of them and trunk.

    Raises:
        GitError: git cannot merge in memory.
    """
    with Look(store, snapshot) as now:
        return now.found()


def in_flight(store: Store, snapshot: Snapshot) -> dict[Branch, Oid]:
    """The tips of the branches with code that is not on trunk, in natural order."""
    repo, trunk = store.repo, snapshot.trunk_tip
    code = repo.code_tree(trunk)
    ahead = {b: t for b, t in snapshot.tips.items() if b != snapshot.trunk and t != trunk}
    unlanded = repo.missing_from(ahead.values(), [trunk]) if ahead else set()
    return {
        branch: ahead[branch]
        for branch in sorted(ahead, key=natural)
        if ahead[branch] in unlanded and repo.code_commit(ahead[branch])[1] != code
    }


# --- whose it is ---

History = Mapping[Oid, tuple[tuple[Oid, ...], tuple[str, ...]]]


def _history(out: str) -> History:
    r"""Parents and files of each commit: `NUL commit parents NUL (newline file NUL (file NUL)*)?`.

    >>> _history("\0c b\0\nx.py\0y.py\0" + "\0b\0")
    {'c': (('b',), ('x.py', 'y.py')), 'b': ((), ())}
    """
    found: dict[Oid, tuple[tuple[Oid, ...], tuple[str, ...]]] = {}
    fields = iter(out.split("\0"))
    next(fields)
    while head := next(fields, "").split():
        names = list(iter(lambda: next(fields, ""), ""))  # no file has an empty name
        names[:1] = [name.removeprefix("\n") for name in names[:1]]
        found[Oid(head[0])] = tuple(map(Oid, head[1:])), tuple(names)
    return found


class _Owners:
    """Which task changed a file on a branch: the done task whose commits hold it, or who is at work."""

    def __init__(self, store: Store, snapshot: Snapshot, tips: Iterable[Oid]) -> None:
        self._repo = store.repo
        self._snapshot = snapshot
        self._tips = tuple(tips)
        self._history: History | None = None
        self._reached: dict[Oid, frozenset[Oid]] = {}
        self._commits: dict[TaskId, frozenset[Oid]] | None = None

    def part(self, branch: Branch, tip: Oid, files: Iterable[str]) -> Part:
        """One side of a collision."""
        if branch == self._snapshot.trunk:
            return Part(branch, (), {})
        touched: defaultdict[str, list[Oid]] = defaultdict(list)
        for commit in sorted(self._reach(tip)):
            for file in self._commits_of_all()[commit][1]:
                touched[file].append(commit)
        by_file: dict[str, tuple[TaskId, ...]] = {}
        for file in files:
            owners = (self._owner(branch, commit) for commit in touched.get(file, ()))
            by_file[file] = tuple(sorted({t for t in owners if t is not None}, key=natural))
        tasks = {task for named in by_file.values() for task in named}
        # a file may have been changed under a name that it had before
        whose = tasks or set(self._begun(branch))
        return Part(branch, tuple(sorted(whose, key=natural)), by_file)

    def _commits_of_all(self) -> History:
        """The parents of every commit in flight, and the files that it changed."""
        if self._history is None:
            args = ("log", "--stdin", "--format=%x00%H %P", "--name-only", "-z", "--no-renames")
            wanted = "".join(f"{oid}\n" for oid in (*self._tips, f"^{self._snapshot.trunk_tip}"))
            self._history = _history(self._repo.git(*args, stdin=wanted.encode()))
        return self._history

    def _reach(self, tip: Oid) -> frozenset[Oid]:
        """The commits of a tip that are not on trunk."""
        if tip not in self._reached:
            history = self._commits_of_all()
            seen: set[Oid] = set()
            stack = [tip]
            while stack:
                commit = stack.pop()
                if commit in history and commit not in seen:
                    seen.add(commit)
                    stack.extend(history[commit][0])
            self._reached[tip] = frozenset(seen)
        return self._reached[tip]

    def _owner(self, branch: Branch, commit: Oid) -> TaskId | None:
        if self._commits is None:
            self._commits = {task: self._reach(oid) for task, oid in self._verified().items()}
        held = [
            (len(commits), task) for task, commits in self._commits.items() if commit in commits
        ]
        if held:
            return min(held)[1]
        begun = self._begun(branch)
        return next((t for t in begun if self._status(t) is not Status.DONE), None)

    def _begun(self, branch: Branch) -> list[TaskId]:
        """The tasks of a branch that are begun, or done, and not on trunk; in natural order."""
        facts = self._snapshot.facts
        return [
            task
            for task in self._snapshot.cards.tasks_on(branch)
            if facts[task].tracking.status is not Status.PLANNED and not facts[task].landed
        ]

    def _verified(self) -> dict[TaskId, Oid]:
        """The verified commits of what is done and not on trunk."""
        found = {}
        for node in Facts.of(self._snapshot.facts).untold:
            fact, task = self._snapshot.facts[node], TaskId(node)
            if task not in self._snapshot.cards.tasks or fact.landed:
                continue
            if fact.tracking.evidence and fact.verdict is Verdict.HOLDS:
                found[task] = fact.tracking.evidence.commit
        return found

    def _status(self, task: TaskId) -> Status:
        return self._snapshot.facts[task].tracking.status


class _Landing:
    """The merge points that are still to land, and what each takes to trunk."""

    def __init__(self, snapshot: Snapshot) -> None:
        cards, graph = snapshot.cards, graph_of(snapshot.cards)
        self.order = {node: n for n, node in enumerate(graph.order())}
        self._waiting = [
            point
            for point in sorted(cards.merge_points, key=self.order.__getitem__)
            if snapshot.facts[point].tracking.status is not Status.DONE
        ]
        self._takes = {
            point: {*cards.merge_points[point].requires, *graph.closure([point])}
            for point in self._waiting
        }

    def of_both(self, one: Part, other: Part) -> PointId | None:
        """The merge point at which the second of two sides lands, which is where they meet."""
        met = [self._first(part) for part in (one, other) if part.tasks]
        points = [point for point in met if point is not None]
        if not points or len(points) < len(met):
            return None
        return max(points, key=self.order.__getitem__)

    def _first(self, part: Part) -> PointId | None:
        return next((p for p in self._waiting if self._takes[p].intersection(part.tasks)), None)


# --- shown ---


def conflicts_text(found: Found, *, width: int = 100) -> str:
    """What collides, the soonest first."""
    of = f"{found.branches} branch{'es' * (found.branches != 1)} in flight"
    if not found.collisions:
        return f"{of}: all {found.pairs} pairs of them and trunk merge cleanly.\n"
    lines = [
        f"{of}: {len(found.collisions)} of {found.pairs} pairs of them and trunk do not merge.",
    ]
    for hit in found.collisions:
        where = hit.point or "merge --rest"
        lines += ["", f"{where}: {_side(hit.one)} x {_side(hit.other)}"]
        for file in hit.files:
            said = [
                f"{part.branch}: {' '.join(part.by_file[file])}"
                for part in (hit.one, hit.other)
                if part.by_file.get(file)
            ]
            lines.append(f"  {oneline(file)}" + f"   ({'; '.join(said)})" * bool(said))
    return "".join(f"{line}\n" for line in lines)


def conflicts_line(found: Found) -> str:
    """The one line that live `status` shows; empty where there is nothing to say."""
    if not found.collisions:
        return ""
    first = found.collisions[0]
    more = f" and {len(found.collisions) - 1} more" * (len(found.collisions) > 1)
    return (
        f"CONFLICTS AHEAD  {_side(first.one)} x {_side(first.other)}{more}, "
        f"at {first.point or 'merge --rest'}: gitwaves conflicts"
    )


def _side(part: Part) -> str:
    return oneline(part.branch) + f" ({fit(part.tasks, 30)})" * bool(part.tasks)


def conflicts_json(found: Found) -> dict[str, Any]:
    """What collides, as `schemas/conflicts.schema.json` documents it."""

    def part(side: Part, files: Iterable[str]) -> dict[str, Any]:
        by_file = {file: list(side.by_file.get(file, ())) for file in files}
        return {"branch": side.branch, "tasks": list(side.tasks), "by_file": by_file}

    return {
        "version": 1,
        "branches": found.branches,
        "pairs": found.pairs,
        "conflicts": [
            {
                "merge_point": hit.point,
                "files": list(hit.files),
                "sides": [part(hit.one, hit.files), part(hit.other, hit.files)],
            }
            for hit in found.collisions
        ],
    }


class Ahead:
    """What lies ahead, for live `status`, at next to no cost: looked at while we go on.

    Says nothing where git cannot merge.
    """

    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        self._look: Look | None = None
        with contextlib.suppress(GitError):
            self._look = Look(store, snapshot, at_most=_AT_ONCE)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *error: object) -> None:
        if self._look is not None:
            self._look.__exit__()

    def line(self) -> tuple[str, bool]:
        """The line to be shown, and whether that is all: else it may be another one the next time."""
        with contextlib.suppress(GitError):
            if self._look is not None:
                found = self._look.found()
                return conflicts_line(found), not (found.unknown or found.hidden)
        return "", True


def ahead(store: Store, snapshot: Snapshot) -> tuple[str, bool]:
    """What `Ahead` says, waited for."""
    with Ahead(store, snapshot) as now:
        return now.line()
