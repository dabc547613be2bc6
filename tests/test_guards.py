"""What a branch may not do: refused by the hook, by `verify`, by `merge` and by `check --base` alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from gitwaves import advancing, hooks, ranges, remaining, verifying
from gitwaves.errors import NotReady, Refused
from gitwaves.git import Repo as Git
from gitwaves.model import Branch, Claim, Evidence, Oid, Run, Status, TaskId, Tracking
from gitwaves.record import replace
from gitwaves.resources import schema_text
from gitwaves.worktrees import mark, marker
from gitwaves.writing import state_commit
from tests.landing import Plan, planned
from tests.repo import Repo

A1, A2 = ".workstreams/WS-A/A1.yaml", ".workstreams/WS-A/A2.yaml"
B1 = ".workstreams/WS-B/B1.yaml"
NO_HOOKS = ("-c", "core.hooksPath=/dev/null")

_made: dict[str, tuple[Plan, str]] = {}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The plan, of which nothing is begun."""
    return planned(tmp_path / "repo", shared_paths="[shared.txt]")


@pytest.fixture
def begun(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """B1 is done and A1 at work, with hooks; each test has the branches as they were at first."""
    if "plan" not in _made:
        made = planned(tmp_path_factory.mktemp("guards") / "repo", shared_paths="[shared.txt]")
        hooks.install(Git.open(made.repo.path))
        made.do("B1")
        made.start("A1")
        _made["plan"] = made, made.repo.oid("ws/A")
    made, claim = _made["plan"]
    tree = worktree(made, "A")
    tree.git("reset", "-q", "--hard", claim)
    tree.git("clean", "-q", "-fdx")
    at_work = Branch("ws/A")
    if not marker(made.store.repo, at_work).exists():  # a test had A1 done
        mark(made.store.repo, made.snapshot.cards, at_work, TaskId("A1"))
    return made


def worktree(plan: Plan, name: str) -> Repo:
    return Repo(plan.repo.path.parent / f"{plan.repo.path.name}.worktrees" / f"ws-{name}")


def edit(repo: Repo, path: str, old: str, new: str) -> None:
    text = repo.read(path)
    assert text.count(old) == 1, text
    repo.write(path, text.replace(old, new))


def slip(repo: Repo, message: str = "Slip it in") -> str:
    """Commits everything past all hooks."""
    repo.git("add", "-A")
    repo.git(*NO_HOOKS, "commit", "-q", "-m", message)
    return repo.oid()


def hooked(repo: Repo, *args: str) -> str:
    """Runs git with its hooks; all that it printed."""
    return repo.git("-c", 'alias.said=!f() { git "$@" 2>&1; }; f', "said", *args, check=False)


def said(plan: Plan, base: str = "main", rev: str = "ws/A", name: str | None = None) -> list[str]:
    """What `check --base` finds, each as a sentence with its commit."""
    return [str(b) for b in ranges.check(plan.store, base, rev, name).found]


def evidence(plan: Plan, task: str, commit: str) -> Evidence:
    """The evidence that a forger makes up: all of it fits, and no step ever ran."""
    store = plan.store
    snapshot = store.snapshot()
    digest = snapshot.cards.digest(task)
    tree = store.repo.code_tree(Oid(commit))
    return Evidence(Oid(commit), tree, digest, (Run("test -f a/a1.txt", 0, 0.1, "sha256:0"),))


def record(plan: Plan, task: str, tracking: Tracking, on: str | None = None) -> str:
    """A commit of the right shape that gives a card a tracking; lands it on the task's branch."""
    store = plan.store
    snapshot = store.snapshot()
    tree = worktree(plan, task[0])
    parent = Oid(on or tree.oid())
    new = state_commit(store, snapshot.cards, parent, task, tracking, trunk=snapshot.trunk_tip)
    store.repo.git(
        "cat-file", "-e", new
    )  # what was made is written before git is asked for anything
    tree.git("reset", "-q", "--hard", new)
    return new


def forge(plan: Plan, task: str, **changes: object) -> str:
    """Has a card claim to be done, with evidence for the tip that fits but for `changes`."""
    was = plan.tracking(task, f"ws/{task[0]}")
    made = replace(evidence(plan, task, worktree(plan, task[0]).oid()), **changes)
    return record(plan, task, replace(was, status=Status.DONE, evidence=made))


# --- all of them refuse the same ---------------------------------------------------------------

DEEDS: dict[str, tuple[Callable[[Repo], object], str, str]] = {
    "foreign": (lambda r: r.write("b/x.txt", "x\n"), "b/x.txt", "belongs to WS-B, outside the boundary of WS-A"),
    "nobody's": (lambda r: r.write("x.txt", "x\n"), "x.txt", "belongs to no workstream, outside the boundary of WS-A"),
    "spec": (lambda r: edit(r, A1, "Write a/a1.txt.", "Write nothing."), A1, "the spec half changes only on main, by review"),
    "deleted": (lambda r: r.git("rm", "-q", A2), A2, "the spec half changes only on main, by review"),
    "boundary": (lambda r: edit(r, ".workstreams/WS-A/workstream.yaml", "a/**", "**"), ".workstreams/WS-A/workstream.yaml", "is not this worktree's to change: cards are reviewed on main"),
    "config": (lambda r: edit(r, ".workstreams/config.yaml", "shared.txt", "'**'"), ".workstreams/config.yaml", "is not this worktree's to change: cards are reviewed on main"),
    "another's": (lambda r: edit(r, B1, "status: planned", "status: done"), B1, "is not this worktree's to change: cards are reviewed on main"),
    "new card": (lambda r: r.write(".workstreams/WS-A/A9.yaml", "id: A9\ntitle: x\n"), ".workstreams/WS-A/A9.yaml", "is not this worktree's to change: cards are reviewed on main"),
    "typed": (lambda r: edit(r, A2, "status: planned", "status: done"), A2, "`status: done` without evidence"),
    "unread": (lambda r: edit(r, A2, "status: planned", "status: finished"), A2, "its tracking cannot be read: `tracking.status`: 'finished' is not one of ['planned', 'active', 'failed', 'done']"),
    "reworded": (lambda r: edit(r, A1, "  agent: ada", "  agent:   ada # me"), A1, "`status: active` was not written by gitwaves"),
    "renamed": (lambda r: edit(r, A2, "task: A2", "task: A1"), A2, "its tracking is that of A1"),
}  # fmt: skip


@pytest.mark.parametrize("name", DEEDS)
def test_all_refuse_the_same(begun: Plan, name: str) -> None:
    deed, path, why = DEEDS[name]
    tree = worktree(begun, "A")
    tree.write("a/a1.txt", "A1\n")
    deed(tree)
    tree.git("add", "-A")
    refusal = hooked(tree, "commit", "-m", "x")
    sentence = next(line.strip() for line in refusal.splitlines() if path in line)
    assert sentence.removeprefix(path).removeprefix(":").strip() == why
    bad = slip(tree)
    assert said(begun) == [f"{sentence} (commit {bad[:10]})"]
    with pytest.raises(Refused) as caught:
        verifying.verify(begun.store, "A1", trust_trunk=True)
    assert caught.value.message == f"outside the boundary:\n  {sentence} (commit {bad[:10]})"
    if name == "reworded":
        return  # what is done next writes it anew
    forge(begun, "A1")
    with pytest.raises(Refused) as caught:
        begun.merge()
    assert caught.value.message == f"commit {bad[:10]} of A1: {sentence}"
    done = begun.repo.gw("check", "--base", "main", "ws/A", "--json")
    assert done.code == 1
    whole = json.loads(done.out)
    Draft202012Validator(json.loads(schema_text("check.schema.json"))).validate(whole)
    (finding,) = whole["findings"]
    assert (finding["path"], finding["commit"], finding["message"]) == (path, bad, why)
    assert finding["remedy"].startswith("take it out of the commit")


def test_adding_and_removing_a_file_is_still_found(begun: Plan) -> None:
    tree = worktree(begun, "A")
    tree.write("b/x.txt", "x\n")
    tree.write("a/a1.txt", "A1\n")
    first = slip(tree)
    tree.git("rm", "-q", "b/x.txt")
    second = slip(tree)
    why = "b/x.txt belongs to WS-B, outside the boundary of WS-A"
    both = [f"{why} (commit {oid[:10]})" for oid in (first, second)]
    assert said(begun) == both
    with pytest.raises(Refused, match="outside the boundary") as caught:
        verifying.verify(begun.store, "A1", trust_trunk=True)
    assert [line.strip() for line in caught.value.message.splitlines()[1:]] == both
    done = begun.repo.gw("check", "--base", "main", "ws/A")
    assert done.out.splitlines()[0] == (
        "b/x.txt:1:1: error: belongs to WS-B, outside the boundary of WS-A "
        f"(commit {first[:10]}); take it out of the commit; WS-B changes it, "
        "or a review on main widens the boundary"
    )
    assert done.err == "2 errors, 0 warnings\n"


def test_what_is_shared_or_inside_passes(begun: Plan) -> None:
    tree = worktree(begun, "A")
    tree.commit("x", **{"a/deep/x.txt": "x\n", "shared.txt": "x\n"})
    assert said(begun) == []


def test_the_narrower_paths_of_the_task_at_work(plan: Plan) -> None:
    edit(plan.repo, A1, "spec:", "paths: [a/one/**]\nspec:")
    plan.repo.commit("A1 keeps to a/one")
    tree = plan.start("A1")
    tree.write("a/two.txt", "x\n")
    bad = slip(tree)
    assert said(plan) == [f"a/two.txt is outside the paths of A1 (commit {bad[:10]})"]
    tree.git("reset", "-q", "--hard", "HEAD~1")
    tree.write("a/one/a1.txt", "x\n")
    slip(tree)
    forge(plan, "A1")
    record(
        plan,
        "A2",
        Tracking("A2", Status.ACTIVE, claim=Claim(Oid("a" * 40), "sha256:" + "0" * 64, "1")),
    )
    tree.write("a/two.txt", "x\n")
    slip(tree)  # A2 states no narrower paths
    assert said(plan) == []


# --- evidence ----------------------------------------------------------------------------------

NEVER = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"runs": ()}, "no step of its evidence was run"),
        ({"runs": (Run("x", 1, 0.1, "sha256:0"),)}, "a step of its evidence failed"),
        ({"commit": Oid("c" * 40)}, "its evidence is of the commit cccccccccc, which was never here"),
        ({"tree": Oid("c" * 40)}, "its evidence names another code tree than that of the commit {tip}"),
        ({"spec": NEVER}, "its evidence is for a spec that main never had"),
        ({}, None),
    ],
)  # fmt: skip
def test_evidence_that_does_not_fit(
    begun: Plan, changes: dict[str, object], why: str | None
) -> None:
    tree = worktree(begun, "A")
    tip = tree.commit("Do A1", **{"a/a1.txt": "A1\n"})
    bad = forge(begun, "A1", **changes)
    expected = [] if why is None else [f"{A1}: {why.format(tip=tip[:10])} (commit {bad[:10]})"]
    assert said(begun) == expected


