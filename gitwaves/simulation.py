"""Plays a plan forward with so many agents, by how long its tasks take. Pure.

The rules are those of `run`: one task at a time in a worktree, what was begun first and then the
most urgent; a batch waits for the batches before it where the plan has barriers; a merge point lands
as soon as its tasks are done, and takes no time. Everything succeeds, and gaps are settled at once.

`run` ranks what is runnable by slack, then by the longest path behind it. All that a runnable task
needs is done, so its slack is the longest path of all less its own: the rank never changes while
the plan is played, and is computed once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from heapq import heappop, heappush

from gitwaves.batches import columns_of
from gitwaves.graph import Graph, graph_of
from gitwaves.model import BatchId, Branch, PointState, Progress, State, TaskId, natural
from gitwaves.plan import NOT_LEFT
from gitwaves.record import Record, replace

_BEGUN = frozenset({State.ACTIVE, State.FAILED})
# How many tasks are played in all to find what limits a plan, and how many limits are tried at least.
_PLAYED, _FEWEST_TRIED = 100_000, 12


class Reason(Record):
    """What a task had to wait for to the very last: `kind` is dependency, worktree, batch or agents.

    `after` is the task that ended just then; `through` a merge point that it had to pass.
    """

    kind: str
    after: int
    through: int | None = None


class Job(Record):
    """One task as it was played, in seconds from now; agents count from 0."""

    task: int
    agent: int
    start: int
    end: int
    reason: Reason | None


class Played(Record):
    """A plan played to its end in `seconds`; `stuck` is what could never start."""

    agents: int
    seconds: int
    jobs: tuple[Job, ...]
    stuck: tuple[int, ...]

    def use(self) -> tuple[float, ...]:
        """The share of the time that each agent was at work, from 0 to 1."""
        busy = [0] * self.agents
        for job in self.jobs:
            busy[job.agent] += job.end - job.start
        return tuple(seconds / self.seconds if self.seconds else 0.0 for seconds in busy)

    def chain(self) -> tuple[Job, ...]:
        """The jobs that set the end, each begun the moment that the one before it ended."""
        by_task = {job.task: job for job in self.jobs}
        job = max(self.jobs, key=lambda job: (job.end, -job.task), default=None)
        found = []
        while job is not None:
            found.append(job)
            job = by_task[job.reason.after] if job.reason else None
        return tuple(reversed(found))


class Work(Record):
    """What is left of a plan, in the numbers of its graph.

    `needs` are tasks and merge points that are still open; whatever needs something that will never
    be is in `never`.
    """

    graph: Graph
    tasks: tuple[int, ...]
    needs: Mapping[int, frozenset[int]]
    never: frozenset[int]
    branch: Mapping[int, Branch | int]  # two tasks of one branch are never at work at once
    gate: Mapping[int, int]  # the place of a task's batch; without barriers all are 0
    rank: Mapping[int, tuple[int, int, int]]
    length: Mapping[int, int]  # seconds

    @classmethod
    def of(cls, now: Progress, length: Mapping[TaskId, int] | None = None) -> Work:
        """What is left to do; a task takes its `length`, else its estimate, in seconds.

        Raises:
            CycleError: the plan cannot be put in order.
        """
        cards, graph = now.cards, graph_of(now.cards)
        columns = columns_of(cards, graph)
        todo = {graph.number[t] for t, state in now.states.items() if state not in NOT_LEFT}
        open_points = {
            graph.number[p] for p, v in now.merge_points.items() if v.state is not PointState.DONE
        }
        lost = {
            graph.number[t]
            for t, state in now.states.items()
            if state is State.CANCELLED
            or (graph.number[t] in todo and graph.number[t] in columns.unknown)
        }
        left = todo | open_points
        counted = frozenset(left | lost)
        needs = {n: counted.intersection(graph.needed[n]) for n in left}
        weight: list[int | None] = [
            0 if n in open_points else None for n in range(len(graph.nodes))
        ]
        given: dict[int, int] = {}
        for n in todo:
            task = TaskId(graph.nodes[n])
            weight[n] = columns.estimates[n]
            given[n] = max(1, (length or {}).get(task, weight[n] or 1))
        behind = graph.behind(weight)
        place = {batch.id: k for k, batch in enumerate(now.schedule.batches)}
        return cls(
            graph=graph,
            tasks=tuple(sorted(todo)),
            needs=needs,
            never=frozenset(lost),
            branch={n: cards.branch_of(TaskId(graph.nodes[n])) for n in todo},
            gate={n: _gate(now, graph.nodes[n], place) for n in todo},
            rank={
                n: (0, 0, n) if now.states[TaskId(graph.nodes[n])] in _BEGUN else (1, -behind[n], n)
                for n in todo
            },
            length=given,
        )

    @property
    def total(self) -> int:
        """The work that is left, in seconds."""
        return sum(self.length.values())

    def longest(self) -> tuple[tuple[str, ...], int]:
        """The critical path by the lengths, and how long it is in seconds."""
        weight: list[int | None] = [None] * len(self.graph.nodes)
        for n in self.needs:
            weight[n] = self.length.get(n, 0)
        behind = self.graph.behind(weight)
        return self.graph.longest(weight, behind), max(behind, default=0)

    def at_least(self, agents: int) -> int:
        """What no order of the tasks can be shorter than, in seconds.

        The critical path, the fullest worktree, or all the work shared out evenly.
        """
        full: defaultdict[Branch | int, int] = defaultdict(int)
        for n in self.tasks:
            full[self.branch[n]] += self.length[n]
        shared = -(-self.total // agents)
        return max([self.longest()[1], shared, *full.values()])

    def without_barriers(self) -> Work:
        """The same work, each task starting by its own needs."""
        return replace(self, gate=dict.fromkeys(self.gate, 0))

    def before(self, gate: int) -> int:
        """The place of the last batch before the one at place `gate` of which anything is left."""
        return max((k for k in self.gate.values() if k < gate), default=gate)

    def without_gate(self, gate: int) -> Work:
        """The same work, the batch at place `gate` not waiting for the one before it."""
        before = self.before(gate)
        return replace(self, gate={n: before if k == gate else k for n, k in self.gate.items()})

    def without_need(self, node: int, need: int) -> Work:
        """The same work, `node` not needing `need`."""
        return replace(self, needs={**self.needs, node: self.needs[node] - {need}})

    def split(self, branch: Branch | int) -> Work:
        """The same work, each task of `branch` in a worktree of its own."""
        return replace(self, branch={n: n if b == branch else b for n, b in self.branch.items()})

    def lasting(self, length: Mapping[int, int]) -> Work:
        """The same work with other lengths, in the same order of urgency."""
        return replace(self, length=length)


def _gate(now: Progress, task: str, place: Mapping[BatchId, int]) -> int:
    if not now.schedule.barrier:
        return 0
    return place[now.schedule.batch_of[TaskId(task)]]


def play(work: Work, agents: int, *, why: bool = True) -> Played:
    """Plays the work with `agents` agents (at least one): the same work gives the same answer.

    Without `why` no job has a reason, which takes a third less time.
    """
    return _Game(work, max(1, agents), why).play()


class _Game:
    """One game: what is free and what waits, at the moment `now`."""

    def __init__(self, work: Work, agents: int, why: bool) -> None:
        self.work = work
        self.agents = agents
        self.why = why
        self.now = 0
        self.jobs: list[Job] = []
        self.ended: dict[int, int] = {}  # task or merge point -> when
        self.missing = {n: len(needs) for n, needs in work.needs.items()}
        self.dependents: defaultdict[int, list[int]] = defaultdict(list)
        for n, needs in work.needs.items():
            for need in needs:
                self.dependents[need].append(n)
        self.left_in: defaultdict[int, int] = defaultdict(int)  # gate -> tasks that are not over
        for n in work.tasks:
            self.left_in[work.gate[n]] += 1
        self.gates = sorted(self.left_in)
        self.opened = 0  # the place in `gates` of the last one that is open
        self.opener: dict[int, int] = {}  # gate -> the task that opened it
        self.ready: list[tuple[tuple[int, int, int], int]] = []
        self.gated: defaultdict[int, list[int]] = defaultdict(list)
        self.waiting: defaultdict[Branch | int, list[tuple[tuple[int, int, int], int]]]
        self.waiting = defaultdict(list)
        self.last_on: dict[Branch | int, int] = {}  # the task that a worktree did last
        self.at_work: dict[Branch | int, int] = {}
        self.free = list(range(agents))
        self.running: list[tuple[int, int, int]] = []  # end, task, agent
        self.freed_by: int | None = None

    def play(self) -> Played:
        for n in sorted(self.missing):
            if not self.missing[n]:
                self._may_start(n)
        while True:
            self._dispatch()
            if not self.running:
                stuck = tuple(n for n in self.work.tasks if n not in self.ended)
                return Played(self.agents, self.now, tuple(self.jobs), stuck)
            self.now = self.running[0][0]
            while self.running and self.running[0][0] == self.now:
                _, n, agent = heappop(self.running)
                heappush(self.free, agent)
                branch = self.work.branch[n]
                del self.at_work[branch]
                self.last_on[branch] = self.freed_by = n
                if self.waiting[branch]:
                    heappush(self.ready, heappop(self.waiting[branch]))
                self._over(n)

    def _dispatch(self) -> None:
        while self.ready and self.free:
            entry = heappop(self.ready)
            n = entry[1]
            branch = self.work.branch[n]
            if branch in self.at_work:
                heappush(self.waiting[branch], entry)
                continue
            agent = heappop(self.free)
            end = self.now + self.work.length[n]
            self.at_work[branch] = n
            reason = self._reason(n) if self.why else None
            self.jobs.append(Job(n, agent, self.now, end, reason))
            heappush(self.running, (end, n, agent))

    def _over(self, n: int) -> None:
        """A task or merge point is over: what needs it, or waits for its batch, may go on."""
        self.ended[n] = self.now
        for other in self.dependents[n]:
            self.missing[other] -= 1
            if not self.missing[other]:
                self._may_start(other)
        if n in self.work.gate:
            self.left_in[self.work.gate[n]] -= 1
            while self.opened + 1 < len(self.gates) and not self.left_in[self.gates[self.opened]]:
                self.opened += 1
                gate = self.gates[self.opened]
                self.opener[gate] = n
                for task in self.gated.pop(gate, ()):
                    self._may_start(task)

    def _may_start(self, n: int) -> None:
        if n not in self.work.gate:
            self._over(n)  # a merge point lands at once
        elif self.work.gate[n] > self.gates[self.opened]:
            self.gated[self.work.gate[n]].append(n)
        else:
            heappush(self.ready, (self.work.rank[n], n))

    def _reason(self, n: int) -> Reason | None:
        """What ended at this very moment without which the task could not start."""
        if not self.now:
            return None
        for need in sorted(self.work.needs[n], key=lambda need: need not in self.work.gate):
            if self.ended[need] == self.now:
                return self._behind(need)
        opener = self.opener.get(self.work.gate[n])
        if opener is not None and self.ended[opener] == self.now:
            return Reason("batch", opener)
        last = self.last_on.get(self.work.branch[n])
        if last is not None and self.ended[last] == self.now:
            return Reason("worktree", last)
        assert self.freed_by is not None
        return Reason("agents", self.freed_by)

    def _behind(self, need: int) -> Reason:
        """A need that was met just now; behind a merge point, the task that it waited for."""
        if need in self.work.gate:
            return Reason("dependency", need)
        last = (t for t in sorted(self.work.needs[need]) if self.ended[t] == self.now)
        return Reason("dependency", next(last), through=need)


# --- what holds it up ---


class Limit(Record):
    """One thing without which the end would come `saves` seconds sooner.

    `kind` is worktree (`ids`: its workstreams), dependency (`ids`: what needs, and what is needed)
    or batch (`ids`: the batch, and the one before it). `tasks` are those that it keeps in a row,
    which make up `share` of the whole time.
    """

    kind: str
    ids: tuple[str, ...]
    saves: int
    tasks: tuple[TaskId, ...]
    share: float


def limits(now: Progress, work: Work, agents: int, most: int = 3) -> tuple[Limit, ...]:
    """What limits a plan most with so many agents: each single thing is taken away and played again.

    Only what lies on the chain that sets the end is tried: nothing else can be in its way. Of a long
    chain in a large plan only so many things are tried, those first that keep the most work in a row.
    """
    played = play(work, agents)
    chain, whole = played.chain(), played.seconds
    names = work.graph.nodes
    batches = [batch.id for batch in now.schedule.batches]
    tried: dict[tuple[str, tuple[str, ...]], tuple[Callable[[], Work], list[int]]] = {}
    for job in chain:
        reason = job.reason
        if reason is None:
            continue
        if reason.kind == "dependency":
            need = reason.after if reason.through is None else reason.through
            key: tuple[str, tuple[str, ...]] = ("dependency", (names[job.task], names[need]))
            tried[key] = (partial(work.without_need, job.task, need), [reason.after, job.task])
            if reason.through is not None:
                key = ("dependency", (names[need], names[reason.after]))
                without = partial(work.without_need, need, reason.after)
                tried[key] = (without, [reason.after, job.task])
        elif reason.kind == "batch":
            gate = work.gate[job.task]
            key = ("batch", (batches[gate], batches[work.before(gate)]))
            tried[key] = (partial(work.without_gate, gate), [reason.after, job.task])
    for branch, tasks in _in_a_row(work, chain).items():
        streams = {now.cards.tasks[TaskId(names[n])].workstream for n in tasks}
        key = ("worktree", tuple(sorted(streams, key=natural)))
        tried[key] = (partial(work.split, branch), tasks)
    most_tried = max(_FEWEST_TRIED, _PLAYED // len(work.tasks)) if work.tasks else 0
    in_a_row = {key: sum(work.length[n] for n in tasks) for key, (_, tasks) in tried.items()}
    heaviest = sorted(tried, key=lambda key: (-in_a_row[key], key))[:most_tried]
    found = [
        Limit(kind, ids, whole - play(tried[kind, ids][0](), agents, why=False).seconds,
              _named(names, tried[kind, ids][1]), in_a_row[kind, ids] / whole)
        for kind, ids in heaviest
    ]  # fmt: skip
    order = ("worktree", "dependency", "batch")
    found.sort(key=lambda x: (-x.saves, order.index(x.kind), [natural(name) for name in x.ids]))
    return tuple(limit for limit in found if limit.saves > 0)[:most]


def _in_a_row(work: Work, chain: Sequence[Job]) -> dict[Branch | int, list[int]]:
    """The tasks of the chain by worktree, where there are two or more."""
    found: defaultdict[Branch | int, list[int]] = defaultdict(list)
    for job in chain:
        found[work.branch[job.task]].append(job.task)
    return {branch: tasks for branch, tasks in found.items() if len(tasks) > 1}


def _named(names: Sequence[str], tasks: Sequence[int]) -> tuple[TaskId, ...]:
    return tuple(TaskId(names[n]) for n in tasks)
