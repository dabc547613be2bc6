"""Checkouts: which there are, what they hold, and making and removing them under the lock."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from gitwaves.errors import NotReady, Refused
from gitwaves.files import dumps, write_file
from gitwaves.git_history import History
from gitwaves.git_lock import Lock
from gitwaves.gitcall import Asked, Done, failed, run_git
from gitwaves.gitplace import content
from gitwaves.model import Branch, Oid
from gitwaves.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gitwaves.git_content import Candidate, IndexCopy, Look

_LIST = ("worktree", "list", "--porcelain", "-z")
_HELD = ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START")
_BUSY = {
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or am",
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "sequencer": "a cherry-pick or revert",
    "BISECT_LOG": "a bisect",
}


class Worktree(Record):
    """A checkout: `admin` is its own Git directory, `branch` None when detached."""

    path: Path
    admin: Path
    branch: Branch | None
    head: Oid | None

    def busy(self) -> str | None:
        """What it is in the middle of (a rebase, a merge, …), or None."""
        for name, what in _BUSY.items():
            if (self.admin / name).exists():
                return what
        return None

    def holds(self) -> Branch | None:
        """The branch it has checked out, or is rebasing or bisecting."""
        if self.branch is not None:
            return self.branch
        for name in _HELD:
            with contextlib.suppress(OSError):
                ref = (self.admin / name).read_text(errors="surrogateescape").strip()
                return Branch(ref.removeprefix("refs/heads/"))
        return None


class Listed(Record):
    """A checkout as Git lists it, whether it is there or not."""

    path: Path
    branch: Branch | None
    head: Oid | None
    locked: str | None  # the reason, which may be empty
    admin: Path | None  # as its folder says; None where that is gone, or no checkout any more

    @property
    def half_made(self) -> bool:
        """Whether `git worktree add` is still at it, or was killed there."""
        return self.locked == "initializing"


class Checkouts(History):
    """A repository with its worktrees, all of which share it and its lock."""

    def __init__(self, common: Path, top: Path | None) -> None:
        super().__init__(common, top)
        self.state_dir = common / "gitwaves"  # receipts, logs, caches: never the truth
        self._lock = Lock(self.state_dir / "lock")
        self._main: tuple[Path | None] | None = None
        self._listing: Asked | None = None
        self._look: Look | None = None

    def lock(self, patience: float | None = None) -> contextlib.AbstractContextManager[None]:
        """The one lock that serialises gitwaves' own writes in this repository.

        Args:
            patience: seconds to wait for it; without it, however long it takes.

        Raises:
            NotReady: another process still has it after `patience`.
        """
        return self._lock.held(patience)

    def locked_by_another(self) -> bool:
        """Whether another process holds the lock at this moment."""
        return self._lock.taken()

    def unfinished(self, branch: Branch) -> Path:
        """The note of what is under way in a branch's worktree; a kill leaves it there."""
        return self.state_dir / "unfinished" / branch.replace("/", "%2F")

    @contextlib.contextmanager
    def _noted(self, branch: Branch, path: Path, old: Oid | None, new: Oid) -> Iterator[None]:
        """Leaves that note for as long as the block runs; `old` None: the worktree is being made."""
        note = self.unfinished(branch)
        first = not note.exists()  # else what it tells of is being finished
        if first:
            note.parent.mkdir(parents=True, exist_ok=True)
            said = {"worktree": str(path), "old": old, "new": new}
            write_file(note, dumps(said).encode())
        try:
            yield
        except (Refused, NotReady):  # nothing was touched
            if first:
                note.unlink(missing_ok=True)
            raise
        if first:
            note.unlink(missing_ok=True)

    def _holding(
        self,
        *args: str,
        cwd: Path | None = None,
        stdin: bytes | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> Done:
        """Runs git as `try_git` does; it holds the lock to its end even if we are killed before.

        So the next command finds it done, or cut short, but never under way. It starts nothing
        that would outlive it and keep the lock.
        """
        quiet = ("-c", "gc.auto=0", "-c", "maintenance.auto=false")
        argv = [*quiet, *self._argv(args, cwd)]
        held = self._lock.descriptors()
        return run_git(argv, check=False, keep=held, stdin=stdin, meanwhile=meanwhile)

    def worktrees(self) -> list[Worktree]:
        """All checkouts of this repository that are really there, the main one first.

        Not one that `git worktree add` has yet to finish: its files would all seem to be deleted.
        """
        return [
            Worktree(w.path, w.admin, w.branch, w.head)
            for w in self.listed_worktrees()
            if w.admin is not None and not w.half_made
        ]

    def begin_listing(self) -> None:
        """Asks for the checkouts, which are looked at soon."""
        self._listing = self.begun(*_LIST)

    def listed_worktrees(self) -> list[Listed]:
        """All checkouts that Git knows of, the main one first; not a bare repository itself."""
        begun, self._listing = self._listing, None
        said = begun.said() if begun is not None else None
        out = self.git(*_LIST) if said is None else said.decode(errors="surrogateescape")
        found = []
        for index, block in enumerate(out.split("\0\0")):
            fields = dict(line.partition(" ")[::2] for line in block.split("\0") if line)
            if "worktree" not in fields or "bare" in fields:
                continue
            path = Path(fields["worktree"])
            admin: Path | None
            if index == 0:
                path, admin = self.main_top() or self.common, self.common
            else:
                admin = admin_dir(path)
            ref = fields.get("branch")
            branch = Branch(ref.removeprefix("refs/heads/")) if ref else None
            head = fields.get("HEAD")
            oid = Oid(head) if head and head.strip("0") else None
            if admin is not None and not self._is_ours(admin):
                admin = None  # another repository's checkout stands there now
            found.append(Listed(path, branch, oid, fields.get("locked"), admin))
        return found

    def _is_ours(self, admin: Path) -> bool:
        if admin.parent == self.common / "worktrees" and not admin.is_symlink():
            return True  # where nearly all are: resolving each costs more than to list them
        real, common = admin.resolve(), self.common.resolve()
        return real == common or real.parent == common / "worktrees"

    def main_top(self) -> Path | None:
        """The top of the main worktree; None in a bare repository, or where it cannot be told.

        Git itself takes the Git directory for it where that lies elsewhere (a submodule's does, and
        after `init --separate-git-dir` nothing but the main worktree itself knows).
        """
        if self._main is None:
            self._main = (self._find_main(),)
        return self._main[0]

    def _find_main(self) -> Path | None:
        if self.top is not None and (self.top / ".git").resolve() == self.common.resolve():
            return self.top
        if configured := self.config("core.worktree"):
            return (self.common / configured).resolve()
        if self.common.name == ".git":
            return self.common.parent
        if self.top is None:
            return None
        args = ("rev-parse", "--absolute-git-dir")
        admin = self.try_git(*args, cwd=self.top).stdout.decode(errors="surrogateescape")
        return self.top if Path(admin.removesuffix("\n")) == self.common else None

    def holder(self, branch: Branch) -> Worktree | None:
        """The worktree that has `branch` checked out, or is rebasing or bisecting it."""
        holding = self._holding_it(branch)
        if not holding:
            return None
        first = self._as_its_files_say(holding[0])
        if first is not None and first.branch == branch and len(holding) == 1:
            return first
        return next((w for w in self.worktrees() if w.holds() == branch), None)

    def _holding_it(self, branch: Branch) -> list[Path]:
        """The Git directories of the checkouts that may hold a branch, as far as files tell it."""
        said = f"refs/heads/{branch}".encode(errors="surrogateescape")
        linked = self.common / "worktrees"
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(linked)
        found = []
        for admin in (f"{self.common}", *(f"{linked}/{name}" for name in names)):
            head = content(f"{admin}/HEAD")
            target = head[4:].strip() if head.startswith(b"ref:") else b""
            # references that are no files, or HEAD of old
            odd = target.endswith(b"/.invalid") or os.path.islink(f"{admin}/HEAD")
            if not odd and not target:
                noted = (content(f"{admin}/{name}").strip() for name in _HELD)
                odd = any(note in (said, os.fsencode(branch)) for note in noted)
            if odd or target == said:
                found.append(Path(admin))
        return found

    def _as_its_files_say(self, admin: Path) -> Worktree | None:
        """The checkout of a Git directory, where a few files say what Git would; None: ask Git."""
        head = content(f"{admin}/HEAD")
        if not head.startswith(b"ref: refs/heads/") or head.endswith(b"/.invalid\n"):
            return None
        if os.path.islink(f"{admin}/HEAD") or content(f"{admin}/locked").strip() == b"initializing":
            return None
        if admin == self.common:
            path = self.main_top() if self.settings().get("core.bare") in {None, "false"} else None
        else:
            dot = Path(os.fsdecode(content(f"{admin}/gitdir").removesuffix(b"\n")))
            path = dot.parent if dot.is_absolute() and dot.name == ".git" else None
            if path is None or admin_dir(path) != admin or admin.parent.parent != self.common:
                return None  # it was moved, or is gone
        if path is None:
            return None
        branch = Branch(os.fsdecode(head[16:].removesuffix(b"\n")))
        return Worktree(path, admin, branch, self.branch(branch))

    def here(self) -> Worktree | None:
        """The worktree that the command was called in."""
        if self.top is None:
            return None
        admin, top = admin_dir(self.top), self.top.resolve()
        found = None if admin is None else self._as_its_files_say(admin)
        if found is not None and found.path.resolve() == top:
            return found
        return next((w for w in self.worktrees() if w.path.resolve() == top), None)

    def add_worktree(self, path: Path, commit: Oid, branch: Branch | None = None) -> None:
        """Makes a checkout of `commit`; with `branch` that branch, which must exist, at its tip."""
        with self.lock():
            # --force: Git may still list a checkout there, or of that branch, that is gone. A
            # `worktree prune` would also forget others' that are only out of reach, on a disk say.
            args = ["worktree", "add", "--quiet", "--force"]
            if branch is None:
                done = self._holding(*args, "--detach", str(path), commit)
            else:
                with self._noted(branch, path, None, commit):
                    done = self._holding(*args, str(path), branch)
                    if done.returncode < 0:  # killed: it did not clean up behind itself
                        raise failed(["worktree"], done)
            if done.returncode:
                raise failed(["worktree"], done)

    def remove_worktree(self, path: Path, *, force: bool = False) -> None:
        """Removes a checkout; without `force` Git refuses one with changes or untracked files."""
        with self.lock():
            # twice: also one that git was making when it was killed, which is locked
            args = ["--force", "--force"] if force else []
            done = self._holding("worktree", "remove", *args, str(path))
            if done.returncode:
                raise failed(["worktree"], done)

    def status(self, worktree: Path, *, untracked: bool = True) -> list[str]:
        """The paths with uncommitted changes, untracked ones included."""
        args = ["status", "--porcelain=v1", "-z", "--no-renames", "--ignore-submodules=none"]
        args.append("--untracked-files=" + ("all" if untracked else "no"))
        return [entry[3:] for entry in self.paths(*args, cwd=worktree)]

    def take_look(self, look: Look | None) -> None:
        """Takes over what was begun to be asked of a worktree, which is looked at soon."""
        self._look = look

    def look_below(self, worktree: Path, folder: str) -> Look:
        """What the index holds below a folder, with flags, and what differs there; both are begun."""
        look, self._look = self._look, None
        if look is not None and (look.top, look.folder) == (str(worktree), folder):
            return look
        from gitwaves.git_content import Look

        self._write_all()
        return Look(str(worktree), folder)

    def dirty_submodules(self, worktree: Path) -> list[str]:
        """The submodules that hold changed or untracked files of their own."""
        args = ("status", "--porcelain=v2", "-z", "--no-renames", "--ignore-submodules=none")
        found = []
        for entry in self.paths(*args, "--untracked-files=no", cwd=worktree):
            kind, *fields = entry.split(" ", 8)
            if kind == "1" and fields[1][0] == "S" and fields[1][2:] != "..":
                found.append(fields[-1])
        return found

    def is_sparse(self, worktree: Path) -> bool:
        """Whether a worktree's checkout leaves files out."""
        decisive = ("core.sparsecheckout", "extensions.worktreeconfig", "includeif.")
        if not any(key.startswith(decisive) for key in self.settings()):
            return False
        args = ("config", "--type=bool", "core.sparseCheckout")
        return self.try_git(*args, cwd=worktree).stdout == b"true\n"

    def unmerged(self, worktree: Path) -> list[str]:
        """The paths with unresolved conflicts."""
        return sorted(
            {e.split("\t", 1)[1] for e in self.paths("ls-files", "-u", "-z", cwd=worktree)}
        )

    def index_copy(self, worktree: Worktree) -> IndexCopy:
        """An environment in which git works on a copy of the worktree's index."""
        from gitwaves.git_content import IndexCopy

        return IndexCopy(str(self.common), str(worktree.admin))

    def candidate(self, worktree: Worktree, begun: Candidate | None = None) -> Candidate:
        """The content of a worktree, being found out; what was begun before, if it is of this moment.

        Raises:
            OSError: its index cannot be copied.
        """
        self._write_all()
        place = (str(self.common), str(worktree.path), str(worktree.admin))
        if begun is not None:
            if begun.is_of(*place):
                return begun
            begun.__exit__()  # else it may wait for somebody who hears what it says
        from gitwaves.git_content import Candidate

        return Candidate(*place)


def admin_dir(path: Path) -> Path | None:
    """The Git directory of a worktree; None where its folder is gone."""
    dot = path / ".git"
    if dot.is_dir():
        return dot
    try:
        text = os.fsdecode(dot.read_bytes()).removesuffix("\n")
    except OSError:
        return None
    admin = Path(text.removeprefix("gitdir: "))
    return admin if admin.is_absolute() else (path / admin).resolve()
