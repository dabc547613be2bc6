"""Ranges of commits: what the guards say of each commit, on the line that it belongs to.

A line runs along first parents. What a merge brings besides is a line of its own: trunk's and what
is on it already is nobody's breach; recorded done work is judged as its own worktree's; everything
else counts as the merging branch's own doing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from gitwaves.cards import load_config
from gitwaves.errors import GitwavesError, NotReady
from gitwaves.git import Repo
from gitwaves.guards import Breach, Change, breaches_of, is_shallow, written_by_us
from gitwaves.halves import split
from gitwaves.model import CONFIG_PATH, ROOT, Branch, Oid, Status
from gitwaves.record import Record, field, replace
from gitwaves.rulebook import Rules, is_card, tracking_in
from gitwaves.store import Store

_FEW = 20  # commits that are looked at one by one; more are asked of git in one go


def own_changes(repo: Repo, commits: Sequence[Oid]) -> dict[Oid, tuple[str, ...]]:
    """Of each commit the paths that it changed itself: those that differ from every parent."""
    parents = {oid: repo.require_commit(oid).parents for oid in commits}
    # where history is cut off, a parent that is named need not be here
    if len(commits) <= _FEW and all(parents.values()) and not repo.is_shallow():
        return {oid: _unlike_all(repo, above, oid) for oid, above in parents.items()}
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


def _unlike_all(repo: Repo, parents: Iterable[Oid], commit: Oid) -> tuple[str, ...]:
    """The paths in which a tree or commit differs from every one of its parents."""
    differing = [set(repo.changed(parent, commit)) for parent in parents]
    return tuple(sorted(set.intersection(*differing)))


class Ahead:
    """The commits that some tips have and a base has not, looked up for all of them at once."""

    def __init__(self, repo: Repo, base: Oid, tips: Iterable[Oid]) -> None:
        given = "".join(f"{oid}\n" for oid in (f"^{base}", *dict.fromkeys(tips)))
        args = ("rev-list", "--topo-order", "--reverse", "--parents", "--stdin")
        lines = repo.git(*args, stdin=given.encode()).splitlines()
        self._parents = {oid: parents for oid, *parents in (map(Oid, li.split()) for li in lines)}
        self._reached: dict[Oid, tuple[Oid, ...]] = {}
        self._repo = repo

    def __contains__(self, commit: Oid) -> bool:
        return commit in self._parents

    def reach(self, tip: Oid) -> tuple[Oid, ...]:
        """Those of them that a tip has, the oldest first; none where the base has it."""
        known = self._reached.get(tip)
        if known is None:
            found, stack = set(), [tip]
            while stack:
                oid = stack.pop()
                if oid in self._parents and oid not in found:
                    found.add(oid)
                    stack += self._parents[oid]
            known = self._reached[tip] = tuple(oid for oid in self._parents if oid in found)
        return known

    @cached_property
    def own(self) -> Mapping[Oid, tuple[str, ...]]:
        """Of each commit the paths that it changed itself (`own_changes`)."""
        return own_changes(self._repo, tuple(self._parents))


class Row:
    """A row of merges onto one commit, each on the one before; what all of them bring is looked up once."""

    def __init__(self, repo: Repo, start: Oid, sides: Iterable[Oid]) -> None:
        self._repo = repo
        self._start = start
        self._sides = tuple(sides)
        self._ahead = Ahead(repo, start, self._sides)
        self._held: set[Oid] = set()  # what has been taken that `start` has not
        self._asked: set[Oid] = set()
        self._nowhere: set[Oid] = set()  # of what was asked: what none of them has

    def holds(self, side: Oid) -> bool:
        """Whether the last merge has a side already."""
        if side in self._held or not self._ahead.reach(side):
            return True
        # where clocks differ, what lies ahead is not always told from what does not
        return side in self._repo.merge_bases(self._start, side)

    def take(self, side: Oid) -> None:
        """Notes that a side was merged."""
        self._held.update(self._ahead.reach(side))

    def base(self, side: Oid) -> Oid | None:
        """The one best common ancestor of a side and the last merge; None where that is not plain."""
        if not self._held.isdisjoint(self._ahead.reach(side)):
            return None
        bases = self._repo.merge_bases(self._start, side)
        return bases[0] if len(bases) == 1 else None

    def missing(self, commits: Iterable[Oid], side: Oid) -> set[Oid]:
        """Those of `commits` that neither the last merge nor a side has, which is to be merged next."""
        wanted = set(commits)
        if new := wanted - self._asked:
            self._asked |= new
            self._nowhere |= self._repo.missing_from(new, [self._start, *self._sides])
        held = self._held.union(self._ahead.reach(side))
        return {
            oid
            for oid in wanted
            if oid in self._nowhere or (oid in self._ahead and oid not in held)
        }


def breaches(
    rules: Rules,
    branch: Branch | None,
    tip: Oid,
    known: Sequence[Oid],
    landed: Oid | None,
    *,
    lands: bool = True,
    ahead: Ahead | None = None,
) -> list[Breach]:
    """What is wrong with the commits that `tip` has and `known` have not, the oldest first.

    Args:
        branch: the worktree's branch that the commits are for; None: trunk, or one aimed at it.
        known: commits whose history was looked at before.
        landed: what counts as trunk; None: nothing has landed yet.
        lands: whether only finished work of worktrees may be in it.
        ahead: what `tip`, among others, has and `known` have not, where that was looked up.
    """
    if ahead is not None:
        order = ahead.reach(tip)
        own = {oid: ahead.own[oid] for oid in order}
    else:
        order = rules.repo.beyond(tip, known)
        own = own_changes(rules.repo, order)
    walk = _Walk(rules, landed, lands, set(order), own)
    walk.lines.append((tip, branch))
    walk.follow_all()
    place = {oid: n for n, oid in enumerate(order)}
    return sorted(walk.found, key=lambda breach: place.get(breach.commit or tip, -1))


def breaches_of_next(rules: Rules, branch: Branch, change: Change, landed: Oid) -> list[Breach]:
    """What is wrong with a commit that is yet to be made, and with what it would merge."""
    repo, others = rules.repo, change.parents[1:]
    brought = repo.rev_list(*others, f"^{change.parents[0]}", f"^{landed}") if others else ()
    walk = _Walk(rules, landed, True, set(brought), own_changes(repo, brought))
    walk.found += breaches_of(rules, branch, change)
    for parent in others:
        walk.bring(change.tree, parent, branch)
    walk.follow_all()
    return walk.found


class _Walk(Record, frozen=False):
    """The state of one look at a range: which commits are left to be judged, and what was found."""

    rules: Rules
    landed: Oid | None
    lands: bool
    todo: set[Oid]
    own: dict[Oid, tuple[str, ...]]
    lines: list[tuple[Oid, Branch | None]] = field(default_factory=list)
    found: list[Breach] = field(default_factory=list)

    def follow_all(self) -> None:
        while self.lines:
            self.follow(*self.lines.pop(0))

    def follow(self, tip: Oid, branch: Branch | None) -> None:
        """Judges the commits of one line, and notes the lines that its merges bring in."""
        oid: Oid | None = tip
        while oid is not None and oid in self.todo:
            self.todo.discard(oid)
            parents = self.rules.repo.require_commit(oid).parents
            change = Change(oid, parents, self.own[oid], oid, tip, self.lands)
            self.found += breaches_of(self.rules, branch, change)
            for parent in parents[1:]:
                self.bring(oid, parent, branch)
            oid = parents[0] if parents else None

    def bring(self, merge: Oid, parent: Oid, branch: Branch | None) -> None:
        if self.landed is not None and self.rules.repo.is_ancestor(parent, self.landed):
            return
        line = self._line(parent)
        whose = self.whose(parent)
        if whose is None or whose == branch:
            self.lines.append((parent, branch))
            return
        self.lines.append((parent, whose))
        said = self._unfinished(whose, line, merge) if self.lands else None
        if said is not None:
            made = merge if self.rules.repo.commit(merge) else None  # else it is a tree, so far
            self.found.append(replace(said, commit=made))

    def _line(self, tip: Oid) -> tuple[Oid, ...]:
        """The first parents of a commit, itself first, down to what has landed."""
        bounds = [f"^{self.landed}"] if self.landed else []
        line = self.rules.repo.rev_list("--first-parent", tip, *bounds)
        self.own |= own_changes(self.rules.repo, [oid for oid in line if oid not in self.own])
        return line

    def whose(self, tip: Oid) -> Branch | None:
        """The worktree's branch that a line was made on: the one of its last state commit."""
        cards = (path for oid in self._line(tip) if (path := self._state_change(oid)))
        path = next(cards, None)
        return self.rules.branch_of(path) if path else None

    def _state_change(self, commit: Oid) -> str | None:
        """The card whose tracking a commit changes, where it changes nothing else."""
        repo, paths = self.rules.repo, self.own[commit]
        parents = repo.require_commit(commit).parents
        if len(parents) != 1 or len(paths) != 1 or not is_card(paths[0]):
            return None
        before, after = repo.read(parents[0], paths[0]) or b"", repo.read(commit, paths[0]) or b""
        changed = split(before)[1] != split(after)[1]
        return paths[0] if changed and written_by_us(after, paths[0]) else None

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


