"""Done means verified: candidate trees, boundaries, and the steps run on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gitwaves.advancing import advance, claimed_at, code_paths
from gitwaves.errors import GitError, NotReady, Refused
from gitwaves.git import Repo, Worktree
from gitwaves.guards import Breach, Change, breaches_of
from gitwaves.model import (
    Branch,
    Claim,
    Oid,
    Status,
    TaskId,
    printable,
)
from gitwaves.ranges import breaches, own_changes
from gitwaves.receipts import Receipt, attempt_here, made_files, note_made, save
from gitwaves.record import Record, replace
from gitwaves.rulebook import Rules
from gitwaves.store import Snapshot, Store, at_work
from gitwaves.trust import require_steps
from gitwaves.worktrees import folder_for, place_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading

    from gitwaves.git_content import Candidate
    from gitwaves.gitcall import Asked
    from gitwaves.steps import Outcome

# What an entry begins with, in what `git ls-files -v -s -z` says, that hides nothing: an unmerged
# one begins with an M, and no path holds what ends the one before.
_PLAIN_ENTRIES = tuple(f"\0H {mode} ".encode() for mode in (100644, 100755, 120000))


class Verified(Record):
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


def _index_of(repo: Repo, worktree: Worktree) -> Asked:
    return repo.begun("ls-files", "-v", "-s", "-z", cwd=worktree.path)


def _require_plain(repo: Repo, worktree: Worktree, listed: bytes | None) -> None:
    """Raises where the index would hide something from the verification.

    Args:
        listed: what `_index_of` said.

    Raises:
        GitError: it said nothing.
        Refused: unmerged entries, assume-unchanged, skip-worktree outside a sparse checkout, or a
            submodule with changes of its own.
    """
    if listed is None:
        raise GitError(f"the index of {worktree.path} cannot be read", "see `git status` there")
    entries = b"\0" + listed
    if sum(map(entries.count, _PLAIN_ENTRIES)) == listed.count(b"\0"):
        return
    unmerged, hidden, submodules = set(), [], False
    sparse = repo.is_sparse(worktree.path)
    for line in filter(None, listed.decode(errors="surrogateescape").split("\0")):
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


class Committed(Record):
    """What a task's branch did since its claim, as far as it is committed."""

    rules: Rules
    branch: Branch
    since: Oid
    tip: Oid
    breaches: tuple[Breach, ...]

    @staticmethod
    def of(store: Store, snapshot: Snapshot, task: TaskId, tip: Oid) -> Committed:
        since = claimed_at(store, snapshot, task, tip)
        rules = Rules(store.repo, snapshot.trunk, snapshot.trunk_tip, snapshot.cards)
        branch = snapshot.cards.branch_of(task)
        known = [since, snapshot.trunk_tip]
        said = breaches(rules, branch, tip, known, snapshot.trunk_tip)
        return Committed(rules, branch, since, tip, tuple(said))


