"""Whether a device has room for one record, and finds its gradient whoever stands beside it.

Asked before a round is charged, for a charge is never given back.

What is left is memory that something else takes after that. Training and validation then go on with fewer records at
once (portions.py). Where not even one fits any more, or a step's pictures do not fit into the machine's own memory,
the round fails: it is charged, is never drawn again (member.py), and before the next one this is asked again.
"""

from __future__ import annotations

import numpy as np
import torch

from participant.training.dp_sgd import make_engine
from participant.training.head import HeadState, build_head
from participant.training.labels import as_the_plan_counts
from participant.training.places import check_places, check_places_in_validation
from participant.training.portions import give_back, is_out_of_memory
from participant.training.step import pictures_at_once
from participant.training.workbench import Workbench
from shared.domain.errors import OutOfMemory, UnsoundPlan
from shared.domain.plan import Plan
from shared.extractors.architectures import head_inputs
from shared.extractors.device import choose_device
from shared.extractors.preprocess import to_input


def check_room(plan: Plan, bench: Workbench) -> None:
    """Move the extractor to the device and take one record's gradient there: a record of zeros, which is nobody's.

    Every round anew, since what else uses the device comes and goes. Raises OutOfMemory; InvalidConfig for a device
    that is not here; UnsoundPlan for an extractor that one record alone cannot train; PlaceDecides.
    """
    device = choose_device(bench.runtime.device)
    classes = len(as_the_plan_counts(bench.records, plan).classes)
    if not _takes_one(plan, bench, classes, device):
        give_back(device)
        raise OutOfMemory(
            f"The device {device.type} has too little memory for the extractor and one record's gradient. Nothing was "
            "charged and nothing was trained. Set another device in participant.toml, or end what else uses this one."
        )
    copies = plan.training.augmentation_multiplicity
    check_places(plan.extractor, classes, pictures_at_once(plan, bench) // copies, copies, device)
    if plan.evaluate_every:
        check_places_in_validation(plan.extractor, classes, bench.runtime.micro_batch, device)


def _takes_one(plan: Plan, bench: Workbench, classes: int, device: torch.device) -> bool:
    spec, copies = plan.extractor, plan.training.augmentation_multiplicity
    head = build_head(HeadState.zeros(classes, head_inputs(bench.extractor, spec)))
    nobody = np.zeros((copies, spec.height, spec.width, spec.channels), np.uint8)
    x, y = torch.from_numpy(to_input(nobody, spec)), torch.zeros(1, dtype=torch.int64)
    try:
        engine = make_engine(bench.extractor, head, copies, device)
        engine.clipped_sum(x, y, plan.privacy.clip_norm_l2, copies)
    except OutOfMemory:
        return False
    except (
        ValueError
    ) as error:  # a normalisation over groups of a single number, which would be zero for everybody
        raise UnsoundPlan(
            f"The plan's {spec.architecture} cannot take the gradient of one record alone ({error}). Nothing was "
            "charged and nothing was trained. Ask for a plan with larger pictures or a wider network."
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
