"""A verified release in numbers and names that a stranger can read: what `commonlens verify --explain` shows.

Facts only; explanation_page.py prints them. Everything here was proven before (a `VerifiedRelease` is the only way
in), and every ε is the one that was computed during the verification, beside the one that the certificate claims.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.certificate_proofs import Line, Recomputed
from shared.domain.privacy import Mode, Unit
from shared.domain.release import CertificateMember, CohortRound
from shared.domain.run import RoundState
from shared.domain.strict import later, to_plain
from shared.extractors.files import TRAINED
from shared.privacy.accountant import ACCOUNTANT
from shared.release.fingerprint import fingerprint
from shared.release.lineage import Link
from shared.release.promise import believed, not_promised, promise, right_at_most
from shared.verification import VerifiedRelease

EXPLANATION_FORMAT: Final = "commonlens-explanation/1"
SUSPICION: Final = 0.01
"""The second prior that ε is read at, beside an even bet."""


@dataclass(frozen=True)
class RoundFacts:
    """One attempt at a round. Whoever was asked is charged, also where nothing came of it (clause 7.1)."""

    number: int
    closed: bool
    asked: tuple[str, ...]
    """Member ids, as in `contributed` and `missing`."""
    contributed: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class MemberFacts:
    """One member: its part in the rounds, what it spent, and whose consent was checked."""

    member_id: str
    name: str
    identity_public_key: str
    identity_fingerprint: str
    """As `commonlens-participant peers` shows it."""
    consent_checked: bool
    """True for every member of a verified release: its identity key signed the plan's digest."""
    asked: int
    """Attempts of this release's run, closed or abandoned; so too the next two."""
    contributed: int
    missing: int
    charged_rounds: int
    """With those of the releases behind it."""
    spent: tuple[Recomputed, ...]
    """At the plan's δ, then at 1e-6."""
    right_at_most: Mapping[str, float]
    """`epsilon` and `alone`: how often a guess from an even bet can be right, at the plan's δ."""
    only_before: bool = later(False)
    """It took part in a release behind this one and not in this one's run; its consent is to that one's plan."""


@dataclass(frozen=True)
class BehindFacts:
    """A release that the weights came out of: its rounds are in every ε of the members that took part in them."""

    release: str
    consortium: str
    manifest_digest: str
    plan_digest: str
    run_id: str
    mode: Mode
    quorum: int
    colluders: int
    closed_rounds: int
    members: tuple[str, ...]
    """Ids of those asked in it."""


