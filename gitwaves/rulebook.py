"""What trunk lets each branch change: boundaries and cards, each file read when it is asked for.

A push that touches one card of a thousand reads one card.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from gitwaves.boundary import Boundary
from gitwaves.cards import (
    WORKSTREAM_FILE,
    load_card,
    load_config,
    load_tracking,
    load_workstream,
)
from gitwaves.git import Repo
from gitwaves.halves import split
from gitwaves.model import (
    CONFIG_PATH,
    POINTS_DIR,
    ROOT,
    Branch,
    Cards,
    Config,
    MergePoint,
    Oid,
    PointId,
    Status,
    Task,
    TaskId,
    Tracking,
    Workstream,
    WorkstreamId,
    default_branch,
    natural,
)

AT_WORK = frozenset({Status.ACTIVE, Status.FAILED})


class Rules:
    """What trunk says of boundaries and cards, each file read when it is asked for.

    Args:
        cards: those of `tip`, where they have been read.
    """

    def __init__(self, repo: Repo, trunk: Branch, tip: Oid, cards: Cards | None = None) -> None:
        self.repo = repo
        self.trunk = trunk
        self.tip = tip
        self._cards = cards
        self._at_work: dict[tuple[Oid, Branch], tuple[tuple[str, Tracking], ...]] = {}

    @cached_property
    def config(self) -> Config:
        if self._cards is not None:
            return self._cards.config
        return load_config(self.repo.read(self.tip, CONFIG_PATH) or b"", CONFIG_PATH)[0]

    @cached_property
    def streams(self) -> tuple[Workstream, ...]:
        """The workstreams in natural order; one without a file has no boundary."""
        root = self.repo.tree(self.tip).get(ROOT)
        folders = self.repo.tree(root.oid) if root and root.is_tree else {}
        names = sorted(
            (n for n, entry in folders.items() if entry.is_tree and n != POINTS_DIR), key=natural
        )
        if self._cards is not None:
            known = self._cards.workstreams
            return tuple(known.get(WorkstreamId(n)) or _without_file(n) for n in names)
        self.repo.read_ahead(folders[name].oid for name in names)  # one by one they take long
        files = (self.repo.tree(folders[name].oid).get(WORKSTREAM_FILE) for name in names)
        self.repo.read_ahead(file.oid for file in files if file is not None)
        return tuple(stream_at(self.repo, self.tip, n) for n in names)

    @cached_property
    def branches(self) -> frozenset[Branch]:
        """The branches of the worktrees."""
        return frozenset(w.branch for w in self.streams)

    @cached_property
    def _boundaries(self) -> dict[WorkstreamId, Boundary]:
        return {w.id: Boundary(w.paths) for w in self.streams}

    @cached_property
    def _shared(self) -> Boundary | None:
        return Boundary(self.config.shared_paths) if self.config.shared_paths else None

    def owner(self, path: str) -> Workstream | None:
        """The workstream whose boundary covers a path; one without a boundary owns nothing."""
        return next(
            (w for w in self.streams if w.paths and self._boundaries[w.id].covers(path)), None
        )

    def branch_of(self, path: str) -> Branch | None:
        """The branch that the task card at `path` is written on; None where that is no task's."""
        folder = folder_of_task(path)
        if folder is None:
            return None
        found = next((w.branch for w in self.streams if w.id == folder), None)
        return found or default_branch(folder)

    def covers(self, branch: Branch, path: str) -> bool:
        """Whether a worktree's branch may change the file at `path`."""
        if self._shared and self._shared.covers(path):
            return True
        return any(self._boundaries[w.id].covers(path) for w in self.streams if w.branch == branch)

    def shared(self, path: str) -> bool:
        return self._shared is not None and self._shared.covers(path)

    def at_work(self, tree: Oid, branch: Branch) -> tuple[tuple[str, Tracking], ...]:
        """The cards of a branch that a tree shows active or failed: path and tracking."""
        root = self.repo.tree(tree).get(ROOT)
        if root is None or not root.is_tree:
            return ()
        known = self._at_work.get((root.oid, branch))
        if known is None:
            said = ((p, tracking_in(self.repo, tree, p)) for p in self.cards_on(tree, branch))
            found = [(p, t) for p, t in said if t and t.status in AT_WORK and t.task == id_of(p)]
            known = self._at_work[root.oid, branch] = tuple(found)
        return known

    def cards_on(self, tree: Oid, branch: Branch) -> Iterator[str]:
        """The paths of a branch's task cards in a tree, in natural order."""
        for stream in (w for w in self.streams if w.branch == branch):
            folder = self.repo.at(tree, f"{ROOT}/{stream.id}")
            names = self.repo.tree(folder.oid) if folder and folder.is_tree else {}
            for name in sorted(names, key=natural):
                if folder_of_task(path := f"{ROOT}/{stream.id}/{name}"):
                    yield path

    def narrow(self, path: str) -> Boundary | None:
        """The narrower boundary that trunk's card of a task states, if it does."""
        card: Task | MergePoint | None = None
        if self._cards is not None:
            card = self._cards.tasks.get(TaskId(id_of(path)))
        if card is None or card.path != path:
            card = load_card(self.repo.read(self.tip, path) or b"", path).spec
        return Boundary(card.paths) if isinstance(card, Task) and card.paths else None

    def digests(self, path: str, *trees: Oid) -> set[str]:
        """The spec digests that a card has in trunk's tip and in some other trees."""
        return {d for tree in (self.tip, *trees) if (d := _digest_at(self.repo, tree, path))}

    def once_digest(self, path: str, digest: str) -> bool:
        """Whether trunk ever had a card of that digest at `path`."""
        folder = path.rpartition("/")[0]
        needed = [path, f"{folder}/{WORKSTREAM_FILE}"]
        point = load_card(self.repo.read(self.tip, path) or b"", path).spec
        if isinstance(point, MergePoint):
            needed = [ROOT]
        for oid in self.repo.rev_list("--full-history", self.tip, paths=needed):
            if _digest_at(self.repo, oid, path) == digest:
                return True
        return False


