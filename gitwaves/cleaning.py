"""`clean`: worktrees and branches whose work has landed go; nothing that is anybody's does."""

from __future__ import annotations

from gitwaves.errors import GitError
from gitwaves.git import Repo, Worktree
from gitwaves.model import Branch, State
from gitwaves.receipts import forget_made, made_files
from gitwaves.settling import joined, only_state, says_more
from gitwaves.store import Store, at_work
from gitwaves.worktrees import mark


def clean(store: Store, *, ignored: bool = False) -> tuple[list[str], list[str]]:
    """Removes what is landed and clean; returns what was removed, and what was kept and why.

    Args:
        ignored: ignored files may be lost with their worktree.
    """
    repo = store.repo
    removed: list[str] = []
    kept: list[str] = []
    snapshot = store.snapshot()
    shown = store.progress(snapshot)
    landed = joined(store, snapshot)
    for branch in sorted({w.branch for w in snapshot.cards.workstreams.values()}):
        tip = repo.branch(branch)
        if tip is None:
            continue
        tasks = snapshot.cards.tasks_on(branch)
        left = [t for t in tasks if shown.states[t] not in {State.DONE, State.CANCELLED}]
        if at_work(snapshot, branch) or left:
            kept.append(f"{branch}: {' '.join(left) or 'a task'} not done yet")
            continue
        unlanded = [t for t in tasks if not snapshot.facts[t].landed]
        if unlanded or not only_state(repo, tip, landed):
            kept.append(f"{branch}: has commits that are not on {snapshot.trunk}")
            continue
        if told := [t for t in tasks if says_more(snapshot, t)]:
            kept.append(
                f"{branch}: what {' '.join(told)} taught since is not on {snapshot.trunk} yet; "
                "gitwaves merge --rest"
            )
            continue
        holder = repo.holder(branch)
        if holder is not None:
            why = _in_the_way(repo, holder, branch, ignored)
            if why:
                kept.append(f"{holder.path}: {why}")
                continue
            try:
                # --force only for what the steps made: else Git looks once more itself
                repo.remove_worktree(holder.path, force=bool(made_files(repo, branch)))
            except GitError as error:
                kept.append(f"{holder.path}: {error.message}")
                continue
            forget_made(repo, branch)
            removed.append(str(holder.path))
        with repo.lock():
            repo.git("update-ref", "-d", f"refs/heads/{branch}", tip)
        mark(repo, snapshot.cards, branch, None)
        removed.append(f"branch {branch} (was {tip[:10]})")
    return removed, kept


def _in_the_way(repo: Repo, worktree: Worktree, branch: Branch, ignored: bool) -> str | None:
    if worktree.admin == repo.common:
        return "is the main worktree"
    if repo.top is not None and repo.top.resolve() == worktree.path.resolve():
        return "is where this command runs"
    if busy := worktree.busy():
        return f"is in the middle of {busy}"
    made = made_files(repo, branch)
    dirty = [p for p in repo.status(worktree.path) if p not in made]
    if dirty:
        return f"has uncommitted work: {', '.join(dirty[:5])}"
    if not ignored:
        args = ("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
        found = repo.paths(*args, cwd=worktree.path)
        if found:
            return f"ignored files would be lost: {', '.join(found[:8])} (--ignored agrees)"
    return None
