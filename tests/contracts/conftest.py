"""The databases that every store is tested on: SQLite always, PostgreSQL where a URL is given.

Set COMMONLENS_TEST_POSTGRES to the URL of an empty database that these tests may fill and empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.storage.database import migrate, open_database
from coordinator.storage.tables import metadata

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
