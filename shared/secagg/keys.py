"""One-round secrets of a member, and what it commits to of them (clauses 5.1, 3.9).

Every secret here lives for one round and one roster, and is forgotten when the member has answered, at the latest
after a day (participant/secure.py): who takes its machine later finds nothing that opens an earlier round's masks
(forward secrecy), because the long-lived identity key only signs.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from shared.domain.errors import InvalidMessage

SECRET_BYTES: Final = 32
_FIELD: Final = 2**255 - 19
_SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _FIELD - 1,
    }
)
"""The u-coordinates of all points of order 1, 2, 4 and 8 on Curve25519 and its twist
(Bernstein, "Curve25519", 2006, and https://cr.yp.to/ecdh.html#validate)."""
_NOISE_LABEL: Final = b"commonlens:noise-step\0"


@dataclass(frozen=True, repr=False)
class RoundSecrets:
    """What one member keeps to itself in one round; each 32 bytes from the operating system. Never printed."""

    mask_private: bytes
    """X25519: pairwise masks. Its shares are given for a member that dropped out."""
    channel_private: bytes
    """X25519: the shares that it deals and is dealt. Never shared."""
    noise_seed: bytes
    """seed_1 of the chain (clause 3.9): noise steps first, the self mask last. A survivor's is opened from the
    first seed that its sum does not need."""

    @classmethod
    def draw(cls) -> RoundSecrets:
        """Fresh secrets."""
        return cls(*(secrets.token_bytes(SECRET_BYTES) for _ in range(3)))


def public_of(private: bytes) -> str:
    """The X25519 public key of a 32-byte private key, 64 hex digits (RFC 7748)."""
    return load_private(private).public_key().public_bytes_raw().hex()


def load_private(private: bytes) -> X25519PrivateKey:
    """The key object of a 32-byte private key; made once for many exchanges, since making it costs one more."""
    return X25519PrivateKey.from_private_bytes(private)


def check_public(public_hex: str, what: str) -> None:
    """Raise InvalidMessage for a key in another than its one form, or of small order: no secret with that is one.

    With such a point every private key makes the all-zero secret (RFC 7748, section 6.1). `cryptography`
    refuses to make it, but then in the middle of masking; here it is refused before anything was shared.
    """
    written = int.from_bytes(bytes.fromhex(public_hex), "little")
    if written >= _FIELD:
        raise InvalidMessage(
            f"{what} is not written as a number below the field's prime, so that one key could stand on a roster "
            "under two names. It was not used. Its owner runs other software or is not honest."
        )
    if written in _SMALL_ORDER:
        raise InvalidMessage(
            f"{what} is a point of small order, with which no secret can be shared. It was not used. "
            "Its owner runs other software or is not honest."
        )


def next_noise_seed(seed: bytes) -> bytes:
    """seed_{j+1} from seed_j: forward for everybody, backward for nobody (clause 3.9)."""
    return hashlib.sha256(_NOISE_LABEL + seed).digest()


def noise_chain(first: bytes, length: int) -> tuple[bytes, ...]:
    """`length` successive seeds, 32 bytes each, from `first` on."""
    chain = [first]
    while len(chain) < length:
        chain.append(next_noise_seed(chain[-1]))
    return tuple(chain[:length])


def shared_seeds(first: bytes, steps: int) -> tuple[bytes, ...]:
    """The seeds of `steps` noise steps, then that of the self mask: each opens those after it, none before it.

    So one share a survivor opens the excess noise and the self mask together, which are only ever opened
    together (clause 5.4).
    """
    return noise_chain(first, steps + 1)


def commit_to_seeds(seed: bytes, steps: int) -> str:
    """The value after the self mask's seed, 64 hex digits, from a seed with `steps` noise steps from it on.

    One commitment for the whole chain: whichever seed of it is rebuilt leads there. A SHA-256 image of 256
    random bits, so it hides them.
    """
    return noise_chain(seed, steps + 2)[-1].hex()
