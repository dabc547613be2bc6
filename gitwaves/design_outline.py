"""The outline of a Markdown document: sections, what each is about, and the values said in them.

markdown-it-py tells what is a heading, a list or a table; fences, comments and quotes hold none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from gitwaves import design_text as words
from gitwaves.patterns import regex
from gitwaves.record import Record, field

Node = SyntaxTreeNode
DEEPEST = 7  # the level of a bold line that stands for a heading

_ALIASES = {
    "depends": "depends on|dependency|dependencies|deps|needs|requires|blocked on|blocked by"
    "|prerequisite|prerequisites|trigger|converging|converging tasks|converges",
    "batch": "batch",
    "estimate": "estimate|estimated|estimated time|effort",
    "verify": "verify|verification|verified by|verify with",
    "paths": "paths|files|file|boundary",
    "produces": "produces|artifacts",
    "branch": "branch|worktree",
    "agent": "agent",
    "acceptance": "acceptance|acceptance criteria|done when|definition of done",
    "spec": "spec|specification|description",
    "status": "status",
    "unlocks": "unlocks|enables|unblocks",
    "workstream": "workstream|ws|stream",
}
KEYS = {alias: key for key, aliases in _ALIASES.items() for alias in aliases.split("|")}
TELLING = {"depends", "batch", "estimate", "verify", "paths", "produces", "acceptance"}
LISTED = {"depends", "verify", "paths", "produces", "acceptance"}

_KEY = regex(
    r"(?:\*\*|__|\*)?\s*([A-Za-z][A-Za-z -]{1,24}?)\s*(?:\*\*|__|\*)?\s*:\s*(?:\*\*|__|\*)?(.*)"
)
_GENERIC = regex(r"(?:task )?dependenc(?:y|ies)", re.IGNORECASE)  # of the batch above
_TASKS = regex(
    r"(?:all |the )?(?:tasks?(?: (?:lists?|table|breakdown|details|overview|summary|dependencies|"
    r"decomposition|extraction))?|work items|backlog)|implementation plan",
    re.IGNORECASE,
)
_OTHER = regex(
    r"\b(?:risks?|goals?|non-goals?|requirements?|questions?|faq|alternatives?|options?|decisions?|"
    r"stor(?:y|ies)|glossary|references?|appendix|metrics?|success|summary|critical path|personas?|"
    r"use cases?|assumptions?|constraints?|changelog|history|examples?)\b",
    re.IGNORECASE,
)


class Said(Record):
    """A value as the document has it, and its line."""

    text: str
    line: int


Fields = dict[str, list[Said]]


class Section(Record, frozen=False):
    """A heading and what stands below it up to the next one."""

    level: int
    text: str
    line: int
    body: int  # the first line below the heading
    end: int = 0  # the line behind the last one
    nodes: list[Node] = field(default_factory=list)
    kind: str = "plain"  # workstream, batch, batches, points, point, task, tasks, other
    id: str = ""
    title: str = ""
    open: dict[str, Section] = field(default_factory=dict)  # what it stands under, by kind

    def under(self, kind: str) -> str | None:
        """The id of the nearest section of that kind that this one stands under, or is."""
        return self.open[kind].id if kind in self.open else None


def outline(text: str) -> tuple[list[str], list[Section]]:
    """The lines and the classified sections of a document, the first one without a heading."""
    lines = _lines(text)
    root = Node(MarkdownIt("commonmark").enable("table").parse("\n".join(lines)))
    sections = [Section(0, "", 1, 1)]
    for node in root.children:
        first, last = span(node)
        if node.type == "heading":
            sections.append(Section(int(node.tag[1:]), _content(node), first, last))
        elif (bold := _bold_heading(node)) is not None:
            sections.append(Section(DEEPEST, bold, first, first + 1, nodes=[node]))
        else:
            sections[-1].nodes.append(node)
    for section, after in zip(sections, [*sections[1:], None], strict=True):
        section.end = after.line if after else len(lines) + 1
    _classify(sections)
    return lines, sections


def _lines(text: str) -> list[str]:
    """The lines of a document, those of its front matter blank."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[0].rstrip() == "---" and "---" in (rest := [line.rstrip() for line in lines[1:]]):
        end = rest.index("---") + 2
        if "" not in rest[: end - 2]:
            lines[:end] = [""] * end
    return lines


def _classify(sections: list[Section]) -> None:
    """Says of each section what it is about, and what it stands under."""
    open_: dict[str, Section] = {}
    for i, section in enumerate(sections):
        _name(section)
        candidate = section.kind
        if candidate == "plain" and (found := words.named(section.text)) and section.level:
            section.id, section.title = found.id, found.title
            candidate = "task"
        stays = candidate == "task" or bool(_GENERIC.fullmatch(words.unmarked(section.text)))
        above = {
            kind: s
            for kind, s in open_.items()
            if s.level < section.level
            or (s.level == section.level and stays and kind in {"workstream", "batch"})
        }
        if candidate == "task" and not _is_task(sections, i, above):
            candidate = "plain"
        if "task" in above and candidate != "task":
            candidate = "plain"  # a part of the task's own text
        section.kind = candidate
        if candidate == "task":
            above.pop("task", None)
        if candidate != "plain":
            above[candidate] = section
        section.open = open_ = above


