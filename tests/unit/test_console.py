"""Errors on the console: one text, one exit code, no detail of what nobody expected."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import typer

from shared.console import plain, run_arguments
from shared.domain.errors import every_error
from tools.docs_commands import APPS, leaves, load


def app_that(error: BaseException | None, result: object = None) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def act() -> object:
        if error is not None:
            raise error
        return result

    return app


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_gives_its_own_exit_code(kind, capsys) -> None:  # type: ignore[no-untyped-def]
    assert run_arguments(app_that(kind("Five were expected, four came.")), []) == kind.exit_code
    err = capsys.readouterr().err
    assert "Five were expected, four came." in err and f"[{kind.code}]" in err and "Traceback" not in err


def test_unexpected_error_keeps_its_detail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COMMONLENS_DEBUG", raising=False)
    assert run_arguments(app_that(ValueError("a secret")), []) == 5
    err = capsys.readouterr().err
    assert "Broken: Something went wrong that should not (ValueError)" in err and len(err.splitlines()) == 1
    assert "a secret" not in err
    monkeypatch.setenv("COMMONLENS_DEBUG", "1")
    assert run_arguments(app_that(ValueError("a secret")), []) == 5
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_exits_130() -> None:
    assert run_arguments(app_that(KeyboardInterrupt()), []) == 130
    assert run_arguments(app_that(typer.Abort()), []) == 130


def test_exit_codes_of_typer_pass_through_and_results_do_not_become_codes() -> None:
    assert run_arguments(app_that(typer.Exit(7)), []) == 7
    assert run_arguments(app_that(None), []) == 0
    assert run_arguments(app_that(None, "text"), []) == 0


def test_text_of_another_party_cannot_command_the_terminal() -> None:
    assert plain("a\x1b[2J\x07b\u202ec") == "a\ufffd[2J\ufffdb\ufffdc"
    assert plain("\u200b\u200e\u200f\u061c\u2060\u2066\ufeff\u206f") == "\ufffd" * 8
    assert plain("می\u200cخواهم\t👩\u200d🔬\n") == "می\u200cخواهم\t👩\u200d🔬\n"  # joiners belong to writing
    assert plain("ε = 3\n") == "ε = 3\n"


@pytest.mark.parametrize("program", APPS)
def test_no_help_shows_the_escapes_of_a_markup(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, _ = APPS[program]
    app = importlib.import_module(module).app
    for path, _command in leaves(load(module), program):
        assert run_arguments(app, [*path.split()[1:], "--help"]) == 0
        said = capsys.readouterr().out
        assert "--help" in said and "\\[" not in said, path


def test_a_terminal_without_unicode_gets_question_marks_not_a_crash() -> None:
    script = (
        "import typer; from shared.console import run; app = typer.Typer()\n"
        "@app.command()\ndef act():\n    print('ε ✓')\n"
        "run(app)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONIOENCODING": "ascii"}, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"? ?\n")
