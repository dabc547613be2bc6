"""Installs the Git hooks beside whatever hooks are there, and removes them without a trace."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from gitwaves.errors import GitwavesError, Refused
from gitwaves.git import Repo
from gitwaves.patterns import regex
from gitwaves.resources import hook_text

HOOKS = ("commit-msg", "post-commit", "post-merge", "post-rewrite")
# Whatever these do, Git reads its index anew after them, which takes an eighth of a commit in a large
# repository. commit-msg sees the index too, though only when a message has been written.
_FORMER = ("pre-commit", "pre-merge-commit")  # where shims of ours may be left, to be taken away
OTHER_VERSION = "is of another version of gitwaves"  # a fault that does no harm by itself
SERVER_HOOKS = ("pre-receive",)  # of a repository that is pushed to
_MARK = b"# gitwaves hook"
_END = b"# gitwaves: end."  # begins the shim's last line; what stands below is somebody's
_ORIGINAL = ".gitwaves-orig"
_ADDED = ".gitwaves-added"
# Where another hook manager puts what it replaces: pre-commit runs it from there, lefthook not.
_LEGACY = ".legacy"
_MOVED = (_LEGACY, ".old")
# Programs that write hooks, by what stands in each of them.
_MANAGERS = {"pre-commit": b"https://pre-commit.com", "lefthook": b"call_lefthook"}
_LEFTHOOK = regex(r"\.?lefthook(-local)?\.(ya?ml|toml|json)")
# lefthook moves other hooks aside whenever it installs itself, which it does when its file changes.
_IN_LEFTHOOK = (
    "lefthook moves it aside again when it next installs itself; to have both for good, add to "
    "lefthook.yml:\n  {name}:\n    commands:\n      gitwaves:\n"
    "        run: gitwaves hook {name} {{0}}"
)


def install(repo: Repo, names: Sequence[str] = HOOKS) -> list[str]:
    """Installs the hooks, or renews them; says what was done.

    A hook that is there stays, as `<hook>.gitwaves-orig`, and runs before ours.

    Raises:
        Refused: Git looks for hooks elsewhere, or a hook would be lost.
        GitwavesError: the folder of the hooks cannot be written.
    """
    elsewhere = hooks_path(repo)
    if elsewhere is not None:
        raise _elsewhere(elsewhere)
    folder = repo.common / "hooks"
    with repo.lock():
        _require_room(folder, names)
        try:
            folder.mkdir(exist_ok=True)
            calls = _lefthook_calls(repo.top)
            said = [line for name in names for line in _install(folder / name, calls)]
            former = _FORMER if names == HOOKS else ()
            return said + [line for name in former for line in _uninstall(folder / name)]
        except OSError as error:
            raise _cannot_write(folder, error) from error


def install_server(repo: Repo) -> list[str]:
    """Installs the hook that looks at pushes, in a bare repository; says what was done.

    Raises:
        Refused: it has a worktree, or see `install`.
    """
    if repo.top is not None:
        raise Refused(
            f"{repo.top} is no bare repository: nobody pushes to it",
            "run this in the repository on the server that everyone pushes to",
        )
    return install(repo, SERVER_HOOKS)


def uninstall_server(repo: Repo) -> list[str]:
    """Removes that hook again, and the lock that was taken to install it; says what was done."""
    said = uninstall(repo, SERVER_HOOKS)
    if said and [p.name for p in repo.state_dir.iterdir()] == ["lock"]:
        (repo.state_dir / "lock").unlink()
        repo.state_dir.rmdir()
    return said


def uninstall(repo: Repo, names: Sequence[str] = HOOKS) -> list[str]:
    """Removes the hooks and puts back those that were there before; says what was done.

    Raises:
        GitwavesError: the folder of the hooks cannot be written.
    """
    folder = repo.common / "hooks"
    if not folder.is_dir():
        return []
    with repo.lock():
        try:
            former = _FORMER if names == HOOKS else ()
            said = [line for name in (*names, *former) for line in _uninstall(folder / name)]
            if said and not any(folder.iterdir()):
                folder.rmdir()
            return said
        except OSError as error:
            raise _cannot_write(folder, error) from error


def installed(repo: Repo) -> bool:
    """Whether Git runs every one of the hooks, and they find a gitwaves to run."""
    return hooks_path(repo) is None and not set(faults(repo)) - {OTHER_VERSION}


def absent(repo: Repo) -> bool:
    """Whether no hook is there at all, as in a fresh clone: hooks are no part of what is cloned."""
    own = repo.common / "hooks"
    return not any(os.path.lexists(own / name) for name in HOOKS) and hooks_path(repo) is None


def hooks_path(repo: Repo, top: Path | None = None) -> str | None:
    """Where Git looks for hooks, if that is not the repository's own folder of hooks.

    Args:
        top: of the worktree that is asked about; a worktree may have settings of its own.
    """
    own = repo.common / "hooks"
    # Our own git calls set core.hooksPath on their command line; that one is not meant.
    args = ("config", "--show-scope", "--type=path", "-z", "--get-all", "core.hooksPath")
    out = (
        repo.try_git(*args, cwd=top or repo.top).stdout.decode(errors="surrogateescape").split("\0")
    )
    pairs = zip(out[::2], out[1::2], strict=False)
    values = [value for scope, value in pairs if scope != "command"]
    if values and not (os.path.isabs(values[-1]) and Path(values[-1]).resolve() == own.resolve()):
        return values[-1]
    return os.path.realpath(own) if own.is_symlink() else None


def faults(repo: Repo) -> dict[str, tuple[str, ...]]:
    """Fault -> the hooks in the repository's own folder that do not run gitwaves because of it."""
    found: dict[str, tuple[str, ...]] = {}
    calls = _lefthook_calls(repo.top)
    for name in HOOKS:
        fault = _fault(repo.common / "hooks" / name, calls)
        if fault is not None:
            found[fault] = (*found.get(fault, ()), name)
    left = tuple(name for name in _FORMER if _shim(repo.common / "hooks" / name) is not None)
    if left:
        found[OTHER_VERSION] = (*found.get(OTHER_VERSION, ()), *left)
    return found


