"""`review`: written-down changes of a plan and what is said of them (tests/reviews), and the rest.

python -m tests.test_review         # writes the expected texts anew, to be read in the diff
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt

from gitwaves.cards import load_cards
from gitwaves.cli import root
from gitwaves.errors import GitwavesError
from gitwaves.layout import oneline
from gitwaves.model import Cards, Evidence, Fact, Oid, Status, Step, TaskId, Tracking, Verdict
from gitwaves.record import replace
from gitwaves.resources import schema_text
from gitwaves.review_formats import LIMIT, review_json, review_markdown, review_text
from gitwaves.reviewing import Review, compare
from tests.plans import cards_of, check
from tests.repo import Repo

FOLDER = Path(__file__).parent / "reviews"
WRITTEN = sorted(FOLDER.glob("*.md"))
SCHEMA = Draft202012Validator(json.loads(schema_text("review.schema.json")))

_TRACKING = "# --- tracking: written by gitwaves on the worktree's branch ---\ntracking:\n"
PLAN = {
    "config.yaml": "version: 1\ntitle: Shop\ntrunk: main\nagents: 2\nagent: claude\n",
    "WS-A/workstream.yaml": 'title: Ledger\npaths: ["ledger/**"]\n',
    "WS-A/A1.yaml": """\
id: A1
title: Ledger schema
depends_on: []
batch: 1
estimate: 2h
spec: |
  Tables for accounts.
acceptance:
  - Balances never go negative.
  - Every posting has two sides.
verify:
  - run: make test-ledger
""",
    "WS-A/A2.yaml": """\
id: A2
title: Balances
depends_on: [A1]
batch: 2
estimate: 3h
cancelled: null
verify:
  - run: make test-balances
""",
    "WS-B/workstream.yaml": 'title: Gateway\npaths: ["gateway/**"]\n',
    "WS-B/B1.yaml": """\
id: B1
title: Routes
depends_on: []
batch: 1
spec: |
"""
    + "".join(f"    Line {n}.\n" for n in range(1, 15))
    + """\
verify:
  - run: make test-gateway
""",
    "WS-B/B2.yaml": """\
id: B2
title: Idempotent requests
depends_on: [MP1]
batch: 2
verify:
  - run: make test-gateway
""",
    "merge-points/MP1.yaml": """\
