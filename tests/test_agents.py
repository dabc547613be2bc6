"""Agent clients: what the real ones printed is read, and what they do wrong is survived."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gitwaves.clients import BUILT_IN, CLIENTS, Limits, Said, filled, overrides, read, settings
from gitwaves.processes import alive
from tests.repo import Repo
from tests.test_run import DESIGN, states

RECORDED = Path(__file__).parent / "clients"


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.jsonl").read_text(encoding="utf-8")


# --- reading what they print -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "session", "cost", "last"),
    [
        (
            "claude",
            "86a57cd7-4f52-4af9-b9e8-937ca48b3cc9",
            {"turns": 2, "tokens": 8500, "money": 0.018},
            "Done: wrote agent-was-here.txt and committed it.",
        ),
        (
            "codex",
            "01a21392-ae53-7860-8179-fad57a3452c9",
            {"turns": 1, "tokens": 2100},
            "done",
        ),
        ("gemini", "120d9839-8f3d-48b7-9f0e-60ae5f0e804a", {"turns": 1, "tokens": 3150}, "done"),
        ("opencode", "ses_dec6cff06ffeBR1DCf6q6J0XIM", {"turns": 2, "tokens": 2100}, "done"),
    ],
)
def test_recorded_output_is_read(
    client: str, session: str, cost: dict[str, float], last: str
) -> None:
    said = read(client, recorded(client))
    assert (said.session, said.cost(), said.last) == (session, cost, last)
    assert (said.error, said.limited, said.denied) == (None, False, ())


@pytest.mark.parametrize("client", ["claude", "codex"])
def test_a_usage_limit_is_seen(client: str) -> None:
    said = read(client, recorded(f"{client}-limit"))
    assert said.limited
    assert "429" in str(said.error)


def test_when_a_limit_ends_is_read_where_it_is_said() -> None:
    event = {"type": "result", "is_error": True, "result": "usage limit reached|1800000000"}
    assert read("claude", json.dumps(event)).until == 1_800_000_000


@pytest.mark.parametrize("client", CLIENTS)
def test_torn_and_unknown_output_costs_the_numbers_only(client: str) -> None:
    whole = recorded(client) if (RECORDED / f"{client}.jsonl").exists() else "one\ntwo\n"
    for end in range(0, len(whole), 97):
        assert isinstance(read(client, whole[:end]), Said)
    odd = '{"type":"result","usage":[],"num_turns":"x"}\n{"type":"assistant"}\nnot json\n[]\n{}\n'
    odd += '{"type":"item.completed"}\n{"type":"step_finish","part":3}\n{"a":' + "[" * 9000
    assert read(client, odd).session is None


def test_denied_tools_are_named() -> None:
    denial = {"tool_name": "Bash", "tool_input": {"command": "rm -rf /"}}
    event = {"type": "result", "result": "fine", "permission_denials": [denial]}
    assert read("claude", json.dumps(event)).denied == ("Bash: rm -rf /",)


# --- calling them ------------------------------------------------------------------------------


def test_no_built_in_profile_lets_everything_pass() -> None:
    for name, profile in BUILT_IN.items():
        words = " ".join((*profile.command, *profile.resume, *profile.open)).lower()
        for bypass in ("yolo", "skip-permissions", "bypass-approvals", "danger-full", "--auto "):
            assert bypass not in words, name
        assert profile.client == name


def test_what_a_client_may_do_is_the_boundary_git_and_the_steps() -> None:
    limits = Limits(("a/**",), ("make 'a b'",), ("/x y/python", "-m", "gitwaves"))
    said = json.loads(settings("claude", limits) or "")
    assert "Bash(git commit:*)" in said["permissions"]["allow"]
    assert "Bash(make 'a b')" in said["permissions"]["allow"]
    assert not any("push" in rule for rule in said["permissions"]["allow"])
    command = said["hooks"]["Stop"][0]["hooks"][0]["command"]
    assert command == "'/x y/python' -m gitwaves hooks agent"
    assert json.loads(settings("opencode", limits) or "")["permission"]["bash"]["*"] == "deny"
    import tomllib

    rules = tomllib.loads(settings("gemini", limits) or "")["rule"]
    assert {"git add", "make 'a b'"} <= {rule["commandPrefix"] for rule in rules}
    hooks = tomllib.loads("\n".join(overrides("codex", limits)))["hooks"]
    assert hooks["PreToolUse"][0]["hooks"][0]["command"] == command
    assert settings("text", limits) is None


def test_placeholders_are_filled_and_other_braces_stay() -> None:
    args = ["x", "{task}:{nothing}", '{"a": 1}', "--p={path}"]
    lists = {"path": ["a/**", "b c"]}
    assert filled(args, {"task": "A1"}, lists) == [
        *("x", "A1:{nothing}", '{"a": 1}', "--p=a/**", "--p=b c")
    ]


# --- what they do wrong ------------------------------------------------------------------------

# A client that speaks Claude Code's dialect and plays the scene that BEHAVE names.
CLIENT = """\
import json, os, pathlib, subprocess, sys, time
seen = pathlib.Path(os.environ["SEEN"])
calls = len(list(seen.glob(os.environ["GITWAVES_TASK"] + "-*")))
brief = sys.stdin.read()
note = seen / f"{os.environ['GITWAVES_TASK']}-{calls}"
note.write_text(json.dumps({"argv": sys.argv[1:], "brief": len(brief)}))
how = os.environ.get("BEHAVE", "right")
file = pathlib.Path({"A1": "a/one.txt", "A2": "a/two.txt", "B1": "b/one.txt"}[os.environ["GITWAVES_TASK"]])
def result(**more):
    print(json.dumps({"type": "result", "session_id": "s-1", "num_turns": 3, "total_cost_usd": 0.5,
                      "usage": {"input_tokens": 10, "output_tokens": 5}, **more}), flush=True)
