"""`demo`: the main job in a scratch repository, from a design doc to verified work on trunk."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gitwaves import demo, planning
from gitwaves.errors import GitwavesError
from gitwaves.files import write_file
from gitwaves.git import Repo
from gitwaves.live import watch
from gitwaves.model import CONFIG_PATH
from gitwaves.running import Ended, Runner
from gitwaves.store import Store
from gitwaves.yamledit import edited


def demonstrate(folder: Path | None, agents: int) -> tuple[Ended, Path]:
    """Makes the scratch repository, runs its plan, and returns how that ended and where it is.

    Raises:
        GitwavesError: the folder is there already and is not empty.
    """
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="gitwaves-demo-")) / "payments"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GitwavesError(f"{folder} is there already", "name an empty or new folder")
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bootstrap = Repo(folder / ".git", folder)
    bootstrap.git("init", "--quiet", "--initial-branch=main", ".", cwd=folder)
    repo = Repo.open(folder)
    # a scratch repository needs no identity of the user's, who may have none yet
    repo.git("config", "user.name", "gitwaves demo")
    repo.git("config", "user.email", "demo@gitwaves.invalid")
    repo.git("config", "commit.gpgsign", "false")
    for path, text in demo.seed_files().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    _commit(repo, folder, "Approve the design of the payments platform")
    planning.init(repo, title="Payments platform", agents=agents, agent="demo")
    config = folder / CONFIG_PATH
    changes = {"profiles": {"demo": demo.profile()}, "worktrees": "../worktrees/{name}"}
    write_file(config, edited(config.read_bytes(), changes, planning.CONFIG_ORDER))
    store = Store(repo)
    planning.import_doc(store, folder / "docs" / "design.md")
    _commit(repo, folder, "Plan the work")
    ended = watch(Runner(store, agents=agents, trust_trunk=True))
    return ended, folder


def _commit(repo: Repo, folder: Path, message: str) -> None:
    repo.git("add", "-A", cwd=folder)
    repo.git("commit", "--quiet", "-m", message, cwd=folder)
