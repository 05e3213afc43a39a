"""The public probe set: pictures, their changed doubles, and five questions with known chance.

Everything comes from files inside scikit-image's wheel and one public seed; the digest says that two people
measured with the same pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.domain.canonical import Digest, canonical_bytes
from shared.lens import colour
from shared.lens.changes import CHANGES, Supply
from shared.lens.colour import Pixels
from shared.lens.profile_shape import QUESTIONS
from shared.lens.scenes import HUES, scene_classes, scenes
from shared.lens.sources import CONTENTS, photograph
from shared.lens.textures import textures

PROBE_SET_FORMAT = "commonlens-probe-set/1"
SIDE = 168
"""Pixels: about what a quarter of the photographs has; in halves and thirds it is whole."""
SEED = 20_260
CROPS = 48
"""Of each photograph: as many to learn from as held out, and every hue equally often in each quarter."""
_CONTENT, *_SCENE_QUESTIONS = QUESTIONS

_SMALLEST_CROP = 0.75
"""Side of a crop, in the shorter sides of its quarter."""
_LUMA, _LUMA_SPREAD, _CONTRAST = 120.0, 25.0, 45.0
_TINT = (8.0, 24.0)

Labels = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Question:
    """Labels int64 [N] for one of the picture sets, every label equally often, and which are held out."""

    name: str
    classes: tuple[str, ...]
    """The answer that each label stands for."""
    labels: Labels
    held_out: Mask

    @property
    def chance(self) -> float:
        """Share that a guess gets right."""
        return 1.0 / len(np.unique(self.labels))


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """uint8 [N, SIDE, SIDE, 3] everywhere."""

    photographs: Pixels
    changed: Mapping[str, Pixels]
    """Change → the held-out photographs after it."""
    scenes: Pixels
    content: Question
    """Asked of the photographs; its labels say which crops show the same one."""
    scene_questions: tuple[Question, ...]
    digest: Digest

    @property
    def pictures(self) -> Mapping[str, Pixels]:
        """All of them, by name."""
        return {"photographs": self.photographs, "scenes": self.scenes, **self.changed}


@cache
def build_probe_set() -> ProbeSet:
    """The one probe set of this format: two seconds once, and 160 MB that the process then keeps, not to be changed.

    Raises InvalidConfig, DigestMismatch.
    """
    rng = np.random.Generator(np.random.PCG64(SEED))
    planes = textures(rng)
    photographs, content = _photographs(rng)
    drawn, answers, held_out = scenes(SIDE, planes, rng)
    seen, supply = photographs[content.held_out], Supply(rng, planes)
    changed = {change.name: np.stack([change.apply(x, supply) for x in seen]) for change in CHANGES}
    questions = tuple(
        Question(name, classes, answers[:, k], held_out)
        for k, (name, classes) in enumerate(zip(_SCENE_QUESTIONS, scene_classes(planes), strict=True))
    )
    return ProbeSet(
        photographs=photographs,
        changed=changed,
        scenes=drawn,
        content=content,
        scene_questions=questions,
        digest=_digest({"photographs": photographs, "scenes": drawn} | changed, (content, *questions)),
    )


def _photographs(rng: np.random.Generator) -> tuple[Pixels, Question]:
    """Crops of every photograph: from two opposite quarters to learn from, from the other two held out.

    Lightness is brought to one contrast and the mean colour of every photograph taken away; how bright a crop is
    and what tints it is drawn without regard to what it shows.
    """
    crops, labels, held_out = [], [], []
    for label, name in enumerate(CONTENTS):
        whole = photograph(name)
        for k in range(CROPS):
            quarter = k % 4
            crops.append(_without_bias(crop_of_quarter(whole, quarter, rng), k // 4 % HUES, rng))
            labels.append(label)
            held_out.append(quarter in (1, 2))
    return np.stack(crops), Question(_CONTENT, CONTENTS, np.array(labels, dtype=np.int64), np.array(held_out))


def crop_of_quarter(whole: Image.Image, quarter: int, rng: np.random.Generator) -> Pixels:
    """A random square inside one quarter (row by row), resized to SIDE."""
    row, column = divmod(quarter, 2)
    width, height = whole.width // 2, whole.height // 2
    size = int(min(width, height) * rng.uniform(_SMALLEST_CROP, 1.0))
    left = column * width + int(rng.integers(width - size + 1))
    top = row * height + int(rng.integers(height - size + 1))
    # Cut before it is resized: given as the resizing's own box, pixels outside would bleed in at the edges.
    cut = whole.crop((left, top, left + size, top + size))
    return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.uint8)


def _without_bias(crop: Pixels, hue: int, rng: np.random.Generator) -> Pixels:
    luma, blue, red = colour.split(crop)
    luma = (luma - luma.mean()) * (_CONTRAST / max(float(luma.std()), 1.0))
    level = _LUMA + rng.uniform(-_LUMA_SPREAD, _LUMA_SPREAD)
    strength = rng.uniform(*_TINT)
    tinted = colour.turned(blue - blue.mean() + strength, red - red.mean(), 360.0 * hue / HUES)
    return colour.join(luma + level, *tinted)


def _digest(pictures: Mapping[str, Pixels], questions: tuple[Question, ...]) -> Digest:
    """SHA-256 of the format's name, then of every array with its name and shape before it."""
    hashed = hashlib.sha256(canonical_bytes([PROBE_SET_FORMAT, SIDE, SEED]))
    arrays: dict[str, npt.NDArray[np.generic]] = {**pictures}
    for question in questions:
        arrays[f"{question.name} labels"] = question.labels.astype("<i8")
        arrays[f"{question.name} held out"] = question.held_out
    for name, array in arrays.items():
        hashed.update(canonical_bytes([name, list(array.shape)]))
        hashed.update(np.ascontiguousarray(array).data)
    return Digest("sha256:" + hashed.hexdigest())
