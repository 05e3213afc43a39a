"""From an admin's plan.toml to a complete Plan, and the check of what it costs and whether it is sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from coordinator.runs.draft import PlanDraft
from coordinator.workers.probe import Probe
from shared.domain.consortium import Member, MemberState, Purpose
from shared.domain.errors import NotFound, UnsoundPlan
from shared.domain.plan import Plan, PlanMember, least_quorum
from shared.domain.privacy import PrivacyTerms
from shared.privacy.accountant import calibrate_noise_multiplier, epsilon
from shared.privacy.soundness import LEAST_NOISE, check_numbers, check_soundness
from shared.wire.rounds import BYTES_PER_COORDINATE

SECOND_DELTA = 1e-6
"""Clause 7.35: ε is shown at the plan's δ and at this one."""


@dataclass(frozen=True)
class MemberCost:
    """What the plan costs one member if every round happens."""

    name: str
    expected_batch_size: float
    epsilon: float
    epsilon_at_second_delta: float
    seconds_per_round: float


@dataclass(frozen=True)
class PlanCheck:
    """The answer of `plan check`: who pays what, how long a round takes, how many bytes cross."""

    plan: Plan
    costs: tuple[MemberCost, ...]
    bytes_per_round: int
    """Up and down, all members together."""


def complete(draft: PlanDraft, consortium: str, members: Sequence[Member], probe: Probe) -> PlanCheck:
    """The full plan and its cost. Raises UnsoundPlan, InvalidConfig, NotFound; see each rule below."""
    chosen = _contributors(draft, members)
    wanted = draft.privacy
    plan = Plan(
        consortium=consortium,
        extractor_name=draft.extractor_name,
        extractor=draft.extractor,
        starting_weights=probe.starting_weights,
        trainable_coordinates=probe.trainable_coordinates,
        training=draft.training,
        privacy=PrivacyTerms(
            mode=wanted.mode,
            unit=wanted.unit,
            target_epsilon=wanted.target_epsilon,
            delta=wanted.delta,
            clip_norm_l2=wanted.clip_norm_l2,
            noise_multiplier=1.0 if wanted.noise_multiplier is None else wanted.noise_multiplier,
            sampling_rate=wanted.sampling_rate,
            evaluation_noise_multiplier=wanted.evaluation_noise_multiplier,
        ),
        server=draft.server,
        rounds=draft.rounds,
        evaluate_every=draft.evaluate_every,
        quorum=draft.quorum if draft.quorum is not None else least_quorum(len(chosen)),
        colluders=draft.colluders,
        deadline_s=draft.deadline_s,
        members=tuple(PlanMember(m.id, m.name, m.declared_size) for m in chosen),
    )
    check_numbers(plan)
    if wanted.noise_multiplier is None:
        terms = replace(plan.privacy, noise_multiplier=_noise_multiplier(plan))
        plan = replace(plan, privacy=terms)
    check_soundness(plan)
    return PlanCheck(plan, _costs(plan, probe), _bytes_per_round(plan))


def _contributors(draft: PlanDraft, members: Sequence[Member]) -> list[Member]:
    able = {
        m.name: m
        for m in members
        if m.purpose is Purpose.CONTRIBUTE and m.state is MemberState.ACTIVE and m.declared_size > 0
    }
    if draft.members is None:
        chosen = list(able.values())
    else:
        unknown = [name for name in draft.members if name not in able]
        if unknown:
            raise NotFound(
                f"{', '.join(unknown)}: no active contributor with a declared size has that name. Nothing "
                "was proposed. List the members to see who is there."
            )
        twice = sorted({name for name in draft.members if draft.members.count(name) > 1})
        if twice:
            raise UnsoundPlan(
                f"Each organisation contributes once (clause 5.1), {', '.join(twice)} is named more often. "
                "Nothing was proposed. Name each member once."
            )
        chosen = [able[name] for name in draft.members]
    if not chosen:
        raise UnsoundPlan("A plan needs at least one active contributor, there is none. Invite one first.")
    return sorted(chosen, key=lambda m: m.id)


def _noise_multiplier(plan: Plan) -> float:
    """σ as small as the target ε allows once validation is paid for."""
    terms = plan.privacy
    sigma = calibrate_noise_multiplier(
        terms.target_epsilon,
        terms.delta,
        terms.sampling_rate,
        plan.rounds * plan.training.local_steps,
        plan.validation_events_of_run(),
    )
    return max(sigma, LEAST_NOISE)


def _costs(plan: Plan, probe: Probe) -> tuple[MemberCost, ...]:
    events = plan.events_of_run()
    at_delta = epsilon(events, plan.privacy.delta)
    at_second = epsilon(events, SECOND_DELTA)
    return tuple(
        MemberCost(
            name=m.name,
            expected_batch_size=plan.expected_batch_size(m.member_id),
            epsilon=at_delta,
            epsilon_at_second_delta=at_second,
            seconds_per_round=probe.seconds_per_record
            * plan.expected_batch_size(m.member_id)
            * plan.training.local_steps,
        )
        for m in plan.members
    )


def _bytes_per_round(plan: Plan) -> int:
    return 2 * BYTES_PER_COORDINATE * plan.trainable_coordinates * len(plan.members)
