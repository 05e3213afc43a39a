"""A GPU's joules are read by NVML where one trains; where there is none, the test says so and is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from participant.training.energy import metered


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_joules_of_a_gpu_are_read_around_its_work(tmp_path: Path) -> None:
    device = torch.device("cuda")
    values = torch.ones((4096, 4096), device=device)
    with metered(device, tmp_path) as spent:
        for _ in range(400):
            values = (values @ values).clamp(0.0, 1.0)
        torch.cuda.synchronize()
    assert spent.device == "cuda" and spent.joules_processor is None
    assert spent.joules_gpu is not None and 0.0 < spent.joules_gpu < 1e6
