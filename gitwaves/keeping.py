"""What `quick` gives again: an answer with all that it depends on, and that no card differs.

`quick` imports this where it has nothing to give; Git is asked for references and settings here.
"""

from __future__ import annotations

import os
import sys

from gitwaves.differing import crc32, ignored, split_paths, stamps, target
from gitwaves.gitcall import BATCH, Asked, Piped
from gitwaves.gitenv import REFERENCES, settings_files, user_attributes, user_excludes
from gitwaves.gitplace import admin_of, content, is_odd
from gitwaves.quick import BELOW, SETTINGS, apart, counts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gitwaves.differing import Differing
    from gitwaves.quick import Question

_REFERENCES = ("for-each-ref", REFERENCES, *BELOW)
# In nanoseconds: how exact the times of a file system are, and of one that knows whole seconds alone.
_MARGIN, _COARSE = 10**8, 2 * 10**9
_MAX_ENTRIES = 128  # one for each checkout and form; beyond it all are forgotten


def begin(question: Question) -> None:
    """Asks Git for what there is no answer to yet, and begins what will read objects."""
    question.reader = Piped(f"--git-dir={question.common}", *BATCH)
    question.asked = [
        Asked(f"--git-dir={question.common}", *args) for args in (_REFERENCES, SETTINGS)
    ]


def words(question: Question) -> tuple[bytes, bytes] | None:
    """What Git says of references and of settings; None where more decides than is seen here."""
    refs, listed = [asked.said() for asked in question.asked]
    if refs is None or listed is None:
        return None
    origins, settings = apart(listed)
    if is_odd(settings):
        return None
    files = {b"file:" + os.fsencode(path) for path in settings_files(question.common)}
    plain = origins <= files | {b"command line:"} and b"\0include" not in b"\0" + settings
    paths = (os.fsencode(user_attributes(settings)), os.fsencode(user_excludes(settings)))
    try:
        question.kept = question.besides(*paths, b"" if plain else settings)
        said = [line.rpartition(b"\0")[0] for line in refs.split(b"\n") if line]
        # else one was moved, and moved back, while Git was asked
        question.keeps = _said_of(question.references, question.packed) == sorted(said)
    except (OSError, ValueError):
        pass
    return refs, settings


def keep(question: Question, text: str, watched: bytes) -> None:
    """Keeps an answer; does nothing where it cannot be kept, or may be to another question."""
    try:
        # the last is a cache that the answer itself may have written to
        if not question.keeps or (now := question.now())[:-1] != question.before[:-1]:
            return
        if not question.still(question.kept):
            return
        named = os.fsencode("\0".join(question.named))
        parts = b"\0\0".join(question.kept), b"\0\0".join(now), watched, named
        body = b"%d %d %d %d\n" % tuple(map(len, parts)), *parts, text.encode(sys.stdout.encoding)
        check = 0
        for part in body:
            check = crc32(part, check)
        _write(question.path(), b"%d\n" % check, *body)
    except (OSError, ValueError):
        return


def _said_of(loose: dict[bytes, bytes], packed: bytes) -> list[bytes]:
    """What references hold as files have it, as `REFERENCES` begins to say it, in order."""
    lines = (line.split(b" ", 1) for line in packed.split(b"\n") if line[:1] not in b"#^")
    held = {**{name: oid for oid, name in lines}, **loose}
    found = []
    for name in filter(counts, held):
        oid = held[name]
        for _ in range(5):  # as deep as Git follows
            oid = held.get(target(oid), b"") if oid.startswith(b"ref:") else oid
        if len(oid) in (40, 64) and oid.isalnum():
            found.append(name + b"\0" + oid)
    return sorted(found)


def note_clean(differing: Differing, settings: bytes, excludes: str, named: Sequence[str]) -> None:
    """Keeps that `git status` said nothing; not where something was written just now.

    What is written while Git looks is not older than that look.

    Args:
        named: see `Differing.found`.
    """
    if not differing.compared or differing.to_compare() != differing.compared:
        return
    folders, ignoring = _still_below(differing) or _below(f"{differing.top}/.workstreams")
    if not folders:
        return
    cards = differing.files(named)
    times, card_times = stamps(folders), stamps(cards)
    said = [f"{differing.common}/info/exclude", f"{differing.top}/.gitignore"]
    ignoring += [path for path in (*said, excludes) if path]
    if not _settled([*folders, *cards, f"{admin_of(differing.top)}/index"], differing.since):
        return
    parts = (
        differing.compared,
        b"%d" % crc32(settings),
        os.fsencode("\0".join(ignoring)),
        ignored(ignoring),
        os.fsencode("\0".join(folders)),
        times,
        card_times,
    )
    body = b"\0\0".join(parts)
    _write(differing.record, b"%d\n" % crc32(body), body)
    differing.stamp()


def _settled(paths: Iterable[str], since: int) -> bool:
    """Whether nothing was written just before a time, nor after it.

    Else what is written next could have the same time.
    """
    for path in paths:
        stat = os.lstat(path)
        margin = _MARGIN if stat.st_ctime_ns % 10**9 else _COARSE
        if max(stat.st_mtime_ns, stat.st_ctime_ns) > since - margin:
            return False
    return True


def _write(path: str, *parts: bytes) -> None:
    """Writes one of our own files, whole or not at all."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    if len(names := os.listdir(folder)) > _MAX_ENTRIES:
        for name in names:
            os.unlink(f"{folder}/{name}")
    draft = f"{path}.{os.getpid()}"
    try:
        with open(draft, "wb") as file:
            file.writelines(parts)
        os.replace(draft, path)
    except BaseException:
        try:  # noqa: SIM105  # `contextlib` is slow to import
            os.unlink(draft)
        except OSError:
            pass
        raise


def _still_below(differing: Differing) -> tuple[list[str], list[str]] | None:
    """What `_below` gave the last time, if none of the folders got another entry since."""
    check, _, body = content(differing.record).partition(b"\n")
    parts = body.split(b"\0\0")
    if len(parts) != 7 or check != b"%d" % crc32(body):
        return None
    folders, ignoring = split_paths(parts[4]), split_paths(parts[2])
    if stamps(folders) != parts[5]:
        return None
    return folders, [path for path in ignoring if path.startswith(f"{folders[0]}/")]


def _below(top: str) -> tuple[list[str], list[str]]:
    """A folder and all folders in it, and the files that say what is to be ignored there.

    Nothing where one is a repository of its own.
    """
    folders, ignoring = [top], []
    for folder in folders:
        with os.scandir(folder) as entries:
            # the cards are left out first, in a loop of their own: there may be thousands
            others = [
                e for e in entries if e.name[0] == "." or not e.is_file(follow_symlinks=False)
            ]
            for entry in others:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name == ".gitignore":
                    ignoring.append(entry.path)
                if entry.name == ".git":
                    return [], []
    return folders, ignoring
