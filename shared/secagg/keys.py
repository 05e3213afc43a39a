"""One-round secrets of a member, and the sealed channel that carries their shares (clauses 5.1, 5.2).

Every secret here lives for one round and one roster, then is forgotten: who takes a member's machine later
finds nothing that opens an earlier round's masks (forward secrecy), because the long-lived identity key only signs.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.domain.canonical import Digest, canonical_bytes
from shared.domain.errors import InvalidMessage, SharesRejected
from shared.secagg.parameters import RoundTerms

SECRET_BYTES: Final = 32
_NONCE: Final = bytes(12)
"""Fixed, which is right only because each channel key seals one message in its life: the key is derived
from two one-round keys, the run, round, roster, sender and receiver, and a member deals once for a roster
(`MemberRound` keeps the sealed bytes and never seals again)."""
_FIELD: Final = 2**255 - 19
_SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _FIELD - 1,
        _FIELD,
        _FIELD + 1,
    }
)
"""The u-coordinates of all points of order 1, 2, 4 and 8 on Curve25519 and its twist, in all their encodings
(Bernstein, "Curve25519", 2006, and https://cr.yp.to/ecdh.html#validate)."""
_SELF_LABEL: Final = b"commonlens:self-seed\0"
_NOISE_LABEL: Final = b"commonlens:noise-step\0"


@dataclass(frozen=True, repr=False)
class RoundSecrets:
    """What one member keeps to itself in one round; each 32 bytes from the operating system. Never printed."""

    mask_private: bytes
    """X25519: pairwise masks. Its shares are given for a member that dropped out."""
    channel_private: bytes
    """X25519: sealed deals. Never shared."""
    self_seed: bytes
    """b: the self mask. Its shares are given for a survivor."""
    noise_seed: bytes
    """seed_1 of the noise chain (clause 3.9)."""

    @classmethod
    def draw(cls) -> RoundSecrets:
        """Fresh secrets."""
        return cls(*(secrets.token_bytes(SECRET_BYTES) for _ in range(4)))


def public_of(private: bytes) -> str:
    """The X25519 public key of a 32-byte private key, 64 hex digits (RFC 7748)."""
    return load_private(private).public_key().public_bytes_raw().hex()


def load_private(private: bytes) -> X25519PrivateKey:
    """The key object of a 32-byte private key; made once for many exchanges, since making it costs one more."""
    return X25519PrivateKey.from_private_bytes(private)


def check_public(public_hex: str, what: str) -> None:
    """Raise InvalidMessage for a point of small order: everybody could compute a secret shared with it.

    With such a point every private key makes the all-zero secret (RFC 7748, section 6.1). `cryptography`
    refuses to make it, but then in the middle of masking; here it is refused before anything was shared.
    """
    value = int.from_bytes(bytes.fromhex(public_hex), "little") & (2**255 - 1)
    if value in _SMALL_ORDER:
        raise InvalidMessage(
            f"{what} is a point of small order, with which no secret can be shared. It was not used. "
            "Its owner runs other software or is not honest."
        )


def commit_to_self(self_seed: bytes) -> str:
    """SHA-256 commitment to a self-mask seed, 64 hex digits. The seed's 256 random bits hide it."""
    return hashlib.sha256(_SELF_LABEL + self_seed).hexdigest()


def next_noise_seed(seed: bytes) -> bytes:
    """seed_{j+1} from seed_j: forward for everybody, backward for nobody (clause 3.9)."""
    return hashlib.sha256(_NOISE_LABEL + seed).digest()


def noise_chain(first: bytes, length: int) -> tuple[bytes, ...]:
    """`length` successive seeds, 32 bytes each, from `first`; one more than there are steps ends in the commitment."""
    chain = [first]
    while len(chain) < length:
        chain.append(next_noise_seed(chain[-1]))
    return tuple(chain[:length])


def seal(
    terms: RoundTerms,
    roster: Digest,
    sender: str,
    receiver: str,
    private: X25519PrivateKey,
    peer: str,
    data: bytes,
) -> bytes:
    """`data` encrypted by `sender`, who holds the channel key `private`, to the channel key `peer` (hex)."""
    key = _channel_key(terms, roster, sender, receiver, private, peer)
    return ChaCha20Poly1305(key).encrypt(_NONCE, data, _associated(terms, sender, receiver))


def unseal(
    terms: RoundTerms,
    roster: Digest,
    sender: str,
    receiver: str,
    private: X25519PrivateKey,
    peer: str,
    data: bytes,
) -> bytes:
    """Inverse of `seal`, at the receiver. Raises SharesRejected: other keys, roster, names, or changed bytes."""
    key = _channel_key(terms, roster, sender, receiver, private, peer)
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, data, _associated(terms, sender, receiver))
    except InvalidTag as error:
        raise SharesRejected(
            f"The shares that came as {sender}'s for {receiver} do not open under the keys of this roster. "
            "Nothing was contributed to this round. Either that member or the coordinator changed them, or it "
            "was told another roster; if it happens again, ask the other operator."
        ) from error


def _channel_key(
    terms: RoundTerms, roster: Digest, sender: str, receiver: str, private: X25519PrivateKey, peer: str
) -> bytes:
    shared = private.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(peer)))
    context = {
        "purpose": "commonlens channel",
        "run_id": terms.run_id,
        "round_number": terms.round_number,
        "roster_digest": roster,
        "sender": sender,
        "receiver": receiver,
    }
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=canonical_bytes(context)).derive(shared)


def _associated(terms: RoundTerms, sender: str, receiver: str) -> bytes:
    return canonical_bytes([terms.run_id, terms.round_number, sender, receiver])
