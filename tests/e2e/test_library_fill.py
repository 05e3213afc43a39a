"""A coordinator that was just set up fills its library by itself, also across a kill and a restart."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.cli import app as coordinator_app
from coordinator.config import CONFIG_FILE
from coordinator.registry.shelf import Shelf, read_catalogue
from shared.domain.clock import SystemClock
from shared.extractors.standard_entries import STANDARD_EXTRACTORS
from shared.verification import verify_extractor
from tests.e2e.consortium import Daemon, call, wait_for
from tests.ports import free_port

pytestmark = pytest.mark.slow
COMMAND = Path(sys.executable).with_name("commonlens-coordinator")
WITHOUT_PACKAGES = [entry.name for entry in STANDARD_EXTRACTORS.values() if not entry.needs.modules]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Without exports, which take most of the time and are tested elsewhere."""
    home = tmp_path / "coordinator"
    assert call(coordinator_app, "init", "Filled", "--home", home, "--port", free_port()).code == 0
    with (home / CONFIG_FILE).open("a") as settings:
        settings.write("exports = false\n")
    return home


@contextlib.contextmanager
def served(home: Path, log: Path) -> Iterator[Daemon]:
    daemon = Daemon([str(COMMAND), "serve", "--home", str(home)], log)
    daemon.start()
    try:
        yield daemon
    finally:
        if daemon.running:
            daemon.end()


def names(home: Path) -> list[str]:
    return [entry.extractor_name for entry in read_catalogue(Shelf(home), SystemClock()).releases]


def test_a_new_coordinator_has_a_library_and_a_kill_half_way_loses_nothing(
    home: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with served(home, log) as daemon:
        wait_for("the first extractor", lambda: names(home))
        daemon.send(signal.SIGKILL)
        daemon.end(signal.SIGKILL)
    found = names(home)
    assert 1 <= len(found) < len(WITHOUT_PACKAGES)
    with served(home, log):
        wait_for("all of them", lambda: set(WITHOUT_PACKAGES) <= set(names(home)))
    assert len(names(home)) == len(set(names(home))) and names(home)[: len(found)] == found
    shelf = Shelf(home)
    for entry in read_catalogue(shelf, SystemClock()).releases:
        folder = shelf.folder(entry.extractor_name, entry.number)
        verify_extractor(folder, pinned_root=shelf.trust().root.fingerprint)
    assert log.read_text().count("the library is being filled with") == 2
    assert not (home / ".standard").exists()


def test_a_coordinator_that_is_told_to_leaves_its_library_alone(home: Path, tmp_path: Path) -> None:
    with (home / CONFIG_FILE).open("a") as settings:
        settings.write("[library]\nfill = false\n")
    with served(home, tmp_path / "log") as daemon:
        port = (home / CONFIG_FILE).read_text().partition("port = ")[2].split()[0]
        wait_for("the port", lambda: _answers(int(port)))
        assert daemon.running
    assert names(home) == [] and "library" not in (tmp_path / "log").read_text()


def _answers(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
