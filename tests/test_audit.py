"""`audit`: what is said to be done and was not, tried in every way that we could think of."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gitwaves import auditing, remaining
from gitwaves.advancing import advance
from gitwaves.auditing import Audited, Outcome
from gitwaves.cards import with_tracking
from gitwaves.model import Evidence, Oid, Run, Status, Tracking
from gitwaves.record import replace
from gitwaves.render import show_text, status_text
from gitwaves.renewing import renew
from gitwaves.resources import schema_text
from gitwaves.verifying import verify
from tests.landing import Plan, planned
from tests.repo import Repo

NOWHERE = Oid("ab" * 20)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The plan, of which nothing is begun."""
    return planned(tmp_path / "repo", shared_paths="[shared.txt]")


@pytest.fixture
def ready(plan: Plan) -> Plan:
    """A1 and B1 are done, on their branches."""
    plan.do("A1")
    plan.do("B1")
    return plan


def card(task: str) -> str:
    folder = f"WS-{task[0]}" if not task.startswith("MP") else "merge-points"
    return f".workstreams/{folder}/{task}.yaml"


def audited(plan: Plan, *names: str) -> dict[str, Audited]:
    store = plan.store
    return {a.id: a for a in auditing.audit(store, store.snapshot(), names)}


def outcomes(plan: Plan) -> dict[str, str]:
    """Of each piece of evidence: the outcome, and the state where that is not `done`."""
    return {
        a.id: str(a.outcome) + (f", {a.state}" if a.state != "done" else "")
        for a in audited(plan).values()
    }


def again(plan: Plan, *names: str) -> dict[str, Audited]:
    """Audited, with the steps run again."""
    store = plan.store
    snapshot = store.snapshot()
    found = auditing.audit(store, snapshot, names)
    return {a.id: a for a in auditing.rerun(store, snapshot, found, jobs=2, trust_trunk=True)}


def forge(repo: Repo, task: str, said: Tracking, *extra: str) -> None:
    """Writes tracking into a card by hand, and commits it past all hooks."""
    path = repo.path / card(task)
    path.write_bytes(with_tracking(path.read_bytes(), said))
    repo.git("add", card(task), *extra)
    repo.git("commit", "-q", "-n", "-m", f"gitwaves: {task} done")


def fake(plan: Plan, task: str, rev: str, **other: Any) -> Tracking:
    """Tracking that says `task` was verified on `rev`, right in all that `other` does not say."""
    store = plan.store
    cards = store.snapshot().cards
    commit = store.repo.resolve(rev)
    assert commit is not None
    runs = tuple(Run(s.run or "", 0, 0.1, "sha256:00") for s in cards.steps_of(task))
    proof = Evidence(commit, store.repo.code_tree(commit), cards.digest(task), runs)
    held = plan.fact(task).tracking
    return replace(held, status=Status.DONE, evidence=replace(proof, **other))


def everything(repo: Repo) -> tuple[str, ...]:
    """All that an audit must leave as it is: references, worktrees, the state of the checkout."""
    asked = (("for-each-ref",), ("worktree", "list"), ("status", "--porcelain"))
    return tuple(repo.git(*args) for args in asked)


# --- what holds --------------------------------------------------------------------------------


def test_what_was_done_holds_from_branch_to_trunk(ready: Plan) -> None:
    assert outcomes(ready) == {"A1": "holds", "B1": "holds"}
    ready.merge()
    worktree = ready.do("A2")
    worktree.commit("One more", **{"a/more.txt": "x\n"})  # the branch goes on
    assert outcomes(ready) == {"A1": "holds", "A2": "holds", "B1": "holds", "MP1": "holds"}
    remaining.rest(ready.store, trust_trunk=True)
    assert outcomes(ready) == {"A1": "holds", "A2": "holds", "B1": "holds", "MP1": "holds"}
    before = everything(ready.repo)
    found = again(ready)
    assert {a.outcome for a in found.values()} == {Outcome.HOLDS}
    assert all(a.rerun and a.rerun.runs and not a.rerun.error for a in found.values())
    assert everything(ready.repo) == before
    assert not list(ready.repo.path.parent.glob("repo.worktrees/audit-*"))


