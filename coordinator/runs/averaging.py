"""Step 11: contributions into one weighted sum, and the server optimiser that moves the weights by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.domain.canonical import digest_of_file
from shared.domain.errors import DigestMismatch, InvalidConfig, InvalidWeights
from shared.domain.plan import ServerOptimizer
from shared.domain.update import AggregateSum, Contribution
from shared.wire.rounds import BYTES_PER_COORDINATE

BLOCK_COORDINATES = 1 << 20
LARGEST_VALUE = 1e6
"""No coordinate of an honest clipped and noised update comes near this; one that does is refused whole."""


class Accumulator:
    """Σ weight·update in float64, one contribution at a time: memory O(model), not O(members × model)."""

    def __init__(self, coordinates: int) -> None:
        self._total = np.zeros(coordinates, dtype=np.float64)
        self._weight = 0.0
        self._contributors: list[str] = []

    def add(self, contribution: Contribution, payload: Path, weight: float) -> None:
        """Add the staged payload, whole or not at all.

        Raises InvalidWeights for a wrong length or a NaN, infinite or absurd value, and DigestMismatch
        when the bytes are not the ones that the member signed. Then the sum is as it was before.
        """
        checked_payload(contribution, payload, self._total.size * BYTES_PER_COORDINATE)
        if self._total.size:
            vector = np.memmap(payload, dtype="<f4", mode="r")
            _check_values(vector)
            for start in range(0, vector.size, BLOCK_COORDINATES):
                block = slice(start, start + BLOCK_COORDINATES)
                self._total[block] += weight * vector[block].astype(np.float64)
        self._weight += weight
        self._contributors.append(contribution.header.member_id)

    @property
    def contributors(self) -> tuple[str, ...]:
        """Who is in the sum so far."""
        return tuple(self._contributors)

    def result(self) -> AggregateSum:
        """The sum of those who contributed."""
        return AggregateSum(memoryview(self._total), self._weight, self.contributors)


@dataclass
class ServerState:
    """What the checkpoint holds: weights float32 [d] and the optimiser's own vectors."""

    weights: np.ndarray
    first_moment: np.ndarray | None = None
    second_moment: np.ndarray | None = None
    averaged: np.ndarray | None = None
    """Exponential moving average of the weights; what is released, where the plan asks for it."""

    def tensors(self) -> dict[str, np.ndarray]:
        """As named tensors for the checkpoint store."""
        named = {
            "weights": self.weights,
            "first_moment": self.first_moment,
            "second_moment": self.second_moment,
            "averaged": self.averaged,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> ServerState:
        """Inverse of `tensors`."""
        return cls(**{name: np.array(tensor) for name, tensor in tensors.items()})

    @property
    def released_weights(self) -> np.ndarray:
        """float32 [d]: the averaged weights where there are any, else the last ones."""
        return self.weights if self.averaged is None else self.averaged


def apply_average(state: ServerState, total: AggregateSum, optimizer: ServerOptimizer) -> ServerState:
    """The state after one round: weights moved by Σ w_i u_i / Σ w_i over those who contributed.

    `fedavg`: w ← w + η·mean (McMahan et al. 2017, algorithm 1). `fedadam`: Adam on the mean update, without
    bias correction, as Reddi et al. 2021, algorithm 2, write it. The moving average follows De et al. 2022,
    section 3.4. Everything here is post-processing of a sum that is already private.
    """
    sums = np.frombuffer(total.vector_f64, dtype=np.float64)
    moved: dict[str, np.ndarray] = {}
    # Block by block, without temporaries of the whole model: fresh pages cost more than the arithmetic.
    for start in range(0, sums.size, BLOCK_COORDINATES):
        block = slice(start, start + BLOCK_COORDINATES)
        before = ServerState(**{name: tensor[block] for name, tensor in state.tensors().items()})
        after = _moved(before, sums[block] / total.weight_total, optimizer)
        for name, tensor in after.tensors().items():
            if name not in moved:
                moved[name] = np.empty(sums.size, dtype=np.float32)
            moved[name][block] = tensor
    return ServerState(**moved)


def _moved(state: ServerState, mean: np.ndarray, optimizer: ServerOptimizer) -> ServerState:
    """`apply_average` for the coordinates of one block."""
    first, second = state.first_moment, state.second_moment
    if optimizer.name == "fedavg":
        step = optimizer.learning_rate * mean
    elif optimizer.name == "fedadam":
        zeros = np.zeros(mean.size, dtype=np.float32)
        first = _blend(zeros if first is None else first, mean, optimizer.beta1)
        second = _blend(zeros if second is None else second, mean**2, optimizer.beta2)
        step = optimizer.learning_rate * first / (np.sqrt(second) + optimizer.epsilon)
    else:
        raise InvalidConfig(f"The server optimizer is fedavg or fedadam, not {optimizer.name!r}.")
    weights = (state.weights + step).astype(np.float32)
    averaged = state.averaged
    if optimizer.averaging_decay > 0.0:
        averaged = _blend(weights if averaged is None else averaged, weights, optimizer.averaging_decay)
    return ServerState(weights, first, second, averaged)


def _blend(old: np.ndarray, new: np.ndarray, keep: float) -> np.ndarray:
    blended: np.ndarray = (keep * old + (1.0 - keep) * new).astype(np.float32)
    return blended


def checked_payload(contribution: Contribution, payload: Path, expected_bytes: int) -> Path:
    """`payload`, once it is as long as the plan says and the very bytes that the member signed.

    Raises InvalidWeights for another length, DigestMismatch for other bytes.
    """
    header = contribution.header
    size_bytes = payload.stat().st_size
    if not size_bytes == header.payload_bytes == expected_bytes:
        raise InvalidWeights(
            f"A contribution to this round has {expected_bytes} bytes, this one has {size_bytes} and was "
            f"signed as {header.payload_bytes}. It was left out. Check that both sides run the same plan."
        )
    found = digest_of_file(payload)
    if found != header.payload_digest:
        raise DigestMismatch(
            f"The contribution was signed as {header.payload_digest}, its bytes are {found}. It was left out."
        )
    return payload


def _check_values(vector: np.ndarray) -> None:
    for start in range(0, vector.size, BLOCK_COORDINATES):
        block = np.abs(vector[start : start + BLOCK_COORDINATES])
        # One comparison catches NaN, infinity and absurd sizes: NaN is not below anything.
        if not bool((block < LARGEST_VALUE).all()):
            raise InvalidWeights(
                f"Every value of a contribution must be a number below {LARGEST_VALUE:g} in size; this one "
                "holds NaN, infinity or more. It was left out."
            )
