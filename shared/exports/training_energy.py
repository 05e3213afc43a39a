"""What training cost in joules, by order of size: an estimate from public numbers, for the model card.

Members report no joules and no seconds (ADR 0033). How long the coordinator waited for a member depends on the
records that it drew, and nothing that was measured on records leaves a member without noise (clause 6.1): so no sum of
such seconds, times some processor's watts, stands on a card for everybody. What the plan expects to be drawn is public.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.domain.plan import Plan
from shared.domain.release import CohortRound
from shared.exports.measured import Energy

HEADING = "Energy of training"
PASSES = 3
"""Of a training step for one record, in passes forwards: one forwards, two backwards (Kaplan et al. 2020, 2.1)."""


def expected_records(plan: Plan, rounds: Iterable[CohortRound]) -> float:
    """How often a record is expected to have gone through a training step: over members, rounds and copies.

    q · n_declared a step (clause 2.4) of whoever was asked; a round that was asked twice was trained once (clause 3.8).
    """
    asked = {(cohort.number, member_id) for cohort in rounds for member_id in cohort.asked}
    terms = plan.training
    steps = terms.local_steps * terms.augmentation_multiplicity
    return steps * sum(plan.expected_batch_size(member_id) for _, member_id in asked)


def training_section(plan: Plan, rounds: Iterable[CohortRound], energy: Energy) -> dict[str, str]:
    """Heading → Markdown. `energy`: of embedding with the same extractor, as measured for the release."""
    records = expected_records(plan, rounds)
    joules = PASSES * records * energy.joules / energy.records
    grams = PASSES * records * energy.co2_g / energy.records
    text = (
        f"About {_rough(joules)} J, for {_rough(grams)} g of CO₂ at the rate above. An estimate by order of size: "
        "nothing of it was measured where training ran. It is "
        f"{records:,.0f} records expected in all batches (sampling rate × declared size × steps, for every member in "
        f"each round that it was asked in), {PASSES} passes for each (one forwards, two backwards), every pass at the "
        "joules of an embedding above. Left out are noise, masks, transfer, machines that wait, and that members' "
        "machines are others. Members report neither joules nor seconds: both depend on the records drawn, and nothing "
        "that was measured on records leaves a member without noise."
    )
    return {HEADING: text}


def _rough(value: float) -> str:
    """One digit that counts."""
    rounded = float(f"{value:.1g}")
    return f"{rounded:,.0f}" if rounded >= 1.0 else f"{rounded:g}"
