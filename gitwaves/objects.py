"""Git's objects: read through one process, parsed here; in a partial clone fetched in one go."""

from __future__ import annotations

import os
import re
from _thread import allocate_lock
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from gitwaves.digests import sha1, sha256
from gitwaves.errors import GitError
from gitwaves.gitcall import BATCH, Piped, run_git
from gitwaves.model import Oid
from gitwaves.patterns import regex
from gitwaves.record import NamedTuple


class Entry(NamedTuple):
    """One entry of a tree: `mode` as Git writes it (`100644`, `40000`, `120000`)."""

    mode: str
    oid: Oid

    @property
    def is_tree(self) -> bool:
        return self.mode == "40000"


class Commit(NamedTuple):
    """A commit as it is stored."""

    tree: Oid
    parents: tuple[Oid, ...]
    author: str  # `Name <mail> seconds zone`
    committer: str
    message: str


_PACKED_KINDS = {"commit": 1, "tree": 2, "blob": 3}
# Asked for at once: what Git is told must fit in a pipe while nobody reads what it says.
_AHEAD = 200


def _is_oid(text: str) -> bool:
    return bool(text) and not text.strip("0123456789abcdef")


class Objects:
    """One `git cat-file --batch` process, started when the first object is read, or before.

    A fork of this process starts one of its own.
    """

    def __init__(self, common: Path) -> None:
        self._common = common
        self._process: Piped | None = None
        self._owner = os.getpid()
        self._guard = allocate_lock()
        self._known: dict[Oid, tuple[str, bytes]] = {}
        self._held = 0

    def take(self, process: Piped) -> None:
        """Takes over a process that was started before."""
        self._process = process

    def read(self, oid: Oid) -> tuple[str, bytes] | None:
        """The kind and content of an object, or None where it is not here.

        Raises:
            GitError: it is damaged, or a partial clone that lacks it cannot fetch it.
        """
        with self._guard:
            found = self._known.get(oid)
            if found is None and _is_oid(oid):
                self._ask([oid])
                found = self._answer(oid)
            return found

    def read_ahead(self, oids: Iterable[Oid]) -> None:
        """Reads objects that are about to be asked for: one by one they take ten times as long.

        Raises:
            GitError: as `read`.
        """
        asked = dict.fromkeys(oids)  # before the guard: what gives them may itself read
        with self._guard:
            wanted = [o for o in asked if o not in self._known and _is_oid(o)]
            for start in range(0, len(wanted), _AHEAD):
                part = wanted[start : start + _AHEAD]
                self._ask(part)
                for oid in part:
                    self._answer(oid)

    def forget(self, oids: Iterable[Oid]) -> None:
        """Drops what was read of objects that are not needed again."""
        with self._guard:
            for oid in oids:
                self._held -= len(self._known.pop(oid, ("", b""))[1])

    def _ask(self, oids: Sequence[Oid]) -> None:
        if self._owner != os.getpid():
            self._process, self._owner = None, os.getpid()
        if self._process is None or self._process.ended():
            self._process = Piped(f"--git-dir={self._common}", *BATCH)
        self._process.stdin.write("".join(f"{oid}\n" for oid in oids).encode())
        self._process.stdin.flush()

    def _answer(self, oid: Oid) -> tuple[str, bytes] | None:
        process = self._process
        assert process is not None
        head = process.stdout.readline().split()
        if len(head) == 2:
            return None
        size = int(head[2]) if head else 0
        data = process.stdout.read(size + 1)
        if not head or len(data) <= size:  # it gave up: that is not the answer that there is none
            self._stop()
            raise self._unreadable(oid)
        found = (head[1].decode(), data[:size])
        self._held += size
        if self._held > 64 << 20:
            self._known.clear()
            self._held = size
        self._known[oid] = found
        return found

    def _unreadable(self, oid: Oid) -> GitError:
        if self.partial():
            return _not_fetched(f"the object {oid} is")
        return GitError(f"the object {oid} cannot be read", "`git fsck` says what is damaged")

    def partial(self) -> bool:
        """Whether there are packs that lack what a remote has."""
        return any((self._common / "objects" / "pack").glob("*.promisor"))

    def bring(self, trees: Iterable[Oid]) -> None:
        """Fetches in one go what a partial clone lacks of `trees` and all below them.

        Git itself would fetch each file when it is read, one after another. Where nothing is
        lacking, nothing is fetched.

        Raises:
            GitError: it cannot be fetched.
        """
        if not self.partial():
            return
        given = "".join(f"{tree}\n" for tree in dict.fromkeys(trees))
        git = f"--git-dir={self._common}"
        args = ("rev-list", "--objects", "--missing=print", "--no-object-names", "--stdin")
        walked = run_git([git, *args], stdin=given.encode(), check=False).stdout.decode()
        missing = (
            [line[1:] for line in walked.splitlines() if line.startswith("?")] if given else []
        )
        named = ["config", "--name-only", "--get-regexp", r"^remote\..*\.promisor$"]
        remotes = run_git([git, *named], check=False).stdout.decode(errors="surrogateescape")
        for line in remotes.splitlines() if missing else ():
            remote = line.removeprefix("remote.").removesuffix(".promisor")
            # as Git does it when it meets one of them
            fetch = ("-c", "fetch.negotiationAlgorithm=noop", "fetch", "--quiet", "--no-tags",
                     "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none",
                     "--stdin", "--end-of-options", remote)  # fmt: skip
            done = run_git([git, *fetch], stdin="\n".join(missing).encode(), check=False)
            if done.returncode == 0:
                return
        if missing:
            count = len(missing)
            raise _not_fetched(f"{count} object{' is' if count == 1 else 's are'}")

    def __del__(self) -> None:
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.stop()


