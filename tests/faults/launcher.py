"""Runs gitwaves in a process that is killed with SIGKILL at its N-th write.

Nothing of gitwaves is changed: an audit hook of the interpreter sees every file opened for
writing, every rename, removal and new folder, and every process started. How it dies:

- `before`: at the N-th write, which is not made.
- `torn`: the file of the N-th write is there, and empty.
- `orphan`: the N-th write is a git command, which lives on alone.
- `checkout-M`: git dies with us, when it has M files of a checkout to go on with.
- `prepared`: git dies with us while it holds the locks of the references it changes.

A way that does not fit the N-th write is `before`. As a script: `launcher.py serve` takes one JSON
object a line, forks a process for each, so that Python starts and imports once, and answers with its
id and exit code when it ends; anything else is the arguments of one gitwaves, with FAULT in the environment (the hooks' shim calls it so).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

_READS = frozenset(
    """rev-parse for-each-ref cat-file merge-base rev-list config diff diff-tree ls-files ls-tree
    status symbolic-ref merge-tree log show-ref ls-remote""".split()
)
_OBJECTS = frozenset({"unpack-objects", "commit-tree", "write-tree"})
_STARTS = {"subprocess.Popen": 3, "os.posix_spawn": 2}  # where the environment stands
_REMOVALS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")

_TOLD = "told.json"  # what the git that is to die is told
# Stands before git in PATH for the one command that is to die: it makes a process group of its own,
# as `kill 0` would otherwise reach the user's git around a hook.
_GIT = """\
#!{python}
import json, os, signal, sys
git = {git!r}
try:
    with open({told!r}) as file:
        os.environ.update(json.load(file))
    os.unlink({told!r})
except FileNotFoundError:  # another one is to die, or was
    os.execv(git, [git, *sys.argv[1:]])
mode = os.environ["FAULT_MODE"]
if mode == "orphan":
    os.kill(int(os.environ["FAULT_PID"]), signal.SIGKILL)
    os.execv(git, [git, *sys.argv[1:]])
os.setpgid(0, 0)
argv = sys.argv[1:]
if mode == "prepared":
    argv = [a.replace("core.hooksPath=/dev/null", "core.hooksPath={here}") for a in argv]
else:
    argv = ["-c", "filter.fault.smudge={here}/smudge", "-c", "filter.fault.clean=cat", *argv]
