"""Attacks by number: sign-ins that take every worker thread, fill the limiter, or lock others out."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio.to_thread
import argon2
import httpx
import pytest

from coordinator.audit.log import entries
from coordinator.config import Config, Oidc
from coordinator.members import accounts, oidc_provider
from coordinator.members.member_links import CODE_PREFIX
from coordinator.members.rate_limit import MAXIMUM_KEYS, AttemptLimiter
from coordinator.storage.database import reading
from shared.domain.clock import FixedClock, SystemClock
from shared.domain.consortium import Role
from shared.domain.errors import SignInFailed, TooManyAttempts
from tests.dashboard_kit import Board, Browser, board, open_board, words
from tests.desk import CHEAP_HASHER, CONSORTIUM, PASSWORD

assert board  # the fixture
WRONG = "not the password"
SOON_S = 10.0
"""Whatever is held up here is held up for longer than this, and what is not is there long before."""
GUESSED = CODE_PREFIX + "A" * 32
AN_IMAGE = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "image", "sec-fetch-mode": "no-cors"}
A_WINDOW = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document", "sec-fetch-mode": "navigate"}


class StuckProvider:
    """Takes connections; sends nothing, or one byte of a header now and then."""

    def __init__(self, drips: bool) -> None:
        self.connections = 0
        self._drips = drips
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nx-more: ")
                while not self._over.wait(0.1):
                    if self._drips:
                        connection.sendall(b"x")
            except OSError:
                return


@contextmanager
def stuck(prepared_home: Path, home: Path, drips: bool = False) -> Iterator[tuple[Board, StuckProvider]]:
    provider = StuckProvider(drips)
    oidc = Oidc(provider.url, "x", roles={"a": Role.ADMIN})
    made = open_board(prepared_home, home, Config(CONSORTIUM, oidc=oidc))
    try:
        yield made, provider
    finally:
        provider.close()
        made.coordinator.carrier.stop()
        made.coordinator.engine.dispose()


def health_beside(
    board: Board,
    threads: int,
    requests: list[tuple[str, str, dict[str, str]]],
    under: Callable[[], bool],
    let_go: Callable[[], None],
) -> bool:
    """Whether the health page is there while these (address, path, form) hang, from `under` way until `let_go`."""

    async def one(address: str, path: str, fields: dict[str, str]) -> int:
        transport = httpx.ASGITransport(board.coordinator.asgi, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="https://desk") as client:
            answer = await (client.post(path, data=fields) if fields else client.get(path))
            return answer.status_code

    async def run() -> bool:
        anyio.to_thread.current_default_thread_limiter().total_tokens = threads
        assert await one("192.0.2.250", "/api/v1/health", {}) == 200
        under_way = [asyncio.create_task(one(*request)) for request in requests]
        while not under():
            await asyncio.sleep(0.01)
        health = asyncio.create_task(one("192.0.2.250", "/api/v1/health", {}))
        there, _ = await asyncio.wait([health], timeout=SOON_S)
        let_go()
        await asyncio.gather(*under_way)
        assert await health == 200
        return bool(there)

    return asyncio.run(run())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc_provider, "DEADLINE_S", 1.5)


# --- a provider that hangs --------------------------------------------------------------------------


def test_a_provider_that_hangs_stops_nobody_else(
    prepared_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc_provider, "DEADLINE_S", 10 * SOON_S)
    with stuck(prepared_home, tmp_path / "c") as (board, provider):
        flood: list[tuple[str, str, dict[str, str]]] = [
            (f"192.0.2.{number}", "/sign-in/oidc", {}) for number in range(12)
        ]
        assert health_beside(board, 4, flood, lambda: provider.connections > 0, provider.close)


@pytest.mark.usefixtures("short")
def test_a_provider_that_hangs_is_not_asked_again_at_everybodys_wish(
    prepared_home: Path, tmp_path: Path
) -> None:
    with stuck(prepared_home, tmp_path / "c") as (board, provider):
        for _ in range(4):
            answer = board.browser().get("/sign-in/oidc")
            assert answer.status_code == 409 and "did not answer" in words(answer)
        assert provider.connections == 1


@pytest.mark.usefixtures("short")
def test_a_provider_that_sends_a_byte_now_and_then_is_given_up_too(
    prepared_home: Path, tmp_path: Path
) -> None:
    with stuck(prepared_home, tmp_path / "c", drips=True) as (board, provider):
        before = time.monotonic()
        hang_up = threading.Timer(SOON_S, provider.close)  # where nobody gives up, the test still ends
        hang_up.start()
        assert board.browser().get("/sign-in/oidc").status_code == 409
        assert time.monotonic() - before < SOON_S
        hang_up.cancel()


def test_going_to_the_provider_is_counted_but_not_against_passwords(
    prepared_home: Path, tmp_path: Path
) -> None:
    oidc = Oidc("http://127.0.0.1:9", "x", roles={"a": Role.ADMIN})
    made = open_board(prepared_home, tmp_path / "c", Config(CONSORTIUM, oidc=oidc))
    statuses = [made.browser().get("/sign-in/oidc").status_code for _ in range(11)]
    assert statuses == [409] * 10 + [429]
    assert made.browser().sign_in("Ada").status_code == 303
    made.coordinator.carrier.stop()


# --- many sign-ins at once --------------------------------------------------------------------------


class SlowHasher(argon2.PasswordHasher):
    """Slower than the real one on any machine: it waits to be let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
        self.asked.set()
        assert self.go_on.wait(10 * SOON_S)
        return CHEAP_HASHER.verify(hash, password)


