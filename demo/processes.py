"""Start, await and end the demo's processes; each is the command that a real operator types."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

BIN = Path(sys.executable).parent
PATIENCE_S = 120.0


class CommandFailed(Exception):
    """A command of the demo ended with an error; its own words follow."""


@dataclass(frozen=True)
class Command:
    """One command line, and what is typed into it."""

    words: tuple[str, ...]
    typed: str = ""


class Processes:
    """All processes of one demo; `close` ends what is still running."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[subprocess.Popen[bytes]] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        """A process in the background, its output in logs/<name>.log."""
        with (self._logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(_full(words), stdout=log, stderr=log, env=_environment())
        self._running.append(process)
        return process

    def run(self, *commands: Command) -> list[str]:
        """Run the commands, two at a time, and give their outputs in order. Raises CommandFailed."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            return list(pool.map(_finish, commands))

    def close(self) -> None:
        """End all background processes, politely first; the coordinator, which came first, when its nodes are gone."""
        coordinator, nodes = self._running[:1], self._running[1:]
        for together in (nodes, coordinator):
            for process in together:
                process.terminate()
            for process in together:
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
        self._running.clear()


def free_port() -> int:
    """A port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_server(process: subprocess.Popen[bytes], url: str, ca_file: Path) -> None:
    """Return once the coordinator answers. Raises CommandFailed when it ended or never answers."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise CommandFailed("the coordinator ended; see logs/coordinator.log")
        try:
            httpx.get(f"{url}/api/v1/health", verify=str(ca_file), timeout=2.0)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise CommandFailed("the coordinator did not answer; see logs/coordinator.log")


def _finish(command: Command) -> str:
    done = subprocess.run(
        _full(command.words),
        input=command.typed,
        capture_output=True,
        text=True,
        env=_environment(),
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(command.words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def _full(command: Sequence[str]) -> list[str]:
    return [str(BIN / command[0]), *command[1:]]


def _environment() -> Mapping[str, str]:
    # One thread a process: five organisations share this machine's cores.
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
