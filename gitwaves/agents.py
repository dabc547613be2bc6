"""Agent processes: which profile a task asks for, launching it, and stopping it with all it started."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gitwaves.clients import (
    BUILT_IN,
    GIVEN,
    Limits,
    Said,
    filled,
    overrides,
    read,
    settings,
)
from gitwaves.errors import GitError, GitwavesError, NotReady
from gitwaves.files import write_file
from gitwaves.gitcall import clean_env
from gitwaves.model import Profile, TaskId
from gitwaves.processes import alive, marked, spawn, stop_tree
from gitwaves.receipts import read_json
from gitwaves.record import Record
from gitwaves.store import Snapshot, Store
from gitwaves.unfinished import release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Ended(Record):
    """How an agent's run ended: told, and never believed."""

    how: str  # `exit 0`, `timed out`, `stopped`
    said: Said


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
    snapshot: Snapshot,
    task: TaskId,
    profile: Profile,
    worktree: Path,
    text: str,
    attempt: int,
    stopped: Callable[[], bool],
    session: str | None = None,
) -> Ended:
    """Runs an agent once, on a brief, in a session that it had before if `session` names one.

    Args:
        stopped: asked several times a second whether to stop it, with all that it started.
    """
    marker = f"{task}-{os.urandom(6).hex()}"
    args = profile.resume if session and profile.resume else profile.command
    argv, env = launch(store, snapshot, task, profile, args, worktree, text, session)
    env |= {"GITWAVES_TASK": task, "GITWAVES_ATTEMPT": str(attempt)}
    log = agent_log(store, task, attempt)
    start = log.stat().st_size if log.exists() else 0
    note = _note(store, task)
    note.parent.mkdir(parents=True, exist_ok=True)
    _end_orphan(store, note)
    _stop_file(store, task).unlink(missing_ok=True)  # it was meant for one that ended before
    known = {"marker": marker, "runner": os.getpid(), "started": time.time(), "log": str(log)}
    known["worktree"] = str(worktree)
    # before it is started: whatever is killed now, the agent can be found
    write_file(note, json.dumps({**known, "from": start, "client": profile.client}).encode())
    how = ""
    try:
        process = spawn(argv, worktree, env, text.encode(), log, marker)
        deadline = time.monotonic() + profile.timeout if profile.timeout else None
        while process.poll() is None and not how:
            if deadline is not None and time.monotonic() > deadline:
                how = "timed out"
            elif stopped():
                how = "stopped"
            else:
                with contextlib.suppress(Exception):
                    process.wait(timeout=0.1)
        if how:
            stop_tree(process, marker)
        elif marked(marker):  # what it left running, in sessions of its own
            stop_tree(process, marker, grace=(1.0, 1.0))
        return Ended(how or f"exit {process.returncode}", read(profile.client, _tail(log, start)))
    finally:
        _leave_free(store, known)
        note.unlink(missing_ok=True)
        _stop_file(store, task).unlink(missing_ok=True)


def _end_orphan(store: Store, note: Path) -> None:
    """Ends the agent that a killed runner left at work: two would work on one task."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        held = json.loads(note.read_bytes())
        _sweep(str(held["marker"]))
        _leave_free(store, held)


def _leave_free(store: Store, held: Mapping[str, Any]) -> None:
    """Frees an agent's worktree, once all its processes are gone, of what its git had locked."""
    with contextlib.suppress(GitError, ValueError, KeyError, TypeError):
        release(store.repo, Path(held["worktree"]), float(held["started"]))


def orphans(store: Store) -> dict[TaskId, Said]:
    """Stops the agents whose `run` was killed, and says what each had said by then.

    Nobody would hear them out, and the next agent of the task works in the same worktree.
    """
    found = {}
    for note in sorted((store.repo.state_dir / "agents").glob("*.json")):
        try:
            held = json.loads(note.read_bytes())
            if alive(int(held["runner"])):
                continue
            _sweep(str(held["marker"]))
            _leave_free(store, held)
            said = read(str(held["client"]), _tail(Path(held["log"]), int(held["from"])))
            found[TaskId(note.stem)] = said
        except (OSError, ValueError, KeyError, TypeError):
            pass  # half a note: of what was not started yet
        note.unlink(missing_ok=True)
    return found


