"""One coordinator over TLS for all engine attacks of a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet import PATHS_SEEN, Fleet, fleet_served, recorded


@pytest.fixture(scope="module")
def fleet(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    home = shutil.copytree(prepared_home, tmp_path_factory.mktemp("engine") / "coordinator")
    with fleet_served(home, recorded(PATHS_SEEN)) as fleet:
        yield fleet


@pytest.fixture
def no_round_left_open(fleet: Fleet) -> Iterator[None]:
    yield
    fleet.carrier.close_exchange()
