"""Whether a plan's privacy argument holds as written: asked by the coordinator, and again by every member.

A member does not trust the coordinator's check: it runs this one on its own machine, before consent and
before every round (clause 7.3). The bounds are not taste. With a clip norm near the smallest float32 the
computed norm of a gradient underflows and nothing is clipped; with a learning rate near the largest one an
update overflows, and whether it did would tell something that no charge pays for.
"""

from __future__ import annotations

import math

from shared.domain.errors import UnsoundPlan
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.plan import (
    AUGMENTATIONS,
    MOST_PURPOSE_CHARACTERS,
    SCHEDULES,
    Plan,
    ServerOptimizer,
    SharedHead,
)
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
LEAST_SCALE, MOST_SCALE = 1e-4, 1e4
"""Of what pixels are divided by; mean as well is at most the second: beyond, a float32 overflows or is 0."""
MOST_SHOWN = 40
"""Characters or items of what a plan says that a refusal repeats."""
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
    """Raise UnsoundPlan, with every broken rule and what was found, unless each number is inside its bounds."""
    terms, members = plan.privacy, plan.members
    ids = {member.member_id for member in members}
    batches = [plan.expected_batch_size(member.member_id) for member in members]
    rules = {
        f"there must be at least one member, each named once; found {len(members)} lines of {len(ids)} members": (
            0 < len(members) == len(ids)
        ),
        f"quorum must be 1 to {len(members)} for {len(members)} members, found {plan.quorum}": (
            1 <= plan.quorum <= len(members)
        ),
        f"rounds must be at least 1, found {plan.rounds}": plan.rounds >= 1,
        f"the extractor must have at least 1 trainable coordinate, found {plan.extractor_coordinates}": (
            plan.extractor_coordinates >= 1
        ),
        f"privacy.sampling_rate must be above 0 and at most 1, found {terms.sampling_rate:g}": (
            0.0 < terms.sampling_rate <= 1.0
        ),
        f"sampling_rate times declared size must be {LEAST_BATCH:g} to {MOST_BATCH:,} for each member, found "
        f"{min(batches, default=0.0):g} to {max(batches, default=0.0):g}": all(
            LEAST_BATCH <= batch <= MOST_BATCH for batch in batches
        ),
        f"there may be at most {MOST_COORDINATES:,} trained coordinates, found {plan.trainable_coordinates:,}": (
            plan.trainable_coordinates <= MOST_COORDINATES
        ),
        f"privacy.clip_norm_l2 must be from {LEAST_CLIP:g} to {MOST_CLIP:g}, found {terms.clip_norm_l2:g}": (
            LEAST_CLIP <= terms.clip_norm_l2 <= MOST_CLIP
        ),
        f"privacy.target_epsilon must be above 0 and finite, found {terms.target_epsilon:g}": (
            0.0 < terms.target_epsilon < math.inf
        ),
        f"privacy.evaluation_noise_multiplier must be from 1 to {MOST_NOISE:g}, found "
        f"{terms.evaluation_noise_multiplier:g}": 1.0 <= terms.evaluation_noise_multiplier <= MOST_NOISE,
        f"evaluate_every must be 0 or more, found {plan.evaluate_every}": plan.evaluate_every >= 0,
        f"colluders must be 0 or more, found {plan.colluders}": plan.colluders >= 0,
        f"deadline_s must be 0.1 to 86400, found {plan.deadline_s:g}": 0.1 <= plan.deadline_s <= 86400.0,
        f"purpose must be one line of at most {MOST_PURPOSE_CHARACTERS} characters that can be seen, found "
        f"{len(plan.purpose):,} that begin {plan.purpose[:MOST_SHOWN]!r}": (
            len(plan.purpose) <= MOST_PURPOSE_CHARACTERS and plan.purpose.isprintable()
        ),
    }
    rules |= _extractor_numbers(plan.extractor)
    rules |= _training_numbers(plan)
    rules |= _server_numbers(plan.server)
    rules |= _head_numbers(plan.shared_head, plan.extractor_coordinates)
    rules |= secure_numbers(plan.secure, terms.mode is Mode.SECURE)
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise UnsoundPlan(f"plan: {'; '.join(broken)}. {_REFUSED} Correct these numbers.")


