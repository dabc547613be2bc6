"""Signed evidence, with real keys, a real agent and trunk's file of keys."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitwaves import auditing, signing
from gitwaves.advancing import advance
from gitwaves.auditing import Outcome
from gitwaves.caches import Cache
from gitwaves.cards import load_tracking, tracking_bytes, with_tracking
from gitwaves.errors import GitwavesError
from gitwaves.git import Repo as GitRepo
from gitwaves.model import Config, Evidence, Oid, Run, Status, Tracking
from gitwaves.receipts import Receipt, save
from gitwaves.record import replace
from gitwaves.signing import Rule, Signatures, Signer, signed_text
from tests.landing import Plan, planned
from tests.repo import Repo

FILE = "keys/allowed"


@pytest.fixture
def keys(home: Path) -> Path:
    """A folder with two key pairs, `ada` and `bob`; Git signs with Ada's."""
    folder = home / "keys"
    folder.mkdir()
    for name in ("ada", "bob"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name]
        subprocess.run(argv, check=True)
    use(home, folder / "ada")
    return folder


def use(home: Path, key: Path | str, **more: str) -> None:
    """Has Git sign with a key."""
    settings = {"gpg.format": "ssh", "user.signingKey": str(key), **more}
    for name, value in settings.items():
        argv = ["git", "config", "--file", str(home / ".gitconfig"), name, value]
        subprocess.run(argv, check=True)


def line(keys: Path, name: str, options: str = "") -> str:
    kind, key, _ = (keys / f"{name}.pub").read_text().split(" ", 2)
    return " ".join(filter(None, [f"{name}@example.com", options, kind, key])) + "\n"


@pytest.fixture
def plan(tmp_path: Path, keys: Path) -> Plan:
    """The plan, in which only what Ada signs counts."""
    made = planned(tmp_path / "repo", allowed_signers=FILE)
    allow(made, line(keys, "ada"))
    return made


def allow(plan: Plan, *lines: str) -> None:
    plan.repo.write(FILE, "".join(lines))
    plan.repo.commit("Whose evidence counts")


def card(task: str) -> str:
    return f".workstreams/WS-{task[0]}/{task}.yaml"


def rewrite(plan: Plan, task: str, change: Callable[[Evidence], Evidence]) -> None:
    """Changes the evidence of a done task on its branch, in its done commit."""
    worktree = plan.repo.at(f"../repo.worktrees/ws-{task[0]}")
    path = worktree.path / card(task)
    said = plan.fact(task).tracking
    assert said.evidence is not None
    path.write_bytes(
        with_tracking(path.read_bytes(), replace(said, evidence=change(said.evidence)))
    )
    worktree.git("commit", "-q", "-a", "-n", "--amend", "--no-edit")


def doubt(plan: Plan, task: str) -> str:
    """Why a task is unproven; it must be, and open nothing."""
    states = plan.states()
    assert states[task] == "unproven", states
    assert states["MP1"] == "blocked"
    return plan.fact(task).reason


# --- what counts -------------------------------------------------------------------------------


def test_what_is_signed_counts_from_branch_to_trunk(plan: Plan) -> None:
    plan.do("A1")
    plan.do("B1")
    fact = plan.fact("A1")
    assert (plan.states()["A1"], fact.signer) == ("done", "ada@example.com")
    assert fact.tracking.evidence is not None
    assert fact.tracking.evidence.signature is not None
    plan.merge()
    assert plan.states()["MP1"] == "done"
    assert plan.fact("MP1").signer == "ada@example.com"
    done = plan.repo.gw_ok("audit", "--json")
    assert {e["signer"] for e in json.loads(done.out)["evidence"]} == {"ada@example.com"}
    assert "signed by ada@example.com" in plan.repo.gw_ok("audit").out
    assert "  signed  by ada@example.com\n" in plan.repo.gw_ok("show", "A1").out


def test_nothing_is_signed_where_nobody_asks_for_it(tmp_path: Path, keys: Path) -> None:
    plan = planned(tmp_path / "repo")
    plan.do("A1")
    evidence = plan.fact("A1").tracking.evidence
    assert evidence is not None
    assert evidence.signature is None
    plan.repo.git("config", "commit.gpgSign", "true")  # who signs commits signs evidence
    plan.do("B1")
    evidence = plan.fact("B1").tracking.evidence
    assert evidence is not None
    assert evidence.signature is not None


