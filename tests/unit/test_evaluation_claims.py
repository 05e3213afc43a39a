"""When a claim holds, beside what was measured again."""

from shared.evaluation.claims import measured_again
from shared.lens.estimate import Estimate


def test_a_claim_holds_within_half_the_interval_that_is_found_and_no_claimed_one_widens_it() -> None:
    found = Estimate(0.5, 0.4, 0.6)

    def holds(*claimed: float) -> bool | None:
        return measured_again("part", "what", Estimate(*claimed), found).holds

    assert holds(0.5, 0.4, 0.6) and holds(0.59, 0.49, 0.69)
    assert not holds(0.61, 0.51, 0.71) and not holds(0.5, 0.0, 1.0)
    assert not holds(float("nan"), 0.4, 0.6)
    exact = Estimate(0.5, 0.5, 0.5)
    near = Estimate(0.5009, 0.5, 0.5)
    assert measured_again("part", "what", near, exact).holds
    assert not measured_again("part", "what", Estimate(0.502, 0.5, 0.5), exact).holds
    assert measured_again("part", "what", Estimate(0.502, 0.5, 0.5), exact, asked=900).holds
