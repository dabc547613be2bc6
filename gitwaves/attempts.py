"""One task in the hands of an agent: the brief, the attempts, and the judgement that is ours."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from gitwaves.agents import profile_for, run_agent, stop_wanted
from gitwaves.brief import brief
from gitwaves.claims import at_work, fail, start
from gitwaves.errors import Conflict, NotReady, Refused
from gitwaves.model import Branch, Evidence, Oid, Status, TaskId
from gitwaves.receipts import made_files, write_file
from gitwaves.steps import Outcome
from gitwaves.store import Snapshot, Store
from gitwaves.verifying import Verified, advance, verify


def commit_all(store: Store, task: TaskId, message: str) -> Oid | None:
    """Commits everything in a task's worktree but what verification steps made; None: nothing to.

    Raises:
        NotReady: the task has no worktree here.
    """
    snapshot = store.snapshot()
    branch = snapshot.cards.branch_of(task)
    holder = store.repo.holder(branch)
    if holder is None or at_work(snapshot, branch) != task:
        raise NotReady(f"{task} is not at work here", f"run `gitwaves start {task}` first")
    if busy := holder.busy():
        raise Refused(f"{holder.path} is in the middle of {busy}", "finish or abort it first")
    made = made_files(store.repo, branch)
    if not [p for p in store.repo.status(holder.path) if p not in made]:
        return None
    store.repo.git("add", "-A", cwd=holder.path)
    if made:
        store.repo.try_git("reset", "-q", "--", *sorted(made), cwd=holder.path)
    if store.repo.try_git("diff", "--cached", "--quiet", cwd=holder.path).returncode == 0:
        return None
    store.repo.git("commit", "--quiet", "-m", message, cwd=holder.path)
    return store.repo.branch(branch)


def brief_for(store: Store, task: TaskId, *, attempt: int = 1, failure: str | None = None) -> str:
    """The brief of a task as it stands now."""
    shown = store.progress()
    branch = shown.cards.branch_of(task)
    path = next((w.path for w in shown.worktrees if w.branch == branch), None)
    if failure is None:
        failure = last_failure(store, task)
    return brief(shown, task, attempt=attempt, failure=failure, worktree=path)


def last_failure(store: Store, task: TaskId) -> str | None:
    """The end of the last failed verification of a task, kept beside its logs."""
    path = store.repo.state_dir / "logs" / task / "failure.txt"
    try:
        return path.read_text(errors="replace") if path.is_file() else None
    except OSError:
        return None


@dataclass
class Work:
    """What an agent is given to do, and what comes of it."""

    store: Store
    task: TaskId
    branch: Branch
    slot: int  # which of the agents that run side by side
    say: Callable[[str], None]
    cancel: threading.Event  # of the whole run
    agent: str | None = None  # a profile that goes before those of the cards
    trust_trunk: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, began: Callable[[], None]) -> str:
        """Attempts the task until it is done or the attempts are spent.

        Returns:
            `done`, `failed` or `stopped`.

        Raises:
            LostClaim: another clone has the task.
            GitwavesError: it cannot be started.
        """
        snapshot = self.store.snapshot()
        name, profile = profile_for(snapshot, self.task, self.agent)
        who = f"{name}-{self.slot}"
        started = start(self.store, self.task, agent=who, trust_trunk=self.trust_trunk)
        began()
        before = self.store.snapshot().facts[self.task].tracking.attempts
        tries = snapshot.cards.config.retries + 1
        failure: str | None = None
        evidence: Evidence | None = None
        for attempt in range(before + 1, before + tries + 1):
            again = f", attempt {attempt}" if attempt > 1 else ""
            self.say(f"{self.task}  started by {who}{again}")
            text = brief_for(self.store, self.task, attempt=attempt, failure=failure)
            ended = run_agent(
                self.store, self.task, profile, started.path, text, attempt, self._stopped
            )
            if self._stopped():
                return "stopped"
            failure, evidence = self._judge(attempt)
            if failure is None:
                return "done"
            first = next((ln for ln in failure.splitlines() if ln.strip()), "")
            self.say(f"{self.task}  attempt {attempt} failed: {first[:160]} ({ended})")
        fail(self.store, self.task, before + tries, evidence)
        self.say(
            f"{self.task}  failed after {tries} attempts; `gitwaves logs {self.task}` shows the last"
        )
        return "failed"

    def _stopped(self) -> bool:
        if stop_wanted(self.store, self.task):
            self.stop.set()
        return self.cancel.is_set() or self.stop.is_set()

    def _judge(self, attempt: int) -> tuple[str | None, Evidence | None]:
        """Commits what was left, verifies, and says what failed; None when the task is done."""
        advance(self.store, self.branch)
        snapshot = self.store.snapshot()
        if snapshot.facts[self.task].tracking.status is Status.DONE:
            self._done()
            return None, None
        failure: str
        evidence: Evidence | None = None
        try:
            commit_all(self.store, self.task, f"{self.task}: what the agent left uncommitted")
            result = verify(
                self.store,
                self.task,
                attempts=attempt,
                trust_trunk=self.trust_trunk,
                cancel=self.cancel,
            )
            if result.done:
                self._done()
                return None, None
            failure = _failure_text(result)
            evidence = self._evidence(snapshot, result.outcome)
        except (Refused, NotReady, Conflict) as error:
            failure = error.message + (f"\n{error.hint}" if error.hint else "")
        path = self.store.repo.state_dir / "logs" / self.task / "failure.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, failure.encode(errors="replace"))
        return failure, evidence

    def _evidence(self, snapshot: Snapshot, outcome: Outcome) -> Evidence | None:
        tip = self.store.repo.branch(self.branch)
        if tip is None:
            return None
        tree = self.store.repo.code_tree(tip)
        return Evidence(tip, tree, snapshot.cards.digest(self.task), outcome.runs)

    def _done(self) -> None:
        (self.store.repo.state_dir / "logs" / self.task / "failure.txt").unlink(missing_ok=True)
        self.say(f"{self.task}  done")


def _failure_text(result: Verified) -> str:
    outcome = result.outcome
    if result.changed:
        return f"the verification changed files: {', '.join(result.changed[:8])}"
    if outcome.failed is None:
        return "verified, but what was verified is not what is committed: " + ", ".join(
            result.differs[:8]
        )
    ended = "timed out" if outcome.timed_out else f"exit {outcome.exit}"
    return f"step {outcome.failed} failed, {ended}\n{outcome.tail}"
