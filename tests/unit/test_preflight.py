"""What the preflight says of a machine, also on systems that tell less of themselves than Linux does."""

from __future__ import annotations

import os

import pytest
import torch

from participant.preflight import find_device
from shared.domain.errors import InvalidConfig
from shared.extractors.device import choose_device


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_cores_are_counted_where_the_system_has_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert find_device() == f"cpu: {os.cpu_count()} cores"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_only_cores_that_this_process_may_use_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 3, 5})
    assert find_device() == "cpu: 3 cores"


def test_device_that_nobody_knows_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidConfig, match=r"found 'tpu'\. Nothing was started\. Choose one of those\.$"):
        choose_device("tpu")


def test_a_mac_with_metal_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device().startswith("mps: ")
