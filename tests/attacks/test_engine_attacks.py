"""Attacks on the member port, over real TLS: on Flower's other APIs, in other members' names, with code to run.

The coordinator is the whole application as it is deployed; attackers hold whatever the sentence says.
"""

from __future__ import annotations

import io
import shutil
import socket
import ssl
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
    UnregisterNodeFleetRequest,
)
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from httpx import HTTPStatusError

from coordinator.engine.fleet_app import FLEET_PREFIX, refuse_false_names
from coordinator.runs.carrier import Received
from coordinator.runs.round import checked
from participant.engine.fleet_link import FleetLink
from shared.domain.errors import BadSignature, InvalidMessage, Revoked, Unreachable
from shared.wire.rounds import (
    CONTRIBUTION_PATH,
    TICKET_HEADER,
    WEIGHTS_PATH,
    RoundReply,
    RoundRequest,
    decode_request,
    encode,
)
from tests.fleet import ASK, Fleet, FleetMember, ask_of, contribute, fleet_served, recorded, wait_until

PATHS_SEEN: list[str] = []
FLEET_PATHS = sorted(path for _, path in PROTOBUF_REQUEST_TYPES if path.startswith(FLEET_PREFIX))
OTHER_PATHS = sorted(path for _, path in PROTOBUF_REQUEST_TYPES if not path.startswith(FLEET_PREFIX))


