"""The content of `gitwaves demo`: a design document, and agents that play its tasks.

- `design.md` is the document that everything is cut from: eight services of a payments platform.
- `work/A1.txt` is what the agent does for task A1; `agent` says how such a script reads.
- `agent` plays one script, as a program of its own: `python -P -m gitwaves.demo.agent`.

Every agent starts Python and imports this module, so it imports next to nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).parent

_README = """\
# Payments platform

A scratch repository, made by `gitwaves demo`: eight agents build the services of `docs/design.md`,
each in a worktree of its own. Nothing here is needed by anything else; delete it when you are done.

    gitwaves status                         where everything stands
    gitwaves show G6                        one task, and what it waited for
    git log --graph --oneline               how it came together
    git log -p gitwaves/dashboard           the whole run, one dashboard after another

All tests of all services:

    python3 -m unittest services/*/tests/test_*.py
"""


def design_text() -> str:
    """The design document of the demo."""
    return (_HERE / "design.md").read_text(encoding="utf-8")


def seed_files() -> dict[str, str]:
    """The first commit of the scratch repository: the text of each path."""
    return {
        ".gitignore": "__pycache__/\n",
        "README.md": _README,
        "docs/design.md": design_text(),
    }


def profile() -> dict[str, object]:
    """The agent profile that plays the scripts, for `profiles` in `config.yaml`.

    `-P` keeps the worktree off the import path: what is built there never shadows gitwaves.
    """
    return {"command": [sys.executable, "-P", "-m", "gitwaves.demo.agent"]}
