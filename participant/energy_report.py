"""What this node's rounds took in joules, out of its own energy.jsonl, for its own operator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def energy_lines(path: Path) -> list[str]:
    """Sentences; none where no round was trained since joules are noted."""
    rounds = _rounds(path)
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


def _rounds(path: Path) -> list[Mapping[str, Any]]:
    """All lines but one that was cut by a crash."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def _count(rounds: int) -> str:
    return "1 round" if rounds == 1 else f"{rounds} rounds"
