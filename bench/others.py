"""`gitwaves next --json` beside what else names the next task: the same chain, half of it done.

    python -m bench.others                      # those that are on PATH
    python -m bench.others --tools FOLDER       # and in FOLDER: its node_modules/.bin, its bin

Nothing is installed here: what is not found is skipped, and it is said how to get it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure import GITWAVES, Table, Way, in_turns, median
from bench.repository import Made, Size, git, options, workplace

_SPEC = "".join(f"What is to be done: line {n} of its spec.\n" for n in range(8))


@dataclass(frozen=True)
class Other:
    """Another tool that says what is next."""

    name: str
    next: tuple[str, ...]  # the command that is measured
    shown: tuple[str, ...]  # the same where it prints what it found
    named: str  # how a task is named in that, as a pattern
    files: Callable[[int], Iterator[tuple[str, str]]]  # path and text, of a chain of so many
    package: str  # how to install it


def _backlog(tasks: int) -> Iterator[tuple[str, str]]:
    yield (
        "backlog/config.yml",
        (
            'project_name: "Bench"\ndefault_status: "To Do"\n'
            'statuses: ["To Do", "In Progress", "Done"]\nlabels: []\ndate_format: yyyy-mm-dd\n'
            "remote_operations: false\nauto_commit: false\ncheck_active_branches: true\n"
            'active_branch_days: 30\ntask_prefix: "task"\n'
        ),
    )
    for n in range(1, tasks + 1):
        status = "Done" if n <= tasks // 2 else "To Do"
        needs = f"\n  - TASK-{n - 1}" if n > 1 else " []"
        yield (
            f"backlog/tasks/task-{n} - Task-{n}.md",
            (
                f"---\nid: TASK-{n}\ntitle: Task {n}\nstatus: {status}\nassignee: []\n"
                f"created_date: '2026-01-01 00:00'\nlabels: []\ndependencies:{needs}\n"
                f"ordinal: {n * 1000}\n---\n\n## Description\n\n"
                f"<!-- SECTION:DESCRIPTION:BEGIN -->\n{_SPEC}<!-- SECTION:DESCRIPTION:END -->\n"
            ),
        )


def _task_master(tasks: int) -> Iterator[tuple[str, str]]:
    listed = [
        {
            "id": n,
            "title": f"Task {n}",
            "description": _SPEC,
            "status": "done" if n <= tasks // 2 else "pending",
            "dependencies": [n - 1] if n > 1 else [],
            "priority": "medium",
            "details": "",
            "testStrategy": "",
            "subtasks": [],
        }
        for n in range(1, tasks + 1)
    ]
    when = "2026-01-01T00:00:00.000Z"
    about = {"created": when, "updated": when, "description": "Bench"}
    master = {"tasks": listed, "metadata": about}
    yield ".taskmaster/tasks/tasks.json", json.dumps({"master": master}, indent=2)


def _lanegate(tasks: int) -> Iterator[tuple[str, str]]:
    yield (
        ".lanegate.yml",
        (
            "ticket_prefix: TICK\ntickets_dir: .lanegate/tickets\nworktrees_dir: .lanegate/worktrees\n"
            "executor: claude\nmax_parallel: 2\n"
        ),
    )
    for n in range(1, tasks + 1):
        status = "done" if n <= tasks // 2 else "open"
        needs = f"[TICK-{n - 1:03}]" if n > 1 else "[]"
        yield (
            f".lanegate/tickets/TICK-{n:03}.md",
            (
                f"---\nid: TICK-{n:03}\ntitle: Task {n}\nstatus: {status}\n"
                f"touches: [src/{n}.txt]\nparallel_safe: true\nautonomy: supervised\n"
                f"depends_on: {needs}\nclose_criteria: [It holds.]\n---\n## Background\n{_SPEC}"
            ),
        )


_BACKLOG = ("task", "list", "--ready", "--json")
OTHERS = (
    Other("backlog", _BACKLOG, _BACKLOG, r'"id": "TASK-(\d+)"', _backlog, "npm install backlog.md"),
    Other(
        "task-master",
        ("next", "--format", "json", "--silent"),
        ("next", "--format", "json"),  # with --silent it prints nothing
        r'"id": "(\d+)"',
        _task_master,
        "npm install task-master-ai",
    ),
    Other("lanegate", ("next",), ("next",), r"Next: TICK-(\d+)", _lanegate, "pip install lanegate"),
)


def found(other: Other, tools: Path | None) -> str | None:
    """Where a tool is; None where it is not."""
    folders = [str(tools / name) for name in ("node_modules/.bin", "bin", ".")] if tools else []
    return shutil.which(other.name, path=os.pathsep.join([*folders, os.environ["PATH"]]))


def named(argv: list[str], cwd: Path, pattern: str) -> list[int]:
    """The numbers of the tasks that a command names.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr}")
    return sorted(int(number) for number in re.findall(pattern, done.stdout))


def chain(other: Other, top: Path, tasks: int) -> Path:
    """A repository with the chain as another tool keeps it, committed."""
    path = top / other.name
    for name, text in other.files(tasks):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    git(path, "init", "-q", "-b", "main")
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "The chain")
    return path


def main() -> int:
    """Measures, prints a table, and gives 1 where a ratio is beyond its limit."""
    parser = options("`next` beside other tools that say what is next.", 3)
    parser.add_argument("--tasks", type=int, default=1_000, help="in the chain (%(default)s)")
    parser.add_argument("--tools", type=Path, help="a folder in which others are installed")
    args = parser.parse_args()
    tools = {other: found(other, args.tools) for other in OTHERS}
    with workplace() as top:
        os.environ["TASKMASTER_SKIP_AUTO_UPDATE"] = "1"  # nothing is to wait for a network
        size = Size(cards=args.tasks, branches=1, files=1)
        ours = Made.make(top / "gitwaves", size, done=0.5, begun=False).path
        argv = [GITWAVES, "next", "--json"]
        same = named(argv, ours, r'"id": "S0T(\d+)"')
        way = Way(argv, ours)
        ways = {}
        for other, path in tools.items():
            if path is not None:
                cwd = chain(other, top, args.tasks)
                if (theirs := named([path, *other.shown], cwd, other.named)) != same:
                    raise SystemExit(f"{other.name} names {theirs}, gitwaves {same}")
                ways[other] = Way([path, *other.next], cwd)
        in_turns([way, *ways.values()], args.rounds)
    table = Table(f"Next: a chain of {args.tasks:,}, half done; the base is `gitwaves next --json`")
    fastest = min(ways, key=lambda other: median(ways[other]), default=None)
    for other, its in ways.items():
        least = 20 if other is fastest else None
        table.add(f"{other.name} {' '.join(other.next)}", its, way, least=least)
    tasks = ", ".join(map(str, same))
    print(f"\nnamed as next, by all of them: {tasks}; by gitwaves in {median(way) * 1e3:.0f} ms")
    for other, path in tools.items():
        if path is None:
            print(f"skipped, because it is not here: {other.name} (`{other.package}`)")
    return table.end()


if __name__ == "__main__":
    sys.exit(main())
