"""At the server's door: real bare repositories, real pushes, and what is ruled in at a glance."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwaves import advancing, plaintext, receiving, verifying
from gitwaves.cards import load_cards, load_tracking, tracking_bytes
from gitwaves.design_doc import parse
from gitwaves.git import Repo as Git
from gitwaves.importing import reimport
from gitwaves.model import Claim, Evidence, Run, Status, Tracking
from gitwaves.plaintext import Odd
from gitwaves.record import replace
from tests import histories
from tests.landing import Plan, planned
from tests.repo import Repo
from tests.test_guards import A1, A2, B1, DEEDS, NO_HOOKS, edit, record, slip, worktree

LEAN = "import sys; sys.path.insert(0, sys.argv[1]); from gitwaves.passing import main; main()"
HERE = Path(receiving.__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Server:
    """A bare repository with the hook, and the checkout that is pushed from."""

    bare: Repo
    plan: Plan

    @classmethod
    def beside(cls, plan: Plan) -> Server:
        bare = Repo.clone(plan.repo, plan.repo.path.parent / "server.git", "--bare")
        plan.repo.git("remote", "add", "origin", str(bare.path))
        bare.gw_ok("hooks", "install", "--server")
        return cls(bare, plan)

    def push(self, *refs: str, cwd: Repo | None = None) -> str:
        """Pushes; what the server said against it, or nothing."""
        args = ("-c", 'alias.said=!f() { git "$@" 2>&1; }; f', "said", "push", "-q", "origin")
        said = (cwd or self.plan.repo).git(*args, *refs, check=False)
        lines = [line.strip() for line in said.splitlines()]
        theirs = (li.removeprefix("remote:").strip() for li in lines if li.startswith("remote:"))
        return "\n".join(theirs)

    def refs(self) -> str:
        return self.bare.git("for-each-ref")


def bytes_of(repo: Repo) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in repo.path.rglob("*") if p.is_file()}


def judged(bare: Path, source: Path, moves: dict[str, tuple[str, str]]) -> tuple[bool, list[str]]:
    """What the glance and the close look make of a push, with its objects there and no branch moved."""
    server = Repo(bare)
    wanted = [
        f"{new}:refs/offered/{n}" for n, (_, new) in enumerate(moves.values()) if new.strip("0")
    ]
    if wanted:
        server.git("fetch", "-q", "--no-write-fetch-head", str(source), *[f"+{w}" for w in wanted])
    given = "".join(f"{old} {new} refs/heads/{name}\n" for name, (old, new) in moves.items())
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LEAN, str(HERE)],
        cwd=bare,
        input=given.encode(),
        check=False,
    )
    found = receiving.received(Git.open(bare), receiving.updates_in(given))
    said = [str(breach) for _, breaches in found for breach in breaches]
    assert done.returncode != 0 or not said, f"ruled in at a glance: {said}"
    return done.returncode == 0, said


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A1 is at work and B1 done, both pushed."""
    plan = planned(tmp_path / "repo", shared_paths="[shared.txt]")
    server = Server.beside(plan)
    plan.do("B1")
    plan.start("A1")
    assert server.push("ws/A", "ws/B") == ""
    return server


# --- installing --------------------------------------------------------------------------------


def test_install_beside_a_hook_and_leave_no_trace(tmp_path: Path) -> None:
    bare = Repo(tmp_path / "server.git")
    bare.path.mkdir()
    bare.git("init", "-q", "--bare", "-b", "main")
    theirs = bare.write("hooks/pre-receive", "#!/bin/sh\ncat >>seen\n[ ! -e no ]\n")
    theirs.chmod(0o755)
    before = bytes_of(bare)
    assert bare.gw_ok("hooks", "install", "--server").out == (
        "pre-receive: installed, and runs the hook that was there (pre-receive.gitwaves-orig) first\n"
    )
    assert bare.gw_ok("hooks", "install", "--server").out == "the hooks are installed already\n"
    clone = Repo.init(tmp_path / "clone")
    clone.commit("Start", **{"README.md": "x\n"})
    clone.git("push", "-q", str(bare.path), "main")
    assert bare.read("seen") == f"{'0' * 40} {clone.oid()} refs/heads/main\n"
    bare.write("no", "")
    clone.commit("More")
    clone.git("push", "-q", str(bare.path), "main", check=False)
    assert bare.oid("main") == clone.oid("HEAD~1")
    bare.gw_ok("hooks", "uninstall", "--server")
    after = {p: data for p, data in bytes_of(bare).items() if p in before or "gitwaves" in p}
    assert after == before
    refused = clone.gw("hooks", "install", "--server")
    assert refused.code == 1
    assert refused.err == (
        f"Error: {clone.path} is no bare repository: nobody pushes to it\n"
        "Hint: run this in the repository on the server that everyone pushes to\n"
    )


