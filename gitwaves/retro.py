"""Looking back: where specs were wrong, what tasks took, and what was waited for. Pure.

Everything is read from cards and commits, and no clock is: a clone gives the same numbers.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from gitwaves.graph import graph_of
from gitwaves.layout import cut, fit, oneline, pick, table
from gitwaves.model import (
    BatchId,
    PointId,
    PointState,
    Progress,
    State,
    TaskId,
    Tracking,
    WorkstreamId,
    duration,
    natural,
)
from gitwaves.record import Record, field, replace
from gitwaves.state import Facts
from gitwaves.words import done_of, estimate, points

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WIDTH = 100
_VERIFIED = frozenset({State.DONE, State.STALE})  # their steps passed once
_MOST = 12  # rows of a table that has no end of its own


class FoundGap(Record):
    """A place where a spec was wrong."""

    task: TaskId
    text: str
    affects: tuple[str, ...]
    open: bool


class Tally(Record):
    """What was counted of a workstream, or of the whole plan; lengths in seconds."""

    tasks: int = 0  # cancelled ones apart
    verified: int = 0
    failed: int = 0
    first_pass: int = 0  # verified at the first attempt
    attempts: int = 0  # of the verified and the failed
    gaps: int = 0
    open_gaps: int = 0
    timed: int = 0  # tasks of which both times are known: the next two are of these
    estimate: int = 0
    actual: int = 0
    cost: Mapping[str, float] = field(default_factory=dict)  # turns, tokens, money


class Timed(Record):
    """How long a task took, from its claim to its done commit, in seconds."""

    task: TaskId
    estimate: int
    actual: int


class Landing(Record):
    """A merge point: `waited` are the seconds from its last task's end to its landing."""

    point: PointId
    state: PointState
    last: TaskId | None = None  # the task that was done last
    waited: int | None = None  # None: it has not landed, or a time is not known


class Held(Record):
    """A task that only its batch kept from starting, for so many seconds."""

    task: TaskId
    batch: BatchId
    seconds: int


class Retro(Record):
    """What there is to learn from a plan that was worked on."""

    title: str
    done: str  # `41/58`
    elapsed: int | None  # seconds from the first start to the last end or landing
    total: Tally
    workstreams: Mapping[WorkstreamId, Tally]
    gaps: tuple[FoundGap, ...]
    tasks: tuple[Timed, ...]
    landings: tuple[Landing, ...]
    barrier: bool  # whether batches waited for each other
    held: tuple[Held, ...]  # the longest first


def retro(progress: Progress, landed: Mapping[str, int]) -> Retro:
    """Looks back on a plan.

    Args:
        landed: when each merge point landed, in seconds since 1970.
    """
    # all of it is looked at again and again, so it is made once
    facts, views = Facts.of(dict(progress.facts)), dict(progress.tasks)
    progress = replace(progress, facts=facts, tasks=views)
    tasks = sorted(views, key=natural)
    gaps = tuple(_gaps(progress, tasks))
    timed = {t.task: t for t in _timed(progress, tasks)}
    streams: defaultdict[WorkstreamId, list[TaskId]] = defaultdict(list)
    for task in tasks:
        streams[progress.cards.folders[task]].append(task)
    moments = [m for t in tasks for m in _span(progress, t) if m is not None]
    moments += [landed[p] for p in progress.merge_points if p in landed]
    barrier = progress.schedule.barrier and len(progress.schedule.batches) > 1
    return Retro(
        title=oneline(progress.cards.config.title),
        done=done_of(progress, tasks),
        elapsed=max(moments) - min(moments) if moments else None,
        total=_tally(progress, tasks, gaps, timed),
        workstreams={
            stream: _tally(progress, streams[stream], gaps, timed)
            for stream in sorted(streams, key=natural)
        },
        gaps=gaps,
        tasks=tuple(timed.values()),
        landings=tuple(_landings(progress, landed)),
        barrier=barrier,
        held=tuple(_held(progress, landed)) if barrier else (),
    )


# --- reading cards -----------------------------------------------------------------------------


def _tracking(progress: Progress, task: str) -> Tracking:
    fact = progress.facts.get(task)
    return fact.tracking if fact else Tracking(task)


