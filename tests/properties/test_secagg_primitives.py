"""Laws of the grid, the masks, the shares and the graph that secure aggregation is made of."""

from __future__ import annotations

import os
from collections import Counter
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.secagg.fixed_point import check_fits, from_ring, to_grid, to_ring
from shared.secagg.graph import choose_graph, neighbours
from shared.secagg.masks import add_mask, self_key, subtract_mask
from shared.secagg.parameters import RoundTerms
from shared.secagg.shamir import PRIME, combine, lagrange_at_zero
from tests.secagg_kit import split

QUICK = settings(max_examples=40, deadline=None)
secrets_of_32 = st.binary(min_size=32, max_size=32)


@st.composite
def sharings(draw: st.DrawFn) -> tuple[bytes, int, list[int]]:
    places = draw(st.lists(st.integers(1, 1000), min_size=1, max_size=12, unique=True))
    return draw(secrets_of_32), draw(st.integers(1, len(places))), places


@st.composite
def rounds(draw: st.DrawFn) -> tuple[RoundTerms, list[str]]:
    """Terms that some plan of up to 60 members could set, and a cohort that they allow."""
    members = draw(st.integers(3, 60))
    colluders = draw(st.integers(0, members // 3))
    quorum = draw(st.integers((members + colluders) // 2 + 1, members))
    cycles = choose_graph(members, quorum, colluders).mask_reach
    bits = draw(st.sampled_from([16, 32]))
    size = draw(st.integers(quorum, members))
    names = draw(
        st.lists(st.text("abcdef0123", min_size=1, max_size=8), min_size=size, max_size=size, unique=True)
    )
    return RoundTerms("run_1", 1, "sha256:plan", quorum, colluders, quorum, cycles, 1, bits, 9), names


@QUICK
@given(
    st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), min_size=1, max_size=20),
    st.floats(1e-3, 10.0),
)
def test_decoding_the_sum_of_encodings_gives_the_sum(rows: list[list[float]], width: float) -> None:
    values = np.array(rows, dtype=np.float32)
    grids = [to_grid(row, width) for row in values]
    largest = max(int(np.abs(grid).max()) for grid in grids)
    check_fits(largest, len(grids), 32)
    total = sum((to_ring(grid, 32) for grid in grids), np.zeros(3, np.uint32))
    decoded = from_ring(total, 32)
    assert np.array_equal(decoded, np.sum(grids, axis=0))
    exact = values.astype(np.float64).sum(axis=0)
    assert np.abs(decoded * width - exact).max() <= len(grids) * width * (0.5 + 1e-6)


@QUICK
@given(st.lists(st.integers(-(2**61), 2**61), min_size=1, max_size=9), st.sampled_from([16, 32]))
def test_the_ring_keeps_sums_modulo_its_size(numbers: list[int], bits: int) -> None:
    total = sum(to_ring(np.array([n]), bits) for n in numbers)
    (decoded,) = from_ring(total, bits).tolist()
    assert (decoded - sum(numbers)) % 2**bits == 0
    assert -(2 ** (bits - 1)) <= decoded < 2 ** (bits - 1)


@QUICK
@given(rounds())
def test_masks_cancel_in_the_sum_and_in_no_smaller_one(case: tuple[RoundTerms, list[str]]) -> None:
    terms, cohort = case
    graph = neighbours(terms, cohort)
    keys = {frozenset((a, b)): os.urandom(32) for a in graph for b in graph[a]}
    seeds = {member: os.urandom(32) for member in cohort}
    plain = {m: np.frombuffer(os.urandom(9 * terms.dtype.itemsize), dtype=terms.dtype) for m in cohort}
    total, expected = np.zeros(9, terms.dtype), np.zeros(9, terms.dtype)
    for place, member in enumerate(sorted(cohort)):
        if 0 < place < len(cohort):
            assert not np.array_equal(total, expected)
        masked = plain[member].copy()
        for peer in graph[member]:
            (add_mask if member < peer else subtract_mask)(masked, keys[frozenset((member, peer))])
        add_mask(masked, self_key(seeds[member], member.encode()))
        assert not np.array_equal(masked, plain[member])
        total += masked
        expected += plain[member]
        subtract_mask(total, self_key(seeds[member], member.encode()))
    assert np.array_equal(total, expected)


@QUICK
@given(sharings(), st.randoms(use_true_random=False))
def test_any_threshold_of_shares_rebuilds_the_secret(
    case: tuple[bytes, int, list[int]], random: Random
) -> None:
    secret, threshold, places = case
    shares = split(secret, threshold, places)
    chosen = random.sample(places, threshold)
    assert combine({x: shares[x] for x in chosen}, threshold) == secret
    assert combine(shares, threshold) == secret


@QUICK
@given(sharings(), secrets_of_32)
def test_one_share_short_of_the_threshold_fits_every_other_secret(
    case: tuple[bytes, int, list[int]], other: bytes
) -> None:
    secret, threshold, places = case
    shares = split(secret, threshold, places)
    held, missing = sorted(places)[: threshold - 1], sorted(places)[threshold - 1]
    # Solve λ·share + Σ λ_i·share_i = other for the share that is missing: there is always one.
    *weights, last = lagrange_at_zero((*held, missing))
    known = sum(w * int.from_bytes(shares[x], "big") for w, x in zip(weights, held, strict=True))
    share = (int.from_bytes(other, "big") - known) * pow(last, -1, PRIME) % PRIME
    completed = {x: shares[x] for x in held} | {missing: share.to_bytes(33, "big")}
    assert combine(completed, threshold) == other
    # And the true one is another unless the secrets agree, so the shares do bind once they are enough.
    assert (completed[missing] == shares[missing]) == (other == secret)


def test_shares_below_the_threshold_look_alike_whatever_the_secret() -> None:
    def apart(threshold: int) -> float:
        """χ² (15 degrees of freedom) between the leading hex digits of a share, not drawn, of two secrets."""
        drawn = [
            Counter(split(secret, threshold, [1, 2, 3])[3][1] >> 4 for _ in range(2000))
            for secret in (bytes(32), b"\xff" * 32)
        ]
        return sum(
            (drawn[0][digit] - drawn[1][digit]) ** 2 / (drawn[0][digit] + drawn[1][digit])
            for digit in range(16)
            if drawn[0][digit] + drawn[1][digit]
        )

    # A χ² of 15 degrees passes 80 by a chance of 7·10⁻¹¹; a threshold of 1 hides nothing and shows it.
    assert apart(2) < 80.0
    assert apart(3) < 80.0
    assert apart(1) > 1000.0


@QUICK
@given(rounds(), st.randoms(use_true_random=False))
def test_the_graph_is_symmetric_and_whatever_drops_leaves_it_whole(
    case: tuple[RoundTerms, list[str]],
    random: Random,
) -> None:
    terms, cohort = case
    graph = neighbours(terms, cohort)
    assert graph == neighbours(terms, random.sample(cohort, len(cohort)))
    assert set(graph) == set(cohort)
    for member, peers in graph.items():
        assert list(peers) == sorted(set(peers) - {member})
        assert all(member in graph[peer] for peer in peers)
    # The worst that the coordinator could choose: two runs of neighbours on the circle, else anybody.
    circle, gone = sorted(cohort), len(cohort) - terms.quorum + terms.colluders
    first, second, cut = random.randrange(len(circle)), random.randrange(len(circle)), random.randint(0, gone)
    runs = {circle[(first + i) % len(circle)] for i in range(cut)}
    runs |= {circle[(second + i) % len(circle)] for i in range(gone - cut)}
    for removed in (runs, set(random.sample(circle, gone))):
        left = set(circle) - removed
        reached, queue = set(), sorted(left)[:1]
        while queue:
            member = queue.pop()
            if member not in reached:
                reached.add(member)
                queue.extend(left.intersection(graph[member]))
        assert reached == left
