"""A coordinator is set up, and its operator let in again, on every database, with commands alone."""

from __future__ import annotations

import io
import stat
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from coordinator.cli import app
from coordinator.config import read_config
from shared.console import run_arguments
from tests.desk import CONSORTIUM, Desk, open_desk


def call(*arguments: str) -> tuple[int, str]:
    """Exit code, and everything that the command said."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        return run_arguments(app, list(arguments)), said.getvalue()


@pytest.fixture
def home(url: str, tmp_path: Path) -> Path:
    home = tmp_path / "coordinator"
    code, said = call("init", CONSORTIUM, "--database-url", url, "--home", str(home))
    assert code == 0, said
    return home


def desk_over(home: Path) -> Desk:
    return open_desk(home, read_config(home).database_url)


def status(desk: Desk, token: str) -> int:
    return desk.client(token.strip()).get("/members").status_code


def test_init_puts_the_admin_where_the_server_looks(home: Path, url: str) -> None:
    assert read_config(home).database_url == url and not (home / "coordinator.db").exists()
    assert stat.S_IMODE((home / "coordinator.toml").stat().st_mode) == 0o600  # a password may be in the URL
    assert status(desk_over(home), (home / "admin.token").read_text()) == 200


def test_a_lost_admin_token_is_made_again_by_a_command(home: Path) -> None:
    lost = (home / "admin.token").read_text()
    (home / "admin.token").unlink()
    code, said = call("member", "list", "--home", str(home))
    assert code == 2 and "account token admin" in said
    code, said = call("account", "token", "admin", "--home", str(home))
    found = (home / "admin.token").read_text()
    assert code == 0 and found.strip() not in said and str(home / "admin.token") in said
    desk = desk_over(home)
    assert (status(desk, lost), status(desk, found)) == (401, 200)


def test_an_auditor_gets_a_token_by_a_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.prompt", lambda *_words, **_options: "a long enough phrase")
    assert call("account", "add", "ada", "--role", "auditor", "--home", str(home))[0] == 0
    code, said = call("account", "token", "ada", "--lifetime-days", "7", "--home", str(home))
    desk = desk_over(home)
    assert code == 0 and status(desk, said.splitlines()[-1]) == 200
    assert desk.audit_actions()[-1] == "token.issued"
    assert call("account", "token", "nobody", "--home", str(home))[0] == 2


def test_a_second_consortium_is_not_set_up_in_the_same_database(home: Path, url: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    code, said = call("init", "Another", "--database-url", url, "--home", str(other))
    assert code == 1 and "another coordinator" in said and not (other / "keys").exists()
    assert status(desk_over(home), (home / "admin.token").read_text()) == 200
