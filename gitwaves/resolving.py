"""Conflicts of a merge point: left in a checkout for a person, and taken up again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from gitwaves.errors import Conflict, NotReady
from gitwaves.files import write_file
from gitwaves.git import Entry, Repo
from gitwaves.model import (
    ROOT,
    Oid,
)
from gitwaves.receipts import read_json
from gitwaves.record import Record, field, named_values_of
from gitwaves.settling import MergeConflict, Side, settled_cards
from gitwaves.store import Snapshot, Store
from gitwaves.unfinished import discard, own
from gitwaves.worktrees import alone, folder_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Resolution(Record):
    """A conflict that a person is resolving: which merge, in which checkout."""

    node: str
    path: str
    ours: Oid
    theirs: Oid
    name: str
    left: list[list[str]] = field(default_factory=list)  # commit, name: still to be merged
    again: bool = False


def note_of(repo: Repo, node: str) -> Path:
    return repo.state_dir / "merging" / f"{node}.json"


def left_for_a_person(
    store: Store,
    snapshot: Snapshot,
    node: str,
    ours: Oid,
    conflict: MergeConflict,
    left: list[list[str]],
    taken: Sequence[Side],
    again: bool,
    before: Path | None,
) -> Conflict:
    """Leaves a checkout in which the conflict stands, for `merge --continue`.

    `before`: the one of the conflict before it, which stays until what was resolved there stands in
    the new one.
    """
    repo = store.repo
    path = folder_for(repo, snapshot.cards, f"resolve-{node}")
    if path == before:
        path = path.with_name(f"{path.name}+2")  # no id holds a plus
    if path.exists():
        raise Conflict(
            f"{conflict.message}; {path} is there from an earlier try",
            f"resolve it there and run `gitwaves merge {node} --continue`, "
            f"or start anew after `git worktree remove --force {path}`",
        )
    with alone(repo, path.name), own(repo, path):  # until a person is told of it, it is ours
        repo.add_worktree(path, ours)
        repo.try_git("merge", "--no-commit", "--no-ff", conflict.side.commit, cwd=path)
        _settle_cards_in(
            store, path, settled_cards(store, snapshot, [ours, conflict.side.commit], None)
        )
        for name, data in conflict.compiled.items():
            (path / name).write_bytes(data)
            repo.git("add", "--", name, cwd=path)
        resolution = Resolution(
            node, str(path), ours, conflict.side.commit, conflict.side.name, left, again
        )
        target = note_of(repo, node)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, json.dumps(named_values_of(resolution)).encode())
    if before is not None:
        _clear(repo, before)
    behind = []
    theirs = conflict.side
    for file in conflict.paths[:8]:
        behind.append(f"  {file}")
        for tip, other, names in ((ours, theirs.commit, taken), (theirs.commit, ours, [theirs])):
            args = ("log", "-1", "--no-merges", "--format=%H %h %s", tip, f"^{other}", "--", file)
            oid, _, said = repo.git(*args).partition(" ")
            whose = (s.name for s in names if oid and repo.is_ancestor(Oid(oid), s.commit))
            behind.append(f"    {next(whose, 'before')}: {said or 'not changed there'}")
    return Conflict(
        f"{conflict.message}\n" + "\n".join(behind),
        f"resolve the files in {path}, `git add` them, then run `gitwaves merge {node} --continue`",
    )


def _settle_cards_in(store: Store, path: Path, cards: Oid | None) -> None:
    """Puts settled cards into a checkout's index and folder: a person sees conflicts of code only."""
    repo = store.repo
    repo.git("rm", "-r", "-q", "-f", "--ignore-unmatch", "--", ROOT, cwd=path)
    if cards is None:
        return
    listed = repo.git("ls-tree", "-r", "-z", cards)
    index = "".join(
        entry.replace("\t", f"\t{ROOT}/", 1) + "\0" for entry in listed.split("\0") if entry
    )
    repo.git(
        "update-index", "-z", "--index-info", cwd=path, stdin=index.encode(errors="surrogateescape")
    )
    names = repo.git("ls-files", "-z", "--", ROOT, cwd=path)
    repo.git(
        "checkout-index",
        "-f",
        "-z",
        "--stdin",
        cwd=path,
        stdin=names.encode(errors="surrogateescape"),
    )


