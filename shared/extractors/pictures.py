"""Bytes to one picture, or a reason why not; every limit on what an image file may be stands here.

Training, heads and `commonlens embed` all read files through this page. Only raster formats whose decoders live
inside Pillow are opened (no EPS, which would start another program). A reason is a sentence without its
subject: the list that shows it puts the path in front.
"""

from __future__ import annotations

import io
import stat
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from shared.domain.errors import InvalidRecords

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
MAXIMUM_PIXELS = 89_478_485
"""Pillow's own limit before it warns of a decompression bomb; here it is a refusal."""
MAXIMUM_FILE_BYTES = 256 * 2**20
_FIRST_BYTES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*"),
}
_TIFF_BITS = 258
"""The tag BitsPerSample, a number for each channel (TIFF 6.0, section 8)."""
EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


def read_file(path: Path) -> bytes:
    """The encoded picture. Raises InvalidRecords (a reason) when it is too large or cannot be read."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a device says that it has 0 bytes, and has no end
            raise InvalidRecords("is not a regular file; it was not opened")
        if found.st_size > MAXIMUM_FILE_BYTES:
            raise InvalidRecords(f"is larger than {MAXIMUM_FILE_BYTES} bytes (it has {found.st_size})")
        return path.read_bytes()
    except OSError as error:
        raise InvalidRecords(f"cannot be read: {error.strerror or type(error).__name__}") from error


def decode(data: bytes) -> Image.Image:
    """The single 8-bit image that `data` encodes, fully decoded, in the mode of the file.

    Raises InvalidRecords whose message is the reason: empty, not an image, cut off, too large, more than one
    frame, or more than 8 bits a channel (to cut those down needs a choice that only the operator can make).
    """
    if len(data) > MAXIMUM_FILE_BYTES:
        raise InvalidRecords(f"is larger than {MAXIMUM_FILE_BYTES} bytes (it has {len(data)})")
    if not data:
        raise InvalidRecords("is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_header(image)
        image.load()
        image.getexif()  # says which side is up: read here, where what cannot be read is listed
    except InvalidRecords:
        raise
    except UnidentifiedImageError as error:
        if kind := _begins_like(data):
            raise InvalidRecords(f"is cut off or damaged: it begins like a {kind} and is none") from error
        raise InvalidRecords(f"is not an image: its content is none of {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidRecords(f"has more than {MAXIMUM_PIXELS} pixels (Pillow's limit)") from error
    except Exception as error:  # a decoder fed with hostile bytes may raise anything; the file is listed
        cut = "is cut off and " if "truncated" in str(error).lower() else ""
        raise InvalidRecords(f"{cut}cannot be decoded: {_one_line(error)}") from error
    return image


def _begins_like(data: bytes) -> str:
    """The format whose first bytes these are; empty where they are of none."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for kind, first in _FIRST_BYTES.items() if data.startswith(first)), "")


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAXIMUM_PIXELS:
        raise InvalidRecords(f"has more than {MAXIMUM_PIXELS} pixels (Pillow's limit): {width} x {height}")
    if image.mode not in EIGHT_BIT_MODES:
        raise InvalidRecords(
            f"has pixel mode {image.mode}, expected 8 bits a channel; convert it with the window that shows "
            "what is to be learned"
        )
    if _is_cut_down(image):
        raise InvalidRecords(
            "has more than 8 bits a channel, expected 8; convert it with the window that shows what is to be learned"
        )
    # An MPO is a phone's JPEG with a second view behind it; the first is the photo.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise InvalidRecords("holds more than one frame, expected one image; save the frames as files")


def _is_cut_down(image: Image.Image) -> bool:
    """Whether the file has more than 8 bits of each colour, of which Pillow keeps 8 without a word."""
    if image.format == "TIFF":
        return bool(max(getattr(image, "tag_v2", {}).get(_TIFF_BITS, (8,))) > 8)
    for _, _, _, told in getattr(image, "tile", []):
        words = told if isinstance(told, tuple) else (told,)
        if image.format == "PNG" and any(isinstance(word, str) and ";16" in word for word in words):
            return True
        if image.format == "PPM" and any(isinstance(word, int) and word > 255 for word in words):
            return True
    return False


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]
