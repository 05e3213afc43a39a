"""What membership needs of whatever carries messages to nodes: Flower in production, memory in tests."""

from __future__ import annotations

from typing import Protocol


class NodeDirectory(Protocol):
    """Which node keys may speak to the carrier. Every call takes effect before it returns."""

    def register(self, member_id: str, node_public_key_pem: str) -> None:
        """Let the node with this key in, a suspended one again too. Doing it twice is doing it once."""
        ...

    def suspend(self, member_id: str) -> None:
        """Shut the node out until `register`; its key stays good."""
        ...

    def unregister(self, member_id: str) -> None:
        """Shut the node out for ever; its key may never come back. Nothing happens for an unknown member."""
        ...

    def free_node(self, member_id: str) -> None:
        """Forget the node's old connection, so that a restarted node is let in at once."""
        ...

    def online(self) -> frozenset[str]:
        """Members whose nodes are connected now."""
        ...
