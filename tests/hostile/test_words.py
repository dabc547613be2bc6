"""Whatever a title, a path or a commit says: nothing steers a terminal, nothing breaks a file."""

from __future__ import annotations

import os
from pathlib import Path

from gitwaves.model import NOTE_LENGTH
from tests.hostile import A2, MARK, OK, STEERING, TRACKING, K, quiet
from tests.repo import Repo
from tests.test_repositories import (
    A1,
    CONFIG,
    PLAN,
    gw,
    gw_ok,
    says,
    started,
    states,
)

# --- what reaches a terminal -------------------------------------------------------------------


def test_nothing_steers_the_terminal(plan: Repo, tmp_path: Path) -> None:
    bad = "\x1b[2J\x1b]0;t\x07\x9b31m\u202e"
    quoted = '"\\e[2J\\e]0;t\\a\\x9b31m\\u202e"'
    title = {
        A1: PLAN[A1].replace("title: First", f"title: {quoted}\nagent: {quoted}"),
        CONFIG: PLAN[CONFIG].replace("title: Kinds", f"title: {quoted}"),
        ".workstreams/WS-A/workstream.yaml": f"title: {quoted}\npaths: [a/**]\n",
    }
    title[A1] = title[A1].replace("grep -q", "printf '\\033[31mred\\033[0m\\a'; grep -q")
    plan.commit("Odd", **title)
    plan.git("update-ref", f"refs/heads/x{bad[3]}\u202e\x9b", "HEAD")
    reading = (
        ["status"], ["status", "--json"], ["next"], ["next", "--json"], ["plan"], ["plan", "--json"],
        ["show", "A1"], ["show", "A1", "--json"], ["brief", "A1"], ["check"], ["check", "--json"],
        ["logs", "A1"], ["trust"], ["clean"],
    )  # fmt: skip
    for args in reading:
        quiet(gw(plan, *args))
    quiet(gw(plan, "start", "A1", "--agent", bad))
    a1 = Repo(tmp_path / "repo.worktrees/ws-A")
    a1.write(f"a/{bad}.txt", "x\n")
    quiet(gw(a1, "verify"))  # fails, and shows the end of the log
    quiet(gw(plan, "logs", "A1"))
    a1.write("a/a1.txt", "one\n")
    quiet(gw(plan, "learn", "A1", f"a {bad} b"))
    quiet(gw(plan, "gap", "A1", f"a {bad} b"))
    quiet(gw(a1, "verify"))  # passes, and says what is not committed
    quiet(gw(a1, "verify", "--commit"))
    for args in reading:
        quiet(gw(plan, *args))
    quiet(gw(plan, "merge", "MP1"))
    assert states(plan)["A1"] == "done"
    for rev in ("main", "ws/A", "gitwaves/dashboard"):
        assert not STEERING.search(plan.git("log", "--format=%an %s %b", f"main..{rev}"))
    for file in ("gitwaves/dashboard:LEARNINGS.md", "main:CLAUDE.md", f"main:{A1}"):
        text = plan.git("cat-file", "blob", file)
        assert "a \\x1b" in text or "a \\\\x1b" in text
        assert not STEERING.search(text)
    for file in ("gitwaves/dashboard:DASHBOARD.txt", "main:.workstreams/DASHBOARD.txt"):
        assert plan.git("cat-file", "blob", file).isascii()
    assert "a \\x1b" in quiet(gw(plan, "show", "A1")).out
    for args in (["show", bad], ["status", bad], ["start", bad], [bad], ["-C", bad, "status"]):
        quiet(gw(plan, *args))


def test_hooks_do_not_steer_the_terminal_either(plan: Repo) -> None:
    gw_ok(plan, "hooks", "install")
    a1 = started(plan)
    a1.write("a/a1.txt", "one\n")
    gw_ok(a1, "verify")
    a1.write("a/\x1b[2J\u202e", "x\n")
    a1.git("add", "-A")
    said = a1.git("-c", 'alias.said=!f() { git "$@" 2>&1; }; f', "said", "commit", "-q", "-m", "x")
    assert "it differs in a/\\x1b[2J\\u202e" in said
    a1.write("b/\x1b[2J", "x\n")
    a1.git("add", "-A")
    said = a1.git(
        "-c",
        'alias.said=!f() { git "$@" 2>&1; }; f',
        "said",
        "commit",
        "-q",
        "-m",
        "y",
        check=False,
    )
    assert "b/\\x1b[2J belongs to WS-B" in said


