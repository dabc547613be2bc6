"""Files that are written whole or not at all, so that a kill leaves the old or the new."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path


def write_file(path: Path, data: bytes, *, scratch: Path | None = None) -> None:
    """Writes a file whole or not at all: in `scratch`, flushed to the disk, then renamed.

    Args:
        scratch: where a kill may leave an unfinished file; default: beside it. Where that is on
            another file system, beside it all the same.
    """
    import tempfile  # slow to import, and nothing is written where all is only read

    handle, name = tempfile.mkstemp(dir=scratch or path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        if scratch is None or not isinstance(error, OSError) or error.errno != errno.EXDEV:
            raise
        write_file(path, data)