@pytest.fixture(scope="module")
def fleet(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    home = shutil.copytree(prepared_home, tmp_path_factory.mktemp("engine") / "coordinator")
    with fleet_served(home, recorded(PATHS_SEEN)) as fleet:
        yield fleet


@pytest.fixture(autouse=True)
def no_round_left_open(fleet: Fleet) -> Iterator[None]:
    yield
    fleet.carrier.close_round()


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
    except HTTPStatusError as error:
        return error.response.status_code
    return 200


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


# --- In another member's name -------------------------------------------------------------------------


def reply_to(instruction: Message, reply: RoundReply) -> Message:
    content = RecordDict({"commonlens": ConfigRecord({"body": encode(reply)})})
    return Message(content, reply_to=instruction)


def push(link: FleetLink, message: Message) -> int:
    """Push a reply and its objects under this link's authentication; the first status that is no success."""
    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        objects = get_all_nested_objects(message)
        request = PushMessagesRequest(
            node=link._node,
            messages_list=[message_to_proto(remove_content_from_message(message))],
            message_object_trees=[get_object_tree(message)],
            clientapp_runtime_list=[0.0],
        )
        try:
            answer = link._client.PushMessages(request)
            for object_id in answer.objects_to_push:
                link._client.PushObject(
                    PushObjectRequest(
                        node=link._node,
                        run_id=message.metadata.run_id,
                        session_id=answer.session_id,
                        object_id=object_id,
                        object_content=objects[object_id].deflate(),
                    )
                )
        except HTTPStatusError as error:
            return error.response.status_code
    return 200


def forged(instruction: Message, reply: RoundReply, source: int) -> Message:
    message = reply_to(instruction, reply)
    message.metadata.__dict__["_src_node_id"] = source
    return message


def test_answer_in_another_members_name_is_refused_at_the_edge(fleet: Fleet) -> None:
    (_, bad), (victim, good) = active(fleet), active(fleet)
    fleet.carrier.ask(ASK, [victim.id], fleet.weights)
    instruction = good.receive()
    assert instruction is not None  # the attacker even knows the victim's instruction
    lie = forged(instruction, RoundReply(refusal_code="x"), good.node_id)
    assert push(bad, lie) == 401
    bad._node, own = good._node, bad._node  # and with the victim's number on the request itself
    assert push(bad, lie) == 401
    bad._node = own
    honest = RoundReply(refusal_code="refused.consent-missing")
    good.send(reply_to(instruction, honest))
    assert fleet.answers(1)[victim.id].reply == honest


def test_answer_to_anothers_instruction_in_its_own_name_is_not_taken(fleet: Fleet) -> None:
    (_, bad), (victim, good) = active(fleet), active(fleet)
    fleet.carrier.ask(ASK, [victim.id], fleet.weights)
    instruction = good.receive()
    assert instruction is not None
    push(bad, forged(instruction, RoundReply(refusal_code="x"), bad.node_id))
    assert fleet.carrier.next_answer(0.2) is None
    good.send(reply_to(instruction, RoundReply(refusal_code="honest")))
    reply = fleet.answers(1)[victim.id].reply
    assert reply is not None and reply.refusal_code == "honest"


def test_without_the_edge_the_signature_still_refuses_another_members_name(
    prepared_home: Path, tmp_path: Path
) -> None:
    home = shutil.copytree(prepared_home, tmp_path / "coordinator")
    with fleet_served(home, without_edge_check) as fleet:
        (attacker, bad), (victim, good) = active(fleet), active(fleet)
        fleet.carrier.ask(ASK, [victim.id], fleet.weights)
        instruction = good.receive()
        assert instruction is not None
        request = decode_request(instruction.content["commonlens"]["body"])  # type: ignore[arg-type]
        work = contribute(victim.id, attacker.identity, home, factor=1e5)
        lie = work(request, attacker.transfers)
        assert push(bad, forged(instruction, lie, good.node_id)) == 200
        received = fleet.answers(1)[victim.id]
        assert received.payload is not None
        keys = {m.id: m.identity_public_key for m in fleet.room.members.every()}
        with pytest.raises(BadSignature, match="does not verify"):
            checked(received, ASK, keys)


def without_edge_check(app: object) -> object:
    """The application with `refuse_false_names` taken out of the Fleet app; it is built at the first request."""
    found = fleet_app_within(app)
    found.user_middleware = [
        layer for layer in found.user_middleware if layer.kwargs.get("dispatch") is not refuse_false_names
    ]
    assert len(found.user_middleware) == 3
    return app


def fleet_app_within(app: object) -> object:
    """The Fleet app inside the closures of the composed application."""
    waiting, seen = [app], set()
    while waiting:
        current = waiting.pop()
        if getattr(current, "title", "") == "Commonlens Fleet":
            return current
        if id(current) not in seen:
            seen.add(id(current))
            waiting += [cell.cell_contents for cell in getattr(current, "__closure__", None) or ()]
    raise AssertionError("there is no Fleet app")


@pytest.mark.parametrize(
    "change",
    [
        lambda reply: RoundReply(header=reply.header),
        lambda reply: RoundReply(header=reply.header, signature=""),
        lambda reply: RoundReply(header=reply.header, signature="0" * 128),
    ],
)
def test_answer_without_the_members_signature_is_not_a_contribution(fleet: Fleet, change) -> None:
    member, link = active(fleet)
    fleet.carrier.ask(ASK, [member.id], fleet.weights)
    instruction = link.receive()
    assert instruction is not None
    request = decode_request(instruction.content["commonlens"]["body"])  # type: ignore[arg-type]
    reply = contribute(member.id, member.identity, fleet.home)(request, member.transfers)
    link.send(reply_to(instruction, change(reply)))
    received = fleet.answers(1)[member.id]
    with pytest.raises((BadSignature, InvalidMessage)):
        checked(received, ASK, {member.id: member.identity.public_hex})
    assert checked(Received(member.id, reply, received.payload), ASK, {member.id: member.identity.public_hex})


# --- Answers that are none ----------------------------------------------------------------------------

STRANGE: dict[str, RecordDict] = {
    "no record": RecordDict(),
    "another record": RecordDict({"other": ConfigRecord({"body": b"{}"})}),
    "no body": RecordDict({"commonlens": ConfigRecord({"text": b"{}"})}),
    "text for bytes": RecordDict({"commonlens": ConfigRecord({"body": "{}"})}),
    "a list": RecordDict({"commonlens": ConfigRecord({"body": [b"{}"]})}),
    "an array": RecordDict({"commonlens": ArrayRecord()}),
    "no JSON": RecordDict({"commonlens": ConfigRecord({"body": b"\xff"})}),
    "a number too large": RecordDict(
        {"commonlens": ConfigRecord({"body": b'{"header":{"counts":{"correct":1' + b"0" * 400 + b"}}}"})}
    ),
    "too long": RecordDict({"commonlens": ConfigRecord({"body": b" " * 100_000})}),
}


def test_answer_that_is_none_is_named_and_the_round_goes_on(fleet: Fleet) -> None:
    honest, (member, link) = fleet.honest(), active(fleet)
    for number, content in enumerate(STRANGE.values(), start=1):
        fleet.carrier.ask(ask_of(number), [member.id, honest.id], fleet.weights)
        instruction = link.receive()
        assert instruction is not None
        link.send(Message(content, reply_to=instruction))
        found = fleet.answers(2)
        assert found[member.id].reply is None and found[member.id].error
        assert found[honest.id].payload is not None
        fleet.carrier.close_round()


def test_objects_that_are_not_what_they_are_called_are_named(fleet: Fleet) -> None:
    member, link = active(fleet)
    fleet.carrier.ask(ASK, [member.id], fleet.weights)
    instruction = link.receive()
    assert instruction is not None
    message = reply_to(instruction, RoundReply(refusal_code="x"))
    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        answer = link._client.PushMessages(
            PushMessagesRequest(
                node=link._node,
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[get_object_tree(message)],
                clientapp_runtime_list=[0.0],
            )
        )
        for object_id in answer.objects_to_push:
            garbage = PushObjectRequest(
                node=link._node,
                run_id=message.metadata.run_id,
                session_id=answer.session_id,
                object_id=object_id,
                object_content=b"garbage",
            )
            status_of(link._client.PushObject, garbage)
    received = fleet.carrier.next_answer(0.5)
    assert received is None or received.reply is None


# --- Code to run --------------------------------------------------------------------------------------


def bundle(marker: Path) -> bytes:
    """A Flower app bundle whose import, client app and build hook each write `marker`."""
    evil = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    project = (
        '[build-system]\nrequires = []\nbuild-backend = "hook"\nbackend-path = ["."]\n'
        '[project]\nname = "evil"\nversion = "1.0.0"\n'
        '[tool.flwr.app]\npublisher = "evil"\n'
        '[tool.flwr.app.components]\nserverapp = "evil:app"\nclientapp = "evil:app"\n'
    )
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("pyproject.toml", project)
        archive.writestr("evil.py", evil)
        archive.writestr("evil/__init__.py", evil)
        archive.writestr("hook.py", evil)
    return data.getvalue()


def run_with_bundle(fleet: Fleet, marker: Path) -> None:
    """From now on the carrier's messages belong to a run that advertises the bundle, as stock Flower's do."""
    content = bundle(marker)
    hash_str = fleet.state.store_fab(Fab("", content, {}))
    run_id = fleet.state.create_run(
        "evil/evil", "1.0.0", hash_str, {}, NOOP_FEDERATION_ID, None, None, TaskType.SERVER_APP
    )
    info = fleet.state.get_run_info(run_ids=[run_id])[0]
    assert info.fab_hash == hash_str
    task_id = info.primary_task_id
    assert task_id is not None
    assert fleet.state.claim_task(task_id) is not None and fleet.state.activate_task(task_id)
    fleet.carrier._flower_run_id, fleet.carrier._task_id = run_id, task_id


def test_bundle_that_is_advertised_to_a_member_is_neither_fetched_nor_run(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "the bundle ran"
    member = fleet.honest()
    run_with_bundle(fleet, marker)
    PATHS_SEEN.clear()
    for number, kind in enumerate(("train", "evaluate", "query", "train.evil", "system"), start=1):
        with monkeypatch.context() as context:
            context.setattr("coordinator.engine.carrier.MESSAGE_TYPE", kind)
            fleet.carrier.ask(ask_of(number), [member.id], fleet.weights)
        assert fleet.carrier.next_answer(0.3) is None
        fleet.carrier.close_round()
    # The same process is still there, and answers what is ours, also in the run with the bundle.
    assert member.thread is not None and member.thread.is_alive()
    fleet.carrier.ask(ask_of(9), [member.id], fleet.weights)
    assert fleet.answers(1)[member.id].payload is not None
    assert f"{FLEET_PREFIX}push-messages" in PATHS_SEEN
    assert not [path for path in PATHS_SEEN if "fab" in path or "get-run" in path]
    assert not marker.exists()


def test_instruction_without_our_record_is_ignored_and_the_node_lives(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = fleet.honest()
    with monkeypatch.context() as context:
        context.setattr("coordinator.engine.carrier.BODY_RECORD", "other")
        fleet.carrier.ask(ASK, [member.id], fleet.weights)
    assert fleet.carrier.next_answer(0.3) is None
    fleet.carrier.close_round()
    wait_until(lambda: any("was not a round's instruction" in report for report in member.reports))
    fleet.carrier.ask(ask_of(2), [member.id], fleet.weights)
    assert fleet.answers(1)[member.id].payload is not None


# --- Bodies and tickets -------------------------------------------------------------------------------


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


@pytest.mark.parametrize("path", ["/api/v1/enrolments", "/api/v1/sessions", FLEET_PATHS[0], "/nowhere"])
@pytest.mark.parametrize("length", ["content-length: 99999999999", "transfer-encoding: chunked"])
def test_oversized_body_is_refused_before_it_is_read(fleet: Fleet, path: str, length: str) -> None:
    """No byte of the body is sent: whoever waited for it would never answer."""
    head = f"POST {path} HTTP/1.1\r\nhost: c\r\ncontent-type: {PROTOBUF_MEDIA_TYPE}\r\n{length}\r\n\r\n"
    assert raw(fleet, head.encode()) == 422


def upload_ticket(fleet: Fleet) -> tuple[str, int]:
    size_bytes = fleet.weights.stat().st_size
    return fleet.bulk.expect("mem_1", size_bytes), size_bytes


def test_upload_cut_in_the_middle_is_not_there_and_may_be_sent_again(fleet: Fleet) -> None:
    ticket, size_bytes = upload_ticket(fleet)
    head = f"PUT {CONTRIBUTION_PATH} HTTP/1.1\r\nhost: c\r\n{TICKET_HEADER}: {ticket}\r\n"
    data = f"{head}content-length: {size_bytes}\r\n\r\n".encode() + b"x" * (size_bytes // 2)
    raw(fleet, data, then_close=True)
    done = threading.Event()
    with fleet.client() as client:
        for _ in range(100):
            assert fleet.bulk.staged(ticket) is None
            answer = client.put(CONTRIBUTION_PATH, content=b"y" * size_bytes, headers={TICKET_HEADER: ticket})
            if answer.status_code == 204:
                break
            done.wait(0.05)  # the server has not noticed the cut yet
    staged = fleet.bulk.staged(ticket)
    assert staged is not None and staged.read_bytes() == b"y" * size_bytes


def test_body_with_two_lengths_fills_no_disk(fleet: Fleet) -> None:
    ticket, size_bytes = upload_ticket(fleet)
    head = f"PUT {CONTRIBUTION_PATH} HTTP/1.1\r\nhost: c\r\n{TICKET_HEADER}: {ticket}\r\n"
    both = f"{head}content-length: {size_bytes}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    status = raw(fleet, both + (b"8000\r\n" + b"z" * 0x8000 + b"\r\n") * 8 + b"0\r\n\r\n")
    assert status >= 400
    assert fleet.bulk.staged(ticket) is None
    staging = fleet.home / "staging"
    assert sum(path.stat().st_size for path in staging.iterdir()) <= size_bytes


def test_tickets_are_void_in_the_other_direction_twice_and_for_strangers(fleet: Fleet) -> None:
    ticket, size_bytes = upload_ticket(fleet)
    down = fleet.bulk.offer("mem_1", fleet.weights)
    data = b"1" * size_bytes
    with fleet.client() as client:

        def put(name: str) -> int:
            return client.put(CONTRIBUTION_PATH, content=data, headers={TICKET_HEADER: name}).status_code

        def get(name: str) -> int:
            return client.get(WEIGHTS_PATH, headers={TICKET_HEADER: name}).status_code

        assert (put(down), get(ticket), put("guess"), get("guess"), get("")) == (403,) * 5
        assert (put(ticket), put(ticket), get(ticket)) == (204, 403, 403)
        longer = client.put(
            CONTRIBUTION_PATH, content=data * 2, headers={TICKET_HEADER: fleet.bulk.expect("m", size_bytes)}
        )
        assert longer.status_code == 422
        fleet.carrier.close_round()
        assert (get(down), put(ticket)) == (403, 403)


def test_signed_poll_in_anothers_name_gets_nothing_of_its_instruction(fleet: Fleet) -> None:
    (_, bad), (victim, good) = active(fleet), active(fleet)
    fleet.carrier.ask(ASK, [victim.id], fleet.weights)
    assert status_of(bad._client.PullMessages, PullMessagesRequest(node=good._node)) == 401
    assert good.receive() is not None


def test_node_that_restarts_in_a_round_is_asked_again_with_fresh_tickets(fleet: Fleet) -> None:
    member, link = active(fleet)
    fleet.carrier.ask(ASK, [member.id], fleet.weights)
    first = link.receive()
    assert first is not None
    seen: list[RoundRequest] = []
    work = contribute(member.id, member.identity, fleet.home)
    member.start(lambda request, transfers: (seen.append(request), work(request, transfers))[1])
    assert fleet.answers(1)[member.id].payload is not None
    old = decode_request(first.content["commonlens"]["body"])  # type: ignore[arg-type]
    assert seen[0].round_number == old.round_number
    assert seen[0].contribution_ticket != old.contribution_ticket
