"""Shamir's secret sharing of 32-byte secrets: any `threshold` shares rebuild one, fewer say nothing of it.

Shamir, "How to share a secret", Communications of the ACM 22(11), 1979. The field is the whole numbers
modulo p = 2²⁵⁶ + 297, the smallest prime above 2²⁵⁶: every 32-byte secret is a field element, so none has
to be drawn again or reduced, and an element needs 33 bytes. Shares carry no proof: one wrong share gives a
wrong secret, so what a secret unlocks must be checked, or be harmless when wrong.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache

from shared.domain.errors import InvalidMessage, QuorumMissed

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, threshold: int, xs: Sequence[int]) -> dict[int, bytes]:
    """One 33-byte big-endian share of the 32-byte `secret` for each place in `xs`.

    The coefficients come from the operating system's generator. Raises InvalidMessage for a secret of
    another length, for places that repeat or are outside [1, p), or for a threshold that is not in
    [1, len(xs)].
    """
    if len(secret) != SECRET_BYTES:
        raise _invalid(f"A shared secret has {SECRET_BYTES} bytes, and this one has {len(secret)}")
    _check_places(xs)
    if not 1 <= threshold <= len(xs):
        raise _invalid(f"The threshold must be between 1 and the {len(xs)} shares, and is {threshold}")
    # Highest power first, the secret last: the order in which Horner's rule wants them.
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(secret, "big"))
    return {x: _value_at(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in xs}


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The 32-byte secret from `threshold` of the shares (those of the smallest places), keyed by place.

    Rebuilding many secrets from the same places computes the Lagrange coefficients once.
    Raises QuorumMissed for fewer shares than the threshold; InvalidMessage for a place outside [1, p), a
    share that is not a field element in 33 bytes, or shares whose secret does not fit in 32 bytes.
    """
    if len(shares) < max(threshold, 1):
        raise QuorumMissed(
            f"At least {max(threshold, 1)} shares rebuild a secret, and {len(shares)} came. "
            "Nothing was rebuilt. Wait for more members to answer."
        )
    values = {x: _field_element(share) for x, share in shares.items()}
    places = tuple(sorted(values)[:threshold])
    coefficients = lagrange_at_zero(places)
    secret = sum(c * values[x] for c, x in zip(coefficients, places, strict=True)) % PRIME
    if secret >= 2**256:
        raise _invalid(f"The shares must lead to a secret of {SECRET_BYTES} bytes, and lead to a larger one")
    return secret.to_bytes(SECRET_BYTES, "big")


@lru_cache(maxsize=64)
def lagrange_at_zero(xs: tuple[int, ...]) -> tuple[int, ...]:
    """λ_i with f(0) = Σ λ_i·f(x_i) for every polynomial of degree below len(xs), in the order of `xs`.

    λ_i = Π_{j≠i} x_j / (x_j - x_i) modulo p. Raises InvalidMessage for places that repeat or are outside
    [1, p). Places are public, so keeping the result gives nothing away.
    """
    _check_places(xs)
    coefficients = []
    for x in xs:
        numerator = denominator = 1
        for other in xs:
            if other != x:
                numerator = numerator * other % PRIME
                denominator = denominator * (other - x) % PRIME
        coefficients.append(numerator * pow(denominator, -1, PRIME) % PRIME)
    return tuple(coefficients)


def _value_at(coefficients: Sequence[int], x: int) -> int:
    value = 0
    # Places are small numbers in use, so it is cheaper to let the value grow than to reduce it each time.
    for coefficient in coefficients:
        value = value * x + coefficient
    return value % PRIME


def _field_element(share: bytes) -> int:
    if len(share) != SHARE_BYTES:
        raise _invalid(f"A share has {SHARE_BYTES} bytes, and this one has {len(share)}")
    value = int.from_bytes(share, "big")
    if value >= PRIME:
        raise _invalid("A share must be a whole number below the prime of the field, and this one is not")
    return value


def _check_places(xs: Sequence[int]) -> None:
    if len(set(xs)) != len(xs):
        raise _invalid(f"Each share needs a place of its own, and {len(xs)} shares have {len(set(xs))}")
    # The polynomial's value at place 0 is the secret itself.
    if not all(0 < x < PRIME for x in xs):
        raise _invalid("Places of shares must be above 0 and below the prime of the field, and one is not")


def _invalid(what: str) -> InvalidMessage:
    return InvalidMessage(f"{what}. Nothing was rebuilt or shared. Ask for the message again.")
