"""A scripted coding agent: reads a brief, writes the task's files, commits. The demo runs eight.

    python -P -m gitwaves.demo.agent < brief.md         # in the worktree of the task

It behaves as agents do: most do their task; some commit a bug that the tests find, and repair it at
the next attempt; one forgets a file; some leave their work uncommitted; one breaks off after its
last commit. What it does for task A1 is `work/A1.txt`:

    commit: Money in minor units        the message of the commit
    tests: Test money                   optional: the tests get a commit of their own, with this one
    learned: ...                        optional: a `Learned:` trailer, once the work is right
    right: if a < b:                    optional: the first attempt has `wrong` in place of `right`
    wrong: if a <= b:
    forgets: services/x/README.md       optional: the first attempt leaves this file out
    leaves: uncommitted                 optional: writes the files, and does not commit
    exit: 3                             optional: the first attempt ends with this code,
    says: the connection was lost       ... and with these words
    === services/x/money.py             then the files, each under its path
    ...

Only the standard library, and little of it: eight of these start at once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from zlib import crc32

_WORK = Path(__file__).parent / "work"


def script(task: str) -> tuple[dict[str, str], dict[str, str]]:
    """What the script of a task says, and the files it writes, by path.

    Raises:
        FileNotFoundError: there is no script for that task.
    """
    head, *parts = re.split(r"^=== (.+)\n", _read(task), flags=re.MULTILINE)
    said = dict(line.split(": ", 1) for line in head.splitlines())
    return said, dict(zip(parts[::2], parts[1::2], strict=True))


def files_of(task: str, attempt: int) -> dict[str, str]:
    """The files that an attempt at a task writes: the first one may have a bug or lack a file."""
    said, files = script(task)
    if attempt > 1:
        return files
    if right := said.get("right"):
        files = {path: text.replace(right, said["wrong"]) for path, text in files.items()}
    return {path: text for path, text in files.items() if path != said.get("forgets")}


def pace(task: str) -> float:
    """How long a task takes, in seconds: between 0.2 and 0.8, always the same."""
    return 0.2 + crc32(task.encode()) % 7 / 10


def main() -> int:
    """Plays the task that the environment or the brief names."""
    brief = sys.stdin.buffer.read().decode(errors="replace")
    task = os.environ.get("GITWAVES_TASK") or _named(brief)
    attempt = int(os.environ.get("GITWAVES_ATTEMPT") or 1)
    try:
        said, whole = script(task)
    except FileNotFoundError:
        return _say(f"there is no script for the task {task or '(none named)'}", 2)
    files = files_of(task, attempt)
    _say(f"{task}: read a brief of {len(brief.splitlines())} lines")
    tests = [path for path in files if "/tests/" in path]
    code = [path for path in files if path not in tests]

    message = f"{task}: {said['commit']}" + " (repaired)" * (attempt > 1)
    learned = said.get("learned") if attempt > 1 or files == whole else None
    trailer = f"\n\nLearned: {learned}" if learned else ""
    _write(files, code)
    time.sleep(pace(task) / 2)
    if "tests" in said and "leaves" not in said:
        _commit(message)
        message = f"{task}: {said['tests']}"
    _write(files, tests)
    time.sleep(pace(task) / 2)
    if "leaves" in said:
        return _say("done, I think; I did not commit")
    _commit(message + trailer)
    if attempt > 1:
        return _say("done")
    return _say(said.get("says", "done"), int(said.get("exit", 0)))


def _named(brief: str) -> str:
    """The first task id in the first heading of a brief."""
    heading = re.search(r"^#+ .*", brief, re.MULTILINE)
    task = re.search(r"\b[A-Z]\d+\b", heading[0]) if heading else None
    return task[0] if task else ""


def _read(task: str) -> str:
    if not re.fullmatch(r"[A-Z]\d+", task):
        raise FileNotFoundError(task)
    return (_WORK / f"{task}.txt").read_text(encoding="utf-8")


def _write(files: dict[str, str], paths: list[str]) -> None:
    for path in paths:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(files[path], encoding="utf-8", newline="\n")
        _say(f"wrote {path}")


def _commit(message: str) -> None:
    """Commits everything, if there is anything."""
    subprocess.run(["git", "add", "-A"], check=True)
    if subprocess.run(["git", "diff", "--cached", "--quiet"], check=False).returncode:
        subprocess.run(["git", "commit", "-q", "-m", message], check=True)
        _say(f"committed: {message.splitlines()[0]}")


def _say(text: str, code: int = 0) -> int:
    """Prints a line of progress at once; returns `code`."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
