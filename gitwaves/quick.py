"""The way in. `status` and `next` with nothing changed are answered here, before any slow import.

Hooks and the plainest calls of other commands are handed on from here without the command line. What
`status` and `next` print is a function of what `Question` asks: references, settings, checkouts, this
very code. An answer is kept with all of that, and is given only where it is the same again; in every
other case, and wherever this module has a doubt, the whole of gitwaves runs. Nothing is imported here
that Python does not load by itself.
"""

from __future__ import annotations

import os
import sys

from gitwaves.differing import Differing, crc32, short, split_paths, target
from gitwaves.gitcall import Asked
from gitwaves.gitenv import (
    IDENTITY,
    LEAKS,
    git_stamp,
    index_stamp,
    packs,
    settings_files,
)
from gitwaves.gitplace import SEARCH, admin_of, content, own_place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gitwaves.gitcall import Piped

_FORMS = {
    ("status",): "text",
    ("status", "--json"): "json",
    ("next",): "next",
    ("next", "--json"): "next-json",
}
Said = tuple[bytes | memoryview, str, int]  # on standard output, on standard error, the exit code
_STATUS = ("text", "color")  # the forms with a line on conflicts ahead
_NOTED = (*_STATUS, "next", "show")  # and with a note
BELOW = ("refs/heads", "refs/remotes")  # the references that count
SETTINGS = ("config", "--list", "-z", "--show-origin")
_PLAIN = ("status", "next", "show", "check")  # commands that may need no command line
# What says which files Git reads its settings from.
_NAMES_SETTINGS = (
    *("HOME", "XDG_CONFIG_HOME"),
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
)
_MANY = 1 << 16  # bytes
ODD_ENVIRONMENT = (LEAKS - IDENTITY) | SEARCH


def main() -> None:
    """Runs one command and exits with its code."""
    import _signal  # type: ignore[import-not-found]  # Python's own, below the slow `signal`

    if hasattr(_signal, "SIGCHLD"):  # else nobody would hear how a git has ended
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    if None in (sys.stdin, sys.stdout, sys.stderr):
        # else a pipe could get the number of one of them
        while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
            pass
        os.close(fd)
    try:
        code = None if sys.stdout is None else _answer(tuple(sys.argv[1:]))
        if code is None and sys.argv[1:2] in (["hook"], ["verify"]):
            from gitwaves import direct

            if direct.hooked(sys.argv[1:]) or direct.verified(sys.argv[1:]):
                code = 0
        if code is not None:
            os._exit(code)  # all is said: what is taken down piece by piece goes by itself
        from gitwaves.cli import main as whole
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    whole()


def _answer(argv: tuple[str, ...]) -> int | None:
    """Prints what one of the plainest calls says; its exit code, None where it takes all of us."""
    global _asked
    _asked = Question.of(argv)
    answer = _asked.known() if _asked is not None else None
    if answer is None and argv and argv[0] in _PLAIN:
        if _asked is not None:
            _asked.look()
        from gitwaves import direct

        direct.prepare()
        try:
            if _asked is not None:
                from gitwaves import keeping

                keeping.begin(_asked)  # while what follows is imported
            answer = direct.plainly(argv)
        except Exception:  # noqa: BLE001  # the command line says it, and how it is to be called
            answer = None
    if answer is None:
        return None
    text, note, code = answer
    _print(text, note)
    return code


def keep(text: str, watched: Iterable[str]) -> None:
    """Keeps what `status` or `next` printed, if what it was asked is still the same.

    Args:
        watched: commits that no reference may hold, as `+ID` where one lies in a file of its own,
            `-ID` where it is not here: the answer holds as long as that does.
    """
    if _asked is not None:
        from gitwaves import keeping

        keeping.keep(_asked, text, "\n".join(watched).encode())


def noted() -> str | None:
    """What `note` says of this moment; None where it is to be found out."""
    return None if _asked is None else _asked.note()


def note(paths: Iterable[str], name: str | None = None) -> str:
    """What is said of files under `.workstreams/` that differ in the working tree; may be empty.

    Args:
        name: of the one thing that is shown: its card alone counts.
    """
    cards = [path for path in paths if not path.endswith("DASHBOARD.txt")]
    if name is not None:
        cards = [path for path in cards if path.rpartition("/")[2] == f"{name}.yaml"]
    if not cards:
        return ""
    differ = f" and {len(cards) - 1} more differ" if len(cards) > 1 else " differs"
    first = cards[0]
    if not first.isprintable():
        from gitwaves.model import printable

        first = printable(first)
    return f"note: {first}{differ} in the working tree; what is shown is what is committed"


