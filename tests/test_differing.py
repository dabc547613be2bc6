"""What differs in the working tree is what `git status` says, however it was found out."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench.repository import Made, Size
from gitwaves import differing, keeping, showing
from gitwaves.gitcall import Asked
from tests.repo import Repo

SETTINGS = b"core.bare\nfalse\0"


def said(repo: Repo) -> bytes:
    """What git says, asked for all of it."""
    args = ("--no-optional-locks", "status", *differing.DIFFERING, "--", ".workstreams")
    return os.fsencode(repo.git(*args))


def found(
    repo: Repo, settings: bytes = SETTINGS, named: Sequence[str] = ()
) -> tuple[bytes | None, bool]:
    """What we say, and whether it was known to be clean before."""
    asked = differing.Differing(str(repo.path), str(repo.path / ".git"))
    return asked.found(settings, "/nowhere/ignore", named), bool(asked._settings)


def looked(repo: Repo, *named: str) -> tuple[bytes | None, bool]:
    """What we say of a large plan, and whether Git was asked."""
    asked = differing.Differing(str(repo.path), str(repo.path / ".git"))
    return asked.found(SETTINGS, "/nowhere/ignore", named), asked._asked is not None


def record_of(repo: Repo) -> Path:
    (record,) = (repo.path / ".git/gitwaves/clean").iterdir()
    return record


def look_was(repo: Repo, seconds: float) -> None:
    """Makes the last look at all files one of so long ago."""
    then = time.time() - seconds
    os.utime(record_of(repo), (then, then))


@pytest.fixture
def cards(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repository with some cards, in which what was written just now may be noted."""
    for name in ("_MARGIN", "_COARSE"):
        monkeypatch.setattr(keeping, name, -(10**12))
    names = [f".workstreams/WS-{s}/{s}{n}.yaml" for s in "AB" for n in range(3)]
    repo.commit("Cards", **{name: f"id: {name[-7:-5]}\n" for name in names})
    return repo


def any_card(repo: Repo, chance: random.Random) -> Path:
    cards = sorted(repo.path.glob(".workstreams/WS-*/*.yaml"))
    if not cards:
        repo.write(".workstreams/WS-A/A1.yaml", "id: A1\n")
        return repo.path / ".workstreams/WS-A/A1.yaml"
    return chance.choice(cards)


def edit(repo: Repo, chance: random.Random) -> None:
    card = any_card(repo, chance)
    text = card.read_text()
    card.write_text(text[:-2] + chance.choice("xyz") + "\n" if len(text) > 2 else "id: A1\n")


def add(repo: Repo, chance: random.Random) -> None:
    folder = any_card(repo, chance).parent
    (folder / f"new{chance.randrange(3)}.yaml").write_text("id: new\n")


def deeper(repo: Repo, chance: random.Random) -> None:
    folder = any_card(repo, chance).parent / "deeper" / "still"
    folder.mkdir(parents=True, exist_ok=True)
    if chance.random() < 0.5:
        (folder / "card.yaml").write_text("id: deep\n")


def remove(repo: Repo, chance: random.Random) -> None:
    cards = sorted(repo.path.glob(".workstreams/**/*.yaml"))
    if len(cards) > 3:
        chance.choice(cards).unlink()


def rename(repo: Repo, chance: random.Random) -> None:
    card = any_card(repo, chance)
    card.rename(card.with_name(f"moved{chance.randrange(3)}.yaml"))


def mode(repo: Repo, chance: random.Random) -> None:
    card = any_card(repo, chance)
    card.chmod(0o755 if chance.random() < 0.5 else 0o644)


def touch(repo: Repo, chance: random.Random) -> None:
    os.utime(any_card(repo, chance))


def stage(repo: Repo, chance: random.Random) -> None:
    repo.git("add", "-A", ".workstreams")


def commit(repo: Repo, chance: random.Random) -> None:
    repo.git("add", "-A")
    repo.git("commit", "-qm", "All", "--allow-empty")


