"""Writing state: state commits, merges whose cards are settled by rule, and the dashboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gitwaves.cards import point_path, task_path, with_tracking
from gitwaves.errors import Conflict, GitError, LostClaim, NotReady, Refused
from gitwaves.git import Entry, Repo
from gitwaves.graph import graph_of
from gitwaves.halves import split
from gitwaves.model import (
    DASHBOARD_BRANCH,
    DASHBOARD_PATH,
    ROOT,
    Branch,
    Cards,
    Oid,
    Status,
    TaskId,
    Tracking,
    Verdict,
    natural,
    noted,
)
from gitwaves.render import dashboard
from gitwaves.store import Snapshot, Store
from gitwaves.yamlfile import MAX_BYTES

LEARNINGS_START = "<!-- gitwaves: learnings, compiled from the task cards -->"
LEARNINGS_END = "<!-- gitwaves: end -->"


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
    if evidence is not None and fact.tip is not None:
        path = snapshot.cards.tasks[task].path
        args = ("--full-history", "--reverse", f"{evidence.commit}..{fact.tip}")
        for oid in store.repo.rev_list(*args, paths=[path]):
            commit = store.repo.require_commit(oid)
            if evidence.commit in commit.parents and store.repo.code_tree(oid) == evidence.tree:
                said = store.tracking_at(snapshot.cards, oid, task)
                if said and said.status is Status.DONE and said.evidence == evidence:
                    return oid
        if store.repo.commit(evidence.commit):
            return evidence.commit
    raise GitError(f"the done commit of {task} is not in this repository", "fetch its branch")


@dataclass(frozen=True, slots=True)
class Side:
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
) -> Oid:
    """Merges two commits in memory; cards are settled by rule, never as text.

    The spec half of every card is trunk's, its tracking the reading of section 5 where that is in
    the merged history or belongs to `own`, the branch that is merged into (None: trunk).

    Raises:
        Conflict: the code does not merge; names the files. Nothing was changed.
    """
    repo = store.repo
    merged = repo.merge_trees(ours, theirs.commit)
    conflicts = [p for p in merged.conflicts if not p.startswith(ROOT + "/")]
    if conflicts:
        shown = ", ".join(conflicts[:8]) + (
            f" and {len(conflicts) - 8} more" if len(conflicts) > 8 else ""
        )
        raise MergeConflict(f"{theirs.name} does not merge: {shown}", theirs, tuple(conflicts))
    cards_tree = settled_cards(store, snapshot, [ours, theirs.commit], own)
    entries = repo.tree(merged.tree)
    entries.pop(ROOT, None)
    if cards_tree is not None:
        entries[ROOT] = Entry("40000", cards_tree)
    return repo.commit_tree(repo.write_tree(entries), [ours, theirs.commit], message)


class MergeConflict(Conflict):
    """A merge in memory that a person has to finish."""

    def __init__(self, message: str, side: Side, paths: tuple[str, ...]) -> None:
        super().__init__(message)
        self.side = side
        self.paths = paths


def settled_cards(
    store: Store, snapshot: Snapshot, parents: list[Oid], own: Branch | None
) -> Oid | None:
    """The `.workstreams` tree of a merge: trunk's, with the tracking that the merge brings."""
    repo = store.repo
    top = repo.tree(snapshot.trunk_tip).get(ROOT)
    if top is None:
        return None
    cards = snapshot.cards
    unlanded = [t for t in cards.tasks if t in snapshot.facts and not snapshot.facts[t].landed]
    evidence = {
        t: e.commit for t in unlanded if (e := snapshot.facts[t].tracking.evidence) is not None
    }
    missing = repo.missing_from(evidence.values(), parents) if evidence else set()
    changes: dict[str, bytes | Oid | None] = {}
    for task in unlanded:
        fact = snapshot.facts[task]
        mine = own is not None and cards.branch_of(task) == own
        proven = fact.verdict is Verdict.HOLDS and evidence.get(task) not in missing
        if not (mine or proven):
            continue
        path = cards.tasks[task].path
        data = repo.read(snapshot.trunk_tip, path)
        if data is None:
            continue
        written = (repo.at(parent, path) for parent in parents)
        changes[path.removeprefix(ROOT + "/")] = next(
            (e.oid for e in written if e and _says(store, e, path, data, fact.tracking)), None
        ) or with_tracking(data, fact.tracking)
    return repo.with_files(top.oid, changes) if changes else top.oid


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
    remote = cards.config.remote
    if remote is not None and not store.offline:
        new = _on_top_of(store, cards, branch, new)
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


def learnings_of(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """Every learning once: task, the verified commit (short, or empty), text."""
    found: dict[str, tuple[str, str, str]] = {}
    for task in sorted(snapshot.cards.tasks, key=natural):
        fact = snapshot.facts.get(task)
        if fact is None:
            continue
        evidence = fact.tracking.evidence
        for text in fact.tracking.learnings:
            key = " ".join(text.lower().split())
            found.setdefault(
                key, (task, evidence.commit[:10] if evidence else "", " ".join(text.split()))
            )
    return list(found.values())


def learnings_lines(snapshot: Snapshot) -> str:
    """The compiled learnings as Markdown; no text in them can end the section, or hide the rest."""
    return "".join(
        f"- {_uncommented(noted(text))} ({task}{f', {oid}' if oid else ''})\n"
        for task, oid, text in learnings_of(snapshot)
    )


def _uncommented(text: str) -> str:
    return text.replace("<!--", "&lt;!--").replace("-->", "--&gt;")


def with_learnings(text: str, lines: str) -> str:
    """`text` with its marked section compiled anew; nothing outside the markers is touched."""
    section = f"{LEARNINGS_START}\n{lines}{LEARNINGS_END}\n"
    start = text.find(LEARNINGS_START)
    end = text.find(LEARNINGS_END, start)
    if start >= 0 and end >= 0:
        return text[:start] + section + text[end + len(LEARNINGS_END) :].removeprefix("\n")
    if not lines:
        return text
    return text + ("\n" if text and not text.endswith("\n\n") else "") + section


def refresh(store: Store) -> Snapshot:
    """Brings the live dashboard branch up to date; returns the state that it shows.

    Raises:
        CycleError: the plan cannot be put in order.
    """
    with store.repo.lock():
        snapshot = store.snapshot()
        shown = store.progress(snapshot, local=False)
        files: dict[str, bytes | Oid | None] = {
            "DASHBOARD.txt": dashboard(shown).encode("ascii"),
            "LEARNINGS.md": ("# Learnings\n\n" + learnings_lines(snapshot)).encode(),
        }
        repo = store.repo
        tip = repo.branch(DASHBOARD_BRANCH)
        if tip is None or any(repo.read(tip, path) != data for path, data in files.items()):
            tree = repo.with_files(repo.empty_tree(), files)
            counts = shown.counts
            subject = f"gitwaves: {counts['done']}/{counts['total'] - counts['cancelled']} done\n"
            new = repo.commit_tree(tree, [tip] if tip else [], subject)
            repo.land(DASHBOARD_BRANCH, new, tip)
        return snapshot


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
        lines = learnings_lines(snapshot)
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
