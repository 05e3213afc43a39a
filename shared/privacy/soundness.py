"""Whether a plan's privacy argument holds as written: asked by the coordinator, and again by every member.

A member does not trust the coordinator's check: it runs this one on its own machine, before consent and
before every round (clause 7.3). The bounds are not taste. With a clip norm near the smallest float32 the
computed norm of a gradient underflows and nothing is clipped; with a learning rate near the largest one an
update overflows, and whether it did would tell something that no charge pays for.
"""

from __future__ import annotations

import math

from shared.domain.errors import UnsoundPlan
from shared.domain.extractor import RecordKind
from shared.domain.plan import AUGMENTATIONS, SCHEDULES, Plan, ServerOptimizer, SharedHead
from shared.domain.privacy import REPORTED_DELTA, Mode
from shared.privacy.accountant import epsilon, highest_delta
from shared.privacy.secure_soundness import check_grid, check_parties, secure_numbers

LEAST_NOISE = 0.3
"""Below this noise multiplier no plan is accepted, whatever its ε: an accounting slip would cost too much."""
MOST_NOISE = 1e4
LEAST_CLIP, MOST_CLIP = 1e-4, 1e4
MOST_LEARNING_RATE = 1e4
MOST_STEPS = 1_000_000
"""Rounds times local steps; also what keeps the accountant fast."""
MOST_COPIES = 64
MOST_CLASSES, MOST_CLASS_CHARACTERS = 1000, 100
"""Of a shared training head: every name stands in the plan, and so in every release."""
MOST_BATCH, MOST_COORDINATES = 100_000, 100_000_000
"""Expected units a step, and numbers of an update: the bound on rounding, which the accountant's slack on the clip norm
pays for, holds for twice as many units (participant/training/dp_sgd.py)."""
LEAST_BATCH = 1.0
"""Expected units a step: the divisor of clause 2.4 must not blow the noise up."""
_REFUSED = "The plan was not accepted."


def check_soundness(plan: Plan) -> None:
    """Raise UnsoundPlan, saying which rule is broken, unless clauses 2 to 7 hold for `plan`."""
    check_numbers(plan)
    terms = plan.privacy
    secure = terms.mode is Mode.SECURE
    if secure:
        check_parties(plan)
    limit = min(highest_delta(m.declared_size) for m in plan.members)
    if not 0.0 < terms.delta <= limit:
        raise UnsoundPlan(
            f"δ may be at most {limit:g} here (1e-5 and one tenth of a unit's share, clause 7.35), the plan "
            f"has {terms.delta:g}. {_REFUSED} Lower δ."
        )
    if not LEAST_NOISE <= terms.noise_multiplier <= MOST_NOISE:
        raise UnsoundPlan(
            f"The noise multiplier must be from {LEAST_NOISE} to {MOST_NOISE:g}, the plan has "
            f"{terms.noise_multiplier:g}. {_REFUSED} Change ε, or the number of rounds."
        )
    if secure:
        check_grid(plan)
    if not math.isfinite(epsilon(plan.events_alone_of_run(), REPORTED_DELTA)):
        raise UnsoundPlan(
            f"Should everybody else deviate, no bound on ε is left for a member at δ {REPORTED_DELTA:g} (clause "
            f"3.7): its own share of the noise is too small. {_REFUSED} Raise the noise, or plan fewer rounds."
        )
    spent = epsilon(plan.events_of_run(), terms.delta)
    if not spent <= terms.target_epsilon:
        raise UnsoundPlan(
            f"The plan promises ε = {terms.target_epsilon:g} and its rounds cost {spent:.3f}. {_REFUSED} "
            "Raise the noise, or plan fewer rounds."
        )