class Question:
    """What is asked, and all that the answer depends on.

    References and settings are compared as the files that Git keeps them in. What Git says of them is
    asked only where there is no answer yet.
    """

    def __init__(self, form: str, top: str, common: str, name: str | None) -> None:
        self._form = form
        self._name = name  # of the one thing that is asked about
        self.top = top
        self.common = common
        self._differing: Differing | None = None
        self._note: str | None = ""
        self.named: Sequence[str] = ()  # see `Differing.found`
        self.asked: list[Asked] = []
        self.reader: Piped | None = None
        self.references: dict[bytes, bytes] = {}  # those that lie in files of their own
        self.packed = b""
        self._settings = b""
        self.before: list[bytes] = []  # all that is seen here, before anything is read
        self.kept: list[bytes] = []  # what else the answer hangs on
        self.keeps = False

    @classmethod
    def of(cls, argv: tuple[str, ...]) -> Question | None:
        """The question that a command line is; None where it is none of ours."""
        form = _FORMS.get(argv, "show" if argv[:1] == ("show",) else None)
        names = [arg for arg in argv[1:] if arg != "--json"]
        if form == "show" and (len(names) != 1 or names[0][:1] == "-"):
            return None
        if form is None or not ODD_ENVIRONMENT.isdisjoint(os.environ):
            return None
        try:
            found = own_place_of(os.getcwd())
            if found is None:
                return None
            if form == "text" and colored():
                form = "color"
            question = cls(form, *found, names[0] if form == "show" else None)
            if (
                form in _NOTED
                and "--json" not in argv
                and os.path.isdir(f"{question.top}/.workstreams")
            ):
                question._differing = Differing(*found)
            try:
                question.before = question.now()
            except (OSError, ValueError):
                question.note()  # what was begun is ended
                return None
        except (OSError, ValueError):
            return None
        return question

    def look(self) -> None:
        """Has Git look for uncommitted cards, where it has not been told to: it will take a while."""
        if self._differing is not None:
            self._differing.look()

    def note(self) -> str | None:
        """What is said of uncommitted cards: only here it is waited for. None: not to be told here."""
        if self._differing is not None:
            compared = self._compared_by()
            found, self._differing = self._differing.found(*compared, self.named), None
            entries = (found or b"").decode(errors="surrogateescape").split("\0")
            paths = (entry[3:] for entry in entries if entry)
            self._note = None if found is None else note(paths, self._name)
            if self._note is not None and not self._note.isascii():
                self._note = None
        return self._note

    def _compared_by(self) -> tuple[bytes, str | None]:
        """All settings by which files are compared, and what is to be ignored; see `Differing.found`."""
        if not self.kept:
            return b"", None
        _, excludes, _, said = self.kept
        path = os.fsdecode(excludes)
        plain = not path or (os.path.isabs(path) and "%" not in path)
        plain &= b"\0includeif." not in b"\0" + said  # some are asked of another checkout
        settings = b"\0\0".join((self._settings, *self.kept))
        return settings, path if plain else None

    def known(self) -> Said | None:
        """The answer that was kept, with the note of this moment; or None."""
        try:
            data = content(self.path())  # megabytes, as JSON: cut, it would be copied
            start = data.index(b"\n") + 1
            if int(data[:start]) != crc32(memoryview(data)[start:]):
                return None
            begin = data.index(b"\n", start) + 1
            more, asked, watched, named = map(int, data[start:begin].split())
            more += begin
            asked += more
            watched += asked
            named += watched
            kept = data[begin:more].split(b"\0\0", 3)
            if data[more:asked] != b"\0\0".join(self.before) or not self.still(kept):
                return None
            self.kept = kept
            for line in data[asked:watched].decode().split():
                if os.path.exists(self._loose(line[1:])) != (line[0] == "+"):
                    return None
            if named > watched:
                self.named = split_paths(data[watched:named])
        except (OSError, ValueError):
            return None
        said = self.note()
        return None if said is None else (memoryview(data)[named:], said, 0)

    def path(self) -> str:
        return f"{self.common}/gitwaves/shown/{self._form}-{short(os.fsencode(self.top))}"

    def _loose(self, oid: str) -> str:
        return f"{self.common}/objects/{oid[:2]}/{oid[2:]}"

    def still(self, kept: list[bytes]) -> bool:
        """Whether what `besides` gave is what it gives now."""
        attributes, excludes, _, said = kept
        return kept == self.besides(attributes, excludes, said)

    def besides(self, attributes: bytes, excludes: bytes, said: bytes) -> list[bytes]:
        """What it depends on too, where settings name files, or are in files that are not known here.

        Args:
            said: of settings, where those are not all.
        """
        if said:
            asked = Asked(f"--git-dir={self.common}", *SETTINGS).said()
            said = apart(asked)[1] if asked is not None else b"none"
        held = b"%d" % crc32(content(os.path.join(self.top, os.fsdecode(attributes))))
        return [attributes, excludes, held, said]

    def now(self) -> list[bytes]:
        """All that the answer depends on.

        Raises:
            ValueError: there may be more.
        """
        common = self.common
        kept = f"{common}/gitwaves"
        if _has_links(kept) or os.path.exists(f"{common}/objects/info/alternates"):
            raise ValueError(common)
        self.references = _references(common)
        self.packed = content(f"{common}/packed-refs")
        self._settings = _settings(common)
        return [
            f"{self._form} {sys.hexversion} {sys.stdout.encoding} {self.top}\n{common}".encode(
                errors="surrogateescape"
            ),
            _code(),
            _digest(self.packed),
            b"\0".join([part for reference in self.references.items() for part in reference]),
            self._settings,
            _checkouts(common),
            content(f"{common}/shallow"),
            content(f"{common}/info/attributes"),
            content(f"{self.top}/.gitattributes", follow=False),  # as Git reads it
            packs(common),
            # the line on conflicts ahead hangs on these two, and is in no other form
            index_stamp(admin_of(self.top)) if self._form in _STATUS else b"",
            _files(f"{kept}/merges") if self._form in _STATUS else b"",
        ]


