"""gitwaves dies anywhere: nothing of the user's is lost, no state is false, the next command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitwaves.git import Repo as Git
from gitwaves.processes import marked
from gitwaves.unfinished import release
from tests.faults.harness import KILLED, Lab, Server, new_lab
from tests.faults.scenes import COMMIT, SCENES, Scene, finished, planned, started
from tests.repo import Repo, Result

STRIDE = int(os.environ.get("GITWAVES_STRIDE", "1"))  # of the deaths, every so many
ACTIONS = ("same", "sync", "status", "next", "other", "commit", "commit-a", "partial", "rebase")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.close()


@pytest.fixture
def lab(tmp_path: Path, server: Server) -> Lab:
    return new_lab(tmp_path, server)


def modes_of(write: str) -> list[str]:
    """The ways to die at a write."""
    kind, _, what = write.partition(" ")
    if kind == "write":
        return ["before", "torn"]
    if kind != "git":
        return ["before"]
    found = ["before", "orphan"]
    if what in {"update-ref", "merge", "worktree add"}:
        found.append("prepared")
    if what in {"merge", "apply", "worktree add"}:
        found += ["checkout-0", "checkout-2"]
    return found


# --- what comes next ---------------------------------------------------------------------------


def user_git(lab: Lab, tree: Repo, *args: str) -> None:
    """A git command of the user's, who does what the errors say."""
    done = lab.git(*args, cwd=tree.path)
    for _ in range(4):
        if "gitwaves sync" in done.err:  # our hook refused the commit, and says what to do
            lab.recovers("sync", cwd=tree.path)
        elif done.code == 0 or not lab.follow(done):
            return
        done = lab.git(*args, cwd=tree.path)
    raise AssertionError(f"no end to it: {done}")


def go_on(lab: Lab, scene: Scene, action: str) -> None:
    """What the user does after the kill."""
    tree = lab.tree(scene.beside)
    if not (tree.path / ".git").exists():
        tree = lab.repo
    folder = "a/" if tree.path.name == "ws-A" else ""
    if action in {"sync", "status", "next"}:
        lab.recovers(action, cwd=tree.path)
    elif action == "other":
        lab.recovers("start", scene.task, cwd=lab.repo.path)
    elif action == "commit":
        tree.write(f"{folder}plain.txt", "plain\n")
        user_git(lab, tree, "add", f"{folder}plain.txt")
        user_git(lab, tree, "commit", "-q", "-m", "plain")
    elif action in {"commit-a", "partial"}:
        file = f"{folder}clean.txt"
        tree.write(file, "changed\n")
        how = ["-m", "partial", "--", file] if action == "partial" else ["-a", "-m", "all"]
        user_git(lab, tree, "commit", "-q", *how)
    elif action == "rebase":
        tree = lab.tree("ws-A")
        if (tree.path / ".git").exists():
            user_git(lab, tree, "rebase", "-q", "--autostash", "main")


# --- one death ---------------------------------------------------------------------------------


def kill(lab: Lab, scene: Scene, at: int, mode: str, log: str = "") -> Result:
    cwd = lab.tree(scene.where).path
    if not scene.hook:
        return lab.kill(at, mode, *scene.argv, cwd=cwd)
    fault = {**lab.fault(at, mode), "hook": scene.hook, "log": log}
    return lab.git(*COMMIT, cwd=cwd, env={"FAULT": json.dumps(fault)})


def writes(lab: Lab, scene: Scene) -> list[str]:
    """What the command, or the hook, writes when nobody kills it."""
    if not scene.hook:
        return lab.writes(*scene.argv, cwd=lab.tree(scene.where).path)
    log = lab.tools / "writes"
    log.unlink(missing_ok=True)
    assert kill(lab, scene, 0, "", str(log)).code == 0
    lab.restore()
    return log.read_text().splitlines() if log.exists() else []


