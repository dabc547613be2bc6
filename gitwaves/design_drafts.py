"""Drafts: every place of a design document that speaks of a task, merge point or workstream.

The same task may stand in an overview table, in a batch's list and under its own heading; each
place leaves a draft here, as the text has it, and `design_doc` makes one task of them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from enum import IntEnum

from gitwaves import design_text as words
from gitwaves.design_outline import (
    Fields,
    Node,
    Said,
    Section,
    extend,
    fields,
    heading_key,
    item_text,
    items,
    rows,
    source,
    span,
)
from gitwaves.design_tables import columns
from gitwaves.model import Finding, Severity, is_id
from gitwaves.patterns import regex
from gitwaves.record import Record, field

_STRICT = regex(r"[A-Z]{1,3}-?\d+(?:\.\d+)*")
_SPEC_KIT = regex(r"T\d{3,}")
_WORKSTREAMS = regex(r"\bwork ?streams?\b|\bservice boundar", re.IGNORECASE)
_SUMS = frozenset({"total", "totals", "sum", "all"})
_BAD_ID = "cannot be an id: a letter, then letters and digits, single . _ or - between them"


class Rank(IntEnum):
    """How much a place says of a task: details win."""

    MENTION = 0  # the list of a batch
    ROW = 1
    ITEM = 2
    HEADING = 3


class Draft(Record, frozen=False):
    """One place that speaks of something, as the text has it."""

    id: str
    line: int
    rank: Rank
    title: str = ""
    said: Fields = field(default_factory=dict)
    spec: str = ""


class Drafts(Record, frozen=False):
    """All drafts of a document."""

    path: str
    lines: list[str]
    tasks: list[Draft] = field(default_factory=list)
    points: list[Draft] = field(default_factory=list)
    workstreams: list[Draft] = field(default_factory=list)
    mentions: list[tuple[Said, str]] = field(default_factory=list)  # references, their batch
    worktrees: list[tuple[str, str, Said]] = field(
        default_factory=list
    )  # name, branch, workstreams
    batches: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def error(self, line: int, message: str) -> None:
        self.findings.append(Finding(self.path, line, 1, Severity.ERROR, message))

    def warn(self, line: int, message: str) -> None:
        self.findings.append(Finding(self.path, line, 1, Severity.WARNING, message))


def drafts(path: str, lines: list[str], sections: Sequence[Section]) -> Drafts:
    """Everything that the sections of a document say."""
    found = Drafts(path, lines)
    parts_of: dict[int, list[Section]] = {}
    for section in sections:
        for kind, opened in section.open.items():
            if opened.kind == kind:
                parts_of.setdefault(id(opened), []).append(section)
    for section in sections:
        parts = parts_of.get(id(section), [])
        if section.kind == "task":
            _task_heading(found, section, parts)
        elif section.kind == "point":
            _point_heading(found, section, parts)
        elif "task" not in section.open and "point" not in section.open:
            if section.kind == "workstream":
                said, _ = fields(section.nodes)
                found.workstreams.append(
                    Draft(section.id, section.line, Rank.HEADING, section.title, said)
                )
            elif section.kind == "batch":
                found.batches.append(section.id)
            _scan(found, section, section.nodes)
    return found


def _task_heading(found: Drafts, section: Section, parts: list[Section]) -> None:
    title, needs, length = words.asides(section.title)
    draft = Draft(section.id, section.line, Rank.HEADING, title)
    draft.said, draft.spec = _unit(found.lines, parts)
    _place(draft, section, needs, length)
    _add(found, found.tasks, draft)


def _point_heading(found: Drafts, section: Section, parts: list[Section]) -> None:
    title, requires, unlocks = words.convergence(section.title)
    draft = Draft(section.id, section.line, Rank.HEADING, title)
    draft.said, draft.spec = _unit(found.lines, parts)
    if unlocks:
        draft.said.setdefault("unlocks", [Said(unlocks, section.line)])
        draft.said.setdefault("depends", [Said(requires, section.line)])
    else:
        draft.title = section.title
    _add(found, found.points, draft)


def _unit(lines: list[str], parts: list[Section]) -> tuple[Fields, str]:
    """The values in a heading's whole text, sub-headings included, and the text that is left."""
    said, taken = fields(parts[0].nodes)
    for part in parts[1:]:
        key = heading_key(part.text)
        inner, lines_taken = fields(part.nodes, key)
        extend(said, inner)
        taken |= lines_taken
        if key and all(
            n in lines_taken or not lines[n - 1].strip() for n in range(part.body, part.end)
        ):
            taken.update(range(part.line, part.body))
    text = source(lines, parts[0].body, parts[-1].end, taken)
    return said, "\n\n".join([*(s.text for s in said.pop("spec", [])), *([text] if text else [])])


