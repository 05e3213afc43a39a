"""The difference between two extractors as behaviour, not weights: what they tell, what they take for alike.

Everything is of the same public records, so every difference is taken record by record. Which extractor came first is
only a matter of words: `before` and `after`.
"""

from __future__ import annotations

from shared.domain.canonical import Digest
from shared.lens.changes import CHANGES
from shared.lens.difference_shape import (
    DIFFERENCE_FORMAT,
    Difference,
    MovedChange,
    QuestionChange,
    ToldChange,
)
from shared.lens.estimate import Estimate, estimate
from shared.lens.measures import Mask, Vectors, answers, movement, share
from shared.lens.neighbours import neighbours
from shared.lens.paired import moved_more, told_more
from shared.lens.probe_set import ProbeSet, Question
from shared.lens.profile import profile_of
from shared.lens.seen import Seen, find


def difference(before: Seen, after: Seen, probe_set: ProbeSet) -> Difference:
    """Of two extractors of pictures that both have seen `probe_set`; their picture sizes may differ."""
    first, second = find(before, probe_set), find(after, probe_set)
    return Difference(
        format=DIFFERENCE_FORMAT,
        record_set=probe_set.digest,
        tells=tuple(
            _question(question, first.told[question.name], second.told[question.name])
            for question in (probe_set.content, *probe_set.scene_questions)
        ),
        neighbours=neighbours(before.photographs, after.photographs, probe_set.content),
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
    before: Vectors, after: Vectors, question: Question, record_set: Digest
) -> Difference:
    """Of embeddings [N, D] of any records with one question: no profiles."""
    right = [answers(made, question.labels, question.held_out) for made in (before, after)]
    return Difference(
        format=DIFFERENCE_FORMAT,
        record_set=record_set,
        tells=(_question(question, *right),),
        neighbours=neighbours(before, after, question),
        moves=(),
        before=None,
        after=None,
    )


def _question(question: Question, before: Mask, after: Mask) -> QuestionChange:
    asked = question.labels[question.held_out]
    classes = tuple(
        ToldChange(name, *_told(before[asked == label], after[asked == label]))
        for label, name in enumerate(question.classes)
    )
    return QuestionChange(question.name, *_told(before, after), classes)


def _told(before: Mask, after: Mask) -> tuple[int, Estimate, Estimate, Estimate]:
    """How many were asked; the shares of right answers, and what the second is more."""
    return len(before), estimate(share(before)), estimate(share(after)), estimate(told_more(before, after))
