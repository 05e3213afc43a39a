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
from collections.abc import Iterator, Sequence
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
"""Integers made at a time, about 1.2 MiB beside the result. Another number means other integers from a seed."""
_WORD_BYTES: Final = 8
_ZEROS: Final = bytes(_WORD_BYTES * _CHUNK)


def fresh_seed() -> bytes:
    """32 bytes of the operating system's generator: a seed of noise that nobody is to draw a second time."""
    return os.urandom(SEED_BYTES)


def from_seed(seed: bytes, size: int, std: float) -> Integers:
    """`size` independent integers of N_Z(0, std²), int64 [size]; std is in grid steps.

    The same ones for the same 32-byte seed, size and std, on every machine. Raises InvalidMessage for a seed of
    another length, UnsoundPlan for a std that is not from 0.3 to 2⁴⁰.
    """
    drawn = np.empty(size, dtype=np.int64)
    for part, integers in blocks_from_seeds([(seed, std)], size):
        drawn[part] = integers
    return drawn


def blocks_from_seeds(
    components: Sequence[tuple[bytes, float]], size: int
) -> Iterator[tuple[slice, Integers]]:
    """The sum of `from_seed` over (seed, std), block by block: consecutive slices of [0, size) with what is there.

    A block is one array that is used again for the next: use it up at once. Raises as `from_seed`.
    """
    for seed, _ in components:
        _check_seed(seed)
    return _blocks(components, size)


def _blocks(components: Sequence[tuple[bytes, float]], size: int) -> Iterator[tuple[slice, Integers]]:
    streams = [(_Keystream(key), _levels(std)) for key, std in components]
    levels = [(stream, *level) for stream, its_levels in streams for level in its_levels]
    rooms = np.empty((3, min(size, _CHUNK)), dtype=np.uint64)
    for start in range(0, size, _CHUNK):
        stop = min(start + _CHUNK, size)
        total, chosen, entries = rooms[:, : stop - start]
        for place, (stream, table, factor) in enumerate(levels):
            room = total if place == 0 else chosen
            integers = table.look_up(stream.next_words(stop - start), stream.words, (room, entries))
            if factor != 1:
                integers *= factor
            if place > 0:
                total.view(np.int64)[:] += integers
        yield slice(start, stop), total.view(np.int64)


def _check_seed(seed: bytes) -> None:
    if len(seed) != SEED_BYTES:
        raise InvalidMessage(
            f"The seed of a noise step has {SEED_BYTES} bytes, this one {len(seed)}. No noise was drawn or taken "
            "out. Ask its sender for the seed again."
        )


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
        self._room = bytearray()

    def words(self, size: int) -> Words:
        """The next `size` words, uint64 [size]."""
        return _as_words(self._encryptor.update(bytes(_WORD_BYTES * size)), size)

    def next_words(self, size: int) -> Words:
        """As `words`, for 0 to _CHUNK of them, in memory that the next call uses again."""
        if not self._room:
            # The library wants room for one more cipher block than it writes.
            self._room = bytearray(len(_ZEROS) + 15)
        self._encryptor.update_into(memoryview(_ZEROS)[: _WORD_BYTES * size], self._room)
        return _as_words(self._room, size)


def _as_words(data: bytes | bytearray, size: int) -> Words:
    return np.frombuffer(data, dtype="<u8", count=size).astype(np.uint64, copy=False)
