"""Tables of design documents: what kind each is, by its header, and which column says what."""

from __future__ import annotations

from collections.abc import Sequence

_ID = frozenset({"id", "task id", "story id", "ticket", "ticket id", "#", "no.", "nr"})
_TASK = frozenset({"task", "story", "work item"})
_TITLE = frozenset({"title", "name", "task name", "task title", "story title", "summary"})
_TEXT = frozenset({"description", "task description", "details", "what"})
_POINT = frozenset({"point", "merge point", "mp", "merge"})

_COLUMNS = {
    "depends": "dependencies|dependency|depends on|depends|deps|needs|requires|blocked by",
    "paths": "files|file|paths|path|files touched|key files",
    "estimate": "estimate|estimated|estimated time|est|est.|effort|time|duration",
    "verify": "verify|verification|verify with|verified by",
    "acceptance": "acceptance|acceptance criteria",
    "batch": "batch",
    "workstream": "workstream|ws|stream",
    "branch": "branch|worktree|branch/worktree|worktree/branch",
    "agent": "agent",
    "produces": "produces|outputs|artifacts",
}
_KEYS = {name: key for key, names in _COLUMNS.items() for name in names.split("|")}
_POINT_COLUMNS = {
    "depends": "converging|converging tasks|converges|requires|trigger|dependencies|needs|tasks",
    "after": "after batch|after",
    "unlocks": "enables|unlocks|unblocks",
    "spec": "actions|actions required|action|description",
    "title": "title|name",
    "verify": "verify|verification",
}
_POINT_KEYS = {name: key for key, names in _POINT_COLUMNS.items() for name in names.split("|")}


def columns(header: Sequence[str]) -> tuple[str, list[str]]:
    """The kind of a table and the key of each column; "" where there is none.

    Kinds: `tasks`, `points`, `batches`, `workstreams`, and `worktrees` (which workstreams share a
    branch). A table of another kind holds nothing of the plan.

    >>> columns(["task", "description", "dependencies", "files"])
    ('tasks', ['id', 'title', 'depends', 'paths'])
    >>> columns(["id", "task", "description"]), columns(["wave", "tasks"])
    (('tasks', ['id', 'title', 'spec']), ('', ['', '']))
    >>> columns(["point", "after batch", "converging", "enables"])
    ('points', ['id', 'after', 'depends', 'unlocks'])
    """
    heads = set(header)
    if header[0] in _POINT:
        keys = ["id", *_once([_POINT_KEYS.get(head, "") for head in header[1:]])]
        return ("points", keys) if {"depends", "after", "unlocks"} & set(keys) else _nothing(header)
    if heads & {"workstreams", "workstream(s)"} and heads & {"worktree", "branch"}:
        return "worktrees", [_WORKTREE.get(head, "") for head in header]
    if header[0] == "batch" and heads & {"tasks", "task"} and not heads & _ID:
        return "batches", ["id", *("tasks" if h in {"tasks", "task"} else "" for h in header[1:])]
    if heads & (_ID | _TASK):
        keys = _task_columns(header)
        return ("tasks", keys) if {"title", "depends"} & set(keys) else _nothing(header)
    if header[0] in {"workstream", "ws", "stream"} and "tasks" not in heads:
        titles = _TITLE | _TEXT | {"service", "module", "component"}
        keys = ["id", *_once(["title" if h in titles else _KEYS.get(h, "") for h in header[1:]])]
        return (
            ("workstreams", keys) if {"title", "paths", "branch"} & set(keys) else _nothing(header)
        )
    return _nothing(header)


_WORKTREE = {
    "worktree": "worktree",
    "branch": "branch",
    "workstreams": "workstreams",
    "workstream(s)": "workstreams",
}


def _nothing(header: Sequence[str]) -> tuple[str, list[str]]:
    return "", [""] * len(header)


def _task_columns(header: Sequence[str]) -> list[str]:
    has_id = bool(set(header) & _ID)
    has_title = bool(set(header) & _TITLE) or (has_id and bool(set(header) & _TASK))
    keys = []
    for head in header:
        if head in _ID:
            keys.append("id")
        elif head in _TASK:
            keys.append("title" if has_id else "id")
        elif head in _TITLE:
            keys.append("title")
        elif head in _TEXT:
            keys.append("spec" if has_title else "title")
        else:
            keys.append(_KEYS.get(head, ""))
    return _once(keys)


def _once(keys: list[str]) -> list[str]:
    """The keys, each in its first column only."""
    return [key if key not in keys[:i] else "" for i, key in enumerate(keys)]