def folder_of_task(path: str) -> str | None:
    parts = path.split("/")
    if len(parts) != 3 or parts[0] != ROOT or parts[1] == POINTS_DIR:
        return None
    return parts[1] if parts[2].endswith(".yaml") and parts[2] != WORKSTREAM_FILE else None


def is_card(path: str) -> bool:
    """Whether a card, of a task or a merge point, stands at `path`."""
    parts = path.split("/")
    is_point = len(parts) == 3 and parts[:2] == [ROOT, POINTS_DIR] and path.endswith(".yaml")
    return is_point or folder_of_task(path) is not None


def id_of(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".yaml")


def stream_at(repo: Repo, tree: Oid, folder: str) -> Workstream:
    path = f"{ROOT}/{folder}/{WORKSTREAM_FILE}"
    found = load_workstream(repo.read(tree, path) or b"", path)[0]
    return found or _without_file(folder)


def _without_file(folder: str) -> Workstream:
    return Workstream(WorkstreamId(folder), folder, (), default_branch(folder))


def _digest_at(repo: Repo, tree: Oid, path: str) -> str | None:
    """The spec digest of the card at `path` in a tree; None where there is none to be read."""
    spec = load_card(repo.read(tree, path) or b"", path).spec
    if isinstance(spec, Task):
        stream = stream_at(repo, tree, path.split("/")[1])
        return Cards(Config(), {stream.id: stream}, {spec.id: spec}).digest(spec.id)
    if spec is None:
        return None
    tasks = {}
    root = repo.tree(tree).get(ROOT)
    for folder in repo.tree(root.oid) if root else ():
        for task in spec.requires:
            where = f"{ROOT}/{folder}/{task}.yaml"
            data = repo.read(tree, where)
            card = load_card(data, where).spec if data is not None else None
            if isinstance(card, Task):
                tasks[TaskId(task)] = card
    return Cards(Config(), tasks=tasks, merge_points={PointId(spec.id): spec}).digest(spec.id)


def tracking_in(repo: Repo, tree: Oid, path: str) -> Tracking | None:
    """What the tracking half of a card says in a tree; None where it says nothing.

    What cannot be read claims to be done, with no evidence.
    """
    half = split(repo.read(tree, path) or b"")[1]
    if not half.strip():
        return None
    return load_tracking(half, path)[0] or Tracking("", Status.DONE)
