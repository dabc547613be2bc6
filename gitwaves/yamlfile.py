"""Strict YAML 1.2: bytes to plain values, each with its place; everything odd is a finding.

A card is read by people, by agents and by other YAML readers, so it may hold only what all of
them read alike: no anchors, aliases, tags or duplicate keys, one document, bounded size and depth.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Mapping
from functools import cache

from gitwaves import yamlplain
from gitwaves.model import Finding, Place, Severity
from gitwaves.patterns import regex
from gitwaves.record import Record, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_BYTES = 256 * 1024


# Text that libyaml, which reads YAML 1.1, may read otherwise than the strict parser: it is left to
# that one, as is everything libyaml refuses, so that there is one set of findings.
_ODD_FORMS = regex(
    r"^(?:%|---|\.\.\.)|^[^\n?&*!]*[?&*!][^\n]*:|[\"'\]}]:[^ \n]|[|>][-+0-9]*#", re.MULTILINE
)


@cache
def _odd_letters() -> re.Pattern[str]:
    """Of letters beyond ASCII; a class of so many characters takes longest of all to compile."""
    return re.compile(r"[^\n -~\u00a0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]")


def has_odd_letters(text: str) -> bool:
    if text.isascii():
        return not text.replace("\n", "").isprintable()
    return _odd_letters().search(text) is not None


class Document(Record):
    """What one file says: `value` is None where nothing could be read."""

    value: Any = None
    places: dict[str, Place] = field(default_factory=dict)  # "verify[0].run" -> line, column
    findings: tuple[Finding, ...] = ()


def load(data: bytes, path: str, *, first_line: int = 1) -> Document:
    """Reads one YAML document; never raises on bad data.

    Args:
        data: the bytes of the file, or of the part of it that starts at `first_line`.
        path: names the file in findings.
        first_line: the line of the file that `data` starts at.
    """

    def refuse(message: str, place: Place = (1, 1)) -> Document:
        line = place[0] + first_line - 1
        return Document(findings=(Finding(path, line, place[1], Severity.ERROR, message),))

    if len(data) > MAX_BYTES:
        return refuse(f"{len(data) // 1024} KiB, more than the {MAX_BYTES // 1024} KiB of a card")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return refuse("not UTF-8", (line, 1))
    text = text.replace("\r\n", "\n")
    if "\r" in text:
        return refuse(
            "line ends with a bare carriage return", (text.count("\n", 0, text.index("\r")) + 1, 1)
        )
    odd = has_odd_letters(text)
    if not odd:
        with contextlib.suppress(yamlplain.NotPlain):
            return Document(*yamlplain.read(text, first_line))
    # slow to import, and not needed where a cache knows what was read
    from gitwaves.yamlbuild import YAML, Builder, MarkedYAMLError, Odd, YAMLError

    builder = Builder()
    try:
        if not (odd or _ODD_FORMS.search(text)):
            with contextlib.suppress(YAMLError, Odd):
                value = builder.document(iter(YAML(typ="safe").parse(text)))
                return Document(value, _moved(builder.places, first_line))
        builder = Builder()
        value = builder.document(iter(YAML(typ="safe", pure=True).parse(text)))
    except Odd as found:
        return refuse(found.message, found.place)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return refuse(f"not YAML: {error.problem or error.context or 'unreadable'}", place)
    except (YAMLError, ValueError, RecursionError, AttributeError, TypeError, IndexError) as error:
        # ruamel's scanner answers some hostile bytes with plain Python errors
        first = str(error).strip().splitlines()
        return refuse(f"not YAML: {first[0] if first else type(error).__name__}")
    return Document(value, _moved(builder.places, first_line))


def _moved(places: Mapping[str, Place], first_line: int) -> dict[str, Place]:
    return {k: (line + first_line - 1, column) for k, (line, column) in places.items()}
