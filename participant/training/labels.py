"""Labels as a plan with a shared training head counts them: by the names of its classes (clause 2.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from participant.training.workbench import Indices, Records
from shared.domain.errors import UnknownClass
from shared.domain.plan import Plan
from shared.privacy.mechanism import NoiseSource

_NAMED = 3


class PlanLabels:
    """`records` with labels that are places in the plan's list of classes; the records are the same."""

    def __init__(self, records: Records, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.held_out_indices = records.held_out_indices
        self._records = records
        self._places = np.array([classes.index(name) for name in records.classes], dtype=np.int64)

    def poisson_draw(self, noise: NoiseSource, rate: float) -> Indices:
        """See Records."""
        return self._records.poisson_draw(noise, rate)

    def load(self, indices: Indices) -> tuple[npt.NDArray[np.uint8], Indices]:
        """See Records."""
        images_u8, labels = self._records.load(indices)
        return images_u8, self._places[labels]


def as_the_plan_counts(records: Records, plan: Plan) -> Records:
    """`records` as they are, or with the shared head's classes. Raises UnknownClass."""
    if plan.shared_head is None:
        return records
    check_classes(plan, records.classes)
    return PlanLabels(records, plan.shared_head.classes)


def check_classes(plan: Plan, classes: Sequence[str]) -> None:
    """Raise UnknownClass where the plan's shared head has no place for one of a data set's classes.

    It may have places for more. The text names classes of this member: it stays here (docs/protocol.md, 6.4).
    """
    shared = plan.shared_head
    unknown = [] if shared is None else [name for name in classes if name not in shared.classes]
    if shared is not None and unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise UnknownClass(
            f"The plan's shared training head has {len(shared.classes)} classes; of this data set's {len(classes)}, "
            f"it does not list {', '.join(repr(name) for name in unknown[:_NAMED])}{more}. No record was touched and "
            "nothing was charged. Ask for a plan that lists them, or name your labels as the plan does."
        )
