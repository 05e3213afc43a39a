import numpy as np
import pytest

from shared.domain.errors import InvalidWeights
from shared.extractors.flatten import check_vector, flatten, layout_of, unflatten

TENSORS = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.array([10.0, 11.0], dtype=np.float32),
    "a.filters": np.ones((1, 4), dtype=np.float32),
}
LAYOUT = layout_of(TENSORS, {"b.weight", "a.bias"})


def test_vector_holds_trainable_tensors_only_sorted_by_name():
    assert [slot.name for slot in LAYOUT.slots] == ["a.bias", "a.filters", "b.weight"]
    assert flatten(TENSORS, LAYOUT).tolist() == [10, 11, 0, 1, 2, 3, 4, 5]
    assert LAYOUT.trainable_coordinates == 8


def test_unflatten_is_the_inverse_of_flatten():
    rebuilt = unflatten(flatten(TENSORS, LAYOUT), LAYOUT, TENSORS)
    assert set(rebuilt) == set(TENSORS)
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(rebuilt[name], tensor)


def test_flatten_copies_so_that_later_training_does_not_move_the_vector():
    only = {"w": np.zeros(3, dtype=np.float32)}
    vector = flatten(only, layout_of(only, {"w"}))
    only["w"][0] = 5
    assert vector.tolist() == [0, 0, 0]


def test_extractor_without_trainable_tensors_has_an_empty_vector():
    assert flatten(TENSORS, layout_of(TENSORS, set())).shape == (0,)


@pytest.mark.parametrize(
    ("vector", "text"),
    [
        (np.zeros(7, np.float32), r"Expected a vector of 8 float32 coordinates, found float32 \[7\]"),
        (np.zeros(8, np.float64), r"Expected a vector of 8 float32 coordinates, found float64 \[8\]"),
        (np.zeros((1, 8), np.float32), r"found float32 \[1, 8\]"),
        (np.full(8, np.nan, np.float32), "Expected 8 finite coordinates, found some that are NaN"),
        (np.full(8, np.inf, np.float32), "NaN or infinite"),
    ],
)
def test_vector_that_does_not_fit_is_refused(vector, text):
    with pytest.raises(InvalidWeights, match=text):
        check_vector(vector, LAYOUT)


def test_missing_and_unknown_tensors_are_named():
    renamed = {**TENSORS, "c": TENSORS["a.bias"]}
    del renamed["a.bias"]
    with pytest.raises(InvalidWeights, match="missing a.bias, not known c"):
        flatten(renamed, LAYOUT)


def test_tensor_of_another_shape_is_refused_with_both_shapes():
    with pytest.raises(InvalidWeights, match=r"b.weight: expected float32 \[2, 3\], found float32 \[3, 2\]"):
        flatten({**TENSORS, "b.weight": np.zeros((3, 2), np.float32)}, LAYOUT)


def test_unflatten_without_the_frozen_tensors_is_refused():
    with pytest.raises(InvalidWeights, match="missing a.filters"):
        unflatten(flatten(TENSORS, LAYOUT), LAYOUT, {})
