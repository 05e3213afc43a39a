"""One secure round of members in memory that run the real protocol, and a coordinator that heard all of it.

`mem_000000000000` is the victim; the last `colluders` members hand the coordinator all they hold. Contributions
are a synthetic clipped sum on the grid and the noise that the plan asks for, so that what an attack comes to
can be measured: how much of the plan's noise is left in what it sees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from shared.domain.canonical import digest_of_bytes
from shared.domain.plan import Plan, PlanMember, default_colluders, least_quorum
from shared.privacy.distributed import grid_variance
from shared.privacy.noise_shares import base_share, step_share
from shared.release.signing import SigningKey, verify_value
from shared.secagg import keys, masks
from shared.secagg.dealing import addressed_to
from shared.secagg.fixed_point import from_ring, to_ring
from shared.secagg.graph import neighbours
from shared.secagg.member import MemberRound
from shared.secagg.messages import Deal, UnmaskShares, bundle_bytes, decode, encode
from shared.secagg.parameters import Ring, RoundTerms, terms_of, tolerance
from shared.secagg.rebuilding import Rebuilder
from shared.secagg.roster import Roster, pair_info, self_info
from shared.secagg.server import ServerRound
from shared.secagg.shamir import SHARE_BYTES

Integers = npt.NDArray[np.int64]
RUN, ROUND = "run_000000000001", 1
SENT = digest_of_bytes(b"the round's weights")
"""What everybody trained from, where no attempt says otherwise."""
COORDINATES = 4096
"""Numbers in a contribution: enough to measure the std of its noise to about 1 %."""
MASK, SEEDS = range(2)
"""Secrets in the order in which a bundle holds shares of them (shared/secagg/dealing.py)."""
VICTIM_ALONE = "the victim's own contribution, every number of it"
_FEWEST, _MOST = 4, 12


@dataclass(frozen=True)
class Outcome:
    """What one attempt came to."""

    noise_left: float = math.nan
    """Std of the noise in what the coordinator now holds, per unit of a record's influence, as a part of the
    plan's σ. 1 is what was accounted for; 0.5 means half the noise. NaN: it holds nothing."""
    holds: str = "the sum"
    """What that is."""
    releases: int = 1
    """Noised sums that it holds for the one that was paid for."""
    influence: float = 1.0
    """How far one record moved what was noised, in clip norms."""
    refusal: str = ""
    """Code of the error with which the member refused; empty where it did what it was asked."""


def played_plan(plan: Plan) -> Plan:
    """`plan` with members to play; where it has too many, or none may drop out, a consortium of its kind.

    Attempts cost the square of the members, and some of them need one that drops out.
    """
    count = min(max(len(plan.members), _FEWEST), _MOST) if plan.secure else len(plan.members)
    lines = [plan.members[place % len(plan.members)] for place in range(count)]
    members = tuple(PlanMember(f"mem_{place:012x}", line.declared_size) for place, line in enumerate(lines))
    played = replace(plan, members=members)
    if plan.secure is None or (
        count == len(plan.members) and plan.quorum < count and plan.secure.tolerance_steps > 0
    ):
        return played
    quorum = least_quorum(count)
    secure = replace(
        plan.secure, tolerance_steps=min(count - quorum, 4), mask_reach=0, share_threshold=quorum
    )
    return replace(
        played, quorum=quorum, colluders=min(plan.colluders, default_colluders(count)), secure=secure
    )


