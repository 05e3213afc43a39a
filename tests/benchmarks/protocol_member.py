"""One member's protocol work in a round, against the least it could be: its mask expansions and its noise.

`python protocol_member.py MEMBERS COORDINATES REPEATS` prints one line of JSON. The round is the shipped code path
with what surrounds it at a node: state read and written at each step, payload hashed, header signed, outbox synced.
Seconds are of processor time, user and system: a loaded machine stretches them far less than the clock on the wall.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from participant.outbox import Outbox, Sealed
from participant.training.step import noisy_grid_sum
from participant.training.workbench import NoiseShare
from shared.domain.canonical import digest_of_bytes
from shared.domain.files import read_json, write_json
from shared.domain.plan import Plan
from shared.domain.strict import to_plain
from shared.domain.update import ContributionHeader
from shared.privacy.noise_shares import base_share, step_share
from shared.release.signing import verify_value
from shared.secagg import masks
from shared.secagg.fixed_point import to_grid, to_ring
from shared.secagg.graph import neighbours
from shared.secagg.member import MemberRound
from shared.secagg.messages import roster_digest
from shared.secagg.parameters import tolerance
from shared.wire.rounds import RoundReply, encode
from tests.benchmarks.protocol_setting import ROUND, RUN, World, plan_of


@dataclass
class Laps:
    """Seconds of processor time a step, and the bytes of the two replies."""

    seconds: dict[str, float] = field(default_factory=dict)
    payload_bytes: int = 0
    beside_bytes: int = 0

    def add(self, step: str, work: Callable[[], Any]) -> Any:
        """The result of `work`, timed."""
        started = time.process_time()
        result = work()
        self.seconds[step] = self.seconds.get(step, 0.0) + time.process_time() - started
        return result

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


class Bench:
    """The measured member and its folder."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.plan, self._folder = world, world.plan, folder
        self._identity = world.identities[world.me]
        world.share_out(world.members[1:])
        self._sealed, self._told = world.sealed_for_me(), world.endorsements()
        self._offers, self._identity_keys = world.offers, world.identity_keys
        self._opened = world.rounds[world.me].to_plain()
        generator = np.random.default_rng(0)
        self._sum = generator.standard_normal(world.terms.length, dtype=np.float32)
        self._ring = np.zeros(world.terms.length, dtype=world.terms.dtype)

    def round(self, noisy: bool) -> Laps:
        """Everything this member does in one round but train and send."""
        laps, world, plan = Laps(), self.world, self.plan
        state = self._folder / "round.json"
        outbox = Outbox(self._folder / "outbox")
        covered = tolerance(len(world.members), plan.quorum, world.terms.tolerance_steps)

        def read() -> MemberRound:
            return MemberRound.from_plain(read_json(state), self._identity.sign_value)

        def step(name: str, work: Callable[[MemberRound], Any]) -> Any:
            current = laps.add("state", read)
            result = laps.add(name, lambda: work(current))
            laps.add("state", lambda: write_json(state, current.to_plain()))
            return result

        following = laps.add(
            "offer", lambda: MemberRound.open(world.terms, world.me, self._identity.sign_value)
        )
        write_json(state, self._opened)
        deal = step("deal", lambda m: m.deal(self._offers, self._identity_keys, verify_value))
        digest = roster_digest(self._offers)
        seeds = step("accept", lambda m: (m.accept(digest, world.members, self._sealed), m.noise_seeds)[1])
        share = NoiseShare(len(world.members), covered, seeds)
        width = plan.secure.grid_width if plan.secure else 1.0
        on_grid = laps.add(
            "grid and noise",
            (lambda: noisy_grid_sum(self._sum, None, plan, ROUND, share))
            if noisy
            else (lambda: to_grid(self._sum, width)),
        )
        current = laps.add("state", read)
        masked = laps.add("ring and masks", lambda: current.mask(to_ring(on_grid, world.terms.ring_bits)))
        payload = memoryview(masked.astype(masked.dtype.newbyteorder("<"), copy=False)).cast("B")
        header, signature = laps.add("seal", lambda: self._signed(payload, digest))
        laps.add("outbox", lambda: outbox.put(Sealed(header, signature), payload))
        endorsement = step("endorse", lambda m: m.contributed())
        answer = step("unmask", lambda m: m.unmask(world.members, self._told, {}, verify_value))
        replies = (
            RoundReply(header=header, signature=signature, endorsement=endorsement, offer=following.offer),
            RoundReply(shares=answer, deal=deal),
        )
        laps.payload_bytes = payload.nbytes
        laps.beside_bytes = sum(len(encode(reply)) for reply in replies)
        return laps

    def expansions(self) -> float:
        """Of all masks, pairwise and own, onto one vector."""
        count = len(neighbours(self.world.terms, self.world.members)[self.world.me]) + 1
        keys = [os.urandom(32) for _ in range(count)]
        return _timed(lambda: [masks.add_mask(self._ring, key) for key in keys])

    def noise(self) -> float:
        """Of drawing all noise components."""
        plan, size = self.plan, len(self.world.members)
        covered = tolerance(size, plan.quorum, self.world.terms.tolerance_steps)

        def draw() -> None:
            base_share(plan, ROUND, size, covered)
            for number in range(1, len(covered) + 1):
                step_share(plan, ROUND, size, covered, number, os.urandom(32))

        return _timed(draw)

    def _signed(self, payload: memoryview, digest: str) -> tuple[ContributionHeader, str]:
        header = ContributionHeader(
            member_id=self.world.me,
            run_id=RUN,
            round_number=ROUND,
            plan_digest=self.plan.digest,
            payload_digest=digest_of_bytes(payload),
            payload_bytes=payload.nbytes,
            counts=None,
            weights_digest="sha256:" + 64 * "0",
            roster_digest=digest,
        )
        return header, self._identity.sign_value("contribution", to_plain(header))


def measure(plan: Plan, repeats: int) -> dict[str, Any]:
    """The best of `repeats`, taken in turns: noisy and noiseless rounds, mask expansions, noise."""
    world = World.of(plan)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(world, Path(folder))
        bench.noise()  # builds the tables, which a node keeps from its first round on
        noisy, plain, expansions, noise = [], [], [], []
        for _ in range(repeats):
            noisy.append(bench.round(noisy=True))
            plain.append(bench.round(noisy=False))
            expansions.append(bench.expansions())
            noise.append(bench.noise())
    best = min(noisy, key=lambda laps: laps.total)
    return {
        "neighbours": len(neighbours(world.terms, world.members)[world.me]),
        "components": 1 + len(tolerance(len(world.members), plan.quorum, world.terms.tolerance_steps)),
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
