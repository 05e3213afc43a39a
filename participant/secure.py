"""A member's side of mode secure: one-round keys, shares, masks, and the one unmasking of a round (clause 5).

The protocol itself is shared/secagg/member.py, without I/O. Here its state meets the member's folder: every step
is on disk before its answer leaves, so that a node that was killed answers as it did before, or not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import timedelta

import numpy as np

from participant.consents import agreed_plan, require_consent_for_run
from participant.home import Home
from participant.known_identities import KnownIdentities
from participant.round_states import RoundStates
from participant.training.workbench import NoiseShare
from shared.domain.clock import Clock, SystemClock
from shared.domain.crash_points import crash_point
from shared.domain.errors import (
    AlreadyReleased,
    CommonlensError,
    Expired,
    InvalidMessage,
    NotFound,
    UnapprovedMember,
    UnsafeCohort,
)
from shared.domain.plan import Plan
from shared.domain.update import ContributionHeader, NoisyGridSum
from shared.privacy.ledger import LedgerView
from shared.privacy.noise_shares import vector_length
from shared.release.signing import SigningKey, verify_value
from shared.secagg.endorsements import Vouched, accepting_vouched
from shared.secagg.member import MemberRound
from shared.secagg.messages import Deal, KeyOffer
from shared.secagg.parameters import terms_of, tolerance
from shared.wire.rounds import MaskedAsk, RoundReply, Step, StepRequest

KEPT_ROUNDS = 2
"""Of one run. An answered round holds no secret any more; one that was never asked to unmask still does."""
KEPT_HOURS = 24
"""Whatever was not touched for so long is deleted, of any run: a coordinator that leaves a round open must not
keep its secrets alive, so whoever takes this machine later opens no mask of it."""


class SecureRounds:
    """The secure rounds of one member, in its home folder. The caller holds the node's lock."""

    def __init__(
        self,
        home: Home,
        member_id: str,
        identity: SigningKey,
        ledger: LedgerView,
        report: Callable[[str], None],
        look_at_roll: Callable[[], None],
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._home = home
        self._member_id = member_id
        self._identity = identity
        self._ledger = ledger
        self._report = report
        self._look_at_roll = look_at_roll
        self._states = RoundStates(home.round_keys, identity.sign_value)
        self._identities = KnownIdentities(home)
        self._plans: dict[str, Plan] = {}
        self._looked_for: set[str] = set()
        """Runs for which the roll was fetched, so that a revocation counts from the next run at the latest."""

    def answer(self, request: StepRequest) -> RoundReply:
        """One small step. Raises ConsentMissing for a plan or run that this member did not agree to."""
        require_consent_for_run(self._home, self._ledger, request.plan_digest, request.run_id)
        plan = self._plan(request.plan_digest)
        if request.step is Step.OFFER:
            self.tidy()
            offer = self._fresh(plan, request.run_id, request.round_number).offer
            crash_point("0.1")
            return RoundReply(offer=offer)
        if request.step is Step.DEAL:
            return RoundReply(deal=self._deal(plan, request, request.round_number))
        if request.step is Step.ENDORSE:
            with self._step(plan, request.run_id, request.round_number) as current:
                return RoundReply(endorsement=current.endorse(request.survivors))
        crash_point("10.2")
        with self._step(plan, request.run_id, request.round_number) as current:
            shares = current.unmask(
                request.survivors, request.endorsements or {}, request.list_endorsements or {}, verify_value
            )
        crash_point("10.3")
        return RoundReply(shares=shares, deal=self._next_deal(plan, request, current.vouched))

    def accept(self, plan: Plan, run_id: str, round_number: int, ask: MaskedAsk) -> NoiseShare:
        """Check whom the round is masked against, before anything is charged; what the noise is made from."""
        if self._of_plan(plan, run_id, round_number).masked:
            # An earlier try ended before its bytes were sealed: nothing left, so it masks anew.
            self._states.forget(run_id, round_number)
        with self._step(plan, run_id, round_number) as current:
            self._require_still_approved(plan, run_id, ask.cohort, current)
            current.accept(ask.roster_digest, ask.cohort, ask.ciphertexts)
        terms = current.terms
        covered = tolerance(len(ask.cohort), terms.quorum, terms.tolerance_steps)
        return NoiseShare(len(ask.cohort), covered, current.noise_seeds)

    def mask(self, plan: Plan, noisy: NoisyGridSum) -> memoryview:
        """The bytes that leave: the elements of `noisy`, little-endian, with all masks added in place (3.4, 5.3).

        What keeps this from happening twice with two draws is the ledger's seal over these bytes: after it no
        second draw is made, and before it nothing leaves.
        """
        current = self._of_plan(plan, noisy.run_id, noisy.round_number)
        masked = current.mask(np.asarray(noisy.ring))
        return memoryview(np.ascontiguousarray(masked, dtype=masked.dtype.newbyteorder("<"))).cast("B")

    def sealed(self, header: ContributionHeader) -> tuple[str, KeyOffer | None]:
        """What goes beside a contribution that is in the outbox: its endorsement, and the next round's keys."""
        plan, run_id, round_number = self._plan(header.plan_digest), header.run_id, header.round_number
        with self._step(plan, run_id, round_number) as current:
            # First the next keys: the endorsement covers them.
            following = self._following(plan, run_id, round_number + 1)
            next_offer = following.offer_digest if following else ""
            endorsement = current.contributed(header.weights_digest, next_offer)
        self._states.delete_before(run_id, round_number - KEPT_ROUNDS + 1)
        return endorsement, following.offer if following else None

    def tidy(self) -> None:
        """Delete what was not touched for KEPT_HOURS. Its rounds stay closed: ledger and outbox know of them."""
        self._states.delete_untouched_since(self._clock.now() - timedelta(hours=KEPT_HOURS))

    @contextlib.contextmanager
    def _step(self, plan: Plan, run_id: str, round_number: int) -> Iterator[MemberRound]:
        """One step of a round under the very plan that its keys were made for; on disk when the block ends."""
        with self._states.step(run_id, round_number) as current:
            self._require_its_plan(current, plan)
            yield current

    def _of_plan(self, plan: Plan, run_id: str, round_number: int) -> MemberRound:
        """The round, to be looked at. Raises UnsafeCohort under another plan than its keys were made for."""
        current = self._states.read(run_id, round_number)
        self._require_its_plan(current, plan)
        return current

    def _require_its_plan(self, current: MemberRound, plan: Plan) -> None:
        """Two plans count drop-outs and colluders differently, so a round begun under one and finished under the
        other would let a list through that neither allows. Raises UnsafeCohort."""
        run_id, round_number = current.terms.run_id, current.terms.round_number
        if current.terms != terms_of(plan, run_id, round_number, vector_length(plan, round_number)):
            raise UnsafeCohort(
                f"Round {round_number} was begun under plan {current.terms.plan_digest}, and is asked under "
                f"{plan.digest}. Nothing was done: a round has one plan. Ask the coordinator's operator why."
            )

    def _require_still_approved(
        self, plan: Plan, run_id: str, cohort: Iterable[str], current: MemberRound
    ) -> None:
        """What was dealt for was approved then; an approval taken back since, or a revocation, counts now."""
        today = self._identities_for(plan, run_id, cohort)
        gone = [m for m in cohort if m in current.identity_keys and today.get(m) != current.identity_keys[m]]
        if gone:
            raise UnapprovedMember(
                f"Round {current.terms.round_number} is to be summed with {', '.join(gone)}, whom this member's "
                "operator does not approve any more, or whose key is not on the roll. Nothing was contributed. "
                "The round goes on without them, or without this member."
            )

    def _deal(
        self, plan: Plan, request: StepRequest, round_number: int, vouched: Collection[Vouched] = ()
    ) -> Deal:
        with self._step(plan, request.run_id, round_number) as current:
            named = [offer.member_id for offer in request.roster]
            identities = self._identities_for(plan, request.run_id, named)
            deal = current.deal(request.roster, identities, accepting_vouched(vouched, verify_value))
        crash_point("0.2")
        return deal

    def _next_deal(self, plan: Plan, request: StepRequest, vouched: Collection[Vouched]) -> Deal | None:
        """Shares of the next round's secrets; without them the coordinator asks again, so nothing is lost."""
        if not request.roster:
            return None
        try:
            return self._deal(plan, request, request.round_number + 1, vouched)
        except CommonlensError as error:
            self._report(f"no shares for round {request.round_number + 1} yet: {error.message}")
            return None

    def _identities_for(self, plan: Plan, run_id: str, members: Iterable[str]) -> Mapping[str, str]:
        """Whom this member sums with, by the newest roll where the one at hand does not know everybody."""
        if run_id not in self._looked_for:
            self._looked_for.add(run_id)
            self._look_at_roll()
        try:
            identities = self._identities.of(plan)
        except (Expired, NotFound):
            identities = {}
        if any(member not in identities for member in members):
            self._look_at_roll()
            identities = self._identities.of(plan)
        return identities

    def _following(self, plan: Plan, run_id: str, round_number: int) -> MemberRound | None:
        """The round with its keys, made where there are none yet; None after the plan's last one."""
        if round_number > plan.rounds:
            return None
        try:
            return self._of_plan(plan, run_id, round_number)
        except NotFound:
            return self._fresh(plan, run_id, round_number)

    def _fresh(self, plan: Plan, run_id: str, round_number: int) -> MemberRound:
        """New keys for a round, in place of older ones: unless this member contributed under those."""
        if not 1 <= round_number <= plan.rounds:
            raise InvalidMessage(
                f"The plan has rounds 1 to {plan.rounds}, keys were asked for round {round_number}. None were made. "
                "Tell the consortium's admin."
            )
        newest = self._states.newest(run_id)
        if newest is not None and round_number <= newest - KEPT_ROUNDS:
            raise AlreadyReleased(
                f"Round {round_number} is over: this member has keys for round {newest}. Nothing was done. "
                "The coordinator has to go on from there."
            )
        with contextlib.suppress(NotFound):
            self._of_plan(plan, run_id, round_number).require_replaceable()
        terms = terms_of(plan, run_id, round_number, vector_length(plan, round_number))
        fresh = MemberRound.open(terms, self._member_id, self._identity.sign_value)
        self._states.put(fresh)
        return fresh

    def _plan(self, digest: str) -> Plan:
        if digest not in self._plans:
            self._plans[digest] = agreed_plan(self._home, digest).plan
        plan = self._plans[digest]
        if plan.secure is None:
            raise InvalidMessage("A plan of mode local has no round keys. Nothing was done. Tell the admin.")
        return plan
