"""The commands that look ahead: what a plan looks like, what a change of it means, what collides."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click

from gitwaves.checked import Tracked
from gitwaves.checking import of_files
from gitwaves.cli import App, colored, echo, pass_app
from gitwaves.cli.reading import as_json
from gitwaves.conflicts import conflicts_json, conflicts_text, look
from gitwaves.drawing import FOLDS, picture, picture_json
from gitwaves.drawing_formats import FORGE_ARROWS, FORGE_CHARS, FORMATS, ascii_text
from gitwaves.errors import ExitCode, GitwavesError, NotReady, UsageError
from gitwaves.forecast import Forecast, forecast
from gitwaves.graph import graph_of
from gitwaves.halves import split
from gitwaves.model import ROOT, Cards, Fact, Oid
from gitwaves.plan import progress, schedule
from gitwaves.plans import ODD_MODES
from gitwaves.review_formats import card_text, review_json, review_markdown, review_text
from gitwaves.reviewing import compare
from gitwaves.shelf import Listing
from gitwaves.showing import dumped, styled
from gitwaves.yamlfile import load

MOST_AGENTS = 1000


@click.command()
@click.argument("id", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="ascii",
    show_default=True,
    help="How it is written.",
)
@click.option(
    "--fold",
    type=click.Choice(FOLDS),
    help="Draw each workstream, or each batch, as one; by itself where the plan is large.",
)
@as_json
@pass_app
def graph(app: App, id: str | None, form: str, fold: str | None, as_json: bool) -> None:
    """Draw the plan: waves, worktrees, merge points, the critical path, and where all of it stands.

    With ID only what that task, merge point or batch needs, and what needs it.

    \b
    Examples:
      gitwaves graph
      gitwaves graph A7
      gitwaves graph --format mermaid --fold batch
      gitwaves graph --format svg >plan.svg
    """
    drawn = picture(app.store.progress(), id, fold)
    if as_json:
        click.echo(dumped(picture_json(drawn)), nl=False)
    elif form == "ascii":
        click.echo(ascii_text(drawn, color=styled if colored() else None), nl=False)
    else:
        text = FORMATS[form](drawn)
        click.echo(text, nl=False)
        many = len(drawn.edges) > FORGE_ARROWS and drawn.fold == "none"
        if form == "mermaid" and (many or len(text) > FORGE_CHARS):
            limits = f"{FORGE_ARROWS} arrows or {FORGE_CHARS} characters"
            echo(f"note: forges draw no Mermaid of more than {limits}: see --fold", err=True)


def foreseen(app: App, cards: Cards, rev: str | None, agents: str) -> Forecast:
    """The forecast of `plan --agents` for cards of the working tree or of a revision.

    Raises:
        UsageError: `agents` is not a list of numbers.
    """
    counts = [int(n) if n.strip().isdecimal() else 0 for n in agents.split(",")]
    if not all(1 <= n <= MOST_AGENTS for n in counts):
        raise UsageError(
            f"--agents takes numbers from 1 to {MOST_AGENTS}, not {agents!r}",
            "as in `gitwaves plan --agents 1,2,4,8`",
        )
    facts: Mapping[str, Fact] = {}
    with contextlib.suppress(NotReady):  # a plan that is not on trunk yet: nothing of it is begun
        facts = app.store.snapshot(rev).facts
    graph = graph_of(cards)
    now = progress(cards, graph, schedule(cards, graph), facts)
    return forecast(now, list(dict.fromkeys(counts)), since=time.time())


@click.command()
@click.argument("revisions", nargs=-1, metavar="[A...B | A B | REV]")
@click.option("--staged", is_flag=True, help="What is staged, against HEAD.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="Markdown is made for a comment on a pull request.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--textconv", metavar="FILE", type=click.Path(path_type=Path), hidden=True)
@pass_app
def review(
    app: App,
    revisions: tuple[str, ...],
    staged: bool,
    form: str,
    as_json: bool,
    textconv: Path | None,
) -> None:
    """Say what a change of the plan means: commands first, then cards, what it makes stale, the end.

    A...B is what B changed since it left A, A B the difference of the two. With REV alone, or with
    nothing (trunk, where this branch left it), the working tree is compared. Exits 1 where the plan
    has errors after the change.

    \b
    Examples:
      gitwaves review
      gitwaves review main...HEAD
      gitwaves review --staged
      gitwaves review origin/main...HEAD --format markdown >comment.md
    """
    if textconv is not None:
        click.echo(_card_text(textconv.read_bytes()), nl=False)
        return
    before, after = _sides(app, revisions, staged)
    facts: Mapping[str, Fact] = {}
    trunk: Cards | None = None
    with contextlib.suppress(NotReady):
        snapshot = app.store.snapshot()
        facts, trunk = snapshot.facts, snapshot.cards
    wrong = [of_files(app.store, *side).findings for side in (before, after)]
    old, new = (app.store.shelf.read(listing)[0] for listing, _ in (before, after))
    files = before[0].files, after[0].files
    same = {path for path, oid in files[0].items() if files[1].get(path) == oid}
    found = compare(old, new, facts, (wrong[0], wrong[1]), trunk=trunk, same=same)
    if as_json or form == "json":
        click.echo(dumped(review_json(found)), nl=False)
    else:
        write = review_markdown if form == "markdown" else review_text
        click.echo(write(found), nl=False)
    sys.exit(ExitCode.REFUSED if found.broken else ExitCode.FINE)


_Side = tuple[Listing, Tracked]


def _sides(app: App, revisions: tuple[str, ...], staged: bool) -> tuple[_Side, _Side]:
    """What is compared with what.

    Raises:
        UsageError: more than two revisions, or revisions beside --staged.
        GitwavesError: a revision names no commit, or two have no history in common.
    """
    if staged:
        if revisions:
            raise UsageError("--staged goes with no revision", "gitwaves review --staged")
        return _at(app, "HEAD"), _index(app)
    if len(revisions) > 2:
        raise UsageError("at most two revisions can be compared", "gitwaves review A B")
    if len(revisions) == 2:
        return _at(app, revisions[0]), _at(app, revisions[1])
    spec = revisions[0] if revisions else ""
    for dots in ("...", ".."):
        one, found, other = spec.partition(dots)
        if found:
            a, b = one or "HEAD", other or "HEAD"
            return _at(app, _base(app, a, b) if dots == "..." else a), _at(app, b)
    start = spec or _base(app, app.store.trunk()[1], "HEAD")
    return _at(app, start), _working(app)


def _commit(app: App, rev: str) -> Oid:
    commit = app.repo.resolve(rev)
    if commit is None:
        raise GitwavesError(f"no commit {rev!r}", "name a branch, a tag or a commit")
    return commit


def _base(app: App, one: str, other: str) -> Oid:
    bases = app.repo.merge_bases(_commit(app, one), _commit(app, other))
    if not bases:
        raise GitwavesError(
            f"{one} and {other} have no history in common",
            "in a shallow clone, fetch more of it: `git fetch --unshallow`",
        )
    return bases[0]


def _at(app: App, rev: str) -> _Side:
    listing = ("ls-tree", "-r", "-z", "--name-only", _commit(app, rev))
    return app.store.listed_at(rev), Tracked(lambda: app.repo.paths(*listing))


def _working(app: App) -> _Side:
    try:
        return app.store.listed_at(None), _tracked(app)
    except NotReady:  # all of it was taken away
        if app.repo.top is None:
            raise
        return Listing({}, {}, lambda path: b"", lambda paths: None), _tracked(app)


def _tracked(app: App) -> Tracked:
    return Tracked(lambda: app.repo.paths("ls-files", "-z", cwd=app.repo.top))


def _index(app: App) -> _Side:
    """The cards as they are staged."""
    files: dict[str, Oid] = {}
    odd: dict[str, str] = {}
    for entry in app.repo.paths("ls-files", "-s", "-z", "--", ROOT, cwd=app.repo.top):
        where, _, path = entry.partition("\t")
        mode, oid, _ = where.split(" ")
        if mode in ODD_MODES:
            odd[path] = ODD_MODES[mode]
        else:
            files[path] = Oid(oid)
    listing = Listing(
        files,
        odd,
        lambda path: app.repo.blob(files[path]) or b"",
        lambda paths: app.repo.read_ahead(files[path] for path in paths),
    )
    return listing, _tracked(app)


def _card_text(data: bytes) -> str:
    """A card as `git diff` is to compare it; what is no card, as it stands."""
    value: dict[str, object] = {}
    for half in split(data):
        document = load(half, "card") if half.strip() else None
        if document is not None:
            if document.findings or not isinstance(document.value, dict):
                return data.decode(errors="replace")
            value |= document.value
    return card_text(value)


@click.command()
@as_json
@pass_app
def conflicts(app: App, as_json: bool) -> None:
    """Find the branches in flight that will not merge, before their merge point is reached.

    Every two of them, and each with trunk, are merged in memory; what is not committed is not seen.
    Says which files, whose tasks, and which merge point it will stop. Exits 1 where there are any.

    \b
    Examples:
      gitwaves conflicts
      gitwaves conflicts --json | jq '.conflicts[].files'
    """
    found = look(app.store, app.store.snapshot())
    if as_json:
        click.echo(dumped(conflicts_json(found)), nl=False)
    else:
        click.echo(conflicts_text(found), nl=False)
    sys.exit(ExitCode.REFUSED if found.collisions else ExitCode.FINE)


COMMANDS: dict[str, click.Command] = {c.name or "": c for c in (graph, review, conflicts)}
