from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.repo import Repo, Result, _run
from tests.test_caches import spoil
from tests.test_eight import plan

PACKAGE = Path(__file__).parent.parent / "gitwaves"
FORMS = (("status",), ("status", "--json"), ("next",))


def whole(repo: Repo, *args: str) -> Result:
    """What gitwaves says where it is not asked the quick way."""
    return _run([sys.executable, "-c", "from gitwaves.cli import main; main()", *args], repo.path)


def shown(repo: Repo) -> Path:
    return repo.path / ".git/gitwaves/shown"


def linked_of(repo: Repo) -> Repo:
    """The worktree of the task that is at work."""
    listed = repo.git("worktree", "list", "--porcelain")
    return Repo(Path(listed.split("worktree ")[-1].split("\n")[0]))


def require_same(repo: Repo, where: Repo | None = None) -> None:
    """Asserts that both ways say the same: from what is kept, and with nothing kept at all."""
    at = where or repo
    for form in FORMS:
        said = [at.gw(*form), at.gw(*form), whole(at, *form)]
        for kept in ("cache", "facts", "history", "merges", "plans"):
            shutil.rmtree(repo.path / ".git/gitwaves" / kept, ignore_errors=True)
        wanted = whole(at, *form)
        assert said == [wanted] * 3


@pytest.fixture
def begun(repo: Repo) -> Repo:
    """A plan with a task at work and one that is done."""
    plan(repo, 2, letters="AB")
    repo.gw_ok("trust", "--yes")
    repo.gw_ok("start", "A1")
    return repo


def modules(repo: Repo, env: dict[str, str] | None = None, command: str = "status") -> str:
    argv = [sys.executable, "-X", "importtime", "-m", "gitwaves", command]
    done = _run(argv, repo.path, env=env)
    assert done.code == 0
    return done.err


def is_kept(repo: Repo, env: dict[str, str] | None = None) -> bool:
    """Whether an answer that was kept is given."""
    return "gitwaves.store" not in modules(repo, env)


def test_nothing_slow_is_imported_where_nothing_changed(begun: Repo) -> None:
    said = modules(begun)
    assert "gitwaves.store" in said
    assert "click" not in said
    said = modules(begun)
    assert "gitwaves.quick" in said
    for slow in ("click", "subprocess", "ruamel", "dataclasses", "gitwaves.model", "json"):
        assert slow not in said.replace("runpy", "")


def test_settings_in_any_file_are_seen(begun: Repo, tmp_path: Path) -> None:
    """Those that Git reads by itself are compared as files; where one includes another, Git is asked."""
    included, other, own = (tmp_path / name for name in ("included", "other", "own"))
    env = {"GIT_CONFIG_GLOBAL": str(own)}
    writes = (
        lambda: own.write_text("[user]\n\tname = One\n"),
        lambda: own.write_text("[user]\n\tname = Two\n"),
        lambda: own.write_text(f"[include]\n\tpath = {included}\n"),
        lambda: included.write_text("[merge]\n\trenameLimit = 7\n"),
        lambda: included.write_text("[merge]\n\trenameLimit = 8\n"),
        lambda: begun.git("config", "core.attributesFile", str(other)),
        lambda: other.write_text("*.txt -merge\n"),
        lambda: other.write_text("*.md -merge\n"),
        lambda: begun.git("config", "includeIf.gitdir:**.path", str(included)),
    )
    assert [is_kept(begun, env) for _ in range(2)] == [False, True]
    for write in writes:
        write()
        assert [is_kept(begun, env) for _ in range(2)] == [False, True]
    assert is_kept(begun, {"GIT_CONFIG_GLOBAL": str(tmp_path / "nowhere")}) is False


def test_what_names_the_files_of_settings_is_seen(begun: Repo, tmp_path: Path) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        for value in (str(tmp_path / "nowhere"), ""):
            env = {name: value}
            assert [is_kept(begun, env) for _ in range(2)] == [False, True]
    assert not is_kept(begun, {"GIT_CONFIG_NOSYSTEM": "0"})


def test_a_reference_in_any_form_is_seen(begun: Repo) -> None:
    moves = (
        ("branch", "new/branch", "main"),
        ("pack-refs", "--all"),
        ("branch", "-D", "new/branch"),
        ("branch", "-f", "ws/B", "main"),
        ("update-ref", "refs/remotes/origin/ws/A", "main"),
        ("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/ws/A"),
        ("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"),
    )
    assert [is_kept(begun) for _ in range(2)] == [False, True]
    for move in moves:
        begun.git(*move)
        assert [is_kept(begun) for _ in range(2)] == [False, True]
    (begun.path / ".git/refs/heads/ws/B.lock").touch()  # of a git at work: it says nothing yet
    assert is_kept(begun)


def test_a_reference_that_is_a_link_is_left_to_git(begun: Repo) -> None:
    assert [is_kept(begun) for _ in range(2)] == [False, True]
    heads = begun.path / ".git/refs/heads"
    (heads / "link").symlink_to("main")
    assert not any(is_kept(begun) for _ in range(2))


