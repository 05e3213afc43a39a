"""X.509 for the coordinator's TLS: a small CA of its own, and the server certificate that it signs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.domain.errors import Invalid
from shared.release.authority import ROOT_URN

CA_LIFETIME = timedelta(days=3650)
SERVER_LIFETIME = timedelta(days=397)
RENEW_BEFORE = timedelta(days=30)
_BACKDATED = timedelta(minutes=10)
"""So that a member whose clock runs a little late does not find a certificate from the future."""


def make_ca(consortium: str, root_public_hex: str, moment: datetime) -> tuple[str, str]:
    """(certificate PEM, key PEM) of a CA that names the consortium's root key in its SAN.

    Whoever pins the CA's fingerprint has thereby pinned the root key too.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{consortium} Commonlens CA"[:64])])
    certificate = (
        _builder(name, name, key.public_key(), moment, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(ROOT_URN + root_public_hex)]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM).decode("ascii"), _private_pem(key)


def make_server_certificate(
    ca_pem: str, ca_key_pem: str, names: Sequence[str], moment: datetime
) -> tuple[str, str]:
    """(certificate PEM, key PEM) for these host names and IP addresses. Raises Invalid for bad ones."""
    if not names:
        raise Invalid("A server certificate needs at least one name. Nothing was made. Set server_names.")
    ca = x509.load_pem_x509_certificate(ca_pem.encode("ascii"))
    ca_key = load_pem_private_key(ca_key_pem.encode("ascii"), password=None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise Invalid("The CA's key is not an EC key. Nothing was made. Restore ca-key.pem.")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    certificate = (
        _builder(subject, ca.subject, key.public_key(), moment, SERVER_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM).decode("ascii"), _private_pem(key)


def names_of(certificate_pem: str) -> tuple[str, ...]:
    """Host names and addresses of a server certificate."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(str(name.value) for name in san)


def needs_renewal(certificate_pem: str, moment: datetime) -> bool:
    """Whether fewer than 30 days are left."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
    return certificate.not_valid_after_utc - moment < RENEW_BEFORE


def belong_together(certificate_pem: str, key_pem: str) -> bool:
    """Whether the private key is that of the certificate."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
    key = load_pem_private_key(key_pem.encode("ascii"), password=None)
    return isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == certificate.public_key()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    moment: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - _BACKDATED)
        .not_valid_after(moment - _BACKDATED + lifetime)
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError as error:
        raise Invalid(f"server_names: {text[:100]!r} is neither a host name nor an address.") from error


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
