"""The lens profile as it is written down, read strictly: nothing here measures.

What measures is profile.py; whoever only shows a profile does without its numerics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.domain.canonical import Digest
from shared.domain.errors import InvalidConfig
from shared.domain.strict import build, to_plain

PROFILE_FORMAT = "commonlens-lens-profile/1"
CHANGE_NAMES = (
    "colour-shift",
    "brightness",
    "blur",
    "texture-swap",
    "crop",
    "rotation",
    "layout-shuffle",
)
"""From what touches the surface to what moves the parts."""
QUESTIONS = ("content", "colour", "texture", "layout", "orientation")
"""The first is asked of photographs, the others of drawn scenes."""


@dataclass(frozen=True)
class Movement:
    """How far the embedding moves under one change: 0 not at all, 1 as far as to another photograph."""

    change: str
    what: str
    distance: float
    low: float
    high: float


@dataclass(frozen=True)
class Probe:
    """What a linear probe gets right of one question, all in 0…1; `chance` is what guessing gets."""

    question: str
    accuracy: float
    low: float
    high: float
    chance: float
    learned: int
    asked: int
    """Pictures that it learned from, and held-out ones that it was asked about."""


@dataclass(frozen=True)
class LensProfile:
    """Movements and probes of one extractor, with the probe set that they are of; intervals are of 95 %."""

    format: str
    probe_set: Digest
    channels: int
    height: int
    width: int
    embedding_dim: int
    pictures: int
    """Photographs that were changed."""
    moves: tuple[Movement, ...]
    tells: tuple[Probe, ...]


def read_profile(value: Any, where: str) -> LensProfile:
    """The profile in plain JSON `value`, of which `where` names the place. Raises InvalidConfig."""
    profile = build(LensProfile, value, where)
    if profile.format != PROFILE_FORMAT:
        raise InvalidConfig(
            f"{where}: expected the format {PROFILE_FORMAT}, found {profile.format!r}. It was not used. Measure "
            "the profile again, or update this software."
        )
    changes, questions = [move.change for move in profile.moves], [probe.question for probe in profile.tells]
    if changes != list(CHANGE_NAMES) or questions != list(QUESTIONS):
        raise InvalidConfig(
            f"{where}: expected {len(CHANGE_NAMES)} changes and {len(QUESTIONS)} questions in the order of the "
            f"format, found {changes} and {questions}. It was not used. Measure the profile again."
        )
    distances = [number for move in profile.moves for number in (move.distance, move.low, move.high)]
    shares = [share for p in profile.tells for share in (p.accuracy, p.low, p.high)]
    possible = all(x >= 0 for x in distances) and all(0 <= x <= 1 for x in shares)
    if not possible or not all(0 < p.chance < 1 for p in profile.tells):
        raise InvalidConfig(
            f"{where}: expected distances of at least 0, shares of 0 to 1 and chances between, found {distances}, "
            f"{shares} and {[p.chance for p in profile.tells]}. It was not used. Measure the profile again."
        )
    return profile


def plain_profile(profile: LensProfile) -> dict[str, Any]:
    """The inverse of `read_profile`: dicts, lists and scalars."""
    plain: dict[str, Any] = to_plain(profile)
    return plain
