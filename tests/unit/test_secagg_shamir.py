"""Shamir's sharing: what it refuses, and that its field is one."""

from __future__ import annotations

import itertools
import secrets

import pytest

from shared.domain.errors import InvalidMessage, QuorumMissed
from shared.secagg.messages import MAXIMUM_MEMBERS
from shared.secagg.shamir import PRIME, SHARE_BYTES, combine, complete, lagrange_at_zero, to_share
from tests.secagg_kit import split

SECRET = bytes(range(32))


def _passes_miller_rabin(number: int) -> bool:
    """Whether `number` passes for the first 40 prime bases: a composite would by a chance below 4⁻⁴⁰."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    bases = [p for p in range(2, 174) if all(p % q for q in range(2, p))]
    for base in bases:
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


def test_the_field_is_that_of_the_smallest_prime_above_every_secret() -> None:
    assert [k for k in range(298) if _passes_miller_rabin(2**256 + k)] == [297]
    assert PRIME == 2**256 + 297


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, SECRET], ids=["zeros", "ones", "counting"])
@pytest.mark.parametrize(("threshold", "holders"), [(1, 1), (1, 4), (3, 3), (134, 200)])
def test_a_threshold_of_shares_rebuilds_any_secret(secret: bytes, threshold: int, holders: int) -> None:
    shares = split(secret, threshold, range(1, holders + 1))
    assert {len(share) for share in shares.values()} == {SHARE_BYTES}
    last = {x: shares[x] for x in list(shares)[-threshold:]}
    assert combine(last, threshold) == combine(shares, threshold) == secret


def test_shares_of_one_secret_are_drawn_anew_each_time() -> None:
    first, second = split(SECRET, 2, [1, 2]), split(SECRET, 2, [1, 2])
    assert first[1] != second[1]
    assert first[2] != second[2]


def test_fewer_shares_than_the_threshold_are_refused() -> None:
    shares = split(SECRET, 3, range(1, 6))
    with pytest.raises(QuorumMissed, match="At least 3 shares rebuild a secret, and 2 came"):
        combine({1: shares[1], 4: shares[4]}, 3)
    with pytest.raises(QuorumMissed, match="At least 1 shares"):
        combine({}, 0)


@pytest.mark.parametrize(
    ("secret", "given", "xs", "text"),
    [
        (SECRET[:-1], {1: 5}, [2], "has 32 bytes, and this one has 31"),
        (SECRET, {1: 5}, [1, 2], "3 shares have 2"),
        (SECRET, {1: 5}, [2, 2], "3 shares have 2"),
        (SECRET, {0: 5}, [1], "above 0 and below the prime"),
        (SECRET, {1: 5}, [0], "above 0 and below the prime"),
        (SECRET, {1: 5}, [PRIME], "above 0 and below the prime"),
    ],
)
def test_a_sharing_that_could_not_be_rebuilt_is_refused(
    secret: bytes, given: dict[int, int], xs: list[int], text: str
) -> None:
    with pytest.raises(InvalidMessage, match=text):
        complete([SECRET, secret], {x: [value, value] for x, value in given.items()}, xs)


def test_the_shares_that_are_given_and_those_that_follow_rebuild_the_secret_in_any_mix() -> None:
    given, both = {5: (7, 1), 2: (PRIME - 1, 0), 9: (0, PRIME - 2)}, (SECRET, bytes(32))
    for kind, completed in enumerate(complete(both, given, [1, 3, 4])):
        shares = {x: to_share(values[kind]) for x, values in given.items()} | completed
        for mix in itertools.combinations(shares, 4):
            assert combine({x: shares[x] for x in mix}, 4) == both[kind]
    assert complete(both, given, []) == [{}, {}]


@pytest.mark.parametrize("threshold", [1, 2, 17, MAXIMUM_MEMBERS])
@pytest.mark.parametrize("values", ["largest", "drawn"])
def test_shares_are_the_polynomials_values_to_the_last_digit(threshold: int, values: str) -> None:
    draw = secrets.SystemRandom()
    given = {x: PRIME - 1 if values == "largest" else draw.randrange(PRIME) for x in range(1, threshold)}
    xs = [threshold, threshold + 1, 3 * MAXIMUM_MEMBERS, PRIME - 1]
    secret = b"\xff" * 32
    points = {0: int.from_bytes(secret, "big"), **given}
    (shares,) = complete([secret], {x: [value] for x, value in given.items()}, xs)
    for x in xs:
        rest = {place - x: value for place, value in points.items()}
        coefficients = lagrange_at_zero(tuple(place % PRIME for place in rest))
        value = sum(c * v for c, v in zip(coefficients, rest.values(), strict=True)) % PRIME
        assert shares[x] == to_share(value)


@pytest.mark.parametrize(
    ("place", "share", "text"),
    [
        (2, bytes(32), "has 33 bytes, and this one has 32"),
        (2, PRIME.to_bytes(33, "big"), "below the prime of the field, and this one is not"),
        (2, b"\xff" * 33, "below the prime of the field, and this one is not"),
        (0, bytes(33), "above 0 and below the prime"),
        (-1, bytes(33), "above 0 and below the prime"),
    ],
)
def test_a_share_that_nobody_dealt_is_refused(place: int, share: bytes, text: str) -> None:
    good = {1: split(SECRET, 2, [1, 2])[1]}
    with pytest.raises(InvalidMessage, match=text):
        combine({**good, place: share}, 2)


def test_shares_of_a_number_that_is_no_secret_are_refused() -> None:
    largest = (2**256 - 1).to_bytes(33, "big")
    too_large = (2**256).to_bytes(33, "big")
    assert combine({1: largest, 2: largest}, 2) == b"\xff" * 32
    with pytest.raises(InvalidMessage, match="lead to a larger one"):
        combine({1: too_large, 2: too_large}, 2)


def test_coefficients_read_a_polynomial_at_zero() -> None:
    xs = (3, 1, 8)

    def polynomial(x: int) -> int:
        return (11 + 5 * x + 7 * x * x) % PRIME

    weighted = sum(c * polynomial(x) for c, x in zip(lagrange_at_zero(xs), xs, strict=True))
    assert weighted % PRIME == 11
    with pytest.raises(InvalidMessage, match="2 shares have 1"):
        lagrange_at_zero((4, 4))
