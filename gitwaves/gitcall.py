"""Calling git, and what its failures say."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from gitwaves.errors import GitError
from gitwaves.gitenv import BARE_OK, GIT_HOOK_INDEX, SAFE, clean_env, git_env, see_quarantine

__all__ = [
    "BARE_OK",
    "GIT_HOOK_INDEX",
    "SAFE",
    "clean_env",
    "failed",
    "git_env",
    "run_git",
    "see_quarantine",
]


def run_git(
    args: Sequence[str],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    keep: Sequence[int] = (),
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        ["git", *SAFE, *args],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        env=git_env(env),
        check=False,
        pass_fds=keep,
    )
    if check and done.returncode:
        raise failed(args, done)
    return done


def failed(args: Sequence[str], done: subprocess.CompletedProcess[bytes]) -> GitError:
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
