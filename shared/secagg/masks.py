"""Keys of masks and the masks themselves: X25519, HKDF-SHA256, AES-256 in counter mode (clause 5.3).

**A key serves exactly one expansion.** The counter starts at 0 each time, so a key that masked two vectors
would give their difference away. Whoever makes a key therefore puts run, round and pair into `info`, and
draws its X25519 keys and seeds anew each round; adding and later subtracting the *same* mask is one use.

A mask is the key stream itself, read as little-endian whole numbers on every platform, so two machines
that hold one key make one mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.domain.errors import Broken, InvalidMessage
from shared.secagg.parameters import Ring

KEY_BYTES = 32
_BLOCK_BYTES = 1 << 18
"""Made at a time: block, key stream and zeros stay in the second-level cache of one core."""
_CIPHER_BLOCK_BYTES = 16
_ZEROS = bytes(_BLOCK_BYTES)


def pair_key(private: X25519PrivateKey, peer_public: bytes, info: bytes) -> bytes:
    """The 32-byte key that two members share: the same from either side, another for another `info`.

    HKDF-SHA256 (RFC 5869) of the X25519 secret (RFC 7748), bound to both public keys.
    Raises InvalidMessage for a public key that is not 32 bytes or that makes the secret all zeros.
    """
    own_public = private.public_key().public_bytes_raw()
    try:
        secret = private.exchange(X25519PublicKey.from_public_bytes(peer_public))
    except ValueError as error:  # wrong length, or a point of small order: everybody would know the secret
        raise InvalidMessage(
            f"A member's round key must be an X25519 public key of {KEY_BYTES} bytes that leads to a secret, "
            f"and one of {len(peer_public)} bytes does not. No mask was made. Ask that member for a new key."
        ) from error
    both = b"".join(sorted((own_public, peer_public)))
    return _derive(secret, b"commonlens:secagg-pair\0" + both + info)


def self_key(seed: bytes, info: bytes) -> bytes:
    """The 32-byte key of a member's own mask from its 32-byte seed: HKDF-SHA256 (RFC 5869).

    Raises InvalidMessage for a seed of another length.
    """
    if len(seed) != KEY_BYTES:
        raise InvalidMessage(
            f"A mask's seed has {KEY_BYTES} bytes, and this one has {len(seed)}. No mask was made. "
            "Ask for the message again."
        )
    return _derive(seed, b"commonlens:secagg-self\0" + info)


def add_mask(ring: Ring, key: bytes) -> None:
    """Add the mask of `key` to `ring` [length], uint32 or uint16, in place, modulo 2³² or 2¹⁶."""
    apply_masks(ring, [key], [])


def subtract_mask(ring: Ring, key: bytes) -> None:
    """Take the mask of `key` away from `ring` [length], uint32 or uint16, in place."""
    apply_masks(ring, [], [key])


def apply_masks(ring: Ring, added: Sequence[bytes], subtracted: Sequence[bytes]) -> None:
    """Add the masks of some keys to `ring` [length] and take those of others away, in place.

    All masks of one block before the next block: it stays in the core's cache, where one mask after the other
    would fetch the whole vector from memory for each.
    """
    if ring.ndim != 1 or ring.dtype.kind != "u" or ring.dtype.itemsize not in (2, 4):
        raise Broken(
            f"A mask goes onto a one-dimensional uint32 or uint16 array, and met {ring.ndim} dimensions of "
            f"{ring.dtype}. Nothing was masked. Report this as a bug."
        )
    streams = [(_stream(key), np.add) for key in added] + [(_stream(key), np.subtract) for key in subtracted]
    # The library wants room for one more cipher block than it writes.
    room = bytearray(_BLOCK_BYTES + _CIPHER_BLOCK_BYTES - 1)
    zeros = memoryview(_ZEROS)
    per_block = _BLOCK_BYTES // ring.dtype.itemsize
    mask = np.frombuffer(room, dtype=f"<u{ring.dtype.itemsize}", count=per_block)
    for start in range(0, ring.size, per_block):
        block = ring[start : start + per_block]
        for stream, operation in streams:
            stream.update_into(zeros[: block.nbytes], room)
            operation(block, mask[: block.size], out=block)


def _stream(key: bytes) -> CipherContext:
    """The key stream of `key`, from its start: what encrypting zeros gives."""
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(_CIPHER_BLOCK_BYTES))).encryptor()


def _derive(secret: bytes, info: bytes) -> bytes:
    # Both secrets are uniform or hashed with what is public about them, so no salt is needed (RFC 5869, 3.1).
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)
