"""The vocabulary of gitwaves: cards, tracking, findings, states. Frozen, and free of any I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import cache, cached_property, lru_cache
from itertools import chain

from gitwaves.digests import sha256
from gitwaves.patterns import regex
from gitwaves.record import NamedTuple, Record, field, values_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NewType, TypeVar

    TaskId = NewType("TaskId", str)
    PointId = NewType("PointId", str)
    WorkstreamId = NewType("WorkstreamId", str)
    BatchId = NewType("BatchId", str)
    Branch = NewType("Branch", str)  # a short name: `ws/A`, never `refs/heads/ws/A`
    Oid = NewType("Oid", str)  # a full object id, hexadecimal

    K = TypeVar("K")
    V = TypeVar("V")
else:  # `typing` takes as long to import as git to start
    TaskId = PointId = WorkstreamId = BatchId = Branch = Oid = str
    K, V = "K", "V"

ROOT = ".workstreams"
POINTS_DIR = "merge-points"
CONFIG_PATH = f"{ROOT}/config.yaml"
DASHBOARD_PATH = f"{ROOT}/DASHBOARD.txt"
DASHBOARD_BRANCH = Branch("gitwaves/dashboard")
RESERVED_IDS = frozenset({"dashboard", "rescued", "archive", "workstream"})
DEFAULT_VERIFY_TIMEOUT = 30 * 60  # seconds
DEFAULT_ESTIMATE = 60 * 60  # seconds

_ID = regex(r"[A-Za-z][A-Za-z0-9]*(?:[._-][A-Za-z0-9]+)*", re.ASCII)
_BATCH = regex(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*", re.ASCII)
_DURATION = regex(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", re.ASCII)


def is_id(text: str) -> bool:
    """Whether `text` may name a task, a merge point or a workstream.

    >>> is_id("A1"), is_id("WS-A"), is_id("../x"), is_id("dashboard")
    (True, True, False, False)
    """
    return bool(_ID.fullmatch(text)) and len(text) <= 64 and text.lower() not in RESERVED_IDS


def is_batch_name(text: str) -> bool:
    """Whether `text` may name a batch: an id, or one that starts with a digit (`1`, `2a`)."""
    return bool(_BATCH.fullmatch(text)) and len(text) <= 64


@lru_cache(maxsize=1 << 16)
def natural(text: str) -> tuple[int | str, ...]:
    """A sort key for ids as people count: `A2` before `A10`, `P1-B2` before `P1.5-B1`.

    Numbers come before letters, and the end of an id before any continuation; a dot continues a
    number (`P1.5` lies between `P1` and `P2`), any other separator starts anew.

    >>> sorted(["P2-B1", "A10", "P1.5-B1", "A2", "P1-B2"], key=natural)
    ['A2', 'A10', 'P1-B2', 'P1.5-B1', 'P2-B1']
    """
    key: list[int | str] = []  # of each part its kind, then itself: parts of one kind are compared
    for part in re.findall(r"\d+|[^\W\d_]+|[^\w]|_", text):
        if part.isdecimal():
            key += (2, int(part))
        elif part == ".":
            key += (1, part)
        elif part in "-_":
            key += (0, part)
        else:
            key += (3, part.lower())
    return (*key, -1, text)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be, or None.

    >>> closest("a1", ["A1", "B1"]), closest("zz", ["A1"])
    ('A1', None)
    """
    words = sorted(set(known), key=natural)
    for candidate in words:
        if candidate.lower() == word.lower():
            return candidate
    import difflib  # slow to import, and for what was misspelt alone

    found = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return found[0] if found else None


