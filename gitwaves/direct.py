"""The plainest calls of commands, and Git's hooks, run without the command line.

`quick` hands them on where it has no answer. What is called otherwise is left to `cli`, which reads
options and says how a command is to be called.
"""

from __future__ import annotations

import os
import sys

from gitwaves import quick


def hooked(argv: list[str]) -> bool:
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


def verified(argv: list[str]) -> bool:
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
        if quick.ODD_ENVIRONMENT.isdisjoint(os.environ):
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


def plainly(argv: tuple[str, ...]) -> quick.Said | None:
    """What the plainest calls say; None where it takes the whole command line."""
    command, *rest = argv
    if command == "check":
        return None if rest else _checked()
    names = [arg for arg in rest if arg != "--json"]
    asked = quick.asked()
    if asked is None or any(name.startswith("-") for name in names):
        return None
    from gitwaves import keeping, showing

    as_json = len(names) < len(rest)
    words = keeping.words(asked)
    if words is None:
        return None
    store, refs = showing.at(asked.top, asked.common, *words, asked.reader)
    store.repo.begin_listing()
    snapshot = store.snapshot(refs=refs)
    if command == "show":
        (name,) = names
        text, whole = showing.show(store, name, snapshot, as_json=as_json), False
    elif command == "next":
        text, whole = showing.next_(store, snapshot, as_json=as_json), showing.lasts(snapshot)
    else:
        color = showing.styled if quick.colored() else None
        text, whole = showing.status(store, snapshot, as_json=as_json, color=color)
        asked.named = showing.named(snapshot.cards, text) if not as_json else ()
    if whole:
        quick.keep(text, snapshot.watched)
    note = asked.note()
    if note is None:
        return None
    return text.encode(sys.stdout.encoding, "surrogateescape"), note, 0


def _checked() -> quick.Said:
    """What `check` says of the working tree."""
    from gitwaves.git_content import begun_look, begun_settings

    settings, look = begun_settings(), begun_look(".workstreams")  # while what follows is imported
    from pathlib import Path

    from gitwaves import checking
    from gitwaves.git import Repo
    from gitwaves.store import Store

    repo = Repo.open(Path(), settings)
    repo.take_look(look)
    findings, looked_at = checking.of_plan(Store(repo), None)
    lines, besides = checking.said_of(checking.of_cards(findings), "text", looked_at)
    text = "".join(f"{line}\n" for line in lines)
    code = any(finding.severity == "error" for finding in findings)
    return text.encode(sys.stdout.encoding, "surrogateescape"), besides or "", int(code)
