"""The roll that was signed last, in a file beside the keys, out of reach of whoever can write to the database."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from shared.domain.files import read_json, write_json

KEPT_FILE = "signed-roll.json"


class KeptRoll:
    """One file. Before anything was signed there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def read(self) -> dict[str, Any] | None:
        """The envelope that was kept, or None. Raises Invalid for a file that is not JSON."""
        return read_json(self._path) if self._path.exists() else None

    def stamp(self) -> Hashable:
        """Another one as soon as the file is."""
        try:
            seen = self._path.stat()
        except FileNotFoundError:
            return None
        return seen.st_ino, seen.st_size, seen.st_mtime_ns

    def keep(self, envelope: dict[str, Any]) -> None:
        """Keep it, unless a newer one is there; call it once the transaction that signed it is committed."""
        with self._lock:
            if version_of(envelope) > version_of(self.read()):
                write_json(self._path, envelope)


def version_of(envelope: dict[str, Any] | None) -> int:
    """The roll's version; 0 where there is none."""
    return 0 if envelope is None else int(envelope["signed"]["version"])
