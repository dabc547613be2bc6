"""What was read of a whole plan, kept for the next process: one file for each tree of cards.

Where `caches` keeps what single files were read as, this keeps the lot, in rows that are loaded at
once: ten thousand cards in a fraction of the time that reading their blobs takes. What changed since
is read anew; the rest is taken over by blob id. Never needed, and right or absent, as there.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from gitwaves.caches import key_of
from gitwaves.cards import (
    WORKSTREAM_FILE,
    Card,
    joined_cards,
    load_card,
    load_cards,
    own_version,
)
from gitwaves.model import (
    ROOT,
    Cards,
    Claim,
    Evidence,
    Finding,
    Gap,
    MergePoint,
    Oid,
    Place,
    Run,
    Severity,
    Status,
    Step,
    Task,
    TaskId,
    Tracking,
)

_MAX_PLANS = 4
_T = TypeVar("_T")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The files under `.workstreams/` of a tree by path, as blob ids, and what cards were read as."""

    files: Mapping[str, Oid]
    odd: Mapping[str, str]
    rows: Mapping[str, Row]
    digests: Mapping[str, str]  # spec digests by task, those that were asked for


_NONE = Plan({}, {}, {}, {})


class Shelf:
    """The plans that are kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._newest: Plan | None = None

    def load(self, tree: Oid) -> Plan | None:
        """The plan of a tree; None where it is not kept."""
        return self._read(self._folder / tree)

    def newest(self) -> Plan:
        """The plan that was kept last."""
        if self._newest is None:
            self._newest = self._find_newest()
        return self._newest

    def _find_newest(self) -> Plan:
        with contextlib.suppress(OSError):
            for path in reversed(self._kept()):
                if (found := self._read(path)) is not None:
                    return found
        return _NONE

    def changed(self, files: Mapping[str, Oid]) -> list[Oid]:
        """The blobs of those files that the newest plan does not hold as read."""
        known = self.newest()
        return [o for p, o in files.items() if known.files.get(p) != o or p not in known.rows]

    def keep(self, tree: Oid, plan: Plan) -> None:
        """Keeps the plan of a tree; does nothing where that cannot be done."""
        self._newest = plan
        with contextlib.suppress(OSError, ValueError):
            self._folder.mkdir(parents=True, exist_ok=True)
            said = (dict(plan.files), dict(plan.odd), dict(plan.rows), dict(plan.digests))
            data = marshal.dumps((key_of(own_version()), *said))
            handle, name = tempfile.mkstemp(dir=self._folder, prefix="new-")
            with open(handle, "wb") as file:
                file.write(crc32(data).to_bytes(4, "big") + data)
            os.replace(name, self._folder / tree)
            for old in self._kept()[:-_MAX_PLANS]:
                old.unlink(missing_ok=True)

    def _kept(self) -> list[Path]:
        """The files, the oldest first; what a kill left there too."""
        return sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)

    def _read(self, path: Path) -> Plan | None:
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            if path.is_file():  # a pipe would be waited for
                data = memoryview(path.read_bytes())
                if crc32(data[4:]) == int.from_bytes(data[:4], "big"):
                    version, *said = marshal.loads(data[4:])
                    if version == key_of(own_version()):
                        return Plan(*said)
        return None

    def read(
        self,
        files: Mapping[str, Oid],
        odd: Mapping[str, str],
        read: Callable[[str], bytes],
    ) -> tuple[Cards, Plan]:
        """The cards of some files, and the plan to `keep`; what the newest one had is not read again.

        Args:
            read: gives the content of one of them.
        """
        known = self.newest()
        rows: dict[str, Row] = {}

        def card_at(path: str) -> Card:
            if known.files.get(path) == files[path] and path in known.rows:
                rows[path] = known.rows[path]
                return card_of(rows[path])
            card = load_card(read(path), path, kept=False)
            rows[path] = row_of(card)
            return card

        cards = joined_cards(files, odd, read, card_at)
        cards.memo.setdefault("digest", {}).update(_still(known, files, cards))
        return cards, Plan(files, odd, rows, cards.memo["digest"])

    def of_bytes(self, files: Mapping[str, bytes], odd: Mapping[str, str]) -> Cards:
        """The cards of files that lie in a working tree."""
        width = next((len(oid) for oid in self.newest().files.values()), 0)
        if not width:
            return load_cards(files, odd)
        new = hashlib.sha1 if width == 40 else hashlib.sha256
        oids = {p: Oid(new(b"blob %d\0" % len(d) + d).hexdigest()) for p, d in files.items()}
        return self.read(oids, odd, files.__getitem__)[0]

    def again(self, plan: Plan, read: Callable[[str], bytes]) -> Cards:
        """The cards of a plan that was kept."""
        rows = plan.rows
        cards = joined_cards(plan.files, plan.odd, read, lambda path: card_of(rows[path]))
        cards.memo.setdefault("digest", {}).update(plan.digests)
        return cards


def _still(known: Plan, files: Mapping[str, Oid], cards: Cards) -> dict[str, str]:
    """The digests of what has not changed: neither the card nor its workstream."""
    found = {}
    for node, digest in known.digests.items():
        task = cards.tasks.get(TaskId(node))
        if task is not None:
            stream = f"{ROOT}/{task.workstream}/{WORKSTREAM_FILE}"
            if all(known.files.get(p) == files.get(p) for p in (task.path, stream)):
                found[node] = digest
    return found


class _Places(Mapping[str, Place]):
    """The places of a card's keys, taken apart when somebody asks for one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._known: dict[str, Place] | None = None

    def _all(self) -> dict[str, Place]:
        if self._known is None:
            self._known = marshal.loads(self._data)
        return self._known

    def __getitem__(self, key: str) -> Place:
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def row_of(card: Card) -> Row:
    """A card in plain values."""
    findings = tuple((f.path, f.line, f.column, str(f.severity), f.message) for f in card.findings)
    spec = card.spec
    said: Row | None = None
    if spec is not None:
        said = tuple(
            marshal.dumps(dict(value))
            if name == "places"
            else tuple((s.run, s.manual, s.timeout, s.always) for s in value)
            if name == "verify"
            else value
            for name, value in spec.__dict__.items()
        )
    return isinstance(spec, Task), said, _tracking_row(card.tracking), findings, card.has_tracking


