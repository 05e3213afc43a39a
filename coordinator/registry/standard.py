"""Put the standard extractors into the library: classical ones, random weights, public pretrained ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from coordinator.registry.build import Export, KeepRequest
from coordinator.registry.publish import already_published, next_number, publish
from coordinator.registry.shelf import Shelf
from coordinator.workers.process import ask_worker, patience_s
from shared.domain.clock import Clock
from shared.domain.ids import ReleaseId
from shared.domain.locking import held_lock
from shared.domain.release import WEIGHTS_FILE, Source, release_id
from shared.domain.strict import build
from shared.extractors.standard_entries import standard_extractor

WORKER = "coordinator.workers.standard_worker"
LONGEST_S = 300.0


def keep_standard(home: Path, name: str, clock: Clock, export: Export, niceness: int = 0) -> ReleaseId:
    """Make the standard extractor `name` here and publish it; its release. The same again changes nothing.

    What takes long is done before the shelf is taken, so nobody who publishes meanwhile waits for it. `niceness`: of
    the process that makes the weights. Raises NotFound for a name that is none, InvalidConfig where a package that it
    needs is not installed, TookTooLong, and what `publish` raises.
    """
    standard_extractor(name)
    with _bench(home) as folder:
        question = {"name": name, "folder": str(folder), "niceness": niceness}
        answer = ask_worker(WORKER, question, patience_s(LONGEST_S, niceness), "Nothing was published.")
        source = build(Source, answer["source"], "source")
        request = KeepRequest(name, source, folder / WEIGHTS_FILE)
        shelf = Shelf(home)
        there = already_published(shelf, request.key, name, clock)
        if there is not None:
            return there
        release = release_id(name, next_number(shelf, name, clock))
        return publish(home, request, clock, export=_exported(folder, release, export))


@contextmanager
def _bench(home: Path) -> Iterator[Path]:
    """An empty folder in `home`, where there is room; one extractor is made in it at a time, whoever asks.

    What a process left there that was killed is removed.
    """
    folder = home / ".standard"
    with held_lock(home / ".standard.lock"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _exported(folder: Path, release: str, export: Export) -> Export:
    """`export` of the weights in `folder`, done now for what will most likely be `release`."""
    sections = export(folder, release)

    def place(building: Path, named: str) -> Mapping[str, str]:
        if named != release:  # the picture names it
            return export(building, named)
        shutil.copytree(folder, building, dirs_exist_ok=True)
        return sections

    return place