def test_work_that_was_reverted_claims_nothing_and_holds_again(ready: Plan) -> None:
    landing = ready.merge()
    ready.repo.git("revert", "-m", "1", "--no-edit", landing)
    assert outcomes(ready) == {}
    ready.merge(again=True)
    assert outcomes(ready) == {"A1": "holds", "B1": "holds", "MP1": "holds"}


def test_evidence_that_was_carried_over_or_made_anew_holds(ready: Plan) -> None:
    worktree = ready.repo.at("../repo.worktrees/ws-A")
    worktree.git("reset", "-q", "--hard", "HEAD~1")
    worktree.git("commit", "-q", "--amend", "-m", "In better words")
    advance(ready.store)
    assert outcomes(ready)["A1"] == "holds"
    ready.repo.commit("Elsewhere", **{"other.txt": "x\n"})
    worktree.git("rebase", "-q", "main")
    found = audited(ready)["A1"]
    assert (found.outcome, found.state) == (Outcome.FALSE, "stale")
    assert "was rewritten away" in found.reason
    renew(ready.store, "A1", trust_trunk=True)
    assert outcomes(ready)["A1"] == "holds"


def test_a_done_commit_that_was_amended_is_written_again(ready: Plan) -> None:
    worktree = ready.repo.at("../repo.worktrees/ws-A")
    worktree.write("a/late.txt", "x\n")
    worktree.git("add", "-A")
    worktree.git("commit", "-q", "--amend", "--no-edit")
    assert "no done commit stands on" in audited(ready)["A1"].reason
    amended = ready.repo.oid("ws/A")
    receipts = ready.store.repo.state_dir / "receipts"
    receipts.rename(receipts.with_name("lost"))  # as on another machine
    advance(ready.store)
    assert ready.repo.oid("ws/A") == amended
    refused = ready.repo.gw("--trust-trunk", "merge", "MP1")
    assert "the done commit of A1 was rewritten" in refused.err
    receipts.with_name("lost").rename(receipts)
    assert [one.task for one in advance(ready.store)] == ["A1"]
    assert advance(ready.store) == []
    assert worktree.git("status", "--porcelain") == ""
    assert outcomes(ready)["A1"] == "holds"
    ready.merge()
    assert "late.txt" not in ready.repo.git("ls-tree", "-r", "--name-only", "main")
    assert outcomes(ready)["A1"] == "holds"


def test_a_spec_that_changed(ready: Plan) -> None:
    """What landed was for the spec of then; what has yet to land is for a spec that is no more."""
    ready.merge()
    ready.do("A2")
    for task in ("A1", "A2"):
        text = ready.repo.read(card(task))
        ready.repo.write(card(task), text.replace("spec: Write", "spec: Write well"))
    ready.repo.commit("Other specs")
    found = audited(ready)
    assert (found["A1"].outcome, found["A1"].state) == (Outcome.HOLDS, "stale")
    assert found["A1"].notes == ("the spec changed since it landed",)
    assert (found["A2"].outcome, found["A2"].state) == (Outcome.FALSE, "stale")
    assert found["A2"].reason == "the spec changed since it was verified"
    assert again(ready, "A1")["A1"].notes[-1] == "not run again: `gitwaves verify A1` does"


# --- what does not -----------------------------------------------------------------------------

Forger = Callable[[Plan, Repo], Tracking]


def by_hand(plan: Plan, worktree: Repo) -> Tracking:
    return Tracking("A1", Status.DONE)


def no_such_commit(plan: Plan, worktree: Repo) -> Tracking:
    return fake(plan, "A1", "ws/A", commit=NOWHERE)


def other_tree(plan: Plan, worktree: Repo) -> Tracking:
    return fake(plan, "A1", "ws/A", tree=NOWHERE)


def of_another_task(plan: Plan, worktree: Repo) -> Tracking:
    return replace(plan.tracking("B1", "ws/B"), task="A1")


def of_another_task_untouched(plan: Plan, worktree: Repo) -> Tracking:
    return plan.tracking("B1", "ws/B")


def of_another_task_mended(plan: Plan, worktree: Repo) -> Tracking:
    """The commit and tree of real work, made to fit this card in all else."""
    worktree.git("merge", "-q", "--no-edit", "ws/B")
    return fake(plan, "A1", plan.tracking("B1", "ws/B").evidence.commit)  # type: ignore[union-attr]


