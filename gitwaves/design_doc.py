"""Design documents: Markdown to workstreams, tasks and merge points. Nothing is invented.

A document is read in three steps: every place that speaks of a task leaves a draft
(`design_drafts`); references are resolved against all the ids there are; the drafts of one task
become one task. What is said badly becomes a finding at its line, and the rest is read on.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from gitwaves import design_text as words
from gitwaves import design_values as values
from gitwaves.design_drafts import Draft, Drafts, Rank, drafts
from gitwaves.design_outline import Said, outline
from gitwaves.design_refs import Known, key_of, references
from gitwaves.errors import GitwavesError
from gitwaves.model import Branch, Finding, Step, is_id, natural
from gitwaves.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class DocWorkstream(Record):
    """A workstream as the document has it; `paths` are its tasks' where it states none."""

    id: str
    title: str
    line: int
    paths: tuple[str, ...] = ()
    branch: Branch | None = None
    agent: str | None = None


class DocTask(Record):
    """A task as the document has it."""

    id: str
    title: str
    workstream: str
    line: int
    depends_on: tuple[str, ...] = ()  # tasks and merge points
    batch: str | None = None
    estimate: str | None = None  # as cards write it: 90s, 10m, 2h, 1h30m
    agent: str | None = None
    paths: tuple[str, ...] = ()
    spec: str = ""
    acceptance: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    verify: tuple[Step, ...] = ()


class DocMergePoint(Record):
    """A merge point as the document has it."""

    id: str
    title: str
    line: int
    requires: tuple[str, ...]
    unlocks: tuple[str, ...] = ()  # tasks, or names of whole batches
    spec: str = ""
    verify: tuple[Step, ...] = ()


class DesignDoc(Record):
    """All that a document says of the plan; what it says badly is in `findings`."""

    path: str
    title: str
    workstreams: tuple[DocWorkstream, ...]
    tasks: tuple[DocTask, ...]
    merge_points: tuple[DocMergePoint, ...]
    batches: tuple[str, ...]  # in the author's order
    headings: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


def parse(text: str, path: str = "docs/design.md") -> DesignDoc:
    r"""Reads a design document.

    Raises:
        GitwavesError: it has no tasks; the hint names the headings that were looked at.

    >>> doc = parse("## WS-A: Ledger\n### A1: Schema\nBatch: 1\n\nTables.\n")
    >>> doc.tasks[0].title, doc.tasks[0].workstream, doc.tasks[0].batch, doc.tasks[0].spec
    ('Schema', 'WS-A', '1', 'Tables.')
    """
    lines, sections = outline(text)
    found = drafts(path, lines, sections)
    headings = [(s.level, words.plain(s.text)) for s in sections if 0 < s.level < 7]
    if not found.tasks:
        raise GitwavesError(f"no task list found in {path}", _hint(found, [h for _, h in headings]))
    known = Known.of(found)
    points = tuple(_points(found, known))
    tasks = tuple(sorted(_tasks(found, known), key=lambda task: task.line))
    order = dict.fromkeys(name for name in found.batches if name in known.members)
    return DesignDoc(
        path=path,
        title=next((h for level, h in headings if level == 1), headings[0][1] if headings else ""),
        workstreams=tuple(_workstreams(found, known, tasks)),
        tasks=tasks,
        merge_points=points,
        batches=(*order, *sorted(known.members.keys() - order.keys(), key=natural)),
        headings=tuple(text for _, text in headings),
        findings=tuple(sorted(set(found.findings))),
    )


def _hint(found: Drafts, headings: Sequence[str]) -> str:
    bad = [f"line {f.line}: {f.message}" for f in sorted(found.findings)[:3]]
    shown = ", ".join(f"`{heading}`" for heading in headings[:10])
    more = f" and {len(headings) - 10} more" if len(headings) > 10 else ""
    looked = f"headings looked at: {shown}{more}" if headings else "it has no headings"
    return "; ".join([*bad, looked, "a task is `### A1: Title` below `## WS-A: Title`"])


