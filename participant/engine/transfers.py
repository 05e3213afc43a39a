"""Weights in and contributions out, beside Flower, on the same TLS server with one-time tickets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx

from shared.domain.canonical import digest_of_bytes
from shared.domain.errors import DigestMismatch, InvalidMessage, Unreachable
from shared.wire.problems import raise_for_problem
from shared.wire.rounds import CONTRIBUTION_PATH, TICKET_HEADER, WEIGHTS_PATH

BLOCK_BYTES = 1 << 20
TRIES = 3


class HttpTransfers:
    """Bulk transfer over one persistent HTTPS client that trusts only the consortium's CA."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def fetch_weights(self, ticket: str, size_bytes: int, digest: str) -> bytes:
        """The round's weights, little-endian float32.

        Raises InvalidMessage when more or fewer bytes come than promised, DigestMismatch when they are not
        the ones the instruction named, Unreachable when the line breaks TRIES times.
        """
        for attempt in range(TRIES):
            try:
                data = self._download(ticket, size_bytes)
                break
            except httpx.TransportError as error:
                if attempt + 1 == TRIES:
                    raise Unreachable(_broken_line("weights", "Nothing was charged.")) from error
        if len(data) != size_bytes:
            raise InvalidMessage(
                f"The round's weights must have {size_bytes} bytes, {len(data)} came. Nothing was trained."
            )
        found = digest_of_bytes(data)
        if found != digest:
            raise DigestMismatch(
                f"The round's weights must have digest {digest}, those that came have {found}. "
                "Nothing was trained. Tell the consortium's admin."
            )
        return data

    def send_contribution(self, ticket: str, payload: Path) -> None:
        """Send the sealed payload; the same bytes again when the line breaks (clause 3.8)."""
        size_bytes = payload.stat().st_size
        for attempt in range(TRIES):
            try:
                response = self._client.put(
                    CONTRIBUTION_PATH,
                    content=_blocks(payload),
                    headers={TICKET_HEADER: ticket, "content-length": str(size_bytes)},
                )
                raise_for_problem(response)
                return
            except httpx.TransportError as error:
                if attempt + 1 == TRIES:
                    raise Unreachable(
                        _broken_line("contribution", "It stays in the outbox and is sent when asked again.")
                    ) from error

    def _download(self, ticket: str, size_bytes: int) -> bytes:
        received: list[bytes] = []
        received_bytes = 0
        with self._client.stream("GET", WEIGHTS_PATH, headers={TICKET_HEADER: ticket}) as response:
            if response.is_error:
                response.read()
                raise_for_problem(response)
            # As they come off the line, joined once: buffering them into blocks took longer than the line.
            for chunk in response.iter_bytes():
                received.append(chunk)
                received_bytes += len(chunk)
                if received_bytes > size_bytes:
                    break
        return b"".join(received)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _broken_line(what: str, consequence: str) -> str:
    return f"The connection broke {TRIES} times while the round's {what} crossed. {consequence}"
