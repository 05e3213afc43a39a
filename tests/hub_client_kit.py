"""The unmodified client of model hubs against our coordinator, for tests: a shelf of releases, served to a stranger.

In this process the client is told the address as `endpoint`; processes are told it as HF_ENDPOINT. Both know the
consortium's CA by SSL_CERT_FILE, which is all that docs/hub.md asks of anybody.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, close_session, constants

from coordinator.members.authority import AuthorityFiles
from coordinator.registry.shelf import point_channel
from shared.release.licence import Licence
from tests.hub_kit import SPACE, Hub, hub_kit, hub_served, publish_named
from tests.patience import PATIENCE_S
from tests.release_kit import Kit

REPO = f"{SPACE}/digits"
LINES = ("digits", "edges", "faces", "leaves", "words")


@contextlib.contextmanager
def serving(kit: Kit, public: bool = True) -> Iterator[Hub]:
    """`hub_served`, ended without waiting for the client's idle connections."""
    with hub_served(kit, public) as hub:
        yield hub
        close_session()


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Three releases of digits, the second one stable; one each of four other extractors."""
    kit = hub_kit(tmp_path_factory.mktemp("hub"))
    own = Licence("other", "northern-terms-1.0", "https://lens.example/terms")
    for checkpoint in ("one", "two", "three"):
        kit.publish(checkpoint, licence=own, notes=("--- license: mit",))
        kit.clock.advance(60)
    for line in LINES[1:]:
        publish_named(kit, line)
    point_channel(kit.home, "digits", "stable", "digits-2", kit.clock)
    return kit


@pytest.fixture(scope="module")
def hub(kit: Kit) -> Iterator[Hub]:
    """What stands there is for everybody."""
    with serving(kit) as hub:
        yield hub


@pytest.fixture(scope="module")
def gated(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The same for members and people with an account."""
    with serving(kit.copy(tmp_path_factory.mktemp("gated") / "coordinator"), public=False) as hub:
        yield hub


@pytest.fixture(autouse=True)
def stranger(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is known but the CA; no token, no cache, no proxy."""
    monkeypatch.setenv("SSL_CERT_FILE", str(AuthorityFiles(kit.home).ca))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
    close_session()
    yield
    close_session()


def api(hub: Hub, token: str | bool = False) -> Any:
    """The client (HfApi) for this hub; its answers have fields that may be None, which tests look into."""
    return HfApi(endpoint=hub.url, token=token)


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of a release or of what was fetched of it, without the client's own notes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".cache" not in path.parts
    }


def run(hub: Hub, home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of the client's, in a process that knows the address and the CA alone."""
    return subprocess.run(
        words,
        env=hub.environment(home, **environment),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def hf(hub: Hub, home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The `hf` command."""
    return run(hub, home, str(Path(sys.executable).with_name("hf")), *words, **environment)
