"""The one place that meets Git: objects, references, worktrees, and the one way to land.

Everything goes through the git command line, which reads what libgit2 cannot open (sha256,
reftable, partial clones) and, in one `cat-file --batch` process, reads as fast.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gitwaves.errors import GitError, GitwavesError, NotReady, Refused
from gitwaves.files import write_file
from gitwaves.gitcall import BARE_OK, GIT_HOOK_INDEX, clean_env, failed, run_git
from gitwaves.model import Branch, Oid
from gitwaves.objects import Commit, Entry, Objects, parse_commit, parse_tree, tree_data

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

_BUSY = {
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or am",
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "sequencer": "a cherry-pick or revert",
    "BISECT_LOG": "a bisect",
}


@dataclass(frozen=True, slots=True)
class Worktree:
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
        for name in ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START"):
            with contextlib.suppress(OSError):
                ref = (self.admin / name).read_text(errors="surrogateescape").strip()
                return Branch(ref.removeprefix("refs/heads/"))
        return None


@dataclass(frozen=True, slots=True)
class Listed:
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


@dataclass(frozen=True, slots=True)
class Merged:
    """The outcome of a merge in memory; `conflicts` are the paths that need a person."""

    tree: Oid
    conflicts: tuple[str, ...] = ()


class Repo:
    """A repository: all its worktrees share one."""

    def __init__(self, common: Path, top: Path | None, start: Path | None = None) -> None:
        self.start = start or top or common  # the folder that the command was called in
        self.common = common  # the common Git directory
        self.top = top  # of the worktree that the command was called in; None in a bare repository
        self.state_dir = common / "gitwaves"  # receipts, logs, caches: never the truth
        self._objects = Objects(common)
        self._lock = _Lock(self.state_dir / "lock")
        self._empty_tree: Oid | None = None
        self._main: tuple[Path | None] | None = None
        # functions of object ids, which never change
        self._trees: dict[Oid, Mapping[str, Entry]] = {}
        self._code_trees: dict[Oid, Oid] = {}
        self._bases: dict[tuple[Oid, Oid], tuple[Oid, ...]] = {}
        self._unreached: dict[tuple[frozenset[Oid], frozenset[Oid]], frozenset[Oid]] = {}
        self._lists: dict[tuple[str, ...], tuple[Oid, ...]] = {}
        self._signs: bool | None = None

    @staticmethod
    def open(start: Path) -> Repo:
        """The repository around `start`.

        Raises:
            GitwavesError: there is none, or Git refuses to use it.
        """
        if shutil.which("git") is None:
            raise GitwavesError("git is not installed", "install Git 2.39 or newer")
        if not start.is_dir():
            raise GitwavesError(f"no such folder: {start}")
        args = ["rev-parse", "--path-format=absolute", "--git-common-dir", "--is-bare-repository"]
        done = run_git(["-C", str(start), *args], check=False)
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
                name = shlex.quote(said.partition("repository at '")[2].partition("'\n")[0])
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

    # --- running git ---------------------------------------------------------------------------

    def git(
        self,
        *args: str,
        cwd: Path | None = None,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Runs git and returns what it printed, less the last line end.

        Args:
            cwd: a worktree to run in; without it the command runs on the common directory.

        Raises:
            GitError: git failed; carries what it said.
        """
        out = run_git(self._argv(args, cwd), stdin=stdin, env=env).stdout
        return out.decode(errors="surrogateescape").removesuffix("\n")

    def try_git(
        self, *args: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs git and returns how it ended, whatever that was."""
        return run_git(self._argv(args, cwd), check=False, env=env)

    def _argv(self, args: Sequence[str], cwd: Path | None) -> list[str]:
        where = ["-C", str(cwd)] if cwd is not None else [f"--git-dir={self.common}"]
        return [*where, *args]

    def _holding(self, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        """Runs git as `try_git` does; it holds the lock to its end even if we are killed before.

        So the next command finds it done, or cut short, but never under way. It starts nothing
        that would outlive it and keep the lock.
        """
        quiet = ("-c", "gc.auto=0", "-c", "maintenance.auto=false")
        argv = [*quiet, *self._argv(args, cwd)]
        return run_git(argv, check=False, keep=self._lock.descriptors())

    def paths(
        self, *args: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> list[str]:
        """The NUL-separated paths that a git command prints."""
        out = run_git(self._argv(args, cwd), env=env).stdout
        return [p.decode(errors="surrogateescape") for p in out.split(b"\0") if p]

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
            write_file(note, json.dumps(said).encode())
        try:
            yield
        except (Refused, NotReady):  # nothing was touched
            if first:
                note.unlink(missing_ok=True)
            raise
        if first:
            note.unlink(missing_ok=True)

    def clone_id(self) -> str:
        """A random id of this clone; names no host."""
        path = self.state_dir / "clone"
        with self.lock():
            with contextlib.suppress(FileNotFoundError):
                text = path.read_bytes()[:100].decode(errors="replace").strip()
                if re.fullmatch("[0-9a-f]{16}", text):
                    return text
            text = secrets.token_hex(8)  # also where a crash left half a file
            write_file(path, f"{text}\n".encode())
            return text

    def config(self, key: str, *options: str) -> str | None:
        """A value of Git's configuration, or None."""
        done = self.try_git("config", *options, "--get", key)
        out = done.stdout.decode(errors="surrogateescape")
        return out.removesuffix("\n") if done.returncode == 0 else None

    def fetch(self, remote: str) -> subprocess.CompletedProcess[bytes]:
        """Fetches from a remote; returns how it ended.

        Raises:
            GitError: this clone has no such remote.
        """
        self._require_remote(remote)
        return self.try_git("fetch", "--quiet", remote)

    def push(self, remote: str, refspec: str) -> subprocess.CompletedProcess[bytes]:
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
                f"run `git remote add {shlex.quote(remote)} URL`",
            )

    # --- objects -------------------------------------------------------------------------------

    def blob(self, oid: Oid) -> bytes | None:
        """The content of a blob; None where it is not here."""
        found = self._objects.read(oid)
        return found[1] if found and found[0] == "blob" else None

    def tree(self, oid: Oid) -> dict[str, Entry]:
        """The entries of a tree or of a commit's root tree, by name; empty where not here."""
        return dict(self._entries(oid))

    def _entries(self, oid: Oid) -> Mapping[str, Entry]:
        known = self._trees.get(oid)
        if known is not None:
            return known
        found = self._objects.read(oid)
        if found and found[0] == "commit":
            return self._entries(parse_commit(found[1]).tree)
        if not found or found[0] != "tree":
            return {}
        if len(self._trees) > 4096:
            self._trees.clear()
        self._trees[oid] = parse_tree(found[1], len(oid) // 2)
        return self._trees[oid]

    def commit(self, oid: Oid) -> Commit | None:
        """A commit; None where it is not here or is something else."""
        found = self._objects.read(oid)
        return parse_commit(found[1]) if found and found[0] == "commit" else None

    def require_commit(self, oid: Oid) -> Commit:
        """A commit that must be here.

        Raises:
            GitError: it is not.
        """
        found = self.commit(oid)
        if found is None:
            raise GitError(f"the commit {oid} is not in this repository", "fetch, then try again")
        return found

    def at(self, tree: Oid, path: str) -> Entry | None:
        """The entry at `path` below a tree or commit."""
        oid = tree
        *folders, name = path.split("/")
        for folder in folders:
            entry = self._entries(oid).get(folder)
            if entry is None or not entry.is_tree:
                return None
            oid = entry.oid
        return self._entries(oid).get(name)

    def read(self, tree: Oid, path: str) -> bytes | None:
        """The content of the regular file at `path` below a tree or commit."""
        entry = self.at(tree, path)
        return self.blob(entry.oid) if entry and entry.mode.startswith("100") else None

    def bring(self, commits: Iterable[Oid], path: str) -> None:
        """Fetches in one go what a partial clone lacks of the folder `path` in some commits.

        Raises:
            GitError: it cannot be fetched.
        """
        found = (self.at(commit, path) for commit in commits)
        self._objects.bring(entry.oid for entry in found if entry is not None and entry.is_tree)

    def is_shallow(self) -> bool:
        """Whether the history here ends before it began."""
        shallow = self.common / "shallow"
        return shallow.is_file() and shallow.stat().st_size > 0

    def write_blob(self, data: bytes) -> Oid:
        return self._write("blob", data)

    def _write(self, kind: str, data: bytes) -> Oid:
        return Oid(self.git("hash-object", "-w", "-t", kind, "--stdin", "--no-filters", stdin=data))

    def write_tree(self, entries: Mapping[str, Entry]) -> Oid:
        """Writes a tree.

        The names are used as they are: callers take them from trees or from ids.
        """
        return self._write("tree", tree_data(entries))

    def with_files(self, tree: Oid, files: Mapping[str, bytes | Oid | None]) -> Oid:
        """A tree like `tree` with other contents for some files; None removes one.

        A content is given as bytes, or as the id of a blob that is here. Modes of files that were
        there stay; empty folders vanish.
        """
        entries = self.tree(tree)
        inner: dict[str, dict[str, bytes | Oid | None]] = {}
        for path, data in files.items():
            head, _, rest = path.partition("/")
            if rest:
                inner.setdefault(head, {})[rest] = data
            elif data is None:
                entries.pop(head, None)
            else:
                old = entries.get(head)
                mode = old.mode if old and old.mode.startswith("100") else "100644"
                oid = self.write_blob(data) if isinstance(data, bytes) else data
                entries[head] = Entry(mode, oid)
        for head, below in inner.items():
            old = entries.get(head)
            base = old.oid if old and old.is_tree else self.empty_tree()
            oid = self.with_files(base, below)
            if oid == self.empty_tree():
                entries.pop(head, None)
            else:
                entries[head] = Entry("40000", oid)
        return self.write_tree(entries)

    def empty_tree(self) -> Oid:
        if self._empty_tree is None:
            self._empty_tree = self._write("tree", b"")
        return self._empty_tree

    def commit_tree(
        self,
        tree: Oid,
        parents: Iterable[Oid],
        message: str,
        *,
        author: str | None = None,
        committer: str | None = None,
    ) -> Oid:
        """Writes a commit with the user's identity, signed when configured so.

        With `author` and `committer` (as in `Commit`) the object is the same on every machine,
        and never signed.

        Raises:
            GitError: Git knows no identity.
        """
        if author is not None and committer is not None:
            head = [f"tree {tree}", *(f"parent {p}" for p in parents)]
            head += [f"author {author}", f"committer {committer}"]
            return self._write(
                "commit", ("\n".join(head) + "\n\n" + message).encode(errors="surrogateescape")
            )
        args = [arg for parent in parents for arg in ("-p", parent)]
        if self._signs is None:
            self._signs = self.config("commit.gpgsign", "--type=bool") == "true"
        if self._signs:
            args.append("-S")
        try:
            return Oid(self.git("commit-tree", tree, *args, "-F", "-", stdin=message.encode()))
        except GitError as error:
            if "tell me who you are" in error.message or "empty ident" in error.message:
                raise GitError(
                    "Git does not know who you are",
                    'run `git config user.name "…"` and `git config user.email "…"`',
                ) from error
            raise

    # --- history -------------------------------------------------------------------------------

    def resolve(self, rev: str) -> Oid | None:
        """The commit that `rev` names, or None."""
        done = self.try_git(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{rev}^{{commit}}",
            cwd=self.top,
        )
        return Oid(done.stdout.decode().strip()) if done.returncode == 0 else None

    def resolve_in(self, worktree: Path) -> Oid | None:
        """The commit that a worktree's HEAD is at."""
        done = self.try_git("rev-parse", "--verify", "--quiet", "HEAD", cwd=worktree)
        return Oid(done.stdout.decode().strip()) if done.returncode == 0 else None

    def refs(self, *patterns: str) -> dict[str, Oid]:
        """Full reference name -> commit, of the references below the patterns."""
        out = self.git(
            "for-each-ref", "--format=%(refname)%00%(objectname)%00%(objecttype)", *patterns
        )
        found = {}
        for line in filter(None, out.split("\n")):  # a name may hold what else splits lines
            name, oid, kind = line.split("\0")
            if kind == "commit":
                found[name] = Oid(oid)
        return found

    def branch(self, branch: Branch) -> Oid | None:
        """The tip of a local branch."""
        return self.refs(f"refs/heads/{branch}").get(f"refs/heads/{branch}")

    def is_ancestor(self, old: Oid, new: Oid) -> bool:
        """Whether `new` contains `old`; False where `old` is not here."""
        if old == new:
            return True
        return self.try_git("merge-base", "--is-ancestor", old, new).returncode == 0

    def merge_bases(self, one: Oid, other: Oid) -> tuple[Oid, ...]:
        """Every best common ancestor; none for unrelated histories."""
        if one == other:
            return (one,)
        known = self._bases.get((one, other))
        if known is None:
            done = self.try_git("merge-base", "--all", one, other)
            known = tuple(Oid(line) for line in done.stdout.decode().split())
            self._bases[one, other] = known
        return known

    def rev_list(self, *args: str, paths: Sequence[str] = ()) -> tuple[Oid, ...]:
        """The commits of a range given by object ids, in the order `git rev-list` gives them."""
        key = (*args, "--", *paths)
        known = self._lists.get(key)
        if known is None:
            known = tuple(Oid(line) for line in self.git("rev-list", *key).splitlines())
            self._lists[key] = known
        return known

    def missing_from(self, commits: Iterable[Oid], tips: Iterable[Oid]) -> set[Oid]:
        """Those of `commits` that are in none of the histories of `tips`, or not here at all."""
        wanted = set(commits)
        here = {oid for oid in wanted if self.commit(oid) is not None}
        if not here:
            return wanted
        key = (frozenset(here), frozenset(tips))
        known = self._unreached.get(key)
        if known is None:
            given = "\n".join([*here, *(f"^{tip}" for tip in key[1])]) + "\n"
            out = self.git("rev-list", "--stdin", stdin=given.encode())
            known = self._unreached[key] = frozenset(here & {Oid(x) for x in out.splitlines()})
        return (wanted - here) | known

    def children(self, commits: Iterable[Oid], tips: Iterable[Oid]) -> dict[Oid, list[Oid]]:
        """The commits, in the histories of `tips`, that have one of `commits` as a parent."""
        wanted = set(commits)
        given = "".join(f"{tip}\n" for tip in dict.fromkeys(tips))
        found: dict[Oid, list[Oid]] = {}
        for line in self.git("rev-list", "--parents", "--stdin", stdin=given.encode()).splitlines():
            oid, *parents = map(Oid, line.split())
            for parent in wanted.intersection(parents):
                found.setdefault(parent, []).append(oid)
        return found

    def shallow(self) -> bool:
        """Whether this clone lacks history that others have."""
        return (self.common / "shallow").exists()

    def differ_only_at(self, old: Oid, new: Oid, path: str) -> bool:
        """Whether two trees or commits differ at `path` and nowhere else."""
        *folders, name = path.split("/")
        for folder in folders:
            one, other = self.tree(old), self.tree(new)
            before, after = one.pop(folder, None), other.pop(folder, None)
            if one != other or before is None or after is None:
                return False
            if not before.is_tree or not after.is_tree:
                return False
            old, new = before.oid, after.oid
        one, other = self.tree(old), self.tree(new)
        return one.pop(name, None) != other.pop(name, None) and one == other

    def changed(self, old: Oid, new: Oid) -> list[str]:
        """The paths whose content or mode differs between two trees or commits."""
        if old == new:
            return []
        return self.paths("diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new)

    def code_tree(self, commit: Oid) -> Oid:
        """A commit's (or tree's) root tree without `.workstreams/`: what state commits leave alone."""
        known = self._code_trees.get(commit)
        if known is None:
            entries = self.tree(commit)
            entries.pop(".workstreams", None)
            data = tree_data(entries)
            head = b"tree %d\0" % len(data)
            new = hashlib.sha1 if len(commit) == 40 else hashlib.sha256
            known = self._code_trees[commit] = Oid(new(head + data).hexdigest())
        return known

    def merge_trees(self, ours: Oid, theirs: Oid) -> Merged:
        """Merges two commits in memory, as `git merge` would; no worktree is involved.

        Raises:
            GitError: the histories are unrelated, or git failed.
        """
        args = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages")
        done = self.try_git(*args, ours, theirs)
        if done.returncode not in {0, 1}:
            if b"unrelated histories" in done.stderr:
                hint = "one of them was rewritten or begun anew; merge them by hand first"
                if self.is_shallow():
                    hint = "this clone is shallow: run `git fetch --unshallow`, then try again"
                raise GitError(f"{ours[:10]} and {theirs[:10]} have no common history here", hint)
            raise failed(["merge-tree"], done)
        tree, *conflicts = done.stdout.decode(errors="surrogateescape").rstrip("\0").split("\0")
        return Merged(Oid(tree), tuple(dict.fromkeys(c for c in conflicts if c)))

    # --- worktrees -----------------------------------------------------------------------------

    def worktrees(self) -> list[Worktree]:
        """All checkouts of this repository that are really there, the main one first.

        Not one that `git worktree add` has yet to finish: its files would all seem to be deleted.
        """
        return [
            Worktree(w.path, w.admin, w.branch, w.head)
            for w in self.listed_worktrees()
            if w.admin is not None and not w.half_made
        ]

    def listed_worktrees(self) -> list[Listed]:
        """All checkouts that Git knows of, the main one first; not a bare repository itself."""
        out = self.git("worktree", "list", "--porcelain", "-z")
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
        return next((w for w in self.worktrees() if w.holds() == branch), None)

    def here(self) -> Worktree | None:
        """The worktree that the command was called in."""
        if self.top is None:
            return None
        top = self.top.resolve()
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

    def dirty_submodules(self, worktree: Path) -> list[str]:
        """The submodules that hold changed or untracked files of their own."""
        args = ("status", "--porcelain=v2", "-z", "--no-renames", "--ignore-submodules=none")
        found = []
        for entry in self.paths(*args, "--untracked-files=no", cwd=worktree):
            kind, *fields = entry.split(" ", 8)
            if kind == "1" and fields[1][0] == "S" and fields[1][2:] != "..":
                found.append(fields[-1])
        return found

    def unmerged(self, worktree: Path) -> list[str]:
        """The paths with unresolved conflicts."""
        return sorted(
            {e.split("\t", 1)[1] for e in self.paths("ls-files", "-u", "-z", cwd=worktree)}
        )

    @contextlib.contextmanager
    def index_copy(self, worktree: Worktree) -> Iterator[dict[str, str]]:
        """An environment in which git works on a copy of the worktree's index."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=self.state_dir, prefix=f"index-{os.getpid()}-"
        ) as folder:
            copy = Path(folder) / "index"
            with contextlib.suppress(FileNotFoundError):
                # with its time, by which Git knows which entries may have changed unnoticed
                shutil.copy2(worktree.admin / "index", copy)
            yield {"GIT_INDEX_FILE": str(copy)}

    # --- landing -------------------------------------------------------------------------------

    def land(self, branch: Branch, new: Oid, old: Oid | None) -> None:
        """Moves `branch` from `old` to `new`, its descendant, without touching anyone's work.

        A branch that is checked out is fast-forwarded in the worktree that holds it, which keeps
        staged and unrelated dirty work and refuses what would overwrite any; another one is moved
        by compare-and-swap. `old` None creates the branch.

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
                self._fast_forward(holder, branch, new)

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

    def _fast_forward(self, holder: Worktree, branch: Branch, new: Oid) -> None:
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
        with self._noted(branch, holder.path, self.branch(branch), new):
            self._merge_ff(holder, branch, new)

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


class _Lock:
    """An flock that the threads of one process share fairly and may take twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = threading.RLock()
        self._depth = 0
        self._held: int | None = None

    def descriptors(self) -> tuple[int, ...]:
        """What a process has to inherit to hold the lock too; nothing where it is not held."""
        return () if self._held is None else (self._held,)

    def taken(self) -> bool:
        """Whether another process holds it."""
        try:
            with self._path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return not self._depth
        return False

    @contextlib.contextmanager
    def held(self, patience: float | None = None) -> Iterator[None]:
        with self._thread:
            if self._depth:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                self._take(file, patience)
                self._depth = 1
                self._held = file.fileno()
                try:
                    yield
                finally:
                    self._depth = 0
                    self._held = None

    @staticmethod
    def _take(file: BinaryIO, patience: float | None) -> None:
        if patience is None:
            fcntl.flock(file, fcntl.LOCK_EX)
            return
        end = time.monotonic() + patience
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if time.monotonic() >= end:
                raise NotReady("another gitwaves is at work in this repository", "wait for it")
            time.sleep(0.05)


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