def _tasks(found: Drafts, known: Known) -> Iterable[DocTask]:
    streams = {key_of(d.id): d.id for d in reversed(found.workstreams)}
    titles = {d.title.casefold(): d.id for d in found.workstreams if d.title}

    def workstream(found: Drafts, owner: str, said: list[Said]) -> str | None:
        text = re.sub(r"\(.*", "", words.plain(said[0].text)).strip()
        if words.says_none(text):
            return None
        name = titles.get(text.casefold()) or _stream_id(text, streams)
        if name is None:
            found.warn(said[0].line, f"{owner}: {text!r} cannot name a workstream: left out")
        return name

    def depends(found: Drafts, owner: str, said: list[Said]) -> tuple[str, ...]:
        return references(found, known, owner, "depends on", said)

    for key, group in known.groups.items():
        owner = known.tasks[key]
        one = _one_task(found, owner, group)

        def read(
            key: str, reader: values.Reader, owner: str = owner, one: Sequence[Draft] = one
        ) -> Any:
            return values.merged(found, owner, one, key, reader)

        title = next((d.title for d in one if d.title), "")
        if not title:
            found.warn(one[0].line, f"{owner} has no title")
        yield DocTask(
            id=owner,
            title=title or owner,
            workstream=read("workstream", workstream) or home(owner, streams),
            line=one[0].line,
            depends_on=read("depends", depends) or (),
            batch=next((b for b, members in known.members.items() if owner in members), None),
            estimate=read("estimate", values.estimate),
            agent=read("agent", values.agent),
            paths=read("paths", values.paths) or (),
            spec=next((d.spec for d in one if d.spec), title),
            acceptance=read("acceptance", values.acceptance) or (),
            produces=read("produces", values.files) or (),
            verify=read("verify", values.steps) or (),
        )


def _one_task(found: Drafts, owner: str, group: Sequence[Draft]) -> list[Draft]:
    """The drafts of a task, the best first, without those that seem to mean another task."""
    kept: list[Draft] = []
    for draft in sorted(group, key=lambda d: (-d.rank, d.line)):
        twin = next((d for d in kept if d.rank == draft.rank != Rank.MENTION), None)
        if twin is not None and (draft.rank is Rank.HEADING or _differ(twin, draft)):
            found.error(draft.line, f"{owner} stands twice: lines {twin.line} and {draft.line}")
        else:
            kept.append(draft)
    return kept


def _differ(one: Draft, other: Draft) -> bool:
    """Whether two rows or items of one id are about different things."""
    titles = [re.sub(r"\W+", " ", d.title.casefold()).strip() for d in (one, other)]
    return all(titles) and titles[0] != titles[1]


def _stream_id(text: str, streams: dict[str, str]) -> str | None:
    """The id of the workstream that a text such as `A` or `WS-A` names, as it is stated."""
    stream = words.workstream(text) or words.workstream(f"Workstream {text}:")
    return streams.get(key_of(stream[0]), stream[0]) if stream and is_id(stream[0]) else None


def home(task: str, streams: dict[str, str]) -> str:
    """The workstream of a task that states none: what its id begins with.

    >>> home("A1", {}), home("web-api-2", {"web-api": "WS-web-api"}), home("WS-B3", {})
    ('WS-A', 'WS-web-api', 'WS-B')
    """
    begun = [s for s in streams if re.match(re.escape(s) + r"(?:\d|[._-])", key_of(task))]
    if begun:
        return streams[max(begun, key=len)]
    letters = re.match(r"(?:ws-)?([a-z]+)", task, re.IGNORECASE)
    return f"WS-{letters[1]}" if letters and re.search(r"\d", task) else "WS-main"


