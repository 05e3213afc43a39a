"""A dashboard's coordinator whose runs are driven by the simulator, on the same database: pages while rounds close."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from coordinator.dashboard.sessions import COOKIE
from coordinator.members.tokens import TokenKind, TokenUse, issue_token
from coordinator.runs.store import RunRow
from coordinator.storage.database import writing
from shared.domain.clock import SystemClock
from tests.dashboard_kit import Board, Browser, open_board
from tests.desk import Desk, NodesInMemory, served
from tests.simulator import ConsortiumSimulator


@dataclass
class RunBoard:
    """A board, and four members in memory whose runs land in its database."""

    board: Board
    sim: ConsortiumSimulator

    def browser(self, name: str = "Ada") -> Browser:
        return self.board.browser(name)

    def member_browser(self, number: int = 0) -> Browser:
        """Signed in as one of the simulated members."""
        made = Browser(self.board.coordinator.asgi)
        made.cookies.set(COOKIE, self.token(number, TokenUse.SESSION))
        return made

    def token(self, number: int, use: TokenUse = TokenUse.API) -> str:
        """A simulated member's bearer token."""
        with writing(self.board.room.engine) as db:
            owner = self.sim.members[number].id
            return issue_token(db, SystemClock(), owner, TokenKind.MEMBER, 3600.0, use)[0]

    @contextmanager
    def driving(self, run: RunRow) -> Iterator[None]:
        """The run goes on beside the test, and is waited for at the end."""
        thread = threading.Thread(target=self.sim.drive, args=(run,), daemon=True)
        thread.start()
        yield
        thread.join(60)
        assert not thread.is_alive()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Behind a real server; the coordinator's own driver stays still."""

        async def only_http(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                raise RuntimeError("no lifespan here")
            await self.board.coordinator.asgi(scope, receive, send)

        with served(only_http, self.board.home) as url:
            yield url

    def follow(
        self, url: str, path: str, headers: dict[str, str], enough: Callable[[list[Any]], bool]
    ) -> list[Any]:
        """Events of a stream as (id, name, data), until they are enough."""
        context = ssl.create_default_context(cafile=str(self.board.home / "keys" / "ca.pem"))
        found: list[Any] = []
        with (
            httpx.Client(base_url=url, verify=context, timeout=30.0) as client,
            client.stream("GET", path, headers=headers) as answer,
        ):
            assert answer.status_code == 200, answer.read()
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                    continue
                if "data" in fields:
                    found.append((fields.get("id"), fields.get("event"), json.loads(fields["data"])))
                    if enough(found):
                        break
                fields = {}
        return found


@pytest.fixture
def runs(prepared_home: Path, tmp_path: Path) -> Iterator[RunBoard]:
    board = open_board(prepared_home, tmp_path / "coordinator")
    desk = Desk(
        board.home,
        SystemClock(),  # type: ignore[arg-type]
        NodesInMemory(),
        board.room,
        board.coordinator.control,
    )
    board.room.members.revoke(board.member.member_id, "operator")  # nobody answers for it here
    yield RunBoard(board, ConsortiumSimulator(desk, tmp_path / "members", (12,) * 4))
    board.coordinator.carrier.stop()
    board.coordinator.engine.dispose()
