"""The probe set: the same for everybody, balanced, and nothing in one answer tells another."""

import importlib.machinery
import itertools
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from shared.domain.errors import DigestMismatch, InvalidConfig
from shared.lens import colour
from shared.lens.changes import (
    CHANGES,
    TILES,
    Supply,
    darken,
    rotate,
    shift_colour,
    shuffle_layout,
    swap_texture,
)
from shared.lens.probe_set import (
    CROPS,
    SIDE,
    ProbeSet,
    Question,
    build_probe_set,
    crop_of_quarter,
)
from shared.lens.profile_shape import QUESTIONS
from shared.lens.sources import CONTENTS, photograph
from shared.lens.textures import textures

DIGEST = "sha256:acbbbeef91c0dd50d85fa76cddc35fb0d0848064e1199f943a44744371809e54"


@pytest.fixture(scope="module")
def probe_set() -> ProbeSet:
    return build_probe_set()


@pytest.fixture(scope="module")
def supply() -> Supply:
    rng = np.random.Generator(np.random.PCG64(1))
    return Supply(rng, textures(rng))


@pytest.fixture(scope="module")
def cat(probe_set: ProbeSet) -> colour.Pixels:
    return probe_set.photographs[2 * CROPS]


def grey(picture: colour.Pixels) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).convert("L")).astype(int)


def test_the_probe_set_is_the_one_that_published_profiles_name(probe_set):
    # Another digest is another probe set: give the format a new number, and measure what is compared again.
    assert probe_set.digest == DIGEST


def test_the_questions_are_five(probe_set):
    assert [q.name for q in (probe_set.content, *probe_set.scene_questions)] == list(QUESTIONS)


def test_every_answer_is_equally_often_right_in_both_parts(probe_set):
    for question in (probe_set.content, *probe_set.scene_questions):
        for part in (question.held_out, ~question.held_out):
            counts = np.bincount(question.labels[part])
            assert len(set(counts)) == 1
            assert counts[0] / part.sum() == pytest.approx(question.chance)


def test_no_answer_tells_anything_about_another(probe_set):
    for one, other in itertools.combinations(probe_set.scene_questions, 2):
        for part in (one.held_out, ~one.held_out):
            together = _crossed(one, other, part)
            assert together.min() == together.max() > 0


def _crossed(one: Question, other: Question, part: np.ndarray) -> np.ndarray:
    together = np.zeros((one.labels.max() + 1, other.labels.max() + 1), dtype=int)
    np.add.at(together, (one.labels[part], other.labels[part]), 1)
    return together


def test_a_crop_shows_its_own_quarter_and_nothing_of_the_others():
    quarters = np.zeros((90, 130, 3), dtype=np.uint8)
    quarters[:45, 65:], quarters[45:, :65], quarters[45:, 65:] = 80, 160, 240
    rng = np.random.Generator(np.random.PCG64(0))
    for quarter in range(4):
        for _ in range(20):
            assert (crop_of_quarter(Image.fromarray(quarters), quarter, rng) == 80 * quarter).all()


def test_learned_and_held_out_crops_are_of_opposite_quarters_of_every_photograph(probe_set):
    assert len(probe_set.photographs) == len(CONTENTS) * CROPS
    assert probe_set.content.held_out.reshape(-1, 4).tolist() == [[False, True, True, False]] * (
        6 * CROPS // 4
    )


def test_scenes_that_differ_in_colour_alone_are_equally_light(probe_set):
    lightness = np.array([grey(scene).mean() for scene in probe_set.scenes])
    hues = probe_set.scene_questions[0].labels
    by_hue = [lightness[hues == hue] for hue in range(6)]
    spread = np.std([part.mean() for part in by_hue])
    assert spread < 2 * np.mean([part.std() / np.sqrt(len(part)) for part in by_hue])