def test_an_amend_or_a_rebase_that_keeps_the_code_keeps_the_signature(
    plan: Plan, home: Path
) -> None:
    worktree = plan.do("A1")
    use(home, home / "gone")  # whoever rewrites needs no key
    worktree.git("reset", "-q", "--hard", "HEAD~1")
    worktree.git("commit", "-q", "-n", "--amend", "-m", "In better words")
    advance(plan.store)
    assert (plan.states()["A1"], plan.fact("A1").signer) == ("done", "ada@example.com")


# --- what does not -----------------------------------------------------------------------------


def test_unsigned_evidence_is_unproven(plan: Plan) -> None:
    plan.do("A1")
    rewrite(plan, "A1", lambda e: replace(e, signature=None))
    assert doubt(plan, "A1") == "its evidence is not signed"
    shown = plan.repo.gw_ok("status").out
    assert "NOT PROVEN\n  A1  unproven  its evidence is not signed\n" in shown
    assert plan.repo.gw("audit").code == 1
    # verified again, it is signed
    plan.repo.gw_ok("--trust-trunk", "verify", "A1")
    assert plan.states()["A1"] == "done"


EDITS: dict[str, Callable[[Evidence], Evidence]] = {
    "a run's time": lambda e: replace(e, runs=(replace(e.runs[0], seconds=9.75),)),
    "a run's log": lambda e: replace(e, runs=(replace(e.runs[0], log="sha256:00"),)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_signed_evidence_cannot_be_edited(plan: Plan, edit: str) -> None:
    plan.do("A1")
    rewrite(plan, "A1", EDITS[edit])
    assert doubt(plan, "A1") == "its signature is not that of this evidence"


def test_every_field_is_covered_but_the_commit() -> None:
    run = Run("make", 0, 1.5, "sha256:1")
    text = signed_text("A1", Oid("d1"), "sha256:0", [run], [Oid("c1")])
    others = [
        signed_text("A2", Oid("d1"), "sha256:0", [run], [Oid("c1")]),
        signed_text("A1", Oid("d2"), "sha256:0", [run], [Oid("c1")]),
        signed_text("A1", Oid("d1"), "sha256:2", [run], [Oid("c1")]),
        signed_text("A1", Oid("d1"), "sha256:0", [run], []),
        signed_text("A1", Oid("d1"), "sha256:0", [run, run], [Oid("c1")]),
        *(
            signed_text("A1", Oid("d1"), "sha256:0", [other], [Oid("c1")])
            for other in (
                replace(run, run="true"),
                replace(run, exit=1),
                replace(run, seconds=2.5),
                replace(run, log="sha256:2"),
            )
        ),
    ]
    assert len({text, *others}) == len(others) + 1


def test_evidence_is_not_moved_to_another_task(plan: Plan) -> None:
    """Even where all else fits: another task with the same spec but for its id."""
    plan.do("A1")
    worktree = plan.start("A2")
    worktree.commit("x", **{"a/a2.txt": "x\n"})
    cards = plan.snapshot.cards
    moved = plan.tracking("A1", "ws/A").evidence
    assert moved is not None
    tip = Oid(plan.repo.oid("ws/A"))
    fits = replace(
        moved,
        commit=tip,
        tree=plan.store.repo.code_tree(tip),
        spec=cards.digest("A2"),
        runs=(replace(moved.runs[0], run="test -f a/a2.txt"),),
    )
    path = worktree.path / card("A2")
    said = replace(plan.fact("A2").tracking, status=Status.DONE, evidence=fits)
    path.write_bytes(with_tracking(path.read_bytes(), said))
    worktree.git("commit", "-q", "-a", "-n", "-m", "gitwaves: A2 done")
    assert plan.states()["A2"] == "unproven"
    assert plan.fact("A2").reason == "its signature is not that of this evidence"


@pytest.mark.parametrize("bad", ["AAAA", "U1NIU0lH", "U1NIU0lHAAAAAQAAADMAAAA="])
def test_a_signature_that_is_none(plan: Plan, bad: str) -> None:
    plan.do("A1")
    rewrite(plan, "A1", lambda e: replace(e, signature=bad))
    said = ("its signature cannot be read", f"it is signed with a key that is not in {FILE}")
    assert doubt(plan, "A1") in said


def test_a_key_that_nobody_knows(plan: Plan, home: Path, keys: Path) -> None:
    plan.do("A1")
    held = plan.fact("A1").tracking
    assert held.evidence is not None
    e = held.evidence
    use(home, keys / "bob")
    other = Signer(plan.store.repo).sign("A1", e.tree, e.spec, e.runs)
    rewrite(plan, "A1", lambda e: replace(e, signature=other))
    assert doubt(plan, "A1") == f"it is signed with a key that is not in {FILE}"
    # another namespace: a signature of Git's own is none of ours
    (home / "text").write_bytes(signed_text("A1", e.tree, e.spec, e.runs))
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", keys / "ada", home / "text"]
    subprocess.run([*map(str, sign)], check=True, capture_output=True)
    foreign = "".join((home / "text.sig").read_text().splitlines()[1:-1])
    rewrite(plan, "A1", lambda e: replace(e, signature=foreign))
    assert plan.states()["A1"] == "unproven"


def test_a_branch_that_changes_the_file_changes_nothing_for_itself(
    plan: Plan, home: Path, keys: Path
) -> None:
    worktree = plan.start("A1")
    worktree.write(FILE, line(keys, "bob"))
    config = worktree.read(".workstreams/config.yaml")
    worktree.write(".workstreams/config.yaml", config.replace(f"allowed_signers: {FILE}\n", ""))
    worktree.write("a/a1.txt", "x\n")
    worktree.git("add", "-A")
    worktree.git("commit", "-q", "-n", "-m", "Bob may sign, too")
    use(home, keys / "bob")
    commit = Oid(plan.repo.oid("ws/A"))
    store = plan.store
    cards, tree = store.snapshot().cards, store.repo.code_tree(commit)
    runs = (Run("test -f a/a1.txt", 0, 0.1, "sha256:00"),)
    signature = Signer(store.repo).sign("A1", tree, cards.digest("A1"), runs)
    proof = Evidence(commit, tree, cards.digest("A1"), runs, signature=signature)
    said = replace(plan.fact("A1").tracking, status=Status.DONE, evidence=proof)
    path = worktree.path / card("A1")
    path.write_bytes(with_tracking(path.read_bytes(), said))
    worktree.git("commit", "-q", "-a", "-n", "-m", "gitwaves: A1 done")
    assert doubt(plan, "A1") == f"it is signed with a key that is not in {FILE}"


def test_a_file_that_trunk_does_not_have(plan: Plan) -> None:
    plan.do("A1")
    plan.repo.git("rm", "-q", FILE)
    plan.repo.commit("No keys")
    assert doubt(plan, "A1") == f"{FILE}, the file of keys, is not on trunk"


def test_a_receipt_that_somebody_wrote_gets_no_done_commit(plan: Plan) -> None:
    worktree = plan.start("A1")
    worktree.commit("x", **{"a/a1.txt": "x\n"})
    store = plan.store
    tip = Oid(plan.repo.oid("ws/A"))
    runs = (Run("test -f a/a1.txt", 0, 0.1, "sha256:00"),)
    digest = store.snapshot().cards.digest("A1")
    content = store.repo.require_commit(tip).tree
    forged = Receipt("A1", store.repo.code_tree(tip), digest, content, runs)
    for signature in (None, "AAAA"):
        save(store.repo, replace(forged, signature=signature))
        assert advance(plan.store) == []
    assert plan.states()["A1"] == "active"
    plan.finish(worktree, "A1", **{"a/more.txt": "x\n"})


# --- when it landed ----------------------------------------------------------------------------


def test_what_landed_before_a_key_was_taken_out_stays_done(
    plan: Plan, home: Path, keys: Path, tmp_path: Path
) -> None:
    plan.do("A1")
    plan.do("B1")
    plan.merge()
    plan.do("A2")
    allow(plan, line(keys, "bob"))
    states = plan.states()
    assert (states["A1"], states["B1"], states["MP1"]) == ("done", "done", "done")
    assert plan.fact("A1").signer == "ada@example.com"
    assert states["A2"] == "unproven"  # it has yet to land
    assert plan.repo.gw("audit", "A1", "MP1").code == 0
    assert plan.repo.gw("audit", "A2").code == 1
    # put on trunk by hand, it is still not done
    plan.repo.git("checkout", "-q", "ws/A", "--", card("A2"), "a")
    plan.repo.commit("A2, by hand")
    assert plan.states()["A2"] == "unproven"
    use(home, keys / "bob")
    plan.repo.gw_ok("--trust-trunk", "verify", "A2")
    assert plan.fact("A2").signer == "bob@example.com"
    shallow = tmp_path / "shallow"
    plan.repo.git("clone", "-q", "--depth", "1", f"file://{plan.repo.path}", str(shallow))
    cloned = Plan(Repo(shallow))
    assert cloned.states()["A1"] == "done"  # said to be unchecked there, and not false
    assert plan.repo.gw("audit", "A1", cwd=shallow).code == 0


def test_what_landed_before_signatures_were_asked_for_stays_done(
    tmp_path: Path, keys: Path
) -> None:
    plan = planned(tmp_path / "repo")
    plan.do("A1")
    plan.do("B1")
    plan.merge()
    plan.do("A2")
    config = plan.repo.read(".workstreams/config.yaml")
    plan.repo.write(".workstreams/config.yaml", f"{config}allowed_signers: {FILE}\n")
    allow(plan, line(keys, "ada"))
    states = plan.states()
    assert (states["A1"], states["B1"], states["MP1"]) == ("done", "done", "done")
    assert states["A2"] == "unproven"
    plan.repo.gw_ok("--trust-trunk", "verify", "A2")
    assert plan.states()["A2"] == "done"
    # what landed then is done as it stood, and not as somebody has it since
    path = plan.repo.path / card("A1")
    landed = plan.fact("A1").tracking
    assert landed.evidence is not None
    longer = replace(landed.evidence, runs=(replace(landed.evidence.runs[0], seconds=99.0),))
    path.write_bytes(with_tracking(path.read_bytes(), replace(landed, evidence=longer)))
    plan.repo.commit("A1 took longer")
    assert plan.fact("A1").reason == "its evidence is not signed"
    plan.repo.git("revert", "--no-edit", "HEAD")
    assert plan.states()["A1"] == "done"
    # done by hand on trunk, unsigned, is not
    path = plan.repo.path / card("B2")
    said = Tracking("B2", Status.DONE, evidence=plan.fact("A1").tracking.evidence)
    path.write_bytes(with_tracking(path.read_bytes(), said))
    plan.repo.commit("B2 is done")
    assert plan.states()["B2"] == "unproven"


def test_what_passed_before_signatures_were_asked_for_is_verified_again(
    tmp_path: Path, keys: Path
) -> None:
    plan = planned(tmp_path / "repo")
    worktree = plan.start("A1")
    worktree.write("a/a1.txt", "x\n")
    plan.repo.gw_ok("--trust-trunk", "verify", "A1")
    config = plan.repo.read(".workstreams/config.yaml")
    plan.repo.write(".workstreams/config.yaml", f"{config}allowed_signers: {FILE}\n")
    allow(plan, line(keys, "ada"))
    worktree.commit("Do it")
    assert advance(plan.store) == []
    assert plan.states()["A1"] == "active"
    assert plan.repo.gw_ok("--trust-trunk", "verify", "A1").out.startswith("A1 is done\n")


# --- where nothing can be signed ---------------------------------------------------------------


def refusals(plan: Plan, home: Path, keys: Path) -> Iterator[tuple[str, str]]:
    """Sets up each way in which nothing can be signed; what is said of it, and the hint."""
    gitconfig = home / ".gitconfig"
    with_key = gitconfig.read_text()
    use(home, "")
    yield (
        "Error: evidence has to be signed here, and Git has no SSH key to sign with\n",
        "git config user.signingKey",
    )
    use(home, home / "gone")
    yield f"Error: evidence cannot be signed with {home}/gone: ", "ssh-add"
    locked = keys / "locked"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)]
    subprocess.run(argv, check=True)
    use(home, locked)
    yield f"Error: evidence cannot be signed with {locked}: ", "ssh-add"
    use(home, keys / "bob")
    yield (
        f"Error: evidence signed here would not count: it is signed with a key that is not in {FILE}\n",
        "have the key added",
    )
    use(home, keys / "ada", **{"gpg.ssh.program": "/nowhere/ssh-keygen"})
    yield "Error: cannot run /nowhere/ssh-keygen: No such file or directory\n", "OpenSSH"
    gitconfig.write_text(with_key)


