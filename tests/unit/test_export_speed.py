"""Records a second: what else the machine does for a moment is not the program's."""

from __future__ import annotations

import numpy as np
import pytest

from shared.exports import speed
from shared.exports.speed import TIMED_S, records_per_s


class Clock:
    """Goes on by what a run takes, and by nothing else."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(speed, "time", found)
    return found


def test_a_moment_in_which_the_machine_was_busy_does_not_count(clock: Clock) -> None:
    def run(records: np.ndarray) -> None:
        busy = 0.06 < clock.now < 0.2
        clock.now += 0.08 if busy else 0.01

    assert records_per_s(run, np.zeros((4, 1), np.float32)) == pytest.approx(400.0)
    assert clock.now >= TIMED_S


def test_a_slow_program_is_run_for_no_longer_than_one_run_more(clock: Clock) -> None:
    def run(records: np.ndarray) -> None:
        clock.now += 0.7

    assert records_per_s(run, np.zeros((7, 1), np.float32)) == pytest.approx(10.0)
    assert clock.now == pytest.approx(1.4)
