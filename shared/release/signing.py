"""Ed25519 keys and signatures, domain-separated so that one signature never means two things.

What is signed is always `b"commonlens:" + kind + b"\\0" + canonical bytes`. Keys and signatures are written
as lower-case hex (64 and 128 digits); private keys as PKCS #8 PEM, mode 0600, never overwritten.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import BadSignature, Invalid, NotFound
from shared.domain.files import write_new

KINDS: Final = frozenset(
    {
        "trust",
        "roll",
        "catalogue",
        "manifest",
        "consent",
        "contribution",
        "enrolment",
        "round-key",
        "survivors",
        "audit-head",
    }
)
_PUBLIC_KEY = re.compile(r"[0-9a-f]{64}\Z")
_SIGNATURE = re.compile(r"[0-9a-f]{128}\Z")
_PEM_BYTES = 4096


def payload(kind: str, value: Any) -> bytes:
    """The bytes that a signature of `kind` over `value` covers. Raises Invalid for an unknown kind."""
    if kind not in KINDS:
        raise Invalid(
            f"A signature's kind is one of {', '.join(sorted(KINDS))}, not {kind!r}. Nothing was signed."
        )
    return b"commonlens:" + kind.encode("ascii") + b"\0" + canonical_bytes(value)


class SigningKey:
    """An Ed25519 private key. Its text forms never show the key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> SigningKey:
        """A fresh key from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a PEM file. Raises NotFound, or Invalid where it is not an unencrypted Ed25519 key."""
        try:
            with path.open("rb") as file:
                data = file.read(_PEM_BYTES)
        except FileNotFoundError as error:
            raise NotFound(
                f"There is no key file {path.name} in {path.parent}. Nothing was signed. Put the right file there."
            ) from error
        try:
            key = load_pem_private_key(data, password=None)
        except (ValueError, TypeError) as error:
            raise Invalid(
                f"{path.name} is not an unencrypted PEM private key. Nothing was signed. Put the right file there."
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise Invalid(
                f"{path.name} holds another kind of key; Ed25519 was expected. Nothing was signed. Put the "
                "right file there."
            )
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the PEM at `path`, mode 0600. Raises AlreadyExists: a key is never overwritten."""
        write_new(path, self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    @property
    def public_hex(self) -> str:
        """The public key, 64 lower-case hex digits."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, data: bytes) -> str:
        """Signature over `data`, 128 hex digits. `data` is what `payload` returns, never bare bytes."""
        return self._key.sign(data).hex()

    def sign_value(self, kind: str, value: Any) -> str:
        """Signature of `kind` over the canonical bytes of `value`."""
        return self.sign(payload(kind, value))

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public_hex})"


def is_public_key(text: str) -> bool:
    """Whether `text` is the one written form of an Ed25519 public key."""
    return _PUBLIC_KEY.match(text) is not None


def verify(public_hex: str, data: bytes, signature_hex: str) -> None:
    """Raise BadSignature unless `signature_hex` is by `public_hex` over `data`."""
    if not is_public_key(public_hex):
        raise BadSignature(
            "A public key is 64 lower-case hex digits; this one is not. Nothing was accepted. Ask for it again."
        )
    if not _SIGNATURE.match(signature_hex):
        raise BadSignature(
            "A signature is 128 lower-case hex digits; this one is not. Nothing was accepted. Ask for it again."
        )
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex)).verify(
            bytes.fromhex(signature_hex), data
        )
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(
            f"The signature does not verify under the key {public_hex[:16]}…. Nothing was accepted. "
            "Get the document again from the party that signed it."
        ) from error


def verify_value(public_hex: str, kind: str, value: Any, signature_hex: str) -> None:
    """`verify` over the payload of `kind` and `value`."""
    verify(public_hex, payload(kind, value), signature_hex)
