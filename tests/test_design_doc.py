from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwaves.design_doc import DesignDoc, DocMergePoint, DocTask, parse
from gitwaves.errors import GitwavesError
from gitwaves.model import Branch, Step

DOCS = Path(__file__).parent / "docs"


def doc(name: str) -> DesignDoc:
    return parse((DOCS / name).read_text(encoding="utf-8"), name)


def read(text: str) -> DesignDoc:
    return parse(dedent(text), "d.md")


def task(found: DesignDoc, ident: str) -> DocTask:
    return next(t for t in found.tasks if t.id == ident)


def messages(found: DesignDoc) -> list[str]:
    return [f"{f.line}: {f.severity}: {f.message}" for f in found.findings]


def test_headings() -> None:
    found = doc("headings.md")
    assert found.title == "Ticket shop"
    assert [(t.id, t.workstream, t.line) for t in found.tasks] == [
        ("A1", "WS-A", 13),
        ("A2", "WS-A", 31),
        ("B1", "WS-B", 53),
        ("B2", "WS-B", 62),
    ]
    assert task(found, "A1") == DocTask(
        id="A1",
        title="Seat map",
        workstream="WS-A",
        line=13,
        batch="1",
        estimate="2h",
        spec="Every hall has rows:\n\n```markdown\n### A8: an example, no task\n"
        "Depends on: A1\n```",
        acceptance=("No seat is in two rows.", "`rows()` is sorted."),
        produces=("seats/map.json",),
        verify=(Step(run="make -C seats test"),),
    )
    assert task(found, "A2") == DocTask(
        id="A2",
        title="Reservations",
        workstream="WS-A",
        line=31,
        depends_on=("A1", "B1"),
        batch="2",
        spec="- A note that is a part of the spec.\n\nA seat is held for ten minutes.\n\n"
        "#### Out of scope\nGroup bookings.",
        acceptance=("Two buyers never get one seat.",),
        verify=(Step(run="make -C seats test"), Step(run="make -C seats race")),
    )
    last = task(found, "B2")
    assert (last.depends_on, last.estimate) == (("B1", "MP1"), "1h30m")
    assert last.verify == (Step(manual="a clerk refunds a ticket by hand"),)
    a, b = found.workstreams
    assert (a.paths, a.agent, a.branch) == (("seats/**", "db/seats.sql"), "codex", None)
    assert (b.title, b.branch) == ("Payments", "feature/pay")
    assert found.merge_points == (
        DocMergePoint("MP1", "A1 + B1", 72, ("A1", "B1"), ("2",), verify=(Step(run="make smoke"),)),
    )
    assert found.batches == ("1", "2")
    assert messages(found) == [
        (
            "65: warning: B2: no command to verify with: a person confirms "
            "'a clerk refunds a ticket by hand'"
        )
    ]


def test_tables() -> None:
    found = doc("tables.md")
    assert [(t.id, t.title, t.batch, t.depends_on, t.paths) for t in found.tasks] == [
        ("A1", "Basket __init__.py", "1", (), ("shop/__init__.py",)),
        ("B1", "Count stock", "1", (), ("depot/a.py", "depot/b.py")),
        ("A2", "Pay", "2", ("A1", "B1"), ()),
        ("C1", "Ship it", "2", ("A1", "A2", "MP1"), ("shop/ship.py",)),
    ]
    assert [(w.id, w.branch, w.paths) for w in found.workstreams] == [
        ("WS-A", "feature/shop", ("shop/__init__.py",)),
        ("WS-B", "feature/depot", ("depot/a.py", "depot/b.py")),
        ("WS-C", "feature/shop", ("shop/ship.py",)),
    ]
    assert [(p.id, p.requires, p.unlocks, p.spec) for p in found.merge_points] == [
        ("MP1", ("A1", "B1"), ("2",), "Tag the build"),
        ("MP2", ("A2", "C1"), (), ""),
    ]
    assert messages(found) == [
        "15: warning: WS-C has one branch: feature/shop (line 14) counts, not feature/depot",
        "40: warning: A2: '3 files' names no path: left out",
    ]


