"""The difference between two extractors as behaviour, not weights: what they tell, what they take for alike.

Everything is of the same public records, so every difference is taken record by record. Which extractor came first is
only a matter of words: `before` and `after`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shared.domain.canonical import Digest
from shared.domain.errors import InvalidConfig
from shared.domain.strict import build, to_plain
from shared.lens.changes import CHANGES
from shared.lens.estimate import Estimate, estimate
from shared.lens.measures import Mask, Vectors, answers, movement, share
from shared.lens.neighbours import Neighbours, neighbours
from shared.lens.paired import moved_more, told_more
from shared.lens.probe_set import ProbeSet, Question
from shared.lens.profile import LensProfile, profile_of, read_profile
from shared.lens.seen import Seen, find
from shared.lens.sources import CONTENTS

DIFFERENCE_FORMAT = "commonlens-lens-difference/1"


@dataclass(frozen=True)
class ToldChange:
    """What a linear probe gets right of a question, or of the records of one subject; shares of 0…1."""

    what: str
    asked: int
    before: Estimate
    after: Estimate
    more: Estimate
    """After less before, answer by answer."""


@dataclass(frozen=True)
class MovedChange:
    """How far the embedding moves under one change, in distances to another photograph."""

    change: str
    before: Estimate
    after: Estimate
    more: Estimate


@dataclass(frozen=True)
class Difference:
    """Two extractors on the same public records; intervals are of 95 %."""

    format: str
    record_set: Digest
    tells: tuple[ToldChange, ...]
    """The first question is the one of subjects and neighbours."""
    subjects: tuple[ToldChange, ...]
    """The first question again, of the held-out records of each subject."""
    neighbours: Neighbours
    moves: tuple[MovedChange, ...]
    """None where the records are no pictures."""
    before: LensProfile | None
    after: LensProfile | None


def difference(before: Seen, after: Seen, probe_set: ProbeSet) -> Difference:
    """Of two extractors of pictures that both have seen `probe_set`; their picture sizes may differ."""
    first, second = find(before, probe_set), find(after, probe_set)
    content = probe_set.content
    right = (first.told[content.name], second.told[content.name])
    return Difference(
        format=DIFFERENCE_FORMAT,
        record_set=probe_set.digest,
        tells=tuple(
            _told(question.name, first.told[question.name], second.told[question.name])
            for question in (content, *probe_set.scene_questions)
        ),
        subjects=_subjects(content, CONTENTS, *right),
        neighbours=neighbours(before.photographs, after.photographs, content, CONTENTS),
        moves=tuple(
            MovedChange(
                change.name,
                estimate(movement(first.moved[change.name])),
                estimate(movement(second.moved[change.name])),
                estimate(moved_more(first.moved[change.name], second.moved[change.name])),
            )
            for change in CHANGES
        ),
        before=profile_of(before, first, probe_set),
        after=profile_of(after, second, probe_set),
    )


def difference_of_records(
    before: Vectors, after: Vectors, question: Question, subjects: Sequence[str], record_set: Digest
) -> Difference:
    """Of embeddings [N, D] of any records with one question, whose labels are named `subjects`: no profiles."""
    right = [answers(made, question.labels, question.held_out) for made in (before, after)]
    return Difference(
        format=DIFFERENCE_FORMAT,
        record_set=record_set,
        tells=(_told(question.name, *right),),
        subjects=_subjects(question, subjects, *right),
        neighbours=neighbours(before, after, question, subjects),
        moves=(),
        before=None,
        after=None,
    )


def read_difference(value: Any, where: str) -> Difference:
    """The difference in plain JSON `value`, of which `where` names the place. Raises InvalidConfig."""
    found = build(Difference, value, where)
    if found.format != DIFFERENCE_FORMAT:
        raise InvalidConfig(
            f"{where}: expected the format {DIFFERENCE_FORMAT}, found {found.format!r}. It was not used. Compare "
            "the releases again, or update this software."
        )
    if not found.tells or not all(map(math.isfinite, _numbers(value))):
        raise InvalidConfig(
            f"{where}: expected at least one question and finite numbers, found {len(found.tells)} questions. It "
            "was not used. Compare the releases again."
        )
    for name in ("before", "after"):
        if value.get(name) is not None:
            read_profile(value[name], f"{where}.{name}")
    return found


def plain_difference(difference: Difference) -> dict[str, Any]:
    """The inverse of `read_difference`: dicts, lists and scalars."""
    plain: dict[str, Any] = to_plain(difference)
    return plain


def _told(what: str, before: Mask, after: Mask) -> ToldChange:
    return ToldChange(
        what,
        len(before),
        estimate(share(before)),
        estimate(share(after)),
        estimate(told_more(before, after)),
    )


def _subjects(question: Question, names: Sequence[str], before: Mask, after: Mask) -> tuple[ToldChange, ...]:
    asked = question.labels[question.held_out]
    return tuple(
        _told(name, before[asked == label], after[asked == label]) for label, name in enumerate(names)
    )


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, float):
        yield value
