"""Processes that can be stopped whole: every one is marked in its environment.

Agents run their tools in sessions of their own, so that a signal to the process group does not
reach them; what carries the mark is found through `/proc` wherever it went.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gitwaves.errors import GitwavesError
from gitwaves.gitenv import RUN

# All the marks that a process stands under, outermost first: stopping an agent also stops the
# steps of a `gitwaves verify` that it called, which do not see GITWAVES_RUN.
_TREE = "_GITWAVES_TREE"
_PROC = Path("/proc")


def spawn(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes | None,
    log: Path,
    marker: str,
    *,
    named: bool = True,
) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own, marked with `marker` (which holds no colon).

    It reads `stdin`, of any size (None: an empty input); both its streams are appended to `log`.
    `named`: whether it sees the mark as GITWAVES_RUN.

    Raises:
        GitwavesError: it could not be started.
    """
    inherited = [*os.environ.get(_TREE, "").split(":"), os.environ.get(RUN, ""), marker]
    marks = ":".join(dict.fromkeys(filter(None, inherited)))
    # PWD too: opencode believes it, not where it is, and would work where `run` was called
    full = {**env, "PWD": str(cwd), _TREE: marks, **({RUN: marker} if named else {})}
    log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        source: int = subprocess.DEVNULL
        if stdin is not None:
            import tempfile  # slow to import, and seldom needed

            # A file, not a pipe: nobody has to feed it while the process runs.
            file = stack.enter_context(tempfile.TemporaryFile())
            file.write(stdin)
            file.seek(0)
            source = file.fileno()
        out = stack.enter_context(log.open("ab"))
        try:
            return subprocess.Popen(
                list(argv),
                cwd=cwd,
                env=full,
                stdin=source,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            what = error.filename if error.filename is not None else argv[0]
            raise GitwavesError(
                f"cannot run {argv[0]}: {what}: {error.strerror}",
                "see that it is installed and on PATH",
            ) from error


def said_by(argv: Sequence[str], cwd: Path, seconds: float = 30.0) -> str:
    """What a program prints in so many seconds; nothing where it fails, or is not there."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            list(argv),
            cwd=cwd,
            env={**os.environ, "PWD": str(cwd)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=True,
        )
        return done.stdout.decode(errors="replace")
    return ""


def wait(
    process: subprocess.Popen[bytes],
    timeout: float | None,
    cancel: threading.Event | None = None,
) -> int | None:
    """The exit status of `process`; None when the time is up or `cancel` is set before it ends."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        slices = [part for part in (left, None if cancel is None else 0.1) if part is not None]
        try:
            return process.wait(min(slices, default=None))
        except subprocess.TimeoutExpired:
            late = end is not None and time.monotonic() >= end
            if late or (cancel is not None and cancel.is_set()):
                return None


def stop_tree(
    process: subprocess.Popen[bytes], marker: str, *, grace: tuple[float, float] = (5.0, 3.0)
) -> None:
    """Stops `process` and all it started: asks twice, then kills.

    SIGINT to its process group, `grace[0]` seconds later SIGTERM, `grace[1]` later SIGKILL; then
    everything marked with `marker` gets SIGTERM and SIGKILL, until there is none. Where there is
    no `/proc`, only the group is reached.
    """
    group = process.pid

    def group_gone() -> bool:
        return process.poll() is not None and not _in_group(group)

    try:
        for number, patience in zip((signal.SIGINT, signal.SIGTERM), grace, strict=True):
            if group_gone():
                break
            _signal_group(group, number)
            _until(group_gone, patience)
        _signal_marked(marker, signal.SIGTERM)
        _until(lambda: not marked(marker), grace[1])
    finally:  # also when interrupted while asking
        if not group_gone():
            _signal_group(group, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        for _ in range(100):  # one that is stuck in the kernel cannot be waited for
            if not _signal_marked(marker, signal.SIGKILL):
                break
            time.sleep(0.02)


def marked(marker: str) -> list[int]:
    """The processes, but for this one, that carry `marker`; none where there is no `/proc`."""
    wanted = marker.encode()
    found = []
    for pid in _pids():
        try:
            environ = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:  # it ended meanwhile, or is another user's
            continue
        if wanted not in environ:
            continue
        for entry in environ.split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name in (RUN.encode(), _TREE.encode()) and wanted in value.split(b":"):
                found.append(pid)
                break
    return found


def sees_processes() -> bool:
    """Whether this system tells what processes there are."""
    return (_PROC / "self").exists()


def alive(pid: int) -> bool:
    """Whether a process with that id runs; one that ended and was not waited for does not."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    stat = _stat(pid)
    return stat is None or stat[0] not in "ZX"


def lock_holders(path: Path) -> list[int]:
    """The processes that hold an flock on a file; none where `/proc` does not tell."""
    try:
        wanted = path.stat().st_ino
        lines = (_PROC / "locks").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:  # 1: FLOCK ADVISORY WRITE pid device:device:inode start end; -> waits
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(f":{wanted}") and int(fields[4]) > 0:
            found.append(int(fields[4]))
    return found


def git_processes(folders: Sequence[Path], *, ours: bool = True) -> dict[int, str]:
    """The git processes at work in these folders, with their commands; those that only read not.

    One is at work in a folder where it runs in it, or was given it as its Git directory.

    Args:
        ours: with those that a gitwaves has called.
    """
    inside = [(os.path.realpath(folder), os.fsencode(folder)) for folder in folders]
    found = {}
    for pid in _pids():
        try:
            argv = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
            name = os.path.basename(os.fsdecode(argv[0]))
            if (name != "git" and not name.startswith("git-")) or _asks_for(argv) == b"cat-file":
                continue
        except OSError:
            continue  # it ended meanwhile
        try:
            cwd = os.readlink(_PROC / str(pid) / "cwd")
            given = (_PROC / str(pid) / "environ").read_bytes().split(b"\0") + argv
        except PermissionError:
            found[pid] = command(pid)  # another user's: nobody can tell where it is at work
            continue
        except OSError:
            continue
        if not ours and b"GITWAVES_HOOK=1" in given:
            continue
        for real, raw in inside:
            named = (b"GIT_DIR=" + raw, b"--git-dir=" + raw)
            if cwd == real or cwd.startswith(real + os.sep) or any(v in named for v in given):
                found[pid] = command(pid)
                break
    return found


def _asks_for(argv: Sequence[bytes]) -> bytes:
    """The subcommand in the command line of a git."""
    words = iter(argv[1:])
    for word in words:
        if word in (b"-c", b"-C", b"--git-dir", b"--work-tree"):
            next(words, None)
        elif not word.startswith(b"-"):
            return word
    return b""


def holds_open(path: Path) -> bool:
    """Whether a process that can be looked at has a file open."""
    wanted = os.path.realpath(path)
    for pid in (*_pids(), os.getpid()):
        with contextlib.suppress(OSError):
            for number in os.listdir(folder := _PROC / str(pid) / "fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(folder / number) == wanted:
                        return True
    return False


def command(pid: int) -> str:
    """The command line of a process; empty where nothing tells."""
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return " ".join(os.fsdecode(word) for word in raw.split(b"\0") if word)


def _pids() -> list[int]:
    try:
        names = os.listdir(_PROC)
    except OSError:
        return []
    return [int(name) for name in names if name.isdecimal() and int(name) != os.getpid()]


def _stat(pid: int) -> tuple[str, int] | None:
    """State and process group of a process, where `/proc` tells."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # a command's name may hold spaces and brackets
    return (fields[0], int(fields[2])) if len(fields) > 2 else None


def _in_group(group: int) -> bool:
    """Whether anything of a process group still runs; ended processes do not count."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # macOS says so of a group of which only ended processes are left
    stats = [stat for pid in _pids() if (stat := _stat(pid)) is not None]
    return not stats or any(stat[1] == group and stat[0] not in "ZX" for stat in stats)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _signal_marked(marker: str, number: signal.Signals) -> bool:
    found = marked(marker)
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return bool(found)


def _until(done: Callable[[], bool], patience: float) -> None:
    end = time.monotonic() + patience
    pause = 0.01
    while not done() and time.monotonic() < end:
        time.sleep(pause)
        pause = min(0.1, pause * 2)
