"""A GPU gives the CPU's numbers within tolerance; where there is none, the test says so and is skipped."""

import numpy as np
import pytest
import torch

from participant.training.dp_sgd import make_engine
from participant.training.runtime import choose_device
from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec
from shared.extractors.architectures import ARCHITECTURES, build

OPTIONS = {
    "fixed-mlp": {"hidden": 16, "grid": 2},
    "small-gn": {"width": 8},
    "wrn-16-4-gn": {"widen": 1},
    "resnet18-gn": {"width": 8},
    "vit-tiny": {"width": 24, "depth": 2, "heads": 3},
}


def device_or_skip(kind):
    try:
        return choose_device(kind)
    except InvalidConfig:
        pytest.skip(f"no {kind} device on this machine")


@pytest.fixture(autouse=True)
def full_precision():
    """TF32 rounds products to 10 bits, which is no error of ours."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_clipped_sum_on_a_gpu_is_that_of_the_cpu(kind, name):
    device = device_or_skip(kind)
    generator = torch.Generator().manual_seed(4)
    x, y = torch.randn(33, 3, 16, 16, generator=generator), torch.randint(0, 5, (33,), generator=generator)
    sums = []
    for where in (torch.device("cpu"), device):
        extractor = build(ExtractorSpec(name, 3, 16, 16, 12, options=OPTIONS[name]), seed=1)
        torch.manual_seed(0)
        engine = make_engine(extractor, torch.nn.Linear(12, 5), 8, where)
        sums.append(np.concatenate(engine.clipped_sum(x, y, 0.5)))
    assert sums[1].dtype == np.float32
    assert np.linalg.norm(sums[1] - sums[0]) <= 1e-4 * np.linalg.norm(sums[0])


def test_device_auto_is_one_that_is_here():
    assert torch.ones(2, device=choose_device("auto")).sum().item() == 2.0
