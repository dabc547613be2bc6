"""The JSON of `status`, `next`, `show` and `plan`: stable, documented under `schemas/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gitwaves.graph import graph_of
from gitwaves.model import (
    BatchId,
    BatchView,
    Blocker,
    Evidence,
    Gap,
    PointId,
    PointView,
    Progress,
    Step,
    TaskId,
    Tracking,
    WorktreeView,
    natural,
)
from gitwaves.plan import chain
from gitwaves.words import (
    busy,
    closing_batch,
    estimate,
    points,
    require_node,
    unlocks,
    work_left,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]
else:
    Json = dict

VERSION = 1
_COUNTS = (
    *("total", "done", "active", "runnable", "blocked"),
    *("held", "failed", "stale", "unproven", "cancelled"),
)
_NEXT = (
    *("id", "title", "workstream", "branch", "worktree", "batch", "wave"),
    *("slack_minutes", "estimate_minutes", "critical"),
)


def minutes(seconds: int) -> int:
    """Seconds in minutes, rounded up.

    >>> minutes(0), minutes(1), minutes(5400)
    (0, 1, 90)
    """
    return -(-seconds // 60)


def status_json(progress: Progress) -> Json:
    """Everything `status` shows, as `schemas/status.schema.json` documents it."""
    return {**status_outline(progress), "tasks": list(status_tasks(progress))}


def status_tasks(progress: Progress) -> Iterator[Json]:
    """The tasks of `status_json`, one after the other."""
    local = {w.branch: w.path for w in progress.worktrees}
    for task in sorted(progress.tasks, key=natural):
        yield _task(progress, task, local.get(progress.cards.branch_of(task)))


def status_outline(progress: Progress) -> Json:
    """The same without them: its `tasks` are empty."""
    config, opened = progress.cards.config, unlocks(progress)
    return {
        "version": VERSION,
        "title": config.title,
        "trunk": {"branch": config.trunk, "commit": progress.trunk_commit},
        "counts": {name: progress.counts.get(name, 0) for name in _COUNTS},
        "batches": _batches(progress),
        "merge_points": [_point(progress, opened, view) for view in points(progress)],
        "tasks": [],
        "worktrees": [_worktree(progress, view) for view in progress.worktrees],
        "gaps": [
            {"task": gap.task, "text": gap.text, "affects": list(gap.affects)}
            for gap in progress.gaps
        ],
        "critical_path": _critical_path(progress),
        "warnings": list(progress.warnings),
    }


def next_json(progress: Progress) -> Json:
    """The runnable tasks, the most urgent first."""
    local = {w.branch: w.path for w in progress.worktrees}
    waiting = busy(progress)
    tasks = []
    for task in progress.runnable:
        shown = _task(progress, task, local.get(progress.cards.branch_of(task)))
        tasks.append({**{key: shown[key] for key in _NEXT}, "busy_with": waiting.get(task)})
    return {"version": VERSION, "tasks": tasks}


def show_json(progress: Progress, name: str) -> Json:
    """Everything that is known of one task, merge point or batch; `kind` says which it is.

    Raises:
        UsageError: nothing in the plan is called `name`.
    """
    node = require_node(progress, name)
    why = [
        {"depth": depth, **_blocker(blocker), "state": str(state)}
        for depth, blocker, state in chain(progress, node)
    ]
    return {"version": VERSION, **_node(progress, node), "why": why}


def _node(progress: Progress, node: TaskId | PointId | BatchId) -> Json:
    if node in progress.tasks:
        return {"kind": "task", **_whole_task(progress, TaskId(node))}
    if node in progress.merge_points:
        return {"kind": "merge_point", **_whole_point(progress, PointId(node))}
    return {"kind": "batch", **next(b for b in _batches(progress) if b["id"] == node)}


def plan_json(progress: Progress) -> Json:
    """What follows from the specs: batches, waves, critical path, slack, totals."""
    return {**plan_outline(progress), "tasks": list(plan_tasks(progress))}


def plan_tasks(progress: Progress) -> Iterator[Json]:
    """The tasks of `plan_json`, one after the other."""
    cards, schedule, graph = progress.cards, progress.schedule, graph_of(progress.cards)
    for task in sorted(progress.tasks, key=natural):
        card = cards.tasks[task]
        yield {
            "id": task,
            "title": card.title,
            "workstream": card.workstream,
            "batch": schedule.batch_of.get(task, card.batch),
            "wave": schedule.wave_of.get(task),
            "needs": list(graph.needs(task)),
            **_time(progress, task),
        }


def plan_outline(progress: Progress) -> Json:
    """The same without them: its `tasks` are empty."""
    cards, schedule = progress.cards, progress.schedule
    opened, closing = unlocks(progress), closing_batch(progress)
    work, longest = work_left(progress), progress.critical_path.seconds
    return {
        "version": VERSION,
        "title": cards.config.title,
        "agents": cards.config.agents,
        "dispatch": "batches" if schedule.barrier else "dependencies",
        "authored": schedule.authored,
        "batches": [
            {
                "id": batch.id,
                "waves": [
                    {"tasks": list(wave), "agents": min(len(wave), cards.config.agents)}
                    for wave in batch.waves
                ],
                "merge_points": [point for point, last in closing.items() if last == batch.id],
            }
            for batch in schedule.batches
        ],
        "merge_points": [
            {
                "id": view.id,
                "title": cards.merge_points[view.id].title,
                "requires": list(cards.merge_points[view.id].requires),
                "unlocks": list(opened[view.id]),
                "batch": closing.get(view.id),
            }
            for view in points(progress)
        ],
        "tasks": [],
        "critical_path": _critical_path(progress),
        "work_minutes": minutes(work),
        "parallelism": round(work / longest, 2) if longest else None,
    }


def _time(progress: Progress, task: TaskId) -> Json:
    view = progress.tasks[task]
    return {
        "critical": view.critical,
        "slack_minutes": None if view.slack is None else minutes(view.slack),
        "estimate_minutes": minutes(estimate(progress, task)),
    }


def _critical_path(progress: Progress) -> Json:
    path = progress.critical_path
    return {"ids": list(path.ids), "minutes": minutes(path.seconds)}


def _blocker(blocker: Blocker) -> Json:
    return {"kind": blocker.kind, "id": blocker.id}


def _blockers(blockers: Iterable[Blocker]) -> list[Json]:
    return [_blocker(blocker) for blocker in blockers]


def _batches(progress: Progress) -> list[Json]:
    waves = {batch.id: batch.waves for batch in progress.schedule.batches}
    return [_batch(view, waves[view.id]) for view in progress.batches]


def _batch(view: BatchView, waves: Iterable[Iterable[TaskId]]) -> Json:
    return {
        "id": view.id,
        "state": view.state.value,
        "waves": [list(wave) for wave in waves],
        "done": view.done,
        "failed": view.failed,
        "total": view.total,
        "blocked_on": _blockers(view.blocked_on),
    }


def _point(progress: Progress, opened: Mapping[PointId, tuple[str, ...]], view: PointView) -> Json:
    return {
        "id": view.id,
        "state": view.state.value,
        "requires": list(progress.cards.merge_points[view.id].requires),
        "unlocks": list(opened[view.id]),
        "blocked_on": _blockers(view.blocked_on),
        "commit": view.commit,
    }


def _task(progress: Progress, task: TaskId, worktree: str | None) -> Json:
    card, view, fact = progress.cards.tasks[task], progress.tasks[task], progress.facts.get(task)
    evidence = fact.tracking.evidence if fact else None
    return {
        "id": task,
        "title": card.title,
        "workstream": card.workstream,
        "branch": progress.cards.branch_of(task),
        "worktree": worktree,
        "batch": progress.schedule.batch_of.get(task, card.batch),
        "wave": progress.schedule.wave_of.get(task),
        "state": view.state.value,
        "flags": list(view.flags),
        "reason": view.reason or None,
        "blocked_on": _blockers(view.blocked_on),
        **_time(progress, task),
        "agent": fact.tracking.agent if fact else None,
        "evidence": evidence
        and {"commit": evidence.commit, "tree": evidence.tree, "spec": evidence.spec},
    }


def _worktree(progress: Progress, view: WorktreeView) -> Json:
    fact = progress.facts.get(view.task) if view.task is not None else None
    return {
        "branch": view.branch,
        "path": view.path,
        "workstreams": list(view.workstreams),
        "task": view.task,
        "agent": fact.tracking.agent if fact else None,
    }


# --- `show` ---


def _whole_task(progress: Progress, task: TaskId) -> Json:
    card, stream = progress.cards.tasks[task], progress.cards.workstream_of(task)
    fact, graph = progress.facts.get(task), graph_of(progress.cards)
    tracking = fact.tracking if fact else Tracking(task)
    path = next((w.path for w in progress.worktrees if w.branch == stream.branch), None)
    return {
        **_task(progress, task, path),
        "reason": progress.tasks[task].reason or (fact.reason if fact else "") or None,
        "cancelled": card.cancelled,
        "card": card.path,
        "needs": list(graph.needs(task)),
        "dependents": list(graph.dependents(task)),
        "boundary": list(stream.paths),
        "paths": list(card.paths),
        "produces": list(card.produces),
        "spec": card.spec,
        "acceptance": list(card.acceptance),
        "verify": [_step(step) for step in card.verify],
        "session": tracking.session,
        "started": tracking.started,
        "finished": tracking.finished,
        "attempts": tracking.attempts,
        "cost": dict(tracking.cost),
        "evidence": _evidence(tracking.evidence),
        "learnings": list(tracking.learnings),
        "spec_gaps": [_gap(gap) for gap in tracking.spec_gaps],
        "held_by": [gap.task for gap in progress.gaps if task in gap.affects],
    }


def _whole_point(progress: Progress, point: PointId) -> Json:
    card, view = progress.cards.merge_points[point], progress.merge_points[point]
    fact = progress.facts.get(point)
    return {
        **_point(progress, unlocks(progress), view),
        "title": card.title,
        "reason": view.reason or None,
        "card": card.path,
        "spec": card.spec,
        "verify": [_step(step) for step in progress.cards.steps_of(point)],
        "evidence": _evidence(fact.tracking.evidence if fact else None),
    }


def _step(step: Step) -> Json:
    return {
        "run": step.run,
        "manual": step.manual,
        "timeout_seconds": step.timeout,
        "always": step.always,
    }


def _evidence(evidence: Evidence | None) -> Json | None:
    if evidence is None:
        return None
    return {
        "commit": evidence.commit,
        "tree": evidence.tree,
        "spec": evidence.spec,
        "inputs": list(evidence.inputs),
        "signature": evidence.signature,
        "runs": [
            {"run": run.run, "exit": run.exit, "seconds": run.seconds, "log": run.log}
            for run in evidence.runs
        ],
    }


def _gap(gap: Gap) -> Json:
    return {"text": gap.text, "affects": sorted(gap.affects, key=natural), "resolved": gap.resolved}
