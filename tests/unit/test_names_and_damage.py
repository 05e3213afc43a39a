"""Names that somebody chose are text, numbers that are none are refused, and a damaged file is named."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import click
import pytest

from coordinator.cli import app as coordinator_app
from coordinator.members.authority import AuthorityFiles, renew_server_certificate
from coordinator.registry.publish import publish
from coordinator.storage.database import migrate, open_database
from participant.cli import app as participant_app
from shared.console import Between, run_arguments, tell_error, terminal
from shared.domain.clock import SystemClock
from shared.domain.errors import Invalid, NotTrusted
from shared.domain.files import read_json
from shared.release.pinning import checked_url
from shared.verification import verify_release
from tests.release_kit import make_kit

ODD = "Klinik [/] [bern] :smile:"


def test_consortium_and_folder_with_brackets_are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "a [/] b"
    assert run_arguments(coordinator_app, ["init", ODD, "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert f"Consortium {ODD} is set up in {home}." in said and "CA fingerprint: sha256:" in said


def test_terminal_knows_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    terminal(soft_wrap=True).print(ODD)
    assert capsys.readouterr().out.strip() == ODD


@pytest.mark.parametrize(
    "words", [["invite", "West", "--lifetime-s"], ["account", "token", "ada", "--lifetime-days"]]
)
@pytest.mark.parametrize("number", ["nan", "inf", "-3", "soon"])
def test_number_that_is_none_is_a_wrong_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], number: str
) -> None:
    assert run_arguments(coordinator_app, [*words, number, "--home", str(tmp_path)]) == 2
    assert "is not a number from" in " ".join(capsys.readouterr().err.split())


def test_number_within_is_taken() -> None:
    assert Between(0.5, 2.0).convert("2", None, None) == 2.0
    with pytest.raises(click.BadParameter):
        Between(0.5, 2.0).convert("2.1", None, None)


@pytest.mark.parametrize("name", ["", "Klinik [Bern]", "x" * 101, "two\nlines"])
def test_name_that_no_member_can_have_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run_arguments(coordinator_app, ["invite", name, "--home", str(tmp_path)]) == 2
    assert "Nobody was invited. Choose another name." in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "address", ["https://lens.example.org:99999", "https://lens.example.org:x", "http://a"]
)
def test_address_that_none_can_be_is_refused_in_words(address: str) -> None:
    with pytest.raises(Invalid, match=r"looks like https://lens\.example\.org:8443, not .+Nothing was sent"):
        checked_url(address)
    assert checked_url("https://lens.example.org:65535/") == "https://lens.example.org:65535"


@pytest.mark.parametrize("what", ["data", "head"])
def test_empty_list_says_how_to_begin(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_arguments(participant_app, [what, "list", "--home", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert (
        said.out == "" and f"There is no {what}" in said.err and f"commonlens-participant {what} " in said.err
    )


def test_size_that_nobody_has_is_a_wrong_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["join", "https://127.0.0.1:9", "--ca-fingerprint", "sha256:" + "0" * 64, "--home", str(tmp_path)]
    assert run_arguments(participant_app, [*line, "--declared-size", "9" * 19]) == 2
    assert "9999999999999999999" in capsys.readouterr().err


def test_full_disk_that_nobody_foresaw_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell_error(OSError(errno.ENOSPC, "No space left on device")) == 1
    assert "is full" in capsys.readouterr().err


def test_damaged_database_is_called_one(tmp_path: Path) -> None:
    file = tmp_path / "coordinator.db"
    engine = open_database(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(Invalid, match="The database is damaged: .* Put back a whole copy"):
        migrate(open_database(f"sqlite:///{file}"))


@pytest.mark.parametrize("name", ["server.pem", "server-key.pem"])
def test_damaged_server_certificate_is_made_anew(prepared_home: Path, tmp_path: Path, name: str) -> None:
    home = shutil.copytree(prepared_home, tmp_path / "coordinator")
    (home / "keys" / name).write_bytes(b"\xff nonsense")
    assert renew_server_certificate(home, ["localhost"], SystemClock(), only_if_due=True)
    assert "BEGIN CERTIFICATE" in AuthorityFiles(home).server.read_text()


def test_file_that_is_not_json_is_named_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "head.json").write_text("{")
    with pytest.raises(Invalid, match=r"^mine/head\.json is not JSON"):
        read_json(tmp_path / "mine" / "head.json")


def test_sub_folder_of_a_release_that_is_gone_is_a_proof_that_failed(tmp_path: Path) -> None:
    def export(folder: Path, release: str) -> dict[str, str]:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text("{}")
        return {}

    kit = make_kit(tmp_path)
    publish(kit.home, kit.request(), kit.clock, export=export)
    copy = shutil.copytree(kit.folder(), tmp_path / "digits-1")
    assert verify_release(copy, pinned_root=kit.root, clock=kit.clock)
    shutil.rmtree(copy / "1_Pooling")
    with pytest.raises(NotTrusted, match=r"1_Pooling/config\.json is missing"):
        verify_release(copy, pinned_root=kit.root, clock=kit.clock)
