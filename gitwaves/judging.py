"""`verify` from beginning to end, for the command line, and for `quick` without it."""

from __future__ import annotations

from collections.abc import Callable

from gitwaves.advancing import advance
from gitwaves.errors import GitwavesError, Refused
from gitwaves.handing import news, note_session
from gitwaves.model import TaskId, noted, printable
from gitwaves.store import Snapshot, Store, at_work
from gitwaves.verifying import Verified, task_here
from gitwaves.verifying import verify as run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from gitwaves.git_content import Candidate

    class Echo(Protocol):
        def __call__(self, text: str, *, err: bool = False) -> None: ...


def verify(
    store: Store,
    name: str | None = None,
    *,
    echo: Echo,
    commit: bool = False,
    message: str | None = None,
    unchanged: bool = False,
    trust_trunk: bool = False,
    confirm: Callable[[str], str | None] | None = None,
    begun: Candidate | None = None,
) -> None:
    """Verifies a task, the one at work here where none is named, and says how that ended.

    Args:
        echo: prints a line; with `err=True` on standard error.
        commit: everything in its worktree is committed before, with `message`.
        begun: the content of its worktree, where that is being found out already.

    Raises:
        GitwavesError: it does not pass, or what `verifying.verify` raises.
    """
    advance(store)
    if commit:
        from gitwaves.attempts import commit_all

        snapshot = store.snapshot()
        task = snapshot.require_task(name) if name else task_here(store, snapshot)
        commit_all(store, task, message or f"{task}: {noted(snapshot.cards.tasks[task].title)}")
    note_session(store)
    now = store.latest()
    if here := _at_work(store, now, name):  # who works there may have no hooks that tell
        for line in news(store, store.progress(now, local=False), here):
            echo(printable(line), err=True)
    if name and not commit and not here:
        from gitwaves.renewing import renew

        result = renew(store, name, trust_trunk=trust_trunk, confirm=confirm)
    else:
        result = run(
            store,
            name,
            now,
            unchanged=unchanged,
            trust_trunk=trust_trunk,
            confirm=confirm,
            begun=begun,
        )
    _say_how_it_ended(store, result, echo)


def _at_work(store: Store, snapshot: Snapshot, name: str | None) -> TaskId | None:
    """The task that is named, or at work where the command was called, if it is at work at all."""
    if name is None:
        here = store.repo.here()
        return at_work(snapshot, here.branch) if here and here.branch else None
    task = snapshot.require_task(name)
    return task if at_work(snapshot, snapshot.cards.branch_of(task)) == task else None


def _say_how_it_ended(store: Store, result: Verified, echo: Echo) -> None:
    if result.changed:
        raise Refused(
            f"{result.task}: the steps changed {', '.join(result.changed[:5])}",
            "steps must leave the content that they verify as it is",
        )
    if not result.passed:
        outcome = result.outcome
        echo(outcome.tail, err=True)
        ended = "timed out" if outcome.timed_out else f"exit {outcome.exit}"
        raise GitwavesError(
            f"{result.task} does not pass: step {outcome.failed}, {ended}",
            f"the whole log is in {outcome.log}",
        )
    if result.made:
        made = printable(", ".join(result.made[:5]))
        echo(f"not counted, made by the steps: {made}", err=True)
    if not result.done:
        echo(f"{result.task} passes; it is done once this content is committed")
        if result.differs:
            echo("not committed yet: " + printable(", ".join(result.differs[:10])))
        return
    echo(f"{result.task} is done")
    shown = store.progress(store.latest(), local=False)
    if shown.runnable:
        echo("runnable now: " + " ".join(shown.runnable))
    for point in (p.id for p in shown.merge_points.values() if p.state == "ready"):
        echo(f"{point} can land: gitwaves merge {point}")
