"""The few forms of YAML that nearly every card is written in, read and written line by line.

A parser for all of YAML takes twenty times as long. What is read or written here is so exactly as the
strict parser reads it, and as ruamel.yaml writes it; at the first thing that is not plainly one of those
forms it gives up, and they are asked. `tests/test_yamlfile.py` holds both together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gitwaves.model import Place
from gitwaves.patterns import regex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_PLAIN_VALUES = 4000  # below the bound of the strict reader, which counts a little differently
_MAX_KEY = 1000  # letters; YAML allows 1024
_WORD = r"\.{0,2}[A-Za-z_/][A-Za-z0-9_./+-]*"
_KEY = regex(rf"({_WORD}):(?: +(.*))?")
# A plain scalar that nothing in YAML could take for anything else than text.
_TEXT = regex(r"\.{0,2}[A-Za-z_/](?:(?!: | #)[ -~])*(?<![: ])")
_NUMBER = regex(r"-?(?:0|[1-9][0-9]{0,17})")
_FLOAT = regex(r"[0-9]{1,15}\.[0-9]{1,15}")
_QUOTED = regex(r"\"[^\"\\]*\"|'[^']*'")
_DURATION = regex(r"[0-9]+[dhms](?:[0-9]+[dhms])*")
_IN_FLOW = r"\.{0,2}[A-Za-z_/][A-Za-z0-9_./+*-]*"
_FLOW = regex(rf"\[(?:{_IN_FLOW}(?:, ?{_IN_FLOW})*)?\]")
_ITEM = regex(_IN_FLOW)
_ODD_WORDS = frozenset({"null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE"})
# Plain in every YAML that people use: 1.1 reads more words and numbers as something else.
_PLAIN = regex(
    r"(?!(?:y|n|yes|no|on|off|true|false|null|nan|inf)$)[A-Za-z][A-Za-z0-9_./+@-]*(?: [A-Za-z0-9_./+@-]+)*",
    re.IGNORECASE | re.ASCII,
)


class NotPlain(Exception):
    """There is something in a text, or in a value, that is left to what knows all of YAML."""


def needs_quotes(text: str) -> bool:
    """Whether some YAML might take a plain `text` for anything else than that very text."""
    return not _PLAIN.fullmatch(text)


def written(value: Mapping[str, Any]) -> str:
    """A mapping as ruamel.yaml writes it, each text that needs them in double quotes.

    >>> print(written({"task": "A1", "runs": [{"run": "make: it", "exit": 0}], "cost": {}}), end="")
    task: A1
    runs:
    - run: "make: it"
      exit: 0
    cost: {}

    Raises:
        NotPlain: there is more in it than plain numbers, and texts of printable ASCII.
    """
    return "".join(f"{line}\n" for line in _lines_of(value))


def _lines_of(value: Mapping[str, Any]) -> Iterator[str]:
    for key, inner in value.items():
        name = _written(key)
        if len(name) > 100:  # a long key is written in another way
            raise NotPlain
        if isinstance(inner, Mapping) and inner:
            yield f"{name}:"
            yield from (f"  {line}" for line in _lines_of(inner))
        elif isinstance(inner, list) and inner:
            yield f"{name}:"
            for item in inner:
                lines = _lines_of(item) if isinstance(item, Mapping) and item else (_written(item),)
                yield from (f"{'  ' if n else '- '}{line}" for n, line in enumerate(lines))
        else:
            yield f"{name}: {_written(inner)}"


def _written(value: Any) -> str:
    if isinstance(value, str):
        if not needs_quotes(value):
            return value
        if value.isascii() and value.isprintable():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
    elif isinstance(value, bool):
        return "true" if value else "false"
    elif isinstance(value, int) or (isinstance(value, float) and _FLOAT.fullmatch(repr(value))):
        return repr(value)
    elif value in ({}, []):
        return "{}" if isinstance(value, Mapping) else "[]"
    raise NotPlain


def read(text: str) -> tuple[Any, dict[str, Place]]:
    """The value of a document and the place of each part of it, as the strict reader gives them.

    Raises:
        NotPlain: it is not all of the few forms.
    """
    reader = _Reader(text)
    value = reader.mapping(0, "")
    if reader.line < len(reader.lines) or len(reader.places) > MAX_PLAIN_VALUES:
        raise NotPlain
    return value, reader.places


class _Reader:
    def __init__(self, text: str) -> None:
        if not text.endswith("\n"):
            raise NotPlain
        self.lines = text[:-1].split("\n")
        self.line = 0
        self.places: dict[str, Place] = {}

    def mapping(self, indent: int, path: str, first: str | None = None, depth: int = 0) -> Any:
        """A block mapping whose keys stand at `indent`; `first` is the rest of a `- ` line."""
        if depth > 6:
            raise NotPlain
        found: dict[str, Any] = {}
        lines, places = self.lines, self.places
        while self.line < len(lines):
            line = lines[self.line]
            if first is None:
                if not line.startswith(" " * indent) or line[indent : indent + 1] in ("", "-", "#"):
                    break
                body = line[indent:]
                if body[0] == " ":
                    raise NotPlain
            else:
                body, first = first, None
            match = _KEY.fullmatch(body)
            if match is None:
                raise NotPlain
            key, rest = match.groups()
            number = self.line + 1
            if path == "" and not found:
                places[""] = (number, indent + 1)
            elif not found:
                places.setdefault(path, (number, indent + 1))
            if key in found or key in _ODD_WORDS or len(key) > _MAX_KEY:
                raise NotPlain
            inner = f"{path}.{key}" if path else key
            places[inner] = (number, indent + 1)
            found[key] = self._value(key, rest, inner, indent, depth)
        if not found:
            raise NotPlain
        return found

    def _value(self, key: str, rest: str | None, path: str, indent: int, depth: int) -> Any:
        """What follows a key; leaves the reader at the line behind it."""
        if rest == "|":
            self.line += 1
            return self._literal(indent)
        if rest:
            self.line += 1
            if rest[0] == "[":
                return self._flow(rest, path, self.line)
            return _scalar(rest)
        self.line += 1
        if self.line == len(self.lines):
            raise NotPlain
        below = self.lines[self.line]
        at = len(below) - len(below.lstrip(" "))
        if below[at : at + 2] == "- " and at >= indent:
            return self._items(at, path, depth)
        if at > indent:
            return self.mapping(at, path, depth=depth + 1)
        raise NotPlain

    def _flow(self, rest: str, path: str, number: int) -> Any:
        if _FLOW.fullmatch(rest) is None or self.lines[number - 1].endswith(" "):
            raise NotPlain
        column = self.lines[number - 1].index(rest)
        items: list[Any] = []
        for match in _ITEM.finditer(rest):
            item = match.group()
            if item in _ODD_WORDS:
                raise NotPlain
            self.places[f"{path}[{len(items)}]"] = (number, column + match.start() + 1)
            items.append(_scalar(item))
        return items

    def _items(self, at: int, path: str, depth: int) -> Any:
        """A block list whose dashes stand at `at`."""
        items: list[Any] = []
        dash = " " * at + "- "
        while self.line < len(self.lines):
            line = self.lines[self.line]
            if not line.startswith(dash):
                if line.startswith(" " * at + "-"):
                    raise NotPlain
                break
            body = line[at + 2 :]
            inner = f"{path}[{len(items)}]"
            if _KEY.fullmatch(body):
                items.append(self.mapping(at + 2, inner, body, depth + 1))
            else:
                self.places[inner] = (self.line + 1, at + 3)
                self.line += 1
                items.append(_scalar(body))
        return items

    def _literal(self, indent: int) -> str:
        """The text of a `|` block below a key at `indent`."""
        lines = self.lines
        start = self.line
        if start == len(lines):
            raise NotPlain
        first = lines[start]
        width = len(first) - len(first.lstrip(" "))
        if width <= indent or not first.strip(" "):
            raise NotPlain
        margin = " " * width
        found = []
        while self.line < len(lines):
            line = lines[self.line]
            if line.startswith(margin):
                found.append(line[width:])
            elif not line:
                found.append("")
            else:
                break
            self.line += 1
        if self.line < len(lines) and lines[self.line].startswith(" " * (indent + 1)):
            raise NotPlain  # less than the text, more than the key
        while found and not found[-1]:
            found.pop()
        return "\n".join(found) + "\n"


def _scalar(text: str) -> Any:
    if _TEXT.fullmatch(text) and text not in _ODD_WORDS:
        return text
    if _DURATION.fullmatch(text):
        return text
    if _QUOTED.fullmatch(text):
        return text[1:-1]
    if _NUMBER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    raise NotPlain
