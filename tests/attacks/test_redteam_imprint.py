"""A malicious block in front ("Robbing the Fed"): it robs an unprotected sum, and gets nothing from what leaves."""

import numpy as np
import pytest

from participant.policy import Policy, check_rules
from participant.redteam import imprint
from participant.redteam.imprint import ImprintBlock, allow_list_row, imprint_rows
from participant.redteam.pictures import BEST_PSNR_DB, psnr_db, ssim, synthetic_pictures
from shared.domain.errors import InvalidConfig, PolicyForbids
from shared.domain.extractor import ExtractorSpec
from shared.domain.privacy import Mode, Unit
from shared.extractors.architectures import build
from shared.extractors.layers import check_layers
from tests.plans import SPEC
from tests.redteam_kit import NoNoise, redteam_plan, with_noise

pytestmark = pytest.mark.usefixtures("same_noise")
LEAST_NOISE = 0.3
"""The least noise multiplier that any plan may have (shared/privacy/soundness.py)."""


def make_plan(mode=Mode.LOCAL, noise_multiplier=LEAST_NOISE, spec=SPEC):
    return redteam_plan(mode, noise_multiplier=noise_multiplier, extractor=spec)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("spec", [SPEC, ExtractorSpec("small-gn", 3, 10, 8, 8)])
def test_block_recovers_most_records_exactly_without_protection_and_none_of_what_leaves(tmp_path, mode, spec):
    rows, robberies, victims = imprint_rows(make_plan(mode, spec=spec), tmp_path)
    assert len(victims) == 64
    unprotected, clipped, *protected = robberies.values()
    assert unprotected.recovered >= 35
    # Exactly: the recovered pictures have the record's own grey levels.
    exact = np.rint(unprotected.closest * 255) == victims
    assert exact.reshape(64, -1).all(axis=1).sum() >= 30
    assert len(protected) == (2 if mode is Mode.SECURE else 1)
    assert [found.recovered for found in protected] == [0] * len(protected)
    assert all(found.psnr_db.max() < 25 for found in protected)
    assert [row.protected for row in rows] == [None, None, *[True] * len(protected), True]


def test_clip_alone_is_no_defence(tmp_path):
    """Weight and bias gradients shrink alike, so their ratio is still the record."""
    _, robberies, _ = imprint_rows(make_plan(), tmp_path)
    assert robberies["clip only"].recovered >= 35
    assert abs(robberies["clip only"].recovered - robberies["nothing"].recovered) <= 6


def test_noise_far_below_the_plans_stops_it_too_so_that_its_failure_certifies_nothing(tmp_path):
    """At σ = 0.01, where ε is in the thousands, it recovers nothing either."""
    _, robberies, _ = imprint_rows(make_plan(noise_multiplier=0.01), tmp_path)
    assert robberies["the plan: clip and noise"].recovered == 0


def test_attack_gets_through_a_member_without_noise_and_the_row_says_so(tmp_path):
    rows, robberies, _ = imprint_rows(make_plan(), tmp_path, member=with_noise(NoNoise()))
    assert robberies["the plan: clip and noise"].recovered >= 35
    assert rows[2].protected is False


def test_allow_list_refuses_the_block_by_name_before_anything_is_trained():
    """The layers alone would pass: nothing in the block mixes records, so the name is what refuses it."""
    check_layers(ImprintBlock(SPEC, np.linspace(-1, 1, 8)))
    crafted = ExtractorSpec("imprint", 1, 8, 8, 4)
    with pytest.raises(InvalidConfig, match="Expected an architecture among .*; found 'imprint'"):
        build(crafted, seed=0)
    with pytest.raises(PolicyForbids, match="architecture imprint is not among fixed-mlp"):
        check_rules(Policy("d", 8.0), make_plan(spec=crafted), "mem_0", Unit.RECORD, 1000)
    assert allow_list_row(make_plan()).protected


@pytest.mark.parametrize(
    ("side", "most_coordinates"),
    [(40, 450_000), pytest.param(120, imprint._MOST_COORDINATES, marks=pytest.mark.slow)],
)
def test_large_pictures_are_attacked_with_a_block_that_fits_into_memory(
    tmp_path, monkeypatch, side, most_coordinates
):
    monkeypatch.setattr(imprint, "_MOST_COORDINATES", most_coordinates)
    spec = ExtractorSpec("small-gn", 3, side, side, 8)
    rows, robberies, victims = imprint_rows(make_plan(spec=spec), tmp_path)
    assert len(victims) == 23
    assert robberies["nothing"].recovered >= 12
    assert rows[2].protected


def test_measures_of_likeness_know_equal_and_unrelated_pictures():
    first, second = synthetic_pictures(2, SPEC, number=9) / 255.0
    noise = np.random.Generator(np.random.PCG64(1)).random(first.shape)
    assert psnr_db(first, first) == BEST_PSNR_DB
    assert ssim(first, first) == pytest.approx(1.0)
    assert psnr_db(np.clip(first + 0.1, 0, 2), first) == pytest.approx(20.0)
    assert ssim(noise, first) < 0.3 < ssim(first + 0.02 * noise, first)
    assert ssim(second, first) < 0.9


def test_ssim_is_that_of_the_paper_on_constant_pictures():
    """Without structure only luminance is left: (2ab + C1) / (a² + b² + C1), equation 6 of Wang et al. 2004."""
    a, b = 0.25, 0.75
    expected = (2 * a * b + 0.01**2) / (a * a + b * b + 0.01**2)
    shape = (12, 12, 1)
    assert ssim(np.full(shape, a), np.full(shape, b)) == pytest.approx(expected)
