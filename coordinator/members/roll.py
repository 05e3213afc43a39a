"""The roll: everyone ever enrolled, with identity key and state; signed at each change (clause 5.1)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from coordinator.members.kept_roll import KeptRoll, refuse_replaced, version_of
from coordinator.members.store import every_member
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import meta
from shared.domain.canonical import canonical_bytes
from shared.domain.clock import Clock, from_text, to_text
from shared.domain.consortium import Roll, RollEntry
from shared.domain.errors import CommonlensError
from shared.release.envelope import require
from shared.release.roles import sign_roll
from shared.release.signing import SigningKey

ROLL_LIFETIME = timedelta(days=30)
VERSION_KEY = "roll_version"
ENVELOPE_KEY = "roll"


class RollService:
    """Signs the roll inside the transaction that changed a member, and serves the newest one.

    What it signed before holds: a key that was swapped in the database is refused and not signed (kept_roll.py says
    what that protects against and what not).
    """

    def __init__(
        self, engine: sa.Engine, clock: Clock, consortium: str, roll_key: SigningKey, kept: KeptRoll
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._consortium = consortium
        self._key = roll_key
        self._kept = kept

    def sign(self, connection: sa.Connection) -> dict[str, Any]:
        """The roll of the members as this transaction sees them, one version higher, kept for serving.

        Hand it to `keep` after the commit. Raises KeyReplaced.
        """
        query = sa.select(meta.c.value).where(meta.c.key == VERSION_KEY).with_for_update()
        counted = int(connection.execute(query).scalar_one())
        entries = tuple(
            RollEntry(m.id, m.name, m.identity_public_key, m.state) for m in every_member(connection)
        )
        kept = self._kept.read()
        # The database's own is newer after a crash before `keep`, and all there is where no file was kept yet.
        for before in (kept, self._served(connection)):
            if before is not None:
                refuse_replaced(before, entries)
        version = max(counted, version_of(kept)) + 1
        roll = Roll(
            consortium=self._consortium,
            version=version,
            entries=entries,
            expires_at=to_text(self._clock.now() + ROLL_LIFETIME),
        )
        envelope = sign_roll(roll, self._key)
        connection.execute(meta.update().where(meta.c.key == VERSION_KEY).values(value=str(version)))
        _put(connection, ENVELOPE_KEY, canonical_bytes(envelope).decode("utf-8"))
        return envelope

    def keep(self, envelope: dict[str, Any]) -> None:
        """Hold later rolls to this one, which a committed transaction signed."""
        self._kept.keep(envelope)

    def current(self) -> dict[str, Any]:
        """The newest signed roll; signed anew when there is none yet, half of its time is over, or the roll key
        was replaced since. Raises KeyReplaced.
        """
        with reading(self._engine) as connection:
            found = self._fresh(connection)
        if found is None:
            with writing(self._engine) as connection:
                found = self._fresh(connection) or self.sign(connection)
        self.keep(found)
        return found

    def _fresh(self, connection: sa.Connection) -> dict[str, Any] | None:
        envelope = self._served(connection)
        if envelope is None or version_of(envelope) < version_of(self._kept.read()):
            return None
        left = from_text(envelope["signed"]["expires_at"]) - self._clock.now()
        return envelope if left > ROLL_LIFETIME / 2 else None

    def _served(self, connection: sa.Connection) -> dict[str, Any] | None:
        """The roll in the database, or None where the key of today did not sign it."""
        query = sa.select(meta.c.value).where(meta.c.key == ENVELOPE_KEY)
        text = connection.execute(query).scalar_one_or_none()
        try:
            envelope: dict[str, Any] = json.loads(text or "")
            require("roll", envelope, [self._key.public_hex], 1, "roll key")
        except (ValueError, CommonlensError):
            return None
        return envelope


def _put(connection: sa.Connection, key: str, value: str) -> None:
    changed = connection.execute(meta.update().where(meta.c.key == key).values(value=value)).rowcount
    if not changed:
        connection.execute(meta.insert().values(key=key, value=value))
