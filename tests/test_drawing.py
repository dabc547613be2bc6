from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gitwaves.drawing import FOLD_BEYOND, FOLDS, picture, picture_json
from gitwaves.drawing_formats import FORMATS, ascii_text, dot_text, mermaid_text, svg_text
from gitwaves.errors import UsageError
from gitwaves.graph import graph_of
from gitwaves.model import Cards, Gap, Progress
from gitwaves.plan import progress, schedule
from gitwaves.record import replace
from gitwaves.resources import schema_text
from tests.plans import cards_of, facts_of
from tests.repo import Repo

PLAN = """
    A1 in 1; B1 in 1; C1 in 1; A2 in 1 takes 3h needs A1; MP1: A2 + B1 -> 2
    A3 in 2; B2 in 2 needs A2; C2 in 2 needs B2; C3 in 2; cancel C3
"""


def now(cards: Cards, facts: str = "") -> Progress:
    graph = graph_of(cards)
    return progress(cards, graph, schedule(cards, graph), facts_of(facts))


def called(cards: Cards, title: str) -> Cards:
    """The same cards, all with one title."""
    return replace(
        cards,
        config=replace(cards.config, title=title),
        tasks={t: replace(c, title=title) for t, c in cards.tasks.items()},
        merge_points={p: replace(c, title=title) for p, c in cards.merge_points.items()},
        workstreams={w: replace(c, title=title) for w, c in cards.workstreams.items()},
    )


def large() -> Progress:
    """58 workstreams of 10 tasks in 10 batches."""
    names = [a + b for a in "ABCDEFGH" for b in "abcdefgh"][:58]
    return now(cards_of("; ".join(f"{w}{n} in {n}" for w in names for n in range(1, 11))))


def test_the_waves_as_rows_and_the_worktrees_as_columns() -> None:
    shown = ascii_text(picture(now(cards_of(PLAN, title="Shop"), "A1 done; A2 active; B1 failed")))
    assert shown == dedent("""\
        Shop: 7 tasks, 1 merge point, 1 cancelled

                  WS-A  WS-B  WS-C
        BATCH 1  active
          wave 1  x A1  ! B1  o C1
          wave 2  *=A2    |     |
          . MP1     +-----+         A2 + B1 -> Batch 2
        BATCH 2  blocked
          wave 1  . A3  .=B2    |   A3 <- MP1; B2 <- A2 MP1
          wave 2              .=C2  C2 <- B2 MP1

        x done  * active  ! failed  o runnable  . blocked  = critical path  B2 <- A1: B2 needs A1
        """)


