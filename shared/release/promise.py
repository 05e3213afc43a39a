"""What a release promises in words, and what it does not: the sentence of clause 10 with a plan's own numbers."""

from __future__ import annotations

import math

from shared.domain.plan import Plan
from shared.domain.privacy import Mode


def epsilon_text(epsilon: float) -> str:
    """An ε as people read it: three decimals (one from 100 on), rounded up, because it is a bound."""
    if not math.isfinite(epsilon):
        return "no bound"
    decimals = 3 if epsilon < 100.0 else 1
    # The last float digits of a number that was read are not a reason to round it up.
    shown = math.ceil(epsilon * 10**decimals - 1e-6) / 10**decimals
    return f"{shown:.{decimals}f}"


def alone_text(epsilon: float, alone: float) -> str:
    """The second number of clause 3.7 beside the first: said once where the two are one."""
    return f"alone: {'the same' if alone == epsilon else epsilon_text(alone)}"


def right_at_most(epsilon: float, delta: float) -> float:
    """The highest chance that a guess about one unit is right, where the chance was one half before.

    (e^ε + δ) / (e^ε + 1): the trade-off of (ε, δ) at equal priors (Kairouz, Oh, Viswanath 2015, theorem 2.1).
    """
    if epsilon > 700.0:  # e^ε is no float any more, and the answer is 1 in all its digits
        return 1.0
    growth = math.exp(epsilon)
    return (growth + delta) / (growth + 1.0)


def percent_text(chance: float) -> str:
    """A chance as people read it: rounded up to a tenth of a percent, because it is a bound."""
    tenths = math.ceil(chance * 1000.0 - 1e-9)
    return f"{tenths / 10:.1f} %" if tenths < 1000 else "nearly 100 %"


def promise(plan: Plan) -> str:
    """The sentence of clause 10.

    In mode `local` it rests on nobody but the member itself. In mode `secure` it names its condition: `n_min` is
    the quorum, `t` the colluders, and shares are sized so that all but t of those in a sum carry the whole noise
    (clauses 3.2 and 3.9). Where the plan starts from a release, ε composes what that one cost.
    """
    return _own_promise(plan) + _with_start(plan)


def _with_start(plan: Plan) -> str:
    start = plan.starting_release
    if start is None:
        return ""
    return (
        f" Composed into ε is what {start.release} cost, from which it started, with what that one's certificate names "
        "behind it, under the conditions of those releases' own plans."
    )


def _own_promise(plan: Plan) -> str:
    one = plan.privacy.unit.value
    if plan.privacy.mode is Mode.LOCAL:
        return (
            f"For every {one} r of member k: everything that the coordinator, every other member colluding with "
            "it, and anyone who downloads the extractor will ever see of this release is (ε, δ)-indistinguishable "
            "with and without r (add or remove one). The bound rests on the member's own noise alone. Not "
            "covered: the member's own head and what it publishes with it, the label names, the declared size, "
            "and that the member takes part."
        )
    t, n_min = plan.colluders, plan.quorum
    others = "other member" if t == 1 else "other members"
    return (
        f"For every {one} r of member k: everything that the coordinator, up to t = {t} {others} colluding with "
        "it, and anyone who downloads the extractor will ever see of this release is "
        "(ε, δ)-indistinguishable with and without r (add or remove one), provided that of the members in a sum "
        f"all but {t} add their noise share: at least n_min - t = {n_min} - {t} = {plan.least_honest}, k among "
        "them. If all others deviate, the bound is ε_alone. Not covered: the member's own head and what it "
        "publishes with it, the label names, the declared size, and that the member takes part."
    )


def not_promised(plan: Plan) -> tuple[str, ...]:
    """What ε says nothing about, one plain sentence each."""
    one = plan.privacy.unit.value
    return (
        "The heads: what a member predicts or publishes with its own head is outside of every number here.",
        "The names of the labels, the declared sizes, that a member took part, and when it was missing.",
        f"A {one} that two members hold: each protects it by itself, both together by the sum of their ε with "
        "1 + e^ε times the δ.",
        f"What many {one}s have in common: facts about a whole data set may be learned; hidden is the part of one "
        f"{one}. For what one {one} shows, against something else in its place, count ε twice and δ 1 + e^ε times.",
        f"Other releases trained with the same {one}s: each has its own numbers, and together they cost more. Only one "
        "that this one started from is composed here. The member's own ledger composes them all.",
    )


def believed(plan: Plan, *, pinned: bool) -> tuple[str, ...]:
    """What no offline proof can show, and who could find out; one plain sentence each."""
    lines = [
        "That the rounds happened as listed: whoever signed could leave out a name, or end the list before the "
        "last rounds. When a member pulls it, its node compares the list with its own ledger, and the weights with "
        "those that the next round began with.",
        "That each identity key is that organisation's: compare its fingerprint with the organisation.",
        "That members' software clips and adds its noise: a member knows it of its own node only."
        + (
            f" ε counts on all but {plan.colluders} in a sum; ε alone counts on none of the others."
            if plan.privacy.mode is Mode.SECURE
            else " Its own ε counts on no other."
        ),
    ]
    if not pinned:
        lines.insert(0, "That the root key is the consortium's: no --root was given, so it was not checked.")
    return tuple(lines)
