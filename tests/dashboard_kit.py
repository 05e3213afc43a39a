"""A coordinator with people and a member, and browsers without a screen: sessions that send forms as pages do."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from coordinator.app import Coordinator, build_coordinator
from coordinator.config import Config
from coordinator.members.room import MembersRoom
from shared.domain.clock import SystemClock
from shared.domain.consortium import Purpose, Role
from shared.wire.enrolment import EnrolmentReply
from tests.desk import CHEAP_HASHER, CONSORTIUM, PASSWORD, enrolment, lay_tables

PEOPLE = {"Ada": Role.ADMIN, "Otto": Role.AUDITOR}


@dataclass
class Browser:
    """One session: cookies are kept, redirects are not followed."""

    asgi: ASGIApp
    cookies: httpx.Cookies = field(default_factory=httpx.Cookies)

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.asgi, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="https://desk", cookies=self.cookies
            ) as client:
                answer = await client.request(method, path, **arguments)
                self.cookies = client.cookies
                return answer

        return asyncio.run(send())

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, **fields: object) -> httpx.Response:
        """Send a form with the proof that the pages of this browser have."""
        data = {"proof": self.proof} | {name: str(value) for name, value in fields.items()}
        return self.request("POST", path, data=data)

    @property
    def proof(self) -> str:
        found = re.search(r'name="proof" value="([0-9a-f]{64})"', self.get("/").text)
        return found.group(1) if found else ""

    def sign_in(self, name: str, password: str = PASSWORD, next: str = "/") -> httpx.Response:
        return self.request("POST", "/sign-in", data={"name": name, "password": password, "next": next})


@dataclass
class Board:
    """A coordinator with its pages, in this process; its run driver does not run."""

    home: Path
    coordinator: Coordinator
    member: EnrolmentReply

    @property
    def room(self) -> MembersRoom:
        room: MembersRoom = self.coordinator.control.state.members
        return room

    def browser(self, name: str = "") -> Browser:
        """Signed in as one of PEOPLE, or as nobody."""
        made = Browser(self.coordinator.asgi)
        if name:
            assert made.sign_in(name).status_code == 303
        return made

    def member_browser(self) -> Browser:
        """North's operator, who came by a link of its node."""
        made = Browser(self.coordinator.asgi)
        code, _ = self.room.links.make(self.member.member_id)
        assert made.request("POST", "/sign-in/member", data={"code": code}).status_code == 303
        return made


def open_board(prepared_home: Path, home: Path, config: Config | None = None) -> Board:
    """The coordinator over a copy of `prepared_home`, with PEOPLE and the member North."""
    shutil.copytree(prepared_home, home)
    lay_tables(home)
    # Without exports: torch takes ten seconds for what its own tests look at.
    coordinator = build_coordinator(home, config or Config(CONSORTIUM, exports=False), SystemClock())
    room: MembersRoom = coordinator.control.state.members
    room.accounts._hasher = CHEAP_HASHER
    room.accounts._nobody = CHEAP_HASHER.hash(PASSWORD[::-1])
    for name, role in PEOPLE.items():
        room.accounts.create(name, role, PASSWORD, "operator")
    secret = room.invitations.invite("North", Purpose.CONTRIBUTE, "operator")[1]
    return Board(home, coordinator, room.members.enrol(enrolment(secret)))


@pytest.fixture
def board(prepared_home: Path, tmp_path: Path) -> Iterator[Board]:
    made = open_board(prepared_home, tmp_path / "coordinator")
    yield made
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


def words(response: httpx.Response) -> str:
    """What a page says, without its markup."""
    parser = _Text()
    parser.feed(response.text)
    return " ".join(" ".join(parser.pieces).split())
