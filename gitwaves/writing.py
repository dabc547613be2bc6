"""Writing state: state commits, how they land, and what is generated from them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from gitwaves.cards import card_path, with_tracking
from gitwaves.errors import GitError, LostClaim, NotReady, Refused
from gitwaves.git import Repo
from gitwaves.graph import graph_of
from gitwaves.halves import split
from gitwaves.lessons import learnings_lines, with_learnings
from gitwaves.model import (
    DASHBOARD_BRANCH,
    DASHBOARD_PATH,
    ROOT,
    Branch,
    Cards,
    Evidence,
    Fact,
    Oid,
    Progress,
    Status,
    TaskId,
    Tracking,
)
from gitwaves.render import dashboard
from gitwaves.store import BEGUN, Snapshot, Store
from gitwaves.unfinished import finish
from gitwaves.worktrees import mark
from gitwaves.yamlfile import MAX_BYTES

_DONE = "done 1"  # which answer is kept: one that is found in another way has another number


def now() -> str:
    """This moment, as cards say it: RFC 3339, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def state_commit(
    store: Store,
    cards: Cards,
    parent: Oid,
    node: str,
    tracking: Tracking,
    *,
    trunk: Oid,
    trailers: Mapping[str, str] | None = None,
    extra_parents: Iterable[Oid] = (),
) -> Oid:
    """Writes a commit on `parent` that changes the tracking of one card and nothing else.

    The spec half is the one that stands in `parent`; a card that is not there yet is trunk's.
    """
    repo = store.repo
    path = card_path(cards, node)
    data = repo.read(parent, path) or repo.read(trunk, path)
    assert data is not None, f"{node} has no card"
    card = with_tracking(data, tracking)
    if (size := len(split(card)[1])) > MAX_BYTES:
        raise Refused(
            f"the tracking half of {node} would be {size >> 10} KiB: nobody could read it",
            "shorten its verify steps, learnings and gaps",
        )
    tree = repo.with_files(repo.require_commit(parent).tree, {path: card})
    lines = {"Gitwaves-Task": node, "Gitwaves-Status": str(tracking.status), **(trailers or {})}
    message = f"gitwaves: {node} {tracking.status}\n\n" + "".join(
        f"{k}: {v}\n" for k, v in lines.items()
    )
    return repo.commit_tree(tree, [parent, *extra_parents], message)


def done_commit(store: Store, snapshot: Snapshot, task: TaskId) -> Oid:
    """The commit that merges take for a done task: its state commit on the verified one.

    Raises:
        GitError: it is not in this repository.
    """
    fact = snapshot.facts[task]
    evidence, tip = fact.tracking.evidence, fact.tip
    if evidence is None or store.repo.commit(evidence.commit) is None:
        raise GitError(f"the done commit of {task} is not in this repository", "fetch its branch")
    if tip is None:  # a branch that landed squashed may be gone, and its commits still be here
        return evidence.commit
    path = snapshot.cards.tasks[task].path

    def records(oid: Oid) -> bool:
        commit = store.repo.require_commit(oid)
        if evidence.commit not in commit.parents or store.repo.code_tree(oid) != evidence.tree:
            return False
        said = store.tracking_at(snapshot.cards, oid, task)
        return said is not None and said.status is Status.DONE and said.evidence == evidence

    def found() -> Oid:
        here = store.repo.commit(tip)
        if here is not None and here.parents == (evidence.commit,) and records(tip):
            return tip  # it is the only commit of that range
        args = ("--full-history", "--reverse", f"{evidence.commit}..{tip}")
        recording = (oid for oid in store.repo.rev_list(*args, paths=[path]) if records(oid))
        return next(recording, evidence.commit)

    # whoever advances asks it of each task that is done
    return Oid(store.repo.told(_question(path, evidence, tip), found))


def note_done(store: Store, cards: Cards, done: Tracking, new: Oid) -> None:
    """Notes `new`, the state commit of a done task on its verified one, as what `done_commit` will find.

    That is where it is the tip of the branch.
    """
    if done.evidence is not None and store.repo.require_commit(new).parents == (
        done.evidence.commit,
    ):
        path = cards.tasks[TaskId(done.task)].path
        store.repo.told(_question(path, done.evidence, new), lambda: new)


def _question(path: str, evidence: Evidence, tip: Oid) -> tuple[str, ...]:
    return _DONE, path, repr(evidence), tip


