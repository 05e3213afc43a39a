"""Weights and contributions beside Flower: streamed over the same TLS server against one-time tickets.

A ticket is 256 random bits that reach one member inside its own authenticated Flower message. It names one
member, one direction and one expected size; it dies with its round. Uploads are staged in a file and only
become visible to the round when they are complete, so a cut upload can never reach a sum.
"""

from __future__ import annotations

import errno
import secrets
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.requests import ClientDisconnect

from shared.domain.errors import InvalidMessage, NotAllowed, OutOfSpace
from shared.wire.rounds import CONTRIBUTION_PATH, TICKET_HEADER, WEIGHTS_PATH

BLOCK_BYTES = 1 << 17
"""What one download holds in memory, about three times over (file, TLS, socket), whatever the model's size."""


@dataclass
class _Ticket:
    member_id: str
    path: Path
    size_bytes: int
    upload: bool
    in_use: bool = False
    complete: bool = False


class BulkTransfers:
    """The tickets of the open round and the staging folder; thread-safe."""

    def __init__(self, staging: Path) -> None:
        self._staging = staging
        self._tickets: dict[str, _Ticket] = {}
        self._lock = threading.Lock()
        self.bytes_down = 0
        self.bytes_up = 0
        self._discard_leftovers()

    def offer(self, member_id: str, path: Path) -> str:
        """A ticket with which `member_id` may fetch the file at `path`, as often as its line breaks."""
        return self._issue(_Ticket(member_id, path, path.stat().st_size, upload=False))

    def expect(self, member_id: str, size_bytes: int) -> str:
        """A ticket with which `member_id` may send exactly `size_bytes` bytes, once."""
        self._staging.mkdir(parents=True, exist_ok=True)
        path = self._staging / secrets.token_hex(16)
        return self._issue(_Ticket(member_id, path, size_bytes, upload=True))

    def void(self, member_id: str) -> None:
        """Take back a member's tickets and delete what it staged: it is asked again, or never again."""
        with self._lock:
            theirs = {name: ticket for name, ticket in self._tickets.items() if ticket.member_id == member_id}
            for name, ticket in theirs.items():
                del self._tickets[name]
                if ticket.upload:
                    ticket.path.unlink(missing_ok=True)

    def staged(self, ticket: str) -> Path | None:
        """The complete upload of `ticket`, or None when there is none (yet)."""
        with self._lock:
            found = self._tickets.get(ticket)
            return found.path if found is not None and found.upload and found.complete else None

    def close_round(self) -> None:
        """Void all tickets and delete what was staged."""
        with self._lock:
            self._tickets.clear()
            self.bytes_down = self.bytes_up = 0
        self._discard_leftovers()

    def begin_download(self, ticket: str) -> tuple[Path, int]:
        """The file and size that `ticket` gives. Raises NotAllowed."""
        with self._lock:
            found = self._tickets.get(ticket)
            if found is None or found.upload:
                raise NotAllowed(_REFUSAL)
            return found.path, found.size_bytes

    def begin_upload(self, ticket: str, size_bytes: int | None) -> Path:
        """Reserve `ticket` for one upload of `size_bytes`. Raises NotAllowed, InvalidMessage."""
        with self._lock:
            found = self._tickets.get(ticket)
            if found is None or not found.upload or found.complete or found.in_use:
                raise NotAllowed(_REFUSAL)
            if size_bytes != found.size_bytes:
                raise InvalidMessage(
                    f"This contribution must have {found.size_bytes} bytes, the request announces "
                    f"{size_bytes}. Nothing was stored. Check that both sides run the same plan."
                )
            found.in_use = True
            return found.path

    def expected_bytes(self, ticket: str) -> int:
        """Exactly how many bytes `ticket` stands for; 0 once its round is over."""
        with self._lock:
            found = self._tickets.get(ticket)
            return found.size_bytes if found is not None else 0

    def end_upload(self, ticket: str, received_bytes: int) -> bool:
        """Mark the upload complete if all bytes came; otherwise free the ticket for another try."""
        with self._lock:
            found = self._tickets.get(ticket)
            if found is None:
                return False
            found.in_use = False
            found.complete = received_bytes == found.size_bytes
            self.bytes_up += received_bytes
            return found.complete

    def count_download(self, size_bytes: int) -> None:
        """Add to the bytes sent in this round."""
        with self._lock:
            self.bytes_down += size_bytes

    def _issue(self, ticket: _Ticket) -> str:
        name = secrets.token_urlsafe(32)
        with self._lock:
            self._tickets[name] = ticket
        return name

    def _discard_leftovers(self) -> None:
        if self._staging.is_dir():
            for leftover in self._staging.iterdir():
                leftover.unlink(missing_ok=True)


_REFUSAL = (
    "This ticket is not valid for this transfer: it is unknown, spent, or its round is over. "
    "Nothing was sent or stored. Wait for the next round's message."
)


def bulk_routes(transfers: BulkTransfers) -> APIRouter:
    """The two routes of bulk transfer."""
    router = APIRouter()

    @router.get(WEIGHTS_PATH)
    def fetch_weights(request: Request) -> Response:
        """The weights that a round starts from, for a member's node with a ticket."""
        path, size_bytes = transfers.begin_download(request.headers.get(TICKET_HEADER, ""))
        transfers.count_download(size_bytes)
        return StreamingResponse(
            _blocks(path),
            media_type="application/octet-stream",
            headers={"content-length": str(size_bytes)},
        )

    @router.put(CONTRIBUTION_PATH, status_code=204)
    async def send_contribution(request: Request) -> Response:
        """What a member's node contributes to a round: exactly as many bytes as its ticket says."""
        ticket = request.headers.get(TICKET_HEADER, "")
        path = transfers.begin_upload(ticket, _announced_length(request))
        received = 0
        try:
            received = await _stage(path, request.stream(), transfers.expected_bytes(ticket))
        except ClientDisconnect:
            pass  # a cut upload is simply not complete; the same ticket may try again
        finally:
            complete = transfers.end_upload(ticket, received)
        return Response(status_code=204 if complete else 400)

    return router


def _announced_length(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    # Read on the event loop: the file was written a moment ago, and a thread for each block costs more.
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


async def _stage(path: Path, chunks: AsyncIterator[bytes], most_bytes: int) -> int:
    """Bytes received; what comes after `most_bytes` is not stored and ends the reading."""
    received = 0
    try:
        with path.open("wb") as file:
            async for chunk in chunks:
                received += len(chunk)
                if received > most_bytes:
                    break
                file.write(chunk)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(
                "The coordinator's disk is full. The contribution was not stored. "
                "Send it again once the coordinator's operator has freed some space."
            ) from error
        raise
    return received
