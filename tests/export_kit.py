"""A release for other programs: its files, made once for all tests; a head on it, pictures, and what Python says."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coordinator.registry.build import Export
from coordinator.workers.export import run_export
from participant.heads.fit import fit_head
from participant.heads.head_file import head_file, write_head_file
from shared.domain.canonical import digest_of_file
from shared.domain.extractor import ExtractorSpec
from shared.domain.locking import held_lock
from shared.domain.release import WEIGHTS_FILE
from shared.embedding import Embeddings, embed_files
from shared.exports.public_records import public_records
from shared.extractors.architectures import load
from shared.extractors.device import choose_device
from shared.extractors.embedding import embed_batches
from shared.verification import verify_extractor
from tests.release_kit import make_used_kit

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
SPEC = ExtractorSpec("small-gn", 3, 16, 16, 8, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), {"width": 8})
_NO_REGISTRY = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH")


@dataclass
class Example:
    """`release` is what a stranger downloaded, `head` what a member exported."""

    release: Path
    head: Path
    pictures: list[Path]
    """PNG of the extractor's own size."""
    resized: list[Path]
    """PNG of other sizes."""
    python: Callable[[list[Path]], tuple[list[str], Embeddings]]
    """Labels and embeddings of pictures, by torch."""


def export_into(kept: Path) -> Export:
    """`run_export`, whose files for equal weights of one name are kept in `kept`, where every process looks first."""

    def export(folder: Path, release: str) -> Mapping[str, str]:
        made = kept / f"{release}-{digest_of_file(folder / WEIGHTS_FILE)[7:23]}"
        with held_lock(kept / "lock"):
            if not (made / "sections.json").exists():
                made.mkdir()
                shutil.copyfile(folder / WEIGHTS_FILE, made / WEIGHTS_FILE)
                sections = run_export(made, release)
                (made / "sections.json").write_text(json.dumps(sections))
        shutil.copytree(made, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("sections.json"))
        found: dict[str, str] = json.loads((made / "sections.json").read_text())
        return found

    return export


def make_example(folder: Path, export: Export) -> Example:
    """A consortium's release in `folder`, with the files that `export` adds to it."""
    kit = make_used_kit(folder, SPEC)
    verified = verify_extractor(kit.folder(), pinned_root=kit.root, clock=kit.clock)
    public = public_records(SPEC)
    module = load(SPEC, verified.weights)
    (learned,) = embed_batches(module, [public.learned], SPEC, choose_device("cpu"))
    names = tuple(f"photograph {k}" for k in range(public.labels))
    head = fit_head(learned, public.learned_labels, names, spec=SPEC, release_digest=verified.manifest_digest)
    release = shutil.copytree(kit.folder(), folder / "release")
    export(release, "digits-1")
    write_head_file(folder / "head.json", head_file(head, verified))

    def python(paths: list[Path]) -> tuple[list[str], Embeddings]:
        embeddings = embed_files(verified, paths, "cpu")
        return list(head.predict_names(embeddings, release_digest=head.release_digest)), embeddings

    pictures = [save_picture(folder / f"{k}.png", public.held_out[k * 47]) for k in range(12)]
    rng = np.random.default_rng(5)
    sizes = ((50, 70), (64, 40), (20, 31))
    resized = [
        save_picture(folder / f"{h}x{w}.png", _smooth(rng.integers(0, 256, (h, w, 3)).astype(np.uint8)))
        for h, w in sizes
    ]
    return Example(release, folder / "head.json", pictures, resized, python)


def install(example: str, folder: Path) -> Path:
    """docs/examples in `folder`, with the packages of `example`; the test is skipped, saying so, without npm."""
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("node_modules"), dirs_exist_ok=True)
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs Node.js 20 and npm (Debian packages nodejs and npm)")
    done = subprocess.run(
        [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=folder / example,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode and any(word in done.stderr for word in _NO_REGISTRY):
        pytest.skip("needs the npm registry, which does not answer")
    assert done.returncode == 0, done.stderr
    return folder / example


def json_lines(text: str) -> list[dict[str, Any]]:
    """One object a line."""
    return [json.loads(line) for line in text.splitlines()]


def _smooth(noise: np.ndarray) -> np.ndarray:
    """Without it every picture would be the same grey once it is small."""
    small = Image.fromarray(noise[::8, ::8])
    return np.asarray(small.resize(noise.shape[1::-1], Image.Resampling.BICUBIC))


def save_picture(path: Path, pixels: np.ndarray) -> Path:
    """Of pixels [height, width, channels]; the path."""
    Image.fromarray(pixels).save(path)
    return path
