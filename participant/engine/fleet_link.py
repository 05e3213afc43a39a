"""The member's end of Flower's Fleet API: activate, poll, pull an instruction, push a reply.

Uses Flower's own protobuf client and node authentication. The stock SuperNode is left out on purpose: it
starts a Python process per message, waits 3 s between polls and installs code it was sent. Nothing here asks
for a bundle (`GetFab`), so there is no way for one to be executed.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from shared.domain.errors import InvalidMessage, Revoked, Unreachable
from shared.wire.rounds import MAXIMUM_BODY_BYTES

HEARTBEAT_S = 30.0
MAXIMUM_OBJECTS = 16
"""A round's instruction is one message with one small record; more objects than this are refused."""


class FleetLink:
    """One authenticated connection to the coordinator's Fleet API."""

    def __init__(self, server_address: str, ca_file: Path, key: ec.EllipticCurvePrivateKey) -> None:
        logging.getLogger("flwr").setLevel(logging.WARNING)
        self._public_key = public_key_to_bytes(key.public_key())
        self._client = FleetHttpClient.from_server_address(
            server_address,
            False,
            ca_file.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(key, key.public_key()),
            ],
        )
        self._node: Node | None = None

    @property
    def node_id(self) -> int:
        """Flower's number for this node; 0 before `activate`."""
        return 0 if self._node is None else int(self._node.node_id)

    def activate(self) -> None:
        """Announce this node. Raises Revoked when it is not let in, Unreachable when nobody answers."""
        with _translated():
            response = self._client.ActivateNode(
                ActivateNodeRequest(public_key=self._public_key, heartbeat_interval=HEARTBEAT_S)
            )
        self._node = Node(node_id=response.node_id)

    def heartbeat(self) -> None:
        """Tell the coordinator that this node lives; due every HEARTBEAT_S seconds at the latest."""
        with _translated():
            self._client.SendNodeHeartbeat(
                SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_S)
            )

    def receive(self) -> Message | None:
        """The next instruction with its content, or None when there is none."""
        with _translated():
            response = self._client.PullMessages(PullMessagesRequest(node=self._node))
            if not response.messages_list:
                return None
            header = message_from_proto(response.messages_list[0])
            object_ids = [tree.object_id for tree in iterate_object_tree(response.message_object_trees[0])]
            if len(object_ids) > MAXIMUM_OBJECTS:
                raise InvalidMessage(
                    f"An instruction may have {MAXIMUM_OBJECTS} parts, this one has {len(object_ids)}. "
                    "It was not read."
                )
            run_id = header.metadata.run_id
            contents = {i: self._pull_object(run_id, i) for i in object_ids}
            self._client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(
                    node=self._node, run_id=run_id, message_object_id=header.metadata.message_id
                )
            )
        try:
            message = inflate_object_from_contents(header.metadata.message_id, contents)
        except Exception as error:  # Flower's classes raise whatever they meet in bytes that do not fit
            raise InvalidMessage("An instruction could not be put together. It was not read.") from error
        if not isinstance(message, Message):
            raise InvalidMessage("An instruction was not a message. It was not read.")
        message.metadata.__dict__["_message_id"] = header.metadata.message_id
        return message

    def send(self, reply: Message) -> None:
        """Push `reply` and its objects."""
        with _translated(), no_object_id_recompute():
            run_id = reply.metadata.run_id
            reply.metadata.__dict__["_message_id"] = reply.object_id
            objects = get_all_nested_objects(reply)
            header = message_to_proto(remove_content_from_message(reply))
            response = self._client.PushMessages(
                PushMessagesRequest(
                    node=self._node,
                    messages_list=[header],
                    message_object_trees=[get_object_tree(reply)],
                    clientapp_runtime_list=[0.0],
                )
            )
            for object_id in response.objects_to_push:
                self._client.PushObject(
                    PushObjectRequest(
                        node=self._node,
                        run_id=run_id,
                        session_id=response.session_id,
                        object_id=object_id,
                        object_content=objects[object_id].deflate(),
                    )
                )

    def close(self) -> None:
        """Say goodbye, so that this node's key is let in again at once."""
        if self._node is not None:
            # The coordinator may be gone; it notices by itself.
            with contextlib.suppress(httpx.HTTPError, RuntimeError):
                self._client.DeactivateNode(DeactivateNodeRequest(node_id=self._node.node_id))
            self._node = None
        self._client.close()

    def _pull_object(self, run_id: int, object_id: str) -> bytes:
        response = self._client.PullObject(
            PullObjectRequest(node=self._node, run_id=run_id, object_id=object_id)
        )
        if not response.object_available or len(response.object_content) > MAXIMUM_BODY_BYTES:
            raise InvalidMessage("A part of an instruction is missing or too large. It was not read.")
        return bytes(response.object_content)


class _translated:
    """Turns the carrier's HTTP failures into errors of our tree."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx.HTTPStatusError):
            status = error.response.status_code
            if status in (401, 403):
                raise Revoked(
                    "The coordinator does not let this node in. No message was read. If this member is not "
                    "suspended or revoked, check this machine's clock."
                ) from error
            raise Unreachable(
                f"The coordinator's engine answered with status {status}. No message was read. The node keeps trying."
            ) from error
        if isinstance(error, httpx.TransportError):
            raise Unreachable(
                "The coordinator did not answer. Nothing was lost; the node keeps trying."
            ) from error
