"""The commands that pass on what was learned: looking back, and what agent clients are given."""

from __future__ import annotations

import json

import click

from gitwaves.cli import App, echo, pass_app
from gitwaves.errors import UsageError

_FORMATS = ("text", "json", "markdown")


@click.command()
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), help="How it is printed; default: text."
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@pass_app
def retro(app: App, form: str | None, as_json: bool) -> None:
    """Look back: spec gaps, attempts, estimates, cost, and what was waited for.

    All of it is read from history: a clone says the same.

    \b
    Examples:
      gitwaves retro
      gitwaves retro --format markdown >docs/retro.md
      gitwaves retro --json | jq .total
    """
    from gitwaves import retro as looking

    if as_json and form not in {None, "json"}:
        raise UsageError(f"--json and --format {form} are two different things")
    snapshot = app.store.snapshot()
    shown = app.store.progress(snapshot, local=False)
    found = looking.retro(shown, app.store.landing_times(snapshot))
    if as_json or form == "json":
        echo(json.dumps(looking.retro_json(found), indent=2, ensure_ascii=False))
    elif form == "markdown":
        click.echo(looking.retro_markdown(found), nl=False)
    else:
        click.echo(looking.retro_text(found), nl=False)


COMMANDS: dict[str, click.Command] = {c.name or "": c for c in (retro,)}
