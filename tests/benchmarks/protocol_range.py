"""Which plans a ring has room for (clause 3.4), asked of the shipped planning."""

from __future__ import annotations

from dataclasses import replace

from coordinator.runs.secure_planning import grid_cost, with_grid
from shared.domain.errors import UnsoundPlan
from shared.domain.plan import Plan
from tests.benchmarks.protocol_setting import plan_of

_LARGEST_BATCH = 1 << 20


def most_units_in_16_bits(members: int, coordinates: int) -> int | None:
    """The most units that all expected batches may hold together; None where even one a member wraps."""
    plan = plan_of(members, coordinates)
    if plan.secure is None:
        return None
    small = replace(plan, secure=replace(plan.secure, ring_bits=16))
    if not _fits(small, 1):
        return None
    least, most = 1, _LARGEST_BATCH
    while most - least > max(1, least // 50):
        middle = (least + most) // 2
        least, most = (middle, most) if _fits(small, middle) else (least, middle)
    return members * least


def printed_grid_cost(members: int, coordinates: int) -> str:
    """By how much the finest grid with room raises sensitivity and noise."""
    return f"{100 * grid_cost(plan_of(members, coordinates)):.2f} %"


def _fits(plan: Plan, batch: int) -> bool:
    rate = plan.privacy.sampling_rate
    size = round(batch / rate)
    scaled = replace(plan, members=tuple(replace(m, declared_size=size) for m in plan.members))
    try:
        with_grid(scaled)
    except UnsoundPlan:
        return False
    return True
