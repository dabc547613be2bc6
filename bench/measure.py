"""Measuring whole processes: several ways side by side, in turns, as ratios within one run."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

GITWAVES = str(Path(sys.executable).with_name("gitwaves"))


@dataclass
class Way:
    """One way to do something: a command, and what is done before each time, unmeasured."""

    argv: Sequence[str]
    cwd: Path
    before: Callable[[], object] | None = None
    env: Mapping[str, str] | None = None
    codes: tuple[int, ...] = (0,)
    wall: list[float] = field(default_factory=list)  # seconds
    cpu: list[float] = field(default_factory=list)  # seconds, of it and all that it waited for
    memory: int = 0  # KiB at its peak: of the process itself

    def once(self) -> None:
        """Runs it one time and notes what that took."""
        if self.before is not None:
            self.before()
        start = time.perf_counter()
        process = subprocess.Popen(
            self.argv,
            cwd=self.cwd,
            env=dict(self.env) if self.env is not None else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        self.wall.append(time.perf_counter() - start)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        if code not in self.codes:
            raise SystemExit(f"{' '.join(self.argv)}: exit {code}: {said.decode(errors='replace')}")
        self.cpu.append(usage.ru_utime + usage.ru_stime)
        self.memory = max(self.memory, usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1))

    @property
    def milliseconds(self) -> float:
        """The median."""
        return statistics.median(self.wall) * 1e3


def in_turns(ways: Sequence[Way], rounds: int) -> None:
    """Runs each once unmeasured, then all of them in turns: what disturbs one disturbs all."""
    for way in ways:
        way.once()
        way.wall.clear()
        way.cpu.clear()
    for n in range(rounds):
        for way in ways[n % len(ways) :] + ways[: n % len(ways)]:  # type: ignore[operator]  # both are lists
            way.once()


def ratio(way: Way, base: Way) -> float:
    """How many times longer one takes than the other: the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(way.wall, base.wall, strict=True))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    milliseconds: float
    base: float
    ratio: float
    limit: float | None

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"{self.limit:.2f}"
        mark = " !" if self.missed else ""
        return (
            f"| {self.what:58} | {self.milliseconds:8.1f} | {self.base:8.1f} | {self.ratio:6.2f} "
            f"| {limit:>5} |{mark}"
        )

    @property
    def missed(self) -> bool:
        """Whether it is above its limit."""
        return self.limit is not None and self.ratio > self.limit


HEAD = (
    f"| {'':58} | {'ms':>8} | {'base ms':>8} | {'ratio':>6} | {'limit':>5} |\n"
    f"|{'-' * 60}|{'-' * 9}:|{'-' * 9}:|{'-' * 7}:|{'-' * 6}:|"
)


def row(what: str, way: Way, base: Way, limit: float | None) -> Row:
    """The line for one way, against another that was measured in the same turns."""
    return Row(what, way.milliseconds, base.milliseconds, ratio(way, base), limit)


def end(rows: Sequence[Row]) -> int:
    """Says which limits are missed; the exit code."""
    missed = [r for r in rows if r.missed]
    for r in missed:
        print(f"above its limit: {r.what.strip()}: {r.ratio:.2f} of at most {r.limit:.2f}")
    return 1 if missed else 0
