"""Joules of a piece of work on the CPU, and the grams of CO2 that they stand for. Offline; leaves nothing behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from codecarbon.core.cpu import TDP
from codecarbon.core.emissions import Emissions
from codecarbon.core.units import Energy as Electricity
from codecarbon.core.util import count_cpus
from codecarbon.external.geography import GeoMetadata
from codecarbon.input import DataSource

from shared.exports.measured import Energy

_RAPL = Path("/sys/class/powercap")
_JOULES_PER_KWH = 3.6e6


def energy_of(work: Callable[[], int], country: str = "") -> Energy:
    """What `work`, which gives how many records it embedded on one thread, cost.

    By the processor's own counters (RAPL: whole packages, so whatever else ran is in it) where they can be read,
    else processor time times the rated watts of one thread. No GPU takes part, so none is asked (NVML). CO2 by
    codecarbon's table of `country` (ISO 3166 alpha-3; the world's average where it has none). codecarbon's tracker
    is left out: its threads sample every second, and the work takes less.
    """
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    counters = _counters()
    before, started = [_read(each) for each in counters], time.process_time()
    records = work()
    seconds, after = time.process_time() - started, [_read(each) for each in counters]
    if counters:
        spans = zip(counters, before, after, strict=True)
        joules = sum(_microjoules(*span) for span in spans) / 1e6
        method = "RAPL: all packages, with whatever else ran meanwhile"
    else:
        rating = TDP()
        watts = rating.tdp / count_cpus()
        joules = seconds * watts
        method = (
            f"estimate: processor time x {watts:g} W, codecarbon's rating of one thread of {rating.model or 'it'}; "
            "no counter (RAPL) can be read here"
        )
    kwh = joules / _JOULES_PER_KWH
    place = GeoMetadata(country_iso_code=country)
    kilograms_per_kwh = Emissions(DataSource()).get_country_emissions(Electricity.from_energy(1.0), place)
    return Energy(
        records=records,
        joules=joules,
        method=method,
        co2_g=1000.0 * kwh * kilograms_per_kwh,
        grams_per_kwh=1000.0 * kilograms_per_kwh,
        co2_method=f"codecarbon offline, {country or 'world average'}",
    )


def _counters() -> list[Path]:
    """Folders of the packages' counters that this user may read; usually root alone may."""
    found = []
    for folder in sorted(_RAPL.glob("intel-rapl:*")):
        try:
            is_package = (folder / "name").read_text(encoding="ascii").startswith("package")
            _read(folder)
        except (OSError, ValueError):
            continue
        if is_package:
            found.append(folder)
    return found


def _read(folder: Path) -> int:
    return int((folder / "energy_uj").read_text(encoding="ascii"))


def _microjoules(folder: Path, before: int, after: int) -> int:
    """The counter starts again at its range."""
    if after >= before:
        return after - before
    return after - before + int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
