"""Laws 2, 3 and 4: whatever people and gitwaves do in any order, what is shown is what is so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.histories import Plan, World, core, histories, live


def test_what_is_shown_is_what_a_plain_reader_finds() -> None:
    histories(3, 8, ends=False)


def test_what_is_shown_is_so_whatever_chance_would_seldom_do() -> None:
    plan = Plan((2, 2), (0, 0, 2, *(0,) * 6), 3, True, True)
    live(plan, core(plan))


@pytest.mark.long
def test_what_is_shown_is_so_after_long_histories() -> None:
    histories(40, 30)


# --- histories by hand, each of which a random one reaches too seldom ---


def finished(world: World, *tasks: str) -> None:
    """Each task started, built, committed and verified."""
    for task in tasks:
        world.start(task)
        world.edit(task, True, 0, False)
        world.verify(task)
        assert states(world)[task] == "done", world.log


def states(world: World) -> dict[str, str]:
    return {str(t): str(v.state) for t, v in world.store().progress().tasks.items()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A1 + B1 -> MP1 -> B2; A2 needs nothing."""
    return World.make(tmp_path.resolve(), Plan((2, 2), (0,) * 9, 3, True, False))


def landed(world: World) -> None:
    finished(world, "A1", "B1")
    world.merge(1)
    world.check()
    assert world.log[-1] == "merge MP1"


def test_a_revert_takes_the_state_back_and_again_brings_it(world: World) -> None:
    landed(world)
    finished(world, "B2")
    world.revert()
    world.check()
    assert states(world) == {"A1": "runnable", "A2": "runnable", "B1": "runnable", "B2": "done"}
    assert set(world.content(world.top)) == {"README"}
    world.merge(1)
    assert "NotReady" in world.log[-1]
    world.merge(2)
    world.check()
    assert set(world.content(world.top)) == {"README", "a/A1.txt", "b/B1.txt"}
    world.revert()
    world.check()
    assert states(world)["A1"] == "runnable"
    world.end()


def test_what_was_done_anew_after_a_revert_lands(world: World) -> None:
    landed(world)
    world.revert()
    finished(world, "A1", "B1")
    world.merge(2)
    world.check()
    assert world.log[-1] == "merge MP1 --again"
    file = world.file_of("A1")
    assert (world.top / file).read_bytes() == (world.tree_of("A1") / file).read_bytes()
    world.end()


def test_work_goes_on_after_a_squash(world: World) -> None:
    finished(world, "A1")
    world.forge("A1", True)
    world.check()
    assert states(world)["A1"] == "done"
    finished(world, "A2")
    world.merge(0)
    finished(world, "B1")
    world.merge(1)
    world.check()
    assert set(states(world).values()) == {"done", "runnable"}
    world.end()


def test_local_changes_on_trunk_are_never_overwritten(world: World) -> None:
    finished(world, "A1", "B1")
    (world.top / "a").mkdir()
    (world.top / "a/A1.txt").write_text("mine")
    world.merge(1)
    assert "Refused" in world.log[-1]
    (world.top / "a/A1.txt").unlink()
    (world.top / "README").write_text("also mine")
    world.merge(1)
    assert world.log[-1] == "merge MP1"
    assert (world.top / "README").read_text() == "also mine"


def test_a_landed_task_stays_done_without_its_branch(world: World) -> None:
    landed(world)
    world.git(world.top, "worktree", "remove", str(world.tree_of("A1")))
    world.git(world.top, "branch", "-q", "-D", "ws/A")
    world.check()
    assert states(world)["A1"] == "done"
    finished(world, "A2")


def test_a_task_that_went_stale_is_done_again(world: World) -> None:
    finished(world, "A1")
    world.respec("A1", False)
    world.check()
    assert states(world)["A1"] == "stale"
    finished(world, "A1")
    finished(world, "B1")
    world.merge(1)
    world.check()
    assert world.log[-1] == "merge MP1"
    world.end()


def test_done_by_hand_is_unproven_and_opens_nothing(world: World) -> None:
    finished(world, "B1")
    world.start("A1")
    world.edit("A1", False, 5, False)
    world.forged("A1", 0)
    world.check()
    assert states(world)["A1"] == "unproven"
    world.merge(1)
    assert "NotReady" in world.log[-1]
    world.merge(0)
    assert set(world.content(world.top)) == {"README"}


def test_a_merge_takes_done_commits_and_no_half_done_work(world: World) -> None:
    finished(world, "A1", "B1")
    world.start("A2")
    world.edit("A2", False, 0, False)
    world.merge(1)
    world.check()
    assert world.log[-1] == "merge MP1"
    assert set(world.content(world.top)) == {"README", "a/A1.txt", "b/B1.txt"}
    assert states(world)["A2"] == "active"
