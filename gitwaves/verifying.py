"""Done means verified: candidate trees, boundaries, running steps, and the done commit."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gitwaves.claims import at_work, write
from gitwaves.errors import NotReady, Refused
from gitwaves.git import Repo, Worktree
from gitwaves.gitcall import failed
from gitwaves.guards import Change, breaches_of
from gitwaves.lessons import taught
from gitwaves.model import (
    ROOT,
    Branch,
    Claim,
    Evidence,
    Gap,
    Oid,
    Status,
    TaskId,
    Tracking,
    Verdict,
    natural,
    noted,
    printable,
)
from gitwaves.ranges import breaches, own_changes
from gitwaves.receipts import Receipt, all_for, attempt_here, find, made_files, note_made, save
from gitwaves.rulebook import Rules
from gitwaves.signing import signer_for
from gitwaves.steps import Outcome, run_steps
from gitwaves.store import Snapshot, Store, startable
from gitwaves.trust import require_steps
from gitwaves.unfinished import finish_all
from gitwaves.worktrees import folder_for, mark, marker, place_for
from gitwaves.writing import (
    card_path,
    done_commit,
    land,
    now,
    publish,
    refresh,
    state_commit,
)

_MOST_NOTED = 20_000  # characters that one task's commits may add to its card
_TRAILER = re.compile(r"^(Learned|Spec-gap|Task):[ \t]*(.+)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Verified:
    """How a verification ended."""

    task: TaskId
    outcome: Outcome
    done: bool = False  # the done commit was written
    differs: tuple[str, ...] = ()  # files that stand between what passed and HEAD
    made: tuple[str, ...] = ()  # files that the steps made
    changed: tuple[str, ...] = ()  # files that the steps changed: a failure

    @property
    def passed(self) -> bool:
        return self.outcome.failed is None and not self.changed


@dataclass(frozen=True, slots=True)
class Advanced:
    """A task that became done, and what it made runnable."""

    task: TaskId
    commit: Oid
    opened: tuple[TaskId, ...] = ()


def candidate(repo: Repo, worktree: Worktree, made: Iterable[str] = ()) -> Oid:
    """The tree that `git add -A` would commit, less untracked files in `made`.

    The worktree's own index is not touched, and each time looked at anew: it knows best which files
    may have changed unnoticed.
    """
    with repo.index_copy(worktree) as env:
        repo.git("add", "-A", cwd=worktree.path, env=env)
        if made:
            listing = ("ls-tree", "-r", "-z", "--name-only", "HEAD")
            tracked = set(repo.paths(*listing, cwd=worktree.path))
            if extra := [p for p in made if p not in tracked]:
                remove = ("rm", "-q", "--cached", "--ignore-unmatch", "-r", "--", *extra)
                repo.git(*remove, cwd=worktree.path, env=env)
        return Oid(repo.git("write-tree", cwd=worktree.path, env=env))


def require_plain_index(repo: Repo, worktree: Worktree) -> None:
    """Raises where the index would hide something from the verification.

    Raises:
        Refused: unmerged entries, assume-unchanged, skip-worktree outside a sparse checkout, or a
            submodule with changes of its own.
    """
    unmerged, hidden, submodules = set(), [], False
    sparse = repo.is_sparse(worktree.path)
    for line in repo.paths("ls-files", "-v", "-s", "-z", cwd=worktree.path):
        head, path = line.split("\t", 1)
        flag, mode, _, stage = head.split(" ")
        if stage != "0":
            unmerged.add(path)
        elif flag.islower() or (flag == "S" and not sparse):
            hidden.append(path)
        submodules |= mode == "160000"
    if unmerged:
        raise Refused(
            f"unresolved conflicts: {printable(', '.join(sorted(unmerged)[:5]))}",
            "resolve and commit them first",
        )
    if hidden:
        raise Refused(
            f"Git is told to overlook changes of {printable(', '.join(hidden[:5]))}",
            "git update-index --no-assume-unchanged --no-skip-worktree FILE",
        )
    dirty = repo.dirty_submodules(worktree.path) if submodules else []
    if dirty:
        raise Refused(
            f"submodules with changes that no commit here holds: {printable(', '.join(dirty[:5]))}",
            "commit or undo them in the submodule, then verify again",
        )


def require_inside(
    store: Store,
    snapshot: Snapshot,
    task: TaskId,
    since: Oid,
    tip: Oid,
    content: Oid,
    *,
    tracking: bool = True,
) -> None:
    """Raises unless the guards pass all that the branch did since its claim, and the content.

    Args:
        tracking: whether the branch's own cards are judged too; not where what is stale or unproven
            is verified anew: that its evidence does not fit is why.

    Raises:
        Refused: each path with its owner.
    """
    rules = Rules(store.repo, snapshot.trunk, snapshot.trunk_tip)
    branch = snapshot.cards.branch_of(task)
    known = [since, snapshot.trunk_tip]
    said = breaches(rules, branch, tip, known, snapshot.trunk_tip)
    committed = bool(said)
    said += breaches_of(rules, branch, Change.of(store.repo, content, [tip]))
    if not tracking:
        own = {snapshot.cards.tasks[t].path for t in snapshot.cards.tasks_on(branch)}
        said = [breach for breach in said if breach.path not in own]
    if said:
        # A revert would be one more commit outside the boundary.
        undo = (
            f"take them out of these commits (git rebase -i {since[:10]})"
            if committed
            else ("undo these changes (git restore FILE, git clean)")
        )
        raise Refused(
            "outside the boundary:\n" + "\n".join(f"  {line}" for line in dict.fromkeys(said)),
            f"{undo}; their owner makes them, or a review on {snapshot.trunk} widens the boundary",
        )


# --- verify ------------------------------------------------------------------------------------


def task_here(store: Store, snapshot: Snapshot) -> TaskId:
    """The task at work in the worktree that the command was called in.

    Raises:
        NotReady: there is none.
    """
    here = store.repo.here()
    task = at_work(snapshot, here.branch) if here and here.branch else None
    if task is not None:
        return task
    where = f"on {here.branch}" if here and here.branch else "here"
    if here and here.branch is None:
        where += f": in the middle of {here.busy()}" if here.busy() else ": HEAD is detached"
    raise NotReady(f"no task is at work {where}", _way_back(store, snapshot, here))


def _way_back(store: Store, snapshot: Snapshot, here: Worktree | None) -> str:
    """What to do in a worktree where no task is at work: often somebody switched its branch."""
    for branch in sorted(snapshot.tips) if here else ():
        folder = folder_for(store.repo, snapshot.cards, branch.replace("/", "-"))
        if here and here.branch != branch and here.path.resolve() == folder:
            if here.holds() == branch:
                return "finish or abort it first"
            return f"this is the worktree of {branch}: go back with `git switch {branch}`"
    return "name one, or run `gitwaves start ID`"


def verify(
    store: Store,
    name: str | None,
    *,
    unchanged: bool = False,
    attempts: int | None = None,
    trust_trunk: bool = False,
    cancel: threading.Event | None = None,
    confirm: Callable[[str], str | None] | None = None,
) -> Verified:
    """Runs a task's steps, trunk's copy, on the content of its worktree.

    A pass leaves a receipt, and the done commit where that content is committed already. A
    failure changes no card.

    Args:
        attempts: of its agent, this one included; None: as `run` said to the agent that calls.

    Raises:
        NotReady: the task is not at work.
        Refused: changes outside the boundary, a missing product, or an index that hides changes.
        Untrusted: the steps are not trusted in this clone.
    """
    repo = store.repo
    snapshot = store.snapshot()
    task = snapshot.require_task(name) if name else task_here(store, snapshot)
    cards = snapshot.cards
    branch = cards.branch_of(task)
    worktree = repo.holder(branch)
    if at_work(snapshot, branch) == task and worktree is None:
        place_for(repo, cards, branch)  # where its folder is on something else, this says so
    if at_work(snapshot, branch) != task or worktree is None:
        raise NotReady(f"{task} is not at work here", f"run `gitwaves start {task}` first")
    if worktree.branch != branch or worktree.busy():
        raise Refused(
            f"{worktree.path} is in the middle of {worktree.busy() or 'a rebase'}",
            "finish or abort it first",
        )
    steps = cards.tasks[task].verify
    require_steps(repo, cards, [task], trust_trunk=trust_trunk)
    require_plain_index(repo, worktree)
    tip = repo.branch(branch)
    assert tip is not None
    content = candidate(repo, worktree, made_files(repo, branch))
    code = repo.code_tree(content)
    _require_work(store, snapshot, task, tip, content, unchanged=unchanged)
    signer = signer_for(repo, cards.config, snapshot.trunk_tip)
    outcome = run_steps(steps, worktree.path, log_path(repo, task), cancel=cancel, confirm=confirm)
    changed, made = _aftermath(repo, worktree, content)
    note_made(repo, branch, made)
    result = Verified(task, outcome, made=tuple(made), changed=tuple(changed))
    if not result.passed:
        return result
    attempts = attempts or attempt_here(task)
    digest, runs = cards.digest(task), outcome.runs
    signature = signer.sign(task, code, digest, runs) if signer else None
    save(repo, Receipt(task, code, digest, content, runs, attempts, unchanged, signature))
    done = any(one.task == task for one in advance(store, branch))
    if not done:  # another process may have found the receipt first
        known = store.snapshot().facts[task].tracking
        done = (
            known.status is Status.DONE
            and known.evidence is not None
            and known.evidence.tree == code
        )
    head = repo.branch(branch)
    differs = [] if done or head is None else _code_paths(repo.changed(head, content))
    return replace(result, done=done, differs=tuple(differs))


def _require_work(
    store: Store, snapshot: Snapshot, task: TaskId, tip: Oid, content: Oid, *, unchanged: bool
) -> None:
    """Raises unless the content is a task's work: inside its boundary, changed, and all there."""
    repo, cards = store.repo, snapshot.cards
    since = claimed_at(store, snapshot, task, tip)
    require_inside(store, snapshot, task, since, tip, content)
    claim = snapshot.facts[task].tracking.claim
    code = repo.code_tree(content)
    if claim and not unchanged and not _worked(repo, claim, since, tip, code):
        raise Refused(
            f"nothing changed since {task} was claimed",
            "if nothing has to change, say so with `gitwaves verify --unchanged`",
        )
    absent = [p for p in cards.tasks[task].produces if repo.at(content, p.rstrip("/")) is None]
    if absent:
        raise Refused(f"{task} must produce {', '.join(absent)}", "make it, then verify again")


