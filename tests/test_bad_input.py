"""What is wrong in a repository or on a command line is said, and changes nothing."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo import Repo
from tests.test_one_task import A1, A2, bytes_of, edit, planned, started, states

NO_PLAN = (
    "Error: there is no plan in this repository yet\n"
    "Hint: run `gitwaves init`, then `gitwaves import DOC`\n"
)
READING = (["status"], ["next"], ["show", "A1"], ["brief", "A1"], ["logs", "A1"])
WRITING = (["start", "A1"], ["verify", "A1"], ["merge", "MP1"], ["sync"], ["learn", "A1", "x"])


@pytest.fixture
def plan(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A plan of A1, A2 and B1 of which nothing is begun."""
    return planned(tmp_path / "repo", tmp_path_factory)


def fails(repo: Repo, *args: str, code: int = 1) -> str:
    """Runs gitwaves, which must fail, say so and print nothing else; what it said."""
    done = repo.gw(*args)
    assert (done.code, done.out) == (code, ""), done
    assert done.err.startswith("Error: "), done
    return done.err


# --- the repository ----------------------------------------------------------------------------


@pytest.mark.parametrize("args", [*READING, *WRITING, ["init"], ["check"], ["plan"], ["trust"]])
def test_not_a_repository(tmp_path: Path, args: list[str]) -> None:
    assert fails(Repo(tmp_path), "-C", str(tmp_path), *args) == (
        f"Error: not a Git repository: {tmp_path}\nHint: run `git init` there first\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_no_such_folder(tmp_path: Path) -> None:
    assert fails(Repo(tmp_path), "-C", "nowhere", "status") == "Error: no such folder: nowhere\n"


@pytest.mark.parametrize("args", [*READING, *WRITING])
def test_a_repository_without_commits(repo: Repo, args: list[str]) -> None:
    assert fails(repo, *args) == NO_PLAN
    assert repo.git("for-each-ref") == ""


def test_a_plan_in_a_repository_without_commits(repo: Repo) -> None:
    repo.gw_ok("init")
    for args in (["status"], ["next"], ["start", "A1"]):
        assert fails(repo, *args) == (
            "Error: .workstreams/ is not committed on main yet\n"
            "Hint: on main: git add .workstreams && git commit -m 'Plan the work'\n"
        )
    repo.gw_ok("check")
    repo.gw_ok("plan")


def test_a_bare_repository(tmp_path: Path) -> None:
    bare = Repo(tmp_path)
    bare.git("init", "-q", "--bare", "-b", "main", "bare.git")
    assert fails(bare.at("bare.git"), "status") == NO_PLAN
    assert fails(bare.at("bare.git"), "init") == (
        "Error: this is a bare repository\nHint: run this in one of its worktrees\n"
    )


def test_a_detached_head(plan: Repo) -> None:
    plan.git("checkout", "-q", "--detach")
    assert states(plan)["A1"] == "runnable"
    a1 = started(plan, "A1")
    a1.git("checkout", "-q", "--detach")
    assert fails(a1, "verify") == (
        "Error: no task is at work here: HEAD is detached\n"
        "Hint: this is the worktree of ws/A: go back with `git switch ws/A`\n"
    )
    assert "is on a detached HEAD, not on ws/A\nHint: `git -C " in fails(a1, "verify", "A1")


def test_init_on_a_detached_head(repo: Repo) -> None:
    repo.commit("Start", **{"README.md": "x\n"})
    repo.git("branch", "-m", "topic")
    repo.git("checkout", "-q", "--detach")
    assert fails(repo, "init") == (
        "Error: HEAD is detached, so trunk cannot be guessed\nHint: say `gitwaves init --trunk NAME`\n"
    )
    assert not (repo.path / ".workstreams").exists()


def test_a_missing_trunk(plan: Repo) -> None:
    plan.git("branch", "-m", "main", "topic")
    plan.git("config", "--unset", "gitwaves.trunk", check=False)
    for args in (["status"], ["next"], ["start", "A1"]):
        assert fails(plan, *args) == (
            "Error: the trunk branch 'main' does not exist\n"
            "Hint: set `trunk:` in .workstreams/config.yaml to one of: topic\n"
        )


# --- the command line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [["show"], ["brief"], ["start"], ["verify"], ["stop"], ["logs"], ["start", "--release"]],
)
def test_an_unknown_id(plan: Repo, args: list[str]) -> None:
    said = fails(plan, *args, "A11", code=2)
    assert "'A11'\n" in said
    assert said.endswith("Hint: did you mean A1?\n")
    assert "gitwaves status" in fails(plan, *args, "zzzzzzz", code=2)


def test_an_unknown_merge_point(plan: Repo) -> None:
    said = fails(plan, "merge", "MP1", code=2)
    assert said.startswith("Error: no merge point 'MP1'\nHint: ")


def test_an_unknown_command(repo: Repo) -> None:
    assert fails(repo, "statsu", code=2) == (
        "Error: No such command 'statsu'; did you mean 'status'?\n"
        "Hint: `gitwaves --help` shows how it is called\n"
    )