def _not_fetched(what: str) -> GitError:
    return GitError(
        f"{what} not in this partial clone, and cannot be fetched",
        "run the same command again when the remote can be reached",
    )


def object_id(kind: str, data: bytes, width: int) -> Oid:
    """The id of an object; `width` is how many digits the repository's ids have."""
    new = sha1 if width == 40 else sha256
    return Oid(new(b"%s %d\0" % (kind.encode(), len(data)) + data).hexdigest())


def packed(objects: Collection[tuple[str, bytes]], width: int) -> bytes:
    """Kinds and contents as a pack (gitformat-pack(5)); `width` as in `object_id`."""
    import zlib  # who reads needs it not

    parts = [b"PACK\0\0\0\2" + len(objects).to_bytes(4, "big")]
    for kind, data in objects:
        size = len(data)
        head = [_PACKED_KINDS[kind] << 4 | size & 15]
        size >>= 4
        while size:
            head[-1] |= 128
            head.append(size & 127)
            size >>= 7
        parts += bytes(head), zlib.compress(data)
    whole = b"".join(parts)
    return whole + (sha1 if width == 40 else sha256)(whole).digest()


def tree_data(entries: Mapping[str, Entry]) -> bytes:
    """A tree as it is stored: folders sort as if their names ended with a slash."""

    def order(item: tuple[str, Entry]) -> bytes:
        name = os.fsencode(item[0])
        return name + b"/" if item[1].is_tree else name

    return b"".join(
        entry.mode.encode() + b" " + os.fsencode(name) + b"\0" + bytes.fromhex(entry.oid)
        for name, entry in sorted(entries.items(), key=order)
    )


_TREE_ENTRIES = {
    width: regex(rb"([0-7]+) ([^\0]+)\0(.{%d})" % width, re.DOTALL) for width in (20, 32)
}


def parse_tree(data: bytes, width: int) -> dict[str, Entry]:
    """The entries of a tree by name; `width` is how many bytes an id has.

    Raises:
        GitError: it is none.
    """
    entries = _TREE_ENTRIES[width].findall(data)
    if sum([len(mode) + len(name) + 2 + width for mode, name, _ in entries]) != len(data):
        raise GitError("a tree in this repository is damaged", "`git fsck` says which")
    return {
        name.decode(errors="surrogateescape"): Entry(mode.decode(), Oid(oid.hex()))
        for mode, name, oid in entries
    }


def parse_commit(data: bytes) -> Commit:
    head, _, message = data.decode(errors="surrogateescape").partition("\n\n")
    tree, author, committer = "", "", ""
    parents = []
    for line in head.split("\n"):
        key, _, value = line.partition(" ")
        if key == "tree" and not tree:
            tree = value
        elif key == "parent":
            parents.append(Oid(value))
        elif key == "author":
            author = value
        elif key == "committer":
            committer = value
    return Commit(Oid(tree), tuple(parents), author, committer, message)
