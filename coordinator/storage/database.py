"""Open the coordinator's database (SQLite beside the keys, or PostgreSQL) and bring its tables up to date."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url

from shared.domain.errors import Invalid, InvalidConfig, OutOfSpace, Unreachable, VersionMismatch

BUSY_TIMEOUT_MS = 15_000
_READ_ONLY = "commonlens_read_only"
_MIGRATIONS = Path(__file__).parent / "migrations"
NEWEST = max(path.stem.split("_")[1] for path in (_MIGRATIONS / "versions").glob("rev_*.py"))
"""The revision that this version of Commonlens brings a database to."""


def open_database(url: str) -> sa.Engine:
    """An engine for `sqlite:///path` or `postgresql://…`; nothing is created but an empty SQLite file.

    Raises InvalidConfig for any other kind of URL or when the PostgreSQL driver is not installed.
    """
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError as error:
        raise InvalidConfig(
            "database_url is not a database URL. Nothing was opened. Write sqlite:///file or postgresql://…"
        ) from error
    kind = parsed.get_backend_name() if parsed.drivername != "postgres" else "postgresql"
    if kind == "sqlite":
        return _open_sqlite(parsed)
    if kind == "postgresql":
        return _open_postgresql(parsed.set(drivername="postgresql+psycopg"))
    raise InvalidConfig(
        f"database_url: expected sqlite or postgresql, found {kind}. Nothing was opened. Change the URL."
    )


def migrate(engine: sa.Engine) -> None:
    """Run every migration that this database has not seen, in one transaction.

    Raises VersionMismatch where a newer Commonlens has changed it already, Unreachable where nothing answers,
    Invalid where the file is damaged.
    """
    try:
        with writing(engine) as connection:
            if _version(connection) != NEWEST:
                _upgrade(connection)
    except sa.exc.OperationalError as error:
        raise Unreachable(
            "The database did not answer. Nothing was changed. Check database_url and that the server runs."
        ) from error
    except sa.exc.DatabaseError as error:
        raise Invalid(
            f"The database is damaged: {error.orig}. Nothing was changed. Put back a whole copy from your backup."
        ) from error


def _version(connection: sa.Connection) -> str | None:
    """The last migration that this database has seen; None for a new one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def _upgrade(connection: sa.Connection) -> None:
    # Imported late: a coordinator that starts over its own tables, as nearly always, has nothing to run.
    import alembic.command
    import alembic.config
    import alembic.util.exc

    config = alembic.config.Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        alembic.command.upgrade(config, NEWEST)
    except alembic.util.exc.CommandError as error:
        raise VersionMismatch(
            "The database was written by a newer version of Commonlens than this one. Nothing was changed. "
            "Install that version or a later one."
        ) from error


@contextlib.contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that may change rows: committed when the block ends, undone when it raises."""
    with engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One consistent view for reading; on SQLite it never waits for a writer. Nothing is committed."""
    with engine.connect().execution_options(**{_READ_ONLY: True}) as connection:
        yield connection


def _open_sqlite(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise InvalidConfig("database_url names no file. Nothing was opened. Write sqlite:///path/to/file.")
    path = Path(url.database)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # made here so that nobody else can read it
    engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "fullfsync = ON",  # macOS: as sync of shared/domain/files.py
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A transaction that reads first and writes later would fail when another one wrote in between,
        # so a writer takes its place in the queue at the start.
        read_only = connection.get_execution_options().get(_READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    @event.listens_for(engine, "handle_error")
    def _full(context: Any) -> None:
        cause = context.original_exception
        if isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            raise OutOfSpace(
                "The disk that holds the coordinator's database is full. The change was not made and "
                "what was there before is unchanged. Free some space and try again."
            ) from cause

    return engine


def _open_postgresql(url: sa.URL) -> sa.Engine:
    try:
        return sa.create_engine(url, hide_parameters=True, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise InvalidConfig(
            "database_url names PostgreSQL, but its driver is not installed. Nothing was opened. "
            "Install commonlens[postgres]."
        ) from error
