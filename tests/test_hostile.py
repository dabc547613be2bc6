"""Whatever a card, a doc, a name, a path or the environment says: no traceback, no code run, no
file touched outside, and an answer in bounded time.

`tests/hostile/` holds small files that once broke something or might; what is large is grown here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from gitwaves.model import NOTE_LENGTH, Cards, TaskId
from gitwaves.plan import progress, schedule
from gitwaves.rules import check
from tests.repo import Repo, Result
from tests.test_repositories import (
    A1,
    B1,
    CONFIG,
    PLAN,
    SEPARATOR,
    gw,
    gw_ok,
    plain,
    says,
    started,
    states,
    verified,
)

CORPUS = Path(__file__).parent / "hostile"
CARDS = sorted((CORPUS / "cards").glob("*.yaml"))
DOCS = sorted((CORPUS / "docs").glob("*.md"))
SECONDS = 2.0  # of this process's own time, for a card of any content
LONG = 600  # seconds: the long form of a fuzzer
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

A2 = ".workstreams/WS-A/A2.yaml"
OK = b"id: A2\ntitle: x\nverify:\n  - run: 'true'\n"
MARK = SEPARATOR.encode()
TRACKING = b"tracking:\n  task: A2\n  status: planned\n"
K = 1000


def some(short: Sequence[str], more: Iterable[str]) -> list[Any]:
    """Parameters of which `more` belong to the long form alone."""
    return [
        *short,
        *(pytest.param(one, marks=pytest.mark.long) for one in more if one not in short),
    ]


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Repo]:
    """The plan, and a witness: nothing called `pwned` may exist when the test is over."""
    yield plain(tmp_path)
    assert list(tmp_path.rglob("*pwned*")) == []


def quiet(done: Result) -> Result:
    """A result that is no bug, and in which nothing could steer a terminal."""
    assert done.code in {0, 1, 2}, done
    assert "this is a bug" not in done.err, done
    assert "Traceback" not in done.err, done
    assert not STEERING.search(done.out + done.err), done
    return done


def outside(tmp: Path) -> dict[str, bytes]:
    """Every file beside the repository and its worktrees."""
    inside = (tmp / "repo", tmp / "repo.worktrees")
    files = (p for p in tmp.rglob("*") if p.is_file() and not p.is_symlink())
    return {str(p): p.read_bytes() for p in files if not any(map(p.is_relative_to, inside))}


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
    "wide ranges": lambda: OK + b"paths:\n" + "- '[!-\U0002a600]'\n".encode() * 100,
    "an estimate": lambda: OK + b"estimate: " + b"9" * 250 * K + b"d\n",
}


_QUICK = ["10 MB", "marks", "questions", "tags", "entries for one parser", "entries of two kinds",
          "a long pattern", "wide ranges", "an estimate"]  # fmt: skip


@pytest.mark.parametrize("name", some(_QUICK, GROWN))
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
    hard = "*" + ("a" * 14 + "*") * 7
    with pytest.raises(TooComplicated):
        overlap(
            Boundary(tuple(f"{hard}{i}" for i in range(60))),
            Boundary(tuple(f"{hard}b{i}" for i in range(60))),
        )
    files = {CONFIG: b"version: 1\n"}
    for name in "ABCDEF":
        lines = "".join(f"- '{hard}{name}{i}'\n" for i in range(60))
        files[f".workstreams/WS-{name}/workstream.yaml"] = f"paths:\n{lines}".encode()
    said = [f.message for f in check(load_cards(files)) if "too complicated" in f.message]
    assert len(said) == 3  # of 15: then it gives up
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
    st.text(max_size=200).map(lambda text: text.encode(errors="replace")),
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


@settings(max_examples=100)
@given(_CARDS)
def test_fuzzed_cards(data: bytes) -> None:
    read_as(data)


@settings(max_examples=30)
@given(_CARDS, st.sampled_from([CONFIG, ".workstreams/WS-B/workstream.yaml"]))
def test_fuzzed_configurations(data: bytes, path: str) -> None:
    read_as(data, path)


# --- design docs -------------------------------------------------------------------------------


def imported(text: str) -> Cards:
    """Cuts cards from a doc; a clear refusal gives none."""
    try:
        doc = parse(text, "docs/design.md")
        files = reimport(None, doc, {CONFIG: b"version: 1\n"}, set(), trunk="main").files
    except GitwavesError:
        return load_cards({})
    for path in files:
        assert re.fullmatch(r"\.workstreams/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+\.yaml", path), path
        assert ".." not in path
    return shown({CONFIG: b"version: 1\n", **files})


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.stem)
def test_a_doc_of_the_corpus(file: Path) -> None:
    imported(file.read_bytes().decode(errors="replace"))


@pytest.mark.parametrize("name", some(["traversal", "control", "not-utf8"], [f.stem for f in DOCS]))
def test_importing_a_doc_of_the_corpus(plan: Repo, tmp_path: Path, name: str) -> None:
    file = CORPUS / "docs" / f"{name}.md"
    before = outside(tmp_path)
    (plan.path / "docs").mkdir()
    (plan.path / "docs/design.md").write_bytes(file.read_bytes())
    quiet(gw(plan, "import", "docs/design.md", "--draft"))
    for card in (plan.path / ".workstreams").rglob("*.yaml"):
        assert b"\0" not in card.read_bytes()
    for args in (["check"], ["plan"]):
        quiet(gw(plan, *args))
    assert outside(tmp_path) == before


HEAD = "# P\n\n## WS-A: L\nPaths: `a/**`\n\n### A1: S\nVerify: `true`\n\n"
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


@pytest.mark.parametrize("name", some(["rows", "headings", "nested lists", "patterns"], GROWN_DOCS))
def test_a_doc_of_any_size_is_answered_soon(name: str) -> None:
    begun = time.process_time()
    imported(GROWN_DOCS[name]())
    assert time.process_time() - begun < 3 * SECONDS


def test_a_doc_that_would_make_unreadable_cards_is_refused(plan: Repo) -> None:
    plan.write("docs/design.md", HEAD.replace("A1", "A7") + "word " * 80 * K)
    assert says(gw(plan, "import", "docs/design.md", "--draft")) == (
        f"Error: this would write {A1.replace('A1', 'A7')}, in which: 390 KiB, more than the 256 KiB of a card\n"
        "Hint: shorten or mend what the doc says of it\n"
    )
    plan.write("docs/design.md", "x" * (3 << 20))
    said = says(gw(plan, "import", "docs/design.md", "--draft"))
    assert "holds 3072 KiB, more than the 2048 KiB of a design doc\n" in said
    (plan.path / "docs/design.md").unlink()
    os.mkfifo(plan.path / "docs/design.md")  # reading it would wait for ever
    assert "there is no file" in says(gw(plan, "import", "docs/design.md", "--draft"))
    assert plan.git("status", "--porcelain") == ""


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


@settings(max_examples=40)
@given(st.lists(_LINES, max_size=25), st.booleans())
def test_fuzzed_docs(lines: list[str], headed: bool) -> None:
    imported((HEAD if headed else "") + "\n".join(lines))


@pytest.mark.long
@pytest.mark.parametrize("what", ["cards", "configurations", "docs"])
def test_fuzzing_for_minutes(what: str) -> None:
    """Prints how many examples were tried: `-s` shows it."""
    tried = 0
    end = time.monotonic() + LONG / 3

    def go(*made: Any) -> None:
        nonlocal tried
        if time.monotonic() > end:
            return
        tried += 1
        if what == "docs":
            imported(HEAD + "\n".join(made[0]))
        else:
            read_as(made[0], A2 if what == "cards" else CONFIG)

    examples = st.lists(_LINES, max_size=25) if what == "docs" else _CARDS
    long = settings(
        max_examples=200_000,
        derandomize=False,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    long(given(examples)(go))()
    sys.stdout.write(f"{what}: {tried} examples\n")
    assert tried > 1000


# --- names and paths ---------------------------------------------------------------------------


def tree_with(repo: Repo, *entries: tuple[str, str, str, str]) -> str:
    """A tree that Git itself would not make: (mode, kind, id, name) each."""
    lines = "".join(f"{mode} {kind} {oid}\t{name}\0" for mode, kind, oid, name in entries)
    done = subprocess.run(
        ["git", "mktree", "-z"],
        cwd=repo.path,
        input=lines.encode(),
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


def test_names_in_trees_that_lead_elsewhere(plan: Repo, tmp_path: Path) -> None:
    before = outside(tmp_path)
    card = plan.git("rev-parse", f"HEAD:{A1}")
    names = ["..", ".git", ".GIT", "git~1", "-x", "C:", "a\\b", "A1.yaml", "A1.yaml::$DATA", "x\ny"]
    inner = tree_with(plan, *(("100644", "blob", card, f"{n}.yaml") for n in names))
    folders = ["..", ".git", "-x", "WS-A", "CON", "a\\b", "WS-\x1b[2J"]
    config = plan.git("rev-parse", f"HEAD:{CONFIG}")
    outer = tree_with(
        plan,
        ("100644", "blob", config, "config.yaml"),
        *(("040000", "tree", inner, folder) for folder in folders),
    )
    top = tree_with(plan, ("040000", "tree", outer, ".workstreams"))
    commit = plan.git("commit-tree", top, "-m", "Hostile", "-p", "HEAD")
    plan.git("update-ref", "refs/heads/other", commit)
    for args in (["check", "other"], ["status", "other"], ["plan", "other"]):
        quiet(gw(plan, *args))
    plan.git("update-ref", "refs/heads/main", commit)
    for args in (["status"], ["next"], ["start", "A1"], ["start", "../A1"], ["merge", "MP1"]):
        quiet(gw(plan, *args))
    assert outside(tmp_path) == before


@pytest.mark.parametrize(
    "name",
    some(["--upload-pack=touch pwned", "../A1"], ["-x", "/etc/passwd", ".git/x", "A1\n", ""]),
)
def test_ids_on_the_command_line(plan: Repo, name: str) -> None:
    for command in ("show", "start", "verify", "merge", "brief", "logs", "stop", "status", "check"):
        quiet(gw(plan, command, "--", name))
    quiet(gw(plan, "learn", "--", name, "x"))
    quiet(gw(plan, "import", "--draft", "--", name))
    if name:
        quiet(gw(plan, "init", f"--trunk={name}", "--no-hooks"))
    assert plan.git("branch", "--list", "ws/*") == ""
    assert plan.git("status", "--porcelain") == ""


BRANCHES = ["-x", "--upload-pack=x", "../x", "main", "gitwaves/dashboard", "refs/heads/main", "HEAD",
            "a..b", "x.lock", "/x", "x y", "@{-1}", "gitwaves/rescued/x"]  # fmt: skip


@pytest.mark.parametrize("branch", some(["-x", "main", "gitwaves/dashboard", "HEAD"], BRANCHES))
def test_a_branch_that_no_worktree_may_have(plan: Repo, tmp_path: Path, branch: str) -> None:
    before, tip = outside(tmp_path), plan.oid("main")
    text = f"paths: [a/**]\nbranch: {json.dumps(branch)}\n"
    plan.commit("Other branch", **{".workstreams/WS-A/workstream.yaml": text})
    assert quiet(gw(plan, "check")).code == 1
    quiet(gw(plan, "status"))
    done = quiet(gw(plan, "start", "A1"))
    refs = plan.git("for-each-ref", "--format=%(refname)").split()
    if done.code == 0:  # the file that names it is not read, so there is no such branch
        assert "refs/heads/ws/A" in refs
    else:
        assert refs == ["refs/heads/main"], done
        says(done)
    assert plan.oid("main^") == tip
    assert outside(tmp_path) == before


PLACES = ["/tmp/pwned/{name}", "../../pwned/{name}", ".git/pwned/{name}", ".git/refs/heads/{name}",
          ".workstreams/pwned/{name}", "link/pwned-{name}", "{name.__class__}", "{name!r}", "{0}",
          "{name:>99999999999}", "{repo}", "~/{name}/{x}", "../a\\0{name}"]  # fmt: skip


_WRONG = ["../../pwned/{name}", ".git/refs/heads/{name}", "link/pwned-{name}", "{name.__class__}"]


@pytest.mark.parametrize("place", some(_WRONG, PLACES))
def test_where_a_plan_may_not_put_worktrees(plan: Repo, tmp_path: Path, place: str) -> None:
    (tmp_path.parent / f"{tmp_path.name}-away").mkdir()
    (plan.path / "link").symlink_to(tmp_path.parent / f"{tmp_path.name}-away")
    text = json.dumps(place).replace("\\\\0", "\\0")
    plan.commit("Elsewhere", **{CONFIG: f"{PLAN[CONFIG]}worktrees: {text}\n"})
    before = outside(tmp_path)
    done = quiet(gw(plan, "start", "A1"))
    if "\\0" in place:  # no text: the file is not read, and so the default stands
        assert done.out == f"{tmp_path}/repo.worktrees/ws-A\n"
        return
    said = says(done)
    assert "`worktrees: " in said
    assert plan.git("branch", "--list", "ws/*") == ""
    assert outside(tmp_path) == before
    assert list((tmp_path.parent / f"{tmp_path.name}-away").iterdir()) == []
    assert not Path("/tmp/pwned").exists()


def test_the_user_may_put_worktrees_anywhere(plan: Repo, tmp_path: Path) -> None:
    plan.commit("Elsewhere", **{CONFIG: f"{PLAN[CONFIG]}worktrees: /nowhere/{{name}}\n"})
    where = tmp_path / "somewhere/else"
    plan.git("config", "gitwaves.worktrees", f"{where}/{{name}}")
    assert started(plan).path == where / "ws-A"


FILES = [".git/hooks/post-commit", "../x", "/tmp/pwned", A1, CONFIG, "README.md/x", "link/x", "a//b",
         "./x", "x/", ".GIT/config", "link", "-x", "sub/x"]  # fmt: skip


@pytest.mark.parametrize("file", some([FILES[0], A1, "README.md/x", "link/x"], FILES))
def test_learnings_are_written_over_nothing_else(plan: Repo, tmp_path: Path, file: str) -> None:
    (plan.path / "link").symlink_to(tmp_path)
    plan.git("update-index", "--add", "--cacheinfo", f"160000,{plan.oid()},sub")
    plan.commit("Learnings", **{CONFIG: f"{PLAN[CONFIG]}learnings: [{json.dumps(file)}]\n"})
    before = outside(tmp_path)
    listed = plan.git("ls-tree", "-r", "main").splitlines()
    a1 = started(plan)
    a1.write("a/a1.txt", "one\n")
    gw_ok(a1, "verify", "--commit", "-m", "Do it\n\nLearned: x")
    quiet(gw(plan, "merge", "MP1"))
    now = plan.git("ls-tree", "-r", "main").splitlines()
    own = (A1, ".workstreams/merge-points/MP1.yaml", "\t-x")
    assert [line for line in listed if line not in now and not line.endswith(own)] == []
    assert states(plan)["A1"] == "done"
    assert plan.git("fsck", "--no-dangling", "--no-progress") == ""
    assert not any("/.git/" in f"/{line.partition(chr(9))[2].lower()}" for line in now)
    assert outside(tmp_path) == before


@pytest.mark.parametrize("key", ["design", "allowed_signers"])
@pytest.mark.parametrize(
    "value", some(["../x", "link"], ["/etc/passwd", ".git/config", "-x", "docs/\\e[2J"])
)
def test_other_paths_of_a_configuration(plan: Repo, tmp_path: Path, key: str, value: str) -> None:
    (plan.path / "link").symlink_to("/etc/passwd")
    said = f'"{value}"'
    more = f"design: {{path: {said}, blob: '{'0' * 40}'}}" if key == "design" else f"{key}: {said}"
    plan.commit("Odd", **{CONFIG: f"{PLAN[CONFIG]}{more}\n"})
    for args in (["check"], ["status"], ["start", "A1"], ["sync"]):
        done = quiet(gw(plan, *args))
        assert "root:" not in done.out + done.err


# --- nothing is run ----------------------------------------------------------------------------


def script(path: Path, pwned: Path) -> Path:
    """A program that leaves a trace."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n: >{pwned}\nexit 1\n")
    path.chmod(0o755)
    return path


