"""The trust document: which keys may sign what, signed by the consortium's root keys (clause 9.3).

The rules are those of The Update Framework (TUF specification 1.0, §5.3): at least `threshold` distinct root
keys sign; a later version is signed by the old *and* the new threshold; nothing older or expired is accepted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from shared.domain.canonical import Digest, digest_of
from shared.domain.clock import Clock, from_text
from shared.domain.errors import BadSignature, Expired, Invalid, RolledBack, WrongAuthority
from shared.domain.strict import later, to_plain
from shared.release import openssf
from shared.release.envelope import (
    AGAIN,
    Envelope,
    envelope_digest,
    read_signed,
    require,
    seal,
    signed_part,
    signers,
)
from shared.release.signing import SigningKey, is_public_key

TRUST_FORMAT: Final = "commonlens-trust/1"
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class RootKeys:
    """The root, possibly split: `threshold` of `keys` (64 hex digits each) must sign."""

    keys: tuple[str, ...]
    threshold: int

    @property
    def fingerprint(self) -> Digest:
        """One text that pins the whole set, whatever the order of its keys."""
        return digest_of({"keys": sorted(self.keys), "threshold": self.threshold})


@dataclass(frozen=True)
class Trust:
    """Who may sign the roll, who may sign releases, and which CA the coordinator's server uses."""

    consortium: str
    version: int
    expires_at: str
    root: RootKeys
    roll_key: str
    release_key: str
    ca_sha256: str
    """`sha256:` + 64 hex digits of the CA certificate's DER bytes."""
    format: str = TRUST_FORMAT
    openssf_key: str = later("")
    """EC P-256 public key, PEM: checks the OpenSSF signature of releases. "" in documents from before there was one."""


def sign_trust(trust: Trust, root_keys: list[SigningKey]) -> Envelope:
    """The first trust document. Raises Invalid or BadSignature where a client would refuse it."""
    envelope = seal("trust", to_plain(trust), root_keys)
    _require_own_root(envelope, trust)
    return envelope


def rotate(current: Envelope, following: Trust, root_keys: list[SigningKey]) -> Envelope:
    """The next trust document, signed by `root_keys`: they must meet the old and the new threshold."""
    envelope = seal("trust", to_plain(following), root_keys)
    check_rotation(current, envelope)
    return envelope


def parse_trust(envelope: Envelope) -> Trust:
    """The trust document with its form checked and signed by its *own* root; nothing yet says whose it is."""
    trust = read_signed(Trust, TRUST_FORMAT, signed_part(envelope), "trust document")
    _check_form(trust)
    _require_own_root(envelope, trust)
    return trust


def open_trust(
    envelope: Envelope, pinned_root: str | None, clock: Clock, *, allow_expired: bool = False
) -> Trust:
    """The trust document, accepted under `pinned_root`: a root public key (64 hex digits), the fingerprint of
    a whole root set (`sha256:…`), or None, when the document vouches only for itself.

    Raises WrongAuthority, BadSignature, Expired, Invalid.
    """
    trust = parse_trust(envelope)
    if pinned_root is not None:
        _check_pin(envelope, trust, pinned_root)
    if not allow_expired:
        check_fresh("trust", trust.expires_at, clock)
    return trust


def check_rotation(current: Envelope, following: Envelope) -> Trust:
    """The document in `following`, if it may take the place of `current`.

    Raises RolledBack for a lower version, or for the same version with other content; BadSignature unless
    both the old and the new root thresholds signed.
    """
    old = read_signed(Trust, TRUST_FORMAT, signed_part(current), "trust document")
    new = parse_trust(following)
    if new.consortium != old.consortium:
        raise WrongAuthority(
            f"The trust document here is of the consortium {old.consortium!r}; the one received is of "
            f"{new.consortium!r}. It was not taken. Use another folder for another consortium."
        )
    check_not_older("trust", old.version, envelope_digest(current), new.version, envelope_digest(following))
    if new.version > old.version:
        require("trust", following, old.root.keys, old.root.threshold, "root keys trusted until now")
    return new


def check_fresh(what: str, expires_at: str, clock: Clock) -> None:
    """Raise Expired once `expires_at` is reached."""
    try:
        end = from_text(expires_at)
    except ValueError as error:
        raise Invalid(f"The {what} document's expires_at is not a UTC moment. {AGAIN}") from error
    if clock.now() >= end:
        raise Expired(
            f"The {what} document was valid until {expires_at} and that time is over. It was not accepted. "
            "Ask the consortium for a fresh one, or set this machine's clock if it is wrong."
        )


def check_not_older(what: str, seen: int, seen_digest: str, version: int, digest: str) -> None:
    """Raise RolledBack for a version below the one seen, or the same version with other content."""
    if version < seen:
        raise RolledBack(
            f"The {what} document has version {version}; version {seen} was already seen here. It was not "
            "accepted. An old copy is being shown: ask the consortium why."
        )
    if version == seen and digest != seen_digest:
        raise RolledBack(
            f"Two different {what} documents carry version {version}. The second was not accepted. "
            "Ask the consortium which one it signed."
        )


def _check_form(trust: Trust) -> None:
    keys = (*trust.root.keys, trust.roll_key, trust.release_key)
    if not trust.root.keys or not all(is_public_key(key) for key in keys):
        raise Invalid(f"The trust document names a key that is not 64 lower-case hex digits. {AGAIN}")
    if len(set(trust.root.keys)) != len(trust.root.keys):
        raise Invalid(f"The trust document names one root key twice. {AGAIN}")
    if not 1 <= trust.root.threshold <= len(trust.root.keys):
        raise Invalid(
            f"The trust document's threshold is between 1 and {len(trust.root.keys)}, "
            f"not {trust.root.threshold}. {AGAIN}"
        )
    if trust.openssf_key and not openssf.is_public_key(trust.openssf_key):
        raise Invalid(f"The trust document's openssf_key is not an EC P-256 public key in PEM. {AGAIN}")
    if trust.version < 1 or not _FINGERPRINT.match(trust.ca_sha256):
        raise Invalid(
            "The trust document needs a version of at least 1 and ca_sha256 as sha256: and 64 hex digits. "
            f"{AGAIN}"
        )


def _require_own_root(envelope: Envelope, trust: Trust) -> None:
    _check_form(trust)
    require("trust", envelope, trust.root.keys, trust.root.threshold, "root keys it names")


def check_pin(pinned_root: str) -> None:
    """Raise Invalid for what can be neither a root public key nor the fingerprint of a root set."""
    if not _FINGERPRINT.match(pinned_root) and not is_public_key(pinned_root):
        raise Invalid(
            "A pinned root is a public key of 64 lower-case hex digits, or sha256: and 64 hex digits. "
            "Nothing was checked. Copy it again from your consortium."
        )


def _check_pin(envelope: Envelope, trust: Trust, pinned_root: str) -> None:
    check_pin(pinned_root)
    if _FINGERPRINT.match(pinned_root):
        if trust.root.fingerprint != pinned_root:
            raise WrongAuthority(
                f"The root pinned here is {pinned_root[:23]}…; the document's own is "
                f"{trust.root.fingerprint[:23]}…. Nothing was accepted. Ask the consortium for its "
                "fingerprint."
            )
        return
    # A pinned key that was rotated away still vouches for the document it signed with its heirs.
    if not signers("trust", envelope, [pinned_root]):
        raise BadSignature(
            f"The root pinned here, {pinned_root[:16]}…, did not sign this trust document. Nothing was "
            "accepted. Ask the consortium for its root key, over a channel you trust."
        )