def _digest(data: bytes) -> bytes:
    """Bytes, or what stands for many of them."""
    if len(data) <= _MANY:
        return data
    from gitwaves.digests import blake2b

    return blake2b(data).digest()


def apart(listed: bytes) -> tuple[set[bytes], bytes]:
    """Where settings come from, and what `git config --list -z` says without that."""
    entries = listed.split(b"\0")
    return set(entries[:-1:2]), b"".join(entry + b"\0" for entry in entries[1::2])


def _settings(common: str) -> bytes:
    """What Git's settings are read from: the files that it reads by itself, and what names these."""
    parts = [repr(os.environ.get(name)).encode() for name in _NAMES_SETTINGS]
    for path in settings_files(common):
        parts += os.fsencode(path), content(path)
    return b"\0".join(parts)


def _references(common: str) -> dict[bytes, bytes]:
    """What references hold that lie in files of their own, by name.

    Raises:
        ValueError: one is odd.
    """
    found = {}
    folders = [f"{common}/{below}" for below in BELOW]
    for folder in folders:
        if not os.path.isdir(folder):
            continue
        with os.scandir(folder) as entries:
            listed = list(entries)
        for entry in listed:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_symlink():
                raise ValueError(entry.path)
            elif not entry.name.endswith(".lock"):
                held = content(entry.path).rstrip()
                if held.startswith(b"ref:") and not counts(target(held)):
                    raise ValueError(entry.path)
                found[os.fsencode(entry.path[len(common) + 1 :])] = held
    return found


def counts(name: bytes) -> bool:
    return name.startswith(tuple(below.encode() + b"/" for below in BELOW))


_asked: Question | None = None


def asked() -> Question | None:
    """What is being asked, where it is one of ours."""
    return _asked


def _print(text: bytes | memoryview, note: str) -> None:
    try:
        if text:
            sys.stdout.buffer.write(text)
            sys.stdout.flush()
        if note and sys.stderr is not None:
            sys.stderr.write(note + "\n")
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # else the reader is gone, as in `cli.main`
            from gitwaves.cli import system_error

            system_error(error)


def colored() -> bool:
    """Whether to colour: only on a terminal, never with NO_COLOR."""
    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def _has_links(folder: str) -> bool:
    """Whether a symbolic link would lead our own files elsewhere (see `Repo.open`)."""
    if not os.path.lexists(folder):
        return False
    if os.path.islink(folder):
        return True
    with os.scandir(folder) as entries:
        inside = [(e.is_symlink(), e.is_dir(), e.path) for e in entries]
    if any(link for link, _, _ in inside):
        return True
    for _, is_dir, path in inside:
        if is_dir:
            with os.scandir(path) as entries:
                if any(e.is_symlink() for e in entries):
                    return True
    return False


def _code() -> bytes:
    """This very code and what it leans on, as files that would change with it."""
    package = os.path.dirname(__file__)
    folders = [package, f"{package}/cli"]
    folders += [f"{package}/_data/schemas", f"{os.path.dirname(package)}/schemas"]
    libraries = os.path.dirname(os.__file__)
    stamps = [str(os.stat(libraries).st_mtime_ns).encode()]
    if sys.prefix != sys.base_prefix:
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        libraries = f"{sys.prefix}/lib/{version}"
    stamps.append(str(os.stat(f"{libraries}/site-packages").st_mtime_ns).encode())
    stamps.append(git_stamp())
    return b"\n".join((*stamps, *map(_files, folders)))


def _files(folder: str) -> bytes:
    """The files of a folder, each with its size and time."""
    if not os.path.isdir(folder):
        return b""
    with os.scandir(folder) as entries:
        found = [(e.name, e.stat()) for e in entries if e.is_file()]
    return "\n".join(f"{n} {s.st_size} {s.st_mtime_ns}" for n, s in sorted(found)).encode()


def _checkouts(common: str) -> bytes:
    """All that `git worktree list` says, as the files that it reads."""
    found = [content(f"{common}/HEAD")]
    if os.path.isdir(folder := f"{common}/worktrees"):
        for name in sorted(os.listdir(folder)):
            admin = f"{folder}/{name}"
            place = content(f"{admin}/gitdir")
            dot = os.fsdecode(place).removesuffix("\n")
            found += [os.fsencode(name), place, content(f"{admin}/HEAD")]
            found += [content(f"{admin}/locked"), content(f"{admin}/commondir")]
            if os.path.isdir(dot):
                found.append(b"a folder")
            else:
                leads = os.fsdecode(content(dot)).removesuffix("\n").removeprefix("gitdir: ")
                found += [content(dot), os.fsencode(os.path.realpath(leads))]
    return b"\0".join(found)
