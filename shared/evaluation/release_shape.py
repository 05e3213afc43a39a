"""The difference of two releases as `commonlens diff --json` writes it down, read strictly: nothing here measures.

What measures is release_difference.py; whoever only shows a difference does without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.domain.errors import InvalidConfig
from shared.domain.release import ONNX_INT8_FILE
from shared.domain.strict import build, later
from shared.exports.measured import Speed
from shared.lens.difference_shape import Difference, read_difference

COMPARISON_FORMAT = "commonlens-release-difference/2"


@dataclass(frozen=True)
class Side:
    """One of the two releases."""

    release: str
    manifest_digest: str
    embedded_by: str
    """model.onnx, or torch where the release has none."""
    sizes_bytes: Mapping[str, int]
    """Of the model's files."""
    speed: tuple[Speed, ...]
    """As the release states it, of the machine that published it; empty where it states none."""
    measured_on: str
    """Processor and threads of that machine."""
    int8_missing: str = later("")
    """As the release states it: why it has no model-int8.onnx; empty where it has one or says nothing."""


@dataclass(frozen=True)
class Spent:
    """ε, and ε if every other member and the coordinator deviate (clause 3.7)."""

    epsilon: float
    alone: float


@dataclass(frozen=True)
class MemberSpent:
    """What one member spent at one δ; None where it had no part in that release."""

    member_id: str
    name: str
    delta: float
    before: Spent | None
    after: Spent | None
    together: Spent
    """For a record that was in both: of one run the later release's, since it has the earlier one's rounds; of two
    runs all events of both, composed anew."""


@dataclass(frozen=True)
class ReleaseDifference:
    """Everything that `commonlens diff` shows."""

    before: Side
    after: Side
    behaviour: Difference
    words: str
    spent: tuple[MemberSpent, ...]
    spent_missing: str
    """Why no ε are compared; empty where they are."""
    format: str

    @property
    def without_int8(self) -> tuple[str, ...]:
        """A sentence for each of the two that says why it has no int8 file."""
        sides = {side.manifest_digest: side for side in (self.before, self.after) if side.int8_missing}
        return tuple(
            f"{each.release} has no {ONNX_INT8_FILE}: {each.int8_missing}." for each in sides.values()
        )


def read_release_difference(value: Any, where: str) -> ReleaseDifference:
    """The difference in plain JSON `value`, of which `where` names the place. Raises InvalidConfig."""
    found = build(ReleaseDifference, value, where)
    if found.format != COMPARISON_FORMAT:
        raise InvalidConfig(
            f"{where}: expected the format {COMPARISON_FORMAT}, found {found.format[:60]!r}. It was not used. Compare "
            "the releases again, or update this software."
        )
    read_difference(value["behaviour"], f"{where}.behaviour")
    return found