def evil_bare(path: Path, pwned: Path) -> None:
    """A bare repository whose configuration and hooks run something, as often as Git lets them."""
    path.mkdir(parents=True)
    Repo(path).git("init", "-q", "--bare", "-b", "main")
    evil = script(path / "evil", pwned)
    for hook in ("pre-receive", "post-receive", "update", "post-update", "post-checkout",
                 "reference-transaction", "pre-commit", "post-merge"):  # fmt: skip
        script(path / "hooks" / hook, pwned)
    (path / "config").write_text(
        "[core]\n\trepositoryformatversion = 1\n\tbare = true\n"
        + "".join(f"\t{key} = {evil}\n" for key in (
            "fsmonitor", "sshCommand", "editor", "pager", "gitProxy", "askPass", "hooksPath",
            "alternateRefsCommand"))
        + f"[extensions]\n\tpartialClone = evil\n[protocol \"ext\"]\n\tallow = always\n"
        f"[remote \"evil\"]\n\turl = ext::{evil}\n\tpromisor = true\n"
        f"[diff]\n\texternal = {evil}\n[gpg]\n\tprogram = {evil}\n[commit]\n\tgpgSign = true\n"
    )  # fmt: skip
    (path / "refs/heads/main").write_text("1" * 40 + "\n")
    (path / "objects/pack/pack-1.promisor").touch()
    (path / "refs/keep").touch()


