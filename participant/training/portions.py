"""Portions in which a device computes: of how many records, in one shape, and what follows where one does not fit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shared.domain.errors import OutOfMemory

_FEWEST = 8
_PLACES = 4
"""With so many records, or a multiple, a record's place in a portion changes nothing; one alone has no other place."""


def records_at_once(expected: float, most: int) -> int:
    """A power of two, at most `most`, for steps that draw `expected` records: by public numbers, never by the draw.

    Few leave the device idle, many leave most places of the last portion empty. Where a portion costs as much as
    ten records before it holds any, √(20·expected) is best. Half of a power of two divides what it divided. Never two:
    MKL rounds the rows of a product with one column by their place, unless they are a multiple of four.
    """
    wanted = int(min(max(_FEWEST, math.sqrt(20.0 * expected)), max(1, most)))
    return 1 if wanted < _PLACES else 1 << (wanted.bit_length() - 1)


def filled(x: Tensor, portion: int) -> Tensor:
    """[B, …] → [n·portion, …], zeros behind the records; always in memory of its own, in torch's usual order.

    Libraries choose how to compute by the shape of a batch and by its order in memory (pictures of one channel have
    two orders that both count as contiguous), and round differently: every record's gradient would change in its last
    bits. What one record more or less moves must be that record.
    """
    whole = x.new_zeros(len(x) + -len(x) % portion, *x.shape[1:])
    whole[: len(x)] = x
    return whole


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory; only CUDA has a class of its own for it."""
    text = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        any(words in text for words in ("out of memory", "can't allocate memory", "ALLOC_FAILED"))
    )


def halved(records: int, device: torch.device) -> int:
    """Half as many records for the next try, with what this process kept of the device's memory given back.

    Raises OutOfMemory where a single record did not fit.
    """
    if records == 1:
        raise OutOfMemory(
            f"The device {device.type} has too little memory for even one record. The round's update was not made. "
            "Set another device in participant.toml, or end what else uses this one."
        )
    give_back(device)
    return records // 2 if records > _PLACES else 1


def give_back(device: torch.device) -> None:
    """Return to the device what torch keeps of its memory for later use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
