"""Records: classes of named values, as `dataclasses` makes them, without what it takes to define those.

A frozen dataclass takes most of a millisecond to define, because each of its methods is compiled anew,
and the module `dataclasses` some ten to import: together a third of what a command takes that a prompt
or a hook calls. Here all records share one set of ordinary methods, but for an `__init__` that is
compiled for a class of which many records are made: most that are imported are used a few times, or
not at all.
"""

from __future__ import annotations

from _collections import _tuplegetter  # type: ignore[import-not-found]  # what `collections` uses
from collections.abc import Callable, Mapping
from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, TypeVar, dataclass_transform
    from typing import NamedTuple as NamedTuple  # other modules have it from here

    T = TypeVar("T")
    R = TypeVar("R", bound="Record")

_NEEDED = object()  # in place of a default
_MANY = 30  # records of a class: to compile what makes them takes as long as to make these without
_made: dict[type, int] = {}  # of each class: how many, until it is compiled


if not TYPE_CHECKING:  # `typing` takes as long to import as git to start

    def dataclass_transform(**said: object) -> Callable[[type], type]:
        del said
        return lambda kind: kind

    class _Named(type):
        """What makes the classes below `NamedTuple`."""

        def __new__(cls, name: str, bases: tuple[type, ...], inside: dict[str, Any]) -> type:
            fields = tuple(inside.get("__annotations__", ()))
            blank = {field: inside.pop(field, _NEEDED) for field in fields}
            if any(isinstance(default, _Fresh) for default in blank.values()):
                raise TypeError(f"{name}: a named tuple has no default that is made anew")
            getters = {field: _tuplegetter(at, "") for at, field in enumerate(fields)}
            inside |= {"__slots__": (), "__match_args__": fields, "_blank": blank, **getters}
            return super().__new__(cls, name, bases, inside)

    class NamedTuple(tuple, metaclass=_Named):
        """A tuple whose values have names, as `typing` makes it; made as fast, and defined faster."""

        def __new__(cls, *values: Any, **named: Any) -> Any:
            if _seldom(cls) and (held := _bound(cls._blank, values, named)) is not None:
                return tuple.__new__(cls, held.values())
            defaults = {f: given for f, given in cls._blank.items() if given is not _NEEDED}
            takes = [f"{f}=defaults[{f!r}]" * (f in defaults) or f for f in cls._blank]
            made = "".join(f"{field}, " for field in cls._blank)
            text = f"lambda cls, {', '.join(takes)}: new(cls, ({made}))"
            inside = {"new": tuple.__new__, "defaults": defaults}
            cls.__new__ = staticmethod(eval(text, inside))  # of our own annotations alone
            return cls.__new__(cls, *values, **named)  # for all that follow

        def __repr__(self) -> str:
            shown = zip(self.__match_args__, self, strict=True)
            said = ", ".join(f"{name}={value!r}" for name, value in shown)
            return f"{type(self).__name__}({said})"


def _seldom(kind: type) -> bool:
    """Whether few of a class have been made."""
    made = _made[kind] = _made.get(kind, 0) + 1
    return made < _MANY


def _bound(
    blank: Mapping[str, Any], values: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any] | None:
    """The value of each field; None where what is given is not as it has to be.

    Args:
        blank: the default of each field, or `_NEEDED`.
    """
    if len(values) > len(blank):
        return None
    given = dict(zip(blank, values, strict=False))
    if not named.keys().isdisjoint(given) or not named.keys() <= blank.keys():
        return None
    held = {**blank, **given, **named}
    for name, value in held.items():
        if value is _NEEDED:
            return None
        if isinstance(value, _Fresh):
            held[name] = value.make()
    return held


