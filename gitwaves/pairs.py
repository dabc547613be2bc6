"""Pairs of commits, merged in memory: which files of code need a person.

Cards are settled by rule when they land, so they are never among the files. What two commits merge to
is a function of their ids (and of how Git is set up to merge), and is kept.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from itertools import chain, islice

from gitwaves.caches import UNKNOWN, Cache, key_of
from gitwaves.errors import GitError
from gitwaves.git import Repo, admin_dir
from gitwaves.gitenv import git_stamp, index_stamp, user_attributes
from gitwaves.gitplace import content
from gitwaves.model import ROOT, Oid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gitwaves.gitcall import Asked

UNNAMED = "(not named by git)"
_PER_PROCESS = 100  # pairs: more could fill what is written to
_WORTH = 40  # pairs: fewer are not worth a process
_MEMORY, _ENOUGH = "/dev/shm", 1 << 30  # bytes that must be free there
_SCRATCH = "gitwaves-merging-"
_STALE = 24 * 60 * 60  # seconds
_MATTERS = (b"merge.", b"diff.", b"core.attributesfile")  # of git's settings
_MERGE_TREE = (
    "-c", "core.fsync=none", "-c", "core.looseCompression=1",
    "merge-tree", "--write-tree", "--stdin", "--name-only", "--no-messages",
    "--allow-unrelated-histories",  # else one such pair would end the whole process
)  # fmt: skip
Pair = tuple[Oid, Oid]


class Merges:
    """What pairs of commits merge to; what is not known is merged in processes from here on.

    Args:
        attributes: where they are being looked for already.
        at_most: no more pairs than that are merged.

    Raises:
        GitError: git failed.
    """

    def __init__(
        self,
        repo: Repo,
        pairs: Sequence[Pair],
        attributes: Attributes | None = None,
        *,
        at_most: int | None = None,
    ) -> None:
        self._repo, self._pairs = repo, pairs
        attributes = attributes or Attributes(repo)
        self._cache = cache = attributes.cache
        names = attributes.names()
        # Edits of these are seen here, but by nobody who has not read the index.
        self.hidden = any("/" in name and not name.startswith(f"{ROOT}/") for name in names)
        how = _how_git_merges(repo, names)
        # State commits merge as the code that they stand on: what only they do makes no pair anew.
        code = {tip: repo.code_commit(tip)[0] for tip in dict.fromkeys(chain.from_iterable(pairs))}
        self._every = key_of(how, "".join([code[a] + code[b] for a, b in pairs]).encode())
        self._hits = cache.known(self._every)  # of all pairs at once: mostly none of them is new
        self._keys: dict[Pair, bytes] = {}
        self._found: dict[Pair, Any] = {}
        if self._hits is UNKNOWN:
            self._keys = {
                (a, b): key_of(b"".join((how, code[a].encode(), code[b].encode())))
                for a, b in pairs
            }
            self._found = {pair: cache.known(key) for pair, key in self._keys.items()}
        self._todo = [pair for pair, files in self._found.items() if files is UNKNOWN][:at_most]
        self._merging = Merging(repo, [(code[a], code[b]) for a, b in self._todo])

    def __enter__(self) -> Merges:
        return self

    def __exit__(self, *error: object) -> None:
        self._merging.end()

    def files(self) -> list[tuple[str, ...] | None]:
        """For each pair the files of code that need a person; none where it merges, None: not known.

        Raises:
            GitError: git failed.
        """
        self._repo.keep_told()
        if self._hits is not UNKNOWN:
            self._cache.save()  # where else to look for attributes, if the index was written anew
            return [self._hits.get(n, ()) for n in range(len(self._pairs))]
        found, cache = self._found, self._cache
        for pair, files in zip(self._todo, self._merging.files(), strict=True):
            found[pair] = files
            cache.add(self._keys[pair], files)
        if UNKNOWN not in found.values():
            hits = {n: files for n, pair in enumerate(self._pairs) if (files := found[pair])}
            cache.add(self._every, hits)
        cache.save()
        return [None if (files := found[pair]) is UNKNOWN else files for pair in self._pairs]


def conflicts_of(
    repo: Repo, pairs: Sequence[Pair], *, at_most: int | None = None
) -> list[tuple[str, ...] | None]:
    """For each pair of commits the files of code that need a person; none where they merge.

    With `at_most` no more pairs than that are merged; None for those that are still not known.

    Raises:
        GitError: git failed.
    """
    with Merges(repo, pairs, at_most=at_most) as merges:
        return merges.files()


def _how_git_merges(repo: Repo, names: Sequence[str]) -> bytes:
    """All that a merge depends on beside the two commits; `names` are of files of attributes."""
    settings = repo.listed_settings()
    said = [git_stamp(), *(e for e in settings.split(b"\0") if e.startswith(_MATTERS))]
    for name in names:
        said.append(name.encode(errors="surrogateescape"))
        with contextlib.suppress(OSError):  # git reads them as they lie there
            said.append(content(f"{repo.top}/{name}", follow=False))
    own = (repo.top or repo.common) / user_attributes(settings)
    for path in (repo.common / "info" / "attributes", own):
        with contextlib.suppress(OSError):
            said.append(path.read_bytes())
    return key_of(*said)


class Attributes:
    """The files of attributes in an index, begun to be looked for.

    That is done again only when the index was written anew.
    """

    def __init__(self, repo: Repo) -> None:
        self.cache = Cache(repo.state_dir / "merges")
        self._asked: Asked | None = None
        self._known: Any = ""
        if repo.top is not None:
            self._key = key_of(b"attributes", index_stamp(str(admin_dir(repo.top))))
            self._known = self.cache.known(self._key)
        if self._known is UNKNOWN:
            args = ("ls-files", "-z", "--", ":(glob)**/.gitattributes")
            self._asked = repo.begun(*args, cwd=repo.top, env={"GIT_LITERAL_PATHSPECS": "0"})

    def names(self) -> list[str]:
        """Their paths.

        Raises:
            GitError: git cannot tell.
        """
        if self._asked is not None:
            said, self._asked = self._asked.said(), None
            if said is None:
                raise GitError("git ls-files failed", "`git status` may say why")
            self._known = said.decode(errors="surrogateescape")
            self.cache.add(self._key, self._known)
        return [name for name in str(self._known).split("\0") if name]

    def end(self) -> None:
        """Ends what nobody is to hear any more."""
        if self._asked is not None:
            self._asked.end()


class Merging:
    """Pairs that are being merged, so many by one process, and a few of these side by side."""

    def __init__(self, repo: Repo, pairs: Sequence[Pair]) -> None:
        self._repo = repo
        side_by_side = os.cpu_count() or 1
        count = max(-(-len(pairs) // _PER_PROCESS), min(side_by_side, len(pairs) // _WORTH), 1)
        size = -(-len(pairs) // count)
        self._parts = iter([pairs[k : k + size] for k in range(0, len(pairs), size or 1)])
        self._running: list[_Batch] = []
        self._begin(side_by_side)

    def _begin(self, count: int) -> None:
        try:
            self._running += (_Batch(self._repo, part) for part in islice(self._parts, count))
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Ends what is running."""
        for batch in self._running:
            batch.end()

    def files(self) -> list[tuple[str, ...]]:
        """The files of code of each pair that need a person; none where it merges.

        Raises:
            GitError: git failed.
        """
        found: list[tuple[str, ...]] = []
        while self._running:
            found += self._running[0].files()
            self._running.pop(0).end()
            self._begin(1)
        return found


