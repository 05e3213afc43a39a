"""What a malicious coordinator gains from a member that runs this software: a table of attempts, each made.

Every attempt is made twice, against members without the rule in question and against this software, and what
comes of it is measured: the noise that is left in what the coordinator then holds, and the ε that follows for a
record of the victim, if it does so in every round of the plan. Start reading here; the attempts on masks are in
dishonest_rounds.py, those on a whole node in dishonest_requests.py.

Two numbers are accounted for before anybody attacks (clause 3.7): ε of the consortium, and ε_alone, which
holds whatever the coordinator and all other members do. No row may exceed the first by an attempt of the
coordinator's, or the second where all others take part in it.
"""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from participant.redteam import dishonest_requests as requests
from participant.redteam import dishonest_rounds as rounds
from participant.redteam.dishonest_play import Outcome, Play, played_plan
from participant.redteam.report import AttackRow
from shared.domain.errors import (
    AlreadyReleased,
    BadSignature,
    CommonlensError,
    ConsentMissing,
    QuorumMissed,
    UnapprovedMember,
    UnmaskFailed,
    UnmaskRefused,
)
from shared.domain.plan import Plan
from shared.domain.privacy import GaussianEvent
from shared.privacy.accountant import epsilon

PREFIX = "malicious coordinator: "
_TOLERANCE = 0.06
"""Of a measured std: six times its standard error."""
_LEAST_SIGMA = 1e-3
_OnRounds = Callable[[Play, bool], Outcome]
_OnNode = Callable[[Plan, Path, bool], Outcome]


@dataclass(frozen=True)
class Attempt:
    """One line of the table, before it was tried."""

    name: str
    does: str
    """What the coordinator does."""
    without: str
    """Whom it succeeds with: members that lack one rule."""
    stopped_by: tuple[type[CommonlensError], ...]
    """How this software refuses; empty where it does what it is asked, to the coordinator's no avail."""
    alone: bool = False
    """Whether all other members take part in it, so that ε_alone is what is accounted for."""
    whose: bool = False
    """Whether it is after whose update it sees: ε holds without the rule too, since the sum keeps its noise."""


ON_ROUNDS: tuple[tuple[Attempt, _OnRounds], ...] = (
    (
        Attempt(
            "double unmask",
            "asks everybody to unmask the sum, then the sum without the victim, and subtracts",
            "members that unmask whatever they are asked",
            (UnmaskRefused,),
        ),
        rounds.double_unmask,
    ),
    (
        Attempt(
            "differing survivor lists",
            "asks half of the honest members to unmask everybody, the other half everybody but the victim; "
            "colluders help with both",
            "a plan with a quorum that two halves can both reach",
            (UnmaskRefused, UnmaskFailed),
        ),
        rounds.two_lists,
    ),
    (
        Attempt(
            "differing weights",
            "sends all others weights of zero, from which no gradient comes, and has everybody unmask the sum",
            "members whose signatures leave out what they trained from",
            (BadSignature,),
            whose=True,
        ),
        rounds.differing_weights,
    ),
    (
        Attempt(
            "swapped keys",
            "puts round keys of its own under the names of all other members",
            "a member that verifies no signature under round keys",
            (BadSignature,),
        ),
        rounds.swapped_keys,
    ),
    (
        Attempt(
            "cohort of one",
            "tells the victim that nobody else is there to be summed with",
            "a member that takes a cohort of any size",
            (QuorumMissed,),
        ),
        rounds.cohort_of_one,
    ),
    (
        Attempt(
            "one share alone",
            "opens the victim's masks with the shares that its colluders were dealt, before anybody unmasks",
            "members whose secrets one share opens",
            (UnmaskFailed,),
        ),
        rounds.one_share,
    ),
)
ON_SUMS: tuple[tuple[Attempt, _OnNode], ...] = (
    (
        Attempt(
            "fake members",
            "enrols friends on the roll that it signs, and sums the victim with them alone",
            "a node that approves every organisation on the roll by itself",
            (UnapprovedMember,),
        ),
        requests.fake_members,
    ),
    (
        Attempt(
            "re-asked round, another cohort",
            f"asks {requests.TIMES} times for one round, with another cohort each time",
            "nodes that keep no record of what they answered",
            (AlreadyReleased,),
        ),
        requests.other_cohort,
    ),
)
ON_EVERY_NODE: tuple[tuple[Attempt, _OnNode], ...] = (
    (
        Attempt(
            "replayed round",
            f"sends the same request {requests.TIMES} times, and averages the answers",
            "nodes that keep no record of what they answered",
            (),
        ),
        requests.replayed_round,
    ),
    (
        Attempt(
            "re-asked round, other weights",
            f"asks {requests.TIMES} times for one round, from other weights each time",
            "nodes that keep no record of what they answered",
            (AlreadyReleased,),
        ),
        requests.other_weights,
    ),
    (
        Attempt(
            "changed plan",
            "asks for a round of a plan with less noise, to which the member did not consent",
            "a node that takes the coordinator's word for a consent",
            (ConsentMissing,),
        ),
        requests.changed_plan,
    ),
    (
        Attempt(
            "crafted weights",
            "sends weights with one layer zeroed, or amplified a thousandfold; all other members help it",
            "a node that adds its noise and does not clip",
            (),
            alone=True,
        ),
        requests.crafted_weights,
    ),
)


