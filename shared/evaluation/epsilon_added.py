"""What a second release of a line adds to each member's ε: both numbers of clause 3.7, before, after and together."""

from __future__ import annotations

import math

from shared.domain.errors import Invalid
from shared.evaluation.release_shape import MemberSpent, Spent
from shared.privacy import accountant
from shared.release.certificate import Spend
from shared.release.lineage import Link, composed, spends_of
from shared.verification import VerifiedExtractor, VerifiedRelease


def spent_in_both(before: VerifiedExtractor, after: VerifiedExtractor) -> tuple[tuple[MemberSpent, ...], str]:
    """Every member at every δ that both state (1e-6 is always among them), or why there is nothing to compare."""
    if not isinstance(before, VerifiedRelease):
        return (), _not_trained(before)
    if not isinstance(after, VerifiedRelease):
        return (), _not_trained(after)
    lines = [(each.manifest.consortium, each.manifest.extractor_name) for each in (before, after)]
    if lines[0] != lines[1]:
        names = [f"{name} of {consortium}" for consortium, name in lines]
        return (), f"{names[0]} and {names[1]} are two lines, each with an ε of its own."
    units = [each.certificate.unit for each in (before, after)]
    if units[0] is not units[1]:
        return (), f"one hides a {units[0].value}, the other a {units[1].value}: two different promises."
    deltas = [delta for delta in _deltas(before) if delta in _deltas(after)]
    members = {m.member_id: m.name for each in (before, after) for m in each.certificate.members}
    return tuple(
        _member(member_id, name, delta, before, after)
        for member_id, name in members.items()
        for delta in deltas
    ), ""


def _not_trained(release: VerifiedExtractor) -> str:
    return f"{release.manifest.release} was not trained here, so it saw no member's records."


def _member(
    member_id: str, name: str, delta: float, before: VerifiedRelease, after: VerifiedRelease
) -> MemberSpent:
    first, second = (_at(release, member_id, delta) for release in (before, after))
    if first and second:
        together = _composed(composed(_runs_of_both(before, after))[member_id], delta)
    else:
        known = [spent for spent in (first, second) if spent is not None]
        together = Spent(max(each.epsilon for each in known), max(each.alone for each in known))
    return MemberSpent(member_id, name, delta, first, second, together)


def _runs_of_both(before: VerifiedRelease, after: VerifiedRelease) -> list[dict[str, Spend]]:
    """Each run behind either of them once, as far as it went: one may go on from the other, or both be of one run."""
    furthest: dict[tuple[str, str], Link] = {}
    for link in (*before.line, *after.line):
        key = (link.certificate.plan_digest, link.certificate.run_id)
        known = furthest.get(key)
        if known is None or len(link.certificate.rounds) > len(known.certificate.rounds):
            furthest[key] = link
    return spends_of(furthest.values())


def _deltas(release: VerifiedRelease) -> tuple[float, ...]:
    return tuple(r.delta for r in next(iter(release.recomputed.values())))


def _at(release: VerifiedRelease, member_id: str, delta: float) -> Spent | None:
    every = release.recomputed.get(member_id, ())
    return next((Spent(r.epsilon, r.alone) for r in every if r.delta == delta), None)


def _composed(spend: Spend, delta: float) -> Spent:
    found = accountant.epsilon(spend.events, delta), accountant.epsilon(spend.events_alone, delta)
    if not all(map(math.isfinite, found)):
        raise Invalid(
            "Both releases together have no finite ε. Nothing was compared. Read what each says of itself with "
            "verify --explain."
        )
    return Spent(*found)
