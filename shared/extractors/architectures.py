"""The allow-list of architectures: build one from a spec, draw its public starting weights, or load a file.

A coordinator sends values, never code (clause 8.2): what a spec can name is what is written here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shared.domain.errors import InvalidConfig, InvalidWeights
from shared.domain.extractor import ExtractorSpec, RecordKind, WeightLayout
from shared.extractors.bert import Bert, bert
from shared.extractors.classical import Classical, check_classical
from shared.extractors.classical_colours import colours
from shared.extractors.classical_edges import edge_layout, hog
from shared.extractors.classical_texture import lbp
from shared.extractors.convnets import resnet18_gn, small_gn, wrn_16_4_gn
from shared.extractors.efficientnet import efficientnet_lite0
from shared.extractors.files import Weights
from shared.extractors.fixed_features import FixedMlp, fixed_mlp
from shared.extractors.flatten import Tensors
from shared.extractors.layers import Extractor, check_layers
from shared.extractors.options import check_size
from shared.extractors.scope_shape import LORA_UP, folded, split_scope
from shared.extractors.scopes import apply_scope, check_no_scope
from shared.extractors.text import byte_transformer, ngram_bag
from shared.extractors.vectors import get_flat, set_flat, tensors_of, trainable_layout
from shared.extractors.vit import vit_tiny

__all__ = [
    "ARCHITECTURES",
    "CLASSICAL",
    "SENTENCES",
    "TEXT",
    "TRAINABLE",
    "build",
    "check_layers",
    "get_flat",
    "head_inputs",
    "load",
    "set_flat",
    "starting_weights",
    "trainable_layout",
]

TEXT: Mapping[str, Callable[[ExtractorSpec], Extractor]] = {
    "ngram-bag": ngram_bag,
    "byte-transformer": byte_transformer,
}
"""What reads texts and is trained by a plan."""
TRAINABLE: Mapping[str, Callable[[ExtractorSpec], Extractor]] = {
    "fixed-mlp": fixed_mlp,
    "small-gn": small_gn,
    "wrn-16-4-gn": wrn_16_4_gn,
    "resnet18-gn": resnet18_gn,
    "vit-tiny": vit_tiny,
    "efficientnet-lite0": efficientnet_lite0,
    **TEXT,
}
"""What a plan can name. Each builds from a spec without scope."""
CLASSICAL: Mapping[str, Callable[[ExtractorSpec], Classical]] = {
    "colours": colours,
    "hog": hog,
    "lbp": lbp,
    "edge-layout": edge_layout,
}
"""Formulas: released and used like the others, with nothing to train."""
SENTENCES: Mapping[str, Callable[[ExtractorSpec], Bert]] = {"bert": bert}
"""Of public encoders of texts: released and used like the others, and trained elsewhere."""
ARCHITECTURES: Mapping[str, Callable[[ExtractorSpec], Extractor]] = {**TRAINABLE, **CLASSICAL, **SENTENCES}


def build(
    spec: ExtractorSpec, seed: int, base: Mapping[str, npt.NDArray[np.float32]] | None = None
) -> nn.Module:
    """float32 [B, C, H, W], normalised by `to_input` → float32 [B, embedding_dim]; in eval mode.

    Starting weights are public, so they come from `seed`: equal on every machine with the same torch. Norms
    start as the identity, biases at 0, weights uniform with variance 2 / fan-in before a convolution's ReLU
    (He et al. 2015) and 1 / (3 fan-in) elsewhere (LeCun et al. 1998). What a scope adds is drawn last and
    changes nothing at first. Tensors of `base` stand in place of the drawn ones; it need not hold all.

    Raises InvalidConfig, and InvalidWeights for a base with tensors that this extractor has not.
    """
    module, generator = _skeleton(spec), torch.Generator().manual_seed(seed)
    # One order whatever the scope: the same seed is the same network, of which more or less is trained.
    drawn: dict[str, Tensor] = {}
    _draw(_skeleton(split_scope(spec)[0]), generator, drawn)
    _draw(module, generator, drawn)
    for name, buffer in module.named_buffers():
        # Filters and position tables have their values already; BatchNorm, which is refused, has not.
        drawn[name] = torch.zeros(buffer.shape, dtype=buffer.dtype) if buffer.is_meta else buffer
    for name, array in folded(base or {}).items():
        if name not in drawn or tuple(drawn[name].shape) != array.shape:
            raise InvalidWeights(
                f"Expected base weights that fit {spec.architecture!r} with the plan's options, found tensor "
                f"{name!r} of {list(array.shape)}. Nothing was built. Start from other weights, or correct "
                "the plan's extractor."
            )
        drawn[name] = torch.from_numpy(array.astype(np.float32))
    module.load_state_dict(drawn, assign=True)
    return module.eval()


def starting_weights(
    spec: ExtractorSpec, seed: int, base: Mapping[str, npt.NDArray[np.float32]] | None = None
) -> tuple[Tensors, WeightLayout]:
    """What `write_weights` takes for a consortium's first file; `base` as in `build`.

    Raises InvalidConfig, InvalidWeights, MixesRecords.
    """
    module = build(spec, seed, base)
    check_layers(module)
    return tensors_of(module), trainable_layout(module)


def load(spec: ExtractorSpec, weights: Weights) -> nn.Module:
    """The extractor with the file's weights, in eval mode.

    Raises InvalidWeights when the file is for another spec, or its tensors are not that architecture's; InvalidConfig
    where the package that cuts words is needed and not installed.
    """
    if weights.spec != spec:
        raise InvalidWeights(
            f"Expected weights of {spec.architecture!r} with the plan's options, found "
            f"{weights.spec.architecture!r} or other options. They were not loaded. Check that file "
            "and plan belong together."
        )
    module = _skeleton(spec)
    check_layers(module)
    # Compared before anything is allocated: a hostile spec cannot ask for more than its file's bytes.
    if trainable_layout(module) != weights.layout:
        raise InvalidWeights(
            f"Expected the tensors of {spec.architecture!r} with the file's own options, found others. They "
            "were not loaded. Get the file again from its release, and verify it."
        )
    tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.tensors.items()}
    module.load_state_dict(tensors, assign=True)
    if isinstance(module, Bert):
        module.read_with(weights.vocabulary)
    return module.eval()


def head_inputs(extractor: nn.Module, spec: ExtractorSpec) -> int:
    """How many numbers at the front of its embedding a training head sees: those that training moves.

    Fixed features behind them would let the head do without the trained part; they are for heads of daily use.
    """
    return extractor.trained_dim if isinstance(extractor, FixedMlp) else spec.embedding_dim


def _skeleton(spec: ExtractorSpec) -> nn.Module:
    """The module with parameters that have shapes but no values."""
    if spec.architecture not in ARCHITECTURES:
        raise InvalidConfig(
            f"Expected an architecture among {', '.join(ARCHITECTURES)}; found {spec.architecture!r}. "
            "Nothing was built. Correct the plan, or update this software."
        )
    check_size(spec)
    _check_kind(spec)
    plain, scope = split_scope(spec)
    with torch.device("meta"):
        module = ARCHITECTURES[spec.architecture](plain)
        if spec.architecture not in TRAINABLE:
            check_no_scope(spec, scope)
        if isinstance(module, Classical):
            check_classical(module, spec)
        apply_scope(module, scope)
    return module


def _check_kind(spec: ExtractorSpec) -> None:
    """Raise InvalidConfig unless the architecture reads what the spec says, in the form that such records have."""
    wanted = RecordKind.TEXT if spec.architecture in {**TEXT, **SENTENCES} else RecordKind.IMAGE
    if spec.kind is not wanted:
        raise InvalidConfig(
            f"{spec.architecture!r} reads records of kind {wanted.value!r}, the extractor is said to be of kind "
            f"{spec.kind.value!r}. Nothing was built. Correct the plan's extractor."
        )
    if spec.kind is RecordKind.TEXT and (spec.channels, spec.height) != (1, 1):
        raise InvalidConfig(
            f"A text has 1 channel, height 1 and as its width the bytes that are read; found {spec.channels} and "
            f"{spec.height}x{spec.width}. Nothing was built. Correct the plan's extractor."
        )


def _draw(module: nn.Module, generator: torch.Generator, drawn: dict[str, Tensor]) -> None:
    """Add a value for every parameter of `module` that `drawn` has none for."""
    for layer_name, layer in module.named_modules():
        for name, parameter in layer.named_parameters(layer_name, recurse=False):
            if name not in drawn:
                drawn[name] = _starting_tensor(layer, name, parameter.shape, generator)


def _starting_tensor(layer: nn.Module, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if name.endswith(("bias", f"{LORA_UP}.weight")):
        return torch.zeros(shape)
    if not isinstance(layer, (nn.Linear, nn.Conv2d, nn.Embedding)):
        return torch.ones(shape)
    fan_in = math.prod(shape[1:])
    # A uniform on ±b has variance b²/3.
    bound = math.sqrt(6.0 / fan_in) if isinstance(layer, nn.Conv2d) else math.sqrt(1.0 / fan_in)
    return (torch.rand(shape, generator=generator) * 2.0 - 1.0) * bound
