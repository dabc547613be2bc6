from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gitwaves.errors import CycleError
from gitwaves.graph import graph_of
from gitwaves.model import (
    BatchId,
    BatchView,
    Branch,
    Cards,
    Fact,
    Gap,
    OpenGap,
    PointId,
    PointState,
    Progress,
    Schedule,
    Severity,
    State,
    Status,
    TaskId,
    Tracking,
    WorktreeView,
    natural,
)
from gitwaves.plan import chain, crew, progress, schedule
from gitwaves.record import replace
from tests.plans import cards_of, check, fact, facts_of, shuffled


def scheduled(text: str, **config: object) -> dict[str, str]:
    """The schedule of a plan, a line for each batch: waves are separated by a bar."""
    cards = cards_of(text, **config)
    plan = schedule(cards, graph_of(cards))
    return {b.id: " | ".join(" ".join(wave) for wave in b.waves) for b in plan.batches}


def read(cards: Cards, facts: Mapping[str, Fact] | str = "") -> Progress:
    graph = graph_of(cards)
    known = facts_of(facts) if isinstance(facts, str) else facts
    return progress(cards, graph, schedule(cards, graph), known)


def states(now: Progress) -> dict[str, str]:
    """Each task's state, and what it waits for."""
    return {
        view.id: " ".join([view.state, *(b.id for b in view.blocked_on)])
        for view in now.tasks.values()
    }


def batches(now: Progress) -> dict[str, str]:
    """Each batch's state, and what it waits for."""
    return {
        view.id: " ".join([view.state, *(f"{b.kind}:{b.id}" for b in view.blocked_on)])
        for view in now.batches
    }


# --- the schedule ---


def test_an_empty_plan_has_no_batches() -> None:
    assert scheduled("") == {}
    assert read(cards_of("")).counts["total"] == 0


def test_computed_batches_take_the_longest_path_first_and_one_task_a_worktree() -> None:
    plan = "A1; A2; B1 takes 3h; C1 takes 2h; C2 needs C1; D1"
    assert scheduled(plan, agents=2) == {"1": "B1 C1", "2": "A1 C2", "3": "A2 D1"}
    assert scheduled(plan, agents=8) == {"1": "A1 B1 C1 D1", "2": "A2 C2"}


def test_computed_batches_wait_for_what_merge_points_and_cancelled_tasks_wait_for() -> None:
    plan = "A1; B1; C1 needs MP1; MP1: A1 -> B1; D1 needs C1; cancel C1"
    assert scheduled(plan) == {"1": "A1", "2": "B1 D1"}


def test_authored_batches_come_in_natural_order_or_as_configured() -> None:
    plan = "A1 in 10; B1 in 2; C1 in P1.5-B1; D1 in P1-B2; E1 in P2-B1"
    assert list(scheduled(plan)) == ["2", "10", "P1-B2", "P1.5-B1", "P2-B1"]
    assert list(scheduled(plan, batches=("10", "gone"))) == [
        *("10", "2", "P1-B2", "P1.5-B1", "P2-B1"),
    ]


def test_a_wave_holds_one_task_a_worktree_in_natural_order() -> None:
    plan = "A2 in 1; A10 in 1; A1 in 1 needs B1; B1 in 1; B2 in 1 needs A10"
    assert scheduled(plan) == {"1": "A2 B1 | A1 | A10 | B2"}


def test_waves_see_through_merge_points_and_other_batches() -> None:
    assert scheduled("A1 in 1; B1 in 1 needs MP1; MP1: A1") == {"1": "A1 | B1"}
    astray = "A1 in 1; B1 in 2 needs A1; C1 in 1 needs B1"  # a finding, and still a schedule
    assert scheduled(astray) == {"1": "A1 | C1", "2": "B1"}


def test_workstreams_that_share_a_branch_share_a_wave_slot() -> None:
    cards = cards_of("A1 in 1; B1 in 1; C1 in 1")
    shared = {
        name: replace(w, branch=Branch("ws/AB")) if name != "WS-C" else w
        for name, w in cards.workstreams.items()
    }
    cards = replace(cards, workstreams=shared)
    plan = schedule(cards, graph_of(cards))
    assert plan.batches[0].waves == (("A1", "C1"), ("B1",))
    assert crew(plan) == {"1": (2, 1)}
    assert [view.tasks for view in read(cards).worktrees] == [("A1", "B1"), ("C1",)]


