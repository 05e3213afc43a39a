"""Rounds over Flower: instructions into the link state, signed replies out of it, one at a time.

Works on the link state in this process: no server-app process, no bundle, no polling over HTTP. The call
sequence matters (a message stored before its objects makes a fast member back off), so it is kept in one
place: `_post` for instructions and `_collect` for replies.

Flower delivers an instruction once. A node that restarts in the middle of a round is therefore asked again,
with fresh tickets; what it sealed before its crash it sends as it is (clause 3.8).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from flwr.app import ConfigRecord, Message, Metadata, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode, Status, SubStatus
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.date import now as flower_now
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from coordinator.engine.bulk import BulkTransfers
from coordinator.engine.nodes import FlowerNodes
from coordinator.runs.carrier import Received, RoundAsk, StepAsk
from shared.domain.errors import Broken, CommonlensError
from shared.wire.rounds import RoundReply, decode_reply, encode

MESSAGE_TYPE = "train.commonlens"
BODY_RECORD = "commonlens"
LOOK_AGAIN_S = 0.01
TASK_HEARTBEAT_S = 15.0
COME_BACK_S = 10.0
"""How long a round waits for a node that went away to come back, before its member counts as missing."""

log = logging.getLogger("commonlens.engine")


class FlowerCarrier:
    """The `Carrier` of production. One instance per coordinator; one round open at a time."""

    def __init__(self, state: LinkState, nodes: FlowerNodes, bulk: BulkTransfers) -> None:
        self._state = state
        self._nodes = nodes
        self._bulk = bulk
        self._flower_run_id = 0
        self._task_id = 0
        self._last_heartbeat = 0.0
        self._open: tuple[RoundAsk | StepAsk, Path | None] | None = None
        """The open exchange's instruction and, where it has them, weights."""
        self._asked: dict[str, tuple[str, str]] = {}
        """Flower message id → (member id, contribution ticket) of every unanswered instruction."""
        self._arriving: dict[str, tuple[Message, str, str]] = {}
        """Reply id → (reply, member id, ticket): announced, its objects perhaps still on their way."""
        self._gone: dict[str, float] = {}
        """Member id → until when its node, which went away, may come back and be asked again."""
        self._guard = threading.Lock()

    def online(self) -> frozenset[str]:
        """Members whose nodes are connected now."""
        return self._nodes.online()

    def ask(self, ask: RoundAsk | StepAsk, cohort: Sequence[str], weights: Path | None) -> None:
        """Send the exchange's instruction to each member of `cohort`."""
        self._keep_run_alive()
        self._open = (ask, weights)
        self._nodes.take_restarted()
        for member_id in cohort:
            self._ask_member(member_id)

    def next_answer(self, timeout_s: float) -> Received | None:
        """The next answer, or None after `timeout_s` seconds without one."""
        give_up = time.monotonic() + timeout_s
        while True:
            self._keep_run_alive()
            # In this order: whoever is noticed as gone because it restarts is asked again only once.
            self._notice_replies()
            self._withdraw_from_restarted()
            missing = self._ask_returned()
            if missing is not None:
                return missing
            for reply_id in list(self._arriving):
                received = self._collect(reply_id)
                if received is not None:
                    return received
            if time.monotonic() >= give_up:
                return None
            time.sleep(LOOK_AGAIN_S)

    def close_exchange(self) -> None:
        """Forget unanswered instructions, void tickets, delete staged payloads."""
        self._state.delete_messages(set(self._asked) | set(self._answered_instructions()))
        self._open = None
        self._asked.clear()
        self._arriving.clear()
        self._gone.clear()
        if self._flower_run_id:
            self._state.delete_sessions_in_run(self._flower_run_id)
        self._bulk.close_round()

    def stop(self) -> None:
        """End the Flower run; for the coordinator's shutdown."""
        if self._flower_run_id:
            self._state.finish_task(self._task_id, SubStatus.COMPLETED, "")
            self._flower_run_id = 0

    def _answered_instructions(self) -> list[str]:
        return [reply.metadata.reply_to_message_id for reply, _, _ in self._arriving.values()]

    def _ask_member(self, member_id: str) -> None:
        """The open exchange's instruction, with tickets of its own, to one member; older ones are void."""
        self._bulk.void(member_id)
        node_id = self._nodes.node_id(member_id)
        if self._open is None or node_id is None:
            self._gone[member_id] = time.monotonic()
            return
        ask, weights = self._open
        if isinstance(ask, StepAsk):
            message_id = self._post(encode(ask.requests[member_id]), node_id, ask)
            self._asked[message_id] = (member_id, "")
            return
        if weights is None:
            raise Broken("A round was asked for without weights. Nothing was sent.")
        upload = self._bulk.expect(member_id, ask.contribution_bytes)
        download = self._bulk.offer(member_id, weights)
        request = ask.request(member_id, weights.stat().st_size, download, upload)
        message_id = self._post(encode(request), node_id, ask)
        self._asked[message_id] = (member_id, upload)

    def _post(self, body: bytes, node_id: int, ask: RoundAsk | StepAsk) -> str:
        content = RecordDict({BODY_RECORD: ConfigRecord({"body": body})})
        message = make_message(
            Metadata(  # made by hand, because Message() would read process-wide names
                run_id=self._flower_run_id,
                message_id="",
                src_node_id=SUPERLINK_NODE_ID,
                dst_node_id=node_id,
                reply_to_message_id="",
                group_id=str(ask.round_number),
                created_at=flower_now().timestamp(),
                ttl=ask.deadline_s + 60.0,  # the default of 12 h would outlive the round by far
                message_type=MESSAGE_TYPE,
            ),
            content,
        )
        with no_object_id_recompute():
            message_id = message.object_id
            message.metadata.__dict__["_message_id"] = message_id
            tree = get_object_tree(message)
            session = self._state.start_session(self._flower_run_id)
            missing = set(self._state.preregister_object_tree(tree, session))
            for object_id, item in get_all_nested_objects(message).items():
                if object_id in missing:
                    self._state.store_object(self._flower_run_id, session, object_id, item.deflate())
        # Last, so that a member that sees the message finds its objects; they carry the content.
        if self._state.store_message_ins(remove_content_from_message(message)) is None:
            raise Broken("The engine did not take a round's instruction. The round was not started.")
        self._nodes.doorbell.ring(node_id)
        return message_id

    def _notice_replies(self) -> None:
        if not self._asked:
            return
        for reply in self._state.get_message_res(set(self._asked), self._flower_run_id):
            member_id, ticket = self._asked.pop(reply.metadata.reply_to_message_id)
            if reply.has_error() and reply.error.code == ErrorCode.NODE_UNAVAILABLE:
                self._forget(reply)
                self._gone[member_id] = time.monotonic() + COME_BACK_S
            else:
                self._arriving[reply.metadata.message_id] = (reply, member_id, ticket)

    def _withdraw_from_restarted(self) -> None:
        """Take back what a node was sent before it restarted: that process is gone, and its answer with it."""
        restarted = self._nodes.take_restarted()
        if not restarted:
            return
        give_up = time.monotonic() + COME_BACK_S
        for message_id, (member_id, _) in list(self._asked.items()):
            if member_id in restarted:
                del self._asked[message_id]
                self._state.delete_messages({message_id})
                self._state.object_store.delete(message_id)
                self._gone[member_id] = give_up
        for reply, member_id, _ in list(self._arriving.values()):
            if member_id in restarted:
                self._forget(reply)
                self._gone[member_id] = give_up

    def _ask_returned(self) -> Received | None:
        """Ask nodes that came back again; a member whose node did not, as missing."""
        online = self._nodes.online() if self._gone else frozenset()
        for member_id, give_up in list(self._gone.items()):
            if member_id in online:
                del self._gone[member_id]
                self._ask_member(member_id)
            elif self._nodes.node_id(member_id) is None or time.monotonic() > give_up:
                del self._gone[member_id]
                return Received(member_id, None, None, error="its node went away before it answered")
        return None

    def _collect(self, reply_id: str) -> Received | None:
        """The reply as `Received` once all its objects are here; None while they are on their way."""
        reply, member_id, ticket = self._arriving[reply_id]
        if reply.has_error():
            self._forget(reply)
            return Received(member_id, None, None, error="its node could not answer")
        try:
            answer = self._read(reply_id)
        except CommonlensError as error:
            self._forget(reply)
            return Received(member_id, None, None, error=error.message)
        except Exception:
            # Flower's classes raise whatever they meet in bytes that a member made up; a round must survive.
            log.warning("a reply of %s could not be read", member_id)
            self._forget(reply)
            return Received(member_id, None, None, error="sent nothing that could be read")
        if answer is None:
            return None
        self._forget(reply)
        return Received(member_id, answer, self._bulk.staged(ticket))

    def _read(self, reply_id: str) -> RoundReply | None:
        """The decoded reply, or None while some of its objects are on their way."""
        object_ids = [
            node.object_id for node in iterate_object_tree(self._state.object_store.get_object_tree(reply_id))
        ]
        contents = {i: self._state.get_object(self._flower_run_id, i) for i in object_ids}
        if any(not content for content in contents.values()):
            return None
        present = {i: content for i, content in contents.items() if content}
        return _body_of(inflate_object_from_contents(reply_id, present))

    def _forget(self, reply: Message) -> None:
        """Drop a reply, its instruction and their objects, so that memory does not grow by the round."""
        self._arriving.pop(reply.metadata.message_id, None)
        self._state.delete_messages({reply.metadata.reply_to_message_id})
        for message_id in (reply.metadata.message_id, reply.metadata.reply_to_message_id):
            self._state.object_store.delete(message_id)

    def _keep_run_alive(self) -> None:
        """Make sure that there is a running Flower run, and beat its task's heart."""
        with self._guard:
            if not self._flower_run_id:
                self._start_flower_run()
            elif time.monotonic() - self._last_heartbeat > TASK_HEARTBEAT_S:
                if not self._state.acknowledge_task_heartbeat(self._task_id):
                    self._start_flower_run()
                self._last_heartbeat = time.monotonic()

    def _start_flower_run(self) -> None:
        run_id = self._state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, None, TaskType.SERVER_APP
        )
        runs = self._state.get_run_info(run_ids=[run_id])
        task_id = runs[0].primary_task_id if runs else None
        if task_id is None or self._state.claim_task(task_id) is None:
            raise Broken("The engine did not start. No round was opened.")
        if not self._state.activate_task(task_id):
            raise Broken("The engine did not become active. No round was opened.")
        status = self._state.get_run_status({run_id})[run_id].status
        if status != Status.RUNNING:
            raise Broken(f"The engine's run is {status}, expected {Status.RUNNING}. No round was opened.")
        self._flower_run_id, self._task_id = run_id, task_id
        self._last_heartbeat = time.monotonic()


def _body_of(message: object) -> RoundReply:
    """Our JSON body out of a Flower message. Raises InvalidMessage."""
    body = message.content[BODY_RECORD]["body"] if isinstance(message, Message) else b""
    return decode_reply(body if isinstance(body, bytes) else b"")
