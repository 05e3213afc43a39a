"""Keys and masks against values computed another way, and what they refuse."""

from __future__ import annotations

import hashlib
import hmac
import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from shared.domain.errors import Broken, InvalidMessage
from shared.secagg import masks
from shared.secagg.masks import add_mask, apply_masks, pair_key, self_key, subtract_mask

# RFC 7748, section 6.1.
ALICE = X25519PrivateKey.from_private_bytes(
    bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
)
BOB = X25519PrivateKey.from_private_bytes(
    bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
)
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


def public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def hkdf_by_hand(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 with no salt, one block of output."""
    extracted = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def test_a_pair_key_is_hkdf_of_the_x25519_secret_bound_to_both_public_keys() -> None:
    both = b"".join(sorted((public(ALICE), public(BOB))))
    expected = hkdf_by_hand(SHARED, b"commonlens:secagg-pair\0" + both + b"round 1")
    assert pair_key(ALICE, public(BOB), b"round 1") == expected
    assert pair_key(BOB, public(ALICE), b"round 1") == expected
    assert pair_key(ALICE, public(BOB), b"round 2") != expected


def test_a_self_key_is_hkdf_of_its_seed() -> None:
    seed = bytes(range(32))
    assert self_key(seed, b"round 1") == hkdf_by_hand(seed, b"commonlens:secagg-self\0round 1")
    assert self_key(seed, b"round 2") != self_key(seed, b"round 1")
    with pytest.raises(InvalidMessage, match="has 32 bytes, and this one has 31"):
        self_key(seed[:-1], b"round 1")


@pytest.mark.parametrize(
    "key",
    [
        bytes(32),
        (1).to_bytes(32, "little"),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        (2**255 - 19).to_bytes(32, "little"),
        bytes(31),
        bytes(33),
    ],
    ids=["zero", "one", "order eight", "zero again", "short", "long"],
)
def test_a_public_key_that_makes_the_secret_known_to_all_is_refused(key: bytes) -> None:
    with pytest.raises(
        InvalidMessage, match="must be an X25519 public key of 32 bytes that leads to a secret"
    ):
        pair_key(ALICE, key, b"")


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("past_a_block", [-1, 0, 1, 70_000])
def test_a_mask_is_one_little_endian_key_stream_whatever_the_blocks(dtype: type, past_a_block: int) -> None:
    key, width = os.urandom(32), np.dtype(dtype).itemsize
    length = masks._BLOCK_BYTES // width + past_a_block
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(length * width))
    expected = np.array(
        [int.from_bytes(stream[i : i + width], "little") for i in range(0, len(stream), width)]
    )
    start = np.full(length, np.iinfo(dtype).max, dtype=dtype)
    ring = start.copy()
    add_mask(ring, key)
    assert np.array_equal(ring, (expected - 1) % 2 ** (8 * width))
    subtract_mask(ring, key)
    assert np.array_equal(ring, start)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("length", [1, 65_535, 65_536, 200_003])
def test_masks_of_many_keys_are_those_of_each_key_after_the_other(dtype: type, length: int) -> None:
    added, subtracted = [os.urandom(32) for _ in range(3)], [os.urandom(32) for _ in range(2)]
    together, in_turn = np.arange(length).astype(dtype), np.arange(length).astype(dtype)
    apply_masks(together, added, subtracted)
    for key in added:
        add_mask(in_turn, key)
    for key in subtracted:
        subtract_mask(in_turn, key)
    assert np.array_equal(together, in_turn)
    apply_masks(together, subtracted, added)
    assert np.array_equal(together, np.arange(length).astype(dtype))


def test_an_empty_or_strided_ring_is_masked_like_any_other() -> None:
    key = bytes(32)
    add_mask(np.zeros(0, np.uint32), key)
    whole, every_other = np.zeros(10, np.uint32), np.zeros(20, np.uint32)
    add_mask(whole, key)
    add_mask(every_other[::2], key)
    assert np.array_equal(every_other[::2], whole)
    assert not every_other[1::2].any()


@pytest.mark.parametrize(
    "ring",
    [np.zeros(4, np.int32), np.zeros(4, np.uint64), np.zeros(4, np.float32), np.zeros((2, 2), np.uint32)],
    ids=["signed", "64 bits", "float", "two dimensions"],
)
def test_only_a_ring_can_be_masked(ring: np.ndarray) -> None:
    with pytest.raises(Broken, match="one-dimensional uint32 or uint16 array"):
        add_mask(ring, bytes(32))


def test_a_key_of_another_cipher_is_refused() -> None:
    with pytest.raises(ValueError, match="key"):
        add_mask(np.zeros(4, np.uint32), bytes(16))


def test_a_key_used_for_two_vectors_gives_their_difference_away() -> None:
    # The attack that "exactly one expansion" is about.
    first, second = np.arange(5, dtype=np.uint32), np.arange(5, dtype=np.uint32) ** 2
    difference, key = second - first, os.urandom(32)
    add_mask(first, key)
    add_mask(second, key)
    assert np.array_equal(second - first, difference)
    add_mask(first, os.urandom(32))
    assert not np.array_equal(second - first, difference)
