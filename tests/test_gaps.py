"""Spec gaps: what they hold is held until it is settled, and who is at work on it is told, once."""

from __future__ import annotations

import json

import pytest

from tests.landing import Plan, planned
from tests.repo import Repo
from tests.test_agent_hooks import ask

TEXT = "The API returns cents, the spec says euros"


@pytest.fixture
def plan(repo: Repo) -> Plan:
    return planned(repo.path.parent / "plan")


@pytest.fixture
def found(plan: Plan) -> Plan:
    """A1 found a gap that affects A2 and C1, and is done."""
    a1 = plan.start("A1")
    plan.repo.gw_ok("gap", "A1", TEXT, "--affects", "A2,C1")
    plan.finish(a1, "A1")
    return plan


def change_spec(plan: Plan, task: str) -> None:
    path = f".workstreams/WS-{task[0]}/{task}.yaml"
    text = plan.repo.read(path)
    plan.repo.commit(f"Mend {task}", **{path: text.replace("spec: Write", "spec: Do write")})


def gaps(plan: Plan) -> list[list[str]]:
    return [gap["affects"] for gap in json.loads(plan.repo.gw_ok("status", "--json").out)["gaps"]]


def test_what_it_affects_is_held_and_counted(found: Plan) -> None:
    assert [found.states()[t] for t in ("A2", "B1", "C1")] == ["held", "runnable", "held"]
    board = found.repo.git("show", "gitwaves/dashboard:DASHBOARD.txt")
    assert "  2 held" in board.splitlines()[0]
    assert f'SPEC GAPS      1 open: A1 holds A2 C1 ("{TEXT}")' in board.splitlines()
    refused = found.repo.gw("start", "A2")
    assert refused.code == 1
    assert "A2 is held: it waits for gap A1" in refused.err


def test_it_is_settled_card_by_card_as_specs_change_on_trunk(found: Plan) -> None:
    change_spec(found, "A2")
    assert found.states()["A2"] == "runnable"
    assert found.states()["C1"] == "held"
    assert gaps(found) == [["C1"]]
    change_spec(found, "C1")
    assert gaps(found) == []
    assert found.states()["C1"] == "blocked"
    found.repo.gw_ok("sync")
    assert "SPEC GAPS" not in found.repo.git("show", "gitwaves/dashboard:DASHBOARD.txt")


def test_it_is_settled_by_hand(found: Plan) -> None:
    found.repo.gw_ok("gap", "A1", "--resolve")
    assert found.states()["A2"] == "runnable"
    assert gaps(found) == []
    shown = json.loads(found.repo.gw_ok("show", "A1", "--json").out)
    assert [(g["text"], g["resolved"]) for g in shown["spec_gaps"]] == [(TEXT, True)]


def test_it_is_settled_when_its_branch_is_gone(plan: Plan) -> None:
    a1 = plan.start("A1")
    plan.repo.gw_ok("gap", "A1", TEXT, "--affects", "C1")
    plan.finish(a1, "A1")
    plan.do("A2")
    plan.do("B1")
    plan.merge()
    plan.repo.gw_ok("--trust-trunk", "merge", "--rest")
    assert "removed branch ws/A" in plan.repo.gw_ok("clean").out
    assert plan.states()["C1"] == "held"
    plan.repo.gw_ok("gap", "A1", "--resolve")
    assert plan.states()["C1"] == "runnable"
    # the branch alone says so: it is not thrown away before trunk says it too
    kept = plan.repo.gw_ok("clean").out
    assert "kept ws/A: what A1 taught since is not on main yet; gitwaves merge --rest" in kept
    plan.repo.gw_ok("--trust-trunk", "merge", "--rest")
    assert plan.tracking("A1").spec_gaps[0].resolved
    assert "removed branch ws/A" in plan.repo.gw_ok("clean").out
    assert plan.states()["C1"] == "runnable"
    plan.sound()


def denial(tree: Repo) -> str:
    """Why the next write is denied; empty where it is not."""
    file = f"{tree.git('branch', '--show-current')[-1].lower()}/x.txt"
    done = ask(tree, "PreToolUse", tool_name="Write", tool_input={"file_path": file})
    if not done.out:
        return ""
    return str(json.loads(done.out)["hookSpecificOutput"]["permissionDecisionReason"])


def stop(tree: Repo) -> str:
    done = ask(tree, "Stop")
    return str(json.loads(done.out)["reason"]) if done.out else ""


def test_who_is_at_work_is_told_once(plan: Plan) -> None:
    a1, b1 = plan.start("A1"), plan.start("B1")
    plan.repo.gw_ok("trust", "--yes")
    assert denial(b1) == ""
    plan.repo.gw_ok("gap", "A1", TEXT, "--affects", "B1")
    assert plan.states()["B1"] == "active"
    assert TEXT in plan.repo.gw_ok("brief", "B1").out  # a person looks: the agent knows nothing yet
    said = denial(b1)
    assert said.startswith(f"A1 found a gap in the spec that affects B1: {TEXT}. You are told")
    assert denial(b1) == ""
    assert denial(a1) == ""  # who found it knows
    plan.repo.gw_ok("gap", "A1", "Another", "--affects", "B1")
    assert stop(b1) == "B1 is not done. A1 found a gap in the spec that affects B1: Another"
    assert "nothing changed since B1 was claimed" in stop(b1)


def test_who_has_no_hooks_is_told_when_it_verifies(plan: Plan) -> None:
    plan.start("A1")
    b1 = plan.start("B1")
    plan.repo.gw_ok("gap", "A1", TEXT, "--affects", "B1")
    said = f"A1 found a gap in the spec that affects B1: {TEXT}"
    assert said in b1.gw("--trust-trunk", "verify").err.splitlines()
    assert said not in b1.gw("--trust-trunk", "verify").err


def test_who_read_it_in_the_brief_is_not_told_again(plan: Plan) -> None:
    plan.start("A1")
    b1 = plan.start("B1")
    plan.repo.gw_ok("gap", "A1", TEXT, "--affects", "B1")
    assert TEXT in b1.gw_ok("brief", "B1", env={"CLAUDECODE": "1"}).out
    assert denial(b1) == ""


def test_a_spec_that_changes_under_an_agent_is_said_once(plan: Plan) -> None:
    b1 = plan.start("B1")
    change_spec(plan, "B1")
    assert "the spec of B1 changed on trunk since it was begun" in denial(b1)
    assert denial(b1) == ""
    change_spec(plan, "A1")
    assert denial(b1) == ""
