"""Measured on embeddings of which it is known what they see."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from shared.domain.errors import InvalidConfig, InvalidWeights
from shared.lens.measures import movements, probe
from shared.lens.probe_set import ProbeSet, build_probe_set
from shared.lens.profile import measure
from shared.lens.profile_shape import LensProfile, plain_profile, read_profile
from shared.lens.words import describe

SIDE = 48


@pytest.fixture(scope="module")
def probe_set() -> ProbeSet:
    return build_probe_set()


def mean_colour(pictures: np.ndarray) -> np.ndarray:
    return pictures.mean(axis=(1, 2)).astype(np.float32)


def coarse_pixels(pictures: np.ndarray) -> np.ndarray:
    small = [Image.fromarray(x.squeeze()).resize((12, 12), Image.Resampling.BOX) for x in pictures]
    return np.stack([np.asarray(x, dtype=np.float32).ravel() for x in small])


@pytest.fixture(scope="module")
def of_colour(probe_set: ProbeSet) -> LensProfile:
    return measure(mean_colour, 3, SIDE, SIDE, probe_set)


@pytest.fixture(scope="module")
def of_pixels(probe_set: ProbeSet) -> LensProfile:
    return measure(coarse_pixels, 3, SIDE, SIDE, probe_set)


def moved(profile: LensProfile) -> dict[str, float]:
    return {move.change: move.distance for move in profile.moves}


def told(profile: LensProfile) -> dict[str, float]:
    return {each.question: each.accuracy for each in profile.tells}


def at_chance(profile: LensProfile, question: str) -> bool:
    found = next(each for each in profile.tells if each.question == question)
    return found.low <= found.chance <= found.high


def test_the_mean_colour_sees_colour_and_light_and_no_arrangement(of_colour):
    distances = moved(of_colour)
    assert min(distances["colour-shift"], distances["brightness"]) > 0.75
    assert max(distances[name] for name in ("layout-shuffle", "rotation", "blur", "texture-swap")) < 0.05
    assert told(of_colour)["colour"] > 0.95
    assert all(at_chance(of_colour, name) for name in ("content", "texture", "layout", "orientation"))


def test_coarse_pixels_see_layout_and_orientation_and_no_texture(of_pixels):
    distances = moved(of_pixels)
    assert min(distances["layout-shuffle"], distances["rotation"]) > 0.75
    assert max(distances["blur"], distances["texture-swap"]) < 0.25
    assert min(told(of_pixels)[name] for name in ("layout", "orientation")) > 0.9
    assert at_chance(of_pixels, "texture")


def test_a_constant_embedding_does_not_move_and_guesses(probe_set):
    rounding = np.random.Generator(np.random.PCG64(0))

    def constant(pictures: np.ndarray) -> np.ndarray:
        return (0.1 + 1e-8 * rounding.standard_normal((len(pictures), 5))).astype(np.float32)

    profile = measure(constant, 3, SIDE, SIDE, probe_set)
    assert set(moved(profile).values()) == {0.0}
    assert all(each.accuracy == pytest.approx(each.chance, abs=1e-4) for each in profile.tells)
    assert describe(profile).startswith("Nearly blind to content, colour, texture, layout and orientation.")


def test_a_grey_extractor_cannot_tell_colours_and_is_not_moved_by_them(probe_set):
    profile = measure(coarse_pixels, 1, SIDE, SIDE, probe_set)
    assert moved(profile)["colour-shift"] < 0.01
    assert at_chance(profile, "colour")
    assert told(profile)["layout"] > 0.9


def test_neither_scale_nor_repeated_dimensions_change_a_profile(probe_set, of_colour):
    again = measure(lambda x: np.tile(100 * mean_colour(x) + 7, 3), 3, SIDE, SIDE, probe_set)
    assert moved(again) == pytest.approx(moved(of_colour), abs=2e-4)
    assert told(again) == told(of_colour)


def test_the_same_extractor_gives_the_same_profile(probe_set, of_colour):
    assert measure(mean_colour, 3, SIDE, SIDE, probe_set) == of_colour


def test_a_profile_says_of_what_it_is(of_colour, probe_set):
    assert of_colour.probe_set == probe_set.digest
    assert (of_colour.channels, of_colour.height, of_colour.width, of_colour.embedding_dim) == (
        3,
        SIDE,
        SIDE,
        3,
    )
    assert of_colour.pictures == len(probe_set.changed["blur"])


def test_every_interval_holds_its_value(of_colour, of_pixels):
    for profile in (of_colour, of_pixels):
        assert all(move.low <= move.distance <= move.high for move in profile.moves)
        assert all(each.low <= each.accuracy <= each.high for each in profile.tells)


def test_an_extractor_gets_pictures_of_its_own_size_and_few_at_a_time(probe_set):
    seen = set()

    def embed(pictures: np.ndarray) -> np.ndarray:
        seen.add((pictures.shape[1:], pictures.dtype.name))
        assert len(pictures) <= 32
        return np.zeros((len(pictures), 2), dtype=np.float32)

    measure(embed, 1, 20, 30, probe_set)
    assert seen == {((20, 30, 1), "uint8")}


@pytest.mark.parametrize(
    "made", [np.zeros((31, 4)), np.zeros((32, 4, 1)), np.zeros((32, 0)), np.full((32, 4), np.nan)]
)
def test_embeddings_of_another_shape_or_not_finite_are_refused(probe_set, made):
    with pytest.raises(InvalidWeights, match=r"Expected finite embeddings \[32, D\] of 32 pictures, found"):
        measure(lambda x: made.astype(np.float32), 3, SIDE, SIDE, probe_set)


def test_a_profile_goes_to_json_and_back(of_colour):
    written = json.dumps(plain_profile(of_colour), allow_nan=False)
    assert read_profile(json.loads(written), "lens.json") == of_colour


def changed(profile: LensProfile, **values: object) -> dict[str, object]:
    return {**plain_profile(profile), **values}


def test_a_profile_of_another_format_or_with_impossible_numbers_is_refused(of_colour):
    plain = plain_profile(of_colour)
    first = plain["moves"][0]
    wrong = [
        ({"format": "commonlens-lens-profile/2"}, "expected the format commonlens-lens-profile/1, found"),
        ({"moves": plain["moves"][1:]}, "expected 7 changes and 5 questions"),
        (
            {"moves": [{**first, "distance": -0.5}, *plain["moves"][1:]]},
            "expected distances of at least 0",
        ),
        (
            {"moves": [{**first, "distance": math.inf}, *plain["moves"][1:]]},
            "distance: expected a finite number, found inf",
        ),
        ({"tells": [{**each, "accuracy": 1.5} for each in plain["tells"]]}, "shares of 0 to 1"),
        ({"tells": [{**each, "chance": 1.0} for each in plain["tells"]]}, "and chances between"),
        ({"tells": "none"}, "expected a list"),
    ]
    for values, message in wrong:
        with pytest.raises(InvalidConfig, match=message):
            read_profile(changed(of_colour, **values), "lens.json")


def test_going_to_another_picture_is_a_movement_of_one():
    rng = np.random.Generator(np.random.PCG64(0))
    before, after = rng.standard_normal((2, 300, 8))
    found = movements(before, {"elsewhere": after, "nowhere": before}, np.arange(300))
    assert found["elsewhere"].low < 1.0 < found["elsewhere"].high
    assert found["nowhere"] == (0.0, 0.0, 0.0)


def test_a_dimension_that_only_the_change_moves_counts():
    rng = np.random.Generator(np.random.PCG64(0))
    before = np.c_[rng.standard_normal(50), np.zeros(50)]
    assert movements(before, {"lights it": before + (0.0, 1.0)}, np.arange(50))["lights it"].value > 0.5


def test_a_probe_reads_what_is_there_and_guesses_where_nothing_is():
    rng = np.random.Generator(np.random.PCG64(0))
    labels, held_out = np.arange(400) % 4, np.arange(400) >= 200
    noise = rng.standard_normal((400, 600))
    assert probe(noise, labels, held_out).low < 0.25 < probe(noise, labels, held_out).high
    assert probe(np.c_[labels == 1, labels == 2, labels == 3, noise[:, :5]], labels, held_out).value > 0.95


def test_the_interval_of_a_share_is_wilsons():
    labels = np.array([0, 1] * 10)
    exact = probe(np.c_[labels.astype(float)], labels, np.arange(20) >= 10)
    # 10 of 10: 1 / (1 + z²/n), Brown, Cai and DasGupta (2001), equation 4
    assert exact == pytest.approx((1.0, 1 / (1 + 1.959964**2 / 10), 1.0), abs=1e-6)
