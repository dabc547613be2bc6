"""What the spec of a task or merge point was in a commit, and whether it ever was so on trunk."""

from __future__ import annotations

from collections.abc import Iterable

from gitwaves.cards import WORKSTREAM_FILE, load_card, load_cards, load_workstream, point_path
from gitwaves.git import Entry
from gitwaves.model import ROOT, Cards, MergePoint, Oid, Step, Task, TaskId, task_digest
from gitwaves.plans import Plans


class Specs(Plans):
    """A repository as the specs that its history holds."""

    def had_spec(self, cards: Cards, trunk: Oid, node: str, digest: str) -> bool:
        """Whether a card on trunk ever had a spec digest; True where history is cut short."""
        if self.repo.is_shallow():
            return True
        task = cards.tasks.get(TaskId(node))
        if task is None:  # a merge point's may cover the steps of any task
            commits = self.repo.rev_list("--full-history", trunk, paths=[ROOT])
            return any(self.spec_at(oid, node, digest) is not None for oid in commits)
        path = f"{ROOT}/{task.workstream}/{WORKSTREAM_FILE}"
        for oid in self.repo.rev_list("--full-history", trunk, paths=[task.path, path]):
            card = self.repo.read(oid, task.path)
            spec = load_card(card, task.path).spec if card else None
            stream = load_workstream(self.repo.read(oid, path) or b"", path)[0]
            if isinstance(spec, Task) and stream and task_digest(spec, stream) == digest:
                return True
        return False

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
