"""`clean` removes what has landed, and nothing that is anybody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitwaves import remaining
from gitwaves.cleaning import clean
from tests.landing import Plan, planned
from tests.repo import Repo


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Plan, dict[str, Repo]]:
    """Every task is done and landed; the worktrees stand, by branch."""
    plan = planned(tmp_path / "repo")
    plan.repo.commit("Ignore", **{".gitignore": "*.log\n"})
    trees = {"ws/A": plan.do("A1"), "ws/B": plan.do("B1")}
    plan.merge()
    plan.do("A2")
    plan.do("B2")
    trees["ws/C"] = plan.do("C1")
    _, failed = remaining.rest(plan.store, trust_trunk=True)
    assert not failed
    return plan, trees


def branches(plan: Plan) -> set[str]:
    return set(plan.repo.git("for-each-ref", "--format=%(refname:short)", "refs/heads/ws").split())


def test_what_is_landed_and_clean_goes(finished: tuple[Plan, dict[str, Repo]]) -> None:
    plan, trees = finished
    said = plan.repo.gw_ok("clean").out
    for branch, worktree in trees.items():
        assert f"removed {worktree.path}\n" in said
        assert f"removed branch {branch} (was " in said
        assert not worktree.path.exists()
    assert not branches(plan)
    states = plan.states()
    assert set(states.values()) == {"done"}
    assert plan.repo.gw_ok("clean").out == "nothing to remove\n"
    plan.sound()


def test_uncommitted_work_stays(finished: tuple[Plan, dict[str, Repo]]) -> None:
    plan, trees = finished
    trees["ws/A"].write("a/new.txt", "mine\n")
    trees["ws/B"].write("b/b1.txt", "changed\n")
    _, kept = clean(plan.store, ignored=True)
    assert kept == [
        f"{trees['ws/A'].path}: has uncommitted work: a/new.txt",
        f"{trees['ws/B'].path}: has uncommitted work: b/b1.txt",
    ]
    assert branches(plan) == {"ws/A", "ws/B"}
    assert trees["ws/A"].read("a/new.txt") == "mine\n"
    assert clean(plan.store, ignored=True) == ([], kept)


def test_commits_that_are_not_on_trunk_stay(finished: tuple[Plan, dict[str, Repo]]) -> None:
    plan, trees = finished
    trees["ws/A"].commit("Afterthought", **{"a/more.txt": "more\n"})
    _, kept = clean(plan.store)
    assert kept == ["ws/A: has commits that are not on main"]
    assert trees["ws/A"].read("a/more.txt") == "more\n"
    assert branches(plan) == {"ws/A"}


def test_a_merge_that_somebody_worked_on_stays(finished: tuple[Plan, dict[str, Repo]]) -> None:
    plan, trees = finished
    worktree = trees["ws/A"]
    worktree.git("merge", "-q", "--no-commit", "--no-ff", "main")
    worktree.commit("Merge, and more", **{"a/more.txt": "more\n"})
    _, kept = clean(plan.store)
    assert kept == ["ws/A: has commits that are not on main"]


def test_ignored_files_go_only_when_agreed(finished: tuple[Plan, dict[str, Repo]]) -> None:
    plan, trees = finished
    trees["ws/A"].write("a/run.log", "log\n")
    removed, kept = clean(plan.store)
    assert kept == [
        f"{trees['ws/A'].path}: ignored files would be lost: a/run.log (--ignored agrees)"
    ]
    assert len(removed) == 4
    assert trees["ws/A"].read("a/run.log") == "log\n"
    removed, kept = clean(plan.store, ignored=True)
    assert not kept
    assert not trees["ws/A"].path.exists()
    assert not branches(plan)


def test_a_worktree_in_use_stays(finished: tuple[Plan, dict[str, Repo]]) -> None:
    plan, trees = finished
    plan.repo.git("worktree", "lock", str(trees["ws/B"].path))
    said = trees["ws/A"].gw_ok("clean").out
    assert f"kept {trees['ws/A'].path}: is where this command runs\n" in said
    assert f"kept {trees['ws/B'].path}: " in said
    assert "locked" in said
    assert branches(plan) == {"ws/A", "ws/B"}


def test_open_work_stays(tmp_path: Path) -> None:
    plan = planned(tmp_path / "repo")
    plan.do("A1")
    plan.start("B1")
    removed, kept = clean(plan.store)
    assert not removed
    assert kept == ["ws/A: A2 not done yet", "ws/B: B1 B2 not done yet"]


def test_squashed_branches_go(tmp_path: Path) -> None:
    plan = planned(tmp_path / "repo")
    plan.do("A1")
    plan.do("A2")
    plan.repo.git("merge", "-q", "--squash", "ws/A")
    plan.repo.commit("Everything of A (#1)")
    removed, kept = clean(plan.store)
    assert not kept
    assert [line.split(" (")[0] for line in removed][-1] == "branch ws/A"
    assert plan.states()["A2"] == "done"
    plan.sound()
