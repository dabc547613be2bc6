"""Whatever lies under .git/gitwaves: it is no option, no path, and no reason to fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.hostile import A2, K, outside, quiet, short
from tests.repo import Repo
from tests.test_repositories import (
    gw,
    gw_ok,
    says,
    started,
    states,
    verified,
)

GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "torn": b'{"task": "A1", "tree": "',
    "deep": b"[" * 100 * K,
    "list": b"[1, 2]",
    "number": b"1e999",
    "text": b'"x"',
    "null": b"null",
    "not text": b"\xff\xfe\x00",
    "wrong types": json.dumps(
        {"task": "A1", "tree": ["x"], "spec": 1, "content": "--output=pwned", "runs": [[1]],
         "attempts": 1e308, "unchanged": "yes", "runner": {"x": 1}, "marker": [None], "path": 7,
         "node": [], "ours": "--output=pwned", "theirs": None, "name": 1, "left": "x", "again": "n",
         "commands": {"x": 1}}
    ).encode(),
    "infinite": b'{"runner": 1e999, "marker": "x", "attempts": Infinity, "commands": [NaN]}',
    "huge": b'{"x": "' + b"y" * (9 << 20) + b'"}',
}  # fmt: skip
OWN = ["receipts/A1/{tree}.json", "at-work/ws%2FA", "at-work/ws%2FA.paths", "made/ws%2FA", "clone",
       "agents/A1.json", "watched/A1", "merging/MP1.json", "cache/x", "unprepared/ws%2FA"]  # fmt: skip


@pytest.mark.parametrize("garbage", short(GARBAGE, "torn", "wrong types"))
def test_garbage_among_our_own_files(plan: Repo, tmp_path: Path, home: Path, garbage: str) -> None:
    gw_ok(plan, "hooks", "install")
    gw_ok(plan, "trust", "--yes")
    a1 = started(plan)
    a1.write("a/a1.txt", "one\n")
    gw_ok(a1, "verify")
    state = plan.path / ".git/gitwaves"
    receipts = list((state / "receipts/A1").iterdir())
    assert len(receipts) == 1
    for name in OWN:
        path = state / name.format(tree=receipts[0].stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(GARBAGE[garbage])
    for file in (home / ".local/share/gitwaves/trust").glob("*.json"):
        file.write_bytes(GARBAGE[garbage])
    before = outside(tmp_path)
    begun = time.monotonic()
    assert "trust" in says(quiet(a1.gw("verify", "--unchanged")))
    a1.git("add", "-A")
    a1.git("commit", "-q", "-m", "Do it")  # with hooks
    for args in (["status"], ["sync"], ["stop", "A1"], ["merge", "MP1", "--continue"], ["clean"]):
        quiet(gw(plan, *args))
    assert states(plan)["A1"] == "active"  # a lost receipt costs a run, and no more
    if garbage != "huge":
        gw_ok(a1, "verify")
        assert states(plan)["A1"] == "done"
    assert time.monotonic() - begun < 60
    assert outside(tmp_path) == before
    assert plan.git("fsck", "--no-dangling", "--no-progress") == ""


def test_a_receipt_is_no_option(plan: Repo, tmp_path: Path) -> None:
    a1 = started(plan)
    a1.write("a/a1.txt", "one\n")
    gw_ok(a1, "verify")
    (receipt,) = (plan.path / ".git/gitwaves/receipts/A1").iterdir()
    held = json.loads(receipt.read_bytes())
    for content in (f"--output={tmp_path}/pwned", "HEAD", "", "x" * 40, ["x"], None):
        receipt.write_text(json.dumps({**held, "content": content}))
        a1.commit("Something else", **{"a/a2.txt": str(content)})
        done = a1.gw("hook", "post-commit")
        assert (done.code, done.out, done.err) == (0, "", ""), done
    a1.git("reset", "-q", "--hard", "HEAD~6")
    assert states(plan)["A1"] == "active"


def test_a_waiting_merge_names_its_own_checkout(plan: Repo) -> None:
    a1 = started(plan)
    a1.write("a/mine.txt", "mine\n")
    note = plan.path / ".git/gitwaves/merging/MP1.json"
    note.parent.mkdir()
    oid = plan.oid()
    held = {
        "node": "MP1",
        "path": str(a1.path),
        "ours": oid,
        "theirs": oid,
        "name": "A1",
        "left": [],
    }
    note.write_text(json.dumps(held))
    says(quiet(gw(plan, "merge", "MP1", "--continue")))
    verified(a1)
    gw_ok(plan, "merge", "MP1")  # forgets what waited, and removes its checkout
    assert a1.read("a/mine.txt") == "mine\n"
    assert not note.exists()


def test_special_files(plan: Repo) -> None:
    (plan.path / A2).unlink(missing_ok=True)
    os.mkfifo(plan.path / A2)
    os.mkfifo(plan.path / ".workstreams/WS-A/A3.yaml")
    assert f"{A2}:1:1: error: a special file" in quiet(gw(plan, "check")).out
    state = plan.path / ".git/gitwaves"
    for name in ("receipts/A1/x.json", "made/ws%2FA", "agents/A1.json", "cache/x", "logs/A1/x.log"):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(state / name)
    for args in (["status"], ["start", "A1"], ["stop", "A1"], ["logs", "A1"], ["clean"]):
        done = subprocess.run(
            [sys.executable, "-m", "gitwaves", "--trust-trunk", *args],
            cwd=plan.path, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode in {0, 1}, done


def test_a_card_whose_name_is_no_text(plan: Repo) -> None:
    folder = os.fsencode(plan.path / ".workstreams/WS-A")
    with open(folder + b"/\xff.yaml", "wb") as file:
        file.write((plan.path / ".workstreams/WS-A/A1.yaml").read_bytes())
    said = quiet(gw(plan, "check")).out
    assert "cannot be an id" in said
    plan.git("add", "-A")
    plan.git("commit", "-q", "-m", "Odd")
    for args in (["status"], ["next"], ["show", "A1"], ["check", "HEAD"]):
        quiet(gw(plan, *args))
