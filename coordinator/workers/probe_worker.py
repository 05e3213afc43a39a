"""The probe worker's own process: `python -m coordinator.workers.probe_worker`, JSON in, JSON out.

Builds the extractor, refuses layers that mix records, writes the starting weights, and times a step.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from shared.domain.canonical import digest_of
from shared.domain.errors import CommonlensError
from shared.domain.extractor import ExtractorSpec
from shared.domain.strict import build, to_plain
from shared.extractors import architectures
from shared.extractors.files import write_weights

TIMED_RECORDS = 32
PER_EXAMPLE_SLOWDOWN = 2.0
"""Exact per-example gradients run at about half of plain training's speed."""


def main() -> None:
    """Read one question from stdin, write one line of JSON to stdout."""
    question = json.loads(sys.stdin.read())
    try:
        spec = build(ExtractorSpec, question["spec"], "extractor")
        answer = probe(spec, int(question["seed"]), Path(question["folder"]))
    except CommonlensError as error:
        answer = {"error": error.code, "message": error.message}
    print(json.dumps(answer))


def probe(spec: ExtractorSpec, seed: int, folder: Path) -> dict[str, Any]:
    """The fields of `Probe`. Raises MixesRecords, InvalidConfig."""
    module = architectures.build(spec, seed)
    architectures.check_layers(module)
    tensors, layout = architectures.starting_weights(spec, seed)
    name = digest_of({"spec": to_plain(spec), "seed": seed}).removeprefix("sha256:")[:32] + ".safetensors"
    return {
        "starting_weights": write_weights(folder / name, tensors, spec, layout),
        "file_name": name,
        "trainable_coordinates": layout.trainable_coordinates,
        "seconds_per_record": PER_EXAMPLE_SLOWDOWN * _seconds_per_record(module, spec),
    }


def _seconds_per_record(module: torch.nn.Module, spec: ExtractorSpec) -> float:
    images = torch.zeros(TIMED_RECORDS, spec.channels, spec.height, spec.width)
    fastest = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        module(images).square().mean().backward()
        fastest = min(fastest, time.perf_counter() - started)
    return fastest / TIMED_RECORDS


if __name__ == "__main__":
    main()
