"""From an admin's plan.toml to a complete Plan, and the check of what it costs and whether it is sound."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from coordinator.audit.masking import holds_secret
from coordinator.members.names import Names
from coordinator.runs.draft import PlanDraft
from coordinator.runs.predecessors import named
from coordinator.runs.secure_planning import (
    NoiseFigures,
    grid_cost,
    noise_figures,
    provisional_terms,
    with_grid,
)
from coordinator.workers.probe import Probe
from shared.domain.consortium import Member, MemberState, Purpose
from shared.domain.errors import InvalidConfig, NotFound, UnsoundPlan
from shared.domain.plan import (
    Plan,
    PlanMember,
    SecureTerms,
    SharedHead,
    default_colluders,
    least_quorum,
    summed_coordinates,
)
from shared.domain.privacy import REPORTED_DELTA, Mode, PrivacyTerms
from shared.domain.release import NEW_EXTRACTOR_NAME, Predecessor
from shared.privacy.accountant import calibrate_noise_multiplier, epsilon
from shared.privacy.distributed import additive_slack
from shared.privacy.secure_soundness import LEAST_MEMBERS, check_parties
from shared.privacy.soundness import LEAST_NOISE, check_numbers, check_soundness
from shared.release.certificate import Spend
from shared.release.lineage import composed, links_behind, spends_of
from shared.secagg.graph import choose_graph
from shared.wire.rounds import BYTES_PER_COORDINATE

_NO_GRID_YET = SecureTerms(grid_width=1.0, ring_bits=32, tolerance_steps=0, mask_reach=0, share_threshold=1)
"""Stands in until quorum and colluders are known to be sound."""


@dataclass(frozen=True)
class MemberCost:
    """What the plan costs one member if every round happens."""

    member_id: str
    name: str
    expected_batch_size: float
    epsilon: float
    epsilon_at_second_delta: float
    epsilon_alone: float
    """The bound if every other member and the coordinator deviate (clause 3.7); may be infinite."""
    epsilon_alone_at_second_delta: float
    seconds_per_round: float | None
    """None where nothing is known of how fast the extractor trains."""


@dataclass(frozen=True)
class CostWithStart:
    """What the certificate of the plan's release will state if every round happens: the highest of any member, with
    what the starting release cost it before; at the plan's δ."""

    release: str
    """The starting release."""
    epsilon: float
    epsilon_alone: float


@dataclass(frozen=True)
class PlanCheck:
    """The answer of `plan check`: who pays what, how noisy a round is, how long it takes, how many bytes cross."""

    plan: Plan
    costs: tuple[MemberCost, ...]
    bytes_per_round: int
    """Up and down, all members together."""
    noise: NoiseFigures
    grid_cost: float
    """By how much the grid raises the noise, as a part (clause 3.1)."""
    additive_slack: float
    """What ε could be more by, as a sum of discrete Gaussians is not one (clause 3.2): less than is rounded up."""
    neighbours: int
    """Members with whom each shares a mask; 0 in mode local."""
    notes: tuple[str, ...] = ()
    """What was decided for the admin, and why."""
    with_start: CostWithStart | None = None
    """None where the plan starts from no trained release."""


