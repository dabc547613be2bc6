"""Guardrails: what is wrong with a commit on a branch, by what trunk says.

The hooks, `verify`, `merge`, `check --base` and the server's door all ask here, so that they refuse
the same. `ranges` asks it commit by commit; `rulebook` says what trunk allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gitwaves.cards import WORKSTREAM_FILE, load_tracking, with_tracking
from gitwaves.git import Repo
from gitwaves.halves import split
from gitwaves.model import (
    POINTS_DIR,
    ROOT,
    Branch,
    Evidence,
    Oid,
    Status,
    Tracking,
    natural,
    printable,
)
from gitwaves.record import Record, replace
from gitwaves.rulebook import (
    AT_WORK,
    Rules,
    folder_of_task,
    id_of,
    is_card,
    stream_at,
    tracking_in,
)


class Breach(Record):
    """One thing that a commit may not do: `message` is a sentence that begins with the path."""

    path: str
    message: str
    remedy: str
    owner: str | None = None  # a workstream or a branch: who may change the path
    commit: Oid | None = None  # None: it is not committed yet
    line: int = 1

    def __str__(self) -> str:
        return f"{self.message} (commit {self.commit[:10]})" if self.commit else self.message


class Change(Record):
    """A commit as the guards see it; one that is yet to be made has no `commit`.

    `paths` are those that differ from every parent: of a merge, the rest was somebody else's.
    """

    tree: Oid  # or the commit itself
    parents: tuple[Oid, ...]
    paths: tuple[str, ...]
    commit: Oid | None = None
    tip: Oid | None = None  # of the line that it is on: what stands there is what counts
    lands: bool = True  # on trunk, or aimed at it: there only done work goes

    @staticmethod
    def of(repo: Repo, tree: Oid, parents: Sequence[Oid]) -> Change:
        """A commit that is yet to be made."""
        differing = [set(repo.changed(parent, tree)) for parent in parents]
        return Change(tree, tuple(parents), tuple(sorted(set.intersection(*differing))))


# --- code --------------------------------------------------------------------------------------


def trespasses(
    rules: Rules, branch: Branch, task: str | None, paths: Iterable[str]
) -> list[Breach]:
    """Which of `paths` a worktree's branch may not change; `task` is the card of what is at work."""
    own = rules.narrow(task) if task else None
    found = []
    for path in sorted(paths):
        if path.startswith(ROOT + "/") or rules.shared(path):
            continue
        inside = rules.covers(branch, path)
        if inside and (own is None or own.covers(path)):
            continue
        owner = rules.owner(path)  # which looks at all boundaries
        if inside and task:
            message = f"{printable(path)} is outside the paths of {id_of(task)}"
        else:
            names = " + ".join(w.id for w in rules.streams if w.branch == branch)
            whose = f"belongs to {owner.id}" if owner else "belongs to no workstream"
            message = f"{printable(path)} {whose}, outside the boundary of {names}"
        remedy = (
            f"take it out of the commit; {owner.id if owner else 'who reviews'} changes it, "
            f"or a review on {rules.trunk} widens the boundary"
        )
        found.append(Breach(path, message, remedy, owner.id if owner else None))
    return found


# --- cards -------------------------------------------------------------------------------------


def breaches_of(rules: Rules, branch: Branch | None, change: Change) -> list[Breach]:
    """What one commit may not do on a branch; None: on one that is no worktree's."""
    found: list[Breach] = []
    cards = [p for p in change.paths if p == ROOT or p.startswith(ROOT + "/")]
    if branch is not None:
        working = [
            w for tree in (*change.parents, change.tree) for w in rules.at_work(tree, branch)
        ]
        found += trespasses(rules, branch, working[0][0] if working else None, change.paths)
    for path in cards:
        said = (
            _merged_card(rules, branch, change, path)
            if len(change.parents) > 1
            else (_card(rules, branch, change, path) if branch else _reviewed(rules, change, path))
        )
        found += [said] if said else []
    return [replace(breach, commit=change.commit) for breach in found]


