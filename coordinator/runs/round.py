"""One round in mode local, top to bottom: choose, ask, check, sum, average, checkpoint.

The steps carry the numbers of docs/architecture.md, "The walk of one update". What a member does between
steps 1 and 9 is in participant/training/local_round.py; read the two side by side. A round in mode secure has more
exchanges and is in secure_round.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from coordinator.runs.averaging import Accumulator, ServerState, apply_average
from coordinator.runs.carrier import Carrier, Received, RoundAsk
from coordinator.runs.events import Journal
from coordinator.runs.exchange import Stopwatch, answers, readable
from shared.domain.canonical import digest_of_file
from shared.domain.crash_points import crash_point
from shared.domain.errors import BadSignature, CommonlensError, InvalidMessage, QuorumMissed
from shared.domain.files import write_atomically
from shared.domain.plan import Plan
from shared.domain.strict import to_plain
from shared.domain.update import Contribution
from shared.release.signing import verify_value
from shared.wire.rounds import RoundReply

LARGEST_COUNT = 1e12
"""No noised number of held-out units comes near this."""


@dataclass(frozen=True)
class Validation:
    """Noised held-out counts over all contributors, and the std of the noise on each (clause 6.2)."""

    correct: float
    wrong: float
    noise_std: float


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
    validation: Validation | None = None
    note: str = ""
    """What an admin should look into although the round closed; empty when there is nothing."""
    journal: Journal = field(default_factory=Journal, repr=False, compare=False)

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
    require_quorum(plan, record, len(record.cohort), "could be asked")
    watch = Stopwatch(record.seconds, record.journal)

    # Step 9, outwards: every member of the cohort gets the same weights, named by digest.
    weights = write_weights(scratch, state)
    weights_digest, size_bytes = digest_of_file(weights), weights.stat().st_size
    ask = RoundAsk(run_id, record.number, str(plan.digest), weights_digest, plan.deadline_s, size_bytes)

    # Steps 9 and 10: signed contributions one at a time into one sum. Mode local has no masks to lift.
    total = Accumulator(plan.trainable_coordinates)
    for received in answers(carrier, ask, record.cohort, weights, keep_going, watch):
        try:
            contribution = checked(received, ask, identity_keys)
            total.add(contribution, payload_of(received), plan.weight(received.sender_id))
            record.contributions.append(contribution)
            crash_point("10")
        except CommonlensError as error:
            record.missing[received.sender_id] = error.message
    note_missing(plan, record)
    record.bytes_down = size_bytes * len(record.cohort)
    record.bytes_up = sum(c.header.payload_bytes for c in record.contributions)

    # Step 11: a quorum, or nothing; then the server optimiser.
    require_quorum(plan, record, len(record.contributors), "contributed by the deadline")
    counts = [c.header.counts for c in record.contributions if c.header.counts is not None]
    if counts:
        std = math.sqrt(len(counts)) * plan.privacy.evaluation_noise_multiplier
        record.validation = Validation(sum(c.correct for c in counts), sum(c.wrong for c in counts), std)
    moved = apply_average(state, total.result(), plan.server)
    watch.lap("average")
    return moved


def write_weights(scratch: Path, state: ServerState) -> Path:
    """The weights of a round as the file that members fetch: little-endian float32 [d]."""
    path = scratch / "weights.f32"
    write_atomically(path, memoryview(np.ascontiguousarray(state.weights, dtype="<f4")).cast("B"))
    return path


def note_missing(plan: Plan, record: RoundRecord) -> None:
    """Name everybody who was asked and neither contributed nor said why not."""
    for member_id in record.cohort:
        if member_id not in record.contributors and member_id not in record.missing:
            record.missing[member_id] = f"did not answer within {plan.deadline_s:g} s"


def checked(received: Received, ask: RoundAsk, identity_keys: Mapping[str, str]) -> Contribution:
    """The answer as a Contribution that its sender signed for exactly this round of this plan (clause 5.6).

    Raises InvalidMessage for a refusal, an error or an answer to something else; BadSignature for a forgery.
    """
    reply = answer_of(received)
    if reply.header is None or reply.signature is None:
        raise InvalidMessage("answered without a signed contribution; the answer was not counted")
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


def answer_of(received: Received) -> RoundReply:
    """The reply, if it is an answer. Raises InvalidMessage, saying why, for a refusal or an error."""
    if received.reply is None:
        raise InvalidMessage(received.error or "sent nothing that could be read")
    if received.reply.refusal_code is not None:
        reason = readable(received.reply.refusal_text or received.reply.refusal_code)
        raise InvalidMessage(f"refused: {reason}")
    return received.reply


def payload_of(received: Received) -> Path:
    """The staged bytes of a contribution. Raises InvalidMessage where they never came."""
    if received.payload is None:
        raise InvalidMessage("announced a contribution whose bytes never came completely")
    return received.payload


def require_quorum(plan: Plan, record: RoundRecord, present: int, verb: str) -> None:
    """Raise QuorumMissed below the plan's quorum: the sum of a quorum, or nothing (clause 5.5)."""
    if present < plan.quorum:
        raise QuorumMissed(
            f"Round {record.number}: {present} of {len(plan.members)} members {verb}, the plan needs "
            f"{plan.quorum}. Nothing was averaged. `run show` names who is missing and why: mend that, or lower the "
            "quorum in a new plan."
        )
