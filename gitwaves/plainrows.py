"""Rows of cards that are written as `import` and `verify` write them, made of their bytes in one go.

To read a card as YAML, to hold it against its schema, and to make records of it and rows of these takes
three times as long, and most of what a plan of thousands of cards takes that nobody has read. What is made
here is exactly what is made there; at the first thing that is not plainly one of these forms nothing is.
`tests/test_plainrows.py` holds both together.
"""

from __future__ import annotations

import re

from gitwaves.halves import SEPARATOR, planned
from gitwaves.model import DEFAULT_VERIFY_TIMEOUT, POINTS_DIR, is_batch_name, is_id, seconds
from gitwaves.patterns import regex
from gitwaves.rows import Row
from gitwaves.yamlfile import has_odd_letters
from gitwaves.yamlplain import ODD_WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gitwaves.model import Place

_MAX_BYTES = 16 << 10  # of a card; what is larger is left to the reader that knows all bounds
# A top-level key, what follows it on its line, and the lines below that belong to it.
_ENTRY = regex(r"^([a-z][a-z_-]*):(?: ([^\n]+))?\n((?: [^\n]*\n|\n)*)", re.MULTILINE)
_FIRST = regex(r"\.{0,2}[A-Za-z_/]")  # with what a text begins that nothing takes for more
_ID = regex(r"[A-Za-z][A-Za-z0-9]*(?:[._-][A-Za-z0-9]+)*")
_NUMBER = regex(r"0|[1-9][0-9]{0,8}")
_DURATION = regex(r"(?=.*[1-9])(?:[0-9]{1,6}d)?(?:[0-9]{1,6}h)?(?:[0-9]{1,6}m)?(?:[0-9]{1,6}s)?")
_PATH = regex(r"[A-Za-z_][A-Za-z0-9_+-]*(?:[./][A-Za-z0-9_+-]+)*")
_FLOW = regex(r"\[(?:[A-Za-z][A-Za-z0-9._-]*(?:, ?[A-Za-z][A-Za-z0-9._-]*)*)?\]")
_LITERAL = regex(r"  [^ \n][^\n]*\n(?:(?:  [^\n]*)?\n)*")
_STEPS = regex(r"(?:  - run: .+\n(?:    timeout: .+\n)?)+")
_STEP = regex(r"  - run: (.+)\n(?:    timeout: (.+)\n)?")