def test_evidence_of_other_code(begun: Plan) -> None:
    tree = worktree(begun, "A")
    good = tree.commit("Do A1", **{"a/a1.txt": "A1\n"})
    tree.commit("And more", **{"a/a1.txt": "worse\n"})
    made = evidence(begun, "A1", good)
    bad = record(
        begun, "A1", replace(begun.tracking("A1", "ws/A"), status=Status.DONE, evidence=made)
    )
    assert said(begun) == [
        f"{A1}: its evidence is of other code than this commit holds ({good[:10]}) (commit {bad[:10]})"
    ]


def test_evidence_of_a_commit_that_is_not_in_the_branch(begun: Plan) -> None:
    tree = worktree(begun, "A")
    away = tree.commit("Do A1", **{"a/a1.txt": "A1\n"})
    tree.git("commit", "-q", "--amend", "-m", "The same code")
    made = evidence(begun, "A1", away)
    bad = record(
        begun, "A1", replace(begun.tracking("A1", "ws/A"), status=Status.DONE, evidence=made)
    )
    assert said(begun) == [
        f"{A1}: its evidence is of the commit {away[:10]}, which is not in this branch (commit {bad[:10]})"
    ]
    advancing.advance(begun.store)  # what binds it anew
    assert said(begun) == []


def test_done_stands_alone(begun: Plan) -> None:
    tree = worktree(begun, "A")
    tree.commit("Do A1", **{"a/a1.txt": "A1\n"})
    forge(begun, "A1")
    tree.git("reset", "-q", "--soft", "HEAD~2")
    bad = slip(tree)
    assert said(begun) == [
        f"{A1}: `status: done` in a commit that also changes a/a1.txt (commit {bad[:10]})"
    ]


