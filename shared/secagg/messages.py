"""What members and coordinator tell each other in a secure round, and the statements that members sign.

Frozen dataclasses that `shared.domain.strict.build` reads. `build` checks the types, `check` here the form:
every name, key and list has a bound before anything is computed with it. Binary values travel as text: keys,
digests and signatures as lower-case hex, sealed deals and shares as base64.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.domain.canonical import DIGEST_FORM, Digest, digest_of
from shared.domain.errors import InvalidMessage
from shared.secagg.parameters import RoundTerms
from shared.secagg.shamir import SHARE_BYTES

KIND_ROUND_KEY: Final = "round-key"
KIND_SURVIVORS: Final = "survivors"
"""Kinds of signature (shared/release/signing.py). Both statements about lists are of the second kind."""

MAXIMUM_MEMBERS: Final = 1024
TAG_BYTES: Final = 16

_MEMBER_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_HEX_32 = re.compile(r"[0-9a-f]{64}\Z")
_SIGNATURE = re.compile(r"[0-9a-f]{128}\Z")
_ENDORSEMENT = re.compile(r"([0-9a-f]{128})([0-9a-f]{64})?\Z")


@dataclass(frozen=True)
class KeyOffer:
    """A member's one-round keys, signed with its identity key (clause 5.1). Public to the whole roster.

    Mask key and commitment bind the member to its secrets before anybody knows which of them will be rebuilt,
    so that a secret rebuilt from a wrong share is noticed.
    """

    member_id: str
    mask_public_key: str
    """X25519, 64 hex digits: pairwise masks."""
    channel_public_key: str
    """X25519, 64 hex digits: shares of secrets."""
    seed_commitment: str
    """The value after the last seed of the chain, 64 hex digits (`keys.commit_to_seeds`)."""
    signature: str

    def statement(self, terms: RoundTerms) -> dict[str, Any]:
        """What `signature` covers, under KIND_ROUND_KEY: this offer, for this run, round and plan only."""
        return {
            "run_id": terms.run_id,
            "round_number": terms.round_number,
            "plan_digest": terms.plan_digest,
            "member_id": self.member_id,
            "mask_public_key": self.mask_public_key,
            "channel_public_key": self.channel_public_key,
            "seed_commitment": self.seed_commitment,
        }

    def check(self) -> None:
        """Raise InvalidMessage unless every field has its one written form."""
        check_member_ids((self.member_id,))
        for name in ("mask_public_key", "channel_public_key", "seed_commitment"):
            _check(
                _HEX_32, getattr(self, name), f"the {name} of {self.member_id}", "64 lower-case hex digits"
            )
        check_signature(self.signature, f"the key offer of {self.member_id}")


@dataclass(frozen=True)
class Deal:
    """One member's shares of its secrets, sealed to those who do not derive theirs (clause 5.2)."""

    member_id: str
    ciphertexts: Mapping[str, str]
    """Receiver → base64 of its sealed bundle (dealing.py); may be empty."""

    def check(self, terms: RoundTerms) -> None:
        """Raise InvalidMessage unless names and lengths are what `terms` makes them."""
        check_member_ids((self.member_id, *self.ciphertexts))
        size_bytes = sealed_bytes(terms)
        for receiver, text in self.ciphertexts.items():
            decode(text, size_bytes, f"the sealed shares of {self.member_id} for {receiver}")


@dataclass(frozen=True)
class UnmaskShares:
    """One member's only answer to an unmask request: base64 shares of others' secrets, keyed by the owner."""

    member_id: str
    seed_shares: Mapping[str, str]
    """Of each survivor's first seed that its sum does not need (clause 3.9); the self mask's is the last."""
    key_shares: Mapping[str, str]
    """Of the mask keys of the dropped."""

    def check(self) -> None:
        """Raise InvalidMessage unless names and lengths fit."""
        for shares in (self.seed_shares, self.key_shares):
            check_member_ids((self.member_id, *shares))
            for owner, text in shares.items():
                decode(text, SHARE_BYTES, f"the share of {owner} from {self.member_id}")


def roster_digest(offers: Iterable[KeyOffer]) -> Digest:
    """The one name of a roster: who takes part in the round and with which keys, whatever the order given."""
    # All fields of an offer are text, so `vars` is its plain form.
    return digest_of([vars(offer) for offer in sorted(offers, key=lambda offer: offer.member_id)])


