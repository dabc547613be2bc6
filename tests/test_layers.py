"""Holds the layers: which module may import what, read from the source without running it.

To add a module, give it a layer in `LAYERS`. To let one use a library, add it to `USERS`.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gitwaves"

# Module -> layer; a package is named once, for everything in it. A module that does not exist (yet)
# costs nothing.
LAYERS = {
    # Pure: no I/O, no environment, no clock, no third party.
    "batches": "core",
    "boundary": "core",
    "brief": "core",
    "digests": "core",
    "drawing": "core",
    "drawing_formats": "core",
    "forecast": "core",
    "simulation": "core",
    "errors": "core",
    "graph": "core",
    "halves": "core",
    "jsonout": "core",
    "layout": "core",
    "judging": "shell",
    "lessons": "core",
    "model": "core",
    "pages": "core",
    "patterns": "core",
    "plan": "core",
    "record": "core",
    "render": "core",
    "review_formats": "core",
    "reviewing": "core",
    "retro": "core",
    "rules": "core",
    "schedule": "core",
    "state": "core",
    "words": "core",
    # Meets files, Git, processes and the clock.
    "advancing": "shell",
    "agenthooks": "shell",
    "agents": "shell",
    "attempts": "shell",
    "auditing": "shell",
    "caches": "shell",
    "checked": "shell",
    "checking": "shell",
    "cards": "shell",
    "claims": "shell",
    "conflicts": "shell",
    "pairs": "shell",
    "clients": "core",
    "cleaning": "shell",
    "demo": "shell",
    "demonstration": "shell",
    "design_doc": "shell",
    "design_drafts": "shell",
    "design_outline": "shell",
    "design_refs": "shell",
    "design_tables": "shell",
    "design_text": "shell",
    "design_values": "shell",
    "doctoring": "shell",
    "doctoring_git": "shell",
    "doctoring_state": "shell",
    "doctoring_worktrees": "shell",
    "files": "shell",
    "dispatching": "shell",
    "events": "shell",
    "exporting": "shell",
    "git": "shell",
    "git_content": "shell",
    "git_database": "shell",
    "git_history": "shell",
    "git_lock": "shell",
    "git_worktrees": "shell",
    "gitcall": "shell",
    "gitenv": "shell",
    "githooks": "shell",
    "gitplace": "shell",
    "guards": "shell",
    "handing": "shell",
    "hooks": "shell",
    "importing": "shell",
    "live": "shell",
    "again": "shell",
    "merging": "shell",
    "resolving": "shell",
    "remaining": "shell",
    "objects": "shell",
    "passing": "shell",
    "plaintext": "shell",
    "planning": "shell",
    "processes": "shell",
    "ranges": "shell",
    "receipts": "shell",
    "receiving": "shell",
    "renewing": "shell",
    "resources": "shell",
    "rulebook": "shell",
    "running": "shell",
    "schemas": "shell",
    "facts": "shell",
    "specs": "shell",
    "forks": "shell",
    "plainrows": "shell",
    "outlines": "shell",
    "plans": "shell",
    "readings": "shell",
    "rows": "shell",
    "settling": "shell",
    "shelf": "shell",
    "showing": "shell",
    "signing": "shell",
    "steps": "shell",
    "store": "shell",
    "troubles": "shell",
    "trust": "shell",
    "unfinished": "shell",
    "verifying": "shell",
    "worktrees": "shell",
    "writing": "shell",
    "yamlbuild": "shell",
    "yamledit": "shell",
    "yamlfile": "shell",
    "yamlplain": "shell",
    # Parses, calls, prints, exits.
    "__main__": "cli",
    "cli": "cli",
    "differing": "cli",
    "direct": "cli",
    "keeping": "cli",
    "quick": "cli",
    # Holds only the version: anything may import it.
    "__init__": "core",
}

# A layer imports from itself and from the layers before it.
ORDER = ("core", "shell", "cli")

# Library -> the modules that may import it. One that is not named is free for all but the core.
USERS = {
    "click": {"cli"},
    "jsonschema": {"cards"},
    "markdown_it": {"design_doc", "design_outline", "design_tables", "design_text", "importing"},
    "rich": {"live"},
    "ruamel": {"cards", "importing", "yamlbuild", "yamledit"},
    # `demo` holds a scripted agent, which commits as an agent outside gitwaves does.
    "subprocess": {
        *("demo", "processes", "signing"),
    },
}

# What the core may import besides itself: computing, and nothing that looks outside.
CORE_LIBRARIES = {
    *(
        "__future__",
        "_blake2",
        "_collections",
        "_sha1",
        "_sha2",
        "_sha256",
        "abc",
        "bisect",
        "collections",
        "copy",
        "datetime",
        "difflib",
    ),
    *("enum", "fnmatch", "fractions", "functools", "graphlib", "hashlib", "heapq", "html"),
    *("itertools", "json", "math", "operator", "posixpath", "re", "shlex", "string"),
    *("statistics", "textwrap", "types", "typing", "unicodedata"),
}

# Calls that the core may not make, though it may import where they come from.
CORE_CALLS = {"now", "today", "utcnow", "open", "print", "input", "exec", "eval", "__import__"}

# Module -> the calls of these that it lives by.
CALLERS = {"record": {"eval", "exec"}}


def unit(path: Path) -> str:
    """The name in `LAYERS` of the module at `path`: `cli` for `gitwaves/cli/work.py`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.Module, package: str) -> set[tuple[int, str]]:
    """Line and full name of all that is imported anywhere in a module of `package`.

    Imports in functions and under TYPE_CHECKING count: a type is a dependency too.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(node.lineno, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            # `from gitwaves import git` imports a module, `from gitwaves.git import run` a name.
            inner = base == "gitwaves"
            found |= {(node.lineno, f"{base}.{a.name}" if inner else base) for a in node.names}
    return found


def breaches(module: str, source: str, package: str = "gitwaves") -> list[str]:
    """What `source`, as the module named `module` in `LAYERS`, does that its layer forbids."""
    tree = ast.parse(source)
    layer = LAYERS[module]
    found = []
    for line, name in sorted(imported(tree, package)):
        top, _, rest = name.partition(".")
        if top == "gitwaves":
            target = rest.split(".")[0] or "__init__"
            other = LAYERS.get(target, "core" if target == "__version__" else "cli")
            if ORDER.index(other) > ORDER.index(layer):
                found.append(f"{line}: {layer} imports {name}, which is {other}")
        elif layer == "core" and top not in CORE_LIBRARIES:
            found.append(f"{line}: the core imports {name}")
        elif module not in USERS.get(top, {module}):
            found.append(f"{line}: only {', '.join(sorted(USERS[top]))} may import {name}")
    if layer == "core":
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                func = node.func
                called = getattr(func, "attr", None) or getattr(func, "id", None)
                if called in CORE_CALLS - CALLERS.get(module, set()):
                    found.append(f"{node.lineno}: the core calls {called}()")
    return found


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_keeps_to_its_layer(path: Path) -> None:
    module = unit(path)
    assert module in LAYERS, f"gitwaves/{module}: give it a layer in LAYERS of tests/test_layers.py"
    package = ".".join(path.relative_to(PACKAGE.parent).parent.parts)
    assert breaches(module, path.read_text(encoding="utf-8"), package) == []


def test_every_layer_and_user_is_known() -> None:
    assert set(LAYERS.values()) == set(ORDER)
    assert set().union(*USERS.values()) <= set(LAYERS)


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("graph", "import os.path", "1: the core imports os.path"),
        ("graph", "def f():\n    import time", "2: the core imports time"),
        ("graph", "from datetime import datetime\nx = datetime.now()", "2: the core calls now()"),
        ("graph", "x = open('a')", "1: the core calls open()"),
        ("graph", "from gitwaves.git import run", "1: core imports gitwaves.git, which is shell"),
        ("graph", "from gitwaves import git", "1: core imports gitwaves.git, which is shell"),
        ("graph", "from . import git", "1: core imports gitwaves.git, which is shell"),
        ("graph", "from .git import run", "1: core imports gitwaves.git, which is shell"),
        ("store", "from gitwaves.cli import main", "1: shell imports gitwaves.cli, which is cli"),
        ("cards", "from rich.table import Table", "1: only live may import rich.table"),
        (
            "cli",
            "import subprocess",
            "1: only demo, processes, signing may import subprocess",
        ),
    ],
)
def test_a_breach_is_seen(module: str, source: str, said: str) -> None:
    assert breaches(module, source) == [said]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("graph", "import gitwaves\nfrom gitwaves.model import TaskId\nimport graphlib"),
        ("processes", "import subprocess\nfrom gitwaves import __version__, errors"),
        ("cli", "import click\nfrom gitwaves.git import run\nimport os"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert breaches(module, source) == []


def test_relative_imports_are_resolved_from_their_package() -> None:
    source = "from ..git import run\nfrom .work import start"
    assert breaches("cli", source, "gitwaves.cli") == []
    assert imported(ast.parse(source), "gitwaves.cli") == {
        (1, "gitwaves.git"),
        (2, "gitwaves.cli.work"),
    }
