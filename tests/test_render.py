from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gitwaves import jsonout, showing
from gitwaves.errors import UsageError
from gitwaves.graph import graph_of
from gitwaves.jsonout import next_json, plan_json, show_json, status_json
from gitwaves.model import (
    BatchId,
    Branch,
    Cards,
    Config,
    Fact,
    Gap,
    MergePoint,
    PointId,
    Progress,
    Status,
    Task,
    TaskId,
    Tracking,
    Verdict,
    Workstream,
    WorkstreamId,
)
from gitwaves.plan import progress, schedule
from gitwaves.record import replace
from gitwaves.render import dashboard, next_text, plan_text, show_text, status_text
from tests.frames import EVIDENCE, frame

SCHEMAS = Path(__file__).parents[1] / "schemas"


def landed(letter: str, count: int, batch: int) -> str:
    return "\n".join(f"{letter}{i} {batch} 1h - landed" for i in range(1, count + 1)) + "\n"


# A plan in the middle: batches done, active and blocked.
DONE = (
    *(landed("A", 6, 1), landed("B", 5, 2), landed("D", 12, 3), landed("E", 5, 4)),
    *(landed("F", 3, 5), landed("G", 1, 6), landed("H", 9, 7)),
)
TASKS = (
    "".join(DONE)
    + """
    A7   8  2h   -   active:agent-1
    B6   8  1h   -   active:agent-2
    F4   8  1h   -   failed:agent-3
    E6   8  1h   -   -
    G2   8  30m  -   -
    B7   8  1h   B6  -
    F5   8  1h   F4  -
    C1   9  90m  -   -
    C2   9  1h   C1  -
    C3   9  1h   -   -
    C4   9  1h   -   -
    G3   9  1h   -   -
    G4   9  1h   -   -
    G5   9  1h   -   -
    H10  9  1h   -   -
    H11  9  1h   -   -
    H12  9  1h   -   -
"""
)
POINTS = """
    MP3  B5+E4  F4  landed
    MP4  A7+F5  9   -
"""


def payments(**more: Any) -> Progress:
    spec = frame(TASKS, POINTS).cards.digest("B7")
    gap = Gap("the API returns cents, the spec says euros", {"B7": spec})
    tracking: dict[str, dict[str, Any]] = {
        "A3": {"spec_gaps": (gap,)},
        "F4": {"attempts": 3, "reason": "step 1, exit 1"},
    }
    return frame(TASKS, POINTS, tracking=tracking, **more)


SMALL = """
    A1  1  2h   -        landed
    B1  1  1h   -        active:agent-2
    A2  2  1h   A1       -
    B2  2  30m  B1+MP1   -
"""
SMALL_POINTS = "MP1  A1+B1  -  -"


def small(**more: Any) -> Progress:
    cards = {
        "A1": {
            "spec": "Build it.\n\n\tmake\n",
            "acceptance": ("Balances never\ngo negative.",),
            "produces": ("services/a/schema.sql",),
        },
    }
    tracking = {
        "A1": {
            "agent": "agent-1",
            "attempts": 1,
            "started": "2026-01-01T00:00:00Z",
            "finished": "2026-01-01T02:00:00Z",
            "cost": {"turns": 12, "usd": 0.5},
            "learnings": ("ids are strings",),
        }
    }
    given = {"cards": cards, "tracking": tracking, **more}
    return frame(SMALL, SMALL_POINTS, **given)


# --- the dashboard ---


SECTION_11 = """\
PAYMENTS PLATFORM                    41/58 done  2 active  1 failed  2 runnable  1 held  11 blocked

BATCHES
  [####] 1-7  done      41 tasks
  [....] 8    active    0/7   wave 1: A7* B6* E6 F4! G2   wave 2: B7(held) F5
  [....] 9    blocked   on Batch 8 + MP4                  C1 C2 C3 +7

MERGE POINTS
  MP3  [x]  B5 + E4   -> F4        landed
  MP4  [ ]  A7 + F5   -> Batch 9   waits for A7 F5

WORKTREES
  ws/A  A7  active  agent-1  6/7 done
  ws/B  B6  active  agent-2  5/7 done
  ws/C      idle             0/4 done     blocked on Batch 8 + MP4
  ws/D      done             12/12 done
  ws/E      idle             5/6 done     next E6
  ws/F  F4  failed  agent-3  3/5 done     attempt 3: step 1, exit 1
  ws/G      idle             1/5 done     next G2
  ws/H      idle             9/12 done    blocked on Batch 8 + MP4

CRITICAL PATH  A7 -> MP4 -> C1 -> C2     4h 30m left
RUNNABLE NOW   E6 (slack 3h 30m)  G2 (slack 4h)
SPEC GAPS      1 open: A3 holds B7 ("the API returns cents, the spec says euros")

* active  ! failed
"""


