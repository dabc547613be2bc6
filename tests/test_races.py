"""Many at once: one winner for each claim, every verified task done, nothing lost beside `gc`."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean

import pytest

from gitwaves import advancing, git, verifying
from gitwaves.receipts import Receipt, save
from tests.faults.harness import Server
from tests.landing import SEPARATOR, planned
from tests.repo import Repo, Result

RACERS = 16


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.close()


def plan(repo: Repo, streams: int, tasks: int, *, chained: bool, config: str = "") -> None:
    """Workstreams S1, S2, … with tasks S1.1, S1.2, …, each after the one before if `chained`."""
    files = {
        ".workstreams/config.yaml": f"version: 1\ntitle: Races\ntrunk: main\n{config}",
        ".workstreams/.gitattributes": "* -text\n",
    }
    for stream in (f"S{n}" for n in range(1, streams + 1)):
        files[f".workstreams/WS-{stream}/workstream.yaml"] = (
            f"title: {stream}\npaths: ['{stream}/**']\nbranch: ws/{stream}\n"
        )
        for n in range(1, tasks + 1):
            needs = f"{stream}.{n - 1}" if chained and n > 1 else ""
            files[f".workstreams/WS-{stream}/{stream}.{n}.yaml"] = (
                f"id: {stream}.{n}\ntitle: Task {n}\ndepends_on: [{needs}]\n"
                f"verify:\n  - run: grep -q ok {stream}/{n}.txt\n"
                f"{SEPARATOR}tracking:\n  task: {stream}.{n}\n  status: planned\n"
            )
    repo.commit("The plan", **files)


def at_once(calls: list[Callable[[], Result]]) -> list[Result]:
    """Makes all the calls at the same moment."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Result]) -> Result:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def gw(server: Server, repo: Repo, *args: str) -> Result:
    return server.run(["--trust-trunk", *args], repo.path)


def said_why(result: Result) -> bool:
    """Whether a loser was told that it lost, and what to do."""
    return result.code == 1 and "Error: " in result.err and "Hint: " in result.err


# --- one claim ---------------------------------------------------------------------------------


def race_of_clones(server: Server, tmp_path: Path, rounds: int) -> None:
    """Clones that share a remote start the same task: the push of the branch decides."""
    seed = Repo.init(tmp_path / "seed")
    plan(seed, 1, 1, chained=False, config="remote: origin\n")
    origin = Repo.clone(seed, tmp_path / "origin.git", "--bare")
    clones = [Repo.clone(origin, tmp_path / f"clone{n}") for n in range(RACERS)]
    branch = "refs/heads/ws/S1"
    for number in range(rounds):
        ends = at_once([partial(gw, server, clone, "start", "S1.1") for clone in clones])
        won = [c for c, end in zip(clones, ends, strict=True) if end.code == 0]
        assert len(won) == 1, f"round {number}: {len(won)} winners: {ends}"
        theirs = origin.git("rev-parse", branch)
        assert won[0].oid(branch) == theirs
        assert origin.git("rev-list", "--count", f"main..{branch}") == "1"
        for clone, end in zip(clones, ends, strict=True):
            if clone is won[0]:
                continue
            assert said_why(end), f"round {number}: {end}"
            assert "faster" in end.err or "is taken" in end.err, f"round {number}: {end}"
            assert not (clone.path / ".git" / branch).exists(), "a loser has something left"
            assert not clone.at(f"../{clone.path.name}.worktrees").path.exists()
        # as if nobody had been here: references and the winner's worktree go
        origin.git("update-ref", "-d", branch)
        won[0].git("worktree", "remove", "--force", f"../{won[0].path.name}.worktrees/ws-S1")
        shutil.rmtree(won[0].at(f"../{won[0].path.name}.worktrees").path)
        won[0].git("update-ref", "-d", branch)
        for clone in clones:
            (clone.path / ".git/refs/remotes/origin/ws/S1").unlink(missing_ok=True)
    for repo in (origin, *clones):
        assert repo.git("fsck", "--no-dangling") == ""
    print(f"one winner in {rounds} of {rounds} rounds, {RACERS} clones each")


