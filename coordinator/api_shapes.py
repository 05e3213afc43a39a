"""What routes take and answer where their own signature says only "JSON" or "a file": for the API's description alone.

Answers are rendered from the domain's dataclasses, so most shapes are those dataclasses. A test compares what the
routes really answer with what stands here, key by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.api_release_shapes import (
    ChannelMoved,
    Channels,
    Differences,
    DownloadsOfReleases,
    PrivacyOfRelease,
    Published,
    Publishing,
    ReleaseShape,
    StandardExtractors,
    Yanked,
)
from coordinator.api_rules import API, Route
from coordinator.registry.behaviour import Comparison
from coordinator.registry.gate_report import GateReport
from coordinator.registry.library import OnShelf
from coordinator.runs.draft import PlanDraft
from coordinator.runs.events import RoundEvent
from coordinator.runs.measured import Band
from coordinator.runs.progress import Progress
from coordinator.runs.publish_jobs import PublishJob
from coordinator.runs.secure_planning import NoiseFigures
from coordinator.runs.store import RunRow
from shared.domain.plan import Plan
from shared.wire.rounds import CONTRIBUTION_PATH, WEIGHTS_PATH


class Bytes:
    """The body is a file."""


class Picture:
    """The answer is a PNG."""


class EventStream:
    """The answer is a stream of server-sent events."""


@dataclass(frozen=True)
class Signature:
    """One Ed25519 signature over the canonical bytes of what is signed, all in hex digits."""

    key: str
    sig: str


@dataclass(frozen=True)
class Signed:
    """A signed document; docs/protocol.md says what each kind holds."""

    signed: Mapping[str, Any]
    signatures: tuple[Signature, ...]


@dataclass(frozen=True)
class MemberCostShape:
    """What a plan costs one member; an ε without a useful bound is null."""

    member_id: str
    name: str
    expected_batch_size: float
    epsilon: float | None
    epsilon_at_second_delta: float | None
    epsilon_alone: float | None
    epsilon_alone_at_second_delta: float | None
    seconds_per_round: float | None


@dataclass(frozen=True)
class CostWithStartShape:
    """The highest of any member, with what the release that the plan starts from cost it before; at the plan's δ."""

    release: str
    epsilon: float | None
    epsilon_alone: float | None


@dataclass(frozen=True)
class PlanCheckShape:
    """A complete plan and what it costs."""

    digest: str
    plan: Plan
    costs: tuple[MemberCostShape, ...]
    bytes_per_round: int
    noise: NoiseFigures
    grid_cost: float
    additive_slack: float
    neighbours: int
    notes: tuple[str, ...]
    with_start: CostWithStartShape | None


@dataclass(frozen=True)
class MeasuredShape:
    """The last validation of one run, from noised counts; `spread` is one standard deviation of their noise."""

    run_id: str
    plan_digest: str
    target_epsilon: float
    round_number: int
    accuracy: float
    spread: float
    same_extractor: bool


@dataclass(frozen=True)
class MeasuredRuns:
    """What runs under one extractor name measured, by the ε of their plans; `expected` is null without a band."""

    measured: tuple[MeasuredShape, ...]
    expected: Band | None


@dataclass(frozen=True)
class DraftCheckShape(PlanCheckShape):
    """The same of a draft, and what runs like it measured."""

    measured: tuple[MeasuredShape, ...]
    expected: Band | None


@dataclass(frozen=True)
class PlanLineMember:
    """A member of a plan, and whether it consented; no consent counts of a member that was shut out."""

    member_id: str
    name: str
    declared_size: int
    consented: bool
    counts: bool


@dataclass(frozen=True)
class PlanLine:
    """A plan in the list. `fault`: which check of this version it fails, so that no run can begin from it; empty where
    it passes, was withdrawn or has a run; null while that is being found out (some 50 ms a plan: ask again).
    """

    digest: str
    extractor_name: str
    proposed_by: str
    proposed_at: str
    withdrawn: bool
    fault: str | None
    members: tuple[PlanLineMember, ...]
    quorum: int
    rounds: int
    target_epsilon: float


@dataclass(frozen=True)
class PlanList:
    """All plans, oldest first."""

    plans: tuple[PlanLine, ...]


@dataclass(frozen=True)
class Consents:
    """The ids of members who consented."""

    consents: tuple[str, ...]


@dataclass(frozen=True)
class PlanWithConsents(Consents):
    """One plan, who proposed it, who consented when, and why a consent does not count (`uncounted`); `names`: id → name
    of its members, as they enrolled.

    `fault`: which check of this version it fails, so that no run can begin from it; empty where it passes.
    """

    plan: Plan
    proposed_by: str
    proposed_at: str
    withdrawn: bool
    names: Mapping[str, str]
    consented_at: Mapping[str, str]
    uncounted: Mapping[str, str]
    fault: str


@dataclass(frozen=True)
class RunShape(RunRow):
    """A run as it stands."""

    planned_rounds: int
    extractor_name: str


@dataclass(frozen=True)
class RunList:
    """All runs, oldest first."""

    runs: tuple[RunShape, ...]


