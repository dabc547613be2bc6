"""Receipts: that a task's steps passed on a code tree, for a spec. A lost one costs a run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from gitwaves.files import write_file
from gitwaves.git import Repo
from gitwaves.model import Branch, Oid, Run


@dataclass(frozen=True, slots=True)
class Receipt:
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
    write_file(folder / f"{receipt.tree}.json", json.dumps(asdict(receipt), indent=1).encode())


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
    try:
        raw = json.loads(path.read_bytes())
        receipt = Receipt(
            task=raw["task"],
            tree=Oid(raw["tree"]),
            spec=raw["spec"],
            content=Oid(raw["content"]),
            runs=tuple(Run(**run) for run in raw["runs"]),
            attempts=int(raw.get("attempts", 1)),
            unchanged=bool(raw["unchanged"]),
            signature=raw.get("signature"),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or half a file: a lost receipt costs a run
    return receipt if receipt.task == task and receipt.spec == spec else None


def made_files(repo: Repo, branch: Branch) -> frozenset[str]:
    """The untracked files that verification steps made in a branch's worktree: nobody's work."""
    path = repo.state_dir / "made" / branch.replace("/", "%2F")
    try:
        return frozenset(p for p in path.read_text(errors="surrogateescape").split("\0") if p)
    except OSError:
        return frozenset()


def forget_made(repo: Repo, branch: Branch) -> None:
    """Forgets it with the worktree: in a new one, a file of such a name may be somebody's work."""
    (repo.state_dir / "made" / branch.replace("/", "%2F")).unlink(missing_ok=True)


def note_made(repo: Repo, branch: Branch, paths: Iterable[str]) -> None:
    """Notes what the steps made, so that it never counts as uncommitted work."""
    path = repo.state_dir / "made" / branch.replace("/", "%2F")
    path.parent.mkdir(parents=True, exist_ok=True)
    known = made_files(repo, branch) | set(paths)
    write_file(path, "\0".join(sorted(known)).encode(errors="surrogateescape"))
