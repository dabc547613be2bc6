"""What was read at one tip of trunk is taken over at the next, where it is what would be read."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitwaves import caches, facts, outlines, shelf
from gitwaves.batches import columns_of, schedule
from gitwaves.errors import CycleError
from gitwaves.git import Repo as GitRepo
from gitwaves.graph import Graph, graph_of
from gitwaves.halves import join, split
from gitwaves.jsonout import status_json
from gitwaves.lessons import learnings_lines
from gitwaves.model import Branch, Cards, Fact, Oid, PointId, State, TaskId
from gitwaves.store import Store
from tests.plans import cards_at
from tests.repo import Repo
from tests.test_eight import plan, work

CARD, A2 = ".workstreams/WS-A/A1.yaml", ".workstreams/WS-A/A2.yaml"
POINT = ".workstreams/merge-points/MP1.yaml"
PARTS = {".index", ".entries", ".outline", ".digests"}  # of what is kept of a plan, besides rows
KEPT = ("cache", "facts", "history", "plans")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo.init(tmp_path / "repo")
    repo.write(POINT, "id: MP1\ntitle: Both\nrequires: [A1, B1]\nunlocks: [A2]\n")
    plan(repo, 3, letters="AB")
    repo.gw_ok("trust", "--yes")
    return repo


def opened(repo: Repo) -> Store:
    return Store(GitRepo.open(repo.path))


def said(cards: Cards) -> dict[str, object]:
    """All that cards say."""
    graph = graph_of(cards)
    return {
        "tasks": dict(cards.tasks),
        "points": dict(cards.merge_points),
        "tracking": dict(cards.tracking),
        "began": {node: cards.has_begun(node) for node in cards.tracking},
        "digests": {node: cards.digest(node) for node in [*cards.tasks, *cards.merge_points]},
        "rest": (cards.config, cards.workstreams, cards.findings, dict(cards.by_branch)),
        "graph": (graph, graph.dependent, graph.in_order),
        "order": _order(cards, graph),
    }


def _order(cards: Cards, graph: Graph) -> object:
    try:
        return schedule(cards, graph), columns_of(cards, graph)
    except CycleError as error:
        return error.cycle, columns_of(cards, graph)


def shown(repo: Repo) -> tuple[object, set[str]]:
    """All that is shown, and the commits that it hangs on."""
    store = opened(repo)
    snapshot = store.snapshot()
    learned = learnings_lines(snapshot.cards, snapshot.facts)
    try:
        status: object = status_json(store.progress(local=False))
    except CycleError as error:
        status = error.cycle
    return (status, learned), set(snapshot.watched)


def agrees(repo: Repo) -> None:
    """What is shown with all that is kept is what is shown with nothing kept."""
    kept, watched = shown(repo)
    folder = repo.path / ".git/gitwaves"
    aside = folder / "aside"
    aside.mkdir()
    for name in KEPT:
        if (folder / name).exists():
            (folder / name).rename(aside / name)
    try:
        fresh, hangs_on = shown(repo)
        assert kept == fresh
        assert watched >= hangs_on
    finally:
        for name in KEPT:
            shutil.rmtree(folder / name, ignore_errors=True)
            if (aside / name).exists():
                (aside / name).rename(folder / name)
        aside.rmdir()


@pytest.fixture
def read_whole(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Each plan that was read from all of its files."""
    seen: list[object] = []
    real = shelf.Shelf.read

    def noted(self: shelf.Shelf, *args: Any) -> Any:
        seen.append(args)
        return real(self, *args)

    monkeypatch.setattr(shelf.Shelf, "read", noted)
    return seen


def replaced(path: str, old: str, new: str) -> Callable[[Repo], object]:
    def change(repo: Repo) -> None:
        text = repo.read(path)
        assert old in text
        repo.write(path, text.replace(old, new, 1))

    return change


def halved(repo: Repo) -> None:
    repo.write(CARD, split(repo.read(CARD).encode())[0])


def added(repo: Repo) -> None:
    repo.write(".workstreams/WS-A/A4.yaml", repo.read(CARD).replace("A1", "A4"))


def removed(repo: Repo) -> None:
    (repo.path / CARD).unlink()