def _fault(hook: Path, calls: bytes = b"") -> str | None:
    if not os.path.lexists(hook):
        return "is missing"
    if _manager(hook) == "lefthook" and _calls_us(calls, hook.name):
        return None
    shim = _shim(hook)
    if shim is None:
        moved = [s for s in _MOVED if _is_ours(_beside(hook, s))]
        aside = f", which moved gitwaves' to *{moved[0]}" if moved else ""
        return f"is {_manager(hook) or 'another program'}'s{aside}"
    if not os.access(shim, os.X_OK):
        return "is not executable"
    gone = [path for path in _named_in(shim) if not os.path.isfile(path)]
    if gone:
        return f"looks for {gone[0]}, which is gone"
    ours = {sys.executable, str(_package())}
    if set(_named_in(shim)) == ours and _without_tail(shim) != _render(hook.name):
        return OTHER_VERSION
    return None


def missing_elsewhere(folder: str, top: Path) -> list[str] | None:
    """The hooks in a foreign folder of hooks that do not call gitwaves; None: no such folder.

    Args:
        folder: what `hooks_path` says.
        top: of the worktree; a relative folder is looked for from there.
    """
    path = top / folder
    if not path.is_dir():
        return None
    calls = {name: _content(_users(path) / name) or b"" for name in HOOKS}
    return [
        name
        for name, text in calls.items()
        if not _calls_us(text, name) and _fault(path / name) is not None
    ]


def what_to_add(folder: str, names: Iterable[str] = HOOKS) -> str:
    """What a person adds to the hooks in a foreign folder of hooks, so that they call gitwaves."""
    lines = [
        f'  {name}: ! command -v gitwaves >/dev/null || gitwaves hook {name} "$@"'
        + (" || :" if name.startswith("post-") else "")
        for name in names
    ]
    return (
        f"add to these files in {_users(Path(folder)) if folder else 'the folder of hooks'}, "
        "and commit them where they are tracked:\n" + "\n".join(lines)
    )


def _users(folder: Path) -> Path:
    """Where a person writes hooks: husky's own, which call them, lie below."""
    return folder.parent if (folder.parent.name, folder.name) == (".husky", "_") else folder


def _elsewhere(path: str) -> Refused:
    return Refused(
        f"Git looks for hooks in {path or 'no folder at all'}, not in its own folder",
        what_to_add(path),
    )


def _cannot_write(folder: Path, error: OSError) -> GitwavesError:
    return GitwavesError(
        f"cannot write {folder}: {error.strerror or error}",
        "make that folder writable, then run the same command again",
    )


def _render(name: str) -> bytes:
    text = hook_text("pre-receive.sh" if name in SERVER_HOOKS else "shim.sh")
    for mark, value in (("HOOK", name), ("PYTHON", sys.executable), ("PACKAGE", str(_package()))):
        text = text.replace(f"@{mark}@", shlex.quote(value), 1)
    return os.fsencode(text)


def _package() -> Path:
    """What the shims run: called as a file it starts faster than as a module."""
    return Path(__file__).resolve().with_name("__main__.py")


def _beside(hook: Path, suffix: str) -> Path:
    return hook.with_name(hook.name + suffix)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _is_ours(path: Path) -> bool:
    data = _content(path)
    return data is not None and data.split(b"\n", 2)[1:2] == [_MARK]


def _without_tail(shim: Path) -> bytes | None:
    data = _content(shim)
    return data if data is None else data.removesuffix(_tail(shim))


def _tail(shim: Path) -> bytes:
    """What somebody added below our shim, as `git lfs update --manual` says to."""
    data = _content(shim) or b""
    return data[data.index(_END) :].partition(b"\n")[2] if _END in data else b""


def _manager(hook: Path) -> str | None:
    """The program that wrote a hook, where it is one that moves others' hooks aside."""
    data = _content(hook) or b""
    return next((name for name, mark in _MANAGERS.items() if mark in data), None)


def _calls_us(text: bytes, name: str) -> bool:
    return f"gitwaves hook {name}".encode() in text