def test_inside_an_embedded_bare_repository(plan: Repo, tmp_path: Path) -> None:
    evil_bare(plan.path / "vendor/evil.git", tmp_path / "pwned")
    plan.git("add", "-A")
    plan.git("commit", "-q", "-m", "Take a library")
    assert plan.git("ls-files", "vendor") != ""
    for folder in ("vendor/evil.git", "vendor/evil.git/refs", "vendor/evil.git/hooks"):
        for args in (["status"], ["next"], ["check"], ["init"], ["start", "A1"], ["sync"]):
            done = quiet(gw(plan.at(folder), *args))
            said = says(done)
            assert f"{plan.path}/vendor/evil.git is a bare repository that is tracked by" in said
    gw_ok(plan.at("vendor"), "status")
    (plan.path / "vendor/evil.git/config").write_text(  # not bare by its own words
        (plan.path / "vendor/evil.git/config").read_text().replace("bare = true", "worktree = ..")
    )
    for args in (["status"], ["check"], ["start", "A1"]):
        assert "is tracked by another" in says(quiet(gw(plan.at("vendor/evil.git"), *args)))
    assert not (tmp_path / "pwned").exists()


_REMOTES = ["--upload-pack=touch", "./vendor/evil.git", "file:vendor", "vendor/../vendor/evil.git",
            "https://localhost:1/x"]  # fmt: skip


