"""From a design document to cards, and again after the document changed. Writes nothing to disk.

A card is *cut* from what the document says. Importing again merges three ways, field by field:
what the document said then, what it says now, and what the card says. The user's own edits stay,
and tracking halves are carried over byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set

from ruamel.yaml.error import YAMLError

from gitwaves.cards import WORKSTREAM_FILE, point_path, task_path
from gitwaves.design_doc import DesignDoc, DocMergePoint, DocTask, DocWorkstream
from gitwaves.halves import join, planned, split
from gitwaves.model import ROOT, Branch, Config, Finding, Severity, Step, seconds
from gitwaves.record import Record, field
from gitwaves.yamledit import dump, edited
from gitwaves.yamlfile import Document, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SOURCE = "x-source"  # where in the document a card comes from: gitwaves' own, and in no digest
FLOW = frozenset({"depends_on", "requires", "unlocks", "paths", "produces"})  # lists on one line
DIGESTED = frozenset({"spec", "acceptance", "paths", "produces", "verify", "requires"})

# What the document has a say in, in the order of a card; other keys are the user's.
TASK = ("id", "title", "depends_on", "batch", "estimate", "agent", "paths", "spec", "acceptance")
TASK_FIELDS = (*TASK, "produces", "verify", SOURCE)
POINT_FIELDS = ("id", "title", "requires", "unlocks", "spec", "verify", SOURCE)
WORKSTREAM_FIELDS = ("title", "paths", "branch", "agent", SOURCE)


class Import(Record):
    """What importing a document comes to: nothing of it is on disk yet."""

    files: Mapping[str, bytes] = field(default_factory=dict)  # to be written, path -> bytes
    report: tuple[str, ...] = ()  # what was done, a line each
    conflicts: tuple[Finding, ...] = ()  # what was left as it was, and why
    deleted: tuple[str, ...] = ()  # paths to be removed


class Entry(Record):
    """One file as the document would have it."""

    id: str
    kind: str  # task, point, workstream
    path: str
    line: int
    fields: Mapping[str, Any]

    @property
    def name(self) -> str:
        """How reports call it."""
        return {"point": "merge point ", "workstream": "workstream "}.get(self.kind, "") + self.id


def cut(doc: DesignDoc, config: Config) -> dict[str, bytes]:
    """The files of a first import: a card for each task and merge point, and each workstream.

    A workstream whose branch the document calls trunk gets its own instead.
    """
    return {entry.path: new_card(entry) for entry in entries(doc, config.trunk).values()}


def new_card(entry: Entry) -> bytes:
    """A file that nobody has edited; a card of a task or merge point has its tracking half."""
    spec = dump(entry.fields, FLOW)
    return spec if entry.kind == "workstream" else join(spec, planned(entry.id))


def entries(doc: DesignDoc, trunk: str) -> dict[tuple[str, str], Entry]:
    """Every file that a document makes, by kind and id."""
    found = [
        *(_workstream(doc, stream, trunk) for stream in doc.workstreams),
        *(_task(doc, task) for task in doc.tasks),
        *(_point(doc, point) for point in doc.merge_points),
    ]
    return {(entry.kind, entry.id): entry for entry in found}


def _workstream(doc: DesignDoc, stream: DocWorkstream, trunk: str) -> Entry:
    fields = {
        "title": stream.title,
        "paths": list(stream.paths),
        "branch": stream.branch if stream.branch != Branch(trunk) else None,
        "agent": stream.agent,
        SOURCE: f"{doc.path}:{stream.line}",
    }
    kept = {key: value for key, value in fields.items() if value or key == "paths"}
    path = f"{ROOT}/{stream.id}/{WORKSTREAM_FILE}"
    return Entry(stream.id, "workstream", path, stream.line, kept)


def _task(doc: DesignDoc, task: DocTask) -> Entry:
    fields = {
        "id": task.id,
        "title": task.title,
        "depends_on": list(task.depends_on),
        "batch": _batch(task.batch),
        "estimate": task.estimate,
        "agent": task.agent,
        "paths": list(task.paths),
        "spec": _text(task.spec),
        "acceptance": list(task.acceptance),
        "produces": list(task.produces),
        "verify": [_step(step) for step in task.verify],
        SOURCE: f"{doc.path}:{task.line}",
    }
    kept = {k: v for k, v in fields.items() if v or v == 0 or k in {"depends_on", "spec"}}
    return Entry(task.id, "task", task_path(task.workstream, task.id), task.line, kept)


def _point(doc: DesignDoc, point: DocMergePoint) -> Entry:
    fields = {
        "id": point.id,
        "title": point.title,
        "requires": list(point.requires),
        "unlocks": list(point.unlocks),
        "spec": _text(point.spec),
        "verify": [_step(step) for step in point.verify],
        SOURCE: f"{doc.path}:{point.line}",
    }
    kept = {key: value for key, value in fields.items() if value}
    return Entry(point.id, "point", point_path(point.id), point.line, kept)


def _text(spec: str) -> str:
    return f"{spec}\n" if spec else ""


def _batch(name: str | None) -> int | str | None:
    """The name of a batch as a card has it: a number where it is one."""
    return int(name) if name and re.fullmatch(r"0|[1-9][0-9]{0,8}", name) else name


def _step(step: Step) -> dict[str, str]:
    return {"manual": step.manual} if step.manual is not None else {"run": step.run or ""}


def reimport(
    old: DesignDoc | None,
    new: DesignDoc,
    existing: Mapping[str, bytes],
    begun: Set[str],
    *,
    trunk: str = "main",
) -> Import:
    """Merges a changed document into the cards that stand.

    Args:
        old: the document they were imported from; None where it is not known, and then whatever a
            card says is taken to be the user's.
        new: the document now.
        existing: the files under `.workstreams/`, path -> bytes.
        begun: ids of the tasks and merge points that are not merely planned.
        trunk: no workstream's branch, whatever the document says.
    """
    merge = _Merge(existing, begun, new.path)
    before = entries(old, trunk) if old else {}
    after = entries(new, trunk)
    for key, entry in after.items():
        merge.settle(before.get(key), entry)
    for key, entry in reversed(before.items()):  # a workstream goes after its cards
        if key not in after:
            merge.drop(entry)
    return merge.result()


class _Merge:
    """One re-import under way: gathers what is to be written, said and removed."""

    def __init__(self, existing: Mapping[str, bytes], begun: Set[str], document: str) -> None:
        self.existing = existing
        self.begun = begun
        self.document = document
        self.files: dict[str, bytes] = {}
        self.report: list[str] = []
        self.conflicts: list[Finding] = []
        self.deleted: list[str] = []

    def result(self) -> Import:
        return Import(
            self.files, tuple(self.report), tuple(sorted(self.conflicts)), tuple(self.deleted)
        )

    def keep(self, path: str, message: str, line: int = 1, column: int = 1) -> None:
        """Reports what is left as it is."""
        self.conflicts.append(Finding(path, line, column, Severity.WARNING, message))

    def find(self, entry: Entry) -> str | None:
        """The path of the file that holds an entry, in whichever workstream it stands."""
        if entry.path in self.existing:
            return entry.path
        if entry.kind != "task":
            return None
        name = "/" + entry.path.rsplit("/", 1)[1]
        points = point_path("")[: -len(".yaml")]
        found = (p for p in sorted(self.existing) if p.endswith(name) and not p.startswith(points))
        return next(found, None)

    def settle(self, before: Entry | None, entry: Entry) -> None:
        """Brings one file up to what the document says now."""
        path = self.find(entry)
        if path is not None:
            self.update(path, before, entry)
            self.leave(before, entry)
        elif before is None:
            self.files[entry.path] = new_card(entry)
            self.report.append(f"{entry.name}: new, from line {entry.line}")
        elif _said(before) != _said(entry):
            self.keep(
                self.document,
                f"{entry.name} was deleted by hand and has changed here since: it stays deleted",
                entry.line,
            )

    def leave(self, before: Entry | None, entry: Entry) -> None:
        """Removes the card that a move left where it was, when it was killed half-way."""
        if before is None or before.path == entry.path or before.path not in self.existing:
            return
        others = {p: data for p, data in self.existing.items() if p != entry.path}
        move = _Merge(others, self.begun, self.document)
        move.update(before.path, before, entry)
        if entry.path in move.files and move.files[entry.path] == self.existing.get(entry.path):
            self.deleted.append(before.path)
            self.report.append(f"{entry.name}: moved to {entry.path.split('/')[1]}")

    def update(self, path: str, before: Entry | None, entry: Entry) -> None:
        """Merges one file that stands, field by field, and moves it where the document does."""
        data = self.existing[path]
        spec, _ = split(data)
        document = load(spec, path)
        if not isinstance(document.value, dict):
            found = document.findings[0] if document.findings else None
            self.keep(path, "cannot be read, left as it is", found.line if found else 1)
            return
        changes = self.merged(path, document, before, entry)
        said = list(changes)
        target = self.target(path, before, entry)
        if target == path and not said:
            return
        if SOURCE in document.value:  # its line alone is no reason to touch a card
            changes[SOURCE] = entry.fields[SOURCE]
        try:
            new = edited(spec, changes, _order(entry.kind), FLOW)
            _require_set(load(new, path), document, changes)
        except (YAMLError, ValueError) as error:
            self.keep(path, f"cannot be edited, left as it is: {str(error).splitlines()[0]}")
            return
        self.files[target] = new + data[len(spec) :]
        if target != path:
            self.deleted.append(path)
            self.report.append(f"{entry.name}: moved to {target.split('/')[1]}")
        if said:
            begun = entry.id in self.begun and not DIGESTED.isdisjoint(said)
            stale = " (begun: to be verified again)" if begun else ""
            self.report.append(f"{entry.name}: {', '.join(said)} changed{stale}")

    def merged(
        self, path: str, document: Document, before: Entry | None, entry: Entry
    ) -> dict[str, Any]:
        """The fields to be set, None for those that go; what both sides changed is reported."""
        changes: dict[str, Any] = {}
        for key in _order(entry.kind):
            then = before.fields.get(key) if before else None
            now, card = entry.fields.get(key), document.value.get(key)
            if key == SOURCE:
                continue
            if _same(key, now, card) or (before is not None and _same(key, now, then)):
                continue
            elif key == "branch" and before is not None and self.at_work(path):
                self.keep(path, f"the document says branch {now}, but tasks here are begun: kept")
            elif before is not None and _same(key, card, then):
                changes[key] = now
            else:
                what = "both changed" if before is not None else "not what the document says"
                self.keep(path, f"{what}: `{key}` stays as it is", *_place(document, key))
        return changes

    def started(self, path: str, entry: Entry) -> bool:
        """Whether there is work in a card, by its branch or by its own tracking half."""
        tracking = split(self.existing[path])[1].replace(b"\r\n", b"\n")
        return entry.id in self.begun or tracking not in {b"", planned(entry.id)}

    def at_work(self, path: str) -> bool:
        """Whether a task of the workstream whose file this is has been begun."""
        folder = path.rsplit("/", 1)[0] + "/"
        return any(p.startswith(folder) and _ident(p) in self.begun for p in self.existing)

    def target(self, path: str, before: Entry | None, entry: Entry) -> str:
        """Where a card belongs: it follows the document, unless it was begun or moved by hand."""
        if before is None or before.path == entry.path or path == entry.path:
            return path
        to = entry.path.split("/")[1]
        if self.started(path, entry):
            self.keep(path, f"the document moves {entry.id} to {to}, but it is begun: not moved")
        elif path != before.path:
            self.keep(path, f"both moved: the document says {to}; it stays here")
        else:
            return entry.path
        return path

    def drop(self, entry: Entry) -> None:
        """Removes what is gone from the document, if nobody has put anything into it."""
        path = self.find(entry)
        if path is None:
            return
        gone = f"{entry.name} is gone from {self.document}"
        if entry.kind == "workstream" and self.inhabited(path):
            self.keep(path, f"{gone}, but has cards: kept")
        elif self.started(path, entry):
            self.keep(path, f"{gone}, but it is begun: kept; to give it up, set `cancelled`")
        elif _untracked(self.existing[path]) != _untracked(new_card(entry)):
            self.keep(path, f"{gone}, but the card was edited: kept; delete it by hand")
        else:
            self.deleted.append(path)
            self.report.append(f"{entry.name}: deleted")

    def inhabited(self, path: str) -> bool:
        """Whether cards stand beside a workstream's file once everything is done."""
        folder = path.rsplit("/", 1)[0] + "/"
        there = (self.existing.keys() | self.files.keys()) - set(self.deleted)
        return any(p.startswith(folder) and p != path for p in there)


