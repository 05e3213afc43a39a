"""A library for tests: extractors that nobody trained, each with the lens profile of something simple."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coordinator.registry.build import KeepRequest
from coordinator.registry.publish import publish
from shared.domain.extractor import ExtractorSpec
from shared.domain.files import write_atomically, write_json
from shared.domain.release import LENS_FILE, LENS_PICTURE_FILE, Source, SourceKind
from shared.extractors.files import write_weights
from shared.lens.card_section import lens_section
from shared.lens.picture import draw
from shared.lens.profile import measure
from shared.lens.profile_shape import plain_profile
from tests.release_kit import Kit

SPEC = ExtractorSpec("small-gn", 3, 16, 16, 3, (0.5,), (0.25,), {"width": 8})
ABOUT = {"colours": "Sees which colours a picture is made of.", "thumbnails": "Sees a tiny picture of it."}
Pixels = npt.NDArray[np.uint8]
Embed = Callable[[Pixels], npt.NDArray[np.float32]]


def mean_colour(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Blind to everything but colour."""
    return pixels.mean(axis=(1, 2), dtype=np.float32)


def thumbnail(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Every fourth pixel."""
    return pixels[:, ::4, ::4].reshape(len(pixels), -1).astype(np.float32)


def keep_both(kit: Kit, folder: Path) -> None:
    """`colours` and `thumbnails`; their weights are not what makes their profiles."""
    from shared.extractors.architectures import starting_weights

    tensors, layout = starting_weights(SPEC, seed=3)
    write_weights(folder / "w.safetensors", tensors, SPEC, layout)
    for name, embed in (("colours", mean_colour), ("thumbnails", thumbnail)):
        source = Source(SourceKind.CLASSICAL, ABOUT[name], "Apache-2.0", "this software")
        request = KeepRequest(name, source, folder / "w.safetensors")
        publish(kit.home, request, kit.clock, export=lambda f, n, e=embed: _lens(f, n, e))


def _lens(folder: Path, name: str, embed: Embed) -> dict[str, str]:
    profile = measure(embed, 3, 16, 16)
    write_json(folder / LENS_FILE, plain_profile(profile), 0o644)
    write_atomically(folder / LENS_PICTURE_FILE, draw([(name, profile)]).encode("utf-8"), 0o644)
    return lens_section(profile)
