"""What can go wrong, as types: only the command line catches them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command."""

    FINE = 0
    REFUSED = 1  # findings, a refusal, a failed verification, not ready, a lost claim, a conflict
    USAGE = 2
    BUG = 3
    INTERRUPTED = 130


class GitwavesError(Exception):
    """An operation that cannot be done, with what to do about it.

    `message` is printed after `Error:` and `hint`, a thing that can be followed, after `Hint:`.
    """

    code = ExitCode.REFUSED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(GitwavesError):
    """The command was called in a way that cannot mean anything."""

    code = ExitCode.USAGE


class NotReady(GitwavesError):
    """The operation waits for something that is named in the message."""


class Refused(GitwavesError):
    """The operation would lose or falsify something."""


class LostClaim(GitwavesError):
    """Another clone or agent holds the task."""


class Conflict(GitwavesError):
    """A merge that a person has to finish."""


class Untrusted(GitwavesError):
    """Commands that this clone has not been told to trust."""


class GitError(GitwavesError):
    """Git itself failed: carries the command and what it printed."""


class CycleError(GitwavesError):
    """The needs of the plan run in a circle; `cycle` starts and ends with the smallest id."""

    def __init__(self, cycle: tuple[str, ...]) -> None:
        super().__init__(
            "dependency cycle: " + " -> ".join(cycle),
            "drop one of these `depends_on` entries, then run `gitwaves check`",
        )
        self.cycle = cycle


def quoted(word: str) -> str:
    """A word as a shell takes it, for a hint that can be copied."""
    import shlex  # slow to import, and seldom needed

    return shlex.quote(word)
