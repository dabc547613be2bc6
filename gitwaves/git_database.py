"""The object database: git run on the repository, and the objects in it, read and written."""

from __future__ import annotations

import os
import re
import time
from _thread import allocate_lock
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gitwaves.errors import GitError
from gitwaves.gitcall import Asked, Done, Piped, run_git
from gitwaves.model import Oid
from gitwaves.objects import (
    Commit,
    Entry,
    Objects,
    object_id,
    packed,
    parse_commit,
    parse_tree,
    tree_data,
)
from gitwaves.patterns import regex

# Of which Git strips nothing.
_PLAIN_NAME = regex(r"\w(?:[\w .'-]*\w)?")
_PLAIN_MAIL = regex(r"\w(?:[\w.+@-]*\w)?", re.ASCII)


class Database:
    """A repository as a store of objects; `common` is its common Git directory."""

    def __init__(self, common: Path) -> None:
        self.common = common
        self._objects = Objects(common)
        self.doubts = (
            0  # how often something was not there that should have been, or git gave no answer
        )
        self._empty_tree: Oid | None = None
        self._trees: dict[Oid, Mapping[str, Entry]] = {}
        self._commits: dict[Oid, Commit] = {}
        self._signs: bool | None = None
        self._made: Oid | None = None  # a commit that git has written for us
        # What has been made here, and is written, all in one go, before git is asked for anything.
        self._unwritten: dict[Oid, tuple[str, bytes]] = {}
        self._writing = allocate_lock()
        self._listed: bytes | None = None  # what `git config --list -z` says
        self._settings: dict[str, str] | None = None

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
        if args[0] == "config":
            self._listed = self._settings = None  # it may have set one
        return out.decode(errors="surrogateescape").removesuffix("\n")

    def try_git(
        self, *args: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> Done:
        """Runs git and returns how it ended, whatever that was."""
        return run_git(self._argv(args, cwd), check=False, env=env)

    def begun(
        self,
        *args: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str = os.devnull,
    ) -> Asked:
        """Begins what runs while we go on; `stdin` is a file that it is given."""
        return Asked(*self._argv(args, cwd), env=env, stdin=stdin)

    def _argv(self, args: Sequence[str], cwd: Path | None) -> list[str]:
        self._write_all()
        where = ["-C", str(cwd)] if cwd is not None else [f"--git-dir={self.common}"]
        return [*where, *args]

    def paths(
        self, *args: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> list[str]:
        """The NUL-separated paths that a git command prints."""
        out = run_git(self._argv(args, cwd), env=env).stdout
        return [p.decode(errors="surrogateescape") for p in out.split(b"\0") if p]

    def config(self, key: str, *options: str) -> str | None:
        """A value of Git's configuration as it was when that was last listed, or None.

        Args:
            options: as `--type=bool`, by which Git is to read it.
        """
        section, dot, rest = key.partition(".")
        below, other, name = rest.rpartition(".")
        value = self.settings().get(f"{section.lower()}{dot}{below}{other}{name.lower()}")
        if value is None or not options:
            return value
        done = self.try_git("config", *options, "--get", key)
        out = done.stdout.decode(errors="surrogateescape")
        return out.removesuffix("\n") if done.returncode == 0 else None

    def settings(self) -> Mapping[str, str]:
        """The last value of each key of Git's configuration, the keys as Git lists them."""
        known = self._settings
        if known is None:
            text = self.listed_settings().decode(errors="surrogateescape")
            entries = (entry.partition("\n") for entry in text.split("\0"))
            known = self._settings = {key: value for key, _, value in entries if key}
        return known

    def listed_settings(self) -> bytes:
        """All of Git's configuration, as `git config --list -z` says it."""
        listed = self._listed
        if listed is None:
            listed = self._listed = self.try_git("config", "--list", "-z").stdout
        return listed

    def take_settings(self, listed: bytes) -> None:
        """Takes over what `git config --list -z` has said."""
        if listed != self._listed:
            self._made = self._signs = None  # who commits here may be another one now
        self._listed, self._settings = listed, None

    # --- objects -------------------------------------------------------------------------------

    def read_with(self, reader: Piped) -> None:
        """Reads objects by a `git cat-file --batch` of this repository that was started before."""
        self._objects.take(reader)

    def _read(self, oid: Oid) -> tuple[str, bytes] | None:
        return self._unwritten.get(oid) or self._objects.read(oid)

    def blob(self, oid: Oid) -> bytes | None:
        """The content of a blob; None where it is not here."""
        found = self._read(oid)
        self.doubts += found is None
        return found[1] if found and found[0] == "blob" else None

    def tree(self, oid: Oid) -> dict[str, Entry]:
        """The entries of a tree or of a commit's root tree, by name; empty where not here."""
        return dict(self._entries(oid))

    def _entries(self, oid: Oid) -> Mapping[str, Entry]:
        known = self._trees.get(oid)
        if known is not None:
            return known
        found = self._read(oid)
        if found and found[0] == "commit":
            entries = self._entries(parse_commit(found[1]).tree)
            self._trees[oid] = entries
            return entries
        if not found or found[0] != "tree":
            return {}
        if len(self._trees) > 4096:
            self._trees.clear()
        self._trees[oid] = parse_tree(found[1], len(oid) // 2)
        return self._trees[oid]

    def commit(self, oid: Oid) -> Commit | None:
        """A commit; None where it is not here or is something else."""
        known = self._commits.get(oid)
        if known is None:
            found = self._read(oid)
            if found is None or found[0] != "commit":
                return None
            if len(self._commits) > 4096:
                self._commits.clear()
            known = self._commits[oid] = parse_commit(found[1])
        return known

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

    def partial(self) -> bool:
        """Whether this clone fetches objects when they are asked for."""
        return self._objects.partial()

    def bring(self, commits: Iterable[Oid], path: str) -> None:
        """Fetches in one go what a partial clone lacks of the folder `path` in some commits.

        Raises:
            GitError: it cannot be fetched.
        """
        found = (self.at(commit, path) for commit in commits)
        self._objects.bring(entry.oid for entry in found if entry is not None and entry.is_tree)

    def read_ahead(self, oids: Iterable[Oid], *below: str) -> None:
        """Reads objects that are about to be asked for, in one go; below commits or trees, paths.

        With `below`, what stands at each of these steps: `read_ahead(commits, "a", "b")` reads the
        commits, their trees, `a` in each, and `a/b`.

        Raises:
            GitError: an object is damaged.
        """
        now = list(oids)
        self._objects.read_ahead(now)
        roots = (commit.tree for oid in now if (commit := self.commit(oid)) is not None)
        self._objects.read_ahead(roots)
        for name in below:
            now = [e.oid for oid in now if (e := self._entries(oid).get(name)) is not None]
            self._objects.read_ahead(now)

    def forget(self, oids: Iterable[Oid]) -> None:
        """Drops what was read of objects that are not needed again: a whole plan is many megabytes."""
        gone = list(oids)
        self._objects.forget(gone)
        for oid in gone:
            self._trees.pop(oid, None)

    def forget_trees(self) -> None:
        """Drops what trees were parsed to, where nobody looks at them again soon."""
        self._trees.clear()

    def is_shallow(self) -> bool:
        """Whether the history here ends before it began."""
        shallow = self.common / "shallow"
        return shallow.is_file() and shallow.stat().st_size > 0

    def id_of(self, data: bytes, kind: str = "blob") -> Oid:
        """The id that an object has in this repository, whether it is there or not."""
        width = 64 if self.config("extensions.objectFormat") == "sha256" else 40
        return object_id(kind, data, width)

    def _write(self, kind: str, data: bytes) -> Oid:
        oid = self.id_of(data, kind)
        self._unwritten[oid] = kind, data
        return oid

    def _write_all(self) -> None:
        """Writes what is still unwritten: one process, however many objects there are."""
        with self._writing:
            if made := dict(self._unwritten):
                pack = packed(made.values(), len(next(iter(made))))
                try:
                    run_git([f"--git-dir={self.common}", "unpack-objects", "-q"], stdin=pack)
                finally:  # what cannot be written is in the way of nothing else
                    for oid in made:
                        del self._unwritten[oid]

    def write_tree(self, entries: Mapping[str, Entry]) -> Oid:
        """Writes a tree.

        The names are used as they are: callers take them from trees or from ids.

        Raises:
            GitError: no tree can hold such a name.
        """
        for name in entries:
            if name in {"", ".", ".."} or "/" in name or "\0" in name:
                raise GitError(f"{name!r} cannot be the name of a file in a tree")
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
                oid = self._write("blob", data) if isinstance(data, bytes) else data
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
        parents = tuple(parents)
        if self._signs is None:
            self._signs = self.config("commit.gpgsign", "--type=bool") == "true"
        plain = not self._signs and self.config("i18n.commitEncoding") is None
        text = message.encode()  # which fails where it is no text
        if plain and "\0" not in message and (who := self._identity()) is not None:
            moment = time.time()
            zone = time.strftime("%z", time.localtime(moment))
            names = [f"{name} {int(moment)} {zone}" for name in who]
            return self.commit_tree(tree, parents, message, author=names[0], committer=names[1])
        args = [arg for parent in parents for arg in ("-p", parent)]
        if self._signs:
            args.append("-S")
        try:
            made = self.git("commit-tree", tree, *args, "-F", "-", stdin=text)
        except GitError as error:
            if "tell me who you are" in error.message or "empty ident" in error.message:
                raise GitError(
                    "Git does not know who you are",
                    'run `git config user.name "…"` and `git config user.email "…"`',
                ) from error
            raise
        self._made = Oid(made)
        return self._made

    def _identity(self) -> tuple[str, str] | None:
        """The author and the committer of commits here, without dates; None where Git has to tell."""
        made = self.commit(self._made) if self._made is not None else None
        if made is not None:
            return made.author.rsplit(" ", 2)[0], made.committer.rsplit(" ", 2)[0]
        if any(key.startswith(("author.", "committer.")) for key in self.settings()):
            return None
        found = []
        for role in (
            "GIT_AUTHOR",
            "GIT_COMMITTER",
        ):  # `git commit` tells its hooks of its author so
            name = os.environ.get(f"{role}_NAME", self.config("user.name") or "")
            mail = os.environ.get(f"{role}_EMAIL", self.config("user.email") or "")
            if not _PLAIN_NAME.fullmatch(name) or not _PLAIN_MAIL.fullmatch(mail):
                return None
            found.append(f"{name} <{mail}>")
        return found[0], found[1]
