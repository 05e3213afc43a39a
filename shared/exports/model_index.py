"""What was measured of a release, in the form in which model hubs read evaluations (a card's `model-index`).

Only figures that the card and the files beside it state anyway.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared.domain.extractor import RecordKind
from shared.domain.files import read_json
from shared.domain.release import LENS_FILE, MEASURED_FILE
from shared.exports.measured import Measured, read_measured
from shared.lens.profile_shape import LensProfile, read_profile

_TASKS = {RecordKind.IMAGE: "image-classification", RecordKind.TEXT: "text-classification"}


def model_index_of(folder: Path, name: str, kind: RecordKind) -> list[dict[str, Any]]:
    """`model_index` by measured.json and lens.json of `folder`. Raises Invalid, InvalidConfig."""
    measured = read_measured(folder) if (folder / MEASURED_FILE).exists() else None
    path = folder / LENS_FILE
    profile = read_profile(read_json(path), LENS_FILE) if path.exists() else None
    return model_index(measured, profile, name, kind)


def model_index(
    measured: Measured | None, profile: LensProfile | None, name: str, kind: RecordKind
) -> list[dict[str, Any]]:
    """What linear probes got right, by question; empty where nothing of it was measured."""
    results = [] if measured is None else _of_formats(measured, _TASKS[kind])
    results += [] if profile is None else _of_lens(profile, _TASKS[kind])
    return [{"name": name, "results": results}] if results else []


def _of_formats(measured: Measured, task: str) -> list[dict[str, Any]]:
    """The probe of both ONNX files; it is only asked where there is an int8 file."""
    if measured.int8 is None:
        return []
    public, loss = measured.public, measured.int8.loss
    metrics = [
        _accuracy(loss.top1_fp32, "top-1 of a linear probe, model.onnx"),
        _accuracy(loss.top1_int8, "top-1 of the same probe, model-int8.onnx"),
    ]
    return [_result(task, "Linear probe on embeddings", public.set_name, public.digest, metrics)]


def _of_lens(profile: LensProfile, task: str) -> list[dict[str, Any]]:
    return [
        _result(
            task,
            f"Linear probe on embeddings: {probe.question}",
            f"Commonlens probe set, {probe.question}",
            profile.probe_set,
            [_accuracy(probe.accuracy, f"accuracy of a linear probe, chance {probe.chance:.2f}")],
        )
        for probe in profile.tells
    ]


def _result(task: str, name: str, data: str, digest: str, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    dataset = {"name": data, "type": "commonlens-public", "revision": str(digest)}
    return {"task": {"type": task, "name": name}, "dataset": dataset, "metrics": metrics}


def _accuracy(value: float, name: str) -> dict[str, Any]:
    return {"type": "accuracy", "value": value, "name": name}
