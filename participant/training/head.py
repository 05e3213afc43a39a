"""The training head: a member's own temporary Linear layer inside the mechanism (clause 2). Never sent.

It carries noise of its own (clause 2.3) and is kept between rounds at home, unless the plan has one head for all
members (shared_head.py). The head of daily use is another one, fitted on a release (participant/heads).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load, save
from torch import Tensor, nn

from shared.domain.errors import InvalidWeights
from shared.domain.files import write_atomically

MAXIMUM_HEAD_BYTES = 2**30


@dataclass(frozen=True)
class HeadState:
    """float32 weight [classes, inputs] and bias [classes]; inputs as architectures.head_inputs gives them."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    @classmethod
    def zeros(cls, classes: int, inputs: int) -> HeadState:
        """Where every member starts: it says nothing about any record."""
        return cls(np.zeros((classes, inputs), np.float32), np.zeros(classes, np.float32))

    @property
    def flat(self) -> npt.NDArray[np.float32]:
        """float32 [classes + classes * inputs], in the order of `vectors.get_flat`: the bias first."""
        return np.concatenate([self.bias, self.weight.reshape(-1)])


def build_head(state: HeadState) -> nn.Linear:
    """A Linear layer with the state's values."""
    classes, inputs = state.weight.shape
    layer = nn.Linear(inputs, classes)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(state.weight))
        layer.bias.copy_(torch.tensor(state.bias))
    return layer


class FirstOf(nn.Module):
    """[B, n] → [B, width]: the front of an embedding, which is what a training head sees."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, embedding: Tensor) -> Tensor:
        """[B, n] → [B, width], a view."""
        return embedding[:, : self.width]


def with_head(extractor: nn.Module, head: nn.Linear) -> nn.Sequential:
    """[B, C, H, W] → [B, classes]: the two as one network, over these very modules."""
    return nn.Sequential(extractor, FirstOf(head.in_features), head)


def head_state(layer: nn.Linear) -> HeadState:
    """A copy of the layer's values."""
    weight, bias = (tensor.detach().cpu().numpy().astype(np.float32) for tensor in (layer.weight, layer.bias))
    return HeadState(weight, bias)


def check_head(state: HeadState, classes: int, inputs: int) -> None:
    """Raise InvalidWeights unless the state fits `classes` and `inputs` and is finite."""
    expected, found = (classes, inputs), state.weight.shape
    if found != expected or state.bias.shape != (classes,):
        raise InvalidWeights(
            f"Expected a training head of {list(expected)}, found {list(found)}. It was not used. Remove "
            "the run's file in the folder training, and a new head starts at zero."
        )
    if not (np.isfinite(state.weight).all() and np.isfinite(state.bias).all()):
        raise InvalidWeights(
            "Expected a finite training head, found NaN or infinite values. It was not used. Remove the "
            "run's file in the folder training, and a new head starts at zero."
        )


def save_head(path: Path, state: HeadState) -> None:
    """Write the state at `path`, readable by its owner only, whole or not at all. Raises OutOfSpace."""
    write_atomically(path, save({"weight": state.weight, "bias": state.bias}))


def load_head(path: Path) -> HeadState:
    """Read what `save_head` wrote. Raises InvalidWeights for anything else, also for no file."""
    try:
        if path.stat().st_size > MAXIMUM_HEAD_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes, at most {MAXIMUM_HEAD_BYTES} are read")
        tensors = load(path.read_bytes())
        return HeadState(tensors["weight"].astype(np.float32), tensors["bias"].astype(np.float32))
    except Exception as error:  # safetensors raises a class of its own for every malformed file
        raise InvalidWeights(
            f"Expected a training head in {path.name}, and it cannot be read: {error}. Nothing was trained. "
            "Remove the file, and a new head starts at zero."
        ) from error
