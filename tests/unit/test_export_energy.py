"""Energy is estimated without a network, a file or a thread that stays, and says how."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from coordinator.workers.export_energy import energy_of
from shared.exports.rated_power import rated_name, rated_watts
from tests.powercap_kit import zone


def work() -> int:
    until = time.process_time() + 0.05
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
    assert "no GPU took part, so none was asked (NVML)" in found.method
    assert found.joules_a_thousand == pytest.approx(20 * found.joules)
    assert found.co2_g == pytest.approx(found.joules / 3.6e6 * found.grams_per_kwh)
    assert found.co2_method == "codecarbon offline, world average"
    assert set(threading.enumerate()) <= before, "one of another test may have ended meanwhile, none began"
    assert list(tmp_path.iterdir()) == []


def test_a_kilowatt_hour_weighs_what_it_weighs_in_its_country() -> None:
    assert energy_of(work, "FRA").grams_per_kwh < energy_of(work, "DEU").grams_per_kwh


def test_a_country_without_figures_is_said_and_the_world_taken() -> None:
    nowhere, world = energy_of(work, "ATA"), energy_of(work)
    assert nowhere.co2_method == "codecarbon offline, world average: its table has no ATA"
    assert nowhere.grams_per_kwh == world.grams_per_kwh
    assert energy_of(work, "FRA").co2_method == "codecarbon offline, FRA"


def test_counters_of_all_packages_are_added_also_where_one_starts_again(tmp_path: Path) -> None:
    one = zone(tmp_path / "intel-rapl:0", "package-0", "5000000")
    other = zone(tmp_path / "intel-rapl:1", "package-1", "9000000", most_uj=10_000_000)
    others = [
        zone(tmp_path / "intel-rapl:0:0", "core", "1"),  # inside package-0
        zone(tmp_path / "intel-rapl:2", "psys", "1"),  # the platform, with both packages in it
        zone(tmp_path / "intel-rapl-mmio:0", "package-0", "1"),  # package-0 by another way
    ]

    def embed() -> int:
        (one / "energy_uj").write_text("7500000\n")
        (other / "energy_uj").write_text("500000\n")
        for each in others:
            (each / "energy_uj").write_text("99000000\n")
        return 400

    found = energy_of(embed, powercap=tmp_path)
    assert found.joules == pytest.approx(2.5 + 1.5) and found.joules_a_thousand == pytest.approx(10.0)
    assert found.method.startswith("RAPL: all packages") and "NVML" in found.method


@pytest.mark.parametrize("written", ["", "many", "-"])
def test_a_counter_that_cannot_be_read_is_no_counter(tmp_path: Path, written: str) -> None:
    zone(tmp_path / "intel-rapl:0", "package-0", written)
    (tmp_path / "intel-rapl:1").mkdir()
    found = energy_of(work, powercap=tmp_path)
    assert found.method.startswith("estimate: processor time x ") and found.joules > 0


def test_a_counter_that_is_gone_when_the_work_is_done_is_no_counter(tmp_path: Path) -> None:
    one = zone(tmp_path / "intel-rapl:0", "package-0", "5")

    def embed() -> int:
        (one / "energy_uj").unlink()
        return work()

    assert energy_of(embed, powercap=tmp_path).method.startswith("estimate: processor time x ")


NAMES = ("Intel Xeon E5-2680", "Intel Xeon E5-2680 v4", "AMD EPYC 7763", "AMD EPYC 7763 64", "255e")


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "Intel Xeon E5-2680 v4"),
        ("Intel(R) Xeon(R) CPU E5-2680 0 @ 2.70GHz", "Intel Xeon E5-2680"),
        ("AMD EPYC 7763 64-Core Processor", "AMD EPYC 7763"),
        ("AMD EPYC", None),
        ("255e", None),
        ("", None),
    ],
)
def test_a_processor_is_rated_by_the_name_whose_words_it_has(processor: str, expected: str | None) -> None:
    assert rated_name(processor, NAMES) == expected


def test_a_processor_that_two_names_fit_equally_is_not_rated() -> None:
    assert rated_name("one two three", ("one two", "two three")) is None


def test_rated_watts_start_no_program() -> None:
    started: list[object] = []
    sys.addaudithook(
        lambda event, arguments: started.append(arguments) if event == "subprocess.Popen" else None
    )
    watts, whose = rated_watts()
    assert watts > 0 and whose.startswith("codecarbon's ")
    assert started == []
