"""gitwaves dies anywhere: nothing of the user's is lost, no state is false, the next command goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.harness import KILLED, Lab, Server, new_lab
from tests.landing import SEPARATOR
from tests.repo import Repo

TASKS = {"A1": "[]", "A2": "[A1]", "B1": "[]", "B2": "[A1, B1]", "C1": "[MP1]"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.close()


@pytest.fixture
def lab(tmp_path: Path, server: Server) -> Lab:
    return new_lab(tmp_path, server)


def planned(lab: Lab) -> None:
    """The plan: MP1 takes A1 and B1, C1 needs it. The user has work of every kind on trunk."""
    repo = Repo.init(lab.repo.path)
    repo.write(
        ".workstreams/config.yaml",
        "version: 1\ntitle: Faults\ntrunk: main\nshared_paths: [shared.txt]\nagent: script\n"
        "profiles: {script: {command: [sh, -c, 'f=${GITWAVES_TASK%[0-9]*}; f=$(echo $f | tr A-Z a-z)/"
        "$(echo $GITWAVES_TASK | tr A-Z a-z).txt; mkdir -p ${f%/*}; echo ok >$f; git add -A; "
        "git commit -qm agent']}}\n",
    )
    repo.write(".workstreams/.gitattributes", "* -text\n")
    for name in "ABC":
        low = name.lower()
        repo.write(f".workstreams/WS-{name}/workstream.yaml", f"title: {name}\npaths: [{low}/**]\n")
    for task, needs in TASKS.items():
        repo.write(
            f".workstreams/WS-{task[0]}/{task}.yaml",
            f"id: {task}\ntitle: Task {task}\ndepends_on: {needs}\n"
            f"verify:\n  - run: grep -q ok {task[0].lower()}/{task.lower()}.txt\n"
            f"{SEPARATOR}tracking:\n  task: {task}\n  status: planned\n",
        )
    repo.write(
        ".workstreams/merge-points/MP1.yaml",
        f"id: MP1\ntitle: The first\nrequires: [A1, B1]\n{SEPARATOR}"
        "tracking:\n  task: MP1\n  status: planned\n",
    )
    files = {"README": "hello\n", "mine.txt": "one\n", "staged.txt": "one\n", "shared.txt": "1\n"}
    files["clean.txt"] = "one\n"
    repo.commit("Plan the work", **files, **{".gitignore": "*.log\n"})
    lab.gw_ok("hooks", "install")
    repo.write(".git/info/attributes", "* filter=fault\n")  # which is configured to kill, or not
    lab.hooks_through(lab.tools / "hook-python")


def with_work(tree: Repo, folder: str = "") -> None:
    """Work of every kind in a worktree: staged, staged and changed again, unstaged, untracked."""
    for name in ("mine.txt", "staged.txt"):
        assert folder or (tree.path / name).exists()
    tree.write(f"{folder}staged.txt", "two, staged\n")
    tree.write(f"{folder}both.txt", "new, staged\n")
    tree.git("add", f"{folder}staged.txt", f"{folder}both.txt")
    tree.write(f"{folder}both.txt", "new, changed again\n")
    tree.write(f"{folder}mine.txt", "two, not staged\n")
    tree.write(f"{folder}untracked.txt", "not tracked\n")
    tree.write(f"{folder}ignored.log", "ignored\n")


def started(lab: Lab, task: str) -> Repo:
    lab.gw_ok("start", task)
    return lab.tree(f"ws-{task[0]}")


def built(lab: Lab, task: str, **more: str) -> Repo:
    """A started task whose file is committed."""
    tree = started(lab, task)
    low = task[0].lower()
    files = {f"{low}/{task.lower()}.txt": f"ok {task}\n", f"{low}/clean.txt": "one\n"}
    tree.commit(f"Do {task}", **files, **more)
    return tree


def finished(lab: Lab, task: str, **more: str) -> Repo:
    tree = built(lab, task, **more)
    lab.gw_ok("verify", cwd=tree.path)
    return tree


# --- what is killed ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A command, what stands before it, and what holds once it has gone through."""

    argv: tuple[str, ...]
    where: str  # the worktree it is called in
    prepare: Callable[[Lab], None]
    wanted: dict[str, str]
    beside: str  # the worktree in which the user goes on
    task: str  # another that can be started
    again: int = 0  # the exit code of the same command once it has gone through


def fresh_start(lab: Lab) -> None:
    planned(lab)
    with_work(lab.repo)


def next_start(lab: Lab) -> None:
    """A worktree that exists, with ignored files, which takes in what came to trunk meanwhile."""
    planned(lab)
    tree = finished(lab, "A1")
    tree.write("a/kept.log", "ignored\n")
    lab.repo.commit("Go on", **{"docs/one.txt": "1\n" * 50, "docs/two.txt": "2\n", "README": "x\n"})
    lab.repo.git("rm", "-q", "mine.txt")
    lab.repo.commit("Less", **{"docs/three.txt": "3\n"})
    lab.repo.write("staged.txt", "two\n")
    lab.repo.git("add", "staged.txt")
    lab.repo.write("README", "unstaged\n")


def committed(lab: Lab) -> None:
    """All of A1 is committed, beside ignored and other people's untracked files."""
    planned(lab)
    tree = built(lab, "A1", **{"a/mine.txt": "one\n", "a/staged.txt": "one\n"})
    tree.write("a/kept.log", "ignored\n")
    with_work(lab.repo)


