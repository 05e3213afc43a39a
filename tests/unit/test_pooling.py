"""Average pooling by products, for the GPU that has no pooling of its own for these sizes: torch's numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from shared.extractors.layers import Pooled, pooled, pooled_by_products, torch_pools


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("height", "width"), [(7, 7), (4, 9), (28, 28), (2, 3), (13, 5)])
def test_pooling_by_products_is_torchs_own(height: int, width: int, side: int) -> None:
    x = torch.randn(3, 2, height, width, dtype=torch.float64, requires_grad=True)
    found, expected = pooled_by_products(x, side), F.adaptive_avg_pool2d(x, side)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    weights = torch.randn_like(expected)
    gradients = [torch.autograd.grad((each * weights).sum(), x)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


def test_elsewhere_it_is_torchs_own_to_the_bit() -> None:
    x = torch.randn(3, 2, 7, 9)
    assert torch.equal(pooled(x, 2), F.adaptive_avg_pool2d(x, 2))
    assert torch.equal(Pooled(2)(x), F.adaptive_avg_pool2d(x, 2))


def test_apples_gpu_gets_torchs_own_only_where_all_windows_are_equal() -> None:
    assert [torch_pools("mps", *sides, 2) for sides in ((8, 6), (7, 8), (8, 7))] == [True, False, False]
    assert torch_pools("cpu", 7, 7, 2) and torch_pools("cuda", 7, 7, 2)
