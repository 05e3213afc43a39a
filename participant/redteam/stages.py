"""What an attacker sees of one record, from its bare gradient to what the plan sends: for the attacks that need that.

The attacker is given everything but the record: the weights, the training head, the label, and a batch of that one
record. What the sum holds of others is given too, so that in mode secure only their noise hides the victim.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from participant.redteam.canaries import CLASSES
from participant.redteam.dry_run import DryRun, Floats, RecordsInMemory, Seen, Terms
from participant.redteam.imprint import UNBOUNDED
from participant.redteam.pictures import Pixels
from participant.training.dp_sgd import make_engine
from participant.training.head import HeadState, build_head
from shared.domain.extractor import ExtractorSpec
from shared.domain.plan import SecureTerms
from shared.extractors.architectures import head_inputs
from shared.extractors.preprocess import to_input
from shared.secagg.fixed_point import from_ring, to_ring
from shared.secagg.masks import add_mask

Gradient = Callable[[Pixels, float], tuple[Floats, Floats]]
"""uint8 [1, H, W, C], clip norm → the extractor's part [d], the training head's part [h]."""
LABEL = 0
"""Of every victim, and known."""


@dataclass(frozen=True)
class Stage:
    """One vector that somebody gets to see."""

    name: str
    vector: Floats
    """[d] of the extractor, in units of the gradient; what a mask leaves of it is of any size."""
    clip_norm_l2: float
    """What the record's gradient was clipped to in it."""
    noise_multiplier: float
    """Std of the noise in it, in units of how far one record moves it: 0 where nothing protects, infinity where a
    mask does."""

    @property
    def protects(self) -> bool:
        """Whether a protection of the plan was in place."""
        return self.noise_multiplier > 0.0


def public_head(extractor: nn.Module, spec: ExtractorSpec) -> HeadState:
    """A head of no meaning: one at zero, as rounds start with, would let no gradient through."""
    generator, inputs = np.random.Generator(np.random.PCG64(6)), head_inputs(extractor, spec)
    weight = generator.normal(0.0, 1.0, (len(CLASSES), inputs)) / inputs**0.5
    return HeadState(weight.astype(np.float32), np.zeros(len(CLASSES), np.float32))


def gradient_of(extractor: nn.Module, head: HeadState, spec: ExtractorSpec) -> Gradient:
    """One record's clipped gradient by the member's own engine.

    `extractor` must be another module than the one that is trained: the attack knows the weights before that.
    """
    engine = make_engine(extractor, build_head(head), micro_batch=1, device=torch.device("cpu"))
    label = torch.full((1,), LABEL)

    def gradient(record: Pixels, clip_norm_l2: float) -> tuple[Floats, Floats]:
        parts = engine.clipped_sum(torch.from_numpy(to_input(record, spec)), label, clip_norm_l2)
        return parts[0].astype(np.float64), parts[1].astype(np.float64)

    return gradient


def stages_of(dry: DryRun, gradient: Gradient, record: Pixels) -> tuple[Stage, ...]:
    """All stages of one record, uint8 [1, H, W, C]; those behind the clip come from a round of the real member code."""
    plan = dry.plan
    terms = Terms(plan.privacy.noise_multiplier, augmented=False)
    seen = dry.round(RecordsInMemory(record, np.full(1, LABEL, dtype=np.int64), CLASSES), terms)
    clip_norm_l2 = plan.privacy.clip_norm_l2
    return (
        Stage("nothing", gradient(record, UNBOUNDED)[0], UNBOUNDED, 0.0),
        Stage("clip only", gradient(record, clip_norm_l2)[0], clip_norm_l2, 0.0),
        *(Stage(name, vector, clip_norm_l2, noise) for name, vector, noise in _leaving(dry, seen, terms)),
    )


def _leaving(dry: DryRun, seen: Seen, terms: Terms) -> list[tuple[str, Floats, float]]:
    """Name, vector and noise multiplier of what others than the member get to see."""
    plan = dry.plan_of(terms)
    own, (whole, *_) = plan.sensitivity_l2 * seen.extractor, plan.events_of_round(1)
    if plan.secure is None:
        return [("clip and noise", own, whole.noise_multiplier)]
    together, (alone, *_) = dry.with_honest_shares(seen, terms), plan.events_alone_of_round(1)
    return [
        ("noise share, unmasked", own, alone.noise_multiplier),
        ("under masks", _masked(own, plan.secure), math.inf),
        ("secure sum", plan.sensitivity_l2 * together, whole.noise_multiplier),
    ]


def _masked(vector: Floats, secure: SecureTerms) -> Floats:
    """The member's part as the coordinator holds it: ring elements under one mask that it has no key of (5.3)."""
    # Any whole numbers: under the mask every ring element is uniform, whatever was there.
    ring = to_ring(np.rint(vector / secure.grid_width).astype(np.int64), secure.ring_bits)
    add_mask(ring, os.urandom(32))
    return from_ring(ring, secure.ring_bits).astype(np.float64)
