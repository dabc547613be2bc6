"""Repositories that are put back in a moment, commands that die in them, and what must be true.

What is the user's is compared byte for byte; states are compared with `tests/naive.py`, which
shares no code with gitwaves.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import naive
from tests.faults.launcher import fault_tools
from tests.repo import Repo, Result

LAUNCHER = Path(__file__).with_name("launcher.py")
ROOT = Path(__file__).resolve().parents[2]
KILLED = -9


class Server:
    """One Python that has gitwaves imported, and forks a process for each command."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, str(LAUNCHER), "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._ids = itertools.count()
        self._guard = threading.Lock()
        self._ended: dict[int, queue.SimpleQueue[int]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            number, code = map(int, line.split())
            self._ended[number].put(code)

    def run(self, argv: Sequence[str], cwd: Path, fault: dict[str, Any] | None = None) -> Result:
        """One gitwaves; `fault` as `launcher.Fault` has it. Killed: code -9. Many threads may ask."""
        with self._guard:
            number = next(self._ids)
        ended = self._ended[number] = queue.SimpleQueue()
        out, err = (self._folder / f"{number}.{name}" for name in ("out", "err"))
        asked = {
            "id": number,
            "argv": argv,
            "cwd": str(cwd),
            "env": {**os.environ, "PYTHONPATH": str(ROOT)},
            "fault": fault or {},
            "out": str(out),
            "err": str(err),
        }
        assert self._process.stdin is not None
        with self._guard:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
        code = ended.get(timeout=1800)
        del self._ended[number]
        said = Result(code, out.read_text(errors="replace"), err.read_text(errors="replace"))
        out.unlink()
        err.unlink()
        return said

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        self._process.stdout.close()


@dataclass(frozen=True, slots=True)
class Work:
    """What is the user's at one moment, in every worktree."""

    commits: frozenset[str]
    staged: dict[str, dict[str, str]]  # worktree -> path -> object
    files: dict[str, dict[str, bytes]]  # worktree -> path -> bytes: changed, untracked, ignored


@dataclass
class Lab:
    """A folder with a repository, its worktrees and a home, put back as it was by `restore`."""

    base: Path
    server: Server
    tools: Path
    hooked: bool = True
    saved: Path = field(init=False)

    def __post_init__(self) -> None:
        self.saved = self.base.with_name(self.base.name + ".saved")

    @property
    def repo(self) -> Repo:
        return Repo(self.base / "repo")

    def tree(self, name: str) -> Repo:
        """The worktree of `ws/A`, named as `ws-A`; the main one is `repo`."""
        return self.repo if name == "repo" else Repo(self.base / "repo.worktrees" / name)

    def save(self) -> None:
        """What `restore` puts back, at the same paths: linked worktrees hold absolute ones."""
        shutil.copytree(self.base, self.saved, symlinks=True)

    def restore(self) -> None:
        shutil.rmtree(self.base)
        shutil.copytree(self.saved, self.base, symlinks=True)
        for name in ("count", "struck"):
            (self.tools / name).unlink(missing_ok=True)

    # --- running -------------------------------------------------------------------------------

    def gw(self, *args: str, cwd: Path | None = None) -> Result:
        return self.server.run(["--trust-trunk", *args], cwd or self.repo.path)

    def gw_ok(self, *args: str, cwd: Path | None = None) -> Result:
        done = self.gw(*args, cwd=cwd)
        assert done.code == 0, (args, done)
        return done

    def fault(self, at: int, mode: str) -> dict[str, Any]:
        return {"at": at, "mode": mode, "tools": str(self.tools), "log": ""}

    def writes(self, *args: str, cwd: Path) -> list[str]:
        """What a command writes, in order: it runs to its end, in a repository put back after."""
        log = self.base.with_name("writes")
        log.unlink(missing_ok=True)
        fault = {**self.fault(0, ""), "log": str(log)}
        done = self.server.run(["--trust-trunk", *args], cwd, fault)
        assert done.code in {0, 1}, done
        said = log.read_text().replace(str(self.base), "").splitlines()
        self.restore()
        return said

    def kill(self, at: int, mode: str, *args: str, cwd: Path) -> Result:
        """Runs a command that dies at its write number `at`."""
        return self.server.run(["--trust-trunk", *args], cwd, self.fault(at, mode))

    def git(self, *args: str, cwd: Path, env: dict[str, str] | None = None) -> Result:
        """A git command of the user's, with real hooks."""
        done = subprocess.run(
            ["git", *args],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Result(
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
        )

    def hooks_through(self, launcher: Path) -> None:
        """Lets the hooks' shims start gitwaves through the launcher, which can kill it."""
        launcher.write_text(
            '#!/bin/sh\n[ "$2" != -c ] || exit 0\nshift 2\n'
            f'PYTHONPATH={ROOT} exec {sys.executable} {LAUNCHER} "$@"\n'
        )
        launcher.chmod(0o755)
        for hook in (self.repo.path / ".git/hooks").iterdir():
            lines = hook.read_text().splitlines(keepends=True)
            changed = [f"python={launcher}\n" if x.startswith("python=") else x for x in lines]
            hook.write_text("".join(changed))

    # --- what must be true ---------------------------------------------------------------------

    def worktrees(self) -> Iterator[tuple[str, Path]]:
        for folder in [self.repo.path, *sorted((self.base / "repo.worktrees").glob("*"))]:
            if (folder / ".git").exists():
                yield folder.name, folder

    def work(self) -> Work:
        """What is the user's now."""
        staged, files = {}, {}
        refs = self.repo.git("for-each-ref", "--format=%(objectname)", "refs/heads").split()
        for name, path in self.worktrees():
            tree = Repo(path)
            entries = tree.git("diff", "--cached", "--raw", "--no-renames", "--abbrev=64", "-z")
            parts = entries.split("\0")[:-1]
            staged[name] = {p: m.split()[3] for m, p in zip(parts[::2], parts[1::2], strict=True)}
            changed = tree.git("diff", "--name-only", "-z").split("\0")
            others = tree.git("ls-files", "--others", "-z").split("\0")
            paths = {*changed, *others, *staged[name]} - {""}
            files[name] = {p: (path / p).read_bytes() for p in paths if (path / p).is_file()}
        return Work(frozenset(refs), staged, files)

    def require_kept(self, before: Work, *, rebased: bool = False, taken: bool = False) -> None:
        """Nothing of the user's is gone: commits, staged, unstaged, untracked and ignored files.

        What was staged may be committed by now. `rebased`: the user rewrote commits; `taken`: with
        `commit -a` the user replaced what was staged by what lay there, or an autostash did.
        """
        tips = self.repo.git("for-each-ref", "--format=%(objectname)", "refs/heads").split()
        lost = self.repo.git("rev-list", *sorted(before.commits), "--not", *tips)
        assert rebased or lost == "", f"commits are lost: {lost}"
        for name, path in self.worktrees():
            if name not in before.files:
                continue  # a git that outlived us may still be making it
            for file, data in before.files[name].items():
                assert (path / file).is_file(), f"{name}/{file} is lost"
                assert (path / file).read_bytes() == data, f"{name}/{file} has changed"
            listed = Repo(path).git("ls-files", "-s").splitlines()
            now = {line.split("\t")[1]: line.split()[1] for line in listed}
            staged = {} if taken else before.staged.get(name, {})
            for file, oid in staged.items():
                wanted_oid = None if not oid.strip("0") else oid
                assert now.get(file) == wanted_oid, f"what was staged of {name}/{file} is lost"
        for name in before.files.keys() - dict(self.worktrees()).keys():
            assert name == "resolve-MP1", f"the worktree {name} is gone"
            for file, oid in before.staged[name].items():  # which is removed once it has landed
                landed = self.repo.git("rev-parse", f"main:{file}", check=False)
                assert landed == oid or file.startswith(".workstreams/"), file

    def require_nothing_else_changed(self, before: Work) -> None:
        """No worktree holds half of something: what differs from its HEAD is the user's."""
        for name, path in self.worktrees():
            if (self.repo.path / f".git/worktrees/{name}/MERGE_HEAD").exists():
                continue  # a conflict, left there for a person
            users = {*before.files.get(name, {}), *before.staged.get(name, {})}
            differing = Repo(path).git("diff", "HEAD", "--name-only", "-z").split("\0")
            strange = {p for p in differing if p and p not in users and "clean.txt" not in p}
            assert not strange, f"{name} holds changes that nobody made: {sorted(strange)}"

    def states(self) -> dict[str, str]:
        shown = json.loads(self.gw_ok("status", "--json").out)
        found = {task["id"]: task["state"] for task in shown["tasks"]}
        return found | {point["id"]: point["state"] for point in shown["merge_points"]}

    def require_true(self, *, sound: bool = True, local: bool = True) -> dict[str, str]:
        """The states that are shown are what the plain reader finds, and what is done is proven.

        Args:
            sound: `git fsck` finds nothing either.
            local: the branches here are all there is; the plain reader knows no remote.
        """
        repo = self.repo.path
        shown = self.states()
        for task in (t for t in shown if not t.startswith("MP")):
            read = naive.read(repo, task, f"WS-{task[0]}", f"ws/{task[0]}")
            known = shown[task] if shown[task] in {"done", "active", "failed", "stale"} else "other"
            known = "unproven" if shown[task] == "unproven" else known
            assert not local or known == read.state, (task, shown[task], read)
            if local and shown[task] == "done":
                assert read.evidence is not None
                file = f"{task[0].lower()}/{task.lower()}.txt"
                proof = self.git("show", f"{read.evidence['commit']}:{file}", cwd=repo)
                assert "ok" in proof.out, f"{task} is done without its file"
        if local and shown.get("MP1") == "done":
            for file in ("a/a1.txt", "b/b1.txt"):
                assert "ok" in self.git("show", f"main:{file}", cwd=repo).out
        if sound:
            said = self.git("fsck", "--no-dangling", "--no-progress", cwd=repo)
            assert (said.code, said.out + said.err) == (0, ""), said
        return shown

    def locks(self) -> list[Path]:
        return sorted((self.repo.path / ".git").rglob("*.lock"))

    def follow(self, done: Result) -> bool:
        """Does what an error says of a lock file: waits for whoever holds it, else removes it."""
        said = done.err + done.out
        named = [p for p in self.locks() if str(p) in said]
        end = time.monotonic() + 2
        while any(p.exists() for p in named) and self.git_lives() and time.monotonic() < end:
            time.sleep(0.05)
        for path in named:
            path.unlink(missing_ok=True)
        return bool(named) or ".lock" in said

    def git_lives(self) -> bool:
        """Whether a git that outlived its gitwaves is at work here still."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"git") and os.fsencode(self.base) in b" ".join(words):
                    return True
        return False

    def recovers(self, *args: str, cwd: Path) -> Result:
        """Runs a command until it goes through, doing what its errors say, a few times at most."""
        done = self.gw(*args, cwd=cwd)
        for _ in range(4):
            if done.code == 0:
                return done
            assert done.code == 1, done
            if args[0] != "run":  # which says of each task why it did not go on
                assert "Error: " in done.err, done
                assert "Hint: " in done.err, done
            if not self.follow(done):
                return done
            done = self.gw(*args, cwd=cwd)
        raise AssertionError(f"no end to it: {done}")


def new_lab(folder: Path, server: Server) -> Lab:
    """An empty lab below `folder`."""
    base = folder / "lab"
    base.mkdir()
    tools = folder / "tools"
    git = shutil.which("git")
    assert git is not None
    fault_tools(tools, git)
    return Lab(base, server, tools)
