"""Law 1 at work: many worktrees, and many clones, at the same time, as real processes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.naive import SEPARATOR
from tests.repo import Repo, Result

LETTERS = "ABCDEFGH"


def plan(repo: Repo, rounds: int, extra: str = "", letters: str = LETTERS) -> None:
    """A workstream for each letter, with a chain of tasks, one a round; from round 2 on each
    task also needs its neighbour's of the round before.
    """
    repo.write(".workstreams/config.yaml", f"version: 1\ntitle: Eight\ntrunk: main\n{extra}")
    repo.write(".workstreams/.gitattributes", "* -text\n")
    for number, letter in enumerate(letters):
        low = letter.lower()
        repo.write(
            f".workstreams/WS-{letter}/workstream.yaml", f"title: {letter}\npaths: ['{low}/**']\n"
        )
        for n in range(1, rounds + 1):
            beside = letters[(number + 1) % len(letters)]
            needs = f"{letter}{n - 1}, {beside}{n - 1}" if n > 1 and len(letters) > 1 else ""
            repo.write(
                f".workstreams/WS-{letter}/{letter}{n}.yaml",
                f"id: {letter}{n}\ntitle: Task {n} of {letter}\ndepends_on: [{needs}]\n"
                f"verify:\n  - run: grep -q ok {low}/{n}.txt\n"
                f"{SEPARATOR}\ntracking:\n  task: {letter}{n}\n  status: planned\n",
            )
    repo.commit("The plan")


def at_once(calls: Iterable[Callable[[], Result]]) -> list[Result]:
    """Runs all of them at the same moment, each in a thread of its own."""
    waiting = list(calls)
    barrier = threading.Barrier(len(waiting))

    def run(call: Callable[[], Result]) -> Result:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(waiting)) as pool:
        return list(pool.map(run, waiting))


def work(repo: Repo, letter: str, n: int, commits: list[str]) -> Result:
    """One agent does one task: `start`, write, commit and verify, in either order."""
    repo.gw_ok("start", f"{letter}{n}", "--agent", letter)
    tree = repo.at(f"../{repo.path.name}.worktrees/ws-{letter}")
    low = letter.lower()
    tree.write(f"{low}/draft{n}.txt", "first\n")
    tree.git("add", "-A")
    tree.git("commit", "-q", "-m", f"draft {letter}{n}")
    commits.append(tree.oid())
    tree.write(f"{low}/{n}.txt", "ok\n")
    tree.git("add", "-A")
    message = f"build {letter}{n}\n\nLearned: {letter}{n} is easy"
    if (ord(letter) + n) % 2:
        tree.gw_ok("verify")
        tree.git("commit", "-q", "-m", message)
        commits.append(tree.oid("HEAD^"))
        return Result(0, "", "")
    tree.git("commit", "-q", "-m", message)
    commits.append(tree.oid())
    return tree.gw_ok("verify")


def states(repo: Repo) -> dict[str, str]:
    shown = json.loads(repo.gw_ok("status", "--json").out)
    return {task["id"]: task["state"] for task in shown["tasks"]}


def eight(tmp_path: Path, rounds: int) -> None:
    repo = Repo.init(tmp_path / "repo")
    plan(repo, rounds)
    repo.gw_ok("hooks", "install")
    repo.gw_ok("trust", "--yes")
    mine: dict[str, list[str]] = {letter: [] for letter in LETTERS}
    for n in range(1, rounds + 1):
        calls = [partial(work, repo, x, n, mine[x]) for x in LETTERS]
        at_once(calls)
        wanted = {f"{x}{k}": "done" for x in LETTERS for k in range(1, n + 1)}
        found = states(repo)
        assert {t: found[t] for t in wanted} == wanted
    for letter, commits in mine.items():
        history = set(repo.git("rev-list", f"ws/{letter}").split())
        assert len(commits) == 2 * rounds
        assert set(commits) <= history, f"ws/{letter} lost commits"
        tree = repo.at(f"../repo.worktrees/ws-{letter}")
        assert tree.git("status", "--porcelain") == ""
        files = set(
            repo.git("ls-tree", "--name-only", f"ws/{letter}", f"{letter.lower()}/").split()
        )
        assert files == {
            f"{letter.lower()}/{name}{n}.txt"
            for name in ("", "draft")
            for n in range(1, rounds + 1)
        }
    total = rounds * len(LETTERS)
    board = repo.git("show", "gitwaves/dashboard:DASHBOARD.txt")
    learned = repo.git("show", "gitwaves/dashboard:LEARNINGS.md")
    assert f"{total}/{total}" in board, board
    assert all(f"{x}{n} is easy" in learned for x in LETTERS for n in range(1, rounds + 1))
    assert (
        repo.git("log", "-1", "--format=%s", "gitwaves/dashboard")
        == f"gitwaves: {total}/{total} done"
    )
    assert repo.git("fsck", "--full", "--strict", "--no-dangling") == ""
    assert not list((repo.path / ".git").rglob("*.lock"))


def test_eight_worktrees_at_the_same_time(tmp_path: Path) -> None:
    eight(tmp_path, 2)


@pytest.mark.long
def test_eight_worktrees_for_twenty_rounds(tmp_path: Path) -> None:
    eight(tmp_path, 20)


def race(tmp_path: Path, clones: int) -> None:
    origin = Repo(tmp_path / "origin.git")
    seed = Repo.init(tmp_path / "seed")
    plan(seed, 1, "remote: origin\n", LETTERS[: clones + 1])
    origin.path.mkdir()
    origin.git("init", "-q", "--bare", "-b", "main")
    seed.git("remote", "add", "origin", str(origin.path))
    seed.git("push", "-q", "origin", "main")
    people = [Repo.clone(origin, tmp_path / f"clone{n}") for n in range(clones)]
    for person in people:
        person.gw_ok("trust", "--yes")
    # one task, from every clone
    ends = at_once([partial(p.gw, "start", "A1") for p in people])
    won = [p for p, end in zip(people, ends, strict=True) if end.code == 0]
    lost = [(p, end) for p, end in zip(people, ends, strict=True) if end.code != 0]
    assert len(won) == 1, ends
    for person, end in lost:
        assert end.code == 1, end
        assert "Error: " in end.err, end
        assert "faster" in end.err or "A1 is taken" in end.err, end
        assert "Hint: " in end.err, end
        assert person.git("for-each-ref", "refs/heads/ws/A") == "", "a loser has something left"
        assert not person.at(f"../{person.path.name}.worktrees/ws-A").path.exists()
    theirs = origin.git("rev-parse", "refs/heads/ws/A")
    assert won[0].oid("ws/A") == theirs
    # the others take other work, all at once
    took = at_once([partial(p.gw, "start", f"{LETTERS[n + 1]}1") for n, (p, _) in enumerate(lost)])
    assert [end.code for end in took] == [0] * len(lost), took
    for person, end in zip(people, at_once([partial(p.gw, "sync") for p in people]), strict=True):
        assert end.code == 0, end
        found = states(person)
        assert list(found.values()).count("active") == clones, found
        assert person.git("fsck", "--full", "--strict", "--no-dangling") == ""
    assert origin.git("fsck", "--full", "--strict", "--no-dangling") == ""
    # what the winner has is the winner's still, and asking again is no error
    assert won[0].gw_ok("start", "A1").code == 0
    again = lost[0][0].gw("start", "A1")
    assert (again.code, "A1 is taken" in again.err) == (1, True), again


def test_four_clones_race_for_one_task(tmp_path: Path) -> None:
    race(tmp_path, 4)


@pytest.mark.long
def test_six_clones_race_for_one_task_again_and_again(tmp_path: Path) -> None:
    for n in range(8):
        race(tmp_path / str(n), 6)


def test_six_processes_of_one_clone_start_one_task(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "repo")
    plan(repo, 1, letters="A")
    repo.gw_ok("trust", "--yes")
    ends = at_once([partial(repo.gw, "start", "A1")] * 6)
    assert [end.code for end in ends] == [0] * 6, ends
    assert repo.git("rev-list", "--count", "main..ws/A") == "1"


def test_a_branch_rewritten_here_is_read_here_and_a_claim_there_wins(tmp_path: Path) -> None:
    origin = Repo(tmp_path / "origin.git")
    seed = Repo.init(tmp_path / "seed")
    plan(seed, 1, "remote: origin\n", "AB")
    origin.path.mkdir()
    origin.git("init", "-q", "--bare", "-b", "main")
    seed.git("remote", "add", "origin", str(origin.path))
    seed.git("push", "-q", "origin", "main")
    mine = Repo.clone(origin, tmp_path / "mine")
    mine.gw_ok("trust", "--yes")
    mine.gw_ok("start", "A1", "--agent", "mine")
    mine.commit("go on", README="hello\n")
    mine.git("push", "-q", "origin", "main")
    tree = mine.at("../mine.worktrees/ws-A")
    tree.git("rebase", "-q", "main")
    shown = json.loads(mine.gw_ok("status", "--json").out)
    assert shown["warnings"] == ["ws/A diverged from origin: this clone's is read"]
    # somebody else claims on the remote's line: that one counts
    other = Repo.clone(origin, tmp_path / "other")
    card = ".workstreams/WS-A/A1.yaml"
    other.git("checkout", "-q", "ws/A")
    text = other.read(card)
    ident = next(
        line for line in text.splitlines() if line.strip().startswith("id: ") and "A1" not in line
    )
    other.commit("taken", **{card: text.replace(ident.strip(), "id: feedfeedfeedfeed")})
    other.git("push", "-q", "origin", "ws/A")
    mine.git("fetch", "-q")
    shown = json.loads(mine.gw_ok("status", "--json").out)
    assert shown["warnings"] == ["ws/A diverged from origin: origin's is read"]
