"""Merge points: verified work of branches lands on trunk together, as one merge commit."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gitwaves.claims import BEGUN, prepare
from gitwaves.errors import Conflict, GitError, GitwavesError, LostClaim, NotReady, Refused
from gitwaves.git import Entry, Repo
from gitwaves.graph import graph_of
from gitwaves.model import (
    ROOT,
    Branch,
    Cards,
    Evidence,
    MergePoint,
    Oid,
    PointId,
    PointState,
    Run,
    Status,
    Step,
    TaskId,
    Tracking,
    Verdict,
    natural,
)
from gitwaves.receipts import read_json, write_file
from gitwaves.steps import Outcome, run_steps
from gitwaves.store import Snapshot, Store, unknown
from gitwaves.trust import Trust
from gitwaves.verifying import log_path, own_changes, tampered, trespasses
from gitwaves.worktrees import alone, folder_for, scratch
from gitwaves.writing import (
    MergeConflict,
    Side,
    done_commit,
    joined,
    land,
    now,
    record_on_trunk,
    refresh,
    settled_cards,
    settled_merge,
    state_commit,
)


@dataclass(frozen=True, slots=True)
class Landed:
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


@dataclass(frozen=True, slots=True)
class Resolution:
    """A conflict that a person is resolving: which merge, in which checkout."""

    node: str
    path: str
    ours: Oid
    theirs: Oid
    name: str
    left: list[list[str]] = field(default_factory=list)  # commit, name: still to be merged
    again: bool = False


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
        return _merge(store, name, again, resume, trust_trunk)


def _merge(store: Store, name: str, again: bool, resume: bool, trust_trunk: bool) -> Landed:
    verified: tuple[Oid, tuple[Run, ...]] | None = None
    resolved = _resolved(store, name) if resume else None
    for _ in range(20):
        snapshot = store.snapshot()
        point = require_point(snapshot, name)
        again = again or (resolved is not None and resolved[1].again)
        _require_open(store, snapshot, point, again)
        steps = snapshot.cards.steps_of(point.id)
        _require_allowed(store.repo, snapshot.cards, steps, trust_trunk)
        sides, restored = _sides(store, snapshot, point, again)
        require_finished(store, snapshot, sides)
        inputs = tuple(s.commit for s in sides) or tuple(
            e.commit for t in point.requires if (e := snapshot.facts[t].tracking.evidence)
        )
        if again:
            old = store.tracking_at(snapshot.cards, _landing(snapshot, point), point.id)
            inputs = (old.evidence.inputs if old and old.evidence else ()) or inputs
        merged = _merged(store, snapshot, point.id, sides, restored, resolved, again=again)
        code = store.repo.code_tree(merged)
        if verified is None or verified[0] != code:
            runs = _verify(store, snapshot, point.id, f"merge point {point.id}", steps, merged)
            verified = (code, runs)
        evidence = Evidence(merged, code, snapshot.cards.digest(point.id), verified[1], inputs)
        tracking = Tracking(point.id, Status.DONE, finished=now(), evidence=evidence)
        with store.repo.lock():
            if store.trunk()[1] != snapshot.trunk_tip:
                continue  # trunk moved: merge it in, and verify again where the code differs
            try:
                commit = _land_point(store, snapshot, point, merged, tracking)
            except LostClaim:
                continue  # it moved on the remote, and was fetched
        _forget(store, name)
        before = set(store.progress(snapshot).runnable)
        note = record_on_trunk(store)
        shown = store.progress(refresh(store))
        opened = tuple(t for t in shown.runnable if t not in before)
        return Landed(point.id, commit, point.requires, opened, note)
    raise NotReady(f"{store.trunk()[0]} keeps moving", "run the same command again")


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


def _require_allowed(repo: Repo, cards: Cards, steps: Sequence[Step], trust_trunk: bool) -> None:
    """Raises unless the plan lets gitwaves land on trunk, and this clone trusts the steps.

    Raises:
        Refused: trunk is changed by pull request only.
        Untrusted: a step is new.
    """
    if cards.config.merge != "direct":
        raise Refused(
            f"the plan says `merge: {cards.config.merge}`, which gitwaves cannot do yet",
            "land it through your forge, or set `merge: direct` on trunk",
        )
    commands = [s.run for s in (*cards.config.setup, *steps) if s.run]
    Trust(repo.common, repo.clone_id()).require(commands, trust_trunk=trust_trunk)


def _landing(snapshot: Snapshot, point: MergePoint) -> Oid:
    commit = snapshot.facts[point.id].commit
    assert commit is not None, "only a landed merge point is landed again"
    return commit


def _sides(
    store: Store, snapshot: Snapshot, point: MergePoint, again: bool
) -> tuple[list[Side], dict[TaskId, Tracking]]:
    """What a merge point takes: done commits, and what a reverted landing had brought."""
    sides: list[Side] = []
    restored: dict[TaskId, Tracking] = {}
    repo = store.repo
    anew = [t for t in point.requires if _brings(snapshot, t)]
    if again and len(anew) < len(point.requires):  # else all was done again since
        landing = _landing(snapshot, point)
        commit = repo.require_commit(landing)
        before = commit.parents[0]
        # the landed content as a child of what was there before: against trunk, which holds the
        # landing and its revert, this merges as the whole change, not as an empty one
        content = repo.commit_tree(
            commit.tree, [before], f"gitwaves: what {point.id} landed\n",
            author=commit.author, committer=commit.committer,
        )  # fmt: skip
        sides.append(Side(content, str(point.id)))
        for task in snapshot.cards.tasks:
            said = store.tracking_at(snapshot.cards, landing, task)
            was = store.tracking_at(snapshot.cards, before, task)
            if said and said != was and said.status is Status.DONE:
                restored[task] = said
    for task in sorted(point.requires, key=natural):
        if _brings(snapshot, task):
            sides.append(Side(done_commit(store, snapshot, task), str(task)))
            restored.pop(task, None)
    return sides, restored


def _brings(snapshot: Snapshot, task: TaskId) -> bool:
    """Whether a task is done and not on trunk yet."""
    fact = snapshot.facts[task]
    return not fact.landed and fact.verdict is Verdict.HOLDS


def require_finished(store: Store, snapshot: Snapshot, sides: Sequence[Side]) -> None:
    """Raises where a done commit brings what may not land.

    Raises:
        Refused: its tree shows another task at work, or it changed paths outside its boundary.
    """
    cards = snapshot.cards
    for side in sides:
        task = TaskId(side.name)
        if task not in cards.tasks:
            continue
        branch = cards.branch_of(task)
        for other in cards.tasks_on(branch):
            said = store.tracking_at(cards, side.commit, other)
            if said and said.status in BEGUN:
                raise Refused(
                    f"the done commit of {task} holds {other}, which was {said.status} there",
                    f"finish {other}, or take its commits off the branch, then verify {task} again",
                )
        for oid, paths in own_changes(store.repo, snapshot.trunk_tip, side.commit):
            said_of = trespasses(cards, branch, None, paths)
            parents = store.repo.require_commit(oid).parents
            if len(parents) == 1:
                said_of += tampered(store, cards, branch, parents[0], oid, paths)
            if said_of:
                raise Refused(
                    f"commit {oid[:10]} of {task}: {said_of[0]}",
                    f"take it out with `git rebase -i {snapshot.trunk}` on {branch}, "
                    f"then run `gitwaves verify {task}`",
                )


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
    for index, side in enumerate(todo):
        if repo.is_ancestor(side.commit, current):
            continue
        message = f"gitwaves: {node} takes {side.name}\n"
        try:
            current = settled_merge(store, snapshot, current, side, own=None, message=message)
        except MergeConflict as conflict:
            left = [[s.commit, s.name] for s in todo[index + 1 :]]
            taken = [s for s in sides if s not in todo[index:]]
            taken.append(Side(snapshot.trunk_tip, snapshot.trunk))
            raise _left_for_a_person(
                store, snapshot, node, current, conflict, left, taken, again
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


def _verify(
    store: Store, snapshot: Snapshot, node: str, what: str, steps: Sequence[Step], commit: Oid
) -> tuple[Run, ...]:
    """Runs steps on exactly `commit`, in a checkout of its own.

    Raises:
        VerificationFailed: one failed, or changed a file.
    """
    repo = store.repo
    path = folder_for(repo, snapshot.cards, f"merge-{node.replace('/', '-')}")
    with scratch(repo, path, commit) as checkout:
        prepare(repo, snapshot.cards, checkout)
        outcome = run_steps(steps, checkout, log_path(repo, node.replace("/", "-")))
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


# --- conflicts ---------------------------------------------------------------------------------


def _file(repo: Repo, node: str) -> Path:
    return repo.state_dir / "merging" / f"{node}.json"


def _left_for_a_person(
    store: Store,
    snapshot: Snapshot,
    node: str,
    ours: Oid,
    conflict: MergeConflict,
    left: list[list[str]],
    taken: Sequence[Side],
    again: bool,
) -> Conflict:
    """Leaves a checkout in which the conflict stands, for `merge --continue`."""
    repo = store.repo
    path = folder_for(repo, snapshot.cards, f"resolve-{node}")
    if path.exists():
        raise Conflict(
            f"{conflict.message}; {path} is there from an earlier try",
            f"resolve it there and run `gitwaves merge {node} --continue`, "
            f"or start anew after `git worktree remove --force {path}`",
        )
    repo.add_worktree(path, ours)
    repo.try_git("merge", "--no-commit", "--no-ff", conflict.side.commit, cwd=path)
    _settle_cards_in(
        store, path, settled_cards(store, snapshot, [ours, conflict.side.commit], None)
    )
    resolution = Resolution(
        node, str(path), ours, conflict.side.commit, conflict.side.name, left, again
    )
    target = _file(repo, node)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, json.dumps(asdict(resolution)).encode())
    behind = []
    theirs = conflict.side
    for file in conflict.paths[:8]:
        behind.append(f"  {file}")
        for tip, other, names in ((ours, theirs.commit, taken), (theirs.commit, ours, [theirs])):
            args = ("log", "-1", "--no-merges", "--format=%H %h %s", tip, f"^{other}", "--", file)
            oid, _, said = repo.git(*args).partition(" ")
            whose = (s.name for s in names if oid and repo.is_ancestor(Oid(oid), s.commit))
            behind.append(f"    {next(whose, 'before')}: {said or 'not changed there'}")
    return Conflict(
        f"{conflict.message}\n" + "\n".join(behind),
        f"resolve the files in {path}, `git add` them, then run `gitwaves merge {node} --continue`",
    )


def _settle_cards_in(store: Store, path: Path, cards: Oid | None) -> None:
    """Puts settled cards into a checkout's index and folder: a person sees conflicts of code only."""
    repo = store.repo
    repo.git("rm", "-r", "-q", "-f", "--ignore-unmatch", "--", ROOT, cwd=path)
    if cards is None:
        return
    listed = repo.git("ls-tree", "-r", "-z", cards)
    index = "".join(
        entry.replace("\t", f"\t{ROOT}/", 1) + "\0" for entry in listed.split("\0") if entry
    )
    repo.git(
        "update-index", "-z", "--index-info", cwd=path, stdin=index.encode(errors="surrogateescape")
    )
    names = repo.git("ls-files", "-z", "--", ROOT, cwd=path)
    repo.git(
        "checkout-index",
        "-f",
        "-z",
        "--stdin",
        cwd=path,
        stdin=names.encode(errors="surrogateescape"),
    )


