"""Make a release's files for other programs, by a process of its own: it needs torch, the control plane has none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from coordinator.workers.process import ask_worker
from shared.domain.release import MEASURED_FILE

WORKER = "coordinator.workers.export_worker"
LONGEST_S = 900
_PASSED_ON = (
    "PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "SYSTEMROOT",
    "LANG",
    "LC_ALL",
    "COVERAGE_PROCESS_START",
)
"""What Python needs to start. Nothing else of the coordinator's environment, which holds secrets, is passed on."""


def run_export(folder: Path, release: str = "", country: str = "") -> Mapping[str, str]:
    """Write beside `folder`/model.safetensors its ONNX files, configuration, lens profile and measurements.

    Gives the sections of the card, heading → Markdown. `release` names the extractor in its picture; `country`: where
    the machine stands, ISO 3166 alpha-3, for the CO2 of a kilowatt-hour. Raises what the worker refused
    (InvalidWeights, InvalidConfig), or Broken when it crashed, took too long or found ONNX and torch apart.
    """
    (folder / MEASURED_FILE).unlink(missing_ok=True)  # written last: there only when all is
    # The worker's home and scratch, removed here whatever becomes of the worker.
    with tempfile.TemporaryDirectory(prefix="commonlens-export-") as scratch:
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        question = {"folder": str(folder.resolve()), "country": country, "name": release}
        environment = kept | {"HOME": scratch, "TMPDIR": scratch, "OMP_NUM_THREADS": "1"}
        answer = ask_worker(WORKER, question, LONGEST_S, "Nothing was published.", environment)
    sections: Mapping[str, str] = answer["sections"]
    return sections
