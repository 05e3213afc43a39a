"""The processor's own energy counters (RAPL, through Linux' power capping framework), where this user may read them.

Most kernels let root alone read them, because they tell what other programs compute (PLATYPUS, CVE-2020-8694). Nothing
here asks for more rights: a counter that cannot be read is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass
class _Package:
    folder: Path
    range_uj: int
    """Where the counter starts again at 0."""
    last_uj: int


class PackageCounters:
    """Joules of all packages since this was made, with whatever else ran meanwhile.

    Whole packages alone: cores and memory are inside of one, and `psys` has them all in it. A counter starts again at
    its range, which a busy processor reaches in some minutes: `look` at least that often.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._packages: list[_Package] | None = _found(powercap) or None
        self._microjoules = 0

    def look(self) -> None:
        """Add what the counters moved since the last look. One that is gone makes all of it unreadable."""
        try:
            for package in self._packages or ():
                now = _number(package.folder / "energy_uj")
                moved = now - package.last_uj
                self._microjoules += moved if moved >= 0 else moved + package.range_uj
                package.last_uj = now
        except (OSError, ValueError):
            self._packages = None

    @property
    def joules(self) -> float | None:
        """Up to the last look; None where no counter can be read."""
        return None if self._packages is None else self._microjoules / 1e6


def _found(powercap: Path) -> list[_Package]:
    """Packages whose counters this user may read."""
    found = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        try:
            if not (folder / "name").read_text(encoding="ascii").startswith("package"):
                continue
            last = _number(folder / "energy_uj")
            found.append(_Package(folder, _number(folder / "max_energy_range_uj"), last))
        except (OSError, ValueError):
            continue
    return found


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
