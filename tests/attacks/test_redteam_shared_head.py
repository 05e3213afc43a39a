"""The red team on plans with a shared training head, which comes from the coordinator and leaves with the sum.

It is played over the synthetic records' classes by the real member code; broken members are refused here too.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from participant.redteam.canaries import CLASSES
from participant.redteam.dishonest_node import NodePlay
from participant.redteam.dishonest_play import played_plan
from participant.redteam.dishonest_requests import crafted_vectors
from participant.redteam.run import run_redteam
from participant.redteam.self_audit import epsilon_rows, influence_row, noise_rows
from participant.training import local_round as local_round_room
from participant.training import step as step_room
from shared.domain.plan import Plan, SecureTerms, SharedHead
from shared.domain.privacy import Mode
from shared.privacy.mechanism import NoiseSource
from shared.secagg.fixed_point import to_grid, to_ring
from tests.fixed_noise import fixed_noise
from tests.plans import SPEC
from tests.redteam_kit import (
    SHALLOW,
    audit_plan,
    audit_sets,
    dry_member,
    halved_base,
    with_noise,
    without_clip,
)

pytestmark = pytest.mark.usefixtures("same_noise")
LABELS = ("cat", "dog", "owl", "yak")
MODES = pytest.mark.parametrize("mode", list(Mode))


def shared_plan(mode: Mode, target: int = 3) -> Plan:
    head = SharedHead(LABELS, SPEC.embedding_dim)
    return audit_plan(target, mode, shared_head=head, trainable_coordinates=1000)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    with fixed_noise():
        return audit_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def dry(tmp_path):
    return partial(dry_member, tmp_path)


@MODES
def test_honest_member_passes_and_its_head_leaves_with_the_extractors_noise(dry, sets, mode):
    member = dry(shared_plan(mode))
    epsilons, noises = epsilon_rows(member, sets[0]), noise_rows(member, sets[1], 12)
    rows = [*epsilons, influence_row(member, sets[1]), *noises]
    assert [row.name for row in rows if row.refused] == []
    estimate = next(row for row in epsilons if row.name == "ε of the plan, Gaussian estimate")
    assert abs(estimate.found / estimate.claim - 1) < 0.15
    head = next(row for row in noises if row.name == "noise on the training head")
    tensors = next(row for row in noises if row.name == "noise on each tensor")
    assert head.claim == tensors.claim
    assert head.low < head.claim * 1.02
    assert "leaves with the extractor" in head.says


def without_noise_on_the_head(total, *rest):
    """The real sum, with the shared head's part sent as it is."""
    ring = noisy_ring_sum(total, *rest)
    plan = rest[1]
    head = slice(plan.extractor_coordinates, plan.trainable_coordinates)
    ring[head] = to_ring(to_grid(total[head], plan.secure.grid_width), plan.secure.ring_bits)
    return ring


noisy_ring_sum = local_round_room.noisy_ring_sum


def test_shared_head_that_leaves_without_noise_is_caught(dry, sets, monkeypatch):
    monkeypatch.setattr(local_round_room, "noisy_ring_sum", without_noise_on_the_head)
    rows = {row.name: row for row in noise_rows(dry(shared_plan(Mode.SECURE)), sets[1], 12)}
    assert rows["noise on the training head"].refused
    assert not rows["noise on each tensor"].refused


def test_shared_head_with_half_the_noise_is_caught_in_mode_local(dry, sets):
    class QuietHead(NoiseSource):
        def noised(self, values, std):
            return super().noised(values, std / 2 if len(values) == 2 * 5 else std)

    rows = {
        row.name: row
        for row in noise_rows(dry(shared_plan(Mode.LOCAL), with_noise(QuietHead())), sets[1], 12)
    }
    assert rows["noise on the training head"].refused
    assert not rows["noise on each tensor"].refused


@MODES
def test_missing_clip_is_caught_over_extractor_and_shared_head_together(dry, sets, mode, monkeypatch):
    monkeypatch.setattr(local_round_room, "clipped_sum", without_clip)
    row = influence_row(dry(shared_plan(mode)), sets[1])
    assert row.refused
    assert row.low > 1.5


def test_halved_noise_share_is_caught_on_both_parts(dry, sets, monkeypatch):
    monkeypatch.setattr(step_room, "own_blocks", halved_base)
    tensors, head = noise_rows(dry(shared_plan(Mode.SECURE)), sets[1], 16)
    assert tensors.refused
    assert head.refused


@MODES
def test_coordinator_that_crafts_the_shared_head_too_gains_no_more_than_a_clip_norm(tmp_path, mode):
    plan = shared_plan(mode)
    if mode is Mode.SECURE:
        plan = replace(plan, secure=SecureTerms(1e-4, 32, 1, 0, 4))
    play = NodePlay(played_plan(plan), tmp_path, honest_peers=False)
    assert play.plan.shared_head == SharedHead(CLASSES, play.plan.extractor.embedding_dim)
    crafted = crafted_vectors(play)
    head = slice(play.plan.extractor_coordinates, None)
    amplified = [weights for weights in crafted if np.abs(weights[head]).max() > 100.0]
    assert len(amplified) == 1
    clip_norm_l2 = play.plan.privacy.clip_norm_l2
    unclipped = max(play.longest_of_one(weights, 1e30) for weights in crafted)
    assert unclipped > 2 * clip_norm_l2
    assert max(play.longest_of_one(weights, clip_norm_l2) for weights in crafted) < 1.0001 * clip_norm_l2
    # What is left of the noise where nobody else adds any: all of it in mode local, this member's share else.
    share = 1.0 if mode is Mode.LOCAL else (len(play.plan.members) - plan.colluders) ** -0.5
    assert play.noise_left(amplified[0]) > 0.9 * share


@pytest.mark.slow
@pytest.mark.parametrize("mode", Mode)
def test_whole_red_team_runs_on_a_plan_with_a_shared_head_and_finds_nothing(tmp_path, mode):
    report = run_redteam(shared_plan(mode), SHALLOW, tmp_path)
    assert [row.name for row in report.audit if row.refused] == []
    # An inversion of 4 steps shows nothing at any stage, so only the rest is judged here.
    table = [row for row in report.attacks if row.name.startswith("malicious coordinator")]
    assert len(table) > 6
    assert [row.name for row in table if row.protected is False] == []
    assert any("shared training head is played over the two classes" in note for note in report.notes)
