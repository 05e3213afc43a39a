"""What a member shares in secret with each other member of a roster: derived shares and sealed ones (clause 5.2).

Both come from one X25519 secret a pair, of keys that live for one round: HKDF-SHA256 with a purpose, run, round,
roster, owner and holder as context. So nothing of one roster, owner or purpose says anything of another.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import SharesRejected
from shared.secagg import keys
from shared.secagg.parameters import RoundTerms
from shared.secagg.roster import Roster
from shared.secagg.shamir import PRIME

DERIVING: Final = "commonlens derived shares 1"
SEALING: Final = "commonlens channel 1"
_NONCE: Final = bytes(12)
"""Fixed, which is right because each key seals one message in its life: the key is derived from two one-round
keys, the run, round, roster, sender and receiver; and for one roster all that a member deals follows from its
secrets, so a deal that is made again is the same one. Whoever changes what a bundle holds, or how shares are
derived, raises the number in the purposes: an update between deal and retry must not seal two texts with one key."""
_DERIVED_BYTES: Final = 48
"""For one share: 384 random bits modulo the prime are within 2⁻¹²⁸ of uniform."""


class Channels:
    """One member's channels to the others of one roster. Secrets are kept once made; never printed."""

    def __init__(self, terms: RoundTerms, roster: Roster, member_id: str, private: bytes) -> None:
        self._roster = roster
        self._me = member_id
        self._private = keys.load_private(private)
        self._secrets: dict[str, bytes] = {}
        self._place = [terms.run_id, terms.round_number]
        self._round = canonical_bytes([*self._place, roster.digest])
        self._count = 2 + terms.tolerance_steps

    def derived(self, owner: str, holder: str) -> list[int]:
        """The shares that `holder` has of `owner`'s secrets without being sent any; one of them is this member.

        Field elements, one for each secret in the order of a bundle. To everybody but these two they are as
        random as drawn ones.
        """
        peer = holder if owner == self._me else owner
        stream = self._derive(peer, self._count * _DERIVED_BYTES, [DERIVING, owner, holder])
        parts = (stream[start : start + _DERIVED_BYTES] for start in range(0, len(stream), _DERIVED_BYTES))
        return [int.from_bytes(part, "big") % PRIME for part in parts]

    def seal(self, receiver: str, data: bytes) -> bytes:
        """`data` encrypted to `receiver`. ChaCha20-Poly1305 (RFC 8439)."""
        key = self._derive(receiver, 32, [SEALING, self._me, receiver])
        return ChaCha20Poly1305(key).encrypt(_NONCE, data, self._associated(self._me, receiver))

    def unseal(self, sender: str, data: bytes) -> bytes:
        """Inverse of `seal`, at the receiver. Raises SharesRejected: other keys, roster, names, or changed bytes."""
        key = self._derive(sender, 32, [SEALING, sender, self._me])
        try:
            return ChaCha20Poly1305(key).decrypt(_NONCE, data, self._associated(sender, self._me))
        except InvalidTag as error:
            raise SharesRejected(
                f"The shares that came as {sender}'s for {self._me} do not open under the keys of this roster. "
                "Nothing was contributed to this round. Either that member or the coordinator changed them, or "
                "it was told another roster; if it happens again, ask the other operator."
            ) from error

    def _associated(self, sender: str, receiver: str) -> bytes:
        return canonical_bytes([*self._place, sender, receiver])

    def _derive(self, peer: str, size_bytes: int, purpose: list[str]) -> bytes:
        if peer not in self._secrets:
            public = bytes.fromhex(self._roster.offer(peer).channel_public_key)
            self._secrets[peer] = self._private.exchange(X25519PublicKey.from_public_bytes(public))
        info = self._round + canonical_bytes(purpose)
        return HKDF(algorithm=SHA256(), length=size_bytes, salt=None, info=info).derive(self._secrets[peer])
