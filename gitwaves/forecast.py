"""What N agents would make of a plan: `plan --agents`. Pure.

Estimates learn from what was measured: the times of done tasks, from claim to verification, against
their estimates. What is left is played again and again, each task off its estimate by as much as
one of those was; the middle of all these plays is the forecast, and their spread its range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from itertools import pairwise
from statistics import fmean

from gitwaves.batches import estimate
from gitwaves.layout import fit, middle, table
from gitwaves.model import Cards, Fact, Progress, State, Status, TaskId, Verdict, duration, natural
from gitwaves.record import Record
from gitwaves.simulation import Limit, Work, limits, play

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FEWEST = 3  # tasks that must have been measured before anything is learnt from them
_DRAWS, _FEWEST_DRAWS = 60, 7  # how often the plan is played to find the range
_PLAYED = 20_000  # tasks in all: a large plan, whose tasks even out, is played less often
_RANGE = (0.1, 0.9)


class Learnt(Record):
    """How long tasks took, as multiples of their estimates, ascending; empty where too few did."""

    ratios: tuple[float, ...] = ()
    measured: int = 0

    @property
    def factor(self) -> float:
        """By what estimates are off on the whole."""
        return fmean(self.ratios) if self.ratios else 1.0

    def spread(self) -> tuple[float, float]:
        """Between which multiples most tasks lay."""
        return _between(self.ratios) if self.ratios else (1.0, 1.0)


class Row(Record):
    """What so many agents come to; times in seconds from now."""

    agents: int
    seconds: int
    range: tuple[int, int] | None  # in four plays of five the end lies between; None: not known
    speedup: float
    use: tuple[float, ...]  # of each agent, from 0 to 1
    at_least: int
    without_barriers: int | None  # None where the plan has none


class Forecast(Record):
    """The plan played from now on with different numbers of agents."""

    work: int  # seconds
    path: tuple[str, ...]
    path_seconds: int
    learnt: Learnt
    rows: tuple[Row, ...]
    limits: tuple[Limit, ...]  # at the most agents asked for
    stuck: tuple[TaskId, ...]  # what can never start
    short: bool  # so many agents, and a task that sets the end still waits for one


def learn(cards: Cards, facts: Mapping[str, Fact]) -> Learnt:
    """What the done tasks teach about the estimates; nothing where fewer than `FEWEST` are."""
    ratios = []
    for task in cards.tasks.values():
        fact = facts.get(task.id)
        if fact is None or fact.verdict not in (Verdict.HOLDS, Verdict.UNCHECKED, Verdict.STALE):
            continue
        tracking = fact.tracking
        if tracking.status is Status.DONE and tracking.started and tracking.finished:
            took = _moment(tracking.finished) - _moment(tracking.started)
            if took >= 0:
                ratios.append(max(took, 1) / estimate(cards, task))
    return Learnt(tuple(sorted(ratios)) if len(ratios) >= FEWEST else (), len(ratios))


def forecast(now: Progress, counts: Sequence[int], since: float | None = None) -> Forecast:
    """Plays what is left with each number of agents.

    Args:
        counts: numbers of agents, each at least one; at least one number.
        since: the time in seconds since the epoch, by which what is at work has already run.

    Raises:
        CycleError: the plan cannot be put in order.
    """
    learnt = learn(now.cards, now.facts)
    plain = Work.of(now)
    work = plain.lasting(_left(now, plain, learnt.factor, since))
    times = max(_FEWEST_DRAWS, min(_DRAWS, _PLAYED // max(len(work.tasks), 1)))
    draws = [work]
    if learnt.ratios:
        draws = [work.lasting(_drawn(now, plain, learnt, k, since)) for k in range(times)]
    rows = [_row(now, work, draws, agents) for agents in counts]
    path, seconds = work.longest()
    most = play(work, max(counts))
    return Forecast(
        work.total,
        path,
        seconds,
        learnt,
        tuple(rows),
        limits(now, work, max(counts)),
        tuple(TaskId(work.graph.nodes[n]) for n in most.stuck),
        any(job.reason is not None and job.reason.kind == "agents" for job in most.chain()),
    )


def _row(now: Progress, work: Work, draws: Sequence[Work], agents: int) -> Row:
    plays = [play(draw, agents, why=False) for draw in draws]
    plays.sort(key=lambda played: played.seconds)
    typical = plays[len(plays) // 2]
    ends = [played.seconds for played in plays]
    free: list[int] = []
    if now.schedule.barrier:
        free = sorted(play(draw.without_barriers(), agents, why=False).seconds for draw in draws)
    return Row(
        agents,
        typical.seconds,
        (int(_between(ends)[0]), int(_between(ends)[1])) if len(ends) > 1 else None,
        work.total / typical.seconds if typical.seconds else 1.0,
        typical.use(),
        work.at_least(agents),
        free[len(free) // 2] if free else None,
    )


def _left(now: Progress, work: Work, factor: float, since: float | None) -> dict[int, int]:
    """How much longer each task takes; what is at work has some of it behind it, never all."""
    found = {}
    for n, seconds in work.length.items():
        task = TaskId(work.graph.nodes[n])
        whole = max(1, round(seconds * factor))
        started = now.facts[task].tracking.started if task in now.facts else None
        if since is not None and started and now.states[task] is State.ACTIVE:
            whole = max(whole - max(int(since - _moment(started)), 0), whole // 10, 1)
        found[n] = whole
    return found


def _drawn(
    now: Progress, work: Work, learnt: Learnt, number: int, since: float | None
) -> dict[int, int]:
    """Lengths as they might be: each task off its estimate by as much as some measured one was.

    Drawn by a digest of the id, so that the same cards always give the same answer.
    """
    found: dict[int, int] = {}
    for n in work.length:
        digest = blake2b(f"{number} {work.graph.nodes[n]}".encode(), digest_size=8).digest()
        ratio = learnt.ratios[int.from_bytes(digest) % len(learnt.ratios)]
        found[n] = max(1, round(work.length[n] * ratio))
    return _left(now, work.lasting(found), 1.0, since)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _between(values: Sequence[float]) -> tuple[float, float]:
    """What four of five of the ascending values lie between."""
    last = len(values) - 1
    return values[round(last * _RANGE[0])], values[round(last * _RANGE[1])]


# --- shown ---


def forecast_text(found: Forecast, *, width: int = 100) -> str:
    """The forecast as `plan --agents` prints it."""
    if not found.rows or not found.work:
        return "Nothing is left to do.\n"
    barriers = found.rows[0].without_barriers is not None
    head = ["AGENTS", "END IN", "LIKELY", "SPEED-UP", "AT LEAST", "NO BARRIERS", "USE OF EACH, %"]
    rows = [head]
    for row in found.rows:
        likely = " - ".join(duration(seconds) for seconds in row.range) if row.range else ""
        free = duration(row.without_barriers) if row.without_barriers is not None else ""
        rows.append(
            [
                str(row.agents),
                duration(row.seconds),
                likely,
                f"{row.speedup:.1f}",
                duration(row.at_least),
                free,
                fit([f"{share * 100:.0f}" for share in row.use], 40),
            ]
        )
    for column, wanted in ((2, bool(found.learnt.ratios)), (5, barriers)):
        if not wanted:
            for cells in rows:
                cells[column] = ""
    lines = [_by_what(found), "", *table(rows, (2, 2, 2, 2, 2, 2), indent=0), ""]
    lines.append(
        f"CRITICAL PATH  {duration(found.path_seconds)} of {duration(found.work)} of work: "
        f"{middle(found.path, width - 50)}"
    )
    lines += _barriers(found)
    lines += _longer(found)
    for number, limit in enumerate(found.limits):
        lines.append(("LIMITS         " if not number else " " * 15) + words(limit))
    if not found.limits:
        none = "no single boundary, dependency or batch"
        what = "more agents would help" if found.short else none
        lines.append(f"LIMITS         {what}")
    if found.stuck:
        lines.append(f"NEVER STARTS   {fit(sorted(found.stuck, key=natural), width - 15)}")
    return "".join(line.rstrip() + "\n" for line in lines)


def _by_what(found: Forecast) -> str:
    learnt = found.learnt
    if not learnt.ratios:
        seen = (
            f"{learnt.measured} task{'s' * (learnt.measured != 1)}" if learnt.measured else "none"
        )
        return (
            f"Played from now on by the estimates; measured so far: {seen}, so no range is given."
        )
    low, high = learnt.spread()
    return (
        f"Played from now on, as if the rest took its estimates as {learnt.measured} done tasks did: "
        f"{learnt.factor:.2g} times on average, most of them {low:.2g} to {high:.2g}."
    )


def _barriers(found: Forecast) -> list[str]:
    costs = [
        f"{duration(row.seconds - row.without_barriers)} with {row.agents}"
        for row in found.rows
        if row.without_barriers is not None and row.seconds > row.without_barriers
    ]
    return [f"BARRIERS       between batches cost {', '.join(costs)}"] if costs else []


def _longer(found: Forecast) -> list[str]:
    """Where more agents take longer: they can, since none of them ever waits for a better task."""
    rows = sorted(found.rows, key=lambda row: row.agents)
    return [
        f"NOTE           {row.agents} agents take longer than {less.agents}: an agent that is free "
        "takes what there is"
        for less, row in pairwise(rows)
        if row.seconds > less.seconds
    ]


def words(limit: Limit) -> str:
    """A limit as a sentence, with what to do about it."""
    gain = f"the end comes {duration(limit.saves)} sooner"
    if limit.kind == "worktree":
        one = len(limit.ids) == 1
        return (
            f"split {' + '.join(limit.ids)}: {'its' if one else 'their'} {len(limit.tasks)} tasks in "
            f"a row are {limit.share * 100:.0f} % of the time; {gain}"
        )
    if limit.kind == "dependency":
        return f"{limit.ids[0]} needs {limit.ids[1]}: without that {gain}"
    return f"Batch {limit.ids[0]} waits for Batch {limit.ids[1]}: without that {gain}"


def forecast_json(found: Forecast) -> dict[str, Any]:
    """The forecast, as `schemas/plan.schema.json` documents it."""
    low, high = found.learnt.spread()
    return {
        "work_seconds": found.work,
        "critical_path": {"ids": list(found.path), "seconds": found.path_seconds},
        "measured": {
            "tasks": found.learnt.measured,
            "factor": round(found.learnt.factor, 4),
            "low": round(low, 4),
            "high": round(high, 4),
        },
        "agents": [
            {
                "agents": row.agents,
                "seconds": row.seconds,
                "likely_seconds": list(row.range) if row.range else None,
                "speedup": round(row.speedup, 3),
                "use": [round(share, 3) for share in row.use],
                "at_least_seconds": row.at_least,
                "without_barriers_seconds": row.without_barriers,
            }
            for row in found.rows
        ],
        "limits": [
            {
                "kind": limit.kind,
                "ids": list(limit.ids),
                "saves_seconds": limit.saves,
                "tasks": list(limit.tasks),
                "share": round(limit.share, 3),
            }
            for limit in found.limits
        ],
        "more_agents_would_help": found.short,
        "never_starts": list(found.stuck),
    }
