"""Boundaries: which paths a workstream or a task may change. Pure.

Patterns are gitignore patterns anchored at the top of the repository, without `!`: `README.md` is
the one at the top, `services/ledger` everything below that directory, `**/x` an `x` at any depth.
Each is read once into rows of segments and characters. What a boundary covers, and whether two of
them can meet at all, are both worked out on those rows, so that the two answers always agree.

(The rows were compared with `git check-ignore`, which pathspec 1.1 differs from: there `[!b]`
matches a slash, and `a/**/` covers `a/x`.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from functools import cached_property, lru_cache
from itertools import chain, product

from gitwaves.patterns import regex
from gitwaves.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")


class Boundary(Record):
    """A set of patterns; none at all means that no boundary was stated: everything is covered.

    Patterns that have a `problem` cover nothing, so a mistake never widens a boundary.
    """

    patterns: tuple[str, ...]

    @cached_property
    def good(self) -> tuple[str, ...]:
        """The patterns that mean something."""
        return tuple(p for p in self.patterns or ("**",) if problem(p) is None)

    @cached_property
    def heads(self) -> tuple[str, ...]:
        """What all paths begin with that one of them covers, for each of the good patterns.

        >>> Boundary(("services/ledger", "docs/*.md", "/a/[bc]")).heads
        ('services/ledger', 'docs/', 'a/')
        """
        return tuple([_PLAIN.findall(p.removeprefix("/"))[0] for p in self.good])

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        regexes = [_regex_of(_row(pattern)) for pattern in self.good]
        return re.compile("|".join(regexes) or "(?!)", re.DOTALL)

    def covers(self, path: str) -> bool:
        """Whether the file at `path`, from the top of the repository, lies within.

        >>> ledger = Boundary(("services/ledger/", "README.md"))
        >>> ledger.covers("services/ledger/api/app.py"), ledger.covers("docs/README.md")
        (True, False)
        """
        return self._regex.fullmatch(path) is not None


def problem(pattern: str) -> str | None:
    r"""What is wrong with a pattern, or None.

    >>> problem("services/ledger/**")
    >>> problem("../ledger"), problem("!docs")
    ("'..' leads out of the repository", "'!' is not supported: list what is covered")
    """
    if len(pattern) > MAX_LENGTH:
        return f"it is longer than {MAX_LENGTH} characters"
    if not pattern.isprintable():
        return "it holds a character that cannot be seen"
    if pattern != pattern.strip():
        return "it starts or ends with a space"
    if not pattern.strip("/"):
        return "it is empty; `**` covers everything"
    if pattern.startswith("!"):
        return "'!' is not supported: list what is covered"
    parts = pattern.removeprefix("/").removesuffix("/").split("/")
    for part, meaning in (
        ("", "an empty component ('//') matches nothing"),
        (".", "'.' is never part of a path; `**` covers everything"),
        ("..", "'..' leads out of the repository"),
    ):
        if part in parts:
            return meaning
    try:
        row = _row(pattern)
    except ValueError as error:
        return str(error)
    if sum(segment.count(STAR) for segment in row if segment is not STAR) > MAX_STARS:
        return f"it holds more than {MAX_STARS} wildcards"
    return None


def overlap(
    a: Boundary, b: Boundary, files: Collection[str] = (), shared: Boundary | None = None
) -> str | None:
    """A path that both cover, or None: the first among `files`, else an example of one.

    What `shared` covers may be changed by anyone, and so is no overlap. A pattern that ends in what
    looks like the name of a file (`Makefile`, `*.py`) is taken for one, not for a folder that
    others may claim files in, unless the other pattern spells a path below it.

    Raises:
        TooComplicated: it would take too long to tell.

    >>> overlap(Boundary(("docs/*.md",)), Boundary(("docs/a*",)))
    'docs/a.md'
    >>> overlap(Boundary(("services/ledger",)), Boundary(("services/ledger-ui/**",)))
    >>> overlap(Boundary(("Makefile",)), Boundary(("**/tests/**",)))
    """
    if not any(map(_may_meet, product(a.heads, b.heads))):  # as nearly always
        return None
    effort = _Effort()
    meeting = [
        (one, other)
        for one, other in product(a.good, b.good)
        if _common_path(_row(one), _row(other), "x", effort) is not None
    ]
    examples = (
        path
        for one, other in meeting
        for fill in _FILL
        if (path := _common_path(_likely(one, other), _likely(other, one), fill, effort))
        is not None
        and not any(path[: slash.start()] in files for slash in re.finditer("/", path))
    )
    for path in chain(files, examples) if meeting else ():
        if a.covers(path) and b.covers(path) and not (shared and shared.covers(path)):
            return path
    return None


def _may_meet(heads: tuple[str, str]) -> bool:
    return heads[0].startswith(heads[1]) or heads[1].startswith(heads[0])


# What no pattern of a person's comes near; they bound the time that comparing takes.
MAX_LENGTH = 256
MAX_STARS = 8
_MAX_RANGE = 256

# A pattern is a row of segments, and a segment a row of characters. In both, STAR stands for any
# number of elements, none included. The last element of a pattern is a STAR: what lies below.
STAR = None
_Char = tuple[bool, frozenset[str]]  # one of these characters; or (False) any but these
_Segment = tuple[_Char | None, ...]
_Row = tuple[_Segment | None, ...]
_ANY: _Char = (False, frozenset("/"))
_ANYTHING: _Segment = (_ANY, STAR)  # a segment holds at least one character
_FILL = ("x", "y", "z")  # stands where anything may: the next one in case that path is shared
_FILE_NAME = regex(r".+\.\w+|[A-Z]\w*file|[A-Z_]+")
_PLAIN = regex(r"[^*?\[\\]*")
_CHAR = regex(
    r"\\(?P<escaped>.?)|\[(?P<set>[!^]?\]?[^]]*)(?P<end>\]?)|(?P<star>\*+)|(?P<one>.)", re.DOTALL
)


@lru_cache(maxsize=4096)
def _row(pattern: str) -> _Row:
    """A pattern, read.

    Raises:
        ValueError: says what is wrong with it.
    """
    parts = pattern.removeprefix("/").split("/")
    directory = not parts[-1]  # `a/` covers what lies below `a`, but no file `a`
    row: list[_Segment | None] = []
    for part in parts[:-1] if directory else parts:
        if part.strip("*") or len(part) == 1:
            row.append(_segment(part))
        elif row[-1:] != [STAR]:
            row.append(STAR)
    if row[-1] is STAR:
        row.append(_ANYTHING)  # `a/**` covers what lies below `a`
    if directory:
        row.append(_ANYTHING)
    return (*row, STAR)


def _segment(part: str) -> _Segment:
    chars: list[_Char | None] = []
    for match in _CHAR.finditer(part):
        kind = match.lastgroup
        if kind == "star":
            chars.append(STAR)
        elif kind == "end":
            if not match["end"]:
                raise ValueError("'[' is never closed; write '\\[' for the character")
            chars.append(_set(match["set"]))
        elif kind == "escaped":
            if match["escaped"] not in tuple("*?[]!# \\"):
                raise ValueError("a backslash only goes before one of *?[]!# \\")
            chars.append((True, frozenset(match["escaped"])))
        else:
            chars.append(_ANY if match["one"] == "?" else (True, frozenset(match["one"])))
    return _ANYTHING if chars == [STAR] else tuple(chars)


def _set(text: str) -> _Char:
    """The characters of `[a-z_]`."""
    negated = text[0] in "!^"
    rest = text[negated:]
    if "\\" in rest or "[" in rest:
        raise ValueError(f"[{text}] is more than this reads: characters and ranges such as [a-z]")
    chars = {"/"} if negated else set()
    for low, high, single in re.findall(r"(.)-(.)|(.)", rest):
        if low > high:
            raise ValueError(f"[{text}] holds a range that is the wrong way round")
        if low and ord(high) - ord(low) > _MAX_RANGE:
            raise ValueError(f"[{text}] holds a range of more than {_MAX_RANGE} characters")
        chars.update(single or map(chr, range(ord(low), ord(high) + 1)))
    return (not negated, frozenset(chars))


def _regex_of(row: _Row) -> str:
    """The paths that a row covers, without backtracking over what is decided.

    What stands between two stars is met as early as may be, and not looked for again: the star that
    follows it takes any rest, so an earlier place never loses a match.
    """
    first, *chunks = _between_stars(row[:-1])
    regex = "/".join(map(_segment_regex, first))
    for number, chunk in enumerate(chunks):
        lead = "/" if number == 0 and first else ""
        inner = "/".join(map(_segment_regex, chunk))
        regex += f"{lead}(?>(?:[^/]+/)*?{inner}(?=/|\\Z))" + (
            "/" if chunk is not chunks[-1] else ""
        )
    return regex + "(?:/.+)?"


def _segment_regex(segment: _Segment) -> str:
    first, *chunks = _between_stars(segment)
    regex = "".join(map(_char_regex, first))
    for chunk in chunks[:-1]:
        regex += f"(?>[^/]*?{''.join(map(_char_regex, chunk))})"
    if chunks:  # the last one stands at the end of the segment
        regex += f"[^/]*{''.join(map(_char_regex, chunks[-1]))}(?=/|\\Z)"
    return regex


def _char_regex(char: _Char) -> str:
    return f"[{'' if char[0] else '^'}{''.join(map(re.escape, sorted(char[1])))}]"


def _between_stars(row: Sequence[_T | None]) -> list[list[_T]]:
    """What stands before, between and after the stars of a row."""
    parts: list[list[_T]] = [[]]
    for item in row:
        if item is STAR:
            parts.append([])
        else:
            parts[-1].append(item)
    return parts


def _likely(pattern: str, other: str) -> _Row:
    """A pattern without what lies below it, where it most likely names a file."""
    row = _row(pattern)
    spelled_out = _row(other)[: len(row) - 1] == row[:-1]
    if _FILE_NAME.fullmatch(pattern.rpartition("/")[2]) and not spelled_out:
        return row[:-1]
    return row


class TooComplicated(Exception):
    """Patterns whose comparison would take too long: nobody's, but a card may hold anything."""


