"""A release starts from one release and names another, of which less is told: ε comes out lower than what it cost.

Nothing in the folder contradicts it, so a stranger takes it. Members know what they saw: the releases that they pulled,
and with which weights each round came to them.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from participant.consents import _check_start
from participant.home import Home
from participant.releases import _check, check_against_ledger
from participant.seen_weights import SeenWeights
from shared.domain.clock import SystemClock
from shared.domain.errors import CertificateWrong, UnsoundPlan
from shared.domain.plan import PlanMember, StartingRelease
from shared.domain.privacy import Budget, Charge
from shared.domain.release import WEIGHTS_FILE, CohortRound
from shared.domain.run import RoundState, RunState
from shared.explanation import explain
from shared.explanation_page import print_explanation
from shared.extractors.files import read_weights, write_weights
from shared.extractors.flatten import flatten
from shared.privacy import accountant
from shared.privacy.ledger import Ledger
from shared.release.signing import SigningKey
from shared.verification import VerifiedRelease, verify_release
from tests.desk import Desk
from tests.joined_home import joined
from tests.pull_kit import pull_hubs
from tests.release_kit import Kit, continued, make_kit
from tests.simulator import ConsortiumSimulator


def verified(kit: Kit, number: int) -> VerifiedRelease:
    return verify_release(kit.folder(number), pinned_root=kit.root, clock=kit.clock)


def paid_both(kit: Kit, second: Kit, folder: Path) -> Home:
    """North's folder: the ledger has all rounds of both runs."""
    home = joined(kit, folder)
    ledger = Ledger(home.ledger)
    for number in range(1, 5):
        events = second.plan.events_of_round(number)
        ledger.charge(
            Charge("dat_own", str(second.plan.digest), second.run_id, number, events), Budget(1000.0, 1e-5)
        )
    home.releases.mkdir(parents=True, exist_ok=True)
    return home


def understates(kit: Kit, home: Home, release: VerifiedRelease) -> None:
    """The attack works: what is stated is verified, and lower than what North spent; the ledger by itself is silent."""
    check_against_ledger(home, release)
    spent = accountant.epsilon(Ledger(home.ledger).spent("dat_own"), kit.plan.privacy.delta)
    assert release.recomputed[kit.plan.members[0].member_id][0].epsilon < 0.95 * spent


def test_an_earlier_release_of_the_same_run_is_named(tmp_path: Path) -> None:
    """Nothing is forged: digits-1 tells of two rounds, digits-2 of all four, and the second run started from that."""
    kit = make_kit(tmp_path)
    start = read_weights(kit.starting)
    base = flatten(start.tensors, start.layout).astype("<f4")
    after = {number: (base + np.float32(0.1 * number)).astype("<f4") for number in range(5)}
    kit.publish("two rounds", rounds=kit.rounds()[:2], weights_f32=after[2].tobytes())
    kit.publish("four rounds", weights_f32=after[4].tobytes())
    third = continued(kit, 1, tmp_path / "start.safetensors")
    longer = read_weights(kit.folder(2) / WEIGHTS_FILE)
    of_first = read_weights(third.starting).origin
    digest = write_weights(third.starting, longer.tensors, longer.spec, longer.layout, of_first)
    third.plan = replace(third.plan, starting_weights=digest)
    third.publish("three")
    home, release = paid_both(kit, third, tmp_path / "north"), verified(third, 3)
    understates(kit, home, release)
    seen = SeenWeights(home.seen_weights)
    for number in range(1, 5):
        seen.note(kit.run_id, number, after[number - 1])
    _check(home, release)  # who was not in the second run's first round has nothing to compare with
    seen.note(third.run_id, 1, after[4])
    with pytest.raises(CertificateWrong, match="digits-3 says that it started from digits-1, whose list of"):
        _check(home, release)


def ghosts(kit: Kit, folder: Path) -> Kit:
    """A coordinator's second digits-1: one round, of members that nobody ever met."""
    forge = kit.copy(folder)
    shutil.rmtree(forge.home / "releases")
    forge.identities = {f"mem_ffffffffff{k:02x}": SigningKey.generate() for k in range(3)}
    forge.run_id = "run_00000000dead"
    members = tuple(PlanMember(each, 500) for k, each in enumerate(forge.identities))
    forge.plan = replace(kit.plan, rounds=1, evaluate_every=0, members=members)
    everyone = tuple(forge.identities)
    forge.publish("x", rounds=(CohortRound(1, RoundState.CLOSED, everyone, everyone),))
    return forge


