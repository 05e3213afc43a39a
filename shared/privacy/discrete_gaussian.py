"""Discrete Gaussian noise on the integer grid, from a cryptographic generator (clauses 3.2, 3.3).

N_Z(0, s²) has P(z) proportional to exp(−z²/(2s²)) on the integers (Canonne, Kamath, Steinke, "The discrete
Gaussian for differential privacy", NeurIPS 2020). It needs no floating point anywhere between the key and the
integer, so there are no gaps between floats to learn from (Mironov, CCS 2012), and every machine draws the
same integers from one seed.

How. Up to s = 600: one look-up in an alias table, exact to 2⁻¹⁰⁰ (alias_table.py). Above: z = k·x + y with x
and y discrete Gaussian of variance b² and a², a = 3k and a² + k²·b² = s². Of z that is

    Σ_x ρ_b(x)·ρ_a(z − kx) = ρ_s(z)·Σ_x ρ_t(x − c(z)),   1/t² = 1/b² + k²/a²,

and by Poisson summation the last sum is t·√(2π)·(1 ± η) wherever c is, η = 2·Σ_j exp(−2π²t²j²). With a = 3k
it is t > 2.99 and η < 1e-76: z is N_Z(0, s²) within a factor 1 ± 2η. y is made the same way while it is large.
(The idea: Micciancio and Walter, "Gaussian sampling over the integers", CRYPTO 2017.)

Time is not hidden: a processor's caches may tell which table entry was read. The attacker of clause 0 sees
messages, not the member's machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from shared.domain.errors import InvalidMessage, UnsoundPlan
from shared.privacy.alias_table import LARGEST_STD, AliasTable, Words, table_of

Integers = npt.NDArray[np.int64]
LEAST_STD: Final = 0.3
MOST_STD: Final = 2.0**40
SEED_BYTES: Final = 32
_SMOOTH: Final = 3
_CHUNK: Final = 1 << 15
"""Integers made at a time, about 1.5 MiB beside the result. Another number means other integers from a seed."""


def draw(size: int, std: float) -> Integers:
    """`size` independent integers of N_Z(0, std²), int64 [size], under a fresh key of the operating system.

    std is in grid steps. Raises UnsoundPlan unless it is from 0.3 to 2⁴⁰.
    """
    return _drawn(os.urandom(SEED_BYTES), size, std)


def from_seed(seed: bytes, size: int, std: float) -> Integers:
    """As `draw`, and the same integers for the same 32-byte seed, size and std, on every machine.

    Only for the noise steps of clause 3.9, whose seeds come from the operating system and are revealed when
    their noise is to be taken out again. Raises InvalidMessage for a seed of another length, UnsoundPlan as
    `draw`.
    """
    if len(seed) != SEED_BYTES:
        raise InvalidMessage(
            f"The seed of a noise step has {SEED_BYTES} bytes, this one {len(seed)}. No noise was drawn or taken "
            "out. Ask its sender for the seed again."
        )
    return _drawn(seed, size, std)


def _drawn(key: bytes, size: int, std: float) -> Integers:
    drawn = np.empty(size, dtype=np.int64)
    for part, integers in _chunks(key, size, std):
        drawn[part] = integers
    return drawn


def _chunks(key: bytes, size: int, std: float) -> Iterator[tuple[slice, Integers]]:
    levels = _levels(std)
    stream = _Keystream(key)
    for start in range(0, size, _CHUNK):
        stop = min(start + _CHUNK, size)
        total = np.zeros(stop - start, dtype=np.int64)
        for table, factor in levels:
            integers = table.look_up(stream.words(stop - start), stream.words)
            if factor != 1:
                integers *= factor
            total += integers
        yield slice(start, stop), total


def _levels(std: float) -> list[tuple[AliasTable, int]]:
    """Tables and whole factors whose independent sum is N_Z(0, std²)."""
    if not LEAST_STD <= std <= MOST_STD:
        raise UnsoundPlan(
            f"Noise on the grid has a standard deviation of {LEAST_STD} to {MOST_STD:g} grid steps, here it would "
            f"be {std!r}. No noise was drawn, so nothing may leave. Check the plan's grid width."
        )
    levels = []
    while std > LARGEST_STD:
        factor = math.ceil(std / LARGEST_STD)
        inner = float(_SMOOTH * factor)
        # (s − a)(s + a): s² alone may round away what a² takes off.
        outer = math.sqrt((std - inner) * (std + inner)) / factor
        levels.append((table_of(outer), factor))
        std = inner
    return [*levels, (table_of(std), 1)]


class _Keystream:
    """AES-256 in counter mode under one key, as 64-bit words."""

    def __init__(self, key: bytes) -> None:
        # A key serves one call, so a fixed starting counter repeats nothing.
        self._encryptor = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()

    def words(self, size: int) -> Words:
        """The next `size` words, uint64 [size]."""
        return np.frombuffer(self._encryptor.update(bytes(8 * size)), dtype="<u8").astype(
            np.uint64, copy=False
        )
