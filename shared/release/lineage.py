"""What a release cost with all that its weights came out of: its own run, the release it started from, and so on back.

Weights that go on from a release are a function of the records behind it too. So a certificate carries the one of its
predecessor, and what each member spent is composed over all of their rounds (clause 9.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.domain.canonical import digest_of, digest_of_bytes
from shared.domain.errors import DigestMismatch, Invalid, UnsoundPlan
from shared.domain.files import json_file
from shared.domain.plan import Plan
from shared.domain.privacy import Mode
from shared.domain.release import (
    CERTIFICATE_FILE,
    CERTIFICATE_FORMAT,
    WEIGHTS_FILE,
    Certificate,
    Manifest,
    Predecessor,
)
from shared.domain.strict import to_plain
from shared.release import limits
from shared.release.certificate import Spend, check_bounds, group_events, spends
from shared.release.manifest import parse_manifest, plan_of


@dataclass(frozen=True)
class Link:
    """One release of a line in which each but the last started from the next."""

    release: str
    manifest_digest: str
    plan: Plan
    certificate: Certificate
    weights_digest: str
    """Of its weights file, as its manifest promises it."""


def open_predecessor(predecessor: Predecessor) -> Link:
    """Read the direct predecessor. Raises Invalid, and DigestMismatch where its parts are not of one release."""
    manifest = parse_manifest({"signed": dict(predecessor.manifest), "signatures": []}).claimed
    if not isinstance(manifest, Manifest):
        raise Invalid(
            f"{manifest.release} was not trained, so it has no certificate to compose. Nothing was read. Name "
            "one that was."
        )
    written = to_plain(predecessor.certificate)
    promised, found = manifest.files.get(CERTIFICATE_FILE), digest_of_bytes(json_file(written))
    if promised is None or promised.digest != found:
        raise DigestMismatch(
            f"The certificate of {manifest.release}, which this release started from, is not the one that its "
            f"manifest promises: {found[:23]}…. Nothing was composed. Do not rely on it; tell the consortium."
        )
    certificate = predecessor.certificate
    if certificate.format != CERTIFICATE_FORMAT:
        raise Invalid(
            f"The certificate of {manifest.release} should be of the format {CERTIFICATE_FORMAT}. Nothing was "
            "composed. Get it again from where it came."
        )
    check_bounds(certificate)
    if (certificate.plan_digest, certificate.run_id) != (manifest.plan_digest, manifest.run_id):
        raise DigestMismatch(
            f"Manifest and certificate of {manifest.release}, which this release started from, are of two runs. "
            "Nothing was composed. Do not rely on it; tell the consortium."
        )
    digest = digest_of(dict(predecessor.manifest))
    return Link(manifest.release, digest, plan_of(manifest), certificate, manifest.files[WEIGHTS_FILE].digest)


def links_behind(plan: Plan, predecessor: Predecessor | None) -> tuple[Link, ...]:
    """All trained releases behind a run of `plan`, the newest first; empty where it started from none.

    Raises DigestMismatch where `predecessor` is not the one that the plan names, or one further back is not what the
    plan before names; Invalid for more than limits.ANCESTORS; UnsoundPlan as `check_continues`.
    """
    found: list[Link] = []
    while plan.starting_release is not None or predecessor is not None:
        if len(found) == limits.ANCESTORS:
            raise Invalid(
                f"A release may have {limits.ANCESTORS} others behind it, this one has more. Nothing was composed. "
                "Start the next line of releases anew."
            )
        one = _named(plan, predecessor)
        check_continues(plan, one.plan, one.release)
        found.append(one)
        plan, predecessor = one.plan, one.certificate.predecessor
    return tuple(found)


def check_continues(plan: Plan, before: Plan, release: str) -> None:
    """Raise UnsoundPlan unless what `plan` promises holds of the rounds of `before` too, which its release is made of.

    The unit must be one, and δ no larger: it is bounded by how many units each member has (clause 7.3), also one that
    does not go on. A plan of mode local promises to count on nobody, and one of mode secure to hold against its
    colluders: neither can be said of rounds that counted on more.
    """
    wanted, had = plan.privacy, before.privacy
    because, next_step = "", ""
    if wanted.unit is not had.unit:
        because = (
            f"hides one {had.unit.value} and the plan one {wanted.unit.value}: what both cost cannot be added"
        )
        next_step = f"Plan for the unit {had.unit.value}"
    elif wanted.mode is Mode.LOCAL and had.mode is Mode.SECURE:
        because = "was trained in mode secure, and a plan of mode local promises to count on nobody"
        next_step = "Plan in mode secure"
    elif wanted.mode is had.mode is Mode.SECURE and plan.colluders > before.colluders:
        because = f"holds against {before.colluders} colluders, and the plan promises {plan.colluders}"
        next_step = f"Set colluders = {before.colluders}"
    elif wanted.delta > had.delta:
        because = f"promises its ε at δ {had.delta:g}, and the plan at δ {wanted.delta:g}"
        next_step = f"Set delta = {had.delta:g}"
    if because:
        raise UnsoundPlan(
            f"{release} {because}. The plan was not accepted. {next_step}, or start from other weights."
        )


def composed(runs: Iterable[Mapping[str, Spend]]) -> dict[str, Spend]:
    """What every member was charged over all the runs together; each as `certificate.spends` gives it."""
    by_member: dict[str, list[Spend]] = {}
    for run in runs:
        for member_id, spend in run.items():
            by_member.setdefault(member_id, []).append(spend)
    return {member_id: _add(each) for member_id, each in by_member.items()}


def spends_of(links: Iterable[Link]) -> list[dict[str, Spend]]:
    """What every member was charged in the run of each release by itself."""
    return [spends(link.plan, link.certificate.rounds) for link in links]


def _add(spends_of_member: list[Spend]) -> Spend:
    return Spend(
        group_events(event for spend in spends_of_member for event in spend.events),
        group_events(event for spend in spends_of_member for event in spend.events_alone),
    )


def _named(plan: Plan, predecessor: Predecessor | None) -> Link:
    """`predecessor`, which must be what the plan names."""
    named = plan.starting_release
    if predecessor is None:
        raise DigestMismatch(
            f"The plan starts from {named.release[:80] if named else 'a release'}, and nothing of that release's "
            "certificate is here: what it cost its members would be left out. Nothing was composed. Do not rely on it; "
            "tell the consortium."
        )
    found = open_predecessor(predecessor)
    if named is None or (named.release, named.manifest_digest) != (found.release, found.manifest_digest):
        raise DigestMismatch(
            f"The plan starts from {named.release[:80] if named else 'no trained release'}, the certificate composes "
            f"{found.release} ({found.manifest_digest[:23]}…). Nothing was composed. Do not rely on it; tell the "
            "consortium."
        )
    return found
