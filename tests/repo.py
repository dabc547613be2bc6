"""Real Git repositories for tests, and gitwaves run in them as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT = 120  # seconds: a command that hangs fails its test


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of gitwaves gave."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Repo:
    """A checkout: `path` is its top. `at` gives the same for a linked worktree."""

    path: Path

    @classmethod
    def init(cls, path: Path) -> Repo:
        """A new, empty repository on `main`."""
        path.mkdir(parents=True)
        repo = cls(path)
        repo.git("init", "-q", "-b", "main")
        return repo

    @classmethod
    def clone(cls, source: Repo | Path, path: Path, *options: str) -> Repo:
        """A clone of `source` at `path`."""
        origin = source.path if isinstance(source, Repo) else source
        Repo(path.parent).git("clone", "-q", *options, str(origin), str(path))
        return cls(path)

    def at(self, path: str | Path) -> Repo:
        """Another checkout, named from the top of this one."""
        return Repo(self.path / path)

    def git(
        self,
        *args: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> str:
        """Runs git, with real hooks; what it printed, without the last line end."""
        done = _run(["git", *args], cwd or self.path, env=env)
        if check and done.code != 0:
            raise AssertionError(_report(["git", *args], done))
        return done.out.removesuffix("\n")

    def write(self, path: str | Path, text: str | bytes) -> Path:
        """Writes a file, and the folders it lies in."""
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
        return target

    def read(self, path: str | Path) -> str:
        """The text of a file, line ends as they are."""
        return (self.path / path).read_bytes().decode()

    def commit(self, message: str, /, **files: str) -> str:
        """Writes `files`, commits all that differs (or nothing at all), and gives the commit's id.

        Paths with a slash are given as `**{"services/ledger/a.py": "…"}`.
        """
        for path, text in files.items():
            self.write(path, text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.oid()

    def oid(self, rev: str = "HEAD") -> str:
        """The object id of a revision."""
        return self.git("rev-parse", "--verify", "-q", f"{rev}^{{object}}")

    def gw(
        self,
        *args: str,
        cwd: Path | None = None,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Runs gitwaves in a process of its own; standard input is empty unless given."""
        command = [sys.executable, "-m", "gitwaves", *args]
        return _run(command, cwd or self.path, env=env, text=input)

    def gw_ok(
        self,
        *args: str,
        cwd: Path | None = None,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Runs gitwaves, which must exit 0."""
        done = self.gw(*args, cwd=cwd, input=input, env=env)
        if done.code != 0:
            raise AssertionError(_report(["gitwaves", *args], done))
        return done


def _run(
    command: list[str], cwd: Path, env: Mapping[str, str] | None = None, text: str | None = None
) -> Result:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=(text or "").encode(),
        capture_output=True,
        timeout=_TIMEOUT,
        check=False,
    )
    return Result(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


def _report(command: list[str], done: Result) -> str:
    return (
        f"`{' '.join(command)}` exited {done.code}\n"
        f"--- standard output\n{done.out}--- standard error\n{done.err}"
    )
