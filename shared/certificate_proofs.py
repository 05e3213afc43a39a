"""Proofs 6 to 9, those of the privacy certificate: consents, cohorts, a sound plan, and every ε (clause 9.2).

Each gives one line with what was compared, or raises. What the certificate claims is never merely read: both
numbers of clause 3.7 are computed here, from the plan and from who was asked in which round.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NoReturn

from shared.domain.errors import CertificateWrong, CommonlensError, ProofFailed
from shared.domain.plan import Plan
from shared.domain.privacy import RELATION, REPORTED_DELTA, GaussianEvent, Mode, PrivacyGuarantee
from shared.domain.release import Certificate, CertificateMember, CohortRound
from shared.domain.run import RoundState
from shared.privacy import accountant
from shared.privacy.soundness import check_soundness
from shared.release.certificate import check_consent, group_events
from shared.release.lineage import Link, composed, spends_of
from shared.release.promise import alone_text, epsilon_text

Line = Sequence[Link]
"""A release, then the trained releases behind it, the newest first."""
ADVICE: Final = "Do not rely on it; tell the consortium."
EPSILON_SLACK: Final = 1e-4
"""Relative: the same grid on another processor may differ in the last digits, never by this much."""


@dataclass(frozen=True)
class Recomputed:
    """One member's ε at one δ as computed here, beside what the certificate claims.

    `alone`: if every other member and the coordinator deviate (clause 3.7); in mode local the same number.
    """

    delta: float
    epsilon: float
    claimed: float
    alone: float
    alone_claimed: float


def prove_consents(line: Line) -> tuple[None, str]:
    """Every member on the certificate, and nobody else, signed the digest of the plan that it was asked under (8.2),
    its id there and its name (8.4).

    Who took part only in a release before stands on the certificate too: its consent is on that one's.
    """
    for number, link in enumerate(line):
        with _named(link, line):
            _check_consents(link, line[number + 1].certificate if number + 1 < len(line) else None)
    _check_identities(line)
    signed, every = len(line[0].certificate.consents), len(line[0].certificate.members)
    before = f", {every - signed} only that of a release before" if every > signed else ""
    return None, f"{signed} members signed this plan's digest{before}"


def _check_identities(line: Line) -> None:
    """One key for each id in all of the line, else what one member spent is added up as two's.

    One id for each key follows: the newest certificate names everybody in the line, and no key twice.
    """
    keys: dict[str, str] = {}
    for link in line:
        for member in link.certificate.members:
            if keys.setdefault(member.member_id, member.identity_public_key) != member.identity_public_key:
                _fail(
                    f"{member.member_id} has another identity key in {link.release} than in a release after it."
                )


def _check_consents(link: Link, before: Certificate | None) -> None:
    plan, certificate = link.plan, link.certificate
    consents = {consent.member_id: consent for consent in certificate.consents}
    names = {member.member_id for member in certificate.members}
    earlier = {(m.member_id, m.name, m.identity_public_key) for m in before.members} if before else set()
    missing = 0
    for member in certificate.members:
        consent = consents.get(member.member_id)
        if consent is None:
            missing += (member.member_id, member.name, member.identity_public_key) not in earlier
            continue
        planned = plan.member(member.member_id)
        if planned is None:
            _fail(f"The certificate's member {member.member_id} is not in the plan.")
        # One of both says it: whoever signed a name did not agree to another that the plan has for it.
        if not member.name or {planned.name, consent.name} != {member.name, ""}:
            _fail(f"{member.member_id} did not consent to the name that the certificate gives it.")
        if consent.plan_digest != certificate.plan_digest:
            _fail(f"The consent of {member.member_id} is to another plan.")
        check_consent(consent, member.identity_public_key)
    if missing:
        _fail(f"The certificate has {len(names)} members and consents of {len(names) - missing} of them.")
    strangers = sorted(set(consents) - names)
    if strangers:
        _fail(f"The certificate has a consent of {strangers[0]}, who is not among its members.")


def prove_cohorts(line: Line) -> tuple[None, str]:
    """A run takes its rounds one after the other, so a certificate cannot leave any of them out.

    Each is closed once. In mode secure one may also end with nothing for good, because no other cohort can take
    it up again (clause 3.8): it stands there as abandoned, and is charged like any other.
    """
    said = []
    for link in line:
        with _named(link, line):
            said.append(_check_rounds(link.plan, link.certificate))
    before = [f"{each} before it in {link.release}" for each, link in zip(said[1:], line[1:], strict=True)]
    return None, "; ".join([said[0] + f", quorum {line[0].plan.quorum}", *before])


def _check_rounds(plan: Plan, certificate: Certificate) -> str:
    known = {consent.member_id for consent in certificate.consents}
    number, closed, is_closed = 0, 0, True
    asked: set[str] = set()
    for cohort in certificate.rounds:
        _check_cohort(cohort, known)
        asked |= set(cohort.asked)
        if cohort.number < number:
            _fail(f"Round {cohort.number} is closed twice or out of order.")
        if cohort.number != number:
            if cohort.number != number + 1 or not (is_closed or plan.privacy.mode is Mode.SECURE):
                _fail(f"Round {cohort.number} stands there before round {number + is_closed} was closed.")
            number, is_closed = cohort.number, False
        if cohort.state is RoundState.CLOSED:
            if len(cohort.contributed) < plan.quorum:
                _fail(
                    f"Round {cohort.number}: the plan needs {plan.quorum} contributions, "
                    f"{len(cohort.contributed)} came."
                )
            if is_closed:
                _fail(f"Round {cohort.number} is closed twice or out of order.")
            closed, is_closed = closed + 1, True
    if not 1 <= closed <= plan.rounds:
        _fail(f"The plan has 1 to {plan.rounds} rounds, the certificate closes {closed}.")
    if asked != known:
        _fail(f"The certificate has consents of {len(known)} members, its rounds asked {len(asked)}.")
    count = len(certificate.rounds)
    return f"{count} round{'' if count == 1 else 's'}, {closed} averaged"


def prove_sound(line: Line) -> tuple[None, str]:
    """The plan's privacy argument holds by its own numbers: what every member checked before it consented."""
    for link in line:
        with _named(link, line):
            check_soundness(link.plan)
    plan = line[0].plan
    if plan.privacy.mode is Mode.LOCAL:
        return None, f"mode local, noise {plan.privacy.noise_multiplier:g} times the clip at each member"
    members = len(plan.members)
    return None, (
        f"mode secure, quorum {plan.quorum} is above ({members} + {plan.colluders}) / 2, noise "
        f"{plan.privacy.noise_multiplier:g} times the sensitivity in every sum"
    )


