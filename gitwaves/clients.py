"""The agent clients that people have: how each is called, and how to read what it prints.

A client is data: a `Profile`, and a reader for the dialect of its output. What a client says of its
own success is never believed; what it says of its session and its cost is worth recording.

Read off the real clients: Claude Code 2.1, Codex CLI 0.169, Gemini CLI 0.61 and opencode 1.18. That of
Cursor is built from its documentation alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from gitwaves.model import Profile
from gitwaves.patterns import regex
from gitwaves.record import Record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Git, as far as an agent needs it: nothing that moves another branch, rewrites or pushes.
GIT = ("status", "diff", "log", "show", "add", "commit", "rm", "mv", "restore", "ls-files", "grep")

_START = (
    "Your task is {task}: `gitwaves brief {task}` prints all that you need to know, and the file "
    "{brief} holds it. Read it, do it, and finish as it says."
)
_CLAUDE = (
    "claude", "-p", "--output-format", "stream-json", "--verbose",
    "--permission-mode", "acceptEdits", "--settings", "{settings}",
)  # fmt: skip
# In its sandbox Codex cannot commit unless it may write where commits go.
_CODEX = (
    "codex", "exec", "--json", "--sandbox", "workspace-write", "--add-dir={git_dir}",
    "--config={setting}", "--dangerously-bypass-hook-trust",
)  # fmt: skip
_GEMINI = (
    "gemini", "--approval-mode", "auto_edit", "--skip-trust", "-o", "stream-json",
    "--policy", "{settings}", "-p", "",
)  # fmt: skip

BUILT_IN: Mapping[str, Profile] = {
    "claude": Profile(
        command=_CLAUDE,
        resume=(*_CLAUDE, "--resume", "{session}"),
        open=("claude", "--session-id", "{session}", "--settings", "{settings}", "--", _START),
        client="claude",
        env={"CLAUDE_CODE_MAX_RETRIES": "4"},  # its default retries a refused key for minutes
    ),
    "codex": Profile(
        command=(*_CODEX, "-"),
        resume=(*_CODEX, "resume", "{session}", "-"),
        open=("codex", "--sandbox", "workspace-write", "--add-dir={git_dir}", _START),
        client="codex",
    ),
    "gemini": Profile(
        command=_GEMINI,
        resume=(*_GEMINI, "--resume", "{session}"),
        open=("gemini", "--session-id", "{session}", "-i", _START),
        client="gemini",
    ),
    "opencode": Profile(
        command=("opencode", "run", "--format", "json"),
        resume=("opencode", "run", "--format", "json", "-s", "{session}"),
        open=("opencode", "--prompt", _START),
        env={"OPENCODE_CONFIG": "{settings}"},
        client="opencode",
    ),
    # Not tried: there is no offline way to run it.
    "cursor": Profile(
        command=("agent", "-p", "--output-format", "stream-json", "--trust"),
        resume=("agent", "-p", "--output-format", "stream-json", "--trust", "--resume", "{session}"),
        open=("agent", _START),
        client="cursor",
    ),
}  # fmt: skip

# What shows a command which client runs it. Claude Code and Codex name their session so; opencode says
# only that it is there, and is to be asked for its sessions.
SHOWS = ("CLAUDE_CODE_SESSION_ID", "CODEX_THREAD_ID", "OPENCODE")
ASKED = ("opencode", "session", "list", "--format", "json", "--max-count", "100")
SESSION = regex(r"[A-Za-z0-9._-]{1,100}", re.ASCII)  # the id of one

# The file that each reads of a repository by itself, wherever it is opened.
MEMORY: Mapping[str, str] = {
    "claude": "CLAUDE.md",
    "codex": "AGENTS.md",
    "gemini": "GEMINI.md",
    "opencode": "AGENTS.md",
    "cursor": "AGENTS.md",
}

_LISTS = ("path", "step", "git_dir", "setting")
_WORDS = ("brief", "settings", "session", "task", "worktree")
_NAMED = regex(r"\{(" + "|".join((*_LISTS, *_WORDS)) + r")\}")


def filled(
    args: Iterable[str], words: Mapping[str, str], lists: Mapping[str, Sequence[str]]
) -> list[str]:
    """A command with its placeholders filled in.

    An argument that holds the name of a list stands once for each of its values; other braces stay.

    >>> filled(["a", "--dir={git_dir}", "{task}"], {"task": "A1"}, {"git_dir": ["x", "y"]})
    ['a', '--dir=x', '--dir=y', 'A1']
    """
    found = []
    for arg in args:
        name = next((n for n in _LISTS if f"{{{n}}}" in arg), None)
        values = lists.get(name, ()) if name else ("",)
        found += [_filled(arg, {**words, **({name: value} if name else {})}) for value in values]
    return found


def _filled(text: str, words: Mapping[str, str]) -> str:
    return _NAMED.sub(lambda match: words.get(match[1], match[0]), text)


# --- what a client prints ----------------------------------------------------------------------


class Said(Record):
    """What a client said of one run of itself."""

    client: str = ""  # whose dialect it was
    session: str | None = None
    turns: int = 0
    tokens: int = 0  # in and out, cached ones included
    of_session: bool = False  # the tokens are of all runs of that session so far
    money: float = 0.0  # US dollars; 0 where it does not say
    denied: tuple[str, ...] = ()  # what it was not allowed to do
    error: str | None = None
    limited: bool = False  # it was refused for having used too much
    until: float | None = None  # when that ends, seconds since 1970, where it is said
    last: str = ""  # the last thing it said or did, one line
    final: str = ""  # its answer at the end

    def cost(self) -> dict[str, float]:
        """What a card records of it; nothing that is 0."""
        known = {"turns": self.turns, "tokens": self.tokens, "money": round(self.money, 6)}
        return {name: value for name, value in known.items() if value}


_LIMIT = regex(r"usage limit|rate.?limit|\b429\b|quota|too many requests", re.IGNORECASE)
_UNTIL = regex(r"limit reached\|(\d{9,11})\b")


def read(client: str, output: str) -> Said:
    """What a client printed, in its own dialect; unknown or torn output costs the numbers only."""
    reader = _READERS.get(client)
    if reader is None:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        said = Said(client, last=_line(lines[-1]) if lines else "")
    else:
        said = Said(client)
        for event in _events(output):
            try:
                said = reader(said, event)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue  # of a version nobody has seen
    if said.error and _LIMIT.search(said.error):
        match = _UNTIL.search(said.error)
        said = replace(said, limited=True, until=float(match[1]) if match else None)
    return said


def readable(output: str) -> Iterator[str]:
    """A log as people read it: a line for each thing that a client said or did; other lines stay."""
    for line in output.splitlines():
        event = next(_events(line), None)
        if event is None:
            yield line
            continue
        for reader in _READERS.values():
            try:
                said = reader(Said(), event)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
            if said.last or said.error:
                yield said.error or said.last
                break


def _events(output: str) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                yield event


def _claude(said: Said, event: dict[str, Any]) -> Said:
    said = replace(said, session=_text(event.get("session_id")) or said.session)
    match event.get("type"):
        case "assistant":
            for part in event["message"]["content"]:
                said = replace(said, last=_part(part) or said.last)
        case "result":
            usage = event.get("usage") or {}
            said = replace(
                said,
                turns=int(event.get("num_turns") or 0),
                tokens=sum(int(v) for k, v in usage.items() if k.endswith("_tokens")),
                money=float(event.get("total_cost_usd") or 0),
                denied=tuple(_denied(d) for d in event.get("permission_denials") or ()),
                last=_line(event.get("result")) or said.last,
                final=str(event.get("result") or ""),
            )
            if event.get("is_error"):
                said = replace(said, error=_line(event.get("result")) or "an error")
    return said


def _part(part: dict[str, Any]) -> str:
    if part.get("type") == "text":
        return _line(part.get("text"))
    if part.get("type") == "tool_use":
        given = part.get("input") or {}
        what = given.get("command") or given.get("file_path") or given.get("description") or ""
        return _line(f"{part.get('name')}: {what}")
    return ""


def _denied(denial: dict[str, Any]) -> str:
    given = denial.get("tool_input") or {}
    return _line(f"{denial.get('tool_name')}: {given.get('command') or given.get('file_path')}")


def _codex(said: Said, event: dict[str, Any]) -> Said:
    match event.get("type"):
        case "thread.started":
            return replace(said, session=_text(event["thread_id"]))
        case "turn.completed":
            usage = event["usage"]
            tokens = int(usage["input_tokens"]) + int(usage["output_tokens"])
            return replace(said, turns=said.turns + 1, tokens=tokens, of_session=True)
        case "turn.failed":
            return replace(said, error=_line(event["error"]["message"]))
        case "item.started" | "item.completed":
            item = event["item"]
            what = item.get("command") or item.get("text") or ""
            said = replace(said, last=_line(what) or said.last)
            if item.get("type") == "agent_message":
                return replace(said, final=str(item.get("text") or ""))
    return said


def _gemini(said: Said, event: dict[str, Any]) -> Said:
    match event.get("type"):
        case "init":
            return replace(said, session=_text(event["session_id"]))
        case "message" if event.get("role") == "assistant":
            said = replace(said, last=_line(event.get("content")) or said.last)
            return replace(said, final=said.final + str(event.get("content") or ""))
        case "tool_use":
            given = event.get("parameters") or {}
            what = given.get("command") or given.get("file_path") or ""
            return replace(said, last=_line(f"{event.get('tool_name')}: {what}"))
        case "error":
            return replace(said, error=_line(event.get("message")))
        case "result":
            stats = event.get("stats") or {}
            said = replace(said, turns=said.turns + 1, tokens=int(stats.get("total_tokens") or 0))
            if event.get("status") not in {None, "success"}:
                error = event.get("error") or {}
                said = replace(said, error=_line(error.get("message")) or "an error")
    return said


def _opencode(said: Said, event: dict[str, Any]) -> Said:
    said = replace(said, session=_text(event.get("sessionID")) or said.session)
    part = event.get("part") or {}
    match event.get("type"):
        case "step_finish":
            tokens = part.get("tokens") or {}
            return replace(
                said,
                turns=said.turns + 1,
                tokens=said.tokens + int(tokens.get("total") or 0),
                money=said.money + float(part.get("cost") or 0),
            )
        case "text":
            said = replace(said, last=_line(part.get("text")) or said.last)
            return replace(said, final=str(part.get("text") or ""))
        case "tool_use":
            state = part.get("state") or {}
            given = state.get("input") or {}
            what = given.get("command") or given.get("filePath") or ""
            said = replace(said, last=_line(f"{part.get('tool')}: {what}"))
            if state.get("status") == "error":
                return replace(said, denied=(*said.denied, said.last))
        case "error":
            error = event.get("error") or {}
            data = error.get("data") or {}
            return replace(said, error=_line(data.get("message") or error.get("name")))
    return said


def _cursor(said: Said, event: dict[str, Any]) -> Said:
    said = replace(said, session=_text(event.get("session_id")) or said.session)
    match event.get("type"):
        case "assistant":
            for part in event["message"]["content"]:
                said = replace(said, last=_part(part) or said.last)
        case "result":
            said = replace(said, turns=said.turns + 1, last=_line(event.get("result")) or said.last)
            said = replace(said, final=str(event.get("result") or ""))
            if event.get("is_error"):
                said = replace(said, error=_line(event.get("result")) or "an error")
    return said


_READERS: Mapping[str, Callable[[Said, dict[str, Any]], Said]] = {
    "claude": _claude,
    "codex": _codex,
    "gemini": _gemini,
    "opencode": _opencode,
    "cursor": _cursor,
}
CLIENTS = ("text", *_READERS)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 200 else None


def _line(value: object) -> str:
    """The first line of a text, for one line of a screen."""
    lines = [line.strip() for line in str(value or "").splitlines() if line.strip()]
    return lines[0][:200] if lines else ""


def last_session(listed: str, worktree: str) -> str | None:
    """The session that was last at work in a worktree, of a list that opencode printed; None: none was.

    >>> last_session('[{"id": "ses_1", "directory": "/w/a", "updated": 7}]', "/w")
    'ses_1'
    """
    try:
        found = [
            (float(one["updated"]), str(one["id"]))
            for one in json.loads(listed)
            if f"{one['directory']}/".startswith(f"{worktree}/")
        ]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None  # of a version nobody has seen
    return max(found, default=(0.0, None))[1]


# --- settings of one run -----------------------------------------------------------------------


class Limits(Record):
    """What a client may do without asking, and how gitwaves is called from inside it."""

    paths: tuple[str, ...]  # the boundary, gitignore patterns; none: anything in the worktree
    steps: tuple[str, ...]  # the commands that verify the task
    gitwaves: tuple[str, ...]  # the command that is gitwaves, for hooks
    git: Sequence[str] = GIT


def settings(client: str, limits: Limits) -> str | None:
    """The text of a settings file for one run in a client's own format; None: it takes none."""
    commands = [*(f"git {verb}" for verb in limits.git), "gitwaves"]
    match client:
        case "claude":
            allow = [f"Bash({command}:*)" for command in commands]
            allow += [f"Bash({step})" for step in limits.steps]
            hooks = _hooks(client, limits)
            return json.dumps({"permissions": {"allow": allow}, "hooks": hooks}, indent=1)
        case "opencode":
            bash = {"*": "deny", **{f"{command}*": "allow" for command in commands}}
            bash.update(dict.fromkeys(limits.steps, "allow"))
            edit = _editable(limits.paths)
            return json.dumps({"permission": {"edit": edit, "bash": bash}}, indent=1)
        case "gemini":
            rules = [{"toolName": "run_shell_command", "commandPrefix": c} for c in commands]
            rules += [{"toolName": "run_shell_command", "commandPrefix": s} for s in limits.steps]
            return "\n".join(_toml_rule(rule) for rule in rules)
    return None


