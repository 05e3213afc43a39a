"""Whether more steps fit under a ceiling, mostly without composing them (clause 7.2).

ε never falls when steps are added. So whatever is contained in steps that were once shown to fit, fits as well: one
composition with a look ahead answers for the rounds that follow. It can only err where the accountant's own bound
for more steps is the tighter one, and then the bound for fewer holds all the more.
"""

from __future__ import annotations

from collections import Counter

from shared.domain.errors import UnsoundPlan
from shared.domain.privacy import GaussianEvent
from shared.privacy.accountant import epsilon

Steps = Counter[tuple[float, float]]
"""(noise multiplier, sampling rate) → how many equal steps."""
LOOK_AHEAD = (64, 8, 1)
"""Rounds like the one asked about, tried one after the other: near a ceiling the look shortens to the round itself."""


class Headroom:
    """What is known to fit, for one list of steps that only grows; not for several threads at once."""

    def __init__(self) -> None:
        self._known: dict[tuple[float, float], Steps] = {}
        """(δ, ceiling) → steps that fit."""

    def excess(self, spent: Steps, added: Steps, delta: float, ceiling: float) -> float | None:
        """None where `spent` and `added` together cost at most `ceiling` at `delta`; else what they cost.

        Raises UnsoundPlan as `epsilon` does.
        """
        known = self._known.get((delta, ceiling))
        if known is not None and spent + added <= known:
            return None
        total = 0.0
        for rounds in LOOK_AHEAD if added else (1,):
            steps = spent + Counter({step: rounds * count for step, count in added.items()})
            try:
                total = epsilon(events_of(steps), delta)
            except UnsoundPlan:
                if rounds == 1:
                    raise
                continue  # looking ahead may lead outside the analysis; the round itself need not
            # Written so that anything which does not compare refuses.
            if total <= ceiling:
                self._known[delta, ceiling] = steps
                return None
        return total


def events_of(steps: Steps) -> tuple[GaussianEvent, ...]:
    """The same as the accountant takes it."""
    return tuple(GaussianEvent(sigma, rate, count) for (sigma, rate), count in steps.items())


def steps_of(events: tuple[GaussianEvent, ...]) -> Steps:
    """Equal steps counted together."""
    steps: Steps = Counter()
    for event in events:
        steps[event.noise_multiplier, event.sampling_rate] += event.count
    return steps
