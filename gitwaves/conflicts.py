"""`conflicts`: which branches in flight will not merge, found before their merge point is reached.

Every pair is merged in memory, as a landing will merge it; cards are settled by rule there, so they
are never among the files. What two commits merge to is a function of their ids (and of how Git is set
up to merge), and is kept.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from gitwaves.caches import Cache, key_of
from gitwaves.errors import GitError
from gitwaves.git import Repo
from gitwaves.graph import graph_of
from gitwaves.layout import fit, oneline
from gitwaves.model import ROOT, Branch, Oid, PointId, Status, TaskId, Verdict, natural
from gitwaves.store import Snapshot, Store

UNNAMED = "(not named by git)"
_PER_PROCESS = 400  # pairs: fewer are not worth a second process
_AT_ONCE = 150  # pairs that `status` merges, in a tenth of a second or so; else it says nothing
Pair = tuple[Oid, Oid]


@dataclass(frozen=True, slots=True)
class Part:
    """One side of a pair: a branch, and the tasks whose commits changed each file that collides."""

    branch: Branch
    tasks: tuple[TaskId, ...]
    by_file: Mapping[str, tuple[TaskId, ...]]


@dataclass(frozen=True, slots=True)
class Collision:
    """Two branches that do not merge. `point` is where it will hurt; None: where the rest lands."""

    one: Part
    other: Part
    files: tuple[str, ...]
    point: PointId | None


@dataclass(frozen=True, slots=True)
class Found:
    """All collisions, the soonest first, of so many branches and pairs."""

    collisions: tuple[Collision, ...]
    branches: int
    pairs: int


def look(store: Store, snapshot: Snapshot, *, at_most: int | None = None) -> Found | None:
    """What collides among the branches in flight, and between each of them and trunk.

    With `at_most`, None where more pairs than that would have to be merged.

    Raises:
        GitError: git cannot merge in memory.
    """
    repo = store.repo
    tips = {snapshot.trunk: snapshot.trunk_tip, **in_flight(store, snapshot)}
    names = list(combinations(tips, 2))
    merged = conflicts_of(repo, [(tips[a], tips[b]) for a, b in names], at_most=at_most)
    if merged is None:
        return None
    owners = _Owners(store, snapshot)
    found = []
    for (a, b), files in zip(names, merged, strict=True):
        if files:
            one, other = owners.part(a, tips[a], files), owners.part(b, tips[b], files)
            found.append(Collision(one, other, files, _hurts(snapshot, one, other)))
    order = {node: n for n, node in enumerate(graph_of(snapshot.cards).order())}
    found.sort(
        key=lambda c: (
            order[c.point] if c.point is not None else len(order),
            -len(c.files),
            natural(c.one.branch),
            natural(c.other.branch),
        )
    )
    return Found(tuple(found), len(tips) - 1, len(names))


def in_flight(store: Store, snapshot: Snapshot) -> dict[Branch, Oid]:
    """The tips of the branches with code that is not on trunk, in natural order."""
    repo, trunk = store.repo, snapshot.trunk_tip
    code = repo.code_tree(trunk)
    ahead = {b: t for b, t in snapshot.tips.items() if b != snapshot.trunk and t != trunk}
    unlanded = repo.missing_from(ahead.values(), [trunk]) if ahead else set()
    return {
        branch: ahead[branch]
        for branch in sorted(ahead, key=natural)
        if ahead[branch] in unlanded and repo.code_tree(ahead[branch]) != code
    }


# --- merging ---


class _Unknown(Exception):
    """A pair that was not merged yet."""


def conflicts_of(
    repo: Repo, pairs: Sequence[Pair], *, at_most: int | None = None
) -> list[tuple[str, ...]] | None:
    """For each pair of commits the files of code that need a person; none where they merge.

    With `at_most`, None where more pairs than that are not known yet.

    Raises:
        GitError: git failed.
    """
    cache = Cache(repo.state_dir / "merges")
    how = _how_git_merges(repo)

    def known(pair: Pair) -> tuple[str, ...] | None:
        def missing() -> None:
            raise _Unknown

        try:
            files: tuple[str, ...] = cache.value(key_of(how, *map(str.encode, pair)), missing)
        except _Unknown:
            return None
        return files

    found = {pair: known(pair) for pair in pairs}
    todo = [pair for pair, files in found.items() if files is None]
    if at_most is not None and len(todo) > at_most:
        return None
    for pair, files in zip(todo, _merge(repo, todo), strict=True):
        found[pair] = files
        cache.value(key_of(how, *map(str.encode, pair)), partial(tuple, files))
    cache.save()
    return [found[pair] or () for pair in pairs]


def _how_git_merges(repo: Repo) -> bytes:
    """All that a merge depends on beside the two commits."""
    said = [repo.git("version")]
    said.append(repo.try_git("config", "--get-regexp", r"^(merge|diff)\.").stdout.decode("latin-1"))
    for path in (repo.common / "info" / "attributes", (repo.top or repo.common) / ".gitattributes"):
        with contextlib.suppress(OSError):
            said.append(path.read_bytes().decode("latin-1"))
    return key_of(*(text.encode() for text in said))


def _merge(repo: Repo, pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """Merges the pairs, in a few processes side by side where there are many."""
    if not pairs:
        return []
    processes = max(1, min(os.cpu_count() or 1, len(pairs) // _PER_PROCESS))
    size = -(-len(pairs) // processes)
    parts = [pairs[k : k + size] for k in range(0, len(pairs), size)]
    if len(parts) == 1:
        return _batch(repo, parts[0])
    from concurrent.futures import ThreadPoolExecutor  # slow to import, and seldom needed

    with ThreadPoolExecutor(len(parts)) as pool:
        return [files for found in pool.map(partial(_batch, repo), parts) for files in found]


def _batch(repo: Repo, pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """One `git merge-tree` for all pairs: a merge takes half a millisecond where a process takes five.

    The trees and files that it writes go to a folder that is thrown away, not into the repository.
    """
    repo.state_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=repo.state_dir, prefix="merging-") as name:
        folder = Path(name)
        (folder / "info").mkdir()
        (folder / "info" / "alternates").write_bytes(os.fsencode(repo.common / "objects") + b"\n")
        out = repo.git(
            *("merge-tree", "--write-tree", "--stdin", "--name-only", "--no-messages"),
            "--allow-unrelated-histories",  # else one such pair would end the whole process
            cwd=repo.top,
            stdin="".join(f"{a} {b}\n" for a, b in pairs).encode(),
            env={"GIT_OBJECT_DIRECTORY": str(folder)},
        )
    found = _parsed(out)
    if len(found) != len(pairs):
        raise GitError(
            f"git merge-tree gave {len(found)} answers to {len(pairs)} questions",
            "please report it, with what `git version` says",
        )
    return found


def _parsed(out: str) -> list[tuple[str, ...]]:
    r"""The files of each merge: `status NUL tree NUL (file NUL)* NUL`, status 1 where it is clean.

    >>> _parsed("1\0" + "a" * 40 + "\0\0" + "0\0" + "b" * 40 + "\0x.py\0\0")
    [(), ('x.py',)]
    """
    fields = iter(out.split("\0"))
    found = []
    for status in fields:
        if not status:
            continue
        next(fields)  # the tree
        names = tuple(dict.fromkeys(iter(lambda: next(fields, ""), "")))
        code = tuple(name for name in names if not name.startswith(f"{ROOT}/"))
        found.append(code if status == "1" or code or names else (UNNAMED,))
    return found


# --- whose it is ---


class _Owners:
    """Which task changed a file on a branch: the done task whose commits hold it, or who is at work."""

    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        self._repo = store.repo
        self._snapshot = snapshot
        self._commits: dict[TaskId, frozenset[Oid]] | None = None

    def part(self, branch: Branch, tip: Oid, files: Iterable[str]) -> Part:
        """One side of a collision."""
        if branch == self._snapshot.trunk:
            return Part(branch, (), {})
        touched = self._touched(tip)
        by_file: dict[str, tuple[TaskId, ...]] = {}
        for file in files:
            owners = (self._owner(branch, commit) for commit in touched.get(file, ()))
            by_file[file] = tuple(sorted({t for t in owners if t is not None}, key=natural))
        tasks = {task for named in by_file.values() for task in named}
        # a file may have been changed under a name that it had before
        whose = tasks or set(self._open(branch))
        return Part(branch, tuple(sorted(whose, key=natural)), by_file)

    def _touched(self, tip: Oid) -> dict[str, list[Oid]]:
        """Per file, the commits that changed it since the branch left trunk."""
        trunk = self._snapshot.trunk_tip
        args = ("log", "--format=%x00%H", "--name-only", "-z", "--no-renames", "--no-merges")
        found: defaultdict[str, list[Oid]] = defaultdict(list)
        commit = Oid("")
        fields = self._repo.git(*args, f"{trunk}..{tip}").split("\0")
        for field in fields:
            name = field.lstrip("\n")
            if len(name) == len(tip) and not set(name) - set("0123456789abcdef"):
                commit = Oid(name)
            elif name and commit:
                found[name].append(commit)
        return found

    def _owner(self, branch: Branch, commit: Oid) -> TaskId | None:
        if self._commits is None:
            self._commits = {
                task: frozenset(self._repo.rev_list(oid, f"^{self._snapshot.trunk_tip}"))
                for task, oid in self._verified().items()
            }
        held = [
            (len(commits), task) for task, commits in self._commits.items() if commit in commits
        ]
        if held:
            return min(held)[1]
        return next((t for t in self._open(branch) if self._status(t) is not Status.DONE), None)

    def _verified(self) -> dict[TaskId, Oid]:
        """The verified commits of what is done and not on trunk."""
        found = {}
        for task in self._snapshot.cards.tasks:
            fact = self._snapshot.facts.get(task)
            if (
                fact
                and fact.tracking.evidence
                and not fact.landed
                and fact.verdict is Verdict.HOLDS
            ):
                commit = fact.tracking.evidence.commit
                if self._repo.commit(commit) is not None:
                    found[task] = commit
        return found

    def _open(self, branch: Branch) -> list[TaskId]:
        """The tasks of a branch that were begun and are not on trunk."""
        tasks = self._snapshot.cards.tasks_on(branch)
        return [
            t
            for t in tasks
            if self._status(t) is not Status.PLANNED and not self._snapshot.facts[t].landed
        ]

    def _status(self, task: TaskId) -> Status:
        fact = self._snapshot.facts.get(task)
        return fact.tracking.status if fact else Status.PLANNED


def _hurts(snapshot: Snapshot, one: Part, other: Part) -> PointId | None:
    """The merge point at which the second of two sides lands, which is where they meet."""
    cards, graph = snapshot.cards, graph_of(snapshot.cards)
    order = {node: n for n, node in enumerate(graph.order())}
    waiting = [
        point
        for point in sorted(cards.merge_points, key=order.__getitem__)
        if snapshot.facts[point].tracking.status is not Status.DONE
    ]
    takes = {
        point: {*cards.merge_points[point].requires, *graph.closure([point])} for point in waiting
    }

    def first(part: Part) -> PointId | None:
        return next((p for p in waiting if takes[p].intersection(part.tasks)), None)

    met = [first(part) for part in (one, other) if part.tasks]
    points = [point for point in met if point is not None]
    if not points or len(points) < len(met):
        return None
    return max(points, key=order.__getitem__)


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


def ahead(store: Store, snapshot: Snapshot) -> str:
    """The line for live `status`, where it costs next to nothing; says nothing where git cannot."""
    with contextlib.suppress(GitError):
        found = look(store, snapshot, at_most=_AT_ONCE)
        return conflicts_line(found) if found is not None else ""
    return ""
