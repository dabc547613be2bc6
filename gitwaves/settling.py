"""Merges in memory whose cards are settled by rule, never as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from gitwaves.cards import with_tracking
from gitwaves.errors import Conflict
from gitwaves.git import Entry, Repo
from gitwaves.halves import split
from gitwaves.lessons import merged_around, section_of
from gitwaves.model import (
    ROOT,
    Branch,
    Oid,
    TaskId,
    Tracking,
    Verdict,
    natural,
)
from gitwaves.ranges import Row
from gitwaves.record import Record
from gitwaves.state import Facts
from gitwaves.store import Snapshot, Store
from gitwaves.writing import done_commit


class Side(Record):
    """One commit that a merge brings in, and what it is called in messages."""

    commit: Oid
    name: str


def settled_merge(
    store: Store,
    snapshot: Snapshot,
    ours: Oid,
    theirs: Side,
    *,
    own: Branch | None,
    message: str,
    row: Row | None = None,
) -> Oid:
    """Merges two commits in memory; cards are settled by rule, never as text.

    The spec half of every card is trunk's, its tracking the reading of section 5 where that is in
    the merged history or belongs to `own`, the branch that is merged into (None: trunk).

    Args:
        row: the merges that `ours` is the last one of, where that was made so.

    Raises:
        Conflict: the code does not merge; names the files. Nothing was changed.
    """
    repo = store.repo
    merged = repo.merge_trees(ours, theirs.commit, row.base(theirs.commit) if row else None)
    compiled = _around_learnings(store, snapshot, ours, theirs.commit, merged.conflicts)
    conflicts = [p for p in merged.conflicts if not p.startswith(ROOT + "/") and p not in compiled]
    if conflicts:
        shown = ", ".join(conflicts[:8]) + (
            f" and {len(conflicts) - 8} more" if len(conflicts) > 8 else ""
        )
        message = f"{theirs.name} does not merge: {shown}"
        raise MergeConflict(message, theirs, tuple(conflicts), compiled)
    cards_tree = settled_cards(store, snapshot, [ours, theirs.commit], own, row)
    tree = repo.with_files(merged.tree, dict(compiled)) if compiled else merged.tree
    entries = repo.tree(tree)
    entries.pop(ROOT, None)
    if cards_tree is not None:
        entries[ROOT] = Entry("40000", cards_tree)
    return repo.commit_tree(repo.write_tree(entries), [ours, theirs.commit], message)


class MergeConflict(Conflict):
    """A merge in memory that a person has to finish; `compiled` is what they need not look at."""

    def __init__(
        self, message: str, side: Side, paths: tuple[str, ...], compiled: Mapping[str, bytes]
    ) -> None:
        super().__init__(message)
        self.side = side
        self.paths = paths
        self.compiled = compiled


def _around_learnings(
    store: Store, snapshot: Snapshot, ours: Oid, theirs: Oid, conflicts: Iterable[str]
) -> dict[str, bytes]:
    """What of the conflicts is one of compiled sections alone, merged around them; trunk's stands."""
    repo = store.repo
    found: dict[str, bytes] = {}
    paths = sorted({*conflicts}.intersection(snapshot.cards.config.learnings))
    if not paths:
        return found
    bases = repo.merge_bases(ours, theirs)

    def read(commit: Oid, path: str) -> str | None:
        entry = repo.at(commit, path)
        data = repo.blob(entry.oid) if entry and entry.mode.startswith("100") else None
        return None if data is None else data.decode(errors="surrogateescape")

    for path in paths:
        our_text, their_text = read(ours, path), read(theirs, path)
        if our_text is None or their_text is None:
            continue  # taken away by one of them
        trunk = read(snapshot.trunk_tip, path) or ""
        span = section_of(trunk)
        section = trunk[span[0] : span[1]] if span else ""
        base = (read(bases[0], path) if bases else None) or ""
        merged = merged_around(base, our_text, their_text, section, partial(_merged, repo))
        if merged is not None:
            found[path] = merged.encode(errors="surrogateescape")
    return found


def _merged(repo: Repo, base: str, ours: str, theirs: str) -> str | None:
    """Three texts merged by Git, in its object database; None where they conflict."""

    def commit(text: str, *parents: Oid) -> Oid:
        data = text.encode(errors="surrogateescape")
        return repo.commit_tree(repo.with_files(repo.empty_tree(), {"text": data}), parents, "x\n")

    common = commit(base)
    merged = repo.merge_trees(commit(ours, common), commit(theirs, common))
    data = None if merged.conflicts else repo.read(merged.tree, "text")
    return None if data is None else data.decode(errors="surrogateescape")


