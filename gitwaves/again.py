"""What a reverted merge point had brought, so that it can be landed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gitwaves.model import ROOT, MergePoint, Oid, Status, TaskId, Tracking, Verdict, natural
from gitwaves.settling import Side
from gitwaves.store import Snapshot, Store


def brings(snapshot: Snapshot, task: str) -> bool:
    """Whether a task is done and not on trunk yet."""
    fact = snapshot.facts[task]
    return not fact.landed and fact.verdict is Verdict.HOLDS


def brought_before(
    store: Store, snapshot: Snapshot, point: MergePoint
) -> tuple[list[Side], dict[TaskId, Tracking]]:
    """What the last landing of `point` brought and nobody did anew since, and its tracking.

    Each side is a child of what was there before it landed first: against trunk, which holds the
    landing and its revert, it merges as the whole change, not as an empty one.
    """
    repo = store.repo
    landing = snapshot.facts[point.id].commit
    assert landing is not None, "only a landed merge point is landed again"
    commit = repo.require_commit(landing)
    before = commit.parents[0]
    restored: dict[TaskId, Tracking] = {}
    anew = False
    for task in sorted(snapshot.cards.tasks, key=natural):
        said = store.tracking_at(snapshot.cards, landing, task)
        was = store.tracking_at(snapshot.cards, before, task)
        if said and said != was and said.status is Status.DONE:
            if brings(snapshot, task):
                anew = True
            else:
                restored[task] = said
    if not restored:
        return [], restored
    apart = (
        [_alone(store, snapshot, point, t, said) for t, said in restored.items()] if anew else []
    )
    sides = [side for side in apart if side is not None]
    if not anew or len(sides) < len(apart):
        content = repo.commit_tree(
            commit.tree, [before], f"gitwaves: what {point.id} landed\n",
            author=commit.author, committer=commit.committer,
        )  # fmt: skip
        sides = [Side(content, str(point.id))]
    return sides, restored


def _alone(
    store: Store, snapshot: Snapshot, point: MergePoint, task: TaskId, said: Tracking
) -> Side | None:
    """What one task had brought; None where that cannot be told apart from the rest."""
    repo = store.repo
    evidence = said.evidence
    if evidence is None or repo.commit(evidence.commit) is None:
        return None
    verified = repo.require_commit(evidence.commit)
    line = repo.rev_list("--first-parent", "--reverse", snapshot.trunk_tip, paths=[point.path])
    first = next((oid for oid in line if repo.is_ancestor(evidence.commit, oid)), None)
    if first is None:  # a squash brought it: it is no ancestor, and merges as it is
        return Side(evidence.commit, f"{task} as it was")
    base = repo.require_commit(first).parents[0]
    merged = repo.merge_trees(base, evidence.commit)
    if any(not path.startswith(ROOT + "/") for path in merged.conflicts):
        return None  # a person merged it
    entries = repo.tree(merged.tree)
    cards = repo.tree(base).get(ROOT)
    entries.pop(ROOT, None)
    if cards is not None:
        entries[ROOT] = cards
    content = repo.commit_tree(
        repo.write_tree(entries), [base], f"gitwaves: what {task} had brought\n",
        author=verified.author, committer=verified.committer,
    )  # fmt: skip
    return Side(content, f"{task} as it was")


def inputs_of(
    store: Store,
    snapshot: Snapshot,
    point: MergePoint,
    sides: Sequence[Side],
    restored: Mapping[TaskId, Tracking],
) -> tuple[Oid, ...]:
    """The done commits that a landing records: of what was done anew the new one."""
    landing = snapshot.facts[point.id].commit
    old = store.tracking_at(snapshot.cards, landing, point.id) if landing else None
    before = old.evidence.inputs if old and old.evidence else ()
    taken = {side.name: side.commit for side in sides}
    found: list[Oid] = []
    for task in sorted(point.requires, key=natural):
        said = restored.get(task) or snapshot.facts[task].tracking
        if str(task) in taken:
            found.append(taken[str(task)])
        elif said.evidence is not None:
            verified = said.evidence.commit
            parents = {
                i: store.repo.require_commit(i).parents for i in before if store.repo.commit(i)
            }
            found.append(next((i for i in before if verified in parents.get(i, ())), verified))
    return tuple(found)
