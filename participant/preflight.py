"""Look before joining: what would make enrolment or the first round fail is found first, and named.

Nothing is sent but one anonymous GET, and nothing of its answer is believed: it only tells the clocks apart
and the versions. Trust begins in the next phase, with the CA's fingerprint.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import socket
import ssl
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from shared.domain.clock import Clock, from_text
from shared.domain.errors import ClockSkew, InvalidMessage, OutOfSpace, Unreachable, VersionMismatch
from shared.wire.enrolment import LEAST_CLOCK_OFFSET_S, MOST_CLOCK_OFFSET_S, software_version
from shared.wire.rounds import PROTOCOL_VERSION

LEAST_FREE_BYTES = 2 * 10**9
LEAST_PYTHON = (3, 11)
MAXIMUM_ANSWER_BYTES = 256 * 1024
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Preflight:
    """What was found. `clock_offset_s` is the coordinator's clock minus this machine's."""

    clock_offset_s: float
    free_bytes: int
    device: str
    python: str
    torch: str
    coordinator_version: str

    def lines(self) -> tuple[str, ...]:
        """The same for a person."""
        return (
            f"clock: {self.clock_offset_s:+.0f} s from the coordinator's",
            f"disk: {self.free_bytes / 1e9:.1f} GB free",
            f"device: {self.device}",
            f"versions: Python {self.python}, torch {self.torch}, Commonlens {software_version()}",
            f"coordinator: Commonlens {self.coordinator_version}, reachable",
        )


def preflight(home: Path, url: str, clock: Clock) -> Preflight:
    """Check disk, software, reachability, protocol version and clocks, in this order; nothing is written.

    Raises OutOfSpace, VersionMismatch, Unreachable, InvalidMessage or ClockSkew.
    """
    free_bytes = check_disk(home)
    torch = check_software()
    before = clock.now()
    answer = _ask(url)
    after = clock.now()
    version, protocol, coordinator_time = _read(answer)
    check_protocol(protocol, version)
    offset_s = check_clock(coordinator_time, before + (after - before) / 2)
    return Preflight(offset_s, free_bytes, find_device(), platform.python_version(), torch, version)


def check_disk(home: Path) -> int:
    """Free bytes where `home` is or will be. Raises OutOfSpace below 2 GB."""
    place = home.absolute()
    while not place.exists():
        place = place.parent
    free_bytes = shutil.disk_usage(place).free
    if free_bytes < LEAST_FREE_BYTES:
        raise OutOfSpace(
            f"A member's folder needs at least {LEAST_FREE_BYTES / 1e9:.1f} GB of free disk; there are "
            f"{free_bytes / 1e9:.1f} GB. Nothing was written. Free some space or use another folder."
        )
    return free_bytes


def check_software() -> str:
    """The version of torch. Raises VersionMismatch for an older Python, or where torch is missing."""
    if sys.version_info < LEAST_PYTHON:
        raise VersionMismatch(
            f"Commonlens needs Python {LEAST_PYTHON[0]}.{LEAST_PYTHON[1]} or later; this is "
            f"{platform.python_version()}. Nothing was sent. Install a later one."
        )
    if importlib.util.find_spec("torch") is None:
        raise VersionMismatch("Training needs torch, which is not installed. Nothing was sent. Install it.")
    return importlib.metadata.version("torch")


def find_device() -> str:
    """`cuda: <name>`, `mps: <machine>` or `cpu: <n> cores`: what training will run on, at most 100 characters."""
    import torch  # takes seconds to load, so only once everything quicker was found good

    from shared.extractors.device import choose_device

    kind = choose_device("auto").type
    if kind == "cpu":
        return f"cpu: {_usable_cores()} cores"
    name = torch.cuda.get_device_name(0) if kind == "cuda" else platform.machine()
    return f"{kind}: {name.encode('ascii', 'replace').decode('ascii')}"[:100]


def _usable_cores() -> int:
    """Cores that this process may use; all of them where the system does not tell, as macOS does not."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_protocol(protocol: int, version: str) -> None:
    """Raise VersionMismatch unless both sides speak the same protocol."""
    if protocol != PROTOCOL_VERSION:
        raise VersionMismatch(
            f"This Commonlens ({software_version()}) speaks protocol {PROTOCOL_VERSION}, the coordinator's "
            f"({version}) speaks {protocol}. Nothing was sent. Install the version that the coordinator runs."
        )


def check_clock(coordinator_time: datetime, local_time: datetime) -> float:
    """The coordinator's clock minus ours, in seconds. Raises ClockSkew outside -5 … +305 s.

    These are the limits of the engine, which signs timestamps. The coordinator writes whole seconds, cut
    off, so half a second is added back.
    """
    offset_s = (coordinator_time - local_time).total_seconds() + 0.5
    if not LEAST_CLOCK_OFFSET_S <= offset_s <= MOST_CLOCK_OFFSET_S:
        raise ClockSkew(
            f"The coordinator's clock may be {LEAST_CLOCK_OFFSET_S:+.0f} to {MOST_CLOCK_OFFSET_S:+.0f} s "
            f"from this machine's; it is {offset_s:+.0f} s. Nothing was sent. Set the clock, then try again."
        )
    return offset_s


def _ask(url: str) -> dict[str, Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    data = bytearray()
    try:
        with (
            httpx.Client(verify=context, timeout=TIMEOUT_S, trust_env=False) as client,
            client.stream("GET", f"{url.rstrip('/')}/api/v1/trust") as response,
        ):
            for block in response.iter_bytes():
                data += block
                if len(data) > MAXIMUM_ANSWER_BYTES:
                    raise _strange()
            status = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _no_answer(error) from error
    if status != httpx.codes.OK:
        raise Unreachable(
            f"Expected an answer with status 200, found {status}. Nothing was sent. "
            "Check that the coordinator runs and that the address is its own."
        )
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _strange() from error
    if not isinstance(answer, dict):
        raise _strange()
    return answer


def _no_answer(error: Exception) -> Unreachable:
    """What became of the connection, as far as this side can tell."""
    reasons: list[BaseException] = [error]
    # What httpx raises in another error's place it may have cut off from it: the context is still there.
    while (inner := reasons[-1].__cause__ or reasons[-1].__context__) is not None and inner not in reasons:
        reasons.append(inner)
    if any(isinstance(reason, ConnectionRefusedError) for reason in reasons):
        return Unreachable(
            "The connection was refused: no program listens at that address and port. Nothing was sent. Check both, "
            "and that the coordinator runs."
        )
    if any(isinstance(reason, socket.gaierror) for reason in reasons):
        return Unreachable(
            "The host name in the address was not found. Nothing was sent. Check how it is written, and this "
            "machine's DNS."
        )
    if isinstance(error, httpx.TimeoutException):
        return Unreachable(
            f"The coordinator did not answer within {TIMEOUT_S:.0f} s. Nothing was sent. Check the address, the port "
            "and the firewall."
        )
    return Unreachable(
        f"The connection to the coordinator failed ({type(error).__name__}). Nothing was sent. Check the address and "
        "the port."
    )


def _read(answer: dict[str, Any]) -> tuple[str, int, datetime]:
    try:
        version, protocol = str(answer["version"])[:50], int(answer["protocol"])
        return version if version.isprintable() else "?", protocol, from_text(str(answer["coordinator_time"]))
    except (KeyError, ValueError, TypeError) as error:
        raise _strange() from error


def _strange() -> InvalidMessage:
    return InvalidMessage(
        "The answer is not that of a Commonlens coordinator. Nothing was sent. Check the address."
    )
