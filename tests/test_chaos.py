"""Eight agents, killed at random, and `run` with them: in the end everything was done exactly once.

The long form (`make test-long`) goes on killing for ten minutes, or GITWAVES_CHAOS seconds.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gitwaves.processes import marked
from tests.naive import tracking_of
from tests.repo import Repo
from tests.test_eight import LETTERS, plan, states

# An agent that commits twice, takes its time, and notes each commit that it has made.
AGENT = """\
import os, pathlib, random, subprocess, sys, time
sys.stdin.read()
task = os.environ["GITWAVES_TASK"]
dice = random.Random(os.getpid())
low, n = task[0].lower(), task[1:]
def git(*args):
    return subprocess.run(["git", *args], check=True, capture_output=True, text=True).stdout.strip()
def commit(message):
    git("add", "-A")
    if subprocess.run(["git", "diff", "--cached", "--quiet"]).returncode:
        git("commit", "-q", "-m", message)
        with open(os.path.join(os.environ["COMMITS"], task), "a") as file:
            file.write(git("log", "-1", "--no-merges", "--format=%H", "--", low) + "\\n")
def rest():
    time.sleep(dice.random() * float(os.environ["PACE"]))
folder = pathlib.Path(low)
folder.mkdir(exist_ok=True)
rest()
(folder / f"draft{n}-{os.getpid()}.txt").write_text("first\\n")
commit(f"draft {task}")
rest()
(folder / f"{n}.txt").write_text("ok\\n")
if dice.random() < 0.7:
    commit(f"build {task}\\n\\nLearned: {task} is easy")
rest()
if dice.random() < 0.5:
    subprocess.run([sys.executable, "-m", "gitwaves", "verify"], capture_output=True)
rest()
"""


def prepared(path: Path, rounds: int, letters: str, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """The plan, with a merge point after the first round, and the agent."""
    repo = Repo.init(path / "repo")
    (path / "commits").mkdir()
    agent = path / "agent.py"
    agent.write_text(AGENT)
    monkeypatch.setenv("COMMITS", str(path / "commits"))
    first = ", ".join(f"{letter}1" for letter in letters)
    point = ".workstreams/merge-points/MP1.yaml"
    separator = "# --- tracking: written by gitwaves on the worktree's branch ---"
    tracking = "tracking:\n  task: MP1\n  status: planned\n"
    repo.write(point, f"id: MP1\ntitle: First\nrequires: [{first}]\n{separator}\n{tracking}")
    profile = (
        f"agent: mine\nretries: 1000\nprofiles:\n  mine: {{command: [{sys.executable}, {agent}]}}\n"
    )
    plan(repo, rounds, profile, letters)
    repo.gw_ok("hooks", "install")
    repo.gw_ok("trust", "--yes")
    return repo


def victims(repo: Repo) -> list[int]:
    """The processes of agents at work in a repository, by their notes."""
    found = []
    for note in (repo.path / ".git/gitwaves/agents").glob("*.json"):
        try:
            text = note.read_text()
        except OSError:
            continue
        if '"marker": "' in text:
            found += marked(text.split('"marker": "')[1].split('"')[0])
    return found


def torment(repo: Repo, seconds: float, dice: random.Random) -> tuple[int, int]:
    """Kills agents, and `run` itself, until the time is over or all is done; how many of each."""
    agents = runs = 0
    end = time.monotonic() + seconds
    command = [sys.executable, "-m", "gitwaves", "run"]
    log = (repo.path.parent / "run.log").open("ab")
    while time.monotonic() < end:
        run = subprocess.Popen(command, cwd=repo.path, stdout=log, stderr=log)
        for _ in range(dice.randint(1, 6)):
            time.sleep(dice.uniform(0.2, 1.5))
            if run.poll() is None and (alive := victims(repo)):
                agents += 1
                try:
                    os.kill(dice.choice(alive), signal.SIGKILL)
                except ProcessLookupError:
                    agents -= 1
        if run.poll() is None:
            runs += 1
            run.kill()
        if run.wait() == 0:
            break
    log.close()
    return agents, runs


def judge(repo: Repo, rounds: int, letters: str) -> None:
    """Everything is done exactly once, and nothing that an agent committed is lost."""
    tasks = {
        f"{x}{n}": f".workstreams/WS-{x}/{x}{n}.yaml" for x in letters for n in range(1, rounds + 1)
    }
    assert states(repo) == dict.fromkeys(tasks, "done")
    history = set(repo.git("rev-list", "main").split())
    for task, path in tasks.items():
        touched = repo.git("rev-list", "--full-history", "main", "--", path).split()
        said = [tracking_of(repo.path, oid, path) or {} for oid in touched]
        proven = {s["evidence"]["commit"] for s in said if s.get("status") == "done"}
        assert len(proven) == 1, (task, proven)
        assert {s["status"] for s in said} <= {"planned", "active", "done"}
        commits = (repo.path.parent / "commits" / task).read_text().split()
        assert set(commits) <= history, f"a commit of {task} is lost"
    landed = repo.git("log", "--first-parent", "--format=%s", "main").splitlines()
    assert landed.count("gitwaves: MP1 done") == 1
    for x in letters:
        tree = repo.at(f"../repo.worktrees/ws-{x}")
        assert tree.git("status", "--porcelain") == ""
    assert victims(repo) == []
    assert repo.git("fsck", "--full", "--strict", "--no-dangling", "--no-progress") == ""
    locks = {str(p.relative_to(repo.path)) for p in (repo.path / ".git").rglob("*.lock")}
    assert locks <= {".git/gitwaves/run.lock"}  # which is there to be locked


def test_agents_and_run_killed_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACE", "0.3")
    repo = prepared(tmp_path, 1, LETTERS[:4], monkeypatch)
    agents, runs = torment(repo, 5, random.Random(1))
    assert agents + runs > 0
    done = repo.gw("run")
    assert done.code == 0, done.out + done.err
    judge(repo, 1, LETTERS[:4])


@pytest.mark.long
def test_eight_agents_killed_at_random_for_ten_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACE", "2")
    end = time.monotonic() + float(os.environ.get("GITWAVES_CHAOS", 600))
    turn = agents = runs = tasks = 0
    while time.monotonic() < end:
        path = tmp_path / str(turn)
        path.mkdir()
        repo = prepared(path, 3, LETTERS, monkeypatch)
        killed = torment(repo, end - time.monotonic(), random.Random(turn))
        command = [sys.executable, "-m", "gitwaves", "run"]  # much may be left to do
        done = subprocess.run(command, cwd=repo.path, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout + done.stderr
        judge(repo, 3, LETTERS)
        turn, tasks = turn + 1, tasks + 3 * len(LETTERS)
        agents, runs = agents + killed[0], runs + killed[1]
    print(f"{tasks} tasks in {turn} plans; killed: {agents} processes of agents, {runs} runs")