class Play:
    """One secure round of `plan`, and everything the coordinator heard in it until all had contributed."""

    def __init__(self, plan: Plan, terms: RoundTerms | None = None) -> None:
        self.plan = replace(plan, trainable_coordinates=COORDINATES, evaluate_every=0, shared_head=None)
        self.terms = terms or terms_of(self.plan, RUN, ROUND, COORDINATES)
        self.names = tuple(member.member_id for member in plan.members)
        self.victim, self.others = self.names[0], self.names[1:]
        self.colluders = self.names[len(self.names) - self.terms.colluders :]
        self.keys = {name: SigningKey.generate() for name in self.names}
        self.identity_keys = {name: key.public_hex for name, key in self.keys.items()}
        self.members = {
            name: MemberRound.open(self.terms, name, self.keys[name].sign_value) for name in self.names
        }
        self.roster = Roster.of(member.offer for member in self.members.values())
        generator = np.random.Generator(np.random.PCG64(COORDINATES))
        size = (len(self.names), COORDINATES)
        self.exact: dict[str, Integers] = dict(
            zip(self.names, generator.integers(-99, 100, size), strict=True)
        )
        self.noised: dict[str, Integers] = {}
        self.masked: dict[str, Ring] = {}
        self.told: dict[str, str] = {}
        """Signatures under the cohort, which came with the contributions."""

    def deal(self) -> dict[str, Deal]:
        """Everybody deals to everybody."""
        return {
            name: member.deal(self.roster.offers, self.identity_keys, verify_value)
            for name, member in self.members.items()
        }

    def contribute(self, weights: Mapping[str, str] = MappingProxyType({})) -> Play:
        """Everybody masks its noised sum; `weights`: digest of what a member trained from and signs, else SENT."""
        deals = self.deal()
        for name, member in self.members.items():
            member.accept(self.roster.digest, self.names, addressed_to(name, deals.values()))
            self.noised[name] = self.exact[name] + self.noise(member.noise_seeds)
            self.masked[name] = member.mask(to_ring(self.noised[name], self.terms.ring_bits))
            self.told[name] = member.contributed(weights.get(name, SENT))
        return self

    def members_as(self, kind: type[MemberRound]) -> dict[str, MemberRound]:
        """The members as they were after contributing, run by `kind`: one play serves many attempts."""
        return {
            name: kind.from_plain(member.to_plain(), self.keys[name].sign_value)
            for name, member in self.members.items()
        }

    @property
    def covered(self) -> tuple[int, ...]:
        """Drop-outs covered by each noise step."""
        return tolerance(len(self.names), self.terms.quorum, self.terms.tolerance_steps)

    @property
    def noise_plan(self) -> Plan:
        """The plan with the quorum that is played, which is what shares of the noise are sized by."""
        return replace(self.plan, quorum=self.terms.quorum, colluders=self.terms.colluders)

    def noise(self, seeds: Sequence[bytes] = (), base: bool = True) -> Integers:
        """A member's noise: its base component, and the steps of `seeds`, from the first on."""
        plan, count = self.noise_plan, len(self.names)
        total = np.zeros(COORDINATES, dtype=np.int64)
        if base:
            total += base_share(plan, ROUND, count, self.covered)
        for step, seed in enumerate(seeds[: len(self.covered)], start=1):
            total += step_share(plan, ROUND, count, self.covered, step, seed)
        return total

    def summed(
        self, names: Sequence[str], answers: Sequence[UnmaskShares]
    ) -> tuple[Integers, Mapping[str, bytes]]:
        """The sum of `names` once their masks are lifted, and the noise seeds that came with it."""
        server = ServerRound(self.terms, self.roster.offers, self.names, SENT)
        for name in names:
            server.add(name, self.masked[name])
        ring, excess = server.finish(names, answers)
        return from_ring(ring, self.terms.ring_bits), excess

    def noise_left(self, seen: Integers, names: Sequence[str]) -> float:
        """Std of what is not the sum of `names` in `seen`, as a part of what the plan promises for a sum."""
        exact = np.sum([self.exact[name] for name in names], axis=0)
        wrapped = from_ring(to_ring(seen - exact, self.terms.ring_bits), self.terms.ring_bits)
        return float(np.std(wrapped)) / math.sqrt(grid_variance(self.plan))

    def seen_alone(self, masked: Ring, secrets: Sequence[bytes], roster: Roster) -> Outcome:
        """What the victim's masked vector shows to whoever holds its mask key and its first seed."""
        mask_private, noise_seed = secrets
        self_seed = keys.shared_seeds(noise_seed, self.terms.tolerance_steps)[-1]
        ring, info = masked.copy(), partial(pair_info, self.terms, roster.digest, self.victim)
        masks.subtract_mask(
            ring, masks.self_key(self_seed, self_info(self.terms, roster.digest, self.victim))
        )
        private = keys.load_private(mask_private)
        for peer in neighbours(self.terms, roster.members)[self.victim]:
            public = bytes.fromhex(roster.offer(peer).mask_public_key)
            lift = masks.subtract_mask if self.victim < peer else masks.add_mask
            lift(ring, masks.pair_key(private, public, info(peer)))
        seen = self.without_steps(from_ring(ring, self.terms.ring_bits), noise_seed)
        return Outcome(self.noise_left(seen, [self.victim]), VICTIM_ALONE)

    def without_steps(self, seen: Integers, noise_seed: bytes) -> Integers:
        """`seen` without one member's noise steps, all of which follow from its first seed."""
        return seen - self.noise(keys.noise_chain(noise_seed, self.terms.tolerance_steps), base=False)

    def opened(self, roster: Roster, bundles: Mapping[str, str]) -> tuple[bytes, ...]:
        """The victim's mask key and first seed from its bundles, by holder. Raises UnmaskFailed."""
        size = bundle_bytes(self.terms)
        held = {holder: decode(text, size, "a bundle") for holder, text in bundles.items()}
        return tuple(
            self.rebuilt(
                roster,
                kind,
                {holder: encode(data[kind * SHARE_BYTES :][:SHARE_BYTES]) for holder, data in held.items()},
            )
            for kind in (MASK, SEEDS)
        )

    def rebuilt(self, roster: Roster, kind: int, given: Mapping[str, str | None]) -> bytes:
        """The victim's secret of this kind from shares by holder. Raises UnmaskFailed."""
        offer = roster.offer(self.victim)

        def fits(secret: bytes) -> bool:
            if kind == MASK:
                return keys.public_of(secret) == offer.mask_public_key
            return keys.commit_to_seeds(secret, self.terms.tolerance_steps) == offer.seed_commitment

        return Rebuilder(self.terms, roster).rebuild(self.victim, given, fits)
