"""References of design documents, resolved against all the ids that a document has."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from gitwaves import design_text as words
from gitwaves import design_values as values
from gitwaves.design_drafts import Draft, Drafts, Rank
from gitwaves.design_outline import Said
from gitwaves.model import closest, is_id, natural
from gitwaves.record import Record, field


def key_of(ident: str) -> str:
    """What the spellings of one id have in common: `WS-A1`, `A1` and `a1` are one task."""
    return ident.casefold().removeprefix("ws-")


class Known(Record, frozen=False):
    """All ids of a document, each under its key, so that references can be told from prose."""

    tasks: dict[str, str] = field(default_factory=dict)
    points: dict[str, str] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)  # points that require nothing
    groups: dict[str, list[Draft]] = field(default_factory=lambda: defaultdict(list))
    members: dict[str, list[str]] = field(default_factory=dict)  # of each batch

    @classmethod
    def of(cls, found: Drafts) -> Known:
        known = cls()
        for draft in sorted(found.tasks, key=lambda d: -d.rank):
            known.tasks.setdefault(key_of(draft.id), draft.id)
            known.groups[key_of(draft.id)].append(draft)
        for draft in found.points:
            known.points.setdefault(key_of(draft.id), draft.id)
        for key in known.tasks.keys() & known.points.keys():
            line = next(d.line for d in found.points if key_of(d.id) == key)
            first = known.groups[key][0].line
            found.error(line, f"{known.tasks[key]} is a task (line {first}) and a merge point")
            del known.points[key]
        _mention(found, known)
        for key, group in known.groups.items():
            batch = values.merged(found, known.tasks[key], group, "batch", values.batch)
            if batch is not None:
                known.members.setdefault(batch, []).append(known.tasks[key])
        return known

    def resolve(self, piece: str) -> tuple[str, ...] | None:
        """The ids that a reference means; None where it means nothing in this document."""
        ids = self.tasks | self.points
        if ident := ids.get(key_of(piece)):
            return (ident,)
        if batch := words.batch(piece):
            return tuple(self.members.get(batch[0], ())) or None
        if ends := words.id_range(piece):
            prefix, first, last = ends
            inside = re.compile(re.escape(key_of(prefix)) + r"(\d+)")
            found = {ids[k]: int(m[1]) for k in ids if (m := inside.fullmatch(k))}
            return (
                tuple(
                    sorted(
                        (i for i, n in found.items() if int(first) <= n <= int(last)), key=natural
                    )
                )
                or None
            )
        head, *rest = piece.split(maxsplit=1)
        if (
            rest
            and key_of(head) in ids
            and not any(key_of(w) in ids for w in re.findall(r"[\w.-]+", rest[0]))
        ):
            return (ids[key_of(head)],)  # "A1 data models"
        return None

    def gap(self, piece: str) -> str | None:
        """What is to be said of a range of ids whose ends are not both here."""
        ends = words.id_range(piece)
        if ends is None or key_of(piece) in self.tasks | self.points:
            return None
        missing = [f"{ends[0]}{n}" for n in ends[1:] if self.resolve(f"{ends[0]}{n}") is None]
        return f"{piece}, but {missing[0]} is not in this document" if missing else None


def _mention(found: Drafts, known: Known) -> None:
    """Adds what the lists of batches say to the tasks that they name."""
    for said, batch in found.mentions:
        for piece in words.references(said.text):
            ids = known.resolve(piece)
            if ids is None and key_of(piece) not in known.points:
                found.warn(said.line, f"batch {batch} names {piece}, which is no task here")
            for ident in ids or ():
                if (key := key_of(ident)) in known.tasks:
                    fields = {"batch": [Said(batch, said.line)]}
                    known.groups[key].append(Draft(ident, said.line, Rank.MENTION, said=fields))


def references(
    found: Drafts,
    known: Known,
    owner: str,
    says: str,
    said: Iterable[Said],
    *,
    batches: bool = False,
) -> tuple[str, ...]:
    """The ids that values name. With `batches`, a whole batch stays a name.

    An id that the document does not have is kept (it may have a card); prose is left out. Both are
    said.
    """
    ids: dict[str, None] = {}
    for value in said:
        for piece in words.references(value.text):
            batch = words.batch(piece)
            resolved = known.resolve(piece)
            trouble = None
            if batches and batch and batch[0] in known.members:
                ids[batch[0]] = None
            elif resolved is not None:
                several = len(resolved) > 1 or batch is not None
                ids.update((i, None) for i in resolved if not (several and i == owner))
                trouble = known.gap(piece)
            elif key_of(piece) in known.dropped:
                trouble = f"{piece}, which is left out here"
            elif is_id(piece) and any(c.isdigit() for c in piece):
                near = closest(piece, [*known.tasks.values(), *known.points.values()])
                hint = f"; did you mean {near}?" if near else ""
                trouble = f"{piece}, which is not in this document{hint}"
                ids[piece] = None
            else:
                what = "batch with tasks" if batch else "id"
                trouble = f"{piece!r}, which is no {what} here: left out"
            if trouble:
                found.warn(value.line, f"{owner} {says} {trouble}")
    return tuple(ids)
