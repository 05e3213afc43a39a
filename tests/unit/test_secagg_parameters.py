"""Terms of a secure round: what they refuse, and how drop-outs map to noise steps."""

from __future__ import annotations

import numpy as np
import pytest

from shared.domain.errors import InvalidMessage, QuorumMissed, UnsoundPlan
from shared.secagg.parameters import RoundTerms, needed_steps, tolerance


def terms(**changes: int) -> RoundTerms:
    numbers = {
        "quorum": 7,
        "colluders": 3,
        "share_threshold": 7,
        "mask_reach": 0,
        "tolerance_steps": 3,
        "ring_bits": 32,
        "length": 5,
    } | changes
    return RoundTerms(run_id="run_1", round_number=1, plan_digest="sha256:plan", **numbers)


def test_the_type_of_a_contribution_follows_ring_bits() -> None:
    assert terms().dtype == np.dtype(np.uint32)
    assert terms(ring_bits=16).dtype == np.dtype(np.uint16)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ring_bits": 64}, "the plan says 64"),
        ({"colluders": 7}, "less than the quorum of 7, and are 7"),
        ({"colluders": -1}, "are -1"),
        ({"share_threshold": 6}, "a quorum of 7 shares, and the plan says 6"),
        ({"share_threshold": 8}, "the plan says 8"),
        ({"length": 0}, "0, 0 and 3"),
        ({"mask_reach": -1}, "5, -1 and 3"),
        ({"tolerance_steps": -1}, "5, 0 and -1"),
    ],
)
def test_terms_that_do_not_hold_together_are_refused(changes: dict[str, int], text: str) -> None:
    with pytest.raises(UnsoundPlan, match=text):
        terms(**changes)


def test_a_roster_may_go_on_only_where_one_quorum_excludes_another() -> None:
    assert [size for size in range(7, 20) if _fits(size)] == [7, 8, 9, 10]
    with pytest.raises(QuorumMissed, match="At least 7 members must take part, and 6 do"):
        terms().check_size(6)
    with pytest.raises(UnsoundPlan, match="the quorum must be at least 8, and is 7"):
        terms().check_size(11)


def _fits(size: int) -> bool:
    try:
        terms().check_size(size)
    except UnsoundPlan:
        return False
    # With all colluders' help two disjoint sets of the honest would need more honest members than there are.
    assert size - 3 < 2 * (7 - 3)
    return True


@pytest.mark.parametrize(
    ("cohort", "quorum", "steps", "expected"),
    [
        (10, 7, 3, (1, 2, 3)),
        (10, 7, 8, (1, 2, 3)),
        (10, 7, 2, (2, 3)),
        (10, 7, 1, (3,)),
        (10, 7, 0, ()),
        (10, 10, 3, ()),
        (200, 134, 4, (17, 33, 50, 66)),
    ],
)
def test_steps_spread_the_tolerated_drop_outs(
    cohort: int, quorum: int, steps: int, expected: tuple[int, ...]
) -> None:
    assert tolerance(cohort, quorum, steps) == expected


@pytest.mark.parametrize(
    ("cohort", "quorum", "steps"), [(10, 7, 3), (10, 7, 2), (30, 21, 4), (9, 7, 8), (7, 7, 2)]
)
def test_the_steps_kept_are_the_fewest_that_cover_the_drop_outs(cohort: int, quorum: int, steps: int) -> None:
    covered = (0, *tolerance(cohort, quorum, steps))
    for survivors in range(quorum, cohort + 1):
        kept = needed_steps(cohort, quorum, steps, survivors)
        assert covered[kept] >= cohort - survivors
        assert kept == 0 or covered[kept - 1] < cohort - survivors


def test_drop_outs_that_no_noise_step_covers_end_the_round() -> None:
    assert needed_steps(10, 7, 0, 10) == 0
    with pytest.raises(QuorumMissed, match="At least 10 of 10 members must be in a sum"):
        needed_steps(10, 7, 0, 9)
    with pytest.raises(QuorumMissed, match="At least 7 of 10 members .* and 6 are"):
        needed_steps(10, 7, 3, 6)
    with pytest.raises(QuorumMissed, match="at least the quorum of 7 members, and this one has 6"):
        needed_steps(6, 7, 3, 6)
    with pytest.raises(InvalidMessage, match="cohort of 10 cannot have 11 survivors"):
        needed_steps(10, 7, 3, 11)