@lru_cache(maxsize=1 << 10)
def seconds(text: str) -> int:
    """The length of a duration such as `90s`, `10m`, `2h`, `1h30m`, `1d`, in seconds.

    Raises:
        ValueError: `text` is not a duration, or is none at all (`0m`).

    >>> seconds("1h30m")
    5400
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"not a duration: {text!r} (90s, 10m, 2h, 1h30m)")
    days, hours, minutes, secs = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + secs
    if total == 0:
        raise ValueError(f"a duration must be longer than nothing: {text!r}")
    return total


def duration(total: int) -> str:
    """A length in seconds as people write it.

    >>> duration(5400), duration(7200), duration(45), duration(0)
    ('1h 30m', '2h', '45s', '0m')
    """
    hours, rest = divmod(total, 3600)
    minutes, secs = divmod(rest, 60)
    parts = [f"{hours}h"] * bool(hours) + [f"{minutes}m"] * bool(minutes)
    if secs and not hours:
        parts.append(f"{secs}s")
    return " ".join(parts) or "0m"


class Lazy(Mapping[K, V]):
    """A mapping of known keys, whose values are made when somebody asks for them.

    The last ones that were made are kept: equal for each key, and often the same.
    """

    _MOST = 2000

    def __init__(self, keys: Iterable[K], make: Callable[[K], V]) -> None:
        self._keys = dict.fromkeys(keys)
        self._make = make
        self._made: dict[K, V] = {}

    def __getitem__(self, key: K) -> V:
        found = self._made.get(key)
        if found is None:
            if key not in self._keys:
                raise KeyError(key)
            if len(self._made) >= self._MOST:
                self._made.clear()
            found = self._made[key] = self._make(key)
        return found

    def forget(self) -> None:
        """Drops what was made; it is made again where somebody asks for it."""
        self._made.clear()

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[K]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class Word(StrEnum):
    """One of a few words; hashed as the text that it equals, which `Enum` does in Python."""

    __hash__ = str.__hash__


class Severity(Word):
    ERROR = "error"
    WARNING = "warning"


class Finding(Record):
    """One thing that is wrong with bad data, and where. Sorts by place.

    >>> print(Finding("a.yaml", 3, 1, Severity.ERROR, "no title"))
    a.yaml:3:1: error: no title
    """

    path: str
    line: int
    column: int
    severity: Severity
    message: str

    def __lt__(self, other: Finding) -> bool:
        return values_of(self) < values_of(other)

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.severity}: {printable(self.message)}"


def printable(text: str) -> str:
    r"""`text` with everything that could steer a terminal escaped.

    >>> printable("a\x1b[2Jb\u202e")
    'a\\x1b[2Jb\\u202e'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


NOTE_LENGTH = 1000  # characters of one learning or gap


def noted(text: str) -> str:
    r"""What somebody noted (a learning, a spec gap) as one line of text that steers nothing.

    >>> noted("cents,\n  not \x1b[1meuros ")
    'cents, not \\x1b[1meuros'
    """
    decoded = text.encode(errors="surrogateescape").decode(errors="replace")
    line = printable(" ".join(decoded[: 4 * NOTE_LENGTH].split()))
    return line if len(line) <= NOTE_LENGTH else line[: NOTE_LENGTH - 2] + " …"


Place = tuple[int, int]  # line and column, both from 1


class Places(dict[str, Place]):
    """Where the values of a card stand, by key (`verify[0].run`): no part of what it says.

    >>> Places({"id": (1, 1)}) == Places()
    True
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override]  # all are equal, whatever they hold
        return 0


class Step(Record):
    """One verification or setup step: a command, or something a person confirms."""

    run: str | None = None
    manual: str | None = None
    timeout: int = DEFAULT_VERIFY_TIMEOUT  # seconds
    always: bool = False  # a tear-down: runs whatever happened before it

    def canonical(self) -> dict[str, Any]:
        """What of the step the spec digest covers."""
        if self.manual is not None:
            return {"manual": self.manual}
        return {"run": self.run, "timeout": self.timeout, "always": self.always}


class Workstream(Record):
    """A service boundary: paths, a branch, a worktree."""

    id: WorkstreamId
    title: str
    paths: tuple[str, ...]
    branch: Branch
    agent: str | None = None
    path: str = ""  # of workstream.yaml, from the top of the repository
    places: Places = Places()


def default_branch(workstream: str) -> Branch:
    """The branch of a workstream that names none.

    >>> default_branch("WS-A"), default_branch("billing")
    ('ws/A', 'ws/billing')
    """
    return Branch("ws/" + (workstream[3:] if workstream[:3].upper() == "WS-" else workstream))


class Task(Record):
    """The spec half of a task's card."""

    id: TaskId
    title: str
    workstream: WorkstreamId
    depends_on: tuple[str, ...] = ()  # tasks and merge points
    batch: BatchId | None = None
    estimate: int | None = None  # seconds
    agent: str | None = None
    paths: tuple[str, ...] = ()
    spec: str = ""
    acceptance: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    cancelled: str | None = None
    verify: tuple[Step, ...] = ()
    path: str = ""  # of the card, from the top of the repository
    places: Places = Places()


