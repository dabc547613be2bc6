"""What Claude Code and Codex ask while an agent works, answered in their own JSON.

Before a write: is it within the boundary? Before the end: does verification pass? Both are asked again
by gitwaves itself, so an agent that has no hooks, or breaks them, ends in the same state. Before a
sub-agent: which task is it for, and so which worktree? The shapes of questions and answers were read
off Claude Code 2.1 and Codex CLI 0.169.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from gitwaves.advancing import advance
from gitwaves.attempts import failure_text
from gitwaves.claims import start
from gitwaves.clients import SESSION, SPAWNS
from gitwaves.dispatching import before_spawn, stream_of, take
from gitwaves.errors import ExitCode, GitwavesError, NotReady, Untrusted, UsageError
from gitwaves.git import Repo, Worktree
from gitwaves.guards import trespasses
from gitwaves.handing import news, worked_in
from gitwaves.model import Branch, State, TaskId
from gitwaves.patterns import regex
from gitwaves.rulebook import Rules
from gitwaves.store import Snapshot, Store, at_work
from gitwaves.verifying import verify
from gitwaves.worktrees import place_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_RETURNS = 5  # times that one session is sent back to work
_PATCHED = regex(r"^\*\*\* (?:(?:Add|Update|Delete) File|Move to): (.+)$", re.MULTILINE)


def answer(text: str) -> str:
    """The answer to one question of a client; empty where there is nothing to say.

    Raises:
        UsageError: it is no question of a client.
        GitwavesError: a worktree that was asked for cannot be given.
    """
    try:
        asked = json.loads(text)
        event = str(asked["hook_event_name"])
        where = Path(str(asked.get("cwd") or "."))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "no question of an agent client on standard input",
            "agent clients call this; `gitwaves export claude-agents` writes their settings",
        ) from error
    session = str(asked.get("session_id") or "")
    if event == "WorktreeCreate":
        name = str(asked.get("name") or asked.get("worktree_name") or "")
        return str(_worktree(where, name, session))
    try:
        store = Store(Repo.open(where), offline=True)
        here = store.repo.here()
        if here is None or here.branch is None:
            return ""
        match event:
            case "PreToolUse" if str(asked.get("tool_name")) in SPAWNS.split("|"):
                return before_spawn(store, asked, session)
            case "PreToolUse":
                return _before_write(store, here, asked)
            case "Stop" | "SubagentStop":
                return _before_end(store, here, session)
            case "SessionStart" | "SubagentStart":
                return _at_start(store, here, event, session)
            case "TaskCompleted":
                _before_completion(store, asked)
    except NotDone:
        raise
    except GitwavesError:
        return ""  # no plan, or a state that other commands complain of: a session goes on
    return ""


def _say(answer: Mapping[str, object]) -> str:
    return json.dumps(answer)


# --- before a write ----------------------------------------------------------------------------


def _before_write(store: Store, here: Worktree, asked: Mapping[str, Any]) -> str:
    snapshot = store.snapshot()
    assert here.branch is not None
    task = at_work(snapshot, here.branch)
    if stray := _astray(snapshot, here.branch, str(asked.get("agent_type") or "")):
        return _denied(stray)
    if task is None:
        return ""
    if fresh := news(store, store.progress(snapshot), task):
        return _denied(". ".join(fresh) + ". You are told this once; go on with it in mind.")
    rules = Rules(store.repo, snapshot.trunk, snapshot.trunk_tip, snapshot.cards)
    said = []
    for path in _written(asked):
        full = Path(os.path.realpath(here.path / path))  # links lead elsewhere
        if full.is_relative_to(here.path):
            inside = full.relative_to(here.path).as_posix()
            if inside.startswith(".workstreams/"):
                said.append(f"{inside} is gitwaves' to write: cards change on {snapshot.trunk}")
            else:
                card = snapshot.cards.tasks[task].path
                said += [str(b) for b in trespasses(rules, here.branch, card, [inside])]
        elif full.is_relative_to(store.repo.common) or _others(store, here, full):
            said.append(f"{full} lies in another worktree: stay in {here.path}")
    if not said:
        return ""
    return _denied(
        "; ".join(said) + f". Task {task} is at work here; `gitwaves brief` says its boundary."
    )


def _denied(reason: str) -> str:
    said = {"permissionDecision": "deny", "permissionDecisionReason": reason}
    return _say({"hookSpecificOutput": {"hookEventName": "PreToolUse", **said}})


def _astray(snapshot: Snapshot, branch: Branch, agent: str) -> str:
    """Why a workstream's agent may not write on a branch; empty where it may, or is none."""
    stream = stream_of(snapshot.cards, agent)
    if stream is None or stream.branch == branch:
        return ""
    return f"this is the worktree of {branch}, and {agent} works on {stream.branch}: stop here"


