"""`doctor`: every trouble is made to happen, named, and mended where it is ours and loses nothing."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from gitwaves import claims, doctoring, doctoring_git, git, hooks
from gitwaves.doctoring import Report, doctor
from gitwaves.errors import Conflict
from gitwaves.model import Branch
from gitwaves.receipts import note_made
from gitwaves.resources import schema_text
from gitwaves.worktrees import scratch
from gitwaves.writing import refresh
from tests.landing import Plan, planned
from tests.repo import Repo


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for longer than a test needs."""
    monkeypatch.setattr(doctoring_git, "_PATIENCE", 0.02)
    monkeypatch.setattr(doctoring, "_PATIENCE", 0.2)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan whose clone is in order."""
    plan = planned(tmp_path / "repo")
    hooks.install(plan.store.repo)
    return plan


def said(report: Report) -> list[str]:
    """What a report says, a line each: what is wrong, then what became of it."""
    lines = []
    for one in report.outcomes:
        what = "warning: " if one.trouble.severity == "warning" else ""
        lines.append(f"{one.trouble.check}: {what}{one.trouble.message}")
        if one.done is not None or one.left is not None:
            lines.append(f"  mended: {one.done}" if one.done is not None else f"  left: {one.left}")
    return lines


def look(plan: Plan) -> list[str]:
    return said(doctor(plan.repo.path))


def mend(plan: Plan) -> list[str]:
    """What `--fix` says; a second time it does nothing at all."""
    first = doctor(plan.repo.path, fix=True)
    before = everything(plan.repo.path.parent)
    second = doctor(plan.repo.path, fix=True)
    assert not [line for line in said(second) if line.startswith("  mended")]
    assert said(second) == said(Report(tuple(o for o in first.outcomes if o.done is None), ()))
    assert everything(plan.repo.path.parent) == before
    return said(first)


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder but Git's own objects, which only grow, and caches."""
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if "objects/" in name or "cache/" in name:
            continue
        found[name] = path.read_bytes() if path.is_file() else None
    return found


def hook(plan: Plan, name: str) -> Path:
    return plan.repo.path / ".git/hooks" / name


# --- a clone in order --------------------------------------------------------------------------


def test_a_clone_in_order_is_quiet(plan: Plan) -> None:
    plan.start("A1")
    plan.do("B1")
    refresh(plan.store)
    assert look(plan) == []
    done = plan.repo.gw("doctor")
    assert (done.code, done.out, done.err) == (0, "nothing is wrong\n", "")
    done = plan.repo.gw("doctor", "-v", "--fix")
    checks = "git settings locks branches remote hooks worktrees merges agents leftovers dashboard"
    assert done.out == "".join(f"{c}: fine\n" for c in checks.split()) + "nothing is wrong\n"


def test_what_the_command_prints(plan: Plan) -> None:
    hook(plan, "commit-msg").unlink()
    (plan.repo.path / ".git/index.lock").touch()
    done = plan.repo.gw("doctor")
    lock = plan.repo.path / ".git/index.lock"
    assert done.code == 1
    assert done.err == "`gitwaves doctor --fix` mends 1 of 2\n"
    lines = done.out.splitlines()
    assert lines[0].startswith(f"locks: {lock} is ")
    assert lines[1] == f"  make sure that no editor or client is at work here, then: rm {lock}"
    assert lines[2:] == ["hooks: commit-msg is missing", "  gitwaves hooks install"]
    done = plan.repo.gw("doctor", "--fix")
    assert done.code == 1  # the lock is left
    assert done.out.splitlines()[:2] == [
        "hooks: commit-msg is missing",
        "  mended: commit-msg: installed",
    ]
    lock.unlink()
    assert plan.repo.gw("doctor").code == 0


def test_json_is_as_documented(plan: Plan) -> None:
    schema = Draft202012Validator(json.loads(schema_text("doctor.schema.json")))
    hook(plan, "commit-msg").unlink()
    done = plan.repo.gw("doctor", "--json")
    shown = json.loads(done.out)
    schema.validate(shown)
    assert done.code == 1
    assert shown["wrong"]
    assert "hooks" not in shown["fine"]
    assert shown["troubles"] == [
        {
            "check": "hooks",
            "severity": "error",
            "message": "commit-msg is missing",
            "hint": "gitwaves hooks install",
            "fixable": True,
            "mended": None,
            "left": None,
        }
    ]
    done = plan.repo.gw("doctor", "--json", "--fix")
    shown = json.loads(done.out)
    schema.validate(shown)
    assert (done.code, shown["wrong"]) == (0, False)
    assert shown["troubles"][0]["mended"] == "commit-msg: installed"


def test_without_a_plan(repo: Repo) -> None:
    repo.commit("first")
    hooks.install(git.Repo.open(repo.path))
    assert said(doctor(repo.path)) == ["plan: there is no plan in this repository yet"]


def test_git_too_old(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("git")
    fake = tmp_path / "bin/git"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\ncase "$*" in *--version) echo git version 2.34.1;; *) exec {real} "$@";; esac\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    report = doctor(plan.repo.path)
    assert said(report) == ["git: Git is 2.34.1; gitwaves needs 2.39 or newer"]
    assert str(fake) in report.outcomes[0].trouble.hint
    assert report.wrong


