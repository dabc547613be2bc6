"""The content that is verified: begun before anything is known, and used only where it is of that moment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gitwaves import git
from gitwaves.git_content import Candidate, begun_for, begun_settings
from gitwaves.model import Oid, Status, TaskId
from gitwaves.receipts import all_for
from gitwaves.store import Store
from gitwaves.verifying import verify
from tests.repo import Repo
from tests.shop import DESIGN, card, shop


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
def test_it_is_begun_where_the_task_is_at_work(
    repo: Repo, named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    worktree = at_work(repo)
    worktree.write("a/more.txt", "more\n")
    below = worktree.path / "a"
    monkeypatch.chdir(repo.path if named else below)
    begun = begun_for(named)
    assert begun is not None
    with begun:
        assert begun.is_of(*place(worktree))
        tree = begun.tree(git.Repo.open(repo.path))
    assert leftovers(repo) == []
    worktree.git("add", "-A")
    assert worktree.git("write-tree") == tree


def test_it_is_not_begun_where_no_mark_tells_of_it(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun_in(folder: Path, task: str | None) -> Candidate | None:
        monkeypatch.chdir(folder)
        return begun_for(task)

    assert begun_in(repo.path, None) is None
    assert begun_in(repo.path, "A1") is None
    worktree = at_work(repo)
    assert begun_in(worktree.path, "B1") is None
    assert begun_in(repo.path.parent, "A1") is None
    aside = worktree.path.with_name("aside")
    worktree.path.rename(aside)
    Repo.init(worktree.path)  # another repository stands there now
    assert begun_in(repo.path, "A1") is None
    shutil.rmtree(worktree.path)
    aside.rename(worktree.path)
    marks = repo.path / ".git/gitwaves/at-work"
    (marks / "ws%2FA").rename(marks / "ws%2FZ")
    os.mkfifo(marks / "ws%2FA")  # nobody waits for what it will say
    assert begun_in(repo.path, "A1") is None
    assert begun_in(worktree.path, None) is None
    os.replace(marks / "ws%2FZ", marks / "ws%2FA")
    gone = worktree.path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert (begun_for("A1"), begun_settings()) == (None, None)
    state = repo.path / ".git/gitwaves"
    state.rename(repo.path / "elsewhere")
    state.symlink_to(repo.path / "elsewhere")
    assert begun_in(repo.path, "A1") is None


def test_what_was_begun_before_the_index_was_written_is_not_used(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    worktree = at_work(repo)
    monkeypatch.chdir(worktree.path)
    begun = begun_for(None)
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


def test_what_was_begun_elsewhere_is_not_used(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    worktree, other = at_work(repo), at_work(repo, "B1")
    monkeypatch.chdir(other.path)
    begun = begun_for(None)
    assert begun is not None
    with begun:
        assert verify(Store(git.Repo.open(worktree.path)), "A1", begun=begun).done
    assert card(repo, "A1").evidence is not None
    assert leftovers(repo) == []


def test_who_has_waited_for_the_lock_looks_again(tmp_path: Path) -> None:
    """The step passes on what was written meanwhile, and leaves what was there before."""
    steps = "grep -q ok a/one.txt && git checkout -q -- a"
    repo = shop(tmp_path, design=DESIGN.replace("grep -q ok a/one.txt", steps))
    worktree = at_work(repo)
    worktree.write("a/one.txt", "BAD\n")
    worktree.commit("It does not pass")
    with git.Repo.open(repo.path).lock():
        verifying = subprocess.Popen(
            [sys.executable, "-m", "gitwaves", "verify"],
            cwd=worktree.path,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(1.5)  # longer than what was begun may be used
        worktree.write("a/one.txt", "ok\n")
    assert "the steps changed a/one.txt" in verifying.communicate()[1]
    assert card(repo, "A1").status is Status.ACTIVE
    assert leftovers(repo) == []


def test_what_was_begun_before_a_landing_was_finished_is_not_used(repo: Repo) -> None:
    """A kill left a card written, and neither the index nor the branch moved."""
    worktree = at_work(repo)
    old = worktree.oid()
    worktree.gw_ok("learn", "A1", "cents, not euros")
    new, path = worktree.oid(), ".workstreams/WS-A/A1.yaml"
    said = worktree.read(path)
    worktree.git("reset", "-q", "--hard", old)
    worktree.write(path, said)
    note = {"worktree": str(worktree.path), "old": old, "new": new}
    repo.write(".git/gitwaves/unfinished/ws%2FA", json.dumps(note))
    done = worktree.gw("verify")
    assert (done.code, done.err) == (0, "")
    assert worktree.git("status", "--porcelain") == ""


def test_what_steps_made_is_told_of_when_it_was_staged(tmp_path: Path) -> None:
    steps = "touch a/made.txt && grep -q ok a/one.txt"
    repo = shop(tmp_path, design=DESIGN.replace("grep -q ok a/one.txt", steps))
    worktree = repo.at(repo.gw_ok("start", "A1").out.split()[0])
    worktree.write("a/one.txt", "ok\n")
    for _ in range(2):
        assert "not counted, made by the steps: a/made.txt" in worktree.gw_ok("verify").err
        worktree.git("add", "-A")


def test_a_step_that_has_git_overlook_what_it_changed_is_refused(tmp_path: Path) -> None:
    steps = "git update-index --assume-unchanged a/one.txt; echo no >a/one.txt"
    repo = shop(tmp_path, design=DESIGN.replace("grep -q ok a/one.txt", steps))
    assert "told to overlook changes of a/one.txt" in at_work(repo).gw("verify").err


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
