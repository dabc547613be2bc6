"""Merge points land verified work on trunk as one commit, and lose nobody's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gitwaves import advancing, git, merging, remaining
from gitwaves.errors import Conflict, NotReady, Refused
from gitwaves.lessons import END as LEARNINGS_END
from gitwaves.lessons import START as LEARNINGS_START
from gitwaves.model import Oid, PointId, Status, Tracking, Verdict
from gitwaves.ranges import Row
from gitwaves.record import replace
from gitwaves.settling import joined
from gitwaves.store import Store
from gitwaves.writing import state_commit
from tests.landing import DONE, Plan, planned
from tests.repo import Repo

LANDING = ["gitwaves: MP1 done", "gitwaves: dashboard and learnings"]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The plan, of which nothing is begun."""
    return planned(tmp_path / "repo", shared_paths="[shared.txt]")


@pytest.fixture
def ready(plan: Plan) -> Plan:
    """A1 and B1 are done, on their branches: MP1 can land."""
    plan.do("A1")
    plan.do("B1")
    return plan


def set_steps(plan: Plan, *commands: str) -> None:
    """Gives MP1 steps of its own, on trunk."""
    path = ".workstreams/merge-points/MP1.yaml"
    steps = "".join(f"  - run: {command}\n" for command in commands)
    head, mark, rest = plan.repo.read(path).partition("# --- tracking")
    plan.repo.write(path, f"{head}verify:\n{steps}{mark}{rest}")
    plan.repo.commit("Steps for MP1")


def move_trunk(tmp_path: Path, repo: Repo, path: str, text: str) -> str:
    """A script that commits a file to `main` behind everybody's back, the first time it runs."""
    script = tmp_path / "move.sh"
    once = tmp_path / "moved"
    script.write_text(
        f"""
[ ! -e {once} ] || exit 0
: >{once}
export GIT_DIR={repo.path}/.git GIT_INDEX_FILE={tmp_path}/index
unset GIT_WORK_TREE
git read-tree main
blob=$(printf %s '{text}' | git hash-object -w --stdin)
git update-index --add --cacheinfo 100644,$blob,{path}
new=$(git commit-tree -p main -m 'Meanwhile' "$(git write-tree)")
git update-ref refs/heads/main $new
"""
    )
    return f"sh {script}"


def runs_of(plan: Plan, node: str = "MP1") -> int:
    """How often the steps of a merge point ran."""
    return len(list((plan.store.repo.state_dir / "logs" / node).glob("*.log")))


def squash(repo: Repo, branch: str, subject: str) -> str:
    """What a forge's squash button does."""
    repo.git("merge", "-q", "--squash", branch)
    return repo.commit(subject)


# --- needs -------------------------------------------------------------------------------------


def test_a_need_comes_into_the_worktree_by_a_merge(ready: Plan) -> None:
    ready.repo.commit("Trunk goes on", **{"README.md": "Hello\n"})
    worktree = ready.start("B2")
    assert worktree.read("a/a1.txt") == "A1\n"
    assert worktree.read("README.md") == "Hello\n"
    merges = worktree.git("log", "--merges", "--format=%s", "main..HEAD").splitlines()
    assert merges == ["gitwaves: B2 brings in A1", "gitwaves: B2 brings in main"]
    assert ready.tracking("A1", "ws/B").status is Status.DONE
    assert ready.tracking("B1", "ws/B").status is Status.DONE
    assert ready.tracking("A2", "ws/B") == Tracking("A2")
    for card in ("WS-A/A2", "WS-C/C1", "merge-points/MP1"):
        path = f".workstreams/{card}.yaml"
        assert worktree.git("rev-parse", f"HEAD:{path}") == ready.repo.git(
            "rev-parse", f"main:{path}"
        )
    ready.finish(worktree, "B2")
    assert ready.states()["B2"] == DONE
    ready.sound()


def test_a_second_start_changes_nothing(ready: Plan) -> None:
    worktree = ready.start("B2")
    before = worktree.oid()
    assert ready.start("B2").path == worktree.path
    assert worktree.oid() == before


# --- landing -----------------------------------------------------------------------------------


def test_a_merge_point_waits_for_its_tasks(plan: Plan) -> None:
    plan.do("A1")
    plan.start("B1")
    before = plan.repo.oid("main")
    said = plan.repo.gw("--trust-trunk", "merge", "MP1")
    assert said.code == 1
    assert "MP1 waits for B1" in said.err
    assert plan.repo.oid("main") == before