def linked(repo: Repo) -> None:
    removed(repo)
    (repo.path / CARD).symlink_to("A2.yaml")


AMENDED: dict[str, Callable[[Repo], object]] = {
    "a text": replaced(CARD, "title: ", "spec: more to do\ntitle: "),
    "verify": replaced(CARD, "grep -q ok", "grep -q fine"),
    "a merge point": replaced(POINT, "title: Both", "title: All\nspec: together"),
    "tracking by hand": replaced(CARD, "status: planned", "status: active"),
    "no card": replaced(".workstreams/.gitattributes", "-text", "-text -diff"),
    "needs": replaced(A2, "depends_on: [A1, B1]", "depends_on: [A1]"),
    "a need that nothing is called": replaced(A2, "depends_on: [A1, B1]", "depends_on: [A1, C1]"),
    "a cycle": replaced(CARD, "depends_on: []", "depends_on: [A3]"),
    "an estimate": replaced(CARD, "title: ", "estimate: 2h\ntitle: "),
    "a batch": replaced(CARD, "title: ", "batch: first\ntitle: "),
    "cancelled": replaced(CARD, "title: ", "cancelled: not wanted\ntitle: "),
    "what unlocks": replaced(POINT, "unlocks: [A2]", "unlocks: [B2]"),
    "what is required": replaced(POINT, "requires: [A1, B1]", "requires: [A1, B1, C9]"),
}
READ: dict[str, Callable[[Repo], object]] = {
    "no tracking half": halved,
    "no card any more": replaced(CARD, "id: A1", "id: ["),
    "a finding": replaced(CARD, "title: ", "titel: x\ntitle: "),
    "a boundary": replaced(".workstreams/WS-A/workstream.yaml", "a/**", "other/**"),
    "settings": replaced(".workstreams/config.yaml", "title: Eight", "title: Nine"),
    "a new card": added,
    "a card gone": removed,
    "a link": linked,
}


@pytest.mark.parametrize("what", [*AMENDED, *READ])
def test_a_plan_in_which_a_card_changed_is_what_all_of_its_files_say(
    repo: Repo, read_whole: list[object], what: str
) -> None:
    opened(repo).snapshot()
    (AMENDED | READ)[what](repo)
    store = opened(repo)
    uncommitted = store.shelf.read(store.listed_at(None))[0]
    repo.commit("Change it")
    oid = Oid(repo.oid("main"))
    assert said(uncommitted) == said(cards_at(store, oid))
    read_whole.clear()
    store = opened(repo)
    cards = store.plan_at(oid)
    assert bool(read_whole) is (what in READ)
    assert said(cards) == said(cards_at(store, oid))
    store.snapshot()
    read_whole.clear()
    again = opened(repo).plan_at(oid)  # from what was kept of it
    assert read_whole == []
    assert said(again) == said(cards)
    agrees(repo)


def reordered(repo: Repo, rng: random.Random) -> None:
    """Gives one card another place in the order."""
    names = [f"{letter}{n}" for letter in "AB" for n in (1, 2, 3)]
    batches = ["1", "2", "late", "A3"]  # the last is a task's too
    node = rng.choice([*names, "MP1"])
    some = rng.sample([*names, "MP1", "C1", "late"], rng.randrange(4))
    if node == "MP1":
        those = [name for name in some if name in names] or ["A1"]
        freed = rng.sample([*names, *batches, "C1"], rng.randrange(4))
        text = f"id: MP1\ntitle: Both\nrequires: {those}\nunlocks: {freed}\n"
        repo.write(POINT, text)
        return
    path = f".workstreams/WS-{node[0]}/{node}.yaml"
    keys = ("depends_on:", "batch:", "estimate:", "cancelled:")
    lines = [f"depends_on: [{', '.join(some)}]"] if some else []
    if rng.random() < 0.6:
        lines.append(f"batch: '{rng.choice(batches)}'")
    if rng.random() < 0.3:
        lines.append(f"estimate: {rng.randrange(1, 9)}h")
    if rng.random() < 0.2:
        lines.append("cancelled: not wanted")
    lines += [line for line in repo.read(path).splitlines() if not line.startswith(keys)]
    repo.write(path, "\n".join(lines) + "\n")


