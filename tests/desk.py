"""A coordinator's membership desk for tests: real database, keys, routes, TLS; the carrier is in memory."""

from __future__ import annotations

import asyncio
import functools
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import argon2
import httpx
import sqlalchemy as sa
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI
from starlette.types import ASGIApp

from coordinator.audit.log import entries
from coordinator.audit.routes import router as audit_router
from coordinator.config import DATABASE_FILE, Config
from coordinator.members.authority import AuthorityFiles, create_authority
from coordinator.members.room import MembersRoom, open_members
from coordinator.members.routes import router
from coordinator.problems import install_error_handlers
from coordinator.storage.database import migrate, open_database, reading
from shared.domain.clock import FixedClock, SystemClock
from shared.domain.consortium import Purpose, Role
from shared.release.signing import SigningKey
from shared.wire.enrolment import EnrolmentReply, EnrolmentRequest, sign_enrolment

CHEAP_HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "a long enough phrase"


@dataclass
class NodesInMemory:
    """The node directory of a carrier that lives in memory: who may speak now, and what was called."""

    allowed: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)

    def register(self, member_id: str, node_public_key_pem: str) -> None:
        self.calls.append(("register", member_id))
        self.allowed[member_id] = node_public_key_pem

    def suspend(self, member_id: str) -> None:
        self.calls.append(("suspend", member_id))
        self.allowed.pop(member_id, None)

    def unregister(self, member_id: str) -> None:
        self.calls.append(("unregister", member_id))
        self.allowed.pop(member_id, None)

    def free_node(self, member_id: str) -> None:
        self.calls.append(("free_node", member_id))

    def online(self) -> frozenset[str]:
        return frozenset(self.allowed)


@dataclass
class Web:
    """Requests to an application in this process, one after another."""

    app: FastAPI
    headers: dict[str, str]

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="https://desk/api/v1", headers=self.headers
            ) as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(send())

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("POST", path, **arguments)

    def delete(self, path: str) -> httpx.Response:
        return self.request("DELETE", path)


@dataclass
class Desk:
    """One coordinator's home with its services and its application."""

    home: Path
    clock: FixedClock
    nodes: NodesInMemory
    room: MembersRoom
    app: FastAPI

    @property
    def fingerprint(self) -> str:
        return self.room.authority.fingerprint()

    def client(self, token: str = "") -> Web:
        return Web(self.app, {"authorization": f"Bearer {token}"} if token else {})

    def secret(self, name: str = "North", lifetime_s: float | None = None) -> str:
        return self.room.invitations.invite(name, Purpose.CONTRIBUTE, "operator", lifetime_s)[1]

    def person(self, role: Role) -> str:
        """A token of a new account with this role."""
        self.room.accounts.create(f"the {role.value}", role, PASSWORD, "operator")
        return self.room.accounts.issue_token(f"the {role.value}", 3600, "operator")

    def member(self, name: str = "North") -> EnrolmentReply:
        return self.room.members.enrol(enrolment(self.secret(name)))

    def audit_actions(self) -> list[str]:
        with reading(self.room.engine) as connection:
            return [event.action for event in entries(connection)]


CONSORTIUM = "Testing"


def prepare_home(home: Path) -> None:
    """Keys and an empty, migrated database, as after init."""
    config = Config(CONSORTIUM)
    create_authority(home, config.consortium, config.server_names, SystemClock())
    lay_tables(home)


def lay_tables(home: Path) -> None:
    """An empty, migrated database in a coordinator's home that has none: made once, as making it takes 50 ms."""
    path = home / DATABASE_FILE
    if not path.exists():
        path.touch(0o600)
        path.write_bytes(_tables())


def open_tables(home: Path) -> sa.Engine:
    """The database of `lay_tables`, opened."""
    lay_tables(home)
    return open_database(Config(CONSORTIUM).database(home))


@functools.cache
def _tables() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        engine = open_database(f"sqlite:///{folder}/{DATABASE_FILE}")
        migrate(engine)
        engine.dispose()  # which puts everything into the one file
        return (Path(folder) / DATABASE_FILE).read_bytes()


def open_desk(home: Path, database_url: str = "") -> Desk:
    """The desk over a home that `prepare_home` made."""
    clock = FixedClock(SystemClock().now().replace(microsecond=0))
    config = Config(CONSORTIUM, database_url=database_url)
    engine = open_database(config.database(home))
    if database_url:
        migrate(engine)
    nodes = NodesInMemory()
    room = open_members(home, config, engine, clock, nodes, CHEAP_HASHER)
    app = FastAPI()
    app.state.members, app.state.engine = room, nodes
    install_error_handlers(app)
    app.include_router(router)
    app.include_router(audit_router)
    return Desk(home, clock, nodes, room, app)


def node_key_pem() -> str:
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def enrolment(
    secret: str, identity: SigningKey | None = None, node_pem: str = "", size: int = 5000
) -> EnrolmentRequest:
    """A right request with fresh keys."""
    return sign_enrolment(
        identity or SigningKey.generate(),
        secret=secret,
        node_public_key_pem=node_pem or node_key_pem(),
        device="cpu: 2 cores",
        software_version="0.1.0",
        declared_size=size,
    )


@contextmanager
def served(app: ASGIApp, home: Path) -> Iterator[str]:
    """`app` behind a real uvicorn with the TLS of `home`, on a free loopback port; gives its address."""
    from coordinator.server import TRANSPORT

    files = AuthorityFiles(home)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        ssl_certfile=str(files.server),
        ssl_keyfile=str(files.server_key),
        log_config=None,
        **TRANSPORT,
        timeout_graceful_shutdown=1,  # some clients hold their idle connection until they are collected
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    pause = threading.Event()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the test server did not start")
        pause.wait(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
