"""The three charts of a run: validation with its error band, ε against the plan, and where the seconds went."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.dashboard.charts import Axes, Band, Chart, Line, Table, draw
from coordinator.dashboard.words import duration, epsilon_words, one_in
from coordinator.runs.epsilon_book import Spent, bound
from coordinator.runs.history import RoundLine
from coordinator.runs.noised_counts import accuracy_text
from coordinator.runs.progress import parts_of_seconds
from shared.domain.plan import Plan
from shared.domain.privacy import Mode
from shared.domain.run import RoundState

FAR_ABOVE = 3.0
"""Rounds that took so many times the median are cut off at the frame."""
TABLE_ROWS = 20
"""Behind a chart; the CSV has all of them."""
MOST_ALONE = 4.0
"""The second number of ε is drawn whole up to so many times the plan's ε, and cut off above."""


@dataclass(frozen=True)
class Window:
    """The rounds that charts show, both ends included."""

    first: int
    last: int

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last


def validation_chart(lines: Sequence[RoundLine], window: Window) -> Chart | None:
    """Accuracy of noised counts, ± 1 standard error of the noise; None before the first."""
    found = [(r.number, r.accuracy) for r in lines if r.state is RoundState.CLOSED and r.number in window]
    points = [(number, *accuracy) for number, accuracy in found if accuracy is not None]
    if not points:
        return None
    low = max(0.0, min(a - e for _, a, e in points))
    high = min(1.0, max(a + e for _, a, e in points))
    room = max(0.02, 0.08 * (high - low))
    axes = Axes(
        _x(window), (max(0.0, low - room), min(1.0, high + room)), "round", "accuracy", y_percent=True
    )
    last = points[-1]
    return draw(
        "validation",
        "Validation",
        f"Accuracy on held-out records by round, {len(points)} rounds, the last {accuracy_text(last[1:])}. The "
        "counts were noised before they left each member, and their noise is charged to its budget.",
        axes,
        [Line("accuracy", [(n, a) for n, a, _ in points])],
        [
            Band(
                "± 1 standard error of the noise",
                [(n, max(0.0, a - e), min(1.0, a + e)) for n, a, e in points],
            )
        ],
        Table(
            ("Round", "Accuracy", "± 1 s.e."),
            [(str(n), f"{a:.4f}", f"{e:.4f}") for n, a, e in reversed(points[-TABLE_ROWS:])],
        ),
    )


def epsilon_chart(plan: Plan, curve: Sequence[Spent], charged: int, window: Window) -> Chart | None:
    """ε by rounds for a member that is asked in each: what is charged, what is planned, alone, the plan's ε."""
    if not curve:
        return None
    ceiling = plan.privacy.target_epsilon
    most_alone = max((s.alone for s in curve if math.isfinite(s.alone)), default=0.0)
    shown = max(ceiling, curve[-1].together if math.isfinite(curve[-1].together) else 0.0)
    top = 1.08 * max(shown, min(most_alone, MOST_ALONE * ceiling))
    together = [(0.0, 0.0), *((float(s.rounds), s.together) for s in curve if math.isfinite(s.together))]
    alone, above = _below([(0.0, 0.0), *((float(s.rounds), s.alone) for s in curve)], top)
    spent = _until(together, charged)
    lines = [
        Line("consortium, planned", _inside(together, window), "private plain planned"),
        Line("consortium, charged", _inside(spent, window), "private plain charged"),
    ]
    if plan.privacy.mode is Mode.SECURE:
        lines.append(Line("alone, if all others deviate", _inside(alone, window), "private plain dashed"))
    lines.append(
        Line(f"the plan's ε, {ceiling:g}", [(window.first, ceiling), (window.last, ceiling)], "plain ceiling")
    )
    return draw(
        "epsilon",
        "ε against the plan",
        f"ε by charged rounds at δ {one_in(plan.privacy.delta)}, from 0 to {epsilon_words(bound(curve[-1].together))} "
        f"after {plan.rounds} rounds; {charged} are charged. The plan allows {ceiling:g}.",
        Axes(_x(window), (0.0, top), "round", "ε"),
        lines,
        [],
        Table(
            ("Rounds charged", "ε consortium", "ε alone"),
            [(str(s.rounds), epsilon_words(bound(s.together)), epsilon_words(bound(s.alone))) for s in curve],
        ),
        f"Alone it leaves the frame: {epsilon_words(bound(curve[-1].alone))} in the end." if above else "",
    )


