"""A second reader of state, written from the rules alone, with nothing but git and YAML.

Plain on purpose: one git process a question, and no code of gitwaves. Only answers about object
ids, which never change, are kept.
"""

from __future__ import annotations

import functools
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


_known: dict[tuple[Path, tuple[str, ...]], str] = {}


def fixed(repo: Path, *args: str) -> str | None:
    """What git printed, of a question whose answer never changes: it names objects by their ids."""
    key = (repo, args)
    if key not in _known:
        out = git(repo, *args)
        if out is None:
            return None
        _known[key] = out
    return _known[key]


def commit_of(repo: Path, rev: str) -> str:
    """The id of a commit; empty where there is none of that name."""
    return (git(repo, "rev-parse", "-q", "--verify", f"{rev}^{{commit}}") or "").strip()


@functools.cache
def load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(io.StringIO(text))


def tracking_of(repo: Path, commit: str, path: str) -> dict[str, Any] | None:
    text = fixed(repo, "show", f"{commit}:{path}")
    if text is None or SEPARATOR not in text:
        return None
    half = load(text.split(SEPARATOR, 1)[1])
    return dict(half["tracking"]) if half else None


def code_tree(repo: Path, commit: str) -> str | None:
    """The root tree without `.workstreams/`, made by git itself."""
    listed = fixed(repo, "ls-tree", commit)
    if listed is None:
        return None
    kept = [line for line in listed.splitlines() if not line.endswith("\t.workstreams")]
    return _tree(repo, "".join(f"{line}\n" for line in kept))


@functools.cache
def _tree(repo: Path, listed: str) -> str | None:
    made = git(repo, "mktree", stdin=listed)
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
    return fixed(repo, "merge-base", "--is-ancestor", commit, tip) is not None


def passed(evidence: dict[str, Any]) -> bool:
    """Whether steps were run, and each of them passed."""
    runs = evidence.get("runs") or []
    return bool(runs) and all(not run.get("exit") for run in runs)


def read(
    repo: Path, task: str, workstream: str, branch: str, trunk: str = "refs/heads/main"
) -> Plain:
    """The state of one task."""
    path = f".workstreams/{workstream}/{task}.yaml"
    trunk, tip = commit_of(repo, trunk), commit_of(repo, f"refs/heads/{branch}")
    ours = tracking_of(repo, trunk, path)
    theirs = tracking_of(repo, tip, path) if tip else None
    landed = True
    chosen = ours
    if theirs is not None:
        bases = (fixed(repo, "merge-base", "--all", trunk, tip) or "").split()
        before = [said(tracking_of(repo, base, path)) for base in bases]
        if said(theirs) not in before and said(theirs) != said(ours):
            chosen, landed = theirs, False
        if not landed and said(theirs)[0] == "done":  # what trunk had and has no more is reverted
            once = (fixed(repo, "rev-list", "--first-parent", trunk, f"^{tip}") or "").split()
            if said(theirs) in [said(tracking_of(repo, commit, path)) for commit in once]:
                chosen, landed = ours, True
    status, evidence, _ = said(chosen)
    if chosen and chosen.get("task") != task:
        return Plain("unproven", evidence, landed)
    if status != "done":
        return Plain(status if status in {"active", "failed"} else "other", evidence, landed)
    if not evidence:
        return Plain("unproven", None, landed)
    commit = evidence["commit"]
    here = fixed(repo, "cat-file", "-e", f"{commit}^{{commit}}") is not None
    if (here and code_tree(repo, commit) != evidence["tree"]) or (not here and not landed):
        return Plain("unproven", evidence, landed)
    if not passed(evidence):
        return Plain("unproven", evidence, landed)
    card = load((fixed(repo, "show", f"{trunk}:{path}") or "").split(SEPARATOR)[0])
    stream = load(fixed(repo, "show", f"{trunk}:.workstreams/{workstream}/workstream.yaml") or "")
    if evidence["spec"] != digest(card, list(stream["paths"])):
        asked = had_spec(repo, trunk, path, evidence["spec"])
        return Plain("stale" if asked else "unproven", evidence, landed)
    if not landed and not contains(repo, tip, commit) and not contains(repo, trunk, commit):
        return Plain("stale", evidence, landed)
    return Plain("done", evidence, landed)


def had_spec(repo: Path, trunk: str, path: str, wanted: str) -> bool:
    """Whether the card ever had a spec with that digest on trunk."""
    folder = path.rpartition("/")[0]
    for commit in (fixed(repo, "rev-list", "--full-history", trunk, "--", folder) or "").split():
        text = fixed(repo, "show", f"{commit}:{path}")
        stream = fixed(repo, "show", f"{commit}:{folder}/workstream.yaml")
        if text and stream:
            card = load(text.split(SEPARATOR)[0])
            if digest(card, list(load(stream)["paths"])) == wanted:
                return True
    return False


