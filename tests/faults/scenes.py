"""The commands that are killed, what stands before them, and what holds once they went through."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.harness import Lab
from tests.landing import SEPARATOR
from tests.repo import Repo

TASKS = {"A1": "[]", "A2": "[A1]", "B1": "[]", "B2": "[A1, B1]", "C1": "[MP1]"}
# What an agent does: its task's file, committed. It tells when two of them are at one task.
AGENT = """\
exec 9>"$OVERLAPS/$GITWAVES_TASK"
flock -n 9 || echo "$GITWAVES_TASK" >>"$OVERLAPS/said"
low=$(echo "$GITWAVES_TASK" | tr A-Z a-z)
mkdir -p "${low%?}"
sleep 0.2
echo ok >"${low%?}/$low.txt"
git add -A
git commit -qm "$GITWAVES_TASK"
"""
COMMIT = ("commit", "-q", "-m", "Do A1\n\nLearned: it is easy")


@dataclass(frozen=True)
class Scene:
    """A command that is killed, in its surroundings."""

    argv: tuple[str, ...]
    where: str  # the worktree it is called in
    prepare: Callable[[Lab], None]
    wanted: dict[str, str] = field(default_factory=dict)  # states, once it has gone through
    beside: str = "repo"  # the worktree in which the user goes on
    task: str = "B1"  # another that can be started
    again: int = 0  # the exit code of the same command once it has gone through
    hook: str = ""  # it is killed in this hook of `git commit`; `argv` is what is run after
    remote: bool = False
    threads: bool = False  # which write is the N-th differs from run to run


def planned(lab: Lab, *, tasks: tuple[str, ...] = tuple(TASKS), config: str = "") -> None:
    """The plan: MP1 takes A1 and B1, C1 needs it."""
    repo = Repo.init(lab.repo.path)
    profile = {"script": {"command": ["sh", "-c", AGENT], "env": {"OVERLAPS": str(lab.tools)}}}
    repo.write(
        ".workstreams/config.yaml",
        "version: 1\ntitle: Faults\ntrunk: main\nshared_paths: [shared.txt]\nagent: script\n"
        f"profiles: {json.dumps(profile)}\n{config}",
    )
    repo.write(".workstreams/.gitattributes", "* -text\n")
    for name in sorted({task[0] for task in tasks}):
        repo.write(
            f".workstreams/WS-{name}/workstream.yaml",
            f"title: {name}\npaths: [{name.lower()}/**]\n",
        )
    for task in tasks:
        repo.write(
            f".workstreams/WS-{task[0]}/{task}.yaml",
            f"id: {task}\ntitle: Task {task}\ndepends_on: {TASKS[task]}\n"
            f"verify:\n  - run: grep -q ok {task[0].lower()}/{task.lower()}.txt\n"
            f"{SEPARATOR}tracking:\n  task: {task}\n  status: planned\n",
        )
    repo.write(
        ".workstreams/merge-points/MP1.yaml",
        f"id: MP1\ntitle: The first\nrequires: [A1, B1]\n{SEPARATOR}"
        "tracking:\n  task: MP1\n  status: planned\n",
    )
    names = ("README", "mine.txt", "staged.txt", "shared.txt", "clean.txt")
    repo.commit("Plan the work", **dict.fromkeys(names, "one\n"), **{".gitignore": "*.log\n"})
    lab.gw_ok("hooks", "install")
    killable(lab)


def killable(lab: Lab) -> None:
    """Lets checkouts and hooks be killed, when a fault says so."""
    lab.repo.write(".git/info/attributes", "* filter=fault\n")
    lab.hooks_through(lab.tools / "hook-python")


def with_work(tree: Repo, folder: str = "") -> None:
    """Work of every kind: staged, staged and changed again, unstaged, untracked, ignored."""
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


def shared(lab: Lab) -> None:
    """The plan and its remote, which is on this machine."""
    planned(lab, config="remote: origin\n")
    origin = Repo(lab.base / "origin.git")
    origin.path.mkdir()
    origin.git("init", "-q", "--bare", "-b", "main")
    lab.repo.git("remote", "add", "origin", str(origin.path))
    lab.repo.git("push", "-q", "origin", "main")


# --- what stands before ------------------------------------------------------------------------


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


def remote_start(lab: Lab) -> None:
    shared(lab)
    with_work(lab.repo)


def remote_next_start(lab: Lab) -> None:
    shared(lab)
    finished(lab, "A1")


def committed(lab: Lab) -> None:
    """All of A1 is committed, beside an ignored file and work of every kind on trunk."""
    planned(lab)
    tree = built(lab, "A1", **{"a/mine.txt": "one\n", "a/staged.txt": "one\n"})
    tree.write("a/kept.log", "ignored\n")
    with_work(lab.repo)


def remote_committed(lab: Lab) -> None:
    shared(lab)
    tree = built(lab, "A1")
    tree.write("a/kept.log", "ignored\n")


def uncommitted(lab: Lab) -> None:
    """A1's file is there, with work of every kind, none of it committed."""
    planned(lab)
    tree = started(lab, "A1")
    tree.commit("Begin", **{f"a/{n}.txt": "one\n" for n in ("mine", "staged", "clean")})
    tree.write("a/a1.txt", "ok A1\n")
    with_work(tree, "a/")


