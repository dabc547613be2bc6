"""The hash functions of Git, of spec digests and of caches, from Python's own small modules.

`hashlib` loads OpenSSL for the same, which takes as long as loading a plan of ten thousand cards.
"""

from __future__ import annotations

__all__ = ["blake2b", "sha1", "sha256"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import blake2b, sha1, sha256
else:
    try:
        from _blake2 import blake2b
        from _sha1 import sha1

        try:
            from _sha2 import sha256
        except ImportError:  # its name before Python 3.12
            from _sha256 import sha256
    except ImportError:  # a Python that was built without them
        from hashlib import blake2b, sha1, sha256
