"""Answers of the probe worker, kept: a worker takes seconds to start, and the dial of a plan asks again and again."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

from coordinator.workers.probe import Probe, ReleaseStart, Start, probe_extractor
from shared.domain.canonical import digest_of, digest_of_file
from shared.domain.errors import Invalid
from shared.domain.extractor import ExtractorSpec
from shared.domain.files import write_json
from shared.domain.strict import build, to_plain

_ENDING = ".probe.json"


class KeptProbes:
    """By extractor, seed and start; written down beside the starting weights, so that a restart loses nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._kept: dict[str, Probe] | None = None
        self._good: set[str] = set()
        """Questions whose weights this process wrote, or found to be what they were."""

    def probe(self, spec: ExtractorSpec, seed: int, start: Start | None) -> Probe:
        """What is known, or the worker's answer. Raises as `probe_extractor` does; a refusal is not kept."""
        known = self.known(spec, seed, start)
        if known is not None:
            return known
        question = _question(spec, seed, start)
        found = replace(probe_extractor(spec, seed, self._folder, start), seed=seed)
        write_json(self._folder / (question + _ENDING), to_plain(found))
        with self._lock:
            self._good.add(question)
            self._kept = {**(self._kept or {}), question: found}
        return found

    def known(self, spec: ExtractorSpec, seed: int, start: Start | None) -> Probe | None:
        """The answer of before, while the weights that it is about are what they were."""
        question = _question(spec, seed, start)
        known = self._all().get(question)
        return known if known is not None and self._still_there(question, known) else None

    def about(self, file_name: str) -> Probe | None:
        """What was found out about these starting weights; None where that was not written down."""
        return next((one for one in self._all().values() if one.file_name == file_name), None)

    def _all(self) -> dict[str, Probe]:
        with self._lock:
            if self._kept is None:
                self._kept = dict(filter(None, map(_read, sorted(self._folder.glob("*" + _ENDING)))))
            return self._kept

    def _still_there(self, question: str, known: Probe) -> bool:
        path = self._folder / known.file_name
        if not path.is_file():
            return False
        if question not in self._good and digest_of_file(path) == known.starting_weights:
            self._good.add(question)
        return question in self._good


def _question(spec: ExtractorSpec, seed: int, start: Start | None) -> str:
    if isinstance(start, ReleaseStart):
        # By what the weights are: where they lie is another place each time that they come out of an object store.
        start = replace(start, weights_file="")
    asked = {"spec": to_plain(spec), "seed": seed, "start": to_plain(start)}
    return digest_of(asked).removeprefix("sha256:")[:32]


def _read(path: Path) -> tuple[str, Probe] | None:
    try:
        return path.name.removesuffix(_ENDING), build(Probe, json.loads(path.read_bytes()), "probe")
    except (OSError, ValueError, Invalid):
        return None  # of another version, or cut short: the worker is asked again
