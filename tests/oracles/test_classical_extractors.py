"""Classical extractors against scikit-image: photographs and noise, grey and RGB, sides that cells do not divide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from PIL import Image
from skimage import color, data, feature, filters
from skimage.util import img_as_ubyte
from torch import nn

from shared.domain.extractor import ExtractorSpec, Option
from shared.extractors.architectures import CLASSICAL, build
from shared.extractors.classical_edges import FAINT, directions
from shared.extractors.classical_texture import CODES, Lbp
from shared.extractors.preprocess import to_input

Pictures = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]

SIZES = [(96, 96), (33, 47)]
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
"""Those that come with scikit-image itself."""


def pictures(channels: int, size: tuple[int, int]) -> Pictures:
    """uint8 [8, height, width, channels]: photographs, noise, noise of three levels, one colour, black."""
    height, width = size
    photographs = [
        Image.fromarray(getattr(data, name)())
        .convert("RGB" if channels == 3 else "L")
        .resize((width, height))
        for name in PHOTOGRAPHS
    ]
    shape, generator = (height, width, channels), np.random.default_rng(0)
    return np.stack(
        [np.asarray(picture).reshape(shape) for picture in photographs]
        + [
            generator.integers(0, 256, shape, dtype=np.uint8),
            generator.integers(0, 3, shape, dtype=np.uint8) * np.uint8(100),
            np.full(shape, 77, np.uint8),
            np.zeros(shape, np.uint8),
        ]
    )


def made(name: str, images: Pictures, **options: Option) -> tuple[torch.nn.Module, torch.Tensor]:
    """The extractor for pictures like `images`, and those as its input."""
    _, height, width, channels = images.shape
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    spec = ExtractorSpec(name, channels, height, width, 1, mean, std, options)
    spec = replace(spec, embedding_dim=CLASSICAL[name](spec).features)
    return build(spec, seed=0), torch.from_numpy(to_input(images, spec))


def embedded(name: str, images: Pictures, **options: Option) -> npt.NDArray[np.float32]:
    module, x = made(name, images, **options)
    with torch.no_grad():
        out: npt.NDArray[np.float32] = module(x).numpy()
    return out


def brightness(picture: Pictures) -> Numbers:
    """0…1 [height, width]."""
    return color.rgb2gray(picture) if picture.shape[2] == 3 else picture[..., 0] / 255.0


def in_cells(image: Numbers, grid: int) -> list[Numbers]:
    """The pixels of each cell, row by row."""
    height, width = image.shape
    rows, columns = ([side * i // grid for i in range(grid + 1)] for side in (height, width))
    return [
        image[rows[i] : rows[i + 1], columns[j] : columns[j + 1]] for i in range(grid) for j in range(grid)
    ]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("orientations", "cell", "block"), [(9, 8, 2), (9, 8, 3), (8, 5, 2), (12, 16, 1), (7, 7, 3)]
)
def test_hog_is_scikit_images(
    size: tuple[int, int], channels: int, orientations: int, cell: int, block: int
) -> None:
    images = pictures(channels, size)
    expected = [
        feature.hog(
            picture if channels == 3 else picture[..., 0],
            orientations,
            (cell, cell),
            (block, block),
            block_norm="L2-Hys",
            channel_axis=-1 if channels == 3 else None,
        )
        for picture in images
    ]
    found = embedded("hog", images, orientations=orientations, cell=cell, block=block)
    np.testing.assert_allclose(found, np.stack(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("orientations", [1, 2, 4, 8, 9, 12, 36])
def test_hog_bins_every_gradient_of_8_bit_pictures_as_an_angle_would_be(orientations: int) -> None:
    down, right = np.meshgrid(np.arange(-255.0, 256.0), np.arange(-255.0, 256.0), indexing="ij")
    images = np.zeros((1, 96, 96, 1), np.uint8)
    module, _ = made("hog", images, orientations=orientations)
    shares = module._bins(*(torch.from_numpy(one[None, None].astype(np.float32)) for one in (down, right)))
    angle = np.arctan2(down, right) * (180 / np.pi) % 180
    moves = (down != 0) | (right != 0)
    assert (shares.sum(dim=1) == 1).all()
    np.testing.assert_array_equal(
        shares.argmax(dim=1)[0].numpy()[moves], np.floor(angle / (180.0 / orientations))[moves]
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("grid", [1, 4])
def test_lbp_histograms_are_those_of_scikit_images_codes(
    size: tuple[int, int], channels: int, grid: int
) -> None:
    images = pictures(channels, size)
    images = np.delete(images, len(PHOTOGRAPHS) + 1, axis=0)  # noise of three levels has a test of its own
    expected = []
    for picture in images:
        codes = feature.local_binary_pattern(img_as_ubyte(brightness(picture)), 8, 1, "uniform")
        expected.append(
            [np.mean(cell == code) for cell in in_cells(codes, grid) for code in range(CODES)],
        )
    found = embedded("lbp", images, grid=grid)
    np.testing.assert_allclose(found, np.sqrt(expected), rtol=0, atol=1e-5)


def test_lbp_codes_differ_from_scikit_images_only_where_float64_rounding_decides() -> None:
    grey = pictures(1, (96, 96))[len(PHOTOGRAPHS) + 1]
    module, x = made("lbp", grey[None])
    assert isinstance(module, Lbp)
    found = module.codes(x).numpy()[0, 0]
    different = found != feature.local_binary_pattern(grey[..., 0], 8, 1, "uniform")
    around = np.pad(grey[..., 0].astype(np.int64), 1)
    to_centre = {
        (i, j): around[1 + i : 97 + i, 1 + j : 97 + j] - grey[..., 0] for i in (-1, 0, 1) for j in (-1, 0, 1)
    }
    undecided = np.zeros((96, 96), bool)
    for i in (-1, 1):
        for j in (-1, 1):
            undecided |= (to_centre[i, j] == 0) & (to_centre[i, 0] == -to_centre[0, j])
    assert 0 < different.sum() < 1e-3 * different.size
    assert not (different & ~undecided).any()


@pytest.mark.parametrize("level", [0, 1, 77, 254, 255])
def test_lbp_of_a_flat_picture_has_equal_neighbours_all_counted_as_bright(level: int) -> None:
    images = np.full((1, 9, 9, 3), level, np.uint8)
    module, x = made("lbp", images, grid=1)
    assert isinstance(module, Lbp)
    assert (module.codes(x)[0, 0, 1:-1, 1:-1] == 8).all()


def lab_histogram(picture: Pictures, levels: int, softness: float) -> Numbers:
    steps = np.linspace(0.0, 1.0, levels)
    channels = picture.shape[2]
    palette = np.stack(np.meshgrid(*[steps] * channels, indexing="ij"), axis=-1).reshape(-1, 1, channels)
    lab, of_palette = (
        color.rgb2lab(np.broadcast_to(rgb, (*rgb.shape[:-1], 3))).reshape(-1, 3) for rgb in (picture, palette)
    )
    squared = ((lab[:, None] - of_palette[None]) ** 2).sum(axis=2)
    weights = np.exp(-(squared - squared.min(axis=1, keepdims=True)) / (2 * softness**2))
    shares: Numbers = (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("channels", "levels", "softness"), [(1, 4, 10), (1, 16, 5), (3, 4, 10), (3, 2, 50), (3, 6, 5)]
)
def test_colours_are_the_soft_histogram_of_scikit_images_lab(
    size: tuple[int, int], channels: int, levels: int, softness: int
) -> None:
    images = pictures(channels, size)
    expected = np.stack([lab_histogram(picture, levels, softness) for picture in images])
    found = embedded("colours", images, levels=levels, softness=softness)
    np.testing.assert_allclose(found, np.sqrt(expected), rtol=0, atol=1e-4)


def test_colours_names_a_palette_colour_that_fills_the_picture() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[0, ..., 0], images[1] = 255, 255
    found = embedded("colours", images, levels=2, softness=5)
    np.testing.assert_allclose(found, np.eye(8)[[0b100, 0b111]], atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("grid", "orientations"), [(8, 4), (1, 2), (5, 3)])
def test_edge_layout_is_scikit_images_sobel_in_cells(
    size: tuple[int, int], channels: int, grid: int, orientations: int
) -> None:
    images = pictures(channels, size)
    expected = []
    for picture in images:
        bright = brightness(picture)
        horizontal, vertical = filters.sobel_h(bright), filters.sobel_v(bright)
        maps = [filters.sobel(bright)]
        maps += [abs(c * horizontal + s * vertical) for c, s in directions(orientations).astype(np.float64)]
        means = np.array([cell.mean() for one in maps for cell in in_cells(one, grid)])
        expected.append(np.sqrt(means / (means.sum() + FAINT)))
    found = embedded("edge-layout", images, grid=grid, orientations=orientations)
    np.testing.assert_allclose(found, np.stack(expected), rtol=0, atol=1e-5)


def test_edge_layout_puts_each_edge_in_its_cell_and_direction() -> None:
    images = np.zeros((1, 16, 16, 1), np.uint8)
    images[0, 12:, :8] = (
        255  # a horizontal edge in the lower left of 2 x 2 cells, and a vertical one below it
    )
    found = embedded("edge-layout", images, grid=2, orientations=2).reshape(3, 2, 2)
    assert (found[:, 0] == 0).all()
    assert found[1, 1, 0] > 5 * found[1, 1, 1] > 0
    assert found[2, 1, 0] > 0 and found[2, 1, 1] > 0


class Together(nn.Module):
    """All classical extractors of one picture: exporting starts with seconds that they then share."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.each = nn.ModuleList(modules)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(module(pixels) for module in self.each)


@pytest.mark.slow  # an export by torch takes four seconds of a processor
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
def test_onnx_file_of_every_classical_extractor_gives_its_numbers_for_any_batch(tmp_path: Path) -> None:
    modules, inputs = zip(*(made(name, pictures(3, (40, 32))) for name in CLASSICAL), strict=True)
    together, x = Together(modules).eval(), inputs[0]
    assert all(torch.equal(x, other) for other in inputs)
    file = tmp_path / "model.onnx"
    torch.onnx.export(
        together,
        (x[:2],),
        file,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=20,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch in (x[:1], x):
        found = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
        for name, numbers, wanted in zip(CLASSICAL, found, together(batch), strict=True):
            np.testing.assert_allclose(numbers, wanted.numpy(), rtol=0, atol=1e-4, err_msg=name)
