"""Hostile weights files. Each sentence is a file that must be refused before torch sees a byte of it."""

import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from shared.domain.errors import InvalidWeights
from shared.domain.extractor import ExtractorSpec
from shared.extractors.files import read_weights, write_weights
from shared.extractors.flatten import layout_of

SPEC = ExtractorSpec("small-gn", 1, 8, 8, 4)
TENSORS = {"a": np.arange(4, dtype=np.float32), "b": np.ones((2, 3), dtype=np.float32)}


class Payload:
    """Unpickling this would write a file beside the weights."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def honest_bytes(tmp_path):
    path = tmp_path / "honest"
    write_weights(path, TENSORS, SPEC, layout_of(TENSORS, {"a", "b"}))
    data = path.read_bytes()
    path.unlink()
    return data


def with_header(tmp_path, change):
    """The honest file with its JSON header changed by `change(header)`; a string replaces it whole."""
    data = honest_bytes(tmp_path)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    text = change(header)
    text = (text if isinstance(text, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def entry(name, **fields):
    return lambda header: header[name].update(fields)


def metadata(**fields):
    return lambda header: header["__metadata__"].update(fields)


def pickled(tmp_path):
    return pickle.dumps(Payload(tmp_path / "ran"))


def torch_archive(tmp_path):
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer)
    return buffer.getvalue()


def zip_archive(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", pickled(tmp_path))
    return buffer.getvalue()


def not_finite(value):
    def make(tmp_path):
        return honest_bytes(tmp_path)[:-4] + struct.pack("<f", value)

    return make


def changed(change):
    return lambda tmp_path: with_header(tmp_path, change)


ATTACKS = {
    "a pickle in place of safetensors": (pickled, "pickle and zip files can run code and are never opened"),
    "a torch archive in place of safetensors": (torch_archive, "are never opened"),
    "a zip archive in place of safetensors": (zip_archive, "are never opened"),
    "an empty file": (lambda _: b"", "more than 8 bytes, and it has 0"),
    "a length and nothing behind it": (lambda _: struct.pack("<Q", 100), "more than 8 bytes, and it has 8"),
    "a header cut short": (lambda p: honest_bytes(p)[:60], "it is cut"),
    "values cut short": (lambda p: honest_bytes(p)[:-1], "bytes of values, and it has 39: it is cut"),
    "bytes after the last tensor": (lambda p: honest_bytes(p) + b"x", "40 bytes of values, and it has 41"),
    "a header that claims 2⁶³ bytes": (
        lambda _: struct.pack("<Q", 2**63) + b"{" * 100,
        "a header of at most 4194304 bytes, and it claims 9223372036854775808",
    ),
    "a header of brackets a thousand deep": (
        changed(lambda _: '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
        "a JSON header, and it is not",
    ),
    "a header that is not JSON": (changed(lambda _: "{nonsense"), "a JSON header, and it is not"),
    "one name for two tensors": (
        changed(lambda header: json.dumps(header)[:-1] + ',"a":' + json.dumps(header["b"]) + "}"),
        "a name occurs twice",
    ),
    "no metadata": (changed(lambda header: header.pop("__metadata__")), "the format 'commonlens-weights/1'"),
    "another format": (changed(metadata(format="pt")), "the format 'commonlens-weights/1' in its header"),
    "a spec that is not JSON": (changed(metadata(spec="{")), "a readable spec"),
    "a spec with an unknown key": (changed(metadata(spec='{"run":"rm"}')), "spec: unknown key 'run'"),
    "trainable tensors that do not exist": (
        changed(metadata(trainable='["a","z"]')),
        "every trainable tensor to be present, and 'z' is not",
    ),
    "whole numbers in place of floats": (changed(entry("a", dtype="I32")), "tensor 'a' to be F32"),
    "half precision": (changed(entry("a", dtype="F16")), "tensor 'a' to be F32"),
    "a shape larger than its bytes": (
        changed(entry("a", shape=[2**20, 2**19])),
        "to fill 2199023255552 bytes",
    ),
    "a shape of negative sides": (changed(entry("b", shape=[-2, -3])), "to have a shape and two offsets"),
    "a shape of a hundred sides": (changed(entry("a", shape=[1] * 100)), "tensor 'a' of shape"),
    "a shape that is text": (changed(entry("a", shape="4")), "to have a shape and two offsets"),
    "a shape of true and false": (changed(entry("a", shape=[True, 4])), "to have a shape and two offsets"),
    "offsets that point before the file": (changed(entry("a", data_offsets=[-16, 0])), "two offsets"),
    "offsets that point behind the file": (
        changed(lambda h: (h.pop("b"), h["a"].update(shape=[2**30], data_offsets=[0, 2**32]))),
        "4294967296 bytes of values, and it has 40: it is cut",
    ),
    "two tensors on the same bytes": (
        changed(entry("b", data_offsets=[0, 24])),
        "to start at byte 16, and it starts at 0",
    ),
    "a gap between tensors": (
        changed(entry("b", data_offsets=[20, 44])),
        "to start at byte 16, and it starts at 20",
    ),
    "NaN in the last value": (not_finite(float("nan")), "finite values in tensor 'b', and some are NaN"),
    "infinity in the last value": (not_finite(float("inf")), "finite values in tensor 'b'"),
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_hostile_file_is_refused_with_the_reason(sentence, tmp_path):
    make, text = ATTACKS[sentence]
    path = tmp_path / "w.safetensors"
    path.write_bytes(make(tmp_path))
    with pytest.raises(InvalidWeights) as caught:
        read_weights(path)
    assert text in caught.value.message
    assert caught.value.message.startswith("w.safetensors: expected ")
    assert "No tensor of it was used." in caught.value.message
    assert not (tmp_path / "ran").exists()


def test_the_honest_file_among_them_is_read(tmp_path):
    (tmp_path / "w").write_bytes(with_header(tmp_path, lambda header: None))
    assert set(read_weights(tmp_path / "w").tensors) == {"a", "b"}


def test_file_above_the_limit_is_refused_without_reading_it_whole(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**33)  # a sparse file: reading all of it would fill the memory
    with pytest.raises(InvalidWeights, match="at most 1000 bytes, and it has 8589934592"):
        read_weights(path, maximum_bytes=1000)


def test_files_of_right_form_with_wrong_names_or_shapes_are_refused(tmp_path):
    (tmp_path / "w").write_bytes(honest_bytes(tmp_path))
    with pytest.raises(InvalidWeights, match="missing c, not known b"):
        read_weights(tmp_path / "w", layout_of({"a": TENSORS["a"], "c": TENSORS["b"]}, {"a", "c"}))
    with pytest.raises(InvalidWeights, match=r"b: expected float32 \[3, 2\], found float32 \[2, 3\]"):
        read_weights(tmp_path / "w", layout_of({"a": TENSORS["a"], "b": TENSORS["b"].T}, {"a", "b"}))


def test_torch_never_sees_a_byte_of_a_refused_file(tmp_path):
    (tmp_path / "w").write_bytes(pickled(tmp_path))
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from shared.domain.errors import InvalidWeights\n"
        "from shared.extractors.files import read_weights\n"
        "try:\n    read_weights(Path(sys.argv[1]))\n"
        "except InvalidWeights as error:\n    print(error.code)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "w")], check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == "invalid.weights"
    assert not (tmp_path / "ran").exists()