@pytest.mark.parametrize("remote", some(["vendor/evil.git", "ext::touch"], _REMOTES))
def test_a_remote_is_one_that_the_user_set_up(plan: Repo, tmp_path: Path, remote: str) -> None:
    evil_bare(plan.path / "vendor/evil.git", tmp_path / "pwned")
    plan.commit("Odd", **{CONFIG: f"{PLAN[CONFIG]}remote: {json.dumps(remote)}\n"})
    here = os.getcwd()
    os.chdir(plan.path)
    try:
        quiet(gw(plan, "status"))
        refused = [quiet(gw(plan, *args)) for args in (["start", "A1"], ["sync"])]
    finally:
        os.chdir(here)
    if not remote.startswith("-"):  # else the file that names it is not read
        for done in refused:
            assert f"the plan's remote {remote} is not set up in this clone" in says(done)
        assert plan.git("branch", "--list", "ws/*") == ""
    assert not (tmp_path / "pwned").exists()


def test_the_environment_runs_nothing(
    plan: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwned = tmp_path / "pwned"
    evil = str(script(tmp_path / "evil", pwned))
    for name in """GIT_EXTERNAL_DIFF GIT_SSH GIT_SSH_COMMAND GIT_ASKPASS SSH_ASKPASS GIT_EDITOR EDITOR
            VISUAL GIT_SEQUENCE_EDITOR GIT_PAGER PAGER GIT_PROXY_COMMAND""".split():  # fmt: skip
        monkeypatch.setenv(name, evil)
    keys = ["core.fsmonitor", "core.hooksPath", "core.editor", "core.pager", "diff.external",
            "core.sshCommand", "gpg.program", "filter.evil.clean", "filter.evil.smudge",
            "merge.evil.driver", "alias.status", "alias.rev-parse"]  # fmt: skip
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(keys) + 1))
    for number, key in enumerate(keys):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", f"!{evil}" if "alias" in key else evil)
    monkeypatch.setenv(f"GIT_CONFIG_KEY_{len(keys)}", "commit.gpgSign")
    monkeypatch.setenv(f"GIT_CONFIG_VALUE_{len(keys)}", "true")
    monkeypatch.setenv(
        "GIT_CONFIG_PARAMETERS", f"'core.fsmonitor'='{evil}' 'diff.external'='{evil}'"
    )
    monkeypatch.setenv("GIT_EXEC_PATH", str(tmp_path))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path))
    quiet(gw(plan, "status"))
    a1 = started(plan)
    verified(a1)
    gw_ok(plan, "merge", "MP1")
    for args in (["status"], ["check"], ["next"], ["show", "A1"], ["sync"], ["clean"]):
        quiet(gw(plan, *args))
    assert states(plan)["A1"] == "done"
    assert not pwned.exists()


