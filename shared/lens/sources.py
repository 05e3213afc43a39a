"""The photographs of the probe set: files that lie inside scikit-image's wheel; nothing is downloaded.

Where each is from and under which licence, by scikit-image's own documentation of `skimage.data`:

| file | shows | from | licence |
|---|---|---|---|
| astronaut.png | Eileen Collins | NASA Great Images | public domain, no known restrictions |
| camera.png | a photographer | Lav Varshney | CC0 |
| chelsea.png | a cat | Stéfan van der Walt | CC0 |
| coffee.png | a cup | Rachel Michetti, Pikolo Espresso Bar | CC0 |
| coins.png | Greek coins from Pompeii | Brooklyn Museum Collection | no known restrictions |
| ihc.png | stained tissue | CMMI | no known restrictions |
| brick.png | a brick wall | CC0Textures, Bricks25 | CC0 |
| grass.png | grass | linolafett, Grass-01 | CC0 |
| gravel.png | gravel | CC0Textures, Gravel04 | CC0 |

Left out: motorcycle (Middlebury, no such licence), moon, page and color (none stated), and the JPEG files
(retina, rocket, hubble_deep_field), whose pixels depend on the decoder.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from shared.domain.canonical import Digest, digest_of_file
from shared.domain.errors import DigestMismatch, InvalidConfig

CONTENTS = ("astronaut", "camera", "chelsea", "coffee", "coins", "ihc")
"""Photographs of things; which of them a crop is from is the question of content."""
TEXTURES = ("brick", "grass", "gravel")

_SHA256: Mapping[str, str] = {
    "astronaut": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "camera": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "chelsea": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "coins": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    "ihc": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
    "brick": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "grass": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "gravel": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
}


def photograph(name: str) -> Image.Image:
    """One of CONTENTS or TEXTURES in RGB, decoded from the installed scikit-image.

    Raises InvalidConfig where the file is not there, DigestMismatch where it is another one.
    """
    found = importlib.util.find_spec("skimage")
    path = Path(found.origin).parent / "data" / f"{name}.png" if found and found.origin else None
    if path is None or not path.is_file():
        raise InvalidConfig(
            f"The probe set takes {name}.png from the package scikit-image, which does not hold it here. Nothing "
            "was measured. Install scikit-image 0.26 from its wheel."
        )
    digest, wanted = digest_of_file(path), Digest(f"sha256:{_SHA256[name]}")
    if digest != wanted:
        raise DigestMismatch(
            f"{name}.png of scikit-image should have digest {wanted}, it has {digest}. Nothing was measured. "
            "Install scikit-image 0.26 again."
        )
    with Image.open(path) as picture:
        return picture.convert("RGB")
