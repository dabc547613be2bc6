"""Agent clients: what the real ones printed is read, and what they do wrong is survived."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from gitwaves.attempts import Work
from gitwaves.clients import BUILT_IN, CLIENTS, Limits, Said, filled, overrides, read, settings
from gitwaves.model import Branch, TaskId
from gitwaves.processes import alive
from tests.repo import Repo
from tests.shop import DESIGN, card, lines_of, shop, states, store_of, trust
from tests.terminal import Watched

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
    opencode = json.loads(settings("opencode", limits) or "")["permission"]
    assert opencode["bash"]["*"] == "deny"
    assert opencode["edit"] == {"*": "deny", "a/**": "allow"}
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


# --- the scripted client -----------------------------------------------------------------------

# A client that speaks Claude Code's dialect, and plays the scene that BEHAVE names for a task.
CLIENT = """\
import json, os, pathlib, signal, subprocess, sys, time
task = os.environ["GITWAVES_TASK"]
seen = pathlib.Path(os.environ["SEEN"])
calls = len(list(seen.glob(task + "-*")))
brief = sys.stdin.read()
(seen / f"{task}-{calls}").write_text(json.dumps({"argv": sys.argv[1:], "brief": brief}))
how = json.loads(os.environ.get("BEHAVE", "{}"))
how = how.get(task, how.get("*", "right"))
first = calls == 0
folder = task[0].lower()
file = pathlib.Path(folder, "two.txt" if task[1:] == "2" else "one.txt")
me = [sys.executable, "-m", "gitwaves"]
def tell(**event):
    print(json.dumps(event), flush=True)
def result(**more):
    usage = {"input_tokens": 10, "output_tokens": 5}
    tell(**{"type": "result", "session_id": "s-1", "num_turns": 3, "total_cost_usd": 0.5, "usage": usage, **more})
def write(text, path=file):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
def commit(*options, env={}):
    for command in (["add", "-A"], ["commit", "-qm", "work"]):
        subprocess.run(["git", *options, *command], env={**os.environ, **env})
def ask(event, **more):
    asked = {"session_id": "s-1", "cwd": os.getcwd(), "hook_event_name": event, **more}
    said = subprocess.run([*me, "hooks", "agent"], input=json.dumps(asked), capture_output=True, text=True).stdout
    return json.loads(said) if said else {}
if how == "limit" and first:
    end = int(time.time()) + 3
    (seen / "until").write_text(str(end))
    result(is_error=True, result=f"usage limit reached|{end}")
    sys.exit(1)
if how == "limit":
    assert time.time() >= float((seen / "until").read_text()), "it did not wait"
if how == "error" and first:
    result(subtype="success", is_error=True, result="API Error: 500")
    sys.exit(0)
if how == "denied" and first:
    result(result="done", permission_denials=[{"tool_name": "Write", "tool_input": {"file_path": "a"}}])
    sys.exit(0)
if how == "gone":  # there is no session to go on with
    if first:
        result(is_error=True, result="API Error: 500")
        sys.exit(1)
    if "--resume" in sys.argv:
        result(is_error=True, num_turns=0, result="No conversation found with session ID: s-1")
        sys.exit(1)
if how == "asks":
    print("Proceed? [y/N] ", end="", flush=True)
    assert sys.stdin.readline() == ""  # closed: it is not left waiting
if how == "deaf" and first:  # to INT and TERM, and so is its tool in a session of its own
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    tool = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (seen / f"pids-{task}").write_text(f"{os.getpid()} {tool.pid}")
    time.sleep(600)
while how == "retries" and first:
    tell(type="system", subtype="api_retry", error_status=529)
    time.sleep(0.05)
if how == "slow":
    time.sleep(60)
if how == "half" and first:
    write("half\\n")
    commit()
    result(session_id="s-0", result="not yet")
    (seen / f"pids-{task}").write_text(str(os.getpid()))
    time.sleep(600)
    write("by the orphan\\n")
