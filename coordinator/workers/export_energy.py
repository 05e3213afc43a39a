"""Joules of a piece of work on the CPU, and the grams of CO2 that they stand for. Offline; leaves nothing behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from codecarbon.core.emissions import Emissions
from codecarbon.core.units import Energy as Electricity
from codecarbon.external.geography import GeoMetadata
from codecarbon.input import DataSource

from shared.exports.energy_counters import POWERCAP, PackageCounters
from shared.exports.measured import Energy
from shared.exports.rated_power import rated_watts

_JOULES_PER_KWH = 3.6e6
_NO_GPU = "no GPU took part, so none was asked (NVML)"


def energy_of(work: Callable[[], int], country: str = "", powercap: Path = POWERCAP) -> Energy:
    """What `work`, which gives how many records it embedded on one thread, cost.

    By the processor's own counters under `powercap` (RAPL, Linux' power capping framework: whole packages, so whatever
    else ran is in it) where they can be read, else processor time times the rated watts of one thread. No GPU takes
    part, so none is asked: what NVML reads would be another program's. CO2 by codecarbon's table of `country` (ISO 3166
    alpha-3; the world's average where it has none). codecarbon's tracker is left out: its threads sample every second,
    and the work takes less.
    """
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    counters, started = PackageCounters(powercap), time.process_time()
    records = work()
    seconds = time.process_time() - started
    counters.look()
    joules = counters.joules
    method = f"RAPL: all packages, with whatever else ran meanwhile; {_NO_GPU}"
    if joules is None:
        watts, rated = rated_watts()
        joules = seconds * watts
        method = (
            f"estimate: processor time x {watts:g} W, {rated}; no counter (RAPL) can be read here; {_NO_GPU}"
        )
    kwh = joules / _JOULES_PER_KWH
    known = country if country in DataSource().get_global_energy_mix_data() else ""
    place = GeoMetadata(country_iso_code=known)
    kilograms_per_kwh = Emissions(DataSource()).get_country_emissions(Electricity.from_energy(1.0), place)
    return Energy(
        records=records,
        joules=joules,
        method=method,
        co2_g=1000.0 * kwh * kilograms_per_kwh,
        grams_per_kwh=1000.0 * kilograms_per_kwh,
        co2_method=f"codecarbon offline, {_place(country, known)}",
    )


def _place(country: str, known: str) -> str:
    if country and not known:
        return f"world average: its table has no {country}"
    return known or "world average"
