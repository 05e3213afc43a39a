"""A number that a release states, beside what was found when it was measured again, and whether it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.lens.estimate import Estimate

LEAST_SLACK = 1e-3
"""Of a share or a distance: below it nobody would decide otherwise."""
_RECORDS = 2
"""Answers that may fall otherwise where arithmetic rounds otherwise: other processors, torch in place of ONNX."""


@dataclass(frozen=True)
class Claim:
    """One line of `commonlens reproduce`."""

    part: str
    what: str
    claimed: str
    """Empty where nothing was claimed: a measurement of the user's own."""
    found: str
    """Empty where it was not measured here."""
    within: str
    holds: bool | None
    """None: shown, not judged."""


def measured_again(
    part: str,
    what: str,
    claimed: Estimate,
    found: Estimate,
    *,
    asked: int = 0,
    scale: float = 1.0,
    form: str = ".4f",
) -> Claim:
    """Value and both ends of the interval must each be as near as half the width of the interval found here.

    By the width that is found, so that claiming a wide one gains nothing. Never nearer than LEAST_SLACK or, of a
    share of `asked` records, two of them. Texts show all numbers times `scale`.
    """
    slack = max((found.high - found.low) / 2, LEAST_SLACK, _RECORDS / asked if asked else 0.0)
    pairs = ((claimed.value, found.value), (claimed.low, found.low), (claimed.high, found.high))
    # Not `any(… > slack)`: what is no number holds nowhere.
    holds = all(abs(one - other) <= slack for one, other in pairs)
    return Claim(
        part,
        what,
        claimed.text(form, scale),
        found.text(form, scale),
        f"±{format(scale * slack, form)}",
        holds,
    )


def near(part: str, what: str, claimed: float, found: float, slack: float, form: str = ".4f") -> Claim:
    """Deterministic but for rounding: at most `slack` apart."""
    holds = abs(claimed - found) <= slack
    return Claim(part, what, format(claimed, form), format(found, form), f"±{slack:g}", holds)


def at_most(part: str, what: str, claimed: float, found: float, bound: float, form: str) -> Claim:
    """Both the claim and what was found must keep `bound`."""
    holds = claimed <= bound and found <= bound
    return Claim(part, what, format(claimed, form), format(found, form), f"≤ {bound:g}", holds)


def equal(part: str, what: str, claimed: Any, found: Any) -> Claim:
    """Exactly the same."""
    return Claim(part, what, str(claimed), str(found), "equal", claimed == found)


def shown(part: str, what: str, claimed: str) -> Claim:
    """Of the machine that published it: nothing here could say whether it was so."""
    return Claim(part, what, claimed, "", "", None)


def own(part: str, what: str, found: str) -> Claim:
    """Measured here of the user's own records, of which nobody claimed anything."""
    return Claim(part, what, "", found, "", None)
