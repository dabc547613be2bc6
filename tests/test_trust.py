from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gitwaves.errors import GitwavesError, Untrusted
from gitwaves.model import (
    Cards,
    Config,
    MergePoint,
    PointId,
    Profile,
    Step,
    Task,
    TaskId,
    WorkstreamId,
)
from gitwaves.trust import Trust, agent_session, commands_of, steps_named
from tests.landing import planned
from tests.repo import Repo


@pytest.fixture
def common(tmp_path: Path) -> Path:
    path = tmp_path / "repo" / ".git"
    path.mkdir(parents=True)
    return path


def test_what_is_granted_is_kept_outside_the_repository(common: Path, home: Path) -> None:
    trust = Trust(common)
    assert trust.missing(["b", "a", "b"]) == ["b", "a"]
    trust.grant({"A1": ["b"]})
    trust.grant({"A1": ["c\n\udcff"]})
    assert Trust(common).missing(["a", "b", "c\n\udcff"]) == ["a"]
    assert trust.path.is_relative_to(home / ".local/share/gitwaves/trust")
    assert stat.S_IMODE(trust.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(trust.path.stat().st_mode) == 0o600
    assert list(common.iterdir()) == []


def test_repositories_are_apart_and_a_link_is_the_same_one(common: Path, tmp_path: Path) -> None:
    Trust(common).grant({"A1": ["a"]})
    (tmp_path / "link").symlink_to(common)
    assert Trust(tmp_path / "link").missing(["a"]) == []
    assert Trust(tmp_path).missing(["a"]) == ["a"]


def test_untrusted_names_the_new_ones(common: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust = Trust(common)
    trust.grant({"A1": ["make test"]})
    trust.require({"A1": ["make test"]})
    with pytest.raises(Untrusted) as caught:
        trust.require({"A1": ["make test", "rm -rf /\x1b[2J", "b"]})
    assert caught.value.message.splitlines() == [
        "this clone does not trust commands yet:",
        "  A1 changed since it was trusted:",
        "      make test",
        "    + rm -rf /\\x1b[2J",
        "    + b",
    ]
    assert caught.value.hint == "read them, then run `gitwaves trust`"
    trust.require({"A1": ["b"]}, trust_trunk=True)
    assert trust.missing(["b"]) == ["b"]
    monkeypatch.setenv("CLAUDECODE", "1")
    with pytest.raises(Untrusted) as caught:
        trust.require({"A1": ["b"]})
    assert "CLAUDECODE is set" in str(caught.value.hint)


def test_what_changed_is_shown_beside_what_was_trusted(common: Path) -> None:
    trust = Trust(common)
    was = {"A1": ["lint", "make\nmake check", "tidy"], "A2": ["lint"], "setup": ["npm ci"]}
    trust.grant(was)
    now = {
        "A1": ["lint", "make\nmake check all", "tidy"],
        "A2": ["lint", "echo\nnew"],
        "A3": ["brand\nnew"],  # never trusted: shown whole
        "MP1": ["make\nmake check all"],  # shown already
        "setup": ["npm ci"],
    }
    with pytest.raises(Untrusted) as caught:
        trust.require(now)
    assert caught.value.message.splitlines() == [
        "this clone does not trust commands yet:",
        "  A1 changed since it was trusted:",
        "      lint",
        "      make",
        "    - make check",
        "    + make check all",
        "      tidy",
        "  A2 changed since it was trusted:",
        "      lint",
        "    + echo",
        "    + new",
        "  brand",
        "  new",
    ]
    trust.grant(now)
    trust.require(now)
    trust.require(was)  # what was trusted once stays so
    assert [one.before for one in trust.news({"A1": ["other"]})] == [tuple(now["A1"])]


@pytest.mark.parametrize("named", ["[]", '{"A1": "x"}', '{"A1": [1]}', "1"])
def test_texts_that_are_damaged_show_no_difference(common: Path, named: str) -> None:
    trust = Trust(common)
    trust.grant({"A1": ["a"]})
    trust.path.write_text(f'{{"commands": ["a"], "named": {named}}}')
    assert trust.missing(["a"]) == []
    assert [one.lines("$ ") for one in trust.news({"A1": ["b"]})] == [["$ b"]]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"commands": "x"}', '{"commands": [1]}', "\0é"])
def test_a_damaged_store_trusts_nothing_and_is_mended(common: Path, text: str) -> None:
    trust = Trust(common)
    trust.grant({"A1": ["a"]})
    trust.path.write_text(text)
    assert trust.missing(["a"]) == ["a"]
    trust.grant({"A1": ["a"]})
    assert trust.missing(["a"]) == []


def test_a_store_that_cannot_be_written_is_said(
    common: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    trust = Trust(common)
    with pytest.raises(GitwavesError, match="cannot record trust") as caught:
        trust.grant({"A1": ["a"]})
    assert "XDG_DATA_HOME" in str(caught.value.hint)


def test_a_relative_data_home_is_ignored(
    common: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "here")
    assert Trust(common).path.is_relative_to(home / ".local/share")


def test_grants_at_the_same_time_are_all_kept(common: Path) -> None:
    code = "import sys; from pathlib import Path; from gitwaves.trust import Trust\n"
    code += "for n in range(20): Trust(Path(sys.argv[1])).grant({'A1': [f'{sys.argv[2]}-{n}']})"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(common), name], env=env)
        for name in "abcd"
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert Trust(common).missing(f"{name}-{n}" for name in "abcd" for n in range(20)) == []


