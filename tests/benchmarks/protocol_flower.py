"""One member's work under Flower's own secure aggregation helper (SecAgg+), beside ours, in turns in one process.

`python protocol_flower.py MEMBERS COORDINATES REPEATS` prints one line of JSON. What runs is Flower's client side as
shipped (`flwr.client.mod.secure_aggregation.secaggplus_mod`), its four stages called as its mod calls them, with real
peers' keys and sealed shares and its workflow's default numbers. Its masks are numpy's Mersenne Twister, seeded with 32
bits that it folds its 256-bit seeds into; it adds no noise.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import numpy as np
from flwr.app import ConfigRecord
from flwr.common import ndarrays_to_parameters
from flwr.common.secure_aggregation.secaggplus_constants import Key

from tests.benchmarks.protocol_member import Bench
from tests.benchmarks.protocol_setting import World, plan_of

# The package has a function of the same name, so an import statement would find that.
flower = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")

logging.getLogger("flwr").setLevel(logging.WARNING)

CLIPPING_RANGE, TARGET_RANGE, MODULUS, MOST_WEIGHT, EXAMPLES = 8.0, 1 << 22, 1 << 32, 1000.0, 1000
"""Defaults of `SecAggPlusWorkflow`."""


class FlowerMember:
    """Member 1 of `members`; the others have made keys and shares with the same code."""

    def __init__(self, members: int, coordinates: int) -> None:
        vector = np.random.default_rng(0).standard_normal(coordinates, dtype=np.float32)
        self._parameters = ndarrays_to_parameters([vector])
        self._members = members
        self._setup_terms = {
            Key.SAMPLE_NUMBER: members,
            Key.SHARE_NUMBER: members,
            Key.THRESHOLD: 2 * members // 3 + 1,
            Key.CLIPPING_RANGE: CLIPPING_RANGE,
            Key.TARGET_RANGE: TARGET_RANGE,
            Key.MOD_RANGE: MODULUS,
            Key.MAX_WEIGHT: MOST_WEIGHT,
        }
        self._peers = [flower.SecAggPlusState(nid=number) for number in range(2, members + 1)]
        self._peer_keys = [self._setup(peer) for peer in self._peers]

    def round(self) -> tuple[float, int]:
        """(seconds of processor time, bytes sent) of its four stages."""
        me = flower.SecAggPlusState(nid=1)
        seconds, sent = 0.0, 0
        started = time.process_time()
        own = self._setup(me)
        seconds += time.process_time() - started

        roster = {
            str(number): [one[Key.PUBLIC_KEY_1], one[Key.PUBLIC_KEY_2]]
            for number, one in enumerate([own, *self._peer_keys], start=1)
        }
        dealt = []
        for peer in self._peers:
            shared = flower._share_keys(peer, ConfigRecord(roster))
            dealt.append(shared[Key.CIPHERTEXT_LIST][shared[Key.DESTINATION_LIST].index(1)])
        received = ConfigRecord(
            {Key.CIPHERTEXT_LIST: dealt, Key.SOURCE_LIST: [peer.nid for peer in self._peers]}
        )
        everybody = ConfigRecord(
            {Key.ACTIVE_NODE_ID_LIST: list(range(1, self._members + 1)), Key.DEAD_NODE_ID_LIST: []}
        )
        started = time.process_time()
        deal = flower._share_keys(me, ConfigRecord(roster))
        masked = flower._collect_masked_vectors(me, received, EXAMPLES, self._parameters)
        shares = flower._unmask(me, everybody)
        seconds += time.process_time() - started
        for reply in (own, deal, masked, shares):
            sent += _size(reply)
        return seconds, sent

    def _setup(self, state: Any) -> dict[str, Any]:
        return dict(flower._setup(state, ConfigRecord(dict(self._setup_terms))))


def _size(value: Any) -> int:
    """Bytes of all byte strings of a reply; keys of a table and whole numbers as 8 bytes each."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(_size(item) for item in value.values())
    if isinstance(value, list):
        return sum(_size(item) for item in value)
    return 8


def measure(members: int, coordinates: int, repeats: int) -> dict[str, Any]:
    """The best of `repeats` of each, in turns."""
    theirs = FlowerMember(members, coordinates)
    with tempfile.TemporaryDirectory() as folder:
        ours = Bench(World.of(plan_of(members, coordinates)), Path(folder))
        ours.noise()  # builds the tables
        flower_s, noisy, noiseless = [], [], []
        for _ in range(repeats):
            seconds, sent = theirs.round()
            flower_s.append(seconds)
            noisy.append(ours.round(noisy=True))
            noiseless.append(ours.round(noisy=False))
    best = min(noiseless, key=lambda laps: laps.total)
    kept = sum(best.seconds[name] for name in ("charge", "state", "outbox", "seal"))
    return {
        "flower_s": min(flower_s),
        "flower_bytes": sent,
        "noisy_s": min(laps.total for laps in noisy),
        "noiseless_s": best.total,
        "bare_s": best.total - kept,
        "bytes": best.payload_bytes + best.beside_bytes,
    }


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
