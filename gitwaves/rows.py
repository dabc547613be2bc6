"""Cards in plain values, and back: what can be marshalled, and is made again in a tenth of the time."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from gitwaves.cards import Card
from gitwaves.model import (
    Claim,
    Config,
    Evidence,
    Finding,
    Gap,
    MergePoint,
    Profile,
    Run,
    Severity,
    Status,
    Step,
    Task,
    Tracking,
)

Row = tuple[Any, ...]
_T = TypeVar("_T")


def slim_of(card: Card) -> Row:
    """What an outline needs of a card: a merge point is whole, a task has no texts."""
    spec = card.spec
    said: Row | None = None
    if isinstance(spec, Task):
        known = (spec.depends_on, spec.batch, spec.estimate, spec.cancelled)
        said = (spec.id, spec.workstream, *known)
    elif spec is not None:
        said = spec_row(spec)
    findings = tuple([plain(f) for f in card.findings])
    began: bool | None = None  # where there is no tracking half
    if spec is not None and card.tracking is not None:
        began = card.tracking != Tracking(spec.id)
    return isinstance(spec, Task), said, began, findings


def outlined(slim: Row, path: str) -> Card:
    """The card that `slim_of` was given, as far as that goes."""
    is_task, said, began, findings = slim
    spec: Task | MergePoint | None = None
    if said is not None and is_task:
        ident, stream, needs, batch, estimate, cancelled = said
        spec = Task(ident, "", stream, needs, batch, estimate, cancelled=cancelled, path=path)
    elif said is not None:
        spec = spec_of(said, is_task=False)
    tracking = None if spec is None or began is None else Tracking(spec.id)
    return Card(spec, tracking, tuple([finding_of(f) for f in findings]))


def row_of(card: Card) -> Row:
    """A card in plain values."""
    findings = tuple([plain(f) for f in card.findings])
    spec = None if card.spec is None else spec_row(card.spec)
    is_task = isinstance(card.spec, Task)
    return is_task, spec, tracking_row(card.tracking), findings, card.has_tracking


def card_of(row: Row) -> Card:
    """The card that `row_of` was given."""
    is_task, said, tracking, findings, has_tracking = row
    return Card(
        None if said is None else spec_of(said, is_task=is_task),
        tracking_of(tracking),
        tuple([finding_of(f) for f in findings]),
        has_tracking,
    )


def spec_row(spec: Task | MergePoint) -> Row:
    """The spec half of a card in plain values."""
    return tuple(
        dict(value)
        if name == "places"
        else tuple([plain(step) for step in value])
        if name == "verify"
        else value
        for name, value in spec.__dict__.items()
        if name in spec.__dataclass_fields__
    )


def spec_of(said: Row, *, is_task: bool) -> Task | MergePoint:
    """What `spec_row` was given."""
    spec = _filled(Task, said) if is_task else _filled(MergePoint, said)
    inside = spec.__dict__
    inside["verify"] = tuple([Step(*step) for step in inside["verify"]])
    return spec


def plain(value: Any) -> Row:
    """The fields of a dataclass, with what lies in them in plain values too."""
    found = []
    for name in value.__dataclass_fields__:
        field = getattr(value, name)
        if isinstance(field, Mapping):
            field = {k: plain(v) if isinstance(v, Profile) else v for k, v in field.items()}
        elif isinstance(field, tuple):
            field = tuple([plain(v) if isinstance(v, Step) else v for v in field])
        elif isinstance(field, StrEnum):
            field = str(field)
        found.append(field)
    return tuple(found)


def config_of(row: Row) -> Config:
    """The configuration that `plain` was given."""
    said = dict(zip(Config.__dataclass_fields__, row, strict=True))
    said["setup"] = tuple(Step(*step) for step in said["setup"])
    said["profiles"] = {name: Profile(*profile) for name, profile in said["profiles"].items()}
    return Config(**said)


def finding_of(row: Row) -> Finding:
    """The finding that `plain` was given."""
    path, line, column, severity, message = row
    return Finding(path, line, column, Severity(severity), message)


def tracking_row(tracking: Tracking | None) -> Row | str | None:
    """What a tracking half says, in plain values: only the id where nothing is begun."""
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


def tracking_of(row: Row | str | None) -> Tracking | None:
    """What `tracking_row` was given."""
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


_STATUS = {str(status): status for status in Status}


def _filled(kind: type[_T], values: Row) -> _T:
    """A dataclass of such values; its own way of being made takes ten times as long."""
    made = object.__new__(kind)
    made.__dict__.update(zip(kind.__dataclass_fields__, values, strict=True))  # type: ignore[attr-defined]  # a dataclass
    return made
