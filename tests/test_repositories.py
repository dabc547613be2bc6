"""In every kind of repository the whole way works, or one clear sentence says why not."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitwaves.cli import main
from tests.repo import Repo, Result

SEPARATOR = "# --- tracking: written by gitwaves on the worktree's branch ---\n"
A1 = ".workstreams/WS-A/A1.yaml"
B1 = ".workstreams/WS-B/B1.yaml"
CONFIG = ".workstreams/config.yaml"
PLAN = {
    ".workstreams/.gitattributes": "* -text\n",
    CONFIG: "version: 1\ntitle: Kinds\ntrunk: main\n",
    ".workstreams/WS-A/workstream.yaml": "title: Part A\npaths: [a/**]\n",
    A1: "id: A1\ntitle: First\nspec: Write a/a1.txt.\nverify:\n  - run: grep -q one a/a1.txt\n"
    f"{SEPARATOR}tracking:\n  task: A1\n  status: planned\n",
    ".workstreams/WS-B/workstream.yaml": "title: Part B\npaths: [b/**]\n",
    B1: "id: B1\ntitle: Second\ndepends_on: [MP1]\nverify:\n  - run: grep -q two b/b1.txt\n"
    f"{SEPARATOR}tracking:\n  task: B1\n  status: planned\n",
    ".workstreams/merge-points/MP1.yaml": "id: MP1\ntitle: The first\nrequires: [A1]\n"
    f"{SEPARATOR}tracking:\n  task: MP1\n  status: planned\n",
    "README.md": "Kinds\n",
    "b/old.txt": "old\n",
}
DESIGN = """\
# Kinds

## WS-A: Part A
Paths: `a/**`

### A1: First
Depends on: none
Verify: `grep -q one a/a1.txt`

Write a/a1.txt.

