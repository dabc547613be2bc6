"""The command that asks whether what is said to be done was done."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from gitwaves.cli import App, echo, pass_app
from gitwaves.cli.reading import as_json
from gitwaves.errors import ExitCode, UsageError
from gitwaves.model import printable

if TYPE_CHECKING:
    from gitwaves.auditing import Audited


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--rerun", "again", is_flag=True, help="Run the steps again, in clean checkouts.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Most checkouts at once with --rerun; default: the number of cores.",
)
@as_json
@pass_app
def audit(app: App, ids: tuple[str, ...], again: bool, jobs: int | None, as_json: bool) -> None:
    """Hold the evidence of everything that is done against history; name IDs to take only those.

    The commit, its code tree, the spec digest, the steps, the signature, the done commit. Forged evidence that is
    right in all of that is found by --rerun. Nothing is changed. Exits 1 when any does not hold.

    \b
    Examples:
      gitwaves audit
      gitwaves audit --rerun A1 A2
      gitwaves --trust-trunk audit --rerun --jobs 4 --json
    """
    from gitwaves import auditing

    if jobs is not None and not again:
        raise UsageError("--jobs goes with --rerun")
    app.store.signatures.fresh = True
    snapshot = app.store.snapshot()
    found = auditing.audit(app.store, snapshot, ids)
    if again:
        shown = _Shown(found)
        found = auditing.rerun(
            app.store,
            snapshot,
            found,
            jobs=jobs or auditing.cores(),
            trust_trunk=app.trust_trunk,
            tick=shown,
        )
        shown.clear()
    if as_json:
        echo(json.dumps(auditing.json_of(snapshot, found), indent=2, ensure_ascii=False))
    else:
        for line in auditing.text_of(found).splitlines():
            echo(printable(line))
    bad = any(a.bad for a in found)
    sys.exit(ExitCode.REFUSED if bad else ExitCode.FINE)


class _Shown:
    """Progress on standard error: one line that is written over on a terminal, else a line each."""

    def __init__(self, found: Sequence[Audited]) -> None:
        self._total = len(found)
        self._ended = 0
        self._terminal = sys.stderr.isatty()

    def __call__(self, ended: Audited | None, running: tuple[str, ...]) -> None:
        from gitwaves.auditing import line_of

        if ended is not None:
            self._ended += 1
            self.clear()
            click.echo(f"[{self._ended}/{self._total}] {printable(line_of(ended))}", err=True)
        if self._terminal and running:
            text = f"[{self._ended}/{self._total}] running again: {' '.join(running)}"
            click.echo(f"\r\x1b[K{printable(text)[:100]}", nl=False, err=True)

    def clear(self) -> None:
        """Takes away the line that is written over."""
        if self._terminal:
            click.echo("\r\x1b[K", nl=False, err=True)


COMMANDS: dict[str, click.Command] = {"audit": audit}