def test_attributes_that_name_what_is_not_set_up(plan: Repo, tmp_path: Path) -> None:
    hostile = "* filter=evil diff=evil merge=evil ident export-subst -merge\n*.yaml filter=lfs\n"
    plan.commit(
        "Odd",
        **{".gitattributes": hostile, ".workstreams/.gitattributes": f"{hostile}* text eol=crlf\n"},
    )
    a1 = started(plan)
    verified(a1)
    plan.commit(
        "Trunk goes on", **{"README.md": "New\n", A1: PLAN[A1].replace("First", "The first")}
    )
    gw_ok(plan, "merge", "MP1")
    assert states(plan)["A1"] == "done"
    assert "\r" not in plan.git("cat-file", "blob", f"main:{A1}")


# --- symbolic links ----------------------------------------------------------------------------

LINKS = [".workstreams/WS-A", A1, B1, CONFIG, ".workstreams/DASHBOARD.txt", "CLAUDE.md",
         ".workstreams/merge-points", ".workstreams/.gitattributes", ".workstreams"]  # fmt: skip


@pytest.mark.parametrize("committed", [True, pytest.param(False, marks=pytest.mark.long)])
@pytest.mark.parametrize("link", some([LINKS[0], A1, ".workstreams"], LINKS))
def test_links_in_the_working_tree(plan: Repo, tmp_path: Path, link: str, committed: bool) -> None:
    away = tmp_path / "away"
    away.mkdir()
    path = plan.path / link
    plan.write("docs/design.md", HEAD.replace("A1", "A7"))
    if path.exists():
        path.rename(away / "it")
    else:
        (away / "it").write_text("Mine\n")
    path.symlink_to(away / "it")
    if committed:
        plan.commit("A link")
    before = outside(tmp_path)
    for args in (
        ["check"], ["check", "--fix"], ["plan"], ["status"], ["status", "--write"],
        ["init", "--no-hooks"], ["import", "docs/design.md", "--draft"], ["start", "A1"],
        ["verify", "A1", "--unchanged"], ["merge", "MP1"], ["merge", "--rest"], ["sync"], ["clean"],
    ):  # fmt: skip
        quiet(gw(plan, *args))
    assert outside(tmp_path) == before
    assert path.is_symlink()


