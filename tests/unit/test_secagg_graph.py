"""The graph of masks: no allowed set of drop-outs and colluders cuts it, and a sparser one is cut and read."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Mapping

import numpy as np
import pytest

from shared.domain.errors import InvalidMessage, QuorumMissed, UnsoundPlan
from shared.secagg.graph import GraphChoice, choose_graph, neighbours
from shared.secagg.masks import add_mask, subtract_mask
from shared.secagg.parameters import RoundTerms

Graph = Mapping[str, tuple[str, ...]]


def terms(quorum: int, colluders: int, mask_reach: int) -> RoundTerms:
    return RoundTerms("run_1", 1, "sha256:plan", quorum, colluders, quorum, mask_reach, 0, 32, 4)


def ids(members: int) -> list[str]:
    return [f"mem_{place:03d}" for place in range(members)]


def least_cycles(members: int, quorum: int, colluders: int) -> int:
    """The smallest m with 2m ≥ drop-outs + colluders + 1."""
    return (members - quorum + colluders + 2) // 2


def in_one_piece(graph: Graph, removed: Collection[str]) -> bool:
    left = set(graph) - set(removed)
    reached, queue = set(), [min(left)]
    while queue:
        member = queue.pop()
        if member not in reached:
            reached.add(member)
            queue.extend(left.intersection(graph[member]))
    return reached == left


SMALL = [
    (members, quorum, colluders)
    for members in range(3, 12)
    for quorum in range(2, members + 1)
    for colluders in range(quorum - 1)
    if 2 * quorum > members + colluders
]


@pytest.mark.parametrize(("members", "quorum", "colluders"), SMALL)
def test_no_drop_outs_and_colluders_cut_the_least_graph(members: int, quorum: int, colluders: int) -> None:
    # Every set there is, not a sample.
    graph = neighbours(terms(quorum, colluders, least_cycles(members, quorum, colluders)), ids(members))
    for removed in itertools.combinations(ids(members), members - quorum + colluders):
        assert in_one_piece(graph, removed)


@pytest.mark.parametrize(
    ("members", "quorum", "colluders"), [(8, 6, 2), (12, 10, 3), (60, 50, 5), (200, 170, 20)]
)
def test_the_next_sparser_graph_is_cut_by_as_many(members: int, quorum: int, colluders: int) -> None:
    sparse = least_cycles(members, quorum, colluders) - 1
    with pytest.raises(UnsoundPlan, match="drop-outs and colluders could cut a member off"):
        neighbours(terms(quorum, colluders, sparse), ids(members))
    # A plan that names too few colluders gets that graph.
    graph = neighbours(terms(quorum, colluders - 2, sparse), ids(members))
    victim = ids(members)[members // 2]
    assert len(graph[victim]) <= members - quorum + colluders
    assert not in_one_piece(graph, graph[victim])


def pairwise_masked(vectors: Mapping[str, np.ndarray], graph: Graph, keys: Mapping[frozenset, bytes]) -> dict:
    """Every member's vector under its pairwise masks; self masks are off, as after the unmasking of survivors."""
    masked = {}
    for member, vector in vectors.items():
        masked[member] = vector.copy()
        for peer in graph[member]:
            (add_mask if member < peer else subtract_mask)(masked[member], keys[frozenset((member, peer))])
    return masked


def stripped(
    masked: np.ndarray, owner: str, opened: Collection[str], graph: Graph, keys: Mapping
) -> np.ndarray:
    """`masked` without the masks that a coordinator knows: those with members whose round keys it has."""
    bare = masked.copy()
    for peer in set(graph[owner]) & set(opened):
        (subtract_mask if owner < peer else add_mask)(bare, keys[frozenset((owner, peer))])
    return bare


