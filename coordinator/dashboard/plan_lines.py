"""A plan line by line, as pages show it and compare it: every number that its digest covers, none left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.dashboard.plan_fields import FIELDS
from coordinator.dashboard.words import odds, one_in, size
from coordinator.members.names import Names
from coordinator.runs.measured import Measured, expected_band, nearest
from coordinator.runs.planning import PlanCheck
from shared.domain.plan import Plan
from shared.domain.privacy import REPORTED_DELTA
from shared.domain.strict import to_plain
from shared.release.promise import epsilon_text

_LABELS: Mapping[str, str] = {
    "consortium": "Consortium",
    "format": "Format",
    "privacy.noise_multiplier": "Noise multiplier σ",
    "privacy.target_epsilon": "Target ε",
    "starting_release.release": "Starts from the release",
    "starting_release.manifest_digest": "Manifest of that release",
    "starting_weights": "Starting weights",
    "trainable_coordinates": "Coordinates in the sum",
    "secure.grid_width": "Grid width γ",
    "secure.ring_bits": "Bits of the ring",
    "secure.tolerance_steps": "Noise steps for drop-outs",
    "secure.mask_reach": "Mask reach (0: with everybody)",
    "secure.share_threshold": "Shares that rebuild a secret",
    "shared_head.classes": "Classes of the shared head",
    "shared_head.inputs": "Inputs of the shared head",
}
_PRIVATE = (
    "privacy.target_epsilon",
    "privacy.delta",
    "privacy.noise_multiplier",
    "privacy.evaluation_noise_multiplier",
    "cost.epsilon",
    "cost.alone",
    "cost.noise",
)
_ORDER = (
    "extractor_name",
    "purpose",
    "privacy",
    "rounds",
    "evaluate_every",
    "quorum",
    "colluders",
    "deadline_s",
    "secure",
)


@dataclass(frozen=True)
class Line:
    """One setting of a plan."""

    key: str
    label: str
    text: str
    exact: str = ""
    """Where `text` is rounded for reading."""

    @property
    def private(self) -> bool:
        """Whether it touches privacy."""
        return self.key.startswith(_PRIVATE)

    @property
    def digest(self) -> bool:
        """Whether the text is a digest, to be shown short."""
        return self.text.startswith("sha256:")


@dataclass(frozen=True)
class Pair:
    """The same setting in two plans; an empty text where a plan has none."""

    label: str
    first: Line | None
    second: Line | None

    @property
    def differs(self) -> bool:
        """Whether the two are not alike."""
        return _told(self.first) != _told(self.second)

    @property
    def alike(self) -> bool:
        """Whether they differ by less than is shown of them."""
        return bool(self.differs and self.first and self.second and self.first.text == self.second.text)

    @property
    def private(self) -> bool:
        """Whether it touches privacy."""
        one = self.first or self.second
        return one is not None and one.private


def plan_lines(plan: Plan) -> list[Line]:
    """All of a plan but its members, who are named by their own lines."""
    plain = to_plain(plan)
    plain.pop("members")
    first = {key: plain.pop(key) for key in _ORDER if key in plain}
    found = [Line(key, _label(key), _text(value)) for key, value in _flat(first | plain)]
    return [*found, Line("members", "Members", str(len(plan.members)))]


def member_lines(plan: Plan, names: Names, only: str = "") -> list[Line]:
    """One line a member with its declared size; with `only`, that member's alone."""
    return [
        Line(f"members.{m.member_id}", names[m.member_id], f"{m.declared_size:,} declared")
        for m in plan.members
        if only in ("", m.member_id)
    ]


def cost_lines(check: PlanCheck) -> list[Line]:
    """What it comes to: the same for every member, but for the batch."""
    cost, noise, delta = check.costs[0], check.noise, check.plan.privacy.delta
    lines = {
        "cost.epsilon": (f"ε at δ {one_in(delta)}", epsilon_text(cost.epsilon)),
        "cost.epsilon.second": (
            f"ε at δ {one_in(REPORTED_DELTA)}",
            epsilon_text(cost.epsilon_at_second_delta),
        ),
        "cost.alone": (f"ε alone at δ {one_in(delta)}", epsilon_text(cost.epsilon_alone)),
        "cost.alone.second": (
            f"ε alone at δ {one_in(REPORTED_DELTA)}",
            epsilon_text(cost.epsilon_alone_at_second_delta),
        ),
        "cost.epsilon.odds": (
            "Someone who guesses, from an even bet, whether one record or person was in is right at most",
            f"{odds(cost.epsilon, delta)} of the time",
        ),
        "cost.alone.odds": (
            "The same, when everybody else deviates",
            f"{odds(cost.epsilon_alone, delta)} of the time",
        ),
        "cost.noise": (
            "Noise when all answer, over that of one party trusted with everybody's data",
            f"{noise.everybody / noise.curator:.1f} ×",
        ),
        "cost.noise.quorum": (
            "The same when only a quorum answers",
            f"{noise.at_quorum / noise.curator:.1f} ×",
        ),
        "cost.batch": (
            f"{check.plan.privacy.unit.value.capitalize()}s a step, all members",
            f"{sum(c.expected_batch_size for c in check.costs):,.0f}",
        ),
        "cost.bytes": ("Sent each round, all members, up and down", size(check.bytes_per_round)),
    }
    exact = {
        "cost.noise": f"{noise.everybody:.3f} C/B",
        "cost.noise.quorum": f"{noise.at_quorum:.3f} C/B",
        "cost.bytes": f"{check.bytes_per_round:,} bytes",
    }
    return [Line(key, label, text, exact.get(key, "")) for key, (label, text) in lines.items()]


def unsound_line(fault: str) -> Line:
    """In place of the costs of a plan whose privacy argument does not hold."""
    return Line("cost.fault", "Privacy argument", f"fails a check of this version: {fault}")


def pairs(first: list[Line], second: list[Line]) -> list[Pair]:
    """Lines side by side, in the order of the first; what only the second has comes last."""
    left, right = ({line.key: line for line in lines} for lines in (first, second))
    keys = [*left, *(key for key in right if key not in left)]
    return [Pair((left.get(key) or right[key]).label, left.get(key), right.get(key)) for key in keys]


def _told(line: Line | None) -> str:
    return "" if line is None else line.exact or line.text


def _flat(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield prefix + key, value


def _label(key: str) -> str:
    if key.startswith("extractor.options."):
        return f"Option {key.rpartition('.')[2]}"
    return _LABELS.get(key) or (FIELDS[key].label if key in FIELDS else key)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value) or "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def measured_facts(found: Sequence[Measured], plan: Plan) -> dict[str, Any]:
    """What `plans/measured.html` shows: earlier runs, those with about the plan's ε, and the band that they give it."""
    epsilon = plan.privacy.target_epsilon
    return {"measured": found, "near": nearest(found, epsilon), "band": expected_band(found, epsilon)}
