"""`import` dies anywhere: the cards that the next one leaves are those of one that was not killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.harness import KILLED, Lab, Server, new_lab
from tests.repo import Repo

FIRST = """\
# Shop

## WS-A: Alpha
Paths: `a/**`

### A1: First
Verify: `true`

Write one.

### A2: Second
Depends on: A1
Verify: `true`

Write two.

### A3: Third
Verify: `true`

Write three.

## WS-B: Beta
Paths: `b/**`

### B1: Other
Verify: `true`

Write more.

## Merge points
- MP1: A1 + B1 -> unlocks A2
"""
# A1 has a new spec, A2 goes to another workstream, A3 is gone, B2 and MP2 are new.
SECOND = (
    FIRST.replace("Write one.", "Write one, and well.")
    .replace("### A2: Second\nDepends on: A1\nVerify: `true`\n\nWrite two.\n\n", "")
    .replace("### A3: Third\nVerify: `true`\n\nWrite three.\n\n", "")
    .replace(
        "## Merge points\n",
        "### A2: Second\nDepends on: A1\nVerify: `true`\n\nWrite two.\n\n"
        "### B2: Last\nVerify: `true`\n\nWrite the rest.\n\n## Merge points\n- MP2: B2\n",
    )
)
ACTIONS = ("same", "status", "check", "commit", "commit-a", "partial")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.close()


@pytest.fixture
def lab(tmp_path: Path, server: Server) -> Lab:
    return new_lab(tmp_path, server)


def first(lab: Lab) -> None:
    """A plan without cards, and a design doc; the user has work of other kinds."""
    repo = Repo.init(lab.repo.path)
    repo.commit("Approve", **{"docs/design.md": FIRST, "README": "one\n"})
    lab.gw_ok("init")
    repo.commit("Set up")
    repo.write("README", "two\n")
    repo.write("staged.txt", "one\n")
    repo.git("add", "staged.txt")
    repo.write("untracked.txt", "one\n")


def again(lab: Lab) -> None:
    """Cards that stand, one of them edited and not committed, and a design doc that has changed."""
    first(lab)
    lab.gw_ok("import", "docs/design.md")
    lab.repo.git("add", ".workstreams")
    lab.repo.git("commit", "-q", "-m", "Plan", "--", ".workstreams")
    lab.repo.write("docs/design.md", SECOND)
    lab.repo.git("commit", "-q", "-m", "Change the design", "--", "docs/design.md")
    card = ".workstreams/WS-B/B1.yaml"
    lab.repo.write(card, lab.repo.read(card).replace("title: Other", "title: My own title"))


def cards(lab: Lab) -> dict[str, bytes]:
    root = lab.repo.path / ".workstreams"
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
    }


def die_and_go_on(lab: Lab, at: int, mode: str, action: str, wanted: dict[str, bytes]) -> None:
    lab.restore()
    repo = lab.repo
    before = lab.work()
    dead = lab.kill(at, mode, "import", "docs/design.md", cwd=repo.path)
    assert dead.code == KILLED, dead
    lab.require_kept(before)
    if action in {"status", "check"}:
        done = lab.gw(action)
        assert done.code in {0, 1}, done
        assert "bug in gitwaves" not in done.err, done
    elif action != "same":
        how = {"commit": ["-m", "x"], "commit-a": ["-a", "-m", "x"], "partial": ["-m", "x", "--"]}
        paths = ["README"] if action == "partial" else []
        assert lab.git("commit", "-q", *how[action], *paths, cwd=repo.path).code == 0
    lab.require_kept(before, taken=action == "commit-a")
    lab.gw_ok("import", "docs/design.md")
    assert cards(lab) == wanted
    lab.require_kept(before, taken=action == "commit-a")
    assert lab.git("fsck", "--no-dangling", "--no-progress", cwd=repo.path).out == ""


def modes_of(write: str) -> list[str]:
    return ["before", "torn"] if write.startswith("write") else ["before"]


def every(lab: Lab, prepare: Callable[[Lab], None]) -> tuple[list[str], dict[str, bytes]]:
    """What the import writes, and the cards that it leaves."""
    prepare(lab)
    lab.save()
    lab.gw_ok("import", "docs/design.md")
    wanted = cards(lab)
    lab.restore()
    return lab.writes("import", "docs/design.md", cwd=lab.repo.path), wanted


@pytest.mark.parametrize("prepare", [first, again], ids=lambda p: p.__name__)
def test_an_import_goes_on_where_it_was_killed(lab: Lab, prepare: Callable[[Lab], None]) -> None:
    """The short form: in the middle, and before the last file."""
    writes, wanted = every(lab, prepare)
    files = [n for n, write in enumerate(writes, 1) if write.startswith("rename")]
    for at, action in zip(
        (files[2], files[-2], files[-1]), ("same", "commit-a", "same"), strict=True
    ):
        die_and_go_on(lab, at, "before", action, wanted)


@pytest.mark.long
@pytest.mark.parametrize("prepare", [first, again], ids=lambda p: p.__name__)
def test_an_import_killed_at_every_write(lab: Lab, prepare: Callable[[Lab], None]) -> None:
    writes, wanted = every(lab, prepare)
    failed = []
    count = 0
    for at, write in enumerate(writes, 1):
        for mode in modes_of(write):
            for action in ACTIONS:
                count += 1
                try:
                    die_and_go_on(lab, at, mode, action, wanted)
                except AssertionError as error:
                    failed.append(f"write {at}, {mode}, then {action}: {str(error)[:500]}")
    print(f"{prepare.__name__}: {count} deaths")
    assert not failed, f"{len(failed)} of {count}:\n" + "\n".join(failed)
