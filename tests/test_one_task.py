"""One task from `init` to `done`, with real Git, real hooks and real processes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from gitwaves.cards import load_tracking
from gitwaves.halves import split
from gitwaves.model import Tracking
from tests.repo import Repo

DESIGN = """\
# Payments platform

## WS-A: Ledger
Paths: `ledger/**`

### A1: Schema
Depends on: none
Estimate: 2h
Verify: `grep -q ok ledger/a1.txt`

The tables.

### A2: Balances
Depends on: A1
Estimate: 1h
Verify: `grep -q ok ledger/a2.txt`

The sums.

## WS-B: API
Paths: `api/**`

### B1: Endpoints
Depends on: A1
Estimate: 30m
Verify: `grep -q ok api/b1.txt`

The routes.
"""
A1 = ".workstreams/WS-A/A1.yaml"
A2 = ".workstreams/WS-A/A2.yaml"
B1 = ".workstreams/WS-B/B1.yaml"
NO_HOOKS = ("-c", "core.hooksPath=/dev/null")

_template: dict[str, Path] = {}


def planned(path: Path, factory: pytest.TempPathFactory) -> Repo:
    """A repository at `path` with the plan of `DESIGN` committed and trusted, and hooks."""
    if "repo" not in _template:
        made = Repo.init(factory.mktemp("template") / "repo")
        made.commit("Start", **{"README.md": "Payments\n", "docs/design.md": DESIGN})
        made.gw_ok("init", "--title", "Payments")
        made.gw_ok("import", "docs/design.md")
        made.commit("Plan the work")
        _template["repo"] = made.path
    shutil.copytree(_template["repo"], path, symlinks=True)
    repo = Repo(path)
    repo.gw_ok("trust", "--yes")
    return repo


@pytest.fixture
def plan(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """The plan of `DESIGN`, of which nothing is begun."""
    return planned(tmp_path / "repo", tmp_path_factory)


@pytest.fixture
def a1(plan: Repo) -> Repo:
    """The worktree of A1, just started."""
    return started(plan, "A1")


def started(repo: Repo, task: str) -> Repo:
    return Repo(Path(repo.gw_ok("start", task).out.removesuffix("\n")))


def main_of(worktree: Repo) -> Repo:
    return Repo(worktree.path.parent.parent / "repo")


def hooked(repo: Repo, *args: str) -> str:
    """Runs git, which must succeed; all that it printed, what the hooks say included."""
    return repo.git("-c", 'alias.said=!f() { git "$@" 2>&1; }; f', "said", *args)


def refused(repo: Repo, *args: str) -> str:
    """Runs git, which must fail and leave HEAD as it was; all that it printed."""
    before = repo.oid()
    text = repo.git("-c", 'alias.said=!f() { git "$@" 2>&1; }; f', "said", *args, check=False)
    assert repo.oid() == before, text
    return text


def edit(repo: Repo, path: str, old: str, new: str) -> None:
    """Replaces a text that stands in a file just once."""
    text = repo.read(path)
    assert text.count(old) == 1, text
    repo.write(path, text.replace(old, new))


def states(repo: Repo) -> dict[str, str]:
    shown = json.loads(repo.gw_ok("status", "--json").out)
    return {task["id"]: task["state"] for task in shown["tasks"]}


def tracking(repo: Repo, rev: str, path: str = A1) -> Tracking:
    """The tracking half of a card in a commit."""
    data = repo.git("show", f"{rev}:{path}").encode() + b"\n"
    held, findings = load_tracking(split(data)[1], path)
    assert held is not None
    assert not findings
    return held


def verified_trailer(repo: Repo, rev: str = "HEAD") -> str:
    return repo.git(
        "log", "-1", "--format=%(trailers:key=Gitwaves-Verified,valueonly)", rev
    ).strip()


def code(repo: Repo, rev: str) -> list[str]:
    lines = repo.git("ls-tree", "-r", rev).splitlines()
    return [line for line in lines if "\t.workstreams/" not in line]


def bytes_of(repo: Repo) -> dict[str, bytes]:
    """Every file of a repository, `.git` included, but for what Git keeps for itself."""
    return {
        str(p.relative_to(repo.path)): p.read_bytes()
        for p in sorted(repo.path.rglob("*"))
        if p.is_file() and p.name not in {"index", "lock"}
    }


# --- init --------------------------------------------------------------------------------------


def test_init_in_an_empty_repository(repo: Repo) -> None:
    done = repo.gw_ok("init")
    assert done.out.splitlines() == [
        "wrote .workstreams/config.yaml",
        "wrote .workstreams/.gitattributes",
        "wrote .workstreams/DASHBOARD.txt",
        *(
            f"{name}: installed"
            for name in ("commit-msg", "post-commit", "post-merge", "post-rewrite")
        ),
    ]
    assert done.err == (
        "to see in `git diff` what changed in a card, and not its quoting and order:\n"
        '  git config diff.gitwaves.textconv "gitwaves review --textconv"\n'
        "  git config diff.gitwaves.cachetextconv true\n"
        "next: commit a design doc, then `gitwaves import docs/design.md`\n"
    )
    assert repo.read(".workstreams/config.yaml") == (
        "version: 1\ntitle: Repo\ntrunk: main\nagents: 8\nagent: claude\n"
    )
    assert repo.read(".workstreams/.gitattributes") == "* -text\n*.yaml diff=gitwaves\n"
    repo.commit("Plan")
    assert repo.gw_ok("check").out == ""


def test_init_twice_changes_no_byte(repo: Repo) -> None:
    repo.commit("Start", **{"README.md": "x\n"})
    repo.gw_ok("init", "--title", "Payments platform", "--agents", "4", "--agent", "codex")
    before = bytes_of(repo)
    again = repo.gw_ok("init", "--title", "Other")
    assert again.out == "nothing to do: it is set up already\n"
    assert bytes_of(repo) == before


def test_init_in_a_linked_worktree(repo: Repo) -> None:
    repo.commit("Start", **{"README.md": "x\n"})
    repo.git("worktree", "add", "-q", "-b", "topic", "../linked")
    linked = Repo(repo.path.parent / "linked")
    linked.gw_ok("init")
    # trunk is where the main worktree is, not the branch that init was called on
    assert "trunk: main\n" in linked.read(".workstreams/config.yaml")
    assert "title: Repo\n" in linked.read(".workstreams/config.yaml")
    assert not (repo.path / ".workstreams").exists()
    assert (repo.path / ".git/hooks/commit-msg").is_file()


def test_a_hook_that_was_there_is_run_and_put_back(repo: Repo) -> None:
    foreign = "#!/bin/sh\necho foreign >>ran\n"
    hook = repo.write(".git/hooks/commit-msg", foreign)
    hook.chmod(0o755)
    before = bytes_of(repo)
    assert (
        "commit-msg: installed, and runs the hook that was there (commit-msg.gitwaves-orig) first\n"
        in repo.gw_ok("init").out
    )
    repo.git("add", ".workstreams")
    repo.git("commit", "-q", "-m", "Plan")
    assert repo.read("ran") == "foreign\n"
    assert "commit-msg: removed, and the hook that was there put back\n" in (
        repo.gw_ok("hooks", "uninstall").out
    )
    hooks = {k: v for k, v in bytes_of(repo).items() if k.startswith(".git/hooks/")}
    assert hooks == {k: v for k, v in before.items() if k.startswith(".git/hooks/")}
    assert hook.stat().st_mode & 0o777 == 0o755


def test_init_on_a_branch_that_does_not_exist(repo: Repo) -> None:
    repo.commit("Start", **{"README.md": "x\n"})
    done = repo.gw("init", "--trunk", "trunk")
    assert (done.code, done.out) == (1, "")
    assert done.err == "Error: there is no branch 'trunk'\nHint: the branches are: main\n"
    assert not (repo.path / ".workstreams").exists()


# --- import, trust -----------------------------------------------------------------------------


def test_import_writes_cards_for_review(repo: Repo) -> None:
    repo.commit("Start", **{"docs/design.md": DESIGN})
    repo.gw_ok("init")
    done = repo.gw_ok("import", "docs/design.md")
    assert done.out == (
        "workstream WS-A: new, from line 3\nworkstream WS-B: new, from line 20\n"
        "A1: new, from line 6\nA2: new, from line 13\nB1: new, from line 23\n"
    )
    assert done.err == (
        "3 tasks, 2 workstreams written; review them, then commit .workstreams on trunk\n"
    )
    assert repo.read(A1) == (
        "id: A1\ntitle: Schema\ndepends_on: []\nestimate: 2h\nspec: |\n  The tables.\n"
        "verify:\n  - run: grep -q ok ledger/a1.txt\nx-source: docs/design.md:6\n"
        "# --- tracking: written by gitwaves on the worktree's branch ---\n"
        "tracking:\n  task: A1\n  status: planned\n"
    )
    waits = repo.gw("status")
    assert waits.code == 1
    assert waits.err == (
        "Error: .workstreams/ is not committed on main yet\n"
        "Hint: on main: git add .workstreams && git commit -m 'Plan the work'\n"
    )
    repo.commit("Plan the work")
    assert states(repo) == {"A1": "runnable", "A2": "blocked", "B1": "blocked"}
    assert repo.gw_ok("import", "docs/design.md").out == "no card changes\n"
    assert repo.git("status", "--porcelain") == ""


def test_import_of_a_doc_that_is_not_committed(repo: Repo) -> None:
    repo.commit("Start", **{"docs/design.md": DESIGN})
    repo.gw_ok("init")
    repo.write("docs/design.md", DESIGN + "\nMore.\n")
    done = repo.gw("import", "docs/design.md")
    assert done.code == 1
    assert done.err == (
        "Error: docs/design.md is not what is committed on main\n"
        "Hint: commit it there first, or try it with `gitwaves import docs/design.md --draft`\n"
    )
    assert not (repo.path / A1).exists()
    repo.gw_ok("import", "docs/design.md", "--draft")
    assert (repo.path / A1).exists()


def test_agents_cannot_give_trust(plan: Repo, home: Path) -> None:
    shutil.rmtree(home / ".local")
    agent = {"CLAUDECODE": "1"}
    done = plan.gw("trust", "--yes", env=agent)
    assert done.code == 1
    assert done.out == (
        "  $ grep -q ok ledger/a1.txt\n  $ grep -q ok ledger/a2.txt\n  $ grep -q ok api/b1.txt\n"
    )
    assert done.err == (
        "Error: an agent cannot give trust (CLAUDECODE is set)\n"
        "Hint: run `gitwaves trust` in your own terminal\n"
    )
    begin = plan.gw("start", "A1", env=agent)
    assert begin.code == 1
    assert begin.err == (
        "Error: this clone does not trust a command yet:\n"
        "  grep -q ok ledger/a1.txt\n"
        "Hint: read them, then run `gitwaves trust`"
        " (a person has to: CLAUDECODE is set, and agents cannot give trust)\n"
    )
    assert plan.git("branch", "--list", "ws/*") == ""
    assert plan.gw("trust").code == 1  # nobody can be asked here
    assert plan.gw_ok("trust", "--yes").out.endswith("3 commands are trusted in this clone\n")
    assert plan.gw_ok("trust", "--yes").out == "nothing new to trust\n"
    plan.gw_ok("start", "A1", env=agent)


# --- start -------------------------------------------------------------------------------------


def test_start_says_that_a_clone_has_no_hooks(plan: Repo) -> None:
    note = "note: no hook is installed in this clone"
    for hook in (plan.path / ".git/hooks").iterdir():
        hook.unlink()
    assert note in plan.gw_ok("start", "A1").err
    plan.git("config", "core.hooksPath", "elsewhere")  # whoever says where knows of hooks
    assert note not in plan.gw_ok("start", "A1").err
    plan.git("config", "--unset", "core.hooksPath")
    plan.gw_ok("hooks", "install")
    assert note not in plan.gw_ok("start", "A1").err


def test_start_prints_the_path_and_nothing_else(plan: Repo) -> None:
    done = plan.gw_ok("start", "A1", "--agent", "ada")
    path = plan.path.parent / "repo.worktrees/ws-A"
    assert done.out == f"{path}\n"
    assert done.err == "A1 is at work on ws/A; work there, commit, then `gitwaves verify`\n"
    held = tracking(plan, "ws/A")
    assert (held.task, held.status, held.agent) == ("A1", "active", "ada")
    tip = plan.oid("ws/A")
    again = plan.gw_ok("start", "A1", cwd=path)
    assert again.out == done.out
    assert plan.oid("ws/A") == tip
    assert plan.git("status", "--porcelain", cwd=path) == ""
    assert plan.git("status", "--porcelain") == ""


def test_one_task_at_a_time_in_a_worktree(plan: Repo) -> None:
    edit(plan, A2, "depends_on: [A1]\n", "depends_on: []\n")
    plan.commit("A2 needs nothing")
    started(plan, "A1")
    done = plan.gw("start", "A2")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "Error: ws/A is at work on A1 (active)\n"
        "Hint: finish A1, or give it back with `gitwaves start A1 --release`\n"
    )


def test_start_of_what_is_blocked(plan: Repo) -> None:
    done = plan.gw("start", "B1")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "Error: B1 is blocked: it waits for task A1\nHint: `gitwaves show B1` says why\n"
    )
    assert plan.git("branch", "--list", "ws/*") == ""


def test_a_dirty_worktree_takes_no_task(a1: Repo) -> None:
    main = main_of(a1)
    a1.commit("A1", **{"ledger/a1.txt": "ok\n"})
    a1.gw_ok("verify")
    a1.write("ledger/a1.txt", "mine\n")
    a1.write("ledger/new.txt", "mine\n")
    tip = main.oid("ws/A")
    done = main.gw("start", "A2")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"Error: {a1.path} has uncommitted work: ledger/a1.txt, ledger/new.txt\n"
        "Hint: commit it or set it aside there, then run the same command again\n"
    )
    assert main.oid("ws/A") == tip
    assert a1.read("ledger/a1.txt") == "mine\n"


def test_release_gives_the_task_back(a1: Repo) -> None:
    main = main_of(a1)
    assert main.gw_ok("start", "A1", "--release").out == (
        "A1 is free again; its branch stays as it is\n"
    )
    assert states(main)["A1"] == "runnable"
    again = main.gw("start", "A1", "--release")
    assert again.code == 1
    assert again.err == "Error: A1 is not at work\nHint: `gitwaves show A1` says what it is\n"
    assert started(main, "A1").path == a1.path
    assert states(main)["A1"] == "active"


# --- commit-msg --------------------------------------------------------------------------------

OUTSIDE = (
    "Error: this commit is refused:\n"
    "  api/b1.txt belongs to WS-B, outside the boundary of WS-A\n"
    "Hint: take these out with `git restore --staged FILE`; their owner changes them, "
    "or a review on main widens the boundary"
)


def test_a_file_of_another_workstream_is_refused(a1: Repo) -> None:
    a1.write("api/b1.txt", "x\n")
    a1.git("add", "-A")
    assert refused(a1, "commit", "-m", "x") == OUTSIDE
    a1.write("README.md", "mine now\n")
    assert "  README.md belongs to no workstream, outside the boundary of WS-A\n" in (
        refused(a1, "commit", "-a", "-m", "x")
    )


def test_commit_of_a_path_looks_at_that_path_alone(a1: Repo) -> None:
    a1.write("ledger/a1.txt", "x\n")
    a1.write("api/b1.txt", "x\n")
    a1.git("add", "-A")
    assert refused(a1, "commit", "-m", "x", "--", "api") == OUTSIDE
    a1.git("commit", "-q", "-m", "x", "--", "ledger")
    assert a1.git("show", "--name-only", "--format=", "HEAD") == "ledger/a1.txt"
    assert a1.git("status", "--porcelain") == "A  api/b1.txt"


def test_no_commit_takes_a_part_of_what_was_cut_short(a1: Repo) -> None:
    note = main_of(a1).path / ".git/gitwaves/unfinished/ws%2FA"
    note.parent.mkdir(exist_ok=True)
    a1.write("ledger/a1.txt", "x\n")
    a1.git("add", "-A")
    cut_short = (
        "Error: gitwaves was killed while it moved ws/A: this commit would take a part of that\n"
        "Hint: run `gitwaves sync`, then commit again"
    )
    for at_work in (True, False):  # a claim that was cut short is not at work yet
        note.write_text("{}")
        if not at_work:
            (note.parent.parent / "at-work/ws%2FA").unlink()
        assert refused(a1, "commit", "-m", "x") == cut_short
        a1.gw_ok("sync")
    assert not note.exists()
    a1.git("commit", "-q", "-m", "x")


def test_an_amend_is_looked_at_as_a_whole(a1: Repo) -> None:
    a1.commit("x", **{"ledger/a1.txt": "x\n"})
    a1.write("api/b1.txt", "x\n")
    a1.git("add", "-A")
    for how in (("-m", "y"), ("--no-edit",), ("-a", "-m", "y"), ("-m", "y", "--", "api")):
        assert refused(a1, "commit", "--amend", *how) == OUTSIDE
    a1.git("commit", "-q", "-n", "--amend", "--no-edit")
    assert a1.git("show", "--name-only", "--format=", "HEAD") == "api/b1.txt\nledger/a1.txt"
    a1.git("rm", "-q", "api/b1.txt")
    a1.git("commit", "-q", "--amend", "-m", "y")  # takes it back
    assert a1.git("show", "--name-only", "--format=", "HEAD") == "ledger/a1.txt"


def test_a_merge_is_looked_at(a1: Repo) -> None:
    main = main_of(a1)
    a1.commit("x", **{"ledger/a1.txt": "x\n"})
    main.git("worktree", "add", "-q", "-b", "stray", "../stray")
    stray = main.at("../stray")
    stray.commit("y", **{"api/b1.txt": "x\n"})
    line = (
        f"  api/b1.txt belongs to WS-B, outside the boundary of WS-A (commit {stray.oid()[:10]})\n"
    )
    assert line in refused(a1, "merge", "-m", "merged", "stray")
    assert line in refused(a1, "merge", "--continue")
    a1.git("merge", "--abort")
    stray.commit("z", **{"ledger/a1.txt": "z\n"})
    assert "CONFLICT" in refused(a1, "merge", "stray")
    a1.write("ledger/a1.txt", "both\n")
    a1.git("add", "-A")
    assert line in refused(a1, "commit", "-m", "merged")
    a1.git("commit", "-q", "-n", "-m", "merged")


def editor(folder: Path, commands: str) -> str:
    """An editor in which a person changes what stands there, as these shell commands do."""
    script = folder / "an editor"
    script.write_text(f'#!/bin/sh\n{{ {commands}; }} <"$1" >"$1.new" && mv "$1.new" "$1"\n')
    script.chmod(0o755)
    return shlex.quote(str(script))


def as_hinted(said: str, repo: Repo, below: str, editor: str = "true") -> None:
    """Does in a folder what a refusal says of the message."""
    (command,) = re.findall(
        r"^the message that you wrote is kept;.*: git (commit -eF .*)", said, re.M
    )
    repo.git(*shlex.split(command), cwd=repo.path / below, env={"GIT_EDITOR": editor})


@pytest.mark.parametrize("place", ["linked", "main"])
@pytest.mark.parametrize("how", [(), ("-v",)], ids=["plain", "verbose"])
def test_a_message_written_in_an_editor_is_kept(
    plan: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, how: tuple[str, ...]
) -> None:
    message = "Long thought over\n\nAnd told.\n"
    monkeypatch.delenv("GIT_EDITOR")
    plan.git("config", "core.editor", editor(tmp_path, f"printf %s {shlex.quote(message)}; cat"))
    if place == "main":
        plan.git("switch", "-q", "-c", "ws/A")
    tree = started(plan, "A1")
    assert (tree.path == plan.path) == (place == "main")
    tree.write("ledger/a1.txt", "x\n")
    tree.write("api/b1.txt", "x\n")
    tree.git("add", "-A")
    said = refused(tree, "commit", *how)
    assert said.startswith(f"{OUTSIDE}\n")
    tree.git("restore", "--staged", "api/b1.txt")
    as_hinted(said, tree, "ledger")
    assert tree.git("log", "-1", "--format=%B") == message
    assert tree.git("show", "--name-only", "--format=", "HEAD") == "ledger/a1.txt"
    tree.git("add", "-A")
    assert refused(tree, "commit", *how, "-m", "x") == OUTSIDE  # no editor, nothing to keep


@pytest.mark.parametrize(
    "how",
    [("commit",), ("commit", "-v"), ("merge", "--edit", "main")],
    ids=" ".join,
)
def test_a_message_with_a_wrong_trailer_is_kept(
    a1: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: tuple[str, ...]
) -> None:
    wrote = editor(tmp_path, r"printf 'Add it\n\nTask: A11\n'; sed /^Merge/d")
    monkeypatch.setenv("GIT_EDITOR", wrote)
    main_of(a1).commit("x", **{"README.md": "x\n"})
    a1.commit("y", **{"ledger/a1.txt": "y\n"})
    a1.write("ledger/a2.txt", "z\n")
    if how[0] == "commit":
        a1.git("add", "-A")
    said = refused(a1, *how)
    wrong = (
        "Error: the trailer `Task: A11` names no task\nHint: did you mean A1?\nthe message that "
    )
    assert said.startswith(wrong)
    as_hinted(said, a1, "ledger", editor(tmp_path, "sed s/A11/A1/"))
    assert a1.git("log", "-1", "--format=%B") == "Add it\n\nTask: A1\n"
    assert a1.git("log", "-1", "--format=%p").count(" ") == (how[0] == "merge")


@pytest.mark.parametrize("how", [("-a",), ("--", ".workstreams")])
def test_an_edited_spec_half_is_refused(a1: Repo, how: tuple[str, ...]) -> None:
    edit(a1, A1, "The tables.", "Nothing.")
    options, paths = ((*how, "-m", "x"), ()) if how == ("-a",) else (("-m", "x"), how)
    assert f"  {A1}: the spec half changes only on main, by review\n" in (
        refused(a1, "commit", *options, *paths)
    )


@pytest.mark.parametrize("how", [("-a",), ("--", ".workstreams")])
def test_the_card_of_another_worktree_is_refused(a1: Repo, how: tuple[str, ...]) -> None:
    edit(a1, B1, "status: planned", "status: done")
    options, paths = ((*how, "-m", "x"), ()) if how == ("-a",) else (("-m", "x"), how)
    assert f"  {B1} is not this worktree's to change: cards are reviewed on main\n" in (
        refused(a1, "commit", *options, *paths)
    )


def test_verify_refuses_what_the_hooks_did_not_see(a1: Repo) -> None:
    claimed = a1.oid()[:10]
    a1.write("ledger/a1.txt", "ok\n")
    a1.write("api/b1.txt", "x\n")
    edit(a1, A1, "The tables.", "Nothing.")
    a1.git("add", "-A")
    a1.git("commit", "-q", "-n", "-m", "x")
    short = a1.oid()[:10]
    done = a1.gw("verify")
    assert done.code == 1
    assert done.err == (
        "Error: outside the boundary:\n"
        f"  api/b1.txt belongs to WS-B, outside the boundary of WS-A (commit {short})\n"
        f"  {A1}: the spec half changes only on main, by review (commit {short})\n"
        f"Hint: take them out of these commits (git rebase -i {claimed}); their owner makes them,"
        " or a review on main widens the boundary\n"
    )


def test_a_task_trailer_that_names_nothing(a1: Repo) -> None:
    a1.write("ledger/a1.txt", "x\n")
    a1.git("add", "-A")
    assert refused(a1, "commit", "-m", "Add it", "-m", "Task: A11") == (
        "Error: the trailer `Task: A11` names no task\nHint: did you mean A1?"
    )
    a1.git("commit", "-q", "-m", "Add it", "-m", "Task: A1")


# --- verify and commit, in either order --------------------------------------------------------


def test_verify_then_commit(a1: Repo) -> None:
    a1.write("ledger/a1.txt", "ok\n")
    before = a1.oid()
    done = a1.gw_ok("verify")
    assert done.out == (
        "A1 passes; it is done once this content is committed\nnot committed yet: ledger/a1.txt\n"
    )
    assert a1.oid() == before
    a1.git("add", "-A")
    said = hooked(a1, "commit", "-q", "-m", "Add the schema")
    assert said == "gitwaves: A1 is done\ngitwaves: runnable now: A2 B1"
    assert a1.git("log", "-2", "--format=%s") == "gitwaves: A1 done\nAdd the schema"
    assert verified_trailer(a1) == a1.oid("HEAD~1")
    assert a1.git("status", "--porcelain") == ""
    held = tracking(a1, "HEAD")
    assert held.status == "done"
    assert held.evidence is not None
    assert held.evidence.commit == a1.oid("HEAD~1")
    assert [(r.run, r.exit) for r in held.evidence.runs] == [("grep -q ok ledger/a1.txt", 0)]
    assert states(a1) == {"A1": "done", "A2": "runnable", "B1": "runnable"}


def test_commit_then_verify(a1: Repo) -> None:
    a1.write("ledger/a1.txt", "ok\n")
    a1.git("add", "-A")
    assert hooked(a1, "commit", "-q", "-m", "x") == ""
    assert a1.gw_ok("verify").out == "A1 is done\nrunnable now: A2 B1\n"
    again = a1.gw("verify")
    assert again.code == 1
    assert again.err == (
        "Error: no task is at work on ws/A\nHint: name one, or run `gitwaves start ID`\n"
    )


@pytest.mark.parametrize("how", [("commit", "-n"), (*NO_HOOKS, "commit")])
def test_a_commit_without_hooks_is_found_by_sync(a1: Repo, how: tuple[str, ...]) -> None:
    a1.write("ledger/a1.txt", "ok\n")
    a1.gw_ok("verify")
    a1.git("add", "-A")
    a1.git(*how, "-q", "-m", "x")
    done = a1.gw_ok("sync").out
    if how[0] == "-c":
        assert done == "A1 is done\nrunnable now: A2 B1\n"
    else:  # -n leaves post-commit
        assert done == "nothing new\n"
    tip = a1.oid()
    assert states(a1)["A1"] == "done"
    assert a1.gw_ok("sync").out == "nothing new\n"
    assert a1.oid() == tip


def test_a_commit_that_is_not_what_was_verified(a1: Repo) -> None:
    a1.write("ledger/a1.txt", "ok\n")
    a1.gw_ok("verify")
    a1.write("ledger/a1.txt", "ok, but other\n")
    a1.write("ledger/b.txt", "new\n")
    a1.git("add", "-A")
    assert hooked(a1, "commit", "-q", "-m", "x") == (
        "gitwaves: this commit is not what was verified; it differs in ledger/a1.txt, ledger/b.txt\n"
        "gitwaves: run `gitwaves verify`"
    )
    assert states(a1)["A1"] == "active"
    assert a1.gw_ok("verify").out == "A1 is done\nrunnable now: A2 B1\n"


def test_a_partial_commit_then_the_rest(a1: Repo) -> None:
    a1.write("ledger/a1.txt", "ok\n")
    a1.write("ledger/b.txt", "also\n")
    a1.gw_ok("verify")
    a1.git("add", "ledger/a1.txt")
    assert hooked(a1, "commit", "-q", "-m", "one") == (
        "gitwaves: this commit is not what was verified; it differs in ledger/b.txt\n"
        "gitwaves: run `gitwaves verify`"
    )
    a1.git("add", "ledger/b.txt")
    assert "gitwaves: A1 is done" in hooked(a1, "commit", "-q", "-m", "two")
    assert states(a1)["A1"] == "done"


def test_staged_work_for_later_stays_staged(a1: Repo) -> None:
    a1.commit("x", **{"ledger/b.txt": "1\n"})
    a1.write("ledger/a1.txt", "ok\n")
    a1.gw_ok("verify")
    a1.git("add", "-A")
    a1.write("ledger/b.txt", "2\n")
    a1.git("add", "-A")
    assert "A1 is done" in hooked(a1, "commit", "-q", "-m", "y", "--", "ledger/a1.txt")
    assert a1.git("status", "--porcelain") == "M  ledger/b.txt"
    assert a1.git("diff", "--name-only", "HEAD~1", "HEAD") == A1


def test_amend_after_done(a1: Repo) -> None:
    a1.write("ledger/a1.txt", "ok\n")
    a1.gw_ok("verify", "--commit", "-m", "Add it")
    done = a1.oid()
    verified = verified_trailer(a1)
    a1.git("commit", "-q", "--amend", "-m", "gitwaves: A1 done, said otherwise")
    assert states(a1)["A1"] == "done"
    a1.git("reset", "-q", "--hard", done)
    # the code itself is rewritten, with the same code tree
    a1.git("reset", "-q", "--hard", verified)
    a1.git("commit", "-q", "--amend", "-m", "Add it, in better words")
    a1.gw_ok("sync")
    assert states(a1)["A1"] == "done"
    assert verified_trailer(a1) == a1.oid("HEAD~1") != verified


def test_amend_of_the_verified_content(a1: Repo) -> None:
    a1.commit("x", **{"ledger/a1.txt": "no\n"})
    a1.write("ledger/a1.txt", "ok\n")
    a1.gw_ok("verify")
    assert "A1 is done" in hooked(a1, "commit", "-q", "-a", "--amend", "-m", "y")
    assert a1.git("status", "--porcelain") == ""
    assert a1.git("log", "-3", "--format=%s") == "gitwaves: A1 done\ny\ngitwaves: A1 active"


def test_verify_commits_first(a1: Repo) -> None:
    a1.write("ledger/a1.txt", "ok\n")
    done = a1.gw_ok("verify", "A1", "--commit", "-m", "Add the schema")
    assert done.out == "A1 is done\nrunnable now: A2 B1\n"
    assert a1.git("log", "-2", "--format=%s") == "gitwaves: A1 done\nAdd the schema"
    usage = a1.gw("verify", "-m", "x")
    assert (usage.code, usage.err) == (2, "Error: -m goes with --commit\n")


def test_verify_unchanged(a1: Repo) -> None:
    main = main_of(a1)
    a1.gw_ok("start", "A1", "--release")
    edit(main, A1, "grep -q ok ledger/a1.txt", "grep -q Payments README.md")
    main.commit("A1 holds already")
    main.gw_ok("trust", "--yes")
    started(main, "A1")
    done = a1.gw("verify")
    assert done.code == 1
    assert done.err == (
        "Error: nothing changed since A1 was claimed\n"
        "Hint: if nothing has to change, say so with `gitwaves verify --unchanged`\n"
    )
    assert a1.gw_ok("verify", "--unchanged").out == "A1 is done\nrunnable now: A2 B1\n"
    assert states(main)["A1"] == "done"


def test_work_of_the_same_size_in_the_same_second_is_seen(a1: Repo) -> None:
    a1.commit("x", **{"ledger/a1.txt": "no\n"})
    a1.write("ledger/a1.txt", "ok\n")
    assert a1.gw_ok("verify").out == (
        "A1 passes; it is done once this content is committed\nnot committed yet: ledger/a1.txt\n"
    )


def test_a_note_hides_no_commit_before_it(a1: Repo) -> None:
    a1.commit("x", **{"ledger/a1.txt": "ok\n"})
    a1.write("api/b1.txt", "x\n")
    a1.git("add", "-A")
    a1.git("commit", "-q", "-n", "-m", "not mine")
    a1.gw_ok("learn", "A1", "cents")
    assert a1.gw("verify").err.startswith("Error: outside the boundary:\n  api/b1.txt belongs to ")


def test_a_failing_step(a1: Repo) -> None:
    a1.commit("x", **{"ledger/a1.txt": "no\n"})
    tip = a1.oid()
    card = a1.read(A1)
    done = a1.gw("verify")
    log = main_of(a1).path / ".git/gitwaves/logs/A1/verify-1.log"
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith(
        f"Error: A1 does not pass: step 1, exit 1\nHint: the whole log is in {log}\n"
    )
    assert log.read_text().startswith("gitwaves: step 1 of 1: grep -q ok ledger/a1.txt\n")
    assert a1.oid() == tip
    assert a1.read(A1) == card
    assert states(a1)["A1"] == "active"


def steps(main: Repo, text: str) -> None:
    """Gives A1 other verify steps on trunk, and trusts them."""
    edit(main, A1, "  - run: grep -q ok ledger/a1.txt\n", text)
    main.commit("Other steps for A1")
    main.gw_ok("trust", "--yes")


def test_a_step_that_takes_too_long(plan: Repo) -> None:
    steps(plan, "  - run: echo begun; sleep 60\n    timeout: 1s\n")
    a1 = started(plan, "A1")
    a1.write("ledger/a1.txt", "ok\n")
    done = a1.gw("verify")
    assert done.code == 1
    assert "begun\n" in done.err
    assert "Error: A1 does not pass: step 1, timed out\n" in done.err


def test_what_steps_make_is_not_counted(plan: Repo) -> None:
    steps(
        plan,
        "  - run: unset PYTHONDONTWRITEBYTECODE; python -c 'import sys; "
        'sys.path.insert(0, "ledger"); import a1\'\n',
    )
    a1 = started(plan, "A1")
    a1.write("ledger/a1.py", "OK = True\n")
    done = a1.gw_ok("verify", "--commit", "-m", "x")
    assert done.out == "A1 is done\nrunnable now: A2 B1\n"
    (made,) = (a1.path / "ledger/__pycache__").iterdir()
    assert done.err == f"not counted, made by the steps: ledger/__pycache__/{made.name}\n"
    assert a1.git("ls-tree", "-r", "--name-only", "HEAD", "ledger") == "ledger/a1.py"
    assert started(plan, "A2").path == a1.path


def test_steps_may_not_change_what_they_verify(plan: Repo) -> None:
    steps(plan, "  - run: echo more >>ledger/a1.txt\n")
    a1 = started(plan, "A1")
    a1.commit("x", **{"ledger/a1.txt": "ok\n"})
    done = a1.gw("verify")
    assert done.code == 1
    assert done.err == (
        "Error: A1: the steps changed ledger/a1.txt\n"
        "Hint: steps must leave the content that they verify as it is\n"
    )
    assert states(plan)["A1"] == "active"


def test_what_a_task_must_produce(plan: Repo) -> None:
    edit(plan, A1, "verify:\n", "produces: [ledger/schema.sql]\nverify:\n")
    plan.commit("A1 makes a schema")
    a1 = started(plan, "A1")
    a1.commit("x", **{"ledger/a1.txt": "ok\n"})
    done = a1.gw("verify")
    assert done.code == 1
    assert done.err == (
        "Error: A1 must produce ledger/schema.sql\nHint: make it, then verify again\n"
    )
    a1.write("ledger/schema.sql", "--\n")
    a1.gw_ok("verify", "--commit")
    assert states(plan)["A1"] == "done"


def test_what_a_task_taught(a1: Repo) -> None:
    a1.write("ledger/a1.txt", "ok\n")
    a1.gw_ok("verify")
    a1.git("add", "-A")
    a1.git("commit", "-q", "-m", "Add it", "-m", "Learned: amounts are cents\nTask: A1")
    assert tracking(a1, "HEAD").learnings == ("amounts are cents",)
    short = verified_trailer(a1)[:10]
    assert a1.git("show", "gitwaves/dashboard:LEARNINGS.md") == (
        f"# Learnings\n\n- amounts are cents (A1, {short})"
    )
    a1.gw_ok("learn", "A1", "zero is allowed")
    assert tracking(a1, "HEAD").learnings == ("amounts are cents", "zero is allowed")
    assert states(a1)["A1"] == "done"


# --- what history says -------------------------------------------------------------------------


def test_work_that_went_on_without_hooks(a1: Repo) -> None:
    a1.write("ledger/a1.txt", "ok\n")
    a1.gw_ok("verify")
    a1.git("add", "-A")
    a1.git(*NO_HOOKS, "commit", "-q", "-m", "verified")
    verified = a1.oid()
    a1.write("ledger/a1.txt", "ok and more\n")
    a1.git(*NO_HOOKS, "commit", "-q", "-a", "-m", "not verified")
    further = a1.oid()
    assert a1.gw_ok("sync").out == "A1 is done\nrunnable now: A2 B1\n"
    assert a1.read("ledger/a1.txt") == "ok and more\n"
    assert a1.git("status", "--porcelain") == ""
    first, second = a1.git("log", "-1", "--format=%P").split()
    assert first == further
    assert a1.oid(f"{second}^") == verified
    assert code(a1, second) == code(a1, verified)
    assert code(a1, "HEAD") == code(a1, further)
    assert tracking(a1, second) == tracking(a1, "HEAD")
    assert states(a1)["A1"] == "done"
    b1 = started(main_of(a1), "B1")  # takes the done commit, not the tip
    assert b1.read("ledger/a1.txt") == "ok\n"


def test_done_typed_by_hand_is_unproven(a1: Repo) -> None:
    a1.commit("x", **{"ledger/a1.txt": "no\n"})
    edit(a1, A1, "status: active", "status: done")
    a1.git("commit", "-q", "-a", "-n", "-m", "I am done")
    assert states(a1) == {"A1": "unproven", "A2": "blocked", "B1": "blocked"}


def test_a_changed_spec_makes_it_stale(a1: Repo) -> None:
    main = main_of(a1)
    a1.write("ledger/a1.txt", "ok\n")
    a1.gw_ok("verify", "--commit")
    edit(main, A1, "title: Schema", "title: The schema")
    main.commit("Another title")
    assert states(main)["A1"] == "done"
    edit(main, A1, "The tables.", "The tables and views.")
    main.commit("Another spec")
    assert states(main) == {"A1": "stale", "A2": "blocked", "B1": "blocked"}


def test_a_rebase_with_the_same_code_keeps_what_was_verified(a1: Repo) -> None:
    main = main_of(a1)
    a1.write("ledger/a1.txt", "ok\n")
    a1.gw_ok("verify", "--commit")
    edit(main, A2, "title: Balances", "title: The balances")
    main.commit("Another title")
    a1.git("rebase", "-q", "main")
    assert states(main)["A1"] == "stale"  # nothing is written unasked
    assert a1.gw_ok("sync").out == "A1 is done\nrunnable now: A2 B1\n"
    assert states(main)["A1"] == "done"
    tip = a1.oid()
    assert a1.gw_ok("sync").out == "nothing new\n"
    assert a1.oid() == tip
    assert started(main, "B1").read("ledger/a1.txt") == "ok\n"
    edit(main, "README.md", "Payments", "Payments!")
    main.commit("Other code")
    a1.git("rebase", "-q", "main")
    assert a1.gw_ok("sync").out == "nothing new\n"
    assert states(main)["A1"] == "stale"


def test_an_amended_claim_hides_nothing(a1: Repo) -> None:
    a1.write("ledger/a1.txt", "ok\n")
    a1.write("api/b1.txt", "x\n")
    edit(a1, A1, "The tables.", "Nothing.")
    a1.git("add", "-A")
    a1.git("commit", "-q", "-n", "--amend", "-m", "All in one")
    assert a1.gw("verify").err.startswith("Error: outside the boundary:\n  api/b1.txt belongs to ")
    a1.git("rm", "-q", "--cached", "api/b1.txt")
    (a1.path / "api/b1.txt").unlink()
    edit(a1, A1, "Nothing.", "The tables.")
    a1.git("commit", "-q", "-a", "--amend", "-m", "All in one")
    assert a1.gw_ok("verify").out == "A1 is done\nrunnable now: A2 B1\n"


def test_a_worktree_that_was_deleted_is_made_again(a1: Repo) -> None:
    main = main_of(a1)
    a1.commit("x", **{"ledger/a1.txt": "ok\n"})
    shutil.rmtree(a1.path)
    assert main.gw("verify", "A1").err == (
        "Error: A1 is not at work here\nHint: run `gitwaves start A1` first\n"
    )
    assert started(main, "A1").path == a1.path
    assert a1.read("ledger/a1.txt") == "ok\n"
    assert main.gw_ok("verify", "A1").out == "A1 is done\nrunnable now: A2 B1\n"


def test_verified_code_that_was_rewritten_is_stale(a1: Repo) -> None:
    a1.write("ledger/a1.txt", "ok\n")
    a1.gw_ok("verify", "--commit")
    a1.git("commit", "-q", "-n", "--allow-empty", "-m", "later")
    card = a1.read(A1)
    a1.git("reset", "-q", "--hard", "HEAD~3")
    a1.write("ledger/a1.txt", "other\n")
    a1.write(A1, card)
    a1.git("add", "-A")
    a1.git("commit", "-q", "-n", "-m", "rewritten")
    assert states(a1)["A1"] == "stale"


def test_the_live_dashboard_and_the_state_commits(a1: Repo) -> None:
    main = main_of(a1)

    def shown() -> int:
        return int(main.git("rev-list", "--count", "gitwaves/dashboard"))

    assert shown() == 1  # the claim
    a1.write("ledger/a1.txt", "ok\n")
    a1.gw_ok("verify")
    assert shown() == 1
    a1.git("add", "-A")
    a1.git("commit", "-q", "-m", "x")
    assert shown() == 2
    main.gw_ok("sync")
    main.gw_ok("status")
    assert shown() == 2
    started(main, "B1")
    assert shown() == 3
    for rev in main.git("rev-list", "gitwaves/dashboard").split():
        text = main.git("show", f"{rev}:DASHBOARD.txt")
        assert text.isascii()
        assert max(map(len, text.splitlines())) <= 100
        assert str(main.path.parent) not in text
    assert main.git("ls-tree", "--name-only", "gitwaves/dashboard") == "DASHBOARD.txt\nLEARNINGS.md"
    assert main.git("log", "--format=%s", "gitwaves/dashboard") == (
        "gitwaves: 1/3 done\ngitwaves: 1/3 done\ngitwaves: 0/3 done"
    )
    listed = main.git("log", "--format=%H", "--grep=^Gitwaves-Task", "ws/A", "ws/B").split()
    assert len(listed) == 3
    for rev in listed:
        changed = main.git("diff-tree", "-r", "--no-commit-id", "--name-only", rev).split()
        assert changed in ([A1], [B1])
        before = main.git("show", f"{rev}^:{changed[0]}").encode()
        after = main.git("show", f"{rev}:{changed[0]}").encode()
        assert split(before)[0] == split(after)[0]
    assert main.git("fsck", "--strict", "--no-dangling") == ""
    assert main.git("status", "--porcelain") == ""
    assert main.git("log", "-1", "--format=%s") == "Plan the work"  # trunk did not move


def test_hooks_start_nothing_where_no_task_is_at_work(plan: Repo) -> None:
    plan.git("config", "alias.x", "!true")
    plan.write("README.md", "more\n")
    assert hooked(plan, "commit", "-q", "-a", "-m", "x") == ""
