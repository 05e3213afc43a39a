"""By what a record is known again: its file's bytes, and the picture or text that they are."""

from __future__ import annotations

import hashlib

from PIL import Image

from shared.domain.extractor import RecordKind
from shared.extractors.pictures import decode
from shared.extractors.texts import decode_text

DIGEST_BYTES = 32
_STRIP_ROWS = 512


def digest_of_file_bytes(data: bytes) -> bytes:
    """BLAKE2b-256 of the file as it is."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def digest_of_content(data: bytes, kind: RecordKind) -> bytes:
    """BLAKE2b-256 of what the bytes say: equal for a picture in another lossless file, and for a text typed otherwise.

    Raises InvalidRecords (a reason) where they are no record of that kind.
    """
    if kind is RecordKind.TEXT:
        return digest_of_file_bytes(decode_text(data).encode("utf-8"))
    return digest_of_pixels(decode(data))


def digest_of_pixels(image: Image.Image) -> bytes:
    """BLAKE2b-256 of size and RGBA pixels: the same picture in another lossless file has the same one.

    Read in strips, so that a large image is not held twice.
    """
    width, height = image.size
    hasher = hashlib.blake2b(f"{width}x{height}\0".encode(), digest_size=DIGEST_BYTES)
    for top in range(0, height, _STRIP_ROWS):
        strip = image.crop((0, top, width, min(height, top + _STRIP_ROWS)))
        hasher.update(strip.convert("RGBA").tobytes())
    return hasher.digest()
