"""How the extractors of standard_entries.py are made: on the machine that asks, of what is installed there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from shared.domain.extractor import ExtractorSpec, Option, WeightLayout
from shared.extractors.architectures import CLASSICAL, starting_weights
from shared.extractors.efficientnet import FEATURES
from shared.extractors.files import Origin
from shared.extractors.flatten import Tensors, layout_of
from shared.extractors.minilm import MINILM, MINILM_ORIGIN, minilm_weights
from shared.extractors.public_weights import public_weights
from shared.extractors.standard_entries import standard_extractor

PUBLIC_SEED = 0
"""Random weights are drawn from it, so that everybody draws the same ones."""
SIDE_PIXELS = 96


@dataclass(frozen=True)
class Made:
    """What `write_weights` takes; `origin` is None where the tensors are computed or drawn here."""

    spec: ExtractorSpec
    tensors: Tensors
    layout: WeightLayout
    origin: Origin | None = None
    vocabulary: tuple[str, ...] = ()


def make_standard(name: str) -> Made:
    """The extractor of that name. Raises NotFound, InvalidConfig where the package that it needs is not installed."""
    return _MAKERS[standard_extractor(name).name]()


def _classical(name: str, **options: Option) -> Callable[[], Made]:
    def make() -> Made:
        spec = ExtractorSpec(name, 3, SIDE_PIXELS, SIDE_PIXELS, 1, options=options)
        spec = replace(spec, embedding_dim=CLASSICAL[name](spec).features)
        return Made(spec, *starting_weights(spec, PUBLIC_SEED))

    return make


def _random(architecture: str, embedding_dim: int, **options: Option) -> Callable[[], Made]:
    def make() -> Made:
        spec = ExtractorSpec(architecture, 3, SIDE_PIXELS, SIDE_PIXELS, embedding_dim, options=options)
        return Made(spec, *starting_weights(spec, PUBLIC_SEED))

    return make


def _lite0() -> Made:
    # Its authors trained it on (level - 127) / 128.
    spec = ExtractorSpec("efficientnet-lite0", 3, 224, 224, FEATURES, (127 / 255,), (128 / 255,))
    tensors, origin = public_weights("efficientnet-lite0-public")
    return Made(spec, *starting_weights(spec, PUBLIC_SEED, tensors), origin)


def _minilm() -> Made:
    tensors, vocabulary = minilm_weights()
    return Made(MINILM, tensors, layout_of(tensors, frozenset()), MINILM_ORIGIN, vocabulary)


_MAKERS: Mapping[str, Callable[[], Made]] = {
    "colours": _classical("colours"),
    "hog": _classical("hog", cell=16),
    "lbp": _classical("lbp"),
    "edge-layout": _classical("edge-layout"),
    "small-gn-random": _random("small-gn", 256),
    "resnet18-gn-random": _random("resnet18-gn", 512, stem="large"),
    "efficientnet-lite0": _lite0,
    "minilm": _minilm,
}
