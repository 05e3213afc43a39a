"""The roll: everyone ever enrolled, with identity key and state; signed at each change (clause 5.1)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from coordinator.members.store import every_member
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import meta
from shared.domain.canonical import canonical_bytes
from shared.domain.clock import Clock, from_text, to_text
from shared.domain.consortium import Roll, RollEntry
from shared.release.roles import sign_roll
from shared.release.signing import SigningKey

ROLL_LIFETIME = timedelta(days=30)
VERSION_KEY = "roll_version"
ENVELOPE_KEY = "roll"


class RollService:
    """Signs the roll inside the transaction that changed a member, and serves the newest one."""

    def __init__(self, engine: sa.Engine, clock: Clock, consortium: str, roll_key: SigningKey) -> None:
        self._engine = engine
        self._clock = clock
        self._consortium = consortium
        self._key = roll_key

    def sign(self, connection: sa.Connection) -> dict[str, Any]:
        """The roll of the members as this transaction sees them, one version higher, kept for serving."""
        query = sa.select(meta.c.value).where(meta.c.key == VERSION_KEY).with_for_update()
        version = int(connection.execute(query).scalar_one()) + 1
        roll = Roll(
            consortium=self._consortium,
            version=version,
            entries=tuple(
                RollEntry(m.id, m.name, m.identity_public_key, m.state) for m in every_member(connection)
            ),
            expires_at=to_text(self._clock.now() + ROLL_LIFETIME),
        )
        envelope = sign_roll(roll, self._key)
        connection.execute(meta.update().where(meta.c.key == VERSION_KEY).values(value=str(version)))
        _put(connection, ENVELOPE_KEY, canonical_bytes(envelope).decode("utf-8"))
        return envelope

    def current(self) -> dict[str, Any]:
        """The newest signed roll; signed anew when there is none yet, half of its time is over, or the roll key
        was replaced since.
        """
        with reading(self._engine) as connection:
            found = self._fresh(connection)
        if found is not None:
            return found
        with writing(self._engine) as connection:
            return self._fresh(connection) or self.sign(connection)

    def _fresh(self, connection: sa.Connection) -> dict[str, Any] | None:
        query = sa.select(meta.c.value).where(meta.c.key == ENVELOPE_KEY)
        text = connection.execute(query).scalar_one_or_none()
        if text is None:
            return None
        envelope: dict[str, Any] = json.loads(text)
        left = from_text(envelope["signed"]["expires_at"]) - self._clock.now()
        by_key_of_today = any(line["key"] == self._key.public_hex for line in envelope["signatures"])
        return envelope if left > ROLL_LIFETIME / 2 and by_key_of_today else None


def _put(connection: sa.Connection, key: str, value: str) -> None:
    changed = connection.execute(meta.update().where(meta.c.key == key).values(value=value)).rowcount
    if not changed:
        connection.execute(meta.insert().values(key=key, value=value))
