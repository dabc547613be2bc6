"""Cards: bytes to records (YAML, then schema, then types), and tracking back to bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path

from gitwaves import __version__, yamlfile, yamlplain
from gitwaves.caches import Cache, key_of
from gitwaves.halves import SEPARATOR, join, planned, split
from gitwaves.model import (
    POINTS_DIR,
    RESERVED_IDS,
    ROOT,
    BatchId,
    Branch,
    Cards,
    Claim,
    Config,
    Evidence,
    Finding,
    Gap,
    MergePoint,
    Oid,
    Place,
    Places,
    PointId,
    Profile,
    Run,
    Severity,
    Status,
    Step,
    Task,
    TaskId,
    Tracking,
    Workstream,
    WorkstreamId,
    closest,
    default_branch,
    is_batch_name,
    is_id,
    seconds,
)
from gitwaves.record import Record, replace
from gitwaves.resources import schema_files, schema_text
from gitwaves.yamlfile import Document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jsonschema.protocols import Validator

    from gitwaves.schemas import Fits

WORKSTREAM_FILE = "workstream.yaml"
_KNOWN = frozenset({"config.yaml", ".gitattributes", "DASHBOARD.txt"})


class Card(Record):
    """The file of one task or merge point, read."""

    spec: Task | MergePoint | None
    tracking: Tracking | None
    findings: tuple[Finding, ...] = ()
    has_tracking: bool = True  # a separator line and something below it


def task_path(workstream: str, task: str) -> str:
    """Where the card of a task stands.

    >>> task_path("WS-A", "A1")
    '.workstreams/WS-A/A1.yaml'
    """
    return f"{ROOT}/{workstream}/{task}.yaml"


def point_path(point: str) -> str:
    """Where the card of a merge point stands."""
    return f"{ROOT}/{POINTS_DIR}/{point}.yaml"


def card_path(cards: Cards, node: str) -> str:
    """Where the card of a task or merge point of a plan stands."""
    task = TaskId(node)
    return cards.path_of(task) if task in cards.tasks else point_path(node)


def load_cards(files: Mapping[str, bytes], odd: Mapping[str, str] | None = None) -> Cards:
    """Reads everything under `.workstreams/`; what cannot be read becomes findings.

    Args:
        files: path from the top of the repository -> bytes, regular files only.
        odd: path -> what it is instead of a regular file, such as "a symbolic link".
    """
    return joined_cards(files, odd or {}, files.__getitem__, lambda p: load_card(files[p], p))


def joined_cards(
    paths: Iterable[str],
    odd: Mapping[str, str],
    read: Callable[[str], bytes],
    card_at: Callable[[str], Card],
) -> Cards:
    """What the files at `paths` say together; `card_at` is asked for each that is a card."""
    findings = [_error(path, f"{what}, not a regular file") for path, what in odd.items()]
    config = Config()
    workstreams: dict[WorkstreamId, Workstream] = {}
    tasks: dict[TaskId, Task] = {}
    points: dict[PointId, MergePoint] = {}
    tracking: dict[str, Tracking] = {}
    for path in sorted(paths):
        parts = path.removeprefix(ROOT + "/").split("/")
        if parts == ["config.yaml"]:
            config, found = load_config(read(path), path)
            findings += found
        elif len(parts) == 2 and parts[1] == WORKSTREAM_FILE and parts[0] != POINTS_DIR:
            workstream, found = load_workstream(read(path), path)
            findings += found
            if workstream is not None:
                workstreams[workstream.id] = workstream
        elif is_card(path):
            card = card_at(path)
            findings += card.findings
            spec = card.spec
            if spec is None:
                continue
            first = tasks.get(TaskId(spec.id)) or points.get(PointId(spec.id))
            if first is not None:
                findings.append(_error(path, f"the id {spec.id} is also in {first.path}"))
                continue
            if isinstance(spec, Task):
                tasks[spec.id] = spec
            else:
                points[spec.id] = spec
            if card.tracking is not None:
                tracking[spec.id] = card.tracking
        elif path.endswith((".yaml", ".yml")) and parts[-1] not in _KNOWN:
            findings.append(
                _warning(path, "not read: cards are WS-…/ID.yaml, merge-points/ID.yaml")
            )
    return Cards(config, workstreams, tasks, points, tracking, tuple(sorted(findings)))


def is_card(path: str) -> bool:
    """Whether the file at a path is read as the card of a task or merge point."""
    parts = path.removeprefix(ROOT + "/").split("/")
    if len(parts) != 2 or not parts[1].endswith(".yaml"):
        return False
    return parts[1] != WORKSTREAM_FILE or parts[0] == POINTS_DIR


@lru_cache(maxsize=1 << 15)
def load_card(data: bytes, path: str) -> Card:
    """Reads the card of a task or merge point, and keeps what was read; the folder says which."""
    return _card(data, path, kept=True)


def read_card(data: bytes, path: str) -> Card:
    """Reads a card as `load_card` does, for a caller that keeps it in a better way."""
    return _card(data, path, kept=False)


def _card(data: bytes, path: str, *, kept: bool) -> Card:
    spec_half, tracking_half = split(data)
    folder, name = path.split("/")[-2:]
    kind = "merge-point" if folder == POINTS_DIR else "task"
    document = _read(spec_half, path, kind, kept=kept)
    findings = [*document.findings]
    ident = name.removesuffix(".yaml")
    if not is_id(ident):
        why = "it is reserved" if ident.lower() in RESERVED_IDS else "letters, digits, single . _ -"
        findings.append(_error(path, f"{ident!r} cannot be an id: {why}"))
    said = document.value.get("id") if isinstance(document.value, dict) else None
    if isinstance(said, str) and is_id(said) and said != ident:
        place = document.places.get("id", (1, 1))
        findings.append(_error(path, f"the id {said} in a card named {name}", place))
    if isinstance(document.value, dict) and "tracking" in document.value:
        place = document.places["tracking"]
        findings.append(_error(path, f"`tracking` without the line `{_separator_text()}`", place))
    bad = any(f.severity is Severity.ERROR for f in findings)
    spec: Task | MergePoint | None = None
    if not bad:
        spec = (_point if kind == "merge-point" else _task)(document, path, ident, folder)
    tracking: Tracking | None = None
    if tracking_half.strip():
        line = spec_half.count(b"\n") + 2
        read = load_tracking if kept else _tracking
        tracking, found = read(tracking_half, path, first_line=line, kept=kept)
        findings += found
    elif not bad:
        findings.append(_warning(path, "no tracking half; `gitwaves check --fix` adds it"))
    return Card(spec, tracking, tuple(findings), bool(tracking_half.strip()))


@lru_cache(maxsize=1 << 15)
def load_tracking(
    data: bytes, path: str, *, first_line: int = 1, kept: bool = True
) -> tuple[Tracking | None, tuple[Finding, ...]]:
    """Reads a tracking half; None where it cannot be understood, and the findings say why."""
    return _tracking(data, path, first_line=first_line, kept=kept)


def _tracking(
    data: bytes, path: str, *, first_line: int, kept: bool
) -> tuple[Tracking | None, tuple[Finding, ...]]:
    folder, name = path.split("/")[-2:]
    ident = name.removesuffix(".yaml")
    if is_id(ident) and data == planned(ident):  # as most are, and as it would be read
        return Tracking(ident), ()
    kind = "merge-point" if folder == POINTS_DIR else "task"
    if kind == "task":
        from gitwaves.plainrows import plain_tracking
        from gitwaves.rows import tracking_of

        if (said := tracking_of(plain_tracking(data))) is not None:
            return said, ()
    document = _read(data, path, kind, part="tracking", first_line=first_line, kept=kept)
    findings = document.findings
    if findings or not isinstance(document.value, dict):
        return None, findings or (_error(path, "no tracking", (first_line, 1)),)
    raw = document.value["tracking"]
    evidence = raw.get("evidence")
    claim = raw.get("claim")
    tracking = Tracking(
        task=raw["task"],
        status=Status(raw["status"]),
        claim=Claim(Oid(claim["tree"]), claim["spec"], claim["id"]) if claim else None,
        agent=raw.get("agent"),
        clone=raw.get("clone"),
        session=raw.get("session"),
        started=raw.get("started"),
        finished=raw.get("finished"),
        attempts=raw.get("attempts") or 0,
        cost=raw.get("cost") or {},
        evidence=Evidence(
            Oid(evidence["commit"]),
            Oid(evidence["tree"]),
            evidence["spec"],
            tuple(
                Run(r["run"], r["exit"], float(r["seconds"]), r["log"])
                for r in evidence.get("runs") or ()
            ),
            tuple(Oid(i) for i in evidence.get("inputs") or ()),
            evidence.get("signature"),
        )
        if evidence
        else None,
        learnings=tuple(raw.get("learnings") or ()),
        spec_gaps=tuple(
            Gap(g["text"], g.get("affects") or {}, bool(g.get("resolved")))
            for g in raw.get("spec_gaps") or ()
        ),
    )
    return tracking, ()


def tracking_bytes(tracking: Tracking) -> bytes:
    """The tracking half that says `tracking`; what is not known is left out."""
    body: dict[str, Any] = {"task": tracking.task, "status": str(tracking.status)}
    if tracking.claim:
        claim = tracking.claim
        body["claim"] = {"tree": claim.tree, "spec": claim.spec, "id": claim.id}
    for key in ("agent", "clone", "session", "started", "finished", "attempts"):
        if value := getattr(tracking, key):
            body[key] = value
    if tracking.cost:
        body["cost"] = dict(tracking.cost)
    if tracking.evidence:
        evidence = tracking.evidence
        body["evidence"] = {
            "commit": evidence.commit,
            "tree": evidence.tree,
            "spec": evidence.spec,
            **({"inputs": list(evidence.inputs)} if evidence.inputs else {}),
            "runs": [
                {"run": r.run, "exit": r.exit, "seconds": r.seconds, "log": r.log}
                for r in evidence.runs
            ],
            **({"signature": evidence.signature} if evidence.signature else {}),
        }
    if tracking.learnings:
        body["learnings"] = list(tracking.learnings)
    if tracking.spec_gaps:
        body["spec_gaps"] = [
            {"text": g.text, "affects": dict(g.affects), "resolved": g.resolved}
            for g in tracking.spec_gaps
        ]
    if tracking == Tracking(tracking.task):
        return planned(tracking.task)
    said = {"tracking": body}
    try:
        return yamlplain.written(said).encode()
    except yamlplain.NotPlain:
        return _written(said)


def _written(value: Mapping[str, Any]) -> bytes:
    """Any value as YAML; `yamlplain.written` writes most of them, and the same."""
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    def quoted(value: Any) -> Any:
        if isinstance(value, str) and yamlplain.needs_quotes(value):
            return DoubleQuotedScalarString(value)
        if isinstance(value, Mapping):
            return {quoted(k): quoted(v) for k, v in value.items()}
        return [quoted(v) for v in value] if isinstance(value, list) else value

    yaml = YAML()
    yaml.width = 1 << 20  # one value, one line: what a person greps for
    out = io.BytesIO()
    yaml.dump(quoted(value), out)
    return out.getvalue()


def with_tracking(card: bytes, tracking: Tracking) -> bytes:
    """`card` with another tracking half; the bytes of its spec half stand as they are."""
    spec, _ = split(card)
    return join(spec, tracking_bytes(tracking))


@lru_cache(maxsize=1 << 10)
def load_workstream(data: bytes, path: str) -> tuple[Workstream | None, tuple[Finding, ...]]:
    """Reads a `workstream.yaml`."""
    document = _read(data, path, "workstream")
    findings = [*document.findings]
    folder = path.split("/")[-2]
    if not is_id(folder):
        findings.append(_error(path, f"{folder!r} cannot name a workstream"))
    if any(f.severity is Severity.ERROR for f in findings):
        return None, tuple(findings)
    raw = document.value or {}
    workstream = Workstream(
        id=WorkstreamId(folder),
        title=raw.get("title") or folder,
        paths=tuple(raw.get("paths") or ()),
        branch=Branch(raw.get("branch") or default_branch(folder)),
        agent=raw.get("agent"),
        path=path,
        places=Places(document.places),
    )
    return workstream, tuple(findings)


@lru_cache(maxsize=64)
def load_config(data: bytes, path: str) -> tuple[Config, tuple[Finding, ...]]:
    """Reads `config.yaml`; defaults where it says nothing or cannot be read."""
    document = _read(data, path, "config")
    findings = [*document.findings]
    if any(f.severity is Severity.ERROR for f in findings) or not document.value:
        return Config(places=Places(document.places)), tuple(findings)
    raw = {k: v for k, v in document.value.items() if v is not None}
    design = raw.get("design") or {}
    config = Config(places=Places(document.places))
    plain = ("title", "agents", "agent", "dispatch", "worktrees", "remote", "merge", "retries")
    config = replace(
        config, **{k: raw[k] for k in (*plain, "on_event", "allowed_signers") if k in raw}
    )
    lengths: dict[str, Any] = {
        k: seconds(raw[k]) for k in ("default_estimate", "lease") if k in raw
    }
    lists: dict[str, Any] = {k: tuple(raw[k]) for k in ("learnings", "shared_paths") if k in raw}
    config = replace(config, **lengths, **lists)
    return replace(
        config,
        trunk=Branch(raw.get("trunk", "main")),
        design_path=design.get("path"),
        design_blob=Oid(design["blob"]) if design.get("blob") else None,
        batches=tuple(BatchId(str(b)) for b in raw.get("batches", ())),
        setup=_steps(raw.get("setup")),
        profiles={name: _profile(p) for name, p in (raw.get("profiles") or {}).items()},
    ), tuple(findings)


def _task(document: Document, path: str, ident: str, folder: str) -> Task:
    raw = document.value
    return Task(
        id=TaskId(ident),
        title=raw["title"],
        workstream=WorkstreamId(folder),
        depends_on=tuple(dict.fromkeys(raw.get("depends_on") or ())),
        batch=BatchId(str(raw["batch"])) if raw.get("batch") is not None else None,
        estimate=seconds(raw["estimate"]) if raw.get("estimate") else None,
        agent=raw.get("agent"),
        paths=tuple(raw.get("paths") or ()),
        spec=raw.get("spec") or "",
        acceptance=tuple(raw.get("acceptance") or ()),
        produces=tuple(raw.get("produces") or ()),
        cancelled=raw.get("cancelled"),
        verify=_steps(raw.get("verify")),
        path=path,
        places=Places(document.places),
    )


def _point(document: Document, path: str, ident: str, folder: str) -> MergePoint:
    del folder
    raw = document.value
    return MergePoint(
        id=PointId(ident),
        title=raw.get("title") or ident,
        requires=tuple(TaskId(t) for t in dict.fromkeys(raw.get("requires") or ())),
        unlocks=tuple(dict.fromkeys(str(u) for u in raw.get("unlocks") or ())),
        spec=raw.get("spec") or "",
        verify=_steps(raw.get("verify")),
        path=path,
        places=Places(document.places),
    )


def _steps(raw: Iterable[Mapping[str, Any]] | None) -> tuple[Step, ...]:
    return tuple(
        Step(
            run=step.get("run"),
            manual=step.get("manual"),
            always=bool(step.get("always")),
            **({"timeout": seconds(step["timeout"])} if step.get("timeout") else {}),
        )
        for step in raw or ()
    )


def _profile(raw: Mapping[str, Any]) -> Profile:
    return Profile(
        command=tuple(raw["command"]),
        env=raw.get("env") or {},
        timeout=seconds(raw["timeout"]) if raw.get("timeout") else None,
        client=raw.get("client") or "text",
        resume=tuple(raw.get("resume") or ()),
        open=tuple(raw.get("open") or ()),
    )


def _separator_text() -> str:
    return SEPARATOR.decode().strip()


def _error(path: str, message: str, place: Place = (1, 1)) -> Finding:
    return Finding(path, *place, Severity.ERROR, message)


def _warning(path: str, message: str, place: Place = (1, 1)) -> Finding:
    return Finding(path, *place, Severity.WARNING, message)


def keep_in(folder: Path) -> None:
    """Keeps what cards were read as in a folder, for the processes to come."""
    global _kept  # a memo, like those of lru_cache: it changes no answer
    _kept = Cache(folder)


def save_kept() -> None:
    """Writes to that folder what was read for the first time."""
    if _kept is not None:
        _kept.save()


_kept: Cache | None = None


@cache
def own_version() -> bytes:
    """What a reading depends on besides the bytes read: this very code."""
    said = [__version__]
    with os.scandir(Path(__file__).parent) as entries:
        own = sorted((e.name, e.stat()) for e in entries if e.name.endswith(".py"))
    for name, stat in (*own, *((path.name, path.stat()) for path in schema_files())):
        said.append(f"{name} {stat.st_size} {stat.st_mtime_ns}")
    return "\n".join(said).encode()


def _read(
    data: bytes, path: str, kind: str, *, part: str = "", first_line: int = 1, kept: bool = True
) -> Document:
    """A file, or the part of it that starts at a line, with all that YAML and schema say of it."""

    def fresh() -> Document:
        document = yamlfile.load(data, path, first_line=first_line)
        found = _violations(document, path, kind, part)
        return replace(document, findings=(*document.findings, *found)) if found else document

    def to_keep() -> tuple[Any, ...]:
        document = fresh()
        said = [(f.path, f.line, f.column, str(f.severity), f.message) for f in document.findings]
        return document.value, document.places, tuple(said)

    if _kept is None or not kept or len(data) > yamlfile.MAX_BYTES:
        return fresh()
    how = f"{kind} {part} {first_line}".encode()
    key = key_of(own_version(), how, path.encode(errors="surrogateescape"), data)
    value, places, said = _kept.value(key, to_keep)
    findings = tuple(Finding(p, line, column, Severity(s), m) for p, line, column, s, m in said)
    return Document(value, places, findings)


@cache
def _validator(kind: str, part: str) -> Validator:
    from jsonschema import Draft202012Validator, ValidationError, validators

    extended: Any = validators.extend

    def unique(validator: Any, wanted: bool, items: Any, schema: Any) -> Iterator[Any]:
        # jsonschema's own compares each with each where numbers and texts are mixed
        del schema
        if wanted and validator.is_type(items, "array"):
            import json

            different = {json.dumps(item, sort_keys=True) for item in items}
            if len(different) < len(items):
                yield ValidationError(f"{items!r} has non-unique elements")

    checker: Validator = extended(Draft202012Validator, {"uniqueItems": unique})(
        _schema(kind, part)
    )
    return checker


@cache
def _fits(kind: str, part: str) -> Fits:
    from gitwaves.schemas import fits

    return fits(_schema(kind, part))


def _schema(kind: str, part: str) -> dict[str, Any]:
    import json  # slow to import, and what was read before needs no schema

    schema: dict[str, Any] = json.loads(schema_text(f"{kind}.schema.json"))
    if part:
        inner = schema["properties"][part]
        schema = {
            "$defs": schema.get("$defs", {}),
            "type": "object",
            "properties": {part: inner},
            "required": [part],
            "additionalProperties": False,
        }
    return schema


def _violations(document: Document, path: str, kind: str, part: str) -> list[Finding]:
    """What the schema says of a document, each at its place and in a reader's words."""
    if document.findings:
        return []
    if not isinstance(document.value, dict):
        if document.value is None and kind in {"config", "workstream"} and not part:
            return []
        return [_error(path, f"not a {kind.replace('-', ' ')}: a mapping of keys is expected")]
    findings = []
    known_good = _fits(kind, part)(document.value)
    errors: Iterable[Any] = () if known_good else _validator(kind, part).iter_errors(document.value)
    for violation in errors:
        where = _where(violation.absolute_path)
        if violation.validator in {"additionalProperties", "unevaluatedProperties"}:
            allowed = violation.schema.get("properties", {})
            for key in violation.instance:
                if key in allowed or str(key).startswith("x-"):
                    continue
                place = document.places.get(f"{where}.{key}" if where else str(key), (1, 1))
                guess = closest(str(key), allowed)
                message = f"unknown key {key!r}" + (f"; did you mean {guess!r}?" if guess else "")
                findings.append(_error(path, message, place))
            continue
        place = document.places.get(where, (1, 1))
        findings.append(_error(path, _words(violation, where), place))
    if kind == "task" and not part:
        batch = document.value.get("batch")
        if isinstance(batch, str) and not is_batch_name(batch):
            findings.append(
                _error(path, f"{batch!r} cannot name a batch", document.places["batch"])
            )
    return findings


def _words(violation: Any, where: str) -> str:
    value = violation.instance
    import json

    shown = json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    if violation.validator == "required":
        missing = [k for k in violation.validator_value if k not in value]
        inside = f" in `{where}`" if where else ""
        return f"missing key {', '.join(repr(k) for k in missing)}{inside}"
    if violation.validator == "type":
        wanted = violation.validator_value
        wanted = wanted if isinstance(wanted, str) else " or ".join(wanted)
        quote = (
            "; write it in quotes"
            if "string" in wanted and not isinstance(value, list | dict)
            else ""
        )
        return f"`{where}` must be {_TYPES.get(wanted, wanted)}, not {shown}{quote}"
    if violation.validator == "pattern":
        return f"`{where}`: {shown} is not of the form that is expected here"
    return f"`{where}`: {violation.message if len(violation.message) < 200 else shown}"


_TYPES = {"string": "text", "array": "a list", "object": "a mapping", "integer": "a whole number"}


def _where(path: Iterable[str | int]) -> str:
    where = ""
    for part in path:
        where += f"[{part}]" if isinstance(part, int) else (f".{part}" if where else str(part))
    return where
