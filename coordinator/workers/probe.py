"""Ask the probe worker about an extractor: its starting weights, its layout, and how fast it trains."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import Broken
from shared.domain.extractor import ExtractorSpec
from shared.domain.strict import build, to_plain
from shared.wire.problems import CLASS_OF_CODE

LONGEST_S = 600


@dataclass(frozen=True)
class Probe:
    """What the worker found out."""

    starting_weights: str
    """Digest of the file it wrote."""
    file_name: str
    """Of the starting weights, in the folder that was given."""
    trainable_coordinates: int
    seconds_per_record: float
    """Estimate of one per-example gradient on this machine's CPU; members' machines differ."""


def probe_extractor(spec: ExtractorSpec, seed: int, folder: Path) -> Probe:
    """Run the worker. Raises what it refused (MixesRecords, InvalidConfig), or Broken when it crashed."""
    folder.mkdir(parents=True, exist_ok=True)
    question = canonical_bytes({"spec": to_plain(spec), "seed": seed, "folder": str(folder)})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "coordinator.workers.probe_worker"],
            input=question,
            capture_output=True,
            timeout=LONGEST_S,
            check=False,
        )
        answer = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        raise Broken("The probe worker gave no answer. Nothing was proposed.") from error
    if not isinstance(answer, dict):
        raise Broken(f"The probe worker ended with status {done.returncode}. Nothing was proposed.")
    if "error" in answer:
        raise CLASS_OF_CODE.get(answer["error"], Broken)(answer["message"])
    return build(Probe, answer, "probe")