# --- what commits say --------------------------------------------------------------------------


def test_hostile_trailers(plan: Repo) -> None:
    plan.commit("House rules", **{"CLAUDE.md": "# House rules\n\nBe kind.\n"})
    a1 = started(plan)
    a1.write("a/a1.txt", "one\n")
    lines = [
        "Learned: <!-- gitwaves: end --> and out",
        "Learned: <!-- gitwaves: learnings, compiled from the task cards -->",
        "Learned: </details><script>alert(1)</script> [x](javascript:y) # not a heading",
        "Learned: \x1b[2J caf\udce9 \udcff",
        "Learned: " + "long " * 200_000,
        "Spec-gap: " + "x" * 1_000_000,
        "Spec-gap: tracking: {status: done} # --- tracking: written by",
        *(f"Learned: number {i}" for i in range(5000)),
        "Task: A1",
    ]
    a1.git("add", "-A")
    message = ("Do it\n\n" + "\n".join(lines) + "\n").encode(errors="surrogateescape")
    (plan.path / ".git/message").write_bytes(message)
    a1.git("commit", "-q", "-F", str(plan.path / ".git/message"))
    assert quiet(gw(a1, "verify")).out.startswith("A1 is done\n")
    assert len(a1.git("cat-file", "blob", f"HEAD:{A1}")) < 64 * K
    text = ""
    for number in ("1", "2"):  # the section is compiled anew each time
        if number == "1":
            gw_ok(plan, "merge", "MP1")
        else:
            b1 = started(plan, "B1")
            b1.write("b/b1.txt", "two\n")
            gw_ok(b1, "verify", "--commit", "-m", "Do it\n\nLearned: one more")
            gw_ok(plan, "merge", "--rest")
        text = plan.git("cat-file", "blob", "main:CLAUDE.md")
        assert text.startswith("# House rules\n\nBe kind.\n\n<!-- gitwaves: learnings,")
        assert text.endswith("\n<!-- gitwaves: end -->")
        assert text.count("<!--") == text.count("-->") == 2
        assert not STEERING.search(text)
        assert "caf\xe9 \xff" in text  # as Git reads what is no UTF-8
    assert "- one more (B1" in text
    assert max(map(len, text.splitlines())) < NOTE_LENGTH + 100
    assert states(plan) == {"A1": "done", "B1": "done"}
    quiet(gw(plan, "show", "A1"))


def test_notes_of_any_length(plan: Repo) -> None:
    started(plan)
    for text in ("x" * (NOTE_LENGTH + 1), "", " \n"):
        for command in ("learn", "gap"):
            says(quiet(gw(plan, command, "A1", text)), code=2)
    odd = os.fsdecode(b"caf\xe9 \xff")
    for command in ("learn", "gap"):
        gw_ok(plan, command, "A1", odd)
    assert "caf\ufffd \ufffd" in quiet(gw(plan, "show", "A1")).out
    assert states(plan)["A1"] == "active"


def test_a_plan_of_odd_values_is_worked_on(plan: Repo) -> None:
    odd = OK.replace(b"title: x", b"title: '--help $(touch pwned) `touch pwned` %s {0} <!-- -->'")
    odd = odd.replace(b"'true'", b"test -f a/a2.txt\n    timeout: 999999d")
    card = odd + b"estimate: 999999d\n" + MARK + TRACKING
    (plan.path / A2).write_bytes(card)
    plan.commit("Odd", **{CONFIG: f"{PLAN[CONFIG]}agents: 999999999999999999\nlease: 999999d\n"})
    a2 = started(plan, "A2")
    a2.write("a/a2.txt", "x\n")
    a2.write("a/:(exclude)*", "x\n")
    gw_ok(a2, "verify", "--commit")
    for args in (["status", "--json"], ["plan"], ["show", "A2"], ["brief", "A2"]):
        quiet(gw(plan, *args))
