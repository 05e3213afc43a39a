"""The Node.js example is the extractor: same pixels, same embeddings, same labels as Python."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    done = label(node, example.release, example.head, *example.resized)
    assert done.returncode == 0, done.stderr
    found = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[1] for line in found] == example.python(example.resized)[0]


def test_node_refuses_a_head_of_another_release(node: Path, example: Example, tmp_path: Path) -> None:
    head = json.loads(example.head.read_text())
    head["release"]["release"] = "digits-2"
    (tmp_path / "head.json").write_text(json.dumps(head))
    done = label(node, example.release, tmp_path / "head.json", example.pictures[0])
    assert done.returncode != 0 and "The head was fitted on digits-2" in done.stderr and not done.stdout


def test_pictures_are_resized_as_pillow_does_within_one_level(node: Path, tmp_path: Path) -> None:
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
    equal = []
    for (pixels, numbers), line in zip(wanted, found, strict=True):
        off = np.abs(pixels.astype(int) - np.array(line["pixels"]))
        assert off.max() <= 1
        equal.append(off.max() == 0)
        if equal[-1]:
            assert np.array_equal(np.array(line["input"], np.float32), numbers)
    # Where Pillow resizes across first, as it always did once, not a bit differs.
    assert np.mean(equal) > 0.5 and equal[-2]
