"""Laws 2, 3 and 4: whatever people and gitwaves do in any order, what is shown is what is so."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitwaves import claims, hooks, merging, verifying
from gitwaves.errors import Conflict, GitwavesError, LostClaim, NotReady, Refused
from gitwaves.git import Repo
from gitwaves.model import Progress
from gitwaves.store import Store
from tests import naive

EXPECTED = (NotReady, Refused, Conflict, LostClaim)
SHOWN = {"done", "active", "failed", "stale", "unproven"}


@dataclass(frozen=True, slots=True)
class Plan:
    """A small plan: `needs` of a task name earlier ones; the last task may wait for MP1."""

    counts: tuple[int, ...]  # tasks of each workstream
    needs: tuple[int, ...]  # a bit for each earlier task
    requires: int  # a bit for each task but the last
    unlocks: bool
    hooks: bool

    @property
    def tasks(self) -> list[str]:
        most = max(self.counts)
        return [
            f"{'ABC'[w]}{n + 1}"
            for n in range(most)
            for w, count in enumerate(self.counts)
            if n < count
        ]

    def needs_of(self, number: int) -> list[str]:
        bits = self.needs[number % len(self.needs)]
        earlier = self.tasks[:number]
        return [t for n, t in enumerate(earlier) if bits >> n & 1][:2]

    def required(self) -> list[str]:
        picked = [t for n, t in enumerate(self.tasks[:-1]) if self.requires >> n & 1]
        return picked or self.tasks[:1]


@dataclass
class World:
    """A repository with its worktrees, and what users did in it."""

    top: Path
    plan: Plan
    log: list[str] = field(default_factory=list)
    serial: int = 0

    @classmethod
    def make(cls, top: Path, plan: Plan) -> World:
        world = cls(top / "repo", plan)
        world.top.mkdir()
        world.git(world.top, "init", "-q", "-b", "main")
        root = world.top / ".workstreams"
        (root / "merge-points").mkdir(parents=True)
        (root / "config.yaml").write_text("version: 1\ntitle: Truth\ntrunk: main\nlearnings: []\n")
        (root / ".gitattributes").write_text("* -text\n")
        for w in range(len(plan.counts)):
            letter = "ABC"[w]
            (root / f"WS-{letter}").mkdir()
            (root / f"WS-{letter}/workstream.yaml").write_text(
                f"title: {letter}\npaths: ['{letter.lower()}/**']\n"
            )
        for number, task in enumerate(plan.tasks):
            needs = plan.needs_of(number)
            if plan.unlocks and task == plan.tasks[-1]:
                needs.append("MP1")
            file = world.file_of(task)
            (root / f"WS-{task[0]}/{task}.yaml").write_text(
                f"id: {task}\ntitle: Task {task}\ndepends_on: [{', '.join(needs)}]\n"
                f"spec: |\n  Build {task}.\nverify:\n  - run: grep -q ok {file}\n"
                f"{naive.SEPARATOR}\ntracking:\n  task: {task}\n  status: planned\n"
            )
        (root / "merge-points/MP1.yaml").write_text(
            f"id: MP1\ntitle: One\nrequires: [{', '.join(plan.required())}]\n"
            f"{naive.SEPARATOR}\ntracking:\n  task: MP1\n  status: planned\n"
        )
        (world.top / "README").write_text("read me\n")
        world.git(world.top, "add", "-A")
        world.git(world.top, "commit", "-q", "-m", "plan")
        if plan.hooks:
            hooks.install(Repo.open(world.top))
        return world

    # --- what is there -------------------------------------------------------------------------

    @staticmethod
    def file_of(task: str) -> str:
        return f"{task[0].lower()}/{task}.txt"

    def tree_of(self, task: str) -> Path:
        return self.top.parent / "repo.worktrees" / f"ws-{task[0]}"

    def store(self, path: Path | None = None) -> Store:
        return Store(Repo.open(path or self.top))

    @staticmethod
    def git(path: Path, *args: str, check: bool = True) -> str:
        done = subprocess.run(
            ["git", *args], cwd=path, capture_output=True, text=True, check=False, env=os.environ
        )
        assert not check or done.returncode == 0, f"git {args}: {done.stdout}{done.stderr}"
        return done.stdout if done.returncode == 0 else ""

    def heads(self) -> dict[str, str]:
        out = self.git(
            self.top, "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads"
        )
        pairs = (line.split() for line in out.splitlines())
        return {name: oid for name, oid in pairs if name != "gitwaves/dashboard"}

    def checkouts(self) -> list[Path]:
        out = self.git(self.top, "worktree", "list", "--porcelain")
        return [
            Path(line.split(" ", 1)[1]) for line in out.splitlines() if line.startswith("worktree ")
        ]

    def dirty(self) -> dict[Path, set[str]]:
        return {
            path: set(self.git(path, "status", "--porcelain", "--untracked-files=all").splitlines())
            for path in self.checkouts()
        }

    @staticmethod
    def content(path: Path) -> dict[str, bytes]:
        return {
            str(p.relative_to(path)): p.read_bytes()
            for p in path.rglob("*")
            if p.is_file() and ".git" not in p.parts and ".workstreams" not in p.parts
        }

    # --- what gitwaves does --------------------------------------------------------------------

    def ours(self, what: str, call: Callable[[], object]) -> bool:
        """Runs a command of gitwaves: branches only grow, and a refusal leaves all as it was."""
        heads, dirty = self.heads(), self.dirty()
        error: GitwavesError | None = None
        try:
            call()
        except EXPECTED as caught:
            error = caught
        if error is not None:
            self.log.append(f"{what}: {type(error).__name__} {error}")
            assert self.heads() == heads, f"{what} was refused, and moved a branch"
            after = self.dirty()
            assert {p: d for p, d in after.items() if p in dirty} == dirty, f"{what} was refused"
            assert set(after) == set(dirty) or isinstance(error, Conflict), (
                f"{what} left a checkout"
            )
            for path in set(after) - set(dirty):  # left for `merge --continue`: nobody goes on
                self.git(self.top, "worktree", "remove", "--force", str(path))
            return False
        self.log.append(what)
        now = self.heads()
        for name, oid in heads.items():
            assert naive.contains(self.top, now[name], oid), f"{what} lost commits of {name}"
        for path, was in dirty.items():
            assert self.dirty()[path] == was, f"{what} changed what is uncommitted in {path}"
        return True

    def start(self, task: str) -> None:
        before = self.store().snapshot()
        fresh = before.facts[task].tracking.status not in claims.BEGUN
        done = self.ours(
            f"start {task}", lambda: claims.start(self.store(), task, trust_trunk=True)
        )
        if not done or not fresh:
            return
        head = self.git(self.tree_of(task), "rev-parse", "HEAD").strip()
        for need in before.cards.tasks[before.require_task(task)].depends_on:
            evidence = before.facts[need].tracking.evidence
            if need == "MP1":
                assert naive.contains(self.top, head, self.heads()["main"]), (
                    f"{task} starts without MP1"
                )
                continue
            assert evidence is not None
            assert naive.contains(self.top, head, evidence.commit), f"{task} starts without {need}"
            if need[0] != task[0]:
                text = naive.git(self.top, "show", f"HEAD:{self.file_of(need)}") or naive.git(
                    self.tree_of(task), "show", f"HEAD:{self.file_of(need)}"
                )
                assert "ok" in (text or ""), f"{task} starts without the code of {need}"

    def verify(self, task: str) -> None:
        path = self.tree_of(task)
        if path.is_dir():
            call = lambda: verifying.verify(self.store(path), None, trust_trunk=True)  # noqa: E731  # one line of several alike, chosen between
            self.ours(f"verify in {path.name}", call)

    def merge(self, how: int) -> None:
        if how == 0:
            self.ours("merge --rest", lambda: merging.rest(self.store(), trust_trunk=True))
        else:
            call = lambda: merging.merge(self.store(), "MP1", again=how == 2, trust_trunk=True)  # noqa: E731  # one line of several alike, chosen between
            self.ours("merge MP1" + (" --again" if how == 2 else ""), call)

    def sync(self) -> None:
        self.ours("sync", lambda: verifying.sync(self.store()))

    def release(self, task: str) -> None:
        self.ours(f"release {task}", lambda: claims.release(self.store(), task))

    # --- what people do ------------------------------------------------------------------------

    def theirs(self, what: str, path: Path, *args: str) -> bool:
        """Runs git as a user does, hooks and all: their files are what they were."""
        self.log.append(what)
        before, dirty = self.content(path), self.dirty()[path]
        done = subprocess.run(["git", *args], cwd=path, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert self.content(path) == before, f"{what} changed files: {said}"
        paths = {line[3:] for line in dirty}
        left = {line[3:] for line in self.dirty()[path]}
        assert left <= paths, f"{what} left {left - paths}: {said}"
        return done.returncode == 0

    def edit(self, task: str, good: bool, how: int, note: bool) -> None:
        path = self.tree_of(task)
        if not path.is_dir():
            return
        self.serial += 1
        file, beside = self.file_of(task), f"{task[0].lower()}/note.txt"
        target = path / file
        target.parent.mkdir(exist_ok=True)
        target.write_text(f"{'ok' if good else 'bad'} {self.serial}\n")
        if note:
            (path / beside).write_text(f"note {self.serial}\n")
        self.git(path, "add", file)
        head = self.git(path, "rev-parse", "HEAD").strip()
        commit = ("commit", "-q", "-m", f"work on {task} {self.serial}")
        ways: list[tuple[str, tuple[str, ...]]] = [
            ("plain", commit),
            ("all", (*commit, "-a")),
            ("partial", (*commit, "--", file)),
            ("amend", ("commit", "-q", "--amend", "--no-edit")),
            ("no hooks", ("-c", "core.hooksPath=/dev/null", *commit)),
            ("unverified", (*commit, "-n")),
            ("not yet", ("status",)),
        ]
        name, args = ways[how % len(ways)]
        if name == "partial" and note:
            self.git(path, "add", beside)
        if name == "amend" and self.git(self.top, "branch", "--contains", head, "main"):
            args = commit  # nobody amends what is on trunk
        did = self.theirs(f"{name} commit of {task} ({'ok' if good else 'bad'})", path, *args)
        assert did, f"{name}: {args}"
        now = self.git(path, "rev-parse", "HEAD").strip()
        if name == "amend":
            parents = self.git(path, "rev-parse", f"{head}^@").split()
        else:
            parents = [head]
        assert all(naive.contains(path, now, p) for p in parents), f"{name} lost commits"

    def do(self, task: str, how: int) -> None:
        """All of a task at once, where it can start."""
        self.start(task)
        if self.store().snapshot().facts[task].tracking.status in claims.BEGUN:
            self.edit(task, True, how, False)
            self.verify(task)
            self.tidy(task)

    def tidy(self, task: str) -> None:
        path = self.tree_of(task)
        if path.is_dir():
            self.git(path, "add", "-A")
            self.theirs(f"tidy {path.name}", path, "commit", "-q", "-m", "the rest")

    def rebase(self, task: str) -> None:
        path = self.tree_of(task)
        if path.is_dir() and not self.dirty()[path]:
            self.log.append(f"rebase {path.name}")
            if not self.git(path, "rebase", "-q", "main", check=False):
                self.git(path, "rebase", "--abort", check=False)

    def pull(self, task: str) -> None:
        """A user merges trunk by hand."""
        path = self.tree_of(task)
        if path.is_dir() and not self.dirty()[path]:
            self.log.append(f"merge main in {path.name}")
            self.git(path, "merge", "-q", "--no-edit", "main", check=False)
            if self.git(path, "ls-files", "-u") or self.dirty()[path]:
                self.git(path, "merge", "--abort")

    def forge(self, task: str, squash: bool) -> None:
        """A forge lands a branch, as one commit or with a merge commit."""
        branch = f"ws/{task[0]}"
        if branch not in self.heads() or self.dirty()[self.top]:
            return
        self.log.append(f"forge lands {branch}{' squashed' if squash else ''}")
        self.git(
            self.top,
            "merge",
            "-q",
            *(["--squash"] if squash else ["--no-ff", "--no-edit"]),
            branch,
            check=False,
        )
        if self.git(self.top, "ls-files", "-u"):
            self.git(self.top, "reset", "-q", "--hard")
        elif squash:
            self.git(self.top, "commit", "-q", "-m", f"squash {branch}", check=False)

    def revert(self) -> None:
        out = self.git(
            self.top, "log", "--first-parent", "--merges", "-1", "--format=%H", "main"
        ).strip()
        if out and not self.dirty()[self.top]:
            self.log.append(f"revert {out[:8]}")
            self.git(self.top, "revert", "--no-edit", "-m", "1", out, check=False)
            if self.git(self.top, "status", "--porcelain"):
                self.git(self.top, "revert", "--abort")

    def respec(self, task: str, back: bool) -> None:
        self.log.append(f"spec of {task} {'back' if back else 'changed'}")
        card = self.top / f".workstreams/WS-{task[0]}/{task}.yaml"
        spec, line, tracking = card.read_text().partition(naive.SEPARATOR)
        self.serial += 1
        text = "" if back else f" Version {self.serial}."
        head = spec.partition("spec: |")[0]
        spec = f"{head}spec: |\n  Build {task}.{text}\nverify:\n  - run: grep -q ok {self.file_of(task)}\n"
        card.write_text(spec + line + tracking)
        self.git(self.top, "commit", "-q", "-a", "--allow-empty", "-m", f"spec of {task}")

    def forged(self, task: str) -> None:
        path = self.tree_of(task)
        if not path.is_dir():
            return
        self.log.append(f"{task} done by hand")
        card = path / f".workstreams/WS-{task[0]}/{task}.yaml"
        spec = card.read_text().partition(naive.SEPARATOR)[0]
        card.write_text(f"{spec}{naive.SEPARATOR}\ntracking:\n  task: {task}\n  status: done\n")
        self.git(path, "commit", "-q", "-n", "-m", "done, trust me", "--", str(card), check=False)

    # --- what must hold ------------------------------------------------------------------------

    def check(self) -> None:
        store = self.store()
        snapshot = store.snapshot()
        shown: Progress = store.progress(snapshot)
        for task in self.plan.tasks:
            view = shown.tasks[snapshot.require_task(task)]
            plain = naive.read(self.top, task, f"WS-{task[0]}", f"ws/{task[0]}")
            state = view.state if view.state in SHOWN else "other"
            assert state == plain.state, f"{task} is {plain.state}, shown as {state}: {view.reason}"
            assert snapshot.facts[task].landed == plain.landed, task
            if view.state != "done":
                continue
            assert plain.evidence is not None
            commit = plain.evidence["commit"]
            assert naive.code_tree(self.top, commit) == plain.evidence["tree"]
            text = naive.git(self.top, "show", f"{commit}:{self.file_of(task)}")
            assert text is not None
            assert "ok" in text, f"{task} is shown as done, and never passed"
        for name in self.heads():
            marked = naive.git(
                self.top, "grep", "-lE", "^(<<<<<<<|>>>>>>>)", name, "--", ".workstreams"
            )
            assert not marked, f"conflict markers: {marked}"
        for path, lines in self.dirty().items():
            assert not [line for line in lines if ".workstreams" in line], f"{path}: {lines}"

    def end(self) -> None:
        said = self.git(self.top, "fsck", "--full", "--strict", "--no-dangling")
        assert said == "", said


# An action: its name, a number that picks the task, two more that pick how.
NAMES = (
    "do do do do do do do do start ok bad verify later sync merge merge rest again revert "
    "rebase respec respec forged forged tidy release squash land pull"
).split()
plans = st.builds(
    Plan,
    counts=st.lists(st.integers(2, 3), min_size=2, max_size=3).map(tuple),
    needs=st.lists(st.sampled_from([0, 0, 1, 2, 4, 5, 16]), min_size=9, max_size=9).map(tuple),
    requires=st.integers(1, 15),
    unlocks=st.booleans(),
    hooks=st.booleans(),
)
deeds = st.tuples(st.sampled_from(NAMES), st.integers(0, 8), st.integers(0, 13), st.integers(0, 4))


def act(world: World, deed: tuple[str, int, int, int]) -> None:
    name, number, how, more = deed
    task = world.plan.tasks[number % len(world.plan.tasks)]
    doing: dict[str, Callable[[], object]] = {
        "do": lambda: world.do(task, how),
        "start": lambda: world.start(task),
        "ok": lambda: world.edit(at_work(world, task), True, how, more == 0),
        "later": lambda: world.edit(at_work(world, task), True, 6, False),
        "bad": lambda: world.edit(at_work(world, task), False, how, more == 0),
        "verify": lambda: world.verify(task),
        "sync": world.sync,
        "merge": lambda: world.merge(1),
        "again": lambda: world.merge(2),
        "rest": lambda: world.merge(0),
        "revert": world.revert,
        "rebase": lambda: world.rebase(task),
        "respec": lambda: world.respec(task, more < 2),
        "forged": lambda: world.forged(task),
        "tidy": lambda: world.tidy(task),
        "release": lambda: world.release(task),
        "squash": lambda: world.forge(task, True),
        "land": lambda: world.forge(task, False),
        "pull": lambda: world.pull(task),
    }
    doing[name]()


def at_work(world: World, task: str) -> str:
    """The task at work in the worktree of `task`: agents do what they were started for."""
    snapshot = world.store().snapshot()
    found = claims.at_work(snapshot, snapshot.cards.branch_of(snapshot.require_task(task)))
    return found or task


def ending(plan: Plan) -> list[tuple[str, int, int, int]]:
    """What chance seldom reaches: whatever went before, work lands, is reverted, and goes on."""
    work = [("do", number, 0, 1) for number in range(len(plan.tasks))]
    back = [(name, 0, 0, 1) for name in ("tidy", "merge", "rest", "revert")]
    return [*work, *back, ("do", 0, 1, 1), ("again", 0, 0, 1), ("revert", 0, 0, 1)]


def live(plan: Plan, steps: list[tuple[str, int, int, int]]) -> None:
    with tempfile.TemporaryDirectory(prefix="truth-") as folder:
        world = World.make(Path(folder).resolve(), plan)
        try:
            world.check()
            for deed in [*steps, *ending(plan)]:
                act(world, deed)
                world.check()
            world.end()
        except (AssertionError, GitwavesError) as error:
            note = "\n".join([f"plan: {plan}", *world.log])
            raise AssertionError(f"{error}\n{note}") from error


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans, steps=st.lists(deeds, min_size=8, max_size=8))
def test_what_is_shown_is_what_a_plain_reader_finds(
    plan: Plan, steps: list[tuple[str, int, int, int]]
) -> None:
    live(plan, steps)


@pytest.mark.long
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans, steps=st.lists(deeds, min_size=30, max_size=30))
def test_what_is_shown_is_so_after_long_histories(
    plan: Plan, steps: list[tuple[str, int, int, int]]
) -> None:
    live(plan, steps)


# --- histories by hand, each of which a random one reaches too seldom ---


def finished(world: World, *tasks: str) -> None:
    """Each task started, built, committed and verified."""
    for task in tasks:
        world.start(task)
        world.edit(task, True, 0, False)
        world.verify(task)
        assert states(world)[task] == "done", world.log


def states(world: World) -> dict[str, str]:
    return {str(t): str(v.state) for t, v in world.store().progress().tasks.items()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A1 + B1 -> MP1 -> B2; A2 needs nothing."""
    return World.make(tmp_path.resolve(), Plan((2, 2), (0,) * 9, 3, True, False))


