"""A carrier in memory, for the simulator: the same encoded bodies and staged files as Flower's, in a fixed order.

It can drop, hold back, repeat and falsify what crosses, and it keeps every byte that did.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coordinator.engine.bulk import BulkTransfers
from coordinator.runs.carrier import Received, RoundAsk, StepAsk
from shared.domain.canonical import digest_of_bytes
from shared.domain.errors import DigestMismatch, InvalidMessage
from shared.wire.rounds import (
    RoundReply,
    RoundRequest,
    StepRequest,
    decode_reply,
    decode_request,
    encode,
)


class Killed(BaseException):
    """The process died here: nothing after this line happened."""


class MemoryTransfers:
    """A member's end of bulk transfer over the coordinator's real tickets and staging."""

    def __init__(self, bulk: BulkTransfers, wire: list[bytes]) -> None:
        self._bulk = bulk
        self._wire = wire
        self.uploads: list[bytes] = []
        """Payloads that left this member."""

    def fetch_weights(self, ticket: str, size_bytes: int, digest: str) -> bytes:
        path, _ = self._bulk.begin_download(ticket)
        data = path.read_bytes()
        self._wire.append(data)
        if len(data) != size_bytes:
            raise InvalidMessage(f"The round's weights must have {size_bytes} bytes, {len(data)} came.")
        if digest_of_bytes(data) != digest:
            raise DigestMismatch("The round's weights have another digest. Nothing was trained.")
        return data

    def send_contribution(self, ticket: str, payload: Path) -> None:
        self.send_bytes(ticket, payload.read_bytes())

    def send_bytes(self, ticket: str, data: bytes, announced: int | None = None) -> bool:
        """Send `data` under an announced length; True when the upload became complete."""
        size_bytes = len(data) if announced is None else announced
        path = self._bulk.begin_upload(ticket, size_bytes)
        path.write_bytes(data)
        self._wire.append(data)
        self.uploads.append(data)
        return self._bulk.end_upload(ticket, len(data))


Behaviour = Callable[[RoundRequest | StepRequest], RoundReply]
"""What a member does with an instruction."""
Tamper = Callable[["Delivery"], "list[Received]"]
"""What the network makes of one honest answer."""


@dataclass(frozen=True)
class Delivery:
    """One honest answer on its way, for a `Tamper` to change."""

    member_id: str
    request: RoundRequest | StepRequest
    reply: RoundReply
    payload: Path | None

    def honest(self) -> Received:
        return Received(self.member_id, self.reply, self.payload)


@dataclass
class _Instruction:
    member_id: str
    body: bytes
    upload_ticket: str
    round_key: int


class MemoryCarrier:
    """Implements coordinator/runs/carrier.py. Members answer inside `next_answer`, in the order asked."""

    def __init__(self, staging: Path) -> None:
        self.bulk = BulkTransfers(staging)
        self.wire: list[bytes] = []
        """Every body and payload that crossed, in order."""
        self.requests: list[RoundRequest | StepRequest] = []
        self.replies: list[tuple[str, RoundReply]] = []
        self.tampers: dict[str, Tamper] = {}
        self.lost: set[str] = set()
        """Members whose instructions never arrive."""
        self.gone_at: set[tuple[str, str]] = set()
        """(member id, "train" or a step's value): its node went away before this instruction arrived."""
        self.offline: set[str] = set()
        self.held: set[str] = set()
        """Members that answer only after `release`."""
        self.notices_deaths = False
        """Whether a node that was killed is known to be gone at once, instead of staying silent."""
        self._members: dict[str, Behaviour] = {}
        self._queue: deque[_Instruction] = deque()
        self._waiting: list[_Instruction] = []
        self._ready: deque[Received] = deque()
        self._round_key = 0

    def connect(self, member_id: str, behaviour: Behaviour) -> None:
        self._members[member_id] = behaviour

    def transfers(self) -> MemoryTransfers:
        return MemoryTransfers(self.bulk, self.wire)

    def online(self) -> frozenset[str]:
        return frozenset(self._members) - self.offline

    def ask(self, ask: RoundAsk | StepAsk, cohort: Sequence[str], weights: Path | None) -> None:
        for member_id in cohort:
            upload = ""
            if isinstance(ask, StepAsk):
                request: RoundRequest | StepRequest = ask.requests[member_id]
            else:
                assert weights is not None
                upload = self.bulk.expect(member_id, ask.contribution_bytes)
                download = self.bulk.offer(member_id, weights)
                request = ask.request(member_id, weights.stat().st_size, download, upload)
            self.requests.append(request)
            kind = request.step.value if isinstance(request, StepRequest) else "train"
            if (member_id, kind) in self.gone_at:
                self._ready.append(Received(member_id, None, None, error="its node went away"))
            elif member_id not in self.lost:
                self._queue.append(_Instruction(member_id, encode(request), upload, self._round_key))

    def next_answer(self, timeout_s: float) -> Received | None:
        while True:
            if self._ready:
                return self._ready.popleft()
            if not self._queue:
                time.sleep(min(timeout_s, 0.01))
                return None
            self._run(self._queue.popleft())

    def close_exchange(self) -> None:
        self._round_key += 1
        self._queue.clear()
        self._ready.clear()
        self.bulk.close_round()

    def wire_payload(self, run_id: str, member_id: str, round_number: int = 1) -> np.ndarray:
        """float32 [d]: what the member last sent for this round, as it left the member."""
        sent = [r.header for m, r in self.replies if m == member_id and r.header is not None]
        wanted = [h for h in sent if (h.run_id, h.round_number) == (run_id, round_number)]
        data = next(body for body in self.wire if digest_of_bytes(body) == wanted[-1].payload_digest)
        return np.frombuffer(data, dtype="<f4")

    def release(self, member_id: str) -> None:
        """Let a held member work on what it was sent, however late it is."""
        self.held.discard(member_id)
        late = [i for i in self._waiting if i.member_id == member_id]
        self._waiting = [i for i in self._waiting if i.member_id != member_id]
        for instruction in late:
            self._run(instruction)

    def _run(self, instruction: _Instruction) -> None:
        member_id = instruction.member_id
        if member_id in self.held:
            self._waiting.append(instruction)
            return
        self.wire.append(instruction.body)
        request = decode_request(instruction.body)
        if self.notices_deaths:
            self._ready.append(Received(member_id, None, None, error="its node went away"))
        with suppress(Killed):
            body = encode(self._members[member_id](request))
            self.wire.append(body)
            reply = decode_reply(body)
            self.replies.append((member_id, reply))
            if instruction.round_key != self._round_key:
                return  # its round is over
            if self.notices_deaths:
                self._ready.pop()
            delivery = Delivery(member_id, request, reply, self.bulk.staged(instruction.upload_ticket))
            tamper = self.tampers.get(member_id)
            self._ready.extend(tamper(delivery) if tamper else [delivery.honest()])


def refusals(carrier: MemoryCarrier) -> list[tuple[str, str]]:
    """(member id, code) of every refusal that crossed."""
    return [(member, reply.refusal_code) for member, reply in carrier.replies if reply.refusal_code]
