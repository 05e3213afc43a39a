"""The self-audit lets an honest member pass at every ε, and refuses five broken ones at every ε.

Each broken member is a wrapper around the real pieces with one thing wrong in it.
"""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from participant.redteam import one_run
from participant.redteam.canaries import Chosen, make_audit_set
from participant.redteam.dry_run import Terms
from participant.redteam.intervals import poisson_p_value
from participant.redteam.self_audit import (
    AuditDepth,
    draw_row,
    epsilon_rows,
    influence_row,
    noise_rows,
    step_rows,
)
from participant.training import local_round as local_round_room
from participant.training import step as step_room
from participant.training.head import HeadState, build_head, head_state
from participant.training.local_round import local_round
from shared.domain.privacy import Mode, Unit
from shared.extractors.preprocess import to_input
from shared.privacy import noise_shares
from shared.privacy.accountant import epsilon
from shared.privacy.distributed import count_variance
from shared.privacy.mechanism import NoiseSource
from tests.fixed_noise import fixed_noise
from tests.plans import SPEC
from tests.redteam_kit import (
    NOISE_MULTIPLIER,
    NoNoise,
    audit_plan,
    audit_sets,
    dry_member,
    halved_base,
    halved_steps,
    no_base,
    no_steps,
    with_noise,
    without_clip,
)

pytestmark = pytest.mark.usefixtures("same_noise")
EVERY_EPSILON = pytest.mark.parametrize("target", sorted(NOISE_MULTIPLIER))


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    with fixed_noise():
        return audit_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def dry(tmp_path):
    return partial(dry_member, tmp_path)


class HalvedNoise(NoiseSource):
    def noised(self, values, std):
        return super().noised(values, std / 2)


class Shuffled:
    """The real records, but batches are cut from shuffled epochs, as data loaders do."""

    def __init__(self):
        self.order, self.generator = [], np.random.Generator(np.random.PCG64(1))

    def of(self, records):
        self.records = records
        self.classes, self.held_out_indices = records.classes, records.held_out_indices
        return self

    def poisson_draw(self, noise, rate):
        size = round(rate * len(self.records.training_indices))
        if len(self.order) < size:
            self.order = self.generator.permutation(self.records.training_indices)
        batch, self.order = self.order[:size], self.order[size:]
        return np.asarray(batch)

    def load(self, indices):
        return self.records.load(indices)


def shuffling_member():
    batches = Shuffled()

    def member(request, plan, token, weights, bench, share):
        return local_round(
            request, plan, token, weights, replace(bench, records=batches.of(bench.records)), share
        )

    return member


def fitted_head(bench):
    """A head fitted to convergence on the raw records, as one fits the head of daily use."""
    images, labels = bench.records.load(bench.records.training_indices)
    with torch.no_grad():
        embeddings = bench.extractor(torch.from_numpy(to_input(images, SPEC)))
    y = torch.from_numpy(labels)
    zeros = np.zeros_like(bench.head.weight)
    head = build_head(HeadState(zeros, np.zeros(len(zeros), np.float32)))
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss_again():
        optimiser.zero_grad()
        loss = F.cross_entropy(head(embeddings), y) + 1e-6 * head.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(loss_again)
    return head_state(head)


def refitting_before(request, plan, token, weights, bench, share):
    """The head is refitted outside the mechanism, then the real round runs with it."""
    return local_round(request, plan, token, weights, replace(bench, head=fitted_head(bench)), share)


def refitting_after(request, plan, token, weights, bench, share):
    """The real round, and then the head is refitted for the next one."""
    result, _ = local_round(request, plan, token, weights, bench, share)
    return result, fitted_head(bench)


def estimate_of(rows):
    return next(row for row in rows if row.name == "ε of the plan, Gaussian estimate")


def test_plans_of_an_audit_cost_what_they_say():
    for target in NOISE_MULTIPLIER:
        assert 0.97 * target < epsilon(audit_plan(target).events_of_run(), 1e-5) <= target


@pytest.mark.parametrize(
    ("target", "mode"), [(1, Mode.LOCAL), (3, Mode.LOCAL), (8, Mode.LOCAL), (3, Mode.SECURE)]
)
def test_honest_member_passes_and_its_estimate_is_near_the_claim(dry, sets, target, mode):
    game, small = sets
    member = dry(audit_plan(target, mode, augmentations=("flip", "shift2")))
    epsilons = epsilon_rows(member, game)
    rows = [*epsilons, influence_row(member, small), *noise_rows(member, small, 8)]
    assert [row.name for row in rows if row.refused] == []
    assert abs(estimate_of(epsilons).found / estimate_of(epsilons).claim - 1) < 0.15
    assert len(epsilons) == (3 if mode is Mode.SECURE else 2)


def test_honest_member_passes_where_persons_are_the_units_and_rounds_have_steps(dry, tmp_path):
    plan = audit_plan(3, local_steps=3, unit=Unit.PERSON)
    game = make_audit_set(tmp_path / "game", SPEC, Unit.PERSON, range(100))
    rows = epsilon_rows(dry(plan), game)
    assert [row.name for row in rows if row.refused] == []
    assert abs(estimate_of(rows).found / estimate_of(rows).claim - 1) < 0.15


