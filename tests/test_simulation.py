from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gitwaves.forecast import forecast, forecast_json, forecast_text, learn
from gitwaves.graph import Graph, graph_of
from gitwaves.model import Cards, Fact, PointState, Progress, TaskId
from gitwaves.plan import progress, schedule
from gitwaves.record import replace
from gitwaves.resources import schema_text
from gitwaves.simulation import Played, Work, limits, play
from tests.plans import cards_of, fact, facts_of, shuffled
from tests.repo import Repo

HOUR = 3600


def now(cards: Cards, facts: dict[str, Fact] | None = None) -> Progress:
    graph = graph_of(cards)
    return progress(cards, graph, schedule(cards, graph), facts or {})


def work(text: str, **config: Any) -> Work:
    return Work.of(now(cards_of(text, **config)))


def told(work: Work, played: Played) -> dict[str, tuple[int, int]]:
    """By task: the agent, and the hour in which it began."""
    return {work.graph.nodes[j.task]: (j.agent, j.start // HOUR) for j in played.jobs}


@st.composite
def plans(draw: st.DrawFn) -> Cards:
    """Plans of up to 9 tasks in up to 4 worktrees, with batches or without, and merge points."""
    ids = [f"{w}{n}" for w in "ABCD" for n in (1, 2, 3)]
    order = draw(st.permutations(ids))[: draw(st.integers(1, 9))]
    batched = draw(st.booleans())
    batch = 1
    entries: list[str] = []
    points: list[str] = []
    for k, name in enumerate(order):
        batch += draw(st.integers(0, 1))
        needs = draw(st.lists(st.sampled_from(order[:k]), max_size=2, unique=True)) if k else []
        needs += [p.split(":")[0] for p in points if draw(st.booleans()) and draw(st.booleans())]
        entry = f"{name} in {batch}" if batched else name
        entry += f" takes {draw(st.integers(1, 9))}h"
        entries.append(entry + (f" needs {', '.join(needs)}" if needs else ""))
        if draw(st.integers(0, 3)) == 0:
            met = draw(
                st.lists(st.sampled_from(order[: k + 1]), min_size=1, max_size=2, unique=True)
            )
            points.append(f"MP{k}: {' + '.join(met)}")
    return cards_of("; ".join([*entries, *points]), agents=4)


agents = st.integers(1, 5)
few = settings(max_examples=40)


@given(plans(), agents)
@few
def test_one_task_at_a_time_in_a_worktree_and_never_more_at_once_than_agents(
    cards: Cards, count: int
) -> None:
    work = Work.of(now(cards))
    played = play(work, count)
    assert sorted(job.task for job in played.jobs) == list(work.tasks)
    assert all(job.end - job.start == work.length[job.task] for job in played.jobs)
    for key in (lambda job: work.branch[job.task], lambda job: job.agent):
        rows = defaultdict(list)
        for job in played.jobs:
            rows[key(job)].append((job.start, job.end))
        for spans in rows.values():
            assert all(a[1] <= b[0] for a, b in pairwise(sorted(spans)))
    assert {job.agent for job in played.jobs} <= set(range(count))


@given(plans(), agents)
@few
def test_what_a_task_needs_and_every_batch_before_it_is_over_when_it_starts(
    cards: Cards, count: int
) -> None:
    plan = now(cards)
    work = Work.of(plan)
    jobs = {work.graph.nodes[job.task]: job for job in play(work, count).jobs}
    batches = [batch.tasks for batch in plan.schedule.batches]
    place = {task: k for k, tasks in enumerate(batches) for task in tasks}
    for task, job in jobs.items():
        needs = work.graph.closure([task]) & set(jobs)
        if plan.schedule.barrier:
            needs |= {str(t) for tasks in batches[: place[TaskId(task)]] for t in tasks}
        assert all(jobs[need].end <= job.start for need in needs)


@given(plans(), agents)
@few
def test_it_is_what_the_dispatcher_would_do(cards: Cards, count: int) -> None:
    """Played again with the very function that `run` asks what is runnable, after each event."""
    work = Work.of(now(cards))
    ours = {work.graph.nodes[j.task]: (j.agent, j.start, j.end) for j in play(work, count).jobs}
    assert ours == _dispatched(cards, count)


def _dispatched(cards: Cards, count: int) -> dict[str, tuple[int, int, int]]:
    facts: dict[str, Fact] = {}
    at_work: dict[str, tuple[int, int, int]] = {}
    found: dict[str, tuple[int, int, int]] = {}
    clock = 0
    while True:
        shown = now(cards, facts)
        ready = [p for p, v in shown.merge_points.items() if v.state is PointState.READY]
        if ready:
            facts |= {p: fact("done") for p in ready}
            continue
        for task in shown.runnable:
            free = [n for n in range(count) if n not in {job[0] for job in at_work.values()}]
            busy = {cards.branch_of(TaskId(t)) for t in at_work}
            if free and cards.branch_of(task) not in busy:
                end = clock + (cards.tasks[task].estimate or 0)
                at_work[str(task)] = found[str(task)] = (free[0], clock, end)
                facts[str(task)] = fact("active")
        if not at_work:
            return found
        clock = min(end for _, _, end in at_work.values())
        for over in [t for t, (_, _, end) in at_work.items() if end == clock]:
            del at_work[over]
            facts[over] = fact("done")


@given(plans())
@few
def test_with_enough_agents_only_needs_barriers_and_worktrees_set_the_length(cards: Cards) -> None:
    plan = now(cards)
    work = Work.of(plan)
    played = play(work, len(work.tasks))
    needs = {name: set(work.graph.needs(name)) for name in work.graph.nodes}
    by_worktree = defaultdict(list)
    for job in sorted(played.jobs, key=lambda job: job.start):
        by_worktree[work.branch[job.task]].append(work.graph.nodes[job.task])
    for row in by_worktree.values():
        for first, second in pairwise(row):
            needs[second].add(first)
    if plan.schedule.barrier:
        tasks = [batch.tasks for batch in plan.schedule.batches]
        for before, after in pairwise(tasks):
            for task in after:
                needs[task] |= set(before)
    graph = Graph.of(needs)
    weight = [work.length.get(work.graph.number[name], 0) for name in graph.nodes]
    assert played.seconds == max(graph.behind(weight))


@given(plans(), agents)
@few
def test_with_worktrees_of_their_own_it_is_within_the_bound_for_list_schedules(
    cards: Cards, count: int
) -> None:
    """Graham (1969); and with enough agents the length is that of the critical path."""
    work = Work.of(now(cards)).without_barriers()
    work = replace(work, branch={n: n for n in work.tasks})
    longest = work.longest()[1]
    assert play(work, len(work.tasks)).seconds == longest
    assert count * play(work, count).seconds <= work.total + (count - 1) * longest


@given(plans(), agents)
@few
def test_bounds(cards: Cards, count: int) -> None:
    work = Work.of(now(cards))
    played = play(work, count)
    assert work.at_least(count) <= played.seconds <= work.total
    assert play(work, 1).seconds == work.total
    assert sum(played.use()) * played.seconds == pytest.approx(work.total)


@given(plans(), agents, st.randoms())
@few
def test_the_same_cards_give_the_same_answer(cards: Cards, count: int, random: Any) -> None:
    order: list[str] = [*cards.tasks, *cards.merge_points]
    random.shuffle(order)
    assert play(Work.of(now(shuffled(cards, order))), count) == play(Work.of(now(cards)), count)


@given(plans(), agents)
@few
def test_the_chain_that_sets_the_end_has_no_gap(cards: Cards, count: int) -> None:
    played = play(Work.of(now(cards)), count)
    chain = played.chain()
    assert (chain[0].start, chain[-1].end) == (0, played.seconds)
    assert all(before.end == after.start for before, after in pairwise(chain))


@given(plans(), agents)
@few
def test_a_limit_saves_what_it_says(cards: Cards, count: int) -> None:
    plan = now(cards)
    work = Work.of(plan)
    for limit in limits(plan, work, count):
        assert 0 < limit.saves < play(work, count).seconds
        assert 0 < limit.share <= 1


def test_by_hand() -> None:
    left = work("A1 takes 1h; A2 takes 2h; B1 takes 4h needs A1; C1 takes 1h")
    assert told(left, play(left, 2)) == {"A1": (0, 0), "A2": (1, 1), "B1": (0, 1), "C1": (1, 0)}
    assert told(left, play(left, 1)) == {"A1": (0, 0), "B1": (0, 1), "A2": (0, 5), "C1": (0, 7)}


def test_what_was_begun_comes_first_and_what_is_over_is_not_played() -> None:
    cards = cards_of("A1; A2; B1 takes 5h; C1; D1 needs C1; E1 needs D1; cancel E1; F1 needs E1")
    left = Work.of(now(cards, dict(facts_of("A2 failed; C1 done; B1 planned"))))
    played = play(left, 1)
    assert told(left, played) == {"A2": (0, 0), "B1": (0, 1), "A1": (0, 6), "D1": (0, 7)}
    assert [left.graph.nodes[n] for n in played.stuck] == ["F1"]


def test_a_barrier_costs_and_a_dependency_does_not() -> None:
    left = work("A1 in 1; B1 in 1 takes 3h; A2 in 2 takes 3h needs A1; B2 in 2")
    assert play(left, 2).seconds == 6 * HOUR
    assert play(left.without_barriers(), 2).seconds == 4 * HOUR


@pytest.mark.parametrize(
    ("text", "kind", "ids", "saves"),
    [
        ("A1; A2; A3; B1", "worktree", ("WS-A",), 2),
        ("A1 takes 2h; B1 needs A1; C1 needs B1; D1 takes 2h", "dependency", ("B1", "A1"), 2),
        ("A1 in 1 takes 3h; B1 in 1; B2 in 2 takes 3h", "batch", ("2", "1"), 2),
        ("A1 takes 3h; MP1: A1; B1 takes 2h needs MP1", "dependency", ("B1", "MP1"), 2),
        ("A1; B1; C1", "", (), 0),
    ],
)
def test_what_limits_a_plan_most(text: str, kind: str, ids: tuple[str, ...], saves: int) -> None:
    plan = now(cards_of(text))
    found = limits(plan, Work.of(plan), 4)
    assert [(x.kind, x.ids, x.saves) for x in found[:1]] == [(kind, ids, saves * HOUR)] * bool(kind)


def test_more_agents_can_take_longer() -> None:
    """A list schedule never leaves an agent idle for a better task: Graham's anomaly. It is said."""
    cards = cards_of(
        "A1 takes 5h needs C1; A2 takes 3h; B1 takes 3h; B2 takes 2h needs C1; C1 takes 2h;"
        "C2 takes 9h needs B2"
    )
    left = Work.of(now(cards))
    assert [play(left, n).seconds // HOUR for n in (2, 3)] == [13, 14]
    assert "3 agents take longer than 2" in forecast_text(forecast(now(cards), [2, 3]))


# --- what was measured ---


def measured(text: str, **minutes: int) -> tuple[Cards, dict[str, Fact]]:
    """A plan whose tasks named in `minutes` are done, and took that long."""
    cards = cards_of(text)
    facts = {}
    for task, took in minutes.items():
        tracking = replace(
            fact("done").tracking,
            started="2026-01-01T00:00:00Z",
            finished=f"2026-01-01T{took // 60:02}:{took % 60:02}:00Z",
        )
        facts[task] = fact("done", tracking=tracking)
    return cards, facts


def test_estimates_learn_from_done_tasks() -> None:
    cards, facts = measured("A1; A2; B1 takes 2h; B2; C1 takes 4h", A1=90, B1=120, A2=60)
    assert learn(cards, facts).ratios == (1.0, 1.0, 1.5)
    found = forecast(now(cards, facts), [1, 2])
    assert found.learnt.factor == pytest.approx(3.5 / 3)
    assert found.work == pytest.approx(5 * HOUR * 3.5 / 3, abs=2)
    for row in found.rows:
        assert row.range is not None
        assert row.range[0] <= row.seconds <= row.range[1]
        assert row.range[0] >= 4 * HOUR
    assert forecast(now(cards, facts), [1, 2]) == found


def test_two_tasks_teach_nothing() -> None:
    cards, facts = measured("A1; B1; C1", A1=600, B1=600)
    found = forecast(now(cards, facts), [1])
    assert (found.rows[0].seconds, found.rows[0].range) == (HOUR, None)
    assert "measured so far: 2 tasks, so no range is given" in forecast_text(found)


def test_what_is_not_proven_teaches_nothing() -> None:
    cards, facts = measured("A1; B1; C1; D1", A1=600, B1=600, C1=600)
    bad = {t: fact("done", "unproven", tracking=f.tracking) for t, f in facts.items()}
    assert learn(cards, bad).measured == 0


def test_what_is_at_work_has_some_of_it_behind_it() -> None:
    cards = cards_of("A1 takes 4h")
    tracking = replace(fact("active").tracking, started="1970-01-01T01:00:00Z")
    at_work = now(cards, {"A1": fact("active", tracking=tracking)})
    hours = [forecast(at_work, [1], since=h * HOUR).rows[0].seconds / HOUR for h in (1, 2, 4, 99)]
    assert hours == [4, 3, 1, 0.4]


def test_the_text() -> None:
    cards = cards_of("A1 in 1; B1 in 1 takes 3h; A2 in 2 takes 3h needs A1; B2 in 2; C1 in 2")
    assert forecast_text(forecast(now(cards), [1, 2, 4])) == dedent("""\
        Played from now on by the estimates; measured so far: none, so no range is given.

        AGENTS  END IN  SPEED-UP  AT LEAST  NO BARRIERS  USE OF EACH, %
        1       9h      1.0       9h        9h           100
        2       6h      1.5       4h 30m    5h           67 83
        4       6h      1.5       4h        4h           67 67 17 0

        CRITICAL PATH  4h of 9h of work: A1 -> A2
        BARRIERS       between batches cost 1h with 2, 2h with 4
        LIMITS         Batch 2 waits for Batch 1: without that the end comes 2h sooner
        """)
    done = forecast(now(cards_of("A1"), dict(facts_of("A1 done"))), [1])
    assert forecast_text(done) == "Nothing is left to do.\n"


def test_a_boundary_that_limits_is_said() -> None:
    text = forecast_text(forecast(now(cards_of("A1; A2; A3; B1 takes 2h")), [4]))
    assert "split WS-A: its 3 tasks in a row are 100 % of the time; the end comes 1h sooner" in text


def test_the_command(repo: Repo) -> None:
    repo.commit("Seed", **{"README.md": "x\n"})
    repo.gw_ok("init", "--no-hooks", "--title", "Shop")
    card = 'id: {0}\ntitle: {0}\nverify: [{{run: "true"}}]\n'
    repo.write(".workstreams/WS-A/workstream.yaml", 'title: Ledger\npaths: ["a/**"]\n')
    for name in ("A1", "A2"):
        repo.write(f".workstreams/WS-A/{name}.yaml", card.format(name))
    assert "1       2h " in repo.gw_ok("plan", "--agents", "1,8").out  # not committed, as `plan`
    repo.commit("Plan")
    shown = json.loads(repo.gw_ok("plan", "--agents", "1,8", "--json").out)
    Draft202012Validator(json.loads(schema_text("plan.schema.json"))).validate(shown)
    assert [row["seconds"] for row in shown["forecast"]["agents"]] == [2 * HOUR] * 2
    for wrong in ("1,,2", "-1", "1001"):
        assert repo.gw("plan", "--agents", wrong).code == 2


def test_json_is_as_documented() -> None:
    schema = json.loads(schema_text("plan.schema.json"))["properties"]["forecast"]
    cards, facts = measured("A1; A2; A3; B1; C1; C2", A1=90, B1=120, A2=60)
    for found in (forecast(now(cards, facts), [1, 4]), forecast(now(cards), [1])):
        Draft202012Validator(schema).validate(json.loads(json.dumps(forecast_json(found))))
