"""Folders of the form of Linux' power capping framework (Documentation/power/powercap/powercap.rst)."""

from __future__ import annotations

from pathlib import Path

RANGE_UJ = 262_143_328_850


def zone(folder: Path, name: str, energy_uj: str, most_uj: int = RANGE_UJ) -> Path:
    """One power zone of `name` whose counter shows `energy_uj`."""
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{most_uj}\n")
    return folder
