"""The OpenSSF model signature of a release: one file that the public `model_signing` command checks.

It covers every file of the folder but itself (OpenSSF Model Signing 1.0: an in-toto statement with the SHA-256 of
each file, in a DSSE envelope, in a Sigstore bundle). The key is EC P-256; the trust document names it, so the root
vouches for it too. What the manifest proves beyond it is in ADR 0026.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from shared.domain.errors import BadSignature, Invalid, NotFound
from shared.domain.files import write_atomically, write_new
from shared.domain.release import SIGNATURE_FILE

if TYPE_CHECKING:
    from model_signing import hashing


def new_key(path: Path) -> str:
    """Write a fresh EC P-256 key at `path` (PKCS #8 PEM, mode 0600); its public key as PEM text.

    Raises AlreadyExists: a key is never overwritten.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return _public_pem(key.public_key())


def public_key(path: Path) -> str:
    """The public half, PEM text, of the private key at `path`. Raises NotFound, Invalid."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise NotFound(
            f"There is no key file {path.name}. Nothing was signed. Put the right file there."
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid(
            f"{path.name} is not an unencrypted PEM private key. Nothing was signed. Put the right file there."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Invalid(
            f"{path.name} holds another kind of key; EC P-256 was expected. Nothing was signed. Put the right "
            "file there."
        )
    return _public_pem(key.public_key())


def is_public_key(pem: str) -> bool:
    """Whether `pem` is the one written form of an EC P-256 public key."""
    try:
        key = load_pem_public_key(pem.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm):
        return False
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        return False
    return _public_pem(key) == pem


def sign_folder(folder: Path, key: Path) -> None:
    """Write `model.sig` into `folder`, over all its other files, with the private key at `key`."""
    from model_signing import signing  # here: whoever only reads documents need not load it

    folder = folder.resolve()  # what the library leaves out is compared with what it finds as absolute paths
    target = folder / SIGNATURE_FILE
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / SIGNATURE_FILE
        signer = signing.Config().use_elliptic_key_signer(private_key=key)
        signer.set_hashing_config(_everything_but(target)).sign(folder, made)
        # The library writes in place; a crash must not leave half a signature where a whole one was.
        write_atomically(target, made.read_bytes(), mode=0o644)


def verify_folder(folder: Path, public_pem: str, left_out: str = SIGNATURE_FILE) -> int:
    """How many files the signature in `folder` covers: exactly those that are there, but for those in `left_out`.

    Raises BadSignature where it is by another key, or a file was changed, added or taken away.
    """
    from model_signing import verifying

    folder = folder.resolve()
    signature, aside = folder / SIGNATURE_FILE, folder / left_out
    try:
        with tempfile.TemporaryDirectory() as scratch:
            pem = Path(scratch) / "public.pem"
            pem.write_text(public_pem, encoding="ascii")
            verifier = verifying.Config().use_elliptic_key_verifier(public_key=pem)
            verifier.set_hashing_config(_everything_but(signature, aside)).verify(folder, signature)
    # The library has no error type of its own: whatever it raises, nothing was proven.
    except Exception as error:
        raise BadSignature(
            f"{SIGNATURE_FILE} does not cover this folder under the key that the trust document names. Nothing was "
            "accepted. Pull the release again."
        ) from error
    return sum(
        1
        for path in folder.rglob("*")
        if path.is_file() and path != signature and not path.is_relative_to(aside)
    )


def _everything_but(*paths: Path) -> hashing.Config:
    from model_signing.hashing import Config

    return Config().set_ignored_paths(paths=paths, ignore_git_paths=False)


def _public_pem(key: ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