# --- hooks -------------------------------------------------------------------------------------

NONE = "hooks: no hook is installed: state is only advanced by gitwaves' own commands"


def remove_all(plan: Plan) -> None:
    hooks.uninstall(plan.store.repo)


def make_unexecutable(plan: Plan) -> None:
    hook(plan, "commit-msg").chmod(0o644)
    hook(plan, "post-commit").chmod(0o644)


def overwrite(plan: Plan) -> None:
    hook(plan, "commit-msg").write_text("#!/bin/sh\nexit 0\n")


def move_aside(plan: Plan) -> None:
    path = hook(plan, "post-commit")
    path.rename(path.with_name("post-commit.old"))  # as lefthook does
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)


def other_version(plan: Plan) -> None:
    path = hook(plan, "post-merge")
    path.write_text(path.read_text().replace("It runs the hook", "It ran the hook"))


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (remove_all, NONE),
        (make_unexecutable, "hooks: commit-msg post-commit is not executable"),
        (overwrite, "hooks: commit-msg is another program's"),
        (move_aside, "hooks: post-commit is another program's, which moved gitwaves' to *.old"),
        (other_version, "hooks: warning: post-merge is of another version of gitwaves"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_hooks(plan: Plan, spoil: Callable[[Plan], None], line: str) -> None:
    spoil(plan)
    assert look(plan) == [line]
    assert mend(plan)[0] == line
    assert look(plan) == []


def test_hooks_of_a_gitwaves_that_is_gone(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "venv/bin/python"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(gone))
        hooks.install(plan.store.repo)
    assert look(plan) == [f"hooks: {' '.join(hooks.HOOKS)} looks for {gone}, which is gone"]
    assert len(mend(plan)) == 2
    assert look(plan) == []


def test_a_hook_that_cannot_be_put_beside_is_left(plan: Plan) -> None:
    remove_all(plan)
    hook(plan, "post-merge").write_text("#!/bin/sh\n# one\n")
    hooks.install(plan.store.repo)
    hook(plan, "post-merge").write_text("#!/bin/sh\n# two\n")
    found = mend(plan)
    assert found[0] == "hooks: post-merge is another program's"
    assert found[1].startswith("  left: post-merge was replaced since")


def test_hooks_are_looked_for_elsewhere(plan: Plan) -> None:
    plan.repo.git("config", "core.hooksPath", ".husky/_")
    plan.repo.write(".husky/_/commit-msg", "#!/bin/sh\n")
    plan.repo.write(".husky/commit-msg", 'gitwaves hook commit-msg "$@"\n')
    worktree = plan.start("A1")
    report = doctor(plan.repo.path, fix=True)
    missing = " ".join(name for name in hooks.HOOKS if name != "commit-msg")
    assert said(report) == [
        f"hooks: Git looks for hooks in .husky/_, where {missing} do not call gitwaves",
        f"hooks: Git looks for hooks in .husky/_, which is not in {worktree.path}: none runs there",
    ]
    # What it says to add is enough.
    for line in report.outcomes[0].trouble.hint.splitlines()[1:]:
        name, text = line.strip().split(": ", 1)
        plan.repo.write(f".husky/{name}", text + "\n")
    shutil.copytree(plan.repo.path / ".husky", worktree.path / ".husky")
    assert look(plan) == []


def test_hooks_are_looked_for_elsewhere_in_one_worktree(plan: Plan) -> None:
    worktree = plan.start("A1")
    plan.repo.git("config", "extensions.worktreeConfig", "true")
    worktree.git("config", "--worktree", "core.hooksPath", "/nowhere")
    line = (
        f"hooks: Git looks for hooks in /nowhere, which is not in {worktree.path}: none runs there"
    )
    assert mend(plan) == [line]
    hook(plan, "commit-msg").unlink()
    assert mend(plan) == ["hooks: commit-msg is missing", "  mended: commit-msg: installed", line]


def test_what_is_at_work_is_noted_wrong(plan: Plan) -> None:
    worktree = plan.start("A1")
    folder = plan.repo.path / ".git/gitwaves/at-work"
    (folder / "ws%2FA").unlink()
    (folder / "ws%2FB").write_text("B1\n")
    (folder / "gone").write_text("X1\n")
    line = "hooks: what the hooks take to be at work is not true for gone (nothing is at work), "
    line += "ws/A (A1 is at work), ws/B (nothing is at work)"
    assert look(plan) == [line]
    assert mend(plan)[0] == line
    assert sorted(p.name for p in folder.iterdir()) == ["ws%2FA", "ws%2FA.paths"]
    worktree.write("b/x", "not mine")
    worktree.git("add", "-A")
    worktree.git("commit", "-qm", "x", check=False)
    assert worktree.git("diff", "--cached", "--name-only") == "b/x"  # refused again
    (folder / "ws%2FA.paths").write_text("")  # the boundary was another one
    assert "ws/A (A1 is at work)" in look(plan)[0]
    mend(plan)


# --- settings ----------------------------------------------------------------------------------


def test_core_bare(plan: Plan) -> None:
    worktree = plan.start("A1")
    plan.repo.git("config", "core.bare", "true")
    line = f"settings: core.bare is true, and {plan.repo.path} is a worktree: "
    line += "Git refuses to work in it"
    assert look(plan) == [line]
    assert said(doctor(worktree.path)) == [line]
    assert mend(plan) == [line, "  mended: core.bare is false again"]
    assert plan.repo.git("status", "--porcelain") == ""


def test_a_repository_that_was_made_bare_stays_so(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "project/.git"
    plan.repo.git("clone", "-q", "--bare", ".", str(path))
    Repo(path).git("worktree", "add", "-q", "../main", "main")
    assert said(doctor(path.parent / "main", fix=True))[0] == NONE
    assert Repo(path).git("config", "core.bare") == "true"


def test_core_worktree(plan: Plan, tmp_path: Path) -> None:
    elsewhere = tmp_path / "tmp.1234"
    plan.repo.git("config", "core.worktree", str(elsewhere))
    what = f"settings: core.worktree is {elsewhere}"
    line = f", which is gone: Git takes that for the worktree of {plan.repo.path / '.git'}"
    assert look(plan)[0] == what + line
    elsewhere.mkdir()
    found = said(doctor(plan.repo.path, fix=True))
    assert found[0] == what + line.replace(", which is gone", "")  # somebody may want it so
    assert plan.repo.git("config", "--local", "core.worktree") == str(elsewhere)
    elsewhere.rmdir()
    assert mend(plan)[:2] == [
        what + line,
        f"  mended: core.worktree is unset (it was {elsewhere})",
    ]
    assert look(plan) == []


def test_an_identity_of_a_tests(plan: Plan, home: Path) -> None:
    plan.repo.git("config", "user.name", "t")
    plan.repo.git("config", "user.email", "t@t")
    line = "settings: commits here are made as t <t@t>, which looks like a test's identity: "
    line += "elsewhere you are Ada Tester <ada@example.com>"
    assert look(plan) == [line]
    assert mend(plan) == [
        line,
        "  mended: unset user.name 't', user.email 't@t'; commits are Ada Tester <ada@example.com>'s again",
    ]
    plan.repo.git("config", "user.name", "Test User")
    assert "Test User" in look(plan)[0]
    mend(plan)
    for name, email in (("Ada", "ada@payments.dev"), ("Grace Hopper", None)):
        plan.repo.git("config", "user.name", name)
        plan.repo.git("config", *(["user.email", email] if email else ["--unset", "user.email"]))
        assert look(plan) == []  # somebody's own


def test_an_identity_that_is_the_only_one_or_began_the_plan_stays(
    plan: Plan, tmp_path: Path, home: Path
) -> None:
    plan.repo.git("config", "user.name", "t")
    plan.repo.git("config", "user.email", "t@t")
    config = home / ".gitconfig"
    kept = config.read_text()
    config.write_text("")
    assert look(plan) == []  # without it, no commit could be made
    config.write_text(kept.replace("ada@example.com", "t@t"))
    other = planned(tmp_path / "other")
    hooks.install(other.store.repo)
    config.write_text(kept)
    other.repo.git("config", "user.email", "t@t")
    assert look(other) == []  # the repository is full of it


# --- locks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["index.lock", "HEAD.lock", "packed-refs.lock", "refs/heads/ws/A.lock", "config.lock"]
)
def test_a_lock_of_gits_is_named_and_left(plan: Plan, name: str) -> None:
    lock = plan.repo.write(f".git/{name}", "")
    os.utime(lock, (time.time() - 7200,) * 2)
    line = f"locks: {lock} is 2 hours old, and no git process is at work here: "
    line += "one that was killed left it, and Git waits for it"
    assert look(plan)[0] == line
    doctor(plan.repo.path, fix=True)
    assert lock.exists()


def test_a_lock_that_a_living_git_may_hold(plan: Plan) -> None:
    worktree = plan.start("A1")
    (worktree.path / "f").write_text("x")
    worktree.git("add", "-A")
    editor = f"sh -c 'touch {plan.repo.path}/editing; sleep 60'"
    process = subprocess.Popen(
        ["git", "commit", "-q", "-a", "-n"],
        cwd=worktree.path,
        env={**os.environ, "GIT_EDITOR": editor},
        start_new_session=True,
    )
    try:
        until((plan.repo.path / "editing").exists)
        lock = plan.repo.path / ".git/worktrees/ws-A/index.lock"
        lines = [line for line in look(plan) if line.startswith("locks")]
        assert len(lines) == 1
        assert lines[0].startswith(f"locks: warning: {lock} is ")
        assert f"git commit -q -a -n (process {process.pid}) may hold it" in lines[0]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (plan.repo.path / "editing").unlink()
    assert any("no git process is at work here" in line for line in look(plan))
    assert lock.exists()


def test_a_lock_that_goes_is_not_named(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = plan.repo.write(".git/index.lock", "")
    seen = doctoring_git._lock_files

    def and_then_it_goes(repo: git.Repo) -> dict[Path, tuple[int, int]]:
        found = seen(repo)
        lock.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(doctoring_git, "_lock_files", and_then_it_goes)
    assert look(plan) == []


def test_who_has_the_lock_of_gitwaves(plan: Plan) -> None:
    hook(plan, "commit-msg").unlink()
    lock = plan.store.repo.state_dir / "lock"
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        report = doctor(plan.repo.path, fix=True)
    (line,) = said(report)
    assert line.startswith("lock: ")
    assert f"(process {os.getpid()}) has had the lock of gitwaves for 0s and more" in line
    assert report.wrong
    assert "hooks" not in report.fine  # they were not looked at
    assert look(plan) == ["hooks: commit-msg is missing"]


def test_what_gitwaves_cannot_write(plan: Plan) -> None:
    lock = plan.store.repo.state_dir / "lock"
    lock.unlink(missing_ok=True)
    lock.mkdir(parents=True)
    assert look(plan) == [f"lock: gitwaves cannot write {lock}: Is a directory"]


# --- branches and the remote -------------------------------------------------------------------


def test_a_reference_that_cannot_be_read(plan: Plan) -> None:
    plan.start("A1")
    tip = plan.repo.oid("ws/A")
    for content in ("", "1" * 40 + "\n"):
        (plan.repo.path / ".git/refs/heads/ws/A").write_text(content)
        report = doctor(plan.repo.path, fix=True)
        troubles = [o.trouble for o in report.outcomes if o.trouble.check == "branches"]
        assert troubles[0].message == "refs/heads/ws/A cannot be read"
        subprocess.run(["sh", "-ec", troubles[0].hint], cwd=plan.repo.path, check=True)
        assert plan.repo.oid("ws/A") == tip
        assert look(plan) == []


def test_a_branch_in_the_way_and_one_that_was_rescued(plan: Plan) -> None:
    plan.repo.git("branch", "ws")
    assert look(plan) == [
        f"branches: the branch ws stands in the way of ws/{x}: Git cannot have both" for x in "ABC"
    ]
    plan.repo.git("branch", "-D", "-q", "ws")
    plan.repo.git("branch", "gitwaves/rescued/A1-1")
    found = mend(plan)
    assert found == [
        "branches: warning: gitwaves/rescued/A1-1 holds work that came too late for its branch"
    ]
    assert plan.repo.oid("gitwaves/rescued/A1-1")
    assert plan.repo.gw("doctor").code == 0


@pytest.fixture
def shared(plan: Plan, tmp_path: Path) -> tuple[Plan, Repo]:
    """The plan with a remote, and its bare repository."""
    bare = Repo.init(tmp_path / "origin.git")
    shutil.rmtree(bare.path)
    plan.repo.git("clone", "-q", "--bare", ".", str(bare.path))
    plan.repo.git("remote", "add", "origin", str(bare.path))
    config = plan.repo.path / ".workstreams/config.yaml"
    config.write_text(config.read_text() + "remote: origin\n")
    plan.repo.commit("Share it")
    plan.repo.git("push", "-q", "origin", "main")
    plan.repo.git("fetch", "-q", "origin")
    assert look(plan) == []
    return plan, bare


def test_branches_that_went_apart(shared: tuple[Plan, Repo], tmp_path: Path) -> None:
    plan, _ = shared
    worktree = plan.start("A1")
    worktree.commit("one", **{"a/one": "1"})
    worktree.git("push", "-q", "origin", "ws/A")
    worktree.git("commit", "-q", "--amend", "-m", "one, said better")
    apart = "ws/A and origin/ws/A went apart, by 1 and 1 commits"
    assert look(plan) == [
        f"branches: warning: {apart}: this clone's is read, as nobody else has claimed anything since"
    ]
    other = Repo.clone(Repo(tmp_path / "origin.git"), tmp_path / "other")
    other.commit("theirs", x="1")
    other.git("push", "-q", "origin", "main")
    plan.repo.commit("ours", y="1")
    plan.repo.git("fetch", "-q")
    report = doctor(plan.repo.path, fix=True)
    assert (
        "branches: main and origin/main went apart, by 1 and 1 commits: origin's is read"
        in said(report)
    )
    hint = next(o.trouble.hint for o in report.outcomes if "main" in o.trouble.message)
    subprocess.run(["sh", "-ec", hint.partition(": ")[2]], cwd=plan.repo.path, check=True)
    assert not [line for line in look(plan) if "origin/main" in line]


def test_the_remote(shared: tuple[Plan, Repo]) -> None:
    plan, bare = shared
    plan.repo.git("config", "remote.origin.fetch", "+refs/heads/main:refs/remotes/origin/main")
    found = doctor(plan.repo.path).outcomes
    assert [o.trouble.message for o in found] == [
        "only single branches of origin are fetched: what others have claimed is not seen"
    ]
    subprocess.run(["sh", "-ec", found[0].trouble.hint], cwd=plan.repo.path, check=True)
    assert look(plan) == []
    bare.path.rename(bare.path.with_name("away"))
    (line,) = look(plan)
    assert line.startswith(f"remote: origin cannot be reached: '{bare.path}' does not appear to be")
    plan.repo.git("remote", "remove", "origin")
    assert look(plan) == [
        "remote: the plan is shared through the remote 'origin', which is not set up here"
    ]


def test_a_shallow_clone(plan: Plan, tmp_path: Path) -> None:
    plan.repo.commit("more")
    clone = Repo(tmp_path / "shallow")
    plan.repo.git("clone", "-q", "--depth", "1", f"file://{plan.repo.path}", str(clone.path))
    hooks.install(git.Repo.open(clone.path))
    (outcome,) = doctor(clone.path).outcomes
    assert "the clone is shallow" in outcome.trouble.message
    subprocess.run(["sh", "-ec", outcome.trouble.hint], cwd=clone.path, check=True)
    assert not doctor(clone.path).outcomes


# --- worktrees ---------------------------------------------------------------------------------


def until(done: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def half_made(plan: Plan, *args: str) -> None:
    """Kills `git worktree add` while it writes files, as SIGKILL or the power cut does."""
    reached = plan.repo.path / ".git/reached"
    plan.repo.git("config", "filter.slow.smudge", f"touch {reached}; sleep 60; cat")
    process = subprocess.Popen(
        ["git", "worktree", "add", "-q", *args], cwd=plan.repo.path, start_new_session=True
    )
    until(reached.exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    reached.unlink()
    plan.repo.git("config", "--unset", "filter.slow.smudge")


@pytest.fixture
def slow(plan: Plan) -> Plan:
    plan.repo.commit("slow", **{".gitattributes": "z* filter=slow\n", "z1": "1", "z2": "2"})
    return plan


def test_a_half_made_worktree(slow: Plan) -> None:
    plan = slow
    worktree = plan.start("A1")
    plan.repo.git("worktree", "remove", "--force", str(worktree.path))
    half_made(plan, str(worktree.path), "ws/A")
    assert "D  f" not in worktree.git("status", "--porcelain", "shared.txt")
    assert worktree.git("diff", "--cached", "--name-only", "HEAD", "--", "z1") == "z1"  # deleted
    refused = plan.repo.gw("start", "A1")
    assert refused.code == 1
    assert f"{worktree.path} is half made" in refused.err
    line = f"worktrees: {worktree.path} is half made: `git worktree add` was killed there"
    locks = f"locks: {plan.repo.path}/.git/worktrees/ws-A/index.lock is "
    assert [ln for ln in look(plan) if not ln.startswith(locks)] == [line]
    # Somebody's file in it is never lost.
    (worktree.path / "mine").write_text("mine")
    found = said(doctor(plan.repo.path, fix=True))
    assert found[found.index(line) + 1].startswith(f"  left: {worktree.path}/mine is not as Git")
    assert (worktree.path / "mine").read_text() == "mine"
    (worktree.path / "mine").unlink()
    found = mend(plan)
    assert found[:2] == [
        line,
        f"  mended: removed {worktree.path}; then run `gitwaves start A1`",
    ]
    assert look(plan)[0].startswith(
        "worktrees: A1 is at work here, and ws/A is checked out nowhere"
    )
    assert plan.start("A1").git("status", "--porcelain") == ""
    assert look(plan) == []


def test_a_half_made_worktree_of_another_is_left(slow: Plan, tmp_path: Path) -> None:
    half_made(slow, "-b", "mine", str(tmp_path / "mine"))
    line = f"worktrees: {tmp_path / 'mine'} is half made: `git worktree add` was killed there"
    assert line in mend(slow)
    assert (tmp_path / "mine/.git").exists()


def test_a_worktree_that_is_gone(plan: Plan, tmp_path: Path) -> None:
    worktree = plan.start("A1")
    plan.repo.git("worktree", "add", "-q", "-b", "theirs", str(tmp_path / "theirs"))
    shutil.rmtree(tmp_path / "theirs")
    shutil.rmtree(worktree.path)
    theirs = f"worktrees: warning: Git still lists {tmp_path / 'theirs'}, which is gone"
    claim = "worktrees: A1 is at work here, and ws/A is checked out nowhere"
    assert mend(plan) == [theirs, claim]  # another's; and a claim that only `start` goes on with
    assert plan.repo.gw("doctor").code == 1
    plan.start("A1")
    assert look(plan) == [theirs]
    claims.release(plan.store, "A1")
    worktree.write("a/staged", "only here")
    worktree.git("add", "-A")
    shutil.rmtree(worktree.path)
    gone = f"worktrees: warning: Git still lists {worktree.path}, which is gone"
    found = mend(plan)
    assert found[0] == gone
    assert found[1].startswith(f"  left: what was staged in {worktree.path} is only in ")
    plan.repo.git("--git-dir=.git/worktrees/ws-A", "read-tree", "ws/A")
    assert mend(plan) == [gone, f"  mended: Git has forgotten {worktree.path}", theirs]


def test_a_worktree_that_is_gone_and_locked(plan: Plan) -> None:
    worktree = plan.start("A1")
    plan.repo.git("worktree", "lock", "--reason", "on a disk", str(worktree.path))
    assert look(plan) == []
    worktree.path.rename(worktree.path.with_name("away"))
    line = f"worktrees: {worktree.path}, the worktree of ws/A, is gone, and locked (on a disk)"
    assert line in mend(plan)
    worktree.path.with_name("away").rename(worktree.path)
    assert look(plan) == []


def test_a_worktree_that_was_moved_or_copied(plan: Plan) -> None:
    worktree = plan.start("A1")
    copy = Repo(worktree.path.with_name("copy"))
    shutil.copytree(worktree.path, copy.path)
    found = said(doctor(copy.path, fix=True))
    assert found == [
        f"worktrees: {copy.path} is a copy of the worktree {worktree.path}: what is staged or committed in one shows in the other"
    ]
    shutil.rmtree(worktree.path)
    found = said(doctor(copy.path, fix=True))
    assert found[:2] == [
        f"worktrees: {copy.path} was moved from {worktree.path}, and Git does not know",
        f"  mended: Git knows that {worktree.path} is {copy.path} now",
    ]
    assert look(plan) == []
    assert plan.start("A1").path == copy.path


def test_a_worktree_without_its_git_file(plan: Plan) -> None:
    worktree = plan.start("A1")
    (worktree.path / ".git").unlink()
    line = f"worktrees: Git lists {worktree.path} as a worktree, and its .git file is gone"
    assert look(plan)[0] == line
    assert mend(plan)[:2] == [line, f"  mended: {worktree.path} has its .git file again"]
    assert worktree.git("status", "--porcelain") == ""
    (worktree.path / ".git").unlink()
    worktree.git("init", "-q")
    line = f"worktrees: Git lists {worktree.path} as a worktree, and something else stands there"
    assert line in mend(plan)
    assert worktree.git("rev-parse", "--git-dir") == ".git"


def test_a_folder_in_the_way(plan: Plan) -> None:
    folder = plan.repo.path.with_name("repo.worktrees") / "ws-A"
    Repo(folder).write("work.txt", "mine")
    line = f"worktrees: {folder} is where the worktree of ws/A goes, and Git knows nothing of it"
    assert mend(plan) == [line]
    assert (folder / "work.txt").read_text() == "mine"


def test_another_branch_in_a_worktree_and_a_rebase_there(plan: Plan) -> None:
    worktree = plan.start("A1")
    worktree.git("switch", "-q", "-c", "spike")
    line = f"worktrees: {worktree.path} has spike checked out, not ws/A"
    report = doctor(plan.repo.path, fix=True)
    assert said(report) == [
        line,
        "worktrees: A1 is at work here, and ws/A is checked out nowhere",
    ]
    subprocess.run(["sh", "-ec", report.outcomes[0].trouble.hint], check=True)
    assert look(plan) == []
    worktree.commit("one", **{"a/one": "1"})
    worktree.git("rebase", "-q", "-x", "false", "HEAD~1", check=False)
    assert mend(plan) == [
        f"worktrees: warning: {worktree.path} is in the middle of a rebase: nothing is landed on ws/A until that is over"
    ]


def test_a_setup_that_was_not_finished(tmp_path: Path) -> None:
    plan = planned(tmp_path / "repo", setup="[{run: test -e ../ready}]")
    hooks.install(plan.store.repo)
    assert plan.repo.gw("--trust-trunk", "start", "A1").code == 1
    folder = tmp_path / "repo.worktrees/ws-A"
    line = f"worktrees: the `setup` of {folder} was not finished"
    assert mend(plan) == [line]
    note = plan.repo.path / ".git/gitwaves/alone/setup of ws%2FA"
    with note.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert look(plan) == []  # another `start` is at it
    (tmp_path / "repo.worktrees/ready").touch()
    plan.repo.gw_ok("--trust-trunk", "start", "A1")
    assert look(plan) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from gitwaves.git import Repo
from gitwaves.worktrees import scratch
repo = Repo.open(Path(sys.argv[1]))
with scratch(repo, Path(sys.argv[2]), repo.branch("main")) as checkout:
    (checkout / "made by a step").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_scratch_checkout_that_was_left(plan: Plan) -> None:
    path = plan.repo.path.with_name("repo.worktrees") / "merge-MP1"
    killed = [sys.executable, "-c", KILLED, str(plan.repo.path), str(path)]
    assert subprocess.run(killed, check=False).returncode == -signal.SIGKILL
    line = f"worktrees: warning: {path} was left by a merge or verification that was killed"
    assert look(plan) == [line]
    Repo(path).write("shared.txt", "somebody's")
    assert mend(plan) == [line, f"  left: {path} has changes: shared.txt"]
    Repo(path).git("checkout", "-q", "shared.txt")
    assert mend(plan) == [line, f"  mended: removed {path}"]
    assert not path.exists()
    store = plan.store
    tip = store.repo.branch(store.trunk()[0])
    assert tip is not None
    with scratch(store.repo, path, tip):
        assert look(plan) == []  # it is in use
    assert look(plan) == []
    path.mkdir()  # not a checkout: another's
    assert mend(plan) == []


# --- merges ------------------------------------------------------------------------------------


def conflicting(plan: Plan) -> Repo:
    """MP1 waits for a conflict to be resolved; the checkout for it."""
    plan.repo.write(".workstreams/config.yaml", plan.repo.read(".workstreams/config.yaml"))
    plan.do("A1", **{"shared.txt": "ours\n", "a/a1.txt": "1\n"})
    plan.do("B1", **{"shared.txt": "theirs\n", "b/b1.txt": "1\n"})
    refresh(plan.store)
    with pytest.raises(Conflict):
        plan.merge()
    return Repo(plan.repo.path.with_name("repo.worktrees") / "resolve-MP1")


@pytest.fixture
def conflict(tmp_path: Path) -> tuple[Plan, Repo]:
    plan = planned(tmp_path / "repo", shared_paths="[shared.txt]")
    hooks.install(plan.store.repo)
    return plan, conflicting(plan)


def test_a_conflict_that_waits(conflict: tuple[Plan, Repo]) -> None:
    plan, checkout = conflict
    assert mend(plan) == [f"merges: warning: a conflict of MP1 waits in {checkout.path}"]
    record = plan.repo.path / ".git/gitwaves/merging/MP1.json"
    kept = record.read_bytes()
    checkout.commit("Resolved", **{"shared.txt": "both\n"})
    plan.merge(resume=True)
    assert look(plan) == []
    # As one that was killed between landing and removing the checkout leaves it.
    plan.repo.git("worktree", "add", "-q", "--detach", str(checkout.path), json.loads(kept)["ours"])
    record.write_bytes(kept)
    checkout.git("read-tree", "-um", str(plan.fact("MP1").tracking.evidence.commit))  # type: ignore[union-attr]
    line = f"merges: warning: {checkout.path} is left of a conflict of MP1, "
    line += "which waits for nothing any more"
    assert look(plan) == [line]
    checkout.write("note.txt", "mine")
    assert mend(plan) == [line, f"  left: {checkout.path} holds files that were not landed"]
    checkout.git("add", "note.txt")
    assert mend(plan) == [line, f"  left: {checkout.path} holds something else than was landed"]
    checkout.git("rm", "-qf", "note.txt")
    checkout.write("shared.txt", "mine")
    assert mend(plan) == [line, f"  left: {checkout.path} holds more than was landed"]
    checkout.write("shared.txt", "both\n")
    assert mend(plan) == [line, f"  mended: removed {checkout.path}"]
    assert not checkout.path.exists()
    assert not record.exists()


def test_what_is_left_of_a_merge_that_was_killed(conflict: tuple[Plan, Repo]) -> None:
    plan, checkout = conflict
    record = plan.repo.path / ".git/gitwaves/merging/MP1.json"
    kept = record.read_bytes()
    record.unlink()
    line = f"merges: {checkout.path} is left of a merge of MP1 that was killed"
    assert mend(plan) == [line, f"  left: {checkout.path} may hold somebody's work"]
    checkout.git("reset", "-q", "--hard")
    assert mend(plan) == [line, f"  mended: removed {checkout.path}"]
    record.write_bytes(kept)
    line = f"merges: warning: a conflict of MP1 waits in {checkout.path}, which is gone"
    assert mend(plan) == [line, f"  mended: removed {record}"]


# --- agents ------------------------------------------------------------------------------------


@pytest.fixture
def dead() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_agents(plan: Plan, dead: int) -> None:
    folder = plan.repo.path / ".git/gitwaves/agents"

    def record(task: str, runner: int, marker: str) -> Path:
        text = json.dumps({"marker": marker, "runner": runner})
        return plan.repo.write(folder / f"{task}.json", text)

    record("A1", dead, "A1-gone")
    plan.repo.write(folder / "B1.json", "{")
    plan.repo.write(folder / "C1.stop", "")
    record("B2", os.getpid(), "B2-here")
    plan.repo.write(folder / "B2.stop", "")
    assert look(plan) == [
        "agents: warning: an agent of A1 is recorded, and is gone",
        "agents: warning: an agent of B1 is recorded, and is gone",
        "agents: warning: a stop is asked for of an agent of C1, and none is at work",
    ]
    mend(plan)
    assert sorted(p.name for p in folder.iterdir()) == ["B2.json", "B2.stop"]
    record("A1", dead, "A1-orphan")
    orphan = subprocess.Popen(["sleep", "60"], env={**os.environ, "GITWAVES_RUN": "A1-orphan"})
    try:
        until(lambda: look(plan))
        line = f"agents: the agent of A1 still works (process {orphan.pid}), "
        line += "and the `gitwaves run` that started it is gone"
        assert mend(plan) == [line]
        assert orphan.poll() is None
        assert (folder / "A1.json").exists()
        plan.repo.gw_ok("stop", "A1")
        assert orphan.wait() == -signal.SIGTERM
    finally:
        orphan.kill()
    assert look(plan) == []


# --- leftovers, caches, the dashboard ----------------------------------------------------------


def test_leftovers_of_killed_processes(plan: Plan, dead: int) -> None:
    state = plan.repo.path / ".git/gitwaves"
    old = plan.repo.write(state / f"index-{dead}-abc/index", "")
    living = plan.repo.write(state / f"index-{os.getpid()}-abc/index", "")
    names = ["receipts/A1/.x.json.tmp", "made/.ws%2FA.tmp", "cache/new-abc", "merging/.MP1.json.t"]
    files = [plan.repo.write(state / name, "half") for name in names]
    files.append(plan.repo.write(".git/hooks/.gitwaves-abc", "half"))
    assert look(plan) == [  # what is young may be about to be renamed
        f"leftovers: warning: left by gitwaves processes that were killed: {old.parent}"
    ]
    for file in files:
        os.utime(file, (time.time() - 7200,) * 2)
    (line,) = look(plan)
    assert line.startswith("leftovers: warning: left by gitwaves processes that were killed: ")
    assert "and 3 more" in line
    assert mend(plan) == [line, "  mended: removed 6"]
    assert not old.parent.exists()
    assert not any(file.exists() for file in files)
    assert living.exists()


def test_a_killed_verification_leaves_an_index_that_is_found(plan: Plan) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom gitwaves.git import Repo\n"
        "repo = Repo.open(Path(sys.argv[1]))\n"
        "with repo.index_copy(repo.here()):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(plan.repo.path)], check=False)
    assert "left by gitwaves processes that were killed" in look(plan)[0]
    mend(plan)
    assert not list((plan.repo.path / ".git/gitwaves").glob("index-*"))


def test_what_is_about_tasks_that_are_gone(plan: Plan) -> None:
    state = plan.repo.path / ".git/gitwaves"
    worktree = plan.do("A1")
    refresh(plan.store)
    plan.repo.write(state / "receipts/Z9/1.json", "{}")
    plan.repo.write(state / "watched/Z9", "x 1")
    plan.repo.write(state / "unprepared/ws%2FC", "")
    note_made(plan.store.repo, Branch("ws/B"), ["b/log"])
    note_made(plan.store.repo, Branch("ws/A"), ["a/log"])
    (line,) = look(plan)
    assert line.startswith("leftovers: warning: about tasks and worktrees that are gone: ")
    assert mend(plan) == [line, "  mended: removed 4"]
    assert (state / "receipts/A1").is_dir()
    assert (state / "made/ws%2FA").exists()
    plan.repo.write(state / "receipts/A2/1.json", "{}")
    card = plan.repo.path / ".workstreams/WS-A/A2.yaml"
    card.write_text("id: [\n")
    plan.repo.commit("Spoil a card")
    plan.repo.gw("sync")
    assert not [line for line in look(plan) if "gone" in line]  # a card that cannot be read is not
    worktree.git("status")


def test_a_cache_that_cannot_be_read(plan: Plan) -> None:
    plan.repo.gw_ok("status")
    folder = plan.repo.path / ".git/gitwaves/cache"
    (good,) = folder.iterdir()
    bad = plan.repo.write(folder / "0123", good.read_bytes()[:-1])
    assert mend(plan) == [
        f"leftovers: warning: no cache that can be read: {bad}",
        "  mended: removed 1",
    ]
    assert list(folder.iterdir()) == [good]


def test_a_dashboard_that_is_out_of_date(plan: Plan) -> None:
    refresh(plan.store)
    plan.repo.git("branch", "-q", "-f", "ws/A", "main")
    plan.repo.git("worktree", "add", "-q", "../x", "ws/A")
    card = plan.repo.read(".workstreams/WS-A/A1.yaml").replace("planned", "active")
    plan.repo.at("../x").commit("by hand", **{".workstreams/WS-A/A1.yaml": card})
    plan.repo.git("worktree", "remove", "../x")
    line = "dashboard: warning: gitwaves/dashboard does not show what is read now"
    assert line in look(plan)
    found = mend(plan)
    assert found[found.index(line) + 1] == "  mended: gitwaves/dashboard is up to date"
    assert "1 active" in plan.repo.git("show", "gitwaves/dashboard:DASHBOARD.txt")


# --- beside others, and `clean` ----------------------------------------------------------------


def test_beside_agents_at_work(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor --fix`, over and over, while two worktrees go through commit and verify."""
    monkeypatch.setattr(doctoring, "_PATIENCE", 60)
    for line in ("A1", "B1"):
        plan.start(line)
    trees = {t: plan.repo.path.with_name("repo.worktrees") / f"ws-{t[0]}" for t in ("A1", "B1")}
    script = (
        "set -e; mkdir -p {d}; echo {t} > {d}/{f}.txt; git add -A; git commit -qm {t}; "
        "{py} -m gitwaves --trust-trunk verify; {py} -m gitwaves status >/dev/null"
    )
    agents = [
        subprocess.Popen(
            ["sh", "-c", script.format(d=t[0].lower(), t=t, f=t.lower(), py=sys.executable)],
            cwd=path,
            stdout=subprocess.DEVNULL,
        )
        for t, path in trees.items()
    ]
    rounds = 0
    while any(agent.poll() is None for agent in agents):
        for outcome in doctor(plan.repo.path, fix=True).outcomes:
            # a Git lock or the dashboard of this very moment is all that may be seen
            assert outcome.trouble.severity == "warning", outcome
            assert outcome.trouble.check in {"locks", "dashboard"}, outcome
        rounds += 1
    assert rounds
    assert [agent.wait() for agent in agents] == [0, 0]
    assert (plan.states()["A1"], plan.states()["B1"]) == ("done", "done")
    doctor(plan.repo.path, fix=True)
    assert look(plan) == []
    plan.sound()


def test_clean_and_doctor_do_not_do_each_others_work(plan: Plan) -> None:
    """What is finished is `clean`'s, what is broken or left by a kill `doctor`'s."""
    plan.do("A1")
    plan.do("B1")
    plan.merge()
    assert mend(plan) == []  # landed worktrees, branches, receipts and logs are no trouble
    before = everything(plan.repo.path / ".git/gitwaves")
    plan.repo.write(".git/gitwaves/receipts/Z9/1.json", "{}")
    plan.repo.gw_ok("clean")
    assert (plan.repo.path / ".git/gitwaves/receipts/Z9").is_dir()
    mend(plan)
    assert everything(plan.repo.path / ".git/gitwaves") == before
