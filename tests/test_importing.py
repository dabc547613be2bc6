from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwaves.cards import load_cards
from gitwaves.design_doc import DesignDoc, DocMergePoint, DocTask, DocWorkstream, parse
from gitwaves.halves import SEPARATOR, join, planned, split
from gitwaves.importing import Import, cut, reimport
from gitwaves.model import Branch, Config, Step, is_id, seconds
from gitwaves.yamledit import edited

DOCS = Path(__file__).parent / "docs"
A1 = ".workstreams/WS-A/A1.yaml"
A2 = ".workstreams/WS-A/A2.yaml"
MP1 = ".workstreams/merge-points/MP1.yaml"
STREAM = ".workstreams/WS-A/workstream.yaml"

PLAN = """\
## WS-A: Seats
Paths: `seats/**`

### A1: Seat map
Estimate: 2h
Verify: `make test`

Rows and seats.

Acceptance:
- No seat is in two rows.

### A2: Reservations
Depends on: A1

A seat is held.

## Merge points
- MP1: A1 -> unlocks A2
"""


def plan(*changes: tuple[str, str]) -> DesignDoc:
    text = PLAN
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse(text)


def cards(**changes: tuple[str, str]) -> dict[str, bytes]:
    """The cards of the plan, each with one text replaced by another."""
    files = cut(plan(), Config())
    for name, (old, new) in changes.items():
        path = {"A1": A1, "A2": A2, "MP1": MP1, "WS": STREAM}[name]
        assert old.encode() in files[path]
        files[path] = files[path].replace(old.encode(), new.encode())
    return files


def merge(
    new: DesignDoc, existing: dict[str, bytes], *begun: str, old: DesignDoc | None = None
) -> Import:
    return reimport(old or plan(), new, existing, set(begun))


def conflicts(result: Import) -> list[str]:
    return [str(finding) for finding in result.conflicts]


def test_a_card_as_it_is_cut() -> None:
    files = cut(plan(), Config())
    assert list(files) == [STREAM, A1, A2, MP1]
    assert files[A1].decode() == dedent(
        """\
        id: A1
        title: Seat map
        depends_on: []
        estimate: 2h
        spec: |
          Rows and seats.
        acceptance:
          - No seat is in two rows.
        verify:
          - run: make test
        x-source: docs/design.md:4
        # --- tracking: written by gitwaves on the worktree's branch ---
        tracking:
          task: A1
          status: planned
        """
    )
    assert files[MP1].decode() == dedent(
        """\
        id: MP1
        title: A1
        requires: [A1]
        unlocks: [A2]
        x-source: docs/design.md:19
        # --- tracking: written by gitwaves on the worktree's branch ---
        tracking:
          task: MP1
          status: planned
        """
    )
    assert files[STREAM] == b"title: Seats\npaths: [seats/**]\nx-source: docs/design.md:1\n"


@pytest.mark.parametrize("name", ["headings.md", "tables.md", "skill.md"])
def test_what_is_cut_can_be_read(name: str) -> None:
    doc = parse((DOCS / name).read_text(encoding="utf-8"), name)
    read = load_cards(cut(doc, Config()))
    assert read.findings == ()
    assert set(read.tasks) == {task.id for task in doc.tasks}
    assert set(read.merge_points) == {point.id for point in doc.merge_points}
    assert set(read.tracking) == {*read.tasks, *read.merge_points}


def test_names_that_yaml_takes_for_something_else_are_quoted() -> None:
    task = DocTask("n1", "no", "WS-N", 1, depends_on=("A1", "x1"), batch="1e3", spec="x")
    point = DocMergePoint("MP1", "12:30", 2, ("n1",), ("012", "7", "A1"))
    doc = DesignDoc("d.md", "", (DocWorkstream("WS-N", "on", 1),), (task,), (point,), (), ())
    files = cut(doc, Config())
    card = files[".workstreams/WS-N/n1.yaml"]
    assert b'title: "no"\ndepends_on: [A1, x1]\nbatch: "1e3"\n' in card
    assert b'title: "12:30"\n' in files[MP1]
    assert b'unlocks: ["012", "7", A1]\n' in files[MP1]
    assert planned("on") == b'tracking:\n  task: "on"\n  status: planned\n'


