"""Who shares a mask with whom: a ring lattice that no allowed set of drop-outs and colluders can cut.

Masks cost one expansion a neighbour. Members stand in a circle in the order of their ids, and each is the
neighbour of the m members before it and the m after it.

*What must hold.* The pairwise masks of honest survivors cancel only in their whole sum as long as the graph
among them is connected; if it falls into parts, each part's sum is laid bare with only its part of the
noise. An active coordinator chooses who counts as dropped after it has seen the graph. So the graph must
stay connected when any n - quorum drop-outs and any `colluders` are taken out of it.

*Why it does.* To part the circle into two pieces, all m members in a row must be missing at two separate
places, or a member of one piece would still reach over the gap. So nothing short of 2m missing members
parts it (it is the graph with the fewest edges for that: Harary, "The maximum connectivity of a graph",
PNAS 48, 1962). The rule is 2m ≥ (n - quorum) + colluders + 1: a count, with no probability, no seed that
somebody could choose, and no failure. A member that fewer than n - quorum + 1 honest members mask with can
be cut off in *any* graph, so no graph is much sparser.

*How others do it.* Bell, Bonawitz, Gascón, Lepoint, Raykova, "Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead", CCS 2020 (SecAgg+), draw the same lattice in a random order with O(log n)
neighbours, against drop-outs that do not depend on the order, and keep shares with neighbours only. Here
the coordinator does choose the drop-outs; and **every member holds a share of every member's secrets**,
also of its own (tens of kilobytes), since with neighbours only the two secrets of *different* members can be
opened by different lists of survivors. So graphs bear on masks alone, and shares on counts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.domain.errors import InvalidMessage, UnsoundPlan
from shared.secagg.parameters import RoundTerms

FULL_GRAPH_UP_TO = 16
"""Members among whom everybody masks with everybody: a sparser graph would save nothing worth having."""


@dataclass(frozen=True)
class GraphChoice:
    """What a plan says of masks and shares. Both promises hold by count, with failure probability 0."""

    mask_reach: int
    """m neighbours on either side; 0 is the full graph."""
    share_threshold: int
    """The quorum: any quorum of survivors can unmask, and no two disjoint sets of honest members can."""
    neighbours: int
    """Masks that each member makes when the whole consortium takes part."""


def choose_graph(members: int, quorum: int, colluders: int) -> GraphChoice:
    """The sparsest ring lattice that is sound for `members`, or the full graph when it is no sparser.

    It is then sound for every smaller cohort: there fewer may drop out. Raises UnsoundPlan for a quorum
    outside (colluders, members].
    """
    if not 0 <= colluders < quorum <= members:
        raise UnsoundPlan(
            f"Masks need 0 <= colluders < quorum <= {members} members, and the plan has {colluders} colluders "
            f"and a quorum of {quorum}. No graph was chosen. Change quorum or colluders."
        )
    reach = (_least_degree(members, quorum, colluders) + 1) // 2
    if members <= FULL_GRAPH_UP_TO or 2 * reach >= members - 1:
        return GraphChoice(0, quorum, members - 1)
    return GraphChoice(reach, quorum, 2 * reach)


def neighbours(terms: RoundTerms, cohort: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """With whom each member of the cohort shares a mask: member id → ids, sorted; symmetric.

    The order of `cohort` does not matter. Raises InvalidMessage when an id repeats, QuorumMissed or
    UnsoundPlan when the cohort's size does not fit the terms (`RoundTerms.check_size`), and UnsoundPlan
    when drop-outs and colluders could part the plan's graph.
    """
    circle, reach = _circle(terms, cohort)
    return {member: _around(circle, place, reach) for place, member in enumerate(circle)}


def neighbours_of(terms: RoundTerms, cohort: Sequence[str], member: str) -> tuple[str, ...]:
    """`neighbours` of one member of the cohort."""
    circle, reach = _circle(terms, cohort)
    return _around(circle, circle.index(member), reach)


def _circle(terms: RoundTerms, cohort: Sequence[str]) -> tuple[list[str], int]:
    """The cohort in its order, and how far to either side a member masks."""
    circle = sorted(cohort)
    if len(set(circle)) != len(circle):
        raise InvalidMessage(
            f"Each member is in a cohort once, and {len(circle)} entries name {len(set(circle))} members. "
            "Nothing was masked. Report this to the consortium."
        )
    terms.check_size(len(circle))
    return circle, _reach(terms, len(circle))


def _around(circle: Sequence[str], place: int, reach: int) -> tuple[str, ...]:
    near = {circle[(place + step) % len(circle)] for step in range(-reach, reach + 1)}
    return tuple(sorted(near - {circle[place]}))


def _reach(terms: RoundTerms, size: int) -> int:
    """Members to either side that one masks with; half the circle, rounded up, is everybody."""
    everybody = size // 2
    if terms.mask_reach == 0 or terms.mask_reach >= everybody:
        return everybody
    least = _least_degree(size, terms.quorum, terms.colluders)
    if 2 * terms.mask_reach < least:
        raise UnsoundPlan(
            f"Each of {size} members must share masks with at least {least} others, and the plan says "
            f"{2 * terms.mask_reach}: drop-outs and colluders could cut a member off. Nothing was masked. "
            f"Set mask_reach to {(least + 1) // 2} or more, or to 0."
        )
    return terms.mask_reach


def _least_degree(members: int, quorum: int, colluders: int) -> int:
    return members - quorum + colluders + 1