# What stands behind each key is looked at apart: one expression for all of it takes long to compile.
_TRACKING = regex(
    r"tracking:\n  task: (.+)\n  status: (planned|active|failed|done)\n"
    r"(?:  claim:\n    tree: (.+)\n    spec: (.+)\n    id: (.+)\n)?"
    r"(?:  agent: (.+)\n)?(?:  clone: (.+)\n)?(?:  session: (.+)\n)?"
    r"(?:  started: \"(.+)\"\n)?(?:  finished: \"(.+)\"\n)?(?:  attempts: (.+)\n)?"
    r"(?:  evidence:\n    commit: (.+)\n    tree: (.+)\n    spec: (.+)\n"
    r"    runs:\n((?:    - .+\n(?:      .+\n)+)+))?(?:  learnings:\n((?:  - .+\n)+))?"
)
_OID = regex(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_DIGEST = regex(r"sha256:[0-9a-f]{64}")
_RUNS = r"    - run: (.+)\n      exit: (.+)\n      seconds: (.+)\n      log: (.+)\n"
_RUN = regex(_RUNS)
_ALL_RUNS = regex(f"(?:{_RUNS})+")
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
    if has_odd_letters(text):
        raise _Odd(text)
    return text


def _spec(text: str, ident: str, folder: str, path: str) -> Row:
    """The fields of a `Task`."""
    said: dict[str, tuple[str, str, int]] = {}
    places: dict[str, Place] = {"": (1, 1)}
    line, length = 1, 0
    for key, rest, below in _ENTRY.findall(text):
        if key in said or not (rest or below):
            raise _Odd(key)
        said[key] = rest, below, line
        places[key] = (line, 1)
        length += len(key) + 2 + len(below) + (len(rest) + 1 if rest else 0)
        line += 1 + below.count("\n")
    for key in said.keys() - _KEYS:
        if not key.startswith("x-"):
            raise _Odd(key)
        _text(_alone(*said[key][:2]))
    if length != len(text):
        raise _Odd(text)  # something stands between

    def listed(key: str) -> list[str]:
        if key not in said:
            return []
        rest, below, line = said[key]
        if below:
            return _block(key, rest, below, line, places)
        return _flow(key, rest, text, line, places)

    def one(key: str) -> str | None:
        return _text(_alone(*said[key][:2])) if key in said else None

    if one("id") != ident or (title := one("title")) is None:
        raise _Odd(ident)
    needs = listed("depends_on")
    if len(set(needs)) < len(needs) or not all(len(n) <= 64 and _ID.fullmatch(n) for n in needs):
        raise _Odd("depends_on")
    paths = listed("paths")
    if any(pattern.startswith("!") for pattern in paths):
        raise _Odd("paths")
    produces = listed("produces")
    if not all(map(_PATH.fullmatch, produces)):
        raise _Odd("produces")
    batch = _alone(*said["batch"][:2]) if "batch" in said else None
    if (
        batch is not None
        and not _NUMBER.fullmatch(batch)
        and not is_batch_name(batch := _text(batch))
    ):
        raise _Odd(batch)
    estimate = _length(_alone(*said["estimate"][:2])) if "estimate" in said else None
    return (
        ident,
        title,
        folder,
        tuple(needs),
        batch,
        estimate,
        one("agent"),
        tuple(paths),
        _literal(*said["spec"][:2]) if "spec" in said else "",
        tuple(listed("acceptance")),
        tuple(produces),
        one("cancelled"),
        _steps(*said["verify"], places) if "verify" in said else (),
        path,
        places,
    )


_KEYS = frozenset(
    "id title depends_on batch estimate agent paths spec acceptance produces cancelled verify".split()
)


def _alone(rest: str, below: str) -> str:
    if below.strip("\n"):
        raise _Odd(below)
    return rest


def _text(token: str) -> str:
    """A text on one line."""
    if token[:1] == '"':
        inner = token[1:-1]
        if len(token) < 3 or token[-1] != '"' or '"' in inner or "\\" in inner or inner.isspace():
            raise _Odd(token)
        return inner
    if not token.isascii():
        raise _Odd(token)
    if not _FIRST.match(token) or ": " in token or " #" in token or token[-1] in ": ":
        raise _Odd(token)
    if token in ODD_WORDS:
        raise _Odd(token)
    return token


def _length(token: str) -> int:
    if not _DURATION.fullmatch(token):
        raise _Odd(token)
    return seconds(token)


def _flow(key: str, rest: str, text: str, line: int, places: dict[str, Place]) -> list[str]:
    """A list of ids in brackets."""
    if not _FLOW.fullmatch(rest):
        raise _Odd(rest)
    found: list[str] = []
    column = len(key) + 4
    for item in rest[1:-1].split(",") if rest != "[]" else ():
        word = item.lstrip(" ")
        if word in ODD_WORDS:
            raise _Odd(word)
        places[f"{key}[{len(found)}]"] = (line, column + len(item) - len(word))
        column += len(item) + 1
        found.append(word)
    return found


def _block(key: str, rest: str, below: str, line: int, places: dict[str, Place]) -> list[str]:
    """A list of texts, one on each line."""
    found: list[str] = []
    if rest:
        raise _Odd(rest)
    for item in below[:-1].split("\n"):
        if item[:4] != "  - ":
            raise _Odd(item)
        line += 1
        places[f"{key}[{len(found)}]"] = (line, 5)
        found.append(_text(item[4:]))
    return found


def _literal(rest: str, below: str) -> str:
    """A text of many lines."""
    if rest != "|" or not _LITERAL.fullmatch(below):
        raise _Odd(rest)
    return ("\n" + below).replace("\n  ", "\n")[1:].rstrip("\n") + "\n"


def _steps(rest: str, below: str, line: int, places: dict[str, Place]) -> Row:
    """The fields of each `Step`."""
    if rest or not _STEPS.fullmatch(below):
        raise _Odd(rest)
    found: list[Row] = []
    for run, timeout in _STEP.findall(below):
        line += 1
        where = f"verify[{len(found)}]"
        places[where] = places[f"{where}.run"] = (line, 5)
        if timeout:
            line += 1
            places[f"{where}.timeout"] = (line, 5)
        length = _length(timeout) if timeout else DEFAULT_VERIFY_TIMEOUT
        found.append((_text(run), None, length, False))
    return tuple(found)


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
        if not _ALL_RUNS.fullmatch(runs):
            raise _Odd(runs)
        evidence = (_oid(commit), _oid(tree), _digest(spec), _runs(runs), (), None)
    row: Row = (
        task,
        status,
        (_oid(claimed), _digest(claimed_spec), _text(claim)) if claim is not None else None,
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


def _oid(token: str) -> str:
    oid = _text(token)
    if not _OID.fullmatch(oid):
        raise _Odd(token)
    return oid


def _digest(token: str) -> str:
    digest = _text(token)
    if not _DIGEST.fullmatch(digest):
        raise _Odd(token)
    return digest


def _runs(text: str) -> Row:
    found = []
    for run, code, took, log in _RUN.findall(text):
        if not _NUMBER.fullmatch(code) or not _FLOAT.fullmatch(took):
            raise _Odd(took)
        found.append((_text(run), int(code), float(took), _text(log)))
    return tuple(found)
