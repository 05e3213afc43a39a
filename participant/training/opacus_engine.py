"""The clipped sum by Opacus' hooks. The only file that imports opacus."""

from __future__ import annotations

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from opacus.grad_sample import GradSampleHooks, register_grad_sampler
from torch import Tensor, nn

from participant.training.dp_sgd import Sum
from participant.training.gradient_rules import RULES
from participant.training.head import with_head
from shared.domain.errors import UnsoundPlan
from shared.extractors.vectors import trainable_parameters

for kind, rule in RULES.items():
    register_grad_sampler(kind)(rule)


class HooksEngine:
    """Opacus' hooks: per-example gradients of every layer are made in one backward pass, then clipped."""

    def __init__(self, extractor: nn.Module, head: nn.Linear, micro_batch: int, device: torch.device) -> None:
        self._model = with_head(extractor, head).to(device)
        self._micro_batch = max(1, micro_batch)
        self._device = device
        self._extractor_parameters = trainable_parameters(extractor)
        self._parameters = self._extractor_parameters + trainable_parameters(head)

    def clipped_sum(self, x: Tensor, y: Tensor, clip_norm_l2: float, copies: int = 1) -> tuple[Sum, Sum]:
        """See PerExampleEngine. Raises ValueError unless x holds `copies` pictures for each label."""
        if not clip_norm_l2 > 0.0:
            raise UnsoundPlan(f"The clip norm must be above 0, and is {clip_norm_l2}. Nothing was computed.")
        if copies < 1 or len(x) != copies * len(y):
            raise ValueError(f"expected {copies} copies of {len(y)} records, found {len(x)} pictures")
        sums = [torch.zeros_like(parameter) for parameter in self._parameters]
        # Nothing of ours behaves differently in training mode, but the hooks listen only then.
        self._model.train()
        hooks = GradSampleHooks(self._model, batch_first=True, loss_reduction="sum")
        try:
            # A record's copies stay together: their average is needed before its clip.
            records = max(1, self._micro_batch // copies)
            for start in range(0, len(y), records):
                labels = y[start : start + records].repeat_interleave(copies)
                pictures = x[start * copies : (start + records) * copies]
                self._backward(pictures.to(self._device), labels.to(self._device))
                gradients = [_averaged(_taken(parameter), copies) for parameter in self._parameters]
                _add_clipped(gradients, clip_norm_l2, sums)
        finally:
            hooks.cleanup()
            self._model.zero_grad(set_to_none=True)
            self._model.eval()
        flat = [total.reshape(-1).cpu().numpy() for total in sums]
        split = len(self._extractor_parameters)
        return np.concatenate(flat[:split] or [np.zeros(0, np.float32)]), np.concatenate(flat[split:])

    def _backward(self, x: Tensor, y: Tensor) -> None:
        with warnings.catch_warnings():
            # The pictures need no gradient, which torch mentions at every first layer.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            loss = F.cross_entropy(self._model(x), y, reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]


def _add_clipped(gradients: list[Tensor], clip_norm_l2: float, sums: list[Tensor]) -> None:
    """Add Σ_u clip(g_u) to `sums`, in place; gradients[k] is [B, *shape of parameter k]."""
    squares = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients])
    norms = squares.sum(dim=0).sqrt()
    # A record whose gradient overflows must not carry NaN into the sum: that would be unbounded influence.
    sound = torch.isfinite(norms)
    factors = torch.where(sound, clip_norm_l2 / norms.clamp(min=clip_norm_l2), torch.zeros_like(norms))
    broken = not bool(sound.all())
    for gradient, total in zip(gradients, sums, strict=True):
        if broken:
            gradient[~sound] = 0.0
        total += torch.einsum("b,b...->...", factors, gradient)


def _averaged(gradients: Tensor, copies: int) -> Tensor:
    """[B·copies, *shape] → [B, *shape]."""
    return gradients if copies == 1 else gradients.unflatten(0, (-1, copies)).mean(dim=1)


def _taken(parameter: nn.Parameter) -> Tensor:
    """The parameter's per-example gradients [B, *shape], removed from it to free the memory."""
    gradients: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
    parameter.grad_sample = None  # type: ignore[attr-defined]
    parameter.grad = None
    return gradients.detach()
