"""What `doctor` looks at in Git itself: its version, settings, locks, references, the remote."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from gitwaves.errors import Refused
from gitwaves.git import Repo
from gitwaves.model import CONFIG_PATH, DASHBOARD_BRANCH, Branch, Oid, Severity
from gitwaves.patterns import regex
from gitwaves.processes import git_processes
from gitwaves.troubles import Clone, Trouble

OLDEST_GIT = (2, 39)
_PATIENCE = 0.5  # seconds that a lock of Git's may take in the course of things
_RESCUED = "gitwaves/rescued/"
# Domains that nobody has mail in (RFC 2606, RFC 6762), and names that only tests go by.
_NO_DOMAIN = regex(
    r"(^|\.)(example\.(com|net|org)|example|test|invalid|localhost|local|localdomain)$|^[^.]*$"
)
_NO_NAME = regex(r"(?i)[a-z]|tests?|testers?|test[ -_]?user|ci|bot|user|foo|temp|you|your name")


def version(clone: Clone) -> Iterator[Trouble]:
    """Whether Git is new enough."""
    said = clone.repo.git("--version")
    match = re.search(r"(\d+)\.(\d+)\S*", said)
    if match and (int(match[1]), int(match[2])) < OLDEST_GIT:
        yield Trouble(
            "git",
            f"Git is {match[0]}; gitwaves needs {OLDEST_GIT[0]}.{OLDEST_GIT[1]} or newer",
            f"install a newer one and have it come first on PATH: now {shutil.which('git')} does",
        )


# --- settings ----------------------------------------------------------------------------------


def settings(clone: Clone) -> Iterator[Trouble]:
    """Settings that something let loose on the repository around it: test suites in hooks do."""
    repo = clone.repo
    if repo.common.name == ".git":  # else it is bare, a submodule's, or kept apart on purpose
        yield from _bare(repo)
        yield from _worktree(repo)
    yield from _identity(clone)


def _own(repo: Repo, key: str, *options: str) -> str | None:
    """A value of the repository's own configuration file."""
    args = ("config", "--file", str(repo.common / "config"), *options, "--get", key)
    done = repo.try_git(*args)
    return done.stdout.decode(errors="replace").rstrip("\n") if done.returncode == 0 else None


def _bare(repo: Repo) -> Iterator[Trouble]:
    # A repository that was made bare has no index.
    if _own(repo, "core.bare", "--type=bool") != "true" or not (repo.common / "index").is_file():
        return

    def mend() -> str:
        repo.git("config", "--file", str(repo.common / "config"), "core.bare", "false")
        return "core.bare is false again"

    yield Trouble(
        "settings",
        f"core.bare is true, and {repo.common.parent} is a worktree: Git refuses to work in it",
        f"git config --file {repo.common / 'config'} core.bare false",
        mend=mend,
    )


def _worktree(repo: Repo) -> Iterator[Trouble]:
    value = _own(repo, "core.worktree", "--type=path")
    if not value or (repo.common / value).resolve() == repo.common.parent.resolve():
        return

    def mend() -> str:
        repo.git("config", "--file", str(repo.common / "config"), "--unset-all", "core.worktree")
        return f"core.worktree is unset (it was {value})"

    there = (repo.common / value).is_dir()
    yield Trouble(
        "settings",
        f"core.worktree is {value}{'' if there else ', which is gone'}: "
        f"Git takes that for the worktree of {repo.common}",
        f"git config --file {repo.common / 'config'} --unset-all core.worktree",
        mend=None if there else mend,  # somebody may want it so
    )


def _identity(clone: Clone) -> Iterator[Trouble]:
    """An identity of a test's: in this repository only, and nobody's who began the plan."""
    repo = clone.repo
    name, email = (_own(repo, f"user.{key}") for key in ("name", "email"))
    if clone.snapshot is None or not _is_placeholder(name, email) or _shallow(repo):
        return
    elsewhere = _elsewhere(repo)
    founders = _founders(repo, clone.snapshot.trunk_tip)
    if elsewhere is None or founders & {email, None if email else name}:
        return
    was = {f"user.{k}": v for k, v in (("name", name), ("email", email)) if v is not None}
    config = str(repo.common / "config")

    def mend() -> str:
        for key, value in was.items():
            if _own(repo, key) == value:
                repo.git("config", "--file", config, "--unset-all", key)
        said = ", ".join(f"{key} {value!r}" for key, value in was.items())
        return f"unset {said}; commits are {elsewhere}'s again"

    yield Trouble(
        "settings",
        f"commits here are made as {name or elsewhere} <{email or ''}>, which looks like a test's "
        f"identity: elsewhere you are {elsewhere}",
        "; ".join(f"git config --file {config} --unset-all {key}" for key in was),
        mend=mend,
    )


