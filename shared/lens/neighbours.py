"""Which records an extractor takes for alike, and which of them another one takes for alike too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from shared.lens.difference_shape import Neighbours, SubjectNeighbours
from shared.lens.estimate import estimate
from shared.lens.measures import Vectors, scale_of, scaled
from shared.lens.paired import mean_of
from shared.lens.probe_set import Question

NEAREST = 10

Places = npt.NDArray[np.int64]


def neighbours(before: Vectors, after: Vectors, question: Question) -> Neighbours:
    """Neighbours by embeddings [N, D] of the same records, by Euclidean distance after standardising.

    Only records to learn from can be neighbours of held-out ones: crops of one quarter of a photograph share pixels,
    and would be near for that alone. The question's classes are the subjects.
    """
    labels, held_out = question.labels, question.held_out
    asked, known = labels[held_out], labels[~held_out]
    first, second = nearest(before, question), nearest(after, question)
    stayed = np.array([np.isin(one, other).mean() for one, other in zip(first, second, strict=True)])
    same_first, same_second = ((known[found] == asked[:, None]).mean(axis=1) for found in (first, second))
    subjects = [
        SubjectNeighbours(
            name,
            estimate(mean_of(stayed[asked == label])),
            round(float(same_first[asked == label].mean()), 4),
            round(float(same_second[asked == label].mean()), 4),
        )
        for label, name in enumerate(question.classes)
    ]
    return Neighbours(
        nearest=first.shape[1],
        asked=len(asked),
        among=len(known),
        stayed=estimate(mean_of(stayed)),
        same_before=estimate(mean_of(same_first)),
        same_after=estimate(mean_of(same_second)),
        same_more=estimate(mean_of(same_second - same_first)),
        subjects=tuple(sorted(subjects, key=lambda one: one.stayed.value)),
    )


def nearest(embeddings: Vectors, question: Question) -> Places:
    """The NEAREST records to learn from of every held-out one, int64 [asked, NEAREST]; of equally near the first."""
    scale = scale_of(embeddings[~question.held_out])
    known, asked = (scaled(embeddings[mask], scale) for mask in (~question.held_out, question.held_out))
    order: Places = np.argsort(cdist(asked, known), axis=1, kind="stable")[:, :NEAREST]
    return order
