"""The commands that set a plan up, and the one that Git's hooks call."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gitwaves.cli import App, echo, pass_app
from gitwaves.errors import ExitCode, Refused, Untrusted
from gitwaves.model import printable


@click.command()
@click.option("--title", help="The plan's title; default: the folder's name.")
@click.option(
    "--trunk", metavar="BRANCH", help="The branch that work lands on; default: the current one."
)
@click.option(
    "--agents",
    type=click.IntRange(1, 256),
    default=8,
    show_default=True,
    help="Most tasks at work at once.",
)
@click.option("--agent", default="claude", show_default=True, help="The agent profile.")
@click.option(
    "--no-hooks", is_flag=True, help="Leave Git's hooks alone; `gitwaves sync` does without."
)
@pass_app
def init(
    app: App, title: str | None, trunk: str | None, agents: int, agent: str, no_hooks: bool
) -> None:
    """Set gitwaves up in this repository: .workstreams/ and Git hooks. Twice is as good as once.

    \b
    Examples:
      gitwaves init
      gitwaves init --title "Payments platform"
    """
    from gitwaves import planning

    done = planning.init(
        app.repo, title=title, trunk=trunk, agents=agents, agent=agent, with_hooks=not no_hooks
    )
    for line in done.said:
        echo(line)
    if not done.said:
        echo("nothing to do: it is set up already")
    if done.hooks_refused is not None:
        echo(f"no hooks: {done.hooks_refused.message}", err=True)
        echo(f"Hint: {done.hooks_refused.hint}", err=True)
    if done.said and app.repo.config("diff.gitwaves.textconv") is None:
        echo(
            "to see in `git diff` what changed in a card, and not its quoting and order:", err=True
        )
        echo('  git config diff.gitwaves.textconv "gitwaves review --textconv"', err=True)
        echo("  git config diff.gitwaves.cachetextconv true", err=True)
    echo("next: commit a design doc, then `gitwaves import docs/design.md`", err=True)


@click.command(name="import")
@click.argument("doc", type=click.Path(path_type=Path))
@click.option("--draft", is_flag=True, help="Take a doc that is not committed on trunk.")
@pass_app
def import_(app: App, doc: Path, draft: bool) -> None:
    """Cut task cards from a design doc in Markdown, for review in the working tree.

    Importing again after the doc changed merges field by field: your own edits stay.

    \b
    Examples:
      gitwaves import docs/design.md
    """
    from gitwaves import planning

    path = doc if doc.is_absolute() else Path(app.path) / doc
    result = planning.import_doc(app.store, path, draft=draft)
    for line in result.report:
        echo(printable(line))
    for finding in result.conflicts:
        echo(str(finding), err=True)
    if result.files or result.deleted:
        echo(
            f"{planning.counts(result.files)} written; review them, then commit .workstreams on trunk",
            err=True,
        )
    else:
        echo("no card changes")
    bad = any(f.severity == "error" for f in result.conflicts)
    sys.exit(ExitCode.REFUSED if bad else ExitCode.FINE)


@click.command()
@click.option("--yes", is_flag=True, help="Trust without asking; not for agents.")
@pass_app
def trust(app: App, yes: bool) -> None:
    """Show every command that trunk's plan would run here, and trust them after a yes.

    It stops surprise execution and is no sandbox: what a step runs, runs as you.

    \b
    Examples:
      gitwaves trust
      gitwaves trust --yes
    """
    from gitwaves.trust import Trust, agent_session, commands_of

    cards = app.store.snapshot().cards
    held = Trust(app.repo.common, app.repo.clone_id())
    named = commands_of(cards)
    news = held.news(named)
    new = [command for one in news for command in one.new]
    if not new:
        echo("nothing new to trust")
        return
    for one in news:
        for line in one.lines("  $ "):
            echo(line)
    if caller := agent_session():
        raise Untrusted(
            f"an agent cannot give trust ({caller} is set)",
            "run `gitwaves trust` in your own terminal",
        )
    if not yes:
        if not sys.stdin.isatty():
            raise Untrusted(
                "trust is asked for on a terminal", "run it there, or read the above and say --yes"
            )
        if not click.confirm(f"Trust these {len(new)} commands in this clone?"):
            raise Refused("not trusted", "nothing was changed")
    held.grant(named)
    echo(f"{len(new)} commands are trusted in this clone")


@click.group()
def hooks() -> None:
    """Install or remove Git's hooks; whatever hooks were there go on running.

    \b
    Examples:
      gitwaves hooks install
      gitwaves hooks uninstall
      gitwaves -C /srv/git/payments.git hooks install --server
    """


_server = click.option(
    "--server",
    is_flag=True,
    help="The pre-receive hook of a bare repository, which refuses what `check --base` refuses.",
)


@hooks.command()
@_server
@pass_app
def install(app: App, server: bool) -> None:
    """Install the hooks in the common Git directory; idempotent."""
    from gitwaves import hooks as installed

    said = installed.install_server(app.repo) if server else installed.install(app.repo)
    for line in said or ["the hooks are installed already"]:
        echo(line)


@hooks.command()
@_server
@pass_app
def uninstall(app: App, server: bool) -> None:
    """Remove the hooks without a trace."""
    from gitwaves import hooks as installed

    said = installed.uninstall_server(app.repo) if server else installed.uninstall(app.repo)
    for line in said or ["no hooks of gitwaves are installed"]:
        echo(line)


@hooks.command()
def agent() -> None:
    """Answer what Claude Code or Codex asks on standard input; they call it, people do not."""
    from gitwaves import agenthooks

    said = agenthooks.answer(sys.stdin.read())
    if said:
        echo(said)


@click.command(hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@pass_app
def hook(app: App, name: str, args: tuple[str, ...]) -> None:
    """What Git's hooks call."""
    if name == "pre-receive":
        from gitwaves import receiving

        receiving.run(app.path, sys.stdin.buffer.read().decode(errors="surrogateescape"))
        return
    from gitwaves import githooks

    githooks.call(app.path, name, list(args))


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option(
    "--agents",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Most agents at once.",
)
@pass_app
def demo(app: App, folder: Path | None, agents: int) -> None:
    """Build a small service platform with scripted agents in a scratch repository, and show it.

    \b
    Examples:
      gitwaves demo
      gitwaves demo /tmp/payments --agents 4
    """
    from gitwaves.demonstration import demonstrate

    del app
    ended, path = demonstrate(folder, agents)
    for line in ended.said:
        echo(printable(line))
    echo(f"the repository is {path}")
    echo(f"  cd {path} && gitwaves status && git log --graph --oneline", err=True)
    if ended.interrupted:
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(ExitCode.FINE if ended.complete else ExitCode.REFUSED)


COMMANDS: dict[str, click.Command] = {
    c.name or "": c for c in (init, import_, trust, hooks, hook, demo)
}