def resolved_merge(store: Store, name: str) -> tuple[Oid, Resolution]:
    """The merge that a person finished in its checkout, as a commit."""
    repo = store.repo
    resolution = _waiting(repo, name)
    if resolution is None:
        raise NotReady(f"no merge of {name} is waiting to go on", f"run `gitwaves merge {name}`")
    path = Path(resolution.path)
    if not path.is_dir():
        forget(store, name, resumed=True)
        raise NotReady(f"{path} is gone", f"run `gitwaves merge {name}` anew")
    unmerged = [p for p in repo.unmerged(path) if not p.startswith(ROOT + "/")]
    if unmerged:
        raise Conflict(
            f"still in conflict: {', '.join(unmerged)}", f"resolve and `git add` them in {path}"
        )
    snapshot = store.snapshot()
    cards = settled_cards(store, snapshot, [resolution.ours, resolution.theirs], None)
    if repo.unmerged(path):  # of cards: whatever stands in the index for them is not read
        _settle_cards_in(store, path, cards)
    # the index holds what was resolved, whether the person has committed it or not
    entries = repo.tree(Oid(repo.git("write-tree", cwd=path)))
    if cards is not None:
        entries[ROOT] = Entry("40000", cards)
    message = f"gitwaves: {name} takes {resolution.name}, conflicts resolved by hand\n"
    commit = repo.commit_tree(
        repo.write_tree(entries), [resolution.ours, resolution.theirs], message
    )
    return commit, resolution


def _waiting(repo: Repo, name: str) -> Resolution | None:
    """The merge of `name` that waits for a person, as it was noted; None where there is none.

    Only a checkout that was made for it is looked at: it will be removed with all that is in it.
    """
    raw: Any = read_json(note_of(repo, name))
    try:
        held = Resolution(**raw)
        sides: list[Any] = [[raw["theirs"], raw["name"]], *raw.get("left", [])]
        oids = [raw["ours"], *(oid for oid, _ in sides)]
        texts = [raw["path"], raw["node"], *(text for _, text in sides)]
        sound = all(re.fullmatch("[0-9a-f]{40,64}", oid) for oid in oids)
        sound = sound and all(isinstance(text, str) for text in texts)
        return (
            held
            if sound and Path(raw["path"]).name.removesuffix("+2") == f"resolve-{name}"
            else None
        )
    except (TypeError, ValueError):
        return None


def forget(store: Store, name: str, *, resumed: bool = False) -> str | None:
    """Removes the checkout of a resolved conflict; says so where it holds what did not land."""
    repo = store.repo
    target = note_of(repo, name)
    said: list[str | None] = []
    if (resolution := _waiting(repo, name)) is not None:
        path = Path(resolution.path)
        first = path.with_name(path.name.removesuffix("+2"))
        said = [_clear(repo, each, needed=resumed) for each in dict.fromkeys((first, path))]
    target.unlink(missing_ok=True)
    return "\n".join(filter(None, said)) or None


def _clear(repo: Repo, path: Path, *, needed: bool = True) -> str | None:
    """Removes a checkout that a conflict was resolved in; says so where it holds more than that."""
    if not path.is_dir():
        return None
    left = [] if needed else ["a resolution that was not needed"]
    if (path / ".git").exists():  # else a kill cut its removal short
        changed = repo.paths("diff", "--name-only", "--diff-filter=d", "-z", cwd=path)
        others = repo.paths("ls-files", "--others", "--exclude-standard", "-z", cwd=path)
        left += [p for p in (*changed, *others) if not p.startswith(ROOT + "/")]
    if left:
        return f"{path} is kept: it holds {', '.join(left[:5])}, which did not land"
    discard(repo, path)
    return None


# --- the rest ----------------------------------------------------------------------------------
