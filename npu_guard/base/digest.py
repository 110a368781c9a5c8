"""SHA-256 of short texts without OpenSSL, which takes longer to load than a small network takes to check.

Python's own `random` does the same. What hashes whole files takes `hashlib`, which is faster there.
"""

from __future__ import annotations

try:
    from _sha256 import sha256  # type: ignore[import-not-found]  # Python 3.11
except ImportError:
    try:
        from _sha2 import sha256  # type: ignore[import-not-found]
    except ImportError:  # a build that leaves hashes to OpenSSL
        from hashlib import sha256

__all__ = ["sha256"]
