"""Runs verification and setup steps: in order, with a log, a time limit and a digest each."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gitwaves.digests import sha256
from gitwaves.errors import GitwavesError
from gitwaves.git import clean_env
from gitwaves.model import Run, Step, duration, printable
from gitwaves.processes import spawn, stop_tree, wait
from gitwaves.record import Record

_TIMED_OUT = 124  # as `timeout` of coreutils says it
_CANCELLED = 130
_NOT_STARTED = 126
_TAIL_LINES = 40
_TAIL_BYTES = 64 << 10

Confirm = Callable[[str], str | None]


class Outcome(Record):
    """How a list of steps ended: `failed` is the number, from 1, of the first that did."""

    runs: tuple[Run, ...]
    failed: int | None
    exit: int | None  # of the step that failed
    timed_out: bool
    log: Path
    tail: str  # the end of what the failed step printed, or of all; safe to show

    @property
    def passed(self) -> bool:
        return self.failed is None


def run_steps(
    steps: Sequence[Step],
    cwd: Path,
    log: Path,
    *,
    cancel: threading.Event | None = None,
    confirm: Confirm | None = None,
) -> Outcome:
    """Runs `steps` at `cwd` up to the first that fails; `always` steps run whatever happened.

    What they print is appended to `log`, under a line for each step. When `cancel` is set, the step
    that runs is stopped and counts as failed. `confirm` asks a person about a manual step and gives
    the name of who confirmed it.

    Raises:
        KeyboardInterrupt: after the step that ran was stopped and the `always` steps have run.
    """
    session = _Session(cwd, log, len(steps), confirm)
    runs: list[Run] = []
    failed: int | None = None
    failure: _Done | None = None
    interrupt: KeyboardInterrupt | None = None
    for number, step in enumerate(steps, 1):
        going = failed is None and interrupt is None
        if going and not step.always and cancel is not None and cancel.is_set():
            failed, failure, going = number, _Done(None, _CANCELLED, False, ""), False
        if not going and not step.always:
            continue
        try:
            done = session.run(number, step, None if step.always else cancel)
        except KeyboardInterrupt as error:
            if interrupt is not None:
                raise  # asked a second time: the rest of the tear-down is not waited for
            interrupt = error
            continue
        if done.run is not None:
            runs.append(done.run)
        if done.exit and failed is None:
            failed, failure = number, done
    if interrupt is not None:
        raise interrupt
    if failure is None:
        return Outcome(tuple(runs), None, None, False, log, session.tail())
    tail = failure.tail or session.tail()
    return Outcome(tuple(runs), failed, failure.exit, failure.timed_out, log, tail)


class _Done(Record):
    run: Run | None
    exit: int
    timed_out: bool
    tail: str


class _Session:
    """The running of one list of steps into one log."""

    def __init__(self, cwd: Path, log: Path, count: int, confirm: Confirm | None) -> None:
        self._cwd = cwd
        self._log = log
        self._count = count
        self._confirm = confirm
        log.parent.mkdir(parents=True, exist_ok=True)
        self._start = self._size()

    def run(self, number: int, step: Step, cancel: threading.Event | None) -> _Done:
        """Runs one step, or has it confirmed."""
        manual = step.manual is not None
        text = f"manual: {step.manual}" if manual else step.run or ""
        self._say(f"step {number} of {self._count}: {text}")
        start, clock = self._size(), time.monotonic()
        timed_out = False
        if step.manual is not None:
            who = self._ask(step.manual)
            code = 0 if who is not None else 1
            text += f" (confirmed by {who})" if who is not None else ""
        else:
            code, timed_out = self._command(text, step.timeout, cancel)
        seconds = round(time.monotonic() - clock, 2)
        end = self._size()
        run = Run(text, code, seconds, self._digest(start, end))
        if code and not manual:
            self._say(f"step {number} exited {code} after {seconds:.2f}s")
        return _Done(run, code, timed_out, self._tail(start, self._size()) if code else "")

    def tail(self) -> str:
        """The end of all that was logged."""
        return self._tail(self._start, self._size())

    def _ask(self, text: str) -> str | None:
        if self._confirm is None:
            self._say("needs a person to confirm it, and nobody can be asked here")
            return None
        who = self._confirm(text)
        who = printable(who).strip() if who is not None else None
        self._say(f"confirmed by {who}" if who else "not confirmed")
        return who or None

    def _command(
        self, command: str, timeout: float, cancel: threading.Event | None
    ) -> tuple[int, bool]:
        mark = "step-" + os.urandom(8).hex()
        argv = ["sh", "-c", command]
        try:
            process = spawn(argv, self._cwd, _step_env(), None, self._log, mark, named=False)
        except GitwavesError as error:
            self._say(error.message)
            return _NOT_STARTED, False
        try:
            code = wait(process, timeout, cancel)
        except BaseException:
            stop_tree(process, mark)
            self._say("interrupted")
            raise
        if code is not None:
            # Killed by a signal: as a shell says it.
            return (128 - code if code < 0 else code), False
        cancelled = cancel is not None and cancel.is_set()
        stop_tree(process, mark)
        if cancelled:
            self._say("stopped: the run was cancelled")
            return _CANCELLED, False
        self._say(f"stopped: it took longer than its timeout of {duration(int(timeout))}")
        return _TIMED_OUT, True

    def _say(self, text: str) -> None:
        with self._log.open("a+b") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 1))
            fresh = size == 0 or file.read(1) == b"\n"
            line = f"gitwaves: {printable(text)}\n".encode(errors="backslashreplace")
            file.write((b"" if fresh else b"\n") + line)

    def _size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0

    def _digest(self, start: int, end: int) -> str:
        digest = sha256()
        with self._log.open("rb") as file:
            file.seek(start)
            while start < end and (chunk := file.read(min(1 << 20, end - start))):
                digest.update(chunk)
                start += len(chunk)
        return f"sha256:{digest.hexdigest()}"

    def _tail(self, start: int, end: int) -> str:
        if not self._log.exists():
            return ""
        begin = max(start, end - _TAIL_BYTES)
        with self._log.open("rb") as file:
            file.seek(begin)
            text = file.read(end - begin).decode(errors="replace")
        lines = text.removesuffix("\n").split("\n")[-_TAIL_LINES:]
        return "\n".join(printable(line.removesuffix("\r").expandtabs()) for line in lines)


def _step_env() -> dict[str, str]:
    env = {k: v for k, v in clean_env().items() if not k.startswith("GITWAVES_")}
    # A step in Python would leave `__pycache__` behind, which looks like work.
    env.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    return env
