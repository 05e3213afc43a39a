"""A folder that pulls from a registry over real TLS, for tests; the registry can be told to lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI

from shared.release import hub_client
from shared.release.store import TrustStore
from shared.verification import VerifiedRelease, verify_release
from tests.release_kit import Kit
from tests.release_server import Told, registry_app, serving

FILES = "releases/digits/1/files/"


@dataclass
class PullHub:
    """One consortium's registry and one folder that pulls from it."""

    kit: Kit
    app: FastAPI
    url: str
    to: Path

    def connect(self, fingerprint: str | None = None) -> TrustStore:
        """The pin of the folder."""
        return hub_client.connect(self.url, self.to, fingerprint or self.kit.fingerprint, self.kit.clock)

    def pull(
        self,
        name: str | None = None,
        progress: hub_client.Progress = lambda *_: None,
        token: str | None = None,
    ) -> hub_client.Pulled[VerifiedRelease]:
        """As `commonlens pull` does it."""

        def check(folder: Path, pinned: str) -> VerifiedRelease:
            return verify_release(folder, pinned_root=pinned, clock=self.kit.clock)

        return hub_client.pull(self.connect(), name, self.to, check, self.kit.clock, progress, token)

    def lie(self, path: str, told: Told) -> None:
        """What is answered under /api/v1 instead of the truth."""
        self.app.state.lies[f"/api/v1/{path}"] = told

    def shown(self) -> list[str]:
        """What a person sees in the folder."""
        return sorted(path.name for path in self.to.iterdir()) if self.to.exists() else []

    def verifies(self) -> None:
        """Every proof holds of the first release as it stands in the folder."""
        verify_release(self.to / "digits-1", pinned_root=self.kit.root, clock=self.kit.clock)

    def staged(self) -> list[Path]:
        """What is kept of pulls that were cut."""
        return sorted(self.to.glob(".commonlens/partial-*"))


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stands between the tests and the loopback."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


Opened = Callable[[Path], PullHub]


def pull_hubs(kit: Kit) -> Iterator[Opened]:
    """One server for a module, with one release; each test opens it with a coordinator's home of its own."""
    kit.publish()
    app = registry_app(kit.home, kit.clock)

    def opened(folder: Path) -> PullHub:
        own = kit.copy(folder / "coordinator")
        app.state.home, app.state.clock, app.state.lies, app.state.config = own.home, own.clock, {}, None
        app.state.asked.clear()
        return PullHub(own, app, url, folder / "to")

    with serving(app, kit.home) as url:
        yield opened
