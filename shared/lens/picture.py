"""Lens profiles as one picture: a column of bars for each extractor, to be chosen from by looking.

A self-contained SVG: no script, no font of its own, readable on light and dark and by a screen reader. It draws
its own paper, because a page's ground and the reader's colour scheme need not agree where it is shown as <img>.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape

from shared.domain.errors import Invalid
from shared.lens.profile_shape import LensProfile, Movement, Probe
from shared.lens.words import describe

MOST_PROFILES = 3
FARTHEST = 1.5
"""Distances beyond are cut off at the edge, with an arrow; the number beside says how far."""

_ROW, _BAR = 26, 12
_MARGIN, _LABELS, _GAP, _NUMBER = 24, 150, 28, 54
_BAR_WIDTHS = {1: 360, 2: 220, 3: 168}
"""By how many profiles stand beside each other."""
_HEAD, _GROUP = 76, 58
_LETTER = 9.5
"""Width of a letter of a name in the widest of the fonts; pixels. East Asian ones take two."""

_MOVED: Mapping[str, str] = {
    "colour-shift": "colours shift",
    "brightness": "light dims",
    "blur": "picture is blurred",
    "texture-swap": "texture is swapped",
    "crop": "picture is cropped",
    "rotation": "picture is turned",
    "layout-shuffle": "layout is shuffled",
}
_STYLE = """
  svg { --ink: #17202b; --soft: #526070; --line: #d5dbe2; --paper: #ffffff; --accent: #0b5cad;
        font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e4e9ef; --soft: #9aa7b5; --line: #313b47; --paper: #19212a; --accent: #6cb2ff; }
  }
  text { fill: var(--ink); font-size: 13px; }
  .name { font-size: 15px; font-weight: 620; unicode-bidi: isolate; }
  .group { font-size: 15px; font-weight: 620; }
  .soft { fill: var(--soft); font-size: 12px; }
  .number { font-variant-numeric: tabular-nums; text-anchor: end; }
  .middle { text-anchor: middle; }
  .paper { fill: var(--paper); stroke: var(--line); }
  .grid { stroke: var(--line); }
  .mark { stroke: var(--soft); stroke-dasharray: 3 3; }
  .rule { stroke: var(--line); }
  .bar { fill: var(--accent); }
  .chance { fill: var(--line); }
  .halo { stroke: var(--paper); stroke-width: 5; fill: none; }
  .interval { stroke: var(--ink); stroke-width: 2; fill: none; }
