"""What the coordinator takes out of a sum is what the members put in, to the last integer (clause 3.9)."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest

from coordinator.runs import excess as excess_room
from coordinator.runs.excess import remove_excess
from shared.domain.plan import Plan
from shared.privacy.discrete_gaussian import from_seed
from shared.privacy.distributed import grid_variance, share_variances
from shared.privacy.noise_shares import COUNTS, _parts, own_blocks, step_blocks, step_share, vector_length
from shared.secagg.fixed_point import to_ring
from shared.secagg.keys import noise_chain
from shared.secagg.parameters import RoundTerms, terms_of, tolerance
from tests.unit.test_secure_planning import planned

RUN, ROUND, MEMBERS = "run_0123456789ab", 2, 10


@pytest.fixture(scope="module")
def ten() -> Plan:
    """Ten members, three noise steps, more coordinates than one block holds, and counts in round 2."""
    return replace(planned(evaluate_every=2), trainable_coordinates=70_000)


@pytest.fixture(params=[32, 16])
def plan(ten: Plan, request: pytest.FixtureRequest) -> Plan:
    assert ten.secure is not None
    return replace(ten, secure=replace(ten.secure, ring_bits=request.param))


def terms(plan: Plan) -> RoundTerms:
    return terms_of(plan, RUN, ROUND, vector_length(plan, ROUND))


def chains(plan: Plan) -> dict[str, tuple[bytes, ...]]:
    """Every member's seeds of steps 1, 2 and 3."""
    return {m.member_id: noise_chain(bytes([i]) * 32, 3) for i, m in enumerate(plan.members)}


def noise(plan: Plan, seeds: tuple[bytes, ...], steps: range) -> np.ndarray:
    covered = tolerance(MEMBERS, plan.quorum, 3)
    return sum(step_share(plan, ROUND, MEMBERS, covered, step, seeds[step - 1]) for step in steps)


@pytest.mark.parametrize("dropped", [0, 1, 2, 3])
@pytest.mark.parametrize("threads", [1, 5])
def test_steps_that_survivors_need_stay_and_the_others_go(
    plan: Plan, dropped: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excess_room.os, "cpu_count", lambda: threads)
    survivors = dict(list(chains(plan).items())[dropped:])
    bits = terms(plan).ring_bits
    # Three steps for three drop-outs: as many are needed as members dropped out.
    start = np.full(terms(plan).length, 7, dtype=np.int64)
    given = to_ring(start + sum(noise(plan, seeds, range(1, 4)) for seeds in survivors.values()), bits)
    wanted = to_ring(
        start + sum(noise(plan, seeds, range(1, dropped + 1)) for seeds in survivors.values()), bits
    )
    revealed = {name: seeds[dropped] for name, seeds in survivors.items()} if dropped < 3 else {}
    found = remove_excess(plan, terms(plan), given, MEMBERS, len(survivors), revealed)
    assert np.array_equal(found, wanted)
    # A seed too early or too late would leave other noise.
    assert dropped == 0 or not np.array_equal(found, to_ring(start, bits))


def test_blocks_of_a_step_are_the_step(plan: Plan) -> None:
    covered = tolerance(MEMBERS, plan.quorum, 3)
    seed = bytes(range(32))
    blocks = np.zeros(vector_length(plan, ROUND), dtype=np.int64)
    places = []
    for part, integers in step_blocks(plan, ROUND, MEMBERS, covered, {2: seed}):
        blocks[part] = integers
        places.append((part.start, part.stop))
    assert [start for start, _ in places] == [0, *(stop for _, stop in places[:-1])]
    assert places[-1][1] == blocks.size
    assert np.array_equal(blocks, step_share(plan, ROUND, MEMBERS, covered, 2, seed))


def test_blocks_of_several_steps_are_their_sum_and_of_none_are_none(plan: Plan) -> None:
    covered, chain = tolerance(MEMBERS, plan.quorum, 3), chains(plan)[plan.members[0].member_id]
    total = np.zeros(vector_length(plan, ROUND), dtype=np.int64)
    for part, integers in step_blocks(plan, ROUND, MEMBERS, covered, dict(enumerate(chain, start=1))):
        total[part] += integers
    assert np.array_equal(total, noise(plan, chain, range(1, 4)))
    assert list(step_blocks(plan, ROUND, MEMBERS, covered, {})) == []


def test_counts_and_coordinates_are_noised_from_key_streams_of_their_own(plan: Plan) -> None:
    """From one stream, what the counts' noise was would tell that of the first coordinates."""
    covered, seed = tolerance(MEMBERS, plan.quorum, 3), bytes(range(32))
    share = step_share(plan, ROUND, MEMBERS, covered, 2, seed)
    (size, std), (counts, its_std) = _parts(plan, ROUND, MEMBERS, covered, 2)
    first, second = (hashlib.sha256(seed + bytes([part])).digest() for part in (0, 1))
    assert first != second and share.size == size + counts == size + COUNTS
    assert np.array_equal(share[:size], from_seed(first, size, std))
    assert np.array_equal(share[size:], from_seed(second, counts, its_std))


def test_a_members_noise_is_its_steps_and_a_base_that_nobody_draws_twice(plan: Plan) -> None:
    covered, chain = tolerance(MEMBERS, plan.quorum, 3), chains(plan)[plan.members[0].member_id]
    bases = []
    for _ in range(2):
        bases.append(-noise(plan, chain, range(1, 4)))
        for part, integers in own_blocks(plan, ROUND, MEMBERS, covered, (*chain, b"not needed")):
            bases[-1][part] += integers
    d = plan.trainable_coordinates
    std = math.sqrt(share_variances(grid_variance(plan), MEMBERS, plan.quorum, plan.colluders, covered)[0])
    for base in bases:
        assert abs(base[:d].std() / std - 1) < 0.03  # of 70,000 numbers; the std of that is 0.27 %
    assert abs(np.corrcoef(bases[0][:d], bases[1][:d])[0, 1]) < 0.03
    with pytest.raises(TypeError):
        own_blocks(plan, ROUND, MEMBERS, covered, chain, seed=bytes(32))  # type: ignore[call-arg]
    with pytest.raises(ValueError):
        own_blocks(plan, ROUND, MEMBERS, covered, chain[:2])


def test_a_fault_in_a_thread_is_a_fault_of_the_round(plan: Plan) -> None:
    too_short = np.zeros(10, dtype=terms(plan).dtype)
    with pytest.raises(ValueError):
        remove_excess(plan, terms(plan), too_short, MEMBERS, MEMBERS, {"m00": bytes(32)})