def _tracking_row(tracking: Tracking | None) -> Row | str | None:
    if tracking is None:
        return None
    if tracking == Tracking(tracking.task):
        return tracking.task
    claim, evidence = tracking.claim, tracking.evidence
    return (
        tracking.task,
        str(tracking.status),
        (claim.tree, claim.spec, claim.id) if claim else None,
        tracking.agent,
        tracking.clone,
        tracking.session,
        tracking.started,
        tracking.finished,
        tracking.attempts,
        dict(tracking.cost),
        evidence
        and (
            evidence.commit,
            evidence.tree,
            evidence.spec,
            tuple((r.run, r.exit, r.seconds, r.log) for r in evidence.runs),
            evidence.inputs,
            evidence.signature,
        ),
        tracking.learnings,
        tuple((g.text, dict(g.affects), g.resolved) for g in tracking.spec_gaps),
    )


def card_of(row: Row) -> Card:
    """The card that `row_of` was given."""
    is_task, said, tracking, findings, has_tracking = row
    spec: Task | MergePoint | None = None
    if said is not None:
        spec = _filled(Task, said) if is_task else _filled(MergePoint, said)
        inside = spec.__dict__
        inside["verify"] = tuple([Step(*step) for step in inside["verify"]])
        inside["places"] = _Places(inside["places"])
    return Card(
        spec,
        _tracking_of(tracking),
        tuple([Finding(p, line, col, Severity(s), m) for p, line, col, s, m in findings]),
        has_tracking,
    )


def _filled(kind: type[_T], values: Row) -> _T:
    """A dataclass of such values; its own way of being made takes ten times as long."""
    made = object.__new__(kind)
    made.__dict__.update(zip(kind.__dataclass_fields__, values, strict=True))  # type: ignore[attr-defined]  # a dataclass
    return made


_STATUS = {str(status): status for status in Status}


def _tracking_of(row: Row | str | None) -> Tracking | None:
    if row is None or isinstance(row, str):
        return None if row is None else Tracking(row)
    made = _filled(Tracking, row)
    inside = made.__dict__
    inside["status"] = _STATUS[row[1]]
    if row[2]:
        inside["claim"] = Claim(*row[2])
    if row[10]:
        commit, tree, spec, runs, inputs, signature = row[10]
        inside["evidence"] = Evidence(
            commit, tree, spec, tuple([Run(*run) for run in runs]), inputs, signature
        )
    inside["spec_gaps"] = tuple([Gap(*gap) for gap in row[12]])
    return made
