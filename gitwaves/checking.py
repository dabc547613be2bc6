"""What `check` looks at, and how it says what it found: to people, to scripts, to a forge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from gitwaves.checked import Answer, Design, Tracked, found_in
from gitwaves.errors import UsageError
from gitwaves.model import CONFIG_PATH, Finding, Severity, printable
from gitwaves.record import named_values_of
from gitwaves.shelf import Listing
from gitwaves.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMATS = ("text", "json", "github")


def of_range(
    store: Store, base: str, rev: str | None, branch: str | None
) -> tuple[list[dict[str, Any]], str]:
    """What is wrong with a range of commits, as findings, and what was looked at, in words."""
    from gitwaves.ranges import check

    done = check(store, base, rev, branch)
    findings = [
        {
            "path": breach.path,
            "line": breach.line,
            "column": 1,
            "severity": str(Severity.ERROR),
            "message": breach.message.removeprefix(printable(breach.path))
            .removeprefix(":")
            .strip(),
            "commit": breach.commit,
            "owner": breach.owner,
            "remedy": breach.remedy,
        }
        for breach in done.found
    ]
    commits = f"{done.commits} commit{'' if done.commits == 1 else 's'}"
    return findings, f"{commits} of {done.branch or 'no worktree'} since {base}"


def of_plan(store: Store, rev: str | None) -> tuple[list[Finding], str]:
    """What is wrong with the cards of the working tree or a revision, and what was looked at."""
    repo = store.repo
    listing = store.listed_at(rev)

    def tracked() -> list[str]:
        if rev is None:
            return repo.paths("ls-files", "-z", cwd=repo.top)
        return repo.paths("ls-tree", "-r", "-z", "--name-only", repo.resolve(rev) or rev)

    answer = of_files(store, listing, Tracked(tracked))
    findings = sorted([*answer.findings, *_design_changed(store, answer.design, rev)])
    return findings, f"{answer.tasks} tasks, {answer.points} merge points"


def of_files(store: Store, listing: Listing, tracked: Tracked) -> Answer:
    """What is wrong with the plan in some files, from what was found before where nothing counts."""
    folder = store.repo.state_dir / "checked"
    return found_in(folder, listing, lambda: store.shelf.read(listing)[0], tracked)


def _design_changed(store: Store, design: Design, rev: str | None) -> list[Finding]:
    """Whether the document that the cards were imported from is another one now."""
    trunk, path, blob, line = design
    if not path or not blob:
        return []
    commit = store.repo.resolve(rev or trunk)
    entry = store.repo.at(commit, path) if commit else None
    if commit is None or (entry is not None and entry.oid == blob):
        return []
    what = (
        f"changed since its import; run `gitwaves import {path}`"
        if entry
        else "is not on trunk any more"
    )
    return [Finding(CONFIG_PATH, *line, Severity.WARNING, f"{path} {what}")]


def of_cards(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """What is wrong with the cards, as findings."""
    return [named_values_of(f) for f in findings]


def said_of(
    findings: Sequence[Mapping[str, Any]], form: str, looked_at: str
) -> tuple[list[str], str | None]:
    """The lines that say findings in one of `FORMATS`, and what a person wants to know besides."""
    if form == "json":
        said = {"version": 1, "findings": findings}
        return [json.dumps(said, indent=2, ensure_ascii=False)], None
    lines = [_annotation(f) if form == "github" else _line(f) for f in findings]
    if not findings:
        return lines, f"{looked_at}: nothing to say"
    errors = sum(f["severity"] == Severity.ERROR for f in findings)
    warnings = len(findings) - errors
    return lines, (
        f"{errors} error{'' if errors == 1 else 's'}, "
        f"{warnings} warning{'' if warnings == 1 else 's'}"
    )


def require_format(form: str | None, as_json: bool) -> str:
    """The format that the options ask for.

    Raises:
        UsageError: they ask for two.
    """
    if as_json and form not in {None, "json"}:
        raise UsageError(f"--json and --format {form} are two formats", "say one of them")
    return "json" if as_json else form or "text"


def _said(finding: Mapping[str, Any]) -> str:
    text = str(finding["message"])
    if finding.get("commit"):
        text += f" (commit {finding['commit'][:10]}); {finding['remedy']}"
    return printable(text)


def _line(finding: Mapping[str, Any]) -> str:
    place = f"{finding['path']}:{finding['line']}:{finding['column']}"
    return f"{printable(place)}: {finding['severity']}: {_said(finding)}"


def _annotation(finding: Mapping[str, Any]) -> str:
    """A workflow command of GitHub Actions, which it shows beside the line."""
    places = {
        "file": finding["path"],
        "line": finding["line"],
        "col": finding["column"],
        "title": "gitwaves",
    }
    said = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in places.items())
    return f"::{finding['severity']} {said}::{_escaped(_said(finding))}"


def _escaped(text: str, also: str = "") -> str:
    """`text` as a workflow command holds it: what would end the value, as %XX."""
    for char in "%\r\n" + also:
        text = text.replace(char, f"%{ord(char):02X}")
    return text