## Merge points
- MP1: A1
"""


def with_plan(repo: Repo, **config: str) -> Repo:
    """The plan, committed where `repo` stands; `config` are further lines of config.yaml."""
    lines = "".join(f"{key}: {value}\n" for key, value in config.items())
    repo.commit("Plan the work", **{**PLAN, CONFIG: PLAN[CONFIG] + lines})
    return repo


def gw(repo: Repo, *args: str) -> Result:
    """Runs gitwaves in this very process, which is faster; else as `Repo.gw`."""
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["-C", str(repo.path), "--trust-trunk", *args])
        except SystemExit as ended:
            code = ended.code
    return Result(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def gw_ok(repo: Repo, *args: str) -> Result:
    done = gw(repo, *args)
    assert done.code == 0, done
    return done


def says(done: Result, *, code: int = 1) -> str:
    """What a command said that had to fail, with one clear sentence and a hint."""
    assert (done.code, done.out) == (code, ""), done
    first, *others = done.err.splitlines()
    assert first.startswith("Error: "), done
    assert any(line.startswith("Hint: ") for line in others), done
    return done.err


def started(repo: Repo, task: str = "A1") -> Repo:
    """The worktree of a task that is started."""
    return Repo(Path(gw_ok(repo, "start", task).out.removesuffix("\n")))


def verified(worktree: Repo, path: str = "a/a1.txt", text: str = "one\n") -> None:
    """Does the task that is at work in a worktree."""
    worktree.write(path, text)
    assert " is done\n" in gw_ok(worktree, "verify", "--commit", "-m", "Do it").out


def whole_way(repo: Repo, land_from: Repo | None = None) -> Repo:
    """From a committed plan to a landed merge point; the worktree of A1."""
    a1 = started(repo)
    verified(a1)
    merged = gw_ok(land_from or repo, "merge", "MP1")
    assert merged.out.startswith("landed MP1 (A1) as ")
    assert merged.err == ""
    landed(repo)
    assert a1.git("status", "--porcelain") == ""
    return a1


def landed(repo: Repo) -> None:
    """A1 and MP1 are done on `main`, and nothing was harmed on the way."""
    shown = status(repo)
    assert {t["id"]: t["state"] for t in shown["tasks"]}["A1"] == "done"
    assert [p["state"] for p in shown["merge_points"]] == ["done"]
    assert shown["warnings"] == []
    assert repo.git("show", "main:a/a1.txt") == "one"
    card = repo.git("cat-file", "blob", f"main:{A1}")
    assert "\r" not in card
    assert "  status: done\n" in card
    assert repo.git("fsck", "--no-dangling", "--no-progress") == ""
    if repo.git("symbolic-ref", "-q", "HEAD", check=False) == "refs/heads/main" and (
        repo.git("rev-parse", "--is-bare-repository") == "false"
    ):
        assert repo.git("status", "--porcelain") == ""


def status(repo: Repo) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(gw_ok(repo, "status", "--json").out)
    return shown


def states(repo: Repo) -> dict[str, str]:
    return {task["id"]: task["state"] for task in status(repo)["tasks"]}


# --- the whole way -----------------------------------------------------------------------------


def plain(tmp: Path) -> Repo:
    return with_plan(Repo.init(tmp / "repo"))


def sha256(tmp: Path) -> Repo:
    repo = Repo(tmp)
    repo.git("init", "-q", "--object-format=sha256", "repo")
    return with_plan(repo.at("repo"))


def reftable(tmp: Path) -> Repo:
    repo = Repo(tmp)
    asked = repo.git("init", "-q", "--ref-format=reftable", "repo", check=False)
    if not (tmp / "repo/.git/reftable").exists():
        pytest.skip(f"this Git has no reftable {asked}")
    return with_plan(repo.at("repo"))


def separate_git_dir(tmp: Path) -> Repo:
    repo = Repo(tmp)
    repo.git("init", "-q", f"--separate-git-dir={tmp}/else where.git", "repo")
    return with_plan(repo.at("repo"))


def core_worktree(tmp: Path) -> Repo:
    repo = Repo.init(tmp / "git")
    (tmp / "files").mkdir()
    repo.git("config", "core.worktree", "../../files")
    files = repo.at("../files")
    files.write(".git", "gitdir: ../git/.git\n")
    return with_plan(files)


def submodule_itself(tmp: Path) -> Repo:
    library = with_plan(Repo.init(tmp / "library"))
    top = Repo.init(tmp / "super")
    allowed = ("-c", "protocol.file.allow=always")
    top.git(*allowed, "submodule", "--quiet", "add", str(library.path), "sub dir/lib")
    top.commit("Take the library")
    return top.at("sub dir/lib")


def bare_with_worktrees(tmp: Path) -> Repo:
    bare = Repo.clone(with_plan(Repo.init(tmp / "one")), tmp / "hub.git", "--bare")
    bare.git("worktree", "add", "-q", "../trunk", "main")
    return bare.at("../trunk")


def bare_alone(tmp: Path) -> Repo:
    return Repo.clone(with_plan(Repo.init(tmp / "one")), tmp / "hub.git", "--bare")


def hidden_bare(tmp: Path) -> Repo:
    """`project/.bare`, with a file `project/.git` that names it."""
    (tmp / "project").mkdir()
    bare = Repo.clone(with_plan(Repo.init(tmp / "one")), tmp / "project/.bare", "--bare")
    (tmp / "project/.git").write_text("gitdir: ./.bare\n")
    bare.git("worktree", "add", "-q", "../trunk", "main")
    return bare.at("..")


def odd_path(tmp: Path) -> Repo:
    repo = Repo.init(tmp / "a 'b' \"c\"\nd\t$(touch pwned) é; -x ")
    where = "../w 'x' \"y\"\nz $(touch pwned)/{name}\n"
    with_plan(repo, worktrees=json.dumps(where))
    gw_ok(repo, "hooks", "install")
    return repo


def worktree_config(tmp: Path) -> Repo:
    repo = Repo.init(tmp / "repo")
    repo.git("config", "extensions.worktreeConfig", "true")
    repo.git("config", "--worktree", "core.quotePath", "true")
    return with_plan(repo)


def alternates(tmp: Path) -> Repo:
    return Repo.clone(with_plan(Repo.init(tmp / "one")), tmp / "repo", "--shared")


def replaced(tmp: Path) -> Repo:
    """Trunk's tip stands, for this clone alone, for a commit without a plan and without parents."""
    repo = with_plan(Repo.init(tmp / "repo"))
    repo.git("replace", repo.oid(), repo.git("commit-tree", "-m", "Other", repo.git("mktree")))
    return repo


def grafted(tmp: Path) -> Repo:
    """Trunk's tip has no parents, for this clone alone, and `ws/A` none in common with it."""
    repo = with_plan(Repo.init(tmp / "repo"))
    repo.git("branch", "ws/A")
    repo.commit("Trunk goes on")
    repo.write(".git/info/grafts", repo.oid() + "\n")
    return repo


