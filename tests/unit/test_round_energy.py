"""A node reads its machine's counters around a round's training, and tells them to its own operator alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from participant.energy_report import energy_lines
from participant.training.energy import metered
from shared.exports.energy_counters import PackageCounters
from tests.desk import Desk
from tests.powercap_kit import zone
from tests.simulator import ConsortiumSimulator

CPU = torch.device("cpu")


def test_counters_of_all_packages_are_added_while_a_round_is_trained(tmp_path: Path) -> None:
    one = zone(tmp_path / "intel-rapl:0", "package-0", "9000000", most_uj=10_000_000)
    other = zone(tmp_path / "intel-rapl:1", "package-1-die-1", "1000000")
    zone(tmp_path / "intel-rapl:0:0", "core", "1")
    psys = zone(tmp_path / "intel-rapl:2", "psys", "1")
    with metered(CPU, tmp_path) as spent:
        (one / "energy_uj").write_text("500000\n")  # it started again
        (other / "energy_uj").write_text("4000000\n")
        (psys / "energy_uj").write_text("99000000\n")
    assert spent.joules_processor == pytest.approx(1.5 + 3.0)
    assert (spent.device, spent.joules_gpu) == ("cpu", None) and spent.seconds_processor >= 0.0


def test_a_counter_that_starts_again_twice_is_followed_by_looks_between(tmp_path: Path) -> None:
    one = zone(tmp_path / "intel-rapl:0", "package-0", "9", most_uj=10)
    counters = PackageCounters(tmp_path)
    for shown in ("2", "9", "1"):
        (one / "energy_uj").write_text(shown)
        counters.look()
    assert counters.joules == pytest.approx((3 + 7 + 2) / 1e6)


@pytest.mark.parametrize("spoilt", ["name", "energy_uj", "max_energy_range_uj"])
def test_what_cannot_be_read_is_no_counter(tmp_path: Path, spoilt: str) -> None:
    package = zone(tmp_path / "intel-rapl:0", "package-0", "7")
    (package / spoilt).unlink()
    (package / spoilt).mkdir()  # also root cannot read a folder as a file
    with metered(CPU, tmp_path) as spent:
        pass
    assert spent.joules_processor is None


def test_a_trained_round_is_noted_at_home_once(desk: Desk, tmp_path: Path) -> None:
    zone(tmp_path / "powercap" / "intel-rapl:0", "package-0", "7")
    sim = ConsortiumSimulator(desk, tmp_path / "members")
    member = sim.members[0]
    member.powercap = tmp_path / "powercap"
    member.restart()
    sim.drive(sim.start(sim.plan(rounds=2)))
    lines = [json.loads(line) for line in member.home.energy.read_text("utf-8").splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert all(line["joules_processor"] == 0.0 and line["device"] == "cpu" for line in lines)
    seconds = [json.loads(line) for line in member.home.metrics.read_text("utf-8").splitlines()]
    assert all(line.keys() == seconds[0].keys() and line["seconds_train"] > 0.0 for line in seconds)
    assert member.home.energy.stat().st_mode & 0o777 == 0o600


def written(path: Path, *rounds: dict[str, object]) -> Path:
    usual = {"device": "cpu", "seconds_processor": 2.0, "joules_processor": None, "joules_gpu": None}
    path.write_text("".join(json.dumps(usual | one) + "\n" for one in rounds) + '{"run_id": "cut')
    return path


def test_report_adds_what_was_read_and_estimates_the_rest(tmp_path: Path) -> None:
    rounds: list[dict[str, object]] = [{"joules_processor": 1000.0}, {"joules_processor": 500.5}, {}]
    first, read, estimate = energy_lines(written(tmp_path / "energy.jsonl", *rounds))
    assert first == "Energy of the 3 rounds trained here, which this folder alone knows:"
    assert "1,500 J by the processor's counters (RAPL)" in read and read.endswith("in 2 rounds")
    assert "in 1 round, an estimate: 2 s of processor time x" in estimate
    assert "no counter (RAPL) was readable, and this node asks for no more rights" in estimate


def test_report_tells_of_gpus_that_were_read_and_that_were_not(tmp_path: Path) -> None:
    rounds: list[dict[str, object]] = [
        {"device": "cuda", "joules_processor": 1.0, "joules_gpu": 20.0},
        {"device": "cuda", "joules_processor": 1.0},
    ]
    *_, read, missing = energy_lines(written(tmp_path / "energy.jsonl", *rounds))
    assert read.strip() == "20 J by the GPU's counter (NVML) in 1 round"
    assert "in 1 round the GPU's counter (NVML) was not readable: its joules are not in here" in missing


def test_report_of_a_member_that_never_trained_is_empty(tmp_path: Path) -> None:
    assert energy_lines(tmp_path / "energy.jsonl") == []
