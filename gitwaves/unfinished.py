"""What a kill cut short in a checkout: finished, or put back, by the next command that writes.

Git moves a checkout file by file. Before it does so for us, a note says from where to where; a note
that is still there when we hold the lock is one of a process that died. Nothing is ever replaced
but what that process had put there, and what Git holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from gitwaves.errors import Conflict, GitError, GitwavesError, NotReady
from gitwaves.files import loads, write_file
from gitwaves.git import Entry, Repo, Worktree
from gitwaves.model import Branch, Oid

_MOMENT = 2.0  # seconds; what holds a reference for longer is dead


def finish_all(repo: Repo) -> None:
    """Finishes what can be; what cannot keeps its note, and is said by who writes there next."""
    with repo.lock():
        for note in _notes(repo.state_dir / "unfinished"):
            with contextlib.suppress(GitwavesError, OSError):
                finish(repo, Branch(note.name.replace("%2F", "/")))
        for note in _notes(repo.state_dir / "scratch"):
            with contextlib.suppress(GitwavesError, OSError), _unless_used(repo, note.name):
                discard(repo, Path(os.fsdecode(note.read_bytes())))
                note.unlink(missing_ok=True)


def _notes(folder: Path) -> list[Path]:
    try:  # a name with a dot in front is a file that a kill left half written
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError:
        return []


def cut_short(repo: Repo, branch: Branch) -> bool:
    """Whether a dead process left something unfinished in a branch's worktree."""
    return repo.unfinished(branch).exists() and not repo.locked_by_another()


