"""Who is at work on a task, and what they have to know of others meanwhile."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from gitwaves.advancing import note
from gitwaves.clients import ASKED, SESSION, SHOWS, last_session
from gitwaves.errors import GitwavesError
from gitwaves.files import dumps, loads, write_file
from gitwaves.gitenv import RUN
from gitwaves.model import Progress, TaskId, noted, printable
from gitwaves.record import replace
from gitwaves.store import Snapshot, Store, at_work


def launched_by_run() -> bool:
    """Whether `run` launched the client that calls us: it hears the session from what that prints."""
    return RUN in os.environ


def session_here(worktree: Path) -> str | None:
    """The session of a client in which this command is run in a worktree; None where nobody can tell.

    Of opencode, which does not name it, it is the one that was last at work there: it waits for us.
    """
    shown = [name for name in SHOWS if os.environ.get(name)]
    if launched_by_run() or len(shown) != 1:  # more: one client runs in another
        return None
    if shown == ["OPENCODE"]:
        from gitwaves.processes import said_by  # slow to import

        session = last_session(said_by(ASKED, worktree), str(worktree))
    else:
        session = os.environ[shown[0]]
    return session if session and SESSION.fullmatch(session) else None


def hand_over(store: Store, snapshot: Snapshot, task: TaskId, agent: str) -> None:
    """Records who works on a task from now on, where another began it in a session of its own."""
    if snapshot.facts[task].tracking.agent != noted(agent):
        note(store, task, lambda t: replace(t, agent=noted(agent), session=None))


def worked_in(store: Store, snapshot: Snapshot, task: TaskId, session: str) -> None:
    """Records the session in which a task is worked on, where its card does not name it yet."""
    known = snapshot.facts[task].tracking.session == session
    if not known and SESSION.fullmatch(session) and not launched_by_run():
        with contextlib.suppress(GitwavesError):  # what we were called for is worth more
            note(store, task, lambda t: replace(t, session=session))


def note_session(store: Store) -> None:
    """Records the session that calls us, on the card of the task that is at work where it does.

    A client that somebody opened by hand may have no hooks that tell it.
    """
    session = session_here(store.repo.top) if store.repo.top else None
    here = store.repo.here() if session else None
    if session is None or here is None or here.branch is None:
        return
    snapshot = store.snapshot()
    if task := at_work(snapshot, here.branch):
        worked_in(store, snapshot, task, session)


def _told_path(store: Store, task: TaskId) -> Path:
    return store.repo.state_dir / "agents" / f"{task}.told"


def _news(progress: Progress, task: TaskId) -> dict[str, str]:
    """What an agent at work on a task has to know of others, a sentence each, by what it is."""
    fact = progress.facts.get(task)
    digest = progress.cards.digest(task)
    said = {
        f"gap {gap.task} {gap.text}": (
            f"{gap.task} found a gap in the spec that affects {task}: {printable(gap.text)}"
        )
        for gap in progress.gaps
        if task in gap.affects and gap.task != task
    }
    claim = fact.tracking.claim if fact else None
    if claim is not None and claim.spec != digest:
        said[f"spec {digest}"] = (
            f"the spec of {task} changed on trunk since it was begun; read `gitwaves brief {task}` again"
        )
    return said


def news(store: Store, progress: Progress, task: TaskId) -> list[str]:
    """What the agent at work on a task was not told yet; from now on it was."""
    known = _told(store, task)
    fresh = {key: text for key, text in _news(progress, task).items() if key not in known}
    if fresh:
        _tell(store, task, known | set(fresh))
    return list(fresh.values())


def told_by_brief(store: Store, progress: Progress, task: TaskId) -> None:
    """Notes that an agent has read the brief of a task, in which all news stand."""
    known, now = _told(store, task), set(_news(progress, task))
    if now - known:
        _tell(store, task, known | now)


def _told(store: Store, task: TaskId) -> set[str]:
    try:
        return set(map(str, loads(_told_path(store, task).read_bytes())))
    except (OSError, ValueError, TypeError):
        return set()


def _tell(store: Store, task: TaskId, keys: set[str]) -> None:
    path = _told_path(store, task)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, dumps(sorted(keys)).encode())