def another_exit(plan: Plan, worktree: Repo) -> Tracking:
    return fake(plan, "A1", "ws/A", runs=(Run("test -f a/a1.txt", 1, 0.1, "sha256:00"),))


def other_steps(plan: Plan, worktree: Repo) -> Tracking:
    return fake(plan, "A1", "ws/A", runs=(Run("true", 0, 0.1, "sha256:00"),))


def fewer_steps(plan: Plan, worktree: Repo) -> Tracking:
    return fake(plan, "A1", "ws/A", runs=())


def with_code(plan: Plan, worktree: Repo) -> Tracking:
    worktree.write("a/slipped-in.txt", "x\n")
    return fake(plan, "A1", "ws/A")


def elsewhere(plan: Plan, worktree: Repo) -> Tracking:
    """A commit that was made aside, and is in no history of the task."""
    tree = worktree.git("rev-parse", "HEAD^{tree}")
    return fake(plan, "A1", worktree.git("commit-tree", "-m", "aside", tree))


FORGED: dict[Forger, tuple[str, str]] = {
    by_hand: ("unproven", "done without evidence"),
    no_such_commit: ("unproven", "is not in this repository"),
    other_tree: ("unproven", "does not have the code tree it claims"),
    of_another_task: ("unproven", "is for a spec that main never had"),
    of_another_task_untouched: ("unproven", "its tracking is that of B1"),
    of_another_task_mended: ("done", "no done commit stands on"),
    another_exit: ("unproven", "a step of its evidence failed"),
    other_steps: ("unproven", "step 1 is recorded as 'true', and is 'test -f a/a1.txt'"),
    fewer_steps: ("unproven", "no step of its evidence was run"),
    with_code: ("done", "no done commit stands on"),
    elsewhere: ("stale", "was rewritten away"),
}


@pytest.mark.parametrize("forger", FORGED, ids=lambda f: f.__name__)
def test_what_is_forged_on_a_branch_does_not_hold(plan: Plan, forger: Forger) -> None:
    plan.do("B1")
    worktree = plan.start("A1")  # a/a1.txt is never written
    said = forger(plan, worktree)
    forge(worktree, "A1", said, "a") if forger is with_code else forge(worktree, "A1", said)
    state, reason = FORGED[forger]
    found = audited(plan)
    assert found["A1"].outcome is Outcome.FALSE
    assert (found["A1"].state, reason in found["A1"].reason) == (state, True), found["A1"]
    assert found["B1"].outcome is Outcome.HOLDS
    states = plan.states()
    assert states["A1"] == state
    if state != "done":
        assert (states["A2"], states["MP1"]) == ("blocked", "blocked")
        shown = plan.store.progress()
        assert found["A1"].reason in status_text(shown).partition("NOT PROVEN")[2]
        assert found["A1"].reason in show_text(shown, "A1")


def test_a_perfect_forgery_is_found_by_running_it_again(plan: Plan) -> None:
    worktree = plan.start("A1")
    worktree.commit("Some work", **{"a/other.txt": "x\n"})
    forge(worktree, "A1", fake(plan, "A1", "ws/A"))
    assert outcomes(plan) == {"A1": "holds"}
    found = again(plan)["A1"]
    assert found.outcome is Outcome.FALSE
    assert found.reason == f"`test -f a/a1.txt` exits 1 on {plan.repo.oid('ws/A~1')[:10]}"


def test_evidence_that_was_edited_after_it_was_recorded(plan: Plan) -> None:
    worktree = plan.do("A1")
    held = plan.fact("A1").tracking
    assert held.evidence is not None
    longer = replace(held.evidence.runs[0], seconds=99.0)
    forge(worktree, "A1", replace(held, evidence=replace(held.evidence, runs=(longer,))))
    assert "no done commit stands on" in audited(plan)["A1"].reason


def test_work_that_changed_nothing_is_noted(plan: Plan) -> None:
    worktree = plan.start("A1")
    forge(worktree, "A1", fake(plan, "A1", "ws/A"))
    assert audited(plan)["A1"].notes == ("nothing was changed for it",)