if how == "gated":
    tell(type="assistant", message={"content": [{"type": "text", "text": f"Building {task}"}]})
    while not (seen / "go").exists():
        time.sleep(0.05)
if how == "hooked":  # it is told before the write and before the end, and obeys
    stray = pathlib.Path("a" if folder == "b" else "b", "stray.txt")
    if "hookSpecificOutput" not in ask("PreToolUse", tool_name="Write", tool_input={"file_path": str(stray)}):
        write("stray\\n", stray)
    write("wrong\\n")
    commit()
    while "block" in ask("Stop").get("decision", ""):
        write("ok\\n")
        commit()
    result(result="done")
    sys.exit(0)
if how == "bare":  # nobody tells it anything
    stray = pathlib.Path("a" if folder == "b" else "b", "stray.txt")
    write("wrong\\n" if first else "ok\\n")
    if first:
        write("stray\\n", stray)
        commit("-c", "core.hooksPath=")
    elif stray.exists():
        subprocess.run(["git", "rm", "-qf", str(stray)])
        subprocess.run(["git", "-c", "core.hooksPath=", "commit", "-qa", "--amend", "-m", "work"])
    sys.exit(0)
if how == "torn":
    print('{"type": "result", "session_id": "s-', end="", flush=True)
write("wrong\\n" if how == "retry" and first else "ok\\n")
if how == "sandboxed":  # Git may write nothing; it ends as if all were well
    commit(env={"GIT_INDEX_FILE": "/proc/none/index"})
    sys.exit(0)
commit(*(["-c", "core.hooksPath="] if how == "hookless" else []))
if how == "retry":  # it verifies by itself, and that counts as the attempt that it is
    subprocess.run([*me, "verify"])
if how == "lingers":
    subprocess.run([*me, "verify"], check=True)
    time.sleep(3 if task == "A1" else 0)
if how == "teaches" and task == "A1":
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


def planned(tmp_path: Path, design: str = DESIGN, **config: object) -> Repo:
    """A plan for clients of one's own, which are five lines of YAML each."""
    client = tmp_path.parent / "client.py"  # the same for all, as the plan is
    client.write_text(CLIENT)
    command = [sys.executable, str(client), "{task}"]
    mine = {
        "command": command,
        "resume": [*command, "--resume", "{session}"],
        "client": "claude",
    }
    profiles = {
        "mine": mine,
        "other": {**mine, "client": "codex"},
        "brief": {**mine, "timeout": "2s"},
    }
    lines = lines_of(profiles=profiles, **{"retries": 1, **config})
    return shop(tmp_path, agent="mine", config=lines, design=design)


@pytest.fixture
def plan(tmp_path: Path, seen: Path) -> Repo:
    del seen
    return planned(tmp_path)


def behave(monkeypatch: pytest.MonkeyPatch, everywhere: str = "right", **scenes: str) -> None:
    monkeypatch.setenv("BEHAVE", json.dumps({"*": everywhere, **scenes}))


def calls(seen: Path, task: str) -> list[list[str]]:
    """The arguments of each call for a task."""
    notes = sorted(seen.glob(f"{task}-*"), key=lambda p: int(p.name.split("-")[1]))
    return [json.loads(note.read_text())["argv"][1:] for note in notes]


# --- what they do wrong ------------------------------------------------------------------------

AGAIN = ["--resume", "s-1"]
# Of each scene: the attempts that it took, and the calls.
SCENES: dict[str, tuple[int, list[list[str]]]] = {
    "right": (1, [[]]),
    "hookless": (1, [[]]),
    "sandboxed": (1, [[]]),
    "torn": (1, [[]]),
    "asks": (1, [[]]),
    "large": (1, [[]]),
    "limit": (1, [[], AGAIN]),  # refused before it could try
    "error": (2, [[], AGAIN]),
    "denied": (2, [[], AGAIN]),
    "retry": (2, [[], AGAIN]),
    "gone": (3, [[], AGAIN, []]),
}
LATE = ("deaf", "retries")  # they are stopped after two seconds; how often hangs on the machine
TASK_OF = {scene: f"{chr(ord('A') + n)}1" for n, scene in enumerate((*SCENES, *LATE))}