def test_where_nothing_can_be_signed_no_step_is_run(plan: Plan, home: Path, keys: Path) -> None:
    plan.do("B1")
    worktree = plan.start("A1")
    worktree.commit("x", **{"a/a1.txt": "x\n"})
    logs = plan.store.repo.state_dir / "logs" / "A1"
    for said, hint in refusals(plan, home, keys):
        done = plan.repo.gw("--trust-trunk", "verify", "A1")
        assert (done.code, done.err.startswith(said), hint in done.err) == (1, True, True), done
        assert not logs.exists()
    plan.finish(worktree, "A1", **{"a/more.txt": "x\n"})
    use(home, keys / "bob")
    refused = plan.repo.gw("--trust-trunk", "merge", "MP1")
    assert "would not count" in refused.err
    assert not (logs.parent / "MP1").exists()
    claude = plan.repo.write("../bin/claude", f"#!/bin/sh\ntouch {home}/ran\n")
    claude.chmod(0o755)
    path = os.pathsep.join([str(claude.parent), os.environ["PATH"]])
    assert "would not count" in plan.repo.gw("--trust-trunk", "run", env={"PATH": path}).err
    assert not (home / "ran").exists()
    use(home, keys / "ada")
    plan.merge()
    assert plan.fact("MP1").signer == "ada@example.com"