def test_what_was_to_be_produced_must_be_there(plan: Plan) -> None:
    text = plan.repo.read(card("A1"))
    head, mark, rest = text.partition("# --- tracking")
    plan.repo.write(card("A1"), f"{head}produces: [a/made.txt]\n{mark}{rest}")
    plan.repo.commit("What it makes")
    worktree = plan.start("A1")
    worktree.commit("Some work", **{"a/a1.txt": "x\n"})
    forge(worktree, "A1", fake(plan, "A1", "ws/A"))
    assert audited(plan)["A1"].reason == "the verified commit does not hold a/made.txt"


@pytest.mark.parametrize("forger", [by_hand, of_another_task, other_tree, other_steps])
def test_what_is_forged_on_trunk_does_not_hold(ready: Plan, forger: Forger) -> None:
    """A card of a task that nobody began, edited by who may write on trunk."""
    ready.merge()
    forge(ready.repo, "A2", replace(_for_a2(ready, forger), task="A2"))
    found = audited(ready)["A2"]
    assert (found.outcome, found.state, found.landed) == (Outcome.FALSE, "unproven", True)
    assert ready.states()["B2"] == "runnable"  # needs A1 and B1
    assert audited(ready)["A1"].outcome is Outcome.HOLDS


def _for_a2(plan: Plan, forger: Forger) -> Tracking:
    said = forger(plan, plan.repo)
    if forger in (other_tree, other_steps):
        assert said.evidence is not None
        digest = plan.snapshot.cards.digest("A2")
        return replace(said, evidence=replace(said.evidence, spec=digest))
    return said


def test_evidence_on_trunk_for_a_commit_that_never_was(plan: Plan) -> None:
    """It might be a squash, and is told from one by running the steps on what landed it."""
    forge(plan.repo, "A1", fake(plan, "A1", "main", commit=NOWHERE))
    assert outcomes(plan) == {"A1": "not checkable here"}
    found = again(plan)["A1"]
    assert found.outcome is Outcome.FALSE
    assert found.rerun is not None
    assert found.rerun.commit == plan.repo.oid("main")


def test_evidence_on_trunk_that_no_landing_brought(ready: Plan) -> None:
    ready.merge()
    forge(ready.repo, "A2", fake(ready, "A2", "main"))
    assert "holds" in outcomes(ready)["A2"]  # a done commit by hand, right in everything
    ready.repo.git("reset", "-q", "--hard", "HEAD~1")
    forge(ready.repo, "A2", fake(ready, "A2", "main~1"))
    assert "no done commit stands on" in audited(ready)["A2"].reason


def test_forged_merge_points(ready: Plan) -> None:
    evidence = fake(ready, "MP1", "main", inputs=(Oid(ready.repo.oid("ws/A")),)).evidence
    assert evidence is not None
    forge(ready.repo, "MP1", Tracking("MP1", Status.DONE))
    assert audited(ready)["MP1"].reason == "done without evidence"
    assert ready.states()["C1"] == "blocked"
    assert "done without evidence" in ready.repo.gw_ok("status").out
    stale = Tracking("MP1", Status.DONE, evidence=replace(evidence, spec="sha256:" + "0" * 64))
    forge(ready.repo, "MP1", stale)
    assert "is for a spec that main never had" in audited(ready)["MP1"].reason
    assert ready.states()["C1"] == "blocked"
    forge(ready.repo, "MP1", Tracking("MP2", Status.DONE, evidence=evidence))
    assert audited(ready)["MP1"].reason == "its tracking is that of MP2"
    assert ready.states()["C1"] == "blocked"
    took = replace(fake(ready, "MP1", "main"), task="MP1")
    assert took.evidence is not None
    inputs = tuple(Oid(ready.repo.oid(b)) for b in ("ws/A", "ws/B"))
    forge(ready.repo, "MP1", replace(took, evidence=replace(took.evidence, inputs=inputs)))
    said = audited(ready)["MP1"]
    assert said.outcome is Outcome.FALSE
    assert said.reason.startswith("it says that it took ")
    ready.repo.git("reset", "-q", "--hard", "HEAD~4")
    ready.merge()
    assert set(outcomes(ready).values()) == {"holds"}


