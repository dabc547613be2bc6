"""Ranges of commits: what the guards say of each commit, on the line that it belongs to.

A line runs along first parents. What a merge brings besides is a line of its own: trunk's and what
is on it already is nobody's breach; recorded done work is judged as its own worktree's; everything
else counts as the merging branch's own doing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gitwaves.git import Repo
from gitwaves.guards import Breach, Change, breaches_of
from gitwaves.halves import split
from gitwaves.model import ROOT, Branch, Oid, Status
from gitwaves.rulebook import Rules, is_card, tracking_in


def own_changes(repo: Repo, commits: Sequence[Oid]) -> dict[Oid, tuple[str, ...]]:
    """Of each commit the paths that it changed itself: those that differ from every parent."""
    if not commits:
        return {}
    args = ("diff-tree", "--stdin", "--always", "--root", "-r", "-c", "-z", "--name-only")
    given = "".join(f"{oid}\n" for oid in commits).encode()
    parts = repo.git(*args, "--no-renames", stdin=given).split("\0")
    found: dict[Oid, tuple[str, ...]] = {}
    at = 0
    for number, oid in enumerate(commits):  # the ids stand between the paths, in this order
        following = commits[number + 1] if number + 1 < len(commits) else ""
        end = parts.index(following, at) if following else len(parts)
        found[oid] = tuple(sorted(p for p in parts[at:end] if p and p != oid))
        at = end
    return found


def breaches(
    rules: Rules,
    branch: Branch | None,
    tip: Oid,
    known: Sequence[Oid],
    landed: Oid | None,
    *,
    lands: bool = True,
) -> list[Breach]:
    """What is wrong with the commits that `tip` has and `known` have not, the oldest first.

    Args:
        branch: the worktree's branch that the commits are for; None: trunk, or one aimed at it.
        known: commits whose history was looked at before.
        landed: what counts as trunk; None: nothing has landed yet.
        lands: whether what a merge brings of worktrees has to be finished.
    """
    args = [tip, *(f"^{oid}" for oid in known)]
    order = rules.repo.rev_list("--topo-order", "--reverse", *args)
    walk = _Walk(rules, landed, lands, set(order), own_changes(rules.repo, order))
    walk.lines.append((tip, branch))
    while walk.lines:
        walk.follow(*walk.lines.pop(0))
    place = {oid: n for n, oid in enumerate(order)}
    return sorted(walk.found, key=lambda breach: place.get(breach.commit or tip, -1))


@dataclass
class _Walk:
    """The state of one look at a range: which commits are left to be judged, and what was found."""

    rules: Rules
    landed: Oid | None
    lands: bool
    todo: set[Oid]
    own: dict[Oid, tuple[str, ...]]
    lines: list[tuple[Oid, Branch | None]] = field(default_factory=list)
    found: list[Breach] = field(default_factory=list)

    def follow(self, tip: Oid, branch: Branch | None) -> None:
        """Judges the commits of one line, and notes the lines that its merges bring in."""
        oid: Oid | None = tip
        while oid is not None and oid in self.todo:
            self.todo.discard(oid)
            parents = self.rules.repo.require_commit(oid).parents
            change = Change(oid, parents, self.own[oid], oid, tip)
            self.found += breaches_of(self.rules, branch, change)
            for parent in parents[1:]:
                self._brought(oid, parent, branch)
            oid = parents[0] if parents else None

    def _brought(self, merge: Oid, parent: Oid, branch: Branch | None) -> None:
        if self.landed is not None and self.rules.repo.is_ancestor(parent, self.landed):
            return
        line = self._line(parent)
        whose = self._whose(line)
        if whose is None or whose == branch:
            self.lines.append((parent, branch))
            return
        self.lines.append((parent, whose))
        said = self._unfinished(whose, line, merge) if self.lands else None
        if said is not None:
            self.found.append(replace(said, commit=merge))

    def _line(self, tip: Oid) -> tuple[Oid, ...]:
        """The first parents of a commit, itself first, down to what has landed."""
        bounds = [f"^{self.landed}"] if self.landed else []
        line = self.rules.repo.rev_list("--first-parent", tip, *bounds)
        self.own |= own_changes(self.rules.repo, [oid for oid in line if oid not in self.own])
        return line

    def _whose(self, line: Sequence[Oid]) -> Branch | None:
        """The worktree's branch that a line was made on: the one of its last state commit."""
        cards = (path for oid in line if (path := self._state_change(oid)))
        path = next(cards, None)
        return self.rules.branch_of(path) if path else None

    def _state_change(self, commit: Oid) -> str | None:
        """The card whose tracking a commit changes, where it changes nothing else."""
        repo, paths = self.rules.repo, self.own[commit]
        parents = repo.require_commit(commit).parents
        if len(parents) != 1 or len(paths) != 1 or not is_card(paths[0]):
            return None
        before, after = repo.read(parents[0], paths[0]) or b"", repo.read(commit, paths[0]) or b""
        return paths[0] if split(before)[1] != split(after)[1] else None

    def _unfinished(self, branch: Branch, line: Sequence[Oid], merge: Oid) -> Breach | None:
        """What a merge takes of another worktree that is not recorded as done, or None."""
        rules, repo, tip = self.rules, self.rules.repo, line[0]
        if any(_proves(rules, tree, branch, tip) for tree in (merge, rules.tip)):
            return None
        remedy = f"merge the done commit of the task, not the tip of {branch}"
        for path, said in rules.at_work(tip, branch):
            message = f"{path} was {said.status} on {branch} when it was merged"
            return Breach(path, message, remedy, branch)
        for oid in line:
            if card := self._state_change(oid):
                if _records_done(repo, oid, card):
                    return None
                continue
            code = [p for p in self.own[oid] if not p.startswith(ROOT + "/")]
            if code:
                message = f"{code[0]} was merged from {branch} unverified, as of {oid[:10]}"
                return Breach(code[0], message, remedy, branch)
        return None


def _records_done(repo: Repo, commit: Oid, path: str) -> bool:
    said = tracking_in(repo, commit, path)
    evidence = said.evidence if said and said.status is Status.DONE else None
    return evidence is not None and repo.code_tree(commit) == evidence.tree


def _proves(rules: Rules, tree: Oid, branch: Branch, commit: Oid) -> bool:
    """Whether a card in a tree has the evidence that a commit of a branch was verified."""
    for path in rules.cards_on(tree, branch):
        said = tracking_in(rules.repo, tree, path)
        evidence = said.evidence if said and said.status is Status.DONE else None
        if evidence is not None and evidence.commit == commit:
            return rules.repo.code_tree(commit) == evidence.tree
    return False
