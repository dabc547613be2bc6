"""The commands that look ahead: what a plan looks like, what a change of it means, what collides."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

import click

from gitwaves.cli import App, colored, pass_app
from gitwaves.cli.reading import _color as color
from gitwaves.cli.reading import _dump as dump
from gitwaves.cli.reading import as_json
from gitwaves.drawing import FOLDS, picture, picture_json
from gitwaves.drawing_formats import FORMATS, ascii_text
from gitwaves.errors import NotReady, UsageError
from gitwaves.forecast import Forecast, forecast
from gitwaves.graph import graph_of
from gitwaves.model import Cards, Fact
from gitwaves.plan import progress, schedule

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
        dump(picture_json(drawn))
    elif form == "ascii":
        click.echo(ascii_text(drawn, color=color if colored() else None), nl=False)
    else:
        click.echo(FORMATS[form](drawn), nl=False)


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


COMMANDS: dict[str, click.Command] = {c.name or "": c for c in (graph,)}
