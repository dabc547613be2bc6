"""Every test runs in an environment of its own: nothing of the machine or its user is seen."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.repo import Repo

# Nothing else of the caller's environment reaches a test: no GIT_*, PYTHON*, NO_COLOR, CI, nothing
# that an agent client sets.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")
# Where the real agent clients are, for the tests that run them; how long those that kill take.
_ASKED_FOR = ("GITWAVES_CLIENTS", "GITWAVES_CHAOS")
_KEPT_PREFIXES = ("COV_", "COVERAGE_", "HYPOTHESIS_", "PYTEST_")

# The same examples on every run, and no verdict that hangs on how busy the machine is.
hypothesis.settings.register_profile(
    "gitwaves",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("gitwaves")

_GITCONFIG = """\
[user]
    name = Ada Tester
    email = ada@example.com
[init]
    defaultBranch = main
[advice]
    detachedHead = false
    mergeConflict = false
    skippedCherryPicks = false
    statusHints = false
[commit]
    gpgSign = false
[tag]
    gpgSign = false
[gc]
    auto = 0
[maintenance]
    auto = false
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """At least two workers, so that the tests are seen to be independent of each other."""
    return 2 if (os.cpu_count() or 1) < 2 else None


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("homes")
    return (base / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def home(_homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HOME with a Git identity, and an environment that leads nowhere else."""
    home = next(_homes)
    home.mkdir()
    (home / ".gitconfig").write_text(_GITCONFIG, encoding="utf-8")
    for name in list(os.environ):
        if name not in (*_KEPT, *_ASKED_FOR) and not name.startswith(_KEPT_PREFIXES):
            monkeypatch.delenv(name)
    # The environment that the tests run in first, so that `python` is the same in verify steps.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    sealed = {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local/share"),
        "XDG_STATE_HOME": str(home / ".local/state"),
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_EDITOR": "true",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
        "PATH": path,
        "TERM": "dumb",
        "TZ": "UTC",
    }
    for name, value in sealed.items():
        monkeypatch.setenv(name, value)
    return home


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A new repository at `tmp_path/repo`, on `main`, without a commit."""
    return Repo.init(tmp_path / "repo")
