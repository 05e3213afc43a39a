"""The coordinator's protocol work in a round, and the memory it takes.

`python protocol_coordinator.py MEMBERS COORDINATES DROPPED [memory]` prints one line of JSON. Key offers, shares and
answers are real. The masked contributions are simulated: one file of random ring elements, mapped and added
as many times as there are survivors, as the coordinator maps and adds each staged upload. What it costs to unmask a
sum does not depend on what is in it; that sums come out right is what the tests of shared/secagg show.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from coordinator.runs.averaging import ServerState, apply_average
from coordinator.runs.excess import remove_excess
from shared.domain.plan import Plan
from shared.domain.update import AggregateSum
from shared.release.signing import verify_value
from shared.secagg.fixed_point import from_ring
from shared.secagg.server import ServerRound
from tests.benchmarks.protocol_setting import World, plan_of
from tests.secagg_kit import WEIGHTS

LARGEST_REMOVAL = 400_000_000
"""Integers of noise made again at most; more would take minutes, so the rest is extrapolated and said so."""


def measure(plan: Plan, dropped: int) -> dict[str, Any]:
    """Seconds on the clock and of processor time, by step; `dropped` members send nothing."""
    world = World.of(plan)
    world.share_out()
    survivors = world.members[: len(world.members) - dropped]
    answers, told = world.answers(survivors), world.endorsements()
    listed = world.endorsements(survivors) if dropped else {}
    clock: dict[str, float] = {}
    processor: dict[str, float] = {}

    def lap(step: str, work: Callable[[], Any]) -> Any:
        started, used = time.perf_counter(), time.process_time()
        result = work()
        clock[step] = time.perf_counter() - started
        processor[step] = time.process_time() - used
        return result

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "payload"
        path.write_bytes(os.urandom(world.terms.length * world.terms.dtype.itemsize))
        before_mb = _peak_mb()
        server = ServerRound(world.terms, world.offers, world.members, WEIGHTS)

        def check() -> None:
            for name in survivors:
                server.check_endorsement(name, world.members, told[name], world.identity_keys, verify_value)
            for name, signature in listed.items():
                server.check_endorsement(name, survivors, signature, world.identity_keys, verify_value)

        def add() -> None:
            for name in survivors:
                server.add(name, np.memmap(path, dtype=world.terms.dtype, mode="r"))

        lap("signatures", check)
        lap("add", add)
        ring, excess = lap("unmask", lambda: server.finish(survivors, answers))
        removed = _affordable(excess, world)
        lap(
            "excess",
            lambda: remove_excess(plan, world.terms, ring, len(world.members), len(survivors), removed),
        )

        def average() -> ServerState:
            total = from_ring(ring, world.terms.ring_bits) * 1e-9
            start = ServerState(np.zeros(total.size, dtype=np.float32), None, None, None)
            return apply_average(start, AggregateSum(total.data, 1.0, survivors), plan.server)

        lap("average", average)
    scale = len(excess) / len(removed) if removed else 1.0
    clock["excess"] *= scale
    processor["excess"] *= scale
    return {
        "clock_s": clock,
        "processor_s": processor,
        "excess_part": 1.0 / scale,
        "before_mb": before_mb,
        "peak_mb": _peak_mb(),
    }


def _affordable(excess: dict[str, bytes], world: World) -> dict[str, bytes]:
    """As many members' excess as can be removed in a minute or so."""
    a_member = max(1, world.terms.tolerance_steps) * world.terms.length
    return dict(list(excess.items())[: max(1, LARGEST_REMOVAL // a_member)])


def _peak_mb() -> float:
    """Peak resident memory of this process so far."""
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / 1e6


if __name__ == "__main__":
    members_, coordinates_, dropped_ = map(int, sys.argv[1:])
    print(json.dumps(measure(plan_of(members_, coordinates_), dropped_)))