def back(repo: Repo, chance: random.Random) -> None:
    how = chance.choice(("--soft", "--mixed", "--hard"))
    repo.git("reset", "-q", how, "HEAD~1" if chance.random() < 0.3 else "HEAD", check=False)


def restore(repo: Repo, chance: random.Random) -> None:
    repo.git("clean", "-qfdx", ".workstreams")  # links first: what lies behind them is not ours
    repo.git("reset", "-q", "--hard")


def hide(repo: Repo, chance: random.Random) -> None:
    place = chance.choice((".gitignore", ".workstreams/.gitignore", ".git/info/exclude"))
    text = "new*\n" if chance.random() < 0.5 else "# nothing\n"
    (repo.path / place).write_text(text)


def link(repo: Repo, chance: random.Random) -> None:
    folder = any_card(repo, chance).parent
    if folder.name.startswith("WS-") and not folder.is_symlink():
        other = repo.path / f"elsewhere-{chance.random()}"
        shutil.move(folder, other)
        folder.symlink_to(other)


def switch(repo: Repo, chance: random.Random) -> None:
    repo.git("switch", "-q", *chance.choice((("--detach",), ("main",))), check=False)


DEEDS: tuple[Callable[[Repo, random.Random], None], ...] = (
    edit, add, deeper, remove, rename, mode, touch, stage, commit, back, restore, hide, link, switch,
)  # fmt: skip


@pytest.mark.parametrize(
    ("seed", "names_all"), [*((n, False) for n in range(6)), *((n, True) for n in range(3))]
)
def test_whatever_is_done(cards: Repo, seed: int, *, names_all: bool) -> None:
    """Where each card is named, none that is not looked at by Git can differ unseen."""
    chance = random.Random(seed)
    known = 0
    for _ in range(40):
        chance.choice(DEEDS)(cards, chance)
        if chance.random() < 0.4:
            restore(cards, chance)
        named = cards.git("ls-files", ".workstreams").split() if names_all else ()
        for _ in range(2 + names_all):
            ours, was_known = found(cards, named=named)
            assert ours == said(cards)
            known += was_known
    assert known > 5


POINT = ".workstreams/merge-points/MP1.yaml"
A0, A1, B1 = (f".workstreams/WS-{name[0]}/{name}.yaml" for name in ("A0", "A1", "B1"))


def test_of_thousands_only_those_that_are_named_are_looked_at_for_a_while(cards: Repo) -> None:
    assert [looked(cards, A0, A1) for _ in range(3)] == [(b"", True), (b"", False), (b"", False)]
    cards.write(B1, "id: another\n")
    assert looked(cards, A0, A1) == (b"", False)  # seen once the look is ten seconds old
    look_was(cards, seconds=9)
    assert looked(cards, A0, A1) == (b"", False)
    look_was(cards, seconds=11)
    assert looked(cards, A0, A1) == (said(cards), True)
    assert looked(cards, A0, A1) == (said(cards), True)
    restore(cards, random.Random(1))
    assert [looked(cards, A0, A1) for _ in range(2)] == [(b"", True), (b"", False)]


def test_a_look_at_all_lasts_anew_from_the_last_one(cards: Repo) -> None:
    assert [looked(cards, A0)[1] for _ in range(2)] == [True, False]
    for _ in range(2):
        look_was(cards, seconds=11)
        assert [looked(cards, A0)[1] for _ in range(2)] == [True, False]


