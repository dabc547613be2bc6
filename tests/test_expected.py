"""What there will be to show is found out while a branch moves: it is used only where it comes so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gitwaves import claims, verifying
from gitwaves.errors import Refused
from gitwaves.git import Repo as Opened
from gitwaves.render import dashboard
from gitwaves.store import Store
from tests.repo import Repo
from tests.shop import shop


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return shop(tmp_path)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each snapshot that was made anew: whether it was expected."""
    made: list[str] = []
    real, expect = Store._taken, Store.expect
    expecting: list[int] = []

    def noted(self: Store, refs: Any) -> Any:
        made.append("expected" if expecting else "asked")
        return real(self, refs)

    def begun(self: Store, *args: Any) -> None:
        expecting.append(1)
        expect(self, *args)
        expecting.pop()

    monkeypatch.setattr(Store, "_taken", noted)
    monkeypatch.setattr(Store, "expect", begun)
    return made


def shown(repo: Repo) -> str:
    store = Store(Opened.open(repo.path))
    return dashboard(store.progress(store.snapshot(), local=False))


def at_work(repo: Repo) -> tuple[Store, Repo]:
    store = Store(Opened.open(repo.path))
    started = claims.start(store, "A1", agent="ada", trust_trunk=True)
    worktree = repo.at(str(started.path))
    worktree.commit("Work", **{"a/one.txt": "ok\n"})
    return store, worktree


def test_it_is_what_is_shown_once_the_branch_has_moved(repo: Repo, taken: list[str]) -> None:
    store, _ = at_work(repo)
    store.snapshot()
    taken.clear()
    assert verifying.verify(store, "A1", trust_trunk=True).done
    assert "expected" in taken
    assert taken[-1] == "expected"  # what follows the landing finds it
    assert shown(repo) == repo.git("show", "gitwaves/dashboard:DASHBOARD.txt") + "\n"
    assert dashboard(store.progress(local=False)) == shown(repo)


def test_it_is_forgotten_where_the_branch_did_not_move(
    repo: Repo, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = at_work(repo)
    before = shown(repo)

    def refused(*args: Any, **named: Any) -> bool:
        named.get("meanwhile", args[-1])()
        raise Refused("in the way")

    monkeypatch.setattr(Opened, "_step_forward", refused)
    with pytest.raises(Refused):
        verifying.verify(store, "A1", trust_trunk=True)
    assert "expected" in taken
    assert dashboard(store.progress(store.snapshot(), local=False)) == before == shown(repo)


def test_what_goes_wrong_in_it_stops_nothing(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    store, worktree = at_work(repo)
    snapshot = store.snapshot()
    real, failing = Store._taken, [True]

    def broken(self: Store, refs: Any) -> Any:
        if failing:
            failing.pop()
            raise ZeroDivisionError
        return real(self, refs)

    monkeypatch.setattr(Store, "_taken", broken)
    store.expect(snapshot.cards.branch_of(snapshot.require_task("A1")), snapshot.trunk_tip)
    assert not failing
    assert verifying.verify(store, "A1", trust_trunk=True).done
    assert worktree.git("log", "-1", "--format=%s") == "gitwaves: A1 done"