def content(repo: Path, commit: str) -> str:
    """A digest of the paths and contents of a commit outside `.workstreams/`."""
    listed = fixed(repo, "ls-tree", "-r", "-z", commit) or ""
    files = {}
    for entry in listed.split("\0"):
        kind, _, path = entry.partition("\t")
        if path and not path.startswith(".workstreams/"):
            files[path] = kind.split()[2]
    names = sorted(files, key=str.encode)
    text = "".join(f"{line}\n" for line in (*names, *(files[n] for n in names)))
    return hashlib.sha256(text.encode()).hexdigest()


def spec_of(repo: Path, commit: str, path: str) -> str:
    """The spec half of a card, as text."""
    return (fixed(repo, "show", f"{commit}:{path}") or "").split(SEPARATOR)[0]


@dataclass(frozen=True, slots=True)
class Whole:
    """What the plain reader says of a plan: the state of each task and of each merge point."""

    states: dict[str, str]
    landed: dict[str, bool]  # of each task


def read_all(repo: Path, trunk: str = "refs/heads/main") -> Whole:
    """The state of everything on trunk, blocked, held and runnable told apart.

    For plans without batches. The branch of WS-A is ws/A.
    """
    trunk = commit_of(repo, trunk)
    listed = fixed(repo, "ls-tree", "-r", "--name-only", trunk, "--", ".workstreams") or ""
    cards: dict[str, tuple[str, Any]] = {}
    points: dict[str, tuple[str, Any]] = {}
    for path in listed.splitlines():
        folder, name = path.split("/")[-2:]
        if not name.endswith(".yaml") or name in {"config.yaml", "workstream.yaml"}:
            continue
        card = load((fixed(repo, "show", f"{trunk}:{path}") or "").split(SEPARATOR)[0])
        (points if folder == "merge-points" else cards)[name.removesuffix(".yaml")] = (folder, card)
    found = {
        task: Plain("cancelled", None, True)
        if card.get("cancelled")
        else read(repo, task, folder, f"ws/{folder.removeprefix('WS-')}", trunk)
        for task, (folder, card) in cards.items()
    }
    states = {task: plain.state for task, plain in found.items()}
    for point, (_, card) in points.items():
        states[point] = _point(repo, trunk, point, [states[t] for t in card["requires"]])
    held = _held(repo, trunk, cards)
    for task, (_, card) in cards.items():
        needs = set(card.get("depends_on") or [])
        needs |= {p for p, (_, other) in points.items() if task in (other.get("unlocks") or [])}
        if states[task] == "other":
            met = all(states.get(need) == "done" for need in needs)
            states[task] = "held" if task in held else "runnable" if met else "blocked"
    return Whole(states, {task: plain.landed for task, plain in found.items()})


def _held(repo: Path, trunk: str, cards: dict[str, tuple[str, Any]]) -> set[str]:
    """The tasks that an open gap names whose spec is still the one it was found with."""
    held = set()
    for task, (folder, _) in cards.items():
        path = f".workstreams/{folder}/{task}.yaml"
        tip = commit_of(repo, f"refs/heads/ws/{folder.removeprefix('WS-')}")
        copies = [tracking_of(repo, commit, path) for commit in (trunk, tip) if commit]
        gaps = [gap for copy in copies if copy for gap in copy.get("spec_gaps") or ()]
        over = {gap["text"] for gap in gaps if gap.get("resolved")}
        for gap in gaps:
            for name, found in (gap.get("affects") or {}).items():
                if gap["text"] not in over and found == _digest_on(repo, trunk, cards, name):
                    held.add(name)
    return held


def _digest_on(repo: Path, trunk: str, cards: dict[str, tuple[str, Any]], task: str) -> str | None:
    if task not in cards:
        return None
    folder, card = cards[task]
    stream = load(fixed(repo, "show", f"{trunk}:.workstreams/{folder}/workstream.yaml") or "")
    return digest(card, list(stream["paths"]))


def _point(repo: Path, trunk: str, point: str, required: list[str]) -> str:
    path = f".workstreams/merge-points/{point}.yaml"
    status, evidence, _ = said(tracking_of(repo, trunk, path))
    if status == "done" and evidence and passed(evidence):
        tree = code_tree(repo, evidence["commit"])
        if tree is None or tree == evidence["tree"]:
            return "done"
    if status != "done":
        line = fixed(repo, "rev-list", "--first-parent", trunk, "--", path) or ""
        for commit in line.split():
            if said(tracking_of(repo, commit, path))[0] == "done":
                return "reverted"
    return "ready" if set(required) == {"done"} else "blocked"
