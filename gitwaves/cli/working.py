"""The commands that do the work: start, verify, merge, run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from gitwaves.cli import App, echo, pass_app
from gitwaves.errors import ExitCode, UsageError
from gitwaves.model import NOTE_LENGTH, Gap, TaskId, noted, printable
from gitwaves.record import replace

_MONEY = click.FloatRange(min=0, min_open=True)
_MINUTES = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("id")
@click.option("--agent", metavar="NAME", help="Who does it; shown on the dashboard.")
@click.option("--takeover", is_flag=True, help="Take a claim whose branch stands still.")
@click.option("--release", is_flag=True, help="Give the claim back.")
@click.option("--open", "open_", metavar="NAME", help="Open a client there, with the brief.")
@pass_app
def start(
    app: App, id: str, agent: str | None, takeover: bool, release: bool, open_: str | None
) -> None:
    """Claim a task and prepare its worktree.

    The worktree holds trunk and all done work that the task needs. A task that is mine already
    succeeds and prints its path.

    \b
    Examples:
      gitwaves start A1
      gitwaves start A1 --agent codex
      gitwaves start A1 --open claude
      gitwaves start A1 --release
    """
    from gitwaves import claims, hooks
    from gitwaves.advancing import advance
    from gitwaves.handing import hand_over

    if release and (agent or takeover or open_):
        raise UsageError("--release goes with no other option")
    advance(app.store)
    if release:
        task = claims.release(app.store, id)
        echo(f"{task} is free again; its branch stays as it is")
        return
    started = claims.start(
        app.store, id, agent=agent or open_, takeover=takeover, trust_trunk=app.trust_trunk
    )
    if who := agent or open_:
        hand_over(app.store, app.store.snapshot(), started.task, who)
    if open_:
        _open(app, started.task, open_, started.path)
    path = str(started.path)
    echo(printable(path) if sys.stdout.isatty() else path)  # as it is for `cd "$(…)"`
    echo(
        f"{started.task} is at work on {started.branch}; work there, commit, then `gitwaves verify`",
        err=True,
    )
    if hooks.absent(app.repo):
        echo(
            "note: no hook is installed in this clone: nothing that leaves its boundary is refused "
            "before `gitwaves verify`; `gitwaves hooks install` changes that",
            err=True,
        )


def _open(app: App, task: TaskId, name: str, worktree: Path) -> NoReturn:
    """Becomes a client with a person in it, in the task's worktree."""
    from gitwaves.advancing import note
    from gitwaves.agents import open_client
    from gitwaves.attempts import brief_for

    text = brief_for(app.store, task)
    argv, env, session = open_client(app.store, app.store.snapshot(), task, name, worktree, text)
    if session:
        note(app.store, task, lambda t: replace(t, session=session))
    os.chdir(worktree)
    os.execvpe(argv[0], argv, env)


@click.command()
@click.argument("id", required=False)
@click.option("--commit", "commit_", is_flag=True, help="Commit everything in the worktree first.")
@click.option("-m", "--message", metavar="MSG", help="The message for --commit.")
@click.option("--unchanged", is_flag=True, help="Say that nothing had to change.")
@pass_app
def verify(app: App, id: str | None, commit_: bool, message: str | None, unchanged: bool) -> None:
    """Run a task's verification on its worktree; a pass and a commit make it done, in either order.

    In the task's worktree the ID may be left out. A task that is stale or unproven is verified in
    a clean checkout.

    \b
    Examples:
      gitwaves verify
      gitwaves verify A1 --commit -m "Add the ledger schema"
    """
    from gitwaves import judging

    if message is not None and not commit_:
        raise UsageError("-m goes with --commit")
    judging.verify(
        app.store,
        id,
        commit=commit_,
        message=message,
        unchanged=unchanged,
        trust_trunk=app.trust_trunk,
        echo=echo,
        confirm=confirm,
    )