def test_cancelled_tasks_are_in_no_wave_and_forgotten_ones_come_last() -> None:
    plan = "A1 in 1; A2 in 1; B1; cancel A1"
    assert scheduled(plan) == {"1": "A2", "(none)": "B1"}
    cards = cards_of(plan)
    assert schedule(cards, graph_of(cards)).wave_of == {"A2": 1, "B1": 1}


@pytest.mark.parametrize(
    ("plan", "dispatch", "expected"),
    [
        ("A1 in 1", None, True),
        ("A1", None, False),
        ("A1 in 1", "dependencies", False),
        ("A1", "batches", True),
    ],
)
def test_the_barrier_is_as_the_author_wrote(
    plan: str, dispatch: str | None, expected: bool
) -> None:
    cards = cards_of(plan, dispatch=dispatch)
    assert schedule(cards, graph_of(cards)).barrier is expected


def test_a_cycle_cannot_be_scheduled() -> None:
    with pytest.raises(CycleError):
        scheduled("A1 needs B1; B1 needs A1")


# --- states ---


def test_each_task_is_in_the_first_state_that_applies() -> None:
    cards = cards_of("A1; A2; A3; A4; A5; A6; A7; A8 needs A7; A9; A10; cancel A1")
    gap = Gap("wrong", {"A9": cards.digest("A9"), "A6": cards.digest("A6")})
    facts = {
        "A1": fact("done"),
        "A2": fact("done", misplaced=True),
        "A3": fact("done", "unproven", reason="no evidence"),
        "A4": fact("done", "stale", reason="the spec changed"),
        "A5": fact("done", "unchecked"),
        "A6": fact("active"),
        "A7": fact("failed", tracking=Tracking("A7", Status.FAILED, spec_gaps=(gap,))),
        "A10": fact("done", "none"),
    }
    now = read(cards, facts)
    assert states(now) == {
        "A1": "cancelled",
        "A2": "unproven",
        "A3": "unproven",
        "A4": "stale",
        "A5": "done",
        "A6": "active",
        "A7": "failed",
        "A8": "blocked A7",
        "A9": "held A7",
        "A10": "unproven",
    }
    assert {t: v.flags for t, v in now.tasks.items() if v.flags} == {
        "A2": ("misplaced",),
        "A5": ("unchecked",),
    }
    assert {t: v.reason for t, v in now.tasks.items() if v.reason} == {
        "A3": "no evidence",
        "A4": "the spec changed",
    }
    assert list(now.counts.items()) == [
        ("total", 10),
        ("done", 1),
        ("active", 1),
        ("runnable", 0),
        ("blocked", 1),
        ("held", 1),
        ("failed", 1),
        ("stale", 1),
        ("unproven", 3),
        ("cancelled", 1),
    ]


def test_whatever_is_not_done_blocks_and_is_said_in_order() -> None:
    cards = cards_of(
        """
        A1 in 1; A2 in 1; A3 in 1; A10 in 1; B1 in 2 needs A10, MP2, A3, A2, MP1, A1, A9
        cancel A3; MP1: A1; MP2: A2
        """
    )
    now = read(cards, "A1 done; A2 stale")
    assert [(b.kind, b.id) for b in now.tasks[TaskId("B1")].blocked_on] == [
        ("task", "A2"),
        ("task", "A3"),
        ("task", "A9"),
        ("task", "A10"),
        ("merge_point", "MP1"),
        ("merge_point", "MP2"),
        ("batch", "1"),
    ]


def test_with_a_barrier_the_nearest_open_batch_blocks_and_else_it_is_a_label() -> None:
    plan = "A1 in 1; A2 in 2; B1 in 3; C1 in 4"
    assert states(read(cards_of(plan), "A1 stale")) == {
        "A1": "stale",
        "A2": "runnable",
        "B1": "blocked 2",
        "C1": "blocked 3",
    }
    assert states(read(cards_of(plan), "B1 done"))["C1"] == "blocked 2"
    labels = read(cards_of(plan, dispatch="dependencies"))
    assert set(states(labels).values()) == {"runnable"}


# --- gaps ---


def with_gap(cards: Cards, *gaps: Gap) -> Progress:
    return read(cards, {"A1": fact("done", tracking=Tracking("A1", Status.DONE, spec_gaps=gaps))})


