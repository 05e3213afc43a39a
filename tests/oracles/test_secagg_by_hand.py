"""Masks, sealed and derived shares to the byte: computed here by hand from clauses 5.2 and 5.3 of the protocol.

Members and coordinator of different versions must agree on every one of these bytes. Whoever changes what goes
into a key (run, round, roster, purpose, names) changes the protocol, and has to raise its number. Nothing of
shared/secagg is used on this side.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from shared.secagg.messages import decode
from tests.secagg_kit import Round, names, secret_vector, terms

ALL = names(5)
PRIME = 2**256 + 297
SHARE_BYTES = 33
STEPS = 2
"""Noise steps; with the mask key and the self mask's seed, each member shares four secrets."""
THRESHOLD = 4


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def hkdf(secret: bytes, info: bytes, size_bytes: int) -> bytes:
    """HKDF-SHA256 without a salt (RFC 5869)."""
    key = hmac.digest(bytes(32), secret, "sha256")
    block = stream = b""
    for number in range(1, 256):
        if len(stream) >= size_bytes:
            break
        block = hmac.digest(key, block + info + bytes([number]), "sha256")
        stream += block
    return stream[:size_bytes]


def agreed(own_private: str, peer_public: str) -> bytes:
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(own_private))
    return private.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(peer_public)))