def test_an_unknown_option(repo: Repo) -> None:
    said = fails(repo, "status", "--jsn", code=2)
    assert said.startswith("Error: No such option")
    assert "--json" in said
    assert said.endswith("Hint: `gitwaves status --help` shows how it is called\n")


def test_an_unknown_revision(plan: Repo) -> None:
    for command in ("status", "check", "plan"):
        assert fails(plan, command, "nowhere") == (
            "Error: no commit 'nowhere'\nHint: name a branch, a tag or a commit\n"
        )


@pytest.mark.parametrize("command", ["status", "next", "plan", "check", "show A1", "--help"])
def test_a_reader_that_goes_away(plan: Repo, command: str) -> None:
    line = f"{sys.executable} -m gitwaves {command} | true; exit $?"
    done = subprocess.run(["sh", "-c", line], cwd=plan.path, capture_output=True, check=True)
    assert b"Traceback" not in done.stderr
    assert b"Broken" not in done.stderr
    line = f"{sys.executable} -m gitwaves {command} | head -1"
    done = subprocess.run(["sh", "-c", line], cwd=plan.path, capture_output=True, check=True)
    assert b"Traceback" not in done.stderr
    assert b"Broken" not in done.stderr


# --- the cards ---------------------------------------------------------------------------------


def test_a_card_that_is_no_yaml(plan: Repo) -> None:
    plan.commit("Break it", **{".workstreams/WS-A/A2.yaml": "id: A2\ntitle: [unclosed\n"})
    done = plan.gw("check")
    assert done.code == 1
    (error,) = [line for line in done.out.splitlines() if ": error: " in line]
    assert error.startswith(f"{A2}:3:1: error: ")
    shown = plan.gw_ok("status")
    assert "1 errors in the cards: run `gitwaves check main`" in shown.out + shown.err
    assert states(plan)["A1"] == "runnable"
    assert json.loads(plan.gw_ok("status", "--json").out)["warnings"]
    started(plan, "A1")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe\x00",
        b"- a\n- b\n",
        b"id: &a A2\ntitle: *a\n",
        b"id: A2\nid: A2\n",
        b"!!python/object/apply:os.system [echo]\n",
        b"a: " * 5000,
        b"[" * 20000,
        b"id: A2\ntitle: " + b"x" * 300_000,
        b"\0",
    ],
    ids=["empty", "binary", "list", "alias", "twice", "tag", "nested", "brackets", "huge", "nul"],
)
def test_a_card_of_any_bytes_is_a_finding(plan: Repo, text: bytes) -> None:
    plan.write(".workstreams/WS-A/A2.yaml", text)
    done = plan.gw("check")
    assert done.code == 1, done
    assert done.out.startswith(".workstreams/"), done
    assert ".workstreams/WS-A/A2.yaml:" in done.out
    assert "bug" not in done.err
    plan.commit("Break it")
    assert states(plan)["A1"] == "runnable"


def test_a_name_that_is_a_file_of_ours(plan: Repo) -> None:
    plan.write(".workstreams/WS-A/Workstream.yaml", plan.read(A2).replace("A2", "Workstream"))
    done = plan.gw("check")
    assert done.code == 1
    assert "error: 'Workstream' cannot be an id: it is reserved" in done.out


def test_a_cycle(plan: Repo) -> None:
    edit(plan, A1, "depends_on: []\n", "depends_on: [A2]\n")
    done = plan.gw("check")
    assert done.code == 1
    assert "A1 -> A2 -> A1" in done.out
    assert fails(plan, "plan") == (
        "Error: dependency cycle: A1 -> A2 -> A1\n"
        "Hint: drop one of these `depends_on` entries, then run `gitwaves check`\n"
    )
    assert states(plan)["A1"] == "runnable"  # trunk has no cycle yet
    plan.commit("A cycle")
    for args in (["status"], ["next"], ["start", "A1"]):
        assert fails(plan, *args).startswith("Error: dependency cycle: A1 -> A2 -> A1\nHint: ")
    assert plan.git("branch", "--list", "ws/*") == ""


