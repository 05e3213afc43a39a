"""The roll that was signed last, in a file beside the keys: who must not be somebody else on the next one.

A member keeps its id, name and identity key for ever, and nobody is taken off the roll; to come back after being
revoked it enrols anew, under another id. So the next roll may only add lines and change states.

Protects against whoever can write to the database and not to the coordinator's folder: a key or a name that was put in
place of another there, or a line that was taken out, is not signed. Does not protect against an organisation that was
added in the database and never enrolled, a state that was changed there, or a change to a member that joined in the
moment between its enrolment's commit and the writing of this file. Members' nodes hold all of these for their
operators to approve (participant/peers.py). Whoever can write to the folder has the roll key itself.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.domain.consortium import RollEntry
from shared.domain.errors import KeyReplaced
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

    def keep(self, envelope: dict[str, Any]) -> None:
        """Keep it, unless a newer one is there; call it once the transaction that signed it is committed."""
        with self._lock:
            if version_of(envelope) > version_of(self.read()):
                write_json(self._path, envelope)


def version_of(envelope: dict[str, Any] | None) -> int:
    """The roll's version; 0 where there is none."""
    return 0 if envelope is None else int(envelope["signed"]["version"])


def refuse_replaced(before: dict[str, Any], entries: Sequence[RollEntry]) -> None:
    """Raise KeyReplaced unless everybody on the roll `before` is among `entries` with the same name and key."""
    now = {entry.member_id: (entry.name, entry.identity_public_key) for entry in entries}
    for line in before["signed"]["entries"]:
        known = (line["name"], line["identity_public_key"])
        found = now.get(line["member_id"])
        if found != known:
            there = "no such member" if found is None else f"{found[0]} with the key {found[1]}"
            raise KeyReplaced(
                f"The roll that was signed before has {known[0]} with the key {known[1]} under the id "
                f"{line['member_id']}; the database has {there}. No roll was signed and nothing was changed. Somebody "
                "wrote to the database beside the coordinator: compare it with a backup, and fingerprints by phone. "
                f"Where an older backup was put back on purpose, move {KEPT_FILE} away."
            )
