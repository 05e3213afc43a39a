"""Who is held out: a fifth of the units, each decided by a keyed hash of that unit alone.

So one unit more moves no other between the two sides, which the argument of "add or remove one unit"
(clause 1.2) needs: a split drawn over all units, or a stratified one, would not have it.
"""

from __future__ import annotations

import hashlib

HELD_OUT_SHARE = 0.2
SALT_BYTES = 32
_THRESHOLD = int(HELD_OUT_SHARE * 2**64)


def is_held_out(unit_key: bytes, salt: bytes) -> bool:
    """Whether the unit (a person's name, or a record's pixel digest) is on the held-out side.

    `salt` [32 bytes] is random per data set, so that nobody can choose a record's side beforehand.
    """
    hashed = hashlib.blake2b(unit_key, key=salt, digest_size=8, person=b"held-out").digest()
    return int.from_bytes(hashed, "big") < _THRESHOLD
