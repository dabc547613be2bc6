"""What tasks teach: learnings and spec gaps within bounds, and the section compiled from them. Pure.

Agents write these texts, and whatever they hold ends up in the briefs of others and in files such as
CLAUDE.md. One line each, of bounded length, that can neither end the section nor forge one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from gitwaves.layout import cut, oneline
from gitwaves.model import Cards, Fact, Gap, Tracking, natural
from gitwaves.patterns import regex
from gitwaves.record import replace
from gitwaves.state import Facts

START = "<!-- gitwaves: learnings, compiled from the task cards -->"
END = "<!-- gitwaves: end -->"
LONGEST = 1_000  # characters of one learning or gap
MOST = 60  # of each on one card, which stays far below its 256 KiB
SECTION = 24_000  # characters that the compiled section may have: agents read all of it

_LINE = r"^{}[ \t]*(?:\r?\n|\r?\Z)"
_STARTS = regex(_LINE.format(re.escape(START)), re.MULTILINE)
_ENDS = regex(_LINE.format(re.escape(END)), re.MULTILINE)
_TICKS = regex(r"(?<!`)(`+)(?!`)(?:.*?[^`])\1(?!`)")
_TAG = regex(r"<(?=[A-Za-z/!?])")
_BLOCK = regex(r"[#>+*=|~\[-]|`{3}")  # what opens something at the start of a list item
_NUMBER = regex(r"^(\d{1,9})(?=[.)])")  # so does a number


def lesson(text: str) -> str:
    r"""A learning, or what is wrong with a spec, as it is recorded: one line of bounded length.

    >>> lesson(" cents,\n not euros \x1b[2J")
    'cents, not euros \\x1b[2J'
    """
    return cut(oneline(text), LONGEST)


def taught(tracking: Tracking, learned: Iterable[str], gaps: Iterable[Gap] = ()) -> Tracking:
    """`tracking` with what else a task taught: each once, the first of them, within bounds."""
    texts = dict.fromkeys((*tracking.learnings, *filter(None, map(lesson, learned))))
    found = list(tracking.spec_gaps)
    for gap in gaps:
        new = replace(gap, text=lesson(gap.text))
        if new.text and new not in found:
            found.append(new)
    return replace(tracking, learnings=tuple(texts)[:MOST], spec_gaps=tuple(found)[:MOST])


# --- the compiled section ----------------------------------------------------------------------


def learnings_lines(cards: Cards, facts: Mapping[str, Fact]) -> list[str]:
    """Every learning once, as a list item of Markdown, with its task and verified commit."""
    found: dict[str, str] = {}
    facts = Facts.of(facts)
    for task in sorted(cards.tasks.keys() & facts.noted, key=natural):
        evidence = facts[task].tracking.evidence
        for text in facts[task].tracking.learnings:
            line = lesson(text)
            where = f"({task}, {evidence.commit[:10]})" if evidence else f"({task})"
            if line:
                found.setdefault(line.lower(), f"- {inert(line)} {where}\n")
    return list(found.values())


def inert(text: str) -> str:
    r"""One line as text of a Markdown list item that opens nothing: no comment, tag, heading, list.

    >>> print(inert("# <b>loud</b> <!-- gitwaves: end -->, `<T>` stays"))
    \# \<b>loud\</b> < !-- gitwaves: end -- >, `<T>` stays
    """
    text = text.replace("<!--", "< !--").replace("-->", "-- >")
    parts, at = [], 0
    for span in _TICKS.finditer(text):  # code is shown as it is
        parts += [_TAG.sub(r"\\<", text[at : span.start()]), span[0]]
        at = span.end()
    text = "".join([*parts, _TAG.sub(r"\\<", text[at:])])
    return "\\" + text if _BLOCK.match(text) else _NUMBER.sub(r"\1\\", text)


def with_learnings(text: str, lines: Iterable[str]) -> str:
    """`text` with its marked section compiled anew; nothing outside the markers is touched.

    The markers are whole lines. A file without them gets the section at its end; an end without a
    start, or a start without an end, is somebody's text.
    """
    listed = _fitting(list(lines))
    if not listed and section_of(text) is None:
        return text
    return with_section(text, "".join([f"{START}\n", *listed, f"{END}\n"]))


def with_section(text: str, section: str) -> str:
    """`text` with `section`, markers included, in place of its own, or at its end."""
    end_of_line = "\r\n" if "\r\n" in text else "\n"
    section = end_of_line.join(section.splitlines()) + end_of_line if section else ""
    if span := section_of(text):
        return text[: span[0]] + section + text[span[1] :]
    if not section:
        return text
    if text and not text.endswith("\n"):
        text += end_of_line
    gap = end_of_line if text and not text.endswith(end_of_line * 2) else ""
    return text + gap + section


def merged_around(
    base: str, ours: str, theirs: str, section: str, merge: Callable[[str, str, str], str | None]
) -> str | None:
    """Merges a file whose sections differ: what stands around them as text, `section` for all.

    Args:
        section: with its markers; empty where there is to be none.
        merge: merges three texts (base, ours, theirs); None where they conflict.
    """
    empty = f"{START}\n{END}\n"
    sides = (base, ours, theirs)
    merged = merge(*(with_section(t, empty) if section_of(t) else t for t in sides))
    if merged is None:  # one of them has none, or made the file
        merged = merge(*(with_section(t, "") for t in sides))
    return None if merged is None else with_section(merged, section)


def section_of(text: str) -> tuple[int, int] | None:
    """Where the marked section of a file stands, its markers included; None where there is none."""
    for end in _ENDS.finditer(text):
        starts = [start for start in _STARTS.finditer(text) if start.end() <= end.start()]
        if starts:
            return starts[-1].start(), end.end()
    return None


def _fitting(lines: list[str]) -> list[str]:
    """As many lines as the section may have, and what is left out, said."""
    size = 0
    for number, line in enumerate(lines):
        size += len(line)
        if size > SECTION:
            left = len(lines) - number
            return [
                *lines[:number],
                f"- and {left} more: git show gitwaves/dashboard:LEARNINGS.md\n",
            ]
    return lines