def test_sign_ins_without_end_leave_threads_for_others(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "HASH_PATIENCE_S", 10 * SOON_S)
    board.room.accounts._hasher = hasher = SlowHasher()
    form = {"password": WRONG}
    flood = [(f"2001:db8:{number:x}::1", "/sign-in", form | {"name": f"n{number}"}) for number in range(40)]
    assert health_beside(board, 16, flood, hasher.asked.is_set, hasher.go_on.set)


def test_a_sign_in_that_finds_no_place_is_told_so_and_not_counted(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coordinator.members import accounts

    monkeypatch.setattr(accounts, "_HASHES_AT_ONCE", threading.BoundedSemaphore(1))
    monkeypatch.setattr(accounts, "HASH_PATIENCE_S", 0.05)
    with accounts._HASHES_AT_ONCE:
        for _ in range(12):
            answer = board.browser().sign_in("Ada")
            assert answer.status_code == 429 and "sign in at this moment" in words(answer)
    assert board.browser().sign_in("Ada").status_code == 303


def at(board: Board, address: str, name: str) -> int:
    async def send() -> int:
        transport = httpx.ASGITransport(board.coordinator.asgi, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="https://desk") as client:
            return (await client.post("/sign-in", data={"name": name, "password": WRONG})).status_code

    return asyncio.run(send())


def test_a_network_of_addresses_is_counted_as_one(board: Board) -> None:
    found = [at(board, f"2001:db8::{number:x}:1", f"n{number}") for number in range(12)]
    assert found == [401] * 10 + [429] * 2
    assert at(board, "2001:db8:0:1::1", "n") == 401
    mapped = [at(board, f"::ffff:192.0.2.{number}", f"m{number}") for number in range(12)]
    assert mapped == [401] * 12, "these are IPv4 addresses, each another one"


# --- locking others out -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "headers"),
    [("x", {}), ("", {}), (GUESSED, AN_IMAGE), ("x", AN_IMAGE), (GUESSED, A_WINDOW)],
)
def test_another_sites_page_cannot_use_up_the_attempts_of_a_visitors_address(
    board: Board, code: str, headers: dict[str, str]
) -> None:
    for _ in range(12):
        answer = board.browser().get(f"/sign-in/member?code={code}", headers=headers)
        assert answer.status_code in (401, 403, 429)
    assert board.browser().sign_in("Ada").status_code == 303
    assert board.member_browser().get("/").status_code == 200


def test_looking_for_links_is_still_counted(board: Board) -> None:
    found = [board.browser().get(f"/sign-in/member?code={GUESSED}").status_code for _ in range(11)]
    assert found == [401] * 10 + [429]