@pytest.mark.parametrize("what", ["named", "new", "gone", "renamed over", "staged", "ignored"])
def test_what_is_named_or_comes_or_goes_is_seen_at_once(cards: Repo, what: str) -> None:
    folder = cards.path / ".workstreams/WS-B"
    (cards.path / ".git/info/exclude").write_text("new.yaml\n" if what == "ignored" else "")
    if what == "ignored":
        (folder / "new.yaml").write_text("id: new\n")
    assert [looked(cards, A0)[1] for _ in range(2)] == [True, False]
    if what in ("named", "staged"):
        cards.write(A0 if what == "named" else B1, "id: another\n")
    if what == "staged":
        cards.git("add", "-A")
    if what == "new":
        (folder / "new.yaml").write_text("id: new\n")
    if what == "gone":
        (cards.path / B1).unlink()
    if what == "renamed over":
        (cards.path / "draft").write_text("id: another\n")
        (cards.path / "draft").rename(cards.path / B1)
    if what == "ignored":
        (cards.path / ".git/info/exclude").write_text("")
    assert looked(cards, A0) == (said(cards), True)
    assert said(cards)


def test_who_names_others_looks_at_all(cards: Repo) -> None:
    assert [looked(cards, A0)[1] for _ in range(2)] == [True, False]
    cards.write(A1, "id: another\n")
    assert looked(cards, A0, A1) == (said(cards), True)
    restore(cards, random.Random(1))
    assert [looked(cards)[1] for _ in range(2)] == [True, True]
    assert [looked(cards, A0)[1] for _ in range(2)] == [True, False]
    cards.write(A1, "id: another\n")
    assert looked(cards) == (said(cards), True)


def test_what_is_staged_meanwhile_is_looked_at(cards: Repo) -> None:
    assert [looked(cards, A0)[1] for _ in range(2)] == [True, False]
    asked = differing.Differing(str(cards.path), str(cards.path / ".git"))
    cards.write(B1, "id: another\n")
    cards.git("add", B1)
    assert asked.found(SETTINGS, "/nowhere/ignore", [A0]) == said(cards) != b""


@pytest.mark.parametrize(("touched", "noted"), [(A0, False), (B1, True)])
def test_what_is_named_and_was_written_just_now_is_not_noted(
    cards: Repo, monkeypatch: pytest.MonkeyPatch, touched: str, *, noted: bool
) -> None:
    time.sleep(1.1)
    monkeypatch.setattr(keeping, "_MARGIN", 10**9)
    os.utime(cards.path / touched)
    assert looked(cards, A0) == (b"", True)
    assert looked(cards, A0) == (b"", not noted)


def test_a_look_in_the_future_is_none(cards: Repo) -> None:
    """The clock was put back: nobody knows how long ago that was."""
    assert [looked(cards, A0)[1] for _ in range(2)] == [True, False]
    cards.write(B1, "id: another\n")
    look_was(cards, seconds=-60)
    assert looked(cards, A0) == (said(cards), True)


def test_a_card_that_was_only_touched_is_looked_at_once(cards: Repo) -> None:
    assert [looked(cards, A0)[1] for _ in range(2)] == [True, False]
    os.utime(cards.path / A0, (0, 0))
    assert [looked(cards, A0) for _ in range(2)] == [(b"", True), (b"", False)]


def test_status_of_thousands_says_what_differs(tmp_path: Path) -> None:
    made = Made.make(tmp_path / "repo", Size(cards=showing._THOUSANDS, branches=4, files=10))
    repo = Repo(made.path)
    repo.commit("A point", **{POINT: f"id: MP1\ntitle: One\nrequires: [{made.task(1, 9)}]\n"})
    shown, hidden = made.card(0, made.next), made.card(0, 0)
    others = [POINT, ".workstreams/WS-S1/workstream.yaml"]
    repo.gw_ok("conflicts")
    time.sleep(0.2)  # what was written just before is not noted
    assert not [repo.gw_ok("status").err for _ in range(2)][-1]
    (answer,) = (repo.path / ".git/gitwaves/shown").glob("text-*")
    assert hidden.encode() not in answer.read_bytes()
    for path, age in (*((path, 0) for path in (shown, *others)), (hidden, 11)):
        assert path == hidden or path.encode() in answer.read_bytes()
        assert not repo.gw_ok("status").err
        text = repo.read(path)
        (repo.path / path).write_text(f"{text}# more\n")
        look_was(repo, age)
        assert path in repo.gw_ok("status").err
        (repo.path / path).write_text(text)
        repo.git("status")  # has the index know it again
        time.sleep(0.2)