def check_numbers(plan: Plan) -> None:
    """Raise UnsoundPlan, with every broken rule at once, unless each number is inside its bounds."""
    terms, training = plan.privacy, plan.training
    members = plan.members
    ids = {member.member_id for member in members}
    rules = {
        "there must be at least one member, each named once": 0 < len(members) == len(ids),
        f"quorum must be 1 to {len(members)} for {len(members)} members": 1 <= plan.quorum <= len(members),
        "rounds must be at least 1": plan.rounds >= 1,
        "the extractor must have at least 1 trainable coordinate": plan.extractor_coordinates >= 1,
        "training.local_steps must be at least 1": training.local_steps >= 1,
        f"rounds times local_steps must be at most {MOST_STEPS:,}": (
            plan.rounds * training.local_steps <= MOST_STEPS
        ),
        f"training.learning_rate must be above 0 and at most {MOST_LEARNING_RATE:g}": (
            0.0 < training.learning_rate <= MOST_LEARNING_RATE
        ),
        f"training.head_learning_rate must be above 0 and at most {MOST_LEARNING_RATE:g}": (
            0.0 < training.head_learning_rate <= MOST_LEARNING_RATE
        ),
        f"training.schedule must be among {', '.join(SCHEDULES)}": training.schedule in SCHEDULES,
        f"training.augmentations must be among {', '.join(AUGMENTATIONS)}": (
            set(training.augmentations) <= set(AUGMENTATIONS)
        ),
        "training.augmentations must be empty for an extractor of texts: they change pictures": (
            plan.extractor.kind is RecordKind.IMAGE or not training.augmentations
        ),
        f"training.augmentation_multiplicity must be 1 to {MOST_COPIES}, and 1 without augmentations": (
            1 <= training.augmentation_multiplicity <= (MOST_COPIES if training.augmentations else 1)
        ),
        "privacy.sampling_rate must be above 0 and at most 1": 0.0 < terms.sampling_rate <= 1.0,
        f"sampling_rate times declared size must be {LEAST_BATCH:g} to {MOST_BATCH:,} for each member": all(
            LEAST_BATCH <= plan.expected_batch_size(member.member_id) <= MOST_BATCH for member in members
        ),
        f"there may be at most {MOST_COORDINATES:,} trained coordinates": (
            plan.trainable_coordinates <= MOST_COORDINATES
        ),
        f"privacy.clip_norm_l2 must be from {LEAST_CLIP:g} to {MOST_CLIP:g}": (
            LEAST_CLIP <= terms.clip_norm_l2 <= MOST_CLIP
        ),
        "privacy.target_epsilon must be above 0 and finite": 0.0 < terms.target_epsilon < math.inf,
        f"privacy.evaluation_noise_multiplier must be from 1 to {MOST_NOISE:g}": (
            1.0 <= terms.evaluation_noise_multiplier <= MOST_NOISE
        ),
        "evaluate_every must be 0 or more": plan.evaluate_every >= 0,
        "colluders must be 0 or more": plan.colluders >= 0,
        "deadline_s must be 0.1 to 86400": 0.1 <= plan.deadline_s <= 86400.0,
    }
    rules |= _server_numbers(plan.server)
    rules |= _head_numbers(plan.shared_head, plan.extractor_coordinates)
    rules |= secure_numbers(plan.secure, terms.mode is Mode.SECURE)
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise UnsoundPlan(f"plan: {'; '.join(broken)}. {_REFUSED} Correct these numbers.")


def _server_numbers(server: ServerOptimizer) -> dict[str, bool]:
    """Rules on what the coordinator does with a sum, each with whether it holds."""
    return {
        "server.name must be fedavg or fedadam": server.name in ("fedavg", "fedadam"),
        f"server.learning_rate must be above 0 and at most {MOST_LEARNING_RATE:g}": (
            0.0 < server.learning_rate <= MOST_LEARNING_RATE
        ),
        "server.beta1 and beta2 must be at least 0 and below 1": (
            0.0 <= server.beta1 < 1.0 and 0.0 <= server.beta2 < 1.0
        ),
        "server.epsilon must be above 0": server.epsilon > 0.0,
        "server.averaging_decay must be at least 0 and below 1": 0.0 <= server.averaging_decay < 1.0,
    }


def _head_numbers(head: SharedHead | None, extractor_coordinates: int) -> dict[str, bool]:
    """Rules on a shared training head (clause 2.3), each with whether it holds."""
    if head is None:
        return {}
    names = head.classes
    legible = all(0 < len(name) <= MOST_CLASS_CHARACTERS and name.isprintable() for name in names)
    return {
        f"training.shared_classes must be 2 to {MOST_CLASSES} different names": (
            2 <= len(names) <= MOST_CLASSES and len(set(names)) == len(names)
        ),
        f"each of training.shared_classes must have 1 to {MOST_CLASS_CHARACTERS} printable characters": legible,
        "shared_head.inputs must be at least 1": head.inputs >= 1,
        "trainable_coordinates must hold the extractor's and the shared head's": extractor_coordinates >= 0,
    }
