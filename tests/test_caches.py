"""The cache on disk: right or absent, whatever happens to its files, and never needed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from gitwaves import caches, facts, forks, shelf
from gitwaves.caches import Cache, key_of
from gitwaves.git import Repo as GitRepo
from gitwaves.model import Branch, Cards, Fact, Oid, TaskId
from gitwaves.record import replace
from gitwaves.store import Store
from gitwaves.writing import done_commit
from tests.plans import cards_at
from tests.repo import Repo
from tests.test_eight import plan, work


def never() -> NoReturn:
    raise AssertionError("it is known")


def padded(n: int) -> str:
    return "x" * 100 + str(n)


def test_what_was_read_is_known_to_the_next_process(tmp_path: Path) -> None:
    first = Cache(tmp_path)
    value = {"a": [1, 2.5, None, True, "é"], "places": {"a[0]": (1, 2)}}
    assert first.value(b"k", lambda: value) == value
    first.save()
    assert Cache(tmp_path).value(b"k", never) == value


def test_keys_of_other_parts_differ() -> None:
    assert key_of(b"a", b"bc") != key_of(b"ab", b"c") != key_of(b"abc")


def test_files_are_joined_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(40):
        cache = Cache(tmp_path)
        cache.value(b"%d" % n, partial(padded, n))
        cache.save()
        assert len(list(tmp_path.iterdir())) <= 9
    assert [Cache(tmp_path).value(b"%d" % n, never)[100:] for n in (0, 39)] == ["0", "39"]
    monkeypatch.setattr(caches, "MAX_BYTES", 1000)
    for n in range(40, 60):
        cache = Cache(tmp_path)
        cache.value(b"%d" % n, partial(padded, n))
        cache.save()
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 4000


def test_what_cannot_be_kept_or_written_is_made_each_time(tmp_path: Path) -> None:
    odd = Cache(tmp_path)
    made = object()
    assert odd.value(b"k", lambda: made) is made
    (tmp_path / "file").write_text("")
    nowhere = Cache(tmp_path / "file")
    assert nowhere.value(b"k", lambda: 1) == 1
    nowhere.save()


def test_writers_at_once_leave_only_whole_files(tmp_path: Path) -> None:
    def write(n: int) -> None:
        for m in range(20):
            cache = Cache(tmp_path)
            assert cache.value(b"same", lambda: "same") == "same"
            assert cache.value(b"%d %d" % (n, m), partial(list, [n, m])) == [n, m]
            cache.save()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert Cache(tmp_path).value(b"same", never) == "same"


def spoil(folder: Path, rng: random.Random) -> None:
    """Deletes, cuts, empties or overwrites files of the cache."""
    for path in sorted(folder.iterdir()):
        data = bytearray(path.read_bytes() or b"\0")  # it may be empty from before
        match rng.randrange(5):
            case 0:
                path.unlink()
            case 1:
                path.write_bytes(data[: rng.randrange(len(data))])
            case 2:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                path.write_bytes(data)
            case 3:
                path.write_bytes(rng.randbytes(rng.randrange(200)))
            case _:
                pass


def test_spoiled_files_change_no_answer(repo: Repo) -> None:
    plan(repo, 2, letters="AB")
    repo.gw_ok("trust", "--yes")
    repo.gw_ok("start", "A1")
    folder = repo.path / ".git/gitwaves/cache"
    said = partial(repo.gw_ok, "status", "--json")
    wanted = said().out
    assert list(folder.iterdir())
    rng = random.Random(1)
    for _ in range(6):
        spoil(folder, rng)
        assert said().out == wanted


def test_check_reads_a_changed_card_anew(repo: Repo) -> None:
    plan(repo, 2, letters="AB")
    repo.gw_ok("status")
    kept = repo.path / ".git/gitwaves/plans"
    assert list(kept.iterdir())
    card = ".workstreams/WS-A/A2.yaml"
    for text in (repo.read(card), repo.read(card).replace("title", "titel"), "id: [", ""):
        repo.write(card, text)
        said = repo.gw("check")
        kept.rename(kept.with_name("aside"))
        assert repo.gw("check") == said
        kept.with_name("aside").rename(kept)


def test_a_spoiled_plan_changes_no_answer(repo: Repo) -> None:
    plan(repo, 2, letters="AB")
    repo.gw_ok("trust", "--yes")
    repo.gw_ok("start", "A1")
    repo.commit("Trunk goes on", **{"c.txt": "1"})
    rng = random.Random(2)
    wanted = [repo.gw_ok(*said, "--json").out for said in (("next",), ("show", "A1"))]
    for _ in range(10):
        for name in ("plans", "history", "facts"):
            spoil(repo.path / ".git/gitwaves" / name, rng)
        said = [repo.gw_ok(*said, "--json").out for said in (("next",), ("show", "A1"))]
        assert said == wanted


def test_of_many_branches_the_one_that_moved_is_read(repo: Repo) -> None:
    plan(repo, 2, letters="ABC")
    repo.gw_ok("trust", "--yes")
    for task in ("A1", "B1"):
        repo.gw_ok("start", task)
    repo.gw_ok("status")
    store = Store(GitRepo.open(repo.path))
    read: list[str] = []
    facts_on = store._facts_on

    def noting(cards: Cards, branch: Branch, *said: Any) -> dict[str, Fact]:
        read.append(branch)
        return facts_on(cards, branch, *said)

    store._facts_on = noting  # type: ignore[assignment]  # only to see what is asked
    store.snapshot()
    assert read == []
    moved = repo.git("commit-tree", "ws/B^{tree}", "-p", "ws/B", "-m", "On it goes")
    repo.git("update-ref", "refs/heads/ws/B", moved)
    store.snapshot()
    assert read == ["ws/B"]


@pytest.mark.parametrize("doubtful", [False, True])
def test_many_branches_are_read_by_several_processes(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, doubtful: bool
) -> None:
    plan(repo, 2, letters="ABCDEF")
    repo.gw_ok("trust", "--yes")
    for letter in "ABC":
        assert work(repo, letter, 1, []).code == 0
    repo.commit("Trunk goes on", **{"c.txt": "1"})
    shutil.rmtree(repo.path / ".git/gitwaves")
    alone = Store(GitRepo.open(repo.path)).snapshot()
    shutil.rmtree(repo.path / ".git/gitwaves")
    monkeypatch.setattr(facts, "_WORTH", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    store = Store(GitRepo.open(repo.path))
    here, by = os.getpid(), repo.path / "by"
    read = store._facts_on

    def noting(cards: Cards, branch: Branch, *said: Any) -> dict[str, Fact]:
        with by.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if os.getpid() == here:
            time.sleep(0.2)  # the others come to read some
        store.repo.doubts += doubtful
        return read(cards, branch, *said)

    store._facts_on = noting  # type: ignore[assignment]  # only to see who asks
    snapshot = store.snapshot()
    assert len(set(by.read_text().split())) == 3
    assert dict(snapshot.facts) == dict(alone.facts)
    assert set(snapshot.cards.digests) == {"A1", "B1", "C1"}
    assert snapshot.cards.digests == alone.cards.digests
    again = Store(GitRepo.open(repo.path))
    again._facts_on = noting  # type: ignore[assignment]  # as above
    before = by.read_text()
    assert dict(again.snapshot().facts) == dict(alone.facts)
    assert (by.read_text() == before) is not doubtful  # what was doubted is not kept


def test_what_was_recorded_as_done_is_not_looked_for_again(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(repo, 2, letters="AB")
    repo.gw_ok("trust", "--yes")
    assert work(repo, "A", 1, []).code == 0
    store = Store(GitRepo.open(repo.path))
    snapshot = store.snapshot()
    monkeypatch.setattr(store, "tracking_at", lambda *said: never())
    known = done_commit(store, snapshot, TaskId("A1"))
    assert known == repo.oid("ws/A")
    shutil.rmtree(repo.path / ".git/gitwaves/history")
    again = Store(GitRepo.open(repo.path))
    assert done_commit(again, again.snapshot(), TaskId("A1")) == known


def test_a_digest_is_that_of_the_card_that_an_id_names_now(repo: Repo) -> None:
    """The id stood twice on trunk, and the first of the two cards goes."""
    plan(repo, 2, letters="AB")
    first, second = ".workstreams/WS-A/A1.yaml", ".workstreams/WS-B/A1.yaml"
    store = Store(GitRepo.open(repo.path))
    store.snapshot().cards.digest("A1")
    store._keep()
    card = repo.read(first)
    repo.commit("Twice", **{second: card.replace("title: ", "spec: another\ntitle: ", 1)})
    store.snapshot().cards.digest("A1")
    store._keep()
    repo.git("rm", "-q", first)
    repo.git("commit", "-qm", "Once")
    oid = Oid(repo.oid("main"))
    assert store.plan_at(oid).digest("A1") == cards_at(store, oid).digest("A1")


def test_two_writers_of_one_plan_do_not_mix_their_rows(repo: Repo) -> None:
    """Each has another order of rows, since another plan was the newest for it."""
    plan(repo, 2, letters="AB")
    oid = Oid(repo.oid("main"))
    one, other = (Store(GitRepo.open(repo.path)) for _ in range(2))
    cards = one.plan_at(oid)
    assert one._unkept is not None
    tree, _, kept = one._unkept
    one._keep()
    assert kept.entries is not None
    otherwise = dict(sorted(kept.entries.items()))  # a card of one lies where one of another does
    assert list(otherwise) != list(kept.entries)
    other.shelf.keep(tree, cards, replace(kept, tell=lambda: otherwise))
    outline, entries = (
        repo.path / f".git/gitwaves/plans/{tree}.{p}" for p in ("outline", "entries")
    )
    mine = outline.read_bytes(), entries.read_bytes()
    one.shelf.keep(tree, cards, kept)
    outline.write_bytes(mine[0])
    again = Store(GitRepo.open(repo.path)).plan_at(oid)
    for task in ("A1", "A2", "B1", "B2"):
        assert again.tasks[TaskId(task)] == cards.tasks[TaskId(task)]
    outline.unlink()
    entries.write_bytes(mine[1])
    again = Store(GitRepo.open(repo.path)).plan_at(oid)
    for task in ("A1", "A2", "B1", "B2"):
        assert again.tasks[TaskId(task)] == cards.tasks[TaskId(task)]


def test_a_plan_that_another_writer_keeps_meanwhile_is_kept_whole(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(repo, 2, letters="AB")
    oid = Oid(repo.oid("main"))
    one, other, third = (Store(GitRepo.open(repo.path)) for _ in range(3))
    wanted = other.plan_at(oid)
    third.plan_at(oid)  # nobody has kept it yet
    real = one._listing_of

    def listing(commit: Oid) -> shelf.Listing:
        other._keep()
        return real(commit)

    monkeypatch.setattr(one, "_listing_of", listing)
    one.plan_at(oid)  # it takes over what the other one kept
    third._keep()
    one._keep()
    again = Store(GitRepo.open(repo.path)).plan_at(oid)
    for task in ("A1", "A2", "B1", "B2"):
        assert again.tasks[TaskId(task)] == wanted.tasks[TaskId(task)]


@pytest.mark.parametrize(
    "death", [None, "taking down", "joining", "keeping", "no fork", "no more processes"]
)
def test_a_large_plan_is_read_by_processes_that_end_with_it(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, death: str | None
) -> None:
    plan(repo, 2, letters="AB")
    oid = Oid(repo.oid("main"))
    wanted = cards_at(Store(GitRepo.open(repo.path)), oid)

    def dies(*args: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(shelf, "_LARGE", 2)
    shelved: list[object] = []
    if death in (None, "no more processes"):  # then nobody here has to read anything
        monkeypatch.setattr(shelf.Shelf, "_joined", lambda *args: shelved.append(args))
        undo = monkeypatch.undo

        def apart(work: Callable[[], object]) -> bool:
            def alone() -> None:
                undo()
                if death is not None:
                    monkeypatch.setattr(shelf, "beside", lambda work: nullcontext(lambda: False))
                work()

            return forks.apart(alone)

        monkeypatch.setattr(shelf, "apart", apart)
    elif death == "no fork":
        monkeypatch.setattr(shelf, "apart", lambda work: False)
    else:
        pid = os.getpid()
        names = {"taking down": "_put_up", "joining": "_opened", "keeping": "_keep_outline"}
        name = names[death]
        keeps = getattr(shelf.Shelf, name)
        monkeypatch.setattr(
            shelf.Shelf,
            name,
            lambda self, *args: keeps(self, *args) if os.getpid() == pid else dies(),
        )
    store = Store(GitRepo.open(repo.path))
    cards = store.plan_at(oid)
    assert shelved == []
    assert {t: cards.tasks[t] for t in cards.tasks} == dict(wanted.tasks)
    assert (cards.workstreams, cards.merge_points) == (wanted.workstreams, wanted.merge_points)
    assert {t: cards.digest(t) for t in cards.tasks} == {t: wanted.digest(t) for t in wanted.tasks}
    store.snapshot()
    store._keep()
    again = Store(GitRepo.open(repo.path)).plan_at(oid)
    assert again.memo["digest"] == {t: wanted.digest(t) for t in wanted.tasks}
    assert {t: again.tasks[t] for t in again.tasks} == dict(wanted.tasks)


def test_a_card_that_moves_in_two_steps_takes_no_digest_along(repo: Repo) -> None:
    """The id stands twice for one commit; the file that stays was never changed in the second."""
    plan(repo, 2, letters="AB")
    first, second = ".workstreams/WS-A/A1.yaml", ".workstreams/WS-B/A1.yaml"

    def digest() -> str:
        store = Store(GitRepo.open(repo.path))
        said = store.snapshot().cards.digest("A1")
        store._keep()
        assert said == cards_at(store, Oid(repo.oid("main"))).digest("A1")
        return said

    before = digest()
    repo.commit("Twice", **{second: repo.read(first).replace("title: ", "spec: other\ntitle: ", 1)})
    digest()
    repo.git("rm", "-q", first)
    repo.git("commit", "-qm", "Once")
    assert digest() != before
    repo.commit("Something else", **{"other.txt": "x\n"})
    assert digest() != before


def test_digests_of_what_has_not_changed_are_taken_over(repo: Repo) -> None:
    plan(repo, 2, letters="AB")
    store = Store(GitRepo.open(repo.path))
    before = store.plan_at(Oid(repo.oid("main")))
    told = {task: before.digest(task) for task in before.tasks}
    store.snapshot()
    store._keep()
    card, stream = ".workstreams/WS-A/A1.yaml", ".workstreams/WS-B/workstream.yaml"
    title = repo.read(card).replace("title: ", "title: Another ", 1)
    paths = repo.read(stream).replace("paths: [", "paths: [more/**, ", 1)
    repo.commit("Change them", **{card: title, stream: paths})
    oid = Oid(repo.oid("main"))
    fresh = Store(GitRepo.open(repo.path))
    after = fresh.plan_at(oid)
    assert dict(after.memo["digest"]) == {"A2": told[TaskId("A2")]}
    assert {t: after.digest(t) for t in after.tasks} == {
        t: cards_at(fresh, oid).digest(t) for t in after.tasks
    }
