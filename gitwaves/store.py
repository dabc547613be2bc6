"""Reading the plan and its state out of Git: cards from trees, facts from history."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gitwaves.cards import (
    WORKSTREAM_FILE,
    keep_in,
    load_card,
    load_cards,
    load_config,
    load_tracking,
    load_workstream,
    point_path,
    save_kept,
    task_path,
)
from gitwaves.errors import GitError, GitwavesError, NotReady, UsageError
from gitwaves.git import Repo
from gitwaves.graph import graph_of
from gitwaves.halves import split
from gitwaves.model import (
    CONFIG_PATH,
    ROOT,
    Branch,
    Cards,
    Config,
    Evidence,
    Fact,
    MergePoint,
    Oid,
    Progress,
    Status,
    Step,
    Task,
    TaskId,
    Tracking,
    Verdict,
    closest,
    natural,
    task_digest,
)
from gitwaves.plan import progress, schedule
from gitwaves.shelf import Plan, Shelf
from gitwaves.signing import Rule, Signatures, rule_at, rules
from gitwaves.state import Seen, judge, settle

_GOOD = frozenset({Verdict.HOLDS, Verdict.UNCHECKED, Verdict.STALE})
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


def trunk_among(
    repo: Repo, heads: Mapping[str, Oid], remotes: Mapping[str, Oid], configured: str = ""
) -> tuple[Branch, Oid, Config] | None:
    """The branch whose own tree names it as trunk, its tip there, and the configuration; or None."""
    order = [b for b in (configured, "main", "master") if b]
    order += [
        b for b in sorted({*heads, *remotes}) if b not in order and not b.startswith("gitwaves/")
    ]
    for name in order:
        for tip in (heads.get(name), remotes.get(name)):
            data = repo.read(tip, CONFIG_PATH) if tip else None
            if data is not None and tip is not None:
                config, _ = load_config(data, CONFIG_PATH)
                if config.trunk == name:
                    return Branch(name), tip, config
    return None


class Store:
    """The plan as trunk and the worktrees' branches hold it."""

    def __init__(self, repo: Repo, *, offline: bool = False) -> None:
        self.repo = repo
        self.offline = offline  # a hook never uses the network
        self._configured: str | None = None
        self.signatures = Signatures(repo)
        self.shelf = Shelf(repo.state_dir / "plans")
        self._last: tuple[Oid, Cards] | None = None
        self._unkept: tuple[Oid, Plan, Cards] | None = None
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
            parts = name.split("/", 3)  # git-svn makes some of one level, refs/remotes/git-svn
            if parts[1] == "remotes" and len(parts) == 4 and parts[3] != "HEAD":
                remotes.setdefault(parts[3], oid)
        if self._configured is None:
            self._configured = self.repo.config("gitwaves.trunk") or ""
        configured = self._configured
        found = trunk_among(self.repo, heads, remotes, configured)
        if found is not None:
            name, tip, config = found
            return name, self._newer(name, heads.get(name), config.remote) or tip
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

    def _in_line(self, one: Oid, other: Oid) -> bool:
        return self.repo.is_ancestor(one, other) or self.repo.is_ancestor(other, one)

    def _no_plan(self, heads: Mapping[str, Oid]) -> NotReady:
        self.require_in_reach()
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

    def require_in_reach(self) -> None:
        """Raises where there is a plan, but not where the working tree would have it.

        Raises:
            NotReady: it is below the top of the repository, or outside a sparse checkout.
        """
        top = self.repo.top
        if top is None or os.path.lexists(top / CONFIG_PATH):
            return
        if CONFIG_PATH in self._outside(top):
            raise NotReady(
                f"{ROOT}/ is outside the sparse checkout of {top}",
                f"run `git sparse-checkout add {ROOT}` there first",
            )
        for folder in (self.repo.start, *self.repo.start.parents):
            if folder == top.resolve():
                return
            if (folder / CONFIG_PATH).is_file():
                raise NotReady(
                    f"{folder / ROOT} is below the top of its repository, where no plan is read",
                    f"move it to {top / ROOT}; the paths in it are then those from there",
                )

    # --- cards ---------------------------------------------------------------------------------

    def files(self, commit: Oid) -> tuple[dict[str, bytes], dict[str, str]]:
        """The files under `.workstreams/` of a commit, and what is there that is no regular file."""
        found, odd = self._listed(commit)
        return {path: self._blob(commit, path, oid) for path, oid in found.items()}, odd

    def _listed(self, commit: Oid) -> tuple[dict[str, Oid], dict[str, str]]:
        files: dict[str, Oid] = {}
        odd: dict[str, str] = {}
        top = self.repo.tree(commit).get(ROOT)
        if top is None:
            return files, odd
        if not top.is_tree:
            return files, {ROOT: ODD_MODES.get(top.mode, "a file")}
        pending = [(ROOT, top.oid, 0)]
        while pending:
            folder, oid, depth = pending.pop()
            entries = self.repo.tree(oid)
            self.repo.read_ahead(entry.oid for entry in entries.values() if entry.is_tree)
            for name, entry in entries.items():
                path = f"{folder}/{name}"
                if entry.is_tree:
                    if depth < 3:
                        pending.append((path, entry.oid, depth + 1))
                elif entry.mode in ODD_MODES:
                    odd[path] = ODD_MODES[entry.mode]
                else:
                    files[path] = entry.oid
        return files, odd

    def _file(self, commit: Oid, path: str) -> bytes:
        entry = self.repo.at(commit, path)
        return self._blob(commit, path, entry.oid) if entry is not None else b""

    def _blob(self, commit: Oid, path: str, oid: Oid) -> bytes:
        data = self.repo.blob(oid)
        if data is None:
            raise GitError(
                f"{path} of {commit[:10]} is not in this repository",
                "`git fsck` says what is damaged; fetch it anew",
            )
        return data

    def cards(self, commit: Oid) -> Cards:
        """The cards of a commit."""
        files, odd = self.files(commit)
        return load_cards(files, odd)

    def plan_at(self, commit: Oid) -> Cards:
        """The cards of a commit, kept for the next process: for those that are read again and again."""
        top = self.repo.tree(commit).get(ROOT)
        tree = top.oid if top is not None else None
        if tree is not None and self._last is not None and self._last[0] == tree:
            return self._last[1]
        cards = self.shelf.load(tree, lambda p: self._file(commit, p)) if tree else None
        if cards is None:
            files, odd = self._listed(commit)
            self.repo.read_ahead(self.shelf.changed(files))
            cards, kept = self.shelf.read(files, odd, lambda p: self._blob(commit, p, files[p]))
            self._unkept = (tree, kept, cards) if tree is not None else None
        self._last = (tree, cards) if tree is not None else None
        return cards

    def _keep(self) -> None:
        """Keeps what was read for the first time, for the processes to come."""
        save_kept()
        self.repo.keep_told()
        if self._unkept is not None:
            self.shelf.keep(*self._unkept)
            self._unkept = None

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
        for path, oid in self._outside(top).items():
            data = self.repo.blob(oid)
            if data is not None and path not in odd:
                files.setdefault(path, data)
        return files, odd

    def _outside(self, top: Path) -> dict[str, Oid]:
        """The cards that a sparse checkout leaves out: what is not there has not changed."""
        sparse = self.repo.try_git("config", "--type=bool", "core.sparseCheckout", cwd=top)
        if sparse.stdout != b"true\n":
            return {}
        found = {}
        for line in self.repo.paths("ls-files", "-v", "-s", "-z", "--", ROOT, cwd=top):
            head, path = line.split("\t", 1)
            flag, mode, oid, _ = head.split()
            if flag == "S" and mode.startswith("100"):
                found[path] = Oid(oid)
        return found

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
            self.repo.bring([tip], ROOT)
            cards = self.plan_at(tip)
            tips, said = self._tips(cards)
            bases = (base for t in tips.values() for base in self.repo.merge_bases(tip, t))
            self.repo.bring([*tips.values(), *bases], ROOT)
            said += self._unseen(cards.config.remote)
        facts: dict[str, Fact] = {}
        self._read_ahead(cards, tips)
        for branch in sorted({cards.branch_of(t) for t in cards.tasks}):
            facts |= self._facts_on(cards, branch, tip, tips.get(branch))
        facts |= self._point_facts(cards, tip)
        said += [
            line for branch in sorted(tips) for line in self._lost(cards, branch, tip, tips[branch])
        ]
        facts |= self._signed(cards, tip, facts)
        self._keep()
        return Snapshot(cards, facts, trunk, tip, tips, (*self._warnings(cards, rev), *said))

    def _read_ahead(self, cards: Cards, tips: Mapping[Branch, Oid]) -> None:
        """Reads the trees that the facts of each branch are taken from."""
        self.repo.read_ahead(tips.values(), ROOT)
        folders = []
        for stream in cards.workstreams.values():
            if stream.branch in tips:
                folder = self.repo.at(tips[stream.branch], f"{ROOT}/{stream.id}")
                folders += [folder.oid] if folder is not None else []
        self.repo.read_ahead(folders)

    def _tips(self, cards: Cards) -> tuple[dict[Branch, Oid], list[str]]:
        """The tip of each branch, and what is to be said of those that diverged."""
        refs = self.repo.refs("refs/heads", "refs/remotes")
        tips: dict[Branch, Oid] = {}
        said: list[str] = []
        remote = cards.config.remote
        branches = {w.branch for w in cards.workstreams.values()}
        trunk = cards.config.trunk
        mine = refs.get(f"refs/heads/{trunk}")
        theirs = refs.get(f"refs/remotes/{remote}/{trunk}") if remote else None
        if mine and theirs and not self._in_line(mine, theirs):
            said.append(f"{trunk} diverged from {remote}: {remote}'s is read")
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

    def _lost(self, cards: Cards, branch: Branch, trunk: Oid, tip: Oid) -> list[str]:
        """What is to be said of work on a branch whose card trunk no longer has in its place."""
        said = []
        for stream in (w.id for w in cards.workstreams.values() if w.branch == branch):
            folder = self.repo.at(tip, f"{ROOT}/{stream}")
            known = {cards.tasks[t].path for t in cards.tasks_on(branch)}
            for name in sorted(self.repo.tree(folder.oid)) if folder and folder.is_tree else ():
                path = task_path(stream, name.removesuffix(".yaml"))
                if path in known or name == WORKSTREAM_FILE or self.repo.at(trunk, path):
                    continue
                held = self.tracking_of(self.repo.read(tip, path), path)
                if held is None or held.status is Status.PLANNED:
                    continue
                bases = self.repo.merge_bases(trunk, tip)
                if any(self.tracking_of(self.repo.read(b, path), path) == held for b in bases):
                    continue
                task = name.removesuffix(".yaml")
                said.append(
                    f"{branch} has work of {task} ({held.status}), whose card {path} is not on "
                    f"{cards.config.trunk}: put it back, and cancel it there if it is not wanted"
                )
        return said

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
            if settled[task][1] or trunk in bases:
                continue
            if self._taken_back(trunk, tip, path, at_tip):
                settled[task] = settle(task, on_trunk, at_tip, [at_tip])
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
            fact = judge(
                task,
                tracking,
                landed=landed,
                digest=cards.digest(task),
                seen=seen,
                steps=cards.steps_of(task),
                tip=tip,
            )
            facts[str(task)] = self._not_for_any_spec(cards, trunk, task, fact)
        return facts

    def _not_for_any_spec(self, cards: Cards, trunk: Oid, node: str, fact: Fact) -> Fact:
        """`fact`, unproven where it seems stale and is evidence for what trunk never asked for.

        Else evidence copied from another card would open the batches behind it, as stale does.
        """
        evidence = fact.tracking.evidence
        if fact.verdict is not Verdict.STALE or evidence is None or fact.misplaced:
            return fact
        if evidence.spec == cards.digest(node) or self._had_spec(cards, trunk, node, evidence.spec):
            return fact
        reason = f"its evidence is for a spec that {cards.config.trunk} never had"
        return replace(fact, verdict=Verdict.UNPROVEN, reason=reason)

    # --- signatures ----------------------------------------------------------------------------

    def _signed(self, cards: Cards, trunk: Oid, facts: Mapping[str, Fact]) -> dict[str, Fact]:
        """The facts whose evidence has to be signed: with the signer, or unproven."""
        told = rules(self.repo, cards.config, trunk)
        if told[0][0].path is None:
            return {}
        asked: list[tuple[str, Evidence, str | None, Rule]] = []
        for node, fact in facts.items():
            evidence = fact.tracking.evidence
            if evidence is None or fact.verdict not in _GOOD or fact.misplaced:
                continue
            rule = self._rule_for(cards, told, node, fact) if fact.landed else told[0][0]
            if rule.path is not None:
                asked.append((node, evidence, fact.tracking.finished, rule))
        found = {}
        for (node, *_), signed in zip(asked, self.signatures.of(asked), strict=True):
            fact = facts[node]
            if not signed.problem:
                found[node] = replace(fact, signer=signed.who)
            elif fact.landed and self.repo.shallow():
                reason = f"landed; which keys counted then is not in this clone: {signed.problem}"
                found[node] = replace(fact, verdict=Verdict.UNCHECKED, reason=reason)
            else:
                found[node] = replace(fact, verdict=Verdict.UNPROVEN, reason=signed.problem)
        return found

    def _rule_for(
        self, cards: Cards, told: Sequence[tuple[Rule, Oid | None]], node: str, fact: Fact
    ) -> Rule:
        """The rule that landed evidence was held against: the one that trunk had when it landed."""
        for rule, began in told:
            before = self.repo.require_commit(began).parents if began else ()
            said = self.tracking_at(cards, before[0], node) if before else None
            stood = said is not None and said.status is Status.DONE
            if not stood or said is None or said.evidence != fact.tracking.evidence:
                return rule
        return told[-1][0]

    def unsigned(self, snapshot: Snapshot, node: str, evidence: Evidence) -> str:
        """Why the signature of evidence that is new does not count; empty where it does."""
        rule = rule_at(self.repo, snapshot.trunk_tip, snapshot.cards.config)
        if rule.path is None:
            return ""
        return self.signatures.of([(node, evidence, None, rule)])[0].problem

    def _had_spec(self, cards: Cards, trunk: Oid, node: str, digest: str) -> bool:
        """Whether a card on trunk ever had a spec digest; True where history is cut short."""
        if self.repo.shallow():
            return True
        task = cards.tasks.get(TaskId(node))
        if task is None:  # a merge point's may cover the steps of any task
            commits = self.repo.rev_list("--full-history", trunk, paths=[ROOT])
            return any(self.spec_at(oid, node, digest) is not None for oid in commits)
        folder = f"{ROOT}/{task.workstream}"
        for oid in self.repo.rev_list("--full-history", trunk, paths=[folder]):
            card = self.repo.read(oid, task.path)
            spec = load_card(card, task.path).spec if card else None
            path = f"{folder}/{WORKSTREAM_FILE}"
            stream = load_workstream(self.repo.read(oid, path) or b"", path)[0]
            if isinstance(spec, Task) and stream and task_digest(spec, stream) == digest:
                return True
        return False

    def spec_at(self, commit: Oid, node: str, digest: str) -> tuple[Step, ...] | None:
        """The steps of a task or merge point in a commit, if its spec there has that digest."""
        cards = self.cards(commit)
        if node not in cards.tasks and node not in cards.merge_points:
            return None
        return cards.steps_of(node) if cards.digest(node) == digest else None

    def _taken_back(self, trunk: Oid, tip: Oid, path: str, said: Tracking | None) -> bool:
        """Whether trunk once said that a task is done just as its branch does, and no longer does.

        No merge base shows it where the landing was a squash, or an amend made the done commit
        another one since: without this look a revert on trunk would not count.
        """
        if said is None or said.status is not Status.DONE:
            return False
        for oid in self.repo.rev_list("--first-parent", trunk, f"^{tip}", paths=[path]):
            was = self.tracking_of(self.repo.read(oid, path), path)
            if was and (was.status, was.evidence, was.claim) == (
                said.status, said.evidence, said.claim,
            ):  # fmt: skip
                return True
        return False

    def _seen(self, tracking: Tracking, missing: set[Oid]) -> Seen | None:
        evidence = tracking.evidence
        if evidence is None or tracking.status is not Status.DONE:
            return None
        here = self.repo.commit(evidence.commit) is not None
        tree = self.repo.code_tree(evidence.commit) if here else None
        return Seen(tree, reachable=here and evidence.commit not in missing)

    def watched(self, snapshot: Snapshot) -> list[str]:
        """The commits of evidence that Git may lose, or get, without any reference being moved.

        As `+ID` where one lies in a file of its own, `-ID` where it is not here; what is in a pack
        goes with the pack.
        """
        held = (fact.tracking.evidence for fact in snapshot.facts.values())
        found = []
        for oid in sorted({evidence.commit for evidence in held if evidence is not None}):
            if (self.repo.common / "objects" / oid[:2] / oid[2:]).exists():
                found.append(f"+{oid}")
            elif self.repo.commit(oid) is None:
                found.append(f"-{oid}")
        return found

    def _point_facts(self, cards: Cards, trunk: Oid) -> dict[str, Fact]:
        facts: dict[str, Fact] = {}
        if not cards.merge_points:
            return facts
        landings = self.landings(cards, trunk)
        for point in cards.merge_points.values():
            tracking = cards.tracking.get(point.id) or Tracking(point.id)
            seen = self._seen(tracking, set())
            fact = judge(
                point.id,
                tracking,
                landed=True,
                digest=cards.digest(point.id),
                seen=seen,
                steps=cards.steps_of(point.id),
            )
            fact = self._not_for_any_spec(cards, trunk, point.id, fact)
            commit = landings.get(point.id)
            reverted = tracking.status is not Status.DONE and commit is not None
            facts[str(point.id)] = replace(fact, commit=commit, reverted=reverted)
        return facts

    def landings(self, cards: Cards, trunk: Oid) -> dict[str, Oid]:
        """The last commit of trunk's own line that landed each merge point, reverted ones too."""
        found: dict[str, Oid] = {}
        folder = f"{ROOT}/merge-points"
        line = self.repo.rev_list("--first-parent", trunk, paths=[folder])
        self.repo.bring(line, folder)
        for oid in line:
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
