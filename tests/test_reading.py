"""The commands that only read, from the command line: text, JSON, exit codes, revisions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gitwaves.resources import schema_text
from tests.repo import Repo

DESIGN = """\
# Payments platform

## WS-A: Ledger
Paths: `services/ledger/**`

### A1: Schema
Batch: 1
Estimate: 2h
Verify: `true`

Tables.

### A2: Balances
Depends on: A1
Batch: 2
Estimate: 3h
Verify: `true`

Sums.

## WS-B: Gateway
Paths: `services/gateway/**`

### B1: Routes
Batch: 1
Estimate: 1h
Verify: `true`

Paths.

## Merge points
- MP1: A1 + B1 -> unlocks A2
"""


@pytest.fixture
def plan(repo: Repo) -> Repo:
    repo.commit("Approve", **{"docs/design.md": DESIGN})
    repo.gw_ok("init", "--title", "Payments platform")
    repo.gw_ok("import", "docs/design.md")
    repo.commit("Plan")
    return repo


@pytest.mark.parametrize(
    ("command", "schema"),
    [
        (["status"], "status"),
        (["status", "HEAD"], "status"),
        (["next"], "next"),
        (["show", "A2"], "show"),
        (["show", "MP1"], "show"),
        (["show", "2"], "show"),
        (["plan"], "plan"),
        (["plan", "main"], "plan"),
        (["check"], "check"),
    ],
)
def test_json_is_as_documented(plan: Repo, command: list[str], schema: str) -> None:
    shown: Any = json.loads(plan.gw_ok(*command, "--json").out)
    assert shown["version"] == 1
    Draft202012Validator(json.loads(schema_text(f"{schema}.schema.json"))).validate(shown)


def test_status_shows_the_whole_plan(plan: Repo) -> None:
    done = plan.gw_ok("status")
    assert done.out == (
        """\
PAYMENTS PLATFORM                    0/3 done  2 runnable  1 blocked

BATCHES
  [....] 1  runnable   0/2   wave 1: A1 B1
  [....] 2  blocked    on Batch 1 + MP1   A2

MERGE POINTS
  MP1  [ ]  A1 + B1   -> A2   waits for A1 B1

WORKTREES
  ws/A  idle  0/2 done   next A1
  ws/B  idle  0/1 done   next B1

CRITICAL PATH  A1 -> A2     5h left
RUNNABLE NOW   A1 (critical)  B1 (slack 1h)

