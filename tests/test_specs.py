"""What a spec was in a commit is what all cards of that commit say of it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from gitwaves.cards import card_path
from gitwaves.git import Repo as GitRepo
from gitwaves.model import Cards, Oid, TaskId
from gitwaves.specs import Specs
from tests.plans import cards_at
from tests.repo import Repo
from tests.test_eight import plan

POINT = ".workstreams/merge-points/MP1.yaml"
NODES = ["A1", "A2", "A3", "B1", "B2", "B3", "MP1", "C1"]


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo.init(tmp_path / "repo")
    repo.write(POINT, "id: MP1\ntitle: Both\nrequires: [A1, B1]\n")
    plan(repo, 3, letters="AB")
    return repo


def told(cards: Cards, node: str) -> tuple[str, object] | None:
    if node not in cards.tasks and node not in cards.merge_points:
        return None
    return cards.digest(node), cards.steps_of(node)


def put(path: Path, text: str) -> None:
    """Writes a file, whatever stands there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def change(repo: Repo, rng: random.Random) -> None:
    """Does something to the plan: to a spec, a boundary, where a card stands, or what a file is."""
    found = sorted(repo.path.glob(".workstreams/*/*.yaml"))
    cards = [path for path in found if path.is_file() and not path.is_symlink()]
    card = rng.choice(cards)
    deed = rng.randrange(8)
    if deed == 0 and card.name[0] in "AB":
        card.write_text(card.read_text().replace("grep -q ", f"grep -q{rng.choice('iwx')} ", 1))
    elif deed == 1:
        stream = repo.path / f".workstreams/WS-{rng.choice('AB')}/workstream.yaml"
        put(stream, f"title: One\npaths: ['{rng.choice('abc')}/**']\n")
    elif deed == 2:
        some = rng.sample(NODES[:6], rng.randrange(1, 4))
        steps = rng.choice(["", "verify:\n  - run: make all\n"])
        text = f"id: MP1\ntitle: Both\nrequires: [{', '.join(some)}]\n{steps}"
        put(repo.path / POINT, text)
    elif deed == 3:  # the id may stand twice
        other = repo.path / rng.choice([".workstreams/WS-A", ".workstreams/WS-B", "elsewhere"])
        if other / card.name != card:
            put(other / card.name, card.read_text())
    elif deed == 4:
        card.unlink()
    elif deed == 5:
        card.write_text(card.read_text().replace("id: ", "id: [", 1))
    elif deed == 6:
        card.unlink()
        card.symlink_to("A1.yaml")
    else:
        card.unlink()
        card.mkdir()
        (card / "inside.txt").write_text("x\n")


@pytest.mark.parametrize("seed", range(4))
def test_a_spec_is_what_all_cards_of_its_commit_say(repo: Repo, seed: int) -> None:
    rng = random.Random(seed)
    digests: dict[str, set[str]] = {node: set() for node in NODES}
    for step in range(25):
        if rng.random() < 0.3:  # else soon nothing would be left
            shutil.rmtree(repo.path / ".workstreams")
            repo.git("checkout", "-q", repo.git("rev-list", "--max-parents=0", "HEAD"), "--", ".")
        change(repo, rng)
        repo.commit(f"Step {step}", **{"other.txt": f"{step}\n"})
        commit = Oid(repo.oid("HEAD"))
        specs = Specs(GitRepo.open(repo.path))
        cards = cards_at(specs, commit)
        for node in NODES:
            now = told(cards, node)
            for digest in digests[node]:
                if now is None or now[0] != digest:
                    assert specs.spec_at(commit, node, digest) is None
            if now is not None:
                assert specs.spec_at(commit, node, now[0]) == now[1]
                digests[node].add(now[0])
    assert sum(map(len, digests.values())) > 12
    commit = Oid(repo.oid("HEAD"))
    specs = Specs(GitRepo.open(repo.path))
    cards = cards_at(specs, commit)
    named = {*cards.merge_points, *cards.tasks}
    assert named
    never = dict.fromkeys(named, "sha256:" + "0" * 64)
    assert specs.had_specs(cards, commit, never) == set()
    for node in named:
        for digest in had_at(specs, commit, card_path(cards, node), node):
            assert specs.had_specs(cards, commit, {node: digest}) == {node}
            assert specs.had_specs(cards, commit, never | {node: digest}) == {node}


def had_at(specs: Specs, tip: Oid, path: str, node: str) -> set[str]:
    """The digests of all specs that a card had at a path, whatever else stood elsewhere."""
    found = set()
    for commit in specs.repo.rev_list(tip):
        cards = cards_at(specs, commit)
        if node in {*cards.tasks, *cards.merge_points} and card_path(cards, node) == path:
            task = cards.tasks.get(TaskId(node))
            if task is None or task.workstream in cards.workstreams:
                found.add(cards.digest(node))
    return found
