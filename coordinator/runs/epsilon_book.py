"""ε after so many rounds, for pages and the API: computed beside the requests, kept by plan, never waited for.

The accountant takes tens of milliseconds for one number, and a chart shows dozens. What is not there yet is said
to be on its way; whoever looks again finds it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shared.domain.plan import Plan
from shared.domain.privacy import Mode
from shared.privacy.accountant import epsilon

CURVE_POINTS = 24
LEAST_PAUSE_S = 2.0
"""Between two looks at what one plan's run has spent, so that watching short rounds does not slow them."""
HEAD_START_S = 0.3
"""The page that asks is sent first: the accountant would slow its templates down."""
MOST_KEPT = 1000


@dataclass(frozen=True)
class Spent:
    """Both numbers of clause 3.7 after `rounds` charged rounds; infinite where there is no useful bound."""

    rounds: int
    together: float
    alone: float


NOTHING = Spent(0, 0.0, 0.0)
_Key = tuple[str, int, int]
"""A plan's digest, charged rounds, and how many of them paid for validation: all that ε depends on."""


class EpsilonBook:
    """What the accountant has said so far: one, `BOOK`, for everybody who asks a process."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="epsilon")
        self._curves: dict[str, tuple[Spent, ...]] = {}
        self._spent: dict[_Key, Spent] = {}
        self._looked: dict[str, float] = {}
        self._begun: set[str] = set()
        self._guard = threading.Lock()

    def curve(self, plan: Plan) -> tuple[Spent, ...]:
        """ε over the planned rounds for a member that is asked in each; empty until it is computed."""
        digest = str(plan.digest)
        if digest not in self._curves:
            self._begin(f"curve {digest}", lambda: self._draw(plan))
        return self._curves.get(digest, ())

    def spent(self, plan: Plan, numbers: Sequence[int]) -> Spent | None:
        """After the rounds with these numbers; until that is computed, what is known of fewer, or None."""
        return self.spent_each(plan, [numbers])[0]

    def spent_each(self, plan: Plan, each: Sequence[Sequence[int]]) -> list[Spent | None]:
        """The same for several members at once, who were asked in different rounds."""
        digest = str(plan.digest)
        known = {key: spent for key, spent in list(self._spent.items()) if key[0] == digest}
        found: list[Spent | None] = []
        missing: dict[_Key, Sequence[int]] = {}
        for numbers in each:
            key = (digest, len(numbers), sum(plan.evaluates(n) for n in numbers))
            if numbers and key not in known:
                missing[key] = numbers
                fewer = (spent for (_, rounds, _), spent in known.items() if rounds < key[1])
                found.append(max(fewer, key=lambda spent: spent.rounds, default=None))
            else:
                found.append(known.get(key, NOTHING))
        late = time.monotonic() - self._looked.get(digest, -math.inf) >= LEAST_PAUSE_S
        if missing and (late or None in found):
            self._begin(f"spent {digest}", lambda: self._add(plan, missing))
        return found

    def wait(self) -> None:
        """Until everything that was begun is computed; for tests."""
        self._worker.submit(lambda: None).result()

    def _begin(self, name: str, work: Callable[[], None]) -> None:
        with self._guard:
            if name in self._begun:
                return
            self._begun.add(name)
        self._worker.submit(self._run, name, work)

    def _run(self, name: str, work: Callable[[], None]) -> None:
        time.sleep(HEAD_START_S)
        try:
            work()
        finally:
            with self._guard:
                self._begun.discard(name)

    def _draw(self, plan: Plan) -> None:
        if len(self._curves) >= MOST_KEPT:
            self._curves.clear()
        self._curves[str(plan.digest)] = whole_curve(plan)

    def _add(self, plan: Plan, missing: Mapping[_Key, Sequence[int]]) -> None:
        if len(self._spent) + len(missing) > MOST_KEPT:
            self._spent.clear()
        for key, numbers in missing.items():
            self._spent[key] = compute(plan, numbers)
        self._looked[str(plan.digest)] = time.monotonic()


BOOK = EpsilonBook()


def whole_curve(plan: Plan) -> tuple[Spent, ...]:
    """After the first, the last, and rounds between them. Takes about a second where nobody asked before."""
    grid = {1} | {max(1, round(plan.rounds * n / CURVE_POINTS)) for n in range(1, CURVE_POINTS + 1)}
    return tuple(compute(plan, range(1, last + 1)) for last in sorted(grid))


def bound(epsilon: float) -> float | None:
    """As templates, charts, CSV and JSON take it: None where there is no useful bound."""
    return epsilon if math.isfinite(epsilon) else None


def compute(plan: Plan, numbers: Sequence[int]) -> Spent:
    """What a member spends that is asked in the rounds with these numbers, at the plan's δ."""
    delta = plan.privacy.delta
    together = epsilon((event for n in numbers for event in plan.events_of_round(n)), delta)
    if plan.privacy.mode is Mode.LOCAL:
        return Spent(len(numbers), together, together)
    alone = epsilon((event for n in numbers for event in plan.events_alone_of_round(n)), delta)
    return Spent(len(numbers), together, alone)
