from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from gitwaves.resources import schema_text
from gitwaves.schemas import fits

FOLDER = Path(__file__).parent.parent / "schemas"
KINDS = sorted(path.name.removesuffix(".schema.json") for path in FOLDER.iterdir())
OID = "3f" * 20
DIGEST = "sha256:" + "0a" * 32

CONFIG = """
version: 1
title: Payments platform
trunk: main
agents: 8
agent: claude
design: {path: docs/design.md, blob: "3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f"}
batches: [1, P1-B2, P1.5-B1]
dispatch: batches
worktrees: ../{repo}.worktrees/{name}
setup:
  - run: npm ci
    timeout: 20m
remote: null
merge: direct
default_estimate: 1h
retries: 2
lease: 2h
learnings: [CLAUDE.md, AGENTS.md]
shared_paths: [package-lock.json]
profiles:
  mine: {command: [agent, --print], env: {MODEL: big}, timeout: 2h}
on_event: null
allowed_signers: null
x-owner: payments
"""

WORKSTREAM = """
title: Ledger
paths: ["services/ledger/**"]
branch: ws/A
agent: null
"""

TASK = """
id: A1
title: Ledger schema and migrations
depends_on: []
batch: 1
estimate: 2h
agent: null
paths: []
spec: |
  Markdown: what to build.
acceptance:
  - Balances never go negative.
produces: [services/ledger/schema.sql]
cancelled: null
verify:
  - run: python -m pytest -q services/ledger
    timeout: 10m
  - manual: The statement reads well on a phone.
  - run: docker compose down
    always: true
x-ticket: PAY-17
# --- tracking: written by gitwaves on the worktree's branch ---
tracking:
  task: A1
  status: planned
"""

MERGE_POINT = """
id: MP1
title: Ledger meets gateway
requires: [A8, B3]
unlocks: [C1, 9]
spec: Both run together.
verify:
  - run: make integration
tracking:
  task: MP1
  status: planned
"""

RUN = {"run": "make test", "exit": 0, "seconds": 1.5, "log": DIGEST}
EVIDENCE = {"commit": OID, "tree": OID, "spec": DIGEST, "runs": [RUN]}
TASK_DONE = {
    "task": "A1",
    "status": "done",
    "claim": {"tree": OID, "spec": DIGEST, "id": "f00f"},
    "agent": "claude",
    "clone": "c10e",
    "session": "5e55",
    "started": "2026-11-24T20:48:00Z",
    "finished": "2026-11-24T21:48:00Z",
    "attempts": 1,
    "cost": {"turns": 12, "tokens": 40000, "usd": 1.25},
    "evidence": EVIDENCE,
    "learnings": ["Migrations need a lock."],
    "spec_gaps": [{"text": "Cents or euros?", "affects": {"B5": DIGEST}, "resolved": False}],
}
POINT_DONE = {"task": "MP1", "status": "done", "evidence": {**EVIDENCE, "inputs": [OID]}}


def yaml(text: str) -> dict[str, Any]:
    value = YAML(typ="safe", pure=True).load(text)
    assert isinstance(value, dict)
    return value


VALID = {
    "config": yaml(CONFIG),
    "merge-point": yaml(MERGE_POINT),
    "task": yaml(TASK),
    "workstream": yaml(WORKSTREAM),
}


def schema(kind: str) -> dict[str, Any]:
    value = json.loads(schema_text(f"{kind}.schema.json"))
    assert isinstance(value, dict)
    return value


def violations(kind: str, value: object) -> list[str]:
    """Where `value` breaks the schema of its kind, as paths such as `verify.0`."""
    errors = Draft202012Validator(schema(kind)).iter_errors(value)
    return sorted({".".join(str(part) for part in error.absolute_path) for error in errors})


def changed(kind: str, path: str, value: object) -> dict[str, Any]:
    """The valid example of a kind with the value at `path` replaced."""
    *parents, last = path.split(".")
    whole = copy.deepcopy(VALID[kind])
    inner: Any = whole
    for part in parents:
        inner = inner[int(part) if part.isdecimal() else part]
    inner[int(last) if last.isdecimal() else last] = value
    return whole


def test_each_kind_of_file_has_a_schema() -> None:
    assert {*VALID, "status"} <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_valid_and_says_what_it_is(kind: str) -> None:
    found = schema(kind)
    Draft202012Validator.check_schema(found)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert found["$id"] == f"urn:gitwaves:{kind}:1"
    assert found["title"]
    assert found["description"]


