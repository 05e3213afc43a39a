"""ONNX fp32 → int8: the ways that pay on a CPU are tried, until one is close enough to fp32.

Static: weights and what flows between layers are 8 bits, with ranges seen on public records (Jacob et al. 2018,
"Quantization and training of neural networks for efficient integer-arithmetic-only inference"). Dynamic: ranges are
found anew for every batch; tried only without convolutions, which it makes slower than fp32. Static with the first
layers left in fp32: they hold few weights, and all layers behind them inherit their error.

Ways are compared on records to learn from that none was calibrated on. What is held out measures the one that is kept,
so that no choice flatters its loss; only where that loss is over the bar are gentler ways tried, once.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from shared.domain.errors import CommonlensError
from shared.domain.extractor import ExtractorSpec
from shared.exports.comparison import error_share, int8_loss
from shared.exports.measured import Int8, Int8Loss
from shared.exports.onnx_file import OnnxFile
from shared.exports.public_records import PublicRecords
from shared.extractors.preprocess import to_input

CALIBRATION_RECORDS, CALIBRATION_BATCH = 72, 8
"""As many again are those that ways are compared on."""
CLOSE_ENOUGH = 0.001
"""Share of error (`error_share`) at which no other way is tried."""
FIRST_LAYERS = (2, 4, 8)
"""In fp32, where static alone is not close enough."""
MOST_WEIGHTS_FP32 = 0.02
"""Of all weights in layers that int8 knows, so that the file stays about a quarter of fp32's."""
_WITH_WEIGHTS = ("Conv", "MatMul", "Gemm")
_QUANTISED = [*_WITH_WEIGHTS, "Clip"]
"""Clip follows a convolution: quantised with it, it costs nothing."""
_FLOAT_OUTPUT = ["MatMul", "Gemm"]
"""What follows them runs in fp32: 8 bits in between would only add an error."""
Bytes = npt.NDArray[np.uint8]
Ways = Mapping[str, Callable[[Path], None]]
"""Method → what writes it."""
_MakeWays = Callable[[Path, OnnxFile, ExtractorSpec, Bytes], Ways]
_NOT_FINITE = "gives embeddings that are not finite"
_STATIC = "static QDQ, weights int8 a channel, activations uint8"
_STATIC_16 = "static QDQ, weights int8 a channel, activations uint16"
_DYNAMIC = "dynamic, weights int8 a channel"


@dataclass(frozen=True)
class Quantised:
    """An int8 model and what it costs."""

    model: bytes
    measured: Int8
    public: PublicRecords
    """What it was measured on."""


@dataclass(frozen=True)
class _Candidate:
    method: str
    path: Path
    error: float
    """`error_share` on records to compare on."""


def to_int8(
    fp32: Path,
    spec: ExtractorSpec,
    public: PublicRecords,
    scratch: Path,
    more: Callable[[], PublicRecords] | None = None,
) -> tuple[Quantised | None, str]:
    """The closest int8 model of the file `fp32`, or None and the reason. Intermediate files lie in `scratch`.

    Where `public` cannot tell on which side of the bar the loss is, it is measured on `more`. A measured loss over the
    bar has gentler ways tried; what is still over it is of no use, though it may be so by chance.
    """
    if not len(Layers(onnx.load(fp32).graph)):
        return None, "it has no trained or stored weights in layers that int8 knows"
    before = OnnxFile(fp32)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for ways in (_ways, _gentler_ways):
            best, reasons = _closest(fp32, before, spec, public.learned, Path(folder), ways)
            if best is None:
                return None, "; ".join(reasons)
            loss, asked = _loss(before, OnnxFile(best.path), spec, public, more)
            if not math.isfinite(loss.cosine_least):
                return None, f"{best.method}: {_NOT_FINITE}"
            if loss.loss_points <= loss.bar_points:
                return Quantised(best.path.read_bytes(), Int8(best.method, loss), asked), ""
    return None, (
        f"the closest, {best.method}, loses {loss.loss_points:.2f} points of top-1 (95 % interval "
        f"{loss.loss_low:.2f} to {loss.loss_high:.2f}), over the bar of {loss.bar_points:g}, so it was left out"
    )


def _loss(
    before: OnnxFile,
    after: OnnxFile,
    spec: ExtractorSpec,
    public: PublicRecords,
    more: Callable[[], PublicRecords] | None,
) -> tuple[Int8Loss, PublicRecords]:
    """What int8 costs, and the records that it was measured on."""
    loss = int8_loss(before, after, public, spec)
    if not loss.undecided or more is None or len((wider := more()).held_out) <= len(public.held_out):
        return loss, public
    return int8_loss(before, after, wider, spec), wider


