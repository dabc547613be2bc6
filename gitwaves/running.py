"""`run`: agents on everything that is runnable, one a worktree, until nothing can go on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gitwaves import merging
from gitwaves.brief import brief
from gitwaves.claims import at_work, fail, start
from gitwaves.errors import Conflict, GitwavesError, LostClaim, NotReady, Refused
from gitwaves.git import clean_env
from gitwaves.model import (
    Branch,
    Evidence,
    Oid,
    PointState,
    Profile,
    Progress,
    Run,
    State,
    Status,
    TaskId,
    natural,
)
from gitwaves.processes import alive, marked, spawn, stop_tree
from gitwaves.receipts import made_files, write_file
from gitwaves.steps import Outcome
from gitwaves.store import Snapshot, Store
from gitwaves.trust import Trust, commands_of
from gitwaves.verifying import Verified, advance, verify
from gitwaves.writing import refresh

# What people have; each is data, so a project's own profiles are no second-class ones.
BUILT_IN: Mapping[str, Profile] = {
    "claude": Profile(
        ("claude", "-p", "--permission-mode", "acceptEdits", "--allowedTools", "Bash")
    ),
    "codex": Profile(("codex", "exec", "--sandbox", "workspace-write", "-")),
    "gemini": Profile(("gemini", "--approval-mode", "auto_edit", "--skip-trust", "-p", "")),
    "opencode": Profile(("opencode", "run", "--auto")),
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: `complete` when nothing is left undone, `said` why it stopped if not."""

    complete: bool
    interrupted: bool
    said: tuple[str, ...]


@dataclass
class Job:
    """One agent at work on one task, in a thread of its own."""

    task: TaskId
    branch: Branch
    slot: int
    thread: threading.Thread
    stop: threading.Event = field(default_factory=threading.Event)
    result: str = ""  # done, failed, stopped, lost, or an error


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
        return path.read_text(errors="replace")
    except OSError:
        return None


def profile_for(snapshot: Snapshot, task: TaskId, override: str | None) -> tuple[str, Profile]:
    """The name and profile of the agent that a task asks for.

    Raises:
        GitwavesError: there is no such profile, or its command is not installed.
    """
    cards = snapshot.cards
    name = (
        override or cards.tasks[task].agent or cards.workstream_of(task).agent or cards.config.agent
    )
    profile = cards.config.profiles.get(name) or BUILT_IN.get(name)
    if profile is None:
        known = ", ".join(sorted({*cards.config.profiles, *BUILT_IN}))
        raise GitwavesError(
            f"no agent profile {name!r}", f"known are: {known}; add one under `profiles:`"
        )
    if shutil.which(profile.command[0]) is None:
        raise GitwavesError(
            f"the agent command {profile.command[0]!r} (profile {name}) is not found",
            "install it, or name another with `gitwaves run --agent NAME`",
        )
    return name, profile


