"""A checkout is moved over a changed card as `git merge --ff-only` moves it, and refused as by that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitwaves.errors import GitError, Refused
from gitwaves.git import Repo as Opened
from gitwaves.model import Branch, Oid
from gitwaves.unfinished import finish_all
from tests.repo import Repo

CARD = ".workstreams/WS-A/A1.yaml"
OLD, NEW = "id: A1\n", "id: A1\nstatus: done\n"
Deed = Callable[[Repo], object]


def prepared(path: Path, *options: str) -> tuple[Repo, Opened, Oid]:
    """A repository with a card, and a commit above its branch that changes it."""
    Repo(path.parent).git("init", "-q", "-b", "main", *options, str(path))
    repo = Repo(path)
    repo.commit("Plan", **{CARD: OLD, "src/a": "a\n", "src/b": "b\n"})
    opened = Opened.open(path)
    tip = Oid(repo.oid())
    tree = opened.with_files(opened.require_commit(tip).tree, {CARD: NEW.encode()})
    return repo, opened, opened.commit_tree(tree, [tip], "State\n")


@pytest.fixture
def merges(monkeypatch: pytest.MonkeyPatch) -> list[Oid]:
    """What `git merge` was asked for."""
    asked: list[Oid] = []
    real = Opened._merge_ff

    def noted(self: Opened, holder: Any, branch: Branch, new: Oid) -> None:
        asked.append(new)
        real(self, holder, branch, new)

    monkeypatch.setattr(Opened, "_merge_ff", noted)
    return asked


def state(repo: Repo) -> tuple[str, str, dict[str, bytes]]:
    """All that a person would miss: the index, what differs, and the files."""
    files = {
        str(p.relative_to(repo.path)): p.read_bytes()
        for p in repo.path.rglob("*")
        if p.is_file() and ".git" not in p.relative_to(repo.path).parts
    }
    return repo.git("ls-files", "-s"), repo.git("status", "--porcelain"), files


def land(repo: Repo, opened: Opened, new: Oid) -> None:
    opened.land(Branch("main"), new, Oid(repo.oid()))


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_a_card_is_stepped_over(tmp_path: Path, merges: list[Oid], kind: str) -> None:
    repo, opened, new = prepared(tmp_path / "repo", f"--object-format={kind}")
    repo.write("src/a", "edited\n")
    repo.write("src/b", "staged\n")
    repo.git("add", "src/b")
    repo.write("untracked", "mine\n")
    land(repo, opened, new)
    assert merges == []
    assert repo.oid() == new
    assert repo.read(CARD) == NEW
    assert repo.git("status", "--porcelain") == " M src/a\nM  src/b\n?? untracked"
    for name in ("HEAD", "main"):
        assert repo.git("reflog", "-1", "--format=%gs", name) == "gitwaves: land"


def test_a_linked_worktree_is_moved_where_it_is(tmp_path: Path, merges: list[Oid]) -> None:
    repo, opened, new = prepared(tmp_path / "repo")
    repo.git("branch", "ws")
    repo.git("worktree", "add", "-q", "../ws", "ws")
    opened.land(Branch("ws"), new, Oid(repo.oid()))
    linked = repo.at("../ws")
    assert merges == []
    assert (linked.oid(), linked.git("status", "--porcelain")) == (new, "")
    assert repo.read(CARD) == OLD
    assert linked.git("reflog", "-1", "--format=%gs") == "gitwaves: land"


def test_line_ends_are_those_of_the_checkout(tmp_path: Path, merges: list[Oid]) -> None:
    repo, opened, new = prepared(tmp_path / "repo")
    repo.git("config", "core.autocrlf", "true")
    (repo.path / CARD).unlink()
    repo.git("checkout", "-q", "--", CARD)
    assert repo.read(CARD) == OLD.replace("\n", "\r\n")
    land(repo, opened, new)
    assert merges == []
    assert repo.read(CARD) == NEW.replace("\n", "\r\n")
    assert repo.git("status", "--porcelain") == ""


REFUSED: dict[str, Deed] = {
    "edited": lambda repo: repo.write(CARD, "mine\n"),
    "staged": lambda repo: (repo.write(CARD, "mine\n"), repo.git("add", CARD)),
    "staged and taken back": lambda repo: (
        repo.write(CARD, "mine\n"),
        repo.git("add", CARD),
        repo.write(CARD, OLD),
    ),
    "removed from the index": lambda repo: repo.git("rm", "-q", "--cached", CARD),
    "a folder": lambda repo: (
        (repo.path / CARD).rename(repo.path / "aside"),
        repo.write(f"{CARD}/mine", "mine\n"),
    ),
}


@pytest.mark.parametrize("deed", REFUSED)
def test_what_is_in_the_way_stays(tmp_path: Path, deed: str) -> None:
    repo, opened, new = prepared(tmp_path / "repo")
    REFUSED[deed](repo)
    before, tip = state(repo), repo.oid()
    with pytest.raises(Refused):
        land(repo, opened, new)
    assert (state(repo), repo.oid()) == (before, tip)


HIDDEN: dict[str, tuple[str, ...]] = {
    "assume-unchanged": ("update-index", "--assume-unchanged", CARD),
    "skip-worktree": ("update-index", "--skip-worktree", CARD),
}


@pytest.mark.parametrize("how", HIDDEN)
def test_an_edit_that_git_is_told_to_overlook_stays(tmp_path: Path, how: str) -> None:
    repo, opened, new = prepared(tmp_path / "repo")
    repo.git(*HIDDEN[how])
    repo.write(CARD, "mine\n")
    try:
        land(repo, opened, new)
    except Refused:
        assert repo.oid() != new
    assert repo.read(CARD) == "mine\n"


def test_what_is_hidden_stays_hidden(tmp_path: Path, merges: list[Oid]) -> None:
    repo, opened, new = prepared(tmp_path / "repo")
    repo.git(*HIDDEN["skip-worktree"])
    land(repo, opened, new)
    assert merges == [new]
    assert repo.git("ls-files", "-v", CARD) == f"S {CARD}"


MOVED: dict[str, Deed] = {
    "touched": lambda repo: (repo.path / CARD).touch(),
    "deleted": lambda repo: (repo.path / CARD).unlink(),
    "the new content is there already": lambda repo: (
        repo.write(CARD, NEW),
        repo.git("add", CARD),
    ),
    "in a sparse checkout": lambda repo: repo.git("sparse-checkout", "set", "src"),
}


@pytest.mark.parametrize("deed", MOVED)
def test_it_goes_on_where_git_merge_would(tmp_path: Path, deed: str) -> None:
    repo, opened, new = prepared(tmp_path / "repo")
    MOVED[deed](repo)
    land(repo, opened, new)
    assert repo.oid() == new
    assert repo.git("status", "--porcelain") == ""
    assert repo.git("show", f":{CARD}") == NEW.rstrip("\n")


def test_a_folder_that_leads_out_of_the_checkout_is_not_written_through(tmp_path: Path) -> None:
    repo, opened, new = prepared(tmp_path / "repo")
    outside = tmp_path / "outside"
    (repo.path / CARD).parent.rename(outside)
    (repo.path / CARD).parent.symlink_to(outside)
    try:
        land(repo, opened, new)
    except Refused:
        assert repo.oid() != new
    assert (outside / "A1.yaml").read_text() == OLD


def test_attributes_are_those_of_the_commit(tmp_path: Path, merges: list[Oid]) -> None:
    repo, opened, _ = prepared(tmp_path / "repo")
    first = repo.commit("Attributes", **{".gitattributes": "src/* text eol=crlf\n", "src/c": "c\n"})
    tree = opened.require_commit(Oid(first)).tree
    files = {".gitattributes": b"# none\n", "src/a": b"A\n"}
    both = opened.commit_tree(opened.with_files(tree, files), [Oid(first)], "Both\n")
    land(repo, opened, both)
    assert repo.read("src/a") == "A\n"
    assert repo.git("status", "--porcelain") == ""
    repo.write(".gitattributes", "* text eol=crlf\n")  # which nobody has committed
    plain = opened.with_files(opened.require_commit(both).tree, {"src/b": b"B\n"})
    land(repo, opened, opened.commit_tree(plain, [both], "Plain\n"))
    assert len(merges) == 2
    assert repo.read("src/b") == "B\n"


def test_an_index_with_conflicts_is_left_alone(tmp_path: Path) -> None:
    repo, opened, new = prepared(tmp_path / "repo")
    repo.write("src/a", "stashed\n")
    repo.git("stash", "-q")
    tip = Oid(repo.commit("Another", **{"src/a": "other\n"}))
    tree = opened.with_files(opened.require_commit(tip).tree, {CARD: NEW.encode()})
    new = opened.commit_tree(tree, [tip], "State\n")
    repo.git("stash", "pop", "-q", check=False)
    before = state(repo)
    with pytest.raises(GitError, match="unmerged"):
        land(repo, opened, new)
    assert (state(repo), repo.oid()) == (before, tip)


def test_what_was_cut_short_is_finished_by_the_next_command(tmp_path: Path) -> None:
    """As where the disk is full, or a filter needs a network that is not there."""
    repo, opened, _ = prepared(tmp_path / "repo")
    repo.git("config", "filter.net.clean", "cat")
    repo.git("config", "filter.net.smudge", "cat")
    repo.git("config", "filter.net.required", "true")
    repo.write(".gitattributes", f"{CARD} filter=net\n")
    tip = Oid(repo.commit("Filter it"))
    tree = opened.with_files(opened.require_commit(tip).tree, {CARD: NEW.encode(), "src/a": b"A\n"})
    new = opened.commit_tree(tree, [tip], "State\n")
    repo.git("config", "filter.net.smudge", "false")
    with pytest.raises(GitError, match="filter"):
        land(repo, opened, new)
    assert opened.unfinished(Branch("main")).exists()
    repo.git("config", "filter.net.smudge", "cat")
    finish_all(Opened.open(repo.path))
    if repo.oid() != new:  # nothing had come to the index
        assert repo.git("status", "--porcelain") == ""
        land(repo, Opened.open(repo.path), new)
    assert repo.oid() == new
    assert repo.git("status", "--porcelain") == ""
    assert not opened.unfinished(Branch("main")).exists()


def test_more_than_cards_is_left_to_git_merge(tmp_path: Path, merges: list[Oid]) -> None:
    repo, opened, _ = prepared(tmp_path / "repo")
    tip = Oid(repo.oid())
    tree = opened.require_commit(tip).tree
    added = opened.commit_tree(opened.with_files(tree, {"new": b"new\n"}), [tip], "New\n")
    land(repo, opened, added)
    odd = opened.with_files(opened.require_commit(added).tree, {"src/a": None, "a b": b"x\n"})
    land(repo, opened, opened.commit_tree(odd, [added], "Odd\n"))
    many = {f"many/{n}": b"1\n" for n in range(30)}
    tree = opened.with_files(odd, many)
    first = opened.commit_tree(tree, [Oid(repo.oid())], "Many\n")
    land(repo, opened, first)
    edited = dict.fromkeys(many, b"2\n")
    land(repo, opened, opened.commit_tree(opened.with_files(tree, edited), [first], "All\n"))
    assert len(merges) == 4
    assert repo.git("status", "--porcelain") == ""
    assert repo.read("many/7") == "2\n"


def test_a_lock_of_the_index_is_waited_for(tmp_path: Path) -> None:
    repo, opened, new = prepared(tmp_path / "repo")
    (repo.path / ".git/index.lock").touch()
    before = state(repo)
    with pytest.raises(GitError, match=r"index\.lock"):
        land(repo, opened, new)
    assert state(repo) == before
    (repo.path / ".git/index.lock").unlink()
    land(repo, opened, new)
    assert repo.oid() == new
