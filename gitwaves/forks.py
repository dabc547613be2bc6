"""Work on many things at once in processes of our own: for what is worth more than starting them."""

from __future__ import annotations

import contextlib
import marshal
import os
from collections.abc import Callable, Iterator, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")
    R = TypeVar("R")

_LEAST = 400  # things for each process: some tens of milliseconds
_MOST = 4  # processes
_PARTS = 32  # that things are cut into: whichever process is free takes the next one


def spread(
    work: Callable[[Sequence[T]], list[R]],
    things: Sequence[T],
    *,
    least: int | None = None,
    at_end: Callable[[], object] = lambda: None,
) -> list[R]:
    """The plain values that `work` makes of things, one of each, in their order.

    `work` is given some of them at a time, in each process, and uses nothing that two processes would
    share: no pipe, no file. What a process of ours does not bring home is done here.

    Args:
        least: how many things are worth a process.
        at_end: what each of the other processes does before it ends: to keep what it learned, say.
    """
    count = min(_MOST, os.cpu_count() or 1, len(things) // (least or _LEAST))
    if count < 2 or not _may_fork():
        return work(things)
    size = -(-len(things) // _PARTS)
    parts = [things[start : start + size] for start in range(0, len(things), size)]
    left, numbers = os.pipe()  # of the parts that nobody has taken; so few bytes fit in any pipe
    os.write(numbers, bytes(range(len(parts))))
    os.close(numbers)
    begun: list[tuple[int, int]] = []
    for _ in range(count - 1):
        try:
            begun.append(_begin(work, parts, left, [out for _, out in begun], at_end))
        except OSError:  # there may be no more processes, or files
            break
    try:
        found = _taken(work, parts, left)
    except BaseException:
        os.read(left, _PARTS)  # nothing is left to do for the others either
        for process, out in begun:
            os.close(out)
            with contextlib.suppress(ProcessLookupError, ChildProcessError):  # others may reap all
                os.kill(process, 9)
                os.waitpid(process, 0)
        raise
    finally:
        os.close(left)
    for held in begun:
        found |= _end(*held)
    return [
        made for n, part in enumerate(parts) for made in (found[n] if n in found else work(part))
    ]


def _may_fork() -> bool:
    """Whether there is no other thread, which might hold a lock that nobody releases in a copy of us."""
    import threading  # slow to import, and needed where there is much to do alone

    return hasattr(os, "fork") and threading.active_count() == 1


def _taken(
    work: Callable[[Sequence[T]], list[R]], parts: Sequence[Sequence[T]], left: int
) -> dict[int, list[R]]:
    """Takes one part after the other, until none is left: what was made of each, by its number."""
    found = {}
    while number := os.read(left, 1):
        found[number[0]] = work(parts[number[0]])
    return found


def _begin(
    work: Callable[[Sequence[T]], list[R]],
    parts: Sequence[Sequence[T]],
    left: int,
    others: Sequence[int],
    at_end: Callable[[], object],
) -> tuple[int, int]:
    """Starts a process; its id, and where to read what it found; `others` are where others' is read."""
    out, into = os.pipe()
    try:
        process = os.fork()
    except OSError:
        os.close(out)
        os.close(into)
        raise
    if process:
        os.close(into)
        return process, out
    code = 1
    try:
        for end in (out, *others):
            os.close(end)  # else it would wait for ever for a reader that was killed
        with open(into, "wb") as file:
            file.write(marshal.dumps(_taken(work, parts, left)))
        at_end()
        code = 0
    finally:
        os._exit(code)


def _end(process: int, out: int) -> dict[int, list[Any]]:
    """What a process found; nothing where it did not come to its end."""
    with open(out, "rb") as file:
        data = file.read()
    try:
        if os.waitpid(process, 0)[1]:
            return {}
    except ChildProcessError:  # whoever called us reaps all children
        return {}
    found: dict[int, list[Any]] = marshal.loads(data)
    return found


def apart(work: Callable[[], object]) -> bool:
    """Does work in a process of its own, which takes its memory along; whether it came to its end."""
    with beside(work) as ended:
        return ended()


@contextlib.contextmanager
def beside(work: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Does work in a process of its own while we go on, and waits for it at the end.

    Gives what waits for it before, and tells whether it came to its end. What it finds it has to keep.
    """
    process = 0
    if _may_fork():
        with contextlib.suppress(OSError):  # there may be no more processes
            process = os.fork() or _worked(work)
    codes: list[int] = []

    def ended() -> bool:
        if process and not codes:
            try:
                codes.append(os.waitpid(process, 0)[1])
            except ChildProcessError:  # whoever called us reaps all children
                codes.append(1)
        return codes == [0]

    try:
        yield ended
    finally:
        ended()


def _worked(work: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)
