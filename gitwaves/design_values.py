"""Values of design documents: what the drafts of one task say under one key, read and compared.

A reader turns the texts of one place into a value, or None where there is none; what it cannot
read becomes a finding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gitwaves import design_text as words
from gitwaves.design_drafts import Draft, Drafts
from gitwaves.design_outline import Said
from gitwaves.model import Step, is_batch_name, is_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Reader = Callable[[Drafts, str, list[Said]], Any]  # the owner's id, its values


def merged(found: Drafts, owner: str, group: Sequence[Draft], key: str, read: Reader) -> Any:
    """What the drafts of one owner say under `key`: details win, and what contradicts is said."""
    result: Any = None
    where = 0
    for draft in sorted(group, key=lambda d: -d.rank):
        values = draft.said.get(key)
        value = read(found, owner, values) if values else None
        if not values or value is None:
            continue
        if result is None:
            result, where = value, values[0].line
        elif value != result:
            label = "depends on" if key == "depends" else key
            line = values[0].line
            found.warn(line, f"{owner}: `{label}` is not what line {where} says, which counts")
    return result


def batch(found: Drafts, owner: str, values: list[Said]) -> str | None:
    name = words.batch_name(values[0].text)
    if name and not is_batch_name(name):
        found.error(values[0].line, f"{owner}: {name!r} cannot name a batch")
        return None
    return name


def estimate(found: Drafts, owner: str, values: list[Said]) -> str | None:
    said = values[0]
    if words.says_none(said.text):
        return None
    length = words.estimate(said.text)
    if length is None:
        text = words.plain(said.text)
        found.warn(said.line, f"{owner}: the estimate {text!r} is no length of time: left out")
    return length


def steps(found: Drafts, owner: str, values: list[Said]) -> tuple[Step, ...] | None:
    read = [(step, value.line) for value in values for step in words.steps(value.text)]
    for step, line in read:
        if step.manual is not None:
            found.warn(
                line, f"{owner}: no command to verify with: a person confirms {step.manual!r}"
            )
    return tuple(step for step, _ in read) or None


def paths(found: Drafts, owner: str, values: list[Said]) -> tuple[str, ...] | None:
    read: dict[str, None] = {}
    for value in values:
        named, odd = words.patterns(value.text)
        read.update(dict.fromkeys(named))
        if odd and not named:
            text = words.plain(value.text)
            found.warn(value.line, f"{owner}: {text!r} names no path: left out")
    return tuple(read) or None


def files(found: Drafts, owner: str, values: list[Said]) -> tuple[str, ...] | None:
    """Paths of single files: a pattern is not one."""
    named = paths(found, owner, values) or ()
    for pattern in (path for path in named if re.search(r"[*?]|/$", path)):
        found.warn(values[0].line, f"{owner}: {pattern!r} is not one file: left out of `produces`")
    return tuple(path for path in named if not re.search(r"[*?]|/$", path)) or None


def acceptance(found: Drafts, owner: str, values: list[Said]) -> tuple[str, ...] | None:
    del found, owner
    texts = (re.sub(r"^\[[ xX~-]\]\s*", "", " ".join(value.text.split())) for value in values)
    return tuple(text for text in texts if text) or None


def agent(found: Drafts, owner: str, values: list[Said]) -> str | None:
    said = values[0]
    name = words.plain(said.text)
    if words.says_none(name) or is_id(name):
        return None if words.says_none(name) else name
    found.warn(said.line, f"{owner}: {name!r} cannot name an agent: left out")
    return None
