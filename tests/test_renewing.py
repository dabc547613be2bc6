"""Evidence after history changed: carried over, made anew in a clean checkout, or stale."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.repo import Repo

DESIGN = """\
# Shop

## WS-A: Alpha
Paths: `a/**`

### A1: First
Verify: `grep -q ok a/one.txt`

One.

## WS-B: Beta
Paths: `b/**`

### B1: Other
Verify: `true`

Two.
"""


@pytest.fixture
def plan(repo: Repo) -> Repo:
    """A plan whose A1 is done on its branch."""
    repo.commit("Approve", **{"docs/design.md": DESIGN})
    repo.gw_ok("init")
    repo.gw_ok("import", "docs/design.md")
    repo.commit("Plan")
    repo.gw_ok("trust", "--yes")
    inside = worktree(repo)
    inside.write("a/one.txt", "ok\n")
    inside.gw_ok("verify", "--commit", "-m", "One")
    return repo


def worktree(repo: Repo) -> Repo:
    return Repo(Path(repo.gw_ok("start", "A1").out.strip()))


def task(repo: Repo, name: str = "A1") -> dict[str, object]:
    shown = json.loads(repo.gw_ok("status", "--json").out)
    found: dict[str, object] = next(t for t in shown["tasks"] if t["id"] == name)
    return found


def edit_spec(repo: Repo, card: str, old: str, new: str) -> None:
    path = repo.path / f".workstreams/{card}.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    repo.commit(f"Change {card}")


def branch_worktree(repo: Repo) -> Repo:
    return Repo(repo.path.parent / "repo.worktrees/ws-A")


def test_a_rebase_that_keeps_the_code_tree_carries_the_evidence_over(plan: Repo) -> None:
    edit_spec(plan, "WS-B/B1", "Two.", "Two and more.")
    inside = branch_worktree(plan)
    before = task(plan)["evidence"]
    inside.git("rebase", "-q", "main")
    plan.gw_ok("sync")
    now = task(plan)
    assert now["state"] == "done"
    assert now["evidence"] != before
    assert plan.gw_ok("sync").out == "nothing new\n"
    plan.gw_ok("merge", "--rest")
    assert plan.git("show", "main:a/one.txt") == "ok"


def test_a_rebase_that_changes_the_code_is_stale_until_verified_again(plan: Repo) -> None:
    plan.commit("Elsewhere", **{"other.txt": "x\n"})
    inside = branch_worktree(plan)
    inside.git("rebase", "-q", "main")
    tip = plan.oid("ws/A")
    plan.gw_ok("sync")
    assert task(plan)["state"] == "stale"
    assert plan.oid("ws/A") == tip  # nothing is written
    done = plan.gw_ok("verify", "A1")
    assert done.out.splitlines()[0] == "A1 is done"
    assert task(plan)["state"] == "done"
    assert inside.git("status", "--porcelain") == ""


def test_a_landed_task_whose_spec_changed_is_verified_on_trunk(plan: Repo) -> None:
    plan.gw_ok("merge", "--rest")
    edit_spec(plan, "WS-A/A1", "One.", "One, and only one.")
    assert task(plan)["state"] == "stale"
    plan.gw_ok("verify", "A1")
    assert task(plan)["state"] == "done"
    plan.gw_ok("merge", "--rest")
    card = plan.git("show", "main:.workstreams/WS-A/A1.yaml")
    assert "One, and only one." in card
    assert plan.git("status", "--porcelain") == ""


def test_a_spec_that_the_code_does_not_meet_stays_stale(plan: Repo) -> None:
    edit_spec(plan, "WS-A/A1", "grep -q ok", "grep -q better")
    refused = plan.gw("verify", "A1")
    assert (refused.code, "grep -q better" in refused.err) == (1, True)  # not trusted yet
    plan.gw_ok("trust", "--yes")
    failed = plan.gw("verify", "A1")
    assert failed.code == 1
    assert "A1 does not pass: step 1, exit 1" in failed.err
    assert task(plan)["state"] == "stale"
    assert plan.git("worktree", "list").count("\n") == 1


def test_a_rebase_after_the_claim_is_pushed_without_force(plan: Repo, tmp_path: Path) -> None:
    bare = tmp_path / "origin.git"
    plan.git("init", "-q", "--bare", "-b", "main", str(bare))
    plan.git("remote", "add", "origin", str(bare))
    config = plan.path / ".workstreams/config.yaml"
    config.write_text(config.read_text() + "remote: origin\n")
    plan.commit("Share")
    plan.git("push", "-q", "origin", "main", "ws/A")
    inside = Repo(Path(plan.gw_ok("start", "B1").out.strip()))
    claimed = plan.git("rev-parse", "origin/ws/B")
    plan.commit("Elsewhere", **{"other.txt": "x\n"})
    plan.git("push", "-q", "origin", "main")
    inside.git("rebase", "-q", "main")
    inside.write("b/two.txt", "x\n")
    inside.gw_ok("verify", "--commit", "-m", "Two")
    assert task(plan, "B1")["state"] == "done"
    assert plan.oid("ws/B") == plan.git("--git-dir", str(bare), "rev-parse", "ws/B")
    plan.git("merge-base", "--is-ancestor", claimed, "ws/B")  # what was there is kept
    other = Repo.clone(bare, tmp_path / "other")
    assert task(other, "B1")["state"] == "done"