def test_an_open_gap_holds_what_it_names_until_the_spec_changes() -> None:
    cards = cards_of("A1; B1; B2 needs B1; C1")
    gap = Gap("cents, not euros", {t: cards.digest(t) for t in ("B2", "B1", "C1")} | {"Z9": "?"})
    now = with_gap(cards, gap)
    assert states(now) == {"A1": "done", "B1": "held A1", "B2": "held A1 B1", "C1": "held A1"}
    assert now.gaps == (
        OpenGap(TaskId("A1"), gap.text, (TaskId("B1"), TaskId("B2"), TaskId("C1"))),
    )
    assert now.tasks[TaskId("B2")].blocked_on[0].kind == "gap"

    changed = {**cards.tasks, TaskId("B1"): replace(cards.tasks[TaskId("B1")], spec="euros")}
    now = with_gap(replace(cards, tasks=changed), gap)
    assert states(now) == {"A1": "done", "B1": "runnable", "B2": "held A1 B1", "C1": "held A1"}


def test_a_gap_is_open_until_it_is_resolved_or_all_that_it_names_has_changed() -> None:
    cards = cards_of("A1; B1; B2; cancel B2")
    open_ones = (Gap("names nobody"), Gap("names nothing known", {"Z9": "?"}))
    over = (
        Gap("resolved", {"B1": cards.digest("B1")}, resolved=True),
        Gap("changed", {"B1": "sha256:before"}),
        Gap("cancelled", {"B2": cards.digest("B2")}),
    )
    now = with_gap(cards, *open_ones, *over)
    assert now.gaps == tuple(OpenGap(TaskId("A1"), gap.text, ()) for gap in open_ones)
    assert states(now)["B1"] == "runnable"


# --- merge points ---


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, "blocked A1 A2"),
        ({"A1": fact("done"), "A2": fact("done", "stale")}, "blocked A2"),
        ({"A1": fact("done"), "A2": fact("done", "unchecked")}, "ready"),
        ({"MP1": fact("done", commit="f" * 40)}, "done"),
        ({"MP1": fact("done", "stale")}, "done"),
        ({"MP1": fact("done", "unproven"), "A1": fact("done")}, "blocked A2"),
        ({"MP1": fact("done", "none")}, "blocked A1 A2"),
        ({"MP1": fact("planned", reverted=True), "A1": fact("done")}, "reverted A2"),
    ],
)
def test_merge_points_are_done_ready_reverted_or_blocked(
    facts: dict[str, Fact], expected: str
) -> None:
    now = read(cards_of("A1; A2; MP1: A2 + A1"), facts)
    view = now.merge_points[PointId("MP1")]
    assert " ".join([view.state, *(b.id for b in view.blocked_on)]) == expected
    assert view.commit == (facts["MP1"].commit if "MP1" in facts else None)


# --- batches ---


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ("", {"1": "runnable", "2": "blocked batch:1"}),
        ("A1 active", {"1": "active", "2": "blocked batch:1"}),
        ("A1 failed", {"1": "active", "2": "blocked batch:1"}),
        ("A1 unproven; B1 done", {"1": "blocked task:A1", "2": "blocked batch:1"}),
        ("A1 stale; B1 done", {"1": "done", "2": "blocked merge_point:MP1"}),
        ("A1 B1 MP1 done", {"1": "done", "2": "runnable"}),
        ("A1 B1 MP1 A2 done; B2 active", {"1": "done", "2": "active"}),
        ("A1 B1 A2 B2 done", {"1": "done", "2": "done"}),
        ("A2 done", {"1": "runnable", "2": "blocked batch:1 merge_point:MP1"}),
    ],
)
def test_a_batch_says_what_it_waits_for_as_a_whole(facts: str, expected: dict[str, str]) -> None:
    plan = "A1 in 1; B1 in 1; A2 in 2; B2 in 2; MP1: A1 -> B2; C1 in 1; cancel C1"
    if facts.startswith("A1 stale"):
        plan += "; MP1: A1 -> 2"
    assert batches(read(cards_of(plan), facts)) == expected


def test_a_batch_without_a_barrier_says_what_its_tasks_wait_for_outside_of_it() -> None:
    plan = "A1 in 1; B1 in 1; A2 in 2 needs A1; B2 in 2 needs B1; C2 in 2 needs A2; MP1: A1 -> C2"
    now = read(cards_of(plan, dispatch="dependencies"))
    assert batches(now) == {"1": "runnable", "2": "blocked merge_point:MP1 task:A1 task:B1"}