_PARTS = ["receipts", "logs", "logs/A1", "at-work", "alone", "made", "unprepared", "cache", "clone"]


@pytest.mark.parametrize("part", some(["", "receipts/A1", "lock"], _PARTS))
def test_links_among_our_own_files(plan: Repo, tmp_path: Path, part: str) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "mine").write_text("Mine\n")
    path = plan.path / ".git/gitwaves" / part
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(away / "mine" if part in {"clone", "lock"} else away)
    before = outside(tmp_path)
    for args in (["status"], ["start", "A1"], ["trust", "--yes"], ["merge", "MP1"], ["run"]):
        assert f"{path} is a symbolic link\n" in says(quiet(gw(plan, *args)))
    assert outside(tmp_path) == before
    path.unlink()
    gw_ok(plan, "status")


# --- what reaches a terminal -------------------------------------------------------------------


def test_nothing_steers_the_terminal(plan: Repo, tmp_path: Path) -> None:
    bad = "\x1b[2J\x1b]0;t\x07\x9b31m\u202e"
    quoted = '"\\e[2J\\e]0;t\\a\\x9b31m\\u202e"'
    title = {
        A1: PLAN[A1].replace("title: First", f"title: {quoted}\nagent: {quoted}"),
        CONFIG: PLAN[CONFIG].replace("title: Kinds", f"title: {quoted}"),
        ".workstreams/WS-A/workstream.yaml": f"title: {quoted}\npaths: [a/**]\n",
    }
    title[A1] = title[A1].replace("grep -q", "printf '\\033[31mred\\033[0m\\a'; grep -q")
    plan.commit("Odd", **title)
    plan.git("update-ref", f"refs/heads/x{bad[3]}\u202e\x9b", "HEAD")
    reading = (
        ["status"], ["status", "--json"], ["next"], ["next", "--json"], ["plan"], ["plan", "--json"],
        ["show", "A1"], ["show", "A1", "--json"], ["brief", "A1"], ["check"], ["check", "--json"],
        ["logs", "A1"], ["trust"], ["clean"],
    )  # fmt: skip
    for args in reading:
        quiet(gw(plan, *args))
    quiet(gw(plan, "start", "A1", "--agent", bad))
    a1 = Repo(tmp_path / "repo.worktrees/ws-A")
    a1.write(f"a/{bad}.txt", "x\n")
    quiet(gw(a1, "verify"))  # fails, and shows the end of the log
    quiet(gw(plan, "logs", "A1"))
    a1.write("a/a1.txt", "one\n")
    quiet(gw(plan, "learn", "A1", f"a {bad} b"))
    quiet(gw(plan, "gap", "A1", f"a {bad} b"))
    quiet(gw(a1, "verify"))  # passes, and says what is not committed
    quiet(gw(a1, "verify", "--commit"))
    for args in reading:
        quiet(gw(plan, *args))
    quiet(gw(plan, "merge", "MP1"))
    assert states(plan)["A1"] == "done"
    for rev in ("main", "ws/A", "gitwaves/dashboard"):
        assert not STEERING.search(plan.git("log", "--format=%an %s %b", f"main..{rev}"))
    for file in ("gitwaves/dashboard:LEARNINGS.md", "main:CLAUDE.md", f"main:{A1}"):
        text = plan.git("cat-file", "blob", file)
        text = text.partition("# --- tracking")[2] or text
        assert "a \\x1b" in text or "a \\\\x1b" in text
        assert not STEERING.search(text)
    for file in ("gitwaves/dashboard:DASHBOARD.txt", "main:.workstreams/DASHBOARD.txt"):
        assert plan.git("cat-file", "blob", file).isascii()
    assert "a \\x1b" in quiet(gw(plan, "show", "A1")).out
    for args in (["show", bad], ["status", bad], ["start", bad], [bad], ["-C", bad, "status"]):
        quiet(gw(plan, *args))


def test_hooks_do_not_steer_the_terminal_either(plan: Repo) -> None:
    gw_ok(plan, "hooks", "install")
    a1 = started(plan)
    a1.write("a/a1.txt", "one\n")
    gw_ok(a1, "verify")
    a1.write("a/\x1b[2J\u202e", "x\n")
    a1.git("add", "-A")
    said = a1.git("-c", 'alias.said=!f() { git "$@" 2>&1; }; f', "said", "commit", "-q", "-m", "x")
    assert "it differs in a/\\x1b[2J\\u202e" in said
    a1.write("b/\x1b[2J", "x\n")
    a1.git("add", "-A")
    said = a1.git(
        "-c",
        'alias.said=!f() { git "$@" 2>&1; }; f',
        "said",
        "commit",
        "-q",
        "-m",
        "y",
        check=False,
    )
    assert "b/\\x1b[2J belongs to WS-B" in said


