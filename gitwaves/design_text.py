"""The small print of design documents: ids, references, lengths, commands and paths in prose.

Everything here reads one line, cell or list item. What a text does not say is never guessed.
"""

from __future__ import annotations

import re
import unicodedata

from gitwaves.model import Branch, Step, seconds
from gitwaves.patterns import regex
from gitwaves.record import Record

_NAME = r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*"
_LINK = regex(r"!?\[([^\]]*)\]\([^)]*\)")
_SPAN = regex(r"(`+)[ ]?(.+?)[ ]?\1(?!`)")
_BREAK = regex(r"<br\s*/?>", re.IGNORECASE)
_BOX = regex(r"\[[ xX~-]\]\s*")
_ASIDE = regex(r"\([^()]*\)|\[[^\[\]]*\]")
_NONE = regex(r"(?:none|n/?a|nil|nothing|no dependenc(?:y|ies))\b.*|[-–—_\s]*", re.I | re.S)

_NAMED = regex(
    rf"(?P<word>(?:task|story|ticket)\s+)?(?P<id>{_NAME})"
    r"(?P<sep>\s*:\s*|\s+[-–—]+\s+|\s*[–—]\s*|[.)]\s+|\s+|$)(?P<title>.*)",
    re.IGNORECASE | re.DOTALL,
)
_FILE = regex(r"\.(?:md|py|ya?ml|json|toml|txt|[jt]sx?|sh|go|rs)$", re.IGNORECASE)
_WORKSTREAM = regex(
    r"(?:WS-(?P<ws>[A-Za-z]+(?:[._-][A-Za-z]+)*|\d+)"
    r"|(?i:work[ -]?stream|stream)\s+(?:WS-)?"
    rf"(?:(?P<word>{_NAME})(?=\s*[:–—]|\s+-\s)|(?P<letter>[A-Z]{{1,2}}|\d+)))"
    r"(?:\s*[:–—]\s*|\s+[-–—]+\s+|\s+|$)(?P<title>.*)"
)
_BATCH = regex(rf"batch\s+(?P<name>{_NAME})(?=$|[\s:(–—-])(?P<rest>.*)", re.I | re.S)
_POINT = regex(
    rf"(?:merge[ -]?point\s+(?P<name>{_NAME})|(?P<id>MP[._-]?\d+(?:[._-]?[A-Za-z0-9]+)*))"
    r"(?:\s*[:–—]\s*|\s+-\s+|\s+|$|(?=\())(?P<title>.*)",
    re.IGNORECASE | re.DOTALL,
)
_ARROW = regex(r"\s*(?:-+>|=+>|→|⇒|➜|\b(?=(?:unlocks|enables|unblocks)\b))\s*", re.IGNORECASE)
_UNLOCKS = regex(r"(?:will\s+)?(?:unlocks?|enables?|unblocks?|opens?)\s*:?\s*", re.IGNORECASE)

