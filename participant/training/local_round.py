"""What happens to a record in one round: start reading here. Numbers are those of the architecture's walk.

Its other half, what happens to the contributions, is coordinator/runs/round.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from participant.training.dp_sgd import PerExampleEngine, make_engine
from participant.training.head import HeadState, build_head, check_head, head_state
from participant.training.labels import as_the_plan_counts
from participant.training.runtime import apply_threads
from participant.training.shared_head import part_leaving, parts_received
from participant.training.step import (
    Vector,
    clipped_sum,
    noisy_ring_sum,
    noisy_step,
    pictures_at_once,
)
from participant.training.validation import exact_counts, noised_counts
from participant.training.workbench import NoiseShare, Workbench
from shared.domain.crash_points import crash_point
from shared.domain.errors import ChargeMismatch, ConsentMissing, UnsoundPlan
from shared.domain.plan import Plan
from shared.domain.privacy import Mode
from shared.domain.update import NoisyGridSum, Update
from shared.extractors.architectures import head_inputs
from shared.extractors.device import choose_device
from shared.extractors.flatten import check_coordinates
from shared.extractors.vectors import get_flat, set_flat, trainable_layout
from shared.privacy.ledger import ChargeToken
from shared.privacy.mechanism import NoiseSource
from shared.wire.rounds import RoundRequest


def local_round(
    request: RoundRequest,
    plan: Plan,
    token: ChargeToken,
    weights_vector: Vector,
    bench: Workbench,
    share: NoiseShare | None = None,
) -> tuple[Update | NoisyGridSum, HeadState]:
    """Train from `weights_vector` float32 [d], the weights that the coordinator sent.

    Public: request, plan, weights. Private: everything on the bench, and `share` in mode secure. An Update may
    leave (clause 4.1), a NoisyGridSum only under masks (clause 3.2). The head state stays for the next round; a
    shared head comes with the weights and leaves with the update: what is returned of it is of no more use.

    | case | result |
    |---|---|
    | nothing was drawn | an update of noise alone, charged like any other |
    | request for another plan, or the member is not in the plan | ConsentMissing, token unspent |
    | token for another round or other events; spent before | ChargeMismatch, token unspent; TokenRejected |
    | secure without a noise share, local with one; records of another class | UnsoundPlan; UnknownClass; unspent |
    | weights or head of another length or not finite; BatchNorm | InvalidWeights; MixesRecords; unspent |
    """
    _check_request(request, plan, bench.member_id)
    _check_charge(token, request, plan, share)
    records = as_the_plan_counts(bench.records, plan)
    engine, head, device = _set_up(plan, weights_vector, bench, len(records.classes))

    # 2 charge: on disk before this token existed; without it nothing below runs (clauses 7.1, 7.2).
    token.spend()

    # Validation, when it is due: the weights received and the present head, on held-out units (clause 6.2).
    due, at_once = plan.evaluates(request.round_number), bench.runtime.micro_batch
    counts = exact_counts(bench.extractor, head, plan, records, device, at_once) if due else None

    pace = plan.learning_rate_factor(request.round_number)
    for _ in range(plan.training.local_steps):
        # 3 record → batch: each unit independently with probability q; may be empty (clause 2.4).
        drawn = records.poisson_draw(bench.noise, plan.privacy.sampling_rate)
        crash_point("3")

        # 4 batch → clipped sum: extractor and head under one clip, a sum and not a mean (clause 2.2).
        extractor_sum, head_sum = clipped_sum(engine, records, drawn, plan, bench.noise)
        crash_point("4")

        # 5 noise, before anything else sees the sums. What is summed under masks: on the grid, with this member's
        # share; K is 1 then (clauses 3.2, 3.5). The rest, in mode local all of it: in full (clauses 2.3, 4.1).
        if share is None:
            noisy_step(bench.extractor, extractor_sum, plan, bench, pace * plan.training.learning_rate)
        else:
            leaving = part_leaving(plan, extractor_sum, head_sum)
            ring = noisy_ring_sum(leaving, counts, plan, request.round_number, share)
        if share is None or plan.shared_head is None:
            noisy_step(head, head_sum, plan, bench, pace * plan.training.head_learning_rate)
        crash_point("5")

    # 6 update: of the extractor and of a shared head; a member's own head never leaves (clause 2.3).
    if share is not None:
        return NoisyGridSum(request.run_id, request.round_number, plan.digest, ring.data), head_state(head)
    moved = part_leaving(plan, get_flat(bench.extractor), get_flat(head)) - weights_vector
    return _update(request, plan, moved, counts, bench.noise), head_state(head)


def _update(
    request: RoundRequest,
    plan: Plan,
    moved: Vector,
    counts: npt.NDArray[np.int64] | None,
    noise: NoiseSource,
) -> Update:
    """Weights after minus before, and noised counts. Raises InvalidWeights unless every coordinate is finite."""
    check_coordinates(moved, len(moved))
    noised = None if counts is None else noised_counts(counts, plan, noise)
    return Update(request.run_id, request.round_number, plan.digest, moved.data, noised)


def _set_up(
    plan: Plan, weights_vector: Vector, bench: Workbench, classes: int
) -> tuple[PerExampleEngine, nn.Linear, torch.device]:
    """The bench's extractor and the training head at the round's weights, and what clips for both."""
    layout = trainable_layout(bench.extractor)
    extractor_weights, head_before = parts_received(plan, weights_vector, layout, bench.head)
    check_head(head_before, classes, head_inputs(bench.extractor, plan.extractor))
    apply_threads(bench.runtime)
    device, head = choose_device(bench.runtime.device), build_head(head_before)
    engine = make_engine(bench.extractor, head, pictures_at_once(plan, bench), device)
    set_flat(bench.extractor, extractor_weights)
    return engine, head, device


def _check_request(request: RoundRequest, plan: Plan, member_id: str) -> None:
    if request.plan_digest != plan.digest:
        raise ConsentMissing(
            f"Round {request.round_number} of run {request.run_id} is asked under plan "
            f"{request.plan_digest}, this node trains for {plan.digest}. Nothing was trained. Read the new "
            "plan and consent to it."
        )
    if plan.expected_batch_size(member_id) <= 0.0:
        raise ConsentMissing(
            f"Member {member_id} is not a contributor of plan {plan.digest}. Nothing was trained. Ask the "
            "coordinator for a plan that names it."
        )


def _check_charge(token: ChargeToken, request: RoundRequest, plan: Plan, share: NoiseShare | None) -> None:
    paid, due = token.charge, plan.events_of_round(request.round_number)
    names_it = (paid.run_id, paid.round_number, paid.plan_digest) == (
        request.run_id,
        request.round_number,
        plan.digest,
    )
    if not names_it or paid.events != due:
        raise ChargeMismatch(
            f"Round {request.round_number} of run {request.run_id} costs {list(due)}; the charge is for "
            f"round {paid.round_number} of run {paid.run_id} and {list(paid.events)}. Nothing was trained. "
            "Charge the round."
        )
    if (share is None) == (plan.privacy.mode is Mode.SECURE):
        raise UnsoundPlan(
            f"A round of mode {plan.privacy.mode.value} is trained "
            f"{'without' if share is None else 'with'} a share of the noise. Nothing was trained. Update "
            "the member's software."
        )