def prove_epsilon(line: Line) -> tuple[Mapping[str, tuple[Recomputed, ...]], str]:
    """Every ε of every member, computed from its rounds in the whole line; the certificate claims no less of any."""
    plan, certificate = line[0].plan, line[0].certificate
    if certificate.unit is not plan.privacy.unit or certificate.relation != RELATION:
        _fail("The certificate's unit or relation is not the plan's.")
    books = _Books(line)
    recomputed = {member.member_id: books.member(member) for member in certificate.members}
    first = [lines[0] for lines in recomputed.values()]
    highest, alone = max(r.epsilon for r in first), max(r.alone for r in first)
    over = f", with what {line[1].release} cost before it" if len(line) > 1 else ""
    return recomputed, (
        f"highest ε {epsilon_text(highest)} at δ {plan.privacy.delta:g} per {plan.privacy.unit.value}; "
        f"{alone_text(highest, alone)}{over}"
    )


class _Books:
    """Recomputes members one after the other; equal events are composed once."""

    def __init__(self, line: Line) -> None:
        plan, self._certificate = line[0].plan, line[0].certificate
        self._secure = plan.privacy.mode is Mode.SECURE
        self._deltas = tuple(dict.fromkeys((plan.privacy.delta, REPORTED_DELTA)))
        self._spends = composed(spends_of(line))
        missing = [each for each in self._spends if self._certificate.member(each) is None]
        if missing:
            _wrong(
                f"{missing[0]} was charged in a release before this one, and the certificate does not name it."
            )
        self._known: dict[tuple[tuple[GaussianEvent, ...], float], float] = {}

    def member(self, member: CertificateMember) -> tuple[Recomputed, ...]:
        """At the plan's δ first. Raises ProofFailed or CertificateWrong."""
        who, spend = member.member_id, self._spends[member.member_id]
        self._check_events(who, member.events, spend.events)
        numbers = self._side(who, member.events, member.guarantees)
        alone = numbers
        if self._secure:
            if member.events_alone is None or member.guarantees_alone is None:
                _fail(f"{who}: mode secure has two numbers (clause 3.7), the certificate shows one.")
            self._check_events(f"{who}, alone", member.events_alone, spend.events_alone)
            alone = self._side(f"{who}, alone", member.events_alone, member.guarantees_alone)
        elif member.events_alone is not None or member.guarantees_alone is not None:
            _fail(f"{who}: mode local has one number, for whoever deviates; the certificate shows two.")
        return tuple(
            Recomputed(delta, *both, *both_alone)
            for delta, both, both_alone in zip(self._deltas, numbers, alone, strict=True)
        )

    def _check_events(
        self, who: str, listed: Iterable[GaussianEvent], charged: tuple[GaussianEvent, ...]
    ) -> None:
        """Every round a member was asked in is in its events; in mode secure nothing else is.

        Mode local lets more stand there, never less. In mode secure a list with more would let one of the two
        fit the member's ledger and the other one not.
        """
        counts = {(e.noise_multiplier, e.sampling_rate): e.count for e in group_events(listed)}
        for event in charged:
            found = counts.get((event.noise_multiplier, event.sampling_rate), 0)
            if found < event.count:
                _wrong(
                    f"{who}: its rounds make {event.count} events of σ {event.noise_multiplier:g}, the "
                    f"certificate lists {found}."
                )
        if self._secure and group_events(listed) != charged:
            _wrong(
                f"{who}: its rounds make {sum(e.count for e in charged)} events, the certificate lists "
                f"{sum(counts.values())}."
            )

    def _side(
        self, who: str, listed: Iterable[GaussianEvent], guarantees: tuple[PrivacyGuarantee, ...]
    ) -> list[tuple[float, float]]:
        """(computed, claimed) at each δ."""
        events = group_events(listed)
        if len(guarantees) != len(self._deltas):
            _wrong(
                f"{who}: {len(self._deltas)} guarantees are proven here, the certificate shows "
                f"{len(guarantees)}."
            )
        found = []
        for delta in self._deltas:
            if (events, delta) not in self._known:
                self._known[events, delta] = accountant.epsilon(events, delta)
            computed, claimed = self._known[events, delta], self._claimed(who, guarantees, delta)
            if not computed <= claimed * (1 + EPSILON_SLACK):
                _wrong(
                    f"{who}: the certificate claims ε {claimed:.4f} at δ {delta:g}, its own events recompute "
                    f"to {computed:.4f}."
                )
            found.append((computed, claimed))
        return found

    def _claimed(self, who: str, guarantees: Iterable[PrivacyGuarantee], delta: float) -> float:
        """The one ε claimed at `delta`: a second number beside it could be read instead."""
        claims = [g for g in guarantees if g.delta == delta]
        if len(claims) != 1 or claims[0].unit is not self._certificate.unit or claims[0].relation != RELATION:
            _wrong(
                f"{who}: the certificate must claim one ε at δ {delta:g} for its own unit and "
                f"relation; it claims {len(claims)}, or another kind."
            )
        return claims[0].epsilon


def _check_cohort(cohort: CohortRound, known: set[str]) -> None:
    if not cohort.asked:
        _fail(f"Round {cohort.number} asked nobody.")
    for members in (cohort.asked, cohort.contributed):
        if len(set(members)) != len(members):
            _fail(f"Round {cohort.number} names a member twice.")
    if not set(cohort.contributed) <= set(cohort.asked):
        _fail(f"Round {cohort.number} has a contribution of a member that was not asked.")
    if not set(cohort.asked) <= known:
        _fail(f"Round {cohort.number} asked a member that is not on the certificate.")


@contextmanager
def _named(link: Link, line: Line) -> Iterator[None]:
    """Say in an error about a release behind the one that is verified which one it is about."""
    try:
        yield
    except CommonlensError as error:
        if link is line[0]:
            raise
        advice = "" if error.message.endswith(ADVICE) else f" {ADVICE}"
        raise type(error)(f"About {link.release}, which it came out of: {error.message}{advice}") from error


def _wrong(why: str) -> NoReturn:
    raise CertificateWrong(f"{why} {ADVICE}")


def _fail(why: str) -> NoReturn:
    raise ProofFailed(f"{why} {ADVICE}")