class Runner:
    """Dispatches agents; everything it knows it reads from Git again after each change."""

    def __init__(
        self,
        store: Store,
        *,
        agents: int | None = None,
        agent: str | None = None,
        trust_trunk: bool = False,
    ) -> None:
        self.store = store
        self.agent = agent
        self.trust_trunk = trust_trunk
        self._agents = agents
        self._jobs: dict[Branch, Job] = {}
        self._landing: threading.Thread | None = None
        self._given_up: set[str] = set()  # tasks and merge points that this run does not try again
        self._stopped: set[TaskId] = set()
        self._why: dict[str, str] = {}
        self._wake = threading.Event()
        self._cancel = threading.Event()
        self._lines: list[str] = []
        self._guard = threading.Lock()
        self.progress: Progress | None = None

    # --- what others call ----------------------------------------------------------------------

    def lines(self) -> list[str]:
        """What happened since the last call, a line each."""
        with self._guard:
            said, self._lines = self._lines, []
        return said

    def run(self, tick: Callable[[], None]) -> Ended:
        """Runs until nothing is left or nothing can go on; calls `tick` several times a second.

        Raises:
            Untrusted: a command of the plan is not trusted here.
            GitwavesError: an agent's command is not found.
            Refused: another `run` is at work in this repository.
        """
        with self._only_one():
            snapshot = self._prepare()
            interrupted = False
            try:
                self._loop(tick)
            except KeyboardInterrupt:
                interrupted = True
            finally:
                self._stop_all(tick)
            with contextlib.suppress(KeyboardInterrupt):
                advance(self.store)
                snapshot = refresh(self.store)
            tick()
            return self._ended(snapshot, interrupted)

    # --- the loop ------------------------------------------------------------------------------

    def _prepare(self) -> Snapshot:
        advance(self.store)
        snapshot = refresh(self.store)
        cards = snapshot.cards
        open_tasks = [
            t for t in cards.tasks if snapshot.facts[t].tracking.status is not Status.DONE
        ]
        for task in open_tasks:
            if cards.tasks[task].cancelled is None:
                profile_for(snapshot, task, self.agent)
        Trust(self.store.repo.common, self.store.repo.clone_id()).require(
            commands_of(cards), trust_trunk=self.trust_trunk
        )
        return snapshot

    def _loop(self, tick: Callable[[], None]) -> None:
        rested = False
        while True:
            self._reap()
            snapshot = self.store.snapshot()
            shown = self.progress = self.store.progress(snapshot)
            self._land_ready(shown)
            self._dispatch(snapshot, shown)
            if not self._jobs and self._landing is None:
                if rested:
                    return
                rested = True
                self._land_rest(snapshot)
                if self._landing is None:
                    return
            else:
                rested = rested and self._landing is not None
            self._wake.clear()
            for _ in range(100):
                tick()
                if self._wake.wait(0.1):
                    break

    def _reap(self) -> None:
        for branch, job in list(self._jobs.items()):
            if not job.thread.is_alive():
                del self._jobs[branch]
                if job.result in {"failed", "lost", "stopped"} or job.result.startswith("error"):
                    self._given_up.add(job.task)
                    self._why[job.task] = job.result
        if self._landing is not None and not self._landing.is_alive():
            self._landing = None

    def _dispatch(self, snapshot: Snapshot, shown: Progress) -> None:
        limit = self._agents or snapshot.cards.config.agents
        for task in self._candidates(snapshot, shown):
            if len(self._jobs) >= limit:
                return
            branch = snapshot.cards.branch_of(task)
            if task in self._given_up or branch in self._jobs:
                continue
            other = at_work(snapshot, branch)
            if other is not None and other != task:
                continue
            used = {job.slot for job in self._jobs.values()}
            slot = next(n for n in range(1, limit + 1) if n not in used)
            job = Job(task, branch, slot, threading.Thread(), threading.Event())
            job.thread = threading.Thread(target=self._work, args=(job,), name=f"agent-{task}")
            self._jobs[branch] = job
            job.thread.start()

    def _candidates(self, snapshot: Snapshot, shown: Progress) -> Iterator[TaskId]:
        """What may be worked on now: what an earlier run left, then the most urgent."""
        mine = self.store.repo.clone_id()
        for task in sorted(snapshot.cards.tasks, key=natural):
            state = shown.tasks[task].state
            if (
                state in {State.ACTIVE, State.FAILED}
                and snapshot.facts[task].tracking.clone == mine
            ):
                yield task
        yield from shown.runnable

    def _land_ready(self, shown: Progress) -> None:
        if self._landing is not None:
            return
        for point in shown.merge_points.values():
            if point.state is PointState.READY and point.id not in self._given_up:
                self._start_landing(self._merge, point.id)
                return

    def _land_rest(self, snapshot: Snapshot) -> None:
        if merging.left_over(snapshot) and "--rest" not in self._given_up:
            self._given_up.add("--rest")
            self._start_landing(self._rest, "")

    def _start_landing(self, target: Callable[[str], None], name: str) -> None:
        self._landing = threading.Thread(target=target, args=(name,), name=f"merge-{name}")
        self._landing.start()

    def _merge(self, name: str) -> None:
        try:
            landed = merging.merge(self.store, name, trust_trunk=self.trust_trunk)
        except GitwavesError as error:
            self._given_up.add(name)
            self._why[name] = error.message.splitlines()[0]
            self._say(
                f"{name}  not landed: {error.message}" + (f" ({error.hint})" if error.hint else "")
            )
        except Exception as error:  # noqa: BLE001  # a bug in one landing stops no agent; it is said
            self._given_up.add(name)
            self._why[name] = f"{type(error).__name__}: {error}"
            self._say(f"{name}  not landed: {type(error).__name__}: {error}")
        else:
            self._say(f"{name}  landed as {landed.commit[:10]}")
        finally:
            self._wake.set()

    def _rest(self, name: str) -> None:
        del name
        try:
            landed, failed = merging.rest(self.store, trust_trunk=self.trust_trunk)
            for one in landed:
                self._say(f"{one.node}  landed {' '.join(one.tasks)}")
            for error in failed:
                self._why["--rest"] = error.message.splitlines()[0]
                self._say(f"not landed: {error.message}")
        except GitwavesError as error:
            self._why["--rest"] = error.message
            self._say(f"not landed: {error.message}")
        finally:
            self._wake.set()

    # --- one task ------------------------------------------------------------------------------

    def _work(self, job: Job) -> None:
        try:
            job.result = self._attempts(job)
        except LostClaim as error:
            job.result = "lost"
            self._say(f"{job.task}  lost: {error.message}")
        except GitwavesError as error:
            job.result = f"error: {error.message.splitlines()[0]}"
            self._say(f"{job.task}  {error.message}" + (f" ({error.hint})" if error.hint else ""))
        except Exception as error:  # noqa: BLE001  # a bug in one task stops no other; it is said
            job.result = f"error: {type(error).__name__}: {error}"
            self._say(f"{job.task}  {type(error).__name__}: {error}")
        finally:
            self._wake.set()

    def _attempts(self, job: Job) -> str:
        snapshot = self.store.snapshot()
        name, profile = profile_for(snapshot, job.task, self.agent)
        started = start(
            self.store, job.task, agent=f"{name}-{job.slot}", trust_trunk=self.trust_trunk
        )
        self._wake.set()
        before = self.store.snapshot().facts[job.task].tracking.attempts
        tries = snapshot.cards.config.retries + 1
        failure: str | None = None
        evidence: Evidence | None = None
        for attempt in range(before + 1, before + tries + 1):
            self._say(
                f"{job.task}  started by {name}-{job.slot}"
                + (f", attempt {attempt}" if attempt > 1 else "")
            )
            ended = self._agent(job, profile, started.path, attempt, failure)
            if self._cancel.is_set() or job.stop.is_set():
                return "stopped"
            failure, evidence = self._judge(job, attempt)
            if failure is None:
                return "done"
            first = next((ln for ln in failure.splitlines() if ln.strip()), "")
            self._say(f"{job.task}  attempt {attempt} failed: {first[:160]} ({ended})")
        fail(self.store, job.task, before + tries, evidence)
        self._say(
            f"{job.task}  failed after {tries} attempts; `gitwaves logs {job.task}` shows the last"
        )
        return "failed"

    def _agent(
        self, job: Job, profile: Profile, path: Path, attempt: int, failure: str | None
    ) -> str:
        """Runs the agent once; its exit code is told and never believed."""
        text = brief_for(self.store, job.task, attempt=attempt, failure=failure)
        folder = self.store.repo.state_dir / "logs" / job.task
        folder.mkdir(parents=True, exist_ok=True)
        marker = f"{job.task}-{secrets.token_hex(6)}"
        env = {
            **clean_env(),
            **profile.env,
            "GITWAVES_TASK": job.task,
            "GITWAVES_ATTEMPT": str(attempt),
        }
        log = folder / f"agent-{attempt}.log"
        process = spawn(profile.command, path, env, text.encode(), log, marker)
        note = _note(self.store, job.task)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_file(note, json.dumps({"marker": marker, "runner": os.getpid()}).encode())
        deadline = time.monotonic() + profile.timeout if profile.timeout else None
        try:
            while process.poll() is None:
                if _stop_wanted(self.store, job.task):
                    job.stop.set()
                late = deadline is not None and time.monotonic() > deadline
                if self._cancel.is_set() or job.stop.is_set() or late:
                    stop_tree(process, marker)
                    return "timed out" if late else "stopped"
                with contextlib.suppress(Exception):
                    process.wait(timeout=0.1)
            if marked(marker):  # what it left running, in sessions of its own
                stop_tree(process, marker, grace=(1.0, 1.0))
            return f"exit {process.returncode}"
        finally:
            note.unlink(missing_ok=True)
            _stop_file(self.store, job.task).unlink(missing_ok=True)

    def _judge(self, job: Job, attempt: int) -> tuple[str | None, Evidence | None]:
        """Commits what was left, verifies, and says what failed; None when the task is done."""
        advance(self.store, job.branch)
        snapshot = self.store.snapshot()
        if snapshot.facts[job.task].tracking.status is Status.DONE:
            self._done(job.task)
            return None, None
        failure: str
        evidence: Evidence | None = None
        try:
            commit_all(self.store, job.task, f"{job.task}: what the agent left uncommitted")
            result = verify(
                self.store,
                job.task,
                attempts=attempt,
                trust_trunk=self.trust_trunk,
                cancel=self._cancel,
            )
            if result.done:
                self._done(job.task)
                return None, None
            failure = _failure_text(result)
            evidence = self._evidence(snapshot, job, result.outcome)
        except (Refused, NotReady, Conflict) as error:
            failure = error.message + (f"\n{error.hint}" if error.hint else "")
        path = self.store.repo.state_dir / "logs" / job.task / "failure.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, failure.encode(errors="replace"))
        return failure, evidence

    def _evidence(self, snapshot: Snapshot, job: Job, outcome: Outcome) -> Evidence | None:
        tip = self.store.repo.branch(job.branch)
        if tip is None:
            return None
        runs: tuple[Run, ...] = outcome.runs
        tree = self.store.repo.code_tree(tip)
        return Evidence(tip, tree, snapshot.cards.digest(job.task), runs)

    def _done(self, task: TaskId) -> None:
        (self.store.repo.state_dir / "logs" / task / "failure.txt").unlink(missing_ok=True)
        self._say(f"{task}  done")

    # --- the end -------------------------------------------------------------------------------

    def _stop_all(self, tick: Callable[[], None]) -> None:
        """Waits for every thread; agents that still run are stopped with their whole trees."""
        self._cancel.set()
        threads = [job.thread for job in self._jobs.values()]
        threads += [self._landing] if self._landing else []
        for thread in threads:
            while thread.is_alive():
                with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C waits as well
                    thread.join(0.2)
                    tick()

    def _ended(self, snapshot: Snapshot, interrupted: bool) -> Ended:
        shown = self.progress = self.store.progress(snapshot)
        left = [t for t, v in shown.tasks.items() if v.state not in {State.DONE, State.CANCELLED}]
        waiting = [p for p, v in shown.merge_points.items() if v.state is not PointState.DONE]
        unlanded = merging.left_over(snapshot)
        said = []
        if not left and not waiting and not unlanded:
            said.append(f"all {shown.counts['done']} tasks are done and on {snapshot.trunk}")
            return Ended(not interrupted, interrupted, tuple(said))
        if interrupted:
            said.append("stopped; every card is true, and another `gitwaves run` goes on from here")
        for node in sorted(left, key=natural):
            view = shown.tasks[node]
            if (
                view.state in {State.FAILED, State.HELD, State.UNPROVEN, State.STALE}
                or node in self._why
            ):
                why = self._why.get(node) or view.reason or str(view.state)
                said.append(f"{node} {view.state}: {why}; `gitwaves show {node}`")
        said += [
            f"{point} is not landed: {self._why[point]}"
            for point in sorted(waiting, key=natural)
            if point in self._why
        ]
        if unlanded:
            said.append(
                f"not on {snapshot.trunk} yet: {' '.join(unlanded)}; `gitwaves merge --rest`"
            )
        blocked = [
            t for t in left if shown.tasks[t].state in {State.BLOCKED, State.RUNNABLE, State.ACTIVE}
        ]
        if blocked:
            said.append(
                f"{len(blocked)} tasks are left: {' '.join(sorted(blocked, key=natural)[:12])}"
            )
        return Ended(False, interrupted, tuple(said))

    def _say(self, line: str) -> None:
        with self._guard:
            self._lines.append(line)

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        path = self.store.repo.state_dir / "run.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Refused(
                    "another `gitwaves run` is at work in this repository",
                    "wait for it, or stop it with Ctrl-C",
                ) from None
            yield


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