def test_dashboard() -> None:
    assert dashboard(payments()) == SECTION_11


def test_dashboard_holds_nothing_local() -> None:
    here = payments(paths={"ws/A": "/home/ada/ws-A"}, warnings=["trunk has diverged"])
    assert dashboard(here) == dashboard(payments())


def test_dashboard_does_not_depend_on_the_order_of_cards() -> None:
    lines = TASKS.splitlines()
    shuffled = frame("\n".join(lines[::-1]), "\n".join(POINTS.splitlines()[::-1]))
    assert dashboard(shuffled) == dashboard(frame(TASKS, POINTS))


def test_dashboard_without_tasks() -> None:
    assert dashboard(frame("", config=Config(title="Züge – ✓"))) == dedent("""\
        ZUGE - ?                             0/0 done

        No tasks yet: `gitwaves import DOC` cuts them from a design doc.
    """)


def test_dashboard_marks_and_folds() -> None:
    tasks = (
        "".join(f"A{i} P1-B{i} 1h - landed\n" for i in (1, 2, 3))
        + """
        B1  P1-B2    1h  -   stale
        B2  P1.5-B1  1h  -   unproven
        C1  P1.5-B1  1h  -   cancelled
        D1  P1.5-B1  1h  B1  -
        E1  P2-B1    1h  -   -
    """
    )
    assert dashboard(frame(tasks)) == dedent("""\
        PAYMENTS PLATFORM                    3/7 done  2 blocked  1 stale  1 unproven  1 cancelled

        BATCHES
          [####] P1-B1..P1-B3  done      4 tasks            B1~
          [....] P1.5-B1       blocked   on B1 + B2         B2? D1
          [....] P2-B1         blocked   on Batch P1.5-B1   E1

        WORKTREES
          ws/A  done  3/3 done
          ws/B  idle  0/2 done   B1 stale
          ws/D  idle  0/1 done   blocked on B1
          ws/E  idle  0/1 done   blocked on Batch P1.5-B1

        CRITICAL PATH  B2     1h left
        RUNNABLE NOW   none: no evidence that holds: B2; to be verified again: B1

        ~ stale  ? unproven
    """)


def test_dashboard_of_a_large_plan() -> None:
    """Ten thousand tasks: the dashboard still fits on a page, and says what it leaves out."""
    tasks = "\n".join(
        f"W{i % 64}x{i // 64} {i // 64 + 1} 1h - {'landed' if i < 2000 else '-'}"
        for i in range(10_000)
    )
    points = "\n".join(f"MP{k} W0x{k}+W1x{k} W2x{k + 1} -" for k in range(100))
    lines = dashboard(wide(tasks, points)).splitlines()
    assert len(lines) < 60
    assert [line for line in lines if "..." in line] == [
        "  [#...] 32    runnable   16/64   wave 1: W16x31 W17x31 W18x31 W19x31 W20x31 W21x31 W22x31 +41",
        "  [....] 33    blocked    on Batch 32   W0x32 W1x32 W2x32 +61",
        "  [....] 34    blocked    on Batch 33   W0x33 W1x33 W2x33 +61",
        "  [....] 35    blocked    on Batch 34   W0x34 W1x34 W2x34 +61",
        "  [....] 36    blocked    on Batch 35   W0x35 W1x35 W2x35 +61",
        "  [....] 37    blocked    on Batch 36   W0x36 W1x36 W2x36 +61",
        "  [....] 38    blocked    on Batch 37   W0x37 W1x37 W2x37 +61",
        "  ... 119 more blocked batches",
        "  ... 92 more merge points: 24 ready, 68 waiting",
        "  ... 50 more idle worktrees",
    ]


