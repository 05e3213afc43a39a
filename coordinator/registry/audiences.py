"""Who can learn what from a release, and which bound holds against them: from its plan (docs/protocol.md, 0 and 3)."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from shared.domain.plan import Plan
from shared.domain.privacy import Mode


class Bound(enum.Enum):
    """Which number of clause 3.7 limits what somebody can learn about one unit."""

    CONSORTIUM = "consortium"
    ALONE = "alone"
    OWN = "own"
    """Nothing is hidden from whoever owns it."""
    NOTHING = "nothing"
    """No content is seen at all."""


@dataclass(frozen=True)
class Audience:
    """Somebody who may want to know of a member's records."""

    key: str
    who: str
    sees: tuple[str, ...]
    bound: Bound
    why: str
    """What the bound rests on, in a sentence."""

    def limit(self, together: float, alone: float) -> float | None:
        """Which of a release's two ε bounds what it learns; None where neither does."""
        return {Bound.CONSORTIUM: together, Bound.ALONE: alone}.get(self.bound)


def audiences(plan: Plan) -> tuple[Audience, ...]:
    """Everybody whom the argument of the protocol is about, from the most powerful to the least."""
    secure = plan.privacy.mode is Mode.SECURE
    parties = _secure_parties(plan) if secure else _local_parties(plan)
    return (
        *parties,
        Audience(
            "download",
            "Anybody who downloads the release",
            (
                "The weights after the last round.",
                "The plan and the certificate: members' names and declared sizes, "
                + _label_names(plan)
                + "who was asked and who contributed in each round, every consent.",
            ),
            Bound.CONSORTIUM,
            "Counted for somebody who saw every round; one who only sees the end of it learns no more.",
        ),
        Audience(
            "network",
            "Somebody on the network",
            (
                "That two machines talk, when, and how much: everything is encrypted under the consortium's CA.",
            ),
            Bound.NOTHING,
            "Nothing of the contents.",
        ),
        Audience(
            "self",
            "The member itself",
            (
                "Its own records, updates and heads in the clear, and its ledger of everything it ever spent.",
                "Of the others, what another member sees.",
            ),
            Bound.OWN,
            "Its own data is not hidden from it, and does not leave it but as said above.",
        ),
    )


def _secure_parties(plan: Plan) -> tuple[Audience, ...]:
    t = plan.colluders
    honest = (
        f"{plan.least_honest} of the members in each sum, this one among them, add their share of the noise"
    )
    coordinator = Audience(
        "coordinator",
        "The coordinator",
        (
            f"Of each round one sum over at least {plan.quorum} members, with the noise in it. Single updates "
            "arrive masked and cannot be opened.",
            *_validation(plan, "summed in the same way"),
            _around(plan),
        ),
        Bound.CONSORTIUM,
        f"Holds while at least {honest}.",
    )
    member = Audience(
        "member",
        "Another member, by itself",
        (
            "The weights at the start of each round, and so the noised sums that led to them.",
            "Who is in the round, and encrypted pieces of their one-round keys, which open nothing below a quorum.",
            *_validation(plan, "summed over the members"),
        ),
        Bound.CONSORTIUM if t else Bound.ALONE,
        "It is one of the t, and without the coordinator it sees less."
        if t
        else "It knows its own share of the noise, and the plan counts on nobody to collude (t = 0).",
    )
    return (coordinator, *_colluders(plan), member)


def _colluders(plan: Plan) -> tuple[Audience, ...]:
    """The coordinator with as many as the plan counts on, if any, and with more."""
    t, others = plan.colluders, len(plan.members) - 1
    share = round(100.0 / math.sqrt(len(plan.members) - t))
    few = Audience(
        "colluders",
        f"The coordinator with {'1 other member' if t == 1 else f'up to {t} other members'}",
        (
            "The same, and all that they hold themselves: their updates, noise shares and keys. They can take "
            "their own part out of each sum, and nobody else's.",
        ),
        Bound.CONSORTIUM,
        f"The plan counts on it: t = {t} of those in a sum may keep their noise back.",
    )
    many = Audience(
        "everybody",
        f"The coordinator with more than {t}, up to all {others} others",
        (
            "It may be this member's own update of each round, with nothing around it but this member's own share "
            f"of the noise: about {share} % of the whole, in standard deviations.",
        ),
        Bound.ALONE,
        "Rests on this member's own noise and on nobody else.",
    )
    return (few, many) if t else (many,)


def _local_parties(plan: Plan) -> tuple[Audience, ...]:
    return (
        Audience(
            "coordinator",
            "The coordinator",
            (
                "Each member's own update of each round, with the whole noise in it before it leaves the member.",
                *_validation(plan, "of each member"),
                _around(plan),
            ),
            Bound.CONSORTIUM,
            "Rests on this member's own noise and on nobody else.",
        ),
        Audience(
            "everybody",
            "The coordinator with any number of other members",
            ("The same: what the others know says nothing about this member's noise.",),
            Bound.CONSORTIUM,
            "Rests on this member's own noise and on nobody else.",
        ),
        Audience(
            "member",
            "Another member, by itself",
            (
                "The weights at the start of each round, which the average of the noised updates led to.",
                *_validation(plan, "summed over the members"),
            ),
            Bound.CONSORTIUM,
            "Follows from what the coordinator sees, so it learns no more.",
        ),
    )


def _validation(plan: Plan, how: str) -> tuple[str, ...]:
    if not plan.evaluate_every:
        return ()
    often = "Every round" if plan.evaluate_every == 1 else f"Every {plan.evaluate_every} rounds"
    return (f"{often} two noised counts of right and wrong answers on held-out data, {how}.",)


def _around(plan: Plan) -> str:
    return f"Members' names and declared sizes, {_label_names(plan)}who was asked, who answered, when and how fast."


def _label_names(plan: Plan) -> str:
    return "" if plan.shared_head is None else "the names of the labels, "