def test_other_settings_are_another_question(cards: Repo) -> None:
    found(cards)
    card = any_card(cards, random.Random(1))
    card.chmod(0o755)
    cards.git("config", "core.fileMode", "false")
    assert found(cards, b"without") == (b"", True)
    cards.git("config", "core.fileMode", "true")
    assert found(cards, b"with")[0] == said(cards) != b""


def test_what_was_written_just_now_is_not_noted(
    cards: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_MARGIN", 10**12)
    assert [found(cards)[1] for _ in range(3)] == [False] * 3


def test_a_spoiled_record_says_nothing_false(cards: Repo) -> None:
    chance = random.Random(3)
    for _ in range(40):
        restore(cards, chance)
        found(cards)
        record = record_of(cards)
        data = bytearray(record.read_bytes())
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        record.write_bytes(data[: chance.randrange(len(data)) if chance.random() < 0.3 else None])
        chance.choice((edit, add, deeper))(cards, chance)
        assert found(cards)[0] == said(cards)


def ignoring(repo: Repo, place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


@pytest.mark.parametrize("where", ["exclude", "the user's", "nested", "hidden itself", "a link"])
def test_what_is_ignored_no_more_is_seen(cards: Repo, tmp_path: Path, where: str) -> None:
    own = tmp_path / "ignore"
    place = {
        "exclude": cards.path / ".git/info/exclude",
        "the user's": own,
        "nested": cards.path / ".workstreams/tmp/.gitignore",
        "hidden itself": cards.path / ".workstreams/.gitignore",
        "a link": cards.path / ".git/info/exclude",
    }[where]
    hidden = place.with_name(place.name + ".elsewhere") if where == "a link" else place
    ignoring(cards, hidden, "*\n" if where == "nested" else ".gitignore\nnew*\n")
    if where == "a link":
        place.unlink(missing_ok=True)
        place.symlink_to(hidden)
    cards.git("config", "core.excludesFile", str(own))
    cards.write(f".workstreams/{'tmp/' * (where == 'nested')}new.yaml", "id: new\n")

    def asked() -> tuple[bytes | None, bool]:
        asked = differing.Differing(str(cards.path), str(cards.path / ".git"))
        return asked.found(SETTINGS, str(own)), bool(asked._settings)

    assert [asked(), asked()] == [(b"", False), (b"", True)]
    hidden.write_text("# nothing\n")
    assert asked() == (said(cards), False)
    assert said(cards)


def test_a_user_who_names_the_ignored_in_no_plain_way(cards: Repo) -> None:
    """It is relative to where Git is run, or begins with what Git alone knows: never known."""
    for excludes in (None, "", "/nowhere"):
        asked = differing.Differing(str(cards.path), str(cards.path / ".git"))
        assert asked.found(SETTINGS, excludes) == b""
        known = bool(differing.Differing(str(cards.path), str(cards.path / ".git"))._settings)
        assert known is (excludes is not None)


@pytest.mark.parametrize(
    ("part", "age", "settled"),
    [(5, 10**8 + 1, True), (5, 10**8 - 6, False), (0, 10**9, False), (0, 2 * 10**9 + 1, True)],
)
def test_what_was_written_just_before_is_told_by_how_exact_times_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int, age: int, settled: bool
) -> None:
    """`part` of a second, in nanoseconds, that a file system gives; `age` of what was written."""

    class Stat:
        st_mtime_ns = 0
        st_ctime_ns = 7 * 10**9 + part

    monkeypatch.setattr(os, "lstat", lambda _: Stat)
    assert keeping._settled([str(tmp_path)], Stat.st_ctime_ns + age) is settled


def test_nothing_is_deleted_behind_a_link(cards: Repo) -> None:
    found(cards)
    state = cards.path / ".git/gitwaves"
    state.rename(cards.path / "elsewhere")
    state.symlink_to("../elsewhere")
    edit(cards, random.Random(1))
    assert cards.gw("status").code == 1
    assert list((cards.path / "elsewhere/clean").iterdir())


def test_the_order_of_patterns_counts(cards: Repo) -> None:
    cards.write(".workstreams/new1.txt", "x\n")
    place = cards.path / ".git/info/exclude"
    lines = ["!.workstreams/new1.txt", "#" * 38, "/.workstreams/*ew1.txt"]
    ignoring(cards, place, "".join(f"{line}\n" for line in lines))
    assert [found(cards), found(cards)] == [(b"", False), (b"", True)]
    ignoring(cards, place, "".join(f"{line}\n" for line in reversed(lines)))
    assert found(cards) == (said(cards), False)
    assert said(cards)


def test_a_link_to_patterns_is_followed_where_git_follows_it(cards: Repo) -> None:
    cards.write(".workstreams/new1.txt", "x\n")
    ignoring(cards, cards.path / ".gitignore", "new1.txt\n")
    assert [found(cards), found(cards)] == [(b"", False), (b"", True)]
    (cards.path / ".gitignore").rename(cards.path / "elsewhere")
    (cards.path / ".gitignore").symlink_to("elsewhere")
    assert found(cards)[0] == said(cards) != b""


def test_a_head_that_is_of_one_worktree_is_not_noted(cards: Repo) -> None:
    cards.commit("More", **{".workstreams/WS-A/A0.yaml": "id: A0\ntitle: More\n"})
    cards.git("worktree", "add", "-q", "--detach", "../linked")
    linked = cards.at("../linked")
    linked.git("update-ref", "refs/worktree/x", "HEAD")
    linked.git("symbolic-ref", "HEAD", "refs/worktree/x")

    def asked() -> tuple[bytes | None, bool]:
        asked = differing.Differing(str(linked.path), str(cards.path / ".git"))
        return asked.found(SETTINGS, ""), bool(asked._settings)

    assert [asked(), asked()] == [(b"", False)] * 2


def test_a_folder_that_is_a_repository_is_not_noted(cards: Repo) -> None:
    cards.write(".workstreams/x/.git", f"gitdir: {cards.path}/later/.git\n")
    assert [known for _, known in (found(cards), found(cards))] == [False, False]


def test_what_is_staged_while_git_is_begun_to_be_asked_is_said(
    cards: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is what the index holds, with which alone the short way compares."""
    assert found(cards) == (b"", False)
    assert found(cards) == (b"", True)
    edit(cards, random.Random(1))
    begin = differing.Differing._begun

    def staged(self: differing.Differing, *args: str) -> Asked:
        cards.git("add", "-A")
        return begin(self, *args)

    monkeypatch.setattr(differing.Differing, "_begun", staged)
    assert found(cards)[0] == said(cards) != b""


def test_folders_that_came_since_are_looked_at(cards: Repo) -> None:
    assert found(cards) == (b"", False)
    cards.commit("Another folder", **{".workstreams/WS-C/C1.yaml": "id: C1\n"})
    assert found(cards) == (b"", False)
    assert found(cards) == (b"", True)
    cards.write(".workstreams/WS-C/new.yaml", "id: new\n")
    assert found(cards)[0] == said(cards) != b""


def test_what_is_recorded_again_does_not_grow(cards: Repo) -> None:
    cards.write(".workstreams/WS-A/.gitignore", "*.tmp\n")
    sizes = []
    for number in range(3):
        cards.commit("Goes on", **{"other.txt": f"{number}\n"})
        assert found(cards)[0] == b""
        sizes.append(record_of(cards).read_bytes().split(b"\0\0")[2])
    assert sizes[0] == sizes[1] == sizes[2]
    assert b"WS-A/.gitignore" in sizes[0]
