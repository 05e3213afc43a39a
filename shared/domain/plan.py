"""A plan: everything members agree to, immutable, known by the digest of its canonical bytes (clause 8)."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from shared.domain.canonical import digest_of
from shared.domain.extractor import ExtractorSpec
from shared.domain.ids import PlanDigest
from shared.domain.privacy import GaussianEvent, Mode, PrivacyTerms
from shared.domain.strict import later, to_plain

PLAN_FORMAT = "commonlens-plan/1"
SCHEDULES = ("constant", "cosine")
AUGMENTATIONS = ("flip", "shift2")
"""Names that a plan may list; what they do is in participant/training/augment.py."""
MOST_PURPOSE_CHARACTERS = 500


@dataclass(frozen=True)
class TrainingTerms:
    """What a member does in one round. K = local_steps; K = 1 is plain DP-SGD."""

    local_steps: int
    learning_rate: float
    """Of the extractor, on the clipped noisy sum divided by the expected batch size (clause 2.4)."""
    head_learning_rate: float
    schedule: str = "constant"
    """Of both learning rates over the rounds, among SCHEDULES."""
    augmentations: tuple[str, ...] = ()
    """Among AUGMENTATIONS, applied to each record by itself before its gradient."""
    augmentation_multiplicity: int = later(1)
    """Augmented copies of a record whose gradients are averaged before its clip (De et al. 2022, section 3)."""


@dataclass(frozen=True)
class ServerOptimizer:
    """How the averaged update moves the weights: `fedavg` (McMahan 2017) or `fedadam` (Reddi 2021)."""

    name: str
    learning_rate: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-3
    averaging_decay: float = 0.0
    """Of an exponential moving average of the weights, which is what is released; 0 switches it off."""


@dataclass(frozen=True)
class SecureTerms:
    """What mode `secure` needs beside quorum and colluders (clauses 3 and 5)."""

    grid_width: float
    """γ: distance of neighbouring grid points, in the units of the clipped sum (clause 3.1)."""
    ring_bits: int
    """Sums are taken modulo 2 to this power, 32 or 16 (clause 3.4)."""
    tolerance_steps: int
    """Noise components above the base one, whose excess is removed when fewer drop out (clause 3.9)."""
    mask_reach: int
    """m: each member shares a mask with m before and m after it in the order of ids; 0 is with everybody (5.3)."""
    share_threshold: int
    """Shares that rebuild one secret: the quorum; written out because it is what keeps a sum shut (clause 5.2)."""


@dataclass(frozen=True)
class SharedHead:
    """One training head for all members, over one list of classes: part of what is summed (clause 2.3)."""

    classes: tuple[str, ...]
    """Names of labels, public with the plan. Every member's classes are among them, under the same names."""
    inputs: int
    """Numbers at the front of an embedding that a training head sees."""

    @property
    def coordinates(self) -> int:
        """Length of its flat vector: a bias [classes], then a weight [classes, inputs] row by row."""
        return len(self.classes) * (1 + self.inputs)


@dataclass(frozen=True)
class PlanMember:
    """A contributor of the plan: its declared size sets its weight, nothing it reports does.

    Listed by its id, as every release carries the plan, and with it whoever never consented. The name that a release
    gives a member is the one in its consent (clause 8.4).
    """

    member_id: str
    declared_size: int
    name: str = later("")
    """Only in plans of earlier versions, whose digest covers it."""


@dataclass(frozen=True)
class StartingRelease:
    """The trained release that the starting weights are of: what it cost its members is part of this plan's release."""

    release: str
    manifest_digest: str