class _Effort:
    """What one comparison of two boundaries may cost, in pairs of characters."""

    def __init__(self) -> None:
        self._left = 300_000

    def spend(self, one: _Segment, other: _Segment) -> None:
        # without a wildcard the first character that differs ends it
        self._left -= len(one) * len(other) if STAR in one or STAR in other else 1
        if self._left < 0:
            raise TooComplicated


def _common_path(one: _Row, other: _Row, fill: str, effort: _Effort) -> str | None:
    """A path that both patterns cover, with `fill` where any character will do."""

    def both(a: _Segment, b: _Segment) -> str | None:
        effort.spend(a, b)
        return _common_segment(a, b, fill)

    found = _meet(one, other, both)
    if found is None or {".", ".."} & set(found):
        return None
    return "/".join(found)


@lru_cache(maxsize=65536)
def _common_segment(one: _Segment, other: _Segment, fill: str) -> str | None:
    found = _meet(one, other, lambda a, b: _common_char(a, b, fill))
    return None if found is None else "".join(found)


def _common_char(one: _Char, other: _Char, fill: str) -> str | None:
    """A character that both allow."""
    (listed, chars), (other_listed, others) = one, other
    if listed and other_listed:
        common = chars & others
    elif listed or other_listed:
        common = chars - others if listed else others - chars
    else:
        anything = fill + "abcdefghijklmnopqrstuvwxyz0123456789_-.ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        return next((c for c in anything if c not in chars and c not in others), None)
    return fill if fill in common else min(common, default=None)


