from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gitwaves import processes
from gitwaves.errors import GitwavesError
from gitwaves.model import Step
from gitwaves.steps import run_steps

linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def eventually(true: Callable[[], bool], patience: float = 10) -> bool:
    end = time.monotonic() + patience
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def pid_in(path: Path) -> int:
    assert eventually(lambda: path.exists() and path.read_text().strip() != "")
    return int(path.read_text())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "a.log"


# --- processes ---------------------------------------------------------------------------------


def test_a_large_input_neither_blocks_nor_is_cut(tmp_path: Path, log: Path) -> None:
    prompt = b"x" * (1 << 20)
    process = processes.spawn(
        ["sh", "-c", "echo $GITWAVES_RUN; wc -c; echo late >&2"],
        tmp_path, dict(os.environ), prompt, log, "m1",
    )  # fmt: skip
    assert process.wait(20) == 0
    assert log.read_text().split() == ["m1", str(1 << 20), "late"]


def test_without_input_it_is_empty_and_the_log_is_appended_to(tmp_path: Path, log: Path) -> None:
    for _ in range(2):
        assert processes.spawn(["wc", "-c"], tmp_path, os.environ, None, log, "m").wait(20) == 0
    assert log.read_text().split() == ["0", "0"]


def test_a_missing_program_is_said(tmp_path: Path, log: Path) -> None:
    with pytest.raises(GitwavesError, match="cannot run no-such-program-here"):
        processes.spawn(["no-such-program-here"], tmp_path, os.environ, None, log, "m")


def test_stop_asks_first(tmp_path: Path, log: Path) -> None:
    script = "trap 'echo bye; exit 3' INT; echo up; while :; do sleep 0.05; done"
    process = processes.spawn(["sh", "-c", script], tmp_path, os.environ, None, log, "m")
    assert eventually(lambda: "up" in log.read_text())
    processes.stop_tree(process, "m")
    assert log.read_text() == "up\nbye\n"
    assert process.returncode == 3


@linux
def test_stop_reaches_sessions_of_their_own_that_ignore_everything(
    tmp_path: Path, log: Path
) -> None:
    script = (
        "trap '' INT TERM; setsid sh -c \"trap '' INT TERM; echo \\$\\$ > away; "
        'while :; do sleep 0.05; done" & echo $$ > here; while :; do sleep 0.05; done'
    )
    process = processes.spawn(["sh", "-c", script], tmp_path, os.environ, None, log, "deep-1")
    pids = [pid_in(tmp_path / "here"), pid_in(tmp_path / "away")]
    bystander = processes.spawn(["sleep", "30"], tmp_path, os.environ, None, log, "deep-11")
    try:
        processes.stop_tree(process, "deep-1", grace=(0.2, 0.2))
        assert not any(processes.alive(pid) for pid in pids)
        assert processes.marked("deep-1") == []
        assert bystander.poll() is None
    finally:
        processes.stop_tree(bystander, "deep-11")


@linux
def test_stop_waits_for_the_rest_of_the_group(tmp_path: Path, log: Path) -> None:
    child = "trap 'sleep 0.3; echo tidied; exit' INT; echo up; while :; do sleep 0.05; done"
    (tmp_path / "child").write_text(child)
    # A background child of sh ignores SIGINT, so Python starts it; and ends at once when asked.
    code = (
        "import subprocess, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "subprocess.Popen(['sh', 'child']).wait()"
    )
    argv = [sys.executable, "-c", code]
    process = processes.spawn(argv, tmp_path, os.environ, None, log, "m")
    assert eventually(lambda: "up" in log.read_text())
    processes.stop_tree(process, "m")
    assert log.read_text() == "up\ntidied\n"


def test_stop_after_the_end_is_harmless_and_so_is_a_system_without_proc(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path / "no-proc")
    process = processes.spawn(["true"], tmp_path, os.environ, None, log, "m")
    process.wait(20)
    processes.stop_tree(process, "m")
    process = processes.spawn(["sleep", "60"], tmp_path, os.environ, None, log, "m")
    processes.stop_tree(process, "m")
    assert process.returncode == -signal.SIGINT


