"""The gate of a release: the report, its exit codes, and a gate that no report, or a false one, gets past."""

import json
import math
import sys
from dataclasses import replace

import pytest

from coordinator.workers.redteam import Gate, require_gate, run_gate
from participant.redteam.__main__ import main
from participant.redteam.report import AttackRow, AuditRow, RedteamReport, page, write_report
from participant.redteam.run import run_redteam
from shared.domain.errors import Broken, ExceedsClaim
from shared.domain.extractor import ExtractorSpec
from shared.domain.files import write_json
from shared.domain.strict import to_plain
from shared.extractors.architectures import starting_weights
from shared.extractors.files import write_weights
from tests.plans import SPEC, small_plan
from tests.redteam_kit import SHALLOW

pytestmark = pytest.mark.usefixtures("same_noise")
PLAN = small_plan(target_epsilon=8.0, noise_multiplier=1.01, sampling_rate=0.25, rounds=20, evaluate_every=4)
WITHIN = AuditRow("ε of the plan", "estimate", 8.0, 7.9, 7.5, 8.4, False, "measured")
BEYOND = replace(WITHIN, found=12.0, low=11.0, high=math.inf, refused=True)
HELD = AttackRow("double unmask", "asks twice", "ε_alone = 22.1", 22.1, True)


def report_of(audit=(), attacks=()):
    return RedteamReport(
        PLAN.digest, "local", "default", 8.0, 8.0, 1e-5, tuple(attacks), tuple(audit), (), ()
    )


def test_red_team_of_an_honest_member_finds_nothing_and_writes_what_it_found(tmp_path):
    report = run_redteam(PLAN, SHALLOW, tmp_path, more=[HELD])
    written = json.loads((tmp_path / "redteam.json").read_text())
    text = (tmp_path / "report.md").read_text()
    # An inversion of 4 steps shows nothing at any stage, so only the rest is judged here.
    assert [row.name for row in report.audit if row.refused] == []
    assert written["plan_digest"] == PLAN.digest
    assert written["attacks"][0]["protected"] is None
    # Lists of texts are for plans of texts.
    assert "guessing" not in text
    assert "double unmask" in text
    assert "certifies nothing about ε" in text
    assert "synthetic records" in text
    assert {"imprint.png", "inversion.png"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("report", "refused"),
    [
        (report_of([WITHIN], [HELD]), False),
        (report_of([BEYOND]), True),
        (report_of([WITHIN], [replace(HELD, protected=False)]), True),
        (report_of([WITHIN], [replace(HELD, protected=None)]), False),
    ],
)
def test_report_refuses_what_exceeds_its_claim_and_what_got_through_a_protection(tmp_path, report, refused):
    assert report.refused == refused
    write_report(report, tmp_path)
    written = json.loads((tmp_path / "redteam.json").read_text())
    assert written["refused"] == refused
    assert len(written["findings"]) == int(refused)
    assert ("Something exceeds its claim" in page(report)) == refused


def test_infinite_estimate_is_written_and_read_again(tmp_path):
    write_report(report_of([replace(BEYOND, found=math.inf, low=math.inf)]), tmp_path)
    assert json.loads((tmp_path / "redteam.json").read_text())["audit"][0]["found"] is None


def test_command_refuses_weights_of_another_extractor_and_leaves_no_report(tmp_path, capsys):
    other = ExtractorSpec("fixed-mlp", 1, 8, 8, 5, (0.5,), (0.25,), {"hidden": 6, "grid": 2})
    tensors, layout = starting_weights(other, 0)
    write_weights(tmp_path / "w.safetensors", tensors, other, layout)
    write_json(tmp_path / "plan.json", to_plain(PLAN))
    files = ["--plan", str(tmp_path / "plan.json"), "--weights", str(tmp_path / "w.safetensors")]
    assert main([*files, "--out", str(tmp_path / "out")]) == 2
    assert "were not loaded" in capsys.readouterr().err
    assert not (tmp_path / "out" / "redteam.json").exists()


def stand_in(tmp_path, text, status):
    """A program in the red team's place that writes `text` as its report and ends with `status`."""
    script = tmp_path / "stand_in.py"
    script.write_text(
        "import pathlib, sys\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--out') + 1])\n"
        f"text = {text!r}\n"
        "if text: (out / 'redteam.json').write_text(text)\n"
        f"sys.exit({status})\n"
    )
    return (sys.executable, str(script))


def test_gate_gives_the_findings_of_a_report_that_fits_its_exit_code(tmp_path):
    text = json.dumps({"plan_digest": PLAN.digest, "refused": True, "findings": ["ε: claimed 8, found 12"]})
    gate = run_gate(PLAN, tmp_path / "w", tmp_path / "out", python=stand_in(tmp_path, text, 1))
    assert (gate.passed, gate.findings) == (False, ("ε: claimed 8, found 12",))
    with pytest.raises(ExceedsClaim, match="this plan has 1: ε: claimed 8, found 12. Nothing was published"):
        require_gate(PLAN, tmp_path / "w", tmp_path, gate=lambda *_: gate)
    assert require_gate(PLAN, tmp_path, tmp_path, gate=lambda *_: replace(gate, passed=True)).passed


@pytest.mark.parametrize(
    ("report", "status"),
    [
        ("", 0),
        ("", 5),
        (json.dumps({"plan_digest": PLAN.digest, "refused": False}), 1),
        (json.dumps({"plan_digest": PLAN.digest, "refused": True}), 0),
        (json.dumps({"plan_digest": "sha256:" + "0" * 64, "refused": False}), 0),
        (json.dumps({"plan_digest": PLAN.digest}), 0),
        (json.dumps([1]), 0),
        ("{", 0),
    ],
)
def test_gate_does_not_open_without_a_report_of_this_plan_that_fits_the_exit_code(tmp_path, report, status):
    with pytest.raises(Broken, match="Nothing was published"):
        run_gate(PLAN, tmp_path / "w", tmp_path / "out", python=stand_in(tmp_path, report, status))


def test_report_of_an_earlier_run_does_not_open_the_gate(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "redteam.json").write_text(json.dumps({"plan_digest": PLAN.digest, "refused": False}))
    with pytest.raises(Broken, match="gave no report"):
        run_gate(PLAN, tmp_path / "w", tmp_path / "out", python=stand_in(tmp_path, "", 0))


@pytest.mark.slow
def test_gate_opens_for_an_honest_plan_through_the_real_process(tmp_path):
    tensors, layout = starting_weights(SPEC, 0)
    write_weights(tmp_path / "w.safetensors", tensors, SPEC, layout)
    gate = run_gate(PLAN, tmp_path / "w.safetensors", tmp_path / "out")
    assert gate == Gate(True, (), tmp_path / "out" / "redteam.json")