def test_an_unknown_merge_point_is_a_usage_error(plan: Plan) -> None:
    said = plan.repo.gw("merge", "MP2")
    assert said.code == 2
    assert "did you mean MP1?" in said.err


def test_it_lands_as_one_merge_commit_with_its_evidence(ready: Plan) -> None:
    advancing.note(ready.store, "A1", lambda t: replace(t, learnings=("Cents, not euros.",)))
    before = Oid(ready.repo.oid("main"))
    landed = ready.repo.gw_ok("--trust-trunk", "merge", "MP1")
    assert "landed MP1 (A1 B1) as " in landed.out
    assert "runnable now: C1" in landed.out
    assert ready.trunk_line(before) == LANDING
    commit = Oid(ready.repo.oid("main^"))
    repo = ready.store.repo
    parents = repo.require_commit(commit).parents
    assert parents[0] == before
    evidence = ready.tracking("MP1").evidence
    assert evidence is not None
    assert repo.code_tree(evidence.commit) == evidence.tree == repo.code_tree(commit)
    assert repo.is_ancestor(evidence.commit, commit)
    assert evidence.spec == ready.snapshot.cards.digest(PointId("MP1"))
    assert [r.exit for r in evidence.runs] == [0, 0]
    for task, done in zip(("A1", "B1"), evidence.inputs, strict=True):
        assert repo.is_ancestor(done, commit)
        assert ready.tracking(task, done).status is Status.DONE
    states = ready.states()
    assert [states[n] for n in ("A1", "B1", "MP1", "C1")] == [DONE, DONE, DONE, "runnable"]
    assert ready.fact("MP1").commit == commit
    text = ready.repo.read("CLAUDE.md")
    assert text.startswith("# House rules\n\nBe kind.\n")
    assert f"{LEARNINGS_START}\n- Cents, not euros. (A1, " in text
    assert text.endswith(f"{LEARNINGS_END}\n")
    assert (
        ready.repo.read(".workstreams/DASHBOARD.txt")
        == ready.repo.git("show", "gitwaves/dashboard:DASHBOARD.txt") + "\n"
    )
    assert ready.repo.git("status", "--porcelain") == ""
    assert not [p for p in ready.repo.path.parent.glob("*.worktrees/*") if "MP1" in p.name]
    again = ready.repo.gw("--trust-trunk", "merge", "MP1")
    assert again.code == 1
    assert "MP1 is landed already" in again.err
    assert ready.repo.oid("main^") == commit
    ready.sound()


def test_the_marked_section_alone_is_renewed(ready: Plan) -> None:
    outside = f"Above.\n{LEARNINGS_START}\n- old\n{LEARNINGS_END}\nBelow, no line end"
    ready.repo.commit("Rules", **{"CLAUDE.md": outside})
    advancing.note(ready.store, "A1", lambda t: replace(t, learnings=("New.",)))
    ready.merge()
    text = ready.repo.read("CLAUDE.md")
    assert text.startswith(f"Above.\n{LEARNINGS_START}\n- New. (A1")
    assert text.endswith(f"{LEARNINGS_END}\nBelow, no line end")
    assert "- old" not in text


def test_what_fails_on_the_merged_tree_does_not_land(plan: Plan) -> None:
    set_steps(plan, "echo looking && test ! -f a/a1.txt")
    plan.do("A1")
    plan.do("B1")
    before = plan.repo.oid("main")
    said = plan.repo.gw("--trust-trunk", "merge", "MP1")
    assert said.code == 1
    assert "step 1 of merge point MP1 failed on the merged result, exit 1" in said.err
    log = Path(said.err.split("the whole log is in ")[1].strip())
    assert "looking" in log.read_text()
    assert plan.repo.oid("main") == before
    assert plan.states()["MP1"] == "ready"
    plan.sound()


def test_steps_that_change_files_do_not_land(plan: Plan) -> None:
    set_steps(plan, "echo two >shared.txt")
    plan.do("A1")
    plan.do("B1")
    with pytest.raises(merging.VerificationFailed, match=r"changed files: shared\.txt"):
        plan.merge()
    assert plan.states()["MP1"] == "ready"


def test_untrusted_steps_do_not_run(ready: Plan) -> None:
    said = ready.repo.gw("merge", "MP1")
    assert said.code == 1
    assert "does not trust" in said.err
    assert runs_of(ready) == 0


