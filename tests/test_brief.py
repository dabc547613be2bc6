from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gitwaves.brief import BUDGET, brief
from gitwaves.errors import UsageError
from gitwaves.model import Config, Gap, Progress, Step, TaskId
from tests.frames import frame

TASKS = """
    A1  1  2h  -       landed
    B1  1  1h  A1      done
    C1  2  1h  MP1     -
    C2  2  1h  C1      -
"""
POINTS = "MP1  B1  -  -"
C1 = TaskId("C1")


def payments(spec: str = "Send what is due.\n", learned: tuple[str, ...] = ()) -> Progress:
    cards: dict[str, dict[str, Any]] = {
        "A1": {"produces": ("services/a/schema.sql",)},
        "C1": {
            "title": "Payout job",
            "spec": spec,
            "acceptance": ("Nothing is paid twice.", "A run can be\nrepeated."),
            "paths": ("services/c/jobs/**",),
            "produces": ("services/c/jobs/payout.py",),
            "verify": (
                Step("make test", timeout=600),
                Step("set -e\nmake up\n"),
                Step(manual="The report reads well."),
                Step("docker compose down", always=True),
            ),
        },
    }
    config = Config(title="Payments platform", shared_paths=("package-lock.json",))
    digest = frame(TASKS, POINTS, cards=cards).cards.digest("C1")
    tracking: dict[str, dict[str, Any]] = {
        "A1": {"learnings": ("Amounts are `cents`.",)},
        "B1": {
            "learnings": ("Retry twice,\nthen give up.", *learned),
            "spec_gaps": (
                Gap("Which time zone?", {"C1": digest}),
                Gap("Which colour?", {"C1": digest}, resolved=True),
            ),
        },
        "C1": {"learnings": ("The first way did not work.",)},
    }
    return frame(TASKS, POINTS, cards=cards, tracking=tracking, config=config)


def test_brief() -> None:
    log = "\x1b[31mE  assert 1 == 2\x1b[0m\r\n``` in a log\n\n"
    text = brief(payments(), C1, failure=log, attempt=2, worktree="/home/ada/ws-C")
    assert text == dedent("""\
        # C1: Payout job

        You are doing task C1 of Payments platform: part of workstream WS-C (Service C), on the \
branch `ws/C` in the worktree `/home/ada/ws-C`. It is in batch 2, wave 1. Waiting for it: C2. \
This is attempt 2.

        ## What to build

        Send what is due.

        ## Acceptance

        - Nothing is paid twice.
        - A run can be
          repeated.

        ## Boundary

        Change only what matches one of these, within WS-C (Service C):

        - `services/c/jobs/**`

        The boundary of WS-C: `services/c/**`.

        Anyone may change: `package-lock.json`.

        Everything else is refused by the commit hook, and again by verification.

        Neighbours: WS-A owns `services/a/**`; WS-B owns `services/b/**`.

        ## What must exist in the end

        - `services/c/jobs/payout.py`

        ## How it is verified

        1. `make test` (at most 10m)
        2. The script:
           ```sh
           set -e
           make up
           ```
        3. A person confirms: The report reads well.
        4. `docker compose down` (always, a tear-down)

        ## What the tasks before it built

        - B1: Title of B1
        - A1: Title of A1: `services/a/schema.sql`

        ## What was learned on the way to C1

        - C1: The first way did not work.
        - B1: Retry twice,
          then give up.
        - A1: Amounts are `cents`.

        ## Open spec gaps

        - B1: Which time zone?

        ## The attempt before failed (attempt 1)

        The end of its log:

        ````text
        E  assert 1 == 2
        ``` in a log
        ````

        ## How to finish

        1. Stay in this worktree, on the branch `ws/C`: do not switch branches, do not push, and \
do not edit anything under `.workstreams/`.
        2. Commit your work on this branch.
        3. Run `gitwaves verify` in this worktree; it needs no id. Once it passes on what is \
committed, the task is recorded as done. If it fails, repair, commit and run it again. (If \
nothing had to change: `gitwaves verify --unchanged`.)
        4. What other tasks should know goes into the last lines of a commit message, as \
`Learned: what you learned`. Where the spec is wrong or leaves something open, say so there as \
`Spec-gap: what is wrong`, rather than guess in silence.
    """)


