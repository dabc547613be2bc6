"""The commands that look ahead: what a plan looks like, what a change of it means, what collides."""

from __future__ import annotations

import click

from gitwaves.cli import App, colored, pass_app
from gitwaves.cli.reading import _color as color
from gitwaves.cli.reading import _dump as dump
from gitwaves.cli.reading import as_json
from gitwaves.drawing import FOLDS, picture, picture_json
from gitwaves.drawing_formats import FORMATS, ascii_text


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


COMMANDS: dict[str, click.Command] = {c.name or "": c for c in (graph,)}