def detached(tmp: Path) -> Repo:
    repo = with_plan(Repo.init(tmp / "repo"))
    repo.git("checkout", "-q", "--detach")
    return repo


def odd_refs(tmp: Path) -> Repo:
    """Names that Git allows: a line separator, bytes that are no text, a file and a folder."""
    repo = with_plan(Repo.init(tmp / "repo"))
    for name in ("x\u2028y\x85z", os.fsdecode(b"caf\xe9"), "-x", "gitwaves/odd"):
        repo.git("update-ref", f"refs/heads/{name}", "HEAD")
        repo.git("update-ref", f"refs/remotes/origin/{name}", "HEAD")
    repo.git("update-ref", "refs/remotes/one-level", "HEAD")
    return repo


KINDS = (sha256, reftable, core_worktree, bare_alone, odd_path, replaced, grafted, odd_refs)
MORE_KINDS = (plain, bare_with_worktrees, hidden_bare, worktree_config, alternates, detached)


@pytest.mark.parametrize(
    "kind",
    [*KINDS, *(pytest.param(kind, marks=pytest.mark.long) for kind in MORE_KINDS)],
    ids=lambda kind: kind.__name__,
)
def test_the_whole_way(tmp_path: Path, kind: Callable[[Path], Repo]) -> None:
    repo = kind(tmp_path)
    tip = repo.git("rev-parse", "main", env={"GIT_NO_REPLACE_OBJECTS": "1"})
    if kind is replaced:  # the user's own Git is to see in `landed` what everybody has
        assert gw_ok(repo, "next").out.startswith("A1")
        repo.git("config", "core.useReplaceRefs", "false")
    a1 = whole_way(repo)
    assert list(tmp_path.rglob("pwned")) == []
    assert tip in repo.git("rev-list", "--first-parent", "main")
    if kind is sha256:
        assert len(a1.oid()) == 64


# --- where the main worktree is ----------------------------------------------------------------


def test_the_main_worktree_of_a_submodule_is_found_from_a_linked_one(tmp_path: Path) -> None:
    repo = submodule_itself(tmp_path)
    a1 = started(repo)
    whole_way(repo, land_from=a1)
    assert repo.read("a/a1.txt") == "one\n"
    assert repo.at("../..").git("status", "--porcelain") == ' M "sub dir/lib"'


def test_a_main_worktree_that_cannot_be_found_is_not_moved_under(tmp_path: Path) -> None:
    repo = separate_git_dir(tmp_path)
    a1 = started(repo)
    verified(a1)
    tip = repo.oid("main")
    assert says(gw(a1, "merge", "MP1")) == (
        "Error: main is checked out in the main worktree, which cannot be found from here\n"
        f"Hint: run the same command there: its Git directory, {tmp_path}/else where.git, "
        "does not say where it is\n"
    )
    assert repo.oid("main") == tip
    assert repo.git("status", "--porcelain") == ""
    gw_ok(repo, "merge", "MP1")
    landed(repo)


# --- what is not all there ---------------------------------------------------------------------

SHALLOW = (
    "this clone is shallow: what lies before its history is not looked at "
    "(`git fetch --unshallow` brings it)"
)


def test_a_shallow_clone_says_so(tmp_path: Path) -> None:
    hub = plain(tmp_path)
    verified(started(hub))
    hub.commit("Trunk goes on")
    url = f"file://{hub.path}"
    repo = Repo(tmp_path)
    repo.git("clone", "-q", "--depth=1", "--no-single-branch", url, "clone")
    repo = repo.at("clone")
    repo.git("branch", "-q", "ws/A", "origin/ws/A")
    shown = status(repo)
    assert shown["warnings"] == [SHALLOW]
    assert states(repo)["A1"] == "unproven"  # its commit is not here: nothing is taken on trust
    assert SHALLOW in gw_ok(repo, "status").out
    tip = repo.oid("ws/A")
    assert says(gw(repo, "start", "A1")).endswith(
        "have no common history here\n"
        "Hint: this clone is shallow: run `git fetch --unshallow`, then try again\n"
    )
    assert repo.oid("ws/A") == tip
    repo.git("fetch", "-q", "--unshallow")
    assert status(repo)["warnings"] == []
    assert states(repo)["A1"] == "done"
    gw_ok(repo, "merge", "MP1")
    landed(repo)