def _moment(text: str | None) -> int | None:
    """Seconds since 1970 of a time as cards say it."""
    try:
        return int(datetime.fromisoformat(text).timestamp()) if text else None
    except (ValueError, OverflowError):
        return None


def _span(progress: Progress, task: TaskId) -> tuple[int | None, int | None]:
    """When a task was started, and when it was done."""
    tracking = _tracking(progress, task)
    over = progress.states[task] in _VERIFIED
    return _moment(tracking.started), _moment(tracking.finished) if over else None


def _gaps(progress: Progress, tasks: Iterable[TaskId]) -> Iterator[FoundGap]:
    still = {(gap.task, gap.text) for gap in progress.gaps}
    for task in tasks:
        for gap in _tracking(progress, task).spec_gaps:
            affects = tuple(sorted(gap.affects, key=natural))
            yield FoundGap(task, oneline(gap.text), affects, (task, gap.text) in still)


def _timed(progress: Progress, tasks: Iterable[TaskId]) -> Iterator[Timed]:
    for task in tasks:
        start, end = _span(progress, task)
        if start is not None and end is not None:
            yield Timed(task, estimate(progress, task), max(end - start, 0))


def _tally(
    progress: Progress,
    tasks: Sequence[TaskId],
    gaps: Iterable[FoundGap],
    timed: Mapping[TaskId, Timed],
) -> Tally:
    states = {task: progress.states[task] for task in tasks}
    verified = [task for task in tasks if states[task] in _VERIFIED]
    failed = [task for task in tasks if states[task] is State.FAILED]
    attempts = {t: max(_tracking(progress, t).attempts, 1) for t in (*verified, *failed)}
    found = [gap for gap in gaps if gap.task in states]
    known = [timed[task] for task in tasks if task in timed]
    cost: Counter[str] = Counter()
    for task in tasks:
        cost.update(_tracking(progress, task).cost)
    return Tally(
        tasks=sum(state is not State.CANCELLED for state in states.values()),
        verified=len(verified),
        failed=len(failed),
        first_pass=sum(attempts[task] == 1 for task in verified),
        attempts=sum(attempts.values()),
        gaps=len(found),
        open_gaps=sum(gap.open for gap in found),
        timed=len(known),
        estimate=sum(t.estimate for t in known),
        actual=sum(t.actual for t in known),
        cost={name: round(value, 6) for name, value in sorted(cost.items()) if value},
    )


def _landings(progress: Progress, landed: Mapping[str, int]) -> Iterator[Landing]:
    for view in points(progress):
        ends = [
            (end, natural(task), task)
            for task in progress.cards.merge_points[view.id].requires
            if task in progress.tasks and (end := _span(progress, task)[1]) is not None
        ]
        at = landed.get(view.id) if view.state is PointState.DONE else None
        end, _, last = max(ends, default=(None, None, None))
        waited = None if at is None or end is None else max(at - end, 0)
        yield Landing(view.id, view.state, last, waited)


def _held(progress: Progress, landed: Mapping[str, int]) -> Iterator[Held]:
    """What the barriers cost: per task, the time that it could have run but for its batch.

    It could have run once what it needs was done (for one that needs nothing: once anything was
    begun) and its worktree was free; the barrier fell when the batches before it were done.
    """
    graph = graph_of(progress.cards)
    spans = {task: _span(progress, task) for task in progress.tasks}
    begun = [start for start, _ in spans.values() if start is not None]
    found = []
    before: list[int] = []  # when the tasks of the batches before were done
    for batch in progress.schedule.batches:
        for task in batch.tasks:
            start = spans[task][0]
            if start is None:
                continue
            # what was done again after the start did not hold it up
            gate = [end for end in before if end <= start]
            branch = progress.cards.branch_of(task)
            free = [spans[t][1] for t in progress.tasks if progress.cards.branch_of(t) == branch]
            needs = [spans[TaskId(n)][1] for n in graph.needs(task) if n in spans]
            needs += [landed.get(n) for n in graph.needs(task) if n in progress.merge_points]
            ready = [end for end in (*needs, *free) if end is not None and end <= start]
            cost = max(gate, default=0) - max([min(begun), *ready])
            if cost > 0:
                found.append(Held(task, batch.id, cost))
        before += [end for task in batch.tasks if (end := spans[task][1]) is not None]
    return iter(sorted(found, key=lambda h: (-h.seconds, natural(h.task))))


