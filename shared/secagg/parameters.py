"""What both sides of one secure round agree on before it starts, read from the plan (clauses 3.9 and 5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.domain.errors import InvalidMessage, QuorumMissed, UnsoundPlan
from shared.domain.plan import Plan

Ring: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
"""One vector of whole numbers modulo 2³² (uint32) or 2¹⁶ (uint16)."""


def ring_type(ring_bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    """uint16 or uint32, in the byte order of this machine. Raises UnsoundPlan for other `ring_bits`."""
    if ring_bits == 16:
        return np.dtype(np.uint16)
    if ring_bits == 32:
        return np.dtype(np.uint32)
    raise UnsoundPlan(
        f"Sums are taken modulo 2 to the power of 16 or 32, and the plan says {ring_bits}. "
        "The round did not start. Set ring_bits to 32."
    )


@dataclass(frozen=True)
class RoundTerms:
    """One round of one plan. Raises UnsoundPlan when the terms cannot hold together."""

    run_id: str
    round_number: int
    plan_digest: str
    quorum: int
    """Least number of contributions in a sum (clause 5.5)."""
    colluders: int
    """Members assumed to share all they hold with the coordinator."""
    share_threshold: int
    """Shares that rebuild a secret. Every member of the roster holds one of each, also its owner."""
    mask_reach: int
    """m: each member shares a mask with m members on either side (graph.py); 0 is with everybody."""
    tolerance_steps: int
    """Noise components above the base one (clause 3.9)."""
    ring_bits: int
    """Sums are taken modulo 2 to this power, 32 or 16 (clause 3.4)."""
    length: int
    """Ring elements in one contribution."""

    def __post_init__(self) -> None:
        ring_type(self.ring_bits)
        if not 0 <= self.colluders < self.quorum:
            raise UnsoundPlan(
                f"Colluders must be between 0 and less than the quorum of {self.quorum}, and are "
                f"{self.colluders}. The round did not start. Lower colluders, or raise the quorum."
            )
        # Fewer shares than a quorum would let two lists of survivors open one member's secrets; more would
        # leave a quorum of survivors with a sum that nobody can unmask.
        if self.share_threshold != self.quorum:
            raise UnsoundPlan(
                f"Secrets must be rebuilt by exactly a quorum of {self.quorum} shares, and the plan says "
                f"{self.share_threshold}. The round did not start. Set share_threshold to the quorum."
            )
        if self.length < 1 or self.mask_reach < 0 or self.tolerance_steps < 0:
            raise UnsoundPlan(
                "A round has at least 1 element, and 0 or more mask cycles and tolerance steps; the terms say "
                f"{self.length}, {self.mask_reach} and {self.tolerance_steps}. The round did not start. "
                "Correct the plan."
            )

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Of one contribution: uint32 or uint16, in the byte order of this machine."""
        return ring_type(self.ring_bits)

    def check_size(self, members: int) -> None:
        """Whether a roster or cohort of `members` may go on (clauses 5.1 and 5.4).

        Two disjoint sets of honest members, with all colluders' help each, must not both reach a quorum:
        2·quorum > members + colluders. Then the two secrets of one member are never both rebuilt, and no
        two smaller lists of survivors are both endorsed.
        Raises QuorumMissed below the quorum, UnsoundPlan when there are too many for the quorum.
        """
        if members < self.quorum:
            raise QuorumMissed(
                f"At least {self.quorum} members must take part, and {members} do. Nothing was masked or "
                "summed. Wait until more members are online."
            )
        if 2 * self.quorum <= members + self.colluders:
            raise UnsoundPlan(
                f"With {members} members of whom {self.colluders} may collude the quorum must be at least "
                f"{(members + self.colluders) // 2 + 1}, and is {self.quorum}. Nothing was masked. "
                "Raise the quorum."
            )


def terms_of(plan: Plan, run_id: str, round_number: int, length: int) -> RoundTerms:
    """The terms of one round of `plan`, for contributions of `length` ring elements.

    Raises UnsoundPlan for a plan that is not in mode secure.
    """
    if plan.secure is None:
        raise UnsoundPlan(
            "Only a plan of mode secure has masks, and this plan is of mode local. The round did not start. "
            "Ask for an update of mode local."
        )
    return RoundTerms(
        run_id=run_id,
        round_number=round_number,
        plan_digest=plan.digest,
        quorum=plan.quorum,
        colluders=plan.colluders,
        share_threshold=plan.secure.share_threshold,
        mask_reach=plan.secure.mask_reach,
        tolerance_steps=plan.secure.tolerance_steps,
        ring_bits=plan.secure.ring_bits,
        length=length,
    )


def tolerance(cohort_size: int, quorum: int, steps: int) -> tuple[int, ...]:
    """Drop-outs that are covered when the noise of steps 1, 2, … is kept: ascending, the last is all (3.9).

    Of D = cohort_size - quorum tolerated drop-outs, step j of S = min(D, steps) covers ceil(j·D/S). Empty
    when nobody may drop out: the base noise covers nobody, so a plan of no steps tolerates nobody.
    Raises QuorumMissed for a cohort below the quorum.
    """
    tolerated = cohort_size - quorum
    if tolerated < 0:
        raise QuorumMissed(
            f"A cohort has at least the quorum of {quorum} members, and this one has {cohort_size}. Nothing "
            "was summed. Wait until more members are online."
        )
    used = min(tolerated, steps)
    return tuple(math.ceil(step * tolerated / used) for step in range(1, used + 1))


def needed_steps(cohort_size: int, quorum: int, steps: int, survivors: int) -> int:
    """k: how many noise steps must stay when `survivors` of the cohort are in the sum; 0 if nobody dropped.

    Raises QuorumMissed for fewer survivors than the quorum, or for drop-outs that no step covers;
    InvalidMessage for more survivors than the cohort.
    """
    if survivors > cohort_size:
        raise InvalidMessage(
            f"A cohort of {cohort_size} cannot have {survivors} survivors. Nothing was unmasked. "
            "Report this to the consortium."
        )
    reached = (0, *tolerance(cohort_size, quorum, steps))
    dropped = cohort_size - survivors
    for needed, covered in enumerate(reached):
        if covered >= dropped:
            return needed
    raise QuorumMissed(
        f"At least {cohort_size - reached[-1]} of {cohort_size} members must be in a sum for its noise to be "
        f"whole, and {survivors} are. Nothing was unmasked. Wait for the next round."
    )
