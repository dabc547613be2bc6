"""Real agent clients, offline, on the plan of the demo: what they do wrong is survived.

`make test-long` runs these where Claude Code and Codex are installed; GITWAVES_CLIENTS names their
folder if it is not on PATH. `tests/clients/play.py` says how to get them, and is the script that runs
the whole plan for anyone to look at.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitwaves.clients import BUILT_IN, read
from tests.clients import play
from tests.clients.api import Server
from tests.repo import Repo
from tests.shop import lines_of, shop, states
from tests.terminal import Watched

HERE = play.installed()
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not {"claude", "codex"} <= set(HERE),
        reason="needs Claude Code and Codex: put them on PATH, or name their folder in GITWAVES_CLIENTS",
    ),
]


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The API, with an environment in which the clients talk to it."""
    # Codex runs its commands in a login shell, which may set PATH anew before it reads this
    (home / ".profile").write_text(f"PATH={shlex.quote(os.environ['PATH'])}\n")
    with Server() as found:
        for name, value in play.environment(found.address, home).items():
            monkeypatch.setenv(name, value)
        yield found
    for environ in Path("/proc").glob("[0-9]*/environ"):  # Codex leaves a server of its own running
        with contextlib.suppress(OSError):
            if f"HOME={home}".encode() in environ.read_bytes().split(b"\0"):
                os.kill(int(environ.parent.name), signal.SIGKILL)


def shown(repo: Repo, task: str) -> dict[str, Any]:
    found = json.loads(repo.gw_ok("show", task, "--json").out)
    assert isinstance(found, dict)
    return found


def run(repo: Repo, seconds: int = 900) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["gitwaves", "run"], cwd=repo.path, capture_output=True, text=True, timeout=seconds, check=False
    )  # fmt: skip


def log(repo: Repo, task: str, attempt: int = 1) -> str:
    return repo.read(f".git/gitwaves/logs/{task}/agent-{attempt}.log")


def sent_back(repo: Repo, task: str) -> str | None:
    """The session that was sent back while it was not done, if any was."""
    note = repo.path / f".git/gitwaves/agents/{task}.returns"
    return note.read_text().split()[0] if note.exists() else None


def test_two_clients_build_one_plan_and_what_goes_wrong_is_survived(
    server: Server, tmp_path: Path
) -> None:
    """Workstreams A, C, E, G are Claude Code's, the others Codex'."""
    tasks = play.first(12)
    stray = {"write": "services/reporting/stray.txt", "text": "not mine\n"}
    fails = [{"error": 500, "times": 1000}]

    def early(task: str) -> list[Any]:
        """Writes where it may not, and says that it is done before it has committed."""
        *writes, add, commit, end = play.moves_of(task)
        return [stray, *writes, {"say": "Done, I think."}, add, commit, end]

    plays = {
        "A1": [early("A1")],
        "B1": [early("B1")],
        "C1": [[{"limit": 2, "times": 5}, *play.moves_of("C1")]],  # more often than it tries again
        "G1": [fails, play.moves_of("G1")],
        "D1": [fails, play.moves_of("D1")],
    }
    repo = play.build(tmp_path / "repo", tasks, ("claude", "codex"), plays)
    done = run(repo)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(states(repo).values()) == {"done"}
    assert play.product(repo) == play.wanted(tasks)
    assert f"all {len(tasks)} tasks are done and on main" in done.stdout
    for task in ("A1", "B1"):  # denied before the write, and sent back before the end
        assert "services/reporting/stray.txt belongs to WS-G, outside the boundary" in log(
            repo, task
        )
        card = shown(repo, task)
        assert card["attempts"] == 1
        assert sent_back(repo, task) == card["session"] is not None
    assert shown(repo, "A1")["cost"]["money"] > 0
    assert shown(repo, "B1")["cost"]["tokens"] > 0
    assert "C1  usage limit: it goes on at" in done.stdout
    assert shown(repo, "C1")["attempts"] == 1
    for task in ("G1", "D1"):
        assert f"{task}  attempt 1 failed: nothing changed since {task} was claimed" in done.stdout
        assert shown(repo, task)["attempts"] == 2
    assert {shown(repo, t)["agent"].split("-")[0] for t in tasks} == {"claude", "codex"}


BARE = tuple(name for name in ("gemini", "opencode") if name in HERE)


