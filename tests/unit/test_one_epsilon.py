"""Where one ε stood without the other, there are two, or it says that it is a plan's target (clause 3.7)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator import cli_plans
from coordinator.registry.gate_report import gate_folder
from participant.redteam import report as red_team
from tests.dashboard_kit import open_board, words
from tests.full_board import FullBoard, full_board
from tests.release_kit import Kit, make_kit, make_secure_kit


@pytest.fixture(scope="module")
def full(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullBoard]:
    with full_board(prepared_home, tmp_path_factory.mktemp("targets")) as made:
        yield made


def row(name: str, claim: float) -> red_team.AuditRow:
    return red_team.AuditRow(name, "estimate", claim, claim, claim, claim, False, "Noise was added.")


def report_of(kit: Kit, *audit: red_team.AuditRow, alone: float) -> red_team.RedteamReport:
    mode = kit.plan.privacy.mode.value
    return red_team.RedteamReport(
        str(kit.plan.digest), mode, "default", 0.896, alone, 1e-5, (), audit, (), ()
    )


def page_with(report: red_team.RedteamReport, kit: Kit, folder: Path, *, old: bool = False) -> str:
    """The page of the kit's release beside the gate's report on it; `old`: from before it had the second number."""
    kit.publish()
    board = open_board(kit.home, folder)
    place = gate_folder(board.home, str(kit.plan.digest))
    red_team.write_report(report, place)
    if old:
        written = json.loads((place / red_team.JSON_FILE).read_text("utf-8"))
        del written["epsilon_alone"]
        (place / red_team.JSON_FILE).write_text(json.dumps(written), "utf-8")
    said = words(board.browser("Otto").get("/privacy/digits/1"))
    board.coordinator.carrier.stop()
    board.coordinator.engine.dispose()
    return said


def test_red_teams_line_on_a_plan_of_mode_secure_names_what_is_left_alone(tmp_path: Path) -> None:
    kit = make_secure_kit(tmp_path / "kit")
    audit = (
        row("ε of the plan, Gaussian estimate", 0.896),
        row("ε_alone of the plan, Gaussian estimate", 2.5),
    )
    report = report_of(kit, *audit, alone=2.5)
    assert "ε = 0.896 at δ = 1e-05 for its whole run; alone: 2.500." in red_team.page(report)
    said = page_with(report, kit, tmp_path / "board")
    assert "The plan claims ε 0.896 , alone: 2.500, at δ 1 in 100,000 for its whole run" in said
    said = page_with(report, kit, tmp_path / "older", old=True)
    assert "The plan claims ε 0.896 , alone: 2.500, at δ 1 in 100,000 for its whole run" in said


def test_red_teams_line_on_a_plan_of_mode_local_says_the_same(tmp_path: Path) -> None:
    kit = make_kit(tmp_path / "kit")
    report = report_of(kit, row("ε of the plan, Gaussian estimate", 0.896), alone=0.896)
    assert "for its whole run; alone: the same." in red_team.page(report)
    assert "alone: no bound." in red_team.page(replace(report, epsilon_alone=math.inf))
    said = page_with(report, kit, tmp_path / "board")
    assert "The plan claims ε 0.896 , alone: the same, at δ 1 in 100,000 for its whole run" in said


@pytest.mark.parametrize("path", ["/plans", "/runs", "/plans/{digest}"])
def test_pages_call_what_somebody_chose_a_target(full: FullBoard, path: str) -> None:
    said = words(full.browser("Otto").get(path.format(digest=full.plan)))
    assert "arget ε" in said
    without_word = re.findall(r"(?<!arget )ε[^\w.,;:]{1,2}8\b", said)
    assert without_word == []
    if path != "/plans/{digest}":
        assert (
            "own page has both numbers" in said
            and "ε alone, which holds when everybody else deviates" in said
        )
    else:
        assert "Every run" not in said and "At this target: 70.0 % ± " in said
        assert "ε, all together" in said and "ε, alone" in said and "alone: the same" in said


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