def landed(world: World) -> None:
    finished(world, "A1", "B1")
    world.merge(1)
    world.check()
    assert world.log[-1] == "merge MP1"


def test_a_revert_takes_the_state_back_and_again_brings_it(world: World) -> None:
    landed(world)
    finished(world, "B2")
    world.revert()
    world.check()
    assert states(world) == {"A1": "runnable", "A2": "runnable", "B1": "runnable", "B2": "done"}
    assert set(world.content(world.top)) == {"README"}
    world.merge(1)
    assert "NotReady" in world.log[-1]
    world.merge(2)
    world.check()
    assert set(world.content(world.top)) == {"README", "a/A1.txt", "b/B1.txt"}
    world.revert()
    world.check()
    assert states(world)["A1"] == "runnable"
    world.end()


def test_what_was_done_anew_after_a_revert_lands(world: World) -> None:
    landed(world)
    world.revert()
    finished(world, "A1", "B1")
    world.merge(2)
    world.check()
    assert world.log[-1] == "merge MP1 --again"
    file = world.file_of("A1")
    assert (world.top / file).read_bytes() == (world.tree_of("A1") / file).read_bytes()
    world.end()


def test_work_goes_on_after_a_squash(world: World) -> None:
    finished(world, "A1")
    world.forge("A1", True)
    world.check()
    assert states(world)["A1"] == "done"
    finished(world, "A2")
    world.merge(0)
    finished(world, "B1")
    world.merge(1)
    world.check()
    assert set(states(world).values()) == {"done", "runnable"}
    world.end()