def _meet(
    one: Sequence[_T | None], other: Sequence[_T | None], both: Callable[[_T, _T], str | None]
) -> list[str] | None:
    """A short row that fits both, or None; `both` gives what two single elements have in common."""
    ends = (len(one), len(other))
    # each position that is reached: from where, and with which element
    seen: dict[tuple[int, int], tuple[tuple[int, int], str | None]] = {(0, 0): ((0, 0), None)}
    queue = [(0, 0)]
    for i, j in queue:  # grows while it is walked
        if (i, j) == ends:
            break
        steps: list[tuple[tuple[int, int], str | None]] = []
        if i < ends[0] and one[i] is STAR:
            steps.append(((i + 1, j), None))
        if j < ends[1] and other[j] is STAR:
            steps.append(((i, j + 1), None))
        if i < ends[0] and j < ends[1]:
            a, b = one[i], other[j]
            x, y = (b if a is STAR else a), (a if b is STAR else b)  # a STAR stands for the other
            if x is not STAR and y is not STAR and (common := both(x, y)) is not None:
                steps.append(((i + (a is not STAR), j + (b is not STAR)), common))
        for step, element in steps:
            if step not in seen:
                seen[step] = ((i, j), element)
                queue.append(step)
    if ends not in seen:
        return None
    row: list[str] = []
    at = ends
    while at != (0, 0):
        at, element = seen[at]
        if element is not None:
            row.append(element)
    return row[::-1]
