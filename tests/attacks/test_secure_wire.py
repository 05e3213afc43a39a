"""A reader of all that crosses in mode secure finds contributions that look like uniform bytes, and nothing else.

Each claim is tried on the unprotected variant first: a member that skips its masks, or uses them twice, is found.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chi2

from coordinator.runs.averaging import ServerState
from participant.secure import SecureRounds
from shared.domain.errors import CommonlensError
from shared.domain.extractor import ExtractorSpec
from shared.domain.plan import Plan
from shared.domain.update import NoisyGridSum
from shared.secagg.fixed_point import from_ring, to_ring
from shared.wire.rounds import RoundReply, StepRequest
from tests.desk import Desk
from tests.simulator import ConsortiumSimulator, SimulatedMember

SPEC = ExtractorSpec("fixed-mlp", 1, 8, 8, 16, (0.5,), (0.25,), {"hidden": 96, "grid": 2, "orientations": 4})
BYTES_OF_AN_ELEMENT = 4
LEAST_P = 1e-12
"""Of about 80 p-values a run, two-sided; a right implementation fails less often than once in 10⁸ runs."""


class Unmasked(SecureRounds):
    """The unprotected variant: the grid sum, noise and all, as it is before the masks."""

    def mask(self, plan: Plan, noisy: NoisyGridSum) -> memoryview:
        return noisy.ring.cast("B")


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(6,) * 4)


def uniformity(data: npt.NDArray[np.uint8]) -> float:
    """p-value of the chi-square statistic of 256 byte values, 255 degrees of freedom; near 0 and near 1 are odd."""
    expected = data.size / 256
    assert expected >= 5, "too few bytes for a chi-square"
    return float(chi2.sf(((np.bincount(data, minlength=256) - expected) ** 2).sum() / expected, 255))


def looks_uniform(p: float) -> bool:
    """Two-sided: bytes that are too even are not random either."""
    return LEAST_P < p < 1 - LEAST_P


def columns(ring: npt.NDArray[np.uint32]) -> dict[str, npt.NDArray[np.uint8]]:
    """All bytes of a contribution, and the bytes of each place in its elements: high ones give grid sums away."""
    table = ring.astype("<u4").view(np.uint8).reshape(-1, BYTES_OF_AN_ELEMENT)
    return {"all": table.ravel()} | {f"byte {n}": table[:, n] for n in range(BYTES_OF_AN_ELEMENT)}


def odd_columns(ring: npt.NDArray[np.uint32]) -> list[str]:
    return [name for name, data in columns(ring).items() if not looks_uniform(uniformity(data))]


def sent(member: SimulatedMember) -> list[npt.NDArray[np.uint32]]:
    """uint32 [d] each: the payloads that left this member, in order."""
    return [np.frombuffer(data, dtype="<u4") for data in member.transfers.uploads]


def take_masks_off(member: SimulatedMember) -> None:
    member.node._secure.__class__ = Unmasked


def two_rounds(sim: ConsortiumSimulator) -> Plan:
    """Two rounds of one run from the same weights, so that only noise and masks differ."""
    plan = sim.secure_plan(spec=SPEC)
    sim.consent(plan)
    state: ServerState = sim.state_at_start(plan)
    for number in (1, 2):
        # A sum under masks that were not all put on is no sum: what the coordinator makes of it is no matter here.
        with suppress(CommonlensError):
            sim.one_round(plan, number, state=state)
    return plan


def test_reader_of_the_wire_sees_uniform_bytes_and_finds_a_member_without_masks(
    sim: ConsortiumSimulator,
) -> None:
    bare = sim.members[0]
    take_masks_off(bare)
    two_rounds(sim)
    for ring in sent(bare):
        assert {"all", "byte 3"} <= set(odd_columns(ring))
    for member in sim.members[1:]:
        payloads = sent(member)
        assert len(payloads) == 2
        for ring in payloads:
            assert odd_columns(ring) == []


def test_no_two_contributions_share_their_masks(sim: ConsortiumSimulator) -> None:
    bare = sim.members[0]
    take_masks_off(bare)
    two_rounds(sim)
    # Under one mask twice, the difference is a difference of grid sums: as good as no mask at all.
    first, second = sent(bare)
    assert odd_columns(second - first) != []
    for member in sim.members[1:]:
        first, second = sent(member)
        assert odd_columns(second - first) == []
    others = [sent(member)[0] for member in sim.members[1:]]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert odd_columns(others[one] - others[other]) == []
        assert odd_columns(others[one] + others[other]) == []  # as pairwise masks alone would cancel


def test_sum_of_all_contributions_without_unmasking_is_uniform(sim: ConsortiumSimulator) -> None:
    plan = sim.secure_plan(spec=SPEC)
    sim.consent(plan)
    _, moved = sim.one_round(plan)
    total = np.sum([sent(member)[0] for member in sim.members], axis=0, dtype=np.uint32)
    # Pairwise masks cancel in it; each member's own mask stays until a quorum lifts it.
    assert odd_columns(total) == []
    # What the quorum lifted is a sum on the grid and moves the weights by little: the same test finds it.
    assert plan.secure is not None
    lifted = np.rint((moved.weights - sim.state_at_start(plan).weights) / plan.secure.grid_width)
    assert {"all", "byte 3"} <= set(odd_columns(to_ring(lifted.astype(np.int64), 32)))
    assert np.abs(from_ring(total, 32)).max() > 2**30


def test_nothing_else_that_a_member_answers_holds_a_number_of_its_training(sim: ConsortiumSimulator) -> None:
    plan = sim.secure_plan(spec=SPEC, evaluate_every=1)
    sim.consent(plan)
    sim.one_round(plan)
    assert {type(request) for request in sim.carrier.requests} > {StepRequest}
    for _, reply in sim.carrier.replies:
        # Keys, shares, signatures, digests and lengths that follow from the plan; validation is inside the sum.
        filled = {name for name, value in vars(reply).items() if value is not None}
        assert filled in (
            {"offer"},
            {"deal"},
            {"shares"},
            {"shares", "deal"},
            {"header", "signature", "endorsement", "offer"},
        )
        if reply.header is not None:
            assert reply.header.counts is None
            assert reply.header.payload_bytes == BYTES_OF_AN_ELEMENT * (plan.trainable_coordinates + 2)
    assert all(isinstance(reply, RoundReply) for _, reply in sim.carrier.replies)
