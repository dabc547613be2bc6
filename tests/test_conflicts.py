"""`conflicts` against what `git merge` then really does, and what it says of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import threading
from itertools import combinations
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from gitwaves.conflicts import ahead
from gitwaves.git import Repo as Git
from gitwaves.gitcall import Asked
from gitwaves.model import Oid
from gitwaves.pairs import Merges, Merging, conflicts_of
from gitwaves.resources import schema_text
from gitwaves.store import Store
from tests.repo import Repo

FOLDERS = ("src/core", "src/api", "docs")


def generated(repo: Repo, branches: int, files: int, seed: int) -> list[str]:
    """Branches that edit, rename, move whole folders, delete, add and change modes, at random."""
    chance = random.Random(seed)
    paths = [f"{FOLDERS[n % 3]}/file{n}.txt" for n in range(files)]
    for n, path in enumerate(paths):
        repo.write(path, "".join(f"line {k} of {n}\n" for k in range(30)))
    repo.commit("Seed")
    names = []
    for n in range(branches):
        name = f"b{n}"
        names.append(name)
        repo.git("switch", "-qc", name, "main")
        for k in range(chance.randint(1, 3)):
            for _ in range(chance.randint(1, 3)):
                change(repo, chance, chance.choice(paths[: max(8, files // 20)]), f"{name} {k}")
            repo.commit(f"Change {k} of {name}")
    repo.git("switch", "-q", "main")
    return names


def change(repo: Repo, chance: random.Random, path: str, who: str) -> None:
    file = repo.path / path
    what = chance.choice(
        (
            "edit",
            "edit",
            "edit",
            "append",
            "rename",
            "delete",
            "mode",
            "add",
            "folder",
            "into",
            "link",
        )
    )
    if what == "add":
        repo.write(f"{FOLDERS[0]}/new{chance.randint(0, 3)}.txt", f"by {who}\n")
    elif what == "folder" and (repo.path / "docs").is_dir() and chance.random() < 0.5:
        repo.git("mv", "docs", f"manual{chance.randint(0, 1)}")
    elif file.is_dir():
        repo.write(f"{path}/more.txt", who)
    elif not file.is_file() or file.is_symlink():
        repo.write(path, f"anew by {who}\n")
    elif what in {"edit", "folder"}:
        lines = file.read_text().splitlines(keepends=True)
        at = chance.randint(0, len(lines))
        file.write_text("".join([*lines[:at], f"{who}\n", *lines[at + 1 :]]))
    elif what == "append":
        file.write_text(file.read_text() + f"{who}\n")
    elif what == "rename":
        repo.git("mv", "-f", path, f"{path}.{chance.choice('xyz')}")
    elif what == "delete":
        file.unlink()
    elif what == "mode":
        file.chmod(0o755)
    elif what == "into":  # a folder where a file was
        file.unlink()
        repo.write(f"{path}/inner.txt", who)
    elif what == "link":
        file.unlink()
        file.symlink_to("elsewhere")


def really(repo: Repo, one: str, other: str) -> set[str]:
    """The unmerged paths after `git merge`."""
    repo.git("checkout", "-q", "--detach", one)
    repo.git("merge", "-q", "--no-commit", "--no-ff", other, check=False)
    listed = repo.git("ls-files", "-u", "-z").split("\0")
    repo.git("reset", "-q", "--hard")
    repo.git("clean", "-qfdx")
    return {plain(entry.split("\t", 1)[1]) for entry in listed if entry}


def plain(path: str) -> str:
    """A path without what Git puts behind it where a folder is in the way: `a~HEAD`."""
    return re.sub(r"~(HEAD|b\d+|[0-9a-f]{40})(_\d+)?(?=/|$)", "", path)


def agree(repo: Repo, names: list[str]) -> int:
    """Merges every pair both ways; how many of them conflict."""
    pairs = list(combinations(names, 2))
    oids = {name: Oid(repo.oid(name)) for name in names}
    found = Merging(Git.open(repo.path), [(oids[a], oids[b]) for a, b in pairs]).files()
    ours = {pair: {plain(f) for f in files} for pair, files in zip(pairs, found, strict=True)}
    theirs = {pair: really(repo, *pair) for pair in pairs}
    assert ours == theirs
    return sum(bool(files) for files in theirs.values())


def test_no_conflict_is_missed_and_none_invented(repo: Repo) -> None:
    hit = agree(repo, generated(repo, branches=8, files=24, seed=4))
    assert 4 < hit < 24


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_no_conflict_is_missed_and_none_invented_among_64(repo: Repo, seed: int) -> None:
    hit = agree(repo, generated(repo, branches=64, files=5000 if seed == 1 else 300, seed=seed))
    assert 100 < hit < 2016


def test_nothing_is_left_in_the_repository(repo: Repo) -> None:
    names = generated(repo, branches=4, files=9, seed=2)
    before = repo.git("count-objects", "-v")
    git = Git.open(repo.path)
    pairs = [(Oid(repo.oid(a)), Oid(repo.oid(b))) for a, b in combinations(names, 2)]
    first = conflicts_of(git, pairs)
    assert repo.git("count-objects", "-v") == before
    assert {path.name for path in git.state_dir.iterdir()} == {"history", "merges"}
    assert conflicts_of(git, pairs, at_most=0) == first  # all of it is known
    repo.git("config", "merge.renames", "false")
    git = Git.open(repo.path)
    assert conflicts_of(git, pairs, at_most=0) == [None] * 6  # another way is another answer
    half = conflicts_of(git, pairs, at_most=4)
    assert [files is None for files in half] == [False] * 4 + [True] * 2
    assert None not in conflicts_of(git, pairs, at_most=2)  # the next time goes on


def test_attributes_of_a_folder_are_another_way_to_merge(repo: Repo) -> None:
    names = generated(repo, branches=2, files=3, seed=4)
    git = Git.open(repo.path)
    pair = (Oid(repo.oid(names[0])), Oid(repo.oid(names[1])))
    assert None not in conflicts_of(git, [pair])
    assert None not in conflicts_of(git, [pair], at_most=0)
    repo.write("below/.gitattributes", "*.txt merge=union\n")
    repo.git("add", "below")
    assert conflicts_of(git, [pair], at_most=0) == [None]
    assert None not in conflicts_of(git, [pair])
    repo.write("below/.gitattributes", "*.txt -merge\n")  # as it lies there, staged or not
    assert conflicts_of(git, [pair], at_most=0) == [None]
    assert None not in conflicts_of(git, [pair])
    users = repo.path.parent / "attributes"
    repo.git("config", "core.attributesFile", str(users))
    git = Git.open(repo.path)
    assert None not in conflicts_of(git, [pair])
    users.write_text("*.txt merge=union\n")
    assert conflicts_of(git, [pair], at_most=0) == [None]


def test_state_commits_make_no_pair_anew(repo: Repo) -> None:
    names = generated(repo, branches=2, files=3, seed=5)
    git = Git.open(repo.path)
    one, other = (Oid(repo.oid(name)) for name in names)
    first = conflicts_of(git, [(one, other)])
    tree = git.with_files(git.require_commit(one).tree, {".workstreams/WS-A/A1.yaml": b"id: A1\n"})
    state = git.commit_tree(tree, [one], "gitwaves: start A1\n")
    assert conflicts_of(git, [(state, other)], at_most=0) == first


def test_histories_with_nothing_in_common(repo: Repo) -> None:
    repo.commit("One", **{"a.txt": "1\n"})
    repo.git("switch", "-q", "--orphan", "other")
    repo.commit("Other", **{"a.txt": "2\n"})
    repo.git("switch", "-qc", "third", "main")
    repo.commit("Third", **{"b.txt": "2\n"})
    oids = [Oid(repo.oid(name)) for name in ("main", "other", "third")]
    assert Merging(Git.open(repo.path), list(combinations(oids, 2))).files() == [
        ("a.txt",),
        (),
        ("a.txt",),
    ]


def test_many_pairs_are_shared_out_in_order(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    names = generated(repo, branches=5, files=9, seed=3)
    git = Git.open(repo.path)
    pairs = [(Oid(repo.oid(a)), Oid(repo.oid(b))) for a, b in combinations(names, 2)]
    alone = Merging(git, pairs).files()
    monkeypatch.setattr("gitwaves.pairs._PER_PROCESS", 3)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert Merging(git, pairs).files() == alone


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where merges are written, empty but for what an old kill left."""
    folder = tmp_path / "scratch"
    (folder / "gitwaves-merging-old/aa").mkdir(parents=True)
    (folder / "gitwaves-merging-old/aa/object").write_text("x")
    os.utime(folder / "gitwaves-merging-old", (1, 1))
    monkeypatch.setattr("gitwaves.pairs._MEMORY", str(folder))
    monkeypatch.setattr("gitwaves.pairs._ENOUGH", 0)
    return folder


