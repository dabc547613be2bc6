"""What is told of history without asking Git is what Git tells."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gitwaves.git import Entry
from gitwaves.git import Repo as Opened
from gitwaves.model import Oid
from gitwaves.ranges import own_changes
from tests.repo import Repo

WHO = "T <t@example.com> 1750000000 +0000"
PATHS = ("a", "a/x", "a/y", "a/b/z", "a.b", "a-b", "b", "c/d", "c", "é/ü", "z")
MODES = ("100644", "100755", "120000", "160000")


def tree_of(repo: Opened, files: dict[str, tuple[str, str]]) -> Oid:
    """The tree that holds some files: a mode and a text each; of a submodule the text is a commit."""
    entries: dict[str, Entry] = {}
    below: dict[str, dict[str, tuple[str, str]]] = {}
    for path, (mode, text) in files.items():
        head, _, rest = path.partition("/")
        if rest:
            below.setdefault(head, {})[rest] = (mode, text)
        else:
            oid = Oid(text) if mode == "160000" else repo._write("blob", text.encode())
            entries[head] = Entry(mode, oid)
    entries |= {name: Entry("40000", tree_of(repo, inner)) for name, inner in below.items()}
    return repo.write_tree(entries)


def edited(files: dict[str, tuple[str, str]], rng: random.Random) -> dict[str, tuple[str, str]]:
    """The files after a few changes; none lies below another."""
    after = dict(files)
    for _ in range(rng.randrange(4)):
        path, mode = rng.choice(PATHS), rng.choice(MODES)
        text = f"{rng.randrange(1, 4):040x}" if mode == "160000" else f"{rng.randrange(3)}\n"
        for other in list(after):
            if other.startswith(f"{path}/") or path.startswith(f"{other}/") or other == path:
                del after[other]
        if rng.random() < 0.8:
            after[path] = (mode, text)
    return after


def history(repo: Opened, rng: random.Random, size: int) -> list[Oid]:
    """Commits, in some histories many of them merges, in the order in which they were made."""
    ways = rng.choice(((1, 1, 1, 2, 3), (1,) * 12 + (2,)))
    made: list[Oid] = []
    held: dict[Oid, dict[str, tuple[str, str]]] = {}
    for n in range(size):
        count = rng.choice(ways) if n else 0
        parents = rng.sample(made[-6:], min(count, len(made[-6:])))
        files = edited(held[rng.choice(parents)] if parents else {}, rng)
        oid = repo.commit_tree(tree_of(repo, files), parents, f"{n}\n", author=WHO, committer=WHO)
        made.append(oid)
        held[oid] = files
    repo.git("cat-file", "-e", made[-1])  # what was made is written before
    return made


def asked_git(repo: Opened, commits: list[Oid]) -> dict[Oid, tuple[str, ...]]:
    """`own_changes` by Git, for one commit after the other."""
    args = (
        "diff-tree",
        "--root",
        "-r",
        "-c",
        "-z",
        "--name-only",
        "--no-renames",
        "--no-commit-id",
    )
    return {oid: tuple(sorted(repo.paths(*args, oid))) for oid in commits}


@pytest.mark.parametrize("seed", range(10))
def test_histories_are_told_as_git_tells_them(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    repo = Opened.open(Repo.init(tmp_path / "repo").path)
    commits = history(repo, rng, 40)
    wanted = asked_git(repo, commits)
    for _ in range(12):
        some = rng.sample(commits, rng.randrange(1, 12))
        assert own_changes(repo, some) == {oid: wanted[oid] for oid in some}
    for _ in range(60):
        one, other = rng.sample(commits, 2)
        plain = repo.paths("diff-tree", "-r", "-z", "--name-only", "--no-renames", one, other)
        assert repo.changed(one, other) == plain
        tip, *known = rng.sample(commits, rng.randrange(2, 5))
        limits = (f"^{oid}" for oid in known)
        listed = repo.git("rev-list", "--topo-order", "--reverse", tip, *limits).split()
        beyond = repo.beyond(tip, known)
        assert sorted(beyond) == sorted(listed)
        place = {oid: n for n, oid in enumerate(beyond)}
        for oid in beyond:  # in any order in which nothing stands before its parents
            assert all(place.get(p, -1) < place[oid] for p in repo.require_commit(oid).parents)
        bases = repo.try_git("merge-base", "--all", one, other).stdout.decode().split()
        assert sorted(repo.merge_bases(one, other)) == sorted(bases)
        path = rng.choice(PATHS)
        touched = repo.git("rev-list", "--first-parent", one, f"^{other}", "--", path).split()
        assert list(repo.changing_beyond(path, one, other)) == touched
        heads = rng.sample(commits, rng.randrange(1, 3))
        reached = set(repo.git("rev-list", *heads).split())
        assert repo.missing_from(commits, heads) == set(commits) - reached
    repo.keep_told()
    again = Opened.open(tmp_path / "repo")  # and so where much is known
    for oid in rng.sample(commits, 10):
        reached = set(again.git("rev-list", oid).split())
        assert again.missing_from(commits, [oid]) == set(commits) - reached


def test_a_lost_tree_is_no_empty_one(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "repo")
    first = Oid(repo.commit("First", **{"a/x": "1\n", "b": "1\n"}))
    second = Oid(repo.commit("Second", **{"a/x": "2\n"}))
    lost = repo.git("rev-parse", f"{first}:a")
    (repo.path / ".git/objects" / lost[:2] / lost[2:]).unlink()
    with pytest.raises(Exception, match="unable to read tree"):
        Opened.open(repo.path).changed(first, second)


def test_a_shallow_clone_ends_where_it_ends(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "repo")
    for n in range(4):
        repo.commit(f"{n}", **{f"f{n}": "x\n"})
    shallow = Repo(tmp_path / "shallow")
    Repo(tmp_path).git("clone", "-q", "--depth=2", f"file://{repo.path}", str(shallow.path))
    opened = Opened.open(shallow.path)
    tip = Oid(shallow.oid())
    last = Oid(shallow.oid("HEAD~1"))
    assert own_changes(opened, [last, tip]) == {
        last: ("f0", "f1", "f2"),
        tip: ("f3",),
    }
    assert opened.beyond(tip, [last]) == (tip,)


# --- who commits -------------------------------------------------------------------------------

NAMES = (
    "A. Person",
    "Ünal Öz-Demir",
    "O'Neil, the 2nd",
    "Jr.",
    " spaces ",
    "angle <b>",
    'quo"ted',
    "semi; colon",
    "...",
    "名前",
    "two  spaces",
    "tab\there",
)
MAILS = (
    "a@example.com",
    "<a@example.com>",
    "odd mail@x",
    "a@b.",
    "ü@example.com",
    "a+b@c-d.example",
)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
def test_commits_say_who_made_them_as_git_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    repo = Repo.init(tmp_path / "repo")
    first = Oid(repo.commit("First"))
    for n, name in enumerate(NAMES):
        mail = MAILS[n % len(MAILS)]
        repo.git("config", "user.name", name)
        repo.git("config", "user.email", mail)
        if n % 3 == 1:
            monkeypatch.setenv("GIT_AUTHOR_NAME", NAMES[(n + 5) % len(NAMES)])
        else:
            monkeypatch.delenv("GIT_AUTHOR_NAME", raising=False)
        if n % 4 == 3:
            repo.git("config", "committer.name", "Somebody Else")
        done = (
            [
                Opened.open(repo.path).git("var", f"GIT_{role}_IDENT")
                for role in ("AUTHOR", "COMMITTER")
            ]
            if name != "..."
            else []
        )
        opened = Opened.open(repo.path)
        if not done:
            with pytest.raises(Exception, match=r"does not know|disallowed characters"):
                opened.commit_tree(opened.require_commit(first).tree, [first], "x\n")
            continue
        new = opened.commit_tree(opened.require_commit(first).tree, [first], "Say it\n")
        made = opened.require_commit(new)
        for said, wanted in zip((made.author, made.committer), done, strict=True):
            assert said.rsplit(" ", 2)[0] == wanted.rsplit(" ", 2)[0]
            assert said.rsplit(" ", 1)[1] == wanted.rsplit(" ", 1)[1]
            assert abs(int(said.rsplit(" ", 2)[1]) - int(wanted.rsplit(" ", 2)[1])) < 10
        assert opened.git("fsck", "--strict", "--no-dangling") == ""
    monkeypatch.undo()
    time.tzset()
