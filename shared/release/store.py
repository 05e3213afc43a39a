"""What a client has already seen, in one JSON file, so that nobody shows it the past again (clause 9.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from shared.domain.canonical import Digest
from shared.domain.clock import Clock
from shared.domain.consortium import Roll
from shared.domain.errors import DigestMismatch, NotFound, RolledBack
from shared.domain.files import write_json
from shared.domain.locking import held_lock
from shared.domain.release import Catalogue
from shared.domain.strict import build, to_plain
from shared.release import limits
from shared.release.authority import ca_fingerprint, check_ca_named
from shared.release.envelope import Envelope, envelope_digest, read_document
from shared.release.roles import open_catalogue, open_roll
from shared.release.trust import Trust, check_fresh, check_not_older, check_rotation, open_trust, parse_trust

STATE_FORMAT: Final = "commonlens-trust-state/1"


@dataclass(frozen=True)
class Seen:
    """The highest version of one kind of document, and its digest."""

    version: int
    digest: str


@dataclass(frozen=True)
class TrustState:
    """Everything in the file. Public values only; the folder's owner may read and delete it."""

    url: str
    ca_pem: str
    pinned_root: str
    trust: Mapping[str, Any]
    seen: Mapping[str, Seen] = field(default_factory=dict)
    releases: Mapping[str, str] = field(default_factory=dict)
    """Release id → manifest digest, for every release ever seen in a catalogue."""
    withdrawn: Mapping[str, str] = field(default_factory=dict)
    """Release id → why, for those that the newest catalogue seen here has as withdrawn."""
    format: str = STATE_FORMAT


class TrustStore:
    """Accepts signed documents in order and remembers them; what another process accepted meanwhile counts too."""

    def __init__(self, path: Path, state: TrustState) -> None:
        self._path = path
        self._state = state

    @classmethod
    def create(
        cls, path: Path, *, url: str, ca_pem: str, pinned_root: str, trust: Envelope, clock: Clock
    ) -> TrustStore:
        """First use: `trust` must hold under `pinned_root`. Raises WrongAuthority, BadSignature, Expired."""
        check_ca_named(open_trust(trust, pinned_root, clock), ca_fingerprint(ca_pem))
        store = cls(path, TrustState(url, ca_pem, pinned_root, trust))
        store._save(store._state)
        return store

    @classmethod
    def open(cls, path: Path) -> TrustStore:
        """Read the file. Raises NotFound where this is the first use, Invalid where it is damaged."""
        state = build(TrustState, read_document(path, limits.STATE_BYTES), path.name)
        parse_trust(dict(state.trust))
        return cls(path, state)

    @classmethod
    def open_or_none(cls, path: Path) -> TrustStore | None:
        """`open`, or None on first use."""
        try:
            return cls.open(path)
        except NotFound:
            return None

    @property
    def state(self) -> TrustState:
        """What is remembered."""
        return self._state

    @property
    def trust(self) -> Trust:
        """The newest trust document accepted; its signatures were checked when it came in."""
        return parse_trust(self.trust_envelope)

    @property
    def trust_envelope(self) -> Envelope:
        """The same with its signatures."""
        return dict(self._state.trust)

    def accept_trust(self, envelope: Envelope, clock: Clock, *, ca_pem: str | None = None) -> Trust:
        """Take a newer trust document, and the CA certificate that came with it if it names that one.

        Raises RolledBack, BadSignature, Expired, WrongAuthority; then nothing has changed.
        """
        with self._alone():
            trust = check_rotation(self.trust_envelope, envelope)
            check_fresh("trust", trust.expires_at, clock)
            check_ca_named(trust, ca_fingerprint(ca_pem or self._state.ca_pem))
            self._save(replace(self._state, trust=envelope, ca_pem=ca_pem or self._state.ca_pem))
        return trust

    def accept_roll(self, envelope: Envelope, clock: Clock) -> Roll:
        """Take a roll that is not older than one already seen. Raises as `open_roll`, and RolledBack."""
        with self._alone():
            roll = open_roll(envelope, self.trust, clock)
            self._advance("roll", roll.version, envelope_digest(envelope))
        return roll

    def accept_catalogue(self, envelope: Envelope, clock: Clock) -> Catalogue:
        """Take a catalogue: none older, none that drops or changes a release it once showed."""
        with self._alone():
            catalogue = open_catalogue(envelope, self.trust, clock)
            for release, digest in self._state.releases.items():
                entry = catalogue.entry(release)
                if entry is None:
                    raise RolledBack(
                        f"The release {release} was seen here before and is missing from this catalogue. "
                        "It was "
                        "not accepted. A release is withdrawn by marking it, never by hiding it: ask the "
                        "consortium."
                    )
                if entry.manifest_digest != digest:
                    raise DigestMismatch(
                        f"The release {release} was seen here as {digest[:23]}… and is now "
                        f"{entry.manifest_digest[:23]}…. The catalogue was not accepted. A release never "
                        "changes: ask the consortium."
                    )
            shown = replace(
                self._state,
                releases={entry.id: entry.manifest_digest for entry in catalogue.releases},
                withdrawn={entry.id: entry.reason for entry in catalogue.withdrawn},
            )
            self._advance("catalogue", catalogue.version, envelope_digest(envelope), shown)
        return catalogue

    def _advance(self, kind: str, version: int, digest: Digest, changed: TrustState | None = None) -> None:
        seen = self._state.seen.get(kind)
        if seen is not None:
            check_not_older(kind, seen.version, seen.digest, version, digest)
        now = {**self._state.seen, kind: Seen(version, digest)}
        self._save(replace(changed or self._state, seen=now))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # Otherwise the older of two processes would write down what it knows, and the newer one's would be forgotten.
        with held_lock(self._path.with_suffix(".lock")):
            self._state = type(self).open(self._path).state
            yield

    def _save(self, state: TrustState) -> None:
        write_json(self._path, to_plain(state))
        self._state = state
