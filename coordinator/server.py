"""Start the coordinator's process: certificate renewed if due, one uvicorn server, TLS only."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn

from coordinator.app import build_coordinator
from coordinator.audit.masking import install_masking
from coordinator.config import read_config
from coordinator.engine.flower_log import tame_flower_log
from coordinator.members.authority import AuthorityFiles, renew_server_certificate
from coordinator.registry.library import StandardLibrary
from coordinator.registry.storage_move import preflight
from shared.domain.clock import SystemClock
from shared.domain.errors import Conflict

KEEP_ALIVE_S = 75
"""Longer than the slowest poll of an idle member, so that it need not open a new TLS connection each time."""

STOP_WITHIN_S = 5
"""A client that holds an idle connection and does not answer its end would delay a stop by half a minute."""

TRANSPORT: Mapping[str, Any] = {
    "proxy_headers": False,
    "access_log": False,
    "server_header": False,
    "ws": "none",
}
"""uvicorn of itself believes X-Forwarded-For from this machine: whoever is on it would be anybody at every limit.
It also loads a server of web sockets, which nothing here speaks."""

_M_ARENA_MAX = -8
"""glibc's name for the setting, from malloc.h."""


def serve(home: Path) -> None:
    """Serve until SIGTERM or SIGINT. Raises Conflict for a port in use, and what `build_coordinator` raises."""
    _share_heaps()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    install_masking()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = read_config(home)
    renew_server_certificate(home, config.server_names, SystemClock(), only_if_due=True)
    preflight(home)
    AuthorityFiles(home).trust_envelope()  # nobody could join or pull without it
    listener = _bound(config.host, config.port)
    coordinator = build_coordinator(home, config)
    tame_flower_log()
    if config.library.fill:
        library: StandardLibrary = coordinator.control.state.library
        library.fill()
    files = AuthorityFiles(home)
    server = _Server(
        uvicorn.Config(
            coordinator.asgi,
            ssl_certfile=str(files.server),
            ssl_keyfile=str(files.server_key),
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_WITHIN_S,
            log_level="warning",
            **TRANSPORT,
        )
    )
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if not server.started:
        sys.exit(3)  # the log says why


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            addresses = [f"{one.getsockname()[0]} port {one.getsockname()[1]}" for one in sockets or ()]
            logging.getLogger(__name__).info("listening on %s", ", ".join(addresses))


def _bound(host: str, port: int) -> socket.socket:
    """The address, taken before anything is begun that somebody else's use of it would end. Raises Conflict."""
    with contextlib.ExitStack() as unless_bound:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, *_, address = min(found, key=lambda one: one[0] is not socket.AF_INET)
            listener = unless_bound.enter_context(socket.socket(family))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise Conflict(
                f"The coordinator cannot listen on {host}, port {port}: {error.strerror or error}. It was not started. "
                "End what else uses the port, or set host and port in coordinator.toml."
            ) from error
        unless_bound.pop_all()
    return listener


def _share_heaps() -> None:
    """Two heaps for all threads instead of one each: memory then hardly grows with the number of members.

    Linux with glibc only; elsewhere nothing happens. Must come before the first thread.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
