"""The files that are shipped beside the code: JSON Schemas and hook shims.

In the repository they are the folders `schemas/` and `hooks/` beside the package; a wheel holds
them as `gitwaves/_data/` (pyproject.toml says how).
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def schema_text(name: str) -> str:
    """The text of one file of `schemas/`.

    Raises:
        FileNotFoundError: no schema has that name.

    >>> '"urn:gitwaves:task:1"' in schema_text("task.schema.json")
    True
    """
    return _text("schemas", name)


def schema_files() -> list[Path]:
    """Every file of `schemas/`, in order."""
    return sorted(_folder("schemas").iterdir())


def hook_text(name: str) -> str:
    """The text of one file of `hooks/`: the sh shim of a Git hook.

    Raises:
        FileNotFoundError: no shim has that name.
    """
    return _text("hooks", name)


def _text(folder: str, name: str) -> str:
    return (_folder(folder) / name).read_text(encoding="utf-8")


def _folder(name: str) -> Path:
    shipped = _PACKAGE / "_data" / name
    return shipped if shipped.is_dir() else _PACKAGE.parent / name