def launch(
    store: Store,
    snapshot: Snapshot,
    task: TaskId,
    profile: Profile,
    args: Sequence[str],
    worktree: Path,
    text: str,
    session: str | None = None,
) -> tuple[list[str], dict[str, str]]:
    """A profile's command line and environment for a task, its settings and brief written.

    They lie under the common Git directory: neither the user's settings nor the repository's are
    touched.
    """
    repo = store.repo
    cards = snapshot.cards
    branch = cards.branch_of(task)
    steps = tuple(s.run for s in cards.tasks[task].verify if s.run)
    boundary = (*cards.workstream_of(task).paths, *cards.config.shared_paths)
    limits = Limits(boundary, steps, (sys.executable, "-P", "-m", "gitwaves"))
    folder = repo.state_dir / "agents"
    folder.mkdir(parents=True, exist_ok=True)
    file, brief = folder / f"{task}.settings", folder / f"{task}.md"
    write_file(brief, text.encode())
    written = settings(profile.client, limits)
    if written is not None:
        file = file.with_suffix(
            ".settings.toml" if profile.client == "gemini" else ".settings.json"
        )
        write_file(file, written.encode())
    words = {
        "brief": str(brief),
        "settings": str(file),
        "task": str(task),
        "worktree": str(worktree),
        **({"session": session} if session else {}),
    }
    holder = repo.holder(branch)
    own = [holder.admin] if holder else []
    common = [repo.common / name for name in ("objects", "refs", "logs", "gitwaves")]
    lists = {
        "path": boundary,
        "step": steps,
        "git_dir": [str(path) for path in (*own, *common)],
        "setting": overrides(profile.client, limits),
    }
    given = any("{setting}" in arg or "{settings}" in arg for arg in args)
    env = {**clean_env(), **({GIVEN: "given"} if given else {})}
    env |= {k: filled([v], words, {})[0] for k, v in profile.env.items()}
    if shutil.which("gitwaves") is None:  # the brief says to call it
        env["PATH"] = os.pathsep.join(
            [env.get("PATH", os.defpath), os.path.dirname(sys.executable)]
        )
    return filled(args, words, lists), env


def _tail(log: Path, start: int) -> str:
    """What a log holds after `start`, the last 4 MiB of it."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - (4 << 20)))
        return file.read().decode(errors="replace")
    return ""


def open_client(
    store: Store, snapshot: Snapshot, task: TaskId, name: str, worktree: Path, text: str
) -> tuple[list[str], dict[str, str], str | None]:
    """The command line and environment of a client with a person in it, and the session's id.

    Raises:
        GitwavesError: there is no such profile, it cannot be opened so, or it is not installed.
    """
    name, profile = profile_for(snapshot, task, name)
    if not profile.open:
        raise GitwavesError(
            f"the profile {name} has no `open` command", "give it one under `profiles:`"
        )
    import uuid  # slow to import, and needed here alone

    session = str(uuid.uuid4()) if any("{session}" in arg for arg in profile.open) else None
    argv, env = launch(store, snapshot, task, profile, profile.open, worktree, text, session)
    return argv, {**env, "GITWAVES_TASK": task, "PWD": str(worktree)}, session


class Working(Record):
    """An agent that is at work here, as far as one can look over its shoulder."""

    task: str
    seconds: int  # since it was launched
    said: Said


def working(store: Store) -> list[Working]:
    """The agents that `run` has at work in this repository, by task."""
    found = []
    for path in sorted((store.repo.state_dir / "agents").glob("*.json")):
        try:
            held = json.loads(path.read_bytes())
            log = Path(held["log"])
            if alive(int(held["runner"])):
                said = read(str(held["client"]), _tail(log, int(held["from"])))
                found.append(Working(path.stem, int(time.time() - held["started"]), said))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


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
    _leave_free(store, held)
    note.unlink(missing_ok=True)


def _sweep(marker: str) -> None:
    """Kills whatever carries a run's marker."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", marker):
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        found = marked(marker)
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        for _ in range(20 * bool(found)):  # Git takes its locks away when it is asked to go
            if not marked(marker):
                return
            time.sleep(0.05)