def test_held_out_photographs_are_changed_one_for_one(probe_set):
    assert list(probe_set.changed) == [change.name for change in CHANGES]
    before = probe_set.photographs[probe_set.content.held_out]
    for pictures in probe_set.changed.values():
        assert pictures.shape == before.shape == (len(CONTENTS) * CROPS // 2, SIDE, SIDE, 3)
        assert (pictures != before).any(axis=(1, 2, 3)).all()


def test_changing_a_picture_leaves_the_picture_itself_alone(cat, supply):
    kept = cat.copy()
    for change in CHANGES:
        assert change.apply(cat, supply) is not cat
    np.testing.assert_array_equal(cat, kept)


def test_a_shift_of_colour_cannot_be_seen_in_grey(cat, supply):
    shifted = shift_colour(cat, supply)
    assert np.abs(grey(shifted) - grey(cat)).max() <= 1
    assert np.abs(shifted.mean(axis=(0, 1)) - cat.mean(axis=(0, 1))).max() > 5


def test_three_shifts_of_colour_are_none_where_colours_are_weak(supply):
    pale = np.full((6, 6, 3), (120, 128, 140), dtype=np.uint8)
    turned = shift_colour(shift_colour(shift_colour(pale, supply), supply), supply)
    assert np.abs(turned.astype(int) - pale).max() <= 2


def test_luma_and_colour_differences_give_the_picture_back(cat):
    assert np.abs(colour.join(*colour.split(cat)).astype(int) - cat).max() <= 1


def test_a_colour_too_strong_for_its_lightness_is_weakened_and_not_cut_off():
    bright, none = np.full((1, 1), 250.0), np.zeros((1, 1))
    made = colour.join(bright, none + 60.0, none)
    assert made[0, 0, 2] == 255
    assert abs(int(grey(made)[0, 0]) - 250) <= 1


def test_four_quarter_turns_are_none(cat, supply):
    turned = cat
    for _ in range(4):
        turned = rotate(turned, supply)
        assert not np.array_equal(turned, cat) or _ == 3
    np.testing.assert_array_equal(turned, cat)


def test_a_shuffle_keeps_every_tile_and_leaves_none_in_its_place(supply):
    side = SIDE // TILES
    numbered = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    for row, column in itertools.product(range(TILES), range(TILES)):
        numbered[row * side : (row + 1) * side, column * side : (column + 1) * side] = (
            1 + row * TILES + column
        )
    for _ in range(20):
        shuffled = shuffle_layout(numbered, supply)
        assert (shuffled != numbered).all()
        assert (np.bincount(shuffled.ravel()) == np.bincount(numbered.ravel())).all()


def test_a_swapped_texture_leaves_the_coarse_picture_and_replaces_the_fine_one(cat, supply):
    def coarse(picture):
        return grey(np.asarray(Image.fromarray(picture).resize((6, 6), Image.Resampling.BOX)))

    swapped = swap_texture(cat, supply)
    assert np.corrcoef(coarse(swapped).ravel(), coarse(cat).ravel())[0, 1] > 0.95
    fine = [(grey(x) - np.kron(coarse(x), np.ones((28, 28)))).ravel() for x in (swapped, cat)]
    assert abs(np.corrcoef(fine[0], fine[1])[0, 1]) < 0.6


def test_darker_is_darker_by_the_stated_part(cat, supply):
    np.testing.assert_allclose(darken(cat, supply).mean(), 0.6 * cat.mean(), atol=0.3)


@pytest.fixture
def other_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the installed scikit-image."""
    module = types.ModuleType("skimage")
    module.__spec__ = importlib.machinery.ModuleSpec("skimage", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setitem(sys.modules, "skimage", module)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_a_wheel_without_the_photographs_is_refused(other_wheel):
    with pytest.raises(InvalidConfig, match="takes coffee.png from the package scikit-image"):
        photograph("coffee")


def test_a_photograph_that_is_not_the_recorded_one_is_refused(other_wheel):
    shutil.copy(Path(skimage.__file__).parent / "data" / "chelsea.png", other_wheel / "coffee.png")
    with pytest.raises(DigestMismatch, match="coffee.png of scikit-image should have digest sha256:cc02f8ca"):
        photograph("coffee")