def test_a_person_confirms_what_no_command_can(ready: Plan) -> None:
    path = ".workstreams/merge-points/MP1.yaml"
    head, mark, rest = ready.repo.read(path).partition("# --- tracking")
    ready.repo.write(path, f"{head}verify:\n  - manual: It looks right\n{mark}{rest}")
    ready.repo.commit("Somebody looks at MP1")
    said = ready.repo.gw("--trust-trunk", "merge", "MP1")
    assert said.code == 1  # nobody can be asked
    assert ready.states()["MP1"] == "ready"
    # on a terminal somebody can
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "gitwaves", "--trust-trunk", "merge", "MP1"]
    asked = subprocess.Popen(
        command, cwd=ready.repo.path, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    os.write(ours, b"y\n")
    out, err = asked.communicate(timeout=100)
    os.close(theirs)
    os.close(ours)
    assert asked.returncode == 0, err
    assert b"Confirm: It looks right" in err
    assert b"landed MP1" in out
    evidence = ready.tracking("MP1").evidence
    assert evidence is not None
    assert evidence.runs[0].run.startswith("manual: It looks right (confirmed by ")
    ready.sound()


# --- other people's work -----------------------------------------------------------------------


def test_staged_dirty_and_untracked_work_on_trunk_is_kept(ready: Plan) -> None:
    repo = ready.repo
    repo.commit("More files", **{"s.txt": "s\n", "d.txt": "d\n"})
    repo.write("s.txt", "staged\n")
    repo.git("add", "s.txt")
    repo.write("d.txt", "dirty\n")
    repo.write("u.txt", "untracked\n")
    ready.merge()
    assert repo.read("a/a1.txt") == "A1\n"
    assert repo.git("status", "--porcelain").splitlines() == [" M d.txt", "M  s.txt", "?? u.txt"]
    assert [repo.read(f) for f in ("s.txt", "d.txt", "u.txt")] == [
        "staged\n",
        "dirty\n",
        "untracked\n",
    ]
    ready.sound()


@pytest.mark.parametrize("path", ["a/a1.txt", ".workstreams/WS-A/A1.yaml"])
def test_a_local_change_in_the_way_is_refused(ready: Plan, path: str) -> None:
    repo = ready.repo
    before = repo.oid("main")
    old = repo.read(path) if (repo.path / path).exists() else None
    repo.write(path, "mine\n")
    status = repo.git("status", "--porcelain")
    said = repo.gw("--trust-trunk", "merge", "MP1")
    assert said.code == 1
    assert "in the way" in said.err
    assert path in said.err
    assert repo.oid("main") == before
    assert repo.read(path) == "mine\n"
    assert repo.git("status", "--porcelain") == status
    if old is None:
        (repo.path / path).unlink()
    else:
        repo.write(path, old)
    repo.gw_ok("--trust-trunk", "merge", "MP1")
    assert ready.states()["MP1"] == DONE
    ready.sound()


def test_a_changed_claude_md_does_not_stop_the_landing(ready: Plan) -> None:
    advancing.note(ready.store, "A1", lambda t: replace(t, learnings=("Cents.",)))
    ready.repo.write("CLAUDE.md", "# My draft\n")
    before = ready.repo.oid("main")
    said = ready.repo.gw_ok("--trust-trunk", "merge", "MP1")
    assert "landed MP1" in said.out
    assert "CLAUDE.md" in said.err
    assert ready.trunk_line(before) == LANDING[:1]
    assert ready.repo.read("CLAUDE.md") == "# My draft\n"
    ready.sound()


def test_a_trunk_in_the_middle_of_a_merge_is_left_alone(ready: Plan) -> None:
    repo = ready.repo
    repo.git("branch", "side")
    repo.commit("Here", **{"shared.txt": "two\n"})
    repo.git("switch", "-q", "side")
    repo.commit("There", **{"shared.txt": "three\n"})
    repo.git("switch", "-q", "main")
    repo.git("merge", "-q", "side", check=False)
    with pytest.raises(NotReady, match="in the middle of a merge"):
        ready.merge()
    repo.git("merge", "--abort")
    ready.merge()
    ready.sound()


def test_trunk_that_is_not_checked_out(ready: Plan) -> None:
    ready.repo.git("switch", "-q", "-c", "elsewhere")
    ready.repo.write("a/a1.txt", "mine\n")
    before = ready.repo.oid("main")
    ready.merge()
    assert ready.trunk_line(before) == LANDING
    assert ready.repo.git("status", "--porcelain") == "?? a/"
    assert ready.repo.git("show", "main:a/a1.txt") == "A1"
    ready.sound()


def test_a_bare_repository(tmp_path: Path) -> None:
    source = planned(tmp_path / "source")
    bare = Repo.clone(source.repo, tmp_path / "hub.git", "--bare")
    plan = Plan(bare)
    worktree = plan.do("A1")
    assert worktree.path == tmp_path / "hub.worktrees" / "ws-A"
    plan.do("B1")
    before = bare.oid("main")
    # from one of its worktrees, as a person would
    worktree.gw_ok("--trust-trunk", "merge", "MP1")
    assert plan.trunk_line(before) == LANDING
    assert plan.states()["MP1"] == DONE
    plan.sound()


# --- trunk that moves --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "runs"), [("later.txt", 2), (".workstreams/WS-C/notes.md", 1)], ids=["code", "no code"]
)
def test_trunk_moves_while_it_is_verified(plan: Plan, tmp_path: Path, path: str, runs: int) -> None:
    set_steps(plan, move_trunk(tmp_path, plan.repo, path, "later"))
    plan.do("A1")
    plan.do("B1")
    plan.repo.git("switch", "-q", "--detach")
    before = plan.repo.oid("main")
    commit = plan.merge()
    assert plan.trunk_line(before) == ["Meanwhile", *LANDING]
    assert plan.repo.git("show", f"{commit}:{path}") == "later"
    assert plan.repo.git("show", f"{commit}:b/b1.txt") == "B1"
    assert runs_of(plan) == runs
    evidence = plan.tracking("MP1").evidence
    assert evidence is not None
    assert plan.store.repo.code_tree(Oid(commit)) == evidence.tree
    assert plan.states()["MP1"] == DONE
    plan.sound()


