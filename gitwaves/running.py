"""`run`: agents on everything that is runnable, one a worktree, until nothing can go on."""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
from collections.abc import Callable, Iterator

from gitwaves import merging, remaining
from gitwaves.advancing import advance
from gitwaves.agents import orphans, profile_for
from gitwaves.attempts import Budget, Work, record
from gitwaves.clients import Said
from gitwaves.errors import GitwavesError, LostClaim, Refused
from gitwaves.events import Events
from gitwaves.graph import graph_of
from gitwaves.model import Branch, PointState, Progress, State, Status, TaskId, natural
from gitwaves.record import Record
from gitwaves.signing import signer_for
from gitwaves.store import Snapshot, Store, at_work
from gitwaves.trust import Trust, commands_of
from gitwaves.writing import refresh


class Ended(Record):
    """How a run ended: `complete` when nothing is left undone, `said` why it stopped if not."""

    complete: bool
    interrupted: bool
    said: tuple[str, ...]


class Job(Record, frozen=False):
    """One agent at work on one task, in a thread of its own."""

    work: Work
    thread: threading.Thread
    result: str = ""  # done, failed, stopped, lost, or an error

    @property
    def task(self) -> TaskId:
        return self.work.task


class Runner:
    """Dispatches agents; everything it knows it reads from Git again after each change."""

    def __init__(
        self,
        store: Store,
        *,
        agents: int | None = None,
        agent: str | None = None,
        trust_trunk: bool = False,
        budget: Budget | None = None,
        task_budget: Budget | None = None,
    ) -> None:
        self.store = store
        self._budget = budget or Budget()
        self._task_budget = task_budget or Budget()
        self._money = 0.0  # of agents that ended, US dollars
        self._since = time.monotonic()
        self._spent: str | None = None
        self._events = Events(store, None, self._say)
        self._ready: set[str] = set()  # merge points that were told of
        self.agent = agent
        self.trust_trunk = trust_trunk
        self._agents = agents
        self._jobs: dict[Branch, Job] = {}
        self._landing: threading.Thread | None = None
        self._given_up: set[str] = set()  # tasks and merge points that this run does not try again
        self._stopped: set[TaskId] = set()
        self._why: dict[str, str] = {}
        self._before: dict[TaskId, Said] = {}  # what agents of a run that was killed had said
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
                snapshot, _ = refresh(self.store)
            ended = self._ended(snapshot, interrupted)
            self._events.tell("all_done" if ended.complete else "stopped", said=list(ended.said))
            self._events.wait()
            tick()
            return ended

    # --- the loop ------------------------------------------------------------------------------

    def _prepare(self) -> Snapshot:
        self._before = orphans(self.store)
        advance(self.store)
        snapshot, _ = refresh(self.store)
        for task, said in self._before.items():  # done, and killed before that was written down
            if task in snapshot.facts and snapshot.facts[task].tracking.status is Status.DONE:
                with contextlib.suppress(GitwavesError):
                    record(self.store, task, said.session, said.cost(), said.final)
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
        signer_for(self.store.repo, cards.config, snapshot.trunk_tip)
        self._events = Events(self.store, cards.config.on_event, self._say)
        return snapshot

    def _loop(self, tick: Callable[[], None]) -> None:
        rested = False
        while True:
            self._wake.clear()
            self._reap()
            snapshot = self.store.snapshot()
            shown = self.progress = self.store.progress(snapshot)
            self._tell_of(shown)
            self._land_ready(shown)
            if not self._over():
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
            for _ in range(100):
                tick()
                if self._wake.wait(0.1):
                    break

    def _over(self) -> bool:
        """Whether the run's budget is spent: nothing more is started, and time stops what runs."""
        money = self._money + sum(job.work.money for job in self._jobs.values())
        over = self._budget.spent(money, self._since)
        if over and self._spent is None:
            self._spent = over
            self._say(f"nothing more is started: {over}")
        if over and self._budget.spent(0, self._since):
            for job in self._jobs.values():
                job.work.stop.set()
        return over is not None

    def _tell_of(self, shown: Progress) -> None:
        for point in shown.merge_points.values():
            if point.state is PointState.READY and point.id not in self._ready:
                self._ready.add(point.id)
                self._events.tell("merge_point_ready", merge_point=point.id)

    def _reap(self) -> None:
        for branch, job in list(self._jobs.items()):
            if job.result:
                job.thread.join(1)  # it has said so, and is about to end
            if not job.thread.is_alive():
                del self._jobs[branch]
                self._money += job.work.money
                if job.result == "failed" or job.result.startswith("error"):
                    self._events.tell("task_failed", task=job.task, reason=job.result)
                if job.result in {"failed", "lost", "stopped"} or job.result.startswith("error"):
                    self._given_up.add(job.task)
                    self._why[job.task] = job.result
        if self._landing is not None:
            self._landing.join(0.02)  # it wakes this loop just before it ends
            if not self._landing.is_alive():
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
            used = {job.work.slot for job in self._jobs.values()}
            slot = next(n for n in range(1, limit + 1) if n not in used)
            work = Work(
                self.store,
                task,
                branch,
                slot,
                self._say,
                self._cancel,
                self.agent,
                self.trust_trunk,
                self._task_budget,
                self._before.pop(task, Said()),
            )
            job = Job(work, threading.Thread())
            job.thread = threading.Thread(target=self._work, args=(job,), name=f"agent-{task}")
            self._jobs[branch] = job
            job.thread.start()

    def _candidates(self, snapshot: Snapshot, shown: Progress) -> Iterator[TaskId]:
        """What may be worked on now: what an earlier run left, then the most urgent."""
        mine = self.store.repo.clone_id()
        for task in sorted(snapshot.cards.tasks, key=natural):
            state = shown.states[task]
            if (
                state in {State.ACTIVE, State.FAILED}
                and snapshot.facts[task].tracking.clone == mine
            ):
                yield task
        yield from shown.runnable

    def _land_ready(self, shown: Progress) -> None:
        if self._landing is not None:
            return
        graph = graph_of(shown.cards)
        for point in shown.merge_points.values():
            if point.state is PointState.READY and point.id not in self._given_up:
                # an agent's last words, what it cost and what it learned, are to land with its work
                if any(job.task in graph.closure([point.id]) for job in self._jobs.values()):
                    continue
                self._start_landing(self._merge, point.id)
                return

    def _land_rest(self, snapshot: Snapshot) -> None:
        left = remaining.left_over(snapshot) or remaining.untold(snapshot)
        if left and "--rest" not in self._given_up:
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
            if landed.note:
                self._say(f"{name}  {landed.note}")
            self._events.tell("merge_point_landed", merge_point=name, commit=landed.commit)
        finally:
            self._wake.set()

    def _rest(self, name: str) -> None:
        del name
        try:
            landed, failed = remaining.rest(self.store, trust_trunk=self.trust_trunk)
            for one in landed:
                self._say(f"{one.node}  landed {' '.join(one.tasks)}")
                if one.note:
                    self._say(f"{one.node}  {one.note}")
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
            job.result = job.work.run(self._wake.set)
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
        unlanded = remaining.left_over(snapshot)
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
        if self._spent:
            said.append(self._spent)
        if unlanded:
            said.append(
                f"not on {snapshot.trunk} yet: {' '.join(unlanded)}; `gitwaves merge --rest`"
            )
        blocked = [
            t for t in left if shown.states[t] in {State.BLOCKED, State.RUNNABLE, State.ACTIVE}
        ]
        if blocked:
            said.append(
                f"{len(blocked)} tasks are left: {' '.join(sorted(blocked, key=natural)[:12])}"
            )
        return Ended(False, interrupted, tuple(said))

    def _say(self, line: str) -> None:
        with self._guard:
            self._lines += line.splitlines()

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
