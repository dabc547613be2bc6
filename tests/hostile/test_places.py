"""Whatever a name, a path, a link or the environment says: no code run, no file touched outside."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.hostile import HEAD, outside, quiet, short
from tests.repo import Repo
from tests.test_repositories import (
    A1,
    B1,
    CONFIG,
    PLAN,
    gw,
    gw_ok,
    says,
    started,
    states,
    verified,
)

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
    short(
        ["-x", "--upload-pack=touch pwned", "../A1", "/etc/passwd", ".git/hooks/x", "A1\n", ""],
        "-x",
    ),
)
def test_ids_on_the_command_line(plan: Repo, name: str) -> None:
    for command in ("show", "start", "verify", "merge", "brief", "logs", "stop", "status", "check"):
        quiet(gw(plan, command, "--", name))
    quiet(gw(plan, "learn", "--", name, "x"))
    quiet(gw(plan, "import", "--draft", "--", name))
    quiet(gw(plan, "init", f"--trunk={name}", "--no-hooks"))
    assert plan.git("branch", "--list", "ws/*") == ""
    assert plan.git("status", "--porcelain") == ""


BRANCHES = ["-x", "--upload-pack=x", "../x", "main", "gitwaves/dashboard", "refs/heads/main", "HEAD",
            "a..b", "x.lock", "/x", "x y", "@{-1}", "gitwaves/rescued/x"]  # fmt: skip


@pytest.mark.parametrize("branch", short(BRANCHES, "-x", "main"))
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


@pytest.mark.parametrize("place", short(PLACES, ".git/pwned/{name}", "link/pwned-{name}"))
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


@pytest.mark.parametrize("file", short(FILES, "../x", "link/x"))
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
    "value", short(["../x", "/etc/passwd", ".git/config", "-x", "link", "docs/\\e[2J"], "link")
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
    path.parent.mkdir(parents=True, exist_ok=True)
    Repo(path.parent).git("init", "-q", "--bare", "-b", "main", str(path))
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


@pytest.mark.parametrize(
    "remote",
    short(
        ["vendor/evil.git", "--upload-pack=touch", "ext::touch", "./vendor/evil.git", "file:vendor",
         "vendor/../vendor/evil.git", "https://localhost:1/x"],
        "vendor/evil.git",
    ),
)  # fmt: skip
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


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("link", short(LINKS, A1, ".workstreams/DASHBOARD.txt"))
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


@pytest.mark.parametrize(
    "part",
    short(
        ["", "receipts", "receipts/A1", "logs", "logs/A1", "at-work", "alone", "made", "unprepared",
         "cache", "clone", "lock"],
        "receipts/A1",
    ),
)  # fmt: skip
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
