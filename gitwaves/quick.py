"""The way in. `status` and `next` with nothing changed are answered here, before any slow import.

Hooks and the plainest calls of other commands are handed on from here without the command line. What
`status` and `next` print is a function of what `_Question` asks: references, settings, checkouts, this
very code. A kept answer holds all of that word for word and is given only where it is the same again;
in every other case, and wherever this module has a doubt, the whole of gitwaves runs. Nothing is
imported here that Python does not load by itself.
"""

from __future__ import annotations

import os
import sys
from binascii import crc32

from gitwaves.gitcall import Asked, at_once
from gitwaves.gitenv import (
    IDENTITY,
    LEAKS,
    REFERENCES,
    git_stamp,
    index_stamp,
    packs,
    user_attributes,
)
from gitwaves.gitplace import SEARCH, admin_of, content, is_odd, own_place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_FORMS = {
    ("status",): "text",
    ("status", "--json"): "json",
    ("next",): "next",
    ("next", "--json"): "next-json",
}
_Said = tuple[bytes, str, int]  # on standard output, on standard error, the exit code
_STATUS = ("text", "color")  # the forms with a line on conflicts ahead
_NOTED = (*_STATUS, "next", "show")  # and with a note
# Of `git status`, which tells what the note is about.
DIFFERING = ("--porcelain", "-z", "--no-renames", "--untracked-files=normal")
_PLAIN = ("status", "next", "show", "check")  # commands that may need no command line
_MAX_ENTRIES = 128  # one for each checkout and form; beyond it all are forgotten
_ODD_ENVIRONMENT = (LEAKS - IDENTITY) | SEARCH


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
        if code is None and (_hooked(sys.argv[1:]) or _verified(sys.argv[1:])):
            code = 0
        if code is not None:
            os._exit(code)  # all is said: what is taken down piece by piece goes by itself
        from gitwaves.cli import main as whole
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    whole()


def _hooked(argv: list[str]) -> bool:
    """Runs one of Git's hooks, as it is called on every commit; False where it is called otherwise."""
    if argv[:1] != ["hook"] or argv[1:2] in ([], ["pre-receive"]):
        return False
    if any(arg[:1] == "-" for arg in argv):
        return False
    prepare()
    try:
        from gitwaves.git_content import begun_settings

        settings = begun_settings()
        from pathlib import Path

        from gitwaves import githooks

        githooks.call(Path(), argv[1], argv[2:], settings)
    except BaseException as error:  # noqa: BLE001  # all of them are told apart there
        from gitwaves.cli import end

        end(error)
    return True


def _verified(argv: list[str]) -> bool:
    """Runs `verify`, as agents call it; False where it is called otherwise."""
    if argv[:1] != ["verify"] or len(argv) > 2 or any(arg[:1] == "-" for arg in argv):
        return False

    def confirm(text: str) -> str | None:
        from gitwaves.cli.working import confirm as asked  # slow to import, and seldom needed

        return asked(text)

    prepare()
    begun = None
    try:
        from gitwaves.git_content import begun_for, begun_settings

        settings = begun_settings()
        if _ODD_ENVIRONMENT.isdisjoint(os.environ):
            begun = begun_for(argv[1] if argv[1:] else None)
        from pathlib import Path

        from gitwaves import judging
        from gitwaves.git import Repo
        from gitwaves.store import Store

        store = Store(Repo.open(Path(), settings))
        judging.verify(store, *argv[1:], echo=_echo, confirm=confirm, begun=begun)
    except BaseException as error:  # noqa: BLE001  # all of them are told apart there
        from gitwaves.cli import end

        end(error)
    finally:
        if begun is not None:
            begun.__exit__()
    return True


