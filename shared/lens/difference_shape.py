"""The difference of two extractors in behaviour as it is written down, read strictly: nothing here measures.

What measures is difference.py; whoever only shows a difference does without its numerics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.domain.canonical import Digest
from shared.domain.errors import InvalidConfig
from shared.domain.strict import build, to_plain
from shared.lens.estimate import Estimate
from shared.lens.profile_shape import LensProfile, read_profile

DIFFERENCE_FORMAT = "commonlens-lens-difference/2"


@dataclass(frozen=True)
class ToldChange:
    """What a linear probe gets right of a question, or of its held-out records of one class; shares of 0…1."""

    what: str
    asked: int
    before: Estimate
    after: Estimate
    more: Estimate
    """After less before, answer by answer."""


@dataclass(frozen=True)
class QuestionChange(ToldChange):
    """One question, and the same again class by class."""

    classes: tuple[ToldChange, ...]


@dataclass(frozen=True)
class MovedChange:
    """How far the embedding moves under one change, in distances to another photograph."""

    change: str
    before: Estimate
    after: Estimate
    more: Estimate


@dataclass(frozen=True)
class SubjectNeighbours:
    """The same shares as in `Neighbours`, of the held-out records of one subject."""

    subject: str
    stayed: Estimate
    same_before: float
    same_after: float


@dataclass(frozen=True)
class Neighbours:
    """Of the `nearest` records to each held-out one, among those to learn from; all shares are 0…1."""

    nearest: int
    asked: int
    among: int
    """Records to learn from: of two extractors that agree on nothing, nearest / among of the neighbours stay."""
    stayed: Estimate
    """Share that are among the nearest both before and after."""
    same_before: Estimate
    """Share that show the subject of the one that was asked."""
    same_after: Estimate
    same_more: Estimate
    """After less before, record by record."""
    subjects: tuple[SubjectNeighbours, ...]
    """Those first whose neighbours changed most."""


@dataclass(frozen=True)
class Difference:
    """Two extractors on the same public records; intervals are of 95 %."""

    format: str
    record_set: Digest
    tells: tuple[QuestionChange, ...]
    """The classes of the first question are the subjects of the neighbours."""
    neighbours: Neighbours
    moves: tuple[MovedChange, ...]
    """None where the records are no pictures."""
    before: LensProfile | None
    after: LensProfile | None


def read_difference(value: Any, where: str) -> Difference:
    """The difference in plain JSON `value`, of which `where` names the place. Raises InvalidConfig."""
    found = build(Difference, value, where)
    if found.format != DIFFERENCE_FORMAT:
        raise InvalidConfig(
            f"{where}: expected the format {DIFFERENCE_FORMAT}, found {found.format!r}. It was not used. Compare "
            "the releases again, or update this software."
        )
    if not found.tells or not all(told.classes for told in found.tells):
        raise InvalidConfig(
            f"{where}: expected at least one question, and classes of each, found "
            f"{[len(told.classes) for told in found.tells] or 'none'}. It was not used. Compare the releases again."
        )
    for name in ("before", "after"):
        if value.get(name) is not None:
            read_profile(value[name], f"{where}.{name}")
    return found


def plain_difference(difference: Difference) -> dict[str, Any]:
    """The inverse of `read_difference`: dicts, lists and scalars."""
    plain: dict[str, Any] = to_plain(difference)
    return plain
