"""A member's side of a round for tests: records in memory, noise that can be repeated, charges to a real ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from participant.training.head import HeadState
from participant.training.runtime import RuntimeOptions
from participant.training.workbench import Workbench
from shared.domain.plan import Plan
from shared.domain.privacy import Budget, Charge
from shared.domain.update import Update
from shared.extractors.architectures import build
from shared.extractors.vectors import get_flat
from shared.privacy.ledger import ChargeToken, Ledger
from shared.privacy.mechanism import NoiseSource
from shared.wire.rounds import RoundRequest
from tests.plans import members, small_plan

CLASSES = ("cat", "dog", "owl")
SIZE = 30
HELD_OUT = 6


class RepeatableNoise(NoiseSource):
    """The real noise from a keystream that starts again in every object."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def _keystream(self, n_bytes: int) -> bytes:
        return self._generator.bytes(n_bytes)


class MemoryRecords:
    """SIZE records in memory; the last HELD_OUT are held out."""

    def __init__(self) -> None:
        generator = np.random.Generator(np.random.PCG64(5))
        self.classes = CLASSES
        self.images = generator.integers(0, 256, (SIZE, 8, 8, 1), dtype=np.uint8)
        self.labels = generator.integers(0, 3, SIZE)
        self.training_indices = np.arange(SIZE - HELD_OUT)
        self.held_out_indices = np.arange(SIZE - HELD_OUT, SIZE)
        self.loaded: list[int] = []

    def poisson_draw(self, noise: NoiseSource, rate: float) -> np.ndarray:
        return self.training_indices[noise.uniform(len(self.training_indices)) < rate]

    def load(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.loaded.append(len(indices))
        return self.images[indices], self.labels[indices]


def make_plan(
    rounds: int = 3,
    steps: int = 1,
    rate: float = 0.5,
    sigma: float = 1.0,
    evaluate_every: int = 2,
    **changes: Any,
) -> Plan:
    """Two members with SIZE records each, in mode local under a clip norm of 0.7."""
    return small_plan(
        local_steps=steps,
        learning_rate=0.5,
        head_learning_rate=0.25,
        clip_norm_l2=0.7,
        noise_multiplier=sigma,
        sampling_rate=rate,
        evaluation_noise_multiplier=3.0,
        rounds=rounds,
        evaluate_every=evaluate_every,
        members=members(2, SIZE, first=1),
        **changes,
    )


def make_request(plan: Plan, round_number: int = 1) -> RoundRequest:
    """What a coordinator asks for under `plan`."""
    return RoundRequest(1, "run_1", round_number, plan.digest, "sha256:00", 0, 60.0, "t", "t")


def make_bench(plan: Plan, seed: int = 0, **runtime: Any) -> Workbench:
    """What mem_1 trains with."""
    head = HeadState.zeros(len(CLASSES), plan.extractor.embedding_dim)
    options = RuntimeOptions(device="cpu", **runtime)
    return Workbench("mem_1", build(plan.extractor, 1), MemoryRecords(), head, RepeatableNoise(seed), options)


def paying(ledger_path: Path) -> Callable[..., ChargeToken]:
    """Charges a real ledger for a round of a plan, and gives the token."""
    ledger = Ledger(ledger_path)

    def charge(plan: Plan, round_number: int = 1, run_id: str = "run_1") -> ChargeToken:
        events = plan.events_of_round(round_number)
        return ledger.charge(Charge("dat_1", plan.digest, run_id, round_number, events), Budget(1e6, 1e-5))

    return charge


def start_of(bench: Workbench) -> np.ndarray:
    """float32 [d]: the weights that the round starts from."""
    return get_flat(bench.extractor)


def vector_of(update: Update) -> np.ndarray:
    """float32 [d]: what left."""
    return np.frombuffer(update.vector_f32, dtype=np.float32)