def test_lists_and_bold_workstreams() -> None:
    found = doc("skill.md")
    assert [(t.id, t.title, t.batch, t.depends_on, t.estimate) for t in found.tasks] == [
        ("A1", "Index format", "1", (), None),
        ("B1", "Robots file", "1", (), None),
        ("A2", "Ranking", "2", ("A1", "B1"), "3h"),
        ("B2", "Politeness", "2", ("B1",), None),
        ("A3", "Snippets", None, ("A2", "MP1"), None),
    ]
    assert task(found, "A1").spec == "Index format"
    assert task(found, "A2").spec == "- Newest pages first"
    assert task(found, "A3").spec == "Show two lines around each hit"
    assert task(found, "A3").acceptance == ("`pytest tests/search` passes",)
    assert task(found, "A3").verify == (Step(run="pytest tests/search"),)
    assert [(w.id, w.title, w.branch) for w in found.workstreams] == [
        ("WS-A", "Search", None),
        ("WS-B", "Crawler", None),
    ]
    assert found.workstreams[0].paths == ("search/*", "tests/search/*")
    point = found.merge_points[0]
    assert (point.requires, point.unlocks) == (("A2", "B2"), ("A3",))
    assert point.spec == "- **Action:** Crawl and search one site"
    assert messages(found) == []


def test_a_document_without_tasks_is_refused() -> None:
    with pytest.raises(GitwavesError) as caught:
        doc("none.md")
    assert caught.value.message == "no task list found in none.md"
    assert caught.value.hint == (
        "headings looked at: `Proposal`, `Goals`, `Risks`, `R1: Nobody wants it`, `Design`, "
        "`Success criteria`; a task is `### A1: Title` below `## WS-A: Title`"
    )
    with pytest.raises(GitwavesError) as caught:
        parse("")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("it has no headings; ")


def test_ids_that_cannot_be_are_findings_or_the_reason() -> None:
    table = """
        | Story ID | Title | Dependencies |
        |----------|-------|--------------|
        | 1.1      | Parse | None         |
        """
    with pytest.raises(GitwavesError) as caught:
        read(table)
    assert str(caught.value.hint).startswith("line 4: '1.1' cannot be an id: ")
    found = read(table.rstrip() + "\n        | A1 | Walk | 1.1 |\n")
    assert [t.id for t in found.tasks] == ["A1"]
    assert messages(found)[0].startswith("4: error: '1.1' cannot be an id: ")
    assert messages(found)[1] == "5: warning: A1 depends on '1.1', which is no id here: left out"


@pytest.mark.parametrize(
    "cell", ["None", "-", "—", "_None_", "n/a", "", "none", "None (parallel)", "✅"]
)
def test_none_means_none(cell: str) -> None:
    found = read(f"## Tasks\n| Task | Title | Needs |\n|---|---|---|\n| A1 | X | {cell} |\n")
    assert task(found, "A1").depends_on == ()
    assert not [m for m in messages(found) if "depends" in m]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("A1 ✅, **A2**", ("A1", "A2")),
        ("`A1` and A3 (done)", ("A1", "A3")),
        ("A1-A3", ("A1", "A2", "A3")),
        ("A1–A2 + MP1 ✅", ("A1", "A2", "MP1")),
        ("Tasks A1, A2 complete", ("A1", "A2")),
        ("[A1](#a1), WS-A2, a3", ("A1", "A2", "A3")),
        ("Batch 1", ("A1", "A2")),
        ("A1 data models", ("A1",)),
        ("Merge Point 1", ("MP1",)),
        ("Z9", ("Z9",)),
        ("everything", ()),
    ],
)
def test_references(text: str, ids: tuple[str, ...]) -> None:
    found = read(
        f"""
        ## Tasks
        ### A1: one
        Batch: 1
        ### A2: two
        Batch: 1
        ### A3: three
        Batch: 2
        ### B1: four
        Batch: 2
        Depends on: {text}
        ## Merge points
        - MP1: A1, A2 → A3
        """
    )
    assert task(found, "B1").depends_on == ids


