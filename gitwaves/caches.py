"""A cache on disk that is never needed: what bytes were read as, kept for the next process.

A key is a digest of everything that the value was made from, so an entry is right or absent and
nothing has to be invalidated. Losing any of it, or all, costs time.
"""

from __future__ import annotations

import contextlib
import marshal
import os
from binascii import crc32
from collections.abc import Callable, Iterator
from pathlib import Path

from gitwaves.digests import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

MAX_BYTES = 64 << 20  # kept in one folder; beyond it only what this process used stays
_MAX_FILES = 8
_DIGEST = 16  # bytes
UNKNOWN = object()


def key_of(*parts: bytes) -> bytes:
    """A key that no other parts have."""
    digest = blake2b(digest_size=_DIGEST)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def kept_at(path: Path, key: bytes) -> Any:
    """The value that was kept in a file of its own under a key; None where there is none."""
    with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
        if path.is_file():  # a pipe would be waited for
            data = memoryview(path.read_bytes())
            if crc32(data[4:]) == int.from_bytes(data[:4], "big"):
                known, value = marshal.loads(data[4:])
                return value if known == key else None
    return None


def keep_at(path: Path, key: bytes, value: Any) -> None:
    """Keeps a plain value in a file of its own; does nothing where that cannot be done."""
    with contextlib.suppress(OSError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
        data = marshal.dumps((key, value))
        with draft(path) as file:
            file.write(crc32(data).to_bytes(4, "big"))
            file.write(data)


def keep_newest(folder: Path, count: int) -> None:
    """Removes all but the newest files of a folder, what kills left there too."""
    with contextlib.suppress(OSError):
        for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)[:-count]:
            old.unlink(missing_ok=True)


@contextlib.contextmanager
def draft(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is whole."""
    name = path.with_name(f"new-{os.urandom(8).hex()}")
    try:
        with name.open("xb") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


class Cache:
    """Plain values (text, numbers, lists, mappings, tuples) by key.

    Each process that has something new writes it in a file of its own, whole or not at all, so two
    writers are never in each other's way; now and then one process joins the files. Values are
    marshalled, which runs nothing when it is read; a file whose digest does not fit is no file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[bytes, bytes] | None = None
        self._files: list[Path] = []
        self._used: dict[bytes, bytes] = {}
        self._new: dict[bytes, bytes] = {}

    def value(self, key: bytes, make: Callable[[], Any]) -> Any:
        """The value of a key; `make` gives it where it is not known yet."""
        value = self.known(key)
        if value is UNKNOWN:
            value = make()
            self.add(key, value)
        return value

    def known(self, key: bytes) -> Any:
        """The value of a key, or `UNKNOWN`."""
        if self._read is None:
            self._read = self._load()
        data = self._used.get(key) or self._read.get(key)
        if data is None:
            return UNKNOWN
        self._used[key] = data
        return marshal.loads(data)

    def add(self, key: bytes, value: Any) -> None:
        """Notes the value of a key; one that is not plain is not kept."""
        with contextlib.suppress(ValueError):
            self._new[key] = self._used[key] = marshal.dumps(value)

    def save(self) -> None:
        """Writes what is new; does nothing where that cannot be done."""
        if not self._new:
            return
        entries = self._new
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            joins = len(self._files) >= _MAX_FILES
            if joins:
                entries = {**(self._read or {}), **self._new}
                if sum(map(len, entries.values())) > MAX_BYTES:
                    entries = self._used
            data = marshal.dumps(entries)
            kept = self._folder / key_of(data).hex()
            with draft(kept) as file:
                file.write(blake2b(data, digest_size=_DIGEST).digest() + data)
            if joins:
                for old in self._files:
                    if old != kept:
                        old.unlink(missing_ok=True)
            self._new = {}

    def _load(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        with contextlib.suppress(OSError):
            self._files = sorted(self._folder.iterdir())
        for path in self._files:
            with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
                if not path.is_file():  # a pipe would be waited for
                    continue
                data = path.read_bytes()
                if _is_whole(data):
                    found.update(marshal.loads(data[_DIGEST:]))
        return found


def _is_whole(data: bytes) -> bool:
    return blake2b(data[_DIGEST:], digest_size=_DIGEST).digest() == data[:_DIGEST]


def unreadable(folder: Path) -> list[Path]:
    """The files of a cache's folder that are no entries, and that nobody is about to make one."""
    with contextlib.suppress(OSError):
        kept = [path for path in sorted(folder.iterdir()) if not path.name.startswith("new-")]
        return [path for path in kept if not _is_whole(path.read_bytes())]
    return []
