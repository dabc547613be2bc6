"""What a change of the plan means: the cards of two revisions, compared by what they say. Pure.

Comments, order of keys and quoting are no part of a card that was read, so they are no change here.
`review_formats` writes a review down.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import SequenceMatcher

from gitwaves.errors import CycleError
from gitwaves.graph import Graph, graph_of
from gitwaves.model import (
    DEFAULT_VERIFY_TIMEOUT,
    ROOT,
    BatchState,
    Cards,
    Config,
    Fact,
    Finding,
    MergePoint,
    PointId,
    Profile,
    Progress,
    Severity,
    State,
    Status,
    Step,
    Task,
    TaskId,
    Verdict,
    Workstream,
    WorkstreamId,
    duration,
    natural,
)
from gitwaves.plan import progress, schedule
from gitwaves.record import Record, replace
from gitwaves.simulation import Work, play
from gitwaves.state import Facts
from gitwaves.words import name_of

ADDED, REMOVED, CHANGED, UNREADABLE = "added", "removed", "changed", "unreadable"
# The parts of a card under which nobody can go on working as before.
_UNDERFOOT = frozenset(
    {"verify", "spec", "acceptance", "boundary", "paths", "produces", "needs", "cancelled"}
)


class Line(Record):
    """A line of a comparison: `sign` is `+`, `-` or a blank."""

    sign: str
    text: str


class Part(Record):
    """One part of a thing that changed: said in one line, or as lines that came and went."""

    name: str
    said: str = ""
    lines: tuple[Line, ...] = ()


class Change(Record):
    """What became of one task, merge point, workstream or of the settings (`config`)."""

    kind: str
    id: str
    how: str  # added, removed, changed, or unreadable: there, but no card any more
    title: str
    parts: tuple[Part, ...] = ()
    code: tuple[Line, ...] = ()  # commands, which will run: before and after, in full


class AtWork(Record):
    """A task that is being worked on while its card changes."""

    task: TaskId
    agent: str
    branch: str
    parts: tuple[str, ...]


class Measures(Record):
    """What a plan comes to, in seconds; of what is left to do."""

    tasks: int
    batches: int
    critical_path: tuple[str, ...]
    critical: int
    work: int
    makespan: int  # with the plan's own number of agents
    agents: int


class Review(Record):
    """A change of a plan. `before` and `after` are None where the plan cannot be put in order."""

    changes: tuple[Change, ...]
    moved: tuple[str, ...]  # what stands differently at once: `A1: done -> stale (…)`
    at_work: tuple[AtWork, ...]
    findings: tuple[Finding, ...]  # that it introduces
    settled: tuple[Finding, ...]  # that it puts right
    before: Measures | None
    after: Measures | None
    broken: bool  # the plan has errors after it, whoever made them

    @property
    def empty(self) -> bool:
        """Whether nothing of the plan changed."""
        return not (self.changes or self.findings or self.settled)


def compare(
    old: Cards,
    new: Cards,
    facts: Mapping[str, Fact],
    findings: tuple[Sequence[Finding], Sequence[Finding]],
    *,
    trunk: Cards | None = None,
    same: Collection[str] = (),
) -> Review:
    """What it means to change the plan from `old` to `new`.

    Args:
        facts: what history says now of tasks and merge points; may be empty.
        findings: all that `check` finds in `old`, and in `new`.
        trunk: the cards that the facts are of, where they are known: no others need be opened then.
        same: the paths of files that are the same in both, as far as that is known.
    """
    facts = Facts.of(facts)
    changes = tuple(_changes(old, new, same))
    was, now = _now(old, facts), _now(new, _judged(new, facts, trunk))
    seen = {_key(f) for f in findings[0]}
    left = {_key(f) for f in findings[1]}
    return Review(
        changes,
        tuple(_moved(was, now)) if was is not None and now is not None else (),
        tuple(_at_work(old, facts, changes)),
        tuple(f for f in findings[1] if _key(f) not in seen),
        tuple(f for f in findings[0] if _key(f) not in left),
        _measures(was),
        _measures(now),
        any(f.severity is Severity.ERROR for f in findings[1]),
    )


def _key(finding: Finding) -> tuple[str, str, str]:
    """A finding wherever it stands: a line that moves is nothing new."""
    return finding.path, finding.severity, finding.message


def _now(cards: Cards, facts: Facts) -> Progress | None:
    graph = graph_of(cards)
    try:
        return progress(cards, graph, schedule(cards, graph), facts)
    except CycleError:
        return None


# --- what changed ---


def _changes(old: Cards, new: Cards, same: Collection[str]) -> Iterable[Change]:
    graphs = graph_of(old), graph_of(new)
    unread = {f.path for f in new.findings if f.severity is Severity.ERROR}
    if (config := _config(old.config, new.config)) is not None:
        yield config
    for workstream in _both(old.workstreams, new.workstreams):
        change = _workstream(
            old.workstreams.get(WorkstreamId(workstream)),
            new.workstreams.get(WorkstreamId(workstream)),
        )
        if change is not None:
            lost = change.how == REMOVED and f"{ROOT}/{workstream}/workstream.yaml" in unread
            yield replace(change, how=UNREADABLE) if lost else change
    for name in _both([*old.tasks, *old.merge_points], [*new.tasks, *new.merge_points]):
        if same and _stands(name, old, new, graphs, same):
            continue
        a = old.tasks.get(TaskId(name)) or old.merge_points.get(PointId(name))
        b = new.tasks.get(TaskId(name)) or new.merge_points.get(PointId(name))
        if (change := _card(a, b, old, new, graphs)) is not None:
            lost = change.how == REMOVED and a is not None and a.path in unread
            yield replace(change, how=UNREADABLE) if lost else change


def _stands(
    name: str, old: Cards, new: Cards, graphs: tuple[Graph, Graph], same: Collection[str]
) -> bool:
    """Whether nothing can be said of a card, told without opening it: it, and what it needs, is as before."""
    task = TaskId(name)
    if task not in old.folders or task not in new.folders:
        return False
    where = old.path_of(task)
    if where != new.path_of(task) or where not in same:
        return False
    return set(graphs[0].needs(name)) == set(graphs[1].needs(name))


def _both(old: Iterable[str], new: Iterable[str]) -> list[str]:
    return sorted({*old, *new}, key=natural)


def _card(
    old: Task | MergePoint | None,
    new: Task | MergePoint | None,
    before: Cards,
    after: Cards,
    graphs: tuple[Graph, Graph],
) -> Change | None:
    card = new or old
    if card is None:
        return None
    kind = "task" if isinstance(card, Task) else "merge point"
    code = compared(_commands(old.verify if old else ()), _commands(new.verify if new else ()))
    if old is None or new is None:
        how = ADDED if old is None else REMOVED
        where = after if old is None else before
        parts = _facts_of(card, where, graphs[old is None])
        if how == REMOVED:
            parts = tuple(part for part in parts if not part.lines)
        return Change(kind, card.id, how, card.title, parts, code if how == ADDED else ())
    parts = tuple(p for p in _parts(old, new, before, after, graphs) if p.said or p.lines)
    changed = any(line.sign != " " for line in code)
    if not parts and not changed:
        return None
    return Change(kind, card.id, CHANGED, new.title, parts, code if changed else ())


def _facts_of(card: Task | MergePoint, cards: Cards, graph: Graph) -> tuple[Part, ...]:
    """What is said of a card that is new, or gone."""
    needs = ", ".join(graph.needs(card.id)) or "nothing"
    if isinstance(card, MergePoint):
        return (Part("requires", needs),)
    found = [Part("in", card.workstream)]
    if card.batch is not None:
        found.append(Part("batch", card.batch))
    found.append(Part("needs", needs))
    if card.estimate is not None:
        found.append(Part("estimate", duration(card.estimate)))
    if card.cancelled is not None:
        found.append(Part("cancelled", card.cancelled))
    if card.spec.strip():
        found.append(Part("spec", lines=_marked("+", card.spec)))
    if card.acceptance:
        found.append(Part("acceptance", lines=tuple(Line("+", text) for text in card.acceptance)))
    return tuple(found)


def _parts(
    old: Task | MergePoint,
    new: Task | MergePoint,
    before: Cards,
    after: Cards,
    graphs: tuple[Graph, Graph],
) -> Iterable[Part]:
    yield Part("title", _from_to(old.title, new.title))
    if isinstance(old, MergePoint) or isinstance(new, MergePoint):
        yield _ids("requires", graphs[0].needs(old.id), graphs[1].needs(new.id))
        yield _ids("unlocks", graphs[0].dependents(old.id), graphs[1].dependents(new.id))
        yield Part("spec", lines=_diff(old.spec, new.spec))
        return
    if old.cancelled != new.cancelled:
        yield Part("cancelled" if new.cancelled is not None else "taken up again", _why(old, new))
    yield Part("workstream", _from_to(old.workstream, new.workstream))
    yield Part("batch", _from_to(old.batch or "", new.batch or ""))
    was, now = set(graphs[0].needs(old.id)), set(graphs[1].needs(new.id))
    points = {n for n in was | now if n in before.merge_points or n in after.merge_points}
    gained, lost = _sorted((now - was) & points), _sorted((was - now) & points)
    if gained:
        yield Part("gate", f"now waits for {', '.join(gained)}")
    if lost:
        yield Part("gate", f"freed of {', '.join(lost)}")
    was |= {need for need in old.depends_on if need not in graphs[0].number}
    now |= {need for need in new.depends_on if need not in graphs[1].number}
    yield _ids("needs", was - points, now - points)
    yield Part("estimate", _from_to(_length(old), _length(new)))
    yield Part("agent", _from_to(old.agent or "", new.agent or ""))
    for name in ("paths", "produces", "acceptance"):
        yield Part(name, lines=compared(getattr(old, name), getattr(new, name)))
    yield Part("spec", lines=_diff(old.spec, new.spec))


def _why(old: Task, new: Task) -> str:
    if new.cancelled is None:
        return "it was cancelled before"
    return new.cancelled if old.cancelled is None else f"the reason is now: {new.cancelled}"


def _length(task: Task) -> str:
    return duration(task.estimate) if task.estimate is not None else ""


def _workstream(old: Workstream | None, new: Workstream | None) -> Change | None:
    stream = new or old
    if stream is None:
        return None
    boundary = compared(old.paths if old else (), new.paths if new else ())
    if old is None or new is None:
        how = ADDED if old is None else REMOVED
        whole = (Part("branch", stream.branch), Part("boundary", lines=boundary))
        return Change("workstream", stream.id, how, stream.title, whole)
    found = (
        Part("title", _from_to(old.title, new.title)),
        Part("branch", _from_to(old.branch, new.branch)),
        Part("agent", _from_to(old.agent or "", new.agent or "")),
        Part("boundary", lines=boundary),
    )
    parts = tuple(part for part in found if part.said or part.lines)
    return Change("workstream", stream.id, CHANGED, new.title, parts) if parts else None


_SETTINGS = (
    *("title", "trunk", "agents", "agent", "dispatch", "worktrees", "remote", "merge"),
    *("default_estimate", "retries", "lease", "allowed_signers", "design_path"),
)


def _config(old: Config, new: Config) -> Change | None:
    parts = [
        Part(name, _from_to(*(str(getattr(c, name) or "") for c in (old, new))))
        for name in _SETTINGS
    ]
    if old.design_blob != new.design_blob:
        parts.append(Part("design", "the cards are those of another version of it"))
    lists = ("batches", "learnings", "shared_paths")
    parts += [Part(name, lines=compared(getattr(old, name), getattr(new, name))) for name in lists]
    code = compared(_config_commands(old), _config_commands(new))
    said = tuple(part for part in parts if part.said or part.lines)
    changed = any(line.sign != " " for line in code)
    if not said and not changed:
        return None
    return Change("config", "config", CHANGED, "", said, code if changed else ())


def _config_commands(config: Config) -> list[str]:
    """Everything in the settings that runs."""
    found = [f"setup: {line}" for line in _commands(config.setup)]
    for name in sorted(config.profiles):
        found += [f"profile {name}: {words}" for words in _profile(config.profiles[name])]
    return found + [f"on_event: {config.on_event}"] * bool(config.on_event)


def _profile(profile: Profile) -> Iterable[str]:
    for key in ("command", "resume", "open"):
        words = getattr(profile, key)
        if words:
            yield f"{key} " + " ".join(repr(word) if " " in word else word for word in words)
    for key, value in sorted(profile.env.items()):
        yield f"env {key}={value}"
    if profile.timeout is not None:
        yield f"timeout {duration(profile.timeout)}"
    if profile.client != "text":
        yield f"client {profile.client}"


# --- comparing ---


def _commands(steps: Sequence[Step]) -> list[str]:
    """Steps as they are compared: everything of them that has a meaning, a text for each."""
    found = []
    for step in steps:
        if step.manual is not None:
            found.append(f"confirm: {step.manual}")
            continue
        notes = ["always"] * step.always
        notes += [f"at most {duration(step.timeout)}"] * (step.timeout != DEFAULT_VERIFY_TIMEOUT)
        found.append((step.run or "") + f"   ({', '.join(notes)})" * bool(notes))
    return found


def compared(old: Sequence[str], new: Sequence[str]) -> tuple[Line, ...]:
    """All of both lists in order, marked; nothing where they are the same.

    >>> [line.sign + line.text for line in compared(["a", "b"], ["a", "c"])]
    [' a', '-b', '+c']
    """
    if list(old) == list(new):
        return ()
    found: list[Line] = []
    matcher = SequenceMatcher(None, list(old), list(new), autojunk=False)
    for what, i, j, k, m in matcher.get_opcodes():
        if what == "equal":
            found += [Line(" ", text) for text in old[i:j]]
        else:
            found += [Line("-", text) for text in old[i:j]]
            found += [Line("+", text) for text in new[k:m]]
    return tuple(found)


def _diff(old: str, new: str, around: int = 2) -> tuple[Line, ...]:
    """The lines of a text that changed, with some around them; `...` for those between."""
    lines = compared(old.strip().splitlines(), new.strip().splitlines())
    near = {
        k + d
        for k, line in enumerate(lines)
        if line.sign != " "
        for d in range(-around, around + 1)
    }
    found: list[Line] = []
    for k, line in enumerate(lines):
        if k in near:
            found.append(line)
        elif not found or found[-1].text != "...":
            found.append(Line(" ", "..."))
    return tuple(found)


def _marked(sign: str, text: str) -> tuple[Line, ...]:
    return tuple(Line(sign, line) for line in text.strip().splitlines())


def _from_to(old: str, new: str) -> str:
    return "" if old == new else f"{old or '(none)'} -> {new or '(none)'}"


def _sorted(ids: Iterable[str]) -> list[str]:
    return sorted(ids, key=natural)


def _ids(name: str, old: Iterable[str], new: Iterable[str]) -> Part:
    was, now = set(old), set(new)
    said = [f"+{node}" for node in _sorted(now - was)] + [f"-{node}" for node in _sorted(was - now)]
    return Part(name, " ".join(said))


# --- what it does to what there is ---


def _judged(new: Cards, facts: Facts, trunk: Cards | None) -> Facts:
    """The facts as they will be read beside the changed specs."""
    found = {}
    for node in facts.begun:
        if node not in new.tasks and node not in new.merge_points:
            continue
        known = trunk is not None and (node in trunk.tasks or node in trunk.merge_points)
        digest = new.digest(node)
        if known and trunk is not None and trunk.digest(node) == digest:
            continue  # it is as they were read
        fact = facts[node]
        if fact.tracking.evidence is None:
            continue
        fits = fact.tracking.evidence.spec == digest
        if not fits and fact.verdict in (Verdict.HOLDS, Verdict.UNCHECKED):
            why = "the spec changed since it was verified"
            found[node] = replace(fact, verdict=Verdict.STALE, reason=why)
        elif fits and fact.verdict is Verdict.STALE and fact.reason.startswith("the spec changed"):
            found[node] = replace(fact, verdict=Verdict.HOLDS, reason="")
    return facts.with_others(found)


def _moved(was: Progress, now: Progress) -> Iterable[str]:
    both = was.states.keys() & now.states.keys()
    differing = [task for task in both if was.states[task] is not now.states[task]]
    for task in sorted(differing, key=natural):
        before, b = was.states[task], now.tasks[task]
        if b.state is not State.CANCELLED:
            waits = ", ".join(map(name_of, b.blocked_on))
            why = b.reason or (f"on {waits}" if waits else "")
            yield f"{task}: {before} -> {b.state}" + f" ({why})" * bool(why)
    for point in _sorted(set(was.merge_points) & set(now.merge_points)):
        p, q = was.merge_points[PointId(point)], now.merge_points[PointId(point)]
        if p.state is not q.state:
            yield f"{point}: {p.state} -> {q.state}"
    done = {view.id for view in was.batches if view.state is BatchState.DONE}
    for view in now.batches:
        if now.schedule.authored and view.id in done and view.state is not BatchState.DONE:
            yield f"Batch {view.id}: it was done, and is open again"


def _at_work(old: Cards, facts: Facts, changes: Sequence[Change]) -> Iterable[AtWork]:
    """What is active or failed, and has something pulled from under it."""
    named = {change.id: change for change in changes if change.kind == "task"}
    streams = {
        change.id: [part.name for part in change.parts if part.name in {"boundary", "branch"}]
        for change in changes
        if change.kind == "workstream"
    }
    begun = [t for t in old.tasks if facts.begun.get(t, State.DONE) is not State.DONE]
    for task in sorted(begun, key=natural):
        fact = facts[task]
        if fact.tracking.status not in (Status.ACTIVE, Status.FAILED):
            continue
        found: list[str] = []
        if (change := named.get(task)) is not None:
            if change.how != CHANGED:
                found.append(change.how)
            else:
                found += ["verify"] * bool(change.code)
                found += [part.name for part in change.parts if part.name in _UNDERFOOT]
        found += streams.get(old.folders[task], [])
        if found:
            branch = old.branch_of(task)
            names = tuple(dict.fromkeys(found))
            yield AtWork(task, fact.tracking.agent or "somebody", branch, names)


def _measures(now: Progress | None) -> Measures | None:
    if now is None:
        return None
    work = Work.of(now)
    agents = max(1, now.cards.config.agents)
    return Measures(
        len(now.schedule.wave_of),
        len(now.schedule.batches),
        now.critical_path.ids,
        now.critical_path.seconds,
        work.total,
        play(work, agents, why=False).seconds,
        agents,
    )
