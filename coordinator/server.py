"""Start the coordinator's process: certificate renewed if due, one uvicorn server, TLS only."""

from __future__ import annotations

import contextlib
import ctypes
import logging
from pathlib import Path

import uvicorn

from coordinator.app import build_coordinator
from coordinator.audit.masking import install_masking
from coordinator.config import read_config
from coordinator.members.authority import AuthorityFiles, renew_server_certificate
from coordinator.registry.library import StandardLibrary
from coordinator.registry.storage_move import preflight
from shared.domain.clock import SystemClock

KEEP_ALIVE_S = 75
"""Longer than the slowest poll of an idle member, so that it need not open a new TLS connection each time."""

STOP_WITHIN_S = 5
"""A client that holds an idle connection and does not answer its end would delay a stop by half a minute."""

_M_ARENA_MAX = -8
"""glibc's name for the setting, from malloc.h."""


def serve(home: Path) -> None:
    """Serve until SIGTERM or SIGINT. Raises what `build_coordinator` raises before anything listens."""
    _share_heaps()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    install_masking()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = read_config(home)
    renew_server_certificate(home, config.server_names, SystemClock(), only_if_due=True)
    preflight(home)
    coordinator = build_coordinator(home, config)
    if config.library.fill:
        library: StandardLibrary = coordinator.control.state.library
        library.fill()
    files = AuthorityFiles(home)
    uvicorn.run(
        coordinator.asgi,
        host=config.host,
        port=config.port,
        ssl_certfile=str(files.server),
        ssl_keyfile=str(files.server_key),
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_WITHIN_S,
        log_level="warning",
        access_log=False,
        server_header=False,
    )


def _share_heaps() -> None:
    """Two heaps for all threads instead of one each: memory then hardly grows with the number of members.

    Linux with glibc only; elsewhere nothing happens. Must come before the first thread.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
