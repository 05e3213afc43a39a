"""Make a release's files for other programs, by a process of its own: it needs torch, the control plane has none."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from coordinator.config import Config
from coordinator.registry.build import Export, weights_only
from coordinator.workers.process import ask_worker, patience_s, surroundings
from shared.domain.release import MEASURED_FILE

WORKER = "coordinator.workers.export_worker"
LONGEST_S = 900


def run_export(folder: Path, release: str = "", country: str = "", niceness: int = 0) -> Mapping[str, str]:
    """Write beside `folder`/model.safetensors its ONNX files, configuration, lens profile and measurements.

    Gives the sections of the card, heading → Markdown. `release` names the extractor in its picture; `country`: where
    the machine stands, ISO 3166 alpha-3, for the CO2 of a kilowatt-hour; `niceness`: how far
    the worker stands back for others. Raises what the worker refused (InvalidWeights, InvalidConfig), TookTooLong, or
    Broken when it crashed or found ONNX and torch apart.
    """
    (folder / MEASURED_FILE).unlink(missing_ok=True)  # written last: there only when all is
    question = {"folder": str(folder.resolve()), "country": country, "name": release, "niceness": niceness}
    with surroundings() as environment:
        longest_s = patience_s(LONGEST_S, niceness)
        answer = ask_worker(WORKER, question, longest_s, "Nothing was published.", environment)
    sections: Mapping[str, str] = answer["sections"]
    return sections


def export_of(config: Config, niceness: int = 0) -> Export:
    """What a release gets beside its weights on this coordinator; `niceness` as in `run_export`."""
    wanted = partial(run_export, country=config.country, niceness=niceness)
    return wanted if config.exports else weights_only
