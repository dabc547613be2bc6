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
from gitwaves.trust import Trust, agent_session, commands_of


@pytest.fixture
def common(tmp_path: Path) -> Path:
    path = tmp_path / "repo" / ".git"
    path.mkdir(parents=True)
    return path


def test_what_is_granted_is_kept_outside_the_repository(common: Path, home: Path) -> None:
    trust = Trust(common)
    assert trust.missing(["b", "a", "b"]) == ["b", "a"]
    trust.grant(["b"])
    trust.grant(["c\n\udcff"])
    assert Trust(common).missing(["a", "b", "c\n\udcff"]) == ["a"]
    assert trust.path.is_relative_to(home / ".local/share/gitwaves/trust")
    assert stat.S_IMODE(trust.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(trust.path.stat().st_mode) == 0o600
    assert list(common.iterdir()) == []


def test_repositories_are_apart_and_a_link_is_the_same_one(common: Path, tmp_path: Path) -> None:
    Trust(common).grant(["a"])
    (tmp_path / "link").symlink_to(common)
    assert Trust(tmp_path / "link").missing(["a"]) == []
    assert Trust(tmp_path).missing(["a"]) == ["a"]


def test_untrusted_names_the_new_ones(common: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust = Trust(common)
    trust.grant(["make test"])
    trust.require(["make test"])
    with pytest.raises(Untrusted) as caught:
        trust.require(["make test", "rm -rf /\x1b[2J", "b"])
    assert caught.value.message.splitlines() == [
        "this clone does not trust commands yet:",
        "  rm -rf /\\x1b[2J",
        "  b",
    ]
    assert caught.value.hint == "read them, then run `gitwaves trust`"
    trust.require(["b"], trust_trunk=True)
    assert trust.missing(["b"]) == ["b"]
    monkeypatch.setenv("CLAUDECODE", "1")
    with pytest.raises(Untrusted) as caught:
        trust.require(["b"])
    assert "CLAUDECODE is set" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"commands": "x"}', '{"commands": [1]}', "\0é"])
def test_a_damaged_store_trusts_nothing_and_is_mended(common: Path, text: str) -> None:
    trust = Trust(common)
    trust.grant(["a"])
    trust.path.write_text(text)
    assert trust.missing(["a"]) == ["a"]
    trust.grant(["a"])
    assert trust.missing(["a"]) == []


def test_a_store_that_cannot_be_written_is_said(
    common: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    trust = Trust(common)
    with pytest.raises(GitwavesError, match="cannot record trust") as caught:
        trust.grant(["a"])
    assert "XDG_DATA_HOME" in str(caught.value.hint)


def test_a_relative_data_home_is_ignored(
    common: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "here")
    assert Trust(common).path.is_relative_to(home / ".local/share")


def test_grants_at_the_same_time_are_all_kept(common: Path) -> None:
    code = "import sys; from pathlib import Path; from gitwaves.trust import Trust\n"
    code += "for n in range(20): Trust(Path(sys.argv[1])).grant([f'{sys.argv[2]}-{n}'])"
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
    always = ("npm ci", "echo", "X=1 'my agent' -p", "notify")
    assert commands_of(cards, None) == ("x", "y", "z", "all", *always)
    assert commands_of(cards, ["M1"]) == ("x", "y", *always)
    assert commands_of(cards, []) == always
    with pytest.raises(KeyError):
        commands_of(cards, ["nope"])


def test_agents_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert agent_session() is None
    monkeypatch.setenv("OPENCODE", "1")
    assert agent_session() == "OPENCODE"
    monkeypatch.setenv("GITWAVES_RUN", "x")
    assert agent_session() == "GITWAVES_RUN"
