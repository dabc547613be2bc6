"""The plan of a small shop: imported once a session, and copied for each test that works on it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from gitwaves import git
from gitwaves.model import TaskId, Tracking
from gitwaves.store import Store
from gitwaves.trust import Trust, commands_of
from tests.repo import Repo

DESIGN = """\
# Shop

## WS-A: Alpha
Paths: `a/**`

### A1: First
Batch: 1
Verify: `grep -q ok a/one.txt`

Write ok into a/one.txt.

### A2: Second
Depends on: A1
Batch: 2
Verify: `grep -q ok a/two.txt`

Write ok into a/two.txt.

## WS-B: Beta
Paths: `b/**`

### B1: Other
Batch: 1
Verify: `grep -q ok b/one.txt`

Write ok into b/one.txt.

## Merge points
- MP1: A1 + B1 -> unlocks A2
"""


def shop(tmp_path: Path, *, agent: str = "claude", config: str = "", design: str = DESIGN) -> Repo:
    """A repository at `tmp_path/repo` with the plan on trunk, its hooks, and its commands trusted.

    Args:
        config: lines for the end of `config.yaml`.
    """
    key = hashlib.sha256(json.dumps([agent, config, design]).encode()).hexdigest()[:12]
    made = tmp_path.parent / f"shop-{key}"  # the folder of the whole session
    if not made.exists():
        _import(tmp_path / "shop", agent, config, design)
        (tmp_path / "shop").rename(made)
    shutil.copytree(made, tmp_path / "repo", symlinks=True)
    repo = Repo(tmp_path / "repo")
    trust(repo)
    return repo


def _import(path: Path, agent: str, config: str, design: str) -> None:
    repo = Repo.init(path)
    repo.commit("Approve", **{"docs/design.md": design})
    repo.gw_ok("init", "--title", "Shop", "--agent", agent)
    file = repo.path / ".workstreams/config.yaml"
    file.write_text(file.read_text() + config)
    repo.gw_ok("import", "docs/design.md")
    repo.commit("Plan")


def trust(repo: Repo) -> None:
    """Trusts all commands of trunk, as `gitwaves trust --yes` does."""
    store = store_of(repo)
    held = Trust(store.repo.common, store.repo.clone_id())
    held.grant(commands_of(store.snapshot().cards))


def store_of(repo: Repo) -> Store:
    """A new reading of a repository, as each command makes its own."""
    return Store(git.Repo.open(repo.path))


def states(repo: Repo) -> dict[str, str]:
    """The state of every task."""
    shown = store_of(repo).progress()
    return {str(task): str(view.state) for task, view in shown.tasks.items()}


def card(repo: Repo, task: str) -> Tracking:
    """What the card of a task says."""
    return store_of(repo).snapshot().facts[TaskId(task)].tracking


def lines_of(**config: Any) -> str:
    """Lines of `config.yaml`."""
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items())
