"""Sub-agents of one session: which task each is for, and so which worktree it gets.

Claude Code asks twice, and tells too little each time: before the sub-agent is started it names the
kind of agent and the prompt, but no id; for the worktree it gives an id, but no kind. What it starts
at the same time it also asks at the same time, in any order. So the first question waits until the
answer to the one before was fetched.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from gitwaves.clients import SESSION
from gitwaves.errors import NotReady
from gitwaves.exporting import members
from gitwaves.model import Cards, State, TaskId, Workstream, natural
from gitwaves.patterns import regex
from gitwaves.store import Snapshot, Store, at_work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PATIENCE = 120.0  # seconds that a worktree may take to be asked for
_WORD = regex(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")


def stream_of(cards: Cards, agent: str) -> Workstream | None:
    """The workstream whose agent is called so, or None."""
    named = {name: stream for stream, name in members(cards).items()}
    return cards.workstreams[named[agent]] if agent in named else None


def before_spawn(store: Store, asked: Mapping[str, Any], session: str) -> str:
    """Answers whether a sub-agent may be started; notes the task that its worktree is to be of."""
    given = asked.get("tool_input")
    given = given if isinstance(given, Mapping) else {}
    agent = str(given.get("subagent_type") or "")
    snapshot = store.snapshot()
    stream = stream_of(snapshot.cards, agent)
    if stream is None and given.get("isolation") != "worktree":
        return ""  # none that asks for a worktree
    try:
        task = _task_for(store, snapshot, stream, str(given.get("prompt") or "")) if stream else ""
        _put(store, session, task)
    except NotReady as error:
        said = {"permissionDecision": "deny", "permissionDecisionReason": str(error)}
        return json.dumps({"hookSpecificOutput": {"hookEventName": "PreToolUse", **said}})
    return ""


def _task_for(store: Store, snapshot: Snapshot, stream: Workstream, prompt: str) -> TaskId:
    """The task of a workstream that a prompt is about.

    Raises:
        NotReady: it cannot start, or the prompt names none and none could.
    """
    cards = snapshot.cards
    own = [t for t in sorted(cards.tasks, key=natural) if cards.folders[t] == stream.id]
    shown = store.progress(snapshot)
    busy = at_work(snapshot, stream.branch)
    named = [TaskId(word) for word in _WORD.findall(prompt) if word in own]
    task = next(iter(named), None) or (busy if busy in own else None)
    task = task or next((t for t in shown.runnable if t in own), None)
    if task is None:
        raise NotReady(f"{stream.id} has no task that could start; `gitwaves next` says what could")
    view = shown.tasks[task]
    if busy not in {None, task}:
        raise NotReady(f"{stream.branch} is at work on {busy}: {task} waits for it")
    if view.state not in {State.RUNNABLE, State.ACTIVE, State.FAILED}:
        raise NotReady(f"{task} is {view.state}; `gitwaves show {task}` says why")
    return task


def _path(store: Store, session: str) -> Path | None:
    if not SESSION.fullmatch(session):
        return None
    return store.repo.state_dir / "agents" / f"{session}.spawn"


def _put(store: Store, session: str, task: str) -> None:
    """Leaves a note for the next worktree of a session, once the one before was taken.

    Raises:
        NotReady: it was not, for too long.
    """
    path = _path(store, session)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(FileExistsError):
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.write(handle, task.encode())
            os.close(handle)
            return
        with contextlib.suppress(OSError):
            if (
                time.time() - path.stat().st_mtime > PATIENCE / 2
            ):  # it was started after all by nobody
                path.unlink()
        time.sleep(0.05)
    raise NotReady("another sub-agent is being started; try again")


def take(store: Store, session: str) -> TaskId | None:
    """The task whose worktree a session is asking for, if it is a task's."""
    path = _path(store, session)
    if path is None:
        return None
    try:
        task = path.read_text()
        path.unlink()
    except OSError:
        return None
    return TaskId(task) if task else None
