"""Three types for three audiences, so that none can be mistaken for another.

An `Update`, or in mode secure a `NoisyGridSum`, is only made at a member and stays there. A `Contribution`
crosses the wire: header, signature and payload bytes. An `AggregateSum` is only made at the coordinator.
Nothing turns a Contribution back into an Update.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.domain.strict import later


@dataclass(frozen=True)
class ValidationCounts:
    """Noised numbers of held-out units classified right and wrong (clause 6.2); may be negative."""

    correct: float
    wrong: float


@dataclass(frozen=True)
class Update:
    """Weights after minus weights before, float32 [d], at home; `counts` are already noised."""

    run_id: str
    round_number: int
    plan_digest: str
    vector_f32: memoryview
    counts: ValidationCounts | None


@dataclass(frozen=True)
class NoisyGridSum:
    """Mode secure: a member's clipped sum on the grid with its noise share, ring elements [length], at home.

    By itself it carries only this member's share of the noise (clause 3.2): it leaves under masks alone.
    """

    run_id: str
    round_number: int
    plan_digest: str
    ring: memoryview


@dataclass(frozen=True)
class ContributionHeader:
    """What a member signs: which round, plan and weights this answers, and the digest of the payload."""

    member_id: str
    run_id: str
    round_number: int
    plan_digest: str
    payload_digest: str
    payload_bytes: int
    counts: ValidationCounts | None
    weights_digest: str
    """Of the weights that the round was asked with: an update means something only beside them."""
    roster_digest: str | None = later(None)
    """Mode secure: under whose keys the payload is masked (clause 5.1)."""


@dataclass(frozen=True)
class Contribution:
    """A signed header, whose payload is little-endian float32 [d], or masked ring elements (clause 3.4)."""

    header: ContributionHeader
    signature: bytes
    """Ed25519 by the member's identity key over the canonical bytes of the header (clause 5.6)."""


@dataclass(frozen=True)
class AggregateSum:
    """Σ weight·update over those who contributed, float64 [d], made at the coordinator only."""

    vector_f64: memoryview
    weight_total: float
    contributors: tuple[str, ...]
