"""Regular expressions that are compiled when they are first used.

A command imports some fifty and uses a few; compiling all of them takes as long as a small git process.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, AnyStr


def regex(source: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """What `re.compile` gives, but for when a mistake in it is found.

    >>> regex("[a-z]+").fullmatch("word")
    <re.Match object; span=(0, 4), match='word'>
    """
    lazy: Any = _Pattern(source, flags)
    return lazy  # type: ignore[no-any-return]  # it has all that a pattern has


class _Pattern:
    def __init__(self, source: str | bytes, flags: int) -> None:
        self._given: tuple[Any, int] = source, flags

    def __getattr__(self, name: str) -> Any:
        value = getattr(re.compile(*self._given), name)
        setattr(self, name, value)  # from now on it is found without us
        return value
