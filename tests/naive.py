"""A second reader of state, written from the rules alone, with nothing but git and YAML.

Slow and plain on purpose: one git process a question, no caches, no code of gitwaves.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

SEPARATOR = "# --- tracking: written by gitwaves on the worktree's branch ---"


@dataclass(frozen=True, slots=True)
class Plain:
    """What the plain reader says of a task."""

    state: str  # done, active, failed, stale, unproven, other
    evidence: dict[str, Any] | None
    landed: bool


def git(repo: Path, *args: str, stdin: str | None = None) -> str | None:
    """What git printed; None where it failed."""
    done = subprocess.run(
        ["git", *args], cwd=repo, capture_output=True, check=False, input=(stdin or "").encode()
    )
    return done.stdout.decode() if done.returncode == 0 else None


def lines(repo: Path, *args: str) -> list[str]:
    return (git(repo, *args) or "").splitlines()


def load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(io.StringIO(text))


def tracking_of(repo: Path, commit: str, path: str) -> dict[str, Any] | None:
    text = git(repo, "show", f"{commit}:{path}")
    if text is None or SEPARATOR not in text:
        return None
    half = load(text.split(SEPARATOR, 1)[1])
    return dict(half["tracking"]) if half else None


def code_tree(repo: Path, commit: str) -> str | None:
    """The root tree without `.workstreams/`, made by git itself."""
    listed = git(repo, "ls-tree", commit)
    if listed is None:
        return None
    kept = [line for line in listed.splitlines() if not line.endswith("\t.workstreams")]
    made = git(repo, "mktree", stdin="".join(f"{line}\n" for line in kept))
    return made.strip() if made else None


def digest(card: dict[str, Any], boundary: list[str]) -> str:
    """The spec digest of a task whose steps are commands with the default timeout."""
    steps = [
        {"run": s["run"], "timeout": 1800, "always": s.get("always", False)}
        for s in card.get("verify", [])
    ]
    covered = {
        "id": card["id"],
        "spec": (card.get("spec") or "").strip(),
        "acceptance": card.get("acceptance") or [],
        "paths": card.get("paths") or [],
        "produces": card.get("produces") or [],
        "verify": steps,
        "boundary": boundary,
    }
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def said(tracking: dict[str, Any] | None) -> tuple[Any, Any, Any]:
    got = tracking or {"status": "planned"}
    return got["status"], got.get("evidence"), got.get("claim")


def contains(repo: Path, tip: str, commit: str) -> bool:
    return git(repo, "merge-base", "--is-ancestor", commit, tip) is not None


def read(repo: Path, task: str, workstream: str, branch: str, trunk: str = "main") -> Plain:
    """The state of one task."""
    path = f".workstreams/{workstream}/{task}.yaml"
    tip = (git(repo, "rev-parse", "-q", "--verify", f"refs/heads/{branch}") or "").strip()
    ours = tracking_of(repo, trunk, path)
    theirs = tracking_of(repo, tip, path) if tip else None
    landed = True
    chosen = ours
    if theirs is not None:
        bases = lines(repo, "merge-base", "--all", trunk, tip)
        before = [said(tracking_of(repo, base, path)) for base in bases]
        if said(theirs) not in before and said(theirs) != said(ours):
            chosen, landed = theirs, False
    status, evidence, _ = said(chosen)
    if status != "done":
        return Plain(status if status in {"active", "failed"} else "other", evidence, landed)
    if not evidence:
        return Plain("unproven", None, landed)
    commit = evidence["commit"]
    here = git(repo, "cat-file", "-e", f"{commit}^{{commit}}") is not None
    if (here and code_tree(repo, commit) != evidence["tree"]) or (not here and not landed):
        return Plain("unproven", evidence, landed)
    card = load((git(repo, "show", f"{trunk}:{path}") or "").split(SEPARATOR)[0])
    stream = load(git(repo, "show", f"{trunk}:.workstreams/{workstream}/workstream.yaml") or "")
    if evidence["spec"] != digest(card, list(stream["paths"])):
        return Plain("stale", evidence, landed)
    if not landed and not contains(repo, tip, commit) and not contains(repo, trunk, commit):
        return Plain("stale", evidence, landed)
    return Plain("done", evidence, landed)
