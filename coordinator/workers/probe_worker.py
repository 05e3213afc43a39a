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

from coordinator.workers.probe import PublicStart, ReleaseStart, Start
from shared.domain.canonical import digest_of, digest_of_file
from shared.domain.errors import CommonlensError, DigestMismatch, InvalidConfig
from shared.domain.extractor import ExtractorSpec
from shared.domain.strict import build, to_plain
from shared.extractors import architectures
from shared.extractors.files import TRAINED, Origin, read_weights, write_weights
from shared.extractors.flatten import Tensors
from shared.extractors.public_weights import public_weights
from shared.extractors.scope_shape import split_scope

LEAST_TIMED_RECORDS, MOST_TIMED_RECORDS = 2, 32
TIMING_S = 5.0
"""No larger batch is timed that would take longer than what is left of this."""
PER_EXAMPLE_SLOWDOWN = 2.0
"""Exact per-example gradients run at about half of plain training's speed."""


def main() -> None:
    """Read one question from stdin, write one line of JSON to stdout."""
    question = json.loads(sys.stdin.read())
    try:
        spec = build(ExtractorSpec, question["spec"], "extractor")
        start = build(Start | None, question["start"], "start")
        answer = probe(spec, int(question["seed"]), Path(question["folder"]), start)
    except CommonlensError as error:
        answer = {"error": error.code, "message": error.message}
    print(json.dumps(answer))


def probe(spec: ExtractorSpec, seed: int, folder: Path, start: Start | None = None) -> dict[str, Any]:
    """The fields of `Probe`. Raises MixesRecords, InvalidConfig, InvalidWeights, DigestMismatch."""
    base, origin = _base(spec, start)
    module = architectures.build(spec, seed, base)
    tensors, layout = architectures.starting_weights(spec, seed, base)
    if not layout.trainable_coordinates:
        raise InvalidConfig(
            f"Expected an extractor with at least 1 trainable coordinate, found {spec.architecture!r} with 0: nothing "
            f"of it is trained here. Nothing was proposed. Choose among {', '.join(architectures.TRAINABLE)}."
        )
    asked = {"spec": to_plain(spec), "seed": seed}
    if origin is not None:
        asked["origin"] = to_plain(origin)
    name = digest_of(asked).removeprefix("sha256:")[:32] + ".safetensors"
    return {
        "starting_weights": write_weights(folder / name, tensors, spec, layout, origin),
        "file_name": name,
        "trainable_coordinates": layout.trainable_coordinates,
        "seconds_per_record": PER_EXAMPLE_SLOWDOWN * _seconds_per_record(module, spec),
        "head_inputs": architectures.head_inputs(module, spec),
    }


def _base(spec: ExtractorSpec, start: Start | None) -> tuple[Tensors | None, Origin | None]:
    if start is None:
        return None, None
    if isinstance(start, PublicStart):
        return public_weights(start.name)
    return _release_base(spec, start)


def _release_base(spec: ExtractorSpec, start: ReleaseStart) -> tuple[Tensors, Origin]:
    """The release's tensors, if it is of the plan's extractor; what either of them trains may differ."""
    path = Path(start.weights_file)
    weights = read_weights(path)
    found = digest_of_file(path)
    if found != start.digest:
        raise DigestMismatch(
            f"The weights of {start.release} should have digest {start.digest}, these have {found}. Nothing "
            "was proposed. Verify the release."
        )
    if split_scope(weights.spec)[0] != split_scope(spec)[0]:
        raise InvalidConfig(
            f"The plan's extractor is {spec.architecture!r}, {start.release} is {weights.spec.architecture!r} or "
            "has another picture, embedding or options. Nothing was proposed. Copy the release's extractor into "
            "the plan; only scope and lora_rank may differ."
        )
    kind = TRAINED if start.trained else "library"
    return weights.tensors, Origin(kind, start.release, start.digest, "")


def _seconds_per_record(module: torch.nn.Module, spec: ExtractorSpec) -> float:
    """Of the fastest of batches that double: an admin waits for it, and a large extractor takes seconds a record."""
    fastest, records, left_s = float("inf"), LEAST_TIMED_RECORDS, TIMING_S
    while True:
        images = torch.zeros(records, spec.channels, spec.height, spec.width)
        started = time.perf_counter()
        module(images).square().mean().backward()
        seconds = time.perf_counter() - started
        fastest, left_s, records = min(fastest, seconds / records), left_s - seconds, 2 * records
        if records > MOST_TIMED_RECORDS or 2 * seconds > left_s:
            return fastest


if __name__ == "__main__":
    main()
