"""A release's ONNX file, run as any program would run it: record in, embedding out, one thread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime  # type: ignore[import-untyped]

from shared.domain.errors import InvalidWeights
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.extractors.preprocess import to_input

OUTPUT = "embedding"
"""float32 [batch, embedding_dim]."""
OPSET = 20
BATCH = 32
_ERRORS_ONLY = 3

_INPUTS = {RecordKind.IMAGE: "pixels", RecordKind.TEXT: "bytes"}

Floats = npt.NDArray[np.float32]


def input_name(spec: ExtractorSpec) -> str:
    """Of float32 [batch, channels, height, width], as `to_input` gives it."""
    return _INPUTS[spec.kind]


class OnnxFile:
    """One session over a file or its bytes, on the CPU."""

    def __init__(self, model: Path | bytes, threads: int = 1) -> None:
        """Raises InvalidWeights for what onnxruntime cannot open."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # onnxruntime's own classes have no common one
            raise InvalidWeights(
                f"An ONNX model was expected, and onnxruntime {onnxruntime.__version__} cannot open it. Nothing was "
                "computed. Get the file again from its release."
            ) from error

    @property
    def input_name(self) -> str:
        """What the file calls its one input."""
        return str(self._session.get_inputs()[0].name)

    def run(self, pixels: Floats) -> Floats:
        """float32 [B, C, H, W] → [B, D]."""
        (made,) = self._session.run([OUTPUT], {self.input_name: pixels})
        return np.asarray(made, dtype=np.float32)

    def embed(self, records: npt.NDArray[np.uint8], spec: ExtractorSpec) -> Floats:
        """uint8 [N, H, W, C] → float32 [N, D], BATCH at a time."""
        parts = [
            self.run(to_input(records[start : start + BATCH], spec))
            for start in range(0, len(records), BATCH)
        ]
        return np.concatenate(parts)