@pytest.mark.parametrize("kind", sorted(VALID))
def test_every_key_of_a_card_is_described(kind: str) -> None:
    found = schema(kind)

    def described(value: dict[str, Any]) -> bool:
        target = found["$defs"][value["$ref"].rsplit("/", 1)[1]] if "$ref" in value else value
        return "description" in value or "description" in target

    assert [key for key, value in found["properties"].items() if not described(value)] == []


def test_what_the_kinds_of_file_share_reads_the_same_in_each() -> None:
    seen: dict[str, object] = {}
    for kind in VALID:
        for name, definition in schema(kind).get("$defs", {}).items():
            if name not in {"evidence", "tracking"}:  # a merge point's has `inputs`
                assert seen.setdefault(name, definition) == definition, (kind, name)


@pytest.mark.parametrize("kind", sorted(VALID))
def test_the_example_is_valid(kind: str) -> None:
    assert violations(kind, VALID[kind]) == []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("task", "tracking", TASK_DONE),
        ("merge-point", "tracking", POINT_DONE),
        ("task", "tracking", {**TASK_DONE, "evidence": {**EVIDENCE, "signature": "U1NI+/=="}}),
        ("task", "batch", "P1.5-B1"),
        ("task", "batch", None),
        ("task", "estimate", "1h30m"),
        ("task", "id", "A" * 64),
        ("task", "verify.0.x-note", "slow"),
        ("config", "design.x-url", "somewhere"),
        ("config", "profiles.mine.x-note", "mine"),
        ("workstream", "branch", "feature/ledger-2.0"),
    ],
)
def test_valid(kind: str, path: str, value: object) -> None:
    assert violations(kind, changed(kind, path, value)) == []


@pytest.mark.parametrize(
    ("kind", "path", "value", "where"),
    [
        ("task", "id", "A 1", "id"),
        ("task", "id", "A1\n", "id"),
        ("task", "id", "A..1", "id"),
        ("task", "id", "1A", "id"),
        ("task", "id", "A" * 65, "id"),
        ("task", "title", "", "title"),
        ("task", "titel", "x", ""),
        ("task", "depends_on", ["A2", "A2"], "depends_on"),
        ("task", "depends_on", [1], "depends_on.0"),
        ("task", "batch", 1.5, "batch"),
        ("task", "batch", "a/b", "batch"),
        ("task", "batch", -1, "batch"),
        ("task", "estimate", "2 hours", "estimate"),
        ("task", "estimate", "0m", "estimate"),
        ("task", "estimate", "", "estimate"),
        ("task", "estimate", "30m1h", "estimate"),
        ("task", "paths", ["!docs/**"], "paths.0"),
        ("task", "produces", ["../secret"], "produces.0"),
        ("task", "produces", ["/etc/passwd"], "produces.0"),
        ("task", "verify", ["make test"], "verify.0"),
        ("task", "verify", [{}], "verify.0"),
        ("task", "verify", [{"run": "true", "manual": "look"}], "verify.0.run"),
        ("task", "verify", [{"manual": "look", "timeout": "1h"}], "verify.0.timeout"),
        ("task", "verify.0.shell", "bash", "verify.0"),
        ("task", "tracking.status", "finished", "tracking.status"),
        ("task", "tracking.x-note", "no", "tracking"),
        ("task", "tracking.evidence", {**EVIDENCE, "inputs": [OID]}, "tracking.evidence"),
        ("task", "tracking.evidence", {**EVIDENCE, "commit": "HEAD"}, "tracking.evidence.commit"),
        (
            "task",
            "tracking.evidence",
            {**EVIDENCE, "signature": "a b"},
            "tracking.evidence.signature",
        ),
        ("task", "tracking.started", "2026-11-24 20:48", "tracking.started"),
        ("merge-point", "requires", [], "requires"),
        ("merge-point", "depends_on", ["A1"], ""),
        ("merge-point", "tracking.evidence", EVIDENCE, "tracking.evidence"),
        ("config", "version", 2, "version"),
        ("config", "agents", 0, "agents"),
        ("config", "agents", True, "agents"),
        ("config", "merge", "squash", "merge"),
        ("config", "setup", [{"manual": "look"}], "setup.0"),
        ("config", "profiles.mine.command", "agent --print", "profiles.mine.command"),
        ("config", "profiles.mine.command", [], "profiles.mine.command"),
        ("config", "profiles.mine.prompt", "stdin", "profiles.mine"),
        ("config", "design.path", "../design.md", "design.path"),
        ("config", "remote", "--upload-pack=x", "remote"),
        ("config", "trunk", "refs heads", "trunk"),
        ("workstream", "branch", "-b", "branch"),
        ("workstream", "branch", "ws/../x", "branch"),
        ("workstream", "branch", "ws/A.lock", "branch"),
        ("workstream", "path", ["services/**"], ""),
    ],
)
def test_invalid(kind: str, path: str, value: object, where: str) -> None:
    assert where in violations(kind, changed(kind, path, value))