def _points(found: Drafts, known: Known) -> Iterable[DocMergePoint]:
    groups: dict[str, list[Draft]] = defaultdict(list)
    for draft in sorted(found.points, key=lambda d: (-d.rank, d.line)):
        if (key := key_of(draft.id)) in known.points:
            groups[key].append(draft)
    tasks = Known(known.tasks, members=known.members)  # a merge point requires tasks only

    def requires(found: Drafts, owner: str, said: list[Said]) -> tuple[str, ...] | None:
        return references(found, tasks, owner, "requires", said) or None

    def after(found: Drafts, owner: str, said: list[Said]) -> tuple[str, ...] | None:
        del found, owner
        return tuple(known.members.get(words.batch_name(said[0].text) or "", ())) or None

    def unlocks(found: Drafts, owner: str, said: list[Said]) -> tuple[str, ...]:
        return references(found, known, owner, "unlocks", said, batches=True)

    needs = {
        key: values.merged(found, known.points[key], group, "depends", requires)
        or values.merged(found, known.points[key], group, "after", after)
        for key, group in groups.items()
    }
    for key in [key for key, ids in needs.items() if not ids]:
        draft = groups.pop(key)[0]
        found.warn(draft.line, f"{known.points.pop(key)} requires no task: left out")
        known.dropped.add(key)
    for key, group in groups.items():
        owner, first = known.points[key], group[0]
        yield DocMergePoint(
            id=owner,
            title=next((d.title for d in group if d.title), " + ".join(needs[key])),
            line=first.line,
            requires=needs[key],
            unlocks=values.merged(found, owner, group, "unlocks", unlocks) or (),
            spec=next((d.spec for d in group if d.spec), ""),
            verify=values.merged(found, owner, group, "verify", values.steps) or (),
        )


def _workstreams(found: Drafts, known: Known, tasks: Sequence[DocTask]) -> Iterable[DocWorkstream]:
    """The stated workstreams in the document's order, then those that only tasks speak of."""
    groups: dict[str, list[Draft]] = defaultdict(list)
    for draft in found.workstreams:
        if is_id(draft.id):
            groups[key_of(draft.id)].append(draft)
        else:
            found.error(draft.line, f"{draft.id!r} cannot name a workstream")
    for task in sorted(tasks, key=lambda t: natural(t.workstream)):
        if not groups[key_of(task.workstream)]:
            groups[key_of(task.workstream)].append(Draft(task.workstream, task.line, Rank.MENTION))
    branches = _branches(found, known, groups, tasks)
    for key, group in groups.items():
        best = max(group, key=lambda d: d.rank)
        own = [task for task in tasks if key_of(task.workstream) == key]
        paths = values.merged(found, best.id, group, "paths", values.paths)
        if paths is None:
            paths = tuple(dict.fromkeys(path for task in own for path in task.paths))
        for key_said in ("depends", "batch", "verify", "acceptance"):
            for said in (said for draft in group for said in draft.said.get(key_said, ())):
                label = "depends on" if key_said == "depends" else key_said
                found.warn(said.line, f"{best.id}: `{label}` is not read here: say it of tasks")
        if not paths:
            found.warn(best.line, f"{best.id} names no paths: its tasks have no boundary")
        yield DocWorkstream(
            id=best.id,
            title=next((d.title for d in group if d.title), best.id),
            line=best.line,
            paths=paths,
            branch=branches.get(key),
            agent=values.merged(found, best.id, group, "agent", values.agent),
        )


def _branches(
    found: Drafts, known: Known, groups: dict[str, list[Draft]], tasks: Sequence[DocTask]
) -> dict[str, Branch]:
    """The branch that each workstream's own lines, the table of worktrees or its tasks name."""
    named = {
        words.plain(name).casefold(): words.branch(branch or name)
        for name, branch, _ in found.worktrees
    }
    stated: dict[str, list[tuple[Branch, int]]] = defaultdict(list)

    def say(key: str, branch: Branch | None, line: int) -> None:
        if branch is not None:
            stated[key].append((branch, line))

    def of(text: str) -> Branch | None:
        return named.get(words.plain(text).casefold()) or words.branch(text)

    for key, group in groups.items():
        for draft in group:
            for said in draft.said.get("branch", ()):
                say(key, of(said.text), said.line)
    for name, branch, said in found.worktrees:
        everything = re.search(
            r"\ball (?:tasks|workstreams)\b|^\W*all\W*$", said.text, re.IGNORECASE
        )
        for piece in groups if everything else map(key_of, words.references(said.text)):
            if piece in groups:
                say(piece, words.branch(branch or name), said.line)
    for task in tasks:
        for draft in known.groups[key_of(task.id)]:
            for said in draft.said.get("branch", ()):
                say(key_of(task.workstream), of(said.text), said.line)
    for key, branches in stated.items():
        for other, line in {b: n for b, n in reversed(branches) if b != branches[0][0]}.items():
            ident, (first, where) = groups[key][0].id, branches[0]
            found.warn(line, f"{ident} has one branch: {first} (line {where}) counts, not {other}")
    return {key: branches[0][0] for key, branches in stated.items()}
