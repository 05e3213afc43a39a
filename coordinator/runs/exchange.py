"""One exchange: ask a cohort, and take the first answer of each member as it comes, until the deadline.

The one place where rounds are watched: what is noted here, and the seconds, are what pages and programs see.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from coordinator.runs.carrier import Carrier, Received, RoundAsk, StepAsk
from coordinator.runs.events import ANSWERED, ASKED, CONTRIBUTE, ENDED, LOST, REFUSED, Journal

LONGEST_WAIT_S = 0.5
"""How long one look for an answer may last, so that a pause or stop is noticed soon."""
LONGEST_REASON_CHARACTERS = 500


class Stopwatch:
    """Seconds per phase, added up into the mapping that it is given, and the journal of what happened in them."""

    def __init__(self, seconds: dict[str, float], journal: Journal) -> None:
        self._seconds = seconds
        self.journal = journal
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
    step, journal = step_of(ask), watch.journal
    carrier.ask(ask, cohort, weights)
    watch.lap("broadcast")
    journal.note(f"{step}.{ASKED}", detail=" ".join(cohort))
    waiting = set(cohort)
    deadline = time.monotonic() + ask.deadline_s
    try:
        while waiting and (left_s := deadline - time.monotonic()) > 0:
            keep_going()
            received = carrier.next_answer(min(left_s, LONGEST_WAIT_S))
            watch.lap(_phase(step, len(waiting), len(cohort)))
            journal.write_if_due()
            if received is None or received.sender_id not in waiting:
                continue  # nothing yet, or a second answer, or one that nobody asked for
            waiting.discard(received.sender_id)
            what, reason = _outcome(received)
            journal.note(f"{step}.{what}", received.sender_id, reason)
            yield received
            watch.lap("sum")
    finally:
        carrier.close_exchange()
        journal.note(f"{step}.{ENDED}", detail=f"{len(cohort) - len(waiting)} of {len(cohort)}")
        journal.write_if_due()


def step_of(ask: RoundAsk | StepAsk) -> str:
    """The name of what is asked for."""
    if isinstance(ask, RoundAsk):
        return CONTRIBUTE
    return next((request.step.value for request in ask.requests.values()), "nothing")


def _phase(step: str, waiting: int, asked: int) -> str:
    """What the last seconds were spent on: training until half of the members have answered, then waiting for the
    others; the small steps of mode secure by themselves."""
    if step != CONTRIBUTE:
        return "steps"
    return "training" if 2 * (asked - waiting) < asked else "waiting"


def _outcome(received: Received) -> tuple[str, str]:
    """What an answer is at first sight. Whether it counts is decided by whoever reads it."""
    if received.reply is None:
        return LOST, received.error or ""
    if received.reply.refusal_code is not None:
        return REFUSED, readable(received.reply.refusal_text or received.reply.refusal_code)
    return ANSWERED, ""


def readable(reason: str) -> str:
    """A member's own words, fit for a page or a terminal: printable and bounded."""
    return "".join(c if c.isprintable() else " " for c in reason[:LONGEST_REASON_CHARACTERS])
