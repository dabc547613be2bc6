"""Random histories: a small plan in a real repository, and what people and gitwaves do to it.

After each deed what is shown is compared with `tests/naive.py`, a second reader with none of this
code, and with a ledger that the verify steps keep themselves: which content passed, of which spec.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as varied
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gitwaves import advancing, claims, hooks, merging, remaining, renewing, verifying
from gitwaves.errors import Conflict, GitwavesError, LostClaim, NotReady, Refused
from gitwaves.git import Repo
from gitwaves.jsonout import status_json
from gitwaves.model import Gap, TaskId, Tracking
from gitwaves.record import replace
from gitwaves.store import BEGUN, Store
from tests import naive

EXPECTED = (NotReady, Refused, Conflict, LostClaim)
T = TypeVar("T")
Deed = tuple[str, int, int, int]  # its name, a number that picks the task, two more that pick how

# Notes that a step of task $1, version $2 of its spec, passed on exactly the files that are here.
PASSED = """\
files=$(find . -name .git -prune -o -name .workstreams -prune -o -type f -print |
	sed 's,^[.]/,,' | LC_ALL=C sort)
{ echo "$files"; echo "$files" | git hash-object --no-filters --stdin-paths; } |
	sha256sum | cut -c1-64 >>"${0%/*}/$1.$2"
