"""Plans that others wrote for their agents, imported: waves, critical path and length as they say.

Only what needs what is theirs, restated here; what was found is told in docs/foresight.md. They are

- the batch execution plan of the interactive demo of DeepTrail/deepsecure-trust, at b6515ab157cf;
- the six-day plan of dwilli15/OsMEN (Apache-2.0) with the list of its first agent, at 5354ccaacb0b.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.repo import Repo

BATCHES = {
    1: {"A1": "None", "A2": "None", "C1": "None"},
    2: {"A3": "A1 ✅, A2 ✅", "B1": "A1 ✅, A2 ✅"},
    3: {"B2": "A1 ✅, B1 ✅", "D1": "A1 ✅, A2 ✅, B1 ✅, **B2**, C1 ✅"},
    4: {"E1": "D1 ✅", "F1": "**E1**"},
}
ONE_WORKTREE = """\
| Worktree | Branch | Workstreams |
|----------|--------|-------------|
| **main** | `feature/demo` | A (all tasks) |
"""


def four_batches(worktrees: str = "") -> str:
    """Four batches in tables; the authors let all of them be done in one worktree."""
    lines = ["# Demo", "", worktrees]
    for batch, needs in BATCHES.items():
        lines += [f"## Batch {batch}", "", "| Task | Description | Dependencies | Files |"]
        lines += ["|---|---|---|---|"]
        lines += [f"| {task} | Part {task} | {on} | `{task}.py` |" for task, on in needs.items()]
        lines.append("")
    return "\n".join(lines)


SLOTS = [f"{day}.{n}" for day in range(1, 7) for n in range(1, 9)]
CHAIN = ["A1.2", "A1.3", "A1.4", "A1.5", "A1.6", "A1.7", "A1.8", "A2.1", "A2.2", "A2.3"]


def six_days() -> str:
    """Three agents, each with 48 tasks of three hours, in the order of its hours."""
    lines = ["# Six days", ""]
    for agent, name in (("A", "Features"), ("B", "Operations"), ("G", "Tests")):
        lines += [f"## WS-{agent}: {name}", f"Paths: `{name.lower()}/**`", ""]
        lines += [f"- [ ] **{agent}{slot}** Part {slot} (3h)\n  - Test: it works" for slot in SLOTS]
        lines.append("")
    return "\n".join(lines)


def first_agent() -> str:
    """What the first of them has on its list, a heading each; many needs are in words only."""
    needs = dict(zip(CHAIN[1:], CHAIN, strict=False)) | {
        "A2.4": "None (parallel track)",
        "A2.5": "A2.4",
        "A2.6": "Previous features",
        "A3.4": "Scheduling engine",
        "A3.5": "A3.4",
        "A6.1": "Everything",
        "A6.2": "A6.1",
    }
    lines = ["# First agent", "", "## WS-A: Features", "Paths: `features/**`", ""]
    for slot in SLOTS:
        task = f"A{slot}"
        lines += [f"#### {task} Part {slot} (3h)", f"**Dependencies:** {needs.get(task, 'None')}"]
    return "\n".join(lines)


def planned(repo: Repo, text: str, agents: str) -> dict[str, Any]:
    """What `plan --agents` says of a document after its import."""
    repo.commit("Approve", **{"docs/design.md": text})
    repo.gw_ok("init", "--no-hooks")
    repo.gw_ok("import", "docs/design.md")
    repo.commit("Plan")
    found: dict[str, Any] = json.loads(repo.gw_ok("plan", "--agents", agents, "--json").out)
    return found


def waves(shown: dict[str, Any]) -> list[list[list[str]]]:
    return [[wave["tasks"] for wave in batch["waves"]] for batch in shown["batches"]]


def hours(shown: dict[str, Any]) -> list[int]:
    return [row["seconds"] // 3600 for row in shown["forecast"]["agents"]]


def slack(shown: dict[str, Any], task: str) -> int:
    return int(next(t["slack_minutes"] for t in shown["tasks"] if t["id"] == task))


@pytest.mark.parametrize("worktrees", ["", ONE_WORKTREE])
def test_four_batches(repo: Repo, worktrees: str) -> None:
    shown = planned(repo, four_batches(worktrees), "1,3")
    assert shown["critical_path"]["ids"] == ["A1", "B1", "B2", "D1", "E1", "F1"]
    assert waves(shown)[2:] == [[["B2"], ["D1"]], [["E1"], ["F1"]]]
    # They call A2 free until D1; by their own table B1 needs it as much as it needs A1.
    assert (slack(shown, "A2"), slack(shown, "C1")) == (0, 120)
    if worktrees:  # which they call all parallel: in one worktree it is one after the other
        assert waves(shown)[:2] == [[["A1"], ["A2"], ["C1"]], [["A3"], ["B1"]]]
        assert hours(shown) == [9, 9]
        split = shown["forecast"]["limits"][0]
        assert (split["kind"], split["saves_seconds"]) == ("worktree", 3 * 3600)  # their 6 hours
    else:  # a worktree for each workstream: only A1 and A2 still share one
        assert waves(shown)[:2] == [[["A1", "C1"], ["A2"]], [["A3", "B1"]]]
        assert hours(shown) == [9, 7]


def test_six_days(repo: Repo) -> None:
    """Each batch that is computed is one three-hour slot of the authors; the end is their hour 144."""
    shown = planned(repo, six_days(), "1,3,8")
    assert waves(shown) == [[[f"{agent}{slot}" for agent in "ABG"]] for slot in SLOTS]
    assert hours(shown) == [432, 144, 144]
    assert shown["forecast"]["agents"][1]["use"] == [1.0, 1.0, 1.0]


def test_the_list_of_one_of_them(repo: Repo) -> None:
    """What is said to be parallel is in one row, and only ten of the 48 need one another in a row."""
    shown = planned(repo, first_agent(), "1,3")
    assert shown["critical_path"] == {"ids": CHAIN, "minutes": 1800}
    assert hours(shown) == [144, 144]
    split = shown["forecast"]["limits"][0]
    assert (split["ids"], split["share"], split["saves_seconds"]) == (["WS-A"], 1.0, 96 * 3600)
    said = repo.gw_ok("import", "docs/design.md").err
    assert "A3.4 depends on 'Scheduling engine', which is no id here: left out" in said