def cohort_statement(
    terms: RoundTerms, roster: Digest, cohort: Sequence[str], weights: str
) -> dict[str, Any]:
    """What a member signs with its contribution: "I masked for exactly this roster and cohort".

    And trained from the weights of this digest: a coordinator that sends the others weights from which nothing is
    learned would read one member's part off the sum (Pasquini, Francati, Ateniese, CCS 2022). Raises InvalidMessage
    for anything but a digest: where none is known, nothing is signed and no signature holds.

    Under KIND_SURVIVORS, for it is also its signature on the list of survivors that names the whole cohort:
    a round without drop-outs needs no exchange of signatures (clause 5.4).
    """
    _check(DIGEST_FORM, weights, "the digest of the round's weights", "sha256: and 64 lower-case hex digits")
    return {
        "run_id": terms.run_id,
        "round_number": terms.round_number,
        "plan_digest": terms.plan_digest,
        "roster_digest": roster,
        "cohort_digest": digest_of(sorted(cohort)),
        "weights_digest": weights,
    }


def with_next_offer(statement: Mapping[str, Any], next_offer: str) -> Mapping[str, Any]:
    """`cohort_statement` and the `offer_digest` of what its signer offers for the next round; as it is for ""."""
    return {**statement, "next_offer": next_offer} if next_offer else statement


def offer_digest(statement: Mapping[str, Any], signature: str) -> str:
    """64 hex digits: the one name of a signed offer, of `KeyOffer.statement` and so for one run, round and plan."""
    return digest_of([statement, signature]).removeprefix("sha256:")


def survivors_statement(
    terms: RoundTerms, roster: Digest, cohort: Sequence[str], survivors: Sequence[str], weights: str
) -> dict[str, Any]:
    """What a member signs, for one list at most, in the extra exchange: "unmask these or nothing". Raises as above."""
    return {
        **cohort_statement(terms, roster, cohort, weights),
        "survivors_digest": digest_of(sorted(survivors)),
    }


def needs_endorsed_list(cohort: Sequence[str], survivors: Sequence[str]) -> bool:
    """Whether unmasking `survivors` takes a quorum of list signatures: not for the whole cohort (clause 5.4)."""
    return sorted(survivors) != sorted(cohort)


def sealed_bytes(terms: RoundTerms) -> int:
    """Length of one sealed bundle: a share of each secret, and a tag."""
    return bundle_bytes(terms) + TAG_BYTES


def bundle_bytes(terms: RoundTerms) -> int:
    """Length of one bundle: shares of the mask key, of each noise step's seed and of the self mask's."""
    return (2 + terms.tolerance_steps) * SHARE_BYTES


def encode(data: bytes) -> str:
    """Base64 text of `data`."""
    return base64.b64encode(data).decode("ascii")


def decode(text: str, size_bytes: int, what: str) -> bytes:
    """The `size_bytes` bytes that `text` spells in base64. Raises InvalidMessage; `what` names it there."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True) if len(text) <= 2 * size_bytes + 4 else b""
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != size_bytes:
        raise InvalidMessage(
            f"In {what}, {size_bytes} bytes in base64 were expected, and this text of {len(text)} characters "
            "does not spell them. It was not used. The sender runs other software or is not honest."
        )
    return data


def check_signature(text: str, what: str) -> None:
    """Raise InvalidMessage unless `text` has the form of a signature."""
    _check(_SIGNATURE, text, f"the signature of {what}", "128 lower-case hex digits")


def split_endorsement(text: str) -> tuple[str, str]:
    """An endorsement's signature, and the `offer_digest` that it covers: "" for none.

    Raises InvalidMessage for anything but 128 lower-case hex digits, or 192.
    """
    _check(_ENDORSEMENT, text, "the signature of a list of members", "128 or 192 lower-case hex digits")
    return text[:128], text[128:]


def check_member_ids(names: Iterable[str]) -> None:
    """Raise InvalidMessage for a name that is none, or for more of them than MAXIMUM_MEMBERS + 1."""
    for count, name in enumerate(names):
        if count > MAXIMUM_MEMBERS:
            raise InvalidMessage(
                f"A round may name {MAXIMUM_MEMBERS} members, this message names more. It was not used. "
                "Split the consortium into smaller runs."
            )
        _check(_MEMBER_ID, name, "a member's name", "1 to 64 letters, digits, '_', '.' or '-'")


def _check(pattern: re.Pattern[str], text: str, what: str, form: str) -> None:
    if not pattern.match(text):
        raise InvalidMessage(
            f"{what[0].upper()}{what[1:]} must be {form}; this one is not. The message was not used. "
            "The sender runs other software or is not honest."
        )