# --- what is doubted opens nothing ---------------------------------------------------------------


@pytest.mark.parametrize("state", ["unproven", "stale"])
def test_what_is_doubted_is_taken_by_nothing(ready: Plan, state: str) -> None:
    if state == "stale":
        text = ready.repo.read(card("A1"))
        ready.repo.write(card("A1"), text.replace("spec: Write", "spec: Write well"))
        ready.repo.commit("Another spec")
    else:
        forge(ready.repo.at("../repo.worktrees/ws-A"), "A1", Tracking("A1", Status.DONE))
    reason = audited(ready)["A1"].reason
    assert ready.states() == {
        "A1": state, "A2": "blocked", "B1": "done", "B2": "blocked", "C1": "blocked",
        "MP1": "blocked",
    }  # fmt: skip
    shown = ready.repo.gw_ok("status").out
    assert f"NOT PROVEN\n  A1  {state}  {reason}\n" in shown
    (task,) = (t for t in json.loads(ready.repo.gw_ok("status", "--json").out)["tasks"][:1])
    assert (task["state"], task["reason"]) == (state, reason)
    assert f"{state}: {reason}\n" in ready.repo.gw_ok("show", "A1").out
    assert "A2" not in ready.repo.gw_ok("next").out
    trunk = ready.repo.oid("main")
    for args in (("start", "A2"), ("start", "B2"), ("merge", "MP1")):
        done = ready.repo.gw("--trust-trunk", *args)
        assert (done.code, "waits for" in done.err) == (1, True), done
    assert ready.repo.gw_ok("--trust-trunk", "merge", "--rest").out == "nothing is left to land\n"
    assert ready.repo.oid("main") == trunk


def test_evidence_of_another_task_opens_no_batch(tmp_path: Path) -> None:
    """As stale evidence does: it was true of what trunk asked for then."""
    plan = planned(tmp_path / "repo")
    for task in ("A1", "B1", "A2", "B2", "C1"):
        batch = "1" if task in ("A1", "B1") else "2"
        text = plan.repo.read(card(task)).replace("depends_on: [MP1]", "depends_on: []")
        plan.repo.write(card(task), text.replace("spec:", f"batch: {batch}\nspec:"))
    plan.repo.commit("Two batches")
    plan.do("B1")
    worktree = plan.start("A1")
    forge(worktree, "A1", of_another_task(plan, worktree))
    assert (plan.states()["A1"], plan.states()["C1"]) == ("unproven", "blocked")
    worktree.git("reset", "-q", "--hard", "HEAD~1")
    plan.finish(worktree, "A1")
    assert plan.states()["C1"] == "runnable"
    text = plan.repo.read(card("A1"))
    plan.repo.write(card("A1"), text.replace("spec: Write", "spec: Write well"))
    plan.repo.commit("Another spec")
    assert (plan.states()["A1"], plan.states()["C1"]) == ("stale", "runnable")


def test_what_is_held_waits_for_the_gap_or_another_spec(ready: Plan) -> None:
    ready.repo.gw_ok("gap", "B1", "Cents or euros?", "--affects", "A2,C1")
    assert ready.states()["A2"] == ready.states()["C1"] == "held"
    shown = ready.repo.gw_ok("status").out
    assert 'SPEC GAPS      1 open: B1 holds A2 C1 ("Cents or euros?")\n' in shown
    assert "B1 holds A2: Cents or euros?" in ready.repo.gw_ok("show", "A2").out
    assert "A2" not in ready.repo.gw_ok("next").out
    refused = ready.repo.gw("--trust-trunk", "start", "A2")
    assert refused.err.startswith("Error: A2 is held: it waits for gap B1\n")
    text = ready.repo.read(card("A2"))
    ready.repo.write(card("A2"), text.replace("spec: Write", "spec: With cents, write"))
    ready.repo.commit("Answered in the spec")
    assert (ready.states()["A2"], ready.states()["C1"]) == ("runnable", "held")
    ready.repo.gw_ok("gap", "B1", "--resolve")
    assert ready.states()["C1"] == "blocked"


# --- what cannot be checked --------------------------------------------------------------------