def test_commands_of_cards() -> None:
    def task(name: str, *steps: Step) -> Task:
        return Task(TaskId(name), name, WorkstreamId("W"), verify=steps)

    config = Config(
        setup=(Step("npm ci"),),
        profiles={
            "b": Profile(("my agent", "-p"), {"X": "1"}),
            "a": Profile(("echo",)),
        },
        on_event="notify",
    )
    tasks = {
        TaskId("A10"): task("A10", Step("z"), Step("x")),
        TaskId("A2"): task("A2", Step("x"), Step(manual="look"), Step("y", always=True)),
    }
    points = {
        PointId("M1"): MergePoint(PointId("M1"), "M", (TaskId("A2"),)),
        PointId("M2"): MergePoint(PointId("M2"), "M", (TaskId("A2"),), verify=(Step("all"),)),
    }
    cards = Cards(config, tasks=tasks, merge_points=points)
    steps = {"A2": ("x", "y"), "A10": ("z", "x"), "M1": ("x", "y"), "M2": ("all",)}
    assert commands_of(cards) == {
        **steps,
        "setup": ("npm ci",),
        "profile a": ("echo",),
        "profile b": ("X=1 'my agent' -p",),
        "on_event": ("notify",),
    }
    assert steps_named(cards, ["M1"]) == {"M1": ("x", "y")}
    assert steps_named(cards, [], setup=True) == {"setup": ("npm ci",)}
    with pytest.raises(KeyError):
        steps_named(cards, ["nope"])


def test_agents_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert agent_session() is None
    monkeypatch.setenv("OPENCODE", "1")
    assert agent_session() == "OPENCODE"
    monkeypatch.setenv("GITWAVES_RUN", "x")
    assert agent_session() == "GITWAVES_RUN"


# --- in every place that runs a command ----------------------------------------------------------


def card(task: str) -> str:
    return f".workstreams/WS-{task[0]}/{task}.yaml"


def edit(repo: Repo, path: str, old: str, new: str) -> None:
    text = repo.read(path)
    assert old in text
    repo.write(path, text.replace(old, new))
    repo.commit(f"Change {path}")


def test_nothing_that_changed_is_run_anywhere(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    plan = planned(tmp_path / "repo", setup="[{run: 'true'}]")
    repo = plan.repo
    repo.gw_ok("trust", "--yes")
    for task in ("A1", "B1"):
        plan.do(task)
    worktree = plan.start("A2")
    worktree.commit("x", **{"a/a2.txt": "x\n"})
    edit(repo, ".workstreams/config.yaml", "run: 'true'", f"run: touch {ran}")
    said = f"  setup changed since it was trusted:\n    - true\n    + touch {ran}\n"
    repo.git("worktree", "remove", "--force", str(worktree.path))
    for args in (
        ("start", "A2"),  # mine already; its worktree is to be made again
        ("start", "B2"),
        ("merge", "MP1"),
        ("audit", "--rerun"),
    ):
        done = repo.gw(*args)
        assert (done.code, said in done.err) == (1, True), (args, done)
    asked = repo.gw("trust", env={"CLAUDECODE": "1"})
    assert asked.out == said
    assert asked.code == 1
    repo.gw_ok("--trust-trunk", "start", "A2")
    ran.unlink()
    edit(repo, card("A2"), "run: test -f a/a2.txt", f"run: touch {ran}")
    changed = f"  A2 changed since it was trusted:\n    - test -f a/a2.txt\n    + touch {ran}\n"
    done = repo.gw("verify", "A2")
    assert (done.code, changed in done.err) == (1, True), done
    edit(repo, card("B1"), "spec: Write", "spec: Write well")  # stale: verified in a checkout
    done = repo.gw("verify", "B1")
    assert (done.code, said in done.err) == (1, True), done
    rest = plan.repo.read(".workstreams/merge-points/MP1.yaml")
    repo.write(".workstreams/merge-points/MP1.yaml", rest.replace("[A1, B1]", "[B1]"))
    repo.commit("Leave A1 to --rest")
    done = repo.gw("merge", "--rest")
    assert (done.code, said in done.err) == (1, True), done
    assert not ran.exists()
    repo.gw_ok("trust", "--yes")
    repo.gw_ok("verify", "B1")
    assert ran.exists()


def test_a_profile_that_changes_while_agents_run(tmp_path: Path) -> None:
    """What trunk says now is run only when it, too, was trusted."""
    ran = tmp_path / "ran"
    plan = planned(tmp_path / "repo")
    repo = plan.repo
    config = ".workstreams/config.yaml"
    agent = tmp_path / "agent.sh"
    agent.write_text(
        f"""
set -e
name=$(echo "$GITWAVES_TASK" | tr A-Z a-z)
mkdir -p "${{name%?}}"
echo x >"${{name%?}}/$name.txt"
sed -i 's|command: .*|command: [touch, {ran}]|' {repo.path}/{config}
git -C {repo.path} commit -q -a -m 'Another agent' || true
"""
    )
    profile = f"agents: 1\nagent: mine\nprofiles:\n  mine:\n    command: [sh, {agent}]\n"
    repo.write(config, repo.read(config) + profile)
    repo.commit("An agent")
    repo.gw_ok("trust", "--yes")
    done = repo.gw("run")
    assert done.code == 1
    assert f"  profile mine changed since it was trusted:\n    - sh {agent}\n" in done.out
    assert plan.states()["A1"] == "done"
    assert plan.states()["B1"] == "runnable"
    assert not ran.exists()