class _Batch:
    """One `git merge-tree` for many pairs: a merge takes half a millisecond where a process takes five.

    The trees and files that it writes go to a folder that is thrown away, not into the repository:
    none of them is synced to the disk, which would take longer than all the merging.
    """

    def __init__(self, repo: Repo, pairs: Sequence[Pair]) -> None:
        self._repo, self._pairs = repo, pairs
        self._folder = _scratch(repo)
        self._asked: Asked | None = None
        try:
            os.mkdir(f"{self._folder}/info")
            for name, lines in (
                ("info/alternates", os.fsencode(repo.common / "objects") + b"\n"),
                ("pairs", "".join(f"{a} {b}\n" for a, b in pairs).encode()),
            ):
                with open(f"{self._folder}/{name}", "wb") as file:
                    file.write(lines)
            self._asked = repo.begun(*_MERGE_TREE, **self._where(), stdin=f"{self._folder}/pairs")
        except BaseException:
            self.end()
            raise

    def _where(self) -> dict[str, Any]:
        return {"cwd": self._repo.top, "env": {"GIT_OBJECT_DIRECTORY": self._folder}}

    def files(self) -> list[tuple[str, ...]]:
        """The files of code of each pair that need a person.

        Raises:
            GitError: git failed.
        """
        said = self._asked.said() if self._asked is not None else None
        if said is None:  # once more, to hear why
            with open(f"{self._folder}/pairs", "rb") as file:
                said = self._repo.git(*_MERGE_TREE, **self._where(), stdin=file.read()).encode(
                    errors="surrogateescape"
                )
        found = _parsed(said.decode(errors="surrogateescape"))
        if len(found) != len(self._pairs):
            raise GitError(
                f"git merge-tree gave {len(found)} answers to {len(self._pairs)} questions",
                "please report it, with what `git version` says",
            )
        return found

    def end(self) -> None:
        """Ends it, and throws away what it wrote."""
        if self._asked is not None:
            self._asked.end()
        _remove(self._folder)


