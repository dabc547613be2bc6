"""`run` with real agent processes: what they do wrong is survived, and said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gitwaves.processes import alive
from tests.repo import Repo
from tests.shop import lines_of, shop, states

# What each task does, by name; the second attempt of any is right.
AGENT = """\
import os, pathlib, subprocess, sys, time
task, attempt = os.environ["GITWAVES_TASK"], int(os.environ["GITWAVES_ATTEMPT"])
brief = sys.stdin.read()
pathlib.Path(os.environ["BRIEFS"], f"{task}-{attempt}.md").write_text(brief)
how = os.environ.get("HOW_" + task, "right")
file = pathlib.Path({"A1": "a/one.txt", "A2": "a/two.txt", "B1": "b/one.txt"}[task])
file.parent.mkdir(exist_ok=True)
text = "ok"
if how == "never" or (how == "twice" and attempt == 1):
    text = "wrong"
if how == "hang":
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    pathlib.Path(os.environ["BRIEFS"], "child").write_text(str(child.pid))
    time.sleep(300)
if how == "outside" and attempt == 1:
    pathlib.Path("b").mkdir(exist_ok=True)
    pathlib.Path("b/foreign.txt").write_text("x")
elif how == "outside":
    subprocess.run(["git", "rm", "-qrf", "--ignore-unmatch", "b/foreign.txt"], check=True)
file.write_text(f"{text} {task} {attempt}\\n")
if how != "uncommitted":
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(["git", "commit", "-qm", f"{task} by hand\\n\\nLearned: {task} is easy"], check=False)
sys.exit(3 if how == "liar" else 0)
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A planned repository whose agent does as the environment says."""
    briefs = tmp_path / "briefs"
    briefs.mkdir()
    monkeypatch.setenv("BRIEFS", str(briefs))
    agent = tmp_path.parent / "agent.py"  # the same for all, as the plan is
    agent.write_text(AGENT)
    profile = {"script": {"command": [sys.executable, str(agent)]}}
    return shop(tmp_path, agent="script", config=lines_of(profiles=profile, retries=1))


def test_everything_is_done_and_on_trunk(plan: Repo) -> None:
    done = plan.gw("run")
    assert done.code == 0, done.err + done.out
    assert done.out.splitlines()[-1] == "all 3 tasks are done and on main"
    assert states(plan) == {"A1": "done", "A2": "done", "B1": "done"}
    assert plan.git("show", "main:a/two.txt") == "ok A2 1"
    assert plan.git("status", "--porcelain") == ""
    assert "A1 is easy (A1," in plan.read("CLAUDE.md")
    assert "A1 is easy (A1," in plan.git("show", "gitwaves/dashboard:LEARNINGS.md")
    again = plan.gw("run")
    assert (again.code, again.out) == (0, "all 3 tasks are done and on main\n")


def test_the_exit_code_is_not_believed(plan: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOW_A1", "liar")  # exits 3, and the work is right
    monkeypatch.setenv("HOW_B1", "uncommitted")
    monkeypatch.setenv("HOW_A2", "twice")  # exits 0, and the work is wrong
    assert plan.gw("run").code == 0
    assert states(plan) == {"A1": "done", "A2": "done", "B1": "done"}
    brief = (Path(os.environ["BRIEFS"]) / "A2-2.md").read_text()
    assert "step 1 failed, exit 1" in brief
    assert "A1 is easy" in brief
    card = plan.git("show", "main:.workstreams/WS-A/A2.yaml")
    assert "attempts: 2" in card


def test_one_failing_workstream_stops_no_other(plan: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOW_A1", "never")
    done = plan.gw("run")
    assert done.code == 1
    assert states(plan) == {"A1": "failed", "A2": "blocked", "B1": "done"}
    assert "A1 failed: failed; `gitwaves show A1`" in done.out.splitlines()
    assert "attempt 2: step 1, exit 1" in plan.gw_ok("status").out
    monkeypatch.setenv("HOW_A1", "right")
    assert plan.gw("run").code == 0  # a second run goes on from there
    assert set(states(plan).values()) == {"done"}


def test_work_outside_the_boundary_is_told_and_mended(
    plan: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOW_A1", "outside")
    done = plan.gw("run")
    assert "outside the boundary" in (Path(os.environ["BRIEFS"]) / "A1-2.md").read_text()
    assert states(plan)["A1"] in {"done", "failed"}
    assert states(plan)["B1"] == "done"
    assert done.code in {0, 1}
    tree = plan.git("ls-tree", "-r", "--name-only", "main")
    assert "foreign" not in tree


def test_an_agent_that_is_not_there(plan: Repo) -> None:
    before = plan.git("for-each-ref")
    done = plan.gw("run", "--agent", "codex", env={"PATH": _path_without("codex")})
    assert done.code == 1
    assert done.err.splitlines() == [
        "Error: the agent command 'codex' (profile codex) is not found",
        "Hint: install it, or name another with `gitwaves run --agent NAME`",
    ]
    unknown = plan.gw("run", "--agent", "nobody")
    assert unknown.code == 1
    assert unknown.err.startswith("Error: no agent profile 'nobody'\nHint: known are: claude, ")
    kept = [line for line in plan.git("for-each-ref").splitlines() if "dashboard" not in line]
    assert kept == [line for line in before.splitlines() if "dashboard" not in line]


def test_nothing_runs_without_trust(plan: Repo) -> None:
    card = plan.path / ".workstreams/WS-A/A1.yaml"
    card.write_text(card.read_text().replace("grep -q ok a/one.txt", "touch /tmp/never && true"))
    plan.commit("Change a step")
    done = plan.gw("run")
    assert done.code == 1
    assert "touch /tmp/never && true" in done.err
    assert set(states(plan).values()) <= {"runnable", "blocked"}


def test_ctrl_c_stops_whole_process_trees(plan: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOW_A1", "hang")
    child = Path(os.environ["BRIEFS"]) / "child"
    process = subprocess.Popen(
        [sys.executable, "-m", "gitwaves", "run"],
        cwd=plan.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _until(child.exists)
    pid = int(child.read_text() or 0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "another `gitwaves run` goes on from here" in out
    _until(lambda: not alive(pid))
    assert states(plan)["A1"] == "active"
    monkeypatch.setenv("HOW_A1", "right")
    assert plan.gw("run").code == 0
    assert set(states(plan).values()) == {"done"}


def test_stop_ends_one_agent(plan: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOW_A1", "hang")
    process = subprocess.Popen(
        [sys.executable, "-m", "gitwaves", "run"],
        cwd=plan.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _until((Path(os.environ["BRIEFS"]) / "child").exists)
    refused = plan.gw("run")
    assert refused.err.startswith("Error: another `gitwaves run` is at work in this repository\n")
    plan.gw_ok("stop", "A1")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert states(plan)["A1"] == "active"
    assert states(plan)["B1"] == "done"
    assert plan.gw("stop", "A1").code == 1


def _path_without(command: str) -> str:
    folders = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(f for f in folders if not (Path(f) / command).exists())


def _until(condition: object, seconds: float = 30) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
