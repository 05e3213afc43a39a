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
from shared.domain.errors import OutOfMemory, UnsoundPlan
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
        """See PerExampleEngine. Raises ValueError unless x holds `copies` pictures for each label.

        A portion that does not fit into the device's memory is taken again in halves, which changes nothing but
        rounding. Raises OutOfMemory where a single record does not fit.
        """
        if not clip_norm_l2 > 0.0:
            raise UnsoundPlan(f"The clip norm must be above 0, and is {clip_norm_l2}. Nothing was computed.")
        if copies < 1 or len(x) != copies * len(y):
            raise ValueError(f"expected {copies} copies of {len(y)} records, found {len(x)} pictures")
        sums = [torch.zeros_like(parameter) for parameter in self._parameters]
        # Nothing of ours behaves differently in training mode, but the hooks listen only then.
        self._model.train()
        try:
            start = 0
            while start < len(y):
                # A record's copies stay together: their average is needed before its clip.
                records = min(max(1, self._micro_batch // copies), len(y) - start)
                labels = y[start : start + records].repeat_interleave(copies)
                if self._added(
                    x[start * copies : (start + records) * copies], labels, clip_norm_l2, copies, sums
                ):
                    start += records
                else:
                    self._take_smaller_portions(records, copies)
        finally:
            self._model.eval()
        flat = [total.reshape(-1).cpu().numpy() for total in sums]
        split = len(self._extractor_parameters)
        return np.concatenate(flat[:split] or [np.zeros(0, np.float32)]), np.concatenate(flat[split:])

    def _added(self, x: Tensor, y: Tensor, clip_norm_l2: float, copies: int, sums: list[Tensor]) -> bool:
        """Add one portion's clipped gradients to `sums`: all of them, or none and False where memory ran out."""
        hooks = GradSampleHooks(self._model, batch_first=True, loss_reduction="sum")
        try:
            self._backward(x.to(self._device), y.to(self._device))
            gradients = [_averaged(_taken(parameter), copies) for parameter in self._parameters]
            portion = _clipped_sums(gradients, clip_norm_l2)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        finally:
            hooks.cleanup()
            _forget_activations(self._model)
            self._model.zero_grad(set_to_none=True)
        # Only here, where nothing can fail half-way: what is added twice would count a record twice.
        for total, part in zip(sums, portion, strict=True):
            total += part
        return True

    def _take_smaller_portions(self, records: int, copies: int) -> None:
        """From now on half as many records at once; this engine does not try again what did not fit."""
        if records == 1:
            raise OutOfMemory(
                f"The device {self._device.type} has too little memory for even one record's gradient. The round's "
                "update was not made. Set another device in participant.toml, or end what else uses this one."
            )
        self._micro_batch = records // 2 * copies
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        elif self._device.type == "mps":
            torch.mps.empty_cache()

    def _backward(self, x: Tensor, y: Tensor) -> None:
        with warnings.catch_warnings():
            # The pictures need no gradient, which torch mentions at every first layer.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            loss = F.cross_entropy(self._model(x), y, reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory; only CUDA has a class of its own for it."""
    text = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        any(words in text for words in ("out of memory", "can't allocate memory", "ALLOC_FAILED"))
    )


def _forget_activations(model: nn.Module) -> None:
    """What the hooks kept of a portion that broke off, and would take for part of the next one."""
    for layer in model.modules():
        for left_over in ("activations", "max_batch_len"):
            if hasattr(layer, left_over):
                delattr(layer, left_over)


def _clipped_sums(gradients: list[Tensor], clip_norm_l2: float) -> list[Tensor]:
    """Σ_u clip(g_u), one tensor a parameter; gradients[k] is [B, *shape of parameter k], and is of no more use."""
    squares = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients])
    norms = squares.sum(dim=0).sqrt()
    # A record whose gradient overflows must not carry NaN into the sum: that would be unbounded influence.
    sound = torch.isfinite(norms)
    factors = torch.where(sound, clip_norm_l2 / norms.clamp(min=clip_norm_l2), torch.zeros_like(norms))
    if not bool(sound.all()):
        for gradient in gradients:
            gradient[~sound] = 0.0
    return [torch.einsum("b,b...->...", factors, gradient) for gradient in gradients]


def _averaged(gradients: Tensor, copies: int) -> Tensor:
    """[B·copies, *shape] → [B, *shape]."""
    return gradients if copies == 1 else gradients.unflatten(0, (-1, copies)).mean(dim=1)


def _taken(parameter: nn.Parameter) -> Tensor:
    """The parameter's per-example gradients [B, *shape], removed from it to free the memory."""
    gradients: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
    parameter.grad_sample = None  # type: ignore[attr-defined]
    parameter.grad = None
    return gradients.detach()