def test_the_whole_way_in_a_shallow_clone(tmp_path: Path) -> None:
    plain(tmp_path).commit("Trunk goes on")
    repo = Repo(tmp_path)
    repo.git("clone", "-q", "--depth=1", f"file://{tmp_path}/repo", "clone")
    repo = repo.at("clone")
    verified(started(repo))
    gw_ok(repo, "merge", "MP1")
    assert status(repo)["warnings"] == [SHALLOW]
    assert states(repo) == {"A1": "done", "B1": "runnable"}


def test_a_clone_of_one_branch_says_so(tmp_path: Path) -> None:
    hub = with_plan(Repo.init(tmp_path / "hub"), remote="origin")
    repo = Repo.clone(hub, tmp_path / "clone", "--single-branch")
    said = (
        "only some branches of origin are fetched: what others hold is not seen "
        "(`git remote set-branches origin '*'`, then `git fetch`)"
    )
    assert status(repo)["warnings"] == [said]
    repo.git("remote", "set-branches", "origin", "*")
    assert status(repo)["warnings"] == []
    assert status(hub)["warnings"] == [
        "the remote origin is not set up here: nothing of it is seen"
    ]


def partial_clone(tmp: Path, *options: str, branches: str = "CDEF") -> tuple[Repo, Repo]:
    """A hub on which some branches have work, and a clone of it without the files."""
    first = Repo.init(tmp / "first")
    for name in branches:
        first.write(f".workstreams/WS-{name}/workstream.yaml", f"paths: [{name.lower()}/**]\n")
        first.write(f".workstreams/WS-{name}/{name}1.yaml", PLAN[A1].replace("A1", f"{name}1"))
    with_plan(first, remote="origin")
    hub = Repo.clone(first, tmp / "hub.git", "--bare")
    hub.git("config", "uploadpack.allowFilter", "true")
    hub.git("config", "uploadpack.allowAnySHA1InWant", "true")
    worker = Repo.clone(hub, tmp / "worker")
    for name in branches:
        started(worker, f"{name}1")
    return hub, Repo.clone(hub, tmp / "clone", "--no-local", "--no-checkout", *options)


def fetches(repo: Repo, trace: Path, *args: str) -> int:
    """How often Git fetched while gitwaves ran, which must succeed."""
    trace.unlink(missing_ok=True)
    repo.gw_ok("--trust-trunk", *args, env={"GIT_TRACE2_EVENT": str(trace)})
    events = map(json.loads, trace.read_text().splitlines())
    return sum(e["event"] == "cmd_name" and e["name"] == "fetch" for e in events)


def test_a_partial_clone_is_read_in_a_few_fetches(tmp_path: Path) -> None:
    hub, repo = partial_clone(tmp_path, "--filter=blob:none")
    assert fetches(repo, tmp_path / "trace", "status") <= 4  # 14 files that differ
    assert fetches(repo, tmp_path / "trace", "status") == 0
    hub.path.rename(tmp_path / "gone")
    for args in (["status"], ["next"], ["show", "A1"], ["check", "origin/main"]):
        gw_ok(repo, *args)
    (tmp_path / "gone").rename(hub.path)
    repo.git("checkout", "-q", "main")
    whole_way(repo)


def test_a_partial_clone_without_its_remote_says_so(tmp_path: Path) -> None:
    hub, repo = partial_clone(tmp_path, "--filter=blob:none", branches="C")
    hub.path.rename(tmp_path / "gone")
    for args in (["status"], ["start", "A1"], ["check", "origin/main"]):
        said = says(gw(repo, *args))
        assert "not in this partial clone, and cannot be fetched\nHint: run the same" in said
    config = Repo(tmp_path / "gone").git("rev-parse", f"main:{CONFIG}")
    (tmp_path / "gone").rename(hub.path)
    repo.git("cat-file", "blob", config)  # fetches it: now the plan is found, and its cards are not
    hub.path.rename(tmp_path / "gone")
    said = says(gw(repo, "status"))
    assert " objects are not in this partial clone, and cannot be fetched\n" in said
    assert repo.git("branch", "--list", "ws/*") == ""


@pytest.mark.long
def test_a_clone_without_trees(tmp_path: Path) -> None:
    _, repo = partial_clone(tmp_path, "--filter=tree:0")
    gw_ok(repo, "status")
    assert fetches(repo, tmp_path / "trace", "status") == 0
    assert states(repo)["C1"] == "active"