@pytest.mark.parametrize("kept", [True, False], ids=["branch kept", "branch gone"])
def test_a_squash_is_not_checkable_and_not_false(ready: Plan, tmp_path: Path, kept: bool) -> None:
    ready.repo.git("merge", "-q", "--squash", "ws/A")
    ready.repo.commit("Everything of A (#1)")
    here = ready
    if not kept:
        path = tmp_path / "other"
        here = Plan(Repo.clone(ready.repo, path, "--single-branch", "--no-local"))
    assert outcomes(here)["A1"] == "not checkable here"
    assert "landed by a squash or a rebase" in audited(here)["A1"].reason
    assert here.states()["A1"] == "done"
    done = here.repo.gw("audit", "A1")
    assert (done.code, done.err) == (0, "")
    found = again(here, "A1")["A1"]
    assert found.outcome is Outcome.HOLDS  # now it was
    assert found.rerun is not None
    squash = here.repo.oid("main")
    assert (found.rerun.commit == squash) == (not kept)


def test_a_shallow_clone_is_not_checkable_and_not_false(ready: Plan, tmp_path: Path) -> None:
    ready.merge()
    ready.repo.commit("Work goes on, and breaks A1")
    shallow = cloned(ready, tmp_path / "shallow", "--depth", "1")
    assert set(outcomes(shallow).values()) == {"not checkable here"}
    assert "shallow" in audited(shallow)["A1"].reason
    assert shallow.repo.gw("audit").code == 0
    assert again(shallow)["A1"].outcome is Outcome.HOLDS
    ready.repo.git("rm", "-q", "a/a1.txt")
    ready.repo.commit("A1 is not wanted any more")
    later = cloned(ready, tmp_path / "later", "--depth", "1")
    found = again(later)["A1"]  # the commit that stands in proves nothing
    assert found.outcome is Outcome.UNCHECKABLE
    assert "`test -f a/a1.txt` exits 1" in found.reason
    branches = cloned(ready, tmp_path / "branches", "--depth", "1", "--no-single-branch")
    assert "does not hold" not in branches.repo.gw("audit").out


def cloned(plan: Plan, path: Path, *options: str) -> Plan:
    """A clone over a transport, which alone makes shallow ones."""
    plan.repo.git("clone", "-q", *options, f"file://{plan.repo.path}", str(path))
    return Plan(Repo(path))


# --- the command -------------------------------------------------------------------------------


def test_the_command_says_all_of_it(ready: Plan) -> None:
    forge(ready.repo, "C1", Tracking("C1", Status.DONE))
    done = ready.repo.gw("audit")
    assert (done.code, done.err) == (1, "")
    assert done.out == (
        "A1  holds\n"
        "B1  holds\n"
        "C1  does not hold (unproven)  done without evidence\n"
        "\n"
        "2 hold, 1 does not hold\n"
    )
    assert ready.repo.gw("audit", "A1", "B1").code == 0
    said = ready.repo.gw("audit", "--json")
    value = json.loads(said.out)
    Draft202012Validator(json.loads(schema_text("audit.schema.json"))).validate(value)
    assert value["counts"] == {"holds": 2, "does_not_hold": 1, "not_checkable": 0}
    assert [e["outcome"] for e in value["evidence"]] == ["holds", "holds", "does_not_hold"]
    assert said.code == 1


def test_nothing_to_audit(plan: Plan) -> None:
    done = plan.repo.gw_ok("audit")
    assert done.out == "nothing claims to be done: there is no evidence to audit\n"
    usage = plan.repo.gw("audit", "a1")
    assert (usage.code, "did you mean A1?" in usage.err) == (2, True)
    idle = plan.repo.gw("audit", "A1")
    assert idle.code == 1
    assert idle.err.startswith("Error: A1 does not claim to be done: it has nothing to audit\n")