@dataclass(frozen=True)
class Plan:
    """Everything of clause 8.1. Its digest is what members sign and what every message carries."""

    consortium: str
    extractor_name: str
    extractor: ExtractorSpec
    starting_weights: str
    """Digest of the starting weights file."""
    trainable_coordinates: int
    """d, the length of what is summed: the extractor's, then the shared head's where there is one."""
    training: TrainingTerms
    privacy: PrivacyTerms
    server: ServerOptimizer
    rounds: int
    evaluate_every: int
    """Noised validation counts every so many rounds (clause 6.2); 0 means never."""
    quorum: int
    colluders: int
    deadline_s: float
    members: tuple[PlanMember, ...]
    format: str = PLAN_FORMAT
    secure: SecureTerms | None = later(None)
    """Set in mode secure, None in mode local."""
    shared_head: SharedHead | None = later(None)
    """None where each member trains a head of its own over its own classes, at home."""
    starting_release: StartingRelease | None = later(None)
    """None where the starting weights saw nobody's records: drawn from a seed, public, or of a library."""
    purpose: str = later("")
    """What the extractor is for: a line of plain text of whoever proposed it, which binds nobody."""

    @property
    def extractor_coordinates(self) -> int:
        """How many of the summed coordinates come first and are the extractor's: what a release holds."""
        return self.trainable_coordinates - summed_coordinates(0, self.shared_head)

    @property
    def least_honest(self) -> int:
        """h: the least number of honest contributions in any sum that can be unmasked (clause 3.2)."""
        return self.quorum - self.colluders

    @property
    def sensitivity_l2(self) -> float:
        """How far one unit moves what is noised: C, or on the grid C' = C + γ·√d (clause 3.1)."""
        clip_norm_l2 = self.privacy.clip_norm_l2
        if self.secure is None:
            return clip_norm_l2
        return clip_norm_l2 + self.secure.grid_width * math.sqrt(self.trainable_coordinates)

    @property
    def noise_std_l2(self) -> float:
        """Std of the noise on every coordinate of one step's sum: σ·C, or σ·C' on the grid."""
        return self.privacy.noise_multiplier * self.sensitivity_l2

    @functools.cached_property
    def digest(self) -> PlanDigest:
        """SHA-256 of the canonical bytes."""
        return PlanDigest(digest_of(to_plain(self)))

    def member(self, member_id: str) -> PlanMember | None:
        """The line of `member_id`, or None."""
        return next((m for m in self.members if m.member_id == member_id), None)

    def weight(self, member_id: str) -> float:
        """Averaging weight of a member: its share of the declared sizes (clauses 7.6, 8.3)."""
        chosen = self.member(member_id)
        return 0.0 if chosen is None else chosen.declared_size / self.declared_total

    @property
    def declared_total(self) -> int:
        """Sum of the declared sizes."""
        return sum(m.declared_size for m in self.members)

    def expected_batch_size(self, member_id: str) -> float:
        """q·n_declared: what sums are divided by, whatever was drawn (clause 2.4)."""
        chosen = self.member(member_id)
        return 0.0 if chosen is None else self.privacy.sampling_rate * chosen.declared_size

    def learning_rate_factor(self, round_number: int) -> float:
        """What both learning rates are multiplied with in a round: 1, or for `cosine` from 1 down to near 0.

        ½(1 + cos(π·(r - 1)/R)), Loshchilov and Hutter 2017, equation 5, without restarts.
        """
        if self.training.schedule == "constant":
            return 1.0
        return 0.5 * (1.0 + math.cos(math.pi * (round_number - 1) / self.rounds))

    def evaluates(self, round_number: int) -> bool:
        """Whether members add noised validation counts in this round (rounds count from 1)."""
        return self.evaluate_every > 0 and round_number % self.evaluate_every == 0

    def events_of_round(self, round_number: int) -> tuple[GaussianEvent, ...]:
        """What one member spends in one round: K training steps, and validation when it is due."""
        return self._events(self.training.local_steps, int(self.evaluates(round_number)), 1.0)

    def events_of_run(self) -> tuple[GaussianEvent, ...]:
        """What one member spends if every round happens."""
        return self._events(self.rounds * self.training.local_steps, self._evaluations, 1.0)

    def events_alone_of_round(self, round_number: int) -> tuple[GaussianEvent, ...]:
        """`events_of_round` where every other member and the coordinator deviate (clause 3.7)."""
        steps, evaluations = self.training.local_steps, int(self.evaluates(round_number))
        return self._events(steps, evaluations, self._alone_factor)

    def events_alone_of_run(self) -> tuple[GaussianEvent, ...]:
        """`events_of_run` where every other member and the coordinator deviate (clause 3.7)."""
        return self._events(self.rounds * self.training.local_steps, self._evaluations, self._alone_factor)

    def validation_events_of_run(self) -> tuple[GaussianEvent, ...]:
        """The part of `events_of_run` that pays for validation counts (clause 6.2)."""
        return self._events(0, self._evaluations, 1.0)

    @property
    def _evaluations(self) -> int:
        return self.rounds // self.evaluate_every if self.evaluate_every else 0

    @property
    def _alone_factor(self) -> float:
        """What a member's own noise is of the whole, in std, when all answer and the excess is removed (3.9)."""
        if self.privacy.mode is Mode.LOCAL:
            return 1.0
        return 1.0 / math.sqrt(len(self.members) - self.colluders)

    def _events(self, steps: int, evaluations: int, factor: float) -> tuple[GaussianEvent, ...]:
        terms = self.privacy
        events: list[GaussianEvent] = []
        if steps:
            events.append(GaussianEvent(factor * terms.noise_multiplier, terms.sampling_rate, steps))
        if evaluations:
            events.append(GaussianEvent(factor * terms.evaluation_noise_multiplier, 1.0, evaluations))
        return tuple(events)


def summed_coordinates(extractor: int, head: SharedHead | None) -> int:
    """d for so many coordinates of the extractor."""
    return extractor + (0 if head is None else head.coordinates)


def least_quorum(members: int) -> int:
    """The default quorum of clause 5.4: the least whole number above 2n/3."""
    return math.floor(2 * members / 3) + 1


def default_colluders(members: int) -> int:
    """Clause 3.6: max(1, n // 3)."""
    return max(1, members // 3)
