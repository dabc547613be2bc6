"""Installs the Git hooks beside whatever hooks are there, and removes them without a trace."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from gitwaves.errors import GitwavesError, Refused
from gitwaves.git import Repo
from gitwaves.resources import hook_text

HOOKS = (
    "pre-commit",
    "pre-merge-commit",
    "commit-msg",
    "post-commit",
    "post-merge",
    "post-rewrite",
)
OTHER_VERSION = "is of another version of gitwaves"  # a fault that does no harm by itself
SERVER_HOOKS = ("pre-receive",)  # of a repository that is pushed to
_MARK = b"# gitwaves hook"
_ORIGINAL = ".gitwaves-orig"
# Where another hook manager puts what it replaces: pre-commit runs it from there, lefthook not.
_LEGACY = ".legacy"
_MOVED = (_LEGACY, ".old")


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
            return [said for name in names for said in _install(folder / name)]
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
            said = [line for name in names for line in _uninstall(folder / name)]
            if said and not any(folder.iterdir()):
                folder.rmdir()
            return said
        except OSError as error:
            raise _cannot_write(folder, error) from error


def installed(repo: Repo) -> bool:
    """Whether Git runs every one of the hooks, and they find a gitwaves to run."""
    if hooks_path(repo) is not None:
        return False
    return all(_works(repo.common / "hooks" / name) for name in HOOKS)


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
    for name in HOOKS:
        fault = _fault(repo.common / "hooks" / name)
        if fault is not None:
            found[fault] = (*found.get(fault, ()), name)
    return found


def _fault(hook: Path) -> str | None:
    if not os.path.lexists(hook):
        return "is missing"
    shim = _shim(hook)
    if shim is None:
        moved = [s for s in _MOVED if _is_ours(_beside(hook, s))]
        aside = f", which moved gitwaves' to *{moved[0]}" if moved else ""
        return f"is another program's{aside}"
    if not os.access(shim, os.X_OK):
        return "is not executable"
    gone = [path for path in _named_in(shim) if not os.path.isfile(path)]
    if gone:
        return f"looks for {gone[0]}, which is gone"
    ours = {sys.executable, str(_package())}
    if set(_named_in(shim)) == ours and _content(shim) != _render(hook.name):
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
        if f"gitwaves hook {name}".encode() not in text and _fault(path / name) is not None
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
    return Path(__file__).resolve().with_name("__init__.py")


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


def _is_pre_commit(path: Path) -> bool:
    return b"https://pre-commit.com" in (_content(path) or b"")


def _runs_legacy(hook: Path) -> bool:
    return _is_pre_commit(hook) and _is_ours(_beside(hook, _LEGACY))


def _shim(hook: Path) -> Path | None:
    """Our shim that runs when Git runs `hook`."""
    return hook if _is_ours(hook) else _beside(hook, _LEGACY) if _runs_legacy(hook) else None


def _named_in(shim: Path) -> list[str]:
    """The interpreter and the package that a shim calls."""
    found = re.findall(r"^(?:python|package)=(.+)$", os.fsdecode(_content(shim) or b""), re.M)
    return [path for text in found for path in shlex.split(text)]


def _works(hook: Path) -> bool:
    shim = _shim(hook)
    if shim is None or not os.access(shim, os.X_OK):
        return False
    return all(os.path.isfile(path) for path in _named_in(shim))


def _require_room(folder: Path, names: Sequence[str]) -> None:
    """Raises before anything is touched where a hook and a kept hook are in each other's way."""
    for hook in (folder / name for name in names):
        kept = _beside(hook, _ORIGINAL)
        if not (os.path.lexists(hook) and os.path.lexists(kept)) or _is_ours(hook):
            continue
        if any(_is_ours(_beside(hook, suffix)) for suffix in _MOVED):
            continue
        if _content(hook) != _content(kept):
            raise Refused(
                f"{hook.name} was replaced since gitwaves kept the hook before it as {kept}",
                f"move what is needed of {kept.name} into {hook.name} and remove {kept.name}, "
                "then run `gitwaves hooks install`",
            )


def _install(hook: Path) -> list[str]:
    shim = _render(hook.name)
    if _is_ours(hook):
        return _renew(hook, shim)
    if _runs_legacy(hook):
        return _renew(_beside(hook, _LEGACY), shim) or [f"{hook.name}: pre-commit runs ours"]
    _take_back(hook)
    kept = _beside(hook, _ORIGINAL)
    said = f"{hook.name}: installed"
    if os.path.lexists(hook):
        os.replace(hook, kept)
        said += f", and runs the hook that was there ({kept.name}) first"
    _write(hook, shim)
    return [said]


def _renew(path: Path, shim: bytes) -> list[str]:
    if _content(path) == shim and os.access(path, os.X_OK):
        return []
    _write(path, shim)
    return [f"{path.name}: renewed"]


def _uninstall(hook: Path) -> list[str]:
    kept = _beside(hook, _ORIGINAL)
    said = [f"{hook.name}: removed"] if _take_back(hook) else []
    ours = _is_ours(hook)
    if os.path.lexists(kept) and (ours or not os.path.lexists(hook)):
        os.replace(kept, hook)
        said = [f"{hook.name}: removed, and the hook that was there put back"]
    elif ours:
        hook.unlink()
        said = [f"{hook.name}: removed"]
    elif os.path.lexists(kept):
        said.append(f"{kept.name}: left, as {hook.name} has been replaced since")
    return said


def _take_back(hook: Path) -> bool:
    """Undoes that another manager moved our hook aside, as if it had found the one before ours."""
    kept = _beside(hook, _ORIGINAL)
    found = [p for p in (_beside(hook, suffix) for suffix in _MOVED) if _is_ours(p)]
    for moved in found:
        if _is_ours(hook) or not os.path.lexists(kept):
            moved.unlink()
        elif _is_pre_commit(kept) and _is_pre_commit(hook):
            moved.unlink()
            kept.unlink()  # the manager's own, which it has written again
        else:
            os.replace(kept, moved)
    return bool(found)


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
