"""Fixtures that several folders of tests share."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from coordinator.registry.build import Export
    from tests.desk import Desk


# What an operator's shell has set is about that operator's folders, and not about the ones that tests make.
for _name in (
    "COMMONLENS_HOME",
    "COMMONLENS_COORDINATOR_HOME",
    "COMMONLENS_TOKEN",
    "COMMONLENS_DATABASE_URL",
    "COMMONLENS_DEBUG",
):
    os.environ.pop(_name, None)

# With torch and a web server in memory, looking for cycles at Python's usual pace is a twelfth of the suite's time.
gc.set_threshold(20_000, 50, 100)


@pytest.fixture(scope="session")
def prepared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coordinator's home after init, to be copied: making keys and tables takes longer than most tests."""
    from tests.desk import prepare_home

    home = tmp_path_factory.mktemp("prepared") / "coordinator"
    prepare_home(home)
    return home


@pytest.fixture
def desk(prepared_home: Path, tmp_path: Path) -> Desk:
    """A coordinator's membership desk over SQLite."""
    from tests.desk import open_desk

    return open_desk(shutil.copytree(prepared_home, tmp_path / "coordinator"))


@pytest.fixture
def same_noise() -> Iterator[None]:
    """Whatever a test judges by statistics of the system's random bytes is the same in every run."""
    from tests.fixed_noise import fixed_noise

    with fixed_noise():
        yield


@pytest.fixture(scope="session")
def export_once(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """The export of a release's files for other programs, which takes torch ten seconds: once for all workers."""
    from tests.export_kit import export_into

    own = tmp_path_factory.getbasetemp()
    kept = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "exported"
    kept.mkdir(exist_ok=True)
    return export_into(kept)


LONGEST = (
    "e2e/test_walk",
    "e2e/test_crash",
    "browser/test_admin_walk",
    "e2e/test_crash_local",
    "browser/test_every_page",
    "contracts/test_api_fuzz",
    "unit/test_evaluate_commands",
    "browser/test_browser_example",
    "unit/test_dashboard_runs",
    "unit/test_secure_round",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: begun last, one of them would keep a single worker busy at the end.

    Works with --no-loadscope-reorder alone: otherwise xdist begins with the files of most tests.
    """
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get("/".join(item.path.with_suffix("").parts[-2:]), len(places)))


def pytest_collection_finish() -> None:
    """What was imported stays: nothing looks for cycles in it again."""
    gc.freeze()
