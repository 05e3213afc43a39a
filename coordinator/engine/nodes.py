"""Node keys in Flower's link state: registered at enrolment, unregistered at revocation, at run time."""

from __future__ import annotations

import threading

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.constant import NodeStatus
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from coordinator.engine.doorbell import Doorbell
from shared.domain.errors import InvalidMessage


class FlowerNodes:
    """Which member has which Flower node. Implements coordinator/members/node_directory.py."""

    def __init__(self, state: LinkState) -> None:
        self._state = state
        self.doorbell = Doorbell()
        self._node_ids: dict[str, int] = {}
        self._suspended: set[int] = set()
        self._restarted: set[str] = set()
        self._lock = threading.Lock()

    def register(self, member_id: str, node_public_key_pem: str) -> None:
        """Let the node with this key in. Raises InvalidMessage for anything but an EC public key."""
        try:
            key = load_pem_public_key(node_public_key_pem.encode("ascii"))
        except (ValueError, UnicodeEncodeError) as error:
            raise InvalidMessage("The node key is not a PEM public key. It was not registered.") from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InvalidMessage("The node key must be an EC public key. It was not registered.")
        key_bytes = public_key_to_bytes(key)
        with self._lock:
            node_id = self._state.get_node_id_by_public_key(key_bytes)
            if node_id is None:
                node_id = self._state.create_node(
                    NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key_bytes, 30.0, name=member_id
                )
            self._node_ids[member_id] = node_id
            self._suspended.discard(node_id)

    def suspend(self, member_id: str) -> None:
        """Shut the node out until `register` lets it in again: its next request gets a 401."""
        self.free_node(member_id)
        with self._lock:
            node_id = self._node_ids.pop(member_id, None)
            if node_id is not None:
                self._suspended.add(node_id)
                self.doorbell.ring(node_id)

    def unregister(self, member_id: str) -> None:
        """Shut the node out for ever: in Flower an unregistered key can never come back."""
        with self._lock:
            node_id = self._node_ids.pop(member_id, None)
            if node_id is not None:
                self._state.delete_node(NOOP_FLWR_AID, node_id)
                self.doorbell.ring(node_id)

    def may_speak(self, node_id: int | None) -> bool:
        """False for a suspended node."""
        with self._lock:
            return node_id not in self._suspended

    def free_node(self, member_id: str) -> None:
        """Mark the member's old connection as gone, so that its restarted node is let in at once.

        Without this Flower refuses the same key for up to a minute, until heartbeats have lapsed.
        """
        with self._lock:
            # First, so that nobody sees the node gone without being able to know why.
            self._restarted.add(member_id)
        node_id = self.node_id(member_id)
        if node_id is not None:
            self._state.deactivate_node(node_id)

    def take_restarted(self) -> frozenset[str]:
        """Members whose nodes started afresh since the last call: what they were sent before is lost."""
        with self._lock:
            restarted = frozenset(self._restarted)
            self._restarted.clear()
        return restarted

    def node_id(self, member_id: str) -> int | None:
        """Flower's number for the member's node, or None."""
        with self._lock:
            return self._node_ids.get(member_id)

    def node_of_key(self, key_bytes: bytes) -> int | None:
        """Flower's number for the node with this public key, or None."""
        return self._state.get_node_id_by_public_key(key_bytes)

    def online(self) -> frozenset[str]:
        """Members whose nodes are connected now."""
        with self._lock:
            known = dict(self._node_ids)
        infos = self._state.get_node_info(node_ids=list(known.values()), statuses=[NodeStatus.ONLINE])
        online = {info.node_id for info in infos}
        return frozenset(member for member, node_id in known.items() if node_id in online)
