"""The stored form of one member's secure round: all that a restart needs, and nothing after the answer.

It holds secrets until the member has answered: the caller stores it where only the node's own account reads.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.domain.strict import to_plain
from shared.secagg.keys import RoundSecrets
from shared.secagg.messages import KeyOffer, UnmaskShares
from shared.secagg.parameters import RoundTerms


class Stage(enum.Enum):
    """How far a member is in a round. It only moves down this list."""

    OFFERED = "offered"
    """Its keys are out."""
    DEALT = "dealt"
    """Its shares are out, for one roster."""
    ACCEPTED = "accepted"
    """It knows the one cohort that it masks for."""
    CONTRIBUTED = "contributed"
    """Its masked bytes are in the outbox."""
    ANSWERED = "answered"
    """It gave the one set of shares it ever gives; its secrets are gone."""


@dataclass(frozen=True, repr=False)
class StoredSecrets:
    """`RoundSecrets` in hex."""

    mask_private: str
    channel_private: str
    noise_seed: str

    @classmethod
    def of(cls, drawn: RoundSecrets) -> StoredSecrets:
        """The written form of `drawn`."""
        return cls(drawn.mask_private.hex(), drawn.channel_private.hex(), drawn.noise_seed.hex())

    def read(self) -> RoundSecrets:
        """The secrets themselves."""
        return RoundSecrets(*map(bytes.fromhex, (self.mask_private, self.channel_private, self.noise_seed)))


@dataclass(frozen=True, repr=False)
class RoundState:
    """What `MemberRound` knows, field by field in the order in which it learns it."""

    terms: RoundTerms
    member_id: str
    stage: Stage
    offer: KeyOffer
    secrets: StoredSecrets | None
    roster: tuple[KeyOffer, ...] = ()
    """The one that was dealt for. What was dealt follows from it and the secrets, to the last byte."""
    identity_keys: Mapping[str, str] = field(default_factory=dict)
    cohort: tuple[str, ...] = ()
    bundles: Mapping[str, str] = field(default_factory=dict)
    """Owner → base64 of the shares that this member holds of the owner's secrets; its own among them."""
    weights_digest: str = ""
    """Of the weights that it trained from, which its signatures cover."""
    endorsement: str = ""
    endorsed_list: tuple[str, ...] = ()
    list_signature: str = ""
    answered_list: tuple[str, ...] = ()
    answer: UnmaskShares | None = None

    def to_plain(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def changes_since(self, before: RoundState) -> dict[str, Any]:
        """The plain form of the fields that a step set: with that of `before` under it, the whole state."""
        names = (field.name for field in dataclasses.fields(self))
        changed = (name for name in names if getattr(self, name) is not getattr(before, name))
        return {name: _plain(getattr(self, name)) for name in changed}


def _plain(value: Any) -> Any:
    # Lists and tables are most of a state. The lists hold text or offers, the tables and all fields of an offer text.
    if isinstance(value, tuple):
        return [vars(item) if isinstance(item, KeyOffer) else item for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return to_plain(value)
