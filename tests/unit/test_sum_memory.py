"""What the coordinator holds while it sums does not grow with the number of members, in either mode."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

from coordinator.runs.averaging import Accumulator
from shared.secagg.server import ServerRound
from tests.secagg_kit import WEIGHTS, Round, secret_vector, terms
from tests.unit.test_averaging import contribution, vectors

MEMBERS, COORDINATES = 10, 300_000


def growth_bytes(add: list[Callable[[], None]]) -> int:
    """From the peak while two are added to the peak while all are."""
    peaks = []
    tracemalloc.start()
    try:
        for one in add:
            one()
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    return peaks[-1] - peaks[1]


def test_ten_members_are_averaged_in_the_memory_of_two(tmp_path: Path) -> None:
    sent = [contribution(tmp_path, v, f"mem_{n}") for n, v in enumerate(vectors(MEMBERS, COORDINATES))]
    accumulator = Accumulator(COORDINATES)
    grown = growth_bytes([lambda one=one: accumulator.add(*one, 0.1) for one in sent])
    # A tenth of one contribution, and not eight of them.
    assert grown < COORDINATES * 4 / 10


def test_ten_masked_vectors_are_summed_in_the_memory_of_two() -> None:
    wide = terms(quorum=7, length=COORDINATES)
    held = Round(wide, MEMBERS)
    held.deal()
    server = ServerRound(wide, held.offers, held.names, WEIGHTS)
    # Each is made as it is added, as it comes off the wire: what the sum keeps is all that can stay.
    grown = growth_bytes(
        [lambda name=name: server.add(name, secret_vector(wide, name)) for name in held.names]
    )
    assert server.added == tuple(sorted(held.names)) and grown < COORDINATES * 4 / 10
