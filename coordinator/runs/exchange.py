"""One exchange: ask a cohort, and take the first answer of each member as it comes, until the deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from coordinator.runs.carrier import Carrier, Received, RoundAsk, StepAsk

LONGEST_WAIT_S = 0.5
"""How long one look for an answer may last, so that a pause or stop is noticed soon."""


class Stopwatch:
    """Seconds per phase, added up into the mapping that it is given."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def lap(self, phase: str) -> None:
        """Everything since the last call belongs to `phase`."""
        now = time.monotonic()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._last
        self._last = now


def answers(
    carrier: Carrier,
    ask: RoundAsk | StepAsk,
    cohort: Sequence[str],
    weights: Path | None,
    keep_going: Callable[[], None],
    watch: Stopwatch,
) -> Iterator[Received]:
    """The first answer of each member of `cohort`, one at a time; ends with all of them or at the deadline.

    Use it up or close it: the exchange is open while it runs. `keep_going` raises to abandon the round.
    """
    carrier.ask(ask, cohort, weights)
    watch.lap("broadcast")
    waiting = set(cohort)
    deadline = time.monotonic() + ask.deadline_s
    try:
        while waiting and (left_s := deadline - time.monotonic()) > 0:
            keep_going()
            received = carrier.next_answer(min(left_s, LONGEST_WAIT_S))
            watch.lap("waiting")
            if received is None or received.sender_id not in waiting:
                continue  # nothing yet, or a second answer, or one that nobody asked for
            waiting.discard(received.sender_id)
            yield received
            watch.lap("sum")
    finally:
        carrier.close_exchange()
