"""What `check` found in a plan, kept until something changes that its rules look at.

What is wrong with a task by itself is kept with its blob. The rules that look at all cards look at ids,
needs and batches, never at texts or at tracking: at what is called the shape of a card here. What they
found is kept under the shapes of all cards, so that whoever edits the text of one has one file read; where
one needs something else, they run again, and open no card of which they have nothing to say. As all that is
kept it is right or absent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from gitwaves.boundary import Boundary
from gitwaves.caches import keep_at, keep_newest, kept_at, key_of
from gitwaves.cards import (
    WORKSTREAM_FILE,
    is_card,
    load_config,
    load_workstream,
    own_version,
    read_card,
)
from gitwaves.model import CONFIG_PATH, Cards, Config, Finding, Oid, Place, Task, TaskId
from gitwaves.record import NamedTuple
from gitwaves.rows import Row, finding_of, plain
from gitwaves.rules import boundary_of, check_plan, check_task, place
from gitwaves.shelf import Listing

_MAX_ANSWERS = 16
_MANY = 400  # files that are read together rather than one by one
_TEXTS = (".yaml", ".yml")  # what else lies below `.workstreams/` is not looked at
_LOOKED_AT = ("id", "batch", "depends_on", "cancelled")
Design = tuple[str, str | None, str | None, Place]  # trunk; a document, its blob, where it stands
# Of a file: its blob, its shape, and what is wrong with it by itself; None where it is no task's card.
_Seen = tuple[Oid, bytes, tuple[Row, ...] | None]
_Stated = tuple[tuple[str, ...], dict[str, Oid]]  # what boundaries hang on: see `_stated`


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
    stated = _stated(listing)
    before, known = kept_at(folder / "seen", _version()) or (((), {}), {})
    seen = _still(before, known, stated, listing)
    fresh = [path for path in listing.files if path not in seen]
    read = cards() if len(fresh) >= _MANY else None
    _look(seen, fresh, listing, stated[0], read)
    path = folder / f"{_key(seen, listing.odd).hex()}.answer"
    said = kept_at(path, _version())
    if said is not None and (said[1] is None or said[1] == tracked.digest()):
        findings, twice, *rest = said[0]
    else:
        plan = read or cards()
        findings = [plain(finding) for finding in check_plan(plan, tracked)]
        paths = {plan.path_of(task) for task in plan.tasks}
        twice = [p for p, (*_, own) in seen.items() if own is not None and p not in paths]
        rest = [len(plan.tasks), len(plan.merge_points), _design(plan)]
        digest = tracked.digest() if tracked.asked else None
        keep_at(path, _version(), ((findings, twice, *rest), digest))
        keep_newest(folder, _MAX_ANSWERS + 1)  # and what was seen
    if said is None or fresh or len(seen) < len(known):
        keep_at(folder / "seen", _version(), (stated, seen))
    left_out = set(twice)
    own = [row for p, (*_, rows) in seen.items() if rows and p not in left_out for row in rows]
    return Answer(tuple(sorted({finding_of(row) for row in (*findings, *own)})), *rest)


def _version() -> bytes:
    return key_of(own_version())


def _design(cards: Cards) -> Design:
    config = cards.config
    line = place(config.places, "design")
    return str(config.trunk), config.design_path, config.design_blob, line


def _stated(listing: Listing) -> _Stated:
    """What boundaries hang on: what all may change, and by folder the file that states one."""
    config = Config()
    if CONFIG_PATH in listing.files:
        config, _ = load_config(listing.read(CONFIG_PATH), CONFIG_PATH)
    end = f"/{WORKSTREAM_FILE}"
    files = {
        path.removesuffix(end): oid for path, oid in listing.files.items() if path.endswith(end)
    }
    return tuple(config.shared_paths), files


def _still(
    before: _Stated, known: Mapping[str, _Seen], stated: _Stated, listing: Listing
) -> dict[str, _Seen]:
    """What is known of files that are the same, in folders whose boundary is the same."""
    (shared, streams), (shared_now, streams_now) = before, stated
    folders = {*streams, *streams_now}
    others = folders
    if shared == shared_now:
        others = {folder for folder in folders if streams.get(folder) != streams_now.get(folder)}
    seen = {path: row for path, row in known.items() if listing.files.get(path) == row[0]}
    if others:
        seen = {p: row for p, row in seen.items() if p.rpartition("/")[0] not in others}
    return seen


def _look(
    seen: dict[str, _Seen],
    fresh: Iterable[str],
    listing: Listing,
    shared: Sequence[str],
    cards: Cards | None,
) -> None:
    """Adds what is seen of some files; `cards`, where they were read, hold most of them."""

    @cache
    def boundary(folder: str) -> Boundary | None:
        path = f"{folder}/{WORKSTREAM_FILE}"
        if path not in listing.files:
            return None
        stream, _ = load_workstream(listing.read(path), path)
        return boundary_of(stream, shared) if stream is not None and stream.paths else None

    read: dict[str, TaskId] = {}
    if cards is not None:
        odd = {finding.path for finding in cards.findings}
        read = {p: task for task in cards.tasks if (p := cards.path_of(task)) not in odd}
    for path in fresh:
        oid = listing.files[path]
        if cards is not None and path in read:
            task, plainly = cards.tasks[read[path]], True
        else:
            card = read_card(listing.read(path), path) if is_card(path) else None
            spec = card.spec if card is not None else None
            if card is None or not isinstance(spec, Task):
                seen[path] = (oid, _odd_shape(path, oid), None)
                continue
            task, plainly = spec, not card.findings
        found = check_task(task, boundary(path.rpartition("/")[0]))
        own = tuple([plain(finding) for finding in found])
        seen[path] = (oid, _shape(task) if plainly else _odd_shape(path, oid), own)
    if cards is not None:
        cards.forget()


def _odd_shape(path: str, oid: Oid) -> bytes:
    """The same of what is the card of no task: any change of it counts."""
    return oid.encode() if path.endswith(_TEXTS) else b""


def _shape(task: Task) -> bytes:
    """What is another where a card changed in what the rules look at that look at all cards."""
    places = [(key, at) for key, at in task.places.items() if key.split("[")[0] in _LOOKED_AT]
    stated = (task.id, task.workstream, task.depends_on, task.batch, task.cancelled)
    return key_of(repr((*stated, sorted(places))).encode())


def _key(seen: Mapping[str, _Seen], odd: Mapping[str, str]) -> bytes:
    paths = sorted(seen)
    shapes = [seen[path][1] for path in paths]
    said = (
        "\0".join(strings).encode(errors="surrogateescape") for strings in (paths, *odd.items())
    )
    return key_of(bytes(map(len, shapes)), b"".join(shapes), *said)