def confirm(text: str) -> str | None:
    """Who says that a manual step passes; None where nobody can be asked, or says no."""
    if not sys.stdin.isatty():
        return None
    name = os.environ.get("USER") or "a person"
    return name if click.confirm(f"Confirm: {printable(text)}", err=True) else None


@click.command()
@click.argument("id", required=False)
@click.option("--continue", "resume", is_flag=True, help="Go on after resolving a conflict.")
@click.option("--again", is_flag=True, help="Land a reverted merge point anew.")
@click.option("--rest", "rest_", is_flag=True, help="Land what no merge point takes.")
@pass_app
def merge(app: App, id: str | None, resume: bool, again: bool, rest_: bool) -> None:
    """Land a merge point on trunk: its tasks' verified work, together, verified again as merged.

    \b
    Examples:
      gitwaves merge MP1
      gitwaves merge MP1 --continue
      gitwaves merge --rest
    """
    from gitwaves import merging, remaining
    from gitwaves.advancing import advance

    if rest_ == bool(id) or (rest_ and (resume or again)):
        raise UsageError("name one merge point, or say --rest", "gitwaves merge MP1")
    advance(app.store)
    if rest_:
        landed, failed = remaining.rest(app.store, trust_trunk=app.trust_trunk, confirm=confirm)
        for one in landed:
            echo(f"landed {' '.join(one.tasks)} from {one.node} as {one.commit[:10]}")
            if one.note:
                echo(one.note, err=True)
        if not landed and not failed:
            echo("nothing is left to land")
        for error in failed[:-1]:
            echo(f"Error: {printable(error.message)}", err=True)
        if failed:
            raise failed[-1]
        return
    done = merging.merge(
        app.store,
        id or "",
        again=again,
        resume=resume,
        trust_trunk=app.trust_trunk,
        confirm=confirm,
    )
    echo(f"landed {done.node} ({' '.join(done.tasks)}) as {done.commit[:10]}")
    if done.note:
        echo(printable(done.note), err=True)
    if done.opened:
        echo("runnable now: " + " ".join(done.opened))


@click.command()
@click.option("--agents", type=click.IntRange(1, 256), metavar="N", help="Most agents at once.")
@click.option("--agent", metavar="NAME", help="The profile that runs every task.")
@click.option("--max-cost", type=_MONEY, metavar="USD", help="Start nothing more beyond it.")
@click.option("--max-minutes", type=_MINUTES, metavar="N", help="Stop the run after so long.")
@click.option("--task-max-cost", type=_MONEY, metavar="USD", help="The same for each task.")
@click.option("--task-max-minutes", type=_MINUTES, metavar="N", help="The same for each task.")
@pass_app
def run(
    app: App,
    agents: int | None,
    agent: str | None,
    max_cost: float | None,
    max_minutes: float | None,
    task_max_cost: float | None,
    task_max_minutes: float | None,
) -> None:
    """Run agents on everything that is runnable until nothing is left or nothing can go on.

    Each task gets its worktree, its brief on standard input, and its verification; merge points
    land as they open. Ctrl-C stops every agent and leaves each card true.

    \b
    Examples:
      gitwaves run
      gitwaves run --agents 4 --agent codex
      gitwaves run --max-cost 20 --task-max-minutes 30
    """
    from gitwaves.attempts import Budget
    from gitwaves.live import watch
    from gitwaves.running import Runner

    runner = Runner(
        app.store,
        agents=agents,
        agent=agent,
        trust_trunk=app.trust_trunk,
        budget=Budget(max_cost, max_minutes),
        task_budget=Budget(task_max_cost, task_max_minutes),
    )
    ended = watch(runner)
    for line in ended.said:
        echo(printable(line))
    if ended.interrupted:
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(ExitCode.FINE if ended.complete else ExitCode.REFUSED)


