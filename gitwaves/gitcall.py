"""Calling git: the environment that it and what it starts may see, and what its failures say."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from gitwaves.errors import GitError

# What `git rev-parse --local-env-vars` lists, and what else would make Git look elsewhere, run
# something or sign as somebody else. A test suite that inherited these set core.bare on the
# repository around it.
_LEAKS = frozenset(
    """GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_CONFIG GIT_CONFIG_PARAMETERS GIT_CONFIG_COUNT
    GIT_OBJECT_DIRECTORY GIT_DIR GIT_WORK_TREE GIT_IMPLICIT_WORK_TREE GIT_GRAFT_FILE
    GIT_INDEX_FILE GIT_NO_REPLACE_OBJECTS GIT_REPLACE_REF_BASE GIT_PREFIX GIT_SHALLOW_FILE
    GIT_COMMON_DIR GIT_INTERNAL_SUPER_PREFIX GIT_QUARANTINE_PATH GIT_NAMESPACE GIT_EXTERNAL_DIFF
    GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_AUTHOR_DATE GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL
    GIT_COMMITTER_DATE GIT_LITERAL_PATHSPECS GIT_GLOB_PATHSPECS GIT_NOGLOB_PATHSPECS
    GIT_ICASE_PATHSPECS GIT_REFLOG_ACTION GIT_EXEC_PATH GIT_TRACE""".split()
)
# The index of the commit that a hook is asked about: `commit -a` and `commit -- path` use others.
GIT_HOOK_INDEX = os.environ.get("GIT_INDEX_FILE", "")
# Where Git keeps what is being pushed until the hook that is asked about it has said yes.
_QUARANTINE = ("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH")
_seen: dict[str, str] = {}
_IDENTITY = frozenset(
    {"GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"}
)

SAFE = (
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "core.quotePath=false",
    "-c", "safe.bareRepository=explicit",
    "-c", "core.fsync=committed,reference",
    "-c", "advice.detachedHead=false",
    "-c", "merge.renames=true",
)  # fmt: skip

# Only to find the repository: what is found is then named with --git-dir.
BARE_OK = ("-c", "safe.bareRepository=all")


def clean_env(*, keep_identity: bool = False) -> dict[str, str]:
    """The environment without anything that ties a process to the Git that called us."""
    leaks = _LEAKS - _IDENTITY if keep_identity else _LEAKS
    return {
        key: value
        for key, value in os.environ.items()
        if key not in leaks and not key.startswith(("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"))
    }


def see_quarantine() -> None:
    """Lets git see what is being pushed, for the rest of this process: for `pre-receive` alone."""
    _seen.update({name: os.environ[name] for name in _QUARANTINE if name in os.environ})


def git_env(env: Mapping[str, str] | None) -> dict[str, str]:
    return {
        **clean_env(keep_identity=True),
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "true",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",  # a file may be called `:/`
        # What a commit is does not hang on what this clone puts in its place.
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_GRAFT_FILE": os.devnull,
        "GITWAVES_HOOK": "1",  # Git's config-based hooks run whatever core.hooksPath says
        **_seen,
        **(env or {}),
    }


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