@pytest.mark.parametrize(
    ("kind", "key"),
    [("config", "version"), ("task", "id"), ("task", "title"), ("merge-point", "requires")],
)
def test_required(kind: str, key: str) -> None:
    assert violations(kind, {k: v for k, v in VALID[kind].items() if k != key}) == [""]


STATUS = """
{"version": 1, "title": "Payments platform", "trunk": {"branch": "main", "commit": null},
 "counts": {"total": 9, "done": 1, "active": 2, "runnable": 1, "blocked": 5, "held": 0,
            "failed": 0, "stale": 0, "unproven": 0, "cancelled": 0},
 "batches": [{"id": "1", "state": "blocked", "waves": [["A1", "B1"], ["A2"]], "done": 2,
              "failed": 0, "total": 3, "blocked_on": [{"kind": "batch", "id": "8"},
                                                      {"kind": "merge_point", "id": "MP4"}]}],
 "merge_points": [{"id": "MP1", "state": "blocked", "requires": ["A8", "B3"], "unlocks": ["C1"],
                   "blocked_on": [{"kind": "task", "id": "B3"}], "commit": null}],
 "tasks": [{"id": "A1", "title": "Ledger", "workstream": "WS-A", "branch": "ws/A",
            "worktree": null, "batch": "1", "wave": 1, "state": "done",
            "flags": ["unchecked", "misplaced"], "blocked_on": [], "critical": true,
            "slack_minutes": 0, "estimate_minutes": 120, "agent": null, "evidence": null}],
 "worktrees": [{"branch": "ws/A", "path": null, "workstreams": ["WS-A"], "task": "A1",
                "agent": "claude"}],
 "gaps": [{"task": "A3", "text": "Cents or euros?", "affects": ["B5"]}],
 "critical_path": {"ids": ["A7", "MP4", "C1"], "minutes": 570},
 "warnings": []}
"""


def test_status() -> None:
    status = json.loads(STATUS)
    assert violations("status", status) == []
    assert violations("status", {**status, "later": "fields may come"}) == []
    assert violations("status", {k: v for k, v in status.items() if k != "gaps"}) == [""]
    status["tasks"][0]["state"] = "finished"
    assert violations("status", status) == ["tasks.0.state"]


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1.0, "", " ", "A1", "A1\n", "2h", "done", "é"),
    *([], ["a", "a"], [1, "1"], {}, {"run": "x"}, {"manual": "y"}, {"x-y": 1}),
)


def altered(value: Any, rng: random.Random) -> Any:
    """`value` with something in it replaced, removed or added, anywhere."""
    if isinstance(value, dict | list) and value and rng.random() < 0.8:
        changed = copy.copy(value)
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        match rng.randrange(6):
            case 0:
                del changed[key]
            case 1 if isinstance(changed, dict):
                changed[rng.choice(["x-a", "agent", "manual", "foo", "cost"])] = rng.choice(ODD)
            case _:
                changed[key] = altered(value[key], rng)
        return changed
    return rng.choice(ODD)


@pytest.mark.parametrize("kind", sorted(VALID))
def test_what_fits_at_once_is_valid(kind: str) -> None:
    rng = random.Random(kind)
    fit, strict = fits(schema(kind)), Draft202012Validator(schema(kind))
    told = 0
    for _ in range(1500):
        value = altered(VALID[kind], rng)
        if fit(value):
            told += 1
            assert strict.is_valid(value), value
    assert told > 10 or not fit(VALID[kind])


def test_most_cards_fit_at_once() -> None:
    value = {"id": "A1", "title": "One", "verify": [{"run": "make"}], "x-mine": [1]}
    assert fits(schema("task"))(value)
    assert not fits(schema("task"))({**value, "titel": "One"})
