"""Cards in plain values, and back: what can be marshalled."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from gitwaves.cards import Card
from gitwaves.model import (
    Claim,
    Config,
    Evidence,
    Finding,
    Gap,
    MergePoint,
    Places,
    Profile,
    Run,
    Severity,
    Status,
    Step,
    Task,
    Tracking,
)
from gitwaves.record import Record, values_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Row = tuple[Any, ...]
else:
    Row = tuple


# At which of the fields these two stand.
_PLACES, _STEPS = (
    {kind: kind.__match_args__.index(name) for kind in (Task, MergePoint)}
    for name in ("places", "verify")
)


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
    """The card that `slim_of` was given, as far as that goes: not what its tracking half says."""
    is_task, said, began, findings = slim
    spec: Task | MergePoint | None = None
    if said is not None and is_task:
        ident, stream, needs, batch, estimate, cancelled = said
        spec = Task(ident, "", stream, needs, batch, estimate, cancelled=cancelled, path=path)
    elif said is not None:
        spec = spec_of(said, is_task=False)
    tracking = None if spec is None or began is None else _BEGUN
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
    values = list(values_of(spec))
    places, steps = _PLACES[type(spec)], _STEPS[type(spec)]
    values[places] = dict(values[places])
    values[steps] = tuple([values_of(step) for step in values[steps]])
    return tuple(values)


def spec_of(said: Row, *, is_task: bool) -> Task | MergePoint:
    """What `spec_row` was given."""
    kind = Task if is_task else MergePoint
    values = dict(zip(kind.__match_args__, said, strict=True))
    values["verify"] = tuple([Step(*step) for step in values["verify"]])
    values["places"] = Places(values["places"])
    return kind(**values)


def plain(value: Record) -> Row:
    """The fields of a record, with what lies in them in plain values too."""
    found = []
    for field in values_of(value):
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
    said = dict(zip(Config.__match_args__, row, strict=True))
    said["setup"] = tuple(Step(*step) for step in said["setup"])
    said["profiles"] = {name: Profile(*profile) for name, profile in said["profiles"].items()}
    said["places"] = Places(said["places"])
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
    said = dict(zip(Tracking.__match_args__, row, strict=True))
    said["status"] = _STATUS[said["status"]]
    if said["claim"]:
        said["claim"] = Claim(*said["claim"])
    if said["evidence"]:
        commit, tree, spec, runs, inputs, signature = said["evidence"]
        said["evidence"] = Evidence(
            commit, tree, spec, tuple([Run(*run) for run in runs]), inputs, signature
        )
    said["spec_gaps"] = tuple([Gap(*gap) for gap in said["spec_gaps"]])
    return Tracking(**said)


_BEGUN = Tracking("")  # stands for whatever a tracking half says
_STATUS = {str(status): status for status in Status}
