"""Records a second on one thread, measured for a moment: numbers of one run on one machine, to be compared there."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.extractors.preprocess import fit_text, to_input

BATCHES = (1, 32)
THREADS = 1
TIMED_S = 0.25
"""Twice as long gave no steadier numbers (a few percent, networks of 28 pixels)."""
WINDOW_S = 0.05
"""The fastest of such parts of TIMED_S counts: what else the machine does in one of them slows one program alone."""
SENTENCE = "Twenty labelled records are a beginning, and a small head on their embeddings is often enough."
"""Of texts, whose time may depend on their length: each is this one, as far as it fits."""
_PROCESSORS = Path("/proc/cpuinfo")

Run = Callable[[npt.NDArray[np.float32]], object]


def example_of(spec: ExtractorSpec, batch: int) -> npt.NDArray[np.float32]:
    """float32 [batch, C, H, W]: the time depends on no value of a picture."""
    if spec.kind is RecordKind.TEXT:
        return to_input(np.repeat(fit_text(SENTENCE, spec)[None], batch, axis=0), spec)
    generator = np.random.Generator(np.random.PCG64(batch))
    shape = (batch, spec.channels, spec.height, spec.width)
    return generator.standard_normal(shape, dtype=np.float32)


def run_for(run: Run, records: npt.NDArray[np.float32], seconds: float = TIMED_S) -> tuple[int, float]:
    """(records, seconds) of running `records` again and again for `seconds`, at least once."""
    started, done = time.perf_counter(), 0
    while True:
        run(records)
        done += len(records)
        taken = time.perf_counter() - started
        if taken >= seconds:
            return done, taken


def records_per_s(run: Run, records: npt.NDArray[np.float32]) -> float:
    """In the fastest window, after one run that does not count."""
    run(records)
    fastest = spent = 0.0
    while spent < TIMED_S:
        done, taken = run_for(run, records, WINDOW_S)
        fastest, spent = max(fastest, done / taken), spent + taken
    return fastest


def processor_name() -> str:
    """The CPU as the operating system names it."""
    if _PROCESSORS.is_file():
        for line in _PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
