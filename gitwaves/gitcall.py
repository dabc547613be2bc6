"""Calling git, and what its failures say.

Nothing is imported here that Python does not load by itself: `subprocess` takes longer to import than
most of what git is asked takes to answer.
"""

from __future__ import annotations

import os
import time

from gitwaves.gitenv import BARE_OK, GIT_HOOK_INDEX, SAFE, clean_env, git_env, see_quarantine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from gitwaves.errors import GitError

__all__ = [
    "BARE_OK",
    "BATCH",
    "GIT_HOOK_INDEX",
    "SAFE",
    "Asked",
    "Done",
    "Piped",
    "at_once",
    "clean_env",
    "failed",
    "git_env",
    "run_git",
    "see_quarantine",
]

_NOTHING = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)  # to be read
_NOWHERE = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
_CHUNK = 1 << 16  # bytes
_FEW = 512  # bytes: POSIX lets no pipe hold less
BATCH = ("cat-file", "--batch")  # what reads objects, one after the other
_GRACE = 0.25  # seconds that git has, on Ctrl-C, to take its locks away


class Done:
    """How a git command ended: `returncode` is negative where a signal killed it."""

    def __init__(self, returncode: int, stdout: bytes, stderr: bytes) -> None:
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


def _spawned(
    args: Sequence[str],
    actions: Sequence[tuple[Any, ...]],
    env: Mapping[str, str] | None = None,
    *,
    apart: bool = False,
) -> int:
    """Starts git; its process. `apart`: in a session of its own, where Ctrl-C does not reach it."""
    import _signal  # type: ignore[import-not-found]  # Python's own, below the slow `signal`

    ignored = [
        getattr(_signal, name, None) for name in ("SIGPIPE", "SIGXFSZ")
    ]  # by Python, not by git
    signals = [number for number in ignored if number is not None]
    argv = ["git", *SAFE, *args]
    env = git_env(env)
    if apart:
        try:
            return os.posix_spawnp(
                "git", argv, env, file_actions=actions, setsigdef=signals, setsid=True
            )
        except NotImplementedError:
            return os.posix_spawnp(
                "git", argv, env, file_actions=actions, setsigdef=signals, setpgroup=0
            )
    return os.posix_spawnp("git", argv, env, file_actions=actions, setsigdef=signals)


def run_git(
    args: Sequence[str],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    keep: Sequence[int] = (),
    meanwhile: Callable[[], object] | None = None,
) -> Done:
    """Runs git to its end.

    Args:
        keep: files that it is to hold open too.
        meanwhile: what can be done while it runs, and raises nothing; not where it is given more
            than a few lines.

    Raises:
        GitError: it failed; not without `check`.
        FileNotFoundError: there is none.
    """
    pipes = [os.pipe() for _ in range(2 if stdin is None else 3)]
    (out, into_out), (err, into_err) = pipes[:2]
    given, into = pipes[2] if stdin is not None else (-1, -1)
    actions = [
        _NOTHING if stdin is None else (os.POSIX_SPAWN_DUP2, given, 0),
        (os.POSIX_SPAWN_DUP2, into_out, 1),
        (os.POSIX_SPAWN_DUP2, into_err, 2),
        *((os.POSIX_SPAWN_DUP2, fd, number) for fd, number in zip(keep, _free(keep), strict=False)),
    ]
    theirs = {into_out, into_err, given} - {-1}
    ours = {out, err, into} - {-1}
    try:
        try:
            process = _spawned(args, actions, env)
        finally:
            for fd in theirs:
                os.close(fd)
        try:
            if meanwhile is not None and len(stdin or b"") <= _FEW:
                if stdin is not None:
                    ours.remove(into)
                    _give(into, stdin)
                meanwhile()
                into, stdin = -1, None
            said = _exchange(ours, into, stdin or b"")
        except BaseException as error:
            _end(process, _GRACE if isinstance(error, KeyboardInterrupt) else 0)
            raise
    finally:
        for fd in ours:
            os.close(fd)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    done = Done(code, said[out], said[err])
    if check and done.returncode:
        raise failed(args, done)
    return done


def _give(into: int, few: bytes) -> None:
    """Gives a process a few bytes, which any pipe takes at once, and no more."""
    try:
        os.write(into, few)
    except BrokenPipeError:  # it has ended: what it says tells why
        pass
    finally:
        os.close(into)


def _free(taken: Sequence[int]) -> Iterator[int]:
    """Numbers for files that a process inherits: there may be no large ones."""
    return (number for number in range(3, 3 + 2 * len(taken)) if number not in taken)


