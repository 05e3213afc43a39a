"""An `efficientnet-lite0` as timm reads it: the same tensors once more under timm's names, and timm's words about them.

timm calls the network `tf_efficientnet_lite0` (timm 1.0, `models/efficientnet.py`): same padding, same norm. It reads
the file that config.json names, so `model.safetensors` stays what everything else here reads.
"""

from __future__ import annotations

import re
from typing import Any, Final

from safetensors.numpy import save

from shared.domain.errors import InvalidWeights
from shared.domain.extractor import ExtractorSpec
from shared.exports.fitting import per_channel
from shared.extractors.files import Weights
from shared.extractors.scope_shape import folded

TIMM_FILE: Final = "timm.safetensors"
OWN_ARCHITECTURE: Final = "commonlens_architecture"
_ARCHITECTURE, _TIMMS = "efficientnet-lite0", "tf_efficientnet_lite0"
_FEATURES: Final = 1280
_BLOCKS: Final = (1, 2, 2, 3, 3, 4, 1)
"""Of each stage."""
_ENDS: Final = {"stem.conv": "conv_stem", "stem.norm": "bn1", "head.conv": "conv_head", "head.norm": "bn2"}
_FIRST: Final = {
    "depthwise.conv": "conv_dw",
    "depthwise.norm": "bn1",
    "project.conv": "conv_pw",
    "project.norm": "bn2",
}
"""The first block expands nothing, and timm counts its layers otherwise."""
_LATER: Final = {
    "expand.conv": "conv_pw",
    "expand.norm": "bn1",
    "depthwise.conv": "conv_dw",
    "depthwise.norm": "bn2",
    "project.conv": "conv_pwl",
    "project.norm": "bn3",
}
_TENSORS: Final = {
    "weight": "weight",
    "affine.weight": "weight",
    "affine.bias": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}


def timm_reads(spec: ExtractorSpec) -> bool:
    """Whether timm has this very network: of three channels, and its features are the embedding."""
    return (spec.architecture, spec.channels, spec.embedding_dim) == (_ARCHITECTURE, 3, _FEATURES)


def timm_config(spec: ExtractorSpec) -> dict[str, Any]:
    """What config.json says for timm. `architecture` is its word, so ours moves to `commonlens_architecture`."""
    mean, std = (list(per_channel(values, spec)) for values in (spec.mean, spec.std))
    return {
        "architecture": _TIMMS,
        OWN_ARCHITECTURE: spec.architecture,
        "pretrained_cfg": {
            "hf_hub_filename": TIMM_FILE,
            "num_classes": 0,
            "input_size": [spec.channels, spec.height, spec.width],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": mean,
            "std": std,
            "first_conv": "conv_stem",
            "classifier": "classifier",
        },
    }


def timm_file(weights: Weights) -> bytes:
    """TIMM_FILE: safetensors. What was trained as low-rank changes is a part of the weights there.

    Raises InvalidWeights for other tensors than the architecture's.
    """
    try:
        tensors = {timm_name(name): tensor for name, tensor in folded(weights.tensors).items()}
    except (LookupError, ValueError) as error:
        raise InvalidWeights(
            f"Expected the tensors of {_ARCHITECTURE!r}, found others. Nothing was made of them for other programs. "
            "Get the file again from its release, and verify it."
        ) from error
    return save(tensors, metadata={"format": "pt"})


def timm_name(name: str) -> str:
    """Of a tensor of ours. Raises LookupError or ValueError for a name that none has."""
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    layer, tensor = _layer(block[2] if block else name)
    if block is None:
        return f"{_ENDS[layer]}.{_TENSORS[tensor]}"
    stage, place = 0, int(block[1])
    while place >= _BLOCKS[stage]:
        stage, place = stage + 1, place - _BLOCKS[stage]
    layers = _FIRST if stage == 0 else _LATER
    return f"blocks.{stage}.{place}.{layers[layer]}.{_TENSORS[tensor]}"


def _layer(name: str) -> tuple[str, str]:
    first, second, tensor = name.split(".", 2)
    return f"{first}.{second}", tensor
