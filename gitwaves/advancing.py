"""What commits that landed advance: the done commit of a verified one, and what was noted with it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator

from gitwaves.cards import card_path
from gitwaves.errors import NotReady, Refused
from gitwaves.git import Repo
from gitwaves.gitcall import failed
from gitwaves.lessons import taught
from gitwaves.model import (
    ROOT,
    Branch,
    Evidence,
    Gap,
    Oid,
    Status,
    TaskId,
    Tracking,
    Verdict,
    natural,
    noted,
)
from gitwaves.patterns import regex
from gitwaves.receipts import all_for, find
from gitwaves.record import Record, replace
from gitwaves.store import Snapshot, Store, at_work, startable
from gitwaves.unfinished import finish_all
from gitwaves.worktrees import mark, marker
from gitwaves.writing import (
    done_commit,
    land,
    note_done,
    now,
    publish,
    refresh,
    state_commit,
    write,
)

_MOST_NOTED = 20_000  # characters that one task's commits may add to its card
_TRAILER = regex(r"^(Learned|Spec-gap|Task):[ \t]*(.+)$", re.IGNORECASE)


class Advanced(Record):
    """A task that became done, and what it made runnable."""

    task: TaskId
    commit: Oid
    opened: tuple[TaskId, ...] = ()


def code_paths(paths: Iterable[str]) -> list[str]:
    return [p for p in paths if not p.startswith(ROOT + "/")]


def claimed_at(store: Store, snapshot: Snapshot, task: TaskId, tip: Oid) -> Oid:
    """The commit that claimed a task on its branch; trunk's merge base where there is none.

    Of the commits that changed the card it is the first with the claim that stands now: a later
    one, a note or an edit by hand, hides nothing that came before it.
    """
    claim = snapshot.facts[task].tracking.claim
    path = card_path(snapshot.cards, task)
    found: Oid | None = None
    parents: tuple[Oid, ...] = ()

    def has_claim(oid: Oid) -> bool:
        said = store.tracking_at(snapshot.cards, oid, task)
        return said is not None and said.claim == claim

    for oid in store.repo.changing(path, tip) if claim else ():
        if not has_claim(oid):
            break
        found, parents = oid, store.repo.require_commit(oid).parents
        if not parents or not has_claim(parents[0]):
            break
    if found is not None and parents and store.repo.differ_only_at(parents[0], found, path):
        return found  # else it was amended, or written by hand: it is looked at too
    bases = store.repo.merge_bases(snapshot.trunk_tip, tip)
    return bases[0] if bases else tip


def advance(store: Store, branch: Branch | None = None) -> list[Advanced]:
    """Writes the done commit for every task whose verification commit has landed.

    Looks at each commit since the task's last state commit, so that it finds what landed while no
    hook ran. Idempotent; with `branch`, only there.
    """
    repo = store.repo
    done: list[Advanced] = []
    with repo.lock():
        finish_all(repo)
        snapshot = store.snapshot()
        branches = [branch] if branch else sorted(snapshot.tips)
        for name in branches:
            task = at_work(snapshot, name)
            local = _caught_up(repo, name, snapshot.heads.get(name), snapshot.tips.get(name))
            if (
                task is None
                or local is None
                or snapshot.facts[task].tracking.status is not Status.ACTIVE
            ):
                mark(repo, snapshot.cards, name, None if task is None else task)
                if task is None and local is not None:
                    done += _carry_over(store, snapshot, name, local)
                continue
            commit = _advance(store, snapshot, task, name, local)
            if commit is not None:
                done.append(Advanced(task, commit))
                mark(repo, snapshot.cards, name, None)
            elif not marker(repo, name).exists():
                mark(repo, snapshot.cards, name, task)
        publish(store, snapshot)
        if done:
            moved = {snapshot.cards.branch_of(one.task) for one in done}
            now = refresh(store, moved)[1].runnable
            before = startable(snapshot, now)
            opened = tuple(t for t in now if t not in before)
            done[-1] = replace(done[-1], opened=opened)
    return done


def _caught_up(repo: Repo, branch: Branch, local: Oid | None, tip: Oid | None) -> Oid | None:
    """The tip of a branch here, once it has the state that was pushed before it could land here."""
    if local is None or tip is None or local == tip or not repo.is_ancestor(local, tip):
        return local
    if repo.code_tree(local) != repo.code_tree(tip):
        return local  # somebody's work: to be taken in by whoever is at work here
    with contextlib.suppress(NotReady, Refused):
        repo.land(branch, tip, local)
        return tip
    return local


def _advance(
    store: Store, snapshot: Snapshot, task: TaskId, branch: Branch, tip: Oid
) -> Oid | None:
    repo = store.repo
    cards = snapshot.cards
    digest = cards.digest(task)
    if not all_for(repo, task, digest):
        return None
    since = claimed_at(store, snapshot, task, tip)
    tracking = snapshot.facts[task].tracking
    for oid in [*repo.line(since, tip), since]:
        tree = repo.code_tree(oid)
        receipt = find(repo, task, tree, digest)
        if receipt is None or (
            tracking.claim and tracking.claim.tree == tree and not receipt.unchanged
        ):
            continue
        proof = Evidence(oid, tree, digest, receipt.runs, signature=receipt.signature)
        if store.unsigned(snapshot, task, proof):
            continue  # it passed before signatures were asked for: it is to be verified again
        learned, gaps = trailers(repo, since, oid)
        done = replace(
            taught(tracking, learned, gaps),
            status=Status.DONE,
            finished=now(),
            attempts=max(tracking.attempts, receipt.attempts),
            evidence=proof,
        )
        return _record_done(store, snapshot, done, oid, branch, tip)
    return None


def _record_done(
    store: Store, snapshot: Snapshot, done: Tracking, verified: Oid, branch: Branch, tip: Oid
) -> Oid:
    """Lands the done commit of a verification commit that is in a branch's history."""

    def commit(parent: Oid, *extra: Oid) -> Oid:
        return state_commit(
            store,
            snapshot.cards,
            parent,
            done.task,
            done,
            trunk=snapshot.trunk_tip,
            trailers={"Gitwaves-Verified": verified},
            extra_parents=extra,
        )

    new = commit(verified)
    if verified != tip:  # the branch went on: merges take `new`, the branch gets both
        new = commit(tip, new)
    note_done(store, snapshot.cards, done, new)
    land(store, snapshot.cards, branch, new, tip)
    return new