def finish(repo: Repo, branch: Branch) -> None:
    """Finishes what was cut short in a branch's worktree; the caller holds the lock.

    Raises:
        NotReady: somebody's rebase or merge is under way there.
        Refused, Conflict: somebody's changes are in the way; says which.
    """
    note = repo.unfinished(branch)
    try:
        said = loads(note.read_bytes())
        path, old, new = Path(said["worktree"]), said["old"], Oid(said["new"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        note.unlink(missing_ok=True)
        return
    holder = repo.holder(branch) or _half_made_holder(repo, branch)
    if old is None:
        _finish_making(repo, path, holder)
    elif holder is not None and holder.path == path and repo.commit(new) is not None:
        if holder.branch != branch or holder.busy():
            raise NotReady(
                f"{branch} is in the middle of {holder.busy() or 'a rebase'} in {path}",
                "finish or abort it there, then run `gitwaves sync`",
            )
        _unlock(repo, holder, branch, {said["old"], new})
        _finish_landing(repo, holder, branch, Oid(old), new)
    note.unlink(missing_ok=True)


# --- a checkout that was being moved -----------------------------------------------------------


def _unlock(repo: Repo, tree: Worktree, branch: Branch, oids: set[str]) -> None:
    """Takes away what the git that died with us had locked: HEAD, ORIG_HEAD, and the branch.

    Git holds them for the moment in which it moves the branch, and writes there nothing or one of
    `oids`. The index's lock is left alone: a checkout of somebody's may hold that one for long.
    """
    own = [tree.admin / f"{name}.lock" for name in ("HEAD", "ORIG_HEAD")]
    for lock in (*own, repo.common / f"refs/heads/{branch}.lock"):
        with contextlib.suppress(FileNotFoundError):
            seen = lock.stat()
            time.sleep(max(0.0, min(seen.st_mtime + _MOMENT - time.time(), _MOMENT)))
            same = lock.stat()
            if (seen.st_ino, seen.st_mtime_ns) != (same.st_ino, same.st_mtime_ns):
                continue
            if lock.read_text(errors="replace").strip() in {"", *oids}:
                lock.unlink()


def release(repo: Repo, path: Path, since: float) -> None:
    """Takes away the locks that an agent's git left in its worktree when it was killed.

    Else nobody can commit there any more. Only those made `since` it was started (seconds since
    1970), and only where `/proc` shows that nobody has one open, and that no git process is at work
    there or in the main checkout but our own, which wait for the lock that is held here.
    """
    from gitwaves.processes import git_processes, holds_open, sees_processes  # slow to import

    tree = next((t for t in repo.worktrees() if t.path == path), None)
    if tree is None or tree.path == repo.top or not sees_processes():
        return
    locks = [tree.admin / f"{name}.lock" for name in ("index", "HEAD", "ORIG_HEAD")]
    if tree.branch:
        locks.append(repo.common / f"refs/heads/{tree.branch}.lock")
    near = [path, tree.admin, repo.common, *filter(None, [repo.main_top()])]
    with repo.lock():
        for lock in locks:
            with contextlib.suppress(OSError):
                seen = lock.stat()
                if seen.st_mtime < since - 1 or holds_open(lock) or git_processes(near, ours=False):
                    continue
                same = lock.stat()
                if (seen.st_ino, seen.st_mtime_ns) == (same.st_ino, same.st_mtime_ns):
                    lock.unlink()


def _finish_landing(repo: Repo, tree: Worktree, branch: Branch, old: Oid, new: Oid) -> None:
    """Puts files back that the landing had written; goes on where it had come to the index.

    Raises:
        Refused, Conflict: somebody's changes are in the way.
    """
    tip = repo.branch(branch)
    if tip is None or repo.is_ancestor(new, tip):
        return
    paths = {p: (repo.at(old, p), repo.at(new, p)) for p in repo.changed(old, new)}
    index = _index(repo, tree)
    _put_back(repo, tree, {p: (o, n) for p, (o, n) in paths.items() if index.get(p) == o}, new)
    taken = any(index.get(p) == n != o or repo.at(tip, p) == n != o for p, (o, n) in paths.items())
    if not taken:
        return
    if tip != old:  # a commit took what was staged along
        merged = repo.merge_trees(tip, new)
        if merged.conflicts:
            raise Conflict(
                f"{branch} moved while a landing was cut short; it does not merge: "
                + ", ".join(merged.conflicts[:5]),
                f"run `git merge {new}` in {tree.path} and resolve it, then `gitwaves sync`",
            )
        message = f"gitwaves: {branch} takes the rest of what was cut short\n"
        new = repo.commit_tree(merged.tree, [tip, new], message)
    repo.land(branch, new, tip)


def _index(repo: Repo, tree: Worktree) -> dict[str, Entry]:
    found = {}
    for line in repo.paths("ls-files", "-s", "-z", cwd=tree.path):
        facts, _, path = line.partition("\t")
        mode, oid, stage = facts.split()
        if stage == "0":
            found[path] = Entry(mode, Oid(oid))
    return found


def _put_back(
    repo: Repo, tree: Worktree, paths: dict[str, tuple[Entry | None, Entry | None]], new: Oid
) -> None:
    """Gives files back what the index says, where they hold what `new` says, or the start of it."""
    with repo.index_copy(tree) as env:
        repo.git("read-tree", new, cwd=tree.path, env=env)
        repo.try_git("update-index", "-q", "--refresh", cwd=tree.path, env=env)
        unlike_new = set(repo.paths("diff-files", "--name-only", "-z", cwd=tree.path, env=env))
    unlike_index = set(repo.paths("diff-files", "--name-only", "-z", cwd=tree.path))
    back = []
    for path, (before, after) in paths.items():
        file = tree.path / path
        there = os.path.lexists(file)
        if before is not None and path not in unlike_index:
            continue
        if there and after is not None:
            ours = path not in unlike_new or _begins(repo, file, after)
        else:
            ours = not there
        if ours and before is not None:
            back.append(path)
        elif ours and there:
            file.unlink()
            with contextlib.suppress(OSError):
                for parent in file.parents:
                    if parent == tree.path:
                        break
                    parent.rmdir()
    _check_out(repo, tree, back)


def _begins(repo: Repo, file: Path, entry: Entry) -> bool:
    """Whether a file is the start of a blob: Git was killed while it wrote it."""
    if not entry.mode.startswith("100") or file.is_symlink() or not file.is_file():
        return False
    return (repo.blob(entry.oid) or b"").startswith(file.read_bytes())


def _check_out(repo: Repo, tree: Worktree, paths: Iterable[str]) -> None:
    names = "".join(f"{p}\0" for p in paths).encode(errors="surrogateescape")
    if names:
        repo.git("checkout-index", "-f", "-z", "--stdin", cwd=tree.path, stdin=names)


# --- a checkout that was being made ------------------------------------------------------------


def _finish_making(repo: Repo, path: Path, tree: Worktree | None) -> None:
    """Completes a worktree that Git was making; one without a HEAD is taken away again."""
    if tree is None or tree.path != path:
        _forget(repo, path, half_made=True)
        return
    if not _half_made(tree.admin):
        return
    # locks of the git that was making it; nobody else has written the index where there is none
    written = (tree.admin / "index").exists()
    for left in ("HEAD.lock", "ORIG_HEAD.lock", *([] if written else ["index.lock"])):
        (tree.admin / left).unlink(missing_ok=True)
    index = _index(repo, tree)
    entries = repo.paths("ls-tree", "-r", "-z", "--full-tree", "HEAD", cwd=path)
    missing = [e for e in entries if e.partition("\t")[2] not in index]
    if missing:
        given = "".join(f"{e}\0" for e in missing).encode(errors="surrogateescape")
        repo.git("update-index", "-z", "--index-info", cwd=path, stdin=given)
        index = _index(repo, tree)
    differing = repo.paths("diff-files", "--name-only", "-z", cwd=path)
    _check_out(
        repo,
        tree,
        [
            p
            for p in differing
            if p in index and (not os.path.lexists(path / p) or _begins(repo, path / p, index[p]))
        ],
    )
    (tree.admin / "locked").unlink(missing_ok=True)


def _half_made_holder(repo: Repo, branch: Branch) -> Worktree | None:
    """The worktree of a branch that Git has yet to finish; it is none for anybody else."""
    for listed in repo.listed_worktrees():
        if listed.half_made and listed.branch == branch and listed.admin is not None:
            return Worktree(listed.path, listed.admin, branch, listed.head)
    return None


def _half_made(admin: Path) -> bool:
    """Whether Git was making a worktree: so it locks it meanwhile."""
    try:
        return (admin / "locked").read_text().strip() == "initializing"
    except OSError:
        return False


def _forget(repo: Repo, path: Path, *, half_made: bool = False) -> None:
    """Removes what Git notes of a checkout; files in it stay. `half_made`: if it is no more yet."""
    import shutil  # slow to import, and seldom needed

    dot = path / ".git"
    for admin in (repo.common / "worktrees").glob("*"):
        with contextlib.suppress(OSError):
            if Path(os.fsdecode((admin / "gitdir").read_bytes()).strip()) == dot:
                if half_made and not _half_made(admin):
                    return
                shutil.rmtree(admin)
                dot.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.rmdir()


# --- checkouts of our own ----------------------------------------------------------------------


def discard(repo: Repo, path: Path) -> None:
    """Removes a checkout of our own, in whatever state a kill left it."""
    import shutil

    with repo.lock():
        with contextlib.suppress(GitError):
            repo.remove_worktree(path, force=True)
        if path.is_dir():
            shutil.rmtree(path)
        _forget(repo, path)


@contextlib.contextmanager
def own(repo: Repo, path: Path) -> Iterator[None]:
    """Notes that a checkout is ours for as long as the block runs: a kill leaves it to be discarded.

    The caller is `alone` at the folder's name.

    Raises:
        GitwavesError: something else is there.
    """
    note = repo.state_dir / "scratch" / path.name
    note.parent.mkdir(parents=True, exist_ok=True)
    if note.exists():
        discard(repo, path)
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise GitwavesError(
            f"{path} is there already, and is no checkout that gitwaves made",
            "move it away, then run the same command again",
        )
    write_file(note, os.fsencode(path))
    yield
    note.unlink(missing_ok=True)


@contextlib.contextmanager
def _unless_used(repo: Repo, name: str) -> Iterator[None]:
    """Runs the block while nobody is at the checkout called `name`.

    Raises:
        BlockingIOError: somebody is.
    """
    with (repo.state_dir / "alone" / name).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
