"""How much faster a release's ONNX files embed than torch does, for every architecture that a plan can name.

    python tests/benchmarks/embedding.py                torch eager, ONNX fp32, ONNX int8; batch 1 and 32; one thread

The files are made by the shipped export. Programs take turns, so that whatever else the machine does falls on all of
them; what is printed is the median of the turns' ratios. Weights are random: the time depends on no value.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from coordinator.workers.export_int8 import to_int8
from coordinator.workers.export_onnx import to_onnx
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.exports.onnx_file import OnnxFile
from shared.exports.public_records import public_records
from shared.exports.speed import BATCHES, Run, example_of, processor_name, run_for
from shared.extractors import architectures

SEED = 1
TURN_S = 0.3
SPECS = (
    ExtractorSpec("fixed-mlp", 1, 28, 28, 64),
    ExtractorSpec("small-gn", 3, 96, 96, 256),
    ExtractorSpec("wrn-16-4-gn", 3, 32, 32, 256),
    ExtractorSpec("resnet18-gn", 3, 96, 96, 512, options={"stem": "large"}),
    ExtractorSpec("vit-tiny", 3, 96, 96, 192),
    ExtractorSpec("efficientnet-lite0", 3, 224, 224, 1280),
    ExtractorSpec("ngram-bag", 1, 1, 64, 64, kind=RecordKind.TEXT),
    ExtractorSpec("byte-transformer", 1, 1, 64, 64, kind=RecordKind.TEXT),
)
EAGER, FP32, INT8 = "torch eager", "onnx fp32", "onnx int8"


def programs_of(spec: ExtractorSpec, folder: Path) -> tuple[dict[str, Run], str]:
    """Program → what runs a batch; and why there is no int8, where there is none."""
    module = architectures.build(spec, SEED)
    module.eval()
    path = folder / "model.onnx"
    path.write_bytes(to_onnx(module, spec).SerializeToString())
    int8, missing = to_int8(path, spec, public_records(spec), folder)
    found: dict[str, Run] = {
        EAGER: lambda records: module(torch.from_numpy(records)),
        FP32: OnnxFile(path).run,
    }
    if int8 is not None:
        found[INT8] = OnnxFile(int8.model).run
    return found, missing


def line_of(spec: ExtractorSpec, programs: dict[str, Run], turns: int) -> str:
    """Records a second of torch, and the ratios to it, for each batch size."""
    cells = []
    for batch in BATCHES:
        records = example_of(spec, batch)
        speeds: dict[str, list[float]] = {name: [] for name in programs}
        for run in programs.values():
            run(records)
        for _ in range(turns):
            for name, run in programs.items():
                done, seconds = run_for(run, records, TURN_S)
                speeds[name].append(done / seconds)
        cells.append(f"{statistics.median(speeds[EAGER]):,.0f}")
        for name in (FP32, INT8):
            ratios = [a / b for a, b in zip(speeds.get(name, []), speeds[EAGER], strict=False)]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "–")
    return f"| {spec.architecture}, {spec.channels} × {spec.height} × {spec.width} | {' | '.join(cells)} |"


def main() -> None:
    """One run, a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    print(f"{processor_name()}, one thread, {turns} turns")
    print("| architecture, input | torch, batch 1 | fp32 ÷ | int8 ÷ | torch, batch 32 | fp32 ÷ | int8 ÷ |")
    print("|---|---|---|---|---|---|---|")
    for spec in SPECS:
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            programs, missing = programs_of(spec, Path(folder))
            print(line_of(spec, programs, turns), missing, flush=True)


if __name__ == "__main__":
    main()
