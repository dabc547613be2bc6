"""Rows of cards that are written as `import` and `verify` write them, made of their bytes in one go.

To read a card as YAML, to hold it against its schema, and to make records of it and rows of these takes
three times as long, and most of what a plan of thousands of cards takes that nobody has read. What is made
here is exactly what is made there; at the first thing that is not plainly one of these forms nothing is.
`tests/test_plainrows.py` holds both together.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gitwaves.halves import SEPARATOR, planned
from gitwaves.model import DEFAULT_VERIFY_TIMEOUT, POINTS_DIR, is_batch_name, is_id, seconds
from gitwaves.patterns import regex
from gitwaves.rows import Row
from gitwaves.yamlfile import has_odd_letters
from gitwaves.yamlplain import ODD_WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from gitwaves.model import Place

    _Places = dict[str, Place]

_MAX_BYTES = 16 << 10  # of a card; what is larger is left to the reader that knows all bounds
_NO_ODD = bytes([10, *range(32, 127)])  # letters of which none is odd; see `has_odd_letters`
# A top-level key, what follows it on its line, and the lines below that belong to it.
_ENTRY = regex(r"^([a-z][a-z_-]{0,99}):(?: ([^\n]+))?\n((?: [^\n]*\n|\n)*)", re.MULTILINE)
_FIRST = regex(r"\.{0,2}[A-Za-z_/]")  # with what a text begins that nothing takes for more
_WORD = "[A-Za-z][A-Za-z0-9]*(?:[._-][A-Za-z0-9]+)*"
_ID = regex(_WORD)
_NUMBER = regex(r"0|[1-9][0-9]{0,8}")
_DURATION = regex(r"(?=.*[1-9])(?:[0-9]{1,6}d)?(?:[0-9]{1,6}h)?(?:[0-9]{1,6}m)?(?:[0-9]{1,6}s)?")
_PATH = regex(r"[A-Za-z_][A-Za-z0-9_+-]*(?:[./][A-Za-z0-9_+-]+)*")
_FLOW = regex(rf"\[(?:{_WORD}(?:, ?{_WORD})*)?\]")
_LITERAL = regex(r"  [^ \n][^\n]*\n(?:(?:  [^\n]*)?\n)*")
_STEP = regex(r"^  - run: (.+)\n(?:    timeout: (.+)\n)?", re.MULTILINE)

# What stands behind each key is looked at apart: one expression for all of it takes long to compile.
_OID = '("[0-9a-f]{40}(?:[0-9a-f]{24})?"|[a-f][0-9a-f]{39}(?:[0-9a-f]{24})?)'
_DIGEST = '"(sha256:[0-9a-f]{64})"'
_TRACKING = regex(
    "tracking:\n  task: (.+)\n  status: (planned|active|failed|done)\n"
    f"(?:  claim:\n    tree: {_OID}\n    spec: {_DIGEST}\n    id: (.+)\n)?"
    "(?:  agent: (.+)\n)?(?:  clone: (.+)\n)?(?:  session: (.+)\n)?"
    '(?:  started: "(.+)"\n)?(?:  finished: "(.+)"\n)?(?:  attempts: (.+)\n)?'
    f"(?:  evidence:\n    commit: {_OID}\n    tree: {_OID}\n    spec: {_DIGEST}\n"
    "    runs:\n((?:    - .+\n(?:      .+\n)+)+))?(?:  learnings:\n((?:  - .+\n)+))?"
)
_RUN = regex(
    r"^    - run: (.+)\n      exit: (.+)\n      seconds: (.+)\n      log: (.+)\n", re.MULTILINE
)
_FLOAT = regex(r"[0-9]{1,15}\.[0-9]{1,15}")
_TIME = regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?Z")


class _Odd(Exception):
    """There is something in a card that is read in another way."""


def plain_row(data: bytes, path: str) -> tuple[Row, Row] | None:
    """What `rows.slim_of` and `rows.row_of` give of a task's card; None where it is not that plain."""
    folder, name = path.split("/")[-2:]
    ident = name.removesuffix(".yaml")
    at = data.find(SEPARATOR)
    if folder == POINTS_DIR or not 0 < at < len(data) - len(SEPARATOR) or len(data) > _MAX_BYTES:
        return None
    if data.count(SEPARATOR[:-1]) > 1 or not is_id(ident):
        return None
    half = data[at + len(SEPARATOR) :]
    try:
        spec = _spec(_letters(data[:at]), ident, folder, path)
        tracking = ident if half == planned(ident) else _tracking(_letters(half))
    except (_Odd, UnicodeDecodeError):
        return None
    slim = (True, (*spec[:1], spec[2], *spec[3:6], spec[11]), tracking != ident, ())
    return slim, (True, spec, tracking, (), True)