@pytest.mark.parametrize(
    "known_colluders", [0, 5], ids=["plan names too few colluders", "plan names them all"]
)
def test_a_coordinator_that_drops_all_neighbours_reads_a_member_only_off_a_graph_too_sparse(
    known_colluders: int,
) -> None:
    members, quorum, colluders = 40, 33, 5
    cycles = choose_graph(members, quorum, known_colluders).mask_reach
    graph = neighbours(terms(quorum, known_colluders, cycles), ids(members))
    keys = {frozenset((a, b)): os.urandom(32) for a in graph for b in graph[a] if a < b}
    rng = np.random.default_rng(5)
    vectors = {member: rng.integers(0, 2**32, 16, dtype=np.uint32) for member in graph}
    masked = pairwise_masked(vectors, graph, keys)

    victim = "mem_020"
    # The nearest around the circle: colluders first, then as many drop-outs as the quorum lets pass.
    around = sorted(set(graph) - {victim}, key=lambda member: abs(int(member[4:]) - 20))
    opened = around[: colluders + members - quorum]
    seen = stripped(masked[victim], victim, opened, graph, keys)
    assert np.array_equal(seen, vectors[victim]) == (known_colluders == 0)

    honest = [member for member in graph if member not in opened]
    total = sum((stripped(masked[m], m, opened, graph, keys) for m in honest), np.zeros(16, np.uint32))
    assert np.array_equal(total, sum((vectors[m] for m in honest), np.zeros(16, np.uint32)))


@pytest.mark.parametrize(
    ("members", "quorum", "colluders", "expected"),
    [
        (3, 3, 1, GraphChoice(0, 3, 2)),
        (10, 7, 3, GraphChoice(0, 7, 9)),
        (16, 15, 0, GraphChoice(0, 15, 15)),
        (17, 15, 0, GraphChoice(2, 15, 4)),
        (50, 34, 16, GraphChoice(17, 34, 34)),
        (200, 170, 20, GraphChoice(26, 170, 52)),
        (200, 134, 66, GraphChoice(67, 134, 134)),
        (200, 101, 99, GraphChoice(0, 101, 199)),
    ],
)
def test_the_choice_is_the_sparsest_sound_graph(
    members: int, quorum: int, colluders: int, expected: GraphChoice
) -> None:
    choice = choose_graph(members, quorum, colluders)
    assert choice == expected
    if 2 * quorum > members + colluders:
        graph = neighbours(terms(quorum, colluders, choice.mask_reach), ids(members))
        assert {len(peers) for peers in graph.values()} == {expected.neighbours}


@pytest.mark.parametrize(("quorum", "colluders"), [(41, 3), (3, 3), (0, 0), (10, -1)])
def test_a_choice_for_numbers_that_make_no_sense_is_refused(quorum: int, colluders: int) -> None:
    with pytest.raises(UnsoundPlan, match="0 <= colluders < quorum <= 40 members"):
        choose_graph(40, quorum, colluders)


def test_a_graph_that_is_sound_for_all_is_sound_for_every_smaller_cohort() -> None:
    cycles = choose_graph(40, 30, 5).mask_reach
    for size in range(30, 41):
        neighbours(terms(30, 5, cycles), ids(size))


def test_everybody_masks_with_everybody_where_the_plan_has_no_cycles() -> None:
    for size in (7, 8, 9, 10):
        graph = neighbours(terms(7, 3, 0), ids(size))
        assert all(set(peers) == set(ids(size)) - {member} for member, peers in graph.items())


def test_a_cohort_that_the_terms_do_not_allow_has_no_graph() -> None:
    with pytest.raises(InvalidMessage, match="8 entries name 7 members"):
        neighbours(terms(7, 3, 0), [*ids(7), "mem_000"])
    with pytest.raises(QuorumMissed, match="At least 7 members must take part, and 6 do"):
        neighbours(terms(7, 3, 0), ids(6))
    with pytest.raises(UnsoundPlan, match="the quorum must be at least 8, and is 7"):
        neighbours(terms(7, 3, 0), ids(11))
