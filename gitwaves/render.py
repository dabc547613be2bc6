"""The dashboard, and `status`, which adds to it what is local. Design.md, section 11."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from gitwaves.graph import graph_of
from gitwaves.layout import cut, fit, middle, more, pick, plain, table
from gitwaves.model import (
    Batch,
    BatchId,
    BatchState,
    BatchView,
    PointState,
    PointView,
    Progress,
    State,
    TaskId,
    WorktreeView,
    duration,
    natural,
    printable,
)
from gitwaves.pages import next_text, plan_text, show_text
from gitwaves.patterns import regex
from gitwaves.record import Record
from gitwaves.words import (
    MARKS,
    OVER,
    all_done,
    done_of,
    mark,
    next_command,
    on,
    opening,
    point_words,
    points,
    to_land,
    unlocks,
    why_idle,
)

__all__ = ["WIDTH", "Color", "dashboard", "next_text", "plan_text", "show_text", "status_text"]

WIDTH = 100
LABEL = 15  # width of what stands left of CRITICAL PATH and the like
Color = Callable[[str, str], str]
"""Colours a text in a style: heading, done, active, failed, held, runnable, blocked or hint."""

# So many rows of each kind that the whole stays within a screen or so, however large the plan.
DONE_ROWS, OPEN_ROWS, BLOCKED_ROWS = 3, 6, 6
_DOUBTED = frozenset({State.UNPROVEN, State.STALE})
POINT_ROWS, WORKTREE_ROWS, GAP_ROWS = 8, 14, 3
_BLOCKED_WORDS = 3  # tasks named of a batch that is blocked as a whole


def dashboard(progress: Progress) -> str:
    """What is done, at work and blocked, and on what: the same state gives the same bytes anywhere.

    7-bit ASCII, at most 100 columns, no clock reading, nothing local, under sixty lines.
    """
    return "".join(cut(line, WIDTH).rstrip() + "\n" for line in _lines(progress, WIDTH))


def status_text(progress: Progress, *, width: int = WIDTH, color: Color | None = None) -> str:
    """The dashboard with what is local: checkouts, warnings, and what to do next.

    `width` is taken as at least 60; paths and warnings are not cut to it.
    """
    width = max(width, 60)
    lines = [cut(line, width).rstrip() for line in _lines(progress, width)]
    here = [(w.branch, w.path) for w in progress.worktrees if w.path is not None]
    if here:
        shown, hidden = pick(here, WORKTREE_ROWS)
        lines += [
            "",
            "CHECKOUTS",
            *table(shown, (2,)),
            *more(["local" for _ in hidden], "checkouts"),
        ]
    if doubts := _doubts(progress):
        rows, rest = pick(doubts, WORKTREE_ROWS)
        lines += ["", "NOT PROVEN", *table(rows, (2, 2)), *more([row[1] for row in rest], "tasks")]
    if progress.warnings:
        lines += ["", "WARNINGS", *(f"  {warning}" for warning in progress.warnings)]
    if command := next_command(progress):
        lines += ["", f"next: {command}"]
    lines = [printable(line) for line in lines]
    return "\n".join(_colored(lines, color) if color else lines) + "\n"


def _doubts(progress: Progress) -> list[tuple[str, str, str]]:
    """What claims to be done and is not taken for it, with the reason; some reasons are local."""
    doubted = (progress.tasks[t] for t, state in progress.states.items() if state in _DOUBTED)
    rows = [(str(view.id), str(view.state), view.reason) for view in doubted if view.reason]
    closed = [view for view in points(progress) if view.state is not PointState.DONE]
    return rows + [(str(view.id), "unproven", view.reason) for view in closed if view.reason]


def _lines(progress: Progress, width: int) -> list[str]:
    blocks = [_headline(progress, width)]
    if not progress.tasks:
        blocks.append(["No tasks yet: `gitwaves import DOC` cuts them from a design doc."])
    elif all_done(progress):
        left = [plain(words) for words in to_land(progress)]
        shown, hidden = pick(left, POINT_ROWS)
        says = shown + [f"... {len(hidden)} more"] * bool(hidden)
        blocks.append(_labelled("ALL DONE", says or ["and on trunk"]))
    for title, rows in (
        ("BATCHES", _batches(progress, width)),
        ("MERGE POINTS", _merge_points(progress)),
        ("WORKTREES", _worktrees(progress)),
    ):
        blocks.append([title, *rows] if rows else [])
    blocks.append(_foot(progress, width - LABEL))
    states = set(progress.states.values())
    blocks.append(
        ["  ".join(f"{sign} {state}" for state, sign in MARKS.items() if state in states)]
    )
    text = "\n\n".join("\n".join(block) for block in blocks if any(block))
    return text.split("\n")


def _headline(progress: Progress, width: int) -> list[str]:
    title = plain(progress.cards.config.title).upper() or "GITWAVES"
    counts = progress.counts
    total = counts.get("total", 0) - counts.get("cancelled", 0)
    order = ("active", "failed", "runnable", "held", "blocked", "stale", "unproven", "cancelled")
    words = [f"{counts[name]} {name}" for name in order if counts.get(name)]
    line = "  ".join([f"{counts.get('done', 0)}/{total} done", *words])
    room = width - len(line) - 3
    if len(title) > room:
        return [cut(title, width), f"  {line}"]
    return [f"{title:<{min(34, room)}}   {line}"]


def _labelled(label: str, parts: Sequence[str]) -> list[str]:
    return [f"{'' if i else label:<{LABEL}}{part}" for i, part in enumerate(parts)]


# --- batches ---


class _Row(Record):
    """A row of BATCHES: after the name, what is said first, then words, as many as fit."""

    head: tuple[str, str, str]  # bar, name, state
    first: str
    words: Sequence[str]
    most: int | None = None


def _batches(progress: Progress, width: int) -> list[str]:
    runs: list[list[BatchView]] = []  # done batches next to each other share a row
    for view in progress.batches:
        if view.state is BatchState.DONE and runs and runs[-1][0].state is BatchState.DONE:
            runs[-1].append(view)
        else:
            runs.append([view])
    kinds = [run[0].state for run in runs]

    def rows(*states: BatchState) -> list[int]:
        return [i for i, kind in enumerate(kinds) if kind in states]

    # Of what is done the latest says most, of what is open the most urgent: the first.
    latest, _ = pick(rows(BatchState.DONE)[::-1], DONE_ROWS)
    opened, _ = pick(rows(BatchState.ACTIVE, BatchState.RUNNABLE), OPEN_ROWS)
    blocked, _ = pick(rows(BatchState.BLOCKED), BLOCKED_ROWS)
    shown = {*latest, *opened, *blocked}
    hidden = [kinds[i] for i, run in enumerate(runs) if i not in shown for _ in run]

    plans = {batch.id: batch for batch in progress.schedule.batches}
    cells = [_batch_row(progress, plans, runs[i]) for i in sorted(shown)]
    lefts = table([row.head for row in cells], (1, 2, 3))
    start = max(map(len, lefts), default=0) + 3
    column = min(max((len(row.first) for row in cells if row.words), default=0), 44)
    lines = []
    for left, row in zip(lefts, cells, strict=True):
        line = f"{left:<{start}}{row.first:<{column}}   "
        lines.append(line + fit(row.words, width - len(line), most=row.most).strip())
    return lines + more(hidden, "batches")


def _batch_row(
    progress: Progress, plans: Mapping[BatchId, Batch], run: Sequence[BatchView]
) -> _Row:
    view = run[0]
    first, last = plain(view.id), plain(run[-1].id)
    dash = "-" if first.isdigit() and last.isdigit() else ".."
    name = cut(first + dash + last if len(run) > 1 else first, 24)
    filled = min(4 * view.done // max(view.total, 1), 3)
    head = (f"[{'#' * filled:.<4}]", name, view.state.value)
    if view.state is BatchState.BLOCKED and view.blocked_on:
        graph = graph_of(progress.cards)
        left = [task for task in plans[view.id].tasks if progress.states[task] not in OVER]
        first_ones = sorted(map(graph.number.__getitem__, left))[: _BLOCKED_WORDS + 1]
        words = [plain(mark(progress, TaskId(graph.nodes[n]))) for n in first_ones]
        words += left[len(words) :]  # of these only the number is shown
        return _Row(head, plain("on " + on(view.blocked_on, 41)), words, most=_BLOCKED_WORDS)
    waves = [
        (number, marked)
        for batch in run
        for number, wave in enumerate(plans[batch.id].waves, 1)
        if (marked := [plain(mark(progress, t)) for t in wave if progress.states[t] not in OVER])
    ]
    if view.state is BatchState.DONE:
        total = sum(batch.total for batch in run)
        tasks = [task for _, wave in waves for task in wave]
        return _Row(("[####]", name, "done"), f"{total} task{'s' * (total != 1)}", tasks)
    text = f"{view.done}/{view.total}"
    if not waves:
        return _Row(head, text, ())
    number, wave = waves[0]
    # The blanks before `wave` belong to a word, so that what `fit` leaves out is counted in tasks.
    words = [
        f"  wave {n}: {task}" if task is later[0] else task
        for n, later in waves[1:]
        for task in later
    ]
    return _Row(head, f"{text}   wave {number}: {fit(wave, 52)}", words)


# --- merge points ---


def _merge_points(progress: Progress) -> list[str]:
    boxes = {PointState.DONE: "[x]", PointState.READY: "[>]", PointState.REVERTED: "[!]"}
    says = {PointState.DONE: "landed", PointState.BLOCKED: "waiting"}
    urgency = {PointState.READY: 0, PointState.REVERTED: 1, PointState.BLOCKED: 2}
    views = points(progress)
    if not views:
        return []
    waiting = [view for view in views if view.state is not PointState.DONE]
    landed = [view for view in views if view.state is PointState.DONE]
    shown, hidden = pick([*waiting, *landed[::-1]], POINT_ROWS, lambda v: urgency.get(v.state, 3))
    opened = unlocks(progress)

    def row(view: PointView) -> tuple[str, ...]:
        names = opening(progress, opened[view.id])
        return (
            cut(plain(view.id), 24),
            boxes.get(view.state, "[ ]"),
            plain(fit(progress.cards.merge_points[view.id].requires, 24, sep=" + ")),
            plain(f"-> {fit(names, 21)}" if names else ""),
            plain(point_words(view)),
        )

    rows = [row(view) for view in sorted(shown, key=lambda view: natural(view.id))]
    return table(rows, (2, 2, 3, 3)) + more(
        [says.get(view.state, view.state) for view in hidden], "merge points"
    )


# --- worktrees ---


def _worktrees(progress: Progress) -> list[str]:
    urgency = {"failed": 0, "active": 1, "idle": 2, "done": 3}

    def kind(view: WorktreeView) -> str:
        if view.task is not None:
            return progress.states[view.task].value
        over = OVER.issuperset(map(progress.states.__getitem__, view.tasks))
        return "done" if over else "idle"

    def row(view: WorktreeView) -> tuple[str, ...]:
        fact = progress.facts.get(view.task) if view.task is not None else None
        return (
            cut(plain(view.branch), 32),
            cut(plain(view.task or ""), 20),
            kind(view),
            cut(plain(fact.tracking.agent or ""), 16) if fact else "",
            f"{done_of(progress, view.tasks)} done",
            plain(_failure(progress, view.task) if view.task else _waits(progress, view)),
        )

    views = [view for view in progress.worktrees if view.tasks]
    shown, hidden = pick(views, WORKTREE_ROWS, lambda view: urgency.get(kind(view), 1))
    rows = table([row(view) for view in shown], (2, 2, 2, 2, 3))
    return rows + more(map(kind, hidden), "worktrees")


def _failure(progress: Progress, task: TaskId) -> str:
    """Which attempt of a failed task it was, and what became of it."""
    fact = progress.facts.get(task)
    if fact is None or progress.states[task] is not State.FAILED:
        return ""
    attempt = f"attempt {fact.tracking.attempts}" if fact.tracking.attempts else ""
    return ": ".join(part for part in (attempt, fact.reason) if part)


def _waits(progress: Progress, worktree: WorktreeView) -> str:
    """What an idle worktree does next, or waits for."""
    left = [task for task in worktree.tasks if progress.states[task] not in OVER]
    if not left:
        return ""
    for task in left:
        if progress.states[task] is State.RUNNABLE:
            return f"next {task}"
    schedule = progress.schedule
    place = {batch.id: i for i, batch in enumerate(schedule.batches)}
    first = min(left, key=lambda t: (place[schedule.batch_of[t]], schedule.wave_of[t], natural(t)))
    view = progress.tasks[first]
    if view.state is State.HELD:
        return f"{view.id} held by {on(view.blocked_on, 60)}"
    if view.state is State.BLOCKED:
        return f"blocked on {on(view.blocked_on, 60)}"
    return f"{view.id} {view.state}"


# --- what is next ---


def _foot(progress: Progress, width: int) -> list[str]:
    lines = []
    path = [plain(node) for node in progress.critical_path.ids]
    if path and not all_done(progress):
        left = f"     {duration(progress.critical_path.seconds)} left"
        lines += _labelled("CRITICAL PATH", [middle(path, width - len(left)) + left])
    if progress.runnable:
        words = [_runnable(progress, task) for task in progress.runnable]
        lines += _labelled("RUNNABLE NOW", [fit(words, width, sep="  ")])
    elif progress.tasks and not all_done(progress):
        lines += _labelled("RUNNABLE NOW", [plain("none: " + "; ".join(why_idle(progress)))])
    if progress.gaps:
        lines += _labelled("SPEC GAPS", _gaps(progress, width))
    return lines


def _runnable(progress: Progress, task: TaskId) -> str:
    view = progress.tasks[task]
    return plain(
        f"{task} (critical)" if view.critical else f"{task} (slack {duration(view.slack or 0)})"
    )


def _gaps(progress: Progress, width: int) -> list[str]:
    count = f"{len(progress.gaps)} open: "
    shown, hidden = pick(progress.gaps, GAP_ROWS)
    lines = []
    for i, gap in enumerate(shown):
        says = plain(f"{gap.task} holds {fit(gap.affects, 30)}" if gap.affects else gap.task)
        lead = f"{'' if i else count:<{len(count)}}{says}"
        lines.append(f'{lead} ("{cut(plain(gap.text), width - len(lead) - 5)}")')
    return lines + [f"{'':<{len(count)}}... {len(hidden)} more"] * bool(hidden)


# --- colour ---

_HEADING = regex(r"[A-Z][A-Z ]+[A-Z]\b")
_WORD = regex(r"(?<= )(done|landed|active|failed|reverted|runnable|ready|blocked|idle|waits)\b")
_MARKED = regex(r"(?<= )[^ ]+(?:[*!~?]|\(held\))(?= |$)")
_STYLES = {  # a word of state that has no style of its own, or the end of a marked task
    "landed": "done",
    "reverted": "failed",
    "ready": "runnable",
    "idle": "blocked",
    "waits": "blocked",
    "*": "active",
    "!": "failed",
    "~": "held",
    "?": "held",
    ")": "held",
}


def _colored(lines: Iterable[str], color: Color) -> Iterable[str]:
    """Finished lines in colour: headings, the first word of state in a row, and marked tasks."""

    def styled(match: re.Match[str]) -> str:
        word = match[0]
        return color(word, _STYLES.get(word) or _STYLES.get(word[-1]) or word)

    section = ""
    for i, line in enumerate(lines):
        heading = _HEADING.match(line)
        if not line:
            section = ""
        if i == 0:
            yield color(line, "heading")
        elif heading:
            section = heading[0]
            yield color(section, "heading") + line[heading.end() :]
        elif line.startswith("next: "):
            yield color(line, "hint")
        elif section in ("BATCHES", "MERGE POINTS", "WORKTREES"):
            yield _MARKED.sub(styled, _WORD.sub(styled, line, count=1))
        else:
            yield line
