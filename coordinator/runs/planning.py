"""From an admin's plan.toml to a complete Plan, and the check of what it costs and whether it is sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.runs.draft import PlanDraft
from coordinator.workers.probe import Probe
from shared.domain.consortium import Member, MemberState, Purpose
from shared.domain.errors import InvalidConfig, NotFound, UnsoundPlan
from shared.domain.plan import AUGMENTATIONS, Plan, PlanMember, least_quorum
from shared.domain.privacy import GaussianEvent, Mode, PrivacyTerms
from shared.privacy.accountant import calibrate_noise_multiplier, epsilon, highest_delta
from shared.wire.rounds import BYTES_PER_COORDINATE

SECOND_DELTA = 1e-6
"""Clause 7.35: ε is shown at the plan's δ and at this one."""
LEAST_NOISE = 0.3
"""Below this noise multiplier no plan is accepted, whatever its ε: an accounting slip would cost too much."""


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
    _check_numbers(draft)
    terms = _calibrated(draft)
    plan = Plan(
        consortium=consortium,
        extractor_name=draft.extractor_name,
        extractor=draft.extractor,
        starting_weights=probe.starting_weights,
        trainable_coordinates=probe.trainable_coordinates,
        training=draft.training,
        privacy=terms,
        server=draft.server,
        rounds=draft.rounds,
        evaluate_every=draft.evaluate_every,
        quorum=draft.quorum if draft.quorum is not None else least_quorum(len(chosen)),
        colluders=draft.colluders,
        deadline_s=draft.deadline_s,
        members=tuple(PlanMember(m.id, m.name, m.declared_size) for m in chosen),
    )
    check_soundness(plan)
    return PlanCheck(plan, _costs(plan, probe), _bytes_per_round(plan))


def check_soundness(plan: Plan) -> None:
    """Raise UnsoundPlan where the privacy argument does not hold as written (clauses 2 to 7)."""
    terms = plan.privacy
    if terms.mode is not Mode.LOCAL:
        raise UnsoundPlan(
            "This version runs mode local; the plan asks for mode secure. Nothing was proposed. "
            'Set mode = "local".'
        )
    limit = min(highest_delta(m.declared_size) for m in plan.members)
    if not 0.0 < terms.delta <= limit:
        raise UnsoundPlan(
            f"δ may be at most {limit:g} here (1e-5 and one tenth of a unit's share, clause 7.35), the plan "
            f"has {terms.delta:g}. Nothing was proposed. Lower δ."
        )
    if terms.noise_multiplier < LEAST_NOISE:
        raise UnsoundPlan(
            f"The noise multiplier must be at least {LEAST_NOISE}, the plan has {terms.noise_multiplier:g}. "
            "Nothing was proposed. Lower ε, or plan fewer rounds."
        )
    spent = epsilon(plan.events_of_run(), terms.delta)
    if spent > terms.target_epsilon:
        raise UnsoundPlan(
            f"The plan promises ε = {terms.target_epsilon:g} and its rounds cost {spent:.3f}. Nothing was "
            "proposed. Raise the noise, or plan fewer rounds."
        )
    if not 1 <= plan.quorum <= len(plan.members):
        raise UnsoundPlan(
            f"A quorum for {len(plan.members)} members is 1 to {len(plan.members)}, the plan has "
            f"{plan.quorum}. Nothing was proposed."
        )


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


def _check_numbers(draft: PlanDraft) -> None:
    rules: Mapping[str, bool] = {
        "rounds must be at least 1": draft.rounds >= 1,
        "training.local_steps must be at least 1": draft.training.local_steps >= 1,
        "training.learning_rate must be above 0": draft.training.learning_rate > 0,
        "training.head_learning_rate must be above 0": draft.training.head_learning_rate > 0,
        "privacy.sampling_rate must be above 0 and at most 1": 0 < draft.privacy.sampling_rate <= 1,
        "privacy.clip_norm_l2 must be above 0": draft.privacy.clip_norm_l2 > 0,
        "privacy.target_epsilon must be above 0": draft.privacy.target_epsilon > 0,
        "privacy.evaluation_noise_multiplier must be at least 1": (
            draft.privacy.evaluation_noise_multiplier >= 1
        ),
        "evaluate_every must be 0 or more": draft.evaluate_every >= 0,
        "deadline_s must be at least 1": draft.deadline_s >= 1,
        f"training.augmentations must be among {', '.join(AUGMENTATIONS)}": (
            set(draft.training.augmentations) <= set(AUGMENTATIONS)
        ),
        "server.name must be fedavg or fedadam": draft.server.name in ("fedavg", "fedadam"),
        "server.averaging_decay must be at least 0 and below 1": 0 <= draft.server.averaging_decay < 1,
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise InvalidConfig(f"plan: {'; '.join(broken)}. Nothing was proposed.")


def _calibrated(draft: PlanDraft) -> PrivacyTerms:
    """σ as small as the target ε allows once validation is paid for, unless the draft fixes it."""
    wanted = draft.privacy
    sigma = wanted.noise_multiplier
    if sigma is None:
        evaluations = draft.rounds // draft.evaluate_every if draft.evaluate_every else 0
        others = [GaussianEvent(wanted.evaluation_noise_multiplier, 1.0, evaluations)] if evaluations else []
        steps = draft.rounds * draft.training.local_steps
        sigma = calibrate_noise_multiplier(
            wanted.target_epsilon, wanted.delta, wanted.sampling_rate, steps, others
        )
    return PrivacyTerms(
        mode=wanted.mode,
        unit=wanted.unit,
        target_epsilon=wanted.target_epsilon,
        delta=wanted.delta,
        clip_norm_l2=wanted.clip_norm_l2,
        noise_multiplier=max(sigma, LEAST_NOISE) if wanted.noise_multiplier is None else sigma,
        sampling_rate=wanted.sampling_rate,
        evaluation_noise_multiplier=wanted.evaluation_noise_multiplier,
    )


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
