"""Every setting of a plan as the form shows it: label, hint, what may be typed, and what stands there at first.

What a plan needs and has no default of the protocol for is filled in as the demo's plan has it. A test holds this
table against PlanDraft, so that no setting is missing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.dashboard.plan_options import ARCHITECTURES
from shared.domain.plan import AUGMENTATIONS, SCHEDULES


class Kind(enum.Enum):
    """How a field is typed in and read."""

    TEXT = "text"
    WHOLE = "whole"
    NUMBER = "number"
    NUMBERS = "numbers"
    """Several in one line, apart by commas or spaces."""
    LINES = "lines"
    """One text a line."""
    CHOICE = "choice"
    TICKS = "ticks"
    """Any of some choices."""


@dataclass(frozen=True)
class Field:
    """One setting, named as in plan.toml."""

    key: str
    label: str
    hint: str
    kind: Kind
    first: str = ""
    """What stands there at first; empty where leaving it out is the default."""
    choices: tuple[str, ...] = ()
    left_out: str = ""
    """What happens when it is empty; required where this says nothing."""
    private: bool = False

    @property
    def required(self) -> bool:
        """Whether the plan cannot be made without it."""
        return not (self.left_out or self.kind in (Kind.TICKS, Kind.LINES))

    @property
    def id(self) -> str:
        """Of its element."""
        return "f-" + self.key.replace(".", "-")


DIAL = Field(
    "privacy.target_epsilon",
    "How private (ε)",
    "What a complete run may cost each member. Smaller is more private, needs more noise, and learns less. "
    "At 3 a guess whether one record was in is right at most 95.3 % of the time; from about 5 on little is ruled out.",
    Kind.NUMBER,
    "3",
    private=True,
)
LEAST_DIAL, MOST_DIAL = 0.5, 10.0
NAME = Field(
    "extractor_name",
    "Name of the extractor",
    "Releases appear under it: lower-case letters, digits, '_' and single '-' between them.",
    Kind.TEXT,
    "features",
)
PURPOSE = Field(
    "purpose",
    "What it is for",
    "A sentence or two of plain text, 500 characters at most. Members consent to it; every release has it on its card.",
    Kind.TEXT,
    left_out="nothing is said",
)

GROUPS: tuple[tuple[str, tuple[Field, ...]], ...] = (
    (
        "Privacy",
        (
            Field(
                "privacy.mode",
                "Mode",
                "secure shares the noise out among the members; local has each add all of it. With fewer than four "
                "contributors the plan is of mode local all the same (protocol, clause 3.7).",
                Kind.CHOICE,
                "secure",
                ("secure", "local"),
            ),
            Field(
                "privacy.unit",
                "Unit",
                "Whose presence is hidden.",
                Kind.CHOICE,
                "record",
                ("record", "person"),
            ),
            Field(
                "privacy.delta", "δ", "At most 1e-5 and at most 1/(10 × declared size).", Kind.NUMBER, "1e-05"
            ),
            Field(
                "privacy.clip_norm_l2",
                "Clip norm C",
                "No unit's gradient over extractor and training head is longer (L2).",
                Kind.NUMBER,
                "1",
            ),
            Field(
                "privacy.sampling_rate",
                "Sampling rate q",
                "The chance of each unit to be drawn into a step, from above 0 to 1. The expected batch is q times the "
                "declared size.",
                Kind.NUMBER,
                "0.25",
            ),
            Field(
                "privacy.noise_multiplier",
                "Noise multiplier σ",
                "Given, it is refused where it does not keep to ε.",
                Kind.NUMBER,
                left_out="as little as the dial allows",
            ),
            Field(
                "privacy.evaluation_noise_multiplier",
                "Noise on validation counts",
                "Std of the noise on each of the two counts, at least 1; validation is paid for out of the same ε.",
                Kind.NUMBER,
                "20",
            ),
        ),
    ),
    (
        "Rounds and members",
        (
            Field("rounds", "Rounds", "How many a complete run has.", Kind.WHOLE, "60"),
            Field(
                "evaluate_every",
                "Validation every … rounds",
                "Noised validation counts; 0 means never.",
                Kind.WHOLE,
                "10",
            ),
            Field(
                "deadline_s",
                "Deadline of a round (s)",
                "Seconds in which its contributions must arrive, 0.1 to 86400.",
                Kind.NUMBER,
                "120",
            ),
            Field(
                "quorum",
                "Quorum",
                "The least contributions that make a round count.",
                Kind.WHOLE,
                left_out="the least above two thirds",
            ),
            Field(
                "colluders",
                "Colluders",
                "Members that may work with the coordinator while ε still holds (protocol, clause 3.6).",
                Kind.WHOLE,
                left_out="a third in mode secure, 0 in mode local",
            ),
            Field("members", "Members", "None ticked: every active contributor.", Kind.TICKS),
        ),
    ),
    (
        "Extractor",
        (
            Field(
                "extractor.architecture",
                "Architecture",
                "Every member's policy must allow it.",
                Kind.CHOICE,
                "fixed-mlp",
                tuple(ARCHITECTURES),
            ),
            Field(
                "extractor.kind",
                "Kind of records",
                "What the architecture reads: all read images but ngram-bag and byte-transformer.",
                Kind.CHOICE,
                "image",
                ("image", "text"),
            ),
            Field(
                "extractor.channels", "Channels", "1 for grey, 3 for colour, 1 for texts.", Kind.WHOLE, "1"
            ),
            Field(
                "extractor.height",
                "Height (pixels)",
                "Images are resized to it. 1 for texts.",
                Kind.WHOLE,
                "28",
            ),
            Field(
                "extractor.width",
                "Width (pixels)",
                "Images are resized to it. Of texts, how many bytes are read.",
                Kind.WHOLE,
                "28",
            ),
            Field("extractor.embedding_dim", "Length of an embedding", "", Kind.WHOLE, "64"),
            Field(
                "extractor.mean",
                "Mean",
                "Subtracted from pixels in 0…1, one number for all channels or one each; public, never measured.",
                Kind.NUMBERS,
                "0.5",
            ),
            Field(
                "extractor.std",
                "Std",
                "Pixels are divided by it; public, never measured.",
                Kind.NUMBERS,
                "0.5",
            ),
            Field(
                "starting_from",
                "Starts from",
                "Public weights by name, a release of this coordinator by id, or a release's folder on its machine.",
                Kind.TEXT,
                left_out="random weights",
            ),
            Field(
                "starting_seed",
                "Seed",
                "Of the starting weights, which are public.",
                Kind.WHOLE,
                "1",
            ),
        ),
    ),
    (
        "Training",
        (
            Field(
                "training.local_steps",
                "Steps of a member in one round",
                "Each adds full noise; mode secure takes 1 (protocol, clause 3.5).",
                Kind.WHOLE,
                "1",
            ),
            Field(
                "training.learning_rate",
                "Learning rate",
                "Of the extractor, on the clipped noisy sum divided by the expected batch (protocol, clause 2.4).",
                Kind.NUMBER,
                "2",
            ),
            Field(
                "training.head_learning_rate",
                "Learning rate of the head",
                "Of the training head.",
                Kind.NUMBER,
                "2",
            ),
            Field(
                "training.schedule",
                "Schedule",
                "Of both learning rates over the rounds.",
                Kind.CHOICE,
                "constant",
                SCHEDULES,
            ),
            Field(
                "training.augmentations",
                "Augmentations",
                "Applied to each record by itself before its gradient.",
                Kind.TICKS,
                "",
                AUGMENTATIONS,
            ),
            Field(
                "training.augmentation_multiplicity",
                "Copies of a record",
                "Augmented copies whose gradients are averaged before the clip, 1 to 64; 1 without augmentations.",
                Kind.WHOLE,
                "1",
            ),
            Field(
                "training.shared_classes",
                "Classes of one shared head",
                "One label name a line; public in the plan, and every member's labels must be among them. Empty: each "
                "member trains a head of its own at home.",
                Kind.LINES,
            ),
        ),
    ),
    (
        "Secure sum",
        (
            Field(
                "ring_bits",
                "Bits of the ring",
                "16 halves the upload, where sums are small enough (protocol, clause 3.4).",
                Kind.CHOICE,
                "32",
                ("32", "16"),
            ),
            Field(
                "tolerance_steps",
                "Noise steps for drop-outs",
                "Components whose excess can be removed, at most 4 (protocol, clause 3.9).",
                Kind.WHOLE,
                left_out="one a drop-out, at most 4",
            ),
        ),
    ),
    (
        "Server",
        (
            Field(
                "server.name",
                "Optimizer",
                "How the sum moves the weights.",
                Kind.CHOICE,
                "fedavg",
                ("fedavg", "fedadam"),
            ),
            Field(
                "server.learning_rate",
                "Learning rate of the server",
                "Along the averaged update.",
                Kind.NUMBER,
                "1",
            ),
            Field("server.beta1", "β₁", "FedAdam: decay of the mean.", Kind.NUMBER, "0.9"),
            Field("server.beta2", "β₂", "FedAdam: decay of the squares.", Kind.NUMBER, "0.99"),
            Field(
                "server.epsilon",
                "Added to the root of the squares",
                "FedAdam's own epsilon, not a privacy number.",
                Kind.NUMBER,
                "0.001",
            ),
            Field(
                "server.averaging_decay",
                "Decay of the average",
                "Of an exponential moving average of the weights, which is what is released; 0 switches it off.",
                Kind.NUMBER,
                "0",
            ),
        ),
    ),
)
"""Everything behind "All settings"; an architecture's options stand in plan_options.py."""

FIELDS: Mapping[str, Field] = {
    f.key: f for f in (NAME, PURPOSE, DIAL, *(f for _, group in GROUPS for f in group))
}