def land(store: Store, cards: Cards, branch: Branch, new: Oid, old: Oid | None) -> None:
    """Lands a commit: pushed first where there is a remote, then moved here.

    Raises:
        LostClaim: the remote's branch moved; another clone was faster.
        Refused, NotReady: see `Repo.land`.
    """
    with store.repo.lock():
        finish(store.repo, branch)
    remote = cards.config.remote
    if remote is not None and not store.offline:
        new = _on_top_of(store, cards, branch, new)
        _require_one_line(store, branch, new, remote)
        done = store.repo.push(remote, f"{new}:refs/heads/{branch}")
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            if "rejected" in said:
                store.repo.fetch(remote)
                raise LostClaim(
                    f"{branch} moved on {remote}: another clone was faster",
                    "run `gitwaves sync`, then `gitwaves next`",
                )
            last = (said.strip() or "it failed").splitlines()[-1]
            raise GitError(f"git push to {remote}: {last}", "nothing was changed here")
        here = store.repo.branch(branch)
        if here is None or store.repo.is_ancestor(here, new):
            old = here  # what it builds on was the remote's, which was ahead
    # what follows from another trunk takes longer than git does to write it
    branches = branch != cards.config.trunk
    store.repo.land(branch, new, old, (lambda: store.expect(branch, new)) if branches else None)


def write(store: Store, snapshot: Snapshot, fact: Fact, tracking: Tracking) -> Oid:
    """Lands a state commit for a task on its branch's tip; returns it."""
    task = TaskId(tracking.task)
    branch = snapshot.cards.branch_of(task)
    assert fact.tip is not None
    new = state_commit(store, snapshot.cards, fact.tip, task, tracking, trunk=snapshot.trunk_tip)
    land(store, snapshot.cards, branch, new, store.repo.branch(branch))
    mark(store.repo, snapshot.cards, branch, task if tracking.status in BEGUN else None)
    return new


def _require_one_line(store: Store, branch: Branch, new: Oid, remote: str) -> None:
    """Raises before anything is pushed, where what is here could not follow it.

    Raises:
        NotReady: the branch here holds commits that `new`, built on the remote's line, does not.
    """
    here = store.repo.branch(branch)
    if here is not None and not store.repo.is_ancestor(here, new):
        raise NotReady(
            f"{branch} here and {remote}/{branch} have diverged",
            f"put yours on top where {branch} is checked out: `git rebase {remote}/{branch}`, "
            "then run the same command again",
        )


def _on_top_of(store: Store, cards: Cards, branch: Branch, new: Oid) -> Oid:
    """`new`, and above it the remote's line where that was rewritten here (a rebase, an amend).

    Then the push is a fast-forward, which needs no force and loses nothing. Only where nobody else
    claimed anything on the remote's line since: else the push is to be rejected.
    """
    repo = store.repo
    name = f"refs/remotes/{cards.config.remote}/{branch}"
    theirs = repo.refs(name).get(name)
    local = repo.branch(branch)
    if branch == cards.config.trunk or theirs is None or local is None:
        return new
    if repo.is_ancestor(theirs, new) or not repo.is_ancestor(local, new):
        return new
    if not store.claims(cards, branch, theirs, f"^{local}") <= store.claims(cards, branch, local):
        return new
    message = f"gitwaves: {branch} was rewritten here; what it was stays in its history\n"
    return repo.commit_tree(repo.require_commit(new).tree, [new, theirs], message)


def publish(store: Store, snapshot: Snapshot) -> None:
    """Pushes the worktrees' branches that are ahead of the remote: what hooks landed offline.

    A push that does not go through is left for the next command: the work is safe here.
    """
    remote = snapshot.cards.config.remote
    if remote is None or store.offline or not store.repo.has_remote(remote):
        return
    refs = store.repo.refs("refs/heads", f"refs/remotes/{remote}")
    for branch in sorted(snapshot.tips):
        local = refs.get(f"refs/heads/{branch}")
        theirs = refs.get(f"refs/remotes/{remote}/{branch}")
        if local and local != theirs and (theirs is None or store.repo.is_ancestor(theirs, local)):
            store.repo.push(remote, f"{local}:refs/heads/{branch}")


# --- what is generated -------------------------------------------------------------------------


