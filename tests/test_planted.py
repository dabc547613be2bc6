"""The random test of the laws is one that can fail: mistakes planted in the code are found by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from gitwaves import advancing, claims, facts, merging, plan, state, verifying, writing
from gitwaves.git import Repo, Worktree
from gitwaves.model import ROOT, Branch, Fact, Oid, Run, TaskId, Tracking, Verdict
from gitwaves.record import replace
from gitwaves.steps import run_steps
from gitwaves.store import Snapshot, Store
from tests.histories import Plan, core, histories, live

# A1 + B1 -> MP1 -> B2; A2 needs B1. Without hooks: they run in processes of their own.
SMALL = Plan((2, 2), (0, 0, 2, *(0,) * 6), 3, True, False)
Patch = pytest.MonkeyPatch


def tip_alone(patch: Patch) -> None:
    """State is read from the branch's tip alone."""

    def settle(
        task: str, trunk: Tracking | None, tip: Tracking | None, bases: object
    ) -> tuple[Tracking, bool]:
        del bases
        return tip or trunk or Tracking(task), tip is None

    patch.setattr(facts, "settle", settle)


def no_revert(patch: Patch) -> None:
    """What a branch says counts, whatever was said where the two parted: no revert is seen."""
    patch.setattr(facts, "settle", lambda t, trunk, tip, bases: state.settle(t, trunk, tip, []))


def overlooked(verdict: Verdict) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        def judge(*args: object, **more: object) -> Fact:
            fact = state.judge(*args, **more)  # type: ignore[arg-type]  # handed on as they come
            return replace(fact, verdict=Verdict.HOLDS) if fact.verdict is verdict else fact

        patch.setattr(facts, "judge", judge)

    return plant


def tip_is_taken(patch: Patch) -> None:
    """Merges take the branch's tip for the done commit, and do not look at what it brings."""

    def done_commit(where: Store, snapshot: Snapshot, task: TaskId) -> Oid:
        return snapshot.facts[task].tip or writing.done_commit(where, snapshot, task)

    patch.setattr(merging, "done_commit", done_commit)
    patch.setattr(merging, "require_finished", lambda *_: None)


def reset_hard(patch: Patch) -> None:
    """Landing throws away what is uncommitted."""

    def land(repo: Repo, holder: Worktree, branch: Branch, new: Oid, meanwhile: object) -> None:
        del branch, meanwhile
        repo.git("reset", "-q", "--hard", new, cwd=holder.path)

    patch.setattr(Repo, "_fast_forward", land)


def under_a_checkout(patch: Patch) -> None:
    """Landing moves a reference under the worktree that has it checked out."""

    def land(repo: Repo, holder: Worktree, branch: Branch, new: Oid, meanwhile: object) -> None:
        del holder, meanwhile
        repo.git("update-ref", f"refs/heads/{branch}", new)

    patch.setattr(Repo, "_fast_forward", land)


def carried_over(patch: Patch) -> None:
    """Evidence is bound to a rewritten commit that has another tree."""

    def carry(where: Store, snapshot: Snapshot, branch: Branch, tip: Oid) -> list[object]:
        for task in snapshot.cards.tasks_on(branch):
            fact = snapshot.facts[task]
            evidence = fact.tracking.evidence
            if fact.verdict is Verdict.STALE and not fact.landed and evidence is not None:
                moved = replace(evidence, commit=tip, tree=where.repo.code_tree(tip))
                done = replace(fact.tracking, evidence=moved)
                advancing._record_done(where, snapshot, done, tip, branch, tip)
                break
        return []

    patch.setattr(advancing, "_carry_over", carry)


def gaps_ignored(patch: Patch) -> None:
    """An open gap holds nobody."""
    patch.setattr(plan, "_open_gaps", lambda *_: ())


def cards_as_text(patch: Patch) -> None:
    """Cards are merged as any text is."""

    def settled(where: Store, snapshot: Snapshot, parents: list[Oid], own: object) -> Oid | None:
        del snapshot, own
        merged = where.repo.merge_trees(*parents)
        entry = where.repo.tree(merged.tree).get(ROOT)
        return entry.oid if entry else None

    patch.setattr(writing, "settled_cards", settled)


def failures_pass(patch: Patch) -> None:
    """A step that fails is taken for one that passed."""

    def lenient(*args: object, **more: object) -> object:
        outcome = run_steps(*args, **more)  # type: ignore[arg-type]  # handed on as they come
        runs = tuple(replace(r, exit=0) for r in outcome.runs)
        return replace(outcome, failed=None, runs=runs)

    patch.setattr(verifying, "run_steps", lenient)


def head_is_noted(patch: Patch) -> None:
    """What passes is noted for the commit, whatever lies in the worktree."""

    def candidate(repo: Repo, worktree: Worktree, made: Sequence[str] = ()) -> Oid:
        del made
        return repo.require_commit(worktree.head or Oid("")).tree

    patch.setattr(verifying, "candidate", candidate)


def merged_unverified(patch: Patch) -> None:
    """Merged results land without their steps."""
    passed = (Run("true", 0, 0.1, "sha256:" + "0" * 64),)
    patch.setattr(merging, "verify_merged", lambda *_: passed)


def bare_base(patch: Patch) -> None:
    """A task starts from trunk alone, without the work that it needs."""
    patch.setattr(claims, "needs_of", lambda *_: [])


MISTAKES: dict[str, Callable[[Patch], None]] = {
    "the tip alone": tip_alone,
    "no revert": no_revert,
    "stale": overlooked(Verdict.STALE),
    "unproven": overlooked(Verdict.UNPROVEN),
    "the tip is taken": tip_is_taken,
    "reset --hard": reset_hard,
    "under a checkout": under_a_checkout,
    "another tree": carried_over,
    "gaps": gaps_ignored,
    "cards as text": cards_as_text,
    "failures pass": failures_pass,
    "HEAD is noted": head_is_noted,
    "merged unverified": merged_unverified,
    "bare base": bare_base,
}


# The short form plants those that are most unlike each other.
SHORT = {"the tip alone", "unproven", "reset --hard"}


@pytest.mark.parametrize(
    "mistake",
    [pytest.param(m, marks=[pytest.mark.long] * (m not in SHORT)) for m in MISTAKES],
)
def test_a_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MISTAKES[mistake](monkeypatch)
    with pytest.raises(AssertionError):
        live(SMALL, core(SMALL))


# What chance does not come upon in so many histories: that is what the core is for.
SELDOM = {"the tip is taken", "another tree", "cards as text", "failures pass"}


@pytest.mark.long
@pytest.mark.parametrize("mistake", sorted(MISTAKES.keys() - SELDOM))
def test_a_mistake_is_found_by_chance(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the core, whose deeds were chosen: as many histories as the long form has."""
    MISTAKES[mistake](monkeypatch)
    with pytest.raises(AssertionError):
        histories(40, 30, hooks=False, ends=False)