os.execv(git, [git, *argv])
"""
_DIE = 'kill -9 "$FAULT_PID"; kill -9 0\n'
_TRANSACTION = f'#!/bin/sh\n[ "$1" = prepared ] || exit 0\n{_DIE}'
_SMUDGE = f"""\
#!/bin/sh
echo >>"$FAULT_COUNT"
[ "$(wc -l <"$FAULT_COUNT")" -le "$FAULT_FILES" ] || {{ {_DIE} }}
cat
"""


def fault_tools(folder: Path, git: str) -> None:
    """Writes the scripts that make a git command die, into `folder`."""
    folder.mkdir()
    texts = {
        "git": _GIT.format(python=sys.executable, git=git, here=folder, told=str(folder / _TOLD)),
        "reference-transaction": _TRANSACTION,
        "smudge": _SMUDGE,
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def _git_verb(argv: list[str]) -> tuple[str, bool]:
    """What a git command line does, in a word or two, and whether it only reads."""
    rest = iter(argv[1:])
    for word in rest:
        if word in {"-c", "-C"}:
            next(rest)
        elif not word.startswith("-"):
            if word == "worktree":
                what = next(rest)
                return f"worktree {what}", what == "list"
            return word, word in _READS
    return "git", True


def describe(event: str, args: tuple[Any, ...]) -> str | None:
    """A write in words; None where it is none."""
    if event == "open":
        path, mode, flags = args
        writes = any(c in mode for c in "wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR)
        if not writes or isinstance(path, int) or str(path) == os.devnull:
            return None
        if (mode or "").startswith("a") and os.path.exists(path):  # a lock, or a log that goes on
            return None
        return f"write {os.fsdecode(path)}"
    if event in _REMOVALS:
        if event == "os.mkdir" and os.path.exists(args[0]):
            return None
        return f"{event.split('.')[1]} {args[0]}"
    if event in _STARTS:
        argv = [os.fsdecode(a) for a in args[1]]
        if os.path.basename(argv[0]) != "git":
            return f"spawn {argv[0]}"
        verb, reads = _git_verb(argv)
        if reads:
            return None
        index = str((args[_STARTS[event]] or {}).get("GIT_INDEX_FILE", ""))
        scratch = verb in {"add", "rm"} and "/gitwaves/index-" in index
        return f"object {verb}" if verb in _OBJECTS or scratch else f"git {verb}"
    return None


class Fault:
    """Kills this process at its N-th write; with N 0, only tells what the writes are."""

    def __init__(self, at: int, mode: str, tools: str, log: str) -> None:
        self._at = at
        self._mode = mode
        self._tools = tools
        self._log = log
        self._count = 0
        self._pid = os.getpid()
        self._busy = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self._busy or os.getpid() != self._pid:
            return
        self._busy = True
        try:
            said = describe(event, args)
            if said is None or said == f"write {self._log}":
                return
            self._count += 1
            if self._log:
                with open(self._log, "a") as file:
                    file.write(said + "\n")
            if self._count == self._at:
                self._strike(event, args)
        finally:
            self._busy = False

    def _strike(self, event: str, args: tuple[Any, ...]) -> None:
        Path(self._tools, "struck").touch()
        if self._mode == "torn" and event == "open":
            flags = os.O_CREAT | (os.O_TRUNC if "w" in (args[1] or "") else 0)
            os.close(os.open(args[0], os.O_WRONLY | flags, 0o644))
            die()
        if self._mode in {"before", "torn"} or not said_git(event, args):
            die()
        mode, _, files = self._mode.partition("-")
        told = {"FAULT_PID": str(self._pid), "FAULT_MODE": mode, "FAULT_FILES": files}
        told["FAULT_COUNT"] = os.path.join(self._tools, "count")
        # what `posix_spawn` gives to a process cannot be changed any more, and it looks in ours
        Path(self._tools, _TOLD).write_text(json.dumps(told))
        env = args[3] if event == "subprocess.Popen" else os.environ
        env["PATH"] = os.pathsep.join([self._tools, env["PATH"]])


def said_git(event: str, args: tuple[Any, ...]) -> bool:
    """Whether a write is made by a git command."""
    return event in _STARTS and os.path.basename(os.fsdecode(args[1][0])) == "git"


def die() -> NoReturn:
    """Ends as a process that was killed ends: nothing is flushed, nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL was survived")


def run(argv: list[str], fault: dict[str, Any]) -> NoReturn:
    """One gitwaves in this process."""
    from gitwaves.cli import main

    if fault and fault.get("hook", "") in {"", *argv[1:2]}:
        sys.addaudithook(Fault(fault["at"], fault["mode"], fault["tools"], fault["log"]))
    main(argv)
    raise AssertionError("main returned")


def _serve() -> None:
    import gitwaves.brief
    import gitwaves.importing
    import gitwaves.live
    import gitwaves.merging
    import gitwaves.planning
    import gitwaves.renewing
    import gitwaves.running  # noqa: F401  # imported once, here

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    for line in sys.stdin:
        if os.fork() == 0:
            asked = json.loads(line)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            pid = os.fork()
            if pid == 0:
                _become(asked)
            _, status = os.waitpid(pid, 0)
            os.write(1, f"{asked['id']} {os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)


def _become(asked: dict[str, Any]) -> NoReturn:
    """Makes this process the gitwaves that was asked for."""
    os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    run(asked["argv"], asked["fault"])


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        _serve()
    else:
        run(sys.argv[1:], json.loads(os.environ.get("FAULT", "{}")))
