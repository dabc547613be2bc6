"""`merge --rest`: done work that no merge point takes, landed a branch at a time."""

from __future__ import annotations

import contextlib

from gitwaves.again import brings
from gitwaves.errors import Conflict, GitwavesError, LostClaim, NotReady, Refused
from gitwaves.graph import graph_of
from gitwaves.merging import Landed, require_allowed, require_finished, verify_merged
from gitwaves.model import (
    Branch,
    Oid,
    Status,
    TaskId,
    Verdict,
    natural,
)
from gitwaves.record import replace
from gitwaves.settling import Side, joined, only_state, says_more, settled_merge
from gitwaves.steps import Confirm
from gitwaves.store import Snapshot, Store, at_work
from gitwaves.writing import done_commit, land, record_on_trunk, refresh


def rest(
    store: Store, *, trust_trunk: bool = False, confirm: Confirm | None = None
) -> tuple[list[Landed], list[NotReady | Conflict]]:
    """Lands done work that no merge point takes, a branch at a time, each with its tasks' steps.

    Returns what landed, and what did not and why: one branch never stops the others.
    """
    landed: list[Landed] = []
    failed: list[NotReady | Conflict] = []
    for branch in sorted(
        {store.snapshot().cards.branch_of(t) for t in store.snapshot().cards.tasks}
    ):
        try:
            result = _rest_of(store, branch, trust_trunk, confirm)
        except (NotReady, Conflict) as error:
            failed.append(error)
            continue
        except GitwavesError as error:
            failed.append(NotReady(error.message, error.hint))
            continue
        if result is not None:
            landed.append(result)
        with contextlib.suppress(LostClaim, NotReady, Refused, Conflict):  # for the next time
            landed += _words_of(store, branch)
    if landed:
        landed[-1] = replace(landed[-1], note=record_on_trunk(store))
        refresh(store)
    return landed, failed


def left_over(snapshot: Snapshot) -> list[TaskId]:
    """The done tasks that are not on trunk and that no open merge point will take there."""
    taken = _taken(snapshot)
    return [
        task
        for task in sorted(snapshot.cards.tasks, key=natural)
        if task not in taken
        and not snapshot.facts[task].landed
        and snapshot.facts[task].verdict is Verdict.HOLDS
        and not snapshot.facts[task].misplaced
    ]


def untold(snapshot: Snapshot) -> list[TaskId]:
    """The landed tasks that taught something since, which their branches alone say."""
    return [
        task
        for task in sorted(snapshot.cards.tasks, key=natural)
        if snapshot.facts[task].landed and says_more(snapshot, task)
    ]


def _words_of(store: Store, branch: Branch) -> list[Landed]:
    """Lands what a branch says of its landed tasks, where it holds nothing else any more."""
    repo = store.repo
    snapshot = store.snapshot()
    tip = snapshot.tips.get(branch)
    told = [t for t in untold(snapshot) if snapshot.cards.branch_of(t) == branch]
    base = joined(store, snapshot)
    if not told or tip is None or at_work(snapshot, branch) or not only_state(repo, tip, base):
        return []
    message = f"gitwaves: what {', '.join(told)} taught\n"
    merged = settled_merge(store, snapshot, base, Side(tip, branch), own=None, message=message)
    tree = repo.require_commit(merged).tree
    if tree == repo.require_commit(snapshot.trunk_tip).tree:
        return []
    with repo.lock():
        commit = repo.commit_tree(tree, [snapshot.trunk_tip, merged], message)
        new = merged if base == snapshot.trunk_tip else commit
        land(store, snapshot.cards, snapshot.trunk, new, snapshot.trunk_tip)
    return [Landed(branch, new, tuple(told))]


def _taken(snapshot: Snapshot) -> set[str]:
    """The tasks that an open merge point will take to trunk, with all that they build on."""
    graph = graph_of(snapshot.cards)
    taken: set[str] = set()
    for point in snapshot.cards.merge_points.values():
        fact = snapshot.facts.get(point.id)
        if fact is None or fact.tracking.status is not Status.DONE:
            known = [task for task in point.requires if task in graph.number]
            taken |= {*known, *graph.closure(known)}
    return taken


def _require_not_ahead(store: Store, snapshot: Snapshot, side: Side) -> None:
    """Raises where `side` would land work that waits for a merge point, or is not done any more.

    What it holds of a task is what the task says now, and what it said when it was brought in.

    Raises:
        NotReady: names the task.
    """
    repo, taken = store.repo, _taken(snapshot)
    for task in sorted(snapshot.cards.tasks, key=natural):
        fact = snapshot.facts[task]
        said = store.tracking_at(snapshot.cards, side.commit, task)
        held = (fact.tracking, said) if said and said.status is Status.DONE else (fact.tracking,)
        commits = {t.evidence.commit for t in held if t.evidence}
        if not any(
            repo.is_ancestor(c, side.commit) and not repo.is_ancestor(c, snapshot.trunk_tip)
            for c in commits
        ):
            continue
        on_trunk = fact.landed and fact.tracking.status is Status.DONE
        if task in taken and not on_trunk:
            raise NotReady(
                f"{side.name} is built on {task}, which waits for a merge point",
                f"`gitwaves show {task}` says for which; land that one first",
            )
        if not on_trunk and not brings(snapshot, task):
            raise NotReady(
                f"{side.name} is built on {task}, which is not done any more",
                f"`gitwaves show {task}` says why; have it done again first",
            )


def _rest_of(
    store: Store, branch: Branch, trust_trunk: bool, confirm: Confirm | None
) -> Landed | None:
    verified: Oid | None = None
    for _ in range(20):
        snapshot = store.snapshot()
        cards = snapshot.cards
        tasks = [t for t in left_over(snapshot) if cards.branch_of(t) == branch]
        if not tasks:
            return None
        commits = {t: done_commit(store, snapshot, t) for t in tasks}
        last = tasks[0]
        for task in tasks:
            if store.repo.is_ancestor(commits[last], commits[task]):
                last = task
        side = Side(commits[last], str(last))
        tasks = [t for t in tasks if store.repo.is_ancestor(commits[t], side.commit)]
        _require_not_ahead(store, snapshot, side)
        require_finished(store, snapshot, [side])
        steps = tuple(dict.fromkeys(s for t in tasks for s in cards.tasks[t].verify))
        require_allowed(store.repo, cards, tasks, trust_trunk)
        message = f"gitwaves: land {', '.join(tasks)}\n"
        base = joined(store, snapshot)
        merged = settled_merge(store, snapshot, base, side, own=None, message=message)
        if base != snapshot.trunk_tip:
            tree = store.repo.require_commit(merged).tree
            merged = store.repo.commit_tree(tree, [snapshot.trunk_tip, merged], message)
        code = store.repo.code_tree(merged)
        if verified != code:
            verify_merged(store, snapshot, branch, f"what {branch} brings", steps, merged, confirm)
            verified = code
        with store.repo.lock():
            if store.trunk()[1] != snapshot.trunk_tip:
                continue
            try:
                land(store, cards, snapshot.trunk, merged, snapshot.trunk_tip)
            except LostClaim:
                continue
        return Landed(branch, merged, tuple(tasks))
    raise NotReady(f"{store.trunk()[0]} keeps moving", "run the same command again")