def test_a_spec_that_changed_since_is_stale_and_no_forgery(plan: Plan) -> None:
    plan.do("A1")
    edit(plan.repo, A1, "Write a/a1.txt.", "Write it well.")
    plan.repo.commit("Another spec")
    assert plan.states()["A1"] == "stale"
    assert said(plan) == []


def test_an_amended_claim_proves_nothing_and_passes(begun: Plan) -> None:
    tree = worktree(begun, "A")
    tree.write("a/a1.txt", "A1\n")
    tree.git("add", "-A")
    tree.git("commit", "-q", "--amend", "-m", "My first commit")
    assert said(begun) == []


# --- merges ------------------------------------------------------------------------------------


def test_what_gitwaves_merges_is_exempt(plan: Plan) -> None:
    root = plan.repo.oid()
    plan.do("A1")
    plan.do("B1")
    plan.do("B2")  # brings in A1
    advancing.note(plan.store, "A1", lambda t: replace(t, learnings=("Cents.",)))
    assert said(plan) == said(plan, rev="ws/B") == []
    landing = plan.merge()
    plan.repo.commit("Trunk goes on", **{"README.md": "x\n"})
    plan.do("C1")  # brings in trunk
    plan.repo.git("revert", "--no-edit", "-m", "1", landing)
    plan.merge(again=True)
    plan.do("A2")
    remaining.rest(plan.store, trust_trunk=True)
    for rev in ("main", "ws/A", "ws/B", "ws/C"):
        assert said(plan, root, rev) == [], rev
    assert said(plan, root, "main", "main") == []


