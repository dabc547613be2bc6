"""The two halves of a card: the spec half that people review, the tracking half below the line."""

from __future__ import annotations

import re

from gitwaves.patterns import regex

SEPARATOR = b"# --- tracking: written by gitwaves on the worktree's branch ---\n"

_LINE = regex(rb"^" + re.escape(SEPARATOR[:-1]) + rb"[ \t]*(?:\r?\n|\r?\Z)", re.MULTILINE)
_WORDS = frozenset({"", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_NUMBER = regex(
    r"[-+]?(?:0x[0-9a-f_]+|0[ob][0-7_]+|[0-9.][0-9_:.]*(?:e[-+]?[0-9]*)?|\.inf|\.nan)"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*",
    re.IGNORECASE | re.ASCII,
)


def split(data: bytes) -> tuple[bytes, bytes]:
    r"""The spec half and the tracking half of a card; the separator line is in neither.

    Without that line everything is spec half, whatever keys it has.

    >>> split(b"id: A1\n" + SEPARATOR + b"tracking: {}\n")
    (b'id: A1\n', b'tracking: {}\n')
    >>> split(b"id: A1\n")
    (b'id: A1\n', b'')
    """
    at = data.find(SEPARATOR)  # as nearly every card has it; the expression takes longer
    if at > 0 and data[at - 1] == 10 and data.find(SEPARATOR[:-1]) == at:
        return data[:at], data[at + len(SEPARATOR) :]
    match = _LINE.search(data)
    return (data, b"") if match is None else (data[: match.start()], data[match.end() :])


def join(spec: bytes, tracking: bytes) -> bytes:
    r"""A card of two halves, with the separator line between them.

    The separator takes the line ends of the spec half, so that joining what was split is the same
    bytes again.

    >>> join(b"id: A1", b"tracking: {}\n") == b"id: A1\n" + SEPARATOR + b"tracking: {}\n"
    True
    """
    end = b"\r\n" if spec.endswith(b"\r\n") else b"\n"
    if spec and not spec.endswith(b"\n"):
        spec += end
    return spec + SEPARATOR[:-1] + end + tracking


def planned(ident: str) -> bytes:
    r"""The tracking half of a card that nobody has begun.

    >>> planned("A1")
    b'tracking:\n  task: A1\n  status: planned\n'
    """
    return f"tracking:\n  task: {scalar(ident)}\n  status: planned\n".encode()


def scalar(ident: str) -> str:
    """An id or batch name as YAML text, quoted where some reader would see no text in it.

    >>> scalar("A1"), scalar("no"), scalar("1e3"), scalar("012")
    ('A1', '"no"', '"1e3"', '"012"')
    """
    return f'"{ident}"' if needs_quotes(ident) else ident


def needs_quotes(text: str) -> bool:
    """Whether plain `text` is a boolean, a null, a number or a date in YAML 1.1 or 1.2."""
    return text.lower() in _WORDS or bool(_NUMBER.fullmatch(text))
