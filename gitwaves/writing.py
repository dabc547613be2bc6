"""Writing state: state commits, merges whose cards are settled by rule, and the dashboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial

from gitwaves.cards import point_path, task_path, with_tracking
from gitwaves.errors import Conflict, GitError, LostClaim, NotReady, Refused
from gitwaves.git import Entry, Repo
from gitwaves.graph import graph_of
from gitwaves.halves import split
from gitwaves.lessons import learnings_lines, merged_around, section_of, with_learnings
from gitwaves.model import (
    DASHBOARD_BRANCH,
    DASHBOARD_PATH,
    ROOT,
    Branch,
    Cards,
    Oid,
    Progress,
    Status,
    TaskId,
    Tracking,
    Verdict,
    natural,
)
from gitwaves.ranges import Row
from gitwaves.record import Record
from gitwaves.render import dashboard
from gitwaves.state import Facts
from gitwaves.store import Snapshot, Store
from gitwaves.unfinished import finish
from gitwaves.yamlfile import MAX_BYTES


def now() -> str:
    """This moment, as cards say it: RFC 3339, UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def card_path(cards: Cards, node: str) -> str:
    """Where the card of a task or merge point stands."""
    task = cards.tasks.get(TaskId(node))
    return task_path(task.workstream, node) if task else point_path(node)


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
    evidence = fact.tracking.evidence
    if evidence is not None and store.repo.commit(evidence.commit) is not None:

        def records(oid: Oid) -> bool:
            commit = store.repo.require_commit(oid)
            if evidence.commit not in commit.parents or store.repo.code_tree(oid) != evidence.tree:
                return False
            said = store.tracking_at(snapshot.cards, oid, task)
            return said is not None and said.status is Status.DONE and said.evidence == evidence

        # a branch that landed squashed may be gone, and its commits still be here
        if fact.tip is None:
            return evidence.commit
        here = store.repo.commit(fact.tip)
        if here is not None and here.parents == (evidence.commit,) and records(fact.tip):
            return fact.tip  # it is the only commit of that range
        path = snapshot.cards.tasks[task].path
        args = ("--full-history", "--reverse", f"{evidence.commit}..{fact.tip}")
        found = (oid for oid in store.repo.rev_list(*args, paths=[path]) if records(oid))
        return next(found, evidence.commit)
    raise GitError(f"the done commit of {task} is not in this repository", "fetch its branch")


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
    store.repo.land(branch, new, old)


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


def refresh(store: Store) -> tuple[Snapshot, Progress]:
    """Brings the live dashboard branch up to date; returns what it shows.

    Raises:
        CycleError: the plan cannot be put in order.
    """
    with store.repo.lock():
        snapshot = store.snapshot()
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
