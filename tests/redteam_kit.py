"""What the red team's tests are played with: a plan, the synthetic data sets of an audit, broken members."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from participant.redteam.canaries import AuditSet, make_audit_set
from participant.redteam.dry_run import DryRun, Member
from participant.redteam.guessing import Guesses
from participant.redteam.inversion import Effort
from participant.redteam.run import Depth
from participant.redteam.self_audit import AuditDepth, audited
from participant.training.local_round import local_round
from participant.training.step import clipped_sum
from participant.training.workbench import Workbench
from shared.domain.plan import Plan, SecureTerms
from shared.domain.privacy import Mode, Unit
from shared.privacy.mechanism import NoiseSource
from shared.privacy.noise_shares import base_share, step_share
from tests.plans import SPEC, members, small_plan

COORDINATES = 1024
"""Of the canaries, beside the extractor's own."""
NOISE_MULTIPLIER = {1: 4.49, 3: 1.91, 8: 1.01}
"""ε of a whole `audit_plan` → σ; see test_redteam_audit.py::test_plans_of_an_audit_cost_what_they_say."""
SHALLOW = Depth(
    "shallow",
    AuditDepth(120, 512, 24, 12, 24),
    imprint_records=32,
    inversion=Effort(4, 2),
    guesses=Guesses(64, 16),
)


def redteam_plan(mode: Mode = Mode.LOCAL, **changes: Any) -> Plan:
    """Twenty rounds of five members with 1000 records each, of whom four make a quorum; one may collude."""
    return small_plan(
        mode=mode,
        sampling_rate=0.25,
        rounds=20,
        quorum=4,
        colluders=1,
        members=members(5, 1000),
        secure=SecureTerms(1e-4, 32, 2, 0, 4) if mode is Mode.SECURE else None,
        **changes,
    )


def audit_plan(target: int, mode: Mode = Mode.LOCAL, **changes: Any) -> Plan:
    """The plan whose whole run costs ε = `target`."""
    noise_multiplier = NOISE_MULTIPLIER[target]
    return redteam_plan(
        mode, target_epsilon=target, clip_norm_l2=0.7, noise_multiplier=noise_multiplier, **changes
    )


def audit_sets(home: Path) -> tuple[AuditSet, AuditSet]:
    """The two synthetic data sets of an audit, smaller than in use: of its game, and of everything else."""
    game = make_audit_set(home / "game", SPEC, Unit.RECORD, range(400))
    return game, make_audit_set(home / "small", SPEC, Unit.RECORD, range(96), pictures=16, loud=16)


def dry_member(folder: Path, plan: Plan, member: Member = local_round) -> DryRun:
    """`member` with a ledger in `folder` and the plan's extractor, untrained."""
    return audited(plan, None, folder, COORDINATES, member)


def halved_base(
    plan: Plan, round_number: int, cohort_size: int, covered: Sequence[int], step_seeds: Sequence[bytes]
) -> Iterator[tuple[slice, Any]]:
    """`own_blocks` of a member that adds half of the component that always stays."""
    terms = (plan, round_number, cohort_size, covered)
    return _blocks(base_share(*terms) // 2, terms, step_seeds)


def no_base(
    plan: Plan, round_number: int, cohort_size: int, covered: Sequence[int], step_seeds: Sequence[bytes]
) -> Iterator[tuple[slice, Any]]:
    """`own_blocks` of a member that adds nothing but what is taken out again."""
    terms = (plan, round_number, cohort_size, covered)
    return _blocks(base_share(*terms) * 0, terms, step_seeds)


def no_steps(
    plan: Plan, round_number: int, cohort_size: int, covered: Sequence[int], step_seeds: Sequence[bytes]
) -> Iterator[tuple[slice, Any]]:
    """`own_blocks` of a member that adds nothing but the component that always stays."""
    terms = (plan, round_number, cohort_size, covered)
    return _blocks(base_share(*terms), terms, [])


def halved_steps(
    plan: Plan, round_number: int, cohort_size: int, covered: Sequence[int], step_seeds: Sequence[bytes]
) -> Iterator[tuple[slice, Any]]:
    """`own_blocks` of a member that adds half of each step."""
    terms = (plan, round_number, cohort_size, covered)
    steps = [step_share(*terms, step, seed) // 2 for step, seed in enumerate(step_seeds, start=1)]
    return _blocks(base_share(*terms) + sum(steps), terms, [])


def _blocks(noise: Any, terms: Any, step_seeds: Sequence[bytes]) -> Iterator[tuple[slice, Any]]:
    for step, seed in enumerate(step_seeds, start=1):
        noise += step_share(*terms, step, seed)
    d = terms[0].trainable_coordinates
    return ((part, noise[part]) for part in (slice(0, d), slice(d, len(noise))) if noise[part].size)


class NoNoise(NoiseSource):
    def noised(self, values: Any, std: float) -> Any:
        return values.astype(np.float32)


def with_noise(noise: NoiseSource) -> Member:
    """The real member with another noise source."""

    def member(request: Any, plan: Plan, token: Any, weights: Any, bench: Workbench, share: Any) -> Any:
        return local_round(request, plan, token, weights, replace(bench, noise=noise), share)

    return member


def without_clip(engine: Any, records: Any, drawn: Any, plan: Plan, noise: NoiseSource) -> Any:
    """The real sum under a clip norm that nothing reaches."""
    unbounded = replace(plan, privacy=replace(plan.privacy, clip_norm_l2=1e9))
    return clipped_sum(engine, records, drawn, unbounded, noise)
