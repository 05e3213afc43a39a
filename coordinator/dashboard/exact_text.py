"""Lines written for a terminal, as pages show them: what is exact there reads short, and stays within reach."""

from __future__ import annotations

import re
from dataclasses import dataclass

from coordinator.dashboard.words import moment, one_in, short, size

_EXACT = re.compile(
    r"(?P<digest>\b(?:sha256:)?[0-9a-f]{64}\b)"
    r"|(?P<moment>\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"
    r"|(?P<size>\b\d{1,15} bytes\b)"
    r"|(?P<delta>(?<=δ )\d(?:\.\d+)?e-\d+)"
)


@dataclass(frozen=True)
class Piece:
    """A stretch of a line; `kind` is "digest", "moment", "size" or "delta" where `exact` is another text."""

    text: str
    kind: str = ""
    exact: str = ""


def pieces(line: str) -> tuple[Piece, ...]:
    """The line in order; its exact texts together with what is plain are the line again."""
    made, place = list[Piece](), 0
    for found in _EXACT.finditer(line):
        kind = str(found.lastgroup)
        try:
            shown = _shown(kind, found[0])
        except ValueError:  # it looks like a moment and is none
            continue
        made += [Piece(line[place : found.start()]), Piece(shown, kind, found[0])]
        place = found.end()
    return tuple(piece for piece in (*made, Piece(line[place:])) if piece.text)


def _shown(kind: str, exact: str) -> str:
    if kind == "digest":
        return short(exact)
    if kind == "moment":
        return moment(exact)
    return size(float(exact.split()[0])) if kind == "size" else one_in(float(exact))
