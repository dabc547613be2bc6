"""What `doctor` looks at in the worktrees: half made, gone, moved, in the way, not prepared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gitwaves.claims import unprepared
from gitwaves.doctoring_git import require_unlocked
from gitwaves.errors import Refused
from gitwaves.git import Listed, Repo
from gitwaves.model import Branch, Severity
from gitwaves.troubles import Clone, Trouble
from gitwaves.worktrees import folder_for, forget_scratch, is_alone, left_scratch


def worktrees(clone: Clone) -> Iterator[Trouble]:
    """Checkouts that Git lists and that are not what it says."""
    yield from _moved(clone)
    scratch = {path for _, path in left_scratch(clone.repo)}
    for listed in clone.listed:
        if listed.path in scratch:
            continue
        if listed.half_made:
            yield _half_made(clone, listed)
        elif listed.admin is None:
            yield from _gone(clone, listed)
    for branch in sorted(clone.branches):
        holder = clone.holders.get(branch)
        if holder is None:
            yield from _in_the_way(clone, branch)
            yield from _claim_without(clone, branch)
        elif busy := holder.busy():
            yield Trouble(
                "worktrees",
                f"{holder.path} is in the middle of {busy}: nothing is landed on {branch} until "
                "that is over",
                "finish or abort it there",
                Severity.WARNING,
            )
    yield from _unprepared(clone)
    yield from _left_scratch(clone)


def _moved(clone: Clone) -> Iterator[Trouble]:
    repo, top = clone.repo, clone.repo.top
    if top is None or any(_same(top, w.path) for w in clone.listed):
        return
    admin = Path(repo.git("rev-parse", "--absolute-git-dir", cwd=top))
    listed = next((w.path for w in clone.listed if _admin_of(repo, w.path) == admin), None)
    if admin == repo.common or listed is None:
        return
    if listed.exists():
        yield Trouble(
            "worktrees",
            f"{top} is a copy of the worktree {listed}: what is staged or committed in one shows "
            "in the other",
            f"work in {listed} and remove the copy, or make a clone instead",
        )
        return

    def mend() -> str:
        repo.git("worktree", "repair", str(top))
        return f"Git knows that {listed} is {top} now"

    yield Trouble(
        "worktrees",
        f"{top} was moved from {listed}, and Git does not know",
        f"git worktree repair {top}",
        mend=mend,
    )


def _half_made(clone: Clone, listed: Listed) -> Trouble:
    repo = clone.repo
    task = clone.at_work(listed.branch) if listed.branch else None
    anew = f"; then run `gitwaves start {task}`" if task else ""

    def mend() -> str:
        _require_only_git(repo, listed)
        repo.git("worktree", "remove", "--force", "--force", str(listed.path))
        return f"removed {listed.path}{anew}"

    return Trouble(
        "worktrees",
        f"{listed.path} is half made: `git worktree add` was killed there",
        f"git worktree remove --force --force {listed.path}{anew}",
        mend=mend if listed.branch in clone.branches else None,
    )


def _require_only_git(repo: Repo, listed: Listed) -> None:
    """Raises unless a half-made checkout holds nothing but what Git was writing there.

    Raises:
        Refused: somebody has worked there, or Git is still at it.
    """
    require_unlocked(repo, listed.path)
    admin = _admin_of(repo, listed.path)
    if admin is not None and (admin / "index").exists():
        raise Refused(f"something was staged in {listed.path}", "see what it is")
    for folder, _, names in os.walk(listed.path):
        for name in names:
            file = Path(folder) / name
            path = file.relative_to(listed.path).as_posix()
            if path == ".git":
                continue
            whole = repo.read(listed.head, path) if listed.head else None
            link = file.is_symlink()
            if whole is None or link or not whole.startswith(file.read_bytes()):
                raise Refused(f"{file} is not as Git would have written it", "see whose it is")


def _gone(clone: Clone, listed: Listed) -> Iterator[Trouble]:
    repo, branch = clone.repo, listed.branch
    ours = branch in clone.branches
    if listed.path.exists():
        yield from _no_checkout(clone, listed)
    elif listed.locked is not None:
        if ours:
            why = f" ({listed.locked})" if listed.locked else ""
            yield Trouble(
                "worktrees",
                f"{listed.path}, the worktree of {branch}, is gone, and locked{why}",
                f"bring it back, or give it up: git worktree unlock {listed.path}",
            )
    elif not (branch and clone.task_of_mine(branch)):  # `start` makes it again

        def mend() -> str:
            _require_nothing_staged(repo, listed)
            repo.git("worktree", "remove", "--force", str(listed.path))
            return f"Git has forgotten {listed.path}"

        yield Trouble(
            "worktrees",
            f"Git still lists {listed.path}, which is gone",
            "bring it back (moved: `git worktree repair` there), or: git worktree prune",
            Severity.WARNING,
            mend if ours else None,
        )


def _require_nothing_staged(repo: Repo, listed: Listed) -> None:
    """Raises where the index of a checkout that is gone holds what no commit does.

    Raises:
        Refused: says where it is.
    """
    admin = _admin_of(repo, listed.path)
    if admin is None or not (admin / "index").exists():
        return
    env = {"GIT_INDEX_FILE": str(admin / "index")}
    tip = repo.branch(listed.branch) if listed.branch else listed.head
    if tip is None or repo.git("write-tree", env=env) != repo.require_commit(tip).tree:
        raise Refused(
            f"what was staged in {listed.path} is only in {admin / 'index'}",
            f"save it: git --git-dir={admin} commit, or give it up: git worktree prune",
        )


def _no_checkout(clone: Clone, listed: Listed) -> Iterator[Trouble]:
    repo = clone.repo
    admin = _admin_of(repo, listed.path)
    lost = admin is not None and not os.path.lexists(listed.path / ".git")

    def mend() -> str:  # `git worktree repair` would do it to everybody's
        (listed.path / ".git").write_bytes(b"gitdir: " + os.fsencode(admin or "") + b"\n")
        return f"{listed.path} has its .git file again"

    yield Trouble(
        "worktrees",
        f"Git lists {listed.path} as a worktree, and "
        + ("its .git file is gone" if lost else "something else stands there"),
        "git worktree repair" if lost else "move that away, then: git worktree prune",
        mend=mend if lost and listed.branch in clone.branches else None,
    )


def _in_the_way(clone: Clone, branch: Branch) -> Iterator[Trouble]:
    snapshot = clone.snapshot
    assert snapshot is not None  # there are no branches without a plan
    folder = folder_for(clone.repo, snapshot.cards, branch.replace("/", "-"))
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    there = next((w for w in clone.listed if _same(w.path, folder)), None)
    if there is None:
        yield Trouble(
            "worktrees",
            f"{folder} is where the worktree of {branch} goes, and Git knows nothing of it",
            "see what it holds and move it away; gitwaves does not touch it",
        )
    elif there.admin is not None and not there.half_made:
        what = there.branch or f"the commit {(there.head or '')[:10]}"
        yield Trouble(
            "worktrees",
            f"{folder} has {what} checked out, not {branch}",
            f"git -C {folder} switch {branch}",
            Severity.ERROR if clone.task_of_mine(branch) else Severity.WARNING,
        )


def _claim_without(clone: Clone, branch: Branch) -> Iterator[Trouble]:
    task = clone.task_of_mine(branch)
    if task is None or any(w.branch == branch and w.half_made for w in clone.listed):
        return
    yield Trouble(
        "worktrees",
        f"{task} is at work here, and {branch} is checked out nowhere",
        f"`gitwaves start {task}` makes its worktree again, `gitwaves start {task} --release` "
        "gives it back",
    )


def _unprepared(clone: Clone) -> Iterator[Trouble]:
    repo = clone.repo
    for note in sorted((repo.state_dir / "unprepared").glob("*")):
        branch = Branch(note.name.replace("%2F", "/"))
        holder = clone.holders.get(branch)
        if holder is None or is_alone(repo, f"setup of {branch}"):
            continue  # of a checkout to come, which notes it again; or `setup` is at it
        task = clone.at_work(branch)
        yield Trouble(
            "worktrees",
            f"the `setup` of {holder.path} was not finished",
            f"`gitwaves start {task}` runs it again"
            if task
            else f"run it there by hand, then: rm {unprepared(repo, branch)}",
        )


def _left_scratch(clone: Clone) -> Iterator[Trouble]:
    """Clean checkouts that merges and verifications use, left by ones that were killed."""
    repo = clone.repo
    for name, path in left_scratch(repo):
        listed = next((w for w in clone.listed if _same(w.path, path)), None)

        def mend(name: str = name, path: Path = path, listed: Listed | None = listed) -> str:
            if listed is not None:
                require_unlocked(repo, path)
                if listed.half_made:
                    _require_only_git(repo, listed)
                elif listed.branch is not None:
                    raise Refused(f"{path} is on {listed.branch} now", "see who works there")
                elif path.exists() and (changed := repo.status(path, untracked=False)):
                    raise Refused(f"{path} has changes: {', '.join(changed[:5])}", "see whose")
                repo.git("worktree", "remove", "--force", "--force", str(path))
            elif path.exists():
                raise Refused(f"{path} is no checkout of this repository", "see whose it is")
            forget_scratch(repo, name)
            return f"removed {path}"

        yield Trouble(
            "worktrees",
            f"{path} was left by a merge or verification that was killed",
            f"git worktree remove --force {path}",
            Severity.WARNING,
            mend,
        )


def _admin_of(repo: Repo, path: Path) -> Path | None:
    """The Git directory that Git keeps for a checkout at `path`, whatever stands there."""
    for admin in sorted((repo.common / "worktrees").glob("*")):
        try:
            kept = Path(os.fsdecode((admin / "gitdir").read_bytes()).strip())
        except OSError:
            continue
        if kept.parent == path:
            return admin
    return None


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