def verified(lab: Lab) -> None:
    """What was verified is staged; the user has gone on with other files."""
    uncommitted(lab)
    tree = lab.tree("ws-A")
    lab.gw_ok("verify", cwd=tree.path)
    tree.git("add", "-A")
    tree.write("a/mine.txt", "three, not staged\n")
    tree.write("a/late.txt", "not tracked\n")
    # the shim could rule the commit in by itself: here Python is to look
    (lab.repo.path / ".git/gitwaves/at-work/ws%2FA.paths").unlink()


def mergeable(lab: Lab) -> None:
    planned(lab)
    finished(lab, "A1", **{"a/more.txt": "more\n"})
    tree = finished(lab, "B1")
    tree.write("b/kept.log", "ignored\n")
    with_work(lab.repo)


def remote_mergeable(lab: Lab) -> None:
    shared(lab)
    finished(lab, "A1")
    finished(lab, "B1")
    with_work(lab.repo)


def conflicting(lab: Lab) -> None:
    planned(lab)
    finished(lab, "A1", **{"shared.txt": "A\n"})
    finished(lab, "B1", **{"shared.txt": "B\n"})
    with_work(lab.repo)


def resolved(lab: Lab) -> None:
    """MP1's tasks conflict in a shared file; a person has resolved it, and not committed."""
    conflicting(lab)
    assert lab.gw("merge", "MP1").code == 1
    tree = lab.tree("resolve-MP1")
    tree.write("shared.txt", "A and B\n")
    tree.git("add", "shared.txt")


def runnable(lab: Lab) -> None:
    planned(lab, tasks=("A1", "B1", "C1"), config="agents: 2\n")
    with_work(lab.repo)


A1, MP1 = {"A1": "active"}, {"MP1": "done"}
DONE = {"A1": "done"}
SCENES = {
    "start": Scene(("start", "A1"), "repo", fresh_start, A1, "ws-A"),
    "start-next": Scene(("start", "A2"), "ws-A", next_start, {"A2": "active"}, "ws-A"),
    "start-remote": Scene(("start", "A1"), "repo", remote_start, A1, "ws-A", remote=True),
    "start-next-remote": Scene(
        ("start", "A2"), "repo", remote_next_start, {"A2": "active"}, "ws-A", remote=True
    ),
    "verify": Scene(("verify", "A1"), "ws-A", committed, DONE, "ws-A", again=1),
    "verify-remote": Scene(
        ("verify", "A1"), "ws-A", remote_committed, DONE, "ws-A", again=1, remote=True
    ),
    "verify-uncommitted": Scene(("verify", "A1"), "ws-A", uncommitted, A1, "ws-A"),
    "commit-msg": Scene(("sync",), "ws-A", verified, {}, "ws-A", hook="commit-msg"),
    "post-commit": Scene(("sync",), "ws-A", verified, DONE, "ws-A", hook="post-commit"),
    "merge": Scene(("merge", "MP1"), "repo", mergeable, MP1, task="A2", again=1),
    "merge-remote": Scene(
        ("merge", "MP1"), "repo", remote_mergeable, MP1, task="A2", again=1, remote=True
    ),
    "conflict": Scene(("merge", "MP1"), "repo", conflicting, {"MP1": "ready"}, task="A2", again=1),
    "continue": Scene(("merge", "MP1", "--continue"), "repo", resolved, MP1, task="A2", again=1),
    "run": Scene(
        ("run",), "repo", runnable, {**DONE, **MP1, "C1": "done"}, task="A1", threads=True
    ),
}