def scenes_design() -> str:
    """A workstream for each scene, with one task."""
    parts = ["# Shop\n"]
    for scene, task in TASK_OF.items():
        file = f"{task[0].lower()}/one.txt"
        parts += [f"## WS-{task[0]}: {scene}\nPaths: `{file[0]}/**`\n", f"### {task}: {scene}"]
        parts += [f"Verify: `grep -q ok {file}`\n", f"Write ok into {file}.\n"]
        if scene == "large":
            parts += ["Acceptance:", *(f"- {n} {'x' * 990}" for n in range(150)), ""]
    return "\n".join(parts)


def test_what_clients_do_wrong_is_survived(
    tmp_path: Path, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it at the same time, in one run."""
    plan = planned(tmp_path, scenes_design(), retries=9)
    for scene in LATE:  # an agent of its own for a workstream
        stream = f".workstreams/WS-{TASK_OF[scene][0]}/workstream.yaml"
        plan.write(stream, plan.read(stream) + "agent: brief\n")
    card_of = f".workstreams/WS-{TASK_OF['right'][0]}/{TASK_OF['right']}.yaml"
    plan.write(card_of, plan.read(card_of).replace("spec:", "agent: other\nspec:", 1))
    plan.commit("Agents")
    behave(monkeypatch, **{task: scene for scene, task in TASK_OF.items()})
    done = plan.gw("run", "--agents", str(len(TASK_OF)))
    assert done.code == 0, done.out + done.err
    assert set(states(plan).values()) == {"done"}
    for task in TASK_OF.values():
        assert plan.git("show", f"main:{task[0].lower()}/one.txt") == "ok"
    took = {scene: (card(plan, t).attempts, calls(seen, t)) for scene, t in TASK_OF.items()}
    assert {scene: took[scene] for scene in SCENES} == SCENES, done.out
    assert all(took[scene][0] > 1 for scene in LATE)
    agents = {scene: str(card(plan, t).agent).split("-")[0] for scene, t in TASK_OF.items()}
    assert agents == {
        **dict.fromkeys(TASK_OF, "mine"),
        **dict.fromkeys(LATE, "brief"),
        "right": "other",
    }

    said = done.out
    for scene, what in {
        "error": "failed: nothing changed since {} was claimed (exit 0; API Error: 500)",
        "retry": "failed: step 1 failed, exit 1 (exit 0)",
        "gone": "(exit 1; No conversation found with session ID: s-1)",
        "deaf": "was claimed (timed out)",
        "retries": "was claimed (timed out)",
    }.items():
        assert what.format(TASK_OF[scene]) in said, scene
    assert f"{TASK_OF['denied']}  it was not allowed: Write: a" in said
    assert f"{TASK_OF['limit']}  usage limit: it goes on at" in said
    pids = (seen / f"pids-{TASK_OF['deaf']}").read_text().split()
    assert not any(alive(int(pid)) for pid in pids)
    brief = json.loads((seen / f"{TASK_OF['large']}-0").read_text())["brief"]
    assert len(brief) > 128 * 1024
    assert "- 149 xxx" in brief


def test_clients_with_hooks_and_without_end_in_the_same_state(
    tmp_path: Path, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One obeys what hooks tell it; the other has none, neither its own nor Git's."""
    ended = []
    for how in ("hooked", "bare"):
        (tmp_path / how).mkdir()
        for note in seen.iterdir():
            note.unlink()
        plan = planned(tmp_path / how)
        if how == "bare":
            plan.gw_ok("hooks", "uninstall")
        behave(monkeypatch, how)
        done = plan.gw("run")
        assert done.code == 0, done.out + done.err
        assert plan.gw_ok("sync").out == "nothing new\n"
        evidence = {}
        for task in ("A1", "A2", "B1"):
            held = card(plan, task).evidence
            assert held is not None
            runs = [(run.run, run.exit) for run in held.runs]
            evidence[task] = (held.spec, runs, card(plan, task).status)
        tree = {
            name: plan.git("show", f"main:{name}")
            for name in ("a/one.txt", "a/two.txt", "b/one.txt")
        }
        files = plan.git("ls-tree", "-r", "--name-only", "main", "a", "b").splitlines()
        ended.append((states(plan), evidence, tree, files))
        tries = {task: card(plan, task).attempts for task in evidence}
        assert tries == dict.fromkeys(evidence, 1 if how == "hooked" else 2)
    assert ended[0] == ended[1]


# --- sessions ----------------------------------------------------------------------------------


def test_nothing_lands_before_an_agent_has_said_its_last_words(
    plan: Repo, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, "lingers")  # done long before it ends and says what it cost
    done = plan.gw("run")
    assert done.code == 0, done.out + done.err
    for task, stream in (("A1", "WS-A"), ("B1", "WS-B")):
        assert "money: 0.5" in plan.git("show", f"main:.workstreams/{stream}/{task}.yaml")
    held = card(plan, "A1")
    assert (held.session, held.cost) == ("s-1", {"turns": 3, "tokens": 15, "money": 0.5})


def killed(plan: Repo, seen: Path, tasks: Sequence[str]) -> None:
    """A `run` that is killed while its agents are half-way."""
    process = subprocess.Popen([sys.executable, "-m", "gitwaves", "run"], cwd=plan.path)
    pids = [seen / f"pids-{task}" for task in tasks]
    end = time.monotonic() + 100
    while not all(path.exists() and path.read_text() for path in pids):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert all(alive(int(path.read_text())) for path in pids)


def test_a_run_that_was_killed_is_gone_on_with(
    plan: Repo, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its agents are stopped, as two in one worktree would be in each other's way; none is lost."""
    behave(monkeypatch, A1="half", B1="half")
    killed(plan, seen, ["A1", "B1"])
    done = plan.gw("run")
    assert done.code == 0, done.out + done.err
    assert not any(alive(int((seen / f"pids-{task}").read_text())) for task in ("A1", "B1"))
    assert states(plan) == {"A1": "done", "A2": "done", "B1": "done"}
    assert calls(seen, "A1") == [[], ["--resume", "s-0"]]
    assert card(plan, "A1").cost == {"turns": 6, "tokens": 30, "money": 1}  # of both
    assert plan.git("show", "main:a/one.txt") == "ok"


def test_a_task_is_handed_to_another_client_half_way(
    plan: Repo, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on from what is committed, not with a session that it never had."""
    behave(monkeypatch, A1="half")
    killed(plan, seen, ["A1"])
    half = plan.git("log", "-1", "--format=%H", "ws/A", "--", "a")
    done = plan.gw("run", "--agent", "other")
    assert done.code == 0, done.out + done.err
    assert calls(seen, "A1") == [[], []]
    held = card(plan, "A1")
    assert str(held.agent).startswith("other-")
    assert held.cost == {
        "turns": 3,
        "tokens": 15,
        "money": 0.5,
    }  # the other says nothing of its own
    assert half in plan.git("rev-list", "main").splitlines()
    assert plan.git("show", f"{half}:a/one.txt") == "half"
    assert plan.git("show", "main:a/one.txt") == "ok"


def test_tokens_that_are_of_a_whole_session_count_once(plan: Repo) -> None:
    def said(tokens: int) -> Said:
        events = [
            {"type": "thread.started", "thread_id": "t-1"},
            {"type": "turn.completed", "usage": {"input_tokens": tokens, "output_tokens": 0}},
        ]
        return read("codex", "\n".join(map(json.dumps, events)))

    work = Work(store_of(plan), TaskId("A1"), Branch("ws/A"), 1, print, threading.Event())
    for tokens in (100, 250, 250):
        work.heard(said(tokens))
    assert work.cost == {"turns": 3, "tokens": 250}


# --- budgets, events, lessons ------------------------------------------------------------------


def test_a_command_is_told_what_happens(plan: Repo, tmp_path: Path) -> None:
    config = plan.path / ".workstreams/config.yaml"
    log = tmp_path / "events"
    config.write_text(config.read_text() + f"on_event: cat >> '{log}'; exit 1\n")
    plan.commit("Tell me")
    untrusted = plan.gw("run")
    assert (untrusted.code, "cat >>" in untrusted.err) == (1, True), untrusted
    trust(plan)
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
    behave(monkeypatch, "retry")
    done = plan.gw("run", "--agents", "1", "--task-max-cost", "0.4")
    assert done.code == 1
    assert "A1  no further attempt: the budget of $0.4 is spent ($0.50)" in done.out
    assert states(plan)["A1"] == "failed"
    assert len(calls(seen, "A1")) == 1
    over = plan.gw("run", "--agents", "1", "--max-cost", "0.4")
    assert over.code == 1
    assert "nothing more is started: the budget of $0.4 is spent" in over.out
    assert (states(plan)["A1"], states(plan)["A2"]) == ("done", "blocked")
    assert card(plan, "A1").cost["money"] == 1  # what the failed attempt cost is not forgotten


def test_time_is_a_budget_too(plan: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, "slow")
    done = plan.gw("run", "--task-max-minutes", "0.02")
    assert done.code == 1
    assert "A1  no further attempt: the time of 0.02 minutes is up" in done.out
    assert set(states(plan).values()) == {"failed", "blocked"}


def test_last_words_teach(plan: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, "teaches")
    assert plan.gw("run").code == 0
    held = card(plan, "A1")
    assert held.learnings == ("cents, not euros",)
    assert [gap.text for gap in held.spec_gaps] == ["it says euros"]
    assert "cents, not euros" in plan.gw_ok("brief", "A2").out
    assert "cents, not euros (A1," in plan.read("CLAUDE.md")


# --- watching ----------------------------------------------------------------------------------


def test_agents_are_watched_at_work(
    plan: Repo, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, "gated")
    run = Watched(plan, "run")
    run.until("Building B1")
    others = [Watched(plan, "status", "--watch"), Watched(plan, "logs", "B1", "-f")]
    for one in others:
        one.until("Building B1")
    assert re.search(r"AGENTS\r?\n  A1 .*\d[ms]  Building A1", others[0].shown)
    (seen / "go").touch()
    others[0].until("3/3 done")
    others[1].until("done")
    assert run.end() == 0, run.shown
    assert run.shown.count("\a") == 2  # MP1 landed, and all is done
    assert "SHOP " in run.shown
    assert "all 3 tasks are done and on main" in run.shown
    assert [one.end(interrupt=True) for one in others] == [130, 130]


def test_logs_are_readable(plan: Repo) -> None:
    folder = plan.path / ".git/gitwaves/logs/A1"
    folder.mkdir(parents=True)
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
    opens = json.dumps(["sh", "-c", script, "sh", "{brief}", "{session}"])
    text = config.read_text().replace('"client": "claude"', f'"open": {opens}', 1)
    config.write_text(text)
    plan.commit("Open")
    trust(plan)
    done = plan.gw_ok("start", "A1", "--open", "mine")
    session = json.loads(plan.gw_ok("show", "A1", "--json").out)["session"]
    assert session
    assert done.out.splitlines()[-2:] == [
        "# A1: First",
        f"in {plan.path}.worktrees/ws-A session {session} task A1",
    ]


# --- sessions that nobody told us of -----------------------------------------------------------

OWN, OTHER = "01a214e3-fb2c-7cc0-af18-5fe19c283485", "9656d0da-e59d-4e6c-9937-6ea65b2b84e1"
SES = "ses_deb0c66cfffeULMulZvA0W5d9Q"


@pytest.fixture
def tree(plan: Repo) -> Repo:
    """The worktree of A1, at work."""
    return Repo(Path(plan.gw_ok("start", "A1").out.strip()))


def listing(tree: Repo, folder: Path) -> dict[str, str]:
    """An environment as in opencode 1.18, whose list of sessions has three of two worktrees."""
    sessions = [
        {"id": name, "title": "A title", "updated": updated, "created": 1795647808415,
         "projectId": "718f9474d5c89e4b725e862683c10e59c7c015e5", "directory": str(directory)}
        for name, updated, directory in (
            ("ses_other", 1795647839999, tree.path.parent / "ws-B"),
            ("ses_before", 1795647827015, tree.path),
            (SES, 1795647839992, tree.path / "a"),
        )
    ]  # fmt: skip
    folder.mkdir()
    (folder / "list.json").write_text(json.dumps(sessions, indent=2))
    script = folder / "opencode"
    script.write_text(f"#!/bin/sh\necho \"$*\" >>'{folder}/asked'\ncat '{folder}/list.json'\n")
    script.chmod(0o755)
    return {"OPENCODE": "1", "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def session_of(tree: Repo, env: dict[str, str], *args: str) -> str | None:
    """What the card of A1 says after a verification that fails, in such an environment."""
    assert tree.gw("verify", *args, env=env).code == 1
    return card(tree, "A1").session


def test_a_session_that_verifies_stands_on_the_card(tree: Repo, tmp_path: Path) -> None:
    tree.commit("Half", **{"a/one.txt": "half"})
    assert session_of(tree, {}) is None
    assert session_of(tree, {"CODEX_THREAD_ID": OWN}) == OWN
    tip = tree.oid()
    assert session_of(tree, {"CODEX_THREAD_ID": OWN}, "A1") == OWN
    assert tree.oid() == tip  # it is written once
    assert session_of(tree, {"CLAUDE_CODE_SESSION_ID": OTHER}) == OTHER
    assert session_of(tree, listing(tree, tmp_path / "bin")) == SES
    assert (tmp_path / "bin/asked").read_text() == "session list --format json --max-count 100\n"
    tree.commit("Whole", **{"a/one.txt": "ok"})
    assert tree.gw_ok("verify").out.startswith("A1 is done\n")
    assert card(tree, "A1").session == SES


def test_a_session_is_not_guessed(plan: Repo, tree: Repo, tmp_path: Path) -> None:
    both = {"CODEX_THREAD_ID": OWN, "CLAUDE_CODE_SESSION_ID": OTHER}
    assert session_of(tree, both) is None
    assert session_of(tree, {"CODEX_THREAD_ID": OWN, "GITWAVES_RUN": "A1-0"}) is None
    assert session_of(tree, {"CODEX_THREAD_ID": "a\nb"}) is None
    opencode = listing(tree, tmp_path / "bin")
    for said in ("", "not json", "[3]", '[{"id": "ses_1"}]', "[]"):
        (tmp_path / "bin/list.json").write_text(said)
        assert session_of(tree, opencode) is None
    assert plan.gw("verify", "A1", env={"CODEX_THREAD_ID": OWN}).code == 1
    assert card(tree, "A1").session is None  # it is at work elsewhere


def test_a_task_is_handed_half_way_to_a_client_with_a_person_in_it(plan: Repo, tree: Repo) -> None:
    """What the first had committed stays, and the card never names its session for the other's."""
    plan.gw_ok("start", "A1", "--agent", "codex")
    tree.commit("Half", **{"a/one.txt": "half"})
    half = tree.oid()
    assert session_of(tree, {"CODEX_THREAD_ID": OWN}) == OWN
    tree.write("a/more.txt", "not committed")
    plan.gw_ok("start", "A1", "--agent", "opencode")
    assert (card(plan, "A1").agent, card(plan, "A1").session) == ("opencode", None)
    assert tree.read("a/more.txt") == "not committed"
    tree.write("a/one.txt", "ok")
    done = tree.gw_ok("verify", "--commit", env={"CLAUDE_CODE_SESSION_ID": OTHER})
    assert done.out.startswith("A1 is done\n")
    assert card(plan, "A1").session == OTHER
    assert half in tree.git("rev-list", "HEAD").splitlines()
