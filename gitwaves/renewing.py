"""Verifying again what is not at work: in a clean checkout, of the branch or of trunk."""

from __future__ import annotations

from collections.abc import Callable

from gitwaves.claims import bring_in, prepare
from gitwaves.errors import NotReady, Refused
from gitwaves.model import Evidence, Status, Verdict
from gitwaves.record import replace
from gitwaves.signing import signer_for
from gitwaves.steps import run_steps
from gitwaves.store import Store, at_work
from gitwaves.trust import require_steps
from gitwaves.verifying import Committed, Verified, log_path, require_inside
from gitwaves.worktrees import folder_for, scratch
from gitwaves.writing import land, now, refresh, state_commit


def renew(
    store: Store,
    name: str,
    *,
    trust_trunk: bool = False,
    confirm: Callable[[str], str | None] | None = None,
) -> Verified:
    """Runs the steps of a stale or unproven task in a clean checkout, and records a pass.

    The checkout is of its branch's tip; of trunk, brought into the branch, once it has landed.

    Raises:
        NotReady: it is not stale or unproven, or another task is at work on its branch.
        Refused: it lacks what it must produce, holds changes outside its boundary, or its branch
            moved meanwhile.
        Untrusted: the steps are not trusted in this clone.
    """
    repo = store.repo
    snapshot = store.snapshot()
    task = snapshot.require_task(name)
    cards = snapshot.cards
    branch = cards.branch_of(task)
    fact = snapshot.facts[task]
    if fact.verdict not in {Verdict.STALE, Verdict.UNPROVEN}:
        raise NotReady(f"{task} is not at work here", f"run `gitwaves start {task}` first")
    if other := at_work(snapshot, branch):
        raise NotReady(f"{branch} is at work on {other}", f"wait until {other} is done")
    steps = cards.tasks[task].verify
    require_steps(repo, cards, [task], setup=True, trust_trunk=trust_trunk)
    tip = snapshot.tips.get(branch)
    if tip is not None and not fact.landed:
        require_inside(snapshot, Committed.of(store, snapshot, task, tip), tip, tracking=False)
    commit = bring_in(store, snapshot, task, tip) if fact.landed or tip is None else tip
    absent = [p for p in cards.tasks[task].produces if repo.at(commit, p.rstrip("/")) is None]
    if absent:
        raise Refused(f"{task} must produce {', '.join(absent)}", f"run `gitwaves start {task}`")
    signer = signer_for(repo, cards.config, snapshot.trunk_tip)
    with scratch(repo, folder_for(repo, cards, f"verify-{task}"), commit) as checkout:
        prepare(repo, cards, checkout)
        outcome = run_steps(steps, checkout, log_path(repo, task), confirm=confirm)
        changed = repo.paths("diff", "--name-only", "-z", "HEAD", cwd=checkout)
    result = Verified(task, outcome, changed=tuple(changed))
    if not result.passed:
        return result
    tree, digest = repo.code_tree(commit), cards.digest(task)
    signature = signer.sign(task, tree, digest, outcome.runs) if signer else None
    done = replace(
        fact.tracking,
        task=task,
        status=Status.DONE,
        finished=now(),
        evidence=Evidence(commit, tree, digest, outcome.runs, signature=signature),
    )
    said = {"Gitwaves-Verified": commit}
    new = state_commit(store, cards, commit, task, done, trunk=snapshot.trunk_tip, trailers=said)
    land(store, cards, branch, new, repo.branch(branch))
    refresh(store)
    return replace(result, done=True)
