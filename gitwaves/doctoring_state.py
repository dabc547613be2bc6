"""What `doctor` looks at in what gitwaves keeps: hooks, its own lock, notes, leftovers, dashboard."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gitwaves import hooks as git_hooks
from gitwaves.caches import unreadable
from gitwaves.errors import GitError, Refused
from gitwaves.git import Repo
from gitwaves.model import DASHBOARD_BRANCH, Branch, Severity, Status
from gitwaves.processes import alive, command, lock_holders, marked
from gitwaves.resolving import Resolution, forget
from gitwaves.troubles import Clone, Trouble
from gitwaves.worktrees import folder_for, is_alone, is_marked, mark
from gitwaves.writing import is_live, refresh

_OLD = 3600  # seconds after which no process is still about to rename a file that it has written


def hooks(clone: Clone) -> Iterator[Trouble]:
    """Whether Git's hooks reach gitwaves, in every worktree."""
    repo = clone.repo
    tops = [w.path for w in clone.listed if w.admin is not None]
    if not tops:
        return
    folders = {top: git_hooks.hooks_path(repo, top) for top in _asked(repo, tops)}
    seen = set()
    for top in tops:
        folder = folders.get(top, folders[tops[0]])
        if folder is None:
            continue
        missing = git_hooks.missing_elsewhere(folder, top)
        if missing is None:
            yield Trouble(
                "hooks",
                f"Git looks for hooks in {folder}, which is not in {top}: none runs there",
                "run what puts it there (`npm install` for husky); under `setup:` in "
                ".workstreams/config.yaml, every new worktree gets it",
            )
        elif missing and (folder, *missing) not in seen:
            seen.add((folder, *missing))
            yield Trouble(
                "hooks",
                f"Git looks for hooks in {folder}, where {' '.join(missing)} do not call gitwaves",
                git_hooks.what_to_add(folder, missing),
            )
    if None not in folders.values():
        return
    faults = git_hooks.faults(repo)
    if not faults:
        return
    if faults.get("is missing") == git_hooks.HOOKS:
        message = "no hook is installed: state is only advanced by gitwaves' own commands"
    else:
        message = "; ".join(f"{' '.join(names)} {fault}" for fault, names in faults.items())
    harmless = set(faults) == {git_hooks.OTHER_VERSION}
    yield Trouble(
        "hooks",
        message,
        "gitwaves hooks install",
        Severity.WARNING if harmless else Severity.ERROR,
        lambda: "; ".join(git_hooks.install(repo)),
    )


def _asked(repo: Repo, tops: list[Path]) -> list[Path]:
    """The worktrees that are asked for their settings: they share them, unless Git is told not to."""
    own = repo.config("extensions.worktreeConfig", "--type=bool") == "true"
    return tops if own else tops[:1]


def held_lock(repo: Repo, seconds: float) -> Trouble:
    """What is said where gitwaves' own lock could not be had."""
    holders = [f"{command(p)} (process {p})" for p in lock_holders(repo.state_dir / "lock")]
    who = " and ".join(holders) or "another gitwaves"
    return Trouble(
        "lock",
        f"{who} has had the lock of gitwaves for {seconds:.0f}s and more: everything waits",
        "wait for it or end it; the lock goes with its process. Without it, not all was looked at",
    )


def agents(clone: Clone) -> Iterator[Trouble]:
    """Records of agents that `run` started."""
    folder = clone.repo.state_dir / "agents"
    for note in sorted(folder.glob("*.json")):
        task = note.stem
        try:
            held = json.loads(note.read_bytes())
            runner, marker = int(held["runner"]), str(held["marker"])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            runner, marker = 0, ""
        if alive(runner):
            continue
        if marker and (left := marked(marker)):
            yield Trouble(
                "agents",
                f"the agent of {task} still works (process {' '.join(map(str, left))}), and the "
                "`gitwaves run` that started it is gone",
                f"`gitwaves stop {task}` ends it",
            )
            continue
        yield Trouble(
            "agents",
            f"an agent of {task} is recorded, and is gone",
            f"rm {note}",
            Severity.WARNING,
            _removal(note),
        )
    for stop in sorted(folder.glob("*.stop")):
        if not stop.with_suffix(".json").exists():
            yield Trouble(
                "agents",
                f"a stop is asked for of an agent of {stop.stem}, and none is at work",
                f"rm {stop}",
                Severity.WARNING,
                _removal(stop),
            )


