"""What the options of `byte-transformer` say of its size (no torch)."""

from __future__ import annotations

from dataclasses import dataclass

from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec
from shared.extractors.options import Options

BYTES = 256
EXPANSION = 4
"""How many times wider a block is between its two Linear layers."""
MOST_TOKENS = 512
"""Bytes of a text for attention, whose memory grows with their square."""
MOST_BLOCKS = 64


@dataclass(frozen=True)
class Shape:
    """The options of a byte-transformer, with their defaults filled in."""

    width: int
    depth: int
    heads: int


def shape_of(spec: ExtractorSpec) -> Shape:
    """The options of `spec`, which has no scope any more. Raises InvalidConfig."""
    options = Options(spec)
    shape = Shape(options.take("width", 64), options.take("depth", 2), options.take("heads", 4))
    options.done()
    divided = shape.width % shape.heads == 0 and shape.width % 4 == 0
    if spec.width > MOST_TOKENS or shape.depth > MOST_BLOCKS or not divided:
        raise InvalidConfig(
            f"byte-transformer expects texts of at most {MOST_TOKENS} bytes, a width that heads and 4 divide, and a "
            f"depth of at most {MOST_BLOCKS}; found {spec.width} bytes, width {shape.width}, heads {shape.heads}, "
            f"depth {shape.depth}. Nothing was built. Correct the plan's extractor."
        )
    return shape


def tensor_shapes(shape: Shape, tokens: int, embedding_dim: int) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor of such a network without a scope, for texts of at most `tokens` bytes."""
    width, wide = shape.width, EXPANSION * shape.width
    norms = {f"norm{place}": (width,) for place in (1, 2)}
    layers = {
        "attention.qkv": (3 * width, width),
        "attention.out": (width, width),
        "up": (wide, width),
        "down": (width, wide),
    }
    found: dict[str, tuple[int, ...]] = {"embed.weight": (width, BYTES), "positions": (tokens, width)}
    blocks = {
        f"blocks.{k}.{name}": size for k in range(shape.depth) for name, size in {**norms, **layers}.items()
    }
    for name, size in {**blocks, "norm": (width,), "out": (embedding_dim, width)}.items():
        found |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    return found
