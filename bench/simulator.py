"""What `plan --agents` foretells of the demo, and what `run` then really takes, side by side.

    python -m bench.simulator                        # 1, 2, 4 and 8 agents: about eight minutes
    python -m bench.simulator --agents 1,8 --hour 0.5

The demo's agents sleep `--hour` seconds for each hour of their task's estimate before they do it, so
that what is measured is the dispatcher and not how many processors there are. Each run is predicted
twice: before it, by the estimates and by what a task costs beside its sleep in the run with the
fewest agents (a worktree, an agent, its verification, a second attempt); and after it, by how long
its own tasks took. The first holds on a quiet machine. The second is the simulator alone: whether
what the machine is doing beside makes tasks slow or not, does it put them together as `run` does?
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from gitwaves import demo, demonstration
from gitwaves.cards import load_card
from gitwaves.git import Repo
from gitwaves.live import watch
from gitwaves.model import DEFAULT_ESTIMATE, Fact, Task, TaskId
from gitwaves.running import Ended, Runner
from gitwaves.simulation import Work, play
from gitwaves.store import Store


def main() -> int:
    """Measures, prints a table and, on the last line, JSON."""
    parser = argparse.ArgumentParser(description="Predicted and measured runs of the demo.")
    parser.add_argument("--agents", default="1,2,4,8", help="numbers of agents (%(default)s)")
    parser.add_argument("--hour", type=float, default=1.5, help="seconds slept for each hour")
    parser.add_argument("--agent", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.agent:
        return _agent(args.hour)
    counts = sorted({int(n) for n in args.agents.split(",")})
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--agent", "--hour"]
    demo.profile = lambda: {"command": [*command, str(args.hour)]}
    measured: dict[int, float] = {}
    afterwards: dict[int, float] = {}
    work = None
    for agents in counts:
        measured[agents], work, took = _measure(agents)
        afterwards[agents] = play(work.lasting(took), agents).seconds
        print(f"{agents} agents: {measured[agents]:.1f} s", flush=True)
    assert work is not None
    slept = {n: length * args.hour / 3600 for n, length in work.length.items()}
    beside = _beside(work, slept, counts[0], measured[counts[0]])
    rows = []
    for agents in counts:
        seconds = _played(work, slept, beside, agents)
        first = counts[0]
        rows.append(
            {
                "agents": agents,
                "predicted_seconds": round(seconds, 1),
                "afterwards_seconds": round(afterwards[agents], 1),
                "measured_seconds": round(measured[agents], 1),
                "off_by": round(seconds / measured[agents] - 1, 3),
                "afterwards_off_by": round(afterwards[agents] / measured[agents] - 1, 3),
                "predicted_speedup": round(_played(work, slept, beside, first) / seconds, 2),
                "measured_speedup": round(measured[first] / measured[agents], 2),
            }
        )
    print("\nagents  predicted  off by  by its own tasks  off by  measured  speed-up")
    for row in rows:
        print(
            f"{row['agents']:>6}{row['predicted_seconds']:>9} s{row['off_by']:>8.0%}"
            f"{row['afterwards_seconds']:>16} s{row['afterwards_off_by']:>8.0%}"
            f"{row['measured_seconds']:>8} s{row['measured_speedup']:>10}"
        )
    print(f"beside its sleep a task takes {beside:.2f} s; on {os.cpu_count()} processors")
    print(json.dumps({"rows": rows, "beside_seconds": beside, "python": platform.python_version()}))
    return 0


def _measure(agents: int) -> tuple[float, Work, dict[int, int]]:
    """One run of the demo: how long it took, in seconds, its work, and how long each task took."""
    took: list[float] = []
    before: list[Work] = []

    def timed(runner: Runner) -> Ended:
        before.append(Work.of(runner.store.progress()))
        start = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()):
            ended = watch(runner)
        took.append(time.monotonic() - start)
        return ended

    demonstration.watch = timed  # type: ignore[attr-defined]
    folder = Path(tempfile.mkdtemp(prefix="gitwaves-bench-"))
    try:
        ended, _ = demonstration.demonstrate(folder / "payments", agents)
        assert ended.complete, ended.said
        facts = Store(Repo.open(folder / "payments")).snapshot().facts
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    names = before[0].graph.nodes
    return took[0], before[0], {n: _length(facts[names[n]]) for n in before[0].tasks}


def _length(fact: Fact) -> int:
    """How long a done task took, from its claim to its verification, in seconds."""
    started, finished = fact.tracking.started, fact.tracking.finished
    assert started is not None
    assert finished is not None
    return (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).seconds


def _played(work: Work, slept: dict[int, float], beside: float, agents: int) -> float:
    """The work as played, in seconds; the simulator counts in whole units, here milliseconds."""
    lengths = {n: round((seconds + beside) * 1000) for n, seconds in slept.items()}
    return play(work.lasting(lengths), agents).seconds / 1000


def _beside(work: Work, slept: dict[int, float], agents: int, measured: float) -> float:
    """What a task takes beside its sleep, so that the run with the fewest agents comes out right."""
    low, high = 0.0, measured
    for _ in range(30):
        half = (low + high) / 2
        low, high = (half, high) if _played(work, slept, half, agents) < measured else (low, half)
    return low


def _agent(hour: float) -> int:
    """Sleeps as the estimate says, then plays the task as the demo does."""
    task = TaskId(os.environ["GITWAVES_TASK"])
    if os.environ.get("GITWAVES_ATTEMPT", "1") == "1":
        repo = Repo.open(Path.cwd())
        _, tip = Store(repo).trunk()
        path = f".workstreams/WS-{task[0]}/{task}.yaml"
        card = load_card(repo.read(tip, path) or b"", path).spec
        estimate = card.estimate if isinstance(card, Task) else None
        time.sleep((estimate or DEFAULT_ESTIMATE) * hour / 3600)
    command = [sys.executable, "-P", "-m", "gitwaves.demo.agent"]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