"""


def draw(profiles: Sequence[tuple[str, LensProfile]]) -> str:
    """One SVG of one to three named profiles side by side. Raises Invalid for none or more.

    Names may hold anything; what is no printable character is left out.
    """
    if not 1 <= len(profiles) <= MOST_PROFILES:
        raise Invalid(
            f"A lens picture shows 1 to {MOST_PROFILES} extractors, found {len(profiles)}. Nothing was drawn. "
            "Choose fewer, or draw several pictures."
        )
    shown = [("".join(c for c in name if c.isprintable()), profile) for name, profile in profiles]
    first, bars = shown[0][1], _BAR_WIDTHS[len(shown)]
    moves_top = _HEAD + _GROUP
    tells_top = moves_top + _ROW * len(first.moves) + _GROUP + 14
    bottom = tells_top + _ROW * len(first.tells)
    width = 2 * _MARGIN + _LABELS + len(shown) * (bars + _NUMBER) + (len(shown) - 1) * _GAP
    parts = [_labels(first, moves_top, tells_top, width)]
    for k, (name, profile) in enumerate(shown):
        left = _MARGIN + _LABELS + k * (bars + _NUMBER + _GAP)
        parts.append(_column(name, profile, left, bars, (moves_top, tells_top)))
    parts.append(_text(_MARGIN, bottom + 34, _footnote(shown), "soft"))
    return _svg(shown, width, bottom + 54, parts)


def _svg(shown: Sequence[tuple[str, LensProfile]], width: int, height: int, parts: Sequence[str]) -> str:
    names = escape(", ".join(name for name, _ in shown))
    told = escape(" ".join(_told(name, profile) for name, profile in shown))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-labelledby="title desc">\n'
        f'<title id="title">What this lens sees: {names}</title>\n<desc id="desc">{told}</desc>\n'
        f'<style>{_STYLE}</style>\n<rect class="paper" x="0.5" y="0.5" width="{width - 1}" '
        f'height="{height - 1}" rx="6"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _told(name: str, profile: LensProfile) -> str:
    """Everything that the picture shows, in words."""
    moves = ", ".join(f"{_MOVED[m.change]} {m.distance:.2f}" for m in profile.moves)
    tells = ", ".join(
        f"{p.question} {p.accuracy * 100:.0f} % (chance {p.chance * 100:.0f} %)" for p in profile.tells
    )
    return f"{name}: {describe(profile)} Moves when: {moves}. Can tell: {tells}."


def _labels(first: LensProfile, moves_top: int, tells_top: int, width: int) -> str:
    lines = [
        _text(_MARGIN, moves_top - 32, "Moves when…", "group"),
        _text(_MARGIN, moves_top - 14, "1 = another photo", "soft"),
        _text(_MARGIN, tells_top - 32, "Can tell…", "group"),
        _text(_MARGIN, tells_top - 14, "share told right", "soft"),
        _rule(moves_top - _GROUP, width),
        _rule(tells_top - _GROUP, width),
    ]
    for top, words in (
        (moves_top, [_MOVED[move.change] for move in first.moves]),
        (tells_top, [probe.question for probe in first.tells]),
    ):
        lines += [_text(_MARGIN, top + _ROW * k + 17, word) for k, word in enumerate(words)]
    return "\n".join(lines)


def _column(name: str, profile: LensProfile, left: int, bars: int, tops: tuple[int, int]) -> str:
    """One extractor: its name, what it takes and gives, and its bars."""
    short = _shortened(name, int((bars + _NUMBER) / _LETTER))
    colours = "grey" if profile.channels == 1 else "colour"
    size = f"{profile.width} × {profile.height} {colours} → {profile.embedding_dim:,} numbers"
    moves_top, tells_top = tops
    lines = [
        _text(left, 36, short, "name", name),
        _text(left, 56, size, "soft"),
        _grid(left, moves_top, len(profile.moves), [(x, f"{x:g}", x / FARTHEST * bars) for x in (0, 0.5, 1)]),
        _grid(left, tells_top, len(profile.tells), [(x, f"{x * 100:g} %", x * bars) for x in (0, 0.5, 1)]),
    ]
    lines += [_movement(move, left, moves_top + _ROW * k, bars) for k, move in enumerate(profile.moves)]
    lines += [_probe(probe, left, tells_top + _ROW * k, bars) for k, probe in enumerate(profile.tells)]
    return "\n".join(lines)


def _shortened(name: str, most: int) -> str:
    ends = list(itertools.accumulate(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in name))
    if not ends or ends[-1] <= most:
        return name
    return name[: sum(end < most for end in ends)] + "…"


def _grid(left: int, top: int, rows: int, ticks: Sequence[tuple[float, str, float]]) -> str:
    lines = []
    for value, word, at in ticks:
        look = "mark" if value == 1 else "grid"
        lines.append(_line(left + at, top - 6, left + at, top + _ROW * rows, look))
        lines.append(_text(left + at, top - 14, word, "soft middle"))
    return "\n".join(lines)


def _movement(move: Movement, left: int, top: int, bars: int) -> str:
    ends = [left + min(max(x, 0.0), FARTHEST) / FARTHEST * bars for x in (move.distance, move.low, move.high)]
    arrow = _beyond(left + bars, top) if move.distance > FARTHEST else _interval(ends[1], ends[2], top)
    number = _text(left + bars + _NUMBER, top + 17, f"{move.distance:.2f}", "number")
    return _rect(left, ends[0], top, "bar") + arrow + number


def _probe(probe: Probe, left: int, top: int, bars: int) -> str:
    start, end, low, high = (left + x * bars for x in (probe.chance, probe.accuracy, probe.low, probe.high))
    number = _text(left + bars + _NUMBER, top + 17, f"{probe.accuracy * 100:.0f} %", "number")
    return (
        _rect(left, start, top, "chance") + _rect(start, end, top, "bar") + _interval(low, high, top) + number
    )


def _footnote(shown: Sequence[tuple[str, LensProfile]]) -> str:
    digests = dict.fromkeys(profile.probe_set for _, profile in shown)
    if len(digests) > 1:
        return "Measured with different probe sets: not to be compared. Measure them again."
    return f"Thin lines: 95 % intervals. Grey: chance. Probe set {next(iter(digests))[7:19]}…"


def _rect(start: float, end: float, top: int, look: str) -> str:
    if end <= start:
        return ""
    y = top + (_ROW - _BAR) / 2
    return f'<rect class="{look}" x="{start:.1f}" y="{y:g}" width="{end - start:.1f}" height="{_BAR}"/>'


def _interval(low: float, high: float, top: int) -> str:
    middle = top + _ROW / 2
    shape = f"M{low:.1f} {middle:g}H{high:.1f}"
    return f'<path class="halo" d="{shape}"/><path class="interval" d="{shape}"/>'


def _beyond(right: float, top: int) -> str:
    middle = top + _ROW / 2
    return f'<path class="bar" d="M{right:.1f} {middle - 9:g}l9 9l-9 9z"/>'


def _rule(y: float, width: int) -> str:
    return _line(_MARGIN, y, width - _MARGIN, y, "rule")


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    return f'<path class="{look}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def _text(x: float, y: float, words: str, look: str = "", whole: str = "") -> str:
    title = f"<title>{escape(whole)}</title>" if whole and whole != words else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{look}">{title}{escape(words)}</text>'