def _halves(repo: Repo, tree: Oid | None, path: str) -> tuple[bytes, bytes] | None:
    data = repo.read(tree, path) if tree else None
    return None if data is None else split(data)


def _first(change: Change) -> Oid | None:
    return change.parents[0] if change.parents else None


def _not_yours(rules: Rules, path: str) -> Breach:
    return Breach(
        path,
        f"{path} is not this worktree's to change: cards are reviewed on {rules.trunk}",
        f"take it out of the commit; change it on {rules.trunk}, by review",
        rules.branch_of(path) or rules.trunk,
    )


def _spec_changed(rules: Rules, path: str) -> Breach:
    return Breach(
        path,
        f"{path}: the spec half changes only on {rules.trunk}, by review",
        f"take it out of the commit; where the spec is wrong, say so: gitwaves gap {id_of(path)} …",
        rules.trunk,
    )


def _card(rules: Rules, branch: Branch, change: Change, path: str) -> Breach | None:
    """What a commit on a worktree's branch may not do to a file under `.workstreams/`."""
    repo = rules.repo
    if rules.branch_of(path) != branch:
        return _not_yours(rules, path)
    before = _halves(repo, _first(change), path)
    after = _halves(repo, change.tree, path)
    if after is None:
        return _spec_changed(rules, path)
    if before is None:  # one that trunk made since: a state commit brings it along
        trunks = _halves(repo, rules.tip, path)
        if trunks is None:
            return _not_yours(rules, path)
        before = trunks[0], b""
    if before[0] != after[0]:
        return _spec_changed(rules, path)
    if before[1] == after[1]:
        return None
    return _tracking(rules, branch, change, path, others=[p for p in change.paths if p != path])


def _reviewed(rules: Rules, change: Change, path: str) -> Breach | None:
    """What a commit on trunk, or on a branch aimed at it, may not do under `.workstreams/`."""
    repo = rules.repo
    first = _first(change)
    if path.endswith("/" + WORKSTREAM_FILE):
        return _rebranched(rules, change, path)
    if not is_card(path):
        return None
    before, after = _halves(repo, first, path), _halves(repo, change.tree, path)
    if after is None:
        if first is None or not _begun(rules, first, path):
            return None
        return Breach(
            path,
            f"{path} was begun, and a card that was begun is not deleted, moved or renamed",
            "keep it, cancel it there (`cancelled: why`) and write a new one",
            rules.branch_of(path) or rules.trunk,
        )
    if before is not None and before[1] == after[1]:
        return None
    return _tracking(rules, None, change, path, others=[])


def _begun(rules: Rules, tree: Oid, path: str) -> bool:
    """Whether a card was begun, as a tree or the tip of its branch has it."""
    branch = rules.branch_of(path)
    tips = []
    if branch is not None:
        refs = rules.repo.refs(f"refs/heads/{branch}", "refs/remotes")
        tips = [
            o
            for n, o in refs.items()
            if n == f"refs/heads/{branch}" or n.split("/", 3)[-1] == branch
        ]
    said = (tracking_in(rules.repo, t, path) for t in (tree, *tips))
    return any(t is not None and t.status is not Status.PLANNED for t in said)


def _rebranched(rules: Rules, change: Change, path: str) -> Breach | None:
    repo, first = rules.repo, _first(change)
    folder = path.split("/")[1]
    if first is None or len(path.split("/")) != 3 or folder == POINTS_DIR:
        return None
    was, now = stream_at(repo, first, folder).branch, stream_at(repo, change.tree, folder).branch
    if was == now:
        return None
    listed = repo.at(first, f"{ROOT}/{folder}")
    names = repo.tree(listed.oid) if listed else {}
    cards = [p for n in sorted(names, key=natural) if folder_of_task(p := f"{ROOT}/{folder}/{n}")]
    begun = next((p for p in cards if _begun(rules, first, p)), None)
    if begun is None:
        return None
    return Breach(
        path,
        f"{path}: the branch of {folder} changes from {was} to {now}, and {id_of(begun)} was begun",
        f"keep `branch: {was}`; new tasks can go into a new workstream",
        rules.trunk,
    )


