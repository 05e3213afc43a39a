"""fixed-mlp's trained part on features that were computed once, with the joint clip of clause 2.2.

A Linear layer's gradient of one record is an outer product, so its norm is the product of two norms (Goodfellow
2015, "Efficient per-example gradient computations"): the clip needs no gradient of a single record in memory, and a
cell of the benchmark costs seconds. `check_against_shipped` holds it to the shipped module and the shipped engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from utility_data import features

from participant.training.dp_sgd import make_engine
from shared.domain.extractor import ExtractorSpec
from shared.extractors import architectures
from shared.extractors.preprocess import to_input

AGREEMENT = 2e-5
"""Largest relative difference from the shipped engine, both in float32."""


@dataclass
class Heads:
    """Training heads, one that all share (M = 1) or each member's own: weight [M, K, D], bias [M, K].

    `missing` [M, K] is -inf for classes that a head does not know.
    """

    weight: Tensor
    bias: Tensor
    missing: Tensor

    @classmethod
    def zeros(cls, held: np.ndarray, width: int) -> Heads:
        """`held` bool [M, K]."""
        missing = torch.where(torch.from_numpy(held), 0.0, -torch.inf)
        members, classes = held.shape
        return cls(torch.zeros(members, classes, width), torch.zeros(members, classes), missing)

    def place(self, head: int, flat: np.ndarray) -> None:
        """Set one head from float [K·(D + 1)]: bias, weight."""
        values, classes = torch.from_numpy(flat), self.bias.shape[1]
        self.bias[head] = values[:classes]
        self.weight[head] = values[classes:].reshape(self.weight[head].shape)

    def flat(self, head: int) -> np.ndarray:
        """float32 [K·(D + 1)]: inverse of `place`."""
        return torch.cat([self.bias[head], self.weight[head].reshape(-1)]).numpy()


@dataclass(frozen=True)
class Batch:
    """Records of all members, sorted by member; member m's are x[cuts[m]:cuts[m + 1]]."""

    x: Tensor
    y: Tensor
    squares: Tensor
    """[B]: squared norm of each row of x."""
    cuts: tuple[int, ...]

    def part(self, member: int) -> slice:
        return slice(self.cuts[member], self.cuts[member + 1])


@dataclass(frozen=True)
class Clipped:
    """Factors of the records' clipped gradients: layer k's sum over records is left_k^T · right_k."""

    lefts: tuple[Tensor, Tensor, Tensor]
    rights: tuple[Tensor, Tensor, Tensor]

    def extractor_sum(self, part: slice) -> np.ndarray:
        """float32 [d], in the order of the flat vector: hidden bias, hidden weight, out bias, out weight."""
        return self._sum(part, slice(0, 2))

    def head_sum(self, part: slice) -> np.ndarray:
        """float32 [K·(D + 1)]: bias, weight."""
        return self._sum(part, slice(2, 3))

    def joint_sum(self, part: slice) -> np.ndarray:
        """Extractor, then head: what members send where they share the head."""
        return self._sum(part, slice(0, 3))

    def _sum(self, part: slice, layers: slice) -> np.ndarray:
        flat = []
        for left, right in zip(self.lefts[layers], self.rights[layers], strict=True):
            flat += [left[part].sum(0), (left[part].T @ right[part]).reshape(-1)]
        return torch.cat(flat).numpy()