def test_a_damaged_card_is_not_a_missing_one(tmp_path: Path) -> None:
    repo = plain(tmp_path)
    blob = repo.git("rev-parse", f"main:{B1}")
    file = repo.path / ".git/objects" / blob[:2] / blob[2:]
    data = file.read_bytes()
    file.chmod(0o644)
    file.unlink()
    assert says(gw(repo, "status")) == (
        f"Error: {B1} of {repo.oid()[:10]} is not in this repository\n"
        "Hint: `git fsck` says what is damaged; fetch it anew\n"
    )
    file.write_bytes(data[:-4])
    assert says(gw(repo, "status")) == (
        f"Error: the object {blob} cannot be read\nHint: `git fsck` says what is damaged\n"
    )


# --- sparse checkouts --------------------------------------------------------------------------


@pytest.mark.parametrize("cone", [True, False])
def test_a_sparse_checkout(tmp_path: Path, cone: bool) -> None:
    repo = plain(tmp_path)
    repo.commit("More", **{"c/c.txt": "c\n"})
    chosen = ["--cone", "a", ".workstreams/WS-A"] if cone else ["--no-cone", "/a/", "/README.md"]
    repo.git("sparse-checkout", "set", *chosen)
    assert not (repo.path / B1).exists()
    assert "error" not in gw_ok(repo, "check").out  # such as that A1 is not there
    assert "B1" in gw_ok(repo, "plan").out
    a1 = whole_way(repo)
    assert not (a1.path / "c/c.txt").exists()
    assert repo.git("show", "main:c/c.txt") == "c"
    before = repo.git("status", "--porcelain")
    done = gw(repo, "init", "--no-hooks")
    if cone:
        assert done.code == 0
    else:
        assert says(done) == (
            f"Error: .workstreams/ is outside the sparse checkout of {repo.path}\n"
            "Hint: run `git sparse-checkout add .workstreams` there first\n"
        )
        gw_ok(repo, "status")
    assert repo.git("status", "--porcelain") == before


def test_overlooked_files_are_refused(tmp_path: Path) -> None:
    repo = plain(tmp_path)
    repo.commit("More", **{"a/seen.txt": "one\n", "a/hidden\n.txt": "one\n"})
    a1 = started(repo)
    a1.write("a/a1.txt", "one\n")
    a1.git("update-index", "--skip-worktree", "a/hidden\n.txt")
    a1.write("a/hidden\n.txt", "two\n")
    assert says(gw(a1, "verify")) == (
        "Error: Git is told to overlook changes of a/hidden\\n.txt\n"
        "Hint: git update-index --no-assume-unchanged --no-skip-worktree FILE\n"
    )
    # sparse in the main worktree alone says nothing of this one
    repo.git("config", "extensions.worktreeConfig", "true")
    repo.git("config", "--worktree", "core.sparseCheckout", "true")
    assert "overlook" in says(gw(a1, "verify"))
    a1.git("config", "--worktree", "core.sparseCheckout", "true")
    gw_ok(a1, "verify")


# --- submodules --------------------------------------------------------------------------------


def test_submodules(tmp_path: Path) -> None:
    library = Repo.init(tmp_path / "library")
    library.commit("Start", **{"lib.txt": "one\n"})
    repo = plain(tmp_path)
    allowed = ("-c", "protocol.file.allow=always", "submodule", "--quiet")
    for path in ("a/lib", "c/lib"):
        repo.git(*allowed, "add", str(library.path), path)
    repo.commit("Take the library")
    a1 = started(repo)
    a1.git(*allowed, "update", "--init")
    inside, outside = a1.at("a/lib"), a1.at("c/lib")
    a1.write("a/a1.txt", "one\n")
    for change in ("lib.txt", "new.txt"):
        inside.write(change, "two\n")
        assert says(gw(a1, "verify")) == (
            "Error: submodules with changes that no commit here holds: a/lib\n"
            "Hint: commit or undo them in the submodule, then verify again\n"
        )
    outside.commit("Not mine", **{"lib.txt": "three\n"})
    inside.commit("Two")
    assert "c/lib belongs to no workstream" in says(gw(a1, "verify"))
    a1.git(*allowed, "update", "c/lib")
    verified(a1)
    assert a1.git("rev-parse", "HEAD:a/lib") == inside.oid()
    gw_ok(repo, "merge", "MP1")
    assert repo.git("rev-parse", "main:a/lib") == inside.oid()
    assert states(repo)["A1"] == "done"
    kept = gw_ok(repo, "clean").out
    assert kept == (
        f"kept {a1.path}: git worktree: working trees containing submodules cannot be moved or "
        "removed\n"
    )
    assert inside.read("lib.txt") == "two\n"