def _editable(paths: Sequence[str]) -> str | dict[str, str]:
    """A boundary as opencode's patterns, in which `*` takes slashes too and there is no `[a-z]`.

    >>> _editable(("a/**", "b"))
    {'*': 'deny', 'a/**': 'allow', 'b': 'allow', 'b/*': 'allow'}
    """
    if not paths or any(char in path for path in paths for char in "[\\"):
        return "allow"  # verification judges it anyway
    plain = [path.strip("/") for path in paths]
    allowed = {pattern: "allow" for path in plain for pattern in (path, f"{path}/*") if path}
    return {"*": "deny", **{p: a for p, a in allowed.items() if not p.endswith("*/*")}}


def overrides(client: str, limits: Limits) -> list[str]:
    """What a client takes as `key=value` on its command line instead of a file."""
    if client != "codex":
        return []
    return [f"hooks.{event}={_toml(groups)}" for event, groups in _hooks(client, limits).items()]


WRITES = "Edit|Write|MultiEdit|NotebookEdit|apply_patch"  # the tools that say what they write
SPAWNS = "Agent|Task"  # the tools that start a sub-agent
# Set where a client was given hooks for one run: those of the repository would ask twice.
GIVEN = "GITWAVES_HOOKS"
_BY_HAND = f'test -n "${GIVEN}" || ! command -v gitwaves >/dev/null || gitwaves hooks agent'


