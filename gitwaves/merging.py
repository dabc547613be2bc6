"""Merge points: verified work of branches lands on trunk together, as one merge commit."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gitwaves.again import brings, brought_before, inputs_of
from gitwaves.claims import BEGUN, at_work, prepare
from gitwaves.errors import Conflict, GitwavesError, LostClaim, NotReady, Refused
from gitwaves.files import write_file
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
    Progress,
    Run,
    Status,
    Step,
    TaskId,
    Tracking,
    Verdict,
    natural,
)
from gitwaves.ranges import breaches
from gitwaves.receipts import read_json
from gitwaves.rulebook import Rules
from gitwaves.signing import signer_for
from gitwaves.steps import Confirm, Outcome, run_steps
from gitwaves.store import Snapshot, Store, unknown
from gitwaves.trust import require_steps
from gitwaves.unfinished import discard, own
from gitwaves.verifying import log_path
from gitwaves.worktrees import alone, folder_for, scratch
from gitwaves.writing import (
    MergeConflict,
    Side,
    done_commit,
    joined,
    land,
    now,
    only_state,
    record_on_trunk,
    refresh,
    says_more,
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
    resolved = _resolved(store, name) if resume else None
    for _ in range(20):
        snapshot = store.snapshot()
        point = require_point(snapshot, name)
        again = again or (resolved is not None and resolved[1].again)
        _require_open(store, snapshot, point, again)
        steps = snapshot.cards.steps_of(point.id)
        _require_allowed(store.repo, snapshot.cards, [point.id], trust_trunk)
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
            runs = _verify(store, snapshot, point.id, what, steps, merged, confirm)
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
        before = set(store.progress(snapshot).runnable)
        note, shown = _follow_up(store, name, resumed=resume)
        opened = tuple(t for t in shown.runnable if t not in before)
        return Landed(point.id, commit, point.requires, opened, note)
    raise NotReady(f"{store.trunk()[0]} keeps moving", "run the same command again")


def _follow_up(store: Store, name: str, *, resumed: bool) -> tuple[str | None, Progress]:
    """What a landing is followed by; the state then, and what was left undone."""
    notes = [forget(store, name, resumed=resumed), record_on_trunk(store)]
    return "\n".join(filter(None, notes)) or None, store.progress(refresh(store))


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


def _require_allowed(repo: Repo, cards: Cards, nodes: Sequence[str], trust_trunk: bool) -> None:
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
    cards = snapshot.cards
    names = {side.name for side in sides}  # what is taken as well is not half done
    for side in sides:
        task = TaskId(side.name)
        if task not in cards.tasks:
            continue
        branch = cards.branch_of(task)
        for other in cards.tasks:
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
        rules = Rules(store.repo, snapshot.trunk, snapshot.trunk_tip)
        trunk = snapshot.trunk_tip
        for breach in breaches(rules, branch, side.commit, [trunk], trunk):
            raise Refused(
                f"commit {(breach.commit or side.commit)[:10]} of {task}: {breach.message}",
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
            before = Path(resolved[1].path) if resolved else None
            left = [[s.commit, s.name] for s in todo[index + 1 :]]
            taken = [s for s in sides if s not in todo[index:]]
            taken.append(Side(snapshot.trunk_tip, snapshot.trunk))
            raise _left_for_a_person(
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


def _verify(
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
    before: Path | None,
) -> Conflict:
    """Leaves a checkout in which the conflict stands, for `merge --continue`.

    `before`: the one of the conflict before it, which stays until what was resolved there stands in
    the new one.
    """
    repo = store.repo
    path = folder_for(repo, snapshot.cards, f"resolve-{node}")
    if path == before:
        path = path.with_name(f"{path.name}+2")  # no id holds a plus
    if path.exists():
        raise Conflict(
            f"{conflict.message}; {path} is there from an earlier try",
            f"resolve it there and run `gitwaves merge {node} --continue`, "
            f"or start anew after `git worktree remove --force {path}`",
        )
    with alone(repo, path.name), own(repo, path):  # until a person is told of it, it is ours
        repo.add_worktree(path, ours)
        repo.try_git("merge", "--no-commit", "--no-ff", conflict.side.commit, cwd=path)
        _settle_cards_in(
            store, path, settled_cards(store, snapshot, [ours, conflict.side.commit], None)
        )
        for name, data in conflict.compiled.items():
            (path / name).write_bytes(data)
            repo.git("add", "--", name, cwd=path)
        resolution = Resolution(
            node, str(path), ours, conflict.side.commit, conflict.side.name, left, again
        )
        target = _file(repo, node)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, json.dumps(asdict(resolution)).encode())
    if before is not None:
        _clear(repo, before)
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
        forget(store, name, resumed=True)
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
        return (
            held
            if sound and Path(raw["path"]).name.removesuffix("+2") == f"resolve-{name}"
            else None
        )
    except (TypeError, ValueError):
        return None


def forget(store: Store, name: str, *, resumed: bool = False) -> str | None:
    """Removes the checkout of a resolved conflict; says so where it holds what did not land."""
    repo = store.repo
    target = _file(repo, name)
    said: list[str | None] = []
    if (resolution := _waiting(repo, name)) is not None:
        path = Path(resolution.path)
        first = path.with_name(path.name.removesuffix("+2"))
        said = [_clear(repo, each, needed=resumed) for each in dict.fromkeys((first, path))]
    target.unlink(missing_ok=True)
    return "\n".join(filter(None, said)) or None


def _clear(repo: Repo, path: Path, *, needed: bool = True) -> str | None:
    """Removes a checkout that a conflict was resolved in; says so where it holds more than that."""
    if not path.is_dir():
        return None
    left = [] if needed else ["a resolution that was not needed"]
    if (path / ".git").exists():  # else a kill cut its removal short
        changed = repo.paths("diff", "--name-only", "--diff-filter=d", "-z", cwd=path)
        others = repo.paths("ls-files", "--others", "--exclude-standard", "-z", cwd=path)
        left += [p for p in (*changed, *others) if not p.startswith(ROOT + "/")]
    if left:
        return f"{path} is kept: it holds {', '.join(left[:5])}, which did not land"
    discard(repo, path)
    return None


# --- the rest ----------------------------------------------------------------------------------


def rest(
    store: Store, *, trust_trunk: bool = False, confirm: Confirm | None = None
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
            result = _rest_of(store, branch, trust_trunk, confirm)
        except (NotReady, Conflict) as error:
            failed.append(error)
            continue
        except GitwavesError as error:
            failed.append(NotReady(error.message, error.hint))
            continue
        if result is not None:
            landed.append(result)
        with contextlib.suppress(LostClaim, NotReady, Refused, Conflict):  # for the next time
            landed += _words_of(store, branch)
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


def untold(snapshot: Snapshot) -> list[TaskId]:
    """The landed tasks that taught something since, which their branches alone say."""
    return [
        task
        for task in sorted(snapshot.cards.tasks, key=natural)
        if snapshot.facts[task].landed and says_more(snapshot, task)
    ]


def _words_of(store: Store, branch: Branch) -> list[Landed]:
    """Lands what a branch says of its landed tasks, where it holds nothing else any more."""
    repo = store.repo
    snapshot = store.snapshot()
    tip = snapshot.tips.get(branch)
    told = [t for t in untold(snapshot) if snapshot.cards.branch_of(t) == branch]
    base = joined(store, snapshot)
    if not told or tip is None or at_work(snapshot, branch) or not only_state(repo, tip, base):
        return []
    message = f"gitwaves: what {', '.join(told)} taught\n"
    merged = settled_merge(store, snapshot, base, Side(tip, branch), own=None, message=message)
    tree = repo.require_commit(merged).tree
    if tree == repo.require_commit(snapshot.trunk_tip).tree:
        return []
    with repo.lock():
        commit = repo.commit_tree(tree, [snapshot.trunk_tip, merged], message)
        new = merged if base == snapshot.trunk_tip else commit
        land(store, snapshot.cards, snapshot.trunk, new, snapshot.trunk_tip)
    return [Landed(branch, new, tuple(told))]


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
    """Raises where `side` would land work that waits for a merge point, or is not done any more.

    What it holds of a task is what the task says now, and what it said when it was brought in.

    Raises:
        NotReady: names the task.
    """
    repo, taken = store.repo, _taken(snapshot)
    for task in sorted(snapshot.cards.tasks, key=natural):
        fact = snapshot.facts[task]
        said = store.tracking_at(snapshot.cards, side.commit, task)
        held = (fact.tracking, said) if said and said.status is Status.DONE else (fact.tracking,)
        commits = {t.evidence.commit for t in held if t.evidence}
        if not any(
            repo.is_ancestor(c, side.commit) and not repo.is_ancestor(c, snapshot.trunk_tip)
            for c in commits
        ):
            continue
        on_trunk = fact.landed and fact.tracking.status is Status.DONE
        if task in taken and not on_trunk:
            raise NotReady(
                f"{side.name} is built on {task}, which waits for a merge point",
                f"`gitwaves show {task}` says for which; land that one first",
            )
        if not on_trunk and not brings(snapshot, task):
            raise NotReady(
                f"{side.name} is built on {task}, which is not done any more",
                f"`gitwaves show {task}` says why; have it done again first",
            )


def _rest_of(
    store: Store, branch: Branch, trust_trunk: bool, confirm: Confirm | None
) -> Landed | None:
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
        _require_allowed(store.repo, cards, tasks, trust_trunk)
        message = f"gitwaves: land {', '.join(tasks)}\n"
        base = joined(store, snapshot)
        merged = settled_merge(store, snapshot, base, side, own=None, message=message)
        if base != snapshot.trunk_tip:
            tree = store.repo.require_commit(merged).tree
            merged = store.repo.commit_tree(tree, [snapshot.trunk_tip, merged], message)
        code = store.repo.code_tree(merged)
        if verified != code:
            _verify(store, snapshot, branch, f"what {branch} brings", steps, merged, confirm)
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
