"""A release's ONNX file, run as any program would run it: record in, embedding out, one thread.

One that takes word pieces carries its vocabulary in its own metadata. A file comes from somebody else, so what none of
ours has is refused before onnxruntime sees it: loops, which need not end, functions, which can be nested until they
fill the memory, and tensors that lie outside the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime  # type: ignore[import-untyped]

from shared.domain.errors import InvalidWeights
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.extractors.preprocess import to_input
from shared.extractors.wordpiece import WORD_PIECES, WordPieces

OUTPUT = "embedding"
"""float32 [batch, embedding_dim]."""
OPSET = 20
BATCH = 32
_FATAL_ONLY: Final = 4
"""onnxruntime writes errors to the terminal itself, with names out of the file in them; they are raised anyway."""
_GRAPHS: Final = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)

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
        """Raises InvalidWeights for what onnxruntime cannot open or `_strange_in` names, and as `WordPieces`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = _FATAL_ONLY
        # Else it would take a form of its own too, which nothing here has looked into.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            data = model if isinstance(model, bytes) else model.read_bytes()
            read = onnx.load_model_from_string(data)
            strange = _strange_in(read)
            if not strange:
                self._session = onnxruntime.InferenceSession(
                    data, options, providers=["CPUExecutionProvider"]
                )
        except Exception as error:  # onnxruntime's own classes have no common one
            raise InvalidWeights(
                f"An ONNX model was expected, and onnxruntime {onnxruntime.__version__} cannot open it. Nothing was "
                "computed. Get the file again from its release."
            ) from error
        if strange:
            raise InvalidWeights(
                f"An ONNX model was expected that is whole and runs straight through, and this one has {strange}. "
                "Nothing was computed. Use another release."
            )
        self.opset = next((int(each.version) for each in read.opset_import if not each.domain), 0)
        self._words = self._word_pieces()

    def feeds(self, pixels: Floats) -> dict[str, Any]:
        """float32 [B, C, H, W] under the names and in the form of the file's inputs."""
        if self._words is None:
            return {self._session.get_inputs()[0].name: pixels}
        return dict(zip(TOKEN_INPUTS, self._words(pixels), strict=True))

    def run(self, pixels: Floats) -> Floats:
        """float32 [B, C, H, W] → [B, D]. Raises InvalidWeights for a model that fails at it."""
        given = self.feeds(pixels)
        try:
            (made,) = self._session.run([OUTPUT], given)
            return np.asarray(made, dtype=np.float32)
        except Exception as error:
            raise InvalidWeights(
                f"The ONNX model fails at a batch of {len(pixels)} ({type(error).__name__}). Nothing was kept. "
                "Tell whoever published it."
            ) from error

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


def _strange_in(model: onnx.ModelProto) -> str:
    """What a model of ours never has, in words; empty where there is none of it."""
    if model.functions:
        return "functions of its own"
    for node in model.graph.node:
        if any(each.type in _GRAPHS for each in node.attribute):
            return "loops or branches"
    if model.graph.sparse_initializer:
        return "sparse tensors"
    attributes = (each for node in model.graph.node for each in node.attribute)
    inside = (tensor for each in attributes for tensor in (each.t, *each.tensors))
    for tensor in (*model.graph.initializer, *inside):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return "tensors outside the file"
    return ""
