"""Hostile data folders: what each tries and the sentence that answers it; nothing outside is read."""

from __future__ import annotations

import csv
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from participant.records.add import add_data_set
from shared.domain.errors import InvalidRecords
from shared.domain.extractor import ExtractorSpec
from shared.extractors.pictures import decode

SPEC = ExtractorSpec("fixed-mlp", channels=3, height=4, width=4, embedding_dim=8)


def picture(mode: str = "RGB", kind: str = "PNG", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that claims, and would inflate to, any number of pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(100_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def refused(home: Path, root: Path, labels: Path | None = None) -> str:
    with pytest.raises(InvalidRecords) as caught:
        add_data_set(home, "x", root, labels)
    assert "Nothing was added." in caught.value.message
    return caught.value.message


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    (folder / "good.png").write_bytes(picture())
    return tmp_path / "photos"


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (60_000, 60_000)])
def test_an_image_that_would_unpack_to_gigabytes_is_refused(root: Path, width: int, height: int) -> None:
    (root / "cat" / "bomb.png").write_bytes(huge_png(width, height))
    message = refused(root.parent / "home", root)
    assert "cat/bomb.png: has more than 89478485 pixels (Pillow's limit)" in message


def test_text_chunks_that_unpack_to_megabytes_are_refused(root: Path) -> None:
    body = b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    good = picture()
    (root / "cat" / "text.png").write_bytes(good[:33] + chunk + good[33:])
    assert "cat/text.png: cannot be decoded: Decompressed data too large" in refused(
        root.parent / "home", root
    )


def test_a_file_without_end_is_refused_before_it_is_read(root: Path) -> None:
    with (root / "cat" / "sparse.png").open("wb") as file:
        file.truncate(3 * 2**30)
    assert "cat/sparse.png: is larger than 268435456 bytes" in refused(root.parent / "home", root)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../../secret.png", "climbs out of the data folder with '..'; it was not opened"),
        ("cat/../../secret.png", "climbs out of the data folder with '..'; it was not opened"),
        ("/etc/passwd", "is an absolute path, expected one below the data folder; it was not opened"),
        ("link.png", "is reached by a symbolic link that leaves the data folder; it was not opened"),
        ("folder/secret.png", "is reached by a symbolic link that leaves the data folder; it was not opened"),
        ("C:\\secret.png", "does not exist below the data folder"),
        ("cat", "is not a regular file; it was not opened"),
        ("pipe.png", "is not a regular file; it was not opened"),
        ("loop.png", "does not exist below the data folder"),
        ("", "is not a file name"),
        ("a\0b.png", "is not a file name"),
        ("a" * 5000, "does not exist below the data folder"),
    ],
)
def test_a_csv_cannot_reach_out_of_the_data_folder(root: Path, path: str, reason: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(picture(seed=5))
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "folder").symlink_to(outside)
    (root / "loop.png").symlink_to(root / "loop.png")
    os.mkfifo(root / "pipe.png")
    labels = root.parent / "labels.csv"
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), ("cat/good.png", "a"), (path, "a")])
    assert f"  {path}: {reason}\n" in refused(root.parent / "home", root, labels)
    # Skipping what is bad must not read it either: only the good record is there.
    assert add_data_set(root.parent / "home", "x", root, labels, skip_bad=True).findings.records == 1


def test_links_in_class_folders_are_not_followed_out(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(picture(seed=5))
    (root / "cat" / "link.png").symlink_to(outside / "secret.png")
    (root / "cat" / "deep").symlink_to(outside)
    (root / "dog").symlink_to(outside)
    message = refused(root.parent / "home", root)
    assert "cat/link.png: is reached by a symbolic link that leaves the data folder" in message
    assert "cat/deep: is a symbolic link to a folder; it was not followed" in message
    assert "dog: is a symbolic link where a class folder is expected; it was not followed" in message


def test_a_link_swapped_in_after_adding_is_not_followed(root: Path) -> None:
    added = add_data_set(root.parent / "home", "x", root)
    (root.parent / "secret.png").write_bytes(picture())
    (root / "cat" / "good.png").unlink()
    (root / "cat" / "good.png").symlink_to(root.parent / "secret.png")
    with pytest.raises(InvalidRecords, match="is reached by a symbolic link that leaves the data folder"):
        added.reader(SPEC)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93.",
            "is not an image",
        ),
        (b"just a note", "is not an image"),
        (b"", "is empty"),
        (picture()[:30], "is cut off or damaged: it begins like a PNG and is none"),
        (b"RIFF\x04\0\0\0WAVE", "is not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
        (picture()[:60], "is cut off and cannot be decoded"),
        (picture(kind="JPEG")[:-20], "is cut off and cannot be decoded"),
    ],
)
def test_what_is_no_image_is_listed_whatever_its_name(root: Path, content: bytes, reason: str) -> None:
    (root / "cat" / "fake.png").write_bytes(content)
    assert f"cat/fake.png: {reason}" in refused(root.parent / "home", root)