def _exchange(ends: set[int], into: int, given: bytes) -> dict[int, bytes]:
    """Gives a process what it is to be given, and takes what it says; takes what is at its end out."""
    import select

    found: dict[int, list[bytes]] = {fd: [] for fd in ends if fd != into}
    left, at = memoryview(given), 0
    poll = select.poll()
    for fd in ends:
        poll.register(fd, select.POLLOUT if fd == into else select.POLLIN)
    waiting = set(ends)
    while waiting:
        for fd, _ in poll.poll():
            if fd == into:
                try:
                    at += os.write(fd, left[at : at + select.PIPE_BUF])
                    ended = at == len(left)
                except BrokenPipeError:  # it has heard enough
                    ended = True
            elif chunk := os.read(fd, _CHUNK):
                found[fd].append(chunk)
                continue
            else:
                ended = True
            if ended:
                poll.unregister(fd)
                waiting.discard(fd)
                if fd == into:
                    ends.discard(fd)
                    os.close(fd)
    return {fd: b"".join(chunks) for fd, chunks in found.items()}


def _end(process: int, patience: float) -> None:
    """Ends a process, in `patience` seconds at most, if it does not end by itself."""
    until = time.monotonic() + patience
    while not os.waitpid(process, os.WNOHANG)[0]:
        if time.monotonic() >= until:
            os.kill(process, 9)
            os.waitpid(process, 0)
            return
        time.sleep(0.01)


def failed(args: Sequence[str], done: Done) -> GitError:
    from gitwaves.errors import GitError

    said = done.stderr.decode(errors="replace").strip()
    lines = [line for line in said.splitlines() if not line.startswith("hint:")]
    verb = next((a for a in args if not a.startswith("-") and "/" not in a), "git")
    text = " ".join(lines).removeprefix("fatal: ").removeprefix("error: ")
    hint = None
    if "No space left" in said or "unable to write" in said:
        hint = "the disk is full or the folder is not writable; make room, then run the same command again"
    elif ".lock" in said:
        hint = "another git process may be running; if not, remove the lock file that is named"
    ended = f"exit {done.returncode}"
    if done.returncode < 0:
        ended = f"killed by signal {-done.returncode}"
        hint = hint or "see what limits processes here (memory, disk), then run it again"
    return GitError(f"git {verb}: {text or ended}", hint)


class Piped:
    """A git that is told and tells for as long as we like; Ctrl-C does not reach it."""

    def __init__(self, *args: str) -> None:
        given, into = os.pipe()
        out, into_out = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, given, 0), (os.POSIX_SPAWN_DUP2, into_out, 1), _NOWHERE]
        try:
            self._process = _spawned(args, actions, apart=True)
        except BaseException:
            os.close(into)
            os.close(out)
            raise
        finally:
            os.close(given)
            os.close(into_out)
        self.stdin = open(into, "wb")  # noqa: SIM115  # `stop` closes it
        self.stdout = open(out, "rb")  # noqa: SIM115
        self._ended = False

    def ended(self) -> bool:
        """Whether it has ended, by itself or killed."""
        if not self._ended:
            try:
                self._ended = os.waitpid(self._process, os.WNOHANG)[0] != 0
            except ChildProcessError:  # whoever called us reaps all children
                self._ended = True
        return self._ended

    def stop(self) -> None:
        """Lets go of it; it ends when it finds nobody to be told by."""
        for stream in (self.stdin, self.stdout):
            try:  # noqa: SIM105  # `contextlib` is slow to import
                stream.close()
            except OSError:
                pass
        until = time.monotonic() + 1
        while not self.ended() and time.monotonic() < until:
            time.sleep(0.001)


class Asked:
    """A git command that runs while we go on; what it has against it goes nowhere.

    Args:
        stdin: a file that it is given.
    """

    def __init__(
        self, *command: str, env: Mapping[str, str] | None = None, stdin: str = os.devnull
    ) -> None:
        out, into = os.pipe()
        self._process = 0
        given = (os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0)
        actions = [given, (os.POSIX_SPAWN_DUP2, into, 1), _NOWHERE]
        try:
            self._process = _spawned(command, actions, env)
        except OSError:
            os.close(out)
        os.close(into)
        self._out = out

    def said(self) -> bytes | None:
        """What it printed, once it has ended; None where it failed. To be called once."""
        if not self._process:
            return None
        out, self._out = self._out, -1
        with open(out, "rb") as file:
            said = file.read()
        status = os.waitpid(self._process, 0)[1]
        self._process = 0
        return said if status == 0 else None

    def end(self) -> None:
        """Ends it, where nobody is to hear it any more; does nothing where it has been heard."""
        if not self._process:
            return
        if self._out >= 0:
            os.close(self._out)
        try:
            os.kill(self._process, 9)
            os.waitpid(self._process, 0)
        except (ProcessLookupError, ChildProcessError):  # whoever called us reaps all children
            pass
        self._process, self._out = 0, -1


def at_once(*commands: tuple[str, ...]) -> list[bytes] | None:
    """What some git commands print, run side by side; None where any of them fails."""
    found = []
    for said in [asked.said() for asked in [Asked(*command) for command in commands]]:
        if said is None:
            return None
        found.append(said)
    return found
