"""The texts of `next`, `show` and `plan`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from gitwaves.graph import graph_of
from gitwaves.layout import cut, fit, middle, oneline, table, wrap
from gitwaves.model import (
    DEFAULT_VERIFY_TIMEOUT,
    BatchId,
    BatchView,
    Fact,
    PointId,
    Progress,
    State,
    Step,
    TaskId,
    Tracking,
    duration,
    natural,
    printable,
)
from gitwaves.plan import chain
from gitwaves.words import (
    busy,
    closing_batch,
    done_of,
    estimate,
    name_of,
    opening,
    point_words,
    require_node,
    titled,
    unlocks,
    why_idle,
    work_left,
)

WIDTH = 100


def next_text(progress: Progress, *, width: int = WIDTH) -> str:
    """The tasks that can start now, the most urgent first; or why there are none."""
    if not progress.runnable:
        return "Nothing is runnable.\n" + _joined(f"  {why}" for why in why_idle(progress))
    waiting = busy(progress)
    rows = []
    for task in progress.runnable:
        view, branch = progress.tasks[task], progress.cards.branch_of(task)
        note = ""
        if task in waiting:
            failed = progress.tasks[waiting[task]].state is State.FAILED
            note = (
                f"({waiting[task]} failed in {branch})"
                if failed
                else f"({branch} is at work on {waiting[task]})"
            )
        slack = "slack " + (duration(view.slack) if view.slack else "0")
        length = duration(estimate(progress, task))
        rows.append([task, "", slack, length, branch, note])
    room = max(width - max(map(len, table(rows, (3, 3, 2, 2, 2), indent=0))) - 3, 20)
    for row in rows:
        row[1] = cut(oneline(progress.cards.tasks[TaskId(row[0])].title), room)
    return _joined(table(rows, (3, 3, 2, 2, 2), indent=0))


def show_text(progress: Progress, name: str) -> str:
    """Everything that is known of one task, merge point or batch.

    Raises:
        UsageError: nothing in the plan is called `name`.
    """
    node = require_node(progress, name)
    if node in progress.tasks:
        return _task_page(progress, TaskId(node))
    if node in progress.merge_points:
        return _point_page(progress, PointId(node))
    return _batch_page(progress, next(view for view in progress.batches if view.id == node))


def plan_text(progress: Progress, *, width: int = WIDTH) -> str:
    """Batches, their waves and how many agents each can use, the critical path, the totals."""
    config, schedule = progress.cards.config, progress.schedule
    counts = (
        _count(len(progress.tasks), "task"),
        f"{len(schedule.batches)} batch" + "es" * (len(schedule.batches) != 1),
        _count(len(progress.merge_points), "merge point"),
    )
    lines = [f"{oneline(config.title) or 'gitwaves'}: {', '.join(counts)}"]
    if not schedule.authored and schedule.batches:
        lines.append("The batches are computed: the plan names none.")
    if schedule.authored and not schedule.barrier:
        lines.append("Each task starts when its own needs are done: batches are labels.")
    opened = unlocks(progress)
    closing = closing_batch(progress)
    for batch in schedule.batches:
        agents = max((min(len(wave), config.agents) for wave in batch.waves), default=0)
        lines += [
            "",
            f"BATCH {batch.id}  {_count(len(batch.tasks), 'task')}, {_count(agents, 'agent')}",
        ]
        for number, wave in enumerate(batch.waves, 1):
            used = min(len(wave), config.agents)
            lead = f"  wave {number:<{len(str(len(batch.waves)))}}  {_count(used, 'agent'):<9}  "
            lines += wrap(lead, [_planned(progress, task) for task in wave], width)
        for point in (point for point, last in closing.items() if last == batch.id):
            requires = " + ".join(progress.cards.merge_points[point].requires)
            names = ", ".join(opening(progress, opened[point]))
            lines.append(f"  {point}: {requires}" + f" -> unlocks {names}" * bool(names))
    path, work = progress.critical_path, work_left(progress)
    if path.ids:
        length = f"     {duration(path.seconds)}"
        lines += ["", f"CRITICAL PATH  {middle(path.ids, width - 15 - len(length))}{length}"]
    if path.seconds:
        lines += [
            f"WORK LEFT      {duration(work)}, {work / path.seconds:.1f} times the critical path",
            f"AGENTS         {config.agents} (`agents` in the plan's config)",
        ]
    return _joined(lines)


def _planned(progress: Progress, task: TaskId) -> str:
    view = progress.tasks[task]
    if view.slack is None:
        return f"{task} ({view.state})"
    slack = "critical" if view.critical else f"slack {duration(view.slack)}"
    return f"{task} ({duration(estimate(progress, task))}, {slack})"


# --- pages of `show` ---


def _task_page(progress: Progress, task: TaskId) -> str:
    cards, view = progress.cards, progress.tasks[task]
    card, stream = cards.tasks[task], cards.workstream_of(task)
    fact = progress.facts.get(task)
    tracking = fact.tracking if fact else Tracking(task)
    reason = card.cancelled or view.reason or (fact.reason if fact else "")
    flags = f" ({', '.join(view.flags)})" * bool(view.flags)
    paths = {w.branch: w.path for w in progress.worktrees}
    batch = progress.schedule.batch_of.get(task, card.batch)
    wave = progress.schedule.wave_of.get(task)
    length = duration(estimate(progress, task))
    if view.slack is not None:
        length += ", critical" if view.critical else f", slack {duration(view.slack)}"
    graph = graph_of(cards)
    fields = {
        "state": f"{view.state}{flags}" + f": {reason}" * bool(reason),
        "workstream": titled(stream),
        "branch": stream.branch,
        "worktree": paths.get(stream.branch) or "",
        "batch": f"{batch}, wave {wave}" if batch and wave else batch or "",
        "estimate": length,
        "agent": tracking.agent or card.agent or stream.agent or "",
        "needs": _nodes(progress, graph.needs(task)),
        "unlocks": _nodes(progress, graph.dependents(task)),
        "boundary": ", ".join(stream.paths),
        "paths": ", ".join(card.paths),
        "produces": ", ".join(card.produces),
        "card": card.path,
        "session": tracking.session or "",
        "attempts": str(tracking.attempts or ""),
        "started": tracking.started or "",
        "finished": tracking.finished or "",
        "cost": ", ".join(f"{key} {value:g}" for key, value in sorted(tracking.cost.items())),
    }
    return _page(
        f"{task}: {card.title}",
        fields,
        {
            "BLOCKED ON": _chain(progress, task),
            "SPEC": card.spec.strip().splitlines(),
            "ACCEPTANCE": _listed(card.acceptance),
            "VERIFY": _steps(card.verify),
            "EVIDENCE": _evidence(fact),
            "LEARNED": _listed(tracking.learnings),
            "SPEC GAPS": _listed(_gaps(progress, task, tracking)),
        },
    )


def _gaps(progress: Progress, task: TaskId, tracking: Tracking) -> Iterator[str]:
    for gap in tracking.spec_gaps:
        affects = fit(sorted(gap.affects, key=natural), 60, sep=", ") or "no task"
        yield f"{'resolved' if gap.resolved else 'open'}, affects {affects}: {gap.text}"
    for other in progress.gaps:
        if task in other.affects:
            yield f"{other.task} holds {task}: {other.text}"


def _point_page(progress: Progress, point: PointId) -> str:
    cards, view = progress.cards, progress.merge_points[point]
    card, fact = cards.merge_points[point], progress.facts.get(point)
    words = point_words(view)
    fields = {
        "state": words + f" ({view.reason})" * bool(view.reason),
        "requires": _nodes(progress, card.requires),
        "unlocks": ", ".join(opening(progress, unlocks(progress)[point])),
        "commit": view.commit or "",
        "card": card.path,
    }
    return _page(
        f"{point}: {card.title}",
        fields,
        {
            "BLOCKED ON": _chain(progress, point),
            "SPEC": card.spec.strip().splitlines(),
            "VERIFY": _steps(cards.steps_of(point)),
            "EVIDENCE": _evidence(fact),
        },
    )


def _batch_page(progress: Progress, view: BatchView) -> str:
    waves = next(batch.waves for batch in progress.schedule.batches if batch.id == view.id)
    cards = progress.cards
    rows = [
        (f"wave {number}", t, progress.states[t], cards.branch_of(t), cards.tasks[t].title)
        for number, wave in enumerate(waves, 1)
        for t in wave
    ]
    fields = {
        "state": view.state.value,
        "done": done_of(progress, [task for wave in waves for task in wave]),
        "failed": str(view.failed or ""),
    }
    blocks = {
        "BLOCKED ON": _chain(progress, view.id),
        "TASKS": table([tuple(map(oneline, row)) for row in rows], (2, 2, 2, 2), indent=0),
    }
    return _page(f"Batch {view.id}", fields, blocks)


def _page(title: str, fields: Mapping[str, str], blocks: Mapping[str, Iterable[str]]) -> str:
    lines = [oneline(title)]
    lines += table([(name, oneline(value)) for name, value in fields.items() if value], (2,))
    for heading, block in blocks.items():
        body = [f"  {line.expandtabs(4)}" for line in block]
        lines += ["", heading, *body] if body else []
    return _joined(lines)


def _nodes(progress: Progress, nodes: Iterable[str]) -> str:
    """Tasks and merge points, each with its state."""
    words = []
    for node in nodes:
        if node in progress.tasks:
            words.append(f"{node} ({progress.states[TaskId(node)]})")
        elif node in progress.merge_points:
            words.append(f"{node} ({progress.merge_points[PointId(node)].state})")
        else:
            words.append(f"{node} (unknown)")
    return ", ".join(words)


def _chain(progress: Progress, node: TaskId | PointId | BatchId) -> list[str]:
    return [
        f"{'  ' * depth}{name_of(blocker)}  {state}".rstrip()
        for depth, blocker, state in chain(progress, node)
    ]


def _steps(steps: Sequence[Step]) -> list[str]:
    lines = []
    for number, step in enumerate(steps, 1):
        notes = ["always"] * step.always
        if step.timeout != DEFAULT_VERIFY_TIMEOUT:
            notes.append(duration(step.timeout))
        text = f"confirm: {step.manual}" if step.manual is not None else step.run or ""
        text += f"   ({', '.join(notes)})" * bool(notes)
        lines += _item(f"{number}. ", text)
    return lines


def _evidence(fact: Fact | None) -> list[str]:
    evidence = fact.tracking.evidence if fact else None
    if fact is None or evidence is None:
        return []
    facts = {"commit": evidence.commit, "tree": evidence.tree, "spec": evidence.spec}
    if fact.signer is not None:
        facts["signed"] = f"by {fact.signer}"
    lines = table(list(facts.items()), (2,), indent=0)
    lines += [f"input   {oid}" for oid in evidence.inputs]
    return lines + table(
        [(f"exit {run.exit}", f"{run.seconds:.1f}s", oneline(run.run)) for run in evidence.runs],
        (2, 2),
        indent=0,
    )


def _listed(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in _item("- ", text)]


def _item(bullet: str, text: str) -> list[str]:
    first, *others = text.strip().splitlines() or [""]
    return [bullet + first, *(" " * len(bullet) + line for line in others)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _joined(lines: Iterable[str]) -> str:
    return "".join(printable(line).rstrip() + "\n" for line in lines)
