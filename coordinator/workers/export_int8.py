"""ONNX fp32 → int8: the ways that pay on a CPU are tried, and the one that loses least is kept.

Static: weights and what flows between layers are 8 bits, with ranges seen on public records (Jacob et al. 2018,
"Quantization and training of neural networks for efficient integer-arithmetic-only inference"). Dynamic: ranges are
found anew for every batch; tried only without convolutions, which it makes slower than fp32.
"""

from __future__ import annotations

import contextlib
import logging
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
from shared.exports.comparison import compare_embeddings
from shared.exports.measured import Int8
from shared.exports.onnx_file import OnnxFile, input_name
from shared.exports.public_records import PublicRecords
from shared.extractors.preprocess import to_input

CALIBRATION_RECORDS, CALIBRATION_BATCH = 72, 8
_WITH_WEIGHTS = ("Conv", "MatMul", "Gemm")
_QUANTISED = [*_WITH_WEIGHTS, "Clip"]
"""Clip follows a convolution: quantised with it, it costs nothing."""
_STATIC = "static QDQ, weights int8 a channel, activations uint8"
_DYNAMIC = "dynamic, weights int8 a channel"


@dataclass(frozen=True)
class Quantised:
    """An int8 model and what it costs."""

    model: bytes
    measured: Int8


def to_int8(
    fp32: Path, spec: ExtractorSpec, public: PublicRecords, scratch: Path
) -> tuple[Quantised | None, str]:
    """The better int8 model of the file `fp32`, or None and the reason. Intermediate files lie in `scratch`."""
    if not _weights_to_quantise(fp32):
        return None, "it has no trained or stored weights in layers that int8 knows"
    prepared = scratch / "prepared.onnx"
    fold_norms(fp32, prepared)
    before = OnnxFile(fp32)
    learned, held_out = (before.embed(each, spec) for each in (public.learned, public.held_out))
    made: list[Quantised] = []
    reasons: list[str] = []
    for method, quantise in _ways(prepared, spec, public).items():
        path = scratch / "int8.onnx"
        try:
            with _quiet_root_log():
                quantise(path)
            found = OnnxFile(path).embed(public.held_out, spec)
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
        loss = compare_embeddings(learned, held_out, found, public)
        made.append(Quantised(path.read_bytes(), Int8(method, loss)))
    if not made:
        return None, "; ".join(reasons)
    best = min(made, key=lambda one: (one.measured.loss.loss_points, -one.measured.loss.cosine_mean))
    return best, ""


def why_unfit(int8: Path, fp32: Path, found: npt.NDArray[np.float32]) -> str:
    """Why nobody would want this file; empty for one that is of use."""
    if not np.isfinite(found).all():
        return "gives embeddings that are not finite"
    sizes = [each.stat().st_size for each in (fp32, int8)]
    return "" if sizes[1] < sizes[0] else f"is no smaller than fp32, {sizes[1]} bytes instead of {sizes[0]}"


def _ways(prepared: Path, spec: ExtractorSpec, public: PublicRecords) -> Mapping[str, Callable[[Path], None]]:
    ways: dict[str, Callable[[Path], None]] = {
        _STATIC: lambda out: quantize_static(
            str(prepared),
            str(out),
            _Calibration(public.learned, spec),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=_QUANTISED,
        )
    }
    if "Conv" not in {node.op_type for node in onnx.load(prepared).graph.node}:
        ways[_DYNAMIC] = lambda out: quantize_dynamic(
            str(prepared), str(out), weight_type=QuantType.QInt8, per_channel=True
        )
    return ways


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Records to learn from, evenly over all labels."""

    def __init__(self, learned: npt.NDArray[np.uint8], spec: ExtractorSpec) -> None:
        step = max(1, len(learned) // CALIBRATION_RECORDS)
        self._batches = self._all(learned[::step], spec)

    def get_next(self) -> dict[str, Any] | None:
        """The next batch by input name, or None at the end."""
        return next(self._batches, None)

    @staticmethod
    def _all(chosen: npt.NDArray[np.uint8], spec: ExtractorSpec) -> Iterator[dict[str, Any]]:
        for start in range(0, len(chosen), CALIBRATION_BATCH):
            yield {input_name(spec): to_input(chosen[start : start + CALIBRATION_BATCH], spec)}


def fold_norms(fp32: Path, prepared: Path) -> None:
    """`fp32` with constants folded and norms merged into their convolutions, as a runtime would at start."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(prepared)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(fp32), options, providers=["CPUExecutionProvider"])
    model = onnx.load(prepared)
    model.graph.ClearField("value_info")  # of weights that the quantiser turns around
    onnx.save(model, prepared)


def _weights_to_quantise(fp32: Path) -> bool:
    """Whether a layer that int8 knows has a constant of more than one dimension."""
    graph = onnx.load(fp32).graph
    matrices = {each.name for each in graph.initializer if len(each.dims) > 1}
    return any(node.op_type in _WITH_WEIGHTS and matrices & set(node.input) for node in graph.node)


@contextlib.contextmanager
def _quiet_root_log() -> Iterator[None]:
    """The quantiser gives its advice through the root logger."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
