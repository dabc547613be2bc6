"""The hooks with real git; `gitwaves hook` is played by a script that says how it was called."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gitwaves import git, hooks
from gitwaves.errors import GitwavesError, Refused
from tests.repo import Repo

FAKE = """\
#!/bin/sh
[ "$2" != -c ] || exit 0
case "$1 $2 $3" in "-P "*"/gitwaves/__main__.py hook") ;; *) exit 99 ;; esac
shift 3
read -r line
echo "$* <$line>" >> "$CALLS"
exit "${FAKE_EXIT:-0}"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the interpreter, whose path needs quoting, says how it was called."""
    fake = tmp_path / "it's a py" / "python"
    fake.parent.mkdir()
    fake.write_text(FAKE)
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def heard(calls: Path) -> list[str]:
    found = calls.read_text().splitlines() if calls.exists() else []
    calls.unlink(missing_ok=True)
    return found


def open_(repo: Repo) -> git.Repo:
    return git.Repo.open(repo.path)


def at_work(repo: Repo, branch: str) -> None:
    """As `start` leaves it, and after a first verification: a commit may be the verified one."""
    name = branch.replace("/", "%2F")
    repo.write(f".git/gitwaves/at-work/{name}", "A1\n")
    (repo.path / ".git/gitwaves/receipts/A1").mkdir(parents=True, exist_ok=True)


def hook_file(repo: Repo, name: str, text: str, mode: int = 0o755) -> Path:
    path = repo.write(f".git/hooks/{name}", text)
    path.chmod(mode)
    return path


def listing(repo: Repo) -> dict[str, tuple[int, bytes]]:
    folder = repo.path / ".git/hooks"
    return {p.name: (p.lstat().st_mode, p.read_bytes()) for p in folder.iterdir()}


@pytest.fixture
def tree(repo: Repo, calls: Path) -> Repo:
    """A linked worktree on `ws/A`, where a task is at work, with the hooks installed."""
    repo.commit("first\n\nLearned: first")
    hooks.install(open_(repo))
    repo.git("worktree", "add", "-q", "-b", "ws/A", "../A")
    at_work(repo, "ws/A")
    return repo.at("../A")


def test_install_is_idempotent_and_leaves_no_trace(repo: Repo) -> None:
    before = listing(repo)
    opened = open_(repo)
    assert not hooks.installed(opened)
    assert hooks.install(opened) == [f"{name}: installed" for name in hooks.HOOKS]
    assert hooks.installed(opened)
    assert hooks.install(opened) == []
    assert hooks.uninstall(opened) == [f"{name}: removed" for name in hooks.HOOKS]
    assert listing(repo) == before
    assert hooks.uninstall(opened) == []
    assert not hooks.installed(opened)


def test_no_folder_of_hooks(repo: Repo) -> None:
    folder = repo.path / ".git/hooks"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    hooks.install(open_(repo))
    hooks.uninstall(open_(repo))
    assert not folder.exists()
    assert hooks.uninstall(open_(repo)) == []


def test_a_moved_interpreter_is_renewed(
    repo: Repo, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_(repo)
    hooks.install(opened)
    assert hooks.installed(opened)
    Path(sys.executable).unlink()
    assert not hooks.installed(opened)
    monkeypatch.setattr(sys, "executable", "/bin/sh")
    assert hooks.install(opened) == [f"{name}: renewed" for name in hooks.HOOKS]
    assert hooks.installed(opened)


def test_nothing_runs_on_a_branch_without_a_task_at_work(tree: Repo, calls: Path) -> None:
    tree.git("checkout", "-q", "-b", "other")
    tree.commit("a\n\nLearned: a")
    tree.git("checkout", "-q", "--detach")
    tree.commit("b\n\nLearned: b")
    assert heard(calls) == []


def test_a_commit_calls_gitwaves(tree: Repo, calls: Path) -> None:
    (tree.path / "sub dir").mkdir()
    tree.write("sub dir/f", "x")
    tree.git("add", "-A")
    tree.git("commit", "-q", "-m", "a\n\nLearned: a", cwd=tree.path / "sub dir")
    said = heard(calls)
    assert re.fullmatch(r"commit-msg \S*COMMIT_EDITMSG <>", said[0])
    assert said[1:] == ["post-commit <>"]
    old = tree.oid()
    tree.git("commit", "-q", "--amend", "-m", "b\n\nLearned: b")
    assert heard(calls)[-1] == f"post-rewrite amend <{old} {tree.oid()}>"


def test_also_in_the_main_worktree_and_beside_a_tag_of_the_same_name(
    tree: Repo, repo: Repo, calls: Path
) -> None:
    at_work(repo, "main")
    repo.git("tag", "main")
    repo.commit("a\n\nLearned: a")
    assert [line.split()[0] for line in heard(calls)] == ["commit-msg", "post-commit"]


@pytest.mark.parametrize("name", ["ws/a b/c", "x%2Fy", "ü", "$(touch bad)", "ws/A;x"])
def test_any_branch_name(tree: Repo, repo: Repo, calls: Path, name: str) -> None:
    branch = name.replace(" ", "_")
    tree.git("checkout", "-q", "-b", branch)
    tree.commit("a\n\nLearned: a")
    assert heard(calls) == []
    at_work(repo, branch)
    tree.commit("b\n\nLearned: b")
    assert len(heard(calls)) == 2
    assert not (tree.path / "bad").exists()


def test_a_refusal_refuses_and_a_failing_post_hook_does_not(
    tree: Repo, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree.oid()
    monkeypatch.setenv("FAKE_EXIT", "1")
    with pytest.raises(AssertionError, match="exited 1"):
        tree.commit("a\n\nLearned: a", f="x")
    assert tree.oid() == before
    heard(calls)
    assert tree.git("commit", "-q", "-n", "-m", "b\n\nLearned: b") == ""
    assert heard(calls) == ["post-commit <>"]
    shim = tree.git("rev-parse", "--git-path", "hooks/post-commit")
    subprocess.run([shim], cwd=tree.path, stdin=subprocess.DEVNULL, check=True)
    assert heard(calls) == ["post-commit <>"]


def test_merges(tree: Repo, repo: Repo, calls: Path) -> None:
    repo.commit("m\n\nLearned: m", m="1")
    tree.git("merge", "-q", "--ff-only", "main")
    assert heard(calls) == ["post-merge 0 <>"]
    tree.commit("a\n\nLearned: a", a="1")
    repo.commit("m2\n\nLearned: m2", m="2")
    heard(calls)
    tree.git("merge", "-q", "-m", "merge\n\nLearned: merge", "main")
    said = [line.split()[0] for line in heard(calls)]
    assert said == ["commit-msg", "post-merge"]
    # A merge that a person finishes is a commit.
    repo.commit("m3\n\nLearned: m3", a="other")
    heard(calls)
    tree.git("merge", "main", check=False)
    assert heard(calls) == []
    tree.commit("merged\n\nLearned: merged", a="both")
    assert [line.split()[0] for line in heard(calls)] == ["commit-msg", "post-commit"]


@pytest.mark.parametrize("backend", ["--merge", "--apply"])
def test_a_rebase_is_told_once_at_its_end(
    tree: Repo, repo: Repo, calls: Path, backend: str
) -> None:
    old = [tree.commit("a\n\nLearned: a", a="1"), tree.commit("b\n\nLearned: b", b="1")]
    repo.commit("m\n\nLearned: m", m="1")
    heard(calls)
    tree.git("rebase", "-q", backend, "main")
    said = heard(calls)
    if backend == "--merge":
        assert said == [f"post-rewrite rebase <{old[0]} {tree.oid('HEAD~1')}>"]
    else:  # told while HEAD is still detached; `sync` looks
        assert said == []


def test_a_pick_of_several_is_left_to_sync(tree: Repo, repo: Repo, calls: Path) -> None:
    repo.commit("a\n\nLearned: a", a="1")
    repo.commit("b\n\nLearned: b", b="1")
    tree.git("cherry-pick", "main~1", "main")
    assert not [line for line in heard(calls) if "post-commit" not in line]
    tree.commit("own\n\nLearned: own", a="2")
    repo.commit("c\n\nLearned: c", a="3")
    heard(calls)
    tree.git("cherry-pick", "main", check=False)
    assert heard(calls) == []


@pytest.mark.parametrize("state", ["rebase-merge", "sequencer", "CHERRY_PICK_HEAD", "BISECT_LOG"])
def test_post_hooks_wait_in_the_middle_of_something(tree: Repo, calls: Path, state: str) -> None:
    (Path(tree.git("rev-parse", "--absolute-git-dir")) / state).mkdir()
    shim = tree.git("rev-parse", "--git-path", "hooks/post-commit")
    tree.git("-c", f"alias.x=!{shlex.quote(shim)}", "x")
    assert heard(calls) == []


def test_our_own_git_calls_run_no_hook(
    tree: Repo, repo: Repo, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITWAVES_HOOK", "1")
    tree.commit("a\n\nLearned: a")
    assert heard(calls) == []


def committed(tree: Repo) -> str:
    """What is said on standard error when a commit, which must go through, is made."""
    before = tree.oid()
    command = ["git", "commit", "--allow-empty", "-q", "-m", "a\n\nLearned: a"]
    done = subprocess.run(command, cwd=tree.path, capture_output=True, text=True, check=True)
    assert tree.oid() != before
    assert done.stdout == ""
    return done.stderr


def test_a_removed_gitwaves_lets_commits_through_with_a_word(tree: Repo, calls: Path) -> None:
    python = Path(sys.executable)
    python.unlink()
    said = (
        f"gitwaves: this hook looks for {python}, which is gone; `gitwaves doctor --fix` mends it\n"
    )
    assert committed(tree) == said
    tree.git("checkout", "-q", "-b", "other")
    assert committed(tree) == ""  # nothing is at work there: nothing is missed


def test_a_broken_gitwaves_lets_commits_through_with_a_word(
    tree: Repo, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path(sys.executable)
    real.write_text('#!/bin/sh\necho "No module named gitwaves" >&2\nexit 1\n')
    failed = "gitwaves: this hook failed (exit 1); `gitwaves doctor --fix` mends it\n"
    module = "No module named gitwaves\n"
    assert committed(tree) == module + failed + module  # commit-msg, post-commit
    real.write_text(FAKE)
    for code in ("3", "127"):
        monkeypatch.setenv("FAKE_EXIT", code)
        assert committed(tree) == failed.replace("1", code)
    monkeypatch.setenv("FAKE_EXIT", "130")  # Ctrl-C
    assert tree.git("commit", "--allow-empty", "-q", "-m", "b\n\nLearned: b", check=False) == ""
    assert tree.git("log", "-1", "--format=%s") == "a"


def test_what_is_added_below_our_lines_runs_and_stays(
    tree: Repo, repo: Repo, calls: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shim = repo.path / ".git/hooks/post-commit"
    added = 'echo "added ${0##*/}" >> "$CALLS"\n'
    shim.write_text(shim.read_text() + added)
    assert hooks.faults(open_(repo)) == {}
    tree.commit("a\n\nLearned: a")
    assert heard(calls)[-2:] == ["post-commit <>", "added post-commit"]
    tree.git("checkout", "-q", "-b", "other")
    tree.commit("b")
    assert heard(calls) == ["added post-commit"]
    python = tmp_path / "python"
    python.write_text(FAKE)
    monkeypatch.setattr(sys, "executable", str(python))
    assert "post-commit: renewed" in hooks.install(open_(repo))
    assert shim.read_text().endswith(added)
    # Also where another manager moves it aside.
    shim.rename(shim.with_name("post-commit.old"))
    hook_file(repo, "post-commit", "#!/bin/sh\n# another's\n")
    hooks.install(open_(repo))
    assert shim.read_text().endswith(added)
    said = hooks.uninstall(open_(repo))
    assert shim.read_text() == "#!/bin/sh\n# another's\n"
    kept = shim.with_name("post-commit.gitwaves-added")
    assert kept.read_text() == "#!/bin/sh\n" + added
    line = "post-commit.gitwaves-added: what was added below gitwaves' lines stays"
    assert f"{line}, to be added to post-commit" in said
    kept.unlink()
    shim.unlink()
    hooks.install(open_(repo))
    shim.write_text(shim.read_text() + added)
    hooks.uninstall(open_(repo))
    assert shim.read_text() == "#!/bin/sh\n" + added
    assert os.access(shim, os.X_OK)


def test_from_a_linked_worktree_with_settings_of_its_own(
    tree: Repo, repo: Repo, calls: Path
) -> None:
    hooks.uninstall(open_(repo))
    repo.git("config", "extensions.worktreeConfig", "true")
    tree.git("config", "--worktree", "core.autocrlf", "false")
    assert len(hooks.install(open_(tree))) == len(hooks.HOOKS)
    before = listing(repo)
    assert hooks.install(open_(tree)) == []
    assert hooks.install(open_(repo)) == []
    assert listing(repo) == before
    tree.commit("a\n\nLearned: a")
    assert len(heard(calls)) == 2


def test_the_hook_before_runs_first_and_decides(tree: Repo, repo: Repo, calls: Path) -> None:
    hooks.uninstall(open_(repo))
    for name in hooks.HOOKS:
        text = '#!/bin/sh\nread -r l\necho "old ${0##*/} $* <$l>" >> "$CALLS"\nexit ${OLD:-0}\n'
        hook_file(repo, name, text)
    said = hooks.install(open_(repo))
    assert "runs the hook that was there (commit-msg.gitwaves-orig) first" in said[0]
    old = tree.commit("a\n\nLearned: a")
    assert [line.split()[:2] for line in heard(calls)] == [
        ["old", "commit-msg.gitwaves-orig"],
        ["commit-msg", f"{repo.path}/.git/worktrees/A/COMMIT_EDITMSG"],
        ["old", "post-commit.gitwaves-orig"],
        ["post-commit", "<>"],
    ]
    tree.git("commit", "-q", "--amend", "--allow-empty", "-m", "b\n\nLearned: b")
    rewritten = f"<{old} {tree.oid()}>"
    assert heard(calls)[-2:] == [
        f"old post-rewrite.gitwaves-orig amend {rewritten}",
        f"post-rewrite amend {rewritten}",
    ]
    tree.git("commit", "--allow-empty", "-m", "c\n\nLearned: c", env={"OLD": "7"}, check=False)
    message = f"{repo.path}/.git/worktrees/A/COMMIT_EDITMSG"
    assert heard(calls) == [f"old commit-msg.gitwaves-orig {message} <>"]
    tree.git("commit", "-n", "--allow-empty", "-m", "d\n\nLearned: d", env={"OLD": "7"})
    assert [line.split()[0] for line in heard(calls)] == ["old", "post-commit"]
    # Also where there is nothing for gitwaves to do.
    repo.commit("m\n\nLearned: m")
    assert [line.split()[0] for line in heard(calls)] == ["old"] * 2


def test_hooks_of_other_names_are_left_alone_and_run(tree: Repo, repo: Repo, calls: Path) -> None:
    def told() -> list[str]:
        return [line.split(" /")[0] for line in heard(calls)]

    hooks.uninstall(open_(repo))
    text = '#!/bin/sh\necho "own ${0##*/}" >> "$CALLS"\nexit ${OLD:-0}\n'
    path = hook_file(repo, "pre-commit", text, 0o750)
    hook_file(repo, "pre-merge-commit", text)
    before, stat = listing(repo), path.stat()
    assert hooks.install(open_(repo)) == [f"{name}: installed" for name in hooks.HOOKS]
    assert listing(repo).items() >= before.items()
    tree.commit("a\n\nLearned: a")
    assert told() == ["own pre-commit", "commit-msg", "post-commit <>"]
    old = tree.oid()
    tree.git("commit", "--allow-empty", "-m", "b", env={"OLD": "7"}, check=False)
    assert tree.oid() == old
    assert told() == ["own pre-commit"]
    repo.commit("m", m="1")
    assert told() == ["own pre-commit"]
    tree.git("merge", "-q", "-m", "merge", "main")
    assert told() == ["own pre-merge-commit", "commit-msg", "post-merge 0 <>"]
    hooks.uninstall(open_(repo))
    assert listing(repo) == before
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    tree.commit("c\n\nLearned: c")
    assert told() == ["own pre-commit"]


def test_uninstall_puts_back_byte_for_byte(repo: Repo) -> None:
    hook_file(repo, "commit-msg", "#!/bin/sh\r\n\xff no end", 0o750)
    hook_file(repo, "post-rewrite", "not executable", 0o644)
    repo.write("tools/check", "#!/bin/sh\nexit 1\n").chmod(0o755)
    link = repo.path / ".git/hooks/post-merge"
    link.symlink_to("../../tools/check")
    broken = repo.path / ".git/hooks/post-commit"
    broken.symlink_to("nowhere")
    before = {p.name: p.lstat().st_mode for p in link.parent.iterdir()}
    hooks.install(open_(repo))
    assert hooks.installed(open_(repo))
    assert hooks.install(open_(repo)) == []
    hooks.uninstall(open_(repo))
    assert {p.name: p.lstat().st_mode for p in link.parent.iterdir()} == before
    assert repo.read(".git/hooks/commit-msg") == "#!/bin/sh\r\n\xff no end"
    assert os.readlink(link) == "../../tools/check"
    assert os.readlink(broken) == "nowhere"


@pytest.mark.parametrize("name", ["pre-commit", "pre-merge-commit"])
def test_hooks_of_an_earlier_version_are_taken_away(repo: Repo, name: str) -> None:
    mine = hook_file(repo, name, "#!/bin/sh\necho mine\n")
    before = mine.read_bytes()
    hooks.install(open_(repo))
    hooks._install(mine, b"")  # as it was done then
    assert mine.read_bytes() != before
    assert hooks.faults(open_(repo)) == {hooks.OTHER_VERSION: (name,)}
    said = hooks.install(open_(repo))
    assert said == [f"{name}: removed, and the hook that was there put back"]
    assert mine.read_bytes() == before
    assert hooks.faults(open_(repo)) == {}
    hooks._install(mine, b"")
    hooks.uninstall(open_(repo))
    assert {p.name for p in mine.parent.iterdir() if p.suffix != ".sample"} == {name}
    assert mine.read_bytes() == before


@pytest.mark.parametrize("suffix", [".legacy", ".old"])
@pytest.mark.parametrize("had", [True, False])
def test_uninstall_finds_a_shim_that_a_manager_moved(repo: Repo, suffix: str, had: bool) -> None:
    if had:
        hook_file(repo, "commit-msg", "#!/bin/sh\necho mine\n")
    hooks.install(open_(repo))
    shim = repo.path / ".git/hooks/commit-msg"
    shim.rename(shim.with_name("commit-msg" + suffix))
    hook_file(repo, "commit-msg", "#!/bin/sh\necho manager\n")
    assert not hooks.installed(open_(repo))
    hooks.uninstall(open_(repo))
    left = {p.name for p in shim.parent.iterdir() if p.suffix != ".sample"}
    # As if the manager had found the hook that was there before ours.
    assert left == {"commit-msg", *(["commit-msg" + suffix] if had else [])}
    assert "manager" in shim.read_text()
    if had:
        assert "mine" in shim.with_name("commit-msg" + suffix).read_text()


def test_install_goes_around_a_manager_that_came_after(tree: Repo, repo: Repo, calls: Path) -> None:
    shim = repo.path / ".git/hooks/post-commit"
    shim.rename(shim.with_name("post-commit.old"))  # as lefthook does, which does not run it
    hook_file(repo, "post-commit", '#!/bin/sh\necho manager >> "$CALLS"\n')
    hooks.install(open_(repo))
    assert hooks.installed(open_(repo))
    tree.commit("a\n\nLearned: a")
    assert heard(calls)[-2:] == ["manager", "post-commit <>"]
    assert not shim.with_name("post-commit.old").exists()
    hooks.uninstall(open_(repo))
    assert "manager" in shim.read_text()
    assert not shim.with_name("post-commit.gitwaves-orig").exists()


# What the hook of pre-commit 4 does, in short.
PRE_COMMIT = """\
#!/bin/sh
# File generated by pre-commit: https://pre-commit.com
[ -z "$PRE_COMMIT_RUNNING_LEGACY" ] || { echo "bug: migration mode" >&2; exit 1; }
echo checks >> "$CALLS"
if [ -x "$0.legacy" ]; then PRE_COMMIT_RUNNING_LEGACY=1 "$0.legacy" "$@"; fi
"""


def test_pre_commit_before_and_after_ours(tree: Repo, repo: Repo, calls: Path) -> None:
    opened = open_(repo)
    message = f"commit-msg {repo.path}/.git/worktrees/A/COMMIT_EDITMSG <>"
    hooks.uninstall(opened)
    path = hook_file(repo, "commit-msg", PRE_COMMIT)
    hooks.install(opened)
    tree.commit("a\n\nLearned: a")
    assert heard(calls) == ["checks", message, "post-commit <>"]
    path.rename(path.with_name("commit-msg.legacy"))  # as `pre-commit install` does, again
    hook_file(repo, "commit-msg", PRE_COMMIT)
    assert hooks.installed(opened)
    tree.commit("b\n\nLearned: b")
    assert heard(calls) == ["checks", message, "post-commit <>"]
    assert hooks.install(opened) == ["commit-msg: pre-commit runs ours"]
    hooks.uninstall(opened)
    assert path.read_text() == PRE_COMMIT
    assert not path.with_name("commit-msg.legacy").exists()
    assert not path.with_name("commit-msg.gitwaves-orig").exists()


def test_a_hook_that_would_be_lost_is_refused_and_nothing_is_touched(repo: Repo) -> None:
    hook_file(repo, "post-merge", "#!/bin/sh\n# one\n")
    hooks.install(open_(repo))
    hook_file(repo, "post-merge", "#!/bin/sh\n# two\n")
    before = listing(repo)
    with pytest.raises(Refused, match="post-merge was replaced"):
        hooks.install(open_(repo))
    assert listing(repo) == before
    assert "left, as post-merge has been replaced" in hooks.uninstall(open_(repo))[-2]


def test_an_interrupted_install_is_taken_up(repo: Repo) -> None:
    path = hook_file(repo, "commit-msg", "#!/bin/sh\n# mine\n")
    path.rename(path.with_name("commit-msg.gitwaves-orig"))
    hooks.install(open_(repo))
    assert hooks.installed(open_(repo))
    hooks.uninstall(open_(repo))
    assert "mine" in path.read_text()


@pytest.mark.parametrize("scope", ["--local", "--global"])
def test_a_foreign_hooks_path_is_refused_with_what_to_add(repo: Repo, scope: str) -> None:
    hooks.install(open_(repo))
    repo.git("config", scope, "core.hooksPath", ".husky/_")
    opened = open_(repo)
    assert hooks.hooks_path(opened) == ".husky/_"
    assert not hooks.installed(opened)
    with pytest.raises(Refused, match=r"\.husky/_") as caught:
        hooks.install(opened)
    hint = str(caught.value.hint)
    assert "add to these files in .husky," in hint
    lines = dict(line.strip().split(": ", 1) for line in hint.splitlines()[1:])
    assert set(lines) == set(hooks.HOOKS)
    hooks.uninstall(opened)
    assert not [n for n in listing(repo) if not n.endswith(".sample")]


def test_the_hint_for_a_manager_works(repo: Repo, tmp_path: Path) -> None:
    repo.git("config", "core.hooksPath", ".husky/_")
    with pytest.raises(Refused) as caught:
        hooks.install(open_(repo))
    lines = str(caught.value.hint).splitlines()[1:]
    fake = tmp_path / "bin" / "gitwaves"
    fake.parent.mkdir()
    with_it = {"PATH": f"{fake.parent}:/usr/bin:/bin"}
    for line in lines:
        name, text = line.strip().split(": ", 1)
        script = repo.write("hook", f"set -e\n{text}\n")
        for content, code in (("exit 0", 0), ("exit 1", 0 if name.startswith("post-") else 1)):
            fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n{content}\n')
            fake.chmod(0o755)
            done = subprocess.run(["/bin/sh", "-e", script, "arg"], env=with_it, check=False)
            assert done.returncode == code, (name, content)
            assert (tmp_path / "said").read_text().splitlines()[-1] == f"hook {name} arg"
        fake.unlink()
        subprocess.run(["/bin/sh", "-e", script], env={"PATH": "/usr/bin:/bin"}, check=True)


def test_a_hooks_path_that_is_the_own_folder_is_fine(repo: Repo) -> None:
    repo.git("config", "core.hooksPath", str(repo.path / ".git/hooks"))
    hooks.install(open_(repo))
    assert hooks.installed(open_(repo))


def test_one_in_a_worktrees_own_configuration_is_seen(tree: Repo, repo: Repo) -> None:
    repo.git("config", "extensions.worktreeConfig", "true")
    tree.git("config", "--worktree", "core.hooksPath", "/elsewhere")
    assert hooks.hooks_path(open_(tree)) == "/elsewhere"
    assert hooks.hooks_path(open_(repo)) is None


def test_a_linked_folder_of_hooks_is_refused(repo: Repo) -> None:
    folder = repo.path / ".git/hooks"
    folder.rename(repo.path / "hooks")
    folder.symlink_to("../hooks")
    with pytest.raises(Refused):
        hooks.install(open_(repo))


def test_a_folder_that_cannot_be_written_is_said(repo: Repo) -> None:
    folder = repo.path / ".git/hooks"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("")
    with pytest.raises(GitwavesError, match="cannot write"):
        hooks.install(open_(repo))


def test_in_a_bare_repository(tmp_path: Path) -> None:
    Repo(tmp_path).git("init", "-q", "--bare", "b.git")
    opened = git.Repo(tmp_path / "b.git", None)
    hooks.install(opened)
    assert hooks.installed(opened)


def test_the_shim_is_plain_sh(repo: Repo) -> None:
    hooks.install(open_(repo))
    for name in hooks.HOOKS:
        shim = repo.path / ".git/hooks" / name
        assert "@" not in re.sub(r'"\$@"', "", shim.read_text())
        repo.git("-c", f"alias.x=!sh -n {shlex.quote(str(shim))}", "x")


def test_python_is_started_only_where_there_is_something_to_do(tree: Repo, calls: Path) -> None:
    top = Path(tree.git("rev-parse", "--path-format=absolute", "--git-common-dir"))
    (top / "gitwaves/receipts/A1").rmdir()
    (top / "gitwaves/at-work/ws%2FA.paths").write_text(":(top,exclude,glob)a/**\n")
    tree.commit("inside", **{"a/x": "1"})
    assert heard(calls) == []  # inside the boundary, no trailer, nothing verified
    tree.commit("outside", **{"b/x": "1"})
    assert heard(calls) == [f"commit-msg {top}/worktrees/A/COMMIT_EDITMSG <>"]
    # A merge is looked at, made by `git merge` or concluded by a person.
    tree.git("checkout", "-q", "-b", "other", "HEAD~1")
    tree.commit("other", **{"a/y": "1"})
    tree.commit("and against it", **{"b/x": "2"})
    tree.git("checkout", "-q", "ws/A")
    tree.git("merge", "-q", "-m", "merge", "other~1")
    assert heard(calls) == [f"commit-msg {top}/worktrees/A/MERGE_MSG <>"]
    tree.git("merge", "-q", "other", check=False)
    tree.commit("merged", **{"b/x": "1"})
    assert heard(calls) == [f"commit-msg {top}/worktrees/A/COMMIT_EDITMSG <>"]
    tree.commit("taught\n\nLearned: x", **{"a/x": "2"})
    assert len(heard(calls)) == 1
    (top / "gitwaves/receipts/A1").mkdir()
    tree.commit("verified", **{"a/x": "3"})
    assert heard(calls) == ["post-commit <>"]


@pytest.mark.parametrize(
    "setting", ["--literal-pathspecs", "--icase-pathspecs", "--noglob-pathspecs", "submodule"]
)
def test_no_setting_hides_from_the_shim_what_lies_outside(
    tree: Repo, calls: Path, setting: str
) -> None:
    top = Path(tree.git("rev-parse", "--path-format=absolute", "--git-common-dir"))
    tree.commit("x", **{".gitmodules": '[submodule "A"]\n\tpath = A\n\turl = .\n\tignore = all\n'})
    (top / "gitwaves/at-work/ws%2FA.paths").write_text(":(top,exclude,glob)a/**\n")
    heard(calls)
    if setting == "submodule":
        tree.git("update-index", "--add", "--cacheinfo", f"160000,{tree.oid()},A")
        tree.git("commit", "-q", "-m", "y")
    else:
        tree.write("A/x", "1")
        tree.git("add", "A/x")
        tree.git(setting, "commit", "-q", "-m", "y")
    assert "A" in tree.git("ls-tree", "--name-only", "HEAD").splitlines()
    assert heard(calls)[0] == f"commit-msg {top}/worktrees/A/COMMIT_EDITMSG <>"