def uncommitted(lab: Lab) -> None:
    """A1's file is there, with work of every kind, none of it committed."""
    planned(lab)
    tree = started(lab, "A1")
    tree.commit("Begin", **{f"a/{n}.txt": "one\n" for n in ("mine", "staged", "clean")})
    tree.write("a/a1.txt", "ok A1\n")
    with_work(tree, "a/")


def mergeable(lab: Lab) -> None:
    planned(lab)
    finished(lab, "A1")
    tree = finished(lab, "B1")
    tree.write("b/kept.log", "ignored\n")
    with_work(lab.repo)


def conflicting(lab: Lab) -> None:
    """MP1's tasks conflict in a shared file; a person has resolved it, and not committed."""
    planned(lab)
    finished(lab, "A1", **{"shared.txt": "A\n"})
    finished(lab, "B1", **{"shared.txt": "B\n"})
    assert lab.gw("merge", "MP1").code == 1
    tree = lab.tree("resolve-MP1")
    tree.write("shared.txt", "A and B\n")
    tree.git("add", "shared.txt")
    with_work(lab.repo)


def to_conflict(lab: Lab) -> None:
    planned(lab)
    finished(lab, "A1", **{"shared.txt": "A\n"})
    finished(lab, "B1", **{"shared.txt": "B\n"})
    with_work(lab.repo)


def runnable(lab: Lab) -> None:
    planned(lab)
    with_work(lab.repo)


A1, B1, MP1 = {"A1": "active"}, {"B1": "active"}, {"MP1": "done"}
SCENES = {
    "start": Scene(("start", "A1"), "repo", fresh_start, A1, "ws-A", "B1"),
    "start-next": Scene(("start", "A2"), "ws-A", next_start, {"A2": "active"}, "ws-A", "B1"),
    "verify": Scene(("verify", "A1"), "ws-A", committed, {"A1": "done"}, "ws-A", "B1", 1),
    "verify-uncommitted": Scene(("verify", "A1"), "ws-A", uncommitted, A1, "ws-A", "B1"),
    "merge": Scene(("merge", "MP1"), "repo", mergeable, MP1, "repo", "A2", 1),
    "continue": Scene(("merge", "MP1", "--continue"), "repo", conflicting, MP1, "repo", "A2", 1),
}


# --- what comes next ---------------------------------------------------------------------------


def user_git(lab: Lab, tree: Repo, *args: str) -> None:
    """A git command of the user's, who does what the errors say."""
    done = lab.git(*args, cwd=tree.path)
    for _ in range(4):
        if "gitwaves sync" in done.err:  # our hook refused the commit, and says what to do
            lab.recovers("sync", cwd=tree.path)
        elif done.code == 0 or not lab.follow(done):
            return
        done = lab.git(*args, cwd=tree.path)
    raise AssertionError(f"no end to it: {done}")


def go_on(lab: Lab, scene: Scene, action: str) -> None:
    """What the user does after the kill."""
    tree = lab.tree(scene.beside)
    if not (tree.path / ".git").exists():
        tree = lab.repo
    folder = "a/" if tree.path.name == "ws-A" else ""
    if action in {"sync", "status", "next"}:
        lab.recovers(action, cwd=tree.path)
    elif action == "other":
        lab.recovers("start", scene.task, cwd=lab.repo.path)
    elif action == "commit":
        tree.write(f"{folder}plain.txt", "plain\n")
        user_git(lab, tree, "add", f"{folder}plain.txt")
        user_git(lab, tree, "commit", "-q", "-m", "plain")
    elif action in {"commit-a", "partial"}:
        file = f"{folder}clean.txt"
        tree.write(file, "changed\n")
        if action == "partial":
            user_git(lab, tree, "commit", "-q", "-m", "partial", "--", file)
        else:
            user_git(lab, tree, "commit", "-q", "-a", "-m", "all")
    elif action == "rebase":
        tree = lab.tree("ws-A")
        if (tree.path / ".git").exists():
            user_git(lab, tree, "rebase", "-q", "--autostash", "main")


ACTIONS = ("same", "sync", "status", "next", "other", "commit", "commit-a", "partial", "rebase")


def modes_of(write: str) -> list[str]:
    """The ways to die at a write."""
    kind, _, what = write.partition(" ")
    if kind == "write":
        return ["before", "torn"]
    if kind != "git":
        return ["before"]
    found = ["before", "orphan"]
    if what in {"update-ref", "merge", "worktree add"}:
        found.append("prepared")
    if what in {"merge", "worktree add"}:
        found += ["checkout-0", "checkout-2"]
    return found


def die_and_go_on(lab: Lab, scene: Scene, at: int, mode: str, action: str) -> None:
    lab.restore()
    before = lab.work()
    dead = lab.kill(at, mode, *scene.argv, cwd=lab.tree(scene.where).path)
    if mode.startswith("checkout-") and dead.code == 0:
        return  # there were not so many files
    assert dead.code == KILLED, dead
    lab.require_kept(before)
    go_on(lab, scene, action)
    rebased, taken = action == "rebase", action == "commit-a"
    lab.require_kept(before, rebased=rebased, taken=taken)
    lab.require_true()
    done = lab.recovers(*scene.argv, cwd=lab.tree(scene.where).path)
    lab.require_kept(before, rebased=rebased, taken=taken)
    states = lab.require_true()
    if rebased:
        return
    assert done.code in {0, scene.again}, done
    lab.require_nothing_else_changed(before)
    assert {t: states[t] for t in scene.wanted} == scene.wanted, (done, states)
