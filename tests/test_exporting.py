"""`export`: what is written for agent clients, and what is left alone."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gitwaves.exporting import SETTINGS, SKILLS, files_of, members, memory_files, with_loop
from gitwaves.model import Config, TaskId, WorkstreamId
from gitwaves.record import replace
from tests.plans import cards_of
from tests.repo import Repo
from tests.shop import shop

AGENTS = [f".claude/agents/{name}.md" for name in ("WS-A", "WS-B", "gitwaves-lead")]
ALL = sorted([*AGENTS, *SKILLS, *SETTINGS, "CLAUDE.md"])


@pytest.fixture
def plan(tmp_path: Path) -> Repo:
    return shop(tmp_path)


def front(text: str) -> dict[str, Any]:
    """The front matter of a file."""
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert match is not None
    found = YAML(typ="safe", pure=True).load(io.StringIO(match[1]))
    assert isinstance(found, dict)
    return found


def test_a_second_run_changes_nothing(plan: Repo) -> None:
    before = plan.gw("export", "claude-agents", "--check")
    assert before.code == 1
    assert plan.git("status", "--porcelain") == ""
    first = plan.gw_ok("export", "claude-agents")
    assert sorted(line.removeprefix("wrote ") for line in first.out.splitlines()) == ALL
    was = {path: (plan.path / path).stat().st_mtime_ns for path in ALL}
    again = plan.gw_ok("export", "claude-agents")
    assert (again.out, again.err) == ("", "nothing to write: it is up to date\n")
    assert {path: (plan.path / path).stat().st_mtime_ns for path in ALL} == was
    checked = plan.gw("export", "claude-agents", "--check")
    assert (checked.code, checked.out, checked.err) == (0, "", "up to date\n")


def test_a_changed_plan_is_seen_and_taken_over(plan: Repo) -> None:
    plan.gw_ok("export", "claude-agents")
    plan.git("mv", ".workstreams/WS-B", ".workstreams/WS-C")
    plan.commit("Rename")
    done = plan.gw("export", "claude-agents", "--check")
    assert done.code == 1
    assert done.out.splitlines() == [
        "is not up to date: .claude/agents/WS-C.md",
        "is not up to date: .claude/agents/gitwaves-lead.md",
        "is of a workstream that is gone: .claude/agents/WS-B.md",
    ]
    plan.gw_ok("export", "claude-agents")
    assert not (plan.path / ".claude/agents/WS-B.md").exists()
    assert plan.gw("export", "claude-agents", "--check").code == 0


def test_what_a_person_wrote_is_left(plan: Repo) -> None:
    own = {
        AGENTS[0]: "---\nname: ws-a\n---\nMine.\n",
        ".claude/agents/mine.md": "---\nname: mine\n---\n",
        SKILLS[1]: "Mine.\n",
        ".claude/settings.json": '{"model": "opus", "hooks": {"Stop": [{"hooks": []}]}}',
        ".codex/hooks.json": "not json",
    }
    plan.commit("Mine", **own)
    done = plan.gw_ok("export", "claude-agents")
    assert {path: plan.read(path) for path in own} == own
    assert f"left {AGENTS[0]}: somebody wrote it" in done.out
    assert f"left {SKILLS[1]}: somebody wrote it" in done.out
    asked = re.split(r"^left (\S+), which is there already; add this to it:$", done.out, flags=re.M)
    add = {path: json.loads(text) for path, text in zip(asked[1::2], asked[2::2], strict=True)}
    assert sorted(add) == sorted(SETTINGS)
    # what is said to be added is what was lacking, and then nothing is
    held = json.loads(own[".claude/settings.json"])
    held["hooks"]["Stop"] += add[".claude/settings.json"]["hooks"].pop("Stop")
    held["hooks"] |= add[".claude/settings.json"]["hooks"]
    held["permissions"] = add[".claude/settings.json"]["permissions"]
    plan.write(".claude/settings.json", json.dumps(held))
    plan.write(".codex/hooks.json", json.dumps(add[".codex/hooks.json"]))
    again = plan.gw_ok("export", "claude-agents")
    assert "add this to it" not in again.out
    assert again.err == "nothing to write: it is up to date\n"


def test_links_are_not_followed(plan: Repo, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (plan.path / ".claude").symlink_to(outside)
    done = plan.gw_ok("export", "claude-agents")
    assert list(outside.iterdir()) == []
    assert "left .claude/settings.json: .claude is a symbolic link" in done.out
    assert f"left {AGENTS[0]}: .claude is a symbolic link" in done.out
    assert f"wrote {SKILLS[1]}" in done.out


def test_it_is_for_trunk(plan: Repo) -> None:
    plan.git("switch", "-qc", "other")
    done = plan.gw("export", "claude-agents")
    assert done.code == 1
    assert done.err == (
        "Error: these files are written on main, for review\n"
        "Hint: run this in the worktree of main\n"
    )


ODD = 'no: "yes" # {a}\n---\nname: x | - [b] \u2028 \x1b[2J é \U0001f600 \\'


@pytest.mark.parametrize("title", [ODD, "no", "---", "'", "x" * 2000, "a: b", "#", "`code`"])
def test_front_matter_holds_whatever_the_title(title: str) -> None:
    cards = cards_of("A1; B1", title=title)
    streams = {w: replace(s, title=title) for w, s in cards.workstreams.items()}
    tasks = {t: replace(c, title=title) for t, c in cards.tasks.items()}
    for path, text in files_of(replace(cards, workstreams=streams, tasks=tasks)).items():
        found = front(text)
        wanted = {"name", "description"} | ({"tools", "isolation"} if "/WS-" in path else set())
        assert set(found) == wanted
        assert all(isinstance(value, str) for value in found.values())
        assert re.fullmatch(r"[a-z][a-z0-9-]*", found["name"])
        assert len(found["description"]) <= 500
        assert "\x1b" not in text


def test_an_agent_knows_its_place() -> None:
    cards = cards_of("A1; A2 needs A1; cancel A2", shared_paths=("package-lock.json",))
    text = files_of(cards)[".claude/agents/WS-A.md"]
    assert front(text) == {
        "name": "ws-a",
        "description": "Does one task of WS-A (Title of WS-A); name it by its id (A1).",
        "tools": "Read, Glob, Grep, Edit, Write, NotebookEdit, Bash",
        "isolation": "worktree",
    }
    assert "\n- `a/**`\n- and what anyone may change: `package-lock.json`\n" in text
    assert "the worktree of `ws/A`" in text
    assert "gitwaves verify" in text
    assert "A2" not in text


def test_names_are_those_of_one_agent_each() -> None:
    cards = cards_of("A1")
    stream = next(iter(cards.workstreams.values()))
    ids = ("WS-A", "WS.A", "gitwaves-lead", "no", "Ws_a2")
    streams = {WorkstreamId(i): replace(stream, id=WorkstreamId(i)) for i in ids}
    plan = replace(cards, workstreams=streams, tasks={}, config=Config())
    names = members(plan)
    assert len(set(names.values())) == len(ids)
    assert names[WorkstreamId("gitwaves-lead")] == "gitwaves-lead-2"
    assert front(files_of(plan)[".claude/agents/no.md"])["name"] == "no"


def test_an_empty_plan_has_a_lead_and_skills() -> None:
    files = files_of(replace(cards_of("A1"), tasks={}, workstreams={}))
    assert sorted(files) == sorted([AGENTS[2], *SKILLS])
    assert "There are none yet" in files[AGENTS[2]]


# --- memory files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "around", ["{}", "# Mine\n\n{}\nBelow.\n", "# Mine\r\n\r\n{}\r\nBelow.\r\n"]
)
def test_a_memory_file_gets_its_section_once(around: str) -> None:
    end = "\r\n" if "\r" in around else "\n"
    section = with_loop("").replace("\n", end)
    assert section.count(end) == 6
    assert with_loop(around.format(section)) == around.format(section)
    old = section.replace("gitwaves verify", "gitwaves vary")
    assert with_loop(around.format(old)) == around.format(section)


def test_a_memory_file_without_a_section_gets_it_at_its_end() -> None:
    assert with_loop("Mine.") == f"Mine.\n\n{with_loop('')}"
    # half a section is somebody's text
    half = with_loop("").splitlines(keepends=True)[0]
    assert with_loop(half) == f"{half}\n{with_loop('')}"


def test_memory_files_are_those_that_the_agents_of_the_plan_read() -> None:
    cards = cards_of("A1; B1", agent="gemini", learnings=("NOTES.md",))
    a1 = replace(cards.tasks[TaskId("A1")], agent="codex")
    assert memory_files(cards) == ["GEMINI.md", "NOTES.md"]
    cards = replace(cards, tasks={**cards.tasks, a1.id: a1})
    assert memory_files(cards) == ["AGENTS.md", "GEMINI.md", "NOTES.md"]


def test_a_memory_file_that_is_none_is_left(plan: Repo) -> None:
    plan.write("CLAUDE.md", b"\xff\xfe")
    assert "left CLAUDE.md: it is no text" in plan.gw_ok("export", "claude-agents").out
    assert (plan.path / "CLAUDE.md").read_bytes() == b"\xff\xfe"


def test_what_is_learned_goes_where_the_agent_reads_it(repo: Repo) -> None:
    repo.commit("Begin")
    repo.gw_ok("init", "--no-hooks", "--agent", "codex")
    assert "learnings:\n  - AGENTS.md\n" in repo.read(".workstreams/config.yaml")
