"""A member's side of one secure round, as a machine without input or output (clauses 5.1 to 5.5).

    OFFERED ──deal──▶ DEALT ──accept──▶ ACCEPTED ──contributed──▶ CONTRIBUTED ──unmask──▶ ANSWERED

Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", figure 4, for an
actively dishonest coordinator, with the signatures of clause 5.4 and the noise seeds of clause 3.9.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from shared.domain.errors import AlreadyReleased, IllegalMove, InvalidMessage, UnmaskRefused, UnsafeCohort
from shared.domain.strict import build
from shared.secagg import keys, masks
from shared.secagg.channels import Channels
from shared.secagg.dealing import deal_shares, held_bundles, sent_shares, shares_for
from shared.secagg.endorsements import Vouched, check_endorsements
from shared.secagg.graph import neighbours_of
from shared.secagg.member_state import RoundState, Stage, StoredSecrets
from shared.secagg.messages import (
    KIND_ROUND_KEY,
    KIND_SURVIVORS,
    Deal,
    KeyOffer,
    UnmaskShares,
    cohort_statement,
    needs_endorsed_list,
    offer_digest,
    survivors_statement,
    with_next_offer,
)
from shared.secagg.parameters import Ring, RoundTerms, needed_steps
from shared.secagg.roster import (
    Roster,
    Sign,
    Verify,
    check_list,
    check_ring,
    check_roster,
    pair_info,
    self_info,
)


class MemberRound:
    """One member in one secure round. Each step happens once: the same request gets the same bytes, another none.

    The caller's two duties. (1) `to_plain()` is on disk before anything that a step returned leaves the
    machine, and one vector only ever leaves under these masks: a retry sends the bytes kept in the outbox
    (clause 3.8). (2) After `accept`, no second MemberRound is opened for this run and round
    (`require_replaceable`): that a member stands behind one cohort and one list, and answers once, is what
    keeps a second sum out of reach.

    Forward secrecy: all secrets are of this round only, and `unmask` drops them, so whoever takes the machine
    afterwards cannot remove this member's masks. (Python cannot promise that memory is overwritten.)
    """

    def __init__(self, state: RoundState, sign: Sign) -> None:
        self._state = state
        self._sign = sign
        self._masked = False
        self._vouched: frozenset[Vouched] = frozenset()
        self._kept_roster: Roster | None = None
        self._kept_channels: Channels | None = None

    @classmethod
    def open(cls, terms: RoundTerms, member_id: str, sign: Sign) -> MemberRound:
        """Draw this round's secrets and sign the keys that belong to them."""
        drawn = keys.RoundSecrets.draw()
        offer = KeyOffer(
            member_id=member_id,
            mask_public_key=keys.public_of(drawn.mask_private),
            channel_public_key=keys.public_of(drawn.channel_private),
            seed_commitment=keys.commit_to_seeds(drawn.noise_seed, terms.tolerance_steps),
            signature="",
        )
        offer = dataclasses.replace(offer, signature=sign(KIND_ROUND_KEY, offer.statement(terms)))
        return cls(RoundState(terms, member_id, Stage.OFFERED, offer, StoredSecrets.of(drawn)), sign)

    @classmethod
    def from_plain(cls, value: Any, sign: Sign) -> MemberRound:
        """Inverse of `to_plain`. Raises InvalidConfig for anything else."""
        return cls(build(RoundState, value, "secure round"), sign)

    def to_plain(self) -> dict[str, Any]:
        """Everything a restart needs, as JSON values. Secret until the round is answered."""
        return self._state.to_plain()

    @property
    def terms(self) -> RoundTerms:
        """The round's numbers."""
        return self._state.terms

    @property
    def state(self) -> RoundState:
        """All that `to_plain` writes; never changed in place."""
        return self._state

    @property
    def masked(self) -> bool:
        """Whether this object has masked a vector."""
        return self._masked

    @property
    def stage(self) -> Stage:
        """How far this member is."""
        return self._state.stage

    @property
    def offer(self) -> KeyOffer:
        """This member's signed one-round keys, for every roster."""
        return self._state.offer

    @property
    def offer_digest(self) -> str:
        """What names this offer in the endorsement of the round before it, 64 hex digits."""
        return offer_digest(self.offer.statement(self.terms), self.offer.signature)

    @property
    def vouched(self) -> frozenset[Vouched]:
        """The next round's offers that the endorsements name which this object itself checked in `unmask`."""
        return self._vouched

    @property
    def identity_keys(self) -> Mapping[str, str]:
        """Member id → identity key of everybody on the roster that was dealt for; empty before that."""
        return self._state.identity_keys

    @property
    def noise_seeds(self) -> tuple[bytes, ...]:
        """Seeds of the noise steps, tolerance_steps of 32 bytes each (clause 3.9). Gone once answered."""
        return keys.noise_chain(self._secrets().noise_seed, self.terms.tolerance_steps)

    def require_replaceable(self) -> None:
        """Raise AlreadyReleased once a cohort was accepted: from then on there are no other keys for this round."""
        if self.stage not in (Stage.OFFERED, Stage.DEALT):
            raise AlreadyReleased(
                f"Round {self.terms.round_number} has its one cohort at this member, and other keys would allow a "
                "second. No keys were made. Finish the round with its cohort, or go on to the next one."
            )

    def deal(self, roster: Sequence[KeyOffer], identity_keys: Mapping[str, str], verify: Verify) -> Deal:
        """Check the roster (clause 5.1) and give everybody on it their sealed shares (clause 5.2).

        `identity_keys`: member id → hex, of the plan's members that the roll names and the operator approved.
        Raises what `check_roster` raises, UnsafeCohort when this member's own offer is not there unchanged
        or another roster was dealt for.
        """
        state, secrets = self._state, self._secrets()
        if self.stage is not Stage.OFFERED:
            if tuple(sorted(roster, key=lambda offer: offer.member_id)) != state.roster:
                raise self._other("roster")
            return deal_shares(self.terms, self._roster(), state.member_id, secrets, self._channels())[0]
        checked = check_roster(self.terms, roster, identity_keys, verify)
        if self.offer not in checked.offers:
            raise UnsafeCohort(
                f"The roster of round {self.terms.round_number} must hold this member's own keys as it signed "
                "them; it does not. Nothing was shared with anybody. Ask the coordinator's operator why."
            )
        channels = Channels(self.terms, checked, state.member_id, secrets.channel_private)
        deal, own = deal_shares(self.terms, checked, state.member_id, secrets, channels)
        self._move(
            stage=Stage.DEALT,
            roster=checked.offers,
            identity_keys={member: identity_keys[member] for member in checked.members},
            bundles={state.member_id: own},
        )
        self._kept_roster, self._kept_channels = checked, channels
        return deal

    def accept(self, roster_digest: str, cohort: Sequence[str], ciphertexts: Mapping[str, str]) -> None:
        """Take the round's one cohort, and the shares that its members dealt to this one.

        `ciphertexts`: sender → base64, from each of the cohort whose shares are sent (`sent_shares`); those of
        the others are derived. A share that does not open ends
        the round for this member: its sender, or the coordinator, told one of us another roster. Liars can so
        keep honest members out, but only down to the quorum, and then the round ends empty; a coordinator
        could do the same by delivering nothing. Which of the two lied stays open: deals are not signed.
        Raises UnsafeCohort, QuorumMissed, InvalidMessage, SharesRejected.
        """
        state = self._state
        if state.cohort:
            if tuple(sorted(cohort)) != state.cohort or roster_digest != self._roster().digest:
                raise self._other("cohort")
            return
        self._expect(Stage.DEALT)
        roster = self._roster()
        if roster_digest != roster.digest:
            raise self._other("roster")
        members = check_list(self.terms, cohort, roster.members, "cohort")
        self._expect_me(members, "cohort")
        senders = sent_shares(self.terms, roster, state.member_id, members)
        # More than these may have come: what is derived needs none, and who sends it all the same hurts nobody.
        sent = {sender: ciphertexts[sender] for sender in sorted(senders & set(ciphertexts))}
        if len(sent) < len(senders):
            raise InvalidMessage(
                f"Shares from {len(senders)} other members were expected with the cohort, those of {len(sent)} "
                "came. Nothing was contributed. Ask the coordinator's operator why."
            )
        bundles = held_bundles(self.terms, roster, state.member_id, members, sent, self._channels())
        self._move(stage=Stage.ACCEPTED, cohort=members, bundles={**state.bundles, **bundles})

    def mask(self, ring: Ring) -> Ring:
        """Add this member's masks to `ring` [length], in place, and return it (clause 5.3).

        uint32 or uint16 as ring_bits says. Once for each object: two vectors under the same masks give
        their difference away. After a crash before the masked bytes were in the outbox, an object read from
        the stored state may mask anew, because nothing left. Raises IllegalMove before a cohort is
        accepted, AlreadyReleased the second time, InvalidMessage for another length or type.
        """
        if self._masked or self.stage in (Stage.CONTRIBUTED, Stage.ANSWERED):
            raise AlreadyReleased(
                f"Round {self.terms.round_number} was already masked once. Nothing was masked: other values "
                "under the same masks would give both away. Send the bytes that are in the outbox."
            )
        self._expect(Stage.ACCEPTED)
        check_ring(self.terms, ring)
        secrets, roster, me = self._secrets(), self._roster(), self._state.member_id
        self._masked = True
        private = keys.load_private(secrets.mask_private)
        self_seed = keys.shared_seeds(secrets.noise_seed, self.terms.tolerance_steps)[-1]
        added = [masks.self_key(self_seed, self_info(self.terms, roster.digest, me))]
        subtracted: list[bytes] = []
        for peer in neighbours_of(self.terms, self._state.cohort, me):
            public = bytes.fromhex(roster.offer(peer).mask_public_key)
            key = masks.pair_key(private, public, pair_info(self.terms, roster.digest, me, peer))
            # The two members of a pair use the mask with opposite signs, so that it vanishes in their sum.
            (added if me < peer else subtracted).append(key)
        masks.apply_masks(ring, added, subtracted)
        return ring

    def contributed(self, weights_digest: str, next_offer: str = "") -> str:
        """Call when the masked bytes are in the outbox: the endorsement that goes with them (clause 5.4).

        It says for which roster and cohort they were masked, and what was trained from; without it no honest member
        unmasks them. It also covers `next_offer`, the `offer_digest` of this member's keys for the next round if
        there are any: those of the first call, whatever a later one names. Raises InvalidMessage for no digest.
        """
        self._expect(Stage.ACCEPTED, Stage.CONTRIBUTED, Stage.ANSWERED)
        if self.stage is Stage.ACCEPTED:
            statement = cohort_statement(
                self.terms, self._roster().digest, self._state.cohort, weights_digest
            )
            signature = self._sign(KIND_SURVIVORS, with_next_offer(statement, next_offer))
            endorsement = signature + next_offer
            self._move(stage=Stage.CONTRIBUTED, weights_digest=weights_digest, endorsement=endorsement)
        return self._state.endorsement

    def endorse(self, survivors: Sequence[str]) -> str:
        """Sign the one list of survivors that this member will then unmask, or nothing (clause 5.4).

        The whole cohort needs no second signature: what `contributed` gave is returned. Raises
        UnmaskRefused for a second list, QuorumMissed, UnsafeCohort for one without this member.
        """
        self._expect(Stage.CONTRIBUTED, Stage.ANSWERED)
        state, chosen = self._state, self._survivors(survivors)
        if not needs_endorsed_list(state.cohort, chosen):
            return state.endorsement
        if state.stage is Stage.CONTRIBUTED and not state.endorsed_list:
            statement = survivors_statement(
                self.terms, self._roster().digest, state.cohort, chosen, state.weights_digest
            )
            self._move(endorsed_list=chosen, list_signature=self._sign(KIND_SURVIVORS, statement))
        elif chosen != state.endorsed_list:
            raise self._second("list")
        return self._state.list_signature

    def unmask(
        self,
        survivors: Sequence[str],
        endorsements: Mapping[str, str],
        list_endorsements: Mapping[str, str],
        verify: Verify,
    ) -> UnmaskShares:
        """Give the shares that unmask the sum over `survivors`, once; then drop every secret (clauses 5.4, 3.9).

        `endorsements`: of every survivor, over this member's own roster and cohort. `list_endorsements`: of at
        least `quorum` survivors, over this list, where `needs_endorsed_list`. Raises UnmaskRefused,
        QuorumMissed, UnsafeCohort, InvalidMessage, and what `verify` raises (BadSignature).
        """
        self._expect(Stage.CONTRIBUTED, Stage.ANSWERED)
        state = self._state
        chosen = self._survivors(survivors)
        if state.answer is not None:
            if chosen != state.answered_list:
                raise self._second("unmask request")
            return state.answer
        # A member that stands behind one list must not help another: so no honest member counts for two.
        if state.endorsed_list and chosen != state.endorsed_list:
            raise self._second("list")
        self._vouched = check_endorsements(
            self.terms,
            self._roster(),
            state.cohort,
            chosen,
            endorsements,
            list_endorsements,
            state.identity_keys,
            verify,
            state.weights_digest,
        )
        answer = shares_for(self.terms, state.member_id, state.cohort, chosen, state.bundles)
        self._move(
            stage=Stage.ANSWERED,
            answered_list=chosen,
            answer=answer,
            secrets=None,
            bundles={},
            roster=(),
            identity_keys={},
        )
        self._kept_roster = self._kept_channels = None
        return answer

    def _survivors(self, survivors: Sequence[str]) -> tuple[str, ...]:
        chosen = check_list(self.terms, survivors, self._state.cohort, "list of survivors")
        self._expect_me(chosen, "list of survivors")
        # Raises QuorumMissed when the noise of these survivors would not be whole (clause 3.9).
        needed_steps(len(self._state.cohort), self.terms.quorum, self.terms.tolerance_steps, len(chosen))
        return chosen

    def _roster(self) -> Roster:
        if self._kept_roster is None:
            if not self._state.roster:
                raise self._unready(self.stage)
            self._kept_roster = Roster.of(self._state.roster)
        return self._kept_roster

    def _channels(self) -> Channels:
        if self._kept_channels is None:
            private = self._secrets().channel_private
            self._kept_channels = Channels(self.terms, self._roster(), self._state.member_id, private)
        return self._kept_channels

    def _secrets(self) -> keys.RoundSecrets:
        if self._state.secrets is None:
            raise AlreadyReleased(
                f"Round {self.terms.round_number} was already answered here and its secrets are gone. "
                "Nothing was done. Take part in the next round."
            )
        return self._state.secrets.read()

    def _expect_me(self, members: Sequence[str], what: str) -> None:
        if self._state.member_id not in members:
            raise UnsafeCohort(
                f"The {what} of round {self.terms.round_number} does not name this member, so its answer is "
                "not needed. Nothing was answered. Take part in the next round."
            )

    def _expect(self, *stages: Stage) -> None:
        if self._state.stage not in stages:
            raise self._unready(self._state.stage)

    def _unready(self, stage: Stage) -> IllegalMove:
        return IllegalMove(
            f"Round {self.terms.round_number} is '{stage.value}' at this member, and this step does not follow "
            "from there. Nothing was done. The coordinator must keep the order of the round, or begin another."
        )

    def _other(self, what: str) -> UnsafeCohort:
        return UnsafeCohort(
            f"Round {self.terms.round_number} has one {what} for this member, and this is another. "
            "Nothing was answered. Ask the coordinator's operator why it told two."
        )

    def _second(self, what: str) -> UnmaskRefused:
        return UnmaskRefused(
            f"Round {self.terms.round_number} allows this member one {what}, and it answered another one before. "
            "Nothing was unmasked: two different sums would give members away. The round ends empty."
        )

    def _move(self, **changes: Any) -> None:
        self._state = dataclasses.replace(self._state, **changes)
