"""The commands that pass on what was learned: looking back, and what agent clients are given."""

from __future__ import annotations

import json
import sys

import click

from gitwaves.cli import App, echo, pass_app
from gitwaves.errors import ExitCode, UsageError
from gitwaves.model import printable

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


@click.group()
def export() -> None:
    """Write files that teach agent clients the plan and its loop, for review on trunk.

    \b
    Examples:
      gitwaves export claude-agents
      gitwaves export claude-agents --check
    """


@export.command(name="claude-agents")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if something would be written.")
@pass_app
def claude_agents(app: App, check: bool) -> None:
    """Write an agent a workstream, a lead that dispatches them, skills, and hooks.

    The agents and the lead are Claude Code's; the skills are read by Codex, Gemini and opencode too.
    What somebody else wrote is left as it is, and it is said what to add.

    \b
    Examples:
      gitwaves export claude-agents && git add .claude .agents .codex
      claude --agent gitwaves-lead
    """
    from gitwaves.exporting import export as write

    done = write(app.store, check=check)
    for path in done.written:
        echo(f"{'is not up to date: ' if check else 'wrote '}{printable(path)}")
    for path in done.removed:
        echo(f"{'is of a workstream that is gone: ' if check else 'removed '}{printable(path)}")
    for line in done.left:
        echo(f"left {printable(line)}")
    for path, text in done.missing.items():
        echo(f"left {path}, which is there already; add this to it:\n{text}")
    if not done.written and not done.removed:
        echo("up to date" if check else "nothing to write: it is up to date", err=True)
    elif not check:
        echo("review them, then commit them", err=True)
    sys.exit(ExitCode.REFUSED if check and (done.written or done.removed) else ExitCode.FINE)


COMMANDS: dict[str, click.Command] = {c.name or "": c for c in (retro, export)}
