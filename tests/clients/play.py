"""Builds the demo's plan, or a part of it, with real agent clients, offline: anyone can repeat it.

    npm i --prefix C @anthropic-ai/claude-code @openai/codex @google/gemini-cli opencode-ai
    node C/node_modules/@anthropic-ai/claude-code/install.cjs
    node C/node_modules/opencode-ai/postinstall.mjs
    GITWAVES_CLIENTS=C/node_modules/.bin python -P -m tests.clients.play FOLDER

The clients that are found share the workstreams (`--clients claude,codex` names them). Their model is
`tests.clients.api`, which plays what the demo's scripted agents do; `--tasks 14` takes the first so
many tasks. No account is needed, and nothing leaves the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gitwaves import demo
from gitwaves.demo.agent import files_of, script
from tests.clients.api import Server
from tests.repo import Repo

KNOWN = ("claude", "codex", "gemini", "opencode")
Moves = list[Any]


def folder() -> str | None:
    """Where the clients are, if it is said."""
    said = os.environ.get("GITWAVES_CLIENTS")
    return os.path.abspath(said) if said else None


def installed() -> list[str]:
    """Which of the clients are here."""
    path = os.pathsep.join(filter(None, (folder(), os.environ.get("PATH"))))
    return [name for name in KNOWN if shutil.which(name, path=path)]


def environment(address: str, home: Path) -> dict[str, str]:
    """What makes the clients talk to the API at an address, with settings of their own in `home`."""
    codex, gemini, opencode = home / ".codex", home / ".gemini", home / ".config/opencode"
    for made in (codex, gemini, opencode):
        made.mkdir(parents=True, exist_ok=True)
    (codex / "config.toml").write_text(
        'model = "script"\nmodel_provider = "script"\n\n[model_providers.script]\nname = "script"\n'
        f'base_url = "{address}/v1"\nenv_key = "SCRIPT_KEY"\nwire_api = "responses"\n'
        "supports_websockets = false\nrequest_max_retries = 1\nstream_max_retries = 1\n"
    )
    auth = {"security": {"auth": {"selectedType": "gemini-api-key"}}}
    (gemini / "settings.json").write_text(json.dumps(auth))
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{address}/v1", "apiKey": "none-is-needed"},
        "models": {"script": {"name": "script", "tool_call": True}},
    }
    config = {"model": "script/script", "small_model": "script/script", "autoupdate": False}
    (opencode / "opencode.json").write_text(
        json.dumps({**config, "share": "disabled", "provider": {"script": provider}})
    )
    path = os.pathsep.join(filter(None, (folder(), os.environ.get("PATH"))))
    return {
        "PATH": path,
        "HOME": str(home),
        "TERM": "dumb",
        "ANTHROPIC_BASE_URL": address,
        "ANTHROPIC_API_KEY": "none-is-needed",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "CODEX_HOME": str(codex),
        "SCRIPT_KEY": "none-is-needed",
        "GEMINI_API_KEY": "none-is-needed",
        "GOOGLE_GEMINI_BASE_URL": address,
    }


# --- the plan ----------------------------------------------------------------------------------


def design(keep: Iterable[str]) -> str:
    """The demo's design doc with these tasks alone, and the merge points that only they make up."""
    kept = set(keep)
    parts = re.split(r"^(?=###? )", demo.design_text(), flags=re.MULTILINE)
    found = []
    for part in parts:
        task = re.match(r"### ([A-Z]\d+):", part)
        if task and task[1] not in kept:
            continue
        if part.startswith(("## Batches", "## Merge points")):
            part = "\n".join(_entries(part.splitlines(), kept)) + "\n\n"
        found.append(part)
    return "".join(found)


def _entries(lines: Iterable[str], kept: set[str]) -> Iterator[str]:
    """The lines of such a list; what is indented belongs to the entry before, and goes with it."""
    entry: str | None = None
    for line in lines:
        if not line.startswith(" "):
            entry = _entry(line, kept)
        if entry:
            yield line if line.startswith(" ") else entry


def _entry(line: str, kept: set[str]) -> str | None:
    """A line of the lists at the end, without what is left out; None where nothing is left."""
    batch = re.match(r"(- Batch \S+: )(.*)", line)
    point = re.match(r"(- MP\d+: )(.*?) -> unlocks (.*)", line)
    if batch:
        tasks = [t for t in re.findall(r"\b[A-Z]\d+\b", batch[2].split("(")[0]) if t in kept]
        return batch[1] + ", ".join(tasks) if tasks else None
    if point:
        unlocks = [t for t in re.findall(r"\b[A-Z]\d+\b", point[3]) if t in kept]
        if not set(re.findall(r"\b[A-Z]\d+\b", point[2])) <= kept:
            return None
        return f"{point[1]}{point[2]}" + f" -> unlocks {', '.join(unlocks)}" * bool(unlocks)
    return line


def first(count: int) -> list[str]:
    """The first tasks of the demo, batch by batch: none needs one that is not among them."""
    lines = re.findall(r"^- Batch \d+: (.*)$", demo.design_text(), re.MULTILINE)
    tasks = [t for line in lines for t in re.findall(r"\b[A-Z]\d+\b", line.split("(")[0])]
    return tasks[:count]


