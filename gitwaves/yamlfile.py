"""Strict YAML 1.2: bytes to plain values, each with its place; everything odd is a finding.

A card is read by people, by agents and by other YAML readers, so it may hold only what all of
them read alike: no anchors, aliases, tags or duplicate keys, one document, bounded size and depth.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from gitwaves.model import Finding, Place, Severity

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_VALUES = 5000

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_SURROGATE = re.compile("[\ud800-\udfff]")
_INT = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?", re.ASCII)


# Text that libyaml, which reads YAML 1.1, may read otherwise than the strict parser: it is left to
# that one, as is everything libyaml refuses, so that there is one set of findings.
_ODD_TEXT = re.compile(
    r"[^\n -~\u00a0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]"
    r"|^(?:%|---|\.\.\.)|^[^\n?&*!]*[?&*!][^\n]*:|[\"'\]}]:[^ \n]|[|>][-+0-9]*#",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Document:
    """What one file says: `value` is None where nothing could be read."""

    value: Any = None
    places: dict[str, Place] = field(default_factory=dict)  # "verify[0].run" -> line, column
    findings: tuple[Finding, ...] = ()


class _Odd(Exception):
    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


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
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return refuse("not UTF-8", (line, 1))
    text = text.replace("\r\n", "\n")
    if "\r" in text:
        return refuse(
            "line ends with a bare carriage return", (text.count("\n", 0, text.index("\r")) + 1, 1)
        )
    builder = _Builder()
    try:
        if not _ODD_TEXT.search(text):
            with contextlib.suppress(YAMLError, _Odd):
                value = builder.document(iter(YAML(typ="safe").parse(text)))
                return Document(value, _moved(builder.places, first_line))
        builder = _Builder()
        value = builder.document(iter(YAML(typ="safe", pure=True).parse(text)))
    except _Odd as odd:
        return refuse(odd.message, odd.place)
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


class _Builder:
    """Builds plain values from parser events, and notes where each stands."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self._count = 0

    def document(self, events: Iterator[Event]) -> Any:
        value: Any = None
        seen = False
        for event in events:
            if isinstance(event, StreamStartEvent | StreamEndEvent):
                continue
            if isinstance(event, DocumentStartEvent):
                if seen:
                    raise _Odd("a second document in one file", _place(event))
                if event.tags:
                    raise _Odd("%TAG directives are not allowed", _place(event))
                seen = True
                value = self._value(next(events), events, "", 0)
        return value

    def _value(self, event: Event, events: Iterator[Event], path: str, depth: int) -> Any:
        place = _place(event)
        if isinstance(event, AliasEvent):
            raise _Odd("aliases are not allowed", place)
        if getattr(event, "anchor", None) is not None:
            raise _Odd("anchors are not allowed", place)
        if depth > MAX_DEPTH:
            raise _Odd("nested too deeply", place)
        self._count += 1
        if self._count > MAX_VALUES:
            raise _Odd(f"more than {MAX_VALUES} values in one file", place)
        self.places.setdefault(path, place)
        if isinstance(event, ScalarEvent):
            _require_plain_tag(event, place)
            return _scalar(event)
        _require_plain_tag(event, place)
        if isinstance(event, SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(item := next(events), SequenceEndEvent):
                items.append(self._value(item, events, f"{path}[{len(items)}]", depth + 1))
            return items
        if isinstance(event, MappingStartEvent):
            return self._mapping(events, path, depth)
        raise _Odd("not understood", place)

    def _mapping(self, events: Iterator[Event], path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            place = _place(event)
            if not isinstance(event, ScalarEvent) or event.anchor is not None:
                raise _Odd("a key must be plain text", place)
            _require_plain_tag(event, place)
            key = _text(event)
            if key == "<<":
                raise _Odd("merge keys are not allowed", place)
            if key in found:
                raise _Odd(f"the key {key!r} stands twice", place)
            inner = f"{path}.{key}" if path else key
            self.places[inner] = place
            found[key] = self._value(next(events), events, inner, depth + 1)
        return found


def _place(event: Event) -> Place:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1)


def _require_plain_tag(event: Any, place: Place) -> None:
    tag = getattr(event, "tag", None) or getattr(event, "ctag", None)
    if tag is not None and str(tag) not in {"None", "!", "tag:yaml.org,2002:str"}:
        raise _Odd(f"the tag {tag} is not allowed", place)


def _text(event: ScalarEvent) -> str:
    text: str = event.value
    if _SURROGATE.search(text):
        raise _Odd("half a surrogate pair is not text", _place(event))
    if "\0" in text:
        raise _Odd("a NUL character is not text", _place(event))
    return text


def _scalar(event: ScalarEvent) -> Any:
    text = _text(event)
    if event.style or not event.implicit[0]:
        return text
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and text not in {".", "+.", "-."}:
        if math.isinf(number := float(text)):
            raise _Odd("a number that is too large", _place(event))
        return number
    return text