class MergePoint(Record):
    """The spec half of a merge point's card."""

    id: PointId
    title: str
    requires: tuple[TaskId, ...]
    unlocks: tuple[str, ...] = ()  # tasks, or names of whole batches
    spec: str = ""
    verify: tuple[Step, ...] = ()  # none: the steps of its tasks
    path: str = ""
    places: Places = Places()


class Profile(Record):
    """How an agent is launched: a command that gets the brief on standard input.

    Arguments may hold placeholders (`clients.filled`): {brief}, {settings}, {session}, {task},
    {worktree}, and the lists {path}, {step}, {git_dir}, {setting}.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: int | None = None  # seconds
    client: str = "text"  # the dialect that it speaks: one of `clients.CLIENTS`
    resume: tuple[str, ...] = ()  # the command that goes on with a session
    open: tuple[str, ...] = ()  # the command for a session with a person in it


class Config(Record):
    """`.workstreams/config.yaml`, defaults filled in."""

    title: str = ""
    trunk: Branch = Branch("main")
    agents: int = 8
    agent: str = "claude"
    design_path: str | None = None
    design_blob: Oid | None = None
    batches: tuple[BatchId, ...] = ()
    dispatch: str | None = None  # "batches" | "dependencies" | None: as the author wrote
    worktrees: str = "../{repo}.worktrees/{name}"
    setup: tuple[Step, ...] = ()
    remote: str | None = None
    merge: str = "direct"
    default_estimate: int = DEFAULT_ESTIMATE  # seconds
    retries: int = 2
    lease: int = 2 * 60 * 60  # seconds
    learnings: tuple[str, ...] = ("CLAUDE.md",)
    shared_paths: tuple[str, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    on_event: str | None = None
    allowed_signers: str | None = None
    places: Places = Places()


class Status(Word):
    """What a card's tracking half says."""

    PLANNED = "planned"
    ACTIVE = "active"
    FAILED = "failed"
    DONE = "done"


class Run(Record):
    """One verification step as it was run."""

    run: str
    exit: int
    seconds: float
    log: str  # digest of what it printed


class Evidence(Record):
    """The record of a verification: what passed, on which content, for which spec."""

    commit: Oid
    tree: Oid  # the code tree
    spec: str  # the spec digest
    runs: tuple[Run, ...] = ()
    inputs: tuple[Oid, ...] = ()  # a merge point's: the done commits it took
    signature: str | None = None  # by SSH, of all but `commit`: a line of base64


class Claim(NamedTuple):
    """What a task was claimed on; `id` is random, so that no two claims are the same bytes."""

    tree: Oid
    spec: str
    id: str


class Gap(Record):
    """A place where a task's author found the spec wrong; holds `affects` while it is open.

    `affects` maps ids to the spec digest they had: a changed spec resolves the gap for that task.
    """

    text: str
    affects: Mapping[str, str] = field(default_factory=dict)
    resolved: bool = False


class Tracking(Record):
    """The tracking half of a card: written by gitwaves alone."""

    task: str
    status: Status = Status.PLANNED
    claim: Claim | None = None
    agent: str | None = None
    clone: str | None = None
    session: str | None = None
    started: str | None = None  # RFC 3339, UTC
    finished: str | None = None
    attempts: int = 0
    cost: Mapping[str, float] = field(default_factory=dict)
    evidence: Evidence | None = None
    learnings: tuple[str, ...] = ()
    spec_gaps: tuple[Gap, ...] = ()