def wide(tasks: str, points: str) -> Progress:
    now = frame(tasks, points)
    streams = {
        (name := WorkstreamId(f"WS-{k}")): Workstream(name, name, (), Branch(f"ws/{k}"))
        for k in range(64)
    }
    numbered = {
        task: replace(card, workstream=WorkstreamId(f"WS-{task[1:].partition('x')[0]}"))
        for task, card in now.cards.tasks.items()
    }
    cards = replace(now.cards, workstreams=streams, tasks=numbered)
    graph = graph_of(cards)
    return progress(cards, graph, schedule(cards, graph), now.facts)


@pytest.mark.parametrize(
    ("tasks", "points", "says"),
    [
        ("A1 1 1h - landed", "MP1 A1 - landed", ["ALL DONE       and on trunk"]),
        ("A1 1 1h - done", "MP1 A1 - -", ["ALL DONE       MP1 ready: gitwaves merge MP1"]),
        (
            "A1 1 1h - done",
            "MP1 A1 - reverted",
            ["ALL DONE       MP1 reverted: gitwaves merge MP1 --again"],
        ),
        (
            "A1 1 1h - done\nB1 1 1h - done",
            "MP1 A1 - -",
            [
                "ALL DONE       MP1 ready: gitwaves merge MP1",
                "               no merge point takes B1: gitwaves merge --rest",
            ],
        ),
    ],
)
def test_all_done_says_what_is_left_to_land(tasks: str, points: str, says: list[str]) -> None:
    lines = dashboard(frame(tasks, points)).splitlines()
    assert lines[2 : 2 + len(says) + 1] == [*says, ""]


# --- status, next ---


def test_status_adds_what_is_local() -> None:
    now = small(paths={"ws/B": "/home/ada/ws\n-B"}, warnings=["trunk has diverged"])
    assert status_text(now) == dedent("""\
        PAYMENTS PLATFORM                    1/4 done  1 active  2 blocked

        BATCHES
          [##..] 1  active    1/2   wave 1: B1*
          [....] 2  blocked   on Batch 1   A2 B2

        MERGE POINTS
          MP1  [ ]  A1 + B1   -> B2   waits for B1

        WORKTREES
          ws/A      idle             1/2 done   blocked on Batch 1
          ws/B  B1  active  agent-2  0/2 done

        CRITICAL PATH  B1 -> B2     1h 30m left
        RUNNABLE NOW   none: at work: B1

        * active

        CHECKOUTS
          ws/B  /home/ada/ws\\n-B

        WARNINGS
          trunk has diverged
    """)


def test_status_in_colour_is_the_same_text() -> None:
    now = payments(paths={"ws/A": "/home/ada/ws-A"})
    text = status_text(now, color=lambda text, style: f"<{style}>{text}</>")
    picked = [line for line in text.splitlines() if " 8 " in line or "F4" in line or "next" in line]
    assert picked == [
        "  [....] 8    <active>active</>    0/7   wave 1: <active>A7*</> <active>B6*</> E6 <failed>F4!</> G2   wave 2: <held>B7(held)</> F5",
        "  [....] 9    <blocked>blocked</>   on Batch 8 + MP4                  C1 C2 C3 +7",
        "  MP3  [x]  B5 + E4   -> F4        <done>landed</>",
        "  ws/C      <blocked>idle</>             0/4 done     blocked on Batch 8 + MP4",
        "  ws/E      <blocked>idle</>             5/6 done     next E6",
        "  ws/F  F4  <failed>failed</>  agent-3  3/5 done     attempt 3: step 1, exit 1",
        "  ws/G      <blocked>idle</>             1/5 done     next G2",
        "  ws/H      <blocked>idle</>             9/12 done    blocked on Batch 8 + MP4",
        "<hint>next: gitwaves start E6</>",
    ]
    assert status_text(now, color=lambda text, _: text) == status_text(now)


def test_next() -> None:
    tasks = """
        A1   1  2h  -   active:agent-1
        A2   1  1h  -   -
        B10  1  1h  -   -
        C1   1  1h  -   failed:agent-2
        C2   1  1h  -   -
    """
    now = frame(tasks, cards={"B10": {"title": "Un titre\ttrès \x1b[2J" + " long" * 20}})
    assert next_text(now, width=80) == dedent("""\
        A2    Title of A2                    slack 1h  1h  ws/A  (ws/A is at work on A1)
        B10   Un titre très \\x1b[2J lon...   slack 1h  1h  ws/B
        C2    Title of C2                    slack 1h  1h  ws/C  (C1 failed in ws/C)
    """)