@pytest.mark.parametrize("seed", range(4))
def test_whatever_order_cards_say_it_is_what_all_of_them_say(
    repo: Repo, read_whole: list[object], seed: int
) -> None:
    rng = random.Random(seed)
    opened(repo).snapshot()
    read_whole.clear()
    for step in range(12):
        for _ in range(rng.randrange(1, 4)):
            reordered(repo, rng)
        repo.commit(f"Step {step}", **{"other.txt": f"{step}\n"})
        oid = Oid(repo.oid("main"))
        store = opened(repo)
        assert said(store.plan_at(oid)) == said(cards_at(store, oid))
        assert said(opened(repo).plan_at(oid)) == said(cards_at(store, oid))
    assert read_whole == []


def test_a_plan_that_was_amended_often_is_read_again(
    repo: Repo, read_whole: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "FEW", 4)
    monkeypatch.setattr(shelf, "_MAX_PLANS", 2)
    opened(repo).snapshot()
    read_whole.clear()
    whole = []
    cards = [f".workstreams/WS-{name[0]}/{name}.yaml" for name in ("A1", "B1", "A2", "B2", "A3")]
    for number, path in enumerate([*cards, *cards[:3]]):
        replaced(path, "title: ", f"title: {number} ")(repo)
        repo.commit("Change it")
        store = opened(repo)
        cards_now = store.snapshot().cards
        assert said(cards_now) == said(cards_at(store, Oid(repo.oid("main"))))
        whole.append(len(read_whole))
        read_whole.clear()
    assert whole == [0, 0, 0, 0, 1, 0, 0, 0]


def test_it_is_read_again_where_what_it_leans_on_is_gone(
    repo: Repo, read_whole: list[object]
) -> None:
    opened(repo).snapshot()
    AMENDED["a text"](repo)
    repo.commit("Change it")
    opened(repo).snapshot()
    read_whole.clear()
    folder = repo.path / ".git/gitwaves/plans"
    for rows in folder.iterdir():
        if rows.suffix not in PARTS:
            rows.unlink()
    oid = Oid(repo.oid("main"))
    store = opened(repo)
    assert said(store.plan_at(oid)) == said(cards_at(store, oid))
    assert read_whole


def test_it_is_read_again_where_only_what_outlines_are_made_of_is_gone(repo: Repo) -> None:
    """Another tree of the same files: it is kept under a name of its own, with all of its rows."""
    opened(repo).snapshot()
    for entries in (repo.path / ".git/gitwaves/plans").glob("*.entries"):
        entries.unlink()
    (repo.path / CARD).chmod(0o755)
    repo.commit("The same files")
    store = opened(repo)
    store.snapshot()
    wanted = said(cards_at(store, Oid(repo.oid("main"))))
    assert said(opened(repo).plan_at(Oid(repo.oid("main")))) == wanted
    replaced(CARD, "title: ", "title: Another ")(repo)
    repo.commit("Another text")
    oid = Oid(repo.oid("main"))
    store = opened(repo)
    assert said(store.plan_at(oid)) == said(cards_at(store, oid))


def test_rows_that_are_cut_off_are_not_what_is_written_after_them(repo: Repo) -> None:
    """The last row is gone, and that of a new card, just as long, would lie in its place."""
    opened(repo).snapshot()
    folder = repo.path / ".git/gitwaves/plans"
    (rows,) = (path for path in folder.iterdir() if path.suffix not in PARTS)
    ((_, entries),) = (caches.kept_at(p, shelf._key(Oid(p.stem))) for p in folder.glob("*.entries"))
    last, (_, (start, length)) = max(entries.items(), key=lambda item: item[1][1])
    os.truncate(rows, start)
    name = Path(last).stem
    new = last.replace(name, f"{name[0]}9")
    repo.commit("Another card", **{new: repo.read(last).replace(name, f"{name[0]}9")})
    assert length > 100
    oid = Oid(repo.oid("main"))
    for _ in range(2):
        store = opened(repo)
        assert said(store.plan_at(oid)) == said(cards_at(store, oid))
        store._keep()