def _note(store: Store, task: TaskId) -> Path:
    return store.repo.state_dir / "agents" / f"{task}.json"


def _stop_file(store: Store, task: TaskId) -> Path:
    return store.repo.state_dir / "agents" / f"{task}.stop"


def _stop_wanted(store: Store, task: TaskId) -> bool:
    return _stop_file(store, task).exists()


def stop_agent(store: Store, task: TaskId) -> None:
    """Stops the agent at work on a task, through its runner, or by itself where that is dead.

    Raises:
        NotReady: no agent is at work on it here.
    """
    note = _note(store, task)
    try:
        held = json.loads(note.read_bytes())
    except (OSError, ValueError):
        raise NotReady(
            f"no agent is at work on {task} here", "`gitwaves status` shows who is"
        ) from None
    if alive(int(held["runner"])):
        _stop_file(store, task).touch()
        for _ in range(300):
            if not note.exists():
                return
            time.sleep(0.1)
        raise GitwavesError(f"the agent of {task} does not stop", "see `gitwaves logs`")
    sweep(str(held["marker"]))
    note.unlink(missing_ok=True)


def sweep(marker: str) -> None:
    """Kills whatever carries a run's marker."""
    import signal

    if not re.fullmatch(r"[A-Za-z0-9._-]+", marker):
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in marked(marker):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        time.sleep(0.5)
