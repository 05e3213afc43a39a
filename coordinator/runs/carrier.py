"""What a round needs of whatever carries its messages: Flower in production, memory in the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.wire.rounds import RoundReply


@dataclass(frozen=True)
class RoundAsk:
    """One round's instruction, the same for every member of the cohort."""

    run_id: str
    round_number: int
    plan_digest: str
    weights_digest: str
    deadline_s: float


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
    """Sends one round's instruction to a cohort and yields answers one at a time, as they come."""

    def ask(self, ask: RoundAsk, cohort: Sequence[str], weights: Path) -> None:
        """Send `ask` to each member of `cohort`; `weights` is a file of little-endian float32."""
        ...

    def next_answer(self, timeout_s: float) -> Received | None:
        """The next answer that arrived, or None after `timeout_s` seconds without one."""
        ...

    def close_round(self) -> None:
        """Forget the round: late answers are dropped, tickets void, staged payloads deleted."""
        ...

    def online(self) -> frozenset[str]:
        """Members whose nodes are connected now."""
        ...