def merges(clone: Clone) -> Iterator[Trouble]:
    """Conflicts that wait for a person, and what is left of such."""
    repo, snapshot = clone.repo, clone.snapshot
    if snapshot is None:
        return
    recorded = set()
    for file in sorted((repo.state_dir / "merging").glob("*.json")):
        node = file.stem
        if is_alone(repo, f"merge of {node}"):
            continue
        try:
            resolution = Resolution(**json.loads(file.read_bytes()))
        except (OSError, ValueError, TypeError):
            continue  # no record: then its checkout is found below
        recorded.add(node)
        fact = snapshot.facts.get(node)
        if not Path(resolution.path).is_dir():
            yield Trouble(
                "merges",
                f"a conflict of {node} waits in {resolution.path}, which is gone",
                f"rm {file}",
                Severity.WARNING,
                _removal(file),
            )
        elif fact is None or fact.tracking.status is Status.DONE:
            yield _resolved(clone, node, resolution)
        else:
            yield Trouble(
                "merges",
                f"a conflict of {node} waits in {resolution.path}",
                f"resolve it there, `git add` the files, then: gitwaves merge {node} --continue",
                Severity.WARNING,
            )
    for point in sorted(set(snapshot.cards.merge_points) - recorded):
        path = folder_for(repo, snapshot.cards, f"resolve-{point}")
        if path.is_dir() and not is_alone(repo, f"merge of {point}"):
            yield Trouble(
                "merges",
                f"{path} is left of a merge of {point} that was killed",
                f"git worktree remove --force {path}, then: gitwaves merge {point}",
                mend=lambda path=path: _remove_clean(repo, path),  # type: ignore[misc]
            )


def _resolved(clone: Clone, node: str, resolution: Resolution) -> Trouble:
    path = Path(resolution.path)

    def mend() -> str:
        repo, snapshot = clone.repo, clone.snapshot
        fact = snapshot.facts.get(node) if snapshot else None
        evidence = fact.tracking.evidence if fact else None
        if repo.unmerged(path) or repo.paths("diff", "--name-only", "-z", cwd=path):
            raise Refused(f"{path} holds more than was landed", "see what it is")
        staged = repo.code_tree(type(resolution.ours)(repo.git("write-tree", cwd=path)))
        if evidence is None or staged != evidence.tree:
            raise Refused(f"{path} holds something else than was landed", "see what it is")
        if repo.paths("ls-files", "--others", "--exclude-standard", "-z", cwd=path):
            raise Refused(f"{path} holds files that were not landed", "see what they are")
        if kept := forget(clone.store, node, resumed=True):
            raise Refused(kept, "see what it is")
        return f"removed {path}"

    return Trouble(
        "merges",
        f"{path} is left of a conflict of {node}, which waits for nothing any more",
        f"git worktree remove --force {path}",
        Severity.WARNING,
        mend,
    )


def _remove_clean(repo: Repo, path: Path) -> str:
    listed = {w.path: w for w in repo.worktrees()}.get(path)
    if listed is None or listed.busy() or repo.status(path):
        raise Refused(f"{path} may hold somebody's work", "see what it is")
    try:
        repo.remove_worktree(path)
    except GitError as error:
        raise Refused(error.message) from error
    return f"removed {path}"