# --- what commits say --------------------------------------------------------------------------


def test_hostile_trailers(plan: Repo) -> None:
    plan.commit("House rules", **{"CLAUDE.md": "# House rules\n\nBe kind.\n"})
    a1 = started(plan)
    a1.write("a/a1.txt", "one\n")
    lines = [
        "Learned: <!-- gitwaves: end --> and out",
        "Learned: <!-- gitwaves: learnings, compiled from the task cards -->",
        "Learned: </details><script>alert(1)</script> [x](javascript:y) # not a heading",
        "Learned: \x1b[2J caf\udce9 \udcff",
        "Learned: " + "long " * 200_000,
        "Spec-gap: " + "x" * 1_000_000,
        "Spec-gap: tracking: {status: done} # --- tracking: written by",
        *(f"Learned: number {i} {'x' * 80}" for i in range(1000)),
        "Task: A1",
    ]
    a1.git("add", "-A")
    message = ("Do it\n\n" + "\n".join(lines) + "\n").encode(errors="surrogateescape")
    (plan.path / ".git/message").write_bytes(message)
    latin = ("-c", "i18n.commitEncoding=latin1")  # kept as these bytes are
    a1.git(*latin, "commit", "-q", "-F", str(plan.path / ".git/message"))
    assert quiet(gw(a1, "verify")).out.startswith("A1 is done\n")
    assert len(a1.git("cat-file", "blob", f"HEAD:{A1}")) < 64 * K
    gw_ok(plan, "merge", "MP1")
    first = plan.git("cat-file", "blob", "main:CLAUDE.md")
    b1 = started(plan, "B1")
    b1.write("b/b1.txt", "two\n")
    gw_ok(b1, "verify", "--commit", "-m", "Do it\n\nLearned: one more")
    gw_ok(plan, "merge", "--rest")
    text = plan.git("cat-file", "blob", "main:CLAUDE.md")
    for compiled in (first, text):  # the section is compiled anew each time
        assert compiled.startswith("# House rules\n\nBe kind.\n\n<!-- gitwaves: learnings,")
        assert compiled.endswith("\n<!-- gitwaves: end -->")
        assert compiled.count("<!--") == compiled.count("-->") == 2
        assert not STEERING.search(compiled)
        assert "caf\ufffd \ufffd" in compiled
    assert "- one more (B1" in text
    assert max(map(len, text.splitlines())) < NOTE_LENGTH + 100
    assert states(plan) == {"A1": "done", "B1": "done"}
    quiet(gw(plan, "show", "A1"))


def test_notes_of_any_length(plan: Repo) -> None:
    started(plan)
    for text in ("x" * (NOTE_LENGTH + 1), "", " \n"):
        for command in ("learn", "gap"):
            says(quiet(gw(plan, command, "A1", text)), code=2)
    odd = os.fsdecode(b"caf\xe9 \xff")
    for command in ("learn", "gap"):
        gw_ok(plan, command, "A1", odd)
    assert "caf\ufffd \ufffd" in quiet(gw(plan, "show", "A1")).out
    assert states(plan)["A1"] == "active"


# --- what lies under .git/gitwaves -------------------------------------------------------------

GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "torn": b'{"task": "A1", "tree": "',
    "deep": b"[" * 100 * K,
    "list": b"[1, 2]",
    "number": b"1e999",
    "text": b'"x"',
    "null": b"null",
    "not text": b"\xff\xfe\x00",
    "wrong types": json.dumps(
        {"task": "A1", "tree": ["x"], "spec": 1, "content": "--output=pwned", "runs": [[1]],
         "attempts": 1e308, "unchanged": "yes", "runner": {"x": 1}, "marker": [None], "path": 7,
         "node": [], "ours": "--output=pwned", "theirs": None, "name": 1, "left": "x", "again": "n",
         "commands": {"x": 1}}
    ).encode(),
    "infinite": b'{"runner": 1e999, "marker": "x", "attempts": Infinity, "commands": [NaN]}',
    "huge": b'{"x": "' + b"y" * (1 << 20) + b'"}',
}  # fmt: skip
OWN = ["receipts/A1/{tree}.json", "at-work/ws%2FA", "at-work/ws%2FA.paths", "made/ws%2FA", "clone",
       "agents/A1.json", "watched/A1", "merging/MP1.json", "cache/x", "unprepared/ws%2FA"]  # fmt: skip


