"""How `check` says what it found: to people, to scripts, to a forge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gitwaves.cli import App, echo
from gitwaves.errors import UsageError
from gitwaves.model import Finding, Severity, printable

if TYPE_CHECKING:
    from gitwaves.checked import Answer

FORMATS = ("text", "json", "github")


def of_range(
    app: App, base: str, rev: str | None, branch: str | None
) -> tuple[list[dict[str, Any]], str]:
    """What is wrong with a range of commits, as findings, and what was looked at, in words."""
    from gitwaves.ranges import check

    done = check(app.store, base, rev, branch)
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


def of_plan(app: App, rev: str | None) -> Answer:
    """What is wrong with the cards of the working tree, or of a revision."""
    from gitwaves.checked import Tracked, found_in

    store, repo = app.store, app.repo
    listing = store.listed_at(rev)

    def tracked() -> list[str]:
        if rev is None:
            return repo.paths("ls-files", "-z", cwd=repo.top)
        return repo.paths("ls-tree", "-r", "-z", "--name-only", repo.resolve(rev) or rev)

    folder = repo.state_dir / "checked"
    return found_in(folder, *listing, lambda: store.cards_of(listing), Tracked(tracked))


def of_cards(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """What is wrong with the cards, as findings."""
    return [asdict(f) for f in findings]


def show(findings: Sequence[Mapping[str, Any]], form: str, looked_at: str) -> None:
    """Prints findings in one of `FORMATS`; what a person wants to know besides goes to stderr."""
    if form == "json":
        echo(json.dumps({"version": 1, "findings": findings}, indent=2, ensure_ascii=False))
        return
    for finding in findings:
        echo(_annotation(finding) if form == "github" else _line(finding))
    if not findings:
        echo(f"{looked_at}: nothing to say", err=True)
        return
    errors = sum(f["severity"] == Severity.ERROR for f in findings)
    warnings = len(findings) - errors
    echo(
        f"{errors} error{'' if errors == 1 else 's'}, "
        f"{warnings} warning{'' if warnings == 1 else 's'}",
        err=True,
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