# --- JSON --------------------------------------------------------------------------------------


def retro_json(found: Retro) -> dict[str, Any]:
    """Everything, as `schemas/retro.schema.json` documents it."""
    return {
        "version": 1,
        "title": found.title,
        "done": found.total.verified,
        "elapsed_seconds": found.elapsed,
        "total": _counted(found.total),
        "workstreams": [{"id": name, **_counted(t)} for name, t in found.workstreams.items()],
        "gaps": [
            {"task": g.task, "text": g.text, "affects": list(g.affects), "open": g.open}
            for g in found.gaps
        ],
        "tasks": [
            {"id": t.task, "estimate_seconds": t.estimate, "actual_seconds": t.actual}
            for t in found.tasks
        ],
        "merge_points": [
            {"id": p.point, "state": str(p.state), "last": p.last, "waited_seconds": p.waited}
            for p in found.landings
        ],
        "barriers": {
            "dispatch": "batches" if found.barrier else "dependencies",
            "held_seconds": sum(h.seconds for h in found.held),
            "tasks": [
                {"id": h.task, "batch": h.batch, "held_seconds": h.seconds} for h in found.held
            ],
        },
    }


def _counted(tally: Tally) -> dict[str, Any]:
    return {
        "tasks": tally.tasks,
        "verified": tally.verified,
        "failed": tally.failed,
        "first_pass": tally.first_pass,
        "attempts": tally.attempts,
        "gaps": tally.gaps,
        "open_gaps": tally.open_gaps,
        "timed": tally.timed,
        "estimate_seconds": tally.estimate,
        "actual_seconds": tally.actual,
        "cost": dict(tally.cost),
    }


# --- text and Markdown -------------------------------------------------------------------------


class _Section(Record):
    title: str
    lead: str
    header: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()


def retro_text(found: Retro) -> str:
    """All of it, for a terminal: at most 100 columns."""
    lines = [cut(found.title.upper() or "GITWAVES", WIDTH), f"  {_headline(found)}"]
    for section in _sections(found):
        lines += ["", section.title.upper(), f"  {section.lead}"]
        if section.rows:
            rows, hidden = pick(section.rows, _MOST)
            lines += table([section.header, *rows], [2] * len(section.header))
            if hidden:
                lines.append(f"  ... {len(hidden)} more; `--format markdown` has them all")
    return "".join(cut(line, WIDTH).rstrip() + "\n" for line in lines)


def retro_markdown(found: Retro) -> str:
    """All of it, as Markdown to be kept beside the design doc."""
    parts = [f"# Looking back on {_escaped(found.title) or 'the plan'}", _headline(found)]
    for section in _sections(found):
        parts += [f"## {section.title}", section.lead]
        if section.rows:
            lines = [section.header, ("---",) * len(section.header), *section.rows]
            body = (
                "| " + " | ".join(c if n == 1 else _escaped(c) for c in cells) + " |"
                for n, cells in enumerate(lines)
            )
            parts.append("\n".join(body))
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", text)


def _headline(found: Retro) -> str:
    if not found.total.tasks:
        return "The plan has no tasks yet."
    took = "" if found.elapsed is None else f", {_length(found.elapsed)} from first to last"
    return f"{found.done} tasks done{took}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _length(seconds: int) -> str:
    return duration(seconds) if seconds else "0s"


def _sections(found: Retro) -> Iterator[_Section]:
    yield _gap_section(found)
    yield _stream_section(found)
    yield _time_section(found)
    yield _landing_section(found)
    yield _barrier_section(found)


def _gap_section(found: Retro) -> _Section:
    title = "Spec gaps"
    if not found.gaps:
        return _Section(title, "Nobody reported a place where a spec was wrong.")
    still = found.total.open_gaps
    lead = f"{len(found.gaps)} found, {still} of them open." if still else ""
    rows = [
        (g.task, "open" if g.open else "resolved", fit(g.affects, 24, sep=", ") or "-", g.text)
        for g in sorted(found.gaps, key=lambda g: not g.open)
    ]
    lead = lead or f"{len(found.gaps)} found, all resolved."
    return _Section(title, lead, ("task", "state", "affects", "what was wrong"), rows)


