"""What is tried on hostile input: helpers, and the files that once broke something or might."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.repo import Result
from tests.test_repositories import SEPARATOR

STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
A2 = ".workstreams/WS-A/A2.yaml"
OK = b"id: A2\ntitle: x\nverify:\n  - run: 'true'\n"
MARK = SEPARATOR.encode()
TRACKING = b"tracking:\n  task: A2\n  status: planned\n"
HEAD = "# P\n\n## WS-A: L\nPaths: `a/**`\n\n### A1: S\nVerify: `true`\n\n"
K = 1000


def short(values: Iterable[str], *chosen: str) -> list[object]:
    """All values as parameters: those that are chosen in the short form, the rest in the long one."""
    return [v if v in chosen else pytest.param(v, marks=pytest.mark.long) for v in values]


def quiet(done: Result) -> Result:
    """A result that is no bug, and in which nothing could steer a terminal."""
    assert done.code in {0, 1, 2}, done
    assert "this is a bug" not in done.err, done
    assert "Traceback" not in done.err, done
    assert not STEERING.search(done.out + done.err), done
    return done


def outside(tmp: Path) -> dict[str, bytes]:
    """Every file beside the repository and its worktrees."""
    inside = (tmp / "repo", tmp / "repo.worktrees")
    files = (p for p in tmp.rglob("*") if p.is_file() and not p.is_symlink())
    return {str(p): p.read_bytes() for p in files if not any(map(p.is_relative_to, inside))}