@dataclass(frozen=True)
class Validation:
    """Noised validation counts, over all contributors, and the std of the noise on each (clause 6.2)."""

    correct: float
    wrong: float
    noise_std: float


@dataclass(frozen=True)
class RoundShape:
    """One attempt of a round."""

    run_id: str
    number: int
    attempt: int
    state: str
    opened_at: str
    closed_at: str | None
    cohort: tuple[str, ...]
    contributors: tuple[str, ...]
    missing: Mapping[str, str]
    checkpoint_digest: str | None
    bytes_up: int
    bytes_down: int
    seconds: Mapping[str, float]
    note: str
    validation: Validation | None


@dataclass(frozen=True)
class RunWithRounds(RunShape):
    """One run with every attempt of every round."""

    rounds: tuple[RoundShape, ...]


@dataclass(frozen=True)
class ContributionShape:
    """What one member contributed, as it signed it."""

    payload_digest: str
    signature: str
    bytes: int


@dataclass(frozen=True)
class AttemptShape(RoundShape):
    """One attempt of a round with its contributions, by member id."""

    contributions: Mapping[str, ContributionShape]


@dataclass(frozen=True)
class OneRound:
    """A round: every attempt at it."""

    attempts: tuple[AttemptShape, ...]


@dataclass(frozen=True)
class EventShape(RoundEvent):
    """One thing that happened, with its place in the order of all events."""

    id: int
    number: int
    attempt: int


@dataclass(frozen=True)
class EventList:
    """Events of a run, oldest first; `last` is what to ask after next."""

    events: tuple[EventShape, ...]
    last: int


TAKES: Mapping[Route, type] = {
    ("POST", f"{API}/plans"): PlanDraft,
    ("POST", f"{API}/plans/check"): PlanDraft,
    ("PUT", CONTRIBUTION_PATH): Bytes,
}
ANSWERS: Mapping[Route, type] = {
    ("GET", f"{API}/roll"): Signed,
    ("GET", f"{API}/releases"): Signed,
    ("GET", f"{API}/releases/{{extractor}}/{{number}}/files/{{name}}"): Bytes,
    ("GET", f"{API}/releases/downloads"): DownloadsOfReleases,
    ("GET", f"{API}/extractors/{{extractor}}/channels"): Channels,
    ("POST", f"{API}/extractors/{{extractor}}/channels/{{channel}}"): ChannelMoved,
    ("GET", f"{API}/library"): StandardExtractors,
    ("POST", f"{API}/library/{{name}}"): OnShelf,
    ("GET", f"{API}/releases/{{extractor}}/{{number}}"): ReleaseShape,
    ("GET", f"{API}/releases/{{extractor}}/{{number}}/changes"): Differences,
    ("GET", f"{API}/releases/{{extractor}}/{{number}}/diff"): Comparison,
    ("POST", f"{API}/releases/{{extractor}}/{{number}}/diff"): Comparison,
    ("GET", f"{API}/releases/{{extractor}}/{{number}}/privacy"): PrivacyOfRelease,
    ("GET", f"{API}/releases/{{extractor}}/{{number}}/redteam"): GateReport,
    ("GET", f"{API}/releases/{{extractor}}/{{number}}/redteam/{{picture}}"): Picture,
    ("POST", f"{API}/releases/{{extractor}}/{{number}}/yank"): Yanked,
    ("GET", WEIGHTS_PATH): Bytes,
    ("POST", f"{API}/plans/check"): DraftCheckShape,
    ("POST", f"{API}/plans"): PlanCheckShape,
    ("GET", f"{API}/plans"): PlanList,
    ("GET", f"{API}/plans/{{digest}}"): PlanWithConsents,
    ("GET", f"{API}/plans/{{digest}}/cost"): PlanCheckShape,
    ("GET", f"{API}/plans/{{digest}}/measured"): MeasuredRuns,
    ("GET", f"{API}/plans/{{digest}}/starting-weights"): Bytes,
    ("POST", f"{API}/plans/{{digest}}/consents"): Consents,
    ("POST", f"{API}/plans/{{digest}}/withdraw"): PlanWithConsents,
    ("POST", f"{API}/plans/{{digest}}/runs"): RunShape,
    ("GET", f"{API}/runs"): RunList,
    ("GET", f"{API}/runs/{{run_id}}"): RunWithRounds,
    ("GET", f"{API}/runs/{{run_id}}/rounds/{{number}}"): OneRound,
    ("GET", f"{API}/runs/{{run_id}}/events"): EventList,
    ("GET", f"{API}/runs/{{run_id}}/events/stream"): EventStream,
    ("POST", f"{API}/runs/{{run_id}}/pause"): RunShape,
    ("POST", f"{API}/runs/{{run_id}}/resume"): RunShape,
    ("POST", f"{API}/runs/{{run_id}}/stop"): RunShape,
    ("GET", f"{API}/runs/{{run_id}}/progress"): Progress,
    ("POST", f"{API}/runs/{{run_id}}/releases"): Published,
    ("POST", f"{API}/runs/{{run_id}}/publishing"): PublishJob,
    ("GET", f"{API}/runs/{{run_id}}/publishing"): Publishing,
}