def test_a_server_without_gitwaves_takes_nothing_unseen(server: Server) -> None:
    hook = server.bare.path / "hooks/pre-receive"
    text = hook.read_text().replace(f"python={sys.executable}", "python=/nowhere/python")
    hook.write_text(text)
    server.plan.repo.git("tag", "v1")
    assert server.push("v1") == ""
    server.plan.repo.commit("More")
    assert server.push("main") == (
        "Error: gitwaves is gone from this server, so nothing can be taken unseen\n"
        "Hint: whoever keeps it runs `gitwaves hooks install --server` again"
    )


# --- what is refused ---------------------------------------------------------------------------


def test_the_door_refuses_what_check_refuses(server: Server) -> None:
    tree, claim = worktree(server.plan, "A"), server.plan.repo.oid("ws/A")
    stands = server.refs()
    for name, (deed, path, why) in DEEDS.items():
        tree.write("a/a1.txt", "A1\n")
        deed(tree)
        bad = slip(tree)
        fine, said = judged(server.bare.path, tree.path, {"ws/A": (claim, bad)})
        (sentence,) = said
        assert not fine, name
        assert sentence.startswith(path), name
        assert sentence.endswith(f"{why} (commit {bad[:10]})"), name
        tree.git("reset", "-q", "--hard", claim)
    tree.write("b/x.txt", "x\n")
    first = slip(tree)
    tree.git("rm", "-q", "b/x.txt")
    second = slip(tree)
    for ref in server.bare.git("for-each-ref", "--format=%(refname)", "refs/offered").split():
        server.bare.git("update-ref", "-d", ref)
    before = bytes_of(server.bare)
    why = "b/x.txt belongs to WS-B, outside the boundary of WS-A"
    hint = (
        "Hint: take it out of the commit; WS-B changes it, or a review on main widens the boundary"
    )
    assert server.push("ws/A", cwd=tree) == (
        f"Error: this push is refused:\nws/A: {why} (commit {first[:10]})\n"
        f"ws/A: {why} (commit {second[:10]})\n{hint}"
    )
    assert server.refs() == stands
    assert bytes_of(server.bare) == before  # it writes nothing
    # the environment of whoever pushes changes nothing
    tree.git("push", "-q", "origin", "ws/A", env={"GITWAVES_HOOK": "1"}, check=False)
    assert server.refs() == stands


def test_no_way_around(server: Server) -> None:
    """Commits that are on the server under another name are still judged as the worktree's own."""
    tree, claim = worktree(server.plan, "A"), server.plan.repo.oid("ws/A")
    tree.write("b/x.txt", "x\n")
    slip(tree)
    assert server.push("HEAD:refs/heads/topic", cwd=tree) == ""  # nobody's worktree: no boundary
    assert "belongs to WS-B" in server.push("ws/A", cwd=tree)
    # another worktree's branch at the tip of this one
    tree.git("reset", "-q", "--hard", claim)
    good = tree.commit("Mine", **{"a/a1.txt": "A1\n"})
    assert server.push("ws/A", cwd=tree) == ""
    moves = {"ws/C": ("0" * 40, good)}
    fine, said = judged(server.bare.path, tree.path, moves)
    assert not fine
    assert said[0] == (
        f"{A1} is not this worktree's to change: cards are reviewed on main (commit {claim[:10]})"
    )


def test_unverified_work_of_another_does_not_come_in(server: Server) -> None:
    plan = server.plan
    other = worktree(plan, "B")
    other.commit("After it was done", **{"b/more.txt": "x\n"})
    assert server.push("ws/B") == ""
    tree = worktree(plan, "A")
    old = tree.oid()
    tree.git(*NO_HOOKS, "merge", "-q", "--no-edit", "ws/B")
    fine, said = judged(server.bare.path, tree.path, {"ws/A": (old, tree.oid())})
    assert not fine
    assert "was merged from ws/B unverified" in said[0]
    plan.repo.git("merge", "-q", "--no-ff", "--no-edit", "ws/B")
    fine, said = judged(
        server.bare.path, tree.path, {"main": (server.bare.oid("main"), plan.repo.oid())}
    )
    assert not fine
    assert "was merged from ws/B unverified" in said[0]