def require_inside(
    snapshot: Snapshot, committed: Committed, content: Oid, *, tracking: bool = True
) -> None:
    """Raises unless the guards pass what is committed since a claim, and the content.

    Args:
        tracking: whether the branch's own cards are judged too; not where what is stale or unproven
            is verified anew: that its evidence does not fit is why.

    Raises:
        Refused: each path with its owner.
    """
    rules, branch = committed.rules, committed.branch
    change = Change.of(rules.repo, content, [committed.tip])
    said = [*committed.breaches, *breaches_of(rules, branch, change)]
    if not tracking:
        own = {snapshot.cards.tasks[t].path for t in snapshot.cards.tasks_on(branch)}
        said = [breach for breach in said if breach.path not in own]
    if said:
        # A revert would be one more commit outside the boundary.
        undo = (
            f"take them out of these commits (git rebase -i {committed.since[:10]})"
            if committed.breaches
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
    snapshot: Snapshot | None = None,
    *,
    unchanged: bool = False,
    attempts: int | None = None,
    trust_trunk: bool = False,
    cancel: threading.Event | None = None,
    confirm: Callable[[str], str | None] | None = None,
    begun: Candidate | None = None,
) -> Verified:
    """Runs a task's steps, trunk's copy, on the content of its worktree.

    A pass leaves a receipt, and the done commit where that content is committed already. A
    failure changes no card.

    Args:
        snapshot: of this moment, where that was taken.
        attempts: of its agent, this one included; None: as `run` said to the agent that calls.
        begun: its content, where that is being found out already.

    Raises:
        NotReady: the task is not at work.
        Refused: changes outside the boundary, a missing product, or an index that hides changes.
        Untrusted: the steps are not trusted in this clone.
    """
    repo = store.repo
    snapshot = snapshot or store.snapshot()
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
    tip = repo.branch(branch)
    assert tip is not None
    with repo.candidate(worktree, begun) as candidate:  # while git looks at the files:
        listing = _index_of(repo, worktree)
        try:
            from gitwaves.steps import run_steps  # slow to import

            require_steps(repo, cards, [task], trust_trunk=trust_trunk)
            committed = Committed.of(store, snapshot, task, tip)
        finally:
            listed = listing.said()
        _require_plain(repo, worktree, listed)
        content = candidate.tree(repo, made_files(repo, branch))
    code = repo.code_tree(content)
    _require_work(snapshot, task, committed, content, unchanged=unchanged)
    signer = None
    if cards.config.allowed_signers or repo.config("commit.gpgsign") is not None:
        from gitwaves.signing import signer_for  # slow to import, and else it gives None

        signer = signer_for(repo, cards.config, snapshot.trunk_tip)
    outcome = run_steps(steps, worktree.path, log_path(repo, task), cancel=cancel, confirm=confirm)
    changed, made = _aftermath(repo, worktree, candidate, content)
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
    differs = [] if done or head is None else code_paths(repo.changed(head, content))
    return replace(result, done=done, differs=tuple(differs))


def _require_work(
    snapshot: Snapshot, task: TaskId, committed: Committed, content: Oid, *, unchanged: bool
) -> None:
    """Raises unless the content is a task's work: inside its boundary, changed, and all there."""
    repo, cards = committed.rules.repo, snapshot.cards
    require_inside(snapshot, committed, content)
    claim = snapshot.facts[task].tracking.claim
    code = repo.code_tree(content)
    if claim and not unchanged and not _worked(repo, claim, committed, code):
        raise Refused(
            f"nothing changed since {task} was claimed",
            "if nothing has to change, say so with `gitwaves verify --unchanged`",
        )
    absent = [p for p in cards.tasks[task].produces if repo.at(content, p.rstrip("/")) is None]
    if absent:
        raise Refused(f"{task} must produce {', '.join(absent)}", "make it, then verify again")


def _worked(repo: Repo, claim: Claim, committed: Committed, code: Oid) -> bool:
    """Whether a branch changed anything itself since a claim: bringing in trunk is no work."""
    if code == claim.tree:
        return False
    if code != repo.code_tree(committed.tip):
        return True
    line = repo.line(committed.since, committed.tip)
    return any(map(code_paths, own_changes(repo, line).values()))


def _aftermath(
    repo: Repo, worktree: Worktree, before: Candidate, content: Oid
) -> tuple[list[str], list[str]]:
    """Which files of the verified content the steps changed, and which they made.

    Raises:
        Refused: see `_require_plain`.
    """
    with repo.candidate(worktree) as after:
        if after.is_like(before):
            return [], []
        if not after.has_index_of(before):  # the steps may have told it to overlook something
            _require_plain(repo, worktree, _index_of(repo, worktree).said())
        differing = repo.changed(content, after.tree(repo))
    known = {p for p in differing if (e := repo.at(content, p)) is not None and not e.is_tree}
    return [p for p in differing if p in known], [p for p in differing if p not in known]


def log_path(repo: Repo, node: str) -> Path:
    """A new log file for a verification."""
    folder = repo.state_dir / "logs" / node
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.stem.split("-")[-1]) for p in folder.glob("verify-*.log")), default=0)
    return folder / f"verify-{number}.log"
