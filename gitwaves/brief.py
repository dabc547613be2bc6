"""The brief of a task: the one text that an agent is given to work from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from gitwaves.errors import UsageError
from gitwaves.graph import Graph, graph_of
from gitwaves.layout import fit, oneline
from gitwaves.model import (
    DEFAULT_VERIFY_TIMEOUT,
    Progress,
    Step,
    Task,
    TaskId,
    Workstream,
    duration,
    natural,
    printable,
)
from gitwaves.patterns import regex
from gitwaves.state import Facts
from gitwaves.words import require_node, titled

BUDGET = 24_000  # characters
LOG_LEAST, SPEC_LEAST = 1_500, 1_000  # what a cut leaves, if there was so much
NEIGHBOURS = 600  # characters for the boundaries of others
BUILT = 40  # lines for what the tasks before it built

_ANSI = regex(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_FENCE = regex(r"( {0,3})(`{3,}|~{3,})(.*)")


def brief(
    progress: Progress,
    task_id: TaskId,
    *,
    budget: int = BUDGET,
    failure: str | None = None,
    attempt: int = 1,
    worktree: str | None = None,
) -> str:
    """What an agent needs to know to do a task, as Markdown, in `budget` characters.

    `failure` is the end of the log of the attempt before. Too long a brief loses learnings first
    (the nearest task's last), then the beginning of the log, then the end of the spec, with a
    pointer to the card; what binds the agent (acceptance, boundary, steps, rules) is never cut.

    Raises:
        UsageError: `task_id` is not a task.
    """
    node = require_node(progress, task_id)
    if node not in progress.tasks:
        raise UsageError(f"{oneline(task_id)} is not a task", "only tasks have a brief")
    card = progress.cards.tasks[task_id]
    graph = graph_of(progress.cards)
    nearest = tuple(_nearest(graph, task_id))
    opening = _opening(progress, graph, card, attempt, worktree)
    binding = _binding(progress, card, nearest)
    gaps = _gaps(progress, task_id)
    finish = _finish(progress.cards.branch_of(task_id))
    spec = whole = _tidy(card.spec).strip("\n")
    log = _log(failure or "")
    learned = list(_learned(progress, task_id, nearest))
    # No more than could ever fit, so that what follows may try one after another.
    known = learned[: sum(size <= budget for size in accumulate(map(len, learned)))]

    def text(spec: str, log: str, known: Sequence[str]) -> str:
        sections = (
            opening,
            _spec(card, spec, cut=spec != whole),
            binding,
            _taught(task_id, known, len(learned) - len(known)),
            gaps,
            _failed(log, attempt),
            finish,
        )
        return "\n\n".join(section for section in sections if section) + "\n"

    def over() -> int:
        return len(text(spec, log, known)) - budget

    while known and over() > 0:
        known = known[:-1]
    for _ in range(3):  # a cut changes a fence or adds a pointer: twice is enough, thrice is sure
        if (excess := over()) > 0 and len(log) > LOG_LEAST:
            log = _end(log, max(len(log) - excess, LOG_LEAST))
    for _ in range(3):
        if (excess := over()) > 0 and len(spec) > SPEC_LEAST:
            spec = _beginning(spec, max(len(spec) - excess, SPEC_LEAST))
    return text(spec, log, known)


# --- sections ---


def _opening(
    progress: Progress, graph: Graph, card: Task, attempt: int, worktree: str | None
) -> str:
    stream = progress.cards.workstream_of(card.id)
    plan = oneline(progress.cards.config.title)
    where = f" in the worktree {code(worktree)}" if worktree else ""
    lines = [
        f"# {card.id}: {oneline(card.title)}",
        "",
        f"You are doing task {card.id}" + f" of {plan}" * bool(plan) + f": part of workstream "
        f"{titled(stream)}, on the branch {code(stream.branch)}{where}.",
    ]
    if batch := progress.schedule.batch_of.get(card.id):
        wave = progress.schedule.wave_of.get(card.id, 1)
        lines[-1] += f" It is in batch {batch}, wave {wave}."
    if waiting := graph.dependents(card.id):
        lines[-1] += f" Waiting for it: {fit(waiting, 200, sep=', ')}."
    if attempt > 1:
        lines[-1] += f" This is attempt {attempt}."
    return "\n".join(lines)


def _spec(card: Task, spec: str, cut: bool) -> str:
    body = spec + _closing(spec) or "The card gives no spec: the title is all there is."
    if cut:
        body += f"\n\n(Cut here. Read the rest in {code(card.path)}.)"
    return f"## What to build\n\n{body}"


def _binding(progress: Progress, card: Task, nearest: Sequence[str]) -> str:
    """What has to hold in the end, and what may be changed to get there."""
    stream = progress.cards.workstream_of(card.id)
    parts = []
    if card.acceptance:
        parts += ["## Acceptance", _listed(card.acceptance)]
    parts += ["## Boundary", *_boundary(progress, card, stream)]
    if card.produces:
        parts += ["## What must exist in the end", _listed(map(code, card.produces))]
    parts += ["## How it is verified", _verification(card.verify)]
    before = [TaskId(node) for node in nearest if node in progress.cards.tasks]
    if before:
        built = [_built(progress.cards.tasks[task]) for task in before[:BUILT]]
        more = [f"and {len(before) - BUILT} more"] * (len(before) > BUILT)
        parts += ["## What the tasks before it built", _listed([*built, *more])]
    return "\n\n".join(parts)


def _built(task: Task) -> str:
    produced = f": {', '.join(map(code, task.produces))}" * bool(task.produces)
    return f"{task.id}: {oneline(task.title)}{produced}"


def _boundary(progress: Progress, card: Task, stream: Workstream) -> list[str]:
    shared = progress.cards.config.shared_paths
    parts = []
    if card.paths:
        parts += [f"Change only what matches one of these, within {titled(stream)}:"]
    elif stream.paths:
        parts += ["Change only what matches one of these:"]
    parts += [_listed(map(code, paths)) for paths in (card.paths or stream.paths,) if paths]
    if card.paths and stream.paths:
        parts += [f"The boundary of {stream.id}: {', '.join(map(code, stream.paths))}."]
    if shared:
        parts += [f"Anyone may change: {', '.join(map(code, shared))}."]
    parts += ["Everything else is refused by the commit hook, and again by verification."]
    others = [
        f"{name} owns {', '.join(map(code, other.paths))}"
        for name, other in sorted(progress.cards.workstreams.items(), key=lambda w: natural(w[0]))
        if name != stream.id and other.paths
    ]
    if others:
        parts += [f"Neighbours: {fit(others, NEIGHBOURS, sep='; ')}."]
    return parts


def _verification(steps: Iterable[Step]) -> str:
    lines = []
    for number, step in enumerate(steps, 1):
        bullet = f"{number}. "
        notes = ["always, a tear-down"] * step.always
        if step.timeout != DEFAULT_VERIFY_TIMEOUT:
            notes.append(f"at most {duration(step.timeout)}")
        note = f" ({', '.join(notes)})" * bool(notes)
        if step.manual is not None:
            lines.append(_item(bullet, f"A person confirms: {_tidy(step.manual)}"))
        elif "\n" in (command := _tidy(step.run or "").strip("\n")):
            lines.append(_item(bullet, f"The script{note}:\n{fenced(command, 'sh')}"))
        else:
            lines.append(f"{bullet}{code(command)}{note}")
    return "\n".join(lines) or "The card has no steps yet: it cannot be verified."


def _taught(task: TaskId, known: Sequence[str], left_out: int) -> str:
    if not known and not left_out:
        return ""
    lines = list(known) + [f"and {left_out} more: `gitwaves show` of those tasks"] * bool(left_out)
    return f"## What was learned on the way to {task}\n\n{_listed(lines)}"


def _gaps(progress: Progress, task: TaskId) -> str:
    touching = [
        f"{gap.task}: {_tidy(gap.text)}"
        for gap in progress.gaps
        if task in gap.affects or gap.task == task
    ]
    return f"## Open spec gaps\n\n{_listed(touching)}" if touching else ""


def _failed(log: str, attempt: int) -> str:
    if not log:
        return ""
    number = f" (attempt {attempt - 1})" if attempt > 1 else ""
    return f"## The attempt before failed{number}\n\nThe end of its log:\n\n{fenced(log, 'text')}"


def _finish(branch: str) -> str:
    return f"""## How to finish

1. Stay in this worktree, on the branch {code(branch)}: do not switch branches, do not push, and \
do not edit anything under `.workstreams/`.
2. Commit your work on this branch.
3. Run `gitwaves verify` in this worktree; it needs no id. Once it passes on what is committed, \
the task is recorded as done. If it fails, repair, commit and run it again. (If nothing had to \
change: `gitwaves verify --unchanged`.)
4. What other tasks should know goes into the last lines of a commit message, as \
`Learned: what you learned`. Where the spec is wrong or leaves something open, say so there as \
`Spec-gap: what is wrong`, rather than guess in silence."""


# --- what came before ---


def _nearest(graph: Graph, task: TaskId) -> Iterator[str]:
    """Everything that `task` needs, the nearest first, then in natural order."""
    seen = {str(task)}
    level: list[str] = [task]
    while level:
        fresh = {need for node in level for need in graph.needs(node)} - seen
        level = sorted(fresh, key=natural)
        seen.update(level)
        yield from level


def _learned(progress: Progress, task: TaskId, nearest: Iterable[str]) -> Iterator[str]:
    noted = set(Facts.of(progress.facts).noted)
    for node in (task, *nearest):
        if node in noted:
            for learning in progress.facts[node].tracking.learnings:
                yield f"{node}: {_tidy(learning)}"


# --- Markdown ---


def code(text: str) -> str:
    """`text` as inline code, whatever backticks it holds.

    >>> print(code("a"), code("a`b"))
    `a` ``a`b``
    """
    text = oneline(text)
    ticks = "`" * (_longest(text, "`") + 1)
    pad = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def fenced(text: str, info: str = "") -> str:
    """`text` in a fence longer than any run of backticks in it.

    >>> print(fenced("```"))
    ````
    ```
    ````
    """
    fence = "`" * max(_longest(text, "`") + 1, 3)
    return f"{fence}{info}\n{text}\n{fence}"


def _longest(text: str, char: str) -> int:
    return max(map(len, re.findall(f"{char}+", text)), default=0)


def _closing(text: str) -> str:
    """What closes the fence that `text` leaves open, if it does.

    Indented as the fence is: one in a list is closed inside the list, or it would open another.
    """
    indent = fence = ""
    for line in text.split("\n"):
        if match := _FENCE.match(line):
            ticks, info = match[2], match[3].strip()
            if not fence and not (ticks[0] == "`" and "`" in info):
                indent, fence = match[1], ticks
            elif fence and ticks.startswith(fence) and not info:
                fence = ""
    return f"\n{indent}{fence}" if fence else ""


def _listed(texts: Iterable[str]) -> str:
    return "\n".join(_item("- ", _tidy(text)) for text in texts)


def _item(bullet: str, text: str) -> str:
    first, *others = text.strip().split("\n")
    indent = " " * len(bullet)
    return "\n".join([bullet + first, *((indent + line).rstrip() for line in others)])


def _tidy(text: str) -> str:
    """`text` with line ends as Git has them and other control characters escaped; tabs stay."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)


def _log(text: str) -> str:
    """A log as it would be read: no colours, no blank ends."""
    plain = _ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _tidy(plain).strip("\n")


def _end(text: str, size: int) -> str:
    """About the last `size` characters of `text`, whole lines where there are any."""
    if len(text) <= size:
        return text
    kept = text[len(text) - max(size - len("...\n"), 1) :]
    return "...\n" + (kept.partition("\n")[2] or kept)


def _beginning(text: str, size: int) -> str:
    """About the first `size` characters of `text`, whole lines where there are any."""
    kept = text[:size]
    return kept if len(text) <= size else (kept.rpartition("\n")[0] or kept)
