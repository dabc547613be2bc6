"""What `check` found in a plan, kept until something changes that its rules look at.

Rules look at ids, needs, batches and paths, never at texts or at tracking: at what is called the shape
of a card here. An answer is kept under the shapes of all cards, so that whoever edits the text of one has
one file read. What the rules see of each task is kept too: where one needs something else, they run again
and no other card is opened. As all that is kept it is right or absent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from gitwaves.caches import keep_at, keep_newest, kept_at, key_of
from gitwaves.cards import is_card, own_version, read_card
from gitwaves.model import Cards, Finding, Oid, Place, Places, Step, Task
from gitwaves.record import NamedTuple, replace
from gitwaves.rows import Row, finding_of, plain
from gitwaves.rules import check, place
from gitwaves.shelf import Listing

_MAX_ANSWERS = 16
_MANY = 400  # files that are read together rather than one by one
_TEXTS = (".yaml", ".yml")  # what else lies below `.workstreams/` is not looked at
_LOOKED_AT = ("id", "batch", "depends_on", "cancelled", "paths", "produces")
_STEPS = (Step(run="true"),)  # stand for whatever steps a task has
Design = tuple[str, str | None, str | None, Place]  # trunk; a document, its blob, where it stands


class Answer(NamedTuple):
    """What is wrong with a plan."""

    findings: tuple[Finding, ...]
    tasks: int
    points: int
    design: Design


class Tracked(Collection[str]):
    """The tracked files, which are asked for only where two boundaries meet."""

    def __init__(self, ask: Callable[[], Collection[str]]) -> None:
        self._ask = ask
        self._found: dict[str, None] | None = None

    @property
    def asked(self) -> bool:
        """Whether anybody looked at them."""
        return self._found is not None

    def _all(self) -> dict[str, None]:
        if self._found is None:
            self._found = dict.fromkeys(self._ask())
        return self._found

    def __contains__(self, path: object) -> bool:
        return path in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def digest(self) -> bytes:
        """What is another where other files are tracked."""
        return key_of("\0".join(self._all()).encode(errors="surrogateescape"))


def found_in(
    folder: Path, listing: Listing, cards: Callable[[], Cards], tracked: Tracked
) -> Answer:
    """What is wrong with the plan in some files.

    Args:
        folder: where answers are kept.
        cards: the cards of the files, asked for where there is no answer yet.
    """
    files = listing.files
    known: Mapping[str, tuple[Oid, bytes]] = kept_at(folder / "shapes", _version()) or {}
    shapes = {path: before[1] for path, before in known.items() if files.get(path) == before[0]}
    fresh = [path for path in files if path not in shapes]
    read = cards() if len(fresh) >= _MANY else None
    rows = _rows_in(read) if read is not None else {}
    for file in fresh:
        row = rows.get(file) or _row_at(file, listing.read)
        if row is not None:
            rows[file] = row
        shapes[file] = _shape(row) if row is not None else _odd_shape(file, files[file])
    path = folder / f"{_key(shapes, listing.odd).hex()}.answer"
    said = kept_at(path, _version())
    if said is not None and (said[1] is None or said[1] == tracked.digest()):
        findings, tasks, points, design = said[0]
        answer = Answer(tuple(map(finding_of, findings)), tasks, points, design)
    else:
        answer = _answer(_shown(folder, read or cards(), files, rows), tracked)
        found = [plain(finding) for finding in answer.findings]
        digest = tracked.digest() if tracked.asked else None
        keep_at(path, _version(), ((found, *answer[1:]), digest))
        keep_newest(folder, _MAX_ANSWERS + 2)  # shapes and rows
    if said is None or any(known.get(p) != (files[p], shape) for p, shape in shapes.items()):
        keep_at(folder / "shapes", _version(), {p: (files[p], s) for p, s in shapes.items()})
    return answer


def _version() -> bytes:
    return key_of(own_version())


def _answer(cards: Cards, tracked: Tracked) -> Answer:
    config = cards.config
    line = place(config.places, "design")
    design = (str(config.trunk), config.design_path, config.design_blob, line)
    return Answer(check(cards, tracked), len(cards.tasks), len(cards.merge_points), design)


def _shown(folder: Path, cards: Cards, files: Mapping[str, Oid], read: Mapping[str, Row]) -> Cards:
    """The cards as the rules see them, with all tasks opened: they look at each again and again.

    Args:
        read: what is seen of those that were read just now, by path.
    """
    rows = _rows_of(folder, cards, files, read)
    tasks = {}
    for node in cards.tasks:
        path = cards.path_of(node)
        tasks[node] = _task_of(rows.pop(path), path)  # all rows beside all tasks take much memory
    shown = replace(cards, tasks=tasks)
    shown.memo.update(cards.memo)
    return shown


def _rows_of(
    folder: Path, cards: Cards, files: Mapping[str, Oid], read: Mapping[str, Row]
) -> dict[str, Row]:
    """What is seen of each task, by path: kept, or else read now, or else opened; kept then."""
    kept: Mapping[str, tuple[Oid, Row]] = kept_at(folder / "rows", _version()) or {}
    found = {}
    for node in cards.tasks:
        path = cards.path_of(node)
        held = kept.get(path)
        if held is None or held[0] != files[path]:
            held = files[path], read.get(path) or _row(cards.tasks[node])
        found[path] = held
    if found != kept:
        keep_at(folder / "rows", _version(), found)
    return {path: row for path, (_, row) in found.items()}


def _row(task: Task) -> Row:
    """What the rules see of a task: not the texts, which take most of the memory."""
    keys = (key for key in task.places if not task.verify or key.split("[")[0] in _LOOKED_AT)
    # a task without steps is said where `verify` would stand; thousands of cards have the same keys
    places = {sys.intern(key): task.places[key] for key in keys}
    stated = (task.id, task.workstream, task.depends_on, task.batch, task.cancelled)
    return (*stated, task.paths, task.produces, bool(task.verify), places)


def _task_of(row: Row, path: str) -> Task:
    """A task of which the rules see what they saw of the one that `_row` was given."""
    ident, stream, needs, batch, cancelled, paths, produces, verified, places = row
    return Task(
        *(ident, "", stream, needs, batch),
        cancelled=cancelled,
        paths=paths,
        produces=produces,
        verify=_STEPS if verified else (),
        path=path,
        places=Places(places),
    )


def _rows_in(cards: Cards) -> dict[str, Row]:
    """What is seen of the tasks that can be read, by the path of their card."""
    odd = {finding.path for finding in cards.findings}
    tasks = ((cards.path_of(node), node) for node in cards.tasks)
    return {path: _row(cards.tasks[node]) for path, node in tasks if path not in odd}


def _row_at(path: str, read: Callable[[str], bytes]) -> Row | None:
    """What is seen of the task that a file is the card of, if it says nothing wrong of itself."""
    card = read_card(read(path), path) if is_card(path) else None
    spec = card.spec if card is not None and not card.findings else None
    return _row(spec) if isinstance(spec, Task) else None


def _odd_shape(path: str, oid: Oid) -> bytes:
    """The same of what is the card of no task: any change of it counts."""
    return oid.encode() if path.endswith(_TEXTS) else b""


def _shape(row: Row) -> bytes:
    """What is another where a card changed in what the rules look at."""
    *stated, places = row
    return key_of(repr((*stated, sorted(places.items()))).encode())


def _key(shapes: Mapping[str, bytes], odd: Mapping[str, str]) -> bytes:
    said = [f"{path}\0{shape.hex()}" for path, shape in sorted(shapes.items())]
    said += ["", *(f"{path}\0{what}" for path, what in odd.items())]
    return key_of("\0".join(said).encode(errors="surrogateescape"))
