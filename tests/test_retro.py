from __future__ import annotations

import json
from textwrap import dedent
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt

from gitwaves.model import Config, Gap, Progress
from gitwaves.resources import schema_text
from gitwaves.retro import retro, retro_json, retro_markdown, retro_text
from tests.frames import frame
from tests.repo import Repo
from tests.test_agents import plan as plan
from tests.test_agents import seen as seen

HOUR = 3600


def at(hour: float) -> str:
    """An hour of the first day, as cards say it."""
    return f"2026-11-24T{int(hour):02}:{int(hour * 60 % 60):02}:00Z"


EPOCH = 1_795_478_400  # 2026-11-24T00:00:00Z

TASKS = """
    A1  1  2h  -      landed
    A2  2  1h  A1     landed
    B1  1  1h  -      landed
    B2  2  -   B1     failed:claude-2
    C1  2  30m MP1    active:codex-1
    C2  3  1h  C1     -
"""


def worked_on(title: str = "Payments platform", gap: str = "cents | euros?") -> Progress:
    """Two batches of a plan: B1 took long, and A2 waited for it."""
    digest = frame(TASKS, "MP1  A1+B1  C1  landed").cards.digest("C2")
    tracking: dict[str, dict[str, Any]] = {
        "A1": {
            "started": at(8),
            "finished": at(9),
            "attempts": 1,
            "cost": {"turns": 12, "tokens": 40_000, "money": 1.25},
            "spec_gaps": (Gap(gap, {"C2": digest}), Gap("Which zone?", {"C1": "sha256:old"})),
        },
        "A2": {"started": at(12.5), "finished": at(13), "attempts": 2, "cost": {"turns": 3}},
        "B1": {"started": at(8), "finished": at(12), "attempts": 1, "cost": {"tokens": 7}},
        "B2": {"started": at(12), "attempts": 3},
        "C1": {"started": at(12.75), "attempts": 0},
    }
    config = Config(title=title)
    return frame(TASKS, "MP1  A1+B1  C1  landed", tracking=tracking, config=config)


LANDED = {"MP1": EPOCH + 12 * HOUR + 30 * 60}


def test_text() -> None:
    assert retro_text(retro(worked_on(), LANDED)) == dedent("""\
        PAYMENTS PLATFORM
          3/6 tasks done, 5h from first to last.

        SPEC GAPS
          2 found, 1 of them open.
          task  state     affects  what was wrong
          A1    open      C2       cents | euros?
          A1    resolved  C1       Which zone?

        VERIFICATION AND COST
          2 of 4 tasks passed at the first attempt (50 %); 7 attempts in all.
          workstream  done  first pass  attempts  gaps        estimate  actual  cost   turns  tokens
          WS-A        2/2   1/2         3         2 (1 open)  3h        1h 30m  $1.25  15     40k
          WS-B        1/2   1/2         4         -           1h        4h      -      -      7
          WS-C        0/2   -           -         -           -         -       -      -      -
          all         3/6   2/4         7         2 (1 open)  4h        5h 30m  $1.25  15     40k

        ESTIMATE AGAINST ACTUAL
          3 tasks: 4h estimated, 5h 30m taken (1.4 times). 1 took longer than estimated:
          task  estimate  actual  ratio
          B1    1h        4h      4.0 x

        MERGE POINTS
          1 of 1 landed; finished work waited 30m for them after their last task.
          merge point  waited  last task
          MP1          30m     B1

        BARRIERS BETWEEN BATCHES
          They cost 3h: 1 task could have run, but for the batches before.
          task  batch  waited
          A2    2      3h
        """)


def test_only_the_batch_is_blamed_on_the_batch() -> None:
    """A2 could have run at 9; at work by then was nothing else in its worktree."""
    assert [(h.task, h.seconds) for h in retro(worked_on(), LANDED).held] == [("A2", 3 * HOUR)]
    tracking = {
        "A1": {"started": at(8), "finished": at(9)},
        "A2": {"started": at(9), "finished": at(11)},
        "B1": {"started": at(8), "finished": at(12)},
        "A3": {"started": at(12.5)},
        "C1": {"started": at(13)},
    }
    tasks = """
        A1 1 1h - done
        A2 1 1h - done
        B1 1 1h - done
        A3 2 1h A1 active:x
        C1 2 1h - active:y
    """
    held = retro(frame(tasks, tracking=tracking), {}).held
    # A3's worktree was at work on A2 until 11; C1 needs nothing, and could have begun with the first
    assert [(h.task, h.seconds) for h in held] == [("C1", 4 * HOUR), ("A3", HOUR)]
    labels = Config(dispatch="dependencies")
    assert retro(frame(tasks, tracking=tracking, config=labels), {}).held == ()