def coordinator_table(plan: Plan) -> tuple[AttackRow, ...]:
    """Two rows for each attempt, without its protection and with it; `number` is ε at the plan's δ.

    In mode secure the first row is no attack: what a coordinator and its colluders see of an honest round. A
    plan of mode local has no masks, so only the attempts on a node are made. Takes seconds.
    """
    played = played_plan(plan)
    accountant = Accountant(plan, played)
    rows: list[AttackRow] = []
    if plan.secure is not None:
        play = Play(played).contribute()
        rows.append(accountant.honest_row(rounds.follows_the_protocol(play)))
        for attempt, on_rounds in ON_ROUNDS:
            rows += accountant.rows(attempt, functools.partial(on_rounds, play))
    on_node = (*(ON_SUMS if plan.secure is not None else ()), *ON_EVERY_NODE)
    with tempfile.TemporaryDirectory(prefix="redteam-") as scratch:
        for number, (attempt, ask) in enumerate(on_node):
            folder = Path(scratch) / str(number)
            rows += accountant.rows(attempt, functools.partial(_in_a_folder, ask, played, folder))
    return tuple(rows)


def _in_a_folder(ask: _OnNode, plan: Plan, folder: Path, protected: bool) -> Outcome:
    return ask(plan, folder / str(protected), protected)


