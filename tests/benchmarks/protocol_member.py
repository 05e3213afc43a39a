"""One member's protocol work in a round, against the least it could be: its mask expansions and its noise.

`python protocol_member.py MEMBERS COORDINATES REPEATS` prints one line of JSON. The round is the node's own code over
a folder of its own: `SecureRounds` with consent, roll, approvals, round states on disk, payload hashed, header
signed, outbox synced. One process plays consecutive rounds as a node does, two exchanges each; what peers send is
made between them. Seconds are of processor time, user and system: a loaded machine stretches them far less than
the clock on the wall.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from participant.consents import plan_file_name
from participant.home import Home
from participant.outbox import Outbox, Sealed
from participant.peers import approve, waiting
from participant.redteam.dishonest_home import write_membership
from participant.round_states import RoundStates
from participant.secure import SecureRounds
from participant.training.step import noisy_ring_sum
from participant.training.workbench import NoiseShare
from shared.domain.canonical import digest_of_bytes
from shared.domain.files import write_json
from shared.domain.plan import Plan
from shared.domain.privacy import Budget, Charge
from shared.domain.strict import to_plain
from shared.domain.update import ContributionHeader, NoisyGridSum
from shared.privacy.ledger import Ledger
from shared.privacy.noise_shares import base_share, step_share
from shared.release.signing import SigningKey
from shared.secagg import masks
from shared.secagg.endorsements import Vouched
from shared.secagg.fixed_point import to_grid, to_ring
from shared.secagg.graph import neighbours_of
from shared.secagg.member import MemberRound
from shared.secagg.messages import Deal, KeyOffer, roster_digest
from shared.secagg.parameters import tolerance
from shared.wire.rounds import PROTOCOL_VERSION, MaskedAsk, RoundReply, Step, StepRequest, encode
from tests.benchmarks.protocol_setting import ROUND, RUN, World, plan_of

DATA_SET, BUDGET = "dat_own", Budget(1000.0, 1e-5)
"""Both numbers of ε are charged; nobody is refused here."""
BLOCK = 1 << 15
"""Coordinates rounded at a time where no noise is added: as many as the noise is drawn for."""


@dataclass
class Laps:
    """Seconds of processor time a step, without the steps inside it, and the bytes of the two replies."""

    seconds: dict[str, float] = field(default_factory=dict)
    payload_bytes: int = 0
    beside_bytes: int = 0

    def add(self, step: str, work: Callable[[], Any]) -> Any:
        """The result of `work`, timed."""
        before, started = self.total, time.process_time()
        result = work()
        spent = time.process_time() - started - (self.total - before)
        self.seconds[step] = self.seconds.get(step, 0.0) + spent
        return result

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


class TimedStates(RoundStates):
    """Says how much of a step its file took."""

    def __init__(self, folder: Path, identity: SigningKey) -> None:
        super().__init__(folder, identity.sign_value)
        self.laps = Laps()

    def _write(self, current: MemberRound) -> None:
        self.laps.add("state", lambda: super(TimedStates, self)._write(current))


class TimedRounds(SecureRounds):
    """Takes a plan without its starting weights, and says how much of the unmasking was for the next round."""

    laps = Laps()

    def time_into(self, laps: Laps) -> None:
        if not isinstance(self._states, TimedStates):
            self._states = TimedStates(self._home.round_keys, self._identity)
        self.laps = self._states.laps = laps

    def know(self, plan: Plan) -> None:
        self._plans[str(plan.digest)] = plan

    def _next_deal(self, plan: Plan, request: StepRequest, vouched: Collection[Vouched]) -> Deal | None:
        work = super()._next_deal
        return self.laps.add("deal", lambda: work(plan, request, vouched))


class Bench:
    """The measured member in its folder, and its peers as they are in the round that comes next."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.plan = world, world.plan
        self._home = Home(folder / "home")
        self._identity = world.identities[world.me]
        self._identity.save(self._home.identity_key)
        write_membership(self._home, self.plan, world.identities)
        approve(self._home, waiting(self._home))
        write_json(self._home.consents / f"{plan_file_name(str(self.plan.digest))}.json", {"runs": 1})
        self._plan_digest = str(self.plan.digest)
        self._outbox = Outbox(self._home.outbox)
        self._ledger = Ledger(self._home.ledger)
        self._rounds = TimedRounds(self._home, world.me, self._identity, self._ledger, print, lambda: None)
        self._rounds.know(self.plan)
        self._rounds.time_into(Laps())
        self._offers = self._roster(self._step(Step.OFFER).offer)
        self._step(Step.DEAL, roster=self._offers)
        generator = np.random.default_rng(0)
        self._sum = generator.standard_normal(world.terms.length)  # float64, as the sums of a step are
        self._ring = np.zeros(world.terms.length, dtype=world.terms.dtype)

    def round(self, noisy: bool) -> Laps:
        """Everything this member does in one round but train and send."""
        laps, world, plan, rounds = Laps(), self.world, self.plan, self._rounds
        number, digest, offers = world.terms.round_number, roster_digest(self._offers), self._offers
        rounds.time_into(laps)
        ask = MaskedAsk(digest, world.members, world.sealed_for(world.me, offers))

        laps.add("charge", lambda: self._ledger.charge(self._charge(number), BUDGET))
        share = laps.add("accept", lambda: rounds.accept(plan, RUN, number, ask))
        ring = laps.add("grid, noise and ring", lambda: self._on_ring(share, noisy))
        sent = NoisyGridSum(RUN, number, self._plan_digest, ring.data)
        payload = laps.add("masks", lambda: rounds.mask(plan, sent))
        header, signature = laps.add("seal", lambda: self._signed(payload, digest))
        laps.add("outbox", lambda: self._outbox.put(Sealed(header, signature), payload))
        laps.add("charge", lambda: self._ledger.seal(DATA_SET, RUN, number, header.payload_digest))
        endorsement, offer = laps.add("keys", lambda: rounds.sealed(header))

        self.world = world.next_round()
        peers = world.endorsements(offers=offers, following=self.world, weights=header.weights_digest)
        told = peers | {world.me: endorsement}
        self._offers = self._roster(offer)
        unmask = self._request(
            Step.UNMASK, number, roster=self._offers, survivors=world.members, endorsements=told
        )
        answer = laps.add("unmask", lambda: rounds.answer(unmask))
        replies = (
            RoundReply(header=header, signature=signature, endorsement=endorsement, offer=offer),
            answer,
        )
        laps.payload_bytes = payload.nbytes
        laps.beside_bytes = sum(len(encode(reply)) for reply in replies)
        return laps

    def _charge(self, number: int) -> Charge:
        events = self.plan.events_of_round(number)
        return Charge(
            DATA_SET, self._plan_digest, RUN, number, events, self.plan.events_alone_of_round(number)
        )

    def expansions(self) -> float:
        """Of all masks, pairwise and own, onto one vector."""
        keys = [os.urandom(32) for _ in range(self.masks)]
        return _timed(lambda: masks.apply_masks(self._ring, keys, []))

    def noise(self) -> float:
        """Of drawing all noise components."""
        plan, size = self.plan, len(self.world.members)

        def draw() -> None:
            base_share(plan, ROUND, size, self.covered)
            for number in range(1, len(self.covered) + 1):
                step_share(plan, ROUND, size, self.covered, number, os.urandom(32))

        return _timed(draw)

    @property
    def masks(self) -> int:
        """Expansions in a round: one a neighbour, and the member's own."""
        return len(neighbours_of(self.world.terms, self.world.members, self.world.me)) + 1

    @property
    def covered(self) -> tuple[int, ...]:
        """Drop-outs covered by each noise step."""
        return tolerance(len(self.world.members), self.plan.quorum, self.world.terms.tolerance_steps)

    def _on_ring(self, share: NoiseShare, noisy: bool) -> np.ndarray:
        terms = self.world.terms
        if noisy:
            return noisy_ring_sum(self._sum, None, self.plan, ROUND, share)
        ring = np.empty(terms.length, terms.dtype)
        width = self.plan.secure.grid_width if self.plan.secure else 1.0
        for start in range(0, terms.length, BLOCK):
            part = slice(start, start + BLOCK)
            ring[part] = to_ring(to_grid(self._sum[part], width), terms.ring_bits)
        return ring

    def _roster(self, mine: KeyOffer | None) -> tuple[KeyOffer, ...]:
        offers = [offer for offer in self.world.offers if offer.member_id != self.world.me]
        return tuple(sorted([*offers, mine] if mine else offers, key=lambda offer: offer.member_id))

    def _request(self, step: Step, number: int, **content: Any) -> StepRequest:
        return StepRequest(PROTOCOL_VERSION, step, RUN, number, str(self.plan.digest), **content)

    def _step(self, step: Step, **content: Any) -> RoundReply:
        return self._rounds.answer(self._request(step, self.world.terms.round_number, **content))

    def _signed(self, payload: memoryview, digest: str) -> tuple[ContributionHeader, str]:
        header = ContributionHeader(
            member_id=self.world.me,
            run_id=RUN,
            round_number=self.world.terms.round_number,
            plan_digest=self._plan_digest,
            payload_digest=digest_of_bytes(payload),
            payload_bytes=payload.nbytes,
            counts=None,
            weights_digest="sha256:" + 64 * "0",
            roster_digest=digest,
        )
        return header, self._identity.sign_value("contribution", to_plain(header))


def measure(plan: Plan, repeats: int) -> dict[str, Any]:
    """The best of `repeats`, taken in turns: noisy and noiseless rounds, mask expansions, noise."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(World.of(plan), Path(folder))
        bench.noise()  # builds the tables, which a node keeps from its first round on
        noisy, plain, expansions, noise = [], [], [], []
        for _ in range(repeats):
            noisy.append(bench.round(noisy=True))
            plain.append(bench.round(noisy=False))
            expansions.append(bench.expansions())
            noise.append(bench.noise())
    best = min(noisy, key=lambda laps: laps.total)
    return {
        "masks": bench.masks,
        "components": 1 + len(bench.covered),
        "member_s": best.total,
        "steps_s": best.seconds,
        "noiseless_s": min(laps.total for laps in plain),
        "expansions_s": min(expansions),
        "noise_s": min(noise),
        "payload_bytes": best.payload_bytes,
        "beside_bytes": best.beside_bytes,
    }


def _timed(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    members_, coordinates_, repeats_ = map(int, sys.argv[1:])
    print(json.dumps(measure(plan_of(members_, coordinates_), repeats_)))
