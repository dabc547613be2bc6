"""Small plans for tests, written as one line of text."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from gitwaves.cards import load_cards
from gitwaves.model import (
    BatchId,
    Cards,
    Config,
    Evidence,
    Fact,
    Finding,
    MergePoint,
    Oid,
    PointId,
    Status,
    Step,
    Task,
    TaskId,
    Tracking,
    Verdict,
    Workstream,
    WorkstreamId,
    default_branch,
    seconds,
)
from gitwaves.plans import Plans
from gitwaves.record import replace
from gitwaves.rules import boundary_of, check_plan, check_task

_TASK = re.compile(
    r"(?P<id>\S+)(?: in (?P<batch>\S+))?(?: takes (?P<takes>\S+))?(?: needs (?P<needs>.+))?"
)
_POINT = re.compile(r"(?P<id>\S+): (?P<requires>.*?)(?: -> (?P<unlocks>.+))?")


def cards_at(store: Plans, commit: Oid) -> Cards:
    """The cards of a commit, as all of its files say them."""
    listing = store.listed_at(commit)
    return load_cards({path: listing.read(path) for path in listing.files}, listing.odd)


def cards_of(text: str, **config: Any) -> Cards:
    """The cards of a plan in which `A1` belongs to `WS-A`, whose boundary is `a/**`.

    Entries are separated by `;` or lines: `B2 in 1 takes 2h needs B1, MP1` is a task (`in`: its
    batch), `MP1: A1 + B1 -> C1, 2` a merge point that unlocks a task and a batch, and `cancel A1`
    cancels a task that came before it.

    >>> cards = cards_of("A1; B1 needs A1; MP1: A1 + B1 -> C1; C1")
    >>> cards.tasks["B1"].depends_on, cards.merge_points["MP1"].unlocks
    (('A1',), ('C1',))
    """
    tasks: dict[TaskId, Task] = {}
    points: dict[PointId, MergePoint] = {}
    for entry in filter(None, (part.strip() for part in re.split(r"[;\n]", text))):
        if entry.startswith("cancel "):
            task = tasks[TaskId(entry.removeprefix("cancel "))]
            tasks[task.id] = replace(task, cancelled="not wanted")
        elif (match := _POINT.fullmatch(entry)) is not None:
            point = PointId(match["id"])
            points[point] = MergePoint(
                point,
                f"Title of {point}",
                tuple(TaskId(t) for t in re.split(r"[ +]+", match["requires"]) if t),
                tuple((match["unlocks"] or "").split(", ")) if match["unlocks"] else (),
                path=f".workstreams/merge-points/{point}.yaml",
            )
        elif (match := _TASK.fullmatch(entry)) is not None:
            name = TaskId(match["id"])
            workstream = WorkstreamId("WS-" + re.match(r"[A-Za-z]+", name)[0])  # type: ignore[index]
            tasks[name] = Task(
                name,
                f"Title of {name}",
                workstream,
                tuple(match["needs"].split(", ")) if match["needs"] else (),
                BatchId(match["batch"]) if match["batch"] else None,
                seconds(match["takes"]) if match["takes"] else None,
                verify=(Step(run="true"),),
                path=f".workstreams/{workstream}/{name}.yaml",
            )
        else:
            raise ValueError(entry)
    workstreams = {
        name: Workstream(
            name,
            f"Title of {name}",
            (f"{name.removeprefix('WS-').lower()}/**",),
            default_branch(name),
            path=f".workstreams/{name}/workstream.yaml",
        )
        for name in sorted({task.workstream for task in tasks.values()})
    }
    return Cards(Config(**config), workstreams, tasks, points)


def shuffled(cards: Cards, order: list[str]) -> Cards:
    """The same cards, read in another order."""
    return replace(
        cards,
        tasks={TaskId(i): cards.tasks[TaskId(i)] for i in order if i in cards.tasks},
        merge_points={
            PointId(i): cards.merge_points[PointId(i)] for i in order if i in cards.merge_points
        },
        workstreams=dict(reversed(list(cards.workstreams.items()))),
    )


def fact(status: str, verdict: str | None = None, **more: Any) -> Fact:
    """A fact: `fact("done")` holds unless another verdict is given."""
    if verdict is None:
        verdict = "holds" if status == "done" else "none"
    evidence = Evidence(Oid("c" * 40), Oid("d" * 40), "sha256:0") if status == "done" else None
    tracking = more.pop("tracking", None) or Tracking("", Status(status), evidence=evidence)
    return Fact(tracking, Verdict(verdict), **more)


def facts_of(text: str) -> Mapping[str, Fact]:
    """Facts, as in `A1 B1 done; A2 active; MP1 done`; `stale`, `unproven`, `unchecked` are done."""
    found = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        *ids, word = entry.split()
        is_verdict = word in ("stale", "unproven", "unchecked")
        for node in ids:
            found[node] = fact("done", word) if is_verdict else fact(word)
    return found


def check(cards: Cards, files: Collection[str] = ()) -> tuple[Finding, ...]:
    """Everything that is wrong with a plan, sorted by place, with nothing kept."""
    shared = cards.config.shared_paths
    stated = {w.id: boundary_of(w, shared) for w in cards.workstreams.values() if w.paths}
    own = (f for t in cards.tasks.values() for f in check_task(t, stated.get(t.workstream)))
    return tuple(sorted({*check_plan(cards, files), *own}))
