"""A training head that all members share (clause 2.3): it comes with the round's weights and leaves with the sum.

Both are the extractor's coordinates followed by the head's, bias [classes] before weight [classes, inputs]: the
order of `vectors.get_flat`. Without a shared head they are the extractor's alone, and the head stays at home.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from participant.training.dp_sgd import Sum
from participant.training.head import HeadState
from shared.domain.extractor import WeightLayout
from shared.domain.plan import Plan, summed_coordinates
from shared.extractors.flatten import Vector, check_coordinates


def parts_received(
    plan: Plan, weights_vector: Vector, layout: WeightLayout, own: HeadState
) -> tuple[Vector, HeadState]:
    """(the extractor's weights [d], the head to train with): the shared head as it was received, else `own`.

    Raises InvalidWeights unless the vector has exactly these parts and is finite.
    """
    shared, cut = plan.shared_head, layout.trainable_coordinates
    check_coordinates(weights_vector, summed_coordinates(cut, shared))
    if shared is None:
        return weights_vector, own
    classes = len(shared.classes)
    extractor, bias, weight = np.split(weights_vector, [cut, cut + classes])
    return extractor, HeadState(weight.reshape(classes, shared.inputs), bias)


def part_leaving(plan: Plan, extractor_part: Sum, head_part: Sum) -> npt.NDArray[np.floating]:
    """What of a step's sum, or of the weights after it, leaves this member: [d], or [d + h] with a shared head."""
    return extractor_part if plan.shared_head is None else np.concatenate([extractor_part, head_part])
