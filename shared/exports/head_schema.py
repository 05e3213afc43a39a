"""What a head on this release's embeddings looks like as a file, as a JSON Schema: the form alone, nobody's weights."""

from __future__ import annotations

from typing import Any

from shared.domain.extractor import ExtractorSpec
from shared.exports.fitting import fit_of, per_channel

HEAD_SCHEMA_FILE = "head.schema.json"
HEAD_FILE_FORMAT = "commonlens-linear-head/1"
ARITHMETIC = (
    "logits = weight · embedding + bias; the label is that of the largest logit; probabilities = softmax(logits). "
    "The embedding is used as the extractor gives it: the scaling of features is folded into weight and bias."
)


def head_schema(spec: ExtractorSpec) -> dict[str, Any]:
    """Of the file that `head export` writes; weight has a row and bias a number for each label, in their order."""
    number, text = {"type": "number"}, {"type": "string"}
    width = {"minItems": spec.embedding_dim, "maxItems": spec.embedding_dim}
    preprocessing = {
        "kind": spec.kind.value,
        "channels": spec.channels,
        "height": spec.height,
        "width": spec.width,
        "mean": list(per_channel(spec.mean, spec)),
        "std": list(per_channel(spec.std, spec)),
        "fit": fit_of(spec),
    }
    fields: dict[str, Any] = {
        "format": {"const": HEAD_FILE_FORMAT},
        "labels": {"type": "array", "items": text, "minItems": 2, "uniqueItems": True},
        "embedding_dim": {"const": spec.embedding_dim},
        "weight": {"type": "array", "items": {"type": "array", "items": number, **width}},
        "bias": {"type": "array", "items": number},
        "release": _object({"consortium": text, "release": text, "manifest_digest": text}),
        "preprocessing": _object({name: {"const": value} for name, value in preprocessing.items()}),
        "arithmetic": {"type": "string", "description": ARITHMETIC},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_object(fields)}


def _object(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields)}
