"""Reading the plan and its state out of Git: cards from trees, facts from history."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gitwaves.cards import (
    keep_in,
    load_cards,
    load_config,
    load_tracking,
    point_path,
    save_kept,
    task_path,
)
from gitwaves.errors import GitwavesError, NotReady, UsageError
from gitwaves.git import Repo
from gitwaves.graph import graph_of
from gitwaves.halves import split
from gitwaves.model import (
    CONFIG_PATH,
    ROOT,
    Branch,
    Cards,
    Fact,
    MergePoint,
    Oid,
    Progress,
    Status,
    TaskId,
    Tracking,
    Verdict,
    closest,
    natural,
)
from gitwaves.plan import progress, schedule
from gitwaves.state import Seen, judge, settle

ODD_MODES = {"120000": "a symbolic link", "160000": "a submodule"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The plan and what history says of it at one moment."""

    cards: Cards
    facts: Mapping[str, Fact]
    trunk: Branch
    trunk_tip: Oid
    tips: Mapping[Branch, Oid] = field(default_factory=dict)  # of the branches that exist
    warnings: tuple[str, ...] = ()

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


class Store:
    """The plan as trunk and the worktrees' branches hold it."""

    def __init__(self, repo: Repo, *, offline: bool = False) -> None:
        self.repo = repo
        self.offline = offline  # a hook never uses the network
        self._configured: str | None = None
        keep_in(repo.state_dir / "cache")

    # --- trunk ---------------------------------------------------------------------------------

    def trunk(self) -> tuple[Branch, Oid]:
        """The trunk branch and its tip.

        The branch whose own tree names it as trunk, `main` and `master` first: a worktree's branch
        cannot make itself trunk.

        Raises:
            NotReady: no branch holds a plan, with what to do about it.
        """
        refs = self.repo.refs("refs/heads", "refs/remotes")
        heads = {
            name.removeprefix("refs/heads/"): oid
            for name, oid in refs.items()
            if name.startswith("refs/heads/")
        }
        remotes: dict[str, Oid] = {}
        for name, oid in refs.items():
            if name.startswith("refs/remotes/") and not name.endswith("/HEAD"):
                remotes.setdefault(name.split("/", 3)[3], oid)
        if self._configured is None:
            self._configured = self.repo.config("gitwaves.trunk") or ""
        configured = self._configured
        order = [b for b in (configured, "main", "master") if b]
        order += [
            b
            for b in sorted({*heads, *remotes})
            if b not in order and not b.startswith("gitwaves/")
        ]
        for name in order:
            for tip in (heads.get(name), remotes.get(name)):
                data = self.repo.read(tip, CONFIG_PATH) if tip else None
                if data is not None and tip is not None:
                    config, _ = load_config(data, CONFIG_PATH)
                    if config.trunk == name:
                        return Branch(name), self._newer(
                            name, heads.get(name), config.remote
                        ) or tip
        raise self._no_plan(heads)

    def _newer(self, name: str, local: Oid | None, remote: str | None) -> Oid | None:
        if remote is None:
            return local
        theirs = self.repo.refs(f"refs/remotes/{remote}/{name}").get(
            f"refs/remotes/{remote}/{name}"
        )
        if local is None or theirs is None or local == theirs:
            return local or theirs
        return local if self.repo.is_ancestor(theirs, local) else theirs

    def _no_plan(self, heads: Mapping[str, Oid]) -> NotReady:
        top = self.repo.top
        if top and (top / CONFIG_PATH).is_file():
            config, _ = load_config((top / CONFIG_PATH).read_bytes(), CONFIG_PATH)
            if config.trunk not in heads and heads:
                return NotReady(
                    f"the trunk branch {config.trunk!r} does not exist",
                    f"set `trunk:` in {CONFIG_PATH} to one of: {', '.join(sorted(heads)[:5])}",
                )
            return NotReady(
                f"{ROOT}/ is not committed on {config.trunk} yet",
                f"on {config.trunk}: git add {ROOT} && git commit -m 'Plan the work'",
            )
        return NotReady(
            "there is no plan in this repository yet",
            "run `gitwaves init`, then `gitwaves import DOC`",
        )

    # --- cards ---------------------------------------------------------------------------------

    def files(self, commit: Oid) -> tuple[dict[str, bytes], dict[str, str]]:
        """The files under `.workstreams/` of a commit, and what is there that is no regular file."""
        files: dict[str, bytes] = {}
        odd: dict[str, str] = {}
        top = self.repo.tree(commit).get(ROOT)
        if top is None:
            return files, odd
        if not top.is_tree:
            return files, {ROOT: ODD_MODES.get(top.mode, "a file")}
        pending = [(ROOT, top.oid, 0)]
        while pending:
            folder, oid, depth = pending.pop()
            for name, entry in self.repo.tree(oid).items():
                path = f"{folder}/{name}"
                if entry.is_tree:
                    if depth < 3:
                        pending.append((path, entry.oid, depth + 1))
                elif entry.mode in ODD_MODES:
                    odd[path] = ODD_MODES[entry.mode]
                else:
                    data = self.repo.blob(entry.oid)
                    if data is not None:
                        files[path] = data
        return files, odd

    def cards(self, commit: Oid) -> Cards:
        """The cards of a commit."""
        files, odd = self.files(commit)
        return load_cards(files, odd)

    def working_files(self) -> tuple[dict[str, bytes], dict[str, str]]:
        """The files under `.workstreams/` of the worktree that the command was called in."""
        files: dict[str, bytes] = {}
        odd: dict[str, str] = {}
        top = self.repo.top
        if top is None:
            raise NotReady(
                "this is a bare repository", "name a revision, or run this in a worktree"
            )
        root = top / ROOT
        if root.is_symlink():
            return files, {ROOT: "a symbolic link"}
        for folder, folders, names in os.walk(root):
            for name in (*folders, *names):
                full = Path(folder) / name
                mode = full.lstat().st_mode
                path = full.relative_to(top).as_posix()
                if stat.S_ISLNK(mode):
                    odd[path] = "a symbolic link"
                elif stat.S_ISREG(mode):
                    files[path] = full.read_bytes()
                elif not stat.S_ISDIR(mode):
                    odd[path] = "a special file"
        return files, odd

    # --- state ---------------------------------------------------------------------------------

    def snapshot(self, rev: str | None = None) -> Snapshot:
        """The plan and its state now; with `rev`, everything from that commit's tree.

        Raises:
            NotReady: there is no plan.
        """
        if rev is not None:
            tip = self.repo.resolve(rev)
            if tip is None:
                raise GitwavesError(f"no commit {rev!r}", "name a branch, a tag or a commit")
            cards = self.cards(tip)
            trunk = cards.config.trunk
            if not self.repo.at(tip, CONFIG_PATH):
                raise NotReady(f"{rev} has no {CONFIG_PATH}", "name a commit that has a plan")
            tips: dict[Branch, Oid] = {}
            said: list[str] = []
        else:
            trunk, tip = self.trunk()
            cards = self.cards(tip)
            tips, said = self._tips(cards)
        facts: dict[str, Fact] = {}
        for branch in sorted({cards.branch_of(t) for t in cards.tasks}):
            facts |= self._facts_on(cards, branch, tip, tips.get(branch))
        facts |= self._point_facts(cards, tip)
        save_kept()
        return Snapshot(cards, facts, trunk, tip, tips, (*self._warnings(cards, rev), *said))

    def _tips(self, cards: Cards) -> tuple[dict[Branch, Oid], list[str]]:
        """The tip of each branch, and what is to be said of those that diverged."""
        refs = self.repo.refs("refs/heads", "refs/remotes")
        tips: dict[Branch, Oid] = {}
        said: list[str] = []
        remote = cards.config.remote
        branches = {w.branch for w in cards.workstreams.values()}
        for branch in sorted(branches | {cards.branch_of(t) for t in cards.tasks}):
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

    def claims(self, cards: Cards, branch: Branch, *revs: str) -> set[str]:
        """The ids of the claims that a range of commits made."""
        nodes = cards.tasks_on(branch)
        paths = [cards.tasks[t].path for t in nodes]
        touched = self.repo.git("rev-list", "--full-history", *revs, "--", *paths).split()
        said = (self.tracking_at(cards, Oid(oid), t) for oid in touched for t in nodes)
        return {s.claim.id for s in said if s is not None and s.claim is not None}

    def tracking_at(self, cards: Cards, commit: Oid, node: str) -> Tracking | None:
        """What the tracking half of a card says in one commit; None where it says nothing."""
        task = cards.tasks.get(TaskId(node))
        path = task_path(task.workstream, node) if task else point_path(node)
        return self.tracking_of(self.repo.read(commit, path), path)

    def tracking_of(self, data: bytes | None, path: str) -> Tracking | None:
        """What the tracking half of a card's bytes says; None where there is none."""
        if data is None:
            return None
        half = split(data)[1]
        if not half.strip():
            return None
        tracking, _ = load_tracking(half, path)
        # what cannot be read claims to be done by nobody: shown as unproven, never as planned
        return tracking or Tracking("", Status.DONE)

    def _facts_on(
        self, cards: Cards, branch: Branch, trunk: Oid, tip: Oid | None
    ) -> dict[str, Fact]:
        """The facts of the tasks of one branch."""
        settled: dict[TaskId, tuple[Tracking, bool]] = {}
        bases: tuple[Oid, ...] | None = None
        for task in cards.tasks_on(branch):
            path = cards.tasks[task].path
            ours = self.repo.at(trunk, path)
            theirs = self.repo.at(tip, path) if tip else None
            on_trunk = cards.tracking.get(task)
            if tip is None or theirs is None or (ours and ours.oid == theirs.oid):
                settled[task] = settle(task, on_trunk, None, ())
                continue
            if bases is None:
                bases = self.repo.merge_bases(trunk, tip)
            before = [self.tracking_of(self.repo.read(base, path), path) for base in bases]
            at_tip = self.tracking_of(self.repo.blob(theirs.oid), path)
            settled[task] = settle(task, on_trunk, at_tip, before)
        wanted = {
            tracking.evidence.commit
            for tracking, landed in settled.values()
            if tracking.evidence and not landed
        }
        missing = (
            self.repo.missing_from(wanted, [trunk, *([tip] if tip else [])]) if wanted else set()
        )
        facts = {}
        for task, (tracking, landed) in settled.items():
            seen = self._seen(tracking, missing)
            facts[str(task)] = judge(
                task,
                tracking,
                landed=landed,
                digest=cards.digest(task),
                seen=seen,
                tip=tip,
                signed_only=cards.config.allowed_signers is not None,
            )
        return facts

    def _seen(self, tracking: Tracking, missing: set[Oid]) -> Seen | None:
        evidence = tracking.evidence
        if evidence is None or tracking.status is not Status.DONE:
            return None
        here = self.repo.commit(evidence.commit) is not None
        tree = self.repo.code_tree(evidence.commit) if here else None
        return Seen(tree, reachable=here and evidence.commit not in missing)

    def _point_facts(self, cards: Cards, trunk: Oid) -> dict[str, Fact]:
        facts: dict[str, Fact] = {}
        if not cards.merge_points:
            return facts
        landings = self.landings(cards, trunk)
        for point in cards.merge_points.values():
            tracking = cards.tracking.get(point.id) or Tracking(point.id)
            seen = self._seen(tracking, set())
            fact = judge(point.id, tracking, landed=True, digest=cards.digest(point.id), seen=seen)
            commit = landings.get(point.id)
            reverted = tracking.status is not Status.DONE and commit is not None
            facts[str(point.id)] = replace(fact, commit=commit, reverted=reverted)
        return facts

    def landings(self, cards: Cards, trunk: Oid) -> dict[str, Oid]:
        """The last commit of trunk's own line that landed each merge point, reverted ones too."""
        found: dict[str, Oid] = {}
        folder = f"{ROOT}/merge-points"
        for oid in self.repo.rev_list("--first-parent", trunk, paths=[folder]):
            parents = self.repo.require_commit(oid).parents
            for point in cards.merge_points:
                if point in found:
                    continue
                now = self.tracking_at(cards, oid, point)
                if now is None or now.status is not Status.DONE:
                    continue
                before = self.tracking_at(cards, parents[0], point) if parents else None
                if before is None or before.status is not Status.DONE:
                    found[point] = oid
        return found

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
        paths = {}
        if local:
            paths = {str(w.branch): str(w.path) for w in self.repo.worktrees() if w.branch}
        graph = graph_of(now.cards)
        return progress(
            now.cards,
            graph,
            schedule(now.cards, graph),
            now.facts,
            trunk_commit=now.trunk_tip,
            worktree_paths=paths,
            warnings=now.warnings,
        )


def done_tasks(snapshot: Snapshot) -> list[TaskId]:
    """The tasks whose evidence holds, in natural order."""
    holds = {Verdict.HOLDS, Verdict.UNCHECKED}
    return [
        t
        for t in sorted(snapshot.cards.tasks, key=natural)
        if t in snapshot.facts
        and snapshot.facts[t].verdict in holds
        and not snapshot.facts[t].misplaced
    ]


def points_of(cards: Cards, task: TaskId) -> list[MergePoint]:
    """The merge points that require a task."""
    return [p for p in cards.merge_points.values() if task in p.requires]
