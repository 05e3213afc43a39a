"""The difference of two releases as rows for the template: numbers with intervals, and a word for each.

Of every difference a word says whether it is beyond chance. The picture in a row says what its numbers say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coordinator.dashboard.words import epsilon_words, one_in, size
from shared.evaluation.release_shape import MemberSpent, ReleaseDifference, Spent
from shared.lens.difference_shape import Difference, MovedChange, Neighbours, QuestionChange, ToldChange
from shared.lens.estimate import Estimate

WIDTH, HEIGHT = 220, 36
"""Of the picture in a row, in units of its view box."""
EDGE = 6
FARTHEST = 1.5
"""Distances beyond are drawn at the edge; the number beside says how far."""
WITHIN = "within chance"


@dataclass(frozen=True)
class Mark:
    """An estimate on the picture's axis."""

    at: str
    low: str
    high: str


@dataclass(frozen=True)
class Cell:
    """A number, and its 95 % interval."""

    value: str
    interval: str


@dataclass(frozen=True)
class Row:
    """One thing that was measured of both."""

    what: str
    asked: int | None
    before: Cell
    after: Cell
    more: Cell
    verdict: str
    """"better", "farther", … or WITHIN."""
    tone: str
    """Class of the verdict's dot."""
    marks: tuple[Mark, Mark]
    dashed: str
    """Where the dashed line is on the axis: guessing, or as far as to another photograph; empty where there is none."""


@dataclass(frozen=True)
class Classes:
    """A question's classes: what became of each in one line, and all of them as rows."""

    what: str
    summary: tuple[tuple[str, str, str], ...]
    """(verdict, tone, classes of which it is true)."""
    rows: tuple[Row, ...]
    """Those first that changed."""


@dataclass(frozen=True)
class Near:
    """How many neighbours stayed, of all records or of those of one subject."""

    what: str
    stayed: Cell
    mark: Mark
    same_before: str
    same_after: str


@dataclass(frozen=True)
class Charged:
    """The ε of one member at one δ: (ε, ε alone where it is another number), or None where it had no part."""

    name: str
    delta: str
    spent: tuple[tuple[str, str] | None, ...]
    """Before, after, together."""


@dataclass(frozen=True)
class Figure:
    """A size or a speed of both, and the second over the first."""

    what: str
    before: str
    after: str
    times: str


@dataclass(frozen=True)
class View:
    """Everything that the page shows of one difference."""

    sentences: tuple[str, ...]
    tells: tuple[Row, ...]
    classes: tuple[Classes, ...]
    moves: tuple[Row, ...]
    neighbours: Neighbours
    near: tuple[Near, ...]
    same: Row
    """Whether more of the neighbours show the same subject."""
    by_chance: str
    """Where the neighbours that stay by chance are on the axis."""
    charged: tuple[Charged, ...]
    figures: tuple[Figure, ...]
    machines: tuple[str, ...]
    without_int8: tuple[str, ...]

    width, height, left, middle, right = WIDTH, HEIGHT, EDGE, WIDTH // 2, WIDTH - EDGE


def view_of(found: ReleaseDifference) -> View:
    """Lay it out."""
    behaviour, near = found.behaviour, found.behaviour.neighbours
    chances = {} if behaviour.before is None else {p.question: p.chance for p in behaviour.before.tells}
    same = ToldChange("same subject", near.asked, near.same_before, near.same_after, near.same_more)
    return View(
        sentences=tuple(re.split(r"(?<=\.) (?=[A-Z])", found.words)),
        tells=tuple(_told(told, chances.get(told.what)) for told in behaviour.tells),
        classes=tuple(_classes(told, chances.get(told.what)) for told in behaviour.tells),
        moves=tuple(_moved(move) for move in behaviour.moves),
        neighbours=near,
        near=tuple(_near(behaviour)),
        same=_told(same, words=("beyond chance", "beyond chance")),
        by_chance=_place(near.nearest / near.among, 1.0),
        charged=tuple(_charged(each) for each in found.spent),
        figures=tuple(_figures(found)),
        machines=_machines(found),
        without_int8=found.without_int8,
    )


def _told(told: ToldChange, chance: float | None = None, words: tuple[str, str] = ("better", "worse")) -> Row:
    verdict, tone = _verdict(told.more, (words[0], "good"), (words[1], "warn"))
    return Row(
        what=told.what,
        asked=told.asked,
        before=_cell(told.before, ".0f", 100.0),
        after=_cell(told.after, ".0f", 100.0),
        more=_cell(told.more, "+.0f", 100.0),
        verdict=verdict,
        tone=tone,
        marks=(_mark(told.before, 1.0), _mark(told.after, 1.0)),
        dashed="" if chance is None else _place(chance, 1.0),
    )


