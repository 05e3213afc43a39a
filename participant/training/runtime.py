"""Local choices that change speed and nothing else: what changes the guarantee is in the signed plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from shared.domain.strict import read_toml

MICRO_BATCH = 64


@dataclass(frozen=True)
class RuntimeOptions:
    """Where and in what portions a member computes. Any values give the same update up to rounding."""

    device: str = "auto"
    """auto, cpu, cuda (also "cuda:1") or mps."""
    micro_batch: int = MICRO_BATCH
    """At most so many records' gradients are held at once, a power of two; memory grows with it, a logical batch may be
    any size. Lowered by itself where the device has too little memory."""
    threads: int = 0
    """CPU threads of this process; 0 leaves torch's own choice."""


def read_options(path: Path) -> RuntimeOptions:
    """participant.toml, or the defaults where there is none. Raises InvalidConfig."""
    return read_toml(path, RuntimeOptions) if path.exists() else RuntimeOptions()


def apply_threads(options: RuntimeOptions) -> None:
    """Set the number of CPU threads of this process, where the member chose one."""
    if options.threads > 0:
        torch.set_num_threads(options.threads)
