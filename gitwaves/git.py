"""The one place that meets Git: a repository is opened here, and the one way to land is here.

Below it lie worktrees, history and the object database, each on the one after it. Everything goes
through the git command line, which reads what libgit2 cannot open (sha256, reftable, partial
clones) and, in one `cat-file --batch` process, reads as fast.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gitwaves.errors import GitError, GitwavesError, NotReady, Refused, quoted
from gitwaves.files import write_file
from gitwaves.git_history import Merged
from gitwaves.git_worktrees import Checkouts, Listed, Worktree, admin_dir
from gitwaves.gitcall import BARE_OK, GIT_HOOK_INDEX, Asked, Done, clean_env, failed, run_git
from gitwaves.gitplace import SEARCH, content, is_odd, own_place_of
from gitwaves.model import Branch, Oid
from gitwaves.objects import Commit, Entry
from gitwaves.patterns import regex

__all__ = [
    "GIT_HOOK_INDEX",
    "Commit",
    "Entry",
    "Listed",
    "Merged",
    "Repo",
    "Worktree",
    "admin_dir",
    "clean_env",
]

_PLAIN_PATH = regex(r"[\w./-]+", re.ASCII)  # which a patch names as it is
_FEW_FILES = 20
# What `git apply` says before it has touched anything.
_REFUSED = (
    "does not match index", "does not exist in index", "does not match the current contents",
    "patch does not apply", "beyond a symbolic link", "already exists in", "Unable to create",
)  # fmt: skip


class Repo(Checkouts):
    """A repository: all its worktrees share one."""

    def __init__(self, common: Path, top: Path | None, start: Path | None = None) -> None:
        super().__init__(common, top)
        self.start = start or top or common  # the folder that the command was called in

    @staticmethod
    def open(start: Path, settings: Asked | None = None) -> Repo:
        """The repository around `start`.

        Args:
            settings: what `begun_settings` said of that folder.

        Raises:
            GitwavesError: there is none, or Git refuses to use it.
        """
        if not start.is_dir():
            raise GitwavesError(f"no such folder: {start}")
        if (plain := Repo._plain(start, settings)) is not None:
            return plain
        args = ["rev-parse", "--path-format=absolute", "--git-common-dir", "--is-bare-repository"]
        try:
            done = run_git(["-C", str(start), *args], check=False)
        except FileNotFoundError:
            raise GitwavesError("git is not installed", "install Git 2.39 or newer") from None
        found_bare = b"safe.bareRepository" in done.stderr
        if found_bare:
            done = run_git(["-C", str(start), *BARE_OK, *args], check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            hint: str | None
            if "not a git repository" in said:
                hint = "run `git init` there first"
                if os.environ.get("GIT_DIR"):
                    hint = "run this in a worktree of one: GIT_DIR is set, but is not looked at"
                raise GitwavesError(f"not a Git repository: {start}", hint)
            hint = None
            if "dubious" in said:
                name = quoted(said.partition("repository at '")[2].partition("'\n")[0])
                hint = f"if you trust its owner: git config --global --add safe.directory {name}"
            first = said.removeprefix("fatal: ").split("\n")[0]
            raise GitwavesError(first or "git rev-parse failed", hint)
        out = done.stdout.decode(errors="surrogateescape").removesuffix("\n")
        common, bare = out.rsplit("\n", 1)
        if found_bare:
            _require_not_embedded(Path(common))
        top = ""
        if bare != "true":
            args = ["rev-parse", "--path-format=absolute", "--show-toplevel"]
            shown = run_git(["-C", str(start), *args], check=False)
            top = shown.stdout.decode(errors="surrogateescape").removesuffix("\n")
        repo = Repo(Path(common), Path(top) if top else None, start.resolve())
        repo._require_meant()
        repo._require_no_links()
        return repo

    @staticmethod
    def _plain(start: Path, settings: Asked | None) -> Repo | None:
        """The repository around `start` where Git need not be asked for it."""
        listed = settings.said() if settings is not None else None
        if not SEARCH.isdisjoint(os.environ):
            return None
        try:
            found = own_place_of(os.path.realpath(start))
            if found is None:
                return None
            top, common = map(Path, found)
            repo = Repo(common, top, start.resolve())
            if listed is None:
                listed = repo.begun("config", "--list", "-z").said()
        except (OSError, ValueError):
            return None
        if listed is None or is_odd(listed):
            return None
        repo.take_settings(listed)
        repo._require_meant()
        repo._require_no_links()
        return repo

    def _require_no_links(self) -> None:
        """Raises where a symbolic link would lead our own files out of the Git directory."""
        below = [self.state_dir]
        for folder in below:  # grows by what is in the first one
            if folder.is_symlink():
                raise Refused(
                    f"{folder} is a symbolic link",
                    "remove it: gitwaves keeps nothing there that it cannot do without",
                )
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                first = folder == self.state_dir
                below += [Path(e.path) for e in entries if e.is_symlink() or (first and e.is_dir())]

    def _require_meant(self) -> None:
        """Raises where the environment makes Git use another repository than the one around us.

        Our own git calls never see these variables, so we would act on one and the user's git on
        another. In a hook they name the repository that the hook runs in.
        """
        named = os.environ.get("GIT_DIR")
        found = Path(named or self.common).resolve()
        # the second is where a linked worktree's Git directory lies: common/worktrees/NAME
        if self.common.resolve() not in {found, found.parent.parent}:
            raise GitwavesError(
                f"GIT_DIR names another repository, {named}",
                "unset GIT_DIR, or run this in a worktree of that repository",
            )
        tree = os.environ.get("GIT_WORK_TREE")
        if tree and (self.top is None or Path(tree).resolve() != self.top.resolve()):
            raise GitwavesError(
                f"GIT_WORK_TREE names another folder, {tree}",
                "unset GIT_WORK_TREE, or set core.worktree in that repository",
            )

    # --- this clone and others -----------------------------------------------------------------

    def clone_id(self) -> str:
        """A random id of this clone; names no host."""
        path = self.state_dir / "clone"
        with self.lock():
            with contextlib.suppress(FileNotFoundError):
                text = path.read_bytes()[:100].decode(errors="replace").strip()
                if re.fullmatch("[0-9a-f]{16}", text):
                    return text
            text = os.urandom(8).hex()  # also where a crash left half a file
            write_file(path, f"{text}\n".encode())
            return text

    def fetch(self, remote: str) -> Done:
        """Fetches from a remote; returns how it ended.

        Raises:
            GitError: this clone has no such remote.
        """
        self._require_remote(remote)
        return self.try_git("fetch", "--quiet", remote)

    def push(self, remote: str, refspec: str) -> Done:
        """Pushes to a remote, never by force; returns how it ended.

        Raises:
            GitError: this clone has no such remote.
        """
        self._require_remote(remote)
        return self.try_git("push", "--quiet", remote, refspec)

    def has_remote(self, remote: str) -> bool:
        """Whether the user gave this clone a remote of that name.

        Git takes any other name for a URL or a path, and would run the hooks of a repository there.
        """
        return self.config(f"remote.{remote}.url") is not None

    def _require_remote(self, remote: str) -> None:
        if not self.has_remote(remote):
            raise GitError(
                f"the plan's remote {remote} is not set up in this clone",
                f"run `git remote add {quoted(remote)} URL`",
            )

    # --- landing -------------------------------------------------------------------------------

    def land(
        self,
        branch: Branch,
        new: Oid,
        old: Oid | None,
        meanwhile: Callable[[], object] | None = None,
    ) -> None:
        """Moves `branch` from `old` to `new`, its descendant, without touching anyone's work.

        A branch that is checked out is fast-forwarded in the worktree that holds it, which keeps
        staged and unrelated dirty work and refuses what would overwrite any; another one is moved
        by compare-and-swap. `old` None creates the branch.

        Args:
            meanwhile: what can be done while git writes to a checkout, whether it lands or not; it
                raises nothing.

        Raises:
            Refused: local changes are in the way; nothing was touched.
            NotReady: the worktree is in the middle of a rebase or merge, or the branch moved.
        """
        with self.lock():
            tip = self.branch(branch)
            if tip == new or (tip is not None and self.is_ancestor(new, tip)):
                return
            if tip != old:
                raise NotReady(f"{branch} moved meanwhile", "run the same command again")
            holder = self.holder(branch)
            if holder is None:
                self._swap(branch, new, old)
            else:
                self._fast_forward(holder, branch, new, meanwhile)

    def _swap(self, branch: Branch, new: Oid, old: Oid | None) -> None:
        if old is not None and not self.is_ancestor(old, new):
            raise NotReady(
                f"{branch} holds commits that would be lost",
                f"`git log {new[:10]}..{branch}` shows them; put them on top, then try again",
            )
        zero = "0" * len(new)
        args = ("-m", "gitwaves: land", f"refs/heads/{branch}", new, old or zero)
        done = self._holding("update-ref", "--create-reflog", *args)
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            if "cannot lock ref" in said and ("but expected" in said or "already exists" in said):
                raise NotReady(f"{branch} moved meanwhile", "run the same command again")
            if "; cannot create" in said:
                other = said.split("': '")[-1].split("'")[0].removeprefix("refs/heads/")
                raise NotReady(
                    f"there can be no branch {branch} beside the branch {other}",
                    f"rename that one with `git branch -m {other} NAME`, "
                    "then run the same command again",
                )
            raise failed(["update-ref"], done)

    def _fast_forward(
        self,
        holder: Worktree,
        branch: Branch,
        new: Oid,
        meanwhile: Callable[[], object] | None,
    ) -> None:
        if holder.path == self.common:
            raise NotReady(
                f"{branch} is checked out in the main worktree, which cannot be found from here",
                "run the same command there: its Git directory, "
                f"{self.common}, does not say where it is",
            )
        busy = holder.busy()
        if busy or holder.branch != branch:
            what = busy or "a rebase or bisect"
            raise NotReady(
                f"{branch} is in the middle of {what} in {holder.path}",
                "finish or abort it there, then run `gitwaves sync`",
            )
        old = self.branch(branch)
        with self._noted(branch, holder.path, old, new):
            if old is None or not self._step_forward(holder, branch, old, new, meanwhile):
                self._merge_ff(holder, branch, new)

    def _step_forward(
        self,
        holder: Worktree,
        branch: Branch,
        old: Oid,
        new: Oid,
        meanwhile: Callable[[], object] | None,
    ) -> bool:
        """Fast-forwards over what changes a few files, of which nobody has changed one there.

        `git merge` looks at every file of the checkout, and takes as long as a commit. False where
        nothing was touched, and `git merge` has to do it, or to tell why it cannot be done.

        Raises:
            GitError: it was cut short in the middle.
        """
        if not self.is_ancestor(old, new) or self.is_sparse(holder.path):
            return False
        paths = self.changed(old, new)
        if not 0 < len(paths) <= _FEW_FILES or not self._is_plain(holder.path, old, paths):
            return False
        lines = []
        for path in paths:
            before, after = self.at(old, path), self.at(new, path)
            if before is None or after is None or before.mode != after.mode:
                return False
            if not before.mode.startswith("100"):
                return False
            lines += [
                f"diff --git a/{path} b/{path}",
                f"index {before.oid}..{after.oid} {before.mode}",
                f"Binary files a/{path} and b/{path} differ",  # whole objects: both are here
            ]
        where = ("-C", str(holder.path), "ls-files", "-z")
        unmerged, flags = Asked(*where, "-u"), Asked(*where, "-v", "--", *paths)
        try:
            self._write_all()  # meanwhile
        finally:
            said = unmerged.said(), flags.said()
        if said != (b"", "".join(f"H {path}\0" for path in paths).encode()):
            return False  # in the middle of something, or hidden from git
        patch = "\n".join([*lines, ""]).encode()
        apply = ("apply", "--index", "-")
        applied = self._holding(*apply, cwd=holder.path, stdin=patch, meanwhile=meanwhile)
        if applied.returncode:
            refused = applied.stderr.decode(errors="replace")
            if applied.returncode > 0 and any(reason in refused for reason in _REFUSED):
                return False
            raise failed(["apply"], applied)  # some files may have been written
        args = ("-m", "gitwaves: land", f"refs/heads/{branch}", new, old)
        return self._holding("update-ref", *args, cwd=holder.path).returncode == 0

    def _is_plain(self, top: Path, commit: Oid, paths: Sequence[str]) -> bool:
        """Whether some files are written in a checkout as `git merge` would write them.

        `git apply` follows a folder that is a symbolic link by now, and goes by the attributes in the
        checkout, which need not be those of the commit.
        """
        folders = {""}
        for path in paths:
            if path.endswith(".gitattributes") or not _PLAIN_PATH.fullmatch(path):
                return False
            parts = path.split("/")
            folders.update("/".join(parts[:end]) + "/" for end in range(1, len(parts)))
        for folder in folders:
            if folder and os.path.islink(f"{top}/{folder[:-1]}"):
                return False
            there = content(f"{top}/{folder}.gitattributes")
            if there != (self.read(commit, f"{folder}.gitattributes") or b""):
                return False
        return True

    def _merge_ff(self, holder: Worktree, branch: Branch, new: Oid) -> None:
        patience = time.monotonic() + 6
        wait = 0.05
        while True:
            done = self._holding(
                "merge", "--ff-only", "--quiet", "--no-autostash", new, cwd=holder.path
            )
            tip = self.branch(branch)
            if tip is not None and self.is_ancestor(new, tip):
                return
            said = done.stderr.decode(errors="replace")
            if "would be overwritten" in said or "Your local changes" in said:
                files = [line.strip() for line in said.splitlines() if line.startswith("\t")]
                raise Refused(
                    f"local changes in {holder.path} are in the way: {', '.join(files)}",
                    "commit them or set them aside there, then run the same command again",
                )
            if "unmerged" in said or "not possible to fast-forward" in said.lower():
                break
            locked = any(w in said for w in ("index.lock", "Unable to create", "cannot lock ref"))
            if not locked or time.monotonic() > patience:
                break
            time.sleep(wait)  # a user's own git holds the index for a moment
            wait *= 2
        raise failed(["merge", "--ff-only"], done)


def _require_not_embedded(bare: Path) -> None:
    """Raises where a bare repository came with somebody's commits: its configuration is theirs.

    Raises:
        Refused: names it.
    """
    for folder in bare.parents:
        if not (folder / ".git").exists() or (folder / ".git").resolve() == bare.resolve():
            continue
        inside = ["-C", str(folder), "ls-files", "-z", "--", str(bare.relative_to(folder))]
        if run_git(inside, check=False).stdout:
            raise Refused(
                f"{bare} is a bare repository that is tracked by another, {folder}",
                "its configuration may run anything; use a clone of it elsewhere",
            )
