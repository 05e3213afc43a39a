"""What a malicious coordinator gains: every attempt of the table works without its rule, and gains nothing here."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

import participant
from participant.redteam import dishonest_rounds
from participant.redteam.coordinator_table import (
    ON_EVERY_NODE,
    ON_ROUNDS,
    ON_SUMS,
    PREFIX,
    Accountant,
    Attempt,
    coordinator_table,
)
from participant.redteam.dishonest_home import START
from participant.redteam.dishonest_node import UNBOUNDED, NodePlay, NodeRefused
from participant.redteam.dishonest_play import Integers, Outcome, Play, played_plan
from participant.redteam.dishonest_requests import crafted_vectors
from participant.redteam.report import AttackRow, RedteamReport
from shared.domain.plan import Plan, PlanMember, SecureTerms, default_colluders, least_quorum
from shared.domain.privacy import Mode
from shared.privacy.accountant import epsilon
from shared.secagg.parameters import RoundTerms
from tests.fixed_noise import fixed_noise
from tests.plans import members, small_plan


def secure(count: int = 5, quorum: int | None = None, colluders: int | None = None) -> Plan:
    quorum = quorum or least_quorum(count)
    return small_plan(
        mode=Mode.SECURE,
        starting_weights="sha256:" + "0" * 64,
        trainable_coordinates=4000,
        noise_multiplier=1.5,
        sampling_rate=0.05,
        evaluation_noise_multiplier=20.0,
        rounds=20,
        quorum=quorum,
        colluders=default_colluders(count) if colluders is None else colluders,
        members=members(count, 1000),
        secure=SecureTerms(2.0**-12, 32, min(count - quorum, 4), 0, quorum),
    )


LOCAL = replace(
    secure(1, 1, 0),
    privacy=replace(secure().privacy, mode=Mode.LOCAL),
    secure=None,
    members=(PlanMember("a", 1000),),
)
pytestmark = pytest.mark.usefixtures("same_noise")
PLANS = {"secure": secure(), "local": LOCAL}
BY_NAME = {attempt.name: attempt for attempt, _ in (*ON_ROUNDS, *ON_SUMS, *ON_EVERY_NODE)}
TABLE = [("secure", name) for name in BY_NAME] + [("local", attempt.name) for attempt, _ in ON_EVERY_NODE]


@lru_cache
def rows_of(mode: str) -> dict[str, list[AttackRow]]:
    rows: dict[str, list[AttackRow]] = {}
    with fixed_noise():
        for row in coordinator_table(PLANS[mode]):
            rows.setdefault(row.name.removeprefix(PREFIX), []).append(row)
    return rows


def accounted_for(plan: Plan, attempt: Attempt) -> float:
    events = plan.events_alone_of_run() if attempt.alone else plan.events_of_run()
    return epsilon(events, plan.privacy.delta)


def test_table_has_every_attempt_that_was_asked_for() -> None:
    assert set(rows_of("secure")) == {
        "no attempt",
        "double unmask",
        "differing survivor lists",
        "differing weights",
        "swapped keys",
        "fake members",
        "cohort of one",
        "replayed round",
        "re-asked round, other weights",
        "re-asked round, another cohort",
        "changed plan",
        "crafted weights",
        "one share alone",
    }


@pytest.mark.parametrize(("mode", "name"), TABLE)
def test_attempt_succeeds_without_its_rule_and_gains_nothing_beyond_what_is_accounted_for(
    mode: str, name: str
) -> None:
    without, here = rows_of(mode)[name]
    accounted = accounted_for(PLANS[mode], BY_NAME[name])
    assert without.protected is None
    if BY_NAME[name].whose:
        assert without.number == pytest.approx(accounted)
        assert without.gains.startswith("The victim's update and nobody else's, with"), without.gains
        assert without.gains.endswith("as accounted for, but nobody's hides it"), without.gains
    else:
        assert without.number > 1.5 * accounted, without.gains
    assert here.protected is True, here.gains
    assert here.number == pytest.approx(accounted)
    codes = [error.code for error in BY_NAME[name].stopped_by]
    assert any(f"refused ({code})" in here.gains for code in codes) == bool(codes)
    for row in (without, here):
        assert row.tried.endswith(BY_NAME[name].does)


def test_coordinator_that_follows_the_protocol_sees_exactly_the_noise_that_was_accounted_for() -> None:
    plan = played_plan(secure(7, 5, 2))
    found = dishonest_rounds.follows_the_protocol(Play(plan).contribute()).noise_left
    assert found == pytest.approx(1.0, abs=0.06)
    (row,) = rows_of("secure")["no attempt"]
    assert row.protected is True
    assert row.number == pytest.approx(epsilon(secure().events_of_run(), 1e-5))


class Watched(Play):
    """Keeps what an attempt saw."""

    seen: Integers

    def noise_left(self, seen: Integers, names: Sequence[str]) -> float:
        self.seen = seen
        return super().noise_left(seen, names)


def test_double_unmask_gives_every_integer_of_the_victim_with_its_base_noise_alone() -> None:
    play = Watched(played_plan(secure()))
    play.contribute()
    outcome = dishonest_rounds.double_unmask(play, protected=False)
    steps = play.noise(play.members[play.victim].noise_seeds, base=False)
    assert np.array_equal(play.seen, play.noised[play.victim] - steps)
    # Four honest shares were counted on, one is left.
    assert outcome.noise_left == pytest.approx(0.5, rel=0.06)
    assert dishonest_rounds.double_unmask(play, protected=True).refusal == "refused.unmask"


@pytest.mark.parametrize(("attempt", "attack"), ON_ROUNDS, ids=[attempt.name for attempt, _ in ON_ROUNDS])
@pytest.mark.parametrize("plan", [secure(4), secure(9), secure(6, 6, 1), secure(7, 5, 0)])
def test_attempts_on_rounds_end_alike_in_consortia_of_every_shape(
    plan: Plan, attempt: Attempt, attack
) -> None:  # type: ignore[no-untyped-def]
    play = Play(played_plan(plan)).contribute()
    left = attack(play, False).noise_left
    assert left == pytest.approx(1.0, abs=0.06) if attempt.whose else left < 0.7
    assert attack(play, True).refusal


@pytest.mark.parametrize("plan", [secure(50), secure(6, 6, 1), secure(4), secure(12)])
def test_consortium_that_is_played_is_sound_and_one_may_drop_out_of_it(plan: Plan) -> None:
    played = played_plan(plan)
    assert played.secure is not None
    assert 4 <= len(played.members) <= 12
    assert played.secure.tolerance_steps > 0
    terms = RoundTerms(
        "r", 1, "p", played.quorum, played.colluders, played.secure.share_threshold, 0, 1, 32, 1
    )
    terms.check_size(len(played.members))
    assert played.quorum < len(played.members)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(noise_left=0.5),
        Outcome(noise_left=1.0, releases=2),
        Outcome(noise_left=0.9),
        Outcome(refusal="broken"),
    ],
)
def test_attempt_that_gets_through_here_is_a_finding(outcome: Outcome) -> None:
    accountant = Accountant(secure(), played_plan(secure()))
    _, here = accountant.rows(BY_NAME["double unmask"], lambda protected: outcome)
    assert here.protected is False
    report = RedteamReport("sha256:0", "secure", "default", 8.0, 22.1, 1e-5, (here,), (), (), ())
    assert report.refused
    assert "double unmask" in report.findings[0]


def test_attempt_that_fails_without_the_rule_too_shows_nothing_and_says_so() -> None:
    accountant = Accountant(secure(), played_plan(secure()))
    without, _ = accountant.rows(
        BY_NAME["double unmask"], lambda protected: Outcome(refusal="refused.unmask")
    )
    assert without.number == 0.0
    assert "shows nothing" in without.gains


def test_no_weights_make_one_record_move_a_sum_by_more_than_the_clip_norm(tmp_path: Path) -> None:
    play = NodePlay(played_plan(LOCAL), tmp_path)
    crafted = crafted_vectors(play)
    assert max(play.longest_of_one(weights, UNBOUNDED) for weights in crafted) > 1000.0
    assert max(play.longest_of_one(weights, 1.0) for weights in crafted) <= 1.0 + 1e-5
    for broken in (math.nan, math.inf):
        weights = play.weights
        weights[7] = broken
        with pytest.raises(NodeRefused, match="invalid.weights"):
            play.ask(play.request(play.plan, weights))
    assert play.charges == 0


def test_replayed_request_gets_the_same_bytes_and_is_paid_once(tmp_path: Path) -> None:
    play = NodePlay(played_plan(secure()), tmp_path / "here")
    weights = play.weights
    play.seen(weights, play.plan)
    play.ask(play.request(play.plan, weights, play.masked))
    assert len(play.wire.uploads) == 2
    assert len(set(play.wire.uploads)) == play.charges == 1

    loose = NodePlay(played_plan(secure()), tmp_path / "loose")
    for _ in range(2):
        loose.forget()
        loose.seen(weights, loose.plan)
    assert len(set(loose.wire.uploads)) == 2
    assert loose.charges == 1, "two sums went out, one was paid for"
    assert (tmp_path / "here" / START).exists()


def test_node_never_imports_what_leaves_its_checks_out() -> None:
    root = Path(participant.__file__).parent
    importers = set()
    for path in root.rglob("*.py"):
        if path.is_relative_to(root / "redteam"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("participant.redteam"):
                importers.add(path.name)
    assert importers <= {"cli_redteam.py"}