def plain_tracking(half: bytes) -> Row | str | None:
    """What `rows.tracking_row` gives of the tracking half of a task's card; None where not so plain."""
    try:
        return _tracking(_letters(half)) if len(half) <= _MAX_BYTES else None
    except (_Odd, UnicodeDecodeError):
        return None


def _letters(data: bytes) -> str:
    text = data.decode()
    if data.translate(None, _NO_ODD) and has_odd_letters(text):
        raise _Odd(text)
    return text


def _spec(text: str, ident: str, folder: str, path: str) -> Row:
    """The fields of a `Task`."""
    said: dict[str, Any] = {}
    places: dict[str, Place] = {"": (1, 1)}
    line = 1
    for key, rest, below in _ENTRY.findall(text):
        if key in places or not (rest or below):
            raise _Odd(key)
        places[key] = (line, 1)
        read = _READERS.get(key)
        if read is not None:
            said[key] = read(key, rest, below, line, places)
        elif key.startswith("x-"):
            _line(key, rest, below, line, places)
        else:
            raise _Odd(key)
        line += 1 + below.count("\n")
    if line <= text.count("\n") or text[-1:] != "\n":
        raise _Odd(text)  # something stands between
    if said.get("id") != ident or "title" not in said:
        raise _Odd(ident)
    one = said.get
    return (
        ident,
        said["title"],
        folder,
        one("depends_on", ()),
        one("batch"),
        one("estimate"),
        one("agent"),
        one("paths", ()),
        one("spec", ""),
        one("acceptance", ()),
        one("produces", ()),
        one("cancelled"),
        one("verify", ()),
        path,
        places,
    )


# --- what stands behind each key ---
# All are given the key, the rest of its line, the lines below, its line's number, and the places.


def _line(key: str, rest: str, below: str, line: int, places: _Places) -> str:
    return _text(_alone(rest, below))


def _batch(key: str, rest: str, below: str, line: int, places: _Places) -> str:
    batch = _alone(rest, below)
    if not _NUMBER.fullmatch(batch) and not is_batch_name(batch := _text(batch)):
        raise _Odd(batch)
    return batch


def _estimate(key: str, rest: str, below: str, line: int, places: _Places) -> int:
    return _length(_alone(rest, below))


def _needs(key: str, rest: str, below: str, line: int, places: _Places) -> tuple[str, ...]:
    needs = _list(key, rest, below, line, places)
    if len(set(needs)) < len(needs) or any(len(need) > 64 for need in needs):
        raise _Odd(key)
    if below and not all(map(_ID.fullmatch, needs)):
        raise _Odd(key)
    return needs


def _paths(key: str, rest: str, below: str, line: int, places: _Places) -> tuple[str, ...]:
    paths = _list(key, rest, below, line, places)
    if any(pattern.startswith("!") for pattern in paths):
        raise _Odd(key)
    return paths


def _products(key: str, rest: str, below: str, line: int, places: _Places) -> tuple[str, ...]:
    products = _list(key, rest, below, line, places)
    if not all(map(_PATH.fullmatch, products)):
        raise _Odd(key)
    return products


def _list(key: str, rest: str, below: str, line: int, places: _Places) -> tuple[str, ...]:
    """A list: texts, one on each line, or ids in brackets."""
    found: list[str] = []
    if below:
        if rest:
            raise _Odd(rest)
        for item in below[:-1].split("\n"):
            if item[:4] != "  - ":
                raise _Odd(item)
            line += 1
            places[f"{key}[{len(found)}]"] = (line, 5)
            found.append(_text(item[4:]))
    elif rest != "[]":
        if not _FLOW.fullmatch(rest):
            raise _Odd(rest)
        column = len(key) + 4
        for item in rest[1:-1].split(","):
            word = item.lstrip(" ")
            if word in ODD_WORDS:
                raise _Odd(word)
            places[f"{key}[{len(found)}]"] = (line, column + len(item) - len(word))
            column += len(item) + 1
            found.append(word)
    return tuple(found)


