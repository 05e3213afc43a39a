"""What this node's rounds took in joules, out of its own metrics.jsonl, for its own operator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def energy_lines(metrics: Path) -> list[str]:
    """Sentences; none where no round was trained since joules are noted."""
    rounds = _rounds(metrics)
    if not rounds:
        return []
    counted = [one for one in rounds if one["joules_processor"] is not None]
    rated = [one for one in rounds if one["joules_processor"] is None]
    lines = [f"Energy of the {_count(len(rounds))} trained here, which this folder alone knows:"]
    if counted:
        joules = sum(one["joules_processor"] for one in counted)
        lines.append(
            f"  {joules:,.0f} J by the processor's counters (RAPL), whole packages with whatever else ran, in "
            f"{_count(len(counted))}"
        )
    if rated:
        from shared.exports.rated_power import (
            rated_watts,
        )  # takes a second, and is not needed by who reads counters

        seconds, (watts, whose) = sum(one["seconds_processor"] for one in rated), rated_watts()
        lines.append(
            f"  about {seconds * watts:,.0f} J of the processor in {_count(len(rated))}, an estimate: {seconds:,.0f} s "
            f"of processor time x {watts:g} W, {whose}; no counter (RAPL) was readable, and this node asks for no more "
            "rights"
        )
    lines += _gpu_lines([one for one in rounds if one["device"] != "cpu"])
    return lines


def _gpu_lines(rounds: list[Mapping[str, Any]]) -> list[str]:
    """Of the rounds that a GPU trained."""
    counted = [one["joules_gpu"] for one in rounds if one["joules_gpu"] is not None]
    lines = []
    if counted:
        lines.append(f"  {sum(counted):,.0f} J by the GPU's counter (NVML) in {_count(len(counted))}")
    if missing := len(rounds) - len(counted):
        lines.append(
            f"  in {_count(missing)} the GPU's counter (NVML) was not readable: its joules are not in here"
        )
    return lines


def _rounds(metrics: Path) -> list[Mapping[str, Any]]:
    """Lines with joules; rounds of earlier versions and a line that was cut by a crash have none."""
    if not metrics.exists():
        return []
    found = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            one = json.loads(line)
        except ValueError:
            continue
        if "joules_processor" in one:
            found.append(one)
    return found


def _count(rounds: int) -> str:
    return "1 round" if rounds == 1 else f"{rounds} rounds"