def _is_placeholder(name: str | None, email: str | None) -> bool:
    if email is not None:
        return _NO_DOMAIN.search(email.rpartition("@")[2].lower()) is not None
    return name is not None and _NO_NAME.fullmatch(name) is not None


def _elsewhere(repo: Repo) -> str | None:
    """The identity that a clone without one of its own has, if that is whole."""
    found = {}
    for key in ("user.name", "user.email"):
        out = repo.try_git("config", "--show-scope", "-z", "--get-all", key).stdout
        words = out.decode(errors="replace").split("\0")
        for scope, value in zip(words[::2], words[1::2], strict=False):
            if scope in {"system", "global"}:
                found[key] = value
    return f"{found['user.name']} <{found['user.email']}>" if len(found) == 2 else None


def _founders(repo: Repo, trunk: Oid) -> set[str | None]:
    """The names and addresses of all who wrote what the plan was begun on, and who began it."""
    begun = repo.git("rev-list", "--reverse", trunk, "--", CONFIG_PATH).split()[:1]
    said = repo.git("log", "--format=%an%n%ae%n%cn%n%ce", *(begun or [trunk]))
    return set(said.splitlines())


# --- locks -------------------------------------------------------------------------------------


def locks(clone: Clone) -> Iterator[Trouble]:
    """Git's own lock files that stay: named, with who may hold them, and never touched."""
    repo = clone.repo
    before = _lock_files(repo)
    if not before:
        return
    time.sleep(_PATIENCE)
    after = _lock_files(repo)
    stale = [path for path, what in before.items() if after.get(path) == what]
    folders = [repo.common, *(w.path for w in clone.listed)]
    running = [f"{said} (process {pid})" for pid, said in git_processes(folders).items()]
    for path in stale:
        age = _age(time.time() - before[path][1] / 1e9)
        if running:
            yield Trouble(
                "locks",
                f"{path} is {age} old; {' and '.join(running[:3])} may hold it",
                "wait for it; gitwaves waits as well",
                Severity.WARNING,
            )
            continue
        known = "no git process is at work here" if Path("/proc").is_dir() else "see what git runs"
        yield Trouble(
            "locks",
            f"{path} is {age} old, and {known}: one that was killed left it, and Git waits for it",
            f"make sure that no editor or client is at work here, then: rm {path}",
        )


def _lock_files(repo: Repo) -> dict[Path, tuple[int, int]]:
    common = repo.common
    patterns = [
        *("*.lock", "refs/**/*.lock", "reftable/*.lock", "objects/info/**/*.lock"),
        *("worktrees/*/*.lock", "worktrees/*/refs/**/*.lock"),
    ]
    found = {}
    for path in (p for pattern in patterns for p in common.glob(pattern)):
        try:
            stat = path.lstat()
        except OSError:
            continue
        found[path] = (stat.st_ino, stat.st_mtime_ns)
    return dict(sorted(found.items()))


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds / length)} {unit}"
    return f"{max(0, int(seconds))} seconds"


# --- references --------------------------------------------------------------------------------


def references(clone: Clone) -> Iterator[Trouble]:
    """References that cannot be read or made, and branches that were put aside."""
    repo = clone.repo
    broken = unreadable_refs(repo)
    for ref in broken:
        yield Trouble("branches", f"{ref} cannot be read", _restore(repo, ref))
    if broken:
        return
    heads = clone.heads
    for branch in sorted({*clone.branches, DASHBOARD_BRANCH}):
        parts = branch.split("/")
        for end in range(1, len(parts)):
            short = "/".join(parts[:end])
            if short in heads:
                yield Trouble(
                    "branches",
                    f"the branch {short} stands in the way of {branch}: Git cannot have both",
                    f"give it another name: git branch -m {short} {short}-old",
                )
    for short in sorted(h for h in heads if h.startswith(_RESCUED)):
        yield Trouble(
            "branches",
            f"{short} holds work that came too late for its branch",
            f"take what is needed of it (git log -p {short}), then: git branch -D {short}",
            Severity.WARNING,
        )


def unreadable_refs(repo: Repo) -> list[str]:
    """The branches whose references or commits are broken."""
    done = repo.try_git("for-each-ref", "--format=%(objecttype)", "refs/heads", "refs/remotes")
    said = done.stderr.decode(errors="surrogateescape")
    broken = re.findall(r"^warning: ignoring broken ref (.+)$", said, re.M)
    broken += re.findall(r"^fatal: missing object \S+ for (.+)$", said, re.M)
    return list(dict.fromkeys(broken))