def test_attributes_below_the_top_are_looked_at_each_time(begun: Repo) -> None:
    """They change how branches merge, and nobody sees their edits who reads no index."""
    assert [is_kept(begun) for _ in range(2)] == [False, True]
    begun.commit("Attributes", **{"b/.gitattributes": "*.txt text\n"})
    assert not any(is_kept(begun) for _ in range(2))
    begun.gw_ok("next")
    assert "gitwaves.store" not in modules(begun, command="next")  # which tells of no merges


def test_a_symbolic_reference_to_elsewhere_is_left_to_git(begun: Repo) -> None:
    begun.git("update-ref", "refs/custom/one", "main")
    begun.git("symbolic-ref", "refs/heads/odd", "refs/custom/one")
    assert not any(is_kept(begun) for _ in range(2))


def test_packed_references_behind_a_link_are_read(begun: Repo) -> None:
    """As git-new-workdir makes one; Git writes through it."""
    begun.git("pack-refs", "--all")
    packed = begun.path / ".git/packed-refs"
    packed.rename(packed.with_name("elsewhere"))
    packed.symlink_to("elsewhere")
    assert [is_kept(begun) for _ in range(2)] == [False, True]
    begun.git("update-ref", "refs/heads/ws/B", older(begun))
    begun.git("pack-refs", "--all")
    assert [is_kept(begun) for _ in range(2)] == [False, True]


def older(repo: Repo) -> str:
    """A commit that no reference holds."""
    return repo.git("commit-tree", "-p", "main", "-m", "Other", "main^{tree}")


WRAPPER = """\
#!/bin/sh
case "$*" in
*for-each-ref*) {git} update-ref {name} main; {git} "$@"; {git} update-ref {after}; exit ;;
esac
exec {git} "$@"
"""


@pytest.mark.parametrize("after", ["-d refs/heads/ws/new", "refs/heads/ws/B {old}"])
def test_a_reference_that_comes_and_goes_while_git_is_asked(
    begun: Repo, tmp_path: Path, after: str
) -> None:
    """Then what Git said is not what is there, before and after."""
    old = older(begun)
    begun.git("update-ref", "refs/heads/ws/B", old)
    name = "refs/heads/ws/new" if "new" in after else "refs/heads/ws/B"
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin/git"
    git = f"{shutil.which('git')} -C {begun.path}"
    wrapper.write_text(WRAPPER.format(git=git, name=name, after=after.format(old=old)))
    wrapper.chmod(0o755)
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    assert not any(is_kept(begun, path) for _ in range(3))


def test_without_git_it_is_said(begun: Repo, tmp_path: Path) -> None:
    for form in (*FORMS, ("show", "A1")):
        said = begun.gw(*form, env={"PATH": str(tmp_path)})
        assert (said.code, said.err.split("\n")[0]) == (1, "Error: git is not installed")


def test_a_kept_answer_that_is_no_file_is_not_waited_for(begun: Repo) -> None:
    begun.gw_ok("next")
    (kept,) = shown(begun).glob("next-*")
    kept.unlink()
    os.mkfifo(kept)
    assert begun.gw("next") == whole(begun, "next")


def test_any_byte_of_what_is_kept_may_be_spoiled(begun: Repo) -> None:
    said = begun.gw_ok("next").out
    (kept,) = shown(begun).glob("next-*")
    data = kept.read_bytes()
    head = data.index(b"\n", data.index(b"\n") + 1)
    for at in range(head):
        for byte in b"0179 \n":
            kept.write_bytes(data[:at] + bytes([byte]) + data[at + 1 :])
            if at % 7 == byte % 7:  # some of them, as each takes a process
                assert begun.gw_ok("next").out == said


def test_an_answer_is_kept_for_each_checkout_and_form(begun: Repo) -> None:
    linked = linked_of(begun)
    for where in (begun, linked):
        require_same(begun, where)
    assert len(list(shown(begun).iterdir())) == 6