def markers(clone: Clone) -> Iterator[Trouble]:
    """Whether the hooks' shim knows what is at work where."""
    repo, snapshot = clone.repo, clone.snapshot
    if snapshot is None:
        return
    folder = repo.state_dir / "at-work"
    noted = {Branch(p.name.removesuffix(".paths").replace("%2F", "/")) for p in folder.glob("*")}
    wrong = []
    for branch in sorted(noted | clone.branches):
        task = clone.at_work(branch)
        known = branch in clone.branches and branch in clone.heads
        if not known and task is not None and branch in clone.branches:
            continue  # another clone's: noted or not, no commit is made on it here
        if not is_marked(repo, snapshot.cards, branch, task):
            wrong.append((branch, task))

    def mend() -> str:
        for branch, task in wrong:
            mark(repo, snapshot.cards, branch, task)
        return "the hooks know again what is at work"

    if wrong:
        said = ", ".join(f"{branch} ({task or 'nothing'} is at work)" for branch, task in wrong)
        yield Trouble(
            "hooks",
            f"what the hooks take to be at work is not true for {said}",
            "gitwaves doctor --fix",
            mend=mend,
        )


def leftovers(clone: Clone) -> Iterator[Trouble]:
    """Files of ours that nothing needs any more: of killed processes, and of what has gone."""
    repo = clone.repo
    killed = [*_killed(repo.state_dir), *_aged((repo.common / "hooks").glob(".gitwaves-*"))]
    yield from _left(killed, "left by gitwaves processes that were killed")
    yield from _left(unreadable(repo.state_dir / "cache"), "no cache that can be read")
    snapshot = clone.snapshot
    if snapshot is None or any(f.severity is Severity.ERROR for f in snapshot.cards.findings):
        return  # which tasks there are cannot be told
    stale = [
        path
        for kind in ("receipts", "watched")
        for path in sorted((repo.state_dir / kind).glob("*"))
        if path.name not in snapshot.cards.tasks
    ]
    held = {w.branch for w in clone.listed}
    stale += [
        path
        for kind in ("made", "unprepared")
        for path in sorted((repo.state_dir / kind).glob("*"))
        if not path.name.startswith(".") and path.name.replace("%2F", "/") not in held
    ]
    yield from _left(stale, "about tasks and worktrees that are gone")


def _killed(state: Path) -> Iterator[Path]:
    """What processes write under other names first, and no living one is about to rename."""
    for path in sorted(state.glob("index-*")):
        match = re.fullmatch(r"index-(\d+)-.*", path.name)
        if match and not alive(int(match[1])):
            yield path
    kinds = ("agents", "merging", "made", "receipts/*", "logs/*")
    yield from _aged(p for kind in kinds for p in state.glob(f"{kind}/.*"))
    yield from _aged((state / "cache").glob("new-*"))


def _aged(paths: Iterator[Path]) -> Iterator[Path]:
    for path in sorted(paths):
        if path.is_file() and time.time() - path.stat().st_mtime > _OLD:
            yield path


def _left(paths: list[Path], what: str) -> Iterator[Trouble]:
    if not paths:
        return
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""

    def mend() -> str:
        for path in paths:
            _remove(path)
        return f"removed {len(paths)}"

    yield Trouble(
        "leftovers",
        f"{what}: {', '.join(map(str, paths[:3]))}{more}",
        "nothing needs them: gitwaves doctor --fix",
        Severity.WARNING,
        mend,
    )


def _removal(path: Path) -> Callable[[], str]:
    def mend() -> str:
        _remove(path)
        return f"removed {path}"

    return mend


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def dashboard(clone: Clone) -> Iterator[Trouble]:
    """Whether the live dashboard shows what is read now."""
    if clone.snapshot is None or is_live(clone.store, clone.snapshot):
        return

    def mend() -> str:
        refresh(clone.store)
        return f"{DASHBOARD_BRANCH} is up to date"

    yield Trouble(
        "dashboard",
        f"{DASHBOARD_BRANCH} does not show what is read now",
        "gitwaves sync",
        Severity.WARNING,
        mend,
    )
