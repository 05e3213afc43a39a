"""One round in mode secure, top to bottom: keys, ask, add masked, fix the survivors, unmask their sum, average.

The steps carry the numbers of docs/architecture.md, "The walk of one update"; clauses are those of
docs/protocol.md. What a member does is in participant/training/local_round.py and participant/secure.py.
Nothing here can look into one contribution: it is masked, and the masks lift from the sum of a quorum only.

The next round's keys ride on this round's answers, so a round costs two exchanges: contribute, unmask. A third,
small one is needed where somebody dropped out, and two more before a round that has somebody new in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coordinator.runs.averaging import ServerState, apply_average, checked_payload
from coordinator.runs.carrier import Carrier, RoundAsk, StepAsk
from coordinator.runs.excess import remove_excess
from coordinator.runs.exchange import Stopwatch, answers
from coordinator.runs.round import (
    RoundRecord,
    Validation,
    answer_of,
    checked,
    note_missing,
    payload_of,
    require_quorum,
    write_weights,
)
from coordinator.runs.round_keys import RoundKeys, RoundKeyStore
from shared.domain.canonical import digest_of_file
from shared.domain.crash_points import crash_point
from shared.domain.errors import CommonlensError, InvalidMessage, QuorumMissed
from shared.domain.plan import Plan
from shared.domain.update import AggregateSum
from shared.privacy.distributed import COUNT_SCALE
from shared.privacy.noise_shares import retained_counts_std, vector_length
from shared.release.signing import verify_value
from shared.secagg.dealing import check_deal
from shared.secagg.fixed_point import from_ring
from shared.secagg.messages import Deal, KeyOffer, UnmaskShares, roster_digest
from shared.secagg.parameters import RoundTerms, terms_of, tolerance
from shared.secagg.roster import Roster, check_offer
from shared.secagg.server import ServerRound
from shared.wire.rounds import PROTOCOL_VERSION, MaskedAsk, RoundReply, Step, StepRequest


@dataclass(frozen=True)
class SecureTools:
    """What the steps of a round share."""

    run_id: str
    plan: Plan
    record: RoundRecord
    terms: RoundTerms
    identity_keys: Mapping[str, str]
    carrier: Carrier
    store: RoundKeyStore
    keep_going: Callable[[], None]
    watch: Stopwatch


def run_secure_round(
    run_id: str,
    plan: Plan,
    record: RoundRecord,
    state: ServerState,
    identity_keys: Mapping[str, str],
    carrier: Carrier,
    scratch: Path,
    keep_going: Callable[[], None],
    store: RoundKeyStore,
) -> ServerState:
    """The server state after this round; `record` is filled in on the way.

    Raises QuorumMissed when fewer than the plan's quorum got as far as any of its steps: then nothing was
    unmasked (clause 5.5). `keep_going` raises to abandon the round, when the run is paused or stopped.
    """
    require_quorum(plan, record, len(record.cohort), "could be asked")
    terms = terms_of(plan, run_id, record.number, vector_length(plan, record.number))
    watch = Stopwatch(record.seconds, record.journal)
    tools = SecureTools(run_id, plan, record, terms, identity_keys, carrier, store, keep_going, watch)

    # Clauses 5.1 and 5.2: one-round keys and their shares, where they did not ride on the round before.
    keys, cohort = _fixed_cohort(tools)

    # Step 9, outwards: the same weights and the same cohort for everybody.
    weights = write_weights(scratch, state)
    size_bytes, masked = terms.length * terms.dtype.itemsize, _masked_asks(keys, cohort)
    digest = digest_of_file(weights)
    ask = RoundAsk(run_id, record.number, terms.plan_digest, digest, plan.deadline_s, size_bytes, masked)

    # Step 9, inwards: masked contributions one at a time into one sum modulo 2³² (clause 5.3). Once the
    # survivors were fixed in an earlier try, nobody else can come into it any more.
    server = ServerRound(terms, keys.roster, cohort, digest)
    endorsements, next_offers = _masked_sum(tools, ask, keys.survivors or cohort, weights, server, cohort)
    note_missing(plan, record)
    record.bytes_down = weights.stat().st_size * len(cohort)
    record.bytes_up = sum(c.header.payload_bytes for c in record.contributions)

    # Clause 5.4: who is in the sum, fixed before anybody is told, and signed by a quorum where it is smaller.
    require_quorum(plan, record, len(record.contributors), "contributed by the deadline")
    crash_point("10.1")
    survivors = _fixed_survivors(tools, keys)
    crash_point("10.2")
    listed = {} if survivors == cohort else _list_endorsements(tools, server, survivors)

    # Step 10: a quorum's shares lift the masks from the sum, or nothing (clause 5.5).
    unmasked, deals = _unmask(tools, survivors, endorsements, listed, next_offers)
    ring, excess = _lifted(tools, server, survivors, unmasked)
    total = from_ring(remove_excess(plan, terms, ring, len(cohort), len(survivors), excess), terms.ring_bits)
    watch.lap("unmask")
    crash_point("10.3")

    # Step 11: the step of DP-SGD on the union of the survivors' records, then the server optimiser.
    record.validation = _validation(tools, total, len(cohort), len(survivors))
    moved = apply_average(state, _step(tools, total, survivors), plan.server)
    if deals:
        store.write(run_id, record.number + 1, RoundKeys(next_offers, deals))
    watch.lap("average")
    return moved


def _masked_sum(
    tools: SecureTools,
    ask: RoundAsk,
    asked: Sequence[str],
    weights: Path,
    server: ServerRound,
    cohort: Sequence[str],
) -> tuple[dict[str, str], tuple[KeyOffer, ...]]:
    """Add what comes; every contributor's signature for this cohort, and its keys for the next round."""
    record, identity_keys = tools.record, tools.identity_keys
    endorsements: dict[str, str] = {}
    following = _Offers(tools, record.number + 1)
    for received in answers(tools.carrier, ask, asked, weights, tools.keep_going, tools.watch):
        member_id = received.sender_id
        try:
            contribution = checked(received, ask, identity_keys)
            reply = answer_of(received)
            endorsements[member_id] = server.check_endorsement(
                member_id, cohort, reply.endorsement, identity_keys, verify_value
            )
            payload = checked_payload(contribution, payload_of(received), ask.contribution_bytes)
            server.add(member_id, np.memmap(payload, dtype=tools.terms.dtype, mode="r"))
            record.contributions.append(contribution)
            crash_point("10")
        except CommonlensError as error:
            record.missing[member_id] = error.message
            continue
        # Keys that no member would accept only cost the next round two more exchanges.
        with contextlib.suppress(CommonlensError):
            following.add(member_id, reply)
    return endorsements, following.roster


