"""By what a record is known again: its file's bytes, and the picture they show."""

from __future__ import annotations

import hashlib

from PIL import Image

DIGEST_BYTES = 32
_STRIP_ROWS = 512


def digest_of_file_bytes(data: bytes) -> bytes:
    """BLAKE2b-256 of the file as it is."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


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