# --- which branch, which range -----------------------------------------------------------------


class Checked(Record):
    """What was looked at, and what is wrong with it."""

    branch: Branch | None  # None: trunk, or a branch aimed at it
    commits: int
    found: tuple[Breach, ...]


def check(store: Store, base: str, rev: str | None = None, name: str | None = None) -> Checked:
    """What is wrong with the commits that `rev` (HEAD) has since `base`, as a pull request has them.

    Args:
        name: the branch that they are for; None: found from what is checked out, from the
            references that point there, or from the state commits.

    Raises:
        GitwavesError: one of the two names no commit.
        NotReady: there is no plan, or the clone is too shallow to tell.
    """
    repo = store.repo
    tip, start = _commit(repo, rev or "HEAD"), _commit(repo, base)
    if is_shallow(repo) and not repo.merge_bases(start, tip):
        raise NotReady(
            f"this clone is shallow: it does not reach from {base} to {rev or 'HEAD'}",
            "fetch the whole history: `git fetch --unshallow` (actions/checkout: fetch-depth: 0)",
        )
    trunk, trunk_tip = _trunk(store, start)
    names = [n for n in (name, rev, None if rev else _checked_out(repo)) if n]
    on_trunk = names[:1] == [trunk] or (tip == trunk_tip and not name)
    rules = Rules(repo, trunk, tip if on_trunk else trunk_tip)
    landed = start if on_trunk else trunk_tip
    known = [start] if on_trunk else [start, trunk_tip]
    branch = None if on_trunk else _branch_of(rules, tip, names, landed, given=name is not None)
    commits = repo.rev_list(tip, *(f"^{oid}" for oid in known))
    found = breaches(rules, branch, tip, known, landed)
    return Checked(branch, len(commits), tuple(found))