class _Offers:
    """Round keys that every member would accept on one roster: one bad offer makes all of them refuse it."""

    def __init__(self, tools: SecureTools, round_number: int) -> None:
        self._terms = terms_of(
            tools.plan, tools.run_id, round_number, vector_length(tools.plan, round_number)
        )
        self._identity_keys = tools.identity_keys
        self._offers: list[KeyOffer] = []
        self._seen: set[str] = set()

    def add(self, member_id: str, reply: RoundReply) -> None:
        """Raises InvalidMessage for none or another member's, and what check_offer raises."""
        if reply.offer is None or reply.offer.member_id != member_id:
            raise InvalidMessage("sent no round keys of its own")
        self._seen |= check_offer(self._terms, reply.offer, self._identity_keys, self._seen, verify_value)
        self._offers.append(reply.offer)

    @property
    def roster(self) -> tuple[KeyOffer, ...]:
        """In the roster's order: by member id."""
        return tuple(sorted(self._offers, key=lambda offer: offer.member_id))


def _fixed_cohort(tools: SecureTools) -> tuple[RoundKeys, tuple[str, ...]]:
    """Who is masked against whom in this round, on disk before anybody is asked to contribute."""
    record = tools.record
    keys = _keys_at_hand(tools) or _fresh_keys(tools)
    record.cohort = keys.cohort or tuple(sorted(set(keys.deals) & set(record.cohort)))
    require_quorum(tools.plan, record, len(record.cohort), "shared their round keys")
    keys = replace(keys, cohort=record.cohort)
    tools.store.write(tools.run_id, record.number, keys)
    return keys, record.cohort


