"""The commands that set right what went wrong."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from gitwaves.cli import App, echo, pass_app
from gitwaves.errors import ExitCode
from gitwaves.model import printable

if TYPE_CHECKING:  # else every command would load it
    from gitwaves.doctoring import Report


@click.command()
@click.option("--fix", is_flag=True, help="Mend what is gitwaves' own; nothing is lost.")
@click.option("-v", "--verbose", is_flag=True, help="Also name what is fine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; the fields are stable.")
@pass_app
def doctor(app: App, fix: bool, verbose: bool, as_json: bool) -> None:
    """Name what is wrong in this clone, and how to mend it; exit 1 when something is.

    What others made (Git's lock files, a folder in the way, another program's hooks) is named and
    never touched. To remove what is finished, see `gitwaves clean`.

    \b
    Examples:
      gitwaves doctor
      gitwaves doctor --fix
    """
    from gitwaves.doctoring import doctor as look

    report = look(app.path, fix=fix)
    if as_json:
        echo(json.dumps(_json(report), indent=2))
        sys.exit(ExitCode.REFUSED if report.wrong else ExitCode.FINE)
    for name in report.fine if verbose else ():
        echo(f"{name}: fine")
    mendable = 0
    for outcome in report.outcomes:
        trouble = outcome.trouble
        what = "warning: " if trouble.severity == "warning" else ""
        echo(f"{trouble.check}: {what}{printable(trouble.message)}")
        if outcome.done is not None:
            echo(f"  mended: {printable(outcome.done)}")
            continue
        if outcome.left is not None:
            echo(f"  left: {printable(outcome.left)}")
        mendable += trouble.mend is not None and not fix
        for line in trouble.hint.splitlines():
            echo(f"  {printable(line)}")
    if mendable:
        echo(f"`gitwaves doctor --fix` mends {mendable} of {len(report.outcomes)}", err=True)
    if not report.outcomes:
        echo("nothing is wrong")
    sys.exit(ExitCode.REFUSED if report.wrong else ExitCode.FINE)


def _json(report: Report) -> dict[str, Any]:
    troubles = [
        {
            "check": o.trouble.check,
            "severity": str(o.trouble.severity),
            "message": o.trouble.message,
            "hint": o.trouble.hint,
            "fixable": o.trouble.mend is not None,
            "mended": o.done,
            "left": o.left,
        }
        for o in report.outcomes
    ]
    return {"version": 1, "wrong": report.wrong, "troubles": troubles, "fine": list(report.fine)}


COMMANDS: dict[str, click.Command] = {c.name or "": c for c in (doctor,)}
