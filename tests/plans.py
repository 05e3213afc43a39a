"""A small plan for tests that need one to talk about: each names the terms that it is about."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from shared.domain.extractor import ExtractorSpec
from shared.domain.plan import Plan, PlanMember, ServerOptimizer, TrainingTerms
from shared.domain.privacy import Mode, PrivacyTerms, Unit

SPEC = ExtractorSpec("fixed-mlp", 1, 8, 8, 4, (0.5,), (0.25,), {"hidden": 6, "grid": 2})


def members(count: int, declared_size: int, first: int = 0) -> tuple[PlanMember, ...]:
    """mem_0, mem_1, …, or counted from `first`."""
    return tuple(PlanMember(f"mem_{n}", declared_size) for n in range(first, first + count))


_PLAN = Plan(
    consortium="c",
    extractor_name="x",
    extractor=SPEC,
    starting_weights="sha256:00",
    trainable_coordinates=1,
    training=TrainingTerms(local_steps=1, learning_rate=0.5, head_learning_rate=0.25),
    privacy=PrivacyTerms(
        mode=Mode.LOCAL,
        unit=Unit.RECORD,
        target_epsilon=8.0,
        delta=1e-5,
        clip_norm_l2=1.0,
        noise_multiplier=1.0,
        sampling_rate=0.5,
        evaluation_noise_multiplier=3.0,
    ),
    server=ServerOptimizer("fedavg"),
    rounds=1,
    evaluate_every=0,
    quorum=1,
    colluders=0,
    deadline_s=60.0,
    members=members(1, 1000, first=1),
)


def small_plan(**changes: Any) -> Plan:
    """Mode local, one member, one round; `changes` are fields of the plan, its training or its privacy, by name."""
    training, privacy = (
        replace(terms, **{name: changes.pop(name) for name in _names(terms) & changes.keys()})
        for terms in (_PLAN.training, _PLAN.privacy)
    )
    return replace(_PLAN, training=training, privacy=privacy, **changes)


def _names(terms: TrainingTerms | PrivacyTerms) -> set[str]:
    return {field.name for field in fields(terms)}