class Adapter:
    """The MLP between fixed features and heads; weights are the flat vector of the shipped module."""

    def __init__(self, spec: ExtractorSpec, seed: int) -> None:
        module = architectures.build(spec, seed)
        self.spec = spec
        self.start = architectures.get_flat(module)
        self.width = architectures.head_inputs(module, spec)
        """Numbers that training heads see, the trained ones: fixed features follow them in a release only."""
        self._shapes = tuple(module.hidden.weight.shape), tuple(module.out.weight.shape)

    def embed(self, flat: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float32 [n, F] → [n, width]; of `flat` what follows the extractor's coordinates is ignored."""
        with torch.inference_mode():
            features_in = torch.from_numpy(x)
            first, second = self._layers(flat)
            inner = self._first(features_in @ first[0].T + first[1])
            return self._second(inner, second)[1].numpy()

    def released(self, flat: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float32 [n, F] → [n, embedding_dim], what heads of daily use see: [E ; F]."""
        return np.concatenate([self.embed(flat, x), x], axis=1)

    def clipped(self, flat: np.ndarray, heads: Heads, batch: Batch, clip_norm_l2: float) -> Clipped:
        """Every record's gradient of (extractor, its head), scaled to at most the clip norm."""
        first, second = self._layers(flat)
        before_first = (batch.x @ first[0].T + first[1]).requires_grad_()
        inner = self._first(before_first)
        before_second, trained = self._second(inner, second)
        embedding = trained.detach()
        logits_gradient = torch.empty(len(batch.y), heads.bias.shape[1])
        back = torch.empty_like(trained)
        for head in range(len(heads.bias)):
            part = batch.part(head) if len(heads.bias) > 1 else slice(None)
            logits = embedding[part] @ heads.weight[head].T + heads.bias[head] + heads.missing[head]
            difference = logits.softmax(1) - F.one_hot(batch.y[part], logits.shape[1])
            logits_gradient[part] = difference
            back[part] = difference @ heads.weight[head]
        gradients = torch.autograd.grad(trained, (before_first, before_second), back)
        lefts, rights = (*gradients, logits_gradient), (batch.x, inner.detach(), embedding)
        squares = sum(
            left.square().sum(1) * (norm + 1.0)
            for left, norm in zip(
                lefts, (batch.squares, *(r.square().sum(1) for r in rights[1:])), strict=True
            )
        )
        factors = clip_norm_l2 / squares.sqrt().clamp(min=clip_norm_l2)
        scaled = tuple(left * factors[:, None] for left in lefts)
        return Clipped(scaled, rights)  # type: ignore[arg-type]

    def _layers(self, flat: np.ndarray) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        rest, layers = torch.from_numpy(flat.astype(np.float32)), []
        for rows, columns in self._shapes:
            layers.append((rest[rows : rows + rows * columns].reshape(rows, columns), rest[:rows]))
            rest = rest[rows + rows * columns :]
        return layers[0], layers[1]

    def _first(self, before: Tensor) -> Tensor:
        return torch.tanh(F.layer_norm(before, before.shape[1:]))

    def _second(self, inner: Tensor, layer: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        before = inner @ layer[0].T + layer[1]
        return before, torch.tanh(F.layer_norm(before, before.shape[1:]))


def check_against_shipped(spec: ExtractorSpec) -> float:
    """Largest relative difference of embeddings and clipped joint sums from the shipped module and engine.

    The records are two members' with one shared head. Raises AssertionError above AGREEMENT.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, spec.height, spec.width, spec.channels), dtype=np.uint8)
    y = torch.from_numpy(rng.integers(0, 5, 12))
    adapter, module = Adapter(spec, 3), architectures.build(spec, 3)
    head = nn.Linear(adapter.width, 5)
    x = torch.from_numpy(to_input(images, spec))
    heads = Heads(head.weight.detach()[None].clone(), head.bias.detach()[None].clone(), torch.zeros(1, 5))
    fixed = torch.from_numpy(features(images, spec))
    batch = Batch(fixed, y, fixed.square().sum(1), (0, 5, 12))
    with torch.inference_mode():
        pairs = [(adapter.released(adapter.start, fixed.numpy()), module(x).numpy())]
    for clip_norm_l2 in (0.3, 2.0):
        engine = make_engine(module, head, 5, torch.device("cpu"))
        clipped = adapter.clipped(adapter.start, heads, batch, clip_norm_l2)
        joint = clipped.joint_sum(batch.part(0)) + clipped.joint_sum(batch.part(1))
        parts = np.split(joint, [len(adapter.start)])
        pairs += zip(parts, engine.clipped_sum(x, y, clip_norm_l2), strict=True)
    worst = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
    if not worst < AGREEMENT:
        raise AssertionError(f"expected agreement within {AGREEMENT}, found {worst}")
    return worst
