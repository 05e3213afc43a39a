"""Step 11: whole contributions only, weights from the plan, and the optimisers as their papers write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.runs.averaging import LARGEST_VALUE, Accumulator, ServerState, apply_average
from shared.domain.canonical import digest_of_bytes
from shared.domain.errors import DigestMismatch, InvalidConfig, InvalidWeights
from shared.domain.plan import ServerOptimizer
from shared.domain.update import AggregateSum, Contribution, ContributionHeader

D = 5


def vectors(count: int, d: int = D) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(3)).normal(size=(count, d)).astype("<f4")


def contribution(folder: Path, vector: np.ndarray, name: str = "mem_1", **changes: object) -> tuple:
    data = np.asarray(vector, dtype="<f4").tobytes()
    path = folder / name
    path.write_bytes(data)
    fields: dict = {"payload_digest": digest_of_bytes(data), "payload_bytes": len(data), **changes}
    header = ContributionHeader(
        name, "run_1", 1, "sha256:p", counts=None, weights_digest="sha256:w", **fields
    )
    return Contribution(header, b""), path


def summed(accumulator: Accumulator) -> tuple[np.ndarray, float, tuple[str, ...]]:
    total = accumulator.result()
    return np.frombuffer(total.vector_f64), total.weight_total, total.contributors


def test_sum_is_weighted_in_float64(tmp_path: Path) -> None:
    accumulator, weights, drawn = Accumulator(D), (0.2, 0.3), vectors(2)
    for index in range(2):
        accumulator.add(*contribution(tmp_path, drawn[index], f"mem_{index}"), weights[index])
    vector, weight, contributors = summed(accumulator)
    expected = 0.2 * drawn[0].astype(np.float64) + 0.3 * drawn[1].astype(np.float64)
    assert np.array_equal(vector, expected)
    assert (weight, contributors) == (0.5, ("mem_0", "mem_1"))


def test_order_of_arrival_changes_rounding_at_most(tmp_path: Path) -> None:
    drawn, totals = vectors(6), []
    for order in (range(6), range(5, -1, -1)):
        accumulator = Accumulator(D)
        for index in order:
            accumulator.add(*contribution(tmp_path, drawn[index]), 1 / 6)
        totals.append(summed(accumulator)[0])
    assert np.allclose(totals[0], totals[1], rtol=1e-14, atol=1e-15)


def test_payload_longer_than_a_block_is_summed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.runs.averaging.BLOCK_COORDINATES", 3)
    drawn = vectors(1, 8)[0]
    accumulator = Accumulator(8)
    accumulator.add(*contribution(tmp_path, drawn), 1.0)
    assert np.array_equal(summed(accumulator)[0], drawn.astype(np.float64))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, LARGEST_VALUE, -LARGEST_VALUE])
@pytest.mark.parametrize("place", [0, D - 1])
def test_one_value_that_is_no_number_leaves_the_whole_contribution_out(
    tmp_path: Path, bad: float, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.runs.averaging.BLOCK_COORDINATES", 2)
    accumulator, (good, poisoned) = Accumulator(D), vectors(2)
    accumulator.add(*contribution(tmp_path, good), 0.5)
    before = summed(accumulator)[0].copy()
    poisoned[place] = bad
    with pytest.raises(InvalidWeights, match="holds NaN, infinity or more. It was left out"):
        accumulator.add(*contribution(tmp_path, poisoned, "mem_2"), 0.5)
    vector, weight, contributors = summed(accumulator)
    assert np.array_equal(vector, before)
    assert (weight, contributors) == (0.5, ("mem_1",))


@pytest.mark.parametrize("length", [0, D - 1, D + 1])
def test_wrong_length_is_left_out_with_both_numbers(tmp_path: Path, length: int) -> None:
    accumulator = Accumulator(D)
    with pytest.raises(InvalidWeights, match=rf"has 20 bytes, this one has {4 * length} "):
        accumulator.add(*contribution(tmp_path, vectors(1, length)[0]), 1.0)
    assert summed(accumulator)[1:] == (0.0, ())


def test_signed_size_that_is_not_the_real_one_is_left_out(tmp_path: Path) -> None:
    accumulator = Accumulator(D)
    with pytest.raises(InvalidWeights, match="this one has 20 and was signed as 2000000000"):
        accumulator.add(*contribution(tmp_path, vectors(1)[0], payload_bytes=2_000_000_000), 1.0)
    assert summed(accumulator)[1:] == (0.0, ())


def test_bytes_other_than_the_signed_ones_are_left_out(tmp_path: Path) -> None:
    accumulator = Accumulator(D)
    with pytest.raises(DigestMismatch, match="was signed as sha256:00, its bytes are sha256:"):
        accumulator.add(*contribution(tmp_path, vectors(1)[0], payload_digest="sha256:00"), 1.0)
    assert not summed(accumulator)[0].any()


def test_extractor_without_trainable_coordinates_sums_to_nothing(tmp_path: Path) -> None:
    accumulator = Accumulator(0)
    accumulator.add(*contribution(tmp_path, np.zeros(0)), 1.0)
    assert summed(accumulator)[1:] == (1.0, ("mem_1",))


def aggregate(mean: np.ndarray, weight: float = 0.5) -> AggregateSum:
    return AggregateSum(memoryview(mean.astype(np.float64) * weight), weight, ("mem_1",))


def test_fedavg_moves_the_weights_by_the_mean_over_those_who_contributed() -> None:
    weights, mean = vectors(2)
    moved = apply_average(ServerState(weights), aggregate(mean, 0.3), ServerOptimizer("fedavg"))
    assert np.allclose(moved.weights, weights + mean, rtol=1e-6)
    assert moved.weights.dtype == np.float32
    half = apply_average(ServerState(weights), aggregate(mean), ServerOptimizer("fedavg", learning_rate=0.5))
    assert np.allclose(half.weights, weights + 0.5 * mean, rtol=1e-6)


def test_fedadam_is_reddis_algorithm_2_over_several_rounds() -> None:
    optimizer = ServerOptimizer("fedadam", learning_rate=0.1, beta1=0.9, beta2=0.99, epsilon=1e-3)
    drawn = vectors(5)
    state, x = ServerState(drawn[0]), drawn[0].astype(np.float64)
    m, v = np.zeros(D), np.zeros(D)
    for mean in drawn[1:].astype(np.float64):
        state = apply_average(state, aggregate(mean), optimizer)
        m = 0.9 * m + 0.1 * mean
        v = 0.99 * v + 0.01 * mean**2
        x = x + 0.1 * m / (np.sqrt(v) + 1e-3)
    assert np.allclose(state.weights, x, rtol=1e-4, atol=1e-6)


def test_moving_average_follows_the_weights_and_is_what_is_released() -> None:
    optimizer = ServerOptimizer("fedavg", averaging_decay=0.8)
    drawn = vectors(4)
    state, expected = ServerState(drawn[0]), None
    for mean in drawn[1:]:
        state = apply_average(state, aggregate(mean), optimizer)
        expected = state.weights if expected is None else 0.8 * expected + 0.2 * state.weights
    assert state.averaged is not None and np.allclose(state.averaged, expected, rtol=1e-5)
    assert state.released_weights is state.averaged
    assert not np.allclose(state.averaged, state.weights)


def test_without_a_moving_average_the_last_weights_are_released() -> None:
    moved = apply_average(ServerState(vectors(1)[0]), aggregate(vectors(1)[0]), ServerOptimizer("fedavg"))
    assert moved.averaged is None
    assert moved.released_weights is moved.weights


def test_average_does_not_change_the_state_it_was_given() -> None:
    state = ServerState(vectors(1)[0], *(np.ones(D, np.float32) for _ in range(3)))
    before = {name: tensor.copy() for name, tensor in state.tensors().items()}
    apply_average(state, aggregate(vectors(1)[0]), ServerOptimizer("fedadam", averaging_decay=0.5))
    assert all(np.array_equal(state.tensors()[name], tensor) for name, tensor in before.items())


def test_state_comes_back_from_its_tensors() -> None:
    optimizer = ServerOptimizer("fedadam", averaging_decay=0.5)
    state = apply_average(ServerState(vectors(1)[0]), aggregate(vectors(1)[0]), optimizer)
    again = ServerState.from_tensors(state.tensors())
    assert set(again.tensors()) == {"weights", "first_moment", "second_moment", "averaged"}
    moved, moved_again = (apply_average(s, aggregate(vectors(1)[0]), optimizer) for s in (state, again))
    assert np.array_equal(moved.weights, moved_again.weights)


def test_unknown_optimizer_is_refused_by_name() -> None:
    with pytest.raises(InvalidConfig, match="fedavg or fedadam, not 'sgd'"):
        apply_average(ServerState(vectors(1)[0]), aggregate(vectors(1)[0]), ServerOptimizer("sgd"))
