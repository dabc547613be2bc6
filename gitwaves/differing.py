"""What differs in the working tree from what is committed: found out by Git, while we go on.

Nothing is imported here that Python does not load by itself.
"""

from __future__ import annotations

import os
from time import time_ns

from gitwaves.gitcall import Asked
from gitwaves.gitenv import index_stamp
from gitwaves.gitplace import admin_of, content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Of `git status`, which tells what differs.
DIFFERING = ("--porcelain", "-z", "--no-renames", "--untracked-files=normal")
_LATELY = 10 * 10**9  # nanoseconds


class Differing:
    """What `git status` says of `.workstreams/`.

    Where it said nothing the last time, it says nothing again if commit, index, settings and what is
    to be ignored are the same, no folder got another entry, and no tracked file differs from the index:
    that takes Git half as long. Where there are thousands, it is still most of what an answer takes:
    there only those that the answer names are looked at, if all of them were in the last ten seconds.
    """

    def __init__(self, top: str, common: str) -> None:
        self.top = top
        self.common = common
        self.since = time_ns()
        self.record = f"{common}/gitwaves/clean/{short(os.fsencode(top))}"
        self.compared = self.to_compare()
        check, _, body = content(self.record).partition(b"\n")
        parts = body.split(b"\0\0")
        self._asked: Asked | None = None
        self._less = len(parts) == 7 and parts[0] == self.compared != b""
        self._named = parts[6] if self._less else b""
        if not self._named or not 0 <= self.since - os.stat(self.record).st_mtime_ns < _LATELY:
            self.look()
        self._settings = b""
        if self._less and check == b"%d" % crc32(body):  # while Git looks
            self._settings = _still(parts[1:6])

    def look(self) -> None:
        """Has Git look at all files, if it has not been told to."""
        if self._asked is None and self._less:
            self._asked = self._begun("diff-files", "--quiet")
        elif self._asked is None:
            self._asked = self._begun("status", *DIFFERING)

    def _begun(self, *args: str) -> Asked:
        return Asked("-C", self.top, *args, "--", ".workstreams")

    def found(
        self, settings: bytes, excludes: str | None, named: Sequence[str] = ()
    ) -> bytes | None:
        """What it says; None where it fails.

        Args:
            settings: all that Git reads its settings from; nothing where that is not known.
            excludes: the user's own file of what is to be ignored; None where it cannot be told.
            named: the cards that are named in an answer about thousands; none for any other answer.
        """
        same = self._settings == b"%d" % crc32(settings)
        if self._asked is None and same and self._still_named(named) and self._is_still():
            return b""
        self.look()
        assert self._asked is not None
        said = self._asked.said()
        if self._less:
            if said is not None and same and self._is_still():
                self._looked(settings, excludes, named)
                return b""
            said = self._begun("status", *DIFFERING).said()
        try:
            if said and settings:
                os.unlink(self.record)  # the next time it is asked at once
            elif said is not None:
                self._note(settings, excludes, named)
        except OSError:
            pass
        return said

    def _is_still(self) -> bool:
        return self.to_compare() == self.compared

    def _still_named(self, named: Sequence[str]) -> bool:
        """Whether these are the cards that were named, and as they were then."""
        return stamps(self.files(named)) == self._named

    def _looked(self, settings: bytes, excludes: str | None, named: Sequence[str]) -> None:
        """Notes that all files were looked at, where some of them will do for a while."""
        try:
            if named and self._still_named(named):
                self.stamp()
            elif named:
                self._note(settings, excludes, named)
        except OSError:
            pass

    def stamp(self) -> None:
        """Notes when all files were looked at: by our own clock, whatever a file server's says.

        Raises:
            OSError: it cannot be noted.
        """
        os.utime(self.record, ns=(self.since, self.since))

    def _note(self, settings: bytes, excludes: str | None, named: Sequence[str]) -> None:
        if settings and excludes is not None:
            from gitwaves.keeping import note_clean

            note_clean(self, settings, excludes, named)

    def files(self, paths: Iterable[str]) -> list[str]:
        """Where files lie that are named from the top."""
        return [f"{self.top}/{path}" for path in paths]

    def to_compare(self) -> bytes:
        """The commit and the index that files are compared to; nothing where that is not plain."""
        admin = admin_of(self.top)
        head = content(f"{admin}/HEAD")
        if head.startswith(b"ref:"):
            oid = content(f"{self.common}/{os.fsdecode(target(head))}")
            if oid.startswith(b"ref:") or not target(head).startswith(b"refs/heads/"):
                return b""
            head += oid or b"%d" % crc32(content(f"{self.common}/packed-refs"))
        return head + index_stamp(admin)


def _still(recorded: list[bytes]) -> bytes:
    """The settings with which it said nothing, if all else that this hangs on is the same."""
    settings, ignoring, held, folders, times = recorded
    same = held == ignored(split_paths(ignoring)) and times == stamps(split_paths(folders))
    return settings if same else b""


def target(held: bytes) -> bytes:
    """What a symbolic reference leads to."""
    return held[4:].strip()


def split_paths(said: bytes) -> list[str]:
    """Paths that were joined by NUL."""
    return os.fsdecode(said).split("\0")


def ignored(paths: Iterable[str]) -> bytes:
    """What some files of patterns hold, in short. In a checkout Git follows no link to them."""
    check = 0
    for path in paths:
        held = content(path, follow=not path.endswith("/.gitignore"))
        check = crc32(held, crc32(b"%d " % len(held), check))
    return b"%d" % check


def short(data: bytes) -> str:
    """A short name for a few bytes, without what `crc32` is loaded from."""
    return f"{int.from_bytes(data, 'big') % ((1 << 61) - 1):x}"


def crc32(data: bytes | memoryview, before: int = 0) -> int:
    from binascii import crc32  # may be a library of its own: loaded while Git is at work

    return crc32(data, before)


def stamps(paths: Iterable[str]) -> bytes:
    """What changes whenever one of some folders or files does, or another one stands there."""
    found = []
    for path in paths:
        try:
            stat = os.lstat(path)
        except OSError:
            found.append("none")
            continue
        found.append(f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}")
    return ",".join(found).encode()
