"""Extractors that a registry can offer before anybody has trained one: classical, with random weights, and public.

Each is made on the machine that asks, of what is installed there, and gives what `write_weights` takes. None of them
was trained on members' records, so none of them costs any ε.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from shared.domain.errors import NotFound
from shared.domain.extractor import ExtractorSpec, Option, WeightLayout
from shared.extractors.architectures import CLASSICAL, starting_weights
from shared.extractors.efficientnet import FEATURES
from shared.extractors.files import Origin
from shared.extractors.flatten import Tensors
from shared.extractors.public_weights import LITE0_ORIGIN, public_weights

CLASSICAL_KIND, RANDOM_KIND, PUBLIC_KIND = "classical", "random", "public"
PUBLIC_SEED = 0
"""Random weights are drawn from it, so that everybody draws the same ones."""
SIDE_PIXELS = 96
OUR_LICENCE = "Apache-2.0"
"""Of what is computed by this software's own formulas or drawn by it."""


@dataclass(frozen=True)
class Made:
    """What `write_weights` takes; `origin` is None where the tensors are computed or drawn here."""

    spec: ExtractorSpec
    tensors: Tensors
    layout: WeightLayout
    origin: Origin | None = None


@dataclass(frozen=True)
class StandardExtractor:
    """One entry. `make` raises InvalidConfig where the package that it needs is not installed."""

    name: str
    kind: str
    """classical, random or public."""
    description: str
    """What it sees, what it is for, and where it is from: a paragraph for people who choose by reading."""
    licence: str
    """SPDX name of the tensors' licence."""
    make: Callable[[], Made]


def standard_extractor(name: str) -> StandardExtractor:
    """The entry of that name. Raises NotFound."""
    if name not in STANDARD_EXTRACTORS:
        raise NotFound(
            f"Expected a standard extractor among {', '.join(STANDARD_EXTRACTORS)}; found {name!r}. Nothing was made. "
            "Choose one of them."
        )
    return STANDARD_EXTRACTORS[name]


def _classical(name: str, description: str, **options: Option) -> StandardExtractor:
    def make() -> Made:
        spec = ExtractorSpec(name, 3, SIDE_PIXELS, SIDE_PIXELS, 1, options=options)
        spec = replace(spec, embedding_dim=CLASSICAL[name](spec).features)
        return Made(spec, *starting_weights(spec, PUBLIC_SEED))

    return StandardExtractor(name, CLASSICAL_KIND, description, OUR_LICENCE, make)


def _random(architecture: str, embedding_dim: int, description: str, **options: Option) -> StandardExtractor:
    def make() -> Made:
        spec = ExtractorSpec(architecture, 3, SIDE_PIXELS, SIDE_PIXELS, embedding_dim, options=options)
        return Made(spec, *starting_weights(spec, PUBLIC_SEED))

    return StandardExtractor(f"{architecture}-random", RANDOM_KIND, description, OUR_LICENCE, make)


def _lite0() -> Made:
    # Its authors trained it on (level - 127) / 128.
    spec = ExtractorSpec("efficientnet-lite0", 3, 224, 224, FEATURES, (127 / 255,), (128 / 255,))
    tensors, origin = public_weights("efficientnet-lite0-public")
    return Made(spec, *starting_weights(spec, PUBLIC_SEED, tensors), origin)


_ENTRIES = (
    _classical(
        "colours",
        "Sees which colours a picture is made of and how much of each, and nothing of where they are or what they "
        "belong to: a soft histogram over 64 colours in CIE Lab. For sorting by palette, season, material or "
        "lighting, and to find out whether labels follow colour alone. A formula without training; colours as in "
        "scikit-image's rgb2lab.",
    ),
    _classical(
        "hog",
        "Sees shape by which way edges run in each small part of the picture: histograms of oriented gradients "
        "(Dalal and Triggs 2005), with contrast and light taken out. For outlines such as signs, letters, hands, "
        "people or parts in a fixed pose; shifting or turning the object changes it. A formula without training; "
        "equal to scikit-image's hog with 9 orientations, cells of 16 pixels and blocks of 2 cells.",
        cell=16,
    ),
    _classical(
        "lbp",
        "Sees texture: how often small patterns of brighter and darker neighbours occur in each of 4 x 4 parts of "
        "the picture (local binary patterns, Ojala et al. 2002). For surfaces such as fabric, wood, skin, tissue or "
        "ground; brightness and contrast do not matter, sharpness does. A formula without training; patterns as "
        "scikit-image's local_binary_pattern, uniform, 8 neighbours at radius 1.",
    ),
    _classical(
        "edge-layout",
        "Sees where in the picture something is going on: the strength of edges, all together and in four "
        "directions, in each of 8 x 8 parts (Sobel's filter). For layout and composition, such as pages, forms, "
        "views and placement in the frame; colour and fine texture do not matter. A formula without training; edges "
        "as scikit-image's sobel.",
    ),
    _random(
        "small-gn",
        256,
        "A small convolutional network with random weights, never trained: what three layers of random filters see "
        "of shape, colour and texture. A baseline: an extractor that was trained has to be better than this one to "
        "be worth its training. Drawn by this software from the public seed 0.",
    ),
    _random(
        "resnet18-gn",
        512,
        "A ResNet-18 with GroupNorm and random weights, never trained. A baseline for deep networks: what the "
        "architecture alone gives before any picture was seen. Drawn by this software from the public seed 0.",
        stem="large",
    ),
    StandardExtractor(
        "efficientnet-lite0",
        PUBLIC_KIND,
        "Sees what is in a photograph: EfficientNet-Lite0 (Tan and Le 2019), trained by its authors on the 1.3 "
        "million public photographs of ImageNet. For everyday objects, animals, food, scenes; a strong start where "
        "pictures are photographs, and the public extractor that one's own has to beat. Its 1,280 features stand "
        f"before its classifier; the tensors come with the package {LITE0_ORIGIN.name}.",
        LITE0_ORIGIN.licence,
        _lite0,
    ),
)
STANDARD_EXTRACTORS: Mapping[str, StandardExtractor] = {entry.name: entry for entry in _ENTRIES}
"""By name, in the order in which a catalogue shows them."""
