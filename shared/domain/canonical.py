"""Canonical bytes: one JSON text per value, so that a digest or signature means one thing.

Rules: UTF-8; object keys sorted by code point; no white space; floats in Python's shortest
round-trip form; NaN and infinities refused; only dict (str keys), list, tuple, str, int, float, bool, None.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NewType

from shared.domain.errors import Invalid

Digest = NewType("Digest", str)
"""`sha256:` followed by 64 lower-case hex digits."""
DIGEST_FORM = re.compile(r"sha256:[0-9a-f]{64}\Z")
"""What a text from outside must match to be one."""
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def canonical_bytes(value: Any) -> bytes:
    """The one byte string for `value`. Raises Invalid for anything JSON cannot carry exactly."""
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except (TypeError, ValueError) as error:  # UnicodeEncodeError (a lone surrogate) is a ValueError
        raise Invalid(f"A value cannot be written in canonical form: {error}.") from error


def digest_of_bytes(data: bytes | memoryview) -> Digest:
    """SHA-256 of `data` in our written form."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def digest_of(value: Any) -> Digest:
    """SHA-256 of the canonical bytes of `value`."""
    return digest_of_bytes(canonical_bytes(value))


def digest_of_file(path: Path) -> Digest:
    """SHA-256 of a file, read in blocks of 1 MiB."""
    with path.open("rb") as file:
        return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