def test_next_says_why_nothing_is_runnable() -> None:
    tasks = """
        A1  1  1h  -       done
        B1  1  1h  -       active:agent-1
        C1  1  1h  -       failed:agent-2
        D1  1  1h  -       -
        E1  1  1h  -       unproven
        F1  1  1h  -       stale
        G1  2  1h  -       -
    """
    points = "MP1  A1  G1  -"
    spec = frame(tasks, points).cards.digest("D1")
    gap = {"A1": {"spec_gaps": (Gap("cents or euros?", {"D1": spec}),)}}
    assert next_text(frame(tasks, points, tracking=gap)) == dedent("""\
        Nothing is runnable.
          MP1 ready: gitwaves merge MP1
          at work: B1
          failed: C1
          no evidence that holds: E1
          to be verified again: F1
          spec gap of A1 holds D1
    """)
    assert next_text(frame("A1 1 1h - landed")) == "Nothing is runnable.\n  everything is done\n"


@pytest.mark.parametrize(
    ("tasks", "points", "command"),
    [
        ("A1 1 1h - done\nB1 1 1h - -", "MP1 A1 - -", "next: gitwaves merge MP1"),
        ("A1 1 1h - active:x\nA2 1 1h - -\nB1 1 1h - -", "", "next: gitwaves start B1"),
        ("A1 1 1h - failed:x", "", "next: gitwaves show A1"),
        ("A1 1 1h - stale", "", "next: gitwaves verify A1"),
        ("A1 1 1h - done", "", "next: gitwaves merge --rest"),
        ("A1 1 1h - active:x", "", "* active"),  # nothing to do but wait
    ],
)
def test_status_ends_with_what_to_do(tasks: str, points: str, command: str) -> None:
    assert status_text(frame(tasks, points)).splitlines()[-1] == command


# --- show ---


def test_show_task() -> None:
    assert show_text(small(paths={"ws/A": "/home/ada/ws-A"}), "A1") == dedent("""\
        A1: Title of A1
          state       done
          workstream  WS-A (Service A)
          branch      ws/A
          worktree    /home/ada/ws-A
          batch       1, wave 1
          estimate    2h
          agent       agent-1
          unlocks     A2 (blocked), MP1 (blocked)
          boundary    services/a/**
          produces    services/a/schema.sql
          card        .workstreams/WS-A/A1.yaml
          attempts    1
          started     2026-01-01T00:00:00Z
          finished    2026-01-01T02:00:00Z
          cost        turns 12, usd 0.5

        SPEC
          Build it.

              make

        ACCEPTANCE
          - Balances never
            go negative.

        VERIFY
          1. make test

        EVIDENCE
          commit  cccccccccccccccccccccccccccccccccccccccc
          tree    7777777777777777777777777777777777777777
          spec    sha256:5bec
          exit 0  1.2s  make test

        LEARNED
          - ids are strings
    """)


def test_show_blocked_task() -> None:
    assert show_text(small(), "B2") == dedent("""\
        B2: Title of B2
          state       blocked
          workstream  WS-B (Service B)
          branch      ws/B
          batch       2, wave 1
          estimate    30m, critical
          needs       B1 (active), MP1 (blocked)
          boundary    services/b/**
          card        .workstreams/WS-B/B2.yaml

        BLOCKED ON
          B1  active
          MP1  blocked
          Batch 1  active

        VERIFY
          1. make test
    """)


def test_show_merge_point() -> None:
    assert show_text(small(), "MP1") == dedent("""\
        MP1: Title of MP1
          state     waits for B1
          requires  A1 (done), B1 (active)
          unlocks   B2
          card      .workstreams/merge-points/MP1.yaml

        BLOCKED ON
          B1  active

        VERIFY
          1. make test
    """)


def test_show_batch() -> None:
    assert show_text(small(), "2") == dedent("""\
        Batch 2
          state  blocked
          done   0/2

        BLOCKED ON
          Batch 1  active
            B1  active

        TASKS
          wave 1  A2  blocked  ws/A  Title of A2
          wave 1  B2  blocked  ws/B  Title of B2
    """)


