"""A publisher ends the certificate's list of rounds early: ε looks smaller than what the weights cost.

Nothing in the folder contradicts it, so a stranger takes it. A member of the next round knows with which weights that
began.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.registry.build import weights_only
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from coordinator.runs.publishing import publish_request
from coordinator.runs.store import RunRow
from participant.releases import check_against_ledger, open_release
from participant.seen_weights import SeenWeights
from shared.domain.errors import CertificateWrong
from shared.domain.plan import Plan, ServerOptimizer
from shared.domain.release import CohortRound
from shared.domain.run import RunState
from shared.verification import VerifiedRelease, verify_release
from tests.desk import Desk
from tests.roll_kit import root_of
from tests.simulator import CLASSES, ConsortiumSimulator, SimulatedMember

ROUNDS = 3


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(6,) * 4)


def ended(sim: ConsortiumSimulator, plan: Plan) -> RunRow:
    run = sim.drive(sim.start(plan))
    assert run.state is RunState.COMPLETED, run.reason
    return run


def published(sim: ConsortiumSimulator, run: RunRow, listed: int) -> VerifiedRelease:
    """A release of the whole run whose certificate tells of its first `listed` rounds."""
    request = publish_request(run, sim.store, sim.driver, sim.every_member())
    rounds: tuple[CohortRound, ...] = tuple(r for r in request.rounds if r.number <= listed)
    publish(sim.desk.home, replace(request, rounds=rounds), sim.desk.clock, export=weights_only)
    return verify_release(folder(sim), pinned_root=root_of(sim.desk), clock=sim.desk.clock)


def folder(sim: ConsortiumSimulator) -> Path:
    return Shelf(sim.desk.home).folder("tiny", 1)


def seen(member: SimulatedMember) -> SeenWeights:
    return SeenWeights(member.home.seen_weights)


@pytest.mark.parametrize("shared", [(), CLASSES], ids=["own heads", "shared head"])
def test_every_member_of_the_next_round_sees_it(sim: ConsortiumSimulator, shared: tuple[str, ...]) -> None:
    make = sim.secure_plan if not shared else sim.plan
    plan = make(rounds=ROUNDS, **({"shared_classes": shared} if shared else {}))
    release = published(sim, ended(sim, plan), ROUNDS - 1)
    for member in sim.members:
        check_against_ledger(member.home, release)  # which does not see it: what is listed was paid for
        with pytest.raises(
            CertificateWrong, match="ends with round 2, and round 3 came to this member with other"
        ):
            seen(member).check(release)


def test_it_stays_in_the_folder_as_evidence_and_is_not_used(sim: ConsortiumSimulator) -> None:
    published(sim, ended(sim, sim.plan(rounds=ROUNDS)), 1)
    home = sim.members[0].home
    home.releases.mkdir(exist_ok=True)
    folder(sim).rename(home.releases / "tiny-1")
    for _ in range(2):
        with pytest.raises(CertificateWrong, match="ends with round 1, and round 2"):
            open_release(home, "tiny-1")


def test_an_honest_list_fits_also_of_a_run_that_went_on(sim: ConsortiumSimulator) -> None:
    """Made while the run was paused: the next round began with just these weights."""
    plan = sim.plan(rounds=ROUNDS)
    run = sim.start(plan)
    sim.carrier.tampers[sim.members[0].id] = lambda delivery: (
        sim.service.move(run.id, RunState.PAUSED, "operator") and [delivery.honest()]
        if delivery.request.round_number == 2
        else [delivery.honest()]
    )
    paused = sim.drive(run)
    assert paused.state is RunState.PAUSED, paused.reason
    release = published(sim, paused, ROUNDS)
    sim.carrier.tampers.clear()
    sim.service.move(run.id, RunState.RUNNING, "operator")
    assert sim.drive(run).state is RunState.COMPLETED
    for member in sim.members:
        assert seen(member).beginning(run.id, 3) is not None
        seen(member).check(release)


def test_a_whole_list_fits_and_what_a_crash_cut_off_is_passed_over(sim: ConsortiumSimulator) -> None:
    run = ended(sim, sim.plan(rounds=ROUNDS))
    release, member = published(sim, run, ROUNDS), sim.members[0]
    seen(member).check(release)
    (file,) = member.home.seen_weights.iterdir()
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([*lines[:2], lines[2][:20], *lines[3:]]))
    assert [seen(member).beginning(run.id, n) is None for n in (1, 2, 3)] == [False, True, False]


def test_an_average_over_rounds_is_not_compared(sim: ConsortiumSimulator) -> None:
    """What is released then is not what any round began with: the limit that the documentation names."""
    plan = sim.plan(rounds=ROUNDS, server=ServerOptimizer("fedavg", averaging_decay=0.5))
    release = published(sim, ended(sim, plan), ROUNDS - 1)
    for member in sim.members:
        seen(member).check(release)


def test_a_run_named_by_somebody_else_names_no_file(sim: ConsortiumSimulator, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"round_number": 2, "extractor_digest": "sha256:00"}')
    assert SeenWeights(tmp_path / "seen").beginning("../x", 2) is None
