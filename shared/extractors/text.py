"""Small text encoders: `ngram-bag` and `byte-transformer`, both on the UTF-8 bytes of one short text.

float32 [B, 1, 1, L] in, whole numbers 0…255, 0 where the text is over (`preprocess.fit_text`, `to_input`). Tables of
bytes and n-grams are Linear layers over counts and one-hot vectors: the same numbers as an embedding, and their
gradients of single records are exact by the rule for Linear layers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec
from shared.extractors.byte_transformer_shape import BYTES, EXPANSION, Shape, shape_of
from shared.extractors.layers import Extractor
from shared.extractors.options import Options
from shared.extractors.vit import Block, sine_positions

LARGEST_TABLE = 2**20
"""Numbers of an n-gram table: each record's gradient holds as many while it is clipped."""
LONGEST_NGRAM = 8
_SPACE = 32
_FACTOR, _PRIME = 1_000_003, 2**31 - 1
"""Of the rolling hash; its products stay below 2⁶³, so that every runtime finds the same slots."""


def bytes_of(x: Tensor) -> Tensor:
    """float [B, 1, 1, L] → the bytes, int64 [B, L]."""
    return x.flatten(1).round().clamp(0, BYTES - 1).long()


class NgramCounts(nn.Module):
    """The text as a bag: how often each slot of a table is hit by its n-grams of 1 … longest bytes.

    A space is put before and after, so that how a text begins and ends is seen too; padding is not counted. An n-gram's
    slot is (…(b₁ + 1)·M + b₂ + 1…) mod P mod buckets, M = 1,000,003, P = 2³¹ - 1. Counts are divided by √(n-grams) and
    multiplied by √buckets: as long as few slots are hit twice, that has variance 1 over slots whatever the length.
    """

    def __init__(self, buckets: int, longest: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.longest = longest

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, 1, L] → [B, buckets]."""
        text = _framed(bytes_of(x))
        hashed, inside = torch.zeros_like(text), torch.ones_like(text, dtype=torch.bool)
        slots, hits = [], []
        for offset in range(self.longest):
            following = F.pad(text[:, offset:], (0, min(offset, text.shape[1])))
            inside = inside & (following > 0)
            hashed = (hashed * _FACTOR + following + 1) % _PRIME
            slots.append(hashed % self.buckets)
            hits.append(inside.to(x.dtype))
        hit = torch.cat(hits, dim=1)
        counts = x.new_zeros(x.shape[0], self.buckets).scatter_add(1, torch.cat(slots, dim=1), hit)
        return counts * torch.rsqrt(hit.sum(dim=1, keepdim=True).clamp(min=1) / self.buckets)


class NgramBag(Extractor):
    """Counts of n-grams → table → norm → MLP."""

    def __init__(self, spec: ExtractorSpec, buckets: int, longest: int, width: int, hidden: int) -> None:
        super().__init__()
        self.counts = NgramCounts(buckets, longest)
        self.table = nn.Linear(buckets, width, bias=False)
        # Without parameters, as in small-gn: affine norms would cost more noise than they are worth.
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.up = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, spec.embedding_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, 1, L] → [B, embedding_dim]."""
        out: Tensor = self.out(F.gelu(self.up(self.norm(self.table(self.counts(x))))))
        return out

    def last_block(self) -> list[nn.Module]:
        """The MLP: the table stays as it was drawn."""
        return [self.up, self.out]


class ByteTransformer(Extractor):
    """Bytes and positions → transformer blocks → the mean over the text's own bytes."""

    positions: Tensor

    def __init__(self, spec: ExtractorSpec, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.embed = nn.Linear(BYTES, width, bias=False)
        self.register_buffer("positions", torch.from_numpy(sine_positions(1, spec.width, width)))
        self.blocks = nn.ModuleList(Block(width, shape.heads, EXPANSION) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, spec.embedding_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, 1, L] → [B, embedding_dim]."""
        text = bytes_of(x)
        # Of a text without bytes the first place is attended to: a softmax over nothing is not a number.
        real = (text > 0) | (torch.arange(text.shape[1], device=text.device) == 0)
        one_hot = (text[..., None] == torch.arange(BYTES, device=text.device)).to(x.dtype)
        # Started by its fan-in, the table's numbers are 16 times smaller than the positions'.
        tokens = self.embed(one_hot * math.sqrt(BYTES)) + self.positions
        for block in self.blocks:
            tokens = block(tokens, real[:, None, None, :])
        kept = real[..., None].to(x.dtype)
        mean = (self.norm(tokens) * kept).sum(dim=1) / kept.sum(dim=1)
        out: Tensor = self.out(mean)
        return out

    def last_block(self) -> list[nn.Module]:
        """The last transformer block and what follows it."""
        return [self.blocks[-1], self.norm, self.out]


def ngram_bag(spec: ExtractorSpec) -> Extractor:
    """Options: buckets 4096, longest 4 (bytes of an n-gram), width 64, hidden 128 (280 thousand parameters)."""
    options = Options(spec)
    buckets, longest = options.take("buckets", 4096), options.take("longest", 4)
    width, hidden = options.take("width", 64), options.take("hidden", 128)
    options.done()
    if buckets * width > LARGEST_TABLE or longest > LONGEST_NGRAM:
        raise InvalidConfig(
            f"ngram-bag expects at most {LARGEST_TABLE} numbers in its table (buckets x width) and n-grams of at most "
            f"{LONGEST_NGRAM} bytes; found {buckets} x {width} and {longest}. Nothing was built. Lower them."
        )
    return NgramBag(spec, buckets, longest, width, hidden)


def byte_transformer(spec: ExtractorSpec) -> Extractor:
    """Options: width 64, depth 2, heads 4 (120 thousand parameters)."""
    return ByteTransformer(spec, shape_of(spec))


def _framed(text: Tensor) -> Tensor:
    """int64 [B, L] → [B, L + 2]: a space before and after each text, in place of padding."""
    wide = F.pad(text, (1, 1))
    beside = F.pad(text, (2, 0)) + F.pad(text, (0, 2))
    return torch.where((wide == 0) & (beside > 0), torch.full_like(wide, _SPACE), wide)
