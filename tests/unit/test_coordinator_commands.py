"""What the operator's commands do on the coordinator's own machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator import cli_plans, cli_runs
from coordinator.audit.log import entries
from coordinator.cli import app
from coordinator.config import CONFIG_FILE, Config, config_text
from coordinator.registry.shelf import Shelf, read_catalogue
from coordinator.storage.database import migrate, open_database, reading
from coordinator.workers.probe import LONGEST_S
from shared.console import run_arguments
from tests.release_kit import make_kit


def test_init_names_the_folder_it_was_set_up_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_arguments(app, ["init", "Testing"]) == 0
    said = capsys.readouterr().out
    assert f"is set up in {tmp_path}." in said and f"serve --home {tmp_path}" in said


def test_a_withdrawn_release_is_listed_as_such_and_stands_in_the_audit_log(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    kit.publish()
    config = Config("Testing")
    (kit.home / CONFIG_FILE).write_text(config_text(config))
    engine = open_database(config.database(kit.home))
    migrate(engine)
    why = ["--reason", "A member's pictures were labelled wrongly.", "--home", str(kit.home)]
    assert run_arguments(app, ["release", "yank", "digits-9", *why]) == 2
    assert run_arguments(app, ["release", "yank", "digits-1", *why[2:]]) == 2
    assert run_arguments(app, ["release", "yank", "digits-1", *why]) == 0
    assert [entry.yanked for entry in read_catalogue(Shelf(kit.home), kit.clock).releases] == [True]
    with reading(engine) as connection:
        lines = [(line.action, line.subject, line.detail) for line in entries(connection)]
    assert lines == [("release.yank", "digits-1", {"reason": why[1]})]


def test_a_plan_check_is_waited_for_longer_than_its_probe_may_take() -> None:
    assert cli_plans.PATIENCE_S > LONGEST_S


def test_notes_come_from_the_line_or_a_file_and_not_from_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "notes.md"
    file.write_text("\ufeff- One.\n- Zwölf.\n", encoding="utf-8")
    assert cli_runs._notes("Typed.", None) == "Typed."
    assert cli_runs._notes("", file) == "- One.\n- Zwölf.\n"
    publish = ["release", "publish", "run_1", "--home", str(tmp_path), "--notes-file", str(file)]
    assert run_arguments(app, [*publish, "--notes", "Typed."]) == 2
    assert "Both --notes and --notes-file were given" in capsys.readouterr().err
    file.write_bytes(b"Zw\xf6lf")
    assert run_arguments(app, publish) == 2
    assert "is not text in UTF-8. Nothing was published." in capsys.readouterr().err
