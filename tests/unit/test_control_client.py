"""The client of the control plane says what it knows about a request that got no answer, and no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from shared.domain.errors import Unreachable
from shared.wire.client import ControlClient
from tests.desk import Desk, served
from tests.patience import PATIENCE_S


class Slow:
    """A coordinator that answers only when it is let go."""

    def __init__(self) -> None:
        self.let_go, self.first_done, self.done = threading.Event(), threading.Event(), 0
        self.app = FastAPI()
        self.app.add_api_route("/api/v1/plans", self._answer, methods=["POST", "GET"])

    def _answer(self) -> dict[str, int]:
        self.let_go.wait(30)
        self.done += 1
        self.first_done.set()
        return {"done": self.done}


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def client(slow: Slow, desk: Desk) -> Iterator[ControlClient]:
    with served(slow.app, desk.home) as url:
        client = ControlClient(url, desk.room.authority.ca_pem())
        yield client
        slow.let_go.set()
        client.close()


def test_a_request_that_was_sent_and_not_answered_may_have_been_done(
    client: ControlClient, slow: Slow
) -> None:
    with pytest.raises(
        Unreachable, match="not known whether it did, or still does.*Look with the list"
    ) as caught:
        client.post("/plans", {}, timeout_s=0.2)
    assert "Nothing was done" not in caught.value.message
    slow.let_go.set()
    assert slow.first_done.wait(PATIENCE_S), "the first request was not done after its client had left"
    assert client.post("/plans", {})["done"] == 2


def test_a_request_that_takes_long_by_nature_is_waited_for(
    client: ControlClient, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.http, "timeout", 0.1)
    threading.Timer(0.5, slow.let_go.set).start()
    assert client.post("/plans", {}, timeout_s=30)["done"] == 1


def test_nobody_at_the_address_means_that_nothing_was_done(desk: Desk) -> None:
    client = ControlClient("https://127.0.0.1:9", desk.room.authority.ca_pem())
    with pytest.raises(Unreachable, match="did not answer. Nothing was done"):
        client.post("/plans", {})
