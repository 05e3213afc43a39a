"""ONNX files from somebody else, as a table of sentences: what `commonlens diff` and `reproduce` would have to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper

from shared.domain.errors import InvalidWeights
from shared.domain.extractor import ExtractorSpec
from shared.exports.onnx_file import BATCH, OPSET, OUTPUT, OnnxFile

SPEC = ExtractorSpec("small-gn", 3, 4, 4, 3)
ESCAPE = "\x1b]0;owned\x07"
"""What a terminal obeys: it takes another title."""
MEAN = (
    helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["mean"]),
)
EVERYTHING = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)


def model(nodes: Sequence[NodeProto], *tensors: TensorProto, **more: object) -> onnx.ModelProto:
    """Of three colours' means, which `nodes` make an embedding of."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 4, 4])
    made = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None)
    graph = helper.make_graph([*MEAN, *nodes], "graph", [pixels], [made], list(tensors))
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9, **more)


def honest() -> onnx.ModelProto:
    return model([helper.make_node("Identity", ["mean"], [OUTPUT])])


def endless() -> onnx.ModelProto:
    go, again = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "again"))
    count = helper.make_tensor_value_info("k", TensorProto.INT64, [])
    left = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    body = [helper.make_node("Identity", [a], [b]) for a, b in (("go", "again"), ("x", "y"))]
    loop = helper.make_graph(body, "body", [count, go, EVERYTHING], [again, left])
    return model(
        [helper.make_node("Loop", ["most", "yes", "mean"], [OUTPUT], body=loop)],
        helper.make_tensor("most", TensorProto.INT64, [], [2**60]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
    )


def doubling() -> onnx.ModelProto:
    """Functions, each of which calls the one before twice; 30 in place of 8 are a billion nodes."""
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function(
            "own", "f0", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], imports[:1]
        )
    ]
    for k in range(1, 8):
        twice = [helper.make_node(f"f{k - 1}", [a], [b], domain="own") for a, b in (("x", "z"), ("z", "y"))]
        functions.append(helper.make_function("own", f"f{k}", ["x"], ["y"], twice, imports))
    return model([helper.make_node("f7", ["mean"], [OUTPUT], domain="own")], functions=functions)


def outside(place: str) -> onnx.ModelProto:
    """One whose weights are another file's bytes."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", place), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    return model([helper.make_node("Add", ["mean", "w"], [OUTPUT])], tensor)


def in_a_node(place: str) -> onnx.ModelProto:
    made = outside(place)
    (tensor,) = made.graph.initializer
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    return model([constant, *made.graph.node[len(MEAN) :]])


def own_form(folder: Path) -> bytes:
    """onnxruntime's, which is read by other code than ONNX."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "own.ort")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(honest().SerializeToString(), options, providers=["CPUExecutionProvider"])
    return (folder / "own.ort").read_bytes()


ATTACKS: dict[str, tuple[Callable[[Path], bytes | onnx.ModelProto], str]] = {
    "a loop that never ends": (lambda _: endless(), "loops or branches"),
    "functions that call each other until memory is full": (lambda _: doubling(), "functions of its own"),
    "weights that are a file beside it": (lambda _: outside("secret.bin"), "tensors outside the file"),
    "weights that are any file": (lambda f: outside(str(f / "secret.bin")), "tensors outside the file"),
    "a constant that is a file beside it": (lambda _: in_a_node("secret.bin"), "tensors outside the file"),
    "onnxruntime's own form": (own_form, "cannot open it"),
    "no model": (lambda _: b"no model", "cannot open it"),
    "nothing": (lambda _: b"", "cannot open it"),
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_what_no_model_of_ours_has_is_refused_before_it_runs(
    sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # Where relative names would be looked for.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(b"\0" * 12)
    made, told = ATTACKS[sentence]
    found = made(tmp_path)
    data = found if isinstance(found, bytes) else found.SerializeToString()
    (tmp_path / "model.onnx").write_bytes(data)
    for given in (data, tmp_path / "model.onnx"):
        with pytest.raises(InvalidWeights, match=told):
            OnnxFile(given)
    assert capfd.readouterr() == ("", "")


def test_the_honest_model_among_them_runs(tmp_path: Path) -> None:
    records = np.full((BATCH + 1, 4, 4, 3), 255, np.uint8)
    file = OnnxFile(honest().SerializeToString())
    assert np.array_equal(file.embed(records, SPEC), np.ones((BATCH + 1, 3), np.float32))
    assert file.opset == OPSET


def test_a_model_that_fails_only_at_many_records_says_nothing_to_the_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    two = helper.make_tensor("two", TensorProto.INT64, [2], [2, 3])
    file = OnnxFile(
        model([helper.make_node("Reshape", ["mean", "two"], [OUTPUT], name=ESCAPE)], two).SerializeToString()
    )
    assert file.embed(np.zeros((2, 4, 4, 3), np.uint8), SPEC).shape == (2, 3)
    with pytest.raises(InvalidWeights, match="fails at a batch of 32 ") as caught:
        file.embed(np.zeros((BATCH, 4, 4, 3), np.uint8), SPEC)
    # onnxruntime's own words, which have the name, are the cause and not the message.
    assert ESCAPE in str(caught.value.__cause__) and ESCAPE not in caught.value.message
    assert capfd.readouterr() == ("", "")
