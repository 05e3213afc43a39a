"""A plan that starts from a release of this coordinator, from the proposal to its own release."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console

from coordinator.registry.build import weights_only
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from coordinator.runs.draft import PlanDraft, PrivacyDraft, TrainingDraft
from coordinator.runs.planning import PlanCheck
from coordinator.runs.publishing import publish_request
from coordinator.runs.store import RunRow
from participant.consents import save_reviewed
from participant.releases import check_against_ledger
from shared.domain.errors import NotFound, UnsoundPlan
from shared.domain.plan import Plan
from shared.domain.privacy import Mode
from shared.domain.release import CARD_FILE
from shared.domain.run import RunState
from shared.evaluation.epsilon_added import spent_in_both
from shared.explanation import explain
from shared.explanation_page import print_explanation
from shared.extractors.files import TRAINED, Origin, read_weights, write_weights
from shared.privacy import accountant
from shared.privacy.ledger import Ledger
from shared.release.promise import epsilon_text
from shared.verification import VerifiedRelease, verify_release
from tests.desk import open_desk
from tests.roll_kit import root_of
from tests.simulator import SPEC, ConsortiumSimulator

DRAFT = PlanDraft(
    extractor_name="tiny",
    extractor=SPEC,
    training=TrainingDraft(1, 0.5, 0.5),
    privacy=PrivacyDraft(500.0, 1.0, 1.0, Mode.LOCAL, noise_multiplier=3.0),
    rounds=3,
    starting_from="tiny-1",
)


@dataclass
class Line:
    """Two runs and their releases, the second going on from the first; members drop nothing between them."""

    sim: ConsortiumSimulator
    check: PlanCheck
    second: RunRow

    def release(self, number: int) -> VerifiedRelease:
        folder = Shelf(self.sim.desk.home).folder("tiny", number)
        return verify_release(folder, pinned_root=root_of(self.sim.desk), clock=self.sim.desk.clock)


def published(sim: ConsortiumSimulator, run: RunRow) -> None:
    request = publish_request(run, sim.store, sim.driver, sim.every_member())
    publish(sim.desk.home, request, sim.desk.clock, export=weights_only)


@pytest.fixture(scope="module")
def sim(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> ConsortiumSimulator:
    folder = tmp_path_factory.mktemp("starting-release")
    desk = open_desk(shutil.copytree(prepared_home, folder / "coordinator"))
    made = ConsortiumSimulator(desk, folder, sizes=(6,) * 3)
    published(made, made.drive(made.start(made.plan())))
    return made


@pytest.fixture(scope="module")
def line(sim: ConsortiumSimulator) -> Line:
    check = sim.service.propose(DRAFT, "account:admin")
    second = sim.drive(sim.start(check.plan))
    assert second.state is RunState.COMPLETED, second.reason
    published(sim, second)
    return Line(sim, check, second)


def test_second_release_states_what_each_members_own_ledger_composes(line: Line) -> None:
    one, two = line.release(1), line.release(2)
    for member in line.sim.members:
        spent = Ledger.read(member.home.ledger).spent(member.data_set.id)
        of_ledger = accountant.epsilon(spent, two.plan.privacy.delta)
        assert two.recomputed[member.id][0].epsilon == pytest.approx(of_ledger, rel=1e-9)
        assert of_ledger > one.recomputed[member.id][0].epsilon
        check_against_ledger(member.home, two)
    start = two.plan.starting_release
    assert start is not None and (start.release, start.manifest_digest) == ("tiny-1", one.manifest_digest)


def test_check_of_the_plan_said_what_the_certificate_would_state(line: Line) -> None:
    said, stated = line.check.with_start, line.release(2).recomputed.values()
    assert said is not None and said.release == "tiny-1"
    assert said.epsilon == pytest.approx(max(lines[0].epsilon for lines in stated), rel=1e-9)
    assert said.epsilon > line.check.costs[0].epsilon
    # Asked again of what was stored, as the plan's page does.
    assert line.sim.service.cost(str(line.check.plan.digest)).with_start == said


def test_what_the_second_adds_counts_the_first_once(line: Line) -> None:
    one, two = line.release(1), line.release(2)
    spent, why = spent_in_both(one, two)
    assert not why and len(spent) == 2 * len(line.sim.members)
    for each in spent:
        assert each.after is not None and each.together == each.after


def test_explanation_and_card_say_what_is_composed(line: Line) -> None:
    two = line.release(2)
    facts, page = explain(two), io.StringIO()
    print_explanation(facts, Console(file=page, width=80), every_round=False)
    said = " ".join(page.getvalue().split())
    assert "Among those rounds are 2 closed ones of tiny-1, which the weights came out of" in said
    assert "Composed into ε is what tiny-1 cost, from which it started" in said
    assert [m.charged_rounds for m in facts.members] == [5] * 3
    assert [(b.release, b.closed_rounds, len(b.members)) for b in facts.behind] == [("tiny-1", 2, 3)]
    card = (Shelf(line.sim.desk.home).folder("tiny", 2) / CARD_FILE).read_text("utf-8")
    assert (
        epsilon_text(facts.members[0].spent[0].epsilon) in card
        and "Composed into ε is what tiny-1 cost" in card
    )


def test_no_release_without_the_certificate_of_what_it_started_from(line: Line) -> None:
    sim = line.sim
    (kept,) = sim.starting.glob("*.predecessor.json")
    lost = kept.rename(kept.with_suffix(".lost"))
    with pytest.raises(NotFound, match=r"certificate of tiny-1.*Restore the coordinator's folder 'starting'"):
        publish_request(line.second, sim.store, sim.driver, sim.every_member())
    lost.rename(kept)
    publish_request(line.second, sim.store, sim.driver, sim.every_member())


def test_no_run_begins_that_no_release_could_be_made_of(line: Line) -> None:
    """It would cost its members what nobody could state."""
    for kept in line.sim.starting.glob("*.predecessor.json"):
        kept.rename(kept.with_suffix(".gone"))
    with pytest.raises(
        NotFound, match="The certificate of tiny-1, from which the plan starts, is not beside"
    ):
        line.sim.start(line.check.plan)
    for gone in line.sim.starting.glob("*.gone"):
        gone.rename(gone.with_suffix(".json"))


def test_plan_that_would_promise_more_than_its_start_is_not_proposed(sim: ConsortiumSimulator) -> None:
    person = replace(DRAFT, privacy=replace(DRAFT.privacy, unit=type(DRAFT.privacy.unit)("person")))
    with pytest.raises(UnsoundPlan, match="tiny-1 hides one record and the plan one person"):
        sim.service.propose(person, "account:admin")


def other_origin(plan: Plan, weights: Path, origin: Origin | None) -> Plan:
    found = read_weights(weights)
    return replace(
        plan, starting_weights=write_weights(weights, found.tensors, found.spec, found.layout, origin)
    )


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (Origin(TRAINED, "tiny-9", "sha256:" + "0" * 64, ""), "starts from no trained release, .* of tiny-9"),
        (Origin("library", "edges-1", "sha256:" + "0" * 64, ""), ""),
        (None, ""),
    ],
)
def test_member_does_not_sign_a_plan_that_leaves_out_what_its_weights_are_of(
    sim: ConsortiumSimulator, tmp_path: Path, origin: Origin | None, text: str
) -> None:
    plan = sim.plan()
    weights = tmp_path / "weights"
    weights.write_bytes(sim.service.starting_weights(str(plan.digest)).read_bytes())
    changed, member = other_origin(plan, weights, origin), sim.members[0]
    if text:
        with pytest.raises(UnsoundPlan, match=text):
            save_reviewed(member.home, changed, weights.read_bytes())
    else:
        save_reviewed(member.home, changed, weights.read_bytes())
