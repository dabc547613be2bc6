"""What is merged without Git is what Git merges it to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gitwaves.errors import GitError
from gitwaves.git import Entry
from gitwaves.git import Repo as Opened
from gitwaves.model import Oid
from tests.repo import Repo

LINES = "".join(f"line {n}\n" for n in range(12))
BASE = {"a/x": LINES, "a/y": LINES + "y\n", "a/b/z": LINES + "z\n", "c": "c\n", "d/e": "e\n"}

# A path, and what becomes of it: None takes it away, "a/x" takes the content of that file.
_PATHS = ("a/x", "a/y", "a/b/z", "a/new", "a/b/new", "c", "c/under", "d/e", "d", "n/x", "n/y")
_CONTENTS = (None, "one\n", "other\n", LINES + "more\n", "first\n" + LINES, *BASE)
sides = st.dictionaries(st.sampled_from(_PATHS), st.sampled_from(_CONTENTS), max_size=4)
Side = dict[str, str | None]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    path: Path = tmp_path_factory.mktemp("apart") / "repo"
    Repo.init(path)
    return Opened.open(path)


def commit(repo: Opened, files: dict[str, str], *parents: Oid) -> Oid:
    tree = repo.with_files(repo.empty_tree(), {p: text.encode() for p, text in files.items()})
    who = "T <t@example.com> 1750000000 +0000"
    return repo.commit_tree(tree, parents, "x\n", author=who, committer=who)


def changed(side: Side) -> dict[str, str]:
    """The files of a side: no path of it lies below a file."""
    files = dict(BASE)
    for path, content in side.items():
        files.pop(path, None)
        if content is not None:
            above = {path.rsplit("/", n)[0] for n in range(1, path.count("/") + 1)}
            for other in [p for p in files if p in above or p.startswith(path + "/")]:
                del files[other]
            files[path] = BASE.get(content, content)
    return files


@example({"a/new": "one\n"}, {"d/new": "one\n"})
@example({"a/x": "one\n", "a/b/new": "one\n"}, {"a/y": "one\n", "c": "other\n"})
@example({"a/x": None, "n/x": "a/x"}, {"a/x": LINES + "more\n"})  # a rename, and a change
@example({"d/e": None, "n/x": "d/e"}, {"d": None, "a/new": "one\n"})
@example({"d": "one\n"}, {"d/e": "one\n"})
@example({"a/new": "one\n"}, {"a/new": "other\n"})
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(sides, sides)
def test_sides_that_are_merged_without_git_merge_as_git_does(
    opened: Opened, one: Side, other: Side
) -> None:
    base = commit(opened, BASE)
    ours, theirs = commit(opened, changed(one), base), commit(opened, changed(other), base)
    assert opened.merge_trees(ours, theirs, base) == opened.merge_trees(ours, theirs)


def test_what_met_nowhere_needs_no_git(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    base = commit(opened, BASE)
    ours = commit(opened, {**BASE, "a/x": "one\n", "n/x": "new\n", "d/e": "same\n"}, base)
    theirs = commit(opened, {**BASE, "a/y": "two\n", "n/y": "new\n", "d/e": "same\n"}, base)
    met = commit(opened, {**BASE, "a/x": "two\n"}, base)
    gone = commit(opened, {p: text for p, text in BASE.items() if p != "c"}, base)
    said = [opened.merge_trees(ours, each) for each in (theirs, met, gone)]
    asked: list[str] = []
    real = opened.try_git

    def noted(*args: str, **how: Any) -> Any:
        asked.append(args[-1])
        return real(*args, **how)

    monkeypatch.setattr(opened, "try_git", noted)
    assert [opened.merge_trees(ours, each, base) for each in (theirs, met, gone)] == said
    assert asked == [met, gone]


def test_what_is_not_here_is_left_to_git(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "repo")
    opened = Opened.open(repo.path)
    held = {**BASE, "a/gone": "gone\n"}
    base = commit(opened, held)
    ours = commit(opened, {**BASE, "a/one": "1\n"}, base)  # which took a file away
    theirs = commit(opened, {**held, "a/two": "2\n"}, base)
    opened.try_git("rev-parse", "HEAD")  # which writes what was made
    lost = repo.git("rev-parse", f"{base}:a")
    (repo.path / ".git/objects" / lost[:2] / lost[2:]).unlink()
    with pytest.raises(GitError):
        Opened.open(repo.path).merge_trees(ours, theirs, base)


def test_modes_that_git_writes_no_more_are_left_to_it(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "repo")
    opened = Opened.open(repo.path)
    base, ours, theirs = (
        commit(opened, files)
        for files in (BASE, {**BASE, "a/new": "one\n"}, {**BASE, "a/more": "two\n"})
    )
    trees = []
    for each in (base, ours, theirs):
        entries = opened.tree(each)
        inner = opened.tree(entries["a"].oid)
        inner["x"] = Entry("100664", inner["x"].oid)
        trees.append(opened.write_tree(entries | {"a": Entry("40000", opened.write_tree(inner))}))
    who = "T <t@example.com> 1750000000 +0000"
    first = opened.commit_tree(trees[0], [], "x\n", author=who, committer=who)
    one, other = (
        opened.commit_tree(tree, [first], "x\n", author=who, committer=who) for tree in trees[1:]
    )
    assert opened.merge_trees(one, other, first) == opened.merge_trees(one, other)
