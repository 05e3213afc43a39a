"""`vit-tiny`: a small vision transformer of Linear and LayerNorm only, so per-example gradients are exact.

Patches by a Linear layer, fixed sine positions and mean pooling instead of a learned table and class token
(Beyer, Zhai and Kolesnikov 2022, "Better plain ViT baselines for ImageNet-1k"): fewer coordinates to noise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec
from shared.extractors.layers import Extractor
from shared.extractors.options import Options


class Attention(nn.Module):
    """Self-attention over the tokens of one record; nn.MultiheadAttention hides its weights from hooks."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """[B, T, width] → [B, T, width]. `seen` bool [B, 1, 1, T]: which tokens are attended to, by default all."""
        batch, count, width = tokens.shape
        split = self.qkv(tokens).reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        return out


class Block(nn.Module):
    """norm → attention, norm → MLP, each added to its input (pre-norm)."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.up, self.down = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)

    def forward(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """[B, T, width] → [B, T, width]; `seen` as in Attention."""
        tokens = tokens + self.attention(self.norm1(tokens), seen)
        mixed: Tensor = self.down(F.gelu(self.up(self.norm2(tokens))))
        return tokens + mixed


class PatchTokens(nn.Module):
    """[B, C, H, W] → [B, T, C·patch²]: the picture cut into squares, row by row."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, T, C·patch²]."""
        batch, channels, height, width = x.shape
        side = self.patch
        cut = x.reshape(batch, channels, height // side, side, width // side, side)
        return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * side * side)


class VisionTransformer(Extractor):
    """[B, C, H, W] → [B, embedding_dim]."""

    positions: Tensor

    def __init__(self, spec: ExtractorSpec, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.cut = PatchTokens(patch)
        self.embed = nn.Linear(spec.channels * patch * patch, width)
        table = sine_positions(spec.height // patch, spec.width // patch, width)
        self.register_buffer("positions", torch.from_numpy(table))
        self.blocks = nn.ModuleList(Block(width, heads, expansion=4) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, spec.embedding_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, embedding_dim]."""
        tokens = self.embed(self.cut(x)) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.out(self.norm(tokens).mean(dim=1))
        return out

    def last_block(self) -> list[nn.Module]:
        """The last transformer block and what follows it."""
        return [self.blocks[-1], self.norm, self.out]


def vit_tiny(spec: ExtractorSpec) -> Extractor:
    """Options: patch 4, width 192, depth 6, heads 3 (2.7 M parameters)."""
    options = Options(spec)
    patch, width = options.take("patch", 4), options.take("width", 192)
    depth, heads = options.take("depth", 6), options.take("heads", 3)
    options.done()
    cuts_evenly = spec.height % patch == 0 and spec.width % patch == 0
    tokens = (spec.height // patch) * (spec.width // patch)
    if not cuts_evenly or not 1 <= tokens <= 4096 or width % heads or width % 4 or depth > 64:
        raise InvalidConfig(
            "vit-tiny expects a patch that divides height and width into at most 4096 tokens, a width that "
            f"heads and 4 divide, and a depth of at most 64; found patch {patch}, "
            f"picture {spec.height}x{spec.width}, width {width}, heads {heads}, depth {depth}. Nothing was "
            "built. Correct the plan's extractor."
        )
    return VisionTransformer(spec, patch, width, depth, heads)


def sine_positions(rows: int, columns: int, width: int) -> npt.NDArray[np.float32]:
    """float32 [rows·columns, width]: sine and cosine of both coordinates at falling frequencies."""
    quarter = width // 4
    frequencies = 1.0 / 10_000 ** (np.arange(quarter) / max(quarter - 1, 1))
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    row_phase, column_phase = row.reshape(-1, 1) * frequencies, column.reshape(-1, 1) * frequencies
    parts = [np.sin(column_phase), np.cos(column_phase), np.sin(row_phase), np.cos(row_phase)]
    return np.concatenate(parts, axis=1).astype(np.float32)
