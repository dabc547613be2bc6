"""Where a branch is worked on: its worktree, made and found again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from gitwaves.errors import GitwavesError, NotReady, Refused, quoted
from gitwaves.git import Repo, Worktree
from gitwaves.model import ROOT, Branch, Cards, Oid, TaskId
from gitwaves.patterns import regex
from gitwaves.record import Record
from gitwaves.unfinished import discard, own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

# `folder/**` means the same to gitignore and to a glob pathspec.
_PLAIN = regex(r"(?:[A-Za-z0-9_.-]+/)+\*\*", re.ASCII)


class Place(Record):
    """Where a branch is, or will be, checked out."""

    path: Path
    worktree: Worktree | None  # None: it has yet to be made


def place_for(repo: Repo, cards: Cards, branch: Branch) -> Place:
    """The worktree of a branch, wherever it is; else where it would be made.

    Raises:
        GitwavesError: the folder is there and is something else.
    """
    holder = repo.holder(branch)
    if holder is not None:
        return Place(holder.path, holder)
    path = folder_for(repo, cards, branch.replace("/", "-"))
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if any(w.half_made and w.path == path for w in repo.listed_worktrees()):
            raise NotReady(
                f"{path} is half made: `git worktree add` was killed, or is still at it",
                "run `gitwaves doctor --fix`, then the same command again",
            )
        held = next((w for w in repo.worktrees() if w.path.resolve() == path), None)
        if held is not None:
            raise _elsewhere(repo, held, branch)
        raise GitwavesError(
            f"{path} is there already, and is not the worktree of {branch}",
            "move it away, or set `worktrees:` in .workstreams/config.yaml to another place",
        )
    return Place(path, None)


def _elsewhere(repo: Repo, held: Worktree, branch: Branch) -> GitwavesError:
    """The error for a worktree that somebody switched to something else."""
    there = held.branch or "a detached HEAD"
    path = quoted(str(held.path))
    if repo.branch(branch) is not None:
        hint = f"`git -C {path} switch {branch}`, then run the same command again"
    elif held.branch is not None:
        hint = f"there is no branch {branch}: if {there} is it, `git -C {path} branch -m {branch}`"
    else:
        hint = f"there is no branch {branch}: make it there with `git -C {path} switch -c {branch}`"
    return NotReady(f"{held.path} is on {there}, not on {branch}", hint)


def folder_for(repo: Repo, cards: Cards, name: str) -> Path:
    """The folder that a checkout called `name` has by the configuration.

    What a checkout holds is the repository's, so where the plan may put it is bounded: beside the
    repository or in it. The user's own Git configuration, `gitwaves.worktrees`, is not.

    Raises:
        GitwavesError: it cannot be filled in, or leads elsewhere.
    """
    main = main_folder(repo)
    own = repo.config("gitwaves.worktrees")
    pattern = own or cards.config.worktrees
    values = {"{repo}": main.name, "{name}": name}
    text = re.sub(r"\{repo\}|\{name\}", lambda found: values[found[0]], pattern)
    if "{name}" not in pattern or re.search(r"[{}]", re.sub(r"\{(repo|name)\}", "", pattern)):
        raise GitwavesError(
            f"`worktrees: {pattern}` cannot be filled in",
            "{name} must stand in it, {repo} may, and no other braces",
        )
    path = (main / text).resolve()
    top = repo.main_top() or main
    beside = path.is_relative_to(main.resolve().parent) or path.is_relative_to(top.resolve().parent)
    taken = (repo.common, top / ROOT, top / ".git")
    if any(path.is_relative_to(folder.resolve()) for folder in taken) or not (own or beside):
        raise GitwavesError(
            f"`worktrees: {pattern}` leads to {path}, where no plan may put a checkout",
            "set it to a folder beside the repository; for one elsewhere, yourself: "
            "git config gitwaves.worktrees '/some/where/{name}'",
        )
    return path


def main_folder(repo: Repo) -> Path:
    """The top of the main worktree; of a bare repository, its own folder."""
    if repo.common.name == ".git":
        return repo.common.parent
    return repo.common.with_name(repo.common.name.removesuffix(".git"))


def require_clean(repo: Repo, worktree: Worktree, made: frozenset[str] = frozenset()) -> None:
    """Raises unless nothing in a worktree is uncommitted and nothing is under way there.

    Raises:
        Refused: says what is in the way.
    """
    busy = worktree.busy()
    if busy:
        raise Refused(
            f"{worktree.path} is in the middle of {busy}", "finish or abort it there first"
        )
    dirty = [p for p in repo.status(worktree.path) if p not in made]
    if dirty:
        shown = ", ".join(dirty[:5]) + (f" and {len(dirty) - 5} more" if len(dirty) > 5 else "")
        raise Refused(
            f"{worktree.path} has uncommitted work: {shown}",
            "commit it or set it aside there, then run the same command again",
        )


def marker(repo: Repo, branch: Branch) -> Path:
    """The file that tells the hooks' shim that a task is at work on a branch."""
    return repo.state_dir / "at-work" / branch.replace("/", "%2F")