def test_only_what_a_task_needs_and_what_needs_it() -> None:
    drawn = picture(now(cards_of(PLAN)), "B1")
    assert [node.id for node in drawn.nodes] == ["B1", "MP1", "A3", "B2", "C2"]
    assert {(e.from_, e.to) for e in drawn.edges} == {
        ("B1", "MP1"), ("MP1", "A3"), ("MP1", "B2"), ("MP1", "C2"), ("B2", "C2")
    }  # fmt: skip
    assert [node.id for node in picture(now(cards_of(PLAN)), "1").nodes] == [
        "A1", "B1", "C1", "A2", "MP1", "A3", "B2", "C2"
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no task, merge point or batch is called 'B9'"):
        picture(now(cards_of(PLAN)), "B9")
    with pytest.raises(UsageError, match="no such fold"):
        picture(now(cards_of(PLAN)), fold="phase")


def test_folded_by_batch() -> None:
    assert ascii_text(picture(now(cards_of(PLAN), "A1 B1 done"), fold="batch")) == dedent("""\
        gitwaves: 7 tasks, 1 merge point, 1 cancelled; folded by batch

        o=Batch 1             runnable  2/4 done
        .   MP1 Title of MP1  blocked                <- 1
        .=Batch 2             blocked   0/3 done     <- 1, MP1

        o runnable  . blocked  = critical path  B2 <- A1: B2 needs A1
        """)


def test_folded_by_workstream() -> None:
    drawn = picture(now(cards_of(PLAN), "A1 B1 done; A2 failed"), fold="workstream")
    assert [(n.id, n.kind, n.state, n.note) for n in drawn.nodes] == [
        ("WS-A", "workstream", "failed", "1/3 done"),
        ("WS-B", "workstream", "blocked", "1/2 done"),
        ("WS-C", "workstream", "runnable", "0/2 done"),
        ("MP1", "merge_point", "blocked", "A2 + B1 -> Batch 2"),
    ]
    assert ("WS-A", "WS-B", 1) in {(e.from_, e.to, e.count) for e in drawn.edges}


def test_every_node_has_a_place_of_its_own() -> None:
    for shown in (now(cards_of(PLAN)), large(), now(cards_of("A1; B1; MP1: A1; MP2: A1; MP3: B1"))):
        for fold in FOLDS:
            nodes = picture(shown, fold=fold).nodes
            assert len({(node.column, node.lane) for node in nodes}) == len(nodes)


def test_arrows_run_as_time_does() -> None:
    for fold in ("none", "batch"):
        drawn = picture(now(cards_of(PLAN)), fold=fold)
        column = {node.id: node.column for node in drawn.nodes}
        assert drawn.edges
        assert all(column[edge.from_] < column[edge.to] for edge in drawn.edges)


def test_a_large_plan_is_folded_by_itself_and_stays_readable() -> None:
    shown = large()
    assert len(shown.tasks) > FOLD_BEYOND
    drawn = picture(shown)
    assert (drawn.fold, len(drawn.nodes)) == ("batch", 10)
    assert picture(shown, "Aa1").fold == "none"
    for fold in FOLDS:
        lines = ascii_text(picture(shown, fold=fold)).splitlines()
        assert max(map(len, lines)) <= 100
        assert len(lines) < 130
    mermaid = mermaid_text(drawn)  # what the forges draw
    assert len(mermaid) < 50_000
    assert mermaid.count("--") < 500


def test_of_a_folded_plan_the_weaker_arrows_are_left_out_and_counted() -> None:
    names = [f"{a}{b}" for a in "ABCDEF" for b in "abcdefg"]
    first = [f"{name}1" for name in names]
    entries = [*first, *(f"{name}2 needs {', '.join(first)}" for name in names)]
    drawn = picture(now(cards_of("; ".join([*entries, "Aa3 needs Ab2"]))), fold="workstream")
    assert len(drawn.edges) == 42 * 41
    shown = mermaid_text(drawn)
    arrows = re.findall(r"^  n\d+ (==>|-->)", shown, re.M)
    assert len(arrows) == 126 == 3 * len(drawn.nodes)
    assert arrows.count("==>") == sum(edge.critical for edge in drawn.edges) > 0
    assert '|"2"|' in shown  # what was folded from the most needs is there
    assert '  more["1596 weaker arrows left out"]' in shown
    assert "(1596 weaker arrows left out)" in dot_text(drawn)
    root = ET.fromstring(svg_text(drawn))
    assert "gitwaves (1596 weaker arrows left out)" in {element.text for element in root.iter()}
    assert len(picture_json(drawn)["edges"]) == 42 * 41


def test_an_empty_plan_is_drawn() -> None:
    for fold in (None, *FOLDS):
        for write in FORMATS.values():
            assert write(picture(now(Cards(cards_of("A1").config)), fold=fold))


def test_marks_and_colours_of_every_state() -> None:
    cards = cards_of("A1; B1; C1; D1; E1; F1; G1 needs F1; MP1: A1; MP2: G1; H1")
    gap = Gap("", {"H1": cards.digest("H1")})
    facts = facts_of("A1 done; B1 active; C1 failed; D1 stale; E1 unproven; F1 planned")
    held = replace(facts["A1"], tracking=replace(facts["A1"].tracking, spec_gaps=(gap,)))
    graph = graph_of(cards)
    shown = progress(cards, graph, schedule(cards, graph), {**facts, "A1": held})
    drawn = picture(shown)
    expected = {
        *("done", "active", "failed", "stale", "unproven", "runnable", "blocked", "held"),
        *("ready",),
    }
    assert {node.state for node in drawn.nodes} == expected
    for fold in FOLDS:
        for write in FORMATS.values():
            text = write(picture(shown, fold=fold))
            assert fold != "none" or [s for s in expected if s not in text] == []


NASTY = [
    'a "quoted" [title] {x} (y) | z `b` ``` #35; &amp; <script>alert(1)</script> \\N \\" end',
    "\x1b[2J \u202e\ud800 \x00\x0b ]] --> B ;",
    "%%{init: {}}%% subgraph end style",
    "</text></svg><script>",
    "*bold* _x_ $a$ ~ @{ shape: x }",
    "]]>\n\n- 1. a list\n# heading",
    "漢字かな交じり文の長いタイトルはここにあります、まだ続く",
]


@pytest.mark.parametrize("title", NASTY)
@pytest.mark.parametrize("fold", FOLDS)
def test_no_title_breaks_an_output(title: str, fold: str) -> None:
    plain, nasty = (picture(now(called(cards_of(PLAN), t)), fold=fold) for t in ("T", title))
    ours, theirs = ascii_text(plain), ascii_text(nasty)
    assert theirs.isascii()
    assert len(theirs.splitlines()) == len(ours.splitlines())
    assert all(c.isprintable() or c == "\n" for c in theirs)
    assert _mermaid_shape(mermaid_text(nasty)) == _mermaid_shape(mermaid_text(plain))
    assert _dot_shape(dot_text(nasty)) == _dot_shape(dot_text(plain))
    _require_harmless(svg_text(nasty))


@given(st.text(max_size=30))
def test_no_text_at_all_breaks_an_output(title: str) -> None:
    drawn = picture(now(called(cards_of("A1; B1 needs A1; MP1: B1"), title)))
    for write in FORMATS.values():
        text = write(drawn)
        text.encode()
        assert all(c.isprintable() or c == "\n" for c in text)
    _require_harmless(svg_text(drawn))
    assert re.fullmatch(r"[\w ,/'\"#;{}\[\]()<>:.|=&\n-]*", mermaid_text(drawn))


def _mermaid_shape(text: str) -> list[str]:
    """The lines without what stands in quotes, where nothing but letters and entities may be."""
    for label in re.findall(r'"(.*)"', text):
        assert re.fullmatch(r"(<br/>|#\d+;|[\w ,/'])*", label), label
    return [re.sub(r'".*"', '""', line) for line in text.splitlines()]


def _dot_shape(text: str) -> list[str]:
    """The lines without their quoted strings, read as Graphviz reads them."""
    assert len(re.sub(r'"(?:[^"\\]|\\.)*"', "", text).split('"')) == 1
    return [re.sub(r'"(?:[^"\\]|\\.)*"', '""', line) for line in text.splitlines()]


def _require_harmless(svg: str) -> None:
    """Well-formed, and nothing in it that runs or loads."""
    root = ET.fromstring(svg)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names <= {"svg", "title", "defs", "marker", "path", "rect", "text", "g"}
    used = {name for element in root.iter() for name in element.attrib}
    assert not {name for name in used if name.startswith("on") or "href" in name or name == "style"}


def test_the_whole_title_stands_in_the_svg() -> None:
    root = ET.fromstring(svg_text(picture(now(called(cards_of("A1"), NASTY[0])))))
    assert NASTY[0] in {element.text for element in root.iter()}


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("fold", FOLDS)
def test_graphviz_reads_it(fold: str) -> None:
    for title in NASTY:
        drawn = picture(now(called(cards_of(PLAN), title)), fold=fold)
        done = subprocess.run(
            ["dot", "-Tsvg"], input=dot_text(drawn), capture_output=True, text=True, check=True
        )
        assert not done.stderr


def test_the_command(repo: Repo) -> None:
    repo.commit("Seed", **{"README.md": "x\n"})
    repo.gw_ok("init", "--no-hooks", "--title", "Shop")
    card = 'id: {0}\ntitle: "{0} <b>"\nbatch: {1}\ndepends_on: [{2}]\nverify: [{{run: "true"}}]\n'
    repo.commit(
        "Plan",
        **{
            ".workstreams/WS-A/workstream.yaml": 'title: Ledger\npaths: ["a/**"]\n',
            ".workstreams/WS-A/A1.yaml": card.format("A1", 1, ""),
            ".workstreams/WS-A/A2.yaml": card.format("A2", 2, "A1"),
        },
    )
    assert repo.gw_ok("graph").out == dedent("""\
        Shop: 2 tasks

                  WS-A
        BATCH 1  runnable
                  o=A1
        BATCH 2  blocked
                  .=A2

        o runnable  . blocked  = critical path  B2 <- A1: B2 needs A1
        """)
    assert "A2" not in repo.gw_ok("graph", "A1", "--format", "dot", "--fold", "batch").out
    shown = json.loads(repo.gw_ok("graph", "--json").out)
    Draft202012Validator(json.loads(schema_text("graph.schema.json"))).validate(shown)
    assert shown["edges"] == [{"from": "A1", "to": "A2", "critical": True, "needs": 1}]
    assert repo.gw("graph", "A3").code == 2


def test_mermaid_that_no_forge_draws_is_said(repo: Repo) -> None:
    repo.commit("Seed", **{"README.md": "x\n"})
    repo.gw_ok("init", "--no-hooks", "--title", "Shop")
    card = 'id: {0}\ntitle: T\ndepends_on: [{1}]\nverify: [{{run: "true"}}]\n'
    names = [f"A{n}" for n in range(1, 34)]
    cards = {
        f".workstreams/WS-A/{name}.yaml": card.format(name, ", ".join(names[:n]))
        for n, name in enumerate(names)
    }
    cards[".workstreams/WS-A/workstream.yaml"] = 'title: Ledger\npaths: ["a/**"]\n'
    repo.commit("Plan", **cards)
    said = repo.gw_ok("graph", "--format", "mermaid").err
    assert (
        said
        == "note: forges draw no Mermaid of more than 499 arrows or 50000 characters: see --fold\n"
    )
    assert repo.gw_ok("graph", "--format", "mermaid", "--fold", "workstream").err == ""
    assert repo.gw_ok("graph", "--format", "dot").err == ""


def test_json_is_as_documented() -> None:
    schema = Draft202012Validator(json.loads(schema_text("graph.schema.json")))
    for fold in FOLDS:
        schema.validate(
            json.loads(json.dumps(picture_json(picture(now(cards_of(PLAN)), fold=fold))))
        )
