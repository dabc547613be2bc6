"""What `check` kept is what it would find: after any edit, by hand or committed."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gitwaves.cards import load_cards
from gitwaves.checked import Answer, Tracked, found_in
from gitwaves.git import Repo as Git
from gitwaves.halves import join, planned
from gitwaves.model import Cards
from gitwaves.store import Store
from tests.plans import check
from tests.repo import Repo
from tests.test_caches import spoil

CARDS = ".workstreams/WS-{0}/{0}{1}.yaml"
EDITS = (
    ("title: Task", "title: Another task"),
    ("spec: |\n", "spec: |\n  One more line.\n"),
    ("depends_on: [", "depends_on: [A1, "),
    ("depends_on: [", "depends_on: [A9, "),
    ("depends_on: [A1, ", "depends_on: ["),
    ("batch: 1", "batch: 2"),
    ("batch: 2", "batch: 1"),
    ("batch: 1\n", ""),
    ("spec: |\n", "cancelled: no use\nspec: |\n"),
    ("spec: |\n", "paths: [elsewhere/**]\nspec: |\n"),
    ("spec: |\n", "produces: [b/1.txt]\nspec: |\n"),
    ("verify:\n  - run: 'true'\n", ""),
    ("id: ", "id:  "),
    ("title: ", "\ttitle: "),
    ("status: planned", "status: active"),
    ("status: planned", "status: strange"),
    ("tracking:", "tracked:"),
)


def planned_repo(path: Path) -> Repo:
    """Three workstreams of four tasks, and a merge point that takes one of each."""
    repo = Repo.init(path)
    files: dict[str, bytes | str] = {
        ".workstreams/config.yaml": "version: 1\ntitle: Checked\ntrunk: main\n",
        ".workstreams/merge-points/MP1.yaml": join(
            b"id: MP1\ntitle: All\nrequires: [A1, B1, C1]\nverify:\n  - run: 'true'\n",
            planned("MP1"),
        ),
    }
    for name in "ABC":
        files[f".workstreams/WS-{name}/workstream.yaml"] = (
            f"title: {name}\npaths: [{name.lower()}/**]\n"
        )
        for n in range(1, 5):
            need = f"{name}{n - 1}" if n > 1 else ""
            spec = (
                f"id: {name}{n}\ntitle: Task {n}\ndepends_on: [{need}]\nbatch: {(n + 1) // 2}\n"
                "spec: |\n  Do it.\nverify:\n  - run: 'true'\n"
            )
            files[CARDS.format(name, n)] = join(spec.encode(), planned(f"{name}{n}"))
    for file, text in files.items():
        repo.write(file, text)
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", "Plan")
    return repo


def kept(store: Store) -> tuple[Answer, bool]:
    """What `check` finds, and whether it was kept."""
    listing = store.listed_at(None)
    read: list[object] = []

    def cards() -> Cards:
        read.append(store)
        return store.shelf.read(listing)[0]

    tracked = Tracked(lambda: store.repo.paths("ls-files", "-z", cwd=store.repo.top))
    folder = store.repo.state_dir / "checked"
    return found_in(folder, listing, cards, tracked), not read


def fresh(store: Store) -> tuple[object, ...]:
    """What is wrong, with every file read."""
    cards = load_cards(*store.working_files())
    files = store.repo.paths("ls-files", "-z", cwd=store.repo.top)
    return check(cards, files)


def edit(repo: Repo, rng: random.Random) -> str:
    """Something that somebody does to a plan; says what."""
    paths = sorted((repo.path / ".workstreams").rglob("*.yaml"))
    card = rng.choice([path for path in paths if path.name[0] in "ABC"])
    what = rng.randrange(10)
    if what == 0:
        card.unlink()
    elif what == 1:
        data = card.read_bytes()
        card.with_name(f"{card.name[0]}{rng.randint(1, 9)}.yaml").write_bytes(data)
    elif what == 2:
        repo.git("checkout", "-q", "HEAD", "--", ".workstreams")
    elif what == 3:
        repo.git("add", "-A")
        repo.git("commit", "-q", "--allow-empty", "-m", "Edited")
    elif what == 4:
        stream = rng.choice([path for path in paths if path.name == "workstream.yaml"])
        stream.write_text(f"title: T\npaths: [{rng.choice('abc')}/**]\n")
    elif what == 5:
        repo.write(f"{rng.choice('abc')}/{rng.randint(1, 3)}.txt", "text\n")
        repo.git("add", "-A", ":!.workstreams")
    else:
        old, new = rng.choice(EDITS)
        card.write_text(card.read_text().replace(old, new, 1))
        return f"{card.name}: {old!r} -> {new!r}"
    return f"{what} {card.name}"


@pytest.mark.parametrize(
    "seed", [1, 2, *(pytest.param(n, marks=pytest.mark.long) for n in range(3, 30))]
)
def test_whatever_is_edited_the_same_is_found(tmp_path: Path, seed: int) -> None:
    repo = planned_repo(tmp_path / "repo")
    rng = random.Random(seed)
    done = []
    for _ in range(40):
        done.append(edit(repo, rng))
        store = Store(Git.open(repo.path))
        assert kept(store)[0].findings == fresh(store), done
        assert kept(Store(Git.open(repo.path)))[0].findings == fresh(store), done


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(n, marks=pytest.mark.long) for n in range(2, 12))]
)
def test_whatever_is_spoiled_of_what_was_kept_the_same_is_found(tmp_path: Path, seed: int) -> None:
    repo = planned_repo(tmp_path / "repo")
    rng = random.Random(seed)
    done = []
    for _ in range(20):
        done.append(edit(repo, rng))
        for name in ("checked", "plans"):
            if (folder := repo.path / ".git/gitwaves" / name).is_dir():
                spoil(folder, rng)
        store = Store(Git.open(repo.path))
        assert kept(store)[0].findings == fresh(store), done
        assert kept(Store(Git.open(repo.path)))[0].findings == fresh(store), done


def test_a_text_that_changes_makes_no_rule_run_again(tmp_path: Path) -> None:
    repo = planned_repo(tmp_path / "repo")
    assert not kept(Store(Git.open(repo.path)))[1]
    card = repo.path / CARDS.format("B", 2)
    card.write_text(card.read_text().replace("spec: |\n", "spec: |\n  One more line.\n"))
    repo.write("a/untracked.txt", "text\n")
    answer, known = kept(Store(Git.open(repo.path)))
    assert known
    assert (answer.tasks, answer.points) == (12, 1)
    card.write_text(card.read_text().replace("depends_on: [B1]", "depends_on: [B9]"))
    answer, known = kept(Store(Git.open(repo.path)))
    assert not known
    assert any("B2 depends on B9" in finding.message for finding in answer.findings)


def test_nothing_is_kept_of_a_card_that_git_lacks(tmp_path: Path) -> None:
    repo = planned_repo(tmp_path / "repo")
    oid = repo.git("rev-parse", f"HEAD:{CARDS.format('A', 1)}")
    lost = repo.path / ".git/objects" / oid[:2] / oid[2:]
    kept_aside = lost.rename(tmp_path / "aside")
    before = repo.gw("check")  # reads it as it lies there
    kept_aside.rename(lost)
    assert before == repo.gw("check") == repo.gw("check", "HEAD")
    assert "not a task" not in before.out


def test_all_cards_deleted_are_no_plan(tmp_path: Path) -> None:
    repo = planned_repo(tmp_path / "repo")
    repo.gw("check")
    shutil.rmtree(repo.path / ".workstreams")
    for args in (["check"], ["check", "--strict"], ["plan"]):
        done = repo.gw(*args)
        assert done.code == 1, done
        assert "there is no .workstreams/ here" in done.err, done


def test_a_file_where_a_folder_was(tmp_path: Path) -> None:
    repo = planned_repo(tmp_path / "repo")
    shutil.rmtree(repo.path / ".workstreams/WS-A")
    repo.write(".workstreams/WS-A", "a file\n")
    assert "MP1 requires A1: there is no such id" in repo.gw("check").out


def test_no_standard_error_is_no_failure(tmp_path: Path) -> None:
    repo = planned_repo(tmp_path / "repo")
    command = f"exec {sys.executable} -m gitwaves check 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=repo.path, check=False).returncode == 0


def test_a_plan_that_was_taken_away_is_reviewed(tmp_path: Path) -> None:
    repo = planned_repo(tmp_path / "repo")
    shutil.rmtree(repo.path / ".workstreams")
    done = repo.gw("review")
    assert "no .workstreams/ here" not in done.err
    assert "A1" in done.out


def test_what_is_wrong_with_a_card_by_itself_hangs_on_its_boundary_too(tmp_path: Path) -> None:
    repo = planned_repo(tmp_path / "repo")
    card = repo.path / CARDS.format("A", 1)
    card.write_text(card.read_text().replace("spec: |\n", "produces: [b/1.txt]\nspec: |\n", 1))
    stream, config = ".workstreams/WS-A/workstream.yaml", ".workstreams/config.yaml"
    outside = "b/1.txt lies outside the boundary of WS-A"

    def found() -> bool:
        store = Store(Git.open(repo.path))
        findings = kept(store)[0].findings
        assert findings == kept(store)[0].findings == fresh(store)
        return any(finding.message == outside for finding in findings)

    assert found()
    repo.write(stream, "title: A\npaths: [a/**, b/1.txt]\n")
    assert not found()
    repo.write(stream, "title: A\npaths: [a/**]\n")
    assert found()
    whole = repo.read(config)
    repo.write(config, f"{whole}shared_paths: [b/1.txt]\n")
    assert not found()
    repo.write(config, whole)
    assert found()
    (repo.path / stream).unlink()
    assert not found()


def test_a_card_whose_id_another_has_is_not_looked_at_by_itself(tmp_path: Path) -> None:
    repo = planned_repo(tmp_path / "repo")
    text = (repo.path / CARDS.format("A", 1)).read_text()
    again = ".workstreams/WS-B/A1.yaml"
    repo.write(again, text)
    for verify in ("verify:\n  - run: 'true'\n", ""):  # without, it would be said that it has none
        repo.write(again, text.replace("verify:\n  - run: 'true'\n", verify))
        store = Store(Git.open(repo.path))
        findings = kept(store)[0].findings
        assert findings == kept(store)[0].findings == fresh(store)
        assert [f.message for f in findings if f.path == again] == [
            "the id A1 is also in .workstreams/WS-A/A1.yaml"
        ]
