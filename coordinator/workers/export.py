"""Make a release's files for other programs, by a process of its own: it needs torch, the control plane has none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.domain.errors import Broken
from shared.domain.release import MEASURED_FILE
from shared.wire.problems import CLASS_OF_CODE

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
        answer = _run([str(folder.resolve()), country, release], scratch)
    if "error" in answer:
        raise CLASS_OF_CODE.get(answer["error"], Broken)(answer["message"])
    sections: Mapping[str, str] = answer["sections"]
    return sections


def _run(arguments: list[str], scratch: str) -> dict[str, Any]:
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "coordinator.workers.export_worker", *arguments],
            env=kept | {"HOME": scratch, "TMPDIR": scratch, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            timeout=LONGEST_S,
            check=False,
        )
        answer = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        raise Broken("The export worker gave no answer. Nothing was published.") from error
    if done.returncode != 0 or not isinstance(answer, dict):
        raise Broken(f"The export worker ended with status {done.returncode}. Nothing was published.")
    return answer
