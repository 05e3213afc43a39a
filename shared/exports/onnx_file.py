"""A release's ONNX file, run as any program would run it: record in, embedding out, one thread.

One that takes word pieces carries its vocabulary in its own metadata.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime  # type: ignore[import-untyped]

from shared.domain.errors import InvalidWeights
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.extractors.preprocess import to_input
from shared.extractors.wordpiece import WORD_PIECES, WordPieces

OUTPUT = "embedding"
"""float32 [batch, embedding_dim]."""
OPSET = 20
BATCH = 32
_ERRORS_ONLY = 3

_INPUTS = {RecordKind.IMAGE: ("pixels",), RecordKind.TEXT: ("bytes",)}
TOKEN_INPUTS = ("input_ids", "attention_mask")
"""As the ecosystem calls them: int64 [batch, tokens] each, the second 1 where a text is and 0 behind it."""
VOCABULARY_KEY, TOKENS_KEY = "commonlens.vocabulary", "commonlens.tokens"
"""In the metadata of a file with TOKEN_INPUTS: a word a line, and the most tokens of a text."""

Floats = npt.NDArray[np.float32]


def input_names(spec: ExtractorSpec) -> tuple[str, ...]:
    """Of float32 [batch, channels, height, width], as `to_input` gives it; of tokens TOKEN_INPUTS."""
    return TOKEN_INPUTS if spec.architecture in WORD_PIECES else _INPUTS[spec.kind]


class OnnxFile:
    """One session over a file or its bytes, on the CPU."""

    def __init__(self, model: Path | bytes, threads: int = 1) -> None:
        """Raises InvalidWeights for what onnxruntime cannot open, and as `WordPieces`."""
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

        self._words = self._word_pieces()

    def feeds(self, pixels: Floats) -> dict[str, Any]:
        """float32 [B, C, H, W] under the names and in the form of the file's inputs."""
        if self._words is None:
            return {self._session.get_inputs()[0].name: pixels}
        return dict(zip(TOKEN_INPUTS, self._words(pixels), strict=True))

    def run(self, pixels: Floats) -> Floats:
        """float32 [B, C, H, W] → [B, D]."""
        (made,) = self._session.run([OUTPUT], self.feeds(pixels))
        return np.asarray(made, dtype=np.float32)

    def _word_pieces(self) -> WordPieces | None:
        kept: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        if VOCABULARY_KEY not in kept or not kept.get(TOKENS_KEY, "").isdecimal():
            return None
        return WordPieces(tuple(kept[VOCABULARY_KEY].split("\n")), int(kept[TOKENS_KEY]))

    def embed(self, records: npt.NDArray[np.uint8], spec: ExtractorSpec) -> Floats:
        """uint8 [N, H, W, C] → float32 [N, D], BATCH at a time."""
        parts = [
            self.run(to_input(records[start : start + BATCH], spec))
            for start in range(0, len(records), BATCH)
        ]
        return np.concatenate(parts)