def _classes(told: QuestionChange, chance: float | None) -> Classes:
    """Largest gain first, largest loss after the gains, then what is within chance in the question's own order."""
    changed = sorted((one for one in told.classes if one.more.beyond_chance), key=lambda one: -one.more.value)
    rows = [_told(one, chance) for one in changed]
    rows += [_told(one, chance) for one in told.classes if not one.more.beyond_chance]
    verdicts = dict.fromkeys((row.verdict, row.tone) for row in rows)
    return Classes(
        what=told.what,
        summary=tuple((verdict, tone, _those(rows, verdict)) for verdict, tone in verdicts),
        rows=tuple(rows),
    )


def _those(rows: Sequence[Row], verdict: str) -> str:
    some = [row for row in rows if row.verdict == verdict]
    if len(some) == len(rows):
        return f"all {len(rows)}"
    return ", ".join(row.what if verdict == WITHIN else f"{row.what} {row.more.value}" for row in some)


def _moved(move: MovedChange) -> Row:
    """To move farther is neither good nor bad: it depends on what somebody wants to see."""
    verdict, tone = _verdict(move.more, ("farther", ""), ("less far", ""))
    return Row(
        what=move.change,
        asked=None,
        before=_cell(move.before, ".2f"),
        after=_cell(move.after, ".2f"),
        more=_cell(move.more, "+.2f"),
        verdict=verdict,
        tone=tone,
        marks=(_mark(move.before, FARTHEST), _mark(move.after, FARTHEST)),
        dashed=_place(1.0, FARTHEST),
    )


def _verdict(more: Estimate, up: tuple[str, str], down: tuple[str, str]) -> tuple[str, str]:
    if not more.beyond_chance:
        return WITHIN, "hollow"
    return up if more.value > 0 else down


def _near(behaviour: Difference) -> Iterable[Near]:
    every = behaviour.neighbours
    whole = ("all", every.stayed, every.same_before.value, every.same_after.value)
    each = [(one.subject, one.stayed, one.same_before, one.same_after) for one in every.subjects]
    for what, stayed, before, after in (whole, *each):
        cell = _cell(stayed, ".0f", 100.0)
        yield Near(what, cell, _mark(stayed, 1.0), f"{100.0 * before:.0f}", f"{100.0 * after:.0f}")


def _charged(each: MemberSpent) -> Charged:
    spent = tuple(_epsilons(one) for one in (each.before, each.after, each.together))
    return Charged(each.name, one_in(each.delta), spent)


def _epsilons(spent: Spent | None) -> tuple[str, str] | None:
    if spent is None:
        return None
    alone = "" if spent.alone == spent.epsilon else epsilon_words(spent.alone)
    return epsilon_words(spent.epsilon), alone


def _figures(found: ReleaseDifference) -> Iterable[Figure]:
    sides = (found.before, found.after)
    for name in dict.fromkeys(name for side in sides for name in side.sizes_bytes):
        sizes = [side.sizes_bytes.get(name) for side in sides]
        yield _figure(name, sizes, [None if count is None else size(count) for count in sizes], True)
    rates = [{(speed.program, speed.batch): speed.records_per_s for speed in side.speed} for side in sides]
    for program, batch in dict.fromkeys(key for rate in rates for key in rate):
        numbers = [rate.get((program, batch)) for rate in rates]
        shown = [None if rate is None else f"{rate:,.0f} records/s" for rate in numbers]
        one_machine = len(_machines(found)) == 1
        yield _figure(f"{program}, batch {batch}", numbers, shown, one_machine)


def _figure(
    what: str, numbers: Sequence[float | None], shown: Sequence[str | None], comparable: bool
) -> Figure:
    before, after = numbers
    times = f"{after / before:.2f} ×" if comparable and before and after is not None else "–"
    return Figure(what, shown[0] or "–", shown[1] or "–", times)


def _machines(found: ReleaseDifference) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s.measured_on for s in (found.before, found.after) if s.measured_on))


def _cell(estimate: Estimate, form: str, scale: float = 1.0) -> Cell:
    value, low, high = (format(scale * x, form) for x in (estimate.value, estimate.low, estimate.high))
    return Cell(value, f"{low} to {high}")


def _mark(estimate: Estimate, most: float) -> Mark:
    return Mark(*(_place(x, most) for x in (estimate.value, estimate.low, estimate.high)))


def _place(value: float, most: float) -> str:
    return f"{EDGE + min(max(value / most, 0.0), 1.0) * (WIDTH - 2 * EDGE):.1f}"