def test_done_work_is_not_dropped(server: Server) -> None:
    plan, tree = server.plan, worktree(server.plan, "B")
    done = tree.oid()
    tree.git("reset", "-q", "--hard", "HEAD~1")
    tree.commit("Otherwise", **{"b/b1.txt": "other\n"})
    what = f"{B1}: this would drop the done commit of B1 from ws/B"
    assert server.push("+ws/B").splitlines()[1] == f"ws/B: {what}"
    assert server.push(":ws/B").splitlines()[1] == f"ws/B: {what}"
    tree.git("reset", "-q", "--hard", done)
    tree.commit("More", **{"b/more.txt": "x\n"})
    assert server.push("ws/B") == ""
    tree.git("reset", "-q", "--hard", done)
    assert server.push("+ws/B") == ""  # what came after it may go
    plan.repo.git("merge", "-q", "--squash", "ws/B")
    plan.repo.commit("B1 (#1)")
    assert server.push("main") == ""
    assert server.push(":ws/B") == ""  # it stands on trunk
    plan.repo.git("reset", "-q", "--hard", "HEAD~1")
    assert f"main: {B1}: this would drop the done commit of B1 from main" in server.push("+main")


def test_a_claim_is_not_pushed_over_another(server: Server, tmp_path: Path) -> None:
    plan, tree = server.plan, worktree(server.plan, "A")
    claim = tree.oid()
    # rewritten with the claim that it has: one's own
    plan.repo.commit("Trunk goes on", **{"README.md": "x\n"})
    tree.git("rebase", "-q", "main")
    assert server.push("main", "+ws/A") == ""
    mine = tree.oid()
    # somebody who claimed it too, and was slower
    said = plan.tracking("A1", "ws/A")
    assert said.claim is not None
    other = replace(said, claim=Claim(said.claim.tree, said.claim.spec, "f" * 16), clone="f" * 16)
    theirs = record(plan, "A1", other, on=tree.oid("HEAD~1"))
    why = f"ws/A: {A1}: this would drop the claim of ada of A1 from ws/A"
    assert server.push("+ws/A").splitlines()[1] == why
    tree.git("merge", "-q", "-s", "ours", "--no-edit", mine)
    assert server.push("ws/A").splitlines()[1] == f"ws/A: {A1}: A1 is claimed by ada already"
    # a takeover stands on what it takes over
    tree.git("reset", "-q", "--hard", mine)
    record(plan, "A1", other)
    assert server.push("ws/A") == ""
    assert theirs != claim


def test_trunk_takes_no_typed_state(server: Server) -> None:
    repo = server.plan.repo
    edit(repo, A2, "status: planned", "status: done")
    repo.commit("I say so")
    assert f"main: {A2}: `status: done` without evidence" in server.push("main")
    repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.git("rm", "-q", A1)
    repo.commit("Away")
    assert "main: .workstreams/WS-A/A1.yaml was begun, and" in server.push("main")
    assert "topic: .workstreams/WS-A/A1.yaml was begun, and" in server.push("main:refs/heads/topic")


# --- what passes -------------------------------------------------------------------------------


def test_a_whole_life_through_the_door(tmp_path: Path) -> None:
    source = planned(tmp_path / "source", remote="origin")
    bare = Repo(tmp_path / "hub.git")
    bare.path.mkdir()
    bare.git("init", "-q", "--bare", "-b", "main")
    bare.gw_ok("hooks", "install", "--server")
    source.repo.git("push", "-q", str(bare.path), "--all")  # a first push is taken as it is
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (Plan(Repo.clone(bare, tmp_path / n / "repo")) for n in ("one", "two"))
    one.do("A1")
    two.do("B1")
    advancing.sync(one.store)
    worktree(one, "A").commit("Learned something\n\nLearned: cents")
    landing = one.merge()
    assert bare.oid("main") == one.repo.oid("main")
    two.repo.git("pull", "-q")
    two.do("B2")
    one.do("A2")
    assert bare.oid("ws/A") == one.repo.oid("ws/A")
    assert bare.oid("ws/B") == two.repo.oid("ws/B")
    one.repo.git("revert", "--no-edit", "-m", "1", landing)
    one.repo.git("push", "-q", "origin", "main")
    one.merge(again=True)
    advancing.note(one.store, "A2", lambda t: replace(t, learnings=("Cents.",)))
    assert bare.oid("main") == one.repo.oid("main")
    assert bare.oid("ws/A") == one.repo.oid("ws/A")
    assert one.states()["MP1"] == "done"


