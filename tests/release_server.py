"""A coordinator's registry over real TLS on the loopback, for tests; it can be told to lie."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import Response

from coordinator.members.authority import AuthorityFiles
from coordinator.problems import install_error_handlers
from coordinator.registry.routes import router
from shared.domain.clock import Clock

Answer = bytes | str | int | Response | None
Told = Answer | Callable[[Mapping[str, str]], Answer]
"""A body, a status, a whole answer, or what gives one of them for a request's headers; None is the truth."""


def registry_app(home: Path, clock: Clock) -> FastAPI:
    """The registry's routes and the public trust route.

    `app.state.lies` maps a path to what is told instead; `app.state.asked` has (path, headers) of every request.
    """
    app = FastAPI()
    app.state.home, app.state.clock, app.state.lies, app.state.asked = home, clock, {}, []
    install_error_handlers(app)

    @app.middleware("http")
    async def lie(request: Request, call_next: Any) -> Response:
        app.state.asked.append((request.url.path, request.headers))
        told = app.state.lies.get(request.url.path)
        # A Response is callable too: it is an ASGI application.
        if callable(told) and not isinstance(told, Response):
            told = told(request.headers)
        if isinstance(told, Response):
            return told
        if isinstance(told, int):
            return Response(status_code=told)
        if told is not None:
            return Response(told)
        response: Response = await call_next(request)
        return response

    @app.get("/api/v1/trust")
    def trust() -> dict[str, Any]:
        files = AuthorityFiles(app.state.home)
        return {"ca_pem": files.ca_pem(), "trust": files.trust_envelope()}

    app.include_router(router)
    return app


@contextlib.contextmanager
def serving(app: FastAPI, home: Path) -> Iterator[str]:
    """Serve `app` with the server certificate in `home`; the address."""
    files = AuthorityFiles(home)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        ssl_certfile=str(files.server),
        ssl_keyfile=str(files.server_key),
        log_level="critical",
        lifespan="off",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