def test_sixteen_bits_and_floats_are_listed_with_what_to_do(root: Path) -> None:
    deep = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000
    Image.fromarray(deep).save(root / "cat" / "deep.png")
    Image.fromarray(deep.astype(np.float32)).save(root / "cat" / "float.tif")
    message = refused(root.parent / "home", root)
    assert (
        "cat/deep.png: has pixel mode I;16, expected 8 bits a channel; convert it with the window" in message
    )
    assert "cat/float.tif: has pixel mode F, expected 8 bits a channel" in message


def deep_png(colour_type: int, channels: int) -> bytes:
    """A picture of 4 × 4 with 16 bits a channel, which Pillow reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 4, 16, colour_type, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x12\x34" * 4 * channels) * 4)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def deep_tiff(planes: str, shape: tuple[int, ...]) -> bytes:
    """The same as TIFF; by planes, Pillow would take each byte for a pixel."""
    file = io.BytesIO()
    tifffile.imwrite(file, np.full(shape, 0x1234, np.uint16), photometric="rgb", planarconfig=planes)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        deep_png(2, 3),
        deep_png(4, 2),
        deep_png(6, 4),
        b"P6 4 4 65535\n" + b"\x12\x34" * 48,
        deep_tiff("contig", (4, 4, 3)),
        deep_tiff("separate", (3, 4, 4)),
    ],
    ids=["RGB", "grey and transparency", "RGB and transparency", "PPM", "TIFF", "TIFF by planes"],
)
def test_sixteen_bits_of_colour_are_listed_though_pillow_would_cut_them_down(
    root: Path, content: bytes
) -> None:
    (root / "cat" / "deep.png").write_bytes(content)
    message = refused(root.parent / "home", root)
    assert "cat/deep.png: has more than 8 bits a channel, expected 8; convert it with the window" in message


def test_sixteen_bits_for_a_whole_pixel_are_not_too_many(root: Path) -> None:
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    info = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 16, 3, 32, 0, 0, 0, 0)
    pixels = struct.pack("<8H", *range(8)) * 2
    bitmap = b"BM" + struct.pack("<IHHI", 66 + len(pixels), 0, 0, 66) + info + masks + pixels
    assert decode(bitmap).mode == "RGB"


def test_more_than_one_frame_is_listed(root: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (0, 99, 200)]
    for name in ("moving.gif", "pages.tiff"):
        frames[0].save(root / "cat" / name, save_all=True, append_images=frames[1:])
    message = refused(root.parent / "home", root)
    for name in ("moving.gif", "pages.tiff"):
        assert f"cat/{name}: holds more than one frame, expected one image" in message


@pytest.mark.parametrize(
    ("mode", "kind", "name"),
    [
        ("CMYK", "JPEG", "a.jpg"),
        ("P", "PNG", "a.png"),
        ("RGBA", "PNG", "a.png"),
        ("LA", "PNG", "a.png"),
        ("1", "PNG", "a.png"),
        ("L", "TIFF", "a.tif"),
        ("RGB", "WEBP", "a.webp"),
    ],
)
def test_other_eight_bit_kinds_are_read(root: Path, mode: str, kind: str, name: str) -> None:
    (root / "cat" / name).write_bytes(picture(mode, kind, seed=7))
    reader = add_data_set(root.parent / "home", "x", root).reader(SPEC)
    assert reader.load(np.arange(2))[0].shape == (2, 4, 4, 3)


def test_a_name_that_is_not_text_is_listed(root: Path) -> None:
    raw = os.path.join(os.fsencode(root), b"cat", b"bad\xff.png")  # noqa: PTH118
    with open(raw, "wb") as file:  # noqa: PTH123
        file.write(picture())
    assert "cat/bad\\udcff.png: has a name that is not UTF-8; rename it" in refused(
        root.parent / "home", root
    )
