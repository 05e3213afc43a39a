"""The roll: everyone ever enrolled, with identity key and state; signed at each change (clause 5.1)."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from coordinator.members.kept_roll import KEPT_FILE, KeptRoll, version_of
from coordinator.members.roll_lines import Difference, Lines, as_signed, differences, next_lines
from coordinator.members.store import every_member
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import meta
from shared.domain.canonical import canonical_bytes
from shared.domain.clock import Clock, from_text, to_text
from shared.domain.consortium import Member, Roll, RollEntry
from shared.domain.errors import CommonlensError, KeyReplaced
from shared.domain.strict import build
from shared.release.envelope import require
from shared.release.roles import sign_roll
from shared.release.signing import SigningKey

ROLL_LIFETIME = timedelta(days=30)
VERSION_KEY = "roll_version"
ENVELOPE_KEY = "roll"
log = logging.getLogger("commonlens.coordinator")


class RollService:
    """Signs the roll inside the transaction that changed a member, and serves the newest one.

    What it signed before holds: names and keys come from the last roll and not from the database (roll_lines.py says
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
        self._known: tuple[Hashable, Lines] | None = None

    def sign(self, connection: sa.Connection, joining: Member | None = None) -> dict[str, Any]:
        """The next roll as this transaction leaves the members, one version higher, kept for serving.

        Hand it to `keep` after the commit. `joining` enrols in this transaction: raises KeyReplaced while anybody in
        the database is not as on the roll, and AlreadyExists as `next_lines`.
        """
        query = sa.select(meta.c.value).where(meta.c.key == VERSION_KEY).with_for_update()
        counted = int(connection.execute(query).scalar_one())
        before, members = self._before(connection), every_member(connection)
        found = differences(before, members, "" if joining is None else joining.id)
        for one in found:
            log.error("roll: %s (%s) %s (%s): not signed", one.name, one.member_id, one.what, one.found)
        if joining is not None and found:
            raise KeyReplaced(
                f"The coordinator's database has {len(found)} organisation{'' if len(found) == 1 else 's'} otherwise "
                "than the roll that it signed, so no new one is put on it. Nobody was enrolled, and the invitation is "
                "not spent. Ask the consortium's admin, whose overview says what differs."
            )
        version = max(counted, version_of(self._kept.read())) + 1
        roll = Roll(
            consortium=self._consortium,
            version=version,
            entries=next_lines(before, members, joining),
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
        was replaced since.
        """
        with reading(self._engine) as connection:
            found = self._fresh(connection)
        if found is None:
            with writing(self._engine) as connection:
                found = self._fresh(connection) or self.sign(connection)
        self.keep(found)
        return found

    def differences(self) -> tuple[Difference, ...]:
        """Who is not in the database as on the roll: somebody wrote to it beside this coordinator."""
        found = self._differences()
        # Roll and members are read one after the other, and somebody may have joined in between: that passes.
        return tuple(one for one in self._differences() if one in found) if found else ()

    def refuse_differing(self, connection: sa.Connection, member_id: str) -> None:
        """Raise KeyReplaced where this member is not in the database as on the roll: it is not let in."""
        for one in differences(self._before(connection), every_member(connection)):
            if one.member_id == member_id:
                raise KeyReplaced(
                    f"{one.name} {one.what}{f' ({one.found})' if one.found else ''}; the signed roll says otherwise. "
                    "It was not let in. Somebody wrote to the database beside the coordinator: compare it with a "
                    "backup, and fingerprints by phone. Where an older backup was put back on purpose, move "
                    f"{KEPT_FILE} away."
                )

    def as_signed(self, connection: sa.Connection, members: Sequence[Member]) -> list[Member]:
        """The same members, each under the name and with the identity key that the roll has."""
        return as_signed(self._before(connection), members)

    def _differences(self) -> tuple[Difference, ...]:
        with reading(self._engine) as connection:
            return differences(self._before(connection), every_member(connection))

    def _before(self, connection: sa.Connection) -> Lines:
        """Of the newest roll that was signed. Kept while it is the same, as every page about members asks."""
        key = (self._kept.stamp(), self._text(connection), self._key.public_hex)
        known = self._known
        if known is None or known[0] != key:
            # The database's own is newer after a crash before `keep`, and all there is where no file was kept yet.
            newest = max(self._kept.read(), self._served(connection), key=version_of)
            known = self._known = (key, None if newest is None else _lines_of(newest))
        return known[1]

    def _fresh(self, connection: sa.Connection) -> dict[str, Any] | None:
        envelope = self._served(connection)
        if envelope is None or version_of(envelope) < version_of(self._kept.read()):
            return None
        left = from_text(envelope["signed"]["expires_at"]) - self._clock.now()
        return envelope if left > ROLL_LIFETIME / 2 else None

    def _text(self, connection: sa.Connection) -> str:
        query = sa.select(meta.c.value).where(meta.c.key == ENVELOPE_KEY)
        return str(connection.execute(query).scalar_one_or_none() or "")

    def _served(self, connection: sa.Connection) -> dict[str, Any] | None:
        """The roll in the database, or None where the key of today did not sign it."""
        try:
            envelope: dict[str, Any] = json.loads(self._text(connection))
            require("roll", envelope, [self._key.public_hex], 1, "roll key")
        except (ValueError, CommonlensError):
            return None
        return envelope


def _lines_of(envelope: dict[str, Any]) -> tuple[RollEntry, ...]:
    lines = envelope["signed"]["entries"]
    return tuple(build(RollEntry, line, f"{KEPT_FILE}: entries[{place}]") for place, line in enumerate(lines))


def _put(connection: sa.Connection, key: str, value: str) -> None:
    changed = connection.execute(meta.update().where(meta.c.key == key).values(value=value)).rowcount
    if not changed:
        connection.execute(meta.insert().values(key=key, value=value))