def mark(repo: Repo, cards: Cards, branch: Branch, task: TaskId | None) -> None:
    """Notes what is at work on a branch; only a hint for the hooks, never read as state.

    Beside it stand Git pathspecs that leave out the boundary, where it is plain enough that they
    say just what it says: with them the shim rules a commit in without starting Python.
    """
    path = marker(repo, branch)
    beside = path.with_name(path.name + ".paths")
    if task is None:
        path.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if specs := _pathspecs(cards, branch, task):
        beside.write_text(specs)
    else:
        beside.unlink(missing_ok=True)
    path.write_text(task + "\n")


def is_marked(repo: Repo, cards: Cards, branch: Branch, task: TaskId | None) -> bool:
    """Whether what `mark` would write is what stands there."""
    path = marker(repo, branch)
    wanted = (f"{task}\n", _pathspecs(cards, branch, task)) if task else ("", "")
    found = []
    for file in (path, path.with_name(path.name + ".paths")):
        try:
            found.append(file.read_text())
        except FileNotFoundError:
            found.append("")
    return tuple(found) == wanted


def _pathspecs(cards: Cards, branch: Branch, task: TaskId) -> str:
    patterns = [p for w in cards.workstreams.values() if w.branch == branch for p in w.paths]
    plain = all(_PLAIN.fullmatch(p) for p in patterns) and not cards.tasks[task].paths
    return "".join(f":(top,exclude,glob){p}\n" for p in patterns) if plain else ""


@contextlib.contextmanager
def alone(repo: Repo, name: str) -> Iterator[BinaryIO]:
    """Waits until no other process is at the thing called `name`, and keeps others off it.

    The file that it is locked by is the block's to write a note in.
    """
    path = _alone(repo, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def is_alone(repo: Repo, name: str) -> bool:
    """Whether some process is at the thing called `name`."""
    try:
        with _alone(repo, name).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _alone(repo: Repo, name: str) -> Path:
    return repo.state_dir / "alone" / name.replace("/", "%2F")


@contextlib.contextmanager
def scratch(repo: Repo, path: Path, commit: Oid) -> Iterator[Path]:
    """A clean checkout of a commit for as long as the block runs; one left by a kill is replaced.

    Two processes that want the same folder have it one after the other.
    """
    with alone(repo, path.name), own(repo, path):
        try:
            repo.add_worktree(path, commit)
            yield path
        finally:
            discard(repo, path)


def left_scratch(repo: Repo) -> list[tuple[str, Path]]:
    """The clean checkouts that a killed process left: the name that it was alone with, the folder."""
    left = []
    for file in sorted((repo.state_dir / "scratch").glob("[!.]*")):
        with contextlib.suppress(OSError):
            if not is_alone(repo, file.name):
                left.append((file.name, Path(os.fsdecode(file.read_bytes()))))
    return left


def forget_scratch(repo: Repo, name: str) -> None:
    """Notes that the clean checkout called `name` is gone."""
    with alone(repo, name):
        (repo.state_dir / "scratch" / name).unlink(missing_ok=True)
