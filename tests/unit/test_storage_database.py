"""The database: durable settings, one writer at a time, migrations that agree with the tables."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from coordinator.storage.database import migrate, open_database, reading, writing
from coordinator.storage.tables import accounts, consents, meta, metadata
from shared.domain.errors import InvalidConfig, OutOfSpace, VersionMismatch


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    engine = open_database(f"sqlite:///{tmp_path / 'c.db'}")
    migrate(engine)
    return engine


def test_migrations_and_tables_agree(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_twice_is_migrating_once(engine: sa.Engine) -> None:
    with writing(engine) as connection:
        connection.execute(meta.insert().values(key="kept", value="yes"))
    migrate(engine)
    with reading(engine) as connection:
        assert connection.execute(sa.select(meta.c.value).where(meta.c.key == "kept")).scalar() == "yes"


def test_a_newer_database_is_refused(engine: sa.Engine) -> None:
    with writing(engine) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(VersionMismatch, match="written by a newer version"):
        migrate(engine)


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 15000)],
)
def test_sqlite_is_opened_for_safety(engine: sa.Engine, pragma: str, value: object) -> None:
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_the_database_file_is_private(engine: sa.Engine) -> None:
    path = Path(str(engine.url.database))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for companion in path.parent.glob("c.db-*"):
        assert stat.S_IMODE(companion.stat().st_mode) == 0o600


def test_a_foreign_key_that_points_nowhere_is_refused(engine: sa.Engine) -> None:
    row = {"plan_digest": "sha256:0", "member_id": "mem_0", "signature": "", "at": ""}
    with pytest.raises(sa.exc.IntegrityError), writing(engine) as connection:
        connection.execute(consents.insert().values(row))


def test_read_then_write_from_many_threads_loses_nothing(engine: sa.Engine) -> None:
    with writing(engine) as connection:
        connection.execute(meta.insert().values(key="n", value="0"))

    def add() -> None:
        for _ in range(5):
            with writing(engine) as connection:
                found = connection.execute(sa.select(meta.c.value).where(meta.c.key == "n")).scalar_one()
                connection.execute(meta.update().where(meta.c.key == "n").values(value=str(int(found) + 1)))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as connection:
        assert connection.execute(sa.select(meta.c.value).where(meta.c.key == "n")).scalar() == "20"


def test_a_reader_does_not_wait_for_a_writer(engine: sa.Engine) -> None:
    with writing(engine) as writer:
        writer.execute(meta.insert().values(key="unseen", value="x"))
        with reading(engine) as reader:
            query = sa.select(sa.func.count()).select_from(meta).where(meta.c.key == "unseen")
            assert reader.execute(query).scalar() == 0


def test_a_block_that_raises_leaves_nothing(engine: sa.Engine) -> None:
    with pytest.raises(ZeroDivisionError), writing(engine) as connection:
        connection.execute(meta.insert().values(key="gone", value="x"))
        raise ZeroDivisionError
    with reading(engine) as connection:
        assert connection.execute(sa.select(meta).where(meta.c.key == "gone")).first() is None


def test_a_full_disk_is_said_and_changes_nothing(engine: sa.Engine) -> None:
    with pytest.raises(OutOfSpace, match="is full. The change was not made"), writing(engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        connection.execute(meta.insert().values(key="big", value="x" * 10**6))
    with reading(engine) as connection:
        assert connection.execute(sa.select(meta).where(meta.c.key == "big")).first() is None


def test_an_error_of_the_database_never_shows_values(engine: sa.Engine) -> None:
    row = {"id": "acc_1", "name": "a", "role": "admin", "password_hash": "the-hash", "created_at": ""}
    with pytest.raises(sa.exc.IntegrityError) as caught, writing(engine) as connection:
        connection.execute(accounts.insert().values(row))
        connection.execute(accounts.insert().values(row))
    assert "the-hash" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://host/db", "expected sqlite or postgresql, found mysql"),
        ("nonsense", "is not a database URL"),
        ("sqlite://", "names no file"),
    ],
)
def test_other_databases_are_refused(url: str, sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        open_database(url)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_goes_through_psycopg_3(scheme: str) -> None:
    pytest.importorskip("psycopg", reason="the extra commonlens[postgres] is not installed")
    assert open_database(f"{scheme}://u:p@127.0.0.1/db").url.drivername == "postgresql+psycopg"
