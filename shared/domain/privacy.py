"""The words of the privacy argument: unit, terms, events, guarantee, budget and charge.

ε never stands alone (clause 1.2): a `PrivacyGuarantee` is (ε, δ, unit, relation, accountant).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from shared.domain.strict import later

RELATION = "add-or-remove-one"
"""Neighbouring data sets: one unit added or removed (clause 1.2)."""
MAXIMUM_DELTA = 1e-5
"""Clause 7.35: δ is at most this, and at most 1/(10·n_declared)."""
REPORTED_DELTA = 1e-6
"""Clause 7.35: beside the plan's δ, ε is always shown at this one too."""


class Unit(enum.Enum):
    """Whose presence is hidden (clause 1.1)."""

    RECORD = "record"
    PERSON = "person"


class Mode(enum.Enum):
    """Where the noise comes from: all of it at each member (clause 4), or shared out (clause 3)."""

    LOCAL = "local"
    SECURE = "secure"


@dataclass(frozen=True)
class GaussianEvent:
    """`count` releases of a Poisson-subsampled Gaussian sum; sampling_rate 1 means every unit.

    noise_multiplier is noise std divided by L2 sensitivity (σ).
    """

    noise_multiplier: float
    sampling_rate: float
    count: int


@dataclass(frozen=True)
class PrivacyTerms:
    """A plan's mechanism parameters; see protocol clauses 2 and 4."""

    mode: Mode
    unit: Unit
    target_epsilon: float
    delta: float
    clip_norm_l2: float
    noise_multiplier: float
    """σ: std of the noise on every coordinate of one step's clipped sum, divided by clip_norm_l2."""
    sampling_rate: float
    """q: each unit enters a step's batch independently with this probability."""
    evaluation_noise_multiplier: float
    """Std of the noise on each of the two validation counts; sensitivity 1 per unit (clause 6.2)."""


@dataclass(frozen=True)
class PrivacyGuarantee:
    """What may be said: (ε, δ) for this unit under this relation, by this accountant."""

    epsilon: float
    delta: float
    unit: Unit
    relation: str
    accountant: str


@dataclass(frozen=True)
class Budget:
    """The ceiling that a member's policy sets for the whole life of one data set."""

    epsilon: float
    delta: float
    epsilon_alone: float = 0.0
    """Ceiling where every other member and the coordinator deviate (clause 3.7); 0 sets none."""


@dataclass(frozen=True)
class Charge:
    """One spend: the events of one round, for one data set, under one plan."""

    dataset_id: str
    plan_digest: str
    run_id: str
    round_number: int
    events: tuple[GaussianEvent, ...]
    alone: tuple[GaussianEvent, ...] | None = later(None)
    """The same events where every other member and the coordinator deviate (clause 3.7); None: no worse."""

    @property
    def events_alone(self) -> tuple[GaussianEvent, ...]:
        """What the round costs when nobody else's noise is counted on."""
        return self.events if self.alone is None else self.alone
