"""The content of a worktree as one tree, found out while we go on; imports next to nothing.

`direct` begins it before what `verify` is made of is imported: to look at all files takes as long. The
settings, which each command asks for first, are begun here too.
"""

from __future__ import annotations

import os
import time

from gitwaves.gitcall import Asked
from gitwaves.gitenv import index_stamp
from gitwaves.gitplace import SEARCH, admin_of, content, own_place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gitwaves.git import Repo
    from gitwaves.model import Oid

_HEAD = "ref: refs/heads/"
_FRESH = 0.5  # seconds, in which `verify` is imported: who had to wait for a lock looks again


class IndexCopy:
    """An environment in which git works on a copy of a worktree's index.

    Args:
        common: the Git directory that all worktrees share.
        admin: the worktree's own.
    """

    def __init__(self, common: str, admin: str) -> None:
        self._state = f"{common}/gitwaves"
        self._admin = admin
        self._folder = f"{self._state}/index-{os.getpid()}-{os.urandom(4).hex()}"

    def __enter__(self) -> dict[str, str]:
        os.makedirs(self._state, exist_ok=True)
        os.mkdir(self._folder, mode=0o700)
        copy = f"{self._folder}/index"
        try:
            with open(f"{self._admin}/index", "rb") as file, open(copy, "wb") as into:
                into.write(file.read())
                # its time too, by which Git knows which entries may have changed unnoticed
                seen = os.fstat(file.fileno())
            os.utime(copy, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        except FileNotFoundError:
            pass
        except BaseException:
            self.__exit__()
            raise
        return {"GIT_INDEX_FILE": copy}

    def __exit__(self, *error: object) -> None:
        try:
            for name in os.listdir(self._folder):  # a git that was killed leaves its lock
                os.unlink(f"{self._folder}/{name}")
            os.rmdir(self._folder)
        except OSError:
            pass


class Candidate:
    """The tree that `git add -A` would commit, being found out while we go on.

    The worktree's own index is not touched, and each time looked at anew: it knows best which files
    may have changed unnoticed.

    Args:
        common: the Git directory that all worktrees share.
        top: of the worktree.
        admin: its own Git directory.

    Raises:
        OSError: its index cannot be copied.
    """

    def __init__(self, common: str, top: str, admin: str) -> None:
        self._place = (common, top, admin)
        self._since = time.monotonic()
        self._stamp = _stamp(common, admin)
        self._copy = IndexCopy(common, admin)
        self._env = self._copy.__enter__()
        try:
            self._adding: Asked | None = Asked("-C", top, "add", "-A", "-v", env=self._env)
        except BaseException:
            self._copy.__exit__()
            raise
        self._added: bytes | None = None  # what it says: a line for each file that is not as before
        self._less = False  # whether the tree is not all of it

    def __enter__(self) -> Candidate:
        return self

    def __exit__(self, *error: object) -> None:
        """Ends what was begun; a second time does nothing."""
        self._wait()
        self._copy.__exit__()

    def _wait(self) -> bytes | None:
        adding, self._adding = self._adding, None
        if adding is not None:
            self._added = adding.said()
        return self._added

    def is_of(self, common: str, top: str, admin: str) -> bool:
        """Whether it is of that worktree, of just now, and nobody of us has written there since."""
        young = time.monotonic() - self._since < _FRESH
        same = (common, top, admin) == self._place and _stamp(common, admin) == self._stamp
        return young and same

    def has_index_of(self, other: Candidate) -> bool:
        """Whether nobody wrote to the worktree's index between the two."""
        return (self._place, self._stamp) == (other._place, other._stamp)

    def is_like(self, other: Candidate) -> bool:
        """Whether its tree is plainly that of another: both are all that one and the same index holds."""
        whole = not (self._less or other._less)
        return whole and self.has_index_of(other) and self._wait() == other._wait() == b""

    def tree(self, repo: Repo, made: Iterable[str] = ()) -> Oid:
        """The tree, less untracked files in `made`.

        Raises:
            GitError: it cannot be told.
        """
        from pathlib import Path

        from gitwaves.model import Oid

        cwd, env = Path(self._place[1]), self._env
        if self._wait() is None:
            repo.git("add", "-A", cwd=cwd, env=env)  # says why
        if made:
            listing = ("ls-tree", "-r", "-z", "--name-only", "HEAD")
            tracked = set(repo.paths(*listing, cwd=cwd))
            if extra := [p for p in made if p not in tracked]:
                remove = ("rm", "-q", "--cached", "--ignore-unmatch", "-r", "--", *extra)
                repo.git(*remove, cwd=cwd, env=env)
                self._less = True
        return Oid(repo.git("write-tree", cwd=cwd, env=env))


def _stamp(common: str, admin: str) -> tuple[bytes, int]:
    """What changes whenever we, or git, write in a worktree by more than a person does."""
    try:
        notes = os.stat(f"{common}/gitwaves/unfinished").st_mtime_ns
    except OSError:
        notes = 0
    return index_stamp(admin), notes


def begun_settings() -> Asked | None:
    """What `Repo.open` asks first of the current folder, begun; None where it has to look for itself."""
    found = _here()
    return Asked(f"--git-dir={found[1]}", "config", "--list", "-z") if found else None


def _here() -> tuple[str, str] | None:
    """The top of the worktree we are in, and the common Git directory; None where that may be another."""
    try:
        return own_place_of(os.getcwd()) if SEARCH.isdisjoint(os.environ) else None
    except (OSError, ValueError):
        return None


class Look:
    """What the index of a worktree holds below a folder, with flags, and what differs there: begun."""

    def __init__(self, top: str, folder: str) -> None:
        self.top = top
        self.folder = folder
        where = ("-C", top)
        status = ("status", "--porcelain", "-z", "--no-renames", "-uall", "--ignored")
        self.differing = Asked(*where, *status, "--", folder)  # the longer one first
        self.listing = Asked(*where, "ls-files", "-v", "-s", "-z", "--", folder)


def begun_look(folder: str) -> Look | None:
    """What is asked of a folder of the worktree we are in; None where that is to be found out."""
    found = _here()
    return Look(found[0], folder) if found else None


def begun_for(task: str | None) -> Candidate | None:
    """What `verify` will want to know first, if the marks of what is at work say of which worktree.

    They are hints: who uses it asks `is_of` for the worktree that it finds.

    Args:
        task: that is named; without one it is what is at work in the current folder.
    """
    try:
        found = own_place_of(os.getcwd())
        if found is None:
            return None
        top, common = found
        if os.path.islink(f"{common}/gitwaves"):
            return None
        admin = admin_of(top)
        branch = _branch_at(admin)
        mark = f"{common}/gitwaves/at-work/{branch.replace('/', '%2F')}"
        here = content(mark).decode().strip() if branch else ""
        if task is not None and here != task:
            top, admin = _where(common, task)
        elif not here:
            return None
        return Candidate(common, top, admin) if top else None
    except (OSError, ValueError):
        return None


def _branch_at(admin: str) -> str:
    head = os.fsdecode(content(f"{admin}/HEAD"))
    return head.removeprefix(_HEAD).removesuffix("\n") if head.startswith(_HEAD) else ""


def _where(common: str, task: str) -> tuple[str, str]:
    """The top and the Git directory of the linked worktree in which a task is at work, or nothing."""
    marks = f"{common}/gitwaves/at-work"
    said = f"{task}\n".encode()
    branches = {
        name.replace("%2F", "/")
        for name in os.listdir(marks)
        if not name.endswith(".paths") and content(f"{marks}/{name}") == said
    }
    linked = f"{common}/worktrees"
    for name in os.listdir(linked) if branches else ():
        admin = f"{linked}/{name}"
        dot = os.fsdecode(content(f"{admin}/gitdir")).removesuffix("\n")
        top = dot.removesuffix("/.git")
        if _branch_at(admin) in branches and dot == f"{top}/.git" and admin_of(top) == admin:
            return top, admin
    return "", ""
