"""What `doctor` finds: a trouble, and the clone that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

from gitwaves.git import Listed, Repo, Worktree
from gitwaves.model import Branch, Severity, TaskId
from gitwaves.record import Record
from gitwaves.store import Snapshot, Store, at_work


class Trouble(Record):
    """One thing that is wrong in a clone.

    `mend` puts right what is ours, says what it did, and raises where that would lose something;
    None: it is not ours to mend.
    """

    check: str  # the name of the check that found it
    message: str
    hint: str  # how to mend it by hand
    severity: Severity = Severity.ERROR
    mend: Callable[[], str] | None = None


class Clone(Record):
    """The clone that is looked at; `snapshot` is None where its plan cannot be read."""

    store: Store
    snapshot: Snapshot | None

    @property
    def repo(self) -> Repo:
        return self.store.repo

    @cached_property
    def listed(self) -> list[Listed]:
        """The checkouts as Git lists them."""
        return self.repo.listed_worktrees()

    @cached_property
    def holders(self) -> Mapping[Branch, Worktree]:
        """The checkout that holds each branch, for those that are checked out."""
        found: dict[Branch, Worktree] = {}
        for worktree in self.repo.worktrees():
            if branch := worktree.holds():
                found.setdefault(branch, worktree)
        return found

    @cached_property
    def heads(self) -> frozenset[Branch]:
        """The local branches."""
        refs = self.repo.refs("refs/heads")
        return frozenset(Branch(name.removeprefix("refs/heads/")) for name in refs)

    @cached_property
    def branches(self) -> frozenset[Branch]:
        """The branches of the plan's workstreams."""
        if self.snapshot is None:
            return frozenset()
        return frozenset(w.branch for w in self.snapshot.cards.workstreams.values())

    def at_work(self, branch: Branch) -> TaskId | None:
        """The task that is at work on a branch, in whatever clone."""
        return at_work(self.snapshot, branch) if self.snapshot else None

    def task_of_mine(self, branch: Branch) -> TaskId | None:
        """The task that this clone has at work on a branch."""
        task = self.at_work(branch)
        if task is None or self.snapshot is None:
            return None
        mine = self.snapshot.facts[task].tracking.clone == self.repo.clone_id()
        return task if mine else None
