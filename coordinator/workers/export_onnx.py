"""An extractor as ONNX fp32: one file, dynamic batch, nothing of this machine in it. Needs torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import Tensor, nn

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import Broken
from shared.domain.extractor import ExtractorSpec
from shared.domain.strict import to_plain
from shared.exports.onnx_file import OPSET, OUTPUT, TOKENS_KEY, VOCABULARY_KEY, input_names
from shared.extractors.bert import Bert

SPEC_KEY = "commonlens.spec"
"""In the file's own metadata: the extractor as canonical JSON, so that the file alone says what it expects."""
_EXAMPLES, _EXAMPLE_TOKENS = 2, 8
"""In the traced batch; 1 would be taken for a fixed size."""
_EITHER_WAY = ("Mul", "Add")


def to_onnx(module: nn.Module, spec: ExtractorSpec) -> onnx.ModelProto:
    """`module` in eval mode as a checked model of opset OPSET. Raises Broken where torch cannot write it."""
    traced, examples, free = _traced(module, spec)
    with _quietly():
        try:
            program = torch.onnx.export(
                traced,
                examples,
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=list(input_names(spec)),
                output_names=[OUTPUT],
                dynamic_shapes=free,
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
    told = {SPEC_KEY: canonical_bytes(to_plain(spec)).decode()}
    if isinstance(module, Bert):
        told |= {VOCABULARY_KEY: "\n".join(module.vocabulary), TOKENS_KEY: str(module.shape.tokens)}
    onnx.helper.set_model_props(model, told)
    onnx.checker.check_model(model)
    return model


class _OfTokens(nn.Module):
    """A bert behind its tokenizer: what other programs' files of sentence encoders are."""

    def __init__(self, module: Bert) -> None:
        super().__init__()
        self.module = module

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.module.of_tokens(ids, mask)


def _traced(
    module: nn.Module, spec: ExtractorSpec
) -> tuple[nn.Module, tuple[Tensor, ...], tuple[dict[int, torch.export.Dim], ...]]:
    """What is written, examples of its inputs, and which of their sides may be of any length."""
    batch = torch.export.Dim("batch")
    if not isinstance(module, Bert):
        return module, (torch.zeros(_EXAMPLES, spec.channels, spec.height, spec.width),), ({0: batch},)
    ids = torch.ones(_EXAMPLES, min(_EXAMPLE_TOKENS, module.shape.places), dtype=torch.int64)
    free = {0: batch, 1: torch.export.Dim("tokens", max=module.shape.places)}
    return _OfTokens(module), (ids, torch.ones_like(ids)), (free, free)


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
