"""The content that is verified: begun before anything is known, and used only where it is of that moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitwaves import git
from gitwaves.git_content import begun_for
from gitwaves.model import Oid, TaskId
from gitwaves.receipts import all_for
from gitwaves.store import Store
from gitwaves.verifying import verify
from tests.repo import Repo
from tests.shop import card, shop


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return shop(tmp_path)


def at_work(repo: Repo, task: str = "A1") -> Repo:
    """The worktree of a task that was started, with its work committed."""
    worktree = repo.at(repo.gw_ok("start", task).out.split()[0])
    folder = task[0].lower()
    worktree.write(f"{folder}/one.txt", "ok\n")
    worktree.commit("Work")
    return worktree


def place(worktree: Repo) -> tuple[str, str, str]:
    admin = worktree.git("rev-parse", "--absolute-git-dir")
    return str(Path(admin).parent.parent), str(worktree.path), admin


def leftovers(repo: Repo) -> list[Path]:
    return list((repo.path / ".git/gitwaves").glob("index-*"))


@pytest.mark.parametrize("named", ["A1", None])
def test_it_is_begun_where_the_task_is_at_work(repo: Repo, named: str | None) -> None:
    worktree = at_work(repo)
    worktree.write("a/more.txt", "more\n")
    below = worktree.path / "a"
    begun = begun_for(str(repo.path) if named else str(below), named)
    assert begun is not None
    with begun:
        assert begun.is_of(*place(worktree))
        tree = begun.tree(git.Repo.open(repo.path))
    assert leftovers(repo) == []
    worktree.git("add", "-A")
    assert worktree.git("write-tree") == tree


def test_it_is_not_begun_where_no_mark_tells_of_it(repo: Repo) -> None:
    assert begun_for(str(repo.path), None) is None
    assert begun_for(str(repo.path), "A1") is None
    worktree = at_work(repo)
    assert begun_for(str(worktree.path), "B1") is None
    assert begun_for(str(repo.path.parent), "A1") is None
    repo.git("worktree", "remove", "--force", str(worktree.path))
    assert begun_for(str(repo.path), "A1") is None
    repo.gw_ok("start", "A1")
    state = repo.path / ".git/gitwaves"
    state.rename(repo.path / "elsewhere")
    state.symlink_to(repo.path / "elsewhere")
    assert begun_for(str(repo.path), "A1") is None


def test_what_was_begun_before_the_index_was_written_is_not_used(repo: Repo) -> None:
    worktree = at_work(repo)
    begun = begun_for(str(worktree.path), None)
    assert begun is not None
    with begun:
        worktree.write("a/late.txt", "late\n")
        worktree.git("add", "-A")
        assert not begun.is_of(*place(worktree))
        store = Store(git.Repo.open(worktree.path))
        assert verify(store, None, begun=begun).differs == ("a/late.txt",)
    (receipt,) = all_for(store.repo, TaskId("A1"), store.snapshot().cards.digest("A1"))
    assert store.repo.at(Oid(receipt.content), "a/late.txt") is not None
    assert leftovers(repo) == []


def test_what_was_begun_elsewhere_is_not_used(repo: Repo) -> None:
    worktree, other = at_work(repo), at_work(repo, "B1")
    begun = begun_for(str(other.path), None)
    assert begun is not None
    with begun:
        assert verify(Store(git.Repo.open(worktree.path)), "A1", begun=begun).done
    assert card(repo, "A1").evidence is not None
    assert leftovers(repo) == []


@pytest.mark.parametrize("mark", ["B1\n", "A1\n", ""])
def test_a_wrong_mark_changes_no_answer(repo: Repo, mark: str) -> None:
    worktree, _ = at_work(repo), at_work(repo, "B1")
    marks = repo.path / ".git/gitwaves/at-work"
    (marks / "ws%2FA").write_text(mark)
    (marks / "ws%2FB").write_text("A1\n")
    done = worktree.gw("verify", "A1")
    assert (done.code, done.out.splitlines()[0]) == (0, "A1 is done")
    assert leftovers(repo) == []


def test_nothing_is_left_of_what_was_begun_where_verify_refuses(repo: Repo) -> None:
    worktree = at_work(repo)
    worktree.write("b/foreign.txt", "x\n")
    assert "outside the boundary" in worktree.gw("verify").err
    assert leftovers(repo) == []


def test_an_index_with_conflicts_is_refused(repo: Repo) -> None:
    """As a stash that does not fit leaves it: there is no merge that anybody would be in the middle of."""
    worktree = at_work(repo)
    worktree.write("a/one.txt", "stashed\n")
    worktree.git("stash", "push", "-q")
    worktree.write("a/one.txt", "ok, again\n")
    worktree.commit("Another way")
    worktree.git("stash", "pop", "-q", check=False)
    assert "unresolved conflicts: a/one.txt" in worktree.gw("verify").err