def _name(section: Section) -> None:
    """Classifies a heading by its words alone; tasks are told later, by what is around them."""
    text = section.text
    bare = words.unmarked(words.plain(text))
    if found := words.workstream(text):
        section.kind = "workstream"
    elif found := words.batch(text):
        section.kind = "batch"
    elif found := words.point(text):
        section.kind = "point"
    elif re.match(r"merge[ -]?points?\b", bare, re.IGNORECASE):
        section.kind = "points"
    elif re.match(r"batch(?:es)?(?: (?:plan|order|overview|list|groups?))?$", bare, re.IGNORECASE):
        section.kind = "batches"
    elif words.named(text) is None and section.level:
        if _TASKS.fullmatch(bare):
            section.kind = "tasks"
        elif section.level > 1 and _OTHER.search(bare):
            section.kind = "other"
    if found:
        section.id, section.title = found


def _is_task(sections: list[Section], i: int, above: dict[str, Section]) -> bool:
    """Whether a heading that begins like a task's is one.

    It is, where a check box, the word "task" or a key below it says so; else where it stands
    under a workstream, a batch or a list of tasks, or under nothing that is known to be else.
    """
    section = sections[i]
    found = words.named(section.text)
    assert found is not None
    if found.task or _has_keys(sections, i):
        return True
    if "task" in above or "other" in above or "point" in above or "points" in above:
        return False
    if not found.loose:
        return bool(found.title)
    if "workstream" in above:
        return found.id.upper().startswith(above["workstream"].id.upper().removeprefix("WS-"))
    return "batch" in above or "tasks" in above


def _has_keys(sections: list[Section], i: int) -> bool:
    if TELLING & fields(sections[i].nodes)[0].keys():
        return True
    for section in sections[i + 1 :]:
        if section.level <= sections[i].level:
            return False
        if heading_key(section.text) in TELLING:
            return True
    return False


def heading_key(text: str) -> str | None:
    """The key that a sub-heading such as `#### Acceptance criteria` stands for."""
    key = KEYS.get(words.unmarked(words.plain(text)).rstrip(": ").lower())
    return key if key in LISTED else None


def fields(nodes: Sequence[Node], heading: str | None = None) -> tuple[Fields, set[int]]:
    """The values of the key lines among `nodes`, and the lines that they took.

    A key without a value takes the list (or, for `Verify:`, the code block) right below it;
    `heading` is the key of the heading, or of the list item, that the nodes stand below.
    """
    said: Fields = {}
    taken: set[int] = set()
    waits = heading
    for node in nodes:
        below, waits = waits, None
        if node.type == "paragraph":
            lines = paragraph(node)
            if below and below == heading and not key_values(lines[0][1]):
                waits = _below_heading(lines, below, said, taken)
            else:
                waits = _key_lines(lines, said, taken)
        elif node.type in {"bullet_list", "ordered_list"}:
            if below is not None:
                _listed(node, below, said, taken)
                waits = heading if below == heading == "acceptance" else None
            elif _speaks_in_keys(node):
                for item in node.children:
                    inner, lines_taken = fields(item.children)
                    extend(said, inner)
                    taken |= lines_taken
        elif node.type == "fence" and below == "verify":
            first, last = span(node)
            commands = [Said(f"`{step.run}`", first) for step in words.script(node.content)]
            extend(said, {"verify": commands})
            taken.update(range(first, last))
    return said, taken


def _speaks_in_keys(node: Node) -> bool:
    """Whether a list is one of key lines: it begins with one, or has one that tells of tasks."""
    heads = [key_values(paragraph(p)[0][1]) for item in node.children for p in _first(item)]
    return any(heads[:1]) or any(key in TELLING for found in heads for key, _ in found)


def extend(said: Fields, more: Fields) -> None:
    """Adds the values of `more` behind those of `said`."""
    for key, values in more.items():
        said.setdefault(key, []).extend(values)


def _below_heading(
    lines: list[tuple[int, str]], key: str, said: Fields, taken: set[int]
) -> str | None:
    """Takes a paragraph below a heading as its value, but for prose above a list."""
    if key == "acceptance" or (key == "verify" and not lines[0][1].startswith("`")):
        return key
    extend(said, {key: [Said("\n".join(text for _, text in lines), lines[0][0])]})
    taken.update(number for number, _ in lines)
    return None


