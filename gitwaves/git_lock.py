"""The lock that serialises gitwaves' own writes in a repository."""

from __future__ import annotations

import contextlib
import fcntl
import time
from _thread import RLock
from collections.abc import Iterator
from pathlib import Path

from gitwaves.errors import NotReady

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO


class Lock:
    """An flock that the threads of one process share fairly and may take twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = RLock()
        self._depth = 0
        self._held: int | None = None

    def descriptors(self) -> tuple[int, ...]:
        """What a process has to inherit to hold the lock too; nothing where it is not held."""
        return () if self._held is None else (self._held,)

    def taken(self) -> bool:
        """Whether another process holds it."""
        try:
            with self._path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return not self._depth
        return False

    @contextlib.contextmanager
    def held(self, patience: float | None = None) -> Iterator[None]:
        with self._thread:
            if self._depth:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                self._take(file, patience)
                self._depth = 1
                self._held = file.fileno()
                try:
                    yield
                finally:
                    self._depth = 0
                    self._held = None

    @staticmethod
    def _take(file: BinaryIO, patience: float | None) -> None:
        if patience is None:
            fcntl.flock(file, fcntl.LOCK_EX)
            return
        end = time.monotonic() + patience
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if time.monotonic() >= end:
                raise NotReady("another gitwaves is at work in this repository", "wait for it")
            time.sleep(0.05)
