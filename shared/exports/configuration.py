"""What other programs read beside the tensors, made from the weights file alone, in the words that hubs' tools read.

transformers' image processors read the second as it stands (shortest side resized, centre cut out: what fit_image
does to a square); `fit` says in a sentence what no key says.
"""

from __future__ import annotations

from typing import Any

from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.files import json_file
from shared.domain.release import CONFIG_FILE, ONNX_FILE, PREPROCESSOR_FILE, WEIGHTS_FILE
from shared.domain.strict import to_plain
from shared.exports.fitting import fit_of, per_channel
from shared.exports.head_schema import HEAD_SCHEMA_FILE, head_schema
from shared.exports.onnx_file import OPSET, OUTPUT, input_names
from shared.exports.sentence_files import sentence_files, transformers_config
from shared.exports.timm_file import TIMM_FILE, timm_config, timm_file, timm_reads
from shared.exports.transformers_file import esm_config, transformers_files, transformers_reads
from shared.extractors.files import Weights
from shared.extractors.wordpiece import WORD_PIECES

MODEL_TYPE = "commonlens"
_BILINEAR = 2
"""Pillow's number for it, which the ecosystem's files use."""


def configuration(weights: Weights) -> dict[str, bytes]:
    """Each file's bytes by its name. Raises as `sentence_files`, `timm_file` and `transformers_files`."""
    spec = weights.spec
    made = {
        CONFIG_FILE: json_file(config(spec)),
        PREPROCESSOR_FILE: json_file(preprocessor_config(spec)),
        HEAD_SCHEMA_FILE: json_file(head_schema(spec)),
    }
    if spec.architecture in WORD_PIECES:
        made |= sentence_files(weights)
    if timm_reads(spec):
        made[TIMM_FILE] = timm_file(weights)
    if transformers_reads(spec):
        made |= transformers_files(weights)
    return made


def config(spec: ExtractorSpec) -> dict[str, Any]:
    """config.json. `num_features` and `input_size` are timm's words, `model_type` and `dtype` transformers'."""
    names = input_names(spec)
    inputs = {"input": names[0]} if len(names) == 1 else {"inputs": list(names)}
    found: dict[str, Any] = {
        "model_type": MODEL_TYPE,
        "kind": spec.kind.value,
        "architecture": spec.architecture,
        "options": to_plain(spec.options),
        "embedding_dim": spec.embedding_dim,
        "num_features": spec.embedding_dim,
        "num_classes": 0,
        "input_size": [spec.channels, spec.height, spec.width],
        "dtype": "float32",
        "weights_file": WEIGHTS_FILE,
        "onnx": {"file": ONNX_FILE, **inputs, "output": OUTPUT, "opset": OPSET},
    }
    if spec.kind is RecordKind.IMAGE:
        mean, std = (list(per_channel(values, spec)) for values in (spec.mean, spec.std))
        found |= {"mean": mean, "std": std, "interpolation": "bilinear"}
    if spec.architecture in WORD_PIECES:
        found |= transformers_config(spec)
    if timm_reads(spec):
        found |= timm_config(spec)
    if transformers_reads(spec):
        found |= esm_config(spec)
    return found


def preprocessor_config(spec: ExtractorSpec) -> dict[str, Any]:
    """preprocessor_config.json; the processor is named where the ecosystem has one that does the same."""
    if spec.kind is RecordKind.TEXT:
        return {"max_bytes": spec.width, "fit": fit_of(spec)}
    size = {"height": spec.height, "width": spec.width}
    picture: dict[str, Any] = {
        "do_resize": True,
        "size": size,
        "resample": _BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(per_channel(spec.mean, spec)),
        "image_std": list(per_channel(spec.std, spec)),
        "channels": spec.channels,
        "fit": fit_of(spec),
    }
    if spec.channels == 3 and spec.height == spec.width:
        picture |= {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "size": {"shortest_edge": spec.height},
            "do_center_crop": True,
            "crop_size": size,
        }
    return picture
