"""A real coordinator application behind TLS on the loopback, and members that speak Flower's Fleet API to it.

Everything is what production runs (`build_coordinator`, `NodeLoop`, `FleetLink`, `HttpTransfers`) but for the
members' work, which a test gives as a function. The run driver idles: tests drive the carrier themselves.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import ConfigRecord, Message, RecordDict
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.app import Coordinator, build_coordinator
from coordinator.config import Config
from coordinator.engine.nodes import FlowerNodes
from coordinator.members.room import MembersRoom
from coordinator.runs.carrier import Received, RoundAsk
from participant.engine.fleet_link import FleetLink
from participant.engine.node import NodeLoop
from participant.engine.transfers import HttpTransfers
from participant.member import Transfers
from shared.domain.canonical import digest_of_bytes, digest_of_file
from shared.domain.consortium import Purpose
from shared.domain.strict import to_plain
from shared.domain.update import ContributionHeader
from shared.release.signing import SigningKey
from shared.wire.problems import raise_for_problem
from shared.wire.rounds import RoundReply, RoundRequest, StepRequest, encode
from tests.desk import CONSORTIUM, enrolment, served

Work = Callable[[RoundRequest | StepRequest, Transfers], RoundReply]
COORDINATES = 10
PATHS_SEEN: list[str] = []
"""Every path that a served fleet was asked for."""
WEIGHTS = np.arange(COORDINATES, dtype="<f4").tobytes()
ASK = RoundAsk("run_000000000001", 1, "sha256:" + "a" * 64, digest_of_bytes(WEIGHTS), 20.0, len(WEIGHTS))


def ask_of(number: int) -> RoundAsk:
    return replace(ASK, round_number=number)


def contribute(member_id: str, identity: SigningKey, folder: Path, factor: float = 2.0) -> Work:
    """Honest work: fetch the weights, send them times `factor`, sign the header."""

    def work(request: RoundRequest, transfers: Transfers) -> RoundReply:
        data = transfers.fetch_weights(request.weights_ticket, request.weights_bytes, request.weights_digest)
        # A file of its own: two members of a test may share this work, and run at the same time.
        payload = folder / f"{member_id}-{request.contribution_ticket}.f32"
        payload.write_bytes((np.frombuffer(data, "<f4") * np.float32(factor)).tobytes())
        transfers.send_contribution(request.contribution_ticket, payload)
        return sign_header(member_id, identity, request, payload)

    return work


def sign_header(member_id: str, identity: SigningKey, request: RoundRequest, payload: Path) -> RoundReply:
    header = ContributionHeader(
        member_id,
        request.run_id,
        request.round_number,
        request.plan_digest,
        digest_of_file(payload),
        payload.stat().st_size,
        None,
        request.weights_digest,
    )
    return RoundReply(header=header, signature=identity.sign_value("contribution", to_plain(header)))


@dataclass
class FleetMember:
    """An enrolled member; its node runs in a thread while `start`ed."""

    id: str
    identity: SigningKey
    key: ec.EllipticCurvePrivateKey
    token: str
    link: Callable[[], FleetLink]
    transfers: HttpTransfers
    announce_restart: Callable[[], None]
    reports: list[str] = field(default_factory=list)
    loop: NodeLoop | None = None
    thread: threading.Thread | None = None

    def start(self, work: Work) -> FleetMember:
        self.loop = NodeLoop(
            self.link,
            lambda request: work(request, self.transfers),
            self.reports.append,
            self.announce_restart,
        )
        self.thread = threading.Thread(target=self.loop.run, name=self.id, daemon=True)
        self.thread.start()
        return self

    def ask_to_stop(self) -> None:
        if self.loop is not None:
            self.loop.stop()

    def close(self) -> None:
        """Wait for the loop's end; an idle connection left open would hold up the server's end."""
        if self.thread is not None:
            self.thread.join(5)
        self.transfers._client.close()


class Fleet:
    """The coordinator under test and its members."""

    def __init__(self, home: Path, coordinator: Coordinator, url: str) -> None:
        self.home = home
        self.coordinator = coordinator
        self.carrier = coordinator.carrier
        self.url = url
        self.room: MembersRoom = coordinator.control.state.members
        self.nodes: FlowerNodes = coordinator.control.state.engine
        self.state = self.carrier._state
        self.bulk = self.carrier._bulk
        self.weights = home / "weights.f32"
        self.weights.write_bytes(WEIGHTS)
        self.members: list[FleetMember] = []
        self.links: list[FleetLink] = []
        self.ca_file = home / "ca-of-tests.pem"
        self.ca_file.write_text(self.room.authority.ca_pem(), "ascii")

    def client(self, token: str = "") -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        context = ssl.create_default_context(cafile=str(self.ca_file))
        return httpx.Client(base_url=self.url, verify=context, headers=headers, timeout=10.0)

    def enrol(self) -> FleetMember:
        """A member with real keys, enrolled through the real service."""
        name = f"Org {len(self.members)}"
        identity, key = SigningKey.generate(), ec.generate_private_key(ec.SECP384R1())
        secret = self.room.invitations.invite(name, Purpose.CONTRIBUTE, "operator", None)[1]
        reply = self.room.members.enrol(enrolment(secret, identity, pem_of(key), 100))
        client = self.client(reply.token)
        member = FleetMember(
            id=reply.member_id,
            identity=identity,
            key=key,
            token=reply.token,
            link=lambda: self.link(key),
            transfers=HttpTransfers(client),
            announce_restart=lambda: raise_for_problem(client.post("/api/v1/node/restarted")),
        )
        self.members.append(member)
        return member

    def link(self, key: ec.EllipticCurvePrivateKey) -> FleetLink:
        made = FleetLink(urlsplit(self.url).netloc, self.ca_file, key)
        self.links.append(made)
        return made

    def honest(self) -> FleetMember:
        """An enrolled member whose node contributes; online when this returns."""
        member = self.enrol()
        member.start(contribute(member.id, member.identity, self.home))
        self.wait_online(member)
        return member

    def wait_online(self, *members: FleetMember) -> None:
        wait_until(lambda: {m.id for m in members} <= self.carrier.online())

    def answers(self, count: int, timeout_s: float = 10.0) -> dict[str, Received]:
        """The next `count` answers by sender."""
        found: dict[str, Received] = {}
        for _ in range(count):
            received = self.carrier.next_answer(timeout_s)
            assert received is not None, f"{len(found)} of {count} answers came"
            assert received.sender_id not in found
            found[received.sender_id] = received
        return found

    def stop(self) -> None:
        for member in self.members:
            member.ask_to_stop()
        for member in self.members:
            member.close()
        for link in self.links:
            link._client.close()


@contextmanager
def fleet_served(home: Path, wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> Iterator[Fleet]:
    """A coordinator over `home` (as `prepare_home` makes it), serving; `wrap` may look at what comes in."""
    coordinator = build_coordinator(home, Config(CONSORTIUM))
    with served(wrap(coordinator.asgi), home) as url:
        fleet = Fleet(home, coordinator, url)
        try:
            yield fleet
        finally:
            fleet.stop()


def recorded(paths: list[str]) -> Callable[[ASGIApp], ASGIApp]:
    """A wrapper that notes the path of every request."""

    def wrap(app: ASGIApp) -> ASGIApp:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                paths.append(scope["path"])
            await app(scope, receive, send)

        return application

    return wrap


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return public.decode("ascii")


def wait_until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    give_up = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.01)


def raw(fleet: Fleet, data: bytes, then_close: bool = False) -> int:
    """Send bytes as they are over TLS; the status that comes back, 0 for none."""
    address = urlsplit(fleet.url)
    context = ssl.create_default_context(cafile=str(fleet.ca_file))
    plain = socket.create_connection((address.hostname, address.port), timeout=5)
    with plain, context.wrap_socket(plain, server_hostname=address.hostname) as line:
        line.sendall(data)
        if then_close:
            return 0
        head = b""
        while b"\r\n" not in head:
            received = line.recv(4096)
            if not received:
                return 0
            head += received
        return int(head.split(b" ", 2)[1])


def reply_to(instruction: Message, reply: RoundReply) -> Message:
    content = RecordDict({"commonlens": ConfigRecord({"body": encode(reply)})})
    return Message(content, reply_to=instruction)


def active(fleet: Fleet) -> tuple[FleetMember, FleetLink]:
    """A member and its own connection, driven by hand."""
    member = fleet.enrol()
    link = member.link()
    link.activate()
    return member, link


def status_of(call: object, request: object) -> int:
    """HTTP status of a Fleet call made with Flower's own client."""
    try:
        call(request)  # type: ignore[operator]
    except httpx.HTTPStatusError as error:
        return error.response.status_code
    return 200
