"""Which state may follow which: one check for every table of legal moves."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar

from shared.domain.errors import IllegalMove

State = TypeVar("State", bound=enum.Enum)


def check_move(
    what: str, table: Mapping[State, frozenset[State]], current: State, wanted: State, over: str
) -> None:
    """Raise IllegalMove unless `table` lets `what` go from `current` to `wanted`; `over` is said where nothing may."""
    moves = table[current]
    if wanted in moves:
        return
    allowed = ", ".join(sorted(move.value for move in moves)) or over
    step = "Choose one of those." if moves else "Leave it as it is."
    raise IllegalMove(
        f"The {what} is {current.value}; from there it can become {allowed}, not {wanted.value}. Nothing was changed. "
        f"{step}"
    )