def _written(asked: Mapping[str, Any]) -> Iterator[str]:
    """The paths that a tool call is about to write, as far as they can be known."""
    given = asked.get("tool_input")
    if not isinstance(given, Mapping):
        return
    tool = str(asked.get("tool_name") or "")
    if tool in {"Edit", "Write", "MultiEdit", "NotebookEdit"}:
        for key in ("file_path", "notebook_path"):
            if isinstance(given.get(key), str):
                yield given[key]
    for value in given.values():  # a patch stands under other keys in other versions
        if isinstance(value, str) and "*** Begin Patch" in value:
            yield from (match[1].strip() for match in _PATCHED.finditer(value))


def _others(store: Store, here: Worktree, path: Path) -> bool:
    return any(w.path != here.path and path.is_relative_to(w.path) for w in store.repo.worktrees())


# --- before the end ----------------------------------------------------------------------------


def _before_end(store: Store, here: Worktree, session: str) -> str:
    assert here.branch is not None
    advance(store, here.branch)
    snapshot = store.snapshot()
    task = at_work(snapshot, here.branch)
    if task is None or not _may_return(store, task, session):
        return ""
    worked_in(store, snapshot, task, session)  # it may have begun the task itself
    if fresh := news(store, store.progress(), task):
        return _say({"decision": "block", "reason": f"{task} is not done. {'. '.join(fresh)}"})
    try:
        result = verify(store, task)
    except (Untrusted, NotReady):
        return ""  # not the agent's to mend
    except GitwavesError as error:
        reason = error.message + (f"\n{error.hint}" if error.hint else "")
    else:
        if result.done:
            return ""
        reason = failure_text(result)
        if result.passed:
            reason = f"Verification passes; commit what it passed on: {', '.join(result.differs)}"
    return _say({"decision": "block", "reason": f"{task} is not done. {reason}"})


def _may_return(store: Store, task: TaskId, session: str) -> bool:
    """Whether a session may be sent back once more; counts the times."""
    path = store.repo.state_dir / "agents" / f"{task}.returns"
    times = 0
    with contextlib.suppress(OSError, ValueError):
        known, said = path.read_text().split()
        times = int(said) if known == session else 0
    if times >= MOST_RETURNS or not SESSION.fullmatch(session):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{session} {times + 1}\n")
    return True


# --- at the start ------------------------------------------------------------------------------


def _at_start(store: Store, here: Worktree, event: str, session: str) -> str:
    snapshot = store.snapshot()
    assert here.branch is not None
    task = at_work(snapshot, here.branch)
    if task is None:
        if here.branch == snapshot.trunk or not snapshot.cards.tasks_on(here.branch):
            return ""
        text = (
            f"This is the worktree of {here.branch}, planned with gitwaves; no task is at work in it. "
            "`gitwaves next` says what can be started; `gitwaves start ID` starts it."
        )
    else:
        worked_in(store, snapshot, task, session)
        text = (
            f"Task {task} is at work in this worktree. Read `gitwaves brief {task}` before anything "
            "else, keep to its boundary, commit, and run `gitwaves verify` until it passes."
        )
    return _say({"hookSpecificOutput": {"hookEventName": event, "additionalContext": text}})


# --- a client's own list of tasks --------------------------------------------------------------


class NotDone(GitwavesError):
    """An entry of a client's task list may not be completed: exit 2 tells the agent so."""

    code = ExitCode.USAGE


def _before_completion(store: Store, asked: Mapping[str, Any]) -> None:
    """Raises where a client's list would say of a task that it is done, and it is not.

    Raises:
        NotDone: it is not.
    """
    words = re.findall(r"[A-Za-z0-9._-]+", str(asked.get("task_subject") or ""))
    snapshot = store.snapshot()
    name = words[0].rstrip(".-_") if words else ""
    if name not in snapshot.cards.tasks:
        return
    advance(store)
    view = store.progress().tasks[TaskId(name)]
    if view.state not in {State.DONE, State.CANCELLED}:
        raise NotDone(
            f"{name} is {view.state}, not done: it is done once `gitwaves verify` passes on what is "
            "committed",
            f"`gitwaves show {name}` says where it stands",
        )


# --- worktrees ---------------------------------------------------------------------------------


def _worktree(where: Path, name: str, session: str) -> Path:
    """The worktree that a client asks for: a task's, or one for a helper of the task at work."""
    store = Store(Repo.open(where))
    snapshot = store.snapshot()
    dispatched = take(store, session)
    if dispatched is not None:
        return start(store, dispatched, agent="claude").path
    if name in snapshot.cards.tasks:
        return start(store, name).path
    here = store.repo.here()
    if here is None or here.head is None:
        raise NotReady("there is no commit to start from here", "call it inside a worktree")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}", name):
        raise UsageError(f"no worktree can be named {name!r}")
    return _helpers(store, snapshot, here, name)


def _helpers(store: Store, snapshot: Snapshot, here: Worktree, name: str) -> Path:
    branch = Branch(f"gitwaves/helper/{name}")
    place = place_for(store.repo, snapshot.cards, branch)
    if place.worktree is None:
        assert here.head is not None
        with store.repo.lock():
            if store.repo.branch(branch) is None:
                store.repo.land(branch, here.head, None)
            store.repo.add_worktree(place.path, here.head, branch)
    return place.path