def complete(
    draft: PlanDraft,
    consortium: str,
    members: Sequence[Member],
    probe: Probe,
    predecessor: Predecessor | None = None,
) -> PlanCheck:
    """The full plan and its cost. Raises UnsoundPlan, InvalidConfig, NotFound; see each rule below.

    `predecessor`: of the trained release that it starts from, if it starts from one.
    """
    _check_name(draft.extractor_name)
    chosen = _contributors(draft, members)
    mode, notes = _mode(draft, len(chosen))
    wanted, head = draft.privacy, _shared_head(draft, probe)
    plan = Plan(
        consortium=consortium,
        extractor_name=draft.extractor_name,
        extractor=draft.extractor,
        starting_weights=probe.starting_weights,
        trainable_coordinates=summed_coordinates(probe.trainable_coordinates, head),
        training=draft.training.terms,
        privacy=PrivacyTerms(
            mode=mode,
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
        colluders=_colluders(draft, mode, len(chosen)),
        deadline_s=draft.deadline_s,
        members=tuple(PlanMember(m.id, m.declared_size) for m in chosen),
        secure=_NO_GRID_YET if mode is Mode.SECURE else None,
        shared_head=head,
        starting_release=named(predecessor),
        purpose=_purpose(draft),
    )
    check_numbers(plan)
    if mode is Mode.SECURE:
        check_parties(plan)
        plan = replace(plan, secure=provisional_terms(plan, draft))
        check_numbers(plan)
    if wanted.noise_multiplier is None:
        terms = replace(plan.privacy, noise_multiplier=_noise_multiplier(plan))
        plan = replace(plan, privacy=terms)
    plan = with_grid(plan)
    check_soundness(plan)
    return cost_of(plan, Names({str(m.id): m.name for m in chosen}), probe, predecessor, notes)


def cost_of(
    plan: Plan,
    names: Names,
    probe: Probe | None,
    predecessor: Predecessor | None = None,
    notes: tuple[str, ...] = (),
) -> PlanCheck:
    """What a plan costs that is complete and sound; without a probe all but the seconds.

    Raises UnsoundPlan where it cannot go on from what it starts from, DigestMismatch where that is another release.
    """
    return PlanCheck(
        plan=plan,
        costs=_costs(plan, names, probe),
        bytes_per_round=_bytes_per_round(plan),
        noise=noise_figures(plan),
        grid_cost=grid_cost(plan),
        additive_slack=additive_slack(plan),
        neighbours=_neighbours(plan),
        notes=notes,
        with_start=_with_start(plan, predecessor),
    )


def _check_name(name: str) -> None:
    """Releases appear under it: what no release could be called is refused before anybody trains for it."""
    if not NEW_EXTRACTOR_NAME.match(name):
        raise InvalidConfig(
            "extractor_name expects lower-case letters, digits, '_' and single '-' between them, 64 at most; found "
            f"{name[:80]!r}, which no release could be called or no hub's client could ask for. Nothing was proposed. "
            "Choose another name."
        )


def _purpose(draft: PlanDraft) -> str:
    """It goes to every member and into public release pages, and stays there."""
    told = draft.purpose.strip()
    if holds_secret(told):
        raise InvalidConfig(
            "purpose is read by everybody, and this one has an invitation's secret, a token or a private key in it. "
            "Nothing was proposed. Take it out, and make that secret void."
        )
    return told


def _shared_head(draft: PlanDraft, probe: Probe) -> SharedHead | None:
    classes = draft.training.shared_classes
    return SharedHead(classes, probe.head_inputs) if classes else None


def _mode(draft: PlanDraft, members: int) -> tuple[Mode, tuple[str, ...]]:
    """The draft's mode, or mode local where so few contribute (clause 3.7), with a sentence for the admin."""
    if draft.privacy.mode is Mode.LOCAL or members >= LEAST_MEMBERS:
        return draft.privacy.mode, ()
    return Mode.LOCAL, (
        f"Mode secure needs at least {LEAST_MEMBERS} contributors, there are {members}: the plan is of mode local, "
        "in which each member adds all of the noise (clause 3.7).",
    )


def _colluders(draft: PlanDraft, mode: Mode, members: int) -> int:
    if draft.colluders is not None:
        return draft.colluders
    return default_colluders(members) if mode is Mode.SECURE else 0


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
        raise UnsoundPlan(
            "A plan needs at least one active contributor, there is none. Nothing was proposed. Invite one."
        )
    return sorted(chosen, key=lambda m: m.id)


def _noise_multiplier(plan: Plan) -> float:
    """σ as small as the target ε allows once validation is paid for."""
    terms = plan.privacy
    sigma = _calibrated(
        terms.target_epsilon,
        terms.delta,
        terms.sampling_rate,
        plan.rounds * plan.training.local_steps,
        plan.validation_events_of_run(),
    )
    return max(sigma, LEAST_NOISE)


_calibrated = functools.lru_cache(maxsize=256)(calibrate_noise_multiplier)
_epsilon = functools.lru_cache(maxsize=256)(epsilon)
"""Kept, as a plan is checked again and again while its form is filled in, and then proposed."""


def _costs(plan: Plan, names: Names, probe: Probe | None) -> tuple[MemberCost, ...]:
    together, alone = plan.events_of_run(), plan.events_alone_of_run()
    at_delta, at_second = (_epsilon(together, delta) for delta in (plan.privacy.delta, REPORTED_DELTA))
    alone_at_delta, alone_at_second = (
        _epsilon(alone, delta) for delta in (plan.privacy.delta, REPORTED_DELTA)
    )
    gradients = plan.training.local_steps * plan.training.augmentation_multiplicity
    return tuple(
        MemberCost(
            member_id=m.member_id,
            name=names[m.member_id],
            expected_batch_size=plan.expected_batch_size(m.member_id),
            epsilon=at_delta,
            epsilon_at_second_delta=at_second,
            epsilon_alone=alone_at_delta,
            epsilon_alone_at_second_delta=alone_at_second,
            seconds_per_round=None
            if probe is None
            else probe.seconds_per_record * plan.expected_batch_size(m.member_id) * gradients,
        )
        for m in plan.members
    )


def _with_start(plan: Plan, predecessor: Predecessor | None) -> CostWithStart | None:
    behind = links_behind(plan, predecessor)
    if not behind:
        return None
    whole = Spend(plan.events_of_run(), plan.events_alone_of_run())
    spent = composed([*spends_of(behind), {m.member_id: whole for m in plan.members}]).values()
    epsilons, alone = (
        {_epsilon(events, plan.privacy.delta) for events in sides}
        for sides in ({s.events for s in spent}, {s.events_alone for s in spent})
    )
    return CostWithStart(behind[0].release, max(epsilons), max(alone))


def _bytes_per_round(plan: Plan) -> int:
    """Weights down in float32, the update up in float32 or in ring elements."""
    up = BYTES_PER_COORDINATE if plan.secure is None else plan.secure.ring_bits // 8
    return (BYTES_PER_COORDINATE + up) * plan.trainable_coordinates * len(plan.members)


def _neighbours(plan: Plan) -> int:
    if plan.secure is None:
        return 0
    return choose_graph(len(plan.members), plan.quorum, plan.colluders).neighbours