def _closest(
    fp32: Path,
    before: OnnxFile,
    spec: ExtractorSpec,
    learned: npt.NDArray[np.uint8],
    folder: Path,
    ways: _MakeWays,
) -> tuple[_Candidate | None, list[str]]:
    """The best of what was made until one was close enough, and why others were not made."""
    fold_norms(fp32, folder / "prepared.onnx")
    step = max(1, len(learned) // CALIBRATION_RECORDS)
    calibration, compared = learned[::step], learned[step // 2 :: step]
    wanted = before.embed(compared, spec)
    made: list[_Candidate] = []
    reasons: list[str] = []
    for method, quantise in ways(folder / "prepared.onnx", before, spec, calibration).items():
        path = folder / f"int8-{len(made) + len(reasons)}.onnx"
        try:
            with _quiet_root_log():
                quantise(path)
            found = OnnxFile(path).embed(compared, spec)
        except CommonlensError as error:
            reasons.append(f"{method}: {error.message}")
            continue
        except Exception as error:  # the quantiser raises whatever its graph code meets
            reasons.append(f"{method}: {type(error).__name__}")
            continue
        reason = why_unfit(path, fp32, found)
        if reason:
            reasons.append(f"{method}: {reason}")
            continue
        made.append(_Candidate(method, path, error_share(wanted, found)))
        if made[-1].error <= CLOSE_ENOUGH:
            break
    return min(made, key=lambda one: one.error, default=None), reasons


def why_unfit(int8: Path, fp32: Path, found: npt.NDArray[np.float32]) -> str:
    """Why nobody would want this file; empty for one that is of use."""
    if not np.isfinite(found).all():
        return _NOT_FINITE
    sizes = [each.stat().st_size for each in (fp32, int8)]
    return "" if sizes[1] < sizes[0] else f"is no smaller than fp32, {sizes[1]} bytes instead of {sizes[0]}"


def _ways(prepared: Path, before: OnnxFile, spec: ExtractorSpec, calibration: Bytes) -> Ways:
    """Method → what writes it, in the order in which they are tried."""
    layers = Layers(onnx.load(prepared).graph)
    static = functools.partial(_static, prepared, before, spec, calibration, layers)
    ways = {_STATIC: static(0)}
    if not layers.convolutions:
        ways[_DYNAMIC] = _dynamic(prepared)
    for first in FIRST_LAYERS:
        if layers.weights_of_first(first) <= MOST_WEIGHTS_FP32:
            ways[f"{_STATIC}, first {first} layers fp32"] = static(first)
    return ways


def _gentler_ways(prepared: Path, before: OnnxFile, spec: ExtractorSpec, calibration: Bytes) -> Ways:
    """Ways that make a slower or a larger file: worth it only where all others lose too much."""
    layers = Layers(onnx.load(prepared).graph)
    static = functools.partial(_static, prepared, before, spec, calibration, layers)
    ways = {_DYNAMIC: _dynamic(prepared), _STATIC_16: static(0, QuantType.QUInt16)}
    for first in FIRST_LAYERS:
        if first < len(layers):
            ways[f"{_STATIC_16}, first {first} layers fp32"] = static(first, QuantType.QUInt16)
    return ways


def _static(
    prepared: Path,
    before: OnnxFile,
    spec: ExtractorSpec,
    calibration: Bytes,
    layers: Layers,
    first: int,
    activations: QuantType = QuantType.QUInt8,
) -> Callable[[Path], None]:
    """All but the `first` layers."""
    return lambda out: quantize_static(
        str(prepared),
        str(out),
        _Calibration(before, calibration, spec),
        quant_format=QuantFormat.QDQ,
        activation_type=activations,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=_QUANTISED,
        nodes_to_exclude=layers.first(first),
        extra_options={"OpTypesToExcludeOutputQuantization": _FLOAT_OUTPUT},
        calibration_cache_path=prepared.with_suffix(f".{activations.name}"),
    )


def _dynamic(prepared: Path) -> Callable[[Path], None]:
    return lambda out: quantize_dynamic(
        str(prepared), str(out), weight_type=QuantType.QInt8, per_channel=True
    )


class Layers:
    """The layers with weights that int8 knows, as a graph runs them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        sizes = {each.name: math.prod(each.dims) for each in graph.initializer if len(each.dims) > 1}
        self._layers = [
            node for node in graph.node if node.op_type in _WITH_WEIGHTS and sizes.keys() & set(node.input)
        ]
        self._sizes = [sum(sizes.get(name, 0) for name in node.input) for node in self._layers]
        self._clips = {node.input[0]: node.name for node in graph.node if node.op_type == "Clip"}
        self.convolutions = any(node.op_type == "Conv" for node in graph.node)

    def __len__(self) -> int:
        return len(self._layers)

    def first(self, count: int) -> list[str]:
        """Names of the first `count`, each with the Clip behind it: alone, that would be given the range before it."""
        both = ((node.name, self._clips.get(node.output[0])) for node in self._layers[:count])
        return [name for pair in both for name in pair if name]

    def weights_of_first(self, count: int) -> float:
        """Their share of all weights."""
        share: float = sum(self._sizes[:count]) / sum(self._sizes)
        return share


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Records to learn from, evenly over all labels."""

    def __init__(self, before: OnnxFile, chosen: npt.NDArray[np.uint8], spec: ExtractorSpec) -> None:
        self._batches = self._all(before, chosen, spec)

    def get_next(self) -> dict[str, Any] | None:
        """The next batch by input name, or None at the end."""
        return next(self._batches, None)

    @staticmethod
    def _all(
        before: OnnxFile, chosen: npt.NDArray[np.uint8], spec: ExtractorSpec
    ) -> Iterator[dict[str, Any]]:
        for start in range(0, len(chosen), CALIBRATION_BATCH):
            yield before.feeds(to_input(chosen[start : start + CALIBRATION_BATCH], spec))


def fold_norms(fp32: Path, prepared: Path) -> None:
    """`fp32` with constants folded and norms merged into their convolutions, as a runtime would at start."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(prepared)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(fp32), options, providers=["CPUExecutionProvider"])
    model = onnx.load(prepared)
    model.graph.ClearField("value_info")  # of weights that the quantiser turns around
    for count, node in enumerate(model.graph.node):
        node.name = node.name or f"node {count}"  # layers are left in fp32 by name
    onnx.save(model, prepared)


@contextlib.contextmanager
def _quiet_root_log() -> Iterator[None]:
    """The quantiser gives its advice through the root logger."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