def _resolved(store: Store, name: str) -> tuple[Oid, Resolution]:
    """The merge that a person finished in its checkout, as a commit."""
    repo = store.repo
    resolution = _waiting(repo, name)
    if resolution is None:
        raise NotReady(f"no merge of {name} is waiting to go on", f"run `gitwaves merge {name}`")
    path = Path(resolution.path)
    if not path.is_dir():
        _forget(store, name)
        raise NotReady(f"{path} is gone", f"run `gitwaves merge {name}` anew")
    unmerged = [p for p in repo.unmerged(path) if not p.startswith(ROOT + "/")]
    if unmerged:
        raise Conflict(
            f"still in conflict: {', '.join(unmerged)}", f"resolve and `git add` them in {path}"
        )
    snapshot = store.snapshot()
    cards = settled_cards(store, snapshot, [resolution.ours, resolution.theirs], None)
    if repo.unmerged(path):  # of cards: whatever stands in the index for them is not read
        _settle_cards_in(store, path, cards)
    # the index holds what was resolved, whether the person has committed it or not
    entries = repo.tree(Oid(repo.git("write-tree", cwd=path)))
    if cards is not None:
        entries[ROOT] = Entry("40000", cards)
    message = f"gitwaves: {name} takes {resolution.name}, conflicts resolved by hand\n"
    commit = repo.commit_tree(
        repo.write_tree(entries), [resolution.ours, resolution.theirs], message
    )
    return commit, resolution


