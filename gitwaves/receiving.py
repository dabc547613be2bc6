"""At the server's door: what a push may not do. Runs no command of a card, and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gitwaves.errors import Refused
from gitwaves.git import Repo
from gitwaves.gitcall import see_quarantine
from gitwaves.guards import Breach
from gitwaves.model import DASHBOARD_BRANCH, ROOT, Branch, Oid, Status, Tracking
from gitwaves.plans import trunk_among
from gitwaves.ranges import breaches, own_changes
from gitwaves.record import Record
from gitwaves.rulebook import AT_WORK, Rules, id_of, is_card, tracking_in

HEADS = "refs/heads/"


class Update(Record):
    """A branch that a push moves; `old` None makes it, `new` None deletes it."""

    branch: Branch
    old: Oid | None
    new: Oid | None


def run(folder: Path, given: str) -> None:
    """What the `pre-receive` hook does with the lines that Git gives it.

    Raises:
        Refused: the push must not be taken.
    """
    see_quarantine()
    repo = Repo.open(folder)
    found = [(u, b) for u, said in received(repo, updates_in(given)) for b in said]
    if found:
        shown = [f"  {u.branch}: {breach}" for u, breach in found[:20]]
        shown += [f"  and {len(found) - 20} more"] if len(found) > 20 else []
        raise Refused("this push is refused:\n" + "\n".join(shown), found[0][1].remedy)


def updates_in(given: str) -> list[Update]:
    """The branches that a push moves, but for those that nothing is read from."""
    found = []
    for line in given.splitlines():
        old, new, ref = line.split(" ", 2)
        name = Branch(ref.removeprefix(HEADS))
        kept = name == DASHBOARD_BRANCH or name.startswith("gitwaves/rescued/")
        if ref.startswith(HEADS) and not kept:
            oids = (Oid(o) if o.strip("0") else None for o in (old, new))
            found.append(Update(name, *oids))
    return found


def received(repo: Repo, updates: Sequence[Update]) -> Iterator[tuple[Update, list[Breach]]]:
    """What is wrong with each update of a push, as `check --base` would say it.

    The rules are those of trunk as the push leaves it. Where there was no plan before, there is
    nothing to hold it against: a first push is taken.
    """
    before = {n.removeprefix(HEADS): oid for n, oid in repo.refs(HEADS).items()}
    after = {**before, **{str(u.branch): u.new for u in updates if u.new}}
    for update in updates:
        if update.new is None:
            after.pop(update.branch, None)
    head = repo.try_git("symbolic-ref", "-q", "--short", "HEAD").stdout
    configured = repo.config("gitwaves.trunk") or head.decode(errors="surrogateescape").strip()
    was = trunk_among(repo, before, {}, configured)
    if was is None:
        return
    now = trunk_among(repo, after, {}, configured) or was
    rules = Rules(repo, now[0], now[1])
    for update in updates:
        yield update, _breaches(rules, update, was[0], before, after)


def _breaches(
    rules: Rules,
    update: Update,
    trunk: Branch,
    before: dict[str, Oid],
    after: dict[str, Oid],
) -> list[Breach]:
    repo, on_trunk = rules.repo, update.branch in {trunk, rules.trunk}
    worktree = update.branch if update.branch in rules.branches else None
    found = _lost(rules, update, on_trunk) if worktree or on_trunk else []
    if update.new is None or (repo.commit(update.new) is None):
        return found
    if not (worktree or on_trunk) and repo.tree(update.new).get(ROOT) is None:
        return found  # another history: nothing of ours is in it
    landed = update.old if on_trunk else rules.tip
    known = [oid for oid in (update.old, landed) if oid is not None]
    others = {
        tips[name]
        for tips in (before, after)
        for name in rules.branches
        if name in tips and name != update.branch
    }
    known += _judged(repo, update.new, known, sorted(others))
    lands = on_trunk or worktree is not None or update.branch.startswith("gitwaves/")
    found += breaches(rules, worktree, update.new, known, landed, lands=lands)
    if worktree and update.old and repo.is_ancestor(update.old, update.new):
        found += _over_a_claim(rules, update.old, update.new)
    return found


def _judged(repo: Repo, new: Oid, known: Sequence[Oid], others: Sequence[Oid]) -> Sequence[Oid]:
    """The tips of other worktrees whose history was judged when it was pushed there.

    None of them where the line that is pushed is itself one of theirs: it has yet to be judged as
    this branch's own.
    """
    if not others:
        return ()
    bounds = [f"^{oid}" for oid in known]
    line = repo.rev_list("--first-parent", new, *bounds)
    left = repo.rev_list(new, *bounds, *(f"^{oid}" for oid in others))
    return others if set(line) <= set(left) else ()


# --- what a push takes away --------------------------------------------------------------------


def _said(tracking: Tracking | None) -> tuple[object, ...] | None:
    return (tracking.status, tracking.evidence, tracking.claim) if tracking else None


def _lost(rules: Rules, update: Update, on_trunk: bool) -> list[Breach]:
    """What is recorded in the commits that an update drops, and stands nowhere else."""
    repo, old = rules.repo, update.old
    if old is None or (update.new is not None and repo.is_ancestor(old, update.new)):
        return []
    kept = [oid for oid in (update.new, None if on_trunk else rules.tip) if oid is not None]
    dropped = repo.rev_list(old, *(f"^{oid}" for oid in kept))
    paths = {p for changed in own_changes(repo, dropped).values() for p in changed if is_card(p)}
    found = []
    for path in sorted(paths):
        was = tracking_in(repo, old, path)
        if was is None or (
            not on_trunk and _said(was) == _said(tracking_in(repo, rules.tip, path))
        ):
            continue
        now = tracking_in(repo, update.new, path) if update.new else None
        if was.status is Status.DONE:
            what = "the done commit"
        elif was.status in AT_WORK and (now is None or now.claim != was.claim):
            what = f"the claim of {was.agent or 'another clone'}"
        else:
            continue
        how = (
            f"to push what was rewritten, put it on top: `gitwaves verify {id_of(path)}`, then push"
        )
        if update.new is None:
            how = f"land it first, or give it back (`gitwaves start {id_of(path)} --release`)"
        message = f"{path}: this would drop {what} of {id_of(path)} from {update.branch}"
        found.append(Breach(path, message, how, update.branch))
    return found


def _over_a_claim(rules: Rules, old: Oid, new: Oid) -> list[Breach]:
    """Claims that do not build on the claim that they replace: the work of whoever was first."""
    repo = rules.repo
    found = []
    for path in filter(is_card, repo.changed(old, new)):
        was, now = tracking_in(repo, old, path), tracking_in(repo, new, path)
        if was is None or now is None:
            continue
        if not {was.status, now.status} <= AT_WORK or was.claim == now.claim:
            continue
        made = [
            oid
            for oid in repo.rev_list("--full-history", new, f"^{old}", paths=[path])
            if (said := tracking_in(repo, oid, path)) is not None and said.claim == now.claim
        ]
        if any(repo.is_ancestor(old, oid) for oid in made[-1:]):
            continue  # a takeover
        message = f"{path}: {id_of(path)} is claimed by {was.agent or 'another clone'} already"
        found.append(Breach(path, message, "fetch, then `gitwaves next` for other work", None))
    return found
