"""Files to embeddings: one batch in memory, the same limits as training, the device that was asked for."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.domain.errors import InvalidConfig, InvalidRecords
from shared.domain.extractor import ExtractorSpec
from shared.embedding import embed_files, write_embeddings
from shared.verification import VerifiedRelease, verify_release
from tests.release_kit import make_used_kit

SPEC = ExtractorSpec("fixed-mlp", 1, 32, 32, 8, (0.5,), (0.25,), {"hidden": 8, "grid": 1, "scales": 1})


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> VerifiedRelease:
    kit = make_used_kit(tmp_path_factory.mktemp("embedding"), SPEC)
    return verify_release(kit.folder(), pinned_root=kit.root)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)).save(path)
    return path


def test_memory_does_not_grow_with_the_pictures(release: VerifiedRelease, picture: Path) -> None:
    count = 4000
    embed_files(release, [picture], "cpu")
    tracemalloc.start()
    try:
        found = embed_files(release, [picture] * count, "cpu")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.shape == (count, 8) and np.allclose(found, found[0], atol=1e-6)
    assert peak_bytes - found.nbytes < count * 32 * 32 / 2


def test_rows_keep_their_order_across_batches(release: VerifiedRelease, tmp_path: Path) -> None:
    paths = []
    for value in range(130):
        paths.append(tmp_path / f"{value:03d}.png")
        pixels = np.random.default_rng(value).integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    together = embed_files(release, paths, "cpu")
    alone = np.concatenate([embed_files(release, [path], "cpu") for path in paths[60:70]])
    np.testing.assert_allclose(together[60:70], alone, atol=1e-6)


def test_every_file_beyond_the_limits_of_training_is_named_and_nothing_is_given(
    release: VerifiedRelease, picture: Path, tmp_path: Path
) -> None:
    # More pixels than allowed, and fewer than those at which Pillow itself refuses.
    (tmp_path / "bomb.png").write_bytes(_huge_png(10_000, 10_000))
    Image.new("L", (4, 4)).save(tmp_path / "odd.png", format="PCX")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    bad = [*(tmp_path / name for name in ("bomb.png", "odd.png", "deep.png")), Path("/dev/zero")]
    with pytest.raises(InvalidRecords) as caught:
        embed_files(release, [*bad, *[picture] * 70], "cpu")
    text = caught.value.message
    assert "4 of 74 images cannot be used" in text and "Nothing was written" in text
    assert "bomb.png has more than 89478485 pixels" in text
    assert "odd.png is not an image: its content is none of" in text
    assert "deep.png has pixel mode I;16, expected 8 bits a channel" in text
    assert "/dev/zero is not a regular file" in text


def test_a_device_that_is_not_here_is_refused(release: VerifiedRelease, picture: Path) -> None:
    with pytest.raises(InvalidConfig, match="'cuda:99' is asked for and torch finds none"):
        embed_files(release, [picture], "cuda:99")


def test_a_file_name_that_is_no_text_is_written_as_escapes(tmp_path: Path) -> None:
    write_embeddings(["bad\udcff.png"], np.ones((1, 2), np.float32), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text("utf-8") == "bad\\udcff.png,1.0,1.0\n"


def _huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(100_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