def _lefthook_calls(top: Path | None) -> bytes:
    """What a worktree's configuration of lefthook says, all of it."""
    if top is None:
        return b""
    with contextlib.suppress(OSError):
        files = [p for p in sorted(top.iterdir()) if _LEFTHOOK.fullmatch(p.name)]
        return b"".join(_content(p) or b"" for p in files)
    return b""


def _runs_legacy(hook: Path) -> bool:
    return _manager(hook) == "pre-commit" and _is_ours(_beside(hook, _LEGACY))


def _shim(hook: Path) -> Path | None:
    """Our shim that runs when Git runs `hook`."""
    return hook if _is_ours(hook) else _beside(hook, _LEGACY) if _runs_legacy(hook) else None


def _named_in(shim: Path) -> list[str]:
    """The interpreter and the package that a shim calls."""
    found = re.findall(r"^(?:python|package)=(.+)$", os.fsdecode(_content(shim) or b""), re.M)
    return [path for text in found for path in shlex.split(text)]


def _require_room(folder: Path, names: Sequence[str]) -> None:
    """Raises before anything is touched where a hook and a kept hook are in each other's way."""
    for hook in (folder / name for name in names):
        kept = _beside(hook, _ORIGINAL)
        if not (os.path.lexists(hook) and os.path.lexists(kept)) or _is_ours(hook):
            continue
        if any(_is_ours(_beside(hook, suffix)) for suffix in _MOVED):
            continue
        if _content(hook) != _content(kept) and not _same_manager(hook, kept):
            raise Refused(
                f"{hook.name} was replaced since gitwaves kept the hook before it as {kept}",
                f"move what is needed of {kept.name} into {hook.name} and remove {kept.name}, "
                "then run `gitwaves hooks install`",
            )


def _same_manager(one: Path, other: Path) -> bool:
    return _manager(one) is not None and _manager(one) == _manager(other)


def _install(hook: Path, calls: bytes) -> list[str]:
    shim = _render(hook.name)
    if _is_ours(hook):
        return _renew(hook, shim)
    if _runs_legacy(hook):
        return _renew(_beside(hook, _LEGACY), shim) or [f"{hook.name}: pre-commit runs ours"]
    moved = _take_back(hook)
    if _manager(hook) == "lefthook" and _calls_us(calls, hook.name):
        return [f"{hook.name}: lefthook runs ours"]
    kept = _beside(hook, _ORIGINAL)
    said = f"{hook.name}: installed"
    if os.path.lexists(hook):
        if _manager(hook) == "lefthook":
            said = f"{hook.name}: {_IN_LEFTHOOK.format(name=hook.name)}\n{said}"
        os.replace(hook, kept)
        said += f", and runs the hook that was there ({kept.name}) first"
    _write(hook, shim + (moved or b""))
    return [said]


def _renew(path: Path, shim: bytes) -> list[str]:
    shim += _tail(path)
    if _content(path) == shim and os.access(path, os.X_OK):
        return []
    _write(path, shim)
    return [f"{path.name}: renewed"]


def _uninstall(hook: Path) -> list[str]:
    kept = _beside(hook, _ORIGINAL)
    moved = _take_back(hook)
    said = [] if moved is None else [f"{hook.name}: removed"]
    ours = _is_ours(hook)
    tail = (moved or b"") + (_tail(hook) if ours else b"")
    if os.path.lexists(kept) and (ours or not os.path.lexists(hook)):
        os.replace(kept, hook)
        said = [f"{hook.name}: removed, and the hook that was there put back"]
    elif ours:
        hook.unlink()
        said = [f"{hook.name}: removed"]
    elif os.path.lexists(kept):
        said.append(f"{kept.name}: left, as {hook.name} has been replaced since")
    if tail:
        said.append(_keep_tail(hook, tail))
    return said


def _keep_tail(hook: Path, tail: bytes) -> str:
    """Keeps what somebody added below our shim: as the hook, where there is no other now."""
    path = _beside(hook, _ADDED) if os.path.lexists(hook) else hook
    _write(path, tail if tail.startswith(b"#!") else b"#!/bin/sh\n" + tail)
    more = "" if path == hook else f", to be added to {hook.name}"
    return f"{path.name}: what was added below gitwaves' lines stays{more}"


def _take_back(hook: Path) -> bytes | None:
    """Undoes that another manager moved our hook aside, as if it had found the one before ours.

    Returns what somebody had added below ours; None where nothing was moved.
    """
    kept = _beside(hook, _ORIGINAL)
    found = [p for p in (_beside(hook, suffix) for suffix in _MOVED) if _is_ours(p)]
    tail = b"".join(_tail(p) for p in found)
    for moved in found:
        if _is_ours(hook) or not os.path.lexists(kept):
            moved.unlink()
        elif _same_manager(kept, hook):
            moved.unlink()
            kept.unlink()  # the manager's own, which it has written again
        else:
            os.replace(kept, moved)
    return tail if found else None


def _write(path: Path, data: bytes) -> None:
    """Writes an executable file in one step."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".gitwaves-")
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o755)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
