"""The benchmarks run to their end in their smallest form; what they measured is not looked at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_TOP = Path(__file__).parents[1]
_SMALL = "--cards 6 --branches 2 --files 10 --rounds 1"
# A line that stands in what each prints. Not the simulator: it runs the whole demo, which has its own.
_SCRIPTS = {
    f"status {_SMALL} --only unchanged,changed,straightforward": "status, the straightforward way",
    f"hooks {_SMALL}": "git commit, its task is done (10 files)",
    f"plan {_SMALL}": "order, waves, critical path, slack",
    "scale --cards 4,6 --branches 1 --files 10 --rounds 1": "More branches, 6 cards, 10 files",
    "worktrees --worktrees 2 --files 10": "landing, 2 branches together",
    "worktrees --worktrees 1 --files 10 --rest": "landing, 1 branches one by one",
    "conflicts --branches 3 --files 200 --rounds 1": "3 pairs",
    "pre_receive --cards 9 --streams 3 --rounds 1": "landing",
}
_OFTEN = list(_SCRIPTS)[:3]  # what `make test` runs too


def run(*args: str) -> str:
    """What a script prints: where a limit is missed its exit code is 1, and that is no matter here."""
    command = [sys.executable, "-m", *args]
    done = subprocess.run(command, cwd=_TOP, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "script",
    [*_OFTEN, *(pytest.param(s, marks=pytest.mark.long) for s in _SCRIPTS if s not in _OFTEN)],
)
def test_it_prints_its_table(script: str) -> None:
    assert _SCRIPTS[script] in run(*f"bench.{script}".split())


def test_what_is_found_is_held_to_the_same_tasks(tmp_path: Path) -> None:
    tool = tmp_path / "backlog"
    tool.write_text('#!/bin/sh\necho \'"id": "TASK-6"\'\n')
    tool.chmod(0o755)
    said = run("bench.others", "--tasks", "10", "--rounds", "1", "--tools", str(tmp_path))
    assert "| backlog task list --ready --json" in said
    assert "named as next, by all of them: 6;" in said
