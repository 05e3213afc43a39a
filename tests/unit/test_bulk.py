"""One-time tickets: one member, one direction, one size, one round; only whole uploads are ever seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from coordinator.engine.bulk import BulkTransfers, bulk_routes
from coordinator.problems import install_error_handlers
from shared.domain.errors import InvalidMessage, NotAllowed
from shared.wire.rounds import CONTRIBUTION_PATH, TICKET_HEADER, WEIGHTS_PATH

REFUSAL = "it is unknown, spent, or its round is over. Nothing was sent or stored"


@pytest.fixture
def bulk(tmp_path: Path) -> BulkTransfers:
    return BulkTransfers(tmp_path / "staging")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"the weights")
    return path


def call(bulk: BulkTransfers, method: str, path: str, **arguments: object) -> httpx.Response:
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(bulk_routes(bulk))

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="https://c") as client:
            return await client.request(method, path, **arguments)

    return asyncio.run(send())


def put(bulk: BulkTransfers, ticket: str, data: bytes) -> httpx.Response:
    return call(bulk, "PUT", CONTRIBUTION_PATH, content=data, headers={TICKET_HEADER: ticket})


def test_weights_come_for_a_ticket_as_often_as_the_line_breaks(bulk: BulkTransfers, weights: Path) -> None:
    ticket = bulk.offer("mem_1", weights)
    for _ in range(2):
        answer = call(bulk, "GET", WEIGHTS_PATH, headers={TICKET_HEADER: ticket})
        assert (answer.status_code, answer.content) == (200, b"the weights")
    assert bulk.bytes_down == 2 * len(b"the weights")


def test_upload_is_seen_once_it_is_whole(bulk: BulkTransfers) -> None:
    ticket = bulk.expect("mem_1", 4)
    assert bulk.staged(ticket) is None
    assert put(bulk, ticket, b"1234").status_code == 204
    staged = bulk.staged(ticket)
    assert staged is not None and staged.read_bytes() == b"1234"


def test_spent_ticket_takes_no_second_upload(bulk: BulkTransfers) -> None:
    ticket = bulk.expect("mem_1", 4)
    put(bulk, ticket, b"1234")
    answer = put(bulk, ticket, b"9999")
    assert (answer.status_code, answer.json()["code"]) == (403, "refused.not-allowed")
    staged = bulk.staged(ticket)
    assert staged is not None and staged.read_bytes() == b"1234"


@pytest.mark.parametrize("ticket", ["", "x", "A" * 43])
def test_unknown_ticket_gives_and_takes_nothing(bulk: BulkTransfers, ticket: str) -> None:
    assert put(bulk, ticket, b"1234").json()["detail"].count(REFUSAL) == 1
    assert call(bulk, "GET", WEIGHTS_PATH, headers={TICKET_HEADER: ticket}).status_code == 403
    assert call(bulk, "GET", WEIGHTS_PATH).status_code == 403


def test_ticket_of_one_direction_is_void_in_the_other(bulk: BulkTransfers, weights: Path) -> None:
    down, up = bulk.offer("mem_1", weights), bulk.expect("mem_1", 11)
    assert put(bulk, down, b"the weights").status_code == 403
    assert call(bulk, "GET", WEIGHTS_PATH, headers={TICKET_HEADER: up}).status_code == 403
    assert weights.read_bytes() == b"the weights"
    assert bulk.staged(down) is None


@pytest.mark.parametrize("data", [b"", b"123", b"12345", b"1" * 100_000])
def test_upload_of_another_size_is_refused_before_it_is_read(bulk: BulkTransfers, data: bytes) -> None:
    ticket = bulk.expect("mem_1", 4)
    answer = put(bulk, ticket, data)
    assert answer.status_code == 422
    assert f"must have 4 bytes, the request announces {len(data)}" in answer.json()["detail"]
    assert bulk.staged(ticket) is None
    assert put(bulk, ticket, b"1234").status_code == 204


def test_upload_without_an_announced_length_is_refused(bulk: BulkTransfers) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"1234"

    ticket = bulk.expect("mem_1", 4)
    answer = call(bulk, "PUT", CONTRIBUTION_PATH, content=chunks(), headers={TICKET_HEADER: ticket})
    assert answer.status_code == 422
    assert bulk.staged(ticket) is None


def test_body_longer_than_announced_is_not_stored_beyond_its_size(
    bulk: BulkTransfers, tmp_path: Path
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"1234"

    ticket = bulk.expect("mem_1", 4)
    headers = {TICKET_HEADER: ticket, "content-length": "4"}
    answer = call(bulk, "PUT", CONTRIBUTION_PATH, content=chunks(), headers=headers)
    assert answer.status_code == 400
    assert bulk.staged(ticket) is None
    assert sum(path.stat().st_size for path in (tmp_path / "staging").iterdir()) <= 4


def test_cut_upload_is_not_seen_and_may_be_tried_again(bulk: BulkTransfers) -> None:
    ticket = bulk.expect("mem_1", 4)
    path = bulk.begin_upload(ticket, 4)
    path.write_bytes(b"12")
    assert bulk.end_upload(ticket, 2) is False
    assert bulk.staged(ticket) is None
    assert put(bulk, ticket, b"1234").status_code == 204


def test_two_uploads_at_once_cannot_mix_under_one_ticket(bulk: BulkTransfers) -> None:
    ticket = bulk.expect("mem_1", 4)
    bulk.begin_upload(ticket, 4)
    with pytest.raises(NotAllowed, match="Nothing was sent or stored"):
        bulk.begin_upload(ticket, 4)


def test_end_of_the_round_voids_tickets_and_deletes_what_was_staged(
    bulk: BulkTransfers, weights: Path, tmp_path: Path
) -> None:
    down, up, done = bulk.offer("mem_1", weights), bulk.expect("mem_1", 4), bulk.expect("mem_2", 4)
    put(bulk, done, b"1234")
    path = bulk.begin_upload(up, 4)
    bulk.close_round()
    assert bulk.end_upload(up, 4) is False
    for ticket in (up, done):
        assert bulk.staged(ticket) is None
        with pytest.raises(NotAllowed):
            bulk.begin_upload(ticket, 4)
    with pytest.raises(NotAllowed):
        bulk.begin_download(down)
    assert list((tmp_path / "staging").iterdir()) == []
    assert weights.exists() and not path.exists()
    assert bulk.bytes_up == bulk.bytes_down == 0


def test_tickets_are_long_and_never_alike(bulk: BulkTransfers) -> None:
    tickets = {bulk.expect("mem_1", 4) for _ in range(100)}
    assert len(tickets) == 100
    assert min(map(len, tickets)) >= 43  # 256 bits


def test_leftovers_of_a_crash_are_deleted_at_the_start(tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    (staging / "left").write_bytes(b"x")
    BulkTransfers(staging)
    assert list(staging.iterdir()) == []


def test_length_that_is_no_number_is_none(bulk: BulkTransfers) -> None:
    ticket = bulk.expect("mem_1", 4)
    with pytest.raises(InvalidMessage, match="the request announces None"):
        bulk.begin_upload(ticket, None)
