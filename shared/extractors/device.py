"""Which device torch computes on: the one that was asked for, or the best that is here."""

from __future__ import annotations

import torch

from shared.domain.errors import InvalidConfig

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(wanted: str) -> torch.device:
    """The device named `wanted`; for "auto" CUDA, else MPS, else the CPU.

    Raises InvalidConfig for a name that is not known or a device that is not here.
    """
    kind = wanted.partition(":")[0]
    if kind not in DEVICES:
        raise InvalidConfig(
            f"Expected a device among {', '.join(DEVICES)}; found {wanted!r}. Nothing was started. Choose one of those."
        )
    # TF32 would round gradients a thousand times more coarsely than the sensitivity's slack allows for.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if kind == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    present = {"cpu": True, "cuda": cuda, "mps": mps}[kind]
    if present and wanted.startswith("cuda:"):
        number = wanted.partition(":")[2]
        present = number.isdigit() and int(number) < torch.cuda.device_count()
    if not present:
        raise InvalidConfig(
            f"The device {wanted!r} is asked for and torch finds none here. Nothing was started. Set device "
            'to "auto" or "cpu".'
        )
    return torch.device(wanted)
