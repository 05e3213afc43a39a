"""Excess removal: noise that the survivors do not need is made again from its revealed seeds and taken out (3.9).

By far the most that a coordinator computes in a round: members × steps whole vectors of noise, where unmasking
takes one mask a member. Members do not depend on each other, so each core takes some of them; the generator
and the arithmetic release Python's lock. Memory is the sum itself and a few blocks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shared.domain.plan import Plan
from shared.privacy.noise_shares import step_blocks
from shared.secagg.keys import noise_chain
from shared.secagg.parameters import Ring, RoundTerms, needed_steps, tolerance

MOST_THREADS = 8
"""Beyond these the one lock on the sum would be what they wait for."""


def remove_excess(
    plan: Plan, terms: RoundTerms, ring: Ring, cohort_size: int, survivors: int, excess: Mapping[str, bytes]
) -> Ring:
    """`ring` [length] less every noise component that its survivors do not need, in place.

    `excess`: survivor → seed of its first unneeded step, as `ServerRound.finish` gives it; may be empty.
    """
    covered = tolerance(cohort_size, terms.quorum, terms.tolerance_steps)
    first = needed_steps(cohort_size, terms.quorum, terms.tolerance_steps, survivors) + 1
    steps = range(first, len(covered) + 1)
    lock = threading.Lock()

    def remove(seed: bytes) -> None:
        seeds = dict(zip(steps, noise_chain(seed, len(steps)), strict=True))
        for part, noise in step_blocks(plan, terms.round_number, cohort_size, covered, seeds):
            with lock:
                # Whole numbers modulo the ring's size, whatever their sign: what "unsafe" drops is multiples of it.
                np.subtract(ring[part], noise, out=ring[part], casting="unsafe")

    with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS)) as threads:
        for _ in threads.map(remove, excess.values()):
            pass  # raises what went wrong in a thread
    return ring
