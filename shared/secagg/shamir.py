"""Shamir's secret sharing of 32-byte secrets: any `threshold` shares rebuild one, fewer say nothing of it.

Shamir, "How to share a secret", Communications of the ACM 22(11), 1979. The field is the whole numbers
modulo p = 2²⁵⁶ + 297, the smallest prime above 2²⁵⁶: every 32-byte secret is a field element, so none has
to be drawn again or reduced, and an element needs 33 bytes. Shares carry no proof: one wrong share gives a
wrong secret, so what a secret unlocks must be checked, or be harmless when wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt

from shared.domain.errors import InvalidMessage, QuorumMissed

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
Limbs = npt.NDArray[np.float64]
_LIMBS = 17
"""Digits of 16 bits in a field element."""


def complete(
    secrets: Sequence[bytes], given: Mapping[int, Sequence[int]], xs: Sequence[int]
) -> list[dict[int, bytes]]:
    """For each secret of 32 bytes, the 33-byte big-endian shares at the places `xs`: those at `given` are fixed.

    `given`: place → a field element for each secret, one place fewer than rebuild one: one polynomial goes through
    a secret and its elements. With uniform, independent ones this is Shamir's sharing. Raises InvalidMessage for
    a secret of another length, for places that repeat or are outside [1, p).
    """
    for secret in secrets:
        if len(secret) != SECRET_BYTES:
            raise _invalid(f"A shared secret has {SECRET_BYTES} bytes, and this one has {len(secret)}")
    _check_places([*given, *xs])
    first = [int.from_bytes(secret, "big") for secret in secrets]
    sums = _sums_of_products(_coefficient_limbs((0, *given), tuple(xs)), [first, *given.values()])
    return [{x: to_share(row[kind]) for x, row in zip(xs, sums, strict=True)} for kind in range(len(secrets))]


def to_share(value: int) -> bytes:
    """A field element as 33 bytes, big-endian."""
    return value.to_bytes(SHARE_BYTES, "big")


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


def lagrange_at_zero(xs: tuple[int, ...]) -> tuple[int, ...]:
    """λ_i with f(0) = Σ λ_i·f(x_i) for every polynomial of degree below len(xs), in the order of `xs`.

    Raises InvalidMessage for places that repeat or are outside [1, p).
    """
    _check_places(xs)
    return _coefficients(xs, (0,))[0]


@lru_cache(maxsize=16)
def _coefficients(known: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """For each x in `wanted`, the c_i with f(x) = Σ c_i·f(x_i) over the x_i in `known`, which x is none of.

    c_i = Π_{j≠i} (x - x_j) / (x_i - x_j) modulo p. Places are public, so keeping them gives nothing away: the
    same places come in every round.
    """
    inverses: dict[int, int] = {}

    def inverse(number: int) -> int:
        if number not in inverses:
            inverses[number] = pow(number, -1, PRIME)
        return inverses[number]

    weights = [inverse(prod(one - other for other in known if other != one) % PRIME) for one in known]
    rows = []
    for x in wanted:
        whole = prod(x - one for one in known) % PRIME
        rows.append(
            tuple(
                whole * weight % PRIME * inverse(x - one) % PRIME
                for one, weight in zip(known, weights, strict=True)
            )
        )
    return tuple(rows)


@lru_cache(maxsize=16)
def _coefficient_limbs(known: tuple[int, ...], wanted: tuple[int, ...]) -> Limbs:
    """The limbs of `_coefficients`, float64 [wanted, _LIMBS, known]."""
    rows = _coefficients(known, wanted)
    limbs = _limbs([number for row in rows for number in row])
    return np.ascontiguousarray(limbs.reshape(len(wanted), len(known), _LIMBS).transpose(0, 2, 1))


def _limbs(numbers: Sequence[int]) -> Limbs:
    """The 16-bit digits of field elements, lowest first, float64 [n, _LIMBS]."""
    digits = b"".join(number.to_bytes(2 * _LIMBS, "little") for number in numbers)
    return np.frombuffer(digits, dtype="<u2").reshape(len(numbers), _LIMBS).astype(np.float64)


def _sums_of_products(rows: Limbs, values: Sequence[Sequence[int]]) -> list[list[int]]:
    """Σ_i row_i·value_ik modulo p, [n][k]: of `rows` [n, _LIMBS, len(values)] and columns k of the values.

    Schoolbook multiplication, all products of two digits at once: several times as fast as `int`. Exact: with up
    to 1024 values every sum below is a whole number less than 17·1024·2³² < 2⁴⁸, and float64 holds those below 2⁵³.
    """
    kinds = len(values[0])
    columns = _limbs([value for of_place in values for value in of_place]).reshape(
        len(values), kinds * _LIMBS
    )
    flat = rows.reshape(-1, len(values)) @ columns
    products = flat.reshape(len(rows), _LIMBS, kinds, _LIMBS)  # [n, digit of the row, k, digit of the value]
    digits = np.zeros((len(rows), kinds, 3 * _LIMBS), dtype=np.float64)
    for place in range(_LIMBS):
        digits[..., place : place + _LIMBS] += products[:, place]
    # A digit of 48 bits fills the room of three: every third one, written in a row, is one number.
    six_bytes = digits.astype("<u8").view(np.uint8).reshape(len(rows), kinds, _LIMBS, 3, 8)[..., :6]
    thirds = [np.ascontiguousarray(six_bytes[..., third, :]) for third in range(3)]
    return [[_number(thirds, row, kind) for kind in range(kinds)] for row in range(len(rows))]


def _number(thirds: Sequence[npt.NDArray[np.uint8]], row: int, kind: int) -> int:
    parts = (int.from_bytes(third[row, kind].tobytes(), "little") for third in thirds)
    return sum(part << (16 * place) for place, part in enumerate(parts)) % PRIME


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
