"""Whatever a card or a design doc says: findings, no traceback, and an answer in bounded time.

`cards/` and `docs/` hold small files that once broke something or might; what is large is grown here.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitwaves import brief, jsonout, pages, render
from gitwaves.boundary import Boundary, TooComplicated, overlap
from gitwaves.cards import load_cards
from gitwaves.design_doc import parse
from gitwaves.errors import GitwavesError
from gitwaves.graph import graph_of
from gitwaves.importing import reimport
from gitwaves.model import Cards, TaskId
from gitwaves.plan import progress, schedule
from tests.hostile import A2, HEAD, MARK, OK, STEERING, TRACKING, K, outside, quiet, short
from tests.plans import check
from tests.repo import Repo
from tests.test_repositories import (
    A1,
    CONFIG,
    PLAN,
    SEPARATOR,
    gw,
    says,
)

CORPUS = Path(__file__).parent
CARDS = sorted((CORPUS / "cards").glob("*.yaml"))
DOCS = sorted((CORPUS / "docs").glob("*.md"))
SECONDS = 2.0  # of this process's own time, for a card of any content
LONG = 600  # seconds: the long form of a fuzzer


def shown(files: dict[str, bytes]) -> Cards:
    """Reads a plan, and shows it in every form; raises only if there is a bug."""
    cards = load_cards(files)
    for finding in check(cards, ["a/x.py", "docs/y"]):
        assert not STEERING.search(str(finding))
    graph = graph_of(cards)
    if graph.cycle():
        return cards
    now = progress(cards, graph, schedule(cards, graph), {})
    assert len(render.dashboard(now).encode("ascii")) > 0
    texts = [render.status_text(now), pages.next_text(now), pages.plan_text(now)]
    for task in list(cards.tasks)[:3]:
        texts += [pages.show_text(now, task), brief.brief(now, task)]
        json.dumps(jsonout.show_json(now, task), allow_nan=False)
    json.dumps([jsonout.status_json(now), jsonout.plan_json(now)], allow_nan=False)
    assert not STEERING.search("".join(texts))
    return cards


def read_as(data: bytes, path: str = A2) -> Cards:
    """Reads bytes as one file of a plan, in bounded time."""
    files = {p: t.encode() for p, t in PLAN.items() if p.startswith(".workstreams/")}
    begun = time.process_time()
    cards = shown({**files, path: data})
    assert time.process_time() - begun < SECONDS
    return cards


# --- cards -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", CARDS, ids=lambda file: file.stem)
def test_a_card_of_the_corpus(file: Path) -> None:
    data = file.read_bytes()
    cards = read_as(data)
    readable = TaskId("A2") in cards.tasks
    assert readable or any(f.path == A2 and f.severity == "error" for f in cards.findings)
    # what stands in the other kinds of file is read in the same way, and with the same care
    for path in (CONFIG, ".workstreams/WS-B/workstream.yaml", ".workstreams/merge-points/A2.yaml"):
        read_as(data, path)


REFUSED = """alias-bomb anchor duplicate-key duplicate-status tag-python tag-python-name tag-local
    tag-binary tag-directive merge-key merge-list empty list number two-documents nul nul-escaped
    nul-in-a-step nul-in-a-key cr-only utf16 utf32 latin1 surrogate-bytes surrogate-escaped
    overflow overflow-cost id-up id-absolute id-option id-git id-stream id-long needs-options
    needs-twice produces-out tracking-above tracking-twice unclosed deep-flow deep-block
    unknown-keys""".split()


@pytest.mark.parametrize("name", REFUSED)
def test_a_card_that_must_not_be_read(name: str) -> None:
    cards = read_as((CORPUS / "cards" / f"{name}.yaml").read_bytes())
    assert any(f.path == A2 and f.severity == "error" for f in cards.findings)


GROWN: dict[str, Callable[[], bytes]] = {
    "10 MB": lambda: OK + b"spec: " + b"x" * 10_000 * K,
    "10 MB of tracking": lambda: OK + MARK + b"x" * 10_000 * K,
    "a long line": lambda: OK + b"spec: " + b"x " * 125 * K,
    "stars": lambda: OK + b"# " + b"*" * 250 * K,  # one look-ahead for each: 30 s
    "marks": lambda: OK + b"# " + b"?&*!" * 60 * K,
    "questions": lambda: b"? " * 120 * K,
    "anchors": lambda: b"&a " * 80 * K,
    "tags": lambda: b"!a " * 80 * K,
    "brackets": lambda: b"[" * 250 * K,
    "braces": lambda: b"{a: " * 60 * K,
    "entries": lambda: OK + b"depends_on: [" + b"a," * 120 * K + b"a]\n",  # 5 s, and 10 s
    "entries for one parser": lambda: OK + b'depends_on: ["\xc2\x85",' + b"a," * 100 * K + b"a]\n",
    "entries of two kinds": lambda: OK + b"depends_on: [" + b"a,1," * 2400 + b"a]\n",
    "lines": lambda: OK + b"depends_on:\n" + b"- a\n" * 60 * K,
    "steps": lambda: OK.partition(b"verify")[0] + b"verify:\n" + b"- run: x\n" * 2400,
    "keys": lambda: OK + b"".join(b"k%d: 1\n" % i for i in range(4800)),
    "learnings": lambda: OK + MARK + TRACKING + b"  learnings:\n" + b"    - 'x'\n" * 4800,
    "separators": lambda: OK + MARK * 3000,
    "escapes": lambda: OK + b'spec: "' + b"\\x01" * 60 * K + b'"\n',
    "byte order marks": lambda: b"\xef\xbb\xbf" * 80 * K,
    "blank lines": lambda: OK + b"\r\n" * 120 * K,
    "quotes": lambda: OK + b"spec: " + b"''" * 120 * K,
    "a long id": lambda: OK.replace(b"A2", b"A." * 120 * K, 1),
    "slashes": lambda: OK + b"produces: ['" + b"a/" * 120 * K + b"']\n",
    "many patterns": lambda: OK + b"paths:\n" + b"".join(b"- 'a%d/**'\n" % i for i in range(4800)),
    "a long pattern": lambda: OK + b"paths: ['" + b"*a" * 100 * K + b"']\n",
    "wide ranges": lambda: OK + b"paths:\n" + "- '[!-\U0002a600]'\n".encode() * 4800,
    "an estimate": lambda: OK + b"estimate: " + b"9" * 250 * K + b"d\n",
}


@pytest.mark.parametrize("name", short(GROWN, "10 MB", "stars", "entries"))
def test_a_card_of_any_size_is_answered_soon(name: str) -> None:
    read_as(GROWN[name]())


def test_a_configuration_of_any_size_is_answered_soon() -> None:
    batches = ",".join(f"{i},b{i}" for i in range(2400))  # each with each: 20 s
    read_as(f"version: 1\nbatches: [{batches}]\n".encode(), CONFIG)
    cards = read_as(
        b"version: 1\nagents: 999999999999999999\nretries: 999999999999999999\n", CONFIG
    )
    assert cards.config.agents == 999999999999999999


def test_patterns_take_no_longer_than_others() -> None:
    begun = time.process_time()
    stars = Boundary(("*a" * 8 + "b", "**/a/" * 50 + "b", "*a" * 100))
    assert not stars.covers("a" * 4000)
    assert not stars.covers("a/" * 2000 + "c")
    assert Boundary(("*a*b/c*",)).covers("xaab/cd/e")
    hard = "*" + ("a" * 28 + "*") * 7
    with pytest.raises(TooComplicated):
        overlap(
            Boundary(tuple(f"{hard}{i}" for i in range(100))),
            Boundary(tuple(f"{hard}b{i}" for i in range(100))),
        )
    many = "".join(f"- '{hard}%s{i}'\n" for i in range(200))
    cards = load_cards(
        {
            CONFIG: b"version: 1\n",
            **{
                f".workstreams/WS-{name}/workstream.yaml": f"paths:\n{many % ((name,) * 200)}".encode()
                for name in "ABCDEF"
            },
        }
    )
    said = [f.message for f in check(cards) if "too complicated" in f.message]
    assert len(said) == 3
    assert time.process_time() - begun < 3 * SECONDS


# --- fuzzed cards ------------------------------------------------------------------------------

_WORDS = st.sampled_from(
    """id title depends_on batch estimate agent paths spec acceptance produces cancelled verify run
    manual timeout always tracking task status evidence commit tree runs A1 A2 MP1 done active yes
    no null ~ 1 1.5 1e3 0x1F .inf 2026-01-01 true 'x' "y" [] {} | > & * ! % @ ` - ? : # , [ ] { }
    <<: --- ... !!str !!python/object:os.system &a *a ../.. /etc -x .git \\ \\x00 \u2028 \x85
    \U0001f600 \x1b \x7f \ufeff""".split()
)
_TEXT = st.text(max_size=12)
_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | _WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT | _WORDS, inner, max_size=4),
    max_leaves=12,
)
_KEYS = st.sampled_from(
    "title depends_on batch estimate agent paths spec acceptance produces cancelled verify".split()
)
_TRACKED = st.sampled_from(
    """claim agent clone session started finished attempts cost evidence learnings
    spec_gaps status task""".split()
)


def _yaml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # JSON is YAML, but for what it cannot say


_CARDS = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda t: t.encode(errors="replace")),
    # lines of what YAML finds special
    st.lists(st.tuples(st.integers(0, 6), st.lists(_WORDS, max_size=5)), max_size=14).map(
        lambda lines: "\n".join(" " * n + " ".join(words) for n, words in lines).encode()
    ),
    # a card with some values of any kind
    st.dictionaries(_KEYS, _PLAIN, max_size=4).map(
        lambda odd: (
            "id: A2\n" + "".join(f"{k}: {_yaml(v)}\n" for k, v in {"title": "x", **odd}.items())
        ).encode(errors="replace")
    ),
    # a tracking half with some values of any kind
    st.dictionaries(_TRACKED, _PLAIN, max_size=4).map(
        lambda odd: (
            OK.decode()
            + SEPARATOR
            + "tracking:\n"
            + "".join(
                f"  {k}: {_yaml(v)}\n" for k, v in {"task": "A2", "status": "done", **odd}.items()
            )
        ).encode(errors="replace")
    ),
    # a good card in which some bytes are others
    st.tuples(
        st.sampled_from([OK + MARK + TRACKING, PLAN[A1].encode()]),
        st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=3)), min_size=1, max_size=4),
    ).map(lambda made: _overwritten(*made)),
)


def _overwritten(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    for at, new in changes:
        data = data[:at] + new + data[at + max(len(new), 1) :]
    return data


@settings(max_examples=150)
@given(_CARDS)
def test_fuzzed_cards(data: bytes) -> None:
    read_as(data)


@settings(max_examples=40)
@given(_CARDS, st.sampled_from([CONFIG, ".workstreams/WS-B/workstream.yaml"]))
def test_fuzzed_configurations(data: bytes, path: str) -> None:
    read_as(data, path)


# --- design docs -------------------------------------------------------------------------------


def imported(text: str) -> Cards:
    """Cuts cards from a doc; a clear refusal gives none."""
    try:
        doc = parse(text, "docs/design.md")
        files = reimport(None, doc, {CONFIG: b"version: 1\n"}, set(), trunk="main").files
    except GitwavesError as error:
        if not error.message:
            pytest.fail("a refusal without a word")
        return Cards(load_cards({}).config)
    for path in files:
        assert re.fullmatch(r"\.workstreams/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+\.yaml", path), path
        assert ".." not in path
    return shown({CONFIG: b"version: 1\n", **files})


@pytest.mark.parametrize("name", short([file.name for file in DOCS], "not-utf8.md"))
def test_a_doc_of_the_corpus(plan: Repo, tmp_path: Path, name: str) -> None:
    before = outside(tmp_path)
    (plan.path / "docs").mkdir()
    (plan.path / "docs/design.md").write_bytes((CORPUS / "docs" / name).read_bytes())
    quiet(gw(plan, "import", "docs/design.md", "--draft"))
    for card in (plan.path / ".workstreams").rglob("*.yaml"):
        assert b"\0" not in card.read_bytes()
    for args in (["check"], ["plan"]):
        quiet(gw(plan, *args))
    assert outside(tmp_path) == before


GROWN_DOCS: dict[str, Callable[[], str]] = {
    "rows": lambda: HEAD + "| Task | Description |\n|---|---|\n" + "| x | y |\n" * 2 * K,
    "columns": lambda: HEAD + "|" + "a|" * 5 * K + "\n|" + "-|" * 5 * K + "\n",
    "headings": lambda: HEAD + "# x\n" * 4 * K,  # each with each: 6 s
    "nested quotes": lambda: HEAD + ">" * 20 * K + " x\n",
    "nested lists": lambda: HEAD + "- " * 3 * K + "x\n",
    "emphasis": lambda: HEAD + "*a **b " * 10 * K,
    "brackets": lambda: HEAD + "[" * 20 * K + "![" * 10 * K,
    "needs": lambda: HEAD + "Depends on: " + "A1, " * 10 * K,
    "backticks": lambda: HEAD + "Verify: " + "`" * 50 * K,
    "patterns": lambda: HEAD.replace("a/**", "*a" * 50 * K),
}


