"""An extractor as ONNX fp32: one file, dynamic batch, nothing of this machine in it. Needs torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import nn

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import Broken
from shared.domain.extractor import ExtractorSpec
from shared.domain.strict import to_plain
from shared.exports.onnx_file import OPSET, OUTPUT, input_name

SPEC_KEY = "commonlens.spec"
"""In the file's own metadata: the extractor as canonical JSON, so that the file alone says what it expects."""
_EXAMPLES = 2
"""In the traced batch; 1 would be taken for a fixed size."""
_EITHER_WAY = ("Mul", "Add")


def to_onnx(module: nn.Module, spec: ExtractorSpec) -> onnx.ModelProto:
    """`module` in eval mode as a checked model of opset OPSET. Raises Broken where torch cannot write it."""
    example = torch.zeros(_EXAMPLES, spec.channels, spec.height, spec.width)
    with _quietly():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=[input_name(spec)],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise Broken(
                f"torch {torch.__version__} cannot write {spec.architecture!r} as ONNX opset {OPSET}: "
                f"{type(error).__name__}. Nothing was exported. Report it with the extractor's options."
            ) from error
    if program is None:
        raise Broken(f"torch wrote no ONNX model of {spec.architecture!r}. Nothing was exported.")
    model = program.model_proto
    _forget_this_machine(model)
    _constants_second(model.graph)
    entry = model.metadata_props.add()
    entry.key, entry.value = SPEC_KEY, canonical_bytes(to_plain(spec)).decode()
    onnx.checker.check_model(model)
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the file asks for."""
    return next(int(each.version) for each in model.opset_import if not each.domain)


def _forget_this_machine(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes of its source: names of modules, lines and folders."""
    graph = model.graph
    for holder in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.initializer,
        *model.functions,
    ):
        holder.ClearField("doc_string")
        if "metadata_props" in holder.DESCRIPTOR.fields_by_name:
            holder.ClearField("metadata_props")
    # Shapes in between: runtimes infer them, and what quantises refuses where it turned a weight around.
    graph.ClearField("value_info")


def _constants_second(graph: onnx.GraphProto) -> None:
    """`constant · x` as `x · constant`: runtimes fold scale and shift into the convolution before only so."""
    constants = {each.name for each in graph.initializer}
    for node in graph.node:
        if node.op_type in _EITHER_WAY and node.input[0] in constants and node.input[1] not in constants:
            node.input[0], node.input[1] = node.input[1], node.input[0]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporter talks to stdout, to its log and in warnings; only its answer is of use here."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