@pytest.mark.parametrize("how", ["--squash", "--ff-only", "--no-ff"])
def test_what_a_forge_lands(plan: Plan, how: str) -> None:
    root = plan.repo.oid()
    plan.do("A1")
    plan.repo.git("merge", "-q", how, "ws/A")
    plan.repo.commit("A1 (#1)")
    assert said(plan, root, "main") == []
    plan.do("A2")
    plan.do("B1")
    plan.merge()
    assert said(plan, root, "main") == said(plan) == []


def test_merges_by_hand_pass_the_hooks(begun: Plan) -> None:
    tree, before = worktree(begun, "A"), begun.repo.oid()
    try:
        begun.repo.commit("Trunk goes on", **{"README.md": "x\n", ".workstreams/notes.md": "x\n"})
        tree.commit("Mine", **{"a/a1.txt": "A1\n"})
        tree.git("merge", "-q", "--no-edit", "main")
        tree.git("merge", "-q", "--no-edit", "ws/B")
        assert said(begun) == []
    finally:
        begun.repo.git("reset", "-q", "--hard", before)


def test_unverified_work_of_another_is_refused(begun: Plan) -> None:
    tree, other = worktree(begun, "A"), worktree(begun, "B")
    done = other.oid()
    try:
        tree.git("merge", "-q", "--no-edit", "ws/B")
        assert said(begun) == []
        tree.git("reset", "-q", "--hard", "HEAD^1")
        stray = other.commit("After it was done", **{"b/more.txt": "x\n"})
        refusal = hooked(tree, "merge", "--no-edit", "ws/B")
        assert f"  b/more.txt was merged from ws/B unverified, as of {stray[:10]}\n" in refusal
        tree.git("merge", "--abort")
        tree.git(*NO_HOOKS, "merge", "-q", "--no-edit", "ws/B")
        assert said(begun) == [
            f"b/more.txt was merged from ws/B unverified, as of {stray[:10]} (commit {tree.oid()[:10]})"
        ]
        tree.git("reset", "-q", "--hard", "HEAD^1")
        other.git("reset", "-q", "--hard", f"{done}^")
        tree.git(*NO_HOOKS, "merge", "-q", "--no-edit", "ws/B")
        assert said(begun) == [
            f"{B1} was active on ws/B when it was merged (commit {tree.oid()[:10]})"
        ]
        assert said(begun, "main", tree.oid(), "main") != []  # nor does it land
    finally:
        other.git("reset", "-q", "--hard", done)


@pytest.mark.parametrize(
    ("path", "old", "new", "why"),
    [
        (A1, "status: active", "status: done", "its tracking is not what merging its two sides gives"),
        (B1, "b/b1.txt.", "nothing.", "the spec half changes only on main, by review"),
        ("b/b1.txt", "B1", "mine", " belongs to WS-B, outside the boundary of WS-A"),
    ],
)  # fmt: skip
def test_what_a_merge_slips_in(begun: Plan, path: str, old: str, new: str, why: str) -> None:
    tree = worktree(begun, "A")
    tree.git("merge", "-q", "--no-commit", "--no-ff", "ws/B")
    edit(tree, path, old, new)
    tree.git("add", "-A")
    refusal = hooked(tree, "commit", "-m", "x")
    sentence = next(line.strip() for line in refusal.splitlines() if path in line)
    assert why in sentence
    bad = slip(tree)
    assert said(begun) == [f"{sentence} (commit {bad[:10]})"]


# --- branches that are aimed at trunk ----------------------------------------------------------


