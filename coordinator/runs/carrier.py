"""What a round needs of whatever carries its messages: Flower in production, memory in the simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.wire.rounds import PROTOCOL_VERSION, MaskedAsk, RoundReply, RoundRequest, StepRequest


@dataclass(frozen=True)
class RoundAsk:
    """One round's request for contributions: the same for every member, but for tickets and shares."""

    run_id: str
    round_number: int
    plan_digest: str
    weights_digest: str
    deadline_s: float
    contribution_bytes: int
    masked: Mapping[str, MaskedAsk] | None = None
    """Mode secure: what each member of the cohort is told about it."""

    def request(
        self, member_id: str, weights_bytes: int, weights_ticket: str, contribution_ticket: str
    ) -> RoundRequest:
        """What one member is sent."""
        return RoundRequest(
            protocol=PROTOCOL_VERSION,
            run_id=self.run_id,
            round_number=self.round_number,
            plan_digest=self.plan_digest,
            weights_digest=self.weights_digest,
            weights_bytes=weights_bytes,
            deadline_s=self.deadline_s,
            weights_ticket=weights_ticket,
            contribution_ticket=contribution_ticket,
            masked=None if self.masked is None else self.masked[member_id],
        )


@dataclass(frozen=True)
class StepAsk:
    """One small step of a round in mode secure: a request for each member, and no bytes beside it."""

    round_number: int
    deadline_s: float
    requests: Mapping[str, StepRequest]


@dataclass(frozen=True)
class Received:
    """One member's answer as the carrier delivers it.

    `sender_id` is the member whose node key the carrier authenticated. `payload` is the staged file, complete
    on disk but not yet trusted; None for a refusal. `error` says why an answer never came.
    """

    sender_id: str
    reply: RoundReply | None
    payload: Path | None
    error: str | None = None


class Carrier(Protocol):
    """Sends one exchange's requests to a cohort and yields answers one at a time, as they come."""

    def ask(self, ask: RoundAsk | StepAsk, cohort: Sequence[str], weights: Path | None) -> None:
        """Send `ask` to each member of `cohort`; `weights`, for a RoundAsk, is a file of little-endian float32."""
        ...

    def next_answer(self, timeout_s: float) -> Received | None:
        """The next answer that arrived, or None after `timeout_s` seconds without one."""
        ...

    def close_exchange(self) -> None:
        """Forget what was asked: late answers are dropped, tickets void, staged payloads deleted."""
        ...

    def online(self) -> frozenset[str]:
        """Members whose nodes are connected now."""
        ...
