"""`doctor`: looks a clone over, and mends what is ours.

What has been finished is `clean`'s to remove; here it is what is broken, or left by what was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gitwaves import doctoring_git, doctoring_state, doctoring_worktrees
from gitwaves.errors import GitwavesError, NotReady
from gitwaves.git import Repo
from gitwaves.model import Severity
from gitwaves.record import Record
from gitwaves.store import Snapshot, Store
from gitwaves.troubles import Clone, Trouble

_PATIENCE = 10.0  # seconds to wait for the lock
_ROUNDS = 4  # what is mended may bring something else to light

Check = Callable[[Clone], Iterator[Trouble]]

# Looked at in the open: they wait for Git, for the network, or change with nothing of ours.
_OPEN: tuple[tuple[str, Check], ...] = (
    ("settings", doctoring_git.settings),
    ("locks", doctoring_git.locks),
    ("branches", doctoring_git.references),
    ("remote", doctoring_git.remote),
)
# Looked at, and mended, while no other gitwaves writes.
_ALONE: tuple[tuple[str, Check], ...] = (
    ("hooks", doctoring_state.hooks),
    ("hooks", doctoring_state.markers),
    ("branches", doctoring_git.diverged),
    ("worktrees", doctoring_worktrees.worktrees),
    ("merges", doctoring_state.merges),
    ("agents", doctoring_state.agents),
    ("leftovers", doctoring_state.leftovers),
    ("dashboard", doctoring_state.dashboard),
)


class Outcome(Record):
    """What became of a trouble: `done` says how it was mended, `left` why it was not."""

    trouble: Trouble
    done: str | None = None
    left: str | None = None


class Report(Record):
    """How a clone stands: what was wrong and what became of it, and the checks that are fine."""

    outcomes: tuple[Outcome, ...]
    fine: tuple[str, ...]

    @property
    def wrong(self) -> bool:
        """Whether something is still wrong; a warning is not."""
        return any(o.done is None and o.trouble.severity is Severity.ERROR for o in self.outcomes)


def doctor(start: Path, *, fix: bool = False) -> Report:
    """Looks over the clone around `start`; with `fix`, mends what is ours and loses nothing.

    Raises:
        GitwavesError: there is no repository there.
    """
    mended: list[Outcome] = []
    left, fine = _round(Store(Repo.open(start)), fix)
    for _ in range(_ROUNDS):
        now = [o for o in left if o.done is not None]
        if not now:
            break
        mended += now
        left, fine = _round(Store(Repo.open(start)), fix)
    left = [o for o in left if o.done is None]
    ill = {o.trouble.check for o in (*mended, *left)}
    names = dict.fromkeys(["git", *(name for name, _ in (*_OPEN, *_ALONE))])
    return Report((*mended, *left), tuple(n for n in names if n in fine and n not in ill))


def _round(store: Store, fix: bool) -> tuple[list[Outcome], set[str]]:
    """Looks everything over once, and mends what was found with the lock held."""
    found = _look(Clone(store, None), (("git", doctoring_git.version),))
    if found:
        return [Outcome(t) for t in found], set()  # with such a Git nothing else can be told
    snapshot, found = _plan(store)
    found += _look(Clone(store, snapshot), _OPEN)
    fine = {"git", *(name for name, _ in _OPEN)}
    try:
        with store.repo.lock(_PATIENCE):
            snapshot, _ = _plan(store)
            found += _look(Clone(store, snapshot), _ALONE)
            fine |= {name for name, _ in _ALONE}
            return [_mended(t) if fix else Outcome(t) for t in found], fine
    except NotReady:
        found.append(doctoring_state.held_lock(store.repo, _PATIENCE))
    except OSError as error:
        what = error.filename or store.repo.state_dir
        found.append(
            Trouble(
                "lock",
                f"gitwaves cannot write {what}: {error.strerror or error}",
                f"make {store.repo.state_dir} yours and writable",
            )
        )
    return [Outcome(t) for t in found], fine


def _plan(store: Store) -> tuple[Snapshot | None, list[Trouble]]:
    if doctoring_git.unreadable_refs(store.repo):
        return None, []  # what would be read is not what is; the references are said elsewhere
    try:
        return store.snapshot(), []
    except GitwavesError as error:
        return None, [Trouble("plan", error.message, error.hint or "see `git fsck`")]


def _look(clone: Clone, checks: Sequence[tuple[str, Check]]) -> list[Trouble]:
    found: list[Trouble] = []
    for name, check in checks:
        try:
            found += check(clone)
        except GitwavesError as error:
            hint = error.hint or "mend what else is said first, then run `gitwaves doctor` again"
            found.append(Trouble(name, f"cannot be looked at: {error.message}", hint))
    return found


def _mended(trouble: Trouble) -> Outcome:
    if trouble.mend is None:
        return Outcome(trouble, left=None)
    try:
        return Outcome(trouble, done=trouble.mend())
    except (GitwavesError, OSError) as error:
        return Outcome(trouble, left=str(error))