def _place(
    draft: Draft, section: Section, needs: str | None = None, length: str | None = None
) -> None:
    """Adds what the draft's place says of it: the brackets of its title, the headings above."""
    extras = {
        "depends": needs,
        "estimate": length,
        "batch": section.under("batch"),
        "workstream": section.under("workstream"),
    }
    for key, text in extras.items():
        if text:
            line = section.open[key].line if key in section.open else draft.line
            draft.said.setdefault(key, [Said(text, line)])


def _add(found: Drafts, drafts_of: list[Draft], draft: Draft) -> None:
    if is_id(draft.id):
        drafts_of.append(draft)
    else:
        found.error(draft.line, f"{draft.id!r} {_BAD_ID}")


def _scan(found: Drafts, section: Section, nodes: Sequence[Node]) -> None:
    """Reads the tables and lists of a section that is no task's own."""
    for node in nodes:
        if node.type == "table":
            _table(found, section, node)
        for number, item in items(node):
            _item(found, section, item, number)


def _item(found: Drafts, section: Section, item: Node, number: int | None) -> None:
    text, said, rest, taken = item_text(item)
    first, end = span(item)
    point = words.point(text)
    stream = words.workstream(text)
    task = words.named(text)
    if point and ("points" in section.open or words.convergence(point[1])[2]):
        draft = Draft(point[0], first, Rank.ITEM, "", said)
        draft.title, *ends = words.convergence(point[1])
        for key, value in zip(("depends", "unlocks"), ends, strict=True):
            if value:
                draft.said.setdefault(key, [Said(value, first)])
        draft.spec = textwrap.dedent(source(found.lines, first, end, taken))
        _add(found, found.points, draft)
    elif _batch_item(found, section, text, first, number, rest):
        return
    elif stream and (_WORKSTREAMS.search(section.text) or said.keys() & {"paths", "branch"}):
        found.workstreams.append(Draft(stream[0], first, Rank.ITEM, stream[1], said))
    elif task and is_id(task.id) and _is_task_item(task, section):
        title, needs, length = words.asides(task.title)
        draft = Draft(task.id, first, Rank.ITEM, title, said)
        own = [s.text for s in said.pop("spec", [])]
        left = textwrap.dedent(source(found.lines, first, end, taken))
        draft.spec = "\n\n".join([*own, *([left] if left else [])])
        _place(draft, section, needs, length)
        found.tasks.append(draft)
    else:
        _scan(found, section, [node for node in rest if node.type != "table"])


def _is_task_item(task: words.Named, section: Section) -> bool:
    """Whether a list item that begins like a task is one: not in prose, not in a mere checklist."""
    if {"other", "points"} & section.open.keys():
        return False
    context = bool({"workstream", "batch", "tasks"} & section.open.keys())
    if not task.title:
        return context
    if task.loose and not task.marked:
        strict = _STRICT if context else _SPEC_KIT
        return task.task and bool(strict.fullmatch(task.id))
    return task.task or context