def test_a_review_changes_specs_and_types_no_state(begun: Plan) -> None:
    repo = begun.repo
    repo.git("switch", "-q", "-c", "review")
    try:
        edit(repo, A2, "Write a/a2.txt.", "Write it well.")
        stream = ".workstreams/WS-A/workstream.yaml"
        edit(repo, stream, "[a/**]", "[a/**, z/**]")
        repo.git("rm", "-q", ".workstreams/WS-C/C1.yaml")
        repo.write(".workstreams/WS-C/C9.yaml", repo.read(B1).replace("B1", "C9"))
        repo.commit("A better plan")
        assert said(begun, rev="review") == []
        edit(repo, A2, "status: planned", "status: done")
        typed = repo.commit("I say so")
        edit(repo, stream, "branch: ws/A", "branch: ws/other")
        moved = repo.commit("Another branch")
        repo.git("mv", A1, ".workstreams/WS-C/A1.yaml")
        gone = repo.commit("Move A1")
        assert said(begun, rev="review") == [
            f"{A2}: `status: done` without evidence (commit {typed[:10]})",
            f"{stream}: the branch of WS-A changes from ws/A to ws/other, and A1 was begun (commit {moved[:10]})",
            f"{A1} was begun, and a card that was begun is not deleted, moved or renamed (commit {gone[:10]})",
        ]
    finally:
        repo.git("switch", "-q", "main")
        repo.git("branch", "-q", "-D", "review")


def test_only_done_work_lands(begun: Plan) -> None:
    repo, before = begun.repo, begun.repo.oid()
    try:
        repo.git("merge", "-q", "--squash", "ws/A")
        bad = repo.commit("All of A")
        assert said(begun, before, "main") == [
            f"{A1}: `status: active` belongs on ws/A: only done work lands (commit {bad[:10]})"
        ]
    finally:
        repo.git("reset", "-q", "--hard", before)


# --- in CI -------------------------------------------------------------------------------------


def test_a_pull_request_as_a_forge_checks_it_out(begun: Plan, tmp_path: Path) -> None:
    tree = worktree(begun, "A")
    tree.write("b/x.txt", "x\n")
    slip(tree)
    ci = Repo.clone(begun.repo, tmp_path / "ci", "--no-local")
    ci.git("switch", "-q", "--detach", "main")
    ci.git("merge", "-q", "--no-ff", "--no-edit", "origin/ws/A")  # as refs/pull/7/merge
    ci.git("branch", "-q", "-D", "main")
    for more in ([], ["--branch", "ws/A"]):
        done = ci.gw("check", "--base", "origin/main", "--format", "github", *more)
        assert done.code == 1
        assert done.out == (
            "::error file=b/x.txt,line=1,col=1,title=gitwaves::belongs to WS-B, outside the boundary "
            f"of WS-A (commit {tree.oid()[:10]}); take it out of the commit; WS-B changes it, "
            "or a review on main widens the boundary\n"
        )
    ci.git("update-ref", "-d", "refs/remotes/origin/ws/A")  # its state commits say whose it is
    assert ci.gw("check", "--base", "origin/main").code == 1
    assert "1 commit" not in ci.gw("check", "--base", "nowhere").out
    shallow = Repo.clone(
        begun.repo, tmp_path / "s", "--no-local", "--depth=1", "--no-single-branch"
    )
    short = shallow.gw("check", "--base", "origin/main", "origin/ws/A")
    assert short.code == 1
    assert short.err.startswith("Error: this clone is shallow: it does not reach from origin/main")


def test_formats_of_plain_check(plan: Plan) -> None:
    edit(plan.repo, A1, "title: Task A1", "titel: Task A1")
    plan.repo.write(".workstreams/WS-A/100%,a:b\n.yaml", "x")
    lines = plan.repo.gw("check", "--format", "github").out.splitlines()
    for place in ("A1.yaml,line=2", "100%25%2Ca%3Ab%0A.yaml,line=1"):
        start = f"::error file=.workstreams/WS-A/{place},col=1,title=gitwaves::"
        assert any(line.startswith(start) for line in lines), lines
    assert plan.repo.gw("check", "--format", "json").out == plan.repo.gw("check", "--json").out
    assert plan.repo.gw("check", "--json", "--format", "text").code == 2
    assert plan.repo.gw("check", "--branch", "ws/A").code == 2


def test_a_base_that_is_not_there(plan: Plan) -> None:
    done = plan.repo.gw("check", "--base", "nowhere")
    assert done.code == 1
    assert done.err == (
        "Error: no commit 'nowhere' here\nHint: fetch it first (in CI, fetch the whole history)\n"
    )
    bare = Repo.init(plan.repo.path.parent / "empty")
    bare.commit("No plan", **{"README.md": "x\n"})
    with pytest.raises(NotReady):
        ranges.check(Plan(bare).store, "HEAD")