def _commit(repo: Repo, rev: str) -> Oid:
    found = repo.resolve(rev)
    if found is None:
        raise GitwavesError(
            f"no commit {rev!r} here", "fetch it first (in CI, fetch the whole history)"
        )
    return found


def _trunk(store: Store, base: Oid) -> tuple[Branch, Oid]:
    """Trunk and its tip; in a clone of one pull request that is the commit it is aimed at."""
    try:
        return store.trunk()
    except NotReady:
        data = store.repo.read(base, CONFIG_PATH)
        if data is None:
            raise
        return load_config(data, CONFIG_PATH)[0].trunk, base


def _checked_out(repo: Repo) -> str | None:
    here = repo.here()
    return here.branch if here else None


def _branch_of(
    rules: Rules, tip: Oid, names: Sequence[str], landed: Oid, *, given: bool
) -> Branch | None:
    """The worktree's branch that commits are for."""
    if given or any(n in rules.branches for n in names):
        return next((Branch(n) for n in names[:1] if n in rules.branches), None)
    repo = rules.repo
    places = [tip, *repo.require_commit(tip).parents[1:]]  # a forge merges the branch into trunk
    for place in places:
        for ref, oid in repo.refs("refs/heads", "refs/remotes").items():
            short = ref.split("/", 3 if ref.startswith("refs/remotes/") else 2)[-1]
            if oid == place and short in rules.branches:
                return Branch(short)
    if names:
        return None
    walk = _Walk(rules, landed, True, set(), {})
    whose = (w for place in places if (w := walk.whose(place)) is not None)
    return next(whose, None)