def test_a_branch_that_is_trunk_is_nobodys() -> None:
    doc = plan(("Paths:", "Branch: main\nPaths:"))
    assert b"branch" not in cut(doc, Config())[STREAM]
    assert b"branch: main\n" in cut(doc, Config(trunk=Branch("dev")))[STREAM]


def test_without_a_change_no_byte_changes() -> None:
    edits = cards(A1=("estimate: 2h", "estimate: 3h   # slow"), A2=("A seat", "One seat"))
    edits[A2] = edits[A2].replace(b"\n", b"\r\n")
    assert merge(plan(), edits) == Import()


def test_a_field_that_only_the_document_changed_is_taken() -> None:
    tracked = cards(A1=("status: planned", "status: done"))
    new = plan(("make test", "make all"), ("Rows and", "Halls, rows and"))
    result = merge(new, tracked, "A1")
    assert result.files == {
        A1: tracked[A1].replace(b"make test", b"make all").replace(b"Rows", b"Halls, rows")
    }
    assert result.report == ("A1: spec, verify changed (begun: to be verified again)",)
    assert result.conflicts == ()


def test_the_users_edits_stay() -> None:
    existing = cards(A1=("title: Seat map", "title: Map of seats   # mine\nx-team: blue"))
    result = merge(plan(("Estimate: 2h", "Estimate: 4h")), existing)
    assert result.files == {A1: existing[A1].replace(b"estimate: 2h", b"estimate: 4h")}
    assert result.report == ("A1: estimate changed",)


def test_what_both_changed_is_reported() -> None:
    existing = cards(A1=("title: Seat map", "title: Map of seats"))
    result = merge(plan(("A1: Seat map", "A1: Halls")), existing)
    assert result.files == {}
    assert conflicts(result) == [f"{A1}:2:1: warning: both changed: `title` stays as it is"]
    same = merge(plan(("A1: Seat map", "A1: Map of seats")), existing)
    assert (same.files, same.conflicts) == ({}, ())


def test_fields_come_and_go() -> None:
    new = plan(("Estimate: 2h\n", "Batch: 3\n"), ("Acceptance:\n- No seat is in two rows.\n", ""))
    result = merge(new, cards())
    assert result.files[A1].startswith(b"id: A1\ntitle: Seat map\ndepends_on: []\nbatch: 3\nspec")
    assert b"acceptance" not in result.files[A1]
    assert result.report == ("A1: batch, estimate, acceptance changed",)


def test_new_and_gone() -> None:
    new = plan(("### A2: Reservations", "### A3: Queues"), ("unlocks A2", "unlocks A3"))
    result = merge(new, cards())
    assert set(result.files) == {".workstreams/WS-A/A3.yaml", MP1}
    assert result.deleted == (A2,)
    assert result.report == (
        "A3: new, from line 13",
        "merge point MP1: unlocks changed",
        "A2: deleted",
    )


@pytest.mark.parametrize(
    ("existing", "begun", "why"),
    [
        (cards(), "A2", "it is begun: kept; to give it up, set `cancelled`"),
        (
            cards(A2=("status: planned", "status: active")),
            "",
            "it is begun: kept; to give it up, set `cancelled`",
        ),
        (
            cards(A2=("id: A2", "id: A2  # !")),
            "",
            "the card was edited: kept; delete it by hand",
        ),
    ],
)
def test_a_card_with_something_in_it_is_not_deleted(
    existing: dict[str, bytes], begun: str, why: str
) -> None:
    new = plan(("### A2: Reservations\nDepends on: A1\n\nA seat is held.\n", ""))
    result = merge(new, existing, begun)
    assert result.deleted == ()
    assert f"{A2}:1:1: warning: A2 is gone from docs/design.md, but {why}" in conflicts(result)


def test_what_was_deleted_by_hand_stays_deleted() -> None:
    existing = cards()
    del existing[A2]
    assert merge(plan(), existing) == Import()
    result = merge(plan(("is held", "is kept")), existing)
    assert result.files == {}
    assert conflicts(result) == [
        (
            "docs/design.md:13:1: warning: A2 was deleted by hand and has changed here since: "
            "it stays deleted"
        )
    ]


