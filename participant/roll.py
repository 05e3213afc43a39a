"""The newest roll of members that this node accepted, kept in roll.json (clause 5.1).

It lies beside the trust document that names the roll's key, and that one follows, version by version, from the
document that the root pinned by `join` signed. Nothing older, over, or signed by another key takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import TypeAdapter, ValidationError

from participant.enrol import CoordinatorLink, read_link
from participant.home import Home
from shared.domain.clock import Clock, SystemClock
from shared.domain.consortium import Roll
from shared.domain.errors import Invalid, NotFound, WrongAuthority
from shared.domain.files import read_json, write_json
from shared.domain.locking import held_lock
from shared.domain.strict import build, to_plain
from shared.release.envelope import Envelope, envelope_digest
from shared.release.roles import open_roll
from shared.release.signing import SigningKey
from shared.release.trust import check_fresh, check_not_older, check_rotation, open_trust, parse_trust
from shared.wire.enrolment import Name

FORMAT: Final = "commonlens-seen-roll/1"
_MEMBER_ID = re.compile(r"mem_[0-9a-f]{12}\Z")
_NAME = TypeAdapter(Name)


class RollSource(Protocol):
    """Where the coordinator's signed documents come from; nothing of them is believed yet."""

    def trust(self) -> Envelope:
        """The trust document of today."""
        ...

    def roll(self) -> Envelope:
        """The signed roll of today."""
        ...


@dataclass(frozen=True)
class SeenRoll:
    """roll.json: both documents as they were signed."""

    trust: Mapping[str, Any]
    roll: Mapping[str, Any]
    format: str = FORMAT


def refresh_roll(home: Home, source: RollSource, clock: Clock | None = None) -> Roll:
    """Fetch the roll and keep it. Raises Unreachable, and what `accept_roll` raises."""
    return accept_roll(home, source.trust(), source.roll(), clock)


def accept_roll(home: Home, trust: Envelope, roll: Envelope, clock: Clock | None = None) -> Roll:
    """Check both documents and keep them; where one is refused, what was kept before stays.

    Raises BadSignature, Expired, RolledBack, Invalid, or WrongAuthority for another consortium's documents or
    a roll that does not name this member with its own key.
    """
    clock, link = clock or SystemClock(), read_link(home.root)
    with held_lock(home.root / "roll.lock"):
        kept = _kept(home)
        before = dict(kept.trust) if kept else _trust_at_join(link, clock)
        opened = check_rotation(before, trust)
        check_fresh("trust", opened.expires_at, clock)
        found = open_roll(roll, opened, clock)
        if parse_trust(before).roll_key == opened.roll_key:
            _check_not_older(link, kept, found, roll)
        # A replaced roll key starts a new count: whoever stole the old one may have signed version 10^9
        # (TUF specification 1.0, section 5.3.11).
        _check_lines(found)
        _check_own_line(home, link, found)
        write_json(home.roll, to_plain(SeenRoll(trust, roll)))
    return found


def read_roll(home: Home, clock: Clock | None = None) -> Roll:
    """The roll that was kept, if it and its trust document are still in date. Raises NotFound, Expired."""
    clock, kept = clock or SystemClock(), _kept(home)
    if kept is None:
        raise NotFound(
            "This node has not seen the consortium's roll yet, so it knows no organisation but itself. Nothing "
            "was sent. Run commonlens-participant peers."
        )
    trust = parse_trust(dict(kept.trust))
    check_fresh("trust", trust.expires_at, clock)
    return open_roll(dict(kept.roll), trust, clock)


def _kept(home: Home) -> SeenRoll | None:
    if not home.roll.exists():
        return None
    kept = build(SeenRoll, read_json(home.roll), home.roll.name)
    if kept.format != FORMAT:
        raise Invalid(
            f"{home.roll.name}: expected the format {FORMAT!r}, found {kept.format[:60]!r}. Nothing was read. "
            "If a newer Commonlens wrote it, upgrade this one."
        )
    return kept


def _trust_at_join(link: CoordinatorLink, clock: Clock) -> Envelope:
    open_trust(link.trust, link.root_public_key, clock, allow_expired=True)
    return link.trust


def _check_not_older(link: CoordinatorLink, kept: SeenRoll | None, found: Roll, envelope: Envelope) -> None:
    digest = envelope_digest(envelope)
    if kept is None:
        check_not_older("roll", link.roll_version, digest, found.version, digest)
    else:
        seen = int(kept.roll["signed"]["version"])
        check_not_older("roll", seen, envelope_digest(dict(kept.roll)), found.version, digest)


def _check_lines(roll: Roll) -> None:
    """Ids and names are shown to a person and typed into a shell: only those that enrolment allows."""
    for entry in roll.entries:
        try:
            _NAME.validate_python(entry.name)
        except ValidationError as error:
            raise Invalid(
                f"The roll's line {entry.member_id[:20]!r} has a name that no organisation can have. The roll "
                "was not accepted. Tell the consortium's admin."
            ) from error
        if not _MEMBER_ID.match(entry.member_id):
            raise Invalid(
                f"The roll names a member {entry.member_id[:20]!r}; an id is mem_ and 12 hex digits. The roll "
                "was not accepted. Tell the consortium's admin."
            )


def _check_own_line(home: Home, link: CoordinatorLink, roll: Roll) -> None:
    mine = roll.entry(link.member_id)
    if mine is None or mine.identity_public_key != SigningKey.load(home.identity_key).public_hex:
        raise WrongAuthority(
            f"The signed roll should name {link.member_id} with the key made here; it names "
            f"{'no such member' if mine is None else 'another key'}. It was not accepted. Ask the consortium's "
            "admin who changed it, and tell the other members."
        )