def _stream_section(found: Retro) -> _Section:
    title, total = "Verification and cost", found.total
    tried = total.verified + total.failed
    if not tried:
        return _Section(title, "No task was verified yet.")
    lead = (
        f"{total.first_pass} of {_count(tried, 'task')} passed at the first attempt "
        f"({100 * total.first_pass // tried} %); {_count(total.attempts, 'attempt')} in all."
    )
    header = (
        *("workstream", "done", "first pass", "attempts", "gaps"),
        *("estimate", "actual", "cost", "turns", "tokens"),
    )
    rows = [_stream_row(name, tally) for name, tally in found.workstreams.items()]
    return _Section(title, lead, header, [*rows, _stream_row("all", total)])


def _stream_row(name: str, tally: Tally) -> tuple[str, ...]:
    tried = tally.verified + tally.failed
    gaps = f"{tally.gaps} ({tally.open_gaps} open)" if tally.open_gaps else str(tally.gaps or "-")
    return (
        cut(oneline(name), 24),
        f"{tally.verified}/{tally.tasks}",
        f"{tally.first_pass}/{tried}" if tried else "-",
        str(tally.attempts or "-"),
        gaps,
        _length(tally.estimate) if tally.timed else "-",
        _length(tally.actual) if tally.timed else "-",
        f"${tally.cost['money']:.2f}" if tally.cost.get("money") else "-",
        *(_short(tally.cost.get(name, 0)) for name in ("turns", "tokens")),
    )


def _short(number: float) -> str:
    """A number of up to five characters.

    >>> _short(0), _short(9_999), _short(40_007), _short(1_250_000)
    ('-', '9999', '40k', '1.2M')
    """
    if number < 10_000:
        return f"{number:.0f}" if number else "-"
    return f"{number / 1000:.0f}k" if number < 1_000_000 else f"{number / 1_000_000:.1f}M"


def _time_section(found: Retro) -> _Section:
    title = "Estimate against actual"
    if not found.tasks:
        return _Section(title, "No task was started and done, so there is nothing to compare.")
    whole, took = found.total.estimate, found.total.actual
    ratio = took / whole if whole else 0
    lead = f"{_count(len(found.tasks), 'task')}: {_length(whole)} estimated, {_length(took)} taken"
    far = sorted(found.tasks, key=lambda t: (-(t.actual - t.estimate), natural(t.task)))
    rows = [
        (t.task, _length(t.estimate), _length(t.actual), f"{t.actual / max(t.estimate, 1):.1f} x")
        for t in far
        if t.actual > t.estimate
    ]
    lead += f" ({ratio:.2g} times). " + (
        f"{len(rows)} took longer than estimated:" if rows else "None took longer than estimated."
    )
    return _Section(title, lead, ("task", "estimate", "actual", "ratio"), rows)


def _landing_section(found: Retro) -> _Section:
    title = "Merge points"
    known = [p for p in found.landings if p.waited is not None]
    if not found.landings:
        return _Section(title, "The plan has no merge points.")
    if not known:
        return _Section(title, "None has landed yet.")
    waited = sum(p.waited or 0 for p in known)
    lead = (
        f"{len(known)} of {len(found.landings)} landed; finished work waited {_length(waited)} "
        "for them after their last task."
    )
    rows = [
        (p.point, _length(p.waited or 0), p.last or "")
        for p in sorted(known, key=lambda p: (-(p.waited or 0), natural(p.point)))
    ]
    return _Section(title, lead, ("merge point", "waited", "last task"), rows)


def _barrier_section(found: Retro) -> _Section:
    title = "Barriers between batches"
    if not found.barrier:
        return _Section(title, "There were none: each task starts when its own needs are done.")
    if not found.held:
        return _Section(title, "They cost nothing: no task waited for its batch alone.")
    lead = (
        f"They cost {_length(sum(h.seconds for h in found.held))}: "
        f"{_count(len(found.held), 'task')} could have run, but for the batches before."
    )
    rows = [(h.task, h.batch, _length(h.seconds)) for h in found.held]
    return _Section(title, lead, ("task", "batch", "waited"), rows)