def _echo(text: str, *, err: bool = False) -> None:
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except BrokenPipeError:  # the reader is gone: what is to be said besides decides how it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _answer(argv: tuple[str, ...]) -> int | None:
    """Prints what one of the plainest calls says; its exit code, None where it takes all of us."""
    global _asked
    _asked = _Question.of(argv)
    answer = _asked.known() if _asked is not None else None
    if answer is None and argv and argv[0] in _PLAIN:
        prepare()
        try:
            answer = _plainly(argv)
        except Exception:  # noqa: BLE001  # the command line says it, and how it is to be called
            answer = None
    if answer is None:
        return None
    text, note, code = answer
    _print(text, note)
    return code


def prepare() -> None:
    """What holds for a whole process: how its memory is kept, and how its output is encoded."""
    import gc
    import io

    # What is read stays until the end: looking every few hundred objects for what could go costs a
    # fifth of the time.
    gc.set_threshold(200_000, 50, 50)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # a path may be any bytes


def _plainly(argv: tuple[str, ...]) -> _Said | None:
    """What the plainest calls say; None where it takes the whole command line."""
    command, *rest = argv
    if command == "check":
        return None if rest else _checked()
    names = [arg for arg in rest if arg != "--json"]
    if _asked is None or any(name.startswith("-") for name in names):
        return None
    from gitwaves import showing

    as_json = len(names) < len(rest)
    store, refs = showing.at(_asked.top, _asked.common, *_asked.said)
    snapshot = store.snapshot(refs=refs)
    if command == "show":
        (name,) = names
        text, whole = showing.show(store, name, snapshot, as_json=as_json), False
    elif command == "next":
        text, whole = showing.next_(store, snapshot, as_json=as_json), showing.lasts(snapshot)
    else:
        color = showing.styled if _colored() else None
        text, whole = showing.status(store, snapshot, as_json=as_json, color=color)
    if whole:
        keep(text, snapshot.watched)
    note = _asked.note()
    if note is None:
        return None
    return text.encode(sys.stdout.encoding, "surrogateescape"), note, 0


def _checked() -> _Said:
    """What `check` says of the working tree."""
    from pathlib import Path

    from gitwaves import checking
    from gitwaves.git import Repo
    from gitwaves.store import Store

    findings, looked_at = checking.of_plan(Store(Repo.open(Path())), None)
    lines, besides = checking.said_of(checking.of_cards(findings), "text", looked_at)
    text = "".join(f"{line}\n" for line in lines)
    code = any(finding.severity == "error" for finding in findings)
    return text.encode(sys.stdout.encoding, "surrogateescape"), besides or "", int(code)


def keep(text: str, watched: Iterable[str]) -> None:
    """Keeps what `status` or `next` printed, if what it was asked is still the same.

    Args:
        watched: commits that no reference may hold, as `+ID` where one lies in a file of its own,
            `-ID` where it is not here: the answer holds as long as that does.
    """
    if _asked is not None:
        _asked.keep(text, "\n".join(watched).encode())


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


