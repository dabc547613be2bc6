"""Edits of one YAML file by top-level key: what is not set stands byte for byte as it stood.

ruamel.yaml says where a value begins and ends; only those lines are written anew, so comments,
order, quoting, indentation and line ends survive (its own dump loses the comment that follows a
replaced list).
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from gitwaves.halves import needs_quotes
from gitwaves.patterns import regex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What YAML lets stand in a block as it is: no control characters, no odd line breaks.
_ODD = regex(
    "[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_BREAKS = regex("[\r\x85\u2028\u2029]")


def dump(fields: Mapping[str, Any], flow: frozenset[str] = frozenset()) -> bytes:
    r"""Fields as cards write them: texts of several lines as blocks, quotes where needed.

    Args:
        fields: key -> text, number, or list of texts or mappings.
        flow: keys whose lists stand on one line.

    >>> dump({"id": "no", "needs": ["A1"], "spec": "One.\nTwo.\n"}, frozenset({"needs"}))
    b'id: "no"\nneeds: [A1]\nspec: |\n  One.\n  Two.\n'
    """
    yaml = YAML()
    yaml.width = 1 << 20  # a value keeps its line
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.BytesIO()
    yaml.dump(CommentedMap({k: _node(v, flow=k in flow) for k, v in fields.items()}), out)
    return out.getvalue()


def _node(value: Any, *, flow: bool = False) -> Any:
    if isinstance(value, Mapping):
        return CommentedMap({k: _node(v) for k, v in value.items()})
    if isinstance(value, list | tuple):
        items = CommentedSeq([_node(item) for item in value])
        if flow or not value:
            items.fa.set_flow_style()
        return items
    if not isinstance(value, str):
        return value
    if "\n" in value and value.strip() and not _ODD.search(value):
        return LiteralScalarString(value)
    if "\n" in value or "\t" in value or needs_quotes(value) or _ODD.search(value):
        return DoubleQuotedScalarString(value)
    return value


def edited(
    data: bytes,
    changes: Mapping[str, Any],
    order: Sequence[str],
    flow: frozenset[str] = frozenset(),
) -> bytes:
    r"""The file with some top-level keys set or, where the value is None, removed.

    A key that is new goes behind the last of those that come before it in `order`.

    Raises:
        YAMLError: `data` is not YAML.
        ValueError: it is not a block mapping.

    >>> edited(b"a: 1  # one\n# why\nc: [x]\n", {"a": 2, "b": "x"}, "abc")
    b'a: 2  # one\nb: x\n# why\nc: [x]\n'
    """
    text = data.decode("utf-8-sig").replace("\r\n", "\n")
    if _BREAKS.search(text):
        raise ValueError("odd line breaks")
    root = YAML(pure=True).compose(text)
    if not isinstance(root, MappingNode) or root.flow_style:
        raise ValueError("not a block mapping")
    lines = text.removesuffix("\n").split("\n")
    starts = [key.start_mark.line for key, _ in root.value]
    ends = [*starts[1:], len(lines)]
    spans = {
        key.value: (start, _end(lines, start, end, value), _comment(lines[start], key, value))
        for (key, value), start, end in zip(root.value, starts, ends, strict=True)
    }
    patches: list[tuple[int, int, int, list[str]]] = []
    for key in sorted(changes, key=order.index):
        value = changes[key]
        block = [] if value is None else dump({key: value}, flow).decode().split("\n")[:-1]
        if key in spans:
            first, end, comment = spans[key]
            if comment:
                block = [block[0] + comment, *block[1:]] if block else [comment.strip()]
        else:
            before = [spans[k][1] for k in order[: order.index(key)] if k in spans]
            first = end = max(before, default=starts[0])
        patches.append((first, end, len(patches), block))
    for first, end, _, block in sorted(patches, reverse=True):  # from the bottom up
        lines[first:end] = block
    result = "\n".join([*lines, ""]).encode()
    return result.replace(b"\n", b"\r\n") if b"\r\n" in data else result


def _end(lines: Sequence[str], start: int, end: int, value: Node) -> int:
    """The line behind a value: comments and blank lines that follow it are not part of it."""
    leaf = value
    while not isinstance(leaf, ScalarNode) and leaf.value:
        last = leaf.value[-1]
        leaf = last[1] if isinstance(last, tuple) else last
    block = isinstance(leaf, ScalarNode) and leaf.style in ("|", ">")
    indent = _indent(lines[leaf.start_mark.line]) if block else len(lines[start])
    while end > start + 1:
        line = lines[end - 1]
        comment = line.lstrip().startswith("#") and (not block or _indent(line) <= indent)
        if line.strip() and not comment:
            break
        end -= 1
    return end


def _comment(line: str, key: Node, value: Node) -> str:
    """The comment at the end of the line that a key stands on, with the blanks before it."""
    if value.end_mark.line == key.start_mark.line:
        rest = line[value.end_mark.column :]
    else:
        rest = re.sub(r"^\s*:(?:\s*[|>][-+0-9]*)?", "", line[key.end_mark.column :])
    return rest.rstrip() if re.match(r"\s+#", rest) else ""


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
