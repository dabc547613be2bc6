"""Records behave as frozen dataclasses do, and are quick to define."""

from __future__ import annotations

import copy
import typing
from collections.abc import Callable

import pytest

from gitwaves import record
from gitwaves.record import NamedTuple, Record, field, named_values_of, replace, values_of


class Point(Record):
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


class Space(Point):
    z: int = 0


class Other(Record):
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


class Changing(Record, frozen=False):
    x: int = 0


def test_values_are_given_in_order_by_name_or_by_default() -> None:
    assert values_of(Point(1, 2, ["a"])) == (1, 2, ["a"])
    assert values_of(Point(1, tags=["a"])) == values_of(Point(tags=["a"], x=1)) == (1, 0, ["a"])
    assert values_of(Space(1, 2, ["a"], 3)) == (1, 2, ["a"], 3)
    assert repr(Space(1)) == "Space(x=1, y=0, tags=[], z=0)"


@pytest.mark.parametrize("many", [0, 3, 1000])
def test_the_first_records_of_a_class_are_as_the_many_after_them(
    monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(record, "_MANY", many)

    class Spot(Record):
        x: int
        y: int = 0
        tags: list[str] = field(default_factory=list)

    class Triple(NamedTuple):
        x: int
        y: int = 0
        z: tuple[str, ...] = ()

    empty: list[str] = []
    for _ in range(6):
        for kind in (Spot, Triple):
            with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
                kind()  # type: ignore[call-arg]  # what is refused
        assert values_of(Spot(1, 2, ["a"])) == (1, 2, ["a"])
        assert values_of(Spot(1, tags=["a"])) == values_of(Spot(tags=["a"], x=1)) == (1, 0, ["a"])
        assert Spot(1, tags=empty).tags is empty
        assert Spot(1).tags is not Spot(1).tags
        assert Triple(1, z=("a",)) == Triple(z=("a",), x=1) == (1, 0, ("a",))
        assert repr(Triple(1)) == "Triple(x=1, y=0, z=())"
        with pytest.raises(TypeError, match="multiple values for argument 'x'"):
            Triple(1, x=2)  # type: ignore[misc]  # as above
        with pytest.raises(TypeError, match="unexpected keyword argument 'w'"):
            Spot(1, w=2)  # type: ignore[call-arg]  # as above


def test_a_fresh_default_is_shared_by_nobody() -> None:
    one, other = Point(1), Point(1)
    one.tags.append("a")
    assert (one.tags, other.tags, Point(1).tags) == (["a"], [], [])
    assert not hasattr(Point, "tags")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Point(),  # type: ignore[call-arg]  # a value is missing
        lambda: Point(1, 2, [], 4),  # type: ignore[call-arg]  # one too many
        lambda: Point(1, x=2),  # type: ignore[misc]  # given twice
        lambda: Point(1, w=2),  # type: ignore[call-arg]  # no such field
        lambda: replace(Point(1), w=2),
    ],
)
def test_values_that_do_not_fit_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        wrong()


def test_records_are_equal_where_class_and_values_are() -> None:
    assert Point(1) == Point(1, 0, [])
    assert Point(1) != Point(2)
    assert Point(1) != Other(1)
    assert Point(1) != Space(1)
    assert copy.deepcopy(Point(1, 2, ["a"])) == Point(1, 2, ["a"])
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_what_is_frozen_is_a_key_and_cannot_be_changed() -> None:
    point = Point(1, 2, [])
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 3  # type: ignore[misc]  # what is refused
    with pytest.raises(AttributeError, match="frozen"):
        del point.x
    assert replace(point, x=3) == Point(3, 2, [])
    assert point == Point(1, 2, [])
    frozen = replace(point, tags=())
    assert hash(frozen) == hash(replace(frozen))


def test_what_says_so_can_be_changed_and_is_no_key() -> None:
    changing = Changing()
    changing.x = 1
    assert changing == Changing(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(changing)


def test_a_record_has_fields_and_no_init_of_its_own() -> None:
    with pytest.raises(TypeError, match="made of its fields"):

        class Empty(Record):
            pass

    with pytest.raises(TypeError, match="made of its fields"):

        class Own(Record):
            x: int

            def __init__(self) -> None:
                pass


class Pair(NamedTuple):
    """Two things."""

    one: str
    other: int = 7

    @property
    def both(self) -> str:
        return f"{self.one}{self.other}"


class TypingsPair(typing.NamedTuple):
    one: str
    other: int = 7


def test_a_named_tuple_is_what_typing_makes() -> None:
    for kind in (Pair, TypingsPair):
        first, second = kind("a"), kind(other=2, one="b")
        assert (first, second) == (("a", 7), ("b", 2))
        assert (first.one, first.other, second[1]) == ("a", 7, 2)
        one, other = second
        assert (one, other) == ("b", 2)
        assert repr(second) == f"{kind.__name__}(one='b', other=2)"
        assert hash(first) == hash(("a", 7))
        assert not hasattr(first, "__dict__")
        assert sorted([second, first]) == [first, second]
        with pytest.raises(AttributeError):
            first.one = "c"  # type: ignore[misc]  # nobody may
        with pytest.raises(TypeError):
            kind()  # type: ignore[call-arg]  # one value has no default
        with pytest.raises(TypeError):
            kind("a", 1, 2)  # type: ignore[call-arg]  # there are two values
        match second:
            case kind(one=found):
                assert found == "b"
    assert Pair("a").both == "a7"
    assert Pair.__doc__ == "Two things."


def test_what_is_told_by_name_is_all_of_it() -> None:
    """Also of a class of which many were made: what is as the class has it is not set again."""
    for _ in range(100):
        said = named_values_of(Space(1))
        assert list(said.items()) == [("x", 1), ("y", 0), ("tags", []), ("z", 0)]
        assert replace(Space(1), y=2) == Space(1, 2)
        assert hash(Others()) == hash(Others(()))


def test_a_default_is_what_it_is_on_the_class() -> None:
    with pytest.raises(TypeError, match="cannot be a function"):

        class Calls(Record):
            how: Callable[[], int] = lambda: 1

    with pytest.raises(TypeError, match="y is a field"):

        class Hides(Point):
            y = 5


class Others(Record):
    names: tuple[str, ...] = ()
