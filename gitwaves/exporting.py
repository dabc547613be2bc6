"""`export`: files that teach agent clients the plan and its loop, written for review on trunk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from gitwaves.brief import code
from gitwaves.clients import BUILT_IN, MEMORY, repository_settings
from gitwaves.errors import Refused
from gitwaves.halves import needs_quotes
from gitwaves.layout import cut, fit, oneline
from gitwaves.model import Cards, Workstream, WorkstreamId, natural
from gitwaves.patterns import regex
from gitwaves.planning import write_in
from gitwaves.record import Record, field
from gitwaves.store import Store
from gitwaves.words import titled

AGENTS = ".claude/agents"
SKILLS = (".claude/skills/gitwaves/SKILL.md", ".agents/skills/gitwaves/SKILL.md")
SETTINGS: Mapping[str, str] = {".claude/settings.json": "claude", ".codex/hooks.json": "codex"}
LEAD = "gitwaves-lead"
_MARK = "# Written by `gitwaves export claude-agents`"
_MARKED = f"{_MARK}, and again by the next; take this line out to keep a file of your own."
_LOOP_STARTS = "<!-- gitwaves: how tasks are done here -->"
_LOOP_ENDS = "<!-- gitwaves: end of how tasks are done here -->"
_PLAIN = regex(r"[A-Za-z][A-Za-z-]*(?:, [A-Za-z][A-Za-z-]*)*")
_TITLES = 40  # tasks that an agent's file lists


class Exported(Record):
    """What an export did, or with `check` would do."""

    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()  # what is somebody's own, a sentence each
    missing: Mapping[str, str] = field(default_factory=dict)  # to be added by hand: JSON, by path


def export(store: Store, *, check: bool = False) -> Exported:
    """Writes agents, skills and settings to trunk's working tree; a second time changes nothing.

    A file that somebody wrote is left as it is.

    Raises:
        Refused: this is not trunk's worktree.
    """
    snapshot = store.snapshot()
    here = store.repo.here()
    if here is None or here.branch != snapshot.trunk:
        raise Refused(
            f"these files are written on {snapshot.trunk}, for review",
            f"run this in the worktree of {snapshot.trunk}",
        )
    files = files_of(snapshot.cards)
    written, left = [], []
    for path, text in files.items():
        if why := _taken(here.path, path):
            left.append(f"{path}: {why}")
        elif not _same(here.path / path, text):
            written.append(path)
    for path in memory_files(snapshot.cards):
        target = here.path / path
        if why := _linked(here.path, path) or (
            "" if _text(target) is not None else "it is no text"
        ):
            left.append(f"{path}: {why}")
        elif (text := with_loop(_text(target) or "")) != _text(target):
            written.append(path)
            files[path] = text
    missing = {}
    for path, client in SETTINGS.items():
        wanted = repository_settings(client)
        if why := _linked(here.path, path):
            left.append(f"{path}: {why}")
        elif not (here.path / path).exists():
            written.append(path)
            files[path] = json.dumps(wanted, indent=2) + "\n"
        elif lacks := _lacking(here.path / path, wanted):
            missing[path] = json.dumps(lacks, indent=2)
    removed = [path for path in _ours(here.path) if path not in files]
    if not check:
        for path in written:
            write_in(here.path, path, files[path].encode())
        for path in removed:
            (here.path / path).unlink()
    return Exported(tuple(written), tuple(removed), tuple(left), missing)


# --- what is there -----------------------------------------------------------------------------


def _linked(top: Path, path: str) -> str:
    """Why a path leads elsewhere; empty where it does not."""
    parts = [top / part for part in (path, *map(str, Path(path).parents)) if part != "."]
    link = next((part for part in parts if part.is_symlink()), None)
    return f"{link.relative_to(top)} is a symbolic link" if link else ""


def _taken(top: Path, path: str) -> str:
    """Why a file may not be written over; empty where it may."""
    if why := _linked(top, path):
        return why
    target = top / path
    if not target.exists():
        return ""
    if not target.is_file():
        return "it is no file"
    return "" if _MARK.encode() in target.read_bytes()[:2000] else "somebody wrote it"


def _text(target: Path) -> str | None:
    """The text of a file, empty where there is none yet; None: it is something else."""
    if not target.exists():
        return ""
    try:
        return target.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def _same(target: Path, text: str) -> bool:
    return target.is_file() and target.read_bytes().replace(b"\r\n", b"\n") == text.encode()


def _ours(top: Path) -> list[str]:
    """The agents' files that an export wrote."""
    found = [f"{AGENTS}/{p.name}" for p in sorted((top / AGENTS).glob("*.md"))]
    return [p for p in found if not _taken(top, p)]