def _key_lines(lines: list[tuple[int, str]], said: Fields, taken: set[int]) -> str | None:
    """Takes the key lines of one paragraph; the key that still waits for its values, if one does.

    In the midst of prose only the keys count that tell what a task is.
    """
    keys = KEYS.values() if key_values(lines[0][1]) else TELLING
    found: list[tuple[str, str]] = []
    for number, text in lines:
        before, found = found, [(k, v) for k, v in key_values(text) if k in keys]
        if not found and before and before[-1][1].endswith(","):  # the value goes on
            key, value = before[-1]
            said[key][-1] = Said(f"{value} {text}", said[key][-1].line)
            found = [(key, f"{value} {text}")]
            taken.add(number)
            continue
        for key, value in found:
            extend(said, {key: [Said(value, number)] if value else []})
            taken.add(number)
    return found[0][0] if len(found) == 1 and not found[0][1] else None


def _listed(node: Node, key: str, said: Fields, taken: set[int]) -> None:
    """Takes a list as the values of `key`; one that says more than paths stays in the text too."""
    values = []
    more = False
    for item in node.children:
        first, _ = span(item)
        text = "\n".join(text for p in _first(item) for _, text in paragraph(p))
        values.append(Said(text, first))
        more |= len(item.children) > 1 or (key == "paths" and words.patterns(text)[1])
    extend(said, {key: values})
    if not more:
        taken.update(range(*span(node)))


def key_values(text: str) -> list[tuple[str, str]]:
    """The keys and values of one line; several where `|` or a dot parts them.

    >>> key_values("**Depends on:** A1 | **Batch:** 2"), key_values("Note: none of it")
    ([('depends', 'A1'), ('batch', '2')], [])
    """
    parts = re.split(r"\s+[|·]\s+", text)
    found = [
        (KEYS.get(m[1].strip().lower()), m[2].strip()) for p in parts if (m := _KEY.fullmatch(p))
    ]
    if len(parts) > 1 and len(found) == len(parts) and all(key for key, _ in found):
        return [(key, value) for key, value in found if key]
    match = _KEY.fullmatch(text.strip())
    key = KEYS.get(match[1].strip().lower()) if match else None
    return [(key, match[2].strip())] if match and key else []


def paragraph(node: Node) -> list[tuple[int, str]]:
    """The numbered lines of a paragraph, without the marks of the list that it stands in."""
    first = span(node)[0]
    return [(first + i, text.strip()) for i, text in enumerate(_content(node).split("\n"))]


def items(node: Node) -> list[tuple[int | None, Node]]:
    """The items of a list, each with its number where it has one; none of anything else."""
    if node.type == "ordered_list":
        return list(enumerate(node.children, int(node.attrs.get("start", 1))))
    return [(None, item) for item in node.children] if node.type == "bullet_list" else []


def item_text(item: Node) -> tuple[str, Fields, list[Node], set[int]]:
    """A list item: its text, the values of its key lines, its other nodes, the lines these took."""
    head = next(_first(item), None)
    if head is None:
        return "", {}, list(item.children), set()
    lines = paragraph(head)
    first, end = span(head)
    title = [lines.pop(0)[1]]
    while lines and not key_values(lines[0][1]):
        title.append(lines.pop(0)[1])
    said: Fields = {}
    taken = set(range(first, end))
    rest = list(item.children[1:])
    waits = _key_lines(lines, said, taken) if lines else None
    inner, lines_taken = fields(rest, waits)
    extend(said, inner)
    return " ".join(title), said, rest, taken | lines_taken


def rows(table: Node) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a table, plain and in lower case, and its rows with their lines."""
    found = [
        (span(row)[0], [_content(cell) for cell in row.children])
        for part in table.children
        for row in part.children
    ]
    header = [words.unmarked(words.plain(cell)).strip().lower() for cell in found[0][1]]
    return header, found[1:]


def source(lines: list[str], first: int, end: int, taken: set[int]) -> str:
    """The lines from `first` up to `end` as they stand, without those that were taken."""
    kept: list[str] = []
    gap = False
    for number in range(first, min(end, len(lines) + 1)):
        line = lines[number - 1]
        if number in taken:
            gap = True
        elif line.strip() or not (gap and (not kept or not kept[-1].strip())):
            kept.append(line)
            gap = False
    while kept and re.fullmatch(
        r"\s*(?:-[ -]*-[ -]*-|\*[ *]*\*[ *]*\*|_[ _]*_[ _]*_|)\s*", kept[-1]
    ):
        kept.pop()
    while kept and not kept[0].strip():
        kept.pop(0)
    return "\n".join(kept)


def _first(item: Node) -> Iterator[Node]:
    """The paragraph that a list item begins with, if it begins with one."""
    if item.children and item.children[0].type == "paragraph":
        yield item.children[0]


def _bold_heading(node: Node) -> str | None:
    """The text of a paragraph whose first line is a workstream's name in bold."""
    if node.type != "paragraph":
        return None
    first = _content(node).split("\n")[0].strip()
    bold = re.fullmatch(r"\*\*(.+?)\*\*:?", first)
    return bold[1] if bold and first.startswith("**WS-") and words.workstream(bold[1]) else None


def _content(node: Node) -> str:
    return node.children[0].content if node.children else ""


def span(node: Node) -> tuple[int, int]:
    """The first line of a node, counted from 1, and the line behind its last."""
    begin, end = node.map or (0, 0)
    return begin + 1, end + 1