def _extractor_numbers(spec: ExtractorSpec) -> dict[str, bool]:
    """Rules on how a picture becomes numbers, each with whether it holds: no member could train with others."""
    if spec.kind is RecordKind.TEXT:
        return {}
    counts = "1 number" if spec.channels == 1 else f"1 or {spec.channels} numbers"
    rules = {
        f"extractor.channels must be 1 (grey) or 3 (RGB), found {spec.channels}": spec.channels in (1, 3)
    }
    for name, values in (("mean", spec.mean), ("std", spec.std)):
        rules[f"extractor.{name} must have {counts}, found {len(values)}"] = len(values) in (1, spec.channels)
    shown = {name: list(values[:MOST_SHOWN]) for name, values in (("mean", spec.mean), ("std", spec.std))}
    rules[f"extractor.mean must be from -{MOST_SCALE:g} to {MOST_SCALE:g}, found {shown['mean']}"] = all(
        abs(value) <= MOST_SCALE for value in spec.mean
    )
    rules[f"extractor.std must be from {LEAST_SCALE:g} to {MOST_SCALE:g}, found {shown['std']}"] = all(
        LEAST_SCALE <= value <= MOST_SCALE for value in spec.std
    )
    return rules


def _training_numbers(plan: Plan) -> dict[str, bool]:
    """Rules on what a member does in a round, each with whether it holds."""
    training = plan.training
    copies, most_copies = training.augmentation_multiplicity, MOST_COPIES if training.augmentations else 1
    steps = plan.rounds * training.local_steps
    named = ", ".join(name[:MOST_SHOWN] for name in training.augmentations[:MOST_SHOWN]) or "none"
    rules = {
        f"training.local_steps must be at least 1, found {training.local_steps}": training.local_steps >= 1,
        f"rounds times local_steps must be at most {MOST_STEPS:,}, found {steps:,}": steps <= MOST_STEPS,
        f"training.schedule must be among {', '.join(SCHEDULES)}; found {training.schedule[:MOST_SHOWN]!r}": (
            training.schedule in SCHEDULES
        ),
        f"training.augmentations must be among {', '.join(AUGMENTATIONS)}; found {named}": (
            set(training.augmentations) <= set(AUGMENTATIONS)
        ),
        f"training.augmentations must be empty for an extractor of texts: they change pictures; found {named}": (
            plan.extractor.kind is RecordKind.IMAGE or not training.augmentations
        ),
        f"training.augmentation_multiplicity must be 1 to {MOST_COPIES}, and 1 without augmentations; found "
        f"{copies}": 1 <= copies <= most_copies,
    }
    rates = {
        "learning_rate": training.learning_rate,
        "head_learning_rate": training.head_learning_rate,
    }
    for name, rate in rates.items():
        rules[f"training.{name} must be above 0 and at most {MOST_LEARNING_RATE:g}, found {rate:g}"] = (
            0.0 < rate <= MOST_LEARNING_RATE
        )
    return rules


def _server_numbers(server: ServerOptimizer) -> dict[str, bool]:
    """Rules on what the coordinator does with a sum, each with whether it holds."""
    return {
        f"server.name must be fedavg or fedadam, found {server.name[:MOST_SHOWN]!r}": (
            server.name in ("fedavg", "fedadam")
        ),
        f"server.learning_rate must be above 0 and at most {MOST_LEARNING_RATE:g}, found {server.learning_rate:g}": (
            0.0 < server.learning_rate <= MOST_LEARNING_RATE
        ),
        f"server.beta1 and beta2 must be at least 0 and below 1, found {server.beta1:g} and {server.beta2:g}": (
            0.0 <= server.beta1 < 1.0 and 0.0 <= server.beta2 < 1.0
        ),
        f"server.epsilon must be above 0, found {server.epsilon:g}": server.epsilon > 0.0,
        f"server.averaging_decay must be at least 0 and below 1, found {server.averaging_decay:g}": (
            0.0 <= server.averaging_decay < 1.0
        ),
    }


def _head_numbers(head: SharedHead | None, extractor_coordinates: int) -> dict[str, bool]:
    """Rules on a shared training head (clause 2.3), each with whether it holds."""
    if head is None:
        return {}
    names = head.classes
    odd = [name for name in names if not (0 < len(name) <= MOST_CLASS_CHARACTERS and name.isprintable())]
    different = len(set(names))
    return {
        f"training.shared_classes must be 2 to {MOST_CLASSES} different names, found {len(names)} of which "
        f"{different} differ": 2 <= len(names) <= MOST_CLASSES and different == len(names),
        f"each of training.shared_classes must have 1 to {MOST_CLASS_CHARACTERS} printable characters, found "
        f"{''.join(odd[:1])[:MOST_SHOWN]!r}": not odd,
        f"shared_head.inputs must be at least 1, found {head.inputs}": head.inputs >= 1,
        "trainable_coordinates must hold the extractor's and the shared head's, and lack "
        f"{-extractor_coordinates:,}": extractor_coordinates >= 0,
    }