def test_digests_are_kept_of_an_amended_plan_too(repo: Repo) -> None:
    begun(repo)
    replaced(".workstreams/WS-B/B3.yaml", "title: ", "title: Another ")(repo)
    repo.commit("Nobody asks for its digest")
    opened(repo).snapshot()
    told = opened(repo).plan_at(Oid(repo.oid("main"))).digests
    assert {"A1", "A2", "B1"} <= told.keys()


def test_an_outline_under_the_name_of_another_tree_does_not_count(repo: Repo) -> None:
    folder = repo.path / ".git/gitwaves/plans"
    opened(repo).snapshot()
    first = repo.git("rev-parse", "HEAD:.workstreams")
    AMENDED["cancelled"](repo)
    repo.commit("Cancelled")
    opened(repo).snapshot()
    second = repo.git("rev-parse", "HEAD:.workstreams")
    shutil.copy(folder / f"{first}.outline", folder / f"{second}.outline")
    oid = Oid(repo.oid("main"))
    store = opened(repo)
    assert said(store.plan_at(oid)) == said(cards_at(store, oid))


def test_where_a_merge_point_frees_many_the_plan_is_read_again(
    repo: Repo, read_whole: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlines, "_MANY", 2)
    opened(repo).snapshot()
    read_whole.clear()
    replaced(POINT, "unlocks: [A2]", "unlocks: [A2, A3]")(repo)
    repo.commit("One more")
    opened(repo).snapshot()
    assert read_whole == []
    replaced(POINT, "unlocks: [A2, A3]", "unlocks: [B2, B3]")(repo)
    repo.commit("Four others")
    store = opened(repo)
    oid = Oid(repo.oid("main"))
    assert said(store.plan_at(oid)) == said(cards_at(store, oid))
    assert read_whole


# --- what history says of branches ---------------------------------------------------------------


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Branch, list[str]]]:
    """Each branch that was read, and of which tasks."""
    seen: list[tuple[Branch, list[str]]] = []
    real = Store._facts_on

    def noted(self: Store, cards: Cards, branch: Branch, *rest: Any) -> dict[str, Fact]:
        facts = real(self, cards, branch, *rest)
        seen.append((branch, sorted(facts)))
        return facts

    monkeypatch.setattr(Store, "_facts_on", noted)
    return seen


def begun(repo: Repo) -> None:
    """A1 and B1 have landed, A2 is done on its branch, B2 is at work, and all of it was looked at."""
    for letter in "AB":
        assert work(repo, letter, 1, []).code == 0
    repo.gw_ok("merge", "MP1")
    for letter in "AB":
        repo.at(f"../{repo.path.name}.worktrees/ws-{letter}").git("merge", "-q", "main")
    assert work(repo, "A", 2, []).code == 0
    repo.gw_ok("start", "B2")
    opened(repo).snapshot()


def test_where_trunk_goes_on_only_what_it_touched_is_looked_at(
    repo: Repo, looked: list[tuple[Branch, list[str]]]
) -> None:
    begun(repo)
    looked.clear()
    repo.commit("Something else", **{"other.txt": "x\n"})
    opened(repo).snapshot()
    assert looked == []
    replaced(".workstreams/WS-A/A3.yaml", "title: ", "title: Another ")(repo)
    repo.commit("Nobody has begun it")
    opened(repo).snapshot()
    assert looked == [("ws/A", ["A2", "A3"])]  # what the branch has otherwise; not A1
    agrees(repo)
    looked.clear()
    AMENDED["a text"](repo)
    repo.commit("Another spec")
    opened(repo).snapshot()
    assert looked == [("ws/A", ["A1", "A2", "A3"])]
    agrees(repo)


def test_where_a_branch_goes_on_what_trunk_says_of_it_is_known(
    repo: Repo, looked: list[tuple[Branch, list[str]]]
) -> None:
    begun(repo)
    looked.clear()
    tree = repo.at(f"../{repo.path.name}.worktrees/ws-B")
    tree.commit("Work", **{"b/more.txt": "x\n"})
    opened(repo).snapshot()
    assert looked == [("ws/B", ["B2"])]  # not B1, which has landed
    agrees(repo)


