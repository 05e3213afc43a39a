"""First contact: one CA fingerprint pins both the coordinator's TLS and the consortium's root key.

The CA certificate carries the root public key as a URI name `urn:commonlens:root:<64 hex digits>`, so that
the SHA-256 of its DER bytes, passed on by a person, is all a newcomer needs. Used by `commonlens pull` and by
`commonlens-participant join`.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import httpx

from shared.domain.clock import Clock
from shared.domain.errors import (
    CommonlensError,
    Invalid,
    InvalidMessage,
    NotAllowed,
    NotFound,
    Unreachable,
    WrongAuthority,
)
from shared.release import limits
from shared.release.authority import check_ca_named, checked_fingerprint, root_of_ca
from shared.release.envelope import Envelope, parse_document
from shared.release.trust import Trust, open_trust

TRUST_PATH: Final = "/api/v1/trust"
Client = httpx.Client
Answer = httpx.Response
"""For rooms that need not know which library carries them."""
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


@dataclass(frozen=True)
class PinnedTrust:
    """A coordinator whose CA and root key are proven to be those of the fingerprint."""

    url: str
    ca_pem: str
    ca_sha256: str
    root_public_key: str
    trust: Trust
    trust_envelope: Envelope

    def client(self) -> httpx.Client:
        """A client that accepts only this consortium's CA."""
        return verified_client(self.url, self.ca_pem)


def pinned_trust(url: str, fingerprint: str, clock: Clock) -> PinnedTrust:
    """Fetch `{url}/api/v1/trust`, prove it against `fingerprint` (`sha256:…` of the CA certificate's DER),
    then fetch it again over TLS verified by that CA.

    Raises Unreachable, WrongAuthority, BadSignature, Expired, Invalid; each names the step it came from.
    """
    url = checked_url(url)
    wanted = checked_fingerprint(fingerprint)
    # Nothing of the first answer is believed before the fingerprint fits, so the server's name need not be.
    with httpx.Client(base_url=url, verify=_unverified(), timeout=_TIMEOUT) as client:
        ca_pem, envelope = _fetch(client, "1 of 3 (ask for the certificate authority)")
    with _step("2 of 3 (compare the fingerprint)"):
        root = root_of_ca(ca_pem, wanted)
        trust = open_trust(envelope, root, clock)
        check_ca_named(trust, wanted)
    # Step 3 proves that the server holds a certificate of that CA for this very address.
    with verified_client(url, ca_pem) as client:
        again_pem, again = _fetch(client, "3 of 3 (connect again, verified)")
    if (again_pem, again) != (ca_pem, envelope):
        raise WrongAuthority(
            "Step 3 of 3: the verified connection showed another trust document than the first one. "
            "Nothing was "
            "stored. Try again; if it stays so, somebody stands between you and the coordinator."
        )
    return PinnedTrust(url, ca_pem, wanted, root, trust, envelope)


def current_trust(url: str, ca_pem: str) -> tuple[str, Envelope]:
    """(CA certificate, trust document) as the coordinator shows them now, over TLS verified by `ca_pem`.

    Neither is checked: hand the document to `TrustStore.accept_trust`. Raises Unreachable, WrongAuthority.
    """
    with verified_client(url, ca_pem) as client:
        return _fetch(client, "1 of 1 (ask for the trust document)")


def verified_client(url: str, ca_pem: str, token: str | None = None) -> httpx.Client:
    """An HTTPS client that trusts `ca_pem` alone and shows `token`. It follows no redirects."""
    try:
        context = ssl.create_default_context(cadata=ca_pem)
    except ssl.SSLError as error:
        raise Invalid(
            "The stored CA certificate cannot be read. Nothing was sent. Pin the CA again."
        ) from error
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url, verify=context, timeout=_TIMEOUT, headers=headers)


def checked_url(url: str) -> str:
    """`url` without a trailing slash. Raises Invalid unless it is https:// with a host and nothing secret."""
    parts = urlsplit(url)
    try:
        parts.port  # noqa: B018  of at most 65535, or it raises
        whole = parts.scheme == "https" and parts.hostname
    except ValueError:
        whole = False
    if not whole or parts.username or parts.query or parts.fragment:
        raise Invalid(
            f"A coordinator's address looks like https://lens.example.org:8443, not {url[:200]!r}. "
            "Nothing was sent. Copy the address again."
        )
    return url.rstrip("/")


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Put the step in front of an error's text."""
    try:
        yield
    except CommonlensError as error:
        raise type(error)(f"Step {name}: {error.message}") from error