@pytest.mark.parametrize("when", ["begun", "read", "waited for"])
def test_nothing_is_left_where_it_is_interrupted(
    repo: Repo, scratch: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    names = generated(repo, branches=5, files=9, seed=3)
    pairs = [(Oid(repo.oid(a)), Oid(repo.oid(b))) for a, b in combinations(names, 2)]
    begun: list[Asked] = []
    real = Asked.said

    def interrupted(asked: Asked) -> bytes | None:
        begun.append(asked)
        if when == "read":
            os.close(asked._out)
            asked._out = -1
        elif when == "waited for":
            with monkeypatch.context() as patch:
                patch.setattr(os, "waitpid", lambda *_: 1 / 0)
                with contextlib.suppress(ZeroDivisionError):
                    real(asked)
        raise KeyboardInterrupt

    monkeypatch.setattr("gitwaves.pairs._PER_PROCESS", 3)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    files = len(os.listdir("/dev/fd"))
    merges = Merges(Git.open(repo.path), pairs)
    assert len(list(scratch.iterdir())) == 3  # of those that run side by side
    monkeypatch.setattr(Asked, "said", interrupted)
    with pytest.raises(KeyboardInterrupt), merges:
        merges.files()
    assert list(scratch.iterdir()) == []
    assert begun
    assert all(asked._process == 0 for asked in begun)
    assert len(os.listdir("/dev/fd")) <= files + 3  # of the reader of objects


# --- the command ---

DESIGN = """\
# Shop

## WS-A: Ledger
Paths: `ledger/**`

### A1: Schema
Verify: `true`

### A2: Balances
Depends on: A1
Verify: `true`

## WS-B: Gateway
Paths: `gateway/**`

### B1: Routes
Verify: `true`

## WS-C: Reports
Paths: `reports/**`

### C1: Totals
Verify: `true`

## Merge points
- MP1: A1 + C1
- MP2: A2 + B1
"""


@pytest.fixture
def plan(repo: Repo) -> Repo:
    repo.commit("Approve", **{"docs/design.md": DESIGN, "lock": "1\n"})
    repo.gw_ok("init", "--no-hooks")
    config = repo.path / ".workstreams/config.yaml"
    config.write_text(config.read_text() + "shared_paths: [lock]\nworktrees: ../worktrees/{name}\n")
    repo.gw_ok("import", "docs/design.md")
    repo.commit("Plan")
    repo.gw_ok("trust", "--yes")
    return repo


def worked(plan: Repo, task: str, **files: str) -> Repo:
    plan.gw_ok("start", task)
    worktree = Repo(plan.path.parent / "worktrees" / f"ws-{task[0]}")
    worktree.commit(f"Work on {task}", **files)
    return worktree


def watched(repo: Repo) -> str:
    """What `status --watch` shows first, up to a word on conflicts."""
    command = [sys.executable, "-m", "gitwaves", "status", "--watch"]
    with subprocess.Popen(command, cwd=repo.path, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        guard = threading.Timer(120, watching.kill)
        guard.start()
        shown = ""
        for line in watching.stdout:
            shown += line
            if line.startswith("CONFLICTS"):
                break
        guard.cancel()
        watching.terminate()
    return shown


def test_what_collides_is_said_with_files_tasks_and_merge_point(plan: Repo) -> None:
    assert plan.gw_ok("conflicts").out == (
        "0 branches in flight: all 0 pairs of them and trunk merge cleanly.\n"
    )
    worked(plan, "A1", **{"ledger/a": "1\n"}).gw_ok("verify")
    worked(plan, "A2", lock="a\n")
    worked(plan, "B1", **{"lock": "b\n", "gateway/b": "1\n"})
    worked(plan, "C1", **{"reports/c": "1\n"})
    done = plan.gw("conflicts")
    assert done.code == 1
    assert done.out == (
        "3 branches in flight: 1 of 6 pairs of them and trunk do not merge.\n"
        "\n"
        "MP2: ws/A (A2) x ws/B (B1)\n"
        "  lock   (ws/A: A2; ws/B: B1)\n"
    )
    shown = json.loads(plan.gw("conflicts", "--json").out)
    Draft202012Validator(json.loads(schema_text("conflicts.schema.json"))).validate(shown)
    assert shown["conflicts"][0]["merge_point"] == "MP2"
    said = "CONFLICTS AHEAD  ws/A (A2) x ws/B (B1), at MP2: gitwaves conflicts\n"
    assert said in plan.gw_ok("status").out
    assert watched(plan).endswith(f"\n\n{said}")
    assert "CONFLICTS" not in plan.git("show", "gitwaves/dashboard:DASHBOARD.txt", check=False)
    assert "CONFLICTS" not in plan.read(".workstreams/DASHBOARD.txt")


def test_status_goes_on_where_it_left_off(plan: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    worked(plan, "A1", lock="a\n")
    worked(plan, "B1", lock="b\n")
    worked(plan, "C1", **{"reports/c": "1\n"})
    monkeypatch.setattr("gitwaves.conflicts._AT_ONCE", 2)  # of six pairs
    store = Store(Git.open(plan.path))
    said = [ahead(store, store.snapshot()) for _ in range(4)]
    assert [whole for _, whole in said] == [False, False, True, True]
    line = "CONFLICTS AHEAD  ws/A (A1) x ws/B (B1), at MP2: gitwaves conflicts"
    assert [shown for shown, _ in said[2:]] == [line, line]


def test_trunk_is_one_of_them_and_a_file_may_have_had_another_name(plan: Repo) -> None:
    rest = "".join(f"{n}\n" for n in range(20))
    plan.commit("Seed", lock=f"first\n{rest}")
    worked(plan, "A1", lock=f"a\n{rest}")
    worktree = worked(plan, "B1", **{"gateway/b": "b\n"})
    worktree.git("mv", "lock", "gateway/lock")
    worktree.commit("Move", **{"gateway/lock": f"b\n{rest}"})
    plan.commit("Meanwhile", lock=f"main\n{rest}")
    assert plan.gw("conflicts").out == (
        "2 branches in flight: 3 of 3 pairs of them and trunk do not merge.\n"
        "\n"
        "MP1: main x ws/A (A1)\n"
        "  lock   (ws/A: A1)\n"
        "\n"
        "MP2: main x ws/B (B1)\n"
        "  gateway/lock   (ws/B: B1)\n"
        "\n"
        "MP2: ws/A (A1) x ws/B (B1)\n"
        "  gateway/lock   (ws/B: B1)\n"
    )