def _keys_at_hand(tools: SecureTools) -> RoundKeys | None:
    """Keys from the round before or from an earlier try, unless someone is here who is not among them."""
    keys = tools.store.read(tools.run_id, tools.record.number)
    if keys is None or keys.cohort is not None:
        return keys
    present = set(tools.record.cohort)
    everybody = present <= set(keys.deals) and len(present) >= tools.plan.quorum
    return keys if everybody else None


def _fresh_keys(tools: SecureTools) -> RoundKeys:
    """Two small exchanges: keys signed by each member, then their shares for the others."""
    offers = _Offers(tools, tools.record.number)
    for member_id, reply in _step_answers(tools, Step.OFFER, tools.record.cohort):
        try:
            offers.add(member_id, reply)
        except CommonlensError as error:
            tools.record.missing[member_id] = error.message
    roster = offers.roster
    require_quorum(tools.plan, tools.record, len(roster), "sent round keys")
    crash_point("0.1")
    deals, dealt_for = dict[str, Deal](), Roster.of(roster)
    for member_id, reply in _step_answers(tools, Step.DEAL, [o.member_id for o in roster], roster=roster):
        try:
            deals[member_id] = _checked_deal(tools, dealt_for, member_id, reply)
        except CommonlensError as error:
            tools.record.missing[member_id] = error.message
    crash_point("0.2")
    return RoundKeys(roster, deals)


def _checked_deal(tools: SecureTools, roster: Roster, member_id: str, reply: RoundReply) -> Deal:
    """The reply's shares, if those who need them can be sent them. Raises InvalidMessage."""
    if reply.deal is None or reply.deal.member_id != member_id:
        raise InvalidMessage("sent no shares of its own")
    check_deal(tools.terms, roster, reply.deal)
    return reply.deal


def _masked_asks(keys: RoundKeys, cohort: tuple[str, ...]) -> dict[str, MaskedAsk]:
    digest = roster_digest(keys.roster)
    return {
        member_id: MaskedAsk(
            digest,
            cohort,
            {
                sender: keys.deals[sender].ciphertexts[member_id]
                for sender in cohort
                if member_id in keys.deals[sender].ciphertexts
            },
        )
        for member_id in cohort
    }


def _fixed_survivors(tools: SecureTools, keys: RoundKeys) -> tuple[str, ...]:
    """The list of survivors: the one that an earlier try sent out, else who contributed now."""
    survivors = tuple(sorted(tools.record.contributors))
    if keys.survivors is not None and survivors != keys.survivors:
        raise QuorumMissed(
            f"Round {tools.record.number}: its list of {len(keys.survivors)} survivors was fixed in an earlier "
            f"try, and {len(survivors)} of them sent their contribution again. Nothing was unmasked. Start "
            "the round again when all of them are back."
        )
    tools.store.write(tools.run_id, tools.record.number, replace(keys, survivors=survivors))
    return survivors


def _list_endorsements(tools: SecureTools, server: ServerRound, survivors: tuple[str, ...]) -> dict[str, str]:
    """A quorum's signatures under a list that is not the whole cohort (clause 5.4)."""
    signed: dict[str, str] = {}
    for member_id, reply in _step_answers(tools, Step.ENDORSE, survivors, survivors=survivors):
        try:
            signed[member_id] = server.check_endorsement(
                member_id, survivors, reply.endorsement, tools.identity_keys, verify_value
            )
        except CommonlensError as error:
            tools.record.missing[member_id] = error.message
    require_quorum(tools.plan, tools.record, len(signed), "signed the list of survivors")
    return signed


