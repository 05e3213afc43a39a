"""The architectures that a plan can name, and their options, as the plan's form shows them.

The code that builds them needs torch, which this process never loads; a test holds this table against that code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """One option of an architecture; `choices` are empty where any whole number may stand."""

    name: str
    first: str
    hint: str
    choices: tuple[str, ...] = ()


_STANDARDISE = Option(
    "weight_standardisation",
    "false",
    "Whether each filter is brought to mean 0 and one variance; not with scope lora.",
    ("true", "false"),
)
_NORM = Option(
    "norm",
    "group",
    "batch is there to be refused: it mixes records (protocol, clause 2.5).",
    ("group", "batch"),
)
COMMON_OPTIONS = (
    Option(
        "scope",
        "all",
        "What is trained: all, the last block, the norms' scales and shifts (film), or low-rank changes (lora). Fewer "
        "coordinates need less noise and fewer bytes.",
        ("all", "last_block", "film", "lora"),
    ),
    Option("lora_rank", "4", "Rank of the changes; only with scope lora."),
)
"""What every architecture knows."""
ARCHITECTURES: Mapping[str, tuple[str, tuple[Option, ...]]] = {
    "fixed-mlp": (
        "Public oriented filters that nobody trains, and a small MLP on top that everybody does: few coordinates to "
        "noise, so the best start for small consortia.",
        (
            Option("scales", "2", "Sizes of filters."),
            Option("orientations", "8", "Directions of filters at each size."),
            Option("kernel", "7", "Pixels of a filter's side; odd, at most 31."),
            Option("grid", "4", "Answers of filters are averaged over grid × grid places of the picture."),
            Option("hidden", "128", "Width of the trained MLP's hidden layer."),
            Option(
                "concatenate",
                "false",
                "Whether the fixed features follow the trained ones in the embedding.",
                ("true", "false"),
            ),
            Option("order", "1", "2 adds the filters' answers to the answers; needs 2 scales, costs time."),
        ),
    ),
    "small-gn": (
        "Three convolutions, 0.07 M parameters.",
        (
            Option("width", "32", "Channels of the first convolution; the others have twice as many."),
            _NORM,
            _STANDARDISE,
        ),
    ),
    "wrn-16-4-gn": (
        "Wide ResNet 16-4 as De et al. 2022 train it privately, 2.7 M parameters.",
        (Option("widen", "4", "How many times as wide as a plain ResNet."), _STANDARDISE),
    ),
    "resnet18-gn": (
        "ResNet-18 with GroupNorm, 11 M parameters.",
        (
            Option("width", "64", "Channels of the first group; each next group has twice as many."),
            _NORM,
            Option(
                "stem",
                "small",
                "small is a 3x3 convolution, for pictures up to 64 pixels; large is 7x7 and pooling.",
                ("small", "large"),
            ),
            _STANDARDISE,
        ),
    ),
    "vit-tiny": (
        "A small vision transformer, 2.7 M parameters.",
        (
            Option("patch", "4", "Pixels of a token's side; must divide height and width."),
            Option("width", "192", "Length of a token; heads and 4 must divide it."),
            Option("depth", "6", "Transformer blocks, at most 64."),
            Option("heads", "3", "Attention heads of a block."),
        ),
    ),
    "efficientnet-lite0": (
        "Made for 224x224, 3.4 M parameters, its BatchNorm frozen. With an embedding of 1280 numbers it is the "
        "features themselves.",
        (),
    ),
    "ngram-bag": (
        "For texts: how often which n-grams of bytes occur, by a table and a small MLP; 0.28 M parameters.",
        (
            Option("buckets", "4096", "Slots of the table; buckets × width is at most 1,048,576."),
            Option("longest", "4", "Bytes of the longest n-grams that are counted; 1 to 8."),
            Option("width", "64", "Numbers that the table holds for each slot."),
            Option("hidden", "128", "Width of the MLP's hidden layer."),
        ),
    ),
    "byte-transformer": (
        "For texts of at most 512 bytes: a small transformer over bytes, 0.12 M parameters.",
        (
            Option("width", "64", "Length of a token; heads and 4 must divide it."),
            Option("depth", "2", "Transformer blocks, at most 64."),
            Option("heads", "4", "Attention heads of a block."),
        ),
    ),
}
"""What each is, and the options of its own."""


def option_key(architecture: str, name: str) -> str:
    """Name of the form's field for an option; each architecture keeps its own values. Empty for common ones."""
    return f"options.{architecture}.{name}" if architecture else f"options.{name}"