def squashed_and_taken_back(repo: Repo) -> None:
    """Trunk stands as before, and has said of A2 in between that it is done."""
    repo.git("merge", "-q", "--squash", "ws/A")
    repo.git("commit", "-qm", "Squashed")
    repo.git("revert", "--no-edit", "HEAD")


def merged_and_taken_back(repo: Repo) -> None:
    repo.git("merge", "-q", "--no-ff", "-m", "Merged", "ws/A")
    repo.git("revert", "--no-edit", "-m", "1", "HEAD")


def landing_taken_back(repo: Repo) -> None:
    landing = repo.git("log", "-1", "--format=%H", "--merges", "--first-parent", "main")
    repo.git("revert", "--no-edit", "-m", "1", landing)


def taken_back_on_a_side(repo: Repo) -> None:
    """Trunk's own line has never said of A2 that it is done; what it merges has."""
    repo.git("switch", "-q", "-c", "side")
    squashed_and_taken_back(repo)
    repo.git("switch", "-q", "main")
    repo.git("merge", "-q", "--no-ff", "-m", "Merged", "side")


def merged_where_a_branch_had_it(repo: Repo) -> None:
    """The branch has taken in, before trunk does, where it was squashed, and not that taken back."""
    repo.git("switch", "-q", "-c", "side")
    squashed_and_taken_back(repo)
    repo.git("switch", "-q", "main")
    tree = repo.at(f"../{repo.path.name}.worktrees/ws-A")
    tree.git("merge", "-q", "--no-ff", "--no-verify", "-m", "Take it in", "side~1")
    agrees(repo)
    repo.git("merge", "-q", "--no-ff", "-m", "Merged", "side")


def held_by_a_trunk_that_was(repo: Repo) -> None:
    """A branch is rewritten, so that only trunk has its verified commit, and then trunk is too."""
    tip = repo.oid("ws/A")
    again = repo.git("commit-tree", "-p", "ws/A~2", "-m", "Rewritten", "ws/A^{tree}")
    tree = repo.at(f"../{repo.path.name}.worktrees/ws-A")
    tree.git("reset", "-q", "--hard", again)
    repo.git("merge", "-q", "-s", "ours", "-m", "Has it", tip)
    agrees(repo)
    repo.git("reset", "-q", "--hard", "HEAD^")
    repo.commit("Goes on without", **{"other.txt": "x\n"})


def rewound(repo: Repo) -> None:
    repo.commit("Something else", **{"other.txt": "x\n"})
    opened(repo).snapshot()
    repo.git("reset", "-q", "--hard", "HEAD^")


def forwarded(repo: Repo) -> None:
    """Trunk is fast-forwarded to a branch."""
    repo.git("merge", "-q", "--ff-only", "ws/B")


def outdated(repo: Repo) -> None:
    """A2 is stale: trunk had the spec of its evidence, and has another one now."""
    replaced(A2, "title: ", "spec: more\ntitle: ")(repo)
    repo.commit("A2 is stale")
    agrees(repo)


def forged(repo: Repo, card: str, change: Callable[[str], str]) -> None:
    """Commits another tracking half on the branch, past all hooks."""
    tree = repo.at(f"../{repo.path.name}.worktrees/ws-A")
    tree.write(card, change(tree.read(card)))
    tree.git("commit", "-q", "--no-verify", "-a", "-m", "Forged")
    agrees(repo)


def of_no_spec(text: str) -> str:
    return re.sub(r"(evidence:.*?spec: )\S+", rf'\1"sha256:{"0" * 64}"', text, flags=re.DOTALL)


def outdated_and_never_so(repo: Repo) -> None:
    """Trunk begins anew, without the spec that it had."""
    outdated(repo)
    repo.git("reset", "-q", "--hard", repo.git("commit-tree", "main^{tree}", "-m", "Anew"))


def of_a_spec_that_never_was(repo: Repo) -> None:
    forged(repo, A2, of_no_spec)
    replaced(A2, "title: ", "title: Another ")(repo)
    repo.commit("Trunk goes on")


def outdated_and_then_forged(repo: Repo) -> None:
    outdated(repo)
    forged(repo, A2, of_no_spec)


