"""What int8 costs a head, on as many public records as it takes to tell.

    python tests/benchmarks/int8.py [NAME ...] [--half 0.3]      a line for each of EXTRACTORS, or those named

Files and choice of the way are those of the shipped export. One linear probe is fitted on fp32 embeddings of many more
records than a release's own, and asked about fp32 and int8 embeddings of the same held-out records, drawn until the
95 % interval of the loss is within ± `--half` points or MOST were asked. Pictures are new crops of the photographs of
the export's public set, texts are names in sixteen languages (tests/texts.py). Weights are random, from the library's
public seed, except EfficientNet-Lite0's (ImageNet) and MiniLM's. Its results stand in docs/results.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from coordinator.workers.export_int8 import to_int8
from coordinator.workers.export_onnx import to_onnx
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.exports.comparison import Probe, error_share, paired_loss
from shared.exports.onnx_file import OnnxFile
from shared.exports.public_pictures import picture_records
from shared.exports.public_records import public_records
from shared.extractors.architectures import load, starting_weights
from shared.extractors.files import read_weights, write_weights
from shared.extractors.preprocess import fit_text
from shared.extractors.standard_catalogue import PUBLIC_SEED, Made, make_standard
from tests.texts import keep_back, names

HALF_POINTS = 0.3
LEARNED = 256
"""Of each label."""
CHUNK = 32
"""Held-out crops of each photograph at a time."""
LEAST, MOST = 2_000, 30_000
"""Held-out records."""
SEED = 7

Records = tuple[np.ndarray, np.ndarray]
"""uint8 [N, H, W, C] and int64 [N]."""


def _random(architecture: str, side: int, embedding_dim: int) -> Callable[[], Made]:
    spec = ExtractorSpec(architecture, 3, side, side, embedding_dim)
    return lambda: Made(spec, *starting_weights(spec, PUBLIC_SEED))


def _random_text(architecture: str) -> Callable[[], Made]:
    spec = ExtractorSpec(architecture, 1, 1, 64, 64, kind=RecordKind.TEXT)
    return lambda: Made(spec, *starting_weights(spec, PUBLIC_SEED))


EXTRACTORS: Mapping[str, Callable[[], Made]] = {
    "small-gn": _random("small-gn", 28, 128),
    "fixed-mlp": _random("fixed-mlp", 32, 128),
    "vit-tiny": _random("vit-tiny", 32, 192),
    "wrn-16-4-gn": _random("wrn-16-4-gn", 32, 256),
    "resnet18-gn": _random("resnet18-gn", 64, 512),
    "efficientnet-lite0": lambda: make_standard("efficientnet-lite0"),
    "ngram-bag": _random_text("ngram-bag"),
    "byte-transformer": _random_text("byte-transformer"),
    "minilm": lambda: make_standard("minilm"),
}


@dataclass
class Asked:
    """What was found on the held-out records so far."""

    right: np.ndarray
    right_int8: np.ndarray
    cosines: np.ndarray

    def points(self) -> tuple[float, float]:
        """Loss in points of top-1, and half the width of its 95 % interval."""
        loss, half = paired_loss(self.right, self.right_int8)
        return 100 * loss, 100 * half


def crops(spec: ExtractorSpec) -> tuple[Records, Iterator[Records]]:
    """Crops to learn from, and without end chunks of held-out ones."""
    draw, rng = picture_records()[1], np.random.Generator(np.random.PCG64(SEED))

    def some(held_out: bool, count: int) -> Records:
        records = np.concatenate([one(spec, held_out, count, rng) for one in draw])
        return records, np.repeat(np.arange(len(draw)), count)

    return some(False, LEARNED), (some(True, CHUNK) for _ in iter(int, 1))


def languages(spec: ExtractorSpec) -> tuple[Records, Iterator[Records]]:
    """Names to learn from, and all others in chunks; no name is in both."""
    parts = keep_back(names(most=MOST), LEARNED)
    codes = sorted({code for _, code in parts[0]})
    learned, held_out = (
        (
            np.stack([fit_text(text, spec) for text, _ in part]),
            np.array([codes.index(code) for _, code in part]),
        )
        for part in parts
    )
    size = CHUNK * len(codes)
    starts = range(0, len(held_out[0]), size)
    return learned, ((held_out[0][k : k + size], held_out[1][k : k + size]) for k in starts)


def ask(spec: ExtractorSpec, fp32: OnnxFile, int8: OnnxFile, wanted: float) -> tuple[Asked, float]:
    """Answers about held-out records until the loss is known to ± `wanted` points; the first chunk's share of error."""
    learned, chunks = (languages if spec.kind is RecordKind.TEXT else crops)(spec)
    probe = Probe(fp32.embed(learned[0], spec), learned[1])
    asked, share = Asked(*(np.zeros(0, kind) for kind in (bool, bool, float))), 0.0
    for records, labels in chunks:
        one, other = (each.embed(records, spec) for each in (fp32, int8))
        share = share or error_share(one, other)
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        asked = Asked(
            np.concatenate([asked.right, probe.predict(one) == labels]),
            np.concatenate([asked.right_int8, probe.predict(other) == labels]),
            np.concatenate([asked.cosines, (one * other).sum(axis=1) / lengths]),
        )
        done = len(asked.right)
        if done >= MOST or (done >= LEAST and asked.points()[1] <= wanted):
            break
    return asked, share


def line_of(name: str, folder: Path, wanted: float) -> str:
    """A row of the table in docs/results.md."""
    made = EXTRACTORS[name]()
    weights, path = folder / "model.safetensors", folder / "model.onnx"
    write_weights(weights, made.tensors, made.spec, made.layout, made.origin, made.vocabulary)
    module = load(made.spec, read_weights(weights))
    path.write_bytes(to_onnx(module, made.spec).SerializeToString(deterministic=True))
    started = time.process_time()
    int8, missing = to_int8(path, made.spec, public_records(made.spec), folder)
    seconds = time.process_time() - started
    if int8 is None:
        return f"| {name} | {missing} |"
    asked, share = ask(made.spec, OnnxFile(path), OnnxFile(int8.model), wanted)
    loss, half = asked.points()
    size = f"{made.spec.width} px" if made.spec.kind is RecordKind.IMAGE else f"{made.spec.width} bytes"
    own = int8.measured.loss
    cells = (
        f"{name}, {size}",
        int8.measured.method,
        f"{asked.cosines.mean():.4f}",
        f"{100 * share:.2f} %",
        f"{100 * asked.right.mean():.1f} %",
        f"{loss:.2f} ± {half:.2f}",
        f"{len(asked.right):,}",
        f"{own.loss_points:.2f} ± {(own.loss_high - own.loss_low) / 2:.1f}",
        f"{path.stat().st_size / 1000:,.0f} / {len(int8.model) / 1000:,.0f}",
        f"{seconds:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """One run, a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=list(EXTRACTORS), metavar="NAME")
    parser.add_argument("--half", type=float, default=HALF_POINTS, metavar="POINTS")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| extractor | way | cosine | error | top-1 fp32 | loss, points | held out | by the release's own | kB | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in asked.names:
        with tempfile.TemporaryDirectory() as folder:
            print(line_of(name, Path(folder), asked.half), flush=True)


if __name__ == "__main__":
    main()
