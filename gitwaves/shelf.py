"""What was read of a whole plan, kept for the next process: each tree of cards, once.

Where `caches` keeps what single files were read as, this keeps the lot, in a few files for each tree. The
outline holds what every command needs: ids, graph, batches, columns. The rows hold the cards, and each is
looked up when somebody asks for it: ten thousand cards are not made into objects to show the state of
one. The index says which blob each file was, the entries what of each an outline is made of: when the plan
changes, what is the same is taken over.
Where no more than a few cards changed, the tree has an outline of its own alone, which holds their rows and
leans on the rows of the tree before. Never needed, and right or absent, as there.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

from gitwaves.caches import draft, keep_at, keep_newest, kept_at, key_of
from gitwaves.cards import WORKSTREAM_FILE, is_card, joined_cards, own_version
from gitwaves.errors import GitError
from gitwaves.forks import apart, beside, spread
from gitwaves.model import Cards, MergePoint, Oid, Task, TaskId
from gitwaves.outlines import (
    Read,
    Rows,
    Where,
    amended,
    amendments,
    cards_of,
    opening,
    outline_of,
    put_in_order,
    renewed,
    taken_down,
)
from gitwaves.record import NamedTuple, Record
from gitwaves.rows import Row, outlined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_PLANS = 4
_LARGE = 2_000  # files
FEW = 100  # cards of which an outline holds the rows: where more changed, all rows are written anew
# What is kept under the id of a plan's tree, besides the file of rows that the first three name.
_INDEX, _ENTRIES, _OUTLINE, _DIGESTS = _PARTS = ("index", "entries", "outline", "digests")


class Listing(NamedTuple):
    """Files under `.workstreams/`, and how they are read."""

    files: Mapping[str, Oid]  # by path
    odd: Mapping[str, str]  # path -> what it is instead of a regular file
    read: Read
    ahead: Callable[[Sequence[str]], None]  # told before, in each process, which are asked for


class _Entry(NamedTuple):
    """A card that was read: its blob, what an outline needs of it, and its row or where that lies."""

    oid: Oid
    slim: Row
    row: Where


class Plan(Record):
    """The files under `.workstreams/` of a tree by path, as blob ids, and what cards were read as."""

    files: Mapping[str, Oid]
    odd: Mapping[str, str]
    tell: Callable[[], Mapping[str, _Entry] | None]
    rows: Rows | None = None  # what entries were taken over from
    tree: Oid | None = None  # under which all of it is kept

    @cached_property
    def entries(self) -> Mapping[str, _Entry] | None:
        """The cards that were read, by path; None where that is not kept any more."""
        return self.tell()

    def row(self, where: Where) -> bytes:
        """The row of a card as it is kept."""
        if isinstance(where, bytes):
            return where
        return self.rows.held(where) if self.rows is not None else b""


_NONE = Plan({}, {}, lambda: None)


class Shelf:
    """The plans that are kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._newest: Plan | None = None
        self._loaded: tuple[Oid, Cards] | None = None

    # --- taking down -----------------------------------------------------------------------------

    def load(self, tree: Oid, read: Read) -> Cards | None:
        """The cards of a tree; None where they are not kept. `read` is asked if a row is spoiled."""
        if self._loaded is not None and self._loaded[0] == tree:
            return self._loaded[1]  # once: they are megabytes
        with contextlib.suppress(OSError, ValueError, TypeError):
            said = self._said(tree, _OUTLINE)
            if said is not None:
                name, outline = said
                cards = cards_of(outline, Rows(self._folder / name), read)
                cards.digests.update(self._digests(tree))
                self._loaded = tree, cards
                return cards
        return None

    def amend(
        self, tree: Oid, changed: Callable[[Oid], Mapping[str, Oid] | None], read: Read
    ) -> Cards | None:
        """The cards of a tree that differs in a few from the plan that was kept last; it is kept too.

        None where it takes more than that: where a card is of another task, say. The digests are not
        kept, as more may be asked for.

        Args:
            changed: gives the files in which it differs from another tree, if they are few, and there
                in both.
            read: gives the content of a file.
        """
        base = Oid(next(reversed(self._kept(_OUTLINE)), ""))
        files = None
        with contextlib.suppress(GitError):  # what was kept may be damaged where nobody looks now
            files = changed(base) if base else None
        made = self._amended(base, files, read) if files is not None else None
        if made is None:
            return None
        name, outline, cards = made
        for path in (name, *(f"{name.partition('.')[0]}.{part}" for part in _PARTS)):
            with contextlib.suppress(OSError):
                os.utime(self._folder / path)  # it is leant on, and stays
        self._keep(tree, _OUTLINE, (name, renewed(outline, cards)))
        keep_newest(self._folder, _MAX_PLANS * (1 + len(_PARTS)))
        return cards

    def _amended(
        self, base: Oid, files: Mapping[str, Oid], read: Read
    ) -> tuple[str, Row, Cards] | None:
        """A plan that is kept, with a few files changed: its rows' file, outline and cards."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            if (said := self._said(base, _OUTLINE)) is None:
                return None
            name, outline = said
            if amendments(outline) + len(files) > FEW:
                return None
            made = amended(outline, Rows(self._folder / name), files, read)
            if made is None:
                return None
            outline, cards, changes = made
            told = self._digests(base)
            cards.digests.update({node: told[node] for node in told.keys() - changes.keys()})
            return name, outline, cards
        return None

    def _digests(self, tree: Oid) -> dict[str, str]:
        """The spec digests of a tree's tasks, those that somebody has asked for."""
        said = self._said(tree, _DIGESTS)
        return said if isinstance(said, dict) else {}

    def newest(self) -> Plan:
        """The plan that was kept last."""
        if self._newest is None:
            self._newest = self._find_newest()
        return self._newest

    def _find_newest(self) -> Plan:
        for tree in map(Oid, reversed(self._kept(_INDEX))):
            with contextlib.suppress(OSError, ValueError, TypeError):
                said = self._said(tree, _INDEX)
                if said is not None:
                    name, files, odd = said
                    tell = partial(self._entries, tree, name, files)
                    return Plan(files, odd, tell, Rows(self._folder / name), tree)
        return _NONE

    def _entries(self, tree: Oid, name: str, files: Mapping[str, Oid]) -> dict[str, _Entry] | None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            said = self._said(tree, _ENTRIES)
            if said is not None and said[0] == name:  # else another writer's, of other rows
                return {path: _Entry(files[path], *entry) for path, entry in said[1].items()}
        return None

    def read(
        self,
        listing: Listing,
        tree: Oid | None = None,
        meanwhile: Callable[[Cards], object] | None = None,
    ) -> tuple[Cards, Plan | None]:
        """The cards of some files, and the plan, where it is to be kept.

        What the newest plan had is not read again. A large one that nobody has read yet is read, and
        kept, in a process that ends with it: thousands of cards take more memory to read than all that
        is done with them.

        Args:
            tree: that holds the files, where one does.
            meanwhile: what can be done, and kept, of a large plan before it is put in order.
        """
        near = self._near(listing) if tree is None else None
        if near is not None:
            return near, None
        if len(listing.files) >= _LARGE and self.newest().entries is None:
            self._newest = None  # it is another one then
            name = tree or _name_of(listing)
            apart(lambda: self._read_and_keep(name, listing, meanwhile))
            if (cards := self.load(name, listing.read)) is not None:
                return cards, None
        return self._joined(listing)

    def _read_and_keep(
        self, tree: Oid, listing: Listing, meanwhile: Callable[[Cards], object] | None
    ) -> None:
        plan = self._read_all(listing)
        name, at = _name_for(tree), _placed(plan)
        with beside(lambda: self._put_up(tree, name, plan, at)) as is_up:
            outline = _outline_of(listing, plan)
            if not is_up():  # there may be no more processes
                self._put_up(tree, name, plan, at)
        plan = self._plan_in(name, tree, plan, at)  # whose rows take no memory
        self._keep_outline(tree, name, self._opened(listing, plan, outline, meanwhile), at)

    def _near(self, listing: Listing) -> Cards | None:
        """The cards of some files that are a plan which is kept with a few changes."""
        known, files = self.newest(), listing.files
        if known.tree is None or listing.odd != known.odd or files.keys() != known.files.keys():
            return None
        changed = {path: oid for path, oid in files.items() if known.files[path] != oid}
        if not changed:
            return self.load(known.tree, listing.read)
        made = self._amended(known.tree, changed, listing.read) if len(changed) <= FEW else None
        return made[2] if made is not None else None

    def _joined(self, listing: Listing) -> tuple[Cards, Plan]:
        files, odd, read, _ = listing
        plan = self.newest()
        same = plan.tree is not None and files == plan.files and odd == plan.odd
        if same and plan.tree is not None and plan.entries is not None:  # else it could not be kept
            if (cards := self.load(plan.tree, read)) is not None:
                return cards, plan
        else:
            plan = self._read_all(listing)
        return self._opened(listing, plan, _outline_of(listing, plan)), plan

    def _opened(
        self,
        listing: Listing,
        plan: Plan,
        outline: Cards,
        meanwhile: Callable[[Cards], object] | None = None,
    ) -> Cards:
        """The cards of a plan, of which `outline` says all that is not in their rows, put in order."""
        entries = plan.entries or {}
        specs: list[Task | MergePoint] = [*outline.tasks.values(), *outline.merge_points.values()]
        began = {str(s.id): entries[s.path].slim[2] for s in specs if s.id in outline.tracking}
        cards = opening(
            outline, outline.folders, began, lambda path: plan.row(entries[path].row), listing.read
        )
        cards.__dict__["by_branch"] = outline.by_branch
        with beside(lambda: meanwhile(cards)) if meanwhile else contextlib.nullcontext():
            put_in_order(outline)
        cards.memo.update(outline.memo)
        cards.digests.update(self._still(listing.files, cards))
        return cards

    def _read_all(self, listing: Listing) -> Plan:
        """What the cards of some files are read as, each that the newest plan does not have."""
        files, odd, read, ahead = listing
        newest = self.newest()
        known = newest.entries or {}
        entries = {
            path: entry
            for path, oid in files.items()
            if (entry := known.get(path)) is not None and entry.oid == oid
        }

        def some(paths: Sequence[str]) -> list[tuple[Row, bytes]]:
            ahead(paths)
            return [taken_down(path, read(path)) for path in paths]

        new = [path for path in files if path not in entries and is_card(path)]
        for path, (slim, row) in zip(new, spread(some, new), strict=True):
            entries[path] = _Entry(files[path], slim, row)
        return Plan(files, odd, lambda: entries, newest.rows)

    def _still(self, files: Mapping[str, Oid], cards: Cards) -> dict[str, str]:
        """The digests of what has not changed: neither the card nor its workstream."""
        known, found = self.newest(), {}
        digests = self._digests(known.tree) if known.tree is not None else {}
        names = Counter(path.rpartition("/")[2] for path in known.files) if digests else {}
        for node, digest in digests.items():
            task, name = TaskId(node), f"{node}.yaml"
            if task in cards.tasks and names[name] == 1:  # else it may be that of another card
                path = cards.path_of(task)
                paths = (path, f"{path.rpartition('/')[0]}/{WORKSTREAM_FILE}")
                if all(known.files.get(p) == files.get(p) for p in paths):
                    found[node] = digest
        return found

    def _said(self, tree: Oid, part: str) -> Any:
        return kept_at(self._folder / f"{tree}.{part}", _key(tree))

    def _kept(self, part: str) -> list[str]:
        """The trees of which a part is kept, the oldest first."""
        with contextlib.suppress(OSError):
            found = self._folder.glob(f"*.{part}")
            return [p.stem for p in sorted(found, key=lambda path: path.stat().st_mtime_ns)]
        return []

    # --- putting up ------------------------------------------------------------------------------

    def keep(self, tree: Oid, cards: Cards, plan: Plan) -> None:
        """Keeps the plan of a tree; does nothing where that cannot be done."""
        self._newest = plan
        with contextlib.suppress(OSError, ValueError):
            entries = plan.entries or {}
            if plan.tree == tree and plan.rows is not None:
                name = plan.rows.name
                at = {p: e.row for p, e in entries.items() if isinstance(e.row, tuple)}
            else:
                name, at = _name_for(tree), _placed(plan)
                self._put_up(tree, name, plan, at)
                self._newest = self._plan_in(name, tree, plan, at)
            self._keep_outline(tree, name, cards, at)

    def _keep_outline(
        self, tree: Oid, name: str, cards: Cards, at: Mapping[str, tuple[int, int]]
    ) -> None:
        """Keeps what is found out of a plan; its rows lie `at` these places in the file `name`."""
        self._keep(tree, _OUTLINE, (name, outline_of(cards, at)))
        self.keep_digests(tree, cards)
        keep_newest(self._folder, _MAX_PLANS * (1 + len(_PARTS)))

    def keep_digests(self, tree: Oid, cards: Cards) -> None:
        """Keeps the spec digests that were asked for."""
        if digests := {str(node): digest for node, digest in cards.digests.items()}:
            self._keep(tree, _DIGESTS, digests)

    def _put_up(self, tree: Oid, name: str, plan: Plan, at: Mapping[str, tuple[int, int]]) -> None:
        """Keeps what cards were read as, and their rows `at` these places in the file `name`.

        Raises:
            OSError, ValueError: it cannot be kept.
        """
        entries = plan.entries or {}
        self._folder.mkdir(parents=True, exist_ok=True)
        with draft(self._folder / name) as file:
            for path, entry in entries.items():
                # what is cut off is no row, and those after it lie where they are said to
                file.write(plan.row(entry.row).ljust(at[path][1]))
        slim = {path: (entry.slim, at[path]) for path, entry in entries.items()}
        self._keep(tree, _ENTRIES, (name, slim))
        self._keep(tree, _INDEX, (name, dict(plan.files), dict(plan.odd)))

    def _plan_in(self, name: str, tree: Oid, plan: Plan, at: Mapping[str, tuple[int, int]]) -> Plan:
        """A plan as it is kept, its rows in the file `name`."""
        placed = {p: _Entry(e.oid, e.slim, at[p]) for p, e in (plan.entries or {}).items()}
        return Plan(plan.files, plan.odd, lambda: placed, Rows(self._folder / name), tree)

    def _keep(self, tree: Oid, part: str, said: object) -> None:
        keep_at(self._folder / f"{tree}.{part}", _key(tree), said)