def test_one_task_in_a_table_and_under_its_heading() -> None:
    found = read(
        """
        ## Batch 1
        | Task | Description      | Dependencies | Files  | Estimate |
        |------|------------------|--------------|--------|----------|
        | A1   | Parse the config | None         | `a.py` | M        |
        | A2   | Use it           | A1           |        | 2h       |

        ## Details
        ### A1: Config parser
        Verify: `make`

        Read TOML.
        ### A2: Consumer
        Depends on: A1, A3
        ### A3: More
        """
    )
    first, second, third = found.tasks
    assert (first.title, first.batch, first.paths, first.spec) == (
        "Config parser",
        "1",
        ("a.py",),
        "Read TOML.",
    )
    assert (second.depends_on, second.estimate) == (("A1", "A3"), "2h")
    assert third.batch is None
    assert messages(found) == [
        "5: warning: A1: the estimate 'M' is no length of time: left out",
        "6: warning: A2: `depends on` is not what line 14 says, which counts",
    ]


def test_the_same_id_twice() -> None:
    found = read("## WS-A\n### A1: One\nPaths: `a`\n### A1: Two\n")
    assert [t.title for t in found.tasks] == ["One"]
    assert messages(found) == ["4: error: A1 stands twice: lines 2 and 4"]
    table = "## WS-A\nPaths: `a`\n| Task | Title |\n|---|---|\n| A1 | One |\n| A1 | {} |\n"
    assert "error: A1 stands twice: lines 5 and 6" in str(read(table.format("Two")).findings[0])
    assert not any("twice" in m for m in messages(read(table.format("**one**"))))


def test_batches_may_be_stated_in_many_ways() -> None:
    found = read(
        """
        ## Tasks
        - [ ] A1: one
        - [ ] A2: two
        - [ ] B1: three
        - [ ] B2: four
        - [ ] C1: five

        ## Batches
        - Batch core: A1
        2. A2
        - Batch 3: last of all (B1)
        - Batch 4
          - B2

        | Batch | Tasks |
        |-------|-------|
        | 5     | C1    |
        """
    )
    assert {t.id: t.batch for t in found.tasks} == {
        "A1": "core",
        "A2": "2",
        "B1": "3",
        "B2": "4",
        "C1": "5",
    }


def test_prose_and_checklists_hold_no_tasks() -> None:
    found = read(
        """
        # Plan
        ### S3 bucket layout
        Where files go.
        ### Batch processing
        - [ ] OAuth2 works
        - A1 must come first
        ## WS-A: Api
        ### A1: Routes
        - B1: uses this
        - [ ] T1 is written
        | Task | Description | Dependencies |
        |------|-------------|--------------|
        | B5   | example     | None         |
        ## Requirements
        | ID    | Description |
        |-------|-------------|
        | FR001 | Be fast     |
        ## Glossary
        ### A2: paper size
        """
    )
    assert [t.id for t in found.tasks] == ["A1"]
    assert "| B5   | example" in found.tasks[0].spec


@pytest.mark.parametrize(
    ("ident", "stream"),
    [("A1", "WS-A"), ("WS-B2", "WS-B"), ("web-api-3", "WS-web-api"), ("P1-B2", "WS-P")],
)
def test_a_task_without_a_workstream_gets_one_of_its_id(ident: str, stream: str) -> None:
    found = read(
        f"""
        ## Tasks
        | ID | Title |
        |----|-------|
        | {ident} | x |
        | {ident}0 | y |
        ## WS-web-api: Web
        """
    )
    assert task(found, ident).workstream == stream


def test_code_blocks_and_headings_may_hold_values() -> None:
    found = read(
        """
        ## WS-A
        ### A1: One
        Verify:
        ```sh
        # all of it
        make \\
          test
        make lint
        ```
        #### Files
        - `a.py`
        - `b.py`
        #### Dependencies
        A2,
        A3
        #### Verification
        ```sh
        make docs
        ```
        ### A2: Two
        Depends on: A3,
          A4
        ### A3: Three
        ### A4: Four
        """
    )
    first = task(found, "A1")
    assert [s.run for s in first.verify] == ["make test", "make lint", "make docs"]
    assert (first.paths, first.depends_on) == (("a.py", "b.py"), ("A2", "A3"))
    assert first.spec == "One"
    assert task(found, "A2").depends_on == ("A3", "A4")