# --- names and line ends -----------------------------------------------------------------------


def test_names_of_any_bytes(tmp_path: Path) -> None:
    names = [b"caf\xe9", "é".encode(), b"tab\there", b"new\nline", b'"q"', b"\xff\xfe", b"\x1b[2J"]
    files = {os.fsdecode(b"b/" + name): "old\n" for name in names}
    repo = Repo.init(tmp_path / "repo")
    repo.commit("Start", **files)
    with_plan(repo)
    whole_way(repo)
    b1 = started(repo, "B1")
    for name in names:
        b1.write(os.fsdecode(b"b/" + name), "new\n")
        b1.write(os.fsdecode(b"b/two " + name), "new\n")
        b1.write(os.fsdecode(b"c/" + name), "new\n")
    said = b1.gw("--trust-trunk", "verify").err
    assert said.count(" belongs to no workstream") == len(names)
    assert "  c/caf\\udce9 belongs" in said
    assert "  c/new\\nline belongs" in said
    assert "\x1b" not in said
    shutil.rmtree(b1.path / "c")
    verified(b1, "b/b1.txt", "two\n")
    names_now = b1.git("ls-tree", "-z", "--name-only", "HEAD:b").split("\0")
    assert len(set(names_now) - {""}) == 2 * len(names) + 2
    gw_ok(repo, "merge", "--rest")
    assert repo.git("status", "--porcelain") == ""


def test_a_repository_whose_path_is_no_text(tmp_path: Path) -> None:
    top = Repo(tmp_path / os.fsdecode(b"caf\xe9 \xff"))
    repo = with_plan(Repo.init(top.path))
    gw_ok(repo, "hooks", "install")
    whole_way(repo)
    where = os.fsencode(top.path) + b".worktrees/ws-B"
    for locale in ("C.UTF-8", "POSIX", "en_US.UTF-8"):  # the last is not there, or strict
        done = subprocess.run(
            [sys.executable, "-m", "gitwaves", "--trust-trunk", "start", "B1"],
            cwd=repo.path,
            env={**os.environ, "LC_ALL": locale, "PYTHONIOENCODING": "utf-8:strict"},
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, where + b"\n"), done
    assert states(repo)["B1"] == "active"
    assert repo.gw_ok("status", "--json").out.isascii()


@pytest.mark.parametrize("how", ["autocrlf", "attributes"])
def test_line_ends(tmp_path: Path, how: str) -> None:
    repo = Repo.init(tmp_path / "repo")
    repo.write("docs/design.md", DESIGN)
    if how == "autocrlf":
        repo.git("config", "core.autocrlf", "true")
        repo.git("config", "core.safecrlf", "false")
    else:
        repo.write(".gitattributes", "* text=auto eol=crlf\n")
    repo.commit("Start")
    (repo.path / "docs/design.md").unlink()
    repo.git("checkout", "-q", "docs/design.md")
    assert "\r\n" in repo.read("docs/design.md")
    gw_ok(repo, "init")
    gw_ok(repo, "import", "docs/design.md")
    repo.commit("Plan the work")
    assert gw_ok(repo, "check", "--strict").out == ""  # the doc is the one that was imported
    assert "no card changes" in gw_ok(repo, "import", "docs/design.md").out
    repo.git("rm", "-rq", "--cached", ".")
    repo.git("reset", "-q", "--hard")
    a1 = whole_way(repo)
    for checkout in (repo, a1):
        assert "\r\n" in checkout.read("docs/design.md")
        for card in checkout.path.glob(".workstreams/**/*.yaml"):
            assert b"\r" not in card.read_bytes()


def test_ids_that_differ_in_case_alone(tmp_path: Path) -> None:
    repo = plain(tmp_path)
    repo.write(".workstreams/WS-B/a1.yaml", PLAN[A1].replace("A1", "a1"))
    done = gw(repo, "check")
    assert done.code == 1
    assert "the task a1 has the name of the task A1" in done.out


# --- what is not where it is expected ----------------------------------------------------------


