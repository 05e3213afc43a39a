"""Clause 3.7: wherever an ε is shown to a person, the second number stands beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coordinator.cli_runs import _spent
from coordinator.runs.publishing import _guarantees, cohort_rounds
from participant.cli import app
from participant.enrol import COORDINATOR_FILE, CoordinatorLink
from participant.home import Home
from participant.policy import write_default_policy
from participant.records.add import add_data_set
from participant.records.dataset import open_data_set
from shared.console import run_arguments
from shared.domain.files import write_json
from shared.domain.plan import Plan
from shared.domain.privacy import Budget, Charge, GaussianEvent
from shared.domain.strict import to_plain
from shared.privacy import accountant
from shared.privacy.ledger import Ledger
from shared.release.promise import epsilon_text
from shared.verification import verify_release
from tests.release_kit import Kit, make_kit, make_secure_kit

WHOLE, OWN = GaussianEvent(1.5, 0.05, 4), GaussianEvent(0.75, 0.05, 4)


def rows(kit: Kit) -> list[dict[str, Any]]:
    """Rounds as the coordinator's store gives them and its API renders them."""
    return [
        {
            "number": r.number,
            "state": r.state.value,
            "cohort": list(r.asked),
            "contributors": list(r.contributed),
        }
        for r in kit.rounds()
    ]


def of_plan(plan: Plan, numbers: range, *, alone: bool) -> float:
    each = plan.events_alone_of_round if alone else plan.events_of_round
    return accountant.epsilon([e for n in numbers for e in each(n)], plan.privacy.delta)


@pytest.fixture
def member(tmp_path: Path) -> Home:
    generator = np.random.default_rng(3)
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            pixels = generator.integers(0, 255, (8, 8), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    home = Home(tmp_path / "member")
    home.root.mkdir()
    link = CoordinatorLink("https://127.0.0.1", "", "", "", {}, "Test", "mem_1", "North", "t", 8, 1)
    write_json(home.root / COORDINATOR_FILE, to_plain(link))
    add_data_set(home.root, "own", tmp_path / "pictures", None, None, False, lambda *_: None)
    write_default_policy(home.policy, "own", 50.0)
    return home


def status(member: Home, capsys: pytest.CaptureFixture[str]) -> str:
    assert run_arguments(app, ["status", "--home", str(member.root)]) == 0
    return capsys.readouterr().out.splitlines()[-1]


def charge(member: Home, number: int, alone: tuple[GaussianEvent, ...] | None) -> None:
    dataset_id = open_data_set(member.root, "own").id
    made = Charge(dataset_id, "sha256:" + "0" * 64, "run_1", number, (WHOLE,), alone)
    Ledger(member.ledger).charge(made, Budget(50.0, 1e-5))


def test_status_of_a_member_in_mode_local_says_the_same(
    member: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    charge(member, 1, None)
    shown = epsilon_text(accountant.epsilon([WHOLE], 1e-5))
    assert status(member, capsys) == f"own: ε {shown} of 50 at δ 1e-05, unit record; alone: the same"


def test_status_composes_what_was_spent_alone_over_both_modes(
    member: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    charge(member, 1, None)
    charge(member, 2, (OWN,))
    spent = epsilon_text(accountant.epsilon([WHOLE, WHOLE], 1e-5))
    alone = epsilon_text(accountant.epsilon([WHOLE, OWN], 1e-5))
    assert status(member, capsys) == f"own: ε {spent} of 50 at δ 1e-05, unit record; alone: {alone}"


def test_run_show_says_what_the_busiest_member_spent_and_alone(tmp_path: Path) -> None:
    kit = make_secure_kit(tmp_path)
    together, alone = (epsilon_text(of_plan(kit.plan, range(1, 5), alone=a)) for a in (False, True))
    line = f"the most that any member spent in it: ε {together} of the target 8 at δ 1e-05; alone: {alone}"
    assert _spent(kit.plan, rows(kit)).strip() == line
    assert _spent(make_kit(tmp_path / "local").plan, []).endswith(
        "ε 0.000 of the target 8 at δ 1e-05; alone: the same"
    )


def test_publishing_answers_with_both_numbers_of_the_certificate(tmp_path: Path) -> None:
    for kit in (make_secure_kit(tmp_path / "secure"), make_kit(tmp_path / "local")):
        answered = _guarantees(kit.home, kit.publish(rounds=cohort_rounds(rows(kit))))
        verified = verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)
        found = [verified.recomputed[m.member_id][0] for m in verified.certificate.members]
        assert [(m["epsilon"], m["epsilon_alone"], m["delta"]) for m in answered] == [
            (r.epsilon, r.alone, 1e-5) for r in found
        ]
        assert [m["name"] for m in answered] == [kit.name_of(m.member_id) for m in kit.plan.members]
