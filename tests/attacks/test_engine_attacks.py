"""Attacks on the member port, over real TLS: on Flower's other APIs, and by those who may not speak.

The coordinator is the whole application as it is deployed; attackers hold whatever the sentence says.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import (
    RegisterNodeFleetRequest,
    UnregisterNodeFleetRequest,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

from coordinator.engine.fleet_app import FLEET_PREFIX
from shared.domain.errors import Revoked, Unreachable
from shared.wire.rounds import (
    RoundReply,
)
from tests.fleet import (
    ASK,
    Fleet,
    active,
    raw,
    reply_to,
    status_of,
    wait_until,
)

FLEET_PATHS = sorted(path for _, path in PROTOBUF_REQUEST_TYPES if path.startswith(FLEET_PREFIX))
OTHER_PATHS = sorted(path for _, path in PROTOBUF_REQUEST_TYPES if not path.startswith(FLEET_PREFIX))
pytestmark = pytest.mark.usefixtures("no_round_left_open")


# --- Flower's other APIs ------------------------------------------------------------------------------


def test_control_and_runtime_apis_do_not_exist_on_the_member_port(fleet: Fleet) -> None:
    assert {"/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/acquire-task"} <= set(
        OTHER_PATHS
    )
    assert len(OTHER_PATHS) > 50
    with fleet.client() as client:
        for path in OTHER_PATHS:
            for content_type in (PROTOBUF_MEDIA_TYPE, "application/json"):
                answer = client.post(path, content=b"", headers={"content-type": content_type})
                assert answer.status_code == 404, path


@pytest.mark.parametrize(
    "path",
    [
        "/docs",
        "/redoc",
        "/openapi.json",
        "/v1/fleet/docs",
        "/v1/fleet/openapi.json",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "/v1/fleet//control/start-run",
        "//v1/control/start-run",
        "/v1/fleet/create-node",
    ],
)
def test_no_way_around_leads_to_another_page_of_flower(fleet: Fleet, path: str) -> None:
    address = urlsplit(fleet.url)
    for method in ("GET", "POST"):
        request = f"{method} {path} HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-length: 0\r\n\r\n"
        assert raw(fleet, request.encode()) in (404, 405)


# --- Who may speak ------------------------------------------------------------------------------------


def test_unsigned_fleet_call_is_refused_on_every_path(fleet: Fleet) -> None:
    assert len(FLEET_PATHS) >= 12
    with fleet.client() as client:
        for path in FLEET_PATHS:
            answer = client.post(path, content=b"", headers={"content-type": PROTOBUF_MEDIA_TYPE})
            assert answer.status_code == 401, path


def test_fleet_call_in_another_format_cannot_slip_past_authentication(fleet: Fleet) -> None:
    with fleet.client() as client:
        for path in FLEET_PATHS:
            for content_type in ("application/json", "text/plain", ""):
                answer = client.post(path, content=b"{}", headers={"content-type": content_type})
                assert 400 <= answer.status_code < 500, path
            assert client.get(path).status_code in (404, 405)


def test_key_that_nobody_enrolled_is_not_let_in_and_cannot_register_itself(fleet: Fleet) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    link = fleet.link(key)
    with pytest.raises((Revoked, Unreachable)):
        link.activate()
    request = RegisterNodeFleetRequest(public_key=public_key_to_bytes(key.public_key()))
    assert 400 <= status_of(link._client.RegisterNode, request) < 500
    assert fleet.nodes.node_of_key(public_key_to_bytes(key.public_key())) is None
    link.close()


def test_member_cannot_unregister_itself_or_another(fleet: Fleet) -> None:
    member, link = active(fleet)
    other, other_link = active(fleet)
    for victim in (link, other_link):
        request = UnregisterNodeFleetRequest(node_id=victim.node_id)
        assert 400 <= status_of(link._client.UnregisterNode, request) < 500
    assert {member.id, other.id} <= fleet.carrier.online()


def test_suspended_member_is_shut_out_at_once_and_comes_back_when_resumed(fleet: Fleet) -> None:
    member, link = active(fleet)
    link.heartbeat()
    fleet.room.members.suspend(member.id, "operator")
    with pytest.raises(Revoked, match="does not let this node in"):
        link.receive()
    with pytest.raises(Revoked):
        link.heartbeat()
    with pytest.raises(Revoked):
        member.link().activate()
    assert member.id not in fleet.carrier.online()
    with fleet.client(member.token) as client:
        assert client.post("/api/v1/node/restarted").status_code == 401

    fleet.room.members.resume(member.id, "operator")
    again = member.link()
    again.activate()
    again.heartbeat()
    assert member.id in fleet.carrier.online()


def test_suspended_members_answer_is_not_taken(fleet: Fleet) -> None:
    member, link = active(fleet)
    fleet.carrier.ask(ASK, [member.id], fleet.weights)
    instruction = link.receive()
    assert instruction is not None
    fleet.room.members.suspend(member.id, "operator")
    with pytest.raises(Revoked):
        link.send(reply_to(instruction, RoundReply(refusal_code="x")))
    received = fleet.carrier.next_answer(0.5)
    assert received is None or received.reply is None


def test_waiting_node_loop_survives_a_suspension(fleet: Fleet) -> None:
    member = fleet.honest()
    fleet.room.members.suspend(member.id, "operator")
    wait_until(lambda: any("suspended" in r or "not let" in r for r in member.reports))
    fleet.room.members.resume(member.id, "operator")
    fleet.wait_online(member)
    fleet.carrier.ask(ASK, [member.id], fleet.weights)
    assert fleet.answers(1)[member.id].payload is not None


def test_revoked_member_never_comes_back(fleet: Fleet) -> None:
    member, link = active(fleet)
    fleet.room.members.revoke(member.id, "operator")
    with pytest.raises(Revoked):
        link.receive()
    with pytest.raises((Revoked, Unreachable)):
        member.link().activate()
    assert member.id not in fleet.carrier.online()
