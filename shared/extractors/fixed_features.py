"""`fixed-mlp`: public oriented filters that nobody trains, and a small MLP on top that everybody does.

Training moves few coordinates, so noise costs little: the best start for small consortia. The filters are
Gabor pairs; the energy of a pair answers to an edge of one direction and size wherever it lies, averaged over
a coarse grid (in the spirit of Tramèr and Boneh 2021, "Differentially private learning needs better
features"). They are stored in the weights file as tensors that training does not move.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec
from shared.extractors.layers import Extractor, pooled
from shared.extractors.options import LARGEST_OPTION, Options

_FIRST_WIDTH_PIXELS = 1.5
_WIDTH_RATIO = 5.0 / 3.0
_WAVELENGTH_PER_WIDTH = 2.5


class OrientedEnergies(nn.Module):
    """[B, C, H, W] → [B, features]: energies of `scales` x `orientations` filters on a `grid` x `grid`, and
    for colour the mean of each channel on the same grid; each kind normalised within its own record.

    With `order` 2 the energies of the energies come too, of each map by every wider filter: a scattering
    transform (Oyallon and Mallat 2015, "Deep roto-translation scattering"; without their subsampling).
    """

    filters: Tensor

    def __init__(
        self, channels: int, scales: int, orientations: int, kernel: int, grid: int, order: int = 1
    ) -> None:
        super().__init__()
        self.grid, self.orientations = grid, orientations
        self.wider_scales = range(1, scales) if order > 1 else range(0)
        second = sum(scale * orientations * orientations for scale in self.wider_scales)
        colours = channels if channels > 1 else 0
        self.features = grid * grid * (scales * orientations + second + colours)
        self.register_buffer("filters", torch.from_numpy(gabor_pairs(scales, orientations, kernel)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, features]."""
        energies = _energies(x.mean(dim=1, keepdim=True), self.filters)
        parts = [self._pooled(energies)]
        for scale in self.wider_scales:
            bank = self.filters[2 * self.orientations * scale : 2 * self.orientations * (scale + 1)]
            # One map at a time: all of them together are many times the picture's memory.
            finer = torch.split(energies[:, : scale * self.orientations], 1, dim=1)
            parts.append(torch.cat([self._pooled(_energies(each, bank)) for each in finer], dim=1))
        if x.shape[1] > 1:
            parts.append(self._pooled(x))
        return torch.cat([F.layer_norm(part, part.shape[1:]) for part in parts], dim=1)

    def _pooled(self, maps: Tensor) -> Tensor:
        return pooled(maps, self.grid).flatten(1)


class FixedMlp(Extractor):
    """Oriented energies → Linear → norm → tanh → Linear → norm → tanh: [B, C, H, W] → [B, embedding_dim].

    Norms have no parameters, unless the scope is film. With `concatenate` the fixed features follow the
    trained ones in the embedding: a release gives both, and the training head sees the trained ones alone
    (architectures.head_inputs), so that training puts all it can into those.
    """

    def __init__(self, fixed: OrientedEnergies, hidden: int, trained_dim: int, concatenate: bool) -> None:
        super().__init__()
        self.fixed = fixed
        self.trained_dim = trained_dim
        self.concatenate = concatenate
        self.hidden = nn.Linear(fixed.features, hidden)
        self.out = nn.Linear(hidden, trained_dim)
        self.hidden_norm = nn.LayerNorm(hidden, elementwise_affine=False)
        self.out_norm = nn.LayerNorm(trained_dim, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, embedding_dim]."""
        with torch.no_grad():
            features = self.fixed(x)
        hidden = torch.tanh(self.hidden_norm(self.hidden(features)))
        trained = torch.tanh(self.out_norm(self.out(hidden)))
        return torch.cat([trained, features], dim=1) if self.concatenate else trained

    def last_block(self) -> list[nn.Module]:
        """The second Linear layer and its norm."""
        return [self.out, self.out_norm]


def _energies(grey: Tensor, filters: Tensor) -> Tensor:
    """[B, 1, H, W] by pairs [2·n, 1, k, k] → [B, n, H, W]."""
    edge = filters.shape[-1] // 2
    answers = F.conv2d(F.pad(grey, (edge, edge, edge, edge), mode="replicate"), filters)
    even, odd = answers[:, 0::2], answers[:, 1::2]
    return torch.sqrt(even.square() + odd.square() + 1e-6)


def fixed_mlp(spec: ExtractorSpec) -> Extractor:
    """Options: scales 2, orientations 8, kernel 7 (odd), grid 4, order 1, hidden 128, concatenate false."""
    options = Options(spec)
    scales, orientations = options.take("scales", 2), options.take("orientations", 8)
    kernel, grid = options.take("kernel", 7), options.take("grid", 4)
    hidden, concatenate = options.take("hidden", 128), options.take("concatenate", False)
    order = options.take("order", 1)
    options.done()
    shortest = min(spec.height, spec.width)
    if kernel % 2 == 0 or kernel > 31 or scales * orientations > 1024 or grid > shortest:
        raise InvalidConfig(
            "fixed-mlp expects an odd kernel of at most 31, at most 1024 filters and a grid no finer than "
            f"the picture; found kernel {kernel}, {scales * orientations} filters, grid {grid}. Nothing was "
            "built. Correct the plan's extractor."
        )
    fixed = OrientedEnergies(spec.channels, scales, orientations, kernel, grid, order)
    if order > 2 or (order == 2 and not 2 <= scales <= fixed.features <= LARGEST_OPTION):
        raise InvalidConfig(
            f"fixed-mlp expects order 1, or order 2 with at least 2 scales and at most {LARGEST_OPTION} fixed "
            f"features; found order {order}, {scales} scales, {fixed.features} features. Nothing was built. "
            "Correct the plan's extractor."
        )
    trained_dim = spec.embedding_dim - (fixed.features if concatenate else 0)
    if trained_dim < 1:
        raise InvalidConfig(
            f"fixed-mlp with concatenate expects an embedding_dim above its {fixed.features} fixed features; "
            f"found {spec.embedding_dim}. Nothing was built. Correct the plan's extractor."
        )
    return FixedMlp(fixed, hidden, trained_dim, concatenate)


def gabor_pairs(scales: int, orientations: int, kernel: int) -> npt.NDArray[np.float32]:
    """Even and odd Gabor filters, float32 [2·scales·orientations, 1, kernel, kernel]: pairs lie side by side.

    Each has unit norm and the even ones zero mean, so plain brightness has no energy.
    """
    span = np.arange(kernel) - kernel // 2
    rows, columns = np.meshgrid(span, span, indexing="ij")
    filters = []
    for scale in range(scales):
        width = _FIRST_WIDTH_PIXELS * _WIDTH_RATIO**scale
        window = np.exp(-(rows**2 + columns**2) / (2 * width**2))
        for step in range(orientations):
            angle = math.pi * step / orientations
            phase = (columns * math.cos(angle) + rows * math.sin(angle)) * (
                2 * math.pi / (_WAVELENGTH_PER_WIDTH * width)
            )
            even, odd = window * np.cos(phase), window * np.sin(phase)
            even = even - window * (even.sum() / window.sum())
            filters += [even / np.linalg.norm(even), odd / np.linalg.norm(odd)]
    return np.stack(filters)[:, None].astype(np.float32)