class Cards(Record):
    """Everything that `.workstreams/` says in one tree, valid or not.

    `tracking` holds what the tracking halves of that very tree say; a card without one is absent.
    What could not be read is in `findings` and nowhere else.
    """

    config: Config
    workstreams: Mapping[WorkstreamId, Workstream] = field(default_factory=dict)
    tasks: Mapping[TaskId, Task] = field(default_factory=dict)
    merge_points: Mapping[PointId, MergePoint] = field(default_factory=dict)
    tracking: Mapping[str, Tracking] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def workstream_of(self, task: TaskId) -> Workstream:
        """The workstream that `task` belongs to; one without a file has no boundary."""
        name = self.tasks[task].workstream
        return self.workstreams.get(name) or Workstream(name, name, (), default_branch(name))

    def branch_of(self, task: TaskId) -> Branch:
        """The branch, and so the worktree, that `task` is done in."""
        return self._branches[task]

    def tasks_on(self, branch: Branch) -> tuple[TaskId, ...]:
        """The tasks that are done on `branch`, in natural order."""
        return self.by_branch.get(branch, ())

    def has_begun(self, node: str) -> bool:
        """Whether the tracking half of a card says more than that nobody has begun."""
        began: Mapping[str, bool] | None = self.memo.get("began")  # told without opening a card
        if began is not None:
            return began.get(node, False)
        tracking = self.tracking.get(node)
        return tracking is not None and tracking != Tracking(node)

    def forget(self) -> None:
        """Drops cards that were opened, where all of them would take much memory."""
        for opened in (self.tasks, self.tracking):
            if isinstance(opened, Lazy):
                opened.forget()

    @cached_property
    def memo(self) -> dict[str, Any]:
        """What follows from these cards and takes long to find out, by name; equality ignores it."""
        return {}

    @cached_property
    def by_branch(self) -> Mapping[Branch, tuple[TaskId, ...]]:
        """The branches that tasks are done on, each with its tasks in natural order."""
        found: dict[Branch, list[TaskId]] = {}
        for task in sorted(self.tasks, key=natural):
            found.setdefault(self.workstream_of(task).branch, []).append(task)
        return {branch: tuple(tasks) for branch, tasks in found.items()}

    @cached_property
    def folders(self) -> Mapping[TaskId, WorkstreamId]:
        """The workstream of each task, which is the folder that its card stands in."""
        return {task.id: task.workstream for task in self.tasks.values()}

    def path_of(self, task: TaskId) -> str:
        """Where the card of a task stands, from the top of the repository."""
        return f"{ROOT}/{self.folders[task]}/{task}.yaml"

    @cached_property
    def _branches(self) -> Mapping[TaskId, Branch]:
        return {task: branch for branch, tasks in self.by_branch.items() for task in tasks}

    @property
    def digests(self) -> dict[str, str]:
        """The spec digests of tasks that somebody has asked for."""
        digests: dict[str, str] = self.memo.setdefault("digest", {})
        return digests

    def digest(self, node: str) -> str:
        """The spec digest of a task or merge point.

        Raises:
            KeyError: there is no such card.
        """
        if node in self.tasks:
            known = self.digests.get(node)
            if known is None:
                task = self.tasks[TaskId(node)]
                known = self.digests[node] = task_digest(task, self.workstream_of(task.id))
            return known
        point = self.merge_points[PointId(node)]
        return point_digest(point, self.steps_of(node))

    def steps_of(self, node: str) -> tuple[Step, ...]:
        """The steps that verify a task or merge point: a merge point's default to its tasks'."""
        if node in self.tasks:
            return self.tasks[TaskId(node)].verify
        point = self.merge_points[PointId(node)]
        if point.verify:
            return point.verify
        steps = [s for t in point.requires if t in self.tasks for s in self.tasks[t].verify]
        return tuple(dict.fromkeys(steps))


@cache
def _canonical() -> Callable[[object], str]:
    import json  # slow to import, and digests are mostly known

    return json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode


def _sha256(value: object) -> str:
    return "sha256:" + sha256(_canonical()(value).encode("ascii")).hexdigest()


def task_digest(task: Task, workstream: Workstream) -> str:
    """The spec digest: what must be verified again when it changes, in canonical form.

    Covers id, spec, acceptance, paths, produces, verify and the workstream's boundary; title,
    estimate, batch and needs may change freely.
    """
    return _sha256(
        {
            "id": task.id,
            "spec": task.spec.strip(),
            "acceptance": task.acceptance,
            "paths": task.paths,
            "produces": task.produces,
            "verify": [step.canonical() for step in task.verify],
            "boundary": workstream.paths,
        }
    )


def point_digest(point: MergePoint, steps: tuple[Step, ...]) -> str:
    """The spec digest of a merge point, which covers what it requires and runs."""
    requires: list[str] = sorted(point.requires, key=natural)
    return _sha256(
        {
            "id": point.id,
            "spec": point.spec.strip(),
            "requires": requires,
            "verify": [step.canonical() for step in steps],
        }
    )


class Verdict(Word):
    """What a task's evidence is worth, read against history."""

    NONE = "none"  # nothing claims to be done
    HOLDS = "holds"
    UNCHECKED = "unchecked"  # landed, and its commit is not here to be looked at
    UNPROVEN = "unproven"
    STALE = "stale"


