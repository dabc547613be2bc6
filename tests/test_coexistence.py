"""Beside programs that install hooks of their own: everybody's run, or it is said what to add.

The default run plays pre-commit, lefthook, git-lfs and husky with the very hook files that they
write (`tests/data/hooks`), run by real Git; the long run installs the programs themselves.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gitwaves import advancing, git, hooks, verifying
from gitwaves.doctoring import doctor
from gitwaves.errors import Refused
from tests.landing import Plan, planned
from tests.managers import WATCHED, Manager, obtain, played, real, script
from tests.repo import Repo

CHAINED = ("pre-commit", "lefthook", "git-lfs")  # whose hooks lie in Git's own folder

# Plays gitwaves, as the shim calls it: says which hook it was called for.
FAKE = """\
#!/bin/sh
[ "$2" != -c ] || exit 0
case "$1 $2 $3" in "-P "*"/gitwaves/__main__.py hook") ;; *) exit 99 ;; esac
echo "gitwaves $4" >> "$CALLS"
"""
# The same, as other programs' hooks call it.
FAKE_COMMAND = '#!/bin/sh\necho "gitwaves $2" >> "$CALLS"\n'


@pytest.fixture(scope="session", autouse=True)
def outside() -> dict[str, str]:
    """The environment around the tests, in which packages can be had."""
    return dict(os.environ)


@pytest.fixture(scope="session")
def programs(
    tmp_path_factory: pytest.TempPathFactory, outside: dict[str, str]
) -> dict[str, Path | str]:
    """The real programs, or why one cannot be had."""
    return obtain(tmp_path_factory.mktemp("programs"), outside)


@dataclass
class World:
    """A repository with a program in it, and a linked worktree; a task is at work in both."""

    manager: Manager
    main: Repo
    linked: Repo
    calls: Path

    @property
    def opened(self) -> git.Repo:
        return git.Repo.open(self.main.path)

    def heard(self, place: Repo) -> list[str]:
        """Who was called for what when a commit is made."""
        self.calls.unlink(missing_ok=True)
        file = f"{place.path.name}/file"  # lefthook runs nothing for a commit without one
        place.write(file, place.oid())
        place.git("add", file)
        place.git("commit", "-q", "-m", "x\n\nLearned: x")
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def both(self) -> list[str]:
        """The same in the main and in the linked worktree, which must agree."""
        found = self.heard(self.main)
        assert self.heard(self.linked) == found
        return found

    def listing(self) -> dict[str, tuple[int, bytes]]:
        folder = self.main.path / ".git/hooks"
        return {p.name: (p.lstat().st_mode, p.read_bytes()) for p in folder.iterdir()}

    def theirs(self) -> list[str]:
        return [f"{self.manager.name} {hook}" for hook in WATCHED if hook in self.manager.hooks]

    def each(self) -> list[str]:
        """Everybody, hook by hook, theirs before ours."""
        names = [(self.manager.name, self.manager.hooks), ("gitwaves", hooks.HOOKS)]
        return [f"{name} {hook}" for hook in WATCHED for name, has in names if hook in has]


SHARED = tuple(hook for hook in hooks.HOOKS if hook in WATCHED)  # pre-commit is theirs alone
OURS = [f"gitwaves {hook}" for hook in SHARED]


@pytest.fixture(params=["played", pytest.param("real", marks=pytest.mark.long)])
def world(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> World:
    """A world with the program that the test names by `@pytest.mark.parametrize("name", …)`."""
    bin = tmp_path / "bin"
    if request.param == "real":
        where = request.getfixturevalue("programs")[name]
        if isinstance(where, str):
            pytest.skip(where)
        manager = real(name, bin, where)
    else:
        manager = played(name, bin)
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", str(script(tmp_path / "python", FAKE)))
    script(bin / "gitwaves", FAKE_COMMAND)
    main = Repo.init(tmp_path / "repo")
    manager.configure(main)
    main.commit("first")
    main.git("worktree", "add", "-q", "-b", "ws/A", "../A")
    for branch in ("main", "ws%2FA"):
        main.write(f".git/gitwaves/at-work/{branch}", "A1\n")
    (main.path / ".git/gitwaves/receipts/A1").mkdir(parents=True)
    return World(manager, main, Repo(tmp_path / "A"), calls)


@pytest.mark.parametrize("name", CHAINED)
def test_there_before_us(world: World) -> None:
    world.manager.install(world.main)
    before = world.listing()
    hooks.install(world.opened)
    assert world.both() == world.each()
    assert hooks.installed(world.opened)
    hooks.uninstall(world.opened)
    assert world.listing() == before
    assert world.both() == world.theirs()


@pytest.mark.parametrize("name", CHAINED)
def test_installed_from_the_linked_worktree(world: World) -> None:
    assert world.manager.install(world.linked)
    before = world.listing()
    hooks.install(git.Repo.open(world.linked.path))
    assert world.both() == world.each()
    hooks.uninstall(git.Repo.open(world.linked.path))
    assert world.listing() == before


@pytest.mark.parametrize("name", CHAINED)
def test_there_before_us_and_gone_before_us(world: World) -> None:
    bare = world.listing()
    world.manager.install(world.main)
    hooks.install(world.opened)
    world.manager.uninstall(world.main)  # finds that the hooks are ours, which go on running its
    assert [line for line in world.both() if line.startswith("gitwaves")] == OURS
    hooks.uninstall(world.opened)
    world.manager.install(world.main)  # git-lfs removes nothing where one of its hooks is missing
    world.manager.uninstall(world.main)
    assert world.listing() == bare


@pytest.mark.parametrize("name", ["pre-commit"])
def test_pre_commit_after_us(world: World) -> None:
    world.manager.install(world.main)
    alone = world.listing()
    world.manager.uninstall(world.main)
    bare = world.listing()
    hooks.install(world.opened)
    ours = world.listing()
    assert world.manager.install(world.main)
    assert sorted(world.both()) == sorted(world.each())
    assert hooks.installed(world.opened)
    hooks.install(world.opened)  # finds that it is run already
    assert sorted(world.both()) == sorted(world.each())
    world.manager.uninstall(world.main)
    assert world.listing() == ours
    assert world.both() == OURS
    world.manager.install(world.main)
    hooks.uninstall(world.opened)
    assert world.listing() == alone
    assert world.both() == world.theirs()
    world.manager.uninstall(world.main)
    assert world.listing() == bare


@pytest.mark.parametrize("name", ["pre-commit"])
def test_pre_commit_before_and_after_us(world: World) -> None:
    world.manager.install(world.main)
    alone = world.listing()
    hooks.install(world.opened)
    assert world.manager.install(world.main)
    assert sorted(world.both()) == sorted(world.each())
    assert hooks.installed(world.opened)
    hooks.uninstall(world.opened)
    assert world.listing() == alone


@pytest.mark.parametrize("name", ["lefthook"])
def test_lefthook_after_us(world: World) -> None:
    world.manager.install(world.main)
    alone = world.listing()
    world.manager.uninstall(world.main)
    hooks.install(world.opened)
    assert world.manager.install(world.main)
    assert world.both() == world.theirs()  # it moves ours aside and does not run them: it is named
    moved = f"{' '.join(SHARED)} is lefthook's, which moved gitwaves' to *.old"
    (outcome,) = (o for o in doctor(world.main.path).outcomes if o.trouble.check == "hooks")
    assert outcome.trouble.message == moved
    said = hooks.install(world.opened)
    assert world.both() == world.each()
    assert world.manager.install(world.main)  # again, as when its configuration changes
    assert world.both() == world.theirs()
    hooks.install(world.opened)
    assert world.both() == world.each()
    assert world.manager.install(world.main)  # and once more: nothing is left in its way
    # What is said to add keeps both for good.
    added = [line for text in said for line in text.splitlines() if line.startswith("  ")]
    config = world.main.read("lefthook.yml")
    for hook in SHARED:
        at = added.index(f"  {hook}:")
        block = "\n".join(line.removeprefix("  ") for line in added[at + 2 : at + 4])
        config = config.replace(f"{hook}:\n  commands:\n", f"{hook}:\n  commands:\n{block}\n")
    assert config.count("gitwaves hook") == 2
    world.main.commit("Call gitwaves", **{"lefthook.yml": config})
    world.linked.git("merge", "-q", "main")
    world.manager.install(world.main)
    assert sorted(world.both()) == sorted(world.each())
    said = hooks.install(world.opened)
    assert said == [f"{hook}: lefthook runs ours" for hook in SHARED]
    assert hooks.installed(world.opened)
    assert sorted(world.both()) == sorted(world.each())
    hooks.uninstall(world.opened)
    world.main.write("lefthook.yml", re.sub(r" +gitwaves:\n.*\n", "", config))
    assert world.listing() == alone


@pytest.mark.parametrize("name", ["lefthook"])
def test_lefthook_before_and_after_us(world: World) -> None:
    world.manager.install(world.main)
    alone = world.listing()
    for _ in range(3):
        hooks.install(world.opened)
        assert world.both() == world.each()
        assert world.manager.install(world.main)
        assert world.both() == world.theirs()
    hooks.uninstall(world.opened)
    assert world.listing() == alone


@pytest.mark.parametrize("name", ["git-lfs"])
def test_git_lfs_after_us(world: World) -> None:
    world.manager.install(world.main)
    alone = world.listing()
    world.manager.uninstall(world.main)
    bare = world.listing()
    hooks.install(world.opened)
    # It refuses, and says what to add to the hooks that are there (`git lfs update --manual`).
    assert not world.manager.install(world.main)
    assert world.both() == OURS
    for hook in ("post-commit", "post-merge"):
        shim = world.main.path / ".git/hooks" / hook
        shim.write_text(shim.read_text() + alone[hook][1].decode())
    assert world.both() == [*OURS, "git-lfs post-commit"]
    assert hooks.installed(world.opened)
    world.main.git("merge", "-q", "--no-ff", "-m", "merge", "ws/A")
    assert "git-lfs post-merge" in world.calls.read_text().splitlines()
    hooks.uninstall(world.opened)
    assert {n: c for n, c in world.listing().items() if n in ("post-commit", "post-merge")} == {
        n: c for n, c in alone.items() if n in ("post-commit", "post-merge")
    }
    world.manager.uninstall(world.main)
    assert world.listing() == bare


@pytest.mark.parametrize("name", ["git-lfs"])
def test_git_lfs_over_us(world: World) -> None:
    world.manager.install(world.main)
    alone = world.listing()
    world.manager.uninstall(world.main)
    hooks.install(world.opened)
    assert world.manager.install(world.main, force=True)  # as `git lfs update --force`
    assert world.both() == ["gitwaves commit-msg", "git-lfs post-commit"]
    (outcome,) = (
        o for o in doctor(world.main.path, fix=True).outcomes if o.trouble.check == "hooks"
    )
    assert outcome.trouble.message == "post-commit post-merge is another program's"
    assert outcome.done
    assert world.both() == world.each()
    assert world.manager.install(world.main, force=True)  # over ours, which keep theirs
    hooks.install(world.opened)
    assert world.both() == world.each()
    hooks.uninstall(world.opened)
    assert world.listing() == alone


@pytest.mark.parametrize("name", ["husky"])
def test_husky_before_us(world: World) -> None:
    world.manager.install(world.main)
    before = world.listing()
    with pytest.raises(Refused, match=r"Git looks for hooks in \.husky/_") as caught:
        hooks.install(world.opened)
    assert world.listing() == before
    hint = str(caught.value.hint)
    assert hint.startswith("add to these files in .husky, and commit them where they are tracked:")
    for line in hint.splitlines()[1:]:
        hook, text = line.strip().split(": ", 1)
        path = world.main.path / ".husky" / hook
        path.write_text((path.read_text() if path.exists() else "") + text + "\n")
    assert world.heard(world.main) == world.each()
    world.main.git("add", ".husky")
    world.main.git("commit", "-q", "-m", "Call gitwaves")
    world.linked.git("merge", "-q", "main")
    # husky's own files are in no commit: no hook of anybody's runs in a new worktree, and it is said.
    assert world.heard(world.linked) == []
    (outcome,) = (o for o in doctor(world.main.path).outcomes if o.trouble.check == "hooks")
    assert outcome.trouble.message == (
        f"Git looks for hooks in .husky/_, which is not in {world.linked.path}: none runs there"
    )
    world.manager.install(world.linked)  # as `npm install` there
    assert world.both() == world.each()
    assert not [o for o in doctor(world.main.path).outcomes if o.trouble.check == "hooks"]


@pytest.mark.parametrize("name", ["husky"])
def test_husky_after_us(world: World) -> None:
    bare = world.listing()
    hooks.install(world.opened)
    world.manager.install(world.main)
    assert world.heard(world.main) == world.theirs()  # Git looks in another folder: it is named
    messages = [o.trouble.message for o in doctor(world.main.path, fix=True).outcomes]
    assert any("do not call gitwaves" in message for message in messages)
    assert world.main.git("config", "core.hooksPath") == ".husky/_"
    hooks.uninstall(world.opened)
    assert world.listing() == bare
    assert world.heard(world.main) == world.theirs()


@pytest.mark.parametrize("name", ["lefthook"])
def test_all_at_once(world: World, tmp_path: Path) -> None:
    """pre-commit, lefthook and git-lfs in one repository, ours in the middle, in both worktrees."""
    other = played("git-lfs", tmp_path / "bin")
    other.install(world.main)
    hooks.install(world.opened)
    third = played("pre-commit", tmp_path / "bin")
    third.hooks = ("commit-msg",)
    assert third.install(world.main)
    assert sorted(world.both()) == sorted([*OURS, "git-lfs post-commit", "pre-commit commit-msg"])
    assert world.manager.install(world.main)
    hooks.install(world.opened)
    found = world.both()
    assert [line for line in found if line.startswith("gitwaves")] == OURS
    assert {f"lefthook {hook}" for hook in WATCHED} <= set(found)


# --- the whole of gitwaves behind them ---------------------------------------------------------


@pytest.mark.parametrize("name", CHAINED)
def test_a_commit_is_refused_and_a_task_done_through_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = played(name, tmp_path / "bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    plan = planned(tmp_path / "repo")
    manager.configure(plan.repo)
    plan.repo.commit("Configure")
    manager.install(plan.repo)
    hooks.install(plan.store.repo)
    worktree = plan.start("A1")
    worktree.write("b/foreign.txt", "x")
    worktree.git("add", "-A")
    before = worktree.oid()
    worktree.git("commit", "-q", "-m", "outside", check=False)
    assert worktree.oid() == before
    worktree.git("rm", "-q", "-f", "b/foreign.txt")
    worktree.write("a/a1.txt", "A1\n")
    verifying.verify(plan.store, "A1", trust_trunk=True)
    worktree.commit("Do A1")
    assert plan.tracking("A1", "ws/A").status == "done"  # by the hook: nothing else has run
    assert f"{name} post-commit" in (tmp_path / "calls").read_text()


def test_a_plan_that_cannot_be_read_stops_no_commit(tmp_path: Path) -> None:
    plan = planned(tmp_path / "repo")
    hooks.install(plan.store.repo)
    worktree = plan.start("A1")
    plan.repo.git("branch", "-m", "main", "old")
    worktree.write("top.txt", "outside")
    worktree.git("add", "-A")
    before = worktree.oid()
    done = subprocess.run(
        ["git", "commit", "-q", "-m", "x"], cwd=worktree.path, capture_output=True, text=True
    )
    assert done.stderr.startswith("gitwaves: the trunk branch 'main' does not exist")
    assert done.stderr.endswith("; `gitwaves verify` looks again\n")
    assert worktree.oid() != before
    plan.repo.git("branch", "-m", "old", "main")
    assert "outside the boundary" in worktree.gw("--trust-trunk", "verify").err


def test_a_plain_merge_of_trunk_is_not_a_trespass(tmp_path: Path) -> None:
    """What others landed comes in by `git merge`, with and without a conflict; no more than that."""
    plan = planned(tmp_path / "repo")
    hooks.install(plan.store.repo)
    worktree = plan.start("A1")
    worktree.commit("one", **{"a/one": "1"})
    plan.repo.commit("Others", **{"b/x": "1", ".workstreams/notes.txt": "x"})
    worktree.git("merge", "-q", "-m", "Take in trunk", "main")
    assert worktree.read("b/x") == "1"
    plan.repo.commit("And in a", **{"a/one": "trunk's", "b/y": "1"})
    worktree.git("merge", "-q", "main", check=False)
    worktree.commit("Take in trunk", **{"a/one": "both"})
    plan.repo.commit("More", **{"b/z": "1"})
    worktree.git("merge", "-q", "--no-commit", "main")
    before = worktree.oid()
    worktree.write("b/z", "changed on the way")
    worktree.git("add", "-A")
    worktree.git("commit", "-q", "-m", "Take in trunk, and more", check=False)
    assert worktree.oid() == before
    worktree.write("b/z", "1")
    worktree.commit("Take in trunk")
    plan.finish(worktree, "A1")


def test_what_others_hooks_call_is_silent_where_nothing_is_at_work(repo: Repo) -> None:
    repo.commit("A repository without a plan")
    for hook in hooks.HOOKS:
        done = repo.gw("hook", hook, "x")
        assert (done.code, done.out, done.err) == (0, "", "")


# --- clients that run no hooks -----------------------------------------------------------------


def parameters(**config: str) -> str:
    return " ".join(f"'{key}'='{value}'" for key, value in config.items())


PLAIN = ("commit", "-q", "-m", "Do A1")
SKIPPING = {
    "with hooks": (PLAIN, {}),
    "-n": ((*PLAIN, "-n"), {}),
    "-c core.hooksPath": (("-c", "core.hooksPath=/dev/null", *PLAIN), {}),
    "GIT_CONFIG_COUNT": (
        PLAIN,
        {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "core.hooksPath",
            "GIT_CONFIG_VALUE_0": "/dev/null",
        },
    ),
    "GIT_CONFIG_PARAMETERS": (
        PLAIN,
        {"GIT_CONFIG_PARAMETERS": parameters(**{"core.hooksPath": "/dev/null"})},
    ),
    "a library": ((), {}),
}


@pytest.mark.parametrize("how", SKIPPING)
def test_clients_that_skip_hooks_end_in_the_same_state(how: str, tmp_path: Path) -> None:
    command, env = SKIPPING[how]
    plan = planned(tmp_path / "repo")
    hooks.install(plan.store.repo)
    worktree = plan.start("A1")
    worktree.write("a/a1.txt", "A1\n")
    verifying.verify(plan.store, "A1", trust_trunk=True)
    worktree.git("add", "-A")
    if command:
        worktree.git(*command, env=env)
    else:  # as libgit2 does: objects, then the reference; no hook of any kind
        tree = worktree.git("write-tree")
        commit = worktree.git("commit-tree", tree, "-p", "HEAD", "-m", "Do A1")
        worktree.git("update-ref", "refs/heads/ws/A", commit)
    skipped = plan.tracking("A1", "ws/A").status != "done"
    assert skipped == (how not in {"with hooks", "-n"})  # -n runs post-commit all the same
    advancing.sync(plan.store)
    assert state_of(plan) == EXPECTED
    assert worktree.git("status", "--porcelain") == ""
    plan.sound()


EXPECTED = {
    "tasks": {"A1": "done", "A2": "runnable", "B1": "runnable", "B2": "blocked", "C1": "blocked"},
    "counts": (5, 1),
    "verified": "Do A1",
    "board": "1/5 done",
}


def state_of(plan: Plan) -> dict[str, object]:
    """What is shown and recorded, less object ids and times."""
    shown = plan.store.progress()
    evidence = plan.tracking("A1", "ws/A").evidence
    assert evidence is not None
    board = plan.repo.git("show", "gitwaves/dashboard:DASHBOARD.txt").splitlines()[0]
    match = re.search(r"\d+/\d+ done", board)
    assert match is not None
    return {
        "tasks": {str(task.id): str(task.state) for task in shown.tasks.values()},
        "counts": (shown.counts["total"], shown.counts["done"]),
        "verified": plan.repo.git("log", "-1", "--format=%s", evidence.commit),
        "board": match[0],
    }
