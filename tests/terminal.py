"""Commands on a terminal of their own, and what they show there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

from tests.repo import Repo

# What full-screen programs ask a terminal, and wait for: where the cursor is, what it can do.
_ANSWERS = {b"\x1b[6n": b"\x1b[1;1R", b"\x1b[c": b"\x1b[?1;2c"}


class Watched:
    """A command of gitwaves on a terminal, and all that it has shown."""

    def __init__(self, plan: Repo, *args: str) -> None:
        self._parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 120, 0, 0))
        command = [sys.executable, "-m", "gitwaves", *args]
        self.process = subprocess.Popen(
            command, cwd=plan.path, stdin=child, stdout=child, stderr=child,
            env={**os.environ, "TERM": "xterm"}, start_new_session=True,
        )  # fmt: skip
        os.close(child)
        self.shown = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # it ended
            while data := os.read(self._parent, 1 << 16):
                self.shown += data.decode(errors="replace")
                for question, answer in _ANSWERS.items():
                    if question in data:
                        os.write(self._parent, answer)

    def until(self, text: str) -> None:
        end = time.monotonic() + 100
        while text not in self.shown:
            assert time.monotonic() < end, self.shown
            time.sleep(0.05)

    def press(self, keys: str) -> None:
        os.write(self._parent, keys.encode())

    def end(self, *, interrupt: bool = False) -> int:
        if interrupt:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(100)
        self._thread.join(10)
        os.close(self._parent)
        return code

    def kill(self) -> None:
        """Ends it with all that it started in its process group, whatever it shows."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.end()