def plays_of(task: str) -> list[Moves]:
    """What the demo's scripted agent does for a task, at its first attempt and at a second one.

    A bug of the first is mended when the client is sent back, and by the second where it is not.
    """
    whole = script(task)[1]
    moves = moves_of(task)
    again = [move for path, text in whole.items() for move in over(path, text)]
    return [moves, [*again, "git add -A", f"git commit -q -m {task}-again", {"say": "Mended."}]]


def over(path: str, text: str) -> Moves:
    """Writes over a file, which clients do only to one that they have read."""
    return [{"read": path}, {"write": path, "text": text}]


def moves_of(task: str) -> Moves:
    """The first attempt at a task."""
    said, whole = script(task)
    tried = files_of(task, 1)
    learned = f"\n\nLearned: {said['learned']}" if "learned" in said else ""
    moves: Moves = []
    for path, text in tried.items():
        there = any(path in script(t)[1] for t in first(1000) if t != task)
        moves += over(path, text) if there else over(path, text)[1:]
    if "leaves" in said:
        return [*moves, {"say": "Done, I think; I did not commit."}]
    add, commit = "git add -A", f"git commit -q -m {json.dumps(task + ': ' + said['commit'])}"
    done: Moves = [add, commit, {"say": f"Built {task}.{learned}"}]
    mended = {path: text for path, text in whole.items() if tried.get(path) != text}
    if not mended:
        return [*moves, *done]
    again: Moves = [{"write": path, "text": text} for path, text in mended.items()]
    return [*moves, add, commit, {"say": "Done, I think."}, *again, *done]


def build(
    path: Path,
    keep: Sequence[str],
    agents: Sequence[str],
    plays: Mapping[str, Sequence[Moves]],
    config: str = "",
) -> Repo:
    """A repository with the plan, whose cards carry what the model is to play for them.

    Args:
        agents: profiles, in turn for the workstreams.
        plays: the moves of a task, a list for each attempt, where they are not the demo's.
    """
    repo = Repo.init(path)
    for key, value in {"name": "gitwaves demo", "email": "demo@gitwaves.invalid"}.items():
        repo.git("config", f"user.{key}", value)
    files = {**demo.seed_files(), "docs/design.md": design(keep)}
    repo.commit("Approve the design", **files)
    repo.gw_ok("init", "--title", "Payments platform")
    repo.gw_ok("import", "docs/design.md")
    settings = repo.path / ".workstreams/config.yaml"
    settings.write_text(settings.read_text() + "worktrees: ../worktrees/{name}\n" + config)
    streams = sorted((repo.path / ".workstreams").glob("WS-*"))
    for number, stream in enumerate(streams):
        file = stream / "workstream.yaml"
        file.write_text(file.read_text() + f"agent: {agents[number % len(agents)]}\n")
        for card in sorted(stream.glob("[A-Z][0-9]*.yaml")):
            played = plays.get(card.stem) or plays_of(card.stem)
            line = "PLAY: " + json.dumps(played)
            text = re.sub(r"^spec: \|.*\n", lambda m, line=line: f"{m[0]}  {line}\n\n",  # type: ignore[misc]
                          card.read_text(), count=1, flags=re.MULTILINE)  # fmt: skip
            assert line in text, card
            card.write_text(text)
    repo.commit("Plan the work")
    repo.gw_ok("trust", "--yes")
    return repo


def product(repo: Repo) -> dict[str, str]:
    """What stands on trunk in the end: the text of each file of the services."""
    names = repo.git("ls-tree", "-r", "--name-only", "main", "services").splitlines()
    return {name: repo.git("show", f"main:{name}") for name in names}


def wanted(tasks: Iterable[str]) -> dict[str, str]:
    """What `product` is to be: the files of the demo's scripts, of later tasks where they agree."""
    files: dict[str, str] = {}
    for task in tasks:
        files |= {path: text.removesuffix("\n") for path, text in script(task)[1].items()}
    return files


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the plan with the clients that are here; 0 when everything is done and on trunk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", default=",".join(installed()))
    parser.add_argument("--tasks", type=int, default=len(first(1000)))
    parser.add_argument("--agents", type=int, default=8)
    given = parser.parse_args(argv)
    clients = [name for name in given.clients.split(",") if name]
    if not clients:
        print("no agent client is installed: set GITWAVES_CLIENTS to their folder", file=sys.stderr)
        return 2
    given.folder.mkdir(parents=True)
    base = given.folder.resolve()
    home = base / "home"
    home.mkdir()
    began = time.monotonic()
    with Server() as server:
        env = {**os.environ, **environment(server.address, home)}
        os.environ.update(env)
        repo = build(base / "payments", first(given.tasks), clients, {})
        command = [sys.executable, "-P", "-m", "gitwaves", "run", "--agents", str(given.agents)]
        code = subprocess.run(command, cwd=repo.path, env=env, check=False).returncode
    print(repo.gw_ok("status").out)
    print(repo.gw_ok("retro").out)
    print(f"{', '.join(clients)}: exit {code}, {time.monotonic() - began:.0f} s; see {repo.path}")
    return code


if __name__ == "__main__":
    sys.exit(main())
