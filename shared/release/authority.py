"""What a consortium's CA certificate says: its own fingerprint, and the root key it vouches for."""

from __future__ import annotations

import re
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from shared.domain.canonical import Digest, digest_of_bytes
from shared.domain.errors import Invalid, WrongAuthority
from shared.release.signing import is_public_key
from shared.release.trust import Trust

ROOT_URN: Final = "urn:commonlens:root:"
"""Prefix of the URI name in the CA certificate; the root public key follows in 64 hex digits."""
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}\Z")


def ca_fingerprint(ca_pem: str) -> Digest:
    """SHA-256 of the certificate's DER bytes. Raises WrongAuthority where it is no certificate."""
    return digest_of_bytes(_certificate(ca_pem).public_bytes(Encoding.DER))


def root_of_ca(ca_pem: str, fingerprint: str) -> str:
    """The root public key that the CA certificate names, once the certificate fits `fingerprint`.

    Raises WrongAuthority where it does not fit, or does not name exactly one root.
    """
    found = ca_fingerprint(ca_pem)
    if found != fingerprint:
        raise WrongAuthority(
            f"The certificate authority should be {fingerprint} and is {found}. Nothing was stored or "
            "sent. "
            "Ask your consortium for the fingerprint, over a channel you trust."
        )
    try:
        extension = _certificate(ca_pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        uris = []
    roots = [uri.removeprefix(ROOT_URN) for uri in uris if uri.startswith(ROOT_URN)]
    if len(roots) != 1 or not is_public_key(roots[0]):
        raise WrongAuthority(
            f"The certificate authority should name one root key and names {len(roots)}. Nothing was "
            "stored. "
            "Ask your consortium which version of Commonlens made it."
        )
    return roots[0]


def check_ca_named(trust: Trust, ca_sha256: str) -> None:
    """Raise WrongAuthority unless the trust document names this CA."""
    if trust.ca_sha256 != ca_sha256:
        raise WrongAuthority(
            f"The trust document names the certificate authority {trust.ca_sha256[:23]}…, the server "
            "showed "
            f"{ca_sha256[:23]}…. Nothing was stored. Ask your consortium for the fingerprint of today."
        )


def checked_fingerprint(text: str) -> str:
    """`sha256:` and 64 lower-case hex digits; forgives capitals and colons. Raises Invalid."""
    body = text.strip().lower().removeprefix("sha256:").replace(":", "")
    written = f"sha256:{body}"
    if not _FINGERPRINT.match(written):
        raise Invalid(
            f"A CA fingerprint is sha256: and 64 hex digits; this one has {len(body)}. Nothing was sent. "
            "Copy it again from the invitation or from your consortium."
        )
    return written


def _certificate(ca_pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(ca_pem.encode("utf-8"))
    except ValueError as error:
        raise WrongAuthority(
            "What the server showed as its certificate authority is no certificate. Nothing was stored. "
            "Check the address."
        ) from error
