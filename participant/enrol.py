"""Join a consortium, in named phases; whatever fails says in which phase, and what to do next.

1. preflight  disk, software, reachability, versions, clocks
2. discovery  the CA's fingerprint proves the CA, the root key and the trust document
3. keys       identity (Ed25519) and node (EC P-384), made here; the private halves never leave
4. enrolled   the invitation is spent, and what the coordinator gave is saved, whole or not at all

A crash anywhere leaves a folder in which `join` can simply be run again: keys are made once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import ValidationError

from participant.home import Home
from participant.preflight import Preflight, preflight
from shared.domain.clock import Clock, SystemClock
from shared.domain.consortium import MemberState, round_declared_size
from shared.domain.errors import (
    AlreadyExists,
    CommonlensError,
    Invalid,
    InvalidMessage,
    InvitationRejected,
    NotFound,
    Unreachable,
    WrongAuthority,
)
from shared.domain.files import read_json, write_atomically, write_json, write_new
from shared.domain.invitation import SECRET_PREFIX
from shared.domain.strict import build, to_plain
from shared.release import limits
from shared.release.authority import checked_fingerprint
from shared.release.fingerprint import fingerprint as fingerprint_of_key
from shared.release.pinning import PinnedTrust, checked_url, pinned_trust
from shared.release.roles import open_roll
from shared.release.signing import SigningKey
from shared.wire.enrolment import EnrolmentReply, EnrolmentRequest, sign_enrolment, software_version
from shared.wire.problems import raise_for_problem

COORDINATOR_FILE = "coordinator.json"
OnPhase = Callable[[str, str], None]
"""(phase, what was found there); called when the phase is over."""


@dataclass(frozen=True)
class CoordinatorLink:
    """`coordinator.json`: everything needed to speak to the coordinator as this member. Holds the token."""

    url: str
    ca_pem: str
    ca_sha256: str
    root_public_key: str
    trust: dict[str, Any]
    consortium: str
    member_id: str
    name: str
    token: str = field(repr=False)
    declared_size: int
    roll_version: int


def join(
    home: Path,
    url: str,
    ca_fingerprint: str,
    secret: str,
    declared_size: int,
    on_phase: OnPhase = lambda phase, found: None,
    clock: Clock | None = None,
) -> CoordinatorLink:
    """Join with an invitation. `declared_size` is rounded to two digits before it leaves (clause 6.3).

    Raises AlreadyExists in a folder that has joined; else each phase's errors, their text naming the phase.
    """
    clock = clock or SystemClock()
    if (home / COORDINATOR_FILE).exists():
        raise AlreadyExists(
            "This folder has already joined a consortium. Nothing was changed. "
            "Use another folder to join another."
        )
    with _phase("preflight"):
        secret = checked_secret(secret)
        url, fingerprint = checked_url(url), checked_fingerprint(ca_fingerprint)
        found = preflight(home, url, clock)
    on_phase("preflight", "; ".join(found.lines()))
    with _phase("discovery"):
        pinned = pinned_trust(url, fingerprint, clock)
    on_phase("discovery", f"consortium {pinned.trust.consortium}, root key {pinned.root_public_key[:16]}…")
    with _phase("keys"):
        identity, node_public_key_pem = make_keys(home)
    on_phase("keys", f"identity {identity.public_hex[:16]}…, made here and kept here")
    with _phase("enrolled"):
        link, state = _enrol(pinned, identity, node_public_key_pem, secret, declared_size, found, clock)
        write_atomically(Home(home).ca_file, link.ca_pem.encode("ascii"), 0o644)
        write_json(home / COORDINATOR_FILE, to_plain(link))
    waits = (
        "; it waits for an admin's approval, who asks for the fingerprint of its identity key: "
        f"{fingerprint_of_key(identity.public_hex)}"
    )
    on_phase(
        "enrolled",
        f"{link.name} is {link.member_id} in {link.consortium}{waits if state is MemberState.PENDING else ''}",
    )
    return link


def read_link(home: Path) -> CoordinatorLink:
    """What `join` saved. Raises NotFound before it."""
    try:
        return build(CoordinatorLink, read_json(home / COORDINATOR_FILE), COORDINATOR_FILE)
    except NotFound as error:
        raise NotFound(
            "This folder has not joined a consortium yet. Nothing was sent. Run commonlens-participant join."
        ) from error


def make_keys(home: Path) -> tuple[SigningKey, str]:
    """(identity key, node public key PEM): those in the folder, or new ones. Nothing is ever overwritten."""
    files = Home(home)
    files.identity_key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not files.identity_key.exists():
        SigningKey.generate().save(files.identity_key)
    return SigningKey.load(files.identity_key), _node_public_key(files.node_key)


def checked_secret(text: str) -> str:
    """The secret without white space around it. Raises Invalid, without repeating it, for anything else."""
    secret = text.strip()
    body = secret.removeprefix(SECRET_PREFIX)
    plain = body.replace("-", "").replace("_", "").isalnum() and body.isascii()
    if not secret.startswith(SECRET_PREFIX) or not plain or not 8 <= len(body) <= 90:
        raise Invalid(
            f"An invitation's secret starts with {SECRET_PREFIX} and is one word of letters, digits, - and "
            "_; this one does not fit. Nothing was sent. Copy it again."
        )
    return secret


def _enrol(
    pinned: PinnedTrust,
    identity: SigningKey,
    node_public_key_pem: str,
    secret: str,
    declared_size: int,
    found: Preflight,
    clock: Clock,
) -> tuple[CoordinatorLink, MemberState]:
    request_size = round_declared_size(declared_size)
    request = sign_enrolment(
        identity,
        secret=secret,
        node_public_key_pem=node_public_key_pem,
        device=found.device,
        software_version=software_version(),
        declared_size=request_size,
    )
    reply = _post(pinned, request)
    roll = open_roll(reply.roll, pinned.trust, clock)
    mine = roll.entry(reply.member_id)
    if (
        mine is None
        or mine.identity_public_key != identity.public_hex
        or mine.state not in (MemberState.ACTIVE, MemberState.PENDING)
    ):
        raise WrongAuthority(
            "The signed roll does not name this member with the key made here. Nothing was saved. "
            "Ask the consortium's admin who was enrolled."
        )
    link = CoordinatorLink(
        url=pinned.url,
        ca_pem=pinned.ca_pem,
        ca_sha256=pinned.ca_sha256,
        root_public_key=pinned.root_public_key,
        trust=pinned.trust_envelope,
        consortium=pinned.trust.consortium,
        member_id=reply.member_id,
        name=mine.name,
        token=reply.token,
        declared_size=request_size,
        roll_version=roll.version,
    )
    return link, mine.state


def _post(pinned: PinnedTrust, request: EnrolmentRequest) -> EnrolmentReply:
    try:
        with (
            pinned.client() as client,
            client.stream("POST", "/api/v1/enrolments", json=request.model_dump()) as response,
        ):
            data = bytearray()
            for block in response.iter_bytes():
                data += block
                if len(data) > limits.ROLL_BYTES:
                    raise InvalidMessage(
                        "The answer to the enrolment is too long. Nothing was saved. Tell the admin."
                    )
            answer = httpx.Response(
                response.status_code, headers=_plain_headers(response), content=bytes(data)
            )
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Unreachable(
            "The coordinator stopped answering. The invitation was not sent. Join again with it."
        ) from error
    except httpx.HTTPError as error:
        raise Unreachable(
            "The connection ended before the coordinator's answer came. It is not known whether the "
            "invitation was spent. Join again; if it is rejected, ask the admin for a new invitation of the "
            "same name: the keys made here stay good for it."
        ) from error
    raise_for_problem(answer)
    try:
        return EnrolmentReply.model_validate_json(bytes(data))
    except ValidationError as error:
        raise InvalidMessage(
            "The coordinator's answer to the enrolment does not have the form that the protocol sets. "
            "Nothing was saved. Install the version that the coordinator runs, and ask the admin for a new "
            "invitation."
        ) from error


def _plain_headers(response: httpx.Response) -> dict[str, str]:
    return {"content-type": response.headers.get("content-type", "")}


def _node_public_key(path: Path) -> str:
    if not path.exists():
        key = ec.generate_private_key(ec.SECP384R1())
        write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    try:
        loaded = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise Invalid(f"{path.name} is not an unencrypted PEM key. Nothing was sent. Restore it.") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey) or not isinstance(loaded.curve, ec.SECP384R1):
        raise Invalid(f"{path.name}: expected an EC P-384 key. Nothing was sent. Restore it.")
    public = loaded.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return public.decode("ascii")


@contextmanager
def _phase(name: str) -> Iterator[None]:
    """Put the phase's name in front of what went wrong, the class unchanged."""
    try:
        yield
    except CommonlensError as error:
        advice = ""
        if isinstance(error, InvitationRejected):
            advice = " The keys made here are kept for it."
        raise type(error)(f"Phase {name}: {error.message}{advice}") from error
