"""Whose identity key is whose, as the signed roll says: it is checked under the roll key, which is in no database.

The members' table says it too, and whoever rewrites the log can write there, next to the countersignatures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from coordinator.members.roll import ENVELOPE_KEY
from coordinator.members.room import MembersRoom
from coordinator.storage.tables import meta
from shared.domain.errors import CommonlensError
from shared.release.envelope import require, signed_part
from shared.release.trust import parse_trust


@dataclass(frozen=True)
class RollKeys:
    """Member id → identity key, of everybody on the roll, whatever the member's state: nobody is taken off."""

    keys: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    """Why the roll vouches for nobody; empty where it was signed by the roll key."""


def roll_key_of(room: MembersRoom) -> str:
    """The roll key's public half, from the trust document that the root signed."""
    return parse_trust(room.authority.trust_envelope()).roll_key


def keys_on_roll(connection: sa.Connection, roll_key: str) -> RollKeys:
    """The kept roll's keys. It is never signed anew here: that would sign whatever the members' table has now.

    How old it is does not matter: a line of the roll keeps its key for ever.
    """
    query = sa.select(meta.c.value).where(meta.c.key == ENVELOPE_KEY)
    text = connection.execute(query).scalar_one_or_none()
    if text is None:
        return RollKeys(
            fault="There is no signed roll, so nobody vouches for a key. It is signed when a node asks."
        )
    try:
        envelope = json.loads(text)
        require("roll", envelope, [roll_key], 1, "roll key")
        return RollKeys(
            {line["member_id"]: line["identity_public_key"] for line in signed_part(envelope)["entries"]}
        )
    except CommonlensError as error:
        return RollKeys(fault=error.message)
    except (ValueError, KeyError, TypeError, AttributeError):
        return RollKeys(
            fault="The signed roll cannot be read, so nobody vouches for a key. Look for it in a backup."
        )