class Fact(Record):
    """What history says of one task or merge point.

    `tracking` is the reading of `state.settle` (not the bytes of any one tree), `verdict`
    what its evidence is worth, and `reason` why, where it does not hold.
    """

    tracking: Tracking
    verdict: Verdict = Verdict.NONE
    reason: str = ""
    misplaced: bool = False
    landed: bool = False  # its tracking stands on trunk
    tip: Oid | None = None  # of the branch it was read from
    commit: Oid | None = None  # a landed merge point's: the merge commit on trunk
    reverted: bool = False  # a merge point that was landed and taken back
    signer: str | None = None  # who signed its evidence, where trunk asks for that


class State(Word):
    """The one state that is shown of a task; in order of precedence."""

    CANCELLED = "cancelled"
    UNPROVEN = "unproven"
    STALE = "stale"
    DONE = "done"
    ACTIVE = "active"
    FAILED = "failed"
    HELD = "held"
    BLOCKED = "blocked"
    RUNNABLE = "runnable"


class PointState(Word):
    DONE = "done"
    READY = "ready"
    REVERTED = "reverted"
    BLOCKED = "blocked"


class BatchState(Word):
    DONE = "done"
    ACTIVE = "active"
    RUNNABLE = "runnable"
    BLOCKED = "blocked"


class Blocker(Record):
    """One thing that is waited for: `kind` is task, merge_point, batch or gap."""

    kind: str
    id: str


class Batch(Record):
    """A group of tasks that is dispatched together, in waves."""

    id: BatchId
    waves: tuple[tuple[TaskId, ...], ...]

    @cached_property
    def tasks(self) -> tuple[TaskId, ...]:
        """The tasks of all its waves."""
        return tuple(chain.from_iterable(self.waves))


class Schedule(Record):
    """What follows from the specs alone: the same cards always give the same schedule."""

    batches: tuple[Batch, ...]
    barrier: bool  # dispatch: batches
    authored: bool  # the author gave the batches

    @cached_property
    def batch_of(self) -> Mapping[TaskId, BatchId]:
        """The batch of each task that is in one."""
        return {task: batch.id for batch in self.batches for task in batch.tasks}

    @cached_property
    def wave_of(self) -> Mapping[TaskId, int]:
        """The wave of each such task in its batch, from 1."""
        return {
            task: k
            for batch in self.batches
            for k, wave in enumerate(batch.waves, 1)
            for task in wave
        }


class CriticalPath(Record):
    """The longest chain by estimate through what is not done yet."""

    ids: tuple[str, ...] = ()
    seconds: int = 0


class TaskView(NamedTuple):
    """One task as it is shown."""

    id: TaskId
    state: State
    flags: tuple[str, ...] = ()  # unchecked, misplaced
    reason: str = ""  # why it is unproven or stale
    blocked_on: tuple[Blocker, ...] = ()
    critical: bool = False
    slack: int | None = None  # seconds; None once nothing of it is left to do
    behind: int = 0  # seconds: the longest path from the start of this task to the end


class PointView(Record):
    id: PointId
    state: PointState
    blocked_on: tuple[Blocker, ...] = ()
    commit: Oid | None = None
    reason: str = ""


class BatchView(Record):
    id: BatchId
    state: BatchState
    done: int
    failed: int
    total: int
    blocked_on: tuple[Blocker, ...] = ()


class OpenGap(Record):
    """An open spec gap: `affects` are the tasks that it still holds."""

    task: TaskId
    text: str
    affects: tuple[TaskId, ...]


class WorktreeView(Record):
    """A branch that workstreams share, and what is at work on it."""

    branch: Branch
    workstreams: tuple[WorkstreamId, ...]
    tasks: tuple[TaskId, ...]
    task: TaskId | None = None  # active or failed
    path: str | None = None  # local: never part of the dashboard


class Progress(Record):
    """The whole state: cards joined with what history says, planned. Everything shown is in it."""

    cards: Cards
    facts: Mapping[str, Fact]
    schedule: Schedule
    states: Mapping[TaskId, State]  # in natural order, as all of `tasks`
    tasks: Mapping[TaskId, TaskView]
    merge_points: Mapping[PointId, PointView]
    batches: tuple[BatchView, ...]
    worktrees: tuple[WorktreeView, ...]
    gaps: tuple[OpenGap, ...]
    critical_path: CriticalPath
    counts: Mapping[str, int]
    runnable: tuple[TaskId, ...]  # the most urgent first
    trunk_commit: Oid | None = None
    warnings: tuple[str, ...] = ()
