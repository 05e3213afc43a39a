"""Record → uint8 → network input: the one place that training, daily use and strangers share (no torch).

A record is a picture or a text; which of them an extractor reads, its spec says.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from shared.domain.errors import InvalidConfig, InvalidRecords
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.extractors.pictures import decode
from shared.extractors.texts import decode_text

_MODES = {1: "L", 3: "RGB"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation; any other value says that it is."""


def fit_record(data: bytes, spec: ExtractorSpec) -> npt.NDArray[np.uint8]:
    """One record as it lies in a file, as uint8 [height, width, channels] of the spec.

    Raises InvalidRecords (a reason) as `decode` and `decode_text`, InvalidConfig as `fit_image`.
    """
    if spec.kind is RecordKind.TEXT:
        return fit_text(decode_text(data), spec)
    return fit_image(decode(data), spec)


def fit_text(text: str, spec: ExtractorSpec) -> npt.NDArray[np.uint8]:
    """`text` as uint8 [1, width, 1]: its UTF-8 bytes, then zeros.

    What is too long is cut where a character ends, so up to three bytes before the width. `text` is as `decode_text`
    gives it.
    """
    whole = text.encode("utf-8")[: spec.width].decode("utf-8", "ignore").encode("utf-8")
    fitted = np.zeros((1, spec.width, 1), dtype=np.uint8)
    fitted[0, : len(whole), 0] = np.frombuffer(whole, dtype=np.uint8)
    return fitted


def fit_image(picture: Image.Image, spec: ExtractorSpec) -> npt.NDArray[np.uint8]:
    """`picture`, of 8 bits a channel as `decode` gives it, as uint8 [height, width, channels] of the spec.

    Turned upright, made grey or RGB, centre-cropped to the spec's proportions and resized (bilinear with
    antialiasing). A picture that has the size already keeps its pixels; transparent parts become white.

    Raises InvalidConfig unless the spec has 1 or 3 channels.
    """
    if spec.channels not in _MODES:
        raise InvalidConfig(
            f"The extractor expects {spec.channels} channels; pictures can be made into 1 (grey) or 3 (RGB). "
            "Nothing was read. Correct the plan's extractor."
        )
    plain = _without_transparency(_upright(picture)).convert(_MODES[spec.channels])
    if plain.size != (spec.width, spec.height):
        plain = ImageOps.fit(plain, (spec.width, spec.height), Image.Resampling.BILINEAR)
    return np.asarray(plain, dtype=np.uint8).reshape(spec.height, spec.width, spec.channels)


def to_input(images_u8: npt.NDArray[np.uint8], spec: ExtractorSpec) -> npt.NDArray[np.float32]:
    """uint8 [B, height, width, channels] → float32 [B, channels, height, width], (x/255 - mean) / std.

    mean and std are the spec's public numbers, one each or one per channel (clause 2.5). Of texts, bytes stay what they
    are: 0…255. B may be 0. Raises InvalidRecords for another shape or dtype, InvalidConfig for a std that is not
    above 0.
    """
    wanted = (spec.height, spec.width, spec.channels)
    if images_u8.dtype != np.uint8 or images_u8.shape[1:] != wanted:
        raise InvalidRecords(
            f"Expected records of uint8 {list(wanted)}, found {images_u8.dtype} {list(images_u8.shape[1:])}"
            ". They were not used. Fit them with fit_record first."
        )
    if spec.kind is RecordKind.TEXT:
        return np.ascontiguousarray(images_u8.astype(np.float32).transpose(0, 3, 1, 2))
    mean, std = _per_channel(spec.mean, spec, "mean"), _per_channel(spec.std, spec, "std")
    if not (std > 0).all():
        raise InvalidConfig(
            f"The extractor's std must be above 0, found {list(spec.std)}. Nothing was read. Correct the plan's "
            "extractor."
        )
    scaled = (images_u8.astype(np.float32) / np.float32(255.0) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _per_channel(values: tuple[float, ...], spec: ExtractorSpec, name: str) -> npt.NDArray[np.float32]:
    if len(values) not in (1, spec.channels):
        raise InvalidConfig(
            f"The extractor's {name} expects 1 or {spec.channels} numbers, found {len(values)}. Nothing was "
            "read. Correct the plan's extractor."
        )
    return np.asarray(values, dtype=np.float32)


def _upright(picture: Image.Image) -> Image.Image:
    # Pillow's own function also writes the EXIF data anew, and fails where they are not in order.
    turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)


def _without_transparency(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture
    layered = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
