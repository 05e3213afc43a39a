"""Somebody who is signed in opens live pages without end, each under another address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from coordinator.dashboard import live
from coordinator.dashboard.pulse import Pulse
from coordinator.dashboard.sessions import COOKIE
from coordinator.members import open_streams
from coordinator.members.open_streams import MOST_STREAMS
from shared.domain.errors import NotFound
from tests.dashboard_kit import Board, board
from tests.runs_kit import RunBoard, runs

assert board and runs  # the fixtures


def opened(
    app: Any, path: str, queries: list[str], headers: dict[str, str], seen: Callable[[], int]
) -> tuple[list[int], int]:
    """Statuses of streams that are all opened at once and held, and what `seen` gives while they are."""

    async def one(query: str, statuses: list[int]) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "https",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"desk"), *((k.encode(), v.encode()) for k, v in headers.items())],
            "client": ("192.0.2.1", 1),
            "server": ("desk", 443),
        }

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await app(scope, receive, send)

    async def every() -> tuple[list[int], int]:
        statuses: list[int] = []
        tasks = []
        for query in queries:
            tasks.append(asyncio.create_task(one(query, statuses)))
            while len(statuses) < len(tasks):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        found = seen()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.05)
        return statuses, found

    return asyncio.run(every())


def cookie(value: str) -> dict[str, str]:
    return {"cookie": f"{COOKIE}={value}"}


def test_addresses_that_say_the_same_are_drawn_once(board: Board) -> None:
    session = cookie(board.member_browser().cookies[COOKIE])
    queries = [f"x={n}" for n in range(10)]
    statuses, channels = opened(
        board.coordinator.asgi, "/live", queries, session, lambda: len(live._CHANNELS)
    )
    assert statuses == [200] * 10 and channels == 1
    assert not live._CHANNELS and not open_streams._OPEN


def test_a_page_that_shows_something_else_is_drawn_by_itself(runs: RunBoard) -> None:
    run = runs.sim.drive(runs.sim.start(runs.sim.plan(rounds=1)))
    session = cookie(runs.browser("Otto").cookies[COOKIE])
    statuses, channels = opened(
        runs.board.coordinator.asgi,
        f"/runs/{run.id}/live",
        ["", "from=1", "from=1&x=2", "from=01", "to=1"],
        session,
        lambda: len(live._CHANNELS),
    )
    assert statuses == [200] * 5 and channels == 3


@pytest.mark.parametrize("path", ["/live", "/api/v1/runs/{run}/events/stream"])
def test_a_token_has_only_so_many_streams_open(runs: RunBoard, path: str) -> None:
    run = runs.sim.drive(runs.sim.start(runs.sim.plan(rounds=1)))
    app = runs.board.coordinator.asgi
    mine = cookie(runs.member_browser().cookies[COOKIE])
    others = cookie(runs.member_browser(1).cookies[COOKIE])
    if path != "/live":
        mine, others = ({"authorization": f"Bearer {runs.token(number)}"} for number in (0, 1))
    where = path.format(run=run.id)
    statuses, held = opened(
        app, where, [""] * (MOST_STREAMS + 5), mine, lambda: max(open_streams._OPEN.values())
    )
    assert statuses == [200] * MOST_STREAMS + [429] * 5 and held == MOST_STREAMS
    assert not open_streams._OPEN, "those that were closed count no more"
    assert opened(app, where, [""], mine, lambda: 0)[0] == [200]
    assert opened(app, where, [""], others, lambda: 0)[0] == [200]


def test_of_many_that_come_at_the_same_moment_no_more_are_held(board: Board) -> None:
    async def pieces() -> Any:
        while True:
            yield b""
            await asyncio.sleep(0.01)

    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    async def every() -> int:
        found = [open_streams.limited("tok_1", pieces()) for _ in range(100)]
        tasks = [asyncio.create_task(read(each)) for each in found]
        await asyncio.sleep(0.1)
        held = open_streams._OPEN["tok_1"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return held

    assert asyncio.run(every()) == MOST_STREAMS and not open_streams._OPEN


@pytest.mark.parametrize("watchers", [1, 10, 50, 100, 200, 1000])
def test_a_page_is_written_no_more_often_the_more_look_at_it(
    watchers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise NotFound("There is no such run. Nothing was shown. Look at the list.")

    async def look() -> None:
        pulse = Pulse(sa.create_engine("sqlite://"))
        channel = live.Channel(None, None, lambda request, viewer: {}, pulse)  # type: ignore[arg-type]
        channel.watchers = watchers
        monkeypatch.setattr(asyncio, "sleep", noted)
        monkeypatch.setattr(pulse, "wait", lambda *_: noted(0.0))
        await channel.run()

    asyncio.run(look())
    assert live.LEAST_PAUSE_S <= pauses[0] <= live.LONGEST_PAUSE_S
    assert watchers / pauses[0] <= live.FRAMES_A_SECOND or pauses[0] == live.LONGEST_PAUSE_S
    assert watchers > live.FRAMES_A_SECOND or pauses[0] == live.LEAST_PAUSE_S
