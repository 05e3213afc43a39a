"""The two documents that change often: the roll (signed by the roll key) and the catalogue (release key)."""

from __future__ import annotations

from typing import Final

from shared.domain.clock import Clock
from shared.domain.consortium import Roll
from shared.domain.errors import Invalid, WrongAuthority
from shared.domain.release import CATALOGUE_FORMAT, MOST_REASON_CHARACTERS, Catalogue, release_id
from shared.domain.strict import build, to_plain
from shared.release.envelope import AGAIN, Envelope, read_signed, require, seal, signed_part
from shared.release.signing import SigningKey, is_public_key
from shared.release.trust import Trust, check_fresh

ROLL_FORMAT: Final = "commonlens-roll/1"


def sign_roll(roll: Roll, roll_key: SigningKey) -> Envelope:
    """The roll of members in an envelope (clause 5.1)."""
    return seal("roll", {"format": ROLL_FORMAT, **to_plain(roll)}, [roll_key])


def open_roll(envelope: Envelope, trust: Trust, clock: Clock) -> Roll:
    """The roll, signed by the roll key that `trust` names and in date. Raises BadSignature, Expired, Invalid.

    Whether it is older than one already seen is asked of `TrustStore.accept_roll`.
    """
    require("roll", envelope, [trust.roll_key], 1, "roll key")
    value = dict(signed_part(envelope))
    if value.pop("format", None) != ROLL_FORMAT:
        raise Invalid(
            f"The roll is not in the format {ROLL_FORMAT!r}. Nothing was read. Upgrade this Commonlens."
        )
    roll = build(Roll, value, "roll")
    _same_consortium(roll.consortium, trust)
    check_fresh("roll", roll.expires_at, clock)
    for entry in roll.entries:
        if not is_public_key(entry.identity_public_key):
            raise Invalid(f"The roll's line {entry.member_id} has no valid identity key. {AGAIN}")
    for what, texts in (
        ("member", [entry.member_id for entry in roll.entries]),
        ("identity key", [entry.identity_public_key for entry in roll.entries]),
    ):
        if len(set(texts)) != len(texts):
            raise Invalid(f"The roll names one {what} twice. Nothing was read. Tell your consortium.")
    return roll


def sign_catalogue(catalogue: Catalogue, release_key: SigningKey) -> Envelope:
    """The catalogue of releases in an envelope."""
    return seal("catalogue", to_plain(catalogue), [release_key])


def open_catalogue(
    envelope: Envelope, trust: Trust, clock: Clock, *, allow_expired: bool = False
) -> Catalogue:
    """The catalogue, signed by the release key that `trust` names. Raises BadSignature, Expired, Invalid."""
    require("catalogue", envelope, [trust.release_key], 1, "release key")
    catalogue = read_signed(Catalogue, CATALOGUE_FORMAT, signed_part(envelope), "catalogue")
    _same_consortium(catalogue.consortium, trust)
    if not allow_expired:
        check_fresh("catalogue", catalogue.expires_at, clock)
    for entry in catalogue.releases:
        if entry.id != release_id(entry.extractor_name, entry.number):
            raise Invalid(
                f"The catalogue's line {entry.id[:80]!r} does not fit its own name and number. {AGAIN}"
            )
        if len(entry.reason) > MOST_REASON_CHARACTERS or not entry.reason.isprintable():
            raise Invalid(
                f"The catalogue's reason why {entry.id} was withdrawn is no line of at most {MOST_REASON_CHARACTERS} "
                f"characters that can be seen. {AGAIN}"
            )
    if len({entry.id for entry in catalogue.releases}) != len(catalogue.releases):
        raise Invalid("The catalogue lists one release twice. Nothing was read. Tell your consortium.")
    return catalogue


def _same_consortium(found: str, trust: Trust) -> None:
    if found != trust.consortium:
        raise WrongAuthority(
            f"The trust document is of the consortium {trust.consortium!r}; this one is of {found[:80]!r}. "
            "It was not accepted. Check the address."
        )
