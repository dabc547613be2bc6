"""Records: classes of named values, as `dataclasses` makes them, without what it takes to define those.

A frozen dataclass takes most of a millisecond to define, because each of its methods is compiled anew,
and the module `dataclasses` some ten to import: together a third of what a command takes that a prompt
or a hook calls. Here all records share one set of ordinary methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar, dataclass_transform

T = TypeVar("T")
R = TypeVar("R", bound="Record")


class _Fresh(Generic[T]):
    """A default that is made anew for each record."""

    def __init__(self, make: Callable[[], T]) -> None:
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
    _defaults: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, *, frozen: bool = True) -> None:
        own = [n for n, of in cls.__annotations__.items() if not str(of).startswith("ClassVar")]
        cls.__match_args__ = tuple(dict.fromkeys((*cls.__match_args__, *own)))  # type: ignore[misc]  # mypy says it is final
        given = {name: cls.__dict__[name] for name in own if name in cls.__dict__}
        cls._defaults = {**cls._defaults, **given}
        for name, value in given.items():
            if isinstance(value, _Fresh):
                delattr(cls, name)
        if not frozen:  # it is set as any object is, and what changes is no key
            for name in ("__setattr__", "__delattr__"):
                setattr(cls, name, getattr(object, name))
            cls.__hash__ = None  # type: ignore[assignment]  # as Python itself says it

    def __init__(self, *values: Any, **named: Any) -> None:
        names = self.__match_args__
        if named or len(values) != len(names):
            values = self._complete(values, named)
        for name, value in zip(names, values, strict=True):
            _set(self, name, value)

    @classmethod
    def _complete(cls, values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """All values of a record: those given in order, those by name, and the defaults."""
        found = list(values)
        for name in cls.__match_args__[len(values) :]:
            if name in named:
                found.append(named.pop(name))
            elif name in cls._defaults:
                default = cls._defaults[name]
                found.append(default.make() if isinstance(default, _Fresh) else default)
            else:
                raise TypeError(f"{cls.__name__} needs a value for {name}")
        if named:
            raise TypeError(f"{cls.__name__} takes no {next(iter(named))}, or has it already")
        if len(found) > len(cls.__match_args__):
            raise TypeError(f"{cls.__name__} takes no more than {len(cls.__match_args__)} values")
        return tuple(found)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a {type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return values_of(self) == values_of(other)

    def __hash__(self) -> int:
        return hash(values_of(self))

    def __repr__(self) -> str:
        shown = zip(self.__match_args__, values_of(self), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown)})"


_set = object.__setattr__  # what a frozen record itself refuses


def values_of(record: Record) -> tuple[Any, ...]:
    """The values of a record, in the order of its fields."""
    return tuple([getattr(record, name) for name in record.__match_args__])


def replace(record: R, **changes: Any) -> R:
    """A record like `record`, with other values for some of its fields.

    Raises:
        TypeError: it has no such field.
    """
    kind = type(record)
    now = dict(zip(kind.__match_args__, values_of(record), strict=True))
    return kind(**{**now, **changes})