def test_another_history_is_nobodys_business(server: Server) -> None:
    repo = server.plan.repo
    repo.git("switch", "-q", "--orphan", "pages")
    repo.commit("Pages", **{"index.html": "x\n"})
    assert server.push("pages") == ""
    assert server.push(":pages") == ""


def test_the_usual_is_told_at_a_glance(tmp_path: Path) -> None:
    """What the benchmark measures is what passes by proof, not what is looked at closely."""
    plan = planned(tmp_path / "repo", shared_paths="[shared.txt]")
    edit(plan.repo, A1, "spec:", "paths: [a/a1.txt]\nspec:")
    plan.repo.commit("A1 keeps to one file")
    server = Repo.clone(plan.repo, tmp_path / "server.git", "--bare").path

    def offer(branch: str) -> None:
        new = plan.repo.oid(branch)
        old = Repo(server).git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
        assert judged(server, plan.repo.path, {branch: (old or "0" * 40, new)}) == (True, []), (
            branch
        )
        Repo(server).git("update-ref", f"refs/heads/{branch}", new)

    for task in ("A1", "B1"):
        tree = plan.start(task)
        offer(f"ws/{task[0]}")
        tree.commit("Aside", **{f"{task[0].lower()}/other.txt": "x\n"})
        if task == "A1":
            moves = {"ws/A": (tree.oid("HEAD~1"), tree.oid())}
            why = f"a/other.txt is outside the paths of A1 (commit {tree.oid()[:10]})"
            assert judged(server, plan.repo.path, moves) == (False, [why])
            tree.git("reset", "-q", "--hard", "HEAD~1")
        tree.commit("Work", **{f"{task[0].lower()}/{task.lower()}.txt": "x\n", "shared.txt": "x\n"})
        if task == "B1":
            tree.git("checkout", "-q", "HEAD~1", "--", "shared.txt")
            tree.commit("Not so")
        offer(f"ws/{task[0]}")
        verifying.verify(plan.store, task, trust_trunk=True)
        offer(f"ws/{task[0]}")
    plan.merge()
    offer("main")
    edit(plan.repo, A2, "Write a/a2.txt.", "Write it well.")
    plan.repo.commit("A better spec", **{"README.md": "x\n"})
    offer("main")
    plan.start("B2")  # takes A1, and trunk
    offer("ws/B")


# --- what is read at a glance ------------------------------------------------------------------

_texts = st.text(st.sampled_from("ab Z09.:#'\"\\-é\n~"), max_size=8) | st.sampled_from(
    ["null", "on", "1e3", "a b", " a", "a  b", "sha256:x", "-", "y"]
)
_oids = st.sampled_from(["1" * 40, "a" * 40, "0123456789" * 4])
_digests = st.just("sha256:" + "0a" * 32)
_times = st.none() | st.just("2026-11-24T20:48:00Z")
_runs = st.builds(
    Run, _texts, st.sampled_from([0, 0, 1]), st.sampled_from([0.25, 12.0, 1e-07, 3e20]), _texts
)
_evidence = st.builds(Evidence, _oids, _oids, _digests, st.lists(_runs, max_size=2).map(tuple))
_trackings = st.builds(
    Tracking,
    st.sampled_from(["A1", "no"]),
    st.sampled_from(Status),
    claim=st.none() | st.builds(Claim, _oids, _digests, _texts.filter(bool)),
    agent=st.none() | _texts,
    started=_times,
    attempts=st.integers(0, 3),
    evidence=st.none() | _evidence,
    learnings=st.lists(_texts, max_size=2).map(tuple),
)