@pytest.mark.parametrize("show", [show_text, show_json])
def test_show_unknown(show: Callable[[Progress, str], object]) -> None:
    with pytest.raises(UsageError, match="no task, merge point or batch is called 'mp1'") as error:
        show(small(), "mp1")
    assert error.value.hint == "did you mean MP1?"
    with pytest.raises(UsageError) as error:
        show(small(), "nothing-like-it")
    assert error.value.hint == "`gitwaves status` lists them all"


# --- plan ---


def test_plan() -> None:
    assert plan_text(small()) == dedent("""\
        Payments platform: 4 tasks, 2 batches, 1 merge point

        BATCH 1  2 tasks, 2 agents
          wave 1  2 agents   A1 (done)  B1 (1h, critical)
          MP1: A1 + B1 -> unlocks B2

        BATCH 2  2 tasks, 2 agents
          wave 1  2 agents   A2 (1h, slack 30m)  B2 (30m, critical)

        CRITICAL PATH  B1 -> B2     1h 30m
        WORK LEFT      2h 30m, 1.7 times the critical path
        AGENTS         8 (`agents` in the plan's config)
    """)


def test_plan_with_computed_batches() -> None:
    tasks = "A1 - 1h - -\nB1 - 1h - -\nA2 - 1h A1 -"
    assert plan_text(frame(tasks, config=Config(agents=1))) == dedent("""\
        gitwaves: 3 tasks, 3 batches, 0 merge points
        The batches are computed: the plan names none.

        BATCH 1  1 task, 1 agent
          wave 1  1 agent    A1 (1h, critical)

        BATCH 2  1 task, 1 agent
          wave 1  1 agent    A2 (1h, critical)

        BATCH 3  1 task, 1 agent
          wave 1  1 agent    B1 (1h, slack 1h)

        CRITICAL PATH  A1 -> A2     2h
        WORK LEFT      3h, 1.5 times the critical path
        AGENTS         1 (`agents` in the plan's config)
    """)


# --- JSON ---


