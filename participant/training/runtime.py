"""Local choices that change speed and nothing else: what changes the guarantee is in the signed plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from shared.domain.errors import InvalidConfig
from shared.domain.strict import read_toml

MICRO_BATCH = 64


@dataclass(frozen=True)
class RuntimeOptions:
    """Where and in what portions a member computes. Any values give the same update up to rounding."""

    device: str = "auto"
    """auto, cpu, cuda (also "cuda:1") or mps."""
    micro_batch: int = MICRO_BATCH
    """At most so many records' gradients are held at once, rounded down to a power of two; memory grows with it, a
    logical batch may be any size. Lowered by itself where the device has too little memory."""
    threads: int = 0
    """CPU threads of this process; 0 leaves torch's own choice."""

    def __post_init__(self) -> None:
        if self.micro_batch < 1 or self.threads < 0:
            raise InvalidConfig(
                f"participant.toml: micro_batch must be at least 1 and threads at least 0; found {self.micro_batch} "
                f"and {self.threads}. Nothing was computed. Correct the line, or leave it out."
            )


def read_options(path: Path) -> RuntimeOptions:
    """participant.toml, or the defaults where there is none. Raises InvalidConfig."""
    return read_toml(path, RuntimeOptions) if path.exists() else RuntimeOptions()


def apply_threads(options: RuntimeOptions) -> None:
    """Set the number of CPU threads of this process, where the member chose one."""
    if options.threads > 0:
        torch.set_num_threads(options.threads)
