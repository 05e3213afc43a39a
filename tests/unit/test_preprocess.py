import numpy as np
import pytest
from PIL import Image

from shared.domain.errors import InvalidConfig, InvalidRecords
from shared.domain.extractor import ExtractorSpec
from shared.extractors.preprocess import fit_image, to_input

GREY = ExtractorSpec("fixed-mlp", 1, 4, 6, 8, (0.5,), (0.25,))
COLOUR = ExtractorSpec("fixed-mlp", 3, 4, 4, 8, (0.0, 0.5, 1.0), (1.0, 0.5, 0.25))


def test_input_is_scaled_normalised_and_turned_to_channels_first():
    images = np.zeros((2, 4, 6, 1), dtype=np.uint8)
    images[1] = 255
    x = to_input(images, GREY)
    assert x.shape == (2, 1, 4, 6)
    assert x.dtype == np.float32
    np.testing.assert_allclose([x[0].max(), x[1].min()], [-2.0, 2.0])


def test_every_channel_has_its_own_public_mean_and_std():
    x = to_input(np.full((1, 4, 4, 3), 255, dtype=np.uint8), COLOUR)
    np.testing.assert_allclose(x[0, :, 0, 0], [1.0, 1.0, 0.0])


def test_no_records_are_a_legal_input():
    assert to_input(np.zeros((0, 4, 6, 1), dtype=np.uint8), GREY).shape == (0, 1, 4, 6)


@pytest.mark.parametrize("images", [np.zeros((1, 6, 4, 1), np.uint8), np.zeros((1, 4, 6, 1), np.float32)])
def test_pixels_of_another_shape_or_type_are_refused(images):
    with pytest.raises(InvalidRecords, match=r"Expected records of uint8 \[4, 6, 1\], found"):
        to_input(images, GREY)


def test_mean_and_std_must_fit_the_channels_and_std_be_positive():
    with pytest.raises(InvalidConfig, match="mean expects 1 or 1 numbers, found 2"):
        to_input(np.zeros((1, 4, 6, 1), np.uint8), ExtractorSpec("a", 1, 4, 6, 8, (0.5, 0.5), (1.0,)))
    with pytest.raises(InvalidConfig, match=r"std must be above 0, found \[0.0\]"):
        to_input(np.zeros((1, 4, 6, 1), np.uint8), ExtractorSpec("a", 1, 4, 6, 8, (0.5,), (0.0,)))


def test_picture_of_the_right_size_keeps_its_pixels():
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    np.testing.assert_array_equal(fit_image(Image.fromarray(pixels), GREY)[:, :, 0], pixels)


def test_wide_picture_is_cropped_in_the_middle_and_not_squeezed():
    pixels = np.zeros((4, 12), dtype=np.uint8)
    pixels[:, 4:8] = 200
    fitted = fit_image(Image.fromarray(pixels), ExtractorSpec("a", 1, 4, 4, 8))
    assert fitted.min() == 200


def test_grey_becomes_colour_and_colour_grey():
    grey = Image.new("L", (4, 4), 77)
    assert fit_image(grey, COLOUR).tolist() == np.full((4, 4, 3), 77).tolist()
    red = Image.new("RGB", (6, 4), (255, 0, 0))
    assert fit_image(red, GREY).shape == (4, 6, 1)
    assert fit_image(red, GREY)[0, 0, 0] == 76  # ITU-R 601 weights


def test_picture_that_says_it_lies_on_its_side_is_turned_upright(tmp_path):
    pixels = np.zeros((6, 4), dtype=np.uint8)
    pixels[0] = 255  # the top row of the stored picture is the right column of the upright one
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "side.png", exif=exif)
    fitted = fit_image(Image.open(tmp_path / "side.png"), GREY)
    assert fitted[:, 5, 0].tolist() == [255] * 4
    assert fitted[:, :5].max() == 0


def test_transparent_parts_become_white():
    assert fit_image(Image.new("RGBA", (6, 4), (0, 0, 0, 0)), GREY).min() == 255


def test_spec_with_two_channels_is_refused():
    with pytest.raises(InvalidConfig, match="expects 2 channels; pictures can be made into 1"):
        fit_image(Image.new("L", (4, 4)), ExtractorSpec("a", 2, 4, 4, 8))