def race_in_a_clone(server: Server, tmp_path: Path, rounds: int) -> None:
    """Agents of one clone want its one worktree, each for another task: the lock decides."""
    repo = Repo.init(tmp_path / "repo")
    plan(repo, 1, RACERS, chained=False)
    for number in range(rounds):
        starts = [("start", f"S1.{n}", "--agent", f"agent-{n}") for n in range(1, RACERS + 1)]
        ends = at_once([partial(gw, server, repo, *args) for args in starts])
        won = [args for args, end in zip(starts, ends, strict=True) if end.code == 0]
        assert len(won) == 1, f"round {number}: {len(won)} winners: {ends}"
        assert repo.git("rev-list", "--count", "main..ws/S1") == "1"
        card = repo.git("show", f"ws/S1:.workstreams/WS-S1/{won[0][1]}.yaml")
        assert f"agent: {won[0][3]}" in card
        for end in ends:
            assert end.code == 0 or said_why(end), f"round {number}: {end}"
            assert end.code == 0 or f"at work on {won[0][1]}" in end.err, f"round {number}: {end}"
        repo.git("worktree", "remove", "--force", "../repo.worktrees/ws-S1")
        repo.git("update-ref", "-d", "refs/heads/ws/S1")
    assert repo.git("fsck", "--no-dangling") == ""
    print(f"one winner in {rounds} of {rounds} rounds, {RACERS} agents each")


def test_one_of_sixteen_clones_gets_the_claim(server: Server, tmp_path: Path) -> None:
    race_of_clones(server, tmp_path, 1)


def test_one_of_sixteen_agents_gets_the_worktree(server: Server, tmp_path: Path) -> None:
    race_in_a_clone(server, tmp_path, 2)


@pytest.mark.long
def test_one_of_sixteen_clones_gets_the_claim_a_thousand_times(
    server: Server, tmp_path: Path
) -> None:
    race_of_clones(server, tmp_path, 1000)


@pytest.mark.long
def test_one_of_sixteen_agents_gets_the_worktree_a_thousand_times(
    server: Server, tmp_path: Path
) -> None:
    race_in_a_clone(server, tmp_path, 1000)


def test_sixteen_who_start_one_task_in_one_clone_make_one_claim(
    server: Server, tmp_path: Path
) -> None:
    repo = Repo.init(tmp_path / "repo")
    plan(repo, 1, 1, chained=False)
    ends = at_once([partial(gw, server, repo, "start", "S1.1")] * RACERS)
    assert {(end.code, end.out) for end in ends} == {(0, f"{tmp_path}/repo.worktrees/ws-S1\n")}
    assert repo.git("rev-list", "--count", "main..ws/S1") == "1"
    claim = repo.git("show", "ws/S1:.workstreams/WS-S1/S1.1.yaml").partition("    id: ")[2]
    # others are handed the same claim, one after another
    calls = [("start", "S1.1", "--agent", f"agent-{n}") for n in range(4)]
    ends = at_once([partial(gw, server, repo, *args) for args in calls])
    assert {(end.code, end.out) for end in ends} == {(0, f"{tmp_path}/repo.worktrees/ws-S1\n")}
    assert repo.git("rev-list", "--count", "main..ws/S1") == "5"
    now = repo.git("show", "ws/S1:.workstreams/WS-S1/S1.1.yaml").partition("    id: ")[2]
    assert now[:16] == claim[:16]


# --- many worktrees ----------------------------------------------------------------------------


def build(server: Server, repo: Repo, stream: str, tasks: int) -> list[tuple[float, float]]:
    """One agent does a workstream's tasks; seconds of each `start` and `verify`."""
    tree = repo.at(f"../{repo.path.name}.worktrees/ws-{stream}")
    took = []
    for n in range(1, tasks + 1):
        clock = time.monotonic()
        end = gw(server, repo, "start", f"{stream}.{n}", "--agent", stream)
        assert end.code == 0, end
        began = time.monotonic() - clock
        tree.write(f"{stream}/{n}.txt", "ok\n")
        tree.git("add", "-A")
        message = f"Build {stream}.{n}"
        clock = time.monotonic()
        if n % 2:  # verified and then committed, or the other way about
            end = gw(server, tree, "verify")
            tree.git("commit", "-q", "-m", message)
        else:
            tree.git("commit", "-q", "-m", message)
            end = gw(server, tree, "verify")
        assert end.code == 0, end
        took.append((began, time.monotonic() - clock))
    return took