def test_cards_that_are_links(plan: Repo, tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("secret: yes\n")
    card = plan.path / A2
    card.unlink()
    card.symlink_to(secret)
    done = plan.gw("check")
    assert done.code == 1
    assert f"{A2}:1:1: error: " in done.out
    assert "symbolic link" in done.out
    assert "secret:" not in done.out


def test_a_folder_of_cards_that_is_a_link(plan: Repo, tmp_path: Path) -> None:
    (plan.path / ".workstreams").rename(tmp_path / "elsewhere")
    (plan.path / ".workstreams").symlink_to(tmp_path / "elsewhere")
    before = sorted(p.name for p in (tmp_path / "elsewhere").iterdir())
    done = plan.gw("check")
    assert done.code == 1
    assert ".workstreams:1:1: error: " in done.out
    assert "symbolic link" in done.out
    for args in (["init", "--no-hooks"], ["import", "docs/design.md"], ["status", "--write"]):
        said = plan.gw(*args)
        assert said.code == 1, said
        assert said.err.startswith("Error: "), said
        assert "symbolic link" in said.err
        assert "Hint: " in said.err
    assert sorted(p.name for p in (tmp_path / "elsewhere").iterdir()) == before
    assert states(plan)["A1"] == "runnable"


# --- what is in the way ------------------------------------------------------------------------


def test_the_folder_of_a_worktree_is_there_already(plan: Repo) -> None:
    path = plan.path.parent / "repo.worktrees/ws-A"
    path.mkdir(parents=True)
    (path / "mine").write_text("x\n")
    assert fails(plan, "start", "A1") == (
        f"Error: {path} is there already, and is not the worktree of ws/A\n"
        "Hint: move it away, or set `worktrees:` in .workstreams/config.yaml to another place\n"
    )
    assert plan.git("branch", "--list", "ws/*") == ""
    assert (path / "mine").read_text() == "x\n"


def test_no_identity(plan: Repo, home: Path) -> None:
    (home / ".gitconfig").write_text("[user]\n\tuseConfigOnly = true\n")
    said = fails(plan, "start", "A1")
    assert said.startswith("Error: Git does not know who you are\nHint: run `git config user.name")
    assert plan.git("branch", "--list", "ws/*") == ""


def test_a_locked_index(plan: Repo) -> None:
    a1 = started(plan, "A1")
    a1.commit("x", **{"ledger/a1.txt": "ok\n"})
    lock = plan.path / ".git/worktrees/ws-A/index.lock"
    lock.touch()
    tip = a1.oid()
    said = fails(a1, "verify")
    assert "index.lock" in said
    assert "Hint: another git process may be running" in said
    assert a1.oid() == tip
    lock.unlink()
    assert a1.gw_ok("sync").out == "A1 is done\nrunnable now: A2 B1\n"


def limited(repo: Repo, *args: str) -> tuple[int, str]:
    """Runs gitwaves where no file may hold a byte, as on a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    done = subprocess.run(
        [sys.executable, "-m", "gitwaves", *args],
        cwd=repo.path,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=limit,
        check=False,
    )
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize(
    "args",
    [["start", "A1"], ["import", "docs/design.md"], ["trust", "--yes"], ["status", "--write"]],
)
def test_a_full_disk(plan: Repo, home: Path, args: list[str]) -> None:
    doc = plan.read("docs/design.md")
    plan.commit("More", **{"docs/design.md": doc.replace("The sums.", "All sums.")})
    if args[0] == "trust":
        edit(plan, A1, "grep -q ok", "grep -qx ok")
        plan.commit("Other steps")
    elif args == ["status", "--write"]:
        started(plan, "A1")
    before, refs = bytes_of(plan), plan.git("for-each-ref")
    trusted = sorted(p.read_bytes() for p in home.rglob("*.json"))
    code, said = limited(plan, *args)
    assert code == 1, said
    assert said.startswith("Error: "), said
    assert "\nHint: " in said, said
    assert "bug" not in said
    assert plan.git("for-each-ref") == refs
    assert plan.git("status", "--porcelain") == ""
    assert {k: v for k, v in bytes_of(plan).items() if not k.startswith(".git/")} == {
        k: v for k, v in before.items() if not k.startswith(".git/")
    }
    assert sorted(p.read_bytes() for p in home.rglob("*.json")) == trusted
    assert plan.git("fsck", "--no-dangling") == ""
    plan.gw_ok(*args)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write what is read-only")
def test_a_read_only_repository(plan: Repo) -> None:
    folders = [p for p in (plan.path / ".git").rglob("*") if p.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        said = fails(plan, "start", "A1")
        plan.gw_ok("status")
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert "\nHint: " in said
    assert plan.git("branch", "--list", "ws/*") == ""


@pytest.mark.parametrize("name", ["main~0", "main^0", "main@{0}", "a b", "../../HEAD"])
def test_a_revision_is_no_branch(repo: Repo, name: str) -> None:
    repo.commit("One", **{"a.txt": "a\n"})
    assert name in fails(repo, "init", "--trunk", name)
    assert not (repo.path / ".workstreams").exists()


def test_a_tag_that_is_called_as_a_branch(plan: Repo) -> None:
    plan.git("tag", "refs/heads/ws/A", "main")
    started(plan, "A1")
    assert plan.git("rev-parse", "refs/heads/ws/A") != plan.git("rev-parse", "main")


def test_a_hook_without_a_name(plan: Repo) -> None:
    fails(plan, "hook", code=2)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("core.bare", "yes", "bare"),
        ("extensions.fromLater", "true", "extension"),
        ("core.repositoryFormatVersion", "99", "version"),
    ],
)
def test_what_git_refuses_is_refused(plan: Repo, key: str, value: str, said: str) -> None:
    if key.startswith("extensions"):
        plan.git("config", "core.repositoryFormatVersion", "1")
    plan.git("config", key, value)
    assert said in fails(plan, "check")