def changes(repo: Repo) -> dict[str, Callable[[], object]]:
    """What can happen to a repository, each of which may be seen in `status`."""
    card = ".workstreams/WS-B/B1.yaml"
    return {
        "a card on trunk": lambda: repo.commit(
            "Title", **{card: repo.read(card).replace("title: ", "title: X", 1)}
        ),
        "a file of code": lambda: repo.commit("Code", **{"b/x.txt": str(random.random())}),
        "an edited card": lambda: repo.write(card, repo.read(card) + "\n"),
        "a new card": lambda: repo.write(".workstreams/WS-B/B9.yaml", "id: B9\n"),
        "all put back": lambda: (repo.git("reset", "-q", "--hard"), repo.git("clean", "-qfd")),
        "a worktree": lambda: repo.git("worktree", "add", "-q", "../w1", "-b", "x1"),
        "a worktree gone": lambda: shutil.rmtree(repo.path.parent / "w1", ignore_errors=True),
        "a branch moved": lambda: repo.git("branch", "-f", "ws/B", "main"),
        "a remote's branch": lambda: repo.git("update-ref", "refs/remotes/origin/ws/A", "main"),
        "a setting": lambda: repo.git("config", "gitwaves.trunk", "main"),
        "another setting": lambda: repo.git("config", "merge.renames", "false"),
        "objects packed": lambda: repo.git("repack", "-q", "-a", "-d"),
        "references packed": lambda: repo.git("pack-refs", "--all"),
        "attributes": lambda: repo.write(".gitattributes", "*.txt -merge\n"),
        "HEAD detached": lambda: repo.git("checkout", "-q", "--detach"),
        "HEAD on main": lambda: repo.git("checkout", "-q", "-f", "main"),
    }


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 6))]
)
def test_a_kept_answer_is_the_whole_ways(begun: Repo, seed: int) -> None:
    rng = random.Random(seed)
    possible = changes(begun)
    for name in rng.sample(sorted(possible), 6):
        possible[name]()
        own = (begun.path / ".git/gitwaves" / name for name in ("cache", "facts", "plans"))
        for folder in (shown(begun), *own):
            if folder.is_dir() and rng.random() < 0.5:
                spoil(folder, rng)
        require_same(begun)


def test_evidence_that_git_loses_is_seen(begun: Repo) -> None:
    """The commit of landed evidence that only a deleted branch held: Git drops it one day."""
    linked = linked_of(begun)
    linked.commit("Work", **{"a/1.txt": "ok\n"})
    begun.gw_ok("verify", "A1")
    begun.gw_ok("merge", "--rest")
    require_same(begun)
    branch = linked.git("branch", "--show-current")
    begun.git("worktree", "remove", "--force", str(linked.path))
    begun.git("checkout", "-q", "--orphan", "new")
    begun.git("commit", "-q", "-m", "All in one")
    begun.git("branch", "-f", "main", "new")
    begun.git("checkout", "-q", "main")
    begun.git("branch", "-D", branch, "new")
    require_same(begun)
    before = begun.gw("status", "--json")
    begun.git("reflog", "expire", "--expire=now", "--all")
    begun.git("prune", "--expire=now")
    require_same(begun)
    assert begun.gw("status", "--json") != before


def test_where_there_is_a_doubt_the_whole_runs(begun: Repo, tmp_path: Path) -> None:
    require_same(begun)
    for env in ({"GIT_DIR": str(tmp_path)}, {"GIT_CEILING_DIRECTORIES": str(begun.path)}):
        assert begun.gw("status", env=env) == _run(
            [sys.executable, "-c", "from gitwaves.cli import main; main()", "status"],
            begun.path,
            env=env,
        )
    inside = Repo(begun.path / ".git")
    assert inside.gw("status") == whole(inside, "status")
    below = Repo(begun.path / ".workstreams")
    assert below.gw("status") == whole(below, "status")
    (begun.path / ".git/gitwaves/cache").rename(begun.path / "elsewhere")
    (begun.path / ".git/gitwaves/cache").symlink_to(begun.path / "elsewhere")
    assert begun.gw("status") == whole(begun, "status")
    assert begun.gw("status").code == 1


def test_a_change_of_the_code_is_seen(begun: Repo, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(PACKAGE, copied / "gitwaves")
    shutil.copytree(PACKAGE.parent / "schemas", copied / "schemas")
    env = {"PYTHONPATH": str(copied)}
    assert "CRITICAL PATH" in begun.gw_ok("status", env=env).out
    source = copied / "gitwaves/render.py"
    source.write_text(source.read_text().replace("CRITICAL PATH", "CRITICAL WAY"))
    assert "CRITICAL WAY" in begun.gw_ok("status", env=env).out


def test_many_at_once_all_say_the_same(begun: Repo) -> None:
    wanted = whole(begun, "status")
    with ThreadPoolExecutor(6) as pool:
        for _ in range(2):
            assert list(pool.map(lambda _: begun.gw("status"), range(12))) == [wanted] * 12
            shutil.rmtree(shown(begun))


def test_what_is_kept_is_bounded(begun: Repo) -> None:
    begun.gw_ok("status")
    for n in range(200):
        (shown(begun) / f"text-{n}.{n}").write_bytes(b"left by a kill")
    begun.commit("Code", **{"c.txt": "1"})
    begun.gw_ok("status")
    assert len(list(shown(begun).iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("args", [("status",), ("next",), ("show", "B1")])
def test_what_cannot_be_written_is_said(begun: Repo, args: tuple[str, ...]) -> None:
    for _ in range(2):  # made anew, and kept
        command = [sys.executable, "-m", "gitwaves", *args]
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                command, cwd=begun.path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 1
        assert done.stderr.startswith("Error: No space left on device\nHint: ")