def _restore(repo: Repo, ref: str) -> str:
    """How a broken reference is put back to the last commit that its log names and that is here."""
    log = repo.common / "logs" / ref
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in reversed(lines):
        for oid in reversed(line.split(" ", 2)[:2]):
            if oid.strip("0") and repo.commit(Oid(oid)) is not None:
                return f"rm -f {repo.common / ref}; git update-ref {ref} {oid}"
    return f"fetch it again, or delete it: rm {repo.common / ref}"


def diverged(clone: Clone) -> Iterator[Trouble]:
    """Branches that went one way here and another on the remote."""
    repo, snapshot = clone.repo, clone.snapshot
    remote = snapshot.cards.config.remote if snapshot else None
    if snapshot is None or remote is None:
        return
    refs = repo.refs("refs/heads", f"refs/remotes/{remote}")
    for branch in (snapshot.trunk, *sorted(clone.branches)):
        local = refs.get(f"refs/heads/{branch}")
        theirs = refs.get(f"refs/remotes/{remote}/{branch}")
        if not local or not theirs or local == theirs:
            continue
        if repo.is_ancestor(local, theirs) or repo.is_ancestor(theirs, local):
            continue
        read = snapshot.trunk_tip if branch == snapshot.trunk else snapshot.tips.get(branch)
        yield _diverged(repo, branch, remote, (local, theirs), ours=read == local)


def _diverged(
    repo: Repo, branch: Branch, remote: str, tips: tuple[Oid, Oid], *, ours: bool
) -> Trouble:
    local, theirs = tips
    ahead = len(repo.rev_list(local, f"^{theirs}"))
    behind = len(repo.rev_list(theirs, f"^{local}"))
    message = f"{branch} and {remote}/{branch} went apart, by {ahead} and {behind} commits: "
    if ours:
        return Trouble(
            "branches",
            message + "this clone's is read, as nobody else has claimed anything since",
            "go on: the next state commit joins them, and nothing is lost",
            Severity.WARNING,
        )
    holder = repo.holder(branch)
    where = f"git -C {holder.path}" if holder else f"git switch {branch} && git"
    return Trouble(
        "branches",
        message + f"{remote}'s is read",
        f"bring yours on top of it: {where} rebase {remote}/{branch}",
    )


# --- the remote --------------------------------------------------------------------------------


def remote(clone: Clone) -> Iterator[Trouble]:
    """Whether the clone has all of history, and the remote that the plan is shared through."""
    repo, snapshot = clone.repo, clone.snapshot
    name = snapshot.cards.config.remote if snapshot else None
    source = name or "origin"
    if _shallow(repo):
        yield Trouble(
            "remote",
            "the clone is shallow: what was done before it was cut off cannot be judged",
            f"git fetch --unshallow {source}",
        )
    if name is None:
        return
    if repo.config(f"remote.{name}.url") is None:
        yield Trouble(
            "remote",
            f"the plan is shared through the remote {name!r}, which is not set up here",
            f"git remote add {name} URL",
        )
        return
    specs = repo.git("config", "--get-all", f"remote.{name}.fetch").splitlines()
    if not any(spec.lstrip("+").startswith("refs/heads/*:") for spec in specs):
        yield Trouble(
            "remote",
            f"only single branches of {name} are fetched: what others have claimed is not seen",
            f"git remote set-branches {name} '*' && git fetch {name}",
        )
    done = repo.try_git("ls-remote", "--heads", name)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        yield Trouble(
            "remote",
            f"{name} cannot be reached: {said[0].removeprefix('fatal: ') if said else 'no answer'}",
            f"see that `git fetch {name}` works; until then nothing can be claimed",
        )


def _shallow(repo: Repo) -> bool:
    return repo.git("rev-parse", "--is-shallow-repository") == "true"


def require_unlocked(repo: Repo, path: Path) -> None:
    """Raises where a git process may be at work in a checkout.

    Raises:
        Refused: names it.
    """
    for pid, said in git_processes([path, *_admins(repo, path)]).items():
        raise Refused(f"{said} (process {pid}) is at work there", "wait for it")


def _admins(repo: Repo, path: Path) -> list[Path]:
    folder = repo.common / "worktrees"
    wanted = os.fsencode(path / ".git")
    found = []
    for admin in folder.glob("*"):
        try:
            if (admin / "gitdir").read_bytes().strip() == wanted:
                found.append(admin)
        except OSError:
            continue
    return found
