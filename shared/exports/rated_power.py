"""The rated watts of one thread of this machine's processor: an estimate's method, where no counter can be read."""

from __future__ import annotations

import re
from collections.abc import Iterable

from codecarbon.core.cpu import DEFAULT_POWER_PER_CORE
from codecarbon.core.util import count_cpus
from codecarbon.input import DataSource

from shared.exports.speed import processor_name

_MARKS = re.compile(r"\((?:r|tm)\)")


def rated_watts() -> tuple[float, str]:
    """(W, whose word that is) of one thread, by codecarbon's table of processors.

    The processor is looked up by the operating system's own word for it: codecarbon's own way starts a program that
    takes a second of processor time to find out the same.
    """
    processor, table = processor_name(), DataSource().get_cpu_power_data()  # type: ignore[no-untyped-call]
    named = rated_name(processor, table["Name"])
    if named is None:
        return (
            DEFAULT_POWER_PER_CORE,
            "codecarbon's figure for one thread of a processor that it does not know",
        )
    watts = float(table.loc[table["Name"] == named, "TDP"].iloc[0])
    return watts / count_cpus(), f"codecarbon's rating of one thread of {processor}"


def rated_name(processor: str, names: Iterable[str]) -> str | None:
    """The one of `names` of which every word is in `processor`; of several the one with most words, if it is one."""
    words = _words(processor)
    fitting = [(len(own), name) for name in names if len(own := _words(name)) > 1 and own <= words]
    most = max((count for count, _ in fitting), default=0)
    found = [name for count, name in fitting if count == most]
    return found[0] if len(found) == 1 else None


def _words(name: str) -> frozenset[str]:
    return frozenset(_MARKS.sub(" ", name.lower()).split())
