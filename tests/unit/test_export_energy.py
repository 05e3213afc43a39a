"""Energy is estimated without a network, a file or a thread that stays, and says how."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from coordinator.workers.export_energy import _microjoules, energy_of


def work() -> int:
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    return 50


def test_energy_of_work_says_how_it_was_found_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    before = set(threading.enumerate())
    found = energy_of(work)
    assert found.records == 50 and 0 < found.joules < 500
    assert found.method.startswith(("RAPL", "estimate: processor time x"))
    assert found.joules_a_thousand == pytest.approx(20 * found.joules)
    assert found.co2_g == pytest.approx(found.joules / 3.6e6 * found.grams_per_kwh)
    assert found.co2_method == "codecarbon offline, world average"
    assert set(threading.enumerate()) == before and list(tmp_path.iterdir()) == []


def test_a_kilowatt_hour_weighs_what_it_weighs_in_its_country() -> None:
    assert energy_of(work, "FRA").grams_per_kwh < energy_of(work, "DEU").grams_per_kwh


def test_a_counter_that_starts_again_is_read_on(tmp_path: Path) -> None:
    (tmp_path / "max_energy_range_uj").write_text("1000\n")
    assert _microjoules(tmp_path, 400, 700) == 300
    assert _microjoules(tmp_path, 900, 100) == 200
