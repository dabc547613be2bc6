"""Plans and where they stand, drawn as text, for the tests of what is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gitwaves.graph import graph_of
from gitwaves.model import (
    BatchId,
    Branch,
    Cards,
    Config,
    Evidence,
    Fact,
    MergePoint,
    Oid,
    PointId,
    Progress,
    Run,
    Status,
    Step,
    Task,
    TaskId,
    Tracking,
    Verdict,
    Workstream,
    WorkstreamId,
    seconds,
)
from gitwaves.plan import progress, schedule
from gitwaves.record import replace

COMMIT, TREE = Oid("c" * 40), Oid("7" * 40)
EVIDENCE = Evidence(COMMIT, TREE, "sha256:5bec", (Run("make test", 0, 1.25, "sha256:10c"),))


def frame(
    tasks: str,
    points: str = "",
    *,
    config: Config | None = None,
    tracking: Mapping[str, Mapping[str, Any]] | None = None,
    cards: Mapping[str, Mapping[str, Any]] | None = None,
    paths: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> Progress:
    """A plan and its state: `id batch estimate needs state` a line, `-` for none.

    A task belongs to the workstream of its first letter. States: done, landed (done on trunk),
    stale, unproven, cancelled, active:AGENT, failed:AGENT. Merge points: `id requires unlocks
    state`, with landed or reverted. `tracking` and `cards` add fields to those of an id.
    """
    found: dict[TaskId, Task] = {}
    facts: dict[str, Fact] = {}
    more_of, fields_of = cards or {}, tracking or {}
    for line in tasks.split("\n"):
        if not line.split():
            continue
        name, batch, estimate, needs, state = line.split()
        found[TaskId(name)] = replace(
            Task(
                TaskId(name),
                f"Title of {name}",
                WorkstreamId(f"WS-{name[0]}"),
                depends_on=_names(needs),
                batch=None if batch == "-" else BatchId(batch),
                estimate=None if estimate == "-" else seconds(estimate),
                cancelled="not needed" if state == "cancelled" else None,
                verify=(Step("make test"),),
                path=f".workstreams/WS-{name[0]}/{name}.yaml",
            ),
            **more_of.get(name, {}),
        )
        if state != "-" or name in fields_of:
            facts[name] = _fact(name, state, fields_of.get(name, {}))
    merges: dict[PointId, MergePoint] = {}
    for line in points.split("\n"):
        if not line.split():
            continue
        name, requires, unlocks, state = line.split()
        merges[PointId(name)] = MergePoint(
            PointId(name),
            f"Title of {name}",
            tuple(TaskId(task) for task in _names(requires)),
            _names(unlocks),
            path=f".workstreams/merge-points/{name}.yaml",
        )
        if state == "landed":
            facts[name] = Fact(
                Tracking(name, Status.DONE, evidence=EVIDENCE),
                Verdict.HOLDS,
                landed=True,
                commit=COMMIT,
            )
        elif state == "reverted":
            facts[name] = Fact(Tracking(name), reverted=True, reason="reverted by dddddddddd")
    streams = {task.workstream: _workstream(task.workstream) for task in found.values()}
    plan = Cards(config or Config(title="Payments platform"), streams, found, merges)
    graph = graph_of(plan)
    return progress(
        plan,
        graph,
        schedule(plan, graph),
        facts,
        trunk_commit=COMMIT,
        worktree_paths=paths or {},
        warnings=warnings,
    )


def _names(text: str) -> tuple[str, ...]:
    return () if text == "-" else tuple(text.split("+"))


def _workstream(name: WorkstreamId) -> Workstream:
    letter = name[-1]
    branch = Branch(f"ws/{letter}")
    return Workstream(name, f"Service {letter}", (f"services/{letter.lower()}/**",), branch)


def _fact(name: str, state: str, fields: Mapping[str, Any]) -> Fact:
    word, _, agent = state.partition(":")
    reason = str(fields.get("reason", ""))
    rest = {key: value for key, value in fields.items() if key != "reason"}
    if word in ("active", "failed"):
        known = Tracking(name, Status(word), agent=agent, **rest)
        return Fact(known, reason=reason)
    if word in ("done", "landed", "stale", "unproven"):
        verdict = {"stale": Verdict.STALE, "unproven": Verdict.UNPROVEN}.get(word, Verdict.HOLDS)
        known = Tracking(name, Status.DONE, evidence=EVIDENCE, **rest)
        return Fact(known, verdict, reason, landed=word == "landed")
    return Fact(Tracking(name, **rest))