def _batch_item(
    found: Drafts, section: Section, text: str, line: int, number: int | None, rest: list[Node]
) -> bool:
    """Takes a list item that says which tasks are in a batch."""
    plain = words.unmarked(words.plain(text))
    batch = words.batch(text)
    if batch is None and "batches" in section.open:
        match = re.fullmatch(r"(?:batch\s+)?([\w.-]+)\s*[:–—]\s*(.*)", plain, re.IGNORECASE)
        batch = (match[1], match[2]) if match else (str(number), plain) if number else None
    if batch is None and "batch" in section.open and "," in plain and _all_ids(plain):
        batch = (section.open["batch"].id, plain)
    if batch is None:
        return False
    name, members = batch
    if not _all_ids(members):  # the ids may stand in brackets, behind the batch's title
        members = ",".join(re.findall(r"\(([^()]*)\)", members))
    if _all_ids(members):
        found.mentions.append((Said(members, line), name))
    elif "batches" not in section.open and not rest:
        return False
    found.batches.append(name)
    inner = Section(section.level, text, line, line, kind="batch", id=name)
    inner.open = {**section.open, "batch": inner}
    inner.open.pop("batches", None)
    _scan(found, inner, rest)
    return True


def _all_ids(text: str) -> bool:
    pieces = words.references(text)
    return bool(pieces) and all(any(c.isdigit() for c in p) and is_id(p) for p in pieces)


def _table(found: Drafts, section: Section, table: Node) -> None:
    header, body = rows(table)
    kind, keys = columns(header)
    if kind == "tasks" and not _holds_tasks(section, header, keys):
        return
    for line, cells in body:
        said = {k: [Said(cell, line)] for k, cell in zip(keys, cells, strict=False) if k and cell}
        ident = said.pop("id")[0].text if "id" in said else ""
        if kind == "worktrees":
            text = {key: words.plain(values[0].text) for key, values in said.items()}
            shared = said.get("workstreams", [Said("", line)])[0]
            found.worktrees.append((text.get("worktree", ""), text.get("branch", ""), shared))
        elif words.says_none(ident):
            continue
        elif kind == "batches":
            members = said.get("tasks", [Said("", line)])[0]
            if (name := words.batch_name(ident)) and _all_ids(members.text):
                found.mentions.append((members, name))
                found.batches.append(name)
        elif kind == "workstreams":
            if stream := words.workstream(ident) or words.workstream(
                f"Workstream {words.plain(ident)}:"
            ):
                title = words.plain(said.pop("title", [Said("", line)])[0].text)
                found.workstreams.append(Draft(stream[0], line, Rank.ROW, title, said))
        elif kind == "points" or (kind == "tasks" and words.point(ident)):
            _row(found, found.points, section, ident, line, said)
        elif kind == "tasks" and (words.named(ident) or "depends" in keys or "task" not in header):
            _row(found, found.tasks, section, ident, line, said)


def _holds_tasks(section: Section, header: list[str], keys: list[str]) -> bool:
    """Whether a table that looks like one of tasks is one, by where it stands."""
    if "depends" in keys:
        return True
    if {"other", "points"} & section.open.keys():
        return False
    context = bool({"workstream", "batch", "tasks"} & section.open.keys())
    return context or "task" in header or "task id" in header


def _row(
    found: Drafts, drafts_of: list[Draft], section: Section, ident: str, line: int, said: Fields
) -> None:
    is_point = drafts_of is found.points
    point = words.point(ident) if is_point else None
    task = words.named(ident)
    name = words.unmarked(words.plain(ident)).strip("_ ")
    if point is not None:
        name, title = point
    elif task is not None:
        name, title = task.id, task.title
    else:
        title = ""
    if name.lower() in _SUMS:
        return
    stated = [words.plain(s.text) for s in said.pop("title", [])]
    spec = [s.text for s in said.pop("spec", [])]
    draft = Draft(name, line, Rank.ROW, words.unmarked((stated or [title])[0]), said)
    draft.spec = "\n\n".join(spec)
    if not is_point:
        if task is None and " " in name:
            found.warn(line, f"{name!r} is no id: this row is left out")
            return
        _place(draft, section)
    _add(found, drafts_of, draft)
