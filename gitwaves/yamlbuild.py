"""Parser events to plain values, each with its place; what a card may not hold stops it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

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

from gitwaves.model import Place
from gitwaves.patterns import regex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["YAML", "Builder", "MarkedYAMLError", "Odd", "YAMLError"]

MAX_DEPTH = 16
MAX_VALUES = 5000

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_SURROGATE = regex("[\ud800-\udfff]")
_INT = regex(r"[-+]?[0-9]{1,18}", re.ASCII)
_FLOAT = regex(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?", re.ASCII)


class Odd(Exception):
    """Something that a card may not hold."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


class Builder:
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
                    raise Odd("a second document in one file", _place(event))
                if event.tags:
                    raise Odd("%TAG directives are not allowed", _place(event))
                seen = True
                value = self._value(next(events), events, "", 0)
        return value

    def _value(self, event: Event, events: Iterator[Event], path: str, depth: int) -> Any:
        place = _place(event)
        if isinstance(event, AliasEvent):
            raise Odd("aliases are not allowed", place)
        if getattr(event, "anchor", None) is not None:
            raise Odd("anchors are not allowed", place)
        if depth > MAX_DEPTH:
            raise Odd("nested too deeply", place)
        self._count += 1
        if self._count > MAX_VALUES:
            raise Odd(f"more than {MAX_VALUES} values in one file", place)
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
        raise Odd("not understood", place)

    def _mapping(self, events: Iterator[Event], path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            place = _place(event)
            if not isinstance(event, ScalarEvent) or event.anchor is not None:
                raise Odd("a key must be plain text", place)
            _require_plain_tag(event, place)
            key = _text(event)
            if key == "<<":
                raise Odd("merge keys are not allowed", place)
            if key in found:
                raise Odd(f"the key {key!r} stands twice", place)
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
        raise Odd(f"the tag {tag} is not allowed", place)


def _text(event: ScalarEvent) -> str:
    text: str = event.value
    if _SURROGATE.search(text):
        raise Odd("half a surrogate pair is not text", _place(event))
    if "\0" in text:
        raise Odd("a NUL character is not text", _place(event))
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
            raise Odd("a number that is too large", _place(event))
        return number
    return text
