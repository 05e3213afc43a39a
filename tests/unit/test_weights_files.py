import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from shared.domain.canonical import digest_of_file
from shared.domain.errors import InvalidWeights
from shared.domain.extractor import ExtractorSpec
from shared.extractors.files import read_weights, write_weights
from shared.extractors.flatten import layout_of

SPEC = ExtractorSpec("fixed-mlp", 1, 8, 8, 4, (0.25,), (0.5,), {"hidden": 3, "concatenate": True})
TENSORS = {
    "w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "filters": np.ones((2, 1, 3, 3), dtype=np.float32),
    "scalar": np.array(2.5, dtype=np.float32),
    "empty": np.zeros((0, 3), dtype=np.float32),
}
LAYOUT = layout_of(TENSORS, {"w", "scalar", "empty"})


def test_what_was_written_is_read_back_with_spec_and_layout(tmp_path):
    digest = write_weights(tmp_path / "w.safetensors", TENSORS, SPEC, LAYOUT)
    weights = read_weights(tmp_path / "w.safetensors", LAYOUT)
    assert (weights.spec, weights.layout) == (SPEC, LAYOUT)
    assert digest == digest_of_file(tmp_path / "w.safetensors")
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(weights.tensors[name], tensor)
        assert weights.tensors[name].shape == tensor.shape
        assert weights.tensors[name].dtype == np.float32


def test_equal_weights_are_equal_bytes(tmp_path):
    first = write_weights(tmp_path / "1", TENSORS, SPEC, LAYOUT)
    second = write_weights(tmp_path / "2", dict(reversed(TENSORS.items())), SPEC, LAYOUT)
    assert first == second


def test_any_safetensors_reader_opens_the_file(tmp_path):
    write_weights(tmp_path / "w.safetensors", TENSORS, SPEC, LAYOUT)
    theirs = load_file(tmp_path / "w.safetensors")
    assert set(theirs) == set(TENSORS)
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(theirs[name], tensor)


def test_non_contiguous_tensors_are_written_by_value(tmp_path):
    turned = {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    write_weights(tmp_path / "w", turned, SPEC, layout_of(turned, {"w"}))
    np.testing.assert_array_equal(read_weights(tmp_path / "w").tensors["w"], turned["w"])


def test_weights_that_are_not_finite_are_never_written(tmp_path):
    broken = {**TENSORS, "scalar": np.array(np.nan, dtype=np.float32)}
    with pytest.raises(InvalidWeights, match="finite values in tensor 'scalar', and some are NaN"):
        write_weights(tmp_path / "w", broken, SPEC, LAYOUT)
    assert list(tmp_path.iterdir()) == []


def test_file_of_another_layout_is_refused(tmp_path):
    write_weights(tmp_path / "w", TENSORS, SPEC, LAYOUT)
    with pytest.raises(InvalidWeights, match="other tensors to be trainable"):
        read_weights(tmp_path / "w", layout_of(TENSORS, set(TENSORS)))
    other = layout_of({**TENSORS, "scalar": np.zeros(2, np.float32)}, {"w", "scalar", "empty"})
    with pytest.raises(InvalidWeights, match=r"scalar: expected float32 \[2\], found float32 \[\]"):
        read_weights(tmp_path / "w", other)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidWeights, match="w.safetensors: expected a weights file at this place"):
        read_weights(tmp_path / "w.safetensors")


def test_bytes_are_read_and_written_without_torch():
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import shared.extractors.files, shared.extractors.flatten, shared.extractors.preprocess\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
