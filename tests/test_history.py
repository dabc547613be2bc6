"""Whatever people do to history, state stays true: each way is done with Git itself.

After each, what is shown is what `tests/naive.py` reads, a second reader with none of this code.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from gitwaves import git, hooks
from gitwaves.cli import root
from gitwaves.errors import GitwavesError, Refused
from gitwaves.jsonout import status_json
from gitwaves.words import next_command
from tests import naive
from tests.landing import SEPARATOR, Plan, planned
from tests.repo import Repo

NO_HOOKS = ("-c", "core.hooksPath=/dev/null")


@dataclass(frozen=True, slots=True)
class Said:
    """What one command of gitwaves printed, and the error it ended in."""

    out: str
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class World(Plan):
    """The plan of `landing`, and people who do things to its history."""

    @property
    def heads(self) -> dict[str, str]:
        out = self.repo.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads")
        pairs = (line.split() for line in out.splitlines())
        return {name: oid for name, oid in pairs if "gitwaves/dashboard" not in name}

    def tree(self, letter: str = "A") -> Repo:
        """The worktree of a workstream."""
        return Repo(self.repo.path.parent / f"repo.worktrees/ws-{letter}")

    def finish(self, worktree: Repo, task: str, **files: str) -> None:
        """Commits files and verifies them; where a receipt of the same is there, the hook did."""
        folder = task[0].lower()
        worktree.commit(f"Do {task}", **(files or {f"{folder}/{task.lower()}.txt": f"{task}\n"}))
        if self.states()[task] != "done":
            self.gw_ok("verify", task)
        assert self.states()[task] == "done"

    def gw(self, *args: str, at: Repo | None = None) -> Said:
        """Runs gitwaves: branches only grow, and nobody's uncommitted work changes."""
        before = self.heads
        dirty = self._dirty()
        top = (at or self.repo).path
        done = CliRunner().invoke(root, ["-C", str(top), "--trust-trunk", *args])
        error = done.exception
        if error is not None and not isinstance(error, GitwavesError):
            raise error
        now = self.heads
        for name, oid in before.items():
            assert naive.contains(self.repo.path, now[name], oid), f"{args} lost {name}"
        after = self._dirty()
        assert {path: after[path] for path in dirty} == dirty
        if error is not None:
            assert now == before, f"{args} was refused, and moved a branch"
            return Said(done.output, error.message, error.hint or "")
        return Said(done.output)

    def gw_ok(self, *args: str, at: Repo | None = None) -> str:
        said = self.gw(*args, at=at)
        assert not said.error, said
        return said.out

    def _dirty(self) -> dict[Path, str]:
        trees = [w.path for w in git.Repo.open(self.repo.path).worktrees()]
        return {path: Repo(path).git("status", "--porcelain", "-uall") for path in trees}

    def holds(self, **states: str) -> None:
        """What is shown is what is so, and among it `states`; what is done is proven."""
        store = self.store
        progress = store.progress()
        shown = status_json(progress)
        got = {view["id"]: view["state"] for view in (*shown["tasks"], *shown["merge_points"])}
        plain = naive.read_all(self.repo.path)
        assert got == plain.states
        assert {t: progress.facts[t].landed for t in plain.landed} == plain.landed
        assert {name: got[name] for name in states} == states
        for task, state in got.items():
            if state == "done" and task in plain.landed:
                evidence = progress.facts[task].tracking.evidence
                assert evidence is not None
                file = f"{task[0].lower()}/{task.lower()}.txt"
                assert self.repo.git("cat-file", "-t", f"{evidence.commit}:{file}") == "blob"

    @property
    def next(self) -> str | None:
        """The command that `status` ends with."""
        return next_command(self.store.progress())

    def edit(self, card: str, old: str, new: str, *, at: Repo | None = None) -> None:
        """Replaces a text that stands in a card just once; nothing is committed."""
        where = at or self.repo
        path = f".workstreams/{card}.yaml"
        text = where.read(path)
        assert text.count(old) == 1, text
        where.write(path, text.replace(old, new))

    def respec(self, task: str) -> None:
        self.edit(f"WS-{task[0]}/{task}", "spec: Write", "spec: Do write")
        self.repo.commit(f"Another spec for {task}")

    def revert_landing(self, point: str = "MP1") -> None:
        self.repo.git("revert", "--no-edit", "-m", "1", str(self.fact(point).commit))


_made: dict[str, Path] = {}


def _template(name: str, factory: pytest.TempPathFactory, make: Callable[[Path], World]) -> Path:
    if name not in _made:
        world = make(factory.mktemp(name) / "repo")
        for worktree in world.store.repo.worktrees()[1:]:
            world.repo.git("worktree", "remove", "--force", str(worktree.path))
        _made[name] = world.repo.path
    return _made[name]


def _new(path: Path) -> World:
    world = World(planned(path, shared_paths="[shared.txt]").repo)
    hooks.install(git.Repo.open(path))
    return world


def _ready(path: Path) -> World:
    world = _new(path)
    world.do("A1")
    world.do("B1")
    return world


def _landed(path: Path) -> World:
    world = _ready(path)
    world.merge()
    return world


def _copy(name: str, path: Path, factory: pytest.TempPathFactory, letters: str) -> Iterator[World]:
    """A copy of a template, with the worktrees of some workstreams; checked when it is over."""
    makers = {"new": _new, "ready": _ready, "landed": _landed}
    shutil.copytree(_template(name, factory, makers[name]), path / "repo")
    world = World(Repo(path / "repo"))
    for letter in letters:
        world.repo.git("worktree", "add", "-q", f"../repo.worktrees/ws-{letter}", f"ws/{letter}")
    yield world
    assert world.repo.git("fsck", "--no-dangling", "--no-progress") == ""