def test_a_batch_counts_what_is_done_and_what_failed() -> None:
    plan = "A1 in 1; B1 in 1; C1 in 1; D1 in 1; cancel D1"
    (view,) = read(cards_of(plan), "A1 done; B1 failed; C1 stale").batches
    assert (view.done, view.failed, view.total) == (1, 1, 3)


def test_a_batch_of_cancelled_tasks_is_done() -> None:
    now = read(cards_of("A1 in 1; B1 in 2; cancel A1"))
    assert batches(now) == {"1": "done", "2": "runnable"}
    assert (now.batches[0].total, states(now)["B1"]) == (0, "runnable")


# --- time ---


def test_the_critical_path_runs_through_what_is_left() -> None:
    cards = cards_of(
        "A7 takes 2h; B1 takes 1h; C1 takes 30m; C2 takes 2h needs C1; MP4: A7 + B1 -> C1"
    )
    now = read(cards)
    assert (now.critical_path.ids, now.critical_path.seconds) == (("A7", "MP4", "C1", "C2"), 16200)
    assert {v.id: (v.critical, v.slack, v.behind) for v in now.tasks.values()} == {
        "A7": (True, 0, 16200),
        "B1": (False, 3600, 12600),
        "C1": (True, 0, 9000),
        "C2": (True, 0, 7200),
    }
    now = read(cards, "A7 B1 done")
    assert now.critical_path.ids == ("MP4", "C1", "C2")
    assert now.tasks[TaskId("A7")].slack is None
    now = read(cards, "A7 stale; B1 MP4 done; C1 unproven")
    assert now.critical_path.ids == ("C1", "C2")
    now = read(cards, "A7 B1 MP4 C1 C2 done")
    assert (now.critical_path.ids, now.critical_path.seconds) == ((), 0)


def test_of_equally_long_paths_the_smaller_ids_are_critical() -> None:
    now = read(cards_of("A10; A2; B1 needs A2; B2 needs A10"))
    assert now.critical_path.ids == ("A2", "B1")
    assert (now.tasks[TaskId("B2")].critical, now.tasks[TaskId("B2")].slack) == (False, 0)


def test_the_most_urgent_task_has_the_least_slack_then_the_longest_path_behind_it() -> None:
    plan = "A1 takes 1h; B1 takes 4h; C10 takes 2h; C2 takes 2h; D1 takes 3h; D2 takes 1h needs D1"
    assert read(cards_of(plan)).runnable == ("B1", "D1", "C2", "C10", "A1")
    both = "A1 takes 1h; A2 takes 3h needs A1; B1 takes 2h; B2 takes 2h needs MP1; MP1: B1; C1 takes 2h"
    assert read(cards_of(both), "B1 MP1 done").runnable == ("A1", "B2", "C1")


def test_default_estimates_are_the_plans() -> None:
    cards = cards_of("A1; A2 takes 5m needs A1", default_estimate=600)
    assert read(cards).critical_path.seconds == 900


# --- worktrees ---


def test_a_worktree_shows_what_is_at_work_in_it() -> None:
    cards = cards_of("A1; A2; A10; B1; C1; cancel C1")
    graph = graph_of(cards)
    facts = facts_of("A10 active; A2 failed; B1 failed")
    now = progress(
        cards,
        graph,
        schedule(cards, graph),
        facts,
        worktree_paths={"ws/A": "/trees/ws-A"},
        warnings=["shallow"],
    )
    assert now.worktrees == (
        WorktreeView(
            Branch("ws/A"),
            *((cards.tasks[TaskId("A1")].workstream,), (TaskId("A1"), TaskId("A2"), TaskId("A10"))),
            *(TaskId("A10"), "/trees/ws-A"),
        ),
        WorktreeView(
            Branch("ws/B"),
            *((cards.tasks[TaskId("B1")].workstream,), (TaskId("B1"),), TaskId("B1")),
        ),
        WorktreeView(Branch("ws/C"), (cards.tasks[TaskId("C1")].workstream,), ()),
    )
    assert now.warnings == ("shallow",)


# --- why ---


def told(now: Progress, node: str) -> list[str]:
    return ["  " * depth + f"{b.kind} {b.id} {state}" for depth, b, state in chain(now, node)]


