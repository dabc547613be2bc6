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
# A plain scalar that nothing in YAML could take for anything else than text.
_WORDS = r"\.{0,2}[A-Za-z_/](?:(?!: | #)[ -~])*(?<![: ])"
_TEXT = regex(_WORDS)
_PARTS = regex(rf"^( *)(- )?(?:({_WORD}):(?: +(?:({_WORDS})|(.*)))?|(.*))$", re.MULTILINE)
_NUMBER = regex(r"-?(?:0|[1-9][0-9]{0,17})")
_FLOAT = regex(r"[0-9]{1,15}\.[0-9]{1,15}")
_QUOTED = regex(r"\"[^\"\\]*\"|'[^']*'")
_DURATION = regex(r"[0-9]+[dhms](?:[0-9]+[dhms])*")
_IN_FLOW = r"\.{0,2}[A-Za-z_/][A-Za-z0-9_./+*-]*"
_FLOW = regex(rf"\[(?:{_IN_FLOW}(?:, ?{_IN_FLOW})*)?\]")
_ITEM = regex(_IN_FLOW)
ODD_WORDS = frozenset({"null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE"})
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


def read(text: str, first_line: int = 1) -> tuple[Any, dict[str, Place]]:
    """The value of a document and the place of each part of it, as the strict reader gives them.

    Args:
        first_line: what its first line is counted as.

    Raises:
        NotPlain: it is not all of the few forms.
    """
    if not text.endswith("\n"):
        raise NotPlain
    reader = _Reader(text[:-1], first_line)
    value = reader.mapping(0, "")
    if reader.at < len(reader.parts) or len(reader.places) > MAX_PLAIN_VALUES:
        raise NotPlain
    return value, reader.places


class _Reader:
    """Goes over lines that one expression has taken apart, which is most of the work."""

    def __init__(self, text: str, first_line: int) -> None:
        self.lines = text.split("\n")
        # of each line: its margin, `- `, a key, plain text or what else is behind it; or what is no key
        self.parts: list[tuple[str, str, str, str, str, str]] = _PARTS.findall(text)
        self.at = 0  # the number of the line that comes next
        self.first = first_line
        self.places: dict[str, Place] = {}

    def mapping(self, indent: int, path: str, depth: int = 0, *, dashed: bool = False) -> Any:
        """A block mapping whose keys stand at `indent`; `dashed`: the first one behind a `- `."""
        if depth > 6:
            raise NotPlain
        found: dict[str, Any] = {}
        parts, places, column = self.parts, self.places, indent + 1
        above = f"{path}." if path else ""
        while self.at < len(parts):
            margin, dash, key, text, rest, other = parts[self.at]
            if dashed:
                dashed = False
            elif len(margin) != indent or dash:
                if len(margin) > indent:
                    raise NotPlain
                break
            if not key:
                if not other or other[0] in "-#":
                    break
                raise NotPlain
            place = (self.first + self.at, column)
            if not found:
                places.setdefault(path, place)
            if key in found or key in ODD_WORDS or len(key) > _MAX_KEY:
                raise NotPlain
            inner = above + key
            places[inner] = place
            self.at += 1
            if text:
                if text in ODD_WORDS:
                    raise NotPlain
                found[key] = text
            elif not rest:
                found[key] = self._below(inner, indent, depth)
            elif rest == "|":
                found[key] = self._literal(indent)
            elif rest[0] == "[":
                found[key] = self._flow(rest, inner)
            else:
                found[key] = _scalar(rest)
        if not found:
            raise NotPlain
        return found

    def _below(self, path: str, indent: int, depth: int) -> Any:
        """What stands below a key at `indent`."""
        if self.at == len(self.parts):
            raise NotPlain
        margin, dash, *_ = self.parts[self.at]
        if dash and len(margin) >= indent:
            return self._items(len(margin), path, depth)
        if len(margin) > indent:
            return self.mapping(len(margin), path, depth + 1)
        raise NotPlain

    def _flow(self, rest: str, path: str) -> Any:
        if _FLOW.fullmatch(rest) is None:
            raise NotPlain
        number = self.first + self.at - 1
        column = self.lines[self.at - 1].index(rest) + 1
        items: list[Any] = []
        for match in _ITEM.finditer(rest):
            item = match.group()
            if item in ODD_WORDS:
                raise NotPlain
            self.places[f"{path}[{len(items)}]"] = (number, column + match.start())
            items.append(_scalar(item))
        return items

    def _items(self, at: int, path: str, depth: int) -> Any:
        """A block list whose dashes stand at `at`."""
        items: list[Any] = []
        while self.at < len(self.parts):
            margin, dash, key, _, _, other = self.parts[self.at]
            if not dash or len(margin) != at:
                if len(margin) == at and other[:1] == "-":
                    raise NotPlain
                break
            inner = f"{path}[{len(items)}]"
            if key:
                items.append(self.mapping(at + 2, inner, depth + 1, dashed=True))
            else:
                self.places[inner] = (self.first + self.at, at + 3)
                self.at += 1
                items.append(_scalar(other))
        return items

    def _literal(self, indent: int) -> str:
        """The text of a `|` block below a key at `indent`."""
        lines = self.lines
        if self.at == len(lines):
            raise NotPlain
        first = lines[self.at]
        width = len(first) - len(first.lstrip(" "))
        if width <= indent or not first.strip(" "):
            raise NotPlain
        margin = " " * width
        found = []
        while self.at < len(lines):
            line = lines[self.at]
            if line.startswith(margin):
                found.append(line[width:])
            elif not line:
                found.append("")
            else:
                break
            self.at += 1
        if self.at < len(lines) and lines[self.at].startswith(" " * (indent + 1)):
            raise NotPlain  # less than the text, more than the key
        while found and not found[-1]:
            found.pop()
        return "\n".join(found) + "\n"


def _scalar(text: str) -> Any:
    if _TEXT.fullmatch(text) and text not in ODD_WORDS:
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
