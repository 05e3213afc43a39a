"""The Gaussian noise and the Poisson coins of the mechanism, from a cryptographic generator (clause 3.3).

What the floats mean. The analysis is about a real-valued Gaussian; what runs is floating point, and
Mironov ("On significance of the least significant bits for differential privacy", CCS 2012) showed that
the gaps between floats can give a noised value away. How far that reaches here:

 - Uniforms carry 53 bits, so |z| ends at sqrt(2·53·ln 2) = 8.57; a true Gaussian passes it with
   probability 1.1e-17 a coordinate. z is computed in float64.
 - `gaussian` rounds the noise itself to float32 (24 bits). Where a sum and its noise nearly cancel, the
   result lies on a finer grid than the noise did, so some outputs are possible for one sum and not for its
   neighbour: a hole. `noised` avoids that as far as floats can: it adds in float64 and rounds *once, after
   the addition*, so the noise has 2²⁹ points between two neighbouring float32 results and a hole needs
   cancellation to one part in 2²⁹. Whatever leaves a member should come from `noised`.
 - The rounding of the noised result is post-processing and costs nothing.
 - This is still a continuous Gaussian in floating point, not an exact sampler: (ε, δ) holds for it up to
   these effects. The exact one is the discrete Gaussian on an integer grid (clause 3.2), for mode `secure`.
 - Time is not hidden: drawing takes the same steps for every value, but libm's log and cos need not.

A seed cannot be given. Tests that need fixed noise subclass and override `_keystream`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from shared.domain.errors import UnsoundPlan

_PAIRS_PER_CHUNK = 1 << 16
"""Box–Muller pairs made at a time: 11 million coordinates then need about 6 MiB beside their result."""
_UNIFORMS_PER_CHUNK = 1 << 17
_ULP = 2.0**-53


class NoiseSource:
    """Uniform and Gaussian numbers that nobody can predict. Holds no state, so forks and threads are safe."""

    def uniform(self, size: int) -> npt.NDArray[np.float64]:
        """`size` independent uniforms on [0, 1), float64 [size], multiples of 2⁻⁵³."""
        drawn = np.empty(size, dtype=np.float64)
        for start in range(0, size, _UNIFORMS_PER_CHUNK):
            stop = min(start + _UNIFORMS_PER_CHUNK, size)
            drawn[start:stop] = self._integers_53_bits(stop - start) * _ULP
        return drawn

    def gaussian(self, size: int, std: float) -> npt.NDArray[np.float32]:
        """`size` independent N(0, std²), float32 [size].

        Raises UnsoundPlan for a std not finite or not above 0.
        """
        _check_std(std)
        drawn = np.empty(size, dtype=np.float32)
        for part, standard in self._standard_normals(size):
            drawn[part] = standard * std
        return drawn

    def noised(self, values: npt.NDArray[np.floating], std: float) -> npt.NDArray[np.float32]:
        """`values` [d] + N(0, std²), added in float64, rounded once: float32 [d]; see the top of this file.

        Raises UnsoundPlan for a std not finite or not above 0.
        """
        _check_std(std)
        result = np.empty(values.size, dtype=np.float32)
        flat = values.reshape(-1)
        for part, standard in self._standard_normals(values.size):
            result[part] = flat[part] + standard * std
        return result

    def _standard_normals(self, size: int) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
        """Consecutive slices of [0, size) with a float64 standard normal for each place.

        Box and Muller, "A note on the generation of random normal deviates", 1958.
        """
        for start in range(0, size, 2 * _PAIRS_PER_CHUNK):
            stop = min(start + 2 * _PAIRS_PER_CHUNK, size)
            pairs = (stop - start + 1) // 2
            integers = self._integers_53_bits(2 * pairs)
            # (k + 1)·2⁻⁵³ lies in (0, 1]: the logarithm never meets 0.
            radius = np.sqrt(-2.0 * np.log((integers[:pairs] + 1.0) * _ULP))
            angle = integers[pairs:] * (2.0 * math.pi * _ULP)
            both = np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))
            yield slice(start, stop), both[: stop - start]

    def _integers_53_bits(self, size: int) -> npt.NDArray[np.float64]:
        """`size` uniform integers in [0, 2⁵³), exact in float64."""
        words = np.frombuffer(self._keystream(8 * size), dtype="<u8")
        return (words >> np.uint64(11)).astype(np.float64)

    def _keystream(self, n_bytes: int) -> bytes:
        """Unpredictable bytes: AES-256 in counter mode under a key that serves this one call."""
        # A key is used once, so a fixed starting counter repeats nothing.
        cipher = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16)))
        return cipher.encryptor().update(bytes(n_bytes))


def _check_std(std: float) -> None:
    if not (math.isfinite(std) and std > 0.0):
        raise UnsoundPlan(
            f"The noise's standard deviation must be finite and above 0, and is {std!r}. No noise was drawn, "
            "so nothing may leave. Check the plan's noise multiplier and clip norm."
        )
