"""A review written down: text, Markdown for a comment on a pull request, JSON. Pure.

Commands come first and in full: they will run as code. In Markdown all that people wrote stands in
fences or is escaped; nobody is called by an `@`, and the whole stays below what a forge takes.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from gitwaves.layout import middle, oneline
from gitwaves.model import Finding, duration, printable
from gitwaves.record import named_values_of
from gitwaves.reviewing import (
    ADDED,
    CHANGED,
    REMOVED,
    UNREADABLE,
    Change,
    Line,
    Measures,
    Part,
    Review,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIMIT = 65_000  # characters: forges take 65,536
_LONG = 12  # lines: beyond it, Markdown is collapsed
_HOW = {ADDED: "new", REMOVED: "removed", CHANGED: "changed", UNREADABLE: "unreadable"}
_NOTHING = "the plan does not change"


def summary(review: Review) -> str:
    """The change in one line: `2 tasks added, 1 cancelled, 3 changed; the plan is broken`."""
    counted: Counter[tuple[str, str]] = Counter()
    for change in review.changes:
        cancelled = any(part.name == "cancelled" for part in change.parts)
        how = "cancelled" if cancelled and change.how == CHANGED else change.how
        counted[change.kind, how] += 1
    said = []
    for (kind, how), count in counted.items():
        if kind == "config":
            said.append("settings changed")
        else:
            said.append(f"{count} {kind}{'s' * (count != 1)} {how}")
    commands = sum(bool(change.code) for change in review.changes)
    said += [f"{commands} with other commands than before"] * bool(commands)
    if not said:
        said.append("only findings change" if review.findings or review.settled else _NOTHING)
    return ", ".join(said) + "; the plan is broken" * review.broken


# --- text ---


def review_text(review: Review) -> str:
    """The review as it is printed."""
    lines = [summary(review)]
    if review.empty:
        return "".join(f"{line}\n" for line in lines)
    if any(change.code for change in review.changes):
        lines += ["", "COMMANDS THAT WILL RUN"]
        for change in review.changes:
            if change.code:
                lines.append(f"  {_name(change)} ({_HOW[change.how]})")
                lines += _indented(change.code, 4)
    shown = [change for change in review.changes if change.parts or change.how != CHANGED]
    if shown:
        lines += ["", "CHANGES"]
        for change in shown:
            lines += _change(change)
    if review.moved:
        lines += ["", "STANDS DIFFERENTLY", *(f"  {oneline(text)}" for text in review.moved)]
    if review.at_work:
        lines += ["", "BEING WORKED ON RIGHT NOW", *(f"  {text}" for text in _at_work(review))]
    for title, findings in (("NEW FINDINGS", review.findings), ("SETTLED", review.settled)):
        if findings:
            lines += ["", title, *(f"  {finding}" for finding in findings)]
    lines += ["", *_numbers(review.before, review.after)]
    return "".join(printable(line).rstrip() + "\n" for line in lines)


def _name(change: Change) -> str:
    return {"config": "settings"}.get(change.kind, f"{change.kind} {change.id}")


def _indented(lines: Iterable[Line], indent: int) -> Iterator[str]:
    for line in lines:
        first, *others = line.text.split("\n")
        yield f"{' ' * indent}{line.sign} {first}"
        yield from (f"{' ' * indent}{line.sign}   {other}" for other in others)


def _change(change: Change) -> Iterator[str]:
    title = f"  {oneline(change.title)}" * bool(change.title)
    yield f"  {_HOW[change.how]} {_name(change)}{title}"
    short = [part for part in change.parts if not part.lines]
    if change.how == CHANGED:
        yield from (f"      {_said(part)}" for part in short)
    elif short:
        yield "      " + "; ".join(map(_said, short))
    for part in change.parts:
        if part.lines:
            yield f"      {part.name}"
            yield from _indented(part.lines, 8)


def _said(part: Part) -> str:
    return f"{part.name} {oneline(part.said)}"


def _at_work(review: Review) -> Iterator[str]:
    for work in review.at_work:
        parts = ", ".join(work.parts)
        yield f"{work.task} by {oneline(work.agent)} on {work.branch}: {parts} under it"


def _numbers(before: Measures | None, after: Measures | None) -> Iterator[str]:
    """What the plan comes to before and after, where it can be put in order."""
    if after is None or before is None:
        when = "before" if before is None else "after"
        yield f"No critical path {when} it: what the plan needs runs in a circle."
        return
    rows = (
        ("TASKS", str(before.tasks), str(after.tasks)),
        ("BATCHES", str(before.batches), str(after.batches)),
        ("WORK LEFT", duration(before.work), duration(after.work)),
        ("CRITICAL PATH", duration(before.critical), duration(after.critical)),
        (f"WITH {after.agents} AGENTS", duration(before.makespan), duration(after.makespan)),
    )
    for name, old, new in rows:
        yield f"{name:<16}" + (old if old == new else f"{old} -> {new}")
    if before.critical_path != after.critical_path:
        yield f"{'PATH BEFORE':<16}" + (middle(before.critical_path, 80) or "none")
        yield f"{'PATH AFTER':<16}" + (middle(after.critical_path, 80) or "none")


# --- Markdown ---


def review_markdown(review: Review, *, limit: int = LIMIT) -> str:
    """The review as a comment: what is long is collapsed, and what does not fit is said."""
    head = [f"### Plan: {_md(summary(review))}", ""]
    if review.empty:
        return "\n".join(head[:1]) + "\n"
    blocks: list[str] = []
    code = [change for change in review.changes if change.code]
    if code:
        blocks.append("#### Commands that will run")
        for change in code:
            body = _fenced(list(_indented(change.code, 0)), "diff")
            blocks.append(f"**{_md(_name(change))}** ({_HOW[change.how]})\n\n{body}")
    shown = [change for change in review.changes if change.parts or change.how != CHANGED]
    first = len(blocks)
    if shown:
        blocks.append("#### Changes")
        many = len(shown) > _LONG
        blocks += [_md_collapsed_change(c) if many else _md_change(c) for c in shown]
    tail = [
        *_md_list("Stands differently", review.moved),
        *_md_list("Being worked on right now", list(_at_work(review))),
        *_md_findings("New findings", review.findings),
        *_md_findings("Settled", review.settled),
        "#### What it comes to\n\n" + _fenced(list(_numbers(review.before, review.after)), ""),
    ]
    return _within(head, blocks[:first], tail, blocks[first:], limit)


def _within(
    head: Sequence[str], code: Sequence[str], tail: Sequence[str], rest: Sequence[str], limit: int
) -> str:
    """All of it as long as there is room: the commands first, then what it comes to, then the rest.

    What is left out is counted, and the command that shows it named.
    """
    room = limit - sum(map(len, head)) - 400
    kept: dict[int, str] = {}
    blocks = [*code, *rest, *tail]
    order = [*range(len(code)), *range(len(code) + len(rest), len(blocks))]
    order += range(len(code), len(code) + len(rest))
    left = 0
    for k in order:
        if len(blocks[k]) + 2 <= room:
            kept[k] = blocks[k]
            room -= len(blocks[k]) + 2
        else:
            left += 1
    lost = any(k < len(code) for k in range(len(blocks)) if k not in kept)
    note = [f"**{left} part{'s' * (left != 1)} did not fit**: `gitwaves review` shows all."] * (
        left > 0
    )
    note += ["**Among them are commands that will run.**"] * lost
    return "\n\n".join([*head[:1], *note, *(kept[k] for k in sorted(kept))]) + "\n"


def _md_collapsed_change(change: Change) -> str:
    """One change of many: only its name and title are seen at once."""
    title = f": {oneline(change.title)}" * bool(change.title)
    _, _, body = _md_change(change).partition("\n")
    name = f"{_HOW[change.how]} {_name(change)}{title}"
    return _collapsed(name, body.lstrip("\n")) if body.strip() else f"- {_md(name)}"


def _md_change(change: Change) -> str:
    title = f": {_md(change.title)}" * bool(change.title)
    lines = [f"**{_HOW[change.how]} {_md(_name(change))}**{title}"]
    lines += [f"- {_md(_said(part))}" for part in change.parts if not part.lines]
    found = ["\n".join(lines)]
    for part in change.parts:
        if part.lines:
            body = _fenced(list(_indented(part.lines, 0)), "diff")
            long = len(part.lines) > _LONG
            found.append(_collapsed(part.name, body) if long else f"- {part.name}\n\n{body}")
    return "\n\n".join(found)


def _md_list(title: str, texts: Sequence[str]) -> list[str]:
    body = "\n".join(f"- {_md(text)}" for text in texts)
    return [
        f"#### {title}\n\n" + (_collapsed(str(len(texts)), body) if len(texts) > _LONG else body)
    ] * bool(texts)


def _md_findings(title: str, findings: Sequence[Finding]) -> list[str]:
    body = _fenced([str(finding) for finding in findings], "")
    long = len(findings) > _LONG
    return [f"#### {title}\n\n" + (_collapsed(str(len(findings)), body) if long else body)] * bool(
        findings
    )


def _collapsed(title: str, body: str) -> str:
    shown = _quiet(html.escape(printable(title), quote=False))
    return f"<details><summary>{shown}</summary>\n\n{body}\n\n</details>"


def _fenced(lines: Sequence[str], language: str) -> str:
    """Lines in a fence that nothing in them can close."""
    text = "\n".join(printable(line) for line in lines)
    ticks = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _md(text: str) -> str:
    r"""Text as Markdown that shows just that, and calls nobody.

    >>> print(_md("<b> *x* @ada #1"))
    &lt;b&gt; \*x\* @<!-- -->ada #<!-- -->1
    """
    safe = html.escape(oneline(text), quote=False)
    safe = re.sub(r"([\\`*_\[\]|~!])", r"\\\1", safe)
    return _quiet(safe)


def _quiet(safe: str) -> str:
    """Escaped text in which nobody is called, and nothing becomes a link."""
    safe = re.sub(r"(?<![\w&])([@#])(?=\w)", r"\1<!-- -->", safe)
    return re.sub(r"(https?|www)(?=[:.])", r"\1<!-- -->", safe)


# --- one card ---

_ORDER = (
    *("id", "title", "trunk", "depends_on", "requires", "unlocks", "batch", "estimate", "agent"),
    *("cancelled", "branch", "paths", "produces", "spec", "acceptance", "verify"),
)


def card_text(value: object, indent: str = "") -> str:
    r"""What a card says, one way only: for `git diff`, in which comments and quoting are no change.

    >>> print(card_text({"spec": "one\ntwo\n", "id": "A1", "paths": ["a/**"]}), end="")
    id: A1
    paths:
      - a/**
    spec:
      one
      two
    """
    lines: list[str] = []
    items: list[tuple[str, object]]
    if isinstance(value, dict):
        rank = {key: n for n, key in enumerate(_ORDER)}
        keys = sorted(value, key=lambda key: (rank.get(key, 99), str(key)))
        items = [(f"{key}:", value[key]) for key in keys if value[key] not in (None, [], {}, "")]
    else:
        items = [("-", item) for item in value] if isinstance(value, list) else [("", value)]
    for head, item in items:
        text = item.strip() if isinstance(item, str) else item
        if isinstance(item, dict | list) or (isinstance(text, str) and "\n" in text):
            inner = text if isinstance(text, str) else card_text(text).rstrip("\n")
            lines += [indent + head, *(f"{indent}  {line}".rstrip() for line in inner.split("\n"))]
        else:
            lines.append(f"{indent}{head} {text}".rstrip())
    return "".join(printable(line) + "\n" for line in lines)


# --- JSON ---


def review_json(review: Review) -> dict[str, Any]:
    """The review as `schemas/review.schema.json` documents it."""

    def lines(found: Iterable[Line]) -> list[str]:
        return [line.sign + line.text for line in found]

    return {
        "version": 1,
        "summary": summary(review),
        "broken": review.broken,
        "changes": [
            {
                "kind": change.kind.replace(" ", "_"),
                "id": change.id,
                "how": change.how,
                "title": change.title,
                "commands": lines(change.code),
                "parts": [
                    {"name": part.name, "said": part.said, "lines": lines(part.lines)}
                    for part in change.parts
                ],
            }
            for change in review.changes
        ],
        "stands_differently": list(review.moved),
        "at_work": [
            {"task": w.task, "agent": w.agent, "branch": w.branch, "parts": list(w.parts)}
            for w in review.at_work
        ],
        "findings": [named_values_of(finding) for finding in review.findings],
        "settled": [named_values_of(finding) for finding in review.settled],
        "before": _measures_json(review.before),
        "after": _measures_json(review.after),
    }


def _measures_json(found: Measures | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "tasks": found.tasks,
        "batches": found.batches,
        "work_seconds": found.work,
        "critical_path": {"ids": list(found.critical_path), "seconds": found.critical},
        "agents": found.agents,
        "makespan_seconds": found.makespan,
    }
