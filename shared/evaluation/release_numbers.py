"""The measured numbers that a release states in its own files, read once and held against its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from shared.domain.errors import InvalidConfig
from shared.domain.release import LENS_FILE, MEASURED_FILE
from shared.embedding import promised_bytes
from shared.exports.measured import MEASURED_FORMAT, Measured
from shared.lens.profile_shape import LensProfile, read_profile
from shared.release.envelope import parse_document, read_signed
from shared.verification import VerifiedExtractor

_MOST_RECORDS: Final = 10**12
"""A float can divide by it."""


def measured_of(release: VerifiedExtractor, directory: Path) -> Measured | None:
    """measured.json; None where the release has none. Raises DigestMismatch, Invalid, InvalidConfig."""
    data = promised_bytes(release, directory, MEASURED_FILE)
    if data is None:
        return None
    measured = read_signed(Measured, MEASURED_FORMAT, parse_document(data, MEASURED_FILE), MEASURED_FILE)
    if not 1 <= measured.energy.records <= _MOST_RECORDS:
        raise InvalidConfig(
            f"{MEASURED_FILE}: expected the energy of 1 to {_MOST_RECORDS:,} records, found another number. It was "
            "not used. Tell whoever published it."
        )
    return measured


def profile_in(release: VerifiedExtractor, directory: Path) -> LensProfile | None:
    """lens.json, in the same way."""
    data = promised_bytes(release, directory, LENS_FILE)
    return None if data is None else read_profile(parse_document(data, LENS_FILE), LENS_FILE)