def mask_of(key: bytes, length: int, bits: int) -> np.ndarray:
    """The AES-256 key stream from counter 0, little-endian."""
    stream = (
        Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(length * bits // 8))
    )
    return np.frombuffer(stream, f"<u{bits // 8}").astype(f"u{bits // 8}")


class ByHand:
    """One round of `play` from its offers and secrets alone."""

    def __init__(self, play: Round) -> None:
        self.play = play
        self.offers = {offer.member_id: vars(offer) for offer in play.offers}
        ordered = [self.offers[name] for name in sorted(self.offers)]
        self.roster = "sha256:" + hashlib.sha256(canonical(ordered)).hexdigest()
        self.place: list[str | int] = [play.terms.run_id, play.terms.round_number]
        self.secrets: Mapping[str, Mapping[str, str]] = {
            name: member.to_plain()["secrets"] for name, member in play.members.items()
        }

    def chain(self, name: str) -> list[bytes]:
        """The seeds of the noise steps, then that of the self mask (clause 3.9)."""
        seeds = [bytes.fromhex(self.secrets[name]["noise_seed"])]
        while len(seeds) <= STEPS:
            seeds.append(hashlib.sha256(b"commonlens:noise-step\0" + seeds[-1]).digest())
        return seeds

    def info(self, purpose: str, members: Sequence[str]) -> bytes:
        run_id, round_number = self.place
        return canonical(
            {
                "purpose": purpose,
                "run_id": run_id,
                "round_number": round_number,
                "roster_digest": self.roster,
                "members": sorted(members),
            }
        )

    def masked(self, name: str) -> np.ndarray:
        """The vector of `name` with all its masks (clause 5.3)."""
        the_terms = self.play.terms
        total = secret_vector(the_terms, name).astype(np.int64)
        seed_info = b"commonlens:secagg-self\0" + self.info("commonlens self mask", [name])
        total += mask_of(hkdf(self.chain(name)[-1], seed_info, 32), the_terms.length, the_terms.ring_bits)
        for peer in sorted(set(self.offers) - {name}):
            public = self.offers[peer]["mask_public_key"]
            both = sorted(bytes.fromhex(self.offers[one]["mask_public_key"]) for one in (name, peer))
            info = (
                b"commonlens:secagg-pair\0" + b"".join(both) + self.info("commonlens pair mask", [name, peer])
            )
            key = hkdf(agreed(self.secrets[name]["mask_private"], public), info, 32)
            mask = mask_of(key, the_terms.length, the_terms.ring_bits).astype(np.int64)
            total += mask if name < peer else -mask
        return total.astype(the_terms.dtype)

    def derived_stream(self, one: str, other: str, purpose: Sequence[str], size_bytes: int) -> bytes:
        """From the secret of the channel between two members (clause 5.2)."""
        secret = agreed(self.secrets[one]["channel_private"], self.offers[other]["channel_public_key"])
        return hkdf(secret, canonical([*self.place, self.roster]) + canonical(list(purpose)), size_bytes)

    def derived(self, owner: str, holder: str) -> list[int]:
        stream = self.derived_stream(
            holder, owner, ["commonlens derived shares 1", owner, holder], 48 * (STEPS + 2)
        )
        return [
            int.from_bytes(stream[start : start + 48], "big") % PRIME for start in range(0, len(stream), 48)
        ]

    def opened(self, owner: str, holder: str, about: Sequence[str | int]) -> list[int]:
        """The sealed bundle of `owner` for `holder`, opened with the channel's key and `about` as associated data."""
        key = self.derived_stream(holder, owner, ["commonlens channel 1", owner, holder], 32)
        sealed = decode(self.play.deals[owner].ciphertexts[holder], (STEPS + 2) * SHARE_BYTES + 16, "a deal")
        return shares_in(
            ChaCha20Poly1305(key).decrypt(bytes(12), sealed, canonical(list(about)) if about else b"")
        )


def shares_in(bundle: bytes) -> list[int]:
    return [
        int.from_bytes(bundle[start : start + SHARE_BYTES], "big")
        for start in range(0, len(bundle), SHARE_BYTES)
    ]


def rebuilt(shares: Mapping[int, int]) -> int:
    """The value at 0 of the polynomial through `shares`, by Lagrange's formula."""
    total = 0
    for x, value in shares.items():
        for other in shares:
            if other != x:
                value = value * other * pow(other - x, -1, PRIME) % PRIME
        total += value
    return total % PRIME


@pytest.mark.parametrize("ring_bits", [16, 32])
def test_every_masked_vector_is_what_the_clauses_make_it(ring_bits: int) -> None:
    play = Round(terms(ring_bits=ring_bits, length=64), 5).until_contributed()
    by_hand = ByHand(play)
    for name in ALL:
        assert np.array_equal(play.masked[name], by_hand.masked(name))


@pytest.mark.parametrize(
    "changes", [{"run_id": "run_2"}, {"round_number": 2}], ids=["another run", "another round"]
)
def test_comparison_would_notice_a_mask_of_another_context(changes: dict[str, object]) -> None:
    play = Round(terms(length=64), 5).until_contributed()
    by_hand = ByHand(play)
    by_hand.place = [changes.get("run_id", "run_1"), changes.get("round_number", 1)]  # type: ignore[list-item]
    assert not np.any(play.masked[ALL[0]] == by_hand.masked(ALL[0]))
    by_hand = ByHand(play)
    by_hand.roster = "sha256:" + "0" * 64
    assert not np.any(play.masked[ALL[0]] == by_hand.masked(ALL[0]))


def test_all_shares_of_a_secret_lie_on_one_polynomial_whether_they_were_derived_sealed_or_kept() -> None:
    play = Round(terms(), 5)
    play.deal()
    by_hand = ByHand(play)
    for place, owner in enumerate(ALL):
        ring = [ALL[(place + step) % 5] for step in range(1, 5)]
        # The threshold − 1 members after the owner derive theirs, the others are sent them, the owner keeps its own.
        held = {ALL.index(holder) + 1: by_hand.derived(owner, holder) for holder in ring[: THRESHOLD - 1]}
        for holder in ring[THRESHOLD - 1 :]:
            held[ALL.index(holder) + 1] = by_hand.opened(owner, holder, [*by_hand.place, owner, holder])
        kept = play.members[owner].to_plain()["bundles"][owner]
        held[place + 1] = shares_in(decode(kept, (STEPS + 2) * SHARE_BYTES, "a bundle"))
        assert sorted(held) == [1, 2, 3, 4, 5]
        secrets = [bytes.fromhex(by_hand.secrets[owner]["mask_private"]), *by_hand.chain(owner)]
        for left_out in held:
            for kind, secret in enumerate(secrets):
                shares = {x: values[kind] for x, values in held.items() if x != left_out}
                assert rebuilt(shares) == int.from_bytes(secret, "big")


def test_run_round_sender_and_receiver_are_what_a_sealed_bundle_is_bound_to() -> None:
    play = Round(terms(), 5)
    play.deal()
    by_hand = ByHand(play)
    ((holder, _),) = play.deals["mem_0"].ciphertexts.items()
    assert len(by_hand.opened("mem_0", holder, ["run_1", 1, "mem_0", holder])) == STEPS + 2
    for about in (
        [],
        ["run_2", 1, "mem_0", holder],
        ["run_1", 2, "mem_0", holder],
        ["run_1", 1, holder, "mem_0"],
    ):
        with pytest.raises(InvalidTag):
            by_hand.opened("mem_0", holder, about)
