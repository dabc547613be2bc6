"""Showing a run: the dashboard live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from gitwaves.agents import Working, working
from gitwaves.conflicts import ahead
from gitwaves.model import Progress, duration, printable
from gitwaves.render import WIDTH, dashboard
from gitwaves.running import Ended, Runner
from gitwaves.store import Store

_RINGS = ("failed", "not landed", "landed as")  # a bell for what a person waits for


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
                if any(word in line for word in _RINGS):
                    live.console.bell()
            if runner.progress is not None:
                live.update(Text(screen(runner.progress, working(runner.store))), refresh=True)

        ended = runner.run(tick)
        live.console.bell()
        return ended


def follow(store: Store) -> None:
    """Shows the state and what agents do, again and again, until it is interrupted.

    Where the output is no terminal it is printed each time that it changes.
    """
    shown = ""
    while True:
        snapshot = store.snapshot()
        text = screen(store.progress(snapshot), working(store))
        line, _ = ahead(store, snapshot)
        text += f"\n{line}\n" * bool(line)
        if text != shown:
            shown = text
            clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
            sys.stdout.write(clear + text)
            sys.stdout.flush()
        time.sleep(1)


def screen(progress: Progress, agents: Iterable[Working]) -> str:
    """The dashboard, and below it what each agent is doing, since when and at what cost."""
    rows = [
        "  ".join(
            filter(
                None,
                (
                    f"  {agent.task:<5}",
                    f"{duration(agent.seconds):>7}",
                    f"${agent.said.money:.2f}" if agent.said.money else "",
                    printable(agent.said.last),
                ),
            )
        )[:WIDTH].rstrip()
        for agent in agents
    ]
    return dashboard(progress) + "".join(f"{row}\n" for row in (["", "AGENTS", *rows] * bool(rows)))


def _plain(runner: Runner) -> None:
    for line in runner.lines():
        sys.stdout.write(printable(line) + "\n")
        sys.stdout.flush()
