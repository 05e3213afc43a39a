"""One round, top to bottom: choose, ask, check, sum, average, checkpoint.

The steps carry the numbers of docs/architecture.md, "The walk of one update". What a member does between
steps 1 and 9 is in participant/training/local_round.py; read the two side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from coordinator.runs.averaging import Accumulator, ServerState, apply_average
from coordinator.runs.carrier import Carrier, Received, RoundAsk
from shared.domain.canonical import digest_of_file
from shared.domain.crash_points import crash_point
from shared.domain.errors import BadSignature, CommonlensError, InvalidMessage, QuorumMissed
from shared.domain.files import write_atomically
from shared.domain.plan import Plan
from shared.domain.strict import to_plain
from shared.domain.update import Contribution
from shared.release.signing import verify_value

LONGEST_WAIT_S = 0.5
"""How long one look for an answer may last, so that a pause or stop is noticed soon."""
LARGEST_COUNT = 1e12
"""No noised number of held-out units comes near this."""
LONGEST_REASON_CHARACTERS = 500


@dataclass
class RoundRecord:
    """What the coordinator keeps of a round; nothing in it was measured on records, except noised counts."""

    number: int
    cohort: tuple[str, ...]
    missing: dict[str, str]
    """Member id → why it did not contribute."""
    contributions: list[Contribution] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def contributors(self) -> tuple[str, ...]:
        """Who is in the sum."""
        return tuple(c.header.member_id for c in self.contributions)


def run_round(
    run_id: str,
    plan: Plan,
    record: RoundRecord,
    state: ServerState,
    identity_keys: Mapping[str, str],
    carrier: Carrier,
    scratch: Path,
    keep_going: Callable[[], None],
) -> ServerState:
    """The server state after this round; `record` is filled in on the way.

    Raises QuorumMissed when fewer than the plan's quorum contributed by its deadline: then nothing was
    averaged (clause 5.5). `keep_going` raises to abandon the round, when the run is paused or stopped.
    """
    _require_quorum(plan, record, len(record.cohort), "could be asked")
    watch = _Watch(record)

    # Step 9, outwards: every member of the cohort gets the same weights, named by digest.
    weights = scratch / "weights.f32"
    write_atomically(weights, memoryview(np.ascontiguousarray(state.weights, dtype="<f4")).cast("B"))
    ask = RoundAsk(run_id, record.number, str(plan.digest), digest_of_file(weights), plan.deadline_s)
    carrier.ask(ask, record.cohort, weights)
    watch.lap("broadcast")

    # Steps 9 and 10: signed contributions one at a time into one sum. Mode local has no masks to lift.
    total = Accumulator(plan.trainable_coordinates)
    waiting = set(record.cohort)
    deadline = time.monotonic() + plan.deadline_s
    try:
        while waiting and (left_s := deadline - time.monotonic()) > 0:
            keep_going()
            received = carrier.next_answer(min(left_s, LONGEST_WAIT_S))
            watch.lap("waiting")
            if received is None or received.sender_id not in waiting:
                continue  # nothing yet, or a second answer, or one that nobody asked for
            waiting.discard(received.sender_id)
            try:
                contribution = checked(received, ask, identity_keys)
                total.add(contribution, _payload(received), plan.weight(received.sender_id))
                record.contributions.append(contribution)
                crash_point("10")
            except CommonlensError as error:
                record.missing[received.sender_id] = error.message
            watch.lap("sum")
    finally:
        carrier.close_round()
    record.missing.update(dict.fromkeys(waiting, f"did not answer within {plan.deadline_s:g} s"))
    record.bytes_down = weights.stat().st_size * len(record.cohort)
    record.bytes_up = sum(c.header.payload_bytes for c in record.contributions)

    # Step 11: a quorum, or nothing; then the server optimiser.
    _require_quorum(plan, record, len(record.contributors), "contributed by the deadline")
    moved = apply_average(state, total.result(), plan.server)
    watch.lap("average")
    return moved


def checked(received: Received, ask: RoundAsk, identity_keys: Mapping[str, str]) -> Contribution:
    """The answer as a Contribution that its sender signed for exactly this round of this plan (clause 5.6).

    Raises InvalidMessage for a refusal, an error or an answer to something else; BadSignature for a forgery.
    """
    reply = received.reply
    if reply is None:
        raise InvalidMessage(received.error or "sent nothing that could be read")
    if reply.header is None or reply.signature is None:
        raise InvalidMessage(_told(reply.refusal_text or reply.refusal_code or "no reason given"))
    header = reply.header
    if header.member_id != received.sender_id:
        raise BadSignature("answered in another member's name; the answer was not counted")
    verify_value(identity_keys[received.sender_id], "contribution", to_plain(header), reply.signature)
    answered = (header.run_id, header.round_number, header.plan_digest, header.weights_digest)
    if answered != (ask.run_id, ask.round_number, ask.plan_digest, ask.weights_digest):
        raise InvalidMessage("signed an answer to another round, plan or weights; it was not counted")
    counts = header.counts
    if counts is not None and not max(abs(counts.correct), abs(counts.wrong)) < LARGEST_COUNT:
        raise InvalidMessage("sent validation counts that no data set has; the answer was not counted")
    return Contribution(header, bytes.fromhex(reply.signature))


def _told(reason: str) -> str:
    """A member's own words, fit for a page or a terminal: printable and bounded."""
    printable = "".join(c if c.isprintable() else " " for c in reason[:LONGEST_REASON_CHARACTERS])
    return f"refused: {printable}"


def _payload(received: Received) -> Path:
    if received.payload is None:
        raise InvalidMessage("announced a contribution whose bytes never came completely")
    return received.payload


def _require_quorum(plan: Plan, record: RoundRecord, present: int, verb: str) -> None:
    if present < plan.quorum:
        raise QuorumMissed(
            f"Round {record.number}: {present} of {len(plan.members)} members {verb}, the plan needs "
            f"{plan.quorum}. Nothing was averaged. Start the round again, or lower the quorum in a new plan."
        )


class _Watch:
    """Seconds per phase, added up into the record."""

    def __init__(self, record: RoundRecord) -> None:
        self._seconds = record.seconds
        self._last = time.monotonic()

    def lap(self, phase: str) -> None:
        """Everything since the last call belongs to `phase`."""
        now = time.monotonic()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._last
        self._last = now
