"""One request to an ASGI application, as raw as an attacker sends it; an endless answer is left early."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message

from coordinator.dashboard.sessions import COOKIE, form_proof
from tests.patience import PATIENCE_S

Fields = Mapping[str, str] | list[tuple[str, str]]
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def header(self, name: str) -> str:
        """All values of a header, joined; empty where there is none."""
        wanted = name.lower().encode()
        return ", ".join(value.decode("latin-1") for key, value in self.raw_headers if key.lower() == wanted)


def knock(
    asgi: ASGIApp,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    parts: int = 1,
) -> Answer:
    """Send it; `path` may have a query. Of an event stream only the first `parts` that hold data are read."""
    return asyncio.run(
        asyncio.wait_for(_knock(asgi, method, path, dict(headers or {}), body, parts), PATIENCE_S)
    )


async def _knock(
    asgi: ASGIApp, method: str, path: str, headers: dict[str, str], body: bytes, parts: int
) -> Answer:
    plain, _, query = path.partition("?")
    sent = (
        {"host": "desk", "content-length": str(len(body))} | headers if body else {"host": "desk"} | headers
    )
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": plain,
        "raw_path": plain.encode("utf-8", "surrogateescape"),
        "query_string": query.encode("utf-8", "surrogateescape"),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent.items()],
        "client": ("192.0.2.7", 5000),
        "server": ("desk", 443),
        "state": {},
    }
    start: dict[str, Any] = {}
    pieces: list[bytes] = []
    waiting: asyncio.Queue[Message] = asyncio.Queue()
    waiting.put_nowait({"type": "http.request", "body": body, "more_body": False})
    enough = asyncio.Event()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        pieces.append(message.get("body", b""))
        endless = any(value.startswith(b"text/event-stream") for _, value in message_headers())
        if not message.get("more_body") or (endless and sum(b"data:" in piece for piece in pieces) >= parts):
            enough.set()

    def message_headers() -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = list(start.get("headers", []))
        return found

    work = asyncio.ensure_future(asgi(scope, waiting.get, send))
    done = asyncio.ensure_future(enough.wait())
    await asyncio.wait({work, done}, return_when=asyncio.FIRST_COMPLETED)
    waiting.put_nowait({"type": "http.disconnect"})
    endless = any(value.startswith(b"text/event-stream") for _, value in message_headers())
    if endless:
        work.cancel()
    done.cancel()
    await asyncio.gather(work, done, return_exceptions=True)
    if not start:
        raise AssertionError(f"{method} {path} was not answered") from (
            work.exception() if work.done() and not work.cancelled() else None
        )
    return Answer(start["status"], tuple(message_headers()), b"".join(pieces))


def session(token: str) -> dict[str, str]:
    """Headers of a browser that is signed in with it."""
    return {"cookie": f"{COOKIE}={token}"} if token else {}


def form(token: str, fields: Fields | None = None, proof: str | None = None) -> tuple[dict[str, str], bytes]:
    """Headers and body of a form from that browser; with its own proof unless another is given."""
    pairs = list(fields.items()) if isinstance(fields, Mapping) else list(fields or [])
    shown = form_proof(token) if proof is None else proof
    body = urlencode([("proof", shown), *pairs] if shown else pairs).encode()
    return {**session(token), "content-type": FORM}, body