next: gitwaves start A1
"""
    )
    assert done.err == ""


def test_status_is_of_trunk_from_every_worktree_and_says_what_differs(plan: Repo) -> None:
    path = Path(plan.gw_ok("--trust-trunk", "start", "A1").out.strip())
    inside = Repo(path)
    assert inside.gw_ok("status").out == plan.gw_ok("status").out
    card = plan.path / ".workstreams/WS-B/B1.yaml"
    card.write_text(card.read_text().replace("Routes", "Other"))
    differs = (
        "note: .workstreams/WS-B/B1.yaml differs in the working tree; "
        "what is shown is what is committed\n"
    )
    for odd in ({}, {"GIT_PREFIX": ""}):  # an environment that is left to the whole command line
        for command in (["status"], ["next"], ["show", "B1"]):
            assert plan.gw_ok(*command, env=odd).err == differs
            assert plan.gw_ok(*command, "--json", env=odd).err == ""
        assert plan.gw_ok("show", "A1", env=odd).err == ""
        assert plan.gw_ok("show", "--", "B1", env=odd).err == differs
    assert json.loads(plan.gw_ok("show", "B1", "--json").out)["title"] == "Routes"
    (plan.path / ".workstreams/WS-A/A1.yaml").unlink()
    both = ".workstreams/WS-A/A1.yaml and 1 more differ in the working tree"
    assert [both in plan.gw_ok(command).err for command in ("status", "next")] == [True, True]


def test_a_card_that_is_lost_is_not_taken_for_one_that_nobody_has_begun(plan: Repo) -> None:
    plan.gw_ok("--trust-trunk", "start", "A1")
    oid = plan.git("rev-parse", "ws/A:.workstreams/WS-A/A1.yaml")
    shutil.rmtree(plan.path / ".git/gitwaves")
    (plan.path / f".git/objects/{oid[:2]}/{oid[2:]}").unlink()
    assert json.loads(plan.gw_ok("show", "A1", "--json").out)["state"] == "unproven"
    assert "A1" not in plan.gw_ok("next").out


def test_status_of_a_revision_reads_nothing_else(plan: Repo) -> None:
    before = plan.oid("main")
    plan.gw_ok("--trust-trunk", "start", "A1")
    now = json.loads(plan.gw_ok("status", "--json").out)["counts"]
    then = json.loads(plan.gw_ok("status", before, "--json").out)["counts"]
    assert (now["active"], then["active"]) == (1, 0)


def test_reading_writes_no_tracked_file(plan: Repo) -> None:
    refs = plan.git("for-each-ref")
    for command in (["status"], ["next"], ["show", "A1"], ["plan"], ["check"], ["brief", "A1"]):
        plan.gw_ok(*command)
    assert plan.git("status", "--porcelain") == ""
    assert plan.git("for-each-ref") == refs


def test_check_says_all_at_once_and_where(plan: Repo) -> None:
    a1 = plan.path / ".workstreams/WS-A/A1.yaml"
    a1.write_text(
        a1.read_text().replace("title:", "tilte:").replace("depends_on: []", "depends_on: [A2]")
    )
    b1 = plan.path / ".workstreams/WS-B/B1.yaml"
    b1.write_text("{ not yaml")
    done = plan.gw("check")
    assert done.code == 1
    errors = [line for line in done.out.splitlines() if ": error: " in line]
    assert errors == [
        ".workstreams/WS-A/A1.yaml:1:1: error: missing key 'title'",
        ".workstreams/WS-A/A1.yaml:2:1: error: unknown key 'tilte'; did you mean 'title'?",
        ".workstreams/WS-B/B1.yaml:1:11: error: not YAML: expected ',' or '}', but got '<stream end>'",
    ]


def test_a_cycle_is_named_whole(plan: Repo) -> None:
    a1 = plan.path / ".workstreams/WS-A/A1.yaml"
    a1.write_text(a1.read_text().replace("depends_on: []", "depends_on: [A2]"))
    checked = plan.gw("check")
    assert checked.code == 1
    assert "A1 -> A2 -> A1" in checked.out or "A1 -> A2 -> MP1 -> A1" in checked.out
    planned = plan.gw("plan")
    assert planned.code == 1
    assert planned.err.startswith("Error: dependency cycle: A1 -> A2 -> ")


def test_check_fix_adds_tracking_on_trunk(plan: Repo) -> None:
    card = plan.path / ".workstreams/WS-B/B1.yaml"
    whole = card.read_bytes()
    card.write_bytes(whole[: whole.index(b"# --- tracking")])
    warned = plan.gw("check")
    assert (warned.code, "no tracking half" in warned.out) == (0, True)
    assert plan.gw("check", "--strict").code == 1
    plan.gw_ok("check", "--fix")
    assert card.read_bytes() == whole


def test_importing_again_keeps_a_users_edits(plan: Repo) -> None:
    card = plan.path / ".workstreams/WS-A/A1.yaml"
    card.write_text(card.read_text().replace("title: Schema", "title: My schema  # mine"))
    plan.commit("Edit")
    plan.commit(
        "Change the doc", **{"docs/design.md": DESIGN.replace("Tables.", "Tables and keys.")}
    )
    assert "docs/design.md changed since its import" in plan.gw_ok("check").out
    plan.gw_ok("import", "docs/design.md")
    text = card.read_text()
    assert "title: My schema  # mine\n" in text
    assert "Tables and keys." in text
    plan.commit("Import")
    assert plan.gw_ok("import", "docs/design.md").out == "no card changes\n"
    assert plan.git("status", "--porcelain") == ""


def test_a_doc_that_is_not_committed_is_refused(plan: Repo) -> None:
    plan.write("docs/design.md", DESIGN + "\nMore.\n")
    done = plan.gw("import", "docs/design.md")
    assert done.code == 1
    assert done.err == (
        "Error: docs/design.md is not what is committed on main\n"
        "Hint: commit it there first, or try it with `gitwaves import docs/design.md --draft`\n"
    )
    plan.gw_ok("import", "docs/design.md", "--draft")


def test_a_doc_without_tasks_is_refused(plan: Repo) -> None:
    plan.commit("Prose", **{"docs/prose.md": "# Why\n\n## Goals\n\nText.\n"})
    done = plan.gw("import", "docs/prose.md")
    assert done.code == 1
    assert done.err.startswith("Error: no task list found in docs/prose.md\nHint: ")
    assert "Goals" in done.err


def test_the_brief_is_one_markdown_text(plan: Repo) -> None:
    text = plan.gw_ok("brief", "A1").out
    assert text.startswith("# A1: Schema\n")
    for part in ("Tables.", "services/ledger/**", "gitwaves verify", "Learned:"):
        assert part in text


def test_json_of_the_status_is_what_json_makes_of_it(plan: Repo) -> None:
    """Its tasks are written one after the other, where they are thousands."""
    said = plan.gw_ok("status", "--json").out
    assert json.dumps(json.loads(said), indent=2, ensure_ascii=False) + "\n" == said
    assert json.loads(said)["tasks"]
    plan.git("rm", "-q", "-r", ".workstreams/merge-points", check=False)
    cards = plan.git("ls-files", ".workstreams/*/*[0-9].yaml").splitlines()
    plan.git("rm", "-q", *cards)
    plan.git("commit", "-q", "-m", "Nothing is left")
    empty = plan.gw_ok("status", "--json").out
    assert json.dumps(json.loads(empty), indent=2, ensure_ascii=False) + "\n" == empty
    assert json.loads(empty)["tasks"] == []