def test_honest_draw_passes(dry, sets):
    assert not draw_row(dry(audit_plan(3)), sets[1], 24).refused


@EVERY_EPSILON
def test_halved_noise_is_caught(dry, sets, target):
    member = dry(audit_plan(target), with_noise(HalvedNoise()))
    found = estimate_of(epsilon_rows(member, sets[0]))
    assert found.refused
    assert found.low > found.claim
    tensors, head = noise_rows(member, sets[1], 12)
    assert tensors.refused
    assert head.refused


@EVERY_EPSILON
def test_halved_noise_share_of_mode_secure_is_caught(dry, sets, target, monkeypatch):
    monkeypatch.setattr(step_room, "own_blocks", halved_base)
    member = dry(audit_plan(target, Mode.SECURE))
    alone = next(row for row in epsilon_rows(member, sets[0]) if row.name.startswith("ε_alone"))
    assert alone.refused
    assert alone.low > alone.claim


@EVERY_EPSILON
def test_missing_noise_share_of_mode_secure_is_caught(dry, sets, target, monkeypatch):
    monkeypatch.setattr(step_room, "own_blocks", no_base)
    member = dry(audit_plan(target, Mode.SECURE))
    assert noise_rows(member, sets[1], 12)[0].refused


@EVERY_EPSILON
@pytest.mark.parametrize("broken", [no_steps, halved_steps])
def test_missing_or_halved_steps_are_caught_where_they_would_stay(dry, sets, target, broken, monkeypatch):
    """Where everybody answers such a member looks noisier than it has to be: all other rows let it pass."""
    monkeypatch.setattr(step_room, "own_blocks", broken)
    member = dry(audit_plan(target, Mode.SECURE))
    others = [*epsilon_rows(member, sets[0]), influence_row(member, sets[1]), *noise_rows(member, sets[1], 8)]
    assert [row.name for row in others if row.refused] == []
    [row] = step_rows(member, sets[1], 8)
    assert row.refused and not row.low <= 1.0 <= row.high


def test_honest_steps_pass_and_mode_local_has_none(dry, sets):
    [row] = step_rows(dry(audit_plan(3, Mode.SECURE)), sets[1], 12)
    assert not row.refused and abs(row.found - 1.0) < 0.02
    assert step_rows(dry(audit_plan(3)), sets[1], 2) == []


@EVERY_EPSILON
def test_missing_noise_is_caught(dry, sets, target):
    member = dry(audit_plan(target), with_noise(NoNoise()))
    bound, found = epsilon_rows(member, sets[0])
    assert found.refused
    assert math.isinf(found.low)
    # 320 canaries bound ε below about 4, so the rigorous bound can refute the smaller claims only.
    assert bound.found > 2.5
    assert bound.refused == (bound.found > bound.claim)
    assert bound.refused or target == 8


@EVERY_EPSILON
@pytest.mark.parametrize("mode", list(Mode))
def test_missing_clip_is_caught(dry, sets, target, mode, monkeypatch):
    monkeypatch.setattr(local_round_room, "clipped_sum", without_clip)
    member = dry(audit_plan(target, mode))
    assert estimate_of(epsilon_rows(member, sets[0])).refused
    influence = influence_row(member, sets[1])
    assert influence.refused
    assert influence.low > 1.5


@EVERY_EPSILON
def test_shuffled_batches_are_caught(dry, sets, target):
    row = draw_row(dry(audit_plan(target), shuffling_member()), sets[1], AuditDepth().draw_rounds)
    assert row.refused
    assert row.found < row.claim / 100


@EVERY_EPSILON
@pytest.mark.parametrize("mode", list(Mode))
def test_head_refitted_before_the_round_moves_the_sum_by_more_than_the_clip(dry, sets, target, mode):
    row = influence_row(dry(audit_plan(target, mode), refitting_before), sets[1])
    assert row.refused
    assert row.low > 1.5


@EVERY_EPSILON
def test_head_refitted_after_the_round_is_caught(dry, sets, target):
    member = dry(audit_plan(target), refitting_after)
    head = next(row for row in noise_rows(member, sets[1], 8) if row.name == "noise on the training head")
    assert head.refused
    assert influence_row(member, sets[1]).refused


@pytest.mark.parametrize("mode", list(Mode))
def test_validation_counts_with_a_third_of_their_noise_are_caught(dry, sets, mode, monkeypatch):
    class QuietCounts(NoiseSource):
        def noised(self, values, std):
            return super().noised(values, std / 3 if len(values) == 2 else std)

    def counts_of(member):
        rows = noise_rows(dry(plan, member), sets[1], 32)
        return next(row for row in rows if "counts" in row.name)

    plan = replace(audit_plan(3, mode), evaluate_every=2)
    assert not counts_of(local_round).refused
    # In mode local the member's own source draws it, in mode secure its share of the sum's.
    monkeypatch.setattr(noise_shares, "count_variance", lambda plan: count_variance(plan) / 9)
    assert counts_of(with_noise(QuietCounts())).refused


