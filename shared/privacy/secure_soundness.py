"""The rules that a plan of mode secure must keep beside those of every plan (clauses 3 and 5).

`soundness` asks them; planning asks `check_parties` first, to choose grid and graph for a plan that can have one.
"""

from __future__ import annotations

import math
from typing import Final

from shared.domain.errors import UnsoundPlan
from shared.domain.plan import Plan, SecureTerms
from shared.privacy.distributed import additive_slack, largest_count, largest_sum

LEAST_MEMBERS: Final = 4
"""Clause 3.7: with fewer, sharing the noise out buys little, and ε_alone is what counts."""
MOST_TOLERANCE_STEPS: Final = 4
MOST_SLACK: Final = 1e-9
"""Of `additive_slack`: far below what the accountant rounds ε up by."""
_REFUSED: Final = "The plan was not accepted."


def secure_numbers(secure: SecureTerms | None, wanted: bool) -> dict[str, bool]:
    """Rules on the numbers of a plan's secure terms, each with whether it holds."""
    found = "found none" if secure is None else "found in mode local"
    rules = {f"secure must be set in mode secure, and only there; {found}": wanted == (secure is not None)}
    if secure is not None:
        rules |= {
            f"secure.grid_width must be above 0 and finite, found {secure.grid_width:g}": (
                0.0 < secure.grid_width < math.inf
            ),
            f"secure.ring_bits must be 16 or 32, found {secure.ring_bits}": secure.ring_bits in (16, 32),
            f"secure.mask_reach must be 0 or more, found {secure.mask_reach}": secure.mask_reach >= 0,
            f"secure.tolerance_steps must be 0 to {MOST_TOLERANCE_STEPS}, found {secure.tolerance_steps}": (
                0 <= secure.tolerance_steps <= MOST_TOLERANCE_STEPS
            ),
        }
    return rules


def check_parties(plan: Plan) -> None:
    """Raise UnsoundPlan unless steps, members, quorum and colluders fit mode secure."""
    members, quorum, colluders = len(plan.members), plan.quorum, plan.colluders
    if plan.training.local_steps != 1:
        raise UnsoundPlan(
            f"Mode secure takes 1 local step a round, the plan has {plan.training.local_steps}: later steps "
            "start where no public transcript says, and the noise of the others in the sum no longer hides "
            f'them (clause 3.5). {_REFUSED} Set local_steps = 1, or mode = "local".'
        )
    if members < LEAST_MEMBERS:
        raise UnsoundPlan(
            f"Mode secure needs at least {LEAST_MEMBERS} members, the plan has {members} (clause 3.7). "
            f'{_REFUSED} Set mode = "local", or invite more.'
        )
    if not 0 <= colluders < quorum:
        raise UnsoundPlan(
            f"A sum must hold more contributions than may collude; the plan has a quorum of {quorum} and "
            f"{colluders} colluders (clause 3.2). {_REFUSED} Lower colluders, or raise the quorum."
        )
    if 2 * quorum <= members + colluders:
        raise UnsoundPlan(
            f"The quorum must be above (members + colluders) / 2 = {(members + colluders) / 2:g}, or two lists "
            f"of survivors could both reach it; the plan has {quorum} (clause 5.4). {_REFUSED} Raise the quorum."
        )


def check_grid(plan: Plan) -> None:
    """Raise UnsoundPlan unless drop-outs, masks, range and slack of mode secure are in order."""
    if plan.secure is None:
        raise UnsoundPlan(
            f"A plan of mode secure must have secure terms and has none. {_REFUSED} Ask for another."
        )
    secure, members, quorum = plan.secure, len(plan.members), plan.quorum
    if secure.tolerance_steps == 0 and quorum < members:
        raise UnsoundPlan(
            f"Without tolerance steps nobody may drop out, and the plan's quorum is {quorum} of {members} "
            f"(clause 3.9). {_REFUSED} Set tolerance_steps to 1 or more, or the quorum to {members}."
        )
    if secure.share_threshold != quorum:
        raise UnsoundPlan(
            f"A secret must be rebuilt by exactly the quorum's {quorum} shares, the plan says "
            f"{secure.share_threshold} (clause 5.2). {_REFUSED} Ask for a plan made by `plan propose`."
        )
    least_degree = members - quorum + plan.colluders + 1
    if secure.mask_reach != 0 and 2 * secure.mask_reach < min(least_degree, members - 1):
        raise UnsoundPlan(
            f"Each member must share masks with at least {least_degree} others, or drop-outs and colluders "
            f"could cut one off; the plan says {2 * secure.mask_reach} (clause 5.3). {_REFUSED} "
            "Ask for a plan made by `plan propose`."
        )
    _check_range(plan, secure)
    slack = additive_slack(plan)
    if not slack <= MOST_SLACK:
        raise UnsoundPlan(
            f"The members' grid noise may differ from Gaussian noise by at most {MOST_SLACK:g} in ε, the plan's "
            f"could by {slack:.2g}: a noise share is only a few grid steps wide (clause 3.2). {_REFUSED} "
            "Lower grid_width, or raise the noise."
        )


def _check_range(plan: Plan, secure: SecureTerms) -> None:
    limit = 2 ** (secure.ring_bits - 1)
    reaches = {"the sum": largest_sum(plan)}
    if plan.evaluate_every:
        reaches["a validation count"] = largest_count(plan)
    for what, reached in reaches.items():
        if not reached < limit:
            raise UnsoundPlan(
                f"In a ring of {secure.ring_bits} bits everything must stay below {limit:,} grid steps, "
                f"{what} may reach {reached:,.0f} and would wrap (clause 3.4). {_REFUSED} Use ring_bits = 32, a "
                "wider grid, or no validation."
            )
