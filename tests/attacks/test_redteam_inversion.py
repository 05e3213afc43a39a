"""Gradient inversion shows the record where nothing protects it, and shows nothing of what leaves the node."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from participant.redteam.inversion import Effort, demonstration_spec, inversion_rows, invert_stages
from participant.redteam.pictures import synthetic_pictures
from shared.domain.extractor import ExtractorSpec
from shared.domain.privacy import Mode
from tests.fixed_noise import fixed_noise
from tests.redteam_kit import redteam_plan

pytestmark = pytest.mark.usefixtures("same_noise")
SPEC = ExtractorSpec("small-gn", 1, 8, 8, 16, (0.5,), (0.25,), {"width": 32})
EFFORT = Effort(iterations=80, starts=2)


def make_plan(mode):
    return redteam_plan(mode, extractor=SPEC, target_epsilon=8.0, noise_multiplier=1.01)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder, victim = tmp_path_factory.mktemp("inversion"), synthetic_pictures(1, SPEC, number=5)
    with fixed_noise():
        return {
            mode: invert_stages(make_plan(mode), victim, folder / mode.value, EFFORT) for mode in list(Mode)
        }


def test_unprotected_gradient_shows_the_record(stages):
    assert stages[Mode.LOCAL][0].stage == "nothing"
    assert stages[Mode.LOCAL][0].psnr_db > 17
    assert stages[Mode.LOCAL][0].ssim > 0.75


def test_clip_alone_shows_the_record_just_as_well(stages):
    """The attack compares directions, and a clip changes none."""
    nothing, clipped = stages[Mode.LOCAL][:2]
    assert clipped.psnr_db == pytest.approx(nothing.psnr_db, abs=2)


@pytest.mark.parametrize("mode", list(Mode))
def test_what_leaves_shows_nothing_at_any_stage_of_protection(stages, mode):
    protected = [one for one in stages[mode] if one.protects]
    expected = {
        Mode.LOCAL: ["clip and noise"],
        Mode.SECURE: ["noise share, unmasked", "under masks", "secure sum"],
    }
    assert [one.stage for one in protected] == expected[mode]
    for one in protected:
        # Not SSIM as well: on eight by eight pixels noise reaches 0.7 of it by luck now and then.
        assert one.psnr_db < stages[mode][0].psnr_db - 6


def test_network_of_the_demonstration_has_the_plans_pictures_at_most_32_pixels_a_side():
    plan = make_plan(Mode.LOCAL)
    large = replace(plan, extractor=ExtractorSpec("resnet18-gn", 3, 224, 20, 512, (0.5,), (0.2,)))
    found = demonstration_spec(large)
    assert (found.architecture, found.channels, found.height, found.width) == ("small-gn", 3, 32, 20)
    assert found.std == (0.2,)


def test_rows_and_pictures_stand_side_by_side(tmp_path):
    rows, picture = inversion_rows(make_plan(Mode.SECURE), tmp_path / "scratch", tmp_path, Effort(2, 2))
    assert [row.tried for row in rows][:2] == ["nothing", "clip only"]
    assert [row.protected is None for row in rows] == [True, True, False, False, False]
    assert "certifies nothing" in picture.caption
    with Image.open(tmp_path / picture.file) as shown:
        assert shown.width > 6 * 112
        assert np.asarray(shown).std() > 10
