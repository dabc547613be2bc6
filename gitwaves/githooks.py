"""What each Git hook does. They match and refuse; they never run a card's commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gitwaves.advancing import advance, said_in, unmatched
from gitwaves.errors import GitwavesError, Refused, quoted
from gitwaves.git import GIT_HOOK_INDEX, Repo, Worktree
from gitwaves.model import Branch, Oid, closest, printable
from gitwaves.store import Snapshot, Store, at_work
from gitwaves.unfinished import cut_short
from gitwaves.worktrees import marker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gitwaves.gitcall import Asked

# Ends a message in the editor; below it `git commit -v` shows what is committed.
_CUT = " ------------------------ >8 ------------------------\n"


def call(path: Path, name: str, args: list[str], settings: Asked | None = None) -> None:
    """Runs a hook for Git: what goes wrong in it stops no commit, and is said.

    Args:
        settings: as `Repo.open` takes them.

    Raises:
        Refused: the commit must not be made.
    """
    try:
        run(Repo.open(path, settings), name, args)
    except (GitwavesError, OSError) as error:
        after = name.startswith("post-")
        if isinstance(error, Refused) and not after:
            raise
        later = "sync` catches up" if after else "verify` looks again"
        _say(f"{error}; `gitwaves {later}")


def run(repo: Repo, name: str, args: list[str]) -> None:
    """Runs a hook in the worktree it was called in; does nothing where no task is at work.

    Raises:
        Refused: the commit must not be made (`commit-msg`).
    """
    store = Store(repo, offline=True)
    here = repo.here()
    if here is None or here.branch is None:
        return
    if not (marker(repo, here.branch).is_file() or cut_short(repo, here.branch)):
        return
    if name == "commit-msg" and args:
        commit_msg(store, here, here.branch, Path(args[0]))
    elif name in {"commit-msg", "pre-commit", "pre-merge-commit"}:  # as others may call it
        _require_allowed(store, here, here.branch)
    elif name in {"post-commit", "post-merge", "post-rewrite"}:
        post(store, here.branch)


def commit_msg(store: Store, here: Worktree, branch: Branch, file: Path) -> None:
    """Refuses a commit of what may not be in it, and trailers that name nothing.

    Raises:
        Refused: says what to do, and where a message lies that was written in an editor.
    """
    try:
        _require_allowed(store, here, branch)
        _require_trailers(store.snapshot(), branch, file)
    except Refused as refused:
        if os.environ.get("GIT_EDITOR") == ":":  # as Git says that none was opened
            raise
        try:
            kept = _kept(file)
        except OSError:
            raise refused from None
        raise Refused(refused.message, f"{refused.hint}\n{kept}") from None


def _kept(file: Path) -> str:
    """How to go on with a message that was written in an editor."""
    if file.name == "MERGE_MSG":  # which `git merge` writes anew once it is refused
        text = file.read_bytes()
        file = file.with_name("COMMIT_EDITMSG")
        file.write_bytes(text)
    # without -v, what stands below the cut would become a part of the message
    verbose = " -v" if _CUT in file.read_text(errors="replace") else ""
    return (
        "the message that you wrote is kept; with the options that you gave, such as --amend: "
        f"git commit -eF {quoted(str(file.absolute()))}{verbose}"
    )


def _require_allowed(store: Store, here: Worktree, branch: Branch) -> None:
    """Raises for paths outside the boundary, a changed spec half, and another worktree's card."""
    from gitwaves.guards import Change, breaches_of  # slow to import, and no other hook's
    from gitwaves.ranges import breaches_of_next
    from gitwaves.rulebook import Rules

    repo = store.repo
    if cut_short(repo, branch):
        raise Refused(
            f"gitwaves was killed while it moved {branch}: this commit would take a part of that",
            "run `gitwaves sync`, then commit again",
        )
    snapshot = store.snapshot()
    task = at_work(snapshot, branch)
    tip = repo.branch(branch)
    if task is None or tip is None:
        return
    env = {"GIT_INDEX_FILE": GIT_HOOK_INDEX} if GIT_HOOK_INDEX else {}
    parents = [tip, *_merging(here)]
    index = Oid(repo.git("write-tree", cwd=here.path, env=env))
    rules = Rules(repo, snapshot.trunk, snapshot.trunk_tip, snapshot.cards)
    bases = repo.merge_bases(snapshot.trunk_tip, tip)
    said = breaches_of_next(rules, branch, Change.of(repo, index, parents), snapshot.trunk_tip)
    for base in bases if said and len(parents) == 1 else ():
        # what an amend takes back may go: it is no change of what trunk has
        still = {b.path for b in breaches_of(rules, branch, Change.of(repo, index, [base]))}
        said = [b for b in said if b.path in still]
    if said:
        raise Refused(
            "this commit is refused:\n" + "\n".join(f"  {line}" for line in said),
            "take these out with `git restore --staged FILE`; their owner changes them, "
            f"or a review on {snapshot.trunk} widens the boundary",
        )


def _merging(here: Worktree) -> list[Oid]:
    """What is being merged: also `git merge` has made a MERGE_HEAD before it asks commit-msg."""
    file = here.admin / "MERGE_HEAD"
    return [Oid(oid) for oid in file.read_text().split()] if file.exists() else []


def _require_trailers(snapshot: Snapshot, branch: Branch, file: Path) -> None:
    """Raises for a trailer that names no task."""
    text = file.read_text(errors="replace").partition(_CUT)[0]
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for key, value in said_in("\n".join(lines)):
        if key == "task" and value not in snapshot.cards.tasks:
            guess = closest(value, snapshot.cards.tasks)
            raise Refused(
                f"the trailer `Task: {value}` names no task",
                f"did you mean {guess}?"
                if guess
                else f"the task at work here is {at_work(snapshot, branch)}",
            )


def post(store: Store, branch: Branch) -> None:
    """Advances state after a commit, and says what that opened, or what still differs."""
    advanced = advance(store, branch)
    for one in advanced:
        _say(f"{one.task} is done")
        if one.opened:
            _say(f"runnable now: {' '.join(one.opened)}")
    if not advanced:
        differing = unmatched(store, branch)
        if differing:
            shown = ", ".join(differing[:5]) + (
                f" and {len(differing) - 5} more" if len(differing) > 5 else ""
            )
            _say(f"this commit is not what was verified; it differs in {shown}")
            _say("run `gitwaves verify`")


def _say(line: str) -> None:
    sys.stderr.write(f"gitwaves: {printable(line)}\n")
