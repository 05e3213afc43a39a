"""Tables that turn uniform 64-bit words into integers of a small discrete Gaussian: exact, and one look-up each.

Walker's alias method ("An efficient method for generating discrete random variables with general
distributions", ACM TOMS 1977) in the form of Vose (IEEE TSE 1991). Each of 2^bits buckets holds two values
and a threshold between them. A word's low bits choose the bucket, the rest is compared with the threshold.

What makes it exact. The probabilities are whole multiples of 2⁻¹²⁸, computed in integers from the standard
deviation as the float it is (no libm: every machine builds the same table). A threshold therefore has more bits
than a word has left; in the rare case (2⁻⁵⁰) that those are equal, a second word decides. Values beyond
13 standard deviations are left out, together less than 2⁻¹²⁴. So a look-up is within 2⁻¹⁰⁰ of the discrete
Gaussian in total variation: 10¹² of them are within 2⁻⁶⁰.
"""

from __future__ import annotations

import decimal
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
LARGEST_STD: Final = 600.0
"""Tables of larger ones would leave the processor's nearest caches; larger noise is made of two of these."""
_TAIL: Final = 13.0
_TOTAL: Final = 1 << 128
_FIXED_POINT: Final = 256


@dataclass(frozen=True)
class AliasTable:
    """A discrete Gaussian as 2^bits buckets, made by `table_of`."""

    bits: int
    centre: int
    """Stored values are the integers plus this, so that they are 0 or more."""
    packed: Words
    """[2^bits]: the 64 − bits high bits of the threshold, then the second value of the bucket in bits low ones."""
    fine: Words
    """[2^bits]: the 64 lower bits of the threshold."""

    def look_up(
        self, words: Words, more: Callable[[int], Words], rooms: tuple[Words, Words] | None = None
    ) -> npt.NDArray[np.int64]:
        """int64 [n], one integer for each of the uniform `words` uint64 [n]; `more(k)` gives k further words.

        `rooms`, two arrays [n], are worked in, and the first holds the result: who draws often lends the same
        two, because memory fresh from the system costs more than the draw.

        A word's high bits below the threshold's mean the bucket's own number (the word's low bits), above it
        the second value (the entry's low bits): the low bits of whichever is smaller.
        """
        chosen, entries = rooms or (np.empty_like(words), np.empty_like(words))
        mask = np.uint64((1 << self.bits) - 1)
        np.bitwise_and(words, mask, out=chosen)
        # No index can be out of range; "raise" would make numpy copy what it writes.
        self.packed.take(chosen.view(np.int64), out=entries, mode="wrap")
        np.minimum(words, entries, out=chosen)
        np.bitwise_xor(words, entries, out=entries)
        if entries.min(initial=mask + np.uint64(1)) <= mask:  # equal high bits somewhere
            tied = np.flatnonzero(entries <= mask)
            bucket = words[tied] & mask
            second = words[tied] ^ entries[tied]
            own = more(tied.size) < self.fine[bucket.view(np.int64)]
            chosen[tied] = np.where(own, bucket, second)
        chosen &= mask
        values = chosen.view(np.int64)
        values -= self.centre
        return values


@functools.lru_cache(maxsize=64)
def table_of(std: float) -> AliasTable:
    """The table of N_Z(0, std²): P(z) proportional to exp(−z²/(2·std²)); std from 0.3 to LARGEST_STD.

    Takes about 1 µs a bucket, of which there are at least 26·std.
    """
    weights = probabilities(std)
    centre = len(weights) // 2
    bits = max(1, (len(weights) - 1).bit_length())
    buckets = 1 << bits
    full = _TOTAL // buckets
    left = weights + [0] * (buckets - len(weights))
    second = list(range(buckets))
    small = [i for i, weight in enumerate(left) if weight < full]
    large = [i for i, weight in enumerate(left) if weight > full]
    thresholds = [0] * buckets
    while small:
        poor, rich = small.pop(), large[-1]
        thresholds[poor], second[poor] = left[poor], rich
        left[rich] -= full - left[poor]
        if left[rich] <= full:
            large.pop()
            if left[rich] < full:
                small.append(rich)
    # A bucket that is full of its own value keeps threshold 0 and itself as its second value.
    packed = [((t >> 64) << bits) | other for t, other in zip(thresholds, second, strict=True)]
    fine = [t & (2**64 - 1) for t in thresholds]
    return AliasTable(bits, centre, np.array(packed, np.uint64), np.array(fine, np.uint64))


def probabilities(std: float) -> list[int]:
    """P(−m) … P(m) of N_Z(0, std²) in units of 2⁻¹²⁸, m = ceil(13·std); they sum to exactly 2¹²⁸."""
    # ρ(z+1) = ρ(z)·e^(−(2z+1)/(2s²)), in fixed point: two multiplications a value, and no rounding that matters.
    with decimal.localcontext(prec=90):
        exponent = -1 / (2 * decimal.Decimal(std) ** 2)
        scale = decimal.Decimal(2) ** _FIXED_POINT
        ratio, shrink = int(exponent.exp() * scale), int((2 * exponent).exp() * scale)
    half = [1 << _FIXED_POINT]
    for _ in range(math.ceil(_TAIL * std)):
        half.append((half[-1] * ratio) >> _FIXED_POINT)
        ratio = (ratio * shrink) >> _FIXED_POINT
    whole = half[0] + 2 * sum(half[1:])
    right = [(value * _TOTAL + whole // 2) // whole for value in half]
    # What rounding left over goes to 0, where it is the smallest part.
    right[0] = _TOTAL - 2 * sum(right[1:])
    return right[:0:-1] + right