def test_a_reader_without_ssh_keygen_is_told_so(plan: Plan, tmp_path: Path) -> None:
    plan.do("A1")
    shutil.rmtree(plan.store.repo.state_dir / "signatures")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("git", "sh"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    done = plan.repo.gw("status", env={"PATH": str(folder)})
    assert done.code == 1
    assert done.err.startswith("Error: cannot run ssh-keygen: No such file or directory\nHint: ")


# --- Git's settings ----------------------------------------------------------------------------


@pytest.fixture
def agent(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An agent that holds Ada's key; the private half is nowhere else."""
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as process:
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            for _ in range(500):
                if subprocess.run(["ssh-add", "-q", keys / "ada"], check=False,
                                  capture_output=True).returncode == 0:  # fmt: skip
                    break
            (keys / "ada").unlink()
            yield
        finally:
            process.terminate()


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("how", ["public half", "literal", "old literal", "command"])
def test_keys_that_an_agent_holds(plan: Plan, home: Path, keys: Path, how: str) -> None:
    public = (keys / "ada.pub").read_text().strip()
    if how == "command":
        command = f"echo 'key::{public}'"
        use(home, "", **{"gpg.ssh.defaultKeyCommand": command})
    else:
        use(home, {"public half": f"{keys}/ada.pub", "literal": f"key::{public}"}.get(how, public))
    plan.do("A1")
    assert plan.fact("A1").signer == "ada@example.com"


def test_a_path_under_home_and_a_key_of_gpg(plan: Plan, home: Path, keys: Path) -> None:
    use(home, "~/keys/ada")
    assert Signer(plan.store.repo).signature(b"x")
    use(home, "0123456789ABCDEF", **{"gpg.format": "openpgp"})
    with pytest.raises(GitwavesError, match="Git has no SSH key to sign with"):
        Signer(plan.store.repo)
    use(home, "", **{"gpg.ssh.defaultKeyCommand": "echo nothing"})
    with pytest.raises(GitwavesError, match="names no key"):
        Signer(plan.store.repo)


# --- checking ----------------------------------------------------------------------------------


def test_keys_that_are_valid_for_a_while(plan: Plan, keys: Path) -> None:
    """Held against when it was verified, so that no state changes with the clock."""
    repo = plan.store.repo
    signature = Signer(repo).signature(b"x")
    rule = Rule(FILE, line(keys, "ada", 'valid-before="20300101"').encode())
    asked = [
        (b"x", signature, when, rule) for when in ("2029-12-31T00:00:00Z", "2030-01-02T00:00:00Z")
    ]
    for one in (Signatures(repo), Signatures(repo)):
        good, late = one.of_texts(asked)
        assert (good.who, good.problem) == ("ada@example.com", "")
        assert late.problem == f"it is signed with a key that is not in {FILE}"
    other = Rule(FILE, line(keys, "ada", 'namespaces="file"').encode())
    (refused,) = Signatures(repo).of_texts([(b"x", signature, None, other)])
    assert refused.problem.startswith(f"{FILE} does not let ada@example.com sign it: ")


def test_a_check_is_made_once(plan: Plan, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan.do("A1")
    plan.do("B1")
    assert plan.states()["A1"] == "done"
    calls: list[str] = []
    real = signing._run

    def counted(argv: list[str], stdin: bytes, **env: str) -> subprocess.CompletedProcess[bytes]:
        calls.append(argv[2])
        return real(argv, stdin, **env)

    monkeypatch.setattr(signing, "_run", counted)
    assert plan.fact("A1").signer == "ada@example.com"
    assert calls == []  # kept on disk
    shutil.rmtree(plan.store.repo.state_dir / "signatures")
    store = plan.store
    for _ in range(3):
        assert store.snapshot().facts["A1"].signer == "ada@example.com"
    assert sorted(calls) in (["find-principals", "verify", "verify"],
                             ["find-principals", "find-principals", "verify", "verify"])  # fmt: skip
    calls.clear()
    fresh = plan.store
    fresh.signatures.fresh = True  # as `audit` asks
    assert fresh.snapshot().facts["A1"].signer == "ada@example.com"
    assert "verify" in calls
    # a cache that says what nobody signed is not what audit believes
    rewrite(plan, "A1", lambda e: replace(e, signature=None))
    assert plan.states()["A1"] == "unproven"


def test_a_signature_survives_the_card() -> None:
    runs = (Run("make", 0, 1.0, "sha256:1"), Run("lint", 0, 0.07, "sha256:2"))
    proof = Evidence(Oid("c" * 40), Oid("d" * 40), f"sha256:{'0' * 64}", runs, signature="AA+/==")
    said = Tracking("A1", Status.DONE, evidence=proof)
    read, findings = load_tracking(tracking_bytes(said), "x/WS-A/A1.yaml")
    assert not findings
    assert read == said
    assert read.evidence is not None
    again = read.evidence
    text = [signed_text("A1", e.tree, e.spec, e.runs) for e in (proof, again)]
    assert text[0] == text[1]


def test_no_rule_reads_no_history(tmp_path: Path) -> None:
    plan = planned(tmp_path / "repo")
    repo = GitRepo.open(plan.repo.path)
    assert signing.rules(repo, Config(), Oid(plan.repo.oid("main"))) == ((Rule(), None),)
    assert repo._lists == {}


@pytest.mark.long
def test_many_signatures_are_checked_in_seconds(plan: Plan) -> None:
    """What 1,000 cards cost a first reader, and the next; the figures are in docs/reliability.md."""
    import time

    repo = plan.store.repo
    signer = Signer(repo)
    rule = signing.rule_at(repo, Oid(plan.repo.oid("main")))
    asked = [
        (text, signer.signature(text), None, rule) for text in (b"%d" % n for n in range(1000))
    ]
    took = []
    for one in (Signatures(repo), Signatures(repo)):
        start = time.monotonic()
        assert all(s.who for s in one.of_texts(asked))
        took.append(time.monotonic() - start)
    print(f"1,000 signatures: {took[0]:.1f} s at first, {took[1] * 1000:.0f} ms then")
    assert took[1] < 2


def test_audit_believes_no_cache(plan: Plan) -> None:
    plan.do("A1")
    held = plan.fact("A1").tracking
    assert held.evidence is not None
    rewrite(plan, "A1", lambda e: replace(e, runs=(replace(e.runs[0], seconds=9.0),)))
    store = plan.store
    rule = signing.rule_at(store.repo, Oid(plan.repo.oid("main")))
    e = plan.tracking("A1", "ws/A").evidence
    assert e is not None
    text = signed_text("A1", e.tree, e.spec, e.runs)
    key = signing._key_of((text, e.signature, plan.fact("A1").tracking.finished, rule))
    poisoned = Cache(store.repo.state_dir / "signatures")
    poisoned.value(key, lambda: "ada@example.com")
    poisoned.save()
    assert plan.states()["A1"] == "done"  # what is kept here can be forged by who can write here
    done = plan.repo.gw("audit", "A1")
    assert done.code == 1
    assert "its signature is not that of this evidence" in done.out
    fresh = plan.store
    fresh.signatures.fresh = True
    (found,) = auditing.audit(fresh, fresh.snapshot(), ["A1"])
    assert found.outcome is Outcome.FALSE
