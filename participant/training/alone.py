"""What one member could reach without the others: its own extractor, from the same start, on the same terms.

The comparison is fair or it is worthless, so every number is the plan's: starting weights, clip, noise, q,
learning rates, and as many steps as all rounds have together. The steps are the functions that
local_round.py calls. A server optimiser is not part of it: with `fedavg` and learning rate 1 there is none.

No charge token is asked for, because nothing leaves: a charge pays for a release (clause 6.1), and neither
these weights nor any number measured with them is given to anybody. The noise is there to compare like with
like, not to protect. Whoever publishes these weights publishes something that the ledger does not know of.
"""

from __future__ import annotations

from collections.abc import Callable

from participant.training.dp_sgd import make_engine
from participant.training.head import HeadState, build_head
from participant.training.runtime import apply_threads
from participant.training.step import Vector, clipped_sum, noisy_step, pictures_at_once
from participant.training.workbench import Workbench
from shared.domain.plan import Plan
from shared.extractors.architectures import head_inputs
from shared.extractors.device import choose_device
from shared.extractors.flatten import check_vector
from shared.extractors.vectors import get_flat, set_flat, trainable_layout


def train_alone(
    plan: Plan,
    starting_vector: Vector,
    bench: Workbench,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Vector:
    """Weights float32 [d] after rounds x K private steps on the bench's records only; they stay at home.

    The head starts at zero, whatever lies on the bench, and the bench's head is left alone. It is over this
    member's own classes also where the plan has a shared one: alone there is nobody to share it with. `progress`
    is told (steps done, all steps). Raises InvalidWeights and MixesRecords as local_round does.
    """
    layout = trainable_layout(bench.extractor)
    check_vector(starting_vector, layout)
    apply_threads(bench.runtime)
    inputs = head_inputs(bench.extractor, plan.extractor)
    head = build_head(HeadState.zeros(len(bench.records.classes), inputs))
    device = choose_device(bench.runtime.device)
    engine = make_engine(bench.extractor, head, pictures_at_once(plan, bench), device)
    set_flat(bench.extractor, starting_vector)
    steps = plan.rounds * plan.training.local_steps
    for step in range(steps):
        drawn = bench.records.poisson_draw(bench.noise, plan.privacy.sampling_rate)
        extractor_sum, head_sum = clipped_sum(engine, bench.records, drawn, plan, bench.noise)
        pace = plan.learning_rate_factor(step // plan.training.local_steps + 1)
        noisy_step(bench.extractor, extractor_sum, plan, bench, pace * plan.training.learning_rate)
        noisy_step(head, head_sum, plan, bench, pace * plan.training.head_learning_rate)
        progress(step + 1, steps)
    trained = get_flat(bench.extractor)
    check_vector(trained, layout)
    return trained
