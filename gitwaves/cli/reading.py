"""The commands that only read."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gitwaves import checking, jsonout, pages, quick, render, showing
from gitwaves.cards import load_cards
from gitwaves.cli import App, colored, echo, pass_app
from gitwaves.differing import DIFFERING
from gitwaves.errors import CycleError, ExitCode, GitwavesError, NotReady, UsageError
from gitwaves.graph import graph_of
from gitwaves.model import DASHBOARD_PATH, Cards, Progress, Severity, printable
from gitwaves.plan import progress, schedule

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON; the fields are stable.")


def plain_progress(cards: Cards) -> Progress:
    """A plan as its specs alone have it, nothing begun."""
    graph = graph_of(cards)
    return progress(cards, graph, schedule(cards, graph), {})


@click.command()
@click.argument("rev", required=False)
@click.option(
    "--write", is_flag=True, help=f"Also write {DASHBOARD_PATH}, on trunk's worktree only."
)
@click.option("--watch", is_flag=True, help="Show it live, with what agents do, until Ctrl-C.")
@as_json
@pass_app
def status(app: App, rev: str | None, write: bool, watch: bool, as_json: bool) -> None:
    """Show where everything stands.

    What counts is what is committed; which cards differ in the working tree is said below it. Of
    4,000 cards and more, those that are not named here are looked at every ten seconds.

    With REV, everything is read from that commit's tree.

    \b
    Examples:
      gitwaves status
      gitwaves status --watch
      gitwaves status --json | jq .counts
    """
    if watch:
        if rev or write or as_json:
            raise UsageError("--watch goes with nothing else")
        from gitwaves.live import follow

        follow(app.store)
        return
    snapshot = app.store.snapshot(rev)
    if write:
        from gitwaves.planning import write_in

        here = app.repo.here()
        if here is None or here.branch != snapshot.trunk:
            raise GitwavesError(
                f"--write works on {snapshot.trunk} only", f"switch to {snapshot.trunk} first"
            )
        text = render.dashboard(app.store.progress(snapshot, local=False))
        write_in(here.path, DASHBOARD_PATH, text.encode("ascii"))
    color = showing.styled if colored() else None
    text, whole = showing.status(app.store, snapshot, as_json=as_json, color=color, now=rev is None)
    click.echo(text, nl=False)
    if rev is None and not as_json:
        _say_uncommitted(app)
    if whole:
        quick.keep(text, snapshot.watched)


def _say_uncommitted(app: App, name: str | None = None) -> None:
    """Says which cards differ in the working tree; `name`: of the one thing that is shown."""
    top = app.repo.top
    if top is None or not (top / ".workstreams").is_dir():
        return
    line = quick.noted()
    if line is None:
        args = ("status", *DIFFERING, "--", ".workstreams")
        line = quick.note((entry[3:] for entry in app.repo.paths(*args, cwd=top)), name)
    if line:
        echo(line, err=True)


@click.command(name="next")
@as_json
@pass_app
def next_(app: App, as_json: bool) -> None:
    """List the tasks that can start now, the most urgent first.

    \b
    Examples:
      gitwaves next
      gitwaves next --json | jq -r '.tasks[].id'
    """
    snapshot = app.store.snapshot()
    text = showing.next_(app.store, snapshot, as_json=as_json)
    click.echo(text, nl=False)
    if not as_json:
        _say_uncommitted(app)
    if showing.lasts(snapshot):
        quick.keep(text, snapshot.watched)


@click.command()
@click.argument("id")
@as_json
@pass_app
def show(app: App, id: str, as_json: bool) -> None:
    """Show one task, merge point or batch: its spec, its state, and why it is blocked.

    \b
    Examples:
      gitwaves show A1
      gitwaves show MP1 --json
    """
    click.echo(showing.show(app.store, id, as_json=as_json), nl=False)
    if not as_json:
        _say_uncommitted(app, id)


@click.command()
@click.argument("rev", required=False)
@click.option("--strict", is_flag=True, help="Exit 1 on warnings too.")
@click.option(
    "--fix", is_flag=True, help="Add missing tracking halves (in the working tree, on trunk)."
)
@click.option(
    "--base", metavar="BASE", help="Check the commits since BASE instead, one by one (for CI)."
)
@click.option(
    "--branch", metavar="NAME", help="With --base: the branch they are for; else it is found."
)
@click.option("--format", "form", type=click.Choice(checking.FORMATS), help="Default: text.")
@as_json
@pass_app
def check(
    app: App,
    rev: str | None,
    strict: bool,
    fix: bool,
    base: str | None,
    branch: str | None,
    form: str | None,
    as_json: bool,
) -> None:
    """Check the cards of the working tree, or of REV: schema, ids, needs, cycles, boundaries.

    With --base, check what the commits from BASE to REV (HEAD) did: paths outside the boundary,
    spec halves, other worktrees' cards, tracking and evidence that gitwaves did not write.

    Prints path:line:column: severity: message. Warnings exit 0, with --strict 1.

    \b
    Examples:
      gitwaves check
      gitwaves check main --strict
      gitwaves check --base origin/main --format github
    """
    form = checking.require_format(form, as_json)
    if base is not None:
        if fix:
            raise UsageError("--fix goes with no --base", "say one of them")
        said, looked_at = checking.of_range(app.store, base, rev, branch)
        _say(said, form, looked_at)
        sys.exit(ExitCode.REFUSED if said else ExitCode.FINE)
    if branch is not None:
        raise UsageError("--branch goes with --base", "gitwaves check --base main --branch ws/A")
    if fix:
        _fix(app)
    findings, looked_at = checking.of_plan(app.store, rev)
    _say(checking.of_cards(findings), form, looked_at)
    bad = any(strict or f.severity is Severity.ERROR for f in findings)
    sys.exit(ExitCode.REFUSED if bad else ExitCode.FINE)


def _say(findings: Sequence[Mapping[str, Any]], form: str, looked_at: str) -> None:
    lines, besides = checking.said_of(findings, form, looked_at)
    for line in lines:
        echo(line)
    if besides:
        echo(besides, err=True)


def _fix(app: App) -> None:
    from gitwaves.halves import join, planned, split
    from gitwaves.planning import write_in

    here = app.repo.here()
    files, _ = app.store.working_files()
    config = load_cards(files).config
    if here is None or here.branch != config.trunk:
        raise GitwavesError(
            f"--fix works on {config.trunk} only", f"switch to {config.trunk} first"
        )
    for path, data in sorted(files.items()):
        parts = path.split("/")
        if len(parts) == 3 and parts[2].endswith(".yaml") and parts[2] != "workstream.yaml":
            spec, tracking = split(data)
            if not tracking.strip() and b"\ntracking:" not in spec:
                write_in(here.path, path, join(spec, planned(parts[2].removesuffix(".yaml"))))
                echo(f"{path}: added its tracking half")


@click.command()
@click.argument("rev", required=False)
@click.option("--agents", metavar="N,N,...", help="Play it forward with so many agents at once.")
@as_json
@pass_app
def plan(app: App, rev: str | None, agents: str | None, as_json: bool) -> None:
    """Show the plan of the working tree, or of REV: batches, waves, merge points, critical path.

    With --agents: when it would end with so many agents, how much each has to do, what barriers
    between batches cost, and what limits it most; estimates learn from the tasks that are done.

    \b
    Examples:
      gitwaves plan
      gitwaves plan --agents 1,2,4,8
      gitwaves plan main --json
    """
    cards = app.store.shelf.read(app.store.listed_at(rev))[0]
    errors = [f for f in cards.findings if f.severity is Severity.ERROR]
    for finding in errors:
        echo(str(finding), err=True)
    graph = graph_of(cards)
    if cycle := graph.cycle():
        raise CycleError(cycle)
    shown = plain_progress(cards)
    if agents is not None:
        from gitwaves.cli.foresight import foreseen
        from gitwaves.forecast import forecast_json, forecast_text

        found = foreseen(app, cards, rev, agents)
        if as_json:
            foretold = {**jsonout.plan_outline(shown), "forecast": forecast_json(found)}
            click.echo(showing.dumped_with(foretold, jsonout.plan_tasks(shown)), nl=False)
        else:
            click.echo(forecast_text(found), nl=False)
    elif as_json:
        outline, tasks = jsonout.plan_outline(shown), jsonout.plan_tasks(shown)
        click.echo(showing.dumped_with(outline, tasks), nl=False)
    else:
        click.echo(pages.plan_text(shown), nl=False)
    sys.exit(ExitCode.REFUSED if errors else ExitCode.FINE)


@click.command()
@click.argument("id", required=False)
@pass_app
def brief(app: App, id: str | None) -> None:
    """Print what an agent needs to know to do a task, as one Markdown text.

    In the task's worktree the ID may be left out.

    \b
    Examples:
      gitwaves brief A1 | claude -p
    """
    from gitwaves.attempts import brief_for
    from gitwaves.trust import agent_session
    from gitwaves.verifying import task_here

    snapshot = app.store.snapshot()
    task = snapshot.require_task(id) if id else task_here(app.store, snapshot)
    click.echo(brief_for(app.store, task, agent=agent_session() is not None), nl=False)


@click.command()
@click.argument("id")
@click.option("-f", "--follow", is_flag=True, help="Go on as the log grows.")
@pass_app
def logs(app: App, id: str, follow: bool) -> None:
    """Print the last log of a task: what its agent, or its verification, said.

    \b
    Examples:
      gitwaves logs A1 -f
    """
    import time

    from gitwaves.clients import readable

    snapshot = app.store.snapshot()
    if id not in snapshot.cards.merge_points:
        snapshot.require_task(id)
    folder = app.repo.state_dir / "logs" / id
    found = sorted(filter(Path.is_file, folder.glob("*.log")), key=lambda p: p.stat().st_mtime_ns)
    if not found:
        raise NotReady(
            f"{id} has no log yet", f"`gitwaves verify {id}` or `gitwaves run` makes one"
        )
    with found[-1].open(errors="replace") as file:
        torn = ""
        while True:
            whole, newline, torn = (torn + file.read()).rpartition("\n")
            if not follow:
                whole, torn = whole + newline + torn, ""
            for line in readable(whole):
                echo("\t".join(map(printable, line.split("\t"))))
            if not follow:
                return
            time.sleep(0.3)


COMMANDS: dict[str, click.Command] = {
    c.name or "": c for c in (status, next_, show, check, plan, brief, logs)
}
