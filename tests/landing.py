"""A plan of three workstreams with a merge point, in a real repository, for tests of landing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gitwaves import claims, git, merging, verifying
from gitwaves.model import Fact, State, Tracking
from gitwaves.store import Snapshot, Store
from tests.repo import Repo

SEPARATOR = "# --- tracking: written by gitwaves on the worktree's branch ---\n"
TASKS = {"A1": "[]", "A2": "[A1]", "B1": "[]", "B2": "[A1, B1]", "C1": "[MP1]"}


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan as a checkout of trunk holds it: MP1 takes A1 and B1 and opens C1."""

    repo: Repo

    @property
    def store(self) -> Store:
        """A new reading of the repository, as each command makes its own."""
        return Store(git.Repo.open(self.repo.path))

    @property
    def snapshot(self) -> Snapshot:
        return self.store.snapshot()

    def fact(self, node: str) -> Fact:
        return self.snapshot.facts[node]

    def tracking(self, node: str, rev: str = "main") -> Tracking:
        """What a card says in one commit."""
        store = self.store
        oid = store.repo.resolve(rev)
        assert oid is not None
        found = store.tracking_at(store.snapshot().cards, oid, node)
        assert found is not None
        return found

    def states(self) -> dict[str, str]:
        """The state of every task and merge point."""
        shown = self.store.progress()
        tasks = {str(v.id): str(v.state) for v in shown.tasks.values()}
        return tasks | {str(v.id): str(v.state) for v in shown.merge_points.values()}

    def start(self, task: str) -> Repo:
        """Starts a task; its worktree."""
        return Repo(claims.start(self.store, task, agent="ada", trust_trunk=True).path)

    def finish(self, worktree: Repo, task: str, **files: str) -> None:
        """Commits files in a started task's worktree and verifies them: done."""
        folder = task[0].lower()
        worktree.commit(f"Do {task}", **(files or {f"{folder}/{task.lower()}.txt": f"{task}\n"}))
        done = verifying.verify(self.store, task, trust_trunk=True)
        assert done.done, done

    def do(self, task: str, **files: str) -> Repo:
        """Takes a task from start to done; its worktree."""
        worktree = self.start(task)
        self.finish(worktree, task, **files)
        return worktree

    def merge(self, name: str = "MP1", *, again: bool = False, resume: bool = False) -> str:
        """Lands a merge point; the commit on trunk."""
        store = self.store
        return merging.merge(store, name, again=again, resume=resume, trust_trunk=True).commit

    def trunk_line(self, since: str) -> list[str]:
        """The subjects of trunk's own line since a commit, the oldest first."""
        args = ("log", "--first-parent", "--reverse", "--format=%s", f"{since}..main")
        return self.repo.git(*args).splitlines()

    def sound(self) -> None:
        """Nothing is broken in Git, and no merge is left in the middle of anything."""
        said = self.repo.git("fsck", "--no-dangling", "--no-progress")
        assert said == ""
        for worktree in self.store.repo.worktrees():
            assert worktree.busy() is None
            assert not Repo(worktree.path).git("ls-files", "-u")


def planned(path: Path, **config: str) -> Plan:
    """A repository with the plan committed on `main`; `config` are lines of config.yaml."""
    repo = Repo.init(path)
    settings = {"version": "1", "title": "Landing", "trunk": "main", **config}
    repo.write(".workstreams/config.yaml", "".join(f"{k}: {v}\n" for k, v in settings.items()))
    repo.write(".workstreams/.gitattributes", "* -text\n")
    for name in "ABC":
        text = f"title: Part {name}\npaths: [{name.lower()}/**]\nbranch: ws/{name}\n"
        repo.write(f".workstreams/WS-{name}/workstream.yaml", text)
    for task, needs in TASKS.items():
        file = f"{task[0].lower()}/{task.lower()}.txt"
        repo.write(
            f".workstreams/WS-{task[0]}/{task}.yaml",
            f"id: {task}\ntitle: Task {task}\ndepends_on: {needs}\nspec: Write {file}.\n"
            f"verify:\n  - run: test -f {file}\n"
            f"{SEPARATOR}tracking:\n  task: {task}\n  status: planned\n",
        )
    repo.write(
        ".workstreams/merge-points/MP1.yaml",
        f"id: MP1\ntitle: The first\nrequires: [A1, B1]\n{SEPARATOR}"
        "tracking:\n  task: MP1\n  status: planned\n",
    )
    repo.commit(
        "Plan the work", **{"CLAUDE.md": "# House rules\n\nBe kind.\n", "shared.txt": "one\n"}
    )
    return Plan(repo)


DONE = str(State.DONE)