def settled_cards(
    store: Store,
    snapshot: Snapshot,
    parents: list[Oid],
    own: Branch | None,
    row: Row | None = None,
) -> Oid | None:
    """The `.workstreams` tree of a merge: trunk's, with the tracking that the merge brings."""
    repo = store.repo
    top = repo.tree(snapshot.trunk_tip).get(ROOT)
    if top is None:
        return None
    cards = snapshot.cards
    known = [
        task for node in Facts.of(snapshot.facts).untold if (task := TaskId(node)) in cards.tasks
    ]
    unlanded = [t for t in known if not snapshot.facts[t].landed]
    evidence = {
        t: e.commit for t in unlanded if (e := snapshot.facts[t].tracking.evidence) is not None
    }
    missing: set[Oid] = set()
    if evidence and row is not None:
        missing = row.missing(evidence.values(), parents[1])
    elif evidence:
        missing = repo.missing_from(evidence.values(), parents)
    # what a landed task taught since, which only its branch says
    told = [t for t in known if t not in unlanded and says_more(snapshot, t)]
    changes: dict[str, bytes | Oid | None] = {}
    for task in (*unlanded, *told):
        fact = snapshot.facts[task]
        mine = own is not None and cards.branch_of(task) == own
        proven = fact.verdict is Verdict.HOLDS and evidence.get(task) not in {*missing, None}
        if not (mine or proven or task in told):
            continue
        path = cards.tasks[task].path
        data = repo.read(snapshot.trunk_tip, path)
        if data is None:
            continue
        entries = (repo.at(parent, path) for parent in parents)
        says = (e.oid for e in entries if e and _says(store, e, path, data, fact.tracking))
        written = next(says, None)
        if written or mine or proven:
            changes[path.removeprefix(ROOT + "/")] = written or with_tracking(data, fact.tracking)
    return repo.with_files(top.oid, changes) if changes else top.oid


def says_more(snapshot: Snapshot, task: TaskId) -> bool:
    """Whether a landed task's tracking, as it is read, is more than what trunk's card says."""
    fact, card = snapshot.facts[task], snapshot.cards.tracking.get(task)
    return card is not None and not fact.misplaced and card != fact.tracking


def only_state(repo: Repo, tip: Oid, trunk: Oid) -> bool:
    """Whether trunk holds a branch, but for commits that only tell of state.

    A merge is somebody's work where it says something that none of its parents says.
    """
    for oid in repo.rev_list(f"{trunk}..{tip}"):
        code = repo.code_tree(oid)
        if all(repo.code_tree(parent) != code for parent in repo.require_commit(oid).parents):
            return False
    return True


def _says(store: Store, entry: Entry, path: str, card: bytes, tracking: Tracking) -> bool:
    """Whether a blob is the card with just that tracking: then it need not be written again."""
    data = store.repo.blob(entry.oid)
    return (
        data is not None
        and split(data)[0] == split(card)[0]
        and store.tracking_of(data, path) == tracking
    )


def joined(store: Store, snapshot: Snapshot) -> Oid:
    """What merges start from: trunk's tip, joined with what a forge squashed or rebased onto it.

    After a squash the done commits are no ancestors of trunk, so the next merge of their branch
    would conflict with their own content. The join has trunk's tree and the squash's author and
    dates: every machine makes the same object.
    """
    repo = store.repo
    trunk = snapshot.trunk_tip
    landed = {
        task: fact
        for task, fact in snapshot.facts.items()
        if fact.landed
        and fact.verdict is Verdict.HOLDS
        and fact.tracking.evidence
        and task in snapshot.cards.tasks
    }
    commits = {f.tracking.evidence.commit for f in landed.values() if f.tracking.evidence}
    squashed = repo.missing_from(commits, [trunk]) if commits else set()
    if not squashed:
        return trunk
    parents: list[Oid] = []
    newest: Oid | None = None
    for task in sorted(landed, key=natural):
        evidence = landed[task].tracking.evidence
        if evidence is None or evidence.commit not in squashed:
            continue
        taken = done_commit(store, snapshot, TaskId(task))
        if taken not in parents:
            parents.append(taken)
        path = snapshot.cards.tasks[TaskId(task)].path
        touched = repo.rev_list("--first-parent", "-1", trunk, paths=[path])
        newest = touched[0] if touched and newest is None else newest
    parents = [p for p in parents if not any(p != q and repo.is_ancestor(p, q) for q in parents)]
    squash = repo.require_commit(newest or trunk)
    return repo.commit_tree(
        repo.require_commit(trunk).tree,
        [trunk, *parents],
        "gitwaves: join what was squashed onto trunk\n",
        author=squash.author,
        committer=squash.committer,
    )