def test_a_task_moves_with_its_edits_unless_it_is_begun() -> None:
    new = plan(("### A2", "## WS-B: Holds\nPaths: `holds/**`\n\n### A2"))
    existing = cards(A2=("A seat is held.", "A seat is held, twice."))
    result = merge(new, existing)
    moved = ".workstreams/WS-B/A2.yaml"
    assert set(result.files) == {moved, ".workstreams/WS-B/workstream.yaml"}
    assert result.files[moved] == existing[A2].replace(b"design.md:13", b"design.md:16")
    assert result.deleted == (A2,)
    assert result.report == ("workstream WS-B: new, from line 13", "A2: moved to WS-B")
    result = merge(new, existing, "A2")
    assert (result.deleted, set(result.files) & {moved}) == ((), set())
    assert conflicts(result) == [
        f"{A2}:1:1: warning: the document moves A2 to WS-B, but it is begun: not moved"
    ]


def test_a_workstream_goes_with_its_last_card() -> None:
    old = plan(("## Merge", "## WS-B: Web\nPaths: `web/**`\n### B1: Page\n\n## Merge"))
    existing = cut(old, Config())
    result = merge(plan(), existing, old=old)
    folder = ".workstreams/WS-B/"
    assert result.deleted == (folder + "B1.yaml", folder + "workstream.yaml")
    kept = merge(plan(), existing, "B1", old=old)
    assert kept.deleted == ()
    assert len(kept.conflicts) == 2


def test_the_branch_of_a_workstream_at_work_stays() -> None:
    new = plan(("Paths:", "Branch: feature/seats\nPaths:"))
    assert b"branch: feature/seats\n" in merge(new, cards()).files[STREAM]
    result = merge(new, cards(), "A2")
    assert STREAM not in result.files
    assert "the document says branch feature/seats, but tasks here are begun" in str(result)


def test_without_the_old_document_cards_are_the_users() -> None:
    existing = cards(A1=("estimate: 2h", "estimate: 120m"), A2=("A seat", "One seat"))
    del existing[MP1]
    result = reimport(None, plan(), existing, set())
    assert set(result.files) == {MP1}
    assert conflicts(result) == [
        f"{A2}:4:1: warning: not what the document says: `spec` stays as it is"
    ]


def test_comments_order_and_line_ends_survive() -> None:
    existing = cards()
    spec, tracking = split(existing[A1])
    mine = b"# top\n" + spec.replace(b"estimate: 2h\n", b"estimate: '2h'  # rough\n# why\n\n")
    mine = mine.replace(b"acceptance:\n  -", b"acceptance:   # all\n-") + b"# end\n"
    existing[A1] = join(mine, tracking).replace(b"\n", b"\r\n")
    new = plan(("Estimate: 2h", "Estimate: 4h"), ("in two rows.\n", "in two rows.\n- Sorted.\n"))
    result = merge(new, existing)
    assert result.files[A1].replace(b"\r\n", b"\n") == existing[A1].replace(b"\r\n", b"\n").replace(
        b"'2h'", b"4h"
    ).replace(
        b"\n- No seat is in two rows.\n",
        b"\n  - No seat is in two rows.\n  - Sorted.\n",
    )
    assert result.files[A1].count(b"\n") == result.files[A1].count(b"\r\n")


def test_a_card_that_cannot_be_read_is_left_alone() -> None:
    existing = cards(A1=("title: Seat map", "title: [Seat map"))
    result = merge(plan(("Estimate: 2h", "Estimate: 4h")), existing)
    assert result.files == {}
    assert conflicts(result) == [f"{A1}:3:1: warning: cannot be read, left as it is"]
    flow = {**cards(), A1: b"{id: A1, title: Seat map}\n"}
    assert "cannot be edited" in str(merge(plan(("A1: Seat map", "A1: Halls")), flow).conflicts)