@pytest.fixture
def world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The plan with its hooks; nothing is begun."""
    yield from _copy("new", tmp_path, tmp_path_factory, "")


@pytest.fixture
def ready(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A1 and B1 are done on their branches; MP1, which takes them, can land."""
    yield from _copy("ready", tmp_path, tmp_path_factory, "AB")


@pytest.fixture
def landed(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """MP1 has landed."""
    yield from _copy("landed", tmp_path, tmp_path_factory, "AB")


def rewrite(tree: Repo, todo: str, *args: str) -> None:
    """An interactive rebase whose list of commits is edited by a line of shell: `$1` is the list."""
    script = tree.path.parent / "todo.sh"
    script.write_text(f"set -e\n{todo}\n")
    tree.git("-c", f"sequence.editor=sh {script}", "rebase", "-q", "-i", *args)


# --- reverts -----------------------------------------------------------------------------------


def test_a_revert_of_the_revert_lands_it_again(landed: World) -> None:
    landed.revert_landing()
    landed.holds(A1="runnable", B1="runnable", MP1="reverted", C1="blocked")
    assert landed.next == "gitwaves start A1"
    landed.repo.git("revert", "--no-edit", "HEAD")
    landed.holds(A1="done", B1="done", MP1="done", C1="runnable")
    landed.do("A2")
    landed.gw_ok("merge", "--rest")
    landed.holds(A1="done", A2="done", MP1="done")
    # and back once more: the point's last landing is the revert of the revert
    landed.repo.git("revert", "--no-edit", str(landed.fact("MP1").commit))
    landed.holds(A1="runnable", A2="done", MP1="reverted", C1="blocked")
    landed.gw_ok("merge", "MP1", "--again")
    landed.holds(A1="done", B1="done", MP1="done", C1="runnable")
    assert landed.repo.read("a/a1.txt") + landed.repo.read("b/b1.txt") == "A1\nB1\n"


@pytest.mark.parametrize("rounds", [1, pytest.param(2, marks=pytest.mark.long)])
def test_again_when_only_some_tasks_were_done_anew(landed: World, rounds: int) -> None:
    for _ in range(1, rounds):
        landed.revert_landing()
        landed.gw_ok("merge", "MP1", "--again")
        landed.holds(A1="done", B1="done", MP1="done")
    landed.revert_landing()
    landed.do("A1", **{"a/a1.txt": "A1, better\n"})
    landed.holds(A1="done", B1="runnable", MP1="reverted")
    landed.gw_ok("merge", "MP1", "--again")
    landed.holds(A1="done", B1="done", MP1="done", C1="runnable")
    assert landed.repo.read("a/a1.txt") + landed.repo.read("b/b1.txt") == "A1, better\nB1\n"
    landed.do("B2")
    landed.gw_ok("merge", "--rest")
    landed.holds(B2="done")


def test_a_revert_of_what_rest_landed(landed: World) -> None:
    landed.do("A2")
    landed.gw_ok("merge", "--rest")
    landing = landed.repo.git("log", "-1", "--format=%H", "--grep=^gitwaves: land A2", "main")
    landed.repo.git("revert", "--no-edit", "-m", "1", landing)
    landed.holds(A1="done", A2="runnable", MP1="done")
    tree = landed.start("A2")
    assert not (tree.path / "a/a2.txt").exists()
    landed.finish(tree, "A2", **{"a/a2.txt": "A2, better\n"})
    landed.gw_ok("merge", "--rest")
    landed.holds(A2="done")
    assert landed.repo.read("a/a2.txt") == "A2, better\n"


def test_a_revert_while_the_next_task_is_at_work(landed: World) -> None:
    tree = landed.start("A2")
    landed.revert_landing()
    landed.holds(A1="runnable", A2="active", MP1="reverted")
    assert landed.gw("start", "A1").error == "ws/A is at work on A2 (active)"
    landed.finish(tree, "A2")
    landed.holds(A1="runnable", A2="done")
    landed.gw("merge", "--rest")  # refused or not: no state may become false by it
    landed.holds(A1="runnable", MP1="reverted")
    landed.gw_ok("merge", "MP1", "--again")
    landed.gw("merge", "--rest")
    landed.holds(A1="done", A2="done", MP1="done")
    assert landed.repo.read("a/a1.txt") + landed.repo.read("a/a2.txt") == "A1\nA2\n"


# --- resets ------------------------------------------------------------------------------------


def test_a_branch_reset_to_before_the_done_commit(ready: World) -> None:
    ready.tree().git("reset", "-q", "--hard", "HEAD~1")
    ready.holds(A1="active", MP1="blocked", A2="blocked")
    assert ready.gw_ok("sync") == "A1 is done\nrunnable now: A2 B2\n"  # its receipt is there still
    ready.holds(A1="done", MP1="ready")


def test_a_branch_reset_to_before_the_work(ready: World) -> None:
    ready.tree().git("reset", "-q", "--hard", "HEAD~2")
    ready.holds(A1="active", MP1="blocked")
    assert ready.gw_ok("sync") == "nothing new\n"
    ready.holds(A1="active")
    assert ready.gw("verify", at=ready.tree()).error == "nothing changed since A1 was claimed"


@pytest.mark.parametrize("moved", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_branch_reset_to_trunk(ready: World, moved: bool) -> None:
    if moved:
        ready.repo.commit("Trunk goes on", **{"README.md": "Hello\n"})
    ready.tree().git("reset", "-q", "--hard", "main")
    ready.holds(A1="runnable", A2="blocked", B1="done", MP1="blocked")
    assert ready.next == "gitwaves start A1"
    ready.do("A1")
    ready.merge()
    ready.holds(A1="done", MP1="done")


def test_a_branch_reset_after_it_landed(landed: World) -> None:
    landed.tree().git("reset", "-q", "--hard", "HEAD~3")
    landed.holds(A1="done", MP1="done", A2="runnable")
    landed.do("A2")
    landed.gw_ok("merge", "--rest")
    landed.holds(A1="done", A2="done")


def test_a_branch_reset_after_another_took_its_work(ready: World) -> None:
    ready.edit("merge-points/MP1", "requires: [A1, B1]", "requires: [A1]")
    ready.repo.commit("B1 comes by itself")
    ready.do("B2")
    ready.tree().git("reset", "-q", "--hard", "main")
    ready.holds(A1="runnable", B1="done", B2="done", MP1="blocked")
    said = ready.gw("merge", "--rest")
    assert "B2 is built on A1, which waits for a merge point" in said.error
    ready.holds(A1="runnable", B2="done")
    ready.do("A1")
    ready.merge()
    ready.gw_ok("merge", "--rest")
    ready.holds(A1="done", B1="done", B2="done", MP1="done")


# --- worktrees and branches deleted and made again ---------------------------------------------


@pytest.mark.parametrize("how", [pytest.param("remove", marks=pytest.mark.long), "rm"])
def test_a_worktree_and_its_branch_made_again_by_hand(ready: World, how: str) -> None:
    tree, tip = ready.tree(), ready.repo.oid("ws/A")
    tree.write("a/a1.txt", "more\n")
    if how == "remove":
        ready.repo.git("worktree", "remove", "--force", str(tree.path))
    else:
        shutil.rmtree(tree.path)
        ready.repo.git("worktree", "prune")
    ready.holds(A1="done", MP1="ready")  # the branch is there still
    ready.repo.git("branch", "-q", "-D", "ws/A")
    ready.holds(A1="runnable", A2="blocked", B1="done", MP1="blocked")
    ready.repo.git("worktree", "add", "-q", "-b", "ws/A", str(tree.path), "main")
    ready.holds(A1="runnable", MP1="blocked")
    assert ready.start("A1").path == tree.path
    ready.holds(A1="active")
    tree.git("reset", "-q", "--hard", tip)  # as the reflog has it
    ready.holds(A1="done", MP1="ready")
    ready.merge()
    ready.holds(A1="done", MP1="done")


def test_a_worktree_made_somewhere_else(world: World) -> None:
    tree = world.start("A1")
    tree.commit("Do A1", **{"a/a1.txt": "A1\n"})
    shutil.rmtree(tree.path)
    other = world.repo.at("../elsewhere")
    world.repo.git("worktree", "add", "-q", "-f", str(other.path), "ws/A")
    world.holds(A1="active")
    assert world.gw_ok("start", "A1").splitlines()[0] == str(other.path.resolve())
    assert world.gw_ok("verify", at=other).splitlines()[0] == "A1 is done"
    world.holds(A1="done")


# --- rebases -----------------------------------------------------------------------------------


def test_a_rebase_between_the_claim_and_verify(world: World) -> None:
    tree = world.start("A1")
    tree.commit("Do A1", **{"a/a1.txt": "A1\n"})
    world.repo.commit("Trunk goes on", **{"b/theirs.txt": "x\n", "README.md": "Hello\n"})
    tree.git("rebase", "-q", "main")
    world.holds(A1="active")
    assert world.gw_ok("verify", at=tree).splitlines()[0] == "A1 is done"
    world.holds(A1="done")


def test_trunk_brought_in_is_no_work(world: World) -> None:
    world.edit("WS-A/A1", "test -f a/a1.txt", "test -f shared.txt")
    world.repo.commit("A1 holds already")
    tree = world.start("A1")
    for number, take in enumerate((("rebase", "-q"), ("merge", "-q", "--no-edit"))):
        world.repo.commit("Trunk goes on", **{"README.md": f"{number}\n"})
        tree.git(*take, "main")
        assert world.gw("verify", at=tree).error == "nothing changed since A1 was claimed"
    world.holds(A1="active")


@pytest.mark.parametrize("code", [False, True])
def test_a_rebase_between_verify_and_sync(world: World, code: bool) -> None:
    tree = world.start("A1")
    tree.write("a/a1.txt", "A1\n")
    world.gw_ok("verify", at=tree)
    tree.git("add", "-A")
    tree.git(*NO_HOOKS, "commit", "-q", "-m", "Do A1")
    if code:
        world.repo.commit("Trunk goes on", **{"README.md": "Hello\n"})
    else:
        world.edit("WS-B/B1", "title: Task B1", "title: B")
        world.repo.commit("A title")
    tree.git(*NO_HOOKS, "rebase", "-q", "main")
    world.holds(A1="active")
    world.gw_ok("sync")
    world.holds(A1="active" if code else "done")
    if code:
        world.gw_ok("verify", at=tree)
        world.holds(A1="done")


SQUASH = """sed -i '2,$s/^pick/squash/' "$1\""""
DROP_DONE = """sed -i '$d' "$1\""""


@pytest.mark.parametrize(
    ("todo", "now", "then"),
    [
        (SQUASH, "stale", "done"),
        (DROP_DONE, "done", "done"),  # the hook writes it again
        ("""sed -i '1d;3d' "$1\"""", "runnable", "runnable"),  # the claim and the done commit
    ],
    ids=["squash", "drop done", "drop both"],
)
def test_an_interactive_rebase(ready: World, todo: str, now: str, then: str) -> None:
    tree = ready.tree()
    rewrite(tree, todo, "main")
    ready.holds(A1=now, MP1="ready" if now == "done" else "blocked")
    assert tree.read("a/a1.txt") == "A1\n"
    ready.gw_ok("sync")
    ready.holds(A1=then, MP1="ready" if then == "done" else "blocked")
    if then == "runnable":
        # the work is there and nobody's: a claim finds nothing to change, and says how to go on
        ready.start("A1")
        said = ready.gw("verify", at=tree)
        assert "gitwaves verify --unchanged" in said.hint
        ready.gw_ok("verify", "--unchanged", at=tree)
    ready.holds(A1="done", MP1="ready")
    if todo == SQUASH:  # state and code in one commit look like what is typed by hand
        with pytest.raises(Refused, match=r"`status: done` in a commit that also changes a/a1.txt"):
            ready.merge()
        ready.holds(A1="done", MP1="ready")
        return
    ready.merge()
    ready.holds(A1="done", MP1="done")


def test_commits_in_another_order(world: World) -> None:
    tree = world.start("A1")
    tree.commit("One", **{"a/one.txt": "1\n"})
    world.finish(tree, "A1")
    # the claim last of all but the done commit: all the work comes before it
    rewrite(
        tree, """{ sed -n '2,3p' "$1"; sed -n '1p;4p' "$1"; } >"$1.n"; mv "$1.n" "$1\"""", "main"
    )
    assert tree.git("log", "--format=%s", "main..").splitlines() == [
        "gitwaves: A1 done", "gitwaves: A1 active", "Do A1", "One",
    ]  # fmt: skip
    world.holds(A1="stale")
    world.gw_ok("sync")
    world.holds(A1="done")


def _both_rebased(world: World, *args: str) -> None:
    """ws/B, which holds A1, rebased onto a trunk that went on, and ws/A taken along."""
    take = ("-c", "rebase.updateRefs=true", "rebase", "-q", *args)
    world.repo.git("switch", "-q", "--detach", "ws/B")
    world.repo.git(*NO_HOOKS, *take, "ws/B")
    world.repo.git("switch", "-q", "main")


@pytest.fixture
def stacked(ready: World) -> World:
    """B2 is done on ws/B, which holds A1; trunk went on since; there are no worktrees."""
    ready.do("B2")
    for letter in "AB":
        ready.repo.git("worktree", "remove", str(ready.tree(letter).path))
    ready.repo.commit("Trunk goes on", **{"README.md": "Hello\n"})
    return ready


@pytest.mark.parametrize("onto", [("main",), ("--onto", "main", "main~1")], ids=["main", "onto"])
def test_a_rebase_that_takes_another_branch_along(stacked: World, onto: tuple[str, ...]) -> None:
    before = stacked.repo.oid("ws/A")
    _both_rebased(stacked, "--rebase-merges", *onto)
    assert stacked.repo.oid("ws/A") != before
    stacked.holds(A1="stale", B1="stale", B2="stale", MP1="blocked")
    stacked.gw_ok("verify", "A1")
    # what ws/B holds of A1 is not what was verified of it, in whatever words
    said = stacked.gw("verify", "B1")
    assert "a/a1.txt was merged from ws/A unverified" in said.error
    stacked.holds(A1="done", B1="stale", B2="stale", MP1="blocked")


def test_a_rebase_that_makes_anothers_commits_its_own(stacked: World) -> None:
    before = stacked.repo.oid("ws/B")
    _both_rebased(stacked, "main")  # without its merges: A1 is replayed commit by commit
    stacked.holds(B1="stale", B2="stale", MP1="blocked")
    said = stacked.gw("verify", "B1")
    assert "a/a1.txt belongs to WS-A" in said.error
    stacked.holds(B1="stale", MP1="blocked")
    stacked.repo.git("branch", "-f", "ws/B", before)
    stacked.holds(B1="done", B2="done")


# --- amends ------------------------------------------------------------------------------------


def test_other_content_amended_into_the_done_commit(ready: World) -> None:
    tree = ready.tree()
    tree.write("a/a1.txt", "never verified\n")
    tree.git("commit", "-q", "-a", "--amend", "--no-edit")
    ready.holds(A1="done")  # the verified commit is below it still
    ready.gw_ok("merge", "MP1")
    ready.holds(A1="done", MP1="done")
    assert ready.repo.read("a/a1.txt") == "A1\n"  # what was verified, and no more
    assert tree.read("a/a1.txt") == "never verified\n"


def test_a_message_amended_after_done(ready: World) -> None:
    tree = ready.tree()
    tree.git("commit", "-q", "--amend", "-m", "Said otherwise")
    ready.holds(A1="done")
    tree.git("reset", "-q", "--hard", "HEAD~1")
    tree.git(*NO_HOOKS, "commit", "-q", "--amend", "-m", "Do A1, said otherwise")
    ready.holds(A1="active")
    ready.gw_ok("sync")
    ready.holds(A1="done", MP1="ready")


def test_a_fixup_squashed_into_verified_work(ready: World) -> None:
    tree = ready.tree()
    tree.write("a/a1.txt", "A1, mended\n")
    tree.git("commit", "-q", "-a", "--fixup", "HEAD~1")
    ready.holds(A1="done")
    tree.git("rebase", "-q", "-i", "--autosquash", "main")
    assert tree.git("log", "--format=%s", "main..").splitlines() == [
        "gitwaves: A1 done", "Do A1", "gitwaves: A1 active",
    ]  # fmt: skip
    ready.holds(A1="stale", A2="blocked", MP1="blocked")
    assert ready.next == "gitwaves verify A1"
    ready.gw_ok("sync")
    ready.holds(A1="stale")
    ready.gw_ok("verify", "A1")
    ready.holds(A1="done", MP1="ready")
    ready.merge()
    assert ready.repo.read("a/a1.txt") == "A1, mended\n"


# --- cherry-picks ------------------------------------------------------------------------------


def test_a_cherry_pick_of_anothers_done_commit(world: World) -> None:
    b1, a1 = world.do("B1"), world.start("A1")
    done = b1.oid()
    b1.git("reset", "-q", "--hard", "HEAD~2")  # claimed, and no more
    world.holds(A1="active", B1="active")
    a1.git("cherry-pick", f"{done}~3..{done}")
    assert "status: done" in a1.read(".workstreams/WS-B/B1.yaml")
    world.holds(A1="active", B1="active", MP1="blocked")
    a1.commit("Do A1", **{"a/a1.txt": "A1\n"})
    said = world.gw("verify", at=a1)
    assert said.error.startswith("outside the boundary:")
    assert "b/b1.txt belongs to WS-B" in said.error
    assert ".workstreams/WS-B/B1.yaml is not this worktree's to change" in said.error
    assert "git rebase -i" in said.hint
    world.holds(A1="active", B1="active")


def test_a_done_commit_without_the_work_it_stands_on(ready: World) -> None:
    tree, done = ready.tree(), ready.repo.oid("ws/A")
    tree.git("reset", "-q", "--hard", "main")
    tree.git("cherry-pick", done + "~2", done)  # the claim and the done commit
    ready.holds(A1="stale", MP1="blocked", A2="blocked")
    ready.gw_ok("sync")
    ready.holds(A1="stale")
    assert ready.gw("verify", "A1").error.startswith("A1 does not pass: step 1")
    ready.holds(A1="stale")


# --- branches switched by hand -----------------------------------------------------------------


@pytest.mark.parametrize("to", ["--detach", "ws/B", "main"])
def test_a_branch_switched_by_hand_inside_a_worktree(ready: World, to: str) -> None:
    tree = ready.tree()
    ready.repo.git("worktree", "remove", str(ready.tree("B").path))
    ready.repo.git("switch", "-q", "--detach")
    ready.tree().git("reset", "-q", "--hard", "HEAD~1")  # at work, and not verified in this clone
    shutil.rmtree(ready.repo.path / ".git/gitwaves/receipts")
    tree.git("switch", "-q", to)
    ready.holds(A1="active", B1="done")
    for args in (("verify", "A1"), ("start", "A1")):
        said = ready.gw(*args, at=tree)
        assert said.error
        assert f"git -C {tree.path.resolve()} switch ws/A" in said.hint, said
    assert ready.gw("verify", at=tree).error.startswith("no task is at work")
    # what is committed there is no work of A1
    tree.commit("In the wrong place", **{"a/a1.txt": "A1, again\n"})
    ready.gw_ok("sync")
    ready.holds(A1="active", B1="done")
    tree.git("switch", "-q", "ws/A")
    assert ready.gw_ok("verify", at=tree).splitlines()[0] == "A1 is done"
    ready.holds(A1="done", B1="done", MP1="ready")
    ready.gw("merge", "MP1")
    ready.holds()


def test_a_branch_that_was_renamed(ready: World) -> None:
    tree = ready.tree()
    tree.git("branch", "-m", "ws/A", "mine")
    ready.holds(A1="runnable", B1="done", MP1="blocked")
    said = ready.gw("start", "A1")
    assert said.error == f"{tree.path.resolve()} is on mine, not on ws/A"
    assert said.hint == (
        f"there is no branch ws/A: if mine is it, `git -C {tree.path.resolve()} branch -m ws/A`"
    )
    ready.holds(A1="runnable")
    tree.git("branch", "-m", "ws/A")
    ready.holds(A1="done", MP1="ready")


# --- trunk, by hand ----------------------------------------------------------------------------


def test_a_commit_on_trunk_inside_a_boundary(ready: World) -> None:
    ready.repo.commit("Beside it", **{"a/beside.txt": "x\n"})
    ready.holds(A1="done", MP1="ready")
    ready.merge()
    ready.holds(A1="done", MP1="done")
    assert ready.repo.read("a/beside.txt") + ready.repo.read("a/a1.txt") == "x\nA1\n"


def test_a_commit_on_trunk_of_what_is_being_built(ready: World) -> None:
    ready.repo.commit("I was faster", **{"a/a1.txt": "trunk's\n"})
    ready.holds(A1="done", MP1="ready")
    said = ready.gw("merge", "MP1")
    assert "A1 does not merge: a/a1.txt" in said.error
    assert "merge MP1 --continue" in said.hint
    ready.holds(A1="done", MP1="ready")
    assert ready.repo.read("a/a1.txt") == "trunk's\n"


@pytest.mark.parametrize(
    ("when", "how"),
    [
        ("at work", ("merge", "-q", "--no-edit", "main")),
        ("done", ("pull", "-q", "--no-rebase", "--no-edit", ".", "main")),
    ],
    ids=["at work", "done"],
)
def test_trunk_merged_by_hand(world: World, how: tuple[str, ...], when: str) -> None:
    world.do("B1")
    tree = world.start("A1")
    tree.commit("Do A1", **{"a/a1.txt": "A1\n"})
    if when == "done":
        world.gw_ok("verify", at=tree)
    world.edit("WS-A/A2", "title: Task A2", "title: Another")
    world.repo.commit("Trunk goes on", **{"README.md": "Hello\n", "c/x.txt": "x\n"})
    tree.git(*how)
    world.holds(A1="active" if when == "at work" else "done", B1="done")
    if when == "at work":
        world.gw_ok("verify", at=tree)
    world.holds(A1="done", MP1="ready")
    world.merge()
    world.holds(A1="done", MP1="done", A2="runnable")


def test_anothers_unfinished_branch_merged_by_hand(world: World) -> None:
    b1, a1 = world.start("B1"), world.start("A1")
    b1.commit("Half of B1", **{"b/half.txt": "x\n"})
    a1.commit("Do A1", **{"a/a1.txt": "A1\n"})
    before = a1.oid()
    with pytest.raises(AssertionError, match=r"B1.yaml was active on ws/B when it was merged"):
        a1.git("merge", "-q", "--no-edit", "ws/B")
    a1.git("merge", "--abort")
    a1.git(*NO_HOOKS, "merge", "-q", "--no-edit", "ws/B")
    world.holds(A1="active", B1="active")
    said = world.gw("verify", at=a1)
    assert "B1.yaml was active on ws/B when it was merged" in said.error
    world.holds(A1="active", B1="active")
    # with B1 done there is nothing half done in it
    world.finish(b1, "B1")
    a1.git("reset", "-q", "--hard", before)
    a1.git("merge", "-q", "--no-edit", "ws/B")
    world.gw_ok("verify", at=a1)
    world.merge()
    world.holds(A1="done", B1="done", MP1="done")


def test_trunk_pushed_by_force(ready: World, tmp_path: Path) -> None:
    hub = Repo.clone(ready.repo, tmp_path / "hub.git", "--bare")
    ready.repo.git("remote", "add", "origin", str(hub.path))
    ready.repo.write(
        ".workstreams/config.yaml", ready.repo.read(".workstreams/config.yaml") + "remote: origin\n"
    )
    ready.repo.commit("Share")
    ready.repo.git("push", "-q", "origin", "main", "ws/A", "ws/B")
    ready.merge()
    ready.holds(A1="done", MP1="done")
    other = Repo.clone(hub, tmp_path / "other")
    other.git("reset", "-q", "--hard", "HEAD~2")  # before the landing
    other.commit("Another line", **{"README.md": "Hello\n"})
    other.git("push", "-q", "--force", "origin", "main")
    ready.repo.git("fetch", "-q")
    shown = status_json(ready.store.progress())
    assert shown["trunk"]["commit"] == other.oid()
    assert shown["warnings"] == ["main diverged from origin: origin's is read"]
    states = {view["id"]: view["state"] for view in (*shown["tasks"], *shown["merge_points"])}
    assert states == naive.read_all(ready.repo.path, "origin/main").states
    assert (states["A1"], states["MP1"], states["C1"]) == ("done", "ready", "blocked")
    ready.repo.git("reset", "-q", "--hard", "origin/main")  # what a user then does
    ready.holds(A1="done", MP1="ready", C1="blocked")
    ready.merge()
    ready.holds(A1="done", MP1="done", C1="runnable")


# --- forges ------------------------------------------------------------------------------------


def test_a_rebase_merge_by_a_forge(ready: World) -> None:
    ready.repo.commit("Trunk goes on", **{"README.md": "Hello\n"})
    ready.repo.git("cherry-pick", "main~1..ws/A")
    ready.holds(A1="done", B1="done", MP1="ready", A2="runnable")
    assert ready.fact("A1").landed
    ready.do("A2")
    ready.merge()
    ready.gw_ok("merge", "--rest")
    ready.holds(A1="done", A2="done", MP1="done")


@pytest.mark.parametrize("how", ["squash", "amend"])
def test_a_revert_of_what_no_merge_base_shows(ready: World, how: str) -> None:
    if how == "squash":
        ready.repo.git("merge", "-q", "--squash", "ws/A")
        ready.repo.commit("All of A (#1)")
        ready.holds(A1="done", MP1="ready")
        ready.repo.git("revert", "--no-edit", "HEAD")
        ready.holds(A1="runnable", MP1="blocked", B1="done")
    else:
        ready.merge()
        ready.tree().write("a/a1.txt", "amended after it landed\n")
        ready.tree().git("commit", "-q", "-a", "--amend", "--no-edit")
        ready.holds(A1="done", MP1="done")
        ready.revert_landing()
        ready.holds(A1="runnable", MP1="reverted", B1="runnable")
    tree = ready.tree()
    if how == "squash":  # the code stands on the branch, and its owner says that it is right so
        ready.start("A1")
        ready.gw_ok("verify", "--unchanged", at=tree)
        ready.merge()
        ready.holds(A1="done", B1="done", MP1="done")
        assert ready.repo.read("a/a1.txt") == "A1\n"


def test_a_stale_task_does_not_start_before_what_it_needs(ready: World) -> None:
    ready.do("A2")
    ready.respec("A1")
    ready.respec("A2")
    ready.holds(A1="stale", A2="stale")
    assert ready.gw("start", "A2").error == "A2 is stale, and waits for A1"
    ready.gw_ok("verify", "A1")
    ready.gw_ok("verify", "A2")
    ready.holds(A1="done", A2="done")


def test_a_squash_of_unfinished_work(world: World) -> None:
    tree = world.start("A1")
    tree.commit("Half of A1", **{"a/half.txt": "x\n"})
    world.repo.git("merge", "-q", "--squash", "ws/A")
    world.repo.commit("Half of it (#1)")
    world.holds(A1="active", MP1="blocked")
    world.repo.git("worktree", "remove", "--force", str(tree.path))
    world.repo.git("branch", "-q", "-D", "ws/A")
    world.holds(A1="active")
    world.do("A1")  # whoever starts it takes it on
    world.holds(A1="done")
    world.do("B1")
    world.merge()
    world.holds(A1="done", MP1="done")


# --- stashes, names ----------------------------------------------------------------------------


def test_stashes_around_state(world: World) -> None:
    tree = world.start("A1")
    tree.write("a/a1.txt", "A1\n")
    world.gw_ok("verify", at=tree)
    world.edit("WS-A/A1", "status: active", "status: done", at=tree)
    tree.git("stash", "-q", "-u")
    world.holds(A1="active")
    assert world.gw("verify", at=tree).error == "nothing changed since A1 was claimed"
    tree.commit("Something else", **{"a/x.txt": "x\n"})
    tree.git("stash", "pop", "-q")
    world.holds(A1="active")
    tree.git("checkout", "-q", ".workstreams")
    tree.git("add", "-A")
    tree.git("commit", "-q", "-m", "Do A1")
    world.holds(A1="active")  # it is not what was verified: there is more in it
    world.gw_ok("verify", at=tree)
    world.holds(A1="done")
    card = tree.git("stash", "list")
    assert card == ""


def test_tags_and_branches_named_like_ids(ready: World) -> None:
    first = ready.repo.git("rev-list", "--max-parents=0", "main")
    for name in ("A1", "ws/A", "ws/C", "main", "MP1", "gitwaves/dashboard"):
        ready.repo.git("tag", name, first)
    for name in ("A1", "B1", "MP1", "WS-A"):
        ready.repo.git("branch", "-q", name, first)
    ready.holds(A1="done", B1="done", MP1="ready")
    for letter in "AB":
        ready.repo.git("worktree", "remove", str(ready.tree(letter).path))
    tree = ready.start("A2")
    assert tree.git("symbolic-ref", "HEAD") == "refs/heads/ws/A"
    assert tree.read("a/a1.txt") == "A1\n"
    ready.finish(tree, "A2")
    ready.merge()
    ready.do("C1")
    ready.gw_ok("merge", "--rest")
    ready.holds(A1="done", A2="done", C1="done", MP1="done")


def test_a_branch_that_is_in_the_way_of_all_others(world: World) -> None:
    world.repo.git("branch", "-q", "ws")
    said = world.gw("start", "A1")
    assert said.error == "there can be no branch ws/A beside the branch ws"
    assert "git branch -m ws NAME" in said.hint
    world.holds(A1="runnable")


# --- merge points in either order --------------------------------------------------------------


@pytest.mark.parametrize("order", [pytest.param("12", marks=pytest.mark.long), "21"])
@pytest.mark.parametrize("apart", [True, False], ids=["apart", "overlapping"])
def test_two_merge_points_in_either_order(ready: World, order: str, apart: bool) -> None:
    ready.repo.write(
        ".workstreams/merge-points/MP2.yaml",
        f"id: MP2\ntitle: The second\nrequires: [{'B1' if apart else 'A2, B2'}]\n{SEPARATOR}"
        "tracking:\n  task: MP2\n  status: planned\n",
    )
    ready.edit(
        "merge-points/MP1", "requires: [A1, B1]", f"requires: [{'A1' if apart else 'A1, B1'}]"
    )
    ready.repo.commit("Two merge points")
    if not apart:
        ready.do("A2")
        ready.do("B2")
    ready.holds(MP1="ready", MP2="ready")
    for number in order:
        ready.gw_ok("merge", f"MP{number}")
        ready.holds(**{f"MP{number}": "done"})
    ready.holds(A1="done", B1="done", MP1="done", MP2="done", C1="runnable")
    first, last = (ready.fact(f"MP{number}").commit for number in order)
    ready.repo.git("revert", "--no-edit", "-m", "1", str(last)) if apart else None
    ready.holds(**({f"MP{order[1]}": "reverted"} if apart else {}), **{f"MP{order[0]}": "done"})
    assert first != last


# --- specs and cards that change under the work ------------------------------------------------


def test_a_spec_that_changes_while_its_task_is_at_work(world: World) -> None:
    tree = world.start("A1")
    tree.write("a/a1.txt", "A1\n")
    world.gw_ok("verify", at=tree)
    world.respec("A1")
    tree.git("add", "-A")
    tree.git("commit", "-q", "-m", "Do A1")
    world.holds(A1="active")  # what passed was the old spec
    world.gw_ok("verify", at=tree)
    world.holds(A1="done")


def test_a_spec_that_changes_after_it_is_done_and_after_it_landed(ready: World) -> None:
    ready.respec("A1")
    ready.holds(A1="stale", MP1="blocked", A2="blocked")
    assert ready.next == "gitwaves verify A1"
    ready.gw_ok("verify", "A1")
    ready.merge()
    ready.respec("B1")
    ready.holds(A1="done", B1="stale", MP1="done", C1="runnable", B2="blocked")
    ready.gw_ok("verify", "B1")
    ready.holds(B1="done", MP1="done", B2="runnable")


def test_a_card_deleted_while_its_task_is_at_work(world: World) -> None:
    tree = world.start("A1")
    tree.commit("Do A1", **{"a/a1.txt": "A1\n"})
    world.repo.git("rm", "-q", ".workstreams/WS-A/A1.yaml")
    world.repo.git("commit", "-q", "-m", "No A1")
    shown = status_json(world.store.progress())
    assert {t["id"]: t["state"] for t in shown["tasks"]}["A2"] == "blocked"
    assert any("ws/A has work of A1" in line for line in shown["warnings"]), shown["warnings"]
    said = world.gw("verify", at=tree)
    assert said.error == "no task is at work on ws/A"
    assert world.gw("verify", "A1").error == "no task 'A1'"
    world.repo.git("revert", "--no-edit", "HEAD")
    world.holds(A1="active")
    world.gw_ok("verify", at=tree)
    world.holds(A1="done")


@pytest.mark.parametrize("to", ["WS-A/A9", "WS-B/A1"])
def test_a_card_renamed_or_moved_while_its_task_is_at_work(world: World, to: str) -> None:
    tree = world.start("A1")
    tree.commit("Do A1", **{"a/a1.txt": "A1\n"})
    world.gw_ok("verify", at=tree)
    world.holds(A1="done")
    text = world.repo.read(".workstreams/WS-A/A1.yaml").replace("id: A1", f"id: {to[5:]}")
    world.repo.git("rm", "-q", ".workstreams/WS-A/A1.yaml")
    world.repo.write(f".workstreams/{to}.yaml", text)
    world.edit("WS-A/A2", "depends_on: [A1]", f"depends_on: [{to[5:]}]")
    world.edit("WS-B/B2", "depends_on: [A1, B1]", f"depends_on: [{to[5:]}, B1]")
    world.edit("merge-points/MP1", "requires: [A1, B1]", f"requires: [{to[5:]}, B1]")
    world.repo.commit("Another name")
    moved = "unproven" if to == "WS-A/A9" else "runnable"  # misplaced: the tracking of A1
    world.holds(**{to[5:]: moved}, A2="blocked", MP1="blocked")
    warnings = status_json(world.store.progress())["warnings"]
    assert any("ws/A has work of A1" in line for line in warnings), warnings
    world.gw_ok("sync")
    world.holds(**{to[5:]: moved})
    world.gw("merge", "--rest")
    world.holds(**{to[5:]: moved})
    assert not (world.repo.path / "a").exists()


# --- done by hand ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "evidence"),
    [
        ("staged", "none"),
        ("hooks", "none"),
        ("no hooks", "none"),
        ("no hooks", "another's"),
        ("trunk", "none"),
        ("trunk", "another's"),
    ],
)
def test_done_by_hand_unblocks_nothing(ready: World, where: str, evidence: str) -> None:
    ready.tree().git("reset", "-q", "--hard", "HEAD~1")  # A1 is at work, its receipt lost
    shutil.rmtree(ready.repo.path / ".git/gitwaves/receipts")
    place = ready.repo if where == "trunk" else ready.tree()
    path = ".workstreams/WS-A/A1.yaml"
    spec, line, tracking = place.read(path).partition(SEPARATOR)
    if evidence == "none":
        tracking = "tracking:\n  task: A1\n  status: done\n"
    else:
        theirs = ready.tree("B").read(".workstreams/WS-B/B1.yaml").partition(SEPARATOR)[2]
        tracking = theirs.replace("task: B1", "task: A1")
    place.write(path, spec + line + tracking)
    place.git("add", path)
    options = ("-n",) if where == "no hooks" else ()
    if where != "staged":
        place.git("commit", "-q", *options, "-m", "It is done, trust me")
    state = {"staged": "active", "trunk": "active"}.get(where, "unproven")
    ready.holds(A1=state, A2="blocked", B2="blocked", MP1="blocked")
    assert ready.gw("start", "A2").error
    assert ready.gw("merge", "MP1").error == "MP1 waits for A1"
    ready.gw("merge", "--rest")
    ready.holds(A1=state, A2="blocked", MP1="blocked")
    if state == "unproven":
        assert ready.next == "gitwaves verify A1"


def test_done_by_hand_opens_no_boundary(world: World) -> None:
    tree = world.start("A1")
    tree.write("b/mine.txt", "x\n")
    world.edit("WS-A/A1", "status: active", "status: done", at=tree)
    tree.write("a/a1.txt", "A1\n")
    tree.git("add", "-A")
    tree.git("commit", "-q", "-n", "-m", "It is done, trust me")
    world.holds(A1="unproven")
    said = world.gw("verify", "A1")
    assert said.error.startswith("outside the boundary:\n  b/mine.txt belongs to WS-B")
    world.holds(A1="unproven")
    tree.git("rm", "-q", "b/mine.txt")
    tree.git("commit", "-q", "-n", "--amend", "--no-edit")
    world.gw_ok("verify", "A1")
    world.holds(A1="done")


def test_done_by_hand_on_trunk_of_what_nobody_began(world: World) -> None:
    world.edit("WS-A/A1", "status: planned", "status: done")
    world.edit("merge-points/MP1", "status: planned", "status: done")
    world.repo.commit("All done")
    world.holds(A1="unproven", A2="blocked", MP1="blocked", C1="blocked")
    assert world.gw("merge", "MP1").error == "MP1 waits for A1, B1"
    assert world.gw("verify", "A1").error.startswith("A1 does not pass")
    world.do("A1")
    world.do("B1")
    world.holds(A1="done", MP1="ready", C1="blocked")
    world.merge()
    world.holds(A1="done", MP1="done", C1="runnable")


def test_a_card_copied_over_another(ready: World) -> None:
    tree = ready.tree()
    shutil.copy(tree.path / ".workstreams/WS-A/A1.yaml", tree.path / ".workstreams/WS-A/A2.yaml")
    tree.git("add", "-A")
    tree.git("commit", "-q", "-n", "-m", "The same for A2")
    ready.holds(A1="done", A2="unproven")
    assert "misplaced" in str(status_json(ready.store.progress())["tasks"])
    assert ready.next == "gitwaves merge MP1"
    ready.merge()
    ready.holds(A1="done", A2="unproven", MP1="done")
    said = ready.gw("verify", "A2")
    assert said.error == "A2 does not pass: step 1, exit 1"
    ready.do("A2")
    ready.holds(A2="done")