def _lacking(target: Path, wanted: Mapping[str, object]) -> dict[str, object]:
    """What of the settings that are wanted a file does not say; all where it cannot be read."""
    try:
        held = json.loads(target.read_bytes())
    except (OSError, ValueError, RecursionError):
        held = None
    if not isinstance(held, dict):
        return dict(wanted)
    found: dict[str, object] = {}
    for key, inner in wanted.items():
        there = held.get(key)
        assert isinstance(inner, dict)
        lacks = {}
        for name, entries in inner.items():
            listed = there.get(name) if isinstance(there, dict) else None
            known = listed if isinstance(listed, list) else []
            if more := [entry for entry in entries if entry not in known]:
                lacks[name] = more
        if lacks:
            found[key] = lacks
    return found


# --- the files ---------------------------------------------------------------------------------


def files_of(cards: Cards) -> dict[str, str]:
    """All agents and skills of a plan, by path."""
    names = members(cards)
    files = {
        f"{AGENTS}/{stream}.md": _member(cards, cards.workstreams[stream], name)
        for stream, name in names.items()
    }
    files[f"{AGENTS}/{LEAD}.md"] = _lead(cards, names)
    return files | dict.fromkeys(SKILLS, _skill(cards))


def memory_files(cards: Cards) -> list[str]:
    """The files that lead whoever opens a client here: those of learnings, and of the plan's agents."""
    agents = {cards.config.agent}
    agents |= {s.agent for s in cards.workstreams.values() if s.agent}
    agents |= {t.agent for t in cards.tasks.values() if t.agent}
    known = {**BUILT_IN, **cards.config.profiles}
    read = {MEMORY.get(known[name].client) for name in agents if name in known}
    return sorted({*cards.config.learnings, *filter(None, read)})


def with_loop(text: str) -> str:
    """A memory file with the section that leads to the loop; nothing outside its markers is touched."""
    end = "\r\n" if "\r\n" in text else "\n"
    section = end.join([_LOOP_STARTS, *_LEAD_IN.splitlines(), _LOOP_ENDS])
    whole = rf"^{_LOOP_STARTS}(?=\r?$).*?^{_LOOP_ENDS}(?=\r?$)"
    found = re.search(whole, text, re.MULTILINE | re.DOTALL)
    if found:
        return text[: found.start()] + section + text[found.end() :]
    if text and not text.endswith("\n"):
        text += end
    return text + end * bool(text) + section + end


def members(cards: Cards) -> dict[WorkstreamId, str]:
    """The name of each workstream's agent: lower case and hyphens, as clients want it.

    >>> from tests.plans import cards_of
    >>> members(cards_of("A1; B1"))
    {'WS-A': 'ws-a', 'WS-B': 'ws-b'}
    """
    names: dict[WorkstreamId, str] = {}
    for stream in sorted(cards.workstreams, key=natural):
        plain = re.sub(r"[^a-z0-9]+", "-", stream.lower()).strip("-")
        taken = {LEAD, *names.values()}
        numbered = (f"{plain}-{n}" for n in range(2, len(taken) + 3))
        names[stream] = next(n for n in (plain, *numbered) if n not in taken)
    return names


def _fronted(fields: Mapping[str, str], body: str) -> str:
    """A file with front matter: what could be read otherwise is quoted, as JSON, which is YAML."""
    lines = [
        f"{key}: {value if _PLAIN.fullmatch(value) and not needs_quotes(value) else _quoted(value)}"
        for key, value in fields.items()
    ]
    return "\n".join(["---", _MARKED, *lines, "---", "", body.strip(), ""])


def _quoted(text: str) -> str:
    return json.dumps(oneline(text), ensure_ascii=False)