def test_brief_of_a_bare_card() -> None:
    now = frame("A1 1 1h - -", cards={"A1": {"verify": ()}}, config=Config())
    assert brief(now, TaskId("A1")) == dedent("""\
        # A1: Title of A1

        You are doing task A1: part of workstream WS-A (Service A), on the branch `ws/A`. It is \
in batch 1, wave 1.

        ## What to build

        The card gives no spec: the title is all there is.

        ## Boundary

        Change only what matches one of these:

        - `services/a/**`

        Everything else is refused by the commit hook, and again by verification.

        ## How it is verified

        The card has no steps yet: it cannot be verified.

        ## How to finish

        1. Stay in this worktree, on the branch `ws/A`: do not switch branches, do not push, and \
do not edit anything under `.workstreams/`.
        2. Commit your work on this branch.
        3. Run `gitwaves verify` in this worktree; it needs no id. Once it passes on what is \
committed, the task is recorded as done. If it fails, repair, commit and run it again. (If \
nothing had to change: `gitwaves verify --unchanged`.)
        4. What other tasks should know goes into the last lines of a commit message, as \
`Learned: what you learned`. Where the spec is wrong or leaves something open, say so there as \
`Spec-gap: what is wrong`, rather than guess in silence.
    """)


@pytest.mark.parametrize("name", ["MP1", "1", "Z9"])
def test_only_tasks_have_a_brief(name: str) -> None:
    with pytest.raises(UsageError):
        brief(payments(), TaskId(name))


# --- the budget ---

LEARNED = tuple(f"Learning {i}." for i in range(1_000))


def lines(word: str, count: int) -> str:
    return "".join(f"{word} line {i}.\n" for i in range(count))


def sizes(text: str) -> tuple[int, int, int]:
    """How many lines of spec, log and learnings are left."""
    return text.count("Spec line"), text.count("Log line"), text.count("Learning ")


def test_learnings_are_cut_first() -> None:
    text = brief(payments(lines("Spec", 400), LEARNED), C1, failure=lines("Log", 400))
    assert BUDGET - 100 < len(text) <= BUDGET
    spec, log, learned = sizes(text)
    assert (spec, log) == (400, 400)
    assert f"- B1: Learning {learned - 1}.\n- and {1_003 - learned - 2} more: " in text
    assert "- A1: Amounts" not in text  # the farthest goes first
    assert "- C1: The first way did not work.\n- B1: Retry twice" in text


def test_then_the_log_keeps_its_end() -> None:
    text = brief(payments(lines("Spec", 800), LEARNED), C1, failure=lines("Log", 1_000))
    assert BUDGET - 100 < len(text) <= BUDGET
    spec, log, learned = sizes(text)
    assert (spec, learned) == (800, 0)
    assert f"```text\n...\nLog line {1_000 - log}.\n" in text
    assert "Log line 999.\n```\n" in text


def test_then_the_spec_points_to_the_card() -> None:
    text = brief(payments(lines("Spec", 3_000), LEARNED), C1, failure=lines("Log", 1_000))
    assert BUDGET - 100 < len(text) <= BUDGET
    spec, log, learned = sizes(text)
    assert (log, learned) == (106, 0)
    pointer = "(Cut here. Read the rest in `.workstreams/WS-C/C1.yaml`.)"
    assert f"Spec line {spec - 1}.\n\n{pointer}\n" in text


def test_a_cut_closes_the_fence_it_cuts() -> None:
    text = brief(payments("~~~~python\n" + "x = '```'\n" * 9_000 + "~~~~\n"), C1)
    assert "\nx = '```'\n~~~~\n\n(Cut here." in text
    assert len(text) <= BUDGET


# --- any text at all ---

CHARACTERS = st.sampled_from("ab #`~>-\n\r\t\x1b\u202e\u2028é") | st.characters()
TEXTS = st.text(CHARACTERS, max_size=400)


@settings(deadline=None)
@given(TEXTS, TEXTS, TEXTS, st.integers(3_000, 6_000))
def test_any_brief_is_whole(spec: str, learned: str, log: str, budget: int) -> None:
    """Whatever a card, a learning or a log holds, the rules at the end are read as such."""
    text = brief(payments(spec, (learned,)), C1, failure=log, attempt=2, budget=budget)
    assert re.sub(r"[\n\t]", "", text).isprintable()
    assert text.endswith("rather than guess in silence.\n")
    tokens = MarkdownIt().parse(text)
    headings = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert headings[-1] == "How to finish"
    if budget >= 5_000:  # below, what is never cut may be longer
        assert len(text) <= budget
