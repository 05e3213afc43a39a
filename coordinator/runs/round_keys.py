"""What the coordinator must remember of a secure round to finish it after a crash: all public or encrypted.

One file a round, written before what it records is asked for. A round is answered once (clause 3.8), so the
cohort that was asked to contribute, and the list of survivors once it was sent out, can never change.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.domain.files import read_json, write_json
from shared.domain.strict import build, to_plain
from shared.secagg.messages import Deal, KeyOffer


@dataclass(frozen=True)
class RoundKeys:
    """Round keys and shares of one round, and how far it was taken."""

    roster: tuple[KeyOffer, ...]
    deals: Mapping[str, Deal]
    """Member id → its shares for the others, each encrypted to its receiver."""
    cohort: tuple[str, ...] | None = None
    """Set once contributions were asked for."""
    survivors: tuple[str, ...] | None = None
    """Set once the list of survivors was sent out."""


class RoundKeyStore:
    """The folder of these files, one folder a run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, run_id: str, round_number: int) -> RoundKeys | None:
        """What is known of the round, or None."""
        path = self._path(run_id, round_number)
        return build(RoundKeys, read_json(path), path.name) if path.exists() else None

    def write(self, run_id: str, round_number: int, keys: RoundKeys) -> None:
        """Durable when this returns."""
        write_json(self._path(run_id, round_number), to_plain(keys))

    def forget(self, run_id: str, round_number: int) -> None:
        """The round is closed."""
        self._path(run_id, round_number).unlink(missing_ok=True)

    def forget_run(self, run_id: str) -> None:
        """The run is over."""
        shutil.rmtree(self._folder / run_id, ignore_errors=True)

    def _path(self, run_id: str, round_number: int) -> Path:
        return self._folder / run_id / f"{round_number:06d}.json"
