"""History: references, ancestry, what differs between two commits, and merges in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gitwaves.caches import UNKNOWN, Cache, key_of
from gitwaves.errors import GitError
from gitwaves.git_database import Database
from gitwaves.gitcall import at_once, failed
from gitwaves.gitenv import REFERENCES, packs
from gitwaves.gitplace import content
from gitwaves.model import Branch, Oid
from gitwaves.objects import Entry, object_id, tree_data
from gitwaves.patterns import regex
from gitwaves.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Merged(Record):
    """The outcome of a merge in memory; `conflicts` are the paths that need a person."""

    tree: Oid
    conflicts: tuple[str, ...] = ()


_OID = regex("[0-9a-f]{40}|[0-9a-f]{64}")
_CODE = "code 1"  # an answer of ours, not of Git's: another way to walk is another number
_MODES = {"100644", "100755", "120000", "160000", "40000"}
_NEAR = 20  # commits that are looked at before git is asked
_SHORT = 200  # commits: longer lists are not kept
_FEW = 40  # folders that are compared before git is asked


def references(said: str) -> dict[str, Oid]:
    """Full reference name -> commit, of what `git for-each-ref` said."""
    found = {}
    for line in filter(None, said.split("\n")):  # a name may hold what else splits lines
        name, oid, kind = line.split("\0")
        if kind == "commit":
            found[name] = Oid(oid)
    return found


class _Untold(Exception):
    """Git gave no answer."""


class History(Database):
    """A repository as a history; what is a function of object ids is asked once."""

    def __init__(self, common: Path, top: Path | None) -> None:
        super().__init__(common)
        self.top = top  # of the worktree that the command was called in; None in a bare repository
        self._code_trees: dict[Oid, Oid] = {}
        # what is told here is a function of object ids and of where history is cut off
        self._told = Cache(common / "gitwaves" / "history")
        self._changes: dict[tuple[Oid, Oid], list[str]] = {}
        self._lists: dict[bytes, tuple[Oid, ...]] = {}
        self._adding: dict[tuple[Oid, Oid], bool] = {}

    def resolve(self, rev: str) -> Oid | None:
        """The commit that `rev` names, or None.

        Raises:
            GitError: git was killed before it could tell.
        """
        done = self.try_git(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{rev}^{{commit}}",
            cwd=self.top,
        )
        if done.returncode < 0:
            raise failed(["rev-parse"], done)
        return Oid(done.stdout.decode().strip()) if done.returncode == 0 else None

    def resolve_in(self, worktree: Path) -> Oid | None:
        """The commit that a worktree's HEAD is at."""
        done = self.try_git("rev-parse", "--verify", "--quiet", "HEAD", cwd=worktree)
        return Oid(done.stdout.decode().strip()) if done.returncode == 0 else None

    def refs(self, *patterns: str) -> dict[str, Oid]:
        """Full reference name -> commit, of the references below the patterns."""
        return references(self.git("for-each-ref", REFERENCES, *patterns))

    def branches(self) -> dict[str, Oid]:
        """The branches here and of remotes, by their full names; settings are looked at again too."""
        asked = ("for-each-ref", REFERENCES, "refs/heads", "refs/remotes")
        listing = ("config", "--list", "-z")
        found = at_once(tuple(self._argv(asked, None)), tuple(self._argv(listing, None)))
        if found is None:
            return self.refs(*asked[2:])  # says why
        self.take_settings(found[1])
        return references(found[0].decode(errors="surrogateescape"))

    def branch(self, branch: Branch) -> Oid | None:
        """The tip of a local branch."""
        # Most are files of their own, as Git would find them first.
        loose = ""
        with contextlib.suppress(OSError, ValueError):
            if ".." not in branch:
                loose = content(f"{self.common}/refs/heads/{branch}").decode().removesuffix("\n")
        if _OID.fullmatch(loose) and self.commit(Oid(loose)) is not None:
            return Oid(loose)
        return self.refs(f"refs/heads/{branch}").get(f"refs/heads/{branch}")

    def is_ancestor(self, old: Oid, new: Oid) -> bool:
        """Whether `new` contains `old`; False where `old` is not here."""
        if old == new:
            return True
        before, after = self.commit(old), self.commit(new)
        if before is None or after is None:
            return False
        if not self.is_shallow():  # where a parent that is named may be cut off
            if old in after.parents:
                return True
            if new in before.parents:
                return False
        return self.try_git("merge-base", "--is-ancestor", old, new).returncode == 0

    def merge_bases(self, one: Oid, other: Oid) -> tuple[Oid, ...]:
        """Every best common ancestor; none for unrelated histories."""
        if one == other:
            return (one,)

        def ask() -> tuple[str, ...]:
            for child, rest in ((one, other), (other, one)) if not self.is_shallow() else ():
                above = child
                for _ in range(_NEAR):
                    held = self.commit(above)
                    if held is None or len(held.parents) != 1:
                        break
                    above = held.parents[0]
                    if above == rest:
                        return (rest,)
                    # What has one parent, which the other side lacks, has the bases of that parent.
                    known = self._told.known(self._bases_key(above, rest))
                    if known is not UNKNOWN:
                        if above not in known:
                            return tuple(known)
                        break
            if (met := self._met(one, other)) is not None:
                return (met,)
            done = self.try_git("merge-base", "--all", one, other)
            if done.returncode not in {0, 1}:  # it could not tell: that is not kept
                raise _Untold
            return tuple(done.stdout.decode().split())

        try:
            return tuple(map(Oid, self._told.value(self._bases_key(one, other), ask)))
        except _Untold:
            self.doubts += 1
            return ()

    def _met(self, one: Oid, other: Oid) -> Oid | None:
        """The first commit that two lines share, where neither has a merge before that."""
        shared = set(self._straight(other))
        return next((oid for oid in self._straight(one) if oid in shared), None)

    def _straight(self, tip: Oid) -> Iterator[Oid]:
        """A commit and those before it, a few, down to the first that has not just one parent."""
        oid = tip
        for _ in range(0 if self.is_shallow() else _NEAR):
            yield oid
            held = self.commit(oid)
            if held is None or len(held.parents) != 1:
                break
            oid = held.parents[0]

    def _bases_key(self, one: Oid, other: Oid) -> bytes:
        return self._key("bases", *sorted((one, other)))

    def stock(self) -> tuple[bytes, bytes]:
        """The packs that are here, and where history is cut off: a fetch may change either."""
        return packs(str(self.common)), self._cut_off()

    def _cut_off(self) -> bytes:
        return content(f"{self.common}/shallow")

    def _key(self, *question: str) -> bytes:
        parts = (part.encode(errors="surrogateescape") for part in question)
        return key_of(self._cut_off(), *parts)

    def keep_told(self) -> None:
        """Keeps what history was asked, for the processes to come."""
        self._told.save()

    def told(self, question: Sequence[str], answer: Callable[[], str]) -> str:
        """What a question about history is answered with; `answer` finds it out where nobody has yet.

        Args:
            question: all that the answer depends on, but for the objects that it names.
        """
        said: str = self._told.value(self._key(*question), answer)
        return said

    def rev_list(self, *args: str, paths: Sequence[str] = ()) -> tuple[Oid, ...]:
        """The commits of a range given by object ids, in the order `git rev-list` gives them."""
        question = (*args, "--", *paths)
        key = self._key("list", *question)
        known = self._lists.get(key)
        if known is None:
            told = self._told.known(key)
            if told is UNKNOWN:
                told = tuple(self.git("rev-list", *question).splitlines())
                if len(told) <= _SHORT:
                    self._told.add(key, told)
            known = self._lists[key] = told
        return known

    def beyond(self, tip: Oid, known: Sequence[Oid]) -> tuple[Oid, ...]:
        """The commits that `tip` has and none of `known` has, the oldest first."""
        bases = [self.merge_bases(oid, tip) for oid in known]
        found: list[Oid] = []
        for oid in self._straight(tip) if known and all(bases) else ():
            if any(oid in some for some in bases):
                # on a line, what is below one is known, and nothing above it is
                return tuple(reversed(found))
            found.append(oid)
        return self.rev_list("--topo-order", "--reverse", tip, *(f"^{oid}" for oid in known))

    def line(self, since: Oid, tip: Oid) -> tuple[Oid, ...]:
        """The first parents of `tip`, itself first, down to what the line of `since` has."""
        found: list[Oid] = []
        oid = tip
        while len(found) < _NEAR and not self.is_shallow():
            if oid == since:
                return tuple(found)
            held = self.commit(oid)
            if held is None or not held.parents:
                break
            found.append(oid)
            oid = held.parents[0]
        return self.rev_list("--first-parent", f"{since}..{tip}")

    def changing(self, path: str, tip: Oid) -> Iterator[Oid]:
        """The commits on the line of first parents of `tip` that changed a path, the newest first."""
        oid = tip
        for _ in range(0 if self.is_shallow() else _NEAR):
            held = self.commit(oid)
            if held is None or not held.parents:
                break
            if self.at(oid, path) != self.at(held.parents[0], path):
                yield oid
            oid = held.parents[0]
        yield from self.rev_list("--first-parent", oid, paths=[path])

    def changing_beyond(self, path: str, tip: Oid, known: Oid) -> tuple[Oid, ...]:
        """Those of them that are not in the history of `known`."""
        bases = self.merge_bases(tip, known)
        found: list[Oid] = []
        child: Oid | None = None
        for oid in self._straight(tip):
            if child is not None and self.at(child, path) != self.at(oid, path):
                found.append(child)
            if oid in bases:
                return tuple(found)
            child = oid
        return self.rev_list("--first-parent", tip, f"^{known}", paths=[path])

    def tips_without(
        self, commits: Iterable[Oid], branches: Collection[Branch], remote: str | None
    ) -> set[Oid]:
        """The tips of some branches, here and of a remote, whose histories have none of some commits.

        Raises:
            GitError: a history cannot be read.
        """
        refs = [f"refs/heads/{branch}" for branch in branches]
        refs += [f"refs/remotes/{remote}/{branch}" for branch in branches] if remote else []
        without = [f"--no-contains={oid}" for oid in commits]
        out = self.git("for-each-ref", "--format=%(objectname)", *without, "--", *refs)
        return set(map(Oid, out.split())) if refs else set()

    def missing_from(self, commits: Iterable[Oid], tips: Iterable[Oid]) -> set[Oid]:
        """Those of `commits` that are in none of the histories of `tips`, or not here at all."""
        wanted = set(commits)
        self._objects.read_ahead(wanted)
        here = {oid for oid in wanted if self.commit(oid) is not None}
        if not here:
            return wanted
        heads = sorted(set(tips))
        keys = {oid: self._key("reached", oid, *heads) for oid in here}
        reached = {oid: self._told.known(key) for oid, key in keys.items()}
        if UNKNOWN in reached.values() and not self.is_shallow():
            for oid in here.intersection(self._just_below(heads)):
                reached[oid] = True
        unknown = [oid for oid, known in reached.items() if known is UNKNOWN]
        for oid in unknown if len(unknown) <= _NEAR else ():  # of many git tells sooner
            bases: Any = UNKNOWN
            if len(heads) == 1:
                bases = self._told.known(self._bases_key(oid, heads[0]))
            if bases is not UNKNOWN or self._above_unreached(oid, heads):
                reached[oid] = bases is not UNKNOWN and oid in bases
                self._told.add(keys[oid], reached[oid])
        if asked := [oid for oid, known in reached.items() if known is UNKNOWN]:
            given = "\n".join([*asked, *(f"^{tip}" for tip in heads)]) + "\n"
            out = set(self.git("rev-list", "--stdin", stdin=given.encode()).splitlines())
            for oid in asked:
                reached[oid] = oid not in out
                self._told.add(keys[oid], reached[oid])
        return (wanted - here) | {oid for oid in here if not reached[oid]}

    def _just_below(self, heads: Iterable[Oid]) -> set[Oid]:
        """These commits, their parents, and the parents of those."""
        found = set(heads)
        for _ in range(2):
            held = (self.commit(oid) for oid in found)
            found = found.union(*(commit.parents for commit in held if commit is not None))
        return found

    def _above_unreached(self, oid: Oid, heads: Sequence[Oid]) -> bool:
        """Whether a commit stands on one that is known to be in none of the histories of `heads`."""
        for _ in range(0 if self.is_shallow() else _NEAR):
            held = self.commit(oid)
            if held is None or len(held.parents) != 1 or oid in heads:
                break
            oid = held.parents[0]
            known = self._told.known(self._key("reached", oid, *heads))
            if known is not UNKNOWN:
                return known is False
        return False

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
        known = self._changes.get((old, new))
        if known is None:
            known = self._differing(old, new)
            if known is None:
                args = ("diff-tree", "-r", "-z", "--name-only", "--no-renames")
                known = self.paths(*args, old, new)
            if len(self._changes) > _SHORT:
                self._changes.clear()
            self._changes[old, new] = known
        return list(known)

    def _differing(self, old: Oid, new: Oid) -> list[str] | None:
        """What `changed` says, without git; None where there is much to look at, or git has to look."""
        found: list[str] = []
        left: list[tuple[str, Oid | None, Oid | None]] = [("", old, new)]
        for count, (folder, before, after) in enumerate(left):  # grows by the folders that differ
            was = self._whole(before) if before else {}
            now = self._whole(after) if after else {}
            if was is None or now is None or count >= _FEW:
                return None
            for name in was.keys() | now.keys():
                one, other = was.get(name), now.get(name)
                if one == other:
                    continue
                trees = [e.oid if e is not None and e.is_tree else None for e in (one, other)]
                if trees != [None, None]:
                    left.append((f"{folder}{name}/", trees[0], trees[1]))
                if any(e is not None and not e.is_tree for e in (one, other)):
                    found.append(folder + name)
        return sorted(found, key=os.fsencode)

    def code_tree(self, commit: Oid) -> Oid:
        """A commit's (or tree's) root tree without `.workstreams/`: what state commits leave alone."""
        known = self._code_trees.get(commit)
        if known is None:
            entries = self.tree(commit)
            entries.pop(".workstreams", None)
            known = object_id("tree", tree_data(entries), len(commit))
            self._code_trees[commit] = known
        return known

    def code_commit(self, commit: Oid) -> tuple[Oid, Oid]:
        """The last commit on the way back from `commit` that changed code, and its code tree.

        What follows it is state.
        """

        def walk() -> tuple[Oid, Oid]:
            here = commit
            while len(parents := self.require_commit(here).parents) == 1:
                before = parents[0]
                if self.commit(before) is None:  # where a shallow clone ends
                    break
                if self.code_tree(before) != self.code_tree(here):
                    break
                if (known := self._told.known(self._key(_CODE, before))) is not UNKNOWN:
                    return Oid(known[0]), Oid(known[1])
                here = before
            return here, self.code_tree(here)

        code, tree = self._told.value(self._key(_CODE, commit), walk)
        return Oid(code), Oid(tree)

    def merge_trees(self, ours: Oid, theirs: Oid, base: Oid | None = None) -> Merged:
        """Merges two commits in memory, as `git merge` would; no worktree is involved.

        Args:
            base: the one best common ancestor that they have, where that is known.

        Raises:
            GitError: the histories are unrelated, or git failed.
        """
        if base is not None and (tree := self._merged_apart(base, ours, theirs)) is not None:
            return Merged(tree)
        args = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages")
        done = self.try_git(*args, ours, theirs)
        if done.returncode not in {0, 1}:
            if b"unrelated histories" in done.stderr:
                hint = "one of them was rewritten or begun anew; merge them by hand first"
                if self.is_shallow():
                    hint = "this clone is shallow: run `git fetch --unshallow`, then try again"
                raise GitError(f"{ours[:10]} and {theirs[:10]} have no common history here", hint)
            raise failed(["merge-tree"], done)
        merged, *conflicts = done.stdout.decode(errors="surrogateescape").rstrip("\0").split("\0")
        return Merged(Oid(merged), tuple(dict.fromkeys(c for c in conflicts if c)))

    def _merged_apart(self, base: Oid, ours: Oid, theirs: Oid) -> Oid | None:
        """The tree of a merge of two sides that met nowhere; None where git has to look.

        Where neither took a path away there is no rename to be found, and what only one of them
        changed stands as that one has it.
        """
        known = (self.commit(oid) for oid in (base, ours, theirs))
        trees = [commit.tree for commit in known if commit is not None]
        if len(trees) < 3 or not all(self._only_adds(trees[0], tree) for tree in trees[1:]):
            return None
        return self._joined(*trees)

    def _joined(self, base: Oid, ours: Oid, theirs: Oid) -> Oid | None:
        """What three trees merge to, of which no later one lacks a path; None where they collide."""
        if ours == base or theirs in {base, ours}:
            return theirs if ours == base else ours
        before, mines, others = map(self._whole, (base, ours, theirs))
        if before is None or mines is None or others is None:
            return None
        merged = dict(mines)
        for name, entry in others.items():
            was, mine = before.get(name), merged.get(name)
            if entry in (was, mine):
                continue
            if mine == was:
                merged[name] = entry
                continue
            if mine is None or not (mine.is_tree and entry.is_tree):
                return None
            below = self._joined(was.oid if was else self.empty_tree(), mine.oid, entry.oid)
            if below is None:
                return None
            merged[name] = Entry("40000", below)
        return self.write_tree(merged)

    def _only_adds(self, old: Oid, new: Oid) -> bool:
        """Whether a tree has every path that another has, and each as what it is there."""
        if old == new:
            return True
        known = self._adding.get((old, new))
        if known is None:
            before, after = self._whole(old), self._whole(new)
            known = (
                before is not None
                and after is not None
                and all(self._stays(entry, after.get(name)) for name, entry in before.items())
            )
            self._adding[old, new] = known
        return known

    def _stays(self, entry: Entry, now: Entry | None) -> bool:
        if now is None or now.is_tree != entry.is_tree:
            return False
        return not entry.is_tree or self._only_adds(entry.oid, now.oid)

    def _whole(self, tree: Oid) -> Mapping[str, Entry] | None:
        """The entries of a tree; None where it is not here, or has a mode that Git writes no more."""
        entries = self._entries(tree)
        if not entries and tree != self.empty_tree():
            return None
        return entries if all(entry.mode in _MODES for entry in entries.values()) else None
