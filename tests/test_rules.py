from __future__ import annotations

from typing import Any

import pytest

from gitwaves.model import (
    Branch,
    Cards,
    Finding,
    MergePoint,
    PointId,
    Severity,
    Step,
    Task,
    TaskId,
    Workstream,
    WorkstreamId,
)
from gitwaves.record import replace
from gitwaves.rules import branch_problem, place
from tests.plans import cards_of, check


def told(cards: Cards, files: tuple[str, ...] = ()) -> list[str]:
    """Findings as they are printed, without what no merge point takes to trunk."""
    found = [str(f).removeprefix(".workstreams/") for f in check(cards, files)]
    return [line for line in found if "no merge point takes" not in line]


def said(plan: str, **config: Any) -> list[str]:
    return told(cards_of(plan, **config))


def with_task(cards: Cards, task: str, **changes: Any) -> Cards:
    changed = replace(cards.tasks[TaskId(task)], **changes)
    return replace(cards, tasks={**cards.tasks, TaskId(task): changed})


def with_workstream(cards: Cards, name: str, **changes: Any) -> Cards:
    changed = replace(cards.workstreams[WorkstreamId(name)], **changes)
    return replace(cards, workstreams={**cards.workstreams, WorkstreamId(name): changed})


def test_a_good_plan_has_no_findings() -> None:
    plan = "A1 in 1; B1 in 1; C1 in 2 needs B1; C2 in 2; MP1: A1 + B1 -> C2; MP2: C1 + C2"
    assert check(cards_of(plan)) == ()


def test_what_was_found_in_one_file_is_told_too_and_all_is_sorted() -> None:
    bad = Finding(".workstreams/WS-A/A2.yaml", 3, 1, Severity.ERROR, "not YAML")
    cards = replace(cards_of("A1 needs A2, A3; B1"), findings=(bad,))
    assert told(cards) == [
        "WS-A/A1.yaml:1:1: error: A1 depends on A3: there is no such id",
        "WS-A/A2.yaml:3:1: error: not YAML",
    ]


# --- places ---


def test_a_finding_stands_where_the_word_does() -> None:
    cards = cards_of("A1; A2 needs A1, A11")
    places = {"": (1, 1), "depends_on": (3, 1), "depends_on[1]": (3, 18)}
    assert told(with_task(cards, "A2", places=places)) == [
        "WS-A/A2.yaml:3:18: error: A2 depends on A11: there is no such id; did you mean A1?"
    ]


@pytest.mark.parametrize(
    ("key", "expected"),
    [("paths[1]", (5, 5)), ("paths[2]", (4, 1)), ("verify[0].run", (1, 1)), ("id", (1, 1))],
)
def test_a_place_that_is_not_known_is_that_of_what_is_around_it(
    key: str, expected: tuple[int, int]
) -> None:
    assert place({"paths": (4, 1), "paths[1]": (5, 5)}, key) == expected


# --- ids and needs ---


def test_names_differ_in_more_than_case() -> None:
    cards = cards_of("A1 in mp1; a1 in MP1; MP1: A1")
    assert told(cards) == [
        (
            "WS-A/A1.yaml:1:1: error: the batch mp1 has the name of the merge point MP1 "
            "(.workstreams/merge-points/MP1.yaml:1); names must differ in more than case"
        ),
        (
            "WS-a/a1.yaml:1:1: error: the batch MP1 has the name of the merge point MP1 "
            "(.workstreams/merge-points/MP1.yaml:1); names must differ in more than case"
        ),
        (
            "WS-a/a1.yaml:1:1: error: the task a1 has the name of the task A1 "
            "(.workstreams/WS-A/A1.yaml:1); names must differ in more than case"
        ),
        (
            "WS-a/workstream.yaml:1:1: error: WS-a and WS-A both claim a/x; "
            "narrow one of them, or list it under `shared_paths`"
        ),
        "WS-a/workstream.yaml:1:1: error: the branches ws/a and ws/A (of WS-A) differ only in case",
        (
            "WS-a/workstream.yaml:1:1: error: the workstream WS-a has the name of the workstream WS-A "
            "(.workstreams/WS-A/workstream.yaml:1); names must differ in more than case"
        ),
    ]