def _hooks(client: str, limits: Limits) -> dict[str, list[dict[str, Any]]]:
    """Claude Code's hooks, which Codex has too: deny before a write, send back before the end."""
    command = " ".join(_quoted(word) for word in (*limits.gitwaves, "hooks", "agent"))
    found = {"PreToolUse": _hook(command, 20, WRITES), "Stop": _hook(command, 3600)}
    if client == "codex":
        found["PreToolUse"] += _hook(_patching(command), 20, "Bash")
    else:
        found["WorktreeCreate"] = _hook(command, 1800)
    return found


def _patching(command: str) -> str:
    """A command that asks only about shell commands that are patches: Codex makes some so."""
    asks = f"printf '%s' \"$asked\" | {{ {command}; }}"
    return f"asked=$(cat); case $asked in *'*** Begin Patch'*) {asks};; esac"


def _hook(command: str, timeout: int, matcher: str = "") -> list[dict[str, Any]]:
    call = {"type": "command", "command": command, "timeout": timeout}
    return [{"matcher": matcher, "hooks": [call]}]


def repository_settings(client: str) -> dict[str, Any]:
    """What a repository's own settings say to lead a session opened by hand, for `claude`, `codex`.

    The hooks say nothing where gitwaves is not installed, or was given hooks of its own.
    """
    hooks = {
        "SessionStart": _hook(_BY_HAND, 60),
        "PreToolUse": _hook(_BY_HAND, 20, WRITES),
        "Stop": _hook(_BY_HAND, 3600),
    }
    if client == "codex":
        hooks["PreToolUse"] += _hook(_patching(_BY_HAND), 20, "Bash")
        return {"hooks": hooks}
    hooks["PreToolUse"] += _hook(_BY_HAND, 300, SPAWNS)
    hooks["SubagentStart"] = _hook(_BY_HAND, 60)
    hooks["SubagentStop"] = _hook(_BY_HAND, 3600)
    hooks["TaskCompleted"] = _hook(_BY_HAND, 60)
    hooks["WorktreeCreate"] = _hook("gitwaves hooks agent", 1800)  # without it there is none
    commands = (*(f"git {verb}" for verb in GIT), *(f"gitwaves {verb}" for verb in _LOOP))
    return {"permissions": {"allow": [f"Bash({c}:*)" for c in commands]}, "hooks": hooks}


# What an agent may call of gitwaves without asking a person.
_LOOP = ("status", "next", "show", "brief", "start", "verify", "learn", "gap", "logs", "merge")


def _quoted(word: str) -> str:
    return (
        word if re.fullmatch(r"[A-Za-z0-9_./=-]+", word) else "'" + word.replace("'", "'\\''") + "'"
    )


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}={_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _toml_rule(rule: Mapping[str, str]) -> str:
    body = "".join(f"{key} = {json.dumps(value)}\n" for key, value in rule.items())
    return f'[[rule]]\n{body}decision = "allow"\npriority = 500\n'
