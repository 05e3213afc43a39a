"""The lens profile: what an extractor sees, as numbers that anyone can measure again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from shared.domain.canonical import Digest
from shared.domain.errors import InvalidConfig
from shared.domain.strict import build, to_plain
from shared.lens.changes import CHANGES
from shared.lens.estimate import DIGITS, rounded
from shared.lens.measures import movement, share
from shared.lens.probe_set import QUESTIONS, ProbeSet, Question, build_probe_set
from shared.lens.seen import Embed, Findings, Seen, find, look

PROFILE_FORMAT = "commonlens-lens-profile/1"


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


def measure(
    embed: Embed, channels: int, height: int, width: int, probe_set: ProbeSet | None = None
) -> LensProfile:
    """The profile of `embed`, as `look` shows it the probe set; questions of colour have no answer in grey.

    Give `probe_set` to build it once for several. Raises as `look`, and DigestMismatch.
    """
    probes = build_probe_set() if probe_set is None else probe_set
    seen = look(embed, channels, height, width, probes)
    return profile_of(seen, find(seen, probes), probes)


def profile_of(seen: Seen, found: Findings, probe_set: ProbeSet) -> LensProfile:
    """The profile of whoever has `seen` this probe set, of which `found` is what `find` gives."""
    return LensProfile(
        format=PROFILE_FORMAT,
        probe_set=probe_set.digest,
        channels=seen.channels,
        height=seen.height,
        width=seen.width,
        embedding_dim=seen.embedding_dim,
        pictures=int(probe_set.content.held_out.sum()),
        moves=tuple(
            Movement(change.name, change.words, *rounded(movement(found.moved[change.name])))
            for change in CHANGES
        ),
        tells=tuple(_told(question, found) for question in (probe_set.content, *probe_set.scene_questions)),
    )


def read_profile(value: Any, where: str) -> LensProfile:
    """The profile in plain JSON `value`, of which `where` names the place. Raises InvalidConfig."""
    profile = build(LensProfile, value, where)
    if profile.format != PROFILE_FORMAT:
        raise InvalidConfig(
            f"{where}: expected the format {PROFILE_FORMAT}, found {profile.format!r}. It was not used. Measure "
            "the profile again, or update this software."
        )
    changes, questions = [move.change for move in profile.moves], [probe.question for probe in profile.tells]
    if changes != [change.name for change in CHANGES] or questions != list(QUESTIONS):
        raise InvalidConfig(
            f"{where}: expected {len(CHANGES)} changes and {len(QUESTIONS)} questions in the order of the format, "
            f"found {changes} and {questions}. It was not used. Measure the profile again."
        )
    distances = [number for move in profile.moves for number in (move.distance, move.low, move.high)]
    shares = [share for p in profile.tells for share in (p.accuracy, p.low, p.high)]
    possible = all(0 <= x < math.inf for x in distances) and all(0 <= x <= 1 for x in shares)
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


def _told(question: Question, found: Findings) -> Probe:
    measured = rounded(share(found.told[question.name]))
    learned, asked = int((~question.held_out).sum()), int(question.held_out.sum())
    return Probe(question.name, *measured, round(question.chance, DIGITS), learned, asked)