def test_local_changes_on_trunk_are_never_overwritten(world: World) -> None:
    finished(world, "A1", "B1")
    (world.top / "a").mkdir()
    (world.top / "a/A1.txt").write_text("mine")
    world.merge(1)
    assert "Refused" in world.log[-1]
    (world.top / "a/A1.txt").unlink()
    (world.top / "README").write_text("also mine")
    world.merge(1)
    assert world.log[-1] == "merge MP1"
    assert (world.top / "README").read_text() == "also mine"


def test_a_landed_task_stays_done_without_its_branch(world: World) -> None:
    landed(world)
    world.git(world.top, "worktree", "remove", str(world.tree_of("A1")))
    world.git(world.top, "branch", "-q", "-D", "ws/A")
    world.check()
    assert states(world)["A1"] == "done"
    finished(world, "A2")


def test_a_task_that_went_stale_is_done_again(world: World) -> None:
    finished(world, "A1")
    world.respec("A1", False)
    world.check()
    assert states(world)["A1"] == "stale"
    finished(world, "A1")
    finished(world, "B1")
    world.merge(1)
    world.check()
    assert world.log[-1] == "merge MP1"
    world.end()


def test_done_by_hand_is_unproven_and_opens_nothing(world: World) -> None:
    finished(world, "B1")
    world.start("A1")
    world.edit("A1", False, 5, False)
    world.forged("A1")
    world.check()
    assert states(world)["A1"] == "unproven"
    world.merge(1)
    assert "NotReady" in world.log[-1]
    world.merge(0)
    assert set(world.content(world.top)) == {"README"}


def test_a_merge_takes_done_commits_and_no_half_done_work(world: World) -> None:
    finished(world, "A1", "B1")
    world.start("A2")
    world.edit("A2", False, 0, False)
    world.merge(1)
    world.check()
    assert world.log[-1] == "merge MP1"
    assert set(world.content(world.top)) == {"README", "a/A1.txt", "b/B1.txt"}
    assert states(world)["A2"] == "active"