@dataclass(frozen=True)
class Explanation:
    """Everything of the page; `as_plain` is its JSON."""

    release: str
    consortium: str
    manifest_digest: str
    created_at: str
    plan_digest: str
    run_id: str
    mode: Mode
    unit: Unit
    relation: str
    accountant: str
    """What computed the numbers here. What the certificate names as its own is the publisher's word."""
    quorum: int
    colluders: int
    planned_rounds: int
    release_key: str
    root_keys: tuple[str, ...]
    root_pinned: bool
    proofs: Mapping[str, str]
    members: tuple[MemberFacts, ...]
    rounds: tuple[RoundFacts, ...]
    promise: str
    not_promised: tuple[str, ...]
    believed: tuple[str, ...]
    format: str = EXPLANATION_FORMAT
    behind: tuple[BehindFacts, ...] = later(())
    """The newest first; empty where it started from no trained release."""

    @property
    def names(self) -> dict[str, str]:
        """Member id → name."""
        return {member.member_id: member.name for member in self.members}

    def as_plain(self) -> dict[str, Any]:
        """As dicts and lists, for JSON. Every number in it is finite."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def explain(release: VerifiedRelease) -> Explanation:
    """The facts of a release that was verified."""
    certificate, plan, manifest = release.certificate, release.plan, release.manifest
    return Explanation(
        release=manifest.release,
        consortium=manifest.consortium,
        manifest_digest=release.manifest_digest,
        created_at=manifest.created_at,
        plan_digest=certificate.plan_digest,
        run_id=certificate.run_id,
        mode=plan.privacy.mode,
        unit=certificate.unit,
        relation=certificate.relation,
        accountant=ACCOUNTANT,
        quorum=plan.quorum,
        colluders=plan.colluders,
        planned_rounds=plan.rounds,
        release_key=release.trust.release_key,
        root_keys=release.trust.root.keys,
        root_pinned=release.pinned,
        proofs={proof.name: proof.line for proof in release.proofs},
        members=tuple(
            _member(member, release.line, release.recomputed[member.member_id])
            for member in certificate.members
        ),
        rounds=tuple(_round(cohort) for cohort in certificate.rounds),
        promise=promise(plan),
        not_promised=not_promised(plan) + _not_composed(release),
        believed=believed(plan, pinned=release.pinned),
        behind=tuple(map(_behind, release.line[1:])),
    )


def belief_at_most(epsilon: float, prior: float) -> float:
    """What a belief of `prior` about one unit can become: its odds times e^ε, but for what δ allows.

    They can be more than that: beyond twice as much with a chance of at most 2δ, because δ is the mean of
    (1 - e^(ε - loss)) over losses above ε, and at least half the chance of one above ε + ln 2.
    """
    return 1.0 / (1.0 + math.exp(-min(epsilon, 700.0)) * (1.0 - prior) / prior)


def factor_text(epsilon: float) -> str:
    """e^ε as people read it: rounded up to three digits, because it is a bound."""
    growth = math.exp(min(epsilon, 700.0))
    if growth >= 1e6:
        return "over a million"
    unit = 10.0 ** (math.floor(math.log10(growth)) - 2)
    shown = math.ceil(growth / unit - 1e-9) * unit
    return f"{shown:,.0f}" if shown >= 100.0 else f"{shown:.3g}"


def _member(member: CertificateMember, line: Line, spent: tuple[Recomputed, ...]) -> MemberFacts:
    own, who = line[0], member.member_id
    asked = [cohort for cohort in own.certificate.rounds if who in cohort.asked]
    contributed = sum(who in cohort.contributed for cohort in asked)
    return MemberFacts(
        member_id=who,
        name=member.name,
        identity_public_key=member.identity_public_key,
        identity_fingerprint=fingerprint(member.identity_public_key),
        consent_checked=True,
        asked=len(asked),
        contributed=contributed,
        missing=len(asked) - contributed,
        charged_rounds=sum(
            len({cohort.number for cohort in link.certificate.rounds if who in cohort.asked}) for link in line
        ),
        spent=spent,
        right_at_most={
            "epsilon": right_at_most(spent[0].epsilon, own.plan.privacy.delta),
            "alone": right_at_most(spent[0].alone, own.plan.privacy.delta),
        },
        only_before=not asked,
    )


def _behind(link: Link) -> BehindFacts:
    rounds = link.certificate.rounds
    asked = {member_id for cohort in rounds for member_id in cohort.asked}
    return BehindFacts(
        release=link.release,
        consortium=link.plan.consortium,
        manifest_digest=link.manifest_digest,
        plan_digest=link.certificate.plan_digest,
        run_id=link.certificate.run_id,
        mode=link.plan.privacy.mode,
        quorum=link.plan.quorum,
        colluders=link.plan.colluders,
        closed_rounds=sum(cohort.state is RoundState.CLOSED for cohort in rounds),
        members=tuple(m.member_id for m in link.certificate.members if m.member_id in asked),
    )


def _not_composed(release: VerifiedRelease) -> tuple[str, ...]:
    """Where the weights say that they started from a release and the plan names none: it was made before plans did."""
    origin = release.weights.origin
    if origin is None or origin.kind != TRAINED or release.plan.starting_release is not None:
        return ()
    return (
        f"What {origin.name[:80]} cost its members: the weights say that they started from it, and the plan, of an "
        "earlier version, does not name it. Compose both releases' numbers.",
    )


def _round(cohort: CohortRound) -> RoundFacts:
    came = set(cohort.contributed)
    return RoundFacts(
        number=cohort.number,
        closed=cohort.state is RoundState.CLOSED,
        asked=cohort.asked,
        contributed=cohort.contributed,
        missing=tuple(member_id for member_id in cohort.asked if member_id not in came),
    )