# --- tracking ----------------------------------------------------------------------------------


def _typed(rules: Rules, path: str, change: Change, why: str) -> Breach:
    data = rules.repo.read(change.tree, path) or b""
    lines = data.split(b"\n")
    status = (n for n, line in enumerate(lines, 1) if line.startswith(b"  status:"))
    name = id_of(path)
    verb = "verify" if rules.branch_of(path) else "merge"
    return Breach(
        path,
        f"{path}: {why}",
        f"take it out of the commit; gitwaves alone writes tracking (`gitwaves {verb} {name}`)",
        rules.branch_of(path) or rules.trunk,
        line=next(status, 1),
    )


def _tracking(
    rules: Rules, branch: Branch | None, change: Change, path: str, others: Sequence[str]
) -> Breach | None:
    """What is wrong with the tracking that a commit gives a card, or None.

    Nothing rests on a claim, so one that was amended together with work passes; `done` stands alone.
    """
    repo = rules.repo
    data = repo.read(change.tree, path) or b""
    spec, half = split(data)
    before = tracking_in(repo, first, path) if (first := _first(change)) else None
    if not half.strip():
        if before is None or before.status is Status.PLANNED:
            return None
        return _typed(rules, path, change, "its tracking half was taken away")
    tracking, findings = load_tracking(half, path, first_line=spec.count(b"\n") + 2)
    if tracking is None:
        why = findings[0].message if findings else "it is no tracking half"
        return replace(
            _typed(rules, path, change, f"its tracking cannot be read: {why}"),
            line=findings[0].line if findings else 1,
        )
    if tracking.task != id_of(path):
        return _typed(rules, path, change, f"its tracking is that of {tracking.task}")
    if branch is None and tracking == Tracking(tracking.task):
        return None  # planned, however it is written
    if with_tracking(data, tracking) != data:
        unfit: str | None = f"`status: {tracking.status}` was not written by gitwaves"
    else:
        unfit = _out_of_place(rules, branch, change, path, tracking, before, others)
    if unfit is None or _stood_before(
        rules, change, path, half
    ):  # a revert, which takes long to see
        return None
    return _typed(rules, path, change, unfit)


def _out_of_place(
    rules: Rules,
    branch: Branch | None,
    change: Change,
    path: str,
    tracking: Tracking,
    before: Tracking | None,
    others: Sequence[str],
) -> str | None:
    """Why what gitwaves wrote has no place in a commit, or None."""
    if tracking.status is Status.DONE:
        if others and tracking.evidence is not None:
            return f"`status: done` in a commit that also changes {others[0]}"
        return _unfitting(rules, branch, change, path, tracking, before)
    landed_at_work = (
        branch is None
        and tracking.status in AT_WORK
        and (tracking.claim is None or change.lands)
        and (change.tip is None or _stands(rules.repo, change.tip, path, tracking))
    )
    if landed_at_work and (owner := rules.branch_of(path)):
        return f"`status: {tracking.status}` belongs on {owner}: only done work lands"
    return None


def written_by_us(card: bytes, path: str) -> bool:
    """Whether the tracking half of a card is, byte for byte, one that gitwaves writes."""
    tracking = load_tracking(split(card)[1], path)[0]
    return tracking is not None and with_tracking(card, tracking) == card


def _stands(repo: Repo, tip: Oid, path: str, tracking: Tracking) -> bool:
    """Whether a card says at the end of a line what it says here: else it was written anew since."""
    last = tracking_in(repo, tip, path)
    said = (tracking.status, tracking.evidence, tracking.claim)
    return last is not None and (last.status, last.evidence, last.claim) == said


def _stood_before(rules: Rules, change: Change, path: str, half: bytes) -> bool:
    repo = rules.repo
    for oid in (
        repo.rev_list("--full-history", *change.parents, paths=[path]) if change.parents else ()
    ):
        if (found := _halves(repo, oid, path)) and found[1] == half:
            return True
    return False


