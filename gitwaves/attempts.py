"""One task in the hands of an agent: the brief, the attempts, and the judgement that is ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from gitwaves.advancing import advance, note, said_in
from gitwaves.agents import profile_for, run_agent, stop_wanted
from gitwaves.brief import brief
from gitwaves.claims import fail, start
from gitwaves.clients import Said
from gitwaves.errors import Conflict, GitwavesError, NotReady, Refused
from gitwaves.files import write_file
from gitwaves.handing import hand_over, told_by_brief
from gitwaves.lessons import taught
from gitwaves.model import (
    Branch,
    Evidence,
    Gap,
    Oid,
    Status,
    TaskId,
    Tracking,
)
from gitwaves.receipts import made_files
from gitwaves.record import Record, field, replace
from gitwaves.steps import Outcome
from gitwaves.store import Snapshot, Store, at_work
from gitwaves.trust import Trust, profile_command
from gitwaves.verifying import Verified, verify

MOST_WAITS = 24  # for the end of a usage limit, a task


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


def brief_for(
    store: Store,
    task: TaskId,
    *,
    attempt: int = 1,
    failure: str | None = None,
    agent: bool = True,
) -> str:
    """The brief of a task as it stands now.

    Args:
        agent: an agent reads it, who need not be told again what stands in it.
    """
    shown = store.progress()
    if agent:
        told_by_brief(store, shown, task)
    branch = shown.cards.branch_of(task)
    path = next((w.path for w in shown.worktrees if w.branch == branch), None)
    if failure is None:
        failure = last_failure(store, task)
    return brief(shown, task, attempt=attempt, failure=failure, worktree=path)


def last_failure(store: Store, task: TaskId) -> str | None:
    """The end of the last failed verification of a task, kept beside its logs."""
    path = store.repo.state_dir / "logs" / task / "failure.txt"
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


class Budget(Record):
    """What may be spent on one task, or on a whole run; None: as much as it takes.

    Money is what clients report, in US dollars; one that reports nothing spends none.
    """

    money: float | None = None
    minutes: float | None = None

    def spent(self, money: float, since: float) -> str | None:
        """Which part is spent, in words; `since` is of the monotonic clock."""
        if self.money is not None and money >= self.money:
            return f"the budget of ${self.money:g} is spent (${money:.2f})"
        if self.minutes is not None and time.monotonic() - since >= self.minutes * 60:
            return f"the time of {self.minutes:g} minutes is up"
        return None


class Work(Record, frozen=False):
    """What an agent is given to do, and what comes of it."""

    store: Store
    task: TaskId
    branch: Branch
    slot: int  # which of the agents that run side by side
    say: Callable[[str], None]
    cancel: threading.Event  # of the whole run
    agent: str | None = None  # a profile that goes before those of the cards
    trust_trunk: bool = False
    budget: Budget = Budget()
    before: Said = field(default_factory=Said)  # what an agent of a run that was killed had said
    money: float = 0.0  # what was spent on it in this run, US dollars
    cost: dict[str, float] = field(default_factory=dict)  # what is not on the card yet
    stop: threading.Event = field(default_factory=threading.Event)
    _session: str | None = None
    _tokens: dict[str, int] = field(default_factory=dict)  # by session, where they add up
    _final: str = ""

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
        if name in snapshot.cards.config.profiles:  # trunk may have changed it since `run` began
            trusted = Trust(self.store.repo.common, self.store.repo.clone_id())
            command = {f"profile {name}": (profile_command(profile),)}
            trusted.require(command, trust_trunk=self.trust_trunk)
        who = f"{name}-{self.slot}"
        started = start(self.store, self.task, agent=who, trust_trunk=self.trust_trunk)
        began()
        snapshot = self.store.snapshot()
        hand_over(self.store, snapshot, self.task, who)
        before = snapshot.facts[self.task].tracking.attempts
        tries = snapshot.cards.config.retries + 1
        failure: str | None = None
        evidence: Evidence | None = None
        attempt = before + 1
        self.heard(self.before)
        # what another client began is gone on with from what is committed
        resume = self._session if self.before.client == profile.client else None
        waited = 0
        since = time.monotonic()
        while attempt <= before + tries:
            if over := self.budget.spent(self.money, since):
                self.say(f"{self.task}  no further attempt: {over}")
                break
            again = f", attempt {attempt}" if attempt > 1 else ""
            self.say(f"{self.task}  started by {who}{again}")
            text = brief_for(self.store, self.task, attempt=attempt, failure=failure)
            ended = run_agent(
                self.store,
                snapshot,
                self.task,
                profile,
                started.path,
                text,
                attempt,
                lambda: self._stopped() or self.budget.spent(0, since) is not None,
                resume,
            )
            self.heard(ended.said)
            lost = resume is not None and ended.said.error is not None and not ended.said.limited
            resume = None if lost else ended.said.session or resume
            if self._stopped():
                self._spent()
                return "stopped"
            failure, evidence = self._judge(attempt)
            if failure is None:
                self._spent()
                return "done"
            if ended.said.limited and waited < MOST_WAITS:
                waited += 1
                self._wait(ended.said, waited)
                if self._stopped():
                    self._spent()
                    return "stopped"
                continue  # refused before it could try: no attempt of the task
            first = _first(failure)
            how = "; ".join(filter(None, (ended.how, ended.said.error)))
            self.say(f"{self.task}  attempt {attempt} failed: {first[:160]} ({how})")
            if ended.said.denied:
                self.say(f"{self.task}  it was not allowed: {', '.join(ended.said.denied[:3])}")
            attempt += 1
        self._spent()
        fail(self.store, self.task, attempt - 1, evidence)
        tried = attempt - 1 - before
        self.say(
            f"{self.task}  failed after {tried} attempt{'s' * (tried != 1)}; "
            f"`gitwaves logs {self.task}` shows the last"
        )
        return "failed"

    def heard(self, said: Said) -> None:
        """Adds up what agents said of a task."""
        self._session = said.session or self._session
        if said.of_session and said.session:
            known = self._tokens.get(said.session, 0)
            self._tokens[said.session] = said.tokens
            said = replace(said, tokens=max(0, said.tokens - known))
        for name, value in said.cost().items():
            self.cost[name] = self.cost.get(name, 0) + value
        self.money += said.money
        self._final = said.final or self._final

    def _wait(self, said: Said, times: int) -> None:
        """Waits until a usage limit ends: as it was told, else longer each time."""
        now = time.time()
        if said.until and said.until > now - 600:  # it may have ended while we were busy
            end = max(said.until, now + 5 * (times - 1))
        else:
            end = now + min(60 * 2**times, 3600)
        at = time.strftime("%H:%M", time.localtime(end))
        self.say(f"{self.task}  usage limit: it goes on at {at} ({said.error})")
        while time.time() < end and not self._stopped():
            self.cancel.wait(0.2)

    def _spent(self) -> None:
        """Records the client's session, its cost and what its last words teach, if it said any."""
        try:
            record(self.store, self.task, self._session, self.cost, self._final)
        except GitwavesError as error:
            self.say(f"{self.task}  its cost is not recorded: {error.message}")
        self.cost = {}

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
            failure = failure_text(result)
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


