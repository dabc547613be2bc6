"""The command line: parse, call, echo, exit. Only here are errors caught."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from gitwaves import __version__, direct
from gitwaves.errors import ExitCode, GitwavesError
from gitwaves.git import Repo
from gitwaves.model import printable
from gitwaves.record import Record
from gitwaves.store import Store

SECTIONS = {
    "Everyday": (
        "status",
        "next",
        "show",
        "start",
        "verify",
        "merge",
        "run",
        "stop",
        "logs",
        "brief",
        "learn",
        "gap",
    ),
    "Setting up": ("init", "import", "check", "plan", "trust", "hooks", "demo"),
    "Now and then": (
        "sync",
        "audit",
        "review",
        "conflicts",
        "graph",
        "retro",
        "export",
        "doctor",
        "clean",
    ),
}
# Where each command is: only what is called is imported.
_MODULES = {
    "working": ("start", "verify", "merge", "run", "stop", "sync", "learn", "gap", "clean"),
    "setting_up": ("init", "import", "trust", "hooks", "hook", "demo"),
    "teaching": ("retro", "export"),
    "proving": ("audit",),
    "mending": ("doctor",),
    "reading": ("status", "next", "show", "check", "plan", "brief", "logs"),
    "foresight": ("graph", "review", "conflicts"),
}
_HOME = {command: module for module, commands in _MODULES.items() for command in commands}


class App(Record, frozen=False):
    """What every command needs: where it was called, and the repository there."""

    path: Path
    trust_trunk: bool = False

    @cached_property
    def repo(self) -> Repo:
        return Repo.open(self.path)

    @cached_property
    def store(self) -> Store:
        return Store(self.repo)


class Commands(click.Group):
    """The root group: commands are imported when called, and listed by what they are for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        home = _HOME.get(cmd_name)
        if home is None:
            return None
        command: click.Command = import_module(f"gitwaves.cli.{home}").COMMANDS[cmd_name]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from gitwaves.model import closest

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            guess = closest(args[0], self.list_commands(ctx))
            if guess is None:
                raise
            message = f"No such command {args[0]!r}; did you mean {guess!r}?"
            raise click.UsageError(message, ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                if command is not None:
                    rows.append((name, command.get_short_help_str(limit=70)))
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="gitwaves")
@click.option("-C", "path", metavar="DIR", default=".", help="Run as if called in DIR.")
@click.option(
    "--trust-trunk",
    is_flag=True,
    help="Run trunk's steps without asking whether to trust them (for CI).",
)
@click.pass_context
def root(ctx: click.Context, path: str, trust_trunk: bool) -> None:
    """Build one approved design doc with many coding agents at once, and know where they stand.

    State lives in task cards under .workstreams/ and is advanced by verified commits.
    """
    ctx.obj = App(Path(path), trust_trunk)


def pass_app(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hands the `App` to a command as its first argument."""
    return click.make_pass_decorator(App)(function)


def echo(text: str = "", *, err: bool = False) -> None:
    """Prints a line; what a terminal could act on is escaped by who made the text."""
    click.echo(text, err=err)


def colored() -> bool:
    """Whether to colour: only on a terminal, never with NO_COLOR."""
    return (
        sys.stdout is not None
        and sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


def _fail(message: str, hint: str | None, code: int) -> NoReturn:
    safe = "\n".join(printable(line) for line in message.splitlines())
    click.echo(f"Error: {safe}", err=True)
    if hint:
        click.echo("Hint: " + "\n".join(printable(line) for line in hint.splitlines()), err=True)
    sys.exit(code)


def system_error(error: OSError) -> NoReturn:
    """Says what the system refused, and exits."""
    what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    _fail(
        what, "make room or mend the permissions, then run the same command again", ExitCode.REFUSED
    )


def main(argv: list[str] | None = None) -> None:
    """Runs one command and exits with its code."""
    direct.prepare()
    try:
        code = root.main(argv, prog_name="gitwaves", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  # all of them are told apart there
        end(error)
    sys.exit(code if isinstance(code, int) else ExitCode.FINE)


def end(error: BaseException) -> NoReturn:
    """Says why a command ended as it did, and exits with its code."""
    try:
        raise error
    except GitwavesError as error:
        _fail(error.message, error.hint, error.code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(ExitCode.FINE)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "gitwaves"
        _fail(error.format_message(), f"`{where} --help` shows how it is called", ExitCode.USAGE)
    except click.ClickException as error:
        _fail(error.format_message(), None, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # the reader is gone (`| head`): nothing to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.FINE)
    except OSError as error:
        system_error(error)
    except Exception as error:  # noqa: BLE001  # the last line of defence: our bug, exit 3
        import traceback

        if os.environ.get("GITWAVES_DEBUG"):
            traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        _fail(
            f"this is a bug in gitwaves: {type(error).__name__}: {error} ({place})",
            "please report it; GITWAVES_DEBUG=1 shows where it happened",
            ExitCode.BUG,
        )
