"""plan.toml: what an admin writes. The rest of a plan follows from it and from who the members are."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from shared.domain.extractor import ExtractorSpec
from shared.domain.plan import ServerOptimizer, TrainingTerms
from shared.domain.privacy import Mode, Unit


@dataclass(frozen=True)
class PrivacyDraft:
    """`target_epsilon` is the dial; the noise follows from it unless `noise_multiplier` is given."""

    target_epsilon: float
    clip_norm_l2: float
    sampling_rate: float
    mode: Mode = Mode.SECURE
    """With fewer than four contributors the plan is of mode local all the same (clause 3.7)."""
    unit: Unit = Unit.RECORD
    delta: float = 1e-5
    noise_multiplier: float | None = None
    evaluation_noise_multiplier: float = 20.0


@dataclass(frozen=True)
class TrainingDraft(TrainingTerms):
    """The plan's training terms, and whether its members share one training head."""

    shared_classes: tuple[str, ...] = ()
    """Label names of one training head for all members, summed with the extractor (clause 2.3); public in the plan, and
    every member's labels must be among them. Empty: each member trains a head of its own at home."""

    @property
    def terms(self) -> TrainingTerms:
        """What goes into the plan as it is."""
        return TrainingTerms(**{f.name: getattr(self, f.name) for f in fields(TrainingTerms)})


@dataclass(frozen=True)
class PlanDraft:
    """The form of plan.toml. What is left out gets the protocol's default."""

    extractor_name: str
    extractor: ExtractorSpec
    training: TrainingDraft
    privacy: PrivacyDraft
    rounds: int
    server: ServerOptimizer = field(default_factory=lambda: ServerOptimizer("fedavg"))
    evaluate_every: int = 0
    starting_seed: int = 1
    starting_from: str = ""
    """Public weights by name, a release of this coordinator by id, or a release's folder on its machine."""
    deadline_s: float = 120.0
    quorum: int | None = None
    colluders: int | None = None
    """Left out: max(1, n // 3) in mode secure (clause 3.6), 0 in mode local, which counts on nobody."""
    tolerance_steps: int | None = None
    """Noise components whose excess can be removed (clause 3.9); left out: one a drop-out, at most 4."""
    ring_bits: int = 32
    """32, or 16 for half the upload, where sums are small enough (clause 3.4)."""
    members: tuple[str, ...] | None = None
    """Names of contributors; left out: every active contributor."""
    purpose: str = ""
    """What the extractor is for: a sentence or two of plain text on one line, 500 characters at most. Members consent
    to it, and it stands on the card of its releases."""
