"""Who is asked in a round: every contributor of the plan that is active, consented, and online by now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shared.domain.consortium import MemberState
from shared.domain.plan import Plan


def choose_cohort(
    plan: Plan,
    states: Mapping[str, MemberState],
    consented: Iterable[str],
    online: Iterable[str],
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The members to ask, in the plan's order, and for everybody else the reason why not."""
    signed, connected = set(consented), set(online)
    cohort: list[str] = []
    missing: dict[str, str] = {}
    for member in plan.members:
        state = states.get(member.member_id)
        if state is not MemberState.ACTIVE:
            missing[member.member_id] = state.value if state is not None else "unknown"
        elif member.member_id not in signed:
            missing[member.member_id] = "has not consented"
        elif member.member_id not in connected:
            missing[member.member_id] = "offline"
        else:
            cohort.append(member.member_id)
    return tuple(cohort), missing