def test_unknown_needs_are_told_with_what_was_meant() -> None:
    plan = "A1 in 1 needs 1, b1; B1 in 1 needs zzz; MP1: MP2 + B11 -> 11, MP2, zzz; MP2: A1"
    assert said(plan) == [
        "WS-A/A1.yaml:1:1: error: A1 depends on 1, a batch; name its tasks",
        "WS-A/A1.yaml:1:1: error: A1 depends on b1: there is no such id; did you mean B1?",
        "WS-B/B1.yaml:1:1: error: B1 depends on zzz: there is no such id",
        "merge-points/MP1.yaml:1:1: error: MP1 requires B11: there is no such id; did you mean B1?",
        (
            "merge-points/MP1.yaml:1:1: error: MP1 requires MP2, a merge point; "
            "name the tasks that it lands"
        ),
        "merge-points/MP1.yaml:1:1: error: MP1 unlocks 11: there is no such id; did you mean 1?",
        "merge-points/MP1.yaml:1:1: error: MP1 unlocks MP2, a merge point; name tasks or batches",
        "merge-points/MP1.yaml:1:1: error: MP1 unlocks zzz: there is no such id",
    ]


def test_a_merge_point_requires_something() -> None:
    cards = replace(
        cards_of("A1"), merge_points={PointId("MP1"): MergePoint(PointId("MP1"), "", (), path="x")}
    )
    assert told(cards) == ["x:1:1: error: MP1 requires no task: it would land nothing"]


def test_each_knot_is_told_once_as_a_whole_cycle() -> None:
    plan = "A1 needs MP1; A2 needs A1; B1; C1 needs C1; D1 needs A1, D2; D2 needs D1; MP1: A2 -> B1"
    cards = with_task(cards_of(plan), "A1", places={"depends_on[0]": (4, 14)})
    assert told(cards) == [
        "WS-A/A1.yaml:4:14: error: dependency cycle: A1 -> MP1 -> A2 -> A1",
        "WS-C/C1.yaml:1:1: error: dependency cycle: C1 -> C1",
        "WS-D/D1.yaml:1:1: error: dependency cycle: D1 -> D2 -> D1",
    ]
    unlocked = "A1; B1 needs A1; MP1: B1 -> A1"
    assert said(unlocked) == [
        "merge-points/MP1.yaml:1:1: error: dependency cycle: A1 -> MP1 -> B1 -> A1"
    ]


def test_a_cancelled_task_satisfies_nobody() -> None:
    plan = "A1; A2 needs A1; A10 needs A1; A3 needs A1; cancel A3; B1; MP1: A1 + B1; cancel A1"
    assert said(plan) == [
        "WS-A/A1.yaml:1:1: error: A1 is cancelled, and still needed by A2, A10, MP1"
    ]
    assert said("A1; A2 needs A1; cancel A1; cancel A2") == []


# --- batches ---


def test_either_every_task_has_a_batch_or_none_has() -> None:
    assert said("A1 in 1; A10; A2; B1; cancel B1") == [
        "WS-A/A2.yaml:1:1: error: no batch for A2, A10; every task has one, or none has"
    ]


def test_a_batch_that_nobody_is_in() -> None:
    assert said("A1 in P1-B1", batches=("P1-B1", "P1-B11", "x")) == [
        "config.yaml:1:1: warning: no task is in batch P1-B11; did you mean P1-B1?",
        "config.yaml:1:1: warning: no task is in batch x",
    ]


def test_nothing_needs_a_later_batch() -> None:
    plan = "A1 in 1 needs B1, MP1, C1; B1 in 2; B2 in 2 needs B1; C1 in 3; D1 in 1; cancel C1"
    plan += "; MP1: B2 + D1 -> D1, A1; MP2: B1 -> D1"
    assert said(plan.replace("D1 -> D1, A1", "B1")) == [
        "WS-A/A1.yaml:1:1: error: A1 of batch 1 needs B1 of the later batch 2",
        "WS-A/A1.yaml:1:1: error: A1 of batch 1 needs B1 of the later batch 2 through MP1",
        "WS-A/A1.yaml:1:1: error: A1 of batch 1 needs B2 of the later batch 2 through MP1",
        "WS-C/C1.yaml:1:1: error: C1 is cancelled, and still needed by A1",
        "merge-points/MP2.yaml:1:1: error: D1 of batch 1 needs B1 of the later batch 2 through MP2",
    ]