@pytest.mark.parametrize("name", short(GROWN_DOCS, "headings", "patterns"))
def test_a_doc_of_any_size_is_answered_soon(name: str) -> None:
    begun = time.process_time()
    imported(GROWN_DOCS[name]())
    assert time.process_time() - begun < 3 * SECONDS


def test_a_doc_that_would_make_unreadable_cards_is_refused(plan: Repo) -> None:
    plan.git("rm", "-q", A1)
    plan.write("docs/design.md", HEAD + "word " * 80 * K)
    assert says(gw(plan, "import", "docs/design.md", "--draft")) == (
        f"Error: this would write {A1}, in which: 390 KiB, more than the 256 KiB of a card\n"
        "Hint: shorten or mend what the doc says of it\n"
    )
    plan.write("docs/design.md", "x" * (3 << 20))
    said = says(gw(plan, "import", "docs/design.md", "--draft"))
    assert "holds 3072 KiB, more than the 2048 KiB of a design doc\n" in said
    (plan.path / "docs/design.md").unlink()
    os.mkfifo(plan.path / "docs/design.md")  # reading it would wait for ever
    assert "there is no file" in says(gw(plan, "import", "docs/design.md", "--draft"))
    assert plan.git("status", "--porcelain") == f"D  {A1}"


_LINES = st.one_of(
    st.text(max_size=30),
    st.builds(
        "{}{}{} {}".format,
        st.sampled_from(["", "# ", "## ", "### ", "- ", "> ", "| ", "```", "    ", "<!-- ", "1. "]),
        st.sampled_from(
            """WS-A: A1: A2 MP1: Batch Paths: Verify: Depends-on: Acceptance: Estimate: Branch: |
            |---|---| ../x .git A1/../x -x C:\\ A1-A99 Merge points Batches None → ✅""".split()
        ),
        st.sampled_from(["", ":", " |", "`", "**", " + ", " -> ", ", "]),
        st.text(max_size=8) | st.sampled_from(["A1", "A2, B1", "`a/**`", "`true`", "unlocks A1"]),
    ),
)


@settings(max_examples=60)
@given(st.lists(_LINES, max_size=25), st.booleans())
def test_fuzzed_docs(lines: list[str], headed: bool) -> None:
    imported((HEAD if headed else "") + "\n".join(lines))


@pytest.mark.long
@pytest.mark.parametrize("what", ["cards", "configurations", "docs"])
def test_fuzzing_for_minutes(what: str) -> None:
    """Prints how many examples were tried: `-s` shows it."""
    tried = 0
    end = time.monotonic() + LONG / 3

    def go(made: Any) -> None:
        nonlocal tried
        tried += 1
        if what == "docs":
            imported(HEAD + "\n".join(made))
        else:
            read_as(made, A2 if what == "cards" else CONFIG)

    examples = st.lists(_LINES, max_size=25) if what == "docs" else _CARDS
    some = settings(
        max_examples=500,
        derandomize=False,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    gc.disable()  # going through all that hypothesis holds takes seconds, which are not ours
    try:
        while time.monotonic() < end:
            some(given(examples)(go))()
            gc.collect()
    finally:
        gc.enable()
    sys.stdout.write(f"{what}: {tried} examples\n")
    assert tried > 1000
