"""plan.toml: what an admin writes. The rest of a plan follows from it and from who the members are."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.domain.extractor import ExtractorSpec
from shared.domain.plan import ServerOptimizer, TrainingTerms
from shared.domain.privacy import Mode, Unit


@dataclass(frozen=True)
class PrivacyDraft:
    """`target_epsilon` is the dial; the noise follows from it unless `noise_multiplier` is given."""

    target_epsilon: float
    clip_norm_l2: float
    sampling_rate: float
    mode: Mode = Mode.LOCAL
    unit: Unit = Unit.RECORD
    delta: float = 1e-5
    noise_multiplier: float | None = None
    evaluation_noise_multiplier: float = 20.0


@dataclass(frozen=True)
class PlanDraft:
    """The form of plan.toml. What is left out gets the protocol's default."""

    extractor_name: str
    extractor: ExtractorSpec
    training: TrainingTerms
    privacy: PrivacyDraft
    rounds: int
    server: ServerOptimizer = field(default_factory=lambda: ServerOptimizer("fedavg"))
    evaluate_every: int = 0
    starting_seed: int = 1
    deadline_s: float = 120.0
    quorum: int | None = None
    colluders: int = 0
    members: tuple[str, ...] | None = None
    """Names of contributors; left out: every active contributor."""
