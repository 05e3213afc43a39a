"""Small values that only this coordinator can make and read: secrets at rest, and the state of a half-finished sign-in.

AES-256-GCM under a key of its own in keys/, so that a copy of the database alone opens nothing.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import secrets
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import AlreadyExists, Broken
from shared.domain.files import write_new

KEY_BYTES = 32
_NONCE_BYTES = 12


class Seal:
    """Seals JSON values for one purpose each; what was sealed for another purpose does not open."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def close(self, purpose: str, value: Any) -> str:
        """`value` as a text that nobody else can read, make or change."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, canonical_bytes(value), purpose.encode())
        return base64.urlsafe_b64encode(nonce + sealed).decode("ascii")

    def open(self, purpose: str, text: str) -> Any | None:
        """What `close` was given, or None for anything that it did not make for this purpose."""
        try:
            data = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
            plain = self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], purpose.encode())
        except (ValueError, InvalidTag):
            return None
        return json.loads(plain)

    @functools.cached_property
    def _cipher(self) -> AESGCM:
        """Made at the first need: coordinators that were set up before it existed have no such key yet."""
        if self._path is None:
            raise Broken("A value was to be sealed or opened where the coordinator's key is not at hand.")
        if not self._path.exists():
            with contextlib.suppress(AlreadyExists):  # another thread was faster
                write_new(self._path, secrets.token_bytes(KEY_BYTES))
        key = self._path.read_bytes()
        if len(key) != KEY_BYTES:
            raise Broken(f"{self._path.name} has {len(key)} bytes instead of {KEY_BYTES}. Nothing was read.")
        return AESGCM(key)
