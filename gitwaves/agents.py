"""Agent processes: which profile a task asks for, launching it, and stopping it with all it started."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from gitwaves.errors import GitwavesError, NotReady
from gitwaves.gitcall import clean_env
from gitwaves.model import Profile, TaskId
from gitwaves.processes import alive, marked, spawn, stop_tree
from gitwaves.receipts import read_json, write_file
from gitwaves.store import Snapshot, Store

# What people have; each is data, so a project's own profiles are no second-class ones.
BUILT_IN: Mapping[str, Profile] = {
    "claude": Profile(
        ("claude", "-p", "--permission-mode", "acceptEdits", "--allowedTools", "Bash")
    ),
    "codex": Profile(("codex", "exec", "--sandbox", "workspace-write", "-")),
    "gemini": Profile(("gemini", "--approval-mode", "auto_edit", "--skip-trust", "-p", "")),
    "opencode": Profile(("opencode", "run", "--auto")),
}


def profile_for(snapshot: Snapshot, task: TaskId, override: str | None) -> tuple[str, Profile]:
    """The name and profile of the agent that a task asks for.

    Raises:
        GitwavesError: there is no such profile, or its command is not installed.
    """
    cards = snapshot.cards
    name = (
        override or cards.tasks[task].agent or cards.workstream_of(task).agent or cards.config.agent
    )
    profile = cards.config.profiles.get(name) or BUILT_IN.get(name)
    if profile is None:
        known = ", ".join(sorted({*cards.config.profiles, *BUILT_IN}))
        raise GitwavesError(
            f"no agent profile {name!r}", f"known are: {known}; add one under `profiles:`"
        )
    if shutil.which(profile.command[0]) is None:
        raise GitwavesError(
            f"the agent command {profile.command[0]!r} (profile {name}) is not found",
            "install it, or name another with `gitwaves run --agent NAME`",
        )
    return name, profile


def run_agent(
    store: Store,
    task: TaskId,
    profile: Profile,
    worktree: Path,
    text: str,
    attempt: int,
    stopped: Callable[[], bool],
) -> str:
    """Runs an agent once, on a brief; returns how it ended, which is told and never believed.

    Args:
        stopped: asked several times a second whether to stop it, with all that it started.
    """
    marker = f"{task}-{secrets.token_hex(6)}"
    env = {
        **clean_env(),
        **profile.env,
        "GITWAVES_TASK": task,
        "GITWAVES_ATTEMPT": str(attempt),
    }
    process = spawn(
        profile.command, worktree, env, text.encode(), agent_log(store, task, attempt), marker
    )
    note = _note(store, task)
    note.parent.mkdir(parents=True, exist_ok=True)
    write_file(note, json.dumps({"marker": marker, "runner": os.getpid()}).encode())
    deadline = time.monotonic() + profile.timeout if profile.timeout else None
    try:
        while process.poll() is None:
            late = deadline is not None and time.monotonic() > deadline
            if late or stopped():
                stop_tree(process, marker)
                return "timed out" if late else "stopped"
            with contextlib.suppress(Exception):
                process.wait(timeout=0.1)
        if marked(marker):  # what it left running, in sessions of its own
            stop_tree(process, marker, grace=(1.0, 1.0))
        return f"exit {process.returncode}"
    finally:
        note.unlink(missing_ok=True)
        _stop_file(store, task).unlink(missing_ok=True)


def agent_log(store: Store, task: TaskId, attempt: int) -> Path:
    """Where the output of an agent's attempt is."""
    return store.repo.state_dir / "logs" / task / f"agent-{attempt}.log"


def _note(store: Store, task: TaskId) -> Path:
    return store.repo.state_dir / "agents" / f"{task}.json"


def _stop_file(store: Store, task: TaskId) -> Path:
    return store.repo.state_dir / "agents" / f"{task}.stop"


def stop_wanted(store: Store, task: TaskId) -> bool:
    """Whether another process asked for the agent of a task to be stopped."""
    return _stop_file(store, task).exists()


def stop_agent(store: Store, task: TaskId) -> None:
    """Stops the agent at work on a task, through its runner, or by itself where that is dead.

    Raises:
        NotReady: no agent is at work on it here.
    """
    note = _note(store, task)
    held = read_json(note)
    try:
        runner, marker = int(held["runner"]), str(held["marker"])
    except (ValueError, KeyError, TypeError, OverflowError):
        raise NotReady(
            f"no agent is at work on {task} here", "`gitwaves status` shows who is"
        ) from None
    if alive(runner):
        _stop_file(store, task).touch()
        for _ in range(300):
            if not note.exists():
                return
            time.sleep(0.1)
        raise GitwavesError(f"the agent of {task} does not stop", "see `gitwaves logs`")
    _sweep(marker)
    note.unlink(missing_ok=True)


def _sweep(marker: str) -> None:
    """Kills whatever carries a run's marker."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", marker):
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in marked(marker):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        time.sleep(0.5)
