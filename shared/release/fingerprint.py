"""A public key as people compare it, read out by phone or beside each other on two screens."""

from __future__ import annotations

import hashlib
from typing import Final

_GROUPS: Final = 8
_GROUP_BYTES: Final = 5


def fingerprint(public_hex: str) -> str:
    """8 groups of 5 digits, about 133 bits of SHA-512 over the key: too many to search for a key alike.

    `public_hex` is an identity key of 64 hex digits. The same text wherever a member or a stranger sees the key.
    """
    digest = hashlib.sha512(b"commonlens:peer\0" + bytes.fromhex(public_hex)).digest()
    parts = (digest[i * _GROUP_BYTES : (i + 1) * _GROUP_BYTES] for i in range(_GROUPS))
    return " ".join(f"{int.from_bytes(part, 'big') % 100_000:05d}" for part in parts)
