"""Members that joined a desk, and where they fetch the roll: from the desk itself, or from one that lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from participant.enrol import COORDINATOR_FILE, CoordinatorLink, make_keys
from participant.home import Home
from shared.domain.clock import to_text
from shared.domain.consortium import Roll, RollEntry
from shared.domain.files import write_json
from shared.domain.plan import Plan, PlanMember, SecureTerms
from shared.domain.privacy import Mode
from shared.domain.strict import to_plain
from shared.release.envelope import Envelope
from shared.release.roles import open_roll, sign_roll
from shared.release.signing import SigningKey
from shared.release.trust import parse_trust
from tests.desk import Desk, enrolment
from tests.plans import small_plan


@dataclass(frozen=True)
class RollOfDesk:
    """What a member's node fetches, without the web in between."""

    desk: Desk

    def trust(self) -> Envelope:
        return self.desk.room.authority.trust_envelope()

    def roll(self) -> Envelope:
        return self.desk.room.roll.current()


@dataclass(frozen=True)
class LyingRoll:
    """A coordinator that changes the lines of its roll and signs it with the roll key, or with another."""

    desk: Desk
    change: Callable[[tuple[RollEntry, ...]], tuple[RollEntry, ...]] = lambda entries: entries
    newer: int = 1
    key: SigningKey | None = None
    lifetime_s: float = 86400.0

    def trust(self) -> Envelope:
        return self.desk.room.authority.trust_envelope()

    def roll(self) -> Envelope:
        honest = roll_of(self.desk)
        ends = to_text(self.desk.clock.now() + timedelta(seconds=self.lifetime_s))
        lie = replace(
            honest, version=honest.version + self.newer, entries=self.change(honest.entries), expires_at=ends
        )
        return sign_roll(lie, self.key or self.desk.room.authority.roll_key())


@dataclass(frozen=True)
class Joined:
    """One member's folder after join."""

    member_id: str
    name: str
    home: Home
    identity: SigningKey


def joined(desk: Desk, folder: Path, name: str) -> Joined:
    """A member that enrolled at the desk with keys of its own."""
    home = Home(folder / name.replace(" ", "-").lower())
    identity, node_pem = make_keys(home.root)
    reply = desk.room.members.enrol(enrolment(desk.secret(name), identity, node_pem))
    link = CoordinatorLink(
        url="https://localhost:8443",
        ca_pem=desk.room.authority.ca_pem(),
        ca_sha256=desk.fingerprint,
        root_public_key=root_of(desk),
        trust=desk.room.authority.trust_envelope(),
        consortium="Testing",
        member_id=reply.member_id,
        name=name,
        token=reply.token,
        declared_size=5000,
        roll_version=int(reply.roll["signed"]["version"]),
    )
    write_json(home.root / COORDINATOR_FILE, to_plain(link))
    return Joined(reply.member_id, name, home, identity)


def root_of(desk: Desk) -> str:
    """The consortium's root public key, 64 hex digits."""
    return parse_trust(desk.room.authority.trust_envelope()).root.keys[0]


def roll_of(desk: Desk) -> Roll:
    """The desk's roll of today."""
    trust = parse_trust(desk.room.authority.trust_envelope())
    return open_roll(desk.room.roll.current(), trust, desk.clock)


def secure_plan(*members: tuple[str, str]) -> Plan:
    """A plan of mode secure with these (id, name)s. Nobody trains it here: only its list of members counts."""
    return small_plan(
        mode=Mode.SECURE,
        consortium="Testing",
        extractor_name="tiny",
        starting_weights="sha256:" + "0" * 64,
        trainable_coordinates=10,
        noise_multiplier=1.5,
        sampling_rate=0.05,
        quorum=len(members),
        members=tuple(PlanMember(member_id, 5000) for member_id, name in members),
        secure=SecureTerms(1e-3, 32, 0, 0, len(members)),
    )
