"""Receipts: that a task's steps passed on a code tree, for a spec. A lost one costs a run."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from gitwaves.files import dumps, loads, write_file
from gitwaves.git import Repo
from gitwaves.model import Branch, Oid, Run, TaskId
from gitwaves.patterns import regex
from gitwaves.record import Record, named_values_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OID = regex("[0-9a-f]{40}|[0-9a-f]{64}")
_MOST = 8 << 20  # bytes: more than any that we write


def attempt_here(task: TaskId) -> int:
    """Which attempt of its agent at a task this process is a part of, as `run` told it; else 1."""
    said = os.environ.get("GITWAVES_ATTEMPT", "")
    mine = os.environ.get("GITWAVES_TASK") == task
    return int(said) if mine and re.fullmatch("[1-9][0-9]{0,5}", said, re.ASCII) else 1


class Receipt(Record):
    """A passed verification of one code tree."""

    task: str
    tree: Oid  # the code tree
    spec: str
    content: Oid  # the whole tree that was verified, to say what differs from it
    runs: tuple[Run, ...]
    attempts: int = 1  # of the agent, this one included
    unchanged: bool = False  # nothing had to change: the tree may be the one it was claimed on
    signature: str | None = None  # of the evidence that it will be


def _folder(repo: Repo, task: str) -> Path:
    return repo.state_dir / "receipts" / task


def save(repo: Repo, receipt: Receipt) -> None:
    """Writes a receipt, whole or not at all."""
    folder = _folder(repo, receipt.task)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(
        folder / f"{receipt.tree}.json",
        dumps(named_values_of(receipt), indent=1, default=named_values_of).encode(),
    )


def find(repo: Repo, task: str, tree: Oid, spec: str) -> Receipt | None:
    """The receipt for a task, code tree and spec digest, or None."""
    return _load(_folder(repo, task) / f"{tree}.json", task, spec)


def all_for(repo: Repo, task: str, spec: str) -> list[Receipt]:
    """Every receipt of a task for a spec digest, the newest last."""
    with contextlib.suppress(OSError):
        paths = sorted(_folder(repo, task).glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
        return [r for p in paths if (r := _load(p, task, spec)) is not None]
    return []


def _load(path: Path, task: str, spec: str) -> Receipt | None:
    raw = read_json(path)
    try:
        if raw["task"] != task or raw["spec"] != spec or path.stem != raw["tree"]:
            return None
        return Receipt(
            task,
            _oid(raw["tree"]),
            spec,
            _oid(raw["content"]),
            runs=tuple(_run(**run) for run in raw["runs"]),
            attempts=_count(raw.get("attempts", 1)),
            unchanged=raw["unchanged"] is True,
            signature=_text(raw.get("signature")),
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        return None  # not there, or half a file: a lost receipt costs a run


def _oid(value: Any) -> Oid:
    if not isinstance(value, str) or not _OID.fullmatch(value):
        raise ValueError(value)
    return Oid(value)


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(value)
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise ValueError(value)
    return value


def _run(run: Any, exit: Any, seconds: Any, log: Any) -> Run:
    if not (isinstance(run, str) and isinstance(log, str) and 0 <= float(seconds) < 1e9):
        raise ValueError(run)
    return Run(run, _count(exit), float(seconds), log)


def read_json(path: Path) -> Any:
    """What a file of ours holds; None where it holds nothing that can be read."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST:
            return None
        return loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def made_files(repo: Repo, branch: Branch) -> frozenset[str]:
    """The untracked files that verification steps made in a branch's worktree: nobody's work."""
    path = repo.state_dir / "made" / branch.replace("/", "%2F")
    try:
        if path.is_file():
            return frozenset(p for p in os.fsdecode(path.read_bytes()).split("\0") if p)
    except OSError:
        pass
    return frozenset()


def forget_made(repo: Repo, branch: Branch) -> None:
    """Forgets it with the worktree: in a new one, a file of such a name may be somebody's work."""
    (repo.state_dir / "made" / branch.replace("/", "%2F")).unlink(missing_ok=True)


def note_made(repo: Repo, branch: Branch, paths: Iterable[str]) -> None:
    """Notes what the steps made, so that it never counts as uncommitted work."""
    path = repo.state_dir / "made" / branch.replace("/", "%2F")
    known = made_files(repo, branch)
    if new := set(paths) - known:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, "\0".join(sorted(known | new)).encode(errors="surrogateescape"))
