"""How large each document and file may be; every size is checked before a byte of it is kept."""

from __future__ import annotations

from typing import Final

TRUST_BYTES: Final = 256 * 1024
ROLL_BYTES: Final = 4 * 1024 * 1024
CATALOGUE_BYTES: Final = 8 * 1024 * 1024
MANIFEST_BYTES: Final = 8 * 1024 * 1024
SIGNATURE_BYTES: Final = 1024 * 1024
CERTIFICATE_BYTES: Final = 64 * 1024 * 1024
ABOUT_BYTES: Final = 256 * 1024
PLAN_BYTES: Final = 4 * 1024 * 1024
STATE_BYTES: Final = 8 * 1024 * 1024
WEIGHTS_BYTES: Final = 2**31
RELEASE_FILES: Final = 32
RELEASE_BYTES: Final = 4 * 2**30
"""All files of one release together."""

SIGNATURES: Final = 32
"""In one envelope: more would only cost the reader time."""
MEMBERS: Final = 10_000
ROUNDS: Final = 1_000_000
ANCESTORS: Final = 16
"""Releases that one was made from by way of each other: each certificate holds the one before."""

LEAST_NOISE_MULTIPLIER: Final = 0.1
"""Below this σ no release claims anything: its ε would be in the hundreds."""
LEAST_NOISE_MULTIPLIER_ALONE: Final = 1e-3
"""The same for a member's own share of the noise (clause 3.7): as low as the accountant goes."""
MOST_NOISE_MULTIPLIER: Final = 1e6
MOST_EVENT_COUNT: Final = 10_000_000
DISTINCT_EVENTS: Final = 64
