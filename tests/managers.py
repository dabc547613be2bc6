"""Programs that install Git hooks: played with the very files that they write, and the real ones.

Each is told to write its name and the hook's to the file that `$CALLS` names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.repo import Repo

DATA = Path(__file__).parent / "data" / "hooks"
WATCHED = ("pre-commit", "commit-msg", "post-commit")

# What each plays at run time, found by its hooks as they find the real program.
_PRE_COMMIT = """\
#!/bin/sh
for arg; do
	case $arg in --hook-type=*) hook=${arg#*=} ;; esac
done
while [ "$1" != --hook-dir ]; do shift; done
dir=$2
shift 3
echo "pre-commit $hook" >> "$CALLS"
[ -x "$dir/$hook.legacy" ] || exit 0
[ -z "$PRE_COMMIT_RUNNING_LEGACY" ] || { echo "bug: pre-commit's script is installed in migration mode" >&2; exit 1; }
PRE_COMMIT_RUNNING_LEGACY=1 exec "$dir/$hook.legacy" "$@" </dev/null
"""
_LEFTHOOK = """\
#!/bin/sh
[ "$1" = run ] || exit 0
echo "lefthook $2" >> "$CALLS"
name=$2
shift 2
! grep -q "gitwaves hook $name" lefthook.yml || exec gitwaves hook "$name" "$@"
"""
_GIT_LFS = """\
#!/bin/sh
echo "git-lfs $1" >> "$CALLS"
"""
PRE_COMMIT_CONFIG = "repos:\n- repo: local\n  hooks:\n" + "".join(
    f"  - id: say-{hook}\n    name: say\n    language: system\n    always_run: true\n"
    f"    pass_filenames: false\n    stages: [{hook}]\n"
    f"    entry: sh -c 'echo pre-commit {hook} >> \"$CALLS\"'\n"
    for hook in WATCHED
)
LEFTHOOK_CONFIG = "".join(
    f'{hook}:\n  commands:\n    say:\n      run: echo lefthook {hook} >> "$CALLS"\n'
    for hook in WATCHED
)
LFS_HOOKS = ("post-checkout", "post-commit", "post-merge", "pre-push")


@dataclass
class Manager:
    """One program; `path` is the folder that holds the real one, None: it is played."""

    name: str
    bin: Path  # comes first on PATH
    path: Path | None = None
    hooks: tuple[str, ...] = WATCHED
    env: Mapping[str, str] = field(default_factory=dict)

    def configure(self, repo: Repo) -> None:
        """Writes the program's configuration to the working tree, to be committed."""
        if self.name == "pre-commit":
            repo.write(".pre-commit-config.yaml", PRE_COMMIT_CONFIG)
        elif self.name == "lefthook":
            repo.write("lefthook.yml", LEFTHOOK_CONFIG)
        elif self.name == "husky":
            for hook in WATCHED:
                repo.write(f".husky/{hook}", f'echo "husky {hook}" >> "$CALLS"\n')

    def install(self, repo: Repo, *, force: bool = False) -> bool:
        """Installs the program's hooks in a checkout; False: it refused."""
        if self.path is not None:
            return self._really("install", repo, force=force)
        played = getattr(self, "_install_" + self.name.replace("-", "_"))
        return bool(played(repo, force))

    def uninstall(self, repo: Repo) -> None:
        """Uninstalls them, as the program does."""
        if self.path is not None:
            self._really("uninstall", repo)
            return
        suffix = {"pre-commit": ".legacy", "lefthook": ".old"}.get(self.name, "")
        for hook in self.hooks:
            path = self._folder(repo) / hook
            if not self._is_own(path):
                continue
            path.unlink()
            moved = path.with_name(hook + suffix)
            if suffix and os.path.lexists(moved):
                moved.rename(path)

    # --- the real ones -------------------------------------------------------------------------

    def _really(self, what: str, repo: Repo, *, force: bool = False) -> bool:
        types = [f"--hook-type={hook}" for hook in WATCHED]
        command = {
            "pre-commit": ["pre-commit", what, *types],
            "lefthook": ["lefthook", what],
            "git-lfs": ["git", "lfs", what, "--local", *(["--force"] if force else [])],
            "husky": ["husky"],
        }[self.name]
        done = subprocess.run(
            command, cwd=repo.path, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode == 0

    # --- played, as the sources of the programs have it ----------------------------------------

    def _folder(self, repo: Repo) -> Path:
        return Path(repo.git("rev-parse", "--path-format=absolute", "--git-common-dir")) / "hooks"

    def _text(self, hook: str) -> str:
        text = (DATA / f"{self.name}.txt").read_text()
        text = text.replace("@PYTHON@", str(self.bin / "pre-commit-python"))
        return text.replace("@LEFTHOOK@", str(self.bin / "lefthook")).replace("@HOOK@", hook)

    def _is_own(self, hook: Path) -> bool:
        mark = {"pre-commit": "138fd403232d2ddd5efb44317e38bf03", "lefthook": "LEFTHOOK"}
        if not hook.is_file():
            return False
        text = hook.read_text(errors="replace")
        return mark.get(self.name, "\0") in text or text == self._text(hook.name)

    def _write(self, hook: Path) -> None:
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(self._text(hook.name))
        hook.chmod(0o755)

    def _install_pre_commit(self, repo: Repo, force: bool) -> bool:
        if repo.git("config", "core.hooksPath", check=False):
            return False
        for name in self.hooks:
            hook = self._folder(repo) / name
            if os.path.lexists(hook) and not self._is_own(hook):
                hook.rename(hook.with_name(name + ".legacy"))
            self._write(hook)
        return True

    def _install_lefthook(self, repo: Repo, force: bool) -> bool:
        if repo.git("config", "core.hooksPath", check=False):
            return False
        for name in self.hooks:
            hook = self._folder(repo) / name
            if self._is_own(hook):
                hook.unlink()
            elif os.path.lexists(hook):
                moved = hook.with_name(name + ".old")
                if moved.exists():
                    return False  # can't rename: file already exists
                hook.rename(moved)
            self._write(hook)
        return True

    def _install_git_lfs(self, repo: Repo, force: bool) -> bool:
        refused = False
        for name in self.hooks:
            hook = self._folder(repo) / name
            if not os.path.lexists(hook) or force:
                self._write(hook)
            elif not self._is_own(hook):
                refused = True
                break
        return not refused

    def _install_husky(self, repo: Repo, force: bool) -> bool:
        repo.git("config", "core.hooksPath", ".husky/_")
        folder = repo.path / ".husky/_"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*")
        (folder / "h").write_text((DATA / "husky-h.txt").read_text())
        for name in (*WATCHED, "post-merge", "post-rewrite", "pre-merge-commit", "pre-push"):
            (folder / name).write_text((DATA / "husky-hook.txt").read_text())
            (folder / name).chmod(0o755)
        return True


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def played(name: str, bin: Path) -> Manager:
    """A program that is not there, with the hook files that it writes."""
    script(bin / "pre-commit-python", _PRE_COMMIT)
    if name == "lefthook":
        script(bin / "lefthook", _LEFTHOOK)
    if name == "git-lfs":
        script(bin / "git-lfs", _GIT_LFS)
    return Manager(name, bin, hooks=LFS_HOOKS if name == "git-lfs" else WATCHED)


def real(name: str, bin: Path, path: Path) -> Manager:
    """The program itself, in the folder `path`; git-lfs says nothing by itself, so it is heard."""
    bin.mkdir(parents=True, exist_ok=True)
    program = path / name
    if name == "git-lfs":
        heard = f'case $1 in post-*) echo "git-lfs $1" >> "$CALLS" ;; esac\nexec {program} "$@"\n'
        script(bin / name, "#!/bin/sh\n" + heard)
    else:
        script(bin / name, f'#!/bin/sh\nexec {program} "$@"\n')
    return Manager(name, bin, path, hooks=LFS_HOOKS if name == "git-lfs" else WATCHED)


def obtain(folder: Path, env: Mapping[str, str]) -> dict[str, Path | str]:
    """Each real program's folder: on PATH, else installed; or the reason why it cannot be had."""
    found: dict[str, Path | str] = {}
    for name in ("pre-commit", "lefthook", "husky", "git-lfs"):
        there = shutil.which(name, path=env.get("PATH"))
        found[name] = Path(there).parent if there else f"{name} is not installed"
    if isinstance(found["pre-commit"], str):
        venv = folder / "venv"
        made = _run([sys.executable, "-m", "venv", str(venv)], env, folder) or _run(
            [str(venv / "bin/pip"), "install", "-q", "pre-commit"], env, folder
        )
        found["pre-commit"] = made or venv / "bin"
    for name in ("lefthook", "husky"):
        if isinstance(found[name], str):
            # lefthook's own script would install its hooks in the repository around
            command = ["npm", "install", "--silent", "--ignore-scripts", name]
            failed = _run(command, env, folder / name)
            found[name] = failed or folder / name / "node_modules/.bin"
    return found


def _run(command: list[str], env: Mapping[str, str], cwd: Path) -> str | None:
    """What went wrong with a command; None where it went well."""
    try:
        cwd.mkdir(exist_ok=True)
        (cwd / "package.json").write_text("{}")  # npm looks for one in the folders above
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, env=env, timeout=300, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}"
    return f"{' '.join(command)}: {done.stderr[-300:]}" if done.returncode else None
