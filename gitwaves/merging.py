"""Merge points: verified work of branches lands on trunk together, as one merge commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gitwaves.again import brings, brought_before, inputs_of
from gitwaves.claims import prepare
from gitwaves.errors import LostClaim, NotReady, Refused
from gitwaves.git import Repo
from gitwaves.model import (
    ROOT,
    Branch,
    Cards,
    Evidence,
    MergePoint,
    Oid,
    PointId,
    PointState,
    Progress,
    Run,
    Status,
    Step,
    TaskId,
    Tracking,
    Verdict,
    natural,
)
from gitwaves.ranges import Ahead, Row, breaches
from gitwaves.record import Record
from gitwaves.resolving import Resolution, forget, left_for_a_person, resolved_merge
from gitwaves.rulebook import Rules
from gitwaves.settling import MergeConflict, Side, joined, settled_merge
from gitwaves.signing import signer_for
from gitwaves.steps import Confirm, Outcome, run_steps
from gitwaves.store import BEGUN, Snapshot, Store, startable, unknown
from gitwaves.trust import require_steps
from gitwaves.verifying import log_path
from gitwaves.worktrees import alone, folder_for, scratch
from gitwaves.writing import done_commit, land, now, record_on_trunk, refresh, state_commit


class Landed(Record):
    """What a merge brought to trunk."""

    node: str  # the merge point, or the branch that `--rest` landed
    commit: Oid
    tasks: tuple[TaskId, ...]
    opened: tuple[TaskId, ...] = ()
    note: str | None = None  # what was left undone beside it


class VerificationFailed(NotReady):
    """The merged result does not pass: nothing landed."""

    def __init__(self, what: str, outcome: Outcome, changed: Sequence[str]) -> None:
        if changed:
            said = f"the steps of {what} changed files: {', '.join(changed[:5])}"
        else:
            said = (
                f"step {outcome.failed} of {what} failed on the merged result, exit {outcome.exit}"
            )
        super().__init__(said, f"the whole log is in {outcome.log}")
        self.outcome = outcome


def require_point(snapshot: Snapshot, name: str) -> MergePoint:
    """The merge point called `name`.

    Raises:
        UsageError: there is none; suggests one.
    """
    point = snapshot.cards.merge_points.get(PointId(name))
    if point is None:
        raise unknown(
            "merge point", name, {str(k): v for k, v in snapshot.cards.merge_points.items()}
        )
    return point


def merge(
    store: Store,
    name: str,
    *,
    again: bool = False,
    resume: bool = False,
    trust_trunk: bool = False,
    confirm: Confirm | None = None,
) -> Landed:
    """Lands a merge point: its tasks' done commits, merged in memory, verified, then one commit.

    Raises:
        NotReady: a task it requires is not done, or it is landed already.
        MergeConflict: names the files and tasks; a checkout is left for `merge --continue`.
        VerificationFailed: its steps fail on the merged result.
        Refused: local changes are in the way; nothing was touched.
    """
    require_point(store.snapshot(), name)
    with alone(store.repo, f"merge of {name}"):
        return _merge(store, name, again, resume, trust_trunk, confirm)


def _merge(
    store: Store,
    name: str,
    again: bool,
    resume: bool,
    trust_trunk: bool,
    confirm: Confirm | None,
) -> Landed:
    verified: tuple[Oid, tuple[Run, ...]] | None = None
    now_there = store.snapshot()
    fact = now_there.facts[require_point(now_there, name).id]
    if fact.verdict is Verdict.HOLDS and fact.commit == now_there.trunk_tip:
        _follow_up(
            store, name, resumed=resume
        )  # killed since: what follows a landing is to be done
    resolved = resolved_merge(store, name) if resume else None
    for _ in range(20):
        snapshot = store.snapshot()
        point = require_point(snapshot, name)
        again = again or (resolved is not None and resolved[1].again)
        _require_open(store, snapshot, point, again)
        steps = snapshot.cards.steps_of(point.id)
        require_allowed(store.repo, snapshot.cards, [point.id], trust_trunk)
        sides, restored = _sides(store, snapshot, point, again)
        require_finished(store, snapshot, sides)
        inputs = tuple(s.commit for s in sides) or tuple(
            e.commit for t in point.requires if (e := snapshot.facts[t].tracking.evidence)
        )
        if again:
            inputs = inputs_of(store, snapshot, point, sides, restored)
        merged = _merged(store, snapshot, point.id, sides, restored, resolved, again=again)
        code = store.repo.code_tree(merged)
        signer = signer_for(store.repo, snapshot.cards.config, snapshot.trunk_tip)
        if verified is None or verified[0] != code:
            what = f"merge point {point.id}"
            runs = verify_merged(store, snapshot, point.id, what, steps, merged, confirm)
            verified = (code, runs)
        digest, ran = snapshot.cards.digest(point.id), verified[1]
        signature = signer.sign(point.id, code, digest, ran, inputs) if signer else None
        evidence = Evidence(merged, code, digest, ran, inputs, signature)
        tracking = Tracking(point.id, Status.DONE, finished=now(), evidence=evidence)
        with store.repo.lock():
            if store.trunk()[1] != snapshot.trunk_tip:
                continue  # trunk moved: merge it in, and verify again where the code differs
            try:
                commit = _land_point(store, snapshot, point, merged, tracking)
            except LostClaim:
                continue  # it moved on the remote, and was fetched
        note, shown = _follow_up(store, name, resumed=resume)
        before = startable(snapshot, shown.runnable)
        opened = tuple(t for t in shown.runnable if t not in before)
        return Landed(point.id, commit, point.requires, opened, note)
    raise NotReady(f"{store.trunk()[0]} keeps moving", "run the same command again")


def _follow_up(store: Store, name: str, *, resumed: bool) -> tuple[str | None, Progress]:
    """What a landing is followed by; the state then, and what was left undone."""
    notes = [forget(store, name, resumed=resumed), record_on_trunk(store)]
    return "\n".join(filter(None, notes)) or None, refresh(store)[1]


def _require_open(store: Store, snapshot: Snapshot, point: MergePoint, again: bool) -> None:
    view = store.progress(snapshot).merge_points[point.id]
    if view.state is PointState.DONE:
        raise NotReady(f"{point.id} is landed already", "`gitwaves status` shows what is open")
    if view.state is PointState.REVERTED:
        if not again:
            raise NotReady(
                f"{point.id} was landed by {(view.commit or '')[:10]} and reverted",
                f"`gitwaves merge {point.id} --again` lands it anew",
            )
        return
    if again:
        raise NotReady(f"{point.id} was not reverted", f"run `gitwaves merge {point.id}`")
    if view.state is not PointState.READY:
        waits = ", ".join(b.id for b in view.blocked_on)
        raise NotReady(f"{point.id} waits for {waits}", f"`gitwaves show {point.id}` says why")


def require_allowed(repo: Repo, cards: Cards, nodes: Sequence[str], trust_trunk: bool) -> None:
    """Raises unless the plan lets gitwaves land on trunk, and this clone trusts the nodes' steps.

    Raises:
        Refused: trunk is changed by pull request only.
        Untrusted: a step is new.
    """
    if cards.config.merge != "direct":
        raise Refused(
            f"the plan says `merge: {cards.config.merge}`, which gitwaves cannot do yet",
            "land it through your forge, or set `merge: direct` on trunk",
        )
    require_steps(repo, cards, nodes, setup=True, trust_trunk=trust_trunk)


def _sides(
    store: Store, snapshot: Snapshot, point: MergePoint, again: bool
) -> tuple[list[Side], dict[TaskId, Tracking]]:
    """What a merge point takes: done commits, and what a reverted landing had brought."""
    sides, restored = brought_before(store, snapshot, point) if again else ([], {})
    for task in sorted(point.requires, key=natural):
        if brings(snapshot, task):
            sides.append(Side(done_commit(store, snapshot, task), str(task)))
    return sides, restored


def require_finished(store: Store, snapshot: Snapshot, sides: Sequence[Side]) -> None:
    """Raises where a done commit brings what may not land.

    Raises:
        Refused: its tree shows another task at work, or it changed paths outside its boundary.
    """
    cards, trunk = snapshot.cards, snapshot.trunk_tip
    rules = Rules(store.repo, snapshot.trunk, trunk, cards)
    ahead = Ahead(store.repo, trunk, [side.commit for side in sides])
    names = {side.name for side in sides}  # what is taken as well is not half done
    for side in sides:
        task = TaskId(side.name)
        if task not in cards.tasks:
            continue
        branch = cards.branch_of(task)
        for other in _tasks_in(snapshot, store.repo, side.commit, branch):
            said = store.tracking_at(cards, side.commit, other)
            if not said or said.status not in BEGUN:
                continue
            if other == task:
                raise Refused(
                    f"the done commit of {task} was rewritten: none stands on {side.commit[:10]}",
                    f"on {branch}, `git reset {side.commit[:10]}` and `git restore {ROOT}`, commit "
                    f"what is left, then run `gitwaves verify {task}`",
                )
            if other in names:
                continue
            if cards.branch_of(other) == branch or said != cards.tracking.get(other):
                raise Refused(
                    f"the done commit of {task} holds {other}, which was {said.status} there",
                    f"finish {other}, or take its commits off the branch, then verify {task} again",
                )
        for breach in breaches(rules, branch, side.commit, [trunk], trunk, ahead=ahead):
            raise Refused(
                f"commit {(breach.commit or side.commit)[:10]} of {task}: {breach.message}",
                f"take it out with `git rebase -i {snapshot.trunk}` on {branch}, "
                f"then run `gitwaves verify {task}`",
            )


def _tasks_in(snapshot: Snapshot, repo: Repo, commit: Oid, branch: Branch) -> list[TaskId]:
    """The tasks of a branch, and those whose folders a commit has otherwise than trunk."""
    cards = snapshot.cards
    was, now = (
        repo.tree(entry.oid) if (entry := repo.at(oid, ROOT)) and entry.is_tree else {}
        for oid in (snapshot.trunk_tip, commit)
    )
    return [
        task
        for task, folder in cards.folders.items()
        if was.get(folder) != now.get(folder) or cards.branch_of(task) == branch
    ]


def _merged(
    store: Store,
    snapshot: Snapshot,
    node: str,
    sides: Sequence[Side],
    restored: Mapping[TaskId, Tracking],
    resolved: tuple[Oid, Resolution] | None,
    *,
    again: bool,
) -> Oid:
    """Trunk with all sides merged in, one after another."""
    repo = store.repo
    current = joined(store, snapshot)
    todo = list(sides)
    if resolved is not None:
        trunk = current
        current = resolved[0]
        todo = [Side(Oid(c), n) for c, n in resolved[1].left]
        if not repo.is_ancestor(trunk, current):
            todo.append(Side(trunk, snapshot.trunk))
    row = Row(repo, current, [side.commit for side in todo])
    for index, side in enumerate(todo):
        if row.holds(side.commit):
            continue
        message = f"gitwaves: {node} takes {side.name}\n"
        try:
            current = settled_merge(
                store, snapshot, current, side, own=None, message=message, row=row
            )
            row.take(side.commit)
        except MergeConflict as conflict:
            before = Path(resolved[1].path) if resolved else None
            left = [[s.commit, s.name] for s in todo[index + 1 :]]
            taken = [s for s in sides if s not in todo[index:]]
            taken.append(Side(snapshot.trunk_tip, snapshot.trunk))
            raise left_for_a_person(
                store, snapshot, node, current, conflict, left, taken, again, before
            ) from conflict
    return _with_restored(store, snapshot, current, restored)


def _with_restored(
    store: Store, snapshot: Snapshot, commit: Oid, restored: Mapping[TaskId, Tracking]
) -> Oid:
    for task, tracking in restored.items():
        commit = state_commit(
            store, snapshot.cards, commit, task, tracking, trunk=snapshot.trunk_tip
        )
    return commit


def verify_merged(
    store: Store,
    snapshot: Snapshot,
    node: str,
    what: str,
    steps: Sequence[Step],
    commit: Oid,
    confirm: Confirm | None,
) -> tuple[Run, ...]:
    """Runs steps on exactly `commit`, in a checkout of its own.

    Raises:
        VerificationFailed: one failed, or changed a file.
    """
    repo = store.repo
    path = folder_for(repo, snapshot.cards, f"merge-{node.replace('/', '-')}")
    with scratch(repo, path, commit) as checkout:
        prepare(repo, snapshot.cards, checkout)
        outcome = run_steps(
            steps, checkout, log_path(repo, node.replace("/", "-")), confirm=confirm
        )
        changed = [
            p
            for p in repo.paths("diff", "--name-only", "-z", "HEAD", cwd=checkout)
            if outcome.failed is None
        ]
    if outcome.failed is not None or changed:
        raise VerificationFailed(what, outcome, changed)
    return outcome.runs


def _land_point(
    store: Store, snapshot: Snapshot, point: MergePoint, merged: Oid, tracking: Tracking
) -> Oid:
    """The one merge commit: trunk, and the merged work with its evidence on top."""
    repo = store.repo
    cards = snapshot.cards
    trunk = snapshot.trunk_tip
    proven = state_commit(store, cards, merged, point.id, tracking, trunk=trunk)
    if merged == trunk:  # all of it had landed before: only the evidence is new
        land(store, cards, snapshot.trunk, proven, trunk)
        return proven
    took = ", ".join(point.requires)
    message = (
        f"gitwaves: {point.id} done\n\nLands {took}.\n\n"
        f"Gitwaves-Task: {point.id}\nGitwaves-Status: done\nGitwaves-Verified: {merged}\n"
    )
    commit = repo.commit_tree(repo.require_commit(proven).tree, [trunk, proven], message)
    land(store, cards, snapshot.trunk, commit, trunk)
    return commit