@pytest.mark.skipif(
    not BARE, reason="needs a client without hooks as well: the Gemini CLI, opencode"
)
def test_clients_with_hooks_and_without_end_in_the_same_state(
    server: Server, tmp_path: Path
) -> None:
    """Gemini runs Git without any hook, too; in a run neither it nor opencode has any of its own."""
    tasks = [*play.first(8), "A2", "E2"]  # the last one has a bug at first
    ended = []
    for name, agents in (("hooked", ("claude", "codex")), ("bare", BARE)):
        repo = play.build(tmp_path / name / "repo", tasks, agents, {})
        done = run(repo)
        assert done.returncode == 0, done.stdout + done.stderr
        evidence = {t: shown(repo, t)["evidence"]["spec"] for t in tasks}
        ended.append((states(repo), play.product(repo), evidence))
        assert repo.gw_ok("sync").out == "nothing new\n"
    assert ended[0] == ended[1]
    assert ended[0][1] == play.wanted(tasks)


# --- sessions that a person opened -------------------------------------------------------------


@pytest.fixture
def taught(tmp_path: Path, home: Path) -> Repo:
    """A plan whose repository teaches the clients; the folder is trusted, as by a person's yes."""
    repo = shop(tmp_path)
    repo.gw_ok("export", "claude-agents")
    repo.commit("Agents")
    trust_folders(repo, home)
    return repo


def trust_folders(repo: Repo, home: Path) -> None:
    """Answers what each client asks when it is first opened in a folder, and with a new key."""
    trees = [repo.path, *(repo.path.parent / f"repo.worktrees/ws-{x}" for x in "AB")]
    projects = {str(path): {"hasTrustDialogAccepted": True} for path in trees}
    known = {"hasCompletedOnboarding": True, "theme": "dark", "projects": projects}
    keys = {"customApiKeyResponses": {"approved": ["none-is-needed"], "rejected": []}}
    (home / ".claude.json").write_text(json.dumps({**known, **keys}))
    with (home / ".codex/config.toml").open("a") as file:
        file.writelines(f'\n[projects."{path}"]\ntrust_level = "trusted"\n' for path in trees)
    trusted = {str(path): "TRUST_FOLDER" for path in trees}
    (home / ".gemini/trustedFolders.json").write_text(json.dumps(trusted))


def script(task: str, file: str, other: str) -> str:
    """Writes where it may not, says early that it is done, and mends it when it is sent back."""
    moves = [
        {"write": other, "text": "x\n"},
        {"write": file, "text": "wrong\n"},
        {"say": f"{task} is done, I think."},
        {"write": file, "text": "ok\n"},
        "git add -A",
        f"git commit -q -m {task}",
        {"say": f"{task} is done."},
    ]
    return f"Do {task}.\nPLAY: {json.dumps([moves])}\n"