def die_and_go_on(lab: Lab, scene: Scene, at: int, mode: str, action: str) -> None:
    lab.restore()
    before = lab.work()
    dead = kill(lab, scene, at, mode)
    # with threads, the write of that number may have been another one
    missed = dead.code == 0 and (mode.startswith("checkout-") or scene.threads)
    if missed or not (lab.tools / "struck").exists():
        assert scene.threads or mode.startswith("checkout-"), dead
        return  # there were not so many writes, or files
    assert scene.hook or dead.code == KILLED, dead
    lab.require_kept(before)
    go_on(lab, scene, action)
    rebased = action == "rebase"
    taken = action == "commit-a" or rebased  # an autostash comes back with nothing staged
    lab.require_kept(before, rebased=rebased, taken=taken)
    lab.require_true(sound=False, local=not scene.remote)
    done = lab.recovers(*scene.argv, cwd=lab.tree(scene.where).path)
    lab.require_kept(before, rebased=rebased, taken=taken)
    if (
        scene.remote
    ):  # what landed there and not here yet, the user takes in, beside what is new here
        pull = ("pull", "-q", "--no-rebase", "--no-edit", "origin", "main")
        lab.git(*pull, cwd=lab.repo.path)
    states = lab.require_true()
    if rebased:
        return
    assert done.code in {0, scene.again}, done
    lab.require_nothing_else_changed(before)
    assert {t: states[t] for t in scene.wanted} == scene.wanted, (done, states)
    assert not (lab.tools / "said").exists(), "two agents were at one task"
    left = {p.name for p in (lab.repo.path / ".git/worktrees").glob("*")}
    assert left <= {"ws-A", "ws-B", "ws-C", "resolve-MP1"}, left


def every(lab: Lab, scene: Scene) -> Iterator[tuple[int, str, str]]:
    """Every point and way to die, and every action after it.

    Where only objects were written that nothing names yet, the action is the same command.
    """
    for at, write in enumerate(writes(lab, scene), 1):
        named = not write.startswith("object") and not (scene.threads and at % 8)
        for mode in modes_of(write):
            for action in ACTIONS if named else ACTIONS[:1]:
                yield at, mode, action


@pytest.mark.long
@pytest.mark.parametrize("name", SCENES)
def test_every_write_and_every_action(lab: Lab, name: str) -> None:
    scene = SCENES[name]
    scene.prepare(lab)
    lab.save()
    failed = []
    deaths = list(every(lab, scene))[::STRIDE]
    for at, mode, action in deaths:
        try:
            die_and_go_on(lab, scene, at, mode, action)
        except AssertionError as error:
            failed.append(f"write {at}, {mode}, then {action}: {str(error)[:500]}")
    print(f"{name}: {len(deaths)} deaths")
    assert not failed, f"{len(failed)} of {len(deaths)}:\n" + "\n".join(failed)


# What the long form found first, each by the write before which it dies, or the git that dies with
# it, and what the user does next.
SHORT = {
    "a half-made worktree": ("start", "git worktree add", "checkout-2", "same"),
    "a new branch that was pushed": ("start-remote", "git update-ref", "prepared", "same"),
    "a claim that was pushed, and a commit": ("start-next-remote", "git push", "after", "commit"),
    "done, pushed": ("verify-remote", "git apply", "before", "same"),
    "done, pushed, and its card staged": ("verify-remote", "git apply", "after", "commit-a"),
    "half of trunk in a worktree": ("start-next", "git merge", "checkout-2", "commit-a"),
    "a hook": ("post-commit", "git apply", "before", "partial"),
    "a hook that has written its card": ("post-commit", "git apply", "checkout-1", "same"),
    "a hook that has staged its card": ("post-commit", "git apply", "after", "partial"),
    "half of a landing on trunk": ("merge", "git merge", "checkout-2", "commit-a"),
}


@pytest.mark.parametrize("what", SHORT)
def test_the_next_command_goes_on_after(lab: Lab, what: str) -> None:
    name, write, mode, action = SHORT[what]
    scene = SCENES[name]
    scene.prepare(lab)
    lab.save()
    at = writes(lab, scene).index(write) + 1
    at, mode = (at + 1, "before") if mode == "after" else (at, mode)
    die_and_go_on(lab, scene, at, mode, action)
    assert (lab.tools / "struck").exists()


def test_what_a_git_that_died_with_us_had_locked_is_free_again(lab: Lab) -> None:
    scene = SCENES["start-next"]
    scene.prepare(lab)
    lab.save()
    assert kill(lab, scene, writes(lab, scene).index("git merge") + 1, "prepared").code == KILLED
    assert list((lab.repo.path / ".git").rglob("*.lock"))
    (lab.repo.path / ".git/worktrees/ws-A/HEAD.lock").touch()  # as it dies a moment later
    done = lab.gw(*scene.argv)
    assert done.code == 0, done
    assert not list((lab.repo.path / ".git").rglob("*.lock"))


