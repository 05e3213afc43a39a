"""The signatures that keep one round to one sum, checked alike at a member and at the coordinator (clause 5.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.domain.errors import UnmaskRefused
from shared.secagg.messages import (
    KIND_SURVIVORS,
    check_signature,
    cohort_statement,
    needs_endorsed_list,
    survivors_statement,
)
from shared.secagg.parameters import RoundTerms
from shared.secagg.roster import Roster, Verify


def check_endorsement(
    terms: RoundTerms,
    roster: Roster,
    cohort: Sequence[str],
    named: Sequence[str],
    public_hex: str,
    signature: str,
    verify: Verify,
) -> None:
    """Whether `signature` by `public_hex` is under `named`: the whole cohort or a smaller list, both sorted.

    Raises InvalidMessage for its form, and what `verify` raises (BadSignature).
    """
    check_signature(signature, "a list of members")
    verify(public_hex, KIND_SURVIVORS, _statement(terms, roster, cohort, named), signature)


def check_endorsements(
    terms: RoundTerms,
    roster: Roster,
    cohort: Sequence[str],
    chosen: Sequence[str],
    told: Mapping[str, str],
    listed: Mapping[str, str],
    identity_keys: Mapping[str, str],
    verify: Verify,
) -> None:
    """Whether `chosen` may be unmasked: every survivor masked for this cohort, and a quorum fixed a smaller list.

    `told`: survivor → signature under the cohort. `listed`: survivor → signature under `chosen`, needed
    where that is not the whole cohort. Raises UnmaskRefused, InvalidMessage, and what `verify` raises.
    """
    if set(told) != set(chosen):
        raise UnmaskRefused(
            f"The signatures of all {len(chosen)} survivors under the cohort were expected, those of "
            f"{len(set(told) & set(chosen))} came. Nothing was unmasked. The coordinator must send each."
        )
    _check_all(_statement(terms, roster, cohort, cohort), told, identity_keys, verify)
    if not needs_endorsed_list(cohort, chosen):
        return
    if len(listed) < terms.quorum or not set(listed) <= set(chosen):
        raise UnmaskRefused(
            f"This list of survivors needs the signatures of {terms.quorum} of its members (the plan's quorum), "
            f"{len(set(listed) & set(chosen))} came. Nothing was unmasked. The coordinator must collect more."
        )
    _check_all(_statement(terms, roster, cohort, chosen), listed, identity_keys, verify)


def _check_all(
    statement: Mapping[str, Any],
    signatures: Mapping[str, str],
    identity_keys: Mapping[str, str],
    verify: Verify,
) -> None:
    for member, signature in sorted(signatures.items()):
        check_signature(signature, "a list of members")
        verify(identity_keys[member], KIND_SURVIVORS, statement, signature)


def _statement(
    terms: RoundTerms, roster: Roster, cohort: Sequence[str], named: Sequence[str]
) -> dict[str, Any]:
    if needs_endorsed_list(cohort, named):
        return survivors_statement(terms, roster.digest, cohort, named)
    return cohort_statement(terms, roster.digest, cohort)
