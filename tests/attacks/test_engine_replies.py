"""Attacks by a member on a round: in another member's name, or with answers that are none.

The coordinator is the whole application as it is deployed; attackers hold whatever the sentence says.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    PushMessagesRequest,
)
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from httpx import HTTPStatusError

from coordinator.engine.fleet_app import refuse_false_names
from coordinator.runs.carrier import Received
from coordinator.runs.round import checked
from participant.engine.fleet_link import FleetLink
from shared.domain.errors import BadSignature, InvalidMessage
from shared.wire.rounds import (
    RoundReply,
    decode_request,
)
from tests.fleet import (
    ASK,
    Fleet,
    active,
    ask_of,
    contribute,
    fleet_served,
    reply_to,
    status_of,
)

pytestmark = pytest.mark.usefixtures("no_round_left_open")


# --- In another member's name -------------------------------------------------------------------------


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
        fleet.carrier.close_exchange()


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