def test_why_a_task_is_blocked_is_followed_to_what_is_at_work() -> None:
    cards = cards_of(
        """
        A1 in 1; B1 in 1; A2 in 2; B2 in 2 needs A2; C1 in 3 needs B2, MP1, nowhere
        MP1: A1 + A2
        """
    )
    now = read(cards, "A1 active; B1 done")
    assert told(now, "C1") == [
        "task B2 blocked",
        "  task A2 blocked",
        "    batch 1 active",
        "      task A1 active",
        "task nowhere unknown",
        "merge_point MP1 blocked",
        "batch 2 blocked",
    ]
    assert told(now, "MP1") == [
        "task A1 active",
        "task A2 blocked",
        "  batch 1 active",
    ]
    assert told(now, "2") == ["batch 1 active", "  task A1 active"]
    assert told(now, "1") == told(now, "A1") == []


def test_a_gap_is_the_end_of_the_chain() -> None:
    cards = cards_of("A1; B1")
    gap = Gap("wrong", {"B1": cards.digest("B1")})
    assert told(with_gap(cards, gap), "B1") == ["gap A1 open"]


def test_a_long_chain_is_not_too_deep() -> None:
    now = read(cards_of("A0;" + ";".join(f"A{i} needs A{i - 1}" for i in range(1, 3000))))
    assert len(chain(now, "A2999")) == 2999


# --- any plan ---


@st.composite
def plans(draw: st.DrawFn, *, valid: bool = False) -> Cards:
    """A plan without cycles; a valid one has no findings that are errors."""
    entries = []
    earlier: list[str] = []
    count = draw(st.integers(1, 12))
    authored = draw(st.booleans())
    batch = 1
    for i in range(count):
        node = f"{draw(st.sampled_from('ABCD'))}{count - i if draw(st.booleans()) else i + 20}"
        if node in earlier:
            continue
        batch += draw(st.integers(0, 1))
        place = f" in {batch if valid else draw(st.integers(1, 4))}" if authored else ""
        takes = f" takes {draw(st.integers(1, 4))}h"
        needs = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        entries.append(f"{node}{place}{takes}" + (f" needs {', '.join(needs)}" if needs else ""))
        earlier.append(node)
        if draw(st.integers(0, 3)) == 0:
            tasks = [name for name in earlier if not name.startswith("MP")]
            requires = draw(st.lists(st.sampled_from(tasks), min_size=1, max_size=3, unique=True))
            earlier.append(f"MP{i}")
            unlocks = f" -> {batch + 1}" if authored and valid and draw(st.booleans()) else ""
            entries.append(f"MP{i}: {' + '.join(requires)}{unlocks}")
    if not valid:
        tasks = [name for name in earlier if not name.startswith("MP")]
        entries += [f"cancel {t}" for t in draw(st.sets(st.sampled_from(tasks), max_size=2))]
    dispatch = draw(st.sampled_from([None, "batches", "dependencies"]))
    return cards_of("\n".join(entries), agents=draw(st.integers(1, 4)), dispatch=dispatch)


facts_about = st.dictionaries(
    st.sampled_from([f"{c}{i}" for c in "ABCD" for i in range(1, 32)]),
    st.sampled_from(
        [
            *(fact("active"), fact("failed"), fact("done"), fact("done", "stale")),
            *(fact("done", "unproven"), fact("done", misplaced=True), fact("planned")),
        ]
    ),
    max_size=40,
)


def positions(plan: Schedule) -> dict[str, tuple[int, int]]:
    order = [batch.id for batch in plan.batches]
    return {t: (order.index(plan.batch_of[t]), wave) for t, wave in plan.wave_of.items()}


@given(plans())
def test_a_schedule_holds_each_task_once_after_what_it_needs(cards: Cards) -> None:
    graph = graph_of(cards)
    plan = schedule(cards, graph)
    live = {task.id for task in cards.tasks.values() if task.cancelled is None}
    assert sorted(t for batch in plan.batches for t in batch.tasks) == sorted(live)
    at = positions(plan)
    for task in live:
        for need in graph.closure([task]) & live:
            if plan.authored:  # batches are the author's, waves are ours
                assert at[need][0] != at[task][0] or at[need][1] < at[task][1]
            else:
                assert at[need][0] < at[task][0]
    for batch in plan.batches:
        if not plan.authored:
            assert len(batch.waves) == 1
            assert len(batch.tasks) <= cards.config.agents
        for wave in batch.waves:
            assert list(wave) == sorted(wave, key=natural)
            assert len({cards.branch_of(task) for task in wave}) == len(wave)


