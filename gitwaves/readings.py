"""What history says of each branch, in plain values, kept for the next process."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from gitwaves.caches import keep_at, keep_newest, kept_at, key_of
from gitwaves.cards import card_path, own_version
from gitwaves.git import Repo
from gitwaves.model import (
    ROOT,
    Branch,
    Cards,
    Fact,
    Oid,
    State,
    TaskId,
    Tracking,
    Verdict,
    WorkstreamId,
    natural,
)
from gitwaves.record import NamedTuple
from gitwaves.rows import Row, tracking_of, tracking_row
from gitwaves.state import Facts

_MAX_TRUNKS = 4  # tips of trunk for which readings are kept


class Reading(NamedTuple):
    """What history says of the tasks of one branch, or of the merge points, in plain values."""

    tip: Oid | None
    states: str  # one of `LETTERS` for each of them, in natural order
    rows: Mapping[str, Row]  # the facts that their states alone do not tell
    noted: tuple[str, ...]  # what has learnings or spec gaps
    said: tuple[str, ...]  # warnings
    watched: tuple[str, ...]  # see `Witness.witnessed`
    trunk: bytes  # what it hangs on there; see `on_trunk`
    had: Mapping[str, tuple[str, str]]  # see `outdated`

    def beside(self, before: Reading, nodes: Sequence[str], kept: Collection[str]) -> Reading:
        """This reading, with what `before` told plainly of those that were not read anew, `kept`."""
        letters = zip(nodes, self.states, before.states, strict=True)
        noted = {*self.noted, *(node for node in before.noted if node in kept)}
        return Reading(
            self.tip,
            "".join([old if node in kept else new for node, new, old in letters]),
            self.rows,
            tuple([node for node in nodes if node in noted]),
            self.said,
            tuple(sorted({*self.watched, *before.watched})),
            self.trunk,
            self.had,
        )

    def plain(self, nodes: Iterable[str]) -> set[str]:
        """Those of its tasks, `nodes`, that their states tell all of.

        Their facts are what trunk's own cards say, whatever the branch's tip.
        """
        return set(map(str, nodes)).difference(self.rows)

    def landings(self) -> dict[str, Oid]:
        """The commits that landed merge points, by id."""
        facts = {node: _fact_of(row) for node, row in self.rows.items()}
        return {node: fact.commit for node, fact in facts.items() if fact.commit is not None}


LETTERS: dict[State | None, str] = {
    None: ".",
    State.DONE: "d",
    State.ACTIVE: "a",
    State.FAILED: "f",
    State.STALE: "s",
    State.UNPROVEN: "u",
}
DOUBTED = frozenset({LETTERS[State.STALE], LETTERS[State.UNPROVEN]})
_STATES = {letter: state for state, letter in LETTERS.items()}
POINTS = Branch("")  # whose reading is that of the merge points


class Readings:
    """The readings that are kept for a tip of trunk: right or absent, like all that is kept."""

    def __init__(self, repo: Repo, trunk: Oid) -> None:
        self._folder = repo.state_dir / "facts"
        self._path = self._folder / trunk
        self._key = key_of(own_version(), *repo.stock())
        # what is not here may come from elsewhere at any time
        elsewhere = repo.common / "objects" / "info" / "alternates"
        self._usable = not (repo.partial() or elsewhere.exists())

    @property
    def key(self) -> bytes:
        """What all readings hang on beside trunk and the branch; none where nothing can be kept."""
        return self._key if self._usable else b""

    def load(self) -> dict[Branch, Reading]:
        """The readings by branch; none where none are kept."""
        return self._at(self._path)

    def _at(self, path: Path) -> dict[Branch, Reading]:
        said = kept_at(path, self._key) if self._usable else None
        return {b: Reading(*row) for b, row in said.items()} if said else {}

    def earlier(self) -> tuple[Oid, dict[Branch, Reading]]:
        """Those that were kept last for another tip of trunk, and that tip; or none."""
        with contextlib.suppress(OSError):
            others = (path for path in self._folder.iterdir() if path != self._path)
            newest = max(others, key=lambda path: path.stat().st_mtime_ns, default=self._path)
            return Oid(newest.name), self._at(newest)
        return Oid(""), {}

    def keep(self, readings: Mapping[Branch, Reading]) -> None:
        """Keeps readings; does nothing where that cannot be done."""
        if self._usable:
            said = {b: (*r[:2], dict(r.rows), *r[3:]) for b, r in readings.items()}
            keep_at(self._path, self._key, said)
            keep_newest(self._folder, _MAX_TRUNKS)


def outdated(cards: Cards, facts: Mapping[str, Fact]) -> dict[str, tuple[str, str]]:
    """What is stale as it is evidence for another spec: its card's path, and the digest of that spec.

    In a reading these are specs that trunk had, at that path.
    """
    return {
        node: (card_path(cards, node), fact.tracking.evidence.spec)
        for node, fact in facts.items()
        if fact.verdict is Verdict.STALE
        and not fact.misplaced
        and fact.tracking.evidence is not None
        and fact.tracking.evidence.spec != cards.digest(node)
    }


def on_trunk(repo: Repo, cards: Cards, trunk: Oid, branch: Branch) -> bytes:
    """All of trunk that a reading of a branch hangs on, but for its history.

    It looks at the cards of the branch's tasks, at whatever stands beside them, and at what other
    workstreams of the branch hold.
    """
    parts = [cards.config.trunk, *cards.tasks_on(branch)]
    for folder in folders_on(cards, branch):
        held = repo.at(trunk, f"{ROOT}/{folder}")
        parts += folder, held.oid if held else "", repr(cards.workstreams.get(folder))
    return key_of(*(part.encode(errors="surrogateescape") for part in parts))


def folders_on(cards: Cards, branch: Branch) -> list[WorkstreamId]:
    """The folders of the workstreams that are done on a branch, and of its tasks."""
    streams = {stream.id for stream in cards.workstreams.values() if stream.branch == branch}
    return sorted(streams.union([cards.folders[task] for task in cards.tasks_on(branch)]))


def points_in_order(cards: Cards) -> list[str]:
    """The merge points in natural order."""
    return sorted(cards.merge_points, key=natural)


def facts_of(cards: Cards, readings: Mapping[Branch, Reading]) -> Facts:
    """The facts that readings tell, each made when it is asked for."""
    begun: dict[str, State] = {}
    nodes: dict[Branch, Sequence[str]] = {**cards.by_branch, POINTS: points_in_order(cards)}
    for branch, ids in nodes.items():
        for node, letter in zip(ids, readings[branch].states, strict=True):
            if letter != ".":
                begun[node] = _STATES[letter]  # type: ignore[assignment]  # "." alone has none

    def make(node: str) -> Fact:
        branch = cards.branch_of(TaskId(node)) if node in cards.tasks else POINTS
        reading = readings[branch]
        row = reading.rows.get(node)
        if row is not None:
            return _fact_of(row)
        return plain_fact(cards, node, begun.get(node), reading.tip)

    noted = [node for branch in nodes for node in readings[branch].noted]
    untold = [node for branch in nodes for node in readings[branch].rows]
    return Facts([node for ids in nodes.values() for node in ids], make, begun, noted, untold)


def plain_fact(cards: Cards, node: str, state: State | None, tip: Oid | None) -> Fact:
    """The commonest fact of a task in a state: what trunk says, and its evidence holds."""
    tracking = cards.tracking.get(node) or Tracking(node)
    verdict = Verdict.HOLDS if state is State.DONE else Verdict.NONE
    return Fact(tracking, verdict, landed=True, tip=tip)


def fact_row(fact: Fact) -> Row:
    """A fact in plain values."""
    said = (str(fact.verdict), fact.reason, fact.misplaced, fact.landed, fact.tip, fact.commit)
    return (tracking_row(fact.tracking), *said, fact.reverted)


def _fact_of(row: Row) -> Fact:
    tracking, verdict, *said = row
    told = tracking_of(tracking)
    assert told is not None
    return Fact(told, Verdict(verdict), *said)
