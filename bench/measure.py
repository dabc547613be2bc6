"""Measuring whole processes: several ways side by side, in turns, as ratios within one run."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

GITWAVES = str(Path(sys.executable).with_name("gitwaves"))


# Runs a command, and prints the most memory that it took.
_WEIGH = """
import os, sys
nowhere = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=nowhere)
print(os.wait4(process, 0)[2].ru_maxrss)
"""


@dataclass
class Way:
    """One way to do something: a command, and what is done before each time, unmeasured."""

    argv: Sequence[str]
    cwd: Path
    before: Callable[[], object] | None = None
    took: list[float] = field(default_factory=list)  # seconds, each time

    def once(self) -> None:
        """Runs it one time and notes what that took."""
        if self.before is not None:
            self.before()
        start = time.perf_counter()
        process = subprocess.Popen(
            self.argv,
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        said = process.stderr.read()
        _, status = os.waitpid(process.pid, 0)
        self.took.append(time.perf_counter() - start)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        if code:
            raise SystemExit(f"{' '.join(self.argv)}: exit {code}: {said.decode(errors='replace')}")

    def memory(self) -> float:
        """The most memory, in MiB, that one process of it takes; runs it one time more.

        A small process starts it: one that a large process starts is counted as at least as large.
        """
        if self.before is not None:
            self.before()
        starter = [sys.executable, "-I", "-S", "-c", _WEIGH, *self.argv]
        done = subprocess.run(starter, cwd=self.cwd, capture_output=True, check=True)
        return int(done.stdout) / (1 << 20 if sys.platform == "darwin" else 1 << 10)


@dataclass
class Call:
    """Something that is called inside this process; what counts is its CPU time."""

    what: Callable[[], object]
    took: list[float] = field(default_factory=list)  # seconds, each time

    def once(self) -> None:
        """Calls it one time and notes what that took."""
        gc.collect()
        start = time.process_time()
        self.what()
        self.took.append(time.process_time() - start)


Measured: TypeAlias = Way | Call


def in_turns(ways: Sequence[Measured], rounds: int) -> None:
    """Runs each once unmeasured, then all of them in turns: what disturbs one disturbs all."""
    for way in ways:
        way.once()
        way.took.clear()
    for n in range(rounds):
        for way in [*ways[n % len(ways) :], *ways[: n % len(ways)]]:
            way.once()


def median(way: Measured) -> float:
    """How long it takes, in seconds."""
    return statistics.median(way.took)


def ratio(way: Measured, base: Measured) -> float:
    """How many times longer one takes than the other: the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(way.took, base.took, strict=True))


def in_pairs(pairs: Sequence[tuple[Way, Way]]) -> None:
    """Runs each once, the two of a pair right after each other: for what cannot be done again."""
    for n, (one, other) in enumerate(pairs):
        for way in (other, one) if n % 2 else (one, other):
            way.once()


@dataclass(frozen=True)
class Row:
    """One line of a table: how long something took, and how many times longer than its base."""

    what: str
    seconds: float
    base: float  # seconds
    ratio: float
    most: float | None = None  # what the ratio may be, or
    least: float | None = None  # what it is to be

    def __str__(self) -> str:
        numbers = f"{self.seconds * 1e3:9,.1f} | {self.base * 1e3:9,.1f} | {self.ratio:6.2f}"
        return f"| {self.what:58} | {numbers} | {self.limit:>5} |{' !' if self.missed else ''}"

    @property
    def limit(self) -> str:
        """The limit as the table says it."""
        if self.least is not None:
            return f">= {self.least:g}"
        return "" if self.most is None else f"{self.most:g}"

    @property
    def missed(self) -> bool:
        """Whether it is beyond its limit."""
        above = self.most is not None and self.ratio > self.most
        return above or (self.least is not None and self.ratio < self.least)


class Table:
    """A table of ratios, printed line by line as they are measured."""

    def __init__(self, title: str) -> None:
        self._rows: list[Row] = []
        print(f"{title}\n\n| {'':58} | {'ms':>9} | {'base ms':>9} | {'ratio':>6} | {'limit':>5} |")
        print(f"|{'-' * 60}|{'-' * 10}:|{'-' * 10}:|{'-' * 7}:|{'-' * 6}:|", flush=True)

    def add(
        self,
        what: str,
        way: Measured,
        base: Measured,
        most: float | None = None,
        *,
        least: float | None = None,
    ) -> None:
        """Adds one way against another that was measured in the same turns: medians."""
        self._put(Row(what, median(way), median(base), ratio(way, base), most, least))

    def add_sum(self, what: str, pairs: Sequence[tuple[Way, Way]], most: float) -> None:
        """Adds what all of the first ways took together, against all of the others."""
        ours, bare = (sum(way.took[-1] for way in side) for side in zip(*pairs, strict=True))
        self._put(Row(what, ours, bare, ours / bare, most))

    def _put(self, row: Row) -> None:
        self._rows.append(row)
        print(row, flush=True)

    def end(self) -> int:
        """Says which limits are missed; the exit code, 1 if there is one."""
        print()
        missed = [row for row in self._rows if row.missed]
        for row in missed:
            print(f"beyond its limit: {row.what}: {row.ratio:.2f}, limit {row.limit}")
        return 1 if missed else 0