def test_batches_that_are_only_labels_may_come_in_any_order() -> None:
    assert said("A1 in 1 needs B1; B1 in 2", dispatch="dependencies") == [
        "WS-A/A1.yaml:1:1: warning: A1 of batch 1 needs B1 of the later batch 2"
    ]
    assert said("A1 in 1 needs B1; B1 in 2", batches=("2", "1")) == []


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("A1 in 1; B1 in 2; MP1: A1 -> 2", []),
        (
            "A1 in 1 needs B2; B1 in 2; B2 in 2; MP1: A1 -> 2",
            [
                "WS-A/A1.yaml:1:1: error: A1 of batch 1 needs B2 of the later batch 2",
                "merge-points/MP1.yaml:1:1: error: MP1 unlocks batch 2, and needs B2 of that batch",
            ],
        ),
        (
            "A1 in 1; B1 in 2; C1 in 3; MP1: C1 -> 2",
            ["merge-points/MP1.yaml:1:1: error: MP1 unlocks batch 2, and needs C1 of later ones"],
        ),
        (
            "A1 in 1; A2 in 1; MP1: A1 + A2 -> 1",
            [
                (
                    "merge-points/MP1.yaml:1:1: error: "
                    "MP1 unlocks batch 1, and needs A1, A2 of that batch"
                )
            ],
        ),
    ],
)
def test_a_merge_point_does_not_wait_for_the_batch_that_it_unlocks(
    plan: str, expected: list[str]
) -> None:
    assert said(plan) == expected


# --- branches and boundaries ---


@pytest.mark.parametrize(
    ("branch", "expected"),
    [
        ("ws/A", None),
        ("feature.x/y-z_1", None),
        ("refs/heads/ws/A", "write the short name, without refs/heads/"),
        ("gitwaves/x", "gitwaves/ is kept for its own branches"),
        ("gitwaves", "gitwaves/ is kept for its own branches"),
        *(
            (bad, "Git allows no such name")
            for bad in (
                *("", "@", "HEAD", "-x", "/x", "x/", "x.", "x..y", "x//y", ".x", "x/.y", "x.lock"),
                *(
                    "x.lock/y",
                    "x y",
                    "x~1",
                    "x^",
                    "x:y",
                    "x?",
                    "x*",
                    "x[y",
                    "x\\y",
                    "x@{y",
                    "x\x7f",
                ),
            )
        ),
    ],
)
def test_names_of_branches(branch: str, expected: str | None) -> None:
    assert branch_problem(branch) == expected


@pytest.mark.parametrize(
    ("branches", "expected"),
    [
        ({}, []),
        ({"WS-B": "ws/A"}, []),
        ({"WS-A": "main"}, ["WS-A/workstream.yaml:1:1: error: the branch of WS-A is trunk, main"]),
        (
            {"WS-A": "a b"},
            ["WS-A/workstream.yaml:1:1: error: the branch 'a b': Git allows no such name"],
        ),
        (
            {"WS-B": "ws"},
            [
                (
                    "WS-B/workstream.yaml:1:1: error: the branches ws and ws/A (of WS-A) "
                    "cannot both be: Git keeps one as a file and needs it as a folder"
                )
            ],
        ),
        (
            {"WS-A": "main/a"},
            [
                (
                    "WS-A/workstream.yaml:1:1: error: the branches main/a and main (of trunk) "
                    "cannot both be: Git keeps one as a file and needs it as a folder"
                )
            ],
        ),
        (
            {"WS-B": "ws-a"},
            [
                (
                    "WS-B/workstream.yaml:1:1: error: the branches ws-a and ws/A (of WS-A) "
                    "would have their worktrees in the same folder"
                )
            ],
        ),
    ],
)
def test_branches_that_cannot_be(branches: dict[str, str], expected: list[str]) -> None:
    cards = cards_of("A1; B1")
    for name, branch in branches.items():
        cards = with_workstream(cards, name, branch=Branch(branch))
    assert told(cards) == expected


def test_trunk_is_a_branch_too() -> None:
    assert said("A1", trunk="a..b") == [
        "config.yaml:1:1: error: the branch 'a..b': Git allows no such name"
    ]


def test_bad_patterns_are_told_where_they_stand() -> None:
    cards = with_task(cards_of("A1", shared_paths=("",)), "A1", paths=("a/x", "a/../b"))
    cards = with_workstream(
        cards, "WS-A", paths=("a/**", "!a/b"), places={"paths": (2, 1), "paths[1]": (4, 5)}
    )
    assert told(cards) == [
        "WS-A/A1.yaml:1:1: error: the pattern 'a/../b': '..' leads out of the repository",
        (
            "WS-A/workstream.yaml:4:5: error: the pattern '!a/b': "
            "'!' is not supported: list what is covered"
        ),
        "config.yaml:1:1: error: the pattern '': it is empty; `**` covers everything",
    ]