def record(
    store: Store, task: TaskId, session: str | None, cost: Mapping[str, float], final: str
) -> None:
    """Writes to a card what its agent was, cost, and taught with its last words; if it said any.

    Raises:
        NotReady: another task is at work in its worktree.
    """
    told = list(said_in("\n\n" + final.strip().rpartition("\n\n")[2]))
    learned = [text for key, text in told if key == "learned"]
    gaps = [Gap(text) for key, text in told if key == "spec-gap"]
    if not (session or cost or told):
        return

    def known(tracking: Tracking) -> Tracking:
        total = {**tracking.cost, **{n: tracking.cost.get(n, 0) + v for n, v in cost.items()}}
        found = taught(tracking, learned, gaps)
        return replace(found, session=session or tracking.session, cost=total)

    note(store, task, known)


def _first(failure: str) -> str:
    """What is wrong in one line: the first of a text, with the one that it announces."""
    lines = [line.strip() for line in failure.splitlines() if line.strip()]
    return " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])


def failure_text(result: Verified) -> str:
    """What is wrong with a verification that did not make its task done."""
    outcome = result.outcome
    if result.changed:
        return f"the verification changed files: {', '.join(result.changed[:8])}"
    if outcome.failed is None:
        return "verified, but what was verified is not what is committed: " + ", ".join(
            result.differs[:8]
        )
    ended = "timed out" if outcome.timed_out else f"exit {outcome.exit}"
    return f"step {outcome.failed} failed, {ended}\n{outcome.tail}"
