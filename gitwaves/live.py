"""Showing a run: the dashboard live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys

from gitwaves.model import printable
from gitwaves.render import dashboard
from gitwaves.running import Ended, Runner


def watch(runner: Runner) -> Ended:
    """Runs a runner and shows what happens."""
    if not sys.stdout.isatty():
        return runner.run(lambda: _plain(runner))
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    with Live(console=console, auto_refresh=False, transient=False) as live:

        def tick() -> None:
            for line in runner.lines():
                live.console.print(Text(printable(line)))
            if runner.progress is not None:
                live.update(Text(dashboard(runner.progress)), refresh=True)

        return runner.run(tick)


def _plain(runner: Runner) -> None:
    for line in runner.lines():
        sys.stdout.write(printable(line) + "\n")
        sys.stdout.flush()