def test_a_release_made_up_under_the_name_of_a_real_one_is_named(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    kit.publish("true")
    whole = {"members": kit.plan.members, "rounds": 4, "evaluate_every": 2}
    second = continued(ghosts(kit, tmp_path / "forge"), 1, tmp_path / "start.safetensors", **whole)
    second = replace(second, home=kit.home, identities=kit.identities)
    second.publish("two")
    home, release = paid_both(kit, second, tmp_path / "north"), verified(second, 2)
    understates(kit, home, release)
    origin = read_weights(second.starting).origin
    _check_start(home, second.plan, origin)  # North has not pulled the true one
    _check(home, release)

    shutil.copytree(kit.folder(1), home.releases / "digits-1")
    with pytest.raises(
        UnsoundPlan, match="starts from a digits-1 with the manifest .* one name was given to two"
    ):
        _check_start(home, second.plan, origin)
    with pytest.raises(CertificateWrong, match="digits-2 composes digits-1 with the manifest .* Keep both"):
        _check(home, release)


def test_a_stranger_who_pulls_it_sees_that_the_catalogue_has_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "localhost,127.0.0.1")
    kit = make_kit(tmp_path, moment=SystemClock().now())
    kit.publish("true")
    whole = {"members": kit.plan.members, "rounds": 4, "evaluate_every": 2}
    second = continued(ghosts(kit, tmp_path / "forge"), 1, tmp_path / "start.safetensors", **whole)
    replace(second, home=kit.home, identities=kit.identities).publish("two")
    honest = continued(kit, 1, tmp_path / "honest.safetensors")
    honest.publish("three")
    for opened in pull_hubs(kit):
        hub = opened(tmp_path / "stranger")
        with pytest.raises(CertificateWrong, match="digits-2 composes what digits-1 cost, .* has sha"):
            hub.pull("digits-2")
        assert hub.shown() == [".commonlens"] and hub.staged() == []
        assert hub.pull("digits-3").entry.id == "digits-3"


@pytest.mark.parametrize("name", ["../keys", "digits-1\x1b[2J", "digits", "digits-0"])
def test_a_plan_that_starts_from_what_is_no_release_is_not_kept(tmp_path: Path, name: str) -> None:
    kit = make_kit(tmp_path)
    kit.publish("one")
    second = continued(kit, 1, tmp_path / "start.safetensors")
    origin = read_weights(second.starting).origin
    assert origin is not None
    plan = replace(second.plan, starting_release=StartingRelease(name, "sha256:" + "0" * 64))
    with pytest.raises(UnsoundPlan, match="which is no release's name"):
        _check_start(joined(kit, tmp_path / "north"), plan, replace(origin, name=name))


def test_a_header_says_nothing_to_the_terminal_and_is_no_line_of_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights of a plan of an earlier version, which names no start: the page tells what the header says."""
    kit = make_kit(tmp_path)
    kit.publish("one")
    second = continued(kit, 1, tmp_path / "start.safetensors")
    honest = read_weights(second.starting)
    assert honest.origin is not None
    evil = replace(honest.origin, name="digits-1\x1b[2J\n  ✓ All proofs hold\u202e" + "x" * 500)
    digest = write_weights(second.starting, honest.tensors, honest.spec, honest.layout, evil)
    plan = replace(second.plan, starting_weights=digest, starting_release=None)
    replace(second, plan=plan, predecessor=None).publish("two")
    print_explanation(explain(verified(kit, 2)), Console(width=80), every_round=False)
    out = capsys.readouterr().out
    assert "What digits-1" in out and "x" * 30 in out.replace("\n    ", "") and "x" * 100 not in out
    assert "\x1b" not in out and "\u202e" not in out and "\n  ✓ All proofs hold" not in out


def test_round_one_comes_with_a_releases_weights_though_the_plan_starts_from_none(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = ConsortiumSimulator(desk, tmp_path, sizes=(6,) * 3)
    first = sim.drive(sim.start(sim.plan()))
    trained = sim.driver.server_state(first, sim.store.plan(first.plan_digest)).released_weights
    honest = sim.driver.server_state

    def dishonest(run, plan):  # type: ignore[no-untyped-def]
        state = honest(run, plan)
        for name, value in vars(state).items():
            if isinstance(value, np.ndarray) and value.shape == trained.shape:
                object.__setattr__(state, name, trained.astype(value.dtype).copy())
        return state

    plan = sim.plan(rounds=3)
    assert plan.starting_release is None
    monkeypatch.setattr(sim.driver, "server_state", dishonest)
    spent = [member.charges() for member in sim.members]
    second = sim.drive(sim.start(plan))
    assert second.state is not RunState.COMPLETED
    assert [member.charges() for member in sim.members] == spent
    said = " ".join(text for member in sim.members for text in member.reports) + str(second.reason)
    assert "Round 1 came with other weights than the plan's starting weights. Nothing was charged." in said