def misplaced_and_then_in_place(repo: Repo) -> None:
    """A3 has the evidence of A2, first under that name, then under its own."""
    whole = repo.git("show", f"ws/A:{A2}")
    half = split(whole.encode())[1].decode()
    third = ".workstreams/WS-A/A3.yaml"
    forged(repo, third, lambda text: join(split(text.encode())[0], half.encode()).decode())
    forged(repo, third, lambda text: text.replace("task: A2", "task: A3"))


def landing_taken_back_and_made_again(repo: Repo) -> None:
    landing_taken_back(repo)
    agrees(repo)
    repo.gw_ok("merge", "MP1", "--again")


def landing_of_another_spec(repo: Repo) -> None:
    """MP1 is stale: its tasks have other steps."""
    replaced(CARD, "grep -q ok", "grep -q o")(repo)
    repo.commit("Other steps")
    agrees(repo)
    replaced(CARD, "grep -q o", "grep -c o")(repo)
    repo.commit("And others")


def landing_forged(repo: Repo) -> None:
    """First for a spec that never was, then for what it has now."""
    text = repo.read(POINT)
    repo.commit("Forged", **{POINT: of_no_spec(text)})
    agrees(repo)
    repo.commit("Taken back", **{POINT: text})


def landing_for_a_spec_that_comes_with_a_merge(repo: Repo) -> None:
    repo.git("switch", "-q", "-c", "side")
    replaced(POINT, "title: Both", "title: Both\nspec: On a side.")(repo)
    repo.commit("Another spec")
    digest = cards_at(opened(repo), Oid(repo.oid("side"))).digest("MP1")
    repo.git("switch", "-q", "main")
    text = of_no_spec(repo.read(POINT)).replace("sha256:" + "0" * 64, digest)
    repo.commit("Forged", **{POINT: text})
    agrees(repo)
    repo.git("merge", "-q", "-s", "ours", "-m", "Has it", "side")


def point_gone_and_back(repo: Repo) -> None:
    repo.git("rm", "-q", POINT)
    repo.git("commit", "-qm", "Gone")
    agrees(repo)
    repo.git("checkout", "-q", "HEAD~1", "--", POINT)
    repo.git("commit", "-qm", "Back")


def point_gone_and_back_as_planned(repo: Repo) -> None:
    """Then it counts as taken back: trunk's own line has landed it once."""
    text = split(repo.read(POINT).encode())[0]
    repo.git("rm", "-q", POINT)
    repo.git("commit", "-qm", "Gone")
    agrees(repo)
    half = b"tracking:\n  task: MP1\n  status: planned\n"
    repo.commit("Back", **{POINT: join(text, half).decode()})


def another_point(repo: Repo) -> None:
    other = POINT.replace("MP1", "MP2")
    repo.commit("Another", **{other: "id: MP2\ntitle: Two\nrequires: [A2]\n"})
    agrees(repo)
    repo.gw_ok("merge", "MP2")
    agrees(repo)
    repo.commit("Another title", **{POINT: repo.read(POINT).replace("title: ", "title: All ")})


@pytest.mark.parametrize(
    "deed",
    [
        landing_taken_back_and_made_again,
        landing_of_another_spec,
        landing_forged,
        landing_for_a_spec_that_comes_with_a_merge,
        point_gone_and_back,
        point_gone_and_back_as_planned,
        another_point,
        outdated,
        outdated_and_never_so,
        of_a_spec_that_never_was,
        outdated_and_then_forged,
        misplaced_and_then_in_place,
        squashed_and_taken_back,
        merged_and_taken_back,
        taken_back_on_a_side,
        merged_where_a_branch_had_it,
        landing_taken_back,
        held_by_a_trunk_that_was,
        rewound,
        forwarded,
    ],
)
def test_what_trunk_does_is_seen_as_if_nothing_were_kept(
    repo: Repo, deed: Callable[[Repo], None]
) -> None:
    begun(repo)
    deed(repo)
    agrees(repo)
    repo.commit("Something else", **{"third.txt": "x\n"})
    agrees(repo)


