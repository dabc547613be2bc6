"""Files that are written whole or not at all, so that a kill leaves the old or the new."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def write_file(path: Path, data: bytes, *, scratch: Path | None = None) -> None:
    """Writes a file whole or not at all: in `scratch`, flushed to the disk, then renamed.

    Args:
        scratch: where a kill may leave an unfinished file; default: beside it. Where that is on
            another file system, beside it all the same.
    """
    # `tempfile` would choose the name no better, and is slow to import
    draft = (scratch or path.parent) / f".{path.name}.{os.urandom(4).hex()}"
    try:
        with open(draft, "xb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        if scratch is None or not isinstance(error, OSError) or error.errno != errno.EXDEV:
            raise
        write_file(path, data)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def loads(data: str | bytes) -> Any:
    """What JSON says; as `json.loads`, which is slow to import, and here only where it is called."""
    import json

    return json.loads(data)


def dumps(value: Any, **how: Any) -> str:
    """A value as JSON; as `json.dumps`, likewise."""
    import json

    return json.dumps(value, **how)