def test_two_at_once_land_once(plan: Plan, tmp_path: Path) -> None:
    set_steps(plan, "sleep 1", "test -f a/a1.txt")
    plan.do("A1")
    plan.do("B1")
    before = plan.repo.oid("main")
    command = [sys.executable, "-m", "gitwaves", "--trust-trunk", "merge", "MP1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, cwd=plan.repo.path, text=True, **pipes) for _ in range(2)]  # type: ignore[call-overload]  # typeshed cannot match keywords from a dict
    ends = [(p.communicate(timeout=100), p.returncode) for p in both]
    assert sorted(code for _, code in ends) == [0, 1], ends
    assert any("MP1 is landed already" in err for (_, err), _ in ends), ends
    assert plan.trunk_line(before) == LANDING
    assert runs_of(plan) == 1
    plan.sound()


def test_trunk_that_moved_on_the_remote_is_merged_in(tmp_path: Path) -> None:
    source = planned(tmp_path / "source", remote="origin")
    hub = Repo.clone(source.repo, tmp_path / "hub.git", "--bare")
    plan = Plan(Repo.clone(hub, tmp_path / "repo"))
    other = Repo.clone(hub, tmp_path / "other")
    plan.do("A1")
    plan.do("B1")
    before = plan.repo.oid("main")
    other.commit("Elsewhere", **{"README.md": "Hello\n"})
    other.git("push", "-q", "origin", "main")
    plan.merge()
    assert plan.trunk_line(before) == ["Elsewhere", *LANDING]
    assert plan.repo.read("README.md") == "Hello\n"
    assert hub.oid("main") == plan.repo.oid("main")
    assert plan.states()["MP1"] == DONE
    plan.sound()


# --- conflicts ---------------------------------------------------------------------------------


@pytest.fixture
def clashing(plan: Plan) -> Plan:
    """A1 and B1 both changed shared.txt."""
    plan.do("A1", **{"a/a1.txt": "A1\n", "shared.txt": "from A\n"})
    plan.do("B1", **{"b/b1.txt": "B1\n", "shared.txt": "from B\n"})
    return plan


def left_in(plan: Plan, *, resume: bool = False) -> Repo:
    """Has the merge fail in a conflict; the checkout that is left for a person."""
    with pytest.raises(Conflict, match="does not merge") as caught:
        plan.merge(resume=resume)
    return where_of(caught.value)


def where_of(conflict: Conflict) -> Repo:
    """The checkout that a conflict was left in."""
    assert conflict.hint is not None
    return Repo(Path(conflict.hint.split("resolve the files in ")[1].split(", `git add`")[0]))


def test_a_conflict_names_files_tasks_and_commits(clashing: Plan) -> None:
    before = clashing.repo.oid("main")
    said = clashing.repo.gw("--trust-trunk", "merge", "MP1")
    assert said.code == 1
    lines = [line.strip() for line in said.err.splitlines()]
    a, b = (
        clashing.repo.git("log", "-1", "--format=%h", f"--grep=^Do {t}$", f"ws/{t[0]}")
        for t in ("A1", "B1")
    )
    assert lines[:4] == [
        "Error: B1 does not merge: shared.txt",
        "shared.txt",
        f"A1: {a} Do A1",
        f"B1: {b} Do B1",
    ]
    assert "gitwaves merge MP1 --continue" in said.err
    assert clashing.repo.oid("main") == before
    assert clashing.states()["MP1"] == "ready"
    second = clashing.repo.gw("--trust-trunk", "merge", "MP1")
    assert second.code == 1
    assert "from an earlier try" in second.err
    early = clashing.repo.gw("--trust-trunk", "merge", "MP1", "--continue")
    assert early.code == 1
    assert "still in conflict: shared.txt" in early.err


@pytest.mark.parametrize("committed", [False, True])
def test_a_resolved_conflict_lands(clashing: Plan, committed: bool) -> None:
    before = clashing.repo.oid("main")
    checkout = left_in(clashing)
    assert checkout.git("ls-files", "-u").splitlines()[0].endswith("shared.txt")
    assert checkout.git("status", "--porcelain").splitlines().count("UU shared.txt") == 1
    checkout.write("shared.txt", "from both\n")
    checkout.git("add", "shared.txt")
    if committed:
        checkout.git("commit", "-q", "-m", "Both")
    clashing.merge(resume=True)
    assert clashing.trunk_line(before) == LANDING
    assert clashing.repo.read("shared.txt") == "from both\n"
    assert clashing.repo.read("a/a1.txt") + clashing.repo.read("b/b1.txt") == "A1\nB1\n"
    states = clashing.states()
    assert [states[n] for n in ("A1", "B1", "MP1")] == [DONE, DONE, DONE]
    assert not checkout.path.exists()
    with pytest.raises(NotReady, match="no merge of MP1 is waiting"):
        clashing.merge(resume=True)
    clashing.sound()


def test_a_second_conflict_waits_in_its_turn(clashing: Plan) -> None:
    clashing.repo.commit("Trunk too", **{"shared.txt": "from trunk\n"})
    before = clashing.repo.oid("main")
    checkout = left_in(clashing)
    checkout.write("shared.txt", "from trunk and A\n")
    checkout.git("add", "shared.txt")
    first, checkout = checkout, left_in(clashing, resume=True)
    assert not first.path.exists()
    assert "from trunk and A" in checkout.read("shared.txt")
    checkout.write("shared.txt", "from all\n")
    checkout.git("add", "shared.txt")
    clashing.merge(resume=True)
    assert clashing.trunk_line(before) == LANDING
    assert clashing.repo.read("shared.txt") == "from all\n"
    assert not checkout.path.exists()
    clashing.sound()


def test_a_resolution_survives_a_trunk_that_goes_on(clashing: Plan) -> None:
    checkout = left_in(clashing)
    clashing.repo.commit("Trunk goes on", **{"README.md": "Hello\n"})
    checkout.write("shared.txt", "from both\n")
    checkout.git("add", "shared.txt")
    before = clashing.repo.oid("main")
    clashing.merge(resume=True)
    assert clashing.trunk_line(before) == LANDING
    assert clashing.repo.read("README.md") == "Hello\n"
    assert clashing.repo.read("shared.txt") == "from both\n"
    clashing.sound()


def test_a_resolution_that_fails_can_be_mended(clashing: Plan) -> None:
    set_steps(clashing, "grep -q both shared.txt")
    checkout = left_in(clashing)
    checkout.write("shared.txt", "wrong\n")
    checkout.git("add", "shared.txt")
    with pytest.raises(merging.VerificationFailed):
        clashing.merge(resume=True)
    checkout.write("shared.txt", "from both\n")
    checkout.git("add", "shared.txt")
    clashing.merge(resume=True)
    assert clashing.repo.read("shared.txt") == "from both\n"
    clashing.sound()


def test_a_checkout_that_was_thrown_away(clashing: Plan) -> None:
    checkout = left_in(clashing)
    clashing.repo.git("worktree", "remove", "--force", str(checkout.path))
    with pytest.raises(NotReady, match="is gone"):
        clashing.merge(resume=True)
    assert left_in(clashing).path == checkout.path


def test_cards_never_conflict(ready: Plan) -> None:
    # trunk rewrites the spec half of both cards and the branches their tracking
    for task in ("A1", "B1"):
        path = f".workstreams/WS-{task[0]}/{task}.yaml"
        text = ready.repo.read(path).replace(f"Task {task}", f"A better title of {task}")
        ready.repo.write(path, text.replace("status: planned\n", "status: planned # untouched\n"))
    ready.repo.commit("Better titles")
    ready.merge()
    for task in ("A1", "B1"):
        text = ready.repo.read(f".workstreams/WS-{task[0]}/{task}.yaml")
        assert f"A better title of {task}" in text
        assert "<<<<" not in text
        assert ready.tracking(task).status is Status.DONE
    ready.sound()


# --- reverts -----------------------------------------------------------------------------------


@pytest.fixture
def reverted(ready: Plan) -> Plan:
    """MP1 was landed and its landing reverted."""
    landing = ready.merge()
    ready.repo.git("revert", "--no-edit", "-m", "1", landing)
    return ready


def test_a_revert_takes_back_code_and_state(reverted: Plan) -> None:
    states = reverted.states()
    assert states["MP1"] == "reverted"
    assert [states[t] for t in ("A1", "B1", "C1")] == ["runnable", "runnable", "blocked"]
    assert not (reverted.repo.path / "a/a1.txt").exists()
    said = reverted.repo.gw("--trust-trunk", "merge", "MP1")
    assert said.code == 1
    assert "and reverted" in said.err
    assert "gitwaves merge MP1 --again" in said.err


def test_a_reverted_merge_point_lands_again(reverted: Plan) -> None:
    reverted.repo.commit("Trunk goes on", **{"README.md": "Hello\n"})
    before = reverted.repo.oid("main")
    inputs = reverted.tracking("MP1", f"{reverted.fact('MP1').commit}").evidence
    reverted.repo.gw_ok("--trust-trunk", "merge", "MP1", "--again")
    assert reverted.trunk_line(before) == LANDING[:1]  # the dashboard says the same as before
    assert reverted.repo.read("a/a1.txt") + reverted.repo.read("b/b1.txt") == "A1\nB1\n"
    assert reverted.repo.read("README.md") == "Hello\n"
    states = reverted.states()
    assert [states[n] for n in ("A1", "B1", "MP1", "C1")] == [DONE, DONE, DONE, "runnable"]
    evidence = reverted.tracking("MP1").evidence
    assert evidence is not None
    assert inputs is not None
    assert evidence.inputs == inputs.inputs
    assert reverted.fact("A1").verdict is Verdict.HOLDS
    with pytest.raises(NotReady, match="landed already"):
        reverted.merge(again=True)
    # and its branch goes on without a conflict
    reverted.do("A2")
    reverted.do("C1")
    landed, failed = remaining.rest(reverted.store, trust_trunk=True)
    assert not failed
    assert [t for one in landed for t in one.tasks] == ["A2", "C1"]
    # a second time around
    second = reverted.fact("MP1").commit
    reverted.repo.git("revert", "--no-edit", "-m", "1", f"{second}")
    assert reverted.states()["MP1"] == "reverted"
    reverted.merge(again=True)
    assert reverted.repo.read("a/a1.txt") == "A1\n"
    assert reverted.states()["MP1"] == DONE
    reverted.sound()


def test_reverted_tasks_done_anew_land_with_again(reverted: Plan) -> None:
    reverted.do("A1", **{"a/a1.txt": "A1, better\n"})
    reverted.do("B1", **{"b/b1.txt": "B1, better\n"})
    before = reverted.repo.oid("main")
    reverted.merge(again=True)
    assert reverted.trunk_line(before) == LANDING[:1]
    assert reverted.repo.read("a/a1.txt") == "A1, better\n"
    states = reverted.states()
    assert [states[n] for n in ("A1", "B1", "MP1")] == [DONE, DONE, DONE]
    reverted.sound()


def test_again_is_for_reverted_ones_only(ready: Plan) -> None:
    with pytest.raises(NotReady, match="was not reverted"):
        ready.merge(again=True)


# --- squashes ----------------------------------------------------------------------------------


def test_a_squash_by_a_forge_is_a_landing(ready: Plan) -> None:
    ready.repo.git("branch", "keep", "ws/A")
    squash(ready.repo, "ws/A", "Everything of A (#1)")
    fact = ready.fact("A1")
    assert ready.states()["A1"] == DONE
    assert fact.landed
    assert fact.verdict is Verdict.HOLDS
    worktree = ready.start("A2")
    assert worktree.read("a/a1.txt") == "A1\n"
    # the next task changes what the squash brought: a conflict, were it not for the join
    ready.finish(worktree, "A2", **{"a/a1.txt": "A1 and A2\n", "a/a2.txt": "A2\n"})
    ready.repo.commit("Trunk goes on", **{"README.md": "Hello\n"})
    ready.merge()
    assert ready.states()["MP1"] == DONE
    landed, failed = remaining.rest(ready.store, trust_trunk=True)
    assert not failed
    assert [one.tasks for one in landed] == [("A2",)]
    assert ready.repo.read("a/a1.txt") == "A1 and A2\n"
    ready.sound()


def test_a_branch_may_go_once_it_is_squashed(ready: Plan) -> None:
    """As a forge deletes it: its commits stay for a while, and nobody names them any more."""
    squash(ready.repo, "ws/A", "Everything of A (#1)")
    folder = f"../{ready.repo.path.name}.worktrees/ws-A"
    ready.repo.git("worktree", "remove", "--force", folder)
    ready.repo.git("branch", "-D", "ws/A")
    assert ready.states()["A1"] == DONE
    worktree = ready.start("A2")  # began with: the done commit of A1 is not in this repository
    assert worktree.read("a/a1.txt") == "A1\n"
    ready.merge()
    assert ready.states()["MP1"] == DONE
    ready.sound()


def test_after_a_squash_without_the_branch_it_is_unchecked(ready: Plan, tmp_path: Path) -> None:
    squash(ready.repo, "ws/A", "Everything of A (#1)")
    other = Plan(Repo.clone(ready.repo, tmp_path / "other", "--single-branch", "--no-local"))
    assert other.fact("A1").verdict is Verdict.UNCHECKED
    assert other.states()["A1"] == DONE


def test_all_clones_make_the_same_join(ready: Plan, tmp_path: Path) -> None:
    squash(ready.repo, "ws/B", "Everything of B (#2)")
    squash(ready.repo, "ws/A", "Everything of A (#1)")
    other = Repo.clone(ready.repo, tmp_path / "other")
    other.git("config", "user.name", "Bob Tester")
    for name in ("ws/A", "ws/B"):
        other.git("branch", name, f"origin/{name}")
    stores = [ready.store, Store(git.Repo.open(other.path))]
    joins = [joined(store, store.snapshot()) for store in stores]
    assert joins[0] == joins[1]
    commit = stores[0].repo.require_commit(joins[0])
    trunk = ready.repo.oid("main")
    assert commit.tree == ready.repo.git("rev-parse", f"{trunk}^{{tree}}")
    assert commit.parents[0] == trunk
    assert len(commit.parents) == 3
    ready.merge()  # nothing is left to bring, but the evidence
    assert ready.states()["MP1"] == DONE
    assert ready.states()["C1"] == "runnable"
    ready.sound()


# --- what may not land -------------------------------------------------------------------------


def test_a_done_commit_that_holds_other_work_is_refused(plan: Plan) -> None:
    plan.do("B1")
    worktree = plan.start("A1")
    store = plan.store
    snapshot = store.snapshot()
    tip = store.repo.branch(snapshot.cards.branch_of(snapshot.require_task("A1")))
    assert tip is not None
    other = Tracking("A2", Status.ACTIVE, clone=store.repo.clone_id())
    sneaked = state_commit(store, snapshot.cards, tip, "A2", other, trunk=snapshot.trunk_tip)
    store.repo.git("cat-file", "-e", sneaked)  # what was made is written before
    worktree.git("merge", "-q", "--ff-only", sneaked)
    plan.finish(worktree, "A1")
    with pytest.raises(Refused, match="the done commit of A1 holds A2, which was active there"):
        plan.merge()
    assert plan.fact("MP1").commit is None


def test_a_merge_of_later_work_is_not_taken_for_the_done_commit(plan: Plan) -> None:
    worktree = plan.do("A1")
    plan.do("B1")
    done = worktree.oid()
    plan.start("A2")
    claimed = worktree.oid()
    # as `git pull` merges in a checkout that was left at the verified commit
    worktree.git("reset", "-q", "--hard", f"{done}^")
    worktree.git("merge", "-q", "--no-ff", "--no-edit", claimed)
    plan.merge()
    assert plan.states()["A1"] == DONE
    assert plan.repo.git("merge-base", "--is-ancestor", done, "main", check=False) == ""
    evidence = plan.tracking("MP1").evidence
    assert evidence is not None
    assert done in evidence.inputs


def test_what_landed_is_held_where_clocks_differ(plan: Plan) -> None:
    repo = plan.store.repo
    tree = repo.require_commit(plan.snapshot.trunk_tip).tree

    def commit(when: int, *parents: Oid) -> Oid:
        who = f"T <t@example.com> {when} +0000"
        return repo.commit_tree(tree, parents, f"{when}\n", author=who, committer=who)

    root = commit(1_750_000_000)
    side = commit(1_750_001_000, root)
    trunk = side
    for n in range(10):  # on a machine whose clock was behind
        trunk = commit(1_740_000_000 - n, trunk)
    assert repo.is_ancestor(side, trunk)
    assert Row(repo, trunk, [side]).holds(side)
    assert not Row(repo, root, [side]).holds(side)


def test_paths_outside_the_boundary_are_refused(ready: Plan) -> None:
    # without its own hooks and checks: the boundary was narrowed after the work was done
    path = ".workstreams/WS-A/workstream.yaml"
    ready.repo.write(path, ready.repo.read(path).replace("[a/**]", "[elsewhere/**]"))
    ready.repo.commit("Narrow A")
    with pytest.raises((Refused, NotReady)):
        ready.merge()
    assert ready.fact("MP1").commit is None


# --- the rest ----------------------------------------------------------------------------------


def test_rest_lands_what_no_merge_point_takes(ready: Plan) -> None:
    ready.do("A2")
    early = ready.repo.gw("--trust-trunk", "merge", "--rest")
    assert early.code == 1
    assert "A2 is built on A1, which waits for a merge point" in early.err
    ready.merge()
    ready.do("C1")
    before = ready.repo.oid("main")
    said = ready.repo.gw_ok("--trust-trunk", "merge", "--rest")
    assert "landed A2 from ws/A as " in said.out
    assert "landed C1 from ws/C as " in said.out
    assert ready.trunk_line(before) == [
        "gitwaves: land A2", "gitwaves: land C1", "gitwaves: dashboard and learnings",
    ]  # fmt: skip
    assert set(ready.states().values()) == {DONE, "runnable"}  # B2 is left
    tip = ready.repo.oid("main")
    assert "nothing is left to land" in ready.repo.gw_ok("--trust-trunk", "merge", "--rest").out
    assert ready.repo.oid("main") == tip
    ready.sound()


def test_rest_says_what_it_left_undone(ready: Plan) -> None:
    ready.merge()
    ready.do("C1")
    advancing.note(ready.store, "C1", lambda t: replace(t, learnings=("Cents.",)))
    ready.repo.write("CLAUDE.md", "# My draft\n")
    said = ready.repo.gw_ok("--trust-trunk", "merge", "--rest")
    assert "landed C1" in said.out
    assert "the dashboard on trunk is not renewed: " in said.err
    assert "CLAUDE.md" in said.err


def test_a_branch_that_fails_stops_no_other(ready: Plan) -> None:
    ready.merge()
    ready.do("A2", **{"a/a2.txt": "A2\n", "shared.txt": "from A\n"})
    ready.do("C1")
    ready.repo.commit("Trunk goes on", **{"shared.txt": "from trunk\n"})
    said = ready.repo.gw("--trust-trunk", "merge", "--rest")
    assert said.code == 1
    assert "landed C1 from ws/C as " in said.out
    assert "A2 does not merge: shared.txt" in said.err
    assert ready.fact("C1").landed
    assert not ready.fact("A2").landed
    ready.sound()


def test_what_a_person_left_beside_a_resolution_is_kept(clashing: Plan) -> None:
    checkout = left_in(clashing)
    checkout.write("shared.txt", "from both\n")
    checkout.git("add", "shared.txt")
    checkout.write("shared.txt", "second thoughts\n")
    checkout.write("notes.txt", "mine\n")
    landed = merging.merge(clashing.store, "MP1", resume=True, trust_trunk=True)
    assert landed.note is not None
    assert landed.note.endswith("holds shared.txt, notes.txt, which did not land")
    assert clashing.repo.read("shared.txt") == "from both\n"
    assert checkout.read("shared.txt") + checkout.read("notes.txt") == "second thoughts\nmine\n"


def test_what_start_cannot_merge_says_how_to_go_on(ready: Plan) -> None:
    """The hint is followed to the letter."""
    ready.repo.commit("Trunk has its own", **{"a/a1.txt": "trunk\n"})
    done = ready.repo.gw("--trust-trunk", "start", "A2")
    assert done.err == (
        "Error: main does not merge: a/a1.txt\n"
        "Hint: on ws/A, run `git merge main`, resolve the files and commit them, "
        "then run the same command again\n"
    )
    worktree = ready.repo.at("../repo.worktrees/ws-A")
    worktree.git("merge", "-q", "main", check=False)
    worktree.commit("Both", **{"a/a1.txt": "both\n"})
    ready.repo.gw_ok("--trust-trunk", "start", "A2")
    assert worktree.read("a/a1.txt") == "both\n"