def test_merge_points_that_name_no_task_are_left_out() -> None:
    found = read(
        """
        ## WS-A
        Paths: `a/**`
        ### A1: One
        Depends on: MP1
        ### A2: Two
        ## Merge points
        - MP1: when all is well
        - MP2: A1 + A2 + backends
        - MP3: Ready to ship: A2 => enables A9
        """
    )
    assert [(p.id, p.title, p.requires, p.unlocks) for p in found.merge_points] == [
        ("MP2", "A1 + A2", ("A1", "A2"), ()),
        ("MP3", "Ready to ship", ("A2",), ("A9",)),
    ]
    assert task(found, "A1").depends_on == ()
    assert messages(found) == [
        "5: warning: A1 depends on MP1, which is left out here",
        "8: warning: MP1 requires 'when all is well', which is no id here: left out",
        "8: warning: MP1 requires no task: left out",
        "9: warning: MP2 requires 'backends', which is no id here: left out",
        "10: warning: MP3 unlocks A9, which is not in this document",
    ]


def test_workstreams_in_a_table() -> None:
    found = read(
        """
        | Workstream | Name   | Paths      | Branch    |
        |------------|--------|------------|-----------|
        | WS-A       | Ledger | `ledger/`  | `feat/l`  |
        | B          | Web    | `web/**`   | -         |

        | Task | Title | Workstream | Depends on |
        |------|-------|------------|------------|
        | T1   | One   | Web        | -          |
        | T2   | Two   | A          | T1         |
        """
    )
    assert [(w.id, w.title, w.branch) for w in found.workstreams] == [
        ("WS-A", "Ledger", Branch("feat/l")),
        ("WS-B", "Web", None),
    ]
    assert [t.workstream for t in found.tasks] == ["WS-B", "WS-A"]


def test_one_worktree_for_all_tasks() -> None:
    found = read(
        """
        | Worktree | Branch      | Workstreams   |
        |----------|-------------|---------------|
        | **all**  | `feature/x` | A (all tasks) |

        | Task | Title | Files  |
        |------|-------|--------|
        | A1   | One   | `a.py` |
        | B1   | Two   | `b.py` |
        """
    )
    assert [(w.id, w.branch) for w in found.workstreams] == [
        ("WS-A", "feature/x"),
        ("WS-B", "feature/x"),
    ]


def test_what_is_left_unread_is_said() -> None:
    found = read(
        """
        ## WS-A: One
        Paths: `a/**`
        Depends on: WS-B
        ### A1: First
        Batch: two words
        Agent: the big one
        Produces: `a/*.json`
        Depends on: A9-A12
        ### MP1: Point
        Requires: A1
        ### Task MP1: a task of that name
        ### T0: last
        Workstream: ../x
        """
    )
    assert messages(found) == [
        "4: warning: WS-A: `depends on` is not read here: say it of tasks",
        "6: error: A1: 'two words' cannot name a batch",
        "7: warning: A1: 'the big one' cannot name an agent: left out",
        "8: warning: A1: 'a/*.json' is not one file: left out of `produces`",
        "9: warning: A1 depends on A9-A12, which is not in this document",
        "10: error: MP1 is a task (line 12) and a merge point",
        "13: warning: WS-T names no paths: its tasks have no boundary",
        "14: warning: T0: '../x' cannot name a workstream: left out",
    ]


def test_line_ends_and_marks_make_no_difference() -> None:
    text = (DOCS / "headings.md").read_text(encoding="utf-8")
    assert parse("\ufeff" + text.replace("\n", "\r\n")) == parse(text)


PIECES = st.sampled_from(
    "# ;## WS-A: x;### A1: y;- ;[ ] ;**A2** z;Depends on: ;A1;, ;MP1;-> ;|;---|;Task|;Batch 1;"
    "\n;\n\n;    ;```\n;> ;<!-- ;-->;Verify:;`make`;Acceptance:\n;1. ;## Batches\n;## Merge points\n;"
    "| Task | Description | Dependencies |\n|---|---|---|\n| A1 | x | ;A1-A9999999;é ✅;\x00".split(
        ";"
    )
)


@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except GitwavesError:
        return
    assert found.tasks
    lines = text.count("\n") + text.count("\r") + 1
    assert all(1 <= f.line <= lines for f in found.findings)
    assert parse(text) == found