def test_a_line_that_moved_is_followed_when_the_card_changes() -> None:
    moved = ("## WS-A: Seats", "# Tickets\n\n## WS-A: Seats")
    assert merge(plan(moved), cards()) == Import()
    result = merge(plan(moved, ("Estimate: 2h", "Estimate: 4h")), cards())
    edits = cards()[A1].replace(b"design.md:4", b"design.md:6").replace(b"2h", b"4h")
    assert result.files == {A1: edits}


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_halves(end: bytes) -> None:
    card = join(b"id: A1" + end, b"tracking: {}" + end)
    assert split(card) == (b"id: A1" + end, b"tracking: {}" + end)
    assert join(*split(card)) == card
    inside = b"spec: |\n  " + SEPARATOR + b"tracking: {}\n"
    assert split(inside) == (inside, b"")


def test_an_edit_needs_a_block_mapping() -> None:
    with pytest.raises(ValueError, match="block mapping"):
        edited(b"[a]\n", {"a": 1}, "a")
    with pytest.raises(ValueError, match="line breaks"):
        edited("a: x\u2028\n".encode(), {"a": 1}, "a")


IDS = st.from_regex(r"[A-Za-z]{1,3}[0-9]{1,2}", fullmatch=True).filter(is_id)
LINES = st.text(max_size=30).filter(lambda t: "\0" not in t) | st.sampled_from(
    ["# x", "- a: b", "  in", "no", "1e3", "", "é 🎉"]
)
TEXTS = st.lists(LINES, min_size=1, max_size=5).map("\n".join).map(str.strip).filter(bool)
TITLES = LINES.map(lambda line: " ".join(line.split())).filter(bool)
TASKS = st.builds(
    DocTask,
    id=IDS,
    title=TITLES,
    workstream=st.sampled_from(["WS-A", "WS-B"]),
    line=st.integers(1, 999),
    depends_on=st.lists(IDS, unique=True, max_size=3).map(tuple),
    batch=st.none() | st.sampled_from(["1", "012", "1e3", "P1.5-B1", "no", "0"]),
    estimate=st.none() | st.sampled_from(["2h", "90s", "1h30m"]),
    paths=st.lists(st.sampled_from(["a/**", "b [1].py", "*.x", "#y"]), max_size=2).map(tuple),
    spec=TEXTS,
    acceptance=st.lists(TITLES, max_size=2).map(tuple),
    produces=st.lists(st.just("dist/x: y.json"), max_size=1).map(tuple),
    verify=st.lists(st.builds(Step, run=TITLES) | st.builds(Step, manual=TITLES), max_size=2).map(
        tuple
    ),
)
PLANS = st.lists(TASKS, min_size=1, max_size=4, unique_by=lambda t: t.id.lower()).map(
    lambda tasks: DesignDoc(
        "d.md",
        "",
        (DocWorkstream("WS-A", "A", 1), DocWorkstream("WS-B", "B", 2, ("b/**",))),
        tuple(tasks),
        (),
        (),
        (),
    )
)


@given(PLANS)
def test_cards_say_what_the_document_says(doc: DesignDoc) -> None:
    read = load_cards(cut(doc, Config()))
    assert read.findings == ()
    for task in doc.tasks:
        card = next(t for t in read.tasks.values() if t.id == task.id)
        assert (card.title, card.workstream) == (task.title, task.workstream)
        assert (card.depends_on, card.batch) == (task.depends_on, task.batch)
        assert card.estimate == (seconds(task.estimate) if task.estimate else None)
        assert card.spec.rstrip("\n") == task.spec
        assert (card.acceptance, card.produces) == (task.acceptance, task.produces)
        assert (card.paths, card.verify) == (task.paths, task.verify)


@given(PLANS, PLANS)
def test_importing_again_comes_to_what_a_first_import_would(old: DesignDoc, new: DesignDoc) -> None:
    files = cut(old, Config())
    assert reimport(old, old, files, set()) == Import()
    result = reimport(old, new, files, set())
    assert result.conflicts == ()
    merged = {p: b for p, b in (files | dict(result.files)).items() if p not in result.deleted}
    assert load_cards(merged) == load_cards(cut(new, Config()))
    assert reimport(new, new, merged, set()) == Import()
