"""The demo's document and scripts, without the rest of gitwaves: every tree is made by hand.

A task's worktree holds what the task needs and, perhaps, more of what is done by then. So its steps
run on the least that it needs, and the tests of all services on everything up to each batch.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from gitwaves import demo
from gitwaves.demo import agent

FAILS_FIRST = ["A3", "C4", "E2", "F2", "F4", "G4"]
PACKAGE = Path(demo.__file__).parents[2]


@dataclass(frozen=True)
class Doc:
    boundary: Mapping[str, str]  # of each workstream
    needs: Mapping[str, tuple[str, ...]]  # of tasks and merge points
    batch: Mapping[str, int]
    verify: Mapping[str, str]
    produces: Mapping[str, str]
    listed: Mapping[int, list[str]]  # the section `## Batches`
    unlocks: Mapping[str, str]

    def closure(self, *nodes: str) -> list[str]:
        """The tasks among what `nodes` need and themselves, in an order that could be theirs."""
        found: dict[str, tuple[str, ...]] = {}
        stack = list(nodes)
        while stack:
            node = stack.pop()
            if node not in found:
                found[node] = self.needs[node]
                stack.extend(self.needs[node])
        return [node for node in TopologicalSorter(found).static_order() if node in self.batch]


def parsed(text: str) -> Doc:
    boundary = dict(re.findall(r"^## WS-([A-Z]): .+\nPaths: `(.+)`\n", text, re.M))
    needs, batch, verify, produces = {}, {}, {}, {}
    for section in re.split(r"^### ", text, flags=re.M)[1:]:
        task = section.partition(":")[0]
        body = section.partition("\n## ")[0]
        assert "\nAcceptance:\n- " in body, task
        said = dict(re.findall(r"^(Depends on|Batch|Estimate|Verify|Produces): (.+)$", body, re.M))
        assert re.fullmatch(r"\d+h", said["Estimate"]), task
        needs[task] = () if said["Depends on"] == "none" else tuple(said["Depends on"].split(", "))
        batch[task] = int(said["Batch"])
        verify[task] = said["Verify"].strip("`")
        if "Produces" in said:
            produces[task] = said["Produces"].strip("`")
    listed = {
        int(number): re.findall(r"[A-Z]\d+", re.sub(r"\(.*\)", "", names))
        for number, names in re.findall(r"^- Batch (\d+): (.+)$", text, re.M)
    }
    unlocks = {}
    form = r"^- (MP\d+): (.+) -> unlocks (.+)$(?:\n  Verify: `(.+)`)?"
    for point, required, opened, steps in re.findall(form, text, re.M):
        needs[point] = tuple(required.split(" + "))
        unlocks[point] = opened
        if steps:
            verify[point] = steps
        whole = re.fullmatch(r"Batch (\d+)", opened)
        for task in listed[int(whole[1])] if whole else opened.split(", "):
            needs[task] = (*needs[task], point)
    return Doc(boundary, needs, batch, verify, produces, listed, unlocks)


@cache
def doc() -> Doc:
    return parsed(demo.design_text())


TASKS = sorted(doc().batch)


def tree(tasks: Collection[str], first: str = "") -> dict[str, str]:
    """What `tasks`, done in this order, leave; `first` got no further than its first attempt."""
    files: dict[str, str] = {}
    for task in tasks:
        files |= agent.files_of(task, 1 if task == first else 2)
    return files


def passes(command: str, files: Mapping[str, str], where: Path, produces: str | None) -> bool:
    """Whether a step passes on these files, and leaves none of its own behind."""
    for path, text in files.items():
        (where / path).parent.mkdir(parents=True, exist_ok=True)
        (where / path).write_text(text, encoding="utf-8")
    ran = subprocess.run(
        command, shell=True, cwd=where, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert ran.returncode in (0, 1), ran.stderr  # 1: a test failed; else something else is wrong
    left = {f"{path.relative_to(where)}" for path in where.rglob("*") if path.is_file()}
    assert left == set(files)
    if ran.returncode:
        sys.stdout.write(ran.stderr)
    return ran.returncode == 0 and (produces is None or produces in files)


# --- the document ---


def test_there_is_as_much_as_the_demo_promises() -> None:
    assert len(doc().boundary) == 8
    assert 36 <= len(TASKS) <= 44
    assert sorted(set(doc().batch.values())) == list(range(1, 10))
    assert sorted(doc().unlocks) == ["MP1", "MP2", "MP3", "MP4"]


def test_ids_are_consistent() -> None:
    for name in doc().boundary:
        own = [task for task in TASKS if task[0] == name]
        assert own == [f"{name}{k}" for k in range(1, len(own) + 1)]
    assert {task[0] for task in TASKS} == set(doc().boundary)
    assert sorted(path.stem for path in (PACKAGE / "gitwaves/demo/work").iterdir()) == TASKS
    assert all(need in doc().needs for needs in doc().needs.values() for need in needs)


def test_the_list_of_batches_agrees_with_the_tasks() -> None:
    assert {task: k for k, tasks in doc().listed.items() for task in tasks} == doc().batch


def test_needs_lie_in_the_same_or_an_earlier_batch() -> None:
    TopologicalSorter(doc().needs).prepare()  # no cycle
    for task in TASKS:
        for need in doc().needs[task]:
            if need in doc().unlocks:
                assert all(doc().batch[task] > doc().batch[t] for t in doc().needs[need]), task
            else:
                assert doc().batch[need] <= doc().batch[task]
        if (number := int(task[1:])) > 1:  # a workstream is a chain: its worktree holds no more
            assert f"{task[0]}{number - 1}" in doc().needs[task]


def test_the_last_batch_waits_for_the_one_before_and_a_merge_point() -> None:
    assert doc().unlocks["MP4"] == "Batch 9"
    assert {doc().batch[task] for task in doc().needs["MP4"]} == {8}
    two_waves = {doc().batch[a] for a in TASKS for b in doc().needs[a] if b in doc().batch}
    assert len({k for k in two_waves if _waves(k) > 1}) >= 3
    assert len(doc().listed[1]) == 8


def _waves(batch: int) -> int:
    depth: dict[str, int] = {}
    inside = doc().listed[batch]
    for node in TopologicalSorter(doc().needs).static_order():
        below = max([depth[need] for need in doc().needs[node]], default=0)
        depth[node] = below + (node in inside)
    return max(depth[task] for task in inside)


def test_boundaries_do_not_overlap_and_hold() -> None:
    tops = {name: paths.removesuffix("/**") for name, paths in doc().boundary.items()}
    assert len(set(tops.values())) == 8
    assert all(re.fullmatch(r"services/[a-z]+", top) for top in tops.values())
    for task in TASKS:
        _, files = agent.script(task)
        assert files
        for path in files:
            assert path.startswith(tops[task[0]] + "/"), task
            assert ".." not in path
    for task, path in doc().produces.items():
        assert path in agent.script(task)[1]


# --- the scripts ---


@pytest.mark.parametrize("task", TASKS)
def test_a_task_passes_on_what_it_needs(task: str, tmp_path: Path) -> None:
    files = tree(doc().closure(task))
    assert passes(doc().verify[task], files, tmp_path, doc().produces.get(task))


@pytest.mark.parametrize("point", sorted(doc().unlocks))
def test_a_merge_point_passes_on_what_it_takes(point: str, tmp_path: Path) -> None:
    required = doc().needs[point]
    steps = [doc().verify[task] for task in required]
    command = doc().verify.get(point) or " && ".join(dict.fromkeys(steps))
    assert passes(command, tree(doc().closure(*required)), tmp_path, None)


@pytest.mark.parametrize("batch", range(1, 10))
def test_everything_up_to_a_batch_passes_together(batch: int, tmp_path: Path) -> None:
    done = [task for task in TASKS if doc().batch[task] <= batch]
    command = doc().verify["G6"]
    assert command.endswith("services/*/tests/test_*.py")
    assert passes(command, tree(doc().closure(*done)), tmp_path, None)


def test_these_fail_first() -> None:
    different = [task for task in TASKS if agent.files_of(task, 1) != agent.files_of(task, 2)]
    assert different == FAILS_FIRST


@pytest.mark.parametrize("task", FAILS_FIRST)
def test_a_wrong_first_attempt_is_noticed(task: str, tmp_path: Path) -> None:
    said, files = agent.script(task)
    if "right" in said:
        assert sum(text.count(said["right"]) for text in files.values()) == 1
    wrong = tree(doc().closure(task), first=task)
    assert not passes(doc().verify[task], wrong, tmp_path, doc().produces.get(task))


def test_what_the_scripts_say() -> None:
    said = {task: agent.script(task)[0] for task in TASKS}
    known = {"commit", "tests", "learned", "right", "wrong", "forgets", "leaves", "exit", "says"}
    assert all(set(keys) <= known and keys["commit"] for keys in said.values())
    assert [task for task in TASKS if "learned" in said[task]] == [
        "A2",
        "A3",
        "C4",
        "F2",
        "F4",
        "H3",
    ]
    assert [task for task in TASKS if "leaves" in said[task]] == ["D2", "G3"]
    assert [task for task in TASKS if "exit" in said[task]] == ["B3", "C4"]
    assert all(0.2 <= agent.pace(task) <= 0.8 for task in TASKS)


def test_the_pages_of_the_scripts_are_tidy() -> None:
    for task in TASKS:
        for path, text in agent.script(task)[1].items():
            assert text.endswith("\n"), (task, path)
            assert max(map(len, text.splitlines())) <= 100, (task, path)
            if path.endswith(".py"):
                compile(text, path, "exec")


# --- the agent, as a program ---


@dataclass(frozen=True)
class Worktree:
    path: Path
    env: Mapping[str, str]

    def git(self, *args: str) -> str:
        command = ["git", *args]
        return subprocess.run(
            command, cwd=self.path, env=self.env, check=True, capture_output=True, text=True
        ).stdout

    def plays(self, brief: str, **env: str) -> tuple[int, list[str]]:
        command = demo.profile()["command"]
        assert isinstance(command, list)
        ran = subprocess.run(
            command, cwd=self.path, env={**self.env, **env}, input=brief, stdout=-1, text=True
        )
        return ran.returncode, ran.stdout.splitlines()


@pytest.fixture
def worktree(tmp_path: Path) -> Worktree:
    found = Worktree(tmp_path, {**os.environ, "PYTHONPATH": str(PACKAGE)})
    found.git("init", "-q", "-b", "main")
    for path, text in demo.seed_files().items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    found.git("add", "-A")
    found.git("commit", "-q", "-m", "start")
    return found


def test_the_agent_repairs_what_it_broke(worktree: Worktree) -> None:
    book = worktree.path / "services/ledger/book.py"
    brief = "# A3: The book\n\nYou are doing task A3.\n"
    assert worktree.plays(brief) == (
        0,
        [
            "A3: read a brief of 3 lines",
            "wrote services/ledger/book.py",
            "wrote services/ledger/tests/test_book.py",
            "committed: A3: A book with balances",
            "done",
        ],
    )
    assert agent.script("A3")[0]["wrong"] in book.read_text(encoding="utf-8")
    worktree.plays("", GITWAVES_TASK="A3", GITWAVES_ATTEMPT="2")
    assert agent.script("A3")[0]["right"] in book.read_text(encoding="utf-8")
    assert worktree.git("log", "-2", "--format=%s|%(trailers:key=Learned,valueonly)") == (
        "A3: A book with balances (repaired)|An account may be emptied to exactly zero; test the "
        "edge itself, not only its two sides.\n\nA3: A book with balances|\n"
    )
    assert worktree.git("status", "--porcelain") == ""


def test_the_agent_may_leave_its_work_uncommitted(worktree: Worktree) -> None:
    code, lines = worktree.plays("", GITWAVES_TASK="D2")
    assert (code, lines[-1]) == (0, "done, I think; I did not commit")
    assert worktree.git("log", "--format=%s") == "start\n"
    assert worktree.git("status", "--porcelain") == "?? services/\n"


def test_the_agent_may_break_off_with_its_work_done(worktree: Worktree) -> None:
    code, lines = worktree.plays("", GITWAVES_TASK="B3")
    assert (code, lines[-1]) == (3, "lost the connection after the last commit")
    assert worktree.plays("", GITWAVES_TASK="B3", GITWAVES_ATTEMPT="2")[0] == 0
    assert worktree.git("log", "--format=%s") == "B3: Daily limits\nstart\n"


def test_the_agent_knows_what_it_cannot_do(worktree: Worktree) -> None:
    assert worktree.plays("# Z9: Something else\n")[0] == 2
    assert worktree.plays("", GITWAVES_TASK="../A1") == (
        2,
        ["there is no script for the task ../A1"],
    )
    assert worktree.plays("")[1] == ["there is no script for the task (none named)"]
