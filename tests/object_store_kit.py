"""A real S3 server for tests (moto's, in a process of its own), and a line to it that can be cut and joined again."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

from coordinator.config import CONFIG_FILE, Config, config_text

BUCKET = "releases"
KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-test"}
PATIENCE_S = 60.0
_ALWAYS = "inf"


@dataclass
class S3Server:
    """The server; it holds every object in its memory."""

    port: int
    bucket: str = BUCKET

    @property
    def endpoint(self) -> str:
        """Its own address."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> S3Store:
        """The whole bucket, past all of our code."""
        return S3Store(
            self.bucket, endpoint=self.endpoint, region="us-east-1", client_options={"allow_http": True}
        )

    def objects(self) -> dict[str, int]:
        """Key → bytes of everything in the bucket."""
        found: dict[str, int] = {}
        for page in obstore.list(self.client()):
            found |= {one["path"]: one["size"] for one in page}
        return found

    def new_bucket(self, name: str) -> None:
        """Make a bucket and use it from now on."""
        self.bucket = name
        self._ask("PUT", f"/{name}")

    def refuse_after(self, requests: float | str) -> None:
        """Answer so many requests, and then refuse every key; `inf` answers for ever."""
        self._ask("POST", "/moto-api/reset-auth", str(requests).encode())

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(
            self.endpoint + path, body, {"content-type": "text/plain"}, method=method
        )
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE_S)


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """The server with an empty bucket; it takes any keys until it is told to refuse."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": _ALWAYS},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("the S3 server did not start") from None
                time.sleep(0.05)
        yield S3Server(port)
    finally:
        process.terminate()
        process.wait()


@dataclass
class Line:
    """A way to the server that can be cut; whoever calls then is refused, as where nothing runs."""

    target: int
    port: int = 0
    _listener: socket.socket | None = None
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        """What goes into the configuration."""
        return f"http://127.0.0.1:{self.port}"

    def join(self) -> None:
        """Let calls through."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """End every call, and take no more."""
        if self._listener is not None:
            # Wakes the thread that waits in accept, which would hold the port otherwise.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = listener.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
                self._open += [here, there]
                for come, go in ((here, there), (there, here)):
                    threading.Thread(target=_carry, args=(come, go), daemon=True).start()


def _carry(come: socket.socket, go: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := come.recv(65536):
            go.sendall(data)
        go.shutdown(socket.SHUT_WR)


def configure(home: Path, endpoint: str, bucket: str, more: str = "", port: int = 8443) -> None:
    """coordinator.toml with this store; with no store where `endpoint` is ""."""
    config = Config("Test Consortium", port=port, public_releases=True)
    storage = (
        f'\n[storage]\nurl = "s3://{bucket}/lenses"\nendpoint = "{endpoint}"\n{more}' if endpoint else ""
    )
    (home / CONFIG_FILE).write_text(config_text(config) + storage)
