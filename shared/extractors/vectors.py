"""A module's weights as named numpy tensors and as one flat vector, in the layout's order (torch)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from shared.domain.extractor import TensorSlot, WeightLayout
from shared.extractors.flatten import Tensors


def trainable_layout(module: nn.Module) -> WeightLayout:
    """All tensors of `module` sorted by name: parameters are trainable, buffers (filters, tables) are not."""
    trainable = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    return WeightLayout(
        tuple(
            TensorSlot(name, tuple(tensor.shape), name in trainable)
            for name, tensor in sorted(module.state_dict().items())
        )
    )


def tensors_of(module: nn.Module) -> Tensors:
    """A float32 copy of every tensor, by name."""
    return {
        name: tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in module.state_dict().items()
    }


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters in the order of the flat vector: sorted by name."""
    return [parameter for _, parameter in sorted(module.named_parameters()) if parameter.requires_grad]


def get_flat(module: nn.Module) -> npt.NDArray[np.float32]:
    """The trainable coordinates as one float32 [d]."""
    parts = [parameter.detach().reshape(-1).cpu() for parameter in trainable_parameters(module)]
    return torch.cat(parts).numpy().astype(np.float32) if parts else np.zeros(0, dtype=np.float32)


def set_flat(module: nn.Module, vector: npt.NDArray[np.float32]) -> None:
    """Put `vector` float32 [d] into the trainable parameters, in place.

    Raises ValueError when its length is not d; `flatten.check_vector` is for what came from outside.
    """
    parameters = trainable_parameters(module)
    wanted = sum(parameter.numel() for parameter in parameters)
    if vector.shape != (wanted,):
        raise ValueError(f"expected {wanted} coordinates, found an array of shape {list(vector.shape)}")
    with torch.no_grad():
        start = 0
        for parameter in parameters:
            part = torch.tensor(vector[start : start + parameter.numel()])
            parameter.copy_(part.reshape(parameter.shape))
            start += parameter.numel()
