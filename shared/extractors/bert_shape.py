"""What the options of `bert` say of its size (no torch)."""

from __future__ import annotations

from dataclasses import dataclass

from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec
from shared.extractors.options import Options
from shared.extractors.wordpiece import LEAST_TOKENS

NORM_EPSILON = 1e-12
MOST_LAYERS = 64
TYPES = 2
"""Of a token: first or second text of a pair. Here there is one text."""


@dataclass(frozen=True)
class Shape:
    """The options of a bert, with their defaults filled in."""

    words: int
    """Rows of the table of words: as many as the vocabulary has."""
    places: int
    """Tokens that it has positions for."""
    depth: int
    heads: int
    hidden: int
    """Numbers between the two Linear layers of a layer."""
    tokens: int
    """Longer texts are cut to so many, the first and the last among them."""


def shape_of(spec: ExtractorSpec) -> Shape:
    """The options of `spec`. Raises InvalidConfig."""
    options = Options(spec)
    shape = Shape(
        words=options.take("words", 30_522),
        places=options.take("places", 512),
        depth=options.take("depth", 6),
        heads=options.take("heads", 12),
        hidden=options.take("hidden", 1536),
        tokens=options.take("tokens", 256),
    )
    options.done()
    fits = LEAST_TOKENS <= shape.tokens <= shape.places and shape.depth <= MOST_LAYERS
    if spec.embedding_dim % shape.heads or not fits:
        raise InvalidConfig(
            f"bert expects an embedding_dim that heads divide, {LEAST_TOKENS} to places tokens and a depth of at most "
            f"{MOST_LAYERS}; found embedding_dim {spec.embedding_dim}, heads {shape.heads}, tokens {shape.tokens}, "
            f"places {shape.places}, depth {shape.depth}. Nothing was built. Correct the plan's extractor."
        )
    return shape
