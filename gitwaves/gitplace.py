"""Where a repository is, found as Git finds it but without a process; imports next to nothing.

Whatever is not plain (a bare repository, a submodule, another owner, settings that move the working
tree) is left to Git.
"""

from __future__ import annotations

import os

# What in the environment changes where Git looks.
SEARCH = frozenset({"GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM"})


def is_odd(settings: bytes) -> bool:
    """Whether more decides than a repository's place; `settings` as `config --list -z` says them.

    Also where Git would refuse it: a version or an extension that it may not know, for which it
    leaves out what the repository says.
    """
    known = False
    for entry in settings.split(b"\0"):
        key, _, value = entry.partition(b"\n")
        if key == b"core.bare":
            odd = value != b"false"
        elif key == b"core.repositoryformatversion":
            known = True
            odd = value not in (b"0", b"1")
        else:
            odd = key == b"core.worktree" or key.endswith(b".promisor")
            odd |= key.startswith(b"extensions.") and key != b"extensions.objectformat"
        if odd:
            return True
    return not known


def place_of(start: str) -> tuple[str, str] | None:
    """The top of the worktree around a folder, and the common Git directory, as Git finds them."""
    top = start
    device = os.stat(top).st_dev
    while not os.path.lexists(f"{top}/.git"):
        if os.path.lexists(f"{top}/HEAD"):  # perhaps a bare repository, or the inside of one
            return None
        above = os.path.dirname(top)
        if above == top or os.stat(above).st_dev != device:
            return None
        top = above
    admin = admin_of(top)
    if not admin.startswith("/"):
        return None
    linked = content(f"{admin}/commondir")
    common = os.path.normpath(f"{admin}/{os.fsdecode(linked).strip()}") if linked else admin
    head = content(f"{admin}/HEAD").strip()
    detached = len(head) in (40, 64) and not head.strip(b"0123456789abcdef")
    whole = head.startswith(b"ref: refs/") or detached
    if not whole or os.path.realpath(common) != common:
        return None
    if not os.path.isdir(f"{common}/objects") or not os.path.isdir(f"{common}/refs"):
        return None
    return top, common


def admin_of(top: str) -> str:
    """The Git directory of a worktree, as its `.git` names it; empty where that is odd."""
    admin = f"{top}/.git"
    if os.path.isdir(admin):
        return admin
    said = os.fsdecode(content(admin))
    return said.removeprefix("gitdir: ").removesuffix("\n") if said.startswith("gitdir: ") else ""


def is_own(top: str, common: str) -> bool:
    """Whether it is a repository that Git is willing to use: all of it the user's own."""
    places = (top, f"{top}/.git", admin_of(top), common)
    return all(os.lstat(place).st_uid == os.geteuid() for place in places)


def own_place_of(start: str) -> tuple[str, str] | None:
    """The same, of a repository that is the user's own; None where there is no such, or it is odd."""
    found = place_of(start)
    return found if found is not None and is_own(*found) else None


def content(path: str, *, follow: bool = True) -> bytes:
    """The bytes of a file; none where there is none, or a link that is not to be followed."""
    # hundreds are looked at, and `open` takes twice as long
    flags = os.O_RDONLY | os.O_NONBLOCK  # a pipe would be waited for
    try:
        file = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError:
        if follow or not os.path.islink(path):
            raise
        return b""
    parts: list[bytes] = []
    try:
        first = os.read(file, 1 << 16)
        if len(first) == 1 << 16 and (size := os.fstat(file).st_size) > len(first):
            os.lseek(file, 0, os.SEEK_SET)
            first = os.read(file, size + 1)  # at once: parts put together are copied
        parts.append(first)
        while first and (part := os.read(file, 1 << 22)):
            parts.append(part)
    except (IsADirectoryError, BlockingIOError):
        return b""
    finally:
        os.close(file)
    return b"".join(parts)
