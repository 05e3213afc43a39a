"""The Node.js example is the extractor: same pixels, same embeddings, same labels as Python."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from coordinator.registry.build import Export
from shared.domain.extractor import ExtractorSpec
from shared.extractors.preprocess import fit_image, to_input
from tests.export_kit import EXAMPLES, Example, install, json_lines, make_example


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install("node", tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def example(node: Path, export_once: Export, tmp_path_factory: pytest.TempPathFactory) -> Example:
    return make_example(tmp_path_factory.mktemp("release"), export_once)


def label(node: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", "label.mjs", *map(str, words)],
        cwd=node,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_node_gives_the_labels_and_embeddings_of_python(node: Path, example: Example) -> None:
    done = label(node, "--json", example.release, example.head, *example.pictures)
    assert done.returncode == 0, done.stderr
    found = json_lines(done.stdout)
    labels, embeddings = example.python(example.pictures)
    assert [line["label"] for line in found] == labels and len(set(labels)) > 3
    assert np.abs(np.array([line["embedding"] for line in found]) - embeddings).max() <= 1e-4


def test_node_labels_pictures_of_any_size_as_python_does(node: Path, example: Example) -> None:
    done = label(node, "--json", example.release, example.head, *example.resized)
    assert done.returncode == 0, done.stderr
    labels, embeddings = example.python(example.resized)
    found = json_lines(done.stdout)
    assert [line["label"] for line in found] == labels
    assert np.abs(np.array([line["embedding"] for line in found]) - embeddings).max() <= 1e-4


def test_node_refuses_a_head_of_another_release(node: Path, example: Example, tmp_path: Path) -> None:
    head = json.loads(example.head.read_text())
    head["release"]["release"] = "digits-2"
    (tmp_path / "head.json").write_text(json.dumps(head))
    done = label(node, example.release, tmp_path / "head.json", example.pictures[0])
    assert done.returncode != 0 and "The head was fitted on digits-2" in done.stderr and not done.stdout


def test_node_says_what_is_wrong_with_a_picture_and_labels_the_others(
    node: Path, example: Example, tmp_path: Path
) -> None:
    good = example.pictures[0]
    picture = Image.open(good)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    wrong = {
        "photo.png": "is not a PNG",
        "cut.png": "cannot be decoded",
        "wide.png": "has 16 bits a channel",
        "turned.png": "is to be turned (EXIF orientation 6)",
        "clear.png": "has transparent parts",
        "gone.png": "no such file",
    }
    picture.save(tmp_path / "photo.png", format="JPEG")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-300])
    Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(tmp_path / "wide.png")
    picture.save(tmp_path / "turned.png", exif=turned)
    picture.quantize(8).save(tmp_path / "clear.png", transparency=0)
    picture.quantize(256).save(tmp_path / "palette.png")
    picture.convert("L").save(tmp_path / "grey.png")
    fine = [tmp_path / "palette.png", tmp_path / "grey.png", good]
    done = label(node, "--json", example.release, example.head, *(tmp_path / name for name in wrong), *fine)
    complaints = done.stderr.splitlines()
    assert done.returncode == 1 and len(complaints) == len(wrong), done.stderr
    for line, (name, reason) in zip(complaints, wrong.items(), strict=True):
        assert line.startswith(f"{tmp_path / name}: ") and reason in line
    found = json_lines(done.stdout)
    labels, embeddings = example.python(fine)
    assert [line["label"] for line in found] == labels
    assert np.abs(np.array([line["embedding"] for line in found]) - embeddings).max() <= 1e-4


def test_node_says_in_one_line_what_is_wrong_with_release_or_head(
    node: Path, example: Example, tmp_path: Path
) -> None:
    texts = json.loads(example.head.read_text())
    texts["preprocessing"]["kind"] = "text"
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    cut = shutil.copytree(example.release, tmp_path / "cut")
    (cut / "model.onnx").write_bytes((example.release / "model.onnx").read_bytes()[:3000])
    gone = shutil.copytree(example.release, tmp_path / "gone")
    (gone / "model.onnx").unlink()
    half = shutil.copytree(example.release, tmp_path / "half")
    (half / "manifest.json").write_bytes((example.release / "manifest.json").read_bytes()[:300])
    cases: list[tuple[list[Path], str]] = [
        ([example.release, tmp_path / "texts.json"], "reads texts, and this example labels pictures"),
        ([example.release, example.release / "config.json"], "Expected a head of format"),
        ([cut, example.head], "model.onnx: "),
        ([gone, example.head], "model.onnx: "),
        ([half, example.head], "manifest.json: "),
        ([tmp_path / "nowhere", example.head], "manifest.json: "),
    ]
    for words, reason in cases:
        done = label(node, *words, example.pictures[0])
        assert done.returncode == 1 and not done.stdout
        assert reason in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert label(node).stderr.startswith("Usage: node label.mjs")


Change = Callable[[dict[str, Any]], object]
WRONG_HEADS: dict[str, tuple[Change, str]] = {
    "no labels": (lambda head: head.update(labels=[], bias=[], weight=[]), "labels to be a list of names"),
    "labels that are no list": (lambda head: head.update(labels={"a": 1}), "labels to be a list of names"),
    "rows that are too short": (lambda head: head["weight"][0].pop(), "9 rows of 8 numbers in weight"),
    "rows that are too long": (
        lambda head: [row.append(1.0) for row in head["weight"]],
        "9 rows of 8 numbers",
    ),
    "a row too few": (lambda head: head["weight"].pop(), "9 rows of 8 numbers"),
    "a bias that is no number": (lambda head: head["bias"].__setitem__(0, None), "and 9 in bias"),
    "another width": (lambda head: head.update(embedding_dim="8"), "9 rows of 8 numbers"),
    "embeddings of another width": (
        lambda head: head.update(embedding_dim=7, weight=[row[:7] for row in head["weight"]]),
        "got 8 numbers of the extractor, and the head is for 7",
    ),
    "a size that fills the memory": (lambda head: head["preprocessing"].update(height=30_000), "16 x 30000"),
    "half a pixel": (lambda head: head["preprocessing"].update(width=15.5), "15.5 x 16"),
    "two channels": (lambda head: head["preprocessing"].update(channels=2), "found 2 and 16 x 16"),
    "no mean": (lambda head: head["preprocessing"].pop("mean"), "3 numbers each in mean and std"),
    "a std of 0": (lambda head: head["preprocessing"].update(std=[0, 1, 1]), "none of std to be 0"),
    "no preprocessing": (lambda head: head.pop("preprocessing"), "does not say how a picture becomes"),
    "no release": (lambda head: head.pop("release"), "The head was fitted on undefined"),
}


@pytest.mark.parametrize("sentence", WRONG_HEADS)
def test_node_gives_no_label_by_a_head_that_is_not_whole(
    node: Path, example: Example, tmp_path: Path, sentence: str
) -> None:
    change, reason = WRONG_HEADS[sentence]
    head = json.loads(example.head.read_text())
    change(head)
    (tmp_path / "head.json").write_text(json.dumps(head))
    done = label(node, example.release, tmp_path / "head.json", example.pictures[0])
    assert done.returncode == 1 and not done.stdout
    assert reason in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_node_says_nothing_to_the_terminal_that_somebody_else_wrote(
    node: Path, example: Example, tmp_path: Path
) -> None:
    head = json.loads(example.head.read_text())
    head["labels"] = [f"\x1b]0;owned\x07{name}\nother.png\tcat" for name in head["labels"]]
    (tmp_path / "head.json").write_text(json.dumps(head))
    other = json.loads(example.head.read_text())
    other["release"]["release"] = "\x1b[2J"
    (tmp_path / "other.json").write_text(json.dumps(other))
    bad = tmp_path / "\x1b[2J.png"
    bad.write_bytes(b"")
    said = [
        label(node, example.release, tmp_path / "head.json", example.pictures[0], bad),
        label(node, example.release, tmp_path / "other.json", example.pictures[0]),
    ]
    assert said[0].stdout.count("\t") == 2 and "photograph" in said[0].stdout
    for done in said:
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", done.stdout + done.stderr)


def test_node_does_not_unpack_what_fills_the_memory(node: Path, example: Example, tmp_path: Path) -> None:
    data = bytearray(example.pictures[0].read_bytes())
    data[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    (tmp_path / "bomb.png").write_bytes(data)
    done = label(node, example.release, example.head, tmp_path / "bomb.png", example.pictures[0])
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1
    assert done.stderr == f"{tmp_path / 'bomb.png'}: has more than 89478485 pixels.\n"


def test_pictures_are_resized_as_pillow_does_to_the_bit(node: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases = [(*map(int, rng.integers(1, 120, 4)), int(rng.choice([1, 3]))) for _ in range(60)]
    cases += [(48, 32, 48, 32, 1), (40, 40, 16, 16, 3)]
    wanted = []
    for number, (width, height, *size, channels) in enumerate(cases):
        pixels = np.full((height, width, 4), 255, np.uint8)
        pixels[..., :3] = rng.integers(0, 256, (height, width, 3))
        (tmp_path / str(number)).write_bytes(pixels.tobytes())
        spec = ExtractorSpec("small-gn", channels, size[1], size[0], 1, (0.3,), (0.7,))
        fitted = fit_image(Image.fromarray(pixels[..., :3]), spec)
        wanted.append((fitted.ravel(), to_input(fitted[None], spec).ravel()))
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    script = """
        import { readFileSync } from "node:fs";
        const { fit, toInput } = await import(process.argv[1]);
        JSON.parse(readFileSync("cases.json")).forEach(([w, h, width, height, channels], k) => {
          const pixels = fit({ width: w, height: h, data: readFileSync(`${k}`) }, { width, height, channels });
          const numbers = { mean: Array(channels).fill(0.3), std: Array(channels).fill(0.7) };
          const input = toInput(pixels, { width, height, channels, ...numbers });
          console.log(JSON.stringify({ pixels: [...pixels], input: [...input] }));
        });
    """
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script, (EXAMPLES / "pictures.mjs").as_uri()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json_lines(done.stdout)
    for (bytes_wanted, numbers), line in zip(wanted, found, strict=True):
        assert np.array_equal(bytes_wanted, np.array(line["pixels"]))
        assert np.array_equal(np.array(line["input"], np.float32), numbers)
