"""Charts as numbers for the template `runs/chart.html`: lines, bands and axes of one picture, and its table.

Everything is server-rendered SVG in the coordinates of its view box; classes carry the look. A chart never shows
more points than it has room for, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

WIDTH, HEIGHT = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 22, 40
MOST_POINTS = 200
MOST_DOTS = 40
"""Up to so many points are marked one by one."""

Shown = TypeVar("Shown")
Point = tuple[float, float]
Edge = tuple[float, float, float]


@dataclass(frozen=True)
class Line:
    """One series; `look` are classes of the style sheet."""

    name: str
    points: Sequence[Point]
    look: str = ""


@dataclass(frozen=True)
class Band:
    """What lies between two edges: (x, lower, upper)."""

    name: str
    edges: Sequence[Edge]
    look: str = ""


@dataclass(frozen=True)
class Table:
    """The numbers behind a chart."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Axes:
    """What is shown: ranges in the data's own units, and the words beside them."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    y_label: str
    y_percent: bool = False


@dataclass(frozen=True)
class Chart:
    """One picture, ready for its template."""

    name: str
    title: str
    description: str
    axes: Axes
    lines: tuple[tuple[str, str], ...]
    """(path, classes)."""
    bands: tuple[tuple[str, str], ...]
    dots: tuple[tuple[str, str, str], ...]
    """(x, y, classes)."""
    x_ticks: tuple[tuple[str, str], ...]
    """(place, words)."""
    y_ticks: tuple[tuple[str, str], ...]
    legend: tuple[tuple[str, str], ...]
    """(words, classes)."""
    table: Table
    thinned: int
    """Of so many points in a row one is drawn; 1 draws all."""
    remark: str
    """What is not in the picture, if anything."""

    width, height, left, right, top, bottom = WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM


def draw(
    name: str,
    title: str,
    description: str,
    axes: Axes,
    lines: Sequence[Line],
    bands: Sequence[Band],
    table: Table,
    remark: str = "",
) -> Chart:
    """Lay it out."""
    most = max([*(len(line.points) for line in lines), *(len(band.edges) for band in bands)], default=0)
    step = max(1, math.ceil(most / MOST_POINTS))
    place = _Place(axes)
    dotted = [line for line in lines if len(line.points) <= MOST_DOTS and "plain" not in line.look.split()]
    return Chart(
        name=name,
        title=title,
        description=description,
        axes=axes,
        lines=tuple(
            (place.path(thin(line.points, step)), line.look) for line in lines if len(line.points) > 1
        ),
        bands=tuple((place.area(thin(band.edges, step)), band.look) for band in bands if band.edges),
        dots=tuple((place.x(x), place.y(y), line.look) for line in dotted for x, y in line.points),
        x_ticks=tuple((place.x(x), f"{x:g}") for x in ticks(*axes.x, most=5, whole=True)),
        y_ticks=tuple((place.y(y), _tick_words(y, axes)) for y in ticks(*axes.y, most=5)),
        legend=tuple((line.name, f"line {line.look}") for line in lines if line.name)
        + tuple((band.name, f"band {band.look}") for band in bands if band.name),
        table=table,
        thinned=step,
        remark=remark,
    )


def thin(points: Sequence[Shown], step: int) -> Sequence[Shown]:
    """Every `step`-th point, and always the last."""
    kept = list(points[::step])
    return kept if not points or (len(points) - 1) % step == 0 else [*kept, points[-1]]


def ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, at most about `most` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1.0, 2.0, 5.0, 10.0) if power * m >= raw - 1e-12)
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _tick_words(value: float, axes: Axes) -> str:
    return f"{value * 100.0:g} %" if axes.y_percent else f"{value:g}"


class _Place:
    """From the data's units to the view box."""

    def __init__(self, axes: Axes) -> None:
        (self._x0, x1), (self._y0, y1) = axes.x, axes.y
        self._x = (WIDTH - RIGHT - LEFT) / max(x1 - self._x0, 1e-12)
        self._y = (HEIGHT - BOTTOM - TOP) / max(y1 - self._y0, 1e-12)
        self._top = y1

    def x(self, value: float) -> str:
        return f"{LEFT + (value - self._x0) * self._x:.4g}"

    def y(self, value: float) -> str:
        inside = min(max(value, self._y0), self._top)
        return f"{HEIGHT - BOTTOM - (inside - self._y0) * self._y:.4g}"

    def path(self, points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{self.x(x)} {self.y(y)}" for x, y in points)

    def area(self, edges: Sequence[Edge]) -> str:
        if len(edges) == 1:  # one round by itself is as wide as a narrow bar
            (x, low, high), half = edges[0], 6.0 / self._x
            edges = [(max(self._x0, x - half), low, high), (x + half, low, high)]
        there = [(x, high) for x, _, high in edges]
        back = [(x, low) for x, low, _ in reversed(edges)]
        return self.path([*there, *back]) + "Z"