@given(plans())
def test_no_task_of_a_wave_could_come_earlier(cards: Cards) -> None:
    graph = graph_of(cards)
    plan = schedule(cards, graph)
    if not plan.authored:
        return
    for batch in plan.batches:
        for k, wave in enumerate(batch.waves[1:], 1):
            for task in wave:
                before = batch.waves[k - 1]
                same = [t for t in before if cards.branch_of(t) == cards.branch_of(task)]
                taken = same and natural(same[0]) < natural(task)
                assert taken or graph.closure([task]) & set(before)


@settings(max_examples=60)
@given(plans(), facts_about, st.randoms())
def test_the_order_that_cards_are_read_in_changes_nothing(
    cards: Cards, facts: dict[str, Fact], random: object
) -> None:
    order = sorted([*cards.tasks, *cards.merge_points])
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis hands out its own Random
    one, other = read(cards, facts), read(shuffled(cards, order), facts)
    assert replace(other, cards=cards) == one
    assert list(other.tasks) == list(one.tasks)
    assert check(cards) == check(shuffled(cards, order))


@given(plans(), facts_about)
def test_states_partition_the_tasks_and_always_say_why(
    cards: Cards, facts: dict[str, Fact]
) -> None:
    now = read(cards, facts)
    counts = dict(now.counts)
    assert counts.pop("total") == len(cards.tasks) == sum(counts.values())
    assert set(now.tasks) == set(cards.tasks)
    for view in now.tasks.values():
        assert bool(view.blocked_on) == (view.state in (State.BLOCKED, State.HELD))
        over = view.state in (State.DONE, State.STALE, State.CANCELLED)
        assert (view.slack is None) == over
        assert view.slack is None or view.slack >= 0
    assert set(now.runnable) == {t for t, v in now.tasks.items() if v.state is State.RUNNABLE}
    for batch in now.batches:
        assert_batch(batch, now)


def assert_batch(batch: BatchView, now: Progress) -> None:
    assert bool(batch.blocked_on) == (batch.state == "blocked")
    members = [t for t, b in now.schedule.batch_of.items() if b == batch.id]
    assert batch.total == len(members)
    assert batch.done == sum(now.tasks[t].state is State.DONE for t in members)


@given(plans(), facts_about)
def test_the_critical_path_is_the_longest_of_all(cards: Cards, facts: dict[str, Fact]) -> None:
    graph = graph_of(cards)
    now = read(cards, facts)

    def left(node: str) -> bool:
        view = now.tasks.get(TaskId(node))
        return view is None or view.slack is not None

    def paths(node: str) -> list[tuple[str, ...]]:
        ahead = [other for other in graph.dependents(node) if left(other)]
        return [(node, *path) for other in ahead for path in paths(other)] or [(node,)]

    def length(path: tuple[str, ...]) -> int:
        known = [cards.tasks[TaskId(n)] for n in path if n in cards.tasks]
        return sum(task.estimate or 0 for task in known)

    starts = [n for n in graph.nodes if left(n) and not any(map(left, graph.needs(n)))]
    everything = [path for node in starts for path in paths(node)]
    longest = max(map(length, everything), default=0)
    assert now.critical_path.seconds == longest
    best = [path for path in everything if length(path) == longest]
    assert now.critical_path.ids == min(
        best, key=lambda path: [graph.number[n] for n in path], default=()
    )
    for view in now.tasks.values():
        assert view.critical == (view.id in now.critical_path.ids)
        if view.slack is not None:
            through = [length(path) for path in everything if view.id in path]
            assert view.slack == longest - max(through)


@settings(max_examples=200)
@given(plans(valid=True))
def test_a_plan_without_errors_can_be_finished(cards: Cards) -> None:
    assume(not any(f.severity is Severity.ERROR for f in check(cards)))
    facts: dict[str, Fact] = {}
    for _ in range(len(cards.tasks) + len(cards.merge_points)):
        now = read(cards, facts)
        ready = [p for p, v in now.merge_points.items() if v.state is PointState.READY]
        if ready:
            facts[ready[0]] = fact("done")
        elif now.runnable:
            facts[now.runnable[0]] = fact("done")
    now = read(cards, facts)
    assert now.counts["done"] == now.counts["total"]
    assert {view.state for view in now.batches} == {"done"}
    assert now.critical_path.ids == ()


def test_batches_never_move_with_progress() -> None:
    cards = cards_of("A1; A2; B1 needs A1; C1", agents=2)
    assert read(cards).schedule == read(cards, "A1 done; C1 active").schedule
    assert read(cards).schedule.batch_of[TaskId("B1")] == BatchId("2")