def test_audit_that_sees_no_canary_refuses_instead_of_passing(dry, sets):
    class Nobody(Chosen):
        def poisson_draw(self, noise, rate):
            return super().poisson_draw(noise, rate)[:0]

    def idle(request, plan, token, weights, bench, share):
        nobody = Nobody(sets[0].reader, np.ones(len(sets[0].codes), dtype=bool))
        return local_round(request, plan, token, weights, replace(bench, records=nobody), share)

    member = dry(audit_plan(3), idle)
    assert "nothing was audited" in estimate_of(epsilon_rows(member, sets[0])).says
    assert estimate_of(epsilon_rows(member, sets[0])).refused
    assert influence_row(member, sets[1]).refused


def test_canary_moves_its_own_coordinate_by_one_clip_norm_and_no_other(dry, sets):
    game, _ = sets
    member = dry(audit_plan(3))
    one = game.canaries[:1]
    seen = member.round(Chosen(game.reader, np.isin(game.codes, one)), Terms(1e-3))
    part = member.part("canaries.weight")
    scores = seen.extractor[part]
    assert abs(scores[one[0]] - 1.0) < 0.01
    assert np.abs(np.delete(seen.extractor, part.start + one[0])).max() < 0.01


def _epoch(generator, units, size):
    """bool [units // size, units]: the batches that are cut from one shuffle, without what is left over."""
    place = generator.permutation(units) // size
    return np.stack([place == batch for batch in range(units // size)])


@pytest.mark.parametrize(
    ("kind", "caught"),
    [("coins", False), ("fixed size", True), ("epochs", True), ("rest left out", True), ("more often", True)],
)
def test_poisson_test_tells_coins_from_other_batches(kind, caught):
    generator = np.random.Generator(np.random.PCG64(3))
    rounds, units, rate = 40, 96, 0.25
    order = np.argsort(generator.random((rounds, units)), axis=1)
    epochs = np.concatenate([np.argsort(generator.random(units)) // 24 for _ in range(10)]).reshape(10, units)
    drawn = {
        "coins": generator.random((rounds, units)) < rate,
        "fixed size": order < rate * units,
        "epochs": np.concatenate([epochs == part for part in range(4)]),
        # As loaders with drop_last do: 96 of 127 units in each epoch's three batches, and 69 of them looked at.
        "rest left out": np.concatenate([_epoch(generator, 127, 32)[:, :69] for _ in range(14)])[:rounds],
        "more often": generator.random((rounds, units)) < 1.3 * rate,
    }[kind]
    assert (poisson_p_value(drawn, rate)[0] < 1e-5) == caught


def test_one_run_bound_is_that_of_the_paper_for_perfect_guesses():
    """m = r = v and δ = 0: the p-value is (e^ε/(1 + e^ε))^m, so the bound is -ln(p^(-1/m) - 1)."""
    for canaries in (100, 1000):
        expected = -math.log(0.05 ** (-1 / canaries) - 1)
        assert one_run.epsilon_refuted(canaries, canaries, canaries, 0.0, 0.05) == pytest.approx(
            expected, abs=2e-4
        )
    # δ can only lower the bound.
    assert one_run.epsilon_refuted(1000, 1000, 1000, 1e-5, 0.05) < -math.log(0.05 ** (-1 / 1000) - 1)


@pytest.mark.parametrize(
    ("canaries", "guesses", "right", "claim", "delta"),
    [
        (1000, 100, 95, 2.0, 1e-5),
        (1000, 500, 400, 1.0, 1e-4),
        (320, 64, 60, 3.0, 1e-3),
        (50, 10, 0, 1.0, 1e-3),
    ],
)
def test_p_value_is_that_of_the_papers_own_program(canaries, guesses, right, claim, delta):
    """Its appendix D, line by line and without our arrays: δ counts 2·m times, at the worst of all distances."""
    chance = 1 / (1 + math.exp(-claim))
    mass = [math.comb(guesses, k) * chance**k * (1 - chance) ** (guesses - k) for k in range(guesses + 1)]
    alpha, below = 0.0, 0.0
    for distance in range(1, right + 1):
        below += mass[right - distance]
        alpha = max(alpha, below / distance)
    expected = min(1.0, math.fsum(mass[right:]) + alpha * delta * 2 * canaries)
    assert one_run.p_value(canaries, guesses, right, claim, delta) == pytest.approx(expected, rel=1e-9)


def test_one_run_bound_holds_on_randomised_response_and_is_not_idle():
    """The worst mechanism that is exactly ε-DP: each canary's presence is told truly with e^ε/(1 + e^ε)."""
    generator, above = np.random.Generator(np.random.PCG64(7)), []
    true = 1.0
    for _ in range(60):
        present = generator.random(500) < 0.5
        told = present ^ (generator.random(500) >= 1 / (1 + math.exp(-true)))
        above.append(one_run.lower_bound(told + generator.random(500) / 2, present, 0.0))
    assert np.mean(np.array(above) > true) <= 0.05
    assert np.mean(above) > 0.5 * true