def test_what_a_git_of_a_killed_agent_had_locked_is_free_for_the_next(lab: Lab) -> None:
    planned(lab, tasks=("A1", "B1", "C1"))
    config = lab.repo.path / ".workstreams/config.yaml"
    locks = r"for l in index HEAD ORIG_HEAD; do : > $(git rev-parse --git-dir)/$l.lock; done"
    dies = (
        rf"test -e $OVERLAPS/died || {{ touch $OVERLAPS/died; {locks}; kill -9 $$; }}\ngit add -A"
    )
    config.write_text(config.read_text().replace("git add -A", dies))
    lab.repo.git("commit", "-qam", "The first agent dies while its git holds locks")
    done = lab.gw("--trust-trunk", "run", "--agents", "1")
    assert done.code == 0, done
    assert (lab.tools / "died").exists()
    assert not list((lab.repo.path / ".git/worktrees").rglob("*.lock"))
    assert set(lab.require_true().values()) == {"done"}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found by /proc")
def test_the_lock_of_a_living_process_stays(lab: Lab) -> None:
    planned(lab, tasks=("A1", "B1", "C1"))
    assert lab.gw("start", "A1").code == 0
    repo, tree = Git.open(lab.repo.path), lab.tree("ws-A")
    lock = lab.repo.path / ".git/worktrees/ws-A/index.lock"
    opens = f"import time; f = open({str(lock)!r}, 'x'); time.sleep(60)"
    for command in (
        ["git", "commit", "-q", "-a", "--allow-empty", "-e", "-m", "cat-file"],
        [sys.executable, "-c", opens],
    ):
        env = {**os.environ, "GIT_EDITOR": "sleep 60; true"}
        with subprocess.Popen(command, cwd=tree.path, env=env, start_new_session=True) as holder:
            while not lock.exists():
                assert holder.poll() is None
                time.sleep(0.02)
            release(repo, tree.path, 0)
            assert lock.exists(), command
            os.killpg(holder.pid, signal.SIGKILL)
        release(repo, tree.path, 0)
        assert not lock.exists(), command


def test_an_agent_whose_runner_was_killed_is_ended_before_another_is_at_its_task(lab: Lab) -> None:
    planned(lab, tasks=("A1", "B1", "C1"))
    config = lab.repo.path / ".workstreams/config.yaml"
    hangs = r"test -e $OVERLAPS/hung || { touch $OVERLAPS/hung; sleep 300; }\ngit add -A"
    config.write_text(config.read_text().replace("git add -A", hangs))
    lab.repo.git("commit", "-qam", "The first agent hangs")
    command = [sys.executable, "-m", "gitwaves", "--trust-trunk", "run", "--agents", "1"]
    with subprocess.Popen(command, cwd=lab.repo.path, stdout=subprocess.DEVNULL) as runner:
        hung = lab.tools / "hung"
        while not hung.exists():
            assert runner.poll() is None
            time.sleep(0.02)
        runner.kill()
    note = json.loads((lab.repo.path / ".git/gitwaves/agents/A1.json").read_bytes())
    assert marked(note["marker"])
    (lab.repo.path / ".git/gitwaves/agents/A1.stop").touch()  # nor is the next one stopped for it
    done = lab.gw("run")
    assert done.code == 0, done
    assert not marked(note["marker"])
    assert not (lab.tools / "said").exists(), "two agents were at one task"
    assert set(lab.require_true().values()) == {"done"}


def test_a_checkout_of_ours_takes_no_folder_of_anybodys(lab: Lab) -> None:
    planned(lab)
    finished(lab, "A1")
    finished(lab, "B1")
    mine = lab.tree("merge-MP1").write("notes.txt", "mine\\n")
    done = lab.gw("merge", "MP1")
    assert done.code == 1
    assert "is there already, and is no checkout that gitwaves made" in done.err
    assert mine.read_text() == "mine\\n"


def test_half_an_id_of_a_clone_is_none(lab: Lab) -> None:
    planned(lab)
    lab.repo.write(".git/gitwaves/clone", "")
    started(lab, "A1")
    assert len(lab.repo.read(".git/gitwaves/clone").strip()) == 16
    assert "clone: ''" not in lab.repo.git("show", "ws/A:.workstreams/WS-A/A1.yaml")
