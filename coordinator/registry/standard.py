"""Put the standard extractors into the library: classical ones, random weights, public pretrained ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

from coordinator.registry.build import Export, KeepRequest
from coordinator.registry.publish import publish
from coordinator.workers.process import ask_worker
from shared.domain.clock import Clock
from shared.domain.ids import ReleaseId
from shared.domain.release import WEIGHTS_FILE, Source
from shared.domain.strict import build

WORKER = "coordinator.workers.standard_worker"
LONGEST_S = 120.0


def standard_names() -> tuple[str, ...]:
    """Those that this software can make, in the order in which a library shows them."""
    answer = ask_worker(WORKER, {"name": "", "folder": ""}, LONGEST_S, "Nothing was listed.")
    return build(tuple[str, ...], answer["names"], "names")


def keep_standard(home: Path, name: str, clock: Clock, export: Export) -> ReleaseId:
    """Make the standard extractor `name` here and publish it; its release. The same again changes nothing.

    Raises NotFound for a name that is none, InvalidConfig where a package that it needs is not installed, and what
    `publish` raises.
    """
    with tempfile.TemporaryDirectory(dir=home) as scratch:
        question = {"name": name, "folder": scratch}
        answer = ask_worker(WORKER, question, LONGEST_S, "Nothing was published.")
        source = build(Source, answer["source"], "source")
        return publish(home, KeepRequest(name, source, Path(scratch) / WEIGHTS_FILE), clock, export=export)