def test_alive() -> None:
    assert processes.alive(os.getpid())
    process = subprocess.Popen(["true"])
    if Path("/proc/self/stat").exists():  # one that ended, and was not waited for
        assert eventually(lambda: not processes.alive(process.pid))
    process.wait()
    assert not processes.alive(process.pid)
    assert not processes.alive(0)
    assert not processes.alive(-1)


# --- steps -------------------------------------------------------------------------------------


def test_steps_pass_in_order(tmp_path: Path, log: Path) -> None:
    done = run_steps([Step("echo one; pwd >where"), Step("cat where | wc -l; cat")], tmp_path, log)
    assert (done.failed, done.exit, done.timed_out, done.passed) == (None, None, False, True)
    assert [(r.run, r.exit) for r in done.runs] == [
        ("echo one; pwd >where", 0),
        ("cat where | wc -l; cat", 0),
    ]
    assert done.runs[0].log == digest("one\n")
    assert (tmp_path / "where").read_text() == f"{tmp_path}\n"
    assert done.tail.splitlines()[:2] == ["gitwaves: step 1 of 2: echo one; pwd >where", "one"]
    assert log.read_text().splitlines()[0] == done.tail.splitlines()[0]
    assert all(run.seconds == round(run.seconds, 2) for run in done.runs)