def test_a_plan_below_the_top(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "mono")
    sub = repo.at("services/ledger")
    for path, text in PLAN.items():
        sub.write(path, text)
    sub.commit("Plan the work")
    for args in (["status"], ["start", "A1"], ["check"], ["init"], ["import", "README.md"]):
        assert says(gw(sub, *args)) == (
            f"Error: {sub.path}/.workstreams is below the top of its repository, "
            "where no plan is read\n"
            f"Hint: move it to {repo.path}/.workstreams; the paths in it are then those from there\n"
        )
    assert sub.git("status", "--porcelain") == ""
    repo.git("mv", "services/ledger/.workstreams", ".workstreams")
    repo.commit("Move the plan")
    whole_way(repo)
    for args in (["status"], ["check"], ["show", "A1"]):  # from any folder
        gw_ok(sub, *args)


def test_an_unborn_trunk(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path / "repo")
    repo.write("docs/design.md", DESIGN)
    gw_ok(repo, "init")
    said = says(gw(repo, "import", "docs/design.md"))
    assert said.startswith("Error: docs/design.md is not committed on main\nHint: ")
    gw_ok(repo, "import", "docs/design.md", "--draft")
    gw_ok(repo, "check")
    for args in (["status"], ["start", "A1"], ["merge", "MP1"], ["sync"]):
        assert "Error: .workstreams/ is not committed on main yet\n" in says(gw(repo, *args))
    assert repo.git("for-each-ref") == ""
    repo.commit("Plan the work")
    whole_way(repo)


def test_a_trunk_that_is_gone(tmp_path: Path) -> None:
    repo = plain(tmp_path)
    repo.git("branch", "-q", "-m", "main", "other")
    for args in (["status"], ["start", "A1"], ["merge", "MP1"], ["sync"], ["run"]):
        assert says(gw(repo, *args)) == (
            "Error: the trunk branch 'main' does not exist\n"
            f"Hint: set `trunk:` in {CONFIG} to one of: other\n"
        )
    assert repo.git("for-each-ref", "--format=%(refname)") == "refs/heads/other"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_somebody_elses_repository(tmp_path: Path) -> None:
    repo = plain(tmp_path)
    for folder, _, names in os.walk(repo.path):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chown(path, 12345, 12345)
    before = sorted(str(p) for p in repo.path.rglob("*"))
    for args in (["status"], ["start", "A1"], ["init"], ["check"]):
        said = says(gw(repo, *args))
        assert said == (
            f"Error: detected dubious ownership in repository at '{repo.path}'\n"
            "Hint: if you trust its owner: git config --global --add safe.directory "
            f"{repo.path}\n"
        )
    assert sorted(str(p) for p in repo.path.rglob("*")) == before
    repo.git("config", "--global", "--add", "safe.directory", str(repo.path))
    gw_ok(repo, "status")


# --- the environment ---------------------------------------------------------------------------


def test_variables_that_name_another_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = plain(tmp_path)
    other = Repo.init(tmp_path / "other")
    other.commit("Start")
    monkeypatch.setenv("GIT_DIR", f"{other.path}/.git")
    for args in (["status"], ["start", "A1"], ["init"], ["check"]):
        assert says(gw(repo, *args)) == (
            f"Error: GIT_DIR names another repository, {other.path}/.git\n"
            "Hint: unset GIT_DIR, or run this in a worktree of that repository\n"
        )
    monkeypatch.setenv("GIT_DIR", f"{repo.path}/.git")
    monkeypatch.setenv("GIT_WORK_TREE", str(other.path))
    assert says(gw(repo, "status")) == (
        f"Error: GIT_WORK_TREE names another folder, {other.path}\n"
        "Hint: unset GIT_WORK_TREE, or set core.worktree in that repository\n"
    )
    monkeypatch.setenv("GIT_WORK_TREE", str(repo.path))
    assert gw_ok(repo, "status").err == ""
    assert "GIT_DIR is set, but is not looked at" in says(gw(Repo(tmp_path), "status"))
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_WORK_TREE")
    a1 = started(repo)
    monkeypatch.setenv("GIT_DIR", f"{repo.path}/.git/worktrees/ws-A")  # as a hook there has it
    monkeypatch.setenv("GIT_INDEX_FILE", f"{repo.path}/.git/worktrees/ws-A/index")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", f"{other.path}/.git/objects")
    assert gw_ok(a1, "status").err == ""
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.delenv(name)
    assert other.git("status", "--porcelain") == ""
    assert other.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"