def seconds_chart(lines: Sequence[RoundLine], window: Window) -> Chart | None:
    """Seconds of each closed round, stacked; None before the first."""
    rounds = [(r.number, *parts_of_seconds(r.seconds)) for r in lines if r.state is RoundState.CLOSED]
    rounds = [each for each in rounds if each[0] in window]
    if not rounds:
        return None
    tops = [(n, train, train + protocol, train + protocol + wait) for n, train, protocol, wait in rounds]
    whole = sum(each[3] for each in tops)
    frame, above = _frame([(n, top) for n, _, _, top in tops])
    percent = [f"{100.0 * sum(each[i] for each in rounds) / max(whole, 1e-12):.0f} %" for i in (1, 2, 3)]
    return draw(
        "seconds",
        "Where the second went",
        f"Seconds a round, {len(rounds)} rounds: training {percent[0]}, protocol {percent[1]}, waiting for the slower "
        f"half {percent[2]}.{above}",
        Axes(_x(window), (0.0, frame), "round", "seconds"),
        [Line("", [(n, top) for n, _, _, top in tops], "thin plain")],
        [
            Band(f"train {percent[0]}", [(n, 0.0, train) for n, train, _, _ in tops], "train"),
            Band(f"protocol {percent[1]}", [(n, train, both) for n, train, both, _ in tops], "protocol"),
            Band(f"waiting {percent[2]}", [(n, both, top) for n, _, both, top in tops], "waiting"),
        ],
        Table(
            ("Round", "Train", "Protocol", "Waiting"),
            [(str(n), *(duration(s) for s in each)) for n, *each in reversed(rounds[-TABLE_ROWS:])],
        ),
        above.strip(),
    )


def _frame(tops: Sequence[tuple[int, float]]) -> tuple[float, str]:
    """How high the frame is: a round far above the others does not flatten them; it is named instead."""
    usual = statistics.median(top for _, top in tops)
    most = max((top for _, top in tops if top <= FAR_ABOVE * usual), default=usual)
    above = [(n, top) for n, top in tops if top > FAR_ABOVE * usual]
    if not above:
        return 1.05 * most, ""
    longest = max(above, key=lambda each: each[1])
    return 1.25 * most, (
        f" Above the frame: {len(above)} of {len(tops)} rounds, the longest round {longest[0]} with "
        f"{duration(longest[1])}."
    )


def _x(window: Window) -> tuple[float, float]:
    return float(window.first), float(max(window.last, window.first + 1))


def _inside(points: Sequence[tuple[float, float]], window: Window) -> list[tuple[float, float]]:
    """The part of a curve that the window shows, its ends put between the neighbouring points."""
    if len(points) < 2:
        return [p for p in points if p[0] in window]  # type: ignore[operator]
    return _until(_from(points, window.first), window.last)


def _below(points: Sequence[tuple[float, float]], top: float) -> tuple[list[tuple[float, float]], bool]:
    """A growing curve up to where it leaves the frame, and whether it does."""
    beyond = next((p for p in points if p[1] > top), None)
    kept = [p for p in points if p[1] <= top]
    if beyond is not None and math.isfinite(beyond[1]):
        at = _between((kept[-1][1], kept[-1][0]), (beyond[1], beyond[0]), top)
        kept.append((at, top))
    return kept, beyond is not None


def _until(points: Sequence[tuple[float, float]], last: float) -> list[tuple[float, float]]:
    kept = [p for p in points if p[0] <= last]
    beyond = next((p for p in points if p[0] > last), None)
    if kept and beyond is not None and kept[-1][0] < last:
        kept.append((last, _between(kept[-1], beyond, last)))
    return kept


def _from(points: Sequence[tuple[float, float]], first: float) -> list[tuple[float, float]]:
    mirrored = _until([(-x, y) for x, y in reversed(points)], -first)
    return [(-x, y) for x, y in reversed(mirrored)]


def _between(one: tuple[float, float], other: tuple[float, float], x: float) -> float:
    return one[1] + (other[1] - one[1]) * (x - one[0]) / (other[0] - one[0])
