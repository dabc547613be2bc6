"""What history says of tasks and merge points: which tracking counts, and what its evidence is worth.

All that is said of one branch is a function of trunk's tip, of the branch's, and of the objects that
are here. It is kept for the next process, so that of 64 branches only the one that moved is read; where
trunk moved, those whose cards it touched.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

from gitwaves.cards import (
    WORKSTREAM_FILE,
    card_path,
    load_tracking,
    point_path,
    task_path,
)
from gitwaves.errors import GitError
from gitwaves.forks import spread
from gitwaves.git import Entry, Repo
from gitwaves.halves import split
from gitwaves.model import (
    POINTS_DIR,
    ROOT,
    Branch,
    Cards,
    Evidence,
    Fact,
    Oid,
    PointId,
    Status,
    TaskId,
    Tracking,
    Verdict,
    WorkstreamId,
)
from gitwaves.readings import (
    DOUBTED,
    LETTERS,
    POINTS,
    Reading,
    Readings,
    fact_row,
    facts_of,
    folders_on,
    on_trunk,
    outdated,
    plain_fact,
    points_in_order,
)
from gitwaves.record import replace
from gitwaves.rows import Row
from gitwaves.specs import Specs
from gitwaves.state import Facts, Seen, judge, notes, settle, standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gitwaves.signing import Rule, Signatures

# What cannot be read claims to be done by nobody: shown as unproven, never as planned.
_UNREADABLE = Tracking("", Status.DONE)
_WORTH = 12  # branches that are worth a process
_POINTS = f"{ROOT}/{POINTS_DIR}"
_MANY = 100  # commits that trunk got: for more, each branch is read anew
_GOOD = frozenset({Verdict.HOLDS, Verdict.UNCHECKED, Verdict.STALE})


class Witness(Specs):
    """A repository as what it says of each task."""

    def __init__(self, repo: Repo) -> None:
        super().__init__(repo)
        self._kept: tuple[bytes, Oid, Mapping[Branch, Reading]] = (b"", Oid(""), {})

    @cached_property
    def signatures(self) -> Signatures:
        """The signatures of evidence in this repository."""
        from gitwaves.signing import Signatures  # as `rules` below: few plans ask for signatures

        return Signatures(self.repo)

    def witnessed(
        self, cards: Cards, trunk: Oid, tips: Mapping[Branch, Oid], *, kept: bool = True
    ) -> tuple[Facts, list[str], list[str]]:
        """The facts, what is to be said of them, and the commits that are watched.

        These are the commits of evidence that Git may lose, or get, without any reference being
        moved: as `+ID` where one lies in a file of its own, `-ID` where it is not here; what is in a
        pack goes with the pack.

        Args:
            kept: whether the readings of other processes may be taken over.
        """
        shelf = Readings(self.repo, trunk) if kept else None
        doubts = self.repo.doubts
        known = self._known(shelf, trunk) if shelf is not None else {}
        since, before = trunk, known
        if shelf is not None and not known:
            since, before = shelf.earlier()
            with contextlib.suppress(GitError):  # what is damaged may be nothing that counts now
                known = self._unmoved(cards, since, before, trunk, tips)
        branches = sorted({*cards.by_branch, *tips})
        fresh = [b for b in branches if not self._holds(known.get(b), tips.get(b))]
        readings = {b: r for b, r in known.items() if b in branches and b not in fresh}
        readings.update(self._read_all(cards, fresh, trunk, tips, since, before))
        points = known.get(POINTS)
        if points is None or not self._holds(points, trunk):
            fresh.append(POINTS)
            had = self._had(cards, before.get(POINTS), since, trunk)
            landed = self.landings(cards, trunk, since, before.get(POINTS))
            found = self._point_facts(cards, trunk, had, landed)
            points = self._reading(cards, points_in_order(cards), found, trunk)
        readings[POINTS] = points
        sure = self.repo.doubts == doubts
        if shelf is not None and sure and (fresh or len(readings) < len(known)):
            shelf.keep(readings)
            self._kept = shelf.key, trunk, readings
        facts = facts_of(cards, readings)
        signed = self._signed(cards, trunk, facts)
        said = [line for branch in branches for line in readings[branch].said]
        watched = sorted({line for reading in readings.values() for line in reading.watched})
        return Facts.of({**facts, **signed}) if signed else facts, said, watched

    def foresee(self, cards: Cards, trunk: Oid, tips: Mapping[Branch, Oid]) -> None:
        """Keeps what `witnessed` will read of branches, and the digests, where nothing is known yet."""
        shelf = Readings(self.repo, trunk)
        doubts = self.repo.doubts
        if not shelf.load():
            branches = sorted({*cards.by_branch, *tips})
            readings = self._read_all(cards, branches, trunk, tips, *shelf.earlier())
            if self.repo.doubts == doubts:
                shelf.keep(readings)
        if (plan := self.repo.at(trunk, ROOT)) is not None:
            self.shelf.keep_digests(plan.oid, cards)
        self.repo.keep_told()

    def _known(self, shelf: Readings, trunk: Oid) -> Mapping[Branch, Reading]:
        """The readings that are kept: what this process kept itself, it need not read again."""
        kept = self._kept
        if shelf.key and kept[:2] == (shelf.key, trunk):
            return kept[2]
        return shelf.load()

    def _unmoved(
        self,
        cards: Cards,
        since: Oid,
        before: Mapping[Branch, Reading],
        trunk: Oid,
        tips: Mapping[Branch, Oid],
    ) -> dict[Branch, Reading]:
        """Those readings of another tip of trunk, `since`, that are what would be read now.

        Trunk's own line goes on from there and never touched what the branch hangs on, and the branch
        stands where it stood, with nothing of what trunk got: so it has the same bases. What was not
        proven then may be by now.

        Raises:
            GitError: something cannot be read.
        """
        line = self._goes_on(since, trunk) if before else ()
        parents = {oid: self.repo.require_commit(oid).parents for oid in line[-_MANY:]}
        if not line:
            return {}
        got = set(line)
        if any(len(own) > 1 for own in parents.values()):
            got.update(self.repo.rev_list(f"{since}..{trunk}"))
        if len(got) > _MANY:
            return {}
        # Whoever has one of them has one that none of them is below.
        lowest = [o for o in got if got.isdisjoint(self.repo.require_commit(o).parents)]
        remote = cards.config.remote
        apart = {None, *self.repo.tips_without(lowest, before.keys() - {POINTS}, remote)}
        trees = {self.repo.at(oid, ROOT): oid for oid in line}  # all that is looked at of a commit
        kept = {
            branch: reading
            for branch, reading in before.items()
            if branch != POINTS
            and reading.tip == tips.get(branch)
            and reading.tip in apart
            and DOUBTED.isdisjoint(reading.states)
            and all(on_trunk(self.repo, cards, o, branch) == reading.trunk for o in trees.values())
        }
        points = before.get(POINTS)
        if points is not None and self._same_points(cards, points, since, [*trees.values()]):
            kept[POINTS] = Reading(trunk, *points[1:])
        return kept

    def _same_points(
        self, cards: Cards, before: Reading, since: Oid, commits: Sequence[Oid]
    ) -> bool:
        """Whether what was read of merge points at `since` is so after some commits, the last first.

        None of these touched one, and none of the tasks that they require is another one now.
        """
        if not DOUBTED.isdisjoint(before.states):
            return False
        if len({self.repo.at(oid, _POINTS) for oid in (since, *commits)}) > 1:
            return False
        ends = [self.repo.at(oid, ROOT) for oid in (since, commits[0])]
        was, now = (end.oid if end is not None else self.repo.empty_tree() for end in ends)
        changed = self._few_changed(was, now)
        required = {f"{task}.yaml" for p in cards.merge_points.values() for task in p.requires}
        return changed is not None and required.isdisjoint(p.rpartition("/")[2] for p in changed)

    def _holds(self, reading: Reading | None, tip: Oid | None) -> bool:
        """Whether a reading that was kept is what would be read now."""
        if reading is None or reading.tip != tip:
            return False
        return self.in_place(reading.watched)

    def in_place(self, watched: Iterable[str]) -> bool:
        """Whether each of the commits that `witnessed` says are watched is where it was."""
        return all(self._loose(line[1:]) == (line[0] == "+") for line in watched)

    def _loose(self, oid: str) -> bool:
        return os.path.exists(f"{self.repo.common}/objects/{oid[:2]}/{oid[2:]}")

    def _read_all(
        self,
        cards: Cards,
        branches: Sequence[Branch],
        trunk: Oid,
        tips: Mapping[Branch, Oid],
        since: Oid,
        before: Mapping[Branch, Reading],
    ) -> dict[Branch, Reading]:
        """What is read of some branches; many are spread over processes.

        Args:
            before: what was read at other tips, trunk's being `since`: what is still so is taken over.
        """
        here = os.getpid()

        def some(part: Sequence[Branch]) -> list[tuple[Row, dict[str, str]]]:
            doubts = self.repo.doubts
            folders = self._read_ahead(cards, {b: tips[b] for b in part if b in tips})
            read = [
                tuple(self._read(cards, b, trunk, tips.get(b), since, before.get(b))) for b in part
            ]
            self.repo.forget(folders)
            cards.forget()
            if os.getpid() != here and self.repo.doubts != doubts:
                raise GitError("something is not here")  # it is asked again where that counts
            digests = cards.digests
            on = [{str(t): digests[t] for t in cards.tasks_on(b) if t in digests} for b in part]
            return list(zip(read, on, strict=True))

        readings = {}
        found = spread(some, branches, least=_WORTH, at_end=self.repo.keep_told)
        for branch, (row, digests) in zip(branches, found, strict=True):
            readings[branch] = Reading(*row)
            cards.digests.update(digests)
        return readings

    def _read(
        self,
        cards: Cards,
        branch: Branch,
        trunk: Oid,
        tip: Oid | None,
        since: Oid,
        before: Reading | None,
    ) -> Reading:
        tasks, held = cards.tasks_on(branch), on_trunk(self.repo, cards, trunk, branch)
        plain = self._plain(cards, branch, trunk, since, before) if before is not None else set()
        had = self._had(cards, before, since, trunk)
        facts = self._facts_on(cards, branch, trunk, tip, plain, had)
        said = self._lost(cards, branch, trunk, tip) if tip is not None else []
        read = self._reading(cards, tasks, facts, tip, said, held)
        return read.beside(before, tasks, plain - facts.keys()) if before and plain else read

    def _had(
        self, cards: Cards, before: Reading | None, since: Oid, trunk: Oid
    ) -> Mapping[str, str]:
        """The spec digests of stale evidence that these cards are known to have had once, by id.

        Args:
            before: what was read at another tip of trunk, `since`.
        """
        had = before.had if before is not None else {}
        with contextlib.suppress(GitError):  # what is damaged may be nothing that counts now
            if had and self.repo.is_ancestor(since, trunk):
                return {n: spec for n, (path, spec) in had.items() if card_path(cards, n) == path}
        return {}

    def _plain(
        self, cards: Cards, branch: Branch, trunk: Oid, since: Oid, before: Reading
    ) -> set[str]:
        """What a reading, trunk's tip being `since`, told plainly of a branch, and what stands as it stood."""
        with contextlib.suppress(GitError):  # what is damaged may be nothing that counts now
            if on_trunk(self.repo, cards, since, branch) != before.trunk:
                return set()
            if not self.in_place(before.watched):
                return set()
            plain = before.plain(cards.tasks_on(branch))
            for folder in folders_on(cards, branch):
                ends = [self.repo.at(end, f"{ROOT}/{folder}") for end in (since, trunk)]
                was, now = (self.repo.tree(end.oid) if end else {} for end in ends)
                if was != now:
                    changed = (n for n in {*was, *now} if was.get(n) != now.get(n))
                    plain.difference_update(name.removesuffix(".yaml") for name in changed)
            return plain
        return set()

    def _reading(
        self,
        cards: Cards,
        nodes: Iterable[str],
        facts: Mapping[str, Fact],
        tip: Oid | None,
        said: Iterable[str] = (),
        held: bytes = b"",
    ) -> Reading:
        states = {node: standing(fact) for node, fact in facts.items()}
        rows = {
            node: fact_row(fact)
            for node, fact in facts.items()
            if fact != plain_fact(cards, node, states[node], tip)
        }
        evidence = {f.tracking.evidence.commit for f in facts.values() if f.tracking.evidence}
        watched = [
            f"+{oid}" if self._loose(oid) else f"-{oid}"
            for oid in sorted(evidence)
            if self._loose(oid) or self.repo.commit(oid) is None
        ]
        noted = tuple(node for node, fact in facts.items() if notes(fact))
        letters = "".join([LETTERS[states.get(node)] for node in nodes])
        had = outdated(cards, facts)
        return Reading(tip, letters, rows, noted, tuple(said), tuple(watched), held, had)

    # --- tracking ------------------------------------------------------------------------------

    def claims(self, cards: Cards, branch: Branch, *revs: str) -> set[str]:
        """The ids of the claims that a range of commits made."""
        nodes = cards.tasks_on(branch)
        paths = [cards.tasks[t].path for t in nodes]
        touched = self.repo.git("rev-list", "--full-history", *revs, "--", *paths).split()
        said = (self.tracking_at(cards, Oid(oid), t) for oid in touched for t in nodes)
        return {s.claim.id for s in said if s is not None and s.claim is not None}

    def tracking_at(self, cards: Cards, commit: Oid, node: str) -> Tracking | None:
        """What the tracking half of a card says in one commit; None where it says nothing."""
        path = card_path(cards, node)
        return self.tracking_of(self.repo.read(commit, path), path)

    def tracking_of(self, data: bytes | None, path: str) -> Tracking | None:
        """What the tracking half of a card's bytes says; None where there is none."""
        if data is None:
            return None
        half = split(data)[1]
        if not half.strip():
            return None
        tracking, _ = load_tracking(half, path)
        return tracking or _UNREADABLE

    # --- tasks ---------------------------------------------------------------------------------

    def _read_ahead(self, cards: Cards, tips: Mapping[Branch, Oid]) -> list[Oid]:
        """Reads the trees that the facts of each branch are taken from; those of their folders."""
        self.repo.read_ahead(tips.values(), ROOT)
        folders = []
        for stream in cards.workstreams.values():
            if stream.branch in tips:
                folder = self.repo.at(tips[stream.branch], f"{ROOT}/{stream.id}")
                folders += [folder.oid] if folder is not None else []
        self.repo.read_ahead(folders)
        return folders

    def _facts_on(
        self,
        cards: Cards,
        branch: Branch,
        trunk: Oid,
        tip: Oid | None,
        plain: Collection[str],
        had: Mapping[str, str],
    ) -> dict[str, Fact]:
        """The facts of the tasks of one branch, but for those that nobody has begun.

        Args:
            plain: what is left out too, where the branch says nothing else of it than trunk.
            had: see `_had`.
        """
        settled: dict[TaskId, tuple[Tracking, bool]] = {}
        bases: tuple[Oid, ...] | None = None
        folders: dict[WorkstreamId, tuple[Mapping[str, Entry], Mapping[str, Entry]]] = {}
        for task in cards.tasks_on(branch):
            stream, name = cards.folders[task], f"{task}.yaml"
            if stream not in folders:
                folders[stream] = self._folder(trunk, stream), self._folder(tip, stream)
            ours, theirs = folders[stream][0].get(name), folders[stream][1].get(name)
            same = tip is None or theirs is None or (ours is not None and ours.oid == theirs.oid)
            if same and (task in plain or not cards.has_begun(task)):
                continue
            path = cards.path_of(task)
            on_trunk = cards.tracking.get(task)
            if tip is None or theirs is None or same:
                settled[task] = settle(task, on_trunk, None, ())
                continue
            if bases is None:
                bases = self.repo.merge_bases(trunk, tip)
            before = [self.tracking_of(self.repo.read(base, path), path) for base in bases]
            data = self.repo.blob(theirs.oid)
            at_tip = self.tracking_of(data, path) if data is not None else _UNREADABLE
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
            done = tracking.status is Status.DONE  # else neither spec nor steps are looked at
            fact = judge(
                task,
                tracking,
                landed=landed,
                digest=cards.digest(task) if done else "",
                seen=seen,
                steps=cards.steps_of(task) if done else None,
                tip=tip,
            )
            facts[str(task)] = fact
        return self._for_some_spec(cards, trunk, facts, had)

    def _folder(self, commit: Oid | None, stream: WorkstreamId) -> Mapping[str, Entry]:
        """The files of a workstream in a commit."""
        above = self.repo.at(commit, f"{ROOT}/{stream}") if commit else None
        return self.repo.tree(above.oid) if above else {}

    def _for_some_spec(
        self, cards: Cards, trunk: Oid, facts: dict[str, Fact], had: Mapping[str, str]
    ) -> dict[str, Fact]:
        """`facts`; unproven those that seem stale and are evidence for what trunk never asked for.

        Else evidence copied from another card would open the batches behind it, as stale does.
        """
        asked = outdated(cards, facts)
        wanted = {node: spec for node, (_, spec) in asked.items() if had.get(node) != spec}
        reason = f"its evidence is for a spec that {cards.config.trunk} never had"
        for node in wanted.keys() - self.had_specs(cards, trunk, wanted) if wanted else ():
            facts[node] = replace(facts[node], verdict=Verdict.UNPROVEN, reason=reason)
        return facts

    def _taken_back(self, trunk: Oid, tip: Oid, path: str, said: Tracking | None) -> bool:
        """Whether trunk once said that a task is done just as its branch does, and no longer does.

        No merge base shows it where the landing was a squash, or an amend made the done commit
        another one since: without this look a revert on trunk would not count.
        """
        if said is None or said.status is not Status.DONE:
            return False
        for oid in self.repo.changing_beyond(path, trunk, tip):
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

    def _lost(self, cards: Cards, branch: Branch, trunk: Oid, tip: Oid) -> list[str]:
        """What is to be said of work on a branch whose card trunk no longer has in its place."""
        said = []
        for stream in (w.id for w in cards.workstreams.values() if w.branch == branch):
            folder = self.repo.at(tip, f"{ROOT}/{stream}")
            known = {cards.path_of(t) for t in cards.tasks_on(branch)}
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

    # --- merge points --------------------------------------------------------------------------

    def _point_facts(
        self, cards: Cards, trunk: Oid, had: Mapping[str, str], landings: Mapping[str, Oid]
    ) -> dict[str, Fact]:
        facts: dict[str, Fact] = {}
        if not cards.merge_points:
            return facts
        for point in cards.merge_points.values():
            tracking = cards.tracking.get(point.id) or Tracking(point.id)
            seen = self._seen(tracking, set())
            done = tracking.status is Status.DONE  # as in `_facts_on`
            fact = judge(
                point.id,
                tracking,
                landed=True,
                digest=cards.digest(point.id) if done else "",
                seen=seen,
                steps=cards.steps_of(point.id) if done else None,
            )
            commit = landings.get(point.id)
            reverted = tracking.status is not Status.DONE and commit is not None
            facts[str(point.id)] = replace(fact, commit=commit, reverted=reverted)
        return self._for_some_spec(cards, trunk, facts, had)

    def landings(
        self, cards: Cards, trunk: Oid, since: Oid | None = None, before: Reading | None = None
    ) -> dict[str, Oid]:
        """The last commit of trunk's own line that landed each merge point, reverted ones too.

        Args:
            before: what was read of merge points at another tip of trunk, `since`.
        """
        found: dict[str, Oid] = {}
        known: dict[str, Oid] = {}
        line: Sequence[Oid] = ()
        with contextlib.suppress(GitError):  # what is damaged may be nothing that counts now
            if since is not None and before is not None:
                same = self._points(since).keys() == self._points(trunk).keys()
                line = self._goes_on(since, trunk) if same else ()
        if line and before is not None:
            known = before.landings()
        else:
            line = self.repo.rev_list("--first-parent", trunk, paths=[_POINTS])
            self.repo.bring(line, _POINTS)
        for oid in line:
            parents = self.repo.require_commit(oid).parents
            ends = [self.repo.at(end, _POINTS) for end in (oid, *parents[:1])]
            if len(ends) == 2 and ends[0] == ends[1]:
                continue
            now, was = self._points(oid), self._points(parents[0]) if parents else {}
            for name, entry in now.items():
                point = PointId(name.removesuffix(".yaml"))
                if entry == was.get(name) or point in found or point not in cards.merge_points:
                    continue
                if self._says_done(oid, point) and not (
                    parents and self._says_done(parents[0], point)
                ):
                    found[point] = oid
        return {**known, **found}

    def _goes_on(self, since: Oid, trunk: Oid) -> tuple[Oid, ...]:
        """Trunk's own line after another tip of it, the last first; none where it is not on that line."""
        if self.repo.is_shallow() or self.repo.commit(since) is None:
            return ()
        line = self.repo.line(since, trunk)
        goes_on = line and self.repo.require_commit(line[-1]).parents[:1] == (since,)
        return line if goes_on else ()

    def _points(self, commit: Oid) -> Mapping[str, Entry]:
        """The files of merge points in a commit."""
        folder = self.repo.at(commit, _POINTS)
        return self.repo.tree(folder.oid) if folder is not None else {}

    def _says_done(self, commit: Oid, point: PointId) -> bool:
        path = point_path(point)
        said = self.tracking_of(self.repo.read(commit, path), path)
        return said is not None and said.status is Status.DONE

    # --- signatures ----------------------------------------------------------------------------

    def _signed(self, cards: Cards, trunk: Oid, facts: Mapping[str, Fact]) -> dict[str, Fact]:
        """The facts whose evidence has to be signed: with the signer, or unproven."""
        if cards.config.allowed_signers is None:
            return {}
        from gitwaves.signing import rules

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
            elif fact.landed and self.repo.is_shallow():
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
