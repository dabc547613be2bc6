"""What `status`, `next` and `show` print: for the command line, and for `quick` without it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from gitwaves.cards import card_path
from gitwaves.git import Repo
from gitwaves.git_history import references
from gitwaves.model import CONFIG_PATH
from gitwaves.patterns import regex
from gitwaves.store import Snapshot, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gitwaves.gitcall import Piped
    from gitwaves.model import Cards, Oid
    from gitwaves.render import Color

_SGR = {  # Select Graphic Rendition, ECMA-48 8.3.117
    "active": "33", "*": "33", "failed": "31", "!": "31", "done": "32", "heading": "1", "hint": "2",
}  # fmt: skip
_THOUSANDS = 4_000  # cards; see `named`
_WORD = regex(r"\x1b\[[\d;]*m|([A-Za-z][A-Za-z0-9]*(?:[._-][A-Za-z0-9]+)*)")
_AT_ONCE = 200  # tasks that are written as JSON in one go


def at(
    top: str, common: str, refs: bytes, settings: bytes, reader: Piped | None = None
) -> tuple[Store, dict[str, Oid]]:
    """The store of a repository whose place is known, and the branches that it has.

    Args:
        top: of the worktree; `common` is the common Git directory.
        refs: what `git for-each-ref` said, asked as `REFERENCES` has it; `settings` likewise what
            `git config --list -z` said.
        reader: as `objects.Objects` takes it.
    """
    repo = Repo(Path(common), Path(top), Path.cwd())
    if reader is not None:
        repo.read_with(reader)
    repo.take_settings(settings)
    return Store(repo), references(refs.decode(errors="surrogateescape"))


def status(
    store: Store, snapshot: Snapshot, *, as_json: bool, color: Color | None = None, now: bool = True
) -> tuple[str, bool]:
    """What `status` prints, and whether it prints the same next time if nothing changes.

    Args:
        now: whether it is the state of this moment: with what is local, and what lies ahead.
    """
    whole = now and lasts(snapshot)
    if as_json:
        from gitwaves.jsonout import status_outline, status_tasks

        shown = store.progress(snapshot, local=now)
        return dumped_with(status_outline(shown), status_tasks(shown)), whole
    from gitwaves.render import status_text

    def text() -> str:
        return status_text(store.progress(snapshot, local=now), color=color)

    if not now:
        return text(), whole
    from gitwaves.conflicts import Ahead

    with Ahead(store, snapshot) as ahead:  # branches are merged while we go on
        said = text()
        line, known = ahead.line()
    return said + f"{line}\n" * bool(line), whole and known


def named(cards: Cards, text: str) -> list[str]:
    """The files of a plan of thousands of cards that a text names, and what is no card; none of fewer."""
    if len(cards.folders) < _THOUSANDS:
        return []
    words = {*_WORD.findall(text)}
    found = [CONFIG_PATH, *(stream.path for stream in cards.workstreams.values())]
    found += [card_path(cards, node) for node in words & {*cards.folders, *cards.merge_points}]
    return sorted(found)


def lasts(snapshot: Snapshot) -> bool:
    """Whether a state is the same for as long as nothing of Git changes: keys may run out."""
    return snapshot.cards.config.allowed_signers is None


def next_(store: Store, snapshot: Snapshot | None = None, *, as_json: bool) -> str:
    """What `next` prints."""
    shown = store.progress(snapshot)
    if as_json:
        from gitwaves.jsonout import next_json

        return dumped(next_json(shown))
    from gitwaves.pages import next_text

    return next_text(shown)


def show(store: Store, name: str, snapshot: Snapshot | None = None, *, as_json: bool) -> str:
    """What `show` prints of a task, a merge point or a batch.

    Raises:
        UsageError: nothing is called so.
    """
    shown = store.progress(snapshot)
    if as_json:
        from gitwaves.jsonout import show_json

        return dumped(show_json(shown, name))
    from gitwaves.pages import show_text

    return show_text(shown, name)


def styled(text: str, style: str) -> str:
    """A text in one of the styles of `render`, for a terminal."""
    code = _SGR.get(style)
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def dumped(value: object) -> str:
    """JSON; what could steer a terminal, or is no text, stands in it as an escape."""
    import json

    def escaped(line: str) -> str:
        if line.isprintable():
            return line
        return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)

    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "\n".join([escaped(line) for line in text.split("\n")]) + "\n"


def dumped_with(outline: Mapping[str, object], tasks: Iterable[object]) -> str:
    """`dumped` of `outline` with its `tasks`, which are empty in it: one part after the other.

    Thousands of tasks, all at once, take ten times the memory of the text.
    """
    head, nothing, rest = dumped(outline).partition('\n  "tasks": [],\n')
    left = iter(tasks)
    parts: list[str] = []
    # each call leaves something behind in circles, so not one for each task
    while some := list(islice(left, _AT_ONCE)):
        parts.append(dumped(some)[2:-3].replace("\n", "\n  "))
    if not parts:
        return head + nothing + rest
    listed = ",\n  ".join(parts)
    parts.clear()
    return f'{head}\n  "tasks": [\n  {listed}\n  ],\n{rest}'