def session(command: list[str], tree: Path, prompt: str) -> str:
    done = subprocess.run(
        command, cwd=tree, input=prompt, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


CLAUDE = ["claude", "-p", "--permission-mode", "acceptEdits", "--output-format", "stream-json",
          "--verbose"]  # fmt: skip
CODEX = ["codex", "exec", "--json", "--sandbox", "danger-full-access", "--trust",
         "--dangerously-bypass-hook-trust", "-"]  # fmt: skip


@pytest.mark.parametrize("command", [CLAUDE, CODEX], ids=["claude", "codex"])
def test_a_session_opened_by_hand_is_led_to_the_loop(
    server: Server, taught: Repo, command: list[str]
) -> None:
    tree = Path(taught.gw_ok("start", "A1").out.strip())
    said = session(command, tree, script("A1", "a/one.txt", "b/one.txt"))
    assert "b/one.txt belongs to WS-B, outside the boundary of WS-A" in said
    card = shown(taught, "A1")
    assert card["state"] == "done"
    assert card["session"] == sent_back(taught, "A1") is not None
    assert not (tree / "b/one.txt").exists()


WITHOUT_HOOKS = {
    "claude": [*CLAUDE, "--allowedTools", "Bash"],
    "codex": ["codex", "exec", "--json", "--sandbox", "danger-full-access", "-"],
    "opencode": ["opencode", "run", "--format", "json"],
}


def test_a_task_goes_from_client_to_client_and_its_card_says_whose_session_it_is(
    server: Server, tmp_path: Path
) -> None:
    """All opened by hand, in a repository that teaches them nothing; the last one finishes it."""
    repo = shop(tmp_path)
    tree = Path(repo.gw_ok("start", "A1").out.strip())
    for client in (name for name in WITHOUT_HOOKS if name in HERE):
        half = {"write": f"a/{client}.txt", "text": "half\n"}
        moves = [half, "git add -A", f"git commit -q -m {client}", "gitwaves verify"]
        prompt = f"Go on.\nPLAY: {json.dumps([[*moves, {'say': 'That is all.'}]])}\n"
        said = session(WITHOUT_HOOKS[client], tree, prompt)
        assert shown(repo, "A1")["session"] == read(client, said).session is not None, said
    whole = [{"write": "a/one.txt", "text": "ok\n"}, "gitwaves verify --commit"]
    said = session(WITHOUT_HOOKS["codex"], tree, f"Finish.\nPLAY: {json.dumps([whole])}\n")
    card = shown(repo, "A1")
    assert (card["state"], card["session"]) == ("done", read("codex", said).session)
    subjects = repo.git("log", "--format=%s", "ws/A").splitlines()
    assert {name for name in WITHOUT_HOOKS if name in HERE} <= set(subjects)


@pytest.mark.parametrize("client", HERE)
def test_a_client_with_a_person_in_it_does_a_task(
    server: Server, tmp_path: Path, home: Path, client: str
) -> None:
    built_in = BUILT_IN[client]
    moves = [{"write": "a/one.txt", "text": "ok\n"}, "gitwaves verify --commit"]
    play_it = f"\nPLAY: {json.dumps([moves])}\n"
    profile = {
        "command": built_in.command,
        "open": [*built_in.open[:-1], built_in.open[-1] + play_it],
        "client": client,
        "env": built_in.env,
    }
    repo = shop(tmp_path, config=lines_of(profiles={"opened": profile}))
    trust_folders(repo, home)
    for key, value in {"name": "Ada Tester", "email": "ada@example.com"}.items():
        repo.git("config", f"user.{key}", value)  # Gemini lets Git see no other configuration
    opened = Watched(repo, "start", "A1", "--open", "opened")
    end = time.monotonic() + 120
    while shown(repo, "A1")["state"] != "done" and time.monotonic() < end:
        time.sleep(2)
        opened.press("\r")  # the person says yes to what it asks
    opened.kill()
    card = shown(repo, "A1")
    assert (card["state"], card["agent"]) == ("done", "opened"), opened.shown
    filed = [path.name for path in home.rglob("*.jsonl")]  # by all but opencode
    if client == "opencode":
        filed = session(["opencode", "session", "list"], repo.path, "").split()
    # Gemini cuts it to the first part
    assert any(card["session"].split("-")[0] in name for name in filed), filed


def test_a_lead_dispatches_a_wave_to_agents_in_their_worktrees(
    server: Server, taught: Repo
) -> None:
    """Two sub-agents at once, and a list of tasks that cannot say what is not so."""

    def agent(name: str, prompt: str) -> dict[str, object]:
        given = {"description": "a task", "subagent_type": name, "prompt": prompt}
        return {"call": "Agent", "with": given}

    wave = {
        "calls": [
            agent("ws-b", script("B1", "b/one.txt", "a/stray.txt")),
            agent("ws-a", script("A1", "a/one.txt", "b/stray.txt")),
            agent("ws-a", "Do A2."),
        ]
    }
    complete = {"call": "TaskUpdate", "with": {"taskId": "1", "status": "completed"}}
    entry = {"call": "TaskCreate", "with": {"subject": "A1: First", "description": "First"}}
    lead = [entry, complete, wave, "gitwaves merge MP1", complete, {"say": "The wave is over."}]
    command = [*CLAUDE, "--agent", "gitwaves-lead"]
    said = session(command, taught.path, f"Lead.\nPLAY: {json.dumps([lead])}\n")
    assert states(taught) == {"A1": "done", "B1": "done", "A2": "runnable"}
    assert "landed MP1 (A1 B1)" in said
    assert "A1 is runnable, not done" in said
    assert "A2 is blocked" in said or "A2 waits for it" in said
    for task, path, owner in (("B1", "a/stray.txt", "WS-A"), ("A1", "b/stray.txt", "WS-B")):
        assert f"{path} belongs to {owner}" in said
        branch = shown(taught, task)["branch"]
        assert task in taught.git("log", "--format=%s", branch).splitlines()
        assert sent_back(taught, task)
    assert taught.git("status", "--porcelain") == ""
