"""Telling somebody: the command of `on_event`, run with one JSON object on standard input."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping

from gitwaves.errors import GitwavesError
from gitwaves.gitcall import clean_env
from gitwaves.processes import spawn, stop_tree, wait
from gitwaves.store import Store

PATIENCE = 30  # seconds that a command may take


class Events:
    """Tells what happens, one at a time and in order, and holds nobody up.

    Args:
        command: run by `sh -c` at the top of the repository; None tells nobody.
        say: is told, once, that the command fails.
    """

    def __init__(self, store: Store, command: str | None, say: Callable[[str], None]) -> None:
        self._store = store
        self._command = command
        self._say = say
        self._failed = False
        self._last: threading.Thread | None = None

    def tell(self, event: str, **fields: object) -> None:
        """Tells of an event (`task_failed`, `merge_point_ready`, `merge_point_landed`, `all_done`)."""
        if self._command is None:
            return
        before = self._last
        self._last = threading.Thread(
            target=self._run, args=(self._command, {"event": event, **fields}, before), daemon=True
        )
        self._last.start()

    def wait(self) -> None:
        """Waits until the last one was told, or its time is up."""
        if self._last is not None:
            self._last.join(PATIENCE + 10)

    def _run(
        self, command: str, event: Mapping[str, object], before: threading.Thread | None
    ) -> None:
        if before is not None:
            before.join()
        repo = self._store.repo
        marker = f"event-{os.urandom(6).hex()}"
        text = (json.dumps(event) + "\n").encode()
        try:
            process = spawn(
                ["sh", "-c", command],
                repo.top or repo.common,
                clean_env(),
                text,
                repo.state_dir / "logs" / "events.log",
                marker,
            )
        except GitwavesError as error:
            self._complain(error.message)
            return
        code = wait(process, PATIENCE)
        if code is None:
            stop_tree(process, marker, grace=(1.0, 1.0))
            self._complain(f"it took longer than {PATIENCE}s")
        elif code:
            self._complain(f"exit {code}")

    def _complain(self, what: str) -> None:
        if not self._failed:
            self._failed = True
            path = self._store.repo.state_dir / "logs" / "events.log"
            self._say(f"`on_event` failed: {what}; what it printed is in {path}")