def refresh(store: Store, moved: Iterable[Branch] | None = None) -> tuple[Snapshot, Progress]:
    """Brings the live dashboard branch up to date; returns what it shows.

    Args:
        moved: the branches that moved, under the lock that the caller holds, since the last snapshot.

    Raises:
        CycleError: the plan cannot be put in order.
    """
    with store.repo.lock():
        snapshot = store.snapshot() if moved is None else store.after(moved)
        repo = store.repo
        tip = repo.branch(DASHBOARD_BRANCH)
        shown = store.progress(snapshot, local=False)
        files = _live(snapshot, shown)
        if tip is None or not _shows(store, tip, files):
            tree = repo.with_files(repo.empty_tree(), files)
            counts = shown.counts
            subject = f"gitwaves: {counts['done']}/{counts['total'] - counts['cancelled']} done\n"
            new = repo.commit_tree(tree, [tip] if tip else [], subject)
            repo.land(DASHBOARD_BRANCH, new, tip)
        return snapshot, shown


def is_live(store: Store, snapshot: Snapshot) -> bool:
    """Whether the live dashboard branch shows a state, or was never begun."""
    tip = store.repo.branch(DASHBOARD_BRANCH)
    return tip is None or _shows(store, tip, _live(snapshot, store.progress(snapshot, local=False)))


def _live(snapshot: Snapshot, shown: Progress) -> Mapping[str, bytes]:
    """What the live dashboard branch holds."""
    return {
        "DASHBOARD.txt": dashboard(shown).encode("ascii"),
        "LEARNINGS.md": (
            "# Learnings\n\n" + "".join(learnings_lines(snapshot.cards, snapshot.facts))
        ).encode(),
    }


def _shows(store: Store, tip: Oid, files: Mapping[str, bytes]) -> bool:
    return all(store.repo.read(tip, path) == data for path, data in files.items())


def record_on_trunk(store: Store) -> str | None:
    """Commits the dashboard and the compiled learnings on trunk, each landing's own follow-up.

    Not inside the landing: reverts of it and second pull requests conflicted there. Returns what
    kept it from being written (a local change of CLAUDE.md, say): the landing stands all the same,
    and the next one writes it.
    """
    try:
        _record_on_trunk(store)
    except (NotReady, Refused, LostClaim) as error:
        return f"the dashboard on trunk is not renewed: {error.message}"
    return None


def _record_on_trunk(store: Store) -> None:
    with store.repo.lock():
        snapshot = store.snapshot()
        repo = store.repo
        trunk = snapshot.trunk_tip
        shown = store.progress(snapshot, local=False)
        files: dict[str, bytes | Oid | None] = {DASHBOARD_PATH: dashboard(shown).encode("ascii")}
        lines = learnings_lines(snapshot.cards, snapshot.facts)
        for path in snapshot.cards.config.learnings:
            if not _may_hold_learnings(repo, trunk, path):
                continue
            entry = repo.at(trunk, path)
            before = repo.blob(entry.oid) if entry else b""
            text = (before or b"").decode(errors="surrogateescape")
            after = with_learnings(text, lines)
            if after != text:
                files[path] = after.encode(errors="surrogateescape")
        if all(repo.read(trunk, path) == data for path, data in files.items()):
            return
        tree = repo.with_files(repo.require_commit(trunk).tree, files)
        new = repo.commit_tree(tree, [trunk], "gitwaves: dashboard and learnings\n")
        land(store, snapshot.cards, snapshot.trunk, new, trunk)


def _may_hold_learnings(repo: Repo, trunk: Oid, path: str) -> bool:
    """Whether a file can be written there in trunk's tree: over nothing but a regular file."""
    if path.partition("/")[0] == ROOT:
        return False
    parts = path.split("/")
    if {"", ".", ".."}.intersection(parts):
        return False
    above = (repo.at(trunk, "/".join(parts[:end])) for end in range(1, len(parts)))
    entry = repo.at(trunk, path)
    return all(e is None or e.is_tree for e in above) and (
        entry is None or entry.mode.startswith("100")
    )


def needs_of(snapshot: Snapshot, task: TaskId) -> list[TaskId]:
    """The tasks that a task builds on, directly or not, each after what it needs itself."""
    graph = graph_of(snapshot.cards)
    closure = graph.closure([task])
    return [TaskId(t) for t in graph.order() if t in closure and t in snapshot.cards.tasks]
