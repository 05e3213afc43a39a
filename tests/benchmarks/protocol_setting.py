"""What the protocol benchmark measures on: a plan of n members and d coordinates, and one member among n − 1 peers.

The peers are real where the measured member can tell: their keys, signatures, sealed shares and Shamir shares are
made by the shipped code. They do not train or mask: what the coordinator adds in their place is any ring.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from coordinator.runs.draft import PlanDraft, PrivacyDraft
from coordinator.runs.secure_planning import provisional_terms, with_grid
from shared.domain.extractor import ExtractorSpec
from shared.domain.ids import new_id
from shared.domain.plan import (
    Plan,
    PlanMember,
    SecureTerms,
    ServerOptimizer,
    TrainingTerms,
    default_colluders,
    least_quorum,
)
from shared.domain.privacy import Mode, PrivacyTerms, Unit
from shared.privacy.distributed import grid_variance, share_variances
from shared.release.signing import SigningKey
from shared.secagg import keys
from shared.secagg.channels import Channels
from shared.secagg.dealing import computed_bundles, derived_bundle, sent_shares, shares_for
from shared.secagg.member import MemberRound
from shared.secagg.messages import (
    KIND_SURVIVORS,
    KeyOffer,
    UnmaskShares,
    bundle_bytes,
    cohort_statement,
    encode,
    roster_digest,
    survivors_statement,
    with_next_offer,
)
from shared.secagg.parameters import RoundTerms, terms_of, tolerance
from shared.secagg.roster import Roster
from tests.secagg_kit import WEIGHTS

RUN, ROUND = "run_0123456789ab", 1
DECLARED_SIZE, SAMPLING_RATE, NOISE_MULTIPLIER = 2000, 0.1, 1.89
"""Ten such members at ε = 3 over 138 rounds: the example of clause 3.6."""


def plan_of(members: int, coordinates: int, ring_bits: int = 32) -> Plan:
    """The plan that `plan propose` would make; of 3 members too, which it would put into mode local."""
    spec = ExtractorSpec("benchmark", 1, 1, 1, 1)
    training = TrainingTerms(1, 0.1, 0.1)
    wanted = PrivacyDraft(3.0, 1.0, SAMPLING_RATE, noise_multiplier=NOISE_MULTIPLIER)
    draft = PlanDraft("benchmark", spec, training, wanted, 138, ring_bits=ring_bits)
    plan = Plan(
        consortium="Benchmark",
        extractor_name=draft.extractor_name,
        extractor=spec,
        starting_weights="sha256:" + 64 * "0",
        trainable_coordinates=coordinates,
        training=training,
        privacy=PrivacyTerms(Mode.SECURE, Unit.RECORD, 3.0, 1e-5, 1.0, NOISE_MULTIPLIER, SAMPLING_RATE, 20.0),
        server=ServerOptimizer("fedavg"),
        rounds=draft.rounds,
        evaluate_every=0,
        quorum=least_quorum(members),
        colluders=default_colluders(members),
        deadline_s=60.0,
        members=tuple(
            PlanMember(member_id, DECLARED_SIZE)
            for member_id in sorted(new_id("mem") for _ in range(members))
        ),
        secure=SecureTerms(1.0, ring_bits, 0, 0, 1),
    )
    return with_grid(replace(plan, secure=provisional_terms(plan, draft)))


def component_stds(plan: Plan, cohort_size: int) -> list[float]:
    """Std of each noise component of one member in grid steps: base, step 1, 2 …"""
    covered = tolerance(cohort_size, plan.quorum, plan.secure.tolerance_steps) if plan.secure else ()
    shares = share_variances(grid_variance(plan), cohort_size, plan.quorum, plan.colluders, covered)
    return [math.sqrt(share) for share in shares]


@dataclass
class World:
    """A roster of real key offers; the secrets of everybody but the first member, and shares of them."""

    plan: Plan
    terms: RoundTerms
    identities: Mapping[str, SigningKey]
    members: tuple[str, ...]
    rounds: dict[str, MemberRound] = field(repr=False)
    bundles: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    """Holder → owner → bundle of shares (base64)."""

    @classmethod
    def of(cls, plan: Plan, number: int = ROUND, identities: Mapping[str, SigningKey] | None = None) -> World:
        """Everybody's keys for one round."""
        terms = terms_of(plan, RUN, number, plan.trainable_coordinates)
        members = tuple(sorted(member.member_id for member in plan.members))
        identities = identities or {name: SigningKey.generate() for name in members}
        rounds = {name: MemberRound.open(terms, name, identities[name].sign_value) for name in members}
        return cls(plan, terms, identities, members, rounds)

    @property
    def me(self) -> str:
        """The measured member."""
        return self.members[0]

    @property
    def identity_keys(self) -> dict[str, str]:
        """As the roll has them."""
        return {name: key.public_hex for name, key in self.identities.items()}

    @property
    def offers(self) -> list[KeyOffer]:
        """The roster."""
        return [self.rounds[name].offer for name in self.members]

    def share_out(self) -> None:
        """Everybody's shares of everybody's secrets, made as the members make them."""
        roster = Roster.of(self.offers)
        self.bundles = {holder: {} for holder in self.members}
        for owner in self.members:
            drawn, channels = self._secrets(owner), self._channels(roster, owner)
            computed = computed_bundles(self.terms, roster, owner, drawn, channels)
            for holder in self.members:
                bundle = computed.get(holder) or derived_bundle(owner, holder, channels)
                self.bundles[holder][owner] = encode(bundle)

    def sealed_for(self, holder: str, offers: Sequence[KeyOffer]) -> dict[str, str]:
        """What peers seal to one member on this roster: what is in it, a member cannot check."""
        roster, anything = Roster.of(offers), bytes(bundle_bytes(self.terms))
        owners = sent_shares(self.terms, roster, holder, self.members)
        return {owner: encode(self._channels(roster, owner).seal(holder, anything)) for owner in owners}

    def endorsements(
        self,
        survivors: Sequence[str] | None = None,
        offers: Sequence[KeyOffer] | None = None,
        following: World | None = None,
        weights: str = WEIGHTS,
    ) -> dict[str, str]:
        """Everybody's endorsement of the whole cohort of a roster, or the survivors' signatures under their list.

        The former name what their members offer for the `following` round, if given, and `weights`.
        """
        digest = roster_digest(offers or self.offers)
        if survivors is not None:
            listed = survivors_statement(self.terms, digest, self.members, survivors, weights)
            return {name: self.identities[name].sign_value(KIND_SURVIVORS, listed) for name in survivors}
        statement, told = cohort_statement(self.terms, digest, self.members, weights), {}
        for name in self.members:
            named = following.rounds[name].offer_digest if following else ""
            signed = with_next_offer(statement, named)
            told[name] = self.identities[name].sign_value(KIND_SURVIVORS, signed) + named
        return told

    def answers(self, survivors: Sequence[str]) -> list[UnmaskShares]:
        """What each survivor gives to unmask their sum."""
        return [
            shares_for(self.terms, holder, self.members, survivors, self.bundles[holder])
            for holder in survivors
        ]

    def next_round(self) -> World:
        """The same members with new keys, for the round after this one."""
        return World.of(self.plan, self.terms.round_number + 1, self.identities)

    def _channels(self, roster: Roster, name: str) -> Channels:
        return Channels(self.terms, roster, name, self._secrets(name).channel_private)

    def _secrets(self, owner: str) -> keys.RoundSecrets:
        stored = self.rounds[owner].state.secrets
        if stored is None:
            raise ValueError("this round was answered, and its secrets are gone")
        return stored.read()