def _worked(repo: Repo, claim: Claim, since: Oid, tip: Oid, code: Oid) -> bool:
    """Whether a branch changed anything itself since a claim: bringing in trunk is no work."""
    if code == claim.tree:
        return False
    if code != repo.code_tree(tip):
        return True
    line = repo.rev_list("--first-parent", f"{since}..{tip}")
    return any(map(_code_paths, own_changes(repo, line).values()))


def _aftermath(repo: Repo, worktree: Worktree, content: Oid) -> tuple[list[str], list[str]]:
    """Which files of the verified content the steps changed, and which they made."""
    differing = repo.changed(content, candidate(repo, worktree))
    before = {p for p in differing if (e := repo.at(content, p)) is not None and not e.is_tree}
    return [p for p in differing if p in before], [p for p in differing if p not in before]


def _code_paths(paths: Iterable[str]) -> list[str]:
    return [p for p in paths if not p.startswith(ROOT + "/")]


def log_path(repo: Repo, node: str) -> Path:
    """A new log file for a verification."""
    folder = repo.state_dir / "logs" / node
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.stem.split("-")[-1]) for p in folder.glob("verify-*.log")), default=0)
    return folder / f"verify-{number}.log"


def claimed_at(store: Store, snapshot: Snapshot, task: TaskId, tip: Oid) -> Oid:
    """The commit that claimed a task on its branch; trunk's merge base where there is none.

    Of the commits that changed the card it is the first with the claim that stands now: a later
    one, a note or an edit by hand, hides nothing that came before it.
    """
    claim = snapshot.facts[task].tracking.claim
    path = card_path(snapshot.cards, task)
    found: Oid | None = None
    for oid in store.repo.rev_list("--first-parent", tip, paths=[path]) if claim else ():
        said = store.tracking_at(snapshot.cards, oid, task)
        if said is None or said.claim != claim:
            break
        found = oid
    if found is not None:
        parents = store.repo.require_commit(found).parents
        if parents and store.repo.changed(parents[0], found) == [path]:
            return found  # else it was amended, or written by hand: it is looked at too
    bases = store.repo.merge_bases(snapshot.trunk_tip, tip)
    return bases[0] if bases else tip


# --- advancing ---------------------------------------------------------------------------------


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
        before = startable(snapshot)
        opened = tuple(t for t in refresh(store)[1].runnable if t not in before)
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
    for oid in [*repo.rev_list("--first-parent", f"{since}..{tip}"), since]:
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
        if fact.verdict is Verdict.HOLDS and find(repo, task, evidence.tree, evidence.spec):
            if done_commit(store, snapshot, task) == evidence.commit:
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
    for oid in repo.rev_list("--first-parent", "--reverse", f"{since}..{tip}"):
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
    return _code_paths(store.repo.changed(tip, waiting[-1].content))


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