def test_what_was_done_again_later_held_nobody_up() -> None:
    tracking = {
        "A1": {"started": at(8), "finished": at(15)},  # stale once, and verified again
        "B1": {"started": at(9), "finished": at(10)},
    }
    found = retro(frame("A1 1 1h - done\nB1 2 1h - done", tracking=tracking), {})
    assert found.held == ()


def test_json_is_as_documented() -> None:
    said = retro_json(retro(worked_on(), LANDED))
    Draft202012Validator(json.loads(schema_text("retro.schema.json"))).validate(said)
    assert said["total"]["first_pass"] == 2
    assert said["merge_points"] == [
        {"id": "MP1", "state": "done", "last": "B1", "waited_seconds": 1800}
    ]
    assert said["barriers"]["held_seconds"] == 3 * HOUR


def test_markdown_is_a_table_whatever_cards_say() -> None:
    found = retro(worked_on("A <b>*bold*</b> | plan", "a | b\n# c `d` <script>"), LANDED)
    text = retro_markdown(found)
    html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert "<h1>Looking back on A &lt;b&gt;*bold*&lt;/b&gt; | plan</h1>" in html
    assert "<td>a | b # c `d` &lt;script&gt;</td>" in html
    assert html.count("<table>") == 5
    assert "<script" not in html


@pytest.mark.parametrize(
    ("tasks", "points", "headline", "said"),
    [
        ("", "", "The plan has no tasks yet.", ("The plan has no merge points.", "none")),
        ("A1 1 1h - -\nB1 2 1h - -", "MP1 A1 - -", "0/2 tasks done.", ("None has landed", "cost")),
    ],
)
def test_what_is_empty_is_said(
    tasks: str, points: str, headline: str, said: tuple[str, str]
) -> None:
    found = retro(frame(tasks, points), {})
    for text in (retro_text(found), retro_markdown(found)):
        assert headline in text
        assert "Nobody reported a place where a spec was wrong." in text
        assert "No task was verified yet." in text
        assert "so there is nothing to compare." in text
        assert said[0] in text
        assert {
            "none": "There were none: each task starts when its own needs are done.",
            "cost": "They cost nothing: no task waited for its batch alone.",
        }[said[1]] in text
        assert "None took" not in text
    Draft202012Validator(json.loads(schema_text("retro.schema.json"))).validate(retro_json(found))


def test_times_that_make_no_sense_count_as_none() -> None:
    tracking = {
        "A1": {"started": at(9), "finished": at(8)},  # two clocks
        "B1": {"started": "2026-99-99T00:00:00Z", "finished": at(8)},
    }
    found = retro(frame("A1 - 1h - done\nB1 - 1h - done", tracking=tracking), {})
    assert [(t.task, t.actual) for t in found.tasks] == [("A1", 0)]


def test_a_clone_gives_the_same_numbers(plan: Repo) -> None:
    assert plan.gw("run").code == 0
    here = plan.gw_ok("retro", "--json").out
    said = json.loads(here)
    assert said["total"]["cost"] == {"turns": 9, "tokens": 45, "money": 1.5}
    assert said["total"]["first_pass"] == said["done"] == 3
    assert said["merge_points"][0]["waited_seconds"] is not None
    there = Repo.clone(plan, plan.path.parent / "clone", "--single-branch")
    assert there.gw_ok("retro", "--format", "json").out == here
    wrong = there.gw("retro", "--json", "--format", "markdown")
    assert (wrong.code, "--json and --format markdown" in wrong.err) == (2, True)
    assert there.gw_ok("retro", "--format", "markdown").out.startswith("# Looking back on Shop\n")
