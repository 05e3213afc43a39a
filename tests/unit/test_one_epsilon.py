"""Where one ε stood without the other, there are two, or it says that it is a plan's target (clause 3.7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator import cli_plans
from coordinator.registry.gate_report import gate_folder
from participant.redteam import report as red_team
from tests.dashboard_kit import open_board, words
from tests.release_kit import make_secure_kit


def row(name: str, claim: float) -> red_team.AuditRow:
    return red_team.AuditRow(name, "estimate", claim, claim, claim, claim, False, "Noise was added.")


def test_red_teams_line_on_a_plan_of_mode_secure_names_what_is_left_alone(tmp_path: Path) -> None:
    kit = make_secure_kit(tmp_path / "kit")
    kit.publish()
    board = open_board(kit.home, tmp_path / "board")
    audit = (
        row("ε of the plan, Gaussian estimate", 0.896),
        row("ε_alone of the plan, Gaussian estimate", 2.5),
    )
    made = red_team.RedteamReport(str(kit.plan.digest), "secure", "default", 0.896, 1e-5, (), audit, (), ())
    red_team.write_report(made, gate_folder(board.home, str(kit.plan.digest)))
    said = words(board.browser("Otto").get("/privacy/digits/1"))
    assert "The plan claims ε 0.896 , alone 2.500 , at δ 1e-05 for its whole run" in said
    board.coordinator.carrier.stop()
    board.coordinator.engine.dispose()


def test_list_of_plans_calls_its_number_a_target(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {
        "digest": "sha256:00",
        "extractor_name": "digits",
        "rounds": 60,
        "target_epsilon": 8.0,
        "withdrawn": False,
        "fault": "",
        "members": [{"consented": True, "counts": True}, {"consented": False, "counts": False}],
    }

    class Listing:
        def __init__(self, home: Path) -> None:
            pass

        def client(self) -> Listing:
            return self

        def get(self, path: str) -> dict[str, object]:
            assert path == "/plans"
            return {"plans": [plan]}

    monkeypatch.setattr(cli_plans, "Operator", Listing)
    cli_plans.list_plans(Path())
    assert capsys.readouterr().out == "sha256:00  digits  60 rounds  target ε 8  1 of 2 consented\n"
