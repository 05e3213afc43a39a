"""The privacy certificate (clause 9.2): reading it, and what its cohorts say every member was charged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shared.domain.errors import Invalid
from shared.domain.plan import Plan
from shared.domain.privacy import GaussianEvent
from shared.domain.release import CERTIFICATE_FORMAT, Certificate, CohortRound, ConsentRecord
from shared.release import limits
from shared.release.envelope import AGAIN, read_signed
from shared.release.signing import SigningKey, is_public_key, verify_value


def sign_consent(plan: Plan, member_id: str, name: str, identity_key: SigningKey) -> ConsentRecord:
    """A member's consent to a plan (clause 8.2), and to stand in its releases as `name` (clause 8.4)."""
    unsigned = consent_record(plan, member_id, name, "")
    return replace(unsigned, signature=identity_key.sign_value("consent", _said(unsigned)))


def consent_record(plan: Plan, member_id: str, name: str, signature: str) -> ConsentRecord:
    """The record of a member's signature under its consent. Plans of earlier versions name their members themselves."""
    planned = plan.member(member_id)
    named_there = planned is not None and planned.name
    return ConsentRecord(member_id, str(plan.digest), signature, "" if named_there else name)


def check_consent(consent: ConsentRecord, identity_public_key: str) -> None:
    """Raise BadSignature unless the identity key signed this plan's digest, this member's id and its name."""
    verify_value(identity_public_key, "consent", _said(consent), consent.signature)


def _said(consent: ConsentRecord) -> dict[str, str]:
    if not consent.name:
        return {"plan_digest": consent.plan_digest}
    # With the id, else a publisher could put the name to another member's rounds, which the plan lists by id alone.
    return {"plan_digest": consent.plan_digest, "member_id": consent.member_id, "name": consent.name}


def group_events(events: Iterable[GaussianEvent]) -> tuple[GaussianEvent, ...]:
    """The same events with equal (σ, q) added together, in a fixed order."""
    counts: Counter[tuple[float, float]] = Counter()
    for event in events:
        counts[(event.noise_multiplier, event.sampling_rate)] += event.count
    return tuple(
        GaussianEvent(sigma, rate, count) for (sigma, rate), count in sorted(counts.items()) if count
    )


@dataclass(frozen=True)
class Spend:
    """What one member was charged, for both numbers of clause 3.7; in mode local they are one."""

    events: tuple[GaussianEvent, ...]
    events_alone: tuple[GaussianEvent, ...]


def spends(plan: Plan, rounds: Iterable[CohortRound]) -> dict[str, Spend]:
    """What every member was charged over `rounds`: each round it was asked in, once, whatever came of it.

    A round number asked twice (the round was started again) is one charge: the member's ledger charges each
    round of a run once, and a retry sends the sealed bytes (clauses 3.8, 7.1).
    """
    asked_in: dict[str, set[int]] = {}
    for cohort in rounds:
        for member_id in cohort.asked:
            asked_in.setdefault(member_id, set()).add(cohort.number)
    found: dict[frozenset[int], Spend] = {}
    for numbers in map(frozenset, asked_in.values()):
        if numbers not in found:
            found[numbers] = Spend(
                group_events(event for number in numbers for event in plan.events_of_round(number)),
                group_events(event for number in numbers for event in plan.events_alone_of_round(number)),
            )
    return {member_id: found[frozenset(numbers)] for member_id, numbers in asked_in.items()}


def parse_certificate(value: Mapping[str, Any]) -> Certificate:
    """The certificate with its form and bounds checked, its claims not. Raises Invalid."""
    _check_depth(value)
    certificate = read_signed(Certificate, CERTIFICATE_FORMAT, value, "certificate")
    check_bounds(certificate)
    return certificate


def check_bounds(certificate: Certificate) -> None:
    """Raise Invalid for what would take too long to prove, and for two lines of one member."""
    if len(certificate.members) > limits.MEMBERS or len(certificate.rounds) > limits.ROUNDS:
        raise Invalid(
            f"A certificate has at most {limits.MEMBERS} members and {limits.ROUNDS} rounds; this one has "
            f"{len(certificate.members)} and {len(certificate.rounds)}. {AGAIN}"
        )
    for what, texts in (
        ("member", [member.member_id for member in certificate.members]),
        ("identity key", [member.identity_public_key for member in certificate.members]),
        ("consent", [consent.member_id for consent in certificate.consents]),
    ):
        if len(set(texts)) != len(texts):
            raise Invalid(f"The certificate names one {what} twice. {AGAIN}")
    for member in certificate.members:
        if not is_public_key(member.identity_public_key):
            raise Invalid(f"The certificate's line {member.member_id} has no valid identity key. {AGAIN}")
        _check_events(member.member_id, member.events, limits.LEAST_NOISE_MULTIPLIER)
        _check_events(member.member_id, member.events_alone or (), limits.LEAST_NOISE_MULTIPLIER_ALONE)
    for cohort in certificate.rounds:
        if cohort.number < 1:
            raise Invalid(f"Rounds count from 1; the certificate has a round {cohort.number}. {AGAIN}")


def _check_depth(value: Mapping[str, Any]) -> None:
    """Refuse more certificates inside each other than may be, before they are read one inside the other."""
    deep, inside = 0, value.get("predecessor")
    while isinstance(inside, Mapping):
        deep += 1
        if deep > limits.ANCESTORS:
            raise Invalid(
                f"A certificate may have {limits.ANCESTORS} others inside it, this one has more. {AGAIN}"
            )
        certificate = inside.get("certificate")
        inside = certificate.get("predecessor") if isinstance(certificate, Mapping) else None


def _check_events(member_id: str, events: tuple[GaussianEvent, ...], least: float) -> None:
    """Refuse what the accountant could not compute in bounded time, before it is asked to."""
    if len({(e.noise_multiplier, e.sampling_rate) for e in events}) > limits.DISTINCT_EVENTS:
        raise Invalid(
            f"The certificate gives {member_id} more than {limits.DISTINCT_EVENTS} kinds of event. {AGAIN}"
        )
    for event in events:
        if not least <= event.noise_multiplier <= limits.MOST_NOISE_MULTIPLIER:
            raise Invalid(
                f"The certificate gives {member_id} an event with σ {event.noise_multiplier}; it is between "
                f"{least} and {limits.MOST_NOISE_MULTIPLIER}. {AGAIN}"
            )
        if not (0 < event.sampling_rate <= 1) or event.count < 1:
            raise Invalid(f"The certificate gives {member_id} an event that cannot be. {AGAIN}")
    if sum(event.count for event in events) > limits.MOST_EVENT_COUNT:
        raise Invalid(
            f"The certificate gives {member_id} more than {limits.MOST_EVENT_COUNT} events. {AGAIN}"
        )