def _require_set(new: Document, old: Document, changes: Mapping[str, Any]) -> None:
    """Makes sure that an edit did what it was to do and nothing else.

    Raises:
        ValueError: it did not.
    """
    wanted = {
        k: v for k, v in {**old.value, **changes}.items() if k not in changes or v is not None
    }
    if new.value != wanted:
        raise ValueError("its YAML is too unusual")


def _order(kind: str) -> tuple[str, ...]:
    return {"task": TASK_FIELDS, "point": POINT_FIELDS}.get(kind, WORKSTREAM_FIELDS)


def _said(entry: Entry) -> dict[str, Any]:
    """What the document says of an entry, but for the line it stands on."""
    return {key: value for key, value in entry.fields.items() if key != SOURCE}


def _untracked(data: bytes) -> bytes:
    """The spec half of a card, but for the line it comes from."""
    spec = split(data)[0].replace(b"\r\n", b"\n")
    return re.sub(rb"(?m)^x-source: .*\n", b"", spec)


def _ident(path: str) -> str:
    return path.rsplit("/", 1)[1].removesuffix(".yaml")


def _place(document: Document, key: str) -> tuple[int, int]:
    return document.places.get(key, (1, 1))


def _same(key: str, one: Any, other: Any) -> bool:
    """Whether two values of a field mean the same."""
    return bool(_meaning(key, one) == _meaning(key, other))


def _meaning(key: str, value: Any) -> Any:
    """A value without what makes no difference: how it is written, and how emptiness is."""
    if value is None or value == [] or value == "":
        return None
    if key == "spec":
        return str(value).strip()
    if key == "batch":
        return str(value)
    if key == "estimate":
        try:
            return seconds(str(value))
        except ValueError:
            return value
    if isinstance(value, list):
        return [{k: v for k, v in i.items() if v} if isinstance(i, dict) else str(i) for i in value]
    return value