class Accountant:
    """Turns what attempts came to into ε and sentences, for one plan and the consortium that played it."""

    def __init__(self, plan: Plan, played: Plan) -> None:
        self._plan = plan
        self.together = epsilon(plan.events_of_run(), plan.privacy.delta)
        self.alone = epsilon(plan.events_alone_of_run(), plan.privacy.delta)
        self._share = 1.0 if plan.secure is None else (len(played.members) - played.colluders) ** -0.5
        self._members = len(played.members)
        self._colluders = played.colluders

    def epsilon(self, outcome: Outcome) -> float:
        """Of the whole run, if every round of it goes as `outcome` did."""
        left = float(f"{outcome.noise_left:.2g}")  # it was measured, to about 1 %
        events = [
            GaussianEvent(left * event.noise_multiplier, event.sampling_rate, event.count * outcome.releases)
            for event in self._plan.events_of_run()
        ]
        if min(event.noise_multiplier for event in events) < _LEAST_SIGMA:
            return math.inf
        return epsilon(events, self._plan.privacy.delta)

    def honest_row(self, outcome: Outcome) -> AttackRow:
        """What is accounted for, seen by a coordinator that does as it should."""
        whole = outcome.noise_left >= 1.0 - _TOLERANCE
        return AttackRow(
            name=PREFIX + "no attempt",
            tried=f"This software. The coordinator follows the protocol, keeps all it sees, and takes out what "
            f"{self._colluders} colluder(s) among {self._members} members know"
            + (
                "" if self._members == len(self._plan.members) else f" (played for {len(self._plan.members)})"
            ),
            gains=f"The sum, with {outcome.noise_left:.2f} of the noise that the plan promises: ε = "
            f"{_text(self.together if whole else self.epsilon(outcome))}, as accounted for. Were all other "
            f"members to deviate: ε_alone = {_text(self.alone)}",
            number=self.together if whole else self.epsilon(outcome),
            protected=whole,
        )

    def rows(self, attempt: Attempt, run: Callable[[bool], Outcome]) -> tuple[AttackRow, AttackRow]:
        """Both attempts: without the protection, and with it."""
        return self._unprotected(attempt, run(False)), self._protected(attempt, run(True))

    def _unprotected(self, attempt: Attempt, outcome: Outcome) -> AttackRow:
        tried = f"{_upper(attempt.without)}. The coordinator {attempt.does}"
        accounted = self.alone if attempt.alone else self.together
        if outcome.refusal:
            gains = f"Nothing ({outcome.refusal}): this attempt fails without the protection too, and shows nothing"
            return AttackRow(PREFIX + attempt.name, tried, gains, 0.0, None)
        if attempt.whose and abs(outcome.noise_left - 1.0) <= _TOLERANCE:
            gains = (
                f"{_upper(_seen(outcome))}: ε = {_text(accounted)} as accounted for, but nobody's hides it"
            )
            return AttackRow(PREFIX + attempt.name, tried, gains, accounted, None)
        found = self.epsilon(outcome)
        gains = f"{_upper(_seen(outcome))}: ε = {_text(found)} where {_text(accounted)} was accounted for"
        return AttackRow(PREFIX + attempt.name, tried, gains, found, None)

    def _protected(self, attempt: Attempt, outcome: Outcome) -> AttackRow:
        tried = f"This software. The coordinator {attempt.does}"
        accounted, what = (self.alone, "ε_alone") if attempt.alone else (self.together, "ε")
        least = (self._share if attempt.alone else 1.0) * (1.0 - _TOLERANCE)
        if outcome.refusal:
            held = outcome.refusal in {error.code for error in attempt.stopped_by}
            gains = (
                f"Nothing: refused ({outcome.refusal}). {what} stays at the {_text(accounted)} accounted for"
                if held
                else f"Nothing, but not by the rule that should stop it: {outcome.refusal}"
            )
            return AttackRow(PREFIX + attempt.name, tried, gains, accounted, held)
        held = outcome.noise_left >= least and outcome.releases == 1
        found = accounted if held else max(accounted, self.epsilon(outcome))
        verdict = "no more than was accounted for" if held else f"where {_text(accounted)} was accounted for"
        gains = f"{_upper(_seen(outcome))}: {what} = {_text(found)}, {verdict}"
        return AttackRow(PREFIX + attempt.name, tried, gains, found, held)


def _seen(outcome: Outcome) -> str:
    """What the coordinator holds, in words."""
    if outcome.influence > 1.0 + _TOLERANCE:
        return (
            f"one record moves the sum by {outcome.influence:,.0f} clip norms, which leaves it "
            f"{outcome.noise_left:.1g} of the noise that the plan promises"
        )
    if outcome.releases > 1:
        return f"{outcome.releases} sums with {outcome.noise_left:.2f} of the promised noise each, and one is paid for"
    return f"{outcome.holds}, with {outcome.noise_left:.2f} of the noise that the plan promises for a sum"


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _text(value: float) -> str:
    return "without bound" if math.isinf(value) else f"{value:.2f}"
