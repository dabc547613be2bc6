"""The plan that hostile input is thrown at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repo import Repo
from tests.test_repositories import plain


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Repo]:
    """The plan, and a witness: nothing called `pwned` may exist when the test is over."""
    yield plain(tmp_path)
    assert list(tmp_path.rglob("*pwned*")) == []
