"""What the coordinator holds while it sums does not grow with the number of members (mode local)."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from coordinator.runs.averaging import Accumulator
from tests.unit.test_averaging import contribution, vectors

COORDINATES = 300_000


def test_ten_members_are_summed_in_the_memory_of_two(tmp_path: Path) -> None:
    sent = [contribution(tmp_path, vector, f"mem_{n}") for n, vector in enumerate(vectors(10, COORDINATES))]
    accumulator, peaks = Accumulator(COORDINATES), []
    tracemalloc.start()
    try:
        for arrived in sent:
            accumulator.add(*arrived, 0.1)
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    # A tenth of one contribution, and not eight of them.
    assert peaks[-1] - peaks[1] < COORDINATES * 4 / 10
