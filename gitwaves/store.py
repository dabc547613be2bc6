"""Reading the plan and its state out of Git: cards from trees, facts from history."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from gitwaves.errors import GitwavesError, NotReady, UsageError
from gitwaves.facts import Witness
from gitwaves.git import Repo
from gitwaves.graph import graph_of
from gitwaves.model import (
    CONFIG_PATH,
    ROOT,
    Branch,
    Cards,
    Evidence,
    Fact,
    MergePoint,
    Oid,
    Progress,
    State,
    Status,
    TaskId,
    closest,
)
from gitwaves.plan import progress, runnable, schedule
from gitwaves.record import Record, field, replace
from gitwaves.state import Facts

BEGUN = frozenset({Status.ACTIVE, Status.FAILED})


class Snapshot(Record):
    """The plan and what history says of it at one moment."""

    cards: Cards
    facts: Mapping[str, Fact]
    trunk: Branch
    trunk_tip: Oid
    tips: Mapping[Branch, Oid] = field(default_factory=dict)  # of the branches that exist
    heads: Mapping[Branch, Oid] = field(default_factory=dict)  # those of this clone
    warnings: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()  # see `Witness.witnessed`

    def require_task(self, name: str) -> TaskId:
        """The id of a task.

        Raises:
            UsageError: there is none of that name; suggests one.
        """
        if name in self.cards.tasks:
            return TaskId(name)
        raise unknown("task", name, self.cards.tasks)


def unknown(
    kind: str, name: str, known: Mapping[str, object] | Mapping[TaskId, object]
) -> UsageError:
    """The error for an id that nothing has, with what was probably meant."""
    guess = closest(name, known)
    hint = f"did you mean {guess}?" if guess else f"`gitwaves status` lists every {kind}"
    return UsageError(f"no {kind} {name!r}", hint)


class Store(Witness):
    """The plan as trunk and the worktrees' branches hold it."""

    def __init__(self, repo: Repo, *, offline: bool = False) -> None:
        super().__init__(repo)
        self.offline = offline  # a hook never uses the network
        self._latest: tuple[object, Snapshot] | None = None
        self._expected: tuple[object, Snapshot] | None = None  # of when a branch will have moved
        self._refs: Mapping[str, Oid] | None = None  # of the snapshot that was taken last
        self._shown: tuple[Snapshot, Progress] | None = None

    def snapshot(
        self, rev: str | None = None, *, refs: Mapping[str, Oid] | None = None
    ) -> Snapshot:
        """The plan and its state now; with `rev`, everything from that commit's tree.

        Args:
            refs: the branches here and of remotes, where they have just been read.

        Raises:
            NotReady: there is no plan.
        """
        if rev is not None:
            return self._snapshot_at(rev)
        refs = refs or self.repo.branches()  # once: what is shown held at one moment
        self._refs = refs
        now = self._moment(refs)
        for held in (self._latest, self._expected):
            if held is None or held[0] != now or held[1].cards.config.allowed_signers is not None:
                continue
            if self.in_place(held[1].watched):
                self._latest = held
                return held[1]
        doubts = self.repo.doubts
        snapshot = self._taken(refs)
        self._latest = (now, snapshot) if self.repo.doubts == doubts else None
        return snapshot

    def expect(self, branch: Branch, tip: Oid) -> None:
        """Finds out what there will be to show when a branch has moved, while that is under way.

        It is a snapshot like any other, and is given where it comes so.
        """
        if self._refs is None:
            return
        # What is wrong is found out, and said, once more when the branch has moved.
        with contextlib.suppress(Exception):
            refs = {**self._refs, f"refs/heads/{branch}": tip}
            now, doubts = self._moment(refs), self.repo.doubts
            snapshot = self._taken(refs)
            if self.repo.doubts == doubts:
                self._expected = (now, snapshot)
                self.progress(snapshot, local=False)

    def _moment(self, refs: Mapping[str, Oid]) -> object:
        """All that a snapshot hangs on."""
        return refs, self.repo.listed_settings(), self.repo.stock()

    def _taken(self, refs: Mapping[str, Oid]) -> Snapshot:
        trunk, tip = self.trunk(refs)
        self.repo.bring([tip], ROOT)
        cards = self.plan_at(tip, lambda read: self.foresee(read, tip, self._tips(read, refs)[0]))
        tips, said = self._tips(cards, refs)
        if self.repo.partial():
            bases = (base for t in tips.values() for base in self.repo.merge_bases(tip, t))
            self.repo.bring([*tips.values(), *bases], ROOT)
        said += self._unseen(cards.config.remote)
        facts, more, watched = self.witnessed(cards, tip, tips)
        self._keep()
        warnings = (*self._warnings(cards, None), *said, *more)
        heads = {b: head for b in tips if (head := refs.get(f"refs/heads/{b}")) is not None}
        return Snapshot(cards, facts, trunk, tip, tips, heads, warnings, tuple(watched))

    def latest(self) -> Snapshot:
        """The snapshot that was taken last, for what follows at once; one of now where there is none."""
        return self._latest[1] if self._latest is not None else self.snapshot()

    def after(self, moved: Iterable[Branch]) -> Snapshot:
        """The plan and its state now, where some branches moved since the last snapshot.

        The caller has held the lock since then: nobody else among us moved one, and Git need not be
        asked for all of them again.
        """
        latest = self._latest[1] if self._latest is not None else None
        tips = {f"refs/heads/{branch}": self.repo.branch(branch) for branch in moved}
        here = {ref: tip for ref, tip in tips.items() if tip is not None}
        if (
            latest is None
            or self._refs is None
            or latest.cards.config.remote
            or len(here) < len(tips)
        ):
            return self.snapshot()
        return self.snapshot(refs={**self._refs, **here})

    def _snapshot_at(self, rev: str) -> Snapshot:
        tip = self.repo.resolve(rev)
        if tip is None:
            raise GitwavesError(f"no commit {rev!r}", "name a branch, a tag or a commit")
        cards = self.plan_of(tip)
        if not self.repo.at(tip, CONFIG_PATH):
            raise NotReady(f"{rev} has no {CONFIG_PATH}", "name a commit that has a plan")
        facts, said, watched = self.witnessed(cards, tip, {}, kept=False)
        warnings = (*self._warnings(cards, rev), *said)
        trunk = cards.config.trunk
        return Snapshot(cards, facts, trunk, tip, warnings=warnings, watched=tuple(watched))

    def _tips(self, cards: Cards, refs: Mapping[str, Oid]) -> tuple[dict[Branch, Oid], list[str]]:
        """The tip of each branch, and what is to be said of those that diverged."""
        tips: dict[Branch, Oid] = {}
        said: list[str] = []
        remote = cards.config.remote
        branches = {w.branch for w in cards.workstreams.values()}
        trunk = cards.config.trunk
        mine = refs.get(f"refs/heads/{trunk}")
        theirs = refs.get(f"refs/remotes/{remote}/{trunk}") if remote else None
        if mine and theirs and not self._in_line(mine, theirs):
            said.append(f"{trunk} diverged from {remote}: {remote}'s is read")
        for branch in sorted(branches.union(cards.by_branch)):
            local = refs.get(f"refs/heads/{branch}")
            theirs = refs.get(f"refs/remotes/{remote}/{branch}") if remote else None
            newest = local or theirs
            if local and theirs and not self.repo.is_ancestor(theirs, local):
                newest = theirs
                if not self.repo.is_ancestor(local, theirs):
                    on_theirs = self.claims(cards, branch, theirs, f"^{local}")
                    if on_theirs <= self.claims(cards, branch, local):
                        newest = local  # rewritten here: nobody else has claimed anything since
                    which = "this clone's" if newest == local else f"{remote}'s"
                    said.append(f"{branch} diverged from {remote}: {which} is read")
            if newest:
                tips[branch] = newest
        return tips, said

    def _unseen(self, remote: str | None) -> list[str]:
        """What this clone cannot see, in words: it is said, never guessed at."""
        said = []
        if self.repo.is_shallow():
            said.append(
                "this clone is shallow: what lies before its history is not looked at "
                "(`git fetch --unshallow` brings it)"
            )
        if remote is not None:
            asked = self.repo.try_git("config", "--get-all", f"remote.{remote}.fetch")
            specs = asked.stdout.decode(errors="replace").split()
            if not specs:
                said.append(f"the remote {remote} is not set up here: nothing of it is seen")
            elif not any("refs/heads/*:" in spec for spec in specs):
                said.append(
                    f"only some branches of {remote} are fetched: what others hold is not seen "
                    f"(`git remote set-branches {remote} '*'`, then `git fetch`)"
                )
        return said

    def unsigned(self, snapshot: Snapshot, node: str, evidence: Evidence) -> str:
        """Why the signature of evidence that is new does not count; empty where it does."""
        if not snapshot.cards.config.allowed_signers:
            return ""
        from gitwaves.signing import rule_at

        rule = rule_at(self.repo, snapshot.trunk_tip, snapshot.cards.config)
        return self.signatures.of([(node, evidence, None, rule)])[0].problem

    def landing_times(self, snapshot: Snapshot) -> dict[str, int]:
        """When each merge point landed, by the landing commit: seconds since 1970."""
        found = {}
        for point in snapshot.cards.merge_points:
            commit = snapshot.facts[point].commit
            if commit is not None and (held := self.repo.commit(commit)) is not None:
                found[str(point)] = int(held.committer.split(" ")[-2])
        return found

    def _warnings(self, cards: Cards, rev: str | None) -> tuple[str, ...]:
        said = []
        errors = [f for f in cards.findings if f.severity == "error"]
        if errors:
            said.append(
                f"{len(errors)} errors in the cards: run `gitwaves check {rev or cards.config.trunk}`"
            )
        return tuple(said)

    def progress(self, snapshot: Snapshot | None = None, *, local: bool = True) -> Progress:
        """The whole state, planned and ready to be shown.

        Args:
            local: with this machine's worktree paths, which no dashboard shows.

        Raises:
            CycleError: the plan cannot be put in order.
        """
        now = snapshot or self.snapshot()
        last = self._shown
        if last is None or last[0] is not now:
            graph = graph_of(now.cards)
            plan = schedule(now.cards, graph)
            told = progress(
                now.cards,
                graph,
                plan,
                now.facts,
                trunk_commit=now.trunk_tip,
                warnings=now.warnings,
            )
            last = self._shown = now, told
        shown = last[1]
        if not local:
            return shown
        paths = {w.branch: str(w.path) for w in self.repo.worktrees() if w.branch}
        here = [replace(w, path=paths.get(w.branch)) for w in shown.worktrees]
        return replace(shown, worktrees=tuple(here))


def at_work(snapshot: Snapshot, branch: Branch) -> TaskId | None:
    """The task that is active or failed on a branch; one at a time is."""
    begun = Facts.of(snapshot.facts).begun
    for task in snapshot.cards.tasks_on(branch):
        if begun.get(task, State.DONE) is not State.DONE:  # most are, and need not be made
            fact = snapshot.facts[task]
            if fact.tracking.status in BEGUN and not fact.misplaced:
                return task
    return None


def startable(snapshot: Snapshot, among: Iterable[TaskId]) -> frozenset[TaskId]:
    """Those of some tasks that can start now.

    Raises:
        CycleError: the plan cannot be put in order.
    """
    cards = snapshot.cards
    graph = graph_of(cards)
    return runnable(cards, graph, schedule(cards, graph), snapshot.facts, among)


def points_of(cards: Cards, task: TaskId) -> list[MergePoint]:
    """The merge points that require a task."""
    return [p for p in cards.merge_points.values() if task in p.requires]