@given(
    tracking=_trackings,
    where=st.integers(0, 400),
    what=st.sampled_from(["", " ", '"', "\n", "x", "0"]),
)
def test_tracking_at_a_glance_is_what_gitwaves_writes(
    tracking: Tracking, where: int, what: str
) -> None:
    text = tracking_bytes(tracking).decode()
    for data in (text, text[:where] + what + text[where:], text[:where] + text[where + 1 :]):
        try:
            seen = plaintext.tracking_of(data.encode())
        except Odd:
            continue
        read, findings = load_tracking(data.encode(), A1)
        assert read is not None, findings
        assert tracking_bytes(read) == data.encode()
        assert (seen.task, seen.status) == (read.task, read.status)
        assert seen.bare == (read == Tracking(read.task, read.status))
        assert (seen.evidence is None) == (read.evidence is None)
        if seen.evidence is not None and read.evidence is not None:
            kept = read.evidence
            assert (seen.evidence.commit, seen.evidence.tree) == (kept.commit, kept.tree)
            assert (seen.evidence.spec, seen.evidence.passed) == (kept.spec, bool(kept.runs))
            assert not any(run.exit for run in kept.runs)


def test_digests_of_cards_as_import_writes_them() -> None:
    doc = parse((HERE / "docs/design.md").read_text(encoding="utf-8"))
    cut = reimport(None, doc, {".workstreams/config.yaml": b"version: 1\n"}, set(), trunk="main")
    files = dict(cut.files)
    cards = load_cards(files)
    assert len(cards.tasks) > 20
    for task in cards.tasks.values():
        stream = cards.workstream_of(task.id)
        boundary, branch = plaintext.stream_of(files[stream.path], stream.id)
        assert (tuple(boundary), branch) == (stream.paths, stream.branch)
        assert plaintext.card_digest(files[task.path], boundary) == cards.digest(task.id)
    for point in cards.merge_points.values():
        found = plaintext.card_digest(files[point.path], [], lambda t: files[cards.tasks[t].path])  # type: ignore[index]  # ids are text
        assert found == cards.digest(point.id)


@pytest.mark.parametrize(
    "ids", [["B2", "A10", "A2"], ["P1.5-B1", "P1-B2", "P2-B1", "p1-b3"], ["X", "x1", "X1a"]]
)
def test_ids_in_the_order_of_people(ids: list[str]) -> None:
    from gitwaves.model import natural

    assert sorted(ids, key=plaintext._natural) == sorted(ids, key=natural)


# --- whatever is pushed, the glance lets nothing by ---------------------------------------------


def ending(plan: histories.Plan) -> list[histories.Deed]:
    """What chance seldom reaches: whatever went before, work lands, is reverted, and goes on."""
    work: list[histories.Deed] = [("do", number, 0, 1) for number in range(len(plan.tasks))]
    back: list[histories.Deed] = [(name, 0, 0, 1) for name in ("tidy", "merge", "rest", "revert")]
    return [*work, *back, ("do", 0, 1, 1), ("again", 0, 0, 1), ("revert", 0, 0, 1)]


def pushed_histories(seed: int, length: int, tmp_path: Path) -> tuple[int, int]:
    """Plays a random history, offering every branch after each step; pushes, and told at a glance."""
    chance = random.Random(seed)
    bits = tuple(chance.choice([0, 0, 1, 2, 4]) for _ in range(9))
    world = histories.World.make(
        tmp_path, histories.Plan((2, 2), bits, chance.randint(1, 7), True, False)
    )
    bare = Repo.clone(world.top, tmp_path / "server.git", "--bare")
    stands = {"main": bare.oid("main")}
    offered = glances = 0
    deeds = [
        (
            chance.choice(histories.NAMES),
            chance.randint(0, 8),
            chance.randint(0, 13),
            chance.randint(0, 4),
        )
        for _ in range(length)
    ]
    for deed in [*deeds, *ending(world.plan)]:
        histories.act(world, deed)
        for name, new in world.heads().items():
            old = stands.get(name, "0" * 40)
            if new == old or name.startswith("gitwaves/"):
                continue
            fine, _ = judged(bare.path, world.top, {name: (old, new)})
            offered += 1
            glances += fine
            bare.git("update-ref", f"refs/heads/{name}", new)  # whatever was said: play on
            stands[name] = new
    return offered, glances


def test_a_random_history_at_the_door(tmp_path: Path) -> None:
    offered, glances = pushed_histories(7, 3, tmp_path)
    assert glances > offered // 2 > 2


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12))
def test_random_histories_at_the_door(seed: int, tmp_path: Path) -> None:
    offered, glances = pushed_histories(seed, 25, tmp_path)
    assert offered > 5
    assert glances > offered // 4
