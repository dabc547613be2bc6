"""The README is run: its transcript, its profile and its list of commands are what gitwaves does."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.repo import Repo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOME = "/home/ada"  # where the README's transcript is set


@dataclass(frozen=True, slots=True)
class Said:
    """One command of a transcript, and the lines that it prints there."""

    command: str
    lines: tuple[str, ...]


def fences(language: str) -> list[str]:
    """The contents of the README's code fences in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def transcript(text: str) -> list[Said]:
    """The commands (`$ ` before each, here-documents included) and what they print."""
    found: list[Said] = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line[2:]
            if here := re.search(r"<<'(\w+)'", command):
                for more in lines:
                    command += "\n" + more
                    if more == here[1]:
                        break
            found.append(Said(command, ()))
        else:
            assert found, f"no command before {line!r}"
            last = found.pop()
            found.append(Said(last.command, (*last.lines, line)))
    return [Said(s.command, _trimmed(s.lines)) for s in found]


def _trimmed(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Without the blank lines at the end, which in the README set commands apart."""
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines


def masked(line: str) -> str:
    """A line without what differs from run to run: object ids, lengths of time."""
    line = re.sub(r"\b[0-9a-f]{7,64}\b", "<id>", line.rstrip())
    return re.sub(r"\b\d+\.\d+s\b", "<time>", line)


def agrees(expected: list[str], actual: list[str]) -> bool:
    """Whether the lines are the same; an expected `...` stands for any number of lines."""
    if not expected:
        return not actual
    if expected[0] == "...":
        return any(agrees(expected[1:], actual[at:]) for at in range(len(actual) + 1))
    return bool(actual) and expected[0] == actual[0] and agrees(expected[1:], actual[1:])


def play(commands: list[Said], base: Path) -> list[tuple[Said, list[str]]]:
    """Runs a transcript as one session of a shell begun in `base`; what each command printed."""
    bin_dir = base / ".bin"
    bin_dir.mkdir()
    wrapper = bin_dir / "gitwaves"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gitwaves "$@"\n')
    wrapper.chmod(0o755)
    env = {**os.environ, "PATH": os.pathsep.join([str(bin_dir), os.environ["PATH"]])}
    here, at = base, base / ".bin" / "cwd"
    played = []
    for said in commands:
        done = subprocess.run(
            ["sh", "-c", f"{said.command}\npwd >{shlex.quote(str(at))}"],
            cwd=here,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=True,
        )
        here = Path(at.read_text().removesuffix("\n"))
        text = done.stdout.decode().replace(str(base), HOME)
        played.append((said, text.splitlines()))
    return played


def listed(text: str) -> list[str]:
    """The commands that a `--help` lists."""
    _, _, rest = text.partition("-h, --help")
    return re.findall(r"^  ([a-z][a-z-]*)(?:  |$)", rest, re.MULTILINE)


def commands() -> list[str]:
    """Every command of `gitwaves --help`."""
    done = subprocess.run(
        [sys.executable, "-m", "gitwaves", "--help"], capture_output=True, text=True, check=True
    )
    return listed(done.stdout)


COMMANDS = commands()


def test_transcript(tmp_path: Path) -> None:
    blocks = fences("console")  # one session, with prose between its parts
    assert "git init" in blocks[0]
    base = tmp_path.resolve() / "ada"
    base.mkdir()
    wrong = []
    for said, lines in play([said for block in blocks for said in transcript(block)], base):
        expected = [masked(line) for line in said.lines]
        actual = [masked(line) for line in _trimmed(tuple(lines))]
        if not agrees(expected, actual):
            wrong.append("\n".join([f"$ {said.command}", *lines]))
    assert not wrong, "the README should say:\n" + "\n".join(wrong)


def test_the_commands_are_those_that_there_are() -> None:
    section = README.partition("\n## Commands\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `gitwaves ([a-z]+)", section, re.MULTILINE)
    assert len(COMMANDS) > 20
    assert sorted(documented) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str, tmp_path: Path) -> None:
    done = Repo(tmp_path).gw_ok(command, "--help")
    assert done.out.startswith(f"Usage: gitwaves {command} ")
    assert re.search(rf"^  Examples:\n    .*gitwaves {command}\b", done.out, re.MULTILINE)


def test_profile(repo: Repo) -> None:
    """The agent of one's own is one that gitwaves takes."""
    (block,) = (b for b in fences("yaml") if "profiles:" in b)
    repo.gw_ok("init", "--no-hooks")
    config = repo.read(".workstreams/config.yaml")
    ours = {line.partition(":")[0] for line in block.splitlines() if re.match(r"\w", line)}
    kept = [line for line in config.splitlines() if line.partition(":")[0] not in ours]
    repo.commit("Plan", **{".workstreams/config.yaml": "\n".join(kept) + "\n" + block})
    done = repo.gw_ok("check", "--json")
    assert "error" not in done.out


def test_exit_codes() -> None:
    from gitwaves.errors import ExitCode

    section = README.partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    documented = {int(code) for code in re.findall(r"^\| (\d+) ", section, re.MULTILINE)}
    assert documented == {int(code) for code in ExitCode}


def test_modules_are_in_the_code_map() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    modules = {path.stem for path in (ROOT / "gitwaves").glob("*.py")} - {"__init__", "__main__"}
    assert sorted(m for m in modules if f"`{m}`" not in text) == []


def test_own_design_doc_is_read_without_findings() -> None:
    from gitwaves.design_doc import parse

    doc = parse((ROOT / "docs" / "design.md").read_text(encoding="utf-8"))
    assert doc.findings == ()
    assert all(task.verify for task in doc.tasks)