def _remove(top: str) -> None:
    # `shutil` is slow to import
    for folder, _, names in os.walk(top, topdown=False):
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(f"{folder}/{name}")
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _scratch(repo: Repo) -> str:
    """A new folder where thousands of small files are best written: in memory, where there is such."""
    name = f"{_SCRATCH}{os.urandom(8).hex()}"  # `tempfile` is slow to import
    with contextlib.suppress(OSError):
        free = os.statvfs(_MEMORY)
        if os.access(_MEMORY, os.W_OK) and free.f_bavail * free.f_frsize > _ENOUGH:
            _sweep(_MEMORY)
            os.mkdir(f"{_MEMORY}/{name}", mode=0o700)
            return f"{_MEMORY}/{name}"
    repo.state_dir.mkdir(parents=True, exist_ok=True)
    _sweep(str(repo.state_dir))
    os.mkdir(repo.state_dir / name, mode=0o700)
    return f"{repo.state_dir}/{name}"


def _sweep(folder: str) -> None:
    """Removes what a kill left there of scratch folders of ours: a day later, as one may be in use."""
    with os.scandir(folder) as entries:
        scratch = [entry for entry in entries if entry.name.startswith(_SCRATCH)]
    for entry in scratch:
        with contextlib.suppress(OSError):  # another process may just remove its own
            stat = entry.stat(follow_symlinks=False)
            own = stat.st_uid == os.geteuid() and entry.is_dir(follow_symlinks=False)
            if own and time.time() - stat.st_mtime > _STALE:
                _remove(entry.path)


def _parsed(out: str) -> list[tuple[str, ...]]:
    r"""The files of each merge: `status NUL tree NUL (file NUL)* NUL`, status 1 where it is clean.

    >>> _parsed("1\0" + "a" * 40 + "\0\0" + "0\0" + "b" * 40 + "\0x.py\0\0")
    [(), ('x.py',)]
    """
    fields = iter(out.split("\0"))
    found = []
    for status in fields:
        if not status:
            continue
        next(fields)  # the tree
        names = tuple(dict.fromkeys(iter(lambda: next(fields, ""), "")))
        code = tuple(name for name in names if not name.startswith(f"{ROOT}/"))
        found.append(code if status == "1" or code or names else (UNNAMED,))
    return found
