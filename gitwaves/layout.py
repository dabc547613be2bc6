"""Lines of bounded width: ASCII, cutting, columns. What the texts are laid out with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from gitwaves.model import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


_ASCII = str.maketrans(
    {
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{MINUS SIGN}": "-",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHTWARDS ARROW}": "->",
        "\N{BULLET}": "*",
        "\N{LATIN SMALL LETTER SHARP S}": "ss",
    }
)


def oneline(text: str) -> str:
    r"""`text` on one line, with nothing in it that could steer a terminal.

    >>> oneline("two\n  lines \x1b[2J")
    'two lines \\x1b[2J'
    """
    return printable(" ".join(text.split()))


def plain(text: str) -> str:
    """`text` on one line of 7-bit ASCII: accents go, what has no counterpart becomes `?`.

    >>> plain("Zürich café ✓")
    'Zurich cafe ?'
    """
    text = oneline(text)
    if text.isascii():
        return text
    import unicodedata  # slow to load, and most texts are ASCII

    parts = unicodedata.normalize("NFKD", text.translate(_ASCII))
    kept = "".join(c for c in parts if not unicodedata.combining(c))
    return " ".join(kept.encode("ascii", "replace").decode("ascii").split())


def cut(text: str, width: int) -> str:
    """`text`, or as much of its beginning as fits with `...` behind it.

    >>> cut("a long title", 9), cut("short", 9)
    ('a long...', 'short')
    """
    if len(text) <= width:
        return text
    if width <= 3:
        return text[: max(width, 0)]
    return text[: width - 3].rstrip() + "..."


def fit(words: Sequence[str], width: int, sep: str = " ", most: int | None = None) -> str:
    """As many words as fit, or as `most` allows, and `+7` for those left out.

    A `+1` never stands where the word itself would.

    >>> fit(["A1", "A2", "A3", "A4"], 8), fit(["A1", "A2", "A3", "A4"], 80, most=2)
    ('A1 A2 +2', 'A1 A2 +2')
    """
    text = ""
    gap = sep if sep.isspace() else " "
    for i, word in enumerate(words):
        left = len(words) - i
        longer = text + sep + word if i else word
        tail = f"{gap}+{left - 1}" if left > 1 else ""
        full = most is not None and i >= most and left > 1
        if full or len(longer) + len(tail) > width:
            if i:
                return f"{text}{gap}+{left}"
            return cut(word, width - len(tail)) + tail
        text = longer
    return text


def middle(words: Sequence[str], width: int, sep: str = " -> ") -> str:
    """All words, or the first and the last ones with `...` for those between.

    >>> middle(["A1", "A2", "A3", "A4", "A5"], 23)
    'A1 -> A2 -> ... -> A5'
    """
    if sum(map(len, words)) + len(sep) * (len(words) - 1) <= width:
        return sep.join(words)
    head = tail = 0
    used = len("...")
    while head + tail < len(words):
        word = words[head] if head <= tail else words[-1 - tail]
        used += len(word) + len(sep)
        if used > width:
            break
        head, tail = (head + 1, tail) if head <= tail else (head, tail + 1)
    return sep.join([*words[:head], "...", *words[len(words) - tail :]])


def table(rows: Sequence[Sequence[str]], gaps: Sequence[int], indent: int = 2) -> list[str]:
    """Rows in columns, `gaps[i]` blanks after column `i`; an empty column takes no room.

    >>> table([("A1", "", "ok"), ("B10", "", "")], (2, 2))
    ['  A1   ok', '  B10']
    """
    widths = [max(map(len, column), default=0) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        line = " " * indent
        for i, cell in enumerate(row):
            gap = gaps[i] if i < len(gaps) else 0
            line += cell.ljust(widths[i] + gap) if widths[i] else ""
        lines.append(line.rstrip())
    return lines


def pick(
    items: Sequence[T], most: int, rank: Callable[[T], int] = lambda _: 0
) -> tuple[list[T], list[T]]:
    """The `most` items of the smallest rank, in the order they came in, and those left out.

    One item alone is never left out: the line that says so is no shorter.

    >>> pick(["b", "a", "c", "d"], 2, ord)
    (['b', 'a'], ['c', 'd'])
    """
    if len(items) <= most + 1:
        return list(items), []
    order = sorted(range(len(items)), key=lambda i: (rank(items[i]), i))
    kept = set(order[:most])
    shown = [item for i, item in enumerate(items) if i in kept]
    return shown, [item for i, item in enumerate(items) if i not in kept]


def more(kinds: Iterable[str], noun: str) -> list[str]:
    """The line that stands for what was left out, if anything was.

    >>> more(["idle"] * 40, "worktrees"), more(["idle", "done", "done"], "worktrees")
    (['  ... 40 more idle worktrees'], ['  ... 3 more worktrees: 1 idle, 2 done'])
    """
    counts = Counter(kinds)
    if not counts:
        return []
    if len(counts) == 1:
        return [f"  ... {counts.total()} more {next(iter(counts))} {noun}"]
    parts = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return [f"  ... {counts.total()} more {noun}: {parts}"]


def wrap(lead: str, words: Iterable[str], width: int, sep: str = "  ") -> list[str]:
    """Words behind `lead`, on as many lines as they take, indented alike.

    >>> wrap("a: ", ["one", "two", "three"], 12)
    ['a: one  two', '   three']
    """
    lines = []
    line = lead
    for word in words:
        if len(line) > len(lead) and len(line) + len(sep) + len(word) > width:
            lines.append(line)
            line = " " * len(lead)
        line += (sep if len(line) > len(lead) else "") + word
    return [*lines, line]