def require_all_done(server: Server, repo: Repo, streams: int, tasks: int) -> None:
    total = streams * tasks
    shown = json.loads(gw(server, repo, "status", "--json").out)
    assert shown["counts"]["done"] == total, shown["counts"]
    for stream in (f"S{n}" for n in range(1, streams + 1)):
        tree = repo.at(f"../{repo.path.name}.worktrees/ws-{stream}")
        assert tree.git("status", "--porcelain") == ""
        built = repo.git("ls-tree", "--name-only", f"ws/{stream}", f"{stream}/").split()
        assert sorted(built) == sorted(f"{stream}/{n}.txt" for n in range(1, tasks + 1))
        said = repo.git("log", "--format=%s", "--first-parent", f"main..ws/{stream}").splitlines()
        for n in range(1, tasks + 1):
            for word in ("active", "done"):
                assert said.count(f"gitwaves: {stream}.{n} {word}") == 1, said
    board = repo.git("show", "gitwaves/dashboard:DASHBOARD.txt")
    assert f"{total}/{total}" in board, board
    assert repo.git("fsck", "--no-dangling") == ""
    assert not list((repo.path / ".git").rglob("*.lock"))


def many(server: Server, tmp_path: Path, streams: int, tasks: int) -> None:
    """As many agents as workstreams, all at once."""
    repo = Repo.init(tmp_path / "repo")
    plan(repo, streams, tasks, chained=True)
    gw(server, repo, "hooks", "install")
    clock = time.monotonic()
    with ThreadPoolExecutor(streams) as pool:
        jobs = [pool.submit(build, server, repo, f"S{n}", tasks) for n in range(1, streams + 1)]
        took = [job.result() for job in jobs]
    whole = time.monotonic() - clock
    require_all_done(server, repo, streams, tasks)
    print(f"{streams} x {tasks}: all done in {whole:.0f} s, {whole / streams / tasks:.2f} s a task")
    for n, row in enumerate(zip(*took, strict=True), 1):
        starts, verifies = zip(*row, strict=True)
        print(f"task {n}: start {mean(starts):.1f} s, commit and verify {mean(verifies):.1f} s")


def test_eight_worktrees_verify_at_once(server: Server, tmp_path: Path) -> None:
    many(server, tmp_path, 8, 1)


@pytest.mark.long
def test_sixty_four_worktrees_verify_five_tasks_each(server: Server, tmp_path: Path) -> None:
    many(server, tmp_path, 64, 5)


# --- beside Git's own housekeeping -------------------------------------------------------------


def beside_housekeeping(server: Server, tmp_path: Path, streams: int, tasks: int) -> None:
    """`pack-refs` and `gc` run all the time while state is written."""
    repo = Repo.init(tmp_path / "repo")
    plan(repo, streams, tasks, chained=True)
    gw(server, repo, "hooks", "install")
    over = threading.Event()
    runs = 0

    def tidy() -> None:
        nonlocal runs
        while not over.is_set():
            for args in (["pack-refs", "--all"], ["gc", "-q"], ["pack-refs", "--all"]):
                # two at once, or one beside a commit, may find a lock taken: Git says so
                subprocess.run(["git", *args], cwd=repo.path, capture_output=True, check=False)
                runs += 1
            time.sleep(0.01)

    housekeeper = threading.Thread(target=tidy)
    housekeeper.start()
    try:
        with ThreadPoolExecutor(streams) as pool:
            jobs = [pool.submit(build, server, repo, f"S{n}", tasks) for n in range(1, streams + 1)]
            for job in jobs:
                job.result()
    finally:
        over.set()
        housekeeper.join()
    require_all_done(server, repo, streams, tasks)
    print(f"{streams} x {tasks} beside {runs} runs of pack-refs and gc: all done")


def test_nothing_is_lost_beside_git_gc(server: Server, tmp_path: Path) -> None:
    beside_housekeeping(server, tmp_path, 3, 1)


@pytest.mark.long
def test_nothing_is_lost_beside_git_gc_for_long(server: Server, tmp_path: Path) -> None:
    beside_housekeeping(server, tmp_path, 8, 5)


def test_a_pass_that_another_process_finds_first_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receipt is there for all to see before the one who ran the steps goes on."""
    plan = planned(tmp_path / "plan")
    worktree = plan.start("B1")
    worktree.commit("Do B1", **{"b/b1.txt": "B1\n"})

    def saved(repo: git.Repo, receipt: Receipt) -> None:
        save(repo, receipt)
        assert [one.task for one in advancing.sync(plan.store)] == ["B1"]

    monkeypatch.setattr(verifying, "save", saved)
    result = verifying.verify(plan.store, "B1", trust_trunk=True)
    assert (result.passed, result.done, result.differs) == (True, True, ())