@contextmanager
def speaking(what: str, then: str = "Nothing was kept. Try again.") -> Iterator[None]:
    """Turn the carrier's errors into ours: Unreachable, or WrongAuthority where the certificate is wrong.

    `then` is said where a line broke that had been open.
    """
    try:
        yield
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise WrongAuthority(
                f"{what}: the server's certificate is not of the pinned authority, or not for this "
                "address. Nothing "
                "was sent. Check the address; ask the coordinator's operator which names its "
                "certificate has."
            ) from error
        raise Unreachable(
            f"{what}: the coordinator did not accept a connection. Nothing was sent. "
            "Check the address, the port and the network, then try again."
        ) from error
    except httpx.HTTPError as error:
        raise Unreachable(f"{what}: the connection ended early ({type(error).__name__}). {then}") from error


def read_limited(client: httpx.Client, path: str, maximum_bytes: int, what: str) -> bytes:
    """GET `path`, at most `maximum_bytes`. Raises Unreachable, NotFound, NotAllowed, InvalidMessage."""
    data = bytearray()
    with speaking(what), asked(client, path) as response:
        check_status(response, what)
        for block in limited(response, maximum_bytes, what):
            data += block
    return bytes(data)


def asked(
    client: httpx.Client, path: str, headers: Mapping[str, str] = MappingProxyType({})
) -> AbstractContextManager[httpx.Response]:
    """GET `path`; the answer, of which nothing was read yet."""
    return client.stream("GET", path, headers={"Accept-Encoding": "identity", **headers})


def limited(response: httpx.Response, maximum_bytes: int, what: str) -> Iterator[bytes]:
    """The answer's body block by block; InvalidMessage in place of the block that passes `maximum_bytes`."""
    size_bytes = 0
    # Raw bytes: a compressed answer would be unpacked before its size could be bounded.
    for block in response.iter_raw():
        size_bytes += len(block)
        if size_bytes > maximum_bytes:
            raise InvalidMessage(
                f"{what}: the answer may have {maximum_bytes} bytes and has more. It was not kept. "
                "Tell the coordinator's operator."
            )
        yield block


def check_status(response: httpx.Response, what: str) -> None:
    """Raise NotFound, NotAllowed or Unreachable unless the answer is a whole one."""
    status = response.status_code
    if status == httpx.codes.OK:
        return
    if status == httpx.codes.NOT_FOUND:
        raise NotFound(
            f"{what}: the coordinator has nothing there. It was not fetched. Check the address or name."
        )
    if status == httpx.codes.UNAUTHORIZED and "authorization" not in response.request.headers:
        raise NotAllowed(
            f"{what}: the coordinator does not show this without a token, and none was sent. It was not fetched. "
            "Put a token of yours into COMMONLENS_TOKEN; members use commonlens-participant, which has its own."
        )
    if status == httpx.codes.UNAUTHORIZED:
        raise NotAllowed(
            f"{what}: the coordinator does not take this token: it is not valid, its time is over, or its owner is "
            "suspended or revoked. It was not fetched. Ask the operator."
        )
    if status == httpx.codes.FORBIDDEN:
        raise NotAllowed(
            f"{what}: the coordinator does not show this to the owner of this token. It was not fetched. "
            "Ask the operator why."
        )
    raise Unreachable(
        f"{what}: expected status 200, the server answered {status}. It was not fetched. Try again."
    )


def _fetch(client: httpx.Client, step: str) -> tuple[str, Envelope]:
    value = parse_document(
        read_limited(client, TRUST_PATH, limits.TRUST_BYTES, f"Step {step}"), "trust answer"
    )
    ca_pem, trust = value.get("ca_pem"), value.get("trust")
    if not isinstance(ca_pem, str) or not isinstance(trust, dict):
        raise InvalidMessage(
            f"Step {step}: the answer is not from a Commonlens coordinator. Nothing was kept. Check "
            "the address."
        )
    return ca_pem, trust


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