def _listed(texts: Iterable[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


_LOOP = """\
1. `gitwaves brief ID` says what to build, where, how it is verified, and what the tasks before it \
taught. Read all of it first.
2. Work, and commit on this branch as you go. Keep to the boundary; leave `.workstreams/` alone, do \
not switch branches, do not push.
3. `gitwaves verify` runs the task's steps. Repair and commit until it says that the task is done.
4. What others should know goes into the last lines of a commit message: `Learned: …`. Where the \
spec is wrong, or leaves something open, `Spec-gap: …`, rather than a guess."""


_LEAD_IN = """\
This repository is planned with gitwaves. In the worktree of a workstream, `gitwaves brief` says which
task is at work there and all that it needs: read it first, keep to its boundary, commit, and run
`gitwaves verify` until it passes. Elsewhere, `gitwaves next` says what can be started, and
`gitwaves start ID` prepares its worktree. What is under `.workstreams/` is not written by hand."""


def _member(cards: Cards, stream: Workstream, name: str) -> str:
    tasks = [t for t in sorted(cards.tasks, key=natural) if cards.folders[t] == stream.id]
    live = [t for t in tasks if cards.tasks[t].cancelled is None]
    ids = fit(live, 60, sep=", ") if live else "it has none yet"
    shared = cards.config.shared_paths
    boundary = [code(path) for path in stream.paths] or ["anything: it has no boundary"]
    if shared:
        boundary.append(f"and what anyone may change: {', '.join(map(code, shared))}")
    listed = [f"{t}: {oneline(cards.tasks[t].title)}" for t in live]
    more = [f"and {len(listed) - _TITLES} more"] * (len(listed) > _TITLES)
    body = f"""\
You build {titled(stream)}, one task at a time, the one that your prompt names.

Your working directory is the worktree of {code(stream.branch)}, with trunk and all that your task \
needs in it. If `git branch --show-current` says another branch, stop and say so: you would be in \
somebody else's way.

## The loop

{_LOOP}

End with a line on what you built, and the `Learned:` and `Spec-gap:` lines once more, if there are any.

## Boundary

Change only:

{_listed(boundary)}

All else belongs to others, and is refused: before a write, by the commit hook, by verification.

## Tasks

{_listed([*listed[:_TITLES], *more]) or "It has none yet."}
"""
    fields = {
        "name": name,
        "description": cut(f"Does one task of {titled(stream)}; name it by its id ({ids}).", 500),
        "tools": "Read, Glob, Grep, Edit, Write, NotebookEdit, Bash",
        "isolation": "worktree",
    }
    return _fronted(fields, body)


def _lead(cards: Cards, names: Mapping[WorkstreamId, str]) -> str:
    agents = [
        f"`{name}` for {titled(cards.workstreams[stream])}, in the worktree of "
        f"{code(cards.workstreams[stream].branch)}"
        for stream, name in names.items()
    ]
    body = f"""\
You lead agents that build {oneline(cards.config.title) or "this plan"} at the same time. You write \
no code: you dispatch, look, and land.

## The loop

1. `gitwaves next` lists the tasks that can start now, the most urgent first; a line in brackets \
says which of them wait for their worktree.
2. Give each, up to {cards.config.agents} at once, to the agent of its workstream: several calls of \
the Agent tool in one message, each with the task's id in its prompt ("Do A1."). Never two tasks of \
one worktree at the same time. Each agent gets its worktree and its base from gitwaves.
3. When one ends, `gitwaves status` says what is true; what an agent says of itself is not. A task \
that is not done goes to its agent again, with what `gitwaves logs ID` shows.
4. When `gitwaves status` says that a merge point is ready, `gitwaves merge ID` lands it. A conflict \
names the files and the two tasks: it is for a person, unless its resolution is plain.
5. Go on with 1 until nothing is left, then `gitwaves merge --rest`.

Where nothing can start, `gitwaves show ID` says what a task waits for. A task that is held waits for \
a spec gap: tell the person, with the text of the gap.

If you keep a task list, begin the subject of each entry with the id ("A1: Ledger schema"): it can \
only be completed once gitwaves says that the task is done.

## The agents

{_listed(agents) or "There are none yet: the plan has no workstreams."}
"""
    fields = {
        "name": LEAD,
        "description": "Dispatches a wave of planned tasks to the agents of their workstreams, and "
        "lands merge points. Start it as the session's own agent: claude --agent gitwaves-lead.",
    }
    return _fronted(fields, body)


def _skill(cards: Cards) -> str:
    body = f"""\
# Working in a repository that is planned with gitwaves

The plan of {oneline(cards.config.title) or "this repository"} stands in `.workstreams/`: a card a \
task, cut from an approved design doc. Each workstream has a branch and a worktree of its own, and a \
task is done when its verification passed on what is committed. State is read from Git; nobody \
writes it by hand.

## Which task is mine?

- In a worktree of a workstream, `gitwaves status` names the task at work in it.
- Elsewhere, `gitwaves next` says what can start, and `gitwaves start ID` prepares its worktree and \
prints the path. Work there, not in the checkout of {code(cards.config.trunk)}.

## The loop

{_LOOP}

## When something is in the way

- `gitwaves show ID` says what a task waits for, down to what is at work.
- A refused write or commit names the owner of the path. If your task cannot be done without it, \
that is a spec gap: say so, and stop.
- `gitwaves gap ID "what is wrong" --affects B5,B6` holds the tasks that a wrong spec would mislead.
- `gitwaves learn ID "what others should know"` records what comes to mind after the commit.
- `gitwaves logs ID` has the whole log of the last verification.
"""
    fields = {
        "name": "gitwaves",
        "description": "How to do a planned task in this repository: its brief, its boundary, its "
        "verification. Use it whenever a task id such as A1 is named, when asked what to do next, or "
        "before changing files in a worktree of .workstreams.",
    }
    return _fronted(fields, body)