if how == "limit" and calls == 0:
    result(is_error=True, result=f"usage limit reached|{int(time.time()) + 2}")
    sys.exit(1)
if how == "error" and calls == 0:
    result(subtype="success", is_error=True, result="API Error: 500")
    sys.exit(0)
if how == "denied" and calls == 0:
    result(result="done", permission_denials=[{"tool_name": "Write", "tool_input": {"file_path": "a"}}])
    sys.exit(0)
if how == "asks" and calls == 0:
    answer = sys.stdin.read()  # closed: it is not left waiting
    assert answer == ""
if how == "slow":
    time.sleep(60)
if how == "orphaned" and calls == 0 and os.environ["GITWAVES_TASK"] != "A2":
    print(json.dumps({"type": "system", "session_id": "s-0"}), flush=True)
    result(result="not yet")
    (seen / f"pid-{os.environ['GITWAVES_TASK']}").write_text(str(os.getpid()))
    time.sleep(120)
    file.write_text("by the orphan\\n")
if how == "torn":
    print('{"type": "result", "session_id": "s-', end="", flush=True)
file.parent.mkdir(exist_ok=True)
file.write_text("wrong\\n" if how == "retry" and calls == 0 else "ok\\n")
if how == "sandboxed":  # it may not commit
    sys.exit(0)
hooks = ["-c", "core.hooksPath=/dev/null"] if how == "hookless" else []
subprocess.run(["git", "add", "-A"], check=True)
subprocess.run(["git", *hooks, "commit", "-qm", "work"], check=True)
if how == "lingers":
    subprocess.run([sys.executable, "-m", "gitwaves", "verify"], check=True)
    time.sleep(3 if os.environ["GITWAVES_TASK"] == "A1" else 0)
if how == "teaches" and os.environ["GITWAVES_TASK"] == "A1":
    result(result="Done.\\n\\nLearned: cents, not euros\\nSpec-gap: it says euros")
elif how != "torn":
    result(result="done")
"""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "seen"
    folder.mkdir()
    monkeypatch.setenv("SEEN", str(folder))
    return folder


@pytest.fixture
def plan(repo: Repo, tmp_path: Path, seen: Path) -> Repo:
    """A plan of three tasks for a client of one's own: five lines of YAML."""
    del seen
    client = tmp_path / "client.py"
    client.write_text(CLIENT)
    repo.commit("Approve", **{"docs/design.md": DESIGN})
    repo.gw_ok("init", "--title", "Shop", "--agent", "mine")
    config = repo.path / ".workstreams/config.yaml"
    config.write_text(
        config.read_text()
        + "profiles:\n"
        + "  mine:\n"
        + f"    command: ['{sys.executable}', '{client}', '{{task}}']\n"
        + f"    resume: ['{sys.executable}', '{client}', --resume, '{{session}}']\n"
        + "    client: claude\n"
        + "retries: 1\n"
    )
    repo.gw_ok("import", "docs/design.md")
    repo.commit("Plan")
    repo.gw_ok("trust", "--yes")
    return repo