class _Question:
    """What is asked, and all that the answer depends on."""

    def __init__(self, form: str, top: str, common: str) -> None:
        self._form = form
        self.top = top
        self.common = common
        self.said: list[bytes] = []  # what git says of references and of settings
        self._all: list[bytes] = []
        self._name: str | None = None  # of the one thing that is asked about
        self._status: Asked | None = None
        self._note: str | None = ""

    @classmethod
    def of(cls, argv: tuple[str, ...]) -> _Question | None:
        """The question that a command line is; None where it is none of ours."""
        form = _FORMS.get(argv, "show" if argv[:1] == ("show",) else None)
        names = [arg for arg in argv[1:] if arg != "--json"]
        if form == "show" and (len(names) != 1 or names[0][:1] == "-"):
            return None
        if form is None or not _ODD_ENVIRONMENT.isdisjoint(os.environ):
            return None
        try:
            found = own_place_of(os.getcwd())
            if found is None:
                return None
            if form == "text" and _colored():
                form = "color"
            question = cls(form, *found)
            if form == "show":
                (question._name,) = names
            if (
                form in _NOTED
                and "--json" not in argv
                and os.path.isdir(f"{question.top}/.workstreams")
            ):
                args = ("status", *DIFFERING, "--", ".workstreams")
                question._status = Asked("-C", question.top, *args)
            if question._ask():
                return question
            question.note()  # what was begun is ended
        except (OSError, ValueError):
            pass
        return None

    def note(self) -> str | None:
        """What is said of uncommitted cards: only here it is waited for. None: not to be told here."""
        if self._status is not None:
            found, self._status = self._status.said(), None
            entries = (found or b"").decode(errors="surrogateescape").split("\0")
            paths = (entry[3:] for entry in entries if entry)
            self._note = None if found is None else note(paths, self._name)
            if self._note is not None and not self._note.isascii():
                self._note = None
        return self._note

    def known(self) -> _Said | None:
        """The answer that was kept, with the note of this moment; or None."""
        try:
            with open(self._path(), "rb") as file:
                head, _, body = file.read().partition(b"\n")
            check, asked, watched = map(int, head.split())
            if crc32(body) != check or body[:asked] != b"\0\0".join(self._all):
                return None
            for line in body[asked : asked + watched].decode().split():
                if os.path.exists(self._loose(line[1:])) != (line[0] == "+"):
                    return None
        except (OSError, ValueError):
            return None
        said = self.note()
        return None if said is None else (body[asked + watched :], said, 0)

    def keep(self, text: str, watched: bytes) -> None:
        """Keeps an answer; does nothing where it cannot be kept, or may be to another question."""
        before = self._all[:-1]  # the last is a cache that the answer itself may have written to
        try:
            if not self._ask() or self._all[:-1] != before:
                return
            asked = b"\0\0".join(self._all)
            body = asked, watched, text.encode(sys.stdout.encoding)
            check = 0
            for part in body:
                check = crc32(part, check)
            folder = f"{self.common}/gitwaves/shown"
            os.makedirs(folder, exist_ok=True)
            if len(names := os.listdir(folder)) > _MAX_ENTRIES:
                for name in names:
                    os.unlink(f"{folder}/{name}")
            draft = f"{self._path()}.{os.getpid()}"
            with open(draft, "wb") as file:
                file.write(b"%d %d %d\n" % (check, len(asked), len(watched)))
                file.writelines(body)
            os.replace(draft, self._path())
        except (OSError, ValueError):
            return

    def _path(self) -> str:
        return f"{self.common}/gitwaves/shown/{self._form}-{crc32(os.fsencode(self.top)):08x}"

    def _loose(self, oid: str) -> str:
        return f"{self.common}/objects/{oid[:2]}/{oid[2:]}"

    def _ask(self) -> bool:
        """Asks for everything that the answer depends on; False where there may be more."""
        common = self.common
        git = f"--git-dir={common}"
        found = at_once(
            (git, "for-each-ref", REFERENCES, "refs/heads", "refs/remotes"),
            (git, "config", "--list", "-z"),
        )
        if found is None or is_odd(found[1]):
            return False
        self.said = found
        kept = f"{common}/gitwaves"
        if _has_links(kept) or os.path.exists(f"{common}/objects/info/alternates"):
            return False
        self._all = [
            f"{self._form} {sys.hexversion} {sys.stdout.encoding} {self.top}\n{common}".encode(
                errors="surrogateescape"
            ),
            _code(),
            *found,
            _checkouts(common),
            *(
                content(path)
                for path in (
                    f"{common}/shallow",
                    f"{common}/info/attributes",
                    user_attributes(found[1]),
                    f"{self.top}/.gitattributes",
                )
            ),
            packs(common),
            # the line on conflicts ahead hangs on these two, and is in no other form
            index_stamp(admin_of(self.top)) if self._form in _STATUS else b"",
            _files(f"{kept}/merges") if self._form in _STATUS else b"",
        ]
        return True


_asked: _Question | None = None


def _print(text: bytes, note: str) -> None:
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


def _colored() -> bool:
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