def test_landings_are_looked_for_where_trunk_touched_what_they_hang_on(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(repo)
    lines: list[list[str]] = []
    says_done = Store._says_done

    def noted(self: Store, commit: Oid, point: PointId) -> bool:
        lines[-1].append(commit)
        return says_done(self, commit, point)

    def looked_at(title: str, **files: str) -> int:
        repo.commit(title, **files)
        lines.append([])
        opened(repo).snapshot()
        looks = len(lines[-1])
        agrees(repo)
        return looks

    monkeypatch.setattr(Store, "_says_done", noted)
    third = ".workstreams/WS-A/A3.yaml"
    more = {third: repo.read(third).replace("title: ", "title: Another ")}
    assert looked_at("Something else", **{"other.txt": "x\n"}) == 0
    assert looked_at("Not required", **more) == 0
    assert looked_at("Required", **{CARD: repo.read(CARD).replace("title: ", "title: More ")}) == 0
    before = len(repo.git("log", "--first-parent", "--format=%h", "main", "--", POINT).split())
    assert looked_at("Touched", **{POINT: repo.read(POINT).replace("title: ", "title: All ")}) <= 2
    assert before >= 2


def test_where_history_is_cut_short_trunk_may_have_had_any_spec(repo: Repo) -> None:
    begun(repo)
    AMENDED["a text"](repo)
    repo.commit("A1 is stale")
    repo.commit("Something else", **{"other.txt": "x\n"})
    repo.git("clone", "-q", "--depth", "1", f"file://{repo.path}", "../clone")
    clone = repo.at("../clone")
    assert opened(clone).progress().tasks[TaskId("A1")].state is State.STALE
    agrees(clone)


def test_a_card_that_moves_takes_no_spec_along(repo: Repo) -> None:
    """In another folder it has another boundary, and so never had the spec of its evidence."""
    for letter in "AB":
        stream = f".workstreams/WS-{letter}/workstream.yaml"
        repo.write(stream, repo.read(stream) + "branch: ws/A\n")
    repo.git("rm", "-q", POINT)
    repo.commit("They share a branch")
    assert work(repo, "A", 1, []).code == 0
    repo.gw_ok("merge", "--rest")
    AMENDED["a text"](repo)
    repo.commit("It is stale")
    agrees(repo)
    repo.git("mv", CARD, CARD.replace("WS-A", "WS-B"))
    repo.git("commit", "-qm", "Moved")
    agrees(repo)
    assert opened(repo).progress().tasks[TaskId("A1")].state is State.UNPROVEN


def test_evidence_that_is_lost_is_not_taken_over(repo: Repo) -> None:
    """A1 landed squashed, and its branch is removed: its verified commit goes with what Git prunes."""
    assert work(repo, "A", 1, []).code == 0
    repo.git("merge", "-q", "--squash", "ws/A")
    repo.git("commit", "-qm", "Squashed")
    opened(repo).snapshot()
    repo.git("worktree", "remove", "--force", f"../{repo.path.name}.worktrees/ws-A")
    repo.git("branch", "-q", "-D", "ws/A")
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("prune", "--expire=now")
    store = opened(repo)
    assert store.progress().tasks[TaskId("A1")].flags == ("unchecked",)
    agrees(repo)


def test_what_is_doubted_is_looked_at_whenever_trunk_goes_on(
    repo: Repo, looked: list[tuple[Branch, list[str]]]
) -> None:
    begun(repo)
    tree = repo.at(f"../{repo.path.name}.worktrees/ws-A")
    tree.git("commit", "--amend", "-q", "--no-verify", "-m", "Another commit", "--allow-empty")
    replaced(".workstreams/WS-A/A2.yaml", "title: ", "spec: more\ntitle: ")(repo)
    repo.commit("A2 is stale")
    opened(repo).snapshot()
    looked.clear()
    repo.commit("Something else", **{"other.txt": "x\n"})
    opened(repo).snapshot()
    assert [branch for branch, _ in looked] == ["ws/A"]
    agrees(repo)


def test_a_folder_that_goes_by_another_name_holds_other_cards(repo: Repo) -> None:
    """Nothing but the folder's name tells the two apart: neither has a file of its own."""
    repo.git("rm", "-q", ".workstreams/WS-A/workstream.yaml")
    repo.git("commit", "-qm", "Without boundary")
    repo.gw_ok("trust", "--yes")
    repo.gw_ok("start", "A1")
    opened(repo).snapshot()
    repo.git("mv", ".workstreams/WS-A", ".workstreams/A")
    repo.git("commit", "-qm", "By another name")
    agrees(repo)


def test_what_is_said_of_lost_cards_follows_what_trunk_says_of_their_workstream(repo: Repo) -> None:
    repo.gw_ok("start", "A1")
    stream = ".workstreams/WS-A/workstream.yaml"
    cards = [f".workstreams/WS-A/A{n}.yaml" for n in (1, 2, 3)]
    repo.git("rm", "-q", *cards, POINT)
    repo.git("commit", "-qm", "No card of it any more")
    assert "has work of A1" in repr(opened(repo).snapshot().warnings)
    repo.write(cards[0], "id: [")
    repo.commit("One that nobody can read")
    agrees(repo)
    repo.write(stream, repo.read(stream) + "branch: ws/other\n")
    repo.commit("Another branch")
    agrees(repo)
    repo.git("branch", "-q", "-m", "develop")
    replaced(".workstreams/config.yaml", "trunk: main", "trunk: develop")(repo)
    repo.commit("Another trunk")
    agrees(repo)


def spoiled(repo: Repo, oid: str) -> None:
    """An object that cannot be read any more, as a power cut leaves it."""
    path = repo.path / f".git/objects/{oid[:2]}/{oid[2:]}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("what", ["a trunk that was", "a plan that was", "another branch"])
def test_what_is_damaged_and_counts_no_more_is_in_nobodys_way(repo: Repo, what: str) -> None:
    repo.gw_ok("start", "A1")
    before = repo.oid()
    if what == "another branch":
        below = repo.git("commit-tree", "-p", "main", "-m", "Below", "main^{tree}")
        above = repo.git("commit-tree", "-p", below, "-m", "Above", "main^{tree}")
        repo.git("update-ref", "refs/heads/other", above)
        opened(repo).snapshot()
        spoiled(repo, below)
    else:
        AMENDED["a text"](repo)
        repo.commit("Cut short")
        opened(repo).snapshot()
        last = repo.git("rev-parse", "main" if what == "a trunk that was" else "main:.workstreams")
        repo.git("reset", "-q", "--hard", before)
        repo.git("reflog", "expire", "--expire=now", "--all")
        spoiled(repo, last)
    replaced(CARD, "title: ", "spec: once more\ntitle: ")(repo)
    repo.commit("Goes on")
    assert repo.gw("status").code == 0
    agrees(repo)


def test_where_trunk_got_a_lot_at_once_branches_are_read(
    repo: Repo, looked: list[tuple[Branch, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(repo)
    monkeypatch.setattr(facts, "_MANY", 3)
    for count, read in ((3, False), (4, True)):
        looked.clear()
        for number in range(count):
            repo.commit("Something else", **{"other.txt": f"{number} of {count}\n"})
        opened(repo).snapshot()
        assert bool(looked) is read
        agrees(repo)


@pytest.mark.parametrize("seed", range(3))
def test_random_deeds_are_seen_as_if_nothing_were_kept(repo: Repo, seed: int) -> None:
    begun(repo)
    rng = random.Random(seed)
    cards = [f".workstreams/WS-{letter}/{letter}{n}.yaml" for letter in "AB" for n in (1, 2, 3)]
    for number in range(12):
        match rng.randrange(6):
            case 0 | 1:
                replaced(rng.choice(cards), "title: ", f"spec{number}: x\ntitle: ")(repo)
                repo.commit("Not to be read")
            case 2:
                replaced(rng.choice(cards), "title: ", f"title: {number} ")(repo)
                repo.commit("Another title")
            case 3:
                repo.git("revert", "--no-edit", "HEAD", check=False)
                repo.git("revert", "--abort", check=False)
            case 4:
                tree = repo.at(f"../{repo.path.name}.worktrees/ws-{rng.choice('AB')}")
                tree.git("commit", "-q", "--allow-empty", "--no-verify", "-m", "Work")
            case _:
                repo.commit("Something else", **{f"other{number}.txt": "x\n"})
        agrees(repo)
