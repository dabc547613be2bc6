"""What the spec of a task or merge point was in a commit, and whether it ever was so on trunk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gitwaves.cards import (
    WORKSTREAM_FILE,
    load_card,
    load_cards,
    load_workstream,
    point_path,
    read_card,
)
from gitwaves.git import Entry
from gitwaves.model import (
    ROOT,
    Cards,
    MergePoint,
    Oid,
    Step,
    Task,
    TaskId,
    WorkstreamId,
    task_digest,
)
from gitwaves.plans import Plans

_FEW = 20  # cards that are named to Git one by one


class Specs(Plans):
    """A repository as the specs that its history holds."""

    def had_specs(self, cards: Cards, trunk: Oid, wanted: Mapping[str, str]) -> set[str]:
        """Of tasks and merge points those whose cards ever had, on trunk, the spec digest that is wanted.

        All of them where history is cut short.
        """
        if self.repo.is_shallow():
            return set(wanted)
        tasks: dict[WorkstreamId, dict[str, str]] = {}
        points = dict(wanted)
        for node in wanted:
            if (task := TaskId(node)) in cards.tasks:
                tasks.setdefault(cards.folders[task], {})[node] = points.pop(node)
        found = {n for stream, those in tasks.items() for n in self._had_in(trunk, stream, those)}
        # a merge point's may cover the steps of any task
        for oid in self.repo.rev_list("--full-history", trunk, paths=[ROOT]) if points else ():
            for node in [n for n in points if self.spec_at(oid, n, points[n]) is not None]:
                found.add(node)
                del points[node]
            if not points:
                break
        return found

    def _had_in(self, trunk: Oid, stream: WorkstreamId, wanted: Mapping[str, str]) -> set[str]:
        """The same of tasks whose cards stand in one folder, which is walked through once."""
        folder = f"{ROOT}/{stream}"
        beside, cards = f"{folder}/{WORKSTREAM_FILE}", {n: f"{folder}/{n}.yaml" for n in wanted}
        paths = [beside, *cards.values()] if len(wanted) <= _FEW else [folder]
        left, seen = dict(wanted), set()
        for oid in self.repo.rev_list("--full-history", trunk, paths=paths):
            boundary = self.repo.at(oid, beside)
            for node, digest in [*left.items()]:
                held = node, self.repo.at(oid, cards[node]), boundary
                if held not in seen and self._digest_in(oid, cards[node], beside) == digest:
                    del left[node]
                seen.add(held)
            if not left:
                break
        return wanted.keys() - left.keys()

    def _digest_in(self, commit: Oid, path: str, beside: str) -> str | None:
        """The spec digest of the task whose card stands at a path, with its workstream `beside` it."""
        card, stated = self.repo.read(commit, path), self.repo.read(commit, beside)
        spec = read_card(card, path).spec if card else None
        stream = load_workstream(stated or b"", beside)[0]
        return task_digest(spec, stream) if isinstance(spec, Task) and stream else None

    def spec_at(self, commit: Oid, node: str, digest: str) -> tuple[Step, ...] | None:
        """The steps of a task or merge point in a commit, if its spec there has that digest."""
        cards = self._cards_for(commit, node)
        if node not in cards.tasks and node not in cards.merge_points:
            return None
        return cards.steps_of(node) if cards.digest(node) == digest else None

    def _cards_for(self, commit: Oid, node: str) -> Cards:
        """Those cards of a commit that the spec of a task or merge point hangs on."""
        paths = self._paths_at(commit, [node])
        if (path := point_path(node)) in paths:
            point = load_card(self._file(commit, path), path).spec
            paths += self._paths_at(commit, point.requires if isinstance(point, MergePoint) else ())
        return load_cards({path: self._file(commit, path) for path in paths})

    def _paths_at(self, commit: Oid, nodes: Iterable[str]) -> list[str]:
        """Where cards of these names stand in a commit, and the files of their workstreams."""
        found: list[str] = []
        names = {f"{node}.yaml" for node in nodes}
        top = self.repo.at(commit, ROOT)
        for folder, below in (self.repo.tree(top.oid) if top is not None else {}).items():
            here = [name for name in names if self._is_file(below, name)]
            if here and self._is_file(below, WORKSTREAM_FILE):
                here.append(WORKSTREAM_FILE)
            found += [f"{ROOT}/{folder}/{name}" for name in here]
        return found

    def _is_file(self, folder: Entry, name: str) -> bool:
        held = self.repo.at(folder.oid, name) if folder.is_tree else None
        return held is not None and held.mode.startswith("100")