def _busy(repo: Repo, branch: Branch) -> bool:
    holder = repo.holder(branch)
    return holder is not None and (holder.branch != branch or holder.busy() is not None)


def _carry_over(store: Store, snapshot: Snapshot, branch: Branch, tip: Oid) -> list[Advanced]:
    """Binds evidence anew whose commit an amend or a rebase rewrote, with the same code tree.

    Where the done commit alone was rewritten (amended with more work, say), it is written again: for
    what this clone verified itself, so that evidence typed by hand never gets one.
    """
    repo = store.repo
    carried: list[Advanced] = []
    for task in snapshot.cards.tasks_on(branch):
        fact = snapshot.facts[task]
        evidence = fact.tracking.evidence
        if fact.landed or evidence is None:
            continue
        if fact.verdict is Verdict.HOLDS:
            lost = done_commit(store, snapshot, task) == evidence.commit
            if lost and find(repo, task, evidence.tree, evidence.spec):
                if _busy(repo, branch):
                    return carried
                tip = _record_done(store, snapshot, fact.tracking, evidence.commit, branch, tip)
                carried.append(Advanced(task, tip))
            continue
        if fact.verdict is not Verdict.STALE:
            continue
        if evidence.spec != snapshot.cards.digest(task):
            continue
        line = repo.rev_list("--first-parent", tip, f"^{snapshot.trunk_tip}")
        same = [oid for oid in line if repo.code_tree(oid) == evidence.tree]
        if same and not _busy(repo, branch):
            # the newest: on the tip itself the history stays a line, which rebases again
            moved = replace(fact.tracking, evidence=replace(evidence, commit=same[0]))
            tip = _record_done(store, snapshot, moved, same[0], branch, tip)
            carried.append(Advanced(task, tip))
    return carried


def trailers(repo: Repo, since: Oid, tip: Oid) -> tuple[list[str], list[Gap]]:
    """What the commits of a range say they learned, and where they found the spec wrong."""
    learned: list[str] = []
    gaps: list[Gap] = []
    room = _MOST_NOTED
    for oid in reversed(repo.line(since, tip)):
        for key, value in said_in(repo.require_commit(oid).message):
            text = noted(value) if key != "task" else ""
            room -= len(text)
            if room < 0:
                return learned, gaps
            if text and key == "learned":
                learned.append(text)
            elif text:
                gaps.append(Gap(text))
    return learned, gaps


def said_in(message: str) -> Iterator[tuple[str, str]]:
    r"""The trailers of gitwaves in a commit message: key in lower case, value.

    >>> list(said_in("Add it\n\nLearned: cents, not euros\n"))
    [('learned', 'cents, not euros')]
    """
    paragraphs = message.rstrip().split("\n\n")
    for line in paragraphs[-1].splitlines() if len(paragraphs) > 1 else ():
        if match := _TRAILER.match(line):
            yield match[1].lower(), match[2].strip()


def unmatched(store: Store, branch: Branch) -> list[str]:
    """The files in which HEAD differs from the newest verified content; none where none is waiting."""
    snapshot = store.snapshot()
    task = at_work(snapshot, branch)
    tip = store.repo.branch(branch)
    if task is None or tip is None:
        return []
    waiting = all_for(store.repo, task, snapshot.cards.digest(task))
    if not waiting or store.repo.commit(tip) is None:
        return []
    claim = snapshot.facts[task].tracking.claim
    if claim and store.repo.code_tree(tip) == claim.tree:
        return []
    return code_paths(store.repo.changed(tip, waiting[-1].content))


def sync(store: Store) -> list[Advanced]:
    """Brings everything up to date: fetches, advances, and refreshes the live dashboard."""
    snapshot = store.snapshot()
    remote = snapshot.cards.config.remote
    if remote is not None:
        with store.repo.lock():
            done = store.repo.fetch(remote)
        if done.returncode:
            raise failed(["fetch"], done)
    advanced = advance(store)
    refresh(store)
    return advanced


def note(store: Store, name: str, tracking: Callable[[Tracking], Tracking]) -> TaskId:
    """Changes what a task's card teaches (learnings, gaps); lands it on the task's branch.

    Raises:
        NotReady: the task was never begun, so it has no branch to write on.
    """
    with store.repo.lock():
        snapshot = store.snapshot()
        task = snapshot.require_task(name)
        fact = snapshot.facts[task]
        branch = snapshot.cards.branch_of(task)
        other = at_work(snapshot, branch)
        if fact.tip is None and fact.tracking.status is not Status.PLANNED:
            fact = replace(fact, tip=snapshot.trunk_tip)  # it landed, and its branch was removed
        if fact.tip is None:
            raise NotReady(f"{task} was never begun", f"run `gitwaves start {task}` first")
        if other not in {None, task}:
            raise NotReady(f"{branch} is at work on {other}", f"wait until {other} is done")
        write(store, snapshot, fact, tracking(fact.tracking))
    refresh(store)
    return task


def ids(snapshot: Snapshot) -> list[str]:
    """Every id of a task, in natural order."""
    return sorted(snapshot.cards.tasks, key=natural)
