"""Joules of one round's training, by the machine's own counters. They stay at home: they tell the drawn batch's size.

The processor's packages by RAPL, the GPU by NVML where one trains. What cannot be read is left out, and no more rights
are asked for (clause 6.1, ADR 0033).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from shared.exports.energy_counters import POWERCAP, PackageCounters

_LOOK_EVERY_S = 30.0
"""The smallest range, 65 kJ, is passed at most once in it below 2 kW a package."""
_PER_JOULE = 1000.0


@dataclass
class Spent:
    """What one round's training took on this machine; joules are None where no counter could be read."""

    device: str = "cpu"
    seconds_processor: float = 0.0
    joules_processor: float | None = None
    joules_gpu: float | None = None


@contextmanager
def metered(device: torch.device, powercap: Path = POWERCAP) -> Iterator[Spent]:
    """Fills what it yields when the work is done.

    Whole packages and GPUs are counted, with whatever else ran meanwhile.
    """
    spent, packages, gpu = Spent(device.type), PackageCounters(powercap), _gpu_counter(device)
    gpu_before, started = gpu(), time.process_time()
    with _looked_at(packages):
        yield spent
    spent.seconds_processor = time.process_time() - started
    spent.joules_processor = packages.joules
    gpu_after = gpu()
    if gpu_before is not None and gpu_after is not None:
        spent.joules_gpu = (gpu_after - gpu_before) / _PER_JOULE


@contextmanager
def _looked_at(packages: PackageCounters) -> Iterator[None]:
    """Often enough that no counter starts again twice between two looks."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_EVERY_S):
            packages.look()

    looking = threading.Thread(target=look, name="energy", daemon=True)
    if packages.joules is not None:
        looking.start()
    try:
        yield
    finally:
        done.set()
        if looking.ident is not None:
            looking.join()
        packages.look()


def _gpu_counter(device: torch.device) -> Callable[[], int | None]:
    """Reads the millijoules that the GPU which torch calls `device` has used since its driver started."""
    if device.type != "cuda":
        return lambda: None
    try:
        import pynvml
    except ImportError:
        return lambda: None

    def read() -> int | None:
        try:
            pynvml.nvmlInit()
            try:
                # By UUID, since CUDA_VISIBLE_DEVICES gives torch numbers of its own.
                uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
                return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid)))
            finally:
                pynvml.nvmlShutdown()
        except pynvml.NVMLError:  # older than Volta, a part of a GPU, or no NVIDIA driver
            return None

    return read