@click.command()
@click.argument("id")
@pass_app
def stop(app: App, id: str) -> None:
    """Stop the agent that `gitwaves run` has at work on a task; its claim stays.

    \b
    Examples:
      gitwaves stop A1
    """
    from gitwaves.agents import stop_agent

    task = app.store.snapshot().require_task(id)
    stop_agent(app.store, task)
    echo(f"{task}: its agent is stopped; `gitwaves start {task} --release` gives the task back")


@click.command()
@pass_app
def sync(app: App) -> None:
    """Bring state up to date: find verified commits that landed while no hook ran.

    \b
    Examples:
      gitwaves sync
    """
    from gitwaves.advancing import sync as bring

    advanced = bring(app.store)
    for one in advanced:
        echo(f"{one.task} is done")
        if one.opened:
            echo("runnable now: " + " ".join(one.opened))
    if not advanced:
        echo("nothing new")


def _noted(text: str) -> str:
    if len(text) > NOTE_LENGTH:
        raise UsageError(
            f"{len(text)} characters are too many: at most {NOTE_LENGTH}",
            "say it in a sentence, and write the rest in a document",
        )
    if not text.strip():
        raise UsageError("there is nothing in that text", "say it in a sentence")
    return noted(text)


@click.command()
@click.argument("id")
@click.argument("text")
@pass_app
def learn(app: App, id: str, text: str) -> None:
    """Record what a task taught, for the tasks that need it and for CLAUDE.md.

    \b
    Examples:
      gitwaves learn A1 "The API returns cents"
    """
    from gitwaves.advancing import advance, note
    from gitwaves.lessons import lesson, taught

    said = _noted(text)
    advance(app.store)
    task = note(app.store, id, lambda t: taught(t, [said]))
    echo(f"{task} taught: {lesson(said)}")


@click.command()
@click.argument("id")
@click.argument("text", required=False)
@click.option("--affects", metavar="IDS", help="The tasks it holds, with commas: B5,B6.")
@click.option("--resolve", is_flag=True, help="The gaps of this task are settled.")
@pass_app
def gap(app: App, id: str, text: str | None, affects: str | None, resolve: bool) -> None:
    """Record where a task's spec was wrong; the tasks it affects are held until it is settled.

    \b
    Examples:
      gitwaves gap A3 "The API returns cents, the spec says euros" --affects B5
      gitwaves gap A3 --resolve
    """
    from gitwaves.advancing import advance, note
    from gitwaves.lessons import taught

    advance(app.store)
    snapshot = app.store.snapshot()
    task = snapshot.require_task(id)
    if resolve:
        note(
            app.store,
            task,
            lambda t: replace(t, spec_gaps=tuple(replace(g, resolved=True) for g in t.spec_gaps)),
        )
        echo(f"the gaps of {task} are settled")
        return
    if not text:
        raise UsageError("say what is wrong, or --resolve", f'gitwaves gap {task} "…" --affects B5')
    named = [snapshot.require_task(a.strip()) for a in (affects or "").split(",") if a.strip()]
    new = Gap(_noted(text), {t: snapshot.cards.digest(t) for t in named})
    note(app.store, task, lambda t: taught(t, [], [new]))
    held = f"; it holds {' '.join(named)}" if named else ""
    echo(f"{task} found a gap{held}")


@click.command()
@click.option("--ignored", is_flag=True, help="Also lose the ignored files that are listed.")
@pass_app
def clean(app: App, ignored: bool) -> None:
    """Remove worktrees and branches whose work has landed.

    \b
    Examples:
      gitwaves clean
      gitwaves clean --ignored
    """
    from gitwaves.cleaning import clean as tidy

    removed, kept = tidy(app.store, ignored=ignored)
    for line in removed:
        echo(f"removed {printable(line)}")
    for line in kept:
        echo(f"kept {printable(line)}")
    if not removed and not kept:
        echo("nothing to remove")


COMMANDS: dict[str, click.Command] = {
    c.name or "": c for c in (start, verify, merge, run, stop, sync, learn, gap, clean)
}
