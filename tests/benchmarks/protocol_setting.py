"""What the protocol benchmark measures on: a plan of n members and d coordinates, and one member among n − 1 peers.

The peers are real where the measured member can tell: their keys, signatures, sealed shares and Shamir shares are
made by the shipped code. They do not train or mask: what the coordinator adds in their place is any ring.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
from shared.secagg import keys, shamir
from shared.secagg.member import MemberRound
from shared.secagg.member_state import StoredSecrets
from shared.secagg.messages import (
    KIND_SURVIVORS,
    KeyOffer,
    UnmaskShares,
    cohort_statement,
    encode,
    roster_digest,
    survivors_statement,
)
from shared.secagg.parameters import RoundTerms, needed_steps, terms_of, tolerance

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
            PlanMember(member_id, member_id, DECLARED_SIZE)
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
    shares: dict[str, list[dict[int, bytes]]] = field(default_factory=dict, repr=False)
    """Owner → shares by place, of the self seed, the mask key and each noise seed."""

    @classmethod
    def of(cls, plan: Plan) -> World:
        """Everybody's keys for one round."""
        terms = terms_of(plan, RUN, ROUND, plan.trainable_coordinates)
        members = tuple(sorted(member.member_id for member in plan.members))
        identities = {name: SigningKey.generate() for name in members}
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

    def share_out(self, owners: Sequence[str]) -> None:
        """Split these members' secrets as `deal_shares` does, and keep every share."""
        places = range(1, len(self.members) + 1)
        for owner in owners:
            drawn = self._secrets(owner)
            seeds = keys.noise_chain(drawn.noise_seed, self.terms.tolerance_steps)
            self.shares[owner] = [
                shamir.split(secret, self.terms.share_threshold, places)
                for secret in (drawn.self_seed, drawn.mask_private, *seeds)
            ]

    def sealed_for_me(self) -> dict[str, str]:
        """What every peer dealt to the measured member."""
        digest, me = roster_digest(self.offers), self.me
        sealed = {}
        for owner in self.members[1:]:
            bundle = b"".join(shares[1] for shares in self.shares[owner])
            channel = keys.load_private(self._secrets(owner).channel_private)
            peer = self.rounds[me].offer.channel_public_key
            sealed[owner] = encode(keys.seal(self.terms, digest, owner, me, channel, peer, bundle))
        return sealed

    def endorsements(self, survivors: Sequence[str] | None = None) -> dict[str, str]:
        """Everybody's signature under the whole cohort, or the survivors' under their list."""
        digest = roster_digest(self.offers)
        statement: dict[str, Any] = cohort_statement(self.terms, digest, self.members)
        if survivors is not None:
            statement = survivors_statement(self.terms, digest, self.members, survivors)
        return {
            name: self.identities[name].sign_value(KIND_SURVIVORS, statement)
            for name in survivors or self.members
        }

    def answers(self, survivors: Sequence[str]) -> list[UnmaskShares]:
        """What each survivor gives to unmask their sum."""
        size, terms = len(self.members), self.terms
        needed = needed_steps(size, terms.quorum, terms.tolerance_steps, len(survivors))
        unneeded = needed < len(tolerance(size, terms.quorum, terms.tolerance_steps))
        given = []
        for place, holder in enumerate(self.members, start=1):
            if holder not in survivors:
                continue
            own, noise, dropped = {}, {}, {}
            for owner in self.members:
                of_self, of_key, *of_noise = (shares[place] for shares in self.shares[owner])
                if owner not in survivors:
                    dropped[owner] = encode(of_key)
                    continue
                own[owner] = encode(of_self)
                if unneeded:
                    noise[owner] = encode(of_noise[needed])
            given.append(UnmaskShares(holder, own, dropped, noise))
        return given

    def _secrets(self, owner: str) -> keys.RoundSecrets:
        return StoredSecrets(**self.rounds[owner].to_plain()["secrets"]).read()
