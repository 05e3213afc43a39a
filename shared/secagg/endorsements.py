"""The signatures that keep one round to one sum, checked alike at a member and at the coordinator (clause 5.4).

An endorsement is a signature as hex; that of a contribution also covers the keys that its member offers for the
next round, and is followed by their `offer_digest`. So who checks everybody's endorsements, and is then given
the next roster, checks half as many signatures (`accepting_vouched`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from shared.domain.errors import UnmaskRefused
from shared.secagg.messages import (
    KIND_ROUND_KEY,
    KIND_SURVIVORS,
    check_signature,
    cohort_statement,
    needs_endorsed_list,
    offer_digest,
    split_endorsement,
    survivors_statement,
    with_next_offer,
)
from shared.secagg.parameters import RoundTerms
from shared.secagg.roster import Roster, Verify

Vouched = tuple[str, str]
"""Identity key (hex) and the `offer_digest` that it signed."""


def check_endorsement(
    terms: RoundTerms,
    roster: Roster,
    cohort: Sequence[str],
    named: Sequence[str],
    public_hex: str,
    endorsement: str,
    verify: Verify,
    weights: str,
) -> None:
    """Whether `endorsement` by `public_hex` is under `named`: the whole cohort or a smaller list, both sorted.

    `weights`: digest of those that were trained from. Raises InvalidMessage for its form or the endorsement's, and
    what `verify` raises (BadSignature).
    """
    if needs_endorsed_list(cohort, named):
        statement = survivors_statement(terms, roster.digest, cohort, named, weights)
        _check_list(statement, public_hex, endorsement, verify)
    else:
        statement = cohort_statement(terms, roster.digest, cohort, weights)
        _check_cohort(statement, public_hex, endorsement, verify)


def check_endorsements(
    terms: RoundTerms,
    roster: Roster,
    cohort: Sequence[str],
    chosen: Sequence[str],
    told: Mapping[str, str],
    listed: Mapping[str, str],
    identity_keys: Mapping[str, str],
    verify: Verify,
    weights: str,
) -> frozenset[Vouched]:
    """Whether `chosen` may be unmasked: every survivor masked for this cohort, trained from the weights of this
    digest, and a quorum fixed a smaller list.

    `told`: survivor → endorsement of the cohort. `listed`: survivor → signature under `chosen`, needed
    where that is not the whole cohort. Returns the offers for the next round that the survivors signed with it.
    Raises UnmaskRefused, InvalidMessage, and what `verify` raises.
    """
    if set(told) != set(chosen):
        raise UnmaskRefused(
            f"The signatures of all {len(chosen)} survivors under the cohort were expected, those of "
            f"{len(set(told) & set(chosen))} came. Nothing was unmasked. The coordinator must send each."
        )
    statement = cohort_statement(terms, roster.digest, cohort, weights)
    vouched = {
        (identity_keys[member], _check_cohort(statement, identity_keys[member], told[member], verify))
        for member in sorted(told)
    }
    if needs_endorsed_list(cohort, chosen):
        if len(listed) < terms.quorum or not set(listed) <= set(chosen):
            raise UnmaskRefused(
                f"This list of survivors needs the signatures of {terms.quorum} of its members (the plan's "
                f"quorum), {len(set(listed) & set(chosen))} came. Nothing was unmasked. The coordinator must "
                "collect more."
            )
        statement = survivors_statement(terms, roster.digest, cohort, chosen, weights)
        for member in sorted(listed):
            _check_list(statement, identity_keys[member], listed[member], verify)
    return frozenset(vouched)


def accepting_vouched(vouched: Collection[Vouched], verify: Verify) -> Verify:
    """`verify`, but an offer that is among `vouched`, to the last byte and of that very identity, needs no more.

    The signature that was checked then covers its statement, so run, round, plan and keys, and its signature.
    """

    def check(public_hex: str, kind: str, value: Any, signature: str) -> None:
        if kind != KIND_ROUND_KEY or (public_hex, offer_digest(value, signature)) not in vouched:
            verify(public_hex, kind, value, signature)

    return check


def _check_cohort(statement: Mapping[str, Any], public_hex: str, endorsement: str, verify: Verify) -> str:
    """The `offer_digest` that a correct endorsement of the whole cohort covers, or ""."""
    signature, next_offer = split_endorsement(endorsement)
    verify(public_hex, KIND_SURVIVORS, with_next_offer(statement, next_offer), signature)
    return next_offer


def _check_list(statement: Mapping[str, Any], public_hex: str, signature: str, verify: Verify) -> None:
    check_signature(signature, "a list of members")
    verify(public_hex, KIND_SURVIVORS, statement, signature)
