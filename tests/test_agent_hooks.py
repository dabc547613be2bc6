"""`hooks agent`: asked by a client in its own JSON, as recorded from Claude Code and Codex."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gitwaves import agenthooks, claims
from gitwaves.errors import GitwavesError
from tests.repo import Repo, Result
from tests.shop import shop, store_of


@pytest.fixture
def tree(tmp_path: Path) -> Repo:
    """The worktree of A1, at work."""
    return Repo(claims.start(store_of(shop(tmp_path)), "A1").path)


def question(tree: Repo, event: str, **more: object) -> str:
    return json.dumps(
        {"session_id": "s-1", "cwd": str(tree.path), "hook_event_name": event, **more}
    )


def ask(tree: Repo, event: str, **more: object) -> Result:
    """What is answered to a client that works in a worktree, as the command gives it."""
    try:
        said = agenthooks.answer(question(tree, event, **more))
    except GitwavesError as error:
        return Result(error.code, "", f"Error: {error.message}\nHint: {error.hint}\n")
    return Result(0, f"{said}\n" if said else "", "")


def test_the_command_answers_on_standard_output(tree: Repo) -> None:
    given = {"tool_name": "Write", "tool_input": {"file_path": "b/one.txt"}}
    for event, more in (
        ("PreToolUse", given),
        ("Stop", {}),
        ("TaskCompleted", {"task_subject": "A1"}),
    ):
        asked = question(tree, event, session_id="s-2", **more)
        assert tree.gw("hooks", "agent", input=asked) == ask(tree, event, session_id="s-3", **more)


def denial(tree: Repo, tool: str, **given: object) -> str | None:
    """Why a tool call is denied, or None."""
    done = ask(tree, "PreToolUse", tool_name=tool, tool_input=given)
    assert done.code == 0, done
    if not done.out:
        return None
    said = json.loads(done.out)["hookSpecificOutput"]
    assert (said["hookEventName"], said["permissionDecision"]) == ("PreToolUse", "deny")
    reason = said["permissionDecisionReason"]
    assert isinstance(reason, str)
    return reason


def test_a_write_outside_the_boundary_is_denied_with_the_reason(tree: Repo) -> None:
    assert denial(tree, "Write", file_path=str(tree.path / "a/one.txt"), content="ok") is None
    assert denial(tree, "Edit", file_path="a/deep/two.txt") is None
    said = denial(tree, "Edit", file_path=str(tree.path / "b/one.txt"))
    assert said is not None
    assert said.startswith("b/one.txt belongs to WS-B, outside the boundary of WS-A. Task A1 is")
    assert denial(tree, "Write", file_path="a/../b/x") is not None
    assert "gitwaves' to write" in str(denial(tree, "Write", file_path=".workstreams/WS-A/A1.yaml"))
    main = tree.path.parents[1] / "repo/a/one.txt"
    assert "stay in" in str(denial(tree, "Write", file_path=str(main)))
    assert denial(tree, "Write", file_path="/tmp/elsewhere.txt") is None  # the client's to judge
    assert denial(tree, "Bash", command="echo x > b/one.txt") is None  # the commit hook's to judge


def test_a_patch_of_codex_is_read(tree: Repo) -> None:
    patch = (
        "*** Begin Patch\n*** Update File: a/x\n@@\n*** Add File: b/new.txt\n+x\n*** End Patch\n"
    )
    assert str(denial(tree, "apply_patch", command=patch)).startswith("b/new.txt belongs to WS-B")
    assert denial(tree, "apply_patch", input=patch.replace("b/new", "a/new")) is None


def test_a_session_is_sent_back_until_verification_passes(tree: Repo) -> None:
    nothing = json.loads(ask(tree, "Stop", stop_hook_active=False).out)
    assert nothing["decision"] == "block"
    assert "nothing changed since A1 was claimed" in nothing["reason"]
    tree.write("a/one.txt", "wrong\n")
    tree.git("add", "-A")
    tree.git("commit", "-q", "-m", "try")
    wrong = json.loads(ask(tree, "Stop", stop_hook_active=True).out)
    assert "A1 is not done. step 1 failed, exit 1" in wrong["reason"]
    tree.write("a/one.txt", "ok\n")
    loose = json.loads(ask(tree, "Stop", stop_hook_active=True).out)
    assert "commit what it passed on: a/one.txt" in loose["reason"]
    tree.git("add", "-A")
    tree.git("commit", "-q", "-m", "right")
    assert ask(tree, "Stop", stop_hook_active=True) == Result(0, "", "")
    shown = json.loads(tree.gw_ok("show", "A1", "--json").out)
    assert (shown["state"], shown["session"]) == ("done", "s-1")


def test_it_is_not_sent_back_for_ever(tree: Repo) -> None:
    answers = [bool(ask(tree, "Stop").out) for _ in range(7)]
    assert answers == [True] * 5 + [False] * 2
    assert ask(tree, "Stop", session_id="s-2").out


def test_a_session_opened_by_hand_is_led_to_the_loop(tree: Repo) -> None:
    said = json.loads(ask(tree, "SessionStart", source="startup").out)["hookSpecificOutput"]
    assert "`gitwaves brief A1`" in said["additionalContext"]
    shown = json.loads(tree.gw_ok("show", "A1", "--json").out)
    assert shown["session"] == "s-1"
    main = tree.at("../../repo")
    assert ask(main, "SessionStart").out == ""


def test_worktrees_are_handed_out(tree: Repo) -> None:
    main = tree.at("../../repo")
    given = Path(ask(main, "WorktreeCreate", name="B1").out.strip())
    assert given == tree.path.parent / "ws-B"
    assert json.loads(tree.gw_ok("show", "B1", "--json").out)["state"] == "active"
    tree.write("a/half.txt", "x\n")
    tree.git("add", "-A")
    tree.git("commit", "-q", "-m", "half")
    helper = Repo(Path(ask(tree, "WorktreeCreate", name="agent-12").out.strip()))
    assert helper.oid() == tree.oid()
    assert helper.path == Path(ask(tree, "WorktreeCreate", worktree_name="agent-12").out.strip())
    odd = ask(tree, "WorktreeCreate", name="../x")
    assert (odd.code, odd.out) == (2, "")


def spawn(main: Repo, agent: str, prompt: str, **more: object) -> str | None:
    """Why a sub-agent may not be started, or None."""
    given = {"subagent_type": agent, "prompt": prompt, "description": "x", **more}
    done = ask(main, "PreToolUse", tool_name="Agent", tool_input=given)
    assert done.code == 0, done
    if not done.out:
        return None
    said = json.loads(done.out)["hookSpecificOutput"]
    assert said["permissionDecision"] == "deny"
    return str(said["permissionDecisionReason"])


def test_each_of_several_sub_agents_gets_the_worktree_of_its_task(tree: Repo) -> None:
    """They are asked for at the same time, and the second question names no task."""
    main = tree.at("../../repo")
    wanted = {"ws-b": "ws-B", "ws-a": "ws-A", "general-purpose": "gitwaves-helper-agent-ws-b"}
    agents = ("ws-b", "ws-a")

    def dispatch(agent: str) -> tuple[str, str]:
        assert spawn(main, agent, f"Do {'B1' if agent == 'ws-b' else 'A1'}.") is None
        return agent, ask(main, "WorktreeCreate", name=f"agent-{agent}").out.strip()

    with ThreadPoolExecutor(len(agents)) as pool:
        given = dict(pool.map(dispatch, agents))
    assert {a: Path(p).name for a, p in given.items()} == {a: wanted[a] for a in agents}
    assert json.loads(main.gw_ok("show", "B1", "--json").out)["state"] == "active"
    # an agent of no workstream that asks for a worktree gets one of its own
    assert spawn(main, "general-purpose", "Look.", isolation="worktree") is None
    helper = ask(main, "WorktreeCreate", name="agent-12").out.strip()
    assert Path(helper).name not in wanted.values()
    assert spawn(main, "general-purpose", "Look.") is None  # needs none, and leaves no note


def test_a_sub_agent_without_a_task_is_not_started(tree: Repo) -> None:
    main = tree.at("../../repo")
    assert spawn(main, "ws-a", "Do A2.") == "ws/A is at work on A1: A2 waits for it"
    tree.write("a/one.txt", "ok\n")
    tree.gw_ok("verify", "--commit", "-m", "one")
    assert spawn(main, "ws-a", "Do A2.") == "A2 is blocked; `gitwaves show A2` says why"
    assert str(spawn(main, "ws-a", "Go on.")).startswith("WS-A has no task that could start")
    assert spawn(main, "ws-b", "Go on, with B1 or so.") is None


def test_an_agent_astray_writes_nothing(tree: Repo) -> None:
    given = {"tool_name": "Write", "tool_input": {"file_path": "a/x"}}
    assert ask(tree, "PreToolUse", **given, agent_type="ws-a").out == ""
    said = json.loads(ask(tree, "PreToolUse", **given, agent_type="ws-b").out)
    reason = said["hookSpecificOutput"]["permissionDecisionReason"]
    assert reason == "this is the worktree of ws/A, and ws-b works on ws/B: stop here"
    assert ask(tree, "PreToolUse", **given, agent_type="Explore").out == ""


def test_sub_agents_are_led_and_sent_back_too(tree: Repo) -> None:
    said = json.loads(ask(tree, "SubagentStart", agent_type="ws-a").out)["hookSpecificOutput"]
    assert said["hookEventName"] == "SubagentStart"
    assert "`gitwaves brief A1`" in said["additionalContext"]
    assert json.loads(ask(tree, "SubagentStop", agent_type="ws-a").out)["decision"] == "block"


def test_a_clients_own_list_is_kept_true(tree: Repo) -> None:
    main = tree.at("../../repo")
    early = ask(main, "TaskCompleted", task_id="1", task_subject="A1: First")
    assert (early.code, early.out) == (2, "")
    assert early.err.startswith("Error: A1 is active, not done")
    assert ask(main, "TaskCompleted", task_subject="Write to A1").code == 0  # not a task of ours
    assert ask(main, "TaskCompleted", task_subject="").code == 0
    tree.write("a/one.txt", "ok\n")
    tree.gw_ok("verify", "--commit", "-m", "one")
    assert ask(main, "TaskCompleted", task_subject="A1: First").code == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"hook_event_name": 3, "cwd": 4}'])
def test_what_is_no_question_is_refused(tree: Repo, text: str) -> None:
    done = tree.gw("hooks", "agent", input=text)
    assert done.code in {0, 2}, done
    assert "Traceback" not in done.err
    assert done.out == ""


def test_outside_of_a_plan_it_says_nothing(tmp_path: Path) -> None:
    plain = Repo.init(tmp_path / "plain")
    for event in ("PreToolUse", "Stop", "SessionStart", "SessionEnd"):
        assert ask(plain, event, tool_name="Write", tool_input={"file_path": "x"}).out == ""
