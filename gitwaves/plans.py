"""The plan as commits hold it: which branch is trunk, and the cards of its tree."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from gitwaves.cards import keep_in, load_config, save_kept
from gitwaves.errors import GitError, GitwavesError, NotReady
from gitwaves.git import Repo
from gitwaves.model import CONFIG_PATH, ROOT, Branch, Cards, Config, Oid
from gitwaves.patterns import regex
from gitwaves.shelf import FEW, Listing, Plan, Shelf

# Of `ls-files -v -s -z`: a regular file without conflict, whose changes Git looks for, or that it left out.
_HELD, _LEFT_OUT = (regex(rf"{flag} 100(?:644|755) ([0-9a-f]+) 0\t([^\0]*)\0") for flag in "HS")
ODD_MODES = {"120000": "a symbolic link", "160000": "a submodule"}


def trunk_among(
    repo: Repo, heads: Mapping[str, Oid], remotes: Mapping[str, Oid], configured: str = ""
) -> tuple[Branch, Oid, Config] | None:
    """The branch whose own tree names it as trunk, its tip there, and the configuration; or None."""
    order = [b for b in (configured, "main", "master") if b]
    order += [
        b for b in sorted({*heads, *remotes}) if b not in order and not b.startswith("gitwaves/")
    ]
    for name in order:
        for tip in (heads.get(name), remotes.get(name)):
            data = repo.read(tip, CONFIG_PATH) if tip else None
            if data is not None and tip is not None:
                config, _ = load_config(data, CONFIG_PATH)
                if config.trunk == name:
                    return Branch(name), tip, config
    return None


def _has_odd(root: str) -> bool:
    """Whether below a folder is what Git does not speak of: a pipe, say."""
    pending = [root]
    for folder in pending:  # grows while it is walked
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            others = [e for e in entries if not e.is_file(follow_symlinks=False)]
            if not all(e.is_dir(follow_symlinks=False) for e in others):
                return True
            pending += [e.path for e in others]
    return False


class Plans:
    """The plan of a repository, at any commit of it."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.shelf = Shelf(repo.state_dir / "plans")
        self._last: tuple[Oid, Cards] | None = None
        self._digested = 0  # spec digests that are kept
        self._unkept: tuple[Oid, Cards, Plan] | None = None
        keep_in(repo.state_dir / "cache")

    # --- trunk ---------------------------------------------------------------------------------

    def trunk(self, refs: Mapping[str, Oid] | None = None) -> tuple[Branch, Oid]:
        """The trunk branch and its tip.

        The branch whose own tree names it as trunk, `main` and `master` first: a worktree's branch
        cannot make itself trunk.

        Args:
            refs: the branches here and of remotes, where they have been read.

        Raises:
            NotReady: no branch holds a plan, with what to do about it.
        """
        refs = self.repo.branches() if refs is None else refs
        heads = {
            name.removeprefix("refs/heads/"): oid
            for name, oid in refs.items()
            if name.startswith("refs/heads/")
        }
        remotes: dict[str, Oid] = {}
        for name, oid in refs.items():
            parts = name.split("/", 3)  # git-svn makes some of one level, refs/remotes/git-svn
            if parts[1] == "remotes" and len(parts) == 4 and parts[3] != "HEAD":
                remotes.setdefault(parts[3], oid)
        configured = self.repo.config("gitwaves.trunk") or ""
        found = trunk_among(self.repo, heads, remotes, configured)
        if found is not None:
            name, tip, config = found
            return name, self._newer(name, heads.get(name), config.remote) or tip
        raise self._no_plan(heads)

    def _newer(self, name: str, local: Oid | None, remote: str | None) -> Oid | None:
        if remote is None:
            return local
        theirs = self.repo.refs(f"refs/remotes/{remote}/{name}").get(
            f"refs/remotes/{remote}/{name}"
        )
        if local is None or theirs is None or local == theirs:
            return local or theirs
        return local if self.repo.is_ancestor(theirs, local) else theirs

    def _in_line(self, one: Oid, other: Oid) -> bool:
        return self.repo.is_ancestor(one, other) or self.repo.is_ancestor(other, one)

    def _no_plan(self, heads: Mapping[str, Oid]) -> NotReady:
        self.require_in_reach()
        top = self.repo.top
        if top and (top / CONFIG_PATH).is_file():
            config, _ = load_config((top / CONFIG_PATH).read_bytes(), CONFIG_PATH)
            if config.trunk not in heads and heads:
                return NotReady(
                    f"the trunk branch {config.trunk!r} does not exist",
                    f"set `trunk:` in {CONFIG_PATH} to one of: {', '.join(sorted(heads)[:5])}",
                )
            return NotReady(
                f"{ROOT}/ is not committed on {config.trunk} yet",
                f"on {config.trunk}: git add {ROOT} && git commit -m 'Plan the work'",
            )
        return NotReady(
            "there is no plan in this repository yet",
            "run `gitwaves init`, then `gitwaves import DOC`",
        )

    def require_in_reach(self) -> None:
        """Raises where there is a plan, but not where the working tree would have it.

        Raises:
            NotReady: it is below the top of the repository, or outside a sparse checkout.
        """
        top = self.repo.top
        if top is None or os.path.lexists(top / CONFIG_PATH):
            return
        if CONFIG_PATH in self._outside(top):
            raise NotReady(
                f"{ROOT}/ is outside the sparse checkout of {top}",
                f"run `git sparse-checkout add {ROOT}` there first",
            )
        for folder in (self.repo.start, *self.repo.start.parents):
            if folder == top.resolve():
                return
            if (folder / CONFIG_PATH).is_file():
                raise NotReady(
                    f"{folder / ROOT} is below the top of its repository, where no plan is read",
                    f"move it to {top / ROOT}; the paths in it are then those from there",
                )

    # --- cards ---------------------------------------------------------------------------------

    def _listed(self, commit: Oid) -> tuple[dict[str, Oid], dict[str, str]]:
        files: dict[str, Oid] = {}
        odd: dict[str, str] = {}
        top = self.repo.tree(commit).get(ROOT)
        if top is None:
            return files, odd
        if not top.is_tree:
            return files, {ROOT: ODD_MODES.get(top.mode, "a file")}
        pending = [(ROOT, top.oid, 0)]
        while pending:
            folder, oid, depth = pending.pop()
            entries = self.repo.tree(oid)
            self.repo.read_ahead(entry.oid for entry in entries.values() if entry.is_tree)
            for name, entry in entries.items():
                path = f"{folder}/{name}"
                if entry.is_tree:
                    if depth < 3:
                        pending.append((path, entry.oid, depth + 1))
                elif entry.mode in ODD_MODES:
                    odd[path] = ODD_MODES[entry.mode]
                else:
                    files[path] = entry.oid
        return files, odd

    def _file(self, commit: Oid, path: str) -> bytes:
        entry = self.repo.at(commit, path)
        return self._blob(commit, path, entry.oid) if entry is not None else b""

    def _blob(self, commit: Oid, path: str, oid: Oid) -> bytes:
        data = self.repo.blob(oid)
        if data is None:
            raise GitError(
                f"{path} of {commit[:10]} is not in this repository",
                "`git fsck` says what is damaged; fetch it anew",
            )
        return data

    def plan_of(self, commit: Oid) -> Cards:
        """The cards of a commit that is looked at once: from what is kept, as far as that goes."""
        top = self.repo.tree(commit).get(ROOT)
        cards = self.shelf.load(top.oid, partial(self._file, commit)) if top is not None else None
        return cards or self.shelf.read(self._listing_of(commit))[0]

    def plan_at(self, commit: Oid, meanwhile: Callable[[Cards], object] | None = None) -> Cards:
        """The cards of a commit, kept for the next process: for those that are read again and again.

        Args:
            meanwhile: see `Shelf.read`; given the cards in a process of its own.
        """
        top = self.repo.tree(commit).get(ROOT)
        tree = top.oid if top is not None else None
        if tree is not None and self._last is not None and self._last[0] == tree:
            return self._last[1]
        cards = kept = None
        if tree is not None:
            file = partial(self._file, commit)
            changed = partial(self._few_changed, after=tree)
            kept = self.shelf.load(tree, file)
            cards = kept or self.shelf.amend(tree, changed, file)
            self._digested = len(kept.digests) if kept is not None else 0
        if cards is None:
            cards = self._read_plan(self._listing_of(commit), tree, meanwhile)
            self._digested = len(cards.digests)
        self._last = (tree, cards) if tree is not None else None
        return cards

    def _few_changed(self, base: Oid, after: Oid) -> dict[str, Oid] | None:
        """The files in which one tree of cards differs from another; None if these are not a few.

        None too where it holds others: files that are new, or gone, or nothing of the kind.

        Raises:
            GitError: one of the trees cannot be read.
        """
        found: dict[str, Oid] = {}
        pending = [(ROOT, base, after)]
        for folder, old, new in pending:  # grows while it is walked
            was, now = self.repo.tree(old), self.repo.tree(new)
            if not now or was.keys() != now.keys():
                return None
            for name, entry in now.items():
                path, before = f"{folder}/{name}", was[name]
                if entry == before:
                    continue
                if entry.is_tree and before.is_tree:
                    pending.append((path, before.oid, entry.oid))
                elif entry.mode == before.mode and entry.mode.startswith("100"):
                    found[path] = entry.oid
                else:
                    return None
            if len(found) > FEW:
                return None
        return found

    def _read_plan(
        self,
        listing: Listing,
        tree: Oid | None,
        meanwhile: Callable[[Cards], object] | None = None,
    ) -> Cards:
        """The cards of a tree that are not kept: they will be."""
        cards, plan = self.shelf.read(listing, tree, meanwhile)
        self.repo.forget(listing.files.values())
        self._unkept = (tree, cards, plan) if tree is not None and plan is not None else None
        return cards

    def _keep(self) -> None:
        """Keeps what was read for the first time, for the processes to come."""
        save_kept()
        self.repo.keep_told()
        if self._unkept is not None:
            self.shelf.keep(*self._unkept)
            self._unkept = None
        elif self._last is not None and len(self._last[1].digests) > self._digested:
            self.shelf.keep_digests(*self._last)
        if self._last is not None:
            self._digested = len(self._last[1].digests)

    def listed_at(self, rev: str | None) -> Listing:
        """The files under `.workstreams/` of a revision; without one, those of the worktree we are in.

        Raises:
            NotReady: there is nothing of that; GitwavesError: no such revision.
        """
        if rev is not None:
            commit = self.repo.resolve(rev)
            if commit is None:
                raise GitwavesError(f"no commit {rev!r}", "name a branch, a tag or a commit")
            there = self._listing_of(commit)
            self.repo.forget_trees()  # of thousands of cards they take megabytes
            return there
        if (listing := self._differing()) is not None:
            return listing
        files, odd = self.working_files()
        if not files and not odd:
            self.require_in_reach()
            raise NotReady(
                "there is no .workstreams/ here", "run `gitwaves init`, then `gitwaves import DOC`"
            )
        oids = {path: self.repo.id_of(data) for path, data in files.items()}
        return Listing(oids, odd, files.__getitem__, lambda paths: None)

    def _listing_of(self, commit: Oid) -> Listing:
        files, odd = self._listed(commit)

        held: list[Oid] = []

        def ahead(paths: Sequence[str]) -> None:
            self.repo.forget(held)  # what was asked for before has been read by now
            held[:] = [files[path] for path in paths]
            self.repo.read_ahead(held)

        return Listing(files, odd, lambda path: self._blob(commit, path, files[path]), ahead)

    def _differing(self) -> Listing | None:
        """The worktree's files as its index has them, and read where they differ; None if too odd."""
        top = self.repo.top
        if top is None or (top / ROOT).is_symlink():
            return None
        look = self.repo.look_below(top, ROOT)
        odd = _has_odd(f"{top}/{ROOT}")  # while git looks
        found = look.listing.said(), look.differing.said()
        if odd or found[0] is None or found[1] is None:
            return None
        listed, differ = (out.decode(errors="surrogateescape") for out in found if out is not None)
        many = listed.count("\0")
        held = _HELD.findall(listed)
        left_out = _LEFT_OUT.findall(listed) if len(held) < many else []
        if not many or len(held) + len(left_out) != many:
            return None
        if left_out and not self.repo.is_sparse(top):
            return None
        if any(os.path.lexists(f"{top}/{path}") for _, path in left_out):
            return None
        files = {path: Oid(oid) for oid, path in (*held, *left_out)}
        contents: dict[str, bytes] = {}
        for path in (entry[3:] for entry in differ.split("\0") if entry):
            try:
                if not stat.S_ISREG(os.lstat(f"{top}/{path}").st_mode):
                    return None
                with open(f"{top}/{path}", "rb") as file:
                    contents[path] = file.read()
            except (FileNotFoundError, NotADirectoryError):
                files.pop(path, None)
            else:
                files[path] = self.repo.id_of(contents[path])

        def read(path: str) -> bytes:
            if path in contents:
                return contents[path]
            data = self.repo.blob(files[path])
            if data is None:  # as it lies there it is the same
                with open(f"{top}/{path}", "rb") as file:
                    return file.read()
            return data

        def ahead(paths: Sequence[str]) -> None:
            self.repo.read_ahead(files[path] for path in paths if path not in contents)

        return Listing(files, {}, read, ahead) if files else None

    def working_files(self) -> tuple[dict[str, bytes], dict[str, str]]:
        """The files under `.workstreams/` of the worktree that the command was called in."""
        files: dict[str, bytes] = {}
        odd: dict[str, str] = {}
        top = self.repo.top
        if top is None:
            raise NotReady(
                "this is a bare repository", "name a revision, or run this in a worktree"
            )
        root = top / ROOT
        if root.is_symlink():
            return files, {ROOT: "a symbolic link"}
        pending = [ROOT]
        for folder in pending:  # grows while it is walked; paths as text take a third of the time
            with contextlib.suppress(FileNotFoundError), os.scandir(f"{top}/{folder}") as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}"
                    if entry.is_symlink():
                        odd[path] = "a symbolic link"
                    elif entry.is_dir():
                        pending.append(path)
                    elif entry.is_file():
                        with open(entry.path, "rb") as file:
                            files[path] = file.read()
                    else:
                        odd[path] = "a special file"
        for path, oid in self._outside(top).items():
            data = self.repo.blob(oid)
            if data is not None and path not in odd:
                files.setdefault(path, data)
        return files, odd

    def _outside(self, top: Path) -> dict[str, Oid]:
        """The cards that a sparse checkout leaves out: what is not there has not changed."""
        if not self.repo.is_sparse(top):
            return {}
        found = {}
        for line in self.repo.paths("ls-files", "-v", "-s", "-z", "--", ROOT, cwd=top):
            head, path = line.split("\t", 1)
            flag, mode, oid, _ = head.split()
            if flag == "S" and mode.startswith("100"):
                found[path] = Oid(oid)
        return found