def test_what_a_task_changes_lies_within_its_boundary() -> None:
    cards = with_task(
        cards_of("A1", shared_paths=("*.lock",)),
        "A1",
        paths=("a/x", "b/**", "**/*.sql", "a.lock"),
        produces=("a/out", "b/out", "uv.lock"),
    )
    assert told(cards) == [
        "WS-A/A1.yaml:1:1: error: b/** lies outside the boundary of WS-A",
        "WS-A/A1.yaml:1:1: warning: b/out lies outside the boundary of WS-A",
    ]


def test_boundaries_do_not_overlap() -> None:
    cards = with_workstream(cards_of("A1; B1"), "WS-A", paths=("a/**", "libs/**"))
    cards = with_workstream(
        cards, "WS-B", paths=("b/**", "libs/money*"), places={"paths[1]": (5, 3)}
    )
    line = "WS-B/workstream.yaml:5:3: error: WS-B and WS-A both claim {}; "
    line += "narrow one of them, or list it under `shared_paths`"
    assert told(cards) == [line.format("libs/money")]
    assert told(cards, ("libs/a.py", "libs/money.py")) == [line.format("libs/money.py")]
    shared = replace(cards, config=replace(cards.config, shared_paths=("libs/**",)))
    assert told(shared) == []
    assert told(with_workstream(cards, "WS-B", branch=Branch("ws/A"))) == []


def test_a_workstream_without_a_boundary_is_told_and_overlaps_nothing() -> None:
    assert told(with_workstream(cards_of("A1; B1"), "WS-A", paths=())) == [
        "WS-A/workstream.yaml:1:1: warning: WS-A has no boundary: its tasks may change any file"
    ]


# --- tasks and workstreams ---


def test_a_workstream_has_a_file_and_tasks() -> None:
    cards = cards_of("A1; A10; A2")
    empty = Workstream(
        WorkstreamId("WS-E"),
        "",
        ("e/**",),
        Branch("ws/E"),
        path=".workstreams/WS-E/workstream.yaml",
    )
    missing = replace(cards, workstreams={empty.id: empty})
    assert told(missing) == [
        (
            "WS-A/A1.yaml:1:1: error: .workstreams/WS-A/workstream.yaml is missing: "
            "the workstream of A1, A2, A10"
        ),
        "WS-E/workstream.yaml:1:1: warning: WS-E has no tasks",
    ]
    unread = (
        Finding(".workstreams/WS-A/workstream.yaml", 1, 1, Severity.ERROR, "not YAML"),
        Finding(".workstreams/WS-E/E1.yaml", 1, 1, Severity.ERROR, "not YAML"),
    )
    assert told(replace(missing, findings=unread)) == [
        "WS-A/workstream.yaml:1:1: error: not YAML",
        "WS-E/E1.yaml:1:1: error: not YAML",
    ]


def test_a_task_without_steps_cannot_be_started() -> None:
    cards = with_task(cards_of("A1; A2; cancel A2"), "A1", verify=())
    assert told(with_task(cards, "A2", verify=())) == [
        "WS-A/A1.yaml:1:1: warning: A1 has no `verify` steps: it cannot be started"
    ]
    assert told(with_task(cards, "A1", verify=(Step(manual="look at it"),))) == []


def test_what_no_merge_point_takes_to_trunk_is_told_once_a_workstream() -> None:
    plan = "A1; A2 needs A1; A3 needs A2; A4 needs A2; B1; B2 needs A1, B1; B3; cancel B3; MP1: B2"
    assert [str(f) for f in check(cards_of(plan))] == [
        (
            ".workstreams/WS-A/A4.yaml:1:1: warning: no merge point takes A3, A4 of WS-A to trunk; "
            "`gitwaves merge --rest` lands it"
        )
    ]


def test_a_task_of_the_model_needs_nothing_more_than_its_ids() -> None:
    task = Task(TaskId("A1"), "", WorkstreamId("WS-A"), path=".workstreams/WS-A/A1.yaml")
    assert len(check(Cards(cards_of("").config, tasks={task.id: task}))) == 3
