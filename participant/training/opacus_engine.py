"""The clipped sum by Opacus' hooks. The only file that imports opacus."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from opacus.grad_sample import GradSampleHooks, register_grad_sampler
from torch import Tensor, nn

from participant.training.dp_sgd import Sum
from participant.training.gradient_rules import RULES
from participant.training.head import with_head
from participant.training.portions import halved, is_out_of_memory
from shared.domain.errors import UnsoundPlan
from shared.extractors.vectors import trainable_parameters

for kind, rule in RULES.items():
    register_grad_sampler(kind)(rule)


class HooksEngine:
    """Opacus' hooks: per-example gradients of every layer are made in one backward pass, then clipped."""

    def __init__(self, extractor: nn.Module, head: nn.Linear, micro_batch: int, device: torch.device) -> None:
        self._model = with_head(extractor, head).to(device)
        self.portion = max(1, micro_batch)
        self._device = device
        self._sums_on = _device_of_sums(device)
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
        sums = [
            torch.zeros(parameter.numel(), dtype=torch.float64, device=self._sums_on)
            for parameter in self._parameters
        ]
        # Nothing of ours behaves differently in training mode, but the hooks listen only then.
        self._model.train()
        try:
            start = 0
            while start < len(y):
                # A record's copies stay together: their average is needed before its clip.
                records = min(max(1, self.portion // copies), len(y) - start)
                labels = y[start : start + records].repeat_interleave(copies)
                if self._added(
                    x[start * copies : (start + records) * copies], labels, clip_norm_l2, copies, sums
                ):
                    start += records
                else:
                    # This engine does not try again what did not fit.
                    self.portion = halved(records, self._device) * copies
        finally:
            self._model.eval()
        flat = [total.cpu().numpy() for total in sums]
        split = len(self._extractor_parameters)
        return np.concatenate(flat[:split] or [np.zeros(0)]), np.concatenate(flat[split:])

    def _added(self, x: Tensor, y: Tensor, clip_norm_l2: float, copies: int, sums: list[Tensor]) -> bool:
        """Add one portion's clipped gradients to `sums`: all of them, or none and False where memory ran out."""
        hooks = _Hooks(self._model, batch_first=True, loss_reduction="sum")
        try:
            self._backward(hooks, x.to(self._device), y.to(self._device))
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

    def _backward(self, hooks: _Hooks, x: Tensor, y: Tensor) -> None:
        with warnings.catch_warnings():
            # The pictures need no gradient, which torch mentions at every first layer.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            loss = F.cross_entropy(self._model(x), y, reduction="sum")
            # Torch's own gradients, summed over records, are of no use here. Asked for those of the first layers alone
            # it leaves the others' out, and still passes every layer on its way, where the hooks listen.
            loss.backward(inputs=hooks.first)  # type: ignore[no-untyped-call]


class _Hooks(GradSampleHooks):
    """Opacus' hooks, and the parameters of the layers behind which nothing is trained."""

    def __init__(self, model: nn.Module, **options: object) -> None:
        self.first: list[nn.Parameter] = []
        super().__init__(model, **options)

    def capture_activations_hook(
        self, module: nn.Module, forward_input: list[Tensor], _forward_output: Tensor
    ) -> None:
        super().capture_activations_hook(module, forward_input, _forward_output)
        if not any(given.requires_grad for given in forward_input):
            self.first += [one for one in module.parameters(recurse=False) if one.requires_grad]


def _forget_activations(model: nn.Module) -> None:
    """What the hooks kept of a portion that broke off, and would take for part of the next one."""
    for layer in model.modules():
        for left_over in ("activations", "max_batch_len"):
            if hasattr(layer, left_over):
                delattr(layer, left_over)


def _clipped_sums(gradients: list[Tensor], clip_norm_l2: float) -> list[Tensor]:
    """Σ_u clip(g_u), float64, one flat tensor a parameter; gradients[k] is [B, *shape], and is of no more use.

    All of it in float64, from the squares on: what that leaves of rounding is counted in dp_sgd.py.
    """
    by_parameter = [_norms(gradient) for gradient in gradients]
    norms = torch.linalg.vector_norm(torch.stack(by_parameter), dim=0)
    # A record whose gradient overflows must not carry NaN into the sum: that would be unbounded influence.
    sound = torch.isfinite(norms)
    factors = torch.where(sound, clip_norm_l2 / norms.clamp(min=clip_norm_l2), torch.zeros_like(norms))
    if not bool(sound.all()):
        for gradient in gradients:
            gradient[~sound] = 0.0
    return [_weighted_sum(factors, gradient) for gradient in gradients]


def _norms(gradients: Tensor) -> Tensor:
    """[B, *shape] → float64 [B]."""
    return torch.cat([torch.linalg.vector_norm(part, dim=1) for _, part in _in_float64(gradients)])


def _weighted_sum(factors: Tensor, gradients: Tensor) -> Tensor:
    """Σ_u factors[u]·gradients[u]: [B] and [B, *shape] → float64 [p]."""
    total = torch.zeros(gradients[0].numel(), dtype=torch.float64, device=factors.device)
    for records, part in _in_float64(gradients):
        total.addmv_(part.T, factors[records])
    return total


def _in_float64(gradients: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """[B, *shape] as float64 [b, p], a few records at a time: all at once would take twice the memory again."""
    # As much as a processor's cache holds, or enough to keep another device busy.
    numbers = 2**18 if gradients.device.type == "cpu" else 2**22
    at_once = max(1, numbers // max(1, gradients[0].numel()))
    at_once = 1 << (at_once.bit_length() - 1)  # divides a portion, so that all have one shape
    for start in range(0, len(gradients), at_once):
        records = slice(start, start + at_once)
        yield records, gradients[records].flatten(1).to(_device_of_sums(gradients.device)).double()


def _device_of_sums(device: torch.device) -> torch.device:
    """Where float64 is: MPS has none."""
    return torch.device("cpu") if device.type == "mps" else device


def _averaged(gradients: Tensor, copies: int) -> Tensor:
    """[B·copies, *shape] → [B, *shape]."""
    return gradients if copies == 1 else gradients.unflatten(0, (-1, copies)).mean(dim=1)


def _taken(parameter: nn.Parameter) -> Tensor:
    """The parameter's per-example gradients [B, *shape], removed from it to free the memory."""
    gradients: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
    parameter.grad_sample = None  # type: ignore[attr-defined]
    parameter.grad = None
    return gradients.detach()