def test_the_first_failure_ends_it_but_for_tear_downs(tmp_path: Path, log: Path) -> None:
    steps = [
        Step("printf 'a\\033[2Jb\\tc\\r\\nno end' ; exit 3"),
        Step("touch never"),
        Step("echo down; touch down; exit 9", always=True),
        Step("touch last", always=True),
    ]
    done = run_steps(steps, tmp_path, log)
    assert (done.failed, done.exit) == (1, 3)
    assert [run.exit for run in done.runs] == [3, 9, 0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["down", "last", "logs"]
    assert done.tail.startswith("a\\x1b[2Jb")
    assert "no end\ngitwaves: step 1 exited 3 after" in done.tail
    assert "down" not in done.tail
    assert done.runs[0].log == digest("a\x1b[2Jb\tc\r\nno end")


def test_a_tear_down_that_fails_counts(tmp_path: Path, log: Path) -> None:
    done = run_steps([Step("true"), Step("exit 4", always=True), Step("true")], tmp_path, log)
    assert (done.failed, done.exit, len(done.runs)) == (2, 4, 2)


def test_the_tail_is_short(tmp_path: Path, log: Path) -> None:
    done = run_steps([Step("seq 100000; exit 1")], tmp_path, log)
    lines = done.tail.splitlines()
    assert len(lines) == 40
    assert lines[-2] == "100000"


def test_a_log_that_is_there_is_kept_and_not_counted(tmp_path: Path, log: Path) -> None:
    log.parent.mkdir()
    log.write_text("old")
    done = run_steps([Step("echo new")], tmp_path, log)
    assert log.read_text().startswith("old\n")
    assert "old" not in done.tail
    assert done.runs[0].log == digest("new\n")


def test_the_environment_of_a_step(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GITWAVES_RUN", "GITWAVES_HOOK"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("KEPT", "1")
    run_steps([Step("env > env.txt")], tmp_path, log)
    env = dict(x.split("=", 1) for x in (tmp_path / "env.txt").read_text().splitlines())
    assert not [name for name in env if name.startswith("GITWAVES_")]
    assert "GIT_DIR" not in env
    assert "GIT_INDEX_FILE" not in env
    assert env["KEPT"] == env["PYTHONDONTWRITEBYTECODE"] == "1"
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "0")
    run_steps([Step('test "$PYTHONDONTWRITEBYTECODE" = 0')], tmp_path, log)


@linux
def test_a_timeout_takes_the_whole_tree(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step("setsid sh -c 'echo $$ > away; sleep 60' & echo busy; sleep 60; true", timeout=1)
    start = time.monotonic()
    done = run_steps([step, Step("touch down", always=True)], tmp_path, log)
    assert time.monotonic() - start < 9
    assert (done.failed, done.exit, done.timed_out) == (1, 124, True)
    assert [run.exit for run in done.runs] == [124, 0]
    assert not processes.alive(pid_in(tmp_path / "away"))
    assert (tmp_path / "down").exists()
    assert "busy" in done.tail
    assert "longer than its timeout of 1s" in done.tail


def test_killed_by_a_signal_is_said_as_a_shell_says_it(tmp_path: Path, log: Path) -> None:
    assert run_steps([Step("kill -9 $$")], tmp_path, log).exit == 137


def test_cancel_stops_the_step_and_tears_down(tmp_path: Path, log: Path) -> None:
    cancel = threading.Event()
    threading.Timer(0.4, cancel.set).start()
    steps = [Step("sleep 60"), Step("touch never"), Step("touch down", always=True)]
    done = run_steps(steps, tmp_path, log, cancel=cancel)
    assert (done.failed, done.exit, done.timed_out) == (1, 130, False)
    assert (tmp_path / "down").exists()
    assert not (tmp_path / "never").exists()
    again = run_steps([Step("touch never")], tmp_path, log, cancel=cancel)
    assert (again.failed, again.exit, again.runs) == (1, 130, ())
    assert not (tmp_path / "never").exists()


@linux
def test_interrupt_stops_the_step_tears_down_and_is_raised(tmp_path: Path, log: Path) -> None:
    script = textwrap.dedent(f"""
        from pathlib import Path
        from gitwaves.model import Step
        from gitwaves.steps import run_steps
        steps = [
            Step("setsid sh -c 'echo $$ > away; sleep 60' & sleep 60; true"),
            Step("touch never"),
            Step("touch down", always=True),
        ]
        try:
            run_steps(steps, Path({str(tmp_path)!r}), Path({str(log)!r}))
        except KeyboardInterrupt:
            raise SystemExit(77)
    """)
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    away = pid_in(tmp_path / "away")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 77
    assert not processes.alive(away)
    assert (tmp_path / "down").exists()
    assert not (tmp_path / "never").exists()


@linux
def test_stopping_an_agent_stops_the_steps_it_had_verified(tmp_path: Path, log: Path) -> None:
    script = textwrap.dedent(f"""
        from pathlib import Path
        from gitwaves.model import Step
        from gitwaves.steps import run_steps
        run_steps([Step("echo $$ > inner; sleep 60; true")], Path("."), Path({str(log)!r} + "2"))
    """)
    argv = [sys.executable, "-c", "import os,sys; os.setsid; exec(sys.argv[1])", script]
    process = processes.spawn(argv, tmp_path, os.environ, None, log, "agent-run")
    inner = pid_in(tmp_path / "inner")
    process.kill()  # it cannot tidy up after itself
    process.wait(20)
    assert processes.alive(inner)
    processes.stop_tree(process, "agent-run")
    assert eventually(lambda: not processes.alive(inner))


def test_manual_steps(tmp_path: Path, log: Path) -> None:
    asked = []

    def confirm(text: str) -> str | None:
        asked.append(text)
        return "Ada\x1b" if text == "looks right" else None

    steps = [Step(manual="looks right"), Step(manual="and this"), Step("touch never")]
    done = run_steps(steps, tmp_path, log, confirm=confirm)
    assert asked == ["looks right", "and this"]
    assert (done.failed, done.exit) == (2, 1)
    assert [(r.run, r.exit) for r in done.runs] == [
        ("manual: looks right (confirmed by Ada\\x1b)", 0),
        ("manual: and this", 1),
    ]
    assert done.tail == "gitwaves: not confirmed"
    nobody = run_steps(steps, tmp_path, log)
    assert (nobody.failed, nobody.exit) == (1, 1)
    assert "needs a person" in nobody.tail
    assert not (tmp_path / "never").exists()


def test_a_folder_that_is_gone_fails_the_step(tmp_path: Path, log: Path) -> None:
    done = run_steps([Step("true")], tmp_path / "gone", log)
    assert (done.failed, done.exit) == (1, 126)
    assert "gone" in done.tail


def test_no_steps_pass(tmp_path: Path, log: Path) -> None:
    assert run_steps([], tmp_path, log).passed
