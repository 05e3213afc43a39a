"""A coordinator's hub over real TLS for tests: what was asked and sent is written down; lines can be cut."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.app import Coordinator, build_coordinator
from coordinator.config import Config
from coordinator.members.authority import AuthorityFiles
from coordinator.registry.shelf import Shelf, read_catalogue, write_catalogue
from shared.domain.clock import SystemClock
from shared.domain.consortium import Role
from shared.domain.extractor import TensorSlot, WeightLayout
from shared.extractors.files import write_weights
from shared.release.envelope import read_document
from shared.release.limits import MANIFEST_BYTES
from shared.release.manifest import parse_manifest
from tests.desk import CHEAP_HASHER, PASSWORD, lay_tables, served
from tests.patience import PATIENCE_S
from tests.release_kit import SPEC, Kit, make_kit

CONSORTIUM = "Test Consortium"
SPACE = "test-consortium"


@dataclass
class Asked:
    """One request and what went out for it."""

    method: str
    path: str
    range: str
    status: int = 0
    sent_bytes: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    """Also what is done after the answer, such as counting."""


@dataclass
class Hub:
    """A running hub."""

    kit: Kit
    coordinator: Coordinator
    url: str
    ca: Path
    asked: list[Asked] = field(default_factory=list)

    def token(self, lifetime_s: float = 3600) -> str:
        """Of an auditor; one account for all, whose token before this one ends."""
        accounts = self.coordinator.control.state.members.accounts
        accounts._hasher = CHEAP_HASHER
        if not any(account.name == "Otto" for account in accounts.every()):
            accounts.create("Otto", Role.AUDITOR, PASSWORD, "operator")
        token: str = accounts.issue_token("Otto", lifetime_s, "operator")
        return token

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Of a client's process that knows nothing but the address and the CA."""
        known = {
            k: v for k, v in os.environ.items() if not k.upper().startswith(("HF_", "HTTP", "ALL_PROXY"))
        }
        return {
            **known,
            "HF_ENDPOINT": self.url,
            "SSL_CERT_FILE": str(self.ca),
            "HF_HOME": str(home),
            "NO_PROXY": "127.0.0.1,localhost",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_COLOR": "1",
            **more,
        }

    def sent(self, ending: str = "") -> int:
        """Bytes of bodies that went out for paths with this end."""
        return sum(asked.sent_bytes for asked in self.asked if asked.path.endswith(ending))

    def weights(self, release: str) -> int:
        """How often its weights were fetched, once everything that was asked is over."""
        assert all(asked.over.wait(PATIENCE_S) for asked in self.asked)
        count: int = self.coordinator.control.state.downloads.of(release).weights
        return count

    def folder(self, number: int = 1) -> Path:
        """A release's folder at the coordinator."""
        return self.kit.folder(number)

    def commit(self, number: int = 1, extractor: str = "") -> str:
        """A release's commit id, worked out here."""
        folder = Shelf(self.kit.home).folder(extractor or self.kit.plan.extractor_name, number)
        return parse_manifest(read_document(folder / "manifest.json", MANIFEST_BYTES)).digest[7:47]


@contextlib.contextmanager
def hub_served(kit: Kit, public: bool = True) -> Iterator[Hub]:
    """The whole coordinator over the kit's home."""
    lay_tables(kit.home)
    coordinator = build_coordinator(kit.home, Config(CONSORTIUM, public_releases=public), kit.clock)
    hub = Hub(kit, coordinator, "", AuthorityFiles(kit.home).ca)
    with served(_written_down(coordinator.asgi, hub.asked), kit.home) as url:
        hub.url = url
        yield hub
    coordinator.carrier.stop()
    coordinator.engine.dispose()


def _written_down(asgi: ASGIApp, asked: list[Asked]) -> ASGIApp:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await asgi(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        line = Asked(scope["method"], scope["path"], headers.get(b"range", ""))
        asked.append(line)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                line.status = message["status"]
            elif scope["method"] != "HEAD":
                line.sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await asgi(scope, receive, sending)
        finally:
            line.over.set()

    return application


def hub_kit(folder: Path, values: int = 20_000) -> Kit:
    """A consortium of now; its weights files have about 4 · `values` bytes."""
    starting = folder / "starting.safetensors"
    layout = WeightLayout((TensorSlot("a.weight", (values,), True), TensorSlot("b.bias", (4,), True)))
    generator = np.random.default_rng(11)
    tensors = {slot.name: generator.normal(size=slot.shape).astype(np.float32) for slot in layout.slots}
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(starting, tensors, SPEC, layout)
    return make_kit(folder, SPEC, starting, SystemClock().now().replace(microsecond=0))


def publish_named(kit: Kit, extractor: str, checkpoint: str = "one") -> str:
    """A release of another line of the same consortium."""
    plan = kit.plan
    kit.plan = replace(plan, extractor_name=extractor)
    try:
        return kit.publish(f"{extractor}-{checkpoint}")
    finally:
        kit.plan = plan


def put_beside(kit: Kit, files: dict[str, bytes], number: int = 1) -> None:
    """Files of another maker into a release that is on the shelf: promised, signed and listed anew."""
    folder = kit.folder(number)
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    kit.sign(folder, lambda signed: None)

    def promise(signed: dict[str, object]) -> None:
        from shared.domain.canonical import digest_of_file

        promised = {
            name: {"digest": digest_of_file(folder / name), "size_bytes": len(data)}
            for name, data in files.items()
        }
        signed["files"] = {**signed["files"], **promised}  # type: ignore[dict-item]

    kit.sign(folder, promise)
    shelf = Shelf(kit.home)
    digest = parse_manifest(read_document(folder / "manifest.json", MANIFEST_BYTES)).digest
    catalogue = read_catalogue(shelf, kit.clock)
    entries = tuple(
        replace(entry, manifest_digest=digest)
        if (entry.extractor_name, entry.number) == (kit.plan.extractor_name, number)
        else entry
        for entry in catalogue.releases
    )
    write_catalogue(shelf, catalogue, kit.clock, releases=entries)


@contextlib.contextmanager
def cut_line(url: str, after_bytes: int) -> Iterator[str]:
    """A line to the hub that breaks once, when `after_bytes` came through from the hub; later ones hold."""
    target = urlsplit(url)
    listener = socket.create_server(("127.0.0.1", 0))
    left = [after_bytes]
    guard = threading.Lock()

    def carry(come: socket.socket, go: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := come.recv(65536):
                if counted:
                    with guard:
                        before, left[0] = left[0], left[0] - len(data)
                    if before > 0 >= left[0]:
                        break
                go.sendall(data)
        for end in (come, go):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((target.hostname or "", target.port or 0))
                for arguments in ((client, server, False), (server, client, True)):
                    threading.Thread(target=carry, args=arguments, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