def _unfitting(
    rules: Rules,
    branch: Branch | None,
    change: Change,
    path: str,
    tracking: Tracking,
    before: Tracking | None,
) -> str | None:
    """Why a `done` is not what its evidence says, or None."""
    repo, evidence = rules.repo, tracking.evidence
    if evidence is None:
        return "`status: done` without evidence"
    if why := _hollow(repo, evidence, landing=branch is None):
        return why
    if before and before.status is Status.DONE and before.evidence == evidence:
        return None  # a learning, a gap: what was proven stands
    standing = change.tip is None or _stands(repo, change.tip, path, tracking)
    if not standing:
        return None  # done again since, or rewritten and bound anew
    short = evidence.commit[:10]
    if branch is not None and len(change.parents) == 1:
        if repo.code_tree(change.tree) != evidence.tree:
            return f"its evidence is of other code than this commit holds ({short})"
        if not any(repo.is_ancestor(evidence.commit, p) for p in change.parents):
            return f"its evidence is of the commit {short}, which is not in this branch"
    return _other_spec(rules, branch, change, path, evidence)


def _hollow(repo: Repo, evidence: Evidence, *, landing: bool) -> str | None:
    """What evidence is not worth by itself: no run, a failed one, or a commit that is another."""
    short = evidence.commit[:10]
    if not evidence.runs or any(run.exit for run in evidence.runs):
        return (
            "a step of its evidence failed" if evidence.runs else "no step of its evidence was run"
        )
    if repo.commit(evidence.commit) is None:
        # what a forge squashed may be gone; and a shallow clone knows not what it lacks
        if landing or is_shallow(repo):
            return None
        return f"its evidence is of the commit {short}, which was never here"
    if repo.code_tree(evidence.commit) != evidence.tree:
        return f"its evidence names another code tree than that of the commit {short}"
    return None


def _other_spec(
    rules: Rules, branch: Branch | None, change: Change, path: str, evidence: Evidence
) -> str | None:
    """What changed since is stale, no forgery: any spec that trunk ever had will do."""
    here = (change.tree, *change.parents) if branch is None else ()  # a review changes the spec
    if evidence.spec in rules.digests(path, *here):
        return None
    if rules.once_digest(path, evidence.spec) or is_shallow(rules.repo):
        return None
    return f"its evidence is for a spec that {rules.trunk} never had"


def _merged_card(rules: Rules, branch: Branch | None, change: Change, path: str) -> Breach | None:
    """What of a card in a merge is no parent's and not what settling it by rule gives, or None."""
    repo = rules.repo
    settled = [*change.parents]
    if change.commit is not None:
        settled += repo.merge_bases(rules.tip, change.commit)
    halves = [h for tree in (*settled, rules.tip) if (h := _halves(repo, tree, path)) is not None]
    after = _halves(repo, change.tree, path)
    if not is_card(path):
        return _not_yours(rules, path) if branch is not None else None
    if after is None:
        return _reviewed(rules, change, path) if branch is None else _spec_changed(rules, path)
    if branch is not None and after[0] not in {spec for spec, _ in halves}:
        return _spec_changed(rules, path)
    if after[1] in {half for _, half in halves} or not after[1].strip():
        return None
    tracking = load_tracking(after[1], path)[0]
    why = "its tracking is not what merging its two sides gives"
    data = repo.read(change.tree, path) or b""
    if tracking is None or with_tracking(data, tracking) != data:
        return _typed(rules, path, change, why)
    said = (tracking.status, tracking.evidence, tracking.claim)
    sides = [t for tree in settled if (t := tracking_in(repo, tree, path)) is not None]
    if any(said == (t.status, t.evidence, t.claim) for t in sides):
        return None
    evidence = tracking.evidence
    if (
        tracking.status is Status.DONE
        and evidence is not None
        and any(repo.is_ancestor(evidence.commit, p) for p in change.parents)
        and _hollow(repo, evidence, landing=False) is None
    ):
        return None
    return _typed(rules, path, change, why)


def is_shallow(repo: Repo) -> bool:
    """Whether this clone holds less than the whole history."""
    return repo.git("rev-parse", "--is-shallow-repository") == "true"