id: MP1
title: Ledger meets gateway
requires: [A1, B1]
unlocks: [B2]
""",
}


def plan_files() -> dict[str, bytes]:
    """The plan that every written-down change changes."""
    files = {}
    for path, text in PLAN.items():
        name = path.rpartition("/")[2].removesuffix(".yaml")
        card = name not in {"config", "workstream"}
        tracking = f"{_TRACKING}  task: {name}\n  status: planned\n" if card else ""
        files[f".workstreams/{path}"] = (text + tracking).encode()
    return files


def facts_for(cards: Cards, text: str) -> dict[str, Fact]:
    """Facts, as in `A1 B1 done; A2 active`, with evidence for the cards as they are."""
    found = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        *ids, word = entry.split()
        for node in ids:
            oid = Oid("c" * 40)
            evidence = Evidence(oid, oid, cards.digest(node)) if word == "done" else None
            tracking = Tracking(node, Status(word), agent="agent-1", evidence=evidence)
            found[node] = Fact(tracking, Verdict.HOLDS if evidence else Verdict.NONE)
    return found


def changed(old: Mapping[str, bytes], text: str) -> dict[str, bytes]:
    """The files after the change that is written down in Markdown."""
    files = {path: data.decode() for path, data in old.items()}
    for path in re.findall(r"^`(\S+)` is deleted\.$", text, re.MULTILINE):
        del files[path]
    block = re.compile(r"^`(\S+)`(:| is new:)\n````(?:diff|yaml)\n(.*?)^````$", re.DOTALL | re.M)
    for path, how, body in block.findall(text):
        if how != ":":
            name = path.rpartition("/")[2].removesuffix(".yaml")
            files[path] = f"{body}{_TRACKING}  task: {name}\n  status: planned\n"
            continue
        lines = body.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line.startswith("-"))
        after = "".join(line[1:] for line in lines if line.startswith("+"))
        assert files[path].count(before) == 1, (path, before)
        files[path] = files[path].replace(before, after)
    return {path: data.encode() for path, data in files.items()}


def reviewed(text: str) -> Review:
    """The review of a change that is written down."""
    old = plan_files()
    if needs := re.search(r"^Before: (\w+) needs (\w+)$", text, re.MULTILINE):
        path = f".workstreams/WS-{needs[1][0]}/{needs[1]}.yaml"
        old[path] = old[path].replace(b"depends_on: []", f"depends_on: [{needs[2]}]".encode())
    new = changed(old, text)
    before, after = load_cards(old), load_cards(new)
    facts = re.search(r"^Facts: (.*)$", text, re.MULTILINE)
    found = facts_for(before, facts[1] if facts else "")
    findings = check(before), check(after)
    review = compare(before, after, found, findings)
    same = {path for path, data in old.items() if new.get(path) == data}
    assert same
    assert compare(before, after, found, findings, trunk=before, same=same) == review
    return review


def between(old: Cards, new: Cards, facts: str = "") -> Review:
    return compare(old, new, facts_for(old, facts), (check(old), check(new)))


# --- written down ---


def expected(text: str) -> str:
    return text.partition("Said:\n````text\n")[2].removesuffix("````\n")


def test_at_least_twenty_are_written_down() -> None:
    assert len(WRITTEN) >= 20
    assert {f.severity for f in check(load_cards(plan_files()))} == {"warning"}


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_what_is_said_of_a_change(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert review_text(reviewed(text)) == expected(text)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_the_same_in_json_and_markdown(path: Path) -> None:
    review = reviewed(path.read_text(encoding="utf-8"))
    SCHEMA.validate(json.loads(json.dumps(review_json(review))))
    shown = review_markdown(review)
    for change in review.changes:
        assert change.id in shown or change.kind == "config"
        for line in change.code:
            assert all(part in shown for part in line.text.split("\n"))


# --- what must not happen ---


@given(st.permutations(list(PLAN)))
def test_the_order_of_reading_is_no_change(order: list[str]) -> None:
    files = plan_files()
    other = load_cards({f".workstreams/{path}": files[f".workstreams/{path}"] for path in order})
    assert between(load_cards(files), other).empty


NASTY = [
    '</details><script>alert(1)</script> <img src=x onerror="y"> <!-- --> &amp;',
    "```\n# a heading\n```` \x1b[2J \u202e",
    "@ada @org/team #12 http://example.com www.example.com [a](javascript:x) ![b](c) | d",
    "*a* _b_ ~c~ `d` \\e",
]


@pytest.mark.parametrize("text", NASTY)
def test_what_people_wrote_cannot_break_out(text: str) -> None:
    old = cards_of("A1; B1 needs A1; MP1: A1")
    task = replace(
        old.tasks[TaskId("A1")],
        title=text,
        spec=f"{text}\n" * 20,
        acceptance=(text,),
        verify=(Step(run=text), Step(manual=text)),
        cancelled=text,
    )
    review = between(old, replace(old, tasks={**old.tasks, task.id: task}), "A1 active")
    assert all(c.isprintable() or c == "\n" for c in review_text(review))
    tokens = MarkdownIt("commonmark").parse(review_markdown(review))
    html = [token.content.strip() for token in tokens if token.type == "html_block"]
    assert set(html) <= {"<details><summary>spec</summary>", "</details>"}
    inline = [part for token in tokens for part in token.children or ()]
    assert {part.content for part in inline if part.type == "html_inline"} <= {"<!-- -->"}
    assert not [part for part in inline if part.type in {"link_open", "image", "code_inline"}]
    words = " ".join(part.content for part in inline if part.type == "text")
    assert not re.search(r"[@#]\w|https?:|www\.", words)


def test_a_fence_that_stays_in_a_spec_closes_none_of_ours() -> None:
    old = cards_of("A1")
    task = replace(old.tasks[TaskId("A1")], spec="```\n# a heading\n```\nold")
    new = replace(task, spec="```\n# a heading\n```\nnew")
    was, now = (replace(old, tasks={t.id: t}) for t in (task, new))
    tokens = MarkdownIt("commonmark").parse(review_markdown(between(was, now)))
    assert [t.content for t in tokens if t.type == "fence" and t.info == "diff"] == [
        "  ...\n  # a heading\n  ```\n- old\n+ new\n"
    ]


def test_a_comment_stays_below_the_limit_with_the_commands_first() -> None:
    old = cards_of("; ".join(f"A{n}" for n in range(1, 300)))
    tasks = {
        t: replace(c, spec="x" * 4000, verify=(Step(run=f"make test-{t}"),))
        for t, c in old.tasks.items()
    }
    shown = review_markdown(between(old, replace(old, tasks=tasks)))
    assert len(shown) <= LIMIT < 65_536
    assert all(f"+ make test-A{n}\n" in shown for n in range(1, 300))
    assert "did not fit" in shown
    assert "Among them are commands" not in shown
    tasks = {t: replace(c, verify=(Step(run="x" * 3000),)) for t, c in old.tasks.items()}
    shown = review_markdown(between(old, replace(old, tasks=tasks)))
    assert len(shown) <= LIMIT
    assert "Among them are commands that will run." in shown


@pytest.mark.parametrize("title", ["Ledger", *NASTY])
def test_many_changes_are_collapsed_each_under_its_name(title: str) -> None:
    old = cards_of("; ".join(f"A{n}" for n in range(1, 30)))
    tasks = {t: replace(c, title=title, estimate=60) for t, c in old.tasks.items()}
    shown = review_markdown(between(old, replace(old, tasks=tasks)))
    summaries = re.findall(r"^<details><summary>changed task (A\d+): (.*)</summary>$", shown, re.M)
    assert [name for name, _ in summaries] == [f"A{n}" for n in range(1, 30)]
    for _, said in summaries:
        assert html.unescape(said.replace("<!-- -->", "")) == oneline(title)
        assert not re.search(r"[@#]\w|https?:|www\.|<(?!!-- -->)|\n", said)
    assert shown.count("\n- estimate ") == 29


def test_every_part_of_a_step_is_shown() -> None:
    old = cards_of("A1")
    for step in (
        Step(run="true", timeout=60),
        Step(run="true", always=True),
        Step(manual="true"),
        Step(run="true\nfalse"),
    ):
        task = replace(old.tasks[TaskId("A1")], verify=(step,))
        review = between(old, replace(old, tasks={task.id: task}))
        assert "COMMANDS THAT WILL RUN\n  task A1 (changed)\n" in review_text(review)


@given(st.sampled_from(sorted(PLAN)), st.sampled_from(sorted(PLAN)))
def test_what_changes_a_digest_is_always_a_change(one: str, other: str) -> None:
    """Deleting any two files, or lines of cards: where a digest differs, something is said."""
    files = plan_files()
    new = {
        p: d for p, d in files.items() if p not in {f".workstreams/{one}", f".workstreams/{other}"}
    }
    before, after = load_cards(files), load_cards(new)
    same = {
        n for n in {*before.tasks, *before.merge_points} if _digest(before, n) == _digest(after, n)
    }
    assert {*before.tasks, *before.merge_points} == same or not between(before, after).empty


def _digest(cards: Cards, node: str) -> str | None:
    return cards.digest(node) if node in cards.tasks or node in cards.merge_points else None


# --- the command ---


@pytest.fixture
def plan(repo: Repo) -> Repo:
    repo.gw("--version")
    for path, data in plan_files().items():
        repo.write(path, data)
    repo.write(".workstreams/.gitattributes", "* -text\n*.yaml diff=gitwaves\n")
    repo.commit("Plan")
    return repo


def edit(repo: Repo, path: str, old: str, new: str) -> None:
    text = repo.read(f".workstreams/{path}")
    assert old in text
    repo.write(f".workstreams/{path}", text.replace(old, new))


def run(repo: Repo, *args: str) -> tuple[int, str]:
    """The command in this very process, of which it takes many: its exit code, and its output."""
    done = CliRunner().invoke(root, ["-C", str(repo.path), "review", *args])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_which_sides_are_compared(plan: Repo) -> None:
    assert run(plan)[1] == "the plan does not change\n"
    plan.git("switch", "-qc", "change")
    edit(plan, "WS-A/A1.yaml", "estimate: 2h", "estimate: 4h")
    for args in ([], ["main"], ["HEAD"]):
        assert "estimate 2h -> 4h" in run(plan, *args)[1]
    assert run(plan, "--staged")[1] == "the plan does not change\n"
    plan.git("add", "-A")
    assert "estimate 2h -> 4h" in run(plan, "--staged")[1]
    plan.commit("Change")
    plan.git("switch", "-q", "main")
    edit(plan, "WS-B/B1.yaml", "title: Routes", "title: Paths")
    plan.commit("Another change")
    said = run(plan, "main...change")[1]
    assert "estimate 2h -> 4h" in said
    assert "Paths" not in said
    assert "Paths -> Routes" in run(plan, "main", "change")[1]
    assert "Paths -> Routes" in run(plan, "main..change")[1]
    shown = json.loads(run(plan, "main...change", "--json")[1])
    SCHEMA.validate(shown)
    assert [change["id"] for change in shown["changes"]] == ["A1"]


def test_exit_codes(plan: Repo) -> None:
    edit(plan, "WS-A/A1.yaml", "depends_on: []", "depends_on: [Z1]")
    code, out = run(plan, "--format", "markdown")
    assert code == 1
    assert "the plan is broken" in out
    for args, hint in (
        (["nowhere...HEAD"], "name a branch"),
        (["a", "b", "c"], "gitwaves review A B"),
        (["--staged", "HEAD"], "gitwaves review --staged"),
    ):
        with pytest.raises(GitwavesError) as caught:
            run(plan, *args)
        assert hint in (caught.value.hint or "")


def test_git_diff_shows_a_card_by_what_it_says(plan: Repo) -> None:
    command = f'"{sys.executable}" -m gitwaves review --textconv'
    plan.git("config", "diff.gitwaves.textconv", command)
    edit(plan, "WS-A/A1.yaml", "title: Ledger schema", "title: 'Ledger schema'  # a comment")
    assert "\n@@" not in plan.git("diff")
    edit(plan, "WS-A/A1.yaml", "make test-ledger", "make test")
    edit(plan, "WS-A/A2.yaml", "title: Balances", "title: [")
    shown = plan.git("diff")
    assert "-    run: make test-ledger\n+    run: make test\n" in shown
    assert "+title: [\n" in shown


def test_init_says_how(repo: Repo) -> None:
    repo.commit("Seed", **{"README.md": "x\n"})
    said = repo.gw_ok("init", "--no-hooks").err
    assert '  git config diff.gitwaves.textconv "gitwaves review --textconv"\n' in said
    assert repo.git("config", "--get", "diff.gitwaves.textconv", check=False) == ""
    assert "diff.gitwaves" not in repo.gw_ok("init", "--no-hooks").err


def _record() -> None:
    for path in WRITTEN:
        text = path.read_text(encoding="utf-8").partition("Said:\n")[0]
        said = review_text(reviewed(text))
        path.write_text(f"{text}Said:\n````text\n{said}````\n", encoding="utf-8")


if __name__ == "__main__":
    _record()