class _Fresh:
    """A default that is made anew for each record."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def field(*, default_factory: Callable[[], T]) -> T:
    """The default of a field, made anew for each record."""
    made: Any = _Fresh(default_factory)
    return made  # type: ignore[no-any-return]  # what a class body says is what its instances hold


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Record:
    """A class of named values: its annotations, in the order in which they are written.

    What they are set to are defaults. Records of one class are equal where their values are; one that
    is frozen, as all are that do not say `frozen=False`, can be hashed, and varied with `replace`.

    >>> class Point(Record):
    ...     x: int
    ...     y: int = 0
    >>> Point(1), replace(Point(1), y=2), Point(1) == Point(x=1)
    (Point(x=1, y=0), Point(x=1, y=2), True)
    """

    __match_args__: ClassVar[tuple[str, ...]] = ()
    _blank: ClassVar[Mapping[str, Any]] = {}  # of each field: its default, `_Fresh` or `_NEEDED`
    _read: ClassVar[Callable[[Record], tuple[Any, ...]]]  # its class, then its values

    def __init_subclass__(cls, *, frozen: bool = True) -> None:
        blank = dict(cls._blank)
        for name, of in cls.__annotations__.items():
            if not str(of).startswith("ClassVar"):
                blank[name] = cls.__dict__.get(name, _NEEDED)
                if isinstance(blank[name], _Fresh):
                    delattr(cls, name)
                elif hasattr(type(blank[name]), "__get__"):
                    raise TypeError(f"{cls.__name__}: {name} cannot be a function by default")
        if hidden := (cls._blank.keys() & cls.__dict__.keys()) - cls.__annotations__.keys():
            raise TypeError(f"{cls.__name__}: {min(hidden)} is a field; say so of its default too")
        if not blank or not cls.__dict__.keys().isdisjoint({"__init__", "__post_init__"}):
            raise TypeError(f"{cls.__name__}: a record is made of its fields, and of nothing else")
        cls._blank = blank
        cls.__match_args__ = tuple(blank)  # type: ignore[misc]  # mypy takes it for final
        cls._read = attrgetter("__class__", *blank)
        cls.__init__ = Record.__init__  # type: ignore[method-assign]  # a base may have its own by now
        if not frozen:  # it is set as any object is, and what changes is no key
            for name in ("__setattr__", "__delattr__"):
                setattr(cls, name, getattr(object, name))
            cls.__hash__ = None  # type: ignore[assignment]  # as Python itself says it

    def __init__(self, *values: Any, **named: Any) -> None:
        kind = type(self)
        if _seldom(kind) and (held := _bound(kind._blank, values, named)) is not None:
            for name, value in held.items():
                object.__setattr__(self, name, value)
            return
        kind.__init__ = _compiled(kind)  # type: ignore[method-assign]  # for all that follow
        kind.__init__(self, *values, **named)  # which says what is wrong with them

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a {type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        kind = type(self)
        if type(other) is not kind:
            return NotImplemented
        return kind._read(self) == kind._read(other)

    def __hash__(self) -> int:
        return hash(type(self)._read(self))

    def __repr__(self) -> str:
        shown = zip(self.__match_args__, values_of(self), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown)})"


def _compiled(kind: type[Record]) -> Callable[..., None]:
    """The `__init__` of a class, as one would write it."""
    inside: dict[str, Any] = {"put": object.__setattr__}  # which a frozen record itself refuses
    takes, does = ["self"], ["pass"]
    for name, default in kind._blank.items():
        value, where = name, ""
        if default is _NEEDED:
            takes.append(name)
        else:
            takes.append(f"{name}=default_{name}")
            inside[f"default_{name}"] = default
        if isinstance(default, _Fresh):
            value = f"{name} if {name} is not default_{name} else default_{name}.make()"
        elif default is not _NEEDED:  # the class has it already
            where = f"if {name} is not default_{name}: "
        does.append(f"{where}put(self, {name!r}, {value})")
    text = f"def __init__({', '.join(takes)}):\n  " + "\n  ".join(does)
    exec(text, inside)  # of our own annotations alone, as `dataclasses` does
    made: Callable[..., None] = inside["__init__"]
    made.__qualname__ = f"{kind.__qualname__}.__init__"
    return made


def values_of(record: Record) -> tuple[Any, ...]:
    """The values of a record, in the order of its fields."""
    return type(record)._read(record)[1:]


def named_values_of(record: Record) -> dict[str, Any]:
    """The values of a record by the names of its fields, in their order.

    `vars` tells only those that are not as the class has them by default.
    """
    return dict(zip(record.__match_args__, values_of(record), strict=True))


def replace(record: R, **changes: Any) -> R:
    """A record like `record`, with other values for some of its fields.

    Raises:
        TypeError: it has no such field.
    """
    return type(record)(**{**named_values_of(record), **changes})
