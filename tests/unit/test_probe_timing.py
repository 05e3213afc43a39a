"""Timing a step takes an admin a few seconds, however large the extractor is."""

from __future__ import annotations

import time

import pytest
import torch

from coordinator.workers import probe_worker
from shared.domain.extractor import ExtractorSpec

SPEC = ExtractorSpec("small-gn", 1, 8, 8, 4, (0.5,), (0.25,))


class Noting(torch.nn.Module):
    """Notes the batches that it was shown; takes `seconds` for each record."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seconds = seconds
        self.batches: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        time.sleep(self.seconds * len(images))
        return images.flatten(1) * self.weight


def test_a_slow_extractor_is_timed_on_a_few_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_worker, "TIMING_S", 0.1)
    slow = Noting(0.03)
    assert probe_worker._seconds_per_record(slow, SPEC) >= 0.03
    assert slow.batches == [2]


def test_a_quick_extractor_is_timed_on_a_batch_that_is_worth_its_overhead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe_worker, "TIMING_S", 600.0)
    quick = Noting(0.0)
    assert 0 < probe_worker._seconds_per_record(quick, SPEC) < 600
    assert quick.batches == [2, 4, 8, 16, 32]