@cache
def validator(name: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def valid(value: dict[str, Any], name: str) -> dict[str, Any]:
    """`value` as a reader of the JSON has it, after it was found to be as documented."""
    read: dict[str, Any] = json.loads(json.dumps(value))
    validator(name).validate(read)
    return read


def test_status_json() -> None:
    now = small(paths={"ws/B": "/home/ada/ws-B"}, warnings=["trunk has diverged"])
    assert valid(status_json(now), "status") == {
        "version": 1,
        "title": "Payments platform",
        "trunk": {"branch": "main", "commit": "cccccccccccccccccccccccccccccccccccccccc"},
        "counts": {
            "total": 4,
            "done": 1,
            "active": 1,
            "runnable": 0,
            "blocked": 2,
            "held": 0,
            "failed": 0,
            "stale": 0,
            "unproven": 0,
            "cancelled": 0,
        },
        "batches": [
            {
                "id": "1",
                "state": "active",
                "waves": [["A1", "B1"]],
                "done": 1,
                "failed": 0,
                "total": 2,
                "blocked_on": [],
            },
            {
                "id": "2",
                "state": "blocked",
                "waves": [["A2", "B2"]],
                "done": 0,
                "failed": 0,
                "total": 2,
                "blocked_on": [{"kind": "batch", "id": "1"}],
            },
        ],
        "merge_points": [
            {
                "id": "MP1",
                "state": "blocked",
                "requires": ["A1", "B1"],
                "unlocks": ["B2"],
                "blocked_on": [{"kind": "task", "id": "B1"}],
                "commit": None,
            }
        ],
        "tasks": [
            {
                "id": "A1",
                "title": "Title of A1",
                "workstream": "WS-A",
                "branch": "ws/A",
                "worktree": None,
                "batch": "1",
                "wave": 1,
                "state": "done",
                "flags": [],
                "reason": None,
                "blocked_on": [],
                "critical": False,
                "slack_minutes": None,
                "estimate_minutes": 120,
                "agent": "agent-1",
                "evidence": {
                    "commit": "cccccccccccccccccccccccccccccccccccccccc",
                    "tree": "7777777777777777777777777777777777777777",
                    "spec": "sha256:5bec",
                },
            },
            {
                "id": "A2",
                "title": "Title of A2",
                "workstream": "WS-A",
                "branch": "ws/A",
                "worktree": None,
                "batch": "2",
                "wave": 1,
                "state": "blocked",
                "flags": [],
                "reason": None,
                "blocked_on": [{"kind": "batch", "id": "1"}],
                "critical": False,
                "slack_minutes": 30,
                "estimate_minutes": 60,
                "agent": None,
                "evidence": None,
            },
            {
                "id": "B1",
                "title": "Title of B1",
                "workstream": "WS-B",
                "branch": "ws/B",
                "worktree": "/home/ada/ws-B",
                "batch": "1",
                "wave": 1,
                "state": "active",
                "flags": [],
                "reason": None,
                "blocked_on": [],
                "critical": True,
                "slack_minutes": 0,
                "estimate_minutes": 60,
                "agent": "agent-2",
                "evidence": None,
            },
            {
                "id": "B2",
                "title": "Title of B2",
                "workstream": "WS-B",
                "branch": "ws/B",
                "worktree": "/home/ada/ws-B",
                "batch": "2",
                "wave": 1,
                "state": "blocked",
                "flags": [],
                "reason": None,
                "blocked_on": [
                    {"kind": "task", "id": "B1"},
                    {"kind": "merge_point", "id": "MP1"},
                    {"kind": "batch", "id": "1"},
                ],
                "critical": True,
                "slack_minutes": 0,
                "estimate_minutes": 30,
                "agent": None,
                "evidence": None,
            },
        ],
        "worktrees": [
            {"branch": "ws/A", "path": None, "workstreams": ["WS-A"], "task": None, "agent": None},
            {
                "branch": "ws/B",
                "path": "/home/ada/ws-B",
                "workstreams": ["WS-B"],
                "task": "B1",
                "agent": "agent-2",
            },
        ],
        "gaps": [],
        "critical_path": {"ids": ["B1", "B2"], "minutes": 90},
        "warnings": ["trunk has diverged"],
    }


def test_next_json() -> None:
    tasks = "A1 1 90s - active:agent-1\nA2 1 90s - -\nB1 1 1h - -"
    assert valid(next_json(frame(tasks, paths={"ws/B": "/home/ada/ws-B"})), "next") == {
        "version": 1,
        "tasks": [
            {
                "id": "B1",
                "title": "Title of B1",
                "workstream": "WS-B",
                "branch": "ws/B",
                "worktree": "/home/ada/ws-B",
                "batch": "1",
                "wave": 1,
                "slack_minutes": 0,
                "estimate_minutes": 60,
                "critical": True,
                "busy_with": None,
            },
            {
                "id": "A2",
                "title": "Title of A2",
                "workstream": "WS-A",
                "branch": "ws/A",
                "worktree": None,
                "batch": "1",
                "wave": 2,
                "slack_minutes": 59,
                "estimate_minutes": 2,
                "critical": False,
                "busy_with": "A1",
            },
        ],
    }


def test_show_json() -> None:
    assert valid(show_json(small(), "A1"), "show") == {
        "version": 1,
        "kind": "task",
        "id": "A1",
        "title": "Title of A1",
        "workstream": "WS-A",
        "branch": "ws/A",
        "worktree": None,
        "batch": "1",
        "wave": 1,
        "state": "done",
        "flags": [],
        "blocked_on": [],
        "critical": False,
        "slack_minutes": None,
        "estimate_minutes": 120,
        "agent": "agent-1",
        "evidence": {
            "commit": "cccccccccccccccccccccccccccccccccccccccc",
            "tree": "7777777777777777777777777777777777777777",
            "spec": "sha256:5bec",
            "inputs": [],
            "signature": None,
            "runs": [{"run": "make test", "exit": 0, "seconds": 1.25, "log": "sha256:10c"}],
        },
        "reason": None,
        "cancelled": None,
        "card": ".workstreams/WS-A/A1.yaml",
        "needs": [],
        "dependents": ["A2", "MP1"],
        "boundary": ["services/a/**"],
        "paths": [],
        "produces": ["services/a/schema.sql"],
        "spec": "Build it.\n\n\tmake\n",
        "acceptance": ["Balances never\ngo negative."],
        "verify": [{"run": "make test", "manual": None, "timeout_seconds": 1800, "always": False}],
        "session": None,
        "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T02:00:00Z",
        "attempts": 1,
        "cost": {"turns": 12, "usd": 0.5},
        "learnings": ["ids are strings"],
        "spec_gaps": [],
        "held_by": [],
        "why": [],
    }
    assert valid(show_json(small(), "B2"), "show")["why"] == [
        {"depth": 0, "kind": "task", "id": "B1", "state": "active"},
        {"depth": 0, "kind": "merge_point", "id": "MP1", "state": "blocked"},
        {"depth": 0, "kind": "batch", "id": "1", "state": "active"},
    ]
    assert valid(show_json(small(), "MP1"), "show") == {
        "version": 1,
        "kind": "merge_point",
        "id": "MP1",
        "state": "blocked",
        "requires": ["A1", "B1"],
        "unlocks": ["B2"],
        "blocked_on": [{"kind": "task", "id": "B1"}],
        "commit": None,
        "title": "Title of MP1",
        "reason": None,
        "card": ".workstreams/merge-points/MP1.yaml",
        "spec": "",
        "verify": [{"run": "make test", "manual": None, "timeout_seconds": 1800, "always": False}],
        "evidence": None,
        "why": [{"depth": 0, "kind": "task", "id": "B1", "state": "active"}],
    }
    assert valid(show_json(small(), "2"), "show") == {
        "version": 1,
        "kind": "batch",
        "id": "2",
        "state": "blocked",
        "waves": [["A2", "B2"]],
        "done": 0,
        "failed": 0,
        "total": 2,
        "blocked_on": [{"kind": "batch", "id": "1"}],
        "why": [
            {"depth": 0, "kind": "batch", "id": "1", "state": "active"},
            {"depth": 1, "kind": "task", "id": "B1", "state": "active"},
        ],
    }


def test_plan_json() -> None:
    assert valid(plan_json(small()), "plan") == {
        "version": 1,
        "title": "Payments platform",
        "agents": 8,
        "dispatch": "batches",
        "authored": True,
        "batches": [
            {"id": "1", "waves": [{"tasks": ["A1", "B1"], "agents": 2}], "merge_points": ["MP1"]},
            {"id": "2", "waves": [{"tasks": ["A2", "B2"], "agents": 2}], "merge_points": []},
        ],
        "merge_points": [
            {
                "id": "MP1",
                "title": "Title of MP1",
                "requires": ["A1", "B1"],
                "unlocks": ["B2"],
                "batch": "1",
            }
        ],
        "tasks": [
            {
                "id": "A1",
                "title": "Title of A1",
                "workstream": "WS-A",
                "batch": "1",
                "wave": 1,
                "needs": [],
                "critical": False,
                "slack_minutes": None,
                "estimate_minutes": 120,
            },
            {
                "id": "A2",
                "title": "Title of A2",
                "workstream": "WS-A",
                "batch": "2",
                "wave": 1,
                "needs": ["A1"],
                "critical": False,
                "slack_minutes": 30,
                "estimate_minutes": 60,
            },
            {
                "id": "B1",
                "title": "Title of B1",
                "workstream": "WS-B",
                "batch": "1",
                "wave": 1,
                "needs": [],
                "critical": True,
                "slack_minutes": 0,
                "estimate_minutes": 60,
            },
            {
                "id": "B2",
                "title": "Title of B2",
                "workstream": "WS-B",
                "batch": "2",
                "wave": 1,
                "needs": ["B1", "MP1"],
                "critical": True,
                "slack_minutes": 0,
                "estimate_minutes": 30,
            },
        ],
        "critical_path": {"ids": ["B1", "B2"], "minutes": 90},
        "work_minutes": 150,
        "parallelism": 1.67,
    }


# --- any plan at all ---

WORDS = st.text(min_size=1, max_size=90)


@st.composite
def plans(draw: st.DrawFn) -> Progress:
    """Any state of any plan, with ids and texts that no check would have let through.

    Texts are drawn, the rest is rolled with dice: there is little to shrink.
    """
    names = draw(st.lists(WORDS, unique=True, min_size=6, max_size=30))
    texts = draw(st.lists(WORDS, min_size=1, max_size=8))
    dice = Random(draw(st.integers(0, 2**32)))
    batches = [BatchId(name) for name in names[:3]]
    points = [PointId(name) for name in names[3 : dice.randint(3, 5)]]
    ids = [TaskId(name) for name in names[5:]][: dice.randint(0, 25)]
    streams = {
        (stream := WorkstreamId(f"WS-{k}")): Workstream(
            stream, dice.choice(texts), (), Branch(dice.choice(texts) + "0" * k)
        )
        for k in range(dice.randint(1, 25))
    }
    authored = dice.random() < 0.5
    tasks = {
        name: Task(
            name,
            dice.choice(texts),
            dice.choice(sorted(streams)),
            depends_on=tuple(dice.sample(ids[:i], min(i, dice.randint(0, 3)))),
            batch=dice.choice(batches) if authored else None,
            estimate=dice.choice([1, 3600, 10**7]),
            cancelled=dice.choice([None, None, None, "no"]),
        )
        for i, name in enumerate(ids)
    }
    merges = {
        point: MergePoint(point, dice.choice(texts), tuple(dice.sample(ids, min(len(ids), 4))))
        for point in points
        if ids
    }
    dispatch = dice.choice([None, "batches", "dependencies"])
    cards = Cards(Config(dice.choice(texts), dispatch=dispatch), streams, tasks, merges)
    facts: dict[str, Fact] = {}
    for node in (*tasks, *merges):
        status = dice.choice([*Status])
        affects = [dice.choice(ids)] if dice.random() < 0.3 else []
        known = Tracking(
            node,
            status,
            agent=dice.choice([None, *texts]),
            attempts=dice.randint(0, 9),
            evidence=EVIDENCE,
            learnings=(dice.choice(texts),),
            spec_gaps=(Gap(dice.choice(texts), {t: cards.digest(t) for t in affects}),),
        )
        done = (Verdict.HOLDS, Verdict.HOLDS, Verdict.STALE, Verdict.UNPROVEN)
        facts[node] = Fact(
            known,
            dice.choice(done) if status is Status.DONE else Verdict.NONE,
            dice.choice(["", *texts]),
            landed=dice.random() < 0.5,
            reverted=dice.random() < 0.5,
        )
    graph = graph_of(cards)
    plan = schedule(cards, graph)
    return progress(cards, graph, plan, facts, warnings=[dice.choice(texts)])


@settings(deadline=None)
@given(plans())
def test_any_dashboard_fits(now: Progress) -> None:
    text = dashboard(now)
    assert text.isascii()
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert text.count("\n") < 60
    for line in text[:-1].split("\n"):
        assert len(line) <= 100
        assert line == line.rstrip()
        assert line.isprintable()


@settings(deadline=None, max_examples=25)
@given(plans())
def test_any_plan_is_shown(now: Progress) -> None:
    nodes = [*now.tasks, *now.merge_points, *(view.id for view in now.batches)]
    texts = [status_text(now), next_text(now), plan_text(now), *(show_text(now, n) for n in nodes)]
    for text in texts:
        assert all(line.isprintable() for line in text[:-1].split("\n"))
        assert text.endswith("\n")
    valid(status_json(now), "status")
    valid(next_json(now), "next")
    valid(plan_json(now), "plan")
    for node in nodes:
        valid(show_json(now, node), "show")


def test_the_last_task_of_a_blocked_batch_is_none_that_is_named_before() -> None:
    """Four are left: where the fourth has room, it is the fourth, though A2 comes last in the batch."""
    now = frame(
        """
        A1 1 1h -  active
        B2 2 1h -  -
        C3 2 1h -  -
        D4 2 1h -  -
        A2 2 1h B2 -
        """
    )
    assert "A2 B2 C3 D4" in dashboard(now)


@pytest.mark.parametrize("at_once", [1, 2, 1000])
@pytest.mark.parametrize("tasks", ["", SMALL.splitlines()[1], TASKS])
def test_json_in_parts_is_the_json_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, at_once: int, tasks: str
) -> None:
    monkeypatch.setattr(showing, "_AT_ONCE", at_once)
    now = frame(tasks)
    for outline, parts, whole in (
        (jsonout.status_outline, jsonout.status_tasks, status_json),
        (jsonout.plan_outline, jsonout.plan_tasks, plan_json),
    ):
        assert showing.dumped_with(outline(now), parts(now)) == showing.dumped(whole(now))