def _outline_of(listing: Listing, plan: Plan) -> Cards:
    """The cards of a plan but for what is in their rows alone."""
    entries = plan.entries or {}
    files, odd, read, _ = listing
    return joined_cards(files, odd, read, lambda p: outlined(entries[p].slim, p))


def _name_for(tree: Oid) -> str:
    """The name of a file of rows: another writer may have another order of them."""
    return f"{tree}.{os.urandom(8).hex()}"


def _placed(plan: Plan) -> dict[str, tuple[int, int]]:
    """Where the rows of a plan lie in one file, one after the other: start and length by path."""
    at: dict[str, tuple[int, int]] = {}
    start = 0
    for path, entry in (plan.entries or {}).items():
        where = entry.row
        length = len(where) if isinstance(where, bytes) else where[1]
        at[path] = start, length
        start += length
    return at


def _key(tree: Oid) -> bytes:
    return key_of(own_version(), tree.encode())


def _name_of(listing: Listing) -> Oid:
    """What a plan is kept under that is in no tree."""
    said = [f"{path}\0{oid}" for path, oid in sorted(listing.files.items())]
    said += ["", *(f"{path}\0{what}" for path, what in sorted(listing.odd.items()))]
    return Oid(key_of("\0".join(said).encode(errors="surrogateescape")).hex())