@pytest.mark.parametrize("garbage", some(["torn", "deep", "wrong types"], GARBAGE))
def test_garbage_among_our_own_files(plan: Repo, tmp_path: Path, home: Path, garbage: str) -> None:
    gw_ok(plan, "hooks", "install")
    gw_ok(plan, "trust", "--yes")
    a1 = started(plan)
    a1.write("a/a1.txt", "one\n")
    gw_ok(a1, "verify")
    state = plan.path / ".git/gitwaves"
    receipts = list((state / "receipts/A1").iterdir())
    assert len(receipts) == 1
    for name in OWN:
        path = state / name.format(tree=receipts[0].stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(GARBAGE[garbage])
    for file in (home / ".local/share/gitwaves/trust").glob("*.json"):
        file.write_bytes(GARBAGE[garbage])
    before = outside(tmp_path)
    quiet(plan.gw("start", "A1"))  # what was trusted may be forgotten
    a1.git("add", "-A")
    a1.git("commit", "-q", "-m", "Do it")  # with hooks
    for args in (["status"], ["sync"], ["stop", "A1"], ["merge", "MP1", "--continue"], ["clean"]):
        quiet(gw(plan, *args))
    assert states(plan)["A1"] == "active"  # a lost receipt costs a run, and no more
    gw_ok(a1, "verify")
    assert states(plan)["A1"] == "done"
    assert outside(tmp_path) == before
    assert plan.git("fsck", "--no-dangling", "--no-progress") == ""


def test_a_receipt_is_no_option(plan: Repo, tmp_path: Path) -> None:
    a1 = started(plan)
    a1.write("a/a1.txt", "one\n")
    gw_ok(a1, "verify")
    (receipt,) = (plan.path / ".git/gitwaves/receipts/A1").iterdir()
    held = json.loads(receipt.read_bytes())
    for content in (f"--output={tmp_path}/pwned", "HEAD", ["x"]):
        receipt.write_text(json.dumps({**held, "content": content}))
        a1.commit("Something else", **{"a/a2.txt": str(content)})
        done = a1.gw("hook", "post-commit")
        assert (done.code, done.out, done.err) == (0, "", ""), done
    a1.git("reset", "-q", "--hard", "HEAD~3")
    assert states(plan)["A1"] == "active"


def test_a_waiting_merge_names_its_own_checkout(plan: Repo) -> None:
    a1 = started(plan)
    a1.write("a/mine.txt", "mine\n")
    note = plan.path / ".git/gitwaves/merging/MP1.json"
    note.parent.mkdir()
    oid = plan.oid()
    held = {
        "node": "MP1",
        "path": str(a1.path),
        "ours": oid,
        "theirs": oid,
        "name": "A1",
        "left": [],
    }
    note.write_text(json.dumps(held))
    says(quiet(gw(plan, "merge", "MP1", "--continue")))
    verified(a1)
    gw_ok(plan, "merge", "MP1")  # forgets what waited, and removes its checkout
    assert a1.read("a/mine.txt") == "mine\n"
    assert not note.exists()


def test_special_files(plan: Repo) -> None:
    (plan.path / A2).unlink(missing_ok=True)
    os.mkfifo(plan.path / A2)
    os.mkfifo(plan.path / ".workstreams/WS-A/A3.yaml")
    assert f"{A2}:1:1: error: a special file" in quiet(gw(plan, "check")).out
    state = plan.path / ".git/gitwaves"
    for name in ("receipts/A1/x.json", "logs/A1/x.log"):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(state / name)
    for args in (["status"], ["start", "A1"], ["stop", "A1"], ["logs", "A1"], ["clean"]):
        done = subprocess.run(
            [sys.executable, "-m", "gitwaves", "--trust-trunk", *args],
            cwd=plan.path, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode in {0, 1}, done
    for name in ("lock", "cache/x", "made/ws%2FA"):  # opening one would wait for ever
        (state / name).unlink(missing_ok=True)
        (state / name).parent.mkdir(exist_ok=True)
        os.mkfifo(state / name)
        assert f"{state / name} is a special file\n" in says(quiet(gw(plan, "status")))
        (state / name).unlink()


def test_a_plan_of_odd_values_is_worked_on(plan: Repo) -> None:
    odd = OK.replace(b"title: x", b"title: '--help $(touch pwned) `touch pwned` %s {0} <!-- -->'")
    odd = odd.replace(b"'true'", b"test -f a/a2.txt\n    timeout: 999999d")
    card = odd + b"estimate: 999999d\n" + MARK + TRACKING
    (plan.path / A2).write_bytes(card)
    plan.commit("Odd", **{CONFIG: f"{PLAN[CONFIG]}agents: 999999999999999999\nlease: 999999d\n"})
    a2 = started(plan, "A2")
    a2.write("a/a2.txt", "x\n")
    a2.write("a/:(exclude)*", "x\n")
    a2.write("a/:", "x\n")
    gw_ok(a2, "verify", "--commit")
    for args in (["status", "--json"], ["plan"], ["show", "A2"], ["brief", "A2"]):
        quiet(gw(plan, *args))
    assert states(plan)["A2"] == "done"
    assert "a/:(exclude)*" in a2.git("ls-tree", "-r", "--name-only", "HEAD")
