"""The graph of a plan: tasks and merge points, and what each of them needs. Pure, immutable.

An edge runs FROM a node TO what it needs; everything here holds to that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain

from gitwaves.errors import CycleError
from gitwaves.model import Cards, MergePoint, Task, natural
from gitwaves.record import Record

Numbers = tuple[int, ...]


class Graph(Record):
    """Ids and what they need.

    Nodes are numbered in natural order of their ids, so that the smaller number is the smaller
    id: the loops that have to be fast, here and in `plan`, run over numbers and sort nothing.
    """

    nodes: tuple[str, ...]  # in natural order: `nodes[number]` is the id
    needed: tuple[Numbers, ...]  # by number: the numbers of what a node needs, ascending

    @classmethod
    def of(cls, needs: Mapping[str, Collection[str]]) -> Graph:
        """The graph in which each key needs what it maps to; whatever is only needed is a node.

        >>> Graph.of({"ui": ["api"]}).nodes
        ('api', 'ui')
        """
        nodes = tuple(sorted({*needs, *chain.from_iterable(needs.values())}, key=natural))
        number = {node: n for n, node in enumerate(nodes)}
        edges = (sorted({number[need] for need in needs.get(node, ())}) for node in nodes)
        return cls(nodes, tuple(map(tuple, edges)))

    @classmethod
    def again(
        cls,
        nodes: tuple[str, ...],
        needed: tuple[Numbers, ...],
        dependent: tuple[Numbers, ...],
        in_order: Numbers,
    ) -> Graph:
        """The graph that had these `nodes`, `needed`, `dependent` and `in_order`."""
        graph = cls(nodes, needed)
        graph.__dict__.update(dependent=dependent, in_order=in_order)
        return graph

    def with_needs(self, needs: Mapping[str, Collection[str]]) -> Graph:
        """The graph of the same nodes, of which some need something else.

        >>> Graph.of({"ui": ["api"], "api": ["db"]}).with_needs({"ui": ["db"]}).dependents("db")
        ('api', 'ui')

        Raises:
            KeyError: there is no such node.
        """
        number, needed, dependent = self.number, list(self.needed), list(self.dependent)
        now: dict[int, set[int]] = {}  # what needs those of which that changes
        for node, those in needs.items():
            n = number[node]
            before, after = set(needed[n]), {number[need] for need in those}
            needed[n] = tuple(sorted(after))
            for need in before ^ after:
                others = now.setdefault(need, set(dependent[need]))
                (others.add if need in after else others.discard)(n)
        for need, others in now.items():
            dependent[need] = tuple(sorted(others))
        graph = Graph(self.nodes, tuple(needed))
        graph.__dict__["dependent"] = tuple(dependent)
        return graph

    @cached_property
    def number(self) -> Mapping[str, int]:
        """The number of each id."""
        return dict(zip(self.nodes, range(len(self.nodes)), strict=True))

    @cached_property
    def dependent(self) -> tuple[Numbers, ...]:
        """By number: the numbers of what needs a node, ascending."""
        back: list[list[int]] = [[] for _ in self.nodes]
        for n, needs in enumerate(self.needed):
            for need in needs:
                back[need].append(n)
        return tuple(map(tuple, back))

    def needs(self, node: str) -> tuple[str, ...]:
        """What `node` needs directly, in natural order.

        Raises:
            KeyError: there is no such node.
        """
        return tuple(self.nodes[n] for n in self.needed[self.number[node]])

    def dependents(self, node: str) -> tuple[str, ...]:
        """What needs `node` directly, in natural order.

        Raises:
            KeyError: there is no such node.
        """
        return tuple(self.nodes[n] for n in self.dependent[self.number[node]])

    def closure(self, nodes: Iterable[str]) -> frozenset[str]:
        """Everything that `nodes` need, however indirectly, without the nodes themselves.

        >>> sorted(Graph.of({"c": ["b"], "b": ["a"], "x": ["a"]}).closure(["c"]))
        ['a', 'b']

        Raises:
            KeyError: there is no such node.
        """
        start = {self.number[node] for node in nodes}
        seen = set(start)
        stack = list(start)
        while stack:
            fresh = [n for n in self.needed[stack.pop()] if n not in seen]
            seen.update(fresh)
            stack.extend(fresh)
        return frozenset(self.nodes[n] for n in seen - start)

    @cached_property
    def in_order(self) -> Numbers:
        """As many numbers as can be put in order: all of them, unless there is a cycle."""
        from heapq import heappop, heappush  # not needed where the order is kept

        missing = list(map(len, self.needed))
        ready = [n for n, count in enumerate(missing) if not count]  # ascending: a heap
        done: list[int] = []
        dependent = self.dependent
        while ready:
            n = heappop(ready)
            done.append(n)
            for other in dependent[n]:
                missing[other] -= 1
                if not missing[other]:
                    heappush(ready, other)
        return tuple(done)

    @property
    def sequence(self) -> Numbers:
        """`order()` in numbers.

        Raises:
            CycleError: carries the whole cycle, smallest id first.
        """
        if len(self.in_order) < len(self.nodes):
            raise CycleError(self.cycles()[0])
        return self.in_order

    def order(self) -> tuple[str, ...]:
        """All ids, each after what it needs; the smallest id first among those that could be next.

        >>> Graph.of({"ui": ["api"], "api": [], "docs": []}).order()
        ('api', 'docs', 'ui')

        Raises:
            CycleError: carries the whole cycle, smallest id first.
        """
        return tuple(self.nodes[n] for n in self.sequence)

    def waves(self) -> tuple[tuple[str, ...], ...]:
        """Groups the ids so that each wave needs only earlier waves, as early as it can be.

        Sorted by id, so the same cards always give the same waves.

        >>> Graph.of({"ui": ["api"], "api": [], "docs": []}).waves()
        (('api', 'docs'), ('ui',))

        Raises:
            CycleError: carries the whole cycle, smallest id first.
        """
        level = _heaviest(self.sequence, self.needed, [1] * len(self.nodes))
        waves: list[list[str]] = [[] for _ in range(max(level, default=-1) + 1)]
        for node, wave in zip(self.nodes, level, strict=True):
            waves[wave].append(node)
        return tuple(map(tuple, waves))

    def before(self, weight: Sequence[int | None]) -> list[int]:
        """By number: the longest path that ends just before a node.

        Nodes whose weight is None lie on no path.

        >>> Graph.of({"b": ["a"], "c": ["b"], "x": []}).before([1, 2, 3, 4])
        [0, 1, 3, 0]

        Raises:
            CycleError: carries the whole cycle, smallest id first.
        """
        return _heaviest(self.sequence, self.needed, weight)

    def behind(self, weight: Sequence[int | None]) -> list[int]:
        """By number: the longest path from the start of a node to the end; 0 where it is on none.

        >>> Graph.of({"b": ["a"], "c": ["b"], "x": []}).behind([1, 2, 3, 4])
        [6, 5, 3, 4]

        Raises:
            CycleError: carries the whole cycle, smallest id first.
        """
        after = _heaviest(self.sequence[::-1], self.dependent, weight)
        return [rest + (own or 0) for rest, own in zip(after, weight, strict=True)]

    def longest(self, weight: Sequence[int | None], behind: Sequence[int]) -> tuple[str, ...]:
        """The longest path, `behind` being `behind(weight)`; of equals, through the smaller id.

        It starts at a node that needs nothing (with a weight), and goes on while something needs
        the last one.

        >>> graph = Graph.of({"b": ["a"], "c": ["b"], "x": []})
        >>> graph.longest([1, 2, 3, 4], [6, 5, 3, 4])
        ('a', 'b', 'c')
        """
        longest = max(behind, default=0)
        first = (
            n
            for n, length in enumerate(behind)
            if length == longest
            and weight[n] is not None
            and all(weight[need] is None for need in self.needed[n])
        )
        path: list[int] = []
        step = next(first, None)
        while step is not None:
            path.append(step)
            rest = behind[step] - (weight[step] or 0)
            ahead = (n for n in self.dependent[step] if weight[n] is not None and behind[n] == rest)
            step = next(ahead, None)
        return tuple(self.nodes[n] for n in path)

    def cycle(self) -> tuple[str, ...] | None:
        """The first of `cycles()`, or None where there is none."""
        return next(iter(self.cycles()), None)

    def cycles(self) -> tuple[tuple[str, ...], ...]:
        """One cycle for every knot: a set of nodes that all wait for each other.

        The shortest one through the smallest id of the knot, along the needs, from that id back to
        it; so the same cards give the same cycles, whatever order they come in.

        >>> Graph.of({"b": ["c"], "c": ["a"], "a": ["b"], "x": ["a"], "y": ["y"]}).cycles()
        (('a', 'b', 'c', 'a'), ('y', 'y'))
        """
        found = sorted(self._shortest(min(knot), knot) for knot in self._knots())
        return tuple(tuple(self.nodes[n] for n in cycle) for cycle in found)

    def _knots(self) -> list[set[int]]:
        """The strongly connected sets that hold a cycle (Kosaraju's two sweeps)."""
        left = set(range(len(self.nodes))).difference(self.in_order)
        seen: set[int] = set()
        finished: list[int] = []
        stack = sorted(left)
        while stack:
            n = stack.pop()
            if n < 0:
                finished.append(~n)  # everything that it needs was finished before it
            elif n not in seen:
                seen.add(n)
                stack.append(~n)
                stack.extend([need for need in self.needed[n] if need in left])
        knots = []
        for start in reversed(finished):
            if start in left:
                knot = {start}
                stack = [start]
                while stack:
                    fresh = left.intersection(self.dependent[stack.pop()]) - knot
                    knot |= fresh
                    stack.extend(fresh)
                left -= knot
                if len(knot) > 1 or start in self.needed[start]:
                    knots.append(knot)
        return knots

    def _shortest(self, start: int, knot: set[int]) -> list[int]:
        """The shortest way along the needs from `start` back to it, through the smallest ids."""
        came_from: dict[int, int] = {}
        queue = [start]
        for n in queue:  # grows while it is walked
            for need in self.needed[n]:
                if need in knot and need not in came_from:
                    came_from[need] = n
                    queue.append(need)
        way = [start, came_from[start]]
        while way[-1] != start:
            way.append(came_from[way[-1]])
        return way[::-1]


def _heaviest(
    sequence: Numbers, edges: tuple[Numbers, ...], weight: Sequence[int | None]
) -> list[int]:
    """By number, the weight of the heaviest path that ends just before a node.

    `sequence` holds each node after all that it has `edges` to. (Plain loops: with 10,000 nodes
    they take half the time of `max` over a list for each.)
    """
    before = [0] * len(weight)
    through = [0] * len(weight)
    for n in sequence:
        own = weight[n]
        if own is not None:
            heaviest = 0
            for other in edges[n]:
                length = through[other]
                if length > heaviest:
                    heaviest = length
            before[n] = heaviest
            through[n] = heaviest + own
    return before


def graph_of(cards: Cards) -> Graph:
    """The graph of a plan: what tasks depend on, what merge points require and unlock.

    A merge point that unlocks a batch is needed by each task of it. Cancelled tasks are nodes like
    any other; ids that name nothing are left out, and are findings of `rules`.
    """
    graph: Graph | None = cards.memo.get("graph")
    if graph is None:
        graph = cards.memo["graph"] = _graph_of(cards)
    return graph


def _graph_of(cards: Cards) -> Graph:
    needs = needs_of(cards)
    specs: list[Task | MergePoint] = [*cards.tasks.values(), *cards.merge_points.values()]
    return Graph.of({spec.id: needs(spec) for spec in specs})


def needs_of(cards: Cards) -> Callable[[Task | MergePoint], list[str]]:
    """What tells the needs of a task or merge point of a plan, whichever card states them."""
    tasks: set[str] = {*cards.tasks}
    known = {*tasks, *cards.merge_points}
    unlocked: dict[str, list[str]] = {}  # what a task or batch waits for
    for point in cards.merge_points.values():
        for name in point.unlocks:
            unlocked.setdefault(name, []).append(point.id)

    def needs(spec: Task | MergePoint) -> list[str]:
        if isinstance(spec, MergePoint):
            return [need for need in spec.requires if need in known]
        own = [need for need in spec.depends_on if need in known]
        if unlocked:
            own += unlocked.get(spec.id, ())
            if spec.batch is not None and spec.batch not in tasks:  # else it names the task
                own += unlocked.get(spec.batch, ())
        return own

    return needs