def test_rerun_asks_for_trust_then_shows_how_it_goes(ready: Plan) -> None:
    before = everything(ready.repo)
    asked = ready.repo.gw("audit", "--rerun")
    assert asked.code == 1
    assert asked.err.startswith("Error: this clone does not trust commands yet:\n")
    assert not list((ready.store.repo.state_dir / "logs").glob("*/audit.log"))
    done = ready.repo.gw("--trust-trunk", "audit", "--rerun", "--json")
    assert done.code == 0
    lines = sorted(line.partition("] ")[2] for line in done.err.splitlines())
    assert [line.split() for line in lines] == [["A1", "holds"], ["B1", "holds"]]
    value = json.loads(done.out)
    Draft202012Validator(json.loads(schema_text("audit.schema.json"))).validate(value)
    steps = [e["rerun"]["steps"] for e in value["evidence"]]
    assert [(s["run"], s["exit"], s["recorded"]) for (s,) in steps] == [
        ("test -f a/a1.txt", 0, 0),
        ("test -f b/b1.txt", 0, 0),
    ]
    assert everything(ready.repo) == before


def test_a_step_that_passes_now_and_is_recorded_otherwise(ready: Plan) -> None:
    worktree = ready.repo.at("../repo.worktrees/ws-A")
    worktree.git("reset", "-q", "--hard", "HEAD~1")
    forge(worktree, "A1", another_exit(ready, worktree))
    found = again(ready, "A1")["A1"]
    assert found.outcome is Outcome.FALSE
    assert found.notes == ("`test -f a/a1.txt` exits 0 now, and 1 is recorded",)


def test_setup_runs_in_the_checkout_and_its_failure_is_no_pass(tmp_path: Path) -> None:
    plan = planned(tmp_path / "repo", setup="[{run: touch ready}]")
    plan.repo.write(".gitignore", "ready\n")
    text = plan.repo.read(card("A1"))
    plan.repo.write(card("A1"), text.replace("run: test -f", "run: test -f ready && test -f"))
    plan.repo.commit("Steps that need setup")
    plan.do("A1")
    assert again(plan)["A1"].outcome is Outcome.HOLDS
    config = plan.repo.read(".workstreams/config.yaml")
    plan.repo.write(".workstreams/config.yaml", config.replace("touch ready", "exit 3"))
    plan.repo.commit("A setup that fails")
    found = again(plan)["A1"]
    assert (found.outcome, found.bad) == (Outcome.UNCHECKABLE, True)
    assert "setup step 1 failed with exit 3" in found.reason
    assert plan.repo.gw("--trust-trunk", "audit", "--rerun").code == 1
    assert not list(plan.repo.path.parent.glob("repo.worktrees/audit-*"))


def test_steps_that_a_person_confirms_are_not_run(plan: Plan) -> None:
    head, mark, rest = plan.repo.read(card("A1")).partition("# --- tracking")
    plan.repo.write(card("A1"), f"{head}  - manual: It reads well.\n{mark}{rest}")
    plan.repo.commit("A person looks at it")
    worktree = plan.start("A1")
    worktree.commit("Do it", **{"a/a1.txt": "x\n"})
    assert verify(plan.store, "A1", trust_trunk=True, confirm=lambda _: "Ada").done
    found = again(plan)["A1"]
    assert found.outcome is Outcome.HOLDS
    assert found.rerun is not None
    assert [run.run for run in found.rerun.runs] == ["test -f a/a1.txt"]


def test_interrupted_it_stops_what_runs_and_leaves_nothing(plan: Plan, tmp_path: Path) -> None:
    mark = tmp_path / "running"
    text = plan.repo.read(card("A1"))
    # passes when it is verified, and hangs when it is run again
    hang = f'sh -c "echo \\$\\$ >{mark}; exec sleep 300"; false'
    step = f"test ! -e {tmp_path}/hang || {{ {hang}; }}"
    plan.repo.write(card("A1"), text.replace("run: test -f a/a1.txt", f"run: '{step}'"))
    plan.repo.commit("A step that hangs")
    plan.do("A1")
    (tmp_path / "hang").touch()
    before = everything(plan.repo)
    argv = [sys.executable, "-m", "gitwaves", "--trust-trunk", "audit", "--rerun"]
    with subprocess.Popen(argv, cwd=plan.repo.path, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: mark.exists() and mark.read_text().strip() != "")
            sleeper = int(mark.read_text())
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()
    until(lambda: not running(sleeper))
    assert everything(plan.repo) == before
    assert not list(plan.repo.path.parent.glob("repo.worktrees/audit-*"))


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
