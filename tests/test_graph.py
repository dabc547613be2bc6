from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwaves.errors import CycleError
from gitwaves.graph import Graph, graph_of
from gitwaves.model import natural
from tests.plans import cards_of

IDS = ["A1", "A2", "A10", "B1", "B2", "C1", "MP1", "MP2"]
Needs = dict[str, list[str]]


@st.composite
def acyclic(draw: st.DrawFn) -> Needs:
    """Needs that run one way along some order of the ids."""
    order = draw(st.permutations(IDS))
    return {
        node: draw(st.lists(st.sampled_from(order[:i]), unique=True)) if i else []
        for i, node in enumerate(order)
    }


any_graph = st.fixed_dictionaries(
    {node: st.lists(st.sampled_from(IDS), max_size=3, unique=True) for node in IDS}
)


def reaches(needs: Needs, start: str, goal: str) -> bool:
    """By the definition: whether one step or more lead from `start` to `goal`."""
    seen: set[str] = set()
    stack = [start]
    while stack:
        for need in needs[stack.pop()]:
            if need == goal:
                return True
            if need not in seen:
                seen.add(need)
                stack.append(need)
    return False


def test_an_empty_graph_has_nothing_in_it() -> None:
    graph = Graph.of({})
    assert (graph.order(), graph.waves(), graph.cycle()) == ((), (), None)


def test_neighbours_come_in_natural_order() -> None:
    graph = Graph.of({"C1": ["A10", "A2"], "B1": ["A2"]})
    assert graph.needs("C1") == ("A2", "A10")
    assert graph.dependents("A2") == ("B1", "C1")


def test_an_unknown_id_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Graph.of({}).needs("A1")


@given(acyclic())
def test_in_order_everything_comes_after_what_it_needs(needs: Needs) -> None:
    graph = Graph.of(needs)
    order = graph.order()
    assert sorted(order) == sorted(IDS)
    done: set[str] = set()
    for node in order:
        ready = [n for n in IDS if n not in done and done.issuperset(needs[n])]
        assert node == min(ready, key=natural)
        done.add(node)


@given(acyclic())
def test_each_wave_needs_only_earlier_ones_and_is_as_early_as_it_can_be(needs: Needs) -> None:
    waves = Graph.of(needs).waves()
    wave_of = {node: i for i, wave in enumerate(waves) for node in wave}
    assert sorted(wave_of) == sorted(IDS)
    for node in IDS:
        assert wave_of[node] == max((wave_of[need] + 1 for need in needs[node]), default=0)
    assert all(list(wave) == sorted(wave, key=natural) for wave in waves)


@given(any_graph, st.sets(st.sampled_from(IDS)))
def test_the_closure_is_all_that_can_be_reached(needs: Needs, nodes: set[str]) -> None:
    expected = {goal for goal in IDS if any(reaches(needs, node, goal) for node in nodes)} - nodes
    assert Graph.of(needs).closure(nodes) == expected


@given(any_graph)
def test_every_knot_is_told_as_one_whole_cycle(needs: Needs) -> None:
    graph = Graph.of(needs)
    on_cycles = {node for node in IDS if reaches(needs, node, node)}
    told: set[str] = set()
    for cycle in graph.cycles():
        assert cycle[0] == cycle[-1] == min(cycle, key=natural)
        assert len(set(cycle)) == len(cycle) - 1
        assert all(need in needs[node] for node, need in pairwise(cycle))
        knot = {n for n in IDS if reaches(needs, n, cycle[0]) and reaches(needs, cycle[0], n)}
        assert not knot & told
        assert cycle[0] == min(knot, key=natural)
        told |= knot
    assert told == on_cycles
    assert graph.cycle() == next(iter(graph.cycles()), None)


@given(any_graph, st.permutations(IDS))
def test_the_order_that_cards_are_read_in_changes_nothing(needs: Needs, order: list[str]) -> None:
    graph, other = Graph.of(needs), Graph.of({node: needs[node][::-1] for node in order})
    assert graph == other
    assert graph.cycles() == other.cycles()


def test_a_cycle_is_raised_whole_and_starts_at_the_smallest_id() -> None:
    graph = Graph.of({"db": ["web"], "web": ["api"], "api": ["db"], "ui": ["web"]})
    for attempt in (graph.order, graph.waves):
        with pytest.raises(CycleError) as caught:
            attempt()
        assert caught.value.cycle == ("api", "db", "web", "api")
        assert caught.value.message == "dependency cycle: api -> db -> web -> api"


def test_the_shortest_cycle_of_a_knot_is_told() -> None:
    graph = Graph.of({"a": ["b", "d"], "b": ["c"], "c": ["a"], "d": ["a"]})
    assert graph.cycle() == ("a", "d", "a")


def test_a_long_chain_behind_a_cycle_is_quick_and_not_too_deep() -> None:
    chain = {f"t{i}": [f"t{i - 1}"] for i in range(1, 20_000)}
    assert Graph.of({**chain, "t0": ["t1"]}).cycles() == (("t0", "t1", "t0"),)


@given(acyclic(), st.lists(st.none() | st.integers(1, 5), min_size=8, max_size=8))
def test_lengths_are_those_of_the_longest_paths(needs: Needs, drawn: list[int | None]) -> None:
    graph = Graph.of(needs)
    weight = dict(zip(graph.nodes, drawn, strict=True))
    left = [node for node in graph.nodes if weight[node] is not None]

    def paths(node: str) -> list[tuple[str, ...]]:
        ahead = [other for other in graph.dependents(node) if other in left]
        return [(node, *path) for other in ahead for path in paths(other)] or [(node,)]

    def length(path: tuple[str, ...]) -> int:
        return sum(weight[node] or 0 for node in path)

    everything = [path for node in left for path in paths(node)]
    before, behind = graph.before(drawn), graph.behind(drawn)
    for node in left:
        ways_there = [path[: path.index(node)] for path in everything if node in path]
        assert before[graph.number[node]] == max(map(length, ways_there))
        assert behind[graph.number[node]] == max(map(length, paths(node)))
    longest = max(map(length, everything), default=0)
    best = [path for path in everything if length(path) == longest]
    expected = min(best, key=lambda path: [graph.number[node] for node in path], default=())
    assert graph.longest(drawn, behind) == expected


def test_the_graph_of_a_plan_joins_needs_requirements_and_unlocks() -> None:
    cards = cards_of(
        """
        A1 in 1; A2 in 1 needs A1, MP9, nowhere; B1 in 2; B2 in 2 needs MP1; C1 in 3
        MP1: A2 + nobody -> C1, 2, 7
        """
    )
    graph = graph_of(cards)
    assert {node: graph.needs(node) for node in graph.nodes} == {
        "A1": (),
        "A2": ("A1",),
        "B1": ("MP1",),
        "B2": ("MP1",),
        "C1": ("MP1",),
        "MP1": ("A2",),
    }


def test_a_name_that_a_task_and_a_batch_have_unlocks_the_task_alone() -> None:
    graph = graph_of(cards_of("A1 in B9; B9 in A1; C1 in B9; MP1: C1 -> B9"))
    assert {node: graph.needs(node) for node in ("A1", "B9", "C1")} == {
        "A1": (),
        "B9": ("MP1",),
        "C1": (),
    }