def _unmask(
    tools: SecureTools,
    survivors: tuple[str, ...],
    endorsements: Mapping[str, str],
    listed: Mapping[str, str],
    next_roster: tuple[KeyOffer, ...],
) -> tuple[list[UnmaskShares], dict[str, Deal]]:
    """The survivors' shares, and their shares of the next round's secrets."""
    roster = next_roster if len(next_roster) >= tools.plan.quorum else ()
    shares: list[UnmaskShares] = []
    deals, dealt_for = dict[str, Deal](), Roster.of(roster)
    for member_id, reply in _step_answers(
        tools,
        Step.UNMASK,
        survivors,
        roster=roster,
        survivors=survivors,
        endorsements={member: endorsements[member] for member in survivors},
        list_endorsements=dict(listed) or None,
    ):
        if reply.shares is not None and reply.shares.member_id == member_id:
            shares.append(reply.shares)
        # As with keys: without these the next round takes two more exchanges.
        with contextlib.suppress(CommonlensError):
            deals[member_id] = _checked_deal(tools, dealt_for, member_id, reply)
    require_quorum(tools.plan, tools.record, len(shares), "answered the unmasking")
    return shares, deals


def _step_answers(
    tools: SecureTools, step: Step, members: Sequence[str], **content: object
) -> list[tuple[str, RoundReply]]:
    """Everybody's answer to a small step; who refused or stayed silent is noted as missing, with the reason."""
    request = StepRequest(
        protocol=PROTOCOL_VERSION,
        step=step,
        run_id=tools.run_id,
        round_number=tools.record.number,
        plan_digest=str(tools.plan.digest),
        **content,  # type: ignore[arg-type]
    )
    ask = StepAsk(tools.record.number, tools.plan.deadline_s, dict.fromkeys(members, request))
    replies: list[tuple[str, RoundReply]] = []
    for received in answers(tools.carrier, ask, members, None, tools.keep_going, tools.watch):
        try:
            replies.append((received.sender_id, answer_of(received)))
        except CommonlensError as error:
            tools.record.missing[received.sender_id] = error.message
    return replies


def _lifted(
    tools: SecureTools, server: ServerRound, survivors: Sequence[str], unmasked: Sequence[UnmaskShares]
) -> tuple[npt.NDArray[np.unsignedinteger], dict[str, bytes]]:
    """`server.finish`; who answered with wrong shares is named, though the sum is right all the same (5.5)."""
    try:
        return server.finish(survivors, unmasked)
    finally:
        notes = []
        if server.liars:
            notes.append(f"Wrong shares came from {', '.join(server.liars)}: ask its operator.")
        if server.doubtful:
            notes.append(
                f"Shares from {', '.join(server.doubtful)} did not fit: wrong ones were sent, or dealt to it, or "
                "others agreed on theirs. Ask all operators."
            )
        tools.record.note = " ".join(notes) or tools.record.note


def _validation(
    tools: SecureTools, total: npt.NDArray[np.int64], cohort_size: int, survivors: int
) -> Validation | None:
    """Summed held-out counts with the std of the noise that stayed in them (clause 6.2)."""
    plan, terms = tools.plan, tools.terms
    if not plan.evaluates(tools.record.number):
        return None
    correct, wrong = (float(count) / COUNT_SCALE for count in total[plan.trainable_coordinates :])
    covered = tolerance(cohort_size, terms.quorum, terms.tolerance_steps)
    return Validation(correct, wrong, retained_counts_std(plan, cohort_size, covered, survivors))


def _step(tools: SecureTools, total: npt.NDArray[np.int64], survivors: Sequence[str]) -> AggregateSum:
    """-η · (Σ clipped gradients + noise) / Σ expected batch sizes, float64 [d] (clauses 2.4, 7.6).

    η is the plan's learning rate for the extractor's coordinates, its head_learning_rate for a shared head's.
    """
    plan = tools.plan
    if plan.secure is None:
        raise InvalidMessage("A plan of mode local has no grid. Nothing was averaged.")
    expected = sum(plan.expected_batch_size(member) for member in survivors)
    step = total[: plan.trainable_coordinates] * (-plan.secure.grid_width / expected)
    pace, head = plan.learning_rate_factor(tools.record.number), plan.extractor_coordinates
    step[:head] *= pace * plan.training.learning_rate
    step[head:] *= pace * plan.training.head_learning_rate
    return AggregateSum(step.data, 1.0, tuple(survivors))
