"""Work that is spread over processes: all of it, in order, and none of them outlives its parent."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from gitwaves import forks
from gitwaves.forks import spread


def big(n: int) -> str:
    return f"{n} " * 100


def all_big(numbers: Sequence[int]) -> list[str]:
    return [big(n) for n in numbers]


@pytest.fixture(autouse=True)
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(forks, "_LEAST", 10)


@pytest.mark.parametrize("count", [0, 1, 19, 20, 41, 1000])
def test_what_is_found_is_in_order(count: int) -> None:
    assert spread(all_big, range(count)) == [big(n) for n in range(count)]


def test_whoever_is_free_takes_what_is_left() -> None:
    here = os.getpid()

    def slow_here(numbers: Sequence[int]) -> list[int]:
        time.sleep(0.5 if os.getpid() == here else 0.02)
        return [os.getpid()] * len(numbers)

    done_by = spread(slow_here, range(320))
    assert 0 < done_by.count(here) < 100
    assert len(set(done_by)) == 4


def test_each_of_the_others_does_something_at_its_end(tmp_path: Path) -> None:
    def slowly(numbers: Sequence[int]) -> list[int]:
        time.sleep(0.02)
        return list(numbers)

    def at_end() -> None:
        (tmp_path / str(os.getpid())).touch()

    assert spread(slowly, range(100), at_end=at_end) == list(range(100))
    assert len(names := os.listdir(tmp_path)) == 3
    assert str(os.getpid()) not in names


def test_what_another_process_cannot_do_is_done_here() -> None:
    here = os.getpid()

    def only_here(numbers: Sequence[int]) -> list[int]:
        assert os.getpid() == here
        return list(numbers)

    assert spread(only_here, range(100)) == list(range(100))


def test_what_a_process_took_along_when_it_was_killed_is_done_here() -> None:
    here = os.getpid()

    def dies(numbers: Sequence[int]) -> list[int]:
        if os.getpid() != here and 40 in numbers:
            os.kill(os.getpid(), signal.SIGKILL)
        return list(numbers)

    assert spread(dies, range(100)) == list(range(100))


@pytest.mark.parametrize("forks_allowed", [0, 1, 2])
def test_where_no_more_processes_may_be_it_is_done_by_those_that_are(
    monkeypatch: pytest.MonkeyPatch, forks_allowed: int
) -> None:
    fork, begun = os.fork, []
    files = len(os.listdir("/dev/fd"))

    def few() -> int:
        begun.append(1)
        if len(begun) > forks_allowed:
            raise BlockingIOError
        return fork()

    monkeypatch.setattr(os, "fork", few)
    assert spread(all_big, range(100)) == [big(n) for n in range(100)]
    assert len(os.listdir("/dev/fd")) == files
    assert len(begun) == forks_allowed + 1
    assert not forks.apart(lambda: None)


def test_an_error_is_raised_as_if_there_were_one_process() -> None:
    with pytest.raises(ZeroDivisionError):
        spread(lambda numbers: [1 // (n - 50) for n in numbers], range(100))


def test_nothing_is_left_of_others_where_one_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()  # what other tests have left open is none of this one's
    here, files, fork = os.getpid(), len(os.listdir("/dev/fd")), os.fork
    begun: list[int] = []

    def noting() -> int:
        if process := fork():
            begun.append(process)
        return process

    monkeypatch.setattr(os, "fork", noting)

    def work(numbers: Sequence[int]) -> list[str]:
        if os.getpid() == here:
            raise ZeroDivisionError
        time.sleep(0.05)
        return ["y" * 200_000 for _ in numbers]  # more than a pipe holds

    with pytest.raises(ZeroDivisionError):
        spread(work, range(100))
    assert len(os.listdir("/dev/fd")) == files
    assert len(begun) == 3
    for process in begun:
        with pytest.raises(ChildProcessError):
            os.waitpid(process, os.WNOHANG)


ORPHANS = """\
import os, time
from gitwaves import forks
os.cpu_count = lambda: 4
forks._LEAST = 10
here = os.getpid()
def work(numbers):
    if os.getpid() == here:
        time.sleep(60)
    return ["x" * 100_000 for _ in numbers]
forks.spread(work, range(100))
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="children are found by /proc")
def test_no_process_waits_for_a_parent_that_was_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS])
    listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    end = time.monotonic() + 30
    while len(children := listed.read_text().split()) < 3:
        assert time.monotonic() < end
        time.sleep(0.01)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(Path(f"/proc/{child}/fd").exists() and fds(child) for child in children):
        assert time.monotonic() < end, "a child hangs"
        time.sleep(0.02)


def fds(pid: str) -> list[str]:
    """The open files of a process; none of one that has ended."""
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []
