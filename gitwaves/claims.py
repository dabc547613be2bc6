"""Claims: `start` gives a task its worktree and base, and records who has it."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from gitwaves.errors import GitwavesError, LostClaim, NotReady, Refused
from gitwaves.git import Repo
from gitwaves.graph import graph_of
from gitwaves.model import (
    Branch,
    Cards,
    Claim,
    Evidence,
    Fact,
    Oid,
    PointState,
    State,
    Status,
    TaskId,
    Tracking,
    Verdict,
    duration,
    noted,
)
from gitwaves.processes import alive, marked
from gitwaves.receipts import forget_made, made_files, read_json
from gitwaves.record import Record, replace
from gitwaves.rules import branch_problem
from gitwaves.settling import MergeConflict, Side, joined, settled_merge
from gitwaves.steps import run_steps
from gitwaves.store import BEGUN, Snapshot, Store, at_work
from gitwaves.trust import require_steps
from gitwaves.worktrees import alone, mark, place_for, require_clean
from gitwaves.writing import done_commit, land, needs_of, now, refresh, state_commit, write


class Started(Record):
    """A task at work: where, and whether it was already."""

    task: TaskId
    branch: Branch
    path: Path
    fresh: bool  # the worktree was made just now


def start(
    store: Store,
    name: str,
    *,
    agent: str | None = None,
    takeover: bool = False,
    trust_trunk: bool = False,
) -> Started:
    """Claims a task and prepares its worktree, on a base that holds all that it needs.

    Raises:
        NotReady: it is blocked, or its worktree is at work on something else.
        LostClaim: another clone has it.
        Refused: local changes are in the way; nothing was touched.
        MergeConflict: what it needs does not merge; nothing was touched.
        Untrusted: a step that would run here is not trusted.
    """
    repo = store.repo
    with repo.lock():
        if remote := store.snapshot().cards.config.remote:
            repo.fetch(remote)
        snapshot = store.snapshot()
        task = snapshot.require_task(name)
        cards = snapshot.cards
        branch = cards.branch_of(task)
        fact = snapshot.facts[task]
        mine = fact.tracking.clone == repo.clone_id()
        if fact.tracking.status is Status.ACTIVE and not fact.misplaced and fact.tip:
            if not mine and not takeover:
                raise LostClaim(
                    f"{task} is taken by {fact.tracking.agent or 'another clone'} since {fact.tracking.started}",
                    "run `gitwaves next`, or take it over with `--takeover` once its branch stands still",
                )
            if mine and not takeover:
                return _again(store, snapshot, task, branch, trust_trunk=trust_trunk)
            _require_takeable(store, snapshot, task, fact, mine=mine)
        _require_startable(store, snapshot, task)
        require_steps(repo, cards, [task], setup=True, trust_trunk=trust_trunk)
        place = place_for(repo, cards, branch)
        if place.worktree is not None:
            if place.worktree.branch != branch:
                raise Refused(
                    f"{place.path} is in the middle of a rebase of {branch}",
                    "finish it there first",
                )
            if at_work(snapshot, branch) != task:
                require_clean(repo, place.worktree, made_files(repo, branch))
        tip = snapshot.tips.get(branch)
        local = repo.branch(branch)
        base = bring_in(store, snapshot, task, tip)
        claim = Claim(repo.code_tree(base), cards.digest(task), os.urandom(8).hex())
        tracking = Tracking(
            task,
            Status.ACTIVE,
            claim=claim,
            agent=noted(agent) if agent else None,
            clone=repo.clone_id(),
            started=now(),
            attempts=fact.tracking.attempts if fact.tracking.status in BEGUN else 0,
            cost=fact.tracking.cost,
            learnings=fact.tracking.learnings,
            spec_gaps=fact.tracking.spec_gaps,
        )
        new = state_commit(store, cards, base, task, tracking, trunk=snapshot.trunk_tip)
        mark(repo, cards, branch, task)  # before there is anything that hooks are to guard
        land(store, cards, branch, new, local)
        fresh = place.worktree is None
        if fresh:
            _make(repo, place.path, new, branch)
    _prepare_once(repo, cards, branch, place.path)
    refresh(store)
    return Started(task, branch, place.path, fresh)


def _require_takeable(
    store: Store, snapshot: Snapshot, task: TaskId, fact: Fact, *, mine: bool
) -> None:
    """Raises unless a claim may be taken over: nobody moves it, by this observer's own clock.

    Raises:
        NotReady: its agent lives, or its branch has not stood still for the lease yet.
    """
    if mine:
        if agent_lives(store.repo, task):
            raise NotReady(f"the agent of {task} is alive", f"stop it with `gitwaves stop {task}`")
        return
    lease = snapshot.cards.config.lease
    path = store.repo.state_dir / "watched" / task
    seen, since = None, time.time()
    with contextlib.suppress(OSError, ValueError):
        seen, text = path.read_text().split()
        since = float(text)
    if seen != fact.tip or not since <= time.time():  # nor where it is no number
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{fact.tip} {time.time():.0f}\n")
        since = time.time()
    left = since + lease - time.time()
    if left > 0:
        raise NotReady(
            f"the claim on {task} may be taken over once its branch has stood still for "
            f"{duration(lease)}; {duration(int(left) + 1)} are left",
            "it is watched from now on; run the same command again then",
        )


def agent_lives(repo: Repo, task: str) -> bool:
    """Whether an agent that `run` started here is at work on a task."""
    held = read_json(repo.state_dir / "agents" / f"{task}.json")
    try:
        return alive(int(held["runner"])) or bool(marked(str(held["marker"])))
    except (ValueError, KeyError, TypeError, OverflowError):
        return False


def _again(
    store: Store, snapshot: Snapshot, task: TaskId, branch: Branch, *, trust_trunk: bool
) -> Started:
    """`start` of a task that is mine already: its worktree, remade where it is gone."""
    repo = store.repo
    place = place_for(repo, snapshot.cards, branch)
    mark(repo, snapshot.cards, branch, task)
    tip = snapshot.tips[branch]
    local = repo.branch(branch)
    if local is None or repo.is_ancestor(local, tip):  # the claim was pushed, and then we died
        repo.land(branch, tip, local)
    elif not repo.is_ancestor(tip, local):  # and somebody committed here since
        side = Side(tip, f"{snapshot.cards.config.remote}/{branch}")
        message = f"gitwaves: {task} brings in {side.name}\n"
        new = settled_merge(store, snapshot, local, side, own=branch, message=message)
        land(store, snapshot.cards, branch, new, local)
    fresh = place.worktree is None
    if fresh or unprepared(repo, branch).exists():
        require_steps(repo, snapshot.cards, [], setup=True, trust_trunk=trust_trunk)
    if fresh:
        _make(repo, place.path, tip, branch)
    _prepare_once(repo, snapshot.cards, branch, place.path)
    return Started(task, branch, place.path, fresh)


def _require_startable(store: Store, snapshot: Snapshot, task: TaskId) -> None:
    shown = store.progress(snapshot)
    view = shown.tasks[task]
    card = snapshot.cards.tasks[task]
    branch = snapshot.cards.branch_of(task)
    if view.state is State.CANCELLED:
        raise Refused(
            f"{task} is cancelled: {card.cancelled}", "run `gitwaves next` for other work"
        )
    if view.state is State.DONE:
        raise Refused(f"{task} is done", "run `gitwaves next` for other work")
    if view.state in {State.BLOCKED, State.HELD}:
        waits = ", ".join(f"{b.kind.replace('_', ' ')} {b.id}" for b in view.blocked_on)
        raise NotReady(
            f"{task} is {view.state}: it waits for {waits}", f"`gitwaves show {task}` says why"
        )
    if view.state in {State.STALE, State.UNPROVEN}:
        needs = graph_of(snapshot.cards).needs(task)
        met = {
            *(t for t, v in shown.tasks.items() if v.state is State.DONE),
            *(p for p, v in shown.merge_points.items() if v.state is PointState.DONE),
        }
        if unmet := [n for n in needs if n not in met]:
            raise NotReady(
                f"{task} is {view.state}, and waits for {', '.join(unmet)}",
                f"have {unmet[0]} done first: `gitwaves show {unmet[0]}`",
            )
    problem = branch_problem(branch) or ("that is trunk" if branch == snapshot.trunk else None)
    if problem is not None:
        raise Refused(
            f"{task} cannot be done on the branch {branch}: {problem}",
            f"give {card.workstream} another `branch` on {snapshot.trunk}",
        )
    if not card.verify:
        raise NotReady(
            f"{task} has no verify steps, so it could never be done",
            f"add `verify:` to {card.path} on {snapshot.trunk}",
        )
    other = at_work(snapshot, branch)
    if other is not None and other != task:
        state = snapshot.facts[other].tracking.status
        raise NotReady(
            f"{branch} is at work on {other} ({state})",
            f"finish {other}, or give it back with `gitwaves start {other} --release`",
        )


def bring_in(store: Store, snapshot: Snapshot, task: TaskId, tip: Oid | None) -> Oid:
    """The base that `task` starts from: its branch with trunk and the done work that it needs.

    Raises:
        MergeConflict: something does not merge.
    """
    repo = store.repo
    cards = snapshot.cards
    branch = cards.branch_of(task)
    trunk = joined(store, snapshot)
    base = trunk if tip is None else tip

    def take(side: Side) -> Oid:
        message = f"gitwaves: {task} brings in {side.name}\n"
        try:
            return settled_merge(store, snapshot, base, side, own=branch, message=message)
        except MergeConflict as conflict:
            what = side.name if side.name == snapshot.trunk else side.commit[:10]
            conflict.hint = (
                f"on {branch}, run `git merge {what}`, resolve the files and commit them, "
                "then run the same command again"
            )
            raise

    if not repo.is_ancestor(trunk, base):
        base = take(Side(trunk, snapshot.trunk))
    verified: dict[TaskId, Oid] = {}
    for need in reversed(needs_of(snapshot, task)):  # the last one first: it holds those before it
        fact = snapshot.facts[need]
        evidence = fact.tracking.evidence
        if not fact.landed and fact.verdict is Verdict.HOLDS and evidence:
            verified[need] = evidence.commit
    while missing := repo.missing_from(verified.values(), [base]):
        need = next(t for t, oid in verified.items() if oid in missing)
        base = take(Side(done_commit(store, snapshot, need), str(need)))
        del verified[need]
    return base


def prepare(repo: Repo, cards: Cards, path: Path) -> None:
    """Runs the `setup` steps in a fresh checkout.

    Raises:
        GitwavesError: one failed; says where its output is.
    """
    if not cards.config.setup:
        return
    log = repo.state_dir / "logs" / "setup.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    outcome = run_steps(cards.config.setup, path, log)
    if outcome.failed is not None:
        raise GitwavesError(
            f"setup step {outcome.failed} failed in {path} with exit {outcome.exit}",
            f"its output is in {log}; mend it, then run the same command again",
        )


def _make(repo: Repo, path: Path, commit: Oid, branch: Branch) -> None:
    """Makes the worktree of a branch, in which `setup` has yet to run."""
    unprepared(repo, branch).touch()
    forget_made(repo, branch)
    repo.add_worktree(path, commit, branch)


def unprepared(repo: Repo, branch: Branch) -> Path:
    """The note that a fresh checkout's `setup` has not passed yet: a second `start` runs it."""
    folder = repo.state_dir / "unprepared"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / branch.replace("/", "%2F")