def _waiting(repo: Repo, name: str) -> Resolution | None:
    """The merge of `name` that waits for a person, as it was noted; None where there is none.

    Only a checkout that was made for it is looked at: it will be removed with all that is in it.
    """
    raw: Any = read_json(_file(repo, name))
    try:
        held = Resolution(**raw)
        sides: list[Any] = [[raw["theirs"], raw["name"]], *raw.get("left", [])]
        oids = [raw["ours"], *(oid for oid, _ in sides)]
        texts = [raw["path"], raw["node"], *(text for _, text in sides)]
        sound = all(re.fullmatch("[0-9a-f]{40,64}", oid) for oid in oids)
        sound = sound and all(isinstance(text, str) for text in texts)
        return held if sound and Path(raw["path"]).name == f"resolve-{name}" else None
    except (TypeError, ValueError):
        return None


def _forget(store: Store, name: str) -> None:
    target = _file(store.repo, name)
    if not target.exists():
        return
    resolution = _waiting(store.repo, name)
    if resolution is not None and Path(resolution.path).is_dir():
        with contextlib.suppress(GitError):
            store.repo.remove_worktree(Path(resolution.path), force=True)
    target.unlink(missing_ok=True)


# --- the rest ----------------------------------------------------------------------------------


def rest(
    store: Store, *, trust_trunk: bool = False
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
            result = _rest_of(store, branch, trust_trunk)
        except (NotReady, Conflict) as error:
            failed.append(error)
            continue
        except GitwavesError as error:
            failed.append(NotReady(error.message, error.hint))
            continue
        if result is not None:
            landed.append(result)
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
    """Raises where `side` would land work that waits for a merge point.

    Raises:
        NotReady: names the task.
    """
    taken = _taken(snapshot)
    for task in sorted(snapshot.cards.tasks, key=natural):
        evidence = snapshot.facts[task].tracking.evidence
        if task not in taken or evidence is None or not _brings(snapshot, task):
            continue
        if store.repo.is_ancestor(evidence.commit, side.commit):
            raise NotReady(
                f"{side.name} is built on {task}, which waits for a merge point",
                f"`gitwaves show {task}` says for which; land that one first",
            )


def _rest_of(store: Store, branch: Branch, trust_trunk: bool) -> Landed | None:
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
        _require_allowed(store.repo, cards, steps, trust_trunk)
        message = f"gitwaves: land {', '.join(tasks)}\n"
        base = joined(store, snapshot)
        merged = settled_merge(store, snapshot, base, side, own=None, message=message)
        if base != snapshot.trunk_tip:
            tree = store.repo.require_commit(merged).tree
            merged = store.repo.commit_tree(tree, [snapshot.trunk_tip, merged], message)
        code = store.repo.code_tree(merged)
        if verified != code:
            _verify(store, snapshot, branch, f"what {branch} brings", steps, merged)
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