"""


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
    _plain: tuple[str, naive.Whole] | None = None
    _unmarked: set[str] = field(default_factory=set)  # commits whose cards hold no conflict

    @classmethod
    def make(cls, top: Path, plan: Plan) -> World:
        world = cls(top / "repo", plan)
        world.top.mkdir()
        world.ledger.mkdir()
        (world.ledger / "passed").write_text(PASSED)
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
            (root / f"WS-{task[0]}/{task}.yaml").write_text(
                f"id: {task}\ntitle: Task {task}\ndepends_on: [{', '.join(needs)}]\n"
                f"{world.spec(task, 0)}{naive.SEPARATOR}\n"
                f"tracking:\n  task: {task}\n  status: planned\n"
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

    @property
    def ledger(self) -> Path:
        return self.top.parent / "ledger"

    @staticmethod
    def file_of(task: str) -> str:
        return f"{task[0].lower()}/{task}.txt"

    @staticmethod
    def card_of(task: str) -> str:
        return f".workstreams/WS-{task[0]}/{task}.yaml"

    def spec(self, task: str, version: int) -> str:
        step = f"grep -q ok {self.file_of(task)} && sh {self.ledger}/passed {task} {version}"
        return f"spec: |\n  Build {task}, version {version}.\nverify:\n  - run: {step}\n"

    def tree_of(self, task: str) -> Path:
        return self.top.parent / "repo.worktrees" / f"ws-{task[0]}"

    def store(self, path: Path | None = None) -> Store:
        return Store(Repo.open(path or self.top))

    def plain(self) -> naive.Whole:
        """What the plain reader says: a function of the references, so read once for each."""
        refs = self.git(self.top, "for-each-ref", "refs/heads")
        if self._plain is None or self._plain[0] != refs:
            self._plain = (refs, naive.read_all(self.top))
        return self._plain[1]

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

    def dirty(self, path: Path) -> dict[str, bytes | None]:
        """What is uncommitted in a checkout: how, and the bytes."""
        out = self.git(path, "status", "--porcelain", "--untracked-files=all", "--no-renames")
        return {
            line: (path / line[3:]).read_bytes() if (path / line[3:]).is_file() else None
            for line in out.splitlines()
        }

    def all_dirty(self) -> dict[Path, dict[str, bytes | None]]:
        return {path: self.dirty(path) for path in self.checkouts() if path.is_dir()}

    @staticmethod
    def content(path: Path) -> dict[str, bytes]:
        return {
            str(p.relative_to(path)): p.read_bytes()
            for p in path.rglob("*")
            if p.is_file() and ".git" not in p.parts and ".workstreams" not in p.parts
        }

    def file_at(self, commit: str, task: str) -> str | None:
        return naive.fixed(self.top, "show", f"{commit}:{self.file_of(task)}")

    def passed(self, task: str, commit: str) -> bool:
        """Whether the steps of a task, as trunk has them, passed on the content of a commit."""
        version = self.version(task)
        try:
            noted = (self.ledger / f"{task}.{version}").read_text().split()
        except FileNotFoundError:
            return False
        return naive.content(self.top, commit) in noted

    def version(self, task: str) -> int:
        """Which version of a task's spec stands on trunk."""
        spec = naive.spec_of(self.top, self.heads()["main"], self.card_of(task))
        return int(spec.rpartition("version ")[2].partition(".")[0])

    # --- what gitwaves does --------------------------------------------------------------------

    def ours(self, what: str, call: Callable[[], T]) -> T | None:
        """Runs a command of gitwaves: branches only grow, and a refusal leaves all as it was."""
        heads, dirty = self.heads(), self.all_dirty()
        error: GitwavesError | None = None
        result: T | None = None
        try:
            result = call()
        except EXPECTED as caught:
            error = caught
        now, after = self.heads(), self.all_dirty()
        if error is not None:
            self.log.append(f"{what}: {type(error).__name__} {error}")
            assert now == heads, f"{what} was refused, and moved a branch"
            assert {p: d for p, d in after.items() if p in dirty} == dirty, f"{what} was refused"
            assert set(after) == set(dirty) or isinstance(error, Conflict), (
                f"{what} left a checkout"
            )
            for path in set(after) - set(dirty):  # left for `merge --continue`: nobody goes on
                self.git(self.top, "worktree", "remove", "--force", str(path))
            return None
        self.log.append(what)
        for name, oid in heads.items():
            assert naive.contains(self.top, now[name], oid), f"{what} lost commits of {name}"
        for path, was in dirty.items():
            assert after[path] == was, f"{what} changed what is uncommitted in {path}"
        for path in set(after) - set(dirty):
            assert not after[path], f"{what} left a checkout that is not clean"
        return result

    def start(self, task: str) -> None:
        before = self.store().snapshot()
        plain = self.plain().states
        fresh = before.facts[task].tracking.status not in BEGUN
        done = self.ours(
            f"start {task}", lambda: claims.start(self.store(), task, trust_trunk=True)
        )
        if not done or not fresh:
            return
        assert plain[task] in {"runnable", "stale", "unproven"}, f"{task} started: {plain[task]}"
        trunk = self.heads()["main"]
        head = self.git(self.tree_of(task), "rev-parse", "HEAD").strip()
        for need in before.cards.tasks[before.require_task(task)].depends_on:
            if need == "MP1":
                assert naive.contains(self.top, head, trunk), f"{task} starts without MP1"
                continue
            assert plain[need] == "done", f"{task} starts, and {need} is {plain[need]}"
            evidence = before.facts[need].tracking.evidence
            assert evidence is not None
            assert naive.contains(self.top, head, evidence.commit), f"{task} starts without {need}"
            if need[0] != task[0]:
                text = self.file_at(trunk, need) or self.file_at(head, need)
                assert "ok" in (text or ""), f"{task} starts without the code of {need}"

    def verify(self, task: str) -> None:
        path = self.tree_of(task)
        if path.is_dir():
            self.ours(
                f"verify in {path.name}",
                lambda: verifying.verify(self.store(path), None, trust_trunk=True),
            )

    def renew(self, task: str) -> None:
        self.ours(f"verify {task}", lambda: renewing.renew(self.store(), task, trust_trunk=True))

    def merge(self, how: int) -> None:
        """Lands MP1 (1), MP1 --again (2), or the rest (0): what was verified, and no more."""
        before, old = self.plain(), self.heads()["main"]
        landed: list[tuple[str, Sequence[str]]] = []
        if how == 0:
            rest = self.ours("merge --rest", lambda: remaining.rest(self.store(), trust_trunk=True))
            for one in rest[0] if rest else ():
                landed.append((one.commit, one.tasks))
                done = {t: before.states[t] for t in one.tasks}
                assert set(done.values()) == {"done"}, f"landed: {done}"
        else:
            what = "merge MP1" + (" --again" if how == 2 else "")
            point = self.ours(
                what,
                lambda: merging.merge(self.store(), "MP1", again=how == 2, trust_trunk=True),
            )
            if point is not None:
                landed.append((point.commit, self.plan.required()))
                wanted = "ready" if how == 1 else "reverted"
                assert before.states["MP1"] == wanted, f"{what}: MP1 was {before.states['MP1']}"
        for commit, tasks in landed:
            if naive.content(self.top, commit) == naive.content(self.top, f"{commit}^"):
                continue  # only what tasks taught since they landed
            for task in tasks:
                assert self.passed(task, commit), f"{task} never passed on {commit[:8]}"
        if landed:
            self._took(before, old)

    def _took(self, before: naive.Whole, old: str) -> None:
        """What landed is what was verified; of everything else trunk has what it had."""
        now, trunk = self.plain(), self.heads()["main"]
        for task in self.plan.tasks:
            card = self.card_of(task)
            assert naive.spec_of(self.top, trunk, card) == naive.spec_of(self.top, old, card)
            here = naive.fixed(self.top, "rev-parse", f"{trunk}:{self.file_of(task)}")
            if here == naive.fixed(self.top, "rev-parse", f"{old}:{self.file_of(task)}"):
                continue
            same = here in self._proven(now, trunk, self.file_of(task))
            assert same, f"{task} is on trunk otherwise than anything was verified"

    def _proven(self, now: naive.Whole, trunk: str, file: str) -> set[str | None]:
        """A file as the evidence of what landed has it: the next task of a branch may change it."""
        found = set()
        for task in self.plan.tasks:
            said = naive.tracking_of(self.top, trunk, self.card_of(task))
            if now.landed[task] and now.states[task] == "done" and said:
                proven = f"{said['evidence']['commit']}:{file}"
                found.add(naive.fixed(self.top, "rev-parse", proven))
        return found

    def sync(self) -> None:
        self.ours("sync", lambda: advancing.sync(self.store()))

    def release(self, task: str) -> None:
        self.ours(f"release {task}", lambda: claims.release(self.store(), task))

    def gap(self, task: str, affected: str) -> None:
        """A task finds the spec of another wrong."""
        self.serial += 1
        digest = self.store().snapshot().cards.digest(TaskId(affected))
        gaps = (Gap(f"gap {self.serial}", {TaskId(affected): digest}),)
        self._note(
            f"{task} finds a gap in {affected}",
            task,
            lambda t: replace(t, spec_gaps=(*t.spec_gaps, *gaps)),
        )

    def resolve(self, task: str) -> None:
        self._note(
            f"gaps of {task} settled",
            task,
            lambda t: replace(t, spec_gaps=tuple(replace(g, resolved=True) for g in t.spec_gaps)),
        )

    def _note(self, what: str, task: str, change: Callable[[Tracking], Tracking]) -> None:
        self.ours(what, lambda: advancing.note(self.store(), task, change))

    # --- what people do ------------------------------------------------------------------------

    def theirs(self, what: str, path: Path, *args: str) -> bool:
        """Runs git as a user does, hooks and all: their files are what they were."""
        self.log.append(what)
        before, dirty = self.content(path), self.dirty(path)
        done = subprocess.run(["git", *args], cwd=path, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert self.content(path) == before, f"{what} changed files: {said}"
        paths = {line[3:] for line in dirty}
        left = {line[3:] for line in self.dirty(path)}
        assert left <= paths, f"{what} left {left - paths}: {said}"
        return done.returncode == 0

    def edit(self, task: str, good: bool, how: int, note: bool) -> None:
        """Changes the file of a task, and commits it in one of many ways, or not yet."""
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
        parents = [head]
        if name == "amend" and args != commit:
            parents = self.git(path, "rev-parse", f"{head}^@").split()
        assert all(naive.contains(path, now, p) for p in parents), f"{name} lost commits"

    def do(self, task: str, how: int) -> None:
        """All of a task at once, where it can start."""
        self.start(task)
        if self.plain().states[task] in {"active", "failed"}:
            self.edit(task, True, how, False)
            self.verify(task)
            self.tidy(self.tree_of(task))

    def tidy(self, path: Path) -> None:
        if path.is_dir():
            self.git(path, "add", "-A")
            self.theirs(f"tidy {path.name}", path, "commit", "-q", "-m", "the rest")

    def dirt(self, how: int) -> None:
        """Somebody leaves work in the checkout of trunk: unstaged, staged, or in the way."""
        self.serial += 1
        self.log.append("work is left on trunk")
        name = ("README", "README", "mine.txt", self.file_of(self.plan.tasks[0]))[how % 4]
        target = self.top / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(f"ok mine {self.serial}\n")
        if how % 4 == 1:
            self.git(self.top, "add", name)

    def trunk(self, path: str = "README") -> None:
        """A commit by hand on trunk."""
        if not self.dirty(self.top):
            self.serial += 1
            self.log.append(f"{path} changed on trunk")
            (self.top / path).write_text(f"trunk {self.serial}\n")
            self.git(self.top, "commit", "-q", "-a", "-m", "by hand")

    def quiet(self, path: Path) -> bool:
        return path.is_dir() and not self.dirty(path)

    def rebase(self, task: str) -> None:
        path = self.tree_of(task)
        if self.quiet(path):
            self.log.append(f"rebase {path.name}")
            if not self.git(path, "rebase", "-q", "main", check=False):
                self.git(path, "rebase", "--abort", check=False)

    def pull(self, task: str) -> None:
        """A user merges trunk by hand."""
        path = self.tree_of(task)
        if self.quiet(path):
            self.log.append(f"merge main in {path.name}")
            self.git(path, "merge", "-q", "--no-edit", "main", check=False)
            if self.git(path, "ls-files", "-u") or self.dirty(path):
                self.git(path, "merge", "--abort")

    def amend(self, task: str) -> None:
        """A user amends other content into whatever the branch ends with."""
        path = self.tree_of(task)
        if self.quiet(path) and not self.git(path, "branch", "--contains", "HEAD", "main"):
            self.serial += 1
            target = path / self.file_of(task)
            target.parent.mkdir(exist_ok=True)
            target.write_text(f"ok amended {self.serial}\n")
            self.log.append(f"{path.name} amended")
            self.git(path, "add", "-A")
            self.git(path, "commit", "-q", "-n", "--amend", "--no-edit")

    def redone(self, task: str) -> None:
        """A user does what is said where a done commit was rewritten."""
        path = self.tree_of(task)
        evidence = self.store().snapshot().facts[task].tracking.evidence
        if self.quiet(path) and evidence:
            self.log.append(f"{task} committed anew on its evidence")
            self.git(path, "reset", "-q", evidence.commit)
            self.git(path, "restore", ".workstreams")
            self.tidy(path)
            self.verify(task)

    def reset(self, task: str, back: int) -> None:
        """A user takes commits off a branch."""
        path = self.tree_of(task)
        if self.quiet(path):
            self.log.append(f"reset {path.name} by {back}")
            self.git(path, "reset", "-q", "--hard", f"HEAD~{back}", check=False)

    def drop(self, task: str) -> None:
        """A user deletes a worktree and its branch."""
        path = self.tree_of(task)
        if path.is_dir():
            self.log.append(f"{path.name} deleted")
            self.git(self.top, "worktree", "remove", "--force", str(path))
            self.git(self.top, "branch", "-q", "-D", f"ws/{task[0]}")

    def forge(self, task: str, squash: bool) -> None:
        """A forge lands a branch, as one commit or with a merge commit."""
        branch = f"ws/{task[0]}"
        if branch not in self.heads() or self.dirty(self.top):
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
        """Somebody reverts the last merge on trunk, or its revert."""
        args = ("log", "--first-parent", "-1", "--format=%H %P", "main")
        merge = self.git(self.top, *args, "--merges").split()
        undone = self.git(self.top, *args, "--grep=^Revert ").split()
        if not merge or self.dirty(self.top):
            return
        if undone and naive.contains(self.top, undone[0], merge[0]):
            picked, how = undone[0], []
        else:
            picked, how = merge[0], ["-m", "1"]
        self.log.append(f"revert {picked[:8]}")
        self.git(self.top, "revert", "--no-edit", *how, picked, check=False)
        if self.git(self.top, "status", "--porcelain"):
            self.git(self.top, "revert", "--abort")

    def respec(self, task: str, back: bool) -> None:
        """The spec of a task changes on trunk, or is what it was at first."""
        if self.dirty(self.top):
            return
        self.log.append(f"spec of {task} {'back' if back else 'changed'}")
        card = self.top / self.card_of(task)
        spec, line, tracking = card.read_text().partition(naive.SEPARATOR)
        self.serial += 1
        head = spec.partition("spec: |")[0]
        new = self.spec(task, 0 if back else self.serial)
        card.write_text(head + new + line + tracking)
        self.git(self.top, "commit", "-q", "-a", "--allow-empty", "-m", f"spec of {task}")

    def forged(self, task: str, how: int) -> None:
        """Somebody writes `done` by hand, in a worktree or on trunk, or copies a card's state."""
        path = self.top if how % 4 == 3 else self.tree_of(task)
        if not self.quiet(path):
            return
        self.log.append(f"{task} done by hand in {path.name}")
        card = path / self.card_of(task)
        spec = card.read_text().partition(naive.SEPARATOR)[0]
        said = f"\ntracking:\n  task: {task}\n  status: done\n"
        if how % 4 == 2:
            other = next((t for t in self.plan.tasks if t[0] == task[0] and t != task), task)
            said = (path / self.card_of(other)).read_text().partition(naive.SEPARATOR)[2]
        card.write_text(f"{spec}{naive.SEPARATOR}{said}")
        self.git(path, "commit", "-q", "-n", "-m", "done, trust me", "--", str(card), check=False)

    # --- what must hold ------------------------------------------------------------------------

    def check(self) -> None:
        store = self.store()
        snapshot = store.snapshot()
        progress = store.progress(snapshot)
        plain = self.plain()
        shown = status_json(progress)
        states = {v["id"]: v["state"] for v in (*shown["tasks"], *shown["merge_points"])}
        why = {t: v.reason for t, v in progress.tasks.items() if v.reason}
        assert states == plain.states, f"{why}"
        assert {t: snapshot.facts[t].landed for t in plain.landed} == plain.landed
        for task in self.plan.tasks:
            evidence = snapshot.facts[task].tracking.evidence
            if states[task] == "done":
                assert evidence is not None
                assert self.passed(task, evidence.commit), f"{task} is shown as done, never passed"
                assert naive.code_tree(self.top, evidence.commit) == evidence.tree
        for letter in {task[0] for task in self.plan.tasks}:
            begun = [t for t in self.plan.tasks if t[0] == letter and states[t] == "active"]
            # written by hand, or by a forge that landed a task at work and a reset that took it back
            log = "\n".join(self.log)
            odd = "by hand" in log or (" squashed" in log and "\nreset " in log)
            assert len(begun) <= 1 or odd, f"at work together: {begun}"
        for oid in set(self.heads().values()) - self._unmarked:
            marked = naive.git(
                self.top, "grep", "-lE", "^(<<<<<<<|>>>>>>>)", oid, "--", ".workstreams"
            )
            assert not marked, f"conflict markers: {marked}"
            self._unmarked.add(oid)

    def end(self) -> None:
        said = self.git(self.top, "fsck", "--full", "--strict", "--no-dangling")
        assert said == "", said


NAMES = (
    "do do do do do do start ok ok bad bad verify verify later sync merge merge rest again again "
    "revert revert rebase respec respec back forged forged tidy release squash land pull renew "
    "renew dirt dirt tidytrunk trunk amend redone reset drop gap resolve"
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

# Which tasks a deed is mostly done to: those in one of these states, as the plain reader has them.
AIMED = {
    "do": {"runnable", "stale"},
    "start": {"runnable", "stale", "unproven"},
    "verify": {"active"},
    "release": {"active", "failed"},
    "renew": {"stale", "unproven"},
    "respec": {"done", "active", "held"},
    "back": {"stale"},
    "forged": {"active", "runnable", "done"},
    "reset": {"done", "active"},
    "amend": {"done", "active"},
    "redone": {"done"},
    "gap": {"done", "active"},
}


def act(world: World, deed: Deed) -> None:
    name, number, how, more = deed
    states = world.plain().states
    aimed = [t for t in world.plan.tasks if states[t] in AIMED.get(name, ())]
    tasks = aimed if aimed and more else world.plan.tasks
    task = tasks[number % len(tasks)]
    other = world.plan.tasks[how % len(world.plan.tasks)]
    doing: dict[str, Callable[[], object]] = {
        "do": lambda: world.do(task, how),
        "start": lambda: world.start(task),
        "ok": lambda: world.edit(at_work(world, task), True, how, more == 0),
        "later": lambda: world.edit(at_work(world, task), True, 6, False),
        "bad": lambda: world.edit(at_work(world, task), False, how, more == 0),
        "verify": lambda: world.verify(task),
        "renew": lambda: world.renew(task),
        "sync": world.sync,
        "merge": lambda: world.merge(1),
        "again": lambda: world.merge(2),
        "rest": lambda: world.merge(0),
        "revert": world.revert,
        "rebase": lambda: world.rebase(task),
        "respec": lambda: world.respec(task, False),
        "back": lambda: world.respec(task, True),
        "forged": lambda: world.forged(task, how),
        "tidy": lambda: world.tidy(world.tree_of(task)),
        "tidytrunk": lambda: world.git(world.top, "stash", "-q", "-u"),
        "dirt": lambda: world.dirt(how),
        "trunk": world.trunk,
        "release": lambda: world.release(task),
        "squash": lambda: world.forge(task, True),
        "land": lambda: world.forge(task, False),
        "pull": lambda: world.pull(task),
        "amend": lambda: world.amend(task),
        "redone": lambda: world.redone(task),
        "reset": lambda: world.reset(task, 1 + how % 3),
        "drop": lambda: world.drop(task),
        "gap": lambda: world.gap(task, other),
        "resolve": lambda: world.resolve(task),
    }
    doing[name]()


def at_work(world: World, task: str) -> str:
    """The task at work in the worktree of `task`: agents do what they were started for."""
    states = world.plain().states
    return next((t for t in states if t[0] == task[0] and states[t] == "active"), task)


def core(plan: Plan) -> list[Deed]:
    """What chance seldom reaches, whatever went before: each thing once, and checked."""
    work: list[Deed] = [("do", n, 0, 0) for n in range(len(plan.tasks))]
    last = len(plan.tasks) - 1
    return [
        ("tidytrunk", 0, 0, 0),
        ("merge", 0, 0, 0),  # before anything is done
        ("start", 0, 0, 1),
        ("bad", 0, 0, 1),
        ("verify", 0, 0, 1),
        ("later", 0, 0, 0),
        ("verify", 0, 0, 1),  # what passes here is not committed yet
        ("tidy", 0, 0, 0),
        ("forged", 0, 0, 0),
        ("reset", 0, 0, 0),  # else nothing of this branch may land
        work[0],
        ("trunk", 0, 0, 0),
        ("rebase", 0, 0, 0),  # other code, so that what was verified is stale
        ("sync", 0, 0, 0),
        ("renew", 0, 0, 1),
        *work[1:],
        ("gap", 0, last, 1),
        ("resolve", 0, 0, 0),
        ("amend", 1, 0, 0),  # other content in the done commit
        ("merge", 0, 0, 0),  # refused for that
        ("redone", 1, 0, 0),
        ("dirt", 0, 0, 0),
        ("merge", 0, 0, 0),
        ("tidytrunk", 0, 0, 0),
        ("gap", 0, last, 1),
        ("revert", 0, 0, 0),
        ("do", 0, 1, 1),
        ("again", 0, 0, 0),
        ("respec", 1, 0, 1),
        ("renew", 0, 0, 1),
        ("rest", 0, 0, 0),
        ("revert", 0, 0, 0),
    ]


def live(plan: Plan, steps: Sequence[Deed]) -> None:
    """A world in which `steps` are done, one after another; what must hold is asked after each."""
    with tempfile.TemporaryDirectory(prefix="truth-") as folder:
        world = World.make(Path(folder).resolve(), plan)
        try:
            world.check()
            for deed in steps:
                world.log.append(f"- {deed}")
                act(world, deed)
                world.check()
            world.end()
        except (AssertionError, GitwavesError) as error:
            note = "\n".join([f"plan: {plan}", *world.log])
            raise AssertionError(f"{error}\n{note}") from error


def histories(count: int, length: int, *, hooks: bool | None = None, ends: bool = True) -> None:
    """`count` random histories of `length` deeds, the same on every run; each with the core.

    Args:
        hooks: whether hooks are installed; at random where None.
        ends: False leaves the core out.
    """
    phases = (Phase.generate,) if hooks is False else (Phase.generate, Phase.shrink)

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=phases,
        report_multiple_bugs=hooks is not False,
        suppress_health_check=list(HealthCheck),
    )
    @given(plan=plans, steps=st.lists(deeds, min_size=length, max_size=length))
    def one(plan: Plan, steps: list[Deed]) -> None:
        if hooks is not None:
            plan = varied(plan, hooks=hooks)
        live(plan, [*steps, *(core(plan) if ends else ())])

    one()