def test_spending_links_that_do_not_exist_is_counted_with_everything_else(board: Board) -> None:
    for _ in range(10):
        answer = board.browser().request("POST", "/sign-in/member", data={"code": GUESSED})
        assert answer.status_code == 401
    assert board.browser().sign_in("Ada").status_code == 429


def test_a_good_link_inside_another_sites_page_shows_nothing(board: Board) -> None:
    code, _ = board.room.links.make(board.member.member_id)
    answer = board.browser().get(f"/sign-in/member?code={code}", headers=AN_IMAGE)
    assert answer.status_code == 403 and "North" not in words(answer)
    assert "Sign in as North" in words(board.browser().get(f"/sign-in/member?code={code}", headers=A_WINDOW))


def test_returns_that_nobody_began_are_not_counted(prepared_home: Path, tmp_path: Path) -> None:
    oidc = Oidc("http://127.0.0.1:9", "x", roles={"a": Role.ADMIN})
    made = open_board(prepared_home, tmp_path / "c", Config(CONSORTIUM, oidc=oidc))
    for _ in range(12):
        assert made.browser().get("/sign-in/oidc/return?code=x&state=y").status_code == 401
        assert made.browser().get("/sign-in/oidc", headers=AN_IMAGE).status_code == 403
    assert made.browser().get("/sign-in/oidc").status_code == 409, "it was not counted as a beginning either"
    assert made.browser().sign_in("Ada").status_code == 303
    made.coordinator.carrier.stop()


# --- the limiter's own memory -----------------------------------------------------------------------


def fail(limiter: AttemptLimiter, *keys: str) -> str:
    try:
        with limiter.attempt(*keys):
            raise SignInFailed("no")
    except TooManyAttempts:
        return "blocked"
    except SignInFailed:
        return "looked at"


@pytest.mark.parametrize("kind", ["address", "name"])
def test_a_blocked_name_stays_blocked_however_many_others_fail(kind: str) -> None:
    limiter = AttemptLimiter(FixedClock(SystemClock().now()), limit=2, window_s=60)
    for number in range(2):
        fail(limiter, f"address:a{number}", "name:Ada")
    for number in range(MAXIMUM_KEYS + 10):
        fail(limiter, f"{kind}:b{number}")
    assert fail(limiter, "address:c", "name:Ada") == "blocked"


def test_a_full_limiter_is_as_fast_as_an_empty_one() -> None:
    limiter = AttemptLimiter(FixedClock(SystemClock().now()), limit=2, window_s=60)
    for number in range(MAXIMUM_KEYS):
        fail(limiter, f"address:a{number}")
    before = time.process_time()  # what others do on the machine does not count
    for number in range(3000):
        fail(limiter, f"address:b{number}")
    assert time.process_time() - before < 1.0


def lines_about(board: Board, subject: str) -> int:
    with reading(board.room.engine) as connection:
        found = [event for event in entries(connection, limit=1000) if event.action == "sign-in.failed"]
    return sum(event.subject == subject for event in found)


def test_guesses_at_a_person_are_noted_however_many_others_failed_before(board: Board) -> None:
    attempts = board.room.sign_in_attempts
    for number in range(150):
        with pytest.raises(SignInFailed), attempts.attempt(f"192.0.2.{number}", "link"):
            raise SignInFailed("no")
    assert lines_about(board, "") == 100
    Browser(board.coordinator.asgi).sign_in("Ada", WRONG)
    Browser(board.coordinator.asgi).sign_in("Otto", WRONG)
    ada, otto = (board.room.accounts.id_of(name) for name in ("Ada", "Otto"))
    assert (lines_about(board, ada), lines_about(board, otto)) == (1, 1)


def test_guesses_at_a_person_do_not_fill_the_log(board: Board) -> None:
    ada = board.room.accounts.id_of("Ada")
    for number in range(60):
        with (
            pytest.raises((SignInFailed, TooManyAttempts)),
            board.room.sign_in_attempts.attempt(f"192.0.2.{number}", "password", "name:Ada", subject=ada),
        ):
            raise SignInFailed("no")
    assert 10 <= lines_about(board, ada) <= 20
    assert board.browser().sign_in("Otto", PASSWORD).status_code == 303