def calls(seen: Path, task: str) -> list[list[str]]:
    notes = sorted(seen.glob(f"{task}-*"), key=lambda p: int(p.name.split("-")[1]))
    return [json.loads(note.read_text())["argv"] for note in notes]


def test_session_and_cost_stand_in_the_card(plan: Repo, seen: Path) -> None:
    done = plan.gw("run")
    assert done.code == 0, done.out + done.err
    shown = json.loads(plan.gw_ok("show", "A1", "--json").out)
    assert shown["session"] == "s-1"
    assert shown["cost"] == {"turns": 3, "tokens": 15, "money": 0.5}
    assert calls(seen, "A1") == [["A1"]]


def test_nothing_lands_before_an_agent_has_said_its_last_words(
    plan: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEHAVE", "lingers")  # done long before it ends and says what it cost
    done = plan.gw("run")
    assert done.code == 0, done.out + done.err
    for task, stream in (("A1", "WS-A"), ("B1", "WS-B")):
        assert "money: 0.5" in plan.git("show", f"main:.workstreams/{stream}/{task}.yaml")


@pytest.mark.parametrize("behave", ["hookless", "sandboxed", "torn", "asks"])
def test_what_a_client_does_wrong_is_survived(
    plan: Repo, monkeypatch: pytest.MonkeyPatch, behave: str
) -> None:
    monkeypatch.setenv("BEHAVE", behave)
    done = plan.gw("run")
    assert done.code == 0, done.out + done.err
    assert states(plan) == {"A1": "done", "A2": "done", "B1": "done"}


def test_a_retry_goes_on_with_the_session(
    plan: Repo, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEHAVE", "retry")
    assert plan.gw("run").code == 0
    assert calls(seen, "B1") == [["B1"], ["--resume", "s-1"]]


def test_a_run_that_was_killed_is_gone_on_with(
    plan: Repo, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its agents are stopped, as two in one worktree would be in each other's way; none is lost."""
    monkeypatch.setenv("BEHAVE", "orphaned")
    killed = subprocess.Popen([sys.executable, "-m", "gitwaves", "run"], cwd=plan.path)
    pids = [seen / f"pid-{task}" for task in ("A1", "B1")]
    end = time.monotonic() + 60
    while not all(path.exists() and path.read_text() for path in pids):
        assert time.monotonic() < end
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    orphans = [int(path.read_text()) for path in pids]
    assert all(alive(pid) for pid in orphans)
    done = plan.gw("run")
    assert done.code == 0, done.out + done.err
    assert not any(alive(pid) for pid in orphans)
    assert states(plan) == {"A1": "done", "A2": "done", "B1": "done"}
    assert calls(seen, "A1") == [["A1"], ["--resume", "s-1"]]
    shown = json.loads(plan.gw_ok("show", "A1", "--json").out)
    assert shown["cost"] == {"turns": 6, "tokens": 30, "money": 1}  # of both
    assert plan.git("show", "main:a/one.txt") == "ok"


@pytest.mark.parametrize(
    ("behave", "said"),
    [
        ("error", "nothing changed since A1 was claimed (exit 0; API Error: 500)"),
        ("denied", "it was not allowed: Write: a"),
    ],
)
def test_exit_0_is_not_believed(
    plan: Repo, monkeypatch: pytest.MonkeyPatch, behave: str, said: str
) -> None:
    monkeypatch.setenv("BEHAVE", behave)
    done = plan.gw("run")
    assert done.code == 0, done.out + done.err
    assert said in done.out


def test_a_usage_limit_is_waited_for_and_is_no_attempt(
    plan: Repo, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEHAVE", "limit")
    began = time.time()
    done = plan.gw("run")
    assert done.code == 0, done.out + done.err
    assert time.time() - began > 2
    assert "usage limit: it goes on at" in done.out
    assert "attempt 1 failed" not in done.out
    assert len(calls(seen, "A1")) == 2


def test_a_command_is_told_what_happens(plan: Repo, tmp_path: Path) -> None:
    config = plan.path / ".workstreams/config.yaml"
    log = tmp_path / "events"
    config.write_text(config.read_text() + f"on_event: cat >> '{log}'; exit 1\n")
    plan.commit("Tell me")
    untrusted = plan.gw("run")
    assert (untrusted.code, "cat >>" in untrusted.err) == (1, True), untrusted
    plan.gw_ok("trust", "--yes")
    done = plan.gw("run")
    assert done.code == 0, done.out + done.err
    told = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in told] == [
        "merge_point_ready",
        "merge_point_landed",
        "all_done",
    ]
    assert told[1]["merge_point"] == "MP1"
    assert done.out.count("`on_event` failed: exit 1") == 1


def test_a_budget_ends_attempts_and_the_run(
    plan: Repo, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEHAVE", "retry")
    done = plan.gw("run", "--agents", "1", "--task-max-cost", "0.4")
    assert done.code == 1
    assert "A1  no further attempt: the budget of $0.4 is spent ($0.50)" in done.out
    assert states(plan)["A1"] == "failed"
    assert len(calls(seen, "A1")) == 1
    over = plan.gw("run", "--agents", "1", "--max-cost", "0.4")
    assert over.code == 1
    assert "nothing more is started: the budget of $0.4 is spent" in over.out
    assert plan.gw("run").code == 0
    shown = json.loads(plan.gw_ok("show", "A1", "--json").out)
    assert shown["cost"]["money"] == 1  # what the failed attempt cost is not forgotten


def test_time_is_a_budget_too(plan: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEHAVE", "slow")
    done = plan.gw("run", "--task-max-minutes", "0.02")
    assert done.code == 1
    assert "A1  no further attempt: the time of 0.02 minutes is up" in done.out
    assert set(states(plan).values()) == {"failed", "blocked"}


def test_last_words_teach(plan: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEHAVE", "teaches")
    assert plan.gw("run").code == 0
    shown = json.loads(plan.gw_ok("show", "A1", "--json").out)
    assert shown["learnings"] == ["cents, not euros"]
    assert [gap["text"] for gap in shown["spec_gaps"]] == ["it says euros"]
    assert "cents, not euros" in plan.gw_ok("brief", "A2").out
    assert "cents, not euros (A1," in plan.read("CLAUDE.md")


def test_logs_are_readable(plan: Repo) -> None:
    assert plan.gw("run").code == 0
    folder = plan.path / ".git/gitwaves/logs/A1"
    for log in folder.glob("*.log"):
        log.unlink()
    (folder / "agent-1.log").write_text(recorded("claude") + "plain \x1b[2J\n")
    assert plan.gw_ok("logs", "A1").out.splitlines() == [
        (
            "Bash: printf 'made\\n' > agent-was-here.txt && git add agent-was-here.txt && git commit -q -m "
            "'agent: add agent-was-here.txt' && git log --oneline -1"
        ),
        "Done: wrote agent-was-here.txt and committed it.",
        "Done: wrote agent-was-here.txt and committed it.",
        "plain \\x1b[2J",
    ]


def test_a_client_is_opened_with_the_brief_at_hand(plan: Repo, tmp_path: Path) -> None:
    script = 'cat "$1" | head -1; echo in $(pwd) session "$2" task $GITWAVES_TASK'
    config = plan.path / ".workstreams/config.yaml"
    text = config.read_text().replace(
        "    client: claude\n",
        "    client: claude\n"
        f"    open: [sh, -c, {json.dumps(script)}, sh, '{{brief}}', '{{session}}']\n",
    )
    config.write_text(text)
    plan.commit("Open")
    plan.gw_ok("trust", "--yes")
    done = plan.gw_ok("start", "A1", "--open", "mine")
    session = json.loads(plan.gw_ok("show", "A1", "--json").out)["session"]
    assert session
    assert done.out.splitlines()[-2:] == [
        "# A1: First",
        f"in {plan.path}.worktrees/ws-A session {session} task A1",
    ]
