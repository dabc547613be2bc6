"""Work on many things at once in processes of our own: for what is worth more than starting them."""

from __future__ import annotations

import marshal
import os
from collections.abc import Callable, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")
    R = TypeVar("R")

_LEAST = 400  # things for each process: some tens of milliseconds
_MOST = 4  # processes


def spread(work: Callable[[Sequence[T]], list[R]], things: Sequence[T]) -> list[R]:
    """The plain values that `work` makes of things, one of each, in their order.

    `work` is given a part of them in each process, and uses nothing that two processes would share:
    no pipe, no file. What a process of ours does not bring home is done here.
    """
    import threading  # slow to import, and needed for a plan that was never read alone

    count = min(_MOST, os.cpu_count() or 1, len(things) // _LEAST)
    # another thread might hold a lock that nobody releases in a copy of this process
    if count < 2 or not hasattr(os, "fork") or threading.active_count() > 1:
        return work(things)
    parts = [things[k::count] for k in range(count)]
    begun: list[tuple[int, int]] = []
    for part in parts[1:]:
        begun.append(_begin(work, part, [out for _, out in begun]))
    found = [work(parts[0])]
    for held, part in zip(begun, parts[1:], strict=True):
        brought: list[R] | None = _end(*held)
        found.append(work(part) if brought is None else brought)
    return [found[n % count][n // count] for n in range(len(things))]


def _begin(
    work: Callable[[Sequence[T]], list[R]], things: Sequence[T], others: Sequence[int]
) -> tuple[int, int]:
    """Starts a process; its id, and where to read what it found; `others` are where others' is read."""
    out, into = os.pipe()
    process = os.fork()
    if process:
        os.close(into)
        return process, out
    code = 1
    try:
        for end in (out, *others):
            os.close(end)  # else it would wait for ever for a reader that was killed
        with open(into, "wb") as file:
            file.write(marshal.dumps(work(things)))
        code = 0
    finally:
        os._exit(code)


def _end(process: int, out: int) -> list[Any] | None:
    """What a process found; None where it came to nothing."""
    with open(out, "rb") as file:
        data = file.read()
    try:
        if os.waitpid(process, 0)[1]:
            return None
    except ChildProcessError:  # whoever called us reaps all children
        return None
    found: list[Any] = marshal.loads(data)
    return found


def apart(work: Callable[[], object]) -> bool:
    """Does work in a process of its own, which takes its memory along; whether it came to its end."""
    import threading

    if not hasattr(os, "fork") or threading.active_count() > 1:
        return False
    process = os.fork()
    if process:
        try:
            return os.waitpid(process, 0)[1] == 0
        except ChildProcessError:  # whoever called us reaps all children
            return False
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)