def _prepare_once(repo: Repo, cards: Cards, branch: Branch, path: Path) -> None:
    note = unprepared(repo, branch)
    if note.exists():
        with alone(repo, f"setup of {branch}"):
            if note.exists():  # else another `start` has just done it
                prepare(repo, cards, path)
                note.unlink(missing_ok=True)


def release(store: Store, name: str) -> TaskId:
    """Gives a claim back; the branch and what is on it stay.

    Raises:
        Refused: the task is not at work here.
    """
    with store.repo.lock():
        snapshot = store.snapshot()
        task = snapshot.require_task(name)
        fact = snapshot.facts[task]
        if fact.tracking.status not in BEGUN or fact.tip is None:
            raise Refused(f"{task} is not at work", f"`gitwaves show {task}` says what it is")
        if fact.tracking.clone != store.repo.clone_id():
            raise Refused(f"{task} is not this clone's to give back", "`--takeover` takes it first")
        was = fact.tracking  # what was spent and learned stays so
        tracking = Tracking(task, cost=was.cost, learnings=was.learnings, spec_gaps=was.spec_gaps)
        write(store, snapshot, fact, tracking)
    refresh(store)
    return task


def fail(store: Store, task: TaskId, attempts: int, evidence: Evidence | None) -> None:
    """Records that `run`'s attempts at a task are spent; `evidence` is the last run's record."""
    with store.repo.lock():
        snapshot = store.snapshot()
        fact = snapshot.facts[task]
        if fact.tracking.status is not Status.ACTIVE or fact.tip is None:
            return
        failed = replace(fact.tracking, status=Status.FAILED, attempts=attempts, evidence=evidence)
        write(store, snapshot, fact, failed)
    refresh(store)
