"""What a round may expect of whatever carries its messages: in memory, and Flower over real TLS."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from coordinator.engine.bulk import BulkTransfers
from coordinator.runs.carrier import Carrier, Received, StepAsk
from participant.member import Transfers
from shared.domain.canonical import digest_of_bytes
from shared.domain.errors import NotAllowed
from shared.release.signing import SigningKey
from shared.wire.rounds import (
    PROTOCOL_VERSION,
    MaskedAsk,
    RoundReply,
    RoundRequest,
    Step,
    StepRequest,
    decode_request,
)
from tests.fleet import (
    ASK,
    WEIGHTS,
    Fleet,
    Work,
    active,
    ask_of,
    contribute,
    fleet_served,
    reply_to,
    sign_header,
)
from tests.memory_carrier import MemoryCarrier

REFUSAL = RoundReply(refusal_code="refused.consent-missing", refusal_text="No consent.")


class Harness(Protocol):
    """One carrier with members that a test scripts."""

    carrier: Carrier
    bulk: BulkTransfers
    weights: Path
    folder: Path

    def join(self, work: Work) -> str:
        """A connected member that does `work`; its id."""
        ...

    def join_absent(self) -> str:
        """A member that is enrolled and not connected; its id."""
        ...

    def join_slow(self, work: Work) -> tuple[str, Callable[[], None]]:
        """A member that starts working only when the returned function is called."""
        ...

    def join_silent(self) -> str:
        """A connected member that never answers."""
        ...


class InMemory:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.carrier = MemoryCarrier(folder / "staging")
        self.bulk = self.carrier.bulk
        self.weights = folder / "weights.f32"
        self.weights.write_bytes(WEIGHTS)
        self._count = 0

    def join(self, work: Work) -> str:
        self._count += 1
        transfers = self.carrier.transfers()
        self.carrier.connect(f"mem_{self._count}", lambda request: work(request, transfers))
        return f"mem_{self._count}"

    def join_absent(self) -> str:
        member_id = self.join(lambda request, transfers: REFUSAL)
        self.carrier.offline.add(member_id)
        self.carrier.lost.add(member_id)
        return member_id

    def join_slow(self, work: Work) -> tuple[str, Callable[[], None]]:
        member_id = self.join(work)
        self.carrier.held.add(member_id)
        return member_id, lambda: self.carrier.release(member_id)

    def join_silent(self) -> str:
        member_id = self.join(lambda request, transfers: REFUSAL)
        self.carrier.lost.add(member_id)
        return member_id


class OverFlower:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.folder = fleet.home
        self.carrier = fleet.carrier
        self.bulk = fleet.bulk
        self.weights = fleet.weights
        self._release_all = threading.Event()

    def join(self, work: Work) -> str:
        member = self._fleet.enrol().start(work)
        self._fleet.wait_online(member)
        return member.id

    def join_absent(self) -> str:
        return self._fleet.enrol().id

    def join_slow(self, work: Work) -> tuple[str, Callable[[], None]]:
        begin, done = threading.Event(), threading.Event()

        def slow(request: RoundRequest, transfers: Transfers) -> RoundReply:
            begin.wait(30)
            try:
                return work(request, transfers)
            finally:
                done.set()

        def release() -> None:
            begin.set()
            assert done.wait(10)

        return self.join(slow), release

    def join_silent(self) -> str:
        def wait(request: RoundRequest, transfers: Transfers) -> RoundReply:
            self._release_all.wait(60)
            return REFUSAL

        return self.join(wait)

    def close(self) -> None:
        self._release_all.set()


@pytest.fixture(scope="module")
def fleet(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    home = shutil.copytree(prepared_home, tmp_path_factory.mktemp("flower") / "coordinator")
    with fleet_served(home) as fleet:
        yield fleet


@pytest.fixture(params=["memory", "flower"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    if request.param == "memory":
        yield InMemory(tmp_path)
        return
    over_flower = OverFlower(request.getfixturevalue("fleet"))
    yield over_flower
    over_flower.close()
    over_flower.carrier.close_exchange()


def doing(harness: Harness, factor: float = 2.0) -> Work:
    """Honest work by a member whose id the carrier is asked for; the key is thrown away."""
    return contribute(f"someone-{factor}", SigningKey.generate(), harness.folder, factor)


def gathered(harness: Harness, count: int) -> dict[str, Received]:
    found: dict[str, Received] = {}
    for _ in range(count):
        received = harness.carrier.next_answer(10.0)
        assert received is not None and received.sender_id not in found
        found[received.sender_id] = received
    assert harness.carrier.next_answer(0.05) is None
    return found


def test_every_answer_comes_once_with_its_sender_and_its_whole_payload(harness: Harness) -> None:
    factors = {harness.join(doing(harness, factor)): factor for factor in (2.0, 3.0, 4.0)}
    harness.carrier.ask(ASK, list(factors), harness.weights)
    found = gathered(harness, 3)
    assert set(found) == set(factors)
    for member_id, received in found.items():
        assert received.payload is not None and received.reply is not None and received.error is None
        data = received.payload.read_bytes()
        expected = np.frombuffer(WEIGHTS, "<f4") * np.float32(factors[member_id])
        assert np.array_equal(np.frombuffer(data, "<f4"), expected)
        assert received.reply.header is not None
        assert received.reply.header.payload_digest == digest_of_bytes(data)


def test_instruction_says_what_was_asked_with_tickets_of_its_own(harness: Harness) -> None:
    seen: list[RoundRequest] = []

    def look(request: RoundRequest, transfers: Transfers) -> RoundReply:
        seen.append(request)
        return REFUSAL

    members = [harness.join(look), harness.join(look)]
    harness.carrier.ask(ASK, members, harness.weights)
    gathered(harness, 2)
    for request in seen:
        assert (request.run_id, request.round_number) == (ASK.run_id, ASK.round_number)
        assert (request.plan_digest, request.weights_digest) == (ASK.plan_digest, ASK.weights_digest)
        assert (request.weights_bytes, request.deadline_s) == (len(WEIGHTS), ASK.deadline_s)
    tickets = [t for r in seen for t in (r.weights_ticket, r.contribution_ticket)]
    assert len(set(tickets)) == 4


def test_refusal_arrives_without_a_payload(harness: Harness) -> None:
    member = harness.join(lambda request, transfers: REFUSAL)
    harness.carrier.ask(ASK, [member], harness.weights)
    received = gathered(harness, 1)[member]
    assert (received.reply, received.payload) == (REFUSAL, None)


def test_answer_without_its_upload_has_no_payload(harness: Harness) -> None:
    key = SigningKey.generate()

    def announce(request: RoundRequest, transfers: Transfers) -> RoundReply:
        return sign_header("mem", key, request, harness.weights)

    member = harness.join(announce)
    harness.carrier.ask(ASK, [member], harness.weights)
    received = gathered(harness, 1)[member]
    assert received.reply is not None and received.reply.header is not None
    assert received.payload is None


def test_member_that_never_answers_holds_up_nobody(harness: Harness) -> None:
    silent, other = harness.join_silent(), harness.join(doing(harness))
    harness.carrier.ask(ASK, [silent, other], harness.weights)
    assert set(gathered(harness, 1)) == {other}


def test_online_are_those_who_are_connected(harness: Harness) -> None:
    here, away = harness.join(doing(harness)), harness.join_absent()
    assert here in harness.carrier.online()
    assert away not in harness.carrier.online()


def test_end_of_the_round_voids_its_tickets_and_its_staged_payloads(harness: Harness) -> None:
    requests: list[RoundRequest] = []
    work = doing(harness)

    def remember(request: RoundRequest, transfers: Transfers) -> RoundReply:
        requests.append(request)
        return work(request, transfers)

    member = harness.join(remember)
    harness.carrier.ask(ASK, [member], harness.weights)
    payload = gathered(harness, 1)[member].payload
    assert payload is not None and payload.exists()
    harness.carrier.close_exchange()
    assert not payload.exists()
    assert harness.bulk.staged(requests[0].contribution_ticket) is None
    with pytest.raises(NotAllowed):
        harness.bulk.begin_download(requests[0].weights_ticket)


def test_late_answer_is_dropped_and_the_next_round_is_answered(harness: Harness) -> None:
    seen: list[RoundRequest] = []
    refused: list[NotAllowed] = []
    work = doing(harness)

    def late(request: RoundRequest, transfers: Transfers) -> RoundReply:
        seen.append(request)
        try:
            return work(request, transfers)
        except NotAllowed as error:
            refused.append(error)
            return REFUSAL

    member, release = harness.join_slow(late)
    harness.carrier.ask(ASK, [member], harness.weights)
    assert harness.carrier.next_answer(0.3) is None
    harness.carrier.close_exchange()
    release()
    harness.carrier.ask(ask_of(2), [member], harness.weights)
    received = gathered(harness, 1)[member]
    assert received.reply is not None and received.reply.header is not None
    assert received.reply.header.round_number == 2
    assert [r.round_number for r in seen] in ([1, 2], [2])
    assert len(refused) == len(seen) - 1


def test_secure_rounds_two_exchanges_reach_each_member_with_what_is_for_it_only(harness: Harness) -> None:
    seen: list[RoundRequest | StepRequest] = []
    honest = doing(harness)

    def work(request: RoundRequest | StepRequest, transfers: Transfers) -> RoundReply:
        seen.append(request)
        return answered(request) if isinstance(request, StepRequest) else honest(request, transfers)

    members = [harness.join(work), harness.join(work)]
    masked = {m: MaskedAsk("sha256:" + "b" * 64, tuple(members), {m: f"for {m}"}) for m in members}
    harness.carrier.ask(replace(ASK, masked=masked), members, harness.weights)
    payloads = [received.payload for received in gathered(harness, 2).values()]
    assert all(payload is not None and payload.exists() for payload in payloads)
    asks = [request.masked for request in seen if isinstance(request, RoundRequest)]
    # On a busy machine a node may be taken for restarted and be asked once more: with the same.
    assert set(map(repr, asks)) == set(map(repr, masked.values()))

    harness.carrier.close_exchange()
    assert not any(payload.exists() for payload in payloads if payload is not None)
    unmask = step_ask(Step.UNMASK, members)
    harness.carrier.ask(unmask, members, None)
    for member_id, received in gathered(harness, 2).items():
        assert received == Received(member_id, answered(unmask.requests[member_id]), None)
    assert {r for r in seen if isinstance(r, StepRequest)} == set(unmask.requests.values())


def test_late_answer_to_a_step_does_not_count_for_the_next_step(harness: Harness) -> None:
    member, release = harness.join_slow(answer_step)
    harness.carrier.ask(step_ask(Step.ENDORSE, [member]), [member], None)
    assert harness.carrier.next_answer(0.3) is None
    harness.carrier.close_exchange()
    unmask = step_ask(Step.UNMASK, [member])
    harness.carrier.ask(unmask, [member], None)
    release()
    assert gathered(harness, 1)[member].reply == answered(unmask.requests[member])


def test_answer_that_was_not_collected_does_not_count_for_the_next_exchange(harness: Harness) -> None:
    member = harness.join(answer_step)
    harness.carrier.ask(step_ask(Step.ENDORSE, [member]), [member], None)
    time.sleep(0.3)  # over Flower it is there by now; the claim holds wherever it is
    harness.carrier.close_exchange()
    unmask = step_ask(Step.UNMASK, [member])
    harness.carrier.ask(unmask, [member], None)
    assert gathered(harness, 1)[member].reply == answered(unmask.requests[member])


@pytest.mark.parametrize("step", list(Step))
def test_node_that_restarts_in_a_step_is_asked_the_same_again(fleet: Fleet, step: Step) -> None:
    member, link = active(fleet)
    ask = step_ask(step, [member.id])
    fleet.carrier.ask(ask, [member.id], None)
    first = link.receive()
    assert first is not None  # its process took the request with it
    seen: list[RoundRequest | StepRequest] = []
    member.start(lambda request, transfers: (seen.append(request), answer_step(request, transfers))[1])
    assert fleet.answers(1)[member.id].reply == answered(ask.requests[member.id])
    assert seen == [decode_request(first.content["commonlens"]["body"])]  # type: ignore[arg-type]
    fleet.carrier.close_exchange()


def test_node_that_restarts_between_two_exchanges_answers_the_second(fleet: Fleet) -> None:
    member, link = active(fleet)
    fleet.carrier.ask(step_ask(Step.ENDORSE, [member.id]), [member.id], None)
    instruction = link.receive()
    assert instruction is not None
    link.send(reply_to(instruction, answered(step_ask(Step.ENDORSE, [member.id]).requests[member.id])))
    fleet.answers(1)
    fleet.carrier.close_exchange()
    # Killed here. Its record says that it is online until it starts again.
    unmask = step_ask(Step.UNMASK, [member.id])
    fleet.carrier.ask(unmask, [member.id], None)
    member.start(answer_step)
    assert fleet.answers(1)[member.id].reply == answered(unmask.requests[member.id])
    fleet.carrier.close_exchange()


def step_ask(step: Step, members: Sequence[str]) -> StepAsk:
    """A request that names the member it is for."""
    return StepAsk(
        ASK.round_number,
        ASK.deadline_s,
        {
            member_id: StepRequest(
                PROTOCOL_VERSION, step, ASK.run_id, ASK.round_number, ASK.plan_digest, survivors=(member_id,)
            )
            for member_id in members
        },
    )


def answered(request: StepRequest) -> RoundReply:
    """An answer that says what it is the answer to."""
    return RoundReply(endorsement=f"{request.step.value} {request.survivors}")


def answer_step(request: RoundRequest | StepRequest, transfers: Transfers) -> RoundReply:
    assert isinstance(request, StepRequest)
    return answered(request)