def _literal(key: str, rest: str, below: str, line: int, places: _Places) -> str:
    """A text of many lines."""
    if rest != "|" or not _LITERAL.fullmatch(below):
        raise _Odd(rest)
    return ("\n" + below).replace("\n  ", "\n")[1:].rstrip("\n") + "\n"


def _steps(key: str, rest: str, below: str, line: int, places: _Places) -> Row:
    """The fields of each `Step`."""
    found: list[Row] = []
    last = line + below.count("\n")
    for run, timeout in _STEP.findall(below):
        line += 1
        where = f"verify[{len(found)}]"
        places[where] = places[f"{where}.run"] = (line, 5)
        if timeout:
            line += 1
            places[f"{where}.timeout"] = (line, 5)
        length = _length(timeout) if timeout else DEFAULT_VERIFY_TIMEOUT
        found.append((_text(run), None, length, False))
    if rest or line < last:  # then something stands between
        raise _Odd(rest)
    return tuple(found)


_READERS: Mapping[str, Callable[[str, str, str, int, _Places], Any]] = {
    "id": _line,
    "title": _line,
    "depends_on": _needs,
    "batch": _batch,
    "estimate": _estimate,
    "agent": _line,
    "paths": _paths,
    "spec": _literal,
    "acceptance": _list,
    "produces": _products,
    "cancelled": _line,
    "verify": _steps,
}


def _alone(rest: str, below: str) -> str:
    if below and below.strip("\n"):
        raise _Odd(below)
    return rest


def _text(token: str) -> str:
    """A text on one line."""
    if token[:1] == '"':
        inner = token[1:-1]
        if len(token) < 3 or token[-1] != '"' or '"' in inner or "\\" in inner or inner.isspace():
            raise _Odd(token)
        return inner
    if not _FIRST.match(token) or not token.isascii():
        raise _Odd(token)
    if ": " in token or " #" in token or token[-1] in ": " or token in ODD_WORDS:
        raise _Odd(token)
    return token


@lru_cache(maxsize=1 << 10)
def _length(token: str) -> int:
    if not _DURATION.fullmatch(token):
        raise _Odd(token)
    return seconds(token)


def _tracking(text: str) -> Row | str:
    """What `rows.tracking_row` gives of a tracking half."""
    match = _TRACKING.fullmatch(text)
    if match is None:
        raise _Odd(text)
    task, status, claimed, claimed_spec, claim, *more = match.groups()
    agent, clone, session, started, finished, attempts, *more = more
    commit, tree, spec, runs, learnings = more
    task = _text(task)
    if len(task) > 64 or not _ID.fullmatch(task):
        raise _Odd(task)
    if attempts is not None and (attempts == "0" or not _NUMBER.fullmatch(attempts)):
        raise _Odd(attempts)
    for moment in (started, finished):
        if moment is not None and not _TIME.fullmatch(moment):
            raise _Odd(moment)
    evidence = None
    if commit is not None:
        evidence = (commit.strip('"'), tree.strip('"'), spec, _runs(runs), (), None)
    row: Row = (
        task,
        status,
        (claimed.strip('"'), claimed_spec, _text(claim)) if claim is not None else None,
        *(None if said is None else _text(said) for said in (agent, clone, session)),
        started,
        finished,
        int(attempts or 0),
        {},
        evidence,
        tuple([_text(line[4:]) for line in learnings[:-1].split("\n")]) if learnings else (),
        (),
    )
    return task if status == "planned" and not any(row[2:]) else row


def _runs(text: str) -> Row:
    found = []
    for run, code, took, log in _RUN.findall(text):
        if not _NUMBER.fullmatch(code) or not _FLOAT.fullmatch(took):
            raise _Odd(took)
        found.append((_text(run), int(code), float(took), _text(log)))
    if 4 * len(found) < text.count("\n"):  # then something stands between
        raise _Odd(text)
    return tuple(found)
