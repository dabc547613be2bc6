"""Git is started, given its input and heard, whatever the sizes are and however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gitwaves.errors import GitError
from gitwaves.gitcall import Asked, Piped, run_git
from tests.landing import planned
from tests.repo import Repo
from tests.test_eight import plan

BIG = b"".join(b"line %d of a lot\n" % n for n in range(200_000))  # some 4 MB: no pipe holds that


@pytest.fixture
def here(repo: Repo) -> tuple[str, str]:
    return "-C", str(repo.path)


def opened() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()


def test_much_goes_in_and_comes_out(here: tuple[str, str]) -> None:
    oid = run_git([*here, "hash-object", "-w", "--stdin"], stdin=BIG).stdout.decode().strip()
    assert run_git([*here, "cat-file", "blob", oid]).stdout == BIG
    given = f"{oid}\n".encode() * 20
    assert len(run_git([*here, "cat-file", "--batch"], stdin=given).stdout) > 20 * len(BIG)


def test_much_is_said_on_both_sides(here: tuple[str, str]) -> None:
    said = "for n in $(seq 30000); do echo out $n; echo err $n >&2; done; cat; exit 3"
    alias = f"alias.much=!{said}"
    done = run_git([*here, "-c", alias, "much"], stdin=b"given\n", check=False)
    assert done.returncode == 3
    assert done.stdout.splitlines()[-2:] == [b"out 30000", b"given"]
    assert done.stderr.splitlines()[-1] == b"err 30000"


def test_one_that_does_not_listen_is_not_waited_for(here: tuple[str, str]) -> None:
    assert run_git(["--version"], stdin=BIG).stdout.startswith(b"git version")
    with pytest.raises(GitError, match="cat-file"):
        run_git([*here, "cat-file", "blob", "0" * 40], stdin=BIG)


def test_how_it_ended_is_told(here: tuple[str, str]) -> None:
    assert run_git([*here, "rev-parse", "--verify", "-q", "nothing"], check=False).returncode == 1
    killed = run_git([*here, "-c", "alias.die=!kill -9 $PPID", "die"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert Asked(*here, "rev-parse", "--verify", "nothing").said() is None
    assert Asked("--version").said() == run_git(["--version"]).stdout


def test_without_git_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    before = opened()
    with pytest.raises(FileNotFoundError):
        run_git(["--version"], stdin=b"x")
    with pytest.raises(FileNotFoundError):
        Piped("--version")
    assert Asked("--version").said() is None
    assert opened() <= before


def test_nothing_stays_open(here: tuple[str, str]) -> None:
    before = opened()
    for _ in range(3):
        run_git([*here, "status"], stdin=b"x", check=False)
        Asked(*here, "status").said()
        piped = Piped(*here, "cat-file", "--batch")
        piped.stdin.write(b"HEAD\n")
        piped.stdin.flush()
        piped.stdout.readline()
        piped.stop()
        assert piped.ended()
    assert opened() <= before


def test_what_git_holds_open_too_is_held_to_its_end(here: tuple[str, str], tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with lock.open("ab") as file:
        held = f"ls -l /proc/self/fd | grep -c {lock}"
        alias = f"alias.held=!{held}"
        assert run_git([*here, "-c", alias, "held"], keep=[file.fileno()]).stdout == b"1\n"
        assert run_git([*here, "-c", alias, "held"], check=False).stdout == b"0\n"


def test_many_threads_start_it_at_once(here: tuple[str, str]) -> None:
    found: list[bytes] = []

    def ask() -> None:
        args = [*here, "hash-object", "--stdin"]
        found.extend([run_git(args, stdin=b"%d" % n).stdout for n in range(10)])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert len(set(found)) == 10


def test_ctrl_c_ends_it_too(here: tuple[str, str], tmp_path: Path) -> None:
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from gitwaves.gitcall import run_git\n"
        f"run_git(['-C', {here[1]!r}, '-c', 'alias.wait=!echo $$ >{tmp_path}/pid; sleep 60', 'wait'])"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    until = time.monotonic() + 20
    while not (tmp_path / "pid").exists() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in said


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_nobody_elses(repo: Repo, closed: str) -> None:
    """A pipe that took the number of one of them would be closed, or written to, by mistake."""
    plan(repo, 2, letters="AB")
    wanted = repo.gw_ok("next").out
    for command in ("next", "status", "check", "verify"):
        line = f"{sys.executable} -m gitwaves {command} {closed}; echo $? >code"
        done = subprocess.run(
            ["sh", "-c", line], cwd=repo.path, capture_output=True, timeout=60, check=False
        )
        assert repo.read("code").strip() == ("1" if command == "verify" else "0"), done
        if command == "next" and ">&-" not in closed.replace("2>&-", ""):
            assert done.stdout.decode() == wanted


def test_few_open_files_are_enough(repo: Repo) -> None:
    plan(repo, 2, letters="AB")
    repo.gw_ok("trust", "--yes")
    line = f"ulimit -n 64; {sys.executable} -m gitwaves start A1"
    done = subprocess.run(
        ["sh", "-c", line], cwd=repo.path, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done


def test_a_failure_is_one_though_nobody_reads_what_is_said(tmp_path: Path) -> None:
    repo = planned(tmp_path / "repo").repo
    repo.gw_ok("trust", "--yes")
    tree = Repo(Path(repo.gw_ok("start", "A1").out.strip()))
    tree.write("a/other.txt", "x\n")
    assert "does not pass: step 1" in tree.gw("verify").err
    gone = "(exec <&-; sleep 2)"
    line = f"({sys.executable} -m gitwaves verify 2>&1 >/dev/null; echo $? >&3) 3>../code | {gone}"
    subprocess.run(["sh", "-c", line], cwd=tree.path, timeout=60, check=False)
    assert tree.read("../code").strip() == "1"