_LEAD = regex(r"(?:tasks?|story|stories|needs|requires|after|depends on|blocked by)\s+", re.I)
_TAIL = regex(r"\s+(?:is\s+)?(?:done|completed?|finished|merged|landed|ready)[.!]*", re.I)
_RANGE = regex(
    r"(?P<a>[A-Za-z][A-Za-z0-9._-]*?)(?P<i>\d+)\s*(?:[-–—…]|\.\.+|to)\s*(?P=a)(?P<j>\d+)"
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LENGTH = regex(
    r"(\d{1,6}(?:\.\d{1,3})?)\s*(s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?|w(?:ee)?ks?|w)"
    r"(?=[\s,\d]|$)(?:\s*(?:,|and))?\s*",
    re.IGNORECASE,
)
_NEEDS = regex(
    r"\s*[(\[](?:depend(?:s|encies)(?: on)?|deps|needs|requires|after|blocked (?:on|by))\b"
    r":?\s*([^()\[\]]*)[)\]]",
    re.IGNORECASE,
)
_TIME = regex(r"\s*\((?:est(?:imated?)?\.?:?\s*)?([~≈]?\s*\d[^()]*)\)", re.IGNORECASE)

_TOOLS = frozenset(
    "bash bazel bun bundle cargo cmake composer ctest curl deno diff docker dotnet echo eslint "
    "false git go gradle grep hatch helm jest jq just kubectl make mix mvn mypy node nox npm npx "
    "php pnpm poetry psql pytest python python3 rake rspec ruby ruff sh swift terraform test tox "
    "true tsc uv vitest yarn zig".split()
)
_PROSE = frozenset("sure that the a an all and any it if whether through each every".split())
_BRANCH = regex(r"(?![/.-])(?!.*(?:\.\.|//|/\.|@\{|\.lock(?:/|$)))[\w./+@-]+(?<![/.])")


def plain(text: str) -> str:
    """`text` without bold, code and link marks; underscores stay, for names have them.

    >>> plain("**Parse** [`__init__.py`](x.md) ~~now~~")
    'Parse __init__.py now'
    """
    text = _BREAK.sub(" ", _LINK.sub(r"\1", text))
    return re.sub(r"\*\*|~~|`|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)", "", text).strip()


def unmarked(text: str) -> str:
    """`text` without the check box and the emoji around it.

    >>> unmarked("[x] 🚀 A1: Schema ✅"), unmarked("🟦 STREAM A")
    ('A1: Schema', 'STREAM A')
    """
    while True:
        before = text
        while text and unicodedata.category(text[0]) in {"So", "Mn", "Cf", "Zs"}:
            text = text[1:]
        while text and unicodedata.category(text[-1]) in {"So", "Mn", "Cf", "Zs"}:
            text = text[:-1]
        if (match := _BOX.match(text)) is not None:
            text = text[match.end() :]
        if text == before:
            return text


def says_none(text: str) -> bool:
    """Whether a cell or value means that there is nothing.

    >>> says_none("_None_"), says_none("—"), says_none("None (parallel)"), says_none("A1")
    (True, True, True, False)
    """
    return bool(_NONE.fullmatch(unmarked(plain(text)).strip("_ ")))


class Named(Record):
    """A text that begins with what may be a task's id."""

    id: str
    title: str
    task: bool  # a check box or the word "task" says what it is
    marked: bool  # the id is in bold or code
    loose: bool  # nothing but a blank stands between id and title


def named(text: str) -> Named | None:
    """The id and title of a heading, list item or cell; an id has a digit in it.

    >>> named("[ ] **A1:** Schema ✅")
    Named(id='A1', title='Schema', task=True, marked=True, loose=False)
    >>> named("Task A1 — Schema").title, named("A1.1 Schema").loose, named("Overview")
    ('Schema', True, None)
    """
    bare = text.strip()
    box = _BOX.match(bare)
    bare = bare[box.end() :] if box else bare
    match = _NAMED.fullmatch(unmarked(plain(bare)))
    if match is None or not any(c.isdigit() for c in match["id"]) or _FILE.search(match["id"]):
        return None
    loose = bool(match["sep"]) and match["sep"].isspace()
    marked = bare.startswith(("**", "`", "__"))
    task = box is not None or match["word"] is not None
    return Named(match["id"], match["title"].strip(), task, marked, loose)


def workstream(text: str) -> tuple[str, str] | None:
    """The id and title of a workstream's heading.

    >>> workstream("WS-A: Ledger"), workstream("Workstream B - API"), workstream("STREAM C: Web")
    (('WS-A', 'Ledger'), ('WS-B', 'API'), ('WS-C', 'Web'))
    >>> workstream("Workstream overview"), workstream("WS-A1: Schema")
    (None, None)
    """
    match = _WORKSTREAM.fullmatch(unmarked(plain(text)))
    if match is None:
        return None
    return "WS-" + (match["ws"] or match["word"] or match["letter"]), match["title"].strip()


def batch(text: str) -> tuple[str, str] | None:
    """The name of a batch that a heading or list item is about, and what follows.

    >>> batch("Batch P0-B1: Schemas (4 tasks) ✅"), batch("Batch overview")
    (('P0-B1', 'Schemas (4 tasks)'), None)
    """
    match = _BATCH.match(unmarked(plain(text)))
    if match is None or not any(c.isdigit() for c in match["name"]):
        return None
    return match["name"], match["rest"].strip().lstrip(":–—-").strip()


def batch_name(text: str) -> str | None:
    """The name of the batch in a cell or value, `None` where it names none.

    >>> batch_name("**Batch 2** (parallel)"), batch_name("1"), batch_name("core"), batch_name("-")
    ('2', '1', 'core', None)
    """
    if says_none(text):
        return None
    found = batch(text)
    return found[0] if found else unmarked(_ASIDE.sub("", plain(text))).strip()


def point(text: str) -> tuple[str, str] | None:
    """The id and the rest of a heading or item that is about a merge point.

    >>> point("MP1: A8 + B3"), point("Merge Point 2 - Launch"), point("Merge Point MP3")
    (('MP1', 'A8 + B3'), ('MP2', 'Launch'), ('MP3', ''))
    """
    match = _POINT.fullmatch(unmarked(plain(text)))
    if match is None:
        return None
    name = match["id"] or match["name"]
    if not any(c.isdigit() for c in name):
        return None
    return ("MP" + name if name[0].isdigit() else name), match["title"].strip()


def convergence(text: str) -> tuple[str, str, str]:
    """What a merge point's line says: a title, what converges, what it unlocks.

    >>> convergence("A8 + B3 -> unlocks C1")
    ('', 'A8 + B3', 'C1')
    >>> convergence("Auth ready: A8, B3 → Batch 9")
    ('Auth ready', 'A8, B3', 'Batch 9')
    """
    left, *right = _ARROW.split(text, maxsplit=1)
    title, _, requires = left.strip(" .;").rpartition(":")
    unlocks = right[0] if right else ""
    if lead := _UNLOCKS.match(unlocks):
        unlocks = unlocks[lead.end() :]
    return title.strip(), requires.strip(), unlocks.strip()


def references(text: str) -> tuple[str, ...]:
    """The pieces of a list of references, each without marks, asides and words of status.

    >>> references("A1 ✅, **B2**, MP1 (done) + Batch 8"), references("None")
    (('A1', 'B2', 'MP1', 'Batch 8'), ())
    >>> references("Tasks A1, A2 and Merge Point 1 complete")
    ('A1', 'A2', 'MP1')
    """
    if says_none(text):
        return ()
    text = _ASIDE.sub(" ", _BREAK.sub(",", _LINK.sub(r"\1", text)))
    found = []
    for piece in re.split(r"[,;+&\n]|\b(?:and|plus)\b", plain(text)):
        piece = re.sub(r"^[\W_]+|[\W_]+$", "", piece)
        piece = _TAIL.sub("", _LEAD.sub("", piece, count=1))
        if piece.lower().startswith("merge") and (named_point := point(piece)):
            piece = named_point[0]
        if piece and not says_none(piece):
            found.append(piece)
    return tuple(dict.fromkeys(found))


def id_range(text: str) -> tuple[str, str, str] | None:
    """The prefix and the two numbers of a range whose ends look alike.

    >>> id_range("A1–A3"), id_range("T005-T009"), id_range("A1-3")
    (('A', '1', '3'), ('T', '005', '009'), None)
    """
    match = _RANGE.fullmatch(text)
    return (match["a"], match["i"], match["j"]) if match else None


def estimate(text: str) -> str | None:
    """A length in the form that cards have, or None where it cannot be read.

    >>> [estimate(t) for t in ("2h", "~2 hours", "30 min", "1.5h", "2d", "1 hour 15 minutes", "M")]
    ['2h', '2h', '30m', '1h30m', '2d', '1h15m', None]
    """
    text = re.sub(r"^(?:about|approx\.?|est\.?|[~≈\s])+", "", unmarked(plain(text)).strip().lower())
    total, at = 0.0, 0
    while match := _LENGTH.match(text, at):
        total += float(match[1]) * _UNITS[match[2][0]]
        at = match.end()
    if at < len(text) or round(total) <= 0:
        return None
    compact = "".join(text.split())
    try:
        seconds(compact)
        return compact
    except ValueError:
        return _length(round(total), days=bool(re.search("[dw]", text)))


def _length(total: int, *, days: bool) -> str:
    if days and total % 86400 == 0:
        return f"{total // 86400}d"
    hours, rest = divmod(total, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}h" * bool(hours) + f"{minutes}m" * bool(minutes) + f"{secs}s" * bool(secs)


def asides(title: str) -> tuple[str, str | None, str | None]:
    """A list item's title without what stands in brackets: the needs and the length it names.

    >>> asides("Schema (depends on: A2, B1) (3h)")
    ('Schema', 'A2, B1', '3h')
    >>> asides("Use S3 (not disk)")
    ('Use S3 (not disk)', None, None)
    """
    needs = length = None
    if match := _NEEDS.search(title):
        needs = match[1]
        title = title[: match.start()] + title[match.end() :]
    if (match := _TIME.search(title)) and estimate(match[1]):
        length = match[1]
        title = title[: match.start()] + title[match.end() :]
    return title.strip(), needs, length


def steps(text: str) -> tuple[Step, ...]:
    """The verification steps that a value names: commands, or a sentence for a person to confirm.

    >>> [s.run for s in steps("`make test` and `make lint`")]
    ['make test', 'make lint']
    >>> steps("python -m pytest -q")[0].run, steps("All tests are green")[0].manual
    ('python -m pytest -q', 'All tests are green')
    """
    if says_none(text):
        return ()
    rest = re.sub(r"^(?:run|execute)\s*:?\s+(?=`)", "", _BOX.sub("", text.strip(), 1), flags=re.I)
    commands = []
    while match := _SPAN.match(rest):
        commands.append(Step(run=match[2]))
        rest = re.sub(r"^\s*(?:,|;|&&|\+|and|then|<br\s*/?>)*\s*(?=`)", "", rest[match.end() :])
    if commands:
        return tuple(commands)
    return (Step(run=rest),) if _is_command(rest) else (Step(manual=rest),)


def _is_command(text: str) -> bool:
    words = [w for w in text.split() if not re.match(r"[A-Z_]+=", w)]
    if not words or (len(words) > 1 and words[1].lower() in _PROSE):
        return False
    return words[0] in _TOOLS or bool(re.fullmatch(r"\.{0,2}/?(?:[\w.-]+/)+[\w.-]+", words[0]))


def script(text: str) -> tuple[Step, ...]:
    r"""The steps of a code block: a line each, continued lines together, comments left out.

    >>> [s.run for s in script("# all of it\nmake \\\n  test\n$ make lint\n")]
    ['make test', 'make lint']
    """
    lines = (line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines())
    return tuple(Step(run=line.removeprefix("$ ")) for line in lines if line and line[0] != "#")


def patterns(text: str) -> tuple[tuple[str, ...], bool]:
    """The paths that a value names, and whether it says something else besides.

    >>> patterns("`a/**`, `b.py:10-20` (new)"), patterns("src/x.py, ./docs/"), patterns("3 files")
    ((('a/**', 'b.py'), True), (('src/x.py', 'docs/'), False), ((), True))
    """
    if says_none(text):
        return (), False
    text = _BOX.sub("", _BREAK.sub(",", _LINK.sub(r"\1", text)).strip(), 1)
    spans = [match[2] for match in _SPAN.finditer(text)]
    pieces = spans or [p for p in re.split(r"[,;\s]+", text) if p]
    found, odd = [], bool(re.search(r"\w", _SPAN.sub("", text))) if spans else False
    for piece in pieces:
        path = re.sub(r":\d+(?:-\d+)?$", "", piece.strip()).removeprefix("./").lstrip("/")
        named_path = bool(spans) or bool(re.search(r"\*|/$|\w\.\w|^\.\w", path))
        if (
            named_path
            and re.fullmatch(r"(?!!)[^\s\x00-\x1f\\]+", path)
            and ".." not in path.split("/")
        ):
            found.append(path)
        else:
            odd = True
    return tuple(dict.fromkeys(found)), odd


def branch(text: str) -> Branch | None:
    """The branch that a value names, if Git could have one of that name.

    >>> branch("`feature/x`"), branch(".worktrees/WS-A"), branch("two words")
    ('feature/x', None, None)
    """
    name = unmarked(plain(text)).strip()
    return Branch(name) if _BRANCH.fullmatch(name) else None
